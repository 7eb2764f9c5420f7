//! Rows that do not fit in memory while they are worked out: kept in the backend meanwhile, under a number that is no
//! tree's.
//!
//! The number belongs to what is swept from the beginning, so nothing of it stays when the work ends early. A sweep takes
//! the row of its state away first: as long as that is there, nothing else is missing.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{Backend, BackendError, Batch, Durability, Key, Scan, Snapshot, Value};
use crate::cursor::Cursor;
use crate::entry_store::{read_meta, sweep_rows};
use crate::error::StoreError;
use crate::limits::{GROUP_BYTES_MAX, MERGE_ROWS};
use crate::rows::{Space, TreeNo, meta_key, state_key, sweep_key, tree_range};

/// Takes rows of views in. Of a view it holds one state.
#[derive(Debug)]
pub(crate) struct Aside<'a> {
    backend: &'a dyn Backend,
    /// How many bytes of rows whoever uses it may keep in memory.
    pub bytes_max: usize,
    number: OnceCell<TreeNo>,
}

impl<'a> Aside<'a> {
    /// Nothing is written before the first rows come.
    pub(crate) fn new(backend: &'a dyn Backend, bytes_max: usize) -> Self {
        Self { backend, bytes_max, number: OnceCell::new() }
    }

    /// Puts rows over those of the same keys, and gives all of them to be read.
    pub(crate) fn put(&self, rows: BTreeMap<Key, Option<Value>>) -> Result<Spilled, StoreError> {
        let number = self.number()?;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut batch = Batch {
                guards: vec![(state_key(number), Some(Value::new()))],
                durability: Durability::Relaxed,
                ..Batch::default()
            };
            let mut bytes = 0;
            while bytes < GROUP_BYTES_MAX
                && let Some((key, value)) = rows.next()
            {
                // Stored rows are never empty.
                let value = value.unwrap_or_default();
                bytes += key.len() + value.len();
                batch.puts.push((moved(&key, number), value));
            }
            self.backend.commit(batch)?;
        }
        Ok(Spilled { rows: self.backend.snapshot()?, number })
    }

    /// Fails when what was put may have been swept while it was used.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let Some(number) = self.number.get() else { return Ok(()) };
        match self.backend.snapshot()?.get_many(&[state_key(*number)])?.pop().flatten() {
            Some(_) => Ok(()),
            None => Err(BackendError::Conflict.into()),
        }
    }

    /// Removes what was put.
    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        let Some(number) = self.number.get() else { return Ok(()) };
        sweep_rows(self.backend, tree_range(Space::View, *number))?;
        let deletes = vec![state_key(*number), sweep_key(*number)];
        Ok(self.backend.commit(Batch { deletes, durability: Durability::Relaxed, ..Batch::default() })?)
    }

    fn number(&self) -> Result<TreeNo, StoreError> {
        if let Some(number) = self.number.get() {
            return Ok(*number);
        }
        let snapshot = self.backend.snapshot()?;
        let mut batch = Batch::default();
        let number = match read_meta(&*snapshot)? {
            Some(mut meta) => {
                batch.guards.push((meta_key(), Some(meta.encode())));
                let number = TreeNo(meta.next_tree);
                meta.next_tree += 1;
                batch.puts.push((meta_key(), meta.encode()));
                number
            }
            // What a check works with holds one tree and nothing about itself.
            None => TreeNo(u32::MAX),
        };
        batch.puts.extend([(sweep_key(number), Value::new()), (state_key(number), Value::new())]);
        self.backend.commit(batch)?;
        Ok(*self.number.get_or_init(|| number))
    }
}

/// Rows that were put aside.
#[derive(Debug)]
pub(crate) struct Spilled {
    rows: Arc<dyn Snapshot>,
    number: TreeNo,
}

impl Spilled {
    /// What is held of each key: a value, or that the row is not there.
    pub(crate) fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Option<Value>>>, BackendError> {
        let keys: Vec<Key> = keys.iter().map(|key| moved(key, self.number)).collect();
        Ok(self.rows.get_many(&keys)?.into_iter().map(|row| row.map(held)).collect())
    }

    /// The rows of a range of one view.
    pub(crate) fn range(&self, scan: &Scan, tree: TreeNo) -> SpilledRows<'_> {
        let range = (moved(&scan.from, self.number), moved(&scan.to, self.number));
        let step = scan.max_rows.clamp(1, MERGE_ROWS);
        SpilledRows { rows: Cursor::towards(&*self.rows, range, scan.direction, step), tree }
    }
}

/// Rows that were put aside, in order and by their own keys.
#[derive(Debug)]
pub(crate) struct SpilledRows<'a> {
    rows: Cursor<'a>,
    tree: TreeNo,
}

impl SpilledRows<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<(Key, Option<Value>)>, BackendError> {
        Ok(self.rows.next()?.map(|(key, row)| (moved(&key, self.tree), held(row))))
    }
}

fn held(row: Value) -> Option<Value> {
    Some(row).filter(|row| !row.is_empty())
}

/// The key under another number.
fn moved(key: &Key, number: TreeNo) -> Key {
    let mut key = key.clone();
    key[1..5].copy_from_slice(&number.0.to_be_bytes());
    key
}
