//! What a peer that keeps no rules gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eid_core::SecretKey;
use eid_quic::{ALPN, Bounds, QuicTransport};
use eid_transport::limits::{FRAME_BYTES_MAX, OPENER_TURN_BYTES_MAX};
use eid_transport::streams::{Patience, Room};
use eid_transport::{Address, Connection, DialError, Link, LinkError, Received, Transport};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint, RecvStream, SendStream, TransportErrorCode};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::task::JoinHandle;

use crate::network::{bounds, client, listening, run, socket};

/// Believes everything.
#[derive(Debug)]
struct Gullible;

macro_rules! believes_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    believes_signatures!();
}

impl ClientCertVerifier for Gullible {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    believes_signatures!();
}

/// A key as TLS shows it, whose private half is that of another.
fn certified(shown: &SecretKey, held: &SecretKey) -> Arc<CertifiedKey> {
    let mut der = hex("302e020100300506032b657004220420");
    der.extend_from_slice(&*held.to_seed());
    let signing = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der)).expect("a key");
    let public = [&hex("302a300506032b6570032100")[..], &shown.public().0].concat();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], signing))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn seed(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

/// Dials with this key, if any, for this protocol.
async fn dial(
    to: SocketAddr,
    key: Option<Arc<CertifiedKey>>,
    alpn: &str,
) -> Result<(Endpoint, quinn::Connection), ConnectionError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut tls = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key))),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.into()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("suites")));
    let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("a socket")).expect("a port");
    let connection = endpoint.connect_with(config, to, "x.invalid").expect("a good config").await?;
    Ok((endpoint, connection))
}

/// A server that believes everything, shows one key, holds another, and speaks this protocol.
fn liar(shown: &SecretKey, held: &SecretKey, alpn: &str) -> (Address, JoinHandle<()>) {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(Arc::new(Gullible))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(shown, held))));
    tls.alpn_protocols = vec![alpn.into()];
    let crypto = Arc::new(QuicServerConfig::try_from(tls).expect("suites"));
    let config = quinn::ServerConfig::with_crypto(crypto);
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().expect("a socket")).expect("a port");
    let address = format!("quic:{}", endpoint.local_addr().expect("bound")).parse().expect("an address");
    let serving = async move {
        while let Some(incoming) = endpoint.accept().await {
            drop(incoming.await);
        }
    };
    (address, tokio::spawn(serving))
}

/// What the server says to a connection that it does not want.
async fn refusal(connection: Result<(Endpoint, quinn::Connection), ConnectionError>) -> ConnectionError {
    match connection {
        // A client is through before the server has seen its key.
        Ok((_endpoint, connection)) => connection.closed().await,
        Err(error) => error,
    }
}

fn alert(error: &ConnectionError) -> Option<u8> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    (0..=255).find(|alert| close.error_code == TransportErrorCode::crypto(*alert))
}

/// A stream of an attacker, and the link that the server takes it for.
struct Hostile {
    _server: Arc<QuicTransport>,
    _endpoint: Endpoint,
    connection: quinn::Connection,
    sink: SendStream,
    source: RecvStream,
    _far: Arc<dyn Connection>,
    link: Box<dyn Link>,
}

async fn hostile(bounds: Bounds) -> Hostile {
    let server = listening(2, bounds).await;
    let key = certified(&seed(1), &seed(1));
    let (endpoint, connection) = dial(socket(&server), Some(key), ALPN).await.expect("any key is let in");
    let (mut sink, source) = connection.open_bi().await.expect("open");
    // The first link, which brings nothing, so that another is trusted.
    sink.write_all(&u32::MAX.to_be_bytes()).await.expect("open");
    let far = server.accept().await.expect("dialled");
    let _first = far.accept().await.expect("opened");
    drop(source);
    let (mut sink, source) = connection.open_bi().await.expect("open");
    sink.write_all(&1_u32.to_be_bytes()).await.expect("open");
    sink.write_all(b"x").await.expect("open");
    let mut link = far.accept().await.expect("opened");
    assert_eq!(link.recv().await.expect("a frame"), Received::Frame("x".into()));
    Hostile { _server: server, _endpoint: endpoint, connection, sink, source, _far: far, link }
}

#[test]
fn a_client_of_another_protocol_is_turned_away() {
    run(async {
        let server = listening(2, bounds()).await;
        let key = certified(&seed(1), &seed(1));
        let error = refusal(dial(socket(&server), Some(key), "eid/2").await).await;
        assert_eq!(alert(&error), Some(120), "{error:?}");
    });
}

#[test]
fn a_server_of_another_protocol_is_named_as_such() {
    run(async {
        let (address, serving) = liar(&seed(2), &seed(2), "eid/2");
        let error = client(1).dial(&address).await.expect_err("it speaks something else");
        let DialError::NotAPeer { cause, .. } = &error else { panic!("{error:?}") };
        assert!(cause.to_string().contains(ALPN), "{cause}");
        assert!(!error.is_transient());
        serving.abort();
    });
}

#[test]
fn a_client_that_shows_no_key_is_turned_away() {
    run(async {
        let server = listening(2, bounds()).await;
        let error = refusal(dial(socket(&server), None, ALPN).await).await;
        assert!(alert(&error).is_some(), "{error:?}");
    });
}

#[test]
fn a_client_that_shows_the_key_of_another_is_turned_away() {
    run(async {
        let server = listening(2, bounds()).await;
        let stolen = certified(&seed(9), &seed(1));
        let error = refusal(dial(socket(&server), Some(stolen), ALPN).await).await;
        assert!(alert(&error).is_some(), "{error:?}");
    });
}

#[test]
fn a_server_that_shows_the_key_of_another_is_not_met() {
    run(async {
        let (address, serving) = liar(&seed(2), &seed(2), ALPN);
        client(1).dial_expecting(&address, seed(2).public()).await.expect("it holds the key that it shows");
        serving.abort();
        let (address, serving) = liar(&seed(2), &seed(9), ALPN);
        let error = client(1).dial_expecting(&address, seed(2).public()).await.expect_err("it lies");
        assert!(matches!(error, DialError::NotAPeer { .. }), "{error:?}");
        serving.abort();
    });
}

#[test]
fn a_frame_beyond_the_bound_is_refused_at_its_length() {
    run(async {
        let mut hostile = hostile(bounds()).await;
        let length = u32::try_from(FRAME_BYTES_MAX + 1).expect("small");
        hostile.sink.write_all(&length.to_be_bytes()).await.expect("open");
        assert!(matches!(hostile.link.recv().await, Err(LinkError::Corrupt)));
        assert!(matches!(hostile.link.recv().await, Err(LinkError::Closed)));
    });
}

#[test]
fn a_turn_beyond_the_bound_is_refused() {
    run(async {
        let Hostile { _server, _endpoint, connection, mut sink, mut link, .. } = hostile(bounds()).await;
        let sending = tokio::spawn(async move {
            let frame = vec![7; FRAME_BYTES_MAX];
            let length = u32::try_from(frame.len()).expect("small").to_be_bytes();
            while sink.write_all(&length).await.is_ok() && sink.write_all(&frame).await.is_ok() {}
        });
        let mut bytes = 0;
        let error = loop {
            match link.recv().await {
                Ok(Received::Frame(frame)) => bytes += frame.len(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LinkError::Corrupt), "{error:?}");
        assert!(bytes < OPENER_TURN_BYTES_MAX);
        drop((link, connection));
        sending.await.expect("the attacker is stopped");
    });
}

#[test]
fn a_frame_that_comes_slowly_ends_its_link() {
    run(async {
        let patience = Patience { frame: Duration::from_millis(200), ..Patience::default() };
        let mut hostile = hostile(Bounds { patience, ..bounds() }).await;
        hostile.sink.write_all(&9_u32.to_be_bytes()[..2]).await.expect("open");
        assert!(matches!(hostile.link.recv().await, Err(LinkError::TimedOut)));
    });
}

#[test]
fn a_receiver_that_takes_nothing_ends_its_link() {
    run(async {
        let patience = Patience { stall: Duration::from_millis(200), ..Patience::default() };
        let mut hostile = hostile(Bounds { patience, ..bounds() }).await;
        hostile.sink.write_all(&u32::MAX.to_be_bytes()).await.expect("open");
        assert_eq!(hostile.link.recv().await.expect("a turn"), Received::EndOfTurn);
        let frame = bytes::Bytes::from(vec![7; FRAME_BYTES_MAX]);
        let error = loop {
            if let Err(error) = hostile.link.send(frame.clone()).await {
                break error;
            }
        };
        assert!(matches!(error, LinkError::TimedOut), "{error:?}");
        drop(hostile.source);
    });
}

#[test]
fn what_follows_the_end_of_a_turn_unasked_is_refused() {
    run(async {
        let mut hostile = hostile(bounds()).await;
        let turn_and_more = [u32::MAX.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        hostile.sink.write_all(&turn_and_more).await.expect("open");
        assert!(matches!(hostile.link.recv().await, Err(LinkError::Corrupt)));
    });
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_a_cut() {
    run(async {
        for reset in [false, true] {
            let mut hostile = hostile(bounds()).await;
            hostile.sink.write_all(&9_u32.to_be_bytes()).await.expect("open");
            hostile.sink.write_all(b"half").await.expect("open");
            if reset {
                hostile.sink.reset(7_u32.into()).expect("open");
            } else {
                hostile.sink.finish().expect("open");
            }
            let error = hostile.link.recv().await.expect_err("half a frame is none");
            assert!(matches!(error, LinkError::Cut(_)), "{error:?}");
        }
    });
}

#[test]
fn a_connection_that_brings_nothing_is_closed() {
    run(async {
        let patience = Patience { first_byte: Duration::from_millis(200), ..Patience::default() };
        let server = listening(2, Bounds { patience, ..bounds() }).await;
        let key = certified(&seed(1), &seed(1));
        let (_endpoint, connection) = dial(socket(&server), Some(key), ALPN).await.expect("any key");
        let error = connection.closed().await;
        assert!(matches!(error, ConnectionError::ApplicationClosed(_)), "{error:?}");
    });
}

#[test]
fn those_who_show_nothing_leave_room_for_no_more_of_them() {
    run(async {
        let tight = Bounds { room: Room { unproven_max: 2, ..Room::default() }, ..bounds() };
        let server = listening(2, tight).await;
        let mut waiting = Vec::new();
        for n in 0..2 {
            let key = certified(&seed(n), &seed(n));
            waiting.push(dial(socket(&server), Some(key), ALPN).await.expect("there is room"));
        }
        let error = client(7).dial(&server.addresses()[0]).await.expect_err("there is no room");
        assert!(matches!(error, DialError::Busy(_)), "{error:?}");
    });
}

#[test]
fn a_stranger_may_send_little_before_it_is_read() {
    run(async {
        let server = listening(2, bounds()).await;
        let key = certified(&seed(1), &seed(1));
        let (_endpoint, connection) = dial(socket(&server), Some(key), ALPN).await.expect("any key");
        let (mut sink, _source) = connection.open_bi().await.expect("open");
        let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counting = written.clone();
        let writing = tokio::spawn(async move {
            while let Ok(length) = sink.write(&[7; 4096]).await {
                counting.fetch_add(length, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let far = server.accept().await.expect("dialled");
        let _link = far.accept().await.expect("opened");
        // It says so when it would send more than it may.
        while connection.stats().frame_tx.data_blocked == 0 {
            tokio::task::yield_now().await;
        }
        let bytes = written.load(std::sync::atomic::Ordering::SeqCst);
        assert!(bytes <= 64 * 1024, "{bytes}");
        writing.abort();
    });
}
