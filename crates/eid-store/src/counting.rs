//! A backend that counts what is asked of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::{Backend, BackendError, Batch, Key, Scan, Snapshot, Value};

/// How often a backend was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Snapshots taken.
    pub snapshots: u64,
    /// Calls that read, each of any number of rows.
    pub reads: u64,
    /// Rows given.
    pub rows_read: u64,
    /// Batches committed.
    pub commits: u64,
    /// Rows written or removed.
    pub rows_written: u64,
    /// Bytes of keys and values written or removed.
    pub bytes_written: u64,
}

#[derive(Debug, Default)]
struct Cells {
    snapshots: AtomicU64,
    reads: AtomicU64,
    rows_read: AtomicU64,
    commits: AtomicU64,
    rows_written: AtomicU64,
    bytes_written: AtomicU64,
}

fn add(cell: &AtomicU64, n: usize) {
    cell.fetch_add(n as u64, Ordering::Relaxed);
}

/// Passes everything on and counts it.
#[derive(Debug)]
pub struct Counting<B> {
    below: B,
    cells: Arc<Cells>,
}

impl<B> Counting<B> {
    /// Counts from zero.
    pub fn new(below: B) -> Self {
        Self { below, cells: Arc::default() }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Counts {
            snapshots: read(&self.cells.snapshots),
            reads: read(&self.cells.reads),
            rows_read: read(&self.cells.rows_read),
            commits: read(&self.cells.commits),
            rows_written: read(&self.cells.rows_written),
            bytes_written: read(&self.cells.bytes_written),
        }
    }
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            snapshots: self.snapshots - before.snapshots,
            reads: self.reads - before.reads,
            rows_read: self.rows_read - before.rows_read,
            commits: self.commits - before.commits,
            rows_written: self.rows_written - before.rows_written,
            bytes_written: self.bytes_written - before.bytes_written,
        }
    }
}

impl<B: Backend> Backend for Counting<B> {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        add(&self.cells.snapshots, 1);
        let below = self.below.snapshot()?;
        Ok(Arc::new(CountingSnapshot { below, cells: self.cells.clone() }))
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        add(&self.cells.commits, 1);
        add(&self.cells.rows_written, batch.puts.len() + batch.deletes.len());
        add(&self.cells.bytes_written, batch.bytes_len());
        self.below.commit(batch)
    }

    fn close(&self) -> Result<(), BackendError> {
        self.below.close()
    }
}

#[derive(Debug)]
struct CountingSnapshot {
    below: Arc<dyn Snapshot>,
    cells: Arc<Cells>,
}

impl Snapshot for CountingSnapshot {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        add(&self.cells.reads, 1);
        let found = self.below.get_many(keys)?;
        add(&self.cells.rows_read, found.iter().flatten().count());
        Ok(found)
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        add(&self.cells.reads, 1);
        let found = self.below.scan_many(scans)?;
        add(&self.cells.rows_read, found.iter().map(Vec::len).sum());
        Ok(found)
    }
}
