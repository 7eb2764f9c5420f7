//! A backend with a second one beside it that is given the same rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use eid_store::{Backend, BackendError, Batch, Key, Scan, Snapshot, Value};

/// One call to a snapshot.
#[derive(Debug, Clone)]
pub(crate) enum Read {
    Get(Vec<Key>),
    Scan(Vec<Scan>),
}

/// Passes everything on, and keeps what the engine alone is to do after it.
#[derive(Debug)]
pub(crate) struct Twin {
    ours: Arc<dyn Backend>,
    alone: Arc<dyn Backend>,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Whether batches wait for [`Twin::take_batches`] instead of going to the second engine at once.
    holds_batches: AtomicBool,
    notes_reads: AtomicBool,
    batches: Mutex<Vec<Batch>>,
    reads: Mutex<Vec<Read>>,
}

impl Twin {
    pub(crate) fn new(ours: Arc<dyn Backend>, alone: Arc<dyn Backend>) -> Self {
        Self { ours, alone, kept: Arc::default() }
    }

    pub(crate) fn alone(&self) -> &dyn Backend {
        &*self.alone
    }

    pub(crate) fn hold_batches(&self, hold: bool) {
        self.kept.holds_batches.store(hold, Ordering::SeqCst);
    }

    pub(crate) fn take_batches(&self) -> Vec<Batch> {
        std::mem::take(&mut *self.kept.batches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `work` reads.
    pub(crate) fn reads_of<R>(&self, work: impl FnOnce() -> R) -> (R, Vec<Read>) {
        self.kept.notes_reads.store(true, Ordering::SeqCst);
        let done = work();
        self.kept.notes_reads.store(false, Ordering::SeqCst);
        (done, std::mem::take(&mut *self.kept.reads.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Kept {
    fn note(&self, read: impl FnOnce() -> Read) {
        if self.notes_reads.load(Ordering::Relaxed) {
            self.reads.lock().unwrap_or_else(PoisonError::into_inner).push(read());
        }
    }
}

impl Backend for Twin {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        Ok(Arc::new(Noting { below: self.ours.snapshot()?, kept: self.kept.clone() }))
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let mut copy = batch.clone();
        copy.guards.clear();
        self.ours.commit(batch)?;
        if self.kept.holds_batches.load(Ordering::SeqCst) {
            self.kept.batches.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
            return Ok(());
        }
        self.alone.commit(copy)
    }

    fn close(&self) -> Result<(), BackendError> {
        self.ours.close()?;
        self.alone.close()
    }
}

#[derive(Debug)]
struct Noting {
    below: Arc<dyn Snapshot>,
    kept: Arc<Kept>,
}

impl Snapshot for Noting {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        self.kept.note(|| Read::Get(keys.to_vec()));
        self.below.get_many(keys)
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        self.kept.note(|| Read::Scan(scans.to_vec()));
        self.below.scan_many(scans)
    }
}
