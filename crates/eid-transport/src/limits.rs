//! Bounds that every transport keeps, each with its reason.

use std::time::Duration;

/// Greatest length of a frame in bytes: one entry with all its payloads (1 MiB and a header) fits with room for a
/// batch around it.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Greatest sum of a turn of the side that opened the link, in bytes, each frame counted with [`FRAME_OVERHEAD`]:
/// a window of 4 MiB, the frame that overshoots it, and room for small frames. Over HTTP it is the body of a request.
/// A turn of the side that accepted has no such bound: it may go on for as long as the opener listens.
pub const OPENER_TURN_BYTES_MAX: usize = 8 * 1024 * 1024;
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
