//! The engine: transports, peers, sessions.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_lock::{Mutex as AsyncMutex, Semaphore};
use eid_core::dag::{Replica, tips_hash};
use eid_core::{Permission, PublicKey, SecretKey, TreeId};
use eid_proto::message::{LiveMessage, Request, Response};
use eid_proto::{
    FEATURE_LIVE, FEATURE_ZSTD, FEATURES, Handshake, HandshakeError, Identity, Known, RefusalCode, Rung,
    Session, SessionError, Side, Summary, Text,
};
use eid_store::{EntryStore, StoreError, Watch};
use eid_transport::{
    Address, BoxFuture, Connection, Link, LinkBytes, LinkError, ListenError, Received, Transport,
};

use crate::access::{Access, Offered, TreeSummary};
use crate::conduct::Conduct;
use crate::control::{Caller, Control, States, answer_requests, greet, states_for};
use crate::drive::{Context, drive};
use crate::error::SyncError;
use crate::events::{Events, Publisher, SyncEvent};
use crate::gaps::Gaps;
use crate::hub::Hub;
use crate::keep::Keepers;
use crate::ledger::{Ledger, SyncFailure};
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_KEY_MAX, DIALLING_MS, HANDSHAKE_MS, IDLE_MS, MEETINGS_MAX,
    MEMORY_BYTES_MAX, SESSIONS_PER_CONNECTION_MAX, UNPROVEN_MAX,
};
use crate::live::LiveLinks;
use crate::memory::Memory;
use crate::peers::{PeerInfo, PeerStatus, Peers};
use crate::place::Place;
use crate::progress::Meter;
use crate::race::{Breakers, Door};
use crate::rate::{Bandwidth, Capped, Caps};
use crate::registry::{Registry, TransportInfo};
use crate::relations::Relations;
use crate::report::SessionReport;
use crate::route::{Log, Scope};
use crate::runtime::{Runtime, blocking, within};
use crate::seats::Seats;
use crate::settings::{Settings, TransportConfig};
use crate::signal::{Signal, first_of};
use crate::status::Transfers;
use crate::ticket::DatabaseTicket;

/// What can be chosen of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What this device calls itself towards peers.
    pub name: String,
    /// The ladder of every session begins at this rung: for tests and measurements.
    pub first_rung: Option<Rung>,
    /// See [`MEMORY_BYTES_MAX`].
    pub memory_bytes_max: usize,
    /// Whether batches of entries are compressed.
    pub compression: Compression,
    /// How many bytes a second may go.
    pub bandwidth: Bandwidth,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            first_rung: None,
            memory_bytes_max: MEMORY_BYTES_MAX,
            compression: Compression::default(),
            bandwidth: Bandwidth::default(),
        }
    }
}

/// Whether batches of entries are compressed on their way. What is stored is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// With peers that do the same, wherever it makes a batch a tenth smaller. Without the cargo feature `zstd` it is as
    /// `Never`.
    #[default]
    WhereItPays,
    /// Peers are told that none is read here.
    Never,
}

impl Compression {
    /// What is offered to peers.
    fn features(self) -> u64 {
        match self {
            Self::WhereItPays => FEATURES,
            Self::Never => FEATURES & !FEATURE_ZSTD,
        }
    }
}

/// Synchronises the databases of one store with peers. Cheap to clone: all clones are one engine.
#[derive(Clone)]
pub struct SyncEngine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<EntryStore>,
    device: Arc<SecretKey>,
    pub(crate) access: Arc<dyn Access>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) relations: Relations,
    pub(crate) peers: Peers,
    /// Peers that were dialled.
    dialled: Mutex<Vec<Weak<PeerInner>>>,
    pub(crate) hub: Arc<Hub>,
    /// The engine was stopped so often: who keeps something in step ends then.
    pub(crate) stopped: Signal,
    name: Mutex<String>,
    compression: Mutex<Compression>,
    first_rung: Option<Rung>,
    transports: Registry,
    settings: Settings,
    pub(crate) publisher: Arc<Publisher>,
    connections: Arc<AtomicUsize>,
    /// Connections whose peer has not proven who it is.
    unproven: Arc<AtomicUsize>,
    seats: Arc<Seats>,
    sessions: Arc<AtomicUsize>,
    memory: Arc<Memory>,
    conduct: Arc<Mutex<Conduct>>,
    gaps: Arc<Gaps>,
    caps: Arc<Caps>,
    pub(crate) ledger: Ledger,
    pub(crate) transfers: Transfers,
    pub(crate) keepers: Arc<Keepers>,
    pub(crate) breakers: Breakers,
    /// Places for peers that are met because they are kept in step.
    pub(crate) meetings: Semaphore,
    /// The same for those that somebody flushes and waits for.
    pub(crate) flushes: Semaphore,
    ending: Ending,
    _watch: Watch,
}

/// A peer that this device has dialled, and that has proven its key. Dropping the last clone closes the connection.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<PeerInner>,
}

struct PeerInner {
    connection: Arc<dyn Connection>,
    control: AsyncMutex<Control>,
    key: PublicKey,
    name: String,
    address: Address,
    handshake_bytes: u64,
    /// States of databases that it told when it was dialled.
    states: Vec<[u8; 8]>,
    features: u64,
    log: Log,
    /// It was hung up.
    closed: AtomicBool,
    publisher: Arc<Publisher>,
    /// Whether it was told that it is connected, and not yet that it is not.
    is_told: AtomicBool,
}

impl PeerInner {
    fn tell_gone(&self) {
        if self.is_told.swap(false, Ordering::SeqCst) {
            self.publisher.publish(&SyncEvent::Disconnected { peer: self.key });
        }
    }
}

impl Drop for PeerInner {
    fn drop(&mut self) {
        self.tell_gone();
    }
}

impl Peer {
    /// Its device key.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.inner.key
    }

    /// What it calls itself. Comes from the network: escape it before a terminal sees it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where it was reached.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Bytes of frames of the handshake, both ways.
    #[must_use]
    pub fn handshake_bytes(&self) -> u64 {
        self.inner.handshake_bytes
    }

    pub(crate) fn log(&self) -> &Log {
        &self.inner.log
    }

    /// Closes the connection.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.tell_gone();
        self.inner.connection.close().await;
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("key", &self.inner.key)
            .field("address", &self.inner.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SyncEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncEngine")
            .field("device", &self.inner.device.public())
            .field("transports", &self.inner.transports)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SyncEngine {
    /// Makes an engine. It does nothing by itself: it neither listens nor dials until it is told to.
    #[must_use]
    pub fn new(
        store: Arc<EntryStore>,
        device: Arc<SecretKey>,
        access: Arc<dyn Access>,
        runtime: Arc<dyn Runtime>,
        config: EngineConfig,
    ) -> Self {
        let keepers: Arc<Keepers> = Arc::default();
        let inner = Inner {
            caps: Arc::new(Caps::new(&store, Arc::clone(&runtime), config.bandwidth)),
            settings: Settings::in_store(&store),
            ledger: Ledger::in_store(&store),
            transfers: Transfers::default(),
            breakers: Breakers::default(),
            meetings: Semaphore::new(MEETINGS_MAX),
            flushes: Semaphore::new(MEETINGS_MAX),
            ending: Ending::default(),
            _watch: keepers.watch(&store),
            keepers,
            relations: Relations::new(Arc::clone(&store)),
            peers: Peers::in_store(&store),
            dialled: Mutex::default(),
            hub: Arc::new(Hub::new(&store)),
            stopped: Signal::default(),
            store,
            device,
            access,
            runtime,
            name: Mutex::new(config.name),
            compression: Mutex::new(config.compression),
            first_rung: config.first_rung,
            transports: Registry::default(),
            publisher: Arc::default(),
            connections: Arc::default(),
            unproven: Arc::default(),
            seats: Arc::default(),
            sessions: Arc::default(),
            memory: Arc::new(Memory::new(config.memory_bytes_max)),
            conduct: Arc::default(),
            gaps: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The key that this device proves to peers.
    #[must_use]
    pub fn device(&self) -> PublicKey {
        self.inner.device.public()
    }

    /// Bytes of entries that have arrived in all sessions and are not stored yet.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.inner.memory.held()
    }

    /// Changes what this device calls itself in later handshakes.
    pub fn set_name(&self, name: &str) {
        name.clone_into(&mut lock(&self.inner.name));
    }

    /// Changes whether batches of entries are compressed, on later connections.
    pub fn set_compression(&self, compression: Compression) {
        *lock(&self.inner.compression) = compression;
    }

    /// Caps how many bytes of frames may go in a second, from here on, in what runs too. What is capped goes slower, and
    /// peers take turns: none of them waits for ever, and what is written here does not wait at all.
    pub fn set_bandwidth(&self, bandwidth: Bandwidth) {
        self.inner.caps.set(bandwidth);
    }

    /// The caps as they are.
    #[must_use]
    pub fn bandwidth(&self) -> Bandwidth {
        self.inner.caps.bandwidth()
    }

    /// Caps one peer otherwise than the rest, also after a restart; with `None` no more.
    pub fn set_peer_bandwidth(&self, peer: &PublicKey, per_second: Option<u64>) -> Result<(), SyncError> {
        Ok(self.inner.caps.set_peer(peer, per_second)?)
    }

    /// The cap of a peer.
    #[must_use]
    pub fn peer_bandwidth(&self, peer: &PublicKey) -> Option<u64> {
        self.inner.caps.of_peer(peer)
    }

    /// Adds a transport under a name; one that had the name is shut down. It dials at once and listens after
    /// [`Self::accept_connections`]. Several of one scheme are tried one after another.
    pub fn register_transport(&self, name: &str, transport: Arc<dyn Transport>) {
        if let Some(before) = self.inner.transports.put(name, transport) {
            self.inner.runtime.spawn(Box::pin(async move { before.shutdown().await }));
        }
    }

    /// Adds a transport under a name of its own, made of its scheme.
    pub fn add_transport(&self, transport: Arc<dyn Transport>) -> String {
        self.inner.transports.add(transport)
    }

    /// Takes a transport away and shuts it down, with its connections. Gives whether there was one of this name.
    pub async fn remove_transport(&self, name: &str) -> bool {
        let Some(transport) = self.inner.transports.remove(name) else { return false };
        transport.shutdown().await;
        true
    }

    /// Every transport, what it does, and where others reach it.
    #[must_use]
    pub fn transports(&self) -> Vec<TransportInfo> {
        self.inner.transports.list()
    }

    /// Puts a transport in the place of all of its scheme, which are shut down: for one whose device is reached at one
    /// endpoint only.
    pub async fn replace_transport(&self, transport: Arc<dyn Transport>) {
        let replaced = self.inner.transports.remove_scheme(transport.scheme());
        self.inner.transports.add(transport);
        for transport in replaced {
            transport.shutdown().await;
        }
    }

    /// Lets every transport listen, and serves whoever dials. A transport that cannot listen does not stop the
    /// others: its error is in the list that comes back. Until then nobody is let in.
    ///
    /// # Errors
    /// When there is no transport, or none could listen.
    pub async fn accept_connections(&self) -> Result<Vec<ListenError>, SyncError> {
        let (mut failed, mut listening) = (Vec::new(), 0);
        for transport in self.inner.transports.all() {
            match transport.listen().await {
                Ok(()) => {
                    listening += 1;
                    if self.inner.transports.listens(&transport) {
                        let (inner, ending) = (Arc::downgrade(&self.inner), Arc::clone(&self.inner.ending.0));
                        self.inner.runtime.spawn(Box::pin(accept_loop(inner, ending, transport)));
                    }
                }
                Err(error) => {
                    self.inner.transports.failed(&transport, &error);
                    failed.push(error);
                }
            }
        }
        if listening > 0 {
            return Ok(failed);
        }
        Err(failed.pop().map_or_else(|| SyncError::NoTransport("any".to_owned()), SyncError::Listen))
    }

    /// Remembers how a transport is made, under its name.
    ///
    /// # Errors
    /// [`SyncError::Setting`] when the name or the config is too long, or there are too many.
    pub fn save_transport_config<T: TransportConfig>(&self, name: &str, config: &T) -> Result<(), SyncError> {
        self.inner.settings.save_transport(name, config)
    }

    /// How a transport of this name is made, if that is remembered.
    ///
    /// # Errors
    /// [`SyncError::Setting`] when it is of another scheme, or of a form that this type does not read.
    pub fn load_transport_config<T: TransportConfig>(&self, name: &str) -> Result<Option<T>, SyncError> {
        self.inner.settings.load_transport(name)
    }

    /// Remembers no more how a transport is made.
    pub fn forget_transport_config(&self, name: &str) -> Result<(), SyncError> {
        self.inner.settings.forget_transport(name)
    }

    /// The names of the transports of which it is remembered how they are made, each with its scheme.
    pub fn transport_configs(&self) -> Result<Vec<(String, String)>, SyncError> {
        self.inner.settings.transports()
    }

    /// Remembers a text under a name, in rows of this device; with `None` no more.
    ///
    /// # Errors
    /// [`SyncError::Setting`] when one of them is too long, or there are too many.
    pub fn set_setting(&self, name: &str, value: Option<&str>) -> Result<(), SyncError> {
        self.inner.settings.set(name, value)
    }

    /// The text that is remembered under a name.
    pub fn get_setting(&self, name: &str) -> Result<Option<String>, SyncError> {
        self.inner.settings.get(name)
    }

    /// Stops listening, closes every connection of every transport, forgets the transports, and keeps nothing in step any
    /// more.
    pub async fn stop_server(&self) {
        self.inner.stopped.raise();
        for transport in self.inner.transports.clear() {
            transport.shutdown().await;
        }
    }

    /// As [`Self::stop_server`], and waits for nothing: for who cannot, such as whoever drops what holds the engine.
    pub fn stop_soon(&self) {
        self.inner.stopped.raise();
        for transport in self.inner.transports.clear() {
            self.inner.runtime.spawn(Box::pin(async move { transport.shutdown().await }));
        }
    }

    /// Where others reach this device.
    #[must_use]
    pub fn server_addresses(&self) -> Vec<Address> {
        self.inner.transports.all().iter().flat_map(|transport| transport.addresses()).collect()
    }

    /// What happens from this moment on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.inner.publisher.subscribe()
    }

    /// What is remembered of a peer about a database: how far each durably holds the other's log.
    pub fn known(&self, peer: &PublicKey, tree: &TreeId) -> Result<Known, SyncError> {
        Ok(self.inner.relations.load(peer, tree)?)
    }

    /// The same for every peer that there was a session with about a database.
    pub fn known_peers(&self, tree: &TreeId) -> Result<Vec<(PublicKey, Known)>, SyncError> {
        Ok(self.inner.relations.of_tree(tree)?)
    }

    /// Forgets what is remembered of all peers about a database.
    pub fn forget(&self, tree: &TreeId) -> Result<(), SyncError> {
        self.inner.ledger.forget(&tree.0)?;
        Ok(self.inner.relations.forget(tree)?)
    }

    /// Forgets what is remembered of a peer about all databases.
    pub fn forget_peer(&self, peer: &PublicKey) -> Result<(), SyncError> {
        self.inner.ledger.forget(&peer.0)?;
        Ok(self.inner.relations.forget_peer(peer)?)
    }

    /// The book in which peers are remembered.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    /// The peers that are remembered.
    pub fn list_peers(&self) -> Result<Vec<PeerInfo>, SyncError> {
        self.inner.peers.list()
    }

    /// Remembers a peer before it is met, and where it is reached.
    pub fn register_peer(&self, peer: PublicKey, name: &str, addresses: &[Address]) -> Result<(), SyncError> {
        self.inner.peers.register(peer, name, addresses)
    }

    /// Remembers a further address of a peer: it is tried after those where the peer was reached.
    pub fn add_peer_address(&self, peer: &PublicKey, address: &Address) -> Result<(), SyncError> {
        self.inner.peers.add_address(peer, address)
    }

    /// Changes what this device has to do with a peer, at once: the connections of one that is blocked are closed.
    pub fn update_peer_status(&self, peer: &PublicKey, status: PeerStatus) -> Result<(), SyncError> {
        let is_changed = self.inner.peers.set_status(peer, status)?;
        if status == PeerStatus::Blocked {
            self.hang_up(peer);
        }
        if is_changed {
            self.inner.publisher.publish(&SyncEvent::Status { peer: *peer, status });
        }
        Ok(())
    }

    /// Closes every connection with a peer; nobody waits for that.
    fn hang_up(&self, peer: &PublicKey) {
        let mut connections = self.inner.seats.of(peer);
        let dialled: Vec<_> = lock(&self.inner.dialled).iter().filter_map(Weak::upgrade).collect();
        let dialled = dialled.into_iter().filter(|dialled| dialled.key == *peer);
        connections.extend(dialled.map(|dialled| Arc::clone(&dialled.connection)));
        for connection in connections {
            self.inner.runtime.spawn(Box::pin(async move { connection.close().await }));
        }
    }

    /// The peers that there was a session with about a database.
    pub fn peers_of(&self, tree: &TreeId) -> Result<Vec<PublicKey>, SyncError> {
        Ok(self.known_peers(tree)?.into_iter().map(|(peer, _)| peer).collect())
    }

    /// The databases about which there was a session with a peer.
    pub fn trees_of(&self, peer: &PublicKey) -> Result<Vec<TreeId>, SyncError> {
        Ok(self.inner.relations.of_peer(peer)?)
    }

    /// The schemes of the addresses that can be dialled.
    #[must_use]
    pub fn schemes(&self) -> Vec<String> {
        let mut schemes: Vec<String> =
            self.inner.transports.all().iter().map(|transport| transport.scheme().to_owned()).collect();
        schemes.sort_unstable();
        schemes.dedup();
        schemes
    }

    /// Dials a peer, proves this device's key and further keys to it, and has it prove its own.
    ///
    /// With `expected`, whoever else answers is left before this device says who it is.
    pub async fn connect_to_peer(
        &self,
        address: &Address,
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
    ) -> Result<Peer, SyncError> {
        self.allowed(expected.as_ref())?;
        let connection = self.dial(address, expected).await?;
        self.greet_server(connection, address, expected, keys, None).await
    }

    /// # Errors
    /// [`SyncError::Blocked`].
    pub(crate) fn allowed(&self, peer: Option<&PublicKey>) -> Result<(), SyncError> {
        match peer.filter(|peer| self.inner.peers.is_blocked(peer)) {
            Some(blocked) => Err(SyncError::Blocked(*blocked)),
            None => Ok(()),
        }
    }

    pub(crate) async fn dial(
        &self,
        address: &Address,
        expected: Option<PublicKey>,
    ) -> Result<Arc<Capped>, SyncError> {
        let mut failure = SyncError::NoTransport(address.scheme().to_owned());
        for transport in self.inner.transports.of_scheme(address.scheme()) {
            let dialling = match expected {
                Some(expected) => transport.dial_expecting(address, expected),
                None => transport.dial(address),
            };
            match within(&*self.inner.runtime, DIALLING_MS, dialling).await {
                Some(Ok(connection)) => return Ok(Capped::new(connection, &self.inner.caps)),
                Some(Err(error)) => failure = error.into(),
                None => failure = SyncError::TimedOut { what: "dialling", ms: DIALLING_MS },
            }
        }
        Err(failure)
    }

    pub(crate) async fn greet_server(
        &self,
        connection: Arc<Capped>,
        address: &Address,
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
        door: Option<&Door>,
    ) -> Result<Peer, SyncError> {
        let runtime = &*self.inner.runtime;
        let mut link = within(runtime, HANDSHAKE_MS, connection.open())
            .await
            .ok_or(SyncError::TimedOut { what: "opening a link", ms: HANDSHAKE_MS })??;
        let handshake = Handshake::client(self.inner.identity(&*connection), expected, keys.to_vec());
        let none: &States<'_> = &|_| Box::pin(async { Vec::new() });
        let established = match greet(handshake, &mut *link, runtime, none, door).await {
            Ok(established) => established,
            Err(error) => {
                connection.close().await;
                return Err(error);
            }
        };
        connection.is_of(established.peer);
        let LinkBytes { sent, received } = link.bytes();
        let inner = PeerInner {
            connection,
            control: AsyncMutex::new(Control::new(link)),
            key: established.peer,
            name: established.name,
            address: address.clone(),
            handshake_bytes: sent + received,
            states: established.states,
            features: established.features,
            log: Log::default(),
            closed: AtomicBool::new(false),
            publisher: Arc::clone(&self.inner.publisher),
            is_told: AtomicBool::new(false),
        };
        let peer = Peer { inner: Arc::new(inner) };
        {
            let mut dialled = lock(&self.inner.dialled);
            dialled.retain(|other| other.strong_count() > 0);
            dialled.push(Arc::downgrade(&peer.inner));
        }
        // It is in the list by now, where a peer that is blocked later is looked for.
        if let Err(error) = self.allowed(Some(&peer.key())) {
            peer.close().await;
            return Err(error);
        }
        self.note_met(&peer).await?;
        peer.inner.is_told.store(true, Ordering::SeqCst);
        self.inner.publisher.publish(&SyncEvent::Connected {
            peer: peer.key(),
            name: peer.name().to_owned(),
            via: Some(address.clone()),
        });
        Ok(peer)
    }

    /// Remembers where a peer was met that is known: an address that is tried once is remembered by who tries it.
    async fn note_met(&self, peer: &Peer) -> Result<(), SyncError> {
        let (peers, now_ms) = (self.inner.peers.clone(), self.inner.runtime.now_ms());
        let (key, via, name) = (peer.key(), peer.address().clone(), peer.name().to_owned());
        let noting = blocking(&*self.inner.runtime, move || {
            if peers.is_known(&key, &via)? {
                peers.met(key, &via, Some(name.as_str()).filter(|name| !name.is_empty()), now_ms)?;
            }
            Ok(())
        });
        noting.await.ok_or(SyncError::Stopped)?
    }

    /// Remembers what failed at some addresses, of those that are known.
    pub(crate) async fn note_failed(
        &self,
        addresses: &[Address],
        error: &SyncError,
    ) -> Result<(), SyncError> {
        let failed: Vec<(Address, String)> = match error {
            SyncError::NoWay(ways) => {
                ways.iter().map(|way| (way.address.clone(), chain(&way.error))).collect()
            }
            error => addresses.iter().map(|address| (address.clone(), chain(error))).collect(),
        };
        let (peers, now_ms) = (self.inner.peers.clone(), self.inner.runtime.now_ms());
        let noting = blocking(&*self.inner.runtime, move || {
            failed.iter().try_for_each(|(address, error)| peers.failed(address, error, now_ms))
        });
        noting.await.ok_or(SyncError::Stopped)?
    }

    /// Remembers that databases were found to be equal at a peer that was asked at that time.
    pub(crate) async fn note_equal(
        &self,
        peer: PublicKey,
        trees: Vec<TreeId>,
        asked_ms: u64,
    ) -> Result<(), SyncError> {
        let (ledger, now_ms) = (self.inner.ledger.clone(), self.inner.runtime.now_ms());
        let noting =
            blocking(&*self.inner.runtime, move || ledger.record_equal(&peer, &trees, asked_ms, now_ms));
        noting.await.ok_or(SyncError::Stopped)?
    }

    /// Whether there is a connection with a peer, whoever has dialled.
    pub(crate) fn is_connected(&self, peer: &PublicKey) -> bool {
        let is_dialled = |dialled: &Weak<PeerInner>| {
            dialled
                .upgrade()
                .is_some_and(|dialled| dialled.key == *peer && !dialled.closed.load(Ordering::SeqCst))
        };
        !self.inner.seats.of(peer).is_empty() || lock(&self.inner.dialled).iter().any(is_dialled)
    }

    /// Synchronises one database with a peer, in both directions.
    pub async fn sync_tree_with_peer(&self, peer: &Peer, tree: TreeId) -> Result<SessionReport, SyncError> {
        let (_, result) = self.session_with(peer, tree).await;
        result
    }

    /// Runs a session as its initiator. The first report says how far it got, whatever became of it.
    pub(crate) async fn session_with(
        &self,
        peer: &Peer,
        tree: TreeId,
    ) -> (Option<SessionReport>, Result<SessionReport, SyncError>) {
        self.session_noting(peer, tree, Arc::default()).await
    }

    /// The same, and takes note when there is much to do.
    pub(crate) async fn session_noting(
        &self,
        peer: &Peer,
        tree: TreeId,
        is_large: Arc<AtomicBool>,
    ) -> (Option<SessionReport>, Result<SessionReport, SyncError>) {
        let mut context = self.inner.context(peer.key(), Arc::new([peer.key()]), false);
        context.compresses = peer.inner.features & FEATURE_ZSTD != 0;
        context.is_large = is_large;
        let (inner, key) = (Arc::clone(&self.inner), peer.key());
        let begin = move || inner.relations.load(&key, &tree);
        let known = match blocking(&*self.inner.runtime, begin).await {
            Some(Ok(known)) => known,
            Some(Err(error)) => return (None, Err(error.into())),
            None => return (None, Err(SyncError::Stopped)),
        };
        let mut link = match peer.inner.connection.open().await {
            Ok(link) => link,
            Err(error) => {
                let error = error.into();
                peer.inner.log.note(None, Some(&error));
                return (None, Err(error));
            }
        };
        let session = Session::initiator(tree, known).beginning_at(self.inner.first_rung);
        let session = session.told(&peer.inner.states);
        let via = Some(peer.address().clone());
        let (mut report, result) = self.inner.run(session, &mut *link, &context, via).await;
        report.handshake_bytes = peer.handshake_bytes();
        peer.inner.log.note(Some(&report), result.as_ref().err());
        self.inner.tell(&report, &result).await;
        let result = result.map(|()| report.clone());
        (Some(report), result)
    }

    /// Synchronises one database, or with `None` every one that both may see ([`Self::sync_all`]), over a connection of
    /// its own.
    ///
    /// # Errors
    /// For one database, whatever ended its session. For all, only what ended the whole: a database whose session
    /// ended early has a report that is not complete.
    pub async fn sync_with_peer(
        &self,
        address: &Address,
        tree: Option<TreeId>,
    ) -> Result<Vec<SessionReport>, SyncError> {
        let peer = self.connect_to_peer(address, None, &[]).await?;
        let result = match tree {
            Some(tree) => self.sync_tree_with_peer(&peer, tree).await.map(|report| vec![report]),
            None => self.sync_all(&peer).await,
        };
        peer.close().await;
        result
    }

    /// The databases that a peer lets this device read.
    pub async fn discover_peer_trees(&self, peer: &Peer) -> Result<Vec<Offered>, SyncError> {
        let (response, _, _) = self.request(peer, &Request::Discover).await?;
        let Response::Discover(list) = response else { return Err(SyncError::Misplaced) };
        let offered = |info: eid_proto::message::TreeInfo| Offered {
            summary: TreeSummary {
                tree: TreeId(info.tree),
                title: info.title.into_string(),
                entries: info.entries,
                changed_ms: info.changed_ms,
            },
            right: info.right.into(),
        };
        Ok(list.into_vec().into_iter().map(offered).collect())
    }

    /// Redeems the invite of a ticket, if it has one, and brings the whole database here, from whichever of its addresses
    /// leads to the server that made it ([`Self::connect_to_any`]); when a link dies, over another ([`crate::Route`]).
    pub async fn join(&self, ticket: &DatabaseTicket, name: &str) -> Result<SessionReport, SyncError> {
        self.join_as(ticket, name, &[]).await
    }

    /// The same for a user of this device, who proves these keys beside the invite: the first of them is granted what it
    /// promises.
    pub async fn join_as(
        &self,
        ticket: &DatabaseTicket,
        name: &str,
        keys: &[Arc<SecretKey>],
    ) -> Result<SessionReport, SyncError> {
        let invite = ticket.invite.iter().cloned().map(Arc::new);
        let invite: Vec<Arc<SecretKey>> = invite.chain(keys.iter().cloned()).collect();
        let mut route = self.route(&ticket.addresses, Some(ticket.key), &invite).await?;
        let joined = async {
            if ticket.invite.is_some() {
                route.redeem(ticket.db, name).await?;
            }
            route.sync(Scope::One(ticket.db)).await
        };
        let joined = joined.await;
        route.close().await;
        // One database, one report.
        joined?.pop().ok_or(SyncError::Misplaced)
    }

    /// The same as [`Self::join`].
    pub async fn sync_with_ticket(
        &self,
        ticket: &DatabaseTicket,
        name: &str,
    ) -> Result<SessionReport, SyncError> {
        self.join(ticket, name).await
    }

    /// Asks a peer for what an invite promises that was proven to it when it was dialled.
    pub async fn redeem(&self, peer: &Peer, tree: TreeId, name: &str) -> Result<Permission, SyncError> {
        let request = Request::Redeem { tree: tree.0, name: Text::new(name) };
        let (response, _, _) = self.request(peer, &request).await?;
        let Response::Granted(right) = response else { return Err(SyncError::Misplaced) };
        Ok(right.into())
    }

    /// What keeps databases in step with a peer; nothing when it does not know how.
    pub(crate) fn live_links(&self, peer: &Peer) -> Option<Arc<LiveLinks>> {
        let mut context = self.inner.context(peer.key(), Arc::new([peer.key()]), false);
        context.compresses = peer.inner.features & FEATURE_ZSTD != 0;
        let knows = peer.inner.features & FEATURE_LIVE != 0;
        knows.then(|| LiveLinks::new(Side::Dialler, context, Arc::clone(&self.inner.publisher)))
    }

    /// Runs them until a link breaks.
    pub(crate) async fn drive_links(&self, peer: &Peer, links: &Arc<LiveLinks>) -> Result<(), SyncError> {
        let _registration = self.inner.hub.register(links);
        let done = links.dial(&*peer.inner.connection).await;
        let learnt = Arc::clone(links);
        blocking(&*self.inner.runtime, move || learnt.record()).await.ok_or(SyncError::Stopped)??;
        done
    }

    pub(crate) async fn request(
        &self,
        peer: &Peer,
        request: &Request,
    ) -> Result<(Response, u64, u64), SyncError> {
        peer.inner.control.lock().await.request(request, &*self.inner.runtime).await
    }
}

impl Inner {
    fn identity(&self, connection: &dyn Connection) -> Identity {
        Identity {
            device: Arc::clone(&self.device),
            name: lock(&self.name).clone(),
            binding: connection.binding(),
            proven: connection.proven(),
            nonce: self.runtime.random(),
            features: lock(&self.compression).features(),
        }
    }

    /// What a client that has proven these keys is told when it is let in. A hint: without it sessions say more.
    fn states(&self, keys: Vec<PublicKey>) -> BoxFuture<'static, Vec<[u8; 8]>> {
        let Some(peer) = keys.first().copied() else { return Box::pin(async { Vec::new() }) };
        let (context, runtime) = (self.context(peer, keys.into(), true), Arc::clone(&self.runtime));
        Box::pin(async move {
            let states = blocking(&*runtime, move || states_for(&context)).await;
            states.and_then(Result::ok).unwrap_or_default()
        })
    }

    fn context(&self, peer: PublicKey, keys: Arc<[PublicKey]>, serving: bool) -> Context {
        Context {
            store: Arc::clone(&self.store),
            access: Arc::clone(&self.access),
            runtime: Arc::clone(&self.runtime),
            relations: self.relations.clone(),
            peers: self.peers.clone(),
            peer,
            keys,
            serving,
            gaps: Arc::clone(&self.gaps),
            compresses: false,
            is_large: Arc::default(),
            sessions: Arc::clone(&self.sessions),
            memory: Arc::clone(&self.memory),
            conduct: Arc::clone(&self.conduct),
            hub: Arc::clone(&self.hub),
        }
    }

    /// Databases that take part here, that are meant, and that the peer may read, with the hash of their tips, and those of
    /// which that is not known here.
    #[expect(clippy::type_complexity, reason = "two lists that belong together and go no further")]
    pub(crate) fn shared_with(
        &self,
        peer: &PublicKey,
        is_meant: impl Fn(&TreeId) -> bool,
    ) -> Result<(Vec<(TreeId, [u8; 32])>, Vec<TreeId>), StoreError> {
        let (mut shared, mut others) = (Vec::new(), Vec::new());
        for tree in self.access.trees().into_iter().filter(is_meant) {
            let may_read = self.access.permission(&tree, &[*peer]) >= Some(Permission::Read);
            let Some(snapshot) = self.store.tree(&tree)?.filter(|_| may_read) else {
                others.push(tree);
                continue;
            };
            if snapshot.missing() > 0 {
                // Only a session tells what the peer has by now.
                shared.push((tree, NO_TIPS));
                continue;
            }
            let tips = snapshot.tips().map_err(StoreError::from)?;
            shared.push((tree, tips_hash(tips.iter().map(|(id, _)| id))));
        }
        Ok((shared, others))
    }

    /// Drives a session and measures it.
    async fn run(
        &self,
        session: Session,
        link: &mut dyn Link,
        context: &Context,
        via: Option<Address>,
    ) -> (SessionReport, Result<(), SyncError>) {
        let began_ms = self.runtime.now_ms();
        let (publisher, is_large) = (Arc::clone(&self.publisher), Arc::clone(&context.is_large));
        let transfers = self.transfers.clone();
        let mut meter = Meter::new(publisher, transfers, context.peer, via.clone(), is_large);
        let (done, result) = drive(session, link, context, &mut meter).await;
        let (tree, summary) = done.map_or((None, NOTHING_DONE), |done| (done.tree, done.summary));
        let mut report = SessionReport::new(tree, context.peer, via, began_ms, &summary, link.bytes());
        report.ms = self.runtime.now_ms().saturating_sub(began_ms);
        report.complete &= result.is_ok();
        (report, result)
    }

    /// Remembers how a session ended, and tells it.
    pub(crate) async fn tell(&self, report: &SessionReport, result: &Result<(), SyncError>) {
        let now_ms = self.runtime.now_ms();
        let failure = result.as_ref().err().map(|error| SyncFailure::of(error, now_ms));
        let (ledger, peers, ended) = (self.ledger.clone(), self.peers.clone(), report.clone());
        let remembering =
            blocking(&*self.runtime, move || remember(&ledger, &peers, &ended, failure, now_ms));
        if let Some(Err(error)) = remembering.await {
            tracing::warn!(error = chain(&error), "a session could not be remembered");
        }
        let event = match result {
            Ok(()) => SyncEvent::Session(report.clone()),
            Err(error) => {
                let refusal = match error {
                    SyncError::Session(SessionError::Denied(code)) => Some(*code),
                    error => error.refusal(),
                };
                SyncEvent::Failed { report: report.clone(), refusal, error: chain(error) }
            }
        };
        self.publisher.publish(&event);
    }
}

/// Remembers what a session tells of a peer.
fn remember(
    ledger: &Ledger,
    peers: &Peers,
    report: &SessionReport,
    failure: Option<SyncFailure>,
    now_ms: u64,
) -> Result<(), SyncError> {
    if report.complete {
        match &report.via {
            None => peers.called(report.peer, now_ms)?,
            Some(via) if peers.is_known(&report.peer, via)? => peers.succeeded(report.peer, now_ms)?,
            Some(_) => {}
        }
    }
    // Who asks for what it may not see leaves no trace: anybody could.
    let is_seen = report.turns > 0 && (report.rung.is_some() || report.pulled > 0);
    if report.via.is_some() || is_seen && peers.has_place(&report.peer, now_ms)? {
        ledger.record(report, failure, now_ms)?;
    }
    Ok(())
}

/// The hash of the tips of no replica: whoever is asked says that its own differ.
const NO_TIPS: [u8; 32] = [0; 32];

pub(crate) const NOTHING_DONE: Summary = Summary {
    pulled: 0,
    duplicates: 0,
    refused: 0,
    pull_total: None,
    pushed: 0,
    push_total: None,
    rung: None,
    turns: 0,
    visited: 0,
    filled: 0,
    given: 0,
    missing: 0,
    asked: None,
    theirs: None,
    complete: false,
};

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The report of a database whose tips were found equal without a session, to a question of that time.
pub(crate) fn in_sync(tree: TreeId, peer: &Peer, began_ms: u64, bytes: LinkBytes) -> SessionReport {
    let summary = Summary { rung: Some(Rung::InSync), turns: 2, complete: true, ..NOTHING_DONE };
    let mut report =
        SessionReport::new(Some(tree), peer.key(), Some(peer.address().clone()), began_ms, &summary, bytes);
    report.handshake_bytes = peer.handshake_bytes();
    report
}

/// Takes connections until the transport is shut down, or the engine is gone: it does not keep the engine alive, nor the
/// transport beyond it.
async fn accept_loop(inner: Weak<Inner>, ending: Arc<Signal>, transport: Arc<dyn Transport>) {
    loop {
        // It is raised once, at the end of an engine that was there when this began.
        let ended = async {
            ending.after(0).await;
            None
        };
        let accepted = first_of(vec![transport.accept(), Box::pin(ended)]).await;
        let (Some(connection), Some(serving)) = (accepted, inner.upgrade()) else { break };
        let connection = Capped::new(connection, &serving.caps);
        let runtime = Arc::clone(&serving.runtime);
        runtime.spawn(Box::pin(async move {
            let Some(_place) = Place::take(&serving.connections, CONNECTIONS_MAX) else {
                connection.close().await;
                return;
            };
            if let Err(error) = serve(&serving, &connection).await {
                if let SyncError::Handshake(HandshakeError::Version { ours, theirs }) = error {
                    serving.publisher.publish(&SyncEvent::Incompatible { ours, theirs });
                }
                tracing::debug!(error = chain(&error), "a connection ended");
            }
            connection.close().await;
        }));
    }
    if let Some(inner) = inner.upgrade() {
        inner.transports.stopped(&transport);
    }
}

/// Is raised when the engine that has it is dropped.
#[derive(Default)]
struct Ending(Arc<Signal>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// Serves one connection that somebody else has dialled.
async fn serve(inner: &Arc<Inner>, connection: &Arc<Capped>) -> Result<(), SyncError> {
    let runtime = &*inner.runtime;
    let Some(unproven) = Place::take(&inner.unproven, UNPROVEN_MAX) else {
        return Err(SyncError::Refused(RefusalCode::Busy));
    };
    let Some(Some(mut link)) = within(runtime, HANDSHAKE_MS, connection.accept()).await else {
        return Err(SyncError::TimedOut { what: "the handshake", ms: HANDSHAKE_MS });
    };
    let handshake = Handshake::server(inner.identity(&**connection)).telling();
    let established = greet(handshake, &mut *link, runtime, &|keys| inner.states(keys), None).await?;
    drop(unproven);
    connection.is_of(established.peer);
    let held: Arc<dyn Connection> = Arc::<Capped>::clone(connection);
    let LinkBytes { sent, received } = link.bytes();
    let (peer, name) = (established.peer, established.name.clone());
    let running = Arc::new(AtomicUsize::new(0));
    let (_seat, gone) = Seats::enter(&inner.seats, peer, &held, &running, CONNECTIONS_PER_KEY_MAX);
    if let Some(gone) = gone {
        runtime.spawn(Box::pin(async move { gone.close().await }));
    }
    // It has a seat by now: whoever is blocked later is looked for there.
    if inner.peers.is_blocked(&peer) {
        return Err(SyncError::Blocked(peer));
    }
    inner.publisher.publish(&SyncEvent::Connected { peer, name, via: None });
    // Whoever dials can be dialled.
    inner.keepers.of(&peer).iter().for_each(|keeping| keeping.seen());
    let keys: Arc<[PublicKey]> = established.keys().into();
    let mut context = inner.context(peer, keys, true);
    context.compresses = established.features & FEATURE_ZSTD != 0;
    let caller = Caller { device: peer, further: established.further.into() };

    let control = (Arc::clone(inner), Arc::clone(connection), context.clone(), Arc::clone(&running));
    runtime.spawn(Box::pin(async move {
        let (inner, connection, context, running) = control;
        let busy = || running.load(Ordering::SeqCst) > 0;
        let tell = |event| inner.publisher.publish(&event);
        if let Err(error) = answer_requests(&mut *link, &context, &caller, &tell, &busy).await {
            tracing::debug!(error = chain(&error), "a control link ended");
        }
        connection.close().await;
    }));

    let live = (established.features & FEATURE_LIVE != 0)
        .then(|| LiveLinks::new(Side::Listener, context.clone(), Arc::clone(&inner.publisher)));
    let _registration = live.as_ref().map(|live| inner.hub.register(live));
    while let Some(link) = connection.accept().await {
        let (inner, context, running) = (Arc::clone(inner), context.clone(), Arc::clone(&running));
        let (live, connection) = (live.clone(), Arc::downgrade(connection));
        runtime.spawn(Box::pin(async move {
            let most = SESSIONS_PER_CONNECTION_MAX + live.as_ref().map_or(0, |live| live.attached());
            let place = Place::take(&running, most);
            let ended = answer_link(&inner, link, &context, live, place.as_ref(), sent + received).await;
            if let Some(ended) = ended {
                if let Err(error) = ended {
                    tracing::debug!(error = chain(&error), "a live link ended");
                }
                // What is left of the connection goes on from what was acknowledged, over another.
                if let Some(connection) = connection.upgrade() {
                    connection.close().await;
                }
            }
        }));
    }
    if let Some(live) = live {
        live.end();
        if let Some(Err(error)) = blocking(runtime, move || live.record()).await {
            tracing::warn!(error = chain(&error), "what a peer holds could not be remembered");
        }
    }
    inner.publisher.publish(&SyncEvent::Disconnected { peer });
    Ok(())
}

/// Answers what begins on a link: a session, or live links, of which it gives how they ended.
async fn answer_link(
    inner: &Inner,
    mut link: Box<dyn Link>,
    context: &Context,
    live: Option<Arc<LiveLinks>>,
    place: Option<&Place>,
    handshake_bytes: u64,
) -> Option<Result<(), SyncError>> {
    let first = within(&*inner.runtime, IDLE_MS, link.recv()).await;
    if let (Some(Ok(Received::Frame(frame))), Some(live)) = (&first, &live)
        && LiveMessage::is(frame)
    {
        let ended = live.answer(frame, link).await;
        if ended.is_some() {
            live.end();
        }
        return ended;
    }
    let Some(first) = first else {
        let report =
            SessionReport::new(None, context.peer, None, inner.runtime.now_ms(), &NOTHING_DONE, link.bytes());
        inner.tell(&report, &Err(SyncError::TimedOut { what: "a turn", ms: IDLE_MS })).await;
        return None;
    };
    let link = Box::new(Begun { link, first: Some(first) });
    let mut session = Session::responder().beginning_at(inner.first_rung);
    if place.is_none() {
        session.turn_away(RefusalCode::Busy);
    }
    respond(inner, session, link, context, live.as_deref(), handshake_bytes).await;
    None
}

/// Runs one session as its responder.
async fn respond(
    inner: &Inner,
    session: Session,
    mut link: Box<dyn Link>,
    context: &Context,
    live: Option<&LiveLinks>,
    handshake_bytes: u64,
) {
    if let Some(live) = live {
        live.begin_answer();
    }
    let (mut report, result) = inner.run(session, &mut *link, context, None).await;
    report.handshake_bytes = handshake_bytes;
    if let Some(live) = live {
        live.end_answer(report.tree);
    }
    inner.tell(&report, &result).await;
}

/// A link of which the first word was looked at.
#[derive(Debug)]
struct Begun {
    link: Box<dyn Link>,
    first: Option<Result<Received, LinkError>>,
}

impl Link for Begun {
    fn send(&mut self, frame: bytes::Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        self.link.send(frame)
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        self.link.end_turn()
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        match self.first.take() {
            Some(first) => Box::pin(async { first }),
            None => self.link.recv(),
        }
    }

    fn is_duplex(&self) -> bool {
        self.link.is_duplex()
    }

    fn send_aside(&mut self, frame: bytes::Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        self.link.send_aside(frame)
    }

    fn bytes(&self) -> LinkBytes {
        self.link.bytes()
    }
}
