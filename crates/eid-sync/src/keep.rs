//! Keeping databases in step with a peer: a connection that is dialled again when it is lost, sessions about what differs,
//! and from then on what comes as it comes. What is due when is decided by [`Schedule`]; here it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use eid_core::{PublicKey, SecretKey, TreeId};
use eid_proto::{LiveEvent, RefusalCode};
use eid_store::{Admitted, EntryStore, Watch};
use eid_transport::{Address, BoxFuture, LinkError};

use crate::access::Wish;
use crate::engine::{Inner, Peer, SyncEngine, chain};
use crate::error::SyncError;
use crate::live::LiveLinks;
use crate::many::{Ended, Found, Many};
use crate::runtime::{Runtime, blocking};
use crate::schedule::{Action, Schedule};
use crate::signal::{Signal, first_of};
use crate::status::SyncFailure;

/// How far keeping in step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepState {
    /// The peer is being dialled.
    Connecting,
    /// Sessions bring what each side lacks.
    CatchingUp,
    /// Nothing is under way or due: the peer tells what comes to it, in every database of which that is wanted.
    InStep,
    /// There is no connection: nothing was under way or due, and nothing needs one before a later time.
    Resting,
    /// There is no connection: it failed, or left something undone, and is tried again after a while.
    Waiting,
    /// It was ended.
    Stopped,
}

/// Keeps databases in step with a peer until the last clone is dropped.
#[derive(Clone)]
pub struct SyncHandle {
    held: Arc<Held>,
}

/// Ends the task when it is dropped.
struct Held {
    engine: Weak<Inner>,
    shared: Arc<Keeping>,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.shared.notes).stops = true;
        self.shared.noted.raise();
    }
}

/// What a task that keeps databases in step and everybody else know of each other.
pub(crate) struct Keeping {
    addresses: Mutex<Vec<Address>>,
    expected: Option<PublicKey>,
    tree: Option<TreeId>,
    kept: Mutex<Kept>,
    /// What is known has changed.
    changed: Signal,
    notes: Mutex<Notes>,
    /// There are notes for the task.
    noted: Signal,
    links: Mutex<Option<Arc<LiveLinks>>>,
}

/// What the task is to take note of.
#[derive(Debug, Default)]
struct Notes {
    stops: bool,
    /// The peer gave a sign of life, or there is another way to it.
    seen: bool,
    /// Everything is to be tried now.
    hurry: bool,
    /// How databases are to be synchronised may have changed.
    wishes: bool,
}

/// What is known of a task that keeps databases in step.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) state: KeepState,
    /// Everything was in step once.
    was_in_step: bool,
    pub(crate) peer: Option<PublicKey>,
    pub(crate) last_sync_ms: Option<u64>,
    pub(crate) last_error: Option<SyncFailure>,
    /// Attempts that failed, one after another.
    pub(crate) in_vain: u32,
    /// When the peer is dialled next, by the wall clock.
    pub(crate) next_attempt_ms: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeping {
    /// What is known at this moment.
    pub(crate) fn kept(&self) -> Kept {
        lock(&self.kept).clone()
    }

    /// The peer, as far as it is known: it was met, or nobody else is let in.
    pub(crate) fn peer(&self) -> Option<PublicKey> {
        self.expected.or(lock(&self.kept).peer)
    }

    /// The one database, when it is not all of them.
    pub(crate) fn tree(&self) -> Option<TreeId> {
        self.tree
    }

    fn note(&self, write: impl FnOnce(&mut Notes)) {
        write(&mut lock(&self.notes));
        self.noted.raise();
    }

    /// The peer gave a sign of life.
    pub(crate) fn seen(&self) {
        self.note(|notes| notes.seen = true);
    }

    /// Everything is to be tried now.
    pub(crate) fn hurry(&self) {
        self.note(|notes| notes.hurry = true);
    }

    /// How databases are to be synchronised may have changed.
    pub(crate) fn wishes_changed(&self) {
        self.note(|notes| notes.wishes = true);
    }

    /// These are the ways to the peer. What has not changed is no news.
    pub(crate) fn set_addresses(&self, addresses: &[Address]) {
        let is_more = {
            let mut known = lock(&self.addresses);
            let is_more = addresses.iter().any(|address| !known.contains(address));
            *known = addresses.to_vec();
            is_more
        };
        if is_more {
            self.seen();
        }
    }
}

impl SyncHandle {
    /// How far it has come.
    #[must_use]
    pub fn state(&self) -> KeepState {
        lock(&self.held.shared.kept).state
    }

    /// What went wrong last; nothing once everything is in step.
    #[must_use]
    pub fn last_error(&self) -> Option<SyncFailure> {
        lock(&self.held.shared.kept).last_error.clone()
    }

    /// When something was last synchronised with the peer, in milliseconds since 1970: a session came to its end, or a
    /// database was found to be equal.
    #[must_use]
    pub fn last_sync_ms(&self) -> Option<u64> {
        lock(&self.held.shared.kept).last_sync_ms
    }

    /// What is known at this moment of the database and the peer; of all databases together where it is not one.
    ///
    /// # Errors
    /// When what is remembered cannot be read, or the engine is gone.
    pub fn status(&self) -> Result<crate::SyncStatus, SyncError> {
        let inner = self.held.engine.upgrade().ok_or(SyncError::Stopped)?;
        SyncEngine { inner }.status_kept(&self.held.shared)
    }

    /// Where the peer is dialled.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        lock(&self.held.shared.addresses).clone()
    }

    /// Dials the peer there too, from now on.
    pub fn add_address(&self, address: &Address) {
        let mut addresses = self.addresses();
        if !addresses.contains(address) {
            addresses.push(address.clone());
            self.held.shared.set_addresses(&addresses);
        }
    }

    /// The database; nothing when it is all that both may see.
    #[must_use]
    pub fn tree_id(&self) -> Option<TreeId> {
        self.held.shared.tree
    }

    /// The key of the peer, once it was met.
    #[must_use]
    pub fn peer_pubkey(&self) -> Option<PublicKey> {
        lock(&self.held.shared.kept).peer
    }

    /// Waits until everything that the peer has is here and it tells what comes to it, for the first time; no longer than it
    /// is given. What keeps it in step goes on after that all the same.
    ///
    /// # Errors
    /// [`SyncError::NotInStep`] when the time is over, with what failed last; [`SyncError::Stopped`] when it was ended
    /// before.
    pub async fn wait_for_initial_sync(&self, within: Duration) -> Result<(), SyncError> {
        let runtime = self.held.engine.upgrade().map(|inner| Arc::clone(&inner.runtime));
        let runtime = runtime.ok_or(SyncError::Stopped)?;
        let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        match crate::runtime::within(&*runtime, ms, self.wait(|kept| kept.was_in_step)).await {
            Some(true) => Ok(()),
            Some(false) => Err(SyncError::Stopped),
            None => Err(SyncError::NotInStep { ms, last_error: self.last_error() }),
        }
    }

    /// Waits until nothing is under way or due. Gives false when it was ended before.
    pub async fn wait_in_step(&self) -> bool {
        self.wait(|kept| matches!(kept.state, KeepState::InStep | KeepState::Resting)).await
    }

    async fn wait(&self, is_there: fn(&Kept) -> bool) -> bool {
        let shared = &self.held.shared;
        loop {
            let seen = shared.changed.seen();
            {
                let kept = lock(&shared.kept);
                if is_there(&kept) || kept.state == KeepState::Stopped {
                    return is_there(&kept);
                }
            }
            shared.changed.after(seen).await;
        }
    }

    pub(crate) fn keeping(&self) -> &Arc<Keeping> {
        &self.held.shared
    }
}

impl fmt::Debug for SyncHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncHandle")
            .field("addresses", &self.addresses())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl SyncEngine {
    /// Keeps one database, or with `None` every one that is to be ([`Access::wish`](crate::Access::wish)) and that the peer
    /// has and may read, in step with whoever answers at one of these addresses ([`Self::connect_to_any`]): what is written
    /// on either side is with the other in milliseconds, or by the period that is wished. A connection that is lost is
    /// dialled again, at another address at once, then later each time and at once when the peer gives a sign of life, for
    /// as long as the result is held and the engine is not stopped. Nobody else than `expected`, if it is said, is told who
    /// this device is.
    #[must_use = "it ends when this is dropped"]
    pub fn keep_in_step(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
        tree: Option<TreeId>,
    ) -> SyncHandle {
        let kept = Kept {
            state: KeepState::Connecting,
            was_in_step: false,
            peer: None,
            last_sync_ms: None,
            last_error: None,
            in_vain: 0,
            next_attempt_ms: None,
        };
        let shared = Arc::new(Keeping {
            addresses: Mutex::new(addresses.to_vec()),
            expected,
            tree,
            kept: Mutex::new(kept),
            changed: Signal::default(),
            notes: Mutex::default(),
            noted: Signal::default(),
            links: Mutex::default(),
        });
        self.inner.keepers.add(&shared);
        let stopped = self.inner.stopped.seen();
        let keeper = Keeper {
            engine: self.clone(),
            shared: Arc::clone(&shared),
            keys: keys.to_vec(),
            proven: Mutex::default(),
        };
        self.inner.runtime.spawn(Box::pin(keeper.run(stopped)));
        SyncHandle { held: Arc::new(Held { engine: Arc::downgrade(&self.inner), shared }) }
    }

    /// How databases are to be synchronised, or who is logged in, has changed: everybody who keeps something in step looks
    /// again.
    pub fn wishes_changed(&self) {
        self.wishes_teller()();
    }

    /// Does the same for as long as there is the engine, without keeping it.
    #[must_use]
    pub fn wishes_teller(&self) -> Box<dyn Fn() + Send + Sync> {
        let inner = Arc::downgrade(&self.inner);
        Box::new(move || {
            if let Some(inner) = inner.upgrade() {
                inner.keepers.wishes_changed();
                inner.hub.wishes_changed();
            }
        })
    }
}

/// The tasks that keep something in step.
#[derive(Default)]
pub(crate) struct Keepers(Mutex<Vec<Weak<Keeping>>>);

impl Keepers {
    /// Has them look again when a database comes to be here.
    pub(crate) fn watch(self: &Arc<Self>, store: &EntryStore) -> Watch {
        let (keepers, known) = (Arc::downgrade(self), Mutex::new(BTreeSet::new()));
        store.on_admitted(Arc::new(move |admitted: &Admitted| {
            if lock(&known).insert(admitted.tree)
                && let Some(keepers) = keepers.upgrade()
            {
                keepers.wishes_changed();
            }
        }))
    }

    fn wishes_changed(&self) {
        self.all().iter().for_each(|keeping| keeping.wishes_changed());
    }

    fn add(&self, keeping: &Arc<Keeping>) {
        let mut all = lock(&self.0);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(keeping));
    }

    pub(crate) fn all(&self) -> Vec<Arc<Keeping>> {
        let all: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|keeping| lock(&keeping.kept).state != KeepState::Stopped).collect()
    }

    /// Those of a peer.
    pub(crate) fn of(&self, peer: &PublicKey) -> Vec<Arc<Keeping>> {
        let mut all = self.all();
        all.retain(|keeping| keeping.peer() == Some(*peer));
        all
    }
}

/// The task behind a handle.
struct Keeper {
    engine: SyncEngine,
    shared: Arc<Keeping>,
    keys: Vec<Arc<SecretKey>>,
    /// Those that were proven when the peer was met last.
    proven: Mutex<BTreeSet<PublicKey>>,
}

/// Why the wait on a connection is over.
enum Woken {
    Happened,
    Found(Action, Result<Found, SyncError>),
    Ended(Box<Ended>),
}

/// A question that the peer is asked.
struct Asking<'a> {
    asked: Action,
    answer: BoxFuture<'a, Result<Found, SyncError>>,
}

impl Keeper {
    async fn run(self, stopped: u64) {
        let runtime = Arc::clone(&self.engine.inner.runtime);
        let engine = self.engine.clone();
        let done = first_of(vec![
            Box::pin(async { self.keep(&*runtime).await }),
            Box::pin(async {
                engine.inner.stopped.after(stopped).await;
                Ok(())
            }),
            Box::pin(async {
                self.given_up().await;
                Ok(())
            }),
        ])
        .await;
        *lock(&self.shared.links) = None;
        self.set(KeepState::Stopped, done.err().as_ref());
    }

    /// Waits until nobody holds the handle any more.
    async fn given_up(&self) {
        loop {
            let seen = self.shared.noted.seen();
            if lock(&self.shared.notes).stops {
                return;
            }
            self.shared.noted.after(seen).await;
        }
    }

    fn set(&self, state: KeepState, error: Option<&SyncError>) {
        let failure = error.map(|error| SyncFailure::of(error, self.engine.inner.runtime.now_ms()));
        let mut kept = lock(&self.shared.kept);
        let is_news = kept.state != state || failure.is_some();
        kept.state = state;
        match state {
            KeepState::InStep | KeepState::Resting => {
                kept.last_error = None;
                kept.was_in_step = true;
                kept.in_vain = 0;
            }
            _ => kept.last_error = failure.or_else(|| kept.last_error.take()),
        }
        if !matches!(state, KeepState::Waiting | KeepState::Resting) {
            // It is under way, or there is none.
            kept.next_attempt_ms = None;
        }
        drop(kept);
        if is_news {
            self.shared.changed.raise();
        }
    }

    /// How databases are to be synchronised at this moment.
    async fn wishes(&self) -> Result<BTreeMap<TreeId, Wish>, SyncError> {
        if let Some(tree) = self.shared.tree {
            return Ok(BTreeMap::from([(tree, Wish::default())]));
        }
        let access = Arc::clone(&self.engine.inner.access);
        let wishes = move || {
            let trees = access.trees().into_iter();
            trees.filter_map(|tree| Some((tree, access.wish(&tree)?))).collect()
        };
        blocking(&*self.engine.inner.runtime, wishes).await.ok_or(SyncError::Stopped)
    }

    /// Takes note of what others have noted. Says whether wishes may have changed, or who is logged in.
    async fn take_notes(&self, schedule: &mut Schedule, runtime: &dyn Runtime) -> Result<bool, SyncError> {
        let Notes { seen, hurry, wishes, .. } = {
            let mut notes = lock(&self.shared.notes);
            let stops = notes.stops;
            std::mem::replace(&mut *notes, Notes { stops, ..Notes::default() })
        };
        let now = runtime.monotonic_ms();
        if wishes || hurry {
            schedule.wish(self.wishes().await?, now);
            let links = lock(&self.shared.links).clone();
            if let Some(links) = links {
                links.leave_all(|tree| !schedule.wish_for(tree).is_some_and(|wish| wish.on_commit));
            }
        }
        if hurry {
            schedule.hurry(now);
        } else if seen {
            schedule.seen(now);
        }
        if seen || hurry {
            let addresses = lock(&self.shared.addresses).clone();
            self.engine.inner.breakers.close(&addresses);
        }
        Ok(wishes)
    }

    /// Connects again and again.
    async fn keep(&self, runtime: &dyn Runtime) -> Result<(), SyncError> {
        let mut random = [0; 8];
        random.copy_from_slice(&runtime.random()[..8]);
        let wishes = self.wishes().await?;
        let mut schedule = Schedule::new(wishes, u64::from_le_bytes(random), runtime.monotonic_ms());
        let (mut lost, mut is_moving) = (None, false);
        loop {
            let noted = self.shared.noted.seen();
            self.take_notes(&mut schedule, runtime).await?;
            let now = runtime.monotonic_ms();
            match schedule.poll(now) {
                Action::Dial => {
                    schedule.wish(self.wishes().await?, now);
                    self.set(KeepState::Connecting, None);
                    let error = match self.meet(lost.as_ref()).await {
                        Ok(peer) => {
                            lost = Some(peer.address().clone());
                            let mut was_useful = false;
                            let done = self.connection(&peer, &mut schedule, runtime, &mut was_useful).await;
                            *lock(&self.shared.links) = None;
                            peer.close().await;
                            let error = match done {
                                Ok(Left::HungUp { is_settled }) => {
                                    // It was left on purpose: it is as good as any other way.
                                    lost = None;
                                    schedule.hung_up();
                                    self.waits(&schedule, runtime);
                                    let rests =
                                        if is_settled { KeepState::Resting } else { KeepState::Waiting };
                                    self.set(rests, None);
                                    continue;
                                }
                                Ok(Left::Lacking) => {
                                    lost = None;
                                    schedule.lacking(runtime.monotonic_ms());
                                    continue;
                                }
                                Ok(Left::Lost) => SyncError::Link(LinkError::Closed),
                                Err(error) => error,
                            };
                            // Where there is another address, it goes on there at once, and waits only when that is lost
                            // too.
                            let others = lock(&self.shared.addresses).len() > 1;
                            is_moving = was_useful && others && !is_moving;
                            schedule.lost(was_useful, is_moving, runtime.monotonic_ms());
                            error
                        }
                        Err(error) => {
                            schedule.failed(runtime.monotonic_ms());
                            error
                        }
                    };
                    tracing::debug!(
                        ?lost,
                        error = chain(&error),
                        "a connection that keeps in step has ended"
                    );
                    self.waits(&schedule, runtime);
                    self.set(KeepState::Waiting, Some(&error));
                }
                Action::Wait(until) => {
                    self.waits(&schedule, runtime);
                    let mut noted = pin!(self.shared.noted.after(noted));
                    let mut due = until.map(|at| runtime.sleep(at.saturating_sub(now)));
                    poll_fn(|cx| match due.as_mut().map(|due| due.as_mut().poll(cx)) {
                        Some(Poll::Ready(())) => Poll::Ready(()),
                        Some(Poll::Pending) | None => noted.as_mut().poll(cx),
                    })
                    .await;
                }
                action => unreachable_without_connection(&action),
            }
        }
    }

    /// Says when the next attempt is.
    fn waits(&self, schedule: &Schedule, runtime: &dyn Runtime) {
        let now = runtime.monotonic_ms();
        let next = schedule.dials_at().map(|at| runtime.now_ms() + at.saturating_sub(now));
        let mut kept = lock(&self.shared.kept);
        (kept.in_vain, kept.next_attempt_ms) = (schedule.in_vain(), next);
    }

    async fn meet(&self, lost: Option<&Address>) -> Result<Peer, SyncError> {
        let mut keys = self.keys_to_prove().await?;
        for key in &self.keys {
            if !keys.iter().any(|other| other.public() == key.public()) {
                keys.push(Arc::clone(key));
            }
        }
        let addresses = lock(&self.shared.addresses).clone();
        let expected = self.shared.expected;
        let _place = self.engine.inner.meetings.acquire().await;
        let peer = self.engine.race_patiently(&addresses, expected, &keys, lost).await?;
        *lock(&self.proven) = keys.iter().map(|key| key.public()).collect();
        Ok(peer)
    }

    /// Keys of users that the peer has to be shown.
    async fn keys_to_prove(&self) -> Result<Vec<Arc<SecretKey>>, SyncError> {
        let (access, tree) = (Arc::clone(&self.engine.inner.access), self.shared.tree);
        let keys = blocking(&*self.engine.inner.runtime, move || access.keys_to_prove(tree.as_ref()));
        keys.await.ok_or(SyncError::Stopped)
    }

    /// One connection, until it is lost or not needed any more.
    async fn connection(
        &self,
        peer: &Peer,
        schedule: &mut Schedule,
        runtime: &dyn Runtime,
        was_useful: &mut bool,
    ) -> Result<Left, SyncError> {
        lock(&self.shared.kept).peer = Some(peer.key());
        self.set(KeepState::CatchingUp, None);
        let links = self.engine.live_links(peer);
        schedule.connected(links.is_some(), runtime.monotonic_ms());
        let Some(links) = links else {
            // It cannot tell what comes to it: it is asked by period, and when something has come here.
            return self.stay(peer, None, schedule, runtime, was_useful).await;
        };
        *lock(&self.shared.links) = Some(Arc::clone(&links));
        let done = first_of::<Result<Left, SyncError>>(vec![
            Box::pin(async {
                self.engine.drive_links(peer, &links).await?;
                Ok(Left::Lost)
            }),
            Box::pin(self.stay(peer, Some(&links), schedule, runtime, was_useful)),
        ])
        .await;
        links.end();
        done
    }

    /// Keeps everything in step over a connection, until that is lost.
    async fn stay(
        &self,
        peer: &Peer,
        links: Option<&Arc<LiveLinks>>,
        schedule: &mut Schedule,
        runtime: &dyn Runtime,
        was_useful: &mut bool,
    ) -> Result<Left, SyncError> {
        let mut many = Many::new(&self.engine, peer);
        let mut asking: Option<Asking<'_>> = None;
        loop {
            let (noted, happened) = (self.shared.noted.seen(), links.map(|links| links.happened().seen()));
            if links.is_some_and(|links| links.is_ended()) {
                return Ok(Left::Lost);
            }
            if self.take_notes(schedule, runtime).await? {
                let keys = self.keys_to_prove().await?;
                if keys.iter().any(|key| !lock(&self.proven).contains(&key.public())) {
                    // Keys are proven when a connection is made.
                    return Ok(Left::Lacking);
                }
            }
            let now = runtime.monotonic_ms();
            if let Some(links) = links {
                take_events(links, schedule, now);
                links.take_others().into_iter().for_each(|tree| schedule.committed(tree, now));
            }
            let until = match schedule.poll(now) {
                Action::Session(tree) => {
                    many.add(tree);
                    continue;
                }
                asked @ (Action::Sweep | Action::Ask(_)) => {
                    if asked == Action::Sweep {
                        // What takes part may have changed without a word.
                        schedule.wish(self.wishes().await?, now);
                    }
                    let answer = self.ask(peer, &asked, schedule);
                    asking = Some(Asking { asked, answer });
                    continue;
                }
                Action::HangUp | Action::Dial => {
                    return Ok(Left::HungUp { is_settled: self.is_settled(schedule, |_| true) });
                }
                Action::Wait(until) => until,
            };
            let tells = |tree: &TreeId| links.is_some_and(|links| links.is_in_step(tree));
            if self.is_settled(schedule, tells) {
                *was_useful = true;
                self.set(KeepState::InStep, None);
            } else {
                self.set(KeepState::CatchingUp, None);
            }
            let mut due = until.map(|at| runtime.sleep(at.saturating_sub(now)));
            let mut noted = pin!(self.shared.noted.after(noted));
            let mut happened = pin!(async {
                match links.zip(happened) {
                    Some((links, seen)) => links.happened().after(seen).await,
                    None => std::future::pending().await,
                }
            });
            let woken = poll_fn(|cx| {
                if let Poll::Ready(Some(ended)) = many.poll_next(cx) {
                    return Poll::Ready(Woken::Ended(Box::new(ended)));
                }
                if let Some(one) = &mut asking
                    && let Poll::Ready(found) = one.answer.as_mut().poll(cx)
                {
                    let asked = std::mem::replace(&mut one.asked, Action::Sweep);
                    asking = None;
                    return Poll::Ready(Woken::Found(asked, found));
                }
                let is_due = due.as_mut().is_some_and(|due| due.as_mut().poll(cx).is_ready());
                if is_due || noted.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Woken::Happened);
                }
                happened.as_mut().poll(cx).map(|()| Woken::Happened)
            })
            .await;
            let now = runtime.monotonic_ms();
            match woken {
                Woken::Happened => {}
                Woken::Found(asked, Ok(found)) => {
                    let equal: Vec<TreeId> = found.equal.iter().filter_map(|report| report.tree).collect();
                    let differing = found.differing.iter().map(|tree| (*tree, true));
                    let shared: Vec<(TreeId, bool)> =
                        differing.chain(equal.iter().map(|tree| (*tree, false))).collect();
                    schedule.answered(&asked, &shared, now);
                    *was_useful = true;
                    if !equal.is_empty() {
                        self.was_synchronised();
                    }
                    for tree in equal {
                        // Asked once more, it would tell what is on its way a second time.
                        if !links.is_some_and(|links| links.is_in_step(&tree)) {
                            self.follow(peer, links, schedule, tree).await?;
                        }
                    }
                }
                Woken::Found(_, Err(error)) if is_of_connection(&error) => return Err(error),
                Woken::Found(_, Err(error)) => {
                    schedule.not_answered(now);
                    self.set(KeepState::CatchingUp, Some(&error));
                }
                Woken::Ended(ended) => {
                    let Ended { tree, report, result } = *ended;
                    schedule.ended(tree, result.is_ok(), now);
                    match result {
                        Ok(_) => {
                            *was_useful = true;
                            self.was_synchronised();
                            self.follow(peer, links, schedule, tree).await?;
                        }
                        // No link could be opened: the connection is lost.
                        Err(error) if report.is_none() && is_of_connection(&error) => return Err(error),
                        Err(error) => {
                            if is_unavailable(&error) {
                                schedule.unavailable(tree, now);
                            }
                            self.set(KeepState::CatchingUp, Some(&error));
                        }
                    }
                }
            }
        }
    }

    /// Whether nothing is under way or due. One database that is asked for has to be there.
    fn is_settled(&self, schedule: &Schedule, tells: impl Fn(&TreeId) -> bool) -> bool {
        self.shared.tree.is_none_or(|tree| schedule.knows(&tree)) && schedule.is_settled(tells)
    }

    /// Asks the peer which databases differ.
    fn ask<'a>(
        &'a self,
        peer: &'a Peer,
        asked: &Action,
        schedule: &Schedule,
    ) -> BoxFuture<'a, Result<Found, SyncError>> {
        let trees = self.engine.inner.access.trees();
        let is_asked = matches!(asked, Action::Ask(_));
        if let Some(tree) = self.shared.tree.filter(|tree| !is_asked || !trees.contains(tree)) {
            // Also what does not take part here: somebody has asked for it.
            return Box::pin(async move { Ok(Found { equal: Vec::new(), differing: vec![tree] }) });
        }
        let meant: BTreeSet<TreeId> = match asked {
            Action::Ask(trees) => trees.iter().copied().collect(),
            _ => trees
                .into_iter()
                .filter(|tree| !schedule.knows(tree) && schedule.wish_for(tree).is_some())
                .collect(),
        };
        Box::pin(self.engine.find(peer, move |tree| meant.contains(tree)))
    }

    fn was_synchronised(&self) {
        lock(&self.shared.kept).last_sync_ms = Some(self.engine.inner.runtime.now_ms());
    }

    /// Asks to be told what comes to a database from where the last session ended, where that is wanted; without such a
    /// place, a session is due.
    async fn follow(
        &self,
        peer: &Peer,
        links: Option<&Arc<LiveLinks>>,
        schedule: &mut Schedule,
        tree: TreeId,
    ) -> Result<(), SyncError> {
        let is_wanted = schedule.wish_for(&tree).is_some_and(|wish| wish.on_commit);
        let Some(links) = links.filter(|_| is_wanted) else { return Ok(()) };
        let (engine, key, learnt) = (self.engine.clone(), peer.key(), Arc::clone(links));
        let runtime = &*self.engine.inner.runtime;
        let known = move || {
            // What came without a session counts too.
            learnt.record()?;
            engine.known(&key, &tree)
        };
        let known = blocking(runtime, known).await.ok_or(SyncError::Stopped)??;
        let is_asked = known.theirs.is_some() && links.follow(tree, known.theirs);
        schedule.followed(tree, is_asked, runtime.monotonic_ms());
        Ok(())
    }
}

/// How a connection was left.
enum Left {
    Lost,
    /// Nothing needed it; whether everything was as far as it is to be.
    HungUp {
        is_settled: bool,
    },
    /// The peer has to be shown more keys.
    Lacking,
}

fn take_events(links: &LiveLinks, schedule: &mut Schedule, now: u64) {
    while let Some(event) = links.next_event() {
        match event {
            LiveEvent::InStep(tree) => schedule.in_step(tree, now),
            LiveEvent::Followed(_) | LiveEvent::Left(_) => {}
            LiveEvent::Behind(tree) => schedule.behind(tree, false, now),
            LiveEvent::Ended(tree, _) => schedule.behind(tree, true, now),
        }
    }
}

/// Whether what failed ends the connection, and not only what was asked for.
fn is_of_connection(error: &SyncError) -> bool {
    match error {
        SyncError::Link(error) => !matches!(error, LinkError::TooManyLinks),
        SyncError::Refused(_) => false,
        _ => true,
    }
}

/// Whether a peer does not have a database, or does not give it.
fn is_unavailable(error: &SyncError) -> bool {
    error.refusal() == Some(RefusalCode::Unavailable)
}

/// Without a connection a schedule asks for nothing else than to make one.
fn unreachable_without_connection(action: &Action) {
    tracing::error!(?action, "something is due without a connection");
    debug_assert!(false, "{action:?} without a connection");
}

/// Some time, at most so much: not everybody who has waited comes back at once.
pub(crate) fn jittered(runtime: &dyn Runtime, ms: u64) -> u64 {
    let mut random = [0; 8];
    random.copy_from_slice(&runtime.random()[..8]);
    ms - u64::from_le_bytes(random) % (ms / 2).max(1)
}
