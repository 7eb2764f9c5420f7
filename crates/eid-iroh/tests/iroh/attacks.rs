//! What a peer that keeps no rules gets.

use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use eid_iroh::limits::UNPROVEN_WINDOW_BYTES;
use eid_iroh::{ALPN, Bounds, IrohConfig, IrohTransport, Relay};
use eid_transport::streams::Patience;
use eid_transport::{DialError, Transport};
use iroh::endpoint::{Connection, ConnectionError, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};

use crate::network::{device, key, run};
use crate::ways::{listening, socket};

async fn endpoint(alpn: &str) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr((Ipv4Addr::LOCALHOST, 0))
        .expect("a socket")
        .alpns(vec![alpn.into()])
        .bind()
        .await
        .expect("a port")
}

/// Dials the device with seed 2, for this protocol.
async fn dial(
    server: &IrohTransport,
    alpn: &str,
) -> (Endpoint, Result<Connection, iroh::endpoint::ConnectError>) {
    let endpoint = endpoint(alpn).await;
    let id = EndpointId::from_bytes(&key(2).0).expect("a key");
    let there = EndpointAddr::new(id).with_ip_addr(socket(server));
    let connection = endpoint.connect(there, alpn.as_bytes()).await;
    (endpoint, connection)
}

#[test]
fn a_client_of_another_protocol_is_turned_away() {
    run(async {
        let server = listening(device(2, &Relay::Off)).await;
        let (_endpoint, connection) = dial(&server, "eid/2").await;
        connection.expect_err("it speaks something else");
    });
}

#[test]
fn a_server_of_another_protocol_is_named_as_such() {
    run(async {
        let other = endpoint("eid/2").await;
        let socket = other.bound_sockets().remove(0);
        let id = eid_core::PublicKey(*other.id().as_bytes());
        let address = format!("iroh:{id}?ip={socket}").parse().expect("an address");
        let serving = tokio::spawn(async move {
            while let Some(incoming) = other.accept().await {
                drop(incoming.await);
            }
        });
        let client = IrohTransport::new(device(1, &Relay::Off));
        let error = client.dial(&address).await.expect_err("it speaks something else");
        let DialError::NotAPeer { cause, .. } = &error else { panic!("{error:?}") };
        assert!(cause.to_string().contains(ALPN), "{cause}");
        serving.abort();
    });
}

#[test]
fn a_connection_that_brings_nothing_is_closed() {
    run(async {
        let quick = device(2, &Relay::Off);
        let patience = Patience { first_byte: Duration::from_millis(200), ..Patience::default() };
        let bounds = Bounds { patience, ..quick.bounds.clone() };
        let server = listening(IrohConfig { bounds, ..quick }).await;
        let (_endpoint, connection) = dial(&server, ALPN).await;
        let error = connection.expect("any key is let in").closed().await;
        assert!(matches!(error, ConnectionError::ApplicationClosed(_)), "{error:?}");
    });
}

#[test]
fn a_stranger_may_send_little_before_it_is_read() {
    run(async {
        let server = listening(device(2, &Relay::Off)).await;
        let (_endpoint, connection) = dial(&server, ALPN).await;
        let connection = connection.expect("any key is let in");
        let (mut sink, _source) = connection.open_bi().await.expect("open");
        let mut bytes = 0;
        while let Some(written) = at_once(sink.write(&[7; 4096])).await {
            bytes += written.expect("open");
        }
        assert_eq!(bytes, UNPROVEN_WINDOW_BYTES as usize);
    });
}

/// What a future gives without waiting.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}
