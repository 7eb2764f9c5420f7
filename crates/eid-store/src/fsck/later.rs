//! What changed rows after the entries that it is about, in the order in which it did: payloads that came later than their
//! entries, and changes of what counts.
//!
//! Pages of sequences are cut where they were full when they grew, and rows say which interval changed them. So rows are
//! the same byte by byte only when everything is applied again in the order in which it was.

use std::collections::BTreeSet;

use bytes::Bytes;
use eid_core::dag::Seq;

use crate::backend::{Key, Snapshot};
use crate::cursor::Cursor;
use crate::error::StoreError;
use crate::limits::{FSCK_BYTES_MAX, FSCK_ENTRIES_MAX, FSCK_LATE_MAX};
use crate::offer::Offer;
use crate::rows::{
    Late, Settled, Space, TreeNo, TreeState, decode_log, seq_key, seq_of_key, state_key, tree_range,
};

/// What is left to come.
#[derive(Debug)]
pub(super) struct Later<'a> {
    source: (&'a dyn Snapshot, TreeNo),
    payloads: Cursor<'a>,
    next_payload: Option<(u64, Late)>,
    changes: Cursor<'a>,
    next_change: Option<Settled>,
    sections: BTreeSet<(Seq, usize)>,
    order: Order,
    /// Whether views are in line with what counts in the end.
    pub settled: bool,
}

/// Whether everything is applied in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Order {
    pub payloads: bool,
    pub changes: bool,
}

impl Order {
    pub(super) fn is_kept(self) -> bool {
        self.payloads && self.changes
    }
}

/// What comes next.
pub(super) enum Step {
    /// Payloads, as one batch.
    Payloads(Vec<Offer>),
    /// Views take in what counts of so many entries.
    Change(usize),
}

impl<'a> Later<'a> {
    pub(super) fn new(source: (&'a dyn Snapshot, TreeNo)) -> Result<Self, StoreError> {
        let mut later = Self::none(source);
        // A state that does not read is told elsewhere.
        let state = source.0.get_many(&[state_key(source.1)])?.pop().flatten();
        let state = state.and_then(|state| TreeState::decode(&state).ok());
        later.settled = state.as_ref().is_none_or(|state| state.unsettled.is_none());
        later.order.payloads = later.payloads_follow(state.as_ref().map(|state| state.filled))?;
        later.order.changes = changes_follow(source, state.as_ref().map(|state| state.settled))?;
        if later.order.is_kept() {
            later.step_payload()?;
            later.step_change()?;
        } else {
            later.sections.clear();
        }
        Ok(later)
    }

    /// None come late: everything is applied with its entry, and views take in what counts at the end.
    pub(super) fn none(source: (&'a dyn Snapshot, TreeNo)) -> Self {
        let rows = |space| Cursor::new(source.0, tree_range(space, source.1), FSCK_ENTRIES_MAX);
        Self {
            source,
            payloads: rows(Space::Late),
            next_payload: None,
            changes: rows(Space::Settled),
            next_change: None,
            sections: BTreeSet::new(),
            order: Order::default(),
            settled: true,
        }
    }

    /// The same, and these payloads do not come at all.
    pub(super) fn without(source: (&'a dyn Snapshot, TreeNo), sections: BTreeSet<(Seq, usize)>) -> Self {
        Self { sections, ..Self::none(source) }
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// Notes which sections came late, and says whether their rows are whole. The last one has the number that the tree
    /// counts up to.
    fn payloads_follow(&mut self, counted: Option<u64>) -> Result<bool, StoreError> {
        let range = tree_range(Space::Late, self.source.1);
        let mut rows = Cursor::new(self.source.0, range, FSCK_ENTRIES_MAX);
        let (mut before, mut number) = (Seq(0), None);
        while let Some((key, row)) = rows.next()? {
            let Some(late) = Late::decode(&row).ok().filter(|late| before <= late.end && late.seq < late.end)
            else {
                return Ok(false);
            };
            let own = number_of(&key);
            let follows = own.is_some() && number.is_none_or(|number: u64| own == number.checked_add(1));
            (before, number) = (late.end, own);
            let is_first = self.sections.insert((late.seq, late.section));
            if !follows || !is_first || self.sections.len() > FSCK_LATE_MAX {
                return Ok(false);
            }
        }
        Ok(number.is_none() || counted.is_none() || number == counted)
    }

    fn payload_is_next(&self) -> bool {
        match (&self.next_payload, &self.next_change) {
            (Some((number, _)), Some(change)) => *number <= change.filled,
            (payload, _) => payload.is_some(),
        }
    }

    /// Where the log ends when the next one comes.
    pub(super) fn next_end(&self) -> Option<Seq> {
        if self.payload_is_next() {
            self.next_payload.map(|(_, late)| late.end)
        } else {
            self.next_change.as_ref().map(|change| change.applied)
        }
    }

    /// Takes out of an entry what came later.
    pub(super) fn leave_out(&self, seq: Seq, payloads: &mut [Option<Bytes>]) {
        for (_, section) in self.sections.range((seq, 0)..=(seq, usize::MAX)) {
            if let Some(payload) = payloads.get_mut(*section) {
                *payload = None;
            }
        }
    }

    /// What comes next while the log ends there or before.
    pub(super) fn next(&mut self, end: Seq) -> Result<Option<Step>, StoreError> {
        if self.next_end().is_none_or(|next| next > end) {
            return Ok(None);
        }
        if self.payload_is_next() {
            return Ok(Some(Step::Payloads(self.batch(end)?)));
        }
        let entries =
            self.next_change.as_ref().map_or(0, |change| change.voided.len() + change.restored.len());
        self.step_change()?;
        Ok(Some(Step::Change(entries)))
    }

    fn batch(&mut self, end: Seq) -> Result<Vec<Offer>, StoreError> {
        let (mut offers, mut bytes, mut last) = (Vec::<Offer>::new(), 0, None);
        while self.payload_is_next()
            && let Some((_, late)) = self.next_payload.filter(|(_, late)| late.end <= end)
            && offers.len() < FSCK_ENTRIES_MAX
            && bytes < FSCK_BYTES_MAX
            && last.is_none_or(|last| last < (late.seq, late.section))
        {
            let key: [Key; 1] = [seq_key(Space::Log, self.source.1, late.seq)];
            let row = self.source.0.get_many(&key)?.pop().flatten();
            if let Some(logged) = row.and_then(|row| decode_log(late.seq, &row).ok())
                && let Some(Some(payload)) = logged.payloads.get(late.section)
            {
                bytes += payload.len();
                if offers.last().is_none_or(|offer| offer.block != logged.block) {
                    offers.push(Offer { payloads: vec![None; logged.payloads.len()], block: logged.block });
                }
                if let Some(offer) = offers.last_mut() {
                    offer.payloads[late.section] = Some(payload.clone());
                }
            }
            last = Some((late.seq, late.section));
            self.step_payload()?;
        }
        Ok(offers)
    }

    fn step_payload(&mut self) -> Result<(), StoreError> {
        let read = |(key, row): (Key, Bytes)| -> Result<_, StoreError> {
            Ok((number_of(&key).unwrap_or(u64::MAX), Late::decode(&row)?))
        };
        self.next_payload = self.payloads.next()?.map(read).transpose()?;
        Ok(())
    }

    fn step_change(&mut self) -> Result<(), StoreError> {
        self.next_change = self.changes.next()?.map(|(_, row)| Settled::decode(&row)).transpose()?;
        Ok(())
    }
}

/// The number in the key of a late payload.
fn number_of(key: &Key) -> Option<u64> {
    key.get(9..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}

/// Whether changes of what counts are whole: numbered from one to what the tree counts up to.
fn changes_follow(source: (&dyn Snapshot, TreeNo), counted: Option<u64>) -> Result<bool, StoreError> {
    let mut rows = Cursor::new(source.0, tree_range(Space::Settled, source.1), FSCK_ENTRIES_MAX);
    let (mut number, mut before) = (0, (Seq(0), 0));
    while let Some((key, row)) = rows.next()? {
        number += 1;
        let Ok(settled) = Settled::decode(&row) else { return Ok(false) };
        let place = (settled.applied, settled.filled);
        if seq_of_key(&key)?.0 != number || place < before || settled.since >= settled.applied {
            return Ok(false);
        }
        before = place;
    }
    Ok(counted.is_none_or(|counted| counted == number))
}
