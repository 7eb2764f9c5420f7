//! A compressed batch becomes what it was, or nothing: what a frame says of itself is compared with the bounds before
//! anything is taken from it, and it has to keep its word.
//!
//! A frame is one of RFC 8878 in the narrowest form: with its content's length, without dictionary and checksum, and with
//! nothing behind it. Without the cargo feature `zstd` nothing is compressed, and no compressed batch is read.

use bytes::Bytes;

use crate::limits::{COMPRESS_BYTES_MIN, COMPRESS_LEFT, COMPRESS_RATIO_MAX, FRAME_BYTES_MAX};
#[cfg(feature = "zstd")]
use crate::limits::{COMPRESS_LEVEL, COMPRESS_PERCENT_MAX};
use crate::message::{Batch, CompressedBatch};

/// Says why a compressed batch is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// It is not one whole frame in the form that is sent.
    #[error("a compressed batch is malformed")]
    Malformed,
    /// It says that there is more in it than may be.
    #[error("a compressed batch of {0} bytes says that there are {1} in it")]
    TooMuch(usize, u64),
    /// It refers to more than may be held for it.
    #[error("a compressed batch needs a window of {0} bytes")]
    Window(u64),
    /// This program does not read any.
    #[error("compressed batches are not read here")]
    Unknown,
}

impl Batch {
    /// The same, compressed. Nothing where that does not pay: small ones, and such as do not become a tenth smaller.
    #[must_use]
    pub fn compress(&self) -> Option<CompressedBatch> {
        if self.entries.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        let frame = compress(&self.entries)?;
        // Whoever takes it takes no more than that: what would be smaller still goes as it is.
        let fits = self.entries.len() <= frame.len() * COMPRESS_RATIO_MAX;
        fits.then_some(CompressedBatch { frame: frame.into(), upto: self.upto })
    }
}

impl CompressedBatch {
    /// What it was before.
    ///
    /// # Errors
    /// When it is not one frame that keeps to the bounds and to what it says. Memory is taken only for what it may become.
    pub fn decompress(&self) -> Result<Batch, DecompressError> {
        let len = content_len(&self.frame)?;
        Ok(Batch { entries: decompress(&self.frame, len)?, upto: self.upto })
    }
}

#[cfg(feature = "zstd")]
fn compress(packed: &[u8]) -> Option<Vec<u8>> {
    let mut frame = Vec::with_capacity(packed.len() / 100 * COMPRESS_PERCENT_MAX);
    // The only error is that it does not fit, and then it does not pay.
    zstd_safe::compress(&mut frame, packed, COMPRESS_LEVEL).is_ok().then_some(frame)
}

#[cfg(not(feature = "zstd"))]
fn compress(_packed: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(feature = "zstd")]
fn decompress(frame: &[u8], len: usize) -> Result<Bytes, DecompressError> {
    let mut packed = Vec::with_capacity(len);
    match zstd_safe::decompress(&mut packed, frame) {
        Ok(found) if found == len => Ok(packed.into()),
        Ok(_) | Err(_) => Err(DecompressError::Malformed),
    }
}

#[cfg(not(feature = "zstd"))]
fn decompress(_frame: &[u8], _len: usize) -> Result<Bytes, DecompressError> {
    Err(DecompressError::Unknown)
}

/// The bytes that a frame says are in it, once it is known to be one frame, whole and within the bounds.
fn content_len(frame: &[u8]) -> Result<usize, DecompressError> {
    let mut rest = Rest(frame);
    if rest.number(4)? != 0xFD2F_B528 {
        return Err(DecompressError::Malformed);
    }
    let descriptor = rest.number(1)?;
    let is_single = descriptor & 0x20 != 0;
    if descriptor & 0x1F != 0 {
        // A checksum, a dictionary, or a bit that has no meaning.
        return Err(DecompressError::Malformed);
    }
    let mut window = 0;
    if !is_single {
        let byte = rest.number(1)?;
        let base = 1_u64 << (10 + (byte >> 3));
        window = base + base / 8 * (byte & 7);
    }
    let len = match descriptor >> 6 {
        0 if is_single => rest.number(1)?,
        0 => return Err(DecompressError::Malformed),
        1 => rest.number(2)? + 256,
        2 => rest.number(4)?,
        _ => rest.number(8)?,
    };
    if window > FRAME_BYTES_MAX as u64 {
        return Err(DecompressError::Window(window));
    }
    let most = frame.len().saturating_mul(COMPRESS_RATIO_MAX).min(FRAME_BYTES_MAX);
    if len > most as u64 {
        return Err(DecompressError::TooMuch(frame.len(), len));
    }
    rest.blocks()?;
    usize::try_from(len).map_err(|_| DecompressError::Malformed)
}

/// What is left of a frame.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// A number of so many bytes, at most eight, the lowest first.
    fn number(&mut self, bytes: usize) -> Result<u64, DecompressError> {
        let (number, rest) = self.0.split_at_checked(bytes).ok_or(DecompressError::Malformed)?;
        self.0 = rest;
        Ok(number.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The blocks, of which the last one ends the frame.
    fn blocks(&mut self) -> Result<(), DecompressError> {
        loop {
            let head = self.number(3)?;
            let (is_last, kind, size) = (head & 1 == 1, head >> 1 & 3, head >> 3);
            let bytes = match kind {
                // One byte, so many times.
                1 => 1,
                0 | 2 => size,
                _ => return Err(DecompressError::Malformed),
            };
            let bytes = usize::try_from(bytes).map_err(|_| DecompressError::Malformed)?;
            self.0 = self.0.get(bytes..).ok_or(DecompressError::Malformed)?;
            if is_last {
                return if self.0.is_empty() { Ok(()) } else { Err(DecompressError::Malformed) };
            }
        }
    }
}

/// A batch as it is sent.
#[derive(Debug)]
pub(crate) enum Packed {
    Plain(Batch),
    Compressed(CompressedBatch),
}

impl Packed {
    pub(crate) fn upto(&self) -> u64 {
        match self {
            Self::Plain(batch) => batch.upto,
            Self::Compressed(batch) => batch.upto,
        }
    }
}

/// How the batches of a sender go: compressed where the other side reads that and it pays.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packing {
    /// The other side reads compressed batches.
    compresses: bool,
    /// So many batches go as they are before it is tried again.
    left: u32,
}

impl Packing {
    pub(crate) fn new(compresses: bool) -> Self {
        Self { compresses, left: 0 }
    }

    /// Whether compressed batches are taken from the other side.
    pub(crate) fn takes_compressed(self) -> bool {
        self.compresses
    }

    pub(crate) fn pack(&mut self, batch: Batch) -> Packed {
        if !self.compresses || self.left > 0 {
            self.left = self.left.saturating_sub(1);
            return Packed::Plain(batch);
        }
        match batch.compress() {
            Some(compressed) => Packed::Compressed(compressed),
            None => {
                // A small one says nothing of others.
                self.left = if batch.entries.len() < COMPRESS_BYTES_MIN { 0 } else { COMPRESS_LEFT };
                Packed::Plain(batch)
            }
        }
    }
}
