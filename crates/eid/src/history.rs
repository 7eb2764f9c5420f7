//! What was: older versions, what differs between them, who wrote what, and taking it back.

use eid_core::EntryId;
use eid_db::{Blame, Difference, LogEntry, Path, StoreSummary, Undone, Version as DbVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::{Changes, Database};
use crate::doc::DocStore;
use crate::error::Error;
use crate::offload::offload;
use crate::table::Table;
use crate::text::TextHandle;
use crate::transaction::Transaction;

/// A database as it was at entries of one's choice. Everything in it can be read; writing fails.
#[derive(Debug, Clone)]
pub struct Version {
    inner: DbVersion,
}

/// The differences between two versions, found while they are read.
#[derive(Debug)]
pub struct Differences {
    inner: eid_db::Differences,
}

impl Differences {
    /// How many writes to a store could not be looked into, because they are sealed or not here. Counted as the
    /// differences are read.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.inner.unread()
    }
}

impl Iterator for Differences {
    type Item = Result<Difference, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.inner.next()?.map_err(Error::from))
    }
}

impl Database {
    /// The database as these entries, and all that they descend from, make it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] for an entry that is not here, [`crate::ErrorKind::InvalidValue`] when none is
    /// named.
    pub fn at(&self, tips: &[EntryId]) -> Result<Version, Error> {
        Ok(Version { inner: self.inner().at(tips)? })
    }

    /// As [`Self::commit`], seeing and descending from these entries instead of what is here now: others may have
    /// written meanwhile, and both count.
    pub async fn commit_at<R>(
        &self,
        tips: &[EntryId],
        work: impl FnOnce(&Transaction<'_>) -> Result<R, Error>,
    ) -> Result<(R, Option<EntryId>), Error> {
        let transaction = self.inner().begin_at(tips)?;
        let result = work(&Transaction { inner: &transaction })?;
        let pending = transaction.prepare()?;
        let committed = offload(move || pending.commit()).await??;
        Ok((result, committed.map(|committed| committed.id)))
    }

    /// What differs between two versions, each named by entries, found while it is read.
    pub fn diff(&self, from: &[EntryId], to: &[EntryId]) -> Result<Differences, Error> {
        Ok(Differences { inner: self.inner().diff(from, to)? })
    }

    /// Who wrote what is at a path of a document, value by value, or in a row of a table, field by field.
    pub fn blame(&self, store: &str, path: impl Into<Path>) -> Result<Vec<Blame>, Error> {
        Ok(self.inner().blame(store, path)?)
    }

    /// Up to `limit` entries, newest first in the order of arrival, after the last one of the page before.
    pub fn log_page(&self, after: Option<&LogEntry>, limit: usize) -> Result<Vec<LogEntry>, Error> {
        Ok(self.inner().log_before(after.map(|entry| entry.seq), limit)?)
    }

    /// Takes back the last change that this device made, as an entry of its own; what others have written since stays.
    /// Nothing if it made none. Doing so twice does the change again.
    pub async fn undo_last(&self) -> Result<Option<Undone>, Error> {
        let db = self.inner().clone();
        Ok(offload(move || db.undo_last()).await??)
    }

    /// Takes back what one entry changed. What cannot be taken back, or was written again since, is reported.
    ///
    /// # Errors
    /// When it was taken back already, here or elsewhere.
    pub async fn undo(&self, entry: EntryId) -> Result<Undone, Error> {
        let db = self.inner().clone();
        Ok(offload(move || db.undo(entry)).await??)
    }

    /// The changes that the consumer of this name has not acknowledged with [`Changes::ack`]: from the first entry on
    /// when it is used first, from its place on after a restart. One name is for one reader at a time.
    pub fn consumer(&self, name: &str) -> Result<Changes, Error> {
        Ok(Changes { inner: self.inner().consumer(name)? })
    }

    /// Forgets the place of a consumer: its next use is its first.
    pub fn forget_consumer(&self, name: &str) -> Result<(), Error> {
        Ok(self.inner().forget_consumer(name)?)
    }
}

impl Version {
    /// The entries that name it, sorted.
    pub fn tips(&self) -> Result<Vec<EntryId>, Error> {
        Ok(self.inner.tips()?)
    }

    /// How many entries make it.
    pub fn entries(&self) -> Result<u64, Error> {
        Ok(self.inner.entries()?)
    }

    /// Equal for two versions exactly when what could be seen of the database is.
    pub fn state_hash(&self) -> Result<Option<[u8; 32]>, Error> {
        Ok(self.inner.state_hash()?)
    }

    /// A document, to be read.
    #[must_use]
    pub fn doc(&self, name: &str) -> DocStore {
        DocStore { inner: self.inner.doc(name) }
    }

    /// A table, to be read.
    #[must_use]
    pub fn table<T: Serialize + DeserializeOwned>(&self, name: &str) -> Table<T> {
        Table::new(self.inner.database(), name)
    }

    /// Its stores, by name and kind. Counts their rows.
    pub fn stores(&self) -> Result<Vec<StoreSummary>, Error> {
        Ok(self.inner.stores()?)
    }

    /// A text, to be read.
    #[must_use]
    pub fn text(&self, name: &str) -> TextHandle {
        TextHandle { inner: self.inner.database().text(name) }
    }

    /// The kind of the store of this name, if there was one.
    pub fn kind_of(&self, store: &str) -> Result<Option<String>, Error> {
        Ok(self.inner.kind_of(store)?)
    }

    /// Who had written what, as [`Database::blame`].
    pub fn blame(&self, store: &str, path: impl Into<Path>) -> Result<Vec<Blame>, Error> {
        Ok(self.inner.blame(store, path)?)
    }
}

impl Changes {
    /// Keeps the place after the last change that was given, for a [`Database::consumer`]: after a restart it goes on
    /// there. A crash may repeat changes and never loses one.
    pub fn ack(&mut self) -> Result<(), Error> {
        Ok(self.inner.ack()?)
    }

    /// How many entries lie ahead of the reader.
    pub fn behind(&self) -> Result<u64, Error> {
        Ok(self.inner.behind()?)
    }

    /// Goes to the end of what is there. Gives how many entries it passed over.
    pub fn skip_to_now(&mut self) -> Result<u64, Error> {
        Ok(self.inner.skip_to_now()?)
    }
}
