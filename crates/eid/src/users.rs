//! Users of an instance: accounts that passwords open, the databases they track, and how these are synchronised.

use std::fmt;
use std::sync::Arc;

use eid_core::{Permission, PublicKey, SecretKey, TreeId};
use eid_db::{DatabasePreferences, Enrolled, PreferencesChanges, SyncSettings, UserInfo};
use eid_sync::DatabaseTicket;
use zeroize::Zeroizing;

use crate::database::Database;
use crate::error::Error;
use crate::instance::Instance;
use crate::join::Join;
use crate::offload::offload;

/// A user who is logged in. A cheap handle; what it gave stops working when it is logged out, or when every handle is
/// dropped.
///
/// ```
/// # async fn example() -> Result<(), eid::Error> {
/// let node = eid::Instance::builder().memory().open().await?;
/// let ada = node.create_user("ada", Some("correct horse battery staple")).await?;
/// let db = ada.create_database("notes").await?;
/// db.doc("main").set("title", "signed with Ada's key").await?;
/// ada.logout();
/// let refused = db.doc("main").set("title", "too late").await.unwrap_err();
/// assert_eq!(refused.kind(), eid::ErrorKind::LoggedOut);
/// node.close().await
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone)]
pub struct User {
    node: Instance,
    inner: eid_db::User,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A password on its way to a thread that may block.
fn kept(password: Option<&str>) -> Option<Zeroizing<String>> {
    password.map(|password| Zeroizing::new(password.to_owned()))
}

fn text(password: Option<&Zeroizing<String>>) -> Option<&str> {
    password.map(|password| password.as_str())
}

impl Instance {
    /// The users of this device: first the one who needs no account and has the key of the device, then the others by
    /// name. Nobody has to be logged in.
    pub fn users(&self) -> Result<Vec<UserInfo>, Error> {
        Ok(self.db().users()?)
    }

    /// Makes an account with a key of its own, and logs in. Without a password, whoever can read the store of this
    /// device is the user. Names and passwords are compared byte by byte.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidName`] when there is such a user, or the name cannot be one;
    /// [`crate::ErrorKind::InvalidValue`] when the password is empty or too long.
    pub async fn create_user(&self, name: &str, password: Option<&str>) -> Result<User, Error> {
        let (db, name, password) = (self.db().clone(), name.to_owned(), kept(password));
        let inner = offload(move || db.create_user(&name, text(password.as_ref()))).await??;
        Ok(User { node: self.clone(), inner })
    }

    /// Logs a user in. Several may be at once, and one several times.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongPassword`] whether it is the name or the password that is wrong.
    pub async fn login(&self, name: &str, password: Option<&str>) -> Result<User, Error> {
        let (db, name, password) = (self.db().clone(), name.to_owned(), kept(password));
        let inner = offload(move || db.login(&name, text(password.as_ref()))).await??;
        // Peers that are kept in step are shown the keys of this user.
        self.sync().wishes_changed();
        Ok(User { node: self.clone(), inner })
    }

    /// The user who needs no account, and has the key of this device.
    #[must_use]
    pub fn device_user(&self) -> User {
        User { node: self.clone(), inner: self.db().device_user() }
    }

    /// How a database is to be synchronised when the preferences of all users are taken together; nothing when nobody
    /// tracks it.
    pub fn combined_preferences(&self, database: &TreeId) -> Result<Option<SyncSettings>, Error> {
        Ok(self.db().combined_preferences(database)?)
    }

    /// Tells from here on of which databases preferences change.
    #[must_use]
    pub fn preferences_changes(&self) -> PreferencesChanges {
        self.db().preferences_changes()
    }
}

impl User {
    pub(crate) fn inner(&self) -> &eid_db::User {
        &self.inner
    }

    /// The keys that are proven to a server beside the device's, to act for this user there.
    pub(crate) fn proven(&self) -> Result<Vec<Arc<SecretKey>>, Error> {
        if self.is_device() { Ok(Vec::new()) } else { Ok(vec![self.inner.first_key()?]) }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.node
    }

    /// Whether this is the user who needs no account.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.inner.is_device()
    }

    /// Whether this login still holds.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        self.inner.is_logged_in()
    }

    /// Ends this login: every handle that it gave fails with [`crate::ErrorKind::LoggedOut`] where it needs a key. Other
    /// logins of the same user go on; with the last one the keys are wiped.
    pub fn logout(self) {
        self.inner.logout();
    }

    /// Puts another password, or none, in the place of the one that there is. Keys and logins stay.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongPassword`] when `old` is wrong.
    pub async fn change_password(&self, old: Option<&str>, new: Option<&str>) -> Result<(), Error> {
        let (inner, old, new) = (self.inner.clone(), kept(old), kept(new));
        Ok(offload(move || inner.change_password(text(old.as_ref()), text(new.as_ref()))).await??)
    }

    /// The first of the user's keys: what others grant rights to.
    pub fn key(&self) -> Result<PublicKey, Error> {
        Ok(self.inner.key()?)
    }

    /// All of the user's keys on this device, the first one first.
    pub fn keys(&self) -> Result<Vec<PublicKey>, Error> {
        Ok(self.inner.keys()?)
    }

    /// Makes another key, such as one for a database in which the user is not to be recognised.
    pub async fn new_key(&self) -> Result<PublicKey, Error> {
        let inner = self.inner.clone();
        Ok(offload(move || inner.new_key()).await??)
    }

    /// What the user may do in a database, and with which key: the strongest one, directly or as everyone.
    pub fn permission(&self, database: &TreeId) -> Result<Option<(PublicKey, Permission)>, Error> {
        Ok(self.inner.permission(database)?)
    }

    /// Grants a key of this user's other device what this one has, a level weaker, in every tracked database of which
    /// this user is an admin. Private keys never leave their device.
    pub async fn enrol(&self, other: &PublicKey) -> Result<Enrolled, Error> {
        let (inner, other) = (self.inner.clone(), *other);
        Ok(offload(move || inner.enrol(&other)).await??)
    }

    // ---- databases

    /// Finds a database as [`Instance::database`] does. What is written through it is signed with the strongest key that
    /// this user has there.
    pub fn database(&self, name: &str) -> Result<Option<Database>, Error> {
        Ok(self.inner.database(name)?.map(|db| Database::new(self.node.clone(), db)))
    }

    /// The same database, in which this user writes.
    #[must_use]
    pub fn acting_in(&self, database: &Database) -> Database {
        Database::new(self.node.clone(), self.inner.database_by_id(database.id()))
    }

    /// Makes a database of which this user's first key is Admin(1), and tracks it. Its recovery key is wiped.
    pub async fn create_database(&self, name: &str) -> Result<Database, Error> {
        Ok(self.create_database_with_recovery(name).await?.0)
    }

    /// Makes a database, and gives the key that outranks every device. It exists nowhere else.
    pub async fn create_database_with_recovery(&self, name: &str) -> Result<(Database, SecretKey), Error> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        let created = offload(move || inner.create_database(&name)).await??;
        Ok((Database::new(self.node.clone(), created.database), created.recovery))
    }

    /// Joins the database of a ticket, and tracks it: await what it gives.
    pub fn join(&self, ticket: &DatabaseTicket) -> Join {
        Join::by(self.clone(), ticket)
    }

    // ---- preferences

    /// Begins to track a database, as [`SyncSettings::default`] says. Gives how it is tracked: what it was, if it was.
    pub async fn track(&self, database: &TreeId) -> Result<DatabasePreferences, Error> {
        let (inner, tree) = (self.inner.clone(), *database);
        Ok(offload(move || inner.track(&tree)).await??)
    }

    /// Every database that this user tracks, by id.
    pub fn tracked(&self) -> Result<Vec<DatabasePreferences>, Error> {
        Ok(self.inner.tracked()?)
    }

    /// How this user tracks a database, if it does.
    pub fn preferences(&self, database: &TreeId) -> Result<Option<DatabasePreferences>, Error> {
        Ok(self.inner.preferences(database)?)
    }

    /// Tracks a database as this says from here on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidValue`] when an interval is below a second, or properties are too many or too long.
    pub async fn set_preferences(&self, preferences: &DatabasePreferences) -> Result<(), Error> {
        let (inner, preferences) = (self.inner.clone(), preferences.clone());
        Ok(offload(move || inner.set_preferences(&preferences)).await??)
    }

    /// Tracks a database no longer. Gives whether it was tracked; what is here of it stays.
    pub async fn untrack(&self, database: &TreeId) -> Result<bool, Error> {
        let (inner, tree) = (self.inner.clone(), *database);
        Ok(offload(move || inner.untrack(&tree)).await??)
    }

    /// Opens a database that this user tracks.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`].
    pub fn open(&self, database: &TreeId) -> Result<Database, Error> {
        Ok(Database::new(self.node.clone(), self.inner.open(database)?))
    }
}
