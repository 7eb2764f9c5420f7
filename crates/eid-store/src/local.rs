//! Rows of this device that are never synchronised.

use bytes::Bytes;

use crate::backend::{BackendError, Key};
use crate::error::StoreError;

/// Reads and writes local rows under a namespace.
#[derive(Debug, Clone)]
pub struct Local {}

fn closed<T>() -> Result<T, StoreError> {
    Err(BackendError::Closed.into())
}

impl Local {
    /// The rows of a namespace, a short text.
    #[must_use]
    pub fn namespace(&self, _name: &str) -> Self {
        self.clone()
    }

    /// One row.
    pub fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        closed()
    }

    /// Writes a row; on disk when it returns.
    pub fn put(&self, _key: &[u8], _value: impl Into<Bytes>) -> Result<(), StoreError> {
        closed()
    }

    /// Writes a row without a flush of its own: it is on disk with the next durable commit.
    pub fn put_relaxed(&self, _key: &[u8], _value: impl Into<Bytes>) -> Result<(), StoreError> {
        closed()
    }

    /// Writes a row if it is absent. Gives whether it was.
    pub fn put_if_absent(&self, _key: &[u8], _value: impl Into<Bytes>) -> Result<bool, StoreError> {
        closed()
    }

    /// Writes (or with `None` removes) several rows together; on disk when it returns.
    pub fn write(&self, _rows: Vec<(Key, Option<Bytes>)>) -> Result<(), StoreError> {
        closed()
    }

    /// Removes a row.
    pub fn delete(&self, _key: &[u8]) -> Result<(), StoreError> {
        closed()
    }

    /// The rows whose keys have this prefix, in order, with their keys.
    pub fn scan(&self, _prefix: &[u8]) -> Result<Vec<(Key, Bytes)>, StoreError> {
        closed()
    }
}
