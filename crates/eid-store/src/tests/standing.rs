//! What an admission of settings does to views: while it is under way, when it ends early, and what it costs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::time::Duration;

use bytes::Bytes;
use eid_core::dag::Replica;
use eid_core::{Entry, EntryId, History, Judge, PublicKey, Question, ReadError, Refusal, StoreName, TreeId};

use super::kit::*;
use super::versions::{
    Act, Cells, PAGED, PLAIN, Removals, admit_alone, assert_same, entry_by, fresh, see_version,
};
use crate::limits::SETTLE_TRIES;
use crate::rows::{Space, TreeNo, TreeState, state_key, tree_range, trees_key};
use crate::{
    Applied, Apply, Backend, Batch, Change, Counting, CrashDisk, Embedded, EmbeddedConfig, EntryStore, Key,
    Memory, Offer, Scan, StoreError, ViewRows, Wanted,
};

/// The first tree of a store.
const TREE: TreeNo = TreeNo(1);

fn open(backend: Arc<dyn Backend>, apply: Arc<dyn Apply>) -> Arc<EntryStore> {
    EntryStore::open(backend, Arc::new(Removals), apply, [5; 32]).unwrap()
}

/// A root, a chain of writes of keys 3 and 4, and last the removal of key 3 by somebody who knows half of it.
fn removal(count: usize) -> Vec<Entry> {
    let mut entries = vec![root()];
    for n in 0..count {
        let parent = entries.last().unwrap();
        entries.push(entry_by(3 + (n % 2) as u8, &[parent], &Act::Set("x", n % 5, n as u64)));
    }
    entries.push(entry_by(2, &[&entries[count / 2]], &Act::Revoke(3, true)));
    entries
}

/// What the store shows, and that it is what one shows that was given everything at once.
fn assert_as_fresh(store: &EntryStore, entries: &[Entry]) {
    let parents: BTreeMap<EntryId, Vec<EntryId>> =
        entries.iter().map(|entry| (entry.id(), entry.header().parents.clone())).collect();
    let held = entries.iter().map(|entry| (entry.id(), offer(entry))).collect();
    let snapshot = store.tree(&entries[0].tree()).unwrap().unwrap();
    assert!(!snapshot.is_stale());
    let tips: Vec<EntryId> = snapshot.tips().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_same(&see_version(&snapshot), &fresh(&held, &parents, &tips));
    assert_eq!(store.fsck(false, &mut |_, _| {}).unwrap().problems, []);
}

/// Runs something of a test's own each time that rows were worked out again.
struct Meanwhile {
    cells: Cells,
    store: OnceLock<Weak<EntryStore>>,
    run: Mutex<Box<dyn FnMut(Arc<EntryStore>) + Send>>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

impl Apply for Meanwhile {
    fn reads(&self, change: &Change<'_>, wanted: &mut Wanted) {
        self.cells.reads(change, wanted);
    }

    fn apply(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        self.cells.apply(change, view)
    }

    fn apply_void(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        self.cells.apply_void(change, view)
    }

    fn replaced(
        &self,
        _: &StoreName,
        _: &str,
        _: &[(Key, Option<Bytes>)],
        _: &mut dyn ViewRows,
    ) -> Result<(), ReadError> {
        if let Some(store) = self.store.get().and_then(Weak::upgrade) {
            (self.run.lock().unwrap())(store);
        }
        Ok(())
    }
}

fn open_meanwhile(backend: Arc<dyn Backend>, run: Box<dyn FnMut(Arc<EntryStore>) + Send>) -> Arc<EntryStore> {
    let apply = Arc::new(Meanwhile { cells: PAGED, store: OnceLock::new(), run: Mutex::new(run) });
    let store = open(backend, apply.clone());
    apply.store.set(Arc::downgrade(&store)).unwrap();
    store
}

#[test]
fn others_admit_while_views_are_brought_in_line_and_what_they_admit_is_taken_in() {
    for times in 0..=SETTLE_TRIES {
        let mut entries = removal(20);
        let tree = entries[0].tree();
        let others: Vec<Entry> = (0..times)
            .map(|n| entry_by(3 + (n % 2) as u8, &[&entries[15]], &Act::Set("y", 3, u64::from(n))))
            .collect();
        let (mut left, waited) = (others.clone().into_iter(), Arc::new(AtomicU32::new(0)));
        let in_vain = waited.clone();
        let store = open_meanwhile(
            Arc::new(Memory::new()),
            Box::new(move |store| {
                let Some(next) = left.next() else { return };
                let (told, done) = mpsc::channel();
                std::thread::spawn(move || {
                    admit(&store, &[&next]);
                    told.send(()).unwrap();
                });
                if done.recv_timeout(Duration::from_secs(10)).is_err() {
                    in_vain.fetch_add(1, Ordering::SeqCst);
                }
            }),
        );
        admit(&store, &entries.iter().collect::<Vec<_>>());
        assert_eq!(waited.load(Ordering::SeqCst), 0);
        entries.extend(others);
        assert_eq!(store.tree(&tree).unwrap().unwrap().count(), entries.len() as u64);
        assert_as_fresh(&store, &entries);
    }
}

#[test]
fn a_tree_that_is_forgotten_while_its_views_are_brought_in_line_leaves_nothing_behind() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let entries = removal(20);
    let tree = entries[0].tree();
    let store = open_meanwhile(
        backend.clone(),
        Box::new(move |store| {
            // As forgetting begins: what is left is swept, while this goes on.
            store.backend().commit(Batch { deletes: vec![trees_key(&tree)], ..Batch::default() }).unwrap();
        }),
    );
    admit_alone(&store, tree, entries.iter().map(offer).collect());
    assert_eq!(store.settle(&tree).unwrap(), None);
    let rows = |space| {
        let (from, to) = tree_range(space, TREE);
        backend.snapshot().unwrap().scan_many(&[Scan::range(from, to)]).unwrap().remove(0)
    };
    assert!(rows(Space::Void).is_empty() && rows(Space::Settled).is_empty());
}

fn state(backend: &dyn Backend) -> (TreeState, usize, usize) {
    let snapshot = backend.snapshot().unwrap();
    let state = snapshot.get_many(&[state_key(TREE)]).unwrap().remove(0).unwrap();
    let rows = |space| {
        let (from, to) = tree_range(space, TREE);
        snapshot.scan_many(&[Scan::range(from, to)]).unwrap().remove(0).len()
    };
    (TreeState::decode(&state).unwrap(), rows(Space::Void), rows(Space::Settled))
}

/// At any write: the views of a tree are as they were, and say so, or in line with what counts.
#[test]
fn bringing_views_in_line_takes_effect_as_a_whole_or_not_at_all() {
    let embedded = |disk: &CrashDisk| {
        let config = EmbeddedConfig { cache_bytes: 1 << 20, log_bytes: 48 << 10 };
        Embedded::open_on(Arc::new(disk.clone()), config)
    };
    let entries = removal(30);
    let tree = entries[0].tree();
    let (mut open_ones, mut done_ones) = (0, 0);
    for seed in 0..3 {
        for writes in 0.. {
            let disk = CrashDisk::new();
            let store = open(Arc::new(embedded(&disk).unwrap()), Arc::new(PLAIN));
            admit_alone(&store, tree, entries.iter().map(offer).collect());
            assert_eq!(store.unsettled().unwrap(), [tree]);
            disk.stop_after(writes);
            let settled = store.settle(&tree);
            let stopped = disk.is_stopped();
            assert!(settled.is_ok() || stopped, "{settled:?}");
            drop(store);
            disk.restart(seed);
            let backend = Arc::new(embedded(&disk).unwrap());
            let (state, voids, changes) = state(&*backend);
            if state.unsettled.is_some() {
                assert!(settled.is_err());
                assert_eq!((state.voids, state.settled, voids, changes), (0, 0, 0, 0));
                open_ones += 1;
            } else {
                assert_eq!((state.voids, state.settled, voids, changes), (7, 1, 7, 1));
                done_ones += 1;
            }
            // Opening brings them in line.
            let store = open(backend, Arc::new(PLAIN));
            assert_eq!(store.unsettled().unwrap(), []);
            assert_as_plain(&store, &entries);
            if !stopped {
                break;
            }
        }
    }
    assert!(open_ones > 0 && done_ones > 0, "{open_ones} {done_ones}");
}

/// As [`assert_as_fresh`], of kinds without pages.
fn assert_as_plain(store: &EntryStore, entries: &[Entry]) {
    let tree = entries[0].tree();
    let other = open(Arc::new(Memory::new()), Arc::new(PLAIN));
    admit(&other, &entries.iter().collect::<Vec<_>>());
    let [seen, expected] = [store, &*other].map(|store| see_version(&store.tree(&tree).unwrap().unwrap()));
    assert_same(&seen, &expected);
    assert_eq!(store.fsck(false, &mut |_, _| {}).unwrap().problems, []);
}

#[test]
fn what_everybody_knew_costs_nothing_and_settings_cost_little() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let store = open(backend.clone(), Arc::new(PLAIN));
    let mut entries = removal(12);
    let tree = entries[0].tree();
    admit(&store, &entries.iter().collect::<Vec<_>>());
    let last = entries.len() - 1;
    entries.push(entry_by(4, &[&entries[last - 1], &entries[last]], &Act::Grant(9)));
    admit(&store, &[&entries[last + 1]]);
    assert!(store.tree(&tree).unwrap().unwrap().void_entries() > 0);
    // Nothing to do.
    let before = backend.counts();
    assert_eq!(store.settle(&tree).unwrap(), None);
    let spent = backend.counts() - before;
    assert!(spent.reads <= 1 && spent.commits == 0, "{spent:?}");
    // A write by somebody who knows all settings.
    let write = entry_by(4, &[&entries[last + 1]], &Act::Set("x", 1, 7));
    let before = backend.counts();
    assert_eq!(codes(&admit(&store, &[&write])), ["ok"]);
    let spent = backend.counts() - before;
    // One read more than what the door asks: this kind writes rows that it does not name.
    assert_eq!((spent.snapshots, spent.reads, spent.commits), (1, 3, 1), "{spent:?}");
    // Settings of somebody who does not know the last ones, with and without something that they reach.
    for (act, unsettles) in [(Act::Grant(10), false), (Act::Revoke(4, false), true)] {
        let settings = entry_by(2, &[&entries[last]], &act);
        let before = backend.counts();
        admit_alone(&store, tree, vec![offer(&settings)]);
        let spent = backend.counts() - before;
        assert!(spent.snapshots == 1 && spent.reads <= 4 && spent.commits == 1, "{act:?}: {spent:?}");
        assert_eq!(store.unsettled().unwrap() == [tree], unsettles);
    }
    // A write that comes while that is open does no more than another.
    let next = entry_by(5, &[&write], &Act::Set("x", 1, 8));
    let before = backend.counts();
    admit_alone(&store, tree, vec![offer(&next)]);
    let spent = backend.counts() - before;
    assert!(spent.snapshots == 1 && spent.reads <= 4 && spent.commits == 1, "{spent:?}");
}

#[test]
fn what_does_not_fit_in_memory_stays_stale_and_is_not_tried_again_with_every_write() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let store = open(backend.clone(), Arc::new(PLAIN));
    let mut entries = removal(1500);
    let removal = entries.pop().unwrap();
    let tree = removal.tree();
    for batch in entries.chunks(200) {
        admit(&store, &batch.iter().collect::<Vec<_>>());
    }
    // One that reaches everything.
    let removal = entry_by(2, &[&entries[0]], &Act::Revoke(3, true));
    assert_eq!(codes(&admit(&store, &[&removal])), ["ok"]);
    let is_stale = || store.tree(&tree).unwrap().unwrap().is_stale();
    assert!(is_stale());
    assert!(matches!(store.settle(&tree), Err(StoreError::VersionTooLarge { .. })));
    let mut tip = removal;
    for n in 0..3 {
        tip = entry_by(4, &[entries.last().unwrap(), &tip], &Act::Set("x", 2, n));
        let before = backend.counts();
        assert_eq!(codes(&admit(&store, &[&tip])), ["ok"]);
        let spent = backend.counts() - before;
        assert!(spent.snapshots == 1 && spent.reads <= 4, "{spent:?}");
    }
    assert!(is_stale());
    drop(store);
    assert_eq!(open(backend, Arc::new(PLAIN)).unsettled().unwrap(), [tree]);
}

/// Asks, of each entry, which of the others it descends from.
#[derive(Debug, Default)]
struct Asking {
    others: Vec<EntryId>,
    told: Mutex<BTreeMap<EntryId, Vec<bool>>>,
}

impl Judge for Asking {
    fn knows(&self, _: &TreeId, _: &PublicKey) -> bool {
        true
    }

    fn judge(&self, question: Question<'_>, past: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        let parents = &question.entry.header().parents;
        let told: Result<Vec<bool>, ReadError> =
            self.others.iter().map(|other| past.includes(parents, other)).collect();
        self.told.lock().unwrap().insert(question.entry.id(), told?);
        Ok(Ok(()))
    }
}

/// r <- a <- b, r <- c, b c <- d, b <- e.
#[test]
fn a_judge_reads_where_entries_lie_that_are_stored_or_come_in_the_same_batch() {
    let root = root();
    let a = child(&[&root], 1);
    let b = child(&[&a], 2);
    let c = child(&[&root], 3);
    let d = child(&[&b, &c], 4);
    let e = child(&[&b], 5);
    let entries = [&root, &a, &b, &c, &d, &e];
    for cuts in [vec![6], vec![1, 5], vec![3, 3], vec![4, 2], vec![1, 1, 1, 1, 1, 1]] {
        let judge = Arc::new(Asking {
            others: entries.iter().map(|entry| entry.id()).collect(),
            ..Asking::default()
        });
        let store =
            EntryStore::open(Arc::new(Memory::new()), judge.clone(), Arc::new(PLAIN), [5; 32]).unwrap();
        let mut rest = &entries[..];
        for cut in cuts {
            let (batch, after) = rest.split_at(cut);
            let offers: Vec<Offer> = batch.iter().map(|entry| offer(entry)).collect();
            assert!(
                admit_offers(&store, root.tree(), offers)
                    .iter()
                    .all(|v| matches!(v, crate::Verdict::Admitted(_)))
            );
            rest = after;
        }
        let told = judge.told.lock().unwrap();
        let expected = [
            (&a, [1, 0, 0, 0, 0, 0]),
            (&b, [1, 1, 0, 0, 0, 0]),
            (&c, [1, 0, 0, 0, 0, 0]),
            (&d, [1, 1, 1, 1, 0, 0]),
            (&e, [1, 1, 1, 0, 0, 0]),
        ];
        for (entry, expected) in expected {
            assert_eq!(told[&entry.id()], expected.map(|one| one == 1));
        }
    }
}
