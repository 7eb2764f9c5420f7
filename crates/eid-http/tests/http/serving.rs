//! Listening, ending, and the other protocol on the same port.

use bytes::Bytes;
use eid_http::{HttpConfig, HttpTransport};
use eid_transport::{DialError, ListenError, Received, Transport};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::{link, listening, run, socket};

#[test]
fn a_busy_port_is_named_in_the_error() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let taken = socket(&server).to_string();
        let error = HttpTransport::new(HttpConfig::listening(&taken)).listen().await.expect_err("taken");
        assert!(matches!(&error, ListenError::InUse { address, .. } if *address == taken), "{error:?}");
        assert!(error.is_transient());
        let error = HttpTransport::new(HttpConfig::listening("no-such-host.invalid:0")).listen().await;
        assert!(matches!(error, Err(ListenError::Unusable { .. })), "{error:?}");
        assert!(matches!(
            HttpTransport::new(HttpConfig::default()).listen().await,
            Err(ListenError::NoAddress)
        ));
    });
}

#[test]
fn a_port_is_free_again_after_shutdown() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let client = HttpTransport::new(HttpConfig::default());
        let linked = link(&client, &server, &server.addresses()[0]).await;
        let port = socket(&server).to_string();
        server.shutdown().await;
        drop(linked);
        let next = HttpTransport::new(HttpConfig::listening(&port));
        next.listen().await.expect("the port is free");
        assert_eq!(next.addresses()[0].as_str(), format!("http://{port}"));
    });
}

#[test]
fn shutdown_ends_an_answer_that_is_under_way() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let client = HttpTransport::new(HttpConfig::default());
        let mut linked = link(&client, &server, &server.addresses()[0]).await;
        linked.opener.end_turn().await.expect("open");
        assert_eq!(linked.accepter.recv().await.expect("open"), Received::EndOfTurn);
        let (seen, ()) = tokio::join!(linked.opener.recv(), server.shutdown());
        assert_eq!(seen.expect("no error"), Received::Closed);
        assert!(linked.accepter.send(Bytes::new()).await.is_err());
    });
}

#[test]
fn a_listener_on_every_interface_reports_an_address_that_can_be_dialled() {
    run(async {
        let server = HttpTransport::new(HttpConfig::listening("0.0.0.0:0"));
        server.listen().await.expect("a port");
        let address = server.addresses()[0].clone();
        assert!(!address.as_str().contains("//0.0.0.0"), "{address}");
        let client = HttpTransport::new(HttpConfig::default());
        client.dial(&address).await.expect("this machine reaches itself");
    });
}

#[test]
fn advertised_addresses_are_reported_while_listening() {
    run(async {
        let outside: eid_transport::Address = "http://db.example:80/eid".parse().expect("an address");
        let server = HttpTransport::new(HttpConfig {
            advertise: vec![outside.clone()],
            ..HttpConfig::listening("127.0.0.1:0")
        });
        assert!(server.addresses().is_empty());
        server.listen().await.expect("a port");
        assert_eq!(server.addresses(), [outside]);
    });
}

#[test]
fn http_2_without_tls_is_served_on_the_same_port() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let http2: Client<_, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let uri = format!("{}/api/v0/info", server.addresses()[0]).parse().expect("a uri");
        let response = http2.get(uri).await.expect("an answer");
        assert_eq!(response.version(), http::Version::HTTP_2);
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "{}");
    });
}

#[test]
fn whoever_answers_and_is_no_peer_is_told_from_nobody() {
    run(async {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "220 mail ready\r\n"] {
            let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = format!("http://{}", other.local_addr().expect("bound")).parse();
            let answering = tokio::spawn(async move {
                let (mut stream, _) = other.accept().await.expect("a connection");
                let mut request = [0; 64];
                stream.read_exact(&mut request).await.expect("a request");
                stream.write_all(answer.as_bytes()).await.expect("open");
                stream
            });
            let client = HttpTransport::new(HttpConfig::default());
            let error = client.dial(&address.expect("an address")).await.expect_err("no peer");
            assert!(matches!(error, DialError::NotAPeer { .. }), "{error:?}");
            assert!(!error.is_transient());
            drop(answering.await);
        }
    });
}
