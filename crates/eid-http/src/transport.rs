//! The transport: a client always, a server once it listens.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use eid_transport::places::addresses;
use eid_transport::{Address, Arrivals, BoxFuture, Connection, DialError, ListenError, Transport};
use tokio::sync::Mutex as AsyncMutex;

use crate::channels::Channels;
use crate::dialled::{Dialler, Wire};
use crate::limits::Bounds;
use crate::noise::Identity;
use crate::routes::Routes;
use crate::server::Server;

/// Makes what `GET /api/v0/info` answers: JSON that anybody may read.
pub type Info = Arc<dyn Fn() -> String + Send + Sync>;

/// How an [`HttpTransport`] is set up.
#[derive(Clone)]
pub struct HttpConfig {
    /// Where to listen, as `HOST:PORT`; port 0 picks one. Without it the transport only dials.
    pub listen: Option<String>,
    /// Addresses to report instead of the one that is listened at, for instance that of a reverse proxy.
    pub advertise: Vec<Address>,
    /// What the server says of itself to anybody who asks. It must not tell of databases.
    pub info: Info,
    /// Bounds that depend on the machine and the network.
    pub bounds: Bounds,
}

impl HttpConfig {
    /// A transport that listens at `HOST:PORT`.
    #[must_use]
    pub fn listening(listen: &str) -> Self {
        Self { listen: Some(listen.to_owned()), ..Self::default() }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: None,
            advertise: Vec::new(),
            info: Arc::new(|| "{}".to_owned()),
            bounds: Bounds::default(),
        }
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// Carries links over HTTP. Its futures run on tokio, with its I/O and time drivers enabled.
#[derive(Debug)]
pub struct HttpTransport {
    config: HttpConfig,
    identity: Arc<Identity>,
    dialler: Dialler,
    channels: Arc<Channels>,
    arrivals: Arrivals,
    server: AsyncMutex<Option<Server>>,
    address: Mutex<Option<SocketAddr>>,
    wires: Mutex<Vec<Weak<Wire>>>,
}

impl HttpTransport {
    /// Makes a transport, which touches no network until it dials or listens.
    ///
    /// # Panics
    /// When the system has no randomness to give.
    #[must_use]
    pub fn new(config: HttpConfig) -> Self {
        Self {
            identity: Arc::new(Identity::draw().expect("the system gives randomness")),
            dialler: Dialler::new(),
            channels: Arc::new(Channels::new(config.bounds.clone())),
            config,
            arrivals: Arrivals::default(),
            server: AsyncMutex::new(None),
            address: Mutex::new(None),
            wires: Mutex::default(),
        }
    }

    fn keep(&self, wire: &Arc<Wire>) {
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        wires.retain(|wire| wire.strong_count() > 0);
        wires.push(Arc::downgrade(wire));
    }

    async fn begin(&self) -> Result<(), ListenError> {
        let listen = self.config.listen.as_deref().ok_or(ListenError::NoAddress)?;
        let mut server = self.server.lock().await;
        if self.arrivals.is_shut() {
            return Err(ListenError::ShutDown);
        }
        if server.is_some() {
            return Ok(());
        }
        let routes = Arc::new(Routes {
            identity: self.identity.clone(),
            channels: self.channels.clone(),
            arrivals: self.arrivals.clone(),
            info: self.config.info.clone(),
            bounds: self.config.bounds.clone(),
        });
        let started = Server::start(listen, routes).await.map_err(|cause| ListenError::of(listen, cause))?;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(started.address());
        *server = Some(started);
        Ok(())
    }

    async fn end(&self) {
        self.arrivals.shut();
        let wires = std::mem::take(&mut *self.wires.lock().unwrap_or_else(PoisonError::into_inner));
        let mut closing = tokio::task::JoinSet::new();
        for wire in wires.iter().filter_map(Weak::upgrade) {
            closing.spawn(async move { wire.close().await });
        }
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(server) = self.server.lock().await.take() {
            server.stop().await;
        }
        closing.join_all().await;
    }
}

impl Transport for HttpTransport {
    fn scheme(&self) -> &str {
        "http"
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(async move {
            if to.scheme() != self.scheme() {
                return Err(DialError::Unsupported(to.clone()));
            }
            if self.arrivals.is_shut() {
                return Err(DialError::ShutDown);
            }
            let dialled = self.dialler.dial(to, &self.identity).await?;
            self.keep(dialled.wire());
            Ok(Arc::new(dialled) as Arc<dyn Connection>)
        })
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        Box::pin(self.begin())
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        self.arrivals.next()
    }

    fn addresses(&self) -> Vec<Address> {
        let bound = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        addresses("http://", bound, &self.config.advertise)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl Drop for HttpTransport {
    fn drop(&mut self) {
        self.arrivals.shut();
        // A server whose transport is gone would accept connections that nobody takes.
        if let Some(server) = self.server.get_mut().take() {
            server.stop_soon();
        }
    }
}
