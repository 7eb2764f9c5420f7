//! Bounds of this transport, each with its reason. What holds for streams of any kind is in [`eid_transport::limits`].

use std::time::Duration;

pub use eid_transport::limits::{
    IDLE, KEEP_ALIVE, LINK_WINDOW_BYTES, SEND_WINDOW_BYTES, SHUTDOWN, STREAMS_MAX, UNPROVEN_WINDOW_BYTES,
    WINDOW_BYTES,
};
use eid_transport::streams::{Patience, Room};
use iroh::endpoint::{IdleTimeout, QuicTransportConfig, VarInt};

/// How long a handshake may take: a relay has to be reached first.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long beginning to listen waits for a relay. It goes on without one, and takes it when it comes.
pub const ONLINE: Duration = Duration::from_secs(5);

/// The bounds that a program may choose for its machine and its place in the network.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// How many are let in.
    pub room: Room,
    /// See [`HANDSHAKE`].
    pub handshake: Duration,
    /// See [`IDLE`].
    pub idle: Duration,
    /// See [`KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// See [`ONLINE`].
    pub online: Duration,
    /// Of links.
    pub patience: Patience,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            room: Room::default(),
            handshake: HANDSHAKE,
            idle: IDLE,
            keep_alive: KEEP_ALIVE,
            online: ONLINE,
            patience: Patience::default(),
        }
    }
}

impl Bounds {
    /// For both sides: whoever dialled trusts the other side at once, as it has met the key that it meant.
    pub(crate) fn transport(&self) -> QuicTransportConfig {
        let idle = IdleTimeout::try_from(self.idle).unwrap_or(IdleTimeout::from(VarInt::MAX));
        QuicTransportConfig::builder()
            .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(UNPROVEN_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(self.keep_alive)
            .build()
    }
}
