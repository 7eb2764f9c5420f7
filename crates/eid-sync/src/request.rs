//! Requests for access: somebody without an invite asks, and an admin approves or rejects.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;

use eid_core::dag::tips_hash;
use eid_core::{EntryId, Permission, PublicKey, TreeId};
use eid_proto::message::{Request, Response};
use eid_proto::{Metadata, Text};

use crate::control::Caller;
use crate::drive::Context;
use crate::engine::{Peer, SyncEngine};
use crate::error::SyncError;
use crate::events::SyncEvent;

/// Names a request for access: the same for the same key and database, and without meaning to anybody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

/// Says that a text does not name a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request is named by 32 hexadecimal digits")]
pub struct ParseRequestIdError;

impl FromStr for RequestId {
    type Err = ParseRequestIdError;

    fn from_str(text: &str) -> Result<Self, ParseRequestIdError> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| ParseRequestIdError)?;
        bytes.try_into().map(Self).map_err(|_| ParseRequestIdError)
    }
}

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStatus {
    /// Nobody has decided.
    Pending,
    /// The key was granted this.
    Approved(Permission),
    /// It was granted nothing.
    Rejected,
}

/// A request for access that this device was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapRequest {
    /// Names it.
    pub id: RequestId,
    /// The database.
    pub tree: TreeId,
    /// Who asks, and has proven to hold this key.
    pub key: PublicKey,
    /// What it calls itself. Comes from the network: escape it before a terminal sees it.
    pub name: String,
    /// What it wants.
    pub permission: Permission,
    /// When it asked last, in milliseconds since 1970.
    pub time_ms: u64,
    /// What has become of it.
    pub status: RequestStatus,
    /// What else it says of itself. Comes from the network too.
    pub metadata: BTreeMap<String, String>,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The database.
    pub tree: TreeId,
    /// Who is to get a right.
    pub key: PublicKey,
    /// Which.
    pub permission: Permission,
    /// What people call who asks.
    pub name: String,
    /// What else is said.
    pub metadata: BTreeMap<String, String>,
}

/// What who asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has a right: this one.
    Granted(Permission),
    /// Somebody may decide.
    Pending(RequestId),
    /// Somebody has decided against it.
    Rejected(RequestId),
}

/// What became of a request that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// What is told.
    pub answer: Answer,
    /// Whether it was remembered, and differs from what was.
    pub is_new: bool,
}

/// Says why a request was not decided. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no such request.
    #[error("there is no such request")]
    Unknown,
    /// It was decided before.
    #[error("the request was decided before")]
    Decided(RequestStatus),
    /// Whoever decides may not grant that.
    #[error("whoever decides may not do so")]
    Forbidden(#[source] Box<dyn StdError + Send + Sync>),
    /// Deciding failed.
    #[error("the request could not be decided")]
    Failed(#[source] Box<dyn StdError + Send + Sync>),
}

/// Answers a request of somebody who has proven keys, and says what is to be told of it here.
///
/// Whether a database takes part makes no difference in what is looked up, written and answered.
pub(crate) fn answer_ask(ask: Ask, context: &Context, caller: &Caller) -> (Response, Option<SyncEvent>) {
    let served = context.access.trees();
    let takes_part = served.contains(&ask.tree);
    let looked_up = if takes_part { Some(&ask.tree) } else { served.first() };
    let held = looked_up.and_then(|tree| context.permission(tree)).filter(|_| takes_part);
    if let Some(held) = held.filter(|held| *held >= ask.permission) {
        return (Response::Granted(held.into()), None);
    }
    let key = caller.further.first().copied().unwrap_or(caller.device);
    // Of a database that nobody has, nothing is remembered.
    let tree = if takes_part { ask.tree } else { TreeId(tips_hash([&EntryId(ask.tree.0)])) };
    let ask = Ask { key, tree, ..ask };
    match context.access.ask(&ask, takes_part) {
        Ok(Noted { answer, is_new }) => {
            let event = |id| SyncEvent::Requested {
                request: id,
                tree,
                key,
                name: ask.name.clone(),
                permission: ask.permission,
            };
            match answer {
                Answer::Granted(right) => (Response::Granted(right.into()), None),
                Answer::Pending(id) => (Response::Pending { request: id.0 }, is_new.then(|| event(id))),
                Answer::Rejected(id) => (Response::Rejected { request: id.0 }, None),
            }
        }
        Err(code) => (Response::Refused(code), None),
    }
}

impl SyncEngine {
    /// Asks a peer that was dialled for a right in a database: at once, when everyone or this key has it, or when an admin
    /// there approves. What is asked for is the right of the first further key that was proven, or of this device.
    ///
    /// # Errors
    /// [`SyncError::Metadata`] when that is too much.
    pub async fn request_database_access(
        &self,
        peer: &Peer,
        tree: TreeId,
        wanted: Permission,
        name: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Answer, SyncError> {
        let metadata = Metadata::new(metadata.clone()).ok_or(SyncError::Metadata)?;
        let request = Request::Ask { tree: tree.0, wanted: wanted.into(), name: Text::new(name), metadata };
        let (response, _, _) = self.request(peer, &request).await?;
        match response {
            Response::Granted(right) => Ok(Answer::Granted(right.into())),
            Response::Pending { request } => Ok(Answer::Pending(RequestId(request))),
            Response::Rejected { request } => Ok(Answer::Rejected(RequestId(request))),
            Response::OpenMany { .. } | Response::Discover(_) | Response::Refused(_) => {
                Err(SyncError::Misplaced)
            }
        }
    }

    /// The requests for access that this device was sent and nobody has decided, the oldest first.
    pub fn pending_bootstrap_requests(&self) -> Result<Vec<BootstrapRequest>, RequestError> {
        let mut all = self.inner.access.requests()?;
        all.retain(|request| request.status == RequestStatus::Pending);
        Ok(all)
    }

    /// Approves a request as this device: grants exactly its key what it asks for, or what is given here.
    pub fn approve_bootstrap_request(
        &self,
        id: RequestId,
        permission: Option<Permission>,
    ) -> Result<Permission, RequestError> {
        self.inner.access.approve(id, permission)
    }

    /// Rejects a request as this device: nobody is granted anything.
    pub fn reject_bootstrap_request(&self, id: RequestId) -> Result<(), RequestError> {
        self.inner.access.reject(id)
    }
}
