//! Bounds that every transport keeps, each with its reason.

use std::time::Duration;

/// Greatest length of a frame in bytes: one entry with all its payloads (1 MiB and a header) fits with room for a
/// batch around it.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Greatest sum of a turn of the side that opened the link, in bytes, each frame counted with [`FRAME_OVERHEAD`]:
/// a window of 4 MiB, the frame that overshoots it, and room for small frames. Over HTTP it is the body of a request.
/// A turn of the side that accepted has no such bound: it may go on for as long as the opener listens.
pub const OPENER_TURN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Greatest length in bytes of a frame that is said aside: a few numbers.
pub const ASIDE_BYTES_MAX: usize = 64;
/// What a frame counts beyond its own length, in bytes, so that empty frames are bounded too.
pub const FRAME_OVERHEAD: usize = 4;
/// Greatest number of links open at once on one connection: a peer synchronises this many databases at a time.
pub const LINKS_MAX: usize = 64;
/// Greatest number of connections that wait to be accepted; further ones are turned away.
pub const BACKLOG_MAX: usize = 64;
/// Greatest length of an address in bytes; eight of them fit into a ticket of 4 KiB.
pub const ADDRESS_BYTES_MAX: usize = 384;
/// Greatest number of sockets in an `iroh` address: the interfaces of a device, and what its router shows outside. With
/// a key and a relay they fit into an address.
pub const SOCKETS_MAX: usize = 6;
/// What one side of a memory link buffers for the other, in bytes: one window.
pub const MEMORY_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// How much is taken from a stream at a time, in bytes: what a receiver holds beyond a frame.
pub const READ_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may take to bring the first byte of its first link.
pub const FIRST_BYTE: Duration = Duration::from_secs(5);
/// How long a frame may take from its first byte to its last: 2 MiB at 100 kB/s.
pub const FRAME: Duration = Duration::from_secs(20);
/// How long the other side may take nothing of what is sent: it may have to verify and flush first.
pub const STALL: Duration = Duration::from_secs(60);
/// How long closing a connection waits for what was sent on links that are closed already to arrive.
pub const GOODBYE: Duration = Duration::from_secs(1);
/// Connections whose peer has shown nothing yet: a handshake takes one round trip, so these are few. From half of them
/// on, a client has to show that it is where it says it is before anything is kept for it.
pub const UNPROVEN_MAX: usize = 64;
/// Connections in all; each costs some buffers.
pub const CONNECTIONS_MAX: usize = 2048;
/// Connections from one address, so that one machine does not take the room of all. Loopback is exempt.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 32;
/// Connections of one key. The oldest makes room: a device that went away without a word leaves some behind.
pub const CONNECTIONS_PER_KEY_MAX: usize = 16;
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
/// Silence over UDP, where nobody says that a process has gone, after which it counts as gone: three questions of
/// [`KEEP_ALIVE`] are not answered.
pub const IDLE: Duration = Duration::from_secs(20);
/// Silence after which a side asks whether the other one is still there, which also keeps the path open: routers forget one
/// over UDP after 30 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a shutdown waits until every peer has heard of it.
pub const SHUTDOWN: Duration = Duration::from_secs(3);
