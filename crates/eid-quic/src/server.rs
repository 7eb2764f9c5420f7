//! The listener: a socket in, connections out, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use eid_core::PublicKey;
use eid_transport::Connection;
use eid_transport::places::{Counted, Counts, Keyed, customer, reachable};
use eid_transport::streams::{Channel as _, Reason, StreamConnection};
use quinn::{Endpoint, Incoming, ServerConfig, VarInt};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::channel::QuicChannel;
use crate::limits::{Bounds, SHUTDOWN};
use crate::tls::{self, Identity};

/// The label under which both ends derive the binding of their connection (RFC 5705).
const BINDING_LABEL: &[u8] = b"EXPORTER-eid-channel-binding";

/// A listener that runs.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What every connection passes on its way in.
#[derive(Debug)]
struct Gate {
    bounds: Bounds,
    addresses: Arc<Counts<std::net::IpAddr>>,
    keys: Arc<Keyed<QuicChannel>>,
    accepted: mpsc::Sender<Arc<dyn Connection>>,
}

impl Server {
    pub(crate) async fn start(
        listen: &str,
        identity: &Identity,
        bounds: &Bounds,
        accepted: mpsc::Sender<Arc<dyn Connection>>,
    ) -> io::Result<Self> {
        let nowhere = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let address = tokio::net::lookup_host(listen).await?.next().ok_or_else(nowhere)?;
        let mut config = ServerConfig::with_crypto(Arc::new(identity.server()));
        config.transport_config(bounds.of_server()).max_incoming(bounds.unproven_max);
        let endpoint = Endpoint::server(config, address)?;
        let address = endpoint.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let gate = Arc::new(Gate {
            bounds: bounds.clone(),
            addresses: Arc::default(),
            keys: Arc::default(),
            accepted,
        });
        let task = tokio::spawn(serve(endpoint, gate, stopped));
        Ok(Self { address, stop, task })
    }

    /// Where others reach this server.
    pub(crate) fn address(&self) -> SocketAddr {
        reachable(self.address)
    }

    /// Begins to stop, and waits for nothing.
    pub(crate) fn stop_soon(&self) {
        self.stop.send_replace(true);
    }

    /// Closes every connection, waits a bounded time until the peers have heard it, and closes the socket.
    pub(crate) async fn stop(self) {
        self.stop_soon();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the quic listener ended badly");
        }
    }
}

async fn serve(endpoint: Endpoint, gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut greeting = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = greeting.join_next(), if !greeting.is_empty() => {}
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => gate.admit(incoming, &endpoint, &mut greeting),
                None => break,
            },
        }
    }
    greeting.shutdown().await;
    end(&endpoint).await;
}

/// Closes an endpoint with all its connections, and waits a bounded time until the peers have heard it.
pub(crate) async fn end(endpoint: &Endpoint) {
    endpoint.close(VarInt::from_u32(Reason::Done.code()), b"");
    if timeout(SHUTDOWN, endpoint.wait_idle()).await.is_err() {
        tracing::debug!("some peers did not hear that the connection is closed");
    }
}

impl Gate {
    /// Decides on a first datagram, before anything is kept for whoever sent it.
    fn admit(self: &Arc<Self>, incoming: Incoming, endpoint: &Endpoint, greeting: &mut JoinSet<()>) {
        let from = incoming.remote_address().ip();
        if greeting.len() >= self.bounds.unproven_max
            || endpoint.open_connections() >= self.bounds.connections_max
        {
            tracing::debug!("turned away a connection: there are as many as may be");
            return incoming.refuse();
        }
        if greeting.len() >= self.bounds.unproven_max / 2 && incoming.may_retry() {
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            return;
        }
        let exempt = from.to_canonical().is_loopback() && !self.bounds.counts_loopback;
        let most = if exempt { usize::MAX } else { self.bounds.connections_per_address_max };
        let Some(place) = Counts::enter(&self.addresses, customer(from), most) else {
            tracing::debug!("turned away a connection: its address has as many as it may");
            return incoming.refuse();
        };
        let gate = Arc::clone(self);
        greeting.spawn(async move { gate.greet(incoming, place).await });
    }

    /// Makes the handshake, and hands on the connection once its peer has begun a link.
    async fn greet(&self, incoming: Incoming, place: Counted<std::net::IpAddr>) {
        let handshake = async { incoming.accept()?.await };
        let connection = match timeout(self.bounds.handshake, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%error, "a quic handshake failed"),
            Err(_) => return tracing::debug!("a quic handshake did not end in time"),
        };
        let channel = QuicChannel(connection);
        let Some(key) = tls::proven(&channel.0) else {
            return channel.close(Reason::Silent);
        };
        let seat = Keyed::enter(&self.keys, key, &channel, self.bounds.connections_per_key_max);
        let accepted = connected(&channel, key, &self.bounds, Box::new((place, seat)));
        if !accepted.begins().await {
            tracing::debug!("a connection brought no link in time");
            return channel.close(Reason::Silent);
        }
        if self.accepted.try_send(Arc::new(accepted)).is_err() {
            tracing::debug!("turned away a connection: too many wait to be accepted");
            channel.close(Reason::NoRoom);
        }
    }
}

/// A connection whose handshake has proven this key.
pub(crate) fn connected(
    channel: &QuicChannel,
    key: PublicKey,
    bounds: &Bounds,
    place: Box<dyn std::fmt::Debug + Send + Sync>,
) -> StreamConnection<QuicChannel> {
    let mut binding = [0; 32];
    channel
        .0
        .export_keying_material(&mut binding, BINDING_LABEL, b"")
        .expect("a complete handshake exports 32 bytes");
    StreamConnection::new(channel.clone(), bounds.patience, binding, Some(key), place)
}
