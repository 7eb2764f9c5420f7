//! What can go wrong between this device and a peer.

use eid_core::PublicKey;
use eid_proto::message::DecodeError;
use eid_proto::{HandshakeError, RefusalCode, SessionError};
use eid_store::StoreError;
use eid_transport::{DialError, LinkError, ListenError};

use crate::race::{FailedWay, told};
use crate::ticket::TicketError;

/// Says why something with a peer did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// No transport serves addresses of this scheme.
    #[error("no transport serves {0}: addresses")]
    NoTransport(String),
    /// A ticket has no address.
    #[error("the ticket has no address")]
    NoAddress,
    /// None of several addresses led to the peer: each with its reason, in the order in which they failed.
    #[error("none of {} addresses leads to the peer: {}", .0.len(), told(.0))]
    NoWay(Vec<FailedWay>),
    /// The address could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No transport could listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The two sides did not agree on who they are.
    #[error("the handshake failed")]
    Handshake(#[from] HandshakeError),
    /// The other side refused a request.
    #[error("refused: {0}")]
    Refused(RefusalCode),
    /// A session ended early.
    #[error("the session ended early")]
    Session(#[source] SessionError),
    /// The link broke.
    #[error("the link broke")]
    Link(#[from] LinkError),
    /// The other side did not answer in time.
    #[error("no answer in {ms} ms: {what}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        ms: u64,
    },
    /// The other side sent an answer that does not decode.
    #[error("the other side sent what is no answer")]
    Malformed(#[from] DecodeError),
    /// The other side answered something else than was asked.
    #[error("the other side answered something else than was asked")]
    Misplaced,
    /// The local store failed.
    #[error("the local store failed")]
    Store(#[from] StoreError),
    /// The row of a peer is damaged, or cannot be written.
    #[error("the row of a peer is damaged")]
    Row(#[source] serde_json::Error),
    /// The row of a peer is of a later version of this program.
    #[error("a peer was remembered by a newer version, in rows of form {0}")]
    NewerRow(u32),
    /// This device has nothing to do with the peer.
    #[error("this device has blocked the peer {}", .0.short())]
    Blocked(PublicKey),
    /// The text is not a ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The other side brought more invalid entries than are looked at.
    #[error("the other side brought too many invalid entries")]
    Invalid,
    /// The runtime has gone away.
    #[error("the engine has been stopped")]
    Stopped,
}

impl SyncError {
    /// Of several addresses, what says most: another server than expected, a refusal, what can pass, the rest. Otherwise
    /// itself.
    #[must_use]
    pub fn telling(&self) -> &Self {
        let Self::NoWay(failed) = self else { return self };
        let says = |error: &Self| match error {
            error if error.is_wrong_server() => 3,
            error if error.refusal().is_some() => 2,
            error => u8::from(error.is_transient()),
        };
        // Of equals what failed first.
        let best = failed.iter().rev().map(|way| &way.error).max_by_key(|error| says(error));
        best.unwrap_or(self)
    }

    fn is_wrong_server(&self) -> bool {
        matches!(
            self,
            Self::Dial(DialError::WrongServer { .. }) | Self::Handshake(HandshakeError::WrongServer { .. })
        )
    }

    /// The refusal of the other side, if it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<RefusalCode> {
        match self {
            Self::Refused(code)
            | Self::Handshake(HandshakeError::Refused(code))
            | Self::Session(SessionError::Refused(code)) => Some(*code),
            Self::NoWay(failed) => failed.iter().find_map(|way| way.error.refusal()),
            _ => None,
        }
    }

    /// Whether the same can succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_transient(),
            Self::Listen(error) => error.is_transient(),
            Self::Handshake(error) => error.is_transient(),
            Self::Session(error) => error.is_transient(),
            Self::Link(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Refused(code) => matches!(code, RefusalCode::Busy | RefusalCode::Failed),
            Self::TimedOut { .. } => true,
            Self::NoWay(failed) => failed.iter().any(|way| way.error.is_transient()),
            Self::NoTransport(_)
            | Self::NoAddress
            | Self::Malformed(_)
            | Self::Misplaced
            | Self::Row(_)
            | Self::NewerRow(_)
            | Self::Blocked(_)
            | Self::Ticket(_)
            | Self::Invalid
            | Self::Stopped => false,
        }
    }
}

impl From<SessionError> for SyncError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refused(code) => Self::Refused(code),
            other => Self::Session(other),
        }
    }
}
