//! Stores that a password opens: sealed wherever they lie or travel, plain only in the memory of who has the password.

mod config;
mod format;
mod passwords;
mod precedence;
mod status;
#[cfg(test)]
mod vectors;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use eid_core::dag::{Epoch, Replica as _, Seq};
use eid_core::{Entry, Payload, PublicKey, ReadError, SectionDraft, StoreName, TreeId};
use eid_store::{Local, StoreInfo, TreeSnapshot, ViewRows};
use zeroize::Zeroizing;

pub use status::EncryptionStatus;
pub(crate) use status::hash_sealed;
#[cfg(test)]
pub(crate) use view::counted;
pub(crate) use view::{Opened, OpenedRows, Unreadable};

use crate::database::{Database, StoreSummary, count_rows};
use crate::doc_store::DocStore;
use crate::error::DbError;
use crate::kind::{self, registry::RegistryOp};
use crate::registry::{self, is_reserved};
use crate::rows::{Base, Stored};
use crate::sealed::config::Config;
use crate::sealed::format::{DataKey, KeyId, Place};
use crate::sealed::passwords::{Found, Searches, try_password};
use crate::sealed::precedence::Precedence;
use crate::sealed::view::Vault;
use crate::table::Table;
use crate::text::TextHandle;
use crate::transaction::store_name;
use crate::wrap::PasswordCost;

/// An encrypted store: any kind of store, which a password opens. A cheap handle; it reads and writes nothing by
/// itself.
///
/// Every device that may read the database has its entries, and none can read them without a password: payloads are
/// sealed with XChaCha20-Poly1305 under a data key, which the password opens by way of Argon2id. Once it is unlocked,
/// the usual handles ([`Database::doc`], [`Database::table`] and so on) work on it, on this device and for as long as
/// a handle of the database is held; before, they say [`DbError::Locked`]. The name of the store, who writes when, and
/// roughly how much, is not hidden.
///
/// ```
/// use std::sync::Arc;
///
/// use eid_db::{DbError, Env, Instance, PasswordCost};
///
/// # let cheap = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };
/// let node = Instance::open(Arc::new(eid_store::Memory::new()), Env::system())?;
/// let db = node.create_database("notes")?.database;
/// let vault = db.password_store("vault").with_cost(cheap);
/// vault.create("correct horse battery staple")?;
/// db.doc("vault").set("pin", "1234")?;
/// vault.lock()?;
/// assert!(matches!(db.doc("vault").get("pin"), Err(DbError::Locked { .. })));
/// assert!(matches!(vault.unlock("wrong"), Err(DbError::WrongPassword { .. })));
/// let vault = vault.unlock("correct horse battery staple")?;
/// assert_eq!(vault.doc().get_as::<String>("pin")?.as_deref(), Some("1234"));
/// # Ok::<(), DbError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PasswordStore {
    db: Database,
    name: String,
    cost: PasswordCost,
}

/// An encrypted store that was unlocked. The handles that it gives work until it is locked.
#[derive(Debug, Clone)]
pub struct UnlockedStore {
    db: Database,
    name: String,
}

/// What the handles of one database know of its encrypted stores.
#[derive(Debug, Default)]
pub(crate) struct Vaults {
    open: Mutex<BTreeMap<StoreName, Arc<Mutex<Vault>>>>,
    known: Mutex<Known>,
    searches: Mutex<BTreeMap<StoreName, Searches>>,
}

/// What was found out about stores, so that reads of plain ones do not ask the registry each time.
#[derive(Debug, Default)]
struct Known {
    /// How often other entries had come to count.
    settled: u64,
    /// A store that is encrypted stays so, while the same entries count.
    encrypted: BTreeSet<StoreName>,
    /// Stores that were not, with what was held then.
    plain: HashMap<StoreName, Held>,
    /// What the entries say of stores that have configs and might be plain all the same.
    precedence: BTreeMap<StoreName, Precedence>,
}

/// What the registry follows from: the same rows wherever this is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    life: u32,
    epoch: Epoch,
    end: Seq,
    /// Payloads come later than their entries too.
    filled: u64,
    /// How often other entries came to count.
    settled: u64,
}

impl Held {
    fn of(snapshot: &TreeSnapshot) -> Self {
        let (life, filled) = (snapshot.life(), snapshot.filled_payloads());
        let settled = snapshot.standing_changes();
        Self { life, epoch: snapshot.epoch(), end: snapshot.end(), filled, settled }
    }
}

/// The config that opened a store last on this device: tried first, so that whoever adds others cannot keep it from
/// opening. Kept whole, as its entry may cease to count: what was opened here once is never taken for plain here.
fn hints(local: &Local) -> Local {
    local.namespace("unlocked with")
}

fn hint_key(tree: &TreeId, store: &StoreName) -> Vec<u8> {
    [&tree.0[..], store.as_str().as_bytes()].concat()
}

/// Removes what is kept of the encrypted stores of a tree beside its entries.
pub(crate) fn forget_tree(local: &Local, tree: &TreeId) -> Result<(), DbError> {
    view::forget(&hints(local), &tree.0, |_| true)?;
    view::forget(&view::namespace(local), &tree.0, |_| true)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vaults {
    fn vault(&self, store: &StoreName) -> Option<Arc<Mutex<Vault>>> {
        lock(&self.open).get(store).cloned()
    }

    /// What was found out holds no longer.
    pub(crate) fn forget(&self) {
        *lock(&self.known) = Known::default();
        lock(&self.open).clear();
        lock(&self.searches).clear();
    }
}

/// Seals what a transaction writes to one store. It keeps its key when the store is locked meanwhile.
#[derive(Debug)]
pub(crate) struct Sealer(DataKey);

impl Sealer {
    pub(crate) fn seal(
        &self,
        db: &Database,
        author: &PublicKey,
        store: StoreName,
        payload: Bytes,
    ) -> SectionDraft {
        let tree = db.id();
        let place = Place { tree: &tree, store: &store, author };
        let nonce = db.instance().env().random();
        let (enc, sealed) = format::seal_section(&self.0, place, nonce, &payload);
        if let Ok(mut payload) = payload.try_into_mut() {
            zeroize::Zeroize::zeroize(&mut payload[..]);
        }
        SectionDraft { store, enc: Some(enc), payload: sealed }
    }
}

/// Configs with their hashes.
type Configs = Vec<([u8; 32], Config)>;

/// The configs of a store that decode, in the order of the hashes.
fn configs_in(snapshot: &TreeSnapshot, store: &StoreName) -> Result<Configs, DbError> {
    let mut configs = Vec::new();
    registry::each_encryption(snapshot, Some(store.as_str()), &mut |_, bytes| {
        configs.extend(Config::decode(&bytes).ok().map(|config| (config::hash(&bytes), config)));
    })?;
    Ok(configs)
}

impl Database {
    /// An encrypted store, which may not be there yet.
    #[must_use]
    pub fn password_store(&self, name: &str) -> PasswordStore {
        PasswordStore { db: self.clone(), name: name.to_owned(), cost: PasswordCost::default() }
    }

    /// Whether a store is encrypted.
    pub(crate) fn is_encrypted(&self, store: &StoreName) -> Result<bool, DbError> {
        self.is_encrypted_in(&self.snapshot()?, store)
    }

    /// Whether a store is encrypted as the snapshot has it.
    pub(crate) fn is_encrypted_in(
        &self,
        snapshot: &TreeSnapshot,
        store: &StoreName,
    ) -> Result<bool, DbError> {
        if is_reserved(store.as_str()) {
            return Ok(false);
        }
        // Whoever has unlocked it takes it for secret.
        if self.state().vaults.vault(store).is_some() {
            return Ok(true);
        }
        let held = Held::of(snapshot);
        {
            let mut known = lock(&self.state().vaults.known);
            if known.settled < held.settled {
                *known = Known { settled: held.settled, ..Known::default() };
            }
            if known.encrypted.contains(store) {
                return Ok(true);
            }
            if known.plain.get(store) == Some(&held) {
                return Ok(false);
            }
        }
        if self.was_unlocked(store)? {
            lock(&self.state().vaults.known).encrypted.insert(store.clone());
            return Ok(true);
        }
        let has_config = !configs_in(snapshot, store)?.is_empty() || may_have_lost_configs(snapshot, store)?;
        if snapshot.count() != snapshot.end().0 {
            // A version of one's choice says nothing of what is now. What a config means does not change.
            let now = self.instance().store().tree(&self.id())?.filter(|_| has_config);
            return now.map_or(Ok(has_config), |now| self.is_encrypted_in(&now, store));
        }
        let encrypted = has_config && self.config_counts(snapshot, store)?;
        let mut known = lock(&self.state().vaults.known);
        if encrypted {
            known.encrypted.insert(store.clone());
        } else {
            known.plain.insert(store.clone(), held);
        }
        Ok(encrypted)
    }

    /// Whether the store was made or unlocked on this device.
    fn was_unlocked(&self, store: &StoreName) -> Result<bool, DbError> {
        let hints = hints(&self.instance().store().local());
        Ok(hints.get(&hint_key(&self.id(), store))?.is_some())
    }

    /// Whether one of the configs of a store makes it encrypted: see [`precedence`].
    fn config_counts(&self, snapshot: &TreeSnapshot, store: &StoreName) -> Result<bool, DbError> {
        // What is counted does not say which entries count.
        let is_counted = snapshot.void_entries() == 0 && !may_be_plain(snapshot, store)?;
        Ok(is_counted || self.by_precedence(snapshot, store)?.0)
    }

    /// Whether a config counts, and whether an entry that was looked at writes the store in plain.
    fn by_precedence(&self, snapshot: &TreeSnapshot, store: &StoreName) -> Result<(bool, bool), DbError> {
        let mut known = lock(&self.state().vaults.known);
        let held = known.precedence.entry(store.clone()).or_insert_with(|| Precedence::new(snapshot));
        if !held.is_of(snapshot) {
            *held = Precedence::new(snapshot);
        }
        let by_config = held.is_encrypted(snapshot, store)?;
        let is_encrypted = by_config || (held.is_sealed() && configs_in(snapshot, store)?.is_empty());
        Ok((is_encrypted, held.is_plain()))
    }

    /// The rows of a store as the snapshot has them, wherever they are. The snapshot is of now, or was.
    pub(crate) fn rows_in(
        &self,
        snapshot: &TreeSnapshot,
        store: &StoreName,
        kind: &'static str,
    ) -> Result<Base, DbError> {
        if !self.is_encrypted_in(snapshot, store)? {
            self.check_kind_in(snapshot, store, kind)?;
            return Ok(Base::Stored(Stored::new(snapshot.clone(), store, kind)));
        }
        let vault = self.vault(snapshot, store)?;
        let mut vault = lock(&vault);
        let rows = vault.rows_at(snapshot, kind)?;
        check_opened(snapshot, store, &vault, kind)?;
        Ok(Base::Opened(rows))
    }

    /// Checks that a store can be written as this kind; gives what seals it, if it is encrypted.
    pub(crate) fn sealer_for(
        &self,
        store: &StoreName,
        kind: &'static str,
    ) -> Result<Option<Sealer>, DbError> {
        let snapshot = self.snapshot()?;
        if !self.is_encrypted_in(&snapshot, store)? {
            self.check_kind_in(&snapshot, store, kind)?;
            return Ok(None);
        }
        let vault = self.vault(&snapshot, store)?;
        let mut vault = lock(&vault);
        vault.catch_up(&snapshot)?;
        check_opened(&snapshot, store, &vault, kind)?;
        let key = vault.writing_key().ok_or(DbError::Locked { store: store.as_str().to_owned() })?;
        Ok(Some(Sealer(key.clone())))
    }

    /// The unlocked store, or why there is none.
    fn vault(&self, snapshot: &TreeSnapshot, store: &StoreName) -> Result<Arc<Mutex<Vault>>, DbError> {
        if let Some(vault) = self.state().vaults.vault(store) {
            let mut opened = lock(&vault);
            // A snapshot of another life of the log is a version of one's choice, unless this life is over.
            let is_now = |now: TreeSnapshot| (now.epoch(), now.life()) == (snapshot.epoch(), snapshot.life());
            if opened.is_of_another_life(snapshot)
                && self.instance().store().tree(&self.id())?.is_some_and(is_now)
            {
                opened.forget_rows()?;
            }
            drop(opened);
            return Ok(vault);
        }
        let name = store.as_str().to_owned();
        // Somebody has made a plain store of the same name meanwhile, or an encrypted one of a plain one. Whoever opens
        // it by name alone could mean either, and must not write secrets in plain.
        let mut kinds = plain_kinds(snapshot, store)?;
        if kinds.is_empty() {
            return Err(DbError::Locked { store: name });
        }
        kinds.push("encrypted".to_owned());
        Err(DbError::SeveralKinds { store: name, kinds })
    }

    /// Refuses to use a store as another kind than the one that is there, or one that is locked.
    pub(crate) fn check_kind(&self, store: &StoreName, kind: &'static str) -> Result<(), DbError> {
        self.rows_in(&self.snapshot()?, store, kind).map(drop)
    }

    /// Works on rows of a store that follow from no entry, such as those of an index; in an encrypted one they are as
    /// sealed as the others. The same holds as for [`eid_store::EntryStore::maintain`].
    pub(crate) fn maintain<R>(
        &self,
        store: &StoreName,
        kind: &'static str,
        work: &mut dyn FnMut(&mut dyn ViewRows) -> Result<R, ReadError>,
    ) -> Result<R, DbError> {
        let snapshot = self.snapshot()?;
        if !self.is_encrypted_in(&snapshot, store)? {
            return Ok(self.instance().store().maintain(&self.id(), store, kind, work)?);
        }
        let vault = self.vault(&snapshot, store)?;
        lock(&vault).maintain(&snapshot, kind, work)
    }

    /// Checks that a store may be registered as a kind. That of one which is locked cannot be known.
    pub(crate) fn check_registrable(&self, store: &StoreName, kind: &'static str) -> Result<(), DbError> {
        let snapshot = self.snapshot()?;
        match self.state().vaults.vault(store) {
            Some(vault) => {
                let mut vault = lock(&vault);
                vault.catch_up(&snapshot)?;
                check_opened(&snapshot, store, &vault, kind)
            }
            None => self.check_kind_in(&snapshot, store, kind),
        }
    }

    /// The kinds of an encrypted store, sorted; nothing when it is a plain one.
    ///
    /// # Errors
    /// [`DbError::Locked`] when nobody has told.
    pub(crate) fn kinds_of_sealed(
        &self,
        snapshot: &TreeSnapshot,
        name: &str,
    ) -> Result<Option<Vec<String>>, DbError> {
        let Ok(store) = store_name(name) else { return Ok(None) };
        if !self.is_encrypted_in(snapshot, &store)? {
            return Ok(None);
        }
        let mut kinds: BTreeSet<String> = registry::registered_in(snapshot, name)?.into_iter().collect();
        match self.vault(snapshot, &store) {
            Ok(vault) => {
                let mut vault = lock(&vault);
                vault.catch_up(snapshot)?;
                kinds.extend(vault.kinds().into_iter().map(|(kind, _)| kind));
            }
            Err(DbError::Locked { .. }) if !kinds.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(Some(kinds.into_iter().collect()))
    }

    /// What an encrypted store is in each of its kinds, if it is unlocked.
    pub(crate) fn summaries_of_sealed(
        &self,
        snapshot: &TreeSnapshot,
        store: &StoreName,
    ) -> Result<Option<Vec<StoreSummary>>, DbError> {
        let Some(vault) = self.state().vaults.vault(store) else { return Ok(None) };
        let mut vault = lock(&vault);
        vault.catch_up(snapshot)?;
        let mut summaries = Vec::new();
        for (kind, opened) in vault.kinds() {
            summaries.push(StoreSummary {
                name: store.as_str().to_owned(),
                rows: count_rows(&vault.rows_at(snapshot, &kind)?, &kind)?,
                kind,
                entries: opened.entries,
                undecodable: opened.undecodable,
            });
        }
        Ok(Some(summaries))
    }

    /// The payload of a section that is sealed, if its store is unlocked.
    pub(crate) fn open_section(&self, entry: &Entry, section: usize) -> Option<Payload> {
        self.read_sealed(entry, section).ok()
    }

    fn read_sealed(&self, entry: &Entry, section: usize) -> Result<Payload, Unreadable> {
        let vault = self.state().vaults.vault(&entry.header().sections[section].store);
        let vault = vault.ok_or(Unreadable::Locked)?;
        let vault = lock(&vault);
        view::open_payload(vault.keys(), &self.id(), entry, section)
    }

    /// What an entry writes to a store; nothing when it does not write it, or not as the store is written: in plain, or
    /// sealed when `opened` says that it was opened.
    pub(crate) fn payload_of(
        &self,
        entry: &Entry,
        store: &StoreName,
        opened: Option<Opened>,
    ) -> Result<Option<Payload>, Unreadable> {
        let sections = &entry.header().sections;
        let Some(index) = sections.iter().position(|section| section.store == *store) else {
            return Ok(None);
        };
        match (sections[index].enc.is_some(), opened) {
            (true, Some(_)) => self.read_sealed(entry, index).map(Some),
            (false, None) => {
                let payload = entry.payloads()[index].as_ref().ok_or(Unreadable::Missing)?;
                Payload::decode(payload).map(Some).map_err(|_| Unreadable::Damaged)
            }
            _ => Ok(None),
        }
    }

    /// By which keys a store is open; nothing when it is a plain one.
    ///
    /// # Errors
    /// As reading it, for a store that is locked.
    pub(crate) fn opened_by(
        &self,
        snapshot: &TreeSnapshot,
        store: &StoreName,
    ) -> Result<Option<Opened>, DbError> {
        if !self.is_encrypted_in(snapshot, store)? {
            return Ok(None);
        }
        Ok(Some(lock(&*self.vault(snapshot, store)?).opened()))
    }

    fn unlock_with(&self, store: &StoreName, keys: BTreeMap<KeyId, DataKey>) -> Result<(), DbError> {
        // Before it is open: from here on nobody takes it for a plain one, whatever was found out before.
        lock(&self.state().vaults.known).encrypted.insert(store.clone());
        let mut open = lock(&self.state().vaults.open);
        let mut all = keys;
        if let Some(vault) = open.get(store) {
            let mut vault = lock(vault);
            let held = vault.keys();
            if all.keys().all(|id| held.contains_key(id)) {
                return vault.catch_up(&self.snapshot()?);
            }
            all.extend(held.iter().map(|(id, key)| (*id, key.clone())));
        }
        let instance = self.instance();
        let (local, env) = (instance.store().local(), instance.env().clone());
        let mut vault = Vault::open(&self.snapshot()?, store.clone(), all, &local, env)?;
        vault.write()?;
        open.insert(store.clone(), Arc::new(Mutex::new(vault)));
        Ok(())
    }
}

/// Whether all configs of a store that others have sealed may have been void.
fn may_have_lost_configs(snapshot: &TreeSnapshot, store: &StoreName) -> Result<bool, DbError> {
    let is_sealed = |info: StoreInfo| info.name == *store && info.kind.is_empty();
    Ok(snapshot.void_entries() > 0 && snapshot.stores()?.into_iter().any(is_sealed))
}

/// Whether an entry may write a store in plain: what is counted says for certain only that none does.
fn may_be_plain(snapshot: &TreeSnapshot, store: &StoreName) -> Result<bool, DbError> {
    let of_store = snapshot.stores()?.into_iter().filter(|info| info.name == *store);
    let is_sealed = |info: &StoreInfo| info.kind.is_empty() && info.undecodable == 0;
    Ok(snapshot.missing_payloads() > 0 || !of_store.into_iter().all(|info| is_sealed(&info)))
}

/// The kinds in which a store is written in plain, sorted.
fn plain_kinds(snapshot: &TreeSnapshot, store: &StoreName) -> Result<Vec<String>, DbError> {
    let infos = snapshot.stores()?.into_iter();
    Ok(infos.filter(|info| info.name == *store && !info.kind.is_empty()).map(|info| info.kind).collect())
}

/// Refuses to use an unlocked store as another kind than the one that is there.
fn check_opened(
    snapshot: &TreeSnapshot,
    store: &StoreName,
    vault: &Vault,
    kind: &'static str,
) -> Result<(), DbError> {
    let mut kinds: BTreeSet<String> = vault.kinds().into_iter().map(|(kind, _)| kind).collect();
    if kinds.contains(kind) {
        return Ok(());
    }
    kinds.extend(registry::registered_in(snapshot, store.as_str())?);
    match kinds.first() {
        Some(first) if !kinds.contains(kind) => {
            Err(DbError::WrongKind { store: store.as_str().to_owned(), found: first.clone(), wanted: kind })
        }
        _ => Ok(()),
    }
}

impl PasswordStore {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes passwords that are set from here on as costly as this to try. Those that are set keep their cost.
    #[must_use]
    pub fn with_cost(self, cost: PasswordCost) -> Self {
        Self { cost, ..self }
    }

    /// Makes the store, and unlocks it. One entry; waits for the disk.
    ///
    /// When another device makes it at the same time, each with its password, both passwords stay, and each opens what
    /// was written under it; where both are given, everything is there.
    ///
    /// # Errors
    /// [`DbError::AlreadyEncrypted`], [`DbError::WrongKind`] when there is a plain store of this name.
    pub fn create(&self, password: &str) -> Result<UnlockedStore, DbError> {
        self.create_as(password, None)
    }

    /// As [`Self::create`], for a store of one kind. The kind can be seen by everybody then.
    pub fn create_of_kind(&self, password: &str, kind: &str) -> Result<UnlockedStore, DbError> {
        let known = kind::known(kind).ok_or_else(|| DbError::UnknownKind { kind: kind.to_owned() })?;
        self.create_as(password, Some(known))
    }

    fn create_as(&self, password: &str, kind: Option<&'static str>) -> Result<UnlockedStore, DbError> {
        let store = self.store_name()?;
        self.check_cost()?;
        self.check_absent(&store, kind)?;
        let mut bytes = Zeroizing::new([0; 32]);
        self.db.instance().env().entropy.fill(&mut *bytes);
        let key = DataKey::new(bytes);
        let config = self.wrap(&store, &key, password, Vec::new());
        let opened_by = config.clone();
        self.db.write(|tx| {
            self.check_absent(&store, kind)?;
            if let Some(kind) = kind {
                let registered = RegistryOp::Register { store: self.name.clone(), kind: kind.to_owned() };
                registry::stage(tx, &registered)?;
            }
            registry::stage(tx, &RegistryOp::Encryption { store: self.name.clone(), config })
        })?;
        // Somebody has written a plain one in between.
        if !self.db.is_encrypted(&store)? {
            return Err(self.is_plain_error(None));
        }
        self.remember(&store, opened_by)?;
        self.db.unlock_with(&store, [(key.id(), key)].into())?;
        Ok(self.opened())
    }

    fn check_absent(&self, store: &StoreName, kind: Option<&'static str>) -> Result<(), DbError> {
        let snapshot = self.db.snapshot()?;
        if self.db.is_encrypted_in(&snapshot, store)? {
            return Err(DbError::AlreadyEncrypted { store: self.name.clone() });
        }
        let mut there = plain_kinds(&snapshot, store)?;
        let registered = registry::registered_in(&snapshot, store.as_str())?;
        there.extend(registered.into_iter().filter(|held| kind.is_some_and(|kind| held != kind)));
        match there.pop() {
            // What does not decode, or is not here, is no kind, and goes before a config all the same.
            None if may_be_plain(&snapshot, store)? && self.db.by_precedence(&snapshot, store)?.1 => {
                Err(self.is_plain_error(None))
            }
            None => Ok(()),
            found => Err(self.is_plain_error(found)),
        }
    }

    fn is_plain_error(&self, found: Option<String>) -> DbError {
        let found = found.unwrap_or_else(|| "unknown".to_owned());
        DbError::WrongKind { store: self.name.clone(), found, wanted: "encrypted" }
    }

    /// Opens the store with a password, and brings it up to date. Costs what the password was made to cost, some tenths
    /// of a second. With a second password it opens what was written under that one too.
    ///
    /// Whoever may write can add configs, each of which has to be tried. One call tries some; when that opened nothing
    /// and there are more, it says so, and the next call with this password goes on.
    ///
    /// # Errors
    /// [`DbError::WrongPassword`], [`DbError::UnlockUnfinished`], [`DbError::NotEncrypted`] when there is no such
    /// encrypted store here.
    pub fn unlock(&self, password: &str) -> Result<UnlockedStore, DbError> {
        let store = self.store_name()?;
        let (found, _) = self.try_password(&store, password)?;
        self.db.unlock_with(&store, found.keys)?;
        Ok(self.opened())
    }

    /// What a password opens, and whether more is to be tried.
    fn try_password(&self, store: &StoreName, password: &str) -> Result<(Found, Option<DbError>), DbError> {
        let snapshot = self.db.snapshot()?;
        if !self.db.is_encrypted_in(&snapshot, store)? {
            return Err(DbError::NotEncrypted { store: self.name.clone() });
        }
        let (configs, hint) = self.configs(store)?;
        // Held all the while: memory for one try of a password is enough.
        let mut searches = lock(&self.db.state().vaults.searches);
        let begun = searches.get_mut(store).map(|held| {
            let tag = held.tag(password);
            let failed = held.take(&tag);
            (tag, failed)
        });
        let (tag, failed) = begun.unzip();
        let failed = failed.unwrap_or_default();
        let tried = try_password((&self.db.id(), store), &configs, password, hint, failed);
        let (tried_count, left) = (tried.failed.len(), tried.left);
        if left > 0 {
            let salt = self.db.instance().env().random();
            let held = searches.entry(store.clone()).or_insert_with(|| Searches::new(salt, self.cost));
            held.keep(tag.unwrap_or_else(|| held.tag(password)), tried.failed);
        } else if searches.get(store).is_some_and(Searches::is_empty) {
            searches.remove(store);
        }
        drop(searches);
        let name = || self.name.clone();
        let unfinished =
            (left > 0).then(|| DbError::UnlockUnfinished { store: name(), tried: tried_count, left });
        let Some(found) = tried.found else {
            return Err(unfinished.unwrap_or_else(|| DbError::WrongPassword { store: name() }));
        };
        let opened_by = configs.iter().find(|(hash, _)| *hash == found.opened_by && hint != Some(*hash));
        if let Some((_, config)) = opened_by {
            self.remember(store, config.encode())?;
        }
        Ok((found, unfinished))
    }

    /// Forgets the keys and what was opened with them. Handles of the store say [`DbError::Locked`] from here on.
    pub fn lock(&self) -> Result<(), DbError> {
        let store = self.store_name()?;
        let vault = lock(&self.db.state().vaults.open).remove(&store);
        vault.map_or(Ok(()), |vault| lock(&vault).write())
    }

    /// Whether the store is unlocked.
    pub fn is_unlocked(&self) -> Result<bool, DbError> {
        Ok(self.db.state().vaults.vault(&self.store_name()?).is_some())
    }

    /// Whether there is an encrypted store of this name here.
    pub fn is_encrypted(&self) -> Result<bool, DbError> {
        self.db.is_encrypted(&self.store_name()?)
    }

    /// Puts another password in the place of all that open what `old` opens. Nothing is encrypted anew, so it costs one
    /// entry; who had an old password and kept what it opened can read on. One entry; waits for the disk.
    ///
    /// Passwords that others set meanwhile stay.
    ///
    /// # Errors
    /// As [`Self::unlock`], of which it does nothing else.
    pub fn change_password(&self, old: &str, new: &str) -> Result<(), DbError> {
        let store = self.store_name()?;
        self.check_cost()?;
        let (found, unfinished) = self.try_password(&store, old)?;
        // What is not found would go on being opened by the old one.
        unfinished.map_or(Ok(()), Err)?;
        let (configs, _) = self.configs(&store)?;
        let place = (&self.db.id(), &store);
        let mut wrapped = Vec::new();
        for (id, key) in &found.keys {
            let of_key = || configs.iter().filter(|(_, config)| config.is_proven_by(key, place));
            let is_live = |hash: &[u8; 32]| !of_key().any(|(_, other)| other.replaces.contains(hash));
            let live = of_key().filter(|(hash, config)| config.key == *id && is_live(hash));
            let replaces = live.map(|(hash, _)| *hash).collect();
            wrapped.push(self.wrap(&store, key, new, replaces));
        }
        let opened_by = wrapped.first().cloned();
        self.db.write(|tx| {
            wrapped.into_iter().try_for_each(|config| {
                registry::stage(tx, &RegistryOp::Encryption { store: self.name.clone(), config })
            })
        })?;
        opened_by.map_or(Ok(()), |config| self.remember(&store, config))
    }

    fn check_cost(&self) -> Result<(), DbError> {
        if self.cost.is_bearable() { Ok(()) } else { Err(DbError::PasswordCost) }
    }

    fn wrap(&self, store: &StoreName, key: &DataKey, password: &str, replaces: Vec<[u8; 32]>) -> Bytes {
        let (tree, env) = (self.db.id(), self.db.instance().env());
        let fresh = (env.random(), env.random());
        Config::wrap((&tree, store), key, password, self.cost, fresh, replaces).encode()
    }

    fn store_name(&self) -> Result<StoreName, DbError> {
        match store_name(&self.name)? {
            _ if is_reserved(&self.name) => Err(DbError::StoreName { name: self.name.clone() }),
            store => Ok(store),
        }
    }

    fn opened(&self) -> UnlockedStore {
        UnlockedStore { db: self.db.clone(), name: self.name.clone() }
    }

    fn hints(&self) -> Local {
        hints(&self.db.instance().store().local())
    }

    fn remember(&self, store: &StoreName, config: Bytes) -> Result<(), DbError> {
        Ok(self.hints().put(&hint_key(&self.db.id(), store), config)?)
    }

    /// The configs of the store, and the hash of the one that opened last here, which is among them whether or not its
    /// entry counts.
    fn configs(&self, store: &StoreName) -> Result<(Configs, Option<[u8; 32]>), DbError> {
        let mut configs = configs_in(&self.db.snapshot()?, store)?;
        let kept = self.hints().get(&hint_key(&self.db.id(), store))?;
        let hint = kept.as_ref().map(|kept| config::hash(kept));
        if let Some((kept, hint)) = kept.zip(hint)
            && !configs.iter().any(|(hash, _)| *hash == hint)
        {
            configs.extend(Config::decode(&kept).ok().map(|config| (hint, config)));
        }
        Ok((configs, hint))
    }
}

impl UnlockedStore {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As a document.
    #[must_use]
    pub fn doc(&self) -> DocStore {
        self.db.doc(&self.name)
    }

    /// As a table.
    #[must_use]
    pub fn table<T>(&self) -> Table<T> {
        self.db.table(&self.name)
    }

    /// As a text.
    #[must_use]
    pub fn text(&self) -> TextHandle {
        self.db.text(&self.name)
    }
}

#[cfg(test)]
pub(crate) fn tests_key(byte: u8) -> DataKey {
    DataKey::new(Zeroizing::new([byte; 32]))
}

/// The keys by which a store is open.
#[cfg(test)]
pub(crate) fn tests_open_keys(db: &Database, store: &str) -> Vec<Vec<u8>> {
    let vault = db.state().vaults.vault(&StoreName::new(store).unwrap()).unwrap();
    lock(&vault).keys().values().map(|key| key.bytes().to_vec()).collect()
}

#[cfg(test)]
pub(crate) fn tests_config(
    place: (&TreeId, &StoreName),
    key: &DataKey,
    password: &str,
    cost: PasswordCost,
    replaces: Vec<[u8; 32]>,
) -> Bytes {
    Config::wrap(place, key, password, cost, ([1; 16], [2; 24]), replaces).encode()
}
