//! What rows were: at every checkpoint of the log, without a copy of anything that did not change.
//!
//! The log of a tree is cut into intervals of [`CHECKPOINT_ENTRIES`]. A versioned row says which interval changed it
//! last, and the first change of an interval leaves behind what the row was before. So the state at a checkpoint is,
//! for each row, the earliest value left behind at or after it, or else the row of today, unless that says that it was
//! made later. Rows that are only ever made cost nothing.
//!
//! ```text
//! row   tree, part, path            -> interval, value
//! past  tree, part, path, interval  -> interval of the change before, value
//! ```
//! A path is escaped (`00` as `00 ff`) and ended (`00 01`), so that paths keep their order and none runs into the
//! interval, which is big-endian. Parts are the numbers of stores, and one for the rows of stores themselves.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use eid_core::dag::Seq;

use crate::apply::is_local;
use crate::aside::{Spilled, SpilledRows};
use crate::backend::{BackendError, Direction, Key, Scan, Snapshot, Value, prefix_end};
use crate::cursor::Cursor;
use crate::limits::{CHECKPOINT_ENTRIES, MERGE_ROWS};
use crate::rows::{Space, TreeNo, tree_key, write_uint};

/// A stretch of the log between two checkpoints, or the checkpoint that it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Interval(pub u32);

impl Interval {
    /// The interval of a position.
    pub(crate) fn of(seq: Seq) -> Self {
        Self(u32::try_from(seq.0 / CHECKPOINT_ENTRIES).unwrap_or(u32::MAX))
    }

    /// The position that it begins with.
    pub(crate) fn start(self) -> Seq {
        Seq(u64::from(self.0) * CHECKPOINT_ENTRIES)
    }
}

/// Puts before a value which interval changed it.
pub(crate) fn encode_changed(interval: Interval, value: &[u8]) -> Value {
    let mut out = Vec::with_capacity(value.len() + 5);
    write_uint(&mut out, u64::from(interval.0));
    out.extend_from_slice(value);
    out.into()
}

/// Splits a stored value into the interval that changed it and the rest, which shares its memory.
pub(crate) fn decode_changed(mut value: Value) -> Result<(Interval, Bytes), BackendError> {
    let mut interval = 0u32;
    for shift in (0..32).step_by(7) {
        if value.is_empty() {
            break;
        }
        let byte = value.get_u8();
        interval |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((Interval(interval), value));
        }
    }
    Err(BackendError::Corrupt { what: "a row of a view" })
}

/// The part that the rows of stores are.
const STORES: u32 = u32::MAX;
/// Tag, tree and part.
const PREFIX_BYTES: usize = 9;

/// A key that has a past, taken apart.
#[derive(Debug, Clone, Copy)]
struct Place<'k> {
    part: u32,
    path: &'k [u8],
}

impl<'k> Place<'k> {
    /// Nothing for keys of other trees and other spaces.
    fn of(tree: TreeNo, key: &'k [u8]) -> Option<Self> {
        let (tag, rest) = key.split_first()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        if *number != tree.0.to_be_bytes() {
            return None;
        }
        if *tag == Space::Stores as u8 {
            return Some(Self { part: STORES, path: rest });
        }
        if *tag != Space::View as u8 {
            return None;
        }
        let (part, path) = rest.split_first_chunk::<4>()?;
        Some(Self { part: u32::from_be_bytes(*part), path })
    }

    fn prefix(self, tree: TreeNo) -> Key {
        tree_key(Space::Past, tree, &self.part.to_be_bytes())
    }

    fn is_local(self) -> bool {
        self.part != STORES && is_local(self.path)
    }

    /// Where the past of paths from this one on begins.
    fn bound(self, tree: TreeNo) -> Key {
        let mut key = self.prefix(tree);
        key.reserve(self.path.len() + 6);
        for byte in self.path {
            key.push(*byte);
            if *byte == 0 {
                key.push(0xff);
            }
        }
        key
    }

    fn key(self, tree: TreeNo, interval: Interval) -> Key {
        let mut key = self.bound(tree);
        key.extend_from_slice(&[0, 1]);
        key.extend_from_slice(&interval.0.to_be_bytes());
        key
    }
}

/// Where what a versioned row was before an interval is kept.
pub(crate) fn past_key(key: &[u8], interval: Interval) -> Key {
    let number = key.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let tree = TreeNo(number.unwrap_or_default());
    let place = Place::of(tree, key).expect("only rows of views and of stores have a past");
    place.key(tree, interval)
}

/// The path and the interval in a key made by [`past_key`].
fn split_past_key(key: &[u8]) -> Option<(Vec<u8>, Interval)> {
    let (rest, interval) = key.get(PREFIX_BYTES..)?.split_last_chunk::<4>()?;
    let escaped = rest.strip_suffix(&[0, 1])?;
    let mut path = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        path.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
    }
    Some((path, Interval(u32::from_be_bytes(*interval))))
}

/// Rows as they were at a checkpoint, under what was changed since. Other rows are those of today.
#[derive(Debug)]
pub(crate) struct PastSnapshot {
    present: Arc<dyn Snapshot>,
    tree: TreeNo,
    at: Interval,
    /// Rows by their full keys, as stored.
    pub(crate) changed: BTreeMap<Key, Option<Value>>,
    /// Below those: what was changed and does not fit in memory.
    pub(crate) spilled: Option<Spilled>,
}

impl PastSnapshot {
    pub(crate) fn new(present: Arc<dyn Snapshot>, tree: TreeNo, at: Interval) -> Self {
        Self { present, tree, at, changed: BTreeMap::new(), spilled: None }
    }

    /// What a row was, from its value of today, if that says so.
    fn unchanged(&self, row: Option<&Value>) -> Result<bool, BackendError> {
        match row {
            Some(row) => Ok(decode_changed(row.clone())?.0 < self.at),
            None => Ok(false),
        }
    }

    /// What a row was, from the first value that was left behind since.
    fn left_behind(&self, value: Value) -> Result<Option<Value>, BackendError> {
        Ok((decode_changed(value.clone())?.0 < self.at).then_some(value))
    }

    /// A range of one part, in order.
    fn scan(&self, scan: &Scan, from: Place<'_>) -> Result<Vec<(Key, Value)>, BackendError> {
        let key_prefix = scan.from[..scan.from.len() - from.path.len()].to_vec();
        let to = Place::of(self.tree, &scan.to).filter(|to| to.part == from.part);
        let past_to = to.map_or_else(|| prefix_end(&from.prefix(self.tree)), |to| to.bound(self.tree));
        let step = scan.max_rows.clamp(1, MERGE_ROWS);
        let present = (scan.from.clone(), scan.to.clone());
        let mut rows = Sides {
            key_prefix,
            at: self.at,
            direction: scan.direction,
            present: Cursor::towards(&*self.present, present, scan.direction, step),
            next_present: None,
            past: Cursor::towards(&*self.present, (from.bound(self.tree), past_to), scan.direction, step),
            next_past: None,
            ahead: None,
        };
        let range = (Bound::Included(&scan.from), Bound::Excluded(&scan.to));
        let changed: InOrder<'_> = match scan.direction {
            Direction::Forward => Box::new(self.changed.range::<Key, _>(range)),
            Direction::Backward => Box::new(self.changed.range::<Key, _>(range).rev()),
        };
        let spilled = self.spilled.as_ref().map(|spilled| spilled.range(scan, self.tree));
        let mut changed =
            Changed { direction: scan.direction, changed: changed.peekable(), spilled, next_spilled: None };
        let (mut found, mut bytes) = (Vec::new(), 0usize);
        let (mut below, mut above) = (rows.next()?, changed.next()?);
        while found.len() < scan.max_rows && (bytes < scan.max_bytes || found.is_empty()) {
            let order = match (&below, &above) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((other, _))) => scan.direction.order(key, other),
            };
            let row = if order == Ordering::Less {
                let row = below.take();
                below = rows.next()?;
                row
            } else {
                if order == Ordering::Equal {
                    below = rows.next()?;
                }
                let row = above.take();
                above = changed.next()?;
                row.and_then(|(key, value)| Some((key, value?)))
            };
            if let Some((key, value)) = row {
                if Place::of(self.tree, &key).is_some_and(Place::is_local) {
                    continue;
                }
                bytes += key.len() + value.len();
                found.push((key, value));
            }
        }
        Ok(found)
    }
}

impl Snapshot for PastSnapshot {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        let mut values = self.present.get_many(keys)?;
        let spilled = self.spilled.as_ref().map(|spilled| spilled.get_many(keys)).transpose()?;
        let mut asked = Vec::new();
        for (index, (key, value)) in keys.iter().zip(&mut values).enumerate() {
            let Some(place) = Place::of(self.tree, key) else { continue };
            if place.is_local() {
                *value = None;
            } else if let Some(changed) = self.changed.get(key) {
                value.clone_from(changed);
            } else if let Some(changed) = spilled.as_ref().and_then(|spilled| spilled[index].as_ref()) {
                value.clone_from(changed);
            } else if !self.unchanged(value.as_ref())? {
                *value = None;
                let to = place.key(self.tree, Interval(u32::MAX));
                asked.push((index, Scan { max_rows: 1, ..Scan::range(place.key(self.tree, self.at), to) }));
            }
        }
        if asked.is_empty() {
            return Ok(values);
        }
        let (indexes, scans): (Vec<usize>, Vec<Scan>) = asked.into_iter().unzip();
        for (index, rows) in indexes.into_iter().zip(self.present.scan_many(&scans)?) {
            if let Some((_, value)) = rows.into_iter().next() {
                values[index] = self.left_behind(value)?;
            }
        }
        Ok(values)
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        let versioned = |scan: &Scan| Place::of(self.tree, &scan.from).is_some();
        if !scans.iter().any(versioned) {
            return self.present.scan_many(scans);
        }
        scans
            .iter()
            .map(|scan| match Place::of(self.tree, &scan.from) {
                Some(_) if scan.from >= scan.to => Ok(Vec::new()),
                Some(from) => self.scan(scan, from),
                None => Ok(self.present.scan_many(std::slice::from_ref(scan))?.pop().unwrap_or_default()),
            })
            .collect()
    }
}

impl Direction {
    fn order(self, a: &Key, b: &Key) -> Ordering {
        match self {
            Self::Forward => a.cmp(b),
            Self::Backward => b.cmp(a),
        }
    }
}

type InOrder<'a> = Box<dyn Iterator<Item = (&'a Key, &'a Option<Value>)> + 'a>;

/// What was changed: in memory, over what was spilled.
struct Changed<'a> {
    direction: Direction,
    changed: Peekable<InOrder<'a>>,
    spilled: Option<SpilledRows<'a>>,
    next_spilled: Option<(Key, Option<Value>)>,
}

impl Changed<'_> {
    fn next(&mut self) -> Result<Option<(Key, Option<Value>)>, BackendError> {
        if self.next_spilled.is_none()
            && let Some(spilled) = &mut self.spilled
        {
            self.next_spilled = spilled.next()?;
        }
        let order = match (self.changed.peek(), &self.next_spilled) {
            (_, None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((key, _)), Some((other, _))) => self.direction.order(key, other),
        };
        let spilled = if order.is_ge() { self.next_spilled.take() } else { None };
        let changed = if order.is_le() { self.changed.next() } else { None };
        Ok(changed.map(|(key, value)| (key.clone(), value.clone())).or(spilled))
    }
}

/// Present rows and what was left behind, side by side.
struct Sides<'a> {
    /// What stands before the path in the key of a present row.
    key_prefix: Key,
    at: Interval,
    direction: Direction,
    present: Cursor<'a>,
    next_present: Option<(Key, Value)>,
    past: Cursor<'a>,
    next_past: Option<(Key, Value)>,
    /// What was read of the path after [`Self::next_past`].
    ahead: Option<(Vec<u8>, Interval, Value)>,
}

impl Sides<'_> {
    /// The next row as it was.
    fn next(&mut self) -> Result<Option<(Key, Value)>, BackendError> {
        loop {
            if self.next_present.is_none() {
                self.next_present = self.present.next()?;
            }
            if self.next_past.is_none() {
                self.next_past = self.left_behind()?;
            }
            let order = match (&self.next_present, &self.next_past) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((other, _))) => self.direction.order(key, other),
            };
            let present = if order.is_le() { self.next_present.take() } else { None };
            let past = if order.is_ge() { self.next_past.take() } else { None };
            // What the first change since left behind says it before the row of today.
            if let Some((key, value)) = past.or(present)
                && decode_changed(value.clone())?.0 < self.at
            {
                return Ok(Some((key, value)));
            }
        }
    }

    /// The next path with what its first change since the checkpoint left behind.
    fn left_behind(&mut self) -> Result<Option<(Key, Value)>, BackendError> {
        loop {
            let first = match self.ahead.take() {
                Some(ahead) => Some(ahead),
                None => self.read_past()?,
            };
            let Some((path, interval, value)) = first else { return Ok(None) };
            let mut earliest = (interval >= self.at).then_some(value);
            loop {
                match self.read_past()? {
                    Some((same, interval, value)) if same == path => {
                        let earlier = self.direction == Direction::Backward || earliest.is_none();
                        if interval >= self.at && earlier {
                            earliest = Some(value);
                        }
                    }
                    other => {
                        self.ahead = other;
                        break;
                    }
                }
            }
            if let Some(value) = earliest {
                return Ok(Some(([&self.key_prefix[..], &path].concat(), value)));
            }
        }
    }

    fn read_past(&mut self) -> Result<Option<(Vec<u8>, Interval, Value)>, BackendError> {
        let Some((key, value)) = self.past.next()? else { return Ok(None) };
        let (path, interval) =
            split_past_key(&key).ok_or(BackendError::Corrupt { what: "the key of a past row" })?;
        Ok(Some((path, interval, value)))
    }
}
