//! A backend in memory.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::backend::{Backend, BackendError, Batch, Direction, Key, Scan, Snapshot, Value};
use crate::pages::Pages;

/// Keeps rows in memory. Taking a snapshot copies nothing; a write copies the pages it touches when a snapshot
/// still holds them. Nothing survives the process.
#[derive(Debug, Default)]
pub struct Memory {
    pages: RwLock<Pages<Value>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Backend for Memory {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Arc::new(pages))
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if !batch.guards.iter().all(|(key, expected)| pages.get(key) == expected.as_ref()) {
            return Err(BackendError::Conflict);
        }
        for key in &batch.deletes {
            pages.delete(key);
        }
        for (key, value) in batch.puts {
            pages.put(key.into(), value);
        }
        Ok(())
    }
}

fn scan(pages: &Pages<Value>, scan: &Scan) -> Vec<(Key, Value)> {
    let mut rows = Vec::new();
    let mut bytes = 0usize;
    let mut take = |(key, value): &(Bytes, Value)| {
        if rows.len() >= scan.max_rows || (!rows.is_empty() && bytes >= scan.max_bytes) {
            return false;
        }
        bytes = bytes.saturating_add(key.len() + value.len());
        rows.push((key.to_vec(), value.clone()));
        true
    };
    let mut range = pages.range(&scan.from..&scan.to);
    match scan.direction {
        Direction::Forward => range.all(&mut take),
        Direction::Backward => range.rev().all(&mut take),
    };
    rows
}

impl Snapshot for Pages<Value> {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        Ok(keys.iter().map(|key| self.get(key).cloned()).collect())
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        Ok(scans.iter().map(|wanted| scan(self, wanted)).collect())
    }
}
