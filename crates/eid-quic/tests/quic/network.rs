//! What the tests share: a runner with a deadline, a network that can fall silent, and a pair of transports over it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eid_core::SecretKey;
use eid_quic::{Bounds, QuicConfig, QuicTransport};
use eid_transport::testing::Harness;
use eid_transport::{Address, BoxFuture, Connection, Link, Received, Transport};
use tokio::net::UdpSocket;

/// How long any test may take: far more than it does, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test on a runtime of its own, within the deadline.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let output = runtime
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .expect("the test ends within its deadline");
    runtime.shutdown_background();
    output
}

pub(crate) fn key(seed: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed([seed; 32]))
}

/// Bounds under which silence shows soon.
pub(crate) fn bounds() -> Bounds {
    Bounds {
        handshake: Duration::from_secs(3),
        idle: Duration::from_secs(2),
        keep_alive: Duration::from_millis(300),
        ..Bounds::default()
    }
}

/// A transport with this key that listens on a loopback port of its own.
pub(crate) async fn listening(seed: u8, bounds: Bounds) -> Arc<QuicTransport> {
    let config = QuicConfig { bounds, ..QuicConfig::listening(key(seed), "127.0.0.1:0") };
    let server = Arc::new(QuicTransport::new(config));
    server.listen().await.expect("a free port");
    server
}

pub(crate) fn client(seed: u8) -> Arc<QuicTransport> {
    Arc::new(QuicTransport::new(QuicConfig { bounds: bounds(), ..QuicConfig::new(key(seed)) }))
}

/// The socket that a transport listens at.
pub(crate) fn socket(transport: &QuicTransport) -> SocketAddr {
    transport.addresses()[0].rest().parse().expect("a transport that listens on loopback")
}

/// Passes datagrams on between clients and a target until it falls silent.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    silent: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
        let wire = Self { address: near.local_addr().expect("bound"), silent: Arc::default() };
        let silent = wire.silent.clone();
        tokio::spawn(async move {
            let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
            let mut buffer = vec![0; 65536];
            while let Ok((length, from)) = near.recv_from(&mut buffer).await {
                let way = match ways.get(&from) {
                    Some(way) => way.clone(),
                    None => {
                        let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
                        way.connect(target).await.expect("a socket connects");
                        ways.insert(from, way.clone());
                        tokio::spawn(back(way.clone(), near.clone(), from, silent.clone()));
                        way
                    }
                };
                if !silent.load(Ordering::Relaxed) {
                    // What a full socket does not take is lost, as everywhere.
                    drop(way.send(&buffer[..length]).await);
                }
            }
        });
        wire
    }

    /// Passes nothing on any more.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }
}

async fn back(way: Arc<UdpSocket>, near: Arc<UdpSocket>, to: SocketAddr, silent: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65536];
    loop {
        if let Ok(length) = way.recv(&mut buffer).await
            && !silent.load(Ordering::Relaxed)
        {
            drop(near.send_to(&buffer[..length], to).await);
        }
    }
}

/// A client, a server, and a network between them.
pub(crate) struct Pair {
    pub(crate) client: Arc<QuicTransport>,
    pub(crate) server: Arc<QuicTransport>,
    pub(crate) wire: Wire,
}

pub(crate) async fn pair() -> Pair {
    let server = listening(2, bounds()).await;
    let wire = Wire::start(socket(&server)).await;
    Pair { client: client(1), server, wire }
}

impl Harness for Pair {
    fn dialler(&self) -> Arc<dyn Transport> {
        self.client.clone()
    }
    fn listener(&self) -> Arc<dyn Transport> {
        self.server.clone()
    }
    fn address(&self) -> Address {
        format!("quic:{}", self.wire.address).parse().expect("an address")
    }
    fn nobody(&self) -> Address {
        // Reserved, and nothing of ours: what is sent there is lost.
        "quic:127.0.0.1:1".parse().expect("an address")
    }
    fn cut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.wire.fall_silent() })
    }
}

/// A connection with its first link, whose first turn has been received.
pub(crate) struct Linked {
    pub(crate) near: Arc<dyn Connection>,
    pub(crate) far: Arc<dyn Connection>,
    pub(crate) opener: Box<dyn Link>,
    pub(crate) accepter: Box<dyn Link>,
}

/// Connects and lets each side have one empty turn.
pub(crate) async fn link(client: &QuicTransport, server: &QuicTransport) -> Linked {
    let near = client.dial(&server.addresses()[0]).await.expect("the server listens");
    let mut opener = near.open().await.expect("a fresh connection");
    opener.end_turn().await.expect("a fresh link");
    let far = server.accept().await.expect("somebody has dialled");
    let mut accepter = far.accept().await.expect("a link was opened");
    assert_eq!(accepter.recv().await.expect("a turn"), Received::EndOfTurn);
    accepter.end_turn().await.expect("the link is open");
    assert_eq!(opener.recv().await.expect("an answer"), Received::EndOfTurn);
    Linked { near, far, opener, accepter }
}
