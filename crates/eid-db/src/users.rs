//! Users: accounts of one device, with keys that their passwords open, and databases that they track.
//!
//! An account is rows of this device (`docs/adr/0010-users.md`): nothing of it is ever an entry, so nothing of it can be
//! synchronised. Who is logged in is known in memory only.

pub(crate) mod account;
mod preferences;
#[cfg(test)]
mod vectors;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use eid_core::{Permission, PublicKey, SecretKey, Slot, TreeId};
use eid_store::Local;
use zeroize::Zeroizing;

pub use preferences::{DatabasePreferences, PreferencesChanges, SyncSettings};

use crate::database::Database;
use crate::error::DbError;
use crate::instance::{Created, Instance};
use crate::limits::{
    PASSWORD_BYTES_MAX, PASSWORDS_TRIED_AT_ONCE, PROVEN_KEYS_MAX, USER_KEYS_MAX, USER_NAME_BYTES_MAX,
    USERS_MAX,
};
use crate::users::account::{MasterKey, Protection, Record, UserId, is_fit, open_key, seal_key};
use crate::users::preferences::Listeners;
use crate::wrap::PasswordCost;

/// The name of the user who needs no account: whoever uses the device.
pub const DEVICE_USER: &str = "device";

/// A user in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// Its name, as it was given: compared byte by byte.
    pub name: String,
    /// The first of its keys: what others grant rights to.
    pub key: PublicKey,
    /// Whether logging in takes a password.
    pub has_password: bool,
    /// Whether it is the user of the device, who has the key of the device.
    pub is_device: bool,
}

/// A user who is logged in. A cheap handle; what it gave stops working when it is logged out, or when every handle is
/// dropped.
///
/// ```
/// use std::sync::Arc;
///
/// use eid_db::{DbError, Env, Instance};
///
/// let node = Instance::open(Arc::new(eid_store::Memory::new()), Env::system())?;
/// let ada = node.create_user("ada", Some("correct horse battery staple"))?;
/// let db = ada.create_database("notes")?.database;
/// db.doc("main").set("title", "signed with Ada's key")?;
/// ada.logout();
/// assert!(matches!(db.doc("main").set("title", "too late"), Err(DbError::LoggedOut)));
/// assert!(matches!(node.login("ada", Some("wrong")), Err(DbError::Login)));
/// # Ok::<(), DbError>(())
/// ```
#[derive(Clone)]
pub struct User {
    instance: Instance,
    session: Arc<Session>,
}

/// What was granted to a key of a user's other device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Enrolled {
    /// The databases in which the key has a right now, and which.
    pub granted: Vec<(TreeId, Permission)>,
    /// Tracked databases in which this user is no admin, that are not here, or in which the key was revoked: nothing was
    /// done there.
    pub skipped: Vec<TreeId>,
}

/// One login. Several of one user are several of these.
#[derive(Debug)]
pub(crate) struct Session {
    id: UserId,
    name: String,
    account: Mutex<Option<Arc<Account>>>,
}

/// What the logins of one user share, for as long as there are any. Its keys are wiped with it.
#[derive(Debug)]
struct Account {
    /// Changed while `changing` is held, together with what is stored.
    master: Mutex<Option<MasterKey>>,
    keys: Mutex<Vec<Arc<SecretKey>>>,
}

/// What an instance knows of its users.
#[derive(Debug)]
pub(crate) struct Users {
    /// Held while accounts are written.
    changing: Mutex<()>,
    open: Mutex<HashMap<UserId, Weak<Account>>>,
    pub(crate) listeners: Listeners,
    cost: Mutex<PasswordCost>,
    trying: Mutex<usize>,
    tried: Condvar,
    /// How often a password was worked on.
    #[cfg(test)]
    pub(crate) tries: std::sync::atomic::AtomicU64,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            changing: Mutex::default(),
            open: Mutex::default(),
            listeners: Listeners::default(),
            cost: Mutex::new(PasswordCost::default()),
            trying: Mutex::default(),
            tried: Condvar::new(),
            #[cfg(test)]
            tries: std::sync::atomic::AtomicU64::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Users {
    /// Does work that takes much memory when its turn comes.
    fn in_turn<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Done<'u>(&'u Users);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                *lock(&self.0.trying) -= 1;
                self.0.tried.notify_one();
            }
        }
        let mut trying = lock(&self.trying);
        while *trying >= PASSWORDS_TRIED_AT_ONCE {
            trying = self.tried.wait(trying).unwrap_or_else(PoisonError::into_inner);
        }
        *trying += 1;
        drop(trying);
        #[cfg(test)]
        self.tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _done = Done(self);
        work()
    }

    /// The private key of this public one, if it is of somebody who is logged in.
    pub(crate) fn unlocked(&self, key: &PublicKey) -> Option<Arc<SecretKey>> {
        let open: Vec<Arc<Account>> = lock(&self.open).values().filter_map(Weak::upgrade).collect();
        open.iter().find_map(|account| lock(&account.keys).iter().find(|held| held.public() == *key).cloned())
    }
}

/// The strongest of some keys by what each may do, directly or as everyone; of equally strong ones the first.
pub(crate) fn strongest(
    keys: &[Arc<SecretKey>],
    permission: impl Fn(&PublicKey) -> Option<Permission>,
) -> Option<(Arc<SecretKey>, Permission)> {
    let mut best: Option<(&Arc<SecretKey>, Permission)> = None;
    for key in keys {
        if let Some(has) = permission(&key.public())
            && best.is_none_or(|(_, most)| has > most)
        {
            best = Some((key, has));
        }
    }
    best.map(|(key, has)| (Arc::clone(key), has))
}

impl Session {
    fn account(&self) -> Result<Arc<Account>, DbError> {
        lock(&self.account).clone().ok_or(DbError::LoggedOut)
    }

    /// The keys of the user, the first one first.
    pub(crate) fn keys(&self) -> Result<Vec<Arc<SecretKey>>, DbError> {
        Ok(lock(&self.account()?.keys).clone())
    }
}

/// A password that could be one: bounded before it costs anything.
fn check_password(password: Option<&str>) -> Result<(), DbError> {
    match password {
        Some(password) if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) => Err(DbError::Password),
        _ => Ok(()),
    }
}

fn check_user_name(name: &str) -> Result<(), DbError> {
    let fits = (1..=USER_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(char::is_control)
        && name.trim() == name;
    if fits { Ok(()) } else { Err(DbError::UserName) }
}

const CORRUPT: DbError = DbError::Corrupt { what: "an account" };

fn record_key(name: &str) -> Vec<u8> {
    [b"a", name.as_bytes()].concat()
}

fn key_prefix(id: UserId) -> Vec<u8> {
    [&b"k"[..], &id.0].concat()
}

impl Instance {
    fn user_rows(&self) -> Local {
        self.store().local().namespace("users")
    }

    fn preference_rows(&self) -> Local {
        self.store().local().namespace("preferences")
    }

    fn record(&self, name: &str) -> Result<Option<Record>, DbError> {
        let Some(bytes) = self.user_rows().get(&record_key(name))? else { return Ok(None) };
        let record = Record::decode(&bytes).ok().filter(|record| record.name == name);
        record.map(Some).ok_or(CORRUPT)
    }

    /// The user who needs no account, with the key of this device.
    #[must_use]
    pub fn device_user(&self) -> User {
        let account = Account { master: Mutex::default(), keys: Mutex::new(self.device_keys()) };
        let account = Mutex::new(Some(Arc::new(account)));
        let session = Session { id: UserId::DEVICE, name: DEVICE_USER.to_owned(), account };
        User { instance: self.clone(), session: Arc::new(session) }
    }

    /// The users of this device: first the one who needs no account, then the others by name.
    pub fn users(&self) -> Result<Vec<UserInfo>, DbError> {
        let name = DEVICE_USER.to_owned();
        let mut users = vec![UserInfo { name, key: self.device(), has_password: false, is_device: true }];
        for (_, bytes) in self.user_rows().scan(b"a")? {
            let record = Record::decode(&bytes).map_err(|_| CORRUPT)?;
            let has_password = record.has_password();
            users.push(UserInfo { name: record.name, key: record.key, has_password, is_device: false });
        }
        Ok(users)
    }

    /// Makes passwords that are set from here on as costly as this to try. Those that are set keep their cost.
    ///
    /// # Errors
    /// [`DbError::PasswordCost`] when it is below 19 MiB or 2 passes, or beyond what every device will pay.
    pub fn set_password_cost(&self, cost: PasswordCost) -> Result<(), DbError> {
        if !is_fit(cost) {
            return Err(DbError::PasswordCost);
        }
        *lock(&self.accounts().cost) = cost;
        Ok(())
    }

    /// Makes an account with a key of its own, and logs in. Without a password, whoever can read the store of this
    /// device is the user.
    ///
    /// Names are compared byte by byte, as passwords are: two ways to write one accented letter are two names. Some
    /// tenths of a second, with a password.
    ///
    /// # Errors
    /// [`DbError::UserExists`], [`DbError::UserName`], [`DbError::Password`] when it is empty or too long.
    pub fn create_user(&self, name: &str, password: Option<&str>) -> Result<User, DbError> {
        check_user_name(name)?;
        check_password(password)?;
        let mut seed = Zeroizing::new([0; 32]);
        self.env().entropy.fill(&mut *seed);
        let key = SecretKey::from_seed(*seed);
        let master = self.make_master();
        let id = UserId(self.env().random());

        let _changing = lock(&self.accounts().changing);
        if name == DEVICE_USER || self.record(name)?.is_some() {
            return Err(DbError::UserExists { name: name.to_owned() });
        }
        if self.user_rows().scan(b"a")?.len() >= USERS_MAX {
            return Err(DbError::TooManyUsers);
        }
        let record = self.protect(id, name, key.public(), &master, password);
        self.user_rows().write(vec![
            (record_key(name), Some(record.encode().into())),
            (self.key_row(id, &key), Some(seal_key(id, &master, &key, self.env().random()).into())),
        ])?;
        self.enter(record, master)
    }

    fn make_master(&self) -> MasterKey {
        let mut master = Zeroizing::new([0; 32]);
        self.env().entropy.fill(&mut *master);
        MasterKey::new(master)
    }

    fn key_row(&self, id: UserId, key: &SecretKey) -> Vec<u8> {
        [&key_prefix(id)[..], &key.public().0].concat()
    }

    fn protect(
        &self,
        id: UserId,
        name: &str,
        key: PublicKey,
        master: &MasterKey,
        password: Option<&str>,
    ) -> Record {
        let Some(password) = password else {
            return Record { id, name: name.to_owned(), key, protection: Protection::None(master.clone()) };
        };
        let cost = *lock(&self.accounts().cost);
        let fresh = (self.env().random(), self.env().random());
        self.accounts().in_turn(|| Record::protect(id, name, key, master, (password, cost), fresh))
    }

    /// Logs a user in. Several may be at once, and one several times. Some tenths of a second, with a password.
    ///
    /// # Errors
    /// [`DbError::Login`] whether it is the name or the password that is wrong, after about the same work.
    pub fn login(&self, name: &str, password: Option<&str>) -> Result<User, DbError> {
        if name == DEVICE_USER && password.is_none() {
            return Ok(self.device_user());
        }
        let (record, master) = self.try_password(name, password)?;
        self.enter_unless_changed(record, master)
    }

    /// Logs a user in whose password was right a moment ago.
    pub(crate) fn enter_unless_changed(&self, record: Record, master: MasterKey) -> Result<User, DbError> {
        let _changing = lock(&self.accounts().changing);
        // Whoever has changed the password meanwhile may have changed the master key.
        if self.record(&record.name)?.is_none_or(|now| now.encode() != record.encode()) {
            return Err(DbError::Login);
        }
        self.enter(record, master)
    }

    pub(crate) fn try_password(
        &self,
        name: &str,
        password: Option<&str>,
    ) -> Result<(Record, MasterKey), DbError> {
        if check_password(password).is_err() {
            return Err(DbError::Login);
        }
        let record = if check_user_name(name).is_ok() { self.record(name)? } else { None };
        let opened = match (record, password) {
            (Some(record), Some(password)) if record.has_password() => {
                let master = self.accounts().in_turn(|| record.open(Some(password)));
                master.map(|master| (record, master))
            }
            (_, Some(password)) => {
                // So that the time does not tell which names there are.
                let cost = *lock(&self.accounts().cost);
                self.accounts().in_turn(|| drop(cost.key(password, &[0; 16])));
                None
            }
            (record, None) => record.and_then(|record| record.open(None).map(|master| (record, master))),
        };
        opened.ok_or(DbError::Login)
    }

    fn enter(&self, record: Record, master: MasterKey) -> Result<User, DbError> {
        let mut open = lock(&self.accounts().open);
        open.retain(|_, account| account.strong_count() > 0);
        let account = match open.get(&record.id).and_then(Weak::upgrade) {
            Some(account) => account,
            None => {
                let keys = self.open_keys(&record, &master)?;
                let account = Arc::new(Account { master: Mutex::new(Some(master)), keys: Mutex::new(keys) });
                open.insert(record.id, Arc::downgrade(&account));
                account
            }
        };
        drop(open);
        let account = Mutex::new(Some(account));
        let session = Session { id: record.id, name: record.name, account };
        Ok(User { instance: self.clone(), session: Arc::new(session) })
    }

    /// The keys of a user, the first one first.
    fn open_keys(&self, record: &Record, master: &MasterKey) -> Result<Vec<Arc<SecretKey>>, DbError> {
        let prefix = key_prefix(record.id);
        let mut keys = Vec::new();
        for (row, bytes) in self.user_rows().scan(&prefix)? {
            let public = <[u8; 32]>::try_from(&row[prefix.len()..]).map_err(|_| CORRUPT)?;
            let key = open_key(record.id, master, &PublicKey(public), &bytes).map_err(|_| CORRUPT)?;
            keys.push(Arc::new(key));
        }
        let first = keys.iter().position(|key| key.public() == record.key).ok_or(CORRUPT)?;
        keys.swap(0, first);
        keys[1..].sort_unstable_by_key(|key| key.public());
        Ok(keys)
    }

    /// The keys of those who are logged in, and further ones of this device, that may do more than the key by which this
    /// device is known, in a database or, with `None`, in any that is here: what a peer has to be shown so that it lets this device do as much.
    pub fn keys_to_prove(&self, tree: Option<&TreeId>) -> Result<Vec<Arc<SecretKey>>, DbError> {
        let open: Vec<Arc<Account>> =
            lock(&self.accounts().open).values().filter_map(Weak::upgrade).collect();
        let mut people: Vec<Vec<Arc<SecretKey>>> =
            open.iter().map(|account| lock(&account.keys).clone()).collect();
        people.push(self.device_keys());
        if people.iter().map(Vec::len).sum::<usize>() == 1 {
            return Ok(Vec::new());
        }
        let trees = match tree {
            Some(tree) => vec![*tree],
            None => self.store().trees()?,
        };
        let mut proven: Vec<Arc<SecretKey>> = Vec::new();
        for tree in trees {
            let settings = match self.handle(tree).settings() {
                Ok(settings) => settings,
                Err(DbError::NotHere) => continue,
                Err(error) => return Err(error),
            };
            for keys in &people {
                let found = strongest(keys, |key| settings.permission(key));
                let Some((key, permission)) = found else { continue };
                let more = Some(permission) > settings.permission(&self.device());
                if more && !proven.iter().any(|held| held.public() == key.public()) {
                    proven.push(key);
                }
                if proven.len() == PROVEN_KEYS_MAX {
                    return Ok(proven);
                }
            }
        }
        Ok(proven)
    }

    // ---- preferences

    /// How a database is to be synchronised when the preferences of all users are taken together; nothing when nobody
    /// tracks it. Nobody has to be logged in.
    pub fn combined_preferences(&self, tree: &TreeId) -> Result<Option<SyncSettings>, DbError> {
        let rows = self.preference_rows().scan(&tree.0)?;
        let all: Result<Vec<SyncSettings>, _> =
            rows.iter().map(|(_, bytes)| SyncSettings::decode(bytes)).collect();
        Ok(SyncSettings::combined(&all.map_err(|_| DbError::Corrupt { what: "preferences" })?))
    }

    /// Tells from here on of which databases preferences change.
    #[must_use]
    pub fn preferences_changes(&self) -> PreferencesChanges {
        self.accounts().listeners.add()
    }

    /// Takes note that a user tracks a database, unless that is known. On disk with the next durable write.
    pub(crate) fn begin_tracking(&self, id: UserId, tree: &TreeId) -> Result<(), DbError> {
        let row = preference_row(tree, id);
        if self.preference_rows().get(&row)?.is_none() {
            self.preference_rows().put_relaxed(&row, SyncSettings::default().encode())?;
            self.accounts().listeners.notify(*tree);
        }
        Ok(())
    }

    pub(crate) fn forget_preferences(&self, tree: &TreeId) -> Result<(), DbError> {
        let rows = self.preference_rows().scan(&tree.0)?;
        self.preference_rows().write(rows.into_iter().map(|(key, _)| (key, None)).collect())?;
        self.accounts().listeners.notify(*tree);
        Ok(())
    }
}

fn preference_row(tree: &TreeId, id: UserId) -> Vec<u8> {
    [&tree.0[..], &id.0].concat()
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.session.name)
            .field("logged_in", &self.is_logged_in())
            .finish_non_exhaustive()
    }
}

impl User {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.session.name
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Whether this is the user who needs no account.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.session.id == UserId::DEVICE
    }

    /// Whether this login still holds.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        self.session.account().is_ok()
    }

    /// Ends this login: every handle that it gave says [`DbError::LoggedOut`] from here on. Other logins of the same
    /// user go on; with the last one the keys are wiped.
    pub fn logout(self) {
        lock(&self.session.account).take();
    }

    /// Puts another password, or none, in the place of the one that there is. Keys stay as they are; logins that there
    /// are go on. Where there was no password the keys are sealed anew, as what opened them lay open.
    ///
    /// # Errors
    /// [`DbError::Login`] when `old` is wrong, [`DbError::DeviceUser`] for the user who has the key of the device.
    pub fn change_password(&self, old: Option<&str>, new: Option<&str>) -> Result<(), DbError> {
        let account = self.session.account()?;
        if self.is_device() {
            return Err(DbError::DeviceUser);
        }
        check_password(new)?;
        let instance = &self.instance;
        let _changing = lock(&instance.accounts().changing);
        let (record, held) = instance.try_password(self.name(), old)?;
        let (id, mut rows) = (record.id, Vec::new());
        let made = (!record.has_password()).then(|| instance.make_master());
        if let Some(master) = &made {
            for key in instance.open_keys(&record, &held)? {
                let sealed = seal_key(id, master, &key, instance.env().random());
                rows.push((instance.key_row(id, &key), Some(sealed.into())));
            }
        }
        let master = made.unwrap_or(held);
        let record = instance.protect(id, &record.name, record.key, &master, new);
        rows.push((record_key(self.name()), Some(record.encode().into())));
        instance.user_rows().write(rows)?;
        *lock(&account.master) = Some(master);
        Ok(())
    }

    // ---- keys

    /// The first of the user's keys: what others grant rights to.
    pub fn key(&self) -> Result<PublicKey, DbError> {
        Ok(self.first_key()?.public())
    }

    /// The first of the user's keys itself, for proving it to peers. It never leaves this device.
    pub fn first_key(&self) -> Result<Arc<SecretKey>, DbError> {
        self.session.keys()?.into_iter().next().ok_or(CORRUPT)
    }

    /// All of the user's keys on this device, the first one first.
    pub fn keys(&self) -> Result<Vec<PublicKey>, DbError> {
        Ok(self.session.keys()?.iter().map(|key| key.public()).collect())
    }

    /// Makes another key, such as one for a database in which the user is not to be recognised.
    ///
    /// # Errors
    /// [`DbError::TooManyKeys`], [`DbError::DeviceUser`].
    pub fn new_key(&self) -> Result<PublicKey, DbError> {
        let account = self.session.account()?;
        let mut seed = Zeroizing::new([0; 32]);
        self.instance.env().entropy.fill(&mut *seed);
        let key = Arc::new(SecretKey::from_seed(*seed));
        let _changing = lock(&self.instance.accounts().changing);
        let master = lock(&account.master).clone().ok_or(DbError::DeviceUser)?;
        if lock(&account.keys).len() >= USER_KEYS_MAX {
            return Err(DbError::TooManyKeys);
        }
        let id = self.session.id;
        let sealed = seal_key(id, &master, &key, self.instance.env().random());
        self.instance.user_rows().put(&self.instance.key_row(id, &key), sealed)?;
        let public = key.public();
        lock(&account.keys).push(key);
        Ok(public)
    }

    /// A user of this device for whom a handle of a database writes.
    pub(crate) fn of_session(instance: &Instance, session: &Arc<Session>) -> Self {
        Self { instance: instance.clone(), session: Arc::clone(session) }
    }

    /// What the user may do in a database, and with which key: the strongest one, directly or as everyone.
    pub fn permission(&self, tree: &TreeId) -> Result<Option<(PublicKey, Permission)>, DbError> {
        let settings = self.instance.handle(*tree).settings()?;
        let found = strongest(&self.session.keys()?, |key| settings.permission(key));
        Ok(found.map(|(key, permission)| (key.public(), permission)))
    }

    /// Grants a key of this user's other device what this one has in every tracked database in which it is an admin: a
    /// level below its own, so that a device which is lost can be removed by the one that added it.
    ///
    /// Private keys never leave their device, so another device has keys of its own.
    pub fn enrol(&self, other: &PublicKey) -> Result<Enrolled, DbError> {
        let mut enrolled = Enrolled::default();
        for DatabasePreferences { database: tree, .. } in self.tracked()? {
            let level = match self.permission(&tree) {
                Ok(held) => held.and_then(|(_, permission)| permission.level()),
                Err(DbError::NotHere) => None,
                Err(error) => return Err(error),
            };
            let Some(weaker) = level.and_then(|level| level.checked_add(1)) else {
                enrolled.skipped.push(tree);
                continue;
            };
            let db = self.database_by_id(tree);
            match db.settings()?.slot(&Slot::Key(*other)) {
                // What was taken away is given back by name, not in passing.
                Some(None) => enrolled.skipped.push(tree),
                Some(Some(held)) if held >= Permission::Admin(weaker) => enrolled.granted.push((tree, held)),
                _ => {
                    db.grant(Slot::Key(*other), Permission::Admin(weaker))?;
                    enrolled.granted.push((tree, Permission::Admin(weaker)));
                }
            }
        }
        Ok(enrolled)
    }

    // ---- databases

    /// Finds a database as [`Instance::database`] does. What is written through it is signed with the strongest key that
    /// this user has there.
    pub fn database(&self, name: &str) -> Result<Option<Database>, DbError> {
        self.session.account()?;
        Ok(self.instance.database(name)?.map(|db| db.acting_as(&self.session)))
    }

    /// The database of this id, whether or not it is known here.
    #[must_use]
    pub fn database_by_id(&self, tree: TreeId) -> Database {
        self.instance.handle(tree).acting_as(&self.session)
    }

    /// Makes a database of which this user's first key is Admin(1), and tracks it. The device may read it, so that it
    /// can be fetched while nobody is logged in.
    pub fn create_database(&self, name: &str) -> Result<Created, DbError> {
        let created = self.instance.create_database_of(name, self.key()?, self.session.id)?;
        Ok(Created { database: created.database.acting_as(&self.session), recovery: created.recovery })
    }

    // ---- preferences

    /// Begins to track a database, as [`SyncSettings::default`] says. Gives how it is tracked: what it was, if it was.
    pub fn track(&self, tree: &TreeId) -> Result<DatabasePreferences, DbError> {
        self.session.account()?;
        let row = preference_row(tree, self.session.id);
        let sync = SyncSettings::default();
        if self.instance.preference_rows().put_if_absent(&row, sync.encode())? {
            self.instance.accounts().listeners.notify(*tree);
            return Ok(DatabasePreferences { database: *tree, sync });
        }
        self.preferences(tree)?.ok_or(DbError::NotTracked)
    }

    /// Every database that this user tracks, by id.
    pub fn tracked(&self) -> Result<Vec<DatabasePreferences>, DbError> {
        self.session.account()?;
        let rows = self.instance.preference_rows().scan(&[])?;
        let own = rows.iter().filter(|(row, _)| row.ends_with(&self.session.id.0));
        own.map(|(row, bytes)| {
            let corrupt = || DbError::Corrupt { what: "preferences" };
            let tree = row.first_chunk::<32>().filter(|_| row.len() == 48).ok_or_else(corrupt)?;
            let sync = SyncSettings::decode(bytes).map_err(|_| corrupt())?;
            Ok(DatabasePreferences { database: TreeId(*tree), sync })
        })
        .collect()
    }

    /// How this user tracks a database, if it does.
    pub fn preferences(&self, tree: &TreeId) -> Result<Option<DatabasePreferences>, DbError> {
        self.session.account()?;
        let row = self.instance.preference_rows().get(&preference_row(tree, self.session.id))?;
        let Some(bytes) = row else { return Ok(None) };
        let sync = SyncSettings::decode(&bytes).map_err(|_| DbError::Corrupt { what: "preferences" })?;
        Ok(Some(DatabasePreferences { database: *tree, sync }))
    }

    /// Tracks a database as this says from here on.
    ///
    /// # Errors
    /// [`DbError::Preferences`] when an interval is below a second, or properties are too many or too long.
    pub fn set_preferences(&self, preferences: &DatabasePreferences) -> Result<(), DbError> {
        self.session.account()?;
        let DatabasePreferences { database, sync } = preferences;
        sync.check()?;
        self.instance.preference_rows().put(&preference_row(database, self.session.id), sync.encode())?;
        self.instance.accounts().listeners.notify(*database);
        Ok(())
    }

    /// Tracks a database no longer. Gives whether it was tracked; what is here of it stays.
    pub fn untrack(&self, tree: &TreeId) -> Result<bool, DbError> {
        let was = self.preferences(tree)?.is_some();
        if was {
            self.instance.preference_rows().delete(&preference_row(tree, self.session.id))?;
            self.instance.accounts().listeners.notify(*tree);
        }
        Ok(was)
    }

    /// Opens a database that this user tracks.
    ///
    /// # Errors
    /// [`DbError::NotTracked`].
    pub fn open(&self, tree: &TreeId) -> Result<Database, DbError> {
        self.preferences(tree)?.ok_or(DbError::NotTracked)?;
        Ok(self.database_by_id(*tree))
    }
}
