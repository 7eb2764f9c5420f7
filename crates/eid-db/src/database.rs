//! A database: stores, settings, and what is known of its entries.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use async_lock::MutexGuardArc;
use eid_core::dag::Replica as _;
use eid_core::{
    EntryId, Height, KeyMode, Permission, PublicKey, SecretKey, SectionDraft, SettingsOp, Slot, StoreName,
    TreeId,
};
use eid_store::{Admitted, Committed, Durability, LocalCommit, Parents, StoreInfo, TreeSnapshot};
use event_listener::Event;

use crate::authority::Settings;
use crate::doc_store::DocStore;
use crate::error::DbError;
use crate::instance::Instance;
use crate::kind::{doc, table, text};
use crate::limits::SALT_BYTES;
use crate::registry::{self, is_reserved};
use crate::rows::{Rows, Stored};
use crate::sealed::Vaults;
use crate::table::Table;
use crate::transaction::{PendingCommit, Transaction, store_name};
use crate::users::{Session, strongest};
use crate::watch::Watches;

/// A database on this device. A cheap handle.
#[derive(Clone)]
pub struct Database {
    instance: Instance,
    id: TreeId,
    state: Arc<TreeState>,
    /// What is read, when it is not what is there now.
    version: Option<TreeSnapshot>,
    /// Whose keys sign what is written; those of this device otherwise.
    user: Option<Arc<Session>>,
}

/// What the handles of one database share.
#[derive(Debug, Default)]
pub(crate) struct TreeState {
    /// Held by one `write` closure at a time.
    pub(crate) writing: Arc<async_lock::Mutex<()>>,
    /// The thread that runs a `write` closure now.
    inside: Mutex<Option<ThreadId>>,
    /// Rings after every batch of entries.
    pub(crate) admitted: Event,
    pub(crate) watches: Watches,
    /// Stores that are known to be there in the kind they are used as.
    checked: Mutex<HashSet<(StoreName, &'static str)>>,
    pub(crate) vaults: Vaults,
}

/// Ends being inside a `write` closure, also when it panics.
struct OutsideAgain<'a>(&'a TreeState);

impl Drop for OutsideAgain<'_> {
    fn drop(&mut self) {
        *self.0.inside() = None;
    }
}

impl TreeState {
    pub(crate) fn notify(&self, admitted: &Admitted) {
        self.admitted.notify(usize::MAX);
        self.watches.notify(admitted);
    }

    fn inside(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found out about stores holds no longer.
    pub(crate) fn forget_checked(&self) {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.vaults.forget();
    }

    /// A `write` within a `write` would wait for itself.
    fn check_not_inside(&self) -> Result<(), DbError> {
        if *self.inside() == Some(thread::current().id()) { Err(DbError::NestedWrite) } else { Ok(()) }
    }
}

/// A store of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSummary {
    /// Its name.
    pub name: String,
    /// Its kind. Empty when it cannot be known here: it is encrypted and locked, or was written as nothing that decodes.
    pub kind: String,
    /// How many rows, or values of a document, it has.
    pub rows: u64,
    /// How many entries write it.
    pub entries: u64,
    /// How many operations in it have no effect because they do not decode here.
    pub undecodable: u64,
}

/// How many rows, or values of a document, there are.
pub(crate) fn count_rows(rows: &dyn Rows, kind: &str) -> Result<u64, DbError> {
    match kind {
        table::KIND => table::row_count(rows),
        doc::KIND => {
            let mut count = 0;
            doc::walk(rows, &[], &mut |_| {
                count += 1;
                Ok(())
            })?;
            Ok(count)
        }
        text::KIND => Ok(text::len(rows)? as u64),
        _ => Ok(0),
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Database {
    pub(crate) fn new(instance: Instance, id: TreeId, state: Arc<TreeState>) -> Self {
        Self { instance, id, state, version: None, user: None }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TreeId {
        self.id
    }

    /// The instance it belongs to.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(crate) fn state(&self) -> &Arc<TreeState> {
        &self.state
    }

    /// The same database, in which reads show a version of it and writes are refused.
    pub(crate) fn showing(&self, version: TreeSnapshot) -> Self {
        Self { version: Some(version), ..self.clone() }
    }

    /// The same database, in which a user writes.
    pub(crate) fn acting_as(&self, user: &Arc<Session>) -> Self {
        Self { user: Some(Arc::clone(user)), ..self.clone() }
    }

    /// The user who writes through this handle, unless it is the device.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.user.as_ref()
    }

    /// The keys of whoever writes through this handle.
    pub(crate) fn own_keys(&self) -> Result<Vec<Arc<SecretKey>>, DbError> {
        match &self.user {
            Some(user) => user.keys(),
            None => Ok(self.instance.device_keys()),
        }
    }

    /// What is written now through this handle is signed with this: of several keys the strongest.
    pub(crate) fn author(&self) -> Result<Arc<SecretKey>, DbError> {
        let keys = self.own_keys()?;
        if let ([only], None) = (&keys[..], &self.user) {
            return Ok(Arc::clone(only));
        }
        let settings = self.settings()?;
        if let Some((key, _)) = strongest(&keys, |key| settings.permission(key)) {
            return Ok(key);
        }
        let revoked = |key: &&Arc<SecretKey>| settings.slot(&Slot::Key(key.public())) == Some(None);
        let Some(first) = keys.iter().find(revoked).or(keys.first()) else { return Err(DbError::NoRight) };
        Err(self.lacking(&first.public(), false)?.into())
    }

    /// The key that what is written now through this handle is signed with: of the keys of the user, or of the device,
    /// the strongest one here.
    ///
    /// # Errors
    /// [`DbError::NotPermitted`] when no key of the user has any right, [`DbError::LoggedOut`].
    pub fn author_key(&self) -> Result<PublicKey, DbError> {
        Ok(self.author()?.public())
    }

    pub(crate) fn check_writable(&self) -> Result<(), DbError> {
        if self.version.is_some() { Err(DbError::ReadOnly) } else { Ok(()) }
    }

    /// Whether anything of it is held.
    pub fn is_here(&self) -> Result<bool, DbError> {
        Ok(self.instance.store().tree(&self.id)?.is_some())
    }

    /// A consistent view of its entries.
    pub fn snapshot(&self) -> Result<TreeSnapshot, DbError> {
        if let Some(version) = &self.version {
            return Ok(version.clone());
        }
        self.instance.store().tree(&self.id)?.ok_or(DbError::NotHere)
    }

    /// Whether settings came that may change which entries count, and what is read does not show it yet.
    pub fn is_stale(&self) -> Result<bool, DbError> {
        Ok(self.snapshot()?.is_stale())
    }

    /// How many of the entries held do not count.
    pub fn void_count(&self) -> Result<u64, DbError> {
        Ok(self.snapshot()?.void_entries())
    }

    /// Its name on this device: what it was given here, else its title, else its id.
    pub fn name(&self) -> Result<String, DbError> {
        if let Some(name) = self.instance.name_of(&self.id)? {
            return Ok(name);
        }
        let title = if self.is_here()? { self.title()? } else { None };
        Ok(title.unwrap_or_else(|| self.id.to_string()))
    }

    /// The title that its members share.
    pub fn title(&self) -> Result<Option<String>, DbError> {
        Ok(self.settings()?.title().map(str::to_owned))
    }

    /// How many entries are held.
    pub fn entries(&self) -> Result<u64, DbError> {
        Ok(self.snapshot()?.count())
    }

    /// The entries that no other one descends from, sorted.
    pub fn tips(&self) -> Result<Vec<EntryId>, DbError> {
        Ok(self.snapshot()?.tips()?.into_iter().map(|(id, _)| id).collect())
    }

    /// The longest path from the root.
    pub fn height(&self) -> Result<Height, DbError> {
        Ok(self.snapshot()?.height())
    }

    /// Bytes of the entries held.
    pub fn bytes(&self) -> Result<u64, DbError> {
        Ok(self.snapshot()?.bytes())
    }

    /// Names what can be seen of the database: equal on two replicas exactly when their settings and the contents of
    /// all their stores are, as the entries that count give them. Nothing when payloads are missing. Reads everything, page by page.
    pub fn state_hash(&self) -> Result<Option<[u8; 32]>, DbError> {
        let snapshot = self.snapshot()?;
        let settings = self.settings_in(&snapshot)?;
        crate::state_hash::state_hash(&snapshot, &settings)
    }

    /// Its stores that are written, by name and kind. Counts their rows.
    pub fn stores(&self) -> Result<Vec<StoreSummary>, DbError> {
        let snapshot = self.snapshot()?;
        let mut stores = Vec::new();
        for info in snapshot.stores()?.into_iter().filter(|info| !is_reserved(info.name.as_str())) {
            stores.extend(self.summaries(&snapshot, info)?);
        }
        Ok(stores)
    }

    /// A store in one of its kinds, or, when it is sealed and unlocked, in all of them.
    pub(crate) fn summaries(
        &self,
        snapshot: &TreeSnapshot,
        info: StoreInfo,
    ) -> Result<Vec<StoreSummary>, DbError> {
        if info.kind.is_empty()
            && let Some(summaries) = self.summaries_of_sealed(snapshot, &info.name)?
        {
            return Ok(summaries);
        }
        let rows = count_rows(&Stored::new(snapshot.clone(), &info.name, &info.kind), &info.kind)?;
        Ok(vec![StoreSummary {
            name: info.name.as_str().to_owned(),
            kind: info.kind,
            rows,
            entries: info.entries,
            undecodable: info.undecodable,
        }])
    }

    /// The kind of the store of this name, if there is one.
    ///
    /// # Errors
    /// [`DbError::SeveralKinds`] when two devices have made it in different kinds: both are kept, and reached by
    /// opening them as what they are.
    pub fn kind_of(&self, store: &str) -> Result<Option<String>, DbError> {
        let snapshot = self.snapshot()?;
        let mut kinds = self
            .kinds_of_sealed(&snapshot, store)?
            .map_or_else(|| registry::kinds_in(&snapshot, store), Ok)?;
        match kinds.len() {
            0 | 1 => Ok(kinds.pop()),
            _ => Err(DbError::SeveralKinds { store: store.to_owned(), kinds }),
        }
    }

    // ---- settings

    /// The settings as all entries held give them.
    pub fn settings(&self) -> Result<Arc<Settings>, DbError> {
        self.settings_in(&self.snapshot()?)
    }

    pub(crate) fn settings_in(&self, snapshot: &TreeSnapshot) -> Result<Arc<Settings>, DbError> {
        let known = snapshot.settings_frontier()?;
        Ok(self.instance.authority().settings(&self.id, &known, snapshot)?)
    }

    /// The strongest right of any of these keys.
    pub fn permission(&self, keys: &[PublicKey]) -> Result<Option<Permission>, DbError> {
        let settings = self.settings()?;
        Ok(keys.iter().filter_map(|key| settings.permission(key)).max())
    }

    /// Every key, everyone, and every invite, that was ever given a right, with the right that is left.
    pub fn slots(&self) -> Result<Vec<(Slot, Option<Permission>)>, DbError> {
        Ok(self.settings()?.slots().collect())
    }

    /// Gives a key, or everyone, a right.
    pub fn grant(&self, slot: Slot, permission: Permission) -> Result<Committed, DbError> {
        self.write_settings(&[SettingsOp::Set { slot, permission }])
    }

    /// Takes the right of a key, or of everyone, away.
    pub fn revoke(&self, slot: Slot, mut mode: KeyMode) -> Result<Committed, DbError> {
        if let KeyMode::Remove { fence: Some(ids) } = &mut mode {
            ids.sort_unstable();
            ids.dedup();
        }
        self.write_settings(&[SettingsOp::Revoke { slot, mode }])
    }

    /// Changes the title that its members share.
    pub fn set_title(&self, title: &str) -> Result<Committed, DbError> {
        if title.is_empty() || title.len() > eid_core::limits::TITLE_BYTES_MAX {
            return Err(DbError::Name);
        }
        self.write_settings(&[SettingsOp::Title(title.to_owned())])
    }

    /// Changes settings: all or nothing.
    pub fn write_settings(&self, ops: &[SettingsOp]) -> Result<Committed, DbError> {
        self.write_settings_as(&self.author()?, ops)
    }

    /// Changes settings with another key than that of this device, such as the recovery key.
    pub fn write_settings_as(
        &self,
        author: &Arc<SecretKey>,
        ops: &[SettingsOp],
    ) -> Result<Committed, DbError> {
        self.check_writable()?;
        let salt: [u8; SALT_BYTES] = self.instance.env().random();
        let committed = self.instance.store().commit(LocalCommit {
            tree: Some(self.id),
            author: Arc::clone(author),
            now_ms: self.instance.env().clock.now_ms(),
            parents: Parents::AtSeal,
            sections: vec![SectionDraft::settings(ops, &salt)],
            nonce: None,
            durability: Durability::Durable,
        });
        committed.map_err(|error| self.explained(error.into(), &author.public(), Some(ops)))
    }

    // ---- stores and transactions

    /// A document store. Reads and writes nothing yet.
    #[must_use]
    pub fn doc(&self, name: &str) -> DocStore {
        DocStore { db: self.clone(), name: name.to_owned() }
    }

    /// A table. Reads and writes nothing yet.
    #[must_use]
    pub fn table<T>(&self, name: &str) -> Table<T> {
        Table { db: self.clone(), name: name.to_owned(), rows: PhantomData }
    }

    /// Begins a transaction that sees, and descends from, what is here now. Others may commit meanwhile: the DAG forks
    /// then, and both count.
    pub fn begin(&self) -> Result<Transaction, DbError> {
        Transaction::pinned(self.clone())
    }

    /// Runs `work` and commits what it wrote, as one entry: all of it, or, when it fails, nothing.
    ///
    /// Closures of one instance run one after another for each database, each seeing the last. Waits for the disk.
    ///
    /// # Errors
    /// [`DbError::NestedWrite`] within another `write` of the same database on the same thread.
    pub fn write<R>(&self, work: impl FnOnce(&Transaction) -> Result<R, DbError>) -> Result<R, DbError> {
        let (result, pending) = self.prepare_write(work)?;
        pending.commit()?;
        Ok(result)
    }

    /// As [`Self::write`] up to the commit, which the caller makes.
    pub fn prepare_write<R>(
        &self,
        work: impl FnOnce(&Transaction) -> Result<R, DbError>,
    ) -> Result<(R, PendingCommit), DbError> {
        self.state.check_not_inside()?;
        let guard = self.state.writing.lock_arc_blocking();
        self.in_turn(guard, work)
    }

    /// As [`Self::prepare_write`], waiting for its turn without blocking the thread.
    pub async fn write_async<R>(
        &self,
        work: impl FnOnce(&Transaction) -> Result<R, DbError>,
    ) -> Result<(R, PendingCommit), DbError> {
        self.state.check_not_inside()?;
        let guard = self.state.writing.lock_arc().await;
        self.in_turn(guard, work)
    }

    fn in_turn<R>(
        &self,
        guard: MutexGuardArc<()>,
        work: impl FnOnce(&Transaction) -> Result<R, DbError>,
    ) -> Result<(R, PendingCommit), DbError> {
        *self.state.inside() = Some(thread::current().id());
        let _outside_again = OutsideAgain(&self.state);
        let (result, pending) = self.prepare_blind(work)?;
        Ok((result, pending.holding(guard, &self.state)))
    }

    /// As [`Self::prepare_write`] without waiting for anybody's turn: for work that only writes, so that commits of
    /// many callers share the wait for the disk.
    pub fn prepare_blind<R>(
        &self,
        work: impl FnOnce(&Transaction) -> Result<R, DbError>,
    ) -> Result<(R, PendingCommit), DbError> {
        let tx = Transaction::blind(self.clone());
        let result = work(&tx)?;
        Ok((result, tx.prepare()?))
    }

    pub(crate) fn write_blind<R>(
        &self,
        work: impl FnOnce(&Transaction) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        let (result, pending) = self.prepare_blind(work)?;
        pending.commit()?;
        Ok(result)
    }

    pub(crate) fn read_store<R>(
        &self,
        name: &str,
        kind: &'static str,
        read: impl FnOnce(&dyn Rows) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        self.read_store_in(self.snapshot()?, name, kind, read)
    }

    /// Reads a store as it is in a snapshot.
    pub(crate) fn read_store_in<R>(
        &self,
        snapshot: TreeSnapshot,
        name: &str,
        kind: &'static str,
        read: impl FnOnce(&dyn Rows) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        let store = store_name(name)?;
        read(self.rows_in(&snapshot, &store, kind)?.rows())
    }

    fn is_checked(&self, store: &StoreName, kind: &'static str) -> bool {
        let checked = self.state.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.contains(&(store.clone(), kind))
    }

    /// Refuses to use a plain store as another kind than the one that is there.
    pub(crate) fn check_kind_in(
        &self,
        snapshot: &TreeSnapshot,
        store: &StoreName,
        kind: &'static str,
    ) -> Result<(), DbError> {
        if self.is_checked(store, kind) {
            return Ok(());
        }
        let kinds = registry::kinds_in(snapshot, store.as_str())?;
        let Some(first) = kinds.first() else { return Ok(()) };
        if !kinds.iter().any(|held| held == kind) {
            return Err(DbError::WrongKind {
                store: store.as_str().to_owned(),
                found: first.to_owned(),
                wanted: kind,
            });
        }
        // A store that is there stays there.
        let mut checked = self.state.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.insert((store.clone(), kind));
        Ok(())
    }
}
