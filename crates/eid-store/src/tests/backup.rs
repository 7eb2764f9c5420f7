//! Backups: what is restored is what was there, and what is not whole is refused.

use std::sync::Arc;

use bytes::Bytes;

use super::kit::*;
use crate::rows::meta_key;
use crate::{
    Backend, BackendError, BackupError, BackupRow, BackupSummary, Embedded, EmbeddedConfig, EntryStore, Key,
    Memory, Scan, StoreError, Value, read_backup, restore_backup,
};

type Row = (Key, Value);

/// A store with a long history and a row that is longer than several frames.
fn filled() -> (Arc<EntryStore>, eid_core::TreeId) {
    let (store, root) = store_with_root();
    for n in 0..40 {
        store.commit(write(root.tree(), &[n, n + 1])).unwrap();
    }
    let local = store.local().namespace("keys");
    local.put(b"device", Bytes::from_static(b"secret")).unwrap();
    local.put(b"picture", Bytes::from(vec![7; 5000])).unwrap();
    store.local().namespace("peers").put(b"", Bytes::new()).unwrap();
    (store, root.tree())
}

fn backup_of(store: &EntryStore) -> (Vec<u8>, BackupSummary) {
    let mut out = Vec::new();
    let summary = store.backup(&mut out, &mut |_| {}).unwrap();
    (out, summary)
}

fn rows(backend: &dyn Backend) -> Vec<Row> {
    backend.snapshot().unwrap().scan_many(&[Scan::prefix(&[])]).unwrap().concat()
}

fn restored(backup: &[u8], into: &dyn Backend, seed: u8) -> Result<BackupSummary, BackupError> {
    restore_backup(&mut &backup[..], into, [seed; 32], &mut |_| true, &mut |_| {})
}

/// A backup of rows that no store may have, with every hash in order.
fn forged(stream: &[u8], (rows, bytes): (u64, u64)) -> Vec<u8> {
    let (header, mut before) = super::super::backup::header();
    let mut out = header.to_vec();
    let mut frame = |body: &[u8], end: bool| {
        let length = if end { 0 } else { body.len() as u32 };
        before = super::super::backup::chain(&before, length, body);
        out.extend(length.to_le_bytes());
        out.extend(body);
        out.extend(before);
    };
    stream.chunks(crate::limits::BACKUP_FRAME_BYTES).for_each(|body| frame(body, false));
    frame(&[rows.to_le_bytes(), bytes.to_le_bytes()].concat(), true);
    out
}

fn stream(rows: &[Row]) -> (Vec<u8>, (u64, u64)) {
    let (mut out, mut bytes) = (Vec::new(), 0);
    for (key, value) in rows {
        out.extend((key.len() as u32).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        out.extend(key);
        out.extend(&value[..]);
        bytes += key.len() + value.len();
    }
    (out, (rows.len() as u64, bytes as u64))
}

fn read(backup: &[u8]) -> Result<Vec<Row>, BackupError> {
    let mut rows = Vec::new();
    read_backup(
        &mut &backup[..],
        &mut |key, value| {
            rows.push((key, value));
            Ok(())
        },
        &mut |_| {},
    )?;
    Ok(rows)
}

#[test]
fn what_is_restored_is_what_was_there_in_a_life_of_its_own() {
    let (store, tree) = filled();
    let (backup, summary) = backup_of(&store);
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(dir.path(), EmbeddedConfig::default()).unwrap();
    let backends: [Arc<dyn Backend>; 2] = [Arc::new(embedded), Arc::new(Memory::new())];
    let mut lives = vec![store.epoch_of(&tree), store.epoch()];
    for (backend, seed) in backends.into_iter().zip(1..) {
        assert_eq!(restored(&backup, &*backend, seed).unwrap(), summary);
        let mut expected = rows(store.backend());
        let mut found = rows(&*backend);
        assert_eq!(found.len() as u64, summary.rows);
        assert_ne!(found.remove(0), expected.remove(0), "the row of the whole store");
        assert_eq!(found, expected);
        let restored = open_on(backend);
        assert_eq!(see(&restored, tree).unwrap(), see(&store, tree).unwrap());
        assert!(restored.fsck(false, &mut |_, _| {}).unwrap().is_clean());
        restored.commit(write(tree, &[99])).unwrap();
        lives.extend([restored.epoch_of(&tree), restored.epoch()]);
    }
    let count = lives.len();
    lives.sort_unstable();
    lives.dedup();
    assert_eq!(lives.len(), count, "no life is met twice");
}

#[test]
fn a_backup_is_of_one_moment_whatever_is_written_while_it_is_made() {
    let (store, tree) = filled();
    let before = see(&store, tree).unwrap();
    let (mut out, mut written) = (Vec::new(), 0);
    // Whenever a piece was read, another entry comes.
    store
        .backup(&mut out, &mut |_| {
            store.commit(write(tree, &[1000 + written])).unwrap();
            written += 1;
        })
        .unwrap();
    assert!(written > 1, "it was made in several pieces");
    assert_eq!(store.tree(&tree).unwrap().unwrap().count(), before.ids.len() as u64 + written);
    let backend = Arc::new(Memory::new());
    restored(&out, &*backend, 1).unwrap();
    assert_eq!(see(&open_on(backend), tree).unwrap(), before);
}

#[test]
fn a_backup_that_is_altered_or_cut_anywhere_or_goes_on_is_refused_and_what_it_left_is_no_store() {
    let (store, _) = filled();
    let (backup, _) = backup_of(&store);
    let frames = backup.len() / crate::limits::BACKUP_FRAME_BYTES;
    assert!(frames > 10, "{frames} frames");
    let refused = |bytes: &[u8], what: &str| {
        let backend = Memory::new();
        let error = restored(bytes, &backend, 1).unwrap_err();
        assert!(
            matches!(
                error,
                BackupError::Damaged { .. } | BackupError::NotABackup | BackupError::Newer { .. }
            ),
            "{what}: {error:?}"
        );
        if !rows(&backend).is_empty() {
            let open =
                EntryStore::open(Arc::new(backend), Arc::new(Simple::default()), Arc::new(Stamps), [5; 32]);
            let error = open.unwrap_err();
            assert!(
                matches!(error, StoreError::Backend(BackendError::NewerFormat { .. })),
                "{what}: {error:?}"
            );
        }
    };
    for at in (0..backup.len()).filter(|at| *at < 64 || at % 31 == 0 || *at + 64 > backup.len()) {
        let mut altered = backup.clone();
        altered[at] ^= 1 << (at % 8);
        refused(&altered, &format!("byte {at} altered"));
        refused(&backup[..at], &format!("cut at {at}"));
    }
    refused(&[&backup[..], b"\n"].concat(), "a byte more");
    refused(&[&backup[..], &backup[12..]].concat(), "twice");
    // Whole frames left out, or put in another order.
    let frame = crate::limits::BACKUP_FRAME_BYTES + 36;
    let begins = |n: usize| 12 + n * frame;
    refused(&[&backup[..begins(3)], &backup[begins(4)..]].concat(), "a frame left out");
    let swapped = [
        &backup[..begins(3)],
        &backup[begins(4)..begins(5)],
        &backup[begins(3)..begins(4)],
        &backup[begins(5)..],
    ];
    refused(&swapped.concat(), "two frames swapped");
    assert!(restored(&backup, &Memory::new(), 1).is_ok());
}

#[test]
fn a_frame_of_another_backup_is_refused_although_rows_and_counts_would_be_in_order() {
    let (store, _) = filled();
    let (one, _) = backup_of(&store);
    store.local().namespace("keys").put(b"picture", Bytes::from(vec![8; 5000])).unwrap();
    let (other, _) = backup_of(&store);
    let frame = crate::limits::BACKUP_FRAME_BYTES + 36;
    let at = |n: usize| 12 + n * frame..12 + (n + 1) * frame;
    // In the middle of the long row.
    let is_within = |n: &usize| one[at(*n)][4..].iter().take(frame - 36).all(|byte| *byte == 7);
    let within = (0..10).find(is_within).expect("the row is longer than two frames");
    let mut mixed = one.clone();
    mixed[at(within)].copy_from_slice(&other[at(within)]);
    assert_ne!(mixed, one);
    let error = restored(&mixed, &Memory::new(), 1).unwrap_err();
    assert!(matches!(error, BackupError::Damaged { .. }), "{error:?}");
}

#[test]
fn rows_that_no_store_writes_are_refused_although_their_hashes_are_right() {
    let (store, _) = filled();
    let rows = rows(store.backend());
    let (bytes, counts) = stream(&rows);
    assert_eq!(read(&forged(&bytes, counts)).unwrap(), rows);
    let is_damaged = |stream: &[u8], counts, what: &str| {
        let read = read(&forged(stream, counts));
        assert!(matches!(read, Err(BackupError::Damaged { .. })), "{what}: {read:?}");
    };
    is_damaged(&[], (0, 0), "no row");
    is_damaged(&bytes, (counts.0, counts.1 + 1), "other counts");
    is_damaged(&bytes[..bytes.len() - 1], counts, "the last row is cut");
    let (without_first, counts) = stream(&rows[1..]);
    is_damaged(&without_first, counts, "not the row of a whole store");
    let mut swapped = rows.clone();
    swapped.swap(4, 5);
    let (bytes, counts) = stream(&swapped);
    is_damaged(&bytes, counts, "out of order");
    let mut twice = rows.clone();
    twice.insert(5, rows[5].clone());
    let (bytes, counts) = stream(&twice);
    is_damaged(&bytes, counts, "a key twice");
    // A length is believed only as far as there are bytes.
    for length in [u32::MAX, 1 << 26, 1 << 17] {
        let (mut bytes, counts) = stream(&rows[..3]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        is_damaged(&bytes, counts, "a long row");
    }
    let newer = [(meta_key(), Value::from_static(&[99, 1, 1]))];
    let (bytes, counts) = stream(&newer);
    let error = read(&forged(&bytes, counts)).unwrap_err();
    let is_newer = matches!(
        &error,
        BackupError::Store(StoreError::Backend(BackendError::NewerFormat { found: 99, .. }))
    );
    assert!(is_newer, "{error:?}");
}

#[test]
fn a_store_that_holds_anything_is_not_restored_into() {
    let (store, tree) = filled();
    let (backup, _) = backup_of(&store);
    let before = rows(store.backend());
    assert!(matches!(restored(&backup, store.backend(), 1), Err(BackupError::NotEmpty)));
    assert_eq!(rows(store.backend()), before);
    store.commit(write(tree, &[3])).unwrap();
}

#[test]
fn local_rows_that_are_not_wanted_stay_behind() {
    let (store, tree) = filled();
    let (backup, _) = backup_of(&store);
    let backend = Arc::new(Memory::new());
    let (mut asked, mut secret) = (Vec::new(), None);
    let mut keeps = |row: BackupRow<'_>| {
        asked.push((row.namespace.to_vec(), row.key.to_vec()));
        if row.key == b"device" {
            secret = Some(row.value.to_vec());
        }
        row.key != b"device"
    };
    restore_backup(&mut &backup[..], &*backend, [1; 32], &mut keeps, &mut |_| {}).unwrap();
    assert_eq!(secret.as_deref(), Some(&b"secret"[..]));
    let named = [(&b"keys"[..], &b"device"[..]), (b"keys", b"picture"), (b"peers", b"")];
    assert_eq!(asked, named.map(|(namespace, key)| (namespace.to_vec(), key.to_vec())));
    let restored = open_on(backend);
    let local = restored.local().namespace("keys");
    assert_eq!(local.get(b"device").unwrap(), None);
    assert_eq!(local.get(b"picture").unwrap(), Some(Bytes::from(vec![7; 5000])));
    assert_eq!(see(&restored, tree).unwrap(), see(&store, tree).unwrap());
}
