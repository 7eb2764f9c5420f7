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

pub(crate) fn lost(error: ConnectionError) -> Lost {
    match error {
        ConnectionError::ApplicationClosed(close) => Lost::closed(close.error_code.into_inner()),
        ConnectionError::LocallyClosed => Lost::Closed,
        ConnectionError::Reset => Lost::Gone,
        ConnectionError::TransportError(_) => Lost::Corrupt,
        error => Lost::Cut(Broken::Connection(error).into()),
    }
}
