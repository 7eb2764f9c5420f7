//! What the tests of this crate share: a runner with a deadline, and a connection with its first link.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eid_http::{HttpConfig, HttpTransport};
use eid_transport::{Address, Connection, Link, Received, Transport};

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

/// The socket that a transport listens at.
pub(crate) fn socket(transport: &HttpTransport) -> SocketAddr {
    let address = transport.addresses()[0].rest().to_owned();
    address.trim_start_matches("//").parse().expect("a transport that listens on loopback")
}

/// A transport that listens on a loopback port of its own.
pub(crate) async fn listening(config: HttpConfig) -> Arc<HttpTransport> {
    let server =
        Arc::new(HttpTransport::new(HttpConfig { listen: Some("127.0.0.1:0".to_owned()), ..config }));
    server.listen().await.expect("a free port");
    server
}

/// A connection with its first link, whose first turn has been received.
pub(crate) struct Linked {
    pub(crate) near: Arc<dyn Connection>,
    pub(crate) far: Arc<dyn Connection>,
    pub(crate) opener: Box<dyn Link>,
    pub(crate) accepter: Box<dyn Link>,
}

/// Connects and lets each side have one empty turn.
pub(crate) async fn link(client: &HttpTransport, server: &HttpTransport, address: &Address) -> Linked {
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
