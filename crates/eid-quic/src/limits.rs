//! Bounds of this transport, each with its reason. What holds for streams of any kind is in [`eid_transport::limits`].

use std::sync::Arc;
use std::time::Duration;

pub use eid_transport::limits::{
    HANDSHAKE, IDLE, KEEP_ALIVE, LINK_WINDOW_BYTES, SEND_WINDOW_BYTES, SHUTDOWN, STREAMS_MAX,
    UNPROVEN_WINDOW_BYTES, WINDOW_BYTES,
};
use eid_transport::streams::{Patience, Room};
use quinn::{IdleTimeout, TransportConfig, VarInt};

/// How long finding the addresses of a name and making a handshake with one of them may take in all.
pub const DIAL: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
pub const DIAL_ADDRESSES_MAX: usize = 4;
/// How long one address of a name is tried alone before the next is tried beside it (RFC 8305).
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);

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
            patience: Patience::default(),
        }
    }
}

impl Bounds {
    pub(crate) fn of_client(&self) -> Arc<TransportConfig> {
        let mut config = self.of_either();
        config.receive_window(VarInt::from_u32(WINDOW_BYTES)).keep_alive_interval(Some(self.keep_alive));
        Arc::new(config)
    }

    pub(crate) fn of_server(&self) -> Arc<TransportConfig> {
        let mut config = self.of_either();
        config.receive_window(VarInt::from_u32(UNPROVEN_WINDOW_BYTES));
        Arc::new(config)
    }

    fn of_either(&self) -> TransportConfig {
        let mut config = TransportConfig::default();
        let idle = IdleTimeout::try_from(self.idle).unwrap_or(IdleTimeout::from(VarInt::MAX));
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            .max_idle_timeout(Some(idle));
        config
    }
}
