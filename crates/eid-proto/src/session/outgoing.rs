//! The sending half of a session: finds what the other side lacks, and streams it within the other side's credit.

use bytes::Bytes;
use eid_core::dag::{Difference, Estimate, Estimated, InRun, Mark, Probe, Replica, Run, Seq, SeqSet};
use eid_core::sketch::ShortId;
use eid_core::{EntryId, TreeId};

use super::error::SessionError;
use super::hints::{Marks, Reading, choose, read_hints, shorts_at};
use super::tips::{Naming, Resolved, ids_at, name_tips, resolve};
use super::{Offer, Rung, lacking};
use crate::bits;
use crate::bounded::List;
use crate::compressed::{Packed, Packing};
use crate::limits::{
    BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX, CREDIT_BYTES_MIN, ESTIMATE_VISITS, FEW, GAP_MAX, LACKS_MAX,
    MEAN_OF, OVERSEND_BYTES, OVERSEND_BYTES_FEW, OVERSEND_PERCENT, PLAN_TIPS_MAX, WALK_STEP,
    WINDOW_IDS_FIRST, WINDOW_IDS_MAX,
};
use crate::message::{Batch, Hints, Lacking, Message, Open, Plan, Position, TipNames, Tips, Window};

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
    /// What payloads are lacked here, as was said at the end.
    pub(super) lacking: Lacking,
    tips: Tips,
    /// What is lacked here.
    lacks: List<ShortId, LACKS_MAX>,
    credit: u64,
    /// Asked to end the turn.
    stopped: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Walking(Difference),
    Estimating(Box<Estimating>),
    /// What was asked about, the tips, what is held besides, and the answer.
    Asking {
        asked: Vec<Seq>,
        tips: Vec<Seq>,
        have: Vec<Seq>,
        answer: Option<Vec<bool>>,
    },
    Probing {
        probe: Probe,
        ids: usize,
        asked: usize,
    },
    Planned(SeqSet),
    Streaming {
        plan: SeqSet,
        at: Seq,
    },
    Finished,
}

/// An estimate of what the other side lacks.
#[derive(Debug)]
struct Estimating {
    estimate: Box<Estimate>,
    marks: Option<Marks>,
    tips: Vec<Seq>,
    have: Vec<Seq>,
    /// How many entries of a plan are held, as far as samples of the log tell.
    oversent: Option<u64>,
    /// How many entries may be visited.
    budget: u64,
    /// How many entries the other side holds, where that is known.
    theirs: Option<u64>,
    /// How many of its tips are not here.
    unknown: u64,
    /// What to do when sending at once costs more than asking.
    otherwise: Otherwise,
    walked: bool,
}

/// What to do when what an estimate leaves open cannot be sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// Ask about what is uncertain.
    Ask,
    /// The same, whatever it costs to send at once.
    AskAlways,
    /// Find out by ids in full, so many in the first window.
    ByIds(usize),
}

/// What the sending half wants next.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask again: a walk has used its budget.
    Again,
    Say(Box<Message>),
    /// The turn is over.
    Wait,
    /// The credit is spent.
    Spent,
    /// Everything was said.
    Finished,
}

impl Outgoing {
    /// Answers an opening with the cheapest rung that is sure not to leave anything out, as far as its hints are
    /// true.
    /// `first`: the ladder begins at this rung.
    pub(super) fn answer(
        replica: &dyn Replica,
        open: &Open,
        first: Option<Rung>,
    ) -> Result<Self, SessionError> {
        let theirs = resolve(replica, &open.tips)?;
        let mut mine = name_tips(replica, PLAN_TIPS_MAX, Naming::Short)?;
        if mine.hash == open.tips.hash {
            mine.names = TipNames::Short(List::new(Vec::new()));
            return Self::begin(replica, Rung::InSync, mine, open.credit, Stage::Planned(SeqSet::default()));
        }
        let tips: Vec<Seq> = replica.tips()?.into_iter().map(|(_, seq)| seq).collect();
        if theirs.all && first <= Some(Rung::TipsKnown) {
            let walk = Difference::new(tips, theirs.held);
            return Self::begin(replica, Rung::TipsKnown, mine, open.credit, Stage::Walking(walk));
        }
        let unknown = if theirs.named { open.tips.count - theirs.held.len() as u64 } else { 0 };
        let common = replica.find_prefixes(&open.common)?;
        let remembered = !common.is_empty() && common.iter().all(Option::is_some);
        let mut have: Vec<Seq> = theirs.held.into_iter().chain(common.into_iter().flatten()).collect();
        let cursor = open
            .cursor
            .filter(|cursor| cursor.epoch == replica.epoch().0 && cursor.seq <= replica.end().0)
            .map(|cursor| Seq(cursor.seq));
        let floor = cursor.or(remembered.then_some(Seq(0)));
        if let Some(floor) = floor.filter(|_| first <= Some(Rung::Remembered)) {
            if let Hints::Samples(samples) = &open.hints {
                have.extend(replica.find_prefixes(samples)?.into_iter().flatten());
            }
            let walk = Difference::above(floor, tips, have);
            return Self::begin(replica, Rung::Remembered, mine, open.credit, Stage::Walking(walk));
        }
        if first <= Some(Rung::Asked)
            && let Some(reading) = read_hints(replica, open, &have, first)?
        {
            let mut lacks = Vec::new();
            let stage = match reading {
                Reading::Plan(plan, lacked) => {
                    lacks = lacked;
                    Stage::Planned(plan)
                }
                Reading::Walk(walk) => Stage::Walking(walk),
                Reading::Estimate { estimate, marks, tips, have, oversent } => {
                    Stage::Estimating(Box::new(Estimating {
                        budget: ESTIMATE_VISITS
                            + marks.as_ref().map_or(0, Marks::differing).saturating_mul(2),
                        estimate,
                        tips,
                        marks,
                        have,
                        oversent,
                        theirs: Some(open.end.seq),
                        unknown,
                        otherwise: if first == Some(Rung::Asked) {
                            Otherwise::AskAlways
                        } else {
                            Otherwise::Ask
                        },
                        walked: false,
                    }))
                }
            };
            let mut outgoing = Self::begin(replica, Rung::Sketch, mine, open.credit, stage)?;
            if lacks.len() <= LACKS_MAX {
                outgoing.lacks = List::new(lacks);
            }
            return Ok(outgoing);
        }
        Self::by_ids(replica, (Naming::Short, WINDOW_IDS_FIRST), have, open.credit)
    }

    /// Finds out by ids, of which the first window has so many. In full, they are exact whatever was said before,
    /// provided that the other side surely holds `have`.
    pub(super) fn by_ids(
        replica: &dyn Replica,
        (naming, ids): (Naming, usize),
        have: impl IntoIterator<Item = Seq>,
        credit: u64,
    ) -> Result<Self, SessionError> {
        let tips = replica.tips()?.into_iter().map(|(_, seq)| seq);
        let stage = Stage::Probing { probe: Probe::new(tips, have), ids, asked: 0 };
        let named = name_tips(replica, PLAN_TIPS_MAX, naming)?;
        Self::begin(replica, Rung::ByIds, named, credit, stage)
    }

    /// Begins again with nothing but ids in full: `held` is what the other side says that it holds.
    pub(super) fn again(
        replica: &dyn Replica,
        held: &[EntryId],
        ids: usize,
        credit: u64,
    ) -> Result<Self, SessionError> {
        let tips: Vec<Seq> = replica.tips()?.into_iter().map(|(_, seq)| seq).collect();
        let have: Vec<Seq> = replica.find(held)?.into_iter().flatten().collect();
        let stage = Stage::Estimating(Box::new(Estimating {
            estimate: Box::new(Estimate::new(tips.iter().copied(), have.iter().copied())),
            marks: None,
            tips,
            have,
            oversent: None,
            budget: ESTIMATE_VISITS,
            theirs: None,
            unknown: 0,
            otherwise: Otherwise::ByIds(ids),
            walked: false,
        }));
        let named = name_tips(replica, PLAN_TIPS_MAX, Naming::Full)?;
        Self::begin(replica, Rung::ByIds, named, credit, stage)
    }

    /// Everything that the other side, whose tips are known, lacks. `plan` is what it has said of itself.
    pub(super) fn push(
        replica: &dyn Replica,
        theirs: Resolved,
        plan: Option<&Plan>,
        credit: u64,
    ) -> Result<Self, SessionError> {
        if !theirs.all {
            return Self::by_ids(replica, (Naming::Full, WINDOW_IDS_FIRST), theirs.held, credit);
        }
        let stage = match plan.map(|plan| lacked(replica, plan)).transpose()?.flatten() {
            Some(lacked) => Stage::Planned(lacked),
            None => {
                let tips = replica.tips()?.into_iter().map(|(_, seq)| seq);
                Stage::Walking(Difference::new(tips, theirs.held))
            }
        };
        // The hash says it: with all that is pushed the other side has the same tips, unless it wrote meanwhile.
        let named = name_tips(replica, 0, Naming::Short)?;
        Self::begin(replica, Rung::TipsKnown, named, credit, stage)
    }

    /// Sends nothing: the other side does not take anything, or may not have it.
    pub(super) fn nothing(replica: &dyn Replica) -> Result<Self, SessionError> {
        Ok(Self::new(Rung::InSync, Seq(0), name_tips(replica, 0, Naming::Short)?, Stage::Finished))
    }

    fn begin(
        replica: &dyn Replica,
        rung: Rung,
        tips: Tips,
        credit: u64,
        stage: Stage,
    ) -> Result<Self, SessionError> {
        let mut outgoing = Self::new(rung, replica.end(), tips, stage);
        outgoing.grant(credit)?;
        Ok(outgoing)
    }

    /// Without credit.
    fn new(rung: Rung, end: Seq, tips: Tips, stage: Stage) -> Self {
        Self {
            rung,
            end,
            total: 0,
            sent: 0,
            visited: 0,
            lacking: Lacking::default(),
            tips,
            lacks: List::new(Vec::new()),
            credit: 0,
            stopped: false,
            stage,
        }
    }

    /// Takes the receiver's credit for the next turn.
    pub(super) fn grant(&mut self, credit: u64) -> Result<(), SessionError> {
        self.credit = enough(credit)?;
        self.stopped = false;
        Ok(())
    }

    /// Takes more credit for the turn that this side is in.
    pub(super) fn grant_more(&mut self, credit: u64) -> Result<(), SessionError> {
        self.credit = self.credit.saturating_add(enough(credit)?);
        Ok(())
    }

    /// Ends the turn before the credit is spent.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Takes the answer to the last window.
    pub(super) fn handle_held(&mut self, held: &Bytes) -> Result<(), SessionError> {
        let unpack =
            |count| bits::unpack(held, count).ok_or(SessionError::Misplaced("an answer of the wrong length"));
        match &mut self.stage {
            Stage::Probing { probe, ids, asked } => {
                probe.answer(&unpack(*asked)?);
                *asked = 0;
                *ids = (*ids * 2).min(WINDOW_IDS_MAX);
            }
            Stage::Asking { asked, answer: answer @ None, .. } => *answer = Some(unpack(asked.len())?),
            _ => return Err(SessionError::Misplaced("an answer to no window")),
        }
        Ok(())
    }

    /// Whether an acknowledgement up to here can be true.
    pub(super) fn may_acknowledge(&self, upto: u64) -> bool {
        match &self.stage {
            Stage::Streaming { plan, at } => upto <= plan.next_run(*at).map_or(self.end.0, |run| run.start.0),
            Stage::Finished => upto <= self.end.0,
            Stage::Walking(_)
            | Stage::Estimating(_)
            | Stage::Asking { .. }
            | Stage::Probing { .. }
            | Stage::Planned(_) => false,
        }
    }

    /// Whether the plan is known and being streamed, or done.
    pub(super) fn is_planned(&self) -> bool {
        matches!(self.stage, Stage::Streaming { .. } | Stage::Finished)
    }

    /// Whether everything that was planned has been sent.
    pub(super) fn is_said(&self) -> bool {
        self.is_planned() && self.sent == self.total
    }

    /// What to say next. `offer` is what this side takes in return.
    pub(super) fn poll(
        &mut self,
        replica: &dyn Replica,
        tree: &TreeId,
        offer: Offer,
        packing: &mut Packing,
    ) -> Result<Step, SessionError> {
        match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Walking(mut walk) => {
                let complete = walk.step(replica, WALK_STEP)?;
                self.visited = walk.visited();
                self.stage = if complete { Stage::Planned(walk.finish()) } else { Stage::Walking(walk) };
                Ok(Step::Again)
            }
            Stage::Estimating(estimating) => self.estimate(replica, tree, estimating),
            Stage::Asking { asked, tips, have, answer: None } => {
                self.stage = Stage::Asking { asked, tips, have, answer: None };
                Ok(Step::Wait)
            }
            Stage::Asking { asked, tips, mut have, answer: Some(answer) } => {
                have.extend(asked.into_iter().zip(answer).filter_map(|(seq, held)| held.then_some(seq)));
                self.stage = Stage::Walking(Difference::new(tips, have));
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
                Ok(Step::Say(Box::new(Message::Window(window))))
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
                    lacks: self.lacks.clone(),
                };
                self.stage = Stage::Streaming { plan, at: Seq(0) };
                Ok(Step::Say(Box::new(Message::Plan(said))))
            }
            Stage::Streaming { plan, at } => match plan.next_run(at) {
                None => {
                    self.lacking = lacking(replica);
                    Ok(Step::Say(Box::new(Message::Done(self.lacking))))
                }
                Some(_) if self.stopped || self.credit == 0 => {
                    self.stage = Stage::Streaming { plan, at };
                    Ok(if self.stopped { Step::Wait } else { Step::Spent })
                }
                Some(_) => {
                    let (runs, next) = read_batch(replica, &plan, at, self.credit)?;
                    let upto = plan.next_run(next).map_or(self.end.0, |run| run.start.0);
                    let planned = |entry: &InRun<'_>| plan.contains(entry.seq());
                    let entries = || runs.iter().flat_map(Run::iter).filter(planned);
                    let bytes = entries().map(|entry| entry.bytes_len() as u64).sum();
                    let batch = Batch::pack_stored(tree, entries(), upto);
                    self.credit = self.credit.saturating_sub(bytes);
                    self.sent += entries().count() as u64;
                    self.stage = Stage::Streaming { plan, at: next };
                    Ok(Step::Say(Box::new(match packing.pack(batch) {
                        Packed::Plain(batch) => Message::Batch(batch),
                        Packed::Compressed(batch) => Message::Compressed(batch),
                    })))
                }
            },
            Stage::Finished => Ok(Step::Finished),
        }
    }
}

impl Outgoing {
    /// Goes on with an estimate, and at its end decides whether to send at once or to ask first.
    fn estimate(
        &mut self,
        replica: &dyn Replica,
        tree: &TreeId,
        mut estimating: Box<Estimating>,
    ) -> Result<Step, SessionError> {
        let Estimating { estimate, marks, budget, walked, .. } = &mut *estimating;
        if !*walked {
            let mark = |short| marks.as_ref().map_or(Mark::Unknown, |marks| marks.mark(short));
            let complete = estimate.step(replica, &mark, WALK_STEP)?;
            self.visited = estimate.visited();
            *walked = complete || self.visited >= *budget;
            self.stage = Stage::Estimating(estimating);
            return Ok(Step::Again);
        }
        if !estimate.settle(replica, usize::try_from(WALK_STEP).unwrap_or(usize::MAX))? {
            self.stage = Stage::Estimating(estimating);
            return Ok(Step::Again);
        }
        let Estimating { estimate, tips, mut have, oversent, theirs, unknown, otherwise, .. } = *estimating;
        let Estimated { found, uncertain, held, left } = estimate.finish();
        // On a line half of what is uncertain is held: the first sample that is lacked comes as late after the last common
        // entry as the last one that is held comes before it.
        let half = uncertain.len() as u64 / 2;
        // And no more than that, since the other side has tips that are not here: the numbers of entries tell how many it
        // lacks at least.
        let lacked = theirs.map_or(0, |theirs| (self.end.0 + unknown).saturating_sub(theirs));
        let oversent = oversent.unwrap_or(half).min(half).min(found.len().saturating_sub(lacked));
        let nothing_to_ask = uncertain.is_empty() && left.is_empty();
        let at_once = otherwise != Otherwise::AskAlways && left.is_empty();
        if nothing_to_ask || at_once && self.is_cheap((replica, tree), found.len(), oversent, theirs)? {
            self.stage = Stage::Planned(found);
            return Ok(Step::Again);
        }
        if let Otherwise::ByIds(ids) = otherwise {
            self.stage = Stage::Probing { probe: Probe::new(tips, have), ids, asked: 0 };
            return Ok(Step::Again);
        }
        self.rung = Rung::Asked;
        have.extend(held);
        let asked = choose(&left, &uncertain);
        let names = shorts_at(replica, &asked)?;
        if names.len() != asked.len() {
            return Err(SessionError::Hole);
        }
        self.stage = Stage::Asking { asked, tips, have, answer: None };
        Ok(Step::Say(Box::new(Message::Window(Window::Short(List::new(names))))))
    }

    /// Whether sending what the other side has already costs less than asking. It holds `theirs` entries.
    fn is_cheap(
        &self,
        (replica, tree): (&dyn Replica, &TreeId),
        found: u64,
        oversent: u64,
        theirs: Option<u64>,
    ) -> Result<bool, SessionError> {
        let newest = replica.run(Seq(self.end.0.saturating_sub(MEAN_OF))..self.end, BATCH_BYTES_TARGET)?;
        let count = newest.iter().len().max(1);
        let mean = (Batch::pack_stored(tree, newest.iter(), 0).entries.len() / count) as u64;
        let lacked = found.saturating_sub(oversent);
        let differing =
            lacked + theirs.map_or(0, |theirs| theirs.saturating_add(lacked).saturating_sub(self.end.0));
        let least = if differing < FEW { OVERSEND_BYTES_FEW } else { OVERSEND_BYTES };
        let bound = least.max(differing.saturating_mul(mean) / 100 * OVERSEND_PERCENT);
        Ok(oversent.saturating_mul(mean) <= bound)
    }
}

/// A credit with which something can be sent.
fn enough(credit: u64) -> Result<u64, SessionError> {
    match credit {
        CREDIT_BYTES_MIN.. => Ok(credit),
        _ => Err(SessionError::Misplaced("a credit too small to go on")),
    }
}

/// What the other side says that it lacks, when that is everything: all its tips are held here, so its log and what it lacks
/// are as many entries as there are here.
fn lacked(replica: &dyn Replica, plan: &Plan) -> Result<Option<SeqSet>, SessionError> {
    let found: Option<Vec<Seq>> = replica.find_prefixes(&plan.lacks)?.into_iter().collect();
    let lacked = found.map(SeqSet::of).filter(|lacked| {
        !lacked.is_empty() && plan.end.seq.checked_add(lacked.len()) == Some(replica.end().0)
    });
    Ok(lacked)
}

/// Reads the next entries of a plan, and some that lie between them: at least one, else as many as fit. Gives where to go
/// on.
fn read_batch(
    replica: &dyn Replica,
    plan: &SeqSet,
    from: Seq,
    credit: u64,
) -> Result<(Vec<Run>, Seq), SessionError> {
    let bytes_max = usize::try_from(credit).unwrap_or(usize::MAX).min(BATCH_BYTES_TARGET);
    let (mut runs, mut entries, mut bytes, mut at) = (Vec::new(), 0usize, 0usize, from);
    while entries < BATCH_ENTRIES_MAX && bytes < bytes_max {
        let Some(run) = plan.next_run(at) else { break };
        let positions_max = (BATCH_ENTRIES_MAX - entries) as u64;
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
        let run = replica.run(run.start..Seq(to), bytes_max - bytes)?;
        let Some(last) = run.iter().last() else { return Err(SessionError::Hole) };
        at = Seq(last.seq().0 + 1);
        for entry in run.iter().filter(|entry| plan.contains(entry.seq())) {
            bytes += entry.bytes_len();
            entries += 1;
        }
        runs.push(run);
    }
    Ok((runs, at))
}

/// The entries that the other side asks about, answered.
pub(super) fn answer_window(replica: &dyn Replica, window: &Window) -> Result<Message, SessionError> {
    let found = match window {
        Window::Short(prefixes) => replica.find_prefixes(prefixes)?,
        Window::Full(ids) => replica.find(&ids.iter().map(|id| EntryId(*id)).collect::<Vec<_>>())?,
    };
    Ok(Message::Held(bits::pack(found.iter().map(Option::is_some))))
}
