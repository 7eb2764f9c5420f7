//! Causes that stand behind the errors of links and dials.

use eid_transport::streams::Lost;
use quinn::{ConnectError, ConnectionError};

use crate::ALPN;

/// How a link or a dial broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// Datagrams get lost in silence, so this is all that shows when nobody is there.
    #[error("nobody answered in {0} ms")]
    Silence(u128),
    /// The name has no address.
    #[error("the name has no address")]
    NoSuchName,
    /// The other side speaks QUIC and not this.
    #[error("the other side does not speak {ALPN}")]
    OtherProtocol,
    /// The other side has made room for somebody else.
    #[error("the other side had no room for the connection any more")]
    NoRoom,
    /// The sender gave up in the middle of its turn.
    #[error("the other side gave up in the middle of its turn")]
    TornTurn,
    /// The other side does not show a key.
    #[error("the other side does not show a key")]
    NoKey,
    /// The connection broke.
    #[error("the connection broke")]
    Connection(#[source] ConnectionError),
    /// The connection could not be begun.
    #[error("the connection could not be begun")]
    Connect(#[source] ConnectError),
}

/// Why an end closes a connection. The number travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is done.
    Done = 0,
    /// There is no room.
    NoRoom = 1,
    /// Nothing came.
    Silent = 2,
}

impl Reason {
    pub(crate) fn close(self, connection: &quinn::Connection) {
        connection.close(quinn::VarInt::from_u32(self as u32), b"");
    }
}

pub(crate) fn lost(error: ConnectionError) -> Lost {
    match error {
        ConnectionError::ApplicationClosed(close)
            if close.error_code.into_inner() == Reason::NoRoom as u64 =>
        {
            Lost::Cut(Broken::NoRoom.into())
        }
        ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => Lost::Closed,
        ConnectionError::Reset => Lost::Gone,
        ConnectionError::TransportError(_) => Lost::Corrupt,
        error => Lost::Cut(Broken::Connection(error).into()),
    }
}
