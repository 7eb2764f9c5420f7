//! What this side holds of the log of the other, and what has come of it.

use eid_core::dag::Seq;
use eid_core::{EntryId, Missing, Refusal, TreeId};

use super::Live;
use crate::compressed::Packed;
use crate::limits::{BLOCK_BYTES_MIN, LIVE_WINDOW_BYTES, SECTION_BYTES_MIN};
use crate::session::{Arrived, Cursor, Outcome, SessionError};

/// One database that is followed.
#[derive(Debug)]
pub(super) struct Inward {
    number: u32,
    held: Option<Cursor>,
    begun: bool,
    /// Something was refused: positions are certain no more.
    refused: bool,
    /// The end of the last push that has arrived.
    arrived: Option<u64>,
}

/// A push that has arrived.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) number: u32,
    upto: u64,
    pub(super) bytes: u64,
    pub(super) entries: Vec<Arrived>,
}

impl Inward {
    pub(super) fn asked(number: u32, held: Option<Cursor>) -> Self {
        Self { number, held, begun: false, refused: false, arrived: held.map(|held| held.seq.0) }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn is_in_step(&self) -> bool {
        self.begun
    }

    /// The other side begins to tell. Says whether it had not.
    pub(super) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// What is durably held, if that is certain.
    pub(super) fn held(&self) -> Option<Cursor> {
        self.held.filter(|_| !self.refused)
    }

    /// Takes the verdicts on a push. Says whether all that was needed for it was here.
    pub(super) fn take(&mut self, waiting: &Waiting, outcomes: &[Outcome]) -> bool {
        let is_missing =
            |outcome: &Outcome| matches!(outcome, Outcome::Refused(Refusal::Missing(Missing::Parents(_))));
        if outcomes.iter().any(is_missing) {
            return false;
        }
        self.refused |= outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        if let Some(held) = &mut self.held {
            held.seq = held.seq.max(Seq(waiting.upto));
        }
        true
    }
}

impl Live {
    pub(super) fn handle_push(
        &mut self,
        tree: TreeId,
        number: u32,
        from: u64,
        packed: &Packed,
    ) -> Result<(), SessionError> {
        let Some(inward) = self.inward.get_mut(&tree).filter(|inward| inward.begun) else {
            return Err(SessionError::Misplaced("a push before it was said that there will be any"));
        };
        // One entry may be larger than what was left of the window.
        if self.waiting_bytes >= LIVE_WINDOW_BYTES {
            return Err(SessionError::Misplaced("more than the window"));
        }
        let upto = packed.upto();
        if inward.arrived != Some(from) || upto <= from {
            return Err(SessionError::Misplaced("a push out of order"));
        }
        inward.arrived = Some(upto);
        let entries = match packed {
            Packed::Plain(batch) => batch.unpack(&tree)?,
            Packed::Compressed(batch) => batch.decompress()?.unpack(&tree)?,
        };
        if entries.is_empty() || entries.len() as u64 > upto - from {
            return Err(SessionError::Misplaced("a push that is none"));
        }
        let is_none = |entry: &Arrived| {
            entry.block.len() < BLOCK_BYTES_MIN.max(entry.payloads.len() * SECTION_BYTES_MIN)
        };
        if entries.iter().any(is_none) {
            return Err(SessionError::Misplaced("an entry too short to be one"));
        }
        self.came(entries.iter().map(|entry| EntryId::of_block(&entry.block)).collect::<Vec<_>>());
        let bytes = entries.iter().map(Arrived::bytes_len).sum::<usize>() as u64;
        self.waiting_bytes += bytes;
        self.waiting.push_back(Waiting { number, upto, bytes, entries });
        Ok(())
    }
}
