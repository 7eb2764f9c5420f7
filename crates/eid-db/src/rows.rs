//! Reading the rows of a view: as stored, or with what a transaction has staged on top.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;

use bytes::Bytes;
use eid_core::dag::{Replica as _, Seq};
use eid_core::{EntryId, ReadError, StoreName};
use eid_store::{Direction, Key, StoreError, TreeSnapshot, View, ViewRows};

use crate::error::DbError;
use crate::sealed::{Opened, OpenedRows};

/// What reads of a store go through.
pub(crate) trait Rows: fmt::Debug {
    /// The values of rows, in the order of the keys.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError>;
    /// Rows of a range, `to` exclusive.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, DbError>;
    /// The id of an entry, to decide a tie.
    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError>;
    /// The position of an entry, if it is held.
    fn seq_of(&self, id: &EntryId) -> Result<Option<Seq>, DbError>;

    /// The value of a row.
    fn get(&self, key: Key) -> Result<Option<Bytes>, DbError> {
        Ok(self.get_many(&[key])?.pop().flatten())
    }
}

/// The rows of one store as stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    snapshot: TreeSnapshot,
    view: View,
}

/// The rows of one store, plain or of an encrypted one that is unlocked.
#[derive(Debug)]
pub(crate) enum Base {
    Stored(Stored),
    Opened(OpenedRows),
}

impl Base {
    pub(crate) fn rows(&self) -> &dyn Rows {
        match self {
            Self::Stored(rows) => rows,
            Self::Opened(rows) => rows,
        }
    }

    /// By which keys they are open; nothing when they are plain.
    pub(crate) fn opened_by(&self) -> Option<Opened> {
        match self {
            Self::Stored(_) => None,
            Self::Opened(rows) => Some(rows.by()),
        }
    }
}

/// Rows that a transaction has written, `None` where one is removed.
pub(crate) type Changed = BTreeMap<Key, Option<Bytes>>;

/// Rows under those that a transaction has written.
pub(crate) struct Overlaid<'a> {
    pub(crate) stored: &'a dyn Rows,
    pub(crate) changed: &'a Changed,
}

/// The same, to be written.
pub(crate) struct Staging<'a> {
    pub(crate) stored: &'a dyn Rows,
    pub(crate) changed: &'a mut Changed,
}

impl Stored {
    pub(crate) fn new(snapshot: TreeSnapshot, store: &StoreName, kind: &str) -> Self {
        let view = snapshot.view(store, kind);
        Self { snapshot, view }
    }

    fn scan_stored(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if from >= to { Ok(Vec::new()) } else { self.view.scan(from, Some(to), direction, max_rows) }
    }
}

impl Rows for Stored {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError> {
        Ok(self.view.get_many(keys)?)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, DbError> {
        Ok(self.scan_stored(from, to, direction, max_rows)?)
    }

    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError> {
        Ok(self.snapshot.id_at(seq)?)
    }

    fn seq_of(&self, id: &EntryId) -> Result<Option<Seq>, DbError> {
        Ok(self.snapshot.find(&[*id])?.pop().flatten())
    }
}

// What is staged may be for an encrypted store, and is not for logs.
impl fmt::Debug for Overlaid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlaid").field("changed", &self.changed.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Staging<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("changed", &self.changed.len()).finish_non_exhaustive()
    }
}

impl Overlaid<'_> {
    fn in_range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = (&Key, &Option<Bytes>)> {
        let range = (from < to).then(|| self.changed.range(from.to_vec()..to.to_vec()));
        range.into_iter().flatten()
    }
}

impl Rows for Overlaid<'_> {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError> {
        let mut values = self.stored.get_many(keys)?;
        for (key, value) in keys.iter().zip(&mut values) {
            if let Some(changed) = self.changed.get(key) {
                value.clone_from(changed);
            }
        }
        Ok(values)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, DbError> {
        // Enough stored rows that what is left of them after the removals of the transaction still fills the page.
        let removed = self.in_range(from, to).filter(|(_, value)| value.is_none()).count();
        let wanted = max_rows.saturating_add(removed);
        let stored = self.stored.scan(from, to, direction, wanted)?;
        // Beyond the last stored row that was read there may be more, which this page must not overtake.
        let complete = stored.len() < wanted;
        let end = stored.last().map(|(key, _)| key.clone());
        let mut merged: BTreeMap<Key, Bytes> = stored.into_iter().collect();
        for (key, value) in self.in_range(from, to) {
            let beyond = !complete
                && end.as_ref().is_some_and(|end| match direction {
                    Direction::Forward => key > end,
                    Direction::Backward => key < end,
                });
            match (beyond, value, merged.entry(key.clone())) {
                (true, _, _) | (false, None, Slot::Vacant(_)) => {}
                (false, None, Slot::Occupied(row)) => drop(row.remove()),
                (false, Some(value), Slot::Occupied(mut row)) => drop(row.insert(value.clone())),
                (false, Some(value), Slot::Vacant(row)) => drop(row.insert(value.clone()).len()),
            }
        }
        Ok(match direction {
            Direction::Forward => merged.into_iter().take(max_rows).collect(),
            Direction::Backward => merged.into_iter().rev().take(max_rows).collect(),
        })
    }

    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError> {
        self.stored.id_of(seq)
    }

    fn seq_of(&self, id: &EntryId) -> Result<Option<Seq>, DbError> {
        self.stored.seq_of(id)
    }
}

/// A view without rows.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Rows for Nothing {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError> {
        Ok(vec![None; keys.len()])
    }

    fn scan(&self, _: &[u8], _: &[u8], _: Direction, _: usize) -> Result<Vec<(Key, Bytes)>, DbError> {
        Ok(Vec::new())
    }

    fn id_of(&self, _: Seq) -> Result<EntryId, DbError> {
        Err(DbError::Corrupt { what: "an entry" })
    }

    fn seq_of(&self, _: &EntryId) -> Result<Option<Seq>, DbError> {
        Ok(None)
    }
}

/// The rows of a view while a batch is admitted, for what reads rows.
pub(crate) struct ViewAsRows<'a>(RefCell<&'a mut dyn ViewRows>);

impl<'a> ViewAsRows<'a> {
    pub(crate) fn new(view: &'a mut dyn ViewRows) -> Self {
        Self(RefCell::new(view))
    }
}

impl fmt::Debug for ViewAsRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ViewAsRows").finish_non_exhaustive()
    }
}

impl Rows for ViewAsRows<'_> {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError> {
        let mut view = self.0.borrow_mut();
        keys.iter().map(|key| Ok(view.get(key)?)).collect()
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, DbError> {
        Ok(self.0.borrow_mut().scan_some(from, to, direction, max_rows)?)
    }

    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError> {
        Ok(self.0.borrow_mut().id_of(seq)?)
    }

    fn seq_of(&self, id: &EntryId) -> Result<Option<Seq>, DbError> {
        Ok(self.0.borrow_mut().seq_of(id)?)
    }
}

impl ViewRows for Staging<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        match self.changed.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.stored.get(key.to_vec()).map_err(ReadError::new),
        }
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Result<Vec<(Key, Bytes)>, ReadError> {
        self.scan_some(from, to, Direction::Forward, usize::MAX)
    }

    fn scan_some(
        &mut self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, ReadError> {
        let rows = Overlaid { stored: self.stored, changed: self.changed };
        rows.scan(from, to, direction, max_rows).map_err(ReadError::new)
    }

    fn put(&mut self, key: &[u8], value: Bytes) {
        self.changed.insert(key.to_vec(), Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.changed.insert(key.to_vec(), None);
    }

    fn id_of(&mut self, seq: Seq) -> Result<EntryId, ReadError> {
        self.stored.id_of(seq).map_err(ReadError::new)
    }

    fn seq_of(&mut self, id: &EntryId) -> Result<Option<Seq>, ReadError> {
        self.stored.seq_of(id).map_err(ReadError::new)
    }
}
