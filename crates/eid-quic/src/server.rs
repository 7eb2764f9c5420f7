//! The listener: a socket in, connections out, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use eid_transport::Arrivals;
use eid_transport::places::reachable;
use eid_transport::streams::{BINDING_LABEL, Channel as _, Door, FirstLook, Place, Reason};
use quinn::{Endpoint, Incoming, ServerConfig, VarInt};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::channel::QuicChannel;
use crate::limits::{Bounds, SHUTDOWN};
use crate::tls::{self, Identity};

/// A listener that runs.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens until `arrivals` is shut.
    pub(crate) async fn start(
        listen: &str,
        identity: &Identity,
        bounds: &Bounds,
        arrivals: Arrivals,
    ) -> io::Result<Self> {
        let nowhere = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let address = tokio::net::lookup_host(listen).await?.next().ok_or_else(nowhere)?;
        let mut config = ServerConfig::with_crypto(Arc::new(identity.server()));
        config.transport_config(bounds.of_server()).max_incoming(bounds.room.unproven_max);
        let endpoint = Endpoint::server(config, address)?;
        let address = endpoint.local_addr()?;
        let task = tokio::spawn(serve(endpoint, bounds.clone(), arrivals));
        Ok(Self { address, task })
    }

    /// Where others reach this server.
    pub(crate) fn address(&self) -> SocketAddr {
        reachable(self.address)
    }

    /// Waits until every connection is closed, the peers have heard it or had a bounded time to, and so is the socket.
    pub(crate) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the quic listener ended badly");
        }
    }
}

async fn serve(endpoint: Endpoint, bounds: Bounds, arrivals: Arrivals) {
    let door = Arc::new(Door::new(bounds.room, bounds.patience, arrivals.clone()));
    let mut greeting = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = arrivals.until_shut() => break,
            Some(_) = greeting.join_next(), if !greeting.is_empty() => {}
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(incoming, &door, &bounds, &mut greeting),
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

/// Decides on a first datagram, before anything is kept for whoever sent it.
fn admit(incoming: Incoming, door: &Arc<Door<QuicChannel>>, bounds: &Bounds, greeting: &mut JoinSet<()>) {
    match door.first_look(greeting.len()) {
        FirstLook::Refuse => {
            tracing::debug!("turned away a connection: as many as may be have shown nothing yet");
            return incoming.refuse();
        }
        FirstLook::AskWhereItIs if incoming.may_retry() => {
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            return;
        }
        FirstLook::AskWhereItIs | FirstLook::Greet => {}
    }
    let Some(place) = door.place(Some(incoming.remote_address().ip())) else {
        tracing::debug!("turned away a connection: there are as many as may be, or of its address");
        return incoming.refuse();
    };
    let (door, patience) = (Arc::clone(door), bounds.handshake);
    greeting.spawn(async move {
        let handshake = async { incoming.accept()?.await };
        match timeout(patience, handshake).await {
            Ok(Ok(connection)) => greet(QuicChannel(connection), &door, place).await,
            Ok(Err(error)) => tracing::debug!(%error, "a quic handshake failed"),
            Err(_) => tracing::debug!("a quic handshake did not end in time"),
        }
    });
}

async fn greet(channel: QuicChannel, door: &Door<QuicChannel>, place: Place) {
    let Some(key) = tls::proven(&channel.0) else {
        return channel.close(Reason::Silent);
    };
    let binding = binding(&channel);
    if let Err(reason) = door.enter(channel, key, binding, place).await {
        tracing::debug!(%reason, "turned away a connection");
    }
}

/// What both ends derive of their handshake.
pub(crate) fn binding(channel: &QuicChannel) -> [u8; 32] {
    let mut binding = [0; 32];
    channel
        .0
        .export_keying_material(&mut binding, BINDING_LABEL, b"")
        .expect("a complete handshake exports 32 bytes");
    binding
}
