//! The store of entries.

use std::fmt;
use std::sync::Arc;

use eid_core::dag::Epoch;
use eid_core::{Judge, TreeId};

use crate::apply::Apply;
use crate::backend::{Backend, BackendError};
use crate::error::StoreError;
use crate::fsck::FsckReport;
use crate::local::Local;
use crate::offer::{Admission, Admitted, Committed, LocalCommit, Offer, Prepared};
use crate::tree::TreeSnapshot;

/// Keeps entries of many trees, and everything that is derived from them.
#[derive(Debug)]
pub struct EntryStore {}

/// Ends the notifications of [`EntryStore::on_admitted`] when dropped.
#[must_use = "notifications end when this is dropped"]
pub struct Watch {}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

fn closed<T>() -> Result<T, StoreError> {
    Err(BackendError::Closed.into())
}

impl EntryStore {
    /// Opens a store, and makes it when the backend is empty. `seed` is fresh randomness.
    pub fn open(
        _backend: Arc<dyn Backend>,
        _judge: Arc<dyn Judge>,
        _apply: Arc<dyn Apply>,
        _seed: [u8; 32],
    ) -> Result<Arc<Self>, StoreError> {
        closed()
    }

    /// The life of the store that positions belong to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(0)
    }

    /// The trees that are held, by id.
    pub fn trees(&self) -> Result<Vec<TreeId>, StoreError> {
        closed()
    }

    /// One consistent snapshot of one tree, if it is held.
    pub fn tree(&self, _tree: &TreeId) -> Result<Option<TreeSnapshot>, StoreError> {
        closed()
    }

    /// Decodes, hashes and verifies in bulk. Holds no lock: the next batch is prepared while one is committed.
    pub fn prepare(&self, _tree: TreeId, _offers: Vec<Offer>) -> Result<Prepared, StoreError> {
        closed()
    }

    /// The one door: durable when it returns. A bad entry never blocks the rest.
    pub fn admit(&self, _prepared: Prepared) -> Result<Admission, StoreError> {
        closed()
    }

    /// Seals a write of this device and stores it through the same door.
    pub fn commit(&self, _local: LocalCommit) -> Result<Committed, StoreError> {
        closed()
    }

    /// The rows that are never synchronised.
    pub fn local(&self) -> Local {
        Local {}
    }

    /// Calls `f` after each batch that added entries, in order, once it is durable. `f` must be quick and must not
    /// commit.
    pub fn on_admitted(&self, _f: Arc<dyn Fn(&Admitted) + Send + Sync>) -> Watch {
        Watch {}
    }

    /// Removes a tree and everything derived from it, in bounded steps.
    pub fn forget(&self, _tree: &TreeId) -> Result<(), StoreError> {
        closed()
    }

    /// Recomputes everything that is derived from the log and compares. With `repair`, writes it anew.
    pub fn fsck(&self, _repair: bool, _progress: &mut dyn FnMut(u64, u64)) -> Result<FsckReport, StoreError> {
        closed()
    }

    /// Writes what is cached and lets go of the backend.
    pub fn close(&self) -> Result<(), StoreError> {
        closed()
    }
}
