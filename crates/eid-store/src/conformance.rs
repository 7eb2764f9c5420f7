//! What every backend must do, whatever it keeps its rows in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use crate::backend::{Backend, BackendError, Batch, Direction, Key, Scan, Snapshot, Value};
use crate::embedded::Dice;

/// Makes a test of each conformance function for the backend that an expression gives.
///
/// ```
/// eid_store::backend_conformance!(memory, || eid_store::Memory::new());
/// ```
#[macro_export]
macro_rules! backend_conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            $crate::backend_conformance!(@ $make,
                rows_are_read_as_they_were_written
                scans_keep_order_direction_and_limits
                a_snapshot_never_changes
                guards_that_do_not_hold_change_nothing
                a_batch_is_seen_as_a_whole
                random_batches_agree_with_a_map
            );
        }
    };
    (@ $make:expr, $($test:ident)*) => {
        $(#[test]
        fn $test() {
            $crate::conformance::$test(&$make());
        })*
    };
}

fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> (Key, Value) {
    (key.as_ref().to_vec(), Bytes::copy_from_slice(value.as_ref()))
}

fn commit(backend: &dyn Backend, puts: Vec<(Key, Value)>, deletes: Vec<Key>) {
    backend.commit(Batch { puts, deletes, ..Batch::default() }).expect("a batch without guards is taken");
}

fn snapshot(backend: &dyn Backend) -> Arc<dyn Snapshot> {
    backend.snapshot().expect("a snapshot can be taken")
}

fn all(snapshot: &dyn Snapshot) -> Vec<(Key, Value)> {
    let everything = Scan::range(vec![0], vec![0xff; 4]);
    snapshot.scan_many(&[everything]).expect("everything can be read").remove(0)
}

/// Gets by key, absent ones included, in the order of the question.
pub fn rows_are_read_as_they_were_written(backend: &dyn Backend) {
    assert_eq!(all(&*snapshot(backend)), []);
    commit(
        backend,
        vec![put("b", "2"), put("a", "1"), put([1, 0, 255], ""), put("big", vec![7; 300_000])],
        vec![],
    );
    let keys = ["big", "a", "nothing", "b"].map(|key| key.as_bytes().to_vec());
    let found = snapshot(backend).get_many(&keys).expect("keys can be read");
    assert_eq!(found[0].as_ref().map(Bytes::len), Some(300_000));
    assert_eq!(found[1..], [Some("1".into()), None, Some("2".into())]);
    commit(backend, vec![put("a", "3")], vec![b"b".to_vec(), b"absent".to_vec()]);
    let found = snapshot(backend).get_many(&keys).expect("keys can be read");
    assert_eq!(found[1..], [Some("3".into()), None, None]);
    commit(backend, vec![], vec![]);
}

/// Ranges are half open and in order, from either end, and stop at their limits.
pub fn scans_keep_order_direction_and_limits(backend: &dyn Backend) {
    let rows: Vec<(Key, Value)> = (0..1000u16).map(|n| put(n.to_be_bytes(), [n as u8; 10])).collect();
    commit(backend, rows.iter().rev().cloned().collect(), vec![]);
    let key = |n: u16| n.to_be_bytes().to_vec();
    let base = Scan::range(key(100), key(200));
    let scans = [
        base.clone(),
        Scan { direction: Direction::Backward, ..base.clone() },
        Scan { max_rows: 3, ..base.clone() },
        Scan { max_rows: 3, direction: Direction::Backward, ..base.clone() },
        Scan { max_bytes: 1, ..base.clone() },
        Scan { max_bytes: 24, ..base.clone() },
        Scan { max_rows: 0, ..base.clone() },
        Scan::range(key(200), key(100)),
        Scan::range(key(200), key(200)),
        Scan::range(key(990), vec![0xff; 3]),
        Scan::prefix(&[0]),
    ];
    let found = snapshot(backend).scan_many(&scans).expect("ranges can be read");
    for (scan, rows) in scans.iter().zip(&found) {
        let stretch = snapshot(backend).stretch(scan).expect("a range can be read");
        let row = |(key, value): (&[u8], Range<usize>)| (key.to_vec(), stretch.bytes().slice(value));
        assert_eq!(stretch.rows().map(row).collect::<Vec<_>>(), *rows);
    }
    let backward = |from: usize, to: usize| rows[from..to].iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(found[0], rows[100..200]);
    assert_eq!(found[1], backward(100, 200));
    assert_eq!(found[2], rows[100..103]);
    assert_eq!(found[3], backward(197, 200));
    assert_eq!(found[4], rows[100..101]);
    assert_eq!(found[5], rows[100..102]);
    assert_eq!(found[6..9], [vec![], vec![], vec![]]);
    assert_eq!(found[9], rows[990..]);
    assert_eq!(found[10], rows[..256]);
}

/// Whatever is written after it was taken.
pub fn a_snapshot_never_changes(backend: &dyn Backend) {
    commit(backend, (0..500u16).map(|n| put(n.to_be_bytes(), "old")).collect(), vec![]);
    let before = snapshot(backend);
    let rows = all(&*before);
    for n in 0..500u16 {
        commit(backend, vec![put(n.to_be_bytes(), "new")], vec![(n + 1).to_be_bytes().to_vec()]);
    }
    assert_eq!(all(&*before), rows);
    assert_eq!(all(&*snapshot(backend)).len(), 500);
}

/// Neither its puts nor its deletes.
pub fn guards_that_do_not_hold_change_nothing(backend: &dyn Backend) {
    commit(backend, vec![put("a", "1")], vec![]);
    let try_with = |guards: Vec<(Key, Option<Value>)>| {
        backend.commit(Batch {
            puts: vec![put("b", "2")],
            deletes: vec![b"a".to_vec()],
            guards,
            ..Batch::default()
        })
    };
    let guard = |key: &str, value: Option<&'static str>| (key.as_bytes().to_vec(), value.map(Bytes::from));
    for wrong in [guard("a", None), guard("a", Some("2")), guard("b", Some("2"))] {
        let refused = try_with(vec![guard("a", Some("1")), wrong]);
        assert!(matches!(refused, Err(BackendError::Conflict)), "{refused:?}");
        assert_eq!(all(&*snapshot(backend)), [put("a", "1")]);
    }
    try_with(vec![guard("a", Some("1")), guard("b", None)]).expect("guards that hold let the batch through");
    assert_eq!(all(&*snapshot(backend)), [put("b", "2")]);
}

/// Readers beside a writer never see a part of a batch, and never an older state than before.
pub fn a_batch_is_seen_as_a_whole(backend: &dyn Backend) {
    let write =
        |n: u32| commit(backend, (0..20u8).map(|key| put([key + 1], n.to_be_bytes())).collect(), vec![]);
    write(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| (1..=100).for_each(write));
        let mut last = Vec::new();
        while !writer.is_finished() {
            let values: Vec<Value> = all(&*snapshot(backend)).into_iter().map(|(_, value)| value).collect();
            assert_eq!(values.len(), 20);
            assert!(values.iter().all(|value| *value == values[0]));
            assert!(values[0][..] >= last[..]);
            last = values[0].to_vec();
        }
    });
}

/// Thousands of rows in batches of every size.
pub fn random_batches_agree_with_a_map(backend: &dyn Backend) {
    let mut dice = Dice(11);
    let mut model = BTreeMap::new();
    for round in 0..120u32 {
        let mut puts = BTreeMap::new();
        let mut deletes = Vec::new();
        for _ in 0..dice.roll(60) {
            let key = (dice.roll(800) as u16).to_be_bytes().to_vec();
            let value = vec![round as u8; dice.roll(90) as usize];
            puts.insert(key, Bytes::from(value));
        }
        for _ in 0..dice.roll(30) {
            let key = (dice.roll(800) as u16).to_be_bytes().to_vec();
            if !puts.contains_key(&key) && !deletes.contains(&key) {
                deletes.push(key);
            }
        }
        for key in &deletes {
            model.remove(key);
        }
        model.extend(puts.clone());
        commit(backend, puts.into_iter().collect(), deletes);
        if round % 10 == 0 {
            let expected: Vec<(Key, Value)> = model.clone().into_iter().collect();
            assert_eq!(all(&*snapshot(backend)), expected);
        }
    }
}
