//! Indexes of a table: rows of the table's own view, written in the same batch as the rows that they find.
//!
//! An index covers the rows whose key is below a bound, or all. Building raises the bound in steps, dropping lowers it;
//! so at every moment, also after a crash in between, the index rows follow from the definitions and the rows of the
//! table. Definitions are this device's own: another replica may index other fields. Definitions that do not decode count
//! as none: the table is written and read without indexes, which can be built again.
//!
//! ```text
//! definitions  70 -> [[number, [key of the path ...], goal, below | null] ...]
//! index row    71 number(4) value key -> ()
//! ```
//! where `value` is as in `sortable`, and the goal 0 to keep, 1 to drop.

use std::collections::BTreeSet;

use bytes::Bytes;
use eid_core::ReadError;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_crdt::Value;
use eid_store::{Direction, Key, LOCAL_ROWS, ViewRows, Wanted};

use crate::error::DbError;
use crate::limits::INDEXES_MAX;
use crate::path::Path;
use crate::rows::Rows;
use crate::sortable::{self, Form};

/// The key of the definitions.
pub(crate) const DEFINITIONS: &[u8] = &[LOCAL_ROWS.start];
const INDEX: u8 = LOCAL_ROWS.start + 1;
const PREFIX_BYTES: usize = 5;

const KEEP: u64 = 0;
const DROP: u64 = 1;

/// One index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) number: u32,
    /// The field, or a path into it.
    pub(crate) path: Path,
    /// Whether it is on its way out.
    pub(crate) dropping: bool,
    /// The key below which it covers rows; nothing when it covers all.
    pub(crate) below: Option<String>,
}

impl Definition {
    /// Whether it finds every row.
    pub(crate) fn is_ready(&self) -> bool {
        !self.dropping && self.below.is_none()
    }

    fn covers(&self, key: &str) -> bool {
        self.below.as_deref().is_none_or(|below| key < below)
    }

    /// What all its rows begin with.
    pub(crate) fn prefix(&self) -> Key {
        let mut key = vec![INDEX];
        key.extend_from_slice(&self.number.to_be_bytes());
        key
    }

    /// The index row of a row, covered or not.
    pub(crate) fn row(&self, key: &str, value: &Value) -> Key {
        let mut row = self.prefix();
        sortable::write(&mut row, value);
        row.extend_from_slice(key.as_bytes());
        row
    }
}

/// What an index row says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexRow<'a> {
    /// The value, as in `sortable`.
    pub(crate) value: &'a [u8],
    pub(crate) form: Form,
    /// The key of the row of the table.
    pub(crate) key: &'a str,
}

impl<'a> IndexRow<'a> {
    pub(crate) fn parse(row: &'a [u8]) -> Result<Self, DbError> {
        let parse = || {
            let rest = row.get(PREFIX_BYTES..)?;
            let (len, form) = sortable::split(rest)?;
            let (value, key) = rest.split_at(len);
            Some(Self { value, form, key: std::str::from_utf8(key).ok()? })
        };
        parse().ok_or(DbError::Corrupt { what: "a row of an index" })
    }
}

/// The indexes of one table on this device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Indexes(pub(crate) Vec<Definition>);

impl Indexes {
    /// Reads the definitions while rows are written. Those that do not decode go: what they said of the rows of the
    /// indexes ends with this write.
    pub(crate) fn read(view: &mut dyn ViewRows) -> Result<Self, ReadError> {
        let Some(bytes) = view.get(DEFINITIONS)? else { return Ok(Self::default()) };
        Ok(Self::decode(&bytes).unwrap_or_else(|_| {
            view.delete(DEFINITIONS);
            Self::default()
        }))
    }

    /// Reads the definitions as stored.
    pub(crate) fn of(rows: &dyn Rows) -> Result<Self, DbError> {
        let bytes = rows.get(DEFINITIONS.to_vec())?;
        Ok(bytes.and_then(|bytes| Self::decode(&bytes).ok()).unwrap_or_default())
    }

    /// Reads the definitions as stored, and says when they do not decode.
    pub(crate) fn checked(rows: &dyn Rows) -> Result<Self, DbError> {
        let damaged = |_| DbError::Corrupt { what: "the indexes of a table" };
        let bytes = rows.get(DEFINITIONS.to_vec())?;
        bytes.map_or(Ok(Self::default()), |bytes| Self::decode(&bytes).map_err(damaged))
    }

    /// A number that no index has. `above` is greater than those of all rows of indexes, if there is such a number:
    /// rows that no definition knows of are taken for nobody's.
    pub(crate) fn free_number(&self, above: Option<u32>) -> u32 {
        let numbers = || self.0.iter().map(|held| held.number);
        let next = numbers().max().map_or(Some(0), |last| last.checked_add(1));
        let both = next.zip(above).map(|(next, above)| next.max(above));
        both.or_else(|| (0..=u32::MAX).find(|free| numbers().all(|held| held != *free))).unwrap_or_default()
    }

    /// Leaves those of which a field with such a name is, or has in it, what they find.
    pub(crate) fn retain(&mut self, mut is_named: impl FnMut(&str) -> bool) {
        self.0.retain(|held| held.path.keys().first().is_some_and(|first| is_named(first)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The index of this field, whatever its state.
    pub(crate) fn find(&self, path: &Path) -> Option<&Definition> {
        self.0.iter().find(|definition| definition.path == *path)
    }

    /// The index rows of one row of the table. `field` gives the visible value of a field.
    pub(crate) fn rows_of<E>(
        &self,
        key: &str,
        mut field: impl FnMut(&str) -> Result<Option<Value>, E>,
    ) -> Result<BTreeSet<Key>, E> {
        let mut rows = BTreeSet::new();
        for definition in self.0.iter().filter(|definition| definition.covers(key)) {
            let Some((first, rest)) = definition.path.keys().split_first() else { continue };
            let value = field(first)?.and_then(|value| into_path(value, rest)).unwrap_or_default();
            rows.insert(definition.row(key, &value));
        }
        Ok(rows)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.array(self.0.len());
        for definition in &self.0 {
            let keys = definition.path.keys();
            w.array(4).uint(u64::from(definition.number)).array(keys.len());
            for key in keys {
                w.text(key);
            }
            w.uint(if definition.dropping { DROP } else { KEEP });
            match &definition.below {
                Some(below) => w.text(below),
                None => w.null(),
            };
        }
        Bytes::from(w.into_bytes())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        let mut definitions = Vec::new();
        for _ in 0..r.array(INDEXES_MAX)? {
            r.array_exact(4)?;
            let number = u32::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
            let mut keys = Vec::new();
            for _ in 0..r.array(usize::MAX)? {
                keys.push(r.text(usize::MAX)?.to_owned());
            }
            let dropping = match r.uint()? {
                KEEP => false,
                DROP => true,
                _ => return Err(CborError::Limit),
            };
            let below = r.nullable(|r| Ok(r.text(usize::MAX)?.to_owned()))?;
            definitions.push(Definition { number, path: Path::from(keys), dropping, below });
        }
        r.finish()?;
        Ok(Self(definitions))
    }

    /// Writes the definitions.
    pub(crate) fn write(&self, view: &mut dyn ViewRows) {
        if self.0.is_empty() {
            view.delete(DEFINITIONS);
        } else {
            view.put(DEFINITIONS, self.encode());
        }
    }
}

/// What lies in a value under these keys.
fn into_path(value: Value, keys: &[String]) -> Option<Value> {
    keys.iter().try_fold(value, |at, key| match at {
        Value::Map(mut items) => items.remove(key),
        _ => None,
    })
}

/// What is greater than the numbers of all rows of indexes, if there is such a number.
pub(crate) fn number_above(rows: &dyn Rows) -> Result<Option<u32>, DbError> {
    let last = rows.scan(&[INDEX], &[INDEX + 1], Direction::Backward, 1)?.pop();
    let number = last.as_ref().and_then(|(key, _)| key.get(1..PREFIX_BYTES)?.try_into().ok());
    Ok(number.map_or(Some(0), |number| u32::from_be_bytes(number).checked_add(1)))
}

/// Names the rows that every change of a table reads for its indexes.
pub(crate) fn reads(wanted: &mut Wanted) {
    wanted.key(DEFINITIONS);
}

/// Puts index rows in the place of others.
pub(crate) fn replace(view: &mut dyn ViewRows, before: &BTreeSet<Key>, after: &BTreeSet<Key>) {
    before.difference(after).for_each(|row| view.delete(row));
    after.difference(before).for_each(|row| view.put(row, Bytes::new()));
}
