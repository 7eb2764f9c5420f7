//! Every bound of the engine, with the reason for its number.

/// Databases that are looked at for the states that a server tells in a handshake: strangers dial too.
pub const STATES_LOOKED_AT: usize = 64;
/// Milliseconds for a whole handshake: two round trips over the slowest link that is worth using.
pub const HANDSHAKE_MS: u64 = 5_000;
/// Milliseconds for one frame once a turn has begun: 2 MiB at 100 kB/s.
pub const FRAME_MS: u64 = 20_000;
/// Milliseconds for the other side to begin its turn: it may have to plan, verify and flush first.
pub const IDLE_MS: u64 = 60_000;
/// Milliseconds between two looks at the rights of a peer that is served and says or takes nothing: it is left after the
/// second that finds none, within a second of losing them.
pub const RIGHTS_MS: u64 = 400;
/// Milliseconds that a control link may rest between two requests before the connection is given up.
pub const CONTROL_IDLE_MS: u64 = 600_000;
/// Greatest number of connections that others have dialled and that are served at once.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Greatest number of sessions that are served at once over all connections, of peers that have a right: each holds up
/// to two windows.
pub const SESSIONS_MAX: usize = 128;
/// Greatest number of events that wait for one subscriber; further ones are counted and skipped.
pub const EVENTS_MAX: usize = 1_024;
/// Greatest length of a ticket in bytes: what fits into a QR code and a command line.
pub const TICKET_BYTES_MAX: usize = 4 * 1024;
/// Greatest number of addresses in a ticket.
pub const TICKET_ADDRESSES_MAX: usize = 8;
/// Polls of a session in one piece of blocking work: long walks let others run in between.
pub const POLLS_MAX: u32 = 8;
/// Peers and databases of which it is remembered that the peer has not given the payloads that are not here: to ask
/// again costs what was written since the first of them.
pub const VAIN_MAX: usize = 4_096;
/// Bytes of frames that are made in one piece of blocking work: about one batch waits in memory to be sent.
pub const BURST_BYTES: usize = 256 * 1024;
/// Milliseconds that a sabotaged receiver waits between acknowledging and committing.
pub(crate) const SABOTAGE_MS: u64 = 200;
