//! The log before the engine: numbered, chained, checksummed batches in one file of fixed length.
//!
//! A batch is durable once its record is synced. The engine takes it without a flush of its own, and with one flush
//! for all when the log is full. The records since that flush are what is replayed when the store is opened.
//!
//! Each record names the checksum of the one before it, so that what a crash left of an older run of the log is
//! never taken for a continuation of a newer one.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::vfs::VfsFile;
use crate::backend::{BackendError, Batch, Key, Value};

/// The format of the files. A newer one is refused before anything is written.
pub(super) const FORMAT: u32 = 1;

const MAGIC: &[u8; 16] = b"eid store v_log\n";
const HEADER_BYTES: u64 = 4096;
const RECORD_HEAD_BYTES: usize = 4 + 8 + 16 + 16;

/// Where a run of records stands: the number and the checksum of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub number: u64,
    pub sum: [u8; 16],
}

impl Position {
    pub(super) fn encode(&self) -> [u8; 24] {
        let mut out = [0; 24];
        out[..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..].copy_from_slice(&self.sum);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, sum) = bytes.split_at_checked(8)?;
        Some(Self { number: u64::from_le_bytes(number.try_into().ok()?), sum: sum.try_into().ok()? })
    }
}

/// What the first bytes of a log say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// A log of this format.
    Ready,
    /// Nothing was ever finished here.
    Blank,
    /// Something else.
    Foreign,
    /// There are records behind a header that does not read.
    Damaged,
}

/// Appends records from the beginning of the file; after [`Log::restart`] over the older ones.
#[derive(Debug)]
pub(super) struct Log {
    file: Arc<dyn VfsFile>,
    bytes_max: u64,
    used: u64,
    pub(super) last: Position,
}

impl Log {
    pub(super) fn new(file: Arc<dyn VfsFile>, bytes_max: u64) -> Self {
        Self {
            file,
            bytes_max: bytes_max.max(HEADER_BYTES * 2),
            used: HEADER_BYTES,
            last: Position::default(),
        }
    }

    /// Looks at the header without writing.
    pub(super) fn look(&self) -> Result<Opened, BackendError> {
        let len = self.file.len()?;
        let mut header = vec![0; usize::try_from(len.min(HEADER_BYTES)).unwrap_or_default()];
        self.file.read_at(0, &mut header)?;
        if let Some(rest) = header.strip_prefix(MAGIC)
            && let (Some(format), Some(sum)) = (rest.get(..4), rest.get(4..20))
            && *sum == header_sum(format)[..]
        {
            let found = u32::from_le_bytes([format[0], format[1], format[2], format[3]]);
            return if found > FORMAT {
                Err(BackendError::NewerFormat { found, known: FORMAT })
            } else {
                Ok(Opened::Ready)
            };
        }
        // Made is what has its header; a header that was torn while being written is followed by zeros only, and
        // the first record that was ever written leaves its place filled for good.
        if header.iter().zip(MAGIC).any(|(byte, magic)| *byte != 0 && byte != magic) {
            return Ok(Opened::Foreign);
        }
        let mut first = [0; RECORD_HEAD_BYTES];
        if len >= HEADER_BYTES + RECORD_HEAD_BYTES as u64 {
            self.file.read_at(HEADER_BYTES, &mut first)?;
        }
        Ok(if first.iter().all(|byte| *byte == 0) { Opened::Blank } else { Opened::Damaged })
    }

    /// Takes all its room at once, so that a record never has to wait for the file to grow, and marks itself as made.
    pub(super) fn make(&mut self) -> Result<(), BackendError> {
        let zeros = vec![0; 64 * 1024];
        let mut at = 0;
        while at < self.bytes_max {
            let step = (self.bytes_max - at).min(zeros.len() as u64);
            self.file.write_at(at, &zeros[..usize::try_from(step).unwrap_or_default()])?;
            at += step;
        }
        self.file.sync()?;
        let format = FORMAT.to_le_bytes();
        self.file.write_at(0, &[&MAGIC[..], &format, &header_sum(&format)].concat())?;
        Ok(self.file.sync()?)
    }

    /// Whether a record of this body fits behind the others.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        self.used + (RECORD_HEAD_BYTES + body.len()) as u64 <= self.bytes_max
    }

    /// The position after a record of this body.
    pub(super) fn after(&self, body: &[u8]) -> Position {
        let number = self.last.number + 1;
        Position { number, sum: record_sum(number, &self.last.sum, body) }
    }

    /// Writes a record that fits. It is durable after [`Log::sync`].
    pub(super) fn append(&mut self, body: &[u8]) -> io::Result<()> {
        let next = self.after(body);
        let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let record =
            [&length.to_le_bytes()[..], &next.number.to_le_bytes(), &self.last.sum, &next.sum, body].concat();
        self.file.write_at(self.used, &record)?;
        self.used += record.len() as u64;
        self.last = next;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Whether nothing was appended since the last restart.
    pub(super) fn is_empty(&self) -> bool {
        self.used == HEADER_BYTES
    }

    /// Begins at the front again, once the engine holds everything up to `last`.
    pub(super) fn restart(&mut self, last: Position) {
        self.used = HEADER_BYTES;
        self.last = last;
    }

    /// Gives the bodies of the records after `applied` and stands behind the last of them.
    ///
    /// A first record that is not newer than `applied` means that all are older: the log restarts whenever the
    /// engine has taken everything.
    pub(super) fn replay(
        &mut self,
        applied: Position,
        mut take: impl FnMut(&Bytes) -> Result<(), BackendError>,
    ) -> Result<Position, BackendError> {
        let end = self.file.len()?;
        let (mut at, mut last) = (HEADER_BYTES, applied);
        let mut head = [0; RECORD_HEAD_BYTES];
        while at + RECORD_HEAD_BYTES as u64 <= end {
            self.file.read_at(at, &mut head)?;
            let length = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
            let (number, sum) = (last.number + 1, &head[28..44]);
            let next = at + RECORD_HEAD_BYTES as u64 + length;
            if head[4..12] != number.to_le_bytes() || head[12..28] != last.sum || next > end {
                break;
            }
            let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
            self.file.read_at(at + RECORD_HEAD_BYTES as u64, &mut body)?;
            if record_sum(number, &last.sum, &body)[..] != *sum {
                break;
            }
            take(&Bytes::from(body))?;
            last = Position { number, sum: sum.try_into().expect("the slice has sixteen bytes") };
            at = next;
        }
        Ok(last)
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    pub(super) fn file(&self) -> &Arc<dyn VfsFile> {
        &self.file
    }
}

fn short(hash: blake3::Hash) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(&hash.as_bytes()[..16]);
    sum
}

pub(super) fn header_sum(format: &[u8]) -> [u8; 16] {
    short(blake3::Hasher::new_derive_key("eid 2026 header of a batch log").update(format).finalize())
}

fn record_sum(number: u64, before: &[u8; 16], body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("eid 2026 record of a batch log");
    short(hasher.update(&number.to_le_bytes()).update(before).update(body).finalize())
}

/// The changes of a batch as the body of a record.
pub(super) fn encode_body(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::with_capacity(batch.bytes_len() + 8 * (batch.puts.len() + batch.deletes.len()) + 8);
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length(batch.puts.len()));
    for (key, value) in &batch.puts {
        out.extend_from_slice(&length(key.len()));
        out.extend_from_slice(&length(value.len()));
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    for key in &batch.deletes {
        out.extend_from_slice(&length(key.len()));
        out.extend_from_slice(key);
    }
    out
}

/// Puts and deletes.
pub(super) type Changes = (Vec<(Key, Value)>, Vec<Key>);

/// What [`encode_body`] wrote.
pub(super) fn decode_body(body: &Bytes) -> Result<Changes, BackendError> {
    let parse = || {
        let mut rest = &body[..];
        let length = |rest: &mut &[u8]| -> Option<usize> {
            let (head, tail) = rest.split_at_checked(4)?;
            *rest = tail;
            usize::try_from(u32::from_le_bytes(head.try_into().ok()?)).ok()
        };
        let take = |rest: &mut &[u8], len: usize| -> Option<Bytes> {
            let (head, tail) = rest.split_at_checked(len)?;
            *rest = tail;
            Some(body.slice_ref(head))
        };
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for _ in 0..length(&mut rest)? {
            let (key, value) = (length(&mut rest)?, length(&mut rest)?);
            puts.push((take(&mut rest, key)?.to_vec(), take(&mut rest, value)?));
        }
        while !rest.is_empty() {
            let key = length(&mut rest)?;
            deletes.push(take(&mut rest, key)?.to_vec());
        }
        Some((puts, deletes))
    };
    parse().ok_or(BackendError::Corrupt { what: "a record of the log" })
}
