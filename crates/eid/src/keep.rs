//! Keeping databases in step with peers for as long as somebody wants it.

use eid_sync::{KnownInStep, SyncEngine, SyncHandle};
use eid_transport::Address;

use crate::database::Database;
use crate::instance::Instance;

/// Keeps databases in step with every known peer until it is dropped.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct PeersInStep {
    known: KnownInStep,
    /// Without an instance nothing is synchronised.
    _node: Instance,
}

impl PeersInStep {
    /// What keeps each peer in step.
    #[must_use]
    pub fn handles(&self) -> Vec<SyncHandle> {
        self.known.handles()
    }
}

impl Instance {
    /// Keeps one database, or every one whose users want it at once, in step with whoever answers at an address: what is
    /// written on either side is with the other in milliseconds. A connection that is lost is dialled again for as long as
    /// the result is held, and the instance or something of it.
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
    /// let in_step = b.keep_in_step(&ticket.addresses[0], Some(&here));
    /// in_step.wait_for_initial_sync(Duration::from_secs(60)).await?;
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
    #[must_use = "it ends when this is dropped"]
    pub fn keep_in_step(&self, address: &Address, database: Option<&Database>) -> SyncHandle {
        let tree = database.map(Database::id);
        self.sync().keep_in_step(std::slice::from_ref(address), None, &[], tree)
    }

    /// Keeps every database in step with every known peer that is active and has an address, as its users wish
    /// ([`SyncSettings`](crate::SyncSettings)): what is written on either side is with the other at once, or by its period;
    /// also with peers that become known later, and by what users wish later. Goes on with what was asked of others and is
    /// not decided.
    pub fn keep_peers_in_step(&self) -> PeersInStep {
        let (node, held) = (self.clone(), self.clone());
        drop(tokio::spawn(async move {
            if let Err(error) = node.go_on_asking().await {
                tracing::warn!(%error, "what was asked for is not asked for again");
            }
        }));
        PeersInStep { known: self.sync().keep_known_in_step(), _node: held }
    }
}

/// Tells the engine when somebody wants something else, until it is dropped.
#[derive(Debug)]
pub(crate) struct Wishes(tokio::task::JoinHandle<()>);

impl Wishes {
    pub(crate) fn tell(db: &eid_db::Instance, engine: &SyncEngine) -> Self {
        let (mut changes, tell) = (db.preferences_changes(), engine.wishes_teller());
        Self(tokio::spawn(async move {
            loop {
                changes.next().await;
                tell();
            }
        }))
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Database {
    /// Keeps it in step with whoever answers at an address: [`Instance::keep_in_step`].
    #[must_use = "it ends when this is dropped"]
    pub fn keep_in_step(&self, address: &Address) -> SyncHandle {
        self.instance().keep_in_step(address, Some(self))
    }
}
