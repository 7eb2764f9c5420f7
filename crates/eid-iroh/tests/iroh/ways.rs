//! Which way a connection goes, whom it meets, and that nothing is left behind.

use std::net::SocketAddr;
use std::time::Duration;

use eid_iroh::{Bounds, IrohConfig, IrohTransport, Relay, Route};
use eid_transport::streams::Room;
use eid_transport::{DialError, LinkError, ListenError, Received, Transport};

use crate::network::{at, device, key, link, relay, relayed, run, to_and_fro};

/// A transport that listens.
pub(crate) async fn listening(config: IrohConfig) -> IrohTransport {
    let server = IrohTransport::new(config);
    server.listen().await.expect("it can listen");
    server
}

/// The socket of a transport that listens at one.
pub(crate) fn socket(server: &IrohTransport) -> SocketAddr {
    let address = server.addresses().remove(0);
    address.as_str().split("ip=").nth(1).expect("a socket").parse().expect("a socket")
}

#[test]
fn where_nothing_else_gets_through_a_link_goes_over_the_relay() {
    run(async {
        let pair = relayed().await;
        let address = pair.server.addresses().remove(0);
        assert!(address.as_str().contains("?relay=http://127.0.0.1:"), "{address}");
        assert!(!address.as_str().contains("ip="), "{address}");
        let mut linked = link(&pair.client, &pair.server, &address).await;
        to_and_fro(&mut linked, "hello").await;
        let route = pair.client.route(&key(2)).expect("there is a connection");
        assert!(matches!(&route, Route::Relay(url) if address.as_str().contains(url)), "{route:?}");
        assert_eq!((linked.near.proven(), linked.far.proven()), (Some(key(2)), Some(key(1))));
        assert_eq!(linked.near.binding(), linked.far.binding());
    });
}

#[test]
fn a_link_that_began_over_the_relay_goes_on_straight_and_stays_when_the_relay_goes() {
    run(async {
        let (running, custom) = relay().await;
        let server = listening(device(2, &custom)).await;
        let client = IrohTransport::new(device(1, &custom));
        // The address says of no straight way.
        let mut linked = link(&client, &server, &at(2, &custom)).await;
        to_and_fro(&mut linked, "hello").await;
        let mut route = client.route_after(&key(2), None).await.expect("there is a connection");
        while !matches!(route, Route::Direct(_)) {
            route = client.route_after(&key(2), Some(&route)).await.expect("there is a connection");
        }
        to_and_fro(&mut linked, "straight").await;
        running.shutdown().await.expect("it stops");
        to_and_fro(&mut linked, "without a relay").await;
        assert!(matches!(client.route(&key(2)), Some(Route::Direct(_))));
    });
}

#[test]
fn where_the_straight_way_is_blocked_the_relay_is_taken() {
    run(async {
        let (_running, custom) = relay().await;
        let server = listening(device(2, &custom)).await;
        // Nothing is sent straight by a client that has no socket, whatever the address says.
        let client = IrohTransport::new(IrohConfig { relayed_only: true, ..device(1, &custom) });
        let address = server.addresses().remove(0);
        assert!(address.as_str().contains("&ip=127.0.0.1:"), "{address}");
        let mut linked = link(&client, &server, &address).await;
        to_and_fro(&mut linked, "hello").await;
        assert!(matches!(client.route(&key(2)), Some(Route::Relay(_))));
    });
}

#[test]
fn without_relays_devices_meet_at_their_sockets() {
    run(async {
        let server = listening(device(2, &Relay::Off)).await;
        let client = IrohTransport::new(device(1, &Relay::Off));
        let address = server.addresses().remove(0);
        assert!(!address.as_str().contains("relay="), "{address}");
        let mut linked = link(&client, &server, &address).await;
        to_and_fro(&mut linked, "hello").await;
        assert!(matches!(client.route(&key(2)), Some(Route::Direct(_))));
    });
}

#[test]
fn a_device_without_a_relay_of_its_own_dials_over_that_of_another() {
    run(async {
        let pair = relayed().await;
        let dialling = IrohConfig { relayed_only: true, ..device(3, &Relay::Custom(Vec::new())) };
        let client = IrohTransport::new(dialling);
        let mut linked = link(&client, &pair.server, &pair.server.addresses()[0]).await;
        to_and_fro(&mut linked, "hello").await;
    });
}

#[test]
fn a_relay_that_comes_late_is_waited_for_no_longer_than_it_may_take() {
    run(async {
        let nowhere = Relay::Custom(vec!["http://127.0.0.1:1/".parse().expect("a URL")]);
        let bounds = Bounds { online: Duration::from_millis(200), ..device(2, &nowhere).bounds };
        let server = listening(IrohConfig { bounds, ..device(2, &nowhere) }).await;
        let address = server.addresses().remove(0);
        let client = IrohTransport::new(device(1, &Relay::Off));
        let mut linked = link(&client, &server, &address).await;
        to_and_fro(&mut linked, "hello").await;
    });
}

#[test]
fn nobody_is_met_under_a_key_that_is_not_theirs() {
    run(async {
        let pair = relayed().await;
        let address = pair.server.addresses().remove(0);
        let error = pair.client.dial_expecting(&address, key(3)).await.expect_err("it names another");
        let DialError::WrongServer { expected, found, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*expected, *found), (key(3), key(2)));
        // The socket of one device, under the key of another.
        let server = listening(device(4, &Relay::Off)).await;
        let client = IrohTransport::new(device(1, &Relay::Off));
        let real = server.addresses().remove(0).to_string();
        let wrong = real.replace(&key(4).to_string(), &key(5).to_string()).parse().expect("an address");
        let error = client.dial(&wrong).await.expect_err("somebody else is there");
        let DialError::Unreachable { cause, .. } = &error else { panic!("{error:?}") };
        assert_eq!(cause.to_string(), "whoever is there holds another key");
    });
}

#[test]
fn a_device_that_does_not_listen_is_not_met() {
    run(async {
        let (_running, custom) = relay().await;
        let silent = IrohTransport::new(device(2, &custom));
        let server = listening(device(3, &custom)).await;
        // It has an endpoint, as it has dialled, and its relay knows it.
        let _linked = link(&silent, &server, &server.addresses()[0]).await;
        assert!(silent.addresses().is_empty());
        let error = server.dial(&at(2, &custom)).await.expect_err("it does not listen");
        assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
    });
}

#[test]
fn the_oldest_connection_of_a_key_makes_room_for_another() {
    run(async {
        let tight = device(2, &Relay::Off);
        let room = Room { connections_per_key_max: 1, ..Room::default() };
        let bounds = Bounds { room, ..tight.bounds.clone() };
        let server = listening(IrohConfig { bounds, ..tight }).await;
        let client = IrohTransport::new(device(1, &Relay::Off));
        let address = server.addresses().remove(0);
        let first = link(&client, &server, &address).await;
        let mut second = link(&client, &server, &address).await;
        assert!(first.near.accept().await.is_none());
        let error = first.near.open().await.expect_err("it was closed");
        assert!(matches!(error, LinkError::Cut(_)) && error.is_transient(), "{error:?}");
        to_and_fro(&mut second, "hello").await;
    });
}

#[test]
fn a_turn_that_was_sent_before_its_connection_was_closed_arrives() {
    run(async {
        let pair = relayed().await;
        let mut linked = link(&pair.client, &pair.server, &pair.server.addresses()[0]).await;
        linked.opener.end_turn().await.expect("open");
        assert_eq!(linked.accepter.recv().await.expect("a turn"), Received::EndOfTurn);
        linked.accepter.send("last".into()).await.expect("open");
        linked.accepter.end_turn().await.expect("open");
        drop(linked.accepter);
        linked.far.close().await;
        assert_eq!(linked.opener.recv().await.expect("it was sent"), Received::Frame("last".into()));
        assert_eq!(linked.opener.recv().await.expect("it was sent"), Received::EndOfTurn);
    });
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    run(async {
        let server = listening(device(2, &Relay::Off)).await;
        let other = IrohTransport::new(IrohConfig { bind: Some(socket(&server)), ..device(3, &Relay::Off) });
        let error = other.listen().await.expect_err("the port is taken");
        assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");
    });
}

#[test]
fn a_shutdown_leaves_no_task_and_no_socket() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = listening(device(2, &Relay::Off)).await;
        let client = IrohTransport::new(device(1, &Relay::Off));
        let (address, port) = (server.addresses().remove(0), socket(&server));
        let linked = link(&client, &server, &address).await;
        server.shutdown().await;
        client.shutdown().await;
        drop((linked, client, server));
        let metrics = tokio::runtime::Handle::current().metrics();
        let ended = async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("every task ends");
        // The socket goes with the last handle of it, which a thread of iroh may hold for a moment.
        let free = async {
            while std::net::UdpSocket::bind(port).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), free).await.expect("the port is free again");
    });
}
