//! What the engine has to know of users, rights and preferences.

use std::fmt::Debug;
use std::sync::Arc;

use eid_core::{Permission, PublicKey, SecretKey, TreeId};
use eid_proto::RefusalCode;

use crate::limits::PERIOD_MS;
use crate::request::{Ask, BootstrapRequest, Noted, RequestError, RequestId};

/// How a database is to be kept in step with peers, by all who use it here taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// What comes to it is told at once.
    pub on_commit: bool,
    /// Milliseconds after which it is looked at also when nothing was told; nothing when it is not by period.
    pub every_ms: Option<u64>,
}

/// Longer than any device runs.
const NEVER_MS: u64 = u64::MAX / 16;

impl Default for Wish {
    fn default() -> Self {
        Self { on_commit: true, every_ms: Some(PERIOD_MS) }
    }
}

impl Wish {
    /// Whether something is due earlier by this than by another.
    pub(crate) fn is_more_than(&self, other: &Self) -> bool {
        (self.on_commit && !other.on_commit) || self.period_ms() < other.period_ms()
    }

    /// Milliseconds after which it is looked at, longer than any device runs when it is not by period.
    pub(crate) fn period_ms(&self) -> u64 {
        self.every_ms.unwrap_or(NEVER_MS).min(NEVER_MS)
    }
}

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

    /// Whether permissions change only when something is admitted to a database here, or by the clock. Otherwise they are
    /// asked for again and again also when nothing happens.
    fn changes_by_entries_alone(&self) -> bool {
        false
    }

    /// The databases that take part in synchronisation.
    fn trees(&self) -> Vec<TreeId>;

    /// How a database is to be kept in step with peers; nothing when it is not to be.
    fn wish(&self, _tree: &TreeId) -> Option<Wish> {
        Some(Wish::default())
    }

    /// Keys beside that of this device that a peer has to be shown so that it lets this device do as much as those may do
    /// who are logged in: in a database, or with `None` in any.
    fn keys_to_prove(&self, _tree: Option<&TreeId>) -> Vec<Arc<SecretKey>> {
        Vec::new()
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

    /// Takes note of what somebody without the right asks for, and says what it is told. For a database that does not
    /// take part, as much is done and the same is told as for one in which nobody has decided, and nothing is remembered.
    ///
    /// As long as this is not implemented, nobody can ask.
    fn ask(&self, _ask: &Ask, _takes_part: bool) -> Result<Noted, RefusalCode> {
        Err(RefusalCode::Unavailable)
    }

    /// What was asked for, the oldest first.
    fn requests(&self) -> Result<Vec<BootstrapRequest>, RequestError> {
        Ok(Vec::new())
    }

    /// Grants the key of a request what it asks for, or what is given here, as this device. Gives what was granted.
    fn approve(&self, _id: RequestId, _permission: Option<Permission>) -> Result<Permission, RequestError> {
        Err(RequestError::Unknown)
    }

    /// Decides against a request, as this device.
    fn reject(&self, _id: RequestId) -> Result<(), RequestError> {
        Err(RequestError::Unknown)
    }
}
