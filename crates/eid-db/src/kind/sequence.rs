//! Sequences that many edit at once, under a prefix of keys in any view: a text, a list in a document, a field of a row.
//!
//! ```text
//! edits   [[ref ...], [insert ...], [element ref, offset, count ...]]
//! ref     [entry id | null, op]
//! insert  [0, content] | [1, element ref, offset, content] | [2, element ref, offset, content]
//! ```
//! An element is named by the operation that put it in and its place among all that this operation puts in. Element
//! ref 0 is the operation itself, others count from 1 through the refs, and null is the same entry. A run is put in at
//! the start (0), after an element (1) or before one (2); then elements are deleted. Refs are listed in the order of
//! their first use, once each; deletes ascend and neither overlap nor touch. Anything else does not decode.

#![expect(dead_code, reason = "kinds that hold sequences use it")]

mod content;
mod edits;

use std::marker::PhantomData;
use std::ops::Range;

use eid_core::dag::Seq;
use eid_core::{EntryId, ReadError};
use eid_crdt::sequence;
use eid_store::{ViewRows, Wanted};

use crate::error::DbError;
use crate::rows::Rows;
use crate::stamp::Stamp;

pub(crate) use content::{Content, Element};
pub(crate) use edits::{Edits, Ref};
pub(crate) use sequence::{Side, Standing};

/// An operation: what the algorithm takes for the origin of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpId {
    /// The position of its entry here.
    pub(crate) seq: Seq,
    /// Its place in the entry.
    pub(crate) op: u32,
}

/// The name of an element.
pub(crate) type Name = sequence::Name<OpId>;
/// Consecutive elements of one operation.
pub(crate) type Span = sequence::Span<OpId>;
/// A place that stays with its neighbour.
pub(crate) type Cursor = sequence::Cursor<OpId>;
/// A change in positions.
pub(crate) type Delta<R> = sequence::Delta<R>;

impl OpId {
    /// The operation that a stamp belongs to.
    pub(crate) fn of(stamp: &Stamp) -> Self {
        Self { seq: stamp.seq, op: stamp.op }
    }
}

/// The name of an element as it travels: the entry by its id, nothing for the entry that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireName {
    pub(crate) op: Ref,
    pub(crate) offset: u32,
}

/// Names the rows that an apply reads, as far as they are known before the positions of the entries that it names.
pub(crate) fn wanted<R>(prefix: &[u8], edits: &Edits<R>, wanted: &mut Wanted) {
    _ = (prefix, edits, wanted);
}

/// Applies edits, or keeps them until what they name is here, and gives what changes; what had waited for them comes
/// with them. Elements of operations below the floor are not shown. Applied again, it changes nothing.
pub(crate) fn apply<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    stamp: Stamp,
    edits: &Edits<R>,
    floor: Option<Stamp>,
) -> Result<Vec<Delta<R>>, ReadError> {
    _ = (view, prefix, stamp, edits, floor);
    Err(ReadError::new(Unfinished))
}

/// Hides whatever operations below a stamp have put in. Floors only rise.
pub(crate) fn raise_floor<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    floor: Stamp,
) -> Result<Vec<Delta<R>>, ReadError> {
    _ = (view, prefix, floor);
    Err(ReadError::new(Unfinished))
}

/// Makes an operation void or standing. Work is in proportion to what the operation did.
pub(crate) fn set_standing<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    op: OpId,
    standing: Standing,
) -> Result<Vec<Delta<R>>, ReadError> {
    _ = (view, prefix, op, standing);
    Err(ReadError::new(Unfinished))
}

/// Hides one element for a reason of the caller's own, or takes that back. An element that is not here is nothing.
pub(crate) fn set_taken<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    name: Name,
    taken: bool,
) -> Result<Vec<Delta<R>>, ReadError> {
    _ = (view, prefix, name, taken);
    Err(ReadError::new(Unfinished))
}

/// The stamp of an operation that is applied here; nothing while it waits or is not here.
pub(crate) fn stamp_of(view: &mut dyn ViewRows, prefix: &[u8], op: OpId) -> Result<Option<Stamp>, ReadError> {
    _ = (view, prefix, op);
    Err(ReadError::new(Unfinished))
}

/// Whether an element is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// No operation that is applied here has put it in.
    Absent,
    /// A standing operation has deleted it, or it is below the floor.
    Gone,
    /// It is there; it may be taken.
    There,
}

/// Whether an element is there.
pub(crate) fn presence(view: &mut dyn ViewRows, prefix: &[u8], name: Name) -> Result<Presence, ReadError> {
    _ = (view, prefix, name);
    Err(ReadError::new(Unfinished))
}

/// The position of an element that an operation of entry `at` names; nothing while its entry is not here.
pub(crate) fn local_name(
    view: &mut dyn ViewRows,
    at: Seq,
    name: &WireName,
) -> Result<Option<Name>, ReadError> {
    _ = (view, at, name);
    Err(ReadError::new(Unfinished))
}

/// The name of an element for an operation that a transaction stages.
pub(crate) fn wire_name(rows: &dyn Rows, name: &Name) -> Result<WireName, DbError> {
    _ = (rows, name);
    Err(ReadError::new(Unfinished).into())
}

/// Reads one sequence, page by page as it is asked.
#[derive(Debug)]
pub(crate) struct SequenceReader<'a, R> {
    rows: &'a dyn Rows,
    prefix: Vec<u8>,
    runs: PhantomData<R>,
}

impl<'a, R: Content> SequenceReader<'a, R> {
    /// Opens the sequence under a prefix; one that nobody has written is empty.
    pub(crate) fn open(rows: &'a dyn Rows, prefix: &[u8]) -> Result<Self, DbError> {
        Ok(Self { rows, prefix: prefix.to_vec(), runs: PhantomData })
    }

    /// How many elements are shown.
    pub(crate) fn len(&self) -> usize {
        _ = (self.rows, &self.prefix, self.runs);
        0
    }

    /// The elements of a range of positions, as far as there are any.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<R, DbError> {
        _ = range;
        Err(ReadError::new(Unfinished).into())
    }

    /// The name of the element at a position.
    pub(crate) fn name_at(&self, position: usize) -> Result<Option<Name>, DbError> {
        _ = position;
        Err(ReadError::new(Unfinished).into())
    }

    /// The names of the elements of a range.
    pub(crate) fn names(&self, range: Range<usize>) -> Result<Vec<Span>, DbError> {
        _ = range;
        Err(ReadError::new(Unfinished).into())
    }

    /// A cursor at a position; nothing beyond the end.
    pub(crate) fn cursor(&self, position: usize, side: Side) -> Result<Option<Cursor>, DbError> {
        _ = (position, side);
        Err(ReadError::new(Unfinished).into())
    }

    /// Where a cursor stands; nothing if its neighbour never came here.
    pub(crate) fn position(&self, cursor: &Cursor) -> Result<Option<usize>, DbError> {
        _ = cursor;
        Err(ReadError::new(Unfinished).into())
    }

    /// Which operations put in the elements of a range: how many each, in order.
    pub(crate) fn blame(&self, range: Range<usize>) -> Result<Vec<(usize, OpId)>, DbError> {
        _ = range;
        Err(ReadError::new(Unfinished).into())
    }
}

/// The edits that delete `count` elements from a position on and put a run there.
///
/// # Errors
/// [`DbError::Position`] beyond the end.
pub(crate) fn splice_edits<R: Content>(
    rows: &dyn Rows,
    prefix: &[u8],
    position: usize,
    count: usize,
    content: R,
) -> Result<Edits<R>, DbError> {
    _ = (rows, prefix, position, count, content);
    Err(ReadError::new(Unfinished).into())
}

/// The edits that put a run in at a position.
pub(crate) fn insert_edits<R: Content>(
    rows: &dyn Rows,
    prefix: &[u8],
    position: usize,
    content: R,
) -> Result<Edits<R>, DbError> {
    splice_edits(rows, prefix, position, 0, content)
}

/// The edits that delete elements from a position on.
pub(crate) fn delete_edits<R: Content + Default>(
    rows: &dyn Rows,
    prefix: &[u8],
    position: usize,
    count: usize,
) -> Result<Edits<R>, DbError> {
    splice_edits(rows, prefix, position, count, R::default())
}

/// A whole sequence in memory, for many edits between two commits.
#[derive(Debug)]
pub(crate) struct Buffer<R> {
    runs: PhantomData<R>,
}

impl<R: Content + Default> Buffer<R> {
    /// Takes in all of a sequence.
    pub(crate) fn load(rows: &dyn Rows, prefix: &[u8]) -> Result<Self, DbError> {
        _ = (rows, prefix);
        Err(ReadError::new(Unfinished).into())
    }

    /// How many elements are shown.
    pub(crate) fn len(&self) -> usize {
        0
    }

    /// The elements of a range of positions, as far as there are any.
    pub(crate) fn read(&self, range: Range<usize>) -> R {
        _ = range;
        R::default()
    }

    /// Deletes `count` elements from a position on and puts a run there.
    ///
    /// # Errors
    /// [`DbError::Position`] beyond the end.
    pub(crate) fn splice(&mut self, position: usize, count: usize, content: R) -> Result<(), DbError> {
        _ = (position, count, content);
        Err(ReadError::new(Unfinished).into())
    }

    /// The edits since the last [`Buffer::seal`], as one operation; nothing when there are none. From here on until
    /// `seal`, further edits belong to the next operation.
    pub(crate) fn take_edits(
        &mut self,
        id_of: impl FnMut(Seq) -> Result<EntryId, DbError>,
    ) -> Result<Option<Edits<R>>, DbError> {
        _ = id_of;
        Err(ReadError::new(Unfinished).into())
    }

    /// Gives the operation that was taken last its place among all, once it is committed.
    pub(crate) fn seal(&mut self, stamp: Stamp) {
        _ = stamp;
    }

    /// Takes in edits of others and gives what changes here.
    pub(crate) fn integrate(
        &mut self,
        view: &mut dyn ViewRows,
        stamp: Stamp,
        edits: &Edits<R>,
    ) -> Result<Vec<Delta<R>>, ReadError> {
        _ = (view, stamp, edits);
        Err(ReadError::new(Unfinished))
    }

    /// A cursor at a position; nothing beyond the end.
    pub(crate) fn cursor(&self, position: usize, side: Side) -> Option<Cursor> {
        _ = (position, side);
        None
    }

    /// Where a cursor stands.
    pub(crate) fn position(&self, cursor: &Cursor) -> Option<usize> {
        _ = cursor;
        None
    }
}

/// A part of this module that does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sequences are not stored")]
struct Unfinished;
