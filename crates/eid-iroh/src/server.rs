//! The listener: connections of an endpoint, each past the gate, and an orderly end.

use std::net::IpAddr;
use std::sync::Arc;

use eid_core::PublicKey;
use eid_transport::Connection;
use eid_transport::places::{Counted, Counts, Keyed, customer};
use eid_transport::streams::{Channel as _, Reason, StreamConnection};
use iroh::Endpoint;
use iroh::endpoint::{Incoming, IncomingAddr};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::channel::IrohChannel;
use crate::limits::Bounds;

/// The label under which both ends derive the binding of their connection (RFC 5705).
const BINDING_LABEL: &[u8] = b"EXPORTER-eid-channel-binding";

/// What every connection passes on its way in.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) bounds: Bounds,
    pub(crate) keys: Arc<Keyed<IrohChannel>>,
    pub(crate) accepted: mpsc::Sender<Arc<dyn Connection>>,
    pub(crate) all: Arc<Counts<()>>,
    pub(crate) addresses: Arc<Counts<IpAddr>>,
}

/// What a connection takes up, as long as it is there.
type Place = (Counted<()>, Option<Counted<IpAddr>>);

pub(crate) async fn serve(endpoint: Endpoint, gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut greeting = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = greeting.join_next(), if !greeting.is_empty() => {}
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => gate.admit(incoming, &mut greeting),
                None => break,
            },
        }
    }
    greeting.shutdown().await;
}

impl Gate {
    /// Decides on a first datagram, before anything is kept for whoever sent it.
    fn admit(self: &Arc<Self>, incoming: Incoming, greeting: &mut JoinSet<()>) {
        if greeting.len() >= self.bounds.unproven_max {
            tracing::debug!("turned away a connection: as many as may be have shown nothing yet");
            return incoming.refuse();
        }
        let from = match incoming.remote_addr() {
            IncomingAddr::Ip(socket) => Some(socket.ip()),
            _ => None,
        };
        if from.is_some()
            && greeting.len() >= self.bounds.unproven_max / 2
            && !incoming.remote_addr_validated()
        {
            if let Err(error) = incoming.retry() {
                tracing::debug!(%error, "a client could not be asked where it is");
            }
            return;
        }
        let Some(place) = self.place(from) else {
            tracing::debug!("turned away a connection: there are as many as may be, or of its address");
            return incoming.refuse();
        };
        let gate = Arc::clone(self);
        greeting.spawn(async move { gate.greet(incoming, place).await });
    }

    fn place(&self, from: Option<IpAddr>) -> Option<Place> {
        let one = Counts::enter(&self.all, (), self.bounds.connections_max)?;
        let Some(ip) = from.filter(|ip| !ip.to_canonical().is_loopback()) else { return Some((one, None)) };
        let most = self.bounds.connections_per_address_max;
        Some((one, Some(Counts::enter(&self.addresses, customer(ip), most)?)))
    }

    /// Makes the handshake, and hands on the connection once its peer has begun a link.
    async fn greet(&self, incoming: Incoming, place: Place) {
        let handshake = async { incoming.accept().ok()?.await.ok() };
        let Ok(Some(connection)) = timeout(self.bounds.handshake, handshake).await else {
            return tracing::debug!("a handshake failed or did not end in time");
        };
        let channel = IrohChannel(connection);
        let key = key_of(&channel);
        let seat = Keyed::enter(&self.keys, key, &channel, self.bounds.connections_per_key_max);
        let accepted = connected(&channel, &self.bounds, Box::new((place, seat)));
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

/// The key that the other side has proven.
pub(crate) fn key_of(channel: &IrohChannel) -> PublicKey {
    PublicKey(*channel.0.remote_id().as_bytes())
}

/// A connection whose handshake is complete.
pub(crate) fn connected(
    channel: &IrohChannel,
    bounds: &Bounds,
    place: Box<dyn std::fmt::Debug + Send + Sync>,
) -> StreamConnection<IrohChannel> {
    let mut binding = [0; 32];
    channel
        .0
        .export_keying_material(&mut binding, BINDING_LABEL, b"")
        .expect("a complete handshake exports 32 bytes");
    StreamConnection::new(channel.clone(), bounds.patience, binding, Some(key_of(channel)), place)
}
