//! Payloads that are dropped on purpose.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eid_core::dag::{Replica, Seq};
use eid_core::{Entry, EntryId};

use super::kit::*;
use crate::rows::{Space, seq_key};
use crate::{Batch, EntryStore, FsckReport, Memory, Offer, StoreError};

/// r <- s, r <- a, s a <- b (two sections), b <- c, r <- d: and the store that holds them.
fn filled_on(backend: Arc<Memory>) -> (Arc<EntryStore>, Vec<Entry>) {
    let store = open_on(backend);
    let root = root();
    let settings = settings_child(&[&root], &[grant(4, eid_core::Permission::Write)]);
    let a = child(&[&root], 1);
    let b = draft(&[&settings, &a], vec![section("a", &[2]), section("b", &[3])]).seal(&key(4)).unwrap();
    let c = child(&[&b], 4);
    let d = child(&[&root], 5);
    let entries = vec![root, settings, a, b, c, d];
    assert_eq!(codes(&admit(&store, &entries.iter().collect::<Vec<_>>())), ["ok"; 6]);
    (store, entries)
}

fn filled() -> (Arc<EntryStore>, Vec<Entry>) {
    filled_on(Arc::new(Memory::new()))
}

fn check(store: &EntryStore) -> FsckReport {
    let report = store.fsck(false, &mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    report
}

/// Not here, dropped on purpose, asked for.
fn counts(store: &EntryStore, entries: &[Entry]) -> (u64, u64, u64) {
    let snapshot = store.tree(&entries[0].tree()).unwrap().unwrap();
    (snapshot.missing_payloads(), snapshot.pruned_payloads(), snapshot.missing())
}

fn lacking(store: &EntryStore, entries: &[Entry], count: usize) -> Vec<(u64, usize)> {
    let snapshot = store.tree(&entries[0].tree()).unwrap().unwrap();
    let lacking = snapshot.lacking((Seq(0), 0), count).unwrap();
    lacking.into_iter().map(|(seq, section)| (seq.0, section)).collect()
}

/// A store that was given the same entries, and of these no payloads.
fn without(entries: &[Entry], absent: &[usize]) -> Arc<EntryStore> {
    let store = store();
    let offers = entries.iter().enumerate().map(|(at, entry)| {
        let none = vec![None; entry.payloads().len()];
        let payloads = if absent.contains(&at) { none } else { entry.payloads().to_vec() };
        Offer { block: entry.block().clone(), payloads }
    });
    admit_offers(&store, entries[0].tree(), offers.collect());
    store
}

#[test]
fn a_pruned_payload_has_no_effect_and_comes_back_only_when_it_is_wanted() {
    let backend = Arc::new(Memory::new());
    let (store, entries) = filled_on(backend.clone());
    let tree = entries[0].tree();
    let before = see(&store, tree).unwrap();
    assert_eq!(store.prune_payloads(&tree, &[entries[3].id(), entries[4].id()]).unwrap(), 3);
    let pruned = see(&store, tree).unwrap();
    assert_eq!(pruned, see(&without(&entries, &[3, 4]), tree).unwrap());
    assert!(pruned.rows != before.rows && pruned.bytes < before.bytes);
    assert_eq!(counts(&store, &entries), (3, 3, 0));
    assert_eq!(lacking(&store, &entries, 10), []);
    let report = check(&store);
    assert_eq!((report.absent_payloads, report.pruned_payloads), (0, 3));
    // Whoever sends it sends it for nothing.
    assert_eq!(codes(&admit(&store, &[&entries[3], &entries[4]])), ["dup"; 2]);
    assert_eq!(see(&store, tree).unwrap(), pruned);
    // It was told on disk.
    drop(store);
    let store = open_on(backend);
    assert_eq!((counts(&store, &entries), see(&store, tree).unwrap()), ((3, 3, 0), pruned));
    assert_eq!(store.prune_payloads(&tree, &[entries[3].id()]).unwrap(), 0);
    // Wanted again, one after the other.
    assert_eq!(store.want_payloads(&tree, &[entries[4].id()]).unwrap(), 1);
    assert_eq!((counts(&store, &entries), lacking(&store, &entries, 1)), ((3, 2, 1), vec![(4, 0)]));
    assert_eq!(codes(&admit(&store, &[&entries[3], &entries[4]])), ["dup"; 2]);
    assert_eq!(counts(&store, &entries), (2, 2, 0));
    check(&store);
    let all: Vec<EntryId> = entries.iter().map(Entry::id).collect();
    assert_eq!(store.want_payloads(&tree, &all).unwrap(), 2);
    assert_eq!(lacking(&store, &entries, 1), [(3, 0)]);
    assert_eq!(codes(&admit(&store, &[&entries[3]])), ["dup"]);
    assert_eq!(counts(&store, &entries), (0, 0, 0));
    assert_eq!(see(&store, tree).unwrap(), before);
    assert_eq!(check(&store).pruned_payloads, 0);
}

#[test]
fn payloads_of_settings_and_entries_that_are_not_held_are_left_alone() {
    let (store, entries) = filled();
    let tree = entries[0].tree();
    let (before, life) = (see(&store, tree).unwrap(), store.epoch_of(&tree));
    let ids = [entries[0].id(), entries[1].id(), EntryId([9; 32])];
    assert_eq!(store.prune_payloads(&tree, &ids).unwrap(), 0);
    assert_eq!((see(&store, tree).unwrap(), store.epoch_of(&tree)), (before, life));
    assert!(
        store.tree(&tree).unwrap().unwrap().entry(&entries[1].id()).unwrap().unwrap().payloads()[0].is_some()
    );
    let nobodys = eid_core::TreeId([9; 32]);
    assert!(matches!(store.prune_payloads(&nobodys, &ids), Err(StoreError::UnknownTree)));
    assert!(matches!(store.want_payloads(&nobodys, &ids), Err(StoreError::UnknownTree)));
}

#[test]
fn an_absent_payload_can_be_given_up_and_what_is_asked_for_lies_among_what_is_not() {
    let (_, entries) = filled();
    let tree = entries[0].tree();
    let store = without(&entries, &[2, 3, 4, 5]);
    assert_eq!((counts(&store, &entries), lacking(&store, &entries, 2)), ((5, 0, 5), vec![(2, 0), (3, 0)]));
    assert_eq!(store.prune_payloads(&tree, &[entries[2].id(), entries[3].id()]).unwrap(), 3);
    assert_eq!(counts(&store, &entries), (5, 3, 2));
    // More rows are passed over than are read at once.
    assert_eq!(lacking(&store, &entries, 1), [(4, 0)]);
    assert_eq!(lacking(&store, &entries, 9), [(4, 0), (5, 0)]);
    let report = check(&store);
    assert_eq!((report.absent_payloads, report.pruned_payloads), (2, 3));
}

#[test]
fn a_repair_keeps_in_mind_what_was_dropped_on_purpose_at_other_positions_too() {
    let (store, entries) = filled();
    let tree = entries[0].tree();
    store.prune_payloads(&tree, &[entries[5].id()]).unwrap();
    let number = crate::entry_store::read_trees(&*store.backend().snapshot().unwrap()).unwrap()[0].1;
    let key = seq_key(Space::Log, number, Seq(2));
    let row = Bytes::from_static(&[1, 2, 3]);
    store.backend().commit(Batch { puts: vec![(key, row)], ..Batch::default() }).unwrap();
    // What is damaged is not dropped with it.
    let error = store.prune_payloads(&tree, &[entries[4].id()]).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(counts(&store, &entries), (1, 1, 0));
    let report = store.fsck(true, &mut |_, _| {}).unwrap();
    assert_eq!((report.lost_entries, report.pruned_payloads), (3, 1));
    assert_eq!((store.tree(&tree).unwrap().unwrap().count(), counts(&store, &entries)), (3, (1, 1, 0)));
    assert_eq!(
        codes(&admit(&store, &entries.iter().collect::<Vec<_>>())),
        ["dup", "dup", "ok", "ok", "ok", "dup"]
    );
    assert_eq!(counts(&store, &entries), (1, 1, 0));
    store.want_payloads(&tree, &[entries[5].id()]).unwrap();
    assert_eq!(lacking(&store, &entries, 9), [(2, 0)]);
    admit(&store, &[&entries[5]]);
    assert_eq!(counts(&store, &entries), (0, 0, 0));
    check(&store);
}

#[test]
fn a_damaged_mark_of_a_pruned_payload_is_found() {
    let (store, entries) = filled();
    let tree = entries[0].tree();
    store.prune_payloads(&tree, &[entries[5].id()]).unwrap();
    let number = crate::entry_store::read_trees(&*store.backend().snapshot().unwrap()).unwrap()[0].1;
    let key = crate::rows::missing_key(number, Seq(5), 0);
    store.backend().commit(Batch { puts: vec![(key, Bytes::new())], ..Batch::default() }).unwrap();
    let report = store.fsck(false, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems.iter().map(|problem| problem.name).collect::<Vec<_>>(), ["counts"]);
}

#[test]
fn who_watches_is_told_that_payloads_were_dropped() {
    let (store, entries) = filled();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let _watch =
        store.on_admitted(Arc::new(move |admitted| seen.lock().unwrap().push(admitted.seqs.clone())));
    store.prune_payloads(&entries[0].tree(), &[entries[5].id()]).unwrap();
    assert_eq!(*told.lock().unwrap(), [Seq(6)..Seq(6)]);
}
