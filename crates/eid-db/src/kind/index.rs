//! Indexes of a table: rows of the table's own view, written in the same batch as the rows that they find.
//!
//! An index covers the rows whose key is below a bound, or all. Building raises the bound in steps, dropping lowers it;
//! so at every moment, also after a crash in between, the index rows follow from the definitions and the rows of the
//! table. Definitions are this device's own: another replica may index other fields.
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
use eid_store::{Key, LOCAL_ROWS, ViewRows, Wanted};

use crate::error::DbError;
use crate::kind::DamagedRow;
use crate::kind::table::KIND;
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
    /// Reads the definitions while a batch is admitted.
    pub(crate) fn read(view: &mut dyn ViewRows) -> Result<Self, ReadError> {
        let damaged = |cause| ReadError::new(DamagedRow { kind: KIND, cause });
        view.get(DEFINITIONS)?.map_or(Ok(Self::default()), |bytes| Self::decode(&bytes).map_err(damaged))
    }

    /// Reads the definitions as stored.
    pub(crate) fn of(rows: &dyn Rows) -> Result<Self, DbError> {
        let damaged = |_| DbError::Corrupt { what: "the indexes of a table" };
        let bytes = rows.get(DEFINITIONS.to_vec())?;
        bytes.map_or(Ok(Self::default()), |bytes| Self::decode(&bytes).map_err(damaged))
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

/// Names the rows that every change of a table reads for its indexes.
pub(crate) fn reads(wanted: &mut Wanted) {
    wanted.key(DEFINITIONS);
}

/// Puts index rows in the place of others.
pub(crate) fn replace(view: &mut dyn ViewRows, before: &BTreeSet<Key>, after: &BTreeSet<Key>) {
    before.difference(after).for_each(|row| view.delete(row));
    after.difference(before).for_each(|row| view.put(row, Bytes::new()));
}
