//! Bounded work on rows of a view that no entry asks for, such as building an index.

use eid_core::dag::Seq;
use eid_core::{EntryId, ReadError, StoreName, TreeId};

use crate::apply::ViewRows;
use crate::backend::{BackendError, Batch, Durability};
use crate::entry_store::EntryStore;
use crate::error::StoreError;
use crate::limits::CONFLICT_RETRIES;
use crate::rows::{StoreRow, TreeNo, TreeState, decode_tree_no, state_key, store_key, trees_key};
use crate::views::{OneView, PendingIds, Views};

/// Every entry is stored already.
pub(crate) struct NothingPending;

impl PendingIds for NothingPending {
    fn pending_id(&self, _: TreeNo, _: Seq) -> Option<EntryId> {
        None
    }

    fn pending_seq(&self, _: TreeNo, _: &EntryId) -> Option<Seq> {
        None
    }
}

impl EntryStore {
    /// Runs `work` on the rows of one view while nothing is admitted, and writes what it changed as one relaxed
    /// batch. Nobody commits meanwhile, so callers take steps of a bounded size. `work` runs again when another
    /// process changed the tree in between.
    ///
    /// Only keys that begin with one of [`crate::LOCAL_ROWS`] are for such rows: others follow from entries, and a check
    /// compares them. When `work` fails, nothing is written.
    pub fn maintain<R>(
        &self,
        tree: &TreeId,
        store: &StoreName,
        kind: &str,
        work: &mut dyn FnMut(&mut dyn ViewRows) -> Result<R, ReadError>,
    ) -> Result<R, StoreError> {
        self.exclusively(|| {
            for _ in 0..CONFLICT_RETRIES {
                match self.maintain_once(tree, store, kind, work) {
                    Err(StoreError::Backend(BackendError::Conflict)) => {}
                    other => return other,
                }
            }
            Err(BackendError::Conflict.into())
        })
    }

    fn maintain_once<R>(
        &self,
        tree: &TreeId,
        store: &StoreName,
        kind: &str,
        work: &mut dyn FnMut(&mut dyn ViewRows) -> Result<R, ReadError>,
    ) -> Result<R, StoreError> {
        let memory = self.memory(tree);
        let snapshot = self.backend().snapshot()?;
        let number = match &memory {
            Some(memory) => memory.number,
            None => {
                let number = snapshot.get_many(&[trees_key(tree)])?.pop().flatten();
                decode_tree_no(&number.ok_or(StoreError::UnknownTree)?)?
            }
        };
        let mut found = snapshot.get_many(&[state_key(number), store_key(number, store, kind)])?.into_iter();
        let before = found.next().flatten().ok_or(StoreError::UnknownTree)?;
        let mut state = TreeState::decode(&before)?;
        let held = found.next().flatten().as_ref().map(StoreRow::decode).transpose()?;
        let row = held.unwrap_or(StoreRow { number: state.next_store, ..StoreRow::default() });
        let mut views = Views::unfetched(&*snapshot);
        let mut view = OneView::new(&mut views, (number, row.number), &NothingPending, state.next_seq);
        let done = work(&mut view)?;
        let mut batch = Batch { durability: Durability::Relaxed, ..Batch::default() };
        views.write_into(&mut batch)?;
        if batch.puts.is_empty() && batch.deletes.is_empty() {
            return Ok(done);
        }
        if held.is_none() {
            state.next_store += 1;
            batch.puts.push((store_key(number, store, kind), row.encode()));
        }
        state.maintained += 1;
        batch.guards.push((state_key(number), Some(before)));
        batch.puts.push((state_key(number), state.encode()));
        self.backend().commit(batch)?;
        if let Some(memory) = memory {
            memory.add_store(store, kind, row.number);
        }
        Ok(done)
    }
}
