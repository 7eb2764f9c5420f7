//! Tables: rows by key, whose fields merge one by one.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::Bound;

use eid_store::Direction;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::database::Database;
use crate::error::DbError;
use crate::kind::table::{self, Fields, Flow};
use crate::query::Query;
use crate::rows::Rows;
use crate::transaction::Transaction;
use crate::typed::{from_row, to_row};

/// A table of a database, whose rows are of one Rust type that serde knows as a struct or map. A cheap handle; making
/// one reads and writes nothing.
///
/// With `serde_json::Value` as the type it holds any rows, see [`RawTable`].
pub struct Table<T> {
    pub(crate) db: Database,
    pub(crate) name: String,
    pub(crate) rows: PhantomData<fn() -> T>,
}

/// A table whose rows are JSON objects.
pub type RawTable = Table<Json>;

/// A table within a [`Transaction`].
pub struct TxTable<'t, T> {
    pub(crate) tx: &'t Transaction,
    pub(crate) name: String,
    pub(crate) rows: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("db", &self.db.id()).field("name", &self.name).finish()
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), name: self.name.clone(), rows: PhantomData }
    }
}

impl<T> std::fmt::Debug for TxTable<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxTable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The fields of a row.
fn to_fields<T: Serialize>(row: &T) -> Result<Fields, DbError> {
    let row = to_row(row)?;
    table::check_fields(row.fields.keys()).map(|()| row.fields)
}

/// A page of rows, in the order of their keys.
fn page<T: DeserializeOwned>(
    rows: &dyn Rows,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, T)>, DbError> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    table::scan(rows, (from, Bound::Unbounded), Direction::Forward, limit, &mut |key, fields| {
        let row = from_row(&key, fields)?;
        found.push((key, row));
        Ok(if found.len() == limit { Flow::Stop } else { Flow::Continue })
    })?;
    Ok(found)
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
        self.db.read_store(&self.name, table::KIND, read)
    }

    /// The row with this key.
    pub fn get(&self, key: &str) -> Result<Option<T>, DbError> {
        self.read(|rows| table::get(rows, key)?.map(|fields| from_row(key, fields)).transpose())
    }

    /// Up to `limit` rows in the order of their keys, beginning after a key: the last one of the page before.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, T)>, DbError> {
        self.read(|rows| page(rows, after, limit))
    }

    /// Calls `each` with the rows of a range of keys, in order; it ends them by returning `false`. Memory does not
    /// grow with the table.
    pub fn scan(
        &self,
        range: (Bound<&str>, Bound<&str>),
        mut each: impl FnMut(String, T) -> Result<bool, DbError>,
    ) -> Result<(), DbError> {
        self.read(|rows| {
            table::scan(rows, range, Direction::Forward, usize::MAX, &mut |key, fields| {
                let row = from_row(&key, fields)?;
                Ok(if each(key, row)? { Flow::Continue } else { Flow::Stop })
            })
        })
    }

    /// How many rows there are. Reads them all.
    pub fn count(&self) -> Result<u64, DbError> {
        self.read(count)
    }

    /// Begins a query.
    pub fn query(&self) -> Query<T> {
        Query::new(self.clone())
    }

    /// Adds a row and gives its key, which is made: keys made later sort later. One entry; waits for the disk.
    pub fn insert(&self, row: &T) -> Result<String, DbError> {
        self.db.write_blind(|tx| tx.table(&self.name).insert(row))
    }

    /// Adds a row under a key of one's own. Where one is already, the fields are merged into it.
    pub fn insert_as(&self, key: &str, row: &T) -> Result<(), DbError> {
        self.db.write_blind(|tx| tx.table(&self.name).insert_as(key, row))
    }

    /// Adds rows in one entry and gives their keys.
    pub fn insert_many<'r>(&self, rows: impl IntoIterator<Item = &'r T>) -> Result<Vec<String>, DbError>
    where
        T: 'r,
    {
        self.db.write_blind(|tx| {
            let table = tx.table(&self.name);
            rows.into_iter().map(|row| table.insert(row)).collect()
        })
    }

    /// Adds rows under keys of one's own in one entry.
    pub fn insert_many_as<'r>(
        &self,
        rows: impl IntoIterator<Item = (impl AsRef<str>, &'r T)>,
    ) -> Result<(), DbError>
    where
        T: 'r,
    {
        self.db.write_blind(|tx| {
            let table = tx.table(&self.name);
            rows.into_iter().try_for_each(|(key, row)| table.insert_as(key.as_ref(), row))
        })
    }

    /// Puts a row in the place of what is there: writes only what differs.
    pub fn put(&self, key: &str, row: &T) -> Result<(), DbError> {
        self.db.write(|tx| tx.table(&self.name).put(key, row))
    }

    /// Changes a row: writes only the fields that differ afterwards.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`].
    pub fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), DbError> {
        self.db.write(|tx| tx.table(&self.name).update(key, change))
    }

    /// Deletes a row. Deleting what is not there is not an error.
    pub fn delete(&self, key: &str) -> Result<(), DbError> {
        self.db.write_blind(|tx| tx.table::<T>(&self.name).delete(key))
    }
}

pub(crate) fn count(rows: &dyn Rows) -> Result<u64, DbError> {
    let mut count = 0;
    let all = (Bound::Unbounded, Bound::Unbounded);
    table::scan(rows, all, Direction::Forward, usize::MAX, &mut |_, _| {
        count += 1;
        Ok(Flow::Continue)
    })?;
    Ok(count)
}

impl<T: Serialize + DeserializeOwned> TxTable<'_, T> {
    pub(crate) fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
        self.tx.read(&self.name, table::KIND, read)
    }

    fn stage(&self, op: bytes::Bytes) -> Result<(), DbError> {
        self.tx.stage(&self.name, table::KIND, op)
    }

    /// The row with this key, as the transaction has left it.
    pub fn get(&self, key: &str) -> Result<Option<T>, DbError> {
        self.read(|rows| table::get(rows, key)?.map(|fields| from_row(key, fields)).transpose())
    }

    /// Up to `limit` rows in the order of their keys, beginning after a key.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, T)>, DbError> {
        self.read(|rows| page(rows, after, limit))
    }

    /// Adds a row and gives its key, which is made.
    pub fn insert(&self, row: &T) -> Result<String, DbError> {
        let key = self.tx.database().instance().fresh_key();
        self.insert_as(&key, row)?;
        Ok(key)
    }

    /// Adds a row under a key of one's own. Where one is already, the fields are merged into it.
    pub fn insert_as(&self, key: &str, row: &T) -> Result<(), DbError> {
        table::check_key(key)?;
        self.stage(table::encode_insert(key, &to_fields(row)?))
    }

    /// Puts a row in the place of what is there: writes only what differs.
    pub fn put(&self, key: &str, row: &T) -> Result<(), DbError> {
        table::check_key(key)?;
        let fields = to_fields(row)?;
        match self.read(|rows| table::get(rows, key))? {
            Some(held) => self.stage_difference(key, &held, fields),
            None => self.stage(table::encode_insert(key, &fields)),
        }
    }

    /// Changes a row: writes only the fields that differ afterwards.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`].
    pub fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), DbError> {
        let held = self.read(|rows| table::get(rows, key))?;
        let held = held.ok_or_else(|| DbError::NoSuchRow { key: key.to_owned() })?;
        let mut row: T = from_row(key, held.clone())?;
        // Fields that the type does not know are not its own to take away.
        let known = to_fields(&row)?;
        change(&mut row);
        self.stage_difference(key, &known, to_fields(&row)?)
    }

    fn stage_difference(&self, key: &str, held: &Fields, wanted: Fields) -> Result<(), DbError> {
        let unset: BTreeSet<String> =
            held.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        let set: Fields = wanted.into_iter().filter(|(name, value)| held.get(name) != Some(value)).collect();
        if set.is_empty() && unset.is_empty() {
            return Ok(());
        }
        // A row may have grown beyond what one operation can name.
        table::check_fields(unset.iter())?;
        self.stage(table::encode_update(key, &set, &unset))
    }

    /// Deletes a row.
    pub fn delete(&self, key: &str) -> Result<(), DbError> {
        table::check_key(key)?;
        self.stage(table::encode_delete(key))
    }
}
