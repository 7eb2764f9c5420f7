//! The whole store over a disk that forgets.

use std::collections::BTreeSet;
use std::sync::Arc;

use eid_core::dag::Seq;
use eid_core::{Entry, EntryId};

use super::kit::*;
use crate::{
    BackendError, CrashDisk, Durability, Embedded, EmbeddedConfig, EntryStore, Faulty, LocalCommit, Memory,
    Odds, StoreError, Verdict,
};

fn open(disk: &CrashDisk) -> Result<Arc<EntryStore>, StoreError> {
    let config = EmbeddedConfig { cache_bytes: 1 << 20, log_bytes: 48 << 10 };
    let backend = Embedded::open_on(Arc::new(disk.clone()), config)?;
    EntryStore::open(Arc::new(backend), Arc::new(Simple::default()), Arc::new(Stamps), [5; 32])
}

fn is_stop(error: &StoreError) -> bool {
    matches!(error, StoreError::Backend(_) | StoreError::Read(_))
}

#[test]
fn a_relaxed_commit_that_was_flushed_is_there_after_a_crash() {
    let root = root();
    let tree = root.tree();
    for seed in 0..8 {
        let disk = CrashDisk::new();
        let store = open(&disk).unwrap();
        store.admit(store.prepare(tree, vec![offer(&root)]).unwrap()).unwrap();
        let relaxed = LocalCommit { durability: Durability::Relaxed, ..write(tree, &[1]) };
        let done = store.commit(relaxed).unwrap();
        store.flush().unwrap();
        disk.stop_after(0);
        drop(store);
        disk.restart(seed);
        let store = open(&disk).unwrap();
        assert!(store.tree(&tree).unwrap().unwrap().entry(&done.id).unwrap().is_some(), "seed {seed}");
    }
}

#[test]
fn whatever_the_disk_forgets_acknowledged_entries_are_there_and_everything_fits_together() {
    let root = root();
    let tree = root.tree();
    for seed in 0..60u64 {
        let mut dice = crate::embedded::Dice(seed);
        let disk = CrashDisk::new();
        let mut sure: BTreeSet<EntryId> = BTreeSet::new();
        let mut foreign: Vec<Entry> = vec![root.clone()];
        for _ in 0..3 {
            if dice.roll(4) > 0 {
                disk.stop_after(5 + dice.roll(150));
            }
            let worked = (|| -> Result<(), StoreError> {
                let store = open(&disk)?;
                for _ in 0..dice.roll(40) {
                    if dice.roll(3) == 0 || store.tree(&tree)?.is_none() {
                        let parent = foreign[dice.roll(foreign.len() as u64) as usize].clone();
                        let next = child(&[&parent], 10 + dice.roll(1000));
                        foreign.push(next);
                        let offers: Vec<_> = foreign.iter().map(offer).collect();
                        let admission = store.admit(store.prepare(tree, offers)?)?;
                        for (entry, verdict) in foreign.iter().zip(admission.verdicts) {
                            assert!(!matches!(verdict, Verdict::Refused(_)), "seed {seed}: {verdict:?}");
                            sure.insert(entry.id());
                        }
                    } else {
                        let durability =
                            if dice.roll(4) == 0 { Durability::Relaxed } else { Durability::Durable };
                        let ops = [10 + dice.roll(1000)];
                        let done = store.commit(LocalCommit { durability, ..write(tree, &ops) })?;
                        if durability == Durability::Durable {
                            sure.insert(done.id);
                        }
                    }
                }
                Ok(())
            })();
            assert!(worked.is_ok() || disk.is_stopped(), "seed {seed}: {worked:?}");
            assert!(worked.as_ref().err().is_none_or(is_stop), "seed {seed}: {worked:?}");
            disk.restart(dice.roll(u64::MAX));
            let store = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            let held = match see(&store, tree) {
                Ok(seen) => seen.ids,
                Err(StoreError::UnknownTree) => BTreeSet::new(),
                Err(error) => panic!("seed {seed}: {error:?}"),
            };
            let lost: Vec<&EntryId> = sure.difference(&held).collect();
            assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
            let report = store.fsck(false, &mut |_, _| {}).unwrap();
            assert!(report.is_clean(), "seed {seed}: {:?}", report.problems);
            if let Some(snapshot) = store.tree(&tree).unwrap() {
                let seq = Seq(dice.roll(snapshot.count()));
                let version = snapshot.at(&[snapshot.id_at(seq).unwrap()], &Stamps).unwrap();
                let rows = version.view(&eid_core::StoreName::new("a").unwrap(), KIND);
                let ops = rows.scan(b"op/", Some(b"op0"), crate::Direction::Forward, usize::MAX).unwrap();
                // All but the root write one operation each.
                assert_eq!(ops.len() as u64, version.count() - 1, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_store_is_the_same_after_it_was_closed_and_opened() {
    let dir = tempfile::tempdir().unwrap();
    let root = root();
    let tree = root.tree();
    let open = || open_on(Arc::new(Embedded::open(dir.path(), EmbeddedConfig::default()).unwrap()));
    let store = open();
    admit(&store, &[&root]);
    for n in 0..30 {
        store.commit(write(tree, &[n + 10])).unwrap();
    }
    let (seen, epoch) = (see(&store, tree).unwrap(), store.epoch());
    store.local().namespace("x").put(b"k", &b"v"[..]).unwrap();
    store.close().unwrap();
    assert!(matches!(store.commit(write(tree, &[1])), Err(StoreError::Backend(BackendError::Closed))));
    drop(store);
    let store = open();
    assert_eq!(see(&store, tree).unwrap(), seen);
    assert_eq!(store.epoch(), epoch);
    assert_eq!(store.local().namespace("x").get(b"k").unwrap().unwrap(), &b"v"[..]);
}

#[test]
fn a_backend_that_fails_now_and_then_loses_nothing_and_blocks_nobody() {
    for seed in 0..30 {
        let odds = Odds { snapshot: 9, before_commit: 7, after_commit: 7, full: 9, conflict: 5 };
        let backend = Arc::new(Faulty::new(Memory::new(), seed, Odds::default()));
        let store = open_on(backend.clone());
        let root = root();
        let tree = root.tree();
        admit(&store, &[&root]);
        backend.set_odds(odds);
        let acknowledged = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4u64)
                .map(|writer| {
                    let store = &store;
                    scope.spawn(move || {
                        let ops = (0..15).map(|n| store.commit(write(tree, &[writer * 100 + n + 10])));
                        ops.filter_map(Result::ok).map(|done| done.id).collect::<Vec<_>>()
                    })
                })
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<BTreeSet<_>>()
        });
        backend.set_odds(Odds::default());
        let seen = see(&store, tree).unwrap();
        assert!(acknowledged.is_subset(&seen.ids), "seed {seed}");
        assert_eq!(seen.tips.len(), 1, "seed {seed}");
        assert!(store.fsck(false, &mut |_, _| {}).unwrap().is_clean(), "seed {seed}");
    }
}

#[test]
fn a_watcher_that_panics_ends_its_commit_and_no_other() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let watch = store.on_admitted(Arc::new(|admitted| assert_ne!(admitted.seqs.start, Seq(1))));
    let panicked = std::thread::scope(|scope| scope.spawn(|| store.commit(write(tree, &[1]))).join());
    assert!(panicked.is_err());
    drop(watch);
    store.commit(write(tree, &[2])).unwrap();
    assert!(store.fsck(false, &mut |_, _| {}).unwrap().is_clean());
}
