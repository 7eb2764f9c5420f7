//! Reads a range in steps of a bounded number of rows.

use crate::backend::{BackendError, Direction, Key, Scan, Snapshot, Value};

/// A place within a range.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    snapshot: &'a dyn Snapshot,
    left: Scan,
    rows: std::vec::IntoIter<(Key, Value)>,
    done: bool,
}

impl<'a> Cursor<'a> {
    /// From the smallest key on, `step` rows at once.
    pub(crate) fn new(snapshot: &'a dyn Snapshot, (from, to): (Key, Key), step: usize) -> Self {
        Self::towards(snapshot, (from, to), Direction::Forward, step)
    }

    pub(crate) fn towards(
        snapshot: &'a dyn Snapshot,
        (from, to): (Key, Key),
        direction: Direction,
        step: usize,
    ) -> Self {
        let left = Scan { max_rows: step, direction, ..Scan::range(from, to) };
        Self { snapshot, left, rows: Vec::new().into_iter(), done: false }
    }

    /// The smallest key above this one.
    pub(crate) fn after(key: &Key) -> Key {
        let mut after = Vec::with_capacity(key.len() + 1);
        after.extend_from_slice(key);
        after.push(0);
        after
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<(Key, Value)>, BackendError> {
        if self.rows.len() == 0 && !self.done {
            let rows = self.snapshot.scan_many(std::slice::from_ref(&self.left))?.pop().unwrap_or_default();
            self.done = rows.len() < self.left.max_rows;
            if let Some((last, _)) = rows.last() {
                match self.left.direction {
                    Direction::Forward => self.left.from = Self::after(last),
                    Direction::Backward => self.left.to.clone_from(last),
                }
            }
            self.rows = rows.into_iter();
        }
        Ok(self.rows.next())
    }
}
