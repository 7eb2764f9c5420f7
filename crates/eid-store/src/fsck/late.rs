//! Payloads that came later than their entries, in the order in which they came.
//!
//! Pages of sequences are cut where they were full when they grew, so rows are the same byte by byte only when payloads
//! are applied in the order in which they were.

use std::collections::BTreeSet;

use bytes::Bytes;
use eid_core::dag::Seq;

use crate::backend::{Key, Snapshot};
use crate::cursor::Cursor;
use crate::error::StoreError;
use crate::limits::{FSCK_BYTES_MAX, FSCK_ENTRIES_MAX, FSCK_LATE_MAX};
use crate::offer::Offer;
use crate::rows::{Late, Space, TreeNo, TreeState, decode_log, seq_key, state_key, tree_range};

/// What is left to come.
#[derive(Debug)]
pub(super) struct LatePayloads<'a> {
    source: (&'a dyn Snapshot, TreeNo),
    rows: Cursor<'a>,
    next: Option<Late>,
    sections: BTreeSet<(Seq, usize)>,
    /// Whether all of them are applied in their order.
    pub in_order: bool,
}

impl<'a> LatePayloads<'a> {
    pub(super) fn new(source: (&'a dyn Snapshot, TreeNo)) -> Result<Self, StoreError> {
        let cursor = || Cursor::new(source.0, tree_range(Space::Late, source.1), FSCK_ENTRIES_MAX);
        let (mut all, mut sections, mut in_order) = (cursor(), BTreeSet::new(), true);
        let (mut before, mut number) = (Seq(0), None);
        while in_order && let Some((key, row)) = all.next()? {
            let late = Late::decode(&row).ok().filter(|late| before <= late.end && late.seq < late.end);
            let own = key.get(9..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            let follows = own.is_some() && number.is_none_or(|number: u64| own == number.checked_add(1));
            number = own;
            in_order = follows
                && late.is_some_and(|late| {
                    before = late.end;
                    sections.insert((late.seq, late.section)) && sections.len() <= FSCK_LATE_MAX
                });
        }
        // The last one has the number that the tree counts up to; a state that does not read is told elsewhere.
        let state = source.0.get_many(&[state_key(source.1)])?.pop().flatten();
        let counted = state.and_then(|state| TreeState::decode(&state).ok()).map(|state| state.filled);
        in_order &= number.is_none() || counted.is_none() || number == counted;
        let mut late = Self { source, rows: cursor(), next: None, sections, in_order };
        if in_order {
            late.step()?;
        } else {
            late.sections.clear();
        }
        Ok(late)
    }

    /// None come late: everything is applied with its entry.
    pub(super) fn none(source: (&'a dyn Snapshot, TreeNo)) -> Self {
        let rows = Cursor::new(source.0, tree_range(Space::Late, source.1), FSCK_ENTRIES_MAX);
        Self { source, rows, next: None, sections: BTreeSet::new(), in_order: false }
    }

    /// Where the log ends when the next one comes.
    pub(super) fn next_end(&self) -> Option<Seq> {
        self.next.map(|late| late.end)
    }

    /// Takes out of an entry what came later.
    pub(super) fn leave_out(&self, seq: Seq, payloads: &mut [Option<Bytes>]) {
        for (_, section) in self.sections.range((seq, 0)..=(seq, usize::MAX)) {
            if let Some(payload) = payloads.get_mut(*section) {
                *payload = None;
            }
        }
    }

    /// Those that come next while the log ends there, as one batch; nothing when there are no more.
    pub(super) fn next_batch(&mut self, end: Seq) -> Result<Vec<Offer>, StoreError> {
        let (mut offers, mut bytes, mut last) = (Vec::<Offer>::new(), 0, None);
        while let Some(late) = self.next.filter(|late| late.end <= end)
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
                if !offers.last().is_some_and(|offer| offer.block == logged.block) {
                    offers.push(Offer { payloads: vec![None; logged.payloads.len()], block: logged.block });
                }
                if let Some(offer) = offers.last_mut() {
                    offer.payloads[late.section] = Some(payload.clone());
                }
            }
            last = Some((late.seq, late.section));
            self.step()?;
        }
        Ok(offers)
    }

    fn step(&mut self) -> Result<(), StoreError> {
        self.next = self.rows.next()?.map(|(_, row)| Late::decode(&row)).transpose()?;
        Ok(())
    }
}
