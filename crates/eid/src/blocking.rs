//! The same database for programs that have no async runtime: every call returns when it is done.
//!
//! An [`Instance`] brings a small runtime of its own. Handles read as their async counterparts do, which they
//! dereference to, and write by calls of the same names that wait.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Todo { title: String, done: bool }
//!
//! let node = eid::blocking::Instance::memory()?;
//! let db = node.create_database("notes")?;
//! let todos = db.table::<Todo>("todos");
//! let key = todos.insert(&Todo { title: "buy milk".into(), done: false })?;
//! todos.update(&key, |todo| todo.done = true)?;
//! db.doc("profile").set("name", "Ada")?;
//! assert_eq!(todos.query().eq("done", true).count()?, 1);
//! node.close()
//! # .unwrap(); Ok::<(), eid::Error>(())
//! ```

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut, Range};
#[cfg(feature = "embedded")]
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use eid_core::{EntryId, KeyMode, Permission, PublicKey, SecretKey, Slot, TreeId};
use eid_db::{DatabasePreferences, Enrolled, Event, Path, Since, Value};
use eid_sync::{DatabaseTicket, SessionReport};
use eid_transport::Address;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::access::Access;
use crate::error::Error;
use crate::listen::Listener;
use crate::transaction::Transaction;

/// The runtime that the handles of one instance share.
#[derive(Clone)]
struct Waiter(Arc<Runtime>);

impl Waiter {
    fn new() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime
            .map(|runtime| Self(Arc::new(runtime)))
            .map_err(|cause| Error::io("cannot start a thread", cause))
    }

    fn wait<F: Future>(&self, work: F) -> F::Output {
        self.0.block_on(work)
    }
}

/// One device over one store. A cheap handle.
///
/// # Panics
/// Every call that waits panics within an async runtime: use [`crate::Instance`] there.
#[derive(Clone)]
pub struct Instance {
    waiter: Waiter,
    inner: crate::Instance,
}

/// A user who is logged in. A cheap handle.
#[derive(Clone)]
pub struct User {
    waiter: Waiter,
    inner: crate::User,
}

/// A database on this device. A cheap handle.
#[derive(Clone)]
pub struct Database {
    waiter: Waiter,
    inner: crate::Database,
}

/// A document of a database. A cheap handle.
#[derive(Clone)]
pub struct DocStore {
    waiter: Waiter,
    inner: crate::DocStore,
}

/// A table of a database. A cheap handle.
pub struct Table<T> {
    waiter: Waiter,
    inner: crate::Table<T>,
}

/// A text of a database. A cheap handle.
#[derive(Clone)]
pub struct TextHandle {
    waiter: Waiter,
    inner: crate::TextHandle,
}

/// A local copy of a text, to be edited without waiting; it stores itself.
pub struct TextEdit {
    waiter: Waiter,
    inner: crate::TextEdit,
}

/// A stream of the changes of a database.
pub struct Changes {
    waiter: Waiter,
    inner: crate::Changes,
}

impl Instance {
    /// Opens the instance in this directory, or makes it: the device key is made on first use.
    ///
    /// # Errors
    /// As [`crate::Builder::open`].
    #[cfg(feature = "embedded")]
    pub fn open(directory: impl AsRef<FilePath>) -> Result<Self, Error> {
        Self::build(crate::Instance::builder().path(directory.as_ref()))
    }

    /// Opens an instance in memory: gone with its last handle.
    pub fn memory() -> Result<Self, Error> {
        Self::build(crate::Instance::builder().memory())
    }

    /// Opens the instance that a builder describes.
    pub fn build(builder: crate::Builder) -> Result<Self, Error> {
        let waiter = Waiter::new()?;
        let inner = waiter.wait(builder.open())?;
        Ok(Self { waiter, inner })
    }

    fn with(&self, inner: crate::Database) -> Database {
        Database { waiter: self.waiter.clone(), inner }
    }

    /// Finds a database by its name, its id, or the beginning of its id.
    pub fn database(&self, name: &str) -> Result<Option<Database>, Error> {
        Ok(self.inner.database(name)?.map(|db| self.with(db)))
    }

    /// Every database of this instance.
    pub fn databases(&self) -> Result<Vec<Database>, Error> {
        Ok(self.inner.databases()?.into_iter().map(|db| self.with(db)).collect())
    }

    /// Makes a database.
    pub fn create_database(&self, name: &str) -> Result<Database, Error> {
        Ok(self.with(self.waiter.wait(self.inner.create_database(name))?))
    }

    /// Makes a user with a key of its own, and logs in.
    pub fn create_user(&self, name: &str, password: Option<&str>) -> Result<User, Error> {
        let inner = self.waiter.wait(self.inner.create_user(name, password))?;
        Ok(User { waiter: self.waiter.clone(), inner })
    }

    /// Logs a user in.
    pub fn login(&self, name: &str, password: Option<&str>) -> Result<User, Error> {
        let inner = self.waiter.wait(self.inner.login(name, password))?;
        Ok(User { waiter: self.waiter.clone(), inner })
    }

    /// The user who needs no account, and has the key of this device.
    #[must_use]
    pub fn device_user(&self) -> User {
        User { waiter: self.waiter.clone(), inner: self.inner.device_user() }
    }

    /// Begins to listen, and gives the addresses under which others reach this instance.
    pub fn listen(&self, on: impl Into<Listener>) -> Result<Vec<Address>, Error> {
        self.waiter.wait(self.inner.listen(on))
    }

    /// Joins the database of a ticket.
    pub fn join(&self, ticket: &DatabaseTicket, within: Duration) -> Result<Database, Error> {
        let joined = self.waiter.wait(self.inner.join(ticket).within(within).run())?;
        Ok(self.with(joined.database))
    }

    /// Synchronises with whoever answers at an address, both directions: one database, or all that both may see. What the
    /// other side lets this device read and is not here yet comes too.
    pub fn sync_with(
        &self,
        address: &Address,
        database: Option<&Database>,
        within: Duration,
    ) -> Result<Vec<SessionReport>, Error> {
        self.waiter.wait(self.inner.sync_with(address, database.map(|db| &db.inner), within))
    }

    /// Removes a database from this device, with everything that is known of it here.
    pub fn forget_database(&self, database: &Database) -> Result<(), Error> {
        self.waiter.wait(self.inner.forget_database(&database.inner))
    }

    /// Stops listening, ends sessions, writes what is cached and lets go of the store.
    pub fn close(self) -> Result<(), Error> {
        self.waiter.wait(self.inner.close())
    }
}

impl User {
    fn with(&self, inner: crate::Database) -> Database {
        Database { waiter: self.waiter.clone(), inner }
    }

    /// Ends this login.
    pub fn logout(self) {
        self.inner.logout();
    }

    /// Puts another password, or none, in the place of the one that there is.
    pub fn change_password(&self, old: Option<&str>, new: Option<&str>) -> Result<(), Error> {
        self.waiter.wait(self.inner.change_password(old, new))
    }

    /// Makes another key.
    pub fn new_key(&self) -> Result<PublicKey, Error> {
        self.waiter.wait(self.inner.new_key())
    }

    /// Grants a key of this user's other device what this one has, a level weaker.
    pub fn enrol(&self, other: &PublicKey) -> Result<Enrolled, Error> {
        self.waiter.wait(self.inner.enrol(other))
    }

    /// Finds a database, in which this user writes.
    pub fn database(&self, name: &str) -> Result<Option<Database>, Error> {
        Ok(self.inner.database(name)?.map(|db| self.with(db)))
    }

    /// Makes a database of this user.
    pub fn create_database(&self, name: &str) -> Result<Database, Error> {
        Ok(self.with(self.waiter.wait(self.inner.create_database(name))?))
    }

    /// Opens a database that this user tracks.
    pub fn open(&self, database: &TreeId) -> Result<Database, Error> {
        Ok(self.with(self.inner.open(database)?))
    }

    /// Joins the database of a ticket.
    pub fn join(&self, ticket: &DatabaseTicket, within: Duration) -> Result<Database, Error> {
        Ok(self.with(self.waiter.wait(self.inner.join(ticket).within(within).run())?.database))
    }

    /// Begins to track a database. Gives how it is tracked: what it was, if it was.
    pub fn track(&self, database: &TreeId) -> Result<DatabasePreferences, Error> {
        self.waiter.wait(self.inner.track(database))
    }

    /// Tracks a database as this says from here on.
    pub fn set_preferences(&self, preferences: &DatabasePreferences) -> Result<(), Error> {
        self.waiter.wait(self.inner.set_preferences(preferences))
    }

    /// Tracks a database no longer. Gives whether it was tracked.
    pub fn untrack(&self, database: &TreeId) -> Result<bool, Error> {
        self.waiter.wait(self.inner.untrack(database))
    }
}

impl Database {
    /// A document. Reads and writes nothing yet.
    #[must_use]
    pub fn doc(&self, name: &str) -> DocStore {
        DocStore { waiter: self.waiter.clone(), inner: self.inner.doc(name) }
    }

    /// A table whose rows are of a type that serde knows as a struct or map. Reads and writes nothing yet.
    #[must_use]
    pub fn table<T: Serialize + DeserializeOwned>(&self, name: &str) -> Table<T> {
        Table { waiter: self.waiter.clone(), inner: self.inner.table(name) }
    }

    /// A text. Reads and writes nothing yet.
    #[must_use]
    pub fn text(&self, name: &str) -> TextHandle {
        TextHandle { waiter: self.waiter.clone(), inner: self.inner.text(name) }
    }

    /// Runs `work` and commits what it wrote as one entry: all of it, or, when it fails, nothing.
    pub fn write<R>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<R, Error>) -> Result<R, Error> {
        self.waiter.wait(self.inner.write(work))
    }

    /// What changed from a place on.
    pub fn changes_since(&self, since: Since) -> Result<Changes, Error> {
        Ok(Changes { waiter: self.waiter.clone(), inner: self.inner.changes_since(since)? })
    }

    /// What changes from here on.
    pub fn changes(&self) -> Result<Changes, Error> {
        self.changes_since(Since::Now)
    }

    /// Gives a key, or everyone, a right.
    pub fn grant(&self, slot: Slot, permission: Permission) -> Result<EntryId, Error> {
        self.waiter.wait(self.inner.grant(slot, permission))
    }

    /// Takes the right of a key, or of everyone, away.
    pub fn revoke(&self, slot: Slot, mode: KeyMode) -> Result<EntryId, Error> {
        self.waiter.wait(self.inner.revoke(slot, mode))
    }

    /// Gives a key, or everyone, a right, signed once with the recovery key.
    pub fn grant_with(
        &self,
        recovery: SecretKey,
        slot: Slot,
        permission: Permission,
    ) -> Result<EntryId, Error> {
        self.waiter.wait(self.inner.grant_with(recovery, slot, permission))
    }

    /// Takes the right of a key, or of everyone, away, signed once with the recovery key.
    pub fn revoke_with(&self, recovery: SecretKey, slot: Slot, mode: KeyMode) -> Result<EntryId, Error> {
        self.waiter.wait(self.inner.revoke_with(recovery, slot, mode))
    }

    /// Gives the right of the key that signs here to another key and retires it.
    pub fn rotate(&self, to: PublicKey) -> Result<EntryId, Error> {
        self.waiter.wait(self.inner.rotate(to))
    }

    /// As [`Self::rotate`], to a key that is made for it.
    pub fn renew_key(&self) -> Result<(EntryId, PublicKey), Error> {
        self.waiter.wait(self.inner.renew_key())
    }

    /// Lets void entries count again.
    pub fn accept(&self, entries: &[EntryId]) -> Result<Vec<EntryId>, Error> {
        self.waiter.wait(self.inner.accept(entries))
    }

    /// Makes a ticket.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotListening`] when nothing listens and no other address is named.
    pub fn share(&self, access: Access) -> Result<DatabaseTicket, Error> {
        self.waiter.wait(self.inner.share(access))
    }
}

impl DocStore {
    /// Sets the value at a path.
    pub fn set(&self, path: impl Into<Path>, value: impl Into<Value>) -> Result<(), Error> {
        self.waiter.wait(self.inner.set(path, value))
    }

    /// Deletes what is at a path and below.
    pub fn delete(&self, path: impl Into<Path>) -> Result<(), Error> {
        self.waiter.wait(self.inner.delete(path))
    }

    /// Adds to the integer at a path; concurrent increments add up.
    pub fn increment(&self, path: impl Into<Path>, by: i64) -> Result<(), Error> {
        self.waiter.wait(self.inner.increment(path, by))
    }
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// Adds a row and gives its key, which is made.
    pub fn insert(&self, row: &T) -> Result<String, Error> {
        self.waiter.wait(self.inner.insert(row))
    }

    /// Adds a row under a key of one's own.
    pub fn insert_as(&self, key: &str, row: &T) -> Result<(), Error> {
        self.waiter.wait(self.inner.insert_as(key, row))
    }

    /// Adds rows in one entry and gives their keys.
    pub fn insert_many<'r>(&self, rows: impl IntoIterator<Item = &'r T>) -> Result<Vec<String>, Error>
    where
        T: 'r,
    {
        self.waiter.wait(self.inner.insert_many(rows))
    }

    /// Puts a row in the place of what is there: writes only what differs.
    pub fn put(&self, key: &str, row: &T) -> Result<(), Error> {
        self.waiter.wait(self.inner.put(key, row))
    }

    /// Changes a row: writes only the fields that differ afterwards.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such row.
    pub fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), Error> {
        self.waiter.wait(self.inner.update(key, change))
    }

    /// Deletes a row.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.waiter.wait(self.inner.delete(key))
    }

    /// Adds to a [`crate::Counter`] field of a row.
    pub fn add(&self, key: &str, field: &str, by: i64) -> Result<(), Error> {
        self.waiter.wait(self.inner.add(key, field, by))
    }

    /// Makes an index on a field on this device, and returns when queries use it.
    pub fn create_index(&self, field: impl Into<Path>) -> Result<(), Error> {
        self.waiter.wait(self.inner.create_index(field))
    }
}

impl TextHandle {
    /// Puts text in before a position.
    pub fn insert(&self, at: usize, text: &str) -> Result<(), Error> {
        self.waiter.wait(self.inner.insert(at, text))
    }

    /// Takes characters out from a position on.
    pub fn delete(&self, at: usize, count: usize) -> Result<(), Error> {
        self.waiter.wait(self.inner.delete(at, count))
    }

    /// Puts text in the place of a part.
    pub fn replace(&self, range: Range<usize>, text: &str) -> Result<(), Error> {
        self.waiter.wait(self.inner.replace(range, text))
    }

    /// Makes the text another one, by the edits in which they differ.
    pub fn set(&self, text: &str) -> Result<(), Error> {
        self.waiter.wait(self.inner.set(text))
    }

    /// A local copy to be edited without waiting for anything. It stores itself: one entry per pause in typing.
    pub fn edit(&self) -> Result<TextEdit, Error> {
        let _runtime = self.waiter.0.enter();
        Ok(TextEdit { waiter: self.waiter.clone(), inner: self.inner.edit()? })
    }
}

impl TextEdit {
    /// Stores all edits now, and gives the last entry that came of it.
    pub fn flush(&mut self) -> Result<Option<EntryId>, Error> {
        self.waiter.wait(self.inner.flush())
    }

    /// Stores what is left and ends. To be able to try again when that fails, call [`Self::flush`] first.
    pub fn close(self) -> Result<(), Error> {
        self.waiter.wait(self.inner.close())
    }
}

impl DerefMut for TextEdit {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}

impl Changes {
    /// What comes next, if anything does within this time.
    pub fn next(&mut self, within: Duration) -> Result<Option<Event>, Error> {
        let next = async { tokio::time::timeout(within, self.inner.next()).await };
        self.waiter.wait(next).ok().transpose()
    }
}

/// Gives a handle the calls of its async counterpart that do not wait, and its looks.
macro_rules! handle {
    ($name:ident $(<$t:ident>)?, $inner:ty) => {
        impl $(<$t>)? Deref for $name $(<$t>)? {
            type Target = $inner;

            fn deref(&self) -> &Self::Target {
                &self.inner
            }
        }

        impl $(<$t>)? fmt::Debug for $name $(<$t>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.inner.fmt(f)
            }
        }
    };
}

handle!(Instance, crate::Instance);
handle!(User, crate::User);
handle!(Database, crate::Database);
handle!(DocStore, crate::DocStore);
handle!(Table<T>, crate::Table<T>);
handle!(TextHandle, crate::TextHandle);
handle!(TextEdit, crate::TextEdit);
handle!(Changes, crate::Changes);

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { waiter: self.waiter.clone(), inner: self.inner.clone() }
    }
}
