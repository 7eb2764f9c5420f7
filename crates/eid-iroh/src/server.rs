//! The listener: connections of an endpoint, each through the door.

use std::sync::Arc;

use eid_core::PublicKey;
use eid_transport::Arrivals;
use eid_transport::streams::{BINDING_LABEL, Door, FirstLook};
use iroh::Endpoint;
use iroh::endpoint::{Incoming, IncomingAddr};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::channel::IrohChannel;
use crate::limits::Bounds;

/// Listens until `arrivals` is shut.
pub(crate) async fn serve(
    endpoint: Endpoint,
    door: Arc<Door<IrohChannel>>,
    bounds: Bounds,
    arrivals: Arrivals,
) {
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
}

/// Decides on a first datagram, before anything is kept for whoever sent it.
fn admit(incoming: Incoming, door: &Arc<Door<IrohChannel>>, bounds: &Bounds, greeting: &mut JoinSet<()>) {
    let from = match incoming.remote_addr() {
        IncomingAddr::Ip(socket) => Some(socket.ip()),
        // Whoever comes over a relay has shown it where he is.
        _ => None,
    };
    match door.first_look(greeting.len()) {
        FirstLook::Refuse => {
            tracing::debug!("turned away a connection: as many as may be have shown nothing yet");
            return incoming.refuse();
        }
        FirstLook::AskWhereItIs if from.is_some() && !incoming.remote_addr_validated() => {
            if let Err(error) = incoming.retry() {
                tracing::debug!(%error, "a client could not be asked where it is");
            }
            return;
        }
        FirstLook::AskWhereItIs | FirstLook::Greet => {}
    }
    let Some(place) = door.place(from) else {
        tracing::debug!("turned away a connection: there are as many as may be, or of its address");
        return incoming.refuse();
    };
    let (door, patience) = (Arc::clone(door), bounds.handshake);
    greeting.spawn(async move {
        let handshake = async { incoming.accept().ok()?.await.ok() };
        let Ok(Some(connection)) = timeout(patience, handshake).await else {
            return tracing::debug!("a handshake failed or did not end in time");
        };
        let channel = IrohChannel(connection);
        let (key, binding) = (key_of(&channel), binding(&channel));
        if let Err(reason) = door.enter(channel, key, binding, place).await {
            tracing::debug!(%reason, "turned away a connection");
        }
    });
}

/// The key that the other side has proven.
fn key_of(channel: &IrohChannel) -> PublicKey {
    PublicKey(*channel.0.remote_id().as_bytes())
}

/// What both ends derive of their handshake.
pub(crate) fn binding(channel: &IrohChannel) -> [u8; 32] {
    let mut binding = [0; 32];
    channel
        .0
        .export_keying_material(&mut binding, BINDING_LABEL, b"")
        .expect("a complete handshake exports 32 bytes");
    binding
}
