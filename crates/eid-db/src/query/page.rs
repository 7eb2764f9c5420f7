//! Orders, and places in them: where a page ended.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use eid_core::cbor::{CborError, Reader, Writer};
use eid_crdt::Value;
use eid_store::Direction;

use super::filter::{Shown, field};
use crate::codec::{read_value, write_value};
use crate::kind::table::Fields;
use crate::limits::ORDER_FIELDS_MAX;
use crate::path::Path;

/// How rows are sorted: by fields, then by their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) fields: Vec<(Path, Direction)>,
    pub(crate) keys: Direction,
}

impl Default for Order {
    fn default() -> Self {
        Self { fields: Vec::new(), keys: Direction::Forward }
    }
}

/// Where a row stands in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) by: Vec<Value>,
    pub(crate) key: String,
}

fn directed(order: Ordering, direction: Direction) -> Ordering {
    if direction == Direction::Backward { order.reverse() } else { order }
}

impl Order {
    /// Where a row stands.
    pub(crate) fn place(&self, key: &str, fields: &Fields) -> Place {
        let by = self.fields.iter().map(|(path, _)| field(fields, path).cloned().unwrap_or_default());
        Place { by: by.collect(), key: key.to_owned() }
    }

    pub(crate) fn compare(&self, a: &Place, b: &Place) -> Ordering {
        let fields = self.fields.iter().zip(a.by.iter().zip(&b.by));
        let mut orders = fields.map(|((_, direction), (a, b))| directed(a.sort_order(b), *direction));
        let by = orders.find(|order| *order != Ordering::Equal);
        by.unwrap_or_else(|| directed(a.key.cmp(&b.key), self.keys))
    }

    /// Tells orders apart in cursors.
    fn mark(&self) -> u64 {
        let mut w = Writer::new();
        w.array(self.fields.len());
        for (path, direction) in &self.fields {
            w.array(path.keys().len());
            for key in path.keys() {
                w.text(key);
            }
            w.bool(*direction == Direction::Backward);
        }
        w.bool(self.keys == Direction::Backward);
        let hash = blake3::hash(&w.into_bytes());
        let bytes = hash.as_bytes();
        u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (path, direction)) in self.fields.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let down = if *direction == Direction::Backward { " descending" } else { "" };
            write!(f, "{comma}{}{down}", Shown(path))?;
        }
        match (self.fields.is_empty(), self.keys) {
            (true, Direction::Forward) => f.write_str("key"),
            (true, Direction::Backward) => f.write_str("key descending"),
            _ => Ok(()),
        }
    }
}

/// Where a page of a query ended: the next one begins after it, whatever was written meanwhile. It can be kept as a
/// text; it fits queries of the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageCursor {
    mark: u64,
    place: Place,
}

/// Says that a text is not a place in the order of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the cursor of a page")]
pub struct ParsePageCursorError;

impl PageCursor {
    pub(crate) fn new(order: &Order, place: Place) -> Self {
        Self { mark: order.mark(), place }
    }

    /// The place, if it is one in this order.
    pub(crate) fn place(&self, order: &Order) -> Option<&Place> {
        (self.mark == order.mark() && self.place.by.len() == order.fields.len()).then_some(&self.place)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(3)?;
        let mark = r.uint()?;
        let by = (0..r.array(ORDER_FIELDS_MAX)?).map(|_| read_value(&mut r)).collect::<Result<_, _>>()?;
        let key = r.text(usize::MAX)?.to_owned();
        r.finish()?;
        Ok(Self { mark, place: Place { by, key } })
    }
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut w = Writer::new();
        w.array(3).uint(self.mark).array(self.place.by.len());
        for value in &self.place.by {
            write_value(&mut w, value);
        }
        w.text(&self.place.key);
        w.into_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PageCursor {
    type Err = ParsePageCursorError;

    fn from_str(text: &str) -> Result<Self, ParsePageCursorError> {
        let bytes = super::text::bytes_of(text).ok_or(ParsePageCursorError)?;
        Self::decode(&bytes).map_err(|_| ParsePageCursorError)
    }
}
