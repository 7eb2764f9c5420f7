//! The one loop that drives a session: between a link, the protocol and the store, for both roles and every
//! transport.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Waking, Poll};

use bytes::Bytes;
use eid_core::dag::{Dag, Epoch, Logged, Named, Replica, Seq};
use eid_core::sabotage::{self, Sabotage};
use eid_core::sketch::Sketch;
use eid_core::{EntryId, Permission, PublicKey, ReadError, Refusal, TreeId};
use eid_proto::{Arrived, Known, Outcome, Output, RefusalCode, Rights, Session, SessionError, Summary};
use eid_store::{Admission, EntryStore, Offer, Prepared, StoreError, Verdict};
use eid_transport::{BoxFuture, Link, LinkBytes, LinkError, Received};

use crate::access::Access;
use crate::bucket::Pace;
use crate::conduct::Conduct;
use crate::error::SyncError;
use crate::gaps::Gaps;
use crate::hub::Hub;
use crate::limits::{
    BURST_BYTES, FRAME_MS, IDLE_MS, MEMORY_LOOK_MS, POLLS_MAX, PREPARED_MAX, RIGHTS_MS, SABOTAGE_MS,
    SESSIONS_MAX, TOGETHER_BYTES_MAX, TURN_BYTES_PER_SECOND_MIN,
};
use crate::memory::{Held, Memory};
use crate::peers::Peers;
use crate::place::Place;
use crate::progress::Meter;
use crate::relations::Relations;
use crate::runtime::{Runtime, blocking, within};

/// What a session is driven with.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) store: Arc<EntryStore>,
    pub(crate) access: Arc<dyn Access>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) relations: Relations,
    pub(crate) peers: Peers,
    /// The peer's device key.
    pub(crate) peer: PublicKey,
    /// Every key that the peer has proven, the device key among them.
    pub(crate) keys: Arc<[PublicKey]>,
    /// Whether the peer asks and this side answers: then only databases that take part are served.
    pub(crate) serving: bool,
    /// What peers were asked for in vain.
    pub(crate) gaps: Arc<Gaps>,
    /// Both sides read compressed batches.
    pub(crate) compresses: bool,
    /// Is set when a session has much to do.
    pub(crate) is_large: Arc<AtomicBool>,
    /// How many sessions are served.
    pub(crate) sessions: Arc<AtomicUsize>,
    /// What all sessions have taken in and not stored.
    pub(crate) memory: Arc<Memory>,
    /// How peers have behaved.
    pub(crate) conduct: Arc<Mutex<Conduct>>,
    /// Is told what comes from a peer.
    pub(crate) hub: Arc<Hub>,
}

impl Context {
    /// What the peer may do in a database, by the settings of this moment.
    pub(crate) fn rights(&self, tree: &TreeId) -> Rights {
        if !self.serving {
            return self.rights_in(tree);
        }
        let served = self.access.trees();
        self.rights_if(served.contains(tree), tree, served.first())
    }

    /// Takes note of invalid entries that the peer has brought.
    ///
    /// # Errors
    /// When these were too many.
    pub(crate) fn note_conduct(&self, outcomes: &[Outcome]) -> Result<(), SyncError> {
        let is_invalid = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(Refusal::Invalid(_)));
        let invalid = outcomes.iter().filter(is_invalid).count() as u64;
        if invalid > 0 {
            let mut conduct = self.conduct.lock().unwrap_or_else(PoisonError::into_inner);
            if conduct.brought_invalid(&self.peer, invalid, self.runtime.now_ms()) {
                return Err(SyncError::Invalid);
            }
        }
        Ok(())
    }

    /// What the peer may do in several databases; those that take part are listed once.
    pub(crate) fn rights_of(&self, trees: &[TreeId]) -> Vec<Rights> {
        if !self.serving {
            return trees.iter().map(|tree| self.rights_in(tree)).collect();
        }
        let served: BTreeSet<TreeId> = self.access.trees().into_iter().collect();
        trees.iter().map(|tree| self.rights_if(served.contains(tree), tree, served.first())).collect()
    }

    /// The same when it is known whether the database takes part. For one that does not, the rights in another are looked
    /// up and not told: how long an answer takes says nothing of what is here.
    pub(crate) fn rights_if(&self, takes_part: bool, tree: &TreeId, another: Option<&TreeId>) -> Rights {
        let looked_up = if takes_part { Some(tree) } else { another };
        let rights = looked_up.map_or_else(Rights::default, |tree| self.rights_in(tree));
        if takes_part { rights } else { Rights::default() }
    }

    pub(crate) fn is_away(&self) -> bool {
        let conduct = self.conduct.lock().unwrap_or_else(PoisonError::into_inner);
        conduct.is_away(&self.peer, self.runtime.now_ms())
    }

    /// What the keys of the peer are given; nothing while it is blocked.
    pub(crate) fn permission(&self, tree: &TreeId) -> Option<Permission> {
        if self.peers.is_blocked(&self.peer) {
            return None;
        }
        self.access.permission(tree, &self.keys)
    }

    /// Remembers what the peer and this side know of each other.
    pub(crate) fn remember(&self, tree: &TreeId, known: Known) -> Result<(), SyncError> {
        if self.serving && !self.peers.has_place(&self.peer, self.runtime.now_ms())? {
            return Ok(());
        }
        Ok(self.relations.record(&self.peer, tree, known)?)
    }

    /// The same for a database that takes part.
    pub(crate) fn rights_in(&self, tree: &TreeId) -> Rights {
        let permission = self.permission(tree);
        // Admission judges each entry, not who brings it: any right will do to bring the work of others.
        Rights { read: permission >= Some(Permission::Read), push: permission.is_some() }
    }
}

/// What a session has come to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) tree: Option<TreeId>,
    pub(crate) summary: Summary,
}

/// Drives a session to its end, and tells in any case how far it got.
pub(crate) async fn drive(
    session: Session,
    link: &mut dyn Link,
    context: &Context,
    meter: &mut Meter,
) -> (Option<Done>, Result<(), SyncError>) {
    let mut driver = Driver {
        session: Some(session.duplex(link.is_duplex()).compressing(context.compresses)),
        served: None,
        context,
        admitter: Admitter::default(),
        recorded: Known::default(),
        held: VecDeque::new(),
        pace: None,
        watch: Watch::default(),
        meter,
        bytes: link.bytes(),
        handed: 0,
    };
    let mut result = driver.run(link).await;
    // What has arrived whole is admitted, however the link ended.
    let drained = driver.drain().await;
    if result.is_ok() {
        result = drained;
    }
    if let Err(error) = driver.record().await
        && result.is_ok()
    {
        result = Err(error);
    }
    if result.is_ok() {
        result = driver.note_gap().await;
    }
    driver.bytes = link.bytes();
    let done = driver.done();
    if let Some(done) = &done {
        driver.meter.end(done.tree, &done.summary, driver.bytes, context.runtime.now_ms());
    }
    (done, result)
}

struct Driver<'a> {
    /// Away only while it is polled on a blocking thread.
    session: Option<Session>,
    /// Among the sessions that are served.
    served: Option<Served>,
    context: &'a Context,
    admitter: Admitter,
    recorded: Known,
    /// What the batches take up that were handed over for admission.
    held: VecDeque<Held>,
    /// Of the other side, once it has said something in its turn.
    pace: Option<Pace>,
    watch: Watch,
    /// Tells how far the session is.
    meter: &'a mut Meter,
    /// What had gone over the link when that was looked at.
    bytes: LinkBytes,
    /// Entries in the frames that the link has taken: the session counts those that it has given out.
    handed: u64,
}

/// A session of a peer that has a right.
struct Served {
    _place: Place,
    /// It was to have entries.
    reads: bool,
}

/// Looks every now and then whether a peer that is served still has its right, also while it says nothing or takes
/// nothing.
#[derive(Default)]
struct Watch {
    looking: Option<BoxFuture<'static, bool>>,
    /// At the last look it might not.
    lost: bool,
}

impl Watch {
    /// Ready when the right was gone at two looks, one after the other: in between the peer can end its turn, and is told.
    fn poll(
        &mut self,
        cx: &mut Waking<'_>,
        context: &Context,
        served: Option<(TreeId, bool)>,
    ) -> Poll<SyncError> {
        let Some((tree, reads)) = served else { return Poll::Pending };
        loop {
            let looking = self.looking.get_or_insert_with(|| look(context.clone(), tree, reads));
            let Poll::Ready(may_go_on) = looking.as_mut().poll(cx) else { return Poll::Pending };
            self.looking = None;
            if self.lost && !may_go_on {
                return Poll::Ready(SessionError::Denied(RefusalCode::Unavailable).into());
            }
            self.lost = !may_go_on;
        }
    }
}

fn look(context: Context, tree: TreeId, reads: bool) -> BoxFuture<'static, bool> {
    Box::pin(async move {
        context.runtime.sleep(RIGHTS_MS).await;
        let runtime = Arc::clone(&context.runtime);
        let may_go_on = move || {
            let rights = context.rights(&tree);
            rights.read || (rights.push && !reads) || sabotage::is(Sabotage::ServeWithoutRight)
        };
        blocking(&*runtime, may_go_on).await.unwrap_or(false)
    })
}

/// What one piece of blocking work came to.
struct Burst {
    frames: Vec<Frame>,
    next: Option<Output>,
}

struct Frame {
    bytes: Bytes,
    /// Entries that the session has given out with it.
    pushed: u64,
}

impl Driver<'_> {
    async fn run(&mut self, link: &mut dyn Link) -> Result<(), SyncError> {
        let runtime = &*self.context.runtime;
        loop {
            self.bytes = link.bytes();
            self.look();
            let burst = self.burst().await?;
            for frame in burst.frames {
                self.look();
                self.deadline("sending a frame", link.send(frame.bytes)).await?;
                (self.handed, self.bytes) = (frame.pushed, link.bytes());
                self.hear(link).await?;
            }
            match burst.next {
                Some(Output::EndTurn) => {
                    self.deadline("ending a turn", link.end_turn()).await?;
                    self.pace = None;
                    self.record().await?;
                }
                Some(Output::Aside(frame)) => {
                    self.deadline("sending a frame", link.send_aside(frame)).await?;
                }
                Some(Output::Admit(entries)) => self.admit(entries)?,
                Some(Output::NeedFrame) => self.receive(link).await?,
                Some(Output::NeedAdmitted) => {
                    let outcomes = self.admitter.next(self.context).await?;
                    self.admitted(&outcomes)?;
                }
                Some(Output::Finished) => return Ok(()),
                Some(Output::Send(_) | Output::Again) | None => runtime.sleep(0).await,
            }
        }
    }

    /// Takes what the other side has said aside by now, and waits for nothing.
    async fn hear(&mut self, link: &mut dyn Link) -> Result<(), SyncError> {
        while link.is_duplex() {
            let mut recv = link.recv();
            let polled = poll_fn(|cx| Poll::Ready(recv.as_mut().poll(cx))).await;
            drop(recv);
            let Poll::Ready(received) = polled else { break };
            self.received(received?)?;
        }
        Ok(())
    }

    /// Tells how far the session is, now and then.
    fn look(&mut self) {
        if let Some(done) = self.done() {
            let now_ms = self.context.runtime.now_ms();
            self.meter.look(done.tree, &done.summary, self.bytes, now_ms);
        }
    }

    fn done(&self) -> Option<Done> {
        let session = self.session.as_ref()?;
        Some(Done { tree: session.tree(), summary: Summary { pushed: self.handed, ..session.summary() } })
    }

    fn session(&mut self) -> Result<&mut Session, SyncError> {
        self.session.as_mut().ok_or(SyncError::Stopped)
    }

    /// The database, while a peer is served, and whether it is to have entries.
    fn served(&self) -> Option<(TreeId, bool)> {
        let tree = self.session.as_ref().and_then(Session::tree);
        tree.zip(self.served.as_ref().map(|served| served.reads))
    }

    /// Sends within the deadline, and for as long as the peer has its right.
    async fn deadline(
        &mut self,
        what: &'static str,
        mut sending: BoxFuture<'_, Result<(), LinkError>>,
    ) -> Result<(), SyncError> {
        let (served, context, watch) = (self.served(), self.context, &mut self.watch);
        let sending = poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(sent) => Poll::Ready(sent.map_err(SyncError::from)),
            Poll::Pending => watch.poll(cx, context, served).map(Err),
        });
        let ms = FRAME_MS;
        within(&*self.context.runtime, ms, sending).await.ok_or(SyncError::TimedOut { what, ms })?
    }

    /// Polls the session on a blocking thread, on one snapshot, until it waits for something or has enough to send.
    async fn burst(&mut self) -> Result<Burst, SyncError> {
        let mut session = self.session.take().ok_or(SyncError::Stopped)?;
        let mut served = self.served.take();
        let context = self.context.clone();
        let work = move || {
            let result = burst(&mut session, &mut served, &context);
            (session, served, result)
        };
        let (session, served, result) =
            blocking(&*self.context.runtime, work).await.ok_or(SyncError::Stopped)?;
        self.session = Some(session);
        self.served = served;
        result
    }

    /// Hands a batch over for admission.
    fn admit(&mut self, entries: Vec<Arrived>) -> Result<(), SyncError> {
        let tree = self.session()?.tree().ok_or(SyncError::Stopped)?;
        let bytes = entries.iter().map(Arrived::bytes_len).sum();
        self.held.push_back(Memory::hold(&self.context.memory, bytes));
        if sabotage::is(Sabotage::AckBeforeCommit) {
            let outcomes = vec![Outcome::Admitted(Seq(0)); entries.len()];
            self.session()?.handle_admitted(&outcomes);
        }
        let ids = || entries.iter().map(|entry| EntryId::of_block(&entry.block)).collect();
        self.context.hub.came_from(&self.context.peer, &tree, ids);
        let offers =
            entries.into_iter().map(|entry| Offer { block: entry.block, payloads: entry.payloads }).collect();
        self.admitter.push(tree, offers);
        Ok(())
    }

    /// Takes the verdicts of the oldest batch that was handed over.
    fn admitted(&mut self, outcomes: &[Outcome]) -> Result<(), SyncError> {
        self.held.pop_front();
        self.session()?.handle_admitted(outcomes);
        self.look();
        self.context.note_conduct(outcomes)
    }

    /// Waits until there is room for what the other side says, while batches that have arrived become durable.
    async fn room(&mut self) -> Result<(), SyncError> {
        let context = self.context;
        let began = context.runtime.now_ms();
        while context.memory.is_full() {
            let served = self.served();
            let (admitter, watch) = (&mut self.admitter, &mut self.watch);
            let mut look = context.runtime.sleep(MEMORY_LOOK_MS);
            let outcomes = poll_fn(|cx| {
                if let Poll::Ready(outcomes) = admitter.poll(cx, context) {
                    return Poll::Ready(outcomes.map(Some));
                }
                if let Poll::Ready(error) = watch.poll(cx, context, served) {
                    return Poll::Ready(Err(error));
                }
                look.as_mut().poll(cx).map(|()| Ok(None))
            })
            .await?;
            if let Some(outcomes) = outcomes {
                self.admitted(&outcomes)?;
            }
        }
        if let Some(pace) = &mut self.pace {
            pace.pause(context.runtime.now_ms().saturating_sub(began));
        }
        Ok(())
    }

    /// Waits for the other side's next word, while batches that have arrived become durable.
    async fn receive(&mut self, link: &mut dyn Link) -> Result<(), SyncError> {
        self.room().await?;
        let runtime = &*self.context.runtime;
        let (ms, what) = match &self.pace {
            Some(pace) => (pace.left_ms(runtime.now_ms()), "the next frame"),
            None => (IDLE_MS, "a turn"),
        };
        let served = self.served();
        let received = {
            let mut recv = link.recv();
            let mut clock = runtime.sleep(ms);
            loop {
                let (admitter, watch) = (&mut self.admitter, &mut self.watch);
                let context = self.context;
                let event = poll_fn(|cx| {
                    if let Poll::Ready(received) = recv.as_mut().poll(cx) {
                        return Poll::Ready(Event::Received(received));
                    }
                    if let Poll::Ready(outcomes) = admitter.poll(cx, context) {
                        return Poll::Ready(Event::Admitted(outcomes));
                    }
                    if let Poll::Ready(error) = watch.poll(cx, context, served) {
                        return Poll::Ready(Event::Denied(error));
                    }
                    clock.as_mut().poll(cx).map(|()| Event::TimedOut)
                })
                .await;
                match event {
                    Event::Received(received) => break received?,
                    Event::Admitted(outcomes) => {
                        self.admitted(&outcomes?)?;
                        if self.session()?.has_aside() {
                            return Ok(());
                        }
                    }
                    Event::Denied(error) => return Err(error),
                    Event::TimedOut => return Err(SyncError::TimedOut { what, ms }),
                }
            }
        };
        self.received(received)
    }

    fn received(&mut self, received: Received) -> Result<(), SyncError> {
        let now_ms = self.context.runtime.now_ms();
        let begins = || Pace::new(FRAME_MS, TURN_BYTES_PER_SECOND_MIN, now_ms);
        match received {
            Received::Frame(frame) => {
                self.pace.get_or_insert_with(begins).count(frame.len());
                self.session()?.handle_frame(&frame)?;
            }
            Received::Aside(frame) => self.session()?.handle_aside(&frame)?,
            Received::EndOfTurn => self.session()?.handle_end_of_turn()?,
            Received::Closed => return Err(LinkError::Closed.into()),
        }
        Ok(())
    }

    /// Finishes what was handed over for admission.
    async fn drain(&mut self) -> Result<(), SyncError> {
        // Batches that were never handed out are in the session, and were not acknowledged.
        while self.session.is_some() && !self.admitter.is_idle() {
            let outcomes = self.admitter.next(self.context).await?;
            self.admitted(&outcomes)?;
        }
        Ok(())
    }

    /// Remembers what the session has learnt since the last time.
    async fn record(&mut self) -> Result<(), SyncError> {
        let Some(session) = &self.session else { return Ok(()) };
        let (known, tree) = (session.known(), session.tree());
        let Some(tree) = tree.filter(|_| known != self.recorded) else { return Ok(()) };
        self.recorded = known;
        let context = self.context.clone();
        let work = move || context.remember(&tree, known);
        blocking(&*self.context.runtime, work).await.ok_or(SyncError::Stopped)?
    }

    /// Takes note of payloads that the peer does not have either.
    async fn note_gap(&mut self) -> Result<(), SyncError> {
        let Some(session) = &self.session else { return Ok(()) };
        let summary = session.summary();
        let Some(tree) = session.tree().filter(|_| summary.complete) else { return Ok(()) };
        let context = self.context.clone();
        let work = move || -> Result<(), StoreError> {
            if let Some(snapshot) = context.store.tree(&tree)? {
                context.gaps.note(&context.peer, &snapshot, &summary);
            }
            Ok(())
        };
        Ok(blocking(&*self.context.runtime, work).await.ok_or(SyncError::Stopped)??)
    }
}

enum Event {
    Received(Result<Received, LinkError>),
    Admitted(Result<Vec<Outcome>, SyncError>),
    Denied(SyncError),
    TimedOut,
}

/// One snapshot, a few polls, and a look at the rights for each frame.
fn burst(session: &mut Session, served: &mut Option<Served>, context: &Context) -> Result<Burst, SyncError> {
    let tree = session.tree();
    let look = || tree.map_or_else(Rights::default, |tree| context.rights(&tree));
    let mut rights = look();
    let is_shown = !context.serving || rights.any() || sabotage::is(Sabotage::ServeWithoutRight);
    // For who has no right, nothing more is opened of a database that is here than of one that is not.
    let snapshot = match tree.filter(|_| is_shown) {
        Some(tree) => context.store.tree(&tree)?,
        None => None,
    };
    // What is said of this side must hold after a crash: the other side remembers positions and what is held.
    context.store.flush()?;
    let nothing = Nothing(context.store.epoch());
    let replica: &dyn Replica = match &snapshot {
        Some(snapshot) => {
            session.has_asked(context.gaps.asked(&context.peer, snapshot));
            snapshot
        }
        None => &nothing,
    };
    if context.serving && context.is_away() {
        session.turn_away(RefusalCode::Busy);
    }
    // Only who has a right takes up a place: strangers could otherwise hold them all with openings that never end.
    if context.serving && rights.any() && served.is_none() {
        *served = Place::take(&context.sessions, SESSIONS_MAX)
            .map(|place| Served { _place: place, reads: rights.read });
        if served.is_none() {
            session.turn_away(RefusalCode::Busy);
        }
        if let Some(tree) = tree.filter(|_| session.starts_over()) {
            context.relations.start_over(&context.peer, &tree)?;
        }
    }
    let (mut frames, mut bytes) = (Vec::new(), 0);
    for _ in 0..POLLS_MAX {
        match session.poll(replica, rights)? {
            Output::Send(frame) => {
                bytes += frame.len();
                frames.push(Frame { bytes: frame, pushed: session.summary().pushed });
                if bytes >= BURST_BYTES {
                    break;
                }
                rights = look();
            }
            Output::Again => {}
            next => return Ok(Burst { frames, next: Some(next) }),
        }
    }
    Ok(Burst { frames, next: None })
}

/// A database of which nothing is held.
#[derive(Debug)]
pub(crate) struct Nothing(pub(crate) Epoch);

impl Dag for Nothing {
    fn parents(&self, _: Seq, _: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        Ok(Vec::new())
    }
}

impl Replica for Nothing {
    fn epoch(&self) -> Epoch {
        self.0
    }

    fn end(&self) -> Seq {
        Seq(0)
    }

    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(Vec::new())
    }

    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(vec![None; ids.len()])
    }

    fn find_prefixes(&self, prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(vec![None; prefixes.len()])
    }

    fn named(&self, _: Seq, _: usize) -> Result<Vec<Named>, ReadError> {
        Ok(Vec::new())
    }

    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        Ok(None)
    }

    fn log(&self, _: std::ops::Range<Seq>, _: usize) -> Result<Vec<Logged>, ReadError> {
        Ok(Vec::new())
    }
}

/// Work on a blocking thread; nothing where that was stopped.
type Working<T> = BoxFuture<'static, Option<Result<T, StoreError>>>;

/// Admits batches in their order: the signatures of one are verified while those before become durable, with one flush for
/// all that were verified meanwhile.
#[derive(Default)]
struct Admitter {
    queue: VecDeque<(TreeId, Vec<Offer>)>,
    preparing: Option<Working<Prepared>>,
    prepared: VecDeque<Prepared>,
    committing: Option<Working<Vec<Admission>>>,
    /// Of batches that are durable, and were not handed out.
    verdicts: VecDeque<Vec<Outcome>>,
}

impl Admitter {
    fn push(&mut self, tree: TreeId, offers: Vec<Offer>) {
        self.queue.push_back((tree, offers));
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.preparing.is_none()
            && self.prepared.is_empty()
            && self.committing.is_none()
            && self.verdicts.is_empty()
    }

    /// The verdicts of the oldest batch, once it is durable.
    async fn next(&mut self, context: &Context) -> Result<Vec<Outcome>, SyncError> {
        if self.is_idle() {
            return Err(SyncError::Stopped);
        }
        poll_fn(|cx| self.poll(cx, context)).await
    }

    /// Moves both stages on. Pending when there is nothing to admit.
    fn poll(&mut self, cx: &mut Waking<'_>, context: &Context) -> Poll<Result<Vec<Outcome>, SyncError>> {
        loop {
            if let Some(committing) = &mut self.committing
                && let Poll::Ready(admissions) = committing.as_mut().poll(cx)
            {
                self.committing = None;
                match admissions.ok_or(SyncError::Stopped).and_then(|done| Ok(done?)) {
                    Ok(admissions) => self.verdicts.extend(admissions.into_iter().map(outcomes)),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if let Some(preparing) = &mut self.preparing
                && let Poll::Ready(prepared) = preparing.as_mut().poll(cx)
            {
                self.preparing = None;
                match prepared {
                    Some(Ok(prepared)) => self.prepared.push_back(prepared),
                    Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    None => return Poll::Ready(Err(SyncError::Stopped)),
                }
            }
            if self.committing.is_none() && !self.prepared.is_empty() {
                self.committing = Some(commit(context, self.together()));
                continue;
            }
            if self.preparing.is_none()
                && self.prepared.len() < PREPARED_MAX
                && let Some((tree, offers)) = self.queue.pop_front()
            {
                let store = Arc::clone(&context.store);
                self.preparing = Some(blocking(&*context.runtime, move || store.prepare(tree, offers)));
                continue;
            }
            return self.verdicts.pop_front().map_or(Poll::Pending, |outcomes| Poll::Ready(Ok(outcomes)));
        }
    }

    /// Takes batches that go through the door together.
    fn together(&mut self) -> Vec<Prepared> {
        let mut bytes = 0;
        let fits = |prepared: &&Prepared| {
            bytes += prepared.bytes_len();
            bytes <= TOGETHER_BYTES_MAX
        };
        let count = self.prepared.iter().take_while(fits).count();
        self.prepared.drain(..count.max(1)).collect()
    }
}

fn commit(context: &Context, prepared: Vec<Prepared>) -> Working<Vec<Admission>> {
    let (store, runtime) = (Arc::clone(&context.store), Arc::clone(&context.runtime));
    Box::pin(async move {
        if sabotage::is(Sabotage::AckBeforeCommit) {
            runtime.sleep(SABOTAGE_MS).await;
        }
        blocking(&*runtime, move || store.admit_all(prepared)).await
    })
}

fn outcomes(admission: Admission) -> Vec<Outcome> {
    admission.verdicts.into_iter().map(outcome).collect()
}

pub(crate) fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Admitted(seq) => Outcome::Admitted(seq),
        Verdict::Duplicate(seq) => Outcome::Duplicate(seq),
        Verdict::Refused(refusal) => Outcome::Refused(refusal),
    }
}
