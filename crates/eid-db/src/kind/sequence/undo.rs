//! What takes operations of a sequence back: what they have put in goes, and what they alone have taken out comes again.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::dag::Seq;

use super::{Edits, Name, Op, OpId, Piece, Ref, SequenceReader, Span, Standing, splice_all_edits};
use crate::error::DbError;
use crate::rows::Rows;

/// Gives what the references of an operation name here; nothing for what comes after it, or is not here.
pub(crate) fn named(rows: &dyn Rows, own: OpId, held: &Ref) -> Result<Option<OpId>, DbError> {
    let seq = match &held.entry {
        None => Some(own.seq).filter(|_| held.op < own.op),
        Some(id) => rows.seq_of(id)?.filter(|seq| *seq != own.seq),
    };
    Ok(seq.map(|seq| OpId { seq, op: held.op }))
}

/// Elements by how many times operations of one entry have deleted them. What the entry itself put in is left out.
#[derive(Debug, Default)]
pub(crate) struct Deleted(BTreeMap<OpId, BTreeMap<u32, i64>>);

impl Deleted {
    /// Takes note of a delete.
    pub(crate) fn add(&mut self, span: Span) {
        let ends = self.0.entry(span.first.entry).or_default();
        *ends.entry(span.first.offset).or_default() += 1;
        *ends.entry(span.first.offset.saturating_add(span.count)).or_default() -= 1;
    }

    /// Spans that do not overlap, each with how often it was deleted.
    pub(crate) fn spans(&self, except: Seq) -> Vec<(Span, u32)> {
        let mut found = Vec::new();
        for (entry, ends) in self.0.iter().filter(|(op, _)| op.seq != except) {
            let mut times = 0i64;
            let mut from = 0;
            for (at, change) in ends {
                if let (Ok(times @ 1..), count @ 1..) = (u32::try_from(times), at - from) {
                    let first = Name { entry: *entry, offset: from };
                    found.push((Span { first, count }, times));
                }
                (from, times) = (*at, times + change);
            }
        }
        found
    }
}

/// Something at a position: so many elements that go, and a text that comes.
struct Part {
    at: usize,
    rank: (Vec<usize>, u32),
    gone: usize,
    back: String,
}

/// What is left of a piece within a span.
fn within(mut piece: Piece<String>, span: Span) -> Piece<String> {
    if piece.first.offset < span.first.offset {
        piece = piece.split_off(span.first);
    }
    let end = span.first.offset + span.count;
    if piece.first.offset + piece.count > end {
        drop(piece.split_off(Name { offset: end, ..span.first }));
    }
    piece
}

/// The edits of a text that take operations of one entry back, and how many places they change. `rows` is what is there
/// now; an operation that is not applied there, or is void, has done nothing.
pub(crate) fn undo_edits(
    rows: &dyn Rows,
    prefix: &[u8],
    ops: &[(OpId, Edits<String>)],
) -> Result<(Option<Edits<String>>, u64), DbError> {
    let reader = SequenceReader::<String>::open(rows, prefix)?;
    let own: BTreeSet<Seq> = ops.iter().map(|(op, _)| op.seq).collect();
    let mut deleted = Deleted::default();
    let mut parts: Vec<Part> = Vec::new();
    for (op, edits) in ops {
        let Some(held) = reader.operation(*op)?.filter(|held| held.standing == Standing::Stands) else {
            continue;
        };
        let put_in = Span { first: Name { entry: *op, offset: 0 }, count: held.count };
        for piece in reader.pieces(put_in)?.into_iter().filter(|piece| piece.deleted == 0 && !piece.marked) {
            let rank = (piece.rank, piece.first.offset);
            parts.push(Part { at: piece.position, rank, gone: piece.count as usize, back: String::new() });
        }
        let mut numbers = vec![Some(*op)];
        for held in edits.refs() {
            numbers.push(named(rows, *op, held)?);
        }
        for edit in edits.ops(&numbers) {
            let Op::Delete(span) = edit else { continue };
            let target = reader.operation(span.first.entry)?;
            // A span that goes beyond what the operation put in was not deleted.
            let end = span.first.offset.saturating_add(span.count);
            if target.is_some_and(|target| end <= target.count) {
                deleted.add(span);
            }
        }
    }
    for seq in own {
        for (span, times) in deleted.spans(seq) {
            for piece in reader.pieces(span)? {
                let piece = within(piece, span);
                if piece.deleted == times && !piece.marked {
                    let rank = (piece.rank, piece.first.offset);
                    parts.push(Part { at: piece.position, rank, gone: 0, back: piece.run });
                }
            }
        }
    }
    parts.sort_by(|a, b| (a.at, &a.rank).cmp(&(b.at, &b.rank)));
    let mut splices: Vec<(usize, usize, String)> = Vec::new();
    for part in parts {
        match splices.last_mut() {
            Some((at, gone, back)) if part.at <= *at + *gone => {
                *gone += part.gone;
                back.push_str(&part.back);
            }
            _ => splices.push((part.at, part.gone, part.back)),
        }
    }
    let changed = splices.len() as u64;
    Ok((splice_all_edits(rows, prefix, splices)?, changed))
}
