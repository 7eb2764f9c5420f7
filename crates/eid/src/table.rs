//! Tables, with writes that can be awaited.

use std::marker::PhantomData;
use std::ops::Bound;

use eid_db::{Database as Db, IndexInfo, IndexProgress, Path, RawTable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::offload::{offload, write_in_turn};
use crate::text::TextHandle;

/// A table of a database, whose rows are of one Rust type. A cheap handle; making one does nothing.
///
/// Reads are synchronous. A write is one entry and returns when it is on disk. Rows merge field by field.
pub struct Table<T> {
    db: Db,
    inner: eid_db::Table<T>,
    rows: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), inner: self.inner.clone(), rows: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    pub(crate) fn new(db: &Db, name: &str) -> Self {
        Self { db: db.clone(), inner: db.table(name), rows: PhantomData }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The row with this key.
    pub fn get(&self, key: &str) -> Result<Option<T>, Error> {
        Ok(self.inner.get(key)?)
    }

    /// All rows in the order of their keys.
    pub fn rows(&self) -> Result<Vec<T>, Error> {
        self.query().rows()
    }

    /// Up to `limit` rows in the order of their keys, beginning after a key: the last one of the page before.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, T)>, Error> {
        Ok(self.inner.page(after, limit)?)
    }

    /// Calls `each` with the rows of a range of keys, in order; it ends them by returning `false`. Memory does not
    /// grow with the table.
    pub fn scan(
        &self,
        range: (Bound<&str>, Bound<&str>),
        mut each: impl FnMut(String, T) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        Ok(self.inner.scan(range, |key, row| each(key, row).map_err(eid_db::DbError::abort))?)
    }

    /// The rows with these keys, in their order.
    pub fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<T>>, Error> {
        Ok(self.inner.get_many(keys)?)
    }

    /// Whether there is a row with this key.
    pub fn contains(&self, key: &str) -> Result<bool, Error> {
        Ok(self.inner.contains(key)?)
    }

    /// A [`crate::Text`] field of a row, to be edited where it is.
    pub fn text_field(&self, key: &str, field: &str) -> Result<TextHandle, Error> {
        Ok(TextHandle { inner: self.inner.text_field(key, field)? })
    }

    /// The indexes that this device has or wants, by field.
    pub fn indexes(&self) -> Result<Vec<IndexInfo>, Error> {
        Ok(self.inner.indexes()?)
    }

    /// Makes an index on a field, or a path into it, on this device, and returns when queries use it. Nothing is done
    /// when there is one. To have it on every replica, see [`crate::Registry::declare_index`].
    pub async fn create_index(&self, field: impl Into<Path>) -> Result<(), Error> {
        self.create_index_telling(field, |_| true).await.map(drop)
    }

    /// As [`Self::create_index`]; `progress` is told after each step, and says whether to go on. Gives whether it got to
    /// the end.
    pub async fn create_index_telling(
        &self,
        field: impl Into<Path>,
        progress: impl FnMut(&IndexProgress) -> bool + Send + 'static,
    ) -> Result<bool, Error> {
        let (table, field) = (self.any_rows(), field.into());
        Ok(offload(move || table.create_index_telling(field, progress)).await??)
    }

    /// Drops an index of this device.
    pub async fn drop_index(&self, field: impl Into<Path>) -> Result<(), Error> {
        let (table, field) = (self.any_rows(), field.into());
        Ok(offload(move || table.drop_index(field)).await??)
    }

    /// The same table, of a type that can be sent to another thread.
    fn any_rows(&self) -> RawTable {
        self.db.table(self.inner.name())
    }

    /// How many rows there are. Reads none of them.
    pub fn count(&self) -> Result<u64, Error> {
        Ok(self.inner.count()?)
    }

    /// Begins a query.
    pub fn query(&self) -> Query<T> {
        self.inner.query().failing_as()
    }

    /// Adds a row and gives its key, which is made: keys made later sort later.
    pub async fn insert(&self, row: &T) -> Result<String, Error> {
        self.write_blind(|tx| tx.table(self.inner.name()).insert(row)).await
    }

    /// Adds a row under a key of one's own. Where one is already, the fields are merged into it.
    pub async fn insert_as(&self, key: &str, row: &T) -> Result<(), Error> {
        self.write_blind(|tx| tx.table(self.inner.name()).insert_as(key, row)).await
    }

    /// Adds rows in one entry and gives their keys.
    pub async fn insert_many<'r>(&self, rows: impl IntoIterator<Item = &'r T>) -> Result<Vec<String>, Error>
    where
        T: 'r,
    {
        self.write_blind(|tx| {
            let table = tx.table(self.inner.name());
            rows.into_iter().map(|row| table.insert(row)).collect()
        })
        .await
    }

    /// Puts a row in the place of what is there: writes only what differs.
    pub async fn put(&self, key: &str, row: &T) -> Result<(), Error> {
        write_in_turn(&self.db, |tx| tx.table(self.inner.name()).put(key, row)).await
    }

    /// Changes a row: writes only the fields that differ afterwards. `change` runs inline.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such row.
    pub async fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), Error> {
        write_in_turn(&self.db, |tx| tx.table::<T>(self.inner.name()).update(key, change)).await
    }

    /// Stages on this thread, which only encodes, and waits for the disk on another.
    async fn write_blind<R>(
        &self,
        work: impl FnOnce(&eid_db::Transaction) -> Result<R, eid_db::DbError>,
    ) -> Result<R, Error> {
        let (result, pending) = self.db.prepare_blind(work)?;
        offload(move || pending.commit()).await??;
        Ok(result)
    }

    /// Adds to a [`crate::Counter`] field of a row; concurrent additions add up.
    pub async fn add(&self, key: &str, field: &str, by: i64) -> Result<(), Error> {
        self.write_blind(|tx| tx.table::<T>(self.inner.name()).add(key, field, by)).await
    }

    /// Adds rows under keys of one's own in one entry.
    pub async fn insert_many_as<'r>(
        &self,
        rows: impl IntoIterator<Item = (impl AsRef<str>, &'r T)>,
    ) -> Result<(), Error>
    where
        T: 'r,
    {
        self.write_blind(|tx| {
            let table = tx.table(self.inner.name());
            rows.into_iter().try_for_each(|(key, row)| table.insert_as(key.as_ref(), row))
        })
        .await
    }

    /// Deletes a row. Deleting what is not there is not an error.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.write_blind(|tx| tx.table::<T>(self.inner.name()).delete(key)).await
    }
}

/// A question to a table, asked with the errors of this crate.
pub type Query<T> = eid_db::Query<T, Error>;

/// A query that goes on, with the errors of this crate.
pub type LiveQuery<T> = eid_db::LiveQuery<T, Error>;
