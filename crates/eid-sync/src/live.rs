//! The live links of one connection: what comes to a database here is told to the other side as it comes, and the other
//! way round.
//!
//! The dialler opens two links. On one it speaks, a turn for each time that it has something to say; on the other it
//! lets the other side speak, in one turn without end. Where answers are held back until they end, each time has a turn
//! there too. What is said is decided by [`Live`], and read from the log: nothing is queued for who is slow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use eid_core::{EntryId, PublicKey, TreeId};
use eid_proto::limits::{COALESCE_MS, LIVE_WINDOW_BYTES};
use eid_proto::message::{Delivery, LiveMessage};
use eid_proto::{Arrived, Cursor, Due, Known, Live, LiveEvent, Outcome, Rights, Side};
use eid_store::{Admitted, Offer};
use eid_transport::{Connection, Link, LinkError, Received};

use crate::drive::{Context, Nothing, outcome};
use crate::error::SyncError;
use crate::events::{Publisher, SyncEvent};
use crate::limits::{
    ALIVE_MS, FIRST_WORD_MS, IDLE_MS, LEARNT_MS, LEARNT_SOON_MS, LIVE_EVENTS_MAX, LOOKS_MAX, MEMORY_LOOK_MS,
    RIGHTS_AT_REST_MS, RIGHTS_MS,
};
use crate::memory::{Held, Memory};
use crate::runtime::{blocking, within};
use crate::signal::{Signal, first_of};

/// What keeps databases in step over one connection.
pub(crate) struct LiveLinks {
    context: Context,
    publisher: Arc<Publisher>,
    live: Mutex<Live>,
    /// Apart from `live`, so that who commits waits for nobody.
    interest: Mutex<Interest>,
    /// There is something to say.
    words: Signal,
    /// Something may be there to push.
    work: Signal,
    /// Something has arrived.
    arrived: Signal,
    /// Something has happened.
    happened: Signal,
    /// There is something to remember.
    learnt: Signal,
    events: Mutex<VecDeque<LiveEvent>>,
    /// The other side speaks on a link.
    heard: AtomicBool,
    /// How many links of this connection are used.
    attached: AtomicUsize,
    /// What has arrived and is not stored.
    held: Mutex<Option<Held>>,
    /// How many links were given to speak on: only the last one counts.
    speaking: AtomicU64,
    ended: AtomicBool,
    /// Sessions that are answered on this connection: what they come to is waited for.
    answering: AtomicU64,
    /// Databases about which one has ended.
    again: Mutex<BTreeSet<TreeId>>,
    /// How databases are to be synchronised has changed.
    wishes: AtomicBool,
}

#[derive(Debug, Default)]
struct Interest {
    /// What the other side follows, and perhaps more.
    followed: BTreeSet<TreeId>,
    /// Of these, where something has come.
    came: BTreeSet<TreeId>,
    /// Other databases to which something has come.
    others: BTreeSet<TreeId>,
    /// Something has come to any database since the rights of followers were looked at: they may be others.
    rights: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LiveLinks {
    pub(crate) fn new(side: Side, context: Context, publisher: Arc<Publisher>) -> Arc<Self> {
        let live = Live::new(side).compressing(context.compresses);
        Arc::new(Self {
            context,
            publisher,
            live: Mutex::new(live),
            interest: Mutex::default(),
            words: Signal::default(),
            work: Signal::default(),
            arrived: Signal::default(),
            happened: Signal::default(),
            learnt: Signal::default(),
            events: Mutex::default(),
            heard: AtomicBool::new(false),
            attached: AtomicUsize::new(0),
            held: Mutex::default(),
            speaking: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            answering: AtomicU64::new(0),
            again: Mutex::default(),
            wishes: AtomicBool::new(false),
        })
    }

    pub(crate) fn peer(&self) -> PublicKey {
        self.context.peer
    }

    /// Whether the other side follows a database.
    pub(crate) fn is_followed(&self, tree: &TreeId) -> bool {
        !self.is_ended() && lock(&self.live).is_followed(tree)
    }

    /// Something may be there to push in every database that is followed.
    pub(crate) fn touch_all(&self) {
        let mut interest = lock(&self.interest);
        interest.came = interest.followed.clone();
        drop(interest);
        self.work.raise();
    }

    /// How databases are to be synchronised has changed: what is followed is looked at again.
    pub(crate) fn wishes_changed(&self) {
        self.wishes.store(true, Ordering::SeqCst);
        self.work.raise();
    }

    /// Something was admitted. Runs where somebody commits.
    pub(crate) fn admitted(&self, admitted: &Admitted) {
        let mut interest = lock(&self.interest);
        let is_followed = interest.followed.contains(&admitted.tree);
        let is_other = !is_followed && interest.others.insert(admitted.tree);
        if is_followed {
            interest.came.insert(admitted.tree);
        }
        // Also what comes to another database may change a right.
        let is_first = !std::mem::replace(&mut interest.rights, true);
        let is_work = is_followed || (is_first && !interest.followed.is_empty());
        drop(interest);
        if is_work {
            self.work.raise();
        }
        if is_other {
            self.happened.raise();
        }
    }

    /// The databases that the other side does not follow and to which something has come, since the last time this was asked.
    pub(crate) fn take_others(&self) -> BTreeSet<TreeId> {
        std::mem::take(&mut lock(&self.interest).others)
    }

    /// Entries come from a peer by another way.
    pub(crate) fn came_from(&self, peer: &PublicKey, tree: &TreeId, ids: &dyn Fn() -> Vec<EntryId>) {
        if *peer == self.context.peer && lock(&self.interest).followed.contains(tree) {
            let ids = ids();
            lock(&self.live).came(ids);
        }
    }

    /// Asks to be told what comes to a database.
    pub(crate) fn follow(&self, tree: TreeId, held: Option<Cursor>) -> bool {
        let asked = lock(&self.live).follow(tree, held);
        self.words.raise();
        asked
    }

    /// Wants to be told no more of databases that are followed.
    pub(crate) fn leave_all(&self, is_left: impl Fn(&TreeId) -> bool) {
        let followed: Vec<TreeId> = lock(&self.live).followed().collect();
        let left: Vec<TreeId> = followed.into_iter().filter(is_left).collect();
        if !left.is_empty() {
            let mut live = lock(&self.live);
            left.iter().for_each(|tree| live.leave(tree));
            drop(live);
            self.words.raise();
        }
    }

    /// How many links are used for this: they are no sessions.
    pub(crate) fn attached(&self) -> usize {
        self.attached.load(Ordering::SeqCst)
    }

    /// Whether this side is told what comes to a database.
    pub(crate) fn is_in_step(&self, tree: &TreeId) -> bool {
        lock(&self.live).is_in_step(tree)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Lets everybody go who waits here.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let all = [&self.words, &self.work, &self.arrived, &self.happened, &self.learnt];
        all.into_iter().for_each(Signal::raise);
    }

    /// What has happened, for who keeps databases in step.
    pub(crate) fn next_event(&self) -> Option<LiveEvent> {
        lock(&self.events).pop_front()
    }

    pub(crate) fn happened(&self) -> &Signal {
        &self.happened
    }

    /// A session is answered on the same connection.
    pub(crate) fn begin_answer(&self) {
        self.answering.fetch_add(1, Ordering::SeqCst);
    }

    /// It has come to its end, and with it perhaps another position from which to follow.
    pub(crate) fn end_answer(&self, tree: Option<TreeId>) {
        self.answering.fetch_sub(1, Ordering::SeqCst);
        if let Some(tree) = tree.filter(|tree| self.is_followed(tree)) {
            lock(&self.again).insert(tree);
        }
        self.happened.raise();
    }

    /// The dialler's side, until a link breaks.
    pub(crate) async fn dial(self: &Arc<Self>, connection: &dyn Connection) -> Result<(), SyncError> {
        let heard = self.ask_to_speak(connection).await?;
        let own = connection.open().await?;
        let done = first_of(vec![
            Box::pin(self.hear(heard)),
            Box::pin(self.speak_in_turns(own, LiveMessage::Speak, None)),
            Box::pin(self.push_all()),
            Box::pin(self.take_all()),
            Box::pin(self.keep_learnt()),
        ])
        .await;
        self.end();
        done
    }

    /// The other side's, for each link that begins with a word of these. Gives nothing when the link was replaced.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        first: &Bytes,
        link: Box<dyn Link>,
    ) -> Option<Result<(), SyncError>> {
        if self.context.is_away() {
            return Some(Err(SyncError::Invalid));
        }
        self.attached.fetch_add(1, Ordering::SeqCst);
        let ended = self.answer_on(first, link).await;
        self.attached.fetch_sub(1, Ordering::SeqCst);
        ended
    }

    async fn answer_on(
        self: &Arc<Self>,
        first: &Bytes,
        mut link: Box<dyn Link>,
    ) -> Option<Result<(), SyncError>> {
        match LiveMessage::decode(first) {
            Ok(LiveMessage::Speak) if self.heard.swap(true, Ordering::SeqCst) => {
                Some(Err(SyncError::Misplaced))
            }
            Ok(LiveMessage::Speak) => Some(
                first_of(vec![
                    Box::pin(self.hear(link)),
                    Box::pin(self.push_all()),
                    Box::pin(self.take_all()),
                    Box::pin(self.answer_followers()),
                    Box::pin(self.keep_learnt()),
                ])
                .await,
            ),
            Ok(LiveMessage::Listen(delivery)) => {
                let number = self.speaking.fetch_add(1, Ordering::SeqCst) + 1;
                self.words.raise();
                let ended = match self.deadline("the end of a turn", link.recv()).await {
                    Ok(Ok(Received::EndOfTurn)) => match delivery {
                        Delivery::Streamed => self.speak_on(link, number).await,
                        Delivery::Polled => self.speak_in_turns(link, LiveMessage::Alive, Some(number)).await,
                    },
                    Ok(Ok(_)) => Err(SyncError::Misplaced),
                    Ok(Err(error)) => Err(error.into()),
                    Err(error) => Err(error),
                };
                (self.speaking.load(Ordering::SeqCst) == number).then_some(ended)
            }
            Ok(_) => Some(Err(SyncError::Misplaced)),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Opens the link on which the other side speaks. Who hears nothing on it has a proxy before him that holds back what
    /// is not complete.
    async fn ask_to_speak(&self, connection: &dyn Connection) -> Result<Box<dyn Link>, SyncError> {
        for (delivery, ms) in [(Delivery::Streamed, FIRST_WORD_MS), (Delivery::Polled, IDLE_MS)] {
            let mut link = connection.open().await?;
            link.send(LiveMessage::Listen(delivery).encode()).await?;
            link.end_turn().await?;
            match within(&*self.context.runtime, ms, link.recv()).await {
                Some(Ok(Received::Frame(frame))) if LiveMessage::decode(&frame)? == LiveMessage::Alive => {
                    return Ok(link);
                }
                Some(Ok(Received::Closed)) => return Err(LinkError::Closed.into()),
                Some(Ok(_)) => return Err(SyncError::Misplaced),
                Some(Err(error)) => return Err(error.into()),
                None => tracing::debug!("nothing is heard on a link that is to be spoken on"),
            }
        }
        Err(SyncError::TimedOut { what: "the first word", ms: IDLE_MS })
    }

    /// Takes what the other side says, and gives it the turn again and again.
    async fn hear(&self, mut link: Box<dyn Link>) -> Result<(), SyncError> {
        let mut heard = 0_u64;
        loop {
            while self.context.memory.is_full() && !self.is_ended() {
                self.context.runtime.sleep(MEMORY_LOOK_MS).await;
            }
            match self.deadline("a word", link.recv()).await?? {
                Received::Frame(frame) => {
                    heard += frame.len() as u64;
                    self.handle(&frame)?;
                }
                Received::EndOfTurn => {
                    tracing::trace!(heard, "a turn of words");
                    self.deadline("ending a turn", link.end_turn()).await??;
                }
                Received::Aside(_) => return Err(SyncError::Misplaced),
                Received::Closed => return Err(LinkError::Closed.into()),
            }
        }
    }

    fn handle(&self, frame: &Bytes) -> Result<(), SyncError> {
        let mut events = Vec::new();
        let (is_left, has_learnt);
        let has_words = {
            let mut live = lock(&self.live);
            let followers = live.followers().count();
            live.handle_frame(frame)?;
            self.hold(&live);
            is_left = live.followers().count() < followers;
            events.extend(std::iter::from_fn(|| live.poll_event()));
            if events.iter().any(|event| matches!(event, LiveEvent::Followed(_))) {
                let mut interest = lock(&self.interest);
                let followed = events.iter().filter_map(|event| match event {
                    LiveEvent::Followed(tree) => Some(*tree),
                    _ => None,
                });
                interest.followed.extend(followed);
            }
            has_learnt = live.has_learnt();
            live.has_words()
        };
        self.tell(events)?;
        if has_learnt {
            self.learnt.raise();
        }
        if is_left {
            self.let_go();
            self.context.hub.nudge(self.context.peer);
        }
        if has_words {
            self.words.raise();
        }
        self.arrived.raise();
        self.work.raise();
        Ok(())
    }

    /// Counts what has arrived and is not stored.
    fn hold(&self, live: &Live) {
        *lock(&self.held) = Some(Memory::hold(&self.context.memory, live.waiting_bytes()));
    }

    /// Hands on what has happened.
    fn tell(&self, events: Vec<LiveEvent>) -> Result<(), SyncError> {
        if events.is_empty() {
            return Ok(());
        }
        let peer = self.context.peer;
        for event in &events {
            match event {
                LiveEvent::InStep(tree) => self.publisher.publish(&SyncEvent::InStep { peer, tree: *tree }),
                LiveEvent::Behind(tree) | LiveEvent::Ended(tree, _) => {
                    self.publisher.publish(&SyncEvent::OutOfStep { peer, tree: *tree });
                }
                LiveEvent::Followed(_) | LiveEvent::Left(_) => {}
            }
        }
        let mut waiting = lock(&self.events);
        waiting.extend(events);
        // Each database has few of them: who makes more is not in good faith.
        if waiting.len() > LIVE_EVENTS_MAX {
            return Err(SyncError::Misplaced);
        }
        drop(waiting);
        self.happened.raise();
        Ok(())
    }

    /// Says what there is to say, in a turn each time, and `first` at the beginning.
    async fn speak_in_turns(
        &self,
        mut link: Box<dyn Link>,
        first: LiveMessage,
        number: Option<u64>,
    ) -> Result<(), SyncError> {
        let mut word = Some(first.encode());
        loop {
            let mut bytes = 0;
            while let Some(frame) = word.take().or_else(|| lock(&self.live).poll()) {
                bytes += frame.len() as u64;
                self.deadline("sending a word", link.send(frame)).await??;
                if bytes >= LIVE_WINDOW_BYTES {
                    break;
                }
            }
            self.deadline("ending a turn", link.end_turn()).await??;
            match self.deadline("a turn", link.recv()).await?? {
                Received::EndOfTurn => {}
                Received::Frame(_) | Received::Aside(_) => return Err(SyncError::Misplaced),
                Received::Closed => return Err(LinkError::Closed.into()),
            }
            if !self.has_words(number).await {
                return Ok(());
            }
            word = Some(lock(&self.live).poll().unwrap_or_else(|| LiveMessage::Alive.encode()));
        }
    }

    /// Says what there is to say, in one turn.
    async fn speak_on(&self, mut link: Box<dyn Link>, number: u64) -> Result<(), SyncError> {
        let mut word = Some(LiveMessage::Alive.encode());
        loop {
            while let Some(frame) = word.take().or_else(|| lock(&self.live).poll()) {
                self.deadline("sending a word", link.send(frame)).await??;
            }
            if !self.has_words(Some(number)).await {
                return Ok(());
            }
            word = Some(lock(&self.live).poll().unwrap_or_else(|| LiveMessage::Alive.encode()));
        }
    }

    /// Waits until there is something to say, or it is time to say that there is nothing. Gives false when somebody else
    /// is to speak, or nobody.
    async fn has_words(&self, number: Option<u64>) -> bool {
        let (runtime, mut waits) = (&*self.context.runtime, true);
        loop {
            let seen = self.words.seen();
            let replaced = number.is_some_and(|number| self.speaking.load(Ordering::SeqCst) != number);
            if replaced || self.is_ended() {
                return false;
            }
            if !waits || lock(&self.live).has_words() {
                return true;
            }
            waits = within(runtime, ALIVE_MS, self.words.after(seen)).await.is_some();
        }
    }

    /// Pushes what is due, and looks at the rights of who follows.
    async fn push_all(self: &Arc<Self>) -> Result<(), SyncError> {
        let runtime = &*self.context.runtime;
        // Not by a clock: those of devices jump.
        let (mut look, mut soon) = (None, None);
        let (mut looked, mut pushes) = (None, 0);
        loop {
            let seen = self.work.seen();
            if self.is_ended() {
                return Ok(());
            }
            if self.wishes.swap(false, Ordering::SeqCst) {
                self.blocking(Self::look_at_wishes).await?;
            }
            let (came, has_followers, is_news) = {
                let mut interest = lock(&self.interest);
                (std::mem::take(&mut interest.came), !interest.followed.is_empty(), interest.rights)
            };
            let due = {
                let mut live = lock(&self.live);
                came.iter().for_each(|tree| live.touch(tree));
                live.due()
            };
            match due {
                Due::Now(trees) => {
                    self.blocking(move |links| links.push(&trees)).await?;
                    pushes += 1;
                    // One database where something comes all the time does not keep the others from being looked at.
                    if pushes % LOOKS_MAX == 0 {
                        looked = self.blocking(move |links| Ok(links.look(looked))).await?;
                    }
                    continue;
                }
                Due::Soon => soon = Some(soon.unwrap_or_else(|| runtime.sleep(COALESCE_MS))),
                Due::Later => soon = None,
            }
            let is_news = is_news || looked.is_some() || !self.context.access.changes_by_entries_alone();
            let wait_ms = if is_news { RIGHTS_MS } else { RIGHTS_AT_REST_MS };
            if !has_followers {
                look = None;
            } else if look.as_ref().is_none_or(|(ms, _)| *ms != wait_ms) {
                look = Some((wait_ms, runtime.sleep(wait_ms)));
            }
            let mut changed = pin!(self.work.after(seen));
            let woken = poll_fn(|cx| {
                if let Some(soon) = &mut soon
                    && soon.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Woken::Waited);
                }
                if let Some((_, look)) = &mut look
                    && look.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Woken::Looks);
                }
                changed.as_mut().poll(cx).map(|()| Woken::Changed)
            })
            .await;
            match woken {
                Woken::Waited => {
                    soon = None;
                    lock(&self.live).waited();
                }
                Woken::Looks => {
                    look = None;
                    looked = self.blocking(move |links| Ok(links.look(looked))).await?;
                }
                Woken::Changed => {}
            }
        }
    }

    /// Runs on a thread that may block.
    fn push(&self, trees: &[TreeId]) -> Result<(), SyncError> {
        for (tree, rights) in trees.iter().zip(self.rights_of(trees)) {
            if !self.context.hub.leads(self, tree) {
                let stays = {
                    let mut live = lock(&self.live);
                    live.stand_by(tree, rights);
                    live.is_followed(tree)
                };
                if !stays {
                    self.let_go();
                }
                self.words.raise();
                continue;
            }
            let snapshot = if rights.read { self.context.store.tree(tree)? } else { None };
            // What is told must hold after a crash.
            self.context.store.flush()?;
            let mut live = lock(&self.live);
            match &snapshot {
                Some(snapshot) => live.push(tree, snapshot, rights)?,
                None => live.push(tree, &Nothing(self.context.store.epoch()), rights)?,
            }
            let events: Vec<LiveEvent> = std::iter::from_fn(|| live.poll_event()).collect();
            let (is_left, has_learnt) = (!live.is_followed(tree), live.has_learnt());
            drop(live);
            self.tell(events)?;
            self.words.raise();
            if has_learnt {
                self.learnt.raise();
            }
            if is_left {
                self.let_go();
                self.context.hub.nudge(self.context.peer);
            }
        }
        Ok(())
    }

    /// What the other side follows no more is for who keeps databases in step, like what it never followed.
    fn let_go(&self) {
        {
            let live = lock(&self.live);
            let interest = &mut *lock(&self.interest);
            let Interest { followed, came, others, .. } = interest;
            followed.retain(|tree| {
                let stays = live.is_followed(tree);
                if !stays {
                    came.remove(tree);
                    others.insert(*tree);
                }
                stays
            });
        }
        self.happened.raise();
    }

    /// Looks at the rights of some followers, after the one that was looked at last. Gives the last of them, unless it is the
    /// last of all. Runs on a thread that may block.
    fn look(&self, after: Option<TreeId>) -> Option<TreeId> {
        if after.is_none() {
            // Before the first of them: what changes from now on is for the next time.
            lock(&self.interest).rights = false;
        }
        let followers: Vec<TreeId> = lock(&self.live).followers().collect();
        let begin = after.map_or(0, |after| followers.partition_point(|tree| *tree <= after));
        let some: Vec<TreeId> = followers.into_iter().skip(begin).take(LOOKS_MAX).collect();
        self.check(&some);
        some.last().copied().filter(|_| some.len() == LOOKS_MAX)
    }

    /// Looks at everything that is followed, on either side, since it may not be wanted any more, or is again. Runs on a
    /// thread that may block.
    fn look_at_wishes(&self) -> Result<(), SyncError> {
        let followers: Vec<TreeId> = lock(&self.live).followers().collect();
        self.check(&followers);
        // Who has dialled knows by itself what it follows.
        if self.context.serving {
            self.leave_all(|tree| !self.is_wanted(tree));
            let new = followers.into_iter().filter(|tree| !lock(&self.live).follows(tree));
            new.collect::<Vec<_>>().into_iter().try_for_each(|tree| self.follow_back(tree))?;
        }
        Ok(())
    }

    /// Whether what comes to a database is to be told at once, as far as this side goes.
    fn is_wanted(&self, tree: &TreeId) -> bool {
        self.context.access.wish(tree).is_some_and(|wish| wish.on_commit)
    }

    /// The rights of the other side. In a database that does not take part here there are none, whoever has dialled.
    fn rights_of(&self, trees: &[TreeId]) -> Vec<Rights> {
        let mut rights = self.context.rights_of(trees);
        if !self.context.serving {
            let here = self.context.access.trees();
            let away = trees.iter().zip(&mut rights).filter(|(tree, _)| !here.contains(tree));
            away.for_each(|(_, rights)| *rights = Rights::default());
        }
        rights
    }

    /// Looks whether followers may still read.
    fn check(&self, followers: &[TreeId]) {
        let mut is_left = false;
        for (tree, rights) in followers.iter().zip(self.rights_of(followers)) {
            let mut live = lock(&self.live);
            live.check(tree, rights);
            is_left |= !live.is_followed(tree);
        }
        if is_left {
            self.let_go();
        }
        if lock(&self.live).has_words() {
            self.words.raise();
        }
    }

    /// Admits what arrives, one push after another.
    async fn take_all(self: &Arc<Self>) -> Result<(), SyncError> {
        loop {
            let seen = self.arrived.seen();
            if self.is_ended() {
                return Ok(());
            }
            let next = lock(&self.live).next_taken();
            match next {
                Some((tree, entries)) => self.blocking(move |links| links.take(tree, entries)).await?,
                None => self.arrived.after(seen).await,
            }
        }
    }

    /// Runs on a thread that may block.
    fn take(&self, tree: TreeId, entries: Vec<Arrived>) -> Result<(), SyncError> {
        let Rights { push, .. } = self.context.rights(&tree);
        // Every entry proves itself: who dials takes from whomever it dials.
        let outcomes = if push || !self.context.serving {
            let offer = |entry: Arrived| Offer { block: entry.block, payloads: entry.payloads };
            let offers = entries.into_iter().map(offer).collect();
            let prepared = self.context.store.prepare(tree, offers)?;
            let admission = self.context.store.admit(prepared)?;
            Some(admission.verdicts.into_iter().map(outcome).collect::<Vec<Outcome>>())
        } else {
            None
        };
        let events = {
            let mut live = lock(&self.live);
            live.handle_taken(outcomes.as_deref());
            self.hold(&live);
            std::iter::from_fn(|| live.poll_event()).collect()
        };
        self.words.raise();
        self.learnt.raise();
        self.context.note_conduct(outcomes.as_deref().unwrap_or_default())?;
        if let Some(outcomes) = outcomes {
            let count =
                |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count() as u64;
            self.publisher.publish(&SyncEvent::Arrived {
                peer: self.context.peer,
                tree,
                admitted: count(|outcome| matches!(outcome, Outcome::Admitted(_))),
                duplicates: count(|outcome| matches!(outcome, Outcome::Duplicate(_))),
                refused: count(|outcome| matches!(outcome, Outcome::Refused(_))),
            });
        }
        self.tell(events)
    }

    /// The side that was dialled follows what it is followed in, once no session is under way that will say from where.
    async fn answer_followers(self: &Arc<Self>) -> Result<(), SyncError> {
        loop {
            let seen = self.happened.seen();
            if self.is_ended() {
                return Ok(());
            }
            if self.answering.load(Ordering::SeqCst) > 0 {
                self.happened.after(seen).await;
                continue;
            }
            let again = lock(&self.again).pop_first();
            let next = again.map(LiveEvent::Followed).or_else(|| self.next_event());
            match next {
                // Also what is followed already: the other side may have given up telling before the session.
                Some(LiveEvent::Followed(tree)) => {
                    self.blocking(move |links| links.follow_back(tree)).await?;
                }
                // It is followed in nothing else than what it follows itself.
                Some(LiveEvent::Left(tree)) => self.leave_all(|one| *one == tree && !self.is_followed(one)),
                Some(LiveEvent::InStep(_) | LiveEvent::Behind(_) | LiveEvent::Ended(..)) => {}
                None => self.happened.after(seen).await,
            }
        }
    }

    /// Follows what is followed, where that is wanted. Runs on a thread that may block.
    fn follow_back(&self, tree: TreeId) -> Result<(), SyncError> {
        if self.context.rights(&tree).push && self.is_wanted(&tree) {
            // What came without a session counts too.
            self.record()?;
            let known = self.context.relations.load(&self.context.peer, &tree)?;
            self.follow(tree, known.theirs);
        }
        Ok(())
    }

    /// Remembers what is learnt, a while after the first of it: what comes in between is remembered with it.
    async fn keep_learnt(self: &Arc<Self>) -> Result<(), SyncError> {
        let relations = &self.context.relations;
        loop {
            let (seen, awaited) = (self.learnt.seen(), relations.awaited().seen());
            if self.is_ended() {
                return Ok(());
            }
            if !lock(&self.live).has_learnt() {
                self.learnt.after(seen).await;
                continue;
            }
            if relations.is_awaited() {
                self.context.runtime.sleep(LEARNT_SOON_MS).await;
            } else {
                within(&*self.context.runtime, LEARNT_MS, relations.awaited().after(awaited)).await;
            }
            self.blocking(Self::record).await?;
        }
    }

    /// Remembers what was learnt. Runs on a thread that may block.
    pub(crate) fn record(&self) -> Result<(), SyncError> {
        let learnt: BTreeMap<TreeId, Known> = lock(&self.live).take_learnt();
        for (tree, known) in learnt {
            self.context.remember(&tree, known)?;
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, SyncError> + Send + 'static,
    ) -> Result<T, SyncError> {
        let links = Arc::clone(self);
        blocking(&*self.context.runtime, move || work(&links)).await.ok_or(SyncError::Stopped)?
    }

    async fn deadline<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = T> + Send,
    ) -> Result<T, SyncError> {
        let ms = IDLE_MS;
        within(&*self.context.runtime, ms, work).await.ok_or(SyncError::TimedOut { what, ms })
    }
}

/// Why the wait for something to push is over.
enum Woken {
    Changed,
    Waited,
    Looks,
}

impl fmt::Debug for LiveLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveLinks")
            .field("peer", &self.context.peer)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}
