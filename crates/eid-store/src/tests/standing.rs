//! What an admission of settings does to views: while it is under way, when it ends early, and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::time::Duration;

use bytes::Bytes;
use eid_core::dag::{Replica, Seq};
use eid_core::{
    Entry, EntryId, History, Judge, PublicKey, Question, ReadError, Refusal, Stands, StoreName, TreeId,
};

use super::kit::*;
use super::versions::{
    Act, Cells, PAGED, PLAIN, Removals, admit_alone, assert_same, entry_by, fresh, open_portioned,
    see_version,
};
use crate::limits::{SETTLE_TRIES, WALKED_MAX};
use crate::rows::{Edge, Space, TREE_SPACES, TreeNo, TreeState, seq_key, state_key, tree_range, trees_key};
use crate::settings::{Overlay, Walked};
use crate::standing::{Portion, Weigher};
use crate::{
    Applied, Apply, Backend, BackendError, Batch, Change, Counting, CrashDisk, Embedded, EmbeddedConfig,
    EntryStore, Key, Memory, Offer, Scan, Snapshot, StoreError, Value, ViewRows, Wanted,
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
    assert_eq!(store.settle(&tree).unwrap(), 0);
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

/// At any write: the views of a tree are as they were, and say so, or in line with what counts, or in line but for the
/// first of the entries that count otherwise.
#[test]
fn views_take_in_each_portion_as_a_whole_or_not_at_all_and_go_on_where_they_were() {
    let embedded = |disk: &CrashDisk| {
        let config = EmbeddedConfig { cache_bytes: 1 << 20, log_bytes: 48 << 10 };
        Embedded::open_on(Arc::new(disk.clone()), config)
    };
    let entries = removal(30);
    let tree = entries[0].tree();
    let (whole, thirds) = (Portion::default(), Portion { entries: 3, ..Portion::default() });
    // The rows of two entries do not fit, and no others do beside them.
    let single = Portion { entries: 1000, bytes: 1 };
    let cases = [(whole, &[0, 7][..]), (thirds, &[0, 3, 6, 7]), (single, &[0, 1, 2, 3, 4, 5, 6, 7])];
    for (portion, counts) in cases {
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        for (seed, writes) in (0..3).flat_map(|seed| (0..200).map(move |writes| (seed, writes))) {
            let disk = CrashDisk::new();
            let backend = Arc::new(embedded(&disk).unwrap());
            let store = open_portioned(backend, PLAIN, portion);
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
            let portions = counts.iter().position(|count| *count == state.voids);
            let portions = portions.unwrap_or_else(|| panic!("{portion:?}: {}", state.voids));
            seen.insert(state.voids);
            assert_eq!((state.settled, voids as u64, changes), (portions as u64, state.voids, portions));
            assert_eq!(state.unsettled.is_some(), portions + 1 < counts.len());
            assert!(settled.is_err() || state.unsettled.is_none());
            // Opening brings them in line.
            let store = open_portioned(backend.clone(), PLAIN, portion);
            assert_eq!(store.unsettled().unwrap(), []);
            assert_eq!(self::state(&*backend).2, counts.len() - 1);
            assert_as_plain(&store, &entries);
            if state.unsettled.is_some() {
                assert_nothing_aside(&*backend);
            }
            if !stopped {
                assert_nothing_aside(&*backend);
                break;
            }
        }
        assert_eq!(seen, counts.iter().copied().collect());
    }
}

/// Only one tree has rows, and nothing is left to be swept.
fn assert_nothing_aside(backend: &dyn Backend) {
    let everything = [Scan::range(Vec::new(), vec![0xff])];
    for (key, _) in backend.snapshot().unwrap().scan_many(&everything).unwrap().remove(0) {
        let is_of_tree = TREE_SPACES.iter().any(|space| key[0] == *space as u8);
        assert!(!is_of_tree || key[1..5] == TREE.0.to_be_bytes(), "{key:?}");
        assert_ne!(key[0], Space::Sweep as u8);
    }
}

/// What is void is on a list, whoever wrote it.
#[derive(Debug)]
struct Listed(BTreeSet<EntryId>);

impl Judge for Listed {
    fn knows(&self, _: &TreeId, _: &PublicKey) -> bool {
        true
    }

    fn judge(&self, _: Question<'_>, _: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        Ok(Ok(()))
    }

    fn stands(
        &self,
        _: &TreeId,
        entry: Stands<'_>,
        _: &[EntryId],
        _: &dyn History,
    ) -> Result<bool, ReadError> {
        Ok(!self.0.contains(&(entry.id)()?))
    }
}

/// What was removed is what key 3 wrote outside the fence. The entries come first, so that nothing is judged at the door.
#[test]
fn while_portions_are_taken_in_views_show_what_counts_but_for_the_earlier_entries() {
    let entries = removal(40);
    let tree = entries[0].tree();
    let fence = entries.len() / 2;
    let bad: Vec<usize> =
        (fence..entries.len() - 1).filter(|i| entries[*i].header().author == key(3).public()).collect();
    for (portion, step) in
        [(Portion { entries: 2, bytes: 1 << 20 }, 2), (Portion { entries: 5, bytes: 1 }, 1)]
    {
        for cells in [PLAIN, PAGED] {
            let store = open_portioned(Arc::new(Memory::new()), cells, portion);
            admit_alone(&store, tree, entries.iter().map(offer).collect());
            let memory = store.memory(&tree).unwrap();
            let mut left = bad.len();
            loop {
                let taken = store.settle_portion(&tree, &memory, &mut portion.clone()).unwrap();
                left = left.saturating_sub(step);
                let listed = bad[left..].iter().map(|i| entries[*i].id()).collect();
                let other = EntryStore::open(
                    Arc::new(Memory::new()),
                    Arc::new(Listed(listed)),
                    Arc::new(cells),
                    [5; 32],
                );
                let other = other.unwrap();
                // Settings that come first are known to nobody, and so everything is judged.
                let last = entries.len() - 1;
                let order = (0..fence).chain([last]).chain(fence..last);
                let offers = order.map(|i| offer(&entries[i])).collect();
                admit_alone(&other, tree, offers);
                let [seen, expected] = [&store, &other].map(|store| store.tree(&tree).unwrap().unwrap());
                assert_same(&see_version(&seen), &see_version(&expected));
                assert_eq!(seen.is_stale(), left > 0);
                assert_eq!(seen.is_stale(), taken.has_more);
                assert_eq!(store.fsck(false, &mut |_, _| {}).unwrap().problems, []);
                // Old versions count by the settings that they have, whatever views show.
                let version = seen.at(&[entries[last - 1].id()], &cells).unwrap();
                assert_eq!(see_version(&version).voids, BTreeSet::new());
                if !taken.has_more {
                    break;
                }
            }
            assert_eq!(left, 0);
            let changes = store.tree(&tree).unwrap().unwrap().standing_changes_after(0, 100).unwrap();
            let voided: Vec<usize> =
                changes.iter().rev().flat_map(|change| &change.voided).map(|seq| seq.0 as usize).collect();
            assert_eq!(voided, bad);
            assert!(changes.iter().all(|change| change.restored.is_empty() && change.voided.len() <= step));
        }
    }
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
    assert_eq!(store.settle(&tree).unwrap(), 0);
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

/// Notes how large batches are that change a tree, and how many rows are put aside.
#[derive(Debug, Default)]
struct Largest {
    below: Memory,
    bytes: AtomicUsize,
    aside: AtomicUsize,
}

impl Backend for Largest {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.below.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        if batch.puts.iter().any(|(key, _)| *key == state_key(TREE)) {
            self.bytes.fetch_max(batch.bytes_len(), Ordering::SeqCst);
        }
        self.aside.fetch_add(batch.puts.iter().filter(|row| is_aside(row)).count(), Ordering::SeqCst);
        self.below.commit(batch)
    }
}

#[test]
fn more_than_fits_in_memory_is_taken_in_to_the_end() {
    let mut entries = removal(1500);
    entries.pop();
    let tree = entries[0].tree();
    // Writes of the same keys beside them, which come later and are older.
    for n in 0..40 {
        let parent = if n == 0 { 0 } else { entries.len() - 1 };
        entries.push(entry_by(4, &[&entries[parent]], &Act::Set("x", n % 5, 9000)));
    }
    // One that reaches everything.
    let removal = entry_by(2, &[&entries[0]], &Act::Revoke(3, true));
    let portion = Portion { entries: 400, bytes: 16 << 10 };
    let backend = Arc::new(Largest::default());
    let store = open_portioned(backend.clone(), PLAIN, portion);
    for batch in entries.chunks(40) {
        admit(&store, &batch.iter().collect::<Vec<_>>());
    }
    entries.push(removal);
    backend.bytes.store(0, Ordering::SeqCst);
    admit(&store, &[entries.last().unwrap()]);
    let snapshot = store.tree(&tree).unwrap().unwrap();
    assert!(!snapshot.is_stale());
    assert_eq!(snapshot.void_entries(), 750);
    // Rows of void entries, and what rows were, come besides.
    let largest = backend.bytes.load(Ordering::SeqCst);
    assert!(largest < 3 * portion.bytes, "{largest}");
    assert!(snapshot.standing_changes() > 5, "{}", snapshot.standing_changes());
    assert!(backend.aside.load(Ordering::SeqCst) > 1000);
    assert_nothing_aside(&*backend);
    assert_as_plain(&store, &entries);
}

/// Once, what was put aside is swept before it can be read.
#[derive(Debug, Default)]
struct SweptOnce {
    below: Memory,
    put: AtomicU32,
}

fn is_aside((key, _): &(Key, Value)) -> bool {
    key[0] == Space::View as u8 && key[1..5] != TREE.0.to_be_bytes()
}

impl Backend for SweptOnce {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        if self.put.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            let rows = self.below.snapshot()?.scan_many(&[Scan::range(Vec::new(), vec![0xff])])?.remove(0);
            let number = rows.iter().find(|row| is_aside(row)).unwrap().0[1..5].to_vec();
            let keys = rows.into_iter().map(|(key, _)| key);
            let deletes = keys.filter(|key| key.get(1..5) == Some(&number)).collect();
            self.below.commit(Batch { deletes, ..Batch::default() })?;
        }
        self.below.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        if batch.puts.iter().any(is_aside) {
            self.put.fetch_add(1, Ordering::SeqCst);
        }
        self.below.commit(batch)
    }
}

#[test]
fn what_was_put_aside_is_not_believed_when_it_was_swept_meanwhile() {
    let entries = removal(30);
    let backend = Arc::new(SweptOnce::default());
    let single = Portion { entries: 1, bytes: 1 };
    let store = open_portioned(backend.clone(), PAGED, single);
    admit(&store, &entries.iter().collect::<Vec<_>>());
    assert!(backend.put.load(Ordering::SeqCst) > 3);
    assert_as_fresh(&store, &entries);
    assert_nothing_aside(&*backend);
}

/// An early entry of which all later pages say where they are cut.
#[test]
fn what_a_single_entry_changes_and_does_not_fit_in_memory_is_not_tried_again_with_every_write() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let portion = Portion { bytes: 4096, ..Portion::default() };
    let store = open_portioned(backend.clone(), PAGED, portion);
    let mut entries = vec![root()];
    let tree = entries[0].tree();
    for n in 0..2500 {
        let parent = entries.last().unwrap();
        entries.push(entry_by(if n == 0 { 3 } else { 4 }, &[parent], &Act::Set("x", 0, n)));
    }
    for batch in entries.chunks(200) {
        admit(&store, &batch.iter().collect::<Vec<_>>());
    }
    let removal = entry_by(2, &[&entries[0]], &Act::Revoke(3, true));
    assert_eq!(codes(&admit(&store, &[&removal])), ["ok"]);
    let is_stale = || store.tree(&tree).unwrap().unwrap().is_stale();
    assert!(is_stale());
    assert!(matches!(store.settle(&tree), Err(StoreError::VersionTooLarge { .. })));
    let mut tip = removal;
    for n in 0..3 {
        tip = entry_by(4, &[entries.last().unwrap(), &tip], &Act::Set("y", 2, n));
        let before = backend.counts();
        assert_eq!(codes(&admit(&store, &[&tip])), ["ok"]);
        let spent = backend.counts() - before;
        assert!(spent.snapshots == 1 && spent.reads <= 4, "{spent:?}");
    }
    assert!(is_stale());
    drop(store);
    assert_eq!(open_portioned(backend, PAGED, portion).unsettled().unwrap(), [tree]);
}

/// Two branches from the root, which nobody joins: the past of a tip has no checkpoint as a whole.
#[test]
fn walks_that_are_kept_are_bounded_and_say_the_same_when_they_are_walked_again() {
    let store = open(Arc::new(Memory::new()), Arc::new(PLAIN));
    let mut entries = vec![root()];
    for n in 0..80 {
        let parent = entries.len().saturating_sub(2);
        entries.push(entry_by(4, &[&entries[parent]], &Act::Set("x", 0, n)));
    }
    admit(&store, &entries.iter().collect::<Vec<_>>());
    let snapshot = store.backend().snapshot().unwrap();
    let memory = store.memory(&entries[0].tree()).unwrap();
    let walked = Walked::new(Overlay::stored(&memory, &*snapshot));
    for (n, other) in (0..entries.len()).flat_map(|n| [60, 61, 80, 20, 30].map(|other| (n, other))) {
        let is_below = n == 0 || n <= other && n % 2 == other % 2;
        assert_eq!(
            walked.includes(&[entries[other].id()], &entries[n].id()).unwrap(),
            is_below,
            "{n} {other}"
        );
        let (walks, held) = walked.kept();
        assert!(held <= WALKED_MAX || walks == 1, "{walks} {held}");
    }
}

#[test]
fn the_past_of_a_fence_is_walked_once() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let store = open(backend.clone(), Arc::new(PLAIN));
    let entries = removal(12);
    let tree = entries[0].tree();
    admit_alone(&store, tree, entries.iter().map(offer).collect());
    let snapshot = backend.snapshot().unwrap();
    let memory = store.memory(&tree).unwrap();
    let settings = Overlay::stored(&memory, &*snapshot);
    let judge = Removals;
    let mut weigher = Weigher::new(&judge, tree, settings, [entries[13].id()].into());
    assert!(weigher.reached_from(&[entries[0].id()].into()).unwrap().is_some());
    assert_eq!(weigher.kept().0, 1);
    let keys: Vec<Key> = (1..13).map(|n| seq_key(Space::Edges, TREE, Seq(n))).collect();
    let edges = snapshot.get_many(&keys).unwrap();
    for (n, edge) in (1..).zip(edges) {
        weigher.stands(Seq(n), &Edge::decode(&edge.unwrap()).unwrap()).unwrap();
    }
    assert_eq!(weigher.kept().0, 1);
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
