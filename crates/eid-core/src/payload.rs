//! The payload of a section: `[kind, salt, ops]`. Its operations never decide validity, except in the settings.

use bytes::Bytes;

use crate::cbor::{CborError, Reader, Writer};
use crate::limits::{NESTING_MAX, OPS_MAX, SALT_BYTES_MAX, STORE_NAME_BYTES_MAX};

/// A payload that decoded: the kind of store it is for, and its operations, each still encoded.
///
/// An operation is an array whose first item is its code. What it means is for the kind of store to say; one that
/// it cannot decode has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The kind of the store, such as `doc` or `table`.
    pub kind: String,
    /// Random padding: keeps the hash of an erased short payload from being guessed.
    pub salt: Bytes,
    /// The operations, each as the canonical CBOR of one array.
    pub ops: Vec<Bytes>,
}

/// Says that a payload as a whole does not decode. It is kept and has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload does not decode")]
pub struct PayloadError(#[from] CborError);

impl Payload {
    /// Decodes the envelope and delimits the operations.
    pub fn decode(bytes: &Bytes) -> Result<Self, PayloadError> {
        let mut r = Reader::new(bytes);
        r.array_exact(3)?;
        let kind = r.text(STORE_NAME_BYTES_MAX)?.to_owned();
        let salt = Bytes::copy_from_slice(r.bytes(SALT_BYTES_MAX)?);
        let count = r.array(OPS_MAX)?;
        let mut ops = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            let start = r.position();
            r.skip(NESTING_MAX)?;
            ops.push(bytes.slice(start..r.position()));
        }
        r.finish()?;
        Ok(Self { kind, salt, ops })
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encode(kind: &str, salt: &[u8], ops: &[impl AsRef<[u8]>]) -> Bytes {
        let mut w = Writer::new();
        w.array(3).text(kind).bytes(salt).array(ops.len());
        for op in ops {
            w.raw(op.as_ref());
        }
        Bytes::from(w.into_bytes())
    }
}
