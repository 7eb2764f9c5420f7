//! Every bound of the engine, with the reason for its number.

/// Databases that are looked at for the states that a server tells in a handshake: strangers dial too.
pub const STATES_LOOKED_AT: usize = 64;
/// Milliseconds for making a connection, whatever a transport does: those that there are give up in half of that.
pub const DIALLING_MS: u64 = 20_000;
/// Milliseconds for a whole handshake: two round trips over the slowest link that is worth using.
pub const HANDSHAKE_MS: u64 = 5_000;
/// Milliseconds after which the next address of a peer is dialled beside those that have not answered: more than a handshake
/// takes to most places on earth, and less than a person waits for.
pub const RACE_STAGGER_MS: u64 = 250;
/// Milliseconds for which one attempt to meet a peer waits before the door while another is being let in: a round trip of
/// the slowest links. After that it goes in beside it.
pub const RACE_DOOR_MS: u64 = 1_000;
/// Greatest number of times that one exchange goes on over another connection: beyond it, the network is not worth using.
pub const RESUMES_MAX: u32 = 32;
/// Attempts to go on, one after another, that bring nothing and end an exchange.
pub const RESUMES_VAIN_MAX: u32 = 2;
/// Milliseconds for one frame once a turn has begun: 2 MiB at 100 kB/s.
pub const FRAME_MS: u64 = 20_000;
/// Milliseconds for the other side to begin its turn: it may have to plan, verify and flush first.
pub const IDLE_MS: u64 = 60_000;
/// Milliseconds between two looks at the rights of a peer that is served and says or takes nothing: it is left after the
/// second that finds none, within a second of losing them. Also those from what comes to any database to the look at the
/// rights of followers.
pub const RIGHTS_MS: u64 = 400;
/// Milliseconds between two looks at the rights of followers where nothing has come: a right that ends by the clock ends
/// within this time.
pub const RIGHTS_AT_REST_MS: u64 = 60_000;
/// Milliseconds that a control link may rest between two requests before the connection is given up.
pub const CONTROL_IDLE_MS: u64 = 600_000;
/// Least bytes per second of a turn, beyond its first [`FRAME_MS`]: the slowest link that is worth using.
pub const TURN_BYTES_PER_SECOND_MIN: u64 = 1_024;
/// Greatest number of connections that others have dialled and that are served at once.
pub const CONNECTIONS_MAX: usize = 2_048;
/// Greatest number of them whose peer has not yet proven who it is: a handshake takes two round trips.
pub const UNPROVEN_MAX: usize = 64;
/// Greatest number of connections that one key has dialled: a device needs one for each [`crate::SyncHandle`] that it holds
/// of the peer, and leaves some behind when it goes away without a word.
pub const CONNECTIONS_PER_KEY_MAX: usize = 16;
/// Greatest number of sessions that are served at once over all connections, of peers that have a right. What they hold
/// together is bounded by [`MEMORY_BYTES_MAX`].
pub const SESSIONS_MAX: usize = 512;
/// Greatest number of sessions that are served at once on one connection, so that one device does not take the room of
/// all.
pub const SESSIONS_PER_CONNECTION_MAX: usize = 32;
/// Greatest number of sessions with one peer that this side begins at once when it synchronises all databases: enough that
/// round trips of small ones overlap and a large one stops nobody, an eighth of what a server serves on a connection, and
/// with a hundred devices that come back at the same moment still within [`SESSIONS_MAX`].
pub const SESSIONS_AT_ONCE: usize = 4;
/// Greatest number of further ones, while as many are [large](LARGE_ENTRIES): databases that are not large do not wait for
/// several that are.
pub const SESSIONS_LARGE: usize = 4;
/// Entries in one direction from which on a session is large: what is left of a second of work or more.
pub const LARGE_ENTRIES: u64 = 4_096;
/// Bytes of entries that have arrived in all sessions and are not stored yet, beyond which no session takes in more. Each
/// may overshoot it by one frame.
pub const MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Milliseconds after which a session that found no room looks again.
pub const MEMORY_LOOK_MS: u64 = 20;
/// Greatest number of invalid entries that a key may bring at once: ten batches of a replica that is damaged.
pub const INVALID_ENTRIES_MAX: u64 = 5_000;
/// Invalid entries that a key may bring every second from then on: checking them takes 2 % of one core.
pub const INVALID_ENTRIES_PER_SECOND: u64 = 500;
/// Milliseconds for which a key that brought more is turned away, the first time; each time it is twice as long.
pub const AWAY_MS: u64 = 60_000;
/// Greatest number of milliseconds for which a key is turned away: a mended device is not kept out for a day.
pub const AWAY_MS_MAX: u64 = 3_600_000;
/// Milliseconds without an invalid entry after which the earlier ones are forgotten.
pub const AWAY_FORGOTTEN_MS: u64 = 86_400_000;
/// Keys of which it is remembered that they brought invalid entries, 100 bytes each.
pub const CONDUCT_PEERS_MAX: usize = 4_096;
/// Requests on a control link that are answered at once: one for each database of a person, and more.
pub const REQUESTS_MAX: u64 = 200;
/// Requests on a control link that are answered every second from then on; further ones wait.
pub const REQUESTS_PER_SECOND: u64 = 50;
/// Greatest number of events that wait for one subscriber; further ones are counted and skipped.
pub const EVENTS_MAX: usize = 1_024;
/// Milliseconds between two events that say how far one direction of a session is: as often as a person sees a difference.
pub const PROGRESS_MS: u64 = 250;
/// Greatest length of a ticket in bytes: what fits into a QR code and a command line.
pub const TICKET_BYTES_MAX: usize = 4 * 1024;
/// Greatest number of addresses in a ticket.
pub const TICKET_ADDRESSES_MAX: usize = 8;
/// Greatest number of other servers in a ticket, with an address each: one of them is likely to be there.
pub const TICKET_OTHERS_MAX: usize = 3;
/// Polls of a session in one piece of blocking work: long walks let others run in between.
pub const POLLS_MAX: u32 = 8;
/// Peers and databases of which it is remembered that the peer has not given the payloads that are not here: to ask
/// again costs 34 bytes for each of them.
pub const VAIN_MAX: usize = 4_096;
/// Greatest number of batches of a session that were verified and wait for the door: one, and one beside it.
pub const PREPARED_MAX: usize = 2;
/// Greatest number of bytes of batches that go through the door together. Four times as much makes a bootstrap faster by a
/// fourth, and takes 40 MiB more of memory.
pub const TOGETHER_BYTES_MAX: usize = 256 * 1024;
/// Bytes of frames that are made in one piece of blocking work: about one batch waits in memory to be sent.
pub const BURST_BYTES: usize = 256 * 1024;
/// Milliseconds without a word after which a side that is followed says that it is there: three fit into [`IDLE_MS`],
/// after which it would be given up.
pub const ALIVE_MS: u64 = 20_000;
/// Milliseconds in which the first word on a live link is to be heard: after that, something between is taken to hold
/// back what is not complete, and every word gets an answer of its own.
pub const FIRST_WORD_MS: u64 = 2_000;
/// Milliseconds until a position that is learnt from live links is remembered, with what else is learnt by then: losing one
/// understates.
pub const LEARNT_MS: u64 = 1_000;
/// Followers whose rights are looked at each time: all of them, where there are no more.
pub const LOOKS_MAX: usize = 64;
/// Things that have happened on live links and that nobody has looked at: four for every database that can be followed.
pub const LIVE_EVENTS_MAX: usize = 16 * 1024;
/// Milliseconds before what failed with a peer is tried again, the first time.
pub const RETRY_FIRST_MS: u64 = 1_000;
/// The same for a session, at most: twice as long each time.
pub const RETRY_MAX_MS: u64 = 60_000;
/// The same for meeting a peer: a device that is off for the night is asked for six times an hour, and at once when it
/// gives a sign of life.
pub const DIAL_MAX_MS: u64 = 600_000;
/// Failures of an address, one after another, from which on it is left out for a while where the peer has others.
pub const BREAKS_AFTER: u32 = 3;
/// Addresses of which failures are remembered: those of as many peers as a person can list.
pub const BREAKERS_MAX: usize = 4_096;
/// Milliseconds before a peer is asked again for access that nobody has decided on, the first time: a person who sits
/// beside another may approve at once.
pub const ASK_FIRST_MS: u64 = 1_000;
/// The same, at most: twice as long each time.
pub const ASK_MAX_MS: u64 = 60_000;
/// Milliseconds between two questions after databases that are not known to be shared, where something has come to one.
/// As long as there is none, twice as long each time.
pub const OTHERS_MS: u64 = 1_000;
/// The same, at most.
pub const OTHERS_MAX_MS: u64 = 60_000;
/// Milliseconds between two looks at a database for which nothing else is wished, and between two questions after databases
/// that are not known to be shared although nothing has come to one: the peer may have learnt of a right.
pub const PERIOD_MS: u64 = 300_000;
/// Milliseconds after which a database is looked at again that differs at a peer that tells what comes to it: what is on its
/// way has come by then.
pub const DOUBT_MS: u64 = 5_000;
/// Milliseconds in which a peer that is followed in a database has followed back, when it wants to be told of it too: a few
/// round trips, and the end of a session that it answers.
pub const FOLLOW_BACK_MS: u64 = 5_000;
/// Milliseconds from which on a connection has lasted: when it is lost then, it is made again as if nothing had failed
/// before.
pub const LASTING_MS: u64 = 10_000;
/// Peers that are met at once, of all that are kept in step or flushed: a thousand that are away keep one that is there
/// waiting for little more than a minute.
pub const MEETINGS_MAX: usize = 64;
/// Milliseconds for which a connection is kept that nothing needs until then: making it takes less work than keeping it.
pub const LINGER_MS: u64 = 30_000;
/// Milliseconds that a sabotaged receiver waits between acknowledging and committing.
pub(crate) const SABOTAGE_MS: u64 = 200;

/// Milliseconds between two times that positions are remembered while somebody waits for them.
pub const LEARNT_SOON_MS: u64 = 20;
/// Sessions that are remembered one by one, 500 bytes each: a week of them for a person with a few devices.
pub const HISTORY_MAX: u64 = 1_000;
/// Addresses remembered of one peer; the one that was used longest ago goes first.
pub(crate) const PEER_ADDRESSES_MAX: usize = 8;
/// Peers from which on a stranger that dials is not remembered any more: a list that a person can read has fewer.
pub const PEERS_CALLING_MAX: usize = 4_096;
/// Requests of this device that nobody has decided and that are remembered: a person asks for a few.
pub(crate) const ASKED_MAX: usize = 256;
/// Bytes kept of the text of a peer's last error.
pub(crate) const PEER_ERROR_BYTES_MAX: usize = 512;

/// Least bytes per second of a cap: a frame of a large entry takes less than [`FRAME_MS`] with it.
pub const BANDWIDTH_MIN: u64 = 64 * 1024;
/// Bytes that may go at once beyond a cap, after a time in which less went.
pub const BANDWIDTH_BURST_BYTES: u64 = 64 * 1024;
/// Bytes after which the next peer has its turn, where several wait.
pub const BANDWIDTH_PIECE_BYTES: u64 = 16 * 1024;
/// Milliseconds after which whoever waits looks whether the cap is another one.
pub const BANDWIDTH_WAIT_MS: u64 = 250;
/// Most bytes of the name of a setting or of a transport.
pub const SETTING_NAME_BYTES_MAX: usize = 128;
/// Most bytes of a setting, or of how a transport is made: texts that a person chose.
pub const SETTING_BYTES_MAX: usize = 16 * 1024;
/// Most settings, and most transports that are remembered.
pub const SETTINGS_MAX: usize = 256;
