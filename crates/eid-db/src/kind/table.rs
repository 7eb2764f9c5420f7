//! Kind `table`: one row of the view for each row of the table.
//!
//! ```text
//! insert  [0, key, {field: value}]
//! update  [1, key, {field: value}, [field taken away ...]]
//! delete  [2, key]
//! row     01 key -> [entries, inserted, deleted, [[field, entry, op, value?] ...]]
//! ```

mod written;

pub(crate) use written::written;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use eid_core::ReadError;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::limits::NESTING_MAX;
use eid_crdt::{Crdt as _, RowOp, RowState, Value};
use eid_store::{Direction, Key, ViewRows, Wanted};

use crate::codec::{decode_value, map_order, read_map, read_value, write_value};
use crate::error::DbError;
use crate::kind::DamagedRow;
use crate::kind::index::{self, Indexes};
use crate::limits::{FIELD_BYTES_MAX, PAGE_ROWS, ROW_FIELDS_MAX, ROW_KEY_BYTES_MAX};
use crate::rows::Rows;
use crate::stamp::{Stamp, StampTable, resolve};

/// The name of this kind in payloads.
pub(crate) const KIND: &str = "table";

const INSERT: u64 = 0;
const UPDATE: u64 = 1;
const DELETE: u64 = 2;

/// The tag of every key of the view.
const ROW: u8 = 1;
const ROWS_END: &[u8] = &[ROW + 1];

/// The fields of a row.
pub(crate) type Fields = BTreeMap<String, Value>;

/// An operation on one row. Values stay encoded: a table never looks into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableOp {
    pub(crate) key: String,
    pub(crate) op: RowOp<Bytes>,
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
        _ => return Err(CborError::Type),
    };
    let key = key.to_owned();
    r.finish()?;
    Ok(TableOp { key, op })
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

/// Names the row that the operation changes.
pub(crate) fn reads(op: &TableOp, wanted: &mut Wanted) {
    wanted.key(&row_key(&op.key));
    index::reads(wanted);
}

/// The index rows of a row.
fn index_rows(indexes: &Indexes, key: &str, row: &Row) -> Result<BTreeSet<Key>, ReadError> {
    if indexes.is_empty() || !row.is_visible() {
        return Ok(BTreeSet::new());
    }
    indexes.rows_of(key, |name| {
        let field = row.stamped_fields().find(|(field, _, _)| *field == name);
        let value = field.and_then(|(_, _, value)| value).map(|value| decode_value(value));
        value.transpose().map_err(|cause| ReadError::new(DamagedRow { kind: KIND, cause }))
    })
}

/// Joins the operation with the row.
pub(crate) fn apply(op: &TableOp, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    let key = row_key(&op.key);
    let held = view.get(&key)?;
    let mut row = match &held {
        Some(bytes) => decode_row(bytes).map_err(|cause| ReadError::new(DamagedRow { kind: KIND, cause }))?,
        None => RowState::default(),
    };
    let mut stamp = stamp;
    let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
    stamps.push(&mut stamp);
    resolve(&mut stamps, |seq| view.id_of(seq))?;
    let indexes = Indexes::read(view)?;
    let before = index_rows(&indexes, &op.key, &row)?;
    row.apply(&stamp, &op.op);
    index::replace(view, &before, &index_rows(&indexes, &op.key, &row)?);
    let bytes = encode_row(&row);
    if held.as_ref() != Some(&bytes) {
        view.put(&key, bytes);
    }
    Ok(())
}

type Row = RowState<Stamp, Bytes>;

fn encode_row(row: &Row) -> Bytes {
    let mut table = StampTable::default();
    let mut body = Writer::new();
    table.write_optional(&mut body, row.inserted());
    table.write_optional(&mut body, row.deleted());
    let fields = row.stamped_fields();
    body.array(fields.len());
    for (name, stamp, value) in fields {
        body.array(if value.is_some() { 4 } else { 3 }).text(name);
        table.write(&mut body, stamp);
        if let Some(value) = value {
            body.raw(value);
        }
    }
    let mut w = Writer::new();
    table.write_entries(w.array(4));
    w.raw(&body.into_bytes());
    Bytes::from(w.into_bytes())
}

fn decode_row(bytes: &Bytes) -> Result<Row, CborError> {
    let mut r = Reader::new(bytes);
    r.array_exact(4)?;
    let table = StampTable::read_entries(&mut r)?;
    let inserted = table.read_optional(&mut r)?;
    let deleted = table.read_optional(&mut r)?;
    let mut fields = BTreeMap::new();
    for _ in 0..r.array(usize::MAX)? {
        let items = r.array(4)?;
        let name = r.text(usize::MAX)?.to_owned();
        let stamp = table.read(&mut r)?;
        let start = r.position();
        let value = match items {
            3 => None,
            _ => {
                r.skip(NESTING_MAX)?;
                Some(bytes.slice(start..r.position()))
            }
        };
        fields.insert(name, (stamp, value));
    }
    r.finish()?;
    Ok(RowState::from_parts(inserted, deleted, fields))
}

fn visible_fields(bytes: &Bytes) -> Result<Option<Fields>, DbError> {
    let damaged = |_| DbError::Corrupt { what: "a row of a table" };
    let Some(fields) = decode_row(bytes).map_err(damaged)?.into_fields() else { return Ok(None) };
    let decoded = fields.into_iter().map(|(name, value)| Ok((name, decode_value(&value).map_err(damaged)?)));
    decoded.collect::<Result<Fields, DbError>>().map(Some)
}

/// The fields of a row, if it is visible. A row's own state needs no order among its stamps.
pub(crate) fn get(rows: &dyn Rows, key: &str) -> Result<Option<Fields>, DbError> {
    rows.get(row_key(key))?.map_or(Ok(None), |bytes| visible_fields(&bytes))
}

/// The fields of rows, in the order of the keys.
pub(crate) fn get_many(rows: &dyn Rows, keys: &[&str]) -> Result<Vec<Option<Fields>>, DbError> {
    let keys: Vec<Key> = keys.iter().map(|key| row_key(key)).collect();
    let found = rows.get_many(&keys)?.into_iter();
    found.map(|row| row.map_or(Ok(None), |bytes| visible_fields(&bytes))).collect()
}

/// A run of keys.
pub(crate) type KeyRange<'a> = (Bound<&'a str>, Bound<&'a str>);

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
            if let Some(fields) = visible_fields(&bytes)? {
                let text = std::str::from_utf8(&key[1..]);
                let key = text.map_err(|_| DbError::Corrupt { what: "the key of a row" })?.to_owned();
                if each(key, fields)? == Flow::Stop {
                    return Ok(());
                }
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
