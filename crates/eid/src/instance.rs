//! One device: its key, its databases, its peers.

use std::collections::BTreeSet;
use std::fmt;
#[cfg(feature = "embedded")]
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use eid_core::{Permission, PublicKey, SecretKey, Slot, TreeId};
use eid_db::{Env, Instance as Db};
use eid_store::{Backend, FsckReport, Memory};
use eid_sync::{
    Bandwidth, Compression, DatabaseTicket, Delivered, EngineConfig, Events, Offered, PeerInfo, PeerStatus,
    Route, Scope, SessionReport, SyncEngine, SyncError, SyncEvent, TokioRuntime, TransportInfo, Undelivered,
};
use eid_transport::Address;

use crate::asking::Asking;
use crate::database::Database;
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;
use crate::indexing::Indexing;
use crate::join::{Join, Joined};
use crate::keep::Wishes;
use crate::listen::Listener;
use crate::offload::offload;
use crate::status::{PeerProgress, Status};
use crate::users::User;

/// One device over one store. A cheap handle: when the last one is gone, and the last database, user and
/// [`PeersInStep`](crate::PeersInStep) of it, the instance stops listening and synchronising, in the background;
/// [`Self::close`] waits for it.
#[derive(Clone)]
pub struct Instance {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    db: Db,
    engine: SyncEngine,
    pub(crate) asking: Asking,
    indexing: Indexing,
    _wishes: Wishes,
}

impl Drop for Inner {
    /// Sessions hold the engine, so it would go on serving as long as anybody is connected.
    fn drop(&mut self) {
        self.engine.stop_soon();
    }
}

/// What became of a synchronisation of all databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// One report for each database that was exchanged.
    pub sessions: Vec<SessionReport>,
    /// Databases that were exchanged with this peer before, and that it has no more or does not give any more.
    pub refused: Vec<TreeId>,
}

impl Synced {
    /// The sessions, when nothing was refused.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`].
    pub fn all(self) -> Result<Vec<SessionReport>, Error> {
        match self.failure() {
            Some(message) => Err(Error::new(ErrorKind::Refused, message)),
            None => Ok(self.sessions),
        }
    }

    fn failure(&self) -> Option<String> {
        let ids: Vec<String> = self.refused.iter().map(ToString::to_string).collect();
        let ids = ids.join(", ");
        (!self.refused.is_empty()).then(|| {
            format!("refused: the peer has no database {ids}, or does not give it to this device any more")
        })
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("device", &self.device()).finish_non_exhaustive()
    }
}

/// How to open an [`Instance`].
#[derive(Debug, Default)]
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    place: Place,
    env: Option<Env>,
    compression: Compression,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Nowhere,
    #[cfg(feature = "embedded")]
    Directory(PathBuf),
    Backend(Arc<dyn Backend>),
}

impl Builder {
    /// In the embedded store in this directory, which is made when it is not there.
    #[cfg(feature = "embedded")]
    pub fn path(self, directory: impl Into<PathBuf>) -> Self {
        Self { place: Place::Directory(directory.into()), ..self }
    }

    /// In memory: gone with the instance.
    pub fn memory(self) -> Self {
        Self { place: Place::Nowhere, ..self }
    }

    /// In this backend.
    pub fn backend(self, backend: Arc<dyn Backend>) -> Self {
        Self { place: Place::Backend(backend), ..self }
    }

    /// With this clock and this randomness instead of the system's.
    pub fn env(self, env: Env) -> Self {
        Self { env: Some(env), ..self }
    }

    /// Compresses what is sent to peers, or not: by default where they read it and it pays.
    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// Opens the instance, or makes it: the device key is made on first use.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`], [`ErrorKind::NotAStore`], [`ErrorKind::NewerFormat`], and whatever the disk says.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(self) -> Result<Instance, Error> {
        let Self { place, env, compression } = self;
        let env = env.unwrap_or_else(Env::system);
        let db = offload(move || {
            let backend = place.open()?;
            Ok::<_, Error>(Db::open(backend, env)?)
        });
        let db = db.await??;
        let runtime = Arc::new(TokioRuntime::current());
        let gate = Arc::new(Gate::new(db.clone()));
        let name = db.display_name()?.unwrap_or_default();
        let config = EngineConfig { name, compression, ..EngineConfig::default() };
        let engine = SyncEngine::new(Arc::clone(db.store()), db.device_key(), gate, runtime, config);
        #[cfg(feature = "http")]
        engine.add_transport(Arc::new(eid_http::HttpTransport::new(eid_http::HttpConfig::default())));
        #[cfg(feature = "quic")]
        {
            let config = eid_quic::QuicConfig::new(db.device_key());
            engine.add_transport(Arc::new(eid_quic::QuicTransport::new(config)));
        }
        #[cfg(feature = "iroh")]
        {
            let config = eid_iroh::IrohConfig::new(db.device_key());
            engine.add_transport(Arc::new(eid_iroh::IrohTransport::new(config)));
        }
        let indexing = Indexing::start(db.clone(), engine.events());
        let wishes = Wishes::tell(&db, &engine);
        let inner = Inner { db, engine, asking: Asking::default(), indexing, _wishes: wishes };
        Ok(Instance { inner: Arc::new(inner) })
    }
}

impl Place {
    fn open(self) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Self::Nowhere => Ok(Arc::new(Memory::new())),
            Self::Backend(backend) => Ok(backend),
            #[cfg(feature = "embedded")]
            Self::Directory(directory) => {
                make_private(&directory)?;
                let opened = eid_store::Embedded::open(&directory, eid_store::EmbeddedConfig::default());
                let name = directory.display();
                Ok(Arc::new(
                    opened.map_err(|cause| Error::from(cause).with_place(&format!("cannot open {name}")))?,
                ))
            }
        }
    }
}

/// Makes the directory, if it is not there, so that only its owner can look into it: the device key will be in it.
#[cfg(feature = "embedded")]
pub(crate) fn make_private(directory: &Path) -> Result<(), Error> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.recursive(true).create(directory) {
        // What is there already and is not a directory is not a store: the store says so.
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::io(format!("cannot make {}", directory.display()), cause))
        }
        _ => Ok(()),
    }
}

impl Instance {
    /// Opens the instance in this directory, or makes it: the device key is made on first use.
    ///
    /// # Errors
    /// As [`Builder::open`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[cfg(feature = "embedded")]
    pub async fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().path(directory.as_ref()).open().await
    }

    /// Begins to say how to open an instance.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    /// The public key of this device.
    #[must_use]
    pub fn device(&self) -> PublicKey {
        self.inner.db.device()
    }

    /// What this device calls itself to others.
    pub fn display_name(&self) -> Result<Option<String>, Error> {
        Ok(self.inner.db.display_name()?)
    }

    /// Changes what this device calls itself to others.
    pub async fn set_display_name(&self, name: &str) -> Result<(), Error> {
        let (db, stored) = (self.inner.db.clone(), name.to_owned());
        offload(move || db.set_display_name(&stored)).await??;
        self.inner.engine.set_name(name);
        Ok(())
    }

    // ---- databases

    /// Finds a database by its name, its id, or the beginning of its id (8 characters or more).
    ///
    /// # Errors
    /// [`ErrorKind::Ambiguous`] when that names several; the message lists their ids.
    pub fn database(&self, name: &str) -> Result<Option<Database>, Error> {
        Ok(self.inner.db.database(name)?.map(|db| Database::new(self.clone(), db)))
    }

    /// Every database of this instance.
    pub fn databases(&self) -> Result<Vec<Database>, Error> {
        let all = self.inner.db.databases()?;
        Ok(all.into_iter().map(|info| self.by_id(info.id)).collect())
    }

    fn by_id(&self, id: TreeId) -> Database {
        Database::new(self.clone(), self.inner.db.database_by_id(id))
    }

    /// Makes a database. Its name here is also the title that its members will see.
    ///
    /// Its recovery key is wiped: use [`Self::create_database_with_recovery`] to be able to get back control of the
    /// database when every device that administers it is lost.
    pub async fn create_database(&self, name: &str) -> Result<Database, Error> {
        Ok(self.create_database_with_recovery(name).await?.0)
    }

    /// Makes a database, and gives the key that outranks every device. It exists nowhere else.
    pub async fn create_database_with_recovery(&self, name: &str) -> Result<(Database, SecretKey), Error> {
        let (db, name) = (self.inner.db.clone(), name.to_owned());
        let created = offload(move || db.create_database(&name)).await??;
        Ok((Database::new(self.clone(), created.database), created.recovery))
    }

    /// Changes the name of a database on this device.
    pub async fn rename_database(&self, database: &Database, name: &str) -> Result<(), Error> {
        let (db, id, name) = (self.inner.db.clone(), database.id(), name.to_owned());
        Ok(offload(move || db.rename(&id, &name)).await??)
    }

    /// Removes a database from this device, with everything that is known of it here.
    pub async fn forget_database(&self, database: &Database) -> Result<(), Error> {
        let (db, engine, id) = (self.inner.db.clone(), self.inner.engine.clone(), database.id());
        offload(move || {
            engine.forget(&id)?;
            Ok(db.forget(&id)?)
        })
        .await?
    }

    /// Checks everything that is stored: recomputes what is derived and compares. `progress` is told how much is done,
    /// and of how much.
    pub async fn verify(
        &self,
        repair: bool,
        mut progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<FsckReport, Error> {
        let store = Arc::clone(self.inner.db.store());
        let report = offload(move || store.fsck(repair, &mut progress)).await??;
        if repair {
            self.inner.indexing.all().await;
        }
        Ok(report)
    }

    // ---- peers

    /// Begins to listen, and gives the addresses under which others reach this instance.
    ///
    /// # Errors
    /// [`ErrorKind::AddressInUse`], [`ErrorKind::InvalidAddress`].
    pub async fn listen(&self, on: impl Into<Listener>) -> Result<Vec<Address>, Error> {
        let listener = on.into();
        let transport = listener.of_device(self.inner.db.device_key());
        transport.listen().await?;
        if listener.is_the_only_one() {
            self.inner.engine.replace_transport(Arc::clone(&transport)).await;
        } else {
            self.inner.engine.add_transport(Arc::clone(&transport));
        }
        self.inner.engine.accept_connections().await?;
        self.go_on_asking().await?;
        Ok(transport.addresses())
    }

    /// Where others reach this instance; empty while it does not listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.inner.engine.server_addresses()
    }

    /// Joins the database of a ticket: await what it gives.
    pub fn join(&self, ticket: &DatabaseTicket) -> Join {
        Join::by(self.device_user(), ticket)
    }

    /// Joins with a ticket that has an invite, or of whose database the right is there already.
    pub(crate) async fn join_now(
        &self,
        ticket: &DatabaseTicket,
        name: Option<&str>,
        user: &User,
    ) -> Result<Joined, Error> {
        let session = self.remembering(ticket, self.bring(ticket, user)).await??;
        let (db, peers) = (self.inner.db.clone(), self.inner.engine.peers().clone());
        let (id, name, now_ms, peer) = (ticket.db, name.map(str::to_owned), self.now_ms(), session.peer);
        let tracking = user.inner().clone();
        let remembering = offload(move || {
            tracking.track(&id)?;
            match name {
                Some(name) => db.rename(&id, &name)?,
                // The title of this moment, so that nobody who changes it later gets between this device and its names.
                None => db.keep_title_as_name(&id)?,
            }
            Ok::<(), Error>(peers.succeeded(peer, now_ms)?)
        });
        remembering.await??;
        let database = self.by_id(ticket.db);
        let database = if user.is_device() { database } else { user.acting_in(&database) };
        Ok(Joined { database, session })
    }

    /// Brings the database of a ticket here, and joins by its invite.
    async fn bring(&self, ticket: &DatabaseTicket, user: &User) -> Result<SessionReport, Error> {
        let own_name = self.display_name()?.unwrap_or_default();
        let invite = ticket.invite.iter().cloned().map(Arc::new);
        let keys: Vec<Arc<SecretKey>> = invite.chain(user.proven()?).collect();
        let mut route = self.meet(ticket, &keys).await?;
        let brought = async {
            if ticket.invite.is_some() {
                route.redeem(ticket.db, &own_name).await?;
            }
            let mut sum = only(route.sync(Scope::One(ticket.db)).await?)?;
            if self.join_by_open_invite(ticket, user).await? {
                sum.go_on(only(route.sync(Scope::One(ticket.db)).await?)?);
            }
            Ok(sum)
        };
        let brought = brought.await;
        route.close().await;
        brought
    }

    /// Meets the server of a ticket; or, when that cannot be met, another one that serves the same and that the ticket names
    /// with its key. What comes from either is verified alike.
    async fn meet(&self, ticket: &DatabaseTicket, keys: &[Arc<SecretKey>]) -> Result<Route, Error> {
        let engine = &self.inner.engine;
        let failure = match engine.route(&ticket.addresses, Some(ticket.key), keys).await {
            Ok(route) => return Ok(route),
            Err(error) => error,
        };
        for other in ticket.others.iter().filter(|_| ticket.invite.is_some()) {
            let address = std::slice::from_ref(&other.address);
            match engine.route(address, Some(other.key), keys).await {
                Ok(route) => return Ok(route),
                Err(error) => tracing::debug!(address = %other.address, %error, "another server was not met"),
            }
        }
        Err(failure.into())
    }

    /// Joins by the invite of a ticket, if it is an open one and the keys of this device have less than it gives. What the
    /// database holds is here. Says whether something was written.
    async fn join_by_open_invite(&self, ticket: &DatabaseTicket, user: &User) -> Result<bool, Error> {
        let Some(invite) = ticket.invite.clone() else { return Ok(false) };
        let (db, user, tree) = (self.inner.db.clone(), user.inner().clone(), ticket.db);
        offload(move || {
            let device = db.database_by_id(tree);
            let settings = device.settings()?;
            let Some(open) = settings.invites().iter().find(|open| open.key == invite.public()) else {
                return Ok(false);
            };
            let mut joins = vec![(device, db.device(), open.permission)];
            if !user.is_device() {
                // So that it is fetched for the user who is logged out.
                joins[0].2 = open.permission.min(Permission::Read);
                joins.push((user.database_by_id(tree), user.key()?, open.permission));
            }
            let mut has_joined = false;
            for (database, key, right) in joins {
                let is_unset = settings.slot(&Slot::Key(key)).is_none();
                if is_unset && settings.permission(&key) < Some(right) {
                    database.join_by(&invite, right)?;
                    has_joined = true;
                }
            }
            Ok(has_joined)
        })
        .await?
    }

    /// Does something with the server of a ticket, and remembers it as soon as it is met: what is cut off can be completed by
    /// a sync.
    pub(crate) async fn remembering<T>(
        &self,
        ticket: &DatabaseTicket,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let (mut events, mut work) = (self.inner.engine.events(), pin!(work));
        let done = loop {
            tokio::select! {
                biased;
                // Before anything arrives.
                Some(event) = events.recv() => self.remember_server(ticket, event).await?,
                done = &mut work => break done,
            }
        };
        // An answer can be there together with the connection that it came over.
        while let Some(event) = events.try_recv() {
            self.remember_server(ticket, event).await?;
        }
        Ok(done)
    }

    async fn remember_server(&self, ticket: &DatabaseTicket, event: Delivered) -> Result<(), Error> {
        let Delivered::Event(SyncEvent::Connected { peer, name, via: Some(via) }) = event else {
            return Ok(());
        };
        if peer != ticket.key && !ticket.others.iter().any(|other| other.key == peer) {
            return Ok(());
        }
        let (peers, now_ms) = (self.inner.engine.peers().clone(), self.now_ms());
        let name = Some(name).filter(|name| !name.is_empty());
        Ok(offload(move || peers.met(peer, &via, name.as_deref(), now_ms)).await??)
    }

    /// Synchronises with whoever answers at an address, both directions: one database, or all that both may see. What the
    /// other side lets this device read and is not here yet comes too, and is tracked by the user of this device. Then builds
    /// the indexes that others have declared, however long that takes.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`], [`ErrorKind::Refused`], [`ErrorKind::TimedOut`]. What has arrived stays.
    pub async fn sync_with(
        &self,
        address: &Address,
        database: Option<&Database>,
        within: Duration,
    ) -> Result<Vec<SessionReport>, Error> {
        self.sync_telling(address, database, within).await?.all()
    }

    /// As [`Self::sync_with`]; of all databases, those that the peer refuses do not hide what became of the others.
    ///
    /// # Errors
    /// As [`Self::sync_with`], except for databases that are refused among several.
    pub async fn sync_telling(
        &self,
        address: &Address,
        database: Option<&Database>,
        within: Duration,
    ) -> Result<Synced, Error> {
        self.sync_at(std::slice::from_ref(address), None, scope_of(database), within).await
    }

    /// As [`Self::sync_telling`], with a device that is known, at whichever of its addresses leads to it. When a link dies,
    /// it goes on over another.
    ///
    /// # Errors
    /// As [`Self::sync_telling`]; [`ErrorKind::NotFound`] when it has no address, and [`ErrorKind::Refused`] when another
    /// device than the one that was met answers.
    pub async fn sync_with_peer(
        &self,
        peer: &PeerInfo,
        database: Option<&Database>,
        within: Duration,
    ) -> Result<Synced, Error> {
        self.sync_at(&peer.addresses, peer.key, scope_of(database), within).await
    }

    /// As [`Self::sync_with_peer`] of all databases, but of no others than those that take part here.
    ///
    /// # Errors
    /// As [`Self::sync_with_peer`].
    pub async fn sync_held_with_peer(&self, peer: &PeerInfo, within: Duration) -> Result<Synced, Error> {
        self.sync_at(&peer.addresses, peer.key, Scope::Held, within).await
    }

    async fn sync_at(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        scope: Scope,
        within: Duration,
    ) -> Result<Synced, Error> {
        let Some(address) = addresses.first() else {
            return Err(Error::new(ErrorKind::NotFound, "the peer has no address"));
        };
        let held = match scope {
            Scope::All => Some(self.held().await?),
            Scope::One(_) | Scope::Held => None,
        };
        let work = self.sync_now(addresses, expected, scope);
        let done = match tokio::time::timeout(within, work).await {
            Ok(done) => done,
            Err(_) => {
                let message = format!("{address} took longer than {} s", within.as_secs());
                Err(Error::new(ErrorKind::TimedOut, message))
            }
        };
        if let Some(held) = held {
            // However it ended: what is left of it comes with what takes part here.
            self.take_up(held).await?;
        }
        let failure = match &done {
            Ok(synced) => synced.failure(),
            Err(error) => Some(error.to_string()),
        };
        if let Some(text) = failure {
            let (peers, address) = (self.inner.engine.peers().clone(), address.clone());
            let now_ms = self.now_ms();
            offload(move || peers.failed(&address, &text, now_ms)).await??;
        }
        let synced = done?;
        self.inner.indexing.after(&synced.sessions).await;
        Ok(synced)
    }

    async fn sync_now(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        scope: Scope,
    ) -> Result<Synced, Error> {
        let engine = &self.inner.engine;
        let db = self.inner.db.clone();
        let keys = offload(move || match &scope {
            Scope::One(tree) => db.keys_to_prove(Some(tree)),
            Scope::Held | Scope::All => db.keys_to_prove(None),
        })
        .await??;
        let mut route = match engine.route(addresses, expected, &keys).await {
            Ok(route) => route,
            Err(error) => {
                self.note_other_ways(addresses, &error).await?;
                return Err(error.into());
            }
        };
        let done = route.sync(scope).await;
        let peer = route.peer().clone();
        route.close().await;
        let peer_key = peer.key();
        let incomplete = match &done {
            Ok(reports) => self.is_left_over(peer_key, reports).await?,
            Err(_) => false,
        };
        let succeeded = done.is_ok() && !incomplete;
        let (peers, now_ms) = (self.inner.engine.peers().clone(), self.now_ms());
        let remembering = offload(move || {
            let name = Some(peer.name()).filter(|name| !name.is_empty());
            peers.met(peer.key(), peer.address(), name, now_ms)?;
            if succeeded {
                peers.succeeded(peer.key(), now_ms)?;
            }
            Ok::<(), Error>(())
        });
        remembering.await??;
        let reports = done?;
        if incomplete {
            let message = "a session ended before everything was exchanged";
            return Err(Error::new(ErrorKind::Incomplete, message));
        }
        let refused = match scope {
            Scope::One(_) => Vec::new(),
            Scope::Held | Scope::All => self.refused_by(peer_key, &reports).await?,
        };
        Ok(Synced { sessions: reports, refused })
    }

    /// Remembers of each address but the first, of which the whole failure is remembered, why it did not lead to the peer.
    async fn note_other_ways(&self, addresses: &[Address], error: &SyncError) -> Result<(), Error> {
        let SyncError::NoWay(ways) = error else { return Ok(()) };
        let others = ways.iter().filter(|way| addresses.first() != Some(&way.address));
        let others: Vec<_> = others.map(|way| (way.address.clone(), way.error.to_string())).collect();
        let (peers, now_ms) = (self.inner.engine.peers().clone(), self.now_ms());
        offload(move || {
            Ok(others.iter().try_for_each(|(address, text)| peers.failed(address, text, now_ms))?)
        })
        .await?
    }

    /// The databases of which something is here.
    async fn held(&self) -> Result<BTreeSet<TreeId>, Error> {
        let db = self.inner.db.clone();
        Ok(offload(move || db.store().trees()).await??.into_iter().collect())
    }

    /// Tracks the databases that have come, were not here before, and are tracked by nobody.
    async fn take_up(&self, held: BTreeSet<TreeId>) -> Result<(), Error> {
        let (db, tracking) = (self.inner.db.clone(), self.device_user().inner().clone());
        offload(move || {
            for tree in db.store().trees()?.iter().filter(|tree| !held.contains(tree)) {
                if db.combined_preferences(tree)?.is_none() {
                    tracking.track(tree)?;
                    db.keep_title_as_name(tree)?;
                }
            }
            Ok(())
        })
        .await?
    }

    /// Whether a session ended before everything was exchanged that was to be: to a peer that may not read a database, as
    /// far as is known here, nothing is sent.
    async fn is_left_over(&self, peer: PublicKey, reports: &[SessionReport]) -> Result<bool, Error> {
        let early: Vec<SessionReport> = reports.iter().filter(|report| !report.complete).cloned().collect();
        if early.is_empty() {
            return Ok(false);
        }
        let db = self.inner.db.clone();
        offload(move || -> Result<bool, Error> {
            for report in early {
                let Some(tree) = report.tree.filter(|_| report.behind == Some(0)) else { return Ok(true) };
                if db.database_by_id(tree).permission(&[peer])? >= Some(Permission::Read) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await?
    }

    /// The databases that were exchanged with a peer before, that it may read, and that it says nothing of any more.
    /// A peer answers the same for what it does not have and what it does not give, so nothing else tells.
    async fn refused_by(&self, peer: PublicKey, reports: &[SessionReport]) -> Result<Vec<TreeId>, Error> {
        let (db, engine) = (self.inner.db.clone(), self.inner.engine.clone());
        let done: Vec<TreeId> = reports.iter().filter_map(|report| report.tree).collect();
        offload(move || {
            let mut refused = Vec::new();
            for tree in db.store().trees()?.into_iter().filter(|tree| !done.contains(tree)) {
                let is_off = db.combined_preferences(&tree)?.is_some_and(|wished| !wished.sync_enabled);
                let was_exchanged = !is_off && engine.known(&peer, &tree)? != eid_sync::Known::default();
                if was_exchanged && db.database_by_id(tree).permission(&[peer])? >= Some(Permission::Read) {
                    refused.push(tree);
                }
            }
            Ok(refused)
        })
        .await?
    }

    pub(crate) fn indexing(&self) -> &Indexing {
        &self.inner.indexing
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.db.env().clock.now_ms()
    }

    /// The devices that this one knows.
    pub fn peers(&self) -> Result<Vec<PeerInfo>, Error> {
        Ok(self.inner.engine.list_peers()?)
    }

    /// Remembers an address. Who is there is learnt when it answers first.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidAddress`] when no transport here serves addresses of its scheme.
    pub async fn add_peer(&self, address: &Address) -> Result<(), Error> {
        self.check_scheme(address)?;
        let (peers, address) = (self.inner.engine.peers().clone(), address.clone());
        Ok(offload(move || peers.add(&address)).await??)
    }

    /// Remembers an address of the peer with this key, met or not: one that is known has it beside its others. It is called
    /// by this name, unless that is empty, until it says what it calls itself.
    ///
    /// # Errors
    /// As [`Self::add_peer`].
    pub async fn add_peer_address(&self, key: PublicKey, name: &str, address: &Address) -> Result<(), Error> {
        self.check_scheme(address)?;
        let (engine, name, address) = (self.inner.engine.clone(), name.to_owned(), address.clone());
        Ok(offload(move || engine.register_peer(key, &name, &[address])).await??)
    }

    fn check_scheme(&self, address: &Address) -> Result<(), Error> {
        let schemes = self.inner.engine.schemes();
        if !schemes.iter().any(|scheme| scheme == address.scheme()) {
            let known: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}:")).collect();
            let (scheme, known) = (address.scheme(), known.join(", "));
            let message = format!("no transport serves {scheme}: addresses; there are: {known}");
            return Err(Error::new(ErrorKind::InvalidAddress, message));
        }
        Ok(())
    }

    /// Changes what this device has to do with a peer, from this moment on. One that is blocked is neither dialled nor
    /// served, and what runs with it ends; its rights and what it wrote stay.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when nobody was met at its address yet, so that its key is not known.
    pub async fn set_peer_status(&self, peer: &PeerInfo, status: PeerStatus) -> Result<(), Error> {
        let Some(key) = peer.key else {
            let message = "nobody was met at this address yet, so there is no key to go by";
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let engine = self.inner.engine.clone();
        Ok(offload(move || engine.update_peer_status(&key, status)).await??)
    }

    /// The databases that whoever answers at an address lets this device read, and who that is.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`], [`ErrorKind::TimedOut`].
    pub async fn discover(
        &self,
        address: &Address,
        within: Duration,
    ) -> Result<(PublicKey, Vec<Offered>), Error> {
        let (engine, db) = (&self.inner.engine, self.inner.db.clone());
        let work = async {
            let keys = offload(move || db.keys_to_prove(None)).await??;
            let peer = engine.connect_to_peer(address, None, &keys).await?;
            let found = engine.discover_peer_trees(&peer).await;
            peer.close().await;
            Ok((peer.key(), found?))
        };
        tokio::time::timeout(within, work).await.unwrap_or_else(|_| {
            let message = format!("{address} took longer than {} s", within.as_secs());
            Err(Error::new(ErrorKind::TimedOut, message))
        })
    }

    /// Forgets a peer: its addresses, and how far it was with each database. Its rights and what it wrote stay.
    pub async fn forget_peer(&self, peer: &PeerInfo) -> Result<(), Error> {
        let (peers, engine, peer) =
            (self.inner.engine.peers().clone(), self.inner.engine.clone(), peer.clone());
        offload(move || {
            if let Some(key) = &peer.key {
                engine.forget_peer(key)?;
            }
            Ok(peers.forget(&peer)?)
        })
        .await?
    }

    /// What is known of a database at each peer that there was something with about it.
    pub(crate) fn progress(&self, tree: &TreeId) -> Result<Vec<PeerProgress>, Error> {
        let engine = &self.inner.engine;
        let mut peers: BTreeSet<PublicKey> = engine.peers_of(tree)?.into_iter().collect();
        peers.extend(engine.metadata_of(tree)?.into_keys());
        let progress = |peer| Ok(PeerProgress { peer, sync: engine.status(tree, &peer)? });
        peers.into_iter().map(progress).collect()
    }

    /// Forgets the sessions of the [history](SyncEngine::history) that ended longer ago than this. Gives how many these were.
    pub async fn forget_history(&self, older_than: Duration) -> Result<usize, Error> {
        let older_ms = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let (engine, before_ms) = (self.inner.engine.clone(), self.now_ms().saturating_sub(older_ms));
        Ok(offload(move || engine.cleanup_history(before_ms)).await??)
    }

    /// Tries everything now, whatever was to be waited for: synchronises with every known peer that is active and has an
    /// address, all at the same time. Gives what is undelivered after that, or after this long, and why.
    pub async fn flush(&self, within: Duration) -> Result<Vec<Undelivered>, Error> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Ok(self.inner.engine.flush(within_ms).await?)
    }

    /// Caps how many bytes of frames may go in a second, each way, from here on: with all peers together, and with each.
    /// Peers take turns, and what is written here waits for none of it.
    pub fn set_bandwidth(&self, bandwidth: Bandwidth) {
        self.inner.engine.set_bandwidth(bandwidth);
    }

    /// The transports of this instance: what each does, and where others reach it.
    #[must_use]
    pub fn transports(&self) -> Vec<TransportInfo> {
        self.inner.engine.transports()
    }

    /// What is known of this instance, its databases and its peers.
    pub fn status(&self) -> Result<Status, Error> {
        Status::of(self)
    }

    /// The engine below, for what the paved path does not have.
    #[must_use]
    pub fn sync(&self) -> SyncEngine {
        self.inner.engine.clone()
    }

    /// What happens with peers, from here on. A slow reader is told how much it missed.
    ///
    /// How far a session is comes first with an exact number of entries and then a few times a second:
    ///
    /// ```
    /// # use eid::{Access, Delivered, Direction, Http, Instance, SyncEvent};
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
    /// # let (a, b) = (Instance::builder().memory().open().await?, Instance::builder().memory().open().await?);
    /// # let there = a.create_database("notes").await?;
    /// # there.doc("profile").set("name", "Ada").await?;
    /// # a.listen(Http::on("127.0.0.1:0")).await?;
    /// # let ticket = there.share(Access::write()).await?;
    /// let mut events = b.events();
    /// let joining = b.join(&ticket);
    /// let watching = async {
    ///     let mut last = None;
    ///     while let Some(event) = events.recv().await {
    ///         match event {
    ///             Delivered::Event(SyncEvent::Progress(progress)) if progress.direction == Direction::In => {
    ///                 println!("{} of {} entries", progress.entries, progress.entries_total);
    ///                 last = Some(progress);
    ///             }
    ///             Delivered::Event(SyncEvent::Session(_)) => break,
    ///             _ => {}
    ///         }
    ///     }
    ///     last
    /// };
    /// let (joined, last) = tokio::join!(joining.run(), watching);
    /// let last = last.expect("something was there");
    /// assert_eq!(last.entries, last.entries_total);
    /// assert_eq!(last.entries, joined?.session.pulled);
    /// # a.close().await?;
    /// # Ok::<(), eid::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        self.inner.engine.events()
    }

    /// Stops listening, ends sessions, writes what is cached and lets go of the store. Handles that are left fail from
    /// then on with [`ErrorKind::Closed`].
    pub async fn close(self) -> Result<(), Error> {
        self.inner.engine.stop_server().await;
        let (db, built) = (self.inner.db.clone(), self.inner.indexing.end());
        offload(move || {
            built();
            Ok(db.close()?)
        })
        .await?
    }
}

/// This database, or all that both may see.
fn scope_of(database: Option<&Database>) -> Scope {
    database.map_or(Scope::All, |database| Scope::One(database.id()))
}

/// One database, one report.
fn only(mut reports: Vec<SessionReport>) -> Result<SessionReport, SyncError> {
    reports.pop().ok_or(SyncError::Misplaced)
}
