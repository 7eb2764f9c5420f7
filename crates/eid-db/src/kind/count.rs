//! Increments below a prefix of keys: one row for each, with a running sum that the caller keeps in a row of its own.
//!
//! ```text
//! increment  prefix stamp -> by
//! sum        [total, first, last] | null
//! ```
//! The sum is that of the increments from `first` to `last`: those that counted when the last of them came. A set or
//! delete of what contains the counter gives a floor, and increments that do not beat it are hidden. Floors only rise:
//! so the sum holds until a floor reaches `first`, and is added up anew, once, when the next increment comes.

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, ReadError, Time};
use eid_store::{Direction, Key, ViewRows};

use crate::error::DbError;
use crate::kind::DamagedRow;
use crate::limits::PAGE_ROWS;
use crate::rows::Rows;
use crate::stamp::{Stamp, StampTable, resolve};

/// What the increments from `first` to `last` add up to, as far as they counted when the last of them came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    total: i128,
    first: Stamp,
    last: Stamp,
}

impl Sum {
    /// Its stamps, to be resolved with those of the row that it is kept in.
    pub(crate) fn stamps_mut(&mut self) -> [&mut Stamp; 2] {
        [&mut self.first, &mut self.last]
    }

    /// Appends a sum, or null.
    pub(crate) fn write(sum: Option<&Self>, table: &mut StampTable, w: &mut Writer) {
        match sum {
            Some(sum) => {
                w.array(5).bytes(&sum.total.to_be_bytes());
                table.write(w, &sum.first);
                table.write(w, &sum.last);
            }
            None => drop(w.null()),
        }
    }

    /// Reads a sum or null.
    pub(crate) fn read(table: &StampTable, r: &mut Reader<'_>) -> Result<Option<Self>, CborError> {
        r.nullable(|r| {
            r.array_exact(5)?;
            let total = i128::from_be_bytes(r.fixed()?);
            Ok(Self { total, first: table.read(r)?, last: table.read(r)? })
        })
    }

    fn with(sum: Option<Self>, stamp: Stamp, by: i64) -> Self {
        let sum = sum.unwrap_or(Self { total: 0, first: stamp, last: stamp });
        Self {
            total: sum.total.saturating_add(i128::from(by)),
            first: sum.first.min(stamp),
            last: sum.last.max(stamp),
        }
    }
}

/// Adds an increment and gives the running sum that is to be kept. Nothing happens when the floor hides it.
///
/// The caller has made the stamps of `sum`, `stamp` and `floor` comparable with each other by [`resolve`].
pub(crate) fn add(
    view: &mut dyn ViewRows,
    prefix: &[u8],
    sum: Option<Sum>,
    by: i64,
    stamp: Stamp,
    floor: Option<Stamp>,
) -> Result<Option<Sum>, ReadError> {
    // What is hidden on arrival stays hidden: floors only rise.
    if Some(stamp) <= floor {
        return Ok(sum);
    }
    let key = count_key(prefix, &stamp);
    let counted_already = sum.is_some_and(|sum| sum.last >= stamp) && view.get(&key)?.is_some();
    view.put(&key, Bytes::copy_from_slice(&by.to_be_bytes()));
    match sum {
        _ if counted_already => Ok(sum),
        Some(held) if Some(held.first) > floor => Ok(Some(Sum::with(sum, stamp, by))),
        Some(held) if Some(held.last) > floor => {
            let (from, to) = range(prefix, floor.as_ref());
            let rows = view.scan(&from, &to)?;
            add_up(None, &rows, floor, |seq| view.id_of(seq)).map_err(|error| match error {
                AddUp::Read(error) => error,
                AddUp::Damaged => ReadError::new(DamagedRow { kind: "counter", cause: CborError::Type }),
            })
        }
        _ => Ok(Some(Sum::with(None, stamp, by))),
    }
}

/// What the increments with a stamp greater than `after` add up to: the running sum where it holds; what is left of it,
/// added up anew, where a later write hides a part of it.
///
/// The caller has made the stamps of `sum` and `after` comparable with each other.
pub(crate) fn sum_after(
    rows: &dyn Rows,
    prefix: &[u8],
    sum: Option<Sum>,
    after: Option<Stamp>,
) -> Result<i128, DbError> {
    match sum {
        None => return Ok(0),
        Some(sum) if Some(sum.first) > after => return Ok(sum.total),
        Some(_) => {}
    }
    let (mut from, to) = range(prefix, after.as_ref());
    let mut total = None;
    loop {
        let mut page = rows.scan(&from, &to, Direction::Forward, PAGE_ROWS)?;
        let more = page.len() == PAGE_ROWS;
        total = add_up(total, &page, after, |seq| rows.id_of(seq)).map_err(|error| match error {
            AddUp::Read(error) => error,
            AddUp::Damaged => DbError::Corrupt { what: "an increment" },
        })?;
        match page.pop() {
            Some((mut last, _)) if more => {
                last.push(0);
                from = last;
            }
            _ => return Ok(total.map_or(0, |sum| sum.total)),
        }
    }
}

fn count_key(prefix: &[u8], stamp: &Stamp) -> Key {
    let mut row = prefix.to_vec();
    for part in [stamp.time.0, stamp.height.0, stamp.seq.0] {
        row.extend_from_slice(&part.to_be_bytes());
    }
    row.extend_from_slice(&stamp.op.to_be_bytes());
    row
}

const STAMP_BYTES: usize = 28;

/// The stamp and the amount of an increment's row.
fn decode_count(key: &[u8], value: &[u8]) -> Option<(Stamp, i64)> {
    let stamp: [u8; STAMP_BYTES] = key.get(key.len().checked_sub(STAMP_BYTES)?..)?.try_into().ok()?;
    let part = |at: usize| -> Option<u64> { Some(u64::from_be_bytes(stamp[at..at + 8].try_into().ok()?)) };
    let op = u32::from_be_bytes(stamp[24..].try_into().ok()?);
    let stamp = Stamp::new(Time(part(0)?), Height(part(8)?), Seq(part(16)?), op);
    Some((stamp, i64::from_be_bytes(value.try_into().ok()?)))
}

/// The rows of increments that can have a stamp greater than `floor`: begins at its time and height, since positions,
/// which follow in the key, are not ordered as stamps are.
fn range(prefix: &[u8], floor: Option<&Stamp>) -> (Key, Key) {
    let mut from = prefix.to_vec();
    if let Some(floor) = floor {
        from.extend_from_slice(&floor.time.0.to_be_bytes());
        from.extend_from_slice(&floor.height.0.to_be_bytes());
    }
    let mut to = prefix.to_vec();
    to.extend_from_slice(&[0xff; STAMP_BYTES + 1]);
    (from, to)
}

enum AddUp<E> {
    Damaged,
    Read(E),
}

/// Adds to a sum the increments that beat the floor.
fn add_up<E>(
    sum: Option<Sum>,
    rows: &[(Key, Bytes)],
    mut floor: Option<Stamp>,
    mut id_of: impl FnMut(Seq) -> Result<EntryId, E>,
) -> Result<Option<Sum>, AddUp<E>> {
    let mut sum = sum;
    for (key, value) in rows {
        let (mut stamp, by) = decode_count(key, value).ok_or(AddUp::Damaged)?;
        let mut compared: Vec<&mut Stamp> = vec![&mut stamp];
        compared.extend(floor.iter_mut());
        compared.extend(sum.iter_mut().flat_map(Sum::stamps_mut));
        resolve(&mut compared, &mut id_of).map_err(AddUp::Read)?;
        if Some(stamp) > floor {
            sum = Some(Sum::with(sum, stamp, by));
        }
    }
    Ok(sum)
}
