//! What became of an entry at other devices.

use eid_core::{EntryId, PublicKey};
use eid_sync::Why;

use crate::database::Database;
use crate::error::Error;
use crate::offload::offload;

/// One entry of a database, and who is known to have it. Reads nothing yet.
///
/// ```
/// # use std::time::Duration;
/// # use eid::{Access, Http, Instance};
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// # let a = Instance::builder().memory().open().await?;
/// # let there = a.create_database("notes").await?;
/// # a.listen(Http::on("127.0.0.1:0")).await?;
/// # let ticket = there.share(Access::write()).await?;
/// # let b = Instance::builder().memory().open().await?;
/// # let here = b.join(&ticket).await?;
/// let _in_step = b.keep_peers_in_step();
/// let (_, entry) = here.commit(|tx| tx.doc("profile").set("name", "Ada")).await?;
/// let receipt = here.receipt(entry.expect("something was written"));
/// receipt.durable_on(1).await?; // another device has it on disk
/// assert_eq!(receipt.holders().await?, [a.device()]);
/// # a.close().await?;
/// # Ok::<(), eid::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Receipt {
    database: Database,
    entry: EntryId,
}

impl Receipt {
    pub(crate) fn new(database: Database, entry: EntryId) -> Self {
        Self { database, entry }
    }

    /// The entry.
    #[must_use]
    pub fn entry(&self) -> EntryId {
        self.entry
    }

    /// Waits until so many other devices have said that they hold it durably, with everything that it builds on. A device
    /// that never comes back is waited for without end: set a deadline.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when the entry is not here.
    pub async fn durable_on(&self, devices: usize) -> Result<(), Error> {
        let engine = self.database.instance().sync();
        Ok(engine.durable_on(self.database.id(), self.entry, devices).await?)
    }

    /// The other devices that have said that they hold it durably.
    pub async fn holders(&self) -> Result<Vec<PublicKey>, Error> {
        let (engine, tree, entry) = (self.database.instance().sync(), self.database.id(), self.entry);
        Ok(offload(move || engine.holders(&tree, &entry)).await??)
    }

    /// Why a device is not known to hold it, or that it is.
    pub async fn why(&self, peer: PublicKey) -> Result<Why, Error> {
        let (engine, tree, entry) = (self.database.instance().sync(), self.database.id(), self.entry);
        Ok(offload(move || engine.why(&tree, &entry, &peer)).await??)
    }
}
