//! What the engine has to know of users, rights and preferences.

use std::fmt::Debug;

use eid_core::{Permission, PublicKey, TreeId};
use eid_proto::RefusalCode;

/// A database as others see it who may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSummary {
    /// Its id.
    pub tree: TreeId,
    /// Its shared title. Comes from the network: escape it before a terminal sees it.
    pub title: String,
    /// How many entries the answering side holds.
    pub entries: u64,
    /// When the last of them that came to it was written, in milliseconds since 1970, by the clock of its author.
    pub changed_ms: u64,
}

/// A database that a peer lets this device read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// What the peer says of it.
    pub summary: TreeSummary,
    /// What this device, or a user who is logged in here, may do in it, as far as the peer knows.
    pub right: Permission,
}

/// Answers for users, rights and preferences. Synchronous: the engine asks on blocking threads.
///
/// # Contract
/// Answers are those of this moment: what has been committed before is seen.
pub trait Access: Debug + Send + Sync {
    /// The strongest permission that any of these keys has by the current settings. Nothing for unknown databases.
    fn permission(&self, tree: &TreeId, keys: &[PublicKey]) -> Option<Permission>;

    /// The databases that take part in synchronisation.
    fn trees(&self) -> Vec<TreeId>;

    /// Whether what comes to a database is to be told at once, when everything is kept in step with a peer.
    fn is_live(&self, _tree: &TreeId) -> bool {
        true
    }

    /// What is said of a database to those who may read it.
    fn describe(&self, tree: &TreeId) -> TreeSummary;

    /// Grants the joiner what one of the proven invite keys promises, by writing settings. A proven key that is no invite
    /// is of a user of the joining device, who is then the joiner.
    fn redeem(
        &self,
        tree: &TreeId,
        invites: &[PublicKey],
        joiner: &PublicKey,
        name: &str,
    ) -> Result<Permission, RefusalCode>;
}
