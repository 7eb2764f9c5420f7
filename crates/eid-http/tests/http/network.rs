//! A proxy that records and cuts, and a pair of transports with it in between.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use eid_http::{Bounds, HttpConfig, HttpTransport};
use eid_transport::testing::Harness;
use eid_transport::{Address, BoxFuture, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::common::{listening, socket};

/// Passes bytes on between a client and a target, keeps a copy of all of them, and can break every connection.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// What each connection has carried, from the client and to it.
    seen: Arc<Mutex<Vec<[Vec<u8>; 2]>>>,
    /// Counts down the bytes of answers until one is changed.
    flip: Arc<Mutex<Option<usize>>>,
    cuts: Arc<watch::Sender<u32>>,
    /// Bytes from clients that are kept back; `None` while everything passes.
    held: Arc<watch::Sender<Option<Vec<u8>>>>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Self {
            address: listener.local_addr().expect("bound"),
            seen: Arc::default(),
            flip: Arc::default(),
            cuts: Arc::new(watch::Sender::new(0)),
            held: Arc::new(watch::Sender::new(None)),
        };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let proxy = accepting.clone();
                let mut cut = proxy.cuts.subscribe();
                let number = proxy.enter();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    for socket in [&near, &far] {
                        socket.set_nodelay(true).expect("a socket takes options");
                    }
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    tokio::select! {
                        () = async { tokio::join!(proxy.pass(number, 0, near_in, far_out), proxy.pass(number, 1, far_in, near_out)); } => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    fn enter(&self) -> usize {
        let mut seen = self.seen.lock().expect("whole");
        seen.push(Default::default());
        seen.len() - 1
    }

    async fn pass(&self, number: usize, way: usize, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        let mut release = self.held.subscribe();
        let mut pending = Vec::new();
        loop {
            let length = tokio::select! {
                read = from.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => length,
                    _ => break,
                },
                () = async { drop(release.wait_for(Option::is_none).await) }, if !pending.is_empty() => {
                    if to.write_all(&std::mem::take(&mut pending)).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let bytes = &mut buffer[..length];
            if way == 1 {
                self.maybe_flip(bytes);
            }
            self.seen.lock().expect("whole")[number][way].extend_from_slice(bytes);
            let holding = way == 0
                && self.held.send_if_modified(|held| {
                    held.as_mut().map(|held| held.extend_from_slice(bytes)).is_some()
                });
            if holding {
                pending.extend_from_slice(bytes);
            } else if to.write_all(bytes).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    }

    /// Keeps back what clients send from now on.
    pub(crate) fn hold(&self) {
        self.held.send_replace(Some(Vec::new()));
    }

    /// The one request that is kept back, once all of it has come.
    pub(crate) async fn held_request(&self) -> Vec<u8> {
        let whole = |held: &Vec<u8>| {
            let head = held.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
            let lines = String::from_utf8_lossy(&held[..head]).to_lowercase();
            let length = lines.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
            (held.len() == head + length).then_some(())
        };
        let mut held = self.held.subscribe();
        let held = held.wait_for(|held| held.as_ref().and_then(whole).is_some()).await.expect("it is here");
        held.clone().expect("just seen")
    }

    /// Lets pass what was kept back.
    pub(crate) fn release(&self) {
        self.held.send_replace(None);
    }

    fn maybe_flip(&self, bytes: &mut [u8]) {
        let mut flip = self.flip.lock().expect("whole");
        *flip = match *flip {
            Some(at) if at < bytes.len() => {
                bytes[at] ^= 0x10;
                None
            }
            Some(at) => Some(at - bytes.len()),
            None => None,
        };
    }

    /// Changes one byte of what comes to the client, this many bytes from now.
    pub(crate) fn flip_answer(&self, at: usize) {
        *self.flip.lock().expect("whole") = Some(at);
    }

    pub(crate) fn flip_nothing(&self) {
        *self.flip.lock().expect("whole") = None;
    }

    /// Everything that has passed, in both directions.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.seen.lock().expect("whole").iter().flatten().flatten().copied().collect()
    }

    /// What the client has sent on each connection.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.seen.lock().expect("whole").iter().map(|[sent, _]| sent.clone()).collect()
    }

    /// Breaks every connection.
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
    pair_with(Bounds::default()).await
}

/// A pair whose server has bounds of its own.
pub(crate) async fn pair_with(bounds: Bounds) -> Pair {
    let server = listening(HttpConfig { bounds, ..HttpConfig::default() }).await;
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
