//! What a follower holds of the log here, and what it is to be told.

use std::collections::VecDeque;

use eid_core::dag::{Replica, Seq};
use eid_core::sabotage::{self, Sabotage};
use eid_core::{EntryId, TreeId};

use super::came::Came;
use crate::compressed::{Packed, Packing};
use crate::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX, LIVE_BEHIND_MAX, LIVE_WINDOW_BYTES};
use crate::message::{Batch, LiveMessage};
use crate::session::{Arrived, Cursor, SessionError};

/// One follower of one database.
#[derive(Debug)]
pub(super) struct Outward {
    number: u32,
    /// It has this log below it. Nothing when it knows of no position.
    from: Option<Cursor>,
    /// It was told that it is followed.
    begun: bool,
    /// What comes next in the log here.
    next: Seq,
    /// The end of the last push: what lies between it and `next` came from the follower.
    told: Seq,
    /// It durably holds what is below. Nothing after it has refused something.
    acknowledged: Option<Seq>,
    /// Pushes that were not acknowledged: where each ends, and its bytes.
    pushes: VecDeque<(Seq, u64)>,
    /// Something may be there to push.
    due: Option<Waiting>,
    /// Its right is to be looked at, whether or not there is room.
    look: bool,
}

/// How long something may have been there to push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Not as long as it may wait for what is under way.
    Soon,
    /// Longer.
    Enough,
}

/// What became of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is told everything as it comes.
    InStep,
    /// It lacks more than is pushed.
    Behind,
}

/// Whether more may be pushed over a connection.
pub(super) fn has_room(under_way: u64) -> bool {
    under_way < LIVE_WINDOW_BYTES
}

impl Outward {
    pub(super) fn new(number: u32, from: Option<Cursor>) -> Self {
        let at = from.map_or(Seq(0), |from| from.seq);
        Self {
            number,
            from,
            begun: false,
            next: at,
            told: at,
            acknowledged: Some(at),
            pushes: VecDeque::new(),
            due: Some(Waiting::Soon),
            look: true,
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Bytes that were pushed and are not acknowledged.
    pub(super) fn under_way(&self) -> u64 {
        self.pushes.iter().map(|(_, bytes)| bytes).sum()
    }

    /// What it durably holds, if anything is certain.
    pub(super) fn acknowledged(&self) -> Option<Cursor> {
        let from = self.from.filter(|_| self.begun)?;
        Some(Cursor { epoch: from.epoch, seq: self.acknowledged? })
    }

    pub(super) fn touch(&mut self) {
        self.due.get_or_insert(Waiting::Soon);
        self.look = true;
    }

    /// What is due has waited for as long as it may.
    pub(super) fn waited(&mut self) {
        self.due = self.due.map(|_| Waiting::Enough);
    }

    /// Whether there is something to do now.
    pub(super) fn is_due(&self, has_room: bool) -> bool {
        match self.due {
            Some(_) if self.look => true,
            Some(Waiting::Soon) => self.pushes.is_empty() && has_room,
            Some(Waiting::Enough) => has_room,
            None => false,
        }
    }

    /// Whether something waits for what is under way, and not for long.
    pub(super) fn is_due_soon(&self, has_room: bool) -> bool {
        has_room && self.due == Some(Waiting::Soon)
    }

    /// Lets it be told over another connection.
    pub(super) fn stand_by(&mut self, said: &mut Vec<LiveMessage>) {
        (self.due, self.look) = (None, false);
        self.begin(said);
    }

    fn begin(&mut self, said: &mut Vec<LiveMessage>) {
        if !std::mem::replace(&mut self.begun, true) {
            said.push(LiveMessage::Following { number: self.number });
        }
    }

    /// Reads what the follower lacks, and says it.
    pub(super) fn push(
        &mut self,
        (tree, replica): (&TreeId, &dyn Replica),
        (came, packing): (&Came, &mut Packing),
        under_way: &mut u64,
        said: &mut Vec<LiveMessage>,
    ) -> Result<Told, SessionError> {
        let (number, end) = (self.number, replica.end());
        self.look = false;
        let is_known = self.from.is_some_and(|from| from.epoch == replica.epoch());
        if !is_known || self.next > end || end.0 - self.next.0 > LIVE_BEHIND_MAX {
            return Ok(Told::Behind);
        }
        self.begin(said);
        let waits = !self.pushes.is_empty() && self.due == Some(Waiting::Soon);
        if waits || !has_room(*under_way) {
            if sabotage::is(Sabotage::ForgetDue) {
                self.due = None;
            }
            return Ok(Told::InStep);
        }
        while self.next < end {
            if !has_room(*under_way) {
                // What is left goes as soon as there is room.
                self.waited();
                return Ok(Told::InStep);
            }
            let to = Seq(end.0.min(self.next.0 + BATCH_ENTRIES_MAX as u64));
            let logged = replica.log(self.next..to, BATCH_BYTES_TARGET)?;
            let Some(last) = logged.last() else { return Err(SessionError::Hole) };
            self.next = Seq(last.seq.0 + 1);
            let entries: Vec<Arrived> = logged
                .into_iter()
                .filter(|logged| !came.contains(&EntryId::of_block(&logged.block)))
                .map(|logged| Arrived { block: logged.block, payloads: logged.payloads })
                .collect();
            if entries.is_empty() {
                self.skip();
                continue;
            }
            let bytes = entries.iter().map(Arrived::bytes_len).sum::<usize>() as u64;
            let from = self.told.0;
            said.push(match packing.pack(Batch::pack(tree, &entries, self.next.0)) {
                Packed::Plain(batch) => LiveMessage::Push { number, from, batch },
                Packed::Compressed(batch) => LiveMessage::PushCompressed { number, from, batch },
            });
            self.told = self.next;
            self.pushes.push_back((self.next, bytes));
            *under_way += bytes;
        }
        self.due = None;
        Ok(Told::InStep)
    }

    pub(super) fn handle_ack(&mut self, upto: Option<u64>, under_way: &mut u64) -> Result<(), SessionError> {
        let Some((end, bytes)) = self.pushes.pop_front() else {
            return Err(SessionError::Misplaced("an acknowledgement of nothing"));
        };
        *under_way -= bytes;
        match upto {
            Some(upto) if upto != end.0 => {
                return Err(SessionError::Misplaced("an acknowledgement of what was not pushed"));
            }
            Some(_) => self.acknowledged = self.acknowledged.map(|_| end),
            None => self.acknowledged = None,
        }
        self.skip();
        Ok(())
    }

    /// What lies behind the last push came from the follower: it holds that too.
    fn skip(&mut self) {
        if self.pushes.is_empty() {
            self.acknowledged = self.acknowledged.map(|_| self.next);
        }
    }
}
