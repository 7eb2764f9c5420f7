//! The sending half of a session: finds what the other side lacks, and streams it within the other side's credit.

use bytes::Bytes;
use eid_core::dag::{Difference, Probe, Replica, Seq, SeqSet};
use eid_core::pack::Arrived;
use eid_core::{EntryId, TreeId};

use super::error::SessionError;
use super::tips::{Naming, Resolved, ids_at, name_tips, resolve};
use super::{Offer, Rung};
use crate::bits;
use crate::bounded::List;
use crate::limits::{
    BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX, CREDIT_BYTES_MIN, GAP_MAX, PLAN_TIPS_MAX, WALK_STEP,
    WINDOW_IDS_FIRST, WINDOW_IDS_MAX,
};
use crate::message::{Batch, Message, Open, Plan, Position, TipNames, Tips, Window};

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) rung: Rung,
    /// Where the log ended when the plan was begun.
    pub(super) end: Seq,
    /// How many entries the plan has.
    pub(super) total: u64,
    /// How many were sent.
    pub(super) sent: u64,
    /// How many entries the walk of the plan visited.
    pub(super) visited: u64,
    tips: Tips,
    credit: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Walking(Difference),
    Probing { probe: Probe, ids: usize, asked: usize },
    Planned(SeqSet),
    Streaming { plan: SeqSet, at: Seq },
    Finished,
}

/// What the sending half wants next.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask again: a walk has used its budget.
    Again,
    Say(Message),
    /// The turn is over.
    Wait,
    /// Everything was said.
    Finished,
}

impl Outgoing {
    /// Answers an opening with the cheapest rung that is sure not to leave anything out, as far as its hints are
    /// true.
    pub(super) fn answer(replica: &dyn Replica, open: &Open) -> Result<Self, SessionError> {
        let theirs = resolve(replica, &open.tips)?;
        let mine = name_tips(replica, PLAN_TIPS_MAX, Naming::Short)?;
        if mine.hash == open.tips.hash {
            return Self::begin(replica, Rung::InSync, mine, open.credit, Stage::Planned(SeqSet::default()));
        }
        let tips: Vec<Seq> = replica.tips()?.into_iter().map(|(_, seq)| seq).collect();
        if theirs.all {
            let walk = Difference::new(tips, theirs.held);
            return Self::begin(replica, Rung::TipsKnown, mine, open.credit, Stage::Walking(walk));
        }
        let common = replica.find_prefixes(&open.common)?;
        let remembered = !common.is_empty() && common.iter().all(Option::is_some);
        let have: Vec<Seq> = theirs.held.into_iter().chain(common.into_iter().flatten()).collect();
        let cursor = open
            .cursor
            .filter(|cursor| cursor.epoch == replica.epoch().0 && cursor.seq <= replica.end().0)
            .map(|cursor| Seq(cursor.seq));
        let floor = cursor.or(remembered.then_some(Seq(0)));
        if let Some(floor) = floor {
            let walk = Difference::above(floor, tips, have);
            return Self::begin(replica, Rung::Remembered, mine, open.credit, Stage::Walking(walk));
        }
        Self::by_ids(replica, Naming::Short, have, open.credit)
    }

    /// Finds out by ids. In full, they are exact whatever was said before, provided that the other side surely
    /// holds `have`.
    pub(super) fn by_ids(
        replica: &dyn Replica,
        naming: Naming,
        have: impl IntoIterator<Item = Seq>,
        credit: u64,
    ) -> Result<Self, SessionError> {
        let tips = replica.tips()?.into_iter().map(|(_, seq)| seq);
        let stage = Stage::Probing { probe: Probe::new(tips, have), ids: WINDOW_IDS_FIRST, asked: 0 };
        let named = name_tips(replica, PLAN_TIPS_MAX, naming)?;
        Self::begin(replica, Rung::ByIds, named, credit, stage)
    }

    /// Everything that the other side, whose tips are known, lacks.
    pub(super) fn push(replica: &dyn Replica, theirs: Resolved, credit: u64) -> Result<Self, SessionError> {
        if !theirs.all {
            return Self::by_ids(replica, Naming::Full, theirs.held, credit);
        }
        let tips = replica.tips()?.into_iter().map(|(_, seq)| seq);
        let walk = Difference::new(tips, theirs.held);
        let named = name_tips(replica, PLAN_TIPS_MAX, Naming::Short)?;
        Self::begin(replica, Rung::TipsKnown, named, credit, Stage::Walking(walk))
    }

    /// Sends nothing: the other side does not take anything, or may not have it.
    pub(super) fn nothing(replica: &dyn Replica) -> Result<Self, SessionError> {
        let tips = name_tips(replica, 0, Naming::Short)?;
        Ok(Self {
            rung: Rung::InSync,
            end: Seq(0),
            total: 0,
            sent: 0,
            visited: 0,
            tips,
            credit: 0,
            stage: Stage::Finished,
        })
    }

    fn begin(
        replica: &dyn Replica,
        rung: Rung,
        tips: Tips,
        credit: u64,
        stage: Stage,
    ) -> Result<Self, SessionError> {
        let mut outgoing =
            Self { rung, end: replica.end(), total: 0, sent: 0, visited: 0, tips, credit: 0, stage };
        outgoing.grant(credit)?;
        Ok(outgoing)
    }

    /// Takes the receiver's credit for the next turn.
    pub(super) fn grant(&mut self, credit: u64) -> Result<(), SessionError> {
        if credit < CREDIT_BYTES_MIN {
            return Err(SessionError::Misplaced("a credit too small to go on"));
        }
        self.credit = credit;
        Ok(())
    }

    /// Takes the answer to the last window.
    pub(super) fn handle_held(&mut self, held: &Bytes) -> Result<(), SessionError> {
        let Stage::Probing { probe, ids, asked } = &mut self.stage else {
            return Err(SessionError::Misplaced("an answer to no window"));
        };
        let held =
            bits::unpack(held, *asked).ok_or(SessionError::Misplaced("an answer of the wrong length"))?;
        probe.answer(&held);
        *asked = 0;
        *ids = (*ids * 2).min(WINDOW_IDS_MAX);
        Ok(())
    }

    /// Whether an acknowledgement up to here can be true.
    pub(super) fn may_acknowledge(&self, upto: u64) -> bool {
        match &self.stage {
            Stage::Streaming { plan, at } => upto <= plan.next_run(*at).map_or(self.end.0, |run| run.start.0),
            Stage::Finished => upto <= self.end.0,
            Stage::Walking(_) | Stage::Probing { .. } | Stage::Planned(_) => false,
        }
    }

    /// Whether the plan is known and being streamed, or done.
    pub(super) fn is_planned(&self) -> bool {
        matches!(self.stage, Stage::Streaming { .. } | Stage::Finished)
    }

    /// What to say next. `offer` is what this side takes in return.
    pub(super) fn poll(
        &mut self,
        replica: &dyn Replica,
        tree: &TreeId,
        offer: Offer,
    ) -> Result<Step, SessionError> {
        match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Walking(mut walk) => {
                let complete = walk.step(replica, WALK_STEP)?;
                self.visited = walk.visited();
                self.stage = if complete { Stage::Planned(walk.finish()) } else { Stage::Walking(walk) };
                Ok(Step::Again)
            }
            Stage::Probing { probe, ids, asked } if asked > 0 => {
                self.stage = Stage::Probing { probe, ids, asked };
                Ok(Step::Wait)
            }
            Stage::Probing { mut probe, ids, .. } => {
                let window = probe.window(replica, ids)?;
                self.visited = probe.visited();
                if window.is_empty() {
                    self.stage = Stage::Planned(probe.finish());
                    return Ok(Step::Again);
                }
                let names = ids_at(replica, &window)?;
                if names.len() != window.len() {
                    return Err(SessionError::Hole);
                }
                let window = match self.tips.names {
                    TipNames::Short(_) => {
                        Window::Short(List::new(names.iter().map(EntryId::prefix).collect()))
                    }
                    TipNames::Full(_) => Window::Full(List::new(names.iter().map(|id| id.0).collect())),
                };
                self.stage = Stage::Probing { probe, ids, asked: names.len() };
                Ok(Step::Say(Message::Window(window)))
            }
            Stage::Planned(plan) => {
                self.total = plan.len();
                let said = Plan {
                    rung: self.rung.into(),
                    tips: self.tips.clone(),
                    end: Position { epoch: replica.epoch().0, seq: self.end.0 },
                    entries: self.total,
                    credit: offer.credit,
                    accepts: offer.accepts,
                };
                self.stage = Stage::Streaming { plan, at: Seq(0) };
                Ok(Step::Say(Message::Plan(said)))
            }
            Stage::Streaming { plan, at } => match plan.next_run(at) {
                None => Ok(Step::Say(Message::Done)),
                Some(_) if self.credit == 0 => {
                    self.stage = Stage::Streaming { plan, at };
                    Ok(Step::Wait)
                }
                Some(_) => {
                    let (entries, bytes, next) = read_batch(replica, &plan, at, self.credit)?;
                    let upto = plan.next_run(next).map_or(self.end.0, |run| run.start.0);
                    self.credit = self.credit.saturating_sub(bytes);
                    self.sent += entries.len() as u64;
                    self.stage = Stage::Streaming { plan, at: next };
                    Ok(Step::Say(Message::Batch(Batch::pack(tree, &entries, upto))))
                }
            },
            Stage::Finished => Ok(Step::Finished),
        }
    }
}

/// Reads the next entries of a plan: at least one, else as many as fit. Gives their bytes and where to go on.
fn read_batch(
    replica: &dyn Replica,
    plan: &SeqSet,
    from: Seq,
    credit: u64,
) -> Result<(Vec<Arrived>, u64, Seq), SessionError> {
    let bytes_max = usize::try_from(credit).unwrap_or(usize::MAX).min(BATCH_BYTES_TARGET);
    let (mut entries, mut bytes, mut at) = (Vec::new(), 0usize, from);
    while entries.len() < BATCH_ENTRIES_MAX && bytes < bytes_max {
        let Some(run) = plan.next_run(at) else { break };
        let positions_max = (BATCH_ENTRIES_MAX - entries.len()) as u64;
        let mut to = run.end.0.min(run.start.0 + positions_max);
        while let Some(next) = plan.next_run(Seq(to)) {
            if next.start.0 - to > GAP_MAX || next.start.0 - run.start.0 >= positions_max {
                break;
            }
            if next.start.0 == to && to == run.start.0 + positions_max {
                break;
            }
            to = next.end.0.min(run.start.0 + positions_max);
        }
        let logged = replica.log(run.start..Seq(to), bytes_max - bytes)?;
        let Some(last) = logged.last() else { return Err(SessionError::Hole) };
        at = Seq(last.seq.0 + 1);
        for logged in logged.into_iter().filter(|logged| plan.contains(logged.seq)) {
            bytes += logged.bytes_len();
            entries.push(Arrived { block: logged.block, payloads: logged.payloads });
        }
    }
    Ok((entries, bytes as u64, at))
}

/// The entries that the other side asks about, answered.
pub(super) fn answer_window(replica: &dyn Replica, window: &Window) -> Result<Message, SessionError> {
    let found = match window {
        Window::Short(prefixes) => replica.find_prefixes(prefixes)?,
        Window::Full(ids) => replica.find(&ids.iter().map(|id| EntryId(*id)).collect::<Vec<_>>())?,
    };
    Ok(Message::Held(bits::pack(found.iter().map(Option::is_some))))
}
