//! What an instance can listen on.

use std::fmt;
use std::sync::Arc;

use eid_core::SecretKey;
#[cfg(feature = "http")]
use eid_http::Bounds as HttpBounds;
#[cfg(feature = "iroh")]
use eid_iroh::{Relay, Search};
#[cfg(any(feature = "http", feature = "quic"))]
use eid_transport::Address;
use eid_transport::Transport;

/// A transport that is about to be listened on.
#[derive(Clone)]
pub struct Listener {
    make: Arc<dyn Fn(Arc<SecretKey>) -> Arc<dyn Transport> + Send + Sync>,
    only_one: bool,
}

impl Listener {
    /// The transport for a device with this key.
    pub(crate) fn of_device(&self, key: Arc<SecretKey>) -> Arc<dyn Transport> {
        (self.make)(key)
    }

    /// Whether a device is reached over one transport of this kind only.
    pub(crate) fn is_the_only_one(&self) -> bool {
        self.only_one
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl From<Arc<dyn Transport>> for Listener {
    fn from(transport: Arc<dyn Transport>) -> Self {
        Self { make: Arc::new(move |_| Arc::clone(&transport)), only_one: false }
    }
}

/// What is remembered of a way to listen by its socket.
#[cfg(any(feature = "http", feature = "quic"))]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    listen: String,
    advertise: Vec<String>,
}

#[cfg(any(feature = "http", feature = "quic"))]
impl Kept {
    fn of(listen: String, advertise: &[Address]) -> Self {
        Self { listen, advertise: advertise.iter().map(ToString::to_string).collect() }
    }

    fn addresses(&self) -> Result<Vec<Address>, eid_transport::ParseAddressError> {
        self.advertise.iter().map(|address| address.parse()).collect()
    }
}

/// HTTP: sealed end to end without certificates, also through reverse proxies.
///
/// How it is to be listened on can be remembered by name, and read again as what it is:
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// use eid::{Http, Instance};
///
/// let node = Instance::builder().memory().open().await?;
/// node.sync().save_transport_config("home", &Http::on("127.0.0.1:0"))?;
/// let home: Http = node.sync().load_transport_config("home")?.expect("it was just saved");
/// node.listen(home).await?;
/// # node.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "http")]
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct Http {
    listen: String,
    advertise: Vec<Address>,
    bounds: HttpBounds,
}

#[cfg(feature = "http")]
impl Http {
    /// Listens on `HOST:PORT`; port 0 picks a free one.
    #[must_use]
    pub fn on(listen: &str) -> Self {
        Self { listen: listen.to_owned(), advertise: Vec::new(), bounds: HttpBounds::default() }
    }

    /// Names an address under which others reach it, such as that of a reverse proxy, instead of the one it listens
    /// on.
    #[must_use]
    pub fn advertise(mut self, address: Address) -> Self {
        self.advertise.push(address);
        self
    }

    /// Chooses what it takes of others: more for a machine that serves many, and for many behind one address. They are of
    /// this run: they are not remembered with the rest.
    ///
    /// ```
    /// use eid::{Http, HttpBounds};
    ///
    /// let behind_a_proxy = HttpBounds { exempt: vec!["192.0.2.1".parse().unwrap()], ..HttpBounds::default() };
    /// let _listener = Http::on("0.0.0.0:7070").bounds(behind_a_proxy);
    /// ```
    #[must_use]
    pub fn bounds(self, bounds: HttpBounds) -> Self {
        Self { bounds, ..self }
    }
}

#[cfg(feature = "http")]
impl From<Http> for Kept {
    fn from(from: Http) -> Self {
        Self::of(from.listen, &from.advertise)
    }
}

#[cfg(feature = "http")]
impl TryFrom<Kept> for Http {
    type Error = eid_transport::ParseAddressError;

    fn try_from(kept: Kept) -> Result<Self, Self::Error> {
        let advertise = kept.addresses()?;
        Ok(Self { listen: kept.listen, advertise, bounds: HttpBounds::default() })
    }
}

#[cfg(feature = "http")]
impl eid_sync::TransportConfig for Http {
    const SCHEME: &'static str = "http";
    const VERSION: u32 = 1;
}

#[cfg(feature = "http")]
impl From<Http> for Listener {
    fn from(http: Http) -> Self {
        let mut config = eid_http::HttpConfig::listening(&http.listen);
        config.advertise = http.advertise;
        config.bounds = http.bounds;
        Self::from(Arc::new(eid_http::HttpTransport::new(config)) as Arc<dyn Transport>)
    }
}

/// QUIC: for devices that reach each other's addresses directly. The key of the device is the key of the channel.
#[cfg(feature = "quic")]
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct Quic {
    listen: String,
    advertise: Vec<Address>,
}

#[cfg(feature = "quic")]
impl Quic {
    /// Listens on `HOST:PORT`, over UDP; port 0 picks a free one.
    #[must_use]
    pub fn on(listen: &str) -> Self {
        Self { listen: listen.to_owned(), advertise: Vec::new() }
    }

    /// Names an address under which others reach it, such as that of a router that forwards a port, instead of the one
    /// it listens on.
    #[must_use]
    pub fn advertise(mut self, address: Address) -> Self {
        self.advertise.push(address);
        self
    }
}

#[cfg(feature = "quic")]
impl From<Quic> for Kept {
    fn from(from: Quic) -> Self {
        Self::of(from.listen, &from.advertise)
    }
}

#[cfg(feature = "quic")]
impl TryFrom<Kept> for Quic {
    type Error = eid_transport::ParseAddressError;

    fn try_from(kept: Kept) -> Result<Self, Self::Error> {
        let advertise = kept.addresses()?;
        Ok(Self { listen: kept.listen, advertise })
    }
}

#[cfg(feature = "quic")]
impl eid_sync::TransportConfig for Quic {
    const SCHEME: &'static str = "quic";
    const VERSION: u32 = 1;
}

#[cfg(feature = "quic")]
impl From<Quic> for Listener {
    fn from(quic: Quic) -> Self {
        let make = move |key| -> Arc<dyn Transport> {
            let mut config = eid_quic::QuicConfig::listening(key, &quic.listen);
            config.advertise = quic.advertise.clone();
            Arc::new(eid_quic::QuicTransport::new(config))
        };
        Self { make: Arc::new(make), only_one: false }
    }
}

/// iroh: for devices wherever they are. Links go straight where the network lets them, and over a relay, which sees who
/// talks to whom and nothing else, where it does not.
///
/// An instance has one endpoint, for dialling and for listening: listening again takes the place of the one before, and
/// ends its connections.
#[cfg(feature = "iroh")]
#[derive(Debug, Clone)]
pub struct Iroh {
    relay: Relay,
    bind: Option<std::net::SocketAddr>,
    search: Search,
    relayed_only: bool,
}

#[cfg(feature = "iroh")]
impl Default for Iroh {
    /// Over the relays of the makers of iroh, which are run for the public.
    fn default() -> Self {
        Self::over(Relay::Public)
    }
}

#[cfg(feature = "iroh")]
impl Iroh {
    /// Listens on every interface and over these relays.
    #[must_use]
    pub fn over(relay: Relay) -> Self {
        Self { relay, bind: None, search: Search::Off, relayed_only: false }
    }

    /// Binds this socket instead of one on every interface; port 0 picks one.
    #[must_use]
    pub fn on(self, socket: std::net::SocketAddr) -> Self {
        Self { bind: Some(socket), ..self }
    }

    /// Never goes straight: peers see the relays, and not where this device is.
    #[must_use]
    pub fn by_relays_only(self) -> Self {
        Self { relayed_only: true, ..self }
    }

    /// Shows this device to others on the local network, and finds them there, by multicast DNS.
    #[cfg(feature = "mdns")]
    #[must_use]
    pub fn find_locally(self) -> Self {
        Self { search: Search::Local, ..self }
    }
}

#[cfg(feature = "iroh")]
impl From<Iroh> for Listener {
    fn from(iroh: Iroh) -> Self {
        let make = move |key| -> Arc<dyn Transport> {
            let mut config = eid_iroh::IrohConfig::listening(key);
            config.relay = iroh.relay.clone();
            config.bind = iroh.bind;
            config.search = iroh.search;
            config.relayed_only = iroh.relayed_only;
            Arc::new(eid_iroh::IrohTransport::new(config))
        };
        Self { make: Arc::new(make), only_one: true }
    }
}
