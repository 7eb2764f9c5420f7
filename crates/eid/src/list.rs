//! Lists in documents, with writes that can be awaited.

use std::ops::RangeBounds;

use eid_db::{Path, Value};
use serde::de::DeserializeOwned;

use crate::doc::DocStore;
use crate::error::Error;
use crate::offload::write_in_turn;
use crate::transaction::TxDoc;

/// A list at a path of a document, whose items merge one by one: what several insert, move and delete at once is all
/// kept. A cheap handle; making one does nothing.
#[derive(Debug, Clone)]
pub struct DocList {
    doc: DocStore,
    path: Path,
    inner: eid_db::DocList,
}

/// A list within a [`crate::Transaction`].
#[derive(Debug)]
pub struct TxList<'t> {
    inner: eid_db::TxList<'t>,
}

impl DocStore {
    /// The list at a path. The first item that is put in makes it.
    #[must_use]
    pub fn list(&self, path: impl Into<Path>) -> DocList {
        let path = path.into();
        DocList { doc: self.clone(), inner: self.inner.list(&path), path }
    }
}

impl<'t> TxDoc<'t> {
    /// The list at a path.
    #[must_use]
    pub fn list(&self, path: impl Into<Path>) -> TxList<'t> {
        TxList { inner: self.inner.list(path) }
    }
}

impl DocList {
    /// How many items there are.
    pub fn len(&self) -> Result<usize, Error> {
        Ok(self.inner.len()?)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.inner.is_empty()?)
    }

    /// The item at a position.
    pub fn get(&self, position: usize) -> Result<Option<Value>, Error> {
        Ok(self.inner.get(position)?)
    }

    /// The item at a position in a Rust type.
    pub fn get_as<T: DeserializeOwned>(&self, position: usize) -> Result<Option<T>, Error> {
        Ok(self.inner.get_as(position)?)
    }

    /// All items.
    pub fn values(&self) -> Result<Vec<Value>, Error> {
        Ok(self.inner.values()?)
    }

    /// All items in a Rust type.
    pub fn values_as<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        Ok(self.inner.values_as()?)
    }

    /// The items of a range.
    pub fn range(&self, range: impl RangeBounds<usize>) -> Result<Vec<Value>, Error> {
        Ok(self.inner.range(range)?)
    }

    async fn write(
        &self,
        work: impl FnOnce(&eid_db::TxList<'_>) -> Result<(), eid_db::DbError>,
    ) -> Result<(), Error> {
        let write = |tx: &eid_db::Transaction| work(&tx.doc(self.doc.name()).list(&self.path));
        write_in_turn(self.doc.inner.database(), write).await
    }

    /// Puts an item in before a position.
    pub async fn insert(&self, position: usize, value: impl Into<Value>) -> Result<(), Error> {
        self.write(|list| list.insert(position, value)).await
    }

    /// Puts an item in at the end.
    pub async fn push(&self, value: impl Into<Value>) -> Result<(), Error> {
        self.write(|list| list.push(value)).await
    }

    /// Puts items in at the end.
    pub async fn extend<V: Into<Value>>(&self, values: impl IntoIterator<Item = V>) -> Result<(), Error> {
        self.write(|list| list.extend(values)).await
    }

    /// Changes the value of an item, which stays the same item.
    pub async fn set(&self, position: usize, value: impl Into<Value>) -> Result<(), Error> {
        self.write(|list| list.set(position, value)).await
    }

    /// Takes an item out.
    pub async fn delete(&self, position: usize) -> Result<(), Error> {
        self.write(|list| list.delete(position)).await
    }

    /// Takes the items of a range out.
    pub async fn delete_range(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.write(|list| list.delete_range(range)).await
    }

    /// Moves an item, so that it stands at another position afterwards. Of several moves at once, the latest counts.
    pub async fn move_to(&self, from: usize, to: usize) -> Result<(), Error> {
        self.write(|list| list.move_to(from, to)).await
    }
}

impl TxList<'_> {
    /// How many items there are.
    pub fn len(&self) -> Result<usize, Error> {
        Ok(self.inner.len()?)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.inner.is_empty()?)
    }

    /// The item at a position.
    pub fn get(&self, position: usize) -> Result<Option<Value>, Error> {
        Ok(self.inner.get(position)?)
    }

    /// All items.
    pub fn values(&self) -> Result<Vec<Value>, Error> {
        Ok(self.inner.values()?)
    }

    /// Puts an item in before a position.
    pub fn insert(&self, position: usize, value: impl Into<Value>) -> Result<(), Error> {
        Ok(self.inner.insert(position, value)?)
    }

    /// Puts an item in at the end.
    pub fn push(&self, value: impl Into<Value>) -> Result<(), Error> {
        Ok(self.inner.push(value)?)
    }

    /// Puts items in at the end.
    pub fn extend<V: Into<Value>>(&self, values: impl IntoIterator<Item = V>) -> Result<(), Error> {
        Ok(self.inner.extend(values)?)
    }

    /// Changes the value of an item.
    pub fn set(&self, position: usize, value: impl Into<Value>) -> Result<(), Error> {
        Ok(self.inner.set(position, value)?)
    }

    /// Takes an item out.
    pub fn delete(&self, position: usize) -> Result<(), Error> {
        Ok(self.inner.delete(position)?)
    }

    /// Moves an item.
    pub fn move_to(&self, from: usize, to: usize) -> Result<(), Error> {
        Ok(self.inner.move_to(from, to)?)
    }
}
