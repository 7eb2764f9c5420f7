//! Reading a sequence, page by page as it is asked.

use std::ops::Range;

use eid_crdt::sequence::{Op, Operation, Paged, Pages as _, Standpoint, Stretch, Visit};

use super::pages::{InRows, Loaded};
use super::{Content, Cursor, Edits, Name, OpId, Side, Span};
use crate::error::DbError;
use crate::rows::Rows;
use crate::stamp::Stamp;

/// Reads one sequence. What it has read it keeps, so it lives no longer than what it is needed for.
#[derive(Debug)]
pub(crate) struct SequenceReader<'a, R: Content> {
    list: Paged<Loaded<R, InRows<'a>>>,
}

impl<'a, R: Content> SequenceReader<'a, R> {
    /// Opens the sequence under a prefix; one that nobody has written is empty.
    pub(crate) fn open(rows: &'a dyn Rows, prefix: &[u8]) -> Result<Self, DbError> {
        Ok(Self { list: Paged::new(Loaded::open(InRows(rows), prefix)?) })
    }

    /// How many elements are shown.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// How many operations wait for what they name.
    pub(crate) fn waiting(&self) -> u64 {
        u64::from(self.list.pages().waiting())
    }

    /// Visits the parts of records that are shown in a range: the first name, how many elements, and the record's run
    /// with where the part begins in it.
    fn visit(&self, range: Range<usize>, mut visit: impl FnMut(Name, u32, &R, u32)) -> Result<(), DbError> {
        let mut rest = range.end.saturating_sub(range.start);
        if rest == 0 {
            return Ok(());
        }
        self.list.visit(range.start, |record, within| {
            let first = record.stretch.first;
            let count = (record.stretch.count - within).min(u32::try_from(rest).unwrap_or(u32::MAX));
            rest -= count as usize;
            visit(Name { offset: first.offset + within, ..first }, count, &record.run, within);
            Ok::<_, DbError>(if rest == 0 { Visit::Enough } else { Visit::More })
        })
    }

    /// The elements of a range of positions, as far as there are any.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<R, DbError> {
        let mut found = R::default();
        self.visit(range, |_, count, run, within| {
            let (within, count) = (within as usize, count as usize);
            let mut part = run.clone();
            if within > 0 {
                part = part.split_off(within);
            }
            if count < part.count() {
                drop(part.split_off(count));
            }
            found.append(part);
        })?;
        Ok(found)
    }

    /// The names of the elements of a range.
    pub(crate) fn names(&self, range: Range<usize>) -> Result<Vec<Span>, DbError> {
        self.list.spans(range.start, range.end.saturating_sub(range.start))
    }

    /// A cursor at a position; nothing beyond the end.
    pub(crate) fn cursor(&self, position: usize, side: Side) -> Result<Option<Cursor>, DbError> {
        self.list.cursor(position, side)
    }

    /// Where a cursor stands; nothing if its neighbour never came here.
    pub(crate) fn position(&self, cursor: &Cursor) -> Result<Option<usize>, DbError> {
        self.list.position(cursor)
    }

    /// Which operations put in the elements of a range: how many each, in order.
    pub(crate) fn blame(&self, range: Range<usize>) -> Result<Vec<(usize, OpId)>, DbError> {
        let mut found: Vec<(usize, OpId)> = Vec::new();
        self.visit(range, |name, count, _, _| match found.last_mut() {
            Some((held, op)) if *op == name.entry => *held += count as usize,
            _ => found.push((count as usize, name.entry)),
        })?;
        Ok(found)
    }

    /// The stamp of an operation that is applied here.
    pub(crate) fn stamp_of(&self, op: OpId) -> Result<Option<Stamp>, DbError> {
        Ok(self.list.pages().operation(op)?.map(|held| held.stamp))
    }

    /// What is known of an operation that is applied here.
    pub(crate) fn operation(&self, op: OpId) -> Result<Option<Operation<Stamp>>, DbError> {
        self.list.pages().operation(op)
    }

    /// The records that hold the elements of a span, as far as there are any.
    pub(crate) fn pieces(&self, span: Span) -> Result<Vec<Piece<R>>, DbError> {
        let found = self.list.records_of(span)?;
        let piece = |held: Standpoint<OpId, R>| {
            let Standpoint { record, position, rank } = held;
            let Stretch { first, count, deleted, .. } = record.stretch;
            let marked = !Stretch { deleted: 0, ..record.stretch }.is_shown();
            Piece { first, count, position, rank, deleted, marked, run: record.run }
        };
        Ok(found.into_iter().map(piece).collect())
    }

    /// What puts runs in the place of parts, as edits of `own`: from which position on, how many elements, and what.
    /// Positions are those of what is read; the parts ascend, and there is an element between any two.
    pub(super) fn splice(
        &self,
        own: OpId,
        parts: Vec<(usize, usize, R)>,
    ) -> Result<Option<Edits<R>>, DbError> {
        let len = self.len();
        let mut ops = Vec::new();
        for (position, count, content) in parts {
            let end = position.saturating_add(count);
            let beyond = || DbError::Position { position: end, len };
            if end > len {
                return Err(beyond());
            }
            if content.count() > 0 {
                let at = self.list.anchor(position)?.ok_or_else(beyond)?;
                ops.push(Op::Insert { at, run: content });
            }
            ops.extend(self.names(position..end)?.into_iter().map(Op::Delete));
        }
        Edits::of(own, ops, |seq| self.list.pages().source.0.id_of(seq))
    }
}

/// Elements of one operation that are shown or hidden together.
#[derive(Debug, Clone)]
pub(crate) struct Piece<R> {
    pub(crate) first: Name,
    pub(crate) count: u32,
    /// How many elements are shown before them.
    pub(crate) position: usize,
    /// What orders pieces as they stand in the sequence.
    pub(crate) rank: Vec<usize>,
    /// How many operations that stand have deleted them.
    pub(crate) deleted: u32,
    /// Whether they are hidden for another reason.
    pub(crate) marked: bool,
    pub(crate) run: R,
}

impl<R: Content> Piece<R> {
    /// Leaves what is before an element, and gives the rest.
    pub(crate) fn split_off(&mut self, first: Name) -> Self {
        let before = first.offset - self.first.offset;
        let shown = if self.deleted == 0 && !self.marked { before as usize } else { 0 };
        let run = self.run.split_off(before as usize);
        let count = self.count - before;
        self.count = before;
        Self { first, count, position: self.position + shown, rank: self.rank.clone(), run, ..*self }
    }
}
