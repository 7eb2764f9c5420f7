//! The log and the engine over a real directory and over a disk that forgets.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{CrashDisk, Dice, ENGINE_FILE, Embedded, EmbeddedConfig, LOG_FILE, ROWS};
use crate::backend::{Backend, BackendError, Batch, Durability, Key, Scan, Value};

fn small() -> EmbeddedConfig {
    EmbeddedConfig { cache_bytes: 1024 * 1024, log_bytes: 32 * 1024 }
}

fn open(disk: &CrashDisk) -> Result<Embedded, BackendError> {
    Embedded::open_on(Arc::new(disk.clone()), small())
}

fn rows(backend: &dyn Backend) -> Result<Vec<(Key, Value)>, BackendError> {
    let everything = Scan::range(vec![0], vec![0xff; 4]);
    Ok(backend.snapshot()?.scan_many(&[everything])?.remove(0))
}

fn write(n: u32, durability: Durability) -> Batch {
    Batch {
        puts: vec![
            (b"last".to_vec(), Bytes::copy_from_slice(&n.to_be_bytes())),
            (n.to_be_bytes().to_vec(), Bytes::from(vec![n as u8; 40 + (n as usize * 37) % 900])),
        ],
        deletes: if n >= 50 { vec![(n - 50).to_be_bytes().to_vec()] } else { vec![] },
        guards: vec![],
        durability,
    }
}

/// What is there after so many batches.
fn model(batches: &[Batch]) -> Vec<(Key, Value)> {
    let mut rows = BTreeMap::new();
    for batch in batches {
        for key in &batch.deletes {
            rows.remove(key);
        }
        rows.extend(batch.puts.iter().cloned());
    }
    rows.into_iter().collect()
}

crate::backend_conformance!(memory, crate::Memory::new);
crate::backend_conformance!(embedded_on_a_disk_in_memory, || {
    crate::Embedded::open_on(
        std::sync::Arc::new(crate::CrashDisk::new()),
        crate::EmbeddedConfig { cache_bytes: 1 << 20, log_bytes: 64 << 10 },
    )
    .unwrap()
});
crate::backend_conformance!(embedded_in_a_directory, || {
    let dir = tempfile::tempdir().unwrap().keep();
    crate::Embedded::open(&dir, crate::EmbeddedConfig::default()).unwrap()
});

#[test]
fn whatever_the_disk_forgets_acknowledged_batches_are_there_and_nothing_is_half_there() {
    for seed in 0..250u64 {
        let mut dice = Dice(seed);
        let disk = CrashDisk::new();
        let mut batches: Vec<Batch> = Vec::new();
        // How many batches are sure to be there.
        let mut sure = 0;
        for life in 0..4 {
            let mut stopped = None;
            if dice.roll(3) > 0 {
                disk.stop_after(dice.roll(if life == 0 { 60 } else { 200 }));
            }
            match open(&disk) {
                Err(error) => stopped = Some(error),
                Ok(store) => {
                    let found = rows(&store).unwrap_or_default();
                    if !disk.is_stopped() {
                        let kept = (sure..=batches.len()).find(|n| model(&batches[..*n]) == found);
                        let Some(kept) = kept else {
                            panic!(
                                "seed {seed}, life {life}: {} rows are no state after {sure} batches",
                                found.len()
                            );
                        };
                        // What was there once it was opened stays.
                        batches.truncate(kept);
                        sure = kept;
                    }
                    for _ in 0..dice.roll(120) {
                        let n = batches.len() as u32;
                        let durability =
                            if dice.roll(4) == 0 { Durability::Relaxed } else { Durability::Durable };
                        batches.push(write(n, durability));
                        match store.commit(write(n, durability)) {
                            Ok(()) if durability == Durability::Durable => sure = batches.len(),
                            Ok(()) => {}
                            Err(error) => {
                                stopped = Some(error);
                                break;
                            }
                        }
                    }
                    if stopped.is_none() && dice.roll(3) == 0 {
                        match store.close() {
                            Ok(()) => sure = batches.len(),
                            Err(error) => stopped = Some(error),
                        }
                    }
                }
            }
            assert!(stopped.is_none() || disk.is_stopped(), "seed {seed}: {stopped:?}");
            disk.restart(dice.roll(u64::MAX));
        }
        let store = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        let found = rows(&store).unwrap();
        assert!((sure..=batches.len()).any(|n| model(&batches[..n]) == found), "seed {seed}");
    }
}

#[test]
fn a_store_that_was_closed_is_the_same_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let batches: Vec<Batch> = (0..300).map(|n| write(n, Durability::Durable)).collect();
    for part in batches.chunks(100) {
        let store = Embedded::open(dir.path(), small()).unwrap();
        part.iter().for_each(|batch| store.commit(batch.clone()).unwrap());
        store.close().unwrap();
        assert!(matches!(store.snapshot(), Err(BackendError::Closed)));
        assert!(matches!(store.commit(Batch::default()), Err(BackendError::Closed)));
    }
    let store = Embedded::open(dir.path(), EmbeddedConfig::default()).unwrap();
    assert_eq!(rows(&store).unwrap(), model(&batches));
}

#[test]
fn a_store_that_was_only_dropped_by_its_process_is_replayed() {
    let disk = CrashDisk::new();
    let store = open(&disk).unwrap();
    let batches: Vec<Batch> = (0..10).map(|n| write(n, Durability::Durable)).collect();
    batches.iter().for_each(|batch| store.commit(batch.clone()).unwrap());
    // As after kill -9: everything reached the disk, nothing was closed.
    disk.restart(find_mood(1));
    assert_eq!(rows(&open(&disk).unwrap()).unwrap(), model(&batches));
}

/// A seed whose first roll is this one.
fn find_mood(mood: u64) -> u64 {
    (0..).find(|seed| Dice(*seed).roll(4) == mood).unwrap()
}

#[test]
fn one_store_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Embedded::open(dir.path(), small()).unwrap();
    assert!(matches!(Embedded::open(dir.path(), small()), Err(BackendError::Locked)));
    drop(first);
    Embedded::open(dir.path(), small()).unwrap();
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "hello").unwrap();
    assert!(matches!(Embedded::open(&file, small()), Err(BackendError::NotAStore)));
    assert!(matches!(Embedded::open(&file.join("below"), small()), Err(BackendError::NotAStore)));
    std::fs::write(dir.path().join(LOG_FILE), "something else").unwrap();
    assert!(matches!(Embedded::open(dir.path(), small()), Err(BackendError::NotAStore)));
    assert_eq!(std::fs::read(dir.path().join(LOG_FILE)).unwrap(), b"something else");
    std::fs::remove_file(dir.path().join(LOG_FILE)).unwrap();
    std::fs::write(dir.path().join(ENGINE_FILE), "something else").unwrap();
    assert!(matches!(Embedded::open(dir.path(), small()), Err(BackendError::NotAStore)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_store_of_a_newer_format_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    Embedded::open(dir.path(), small()).unwrap().close().unwrap();
    let path = dir.path().join(LOG_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16..20].copy_from_slice(&7u32.to_le_bytes());
    let sum = super::log::header_sum(&7u32.to_le_bytes());
    bytes[20..36].copy_from_slice(&sum);
    std::fs::write(&path, &bytes).unwrap();
    let engine = std::fs::read(dir.path().join(ENGINE_FILE)).unwrap();
    let refused = Embedded::open(dir.path(), small());
    assert!(matches!(refused, Err(BackendError::NewerFormat { found: 7, known: 1 })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read(dir.path().join(ENGINE_FILE)).unwrap(), engine);
}

#[test]
fn a_damaged_header_of_a_store_with_records_is_not_taken_for_an_unfinished_one() {
    let disk = CrashDisk::new();
    let store = open(&disk).unwrap();
    store.commit(write(0, Durability::Durable)).unwrap();
    drop(store);
    assert!(disk.flip_bit(LOG_FILE, 25, 3));
    assert!(matches!(open(&disk), Err(BackendError::Corrupt { .. })));
    assert!(disk.flip_bit(LOG_FILE, 25, 3));
    assert_eq!(rows(&open(&disk).unwrap()).unwrap().len(), 2);
}

#[test]
fn a_log_that_was_cut_off_does_not_begin_the_store_anew() {
    for len in [0, 10, 100, 5000] {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path(), small()).unwrap();
        store.commit(write(0, Durability::Durable)).unwrap();
        store.close().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join(LOG_FILE)).unwrap();
        file.set_len(len).unwrap();
        let opened = Embedded::open(dir.path(), small());
        // All is in the engine after a store is closed; with its header whole the log may be of any length.
        match opened {
            Ok(store) => assert_eq!((len >= 36, rows(&store).unwrap().len()), (true, 2)),
            Err(error) => {
                assert!(len < 36 && matches!(error, BackendError::Corrupt { .. }), "{len}: {error:?}");
            }
        }
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_works_again_when_there_is_room() {
    let disk = CrashDisk::new();
    let store = open(&disk).unwrap();
    let mut batches = vec![write(0, Durability::Durable)];
    store.commit(batches[0].clone()).unwrap();
    disk.set_capacity(Some(disk.bytes()));
    let big = |n: u32| Batch {
        puts: (0..200u8).map(|i| (vec![b'x', n as u8, i], Bytes::from(vec![i; 5000]))).collect(),
        ..Batch::default()
    };
    let mut refused = 0;
    for n in 0..20 {
        match store.commit(big(n)) {
            Ok(()) => batches.push(big(n)),
            Err(BackendError::Full) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(rows(&store).unwrap(), model(&batches));
    }
    assert!(refused > 0);
    disk.set_capacity(None);
    store.commit(big(30)).unwrap();
    batches.push(big(30));
    assert_eq!(rows(&store).unwrap(), model(&batches));
    drop(store);
    assert_eq!(rows(&open(&disk).unwrap()).unwrap(), model(&batches));
}

#[test]
fn after_a_failed_write_the_store_reads_its_files_again_and_goes_on() {
    for failing in 1..4 {
        let disk = CrashDisk::new();
        let store = open(&disk).unwrap();
        let mut batches: Vec<Batch> = (0..3).map(|n| write(n, Durability::Durable)).collect();
        batches.iter().for_each(|batch| store.commit(batch.clone()).unwrap());
        let before = store.snapshot().unwrap();
        disk.fail_writes(failing);
        assert!(store.commit(write(3, Durability::Durable)).is_err());
        // Opening the files again may meet the fault too.
        while rows(&store).is_err() {}
        assert_eq!(rows(&store).unwrap(), model(&batches));
        assert!(matches!(before.get_many(&[b"last".to_vec()]), Err(BackendError::Poisoned)));
        store.commit(write(3, Durability::Durable)).unwrap();
        batches.push(write(3, Durability::Durable));
        assert_eq!(rows(&store).unwrap(), model(&batches));
    }
}

/// Head of a record, count of puts, two lengths and a key of one byte.
const RECORD_BYTES_BESIDE_VALUE: usize = 44 + 4 + 8 + 1;

#[test]
fn a_record_that_outlived_a_lost_one_does_not_continue_what_was_written_instead() {
    let row_of = |value: u8, len: usize, durability| Batch {
        puts: vec![(vec![value + 1], Bytes::from(vec![value; len]))],
        durability,
        ..Batch::default()
    };
    let row = |value, durability| row_of(value, 600, durability);
    // The log begins at its front again: as long as two of the records there, so that the survivor lies behind it.
    let instead = || row_of(17, 600 * 2 + RECORD_BYTES_BESIDE_VALUE, Durability::Durable);
    let mut lost_the_first = 0;
    for seed in 0..200 {
        let disk = CrashDisk::new();
        let store = open(&disk).unwrap();
        store.commit(row(0, Durability::Durable)).unwrap();
        // Neither is flushed; the second may reach the disk without the first.
        store.commit(row(1, Durability::Relaxed)).unwrap();
        store.commit(row(2, Durability::Relaxed)).unwrap();
        disk.restart(seed);
        let store = open(&disk).unwrap();
        if rows(&store).unwrap().len() > 1 {
            continue;
        }
        lost_the_first += 1;
        store.commit(instead()).unwrap();
        disk.restart(find_mood(1));
        let found = rows(&open(&disk).unwrap()).unwrap();
        assert_eq!(found, model(&[row(0, Durability::Durable), instead()]), "seed {seed}");
    }
    assert!(lost_the_first > 10);
}

#[test]
fn rows_that_come_one_behind_another_fill_their_pages() {
    use redb::{ReadableDatabase as _, ReadableTableMetadata as _};
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), EmbeddedConfig::default()).unwrap();
    let row =
        |space: u8, n: u64| ([&[space][..], &n.to_be_bytes()].concat(), Bytes::from(vec![n as u8; 300]));
    for batch in 0..20 {
        // Others lie behind them.
        let rows = (batch * 512..(batch + 1) * 512).flat_map(|n| [row(1, n), row(2, n)]);
        store.commit(Batch { puts: rows.collect(), ..Batch::default() }).unwrap();
    }
    let engine = store.read_engine();
    let table =
        engine.as_ref().unwrap().redb.as_ref().unwrap().begin_read().unwrap().open_table(ROWS).unwrap();
    let stats = table.stats().unwrap();
    let (held, empty) = (stats.stored_bytes(), stats.fragmented_bytes());
    assert!(held > 6 * 1024 * 1024 && empty < held / 3, "{empty} bytes lie empty beside {held}");
}
