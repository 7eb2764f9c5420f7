//! Keeping databases in step with peers for as long as somebody wants it.

use std::collections::BTreeMap;

use eid_core::PublicKey;
use eid_sync::{Delivered, PeerInfo, PeerStatus, SyncEvent, SyncHandle};
use eid_transport::Address;

use crate::database::Database;
use crate::error::Error;
use crate::instance::Instance;
use crate::offload::offload;

/// Keeps databases in step with every known peer until it is dropped.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct PeersInStep {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for PeersInStep {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Instance {
    /// Keeps one database, or every one whose users want it at once, in step with whoever answers at an address: what is
    /// written on either side is with the other in milliseconds. A connection that is lost is dialled again for as long as
    /// the result is held.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use eid::{Access, Http, Instance};
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
    /// let a = Instance::builder().memory().open().await?;
    /// let there = a.create_database("notes").await?;
    /// a.listen(Http::on("127.0.0.1:0")).await?;
    /// let ticket = there.share(Access::write()).await?;
    ///
    /// let b = Instance::builder().memory().open().await?;
    /// let here = b.join(&ticket).await?;
    /// let in_step = b.keep_in_step(&ticket.addresses[0], Some(&here)).await?;
    /// in_step.wait_for_initial_sync().await;
    ///
    /// let mut changes = here.changes()?;
    /// there.doc("profile").set("name", "Ada").await?;
    /// changes.next().await?; // nobody has asked for it
    /// assert_eq!(here.doc("profile").get_as::<String>("name")?.as_deref(), Some("Ada"));
    /// # a.close().await?;
    /// # Ok::<(), eid::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn keep_in_step(
        &self,
        address: &Address,
        database: Option<&Database>,
    ) -> Result<SyncHandle, Error> {
        self.keep_at(std::slice::from_ref(address), None, database).await
    }

    pub(crate) async fn keep_at(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        database: Option<&Database>,
    ) -> Result<SyncHandle, Error> {
        self.remember_sessions();
        let (db, tree) = (self.db().clone(), database.map(Database::id));
        let keys = offload(move || db.keys_to_prove(tree.as_ref())).await??;
        Ok(self.sync().keep_in_step(addresses, expected, &keys, tree))
    }

    /// Keeps every database whose users want it at once in step with every known peer that is active and has an address,
    /// also with those that become known later.
    pub async fn keep_peers_in_step(&self) -> Result<PeersInStep, Error> {
        let mut events = self.events();
        let node = self.clone();
        let mut kept: BTreeMap<Vec<Address>, SyncHandle> = BTreeMap::new();
        node.keep_known(&mut kept).await?;
        let task = tokio::spawn(async move {
            while let Some(delivered) = events.recv().await {
                let may_differ = match &delivered {
                    Delivered::Event(SyncEvent::Connected { via, .. }) => via.is_some(),
                    Delivered::Event(SyncEvent::Session(report)) => report.via.is_some(),
                    Delivered::Event(SyncEvent::Status { .. }) | Delivered::Lagged(_) => true,
                    Delivered::Event(_) => false,
                };
                if may_differ && let Err(error) = node.keep_known(&mut kept).await {
                    tracing::warn!(%error, "a peer could not be kept in step");
                }
            }
        });
        Ok(PeersInStep { task })
    }

    /// Begins with peers that were not known before, and goes on with those that are still known.
    async fn keep_known(&self, kept: &mut BTreeMap<Vec<Address>, SyncHandle>) -> Result<(), Error> {
        let node = self.clone();
        let peers = offload(move || node.peers()).await??;
        let mut known: Vec<Vec<Address>> = Vec::new();
        let is_dialled = |peer: &PeerInfo| peer.status == PeerStatus::Active && !peer.addresses.is_empty();
        for peer in peers.into_iter().filter(is_dialled) {
            let mut addresses = peer.addresses.clone();
            addresses.sort_unstable();
            let is_kept = |handle: &SyncHandle| peer.key.is_some() && handle.peer_pubkey() == peer.key;
            if !kept.contains_key(&addresses) && !kept.values().any(is_kept) {
                let handle = self.keep_at(&peer.addresses, peer.key, None).await?;
                kept.insert(addresses.clone(), handle);
            }
            known.push(addresses);
        }
        kept.retain(|addresses, _| known.iter().any(|known| addresses.iter().all(|one| known.contains(one))));
        Ok(())
    }
}

impl Database {
    /// Keeps it in step with whoever answers at an address: [`Instance::keep_in_step`].
    pub async fn keep_in_step(&self, address: &Address) -> Result<SyncHandle, Error> {
        self.instance().keep_in_step(address, Some(self)).await
    }
}
