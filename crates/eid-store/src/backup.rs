//! A backup is the rows of one snapshot in one stream: whoever has all of its bytes, unaltered, has the store.
//!
//! ```text
//! backup = magic (8), version (4), frame..., end
//! frame  = length (4, 1..=BACKUP_FRAME_BYTES), bytes, hash (32)
//! end    = length 0, rows (8), bytes of keys and values (8), hash (32)
//! rows   = (key length (4), value length (4), key, value)...         cut into frames wherever one is full
//! hash   = BLAKE3 of (the hash before, the length, the bytes), derived for this purpose; before the first frame is
//!          the hash of magic and version
//! ```
//!
//! Numbers are little-endian. Keys ascend strictly; the first is that of the whole store. As each hash covers the one
//! before, frames that are altered, left out, repeated or of another backup are told apart, and so is a stream that ends
//! early. Nothing of a frame is looked at before its hash is right.

mod read;
mod write;

use std::io;
use std::sync::Arc;

use crate::backend::{Backend, BackendError, Batch, Durability, Key, Scan, Value};
use crate::entry_store::{EntryStore, epoch_of};
use crate::error::StoreError;
use crate::limits::RESTORE_BATCH_BYTES;
use crate::rows::{FORMAT, Meta, Space, meta_key};

pub use read::read_backup;

/// What a backup begins with.
pub const BACKUP_MAGIC: [u8; 8] = *b"eid\x89bkp\n";
/// The form of a backup.
const VERSION: u32 = 1;
/// What its hashes are derived for.
const CONTEXT: &str = "eid 2026 backup frame";

/// How much a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupSummary {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Why a backup was not made, read or restored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackupError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream failed.
    #[error("reading or writing the backup failed")]
    Io(#[source] Arc<io::Error>),
    /// It begins with something else.
    #[error("this is not a backup")]
    NotABackup,
    /// Written by a newer version of this crate.
    #[error("the backup has version {found}, this version knows versions up to {known}")]
    Newer {
        /// The version of the backup.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// Its bytes are not those that were written.
    #[error("the backup is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the part begins that is wrong.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The place that it is to be restored into holds something.
    #[error("the store that is to be restored into is not empty")]
    NotEmpty,
    /// A row is longer than any that this crate writes.
    #[error("a row of {bytes} bytes is too long for a backup")]
    RowTooLong {
        /// Its length.
        bytes: usize,
    },
}

impl From<BackendError> for BackupError {
    fn from(error: BackendError) -> Self {
        Self::Store(error.into())
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// The hash of a frame after the one before.
pub(crate) fn chain(before: &[u8; 32], length: u32, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(before).update(&length.to_le_bytes()).update(body);
    *hasher.finalize().as_bytes()
}

/// What stands before the first frame, and its hash.
pub(crate) fn header() -> ([u8; 12], [u8; 32]) {
    let mut header = [0; 12];
    header[..8].copy_from_slice(&BACKUP_MAGIC);
    header[8..].copy_from_slice(&VERSION.to_le_bytes());
    (header, chain(&[0; 32], 12, &header))
}

impl EntryStore {
    /// Writes everything that is stored at this moment, and is told every now and then how many bytes of rows are done.
    /// Commits go on meanwhile: what comes after the moment is not in it.
    pub fn backup(
        &self,
        out: &mut dyn io::Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BackupSummary, BackupError> {
        let snapshot = self.backend().snapshot()?;
        write::write_backup(&*snapshot, out, progress)
    }
}

/// A local row of a backup: its namespace, its key there, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupRow<'a> {
    /// The namespace.
    pub namespace: &'a [u8],
    /// The key in it.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

impl<'a> BackupRow<'a> {
    fn of(key: &'a Key, value: &'a Value) -> Option<Self> {
        let (space, rest) = key.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (namespace, key) = rest.split_at_checked(usize::from(*length))?;
        (*space == Space::Local as u8).then_some(Self { namespace, key, value })
    }
}

/// Puts the rows of a backup into an empty backend, except the local rows that `keeps` does not want, and begins a life of
/// the store of its own (`seed` is fresh randomness): positions that others remember of the store that was backed up, and
/// that it remembered of others, are not believed.
///
/// # Errors
/// After one, what is in the backend is not opened as a store: the row of the whole store says so until the last row is
/// there.
pub fn restore_backup(
    from: &mut dyn io::Read,
    into: &dyn Backend,
    seed: [u8; 32],
    keeps: &mut dyn FnMut(BackupRow<'_>) -> bool,
    progress: &mut dyn FnMut(u64),
) -> Result<BackupSummary, BackupError> {
    let first = Scan { max_rows: 1, ..Scan::prefix(&[]) };
    if !into.snapshot()?.scan_many(&[first])?.concat().is_empty() {
        return Err(BackupError::NotEmpty);
    }
    let mut restore = Restore { into, meta: None, batch: Batch::default(), bytes: 0 };
    let summary = read_backup(
        from,
        &mut |key, value| match BackupRow::of(&key, &value) {
            Some(row) if !keeps(row) => Ok(()),
            _ => restore.take(key, value),
        },
        progress,
    )?;
    restore.finish(seed)?;
    Ok(summary)
}

struct Restore<'a> {
    into: &'a dyn Backend,
    meta: Option<Meta>,
    batch: Batch,
    bytes: usize,
}

impl Restore<'_> {
    fn take(&mut self, key: Key, value: Value) -> Result<(), BackupError> {
        if self.meta.is_none() {
            // It is the first row: the reader has seen to that.
            self.meta = Some(Meta::decode(&value)?);
            // No version opens this: until the end it is no store.
            let unfinished = Meta { format: u32::MAX, epoch: eid_core::dag::Epoch(0), next_tree: 0 };
            let batch = Batch {
                puts: vec![(key.clone(), unfinished.encode())],
                guards: vec![(key, None)],
                ..Batch::default()
            };
            return Ok(self.into.commit(batch)?);
        }
        self.bytes += key.len() + value.len();
        self.batch.puts.push((key, value));
        if self.bytes >= RESTORE_BATCH_BYTES { self.flush(Durability::Relaxed) } else { Ok(()) }
    }

    fn flush(&mut self, durability: Durability) -> Result<(), BackupError> {
        let batch = Batch { durability, ..std::mem::take(&mut self.batch) };
        self.bytes = 0;
        Ok(self.into.commit(batch)?)
    }

    fn finish(&mut self, seed: [u8; 32]) -> Result<(), BackupError> {
        let Some(meta) = self.meta.take() else {
            return Err(BackupError::Damaged { at: 0, what: "it holds no store" });
        };
        // With fresh randomness and the life before: neither alone makes two lives one.
        let mut mixed = blake3::Hasher::new_derive_key("eid 2026 epoch of a restored store");
        mixed.update(&seed).update(&meta.epoch.0.to_le_bytes());
        let meta = Meta { epoch: epoch_of(mixed.finalize().as_bytes()), ..meta };
        self.batch.puts.push((meta_key(), meta.encode()));
        self.flush(Durability::Durable)
    }
}

/// Whether the first row of a backup is that of a whole store, of a format that is known.
fn check_first(key: &Key, value: &Value) -> Result<bool, BackupError> {
    if *key != meta_key() {
        return Ok(false);
    }
    match Meta::decode(value) {
        Ok(meta) => Ok(meta.format <= FORMAT),
        Err(StoreError::Backend(error @ BackendError::NewerFormat { .. })) => Err(error.into()),
        Err(_) => Ok(false),
    }
}
