//! Lists under a prefix of keys: a sequence of slots, and what has become of items since they were put in.
//!
//! ```text
//! edit     insert [0, at, [value ...]] | delete [1, [ref, offset, count ...]]
//!          | move [2, ref, offset, at] | set [3, ref, offset, value]
//! at       null | [0 after / 1 before, ref, offset]
//! head     prefix 68 -> [entries, floor | null, oldest | null, waiting, changed]
//! item     prefix 69 seq op offset -> [entries, born, moved | null, valued, held]
//! value    prefix 76 seq op offset -> value
//! slot     prefix 6d seq op -> [seq, op, offset]
//! sequence prefix 71 ... -> see `kind::sequence`; its elements are held | null
//! held     =  [value] | []
//! waiting  prefix 77 seq op -> [time, height, edit, void?]
//! missing  prefix 63 seq op -> how many operations it waits for
//! awaited  prefix 61 entry id, op, seq op -> nothing: the edit at seq waits for that operation
//! ```
//! An item is named by the slot that put it in. A move puts in an empty slot; the slot says which item it is for, and
//! the item says which slot it is in: the latest one. The other slots of the item are taken, so what the sequence shows
//! is what the list shows, and positions in one are positions in the other. Only items that were moved or set have a
//! row; it holds their value. A large value has a row of its own, so that what is done beside it does not touch it. What
//! these operations mean is in [`eid_crdt::List`].
//!
//! An edit that names operations which are not applied here waits in a row until the last of them is, so neither the
//! order of arrival nor what an entry claims to know matters. One that names itself or what comes later in its entry
//! has no effect.
//!
//! Of an edit whose entry does not count the slots are put in all the same, hidden, since others may hang on them and
//! name them; that is all that it does. When its entry counts again, the list is worked out anew.
//!
//! What contains the list gives a floor, which items have to reach. It is raised when an edit comes, at a cost of what
//! becomes hidden. A delete or set further up does not look for lists: until the next edit, whoever reads raises the
//! floor for himself.

mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use eid_core::cbor::{CborError, Kind, Reader, Writer};
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, ReadError, Time};
use eid_crdt::sequence::{Anchor, Item, Name, Op, Span};
use eid_crdt::{ListOp, Value};
use eid_store::{Key, ViewRows, Wanted};

use crate::codec::{decode_value, read_value, write_value};
use crate::error::DbError;
use crate::kind::DamagedRow;
use crate::kind::sequence::{self, Edits, Element, OpId, Presence, Ref, SequenceReader, Standing};
use crate::limits::ITEM_INLINE_BYTES_MAX;
use crate::rows::{Changed, Overlaid, Rows, Staging};
use crate::stamp::{STAGED, Stamp, StampTable, resolve};

const INSERT: u64 = 0;
const DELETE: u64 = 1;
const MOVE: u64 = 2;
const SET: u64 = 3;

const AFTER: u64 = 0;
const BEFORE: u64 = 1;

const AWAITED: u8 = b'a';
const MISSING: u8 = b'c';
const HEAD: u8 = b'h';
const ITEM: u8 = b'i';
const SLOT: u8 = b'm';
const SEQUENCE: u8 = b'q';
const VALUE: u8 = b'v';
const WAITING: u8 = b'w';

/// An element of the sequence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Slot {
    /// An item, with the value that it was put in with.
    Item(Value),
    /// An item whose value has a row of its own.
    Large,
    /// A place that an item was moved to.
    Moved,
}

impl Item for Slot {
    fn weight(&self) -> usize {
        match self {
            Self::Item(value) => weight(value),
            Self::Large | Self::Moved => 1,
        }
    }
}

fn weight(value: &Value) -> usize {
    2 + match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Map(items) => items.iter().map(|(key, item)| 2 + key.len() + weight(item)).sum(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 8,
    }
}

impl Element for Slot {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::Item(value) => write_value(w.array(1), value),
            Self::Large => drop(w.array(0)),
            Self::Moved => drop(w.null()),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        let held = r.nullable(|r| match r.array(1)? {
            0 => Ok(Self::Large),
            _ => read_value(r).map(Self::Item),
        })?;
        Ok(held.unwrap_or(Self::Moved))
    }
}

// ---- on the wire

/// Appends an edit.
pub(crate) fn write(w: &mut Writer, op: &ListOp<Ref>) {
    match op {
        ListOp::Insert { at, items } => {
            write_anchor(w.array(3).uint(INSERT), at);
            w.array(items.len());
            items.iter().for_each(|item| write_value(w, item));
        }
        ListOp::Delete { spans } => {
            w.array(2).uint(DELETE).array(spans.len() * 3);
            for span in spans {
                write_name(w, &span.first);
                w.uint(u64::from(span.count));
            }
        }
        ListOp::Move { item, at } => {
            write_name(w.array(4).uint(MOVE), item);
            write_anchor(w, at);
        }
        ListOp::Set { item, value } => {
            write_name(w.array(4).uint(SET), item);
            write_value(w, value);
        }
    }
}

fn write_name(w: &mut Writer, name: &Name<Ref>) {
    name.entry.write(w);
    w.uint(u64::from(name.offset));
}

fn write_anchor(w: &mut Writer, at: &Anchor<Ref>) {
    match at {
        Anchor::Start => drop(w.null()),
        Anchor::After(name) => write_name(w.array(3).uint(AFTER), name),
        Anchor::Before(name) => write_name(w.array(3).uint(BEFORE), name),
    }
}

/// Reads an edit, strictly: it does something, and what it deletes ascends, each item once.
pub(crate) fn read(r: &mut Reader<'_>) -> Result<ListOp<Ref>, CborError> {
    let parts = r.array(4)?;
    match (r.uint()?, parts) {
        (INSERT, 3) => {
            let at = read_anchor(r)?;
            let count = r.array(usize::MAX)?;
            let items: Vec<Value> = (0..count).map(|_| read_value(r)).collect::<Result<_, _>>()?;
            if items.is_empty() { Err(CborError::NonCanonical) } else { Ok(ListOp::Insert { at, items }) }
        }
        (DELETE, 2) => {
            let count = r.array(usize::MAX)?;
            let mut spans: Vec<Span<Ref>> = Vec::new();
            for _ in 0..count / 3 {
                let span = Span { first: read_name(r)?, count: narrow(r)? };
                let apart = |held: &Span<Ref>| {
                    span.first.entry > held.first.entry
                        || (span.first.entry == held.first.entry
                            && span.first.offset > held.first.offset + held.count)
                };
                span.first.offset.checked_add(span.count).ok_or(CborError::Limit)?;
                if span.count == 0 || !spans.last().is_none_or(apart) {
                    return Err(CborError::NonCanonical);
                }
                spans.push(span);
            }
            if spans.is_empty() || count % 3 != 0 {
                return Err(CborError::Type);
            }
            Ok(ListOp::Delete { spans })
        }
        (MOVE, 4) => Ok(ListOp::Move { item: read_name(r)?, at: read_anchor(r)? }),
        (SET, 4) => Ok(ListOp::Set { item: read_name(r)?, value: read_value(r)? }),
        _ => Err(CborError::Type),
    }
}

fn read_name(r: &mut Reader<'_>) -> Result<Name<Ref>, CborError> {
    Ok(Name { entry: Ref::read(r)?, offset: narrow(r)? })
}

fn read_anchor(r: &mut Reader<'_>) -> Result<Anchor<Ref>, CborError> {
    if r.peek()? == Kind::Null {
        r.null()?;
        return Ok(Anchor::Start);
    }
    r.array_exact(3)?;
    match r.uint()? {
        AFTER => read_name(r).map(Anchor::After),
        BEFORE => read_name(r).map(Anchor::Before),
        _ => Err(CborError::Type),
    }
}

fn narrow(r: &mut Reader<'_>) -> Result<u32, CborError> {
    u32::try_from(r.uint()?).map_err(|_| CborError::Limit)
}

// ---- rows

fn key(prefix: &[u8], tag: u8, parts: &[&[u8]]) -> Key {
    let mut key = prefix.to_vec();
    key.push(tag);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn op_bytes(op: OpId) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&op.seq.0.to_be_bytes());
    bytes[8..].copy_from_slice(&op.op.to_be_bytes());
    bytes
}

fn op_of_bytes(bytes: &[u8]) -> Option<OpId> {
    let seq = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let op = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    Some(OpId { seq: Seq(seq), op })
}

fn item_key(prefix: &[u8], item: &Name<OpId>) -> Key {
    key(prefix, ITEM, &[&op_bytes(item.entry), &item.offset.to_be_bytes()])
}

fn value_key(prefix: &[u8], item: &Name<OpId>) -> Key {
    key(prefix, VALUE, &[&op_bytes(item.entry), &item.offset.to_be_bytes()])
}

fn awaited_key(prefix: &[u8], id: &EntryId, op: u32, waiter: &[u8]) -> Key {
    key(prefix, AWAITED, &[&id.0, &op.to_be_bytes(), waiter])
}

fn item_of_key(prefix: &[u8], key: &[u8]) -> Option<Name<OpId>> {
    let bytes = key.get(prefix.len() + 1..)?;
    let offset = u32::from_be_bytes(bytes.get(12..)?.try_into().ok()?);
    Some(Name { entry: op_of_bytes(bytes)?, offset })
}

fn slot_key(prefix: &[u8], slot: OpId) -> Key {
    key(prefix, SLOT, &[&op_bytes(slot)])
}

fn encode_slot(item: &Name<OpId>) -> Bytes {
    let mut w = Writer::new();
    w.array(3).uint(item.entry.seq.0).uint(u64::from(item.entry.op)).uint(u64::from(item.offset));
    Bytes::from(w.into_bytes())
}

fn decode_slot(bytes: &[u8]) -> Result<Name<OpId>, CborError> {
    let mut r = Reader::new(bytes);
    r.array_exact(3)?;
    let entry = OpId { seq: Seq(r.uint()?), op: narrow(&mut r)? };
    let name = Name { entry, offset: narrow(&mut r)? };
    r.finish()?;
    Ok(name)
}

fn sequence_prefix(prefix: &[u8]) -> Key {
    key(prefix, SEQUENCE, &[])
}

/// All keys with this prefix.
fn below(prefix: Key) -> (Key, Key) {
    let mut to = prefix.clone();
    to.extend_from_slice(&[0xff; 64]);
    (prefix, to)
}

fn damaged(cause: CborError) -> ReadError {
    ReadError::new(DamagedRow { kind: "list", cause })
}

/// What is known of the whole list.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    floor: Option<Stamp>,
    /// No item that has a row was put in below this stamp.
    oldest: Option<Stamp>,
    waiting: u64,
    /// How many items have a row.
    changed: u64,
}

impl Head {
    fn key(prefix: &[u8]) -> Key {
        key(prefix, HEAD, &[])
    }

    fn encode(&self) -> Bytes {
        let mut table = StampTable::default();
        let mut body = Writer::new();
        table.write_optional(&mut body, self.floor.as_ref());
        table.write_optional(&mut body, self.oldest.as_ref());
        body.uint(self.waiting).uint(self.changed);
        let mut w = Writer::new();
        table.write_entries(w.array(5));
        w.raw(&body.into_bytes());
        Bytes::from(w.into_bytes())
    }

    fn decode(bytes: Option<&Bytes>) -> Result<Self, CborError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let mut r = Reader::new(bytes);
        r.array_exact(5)?;
        let table = StampTable::read_entries(&mut r)?;
        let (floor, oldest) = (table.read_optional(&mut r)?, table.read_optional(&mut r)?);
        let head = Self { floor, oldest, waiting: r.uint()?, changed: r.uint()? };
        r.finish()?;
        Ok(head)
    }
}

/// An item that was moved or set.
#[derive(Debug, Clone)]
struct ItemRow {
    /// The operation that put it in.
    born: Stamp,
    /// The operation whose slot it is in, if it is not in that which it was put in with.
    moved: Option<Stamp>,
    /// The operation that gave it its value.
    valued: Stamp,
    value: Slot,
}

impl ItemRow {
    fn slot(&self, item: &Name<OpId>) -> Name<OpId> {
        self.moved.map_or(*item, |moved| Name { entry: OpId::of(&moved), offset: 0 })
    }

    fn stamps_mut(&mut self) -> impl Iterator<Item = &mut Stamp> {
        [&mut self.born, &mut self.valued].into_iter().chain(&mut self.moved)
    }

    fn encode(&self) -> Bytes {
        let mut table = StampTable::default();
        let mut body = Writer::new();
        table.write(body.array(2), &self.born);
        table.write_optional(&mut body, self.moved.as_ref());
        table.write(body.array(2), &self.valued);
        self.value.write(&mut body);
        let mut w = Writer::new();
        table.write_entries(w.array(5));
        w.raw(&body.into_bytes());
        Bytes::from(w.into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(5)?;
        let table = StampTable::read_entries(&mut r)?;
        let stamp = |r: &mut Reader<'_>| {
            r.array_exact(2)?;
            table.read(r)
        };
        let born = stamp(&mut r)?;
        let moved = table.read_optional(&mut r)?;
        let row = Self { born, moved, valued: stamp(&mut r)?, value: Slot::read(&mut r)? };
        r.finish()?;
        Ok(row)
    }
}

// ---- applying

/// Names the rows that applying an edit reads.
pub(crate) fn reads(prefix: &[u8], op: &ListOp<Ref>, wanted: &mut Wanted) {
    wanted.key(&Head::key(prefix));
    for name in op.names() {
        if let Some(id) = name.entry {
            wanted.id(id);
        }
    }
    sequence::wanted(&sequence_prefix(prefix), &Edits::<Vec<Slot>>::default(), wanted);
}

/// Applies an edit, or keeps it until what it names is here. Items below the floor are not shown. Applied again, it
/// changes nothing.
pub(crate) fn apply(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    op: &ListOp<Ref>,
    stamp: Stamp,
    floor: Option<Stamp>,
) -> Result<(), ReadError> {
    let mut list = ListRows::open(view, prefix)?;
    list.raise(floor)?;
    list.take_in(Ready { at: stamp, standing: Standing::Stands, op: op.clone() })?;
    list.close();
    Ok(())
}

/// Takes in an edit that does not count: the slots that it puts in are there, hidden. Applied again, it changes nothing.
pub(crate) fn apply_void(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    op: &ListOp<Ref>,
    stamp: Stamp,
) -> Result<(), ReadError> {
    if !matches!(op, ListOp::Insert { .. } | ListOp::Move { .. }) {
        return Ok(());
    }
    let mut list = ListRows::open(view, prefix)?;
    list.take_in(Ready { at: stamp, standing: Standing::Void, op: op.clone() })?;
    list.close();
    Ok(())
}

/// Hides items below a stamp that what contains the list has given.
pub(crate) fn raise(view: &mut dyn ViewRows, prefix: &[u8], floor: Option<Stamp>) -> Result<(), ReadError> {
    let mut list = ListRows::open(view, prefix)?;
    list.raise(floor)?;
    list.close();
    Ok(())
}

/// An edit that may wait for nothing any more.
struct Ready {
    at: Stamp,
    standing: Standing,
    op: ListOp<Ref>,
}

/// What an edit names.
enum Named {
    Known(ListOp<OpId>),
    Missing(BTreeSet<(EntryId, u32)>),
    /// What will never have come before it.
    Never,
}

/// The rows of one list while edits are applied.
struct ListRows<'v> {
    view: &'v mut dyn ViewRows,
    prefix: &'v [u8],
    sequence: Key,
    head: Head,
    held: Bytes,
    /// The entry that is being applied: it is not yet among those that the view finds by their ids.
    now: Seq,
}

impl<'v> ListRows<'v> {
    fn open(view: &'v mut dyn ViewRows, prefix: &'v [u8]) -> Result<Self, ReadError> {
        let row = view.get(&Head::key(prefix))?;
        let head = Head::decode(row.as_ref()).map_err(damaged)?;
        let held = row.unwrap_or_default();
        Ok(Self { view, prefix, sequence: sequence_prefix(prefix), head, held, now: STAGED })
    }

    /// Applies an edit and what has waited for it, or keeps it.
    fn take_in(&mut self, edit: Ready) -> Result<(), ReadError> {
        self.now = edit.at.seq;
        let mut ready = vec![edit];
        while let Some(edit) = ready.pop() {
            let own = OpId::of(&edit.at);
            match self.named(own, &edit.op)? {
                Named::Known(op) => {
                    match edit.standing {
                        Standing::Stands => self.perform(op, edit.at)?,
                        Standing::Void => self.perform_void(op, edit.at)?,
                    }
                    self.wake(own, &mut ready)?;
                }
                Named::Missing(missing) => self.wait(&edit, &missing)?,
                Named::Never => {}
            }
        }
        Ok(())
    }

    fn close(self) {
        let row = self.head.encode();
        if row != self.held {
            self.view.put(&Head::key(self.prefix), row);
        }
    }

    fn resolve(&mut self, stamps: &mut [&mut Stamp]) -> Result<(), ReadError> {
        resolve(stamps, |seq| self.view.id_of(seq))
    }

    fn raise(&mut self, floor: Option<Stamp>) -> Result<(), ReadError> {
        let Some(mut floor) = floor else { return Ok(()) };
        let mut held = self.head.floor;
        let mut stamps = vec![&mut floor];
        stamps.extend(held.as_mut());
        self.resolve(&mut stamps)?;
        if Some(floor) <= held {
            return Ok(());
        }
        self.head.floor = Some(floor);
        sequence::raise_floor::<Vec<Slot>>(self.view, &self.sequence, floor)?;
        let Some(mut oldest) = self.head.oldest.filter(|_| self.head.changed > 0) else { return Ok(()) };
        self.resolve(&mut [&mut oldest, &mut floor])?;
        if floor <= oldest {
            return Ok(());
        }
        self.head.oldest = None;
        let (from, to) = below(key(self.prefix, ITEM, &[]));
        for (row_key, bytes) in self.view.scan(&from, &to)? {
            let item = item_of_key(self.prefix, &row_key).ok_or_else(|| damaged(CborError::Limit))?;
            let mut row = ItemRow::decode(&bytes).map_err(damaged)?;
            self.resolve(&mut [&mut row.born, &mut floor])?;
            // What is hidden stays hidden: nothing will ask for its value.
            if row.born < floor {
                self.take(row.slot(&item), true)?;
                self.forget_item(&item, &row_key, &row);
            } else {
                self.lower(row.born)?;
            }
        }
        Ok(())
    }

    /// Takes note that an item has a row that was put in by an operation with this stamp.
    fn lower(&mut self, mut born: Stamp) -> Result<(), ReadError> {
        let mut oldest = self.head.oldest.unwrap_or(born);
        self.resolve(&mut [&mut born, &mut oldest])?;
        self.head.oldest = Some(oldest.min(born));
        Ok(())
    }

    /// Gives names their positions here.
    fn named(&mut self, own: OpId, op: &ListOp<Ref>) -> Result<Named, ReadError> {
        let (mut known, mut missing) = (BTreeMap::<Ref, OpId>::new(), BTreeSet::new());
        for name in op.names() {
            if known.contains_key(&name) {
                continue;
            }
            let seq = match &name.entry {
                Some(id) => self.seq_of(id)?.filter(|seq| *seq != own.seq),
                None if name.op >= own.op => return Ok(Named::Never),
                None => Some(own.seq),
            };
            let at = seq.map(|seq| OpId { seq, op: name.op });
            match at {
                Some(at) if sequence::has_put_in::<Vec<Slot>>(self.view, &self.sequence, at)? => {
                    known.insert(name, at);
                }
                _ if own.seq == STAGED => return Ok(Named::Never),
                _ => {
                    let id = match name.entry {
                        Some(id) => id,
                        None => self.view.id_of(own.seq)?,
                    };
                    missing.insert((id, name.op));
                }
            }
        }
        if !missing.is_empty() {
            return Ok(Named::Missing(missing));
        }
        // Every name was looked up above.
        let op = op.rename(|name| known.get(name).copied());
        op.map(Named::Known).ok_or_else(|| damaged(CborError::Limit))
    }

    fn seq_of(&mut self, id: &EntryId) -> Result<Option<Seq>, ReadError> {
        match self.view.seq_of(id)? {
            None if self.now != STAGED && self.view.id_of(self.now)? == *id => Ok(Some(self.now)),
            seq => Ok(seq),
        }
    }

    /// Keeps an edit until what it waits for is here.
    fn wait(&mut self, edit: &Ready, missing: &BTreeSet<(EntryId, u32)>) -> Result<(), ReadError> {
        let Ready { at, standing, op } = edit;
        let own = op_bytes(OpId::of(at));
        let (count, waiting) = (key(self.prefix, MISSING, &[&own]), key(self.prefix, WAITING, &[&own]));
        if self.head.waiting > 0 && self.view.get(&count)?.is_some() {
            return Ok(());
        }
        let mut w = Writer::new();
        let is_void = *standing == Standing::Void;
        w.array(if is_void { 4 } else { 3 }).uint(at.time.0).uint(at.height.0);
        write(&mut w, op);
        if is_void {
            w.bool(true);
        }
        self.view.put(&waiting, Bytes::from(w.into_bytes()));
        self.view.put(&count, encode_count(missing.len() as u64));
        for (id, op) in missing {
            self.view.put(&awaited_key(self.prefix, id, *op, &own), Bytes::new());
        }
        self.head.waiting += 1;
        Ok(())
    }

    /// Finds what has waited for an operation that is applied now, and for no other.
    fn wake(&mut self, applied: OpId, ready: &mut Vec<Ready>) -> Result<(), ReadError> {
        if self.head.waiting == 0 || applied.seq == STAGED {
            return Ok(());
        }
        let id = self.view.id_of(applied.seq)?;
        let (from, to) = below(awaited_key(self.prefix, &id, applied.op, &[]));
        for (row, _) in self.view.scan(&from, &to)? {
            let waiter = row.get(from.len()..).and_then(op_of_bytes);
            let waiter = waiter.ok_or_else(|| damaged(CborError::Limit))?;
            self.view.delete(&row);
            ready.extend(self.came(waiter)?);
        }
        Ok(())
    }

    /// One of the operations that an edit waits for has come. Gives the edit if that was the last.
    fn came(&mut self, waiter: OpId) -> Result<Option<Ready>, ReadError> {
        let own = op_bytes(waiter);
        let (count_key, key) = (key(self.prefix, MISSING, &[&own]), key(self.prefix, WAITING, &[&own]));
        let Some(count) = self.view.get(&count_key)? else { return Ok(None) };
        let count = Reader::new(&count).uint().map_err(damaged)?;
        if count > 1 {
            self.view.put(&count_key, encode_count(count - 1));
            return Ok(None);
        }
        let row = self.view.get(&key)?;
        self.view.delete(&count_key);
        self.view.delete(&key);
        self.head.waiting = self.head.waiting.saturating_sub(1);
        let Some(row) = row else { return Ok(None) };
        decode_waiting(waiter, &row).map(Some).map_err(damaged)
    }

    fn perform(&mut self, op: ListOp<OpId>, at: Stamp) -> Result<(), ReadError> {
        let own = OpId::of(&at);
        match op {
            ListOp::Insert { at: anchor, items } => self.insert(anchor, items, at),
            ListOp::Delete { spans } => {
                let deletes = spans.iter().map(|span| Op::Delete(*span)).collect();
                self.edit(at, Standing::Stands, deletes)?;
                for span in &spans {
                    self.take_moved(span)?;
                }
                Ok(())
            }
            ListOp::Move { item, at: anchor } => {
                if !self.is_item(&item)? {
                    return Ok(());
                }
                let run = vec![Slot::Moved];
                self.edit(at, Standing::Stands, vec![Op::Insert { at: anchor, run }])?;
                let slot = Name { entry: own, offset: 0 };
                if !matches!(self.presence(slot)?, Presence::Absent) {
                    self.view.put(&slot_key(self.prefix, own), encode_slot(&item));
                    self.stand(&item, slot, at)?;
                }
                Ok(())
            }
            ListOp::Set { item, value } => {
                let item_row = if self.is_item(&item)? { self.item(&item)? } else { None };
                let Some((mut row, fresh)) = item_row else { return Ok(()) };
                let mut stamp = at;
                let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
                stamps.push(&mut stamp);
                self.resolve(&mut stamps)?;
                if stamp > row.valued {
                    row.valued = stamp;
                    row.value = self.hold(&item, value, &row.value);
                    self.put_item(&item, &row, fresh)?;
                }
                Ok(())
            }
        }
    }

    /// Puts in what others may name, hidden.
    fn perform_void(&mut self, op: ListOp<OpId>, at: Stamp) -> Result<(), ReadError> {
        let own = OpId::of(&at);
        match op {
            ListOp::Insert { at: anchor, items } => {
                // Nobody will ask for the values.
                let run = items.iter().map(|_| Slot::Large).collect();
                self.edit(at, Standing::Void, vec![Op::Insert { at: anchor, run }])
            }
            ListOp::Move { item, at: anchor } => {
                if !self.is_item(&item)? {
                    return Ok(());
                }
                self.edit(at, Standing::Void, vec![Op::Insert { at: anchor, run: vec![Slot::Moved] }])?;
                let slot = Name { entry: own, offset: 0 };
                if !matches!(self.presence(slot)?, Presence::Absent) {
                    self.view.put(&slot_key(self.prefix, own), encode_slot(&item));
                }
                Ok(())
            }
            ListOp::Delete { .. } | ListOp::Set { .. } => Ok(()),
        }
    }

    fn insert(&mut self, anchor: Anchor<OpId>, items: Vec<Value>, at: Stamp) -> Result<(), ReadError> {
        let own = OpId::of(&at);
        // What is there may have been replaced since.
        if sequence::has_put_in::<Vec<Slot>>(self.view, &self.sequence, own)? {
            return Ok(());
        }
        let mut large = Vec::new();
        let slot = |(offset, value): (u32, Value)| match weight(&value) > ITEM_INLINE_BYTES_MAX {
            true => {
                large.push((Name { entry: own, offset }, value));
                Slot::Large
            }
            false => Slot::Item(value),
        };
        let run = (0..).zip(items).map(slot).collect();
        self.edit(at, Standing::Stands, vec![Op::Insert { at: anchor, run }])?;
        if sequence::has_put_in::<Vec<Slot>>(self.view, &self.sequence, own)? {
            for (item, value) in large {
                self.view.put(&value_key(self.prefix, &item), encode_value(&value));
            }
        }
        Ok(())
    }

    /// Keeps the value of an item in its row, or in one of its own.
    fn hold(&mut self, item: &Name<OpId>, value: Value, held: &Slot) -> Slot {
        let key = value_key(self.prefix, item);
        if weight(&value) > ITEM_INLINE_BYTES_MAX {
            self.view.put(&key, encode_value(&value));
            return Slot::Large;
        }
        if *held == Slot::Large {
            self.view.delete(&key);
        }
        Slot::Item(value)
    }

    /// Removes the rows of an item that is hidden for good.
    fn forget_item(&mut self, item: &Name<OpId>, row_key: &[u8], row: &ItemRow) {
        self.view.delete(row_key);
        if row.value == Slot::Large {
            self.view.delete(&value_key(self.prefix, item));
        }
        self.head.changed -= 1;
    }

    fn edit(
        &mut self,
        at: Stamp,
        standing: Standing,
        ops: Vec<Op<OpId, Vec<Slot>>>,
    ) -> Result<(), ReadError> {
        sequence::integrate(self.view, &self.sequence, at, standing, ops)?;
        Ok(())
    }

    fn presence(&mut self, name: Name<OpId>) -> Result<Presence<Vec<Slot>>, ReadError> {
        sequence::presence(self.view, &self.sequence, name)
    }

    fn take(&mut self, slot: Name<OpId>, taken: bool) -> Result<(), ReadError> {
        sequence::set_taken::<Vec<Slot>>(self.view, &self.sequence, slot, taken)?;
        Ok(())
    }

    /// Whether the name is that of an item, and not of a slot that one was moved to.
    fn is_item(&mut self, name: &Name<OpId>) -> Result<bool, ReadError> {
        Ok(!matches!(self.presence(*name)?, Presence::Absent)
            && self.view.get(&slot_key(self.prefix, name.entry))?.is_none())
    }

    /// The row of an item, and whether it has none yet; nothing when the item is gone for good.
    fn item(&mut self, item: &Name<OpId>) -> Result<Option<(ItemRow, bool)>, ReadError> {
        let Presence::There(slot) = self.presence(*item)? else { return Ok(None) };
        if let Some(bytes) = self.view.get(&item_key(self.prefix, item))? {
            return Ok(Some((ItemRow::decode(&bytes).map_err(damaged)?, false)));
        }
        let born = sequence::stamp_of::<Vec<Slot>>(self.view, &self.sequence, item.entry)?;
        match (born, slot.into_iter().next()) {
            (Some(born), Some(value @ (Slot::Item(_) | Slot::Large))) => {
                Ok(Some((ItemRow { born, moved: None, valued: born, value }, true)))
            }
            _ => Err(damaged(CborError::Type)),
        }
    }

    fn put_item(&mut self, item: &Name<OpId>, row: &ItemRow, fresh: bool) -> Result<(), ReadError> {
        if fresh {
            self.head.changed += 1;
            self.lower(row.born)?;
        }
        self.view.put(&item_key(self.prefix, item), row.encode());
        Ok(())
    }

    /// Lets an item stand in the latest of its slots.
    fn stand(&mut self, item: &Name<OpId>, slot: Name<OpId>, at: Stamp) -> Result<(), ReadError> {
        let Some((mut row, fresh)) = self.item(item)? else { return self.take(slot, true) };
        let held = row.slot(item);
        if held == slot {
            return Ok(());
        }
        let mut stamp = at;
        let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
        stamps.push(&mut stamp);
        self.resolve(&mut stamps)?;
        if stamp < row.moved.unwrap_or(row.born) {
            return self.take(slot, true);
        }
        self.take(held, true)?;
        row.moved = Some(stamp);
        self.put_item(item, &row, fresh)
    }

    /// Hides the items of a span that was deleted wherever they were moved to.
    fn take_moved(&mut self, span: &Span<OpId>) -> Result<(), ReadError> {
        let end = Name { offset: span.first.offset.saturating_add(span.count), ..span.first };
        // A span that goes beyond what the operation put in was not deleted, whatever others have deleted of it.
        let last = Name { offset: end.offset.saturating_sub(1), ..span.first };
        if self.head.changed == 0 || !matches!(self.presence(last)?, Presence::Gone) {
            return Ok(());
        }
        let (from, to) = (item_key(self.prefix, &span.first), item_key(self.prefix, &end));
        for (row_key, bytes) in self.view.scan(&from, &to)? {
            let item = item_of_key(self.prefix, &row_key).ok_or_else(|| damaged(CborError::Limit))?;
            let row = ItemRow::decode(&bytes).map_err(damaged)?;
            if row.moved.is_some() {
                self.take(row.slot(&item), true)?;
            }
            self.forget_item(&item, &row_key, &row);
        }
        Ok(())
    }
}

fn decode_waiting(op: OpId, row: &[u8]) -> Result<Ready, CborError> {
    let mut r = Reader::new(row);
    let parts = r.array(4)?;
    let at = Stamp::new(Time(r.uint()?), Height(r.uint()?), op.seq, op.op);
    let op = read(&mut r)?;
    let standing = if parts == 4 && r.bool()? { Standing::Void } else { Standing::Stands };
    r.finish()?;
    Ok(Ready { at, standing, op })
}

fn encode_count(count: u64) -> Bytes {
    let mut w = Writer::new();
    w.uint(count);
    Bytes::from(w.into_bytes())
}

fn encode_value(value: &Value) -> Bytes {
    let mut w = Writer::new();
    write_value(&mut w, value);
    Bytes::from(w.into_bytes())
}

// ---- reading

/// Reads one list by positions.
#[derive(Debug)]
pub(crate) struct ListReader<'a> {
    rows: &'a dyn Rows,
    prefix: &'a [u8],
    sequence_prefix: Key,
    sequence: SequenceReader<'a, Vec<Slot>>,
    changed: bool,
    floor: Option<Stamp>,
}

fn corrupt(_: CborError) -> DbError {
    DbError::Corrupt { what: "a row of a list" }
}

/// Reads the list under a prefix, without what does not reach the floor.
pub(crate) fn with<R>(
    rows: &dyn Rows,
    prefix: &[u8],
    floor: Option<Stamp>,
    read: impl FnOnce(&ListReader<'_>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    let head = Head::decode(rows.get(Head::key(prefix))?.as_ref()).map_err(corrupt)?;
    let mut stamps = (floor, head.floor);
    let mut compared: Vec<&mut Stamp> = stamps.0.iter_mut().chain(&mut stamps.1).collect();
    resolve(&mut compared, |seq| rows.id_of(seq))?;
    if stamps.0 <= stamps.1 {
        return read(&ListReader::open(rows, prefix, &head)?);
    }
    let mut changed = Changed::new();
    raise(&mut Staging { stored: rows, changed: &mut changed }, prefix, floor)?;
    let raised = Overlaid { stored: rows, changed: &changed };
    let head = Head::decode(raised.get(Head::key(prefix))?.as_ref()).map_err(corrupt)?;
    read(&ListReader::open(&raised, prefix, &head)?)
}

impl<'a> ListReader<'a> {
    fn open(rows: &'a dyn Rows, prefix: &'a [u8], head: &Head) -> Result<Self, DbError> {
        let sequence_prefix = sequence_prefix(prefix);
        let sequence = SequenceReader::open(rows, &sequence_prefix)?;
        Ok(Self { rows, prefix, sequence_prefix, sequence, changed: head.changed > 0, floor: head.floor })
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.sequence.len()
    }

    /// The values of a range of positions, as far as there are any.
    pub(crate) fn values(&self, range: Range<usize>) -> Result<Vec<Value>, DbError> {
        let slots = self.sequence.read(range.clone())?;
        let is_plain = |slot: &Slot| matches!(slot, Slot::Item(_));
        let items = if self.changed || !slots.iter().all(is_plain) { self.items(range)? } else { Vec::new() };
        self.held(slots, &items)
    }

    /// The values of items that were put in like this. Without names, none has a row.
    fn held(&self, mut slots: Vec<Slot>, items: &[Name<OpId>]) -> Result<Vec<Value>, DbError> {
        let broken = || corrupt(CborError::Type);
        if self.changed {
            let keys: Vec<Key> = items.iter().map(|item| item_key(self.prefix, item)).collect();
            let rows = self.rows.get_many(&keys)?;
            if rows.len() != slots.len() {
                return Err(broken());
            }
            for (slot, row) in slots.iter_mut().zip(rows) {
                if let Some(row) = row {
                    *slot = ItemRow::decode(&row).map_err(corrupt)?.value;
                }
            }
        }
        let large = slots.iter().zip(items).filter(|(slot, _)| **slot == Slot::Large);
        let keys: Vec<Key> = large.map(|(_, item)| value_key(self.prefix, item)).collect();
        let mut large = if keys.is_empty() { Vec::new() } else { self.rows.get_many(&keys)? }.into_iter();
        let value = |slot| match slot {
            Slot::Item(value) => Ok(value),
            Slot::Large => {
                let row = large.next().flatten().ok_or_else(broken)?;
                decode_value(&row).map_err(corrupt)
            }
            Slot::Moved => Err(broken()),
        };
        slots.into_iter().map(value).collect()
    }

    /// The value at a position.
    pub(crate) fn get(&self, position: usize) -> Result<Option<Value>, DbError> {
        if position >= self.len() {
            return Ok(None);
        }
        Ok(self.values(position..position + 1)?.pop())
    }

    /// The names of the items of a range of positions.
    fn items(&self, range: Range<usize>) -> Result<Vec<Name<OpId>>, DbError> {
        let spans = self.sequence.names(range)?;
        let slots: Vec<Name<OpId>> = spans
            .iter()
            .flat_map(|span| (0..span.count).map(|n| Name { offset: span.first.offset + n, ..span.first }))
            .collect();
        if !self.changed {
            return Ok(slots);
        }
        let keys: Vec<Key> = slots.iter().map(|slot| slot_key(self.prefix, slot.entry)).collect();
        let rows = self.rows.get_many(&keys)?;
        slots
            .into_iter()
            .zip(rows)
            .map(|(slot, row)| row.map_or(Ok(slot), |row| decode_slot(&row).map_err(corrupt)))
            .collect()
    }

    fn check(&self, end: usize) -> Result<(), DbError> {
        let len = self.len();
        if end <= len { Ok(()) } else { Err(DbError::Position { position: end, len }) }
    }

    fn wire(&self, op: OpId) -> Result<Ref, DbError> {
        let entry = if op.seq == STAGED { None } else { Some(self.rows.id_of(op.seq)?) };
        Ok(Ref { entry, op: op.op })
    }

    fn wire_name(&self, name: &Name<OpId>) -> Result<Name<Ref>, DbError> {
        Ok(Name { entry: self.wire(name.entry)?, offset: name.offset })
    }

    /// Where something goes that is to be at a position.
    fn anchor(&self, position: usize) -> Result<Anchor<Ref>, DbError> {
        self.check(position)?;
        let edits = sequence::insert_edits(self.rows, &self.sequence_prefix, position, vec![Slot::Moved])?;
        // Numbers instead of positions: what comes out is looked up among the refs.
        let number = |op: u32| OpId { seq: STAGED, op };
        let numbers: Vec<Option<OpId>> = (0..).map(number).take(edits.refs().len() + 1).map(Some).collect();
        let name = |name: Name<OpId>| {
            let entry = (name.entry.op as usize).checked_sub(1).and_then(|at| edits.refs().get(at));
            let entry = entry.copied().ok_or_else(|| corrupt(CborError::Limit))?;
            Ok(Name { entry, offset: name.offset })
        };
        match edits.ops(&numbers).next() {
            Some(Op::Insert { at: Anchor::After(at), .. }) => name(at).map(Anchor::After),
            Some(Op::Insert { at: Anchor::Before(at), .. }) => name(at).map(Anchor::Before),
            _ => Ok(Anchor::Start),
        }
    }

    /// The edit that puts items in at a position.
    pub(crate) fn insert(&self, position: usize, items: Vec<Value>) -> Result<ListOp<Ref>, DbError> {
        Ok(ListOp::Insert { at: self.anchor(position)?, items })
    }

    /// The edit that deletes a range, if there is anything in it.
    pub(crate) fn delete(&self, range: Range<usize>) -> Result<Option<ListOp<Ref>>, DbError> {
        self.check(range.end)?;
        if range.is_empty() {
            return Ok(None);
        }
        self.delete_items(self.items(range)?).map(Some)
    }

    fn delete_items(&self, mut items: Vec<Name<OpId>>) -> Result<ListOp<Ref>, DbError> {
        items.sort_unstable();
        let mut spans: Vec<(Span<OpId>, Ref)> = Vec::new();
        for item in items {
            match spans.last_mut() {
                Some((held, _))
                    if held.first.entry == item.entry && held.first.offset + held.count == item.offset =>
                {
                    held.count += 1;
                }
                Some((held, wire)) if held.first.entry == item.entry => {
                    let wire = *wire;
                    spans.push((Span { first: item, count: 1 }, wire));
                }
                _ => spans.push((Span { first: item, count: 1 }, self.wire(item.entry)?)),
            }
        }
        let mut spans: Vec<Span<Ref>> = spans
            .into_iter()
            .map(|(span, entry)| Span { first: Name { entry, offset: span.first.offset }, count: span.count })
            .collect();
        spans.sort_unstable_by_key(|span| span.first);
        Ok(ListOp::Delete { spans })
    }

    /// The edit that takes the item at a position to another, if that is elsewhere.
    pub(crate) fn move_to(&self, from: usize, to: usize) -> Result<Option<ListOp<Ref>>, DbError> {
        self.check(from.saturating_add(1))?;
        self.check(to.saturating_add(1))?;
        if from == to {
            return Ok(None);
        }
        // The item itself counts until it has left.
        let at = self.anchor(if to > from { to + 1 } else { to })?;
        Ok(Some(ListOp::Move { item: self.item(from)?, at }))
    }

    /// The edit that replaces the value at a position.
    pub(crate) fn set(&self, position: usize, value: Value) -> Result<ListOp<Ref>, DbError> {
        self.check(position.saturating_add(1))?;
        Ok(ListOp::Set { item: self.item(position)?, value })
    }

    fn item(&self, position: usize) -> Result<Name<Ref>, DbError> {
        let items = self.items(position..position + 1)?;
        self.wire_name(items.first().ok_or_else(|| corrupt(CborError::Limit))?)
    }
}

#[cfg(test)]
mod tests;
