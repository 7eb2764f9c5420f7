//! Many databases over one connection: which of them differ is asked for a thousand at a time, and their sessions run
//! side by side, a few at once, so that none waits for the end of a large one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use eid_core::dag::Replica;
use eid_core::{PublicKey, TreeId};
use eid_proto::message::{Request, Response};
use eid_proto::{List, bits, limits};
use eid_store::StoreError;
use eid_transport::{BoxFuture, LinkBytes, LinkError};

use crate::engine::{Inner, Peer, SyncEngine, Which, in_sync};
use crate::error::SyncError;
use crate::limits::{SESSIONS_AT_ONCE, SESSIONS_LARGE};
use crate::report::SessionReport;
use crate::runtime::blocking;

/// Sessions about the databases of a connection, as they come to their ends.
pub(crate) struct Many<'a> {
    engine: &'a SyncEngine,
    peer: &'a Peer,
    /// Databases of which the tips are equal.
    equal: VecDeque<SessionReport>,
    /// Databases whose sessions have not begun, in the order in which they will.
    waiting: VecDeque<TreeId>,
    running: Vec<Running<'a>>,
    /// What went wrong first. It is told at the end.
    failure: Option<SyncError>,
}

/// A session that runs.
struct Running<'a> {
    /// There is much to do in it.
    is_large: Arc<AtomicBool>,
    ends: BoxFuture<'a, Result<SessionReport, SyncError>>,
}

impl SyncEngine {
    /// Synchronises the databases of both, and gives the reports in the order of their ids.
    pub(crate) async fn sync_some(&self, peer: &Peer, which: Which) -> Result<Vec<SessionReport>, SyncError> {
        let mut many = self.begin_many(peer, which, &[]).await?;
        let mut reports = Vec::new();
        while let Some(report) = many.next().await {
            reports.push(report?);
        }
        reports.sort_by_key(|report| report.tree);
        Ok(reports)
    }

    /// Finds out which databases differ, of all but some.
    pub(crate) async fn begin_many<'a>(
        &'a self,
        peer: &'a Peer,
        which: Which,
        but: &[TreeId],
    ) -> Result<Many<'a>, SyncError> {
        let (inner, key) = (Arc::clone(&self.inner), peer.key());
        let (mut shared, others) = blocking(&*self.inner.runtime, move || inner.shared_with(&key, which))
            .await
            .ok_or(SyncError::Stopped)??;
        shared.retain(|(tree, _)| !but.contains(tree));
        // What the peer has and says this device may read: it may know more of the rights than is known here, where
        // perhaps nothing of the database has come yet.
        let mut offered = BTreeMap::new();
        if !others.is_empty() {
            let trees = self.discover_peer_trees(peer).await?;
            offered.extend(trees.into_iter().map(|offer| (offer.summary.tree, offer.summary.entries)));
        }
        let others = others.into_iter().filter_map(|tree| Some((tree, *offered.get(&tree)?))).collect();
        let (mut equal, mut differing) = (VecDeque::new(), Vec::new());
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
                    equal.push_back(in_sync(*tree, peer, share));
                }
            }
        }
        let inner = Arc::clone(&self.inner);
        let waiting = blocking(&*self.inner.runtime, move || inner.in_order(&key, &differing, others))
            .await
            .ok_or(SyncError::Stopped)??;
        Ok(Many { engine: self, peer, equal, waiting, running: Vec::new(), failure: None })
    }

    /// Runs a session; how far it got, whatever ended it.
    async fn session_report(
        &self,
        peer: &Peer,
        tree: TreeId,
        is_large: Arc<AtomicBool>,
    ) -> Result<SessionReport, SyncError> {
        match self.session_noting(peer, tree, is_large).await {
            (Some(report), _) => Ok(report),
            (None, result) => result,
        }
    }
}

impl Many<'_> {
    /// The next session that comes to its end, or the next database of which the tips are equal. How far a session got is
    /// in its report; an error is what kept one from beginning, once there is nothing else to tell.
    pub(crate) async fn next(&mut self) -> Option<Result<SessionReport, SyncError>> {
        if let Some(report) = self.equal.pop_front() {
            return Some(Ok(report));
        }
        loop {
            while has_room(&self.running)
                && let Some(tree) = self.waiting.pop_front()
            {
                let is_large = Arc::default();
                let ends = self.engine.session_report(self.peer, tree, Arc::clone(&is_large));
                self.running.push(Running { is_large, ends: Box::pin(ends) });
            }
            if self.running.is_empty() {
                return self.failure.take().map(Err);
            }
            let (running, is_last) = (&mut self.running, self.waiting.is_empty());
            let ended = poll_fn(|cx| {
                for at in 0..running.len() {
                    if let Poll::Ready(ended) = running[at].ends.as_mut().poll(cx) {
                        drop(running.remove(at));
                        return Poll::Ready(Some(ended));
                    }
                }
                if has_room(running) && !is_last { Poll::Ready(None) } else { Poll::Pending }
            })
            .await;
            match ended {
                // One that runs was seen to be large.
                None => {}
                Some(Ok(report)) => return Some(Ok(report)),
                Some(Err(error)) => {
                    if is_of_all(&error) {
                        self.waiting.clear();
                    }
                    self.failure.get_or_insert(error);
                }
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
fn is_of_all(error: &SyncError) -> bool {
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
    ) -> Result<VecDeque<TreeId>, StoreError> {
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
