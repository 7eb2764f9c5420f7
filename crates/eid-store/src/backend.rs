//! The seam to an engine: an ordered map of bytes with consistent snapshots and atomic, guarded batches.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// A key: byte strings in lexicographic order.
pub type Key = Vec<u8>;
/// A value.
pub type Value = Bytes;

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// May be lost in a crash, together with whatever was committed after it. Never half there.
    Relaxed,
    /// On disk when the commit returns, and so is everything before it.
    #[default]
    Durable,
}

/// Changes that take effect together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Rows to write. A key occurs at most once in puts and deletes together.
    pub puts: Vec<(Key, Value)>,
    /// Keys to remove; absent ones do not matter.
    pub deletes: Vec<Key>,
    /// What must hold before: a key with its value, or absent.
    pub guards: Vec<(Key, Option<Value>)>,
    /// Whether the commit waits for the disk.
    pub durability: Durability,
}

impl Batch {
    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.puts.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
            + self.deletes.iter().map(Vec::len).sum::<usize>()
    }
}

/// Which end of a range a scan begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the smallest key.
    #[default]
    Forward,
    /// From the greatest key.
    Backward,
}

/// A range to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The smallest key, inclusive.
    pub from: Key,
    /// The greatest key, exclusive. Nothing lies in a range whose end is not above its beginning.
    pub to: Key,
    /// Which end to begin at.
    pub direction: Direction,
    /// Most rows to give.
    pub max_rows: usize,
    /// Stops after the row with which keys and values reach this many bytes; the first row is always given.
    pub max_bytes: usize,
}

impl Scan {
    /// The whole range, forward, without limits.
    #[must_use]
    pub fn range(from: Key, to: Key) -> Self {
        Self { from, to, direction: Direction::Forward, max_rows: usize::MAX, max_bytes: usize::MAX }
    }

    /// All keys with this prefix, forward, without limits.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self::range(prefix.to_vec(), prefix_end(prefix))
    }
}

/// Rows of one range, one after another in one piece of memory: who reads many small ones allocates nothing for each.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    bytes: Bytes,
    /// Where each key ends, and its value after it.
    ends: Vec<(usize, usize)>,
}

impl Stretch {
    /// Rows that lie behind one another, of which each key and its value end here.
    ///
    /// # Panics
    /// When the ends do not ascend within the bytes.
    #[must_use]
    pub fn new(bytes: Bytes, ends: Vec<(usize, usize)>) -> Self {
        assert!(ends.iter().flat_map(|(key, value)| [key, value]).is_sorted());
        assert!(ends.last().is_none_or(|(_, end)| *end <= bytes.len()));
        Self { bytes, ends }
    }

    /// Copies rows together.
    #[must_use]
    pub fn of(rows: &[(Key, Value)]) -> Self {
        let bytes = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        let (mut bytes, mut ends) = (Vec::with_capacity(bytes), Vec::with_capacity(rows.len()));
        for (key, value) in rows {
            bytes.extend_from_slice(key);
            let key = bytes.len();
            bytes.extend_from_slice(value);
            ends.push((key, bytes.len()));
        }
        Self { bytes: bytes.into(), ends }
    }

    /// The memory that the rows lie in.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Each key, and where its value lies.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[u8], Range<usize>)> {
        (0..self.ends.len()).map(|at| {
            let begin = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
            let (key, value) = self.ends[at];
            (&self.bytes[begin..key], key..value)
        })
    }
}

/// The smallest key above all keys with this prefix. A prefix of only `0xff` has no such key among the keys that
/// this crate writes, which begin with a tag below `0xff`.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![0xff; prefix.len() + 1]
}

/// Keeps rows.
///
/// # Contract
/// - A snapshot sees exactly the batches whose commit returned before it was taken, and perhaps one that is
///   under way, each as a whole. It never changes.
/// - A batch takes effect as a whole or not at all. When a durable commit has returned, no crash loses it.
/// - A batch whose guards do not hold changes nothing and gives [`BackendError::Conflict`].
/// - After an error other than `Conflict` and `Full`, whether the batch took effect is known only after reopening.
pub trait Backend: Debug + Send + Sync {
    /// A consistent view, owned by the caller.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError>;

    /// Applies a batch.
    fn commit(&self, batch: Batch) -> Result<(), BackendError>;

    /// Writes what is cached and lets go of locks. Dropping does the same but cannot report failure.
    fn close(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// A consistent view of a [`Backend`]. It lives for one batch or one read, never across a wait for somebody else.
pub trait Snapshot: Debug + Send + Sync {
    /// The values of these keys, in their order.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError>;

    /// The rows of these ranges, in their order.
    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError>;

    /// The rows of one range in one piece of memory.
    fn stretch(&self, scan: &Scan) -> Result<Stretch, BackendError> {
        let rows = self.scan_many(std::slice::from_ref(scan))?.pop();
        Ok(Stretch::of(&rows.unwrap_or_default()))
    }
}

/// What an engine can fail with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// The operating system reports an error.
    #[error("reading or writing the store failed")]
    Io(#[source] Arc<io::Error>),
    /// There is no room; the batch was not written.
    #[error("the disk is full")]
    Full,
    /// A guard did not hold; the batch was not written.
    #[error("another process changed the store in between")]
    Conflict,
    /// Stored bytes are not what was written.
    #[error("the store is damaged: {what}")]
    Corrupt {
        /// Where.
        what: &'static str,
    },
    /// The engine below reports an error that is none of the others.
    #[error("the storage engine failed")]
    Engine(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The path holds something else.
    #[error("this is not a store")]
    NotAStore,
    /// Written by a newer version of this crate.
    #[error("the store has format {found}, this version knows formats up to {known}")]
    NewerFormat {
        /// The format of the store.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// Another process uses the store.
    #[error("the store is in use by another process")]
    Locked,
    /// An earlier write failed; what is on disk is known only after reopening.
    #[error("an earlier write to the store failed; it has to be opened again")]
    Poisoned,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl BackendError {
    /// Whether trying the same again can help without anybody doing something first.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Conflict | Self::Locked => true,
            Self::Io(error) => {
                matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::TimedOut)
            }
            Self::Full
            | Self::Corrupt { .. }
            | Self::Engine(_)
            | Self::NotAStore
            | Self::NewerFormat { .. }
            | Self::Poisoned
            | Self::Closed => false,
        }
    }
}

impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::UnexpectedEof => Self::Corrupt { what: "a file ends too early" },
            _ => Self::Io(Arc::new(error)),
        }
    }
}
