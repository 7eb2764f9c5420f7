//! The transport: a client always, a server once it listens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::{PublicKey, SecretKey};
use eid_transport::places::addresses;
use eid_transport::{Address, Arrivals, BoxFuture, Connection, DialError, ListenError, Transport};
use tokio::sync::Mutex as AsyncMutex;

use crate::dialler::Dialler;
use crate::limits::Bounds;
use crate::server::Server;
use crate::tls::Identity;

/// How a [`QuicTransport`] is set up.
#[derive(Debug, Clone)]
pub struct QuicConfig {
    /// The key that this end proves: that of the device.
    pub key: Arc<SecretKey>,
    /// Where to listen, as `HOST:PORT`; port 0 picks one. Without it the transport only dials.
    pub listen: Option<String>,
    /// Addresses to report instead of the one that is listened at, for instance that of a router that forwards a port.
    pub advertise: Vec<Address>,
    /// Bounds that depend on the machine and the network.
    pub bounds: Bounds,
}

impl QuicConfig {
    /// A transport that only dials.
    #[must_use]
    pub fn new(key: Arc<SecretKey>) -> Self {
        Self { key, listen: None, advertise: Vec::new(), bounds: Bounds::default() }
    }

    /// A transport that listens at `HOST:PORT`.
    #[must_use]
    pub fn listening(key: Arc<SecretKey>, listen: &str) -> Self {
        Self { listen: Some(listen.to_owned()), ..Self::new(key) }
    }
}

/// Carries links over QUIC. Its futures run on tokio, with its I/O and time drivers enabled.
#[derive(Debug)]
pub struct QuicTransport {
    config: QuicConfig,
    identity: Identity,
    dialler: Dialler,
    arrivals: Arrivals,
    server: AsyncMutex<Option<Server>>,
    address: Mutex<Option<SocketAddr>>,
}

impl QuicTransport {
    /// Makes a transport, which touches no network until it dials or listens.
    #[must_use]
    pub fn new(config: QuicConfig) -> Self {
        Self {
            identity: Identity::new(&config.key),
            config,
            dialler: Dialler::default(),
            arrivals: Arrivals::default(),
            server: AsyncMutex::new(None),
            address: Mutex::new(None),
        }
    }

    async fn connect(
        &self,
        to: &Address,
        expected: Option<PublicKey>,
    ) -> Result<Arc<dyn Connection>, DialError> {
        if to.scheme() != self.scheme() {
            return Err(DialError::Unsupported(to.clone()));
        }
        if self.arrivals.is_shut() {
            return Err(DialError::ShutDown);
        }
        let connection = self.dialler.dial(to, expected, &self.identity, &self.config.bounds).await?;
        if self.arrivals.is_shut() {
            // It was shut down meanwhile, perhaps before there was a socket to close.
            self.dialler.shutdown().await;
            return Err(DialError::ShutDown);
        }
        Ok(connection)
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
        let starting = Server::start(listen, &self.identity, &self.config.bounds, self.arrivals.clone());
        let started = starting.await.map_err(|cause| ListenError::of(listen, cause))?;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(started.address());
        *server = Some(started);
        Ok(())
    }

    async fn end(&self) {
        self.arrivals.shut();
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let server = self.server.lock().await.take();
        let stopping = async {
            if let Some(server) = server {
                server.ended().await;
            }
        };
        tokio::join!(stopping, self.dialler.shutdown());
    }
}

impl Transport for QuicTransport {
    fn scheme(&self) -> &str {
        "quic"
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(self.connect(to, None))
    }

    fn dial_expecting<'a>(
        &'a self,
        to: &'a Address,
        expected: PublicKey,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(self.connect(to, Some(expected)))
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        Box::pin(self.begin())
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        self.arrivals.next()
    }

    fn addresses(&self) -> Vec<Address> {
        let bound = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        addresses("quic:", bound, &self.config.advertise)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        // A server whose transport is gone would accept connections that nobody takes.
        self.arrivals.shut();
    }
}
