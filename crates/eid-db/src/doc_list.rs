//! Lists in documents: read and changed by positions, merged item by item.

use std::ops::{Bound, Range, RangeBounds};

use eid_crdt::{ListOp, Value};
use serde::de::DeserializeOwned;

use crate::doc_store::{DocStore, TxDoc};
use crate::error::DbError;
use crate::kind::doc::{self, DocOp};
use crate::kind::list::ListReader;
use crate::kind::sequence::Ref;
use crate::path::Path;
use crate::rows::Rows;
use crate::typed::from_value;

/// A list of a document. A cheap handle; making one reads and writes nothing.
///
/// A path where nothing is reads as an empty list, and the first item that is put in makes it one: two devices that do
/// so without having met both keep their items. Items are values; a position names the item that is there now, and a
/// change stays with that item whatever others put in, move or delete meanwhile. Of concurrent moves or sets of one
/// item the later one counts; deleting it beats both.
///
/// Each write is one entry, made on what is here, and waits for the disk; several at once go into a transaction.
#[derive(Debug, Clone)]
pub struct DocList {
    doc: DocStore,
    path: Path,
}

/// A list of a document within a [`crate::Transaction`]. Its writes read, and so pin the transaction.
#[derive(Debug)]
pub struct TxList<'t> {
    doc: TxDoc<'t>,
    path: Path,
}

fn range_of(range: impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => len,
    };
    from..to.max(from)
}

fn values(list: &ListReader<'_>, range: impl RangeBounds<usize>) -> Result<Vec<Value>, DbError> {
    let Range { start, end } = range_of(range, list.len());
    let end = end.min(list.len());
    if start >= end { Ok(Vec::new()) } else { list.values(start..end) }
}

impl DocStore {
    /// The list at a path. Reads and writes nothing yet.
    #[must_use]
    pub fn list(&self, path: impl Into<Path>) -> DocList {
        DocList { doc: self.clone(), path: path.into() }
    }
}

impl<'t> TxDoc<'t> {
    /// The list at a path.
    #[must_use]
    pub fn list(&self, path: impl Into<Path>) -> TxList<'t> {
        TxList { doc: TxDoc { tx: self.tx, name: self.name.clone() }, path: path.into() }
    }
}

impl DocList {
    fn read<R>(&self, read: impl FnOnce(&ListReader<'_>) -> Result<R, DbError>) -> Result<R, DbError> {
        self.doc.read(|rows| doc::with_list(rows, self.path.keys(), read))
    }

    fn write<R>(&self, write: impl FnOnce(&TxList<'_>) -> Result<R, DbError>) -> Result<R, DbError> {
        self.doc.db.write(|tx| write(&tx.doc(&self.doc.name).list(&self.path)))
    }

    /// How many items there are.
    ///
    /// # Errors
    /// [`DbError::Type`], here and below, when something that is no list is at the path.
    pub fn len(&self) -> Result<usize, DbError> {
        self.read(|list| Ok(list.len()))
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> Result<bool, DbError> {
        Ok(self.len()? == 0)
    }

    /// The item at a position; nothing beyond the end.
    pub fn get(&self, position: usize) -> Result<Option<Value>, DbError> {
        self.read(|list| list.get(position))
    }

    /// The item at a position in a Rust type.
    pub fn get_as<T: DeserializeOwned>(&self, position: usize) -> Result<Option<T>, DbError> {
        self.get(position)?.map(from_value).transpose()
    }

    /// All items.
    pub fn values(&self) -> Result<Vec<Value>, DbError> {
        self.range(..)
    }

    /// All items in a Rust type.
    pub fn values_as<T: DeserializeOwned>(&self) -> Result<Vec<T>, DbError> {
        self.values()?.into_iter().map(from_value).collect()
    }

    /// The items of a range of positions, as far as there are any. Costs the range, not the list.
    pub fn range(&self, range: impl RangeBounds<usize>) -> Result<Vec<Value>, DbError> {
        self.read(|list| values(list, range))
    }

    /// Puts an item in at a position, before what is there.
    ///
    /// # Errors
    /// [`DbError::Position`], here and below, when a position lies beyond the end.
    pub fn insert(&self, position: usize, value: impl Into<Value>) -> Result<(), DbError> {
        self.write(|list| list.insert(position, value))
    }

    /// Puts an item in at the end.
    pub fn push(&self, value: impl Into<Value>) -> Result<(), DbError> {
        self.write(|list| list.push(value))
    }

    /// Puts items in at the end.
    pub fn extend<V: Into<Value>>(&self, values: impl IntoIterator<Item = V>) -> Result<(), DbError> {
        self.write(|list| list.extend(values))
    }

    /// Replaces the item at a position, which stays the same item.
    pub fn set(&self, position: usize, value: impl Into<Value>) -> Result<(), DbError> {
        self.write(|list| list.set(position, value))
    }

    /// Deletes the item at a position.
    pub fn delete(&self, position: usize) -> Result<(), DbError> {
        self.write(|list| list.delete(position))
    }

    /// Deletes the items of a range of positions.
    pub fn delete_range(&self, range: impl RangeBounds<usize>) -> Result<(), DbError> {
        self.write(|list| list.delete_range(range))
    }

    /// Takes the item at a position to where another is, as if it were taken out and put in there.
    pub fn move_to(&self, from: usize, to: usize) -> Result<(), DbError> {
        self.write(|list| list.move_to(from, to))
    }
}

impl TxList<'_> {
    fn read<R>(&self, read: impl FnOnce(&ListReader<'_>) -> Result<R, DbError>) -> Result<R, DbError> {
        self.doc.read(|rows: &dyn Rows| doc::with_list(rows, self.path.keys(), read))
    }

    fn stage(&self, op: ListOp<Ref>) -> Result<(), DbError> {
        self.doc.stage(DocOp::List { path: self.path.keys().to_vec(), op })
    }

    /// How many items there are, as the transaction has left them.
    pub fn len(&self) -> Result<usize, DbError> {
        self.read(|list| Ok(list.len()))
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> Result<bool, DbError> {
        Ok(self.len()? == 0)
    }

    /// The item at a position; nothing beyond the end.
    pub fn get(&self, position: usize) -> Result<Option<Value>, DbError> {
        self.read(|list| list.get(position))
    }

    /// The item at a position in a Rust type.
    pub fn get_as<T: DeserializeOwned>(&self, position: usize) -> Result<Option<T>, DbError> {
        self.get(position)?.map(from_value).transpose()
    }

    /// All items.
    pub fn values(&self) -> Result<Vec<Value>, DbError> {
        self.range(..)
    }

    /// The items of a range of positions, as far as there are any.
    pub fn range(&self, range: impl RangeBounds<usize>) -> Result<Vec<Value>, DbError> {
        self.read(|list| values(list, range))
    }

    /// Puts an item in at a position, before what is there.
    pub fn insert(&self, position: usize, value: impl Into<Value>) -> Result<(), DbError> {
        self.stage(self.read(|list| list.insert(position, vec![value.into()]))?)
    }

    /// Puts an item in at the end.
    pub fn push(&self, value: impl Into<Value>) -> Result<(), DbError> {
        self.extend([value])
    }

    /// Puts items in at the end.
    pub fn extend<V: Into<Value>>(&self, values: impl IntoIterator<Item = V>) -> Result<(), DbError> {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        let op =
            self.read(
                |list| if values.is_empty() { Ok(None) } else { list.insert(list.len(), values).map(Some) },
            )?;
        op.map_or(Ok(()), |op| self.stage(op))
    }

    /// Replaces the item at a position.
    pub fn set(&self, position: usize, value: impl Into<Value>) -> Result<(), DbError> {
        self.stage(self.read(|list| list.set(position, value.into()))?)
    }

    /// Deletes the item at a position.
    pub fn delete(&self, position: usize) -> Result<(), DbError> {
        self.delete_range(position..=position)
    }

    /// Deletes the items of a range of positions.
    pub fn delete_range(&self, range: impl RangeBounds<usize>) -> Result<(), DbError> {
        let op = self.read(|list| list.delete(range_of(range, list.len())))?;
        op.map_or(Ok(()), |op| self.stage(op))
    }

    /// Takes the item at a position to where another is.
    pub fn move_to(&self, from: usize, to: usize) -> Result<(), DbError> {
        let op = self.read(|list| list.move_to(from, to))?;
        op.map_or(Ok(()), |op| self.stage(op))
    }
}
