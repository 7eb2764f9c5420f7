//! The session: one run of the protocol on one database over one link.
//!
//! The initiator opens and pulls; when it holds everything that the responder holds it knows exactly what the
//! responder lacks, and pushes that. Turns alternate, and only one side sends data in a turn.

mod error;
mod filling;
mod hints;
mod incoming;
mod outgoing;
mod tips;

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use eid_core::dag::{Epoch, Replica, Seq};
use eid_core::sabotage::{self, Sabotage};
use eid_core::{EntryId, Refusal, TreeId};

pub use eid_core::pack::Arrived;
pub use error::SessionError;
pub use tips::state_of;

use self::filling::{Filling, Giving};
use self::hints::{name_held, name_hints};
use self::incoming::Incoming;
use self::outgoing::{Outgoing, Step, answer_window};
use self::tips::{Naming, Resolved, name_common, name_tips, resolve, untold_tips};
use crate::bounded::List;
use crate::compressed::Packing;
use crate::limits::{
    COMMON_BESIDE_CURSOR_MAX, CREDIT_BYTES, EQUAL_TIPS_MAX, EXACT_MAX, FRAMES_MAX, OPEN_TIPS_MAX, TURNS_MAX,
    WINDOW_IDS_FIRST, WINDOW_IDS_MAX,
};
use crate::message::{Hints, Lacking, Message, Open, Position, RefusalCode, TipNames, WireRung};

/// How it was found what a receiver lacks, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The tips are equal.
    InSync,
    /// The sender knows all tips of the receiver.
    TipsKnown,
    /// The sender goes on from where the last session ended.
    Remembered,
    /// What the receiver says of all that it holds tells what it lacks, exactly or nearly.
    Sketch,
    /// The receiver was asked about what that left open.
    Asked,
    /// The receiver was asked, id by id.
    ByIds,
}

/// What the other side may do, by the settings of this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// It may have entries.
    pub read: bool,
    /// Its pushes are taken, whoever wrote what it brings.
    pub push: bool,
}

impl Rights {
    /// Whether there is any.
    #[must_use]
    pub fn any(self) -> bool {
        self.read || self.push
    }
}

/// A place in the log of one life of a store: everything below it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which life.
    pub epoch: Epoch,
    /// One past the last entry.
    pub seq: Seq,
}

/// What two sides know of each other from one session to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// This side durably holds the other's log up to here.
    pub theirs: Option<Cursor>,
    /// The other side durably holds this side's log up to here: an acknowledgement.
    pub mine: Option<Cursor>,
}

/// What became of an entry that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable at this position.
    Admitted(Seq),
    /// It was there already.
    Duplicate(Seq),
    /// It was not admitted.
    Refused(Refusal),
}

/// What a session wants done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this frame.
    Send(Bytes),
    /// Send this frame aside, in the other side's turn.
    Aside(Bytes),
    /// Let the other side speak.
    EndTurn,
    /// Admit these entries, and report with [`Session::handle_admitted`] once they are durable. Batches are
    /// reported in the order in which they were handed out.
    Admit(Vec<Arrived>),
    /// A long walk has used its budget: let others run, then poll again.
    Again,
    /// Wait for a frame or the end of the other side's turn; in this side's turn, for a frame aside.
    NeedFrame,
    /// Wait for the report of a batch.
    NeedAdmitted,
    /// Both directions are done.
    Finished,
}

/// What a session has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Entries that were admitted here.
    pub pulled: u64,
    /// Entries that came and were here already.
    pub duplicates: u64,
    /// Entries that came and were refused.
    pub refused: u64,
    /// Entries that will have come when the other side's plan is done; known once it has said so.
    pub pull_total: Option<u64>,
    /// Entries that were sent.
    pub pushed: u64,
    /// Entries that will have been sent when the plan is done; known once it is made.
    pub push_total: Option<u64>,
    /// The rung of the initiator's pull.
    pub rung: Option<Rung>,
    /// Turns of both sides.
    pub turns: u32,
    /// Entries that this side visited to find what it sends.
    pub visited: u64,
    /// Payloads that came of entries that were here without them.
    pub filled: u64,
    /// Payloads that were given of entries that the other side held without them.
    pub given: u64,
    /// Payloads that are not here and are wanted, as of now.
    pub missing: u64,
    /// What was lacking here when the other side had been asked for all of it. Nothing when it was not, or others brought
    /// something meanwhile.
    pub asked: Option<Lacking>,
    /// What the other side lacks, when it said so last.
    pub theirs: Option<Lacking>,
    /// Everything that either side had is with the other, payloads of entries included.
    pub complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Receiving,
    Sending,
    /// For payloads.
    Asking,
    Finished,
}

/// One side of a session, as a value: no clock, no socket, no storage. Reads go through the [`Replica`] that each
/// call of [`Session::poll`] brings; it may be a later snapshot each time.
pub struct Session {
    role: Role,
    tree: Option<TreeId>,
    stage: Stage,
    my_turn: bool,
    /// Something may be said aside.
    duplex: bool,
    packing: Packing,
    /// Frames that the other side has sent in its turn, since more of them was last asked for.
    heard: u32,
    /// Frames that the other side has said aside since it last ended a turn.
    asides: u32,
    /// The other side was asked to end its turn.
    stopped: bool,
    outbox: VecDeque<Output>,
    known: Known,
    /// The ladder begins at this rung.
    first: Option<Rung>,
    /// States of databases that the other side has told.
    told: Vec<[u8; 8]>,
    open: Option<Open>,
    incoming: Incoming,
    outgoing: Option<Outgoing>,
    filling: Filling,
    giving: Giving,
    missing: u64,
    asked: Option<Lacking>,
    theirs: Option<Lacking>,
    /// What the other side lacked itself when it was asked for all that is missing here.
    asked_before: Option<Lacking>,
    /// Entries that were sent before the other side asked to begin again.
    sent_before: u64,
    /// Asked by the other side to begin again by ids, with this credit, and what it holds.
    restart: Option<(u64, Vec<EntryId>)>,
    restarts_given: u32,
    restarts_asked: u32,
    /// The initiator says that it has nothing to push.
    no_push: bool,
    /// The responder gives nothing, and takes.
    push_only: bool,
    /// The initiator has said everything.
    said_all: bool,
    /// What the responder offered to take: credit, and whether at all.
    offered: Offer,
    own_epoch: Option<Epoch>,
    pull_complete: bool,
    push_complete: bool,
    rung: Option<Rung>,
    turns: u32,
    denied: Option<RefusalCode>,
    /// To be refused as soon as it is this side's turn.
    refusing: Option<RefusalCode>,
}

/// What a side takes in return.
#[derive(Debug, Clone, Copy, Default)]
struct Offer {
    credit: u64,
    accepts: bool,
}

impl Session {
    /// Begins a session on a database, with what is known from the last one with the same peer.
    #[must_use]
    pub fn initiator(tree: TreeId, known: Known) -> Self {
        let mut session = Self::new(Role::Initiator);
        session.tree = Some(tree);
        session.known = known;
        session.my_turn = true;
        session
    }

    /// Waits for an opening.
    #[must_use]
    pub fn responder() -> Self {
        Self::new(Role::Responder)
    }

    /// Begins the ladder at a rung, for tests and measurements: an initiator says what that rung needs, a responder
    /// leaves out the rungs before it. Where it does not apply, the next one does.
    #[must_use]
    pub fn beginning_at(mut self, first: Option<Rung>) -> Self {
        self.first = first;
        self
    }

    /// With the states that a server has told in the handshake: an initiator whose own is among them expects that nothing
    /// differs, and says no more than that takes.
    #[must_use]
    pub fn told(mut self, states: &[[u8; 8]]) -> Self {
        self.told = states.to_vec();
        self
    }

    /// Over a link where something can be said aside: acknowledgements and credit go against the stream, and a turn goes on
    /// for as long as its sender has something to send.
    #[must_use]
    pub fn duplex(mut self, duplex: bool) -> Self {
        self.duplex = duplex;
        self
    }

    /// Over a connection of which both sides have [`FEATURE_ZSTD`](crate::FEATURE_ZSTD): batches are compressed where it
    /// pays. Otherwise one that is compressed breaks the protocol.
    #[must_use]
    pub fn compressing(mut self, compressing: bool) -> Self {
        self.packing = Packing::new(compressing);
        self
    }

    fn new(role: Role) -> Self {
        Self {
            role,
            tree: None,
            stage: Stage::Opening,
            my_turn: false,
            duplex: false,
            packing: Packing::default(),
            heard: 0,
            asides: 0,
            stopped: false,
            outbox: VecDeque::new(),
            known: Known::default(),
            first: None,
            told: Vec::new(),
            open: None,
            incoming: Incoming::default(),
            outgoing: None,
            filling: Filling::default(),
            giving: Giving::default(),
            missing: 0,
            asked: None,
            theirs: None,
            asked_before: None,
            sent_before: 0,
            restart: None,
            restarts_given: 0,
            restarts_asked: 0,
            no_push: false,
            push_only: false,
            said_all: false,
            offered: Offer::default(),
            own_epoch: None,
            pull_complete: false,
            push_complete: false,
            rung: None,
            turns: 0,
            denied: None,
            refusing: None,
        }
    }

    /// The database: known to a responder once the opening has come.
    #[must_use]
    pub fn tree(&self) -> Option<TreeId> {
        self.tree
    }

    fn opened(&self) -> Result<TreeId, SessionError> {
        self.tree.ok_or(SessionError::Misplaced("something of no database"))
    }

    /// Whether the other side has opened and knows of no position in this log: it holds nothing by any
    /// acknowledgement of before, which it may have made and then forgotten the database or gone back to a backup.
    #[must_use]
    pub fn starts_over(&self) -> bool {
        let epoch = self.own_epoch.map(|epoch| epoch.0);
        let cursor = self.open.as_ref().map(|open| open.cursor);
        self.role == Role::Responder && cursor.is_some_and(|at| at.is_none_or(|at| Some(at.epoch) != epoch))
    }

    /// What the two sides know of each other by now. Worth keeping after every change.
    #[must_use]
    pub fn known(&self) -> Known {
        self.known
    }

    /// What was done so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            pulled: self.incoming.admitted,
            duplicates: self.incoming.duplicates,
            refused: self.incoming.refused + self.filling.refused,
            pull_total: self.incoming.total(),
            pushed: self.sent_before + self.outgoing.as_ref().map_or(0, |outgoing| outgoing.sent),
            push_total: self
                .outgoing
                .as_ref()
                .filter(|o| o.is_planned())
                .map(|outgoing| self.sent_before + outgoing.total),
            rung: self.rung,
            turns: self.turns,
            visited: self.outgoing.as_ref().map_or(0, |outgoing| outgoing.visited),
            filled: self.filling.filled,
            given: self.giving.given,
            missing: self.missing,
            asked: self.asked,
            theirs: self.theirs,
            complete: self.pull_complete && self.push_complete && self.is_over(),
        }
    }

    /// Whether the end was reached and no payload was withheld that came as something else.
    fn is_over(&self) -> bool {
        self.stage == Stage::Finished && self.denied.is_none() && self.filling.refused == 0
    }

    /// With what the other side has said that it lacked itself when it was asked for all payloads that are missing here,
    /// in vain: as long as it says the same it is not asked for them again.
    pub fn has_asked(&mut self, theirs: Option<Lacking>) {
        self.asked_before = theirs;
    }

    /// Ends the session with a refusal at this side's next turn, whatever is said until then.
    pub fn turn_away(&mut self, code: RefusalCode) {
        self.refusing = self.refusing.or(Some(code));
    }

    /// Takes a frame of the other side's turn.
    pub fn handle_frame(&mut self, frame: &[u8]) -> Result<(), SessionError> {
        let message = Message::decode(frame)?;
        if self.my_turn || self.stage == Stage::Finished {
            return Err(SessionError::Misplaced("a frame out of turn"));
        }
        self.heard += 1;
        if self.heard > FRAMES_MAX {
            return Err(SessionError::Misplaced("a turn without end"));
        }
        if let Message::Refused(code) = message {
            self.stage = Stage::Finished;
            self.denied = Some(code);
            return Err(SessionError::Refused(code));
        }
        if self.refusing.is_some() {
            return Ok(());
        }
        match (self.role, self.stage) {
            (Role::Responder, Stage::Opening) => self.handle_open(message),
            (_, Stage::Receiving) => self.handle_receiving(message),
            (_, Stage::Sending) => self.handle_sending(message),
            (_, Stage::Asking) => match message {
                Message::Payloads(payloads) => self.filling.handle_payloads(payloads),
                _ => Err(SessionError::Misplaced("something else than payloads")),
            },
            (Role::Initiator, Stage::Opening) | (_, Stage::Finished) => {
                Err(SessionError::Misplaced("a frame before the opening"))
            }
        }
    }

    /// Takes what the other side has said in this side's turn, though it may come later.
    pub fn handle_aside(&mut self, frame: &[u8]) -> Result<(), SessionError> {
        let message = Message::decode(frame)?;
        self.asides += 1;
        if self.asides > FRAMES_MAX || !self.duplex {
            return Err(SessionError::Misplaced("too much said aside"));
        }
        // What has become of the turn meanwhile is over.
        let outgoing = self.outgoing.as_mut().filter(|_| self.stage == Stage::Sending);
        match (message, outgoing) {
            (Message::More { upto, credit }, Some(outgoing)) => {
                outgoing.grant_more(credit)?;
                self.acknowledged(upto)
            }
            (Message::Stop, Some(outgoing)) => {
                outgoing.stop();
                Ok(())
            }
            (Message::More { .. } | Message::Stop, None) => Ok(()),
            _ => Err(SessionError::Misplaced("something else said aside")),
        }
    }

    /// Whether something is to be said in the other side's turn.
    #[must_use]
    pub fn has_aside(&self) -> bool {
        let taking = self.duplex && !self.my_turn && !self.stopped && self.stage == Stage::Receiving;
        taking && (self.refusing.is_some() || self.incoming.has_more())
    }

    /// What to say in the other side's turn.
    fn aside(&mut self) -> Option<Message> {
        if !self.has_aside() {
            return None;
        }
        self.stopped = self.refusing.is_some() || self.incoming.missing;
        if self.stopped {
            return Some(Message::Stop);
        }
        let credit = self.incoming.grant_more()?;
        self.heard = self.heard.min(1);
        Some(Message::More { upto: self.incoming.durable(), credit })
    }

    /// Takes the end of the other side's turn.
    pub fn handle_end_of_turn(&mut self) -> Result<(), SessionError> {
        if self.my_turn || self.heard == 0 {
            return Err(SessionError::Misplaced("an empty turn"));
        }
        if self.turns >= TURNS_MAX {
            return Err(SessionError::TooLong);
        }
        self.heard = 0;
        self.asides = 0;
        self.stopped = false;
        self.my_turn = true;
        self.turns += 1;
        Ok(())
    }

    /// Takes the verdicts of the oldest batch that was handed out with [`Output::Admit`], one per entry. What they
    /// call admitted must be durable: it is acknowledged next.
    pub fn handle_admitted(&mut self, outcomes: &[Outcome]) {
        match self.stage {
            Stage::Asking => self.filling.handle_admitted(outcomes),
            _ => self.incoming.handle_admitted(outcomes),
        }
    }

    /// What to do next. `rights` are the other side's, looked up for this call.
    pub fn poll(&mut self, replica: &dyn Replica, rights: Rights) -> Result<Output, SessionError> {
        self.own_epoch = Some(replica.epoch());
        self.missing = replica.missing();
        if let Some(output) = self.outbox.pop_front() {
            if output == Output::EndTurn {
                self.my_turn = false;
                self.turns += 1;
            }
            return Ok(output);
        }
        if let Some(code) = self.denied {
            return Err(SessionError::Denied(code));
        }
        let opened = self.open.is_some() || self.refusing.is_some();
        if self.role == Role::Responder && opened && self.stage != Stage::Finished {
            // Rights are those of this moment: whoever loses them in mid-session is told what a stranger is told.
            let code = if !may_read(rights) && !rights.push {
                Some(RefusalCode::Unavailable)
            } else if self.incoming.is_waiting() && !rights.push {
                Some(RefusalCode::ReadOnly)
            } else {
                None
            };
            self.refusing = self.refusing.or(code);
            if let Some(code) = self.refusing {
                // What the peer still says in its turn is dropped; the refusal waits for this side's turn.
                self.incoming = Incoming::default();
                return if self.my_turn { self.refuse(code) } else { Ok(self.listen()) };
            }
        }
        if let Some(entries) = self.incoming.next_batch() {
            return Ok(Output::Admit(entries));
        }
        if let Some(entries) = self.filling.next_batch(replica)? {
            return Ok(Output::Admit(entries));
        }
        // The initiator hears the responder out: a link that is dropped in the middle of a turn looks like a cut.
        if self.stage == Stage::Finished && (self.my_turn || self.role == Role::Responder) {
            return Ok(Output::Finished);
        }
        if !self.my_turn {
            return Ok(self.listen());
        }
        if self.incoming.is_waiting() || self.filling.is_waiting() {
            return Ok(Output::NeedAdmitted);
        }
        match self.stage {
            Stage::Opening if self.role == Role::Initiator => self.open(replica, rights),
            Stage::Opening => self.answer(replica, rights),
            Stage::Receiving => self.take_turn_receiving(replica, rights),
            Stage::Sending if self.giving.is_asked() => self.give(replica, rights),
            Stage::Sending => self.take_turn_sending(replica, rights),
            Stage::Asking => {
                // What is to be done when everything was asked for is found out again.
                self.stage = Stage::Receiving;
                self.take_turn_receiving(replica, rights)
            }
            Stage::Finished => Ok(Output::Finished),
        }
    }

    /// What to do in the other side's turn.
    fn listen(&mut self) -> Output {
        self.aside().map_or(Output::NeedFrame, |message| Output::Aside(message.encode()))
    }

    /// The initiator's first turn.
    fn open(&mut self, replica: &dyn Replica, rights: Rights) -> Result<Output, SessionError> {
        let tree = self.tree.ok_or(SessionError::Misplaced("an opening without a database"))?;
        self.known.mine = self.known.mine.filter(|cursor| cursor.epoch == replica.epoch());
        self.filling.begin(replica);
        // Nothing is said of what is held to a side that may not have it. Who holds nothing has nothing to hide, and
        // cannot know yet who may.
        if !may_read(rights) && replica.end() > Seq(0) {
            let credit = self.incoming.grant(CREDIT_BYTES);
            self.stage = Stage::Receiving;
            return self.say(&[Message::Open(Open {
                tree: tree.0,
                tips: untold_tips(),
                common: List::new(Vec::new()),
                cursor: None,
                hints: Hints::None,
                end: Position { epoch: 0, seq: 0 },
                lacking: Lacking::default(),
                credit,
            })]);
        }
        let remembers = self.first <= Some(Rung::Remembered);
        let cursor = self.known.theirs.filter(|_| remembers);
        let mut tips = name_tips(replica, OPEN_TIPS_MAX, Naming::Short)?;
        let is_told = self.first.is_none() && self.told.contains(&state_of(&tree, &tips.hash));
        if is_told && tips.count > EQUAL_TIPS_MAX as u64 {
            // Only all of them would help, should the other side have more by now.
            tips.names = TipNames::Short(List::new(Vec::new()));
        }
        let mut common = match self.known.mine.filter(|_| remembers && !is_told) {
            Some(cursor) if cursor.seq < replica.end() => name_common(replica, cursor.seq)?,
            _ => Vec::new(),
        };
        if cursor.is_some() && common.len() > COMMON_BESIDE_CURSOR_MAX {
            // The newest come last.
            common.drain(..common.len() - COMMON_BESIDE_CURSOR_MAX);
        }
        let hints =
            if is_told { Hints::None } else { name_hints(replica, &self.known, tips.count, self.first)? };
        let open = Open {
            tree: tree.0,
            hints,
            tips,
            common: List::new(common),
            cursor: cursor.map(Position::from),
            end: Position { epoch: replica.epoch().0, seq: replica.end().0 },
            lacking: lacking(replica),
            credit: self.incoming.grant(CREDIT_BYTES),
        };
        self.open = Some(open.clone());
        self.stage = Stage::Receiving;
        self.say(&[Message::Open(open)])
    }

    fn handle_open(&mut self, message: Message) -> Result<(), SessionError> {
        let Message::Open(open) = message else {
            return Err(SessionError::Misplaced("something else than an opening"));
        };
        if self.open.is_some() {
            return Err(SessionError::Misplaced("a second opening"));
        }
        self.tree = Some(TreeId(open.tree));
        self.open = Some(open);
        Ok(())
    }

    /// The responder's first turn.
    fn answer(&mut self, replica: &dyn Replica, rights: Rights) -> Result<Output, SessionError> {
        let open = self.open.as_ref().ok_or(SessionError::Misplaced("a turn without an opening"))?;
        if !may_read(rights) {
            // It may bring what it has, and is shown nothing of what is here.
            self.outgoing = Some(Outgoing::nothing(replica)?);
            self.stage = Stage::Sending;
            return self.say(&[Message::PushOnly { credit: CREDIT_BYTES }]);
        }
        self.filling.begin(replica);
        self.theirs = Some(open.lacking);
        let outgoing = Outgoing::answer(replica, open, self.first)?;
        if outgoing.rung == Rung::InSync {
            self.known.theirs = Some(open.end.into());
            self.known.mine = Some(Cursor { epoch: replica.epoch(), seq: replica.end() });
            self.pull_complete = true;
            self.push_complete = true;
        }
        self.rung = Some(outgoing.rung);
        self.outgoing = Some(outgoing);
        self.stage = Stage::Sending;
        self.take_turn_sending(replica, rights)
    }

    fn handle_receiving(&mut self, message: Message) -> Result<(), SessionError> {
        match message {
            _ if self.push_only => Err(SessionError::Misplaced("more than that nothing is given")),
            Message::PushOnly { credit } if self.role == Role::Initiator && self.incoming.is_fresh() => {
                self.offered = Offer { credit, accepts: true };
                self.push_only = true;
                Ok(())
            }
            Message::Plan(plan) => {
                if self.role == Role::Initiator {
                    self.rung = Some(plan.rung.into());
                    self.offered = Offer { credit: plan.credit, accepts: plan.accepts };
                }
                self.incoming.handle_plan(plan)
            }
            Message::Batch(batch) => self.incoming.handle_batch(&self.opened()?, &batch),
            Message::Compressed(batch) if self.packing.takes_compressed() => {
                self.incoming.handle_compressed(&self.opened()?, &batch)
            }
            Message::Done(lacking) => {
                self.theirs = Some(lacking);
                self.incoming.handle_done()
            }
            Message::Window(window) => self.incoming.handle_window(window),
            Message::NoPush if self.role == Role::Responder && self.incoming.plan.is_none() => {
                self.no_push = true;
                Ok(())
            }
            _ => Err(SessionError::Misplaced("a message that a receiver does not take")),
        }
    }

    fn handle_sending(&mut self, message: Message) -> Result<(), SessionError> {
        let outgoing = self.outgoing.as_mut().ok_or(SessionError::Misplaced("an answer to nothing"))?;
        match message {
            Message::Ack { upto, credit } => {
                outgoing.grant(credit)?;
                self.acknowledged(upto)
            }
            Message::Held(bits) => outgoing.handle_held(&bits),
            Message::Want { credit, payloads } if outgoing.is_said() => {
                self.giving.handle_want(credit, &payloads)
            }
            Message::Exact { credit, held } => {
                if self.restarts_given >= EXACT_MAX {
                    return Err(SessionError::Misplaced("one more beginning by ids"));
                }
                self.restarts_given += 1;
                self.restart = Some((credit, held.iter().map(|id| EntryId(*id)).collect()));
                Ok(())
            }
            Message::Finish { covered, held } if self.role == Role::Initiator && self.said_all => {
                self.finish(covered, held)
            }
            // The responder has sent everything, and the initiator goes on to what it has.
            Message::Plan(_) | Message::Window(_) | Message::NoPush
                if self.role == Role::Responder && outgoing.is_said() =>
            {
                self.stage = Stage::Receiving;
                self.incoming.grant(CREDIT_BYTES);
                self.handle_receiving(message)
            }
            _ => Err(SessionError::Misplaced("a message that a sender does not take")),
        }
    }

    /// The other side durably holds this side's log up to here.
    fn acknowledged(&mut self, upto: Option<u64>) -> Result<(), SessionError> {
        let (Some(upto), Some(outgoing)) = (upto, &self.outgoing) else { return Ok(()) };
        if !outgoing.may_acknowledge(upto) {
            return Err(SessionError::Misplaced("an acknowledgement of what was not sent"));
        }
        let epoch = self.own_epoch.unwrap_or(Epoch(0));
        self.known.mine = Some(Cursor { epoch, seq: Seq(upto) });
        if upto == outgoing.end.0 {
            self.incoming.covered = upto;
        }
        Ok(())
    }

    /// The responder has taken what the initiator had.
    fn finish(&mut self, covered: u64, held: Option<u64>) -> Result<(), SessionError> {
        let pushed = self.summary().pushed;
        if let (true, Some(plan)) = (self.pull_complete, &self.incoming.plan) {
            if covered > plan.end.seq.saturating_add(pushed) {
                return Err(SessionError::Misplaced("a position that cannot be"));
            }
            let seq = Seq(covered.max(plan.end.seq));
            self.known.theirs = Some(Cursor { epoch: Epoch(plan.end.epoch), seq });
        }
        if let (Some(held), Some(outgoing), Some(epoch)) = (held, &self.outgoing, self.own_epoch) {
            if !outgoing.may_acknowledge(held) {
                return Err(SessionError::Misplaced("an acknowledgement of what was not sent"));
            }
            self.known.mine = Some(Cursor { epoch, seq: Seq(held) });
            self.push_complete = held == outgoing.end.0;
        }
        self.stage = Stage::Finished;
        Ok(())
    }

    /// A turn of the side that takes entries.
    fn take_turn_receiving(&mut self, replica: &dyn Replica, rights: Rights) -> Result<Output, SessionError> {
        if let Some(window) = self.incoming.window.take() {
            let held = answer_window(replica, &window)?;
            return self.say(&[held]);
        }
        if self.no_push {
            return match self.ask(replica, rights, None)? {
                Some(output) => Ok(output),
                None => self.finish_taking(None),
            };
        }
        if self.push_only {
            return self.go_on_to_push(replica, rights, false, Resolved::default());
        }
        if self.incoming.missing {
            return self.ask_again(replica, rights);
        }
        let Some(plan) = self.incoming.plan.clone() else {
            return Err(SessionError::Misplaced("a turn without a plan"));
        };
        if !self.incoming.done {
            let ack =
                Message::Ack { upto: self.incoming.durable(), credit: self.incoming.grant(CREDIT_BYTES) };
            return self.say(&[ack]);
        }
        let theirs = resolve(replica, &plan.tips)?;
        // A receiver that acknowledges too early does not look whether anything has come.
        let complete = sabotage::is(Sabotage::AckBeforeCommit)
            || self.incoming.is_clean() && (theirs.all || (self.incoming.is_exact() && !theirs.named));
        if !complete && self.incoming.refused == 0 {
            return self.ask_again(replica, rights);
        }
        if complete {
            self.known.theirs = Some(plan.end.into());
        }
        if let Some(output) = self.ask(replica, rights, complete.then_some(plan.end.seq))? {
            return Ok(output);
        }
        match self.role {
            Role::Initiator => self.go_on_to_push(replica, rights, complete, theirs),
            Role::Responder => self.finish_taking(complete.then_some(plan.end.seq)),
        }
    }

    /// Something that the hints said was there is not: only ids in full can tell what.
    fn ask_again(&mut self, replica: &dyn Replica, rights: Rights) -> Result<Output, SessionError> {
        if self.restarts_asked >= EXACT_MAX {
            return Err(SessionError::Incomplete);
        }
        self.restarts_asked += 1;
        self.incoming.begin_again();
        let credit = self.incoming.grant(CREDIT_BYTES);
        // Nothing is said of what is held to a side that may not have it.
        let held = if may_read(rights) { name_held(replica)? } else { Vec::new() };
        let held = List::new(held.into_iter().map(|id| id.0).collect());
        self.say(&[Message::Exact { credit, held }])
    }

    /// Asks for payloads that are not here, if the other side may know of their entries. Nothing when all that are to be
    /// asked for were. `upto`: what is acknowledged with the first question.
    fn ask(
        &mut self,
        replica: &dyn Replica,
        rights: Rights,
        upto: Option<u64>,
    ) -> Result<Option<Output>, SessionError> {
        let takes = self.role == Role::Initiator || rights.push;
        let is_in_vain = self.asked_before.is_some() && self.asked_before == self.theirs;
        if !may_read(rights) || !takes {
            return Ok(None);
        }
        let want = if is_in_vain { None } else { self.filling.want(replica)? };
        let Some(want) = want else {
            let is_alone = self.filling.grown(replica) == self.incoming.admitted;
            self.asked = is_alone.then(|| lacking(replica));
            return Ok(None);
        };
        if !self.filling.has_asked {
            self.filling.has_asked = true;
            let ack = Message::Ack { upto, credit: CREDIT_BYTES };
            self.outbox.push_back(Output::Send(ack.encode()));
        }
        self.stage = Stage::Asking;
        self.say(&[want]).map(Some)
    }

    /// A turn of answers to what the other side asks for.
    fn give(&mut self, replica: &dyn Replica, rights: Rights) -> Result<Output, SessionError> {
        match self.giving.next(replica, may_read(rights))? {
            Some(payloads) => Ok(Output::Send(payloads.encode())),
            None => self.say(&[]),
        }
    }

    /// Whether a session of two sides with the same tips goes on: one of them has said that it lacks payloads.
    fn is_to_fill(&self) -> bool {
        let said = self.outgoing.as_ref().map(|outgoing| outgoing.lacking);
        let opened = self.open.as_ref().map(|open| open.lacking);
        [said, opened, self.theirs].into_iter().flatten().any(|lacking| lacking.missing > 0)
    }

    fn go_on_to_push(
        &mut self,
        replica: &dyn Replica,
        rights: Rights,
        complete: bool,
        theirs: Resolved,
    ) -> Result<Output, SessionError> {
        let plan_end = self.incoming.plan.as_ref().map_or(0, |plan| plan.end.seq);
        self.pull_complete = complete;
        if self.rung == Some(Rung::InSync) {
            if !complete {
                return Err(SessionError::Misplaced("a claim to be in sync that is not true"));
            }
            if let Some(open) = &self.open {
                self.known.mine = Some(open.end.into());
            }
            self.push_complete = true;
            if !self.is_to_fill() {
                self.stage = Stage::Finished;
                return Ok(Output::Finished);
            }
        }
        self.stage = Stage::Sending;
        let ack = Message::Ack { upto: complete.then_some(plan_end), credit: CREDIT_BYTES };
        self.outbox.push_back(Output::Send(ack.encode()));
        if self.offered.accepts && may_read(rights) {
            let plan = self.incoming.plan.as_ref();
            self.outgoing = Some(Outgoing::push(replica, theirs, plan, self.offered.credit)?);
        } else {
            self.said_all = true;
            self.push_complete = theirs.all && self.outgoing_is_empty(replica)?;
            self.outbox.push_back(Output::Send(Message::NoPush.encode()));
            self.outbox.push_back(Output::EndTurn);
            self.outgoing = Some(Outgoing::nothing(replica)?);
        }
        Ok(Output::Again)
    }

    /// Whether the responder's tips are also this side's: there is nothing that it lacks.
    fn outgoing_is_empty(&self, replica: &dyn Replica) -> Result<bool, SessionError> {
        let mine = name_tips(replica, 0, Naming::Short)?;
        Ok(self.incoming.plan.as_ref().is_some_and(|plan| plan.tips.hash == mine.hash))
    }

    /// The responder has taken everything: it says what each side holds of the other.
    fn finish_taking(&mut self, held: Option<u64>) -> Result<Output, SessionError> {
        let covered = self.incoming.covered;
        let acknowledged = self
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| self.known.mine.is_some_and(|mine| mine.seq >= outgoing.end));
        if let (true, Some(epoch)) = (acknowledged, self.own_epoch) {
            self.known.mine = Some(Cursor { epoch, seq: Seq(covered) });
        }
        // Who holds the same and has nothing to say does not acknowledge that.
        if self.rung != Some(Rung::InSync) || held.is_some() {
            self.push_complete = acknowledged;
            self.pull_complete = held.is_some();
        }
        self.stage = Stage::Finished;
        self.say(&[Message::Finish { covered, held }])
    }

    /// A turn of the side that sends entries.
    fn take_turn_sending(&mut self, replica: &dyn Replica, rights: Rights) -> Result<Output, SessionError> {
        if !may_read(rights) {
            return self.refuse(RefusalCode::Unavailable);
        }
        if let Some((credit, held)) = self.restart.take() {
            // About as many ids as were thought to be lacking, and some more: mostly one window is enough.
            self.sent_before = self.summary().pushed;
            let sent = self.outgoing.as_ref().map_or(0, |outgoing| outgoing.total);
            let ids = usize::try_from(sent.saturating_mul(2)).unwrap_or(usize::MAX);
            let ids = ids.clamp(WINDOW_IDS_FIRST, WINDOW_IDS_MAX);
            self.outgoing = Some(Outgoing::again(replica, &held, ids, credit)?);
            if self.role == Role::Responder {
                self.rung = Some(Rung::ByIds);
            }
            self.said_all = false;
        }
        let tree = self.opened()?;
        let outgoing = self.outgoing.as_mut().ok_or(SessionError::Misplaced("a turn without a plan"))?;
        let offer = Offer { credit: CREDIT_BYTES, accepts: rights.push };
        match outgoing.poll(replica, &tree, offer, &mut self.packing)? {
            Step::Again => Ok(Output::Again),
            Step::Say(message) => Ok(Output::Send(message.encode())),
            Step::Spent if self.duplex => Ok(Output::NeedFrame),
            Step::Wait | Step::Spent => self.say(&[]),
            Step::Finished => {
                let is_all = self.role == Role::Responder && outgoing.rung == Rung::InSync;
                if is_all && !self.is_to_fill() {
                    self.stage = Stage::Finished;
                }
                self.said_all = true;
                self.say(&[])
            }
        }
    }

    /// Says the last messages of a turn.
    fn say(&mut self, messages: &[Message]) -> Result<Output, SessionError> {
        self.outbox.extend(messages.iter().map(|message| Output::Send(message.encode())));
        self.outbox.push_back(Output::EndTurn);
        Ok(Output::Again)
    }

    fn refuse(&mut self, code: RefusalCode) -> Result<Output, SessionError> {
        self.denied = Some(code);
        self.stage = Stage::Finished;
        self.say(&[Message::Refused(code)])
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("tree", &self.tree)
            .field("stage", &self.stage)
            .field("my_turn", &self.my_turn)
            .field("summary", &self.summary())
            .finish_non_exhaustive()
    }
}

/// What is lacking here, as it is told.
fn lacking(replica: &dyn Replica) -> Lacking {
    Lacking { missing: replica.missing(), filled: replica.filled() }
}

/// Whether the other side may have entries.
fn may_read(rights: Rights) -> bool {
    rights.read || sabotage::is(Sabotage::ServeWithoutRight)
}

impl Rung {
    /// Every rung, with its letter.
    pub const ALL: [(&'static str, Self); 6] = [
        ("a", Self::InSync),
        ("b", Self::TipsKnown),
        ("c", Self::Remembered),
        ("d", Self::Sketch),
        ("e", Self::Asked),
        ("f", Self::ByIds),
    ];
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, _) = Self::ALL.iter().find(|(_, rung)| rung == self).expect("every rung has a letter");
        f.write_str(letter)
    }
}

impl From<WireRung> for Rung {
    fn from(rung: WireRung) -> Self {
        match rung {
            WireRung::InSync => Self::InSync,
            WireRung::TipsKnown => Self::TipsKnown,
            WireRung::Remembered => Self::Remembered,
            WireRung::Sketch => Self::Sketch,
            WireRung::Asked => Self::Asked,
            WireRung::ByIds => Self::ByIds,
        }
    }
}

impl From<Rung> for WireRung {
    fn from(rung: Rung) -> Self {
        match rung {
            Rung::InSync => Self::InSync,
            Rung::TipsKnown => Self::TipsKnown,
            Rung::Remembered => Self::Remembered,
            Rung::Sketch => Self::Sketch,
            Rung::Asked => Self::Asked,
            Rung::ByIds => Self::ByIds,
        }
    }
}

impl From<Position> for Cursor {
    fn from(position: Position) -> Self {
        Self { epoch: Epoch(position.epoch), seq: Seq(position.seq) }
    }
}

impl From<Cursor> for Position {
    fn from(cursor: Cursor) -> Self {
        Self { epoch: cursor.epoch.0, seq: cursor.seq.0 }
    }
}
