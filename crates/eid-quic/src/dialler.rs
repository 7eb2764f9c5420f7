//! Dialling: from a name to addresses, and from those to the first that answers.

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::PublicKey;
use eid_transport::streams::{NO_APPLICATION_PROTOCOL, StreamConnection};
use eid_transport::{Address, Connection, DialError};
use quinn::{ClientConfig, ConnectionError, Endpoint, TransportErrorCode};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::channel::QuicChannel;
use crate::error::Broken;
use crate::limits::{Bounds, DIAL, DIAL_ADDRESSES_MAX, DIAL_STAGGER};
use crate::server::{binding, end};
use crate::tls::{self, Identity, Meeting};

/// A name that is given where TLS wants one. It is not sent, and nobody looks at it.
const NO_NAME: &str = "eid.invalid";

/// Makes connections, each family of addresses from one socket that is bound when it is needed first.
#[derive(Debug, Default)]
pub(crate) struct Dialler {
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
}

impl Dialler {
    pub(crate) async fn dial(
        &self,
        to: &Address,
        expected: Option<PublicKey>,
        identity: &Identity,
        bounds: &Bounds,
    ) -> Result<Arc<dyn Connection>, DialError> {
        let unreachable = |cause| DialError::Unreachable { address: to.clone(), cause };
        let dialling = self.race(to, expected, identity, bounds);
        let (connection, found) = timeout(DIAL, dialling)
            .await
            .map_err(|_| unreachable(Broken::Silence(DIAL.as_millis()).into()))??;
        let channel = QuicChannel(connection);
        let binding = binding(&channel);
        Ok(Arc::new(StreamConnection::new(channel, bounds.patience, binding, Some(found), Box::new(()))))
    }

    /// Tries every address of a name, each a moment after the one before, until one answers.
    async fn race(
        &self,
        to: &Address,
        expected: Option<PublicKey>,
        identity: &Identity,
        bounds: &Bounds,
    ) -> Result<(quinn::Connection, PublicKey), DialError> {
        let unreachable = |cause| DialError::Unreachable { address: to.clone(), cause };
        let sockets = tokio::net::lookup_host(to.rest()).await.map_err(|error| unreachable(error.into()))?;
        let mut tries = JoinSet::new();
        for (place, socket) in sockets.take(DIAL_ADDRESSES_MAX).enumerate() {
            let (crypto, meeting) = identity.client(expected);
            let mut config = ClientConfig::new(Arc::new(crypto));
            config.transport_config(bounds.of_client());
            let endpoint = self.endpoint(socket).map_err(|error| unreachable(error.into()))?;
            let (to, patience) = (to.clone(), bounds.handshake);
            tries.spawn(async move {
                sleep(DIAL_STAGGER * u32::try_from(place).unwrap_or(0)).await;
                let connecting = endpoint.connect_with(config, socket, NO_NAME).map_err(|error| {
                    DialError::Unreachable { address: to.clone(), cause: Broken::Connect(error).into() }
                })?;
                let connection = tokio::select! {
                    connected = timeout(patience, connecting) => match connected {
                        Ok(connected) => connected.map_err(|error| failed(error, &to, expected, &meeting))?,
                        Err(_) => {
                            let cause = Broken::Silence(patience.as_millis()).into();
                            return Err(DialError::Unreachable { address: to, cause });
                        }
                    },
                    cause = turned_back(socket) => {
                        return Err(DialError::Unreachable { address: to, cause: cause.into() });
                    }
                };
                match tls::proven(&connection) {
                    Some(found) => Ok((connection, found)),
                    None => Err(DialError::NotAPeer { address: to, cause: Broken::NoKey.into() }),
                }
            });
        }
        let mut failure = unreachable(Broken::NoSuchName.into());
        while let Some(tried) = tries.join_next().await {
            match tried {
                Ok(Ok(connected)) => return Ok(connected),
                // What somebody said weighs more than silence elsewhere.
                Ok(Err(error)) if !matches!(failure, DialError::WrongServer { .. }) => failure = error,
                Ok(Err(_)) => {}
                Err(error) => tracing::warn!(%error, "a try to dial ended badly"),
            }
        }
        Err(failure)
    }

    fn endpoint(&self, towards: SocketAddr) -> io::Result<Endpoint> {
        let slot = if towards.is_ipv4() { &self.v4 } else { &self.v6 };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let endpoint = Endpoint::client((any(towards), 0).into())?;
        *slot = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// Closes every connection and both sockets.
    pub(crate) async fn shutdown(&self) {
        for slot in [&self.v4, &self.v6] {
            let endpoint = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(endpoint) = endpoint {
                end(&endpoint).await;
            }
        }
    }
}

/// Waits until the host says that no program has this port, which it tells only to a socket that is connected; for ever
/// when it says nothing. The one byte that asks is no packet of QUIC, and is dropped by whoever is there.
async fn turned_back(socket: SocketAddr) -> io::Error {
    let asked = async {
        let asking = UdpSocket::bind((any(socket), 0)).await?;
        asking.connect(socket).await?;
        asking.send(&[0]).await?;
        asking.recv(&mut [0]).await
    };
    match asked.await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
        _ => pending().await,
    }
}

/// Every interface, in the family of an address.
fn any(towards: SocketAddr) -> IpAddr {
    match towards {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// What a failed handshake says about whoever is at the address.
fn failed(
    error: ConnectionError,
    address: &Address,
    expected: Option<PublicKey>,
    meeting: &Meeting,
) -> DialError {
    let address = address.clone();
    if let (Some(expected), Some(found)) = (expected, meeting.stranger()) {
        return DialError::WrongServer { address, expected, found };
    }
    match error {
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            DialError::Busy(address)
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) =>
        {
            DialError::NotAPeer { address, cause: Broken::OtherProtocol.into() }
        }
        error @ (ConnectionError::TimedOut | ConnectionError::Reset | ConnectionError::LocallyClosed) => {
            DialError::Unreachable { address, cause: Broken::Connection(error).into() }
        }
        error => DialError::NotAPeer { address, cause: Broken::Connection(error).into() },
    }
}
