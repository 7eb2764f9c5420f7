//! What is known: never more than is true.

use eid_core::{PublicKey, TreeId};
use eid_sync::{PeerInfo, SyncStatus};
use eid_transport::Address;

use crate::database::Database;
use crate::error::Error;
use crate::instance::Instance;

/// What an instance knows of itself, its databases and its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its device key.
    pub device: PublicKey,
    /// What it calls itself.
    pub name: Option<String>,
    /// Where it listens.
    pub listening: Vec<Address>,
    /// Its databases.
    pub databases: Vec<DatabaseStatus>,
    /// The devices that it knows.
    pub peers: Vec<PeerInfo>,
}

/// What is known of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// Its id.
    pub id: TreeId,
    /// Its name on this device.
    pub name: String,
    /// How many entries are held.
    pub entries: u64,
    /// How many tips there are.
    pub tips: u64,
    /// Operations held that have no effect because they do not decode here: an upgrade may be needed.
    pub undecodable: u64,
    /// Entries held that do not count: their authors had been removed.
    pub void: u64,
    /// Whether settings came that may change which entries count, and what is read does not show it yet.
    pub stale: bool,
    /// What is known of it at each peer.
    pub peers: Vec<PeerProgress>,
}

/// How far a peer is with a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer.
    pub peer: PublicKey,
    /// What is known of the database there.
    pub sync: SyncStatus,
}

impl DatabaseStatus {
    pub(crate) fn of(db: &Database) -> Result<Self, Error> {
        let entries = db.entries()?;
        let peers = db.instance().progress(&db.id())?;
        Ok(Self {
            id: db.id(),
            name: db.name()?,
            entries,
            tips: db.tips()?.len() as u64,
            void: db.inner().void_count()?,
            stale: db.inner().is_stale()?,
            undecodable: db.stores()?.iter().map(|store| store.undecodable).sum(),
            peers,
        })
    }
}

impl Status {
    pub(crate) fn of(node: &Instance) -> Result<Self, Error> {
        let databases = node.databases()?.iter().map(DatabaseStatus::of).collect::<Result<_, _>>()?;
        Ok(Self {
            device: node.device(),
            name: node.display_name()?,
            listening: node.addresses(),
            databases,
            peers: node.peers()?,
        })
    }
}
