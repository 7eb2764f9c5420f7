//! Reading, comparing and taking back what was written: every answer is that of the entries that it names, whatever
//! came since.
//!
//! A version of a database is named by entries: what they and all that they descend from make together. A version that
//! was seen once is there for ever, under the same name, on every replica that holds it.

mod blame;
mod diff;
mod leaves;
mod undo;

pub use blame::Blame;
pub use diff::{Difference, Differences};
pub use undo::{Kept, Undone};

use std::fmt;
use std::sync::Arc;

use eid_core::dag::{Replica as _, Seq};
use eid_core::{EntryId, Height};
use eid_store::TreeSnapshot;

use crate::authority::Settings;
use crate::database::{Database, StoreSummary};
use crate::doc_store::DocStore;
use crate::error::DbError;
use crate::kind::Kinds;
use crate::log::LogEntry;
use crate::table::Table;
use crate::transaction::Transaction;

/// A database as it was at entries of one's choice. Everything in it can be read; writing fails with
/// [`DbError::ReadOnly`].
#[derive(Clone)]
pub struct Version(Database);

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version").field("database", &self.0.id()).finish_non_exhaustive()
    }
}

impl Database {
    /// The database as these entries, and all that they descend from, make it.
    ///
    /// Entries that others of them descend from change nothing.
    ///
    /// # Errors
    /// [`DbError::UnknownEntry`] for what is not held here, [`DbError::NoEntry`] when none is named.
    pub fn at(&self, tips: &[EntryId]) -> Result<Version, DbError> {
        Ok(Version(self.showing(self.version(tips)?)))
    }

    /// Begins a transaction that sees, and descends from, these entries instead of what is here now. The DAG forks,
    /// and both count.
    ///
    /// # Errors
    /// As [`Self::at`].
    pub fn begin_at(&self, tips: &[EntryId]) -> Result<Transaction, DbError> {
        Ok(Transaction::pinned_to(self.clone(), self.version(tips)?))
    }

    pub(crate) fn version(&self, tips: &[EntryId]) -> Result<TreeSnapshot, DbError> {
        let snapshot = self.snapshot()?;
        positions(&snapshot, tips)?;
        Ok(snapshot.at(tips, &Kinds)?)
    }
}

/// Where these entries lie.
pub(crate) fn positions(snapshot: &TreeSnapshot, ids: &[EntryId]) -> Result<Vec<Seq>, DbError> {
    if ids.is_empty() {
        return Err(DbError::NoEntry);
    }
    let found = snapshot.find(ids)?;
    ids.iter().zip(found).map(|(id, seq)| seq.ok_or(DbError::UnknownEntry { id: *id })).collect()
}

impl Version {
    /// The version as a database: reads show it, writes are refused. What reads by way of the DAG, such as
    /// [`Database::changes`], goes on with what is there now.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.0
    }

    /// The entries that name it: those of its own that no other one descends from, sorted.
    pub fn tips(&self) -> Result<Vec<EntryId>, DbError> {
        self.0.tips()
    }

    /// How many entries make it.
    pub fn entries(&self) -> Result<u64, DbError> {
        self.0.entries()
    }

    /// The longest path from the root.
    pub fn height(&self) -> Result<Height, DbError> {
        self.0.height()
    }

    /// Names what could be seen of the database then.
    pub fn state_hash(&self) -> Result<Option<[u8; 32]>, DbError> {
        self.0.state_hash()
    }

    /// Its stores, by name and kind. Counts their rows.
    pub fn stores(&self) -> Result<Vec<StoreSummary>, DbError> {
        self.0.stores()
    }

    /// The kind of the store of this name, if there is one.
    ///
    /// # Errors
    /// [`DbError::SeveralKinds`] when it is there in several.
    pub fn kind_of(&self, store: &str) -> Result<Option<String>, DbError> {
        self.0.kind_of(store)
    }

    /// The settings.
    pub fn settings(&self) -> Result<Arc<Settings>, DbError> {
        self.0.settings()
    }

    /// A document store, to be read.
    #[must_use]
    pub fn doc(&self, name: &str) -> DocStore {
        self.0.doc(name)
    }

    /// A table, to be read.
    #[must_use]
    pub fn table<T>(&self, name: &str) -> Table<T> {
        self.0.table(name)
    }

    /// Its entries, newest first: up to `limit`, beginning before a place.
    pub fn log_before(&self, before: Option<Seq>, limit: usize) -> Result<Vec<LogEntry>, DbError> {
        self.0.log_before(before, limit)
    }

    /// Who wrote what is in a store, as [`Database::blame`].
    pub fn blame(&self, store: &str, path: impl Into<crate::Path>) -> Result<Vec<Blame>, DbError> {
        self.0.blame(store, path)
    }
}
