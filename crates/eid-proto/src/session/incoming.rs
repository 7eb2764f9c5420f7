//! The receiving half of a session: takes batches within the credit it gave, keeps count of their verdicts, and
//! knows what may be acknowledged.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::{EntryId, Missing, Refusal, TreeId};

use super::error::SessionError;
use super::{Arrived, Outcome};
use crate::limits::{BLOCK_BYTES_MIN, MORE_BYTES, REFUSED_MAX, SECTION_BYTES_MIN};
use crate::message::{Batch, CompressedBatch, Plan, TipNames, Window, WireRung};

#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) plan: Option<Plan>,
    /// The sender says that it has sent everything.
    pub(super) done: bool,
    /// What the sender asks about.
    pub(super) window: Option<Window>,
    /// Entries whose parents are not here, for no reason that this side knows.
    pub(super) missing: bool,
    pub(super) received: u64,
    pub(super) admitted: u64,
    pub(super) duplicates: u64,
    pub(super) refused: u64,
    /// How many had come when the sender began again.
    before: u64,
    /// The sender holds the log below this position: what it acknowledged, and what it sent since, as long as that
    /// goes on without a gap.
    pub(super) covered: u64,
    credit: u64,
    /// Bytes that have become durable since credit was last given.
    freed: u64,
    queue: VecDeque<Vec<Arrived>>,
    /// Batches handed out and not reported back.
    outstanding: VecDeque<Handed>,
    /// What the sender's log is held up to; fixed at the first entry that was not admitted.
    durable: Option<u64>,
    blocked: bool,
    /// Refused entries, and what descends from them.
    refused_ids: BTreeSet<EntryId>,
}

/// A batch that was handed out.
#[derive(Debug)]
struct Handed {
    /// What it completes.
    upto: u64,
    bytes: u64,
    blocks: Vec<Bytes>,
}

impl Incoming {
    /// Gives the sender credit for one turn.
    pub(super) fn grant(&mut self, credit: u64) -> u64 {
        self.credit = credit;
        self.freed = 0;
        credit
    }

    /// Gives the sender more credit for the turn that it is in, once enough has become durable.
    pub(super) fn grant_more(&mut self) -> Option<u64> {
        let credit = Some(self.freed).filter(|freed| *freed >= MORE_BYTES && !self.done)?;
        self.freed = 0;
        self.credit += credit;
        Some(credit)
    }

    /// Whether there is a reason to say something in the sender's turn.
    pub(super) fn has_more(&self) -> bool {
        !self.done && (self.missing || self.freed >= MORE_BYTES)
    }

    /// Forgets the plan: the sender begins again by ids. What was counted stays counted.
    pub(super) fn begin_again(&mut self) {
        let (admitted, duplicates, refused) = (self.admitted, self.duplicates, self.refused);
        let before = admitted + duplicates + refused;
        let refused_ids = std::mem::take(&mut self.refused_ids);
        *self = Self {
            admitted,
            duplicates,
            refused,
            before,
            refused_ids,
            covered: self.covered,
            ..Self::default()
        };
    }

    pub(super) fn handle_plan(&mut self, plan: Plan) -> Result<(), SessionError> {
        if self.plan.is_some() || self.window.is_some() {
            return Err(SessionError::Misplaced("a second plan"));
        }
        self.plan = Some(plan);
        Ok(())
    }

    pub(super) fn handle_window(&mut self, window: Window) -> Result<(), SessionError> {
        let is_empty = match &window {
            Window::Short(names) => names.is_empty(),
            Window::Full(names) => names.is_empty(),
        };
        if self.plan.is_some() || self.window.is_some() || is_empty {
            return Err(SessionError::Misplaced("a window where none belongs"));
        }
        self.window = Some(window);
        Ok(())
    }

    /// The plan, when there is room for a batch of it.
    fn expected(&self) -> Result<&Plan, SessionError> {
        let Some(plan) = &self.plan else { return Err(SessionError::Misplaced("a batch before its plan")) };
        // One entry may be larger than what was left of the credit.
        if self.credit == 0 {
            return Err(SessionError::Misplaced("more than the credit"));
        }
        Ok(plan)
    }

    pub(super) fn handle_compressed(
        &mut self,
        tree: &TreeId,
        batch: &CompressedBatch,
    ) -> Result<(), SessionError> {
        self.expected()?;
        self.handle_batch(tree, &batch.decompress()?)
    }

    pub(super) fn handle_batch(&mut self, tree: &TreeId, batch: &Batch) -> Result<(), SessionError> {
        let (planned, end) = self.expected().map(|plan| (plan.entries, plan.end.seq))?;
        let entries = batch.unpack(tree)?;
        if self.done || entries.is_empty() {
            return Err(SessionError::Misplaced("a batch where none belongs"));
        }
        self.received += entries.len() as u64;
        if self.received > planned || batch.upto > end {
            return Err(SessionError::Misplaced("more than was planned"));
        }
        // Every entry takes memory until it is admitted: what has hardly any bytes would be outside the credit.
        let is_none = |entry: &Arrived| {
            entry.block.len() < BLOCK_BYTES_MIN.max(entry.payloads.len() * SECTION_BYTES_MIN)
        };
        if entries.iter().any(is_none) {
            return Err(SessionError::Misplaced("an entry too short to be one"));
        }
        let bytes: usize = entries.iter().map(Arrived::bytes_len).sum();
        let bytes = bytes as u64;
        self.credit = self.credit.saturating_sub(bytes);
        let blocks = entries.iter().map(|entry| entry.block.clone()).collect();
        self.outstanding.push_back(Handed { upto: batch.upto, bytes, blocks });
        self.queue.push_back(entries);
        Ok(())
    }

    pub(super) fn handle_done(&mut self) -> Result<(), SessionError> {
        match &self.plan {
            Some(plan) if !self.done && self.received == plan.entries => {
                self.done = true;
                Ok(())
            }
            _ => Err(SessionError::Misplaced("an end before everything has come")),
        }
    }

    /// How many entries will have come at the end of the plan, those of a plan before it included.
    pub(super) fn total(&self) -> Option<u64> {
        self.plan.as_ref().map(|plan| self.before.saturating_add(plan.entries))
    }

    /// Whether nothing was said yet of what will come.
    pub(super) fn is_fresh(&self) -> bool {
        self.plan.is_none() && self.window.is_none() && self.received == 0
    }

    /// The next batch to admit.
    pub(super) fn next_batch(&mut self) -> Option<Vec<Arrived>> {
        self.queue.pop_front()
    }

    /// Whether batches are still to be reported.
    pub(super) fn is_waiting(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Takes the verdicts of the oldest batch that was handed out. Everything admitted is durable.
    pub(super) fn handle_admitted(&mut self, outcomes: &[Outcome]) {
        let Some(Handed { upto, bytes, blocks }) = self.outstanding.pop_front() else { return };
        self.freed += bytes;
        let mut clean = outcomes.len() == blocks.len();
        for (outcome, block) in outcomes.iter().zip(&blocks) {
            match outcome {
                Outcome::Admitted(Seq(seq)) => {
                    self.admitted += 1;
                    self.covered += u64::from(*seq == self.covered);
                }
                Outcome::Duplicate(Seq(seq)) => {
                    self.duplicates += 1;
                    self.covered += u64::from(*seq == self.covered);
                }
                Outcome::Refused(refusal) => {
                    clean = false;
                    self.handle_refused(EntryId::of_block(block), refusal);
                }
            }
        }
        self.blocked |= !clean;
        if !self.blocked {
            self.durable = Some(upto);
        }
    }

    fn handle_refused(&mut self, id: EntryId, refusal: &Refusal) {
        if let Refusal::Missing(Missing::Parents(parents)) = refusal
            && !parents.iter().any(|parent| self.refused_ids.contains(parent))
        {
            self.missing = true;
            return;
        }
        self.refused += 1;
        if self.refused_ids.len() < REFUSED_MAX {
            self.refused_ids.insert(id);
        }
    }

    /// Everything that was planned is here.
    pub(super) fn is_clean(&self) -> bool {
        self.done && !self.blocked
    }

    /// Whether the plan rests on no hint: neither on what was remembered nor on short ids.
    pub(super) fn is_exact(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| match plan.rung {
            WireRung::InSync | WireRung::TipsKnown => true,
            WireRung::Remembered | WireRung::Sketch | WireRung::Asked => false,
            WireRung::ByIds => matches!(plan.tips.names, TipNames::Full(_)),
        })
    }

    /// What may be acknowledged before the end: nothing while the plan rests on hints.
    pub(super) fn durable(&self) -> Option<u64> {
        self.durable.filter(|_| self.is_exact())
    }
}
