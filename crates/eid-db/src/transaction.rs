//! Writing: many stores, one atomic entry.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_lock::MutexGuardArc;
use bytes::Bytes;
use eid_core::cbor::Reader;
use eid_core::dag::Replica as _;
use eid_core::limits::{NESTING_MAX, PAYLOAD_BYTES_MAX, SECTIONS_MAX};
use eid_core::{EntryId, Payload, SectionDraft, StoreName};
use eid_store::{Committed, Durability, LocalCommit, Parents, TreeSnapshot};

use crate::database::{Database, TreeState};
use crate::doc_store::TxDoc;
use crate::error::DbError;
use crate::kind::{self, Entry};
use crate::limits::SALT_BYTES;
use crate::registry::is_reserved;
use crate::rows::{Changed, Overlaid, Rows, Staging};
use crate::sealed::Sealer;
use crate::table::TxTable;

/// Writes to any stores of one database, which take effect together when it is committed, or not at all.
///
/// It reads what it has written; nobody else does before the commit. One that has read, or was begun by
/// [`Database::begin`], descends from what it read; one that only wrote descends from what is there when it is sealed.
/// Dropping it writes nothing.
#[derive(Debug)]
pub struct Transaction {
    db: Database,
    staged: Mutex<Staged>,
}

#[derive(Debug, Default)]
struct Staged {
    snapshot: Option<TreeSnapshot>,
    stores: BTreeMap<StoreName, StagedStore>,
    bytes: usize,
    durability: Durability,
}

struct StagedStore {
    kind: &'static str,
    /// What seals the operations of an encrypted store.
    sealer: Option<Sealer>,
    ops: Vec<Bytes>,
    /// The rows after the first `applied` operations, once somebody has read.
    changed: Changed,
    applied: usize,
}

// What is staged may be for an encrypted store, and is not for logs.
impl fmt::Debug for StagedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedStore")
            .field("kind", &self.kind)
            .field("ops", &self.ops.len())
            .finish_non_exhaustive()
    }
}

impl StagedStore {
    fn new(kind: &'static str, sealer: Option<Sealer>) -> Self {
        Self { kind, sealer, ops: Vec::new(), changed: Changed::new(), applied: 0 }
    }

    /// Brings the rows up to the operations, by the code that applies those of stored entries.
    fn catch_up(&mut self, stored: &dyn Rows) -> Result<(), DbError> {
        let first = u32::try_from(self.applied).map_err(|_| DbError::TooLarge)?;
        let mut rows = Staging { stored, changed: &mut self.changed };
        kind::apply_from(first, Entry::staged(), self.kind, &self.ops[self.applied..], &mut rows)?;
        self.applied = self.ops.len();
        Ok(())
    }
}

impl Transaction {
    pub(crate) fn blind(db: Database) -> Self {
        Self { db, staged: Mutex::default() }
    }

    /// Takes a snapshot at once.
    pub(crate) fn pinned(db: Database) -> Result<Self, DbError> {
        let snapshot = db.snapshot()?;
        Ok(Self::pinned_to(db, snapshot))
    }

    /// Sees, and descends from, what a snapshot shows.
    pub(crate) fn pinned_to(db: Database, snapshot: TreeSnapshot) -> Self {
        let staged = Staged { snapshot: Some(snapshot), ..Staged::default() };
        Self { db, staged: Mutex::new(staged) }
    }

    fn lock(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database that is written.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// A document store within the transaction.
    #[must_use]
    pub fn doc(&self, name: &str) -> TxDoc<'_> {
        TxDoc { tx: self, name: name.to_owned() }
    }

    /// A table within the transaction.
    #[must_use]
    pub fn table<T>(&self, name: &str) -> TxTable<'_, T> {
        TxTable { tx: self, name: name.to_owned(), rows: PhantomData }
    }

    /// Lets the commit return before it is on disk. A crash may lose it, with whatever came after it.
    pub fn relaxed(&self) {
        self.durability(Durability::Relaxed);
    }

    /// Whether the commit waits for the disk, as it does unless something else is said. What is said last counts.
    pub fn durability(&self, durability: Durability) {
        self.lock().durability = durability;
    }

    pub(crate) fn stage(&self, name: &str, kind: &'static str, op: Bytes) -> Result<(), DbError> {
        match store_name(name)? {
            _ if is_reserved(name) => Err(DbError::StoreName { name: name.to_owned() }),
            store => self.stage_in(store, kind, op),
        }
    }

    pub(crate) fn stage_in(&self, store: StoreName, kind: &'static str, op: Bytes) -> Result<(), DbError> {
        // Deeper than this, no replica would read the operation, nor any other that is written to the store with it.
        Reader::new(&op).skip(NESTING_MAX).map_err(|_| DbError::TooDeep)?;
        let is_first = !self.lock().stores.contains_key(&store);
        let sealer = if is_first { self.db.sealer_for(&store, kind)? } else { None };
        let mut staged = self.lock();
        if staged.bytes + op.len() > PAYLOAD_BYTES_MAX {
            return Err(DbError::TooLarge);
        }
        if is_first && staged.stores.len() == SECTIONS_MAX {
            return Err(DbError::TooManyStores);
        }
        let bytes = op.len();
        let held = staged.stores.entry(store.clone()).or_insert_with(|| StagedStore::new(kind, sealer));
        if held.kind != kind {
            return Err(DbError::WrongKind {
                store: store.as_str().to_owned(),
                found: held.kind.to_owned(),
                wanted: kind,
            });
        }
        held.ops.push(op);
        staged.bytes += bytes;
        Ok(())
    }

    /// Reads the rows of a store, with what is staged on top. From the first read on, the transaction is pinned.
    pub(crate) fn read<R>(
        &self,
        name: &str,
        kind: &'static str,
        read: impl FnOnce(&dyn Rows) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        let store = store_name(name)?;
        let snapshot = self.pin()?;
        let mut staged = self.lock();
        let base = self.db.rows_in(&snapshot, &store, kind)?;
        let stored = base.rows();
        match staged.stores.get_mut(&store) {
            Some(held) if held.kind == kind => {
                held.catch_up(stored)?;
                read(&Overlaid { stored, changed: &held.changed })
            }
            _ => read(stored),
        }
    }

    /// Sees from here on what is here now, and gives it.
    pub(crate) fn pin(&self) -> Result<TreeSnapshot, DbError> {
        let mut staged = self.lock();
        Ok(match &staged.snapshot {
            Some(snapshot) => snapshot.clone(),
            None => staged.snapshot.insert(self.db.snapshot()?).clone(),
        })
    }

    /// Seals and stores what was staged: one entry, or none when nothing was. Waits for the disk.
    pub fn commit(self) -> Result<Option<Committed>, DbError> {
        self.prepare()?.commit()
    }

    /// Forgets what was staged; dropping does the same.
    pub fn rollback(self) {
        drop(self);
    }

    /// Makes the commit a value of its own, so that only the waiting for the disk happens elsewhere.
    pub fn prepare(self) -> Result<PendingCommit, DbError> {
        let Self { db, staged } = self;
        db.check_writable()?;
        let staged = staged.into_inner().unwrap_or_else(PoisonError::into_inner);
        if staged.stores.values().all(|held| held.ops.is_empty()) {
            return Ok(PendingCommit { db, commit: None, turn: None });
        }
        let author = db.author()?;
        let sections: Vec<SectionDraft> = staged
            .stores
            .into_iter()
            .filter(|(_, held)| !held.ops.is_empty())
            .map(|(name, held)| {
                let salt: [u8; SALT_BYTES] = db.instance().env().random();
                let payload = Payload::encode(held.kind, &salt, &held.ops);
                match held.sealer {
                    Some(sealer) => sealer.seal(&db, &author.public(), name, payload),
                    None => SectionDraft { store: name, enc: None, payload },
                }
            })
            .collect();
        if sections.iter().map(|section| section.payload.len()).sum::<usize>() > PAYLOAD_BYTES_MAX {
            return Err(DbError::TooLarge);
        }
        let parents = match staged.snapshot {
            Some(snapshot) => Parents::Pinned(pinned(&snapshot)?),
            None => Parents::AtSeal,
        };
        let commit = LocalCommit {
            tree: Some(db.id()),
            author,
            now_ms: db.instance().env().clock.now_ms(),
            parents,
            sections,
            nonce: None,
            durability: staged.durability,
        };
        Ok(PendingCommit { db, commit: Some(commit), turn: None })
    }
}

fn pinned(snapshot: &TreeSnapshot) -> Result<Vec<EntryId>, DbError> {
    Ok(snapshot.tips()?.into_iter().map(|(id, _)| id).collect())
}

/// Checks the name of a store of data.
pub(crate) fn store_name(name: &str) -> Result<StoreName, DbError> {
    match StoreName::new(name) {
        Ok(store) if !store.is_settings() => Ok(store),
        _ => Err(DbError::StoreName { name: name.to_owned() }),
    }
}

/// A write that is complete but for its seal and the wait for the disk.
///
/// Dropping it writes nothing. One that came of [`Database::prepare_write`] keeps other `write` closures of this
/// database waiting until it is committed or dropped, so that each sees the last.
#[derive(Debug)]
#[must_use = "nothing is written before the commit"]
pub struct PendingCommit {
    db: Database,
    commit: Option<LocalCommit>,
    turn: Option<Turn>,
}

/// The turn of a `write` closure. Whoever takes up the database meanwhile meets the same lock, also when every other
/// handle is gone.
#[derive(Debug)]
struct Turn {
    _guard: MutexGuardArc<()>,
    _state: Arc<TreeState>,
}

impl PendingCommit {
    pub(crate) fn holding(self, guard: MutexGuardArc<()>, state: &Arc<TreeState>) -> Self {
        Self { turn: Some(Turn { _guard: guard, _state: Arc::clone(state) }), ..self }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commit.is_none()
    }

    /// Lets the commit return before it is on disk.
    pub fn relaxed(mut self) -> Self {
        if let Some(commit) = &mut self.commit {
            commit.durability = Durability::Relaxed;
        }
        self
    }

    /// Seals, stores and waits for the disk. Blocks the calling thread.
    ///
    /// # Errors
    /// [`DbError::AlreadyEncrypted`] when it would write a store in plain that turned out to be encrypted meanwhile.
    pub fn commit(self) -> Result<Option<Committed>, DbError> {
        let Self { db, commit, turn } = self;
        let Some(commit) = commit else { return Ok(None) };
        let snapshot = db.snapshot()?;
        for section in commit.sections.iter().filter(|section| section.enc.is_none()) {
            if db.is_encrypted_in(&snapshot, &section.store)? {
                return Err(DbError::AlreadyEncrypted { store: section.store.as_str().to_owned() });
            }
        }
        let author = commit.author.public();
        let committed = db.instance().store().commit(commit);
        let committed = committed.map_err(|error| db.explained(error.into(), &author, None))?;
        drop(turn);
        Ok(Some(committed))
    }
}
