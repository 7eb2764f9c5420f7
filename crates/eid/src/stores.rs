//! What is said about stores, and stores that a password opens.

use eid_db::{EncryptionStatus, IndexProgress, StoreListing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::database::Database;
use crate::doc::DocStore;
use crate::error::Error;
use crate::offload::offload;
use crate::table::Table;
use crate::text::TextHandle;

/// The registry of a database: which stores there are, in which kinds, and how they are set up. A cheap handle.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: eid_db::Registry,
}

/// A store whose contents only a password opens, of any kind. A cheap handle.
///
/// Once it is unlocked on this instance, the usual handles ([`Database::doc`], [`Database::table`], [`Database::text`])
/// work on it; before, they fail with [`crate::ErrorKind::Sealed`].
#[derive(Debug, Clone)]
pub struct PasswordStore {
    db: Database,
    inner: eid_db::PasswordStore,
}

impl Database {
    /// What is said about its stores.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry { inner: self.inner().registry() }
    }

    /// A store that a password opens. Reads and writes nothing yet.
    #[must_use]
    pub fn password_store(&self, name: &str) -> PasswordStore {
        PasswordStore { db: self.clone(), inner: self.inner().password_store(name) }
    }

    /// Builds the indexes that are wanted here or declared in the registry, and drops those that nobody wants any more.
    /// `progress` is told after each step, and says whether to go on. Gives whether it got to the end.
    pub async fn build_pending_indexes(
        &self,
        progress: impl FnMut(&IndexProgress) -> bool + Send + 'static,
    ) -> Result<bool, Error> {
        let db = self.inner().clone();
        Ok(offload(move || db.build_pending_indexes(progress)).await??)
    }
}

impl Registry {
    /// Every store that is written or registered, by name. Counts their rows.
    pub fn list(&self) -> Result<Vec<StoreListing>, Error> {
        Ok(self.inner.list()?)
    }

    /// Lists a store before anything is written to it, and keeps it from being opened as another kind.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongKind`] when it is there as another kind.
    pub async fn register(&self, store: &str, kind: &str) -> Result<(), Error> {
        let (registry, store, kind) = (self.inner.clone(), store.to_owned(), kind.to_owned());
        Ok(offload(move || registry.register(&store, &kind)).await??)
    }

    /// Wishes for an index on a field of a table, on every replica.
    pub async fn declare_index(&self, table: &str, field: &str) -> Result<(), Error> {
        let (registry, table, field) = (self.inner.clone(), table.to_owned(), field.to_owned());
        Ok(offload(move || registry.declare_index(&table, &field)).await??)
    }

    /// Takes the wish for an index back.
    pub async fn undeclare_index(&self, table: &str, field: &str) -> Result<(), Error> {
        let (registry, table, field) = (self.inner.clone(), table.to_owned(), field.to_owned());
        Ok(offload(move || registry.undeclare_index(&table, &field)).await??)
    }

    /// The fields of a table with declared indexes, sorted.
    pub fn indexes(&self, table: &str) -> Result<Vec<String>, Error> {
        Ok(self.inner.indexes(table)?)
    }
}

impl PasswordStore {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Makes the store, and unlocks it.
    pub async fn create(&self, password: &str) -> Result<(), Error> {
        let (store, password) = (self.inner.clone(), Zeroizing::new(password.to_owned()));
        offload(move || store.create(&password)).await??;
        Ok(())
    }

    /// Opens the store with a password on this instance, and brings it up to date.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongPassword`]; [`crate::ErrorKind::NotFound`] when there is no such encrypted store here.
    pub async fn unlock(&self, password: &str) -> Result<(), Error> {
        let (store, password) = (self.inner.clone(), Zeroizing::new(password.to_owned()));
        offload(move || store.unlock(&password)).await??;
        Ok(())
    }

    /// Forgets the keys and what was opened with them.
    pub async fn lock(&self) -> Result<(), Error> {
        let store = self.inner.clone();
        Ok(offload(move || store.lock()).await??)
    }

    /// Puts another password in the place of one. Who had it and kept what it opened can read on.
    pub async fn change_password(&self, old: &str, new: &str) -> Result<(), Error> {
        let (store, old) = (self.inner.clone(), Zeroizing::new(old.to_owned()));
        let new = Zeroizing::new(new.to_owned());
        Ok(offload(move || store.change_password(&old, &new)).await??)
    }

    /// Whether the store is unlocked on this instance.
    pub fn is_unlocked(&self) -> Result<bool, Error> {
        Ok(self.inner.is_unlocked()?)
    }

    /// Whether there is an encrypted store of this name here.
    pub fn is_encrypted(&self) -> Result<bool, Error> {
        Ok(self.inner.is_encrypted()?)
    }

    /// How much of it can be read here.
    pub fn status(&self) -> Result<EncryptionStatus, Error> {
        Ok(self.inner.status()?)
    }

    /// It as a document.
    #[must_use]
    pub fn doc(&self) -> DocStore {
        self.db.doc(self.name())
    }

    /// It as a table.
    #[must_use]
    pub fn table<T: Serialize + DeserializeOwned>(&self) -> Table<T> {
        self.db.table(self.name())
    }

    /// It as a text.
    #[must_use]
    pub fn text(&self) -> TextHandle {
        self.db.text(self.name())
    }
}
