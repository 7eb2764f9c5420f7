//! Causes that stand behind the errors of links and dials.

use std::error::Error;
use std::io;

use eid_transport::ListenError;
use eid_transport::streams::Lost;
use iroh::endpoint::{BindError, ConnectError, ConnectionError};

use crate::ALPN;

/// How a link or a dial broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// Datagrams get lost in silence, so this is all that shows when nobody is there.
    #[error("nobody answered in {0} ms")]
    Silence(u128),
    /// The other side is there and does not speak this.
    #[error("the other side does not speak {ALPN}")]
    OtherProtocol,
    /// Somebody else is there.
    #[error("whoever is there holds another key")]
    OtherKey,
    /// The key of the address is no point of the curve.
    #[error("the key of the address is not a key")]
    NoKey,
    /// The connection broke.
    #[error("the connection broke")]
    Connection(#[source] ConnectionError),
    /// The connection could not be made.
    #[error("the connection could not be made")]
    Connect(#[source] ConnectError),
    /// No socket could be had.
    #[error("no socket could be had")]
    Bind(#[source] BindError),
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

pub(crate) fn not_listening(address: String, error: BindError) -> ListenError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    let mut taken = false;
    while let Some(error) = cause {
        taken |= error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::AddrInUse);
        cause = error.source();
    }
    let cause = Broken::Bind(error).into();
    if taken { ListenError::InUse { address, cause } } else { ListenError::Unusable { address, cause } }
}
