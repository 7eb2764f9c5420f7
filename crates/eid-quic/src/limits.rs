//! Bounds of this transport, each with its reason. What holds for streams of any kind is in [`eid_transport::limits`].

use std::sync::Arc;
use std::time::Duration;

use eid_transport::limits::LINKS_MAX;
use eid_transport::streams::Patience;
use quinn::{IdleTimeout, TransportConfig, VarInt};

/// Connections whose peer has shown nothing yet: a handshake takes one round trip, so these are few. From half of them
/// on, a client has to show that it is where it says it is before anything is kept for it.
pub const UNPROVEN_MAX: usize = 64;
/// Connections in all; each costs some buffers.
pub const CONNECTIONS_MAX: usize = 2048;
/// Connections from one address, so that one machine does not take the room of all. Loopback is exempt.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 32;
/// Connections of one key. The oldest makes room: a device that went away without a word leaves some behind.
pub const CONNECTIONS_PER_KEY_MAX: usize = 4;
/// Streams that a peer may have open at once: as many as a connection has links, and some that have ended without the
/// peer having heard of it, as that is said only for an eighth of them at a time.
pub const STREAMS_MAX: u32 = LINKS_MAX as u32 * 5 / 4;
/// What a peer may send on one link before it is read, in bytes: some batches.
pub const LINK_WINDOW_BYTES: u32 = 1024 * 1024;
/// What a peer may send on all links of a connection before it is read, in bytes: a window of a session.
pub const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The same for a client that has not shown who it is: a handshake takes a few kilobytes.
pub const UNPROVEN_WINDOW_BYTES: u32 = 64 * 1024;
/// What is kept in memory for one peer until it has acknowledged it, in bytes.
pub const SEND_WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long finding the addresses of a name and making a handshake with one of them may take in all.
pub const DIAL: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
pub const DIAL_ADDRESSES_MAX: usize = 4;
/// How long one address of a name is tried alone before the next is tried beside it (RFC 8305).
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);
/// Silence after which the other side counts as gone.
pub const IDLE: Duration = Duration::from_secs(60);
/// Silence after which the side that dialled asks whether the other one is still there: routers forget a path over UDP
/// after 30 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a shutdown waits until every peer has heard of it.
pub const SHUTDOWN: Duration = Duration::from_secs(3);

/// The bounds that a program may choose for its machine and its place in the network.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// See [`UNPROVEN_MAX`].
    pub unproven_max: usize,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX`].
    pub connections_per_address_max: usize,
    /// See [`CONNECTIONS_PER_KEY_MAX`].
    pub connections_per_key_max: usize,
    /// Whether connections from loopback are counted like all others.
    pub counts_loopback: bool,
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
            unproven_max: UNPROVEN_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            connections_per_key_max: CONNECTIONS_PER_KEY_MAX,
            counts_loopback: false,
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
