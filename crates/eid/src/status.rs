//! What is known: never more than is true.

use eid_core::{PublicKey, TreeId};
use eid_sync::PeerInfo;
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
    /// What each peer is known to hold of it.
    pub peers: Vec<PeerProgress>,
}

/// How far a peer is with a database, by what it has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer.
    pub peer: PublicKey,
    /// Entries at the beginning of the log here that it has durably.
    pub acknowledged: u64,
    /// Entries here that it has not acknowledged; it may have them from elsewhere.
    pub ahead: u64,
    /// Entries that it had and that were not here when the last session with it ended. Nothing when that is not known.
    pub behind: Option<u64>,
    /// When that session ended, in milliseconds since 1970.
    pub last_session_ms: Option<u64>,
}

impl DatabaseStatus {
    pub(crate) fn of(db: &Database) -> Result<Self, Error> {
        let entries = db.entries()?;
        let peers = db.instance().progress(&db.id(), entries)?;
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
