//! What is known of a database at a peer. Never more than is true: what a peer holds is what it has acknowledged, and what
//! it has is what it has said, as of the time that is named.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use eid_core::dag::{Replica, Seq};
use eid_core::{EntryId, Permission, PublicKey, TreeId};
use eid_transport::Address;

use crate::engine::SyncEngine;
use crate::error::SyncError;
use crate::keep::{KeepState, Keeping};
pub use crate::ledger::{SyncFailure, SyncHistoryEntry, SyncMetadata};
use crate::peers::{PeerInfo, PeerStatus};
use crate::progress::{Direction, Progress};
use crate::route::Scope;
use crate::runtime::{blocking, within};

/// Whether there is a connection with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// There is none, and no address is known: it is waited for until the peer dials.
    WaitingForPeer,
    /// There is none.
    Disconnected,
    /// The peer is being dialled.
    Connecting,
    /// There is one: this device, or the peer, has dialled.
    Connected,
}

/// What is known at one moment of a database at a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStatus {
    /// How far keeping it in step has come; nothing when nobody wants that here.
    pub state: Option<KeepState>,
    /// Whether there is a connection.
    pub connection: ConnectionState,
    /// Whether anything of it is here.
    pub has_local_data: bool,
    /// Entries at the beginning of the log here that the peer has said to hold durably.
    pub acknowledged: u64,
    /// Its tips among those here: nothing unless everything here is acknowledged.
    pub acknowledged_tips: Option<Vec<EntryId>>,
    /// Entries here that the peer has not acknowledged; it may have them from elsewhere.
    pub ahead: u64,
    /// Entries that it had at `behind_as_of` and that had not come at the end of the session. What has come since, also live,
    /// is not taken off. Nothing when that is not known.
    pub behind: Option<u64>,
    /// When the session began, or the question was asked, in which it said so, in milliseconds since 1970. What the peer
    /// says in a session that it has begun itself is older by its way through the network.
    pub behind_as_of: Option<u64>,
    /// When everything was last exchanged with it.
    pub last_sync: Option<u64>,
    /// What failed last; nothing when it has worked since.
    pub last_error: Option<SyncFailure>,
    /// Attempts that failed, one after another.
    pub attempts: u32,
    /// When it is tried next, in milliseconds since 1970; nothing while that is not decided.
    pub next_attempt: Option<u64>,
    /// What moves at this moment: one for each direction of each session.
    pub transfers: Vec<Progress>,
}

/// Why a peer is not known to have an entry that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It has: it has acknowledged it.
    Held,
    /// The entry is not here.
    NotHere,
    /// Nothing is known of such a peer.
    UnknownPeer,
    /// This device has nothing to do with the peer.
    Blocked,
    /// By the settings as they are known here, the peer may not read the database.
    MayNotRead,
    /// Nobody here wants the database to be synchronised.
    Off,
    /// No address of the peer is known: it is waited for until it dials.
    WaitingForPeer,
    /// There is no connection: with what failed last, and when it is tried next.
    NotConnected {
        /// What failed last.
        last_error: Option<SyncFailure>,
        /// When it is tried next, in milliseconds since 1970.
        next_attempt: Option<u64>,
    },
    /// It is under way: so many entries of so many have gone.
    Sending(Progress),
    /// There is a connection, and the peer has not acknowledged it yet.
    NotAcknowledged,
}

/// What a peer is not known to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// Who.
    pub peer: PublicKey,
    /// Of which database.
    pub tree: TreeId,
    /// How many entries it has not acknowledged.
    pub entries: u64,
    /// Why.
    pub why: Why,
}

/// What is on its way in all sessions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transfers(Arc<Mutex<BTreeMap<TransferKey, Progress>>>);

type TransferKey = (TreeId, PublicKey, Direction, Option<Address>);

impl Transfers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TransferKey, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, progress: &Progress) {
        let key = (progress.tree, progress.peer, progress.direction, progress.via.clone());
        self.lock().insert(key, progress.clone());
    }

    pub(crate) fn end(&self, tree: TreeId, peer: PublicKey, via: Option<&Address>) {
        for direction in [Direction::In, Direction::Out] {
            self.lock().remove(&(tree, peer, direction, via.cloned()));
        }
    }

    fn of(&self, tree: &TreeId, peer: &PublicKey) -> Vec<Progress> {
        let all = self.lock();
        all.values().filter(|one| one.tree == *tree && one.peer == *peer).cloned().collect()
    }
}

impl SyncEngine {
    /// What is known at this moment of a database at a peer.
    pub fn status(&self, tree: &TreeId, peer: &PublicKey) -> Result<SyncStatus, SyncError> {
        let inner = &self.inner;
        let keepers = inner.keepers.of(peer);
        let keeping = keepers.iter().find(|keeping| keeping.tree().is_none_or(|one| one == *tree));
        self.status_of(tree, peer, keeping)
    }

    fn status_of(
        &self,
        tree: &TreeId,
        peer: &PublicKey,
        keeping: Option<&Arc<Keeping>>,
    ) -> Result<SyncStatus, SyncError> {
        let inner = &self.inner;
        // Before the log: what is acknowledged of it is not taken from a later one.
        let known = inner.relations.load(peer, tree)?;
        let metadata = inner.ledger.of(tree, peer)?;
        let snapshot = inner.store.tree(tree)?;
        let entries = snapshot.as_ref().map_or(0, |snapshot| snapshot.end().0);
        let epoch = snapshot.as_ref().map(|snapshot| snapshot.epoch());
        let mine = known.mine.filter(|mine| Some(mine.epoch) == epoch);
        let acknowledged = mine.map_or(0, |mine| mine.seq.0).min(entries);
        let tips = match &snapshot {
            Some(snapshot) if acknowledged == entries => {
                let tips = snapshot.tips().map_err(eid_store::StoreError::from)?;
                Some(tips.into_iter().map(|(id, _)| id).collect())
            }
            _ => None,
        };
        let kept = keeping.map(|keeping| keeping.kept());
        let now_ms = inner.runtime.now_ms();
        let last_error = kept.as_ref().and_then(|kept| kept.last_error.clone());
        let session_error = metadata.as_ref().and_then(|metadata| metadata.last_error.clone());
        let attempts = kept.as_ref().map_or(0, |kept| kept.in_vain);
        Ok(SyncStatus {
            state: kept.as_ref().map(|kept| kept.state),
            connection: self.connection_with(peer)?,
            has_local_data: snapshot.is_some(),
            acknowledged,
            acknowledged_tips: tips,
            ahead: entries - acknowledged,
            behind: metadata.as_ref().and_then(|metadata| metadata.behind),
            behind_as_of: metadata.as_ref().and_then(|metadata| metadata.behind_as_of_ms),
            last_sync: metadata.as_ref().and_then(|metadata| metadata.last_success_ms),
            last_error: later(last_error, session_error),
            attempts: attempts.max(metadata.as_ref().map_or(0, |metadata| metadata.in_vain)),
            next_attempt: kept.and_then(|kept| kept.next_attempt_ms).map(|next| next.max(now_ms)),
            transfers: inner.transfers.of(tree, peer),
        })
    }

    /// What a handle says: of its database, or of all of them together.
    pub(crate) fn status_kept(&self, keeping: &Arc<Keeping>) -> Result<SyncStatus, SyncError> {
        let kept = keeping.kept();
        let Some(peer) = keeping.peer() else {
            return Ok(SyncStatus {
                state: Some(kept.state),
                connection: match kept.state {
                    KeepState::Connecting => ConnectionState::Connecting,
                    _ => ConnectionState::Disconnected,
                },
                has_local_data: match keeping.tree() {
                    Some(tree) => self.inner.store.tree(&tree)?.is_some(),
                    None => !self.inner.store.trees()?.is_empty(),
                },
                acknowledged: 0,
                acknowledged_tips: None,
                ahead: 0,
                behind: None,
                behind_as_of: None,
                last_sync: None,
                last_error: kept.last_error,
                attempts: kept.in_vain,
                next_attempt: kept.next_attempt_ms,
                transfers: Vec::new(),
            });
        };
        let trees = match keeping.tree() {
            Some(tree) => vec![tree],
            None => {
                let mut trees: BTreeSet<TreeId> = self.trees_of(&peer)?.into_iter().collect();
                let access = &self.inner.access;
                // Also where nothing was exchanged yet, of what the peer is to have.
                let is_for_it = |tree: &TreeId| {
                    access.wish(tree).is_some() && access.permission(tree, &[peer]) >= Some(Permission::Read)
                };
                trees.extend(access.trees().into_iter().filter(is_for_it));
                trees.into_iter().collect()
            }
        };
        let mut sum: Option<SyncStatus> = None;
        for tree in trees {
            let one = self.status_of(&tree, &peer, Some(keeping))?;
            sum = Some(match sum {
                None => one,
                Some(sum) => sum.and(one),
            });
        }
        match sum {
            Some(sum) => Ok(SyncStatus { state: Some(kept.state), ..sum }),
            // Nothing was exchanged yet.
            None => self.status_of(&TreeId([0; 32]), &peer, Some(keeping)),
        }
    }

    /// Whether there is a connection with a peer.
    pub fn connection_with(&self, peer: &PublicKey) -> Result<ConnectionState, SyncError> {
        if self.is_connected(peer) {
            return Ok(ConnectionState::Connected);
        }
        let keepers = self.inner.keepers.of(peer);
        if keepers.iter().any(|keeping| keeping.kept().state == KeepState::Connecting) {
            return Ok(ConnectionState::Connecting);
        }
        let is_known = !self.inner.peers.of(peer)?.addresses.is_empty() || !keepers.is_empty();
        Ok(if is_known { ConnectionState::Disconnected } else { ConnectionState::WaitingForPeer })
    }

    /// What all sessions with a peer about a database came to; nothing when there was none.
    pub fn metadata(&self, tree: &TreeId, peer: &PublicKey) -> Result<Option<SyncMetadata>, SyncError> {
        self.inner.ledger.of(tree, peer)
    }

    /// The same for every peer.
    pub fn metadata_of(&self, tree: &TreeId) -> Result<BTreeMap<PublicKey, SyncMetadata>, SyncError> {
        self.inner.ledger.of_tree(tree)
    }

    /// The last sessions, the last one first; at most [`HISTORY_MAX`](crate::limits::HISTORY_MAX) are remembered.
    pub fn history(&self, limit: usize) -> Result<Vec<SyncHistoryEntry>, SyncError> {
        self.inner.ledger.history(limit)
    }

    /// Forgets the sessions that ended before a time, in milliseconds since 1970. Gives how many these were.
    pub fn cleanup_history(&self, before_ms: u64) -> Result<usize, SyncError> {
        self.inner.ledger.cleanup(before_ms)
    }

    /// The devices that are known to hold an entry durably, beside this one.
    pub fn holders(&self, tree: &TreeId, entry: &EntryId) -> Result<Vec<PublicKey>, SyncError> {
        let Some(seq) = self.place_of(tree, entry)? else { return Ok(Vec::new()) };
        let epoch = self.inner.store.tree(tree)?.map(|snapshot| snapshot.epoch());
        let holds =
            |known: &crate::Known| known.mine.is_some_and(|mine| Some(mine.epoch) == epoch && mine.seq > seq);
        let known = self.known_peers(tree)?;
        Ok(known.into_iter().filter(|(_, known)| holds(known)).map(|(peer, _)| peer).collect())
    }

    pub(crate) fn place_of(&self, tree: &TreeId, entry: &EntryId) -> Result<Option<Seq>, SyncError> {
        let Some(snapshot) = self.inner.store.tree(tree)? else { return Ok(None) };
        let found = snapshot.find(std::slice::from_ref(entry)).map_err(eid_store::StoreError::from)?;
        Ok(found.into_iter().next().flatten())
    }

    /// Waits until so many other devices are known to hold an entry durably. A device that never comes back is waited for
    /// without end: set a deadline.
    ///
    /// # Errors
    /// [`SyncError::UnknownEntry`] when the entry is not here; [`SyncError::Stopped`].
    pub async fn durable_on(&self, tree: TreeId, entry: EntryId, devices: usize) -> Result<(), SyncError> {
        let runtime = &*self.inner.runtime;
        let _awaited = self.inner.relations.await_more();
        loop {
            let seen = self.inner.relations.learnt().seen();
            let engine = self.clone();
            let held = blocking(runtime, move || {
                let is_here = engine.place_of(&tree, &entry)?.is_some();
                Ok::<_, SyncError>((is_here, engine.holders(&tree, &entry)?.len()))
            });
            let (is_here, held) = held.await.ok_or(SyncError::Stopped)??;
            if !is_here {
                return Err(SyncError::UnknownEntry(entry));
            }
            if held >= devices {
                return Ok(());
            }
            self.inner.relations.learnt().after(seen).await;
        }
    }

    /// Why a peer is not known to have an entry that is here.
    pub fn why(&self, tree: &TreeId, entry: &EntryId, peer: &PublicKey) -> Result<Why, SyncError> {
        if self.place_of(tree, entry)?.is_none() {
            return Ok(Why::NotHere);
        }
        if self.holders(tree, entry)?.contains(peer) {
            return Ok(Why::Held);
        }
        self.why_not(tree, peer)
    }

    /// Why a peer does not get what is in a database here.
    fn why_not(&self, tree: &TreeId, peer: &PublicKey) -> Result<Why, SyncError> {
        let inner = &self.inner;
        if inner.peers.is_blocked(peer) {
            return Ok(Why::Blocked);
        }
        if inner.access.permission(tree, &[*peer]) < Some(Permission::Read) {
            let info = inner.peers.of(peer)?;
            let is_known = info != PeerInfo { key: Some(*peer), ..PeerInfo::default() };
            let is_known = is_known || !self.trees_of(peer)?.is_empty();
            return Ok(if is_known { Why::MayNotRead } else { Why::UnknownPeer });
        }
        if !inner.access.trees().contains(tree) || inner.access.wish(tree).is_none() {
            return Ok(Why::Off);
        }
        let status = self.status(tree, peer)?;
        if let Some(sending) = status.transfers.into_iter().find(|one| one.direction == Direction::Out) {
            return Ok(Why::Sending(sending));
        }
        Ok(match status.connection {
            ConnectionState::WaitingForPeer => Why::WaitingForPeer,
            ConnectionState::Disconnected | ConnectionState::Connecting => {
                Why::NotConnected { last_error: status.last_error, next_attempt: status.next_attempt }
            }
            ConnectionState::Connected => Why::NotAcknowledged,
        })
    }

    /// What peers that may read a database, and are known here, have not acknowledged, and why.
    pub fn undelivered(&self) -> Result<Vec<Undelivered>, SyncError> {
        let inner = &self.inner;
        let book = inner.peers.list()?;
        let mut undelivered = Vec::new();
        for tree in inner.access.trees() {
            let Some(snapshot) = inner.store.tree(&tree)? else { continue };
            let known: BTreeMap<PublicKey, crate::Known> = self.known_peers(&tree)?.into_iter().collect();
            let met = book.iter().filter_map(|info| info.key);
            let peers: BTreeSet<PublicKey> = met.chain(known.keys().copied()).collect();
            for peer in peers.into_iter().filter(|peer| *peer != self.device()) {
                let held = known.get(&peer).and_then(|known| known.mine);
                let held = held.filter(|mine| mine.epoch == snapshot.epoch()).map_or(0, |mine| mine.seq.0);
                let entries = snapshot.end().0.saturating_sub(held);
                // Who may not read a database is owed nothing of it.
                if entries == 0 || inner.access.permission(&tree, &[peer]) < Some(Permission::Read) {
                    continue;
                }
                undelivered.push(Undelivered { peer, tree, entries, why: self.why_not(&tree, &peer)? });
            }
        }
        Ok(undelivered)
    }

    /// Tries everything now, whatever was to be waited for: meets every peer that is active and has an address, at most
    /// [`MEETINGS_MAX`](crate::limits::MEETINGS_MAX) at the same time, and synchronises all that both may see. Gives what is
    /// undelivered after that, or after `within_ms`, and why.
    pub async fn flush(&self, within_ms: u64) -> Result<Vec<Undelivered>, SyncError> {
        let inner = &self.inner;
        let runtime = &*inner.runtime;
        inner.keepers.all().iter().for_each(|keeping| keeping.hurry());
        let peers = inner.peers.clone();
        let known = blocking(runtime, move || peers.list()).await.ok_or(SyncError::Stopped)??;
        let is_meant = |info: &PeerInfo| info.status == PeerStatus::Active && !info.addresses.is_empty();
        let mut trying: Vec<_> = known
            .into_iter()
            .filter(is_meant)
            .map(|info| {
                Box::pin(async move {
                    let error = self.synchronise(&info).await.err()?;
                    tracing::debug!(peer = ?info.key, error = crate::engine::chain(&error), "not flushed");
                    Some((info.key?, SyncFailure::of(&error, runtime.now_ms())))
                })
            })
            .collect();
        // Where nobody keeps in step with a peer, nothing else remembers what was tried now.
        let mut failed = BTreeMap::new();
        let all = std::future::poll_fn(|cx| {
            trying.retain_mut(|one| match one.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(failure) => {
                    failed.extend(failure);
                    false
                }
            });
            if trying.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        within(runtime, within_ms, pin!(all)).await;
        let engine = self.clone();
        let undelivered = blocking(runtime, move || engine.undelivered());
        let mut undelivered = undelivered.await.ok_or(SyncError::Stopped)??;
        for one in &mut undelivered {
            if let Why::NotConnected { last_error, .. } = &mut one.why {
                *last_error = later(last_error.take(), failed.get(&one.peer).cloned());
            }
        }
        Ok(undelivered)
    }

    /// Meets a peer and synchronises all that both may see.
    async fn synchronise(&self, info: &PeerInfo) -> Result<(), SyncError> {
        let access = Arc::clone(&self.inner.access);
        let keys = blocking(&*self.inner.runtime, move || access.keys_to_prove(None));
        let keys = keys.await.ok_or(SyncError::Stopped)?;
        let place = self.inner.flushes.acquire().await;
        let met = self.route(&info.addresses, info.key, &keys).await;
        drop(place);
        let mut route = match met {
            Ok(route) => route,
            Err(error) => {
                self.note_failed(&info.addresses, &error).await?;
                return Err(error);
            }
        };
        let done = route.sync(Scope::Held).await;
        route.close().await;
        done.map(|_| ())
    }
}

impl SyncStatus {
    /// Of several databases together: what is least certain of any.
    fn and(self, other: Self) -> Self {
        let both = |a: Option<u64>, b: Option<u64>, f: fn(u64, u64) -> u64| a.zip(b).map(|(a, b)| f(a, b));
        Self {
            state: self.state,
            connection: self.connection,
            has_local_data: self.has_local_data && other.has_local_data,
            acknowledged: self.acknowledged + other.acknowledged,
            acknowledged_tips: None,
            ahead: self.ahead + other.ahead,
            behind: both(self.behind, other.behind, |a, b| a + b),
            behind_as_of: both(self.behind_as_of, other.behind_as_of, u64::min),
            last_sync: both(self.last_sync, other.last_sync, u64::min),
            last_error: later(self.last_error, other.last_error),
            attempts: self.attempts.max(other.attempts),
            next_attempt: self.next_attempt.or(other.next_attempt),
            transfers: [self.transfers, other.transfers].concat(),
        }
    }
}

fn later(one: Option<SyncFailure>, other: Option<SyncFailure>) -> Option<SyncFailure> {
    match (one, other) {
        (Some(one), Some(other)) if one.at_ms >= other.at_ms => Some(one),
        (one, other) => other.or(one),
    }
}
