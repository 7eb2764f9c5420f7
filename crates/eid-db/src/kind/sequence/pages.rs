//! The pages of a sequence as rows: decoded when they are needed, written back when they have changed.
//!
//! ```text
//! head        00                -> [root, levels, shown, leaves, inner pages, waiting, floor | null, lowest | null]
//! floor       =  lowest         =  [time, height, seq, op]
//! leaf        01 number         -> [above, after, [seq, op ...], [record ...]]
//! record                        =  op in the table, offset, depth, depth - low, deleted, marks, run
//! inner page  02 number         -> [above, child, shown, low ...]
//! operation   03 seq op         -> [time, height, standing, count, offset, leaf ...]
//! its pieces  04 seq op block   -> [end, offset, leaf ...]
//! its deletes 05 seq op         -> [seq, op, offset, count ...]
//! ```
//! A page number that may be missing stands as one more than it is, and 0. An operation's row says which leaf the first
//! [`PIECE_ELEMENTS`] elements are in, from which offset on; each further block of as many has a row of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::rc::Rc;

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, ReadError, Time};
use eid_crdt::sequence::{self, Marks, Measure, Operation, Pages, Pieces, Record, Standing, Stretch};
use eid_store::{Key, ViewRows};

use super::{Content, Name, OpId, Span};
use crate::error::DbError;
use crate::kind::DamagedRow;
use crate::limits::PIECE_ELEMENTS;
use crate::rows::Rows;
use crate::stamp::{Stamp, resolve};

type Leaf<R> = sequence::Leaf<OpId, R>;
type Inner = sequence::Inner;
type Head = sequence::Head<Stamp>;

const HEAD: u8 = 0;
const LEAF: u8 = 1;
const INNER: u8 = 2;
const OPERATION: u8 = 3;
const PIECES: u8 = 4;
const DELETES: u8 = 5;

/// Where rows come from.
pub(super) trait Source: Debug {
    type Error: From<ReadError>;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;
    fn id_of(&self, seq: Seq) -> Result<EntryId, Self::Error>;
    fn damaged(cause: CborError) -> Self::Error;
}

/// Rows that can be written.
pub(super) struct InView<'v>(pub(super) RefCell<&'v mut dyn ViewRows>);

impl Debug for InView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InView")
    }
}

impl Source for InView<'_> {
    type Error = ReadError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.0.borrow_mut().get(key)
    }

    fn id_of(&self, seq: Seq) -> Result<EntryId, ReadError> {
        self.0.borrow_mut().id_of(seq)
    }

    fn damaged(cause: CborError) -> ReadError {
        ReadError::new(DamagedRow { kind: "sequence", cause })
    }
}

/// Rows that are only read.
#[derive(Debug)]
pub(super) struct InRows<'r>(pub(super) &'r dyn Rows);

impl Source for InRows<'_> {
    type Error = DbError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DbError> {
        self.0.get(key.to_vec())
    }

    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError> {
        self.0.id_of(seq)
    }

    fn damaged(_: CborError) -> DbError {
        DbError::Corrupt { what: "a row of a sequence" }
    }
}

/// The pages that were needed so far.
#[derive(Debug)]
pub(super) struct Loaded<R, B> {
    pub(super) source: B,
    prefix: Key,
    head: Head,
    counts: Counts,
    written: Counts,
    head_written: Head,
    leaves: Shelf<u32, Leaf<R>>,
    inners: Shelf<u32, Inner>,
    operations: Shelf<OpId, Option<OperationRow>>,
    pieces: Shelf<(OpId, u32), Pieces>,
    deletes: Shelf<OpId, Vec<Span>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    leaves: u32,
    inners: u32,
    /// Operations that wait for others.
    pub(super) waiting: u32,
}

#[derive(Debug, Clone)]
struct OperationRow {
    operation: Operation<Stamp>,
    pieces: Pieces,
}

/// Decoded rows by their keys.
#[derive(Debug)]
struct Shelf<K, T>(RefCell<BTreeMap<K, Kept<T>>>);

#[derive(Debug)]
struct Kept<T> {
    row: Rc<T>,
    dirty: bool,
}

impl<K, T> Default for Shelf<K, T> {
    fn default() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }
}

impl<K: Ord + Copy, T: Clone> Shelf<K, T> {
    fn get<E>(&self, key: K, load: impl FnOnce() -> Result<T, E>) -> Result<Rc<T>, E> {
        if let Some(kept) = self.0.borrow().get(&key) {
            return Ok(Rc::clone(&kept.row));
        }
        let row = Rc::new(load()?);
        self.0.borrow_mut().insert(key, Kept { row: Rc::clone(&row), dirty: false });
        Ok(row)
    }

    fn get_mut<E>(&mut self, key: K, load: impl FnOnce() -> Result<T, E>) -> Result<&mut T, E> {
        let kept = match self.0.get_mut().entry(key) {
            std::collections::btree_map::Entry::Occupied(kept) => kept.into_mut(),
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(Kept { row: Rc::new(load()?), dirty: false })
            }
        };
        kept.dirty = true;
        Ok(Rc::make_mut(&mut kept.row))
    }

    fn put(&mut self, key: K, row: T) {
        self.0.get_mut().insert(key, Kept { row: Rc::new(row), dirty: true });
    }

    fn dirty(self) -> impl Iterator<Item = (K, Rc<T>)> {
        self.0.into_inner().into_iter().filter(|(_, kept)| kept.dirty).map(|(key, kept)| (key, kept.row))
    }
}

pub(super) fn head_key(prefix: &[u8]) -> Key {
    key(prefix, HEAD, &[])
}

pub(super) fn leaf_key(prefix: &[u8], number: u32) -> Key {
    key(prefix, LEAF, &[&number.to_be_bytes()])
}

pub(super) fn operation_key(prefix: &[u8], op: OpId) -> Key {
    op_key(prefix, OPERATION, op)
}

pub(super) fn key(prefix: &[u8], tag: u8, parts: &[&[u8]]) -> Key {
    let mut key = prefix.to_vec();
    key.push(tag);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub(super) fn op_key(prefix: &[u8], tag: u8, op: OpId) -> Key {
    key(prefix, tag, &[&op.seq.0.to_be_bytes(), &op.op.to_be_bytes()])
}

fn pieces_key(prefix: &[u8], op: OpId, block: u32) -> Key {
    let mut key = op_key(prefix, PIECES, op);
    key.extend_from_slice(&block.to_be_bytes());
    key
}

impl<R: Content, B: Source> Loaded<R, B> {
    pub(super) fn open(source: B, prefix: &[u8]) -> Result<Self, B::Error> {
        let (head, counts) = match source.get(&head_key(prefix))? {
            Some(row) => decode_head(&row).map_err(B::damaged)?,
            None => (Head::default(), Counts { leaves: 1, inners: 0, waiting: 0 }),
        };
        Ok(Self {
            source,
            prefix: prefix.to_vec(),
            head_written: head.clone(),
            head,
            counts,
            written: counts,
            leaves: Shelf::default(),
            inners: Shelf::default(),
            operations: Shelf::default(),
            pieces: Shelf::default(),
            deletes: Shelf::default(),
        })
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(super) fn waiting(&self) -> u32 {
        self.counts.waiting
    }

    pub(super) fn waiting_mut(&mut self) -> &mut u32 {
        &mut self.counts.waiting
    }

    fn read<T>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, CborError>,
    ) -> Result<Option<T>, B::Error> {
        self.source.get(key)?.map(|row| decode(&row)).transpose().map_err(B::damaged)
    }

    fn load_leaf(&self, number: u32) -> Result<Leaf<R>, B::Error> {
        match self.read(&leaf_key(&self.prefix, number), decode_leaf)? {
            Some(leaf) => Ok(leaf),
            None if number == 0 => Ok(Leaf::default()),
            None => Err(B::damaged(CborError::Truncated)),
        }
    }

    fn load_inner(&self, number: u32) -> Result<Inner, B::Error> {
        let row = self.read(&key(&self.prefix, INNER, &[&number.to_be_bytes()]), decode_inner)?;
        row.ok_or(B::damaged(CborError::Truncated))
    }

    fn load_operation(&self, op: OpId) -> Result<Option<OperationRow>, B::Error> {
        self.read(&operation_key(&self.prefix, op), |row| OperationRow::decode(op, row))
    }

    fn load_pieces(&self, op: OpId, block: u32) -> Result<Pieces, B::Error> {
        let row = self.read(&pieces_key(&self.prefix, op, block), |row| {
            let mut r = Reader::new(row);
            let items = r.array(usize::MAX)?;
            let end = narrow(&mut r)?;
            let pieces = read_pieces(&mut r, items.saturating_sub(1), end)?;
            r.finish()?;
            Ok(pieces)
        })?;
        Ok(row.unwrap_or_default())
    }

    fn load_deletes(&self, op: OpId) -> Result<Vec<Span>, B::Error> {
        Ok(self.read(&op_key(&self.prefix, DELETES, op), decode_deletes)?.unwrap_or_default())
    }

    fn operation_row(&self, op: OpId) -> Result<Rc<Option<OperationRow>>, B::Error> {
        self.operations.get(op, || self.load_operation(op))
    }
}

impl<R: Content, B: Source> Pages for Loaded<R, B> {
    type Entry = OpId;
    type Stamp = Stamp;
    type Run = R;
    type Error = B::Error;
    type Leaf<'a>
        = Rc<Leaf<R>>
    where
        Self: 'a;
    type Inner<'a>
        = Rc<Inner>
    where
        Self: 'a;

    fn head(&self) -> &Head {
        &self.head
    }

    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }

    fn leaf(&self, number: u32) -> Result<Rc<Leaf<R>>, B::Error> {
        self.leaves.get(number, || self.load_leaf(number))
    }

    fn leaf_mut(&mut self, number: u32) -> Result<&mut Leaf<R>, B::Error> {
        drop(self.leaf(number)?);
        self.leaves.get_mut(number, || Ok(Leaf::default()))
    }

    fn add_leaf(&mut self, leaf: Leaf<R>) -> Result<u32, B::Error> {
        let number = self.counts.leaves;
        self.counts.leaves += 1;
        self.leaves.put(number, leaf);
        Ok(number)
    }

    fn inner(&self, number: u32) -> Result<Rc<Inner>, B::Error> {
        self.inners.get(number, || self.load_inner(number))
    }

    fn inner_mut(&mut self, number: u32) -> Result<&mut Inner, B::Error> {
        drop(self.inner(number)?);
        self.inners.get_mut(number, || Err(B::damaged(CborError::Truncated)))
    }

    fn add_inner(&mut self, inner: Inner) -> Result<u32, B::Error> {
        let number = self.counts.inners;
        self.counts.inners += 1;
        self.inners.put(number, inner);
        Ok(number)
    }

    fn operation(&self, op: OpId) -> Result<Option<Operation<Stamp>>, B::Error> {
        Ok(self.operation_row(op)?.as_ref().as_ref().map(|row| row.operation.clone()))
    }

    fn set_operation(&mut self, op: OpId, operation: Operation<Stamp>) -> Result<(), B::Error> {
        drop(self.operation_row(op)?);
        match self.operations.get_mut(op, || Ok::<_, B::Error>(None))? {
            Some(row) => row.operation = operation,
            row => *row = Some(OperationRow { operation, pieces: Pieces::default() }),
        }
        Ok(())
    }

    fn remove_operation(&mut self, _: OpId) -> Result<(), B::Error> {
        // What is applied to rows has its number from the start.
        Ok(())
    }

    fn deletes(&self, op: OpId) -> Result<Vec<Span>, B::Error> {
        Ok(self.deletes.get(op, || self.load_deletes(op))?.as_ref().clone())
    }

    fn add_delete(&mut self, op: OpId, span: Span) -> Result<(), B::Error> {
        drop(self.deletes.get(op, || self.load_deletes(op))?);
        self.deletes.get_mut(op, || Ok::<_, B::Error>(Vec::new()))?.push(span);
        Ok(())
    }

    fn leaf_of(&self, name: Name) -> Result<u32, B::Error> {
        let (block, offset) = (name.offset / PIECE_ELEMENTS, name.offset % PIECE_ELEMENTS);
        let found = if block == 0 {
            self.operation_row(name.entry)?.as_ref().as_ref().and_then(|row| row.pieces.find(offset))
        } else {
            self.pieces.get((name.entry, block), || self.load_pieces(name.entry, block))?.find(offset)
        };
        found.ok_or(B::damaged(CborError::Truncated))
    }

    fn assign(&mut self, span: Span, leaf: u32) -> Result<(), B::Error> {
        let (op, end) = (span.first.entry, span.first.offset + span.count);
        let mut first = span.first.offset;
        while first < end {
            let (block, offset) = (first / PIECE_ELEMENTS, first % PIECE_ELEMENTS);
            let count = (end - first).min(PIECE_ELEMENTS - offset);
            if block == 0 {
                drop(self.operation_row(op)?);
                if let Some(row) = self.operations.get_mut(op, || Ok::<_, B::Error>(None))? {
                    row.pieces.assign(offset, offset + count, leaf);
                }
            } else {
                drop(self.pieces.get((op, block), || self.load_pieces(op, block))?);
                let pieces = self.pieces.get_mut((op, block), || Ok::<_, B::Error>(Pieces::default()))?;
                pieces.assign(offset, offset + count, leaf);
            }
            first += count;
        }
        Ok(())
    }

    fn precedes(&self, stamp: &Stamp, other: &Stamp) -> Result<bool, B::Error> {
        let (mut stamp, mut other) = (*stamp, *other);
        resolve(&mut [&mut stamp, &mut other], |seq| self.source.id_of(seq))?;
        Ok(stamp < other)
    }
}

impl<R: Content> Loaded<R, InView<'_>> {
    /// Writes what has changed.
    pub(super) fn write_back(self) {
        let Self { source, prefix, head, head_written, counts, written, .. } = self;
        let view = source.0.into_inner();
        if head != head_written || counts != written {
            view.put(&head_key(&prefix), encode_head(&head, counts));
        }
        for (number, leaf) in self.leaves.dirty() {
            view.put(&leaf_key(&prefix, number), encode_leaf(&leaf));
        }
        for (number, inner) in self.inners.dirty() {
            view.put(&key(&prefix, INNER, &[&number.to_be_bytes()]), encode_inner(&inner));
        }
        for (op, row) in self.operations.dirty() {
            if let Some(row) = row.as_ref() {
                view.put(&operation_key(&prefix, op), row.encode());
            }
        }
        for ((op, block), pieces) in self.pieces.dirty() {
            let mut w = Writer::new();
            w.array(1 + 2 * pieces.starts().len()).uint(u64::from(pieces.end()));
            write_pieces(&mut w, &pieces);
            view.put(&pieces_key(&prefix, op, block), Bytes::from(w.into_bytes()));
        }
        for (op, spans) in self.deletes.dirty() {
            view.put(&op_key(&prefix, DELETES, op), encode_deletes(&spans));
        }
    }
}

fn narrow(r: &mut Reader<'_>) -> Result<u32, CborError> {
    u32::try_from(r.uint()?).map_err(|_| CborError::Limit)
}

fn write_page(w: &mut Writer, number: Option<u32>) {
    w.uint(number.map_or(0, |number| u64::from(number) + 1));
}

fn read_page(r: &mut Reader<'_>) -> Result<Option<u32>, CborError> {
    match r.uint()?.checked_sub(1) {
        Some(number) => u32::try_from(number).map(Some).map_err(|_| CborError::Limit),
        None => Ok(None),
    }
}

fn write_op(w: &mut Writer, op: OpId) {
    w.uint(op.seq.0).uint(u64::from(op.op));
}

fn read_op(r: &mut Reader<'_>) -> Result<OpId, CborError> {
    Ok(OpId { seq: Seq(r.uint()?), op: narrow(r)? })
}

fn encode_head(head: &Head, counts: Counts) -> Bytes {
    let mut w = Writer::new();
    w.array(8).uint(u64::from(head.root)).uint(u64::from(head.levels)).uint(head.shown as u64);
    for count in [counts.leaves, counts.inners, counts.waiting] {
        w.uint(u64::from(count));
    }
    for stamp in [&head.floor, &head.lowest] {
        match stamp {
            Some(stamp) => {
                w.array(4).uint(stamp.time.0).uint(stamp.height.0);
                write_op(&mut w, OpId::of(stamp));
            }
            None => drop(w.null()),
        }
    }
    Bytes::from(w.into_bytes())
}

fn decode_head(row: &[u8]) -> Result<(Head, Counts), CborError> {
    let mut r = Reader::new(row);
    r.array_exact(8)?;
    let (root, levels) = (narrow(&mut r)?, narrow(&mut r)?);
    let shown = usize::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
    let counts = Counts { leaves: narrow(&mut r)?, inners: narrow(&mut r)?, waiting: narrow(&mut r)? };
    let (floor, lowest) = (read_stamp(&mut r)?, read_stamp(&mut r)?);
    r.finish()?;
    Ok((Head { root, levels, shown, floor, lowest }, counts))
}

fn read_stamp(r: &mut Reader<'_>) -> Result<Option<Stamp>, CborError> {
    r.nullable(|r| {
        r.array_exact(4)?;
        let (time, height, op) = (Time(r.uint()?), Height(r.uint()?), read_op(r)?);
        Ok(Stamp::new(time, height, op.seq, op.op))
    })
}

/// Items of a record in a row.
const RECORD_ITEMS: usize = 7;

fn encode_leaf<R: Content>(leaf: &Leaf<R>) -> Bytes {
    let (mut table, mut numbers) = (Vec::new(), BTreeMap::new());
    let mut body = Writer::new();
    for Record { stretch, run } in &leaf.records {
        let op = stretch.first.entry;
        let number = *numbers.entry(op).or_insert_with(|| {
            table.push(op);
            table.len() - 1
        });
        body.uint(number as u64).uint(u64::from(stretch.first.offset)).uint(u64::from(stretch.depth));
        body.uint(u64::from(stretch.depth - stretch.low)).uint(u64::from(stretch.deleted));
        body.uint(u64::from(stretch.marks.0));
        run.write(&mut body);
    }
    let mut w = Writer::new();
    w.array(4);
    write_page(&mut w, leaf.above);
    write_page(&mut w, leaf.after);
    w.array(table.len() * 2);
    table.into_iter().for_each(|op| write_op(&mut w, op));
    w.array(leaf.records.len() * RECORD_ITEMS).raw(&body.into_bytes());
    Bytes::from(w.into_bytes())
}

fn decode_leaf<R: Content>(row: &[u8]) -> Result<Leaf<R>, CborError> {
    let mut r = Reader::new(row);
    r.array_exact(4)?;
    let (above, after) = (read_page(&mut r)?, read_page(&mut r)?);
    let count = r.array(usize::MAX)? / 2;
    let table: Vec<OpId> = (0..count).map(|_| read_op(&mut r)).collect::<Result<_, _>>()?;
    let count = r.array(usize::MAX)? / RECORD_ITEMS;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = *table.get(narrow(&mut r)? as usize).ok_or(CborError::Limit)?;
        let first = Name { entry, offset: narrow(&mut r)? };
        let depth = narrow(&mut r)?;
        let low = depth.checked_sub(narrow(&mut r)?).ok_or(CborError::Limit)?;
        let deleted = narrow(&mut r)?;
        let marks = u8::try_from(r.uint()?).ok().filter(|marks| *marks <= Marks::ALL.0);
        let marks = Marks(marks.ok_or(CborError::Limit)?);
        let run = R::read(&mut r)?;
        let count = u32::try_from(run.count()).map_err(|_| CborError::Limit)?;
        depth.max(first.offset).checked_add(count).ok_or(CborError::Limit)?;
        records.push(Record { stretch: Stretch { first, count, depth, low, deleted, marks }, run });
    }
    r.finish()?;
    Ok(Leaf::new(above, after, records))
}

fn encode_inner(inner: &Inner) -> Bytes {
    let mut w = Writer::new();
    w.array(1 + 3 * inner.children.len());
    write_page(&mut w, inner.above);
    for (child, measure) in inner.children.iter().zip(&inner.measures) {
        w.uint(u64::from(*child)).uint(measure.shown as u64).uint(u64::from(measure.low));
    }
    Bytes::from(w.into_bytes())
}

fn decode_inner(row: &[u8]) -> Result<Inner, CborError> {
    let mut r = Reader::new(row);
    let count = r.array(usize::MAX)? / 3;
    let above = read_page(&mut r)?;
    let (mut children, mut measures) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        children.push(narrow(&mut r)?);
        let shown = usize::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
        measures.push(Measure { shown, low: narrow(&mut r)? });
    }
    r.finish()?;
    if children.is_empty() {
        return Err(CborError::Truncated);
    }
    Ok(Inner { above, children, measures })
}

fn write_pieces(w: &mut Writer, pieces: &Pieces) {
    for (start, leaf) in pieces.starts() {
        w.uint(u64::from(*start)).uint(u64::from(*leaf));
    }
}

fn read_pieces(r: &mut Reader<'_>, items: usize, end: u32) -> Result<Pieces, CborError> {
    let starts = (0..items / 2).map(|_| Ok((narrow(r)?, narrow(r)?)));
    Ok(Pieces::from_parts(starts.collect::<Result<_, CborError>>()?, end))
}

impl OperationRow {
    fn encode(&self) -> Bytes {
        let Operation { stamp, standing, count } = &self.operation;
        let mut w = Writer::new();
        w.array(4 + 2 * self.pieces.starts().len()).uint(stamp.time.0).uint(stamp.height.0);
        w.uint(u64::from(*standing == Standing::Void)).uint(u64::from(*count));
        write_pieces(&mut w, &self.pieces);
        Bytes::from(w.into_bytes())
    }

    fn decode(op: OpId, row: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(row);
        let items = r.array(usize::MAX)?;
        let stamp = Stamp::new(Time(r.uint()?), Height(r.uint()?), op.seq, op.op);
        let standing = if r.uint()? == 0 { Standing::Stands } else { Standing::Void };
        let count = narrow(&mut r)?;
        let pieces = read_pieces(&mut r, items.saturating_sub(4), count.min(PIECE_ELEMENTS))?;
        r.finish()?;
        Ok(Self { operation: Operation { stamp, standing, count }, pieces })
    }
}

fn encode_deletes(spans: &[Span]) -> Bytes {
    let mut w = Writer::new();
    w.array(4 * spans.len());
    for span in spans {
        write_op(&mut w, span.first.entry);
        w.uint(u64::from(span.first.offset)).uint(u64::from(span.count));
    }
    Bytes::from(w.into_bytes())
}

fn decode_deletes(row: &[u8]) -> Result<Vec<Span>, CborError> {
    let mut r = Reader::new(row);
    let count = r.array(usize::MAX)? / 4;
    let span = |r: &mut Reader<'_>| {
        Ok(Span { first: Name { entry: read_op(r)?, offset: narrow(r)? }, count: narrow(r)? })
    };
    let spans = (0..count).map(|_| span(&mut r)).collect::<Result<_, CborError>>()?;
    r.finish()?;
    Ok(spans)
}
