//! Who meets whom, how much room there is, and that nothing is left behind.

use std::time::Duration;

use bytes::Bytes;
use eid_quic::{Bounds, QuicConfig, QuicTransport};
use eid_transport::streams::Room;
use eid_transport::testing::both;
use eid_transport::{DialError, LinkError, ListenError, Received, Transport};

use crate::network::{bounds, client, key, link, listening, pair, run, socket};

#[test]
fn both_sides_have_proven_their_keys_when_a_connection_is_there() {
    run(async {
        let (server, client) = (listening(2, bounds()).await, client(1));
        let linked = link(&client, &server).await;
        assert_eq!(linked.near.proven(), Some(key(2).public()));
        assert_eq!(linked.far.proven(), Some(key(1).public()));
    });
}

#[test]
fn a_server_with_another_key_is_left_before_the_client_shows_its_own() {
    run(async {
        let (server, client) = (listening(2, bounds()).await, client(1));
        let address = &server.addresses()[0];
        let error =
            client.dial_expecting(address, key(3).public()).await.expect_err("somebody else is there");
        let DialError::WrongServer { expected, found, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*expected, *found), (key(3).public(), key(2).public()));
        assert!(!error.is_transient());
        // The next one that the server sees is the one that meant it.
        let near = client.dial_expecting(address, key(2).public()).await.expect("this one is meant");
        near.open().await.expect("open").end_turn().await.expect("open");
        let far = server.accept().await.expect("somebody has dialled");
        assert_eq!(far.binding(), near.binding());
    });
}

#[test]
fn a_name_is_dialled_at_whichever_of_its_addresses_answers() {
    run(async {
        let (server, client) = (listening(2, bounds()).await, client(1));
        let address = format!("quic:localhost:{}", socket(&server).port()).parse().expect("an address");
        client.dial_expecting(&address, key(2).public()).await.expect("the name has this address");
        let nowhere = "quic:nowhere.invalid:7".parse().expect("an address");
        let error = client.dial(&nowhere).await.expect_err("nobody has this name");
        assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
    });
}

#[test]
fn a_port_that_no_program_has_is_known_at_once() {
    run(async {
        // More than the test may take: nothing but the answer of the host ends the dial before.
        let patient = Bounds { handshake: Duration::from_secs(600), ..bounds() };
        let client = QuicTransport::new(QuicConfig { bounds: patient, ..QuicConfig::new(key(1)) });
        let nobody = "quic:127.0.0.1:1".parse().expect("an address");
        let error = client.dial(&nobody).await.expect_err("nobody is there");
        let DialError::Unreachable { cause, .. } = &error else { panic!("{error:?}") };
        let said = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        assert_eq!(said, Some(std::io::ErrorKind::ConnectionRefused), "{error:?}");
    });
}

#[test]
fn a_turn_that_was_sent_before_its_connection_was_closed_arrives() {
    run(async {
        let (server, client) = (listening(2, bounds()).await, client(1));
        let mut linked = link(&client, &server).await;
        linked.opener.end_turn().await.expect("open");
        assert_eq!(linked.accepter.recv().await.expect("a turn"), Received::EndOfTurn);
        let last = Bytes::from(vec![7; 40_000]);
        linked.accepter.send(last.clone()).await.expect("open");
        linked.accepter.end_turn().await.expect("open");
        drop(linked.accepter);
        linked.far.close().await;
        assert_eq!(linked.opener.recv().await.expect("it was sent"), Received::Frame(last));
        assert_eq!(linked.opener.recv().await.expect("it was sent"), Received::EndOfTurn);
    });
}

#[test]
fn links_that_a_server_opens_work_too() {
    run(async {
        let (server, client) = (listening(2, bounds()).await, client(1));
        let linked = link(&client, &server).await;
        let mut opener = linked.far.open().await.expect("a server may begin");
        opener.send(Bytes::from_static(b"news")).await.expect("open");
        let mut accepter = linked.near.accept().await.expect("a link was opened");
        assert_eq!(accepter.recv().await.expect("a frame"), Received::Frame(Bytes::from_static(b"news")));
    });
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    run(async {
        let room = Room { counts_loopback: true, connections_per_address_max: 2, ..Room::default() };
        let tight = Bounds { room, ..bounds() };
        let (server, address_of) = (listening(2, tight).await, |server: &QuicTransport| server.addresses());
        let (one, two, three) = (client(1), client(3), client(4));
        let first = link(&one, &server).await;
        let _second = link(&two, &server).await;
        let error = three.dial(&address_of(&server)[0]).await.expect_err("two are there already");
        assert!(matches!(error, DialError::Busy(_)), "{error:?}");
        assert!(error.is_transient());
        first.near.close().await;
        assert!(first.far.accept().await.is_none());
        drop(first);
        link(&three, &server).await;
    });
}

#[test]
fn the_oldest_connection_of_a_key_makes_room_for_another() {
    run(async {
        let room = Room { connections_per_key_max: 2, ..Room::default() };
        let tight = Bounds { room, ..bounds() };
        let (server, client) = (listening(2, tight).await, client(1));
        let first = link(&client, &server).await;
        let mut second = link(&client, &server).await;
        let _third = link(&client, &server).await;
        assert!(first.near.accept().await.is_none());
        let error = first.near.open().await.expect_err("it was closed");
        assert!(matches!(error, LinkError::Cut(_)) && error.is_transient(), "{error:?}");
        second.opener.end_turn().await.expect("the second has stayed");
        assert_eq!(second.accepter.recv().await.expect("a turn"), Received::EndOfTurn);
    });
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    run(async {
        let server = listening(2, bounds()).await;
        let taken = socket(&server).to_string();
        let other = QuicTransport::new(QuicConfig::listening(key(3), &taken));
        assert!(matches!(other.listen().await, Err(ListenError::InUse { .. })));
        let nowhere = QuicTransport::new(QuicConfig::listening(key(3), "192.0.2.1:0"));
        assert!(matches!(nowhere.listen().await, Err(ListenError::Unusable { .. })));
        assert!(matches!(client(1).listen().await, Err(ListenError::NoAddress)));
    });
}

#[test]
fn a_shutdown_leaves_no_task_and_no_socket() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = listening(2, bounds()).await;
        let (dialler, port) = (client(1), socket(&server));
        let linked = link(&dialler, &server).await;
        server.shutdown().await;
        dialler.shutdown().await;
        drop((linked, dialler, server));
        let metrics = tokio::runtime::Handle::current().metrics();
        let ended = async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("every task ends");
        std::net::UdpSocket::bind(port).expect("the port is free again");
    });
}

#[test]
fn a_network_that_falls_silent_cuts_a_frame_in_its_middle() {
    run(async {
        let pair = pair().await;
        let address = format!("quic:{}", pair.wire.address).parse().expect("an address");
        let near = pair.client.dial(&address).await.expect("the server listens");
        let mut opener = near.open().await.expect("open");
        opener.send(Bytes::from_static(b"whole")).await.expect("open");
        let far = pair.server.accept().await.expect("dialled");
        let mut accepter = far.accept().await.expect("opened");
        assert_eq!(accepter.recv().await.expect("a frame"), Received::Frame(Bytes::from_static(b"whole")));
        pair.wire.fall_silent();
        let (sent, received) = both(opener.send(Bytes::from(vec![1; 1_000_000])), accepter.recv()).await;
        for error in [sent.expect_err("nobody takes it"), received.expect_err("the rest never comes")] {
            assert!(matches!(error, LinkError::Cut(_)) && error.is_transient(), "{error:?}");
        }
        assert!(opener.end_turn().await.is_err());
    });
}
