//! Stamps as they stand in views: the id of an entry is looked up only when time and height tie.

use std::cmp::Ordering;

use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, Time};

/// Where an operation stands: ordered by time, height, id and index of the operation.
///
/// In a row the entry is named by its position, which says nothing of its order; [`resolve`] puts ids where two
/// entries tie, and nowhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) time: Time,
    pub(crate) height: Height,
    pub(crate) seq: Seq,
    pub(crate) op: u32,
    id: EntryId,
}

const UNRESOLVED: EntryId = EntryId([0; 32]);

/// The position of what a transaction has staged: above everything that is stored.
pub(crate) const STAGED: Seq = Seq(u64::MAX);

impl Stamp {
    pub(crate) fn new(time: Time, height: Height, seq: Seq, op: u32) -> Self {
        Self { time, height, seq, op, id: UNRESOLVED }
    }

    /// The stamp of an operation that a transaction has staged.
    pub(crate) fn staged(op: u32) -> Self {
        Self::new(Time(u64::MAX), Height(u64::MAX), STAGED, op)
    }

    /// The stamp of another operation of the same entry.
    pub(crate) fn at(self, op: u32) -> Self {
        Self { op, ..self }
    }

    fn order(&self) -> (Time, Height, EntryId, u32) {
        (self.time, self.height, self.id, self.op)
    }

    fn ties(&self, other: &Self) -> bool {
        self.seq != other.seq && (self.time, self.height) == (other.time, other.height)
    }
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Stamp {}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// Makes these stamps comparable with each other, whatever was resolved before.
pub(crate) fn resolve<E>(
    stamps: &mut [&mut Stamp],
    mut id_of: impl FnMut(Seq) -> Result<EntryId, E>,
) -> Result<(), E> {
    let Some(first) = stamps.first().map(|stamp| stamp.seq) else { return Ok(()) };
    if stamps.iter().all(|stamp| stamp.seq == first) {
        stamps.iter_mut().for_each(|stamp| stamp.id = UNRESOLVED);
        return Ok(());
    }
    let place = |stamp: &Stamp| (stamp.time, stamp.height, stamp.seq);
    let mut entries: Vec<Stamp> = stamps.iter().map(|stamp| **stamp).collect();
    entries.sort_unstable_by_key(place);
    entries.dedup_by_key(|stamp| stamp.seq);
    // Entries that tie are neighbours.
    let tied: Vec<bool> = (0..entries.len())
        .map(|at| {
            let ties = |other: Option<&Stamp>| other.is_some_and(|other| other.ties(&entries[at]));
            ties(entries.get(at + 1)) || at.checked_sub(1).is_some_and(|before| ties(entries.get(before)))
        })
        .collect();
    for (entry, tied) in entries.iter_mut().zip(tied) {
        entry.id = match (tied, entry.seq) {
            (false, _) => UNRESOLVED,
            (true, STAGED) => EntryId([0xff; 32]),
            (true, seq) => id_of(seq)?,
        };
    }
    for stamp in stamps.iter_mut() {
        let found = entries.binary_search_by_key(&place(stamp), place);
        stamp.id = found.map_or(UNRESOLVED, |at| entries[at].id);
    }
    Ok(())
}

/// The entries that the stamps of one row belong to: each is written once, and stamps refer to it.
#[derive(Debug, Default)]
pub(crate) struct StampTable(Vec<Stamp>);

impl StampTable {
    /// Writes a stamp as a reference.
    pub(crate) fn write(&mut self, w: &mut Writer, stamp: &Stamp) {
        let held = self.0.iter().position(|other| other.seq == stamp.seq);
        let index = held.unwrap_or_else(|| {
            self.0.push(*stamp);
            self.0.len() - 1
        });
        w.uint(index as u64).uint(u64::from(stamp.op));
    }

    /// Writes a stamp as a reference in an array of its own, or null.
    pub(crate) fn write_optional(&mut self, w: &mut Writer, stamp: Option<&Stamp>) {
        match stamp {
            Some(stamp) => self.write(w.array(2), stamp),
            None => drop(w.null()),
        }
    }

    /// Writes the entries themselves.
    pub(crate) fn write_entries(&self, w: &mut Writer) {
        w.array(self.0.len() * 3);
        for stamp in &self.0 {
            w.uint(stamp.time.0).uint(stamp.height.0).uint(stamp.seq.0);
        }
    }

    /// Reads the entries.
    pub(crate) fn read_entries(r: &mut Reader<'_>) -> Result<Self, CborError> {
        let count = r.array(usize::MAX)?;
        let mut entries = Vec::with_capacity(count / 3);
        for _ in 0..count / 3 {
            entries.push(Stamp::new(Time(r.uint()?), Height(r.uint()?), Seq(r.uint()?), 0));
        }
        Ok(Self(entries))
    }

    /// Reads a reference.
    pub(crate) fn read(&self, r: &mut Reader<'_>) -> Result<Stamp, CborError> {
        let index = usize::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
        let op = u32::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
        let entry = self.0.get(index).ok_or(CborError::Limit)?;
        Ok(Stamp { op, ..*entry })
    }

    /// Reads a reference or null.
    pub(crate) fn read_optional(&self, r: &mut Reader<'_>) -> Result<Option<Stamp>, CborError> {
        r.nullable(|r| {
            r.array_exact(2)?;
            self.read(r)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn id(seq: Seq) -> Result<EntryId, Infallible> {
        // Ids go against positions, so that an order by position is noticed.
        Ok(EntryId([200 - u8::try_from(seq.0).unwrap(); 32]))
    }

    #[test]
    fn ids_decide_ties_and_positions_never_do() {
        let mut a = Stamp::new(Time(5), Height(1), Seq(1), 0);
        let mut b = Stamp::new(Time(5), Height(1), Seq(2), 0);
        let mut c = Stamp::new(Time(5), Height(1), Seq(2), 7);
        let mut later = Stamp::new(Time(6), Height(0), Seq(0), 0);
        resolve(&mut [&mut a, &mut b, &mut c, &mut later], id).unwrap();
        assert!(b < a && b < c && c < a && a < later);
        // Resolved again among others, what was put there before does not matter.
        resolve(&mut [&mut b, &mut c], |_| -> Result<_, Infallible> { unreachable!("no tie") }).unwrap();
        assert!(b < c);
    }

    #[test]
    fn each_entry_that_ties_is_looked_up_once_and_others_never() {
        let mut stamps: Vec<Stamp> = (0..90)
            .map(|n| Stamp::new(Time(n / 30), Height(if n < 60 { 1 } else { n }), Seq(n / 2), n as u32))
            .collect();
        let mut asked = Vec::new();
        resolve(&mut stamps.iter_mut().collect::<Vec<_>>(), |seq| {
            asked.push(seq.0);
            id(seq)
        })
        .unwrap();
        assert_eq!(asked, (0..30).collect::<Vec<_>>());
        // Later time first, then against the position, then the index.
        stamps.sort();
        assert_eq!(stamps.iter().map(|stamp| stamp.op).take(4).collect::<Vec<_>>(), [28, 29, 26, 27]);
        assert_eq!(stamps.last().map(|stamp| stamp.op), Some(89));
    }
}
