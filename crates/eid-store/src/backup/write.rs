//! From a snapshot to a stream.

use std::io::Write;

use super::{BackupError, BackupSummary, chain, header};
use crate::backend::{Scan, Snapshot};
use crate::cursor::Cursor;
use crate::limits::{BACKUP_FRAME_BYTES, BACKUP_KEY_BYTES_MAX, BACKUP_SCAN_BYTES, BACKUP_VALUE_BYTES_MAX};

/// Writes all rows of a snapshot.
pub(super) fn write_backup(
    snapshot: &dyn Snapshot,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<BackupSummary, BackupError> {
    let (header, before) = header();
    out.write_all(&header)?;
    let mut frames = Frames { out, before, frame: Vec::with_capacity(BACKUP_FRAME_BYTES) };
    let mut summary = BackupSummary::default();
    let mut left = Scan { max_bytes: BACKUP_SCAN_BYTES, ..Scan::prefix(&[]) };
    loop {
        let rows = snapshot.scan_many(std::slice::from_ref(&left))?.concat();
        let Some((last, _)) = rows.last() else { break };
        left.from = Cursor::after(last);
        for (key, value) in &rows {
            let too_long = key.len() > BACKUP_KEY_BYTES_MAX || value.len() > BACKUP_VALUE_BYTES_MAX;
            let (Ok(key_length), Ok(value_length), false) =
                (u32::try_from(key.len()), u32::try_from(value.len()), too_long)
            else {
                return Err(BackupError::RowTooLong { bytes: key.len() + value.len() });
            };
            frames.put(&key_length.to_le_bytes())?;
            frames.put(&value_length.to_le_bytes())?;
            frames.put(key)?;
            frames.put(value)?;
            summary.rows += 1;
            summary.bytes += (key.len() + value.len()) as u64;
        }
        progress(summary.bytes);
    }
    frames.end(summary)?;
    Ok(summary)
}

struct Frames<'a> {
    out: &'a mut dyn Write,
    before: [u8; 32],
    frame: Vec<u8>,
}

impl Frames<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let fits = bytes.len().min(BACKUP_FRAME_BYTES - self.frame.len());
            self.frame.extend_from_slice(&bytes[..fits]);
            bytes = &bytes[fits..];
            if self.frame.len() == BACKUP_FRAME_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        let length = u32::try_from(self.frame.len()).expect("a frame is bounded");
        self.before = chain(&self.before, length, &self.frame);
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.frame)?;
        self.out.write_all(&self.before)?;
        self.frame.clear();
        Ok(())
    }

    fn end(mut self, summary: BackupSummary) -> Result<(), BackupError> {
        if !self.frame.is_empty() {
            self.flush()?;
        }
        let counts = [summary.rows.to_le_bytes(), summary.bytes.to_le_bytes()].concat();
        let hash = chain(&self.before, 0, &counts);
        self.out.write_all(&0u32.to_le_bytes())?;
        self.out.write_all(&counts)?;
        self.out.write_all(&hash)?;
        Ok(self.out.flush()?)
    }
}
