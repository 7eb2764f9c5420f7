//! The simulated disk of one node: what a crash leaves behind, writes that fail, and crashes in the middle of one.
//!
//! [`Journal`] is the fast model: batches are atomic and ordered, as the contract of a backend has it, and only what
//! was flushed is sure to outlive a crash; of what follows, a prefix does, by the seed. [`Mount`] is what one process
//! sees of a disk, this one or the embedded backend over torn and reordered sectors: it counts commits down to the
//! crash that the plan wants, and fails the ones that the plan wants to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use eid_core::EntryId;
use eid_store::{Backend, BackendError, Batch, CrashDisk, Durability, Key, Memory, Snapshot, Value};

use crate::executor::lock;
use crate::rng::Rng;

/// Rows in memory, with a journal of what is not flushed.
#[derive(Debug, Default)]
pub struct Journal {
    state: Mutex<JournalState>,
}

#[derive(Debug, Default)]
struct JournalState {
    live: Arc<Memory>,
    durable: BTreeMap<Key, Value>,
    unflushed: Vec<Batch>,
}

impl Journal {
    /// Loses what was not flushed, except for a prefix that happened to reach the disk. Gives how many batches
    /// were lost.
    pub fn crash(&self, rng: &mut Rng) -> usize {
        let mut state = lock(&self.state);
        let unflushed = std::mem::take(&mut state.unflushed);
        let kept = rng.index(unflushed.len() + 1);
        let lost = unflushed.len() - kept;
        for batch in unflushed.into_iter().take(kept) {
            state.settle(batch);
        }
        let rows = Batch {
            puts: state.durable.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            ..Batch::default()
        };
        state.live = Arc::new(Memory::new());
        state
            .live
            .commit(rows)
            .expect("memory refuses a batch only when a guard fails, and this one has none");
        lost
    }
}

impl JournalState {
    fn settle(&mut self, batch: Batch) {
        for key in &batch.deletes {
            self.durable.remove(key);
        }
        self.durable.extend(batch.puts);
    }
}

impl Backend for Journal {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        lock(&self.state).live.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let mut state = lock(&self.state);
        let flushes = batch.durability == Durability::Durable;
        state.live.commit(batch.clone())?;
        state.unflushed.push(batch);
        if flushes {
            for batch in std::mem::take(&mut state.unflushed) {
                state.settle(batch);
            }
        }
        Ok(())
    }
}

/// What a node has on its disk for good, by the contract of a backend: everything that a durable commit has come after.
/// It outlives the processes of the node.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<LedgerState>,
}

#[derive(Debug, Default)]
struct LedgerState {
    commits: u64,
    beliefs: u64,
    durable: BTreeSet<EntryId>,
    relaxed: Vec<EntryId>,
}

/// Begins the keys under which entries are found by their id: the number of the tree and the id follow.
const ID_SPACE: u8 = 0x12;
/// Begins the keys of what is remembered of peers and databases.
const RELATIONS: &[u8] = b"\x04\x09relations";

impl Ledger {
    fn note(&self, keys: impl Iterator<Item = Key>, durability: Durability) {
        let mut state = lock(&self.state);
        state.commits += 1;
        for key in keys {
            match key.split_first() {
                Some((&ID_SPACE, rest)) => {
                    let id = rest.get(4..).and_then(|id| id.try_into().ok()).map(EntryId);
                    state.relaxed.extend(id);
                }
                _ if key.starts_with(RELATIONS) => state.beliefs += 1,
                _ => {}
            }
        }
        if durability == Durability::Durable {
            let relaxed = std::mem::take(&mut state.relaxed);
            state.durable.extend(relaxed);
        }
    }

    /// How many commits there were, and how many changes of what is remembered of peers.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.commits, state.beliefs)
    }

    /// Whether an entry would be there after a crash at this moment.
    #[must_use]
    pub fn is_durable(&self, id: &EntryId) -> bool {
        lock(&self.state).durable.contains(id)
    }

    /// A process has begun, and found these entries. Gives one that should have been there.
    pub fn found(&self, held: BTreeSet<EntryId>) -> Option<EntryId> {
        let mut state = lock(&self.state);
        let lost = state.durable.difference(&held).next().copied();
        state.relaxed.clear();
        state.durable = held;
        lost
    }
}

/// What happens to the commits of one process.
pub struct Mount {
    inner: Arc<dyn Backend>,
    ledger: Option<Arc<Ledger>>,
    /// The sectors below, where there are any: faults happen there then, in the middle of things.
    sectors: Option<CrashDisk>,
    state: Mutex<MountState>,
}

struct MountState {
    rng: Rng,
    dead: bool,
    /// How many commits are left before the process crashes in one.
    fuse: Option<u64>,
    fail_per_mille: u64,
    full: bool,
    at_crash: Option<Box<dyn FnOnce() + Send>>,
    tally: Tally,
}

/// What a mount has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commits that went through.
    pub commits: u64,
    /// Commits that failed for a moment.
    pub failed: u64,
    /// Commits that found the disk full.
    pub full: u64,
}

impl Mount {
    /// Mounts a disk for one process. The `ledger` is told of what goes through; `at_crash` is called when the process crashes in a commit.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Backend>,
        sectors: Option<CrashDisk>,
        ledger: Option<Arc<Ledger>>,
        rng: Rng,
        at_crash: Box<dyn FnOnce() + Send>,
    ) -> Self {
        let state = MountState {
            rng,
            dead: false,
            fuse: None,
            fail_per_mille: 0,
            full: false,
            at_crash: Some(at_crash),
            tally: Tally::default(),
        };
        Self { inner, ledger, sectors, state: Mutex::new(state) }
    }

    /// Lets the process crash in one of its next commits, at the latest in the one of this number.
    pub fn crash_within(&self, commits: u64) {
        let mut state = lock(&self.state);
        match &self.sectors {
            // A commit is a handful of writes and a sync or two.
            Some(disk) => disk.stop_after(state.rng.below(commits * 6)),
            None => state.fuse = Some(state.rng.below(commits)),
        }
    }

    /// Lets so many commits of a thousand fail.
    pub fn fail_some(&self, per_mille: u64) {
        match &self.sectors {
            Some(disk) => disk.fail_writes(per_mille / 100),
            None => lock(&self.state).fail_per_mille = per_mille,
        }
    }

    /// Fills the disk, or makes room on it.
    pub fn set_full(&self, full: bool) {
        match &self.sectors {
            Some(disk) => disk.set_capacity(full.then(|| disk.bytes())),
            None => lock(&self.state).full = full,
        }
    }

    /// Whether the sectors below have stopped: the process has crashed, whether or not it has noticed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.sectors.as_ref().is_some_and(CrashDisk::is_stopped)
    }

    /// Takes back every fault that is planned.
    pub fn settle(&self) {
        let mut state = lock(&self.state);
        state.fuse = None;
        state.fail_per_mille = 0;
        state.full = false;
        if let Some(disk) = self.sectors.as_ref().filter(|disk| !disk.is_stopped()) {
            disk.set_capacity(None);
            disk.fail_writes(0);
            disk.stop_after(u64::MAX / 2);
        }
    }

    /// Ends it: the process that it belongs to is no more.
    pub fn kill(&self) {
        let mut state = lock(&self.state);
        state.dead = true;
        state.at_crash = None;
    }

    /// What it has done.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.state).tally
    }
}

fn gone() -> BackendError {
    BackendError::Poisoned
}

impl Backend for Mount {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        if lock(&self.state).dead {
            return Err(gone());
        }
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let mut state = lock(&self.state);
        if state.dead {
            return Err(gone());
        }
        if state.full && !batch.puts.is_empty() {
            state.tally.full += 1;
            return Err(BackendError::Full);
        }
        let per_mille = state.fail_per_mille;
        if state.rng.chance(per_mille) {
            state.tally.failed += 1;
            return Err(BackendError::Io(Arc::new(io::Error::from(io::ErrorKind::Interrupted))));
        }
        match &mut state.fuse {
            Some(0) => {
                state.dead = true;
                let at_crash = state.at_crash.take();
                let reaches_the_disk = state.rng.chance(500);
                drop(state);
                if reaches_the_disk && self.inner.commit(batch).is_err() {
                    // It reached the disk no more than if the crash had come first.
                }
                if let Some(at_crash) = at_crash {
                    at_crash();
                }
                return Err(gone());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        drop(state);
        let noted = self.ledger.as_ref().map(|ledger| {
            let keys: Vec<Key> = batch.puts.iter().map(|(key, _)| key.clone()).collect();
            (ledger, keys, batch.durability)
        });
        let result = self.inner.commit(batch);
        if let Some((ledger, keys, durability)) = noted.filter(|_| result.is_ok()) {
            ledger.note(keys.into_iter(), durability);
        }
        let mut state = lock(&self.state);
        match &result {
            Ok(()) => state.tally.commits += 1,
            Err(BackendError::Full) => state.tally.full += 1,
            Err(BackendError::Conflict) => {}
            Err(_) => state.tally.failed += 1,
        }
        if result.is_err() && self.is_stopped() {
            state.dead = true;
            let at_crash = state.at_crash.take();
            drop(state);
            if let Some(at_crash) = at_crash {
                at_crash();
            }
            return Err(gone());
        }
        result
    }

    fn close(&self) -> Result<(), BackendError> {
        if lock(&self.state).dead { Err(gone()) } else { self.inner.close() }
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn put(key: &[u8], durability: Durability) -> Batch {
        Batch { puts: vec![(key.to_vec(), Bytes::from_static(b"x"))], durability, ..Batch::default() }
    }

    fn held(disk: &dyn Backend, key: &[u8]) -> bool {
        disk.snapshot().unwrap().get_many(&[key.to_vec()]).unwrap()[0].is_some()
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_a_prefix_of_the_rest() {
        for seed in 0..50 {
            let disk = Journal::default();
            disk.commit(put(b"a", Durability::Relaxed)).unwrap();
            disk.commit(put(b"b", Durability::Durable)).unwrap();
            disk.commit(put(b"c", Durability::Relaxed)).unwrap();
            disk.commit(put(b"d", Durability::Relaxed)).unwrap();
            disk.crash(&mut Rng::new(seed, "crash"));
            assert!(held(&disk, b"a") && held(&disk, b"b"));
            assert!(held(&disk, b"c") || !held(&disk, b"d"), "an order was not kept");
        }
    }

    #[test]
    fn a_mount_dies_in_the_commit_that_the_fuse_ends_in() {
        let disk = Arc::new(Journal::default());
        let crashed = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&crashed);
        let mount = Mount::new(disk, None, None, Rng::new(1, "mount"), Box::new(move || *lock(&seen) = true));
        mount.crash_within(3);
        let acknowledged = (0..5).filter(|n| mount.commit(put(&[*n], Durability::Durable)).is_ok()).count();
        assert!(acknowledged < 3 && *lock(&crashed));
        assert!(mount.snapshot().is_err());
    }
}
