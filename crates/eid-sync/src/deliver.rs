//! Delivering to one peer by name: what is asked for is done at once, or marked as due; nothing is queued.

use eid_core::{EntryId, PublicKey, TreeId};
use eid_transport::Address;

use crate::engine::SyncEngine;
use crate::error::SyncError;
use crate::keep::SyncHandle;
use crate::route::Scope;
use crate::runtime::blocking;

impl SyncEngine {
    /// Remembers a peer and where it is reached, and keeps a database in step with it for as long as the result is held.
    pub fn register_sync_peer(
        &self,
        peer: PublicKey,
        name: &str,
        addresses: &[Address],
        tree: TreeId,
    ) -> Result<SyncHandle, SyncError> {
        self.register_peer(peer, name, addresses)?;
        Ok(self.keep_in_step(addresses, Some(peer), &[], Some(tree)))
    }

    /// Delivers entries with everything that they build on to a peer of the book: done when it has said to hold all of them
    /// durably.
    ///
    /// # Errors
    /// [`SyncError::UnknownEntry`] when one is not here; [`SyncError::NotTaken`] when the peer has not taken one, as it may
    /// not read the database; otherwise what a session fails with.
    pub async fn send_entries(
        &self,
        peer: PublicKey,
        tree: TreeId,
        entries: &[EntryId],
    ) -> Result<(), SyncError> {
        let runtime = &*self.inner.runtime;
        if self.left(peer, tree, entries).await?.is_none() {
            return Ok(());
        }
        let access = std::sync::Arc::clone(&self.inner.access);
        let keys =
            blocking(runtime, move || access.keys_to_prove(Some(&tree))).await.ok_or(SyncError::Stopped)?;
        let peers = self.inner.peers.clone();
        let info = blocking(runtime, move || peers.of(&peer)).await.ok_or(SyncError::Stopped)??;
        let mut route = self.route(&info.addresses, Some(peer), &keys).await?;
        let done = route.sync(Scope::One(tree)).await;
        route.close().await;
        done?;
        match self.left(peer, tree, entries).await? {
            None => Ok(()),
            Some(entry) => Err(SyncError::NotTaken(entry)),
        }
    }

    /// The first of some entries that a peer is not known to hold.
    async fn left(
        &self,
        peer: PublicKey,
        tree: TreeId,
        entries: &[EntryId],
    ) -> Result<Option<EntryId>, SyncError> {
        let (engine, entries) = (self.clone(), entries.to_vec());
        let looking = blocking(&*self.inner.runtime, move || engine.not_held(&peer, &tree, &entries));
        looking.await.ok_or(SyncError::Stopped)?
    }

    /// The same, where it may block.
    fn not_held(
        &self,
        peer: &PublicKey,
        tree: &TreeId,
        entries: &[EntryId],
    ) -> Result<Option<EntryId>, SyncError> {
        for entry in entries {
            if self.place_of(tree, entry)?.is_none() {
                return Err(SyncError::UnknownEntry(*entry));
            }
            if !self.holders(tree, entry)?.contains(peer) {
                return Ok(Some(*entry));
            }
        }
        Ok(None)
    }

    /// Marks a database as due with a peer: whoever keeps it in step with that peer does something now, also when it was to
    /// wait. There is no queue: what the peer lacks is found anew.
    pub fn queue_entry_for_sync(&self, peer: &PublicKey, tree: TreeId) {
        for keeping in self.inner.keepers.of(peer) {
            if keeping.tree().is_none_or(|one| one == tree) {
                keeping.hurry();
            }
        }
    }
}
