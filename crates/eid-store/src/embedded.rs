//! The backend for one process and one directory.

use std::path::Path;
use std::sync::Arc;

use crate::backend::{Backend, BackendError, Batch, Snapshot};

/// Settings of an [`Embedded`] backend.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { cache_bytes: 16 * 1024 * 1024 }
    }
}

/// Keeps rows in a directory of files that one process owns.
#[derive(Debug)]
pub struct Embedded {}

impl Embedded {
    /// Opens the store in a directory, and makes it when there is none.
    pub fn open(_dir: &Path, _config: EmbeddedConfig) -> Result<Self, BackendError> {
        Err(BackendError::Closed)
    }
}

impl Backend for Embedded {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        Err(BackendError::Closed)
    }

    fn commit(&self, _batch: Batch) -> Result<(), BackendError> {
        Err(BackendError::Closed)
    }
}
