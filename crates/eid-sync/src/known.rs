//! Keeping everything in step with the peers that are known: a task for each of them, so that none waits for another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eid_core::PublicKey;
use eid_transport::Address;

use crate::engine::{SyncEngine, chain};
use crate::error::SyncError;
use crate::keep::SyncHandle;
use crate::limits::RETRY_MAX_MS;
use crate::peers::{PeerInfo, PeerStatus};
use crate::runtime::{blocking, within};
use crate::signal::{Signal, first_of};

/// Keeps everything in step with the peers that are known, until it is dropped.
#[must_use = "it ends when this is dropped"]
pub struct KnownInStep {
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<BTreeMap<Who, SyncHandle>>,
    ended: Signal,
    is_ended: Mutex<bool>,
}

/// Which peer: by its key, or by an address where nobody was met yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Met(PublicKey),
    Unmet(Vec<Address>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for KnownInStep {
    fn drop(&mut self) {
        *lock(&self.shared.is_ended) = true;
        lock(&self.shared.kept).clear();
        self.shared.ended.raise();
    }
}

impl fmt::Debug for KnownInStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownInStep").field("kept", &self.handles()).finish()
    }
}

impl KnownInStep {
    /// What keeps each peer in step.
    #[must_use]
    pub fn handles(&self) -> Vec<SyncHandle> {
        lock(&self.shared.kept).values().cloned().collect()
    }
}

impl SyncEngine {
    /// Keeps every database that is to be ([`Access::wish`](crate::Access::wish)) in step with every peer of the book that
    /// is active and has an address, also with those that become known later: a task for each. Ends when the result is
    /// dropped or the engine is stopped.
    pub fn keep_known_in_step(&self) -> KnownInStep {
        let shared = Arc::new(Shared {
            kept: Mutex::default(),
            ended: Signal::default(),
            is_ended: Mutex::new(false),
        });
        let (engine, task) = (self.clone(), Arc::clone(&shared));
        let stopped = self.inner.stopped.seen();
        self.inner.runtime.spawn(Box::pin(async move {
            let ended = task.ended.seen();
            if *lock(&task.is_ended) {
                return;
            }
            first_of(vec![
                Box::pin(engine.keep_known(&task)),
                Box::pin(engine.inner.stopped.after(stopped)),
                Box::pin(task.ended.after(ended)),
            ])
            .await;
            lock(&task.kept).clear();
        }));
        KnownInStep { shared }
    }

    async fn keep_known(&self, shared: &Shared) {
        let inner = &self.inner;
        loop {
            let seen = inner.peers.changed().seen();
            let peers = inner.peers.clone();
            let listed = blocking(&*inner.runtime, move || peers.list()).await;
            match listed.ok_or(SyncError::Stopped) {
                Ok(Ok(known)) => {
                    self.keep_these(shared, known);
                    inner.peers.changed().after(seen).await;
                }
                Ok(Err(error)) | Err(error) => {
                    tracing::error!(error = chain(&error), "the peers cannot be read");
                    within(&*inner.runtime, RETRY_MAX_MS, inner.peers.changed().after(seen)).await;
                }
            }
        }
    }

    /// Begins with peers that were not kept in step, and goes on with those that are still known.
    fn keep_these(&self, shared: &Shared, known: Vec<PeerInfo>) {
        let is_meant = |info: &PeerInfo| info.status == PeerStatus::Active && !info.addresses.is_empty();
        let mut kept = lock(&shared.kept);
        if *lock(&shared.is_ended) {
            return;
        }
        let mut meant = Vec::new();
        for info in known.into_iter().filter(is_meant) {
            let who = info.key.map_or_else(|| Who::Unmet(info.addresses.clone()), Who::Met);
            match kept.get(&who) {
                Some(handle) => handle.keeping().set_addresses(&info.addresses),
                // Also who was an address only, and was met: whoever is found there later is somebody else.
                None => {
                    let handle = self.keep_in_step(&info.addresses, info.key, &[], None);
                    kept.insert(who.clone(), handle);
                }
            }
            meant.push(who);
        }
        kept.retain(|who, _| meant.contains(who));
    }
}
