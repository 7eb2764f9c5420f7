//! What is remembered of each peer and database from one session to the next: cursor and acknowledgement.
//!
//! Rows are written without a flush of their own: losing one understates what is held, never overstates it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eid_core::dag::{Epoch, Seq};
use eid_core::sabotage::{self, Sabotage};
use eid_core::{PublicKey, TreeId};
use eid_proto::{Cursor, Known};
use eid_store::{EntryStore, StoreError};

use crate::signal::Signal;

const NAMESPACE: &str = "relations";
/// The form of a row.
const FORM: u8 = 1;

/// The rows of one store.
#[derive(Debug, Clone)]
pub(crate) struct Relations {
    store: Arc<EntryStore>,
    /// A peer has acknowledged more.
    learnt: Arc<Signal>,
    /// Somebody waits for that, or more than before do.
    awaited: Arc<Signal>,
    waiting: Arc<AtomicUsize>,
}

/// Somebody who waits until peers have acknowledged more.
#[derive(Debug)]
pub(crate) struct Awaiting(Arc<AtomicUsize>);

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Relations {
    pub(crate) fn new(store: Arc<EntryStore>) -> Self {
        Self { store, learnt: Arc::default(), awaited: Arc::default(), waiting: Arc::default() }
    }

    /// Is raised when a peer has acknowledged more.
    pub(crate) fn learnt(&self) -> &Signal {
        &self.learnt
    }

    /// Is raised when somebody begins to wait for what peers acknowledge.
    pub(crate) fn awaited(&self) -> &Signal {
        &self.awaited
    }

    /// Whether somebody waits for what peers acknowledge.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Waits for what peers acknowledge: it is remembered sooner meanwhile.
    pub(crate) fn await_more(&self) -> Awaiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.awaited.raise();
        Awaiting(Arc::clone(&self.waiting))
    }

    /// What is known of a peer; nothing after this store was restored from a backup or the database was fetched again:
    /// its positions may be of other entries.
    pub(crate) fn load(&self, peer: &PublicKey, tree: &TreeId) -> Result<Known, StoreError> {
        let row = self.store.local().namespace(NAMESPACE).get(&key(peer, tree))?;
        Ok(row.and_then(|row| decode(&row, self.store.epoch_of(tree))).unwrap_or_default())
    }

    /// Remembers what a session has learnt. Positions only grow within one life of a store.
    pub(crate) fn record(&self, peer: &PublicKey, tree: &TreeId, known: Known) -> Result<(), StoreError> {
        let before = self.load(peer, tree)?;
        let mut after =
            Known { theirs: later(before.theirs, known.theirs), mine: later(before.mine, known.mine) };
        if sabotage::is(Sabotage::ForgetAck) {
            after.mine = None;
        }
        if after == before {
            return Ok(());
        }
        let row = encode(after, self.store.epoch_of(tree));
        self.store.local().namespace(NAMESPACE).put_relaxed(&key(peer, tree), row)?;
        if after.mine != before.mine {
            self.learnt.raise();
        }
        Ok(())
    }

    /// Takes back what a peer has acknowledged: it says that it begins anew.
    pub(crate) fn start_over(&self, peer: &PublicKey, tree: &TreeId) -> Result<(), StoreError> {
        let before = self.load(peer, tree)?;
        if before.mine.is_none() {
            return Ok(());
        }
        let row = encode(Known { mine: None, ..before }, self.store.epoch_of(tree));
        self.store.local().namespace(NAMESPACE).put_relaxed(&key(peer, tree), row)
    }

    /// Every peer that there was a session with about this database.
    pub(crate) fn of_tree(&self, tree: &TreeId) -> Result<Vec<(PublicKey, Known)>, StoreError> {
        let rows = self.store.local().namespace(NAMESPACE).scan(&tree.0)?;
        let epoch = self.store.epoch_of(tree);
        let row = |(key, row): (Vec<u8>, Bytes)| {
            let peer = key.get(32..)?.try_into().ok()?;
            Some((PublicKey(peer), decode(&row, epoch)?))
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Every database that there was a session with this peer about.
    pub(crate) fn of_peer(&self, peer: &PublicKey) -> Result<Vec<TreeId>, StoreError> {
        let rows = self.store.local().namespace(NAMESPACE).scan(&[])?;
        let of_it = rows.iter().filter(|(key, _)| key.ends_with(&peer.0));
        Ok(of_it.filter_map(|(key, _)| Some(TreeId(key.get(..32)?.try_into().ok()?))).collect())
    }

    /// Forgets a peer's positions in every database.
    pub(crate) fn forget_peer(&self, peer: &PublicKey) -> Result<(), StoreError> {
        let local = self.store.local().namespace(NAMESPACE);
        let mut rows = local.scan(&[])?;
        rows.retain(|(key, _)| key.ends_with(&peer.0));
        local.write(rows.into_iter().map(|(key, _)| (key, None)).collect())
    }

    /// Forgets every peer's positions in this database.
    pub(crate) fn forget(&self, tree: &TreeId) -> Result<(), StoreError> {
        let local = self.store.local().namespace(NAMESPACE);
        let rows = local.scan(&tree.0)?;
        local.write(rows.into_iter().map(|(key, _)| (key, None)).collect())
    }
}

fn key(peer: &PublicKey, tree: &TreeId) -> Vec<u8> {
    [tree.0, peer.0].concat()
}

/// The later of two positions. Another life of the other store replaces what was known of the one before.
fn later(before: Option<Cursor>, after: Option<Cursor>) -> Option<Cursor> {
    match (before, after) {
        (Some(before), Some(after)) if before.epoch == after.epoch && before.seq > after.seq => Some(before),
        (before, after) => after.or(before),
    }
}

fn encode(known: Known, own: Epoch) -> Bytes {
    let mut row = vec![FORM];
    row.extend(own.0.to_le_bytes());
    for cursor in [known.theirs, known.mine] {
        row.push(u8::from(cursor.is_some()));
        let (epoch, seq) = cursor.map_or((0, 0), |cursor| (cursor.epoch.0, cursor.seq.0));
        row.extend(epoch.to_le_bytes());
        row.extend(seq.to_le_bytes());
    }
    Bytes::from(row)
}

fn decode(row: &[u8], own: Epoch) -> Option<Known> {
    let number = |at: usize| Some(u64::from_le_bytes(row.get(at..at + 8)?.try_into().ok()?));
    if row.len() != 43 || row[0] != FORM || number(1)? != own.0 {
        return None;
    }
    let cursor = |at: usize| {
        let cursor = Cursor { epoch: Epoch(number(at + 1)?), seq: Seq(number(at + 9)?) };
        Some((row[at] == 1).then_some(cursor))
    };
    Some(Known { theirs: cursor(9)?, mine: cursor(26)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_and_those_of_another_life_are_not_believed() {
        let cursor = |epoch, seq| Some(Cursor { epoch: Epoch(epoch), seq: Seq(seq) });
        for known in [
            Known::default(),
            Known { theirs: cursor(5, 6), mine: None },
            Known { theirs: cursor(5, u64::MAX), mine: cursor(1, 8) },
        ] {
            let row = encode(known, Epoch(1));
            assert_eq!(decode(&row, Epoch(1)), Some(known));
            assert_eq!(decode(&row, Epoch(2)), None);
            assert_eq!(decode(&row[..42], Epoch(1)), None);
        }
    }

    #[test]
    fn positions_grow_within_a_life_and_begin_again_with_another() {
        let cursor = |epoch, seq| Some(Cursor { epoch: Epoch(epoch), seq: Seq(seq) });
        assert_eq!(later(cursor(1, 9), cursor(1, 3)), cursor(1, 9));
        assert_eq!(later(cursor(1, 9), cursor(2, 3)), cursor(2, 3));
        assert_eq!(later(cursor(1, 9), None), cursor(1, 9));
    }
}
