//! What the tests share: a runner with a deadline, a relay, and pairs of transports.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use eid_core::{PublicKey, SecretKey};
use eid_iroh::{Bounds, IrohConfig, IrohTransport, Relay};
use eid_transport::testing::Harness;
use eid_transport::{Address, BoxFuture, Connection, Link, Received, Transport};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use tokio::sync::Mutex;

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

pub(crate) fn key(seed: u8) -> PublicKey {
    SecretKey::from_seed([seed; 32]).public()
}

pub(crate) async fn relay() -> (Server, Relay) {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new(([127, 0, 0, 1], 0)));
    let server = Server::spawn(config).await.expect("a relay on loopback");
    let socket = server.http_addr().expect("it serves plain HTTP");
    let url = format!("http://{socket}/").parse().expect("a URL");
    (server, Relay::Custom(vec![url]))
}

/// A device that binds nothing but loopback, under bounds with which silence shows soon.
pub(crate) fn device(seed: u8, relay: &Relay) -> IrohConfig {
    let config = IrohConfig::listening(Arc::new(SecretKey::from_seed([seed; 32])));
    let bounds = Bounds {
        handshake: Duration::from_secs(4),
        idle: Duration::from_secs(3),
        keep_alive: Duration::from_millis(300),
        ..Bounds::default()
    };
    IrohConfig { relay: relay.clone(), bind: Some(([127, 0, 0, 1], 0).into()), bounds, ..config }
}

/// Two devices between which there is nothing but a relay.
pub(crate) struct Relayed {
    pub(crate) client: Arc<IrohTransport>,
    pub(crate) server: Arc<IrohTransport>,
    relay: Arc<Mutex<Option<Server>>>,
    custom: Relay,
}

pub(crate) async fn relayed() -> Relayed {
    let (running, custom) = relay().await;
    let far_away = |seed| IrohConfig { relayed_only: true, ..device(seed, &custom) };
    let client = Arc::new(IrohTransport::new(far_away(1)));
    let server = Arc::new(IrohTransport::new(far_away(2)));
    server.listen().await.expect("the relay is there");
    Relayed { client, server, relay: Arc::new(Mutex::new(Some(running))), custom }
}

impl Harness for Relayed {
    fn dialler(&self) -> Arc<dyn Transport> {
        self.client.clone()
    }
    fn listener(&self) -> Arc<dyn Transport> {
        self.server.clone()
    }
    fn address(&self) -> Address {
        at(2, &self.custom)
    }
    fn nobody(&self) -> Address {
        at(9, &self.custom)
    }
    fn cut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(relay) = self.relay.lock().await.take() {
                relay.shutdown().await.expect("it stops");
            }
        })
    }
}

/// Where a device is reached over a relay.
pub(crate) fn at(seed: u8, relay: &Relay) -> Address {
    let Relay::Custom(urls) = relay else { panic!("a relay on loopback") };
    format!("iroh:{}?relay={}", key(seed), urls[0]).parse().expect("an address")
}

/// A connection with its first link, whose first turn has been received.
pub(crate) struct Linked {
    pub(crate) near: Arc<dyn Connection>,
    pub(crate) far: Arc<dyn Connection>,
    pub(crate) opener: Box<dyn Link>,
    pub(crate) accepter: Box<dyn Link>,
}

/// Connects and lets each side have one empty turn.
pub(crate) async fn link(client: &IrohTransport, server: &IrohTransport, address: &Address) -> Linked {
    let near = client.dial(address).await.expect("the server listens");
    let mut opener = near.open().await.expect("a fresh connection");
    opener.end_turn().await.expect("a fresh link");
    let far = server.accept().await.expect("somebody has dialled");
    let mut accepter = far.accept().await.expect("a link was opened");
    assert_eq!(accepter.recv().await.expect("a turn"), Received::EndOfTurn);
    accepter.end_turn().await.expect("the link is open");
    assert_eq!(opener.recv().await.expect("an answer"), Received::EndOfTurn);
    Linked { near, far, opener, accepter }
}

/// A turn to and fro over the first link.
pub(crate) async fn to_and_fro(linked: &mut Linked, word: &'static str) {
    let Linked { opener, accepter, .. } = linked;
    opener.send(word.into()).await.expect("open");
    opener.end_turn().await.expect("open");
    assert_eq!(accepter.recv().await.expect("a frame"), Received::Frame(word.into()));
    assert_eq!(accepter.recv().await.expect("a turn"), Received::EndOfTurn);
    accepter.end_turn().await.expect("open");
    assert_eq!(opener.recv().await.expect("an answer"), Received::EndOfTurn);
}
