//! What comes to a database on one side is with the other side soon, as long as a connection lasts: after a session,
//! a follower is told what lies beyond the position that it holds.
//!
//! There is no queue of what is still to be pushed. A follower is a position in the log here; what it lacks is read from
//! there when there is room for it, and a follower that is slow, or too far behind, costs no more than one that is in
//! step. What does not fit is for a session, which begins at the position that was acknowledged.

mod came;
mod inward;
mod outward;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::Bytes;
use eid_core::dag::Replica;
use eid_core::sabotage::{self, Sabotage};
use eid_core::{EntryId, TreeId};

use self::came::Came;
use self::inward::Inward;
use self::outward::{Outward, Told};
use crate::compressed::{Packed, Packing};
use crate::limits::{FOLLOWED_MAX, WORDS_MAX};
use crate::message::{LiveMessage, Position, RefusalCode};
use crate::session::{Arrived, Cursor, Known, Outcome, Rights, SessionError};

/// Which side of a connection this is. Only the dialler can begin sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It has dialled.
    Dialler,
    /// It was dialled.
    Listener,
}

/// What has become of a database that is kept in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEvent {
    /// The other side follows it: this side may want to follow too.
    Followed(TreeId),
    /// The other side follows it no more: this side may want to leave it too.
    Left(TreeId),
    /// The other side tells what comes to it from now on.
    InStep(TreeId),
    /// Only a session can bring it in step. Told to the dialler.
    Behind(TreeId),
    /// The other side does not tell what comes to it, or no more.
    Ended(TreeId, RefusalCode),
}

/// When there is something to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Now, in these databases.
    Now(Vec<TreeId>),
    /// When something is acknowledged, or after [`COALESCE_MS`](crate::limits::COALESCE_MS): [`Live::waited`].
    Soon,
    /// When something comes, or something is acknowledged.
    Later,
}

/// One side of what keeps databases in step over one connection, as a value: no clock, no link, no storage. Words go to
/// the other side in the order of [`Live::poll`].
pub struct Live {
    side: Side,
    /// What the other side follows.
    outward: BTreeMap<TreeId, Outward>,
    outward_numbers: BTreeMap<u32, TreeId>,
    /// Bytes that were pushed and are not acknowledged.
    under_way: u64,
    /// What this side follows.
    inward: BTreeMap<TreeId, Inward>,
    inward_numbers: BTreeMap<u32, TreeId>,
    next_number: u32,
    /// Pushes that have arrived and are not taken.
    waiting: VecDeque<inward::Waiting>,
    waiting_bytes: u64,
    /// The oldest of them was handed out.
    taking: bool,
    came: Came,
    packing: Packing,
    words: VecDeque<Bytes>,
    events: VecDeque<LiveEvent>,
    learnt: BTreeMap<TreeId, Known>,
}

impl Live {
    /// Nothing is followed.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self {
            side,
            outward: BTreeMap::new(),
            outward_numbers: BTreeMap::new(),
            under_way: 0,
            inward: BTreeMap::new(),
            inward_numbers: BTreeMap::new(),
            next_number: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            taking: false,
            came: Came::default(),
            packing: Packing::default(),
            words: VecDeque::new(),
            events: VecDeque::new(),
            learnt: BTreeMap::new(),
        }
    }

    /// Over a connection of which both sides have [`FEATURE_ZSTD`](crate::FEATURE_ZSTD): as
    /// [`Session::compressing`](crate::Session::compressing).
    #[must_use]
    pub fn compressing(mut self, compressing: bool) -> Self {
        self.packing = Packing::new(compressing);
        self
    }

    /// The databases that the other side follows.
    pub fn followers(&self) -> impl Iterator<Item = TreeId> + '_ {
        self.outward.keys().copied()
    }

    /// Whether the other side follows a database.
    #[must_use]
    pub fn is_followed(&self, tree: &TreeId) -> bool {
        self.outward.contains_key(tree)
    }

    /// Whether this side follows a database, or has asked to.
    #[must_use]
    pub fn follows(&self, tree: &TreeId) -> bool {
        self.inward.contains_key(tree)
    }

    /// The databases that this side follows, or has asked to.
    pub fn followed(&self) -> impl Iterator<Item = TreeId> + '_ {
        self.inward.keys().copied()
    }

    /// Whether this side is told what comes to a database.
    #[must_use]
    pub fn is_in_step(&self, tree: &TreeId) -> bool {
        self.inward.get(tree).is_some_and(Inward::is_in_step)
    }

    /// Asks to be told what comes to a database beyond what is held of the other side's log. Says whether there was room.
    pub fn follow(&mut self, tree: TreeId, held: Option<Cursor>) -> bool {
        self.forget_inward(&tree);
        if self.inward.len() >= FOLLOWED_MAX {
            return false;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.inward.insert(tree, Inward::asked(number, held));
        self.inward_numbers.insert(number, tree);
        self.say(&LiveMessage::Follow { number, tree: tree.0, from: held.map(Position::from) });
        true
    }

    /// Wants to be told no more.
    pub fn leave(&mut self, tree: &TreeId) {
        if let Some(number) = self.forget_inward(tree) {
            self.say(&LiveMessage::Leave { number });
        }
    }

    /// Something has come to a database here, or its settings may have changed.
    pub fn touch(&mut self, tree: &TreeId) {
        if let Some(outward) = self.outward.get_mut(tree) {
            outward.touch();
        }
    }

    /// What is due has waited for as long as it may for what is under way.
    pub fn waited(&mut self) {
        self.outward.values_mut().for_each(Outward::waited);
    }

    /// These entries come from the other side, by whatever way: they are not pushed back.
    pub fn came(&mut self, ids: impl IntoIterator<Item = EntryId>) {
        if !sabotage::is(Sabotage::PushBack) {
            ids.into_iter().for_each(|id| self.came.insert(id));
        }
    }

    /// Takes a frame of the other side.
    pub fn handle_frame(&mut self, frame: &[u8]) -> Result<(), SessionError> {
        match LiveMessage::decode(frame)? {
            LiveMessage::Alive => Ok(()),
            LiveMessage::Speak | LiveMessage::Listen(_) => {
                Err(SessionError::Misplaced("a link that begins twice"))
            }
            LiveMessage::Follow { number, tree, from } => self.handle_follow(number, TreeId(tree), from),
            LiveMessage::Leave { number } => {
                let left = self.forget_outward(number);
                self.events.extend(left.map(LiveEvent::Left));
                Ok(())
            }
            LiveMessage::Ack { number, upto } => self.handle_ack(number, upto),
            LiveMessage::Following { number } => {
                let Some(tree) = self.asked(number)? else { return Ok(()) };
                if !self.inward.get_mut(&tree).is_some_and(Inward::begin) {
                    return Err(SessionError::Misplaced("an answer that was given"));
                }
                self.events.push_back(LiveEvent::InStep(tree));
                Ok(())
            }
            LiveMessage::Ended { number, code } => {
                let Some(tree) = self.asked(number)? else { return Ok(()) };
                self.forget_inward(&tree);
                self.events.push_back(LiveEvent::Ended(tree, code));
                Ok(())
            }
            LiveMessage::Push { .. } | LiveMessage::PushCompressed { .. }
                if self.words.len() >= WORDS_MAX =>
            {
                Err(SessionError::Misplaced("more pushes than acknowledgements are taken"))
            }
            LiveMessage::Push { number, from, batch } => {
                let Some(tree) = self.asked(number)? else { return Ok(()) };
                self.handle_push(tree, number, from, &Packed::Plain(batch))
            }
            LiveMessage::PushCompressed { number, from, batch } if self.packing.takes_compressed() => {
                let Some(tree) = self.asked(number)? else { return Ok(()) };
                self.handle_push(tree, number, from, &Packed::Compressed(batch))
            }
            LiveMessage::PushCompressed { .. } => {
                Err(SessionError::Misplaced("a compressed batch that nobody agreed to"))
            }
            LiveMessage::Behind { tree } if self.side == Side::Dialler => {
                let tree = TreeId(tree);
                self.forget_inward(&tree);
                self.events.push_back(LiveEvent::Behind(tree));
                Ok(())
            }
            LiveMessage::Behind { .. } => Err(SessionError::Misplaced("a call to the side that was dialled")),
        }
    }

    /// The next word to say.
    pub fn poll(&mut self) -> Option<Bytes> {
        self.words.pop_front()
    }

    /// Whether there is something to say.
    #[must_use]
    pub fn has_words(&self) -> bool {
        !self.words.is_empty()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<LiveEvent> {
        self.events.pop_front()
    }

    /// Whether something was learnt since [`Self::take_learnt`].
    #[must_use]
    pub fn has_learnt(&self) -> bool {
        !self.learnt.is_empty()
    }

    /// What was learnt since the last time: worth keeping.
    pub fn take_learnt(&mut self) -> BTreeMap<TreeId, Known> {
        std::mem::take(&mut self.learnt)
    }

    /// In which databases [`Self::push`] has something to do.
    #[must_use]
    pub fn due(&self) -> Due {
        let has_room = outward::has_room(self.under_way);
        let now: Vec<TreeId> =
            self.outward.iter().filter(|(_, one)| one.is_due(has_room)).map(|(tree, _)| *tree).collect();
        if !now.is_empty() {
            return Due::Now(now);
        }
        let waits = self.outward.values().any(|one| one.is_due_soon(has_room));
        if waits { Due::Soon } else { Due::Later }
    }

    /// Pushes what a follower lacks, as far as there is room, or tells it that it is followed no more. What is read must be
    /// durable.
    pub fn push(&mut self, tree: &TreeId, replica: &dyn Replica, rights: Rights) -> Result<(), SessionError> {
        let Some(outward) = self.outward.get_mut(tree) else { return Ok(()) };
        let number = outward.number();
        if !(rights.read || sabotage::is(Sabotage::ServeWithoutRight)) {
            self.forget_outward(number);
            self.say(&LiveMessage::Ended { number, code: RefusalCode::Unavailable });
            return Ok(());
        }
        let mut said = Vec::new();
        let told =
            outward.push((tree, replica), (&self.came, &mut self.packing), &mut self.under_way, &mut said)?;
        let acknowledged = outward.acknowledged();
        said.iter().for_each(|message| self.say(message));
        match (told, acknowledged) {
            (Told::InStep, Some(cursor)) => self.learnt.entry(*tree).or_default().mine = Some(cursor),
            (Told::InStep, None) => {}
            (Told::Behind, _) => {
                self.forget_outward(number);
                self.call(tree);
            }
        }
        Ok(())
    }

    /// In place of [`Self::push`]: the other side is told over another connection, as long as that lasts. Then
    /// [`Self::touch`] goes on here.
    pub fn stand_by(&mut self, tree: &TreeId, rights: Rights) {
        self.check(tree, rights);
        let mut said = Vec::new();
        if let Some(outward) = self.outward.get_mut(tree) {
            outward.stand_by(&mut said);
        }
        said.iter().for_each(|message| self.say(message));
    }

    /// Looks whether a follower may still read. To be asked also when nothing comes.
    pub fn check(&mut self, tree: &TreeId, rights: Rights) {
        let number = self.outward.get(tree).map(Outward::number);
        if let Some(number) = number.filter(|_| !rights.read && !sabotage::is(Sabotage::ServeWithoutRight)) {
            self.forget_outward(number);
            self.say(&LiveMessage::Ended { number, code: RefusalCode::Unavailable });
        }
    }

    /// Bytes of entries that have arrived and are not taken.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        usize::try_from(self.waiting_bytes).unwrap_or(usize::MAX)
    }

    /// The oldest push that has arrived, once the one before was reported with [`Self::handle_taken`].
    pub fn next_taken(&mut self) -> Option<(TreeId, Vec<Arrived>)> {
        if self.taking {
            return None;
        }
        let waiting = self.waiting.front_mut()?;
        let tree = self.inward_numbers.get(&waiting.number)?;
        self.taking = true;
        Some((*tree, std::mem::take(&mut waiting.entries)))
    }

    /// Takes the verdicts on what was handed out; what is admitted is durable. None when it was not admitted because the
    /// other side has no right to bring it.
    pub fn handle_taken(&mut self, outcomes: Option<&[Outcome]>) {
        let Some(waiting) = self.waiting.pop_front().filter(|_| self.taking) else { return };
        self.taking = false;
        self.waiting_bytes -= waiting.bytes;
        let Some(tree) = self.inward_numbers.get(&waiting.number).copied() else { return };
        let Some(outcomes) = outcomes else {
            self.leave(&tree);
            self.events.push_back(LiveEvent::Ended(tree, RefusalCode::Unavailable));
            return;
        };
        let Some(inward) = self.inward.get_mut(&tree) else { return };
        if !inward.take(&waiting, outcomes) {
            self.leave(&tree);
            self.call(&tree);
            return;
        }
        let held = inward.held();
        self.say(&LiveMessage::Ack { number: waiting.number, upto: held.map(|held| held.seq.0) });
        if let Some(held) = held {
            self.learnt.entry(tree).or_default().theirs = Some(held);
        }
    }

    fn handle_follow(
        &mut self,
        number: u32,
        tree: TreeId,
        from: Option<Position>,
    ) -> Result<(), SessionError> {
        if self.outward_numbers.last_key_value().is_some_and(|(last, _)| *last >= number) {
            return Err(SessionError::Misplaced("a number that was given before"));
        }
        if let Some(before) = self.outward.get(&tree).map(Outward::number) {
            self.forget_outward(before);
        }
        if self.words.len() >= WORDS_MAX {
            return Err(SessionError::Misplaced("more questions than answers are taken"));
        }
        if self.outward.len() >= FOLLOWED_MAX {
            self.say(&LiveMessage::Ended { number, code: RefusalCode::Busy });
            return Ok(());
        }
        self.outward.insert(tree, Outward::new(number, from.map(Cursor::from)));
        self.outward_numbers.insert(number, tree);
        self.events.push_back(LiveEvent::Followed(tree));
        Ok(())
    }

    fn handle_ack(&mut self, number: u32, upto: Option<u64>) -> Result<(), SessionError> {
        let tree = self.outward_numbers.get(&number).copied();
        // An acknowledgement and the end of what it is about can meet on the way.
        let Some((tree, outward)) = tree.and_then(|tree| Some((tree, self.outward.get_mut(&tree)?))) else {
            return Ok(());
        };
        outward.handle_ack(upto, &mut self.under_way)?;
        if let Some(cursor) = outward.acknowledged() {
            self.learnt.entry(tree).or_default().mine = Some(cursor);
        }
        Ok(())
    }

    /// The database that was followed by this number; nothing when it is not any more.
    fn asked(&self, number: u32) -> Result<Option<TreeId>, SessionError> {
        if number >= self.next_number {
            return Err(SessionError::Misplaced("an answer to what was not asked"));
        }
        Ok(self.inward_numbers.get(&number).copied())
    }

    /// Only a session helps.
    fn call(&mut self, tree: &TreeId) {
        match self.side {
            Side::Dialler => self.events.push_back(LiveEvent::Behind(*tree)),
            Side::Listener => self.say(&LiveMessage::Behind { tree: tree.0 }),
        }
    }

    /// Forgets what is followed, and what has arrived of it and is not taken.
    fn forget_inward(&mut self, tree: &TreeId) -> Option<u32> {
        let number = self.inward.remove(tree)?.number();
        self.inward_numbers.remove(&number);
        let taking = self.taking.then(|| self.waiting.pop_front()).flatten();
        self.waiting.retain(|waiting| waiting.number != number);
        if let Some(mut taking) = taking {
            if taking.number == number {
                taking.bytes = 0;
            }
            self.waiting.push_front(taking);
        }
        self.waiting_bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        Some(number)
    }

    /// Forgets a follower. Gives the database.
    fn forget_outward(&mut self, number: u32) -> Option<TreeId> {
        let tree = self.outward_numbers.remove(&number)?;
        self.under_way -= self.outward.remove(&tree).map_or(0, |outward| outward.under_way());
        Some(tree)
    }

    fn say(&mut self, message: &LiveMessage) {
        self.words.push_back(message.encode());
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("side", &self.side)
            .field("followed", &self.inward.len())
            .field("followers", &self.outward.len())
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}
