//! Documents, with writes that can be awaited.

use eid_db::{Concurrent, DocStore as DbDoc, Path, Value};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::offload::offload;

/// A document of a database: paths to values, which merge one by one. A cheap handle; making one does nothing.
///
/// Reads are key lookups and synchronous. A write is one entry and returns when it is on disk.
#[derive(Debug, Clone)]
pub struct DocStore {
    pub(crate) inner: DbDoc,
}

impl DocStore {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The value at a path: a map with everything in it, if it is one.
    pub fn get(&self, path: impl Into<Path>) -> Result<Option<Value>, Error> {
        Ok(self.inner.get(path)?)
    }

    /// The value at a path in a Rust type.
    pub fn get_as<T: DeserializeOwned>(&self, path: impl Into<Path>) -> Result<Option<T>, Error> {
        Ok(self.inner.get_as(path)?)
    }

    /// The values that devices have given a path without knowing of each other, the one that [`Self::get`] gives first.
    pub fn get_all(&self, path: impl Into<Path>) -> Result<Concurrent, Error> {
        Ok(self.inner.get_all(path)?)
    }

    /// The whole document as JSON.
    pub fn to_json(&self) -> Result<serde_json::Value, Error> {
        Ok(self.inner.to_json()?)
    }

    /// The keys right below a path, in order.
    pub fn keys(&self, path: impl Into<Path>) -> Result<Vec<String>, Error> {
        Ok(self.inner.keys(path)?)
    }

    /// Sets the value at a path.
    pub async fn set(&self, path: impl Into<Path>, value: impl Into<Value>) -> Result<(), Error> {
        let (doc, path, value) = (self.inner.clone(), path.into(), value.into());
        Ok(offload(move || doc.set(path, value)).await??)
    }

    /// Deletes what is at a path and below.
    pub async fn delete(&self, path: impl Into<Path>) -> Result<(), Error> {
        let (doc, path) = (self.inner.clone(), path.into());
        Ok(offload(move || doc.delete(path)).await??)
    }

    /// Adds to the integer at a path; concurrent increments add up. Nothing there counts as 0.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidValue`] when something else is there.
    pub async fn increment(&self, path: impl Into<Path>, by: i64) -> Result<(), Error> {
        let (doc, path) = (self.inner.clone(), path.into());
        Ok(offload(move || doc.increment(path, by)).await??)
    }
}
