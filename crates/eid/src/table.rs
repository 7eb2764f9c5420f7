//! Tables, with writes that can be awaited.

use std::marker::PhantomData;
use std::ops::Bound;

use eid_db::{Comparison, Database as Db, Path, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::offload::offload;

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

    /// How many rows there are. Reads them all.
    pub fn count(&self) -> Result<u64, Error> {
        Ok(self.inner.count()?)
    }

    /// Begins a query.
    pub fn query(&self) -> Query<T> {
        Query { inner: self.inner.query() }
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
        self.write_in_turn(|tx| tx.table(self.inner.name()).put(key, row)).await
    }

    /// Changes a row: writes only the fields that differ afterwards. `change` runs inline.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such row.
    pub async fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), Error> {
        self.write_in_turn(|tx| tx.table::<T>(self.inner.name()).update(key, change)).await
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

    /// Waits for its turn without a thread: the write whose turn it is needs one to be stored, and would never get it
    /// if those who wait for it had them all.
    async fn write_in_turn(
        &self,
        work: impl FnOnce(&eid_db::Transaction) -> Result<(), eid_db::DbError>,
    ) -> Result<(), Error> {
        let ((), pending) = self.db.write_async(work).await?;
        offload(move || pending.commit()).await??;
        Ok(())
    }

    /// Deletes a row. Deleting what is not there is not an error.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.write_blind(|tx| tx.table::<T>(self.inner.name()).delete(key)).await
    }
}

/// A question to a table: conditions that all must hold, an order, a limit.
#[derive(Debug, Clone)]
#[must_use = "a query reads nothing before its rows are asked for"]
pub struct Query<T> {
    inner: eid_db::Query<T>,
}

impl<T: Serialize + DeserializeOwned> Query<T> {
    /// Keeps rows whose field, a name or a path into it, compares like this.
    pub fn filter(self, field: impl Into<Path>, comparison: Comparison, value: impl Into<Value>) -> Self {
        Self { inner: self.inner.filter(field, comparison, value) }
    }

    /// Keeps rows whose field is equal. Numbers are compared by size whatever their type.
    pub fn eq(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Eq, value)
    }

    /// Keeps rows whose field is absent or different.
    pub fn ne(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Ne, value)
    }

    /// Keeps rows whose field is smaller.
    pub fn lt(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Lt, value)
    }

    /// Keeps rows whose field is smaller or equal.
    pub fn le(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Le, value)
    }

    /// Keeps rows whose field is greater.
    pub fn gt(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Gt, value)
    }

    /// Keeps rows whose field is greater or equal.
    pub fn ge(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Ge, value)
    }

    /// Sorts by a field, smallest first. Without an order, rows come in the order of their keys.
    pub fn order(self, field: impl Into<Path>) -> Self {
        Self { inner: self.inner.order(field) }
    }

    /// Sorts by a field, greatest first.
    pub fn order_desc(self, field: impl Into<Path>) -> Self {
        Self { inner: self.inner.order_desc(field) }
    }

    /// Ends after so many rows.
    pub fn limit(self, rows: usize) -> Self {
        Self { inner: self.inner.limit(rows) }
    }

    /// The rows.
    pub fn rows(&self) -> Result<Vec<T>, Error> {
        Ok(self.inner.rows()?)
    }

    /// The rows with their keys.
    pub fn entries(&self) -> Result<Vec<(String, T)>, Error> {
        Ok(self.inner.entries()?)
    }

    /// How many rows there are.
    pub fn count(&self) -> Result<usize, Error> {
        Ok(self.inner.count()?)
    }
}
