//! Kind `text`: one sequence of Unicode scalar values, under the empty prefix.
//!
//! ```text
//! edit  [0, edits]
//! ```

use bytes::Bytes;
use eid_core::ReadError;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_store::{ViewRows, Wanted};

use super::sequence::{self, Edits};
use crate::stamp::Stamp;

/// The name of this kind in payloads.
pub(crate) const KIND: &str = "text";

/// Under which keys of the view the sequence is.
pub(crate) const PREFIX: &[u8] = &[];

const EDIT: u64 = 0;

pub(crate) fn encode(edits: &Edits<String>) -> Bytes {
    let mut w = Writer::new();
    edits.write(w.array(2).uint(EDIT));
    Bytes::from(w.into_bytes())
}

/// Decodes an operation, strictly.
pub(crate) fn decode(bytes: &Bytes) -> Result<Edits<String>, CborError> {
    let mut r = Reader::new(bytes);
    r.array_exact(2)?;
    if r.uint()? != EDIT {
        return Err(CborError::Type);
    }
    let edits = Edits::read(&mut r)?;
    r.finish()?;
    Ok(edits)
}

/// Names the rows that the operation reads.
pub(crate) fn reads(op: &Edits<String>, wanted: &mut Wanted) {
    sequence::wanted(PREFIX, op, wanted);
}

/// Joins the operation with the rows.
pub(crate) fn apply(op: &Edits<String>, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    sequence::apply(view, PREFIX, stamp, op, None)?;
    Ok(())
}
