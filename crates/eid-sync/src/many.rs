//! Many databases over one connection: which of them differ is asked for a thousand at a time, and their sessions run
//! side by side, a few at once, so that none waits for the end of a large one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Waking, Poll};

use eid_core::dag::Replica;
use eid_core::{PublicKey, TreeId};
use eid_proto::message::{Request, Response};
use eid_proto::{List, bits, limits};
use eid_store::StoreError;
use eid_transport::{BoxFuture, LinkBytes, LinkError};

use crate::engine::{Inner, Peer, SyncEngine, in_sync};
use crate::error::SyncError;
use crate::limits::{SESSIONS_AT_ONCE, SESSIONS_LARGE};
use crate::report::SessionReport;
use crate::runtime::blocking;

/// What a peer says of databases.
pub(crate) struct Found {
    /// Those of which the tips are equal.
    pub(crate) equal: Vec<SessionReport>,
    /// Those that differ, in the order in which sessions are to begin.
    pub(crate) differing: Vec<TreeId>,
}

/// Sessions about the databases of a connection, as they come to their ends.
pub(crate) struct Many<'a> {
    engine: &'a SyncEngine,
    peer: &'a Peer,
    /// Databases whose sessions have not begun, in the order in which they will.
    waiting: VecDeque<TreeId>,
    running: Vec<Running<'a>>,
}

/// A session that runs.
struct Running<'a> {
    tree: TreeId,
    /// There is much to do in it.
    is_large: Arc<AtomicBool>,
    ends: BoxFuture<'a, (Option<SessionReport>, Result<SessionReport, SyncError>)>,
}

/// A session that has ended.
pub(crate) struct Ended {
    pub(crate) tree: TreeId,
    /// How far it got; nothing when it could not begin.
    pub(crate) report: Option<SessionReport>,
    pub(crate) result: Result<SessionReport, SyncError>,
}

/// Whether databases come that are not here yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brings {
    NothingNew,
    WhatIsOffered,
}

impl SyncEngine {
    /// Synchronises every database that takes part here and that the peer has and may read, and brings every other one that
    /// the peer lets this device read. What is held here and does not take part stays out of it. What came anew takes part
    /// as the application's [`crate::Access`] says.
    ///
    /// # Errors
    /// As [`Self::sync_held`].
    pub async fn sync_all(&self, peer: &Peer) -> Result<Vec<SessionReport>, SyncError> {
        self.sync_some(peer, Brings::WhatIsOffered).await
    }

    /// Synchronises every database that takes part here and that the peer has and may read. The reports are in the order of
    /// the ids of their databases.
    ///
    /// # Errors
    /// What kept a session from beginning, after the others have ended. How far one got that began is in its report.
    pub async fn sync_held(&self, peer: &Peer) -> Result<Vec<SessionReport>, SyncError> {
        self.sync_some(peer, Brings::NothingNew).await
    }

    /// The databases that a peer lets this device read, that do not take part here and of which nothing is here.
    async fn offered_anew(&self, peer: &Peer) -> Result<Vec<TreeId>, SyncError> {
        let offered = self.discover_peer_trees(peer).await?;
        let inner = Arc::clone(&self.inner);
        let known = blocking(&*self.inner.runtime, move || {
            let held = inner.store.trees()?;
            Ok::<_, StoreError>(held.into_iter().chain(inner.access.trees()).collect::<BTreeSet<_>>())
        });
        let known = known.await.ok_or(SyncError::Stopped)??;
        let trees = offered.into_iter().map(|offer| offer.summary.tree);
        Ok(trees.filter(|tree| !known.contains(tree)).collect())
    }

    async fn sync_some(&self, peer: &Peer, brings: Brings) -> Result<Vec<SessionReport>, SyncError> {
        let Found { equal: mut reports, differing } = self.find(peer, |_| true).await?;
        let new = match brings {
            Brings::NothingNew => Vec::new(),
            Brings::WhatIsOffered => self.offered_anew(peer).await?,
        };
        let mut many = Many::new(self, peer);
        differing.into_iter().chain(new).for_each(|tree| many.add(tree));
        let mut failure = None;
        while let Some(ended) = many.next().await {
            match (ended.report, ended.result) {
                (Some(report), _) | (None, Ok(report)) => reports.push(report),
                (None, Err(error)) => {
                    if is_of_all(&error) {
                        many.waiting.clear();
                    }
                    failure.get_or_insert(error);
                }
            }
        }
        reports.sort_by_key(|report| report.tree);
        failure.map_or(Ok(reports), Err)
    }

    /// Asks which of the databases that take part here, and that `is_meant`, the peer has, and which of them differ.
    pub(crate) async fn find(
        &self,
        peer: &Peer,
        is_meant: impl Fn(&TreeId) -> bool + Send + 'static,
    ) -> Result<Found, SyncError> {
        let (inner, key) = (Arc::clone(&self.inner), peer.key());
        let (shared, others) = blocking(&*self.inner.runtime, move || inner.shared_with(&key, is_meant))
            .await
            .ok_or(SyncError::Stopped)??;
        // What the peer has and says this device may read: it may know more of the rights than is known here, where
        // perhaps nothing of the database has come yet.
        let mut offered = BTreeMap::new();
        if !others.is_empty() {
            let trees = self.discover_peer_trees(peer).await?;
            offered.extend(trees.into_iter().map(|offer| (offer.summary.tree, offer.summary.entries)));
        }
        let others = others.into_iter().filter_map(|tree| Some((tree, *offered.get(&tree)?))).collect();
        let (mut equal, mut differing) = (Vec::new(), Vec::new());
        let asked_ms = self.inner.runtime.now_ms();
        for some in shared.chunks(limits::OPEN_MANY_MAX) {
            let request =
                Request::OpenMany(List::new(some.iter().map(|(tree, tips)| (tree.0, *tips)).collect()));
            let (response, sent, received) = self.request(peer, &request).await?;
            let Response::OpenMany { differs, unavailable } = response else {
                return Err(SyncError::Misplaced);
            };
            let differs = bits::unpack(&differs, some.len()).ok_or(SyncError::Misplaced)?;
            let unavailable = bits::unpack(&unavailable, some.len()).ok_or(SyncError::Misplaced)?;
            let count = some.len() as u64;
            let share = LinkBytes { sent: sent.div_ceil(count), received: received.div_ceil(count) };
            let answers = some.iter().zip(differs).zip(unavailable);
            for (((tree, _), differs), _) in answers.filter(|(_, unavailable)| !unavailable) {
                if differs {
                    differing.push(*tree);
                } else {
                    equal.push(in_sync(*tree, peer, asked_ms, share));
                }
            }
        }
        if !equal.is_empty() {
            let trees = equal.iter().filter_map(|report| report.tree).collect();
            self.note_equal(key, trees, asked_ms).await?;
        }
        let inner = Arc::clone(&self.inner);
        let differing = blocking(&*self.inner.runtime, move || inner.in_order(&key, &differing, others))
            .await
            .ok_or(SyncError::Stopped)??;
        Ok(Found { equal, differing })
    }
}

impl<'a> Many<'a> {
    pub(crate) fn new(engine: &'a SyncEngine, peer: &'a Peer) -> Self {
        Self { engine, peer, waiting: VecDeque::new(), running: Vec::new() }
    }

    /// A session is to begin, once there is room.
    pub(crate) fn add(&mut self, tree: TreeId) {
        self.waiting.push_back(tree);
    }

    /// The next session that comes to its end; nothing when none runs and none waits.
    pub(crate) async fn next(&mut self) -> Option<Ended> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for who waits for other things as well.
    pub(crate) fn poll_next(&mut self, cx: &mut Waking<'_>) -> Poll<Option<Ended>> {
        loop {
            while has_room(&self.running)
                && let Some(tree) = self.waiting.pop_front()
            {
                let is_large = Arc::default();
                let ends = self.engine.session_noting(self.peer, tree, Arc::clone(&is_large));
                self.running.push(Running { tree, is_large, ends: Box::pin(ends) });
            }
            if self.running.is_empty() {
                return Poll::Ready(None);
            }
            for at in 0..self.running.len() {
                if let Poll::Ready((report, result)) = self.running[at].ends.as_mut().poll(cx) {
                    let Running { tree, .. } = self.running.remove(at);
                    return Poll::Ready(Some(Ended { tree, report, result }));
                }
            }
            // One that runs may have been seen to be large.
            if !has_room(&self.running) || self.waiting.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Many<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Many")
            .field("peer", &self.peer)
            .field("waiting", &self.waiting)
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

/// Whether one more session may begin: large ones make some room for others.
fn has_room(running: &[Running<'_>]) -> bool {
    let large = running.iter().filter(|session| session.is_large.load(Ordering::SeqCst)).count();
    running.len() < SESSIONS_AT_ONCE + large.min(SESSIONS_LARGE)
}

/// Whether what kept a session from beginning keeps every other one from it too.
pub(crate) fn is_of_all(error: &SyncError) -> bool {
    match error {
        SyncError::Link(error) => !matches!(error, LinkError::TooManyLinks),
        error => matches!(error, SyncError::Stopped),
    }
}

impl Inner {
    /// The order in which sessions begin. First those of databases that are here and that the peer gives, although as far
    /// as is known here it may not read them: the settings differ, and little can be exchanged before they do not. Then
    /// by how many entries are likely to move, so that what is nearly equal does not wait for what is not.
    fn in_order(
        &self,
        peer: &PublicKey,
        differing: &[TreeId],
        offered: Vec<(TreeId, u64)>,
    ) -> Result<Vec<TreeId>, StoreError> {
        let mut order = Vec::with_capacity(differing.len() + offered.len());
        for (tree, theirs) in offered {
            let is_here = self.store.tree(&tree)?.is_some();
            order.push((!is_here, theirs, tree));
        }
        for tree in differing {
            order.push((true, self.unacknowledged(peer, tree)?, *tree));
        }
        order.sort_unstable();
        Ok(order.into_iter().map(|(_, _, tree)| tree).collect())
    }

    /// How many entries lie here beyond what a peer is known to hold.
    fn unacknowledged(&self, peer: &PublicKey, tree: &TreeId) -> Result<u64, StoreError> {
        let Some(snapshot) = self.store.tree(tree)? else { return Ok(0) };
        let held = self.relations.load(peer, tree)?.mine.filter(|mine| mine.epoch == snapshot.epoch());
        Ok(snapshot.end().0.saturating_sub(held.map_or(0, |held| held.seq.0)))
    }
}
