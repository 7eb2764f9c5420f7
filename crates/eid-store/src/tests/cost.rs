//! What an admission asks of its backend.

use std::sync::Arc;

use eid_core::{Entry, Permission};

use super::kit::*;
use crate::limits::CHECKPOINT_ENTRIES;
use crate::{Counting, Counts, EntryStore, Memory};

fn counted() -> (Arc<EntryStore>, Arc<Counting<Memory>>) {
    let backend = Arc::new(Counting::new(Memory::new()));
    (open_on(backend.clone()), backend)
}

/// Every batch but the first of a tree: one snapshot, ids, view rows, one commit.
fn assert_constant(spent: Counts, reads: u64) {
    assert_eq!((spent.snapshots, spent.reads, spent.commits), (1, reads, 1), "{spent:?}");
}

#[test]
fn admitting_costs_the_same_number_of_calls_whatever_the_size_of_the_batch() {
    let (store, backend) = counted();
    let root = root();
    let settings = settings_child(&[&root], &[grant(4, Permission::Write)]);
    admit(&store, &[&root, &settings]);
    let mut tip = child(&[&settings], 1);
    admit(&store, &[&tip]);
    // The first checkpoint that a process passes reads the sketch, once.
    for n in 0..CHECKPOINT_ENTRIES {
        tip = child(&[&tip], n + 2000);
        admit(&store, &[&tip]);
    }
    for size in [1usize, 2, 10, 300, 1000] {
        let mut chain: Vec<Entry> = Vec::new();
        for n in 0..size {
            let next = child(&[chain.last().unwrap_or(&tip)], n as u64 + 10);
            chain.push(next);
        }
        let before = backend.counts();
        let verdicts = admit(&store, &chain.iter().collect::<Vec<_>>());
        assert_eq!(codes(&verdicts), vec!["ok"; size]);
        let spent = backend.counts() - before;
        assert_constant(spent, 2);
        // Log, id and edges; a view row for the operation; state, store and count once. With each checkpoint its
        // tips, and what the store and the count were before; with the last of them the sketch.
        let least = 4 * size as u64 + 3;
        let most = least + 3 * (1 + size as u64 / CHECKPOINT_ENTRIES) + 1;
        assert!((least..=most).contains(&spent.rows_written), "{spent:?}");
        tip = chain.pop().unwrap();
    }
}

#[test]
fn the_first_batch_of_a_process_reads_settings_once() {
    let (first, backend) = counted();
    let root = root();
    let mut entries = vec![root.clone()];
    for n in 10..60 {
        let next = settings_child(&[entries.last().unwrap()], &[grant(n, Permission::Write)]);
        entries.push(next);
    }
    entries.push(child(&[entries.last().unwrap()], 1));
    admit(&first, &entries.iter().collect::<Vec<_>>());
    drop(first);
    let store = open_on(backend.clone());
    let before = backend.counts();
    let next = child(&[entries.last().unwrap()], 2);
    assert_eq!(codes(&admit(&store, &[&next])), ["ok"]);
    assert_constant(backend.counts() - before, 3);
    let before = backend.counts();
    store.commit(write(root.tree(), &[3])).unwrap();
    assert_constant(backend.counts() - before, 2);
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let (store, backend) = counted();
    let root = root();
    let entry = child(&[&root], 1);
    admit(&store, &[&root, &entry]);
    let before = backend.counts();
    admit(&store, &[&root, &entry]);
    assert_eq!((backend.counts() - before).commits, 0);
}

#[test]
fn opening_reads_no_history() {
    let (store, backend) = counted();
    let root = root();
    admit(&store, &[&root]);
    for n in 0..200 {
        store.commit(write(root.tree(), &[n + 10])).unwrap();
    }
    drop(store);
    let before = backend.counts();
    open_on(backend.clone());
    let spent = backend.counts() - before;
    // The store, its trees, and the state of each.
    assert!(spent.rows_read <= 4 && spent.commits == 0, "{spent:?}");
}
