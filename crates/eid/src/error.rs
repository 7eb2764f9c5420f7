//! The one error of the facade: few kinds, each with a stable code, and the cause kept as a value.

use std::error::Error as StdError;
use std::fmt;

use eid_core::{Invalid, Refusal};
use eid_db::DbError;
use eid_store::{BackendError, BackupError, StoreError};
use eid_sync::{HandshakeError, RefusalCode, RequestId, SettingError, SyncError, TicketError};
use eid_transport::{DialError, ListenError};

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such database, store, row or peer.
    NotFound,
    /// More than one thing has this name; the message lists their ids.
    Ambiguous,
    /// A name that cannot be given: empty, too long, reserved, or taken.
    InvalidName,
    /// A value that cannot be stored or read as what was asked for.
    InvalidValue,
    /// The store of this name is of another kind, such as a document where a table was meant.
    WrongKind,
    /// The store is encrypted and was not unlocked on this instance.
    Sealed,
    /// The password opens nothing, or no user has this name and this password.
    WrongPassword,
    /// The user whose handle this was is logged out.
    LoggedOut,
    /// What is written at once is more than an entry can hold.
    TooLarge,
    /// A ticket that cannot be read.
    InvalidTicket,
    /// An address that cannot be read, or that no transport here serves.
    InvalidAddress,
    /// The device's key has no right to do this.
    Forbidden,
    /// A peer refused: no right, an invite that is used up or expired, or not the expected server key.
    Refused,
    /// What was asked for has to be approved first; the request is remembered, and completes by itself.
    Pending,
    /// Somebody has decided against what was asked for.
    Rejected,
    /// A request for access was decided before.
    Decided,
    /// Nobody answers at any address.
    Unreachable,
    /// It took longer than it was given.
    TimedOut,
    /// A ticket needs an address, and nothing listens.
    NotListening,
    /// Another program listens on this address.
    AddressInUse,
    /// Another process has this store open.
    Locked,
    /// The directory or file is not a store.
    NotAStore,
    /// The store was written by a newer version.
    NewerFormat,
    /// What is stored is damaged.
    Corrupt,
    /// The place where something is to be made holds something already.
    NotEmpty,
    /// The disk is full.
    Full,
    /// Reading or writing failed.
    Io,
    /// Too much is waiting; trying again helps.
    Busy,
    /// The instance is closed.
    Closed,
    /// The peer broke the protocol, or needs a newer version.
    Protocol,
    /// A session ended before everything was exchanged; trying again goes on from there.
    Incomplete,
    /// A transaction was given up for a reason of the caller's own.
    Aborted,
}

impl ErrorKind {
    /// A word that stays the same, for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::InvalidName => "invalid_name",
            Self::InvalidValue => "invalid_value",
            Self::WrongKind => "wrong_kind",
            Self::Sealed => "sealed",
            Self::WrongPassword => "wrong_password",
            Self::LoggedOut => "logged_out",
            Self::TooLarge => "too_large",
            Self::InvalidTicket => "invalid_ticket",
            Self::InvalidAddress => "invalid_address",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Decided => "decided",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::NotListening => "not_listening",
            Self::AddressInUse => "address_in_use",
            Self::Locked => "locked",
            Self::NotAStore => "not_a_store",
            Self::NewerFormat => "newer_format",
            Self::Corrupt => "corrupt",
            Self::NotEmpty => "not_empty",
            Self::Full => "full",
            Self::Io => "io",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Incomplete => "incomplete",
            Self::Aborted => "aborted",
        }
    }
}

/// What went wrong, with its cause.
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    /// Whether the message is the cause's own, so that the chain goes on with the cause's cause.
    transparent: bool,
    request: Option<RequestId>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None, transparent: false, request: None }
    }

    pub(crate) fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let (message, cause) = (message.into(), Some(cause.into()));
        Self { kind, message, cause, transparent: false, request: None }
    }

    /// Says what the cause says, and keeps its causes.
    pub(crate) fn wrapping(kind: ErrorKind, cause: impl StdError + Send + Sync + 'static) -> Self {
        let (message, cause) = (cause.to_string(), Some(Box::new(cause) as Box<dyn StdError + Send + Sync>));
        Self { kind, message, cause, transparent: true, request: None }
    }

    /// About a request for access.
    pub(crate) fn of_request(self, id: RequestId) -> Self {
        Self { request: Some(id), ..self }
    }

    /// The request for access that it is about: of one that is pending, or was rejected.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        self.request
    }

    /// Says where it happened; the kind and the causes stay.
    pub(crate) fn with_place(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub(crate) fn io(message: impl Into<String>, cause: std::io::Error) -> Self {
        Self::caused(io_kind(&cause), message, cause)
    }

    /// What kind of thing went wrong: stable, to be matched on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again may help without anything being changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Busy | ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::Locked
        )
    }
}

fn io_kind(cause: &std::io::Error) -> ErrorKind {
    match cause.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        std::io::ErrorKind::AddrInUse => ErrorKind::AddressInUse,
        _ => ErrorKind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("cause", &self.cause)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.cause.as_deref()? as &(dyn StdError + 'static);
        if self.transparent { cause.source() } else { Some(cause) }
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        let kind = match &error {
            BackendError::Io(_) | BackendError::Engine(_) | BackendError::Poisoned => ErrorKind::Io,
            BackendError::Full => ErrorKind::Full,
            BackendError::Conflict => ErrorKind::Busy,
            BackendError::Corrupt { .. } => ErrorKind::Corrupt,
            BackendError::NotAStore => ErrorKind::NotAStore,
            BackendError::NewerFormat { .. } => ErrorKind::NewerFormat,
            BackendError::Locked => ErrorKind::Locked,
            BackendError::Closed => ErrorKind::Closed,
        };
        Self::wrapping(kind, error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Backend(error) => return error.into(),
            StoreError::Refused(Refusal::Invalid(Invalid::NotPermitted)) => ErrorKind::Forbidden,
            StoreError::Refused(_) => ErrorKind::InvalidValue,
            StoreError::UnknownTree => ErrorKind::NotFound,
            StoreError::Busy => ErrorKind::Busy,
            StoreError::VersionTooLarge { .. } => ErrorKind::TooLarge,
            StoreError::Corrupt { .. } => ErrorKind::Corrupt,
            StoreError::Read(_) => ErrorKind::Io,
        };
        Self::wrapping(kind, error)
    }
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Self {
        let kind = match &error {
            BackupError::Store(error) => return error.clone().into(),
            BackupError::Io(cause) => io_kind(cause),
            BackupError::NotABackup | BackupError::Damaged { .. } => ErrorKind::Corrupt,
            BackupError::Newer { .. } => ErrorKind::NewerFormat,
            BackupError::NotEmpty => ErrorKind::NotEmpty,
            BackupError::RowTooLong { .. } => ErrorKind::TooLarge,
        };
        Self::wrapping(kind, error)
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        use DbError as E;
        let kind = match error {
            E::Store(error) => return error.into(),
            E::Backup(error) => return error.into(),
            // A transaction of the facade is given up with an error of the facade.
            E::Aborted(reason) => {
                return match reason.downcast::<Self>() {
                    Ok(own) => *own,
                    Err(reason) => Self::caused(ErrorKind::Aborted, "the transaction was given up", reason),
                };
            }
            E::Ambiguous { name, ids } => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let message = format!("{} databases are called \"{name}\": {}", ids.len(), ids.join(", "));
                return Self::new(ErrorKind::Ambiguous, message);
            }
            E::NotPermitted(_) | E::NoRight | E::InviteOfAdmin => ErrorKind::Forbidden,
            E::NotHere | E::NoSuchRow { .. } | E::UnknownEntry { .. } | E::NoPayload { .. } => {
                ErrorKind::NotFound
            }
            E::NoEntry
            | E::ReadOnly
            | E::AlreadyUndone { .. }
            | E::VoidEntry { .. }
            | E::NotVoid { .. }
            | E::SettingsEntry { .. } => ErrorKind::InvalidValue,
            E::ConsumerName => ErrorKind::InvalidName,
            E::Thread(_) => ErrorKind::Io,
            E::Name | E::StoreName { .. } | E::Path | E::ParsePath(_) | E::RowKey => ErrorKind::InvalidName,
            E::WrongKind { .. } | E::SeveralKinds { .. } | E::UnknownKind { .. } => ErrorKind::WrongKind,
            E::Unregistrable => ErrorKind::InvalidName,
            E::NotARow { .. } | E::Type { .. } | E::Position { .. } => ErrorKind::InvalidValue,
            E::Decode(_) | E::DecodeRow { .. } | E::Encode(_) | E::TooDeep => ErrorKind::InvalidValue,
            E::TooLarge | E::TooManyStores | E::TooManyIndexes => ErrorKind::TooLarge,
            E::ForeignCursor | E::ForeignPage | E::OrderFields | E::NestedWrite => ErrorKind::InvalidValue,
            E::Locked { .. } => ErrorKind::Sealed,
            E::WrongPassword { .. } => ErrorKind::WrongPassword,
            E::NotEncrypted { .. } => ErrorKind::NotFound,
            E::AlreadyEncrypted { .. } => ErrorKind::InvalidName,
            E::PasswordCost | E::PlainIndex { .. } => ErrorKind::InvalidValue,
            E::TextMoved | E::TooManyInvites | E::UnlockUnfinished { .. } => ErrorKind::Busy,
            E::UserName | E::UserExists { .. } => ErrorKind::InvalidName,
            E::Login => ErrorKind::WrongPassword,
            E::NoRequest => ErrorKind::NotFound,
            E::RequestDecided { .. } => ErrorKind::Decided,
            E::Password | E::Preferences | E::DeviceUser => ErrorKind::InvalidValue,
            E::TooManyUsers | E::TooManyKeys => ErrorKind::TooLarge,
            E::LoggedOut => ErrorKind::LoggedOut,
            E::NotTracked => ErrorKind::NotFound,
            E::Corrupt { .. } => ErrorKind::Corrupt,
        };
        Self::wrapping(kind, error)
    }
}

impl From<TicketError> for Error {
    fn from(error: TicketError) -> Self {
        Self::wrapping(ErrorKind::InvalidTicket, error)
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Self {
        let kind = match &error {
            ListenError::InUse { .. } => ErrorKind::AddressInUse,
            ListenError::Unusable { .. } | ListenError::NoAddress => ErrorKind::InvalidAddress,
            ListenError::ShutDown => ErrorKind::Closed,
            _ => ErrorKind::Io,
        };
        Self::wrapping(kind, error)
    }
}

impl From<SyncError> for Error {
    fn from(error: SyncError) -> Self {
        let kind = match error {
            SyncError::Store(error) => return error.into(),
            SyncError::Ticket(error) => return error.into(),
            SyncError::Listen(error) => return error.into(),
            _ => sync_kind(error.telling()),
        };
        Self::wrapping(kind, error)
    }
}

fn sync_kind(error: &SyncError) -> ErrorKind {
    match error {
        SyncError::NoTransport(_) => ErrorKind::InvalidAddress,
        SyncError::NoAddress => ErrorKind::InvalidTicket,
        SyncError::Row(_) => ErrorKind::Corrupt,
        SyncError::NewerRow(_) => ErrorKind::NewerFormat,
        SyncError::Setting(error) => match error {
            SettingError::Name => ErrorKind::InvalidName,
            SettingError::TooLong | SettingError::TooMany => ErrorKind::TooLarge,
            SettingError::Damaged { .. } => ErrorKind::Corrupt,
            _ => ErrorKind::InvalidValue,
        },
        SyncError::Blocked(_) | SyncError::NotTaken(_) => ErrorKind::Refused,
        SyncError::UnknownEntry(_) => ErrorKind::NotFound,
        SyncError::Metadata | SyncError::TooManyAsked => ErrorKind::TooLarge,
        SyncError::Dial(error) => dial_kind(error),
        SyncError::Handshake(HandshakeError::WrongServer { .. }) => ErrorKind::Refused,
        _ => match error.refusal() {
            Some(code) => refusal_kind(code),
            None => other_kind(error),
        },
    }
}

fn dial_kind(error: &DialError) -> ErrorKind {
    match error {
        DialError::Unsupported(_) => ErrorKind::InvalidAddress,
        DialError::TimedOut(_) => ErrorKind::Unreachable,
        DialError::Busy(_) => ErrorKind::Busy,
        DialError::WrongServer { .. } => ErrorKind::Refused,
        DialError::ShutDown => ErrorKind::Closed,
        _ => ErrorKind::Unreachable,
    }
}

fn refusal_kind(code: RefusalCode) -> ErrorKind {
    match code {
        RefusalCode::Busy | RefusalCode::Failed => ErrorKind::Busy,
        RefusalCode::Version(_) | RefusalCode::Misplaced => ErrorKind::Protocol,
        _ => ErrorKind::Refused,
    }
}

fn other_kind(error: &SyncError) -> ErrorKind {
    match error {
        SyncError::Link(_) => ErrorKind::Unreachable,
        SyncError::TimedOut { .. } | SyncError::NotInStep { .. } => ErrorKind::TimedOut,
        SyncError::Stopped => ErrorKind::Closed,
        _ => ErrorKind::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_error_tells_each_cause_once() {
        let cause =
            StoreError::Backend(BackendError::Io(std::sync::Arc::new(std::io::Error::other("cable"))));
        let error = Error::from(cause);
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "reading or writing the store failed");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("cable"));
    }

    #[test]
    fn an_error_of_a_write_closure_comes_back_as_it_was() {
        let own = Error::new(ErrorKind::NotFound, "no such thing");
        let back = Error::from(DbError::abort(own));
        assert_eq!((back.kind(), back.to_string()), (ErrorKind::NotFound, "no such thing".to_owned()));
    }
}
