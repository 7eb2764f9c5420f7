//! Keeping databases in step with a peer: a connection that is dialled again when it is lost, a session at its beginning,
//! and from then on what comes as it comes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Waking, Poll};

use eid_core::{PublicKey, SecretKey, TreeId};
use eid_proto::LiveEvent;
use eid_transport::{Address, BoxFuture};

use crate::engine::{Peer, SyncEngine, Which, chain};
use crate::error::SyncError;
use crate::limits::{OTHERS_MS, PERIOD_MS, RETRY_FIRST_MS, RETRY_MAX_MS};
use crate::live::LiveLinks;
use crate::runtime::{Runtime, blocking};
use crate::signal::{Signal, first_of};

/// How far keeping in step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepState {
    /// The peer is being dialled.
    Connecting,
    /// Sessions bring what each side lacks.
    CatchingUp,
    /// The peer tells what comes to it, in every database that is kept in step.
    InStep,
    /// It failed, and is tried again after a while.
    Waiting,
    /// It was ended.
    Stopped,
}

/// What is known of keeping in step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStatus {
    /// How far it has come.
    pub state: KeepState,
    /// When a session with the peer last came to its end, in milliseconds since 1970.
    pub last_sync_ms: Option<u64>,
    /// What failed last; nothing once everything is in step.
    pub last_error: Option<String>,
}

/// Keeps databases in step with a peer until the last clone is dropped.
#[derive(Clone)]
pub struct SyncHandle {
    held: Arc<Held>,
}

/// Ends the task when it is dropped.
struct Held {
    shared: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.shared.status).stops = true;
        self.shared.changed.raise();
    }
}

struct Shared {
    addresses: Vec<Address>,
    tree: Option<TreeId>,
    status: Mutex<Kept>,
    changed: Signal,
}

struct Kept {
    state: KeepState,
    /// Every database was in step once.
    was_in_step: bool,
    /// The task is to end.
    stops: bool,
    peer: Option<PublicKey>,
    last_sync_ms: Option<u64>,
    last_error: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SyncHandle {
    /// What is known at this moment.
    #[must_use]
    pub fn status(&self) -> SyncStatus {
        let kept = lock(&self.held.shared.status);
        SyncStatus { state: kept.state, last_sync_ms: kept.last_sync_ms, last_error: kept.last_error.clone() }
    }

    /// Where the peer is dialled.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.held.shared.addresses
    }

    /// The database; nothing when it is all that both may see.
    #[must_use]
    pub fn tree_id(&self) -> Option<TreeId> {
        self.held.shared.tree
    }

    /// The key of the peer, once it was met.
    #[must_use]
    pub fn peer_pubkey(&self) -> Option<PublicKey> {
        lock(&self.held.shared.status).peer
    }

    /// Waits until everything that the peer has is here and it tells what comes to it, for the first time. Gives false
    /// when it was ended before.
    pub async fn wait_for_initial_sync(&self) -> bool {
        self.wait(|kept| kept.was_in_step).await
    }

    /// Waits until everything is in step. Gives false when it was ended before.
    pub async fn wait_in_step(&self) -> bool {
        self.wait(|kept| kept.state == KeepState::InStep).await
    }

    async fn wait(&self, is_there: fn(&Kept) -> bool) -> bool {
        let shared = &self.held.shared;
        loop {
            let seen = shared.changed.seen();
            {
                let kept = lock(&shared.status);
                if is_there(&kept) || kept.state == KeepState::Stopped {
                    return is_there(&kept);
                }
            }
            shared.changed.after(seen).await;
        }
    }
}

impl fmt::Debug for SyncHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncHandle")
            .field("addresses", &self.held.shared.addresses)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl SyncEngine {
    /// Keeps one database, or with `None` every one that is to be ([`Access::is_live`](crate::Access::is_live)) and that
    /// the peer has and may read, in step with whoever answers at one of these addresses ([`Self::connect_to_any`]): what
    /// is written on either side is with the other in milliseconds. A connection that is lost is dialled again, at another
    /// address at once, then later each time, for as long as the result is held and the engine is not stopped. Nobody else
    /// than `expected`, if it is said, is told who this device is.
    #[must_use = "it ends when this is dropped"]
    pub fn keep_in_step(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
        tree: Option<TreeId>,
    ) -> SyncHandle {
        let status = Kept {
            state: KeepState::Connecting,
            was_in_step: false,
            stops: false,
            peer: None,
            last_sync_ms: None,
            last_error: None,
        };
        let shared = Arc::new(Shared {
            addresses: addresses.to_vec(),
            tree,
            status: Mutex::new(status),
            changed: Signal::default(),
        });
        let stopped = self.inner.stopped.seen();
        let keeper =
            Keeper { engine: self.clone(), shared: Arc::clone(&shared), expected, keys: keys.to_vec() };
        self.inner.runtime.spawn(Box::pin(keeper.run(stopped)));
        SyncHandle { held: Arc::new(Held { shared }) }
    }
}

/// The task behind a handle.
struct Keeper {
    engine: SyncEngine,
    shared: Arc<Shared>,
    expected: Option<PublicKey>,
    keys: Vec<Arc<SecretKey>>,
}

/// One database of a connection.
struct One {
    next: Next,
    /// How long the next session waits, when one is needed.
    retry_ms: u64,
}

/// What becomes of a database when nothing happens.
enum Next {
    /// A session, when this is ready.
    Session(BoxFuture<'static, ()>),
    /// It is in step for good, when this is ready and no session was needed before.
    Calm(BoxFuture<'static, ()>),
    /// It is in step.
    Nothing,
}

/// Why the wait on a connection is over.
enum Woken {
    Happened,
    Due(TreeId),
}

impl One {
    fn session(runtime: &dyn Runtime, wait_ms: u64, retry_ms: u64) -> Self {
        Self { next: Next::Session(later(runtime, wait_ms)), retry_ms }
    }

    /// Followed since just now. Both sides have to be able to tell the other what they have: one that is in step this way
    /// may still be found to be far behind that way.
    fn followed(runtime: &dyn Runtime, retry_ms: u64) -> Self {
        Self { next: Next::Calm(later(runtime, retry_ms)), retry_ms }
    }

    fn awaits_session(&self) -> bool {
        matches!(self.next, Next::Session(_))
    }

    /// Ready when a session is due.
    fn poll(
        &mut self,
        cx: &mut Waking<'_>,
        runtime: &dyn Runtime,
        is_in_step: impl Fn() -> bool,
    ) -> Poll<()> {
        match &mut self.next {
            Next::Session(due) => due.as_mut().poll(cx),
            Next::Calm(calm) => {
                if calm.as_mut().poll(cx).is_ready() {
                    if is_in_step() {
                        *self = Self { next: Next::Nothing, retry_ms: 0 };
                    } else {
                        *self = Self::followed(runtime, self.retry_ms);
                        return self.poll(cx, runtime, is_in_step);
                    }
                }
                Poll::Pending
            }
            Next::Nothing => Poll::Pending,
        }
    }
}

impl Keeper {
    async fn run(self, stopped: u64) {
        let runtime = Arc::clone(&self.engine.inner.runtime);
        let engine = self.engine.clone();
        first_of(vec![
            Box::pin(async { self.keep(&*runtime).await }),
            Box::pin(engine.inner.stopped.after(stopped)),
            Box::pin(self.given_up()),
        ])
        .await;
        self.set(KeepState::Stopped, None);
    }

    /// Waits until nobody holds the handle any more.
    async fn given_up(&self) {
        loop {
            let seen = self.shared.changed.seen();
            if lock(&self.shared.status).stops {
                return;
            }
            self.shared.changed.after(seen).await;
        }
    }

    fn set(&self, state: KeepState, error: Option<String>) {
        let mut kept = lock(&self.shared.status);
        kept.state = state;
        match state {
            KeepState::InStep => {
                kept.last_error = None;
                kept.was_in_step = true;
            }
            _ => kept.last_error = error.or_else(|| kept.last_error.take()),
        }
        drop(kept);
        self.shared.changed.raise();
    }

    /// Connects again and again.
    async fn keep(&self, runtime: &dyn Runtime) {
        let addresses = &self.shared.addresses;
        let mut wait_ms = RETRY_FIRST_MS;
        let (mut lost, mut is_moving) = (None, false);
        loop {
            self.set(KeepState::Connecting, None);
            let mut was_in_step = false;
            let error = match self.engine.race(addresses, self.expected, &self.keys, lost.as_ref()).await {
                Ok(peer) => {
                    lost = Some(peer.address().clone());
                    self.connection(&peer, runtime, &mut was_in_step).await.err()
                }
                Err(error) => Some(error),
            };
            let error = error.map(|error| chain(&error));
            if was_in_step {
                wait_ms = RETRY_FIRST_MS;
            }
            tracing::debug!(?lost, error, "a connection that keeps in step has ended");
            self.set(KeepState::Waiting, error);
            // Where there is another address, it goes on there at once, and waits only when that is lost too.
            is_moving = was_in_step && addresses.len() > 1 && !is_moving;
            if is_moving {
                continue;
            }
            runtime.sleep(jittered(runtime, wait_ms)).await;
            wait_ms = (wait_ms * 2).min(RETRY_MAX_MS);
        }
    }

    /// One connection, until it is lost.
    async fn connection(
        &self,
        peer: &Peer,
        runtime: &dyn Runtime,
        was_in_step: &mut bool,
    ) -> Result<(), SyncError> {
        lock(&self.shared.status).peer = Some(peer.key());
        self.set(KeepState::CatchingUp, None);
        let Some(links) = self.engine.live_links(peer) else {
            return self.by_period(peer, runtime, was_in_step).await;
        };
        let done = first_of::<Result<(), SyncError>>(vec![
            Box::pin(self.engine.drive_links(peer, &links)),
            Box::pin(self.stay(peer, &links, runtime, was_in_step)),
        ])
        .await;
        links.end();
        peer.close().await;
        done
    }

    /// A peer that cannot tell what comes to it is asked now and then.
    async fn by_period(
        &self,
        peer: &Peer,
        runtime: &dyn Runtime,
        was_in_step: &mut bool,
    ) -> Result<(), SyncError> {
        loop {
            let reports = match self.shared.tree {
                Some(tree) => vec![self.engine.sync_tree_with_peer(peer, tree).await?],
                None => self.engine.sync_some(peer, Which::Live).await?,
            };
            self.was_synchronised();
            *was_in_step |= reports.iter().any(|report| report.complete);
            runtime.sleep(PERIOD_MS).await;
        }
    }

    /// A session about everything that is kept in step but some. Each database is followed as soon as its own has ended, and does
    /// not wait for larger ones. Gives how many were not followed before.
    async fn catch_up(
        &self,
        peer: &Peer,
        links: &LiveLinks,
        all: &mut BTreeMap<TreeId, One>,
        but: &[TreeId],
    ) -> Result<usize, SyncError> {
        let mut more = 0;
        if let Some(tree) = self.shared.tree {
            self.engine.sync_tree_with_peer(peer, tree).await?;
            all.insert(tree, self.follow(peer, links, tree, RETRY_FIRST_MS).await?);
            more += 1;
        } else {
            let mut many = self.engine.begin_many(peer, Which::Live, but).await?;
            while let Some(report) = many.next().await {
                let Some(tree) = report?.tree.filter(|tree| !all.contains_key(tree)) else { continue };
                all.insert(tree, self.follow(peer, links, tree, RETRY_FIRST_MS).await?);
                more += 1;
            }
        }
        self.was_synchronised();
        Ok(more)
    }

    fn was_synchronised(&self) {
        lock(&self.shared.status).last_sync_ms = Some(self.engine.inner.runtime.now_ms());
    }

    /// Keeps everything in step over a connection, until that is lost.
    async fn stay(
        &self,
        peer: &Peer,
        links: &LiveLinks,
        runtime: &dyn Runtime,
        was_in_step: &mut bool,
    ) -> Result<(), SyncError> {
        let mut all: BTreeMap<TreeId, One> = BTreeMap::new();
        self.catch_up(peer, links, &mut all, &[]).await?;
        // Others may be made, or get members, at any time: the peer is asked now and then.
        let (mut others, mut others_ms) = (None, OTHERS_MS);
        let (mut period, mut is_period_over) = (runtime.sleep(PERIOD_MS), false);
        loop {
            let seen = links.happened().seen();
            if links.is_ended() {
                return Ok(());
            }
            self.take_events(links, runtime, &mut all);
            let is_time = std::mem::take(&mut is_period_over);
            if self.shared.tree.is_none() && (is_time || others.is_none() && links.take_others()) {
                // What is written meanwhile comes to those that are in step by itself, and would come twice.
                let in_step = |tree: &&TreeId| !is_time && links.is_in_step(tree);
                let but: Vec<TreeId> = all.keys().filter(in_step).copied().collect();
                let more = self.catch_up(peer, links, &mut all, &but).await?;
                others_ms = if more == 0 { (others_ms * 2).min(RETRY_MAX_MS) } else { OTHERS_MS };
                others = Some(later(runtime, others_ms));
            }
            if all.iter().all(|(tree, one)| links.is_in_step(tree) && !one.awaits_session()) {
                *was_in_step = true;
                self.set(KeepState::InStep, None);
            } else {
                self.set(KeepState::CatchingUp, None);
            }
            let mut happened = pin!(links.happened().after(seen));
            let woken = poll_fn(|cx| {
                for (tree, one) in &mut all {
                    if one.poll(cx, runtime, || links.is_in_step(tree)).is_ready() {
                        return Poll::Ready(Woken::Due(*tree));
                    }
                }
                if others
                    .as_mut()
                    .is_some_and(|others: &mut BoxFuture<'_, ()>| others.as_mut().poll(cx).is_ready())
                {
                    others = None;
                    return Poll::Ready(Woken::Happened);
                }
                if period.as_mut().poll(cx).is_ready() {
                    (period, is_period_over) = (runtime.sleep(PERIOD_MS), true);
                    return Poll::Ready(Woken::Happened);
                }
                happened.as_mut().poll(cx).map(|()| Woken::Happened)
            })
            .await;
            let Woken::Due(tree) = woken else { continue };
            let retry_ms = all.get(&tree).map_or(0, |one| one.retry_ms);
            let retry_ms = (retry_ms * 2).clamp(RETRY_FIRST_MS, RETRY_MAX_MS);
            let (report, result) = self.engine.session_with(peer, tree).await;
            let one = match result {
                Ok(_) => self.follow(peer, links, tree, retry_ms).await?,
                // No link could be opened: the connection is lost.
                Err(error) if report.is_none() => return Err(error),
                Err(error) => {
                    self.set(KeepState::CatchingUp, Some(chain(&error)));
                    One::session(runtime, retry_ms, retry_ms)
                }
            };
            all.insert(tree, one);
        }
    }

    fn take_events(&self, links: &LiveLinks, runtime: &dyn Runtime, all: &mut BTreeMap<TreeId, One>) {
        while let Some(event) = links.next_event() {
            let (tree, least_ms) = match event {
                LiveEvent::InStep(_) | LiveEvent::Followed(_) => continue,
                // At once, unless that has just not been enough.
                LiveEvent::Behind(tree) => (tree, 0),
                LiveEvent::Ended(tree, _) => (tree, RETRY_FIRST_MS),
            };
            if let Some(one) = all.get_mut(&tree).filter(|one| !one.awaits_session()) {
                *one = One::session(runtime, one.retry_ms.max(least_ms), one.retry_ms);
            }
        }
    }

    /// Asks to be told what comes to a database from where the last session ended; without such a place, a session is due.
    async fn follow(
        &self,
        peer: &Peer,
        links: &LiveLinks,
        tree: TreeId,
        retry_ms: u64,
    ) -> Result<One, SyncError> {
        let (engine, key) = (self.engine.clone(), peer.key());
        let runtime = &*self.engine.inner.runtime;
        let known =
            blocking(runtime, move || engine.known(&key, &tree)).await.ok_or(SyncError::Stopped)??;
        if known.theirs.is_some() && links.follow(tree, known.theirs) {
            return Ok(One::followed(runtime, retry_ms));
        }
        Ok(One::session(runtime, retry_ms, retry_ms))
    }
}

/// Some time, at most so much: not everybody who has waited comes back at once.
pub(crate) fn jittered(runtime: &dyn Runtime, ms: u64) -> u64 {
    let mut random = [0; 8];
    random.copy_from_slice(&runtime.random()[..8]);
    ms - u64::from_le_bytes(random) % (ms / 2).max(1)
}

fn later(runtime: &dyn Runtime, ms: u64) -> BoxFuture<'static, ()> {
    runtime.sleep(if ms == 0 { 0 } else { jittered(runtime, ms) })
}
