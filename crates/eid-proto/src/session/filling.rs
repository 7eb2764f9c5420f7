//! Payloads of entries that are held without them: asked for by the side that lacks them, given by the other.

use std::collections::VecDeque;

use bytes::Bytes;
use eid_core::EntryId;
use eid_core::dag::{Replica, Seq};
use eid_core::sabotage::{self, Sabotage};

use super::error::SessionError;
use super::tips::ids_at;
use super::{Arrived, Outcome};
use crate::bounded::List;
use crate::limits::{BATCH_BYTES_TARGET, CREDIT_BYTES, CREDIT_BYTES_MIN, WANT_MAX};
use crate::message::Message;

/// A payload: of which entry, and of which of its sections.
type Place = (EntryId, usize);

/// The asking half.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// Payloads that came.
    pub(super) filled: u64,
    /// Payloads that came and are not what their entries name.
    pub(super) refused: u64,
    /// Something was asked for.
    pub(super) has_asked: bool,
    /// Where the log ended when the session began. What comes later comes from the other side, with what it has.
    end: Seq,
    /// The first position and section that was not asked about.
    at: (Seq, usize),
    /// What was asked for and is not answered, in that order.
    asked: VecDeque<Place>,
    credit: u64,
    /// What came of one entry each.
    queue: VecDeque<(EntryId, Vec<(usize, Bytes)>)>,
    /// How many payloads of one entry each were handed out and not reported back.
    outstanding: VecDeque<Vec<u64>>,
}

impl Filling {
    /// Takes note of what is held.
    pub(super) fn begin(&mut self, replica: &dyn Replica) {
        self.end = replica.end();
    }

    /// How many entries have come since.
    pub(super) fn grown(&self, replica: &dyn Replica) -> u64 {
        replica.end().0.saturating_sub(self.end.0)
    }

    /// What to ask for next. Nothing when everything was.
    pub(super) fn want(&mut self, replica: &dyn Replica) -> Result<Option<Message>, SessionError> {
        if self.asked.is_empty() {
            let mut lacking = replica.lacking(self.at, WANT_MAX)?;
            lacking.retain(|(seq, section)| *seq < self.end && *section < u64::BITS as usize);
            let seqs: Vec<Seq> = lacking.iter().map(|(seq, _)| *seq).collect();
            let ids = ids_at(replica, &seqs)?;
            if ids.len() != seqs.len() {
                return Err(SessionError::Hole);
            }
            if let Some((seq, section)) = lacking.last() {
                self.at = (*seq, section + 1);
            }
            self.asked = ids.into_iter().zip(lacking).map(|(id, (_, section))| (id, section)).collect();
        }
        if self.asked.is_empty() {
            return Ok(None);
        }
        self.credit = CREDIT_BYTES;
        let mut payloads: Vec<([u8; 32], u64)> = Vec::new();
        for (id, section) in &self.asked {
            match payloads.last_mut() {
                Some((last, sections)) if *last == id.0 => *sections |= 1 << section,
                _ => payloads.push((id.0, 1 << section)),
            }
        }
        Ok(Some(Message::Want { credit: self.credit, payloads: List::new(payloads) }))
    }

    /// Takes an answer.
    pub(super) fn handle_payloads(
        &mut self,
        payloads: List<Option<Bytes>, WANT_MAX>,
    ) -> Result<(), SessionError> {
        // One payload may be larger than what was left of the credit.
        if self.credit == 0 {
            return Err(SessionError::Misplaced("more than the credit"));
        }
        if payloads.is_empty() || payloads.len() > self.asked.len() {
            return Err(SessionError::Misplaced("payloads that nobody asked for"));
        }
        let asked: Vec<Place> = self.asked.drain(..payloads.len()).collect();
        for (payload, (id, section)) in payloads.into_vec().into_iter().zip(asked) {
            let Some(payload) = payload else { continue };
            self.credit = self.credit.saturating_sub(payload.len() as u64);
            match self.queue.back_mut() {
                Some((last, came)) if *last == id => came.push((section, payload)),
                _ => self.queue.push_back((id, vec![(section, payload)])),
            }
        }
        Ok(())
    }

    /// What came, as entries that are held already: the door compares them with what their headers name.
    pub(super) fn next_batch(&mut self, replica: &dyn Replica) -> Result<Option<Vec<Arrived>>, SessionError> {
        let (mut entries, mut counts) = (Vec::new(), Vec::new());
        for (id, came) in std::mem::take(&mut self.queue) {
            let Some(Some(seq)) = replica.find(&[id])?.pop() else { continue };
            let Some(held) = replica.log(seq..Seq(seq.0 + 1), 1)?.pop() else {
                return Err(SessionError::Hole);
            };
            let mut payloads = vec![None; held.payloads.len()];
            counts.push(came.len() as u64);
            for (section, payload) in came {
                if let Some(place) = payloads.get_mut(section) {
                    *place = Some(payload);
                }
            }
            entries.push(Arrived { block: held.block, payloads });
        }
        if entries.is_empty() {
            return Ok(None);
        }
        self.outstanding.push_back(counts);
        Ok(Some(entries))
    }

    /// Whether what was handed out is still to be reported.
    pub(super) fn is_waiting(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Takes the verdicts of what was handed out first.
    pub(super) fn handle_admitted(&mut self, outcomes: &[Outcome]) {
        let counts = self.outstanding.pop_front().unwrap_or_default();
        for (outcome, payloads) in outcomes.iter().zip(counts) {
            match outcome {
                Outcome::Admitted(_) | Outcome::Duplicate(_) => self.filled += payloads,
                Outcome::Refused(_) => self.refused += payloads,
            }
        }
    }
}

/// The giving half.
#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Payloads that were given.
    pub(super) given: u64,
    wanted: VecDeque<Place>,
    credit: u64,
    /// The turn is for answers.
    is_asked: bool,
}

impl Giving {
    /// Whether this turn is for answers.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    pub(super) fn handle_want(
        &mut self,
        credit: u64,
        wanted: &List<([u8; 32], u64), WANT_MAX>,
    ) -> Result<(), SessionError> {
        let count: u64 = wanted.iter().map(|(_, sections)| u64::from(sections.count_ones())).sum();
        let is_empty = wanted.is_empty() || wanted.iter().any(|(_, sections)| *sections == 0);
        if self.is_asked || credit < CREDIT_BYTES_MIN || is_empty || count > WANT_MAX as u64 {
            return Err(SessionError::Misplaced("a wish for payloads that is none"));
        }
        for (id, sections) in wanted.iter() {
            let sections = (0..u64::BITS as usize).filter(|section| sections >> section & 1 == 1);
            self.wanted.extend(sections.map(|section| (EntryId(*id), section)));
        }
        (self.credit, self.is_asked) = (credit, true);
        Ok(())
    }

    /// The next answer; nothing when the turn is over. `gives`: the other side may have what is here.
    pub(super) fn next(
        &mut self,
        replica: &dyn Replica,
        gives: bool,
    ) -> Result<Option<Message>, SessionError> {
        let (mut payloads, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES_TARGET
            && self.credit > 0
            && let Some(place) = self.wanted.pop_front()
        {
            let payload = if gives { payload_at(replica, place)? } else { None };
            let len = payload.as_ref().map_or(0, Bytes::len);
            self.given += u64::from(payload.is_some());
            self.credit = self.credit.saturating_sub(len as u64);
            bytes += len;
            payloads.push(payload);
        }
        if payloads.is_empty() {
            self.wanted.clear();
            self.is_asked = false;
            return Ok(None);
        }
        Ok(Some(Message::Payloads(List::new(payloads))))
    }
}

/// A payload, if it is here.
fn payload_at(replica: &dyn Replica, (id, section): Place) -> Result<Option<Bytes>, SessionError> {
    let Some(Some(seq)) = replica.find(&[id])?.pop() else { return Ok(None) };
    if sabotage::is(Sabotage::WithholdPayloads) {
        return Ok(None);
    }
    let held = replica.log(seq..Seq(seq.0 + 1), 1)?.pop();
    Ok(held.and_then(|mut held| held.payloads.get_mut(section)?.take()))
}
