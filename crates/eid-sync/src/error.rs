//! What can go wrong between this device and a peer.

use eid_core::{EntryId, PublicKey};
use eid_proto::limits::{METADATA_BYTES_MAX, METADATA_FIELDS_MAX};
use eid_proto::message::DecodeError;
use eid_proto::{HandshakeError, RefusalCode, SessionError};
use eid_store::StoreError;
use eid_transport::{DialError, LinkError, ListenError};

use crate::ledger::SyncFailure;
use crate::limits::ASKED_MAX;
use crate::race::{FailedWay, told};
use crate::settings::SettingError;
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
    /// What is kept in step was not in step for the first time when the time for that was over. It goes on.
    #[error("not in step in {ms} ms{}", because(.last_error))]
    NotInStep {
        /// For how long that was waited for.
        ms: u64,
        /// What failed last, if something did.
        last_error: Option<SyncFailure>,
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
    /// What was to be said with a request for access is too much.
    #[error(
        "a request for access says at most {METADATA_BYTES_MAX} bytes in {METADATA_FIELDS_MAX} named texts"
    )]
    Metadata,
    /// So many requests of this device are not decided that no more are remembered.
    #[error("at most {ASKED_MAX} requests for access that nobody has decided are remembered")]
    TooManyAsked,
    /// The text is not a ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// What was chosen cannot be remembered or read.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The other side brought more invalid entries than are looked at.
    #[error("the other side brought too many invalid entries")]
    Invalid,
    /// The entry is not here.
    #[error("the entry {} is not here", .0.short())]
    UnknownEntry(EntryId),
    /// The peer has not taken an entry: it may not read the database.
    #[error("the peer has not taken the entry {}", .0.short())]
    NotTaken(EntryId),
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

    /// What kind of thing went wrong, in one word that stays the same: for programs, histories and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.telling() {
            Self::NoTransport(_) => "no_transport",
            Self::NoAddress | Self::Ticket(_) => "ticket",
            error if error.is_wrong_server() => "wrong_server",
            error if error.refusal().is_some() => "refused",
            Self::Session(SessionError::Denied(_)) => "denied",
            Self::Dial(_) | Self::NoWay(_) | Self::Link(_) => "unreachable",
            Self::TimedOut { .. } | Self::NotInStep { .. } => "timed_out",
            Self::Store(_) | Self::Row(_) | Self::NewerRow(_) => "store",
            Self::Blocked(_) => "blocked",
            Self::UnknownEntry(_) => "unknown_entry",
            Self::NotTaken(_) => "not_taken",
            Self::Stopped => "stopped",
            Self::Listen(_) => "listen",
            _ => "protocol",
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
            Self::TimedOut { .. } | Self::NotInStep { .. } => true,
            Self::NoWay(failed) => failed.iter().any(|way| way.error.is_transient()),
            Self::NoTransport(_)
            | Self::NoAddress
            | Self::Malformed(_)
            | Self::Misplaced
            | Self::Row(_)
            | Self::NewerRow(_)
            | Self::Blocked(_)
            | Self::Metadata
            | Self::TooManyAsked
            | Self::Ticket(_)
            | Self::Setting(_)
            | Self::Invalid
            | Self::UnknownEntry(_)
            | Self::NotTaken(_)
            | Self::Stopped => false,
        }
    }
}

fn because(last_error: &Option<SyncFailure>) -> String {
    last_error.as_ref().map_or_else(String::new, |failure| format!(": {}", failure.text))
}

impl From<SessionError> for SyncError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refused(code) => Self::Refused(code),
            other => Self::Session(other),
        }
    }
}
