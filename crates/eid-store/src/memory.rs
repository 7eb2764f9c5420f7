//! A backend in memory: sorted pages that snapshots share and writers copy when somebody else still reads them.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::backend::{Backend, BackendError, Batch, Direction, Key, Scan, Snapshot, Value};

/// Most rows of a page: copying one costs about as much as the path of a tree would.
const PAGE_ROWS_MAX: usize = 128;

type Page = Vec<(Bytes, Value)>;

/// Keeps rows in memory. Taking a snapshot copies nothing; a write copies the pages it touches when a snapshot
/// still holds them. Nothing survives the process.
#[derive(Debug, Default)]
pub struct Memory {
    pages: RwLock<Pages>,
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
            pages.put(key, value);
        }
        Ok(())
    }
}

/// Pages in key order, none of them empty.
#[derive(Debug, Clone, Default)]
struct Pages(Arc<Vec<Arc<Page>>>);

impl Pages {
    /// The page that has the key if any has.
    fn page_of(&self, key: &[u8]) -> usize {
        self.0.partition_point(|page| page[0].0 <= *key).saturating_sub(1)
    }

    fn get(&self, key: &[u8]) -> Option<&Value> {
        let page = self.0.get(self.page_of(key))?;
        let row = page.binary_search_by(|(other, _)| other[..].cmp(key)).ok()?;
        Some(&page[row].1)
    }

    fn put(&mut self, key: Key, value: Value) {
        let index = self.page_of(&key);
        let pages = Arc::make_mut(&mut self.0);
        let Some(page) = pages.get_mut(index) else {
            pages.push(Arc::new(vec![(key.into(), value)]));
            return;
        };
        let rows = Arc::make_mut(page);
        match rows.binary_search_by(|(other, _)| other[..].cmp(&key)) {
            Ok(row) => rows[row].1 = value,
            Err(row) => rows.insert(row, (key.into(), value)),
        }
        if rows.len() > PAGE_ROWS_MAX {
            // Rows mostly arrive at the end of their space: leave the left page nearly full then.
            let at = if index + 1 == pages.len() { PAGE_ROWS_MAX - 8 } else { PAGE_ROWS_MAX / 2 };
            let right = Arc::make_mut(&mut pages[index]).split_off(at);
            pages.insert(index + 1, Arc::new(right));
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let index = self.page_of(key);
        let Some(page) = self.0.get(index) else { return };
        let Ok(row) = page.binary_search_by(|(other, _)| other[..].cmp(key)) else { return };
        let pages = Arc::make_mut(&mut self.0);
        let rows = Arc::make_mut(&mut pages[index]);
        rows.remove(row);
        if rows.is_empty() {
            pages.remove(index);
        }
    }

    /// The page and row of the first key that is not below.
    fn lower_bound(&self, key: &[u8]) -> (usize, usize) {
        let page = self.page_of(key);
        match self.0.get(page) {
            Some(rows) => (page, rows.partition_point(|(other, _)| *other < *key)),
            None => (0, 0),
        }
    }

    fn scan(&self, scan: &Scan) -> Vec<(Key, Value)> {
        let mut rows = Vec::new();
        if scan.to <= scan.from {
            return rows;
        }
        let (first, last) = (self.lower_bound(&scan.from), self.lower_bound(&scan.to));
        let mut bytes = 0usize;
        let mut take = |(key, value): &(Bytes, Value)| {
            if rows.len() >= scan.max_rows || (!rows.is_empty() && bytes >= scan.max_bytes) {
                return false;
            }
            bytes = bytes.saturating_add(key.len() + value.len());
            rows.push((key.to_vec(), value.clone()));
            true
        };
        let within = |page: usize| {
            let rows = &self.0[page];
            let from = if page == first.0 { first.1 } else { 0 };
            let to = if page == last.0 { last.1 } else { rows.len() };
            &rows[from.min(to)..to]
        };
        let pages = first.0..(last.0 + 1).min(self.0.len());
        match scan.direction {
            Direction::Forward => {
                pages.flat_map(within).all(&mut take);
            }
            Direction::Backward => {
                pages.rev().flat_map(|page| within(page).iter().rev()).all(&mut take);
            }
        }
        rows
    }
}

impl Snapshot for Pages {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        Ok(keys.iter().map(|key| self.get(key).cloned()).collect())
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        Ok(scans.iter().map(|scan| self.scan(scan)).collect())
    }
}
