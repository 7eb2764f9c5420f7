//! What is exchanged with a peer that is reached at several addresses goes on over another when a link dies, from what was
//! acknowledged; what was admitted is not sent again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eid_core::{PublicKey, SecretKey, TreeId};
use eid_transport::Address;

use crate::engine::{Peer, SyncEngine, chain};
use crate::error::SyncError;
use crate::keep::jittered;
use crate::limits::{RESUMES_MAX, RESUMES_VAIN_MAX, RETRY_FIRST_MS};
use crate::report::SessionReport;

/// Which databases are synchronised with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This one.
    One(TreeId),
    /// Every one that takes part here and that the peer has and may read ([`SyncEngine::sync_held`]).
    Held,
    /// These, and every other one that the peer lets this device read ([`SyncEngine::sync_all`]).
    All,
}

/// A peer that was met, and the ways to meet it again.
#[derive(Debug)]
pub struct Route {
    engine: SyncEngine,
    addresses: Vec<Address>,
    keys: Vec<Arc<SecretKey>>,
    peer: Peer,
    resumed: u32,
    /// How often a connection brought nothing, since one did.
    in_vain: u32,
}

/// Sessions that have run over one connection, for who goes on after it was lost.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Logged>);

#[derive(Debug, Default)]
struct Logged {
    wanted: bool,
    lost: bool,
    reports: Vec<SessionReport>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Logged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a session ended; nothing when nobody wants to know.
    pub(crate) fn note(&self, report: Option<&SessionReport>, error: Option<&SyncError>) {
        let mut logged = self.lock();
        if logged.wanted {
            logged.lost |= error.is_some_and(is_lost);
            logged.reports.extend(report.cloned());
        }
    }

    fn begin(&self) {
        *self.lock() = Logged { wanted: true, ..Logged::default() };
    }

    fn end(&self) -> Logged {
        std::mem::take(&mut *self.lock())
    }
}

/// Whether a link died under what was going on, so that another can go on with it.
fn is_lost(error: &SyncError) -> bool {
    match error {
        SyncError::Link(error) => error.is_transient(),
        SyncError::TimedOut { .. } => true,
        _ => false,
    }
}

impl SyncEngine {
    /// Meets a peer at one of these addresses, as [`Self::connect_to_any`] does, and keeps the others for when the link
    /// dies.
    pub async fn route(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
    ) -> Result<Route, SyncError> {
        let peer = self.connect_to_any(addresses, expected, keys).await?;
        let (engine, addresses, keys) = (self.clone(), addresses.to_vec(), keys.to_vec());
        Ok(Route { engine, addresses, keys, peer, resumed: 0, in_vain: 0 })
    }
}

impl Route {
    /// The peer, over the connection that there is at this moment.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Synchronises these databases. Each report sums up all sessions that it took.
    ///
    /// # Errors
    /// As [`SyncEngine::sync_with_peer`]; that a link died only when going on brought nothing.
    pub async fn sync(&mut self, scope: Scope) -> Result<Vec<SessionReport>, SyncError> {
        let mut sums: Vec<SessionReport> = Vec::new();
        loop {
            self.peer.log().begin();
            let result = match scope {
                Scope::One(tree) => {
                    self.engine.sync_tree_with_peer(&self.peer, tree).await.map(|one| vec![one])
                }
                Scope::Held => self.engine.sync_held(&self.peer).await,
                Scope::All => self.engine.sync_all(&self.peer).await,
            };
            let Logged { lost, reports, .. } = self.peer.log().end();
            let brought = reports.iter().any(|report| report.pulled + report.pushed > 0);
            let lost = lost || result.as_ref().is_err_and(is_lost);
            let result = result.map(|all| add_up(&mut sums, all)).inspect_err(|_| add_up(&mut sums, reports));
            if !lost || !self.goes_on(brought).await {
                return result.map(|()| sums);
            }
        }
    }

    /// Asks for what an invite promises, as [`SyncEngine::redeem`] does.
    pub async fn redeem(&mut self, tree: TreeId, name: &str) -> Result<eid_core::Permission, SyncError> {
        loop {
            match self.engine.redeem(&self.peer, tree, name).await {
                Err(error) if is_lost(&error) => {
                    if !self.goes_on(false).await {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.peer.close().await;
    }

    /// Meets the peer again, preferably elsewhere; gives false when that does not work or has been done often enough.
    async fn goes_on(&mut self, brought: bool) -> bool {
        self.peer.close().await;
        self.in_vain = if brought { 0 } else { self.in_vain + 1 };
        while self.resumed < RESUMES_MAX && self.in_vain < RESUMES_VAIN_MAX {
            self.resumed += 1;
            if self.in_vain > 0 {
                let runtime = &*self.engine.inner.runtime;
                runtime.sleep(jittered(runtime, RETRY_FIRST_MS)).await;
            }
            let (lost, key) = (self.peer.address().clone(), self.peer.key());
            match self.engine.race(&self.addresses, Some(key), &self.keys, Some(&lost)).await {
                Ok(peer) => {
                    tracing::debug!(%lost, now = %peer.address(), "a link died, and another goes on");
                    self.peer = peer;
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%lost, error = chain(&error), "a link died, and no other was found");
                    self.in_vain += 1;
                }
            }
        }
        false
    }
}

/// Adds what further sessions did to what those before them did.
fn add_up(sums: &mut Vec<SessionReport>, all: Vec<SessionReport>) {
    for report in all {
        match sums.iter_mut().find(|sum| sum.tree == report.tree) {
            Some(sum) => sum.go_on(report),
            None => sums.push(report),
        }
    }
}
