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

mod apply;
mod content;
mod edits;
mod pages;
mod reader;
pub(crate) mod undo;

use eid_core::ReadError;
use eid_core::dag::Seq;
use eid_crdt::sequence::{self, Marks, Pages as _};
use eid_store::{ViewRows, Wanted};

use crate::error::DbError;
use crate::rows::Rows;
use crate::stamp::{STAGED, Stamp};
use apply::Changing;
use pages::{head_key, leaf_key, operation_key};

pub(crate) use content::Content;
pub(crate) use content::Element;
pub(crate) use edits::{Edits, Ref};
pub(crate) use reader::{Piece, SequenceReader};
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
/// One edit of an operation.
pub(crate) type Op<R> = sequence::Op<OpId, R>;
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

/// Names the rows that an apply reads, as far as they are known: those of the operations that it names follow from the
/// positions of their entries, and those of the pages from the rows of these operations.
pub(crate) fn wanted<R>(prefix: &[u8], edits: &Edits<R>, wanted: &mut Wanted) {
    wanted.key(&head_key(prefix));
    wanted.key(&leaf_key(prefix, 0));
    edits.refs().iter().filter_map(|held| held.entry).for_each(|id| wanted.id(id));
}

/// Names the row of the operation itself, which tells whether it is applied already.
pub(crate) fn wanted_own(prefix: &[u8], own: OpId, wanted: &mut Wanted) {
    wanted.key(&operation_key(prefix, own));
}

fn changing<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    change: impl FnOnce(&mut Changing<'_, R>) -> Result<(), ReadError>,
) -> Result<Vec<Delta<R>>, ReadError> {
    let mut changing = Changing::open(view, prefix)?;
    change(&mut changing)?;
    Ok(changing.finish())
}

/// Applies edits, or keeps them until what they name is here, and gives what changes; what had waited for them comes
/// with them. Elements of operations below the floor are not shown, nor are those of void ones, which delete nothing.
/// Applied again, it changes nothing.
pub(crate) fn apply<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    stamp: Stamp,
    standing: Standing,
    edits: &Edits<R>,
    floor: Option<Stamp>,
) -> Result<Vec<Delta<R>>, ReadError> {
    changing(view, prefix, |at| {
        if let Some(floor) = floor {
            at.changes = at.list.raise_floor(floor)?;
        }
        at.apply(stamp, standing, edits)
    })
}

/// Applies an operation whose names were resolved by the caller, all of them to operations that are applied. Applied
/// again, it changes nothing.
pub(crate) fn integrate<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    stamp: Stamp,
    standing: Standing,
    ops: Vec<Op<R>>,
) -> Result<Vec<Delta<R>>, ReadError> {
    changing(view, prefix, |at| {
        at.changes = at.list.integrate(OpId::of(&stamp), stamp, standing, ops)?;
        Ok(())
    })
}

/// Hides whatever operations below a stamp have put in. Floors only rise.
pub(crate) fn raise_floor<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    floor: Stamp,
) -> Result<Vec<Delta<R>>, ReadError> {
    changing(view, prefix, |at| {
        at.changes = at.list.raise_floor(floor)?;
        Ok(())
    })
}

/// Makes an operation that has come void or standing. Work is in proportion to what the operation did.
pub(crate) fn set_standing<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    op: OpId,
    standing: Standing,
) -> Result<Vec<Delta<R>>, ReadError> {
    changing(view, prefix, |at| at.set_standing(op, standing))
}

/// Hides one element for a reason of the caller's own, or takes that back. An element that is not here is nothing.
pub(crate) fn set_taken<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    name: Name,
    taken: bool,
) -> Result<Vec<Delta<R>>, ReadError> {
    changing(view, prefix, |at| {
        at.changes = at.list.set_taken(name, taken)?;
        Ok(())
    })
}

/// The stamp of an operation that is applied here; nothing while it waits or is not here.
pub(crate) fn stamp_of<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    op: OpId,
) -> Result<Option<Stamp>, ReadError> {
    Ok(Changing::<R>::open(view, prefix)?.list.pages().operation(op)?.map(|held| held.stamp))
}

/// Whether an operation is applied here that has put elements in.
pub(crate) fn has_put_in<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    op: OpId,
) -> Result<bool, ReadError> {
    let held = Changing::<R>::open(view, prefix)?.list.pages().operation(op)?;
    Ok(held.is_some_and(|held| held.count > 0))
}

/// An element, if it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence<R> {
    /// No operation that is applied here has put it in.
    Absent,
    /// A standing operation has deleted it, it is below the floor, or what put it in is void.
    Gone,
    /// It is there, and alone in this run; it may be taken.
    There(R),
}

/// An element, if it is there.
pub(crate) fn presence<R: Content>(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    name: Name,
) -> Result<Presence<R>, ReadError> {
    let list = Changing::<R>::open(view, prefix)?.list;
    let Some((held, run)) = list.element(&name)? else { return Ok(Presence::Absent) };
    let gone = held.deleted > 0 || held.marks.has(Marks::VOID) || list.is_floored(name.entry)?;
    Ok(if gone { Presence::Gone } else { Presence::There(run) })
}

/// The edits that delete `count` elements from a position on and put a run there. Edits that do nothing are not to be
/// written: no replica would read them.
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
    Ok(splice_all_edits(rows, prefix, vec![(position, count, content)])?.unwrap_or_default())
}

/// The edits that put runs in the place of parts: from which position on, how many elements, and what. Positions are
/// those of what `rows` shows; the parts ascend, and there is an element between any two. Nothing if they do nothing.
pub(crate) fn splice_all_edits<R: Content>(
    rows: &dyn Rows,
    prefix: &[u8],
    parts: Vec<(usize, usize, R)>,
) -> Result<Option<Edits<R>>, DbError> {
    let own = OpId { seq: STAGED, op: u32::MAX };
    SequenceReader::open(rows, prefix)?.splice(own, parts)
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

#[cfg(test)]
pub(in crate::kind) mod tests;
