//! Dialling: what an address says, and what a failure means.

use eid_transport::streams::NO_APPLICATION_PROTOCOL;
use eid_transport::{Address, DialError};
use iroh::endpoint::{
    ConnectError, ConnectWithOptsError, ConnectingError, Connection, ConnectionError, TransportErrorCode,
};
use iroh::{Endpoint, EndpointAddr};
use tokio::time::timeout;

use crate::ALPN;
use crate::error::Broken;
use crate::limits::Bounds;

/// The alert of a client that has met another key than the one it dialled: iroh knows no issuer for it.
const UNKNOWN_CA: u8 = 48;

/// Connects to whoever holds the key of an address.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    to: &Address,
    there: EndpointAddr,
    bounds: &Bounds,
) -> Result<Connection, DialError> {
    match timeout(bounds.handshake, endpoint.connect(there, ALPN.as_bytes())).await {
        Ok(connected) => connected.map_err(|error| failed(error, to)),
        Err(_) => {
            let cause = Broken::Silence(bounds.handshake.as_millis()).into();
            Err(DialError::Unreachable { address: to.clone(), cause })
        }
    }
}

fn failed(error: ConnectError, address: &Address) -> DialError {
    let address = address.clone();
    let connection = match &error {
        ConnectError::Connection { source, .. } => Some(source),
        ConnectError::Connecting { source: ConnectingError::ConnectionError { source, .. }, .. } => {
            Some(source)
        }
        _ => None,
    };
    match connection {
        Some(ConnectionError::ConnectionClosed(close))
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            return DialError::Busy(address);
        }
        Some(ConnectionError::ConnectionClosed(close))
            if close.error_code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) =>
        {
            return DialError::NotAPeer { address, cause: Broken::OtherProtocol.into() };
        }
        // The socket went to somebody else, and the holder of the key may be met at another.
        Some(ConnectionError::TransportError(error))
            if error.code == TransportErrorCode::crypto(UNKNOWN_CA) =>
        {
            return DialError::Unreachable { address, cause: Broken::OtherKey.into() };
        }
        Some(
            ConnectionError::ConnectionClosed(_)
            | ConnectionError::TransportError(_)
            | ConnectionError::VersionMismatch,
        ) => return DialError::NotAPeer { address, cause: Broken::Connect(error).into() },
        _ => {}
    }
    match error {
        ConnectError::Connect { source: ConnectWithOptsError::EndpointClosed { .. }, .. } => {
            DialError::ShutDown
        }
        error => DialError::Unreachable { address, cause: Broken::Connect(error).into() },
    }
}
