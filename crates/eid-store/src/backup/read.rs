//! From a stream to rows: strict, and bounded by what the stream really holds.

use std::io::{self, Read};

use super::{BACKUP_MAGIC, BackupError, BackupSummary, VERSION, chain, check_first, header};
use crate::backend::{Key, Value};
use crate::limits::{BACKUP_FRAME_BYTES, BACKUP_KEY_BYTES_MAX, BACKUP_VALUE_BYTES_MAX};

/// Gives the rows of a backup in their order, each after the frames that it lies in were checked, and tells how many bytes
/// of the stream are done. Only when it returns without an error were these all the rows that were written.
///
/// # Errors
/// Whatever `take` fails with, and [`BackupError::NotABackup`], [`BackupError::Newer`], [`BackupError::Damaged`] for a
/// stream that is altered, cut off or goes on after its end. A backup that a newer version of the rows was written with is
/// [`crate::BackendError::NewerFormat`], before any row is given.
pub fn read_backup(
    from: &mut dyn Read,
    take: &mut dyn FnMut(Key, Value) -> Result<(), BackupError>,
    progress: &mut dyn FnMut(u64),
) -> Result<BackupSummary, BackupError> {
    let mut stream = Stream { from, at: 0 };
    let mut before = stream.header()?;
    let mut rows = Rows::default();
    let mut frame = Vec::new();
    loop {
        let begin = stream.at;
        let damaged = |what| BackupError::Damaged { at: begin, what };
        let length = stream.length()?;
        let bytes = usize::try_from(length).map_err(|_| damaged("a frame is too long"))?;
        if bytes > BACKUP_FRAME_BYTES {
            return Err(damaged("a frame is too long"));
        }
        if length == 0 {
            let mut counts = [0; 16];
            stream.fill(&mut counts)?;
            if stream.hash()? != chain(&before, 0, &counts) {
                return Err(damaged("the end is not as it was written"));
            }
            stream.nothing_more()?;
            progress(stream.at);
            return rows.finish(&counts).map_err(damaged);
        }
        frame.resize(bytes, 0);
        stream.fill(&mut frame)?;
        let hash = stream.hash()?;
        if hash != chain(&before, length, &frame) {
            return Err(damaged("a frame is not as it was written"));
        }
        before = hash;
        rows.take(&frame, begin, take)?;
        progress(stream.at);
    }
}

struct Stream<'a> {
    from: &'a mut dyn Read,
    at: u64,
}

impl Stream<'_> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), BackupError> {
        match self.from.read_exact(out) {
            Ok(()) => {
                self.at += out.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(BackupError::Damaged { at: self.at, what: "it ends too early" })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn header(&mut self) -> Result<[u8; 32], BackupError> {
        let mut magic = [0; 8];
        match self.fill(&mut magic) {
            Err(BackupError::Damaged { .. }) => return Err(BackupError::NotABackup),
            done => done?,
        }
        if magic != BACKUP_MAGIC {
            return Err(BackupError::NotABackup);
        }
        match self.length()? {
            VERSION => Ok(header().1),
            0 => Err(BackupError::Damaged { at: 8, what: "its version is none" }),
            found => Err(BackupError::Newer { found, known: VERSION }),
        }
    }

    fn length(&mut self) -> Result<u32, BackupError> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        Ok(u32::from_le_bytes(length))
    }

    fn hash(&mut self) -> Result<[u8; 32], BackupError> {
        let mut hash = [0; 32];
        self.fill(&mut hash)?;
        Ok(hash)
    }

    fn nothing_more(&mut self) -> Result<(), BackupError> {
        match self.from.read_exact(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Err(BackupError::Damaged { at: self.at, what: "something follows its end" }),
        }
    }
}

/// Rows that are cut into frames.
#[derive(Default)]
struct Rows {
    /// The beginning of a row whose rest lies in the next frames.
    begun: Vec<u8>,
    last: Option<Key>,
    summary: BackupSummary,
}

const LENGTHS: usize = 8;

/// The length of the key and of the value that these bytes begin with.
fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize| -> Option<usize> {
        usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
    };
    Some((number(0)?, number(4)?))
}

impl Rows {
    fn take(
        &mut self,
        mut frame: &[u8],
        at: u64,
        take: &mut dyn FnMut(Key, Value) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let damaged = |what| BackupError::Damaged { at, what };
        loop {
            if self.begun.len() < LENGTHS && !self.more(&mut frame, LENGTHS) {
                return Ok(());
            }
            let (key, value) = lengths(&self.begun).expect("both lengths are there");
            if key > BACKUP_KEY_BYTES_MAX || value > BACKUP_VALUE_BYTES_MAX {
                return Err(damaged("a row is too long"));
            }
            if !self.more(&mut frame, LENGTHS + key + value) {
                return Ok(());
            }
            let row = std::mem::take(&mut self.begun);
            let (key, value) = row[LENGTHS..].split_at(key);
            let (key, value) = (key.to_vec(), Value::copy_from_slice(value));
            let in_order = match &self.last {
                None => check_first(&key, &value)?,
                Some(last) => *last < key,
            };
            if !in_order {
                return Err(damaged("its rows are not those of a store in their order"));
            }
            self.summary.rows += 1;
            self.summary.bytes += (key.len() + value.len()) as u64;
            self.last = Some(key.clone());
            take(key, value)?;
        }
    }

    /// Adds from the frame until so many bytes are there. Gives whether they are. Takes memory as bytes arrive, whatever a
    /// length says.
    fn more(&mut self, frame: &mut &[u8], wanted: usize) -> bool {
        let lacking = wanted - self.begun.len();
        let (now, later) = frame.split_at(lacking.min(frame.len()));
        self.begun.extend_from_slice(now);
        *frame = later;
        self.begun.len() == wanted
    }

    fn finish(self, counts: &[u8; 16]) -> Result<BackupSummary, &'static str> {
        let mut expected = [0; 16];
        expected[..8].copy_from_slice(&self.summary.rows.to_le_bytes());
        expected[8..].copy_from_slice(&self.summary.bytes.to_le_bytes());
        match (self.begun.is_empty(), expected == *counts, self.last) {
            (true, true, Some(_)) => Ok(self.summary),
            (_, _, None) => Err("it holds no store"),
            _ => Err("its end tells of other rows"),
        }
    }
}
