//! Keeps the batches that a store commits, so that the same rows can be given to the engine alone.

use std::sync::{Arc, Mutex, PoisonError};

use eid_store::{Backend, BackendError, Batch, Snapshot};

/// Passes batches on and keeps a copy of each.
#[derive(Debug)]
pub(crate) struct Recorder {
    below: Arc<dyn Backend>,
    batches: Mutex<Vec<Batch>>,
}

impl Recorder {
    pub(crate) fn new(below: Arc<dyn Backend>) -> Self {
        Self { below, batches: Mutex::default() }
    }

    /// The batches since the last call, without their guards.
    pub(crate) fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut *self.batches.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Backend for Recorder {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.below.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let mut copy = batch.clone();
        copy.guards.clear();
        self.below.commit(batch)?;
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        Ok(())
    }

    fn close(&self) -> Result<(), BackendError> {
        self.below.close()
    }
}
