//! A row as it is stored.
//!
//! ```text
//! row      [entries, inserted, deleted, [[field, entry, op, value?] ...], merging?]
//! merging  [[entry, op, field] | null, [[field, counted | null, edited | null, sum | null] ...]]
//! ```
//! A field without a value was taken away. What merges other than by the latest write comes last, so that rows without
//! it are read without a look at any stamp: up to where fields fell out, and the fields that count or are texts.

use std::collections::BTreeMap;

use bytes::Bytes;
use eid_core::cbor::{CborError, Kind, Reader, Writer};
use eid_core::limits::NESTING_MAX;
use eid_crdt::{FieldState, Integer, Register, RowState, Value};

use super::{Fields, counter_prefix, text_prefix};
use crate::codec::{decode_value, read_value};
use crate::error::DbError;
use crate::field::FieldKind;
use crate::kind::count::{self, Sum};
use crate::kind::sequence::SequenceReader;
use crate::limits::SORTABLE_BYTES_MAX;
use crate::rows::Rows;
use crate::stamp::{Stamp, StampTable, resolve};

/// A row with the running sums of its counters. Values stay encoded.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) state: RowState<Stamp, Bytes>,
    pub(super) sums: BTreeMap<String, Sum>,
}

/// A row that somebody is about to change.
#[derive(Debug)]
pub(crate) struct Held {
    /// What it shows.
    pub(crate) fields: Fields,
    /// How those of its fields merge that do not by the latest write.
    pub(crate) kinds: BTreeMap<String, FieldKind>,
    /// How many fields it takes up, those taken away included.
    pub(crate) taken: usize,
}

/// What a field shows.
enum Shape {
    Absent,
    Value(Value),
    Count(Integer),
    Text,
}

pub(super) fn damaged(_: CborError) -> DbError {
    DbError::Corrupt { what: "a row of a table" }
}

pub(super) fn encode(row: &Row) -> Bytes {
    let state = &row.state;
    let mut table = StampTable::default();
    let mut body = Writer::new();
    table.write_optional(&mut body, state.inserted());
    table.write_optional(&mut body, state.deleted());
    let set: Vec<_> = state.fields().filter_map(|(name, field)| Some((name, field.set.get()?))).collect();
    body.array(set.len());
    for (name, (stamp, value)) in set {
        body.array(if value.is_some() { 4 } else { 3 }).text(name);
        table.write(&mut body, stamp);
        if let Some(value) = value {
            body.raw(value);
        }
    }
    let merges = |field: &FieldState<Stamp, Bytes>| field.counted.is_some() || field.edited.is_some();
    let merging: Vec<_> = state.fields().filter(|(_, field)| merges(field)).collect();
    let is_plain = merging.is_empty() && state.cut().is_none();
    if !is_plain {
        body.array(2);
        match state.cut() {
            Some((stamp, name)) => {
                table.write(body.array(3), stamp);
                body.text(name);
            }
            None => drop(body.null()),
        }
        body.array(merging.len());
        for (name, field) in merging {
            body.array(4).text(name);
            table.write_optional(&mut body, field.counted.as_ref());
            table.write_optional(&mut body, field.edited.as_ref());
            Sum::write(row.sums.get(name), &mut table, &mut body);
        }
    }
    let mut w = Writer::new();
    table.write_entries(w.array(if is_plain { 4 } else { 5 }));
    w.raw(&body.into_bytes());
    Bytes::from(w.into_bytes())
}

pub(super) fn decode(bytes: &Bytes) -> Result<Row, CborError> {
    let mut r = Reader::new(bytes);
    let items = r.array(5)?;
    let table = StampTable::read_entries(&mut r)?;
    let inserted = table.read_optional(&mut r)?;
    let deleted = table.read_optional(&mut r)?;
    let mut fields: BTreeMap<String, FieldState<Stamp, Bytes>> = BTreeMap::new();
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
        fields.entry(name).or_default().set = Register::from_parts(Some((stamp, value)));
    }
    let (mut cut, mut sums) = (None, BTreeMap::new());
    if items == 5 {
        r.array_exact(2)?;
        cut = r.nullable(|r| {
            r.array_exact(3)?;
            Ok((table.read(r)?, r.text(usize::MAX)?.to_owned()))
        })?;
        for _ in 0..r.array(usize::MAX)? {
            r.array_exact(4)?;
            let name = r.text(usize::MAX)?.to_owned();
            let field = fields.entry(name.clone()).or_default();
            field.counted = table.read_optional(&mut r)?;
            field.edited = table.read_optional(&mut r)?;
            if let Some(sum) = Sum::read(&table, &mut r)? {
                sums.insert(name, sum);
            }
        }
    }
    r.finish()?;
    Ok(Row { state: RowState::from_parts(inserted, deleted, cut, fields), sums })
}

/// Whether a stored row is visible.
pub(super) fn is_visible(bytes: &[u8]) -> Result<bool, DbError> {
    let mut r = Reader::new(bytes);
    let mut inserted = || {
        r.array(5)?;
        r.skip(NESTING_MAX)?;
        r.peek()
    };
    Ok(inserted().map_err(damaged)? != Kind::Null)
}

/// What a stored row shows, if it is visible.
pub(super) fn visible(rows: &dyn Rows, key: &str, bytes: &Bytes) -> Result<Option<Fields>, DbError> {
    if let Some(fields) = plain(bytes).map_err(damaged)? {
        return Ok(fields);
    }
    Ok(merging(rows, key, bytes)?.map(|held| held.fields))
}

/// A stored row for somebody who is about to change it, if it is visible.
pub(super) fn held(rows: &dyn Rows, key: &str, bytes: &Bytes) -> Result<Option<Held>, DbError> {
    merging(rows, key, bytes)
}

/// What a field is to somebody who wants to edit it as a text.
pub(super) enum AsText {
    NoRow,
    /// It is a text that is edited, or becomes one by its first edit.
    Text,
    /// It is something of this type.
    Other(&'static str),
}

pub(super) fn as_text(bytes: &Bytes, field: &str) -> Result<AsText, DbError> {
    let row = decode(bytes).map_err(damaged)?;
    if !row.state.is_visible() {
        return Ok(AsText::NoRow);
    }
    let base = row.state.field(field).and_then(FieldState::value);
    Ok(match base.map(|value| decode_value(value)).transpose().map_err(damaged)? {
        None => AsText::Text,
        Some(Value::Text(text)) if text.is_empty() => AsText::Text,
        Some(other) => AsText::Other(other.type_name()),
    })
}

/// The fields of a row of which all are what was written last; nothing if others are among them.
fn plain(bytes: &[u8]) -> Result<Option<Option<Fields>>, CborError> {
    let mut r = Reader::new(bytes);
    if r.array(5)? == 5 {
        return Ok(None);
    }
    r.skip(NESTING_MAX)?;
    if r.peek()? == Kind::Null {
        return Ok(Some(None));
    }
    r.skip(NESTING_MAX)?;
    r.skip(NESTING_MAX)?;
    let mut fields = Fields::new();
    for _ in 0..r.array(usize::MAX)? {
        let items = r.array(4)?;
        let name = r.text(usize::MAX)?;
        r.uint()?;
        r.uint()?;
        if items == 4 {
            fields.insert(name.to_owned(), read_value(&mut r)?);
        }
    }
    r.finish()?;
    Ok(Some(Some(fields)))
}

fn merging(rows: &dyn Rows, key: &str, bytes: &Bytes) -> Result<Option<Held>, DbError> {
    let mut row = decode(bytes).map_err(damaged)?;
    if !row.state.is_visible() {
        return Ok(None);
    }
    // Only what merges compares stamps.
    if row.state.fields().any(|(_, field)| field.counted.is_some() || field.edited.is_some()) {
        let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
        resolve(&mut stamps, |seq| rows.id_of(seq))?;
    }
    let mut held = Held { fields: Fields::new(), kinds: BTreeMap::new(), taken: row.state.fields().len() };
    for (name, field) in row.state.fields() {
        let shape = row.shape(field)?;
        match shape {
            Shape::Absent => continue,
            Shape::Value(_) => {}
            Shape::Count(_) => drop(held.kinds.insert(name.to_owned(), FieldKind::Counter)),
            Shape::Text => drop(held.kinds.insert(name.to_owned(), FieldKind::Text)),
        }
        if let Some(value) = row.shown(rows, key, name, shape, usize::MAX)? {
            held.fields.insert(name.to_owned(), value);
        }
    }
    Ok(Some(held))
}

impl Row {
    pub(super) fn stamps_mut(&mut self) -> impl Iterator<Item = &mut Stamp> {
        self.state.stamps_mut().chain(self.sums.values_mut().flat_map(Sum::stamps_mut))
    }

    /// What a field is: the value that was set last decides whether increments or edits have an effect.
    fn shape(&self, field: &FieldState<Stamp, Bytes>) -> Result<Shape, DbError> {
        let base = field.value().map(|value| decode_value(value)).transpose().map_err(damaged)?;
        Ok(match base {
            Some(Value::Int(base)) if field.counted.is_some() => Shape::Count(base),
            Some(Value::Text(base)) if base.is_empty() && field.edited.is_some() => Shape::Text,
            Some(value) => Shape::Value(value),
            None if field.counted.is_none() && field.edited.is_none() => Shape::Absent,
            None if field.counted > field.edited => Shape::Count(Integer::saturating(0)),
            None => Shape::Text,
        })
    }

    /// Whether a field counts.
    pub(super) fn is_count(&self, name: &str) -> Result<bool, DbError> {
        match self.state.field(name) {
            Some(field) => Ok(matches!(self.shape(field)?, Shape::Count(_))),
            None => Ok(false),
        }
    }

    /// What an index wants of what a field shows: the beginning of a text. The stamps of a row that counts or is edited
    /// must have been resolved.
    pub(super) fn indexed(&self, rows: &dyn Rows, key: &str, name: &str) -> Result<Option<Value>, DbError> {
        let Some(field) = self.state.field(name) else { return Ok(None) };
        // One more than are kept, so that it is seen that there are more.
        self.shown(rows, key, name, self.shape(field)?, SORTABLE_BYTES_MAX + 1)
    }

    /// Reads no more characters than this of a text.
    fn shown(
        &self,
        rows: &dyn Rows,
        key: &str,
        name: &str,
        shape: Shape,
        chars_max: usize,
    ) -> Result<Option<Value>, DbError> {
        Ok(Some(match shape {
            Shape::Absent => return Ok(None),
            Shape::Value(value) => value,
            Shape::Count(base) => {
                let floor = self.state.field_floor(name).copied();
                let sum = self.sums.get(name).copied();
                let sum = count::sum_after(rows, &counter_prefix(key, name), sum, floor)?;
                Value::Int(Integer::saturating(base.get().saturating_add(sum)))
            }
            Shape::Text => {
                let text = SequenceReader::<String>::open(rows, &text_prefix(key, name))?;
                Value::Text(text.read(0..text.len().min(chars_max))?)
            }
        }))
    }
}
