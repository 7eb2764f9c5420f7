//! One device over one backend.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use eid_core::RULES_FIRST;
use eid_core::{Nonce, Permission, PublicKey, SecretKey, SectionDraft, SettingsOp, Slot, TreeId};
use eid_store::{Admitted, Backend, Durability, EntryStore, Local, LocalCommit, Parents, Watch};
use uuid::Uuid;
use zeroize::Zeroize as _;

use crate::authority::Authority;
use crate::database::{Database, TreeState};
use crate::env::Env;
use crate::error::DbError;
use crate::kind::Kinds;
use crate::limits::{ID_PREFIX_CHARS_MIN, NAME_BYTES_MAX, SALT_BYTES, USER_KEYS_MAX};
use crate::users::Users;
use crate::users::account::UserId;

/// One device: its key, its databases, its store. A cheap handle.
#[derive(Debug, Clone)]
pub struct Instance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<EntryStore>,
    authority: Arc<Authority>,
    env: Env,
    device: Arc<SecretKey>,
    /// Keys that took the place of the device's own in some database.
    further: Mutex<Vec<Arc<SecretKey>>>,
    trees: Arc<Trees>,
    accounts: Users,
    made_keys: Mutex<(u64, u16)>,
    redeeming: Mutex<()>,
    requesting: Mutex<()>,
    _watch: Watch,
}

/// What the handles of one database share, for as long as there are any: whoever asks for databases that are not here
/// leaves nothing behind.
#[derive(Debug, Default)]
struct Trees(Mutex<HashMap<TreeId, Weak<TreeState>>>);

impl Trees {
    fn lock(&self) -> MutexGuard<'_, HashMap<TreeId, Weak<TreeState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, tree: TreeId) -> Arc<TreeState> {
        let mut trees = self.lock();
        if let Some(state) = trees.get(&tree).and_then(Weak::upgrade) {
            return state;
        }
        if trees.len() == trees.capacity() {
            trees.retain(|_, state| state.strong_count() > 0);
        }
        let state = Arc::new(TreeState::default());
        trees.insert(tree, Arc::downgrade(&state));
        state
    }

    fn notify(&self, admitted: &Admitted) {
        let state = self.lock().get(&admitted.tree).and_then(Weak::upgrade);
        if let Some(state) = state {
            state.notify(admitted);
        }
    }
}

/// A database that was made.
#[derive(Debug)]
pub struct Created {
    /// The database. This device is its Admin(1).
    pub database: Database,
    /// The key of its Admin(0), which exists nowhere else. It is wiped when this is dropped.
    pub recovery: SecretKey,
}

/// A database in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its id.
    pub id: TreeId,
    /// Its name on this device.
    pub name: String,
    /// The title that its members share.
    pub title: Option<String>,
    /// How many entries are held. None of a database that is tracked and has not arrived.
    pub entries: u64,
}

/// Where what is known of the instance itself is kept.
pub(crate) const INSTANCE: &str = "instance";
pub(crate) const DEVICE: &[u8] = b"device";
/// Where its further keys are kept.
pub(crate) const FURTHER: &str = "device-keys";
const DISPLAY_NAME: &[u8] = b"display name";

fn check_name(name: &str) -> Result<(), DbError> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) { Ok(()) } else { Err(DbError::Name) }
}

impl Instance {
    /// Opens the instance that a backend holds, or makes one: the device key is made on first use.
    pub fn open(backend: Arc<dyn Backend>, env: Env) -> Result<Self, DbError> {
        let authority = Arc::new(Authority::new());
        let judge = Arc::clone(&authority);
        let store = EntryStore::open(backend, judge, Arc::new(Kinds), env.random())?;
        let device = Arc::new(device_key(&store.local().namespace(INSTANCE), &env)?);
        let further = Mutex::new(further_keys(&store.local().namespace(FURTHER))?);
        let trees = Arc::new(Trees::default());
        let notified = Arc::clone(&trees);
        let watch = store.on_admitted(Arc::new(move |admitted| notified.notify(admitted)));
        Ok(Self(Arc::new(Inner {
            store,
            authority,
            env,
            device,
            further,
            trees,
            accounts: Users::default(),
            made_keys: Mutex::default(),
            redeeming: Mutex::default(),
            requesting: Mutex::default(),
            _watch: watch,
        })))
    }

    /// The public key of this device.
    #[must_use]
    pub fn device(&self) -> PublicKey {
        self.0.device.public()
    }

    /// The key of this device. It never leaves it.
    #[must_use]
    pub fn device_key(&self) -> Arc<SecretKey> {
        Arc::clone(&self.0.device)
    }

    /// Every key of this device, its own first, then those that took its place in some database.
    #[must_use]
    pub fn device_keys(&self) -> Vec<Arc<SecretKey>> {
        let mut keys = vec![self.device_key()];
        keys.extend(self.0.further.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        keys
    }

    /// A key of this device, or of a user who is logged in.
    #[must_use]
    pub fn own_key(&self, key: &PublicKey) -> Option<Arc<SecretKey>> {
        let device = self.device_keys().into_iter().find(|own| own.public() == *key);
        device.or_else(|| self.0.accounts.unlocked(key))
    }

    /// Makes another key of this device, and keeps it as the first one is kept.
    pub(crate) fn make_device_key(&self) -> Result<PublicKey, DbError> {
        let mut further = self.0.further.lock().unwrap_or_else(PoisonError::into_inner);
        if further.len() >= USER_KEYS_MAX {
            return Err(DbError::TooManyKeys);
        }
        let mut seed: [u8; 32] = self.0.env.random();
        let key = SecretKey::from_seed(seed);
        let kept = self.0.store.local().namespace(FURTHER).put(&key.public().0, seed.to_vec());
        seed.zeroize();
        kept?;
        let public = key.public();
        further.push(Arc::new(key));
        Ok(public)
    }

    /// The store of entries.
    #[must_use]
    pub fn store(&self) -> &Arc<EntryStore> {
        &self.0.store
    }

    /// The surroundings.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.0.authority
    }

    pub(crate) fn accounts(&self) -> &Users {
        &self.0.accounts
    }

    pub(crate) fn redeeming(&self) -> MutexGuard<'_, ()> {
        self.0.redeeming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by who changes a request for access that it has read.
    pub(crate) fn requesting(&self) -> &Mutex<()> {
        &self.0.requesting
    }

    fn names(&self) -> Local {
        self.0.store.local().namespace("databases")
    }

    /// What this device calls itself to others.
    pub fn display_name(&self) -> Result<Option<String>, DbError> {
        let name = self.0.store.local().namespace(INSTANCE).get(DISPLAY_NAME)?;
        Ok(name.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Changes what this device calls itself.
    pub fn set_display_name(&self, name: &str) -> Result<(), DbError> {
        check_name(name)?;
        Ok(self.0.store.local().namespace(INSTANCE).put(DISPLAY_NAME, name.as_bytes().to_vec())?)
    }

    /// Makes a database, which the user of the device tracks. Its name here is also the title that its members will
    /// see.
    pub fn create_database(&self, name: &str) -> Result<Created, DbError> {
        self.create_database_of(name, self.device(), UserId::DEVICE)
    }

    /// Makes a database of which a key of a user is Admin(1).
    pub(crate) fn create_database_of(
        &self,
        name: &str,
        owner: PublicKey,
        user: UserId,
    ) -> Result<Created, DbError> {
        check_name(name)?;
        let mut seed: [u8; 32] = self.0.env.random();
        let recovery = SecretKey::from_seed(seed);
        seed.zeroize();
        let set = |key, permission| SettingsOp::Set { slot: Slot::Key(key), permission };
        let mut ops = vec![
            SettingsOp::Rules(RULES_FIRST),
            set(recovery.public(), Permission::Admin(0)),
            set(owner, Permission::Admin(1)),
            SettingsOp::Title(name.to_owned()),
        ];
        if owner != self.device() {
            // So that it can be fetched and served while its owner is logged out.
            ops.insert(3, set(self.device(), Permission::Read));
        }
        let salt: [u8; SALT_BYTES] = self.0.env.random();
        let committed = self.0.store.commit(LocalCommit {
            tree: None,
            author: Arc::new(recovery.clone()),
            now_ms: self.0.env.clock.now_ms(),
            parents: Parents::AtSeal,
            sections: vec![SectionDraft::settings(&ops, &salt)],
            nonce: Some(Nonce(self.0.env.random())),
            durability: Durability::Durable,
        })?;
        self.begin_tracking(user, &committed.tree)?;
        self.track(committed.tree, name)?;
        Ok(Created { database: self.handle(committed.tree), recovery })
    }

    /// Takes up a database that is to come from elsewhere, or names one that is here.
    pub fn track(&self, tree: TreeId, name: &str) -> Result<Database, DbError> {
        check_name(name)?;
        self.names().put(&tree.0, name.as_bytes().to_vec())?;
        Ok(self.handle(tree))
    }

    /// Changes the name of a database on this device.
    pub fn rename(&self, tree: &TreeId, name: &str) -> Result<(), DbError> {
        self.track(*tree, name).map(drop)
    }

    /// Gives a database that has no name here the title that it has now, unless that stands for another one here.
    pub fn keep_title_as_name(&self, tree: &TreeId) -> Result<(), DbError> {
        let database = self.handle(*tree);
        let Some(title) = database.title()?.filter(|title| check_name(title).is_ok()) else { return Ok(()) };
        let stands_for = |(id, name): (&TreeId, &Option<String>)| {
            name.as_deref() == Some(title.as_str()) || id.to_string().starts_with(&title)
        };
        if self.known()?.iter().any(stands_for) || self.name_of(tree)?.is_some() {
            return Ok(());
        }
        self.rename(tree, &title)
    }

    /// Removes a database from this device, with everything that is known of it here.
    pub fn forget(&self, tree: &TreeId) -> Result<(), DbError> {
        // What belongs to the entries goes before them, and the name last: if this is cut off in between, the database
        // is still listed, what is left of it is whole, and nothing is taken for what may come again under its id.
        crate::changes::end_life(self, tree)?;
        self.forget_invites(tree)?;
        self.forget_requests(tree)?;
        self.forget_preferences(tree)?;
        crate::sealed::forget_tree(&self.0.store.local(), tree)?;
        crate::changes::forget_consumers(self, tree)?;
        crate::indexes::forget_wishes(self, tree)?;
        match self.0.store.forget(tree) {
            Ok(()) | Err(eid_store::StoreError::UnknownTree) => {}
            Err(error) => return Err(error.into()),
        }
        self.names().delete(&tree.0)?;
        self.0.authority.forget(tree);
        let handle = self.handle(*tree);
        handle.state().forget_checked();
        // Whoever waits for changes is to see that nothing is left.
        handle.state().admitted.notify(usize::MAX);
        Ok(())
    }

    pub(crate) fn handle(&self, tree: TreeId) -> Database {
        Database::new(self.clone(), tree, self.0.trees.state(tree))
    }

    pub(crate) fn name_of(&self, tree: &TreeId) -> Result<Option<String>, DbError> {
        Ok(self.names().get(&tree.0)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The database of this id, whether or not it is known here.
    #[must_use]
    pub fn database_by_id(&self, tree: TreeId) -> Database {
        self.handle(tree)
    }

    /// Finds a database by its id, its name, or the beginning of its id (8 characters or more).
    ///
    /// A name that was given here goes before the title of a database without one, and a title that looks like the
    /// beginning of an id does not hide the database with that id: others may change titles, and must not get between
    /// this device and its own databases.
    ///
    /// # Errors
    /// [`DbError::Ambiguous`] when that names several.
    pub fn database(&self, name: &str) -> Result<Option<Database>, DbError> {
        let known = self.known()?;
        if let Ok(id) = name.parse::<TreeId>() {
            return Ok(known.contains_key(&id).then(|| self.handle(id)));
        }
        let named = |called: &Option<String>| called.as_deref() == Some(name);
        let mut ids: Vec<TreeId> = known.iter().filter(|(_, held)| named(held)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            let is_prefix = name.len() >= ID_PREFIX_CHARS_MIN;
            for (id, held) in &known {
                let begins = is_prefix && id.to_string().starts_with(name);
                if begins || (held.is_none() && self.handle(*id).name()? == name) {
                    ids.push(*id);
                }
            }
        }
        match ids.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(self.handle(*one))),
            _ => Err(DbError::Ambiguous { name: name.to_owned(), ids }),
        }
    }

    /// Every database that is held or tracked, with its name here.
    fn known(&self) -> Result<BTreeMap<TreeId, Option<String>>, DbError> {
        let mut known: BTreeMap<TreeId, Option<String>> =
            self.0.store.trees()?.into_iter().map(|tree| (tree, None)).collect();
        for (key, name) in self.names().scan(&[])? {
            let tree = <[u8; 32]>::try_from(key.as_slice());
            let tree = tree.map_err(|_| DbError::Corrupt { what: "the name of a database" })?;
            known.insert(TreeId(tree), Some(String::from_utf8_lossy(&name).into_owned()));
        }
        Ok(known)
    }

    /// Every database that is held or tracked here.
    pub fn databases(&self) -> Result<Vec<DatabaseInfo>, DbError> {
        let known = self.known()?;
        known
            .into_keys()
            .map(|id| {
                let database = self.handle(id);
                let held = self.0.store.tree(&id)?;
                let (title, entries) = match &held {
                    Some(snapshot) => (database.title()?, snapshot.count()),
                    None => (None, 0),
                };
                Ok(DatabaseInfo { id, name: database.name()?, title, entries })
            })
            .collect()
    }

    /// A key for a row: a UUID of version 7, later ones of this device sorting after earlier ones.
    pub(crate) fn fresh_key(&self) -> String {
        let now = self.0.env.clock.now_ms();
        let (ms, counter) = {
            let mut last = self.0.made_keys.lock().unwrap_or_else(PoisonError::into_inner);
            *last = match *last {
                (ms, _) if now > ms => (now, 0),
                (ms, 0x0fff) => (ms + 1, 0),
                (ms, counter) => (ms, counter + 1),
            };
            *last
        };
        let mut random: [u8; 10] = self.0.env.random();
        // The twelve bits after the version count within a millisecond; the rest is random.
        random[..2].copy_from_slice(&counter.to_be_bytes());
        let uuid: Uuid = uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid();
        uuid.to_string()
    }

    /// Writes what is cached and lets go of the backend. Whatever comes after fails.
    pub fn close(&self) -> Result<(), DbError> {
        Ok(self.0.store.close()?)
    }
}

/// The keys of the device other than the one that it is known by.
fn further_keys(local: &Local) -> Result<Vec<Arc<SecretKey>>, DbError> {
    let rows = local.scan(&[])?;
    let keys = rows.iter().map(|(_, bytes)| <[u8; 32]>::try_from(bytes.as_ref()));
    let keys: Result<Vec<_>, _> =
        keys.map(|seed| seed.map(|seed| Arc::new(SecretKey::from_seed(seed)))).collect();
    keys.map_err(|_| DbError::Corrupt { what: "a key of this device" })
}

/// The device key: made on first use, and the one that is there whoever made it.
fn device_key(local: &Local, env: &Env) -> Result<SecretKey, DbError> {
    if local.get(DEVICE)?.is_none() {
        let mut seed: [u8; 32] = env.random();
        let made = local.put_if_absent(DEVICE, seed.to_vec());
        seed.zeroize();
        made?;
    }
    let seed = local.get(DEVICE)?.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_ref()).ok());
    seed.map(SecretKey::from_seed).ok_or(DbError::Corrupt { what: "the key of this device" })
}
