//! Kind `text`: one sequence of Unicode scalar values, under the empty prefix.
//!
//! ```text
//! edit  [0, edits]
//! ```

use bytes::Bytes;
use eid_core::ReadError;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_store::{ViewRows, Wanted};

use super::sequence::{self, Edits, OpId, SequenceReader, Standing};
use crate::error::DbError;
use crate::limits::TEXT_PAGE;
use crate::rows::Rows;
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
pub(crate) fn reads(op: &Edits<String>, stamp: Stamp, wanted: &mut Wanted) {
    sequence::wanted(PREFIX, op, wanted);
    sequence::wanted_own(PREFIX, OpId::of(&stamp), wanted);
}

/// Joins the operation with the rows. What a void one puts in is hidden, and it deletes nothing.
pub(crate) fn apply(
    op: &Edits<String>,
    stamp: Stamp,
    standing: Standing,
    view: &mut dyn ViewRows,
) -> Result<(), ReadError> {
    sequence::apply(view, PREFIX, stamp, standing, op, None)?;
    Ok(())
}

/// How many characters there are.
pub(crate) fn len(rows: &dyn Rows) -> Result<usize, DbError> {
    Ok(SequenceReader::<String>::open(rows, PREFIX)?.len())
}

/// The text in pages of [`TEXT_PAGE`] characters, so that no more than one is held at a time.
pub(crate) fn pages(rows: &dyn Rows, each: &mut dyn FnMut(&str)) -> Result<(), DbError> {
    for from in (0..len(rows)?).step_by(TEXT_PAGE) {
        each(&SequenceReader::<String>::open(rows, PREFIX)?.read(from..from + TEXT_PAGE)?);
    }
    Ok(())
}

/// Makes an operation void or standing.
pub(crate) fn set_standing(view: &mut dyn ViewRows, op: OpId, standing: Standing) -> Result<(), ReadError> {
    sequence::set_standing::<String>(view, &[], op, standing).map(drop)
}
