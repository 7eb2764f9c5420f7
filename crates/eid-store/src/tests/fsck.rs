//! What a check finds, and what a repair leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::dag::{Replica, Seq};
use eid_core::{Entry, EntryId, Permission, StoreName};

use super::kit::*;
use crate::rows::{
    Edge, Facts, Space, StoreRow, TreeNo, TreeState, frontier_key, id_key, missing_key, seq_key,
    settings_key, state_key, store_key, tree_range, view_key,
};
use crate::{Batch, EntryStore, FsckReport, Key, Lost, Memory};

/// The first tree of a store.
const TREE: TreeNo = TreeNo(1);

/// r <- s (grants 4), r <- a, s a <- b, b <- c: and the store that holds them.
fn filled() -> (Arc<EntryStore>, Vec<Entry>) {
    filled_on(Arc::new(Memory::new()))
}

fn filled_on(backend: Arc<Memory>) -> (Arc<EntryStore>, Vec<Entry>) {
    let store = open_on(backend);
    let root = root();
    let settings = settings_child(&[&root], &[grant(4, Permission::Write)]);
    let a = child(&[&root], 1);
    let b = draft(&[&settings, &a], vec![section("a", &[2, 9]), section("b", &[3])]).seal(&key(4)).unwrap();
    let c = child(&[&b], 4);
    let entries = vec![root, settings, a, b, c];
    assert_eq!(codes(&admit(&store, &entries.iter().collect::<Vec<_>>())), ["ok"; 5]);
    (store, entries)
}

fn check(store: &EntryStore) -> FsckReport {
    store.fsck(false, &mut |_, _| {}).unwrap()
}

fn names(report: &FsckReport) -> Vec<(&'static str, Option<u64>)> {
    report.problems.iter().map(|problem| (problem.name, problem.seq.map(|seq| seq.0))).collect()
}

fn get(store: &EntryStore, key: &Key) -> Bytes {
    store.backend().snapshot().unwrap().get_many(std::slice::from_ref(key)).unwrap().remove(0).unwrap()
}

fn put(store: &EntryStore, key: Key, value: Bytes) {
    store.backend().commit(Batch { puts: vec![(key, value)], ..Batch::default() }).unwrap();
}

fn delete(store: &EntryStore, key: Key) {
    store.backend().commit(Batch { deletes: vec![key], ..Batch::default() }).unwrap();
}

#[test]
fn a_sound_store_is_clean_and_progress_ends_at_the_total() {
    let (store, entries) = filled();
    let mut last = (0, 0);
    let report = store.fsck(false, &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(names(&report), []);
    assert_eq!((report.trees, report.entries), (1, 5));
    assert_eq!(last, (5, 5));
    assert_eq!(report.bytes, entries.iter().map(|entry| entry.bytes_len() as u64).sum::<u64>());
    // So is one that was filled commit by commit, with a payload that came late.
    let (store, root) = store_with_root();
    let bare = child(&[&root], 8);
    admit_offers(
        &store,
        root.tree(),
        vec![crate::Offer { block: bare.block().clone(), payloads: vec![None] }],
    );
    assert_eq!(names(&check(&store)), []);
    store.commit(write(root.tree(), &[5])).unwrap();
    admit(&store, &[&bare]);
    assert_eq!(names(&check(&store)), []);
}

#[test]
fn rows_of_late_payloads_are_checked_too() {
    let filled_late = || {
        let (store, root) = store_with_root();
        let (a, b) = (child(&[&root], 1), child(&[&root], 2));
        let bare = |entry: &Entry| crate::Offer { block: entry.block().clone(), payloads: vec![None] };
        admit_offers(&store, root.tree(), vec![bare(&a), bare(&b)]);
        admit(&store, &[&b]);
        admit(&store, &[&a]);
        assert_eq!(names(&check(&store)), []);
        let range = tree_range(Space::Late, TREE);
        let scan = crate::Scan::range(range.0, range.1);
        let rows = store.backend().snapshot().unwrap().scan_many(&[scan]).unwrap().remove(0);
        assert_eq!(rows.len(), 2);
        (store, rows)
    };
    for change in 0..3 {
        let (store, rows) = filled_late();
        match change {
            0 => delete(&store, rows[1].0.clone()),
            1 => put(&store, rows[0].0.clone(), rows[1].1.clone()),
            _ => put(&store, rows[0].0.clone(), Bytes::from_static(&[0x80])),
        }
        assert!(names(&check(&store)).contains(&("late_row", None)), "{change}: {:?}", names(&check(&store)));
        assert!(store.fsck(true, &mut |_, _| {}).unwrap().is_clean());
        assert_eq!(names(&check(&store)), []);
    }
}

type Damage = fn(&EntryStore, &[Entry]);

/// How a row is damaged, and what a check calls it.
const DAMAGES: [(&str, Option<u64>, Damage); 17] = [
    ("id_row", Some(2), |store, entries| delete(store, id_key(TREE, &entries[2].id()))),
    ("id_row", Some(2), |store, entries| {
        let key = id_key(TREE, &entries[2].id());
        let facts = Facts::decode(&get(store, &key)).unwrap();
        put(store, key, Facts { height: height(9), ..facts }.encode());
    }),
    ("id_row", Some(77), |store, _| {
        let facts = Facts { seq: Seq(77), height: height(1), time: eid_core::Time(1), frontier: 0 };
        put(store, id_key(TREE, &EntryId([3; 32])), facts.encode());
    }),
    ("edges_row", Some(3), |store, _| {
        let key = seq_key(Space::Edges, TREE, Seq(3));
        let edge = Edge::decode(&get(store, &key)).unwrap();
        put(store, key, Edge { parents: vec![Seq(0)], ..edge }.encode());
    }),
    ("edges_row", Some(4), |store, _| {
        let key = seq_key(Space::Edges, TREE, Seq(4));
        let edge = Edge::decode(&get(store, &key)).unwrap();
        put(store, key, Edge { frontier: 0, ..edge }.encode());
    }),
    ("edges_row", Some(1), |store, _| delete(store, seq_key(Space::Edges, TREE, Seq(1)))),
    ("tips", None, |store, _| {
        let mut state = TreeState::decode(&get(store, &state_key(TREE))).unwrap();
        state.tips.pop_first();
        put(store, state_key(TREE), state.encode());
    }),
    ("counts", None, |store, _| {
        let mut state = TreeState::decode(&get(store, &state_key(TREE))).unwrap();
        state.bytes += 1;
        put(store, state_key(TREE), state.encode());
    }),
    ("state_row", None, |store, _| delete(store, state_key(TREE))),
    ("settings_row", None, |store, entries| delete(store, settings_key(TREE, &entries[1].id()))),
    ("id_row", None, |store, _| delete(store, frontier_key(TREE, 1))),
    ("missing_row", Some(4), |store, _| put(store, missing_key(TREE, Seq(4), 0), Bytes::new())),
    ("store_row", None, |store, _| {
        let key = store_key(TREE, &StoreName::new("a").unwrap(), KIND);
        let row = StoreRow::decode(&get(store, &key)).unwrap();
        put(store, key, StoreRow { undecodable: 0, ..row }.encode());
    }),
    ("store_row", None, |store, _| delete(store, store_key(TREE, &StoreName::new("b").unwrap(), KIND))),
    ("view_row", None, |store, _| delete(store, view_key(TREE, 0, b"count"))),
    ("view_row", None, |store, _| put(store, view_key(TREE, 1, b"count"), Bytes::from_static(b"x"))),
    ("view_row", None, |store, _| put(store, view_key(TREE, 0, b"op/x"), Bytes::from_static(b"x"))),
];

#[test]
fn every_kind_of_damage_to_what_is_derived_is_named_and_mended() {
    let (reference, entries) = filled();
    let expected = see(&reference, entries[0].tree()).unwrap();
    for (case, (name, seq, damage)) in DAMAGES.into_iter().enumerate() {
        let (store, entries) = filled();
        let tree = entries[0].tree();
        let epoch = store.epoch();
        damage(&store, &entries);
        let report = check(&store);
        assert!(
            names(&report).iter().any(|found| found.0 == name && (seq.is_none() || found.1 == seq)),
            "case {case}: {:?}",
            report.problems
        );
        assert!(!report.is_clean());
        let repaired = store.fsck(true, &mut |_, _| {}).unwrap();
        assert!(repaired.is_clean() && repaired.repaired == report.found, "case {case}");
        assert_eq!(names(&check(&store)), [], "case {case}");
        assert_eq!(see(&store, tree).unwrap(), expected, "case {case}");
        // No entry has moved.
        assert_eq!(store.epoch(), epoch);
        // And it goes on from there.
        store.commit(write(tree, &[50])).unwrap();
        assert_eq!(names(&check(&store)), [], "case {case}");
    }
}

/// Flips a bit of a row of the log.
fn flip(store: &EntryStore, seq: u64, byte: usize) {
    let key = seq_key(Space::Log, TREE, Seq(seq));
    let mut row = get(store, &key).to_vec();
    let at = byte % row.len();
    row[at] ^= 4;
    put(store, key, row.into());
}

/// Where in its row the payload of a section begins.
fn payload_at(store: &EntryStore, entry: &Entry, seq: u64, section: usize) -> usize {
    let row = get(store, &seq_key(Space::Log, TREE, Seq(seq)));
    let payload = entry.payloads()[section].as_ref().unwrap();
    row.windows(payload.len()).rposition(|part| part == payload).unwrap()
}

fn losses(report: &FsckReport) -> Vec<(Lost, EntryId)> {
    report.problems.iter().filter_map(|problem| Some((problem.lost?, problem.entry.unwrap()))).collect()
}

#[test]
fn a_flipped_bit_in_the_log_is_named_and_what_it_costs_comes_again() {
    for seq in 0..5u64 {
        for byte in 0..400usize {
            let (store, entries) = filled();
            let tree = entries[0].tree();
            let (before, epoch) = (see(&store, tree).unwrap(), store.epoch_of(&tree));
            flip(&store, seq, byte);
            let report = check(&store);
            assert!(
                report.problems.iter().any(|problem| problem.seq == Some(Seq(seq))),
                "seq {seq}, byte {byte}: {:?}",
                report.problems
            );
            let repaired = store.fsck(true, &mut |_, _| {}).unwrap();
            assert_eq!(losses(&repaired), losses(&report));
            assert_eq!(repaired.is_clean(), !repaired.has_losses());
            assert_eq!(
                (repaired.lost_entries, repaired.lost_payloads),
                (report.lost_entries, report.lost_payloads)
            );
            assert_eq!(names(&check(&store)), []);
            // Exactly those entries are gone that are said to be.
            let lost = losses(&report).into_iter();
            let lost: BTreeSet<EntryId> =
                lost.filter(|lost| lost.0 == Lost::Entry).map(|lost| lost.1).collect();
            let left = see(&store, tree).unwrap();
            assert_eq!(&before.ids - &left.ids, lost, "seq {seq}, byte {byte}");
            assert_eq!(store.tree(&tree).unwrap().unwrap().missing_payloads(), report.lost_payloads);
            // Positions have changed, so cursors of before must not be taken for ones of now.
            assert!(lost.is_empty() || store.epoch_of(&tree) != epoch);
            let all: Vec<&Entry> = entries.iter().collect();
            assert!(!codes(&admit(&store, &all)).contains(&"missing_parents"));
            assert_eq!(see(&store, tree).unwrap(), before);
        }
    }
}

#[test]
fn a_damaged_payload_costs_that_payload_alone() {
    let (store, entries) = filled();
    let tree = entries[0].tree();
    let before = see(&store, tree).unwrap();
    let at = payload_at(&store, &entries[3], 3, 1);
    flip(&store, 3, at + 2);
    let repaired = store.fsck(true, &mut |_, _| {}).unwrap();
    assert_eq!(names(&repaired), [("payload", Some(3))]);
    assert_eq!(losses(&repaired), [(Lost::Payload, entries[3].id())]);
    assert_eq!((repaired.lost_entries, repaired.lost_payloads, repaired.repaired), (0, 1, 0));
    let snapshot = store.tree(&tree).unwrap().unwrap();
    assert_eq!(see(&store, tree).unwrap().ids, before.ids);
    let kept = snapshot.entry(&entries[3].id()).unwrap().unwrap();
    assert_eq!((kept.payloads()[0].is_some(), kept.payloads()[1].is_some()), (true, false));
    assert_eq!(snapshot.missing_payloads(), 1);
    // It goes on from there, and the payload alone completes it.
    store.commit(write(tree, &[50])).unwrap();
    assert_eq!(codes(&admit(&store, &[&entries[3]])), ["dup"]);
    assert_eq!(store.tree(&tree).unwrap().unwrap().missing_payloads(), 0);
    assert_eq!(names(&check(&store)), []);
}

#[test]
fn settings_are_kept_twice_and_either_copy_will_do() {
    for seq in [0, 1u64] {
        let (store, entries) = filled();
        let tree = entries[0].tree();
        let before = see(&store, tree).unwrap();
        delete(&store, seq_key(Space::Log, TREE, Seq(seq)));
        let repaired = store.fsck(true, &mut |_, _| {}).unwrap();
        assert!(repaired.is_clean() && !repaired.has_losses(), "{:?}", repaired.problems);
        assert_eq!(names(&repaired), [("log_row", Some(seq))]);
        assert_eq!(see(&store, tree).unwrap(), before);
        assert_eq!(names(&check(&store)), []);
        // With neither, the entry is lost with what descends from it.
        let number = crate::entry_store::read_trees(&*store.backend().snapshot().unwrap()).unwrap()[0].1;
        delete(&store, seq_key(Space::Log, number, Seq(seq)));
        delete(&store, settings_key(number, &entries[seq as usize].id()));
        let report = check(&store);
        let lost: Vec<EntryId> = losses(&report).into_iter().map(|lost| lost.1).collect();
        let gone: Vec<EntryId> = [0, 1, 2, 3, 4]
            .into_iter()
            .filter(|n| seq == 0 || *n != 2)
            .filter(|n| *n >= seq)
            .map(|n| entries[n as usize].id())
            .collect();
        assert_eq!(lost, gone);
    }
}

#[test]
fn a_hole_in_the_log_is_named_with_what_is_lost_in_it() {
    for seq in [3, 4u64] {
        let (store, entries) = filled();
        delete(&store, seq_key(Space::Log, TREE, Seq(seq)));
        let report = check(&store);
        let mut expected = vec![("log_row", Some(seq))];
        expected.extend((seq == 3).then_some(("missing_parents", Some(4))));
        assert_eq!(names(&report), expected);
        let lost: Vec<EntryId> = entries[seq as usize..].iter().map(Entry::id).collect();
        assert_eq!(losses(&report).into_iter().map(|lost| lost.1).collect::<Vec<_>>(), lost);
        assert!(!store.fsck(true, &mut |_, _| {}).unwrap().is_clean());
        assert_eq!(names(&check(&store)), []);
    }
}

#[test]
fn a_tree_without_its_root_is_gone_after_a_repair_and_can_come_again() {
    let (store, entries) = filled();
    delete(&store, seq_key(Space::Log, TREE, Seq(0)));
    delete(&store, settings_key(TREE, &entries[0].id()));
    assert_eq!(store.fsck(true, &mut |_, _| {}).unwrap().lost_entries, 5);
    assert!(store.tree(&entries[0].tree()).unwrap().is_none());
    assert_eq!(codes(&admit(&store, &entries.iter().collect::<Vec<_>>())), ["ok"; 5]);
    let tips = store.tree(&entries[0].tree()).unwrap().unwrap().tips().unwrap();
    assert_eq!(tips, [(entries[4].id(), Seq(4))]);
}

#[test]
fn a_store_of_an_older_format_is_worked_out_again_from_its_log() {
    let backend = Arc::new(Memory::new());
    let (filled, entries) = filled_on(backend.clone());
    let tree = entries[0].tree();
    let seen = see(&filled, tree).unwrap();
    let snapshot = filled.backend().snapshot().unwrap();
    let rows = snapshot.scan_many(&[crate::Scan::range(vec![0], vec![0xff])]).unwrap().remove(0);
    let derived = rows.into_iter().map(|(key, _)| key).filter(|key| key[0] > 0x11);
    let meta = crate::entry_store::read_meta(&*snapshot).unwrap().unwrap();
    let older = crate::rows::Meta { format: 1, ..meta };
    let (puts, deletes) = (vec![(crate::rows::meta_key(), older.encode())], derived.collect());
    filled.backend().commit(Batch { puts, deletes, ..Batch::default() }).unwrap();
    drop(filled);
    for _ in 0..2 {
        let store = open_on(backend.clone());
        assert_eq!(see(&store, tree).unwrap(), seen);
        assert_eq!(names(&check(&store)), []);
        let now = crate::entry_store::read_meta(&*store.backend().snapshot().unwrap()).unwrap().unwrap();
        assert_eq!(
            (now.format, now.epoch, now.next_tree),
            (crate::rows::FORMAT, meta.epoch, meta.next_tree + 1)
        );
    }
}
