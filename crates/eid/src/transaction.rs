//! Many stores, one atomic entry.

use std::ops::Range;

use eid_db::{Path, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Durability;
use crate::error::Error;

/// What a `write` closure works with: reads see what it has staged, nobody else does.
#[derive(Debug)]
pub struct Transaction<'t> {
    pub(crate) inner: &'t eid_db::Transaction,
}

/// A document within a [`Transaction`].
#[derive(Debug)]
pub struct TxDoc<'t> {
    pub(crate) inner: eid_db::TxDoc<'t>,
}

/// A table within a [`Transaction`].
#[derive(Debug)]
pub struct TxTable<'t, T> {
    inner: eid_db::TxTable<'t, T>,
}

/// A text within a [`Transaction`].
#[derive(Debug)]
pub struct TxText<'t> {
    inner: eid_db::TxText<'t>,
}

impl<'t> Transaction<'t> {
    /// A document.
    #[must_use]
    pub fn doc(&self, name: &str) -> TxDoc<'t> {
        TxDoc { inner: self.inner.doc(name) }
    }

    /// A table.
    #[must_use]
    pub fn table<T: Serialize + DeserializeOwned>(&self, name: &str) -> TxTable<'t, T> {
        TxTable { inner: self.inner.table(name) }
    }

    /// A text.
    #[must_use]
    pub fn text(&self, name: &str) -> TxText<'t> {
        TxText { inner: self.inner.text(name) }
    }

    /// Lets the write return before it is on disk. A crash may lose it, with whatever came after it.
    pub fn relaxed(&self) {
        self.durability(Durability::Relaxed);
    }

    /// Whether the write waits for the disk, as it does unless something else is said. What is said last counts.
    pub fn durability(&self, durability: Durability) {
        self.inner.durability(durability);
    }
}

impl TxDoc<'_> {
    /// The value at a path.
    pub fn get(&self, path: impl Into<Path>) -> Result<Option<Value>, Error> {
        Ok(self.inner.get(path)?)
    }

    /// The value at a path in a Rust type.
    pub fn get_as<T: DeserializeOwned>(&self, path: impl Into<Path>) -> Result<Option<T>, Error> {
        Ok(self.inner.get_as(path)?)
    }

    /// The keys right below a path, in order.
    pub fn keys(&self, path: impl Into<Path>) -> Result<Vec<String>, Error> {
        Ok(self.inner.keys(path)?)
    }

    /// Sets the value at a path.
    pub fn set(&self, path: impl Into<Path>, value: impl Into<Value>) -> Result<(), Error> {
        Ok(self.inner.set(path, value)?)
    }

    /// Deletes what is at a path and below.
    pub fn delete(&self, path: impl Into<Path>) -> Result<(), Error> {
        Ok(self.inner.delete(path)?)
    }

    /// Adds to the integer at a path.
    pub fn increment(&self, path: impl Into<Path>, by: i64) -> Result<(), Error> {
        Ok(self.inner.increment(path, by)?)
    }
}

impl<T: Serialize + DeserializeOwned> TxTable<'_, T> {
    /// The row with this key.
    pub fn get(&self, key: &str) -> Result<Option<T>, Error> {
        Ok(self.inner.get(key)?)
    }

    /// Up to `limit` rows in the order of their keys, beginning after a key.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, T)>, Error> {
        Ok(self.inner.page(after, limit)?)
    }

    /// Adds a row and gives its key, which is made.
    pub fn insert(&self, row: &T) -> Result<String, Error> {
        Ok(self.inner.insert(row)?)
    }

    /// Adds a row under a key of one's own. Where one is already, the fields are merged into it.
    pub fn insert_as(&self, key: &str, row: &T) -> Result<(), Error> {
        Ok(self.inner.insert_as(key, row)?)
    }

    /// Puts a row in the place of what is there: writes only what differs.
    pub fn put(&self, key: &str, row: &T) -> Result<(), Error> {
        Ok(self.inner.put(key, row)?)
    }

    /// Changes a row: writes only the fields that differ afterwards.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such row.
    pub fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), Error> {
        Ok(self.inner.update(key, change)?)
    }

    /// Deletes a row.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.inner.delete(key)?)
    }
}

impl TxText<'_> {
    /// How many characters there are.
    pub fn len(&self) -> Result<usize, Error> {
        Ok(self.inner.len()?)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.inner.is_empty()?)
    }

    /// The text.
    pub fn read(&self) -> Result<String, Error> {
        Ok(self.inner.read()?)
    }

    /// A part of the text.
    pub fn slice(&self, range: Range<usize>) -> Result<String, Error> {
        Ok(self.inner.slice(range)?)
    }

    /// Puts text in before a position.
    pub fn insert(&self, at: usize, text: &str) -> Result<(), Error> {
        Ok(self.inner.insert(at, text)?)
    }

    /// Takes characters out from a position on.
    pub fn delete(&self, at: usize, count: usize) -> Result<(), Error> {
        Ok(self.inner.delete(at, count)?)
    }

    /// Puts text in the place of a part.
    pub fn replace(&self, range: Range<usize>, text: &str) -> Result<(), Error> {
        Ok(self.inner.replace(range, text)?)
    }

    /// Makes the text another one, by the edits in which they differ.
    pub fn set(&self, text: &str) -> Result<(), Error> {
        Ok(self.inner.set(text)?)
    }
}
