//! What a run of entries changed in a text, told from what is stored after them: no version before is read.
//!
//! The elements that the entries put in or deleted are looked up where they stand now. Which of them were shown after
//! each entry follows from the entries alone: an element is shown from the entry that put it in to the first one that
//! deleted it. Where they were then is where they are now, less those of the others that were not there yet, and with
//! those that were still there.

use std::collections::{BTreeMap, BTreeSet};

use super::TextDelta;
use crate::error::DbError;
use crate::kind::sequence::{Name, OpId, SequenceReader, Span};
use crate::limits::OBSERVED_PARTS_MAX;

type Piece = crate::kind::sequence::Piece<String>;

/// What one operation of an entry did.
#[derive(Debug)]
pub(super) struct Done {
    /// Which entry of the window it belongs to, counted from 0.
    pub(super) entry: usize,
    pub(super) op: OpId,
    /// How many elements it put in.
    pub(super) inserted: u32,
    pub(super) deleted: Vec<Span>,
}

/// Elements that appeared, or disappeared, together.
#[derive(Debug)]
struct Part {
    piece: Piece,
    born: Option<usize>,
    /// The operations of the window that deleted them.
    deleted_by: BTreeSet<(usize, OpId)>,
}

impl Part {
    /// From which entry on and up to which one it is shown, if it is at all.
    fn shown(&self) -> Option<Shown> {
        let ours = u32::try_from(self.deleted_by.len()).unwrap_or(u32::MAX);
        let died = self.deleted_by.first().map(|(entry, _)| *entry);
        let hidden = self.piece.marked || self.piece.deleted > ours;
        let changes = self.born.is_some() || died.is_some();
        (!hidden && changes && self.born != died).then_some(Shown { born: self.born, died })
    }
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    born: Option<usize>,
    died: Option<usize>,
}

/// The deltas of each of so many entries, in their order. Nothing when what is stored is not what these entries alone
/// have made of what was there.
pub(super) fn deltas(
    reader: &SequenceReader<'_, String>,
    entries: usize,
    done: &[Done],
) -> Result<Option<Vec<Vec<TextDelta>>>, DbError> {
    let Some(parts) = parts(reader, done)? else { return Ok(None) };
    if parts.iter().any(|part| (part.piece.deleted as usize) < part.deleted_by.len()) {
        return Ok(None);
    }
    let mut shown: Vec<(Piece, Shown)> =
        parts.into_iter().filter_map(|part| part.shown().map(|shown| (part.piece, shown))).collect();
    shown.sort_by(|(a, _), (b, _)| (&a.rank, a.first).cmp(&(&b.rank, b.first)));

    // How many elements that nothing happened to are before each; and which ones are there, before the first entry.
    let mut there = Counts::new(shown.len());
    let (mut still, mut before) = (0, Vec::with_capacity(shown.len()));
    let mut happens: Vec<Vec<usize>> = vec![Vec::new(); entries];
    for (index, (piece, Shown { born, died })) in shown.iter().enumerate() {
        let Some(quiet) = piece.position.checked_sub(still) else { return Ok(None) };
        before.push(quiet);
        if died.is_none() {
            still += piece.count as usize;
        }
        if born.is_none() {
            there.add(index, piece.count as usize);
        }
        for entry in [born, died].into_iter().flatten() {
            happens[*entry].push(index);
        }
    }
    let told = happens.into_iter().enumerate().map(|(entry, indexes)| {
        let mut deltas = Vec::new();
        for index in indexes {
            let (piece, Shown { born, .. }) = &shown[index];
            let at = before[index] + there.before(index);
            if *born == Some(entry) {
                there.add(index, piece.count as usize);
                push(&mut deltas, TextDelta::Insert { at, text: piece.run.clone() });
            } else {
                there.remove(index, piece.count as usize);
                push(&mut deltas, TextDelta::Delete { at, count: piece.count as usize });
            }
        }
        deltas
    });
    Ok(Some(told.collect()))
}

/// Adds a change to others; neighbours become one.
fn push(deltas: &mut Vec<TextDelta>, delta: TextDelta) {
    match (deltas.last_mut(), delta) {
        (Some(TextDelta::Insert { at, text }), TextDelta::Insert { at: next, text: more })
            if *at + text.chars().count() == next =>
        {
            text.push_str(&more);
        }
        (Some(TextDelta::Delete { at, count }), TextDelta::Delete { at: next, count: more })
            if *at == next =>
        {
            *count += more;
        }
        (_, delta) => deltas.push(delta),
    }
}

/// What the operations touched, cut wherever something different happened to neighbours. Nothing when that is too much.
fn parts(reader: &SequenceReader<'_, String>, done: &[Done]) -> Result<Option<Vec<Part>>, DbError> {
    let mut looked_at = 0;
    let mut cuts: BTreeSet<Name> = BTreeSet::new();
    let mut pieces: BTreeMap<Name, Piece> = BTreeMap::new();
    let mut spans = Vec::new();
    for op in done {
        if op.inserted > 0 {
            let all = Span { first: Name { entry: op.op, offset: 0 }, count: op.inserted };
            spans.push((op, all, true));
        }
        spans.extend(op.deleted.iter().map(|span| (op, *span, false)));
    }
    for (_, span, _) in &spans {
        cuts.extend([span.first, end(span)]);
        for piece in reader.pieces(*span)? {
            looked_at += 1;
            cuts.extend([piece.first, end(&Span { first: piece.first, count: piece.count })]);
            pieces.insert(piece.first, piece);
        }
        if looked_at > OBSERVED_PARTS_MAX {
            return Ok(None);
        }
    }
    let mut parts: BTreeMap<Name, Part> = BTreeMap::new();
    for (first, mut piece) in pieces {
        let last = end(&Span { first, count: piece.count });
        let within: Vec<Name> = cuts.range(first..last).skip(1).copied().collect();
        for cut in within {
            let rest = piece.split_off(cut);
            parts.insert(piece.first, Part::of(std::mem::replace(&mut piece, rest)));
        }
        parts.insert(piece.first, Part::of(piece));
    }
    for (op, span, born) in spans {
        for (_, part) in parts.range_mut(span.first..end(&span)) {
            if born {
                part.born = Some(op.entry);
            } else {
                part.deleted_by.insert((op.entry, op.op));
            }
            looked_at += 1;
        }
        if looked_at > 2 * OBSERVED_PARTS_MAX {
            return Ok(None);
        }
    }
    Ok(Some(parts.into_values().collect()))
}

impl Part {
    fn of(piece: Piece) -> Self {
        Self { piece, born: None, deleted_by: BTreeSet::new() }
    }
}

fn end(span: &Span) -> Name {
    Name { offset: span.first.offset.saturating_add(span.count), ..span.first }
}

/// Counts in a row, with their sums from the start (Fenwick, "A New Data Structure for Cumulative Frequency Tables",
/// 1994).
#[derive(Debug)]
struct Counts(Vec<usize>);

impl Counts {
    fn new(len: usize) -> Self {
        Self(vec![0; len + 1])
    }

    fn above(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
        let len = self.0.len();
        std::iter::successors(Some(index + 1), |at| Some(at + (at & at.wrapping_neg())))
            .take_while(move |at| *at < len)
    }

    fn add(&mut self, index: usize, count: usize) {
        self.above(index).for_each(|at| self.0[at] += count);
    }

    fn remove(&mut self, index: usize, count: usize) {
        self.above(index).for_each(|at| self.0[at] -= count);
    }

    /// The sum of what is before.
    fn before(&self, index: usize) -> usize {
        std::iter::successors(Some(index), |at| Some(at & at.checked_sub(1)?))
            .take_while(|at| *at > 0)
            .map(|at| self.0[at])
            .sum()
    }
}
