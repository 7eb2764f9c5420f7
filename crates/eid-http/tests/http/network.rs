//! A proxy that records and cuts, and a pair of transports with it in between.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use eid_http::{HttpConfig, HttpTransport};
use eid_transport::testing::Harness;
use eid_transport::{Address, BoxFuture, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::common::{listening, socket};

/// Passes bytes on between a client and a target, keeps a copy of all of them, and can break every connection.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    cuts: Arc<watch::Sender<u32>>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Self {
            address: listener.local_addr().expect("bound"),
            seen: Arc::default(),
            cuts: Arc::new(watch::Sender::new(0)),
        };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let proxy = accepting.clone();
                let mut cut = proxy.cuts.subscribe();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    for socket in [&near, &far] {
                        socket.set_nodelay(true).expect("a socket takes options");
                    }
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    tokio::select! {
                        () = async { tokio::join!(proxy.pass(near_in, far_out), proxy.pass(far_in, near_out)); } => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    async fn pass(&self, mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer).await {
                Ok(length) if length > 0 => {
                    self.seen.lock().expect("whole").extend_from_slice(&buffer[..length]);
                    if to.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
                _ => {
                    drop(to.shutdown().await);
                    return;
                }
            }
        }
    }

    /// Everything that has passed, in both directions.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.seen.lock().expect("whole").clone()
    }

    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// A client, a server, and a proxy between them.
pub(crate) struct Pair {
    pub(crate) client: Arc<HttpTransport>,
    pub(crate) server: Arc<HttpTransport>,
    pub(crate) proxy: Proxy,
    pub(crate) address: Address,
}

pub(crate) async fn pair() -> Pair {
    let server = listening(HttpConfig::default()).await;
    let client = Arc::new(HttpTransport::new(HttpConfig::default()));
    let proxy = Proxy::start(socket(&server)).await;
    let address = format!("http://{}", proxy.address).parse().expect("an address");
    Pair { client, server, proxy, address }
}

impl Harness for Pair {
    fn dialler(&self) -> Arc<dyn Transport> {
        self.client.clone()
    }
    fn listener(&self) -> Arc<dyn Transport> {
        self.server.clone()
    }
    fn address(&self) -> Address {
        self.address.clone()
    }
    fn nobody(&self) -> Address {
        // Reserved, and nothing of ours: a connection to it is refused at once.
        "http://127.0.0.1:1".parse().expect("an address")
    }
    fn cut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.proxy.cut() })
    }
}

/// Sends bytes over a fresh socket and gives all that comes back until the server closes it.
pub(crate) async fn raw(target: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(target).await.expect("the server listens");
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    answer
}
