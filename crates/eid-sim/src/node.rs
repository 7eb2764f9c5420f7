//! One node: its disk, its clock, and the process that runs on them until it crashes. Here, and nowhere else, the
//! simulator touches the databases and the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use eid_core::cbor::Writer;
use eid_core::dag::{Replica as _, Seq};
use eid_core::{
    Draft, Entry, EntryId, KeyMode, Payload, Permission, PublicKey, RULES_INVITES, SecretKey, SectionDraft,
    SettingsOp, Slot, StoreName, Time, TreeId,
};
use eid_db::{DbError, Entropy, Env, Instance, RedeemError, Transaction, TxText, Value};
use eid_store::{
    Backend, BackendError, CrashDisk, Embedded, EmbeddedConfig, EntryStore, Offer, StoreError, TreeSnapshot,
    Verdict,
};
use eid_sync::{
    Access, Compression, Cursor, DatabaseTicket, Delivered, EngineConfig, Events, KeepState, Known,
    KnownInStep, RefusalCode, Rung, Runtime, SessionReport, SyncEngine, SyncError, SyncEvent, SyncHandle,
    SyncStatus, TreeSummary, Wish,
};
use eid_transport::{Address, BoxFuture};
use serde_json::{Value as Json, json};

use crate::check::Divergence;
use crate::clock::Clock;
use crate::disk::{Journal, Ledger, Mount};
use crate::executor::{Group, Sim, lock};
use crate::model::Model;
use crate::net::{Net, Node};
use crate::plan::DiskKind;
use crate::rng::Rng;

/// An error of any layer, with its causes.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What a node keeps when its process crashes.
#[derive(Debug)]
pub struct Site {
    /// The world's machine.
    pub sim: Sim,
    /// The world's network.
    pub net: Net,
    /// Which node it is.
    pub node: Node,
    /// Its clock.
    pub clock: Arc<Clock>,
    /// Its disk.
    pub disk: Disk,
    /// Its name in messages.
    pub name: String,
    /// The rung that its sessions begin the ladder at.
    pub first_rung: Option<Rung>,
    /// Whether it compresses what it sends to those that do.
    pub compression: Compression,
    /// What is on its disk for good, where somebody wants to know.
    pub ledger: Option<Arc<Ledger>>,
    /// Bytes that may wait in its engine; absent: as many as in a program.
    pub memory_bytes: Option<usize>,
    /// How it keeps databases in step, where that is not as usual.
    pub wishes: Wishes,
}

/// How databases are kept in step that are not kept in step as usual.
pub type Wishes = Arc<Mutex<BTreeMap<TreeId, Wish>>>;

/// What a node keeps its rows on.
#[derive(Debug)]
pub enum Disk {
    /// Rows in memory.
    Journal(Arc<Journal>),
    /// Files on sectors.
    Sectors(CrashDisk),
}

/// Bytes of the batch log of the embedded backend: small, so that worlds see it wrap.
const LOG_BYTES: u64 = 24 * 1024;
/// Bytes of pages that the embedded backend keeps in memory.
const CACHE_BYTES: usize = 1024 * 1024;

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(kind: DiskKind) -> Self {
        match kind {
            DiskKind::Journal => Self::Journal(Arc::default()),
            DiskKind::Embedded => Self::Sectors(CrashDisk::new()),
        }
    }

    fn open(&self) -> Result<Arc<dyn Backend>, BackendError> {
        Ok(match self {
            Self::Journal(journal) => Arc::clone(journal) as Arc<dyn Backend>,
            Self::Sectors(disk) => {
                let config = EmbeddedConfig { cache_bytes: CACHE_BYTES, log_bytes: LOG_BYTES };
                Arc::new(Embedded::open_on(Arc::new(disk.clone()), config)?)
            }
        })
    }

    fn sectors(&self) -> Option<CrashDisk> {
        match self {
            Self::Journal(_) => None,
            Self::Sectors(disk) => Some(disk.clone()),
        }
    }

    /// Ends whatever the process still writes, such as when it is dropped.
    pub fn stop(&self) {
        if let Self::Sectors(disk) = self {
            disk.stop_after(0);
        }
    }

    /// Loses what a crash loses. Gives whether anything is known to be lost.
    pub fn crash(&self, rng: &mut Rng) -> bool {
        match self {
            Self::Journal(journal) => journal.crash(rng) > 0,
            Self::Sectors(disk) => {
                disk.restart(rng.next_u64());
                false
            }
        }
    }
}

/// What a session came to, as a check wants to see it.
#[derive(Debug, Clone)]
pub struct SessionSeen {
    /// The database.
    pub tree: TreeId,
    /// Entries that came.
    pub pulled: u64,
    /// Entries that went.
    pub pushed: u64,
    /// Bytes of frames that came.
    pub bytes_in: u64,
    /// Bytes of frames that went.
    pub bytes_out: u64,
    /// How it was found what differs.
    pub rung: &'static str,
    /// Payloads that came or went of entries that were held without them.
    pub filled: u64,
    /// Entries that came and were held already.
    pub duplicates: u64,
    /// Entries that came and were refused.
    pub refused: u64,
    /// Both sides hold the same now.
    pub complete: bool,
    /// It was complete, and still the engine does not know that the other side holds everything.
    pub forgot: bool,
}

impl fmt::Display for SessionSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tree, pulled, pushed, bytes_in, bytes_out, rung, duplicates, refused, .. } = self;
        let end = if self.complete { "complete" } else { "incomplete" };
        write!(
            f,
            "{}: {pulled} pulled, {pushed} pushed, {duplicates} twice, {refused} refused, {bytes_in} bytes in, \
             {bytes_out} out, {rung}, {end}",
            tree.short()
        )
    }
}

/// What is said of a peer that is kept in step, as a check wants to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSeen {
    /// How far it has come.
    pub state: KeepState,
    /// When something was last synchronised.
    pub last_sync_ms: Option<u64>,
    /// What failed last.
    pub last_error: Option<String>,
}

/// Positions below which everything is taken to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// In this node's log, by the peer.
    pub held_there: u64,
    /// In the peer's log, by this node.
    pub held_here: u64,
}

/// One life of one node.
pub struct Process {
    /// The node's name in messages.
    pub name: String,
    /// Its tasks.
    pub group: Group,
    /// Its disk as it sees it.
    pub mount: Arc<Mount>,
    instance: Instance,
    tracked: Arc<Mutex<BTreeSet<TreeId>>>,
    engine: SyncEngine,
    sessions: AtomicU64,
    broken: AtomicBool,
    /// Peers that are kept in step.
    kept: Mutex<Vec<SyncHandle>>,
    /// Those of the book that are.
    known: Mutex<Option<KnownInStep>>,
    events: Mutex<Events>,
}

/// What was pushed to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pushed {
    /// Entries that were admitted.
    pub admitted: u64,
    /// Entries that were held already.
    pub duplicates: u64,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct NodeClock(Arc<Clock>);

impl eid_db::Clock for NodeClock {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }
}

#[derive(Debug)]
struct NodeEntropy(Mutex<Rng>);

impl Entropy for NodeEntropy {
    fn fill(&self, out: &mut [u8]) {
        lock(&self.0).fill(out);
    }
}

/// What the engine of one process reaches of the world.
#[derive(Debug)]
struct NodeRuntime {
    sim: Sim,
    group: Group,
    clock: Arc<Clock>,
    rng: Mutex<Rng>,
}

impl Runtime for NodeRuntime {
    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        self.sim.now_us() / 1000
    }

    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(self.sim.sleep_us(ms.saturating_mul(1000)))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.sim.spawn(self.group, task);
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let wait = {
            let mut rng = lock(&self.rng);
            if rng.chance(400) { rng.below(20_000) } else { 0 }
        };
        let sim = self.sim.clone();
        Box::pin(async move {
            sim.sleep_us(wait).await;
            work();
        })
    }

    fn random(&self) -> [u8; 32] {
        lock(&self.rng).bytes32()
    }
}

/// What an application tells the engine of its databases.
#[derive(Debug)]
struct NodeAccess {
    instance: Instance,
    sim: Sim,
    /// What has a name here: asked too often to be read from rows.
    tracked: Arc<Mutex<BTreeSet<TreeId>>>,
    wishes: Wishes,
}

impl Access for NodeAccess {
    fn permission(&self, tree: &TreeId, keys: &[PublicKey]) -> Option<Permission> {
        self.instance.database_by_id(*tree).permission(keys).ok().flatten()
    }

    fn changes_by_entries_alone(&self) -> bool {
        true
    }

    fn trees(&self) -> Vec<TreeId> {
        let mut trees = lock(&self.tracked).clone();
        trees.extend(self.instance.store().trees().unwrap_or_default());
        trees.into_iter().collect()
    }

    fn wish(&self, tree: &TreeId) -> Option<Wish> {
        Some(lock(&self.wishes).get(tree).copied().unwrap_or_default())
    }

    fn describe(&self, tree: &TreeId) -> TreeSummary {
        let database = self.instance.database_by_id(*tree);
        let title = database.title().ok().flatten().unwrap_or_default();
        let last = database.log(1).ok().and_then(|mut last| last.pop());
        let changed_ms = last.map_or(0, |last| last.time.ms());
        TreeSummary { tree: *tree, title, entries: database.entries().unwrap_or(0), changed_ms }
    }

    fn redeem(
        &self,
        tree: &TreeId,
        invites: &[PublicKey],
        joiner: &PublicKey,
        name: &str,
    ) -> Result<Permission, RefusalCode> {
        self.sim.sometimes("invite redeemed");
        self.instance.redeem(tree, invites, joiner, name).map_err(|error| match error {
            RedeemError::Unknown | RedeemError::Revoked => RefusalCode::Unavailable,
            RedeemError::Expired => RefusalCode::InviteExpired,
            RedeemError::UsedUp => RefusalCode::InviteUsed,
            RedeemError::IssuerAway | RedeemError::Db(_) => RefusalCode::Failed,
        })
    }
}

/// Counts a session that is under way.
struct InSession<'a>(&'a AtomicU64);

impl<'a> InSession<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InSession<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Process {
    /// Starts a node: opens what its disk holds and listens at an address.
    pub async fn boot(
        site: &Site,
        group: Group,
        address: &str,
        rng: &mut Rng,
        fuse: Option<u64>,
        at_crash: Box<dyn FnOnce() + Send>,
    ) -> Result<Self, AnyError> {
        let fork = |rng: &mut Rng, label| Rng::new(rng.next_u64(), label);
        let sectors = site.disk.sectors();
        if let (Some(disk), Some(writes)) = (&sectors, fuse) {
            // Files are recovered with writes: the crash may come in the middle of that.
            disk.stop_after(writes * 3);
        }
        let (backend, ledger) = (site.disk.open()?, site.ledger.clone());
        let mount = Arc::new(Mount::new(backend, sectors.clone(), ledger, fork(rng, "mount"), at_crash));
        if let (Some(commits), None) = (fuse, &sectors) {
            mount.crash_within(commits);
        }
        let env = Env {
            clock: Arc::new(NodeClock(Arc::clone(&site.clock))),
            entropy: Arc::new(NodeEntropy(Mutex::new(fork(rng, "entropy")))),
        };
        let instance = Instance::open(Arc::clone(&mount) as Arc<dyn Backend>, env)?;
        let runtime = NodeRuntime {
            sim: site.sim.clone(),
            group,
            clock: Arc::clone(&site.clock),
            rng: Mutex::new(fork(rng, "runtime")),
        };
        let mut config = EngineConfig {
            name: site.name.clone(),
            first_rung: site.first_rung,
            compression: site.compression,
            ..EngineConfig::default()
        };
        config.memory_bytes_max = site.memory_bytes.unwrap_or(config.memory_bytes_max);
        let listed = instance.databases()?.into_iter().map(|info| info.id);
        let tracked = Arc::new(Mutex::new(listed.collect::<BTreeSet<_>>()));
        let engine = SyncEngine::new(
            Arc::clone(instance.store()),
            instance.device_key(),
            Arc::new(NodeAccess {
                instance: instance.clone(),
                sim: site.sim.clone(),
                tracked: Arc::clone(&tracked),
                wishes: Arc::clone(&site.wishes),
            }),
            Arc::new(runtime),
            config,
        );
        engine.add_transport(site.net.transport(site.node, address));
        engine.accept_connections().await?;
        let (sessions, broken) = (AtomicU64::new(0), AtomicBool::new(false));
        let (name, kept, known) = (site.name.clone(), Mutex::default(), Mutex::default());
        let events = Mutex::new(engine.events());
        Ok(Self { name, group, mount, instance, tracked, engine, sessions, broken, kept, known, events })
    }

    /// Keeps all databases in step with whoever listens at an address, until it is let go.
    pub fn keep_in_step(&self, address: &str) -> Result<(), AnyError> {
        let address: Address = format!("memory:{address}").parse()?;
        lock(&self.kept).push(self.engine.keep_in_step(&[address], None, &[], None));
        Ok(())
    }

    /// Remembers a peer, and where it is reached.
    pub fn register(&self, peer: PublicKey, address: &str) -> Result<(), AnyError> {
        let address: Address = format!("memory:{address}").parse()?;
        let registered = self.engine.register_peer(peer, "", &[address]);
        registered.map_err(|error| self.doubt_of_sync(error))
    }

    /// Remembers one more address of a peer.
    pub fn add_address(&self, peer: &PublicKey, address: &str) -> Result<(), AnyError> {
        let address: Address = format!("memory:{address}").parse()?;
        self.engine.add_peer_address(peer, &address).map_err(|error| self.doubt_of_sync(error))
    }

    /// Keeps all databases in step with every peer of the book, also with those that become known later.
    pub fn keep_known(&self) {
        *lock(&self.known) = Some(self.engine.keep_known_in_step());
    }

    /// What is said of every peer that is kept in step since it stands in the book; who was not met has no name.
    #[must_use]
    pub fn known_status(&self) -> Vec<(Option<PublicKey>, KeptSeen)> {
        let seen = |handle: SyncHandle| {
            let last_error = handle.last_error().map(|error| error.text);
            let seen = KeptSeen { state: handle.state(), last_sync_ms: handle.last_sync_ms(), last_error };
            (handle.peer_pubkey(), seen)
        };
        let handles = lock(&self.known).as_ref().map(KnownInStep::handles).unwrap_or_default();
        handles.into_iter().map(seen).collect()
    }

    /// What is said of a database at a peer.
    pub fn status(&self, tree: &TreeId, peer: &PublicKey) -> Result<SyncStatus, AnyError> {
        Ok(self.engine.status(tree, peer)?)
    }

    /// Listens at another address than before.
    pub async fn move_to(&self, site: &Site, address: &str) -> Result<(), AnyError> {
        self.engine.replace_transport(site.net.transport(site.node, address)).await;
        self.engine.accept_connections().await?;
        Ok(())
    }

    /// What has happened between this node and its peers since the last time this was asked.
    #[must_use]
    pub fn happened(&self) -> Vec<Delivered> {
        let mut events = lock(&self.events);
        std::iter::from_fn(|| events.try_recv()).collect()
    }

    /// What is remembered of a peer about a database, where it is of the logs of this moment.
    pub fn known_of(&self, tree: &TreeId, peer: &PublicKey) -> Result<Known, AnyError> {
        Ok(self.engine.known(peer, tree)?)
    }

    /// Keeps nobody in step any more.
    pub fn let_go(&self) {
        let kept = std::mem::take(&mut *lock(&self.kept));
        let known = std::mem::take(&mut *lock(&self.known));
        drop((kept, known));
    }

    /// Whether everybody is in step who is kept.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        lock(&self.kept).iter().all(|handle| handle.state() == KeepState::InStep)
    }

    /// What was pushed to this node since the last time this was asked.
    pub fn pushed(&self) -> Pushed {
        let mut sum = Pushed::default();
        while let Some(event) = lock(&self.events).try_recv() {
            if let Delivered::Event(SyncEvent::Arrived { admitted, duplicates, .. }) = event {
                sum.admitted += admitted;
                sum.duplicates += duplicates;
            }
        }
        sum
    }

    /// Its key.
    #[must_use]
    pub fn device(&self) -> PublicKey {
        self.instance.device()
    }

    /// Its key, whole: for a villain that signs what it likes.
    #[must_use]
    pub fn device_key(&self) -> Arc<SecretKey> {
        self.instance.device_key()
    }

    /// Its entries.
    #[must_use]
    pub fn store(&self) -> &EntryStore {
        self.instance.store()
    }

    /// Loses payloads: drops them, and wants them again at once or leaves that for later. Gives how many.
    pub fn lose_payloads(&self, tree: &TreeId, ids: &[EntryId], at_once: bool) -> Result<u64, AnyError> {
        let lost = self.store().prune_payloads(tree, ids).and_then(|lost| {
            if at_once {
                self.store().want_payloads(tree, ids)?;
            }
            Ok(lost)
        });
        lost.map_err(|error| self.doubt_of(error.into()))
    }

    /// How many payloads are not here, and how many of them were dropped on purpose.
    pub fn payloads_not_here(&self, tree: &TreeId) -> Result<(u64, u64), Divergence> {
        let snapshot = self.store().tree(tree).map_err(|e| self.failed("reading a tree", &e))?;
        Ok(snapshot.map_or((0, 0), |tree| (tree.missing_payloads(), tree.pruned_payloads())))
    }

    /// Of these entries, those of which every payload is here.
    #[must_use]
    pub fn holds_whole(&self, tree: &TreeId, ids: &[EntryId]) -> Vec<EntryId> {
        let Ok(Some(snapshot)) = self.store().tree(tree) else { return Vec::new() };
        let is_whole = |id: &&EntryId| {
            let entry = snapshot.entry(id).ok().flatten();
            entry.is_some_and(|entry| entry.payloads().iter().all(Option::is_some))
        };
        ids.iter().filter(is_whole).copied().collect()
    }

    /// Whether it is in the middle of a session that it began.
    #[must_use]
    pub fn in_session(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) > 0
    }

    /// Whether an error left it in doubt of what is on its disk.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.mount.is_stopped()
    }

    /// Lets go of everything in order. Gives whether that went well.
    #[must_use]
    pub fn close(&self) -> bool {
        self.instance.close().is_ok()
    }

    /// Makes a database.
    pub fn create(&self, name: &str) -> Result<TreeId, AnyError> {
        Ok(self.instance.create_database(name)?.database.id())
    }

    /// Lets a device write.
    pub fn grant(&self, tree: &TreeId, device: PublicKey, permission: Permission) -> Result<(), AnyError> {
        self.instance.database_by_id(*tree).grant(Slot::Key(device), permission)?;
        Ok(())
    }

    /// Lets everybody write, or read.
    pub fn grant_everyone(&self, tree: &TreeId, permission: Permission) -> Result<(), AnyError> {
        self.instance.database_by_id(*tree).grant(Slot::Everyone, permission)?;
        Ok(())
    }

    /// How many entries are held.
    pub fn entries(&self, tree: &TreeId) -> Result<u64, AnyError> {
        Ok(self.store().tree(tree)?.map_or(0, |snapshot| snapshot.count()))
    }

    /// Bytes of entries that have come and are not stored.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.engine.waiting_bytes()
    }

    /// Takes up a database that is to come.
    pub fn track(&self, tree: &TreeId, name: &str) -> Result<(), AnyError> {
        self.instance.track(*tree, name)?;
        lock(&self.tracked).insert(*tree);
        Ok(())
    }

    /// Gives another node everything that is held of a database here.
    pub fn copy_to(&self, tree: &TreeId, other: &Self) -> Result<(), AnyError> {
        let Some(snapshot) = self.store().tree(tree)? else { return Ok(()) };
        let logged = snapshot.log(Seq(0)..snapshot.end(), usize::MAX)?;
        let offers =
            logged.into_iter().map(|entry| Offer { block: entry.block, payloads: entry.payloads }).collect();
        other.store().admit(other.store().prepare(*tree, offers)?)?;
        Ok(())
    }

    /// Makes an invite that lets anyone write who has it.
    pub fn invite(&self, tree: &TreeId) -> Result<SecretKey, AnyError> {
        Ok(self.instance.create_invite(tree, Permission::Write, None, None)?)
    }

    /// Joins a database at the device that made the invite.
    pub async fn join(
        &self,
        tree: &TreeId,
        key: PublicKey,
        address: &str,
        invite: &SecretKey,
    ) -> Result<(), AnyError> {
        let _session = InSession::begin(&self.sessions);
        let address: Address = format!("memory:{address}").parse()?;
        let ticket = DatabaseTicket {
            db: *tree,
            key,
            addresses: vec![address],
            others: Vec::new(),
            invite: Some(invite.clone()),
        };
        // As a person does: copied as text.
        let ticket: DatabaseTicket = ticket.to_string().parse()?;
        self.engine.join(&ticket, &self.name).await?;
        self.instance.track(*tree, "joined")?;
        lock(&self.tracked).insert(*tree);
        Ok(())
    }

    /// Synchronises one database, or all, with whoever listens at an address.
    pub async fn sync(&self, address: &str, tree: Option<TreeId>) -> Result<Vec<SessionSeen>, AnyError> {
        let _session = InSession::begin(&self.sessions);
        let address: Address = format!("memory:{address}").parse()?;
        let reports = self.engine.sync_with_peer(&address, tree).await.inspect_err(|error| {
            if let SyncError::Store(StoreError::Backend(error)) = error {
                self.doubt(error);
            }
        })?;
        Ok(reports.iter().map(|report| self.seen(report)).collect())
    }

    fn seen(&self, report: &SessionReport) -> SessionSeen {
        let tree = report.tree.unwrap_or(TreeId([0; 32]));
        let end = self.instance.database_by_id(tree).entries().unwrap_or(0);
        let known = self.engine.known(&report.peer, &tree).unwrap_or_default();
        let remembered = known.mine.map(|cursor| cursor.seq.0);
        SessionSeen {
            tree,
            pulled: report.pulled,
            pushed: report.pushed,
            bytes_in: report.bytes_in,
            bytes_out: report.bytes_out,
            rung: match report.rung {
                None => "no rung",
                Some(Rung::InSync) => "rung a",
                Some(Rung::TipsKnown) => "rung b",
                Some(Rung::Remembered) => "rung c",
                Some(Rung::Sketch) => "rung d",
                Some(Rung::Asked) => "rung e",
                Some(Rung::ByIds) => "rung f",
            },
            filled: report.filled + report.given,
            duplicates: report.duplicates,
            refused: report.refused,
            complete: report.complete,
            forgot: report.complete && report.bytes_in > 0 && remembered < Some(end),
        }
    }

    /// What this node takes itself and another to hold of each other's log.
    #[must_use]
    pub fn believes(&self, tree: &TreeId, device: &PublicKey, peer: &Self) -> Believed {
        let known = self.engine.known(device, tree).unwrap_or_default();
        let upto = |cursor: Option<Cursor>, epoch| {
            cursor.filter(|cursor| cursor.epoch == epoch).map_or(0, |cursor| cursor.seq.0)
        };
        Believed {
            held_there: upto(known.mine, self.store().epoch_of(tree)),
            held_here: upto(known.theirs, peer.store().epoch_of(tree)),
        }
    }

    /// An error after which nobody knows what is on the disk.
    fn doubt(&self, error: &BackendError) {
        if !matches!(error, BackendError::Full | BackendError::Conflict) {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    fn doubt_of_sync(&self, error: SyncError) -> AnyError {
        if let SyncError::Store(StoreError::Backend(error)) = &error {
            self.doubt(error);
        }
        error.into()
    }

    fn doubt_of(&self, error: DbError) -> AnyError {
        if let DbError::Store(StoreError::Backend(error)) = &error {
            self.doubt(error);
        }
        error.into()
    }

    /// Writes something. Adds what was promised to be durable.
    pub fn write(&self, tree: &TreeId, rng: &mut Rng, promised: &mut Vec<EntryId>) -> Result<(), AnyError> {
        self.try_write(tree, rng, promised).map_err(|error| self.doubt_of(error))
    }

    fn try_write(&self, tree: &TreeId, rng: &mut Rng, promised: &mut Vec<EntryId>) -> Result<(), DbError> {
        let database = self.instance.database_by_id(*tree);
        let kind = rng.below(20);
        // A transaction that is begun is pinned; one of `write` is pinned by what it reads.
        if kind < 8 {
            let (_, pending) = database.prepare_blind(|tx| lenient(stage(tx, rng)))?;
            promised.extend(pending.commit()?.map(|committed| committed.id));
            return Ok(());
        }
        let tx = database.begin()?;
        for _ in 0..1 + rng.index(4) {
            lenient(stage(&tx, rng))?;
        }
        match kind {
            8 => {
                // Not promised: a crash may lose it, with whatever came after it.
                tx.relaxed();
                tx.commit()?;
                return Ok(());
            }
            9..=12 => {
                // Somebody else writes in between, and the history forks.
                let (_, pending) = database.prepare_blind(|tx| lenient(stage(tx, rng)))?;
                promised.extend(pending.commit()?.map(|committed| committed.id));
            }
            13 => {
                tx.rollback();
                return Ok(());
            }
            _ => {}
        }
        promised.extend(tx.commit()?.map(|committed| committed.id));
        Ok(())
    }

    /// Writes one entry that nothing can keep from being written.
    pub fn write_one(&self, tree: &TreeId) -> Result<EntryId, AnyError> {
        let tx = self.instance.database_by_id(*tree).begin()?;
        tx.doc("last").set([self.name.as_str()], Value::from(1))?;
        let committed = tx.commit()?.ok_or("an entry was staged and none written")?;
        Ok(committed.id)
    }

    /// Writes one entry of about so many bytes, which do not get smaller when they are compressed.
    pub fn write_bytes(&self, tree: &TreeId, bytes: usize) -> Result<(), AnyError> {
        let mut text = String::new();
        while text.len() < bytes {
            text.push_str(&blake3::hash(text.as_bytes()).to_hex());
        }
        let tx = self.instance.database_by_id(*tree).begin()?;
        tx.doc("last").set([self.name.as_str()], Value::from(text))?;
        tx.commit()?;
        Ok(())
    }

    fn failed(&self, what: &str, error: &dyn std::error::Error) -> Divergence {
        Divergence::Failed {
            node: self.name.clone(),
            what: format!("{what}: {}", crate::world::chain(error)),
        }
    }

    /// What names the state of a database.
    pub fn state_hash(&self, tree: &TreeId) -> Result<Option<[u8; 32]>, Divergence> {
        self.instance.database_by_id(*tree).state_hash().map_err(|e| self.failed("the state hash", &e))
    }

    /// The state of every store is what a naive replay gives.
    pub fn check_state(&self, tree: &TreeId, model: &Model) -> Result<(), Divergence> {
        let database = self.instance.database_by_id(*tree);
        for ((store, kind), found) in model.state() {
            let said = if kind == "table" {
                let mut rows = serde_json::Map::new();
                let all = (Bound::Unbounded, Bound::Unbounded);
                let scanned = database.table::<Json>(&store).scan(all, |key, row| {
                    rows.insert(key, row);
                    Ok(true)
                });
                scanned.map(|()| Json::Object(rows))
            } else if kind == "text" {
                database.text(&store).read().map(Json::String)
            } else {
                database.doc(&store).to_json()
            };
            let said = said.map_err(|e| self.failed("reading a store", &e))?;
            if said != found {
                return Err(Divergence::State {
                    node: self.name.clone(),
                    history: self.history(tree, model, &store),
                    store: format!("{kind} {store}"),
                    said: said.to_string(),
                    found: found.to_string(),
                });
            }
        }
        let said = database.height().map_err(|e| self.failed("the height", &e))?;
        if said != model.height() {
            return Err(Divergence::Derived {
                node: self.name.clone(),
                what: "the height",
                said: said.0.to_string(),
                found: model.height().0.to_string(),
            });
        }
        Ok(())
    }

    /// What counts, and what everybody may do, is what the rules say of the entries that are held. Gives how many do not
    /// count; nothing while views are behind.
    pub fn check_standing(&self, tree: &TreeId, model: &Model) -> Result<Option<usize>, Divergence> {
        let database = self.instance.database_by_id(*tree);
        let snapshot = database.snapshot().map_err(|e| self.failed("reading a tree", &e))?;
        if snapshot.is_stale() {
            return Ok(None);
        }
        let verdicts = model.verdicts();
        let stored: BTreeSet<EntryId> =
            self.voids(&snapshot).map_err(|e| self.failed("the void entries", &*e))?;
        let wrong = |id: &EntryId, said: String| Divergence::Standing {
            node: self.name.clone(),
            id: *id,
            said,
            found: if verdicts.void.contains(id) { "is void" } else { "stands" },
        };
        if let Some(id) = stored.symmetric_difference(&verdicts.void).next() {
            let said = if stored.contains(id) { "is stored as void" } else { "is stored as standing" };
            return Err(wrong(id, said.to_owned()));
        }
        for id in model.ids() {
            let standing = database.standing(&id).map_err(|e| self.failed("a standing", &e))?;
            if standing.counts() == verdicts.void.contains(&id) {
                return Err(wrong(&id, standing.to_string()));
            }
        }
        let slots: BTreeMap<Slot, Option<Permission>> =
            database.slots().map_err(|e| self.failed("the settings", &e))?.into_iter().collect();
        if slots != verdicts.slots {
            return Err(Divergence::Derived {
                node: self.name.clone(),
                what: "what the slots give",
                said: format!("{slots:?}"),
                found: format!("{:?}", verdicts.slots),
            });
        }
        Ok(Some(verdicts.void.len()))
    }

    fn voids(&self, snapshot: &TreeSnapshot) -> Result<BTreeSet<EntryId>, AnyError> {
        let mut ids = BTreeSet::new();
        for seq in snapshot.voids(Seq(0), usize::MAX)? {
            ids.extend(snapshot.entry_at(seq)?.map(|entry| entry.id()));
        }
        Ok(ids)
    }

    /// What a key may do, as far as is known here.
    #[must_use]
    pub fn permission(&self, tree: &TreeId, key: &PublicKey) -> Option<Permission> {
        self.instance.database_by_id(*tree).permission(&[*key]).ok().flatten()
    }

    /// Changes settings at random, about one of these keys or everyone. Gives the entry, and what it was called.
    pub fn change_settings(
        &self,
        tree: &TreeId,
        keys: &[PublicKey],
        wildcard: bool,
        rng: &mut Rng,
    ) -> Result<(EntryId, &'static str), AnyError> {
        self.try_change_settings(tree, keys, wildcard, rng).map_err(|error| self.doubt_of(error))
    }

    fn try_change_settings(
        &self,
        tree: &TreeId,
        keys: &[PublicKey],
        wildcard: bool,
        rng: &mut Rng,
    ) -> Result<(EntryId, &'static str), DbError> {
        let database = self.instance.database_by_id(*tree);
        let key = *rng.pick(keys).ok_or(DbError::NotHere)?;
        let mut slot = Slot::Key(key);
        if wildcard && rng.chance(120) {
            slot = Slot::Everyone;
        }
        let named = |what, committed: eid_store::Committed| Ok((committed.id, what));
        let void: Vec<EntryId> = database
            .void_entries(Seq(0), 50)?
            .iter()
            .filter(|entry| !entry.stores.iter().any(|store| store == "_settings"))
            .map(|entry| entry.id)
            .collect();
        if let Some(id) = rng.pick(&void).filter(|_| rng.chance(400)) {
            return named("accepted", database.accept(&[*id])?.pop().ok_or(DbError::NotHere)?);
        }
        match rng.below(11) {
            0..=3 => named("granted", database.grant(slot, Permission::Write)?),
            4 => named("demoted", database.grant(slot, Permission::Read)?),
            5..=6 => {
                let right = match slot {
                    Slot::Key(_) => Permission::Admin(2 + u32::try_from(rng.below(5)).unwrap_or(0)),
                    Slot::Everyone | Slot::Invite(_) => Permission::Read,
                };
                named("made an admin", database.grant(slot, right)?)
            }
            7..=8 => named("removed", database.revoke(slot, KeyMode::Remove { fence: None })?),
            9 => {
                // Somewhere in the past: what came after it is purged.
                let snapshot = database.snapshot()?;
                let seq = Seq(rng.below(snapshot.count().max(1)));
                let fence = snapshot.entry_at(seq)?.map(|entry| vec![entry.id()]);
                named("purged", database.revoke(slot, KeyMode::Remove { fence })?)
            }
            _ => named("let leave", database.revoke(slot, KeyMode::Leave)?),
        }
    }

    /// Opens or withdraws an invite, or joins by one as somebody new, who then writes. Gives the entry, and what it was
    /// called.
    pub fn use_invites(&self, tree: &TreeId, rng: &mut Rng) -> Result<(EntryId, &'static str), AnyError> {
        self.try_use_invites(tree, rng).map_err(|error| self.doubt_of(error))
    }

    fn try_use_invites(&self, tree: &TreeId, rng: &mut Rng) -> Result<(EntryId, &'static str), DbError> {
        let database = self.instance.database_by_id(*tree);
        let invite = invite_of(tree, rng);
        let permission = *rng.pick(&[Permission::Read, Permission::Write]).ok_or(DbError::NotHere)?;
        match rng.below(8) {
            0..=2 => {
                let mut ops = Vec::new();
                if database.settings()?.rules() < RULES_INVITES {
                    ops.push(SettingsOp::Rules(RULES_INVITES));
                }
                ops.push(SettingsOp::Invite { key: invite.public(), permission, expires_ms: None });
                Ok((database.write_settings(&ops)?.id, "invite opened"))
            }
            3 | 4 => {
                let snapshot = database.snapshot()?;
                let seq = Seq(rng.below(snapshot.count().max(1)));
                let fence = snapshot.entry_at(seq)?.map(|entry| vec![entry.id()]);
                let mode = match rng.below(4) {
                    0 => KeyMode::Leave,
                    1 => KeyMode::Remove { fence },
                    _ => KeyMode::Remove { fence: None },
                };
                Ok((database.withdraw_invite(invite.public(), mode)?.id, "invite withdrawn"))
            }
            _ => {
                let guest = Arc::new(guest_of(tree, rng));
                let join = SettingsOp::join(&invite, tree, &guest.public(), permission);
                let joined = database.write_settings_as(&guest, &[join])?;
                Ok((joined.id, "joined by an open invite"))
            }
        }
    }

    /// Signs and keeps an entry behind any that is held, as its author would have who has seen no more than that, at any
    /// time. Gives it when it is valid.
    pub fn back_date(
        &self,
        tree: &TreeId,
        keys: &[PublicKey],
        invites: bool,
        rng: &mut Rng,
    ) -> Result<Option<Entry>, AnyError> {
        let Some(snapshot) = self.store().tree(tree)? else { return Ok(None) };
        let Some(parent) = snapshot.entry_at(Seq(rng.below(snapshot.count().max(1))))? else {
            return Ok(None);
        };
        let mut author = self.device_key();
        let section = match rng.pick(keys).copied().filter(|_| rng.chance(400)) {
            Some(_) if invites && rng.chance(500) => {
                let (invite, permission) = (invite_of(tree, rng), Permission::Write);
                let op = match rng.below(3) {
                    0 => SettingsOp::Invite { key: invite.public(), permission, expires_ms: None },
                    _ => {
                        author = Arc::new(guest_of(tree, rng));
                        SettingsOp::join(&invite, tree, &author.public(), permission)
                    }
                };
                SectionDraft::settings(&[op], &rng.bytes32())
            }
            None if invites && rng.chance(300) => {
                author = Arc::new(guest_of(tree, rng));
                forged_section(rng)
            }
            Some(key) => {
                let slot = Slot::Key(key);
                let op = match rng.below(3) {
                    0 => SettingsOp::Revoke {
                        slot,
                        mode: KeyMode::Remove { fence: Some(vec![EntryId(tree.0)]) },
                    },
                    1 => SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence: None } },
                    _ => SettingsOp::Set { slot, permission: Permission::Admin(6) },
                };
                SectionDraft::settings(&[op], &rng.bytes32())
            }
            None => forged_section(rng),
        };
        let Some(entry) = behind(&parent, &author, section, rng) else { return Ok(None) };
        let offer = Offer { block: entry.block().clone(), payloads: entry.payloads().to_vec() };
        let admission = self.store().admit(self.store().prepare(*tree, vec![offer])?)?;
        let valid = matches!(admission.verdicts.first(), Some(Verdict::Admitted(_)));
        Ok(valid.then_some(entry))
    }

    /// The operations on a store in the order of their stamps, with where this node's log has them.
    fn history(&self, tree: &TreeId, model: &Model, store: &str) -> Vec<String> {
        let snapshot = self.store().tree(tree).ok().flatten();
        let seq = |id: &EntryId| {
            let found = snapshot.as_ref().and_then(|snapshot| snapshot.find(&[*id]).ok());
            found.and_then(|found| found.first().copied().flatten()).map_or(u64::MAX, |seq| seq.0)
        };
        model.history(store).into_iter().map(|(id, line)| format!("{} {line}", seq(&id))).collect()
    }

    /// Offers entries that are all held already, in any order. None may be taken for anything else.
    pub fn offer_all(&self, tree: &TreeId, entries: &[Entry], rng: &mut Rng) -> Result<(), Divergence> {
        let mut offers: Vec<Offer> = entries
            .iter()
            .map(|entry| Offer { block: entry.block().clone(), payloads: entry.payloads().to_vec() })
            .collect();
        for at in (1..offers.len()).rev() {
            offers.swap(at, rng.index(at + 1));
        }
        let store = self.store();
        let admission = store
            .prepare(*tree, offers)
            .and_then(|prepared| store.admit(prepared))
            .map_err(|e| self.failed("entries that are held, offered again", &e))?;
        match admission.verdicts.iter().find(|verdict| !matches!(verdict, Verdict::Duplicate(_))) {
            Some(verdict) => Err(Divergence::Failed {
                node: self.name.clone(),
                what: format!("an entry that is held, offered again, is {verdict:?}"),
            }),
            None => Ok(()),
        }
    }
}

/// An operation that does not fit what is there, such as counting on a text, writes nothing and is no fault.
fn lenient(staged: Result<(), DbError>) -> Result<(), DbError> {
    match staged {
        Err(DbError::Type { .. } | DbError::NoSuchRow { .. } | DbError::NotARow { .. }) => Ok(()),
        other => other,
    }
}

/// The key of one of a few invites, which everybody holds.
fn invite_of(tree: &TreeId, rng: &mut Rng) -> SecretKey {
    made_of("eid 2026 invites of a simulated world", tree, rng.below(2))
}

/// One of a few keys that nobody has given a right.
fn guest_of(tree: &TreeId, rng: &mut Rng) -> SecretKey {
    made_of("eid 2026 guests of a simulated world", tree, rng.below(6))
}

fn made_of(context: &str, tree: &TreeId, number: u64) -> SecretKey {
    let material = [&tree.0[..], &number.to_le_bytes()].concat();
    SecretKey::from_seed(blake3::derive_key(context, &material))
}

/// A section that writes where honest ones write.
pub fn forged_section(rng: &mut Rng) -> SectionDraft {
    let mut op = Writer::new();
    op.array(3).uint(0).array(1).text(rng.pick(&KEYS).unwrap_or(&"a")).uint(666);
    let payload = Payload::encode("doc", &rng.bytes32(), &[&op.into_bytes()]);
    let name = StoreName::new(*rng.pick(&DOCS).unwrap_or(&"notes"));
    SectionDraft { store: name.unwrap_or_else(|_| StoreName::settings()), enc: None, payload }
}

/// An entry behind another one, well signed, at a time of its author's choice.
pub fn behind(parent: &Entry, author: &SecretKey, section: SectionDraft, rng: &mut Rng) -> Option<Entry> {
    let header = parent.header();
    let time = if rng.chance(500) { header.time } else { Time(header.time.0.saturating_add(1 << 40)) };
    let draft = Draft {
        tree: Some(parent.tree()),
        parents: vec![parent.id()],
        height: header.height.child()?,
        time,
        sections: vec![section],
        nonce: None,
    };
    draft.seal(author).ok()
}

/// Names that operations write: few, so that they meet.
const KEYS: [&str; 4] = ["a", "b", "c", "d.e"];
const DOCS: [&str; 2] = ["notes", "profile"];
const TABLES: [&str; 2] = ["todos", "people"];
const TEXTS: [&str; 2] = ["body", "title"];

fn path(rng: &mut Rng) -> Vec<String> {
    (0..1 + rng.index(3)).map(|_| (*rng.pick(&KEYS).unwrap_or(&"a")).to_owned()).collect()
}

fn value(rng: &mut Rng) -> Json {
    match rng.below(9) {
        0 => Json::Null,
        1 => json!(rng.chance(500)),
        2 => json!(format!("text {}", rng.below(1000))),
        3 => json!([rng.below(5), "x", [null]]),
        4 => json!({ "a": rng.below(9), "b": { "c": rng.below(9) } }),
        5 => json!({}),
        6 => json!(0.5 - rng.below(9) as f64),
        7 => json!("long ".repeat(rng.index(200))),
        _ => json!(rng.below(100)),
    }
}

fn row(rng: &mut Rng) -> Json {
    let mut row = serde_json::Map::new();
    for key in KEYS {
        if rng.chance(500) {
            row.insert(key.to_owned(), value(rng));
        }
    }
    Json::Object(row)
}

/// Puts a word in, or takes some letters out, anywhere.
fn edit(text: &TxText<'_>, rng: &mut Rng) -> Result<(), DbError> {
    let len = text.len()?;
    if len > 0 && rng.chance(300) {
        let at = rng.index(len);
        return text.delete(at, 1 + rng.index((len - at).min(12)));
    }
    let word = ["one ", "zwei ", "три ", "\n"][rng.index(4)];
    text.insert(rng.index(len + 1), word)
}

/// Stages one random operation.
fn stage(tx: &Transaction, rng: &mut Rng) -> Result<(), DbError> {
    let doc = tx.doc(rng.pick(&DOCS).unwrap_or(&"notes"));
    let table = tx.table::<Json>(rng.pick(&TABLES).unwrap_or(&"todos"));
    let key = format!("row{}", rng.below(6));
    match rng.below(13) {
        10..=12 => edit(&tx.text(rng.pick(&TEXTS).unwrap_or(&"body")), rng),
        0..=2 => doc.set(path(rng), value(rng)),
        3 => doc.delete(path(rng)),
        4..=5 => doc.increment(path(rng), i64::try_from(rng.below(19)).unwrap_or(0) - 9),
        6..=7 => table.insert_as(&key, &row(rng)),
        8 => {
            let other = row(rng);
            table.update(&key, |row| *row = other)
        }
        _ => table.delete(&key),
    }
}
