//! The transport: one endpoint that dials, and listens once it is told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::{PublicKey, SecretKey};
use eid_transport::places::Keyed;
use eid_transport::streams::{Channel as _, Door, StreamConnection};
use eid_transport::{Address, Arrivals, BoxFuture, Connection, DialError, ListenError, Transport};
use iroh::endpoint::{BindError, presets};
use iroh::{Endpoint, RelayMode, RelayUrl};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ALPN;
use crate::address::{Whereabouts, written};
use crate::channel::IrohChannel;
use crate::dialler;
use crate::error::{Broken, not_listening};
use crate::limits::{Bounds, SHUTDOWN};
use crate::route::{self, Route};
use crate::server::{binding, serve};

/// Which relays pass packets on where there is no straight way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Relay {
    /// Those that the makers of iroh run, for production.
    #[default]
    Public,
    /// Those that they run for trying things out.
    Staging,
    /// None, also where an address names one.
    Off,
    /// These. With none, only those that the addresses of others name: enough to dial.
    Custom(Vec<RelayUrl>),
}

/// How peers are found beyond what their addresses say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Search {
    /// They are not.
    #[default]
    Off,
    /// By multicast DNS on the local network, where this one shows itself too.
    #[cfg(feature = "mdns")]
    Local,
}

/// How an [`IrohTransport`] is set up.
#[derive(Debug, Clone)]
pub struct IrohConfig {
    /// The key that this end proves, and under which it is reached: that of the device.
    pub key: Arc<SecretKey>,
    /// Whether others may dial it. Without this the transport only dials.
    pub listens: bool,
    /// Which relays to use.
    pub relay: Relay,
    /// The one socket to bind instead of one on every interface; port 0 picks one.
    pub bind: Option<SocketAddr>,
    /// Whether everything goes over a relay, as if the network let nothing else through.
    pub relayed_only: bool,
    /// How peers are found beyond what their addresses say.
    pub search: Search,
    /// Bounds that depend on the machine and the network.
    pub bounds: Bounds,
}

impl IrohConfig {
    /// A transport that only dials, over no relays but those that addresses name.
    #[must_use]
    pub fn new(key: Arc<SecretKey>) -> Self {
        Self {
            key,
            listens: false,
            relay: Relay::Custom(Vec::new()),
            bind: None,
            relayed_only: false,
            search: Search::Off,
            bounds: Bounds::default(),
        }
    }

    /// A transport that listens, with the public relays.
    #[must_use]
    pub fn listening(key: Arc<SecretKey>) -> Self {
        Self { listens: true, relay: Relay::default(), ..Self::new(key) }
    }

    async fn bind(&self) -> Result<Endpoint, BindError> {
        let relay = match &self.relay {
            Relay::Public => RelayMode::Default,
            Relay::Staging => RelayMode::Staging,
            Relay::Off => RelayMode::Disabled,
            Relay::Custom(urls) => RelayMode::custom(urls.iter().cloned()),
        };
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(iroh::SecretKey::from_bytes(&self.key.to_seed()))
            .transport_config(self.bounds.transport())
            // A resumed session proves no key.
            .max_tls_tickets(0);
        if self.relayed_only {
            builder = builder.clear_ip_transports();
        } else if let Some(socket) = self.bind {
            builder = builder.clear_ip_transports().bind_addr(socket).expect("a socket is a socket");
        }
        builder = builder.relay_mode(relay);
        #[cfg(feature = "mdns")]
        if self.search == Search::Local {
            builder = builder.address_lookup(iroh_mdns_address_lookup::MdnsAddressLookup::builder());
        }
        builder.bind().await
    }

    /// Whether there may be a relay at which this end can be reached.
    fn has_home(&self) -> bool {
        match &self.relay {
            Relay::Public | Relay::Staging => true,
            Relay::Off => false,
            Relay::Custom(urls) => !urls.is_empty(),
        }
    }
}

/// Carries links over iroh. Its futures run on tokio, with its I/O and time drivers enabled.
#[derive(Debug)]
pub struct IrohTransport {
    config: IrohConfig,
    endpoint: AsyncMutex<Option<Endpoint>>,
    /// The same endpoint for those who cannot wait, once it listens.
    listening: Mutex<Option<Endpoint>>,
    serving: Mutex<Option<JoinHandle<()>>>,
    dialled: Arc<Keyed<IrohChannel>>,
    door: Arc<Door<IrohChannel>>,
    arrivals: Arrivals,
    begun: AtomicBool,
}

impl IrohTransport {
    /// Makes a transport, which touches no network until it dials or listens.
    #[must_use]
    pub fn new(config: IrohConfig) -> Self {
        let arrivals = Arrivals::default();
        let door = Door::new(config.bounds.room, config.bounds.patience, arrivals.clone());
        Self {
            config,
            endpoint: AsyncMutex::new(None),
            listening: Mutex::new(None),
            serving: Mutex::new(None),
            dialled: Arc::default(),
            door: Arc::new(door),
            arrivals,
            begun: AtomicBool::new(false),
        }
    }

    /// Which way the newest connection with a peer goes at this moment.
    #[must_use]
    pub fn route(&self, peer: &PublicKey) -> Option<Route> {
        route::of(&self.newest(peer)?.0)
    }

    /// Waits until the newest connection with a peer goes another way than it was seen to; nothing when there is no
    /// connection any more.
    pub async fn route_after(&self, peer: &PublicKey, seen: Option<&Route>) -> Option<Route> {
        let channel = self.newest(peer)?;
        route::after(&channel.0, seen).await
    }

    fn newest(&self, peer: &PublicKey) -> Option<IrohChannel> {
        self.dialled.newest(peer).or_else(|| self.door.newest(peer))
    }

    /// The endpoint, bound when it is needed first; nothing after a shutdown.
    async fn endpoint(&self) -> Result<Option<Endpoint>, BindError> {
        let mut slot = self.endpoint.lock().await;
        if self.arrivals.is_shut() {
            return Ok(None);
        }
        if let Some(endpoint) = &*slot {
            return Ok(Some(endpoint.clone()));
        }
        let endpoint = self.config.bind().await?;
        *slot = Some(endpoint.clone());
        Ok(Some(endpoint))
    }

    async fn connect(
        &self,
        to: &Address,
        expected: Option<PublicKey>,
    ) -> Result<Arc<dyn Connection>, DialError> {
        let there = Whereabouts::read(to).ok_or_else(|| DialError::Unsupported(to.clone()))?;
        if let Some(expected) = expected.filter(|expected| *expected != there.key) {
            return Err(DialError::WrongServer { address: to.clone(), expected, found: there.key });
        }
        let unreachable = |cause| DialError::Unreachable { address: to.clone(), cause };
        let endpoint = self.endpoint().await.map_err(|error| unreachable(Broken::Bind(error).into()))?;
        let endpoint = endpoint.ok_or(DialError::ShutDown)?;
        let ways = there.to_iroh().map_err(|error| unreachable(error.into()))?;
        let connection = dialler::dial(&endpoint, to, ways, &self.config.bounds).await?;
        let channel = IrohChannel(connection);
        // It has met the key that it meant.
        channel.trust();
        let seat = Keyed::enter(&self.dialled, there.key, &channel, usize::MAX);
        let (binding, patience) = (binding(&channel), self.config.bounds.patience);
        Ok(Arc::new(StreamConnection::new(channel, patience, binding, Some(there.key), Box::new(seat))))
    }

    async fn begin(&self) -> Result<(), ListenError> {
        if !self.config.listens {
            return Err(ListenError::NoAddress);
        }
        let name = || match self.config.bind {
            Some(socket) => socket.to_string(),
            None => "every interface".to_owned(),
        };
        let endpoint = self.endpoint().await.map_err(|error| not_listening(name(), error))?;
        let endpoint = endpoint.ok_or(ListenError::ShutDown)?;
        if self.begun.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        endpoint.set_alpns(vec![ALPN.into()]);
        let (door, bounds) = (Arc::clone(&self.door), self.config.bounds.clone());
        let task = tokio::spawn(serve(endpoint.clone(), door, bounds, self.arrivals.clone()));
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(endpoint.clone());
        if self.config.has_home() && timeout(self.config.bounds.online, endpoint.online()).await.is_err() {
            tracing::warn!("no relay answers: others reach this device only where the network lets them");
        }
        Ok(())
    }

    async fn end(&self) {
        self.arrivals.shut();
        drop(self.listening.lock().unwrap_or_else(PoisonError::into_inner).take());
        let endpoint = self.endpoint.lock().await.take();
        if let Some(endpoint) = endpoint
            && timeout(SHUTDOWN, endpoint.close()).await.is_err()
        {
            tracing::debug!("some peers did not hear that the connection is closed");
        }
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = match serving {
            Some(task) => Some(task.await),
            None => None,
        } {
            tracing::warn!(%error, "the iroh listener ended badly");
        }
    }
}

impl Transport for IrohTransport {
    fn scheme(&self) -> &str {
        "iroh"
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
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.as_ref().and_then(|endpoint| written(&endpoint.addr())).into_iter().collect()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl Drop for IrohTransport {
    fn drop(&mut self) {
        self.arrivals.shut();
        // Peers should hear of it, and that takes a moment.
        if let (Some(endpoint), Ok(runtime)) =
            (self.endpoint.get_mut().take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move { endpoint.close().await });
        }
    }
}
