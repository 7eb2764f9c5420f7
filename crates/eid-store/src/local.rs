//! Rows of this device that are never synchronised.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{Backend, BackendError, Batch, Durability, Key, Scan};
use crate::error::StoreError;
use crate::limits::NAMESPACE_BYTES_MAX;
use crate::rows::Space;

/// Reads and writes local rows under a namespace.
#[derive(Clone)]
pub struct Local {
    backend: Arc<dyn Backend>,
    prefix: Vec<u8>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Local {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, prefix: vec![Space::Local as u8, 0] }
    }

    /// The rows of a namespace: a short text, cut after [`NAMESPACE_BYTES_MAX`] bytes. It replaces the one before.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Self {
        let name = &name.as_bytes()[..name.len().min(NAMESPACE_BYTES_MAX)];
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        Self { backend: self.backend.clone(), prefix: [&[Space::Local as u8, length], name].concat() }
    }

    fn key(&self, key: &[u8]) -> Key {
        [&self.prefix[..], key].concat()
    }

    /// One row.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.backend.snapshot()?.get_many(&[self.key(key)])?.pop().flatten())
    }

    /// Writes a row; on disk when it returns.
    pub fn put(&self, key: &[u8], value: impl Into<Bytes>) -> Result<(), StoreError> {
        self.write(vec![(key.to_vec(), Some(value.into()))])
    }

    /// Writes a row without a flush of its own: it is on disk with the next durable commit.
    pub fn put_relaxed(&self, key: &[u8], value: impl Into<Bytes>) -> Result<(), StoreError> {
        let puts = vec![(self.key(key), value.into())];
        Ok(self.backend.commit(Batch { puts, durability: Durability::Relaxed, ..Batch::default() })?)
    }

    /// Writes a row if it is absent. Gives whether it was.
    pub fn put_if_absent(&self, key: &[u8], value: impl Into<Bytes>) -> Result<bool, StoreError> {
        let key = self.key(key);
        let batch =
            Batch { puts: vec![(key.clone(), value.into())], guards: vec![(key, None)], ..Batch::default() };
        match self.backend.commit(batch) {
            Ok(()) => Ok(true),
            Err(BackendError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes (or with `None` removes) several rows together; on disk when it returns.
    pub fn write(&self, rows: Vec<(Key, Option<Bytes>)>) -> Result<(), StoreError> {
        self.write_with(rows, Durability::Durable)
    }

    /// The same without a flush of its own: the rows are on disk, all of them, with the next durable commit.
    pub fn write_relaxed(&self, rows: Vec<(Key, Option<Bytes>)>) -> Result<(), StoreError> {
        self.write_with(rows, Durability::Relaxed)
    }

    fn write_with(&self, rows: Vec<(Key, Option<Bytes>)>, durability: Durability) -> Result<(), StoreError> {
        let mut batch = Batch { durability, ..Batch::default() };
        for (key, value) in rows {
            match value {
                Some(value) => batch.puts.push((self.key(&key), value)),
                None => batch.deletes.push(self.key(&key)),
            }
        }
        Ok(self.backend.commit(batch)?)
    }

    /// Removes a row.
    pub fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        self.write(vec![(key.to_vec(), None)])
    }

    /// The rows whose keys have this prefix, in order, with their keys.
    pub fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let scan = Scan::prefix(&self.key(prefix));
        let rows = self.backend.snapshot()?.scan_many(&[scan])?.pop().unwrap_or_default();
        Ok(rows.into_iter().map(|(key, value)| (key[self.prefix.len()..].to_vec(), value)).collect())
    }
}
