//! What takes edits of a list back, item by item: what they have put in goes, what they alone have taken out comes again
//! where it was, what they have moved or replaced last goes back.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::dag::Seq;
use eid_crdt::sequence::{Anchor, Name, Span};
use eid_crdt::{ListOp, Value};

use eid_core::cbor::CborError;

use super::{ItemRow, ListReader, Slot, corrupt, item_key, value_key};
use crate::codec::decode_value;
use crate::error::DbError;
use crate::kind::sequence::undo::{Deleted, named};
use crate::kind::sequence::{OpId, Ref, Standing};
use crate::stamp::{Stamp, resolve};

/// What takes edits back.
#[derive(Debug, Default)]
pub(crate) struct TakenBack {
    pub(crate) ops: Vec<ListOp<Ref>>,
    /// How many items are changed.
    pub(crate) restored: u64,
    /// For each item that somebody has changed since: by which operation, if that is known.
    pub(crate) kept: Vec<Option<Stamp>>,
}

/// What an item is in one version.
#[derive(Debug)]
struct State {
    slot: Name<OpId>,
    held: Slot,
    moved: Option<Stamp>,
    /// What replaced its value, if anything has.
    valued: Option<Stamp>,
    /// Whether it is in the list.
    is_there: bool,
    /// How many operations that stand have deleted it.
    deleted: u32,
}

/// Where a slot stands.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// How many items are before it.
    position: usize,
    /// What orders slots between the same two items.
    rank: (Vec<usize>, u32),
}

/// A slot.
struct Held {
    slot: Slot,
    deleted: u32,
    is_shown: bool,
}

/// What is put at a place.
enum Back {
    /// An item anew, with this value.
    Anew(Value),
    /// The item of this name.
    Item(Name<OpId>),
}

impl ListReader<'_> {
    fn state(&self, item: &Name<OpId>) -> Result<Option<State>, DbError> {
        let Some((_, own)) = self.place(item)? else { return Ok(None) };
        let row = match self.rows.get(item_key(self.prefix, item))? {
            Some(row) if self.changed => Some(ItemRow::decode(&row).map_err(corrupt)?),
            _ => None,
        };
        let slot = row.as_ref().map_or(*item, |row| row.slot(item));
        let is_there = match slot == *item {
            true => own.is_shown,
            false => self.place(&slot)?.is_some_and(|(_, slot)| slot.is_shown),
        };
        let moved = row.as_ref().and_then(|row| row.moved);
        let valued = row.as_ref().map(|row| row.valued).filter(|valued| OpId::of(valued) != item.entry);
        let slot_held = row.map_or(own.slot, |row| row.value);
        if slot_held == Slot::Moved {
            return Ok(None);
        }
        Ok(Some(State { slot, held: slot_held, moved, valued, is_there, deleted: own.deleted }))
    }

    fn value(&self, item: &Name<OpId>, held: Slot) -> Result<Value, DbError> {
        match held {
            Slot::Item(value) => Ok(value),
            _ => {
                let row = self.rows.get(value_key(self.prefix, item))?;
                decode_value(&row.ok_or_else(|| corrupt(CborError::Type))?).map_err(corrupt)
            }
        }
    }

    /// Where a slot stands, and what it is.
    fn place(&self, slot: &Name<OpId>) -> Result<Option<(Place, Held)>, DbError> {
        let mut pieces = self.sequence.pieces(Span { first: *slot, count: 1 })?;
        let Some(mut piece) = pieces.pop() else { return Ok(None) };
        if piece.first != *slot {
            piece = piece.split_off(*slot);
        }
        let held = piece.run.into_iter().next();
        let is_shown = piece.deleted == 0 && !piece.marked;
        Ok(held.map(|held| {
            let place = Place { position: piece.position, rank: (piece.rank, slot.offset) };
            (place, Held { slot: held, deleted: piece.deleted, is_shown })
        }))
    }

    /// Whether what an operation put in counts, deletes aside: it stands and reaches the floor.
    fn counts(&self, op: OpId) -> Result<bool, DbError> {
        let Some(held) = self.sequence.operation(op)?.filter(|held| held.standing == Standing::Stands) else {
            return Ok(false);
        };
        let (mut stamp, mut floor) = (held.stamp, self.floor);
        let mut stamps = vec![&mut stamp];
        stamps.extend(floor.as_mut());
        resolve(&mut stamps, |seq| self.rows.id_of(seq))?;
        Ok(Some(stamp) >= floor)
    }

    /// The edits that take those of one entry back, made on what is read. `before` is the list as the entry found it,
    /// `first` the index in its own entry of the first edit that is given.
    pub(crate) fn undo(
        &self,
        before: &ListReader<'_>,
        seq: Seq,
        edits: &[(u32, ListOp<Ref>)],
        first: u32,
    ) -> Result<TakenBack, DbError> {
        let mut inserted: Vec<Name<OpId>> = Vec::new();
        let (mut moved, mut replaced) = (BTreeSet::new(), BTreeSet::new());
        let mut deleted = Deleted::default();
        for (op, edit) in edits {
            let own = OpId { seq, op: *op };
            let mut names: BTreeMap<Ref, Option<OpId>> = BTreeMap::new();
            for held in edit.names() {
                names.insert(held, named(self.rows, own, &held)?);
            }
            // What names something that is not here has no effect.
            let Some(edit) = edit.rename(|held| names.get(held).copied().flatten()) else { continue };
            match edit {
                ListOp::Insert { items, .. } => {
                    inserted.extend((0..).zip(&items).map(|(offset, _)| Name { entry: own, offset }));
                }
                ListOp::Delete { spans } => {
                    for span in spans {
                        let held = self.sequence.operation(span.first.entry)?;
                        let end = span.first.offset.saturating_add(span.count);
                        if held.is_some_and(|held| end <= held.count) {
                            deleted.add(span);
                        }
                    }
                }
                ListOp::Move { item, .. } => drop(moved.insert(item)),
                ListOp::Set { item, .. } => drop(replaced.insert(item)),
            }
        }

        let mut back = TakenBack::default();
        let mut gone: Vec<Name<OpId>> = Vec::new();
        for item in inserted {
            let Some(now) = self.state(&item)?.filter(|now| now.is_there) else { continue };
            match now.valued.filter(|valued| valued.seq != seq) {
                Some(by) => back.kept.push(Some(by)),
                None => gone.push(item),
            }
        }
        back.restored += gone.len() as u64;
        if !gone.is_empty() {
            back.ops.push(self.delete_items(gone)?);
        }

        let mut places = Vec::new();
        for (span, times) in deleted.spans(seq) {
            for offset in span.first.offset..span.first.offset + span.count {
                let item = Name { offset, ..span.first };
                moved.remove(&item);
                replaced.remove(&item);
                let Some(held) = before.state(&item)?.filter(|held| held.is_there) else { continue };
                let by_others = self.state(&item)?.is_none_or(|now| now.deleted != times);
                if by_others || !self.counts(item.entry)? {
                    continue;
                }
                if let Some((place, _)) = self.place(&held.slot)? {
                    places.push((place, Back::Anew(before.value(&item, held.held)?)));
                }
            }
        }
        for item in moved.into_iter().filter(|item| item.entry.seq != seq) {
            let Some(held) = before.state(&item)?.filter(|held| held.is_there) else { continue };
            match self.state(&item)?.filter(|now| now.is_there) {
                Some(now) if now.moved.is_some_and(|moved| moved.seq == seq) => {
                    if let Some((place, _)) = self.place(&held.slot)? {
                        places.push((place, Back::Item(item)));
                    }
                }
                now => back.kept.push(now.and_then(|now| now.moved)),
            }
        }
        places.sort_by(|(a, _), (b, _)| a.cmp(b));
        back.restored += places.len() as u64;
        self.put_back(places, first, &mut back.ops)?;

        for item in replaced.into_iter().filter(|item| item.entry.seq != seq) {
            let Some(held) = before.state(&item)?.filter(|held| held.is_there) else { continue };
            match self.state(&item)?.filter(|now| now.is_there) {
                Some(now) if now.valued.is_some_and(|valued| valued.seq == seq) => {
                    let value = before.value(&item, held.held)?;
                    if self.value(&item, now.held)? != value {
                        back.restored += 1;
                        back.ops.push(ListOp::Set { item: self.wire_name(&item)?, value });
                    }
                }
                now => back.kept.push(now.and_then(|now| now.valued)),
            }
        }
        Ok(back)
    }

    /// Between the same two items, each goes behind the one before.
    fn put_back(
        &self,
        places: Vec<(Place, Back)>,
        first: u32,
        ops: &mut Vec<ListOp<Ref>>,
    ) -> Result<(), DbError> {
        let mut last: Option<(usize, Name<Ref>)> = None;
        for (Place { position, .. }, put) in places {
            let last_here = last.filter(|(at, _)| *at == position).map(|(_, name)| name);
            let name = match (put, last_here, ops.last_mut()) {
                (Back::Anew(value), Some(before), Some(ListOp::Insert { items, .. })) => {
                    items.push(value);
                    Name { offset: before.offset + 1, ..before }
                }
                (put, last_here, _) => {
                    let at =
                        last_here.map_or_else(|| self.anchor(position), |name| Ok(Anchor::After(name)))?;
                    let op = u32::try_from(ops.len()).ok().and_then(|count| first.checked_add(count));
                    let op = op.ok_or(DbError::TooLarge)?;
                    ops.push(match put {
                        Back::Anew(value) => ListOp::Insert { at, items: vec![value] },
                        Back::Item(item) => ListOp::Move { item: self.wire_name(&item)?, at },
                    });
                    Name { entry: Ref { entry: None, op }, offset: 0 }
                }
            };
            last = Some((position, name));
        }
        Ok(())
    }
}
