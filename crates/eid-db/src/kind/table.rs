//! Kind `table`: one row of the view for each row of the table, and, for its fields that count or are texts, what those
//! keep.
//!
//! ```text
//! insert     [0, key, {field: value}]
//! update     [1, key, {field: value}, [field taken away ...]]
//! delete     [2, key]
//! increment  [3, key, field, by]
//! edit       [4, key, field, edits?]          without any, the field becomes a text
//! count      00 -> how many rows are visible
//! row        01 key -> see `row`
//! counter    03 key field -> increments, see `count`
//! text       04 key field -> see `sequence`
//! ```
//! In the keys of counters and texts the key of the row and the name of the field each end with `00 01`, and a zero byte
//! in them is written `00 ff`.

mod row;
mod written;

use row::AsText;

pub(crate) use row::Held;
pub(crate) use written::{Written, counts, written};

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use eid_core::ReadError;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_crdt::{Crdt as _, RowOp, Value};
use eid_store::{Direction, Key, ViewRows, Wanted};

use crate::codec::{map_order, read_map, read_value, write_value};
use crate::error::DbError;
use crate::kind::index::{self, Indexes};
use crate::kind::sequence::{self, Edits, Standing};
use crate::kind::{DamagedRow, count};
use crate::limits::{
    FIELD_BYTES_MAX, INDEX_STEP_BYTES, INDEX_STEP_ROWS, PAGE_ROWS, ROW_FIELDS_MAX, ROW_KEY_BYTES_MAX,
    STEP_PAGE_ROWS,
};
use crate::rows::{Changed, Overlaid, Rows, ViewAsRows};
use crate::stamp::{Stamp, resolve};

/// The name of this kind in payloads.
pub(crate) const KIND: &str = "table";

const INSERT: u64 = 0;
const UPDATE: u64 = 1;
const DELETE: u64 = 2;
const INCREMENT: u64 = 3;
const EDIT: u64 = 4;

const COUNT: &[u8] = &[0];
const ROW: u8 = 1;
const COUNTER: u8 = 3;
const TEXT: u8 = 4;
const ROWS_END: &[u8] = &[ROW + 1];

/// The fields of a row.
pub(crate) type Fields = BTreeMap<String, Value>;

/// An operation on one row. Values stay encoded: a table never looks into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableOp {
    pub(crate) key: String,
    pub(crate) op: RowOp<Bytes>,
    pub(crate) detail: Detail,
}

/// What the state of the row itself does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Detail {
    None,
    /// By how much an increment counts.
    By(i64),
    /// What an edit does.
    Edits(Edits<String>),
}

fn is_key(key: &str) -> bool {
    (1..=ROW_KEY_BYTES_MAX).contains(&key.len())
}

fn is_field(name: &str) -> bool {
    name.len() <= FIELD_BYTES_MAX
}

/// Checks what is about to be written, so that nothing is written that no replica would apply.
pub(crate) fn check_key(key: &str) -> Result<(), DbError> {
    if is_key(key) { Ok(()) } else { Err(DbError::RowKey) }
}

/// Checks the fields of a row.
pub(crate) fn check_fields<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> Result<(), DbError> {
    if names.len() > ROW_FIELDS_MAX {
        return Err(DbError::NotARow { found: "one with more fields" });
    }
    for name in names {
        if !is_field(name) {
            return Err(DbError::NotARow { found: "one with longer names" });
        }
    }
    Ok(())
}

pub(crate) fn encode_insert(key: &str, fields: &Fields) -> Bytes {
    let mut w = Writer::new();
    w.array(3).uint(INSERT).text(key).map(fields.len());
    for (name, value) in map_order(fields) {
        w.text(name);
        write_value(&mut w, value);
    }
    Bytes::from(w.into_bytes())
}

pub(crate) fn encode_update(key: &str, set: &Fields, unset: &BTreeSet<String>) -> Bytes {
    let mut w = Writer::new();
    w.array(4).uint(UPDATE).text(key).map(set.len());
    for (name, value) in map_order(set) {
        w.text(name);
        write_value(&mut w, value);
    }
    w.array(unset.len());
    for name in unset {
        w.text(name);
    }
    Bytes::from(w.into_bytes())
}

pub(crate) fn encode_increment(key: &str, field: &str, by: i64) -> Bytes {
    let mut w = Writer::new();
    w.array(4).uint(INCREMENT).text(key).text(field).int(i128::from(by));
    Bytes::from(w.into_bytes())
}

pub(crate) fn encode_edit(key: &str, field: &str, edits: &Edits<String>) -> Bytes {
    let mut w = Writer::new();
    edits.write(w.array(4).uint(EDIT).text(key).text(field));
    Bytes::from(w.into_bytes())
}

/// Makes a field a text that is empty, or leaves it the text that it is.
pub(crate) fn encode_begin_text(key: &str, field: &str) -> Bytes {
    let mut w = Writer::new();
    w.array(3).uint(EDIT).text(key).text(field);
    Bytes::from(w.into_bytes())
}

pub(crate) fn encode_delete(key: &str) -> Bytes {
    let mut w = Writer::new();
    w.array(2).uint(DELETE).text(key);
    Bytes::from(w.into_bytes())
}

/// Decodes an operation, strictly.
pub(crate) fn decode(bytes: &Bytes) -> Result<TableOp, CborError> {
    let mut r = Reader::new(bytes);
    let items = r.array(4)?;
    let code = r.uint()?;
    let key = r.text(ROW_KEY_BYTES_MAX)?;
    if !is_key(key) {
        return Err(CborError::Limit);
    }
    let mut detail = Detail::None;
    let op = match (code, items) {
        (INSERT, 3) => RowOp::Insert(read_fields(&mut r, bytes)?),
        (UPDATE, 4) => {
            let mut fields: BTreeMap<String, Option<Bytes>> =
                read_fields(&mut r, bytes)?.into_iter().map(|(name, value)| (name, Some(value))).collect();
            let mut last: Option<&str> = None;
            for _ in 0..r.array(ROW_FIELDS_MAX)? {
                let name = r.text(FIELD_BYTES_MAX)?;
                if last.is_some_and(|last| last >= name) || fields.insert(name.to_owned(), None).is_some() {
                    return Err(CborError::NonCanonical);
                }
                last = Some(name);
            }
            RowOp::Update(fields)
        }
        (DELETE, 2) => RowOp::Delete,
        (INCREMENT, 4) => {
            let field = r.text(FIELD_BYTES_MAX)?.to_owned();
            detail = Detail::By(i64::try_from(r.int()?).map_err(|_| CborError::Limit)?);
            RowOp::Count(field)
        }
        (EDIT, 4) => {
            let field = r.text(FIELD_BYTES_MAX)?.to_owned();
            detail = Detail::Edits(Edits::read(&mut r)?);
            RowOp::Edit(field)
        }
        (EDIT, 3) => RowOp::Edit(r.text(FIELD_BYTES_MAX)?.to_owned()),
        _ => return Err(CborError::Type),
    };
    let key = key.to_owned();
    r.finish()?;
    Ok(TableOp { key, op, detail })
}

fn read_fields<'a>(r: &mut Reader<'a>, whole: &'a Bytes) -> Result<BTreeMap<String, Bytes>, CborError> {
    let fields = read_map(r, ROW_FIELDS_MAX, |r| {
        let start = r.position();
        read_value(r)?;
        Ok(whole.slice(start..r.position()))
    })?;
    if fields.keys().all(|name| is_field(name)) { Ok(fields) } else { Err(CborError::Limit) }
}

fn row_key(key: &str) -> Key {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(ROW);
    row.extend_from_slice(key.as_bytes());
    row
}

/// Under which keys of the view a field keeps what is not in its row.
fn field_prefix(tag: u8, key: &str, field: &str) -> Key {
    let mut prefix = vec![tag];
    for part in [key, field] {
        for byte in part.bytes() {
            prefix.push(byte);
            if byte == 0 {
                prefix.push(0xff);
            }
        }
        prefix.extend_from_slice(&[0, 1]);
    }
    prefix
}

/// Where the text of a field is.
pub(crate) fn text_prefix(key: &str, field: &str) -> Key {
    field_prefix(TEXT, key, field)
}

fn counter_prefix(key: &str, field: &str) -> Key {
    field_prefix(COUNTER, key, field)
}

/// Names the rows that the operation changes.
pub(crate) fn reads(op: &TableOp, wanted: &mut Wanted) {
    wanted.key(COUNT);
    wanted.key(&row_key(&op.key));
    index::reads(wanted);
    if let (RowOp::Edit(field), Detail::Edits(edits)) = (&op.op, &op.detail) {
        sequence::wanted(&text_prefix(&op.key, field), edits, wanted);
    }
}

fn damaged(cause: CborError) -> ReadError {
    ReadError::new(DamagedRow { kind: KIND, cause })
}

/// The index rows of a row.
fn index_rows(
    indexes: &Indexes,
    key: &str,
    row: &row::Row,
    view: &mut dyn ViewRows,
) -> Result<BTreeSet<Key>, ReadError> {
    if indexes.is_empty() || !row.state.is_visible() {
        return Ok(BTreeSet::new());
    }
    let rows = ViewAsRows::new(view);
    indexes.rows_of(key, |name| row.indexed(&rows, key, name)).map_err(ReadError::new)
}

/// How many fields the operation names, and whether this is one that it may change in a row. What it does not name it
/// changes only by showing or hiding the row, or when there are too many fields.
fn names(op: &RowOp<Bytes>, was_visible: bool, field: &str) -> (usize, bool) {
    match op {
        RowOp::Insert(fields) => (fields.len(), !was_visible || fields.contains_key(field)),
        RowOp::Update(fields) => (fields.len(), fields.contains_key(field)),
        RowOp::Delete => (0, true),
        RowOp::Count(name) | RowOp::Edit(name) => (1, name == field),
    }
}

/// Joins the operation with the row.
pub(crate) fn apply(op: &TableOp, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    let key = row_key(&op.key);
    let held = view.get(&key)?;
    let mut row = held.as_ref().map_or(Ok(row::Row::default()), row::decode).map_err(damaged)?;
    let mut stamp = stamp;
    let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
    stamps.push(&mut stamp);
    resolve(&mut stamps, |seq| view.id_of(seq))?;
    let was_visible = row.state.is_visible();
    let mut indexes = Indexes::read(view)?;
    let taken = row.state.fields().len();
    indexes.retain(|field| {
        let (named, is_named) = names(&op.op, was_visible, field);
        is_named || taken + named > ROW_FIELDS_MAX
    });
    let index_before = index_rows(&indexes, &op.key, &row, view)?;
    let texts = row.state.fields().filter(|(_, field)| field.edited.is_some());
    let texts: Vec<(String, Option<Stamp>)> =
        texts.map(|(name, _)| (name.to_owned(), row.state.field_floor(name).copied())).collect();
    row.state.apply(&stamp, &op.op);
    for (name, floor_before) in texts {
        match row.state.field_floor(&name).copied() {
            Some(floor) if Some(floor) > floor_before => {
                sequence::raise_floor::<String>(view, &text_prefix(&op.key, &name), floor)?;
            }
            _ => {}
        }
    }
    match (&op.op, &op.detail) {
        (RowOp::Count(field), Detail::By(by)) => {
            let floor = row.state.field_floor(field).copied();
            let sum = row.sums.remove(field);
            if let Some(sum) = count::add(view, &counter_prefix(&op.key, field), sum, *by, stamp, floor)? {
                row.sums.insert(field.clone(), sum);
            }
        }
        // Also an edit that is dead: what later ones name may be in it.
        (RowOp::Edit(field), Detail::Edits(edits)) => {
            let floor = row.state.field_floor(field).copied();
            sequence::apply(view, &text_prefix(&op.key, field), stamp, Standing::Stands, edits, floor)?;
        }
        _ => {}
    }
    let counted = |name: &String| row.state.field(name).is_some_and(|field| field.counted.is_some());
    row.sums.retain(|name, _| counted(name));
    let index_after = index_rows(&indexes, &op.key, &row, view)?;
    index::replace(view, &index_before, &index_after);
    if row.state.is_visible() != was_visible {
        let held = view.get(COUNT)?;
        let rows = held.as_deref().map_or(Ok(0), decode_row_count).map_err(damaged)?;
        let rows = if was_visible { rows.saturating_sub(1) } else { rows + 1 };
        view.put(COUNT, Bytes::copy_from_slice(&rows.to_be_bytes()));
    }
    let bytes = row::encode(&row);
    if held.as_ref() != Some(&bytes) {
        view.put(&key, bytes);
    }
    Ok(())
}

/// Takes in an operation that does not count: of an edit the places that others may name, of others nothing.
pub(crate) fn apply_void(op: &TableOp, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    if let (RowOp::Edit(field), Detail::Edits(edits)) = (&op.op, &op.detail) {
        // What is hidden needs no floor: the next edit that counts raises it.
        sequence::apply(view, &text_prefix(&op.key, field), stamp, Standing::Void, edits, None)?;
    }
    Ok(())
}

/// Brings the rows of indexes in line after rows were replaced, each given with what it was before.
pub(crate) fn replaced(before: &[(Key, Option<Bytes>)], view: &mut dyn ViewRows) -> Result<(), ReadError> {
    let indexes = Indexes::read(view)?;
    if indexes.is_empty() {
        return Ok(());
    }
    let keys: BTreeSet<String> = before.iter().filter_map(|(key, _)| row_of(key)).collect();
    let changed: Changed = before.iter().cloned().collect();
    let mut found = Vec::new();
    {
        let rows = ViewAsRows::new(view);
        let was = Overlaid { stored: &rows, changed: &changed };
        for key in keys {
            let of = |rows: &dyn Rows| stored_index_rows(&indexes, &key, rows).map_err(ReadError::new);
            found.push((of(&was)?, of(&rows)?));
        }
    }
    found.iter().for_each(|(before, after)| index::replace(view, before, after));
    Ok(())
}

/// The index rows of a row as it is stored.
fn stored_index_rows(indexes: &Indexes, key: &str, rows: &dyn Rows) -> Result<BTreeSet<Key>, DbError> {
    let Some(bytes) = rows.get(row_key(key))? else { return Ok(BTreeSet::new()) };
    let mut row = row::decode(&bytes).map_err(row::damaged)?;
    if !row.state.is_visible() {
        return Ok(BTreeSet::new());
    }
    let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
    resolve(&mut stamps, |seq| rows.id_of(seq))?;
    indexes.rows_of(key, |name| row.indexed(rows, key, name))
}

/// The key of the row that a row of the view belongs to, whether it is that or one of its fields keeps it.
fn row_of(key: &[u8]) -> Option<String> {
    let (tag, rest) = key.split_first()?;
    let name = match *tag {
        ROW => rest.to_vec(),
        COUNTER | TEXT => {
            let (mut name, mut bytes) = (Vec::new(), rest.iter());
            loop {
                match bytes.next()? {
                    0 if *bytes.next()? == 1 => break name,
                    byte => name.push(*byte),
                }
            }
        }
        _ => return None,
    };
    String::from_utf8(name).ok()
}

/// Whether an index has rows for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Covered {
    In,
    Out,
}

/// Writes or removes the index rows of the rows of a range. Gives how many rows there are.
pub(crate) fn index_range(
    view: &mut dyn ViewRows,
    indexes: &Indexes,
    from: &str,
    to: Option<&str>,
    covered: Covered,
) -> Result<u64, ReadError> {
    let to = to.map_or_else(|| ROWS_END.to_vec(), row_key);
    let rows = view.scan(&row_key(from), &to)?;
    for (key, bytes) in &rows {
        let key = std::str::from_utf8(&key[1..]).map_err(|_| damaged(CborError::Type))?;
        let mut row = row::decode(bytes).map_err(damaged)?;
        let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
        resolve(&mut stamps, |seq| view.id_of(seq))?;
        let found = index_rows(indexes, key, &row, view)?;
        match covered {
            Covered::In => index::replace(view, &BTreeSet::new(), &found),
            Covered::Out => index::replace(view, &found, &BTreeSet::new()),
        }
    }
    Ok(rows.len() as u64)
}

/// Where a step over rows ends that begins at a key: at the next row after it, or nowhere when no row is left.
pub(crate) fn step_up(rows: &dyn Rows, from: &str) -> Result<Option<String>, DbError> {
    let mut from = row_key(from);
    let (mut count, mut bytes) = (0, 0);
    loop {
        let page = rows.scan(&from, ROWS_END, Direction::Forward, STEP_PAGE_ROWS)?;
        for (key, value) in &page {
            if count == INDEX_STEP_ROWS || bytes >= INDEX_STEP_BYTES {
                return key_of_row(key).map(Some);
            }
            count += 1;
            bytes += value.len();
        }
        let Some((last, _)) = page.last().filter(|_| page.len() == STEP_PAGE_ROWS) else { return Ok(None) };
        from = after(last.clone());
    }
}

/// Where a step over rows begins that ends below a key, or at the last row: at a row, or before all.
pub(crate) fn step_down(rows: &dyn Rows, below: Option<&str>) -> Result<Option<String>, DbError> {
    let mut to = below.map_or_else(|| ROWS_END.to_vec(), row_key);
    let (mut count, mut bytes) = (0, 0);
    loop {
        let page = rows.scan(&[ROW], &to, Direction::Backward, STEP_PAGE_ROWS)?;
        for (key, value) in &page {
            count += 1;
            bytes += value.len();
            if count == INDEX_STEP_ROWS || bytes >= INDEX_STEP_BYTES {
                return key_of_row(key).map(Some);
            }
        }
        let Some((last, _)) = page.last().filter(|_| page.len() == STEP_PAGE_ROWS) else { return Ok(None) };
        to.clone_from(last);
    }
}

fn key_of_row(row: &[u8]) -> Result<String, DbError> {
    let key = row.get(1..).and_then(|key| std::str::from_utf8(key).ok());
    key.map(str::to_owned).ok_or(DbError::Corrupt { what: "the key of a row" })
}

fn decode_row_count(bytes: &[u8]) -> Result<u64, CborError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| CborError::Type)
}

/// How many rows are visible.
pub(crate) fn row_count(rows: &dyn Rows) -> Result<u64, DbError> {
    let held = rows.get(COUNT.to_vec())?;
    held.as_deref().map_or(Ok(0), decode_row_count).map_err(row::damaged)
}

/// The fields of a row, if it is visible.
pub(crate) fn get(rows: &dyn Rows, key: &str) -> Result<Option<Fields>, DbError> {
    rows.get(row_key(key))?.map_or(Ok(None), |bytes| row::visible(rows, key, &bytes))
}

/// The fields of rows, in the order of the keys.
pub(crate) fn get_many(rows: &dyn Rows, keys: &[&str]) -> Result<Vec<Option<Fields>>, DbError> {
    let held = rows.get_many(&keys.iter().map(|key| row_key(key)).collect::<Vec<_>>())?;
    let rows = keys
        .iter()
        .zip(held)
        .map(|(key, bytes)| bytes.map_or(Ok(None), |bytes| row::visible(rows, key, &bytes)));
    rows.collect()
}

/// Whether a row is visible: reads none of its fields.
pub(crate) fn contains(rows: &dyn Rows, key: &str) -> Result<bool, DbError> {
    rows.get(row_key(key))?.map_or(Ok(false), |bytes| row::is_visible(&bytes))
}

/// A row to be changed, if it is visible.
pub(crate) fn held(rows: &dyn Rows, key: &str) -> Result<Option<Held>, DbError> {
    rows.get(row_key(key))?.map_or(Ok(None), |bytes| row::held(rows, key, &bytes))
}

/// Whether the field of a visible row is a text that is edited, or becomes one by its first edit.
pub(crate) fn check_text(rows: &dyn Rows, key: &str, field: &str) -> Result<(), DbError> {
    check_fields([field.to_owned()].iter())?;
    match rows.get(row_key(key))?.map_or(Ok(AsText::NoRow), |bytes| row::as_text(&bytes, field))? {
        AsText::Text => Ok(()),
        AsText::Other(found) => Err(DbError::Type { found, wanted: "text that is edited" }),
        AsText::NoRow => Err(DbError::NoSuchRow { key: key.to_owned() }),
    }
}

/// A run of keys.
pub(crate) type KeyRange<'a> = (Bound<&'a str>, Bound<&'a str>);

/// All keys.
pub(crate) const ALL: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

/// The visible rows of a range, in order of their keys, one after another until `each` says to stop.
pub(crate) fn scan(
    rows: &dyn Rows,
    range: KeyRange<'_>,
    direction: Direction,
    page: usize,
    each: &mut dyn FnMut(String, Fields) -> Result<Flow, DbError>,
) -> Result<(), DbError> {
    let mut from = match range.0 {
        Bound::Included(key) => row_key(key),
        Bound::Excluded(key) => after(row_key(key)),
        Bound::Unbounded => vec![ROW],
    };
    let mut to = match range.1 {
        Bound::Included(key) => after(row_key(key)),
        Bound::Excluded(key) => row_key(key),
        Bound::Unbounded => ROWS_END.to_vec(),
    };
    let mut page = page.clamp(1, PAGE_ROWS);
    loop {
        let found = rows.scan(&from, &to, direction, page)?;
        let more = found.len() == page;
        for (key, bytes) in found {
            match direction {
                Direction::Forward => from = after(key.clone()),
                Direction::Backward => to.clone_from(&key),
            }
            let key = key_of_row(&key)?;
            if let Some(fields) = row::visible(rows, &key, &bytes)?
                && each(key, fields)? == Flow::Stop
            {
                return Ok(());
            }
        }
        if !more {
            return Ok(());
        }
        page = PAGE_ROWS;
    }
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    Stop,
}

fn after(mut key: Key) -> Key {
    key.push(0);
    key
}
