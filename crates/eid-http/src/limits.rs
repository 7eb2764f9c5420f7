//! Bounds of this transport, each with its reason. All hold before anything is allocated for what they bound.

use std::net::IpAddr;
use std::time::Duration;

use eid_transport::places::customer;

/// Greatest size of a request's head in bytes: ours take a few hundred, proxies add a few thousand.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Greatest number of header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a turn that travel in one request. Common proxies refuse request bodies of more than 1 MiB unless told
/// otherwise (nginx: `client_max_body_size`), so a longer turn is several requests.
pub const PART_BYTES_MAX: usize = 768 * 1024;
/// Greatest size of a request body in bytes: a part, its seals, and the last message of the handshake.
pub const POST_BYTES_MAX: usize = PART_BYTES_MAX + 16 * 1024;
/// Greatest length of a sealed record in bytes, its length field included: what a receiver holds before it knows
/// that a byte of it is genuine.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Greatest size of the answer to the first message of the handshake that a client reads, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 1024;
/// How far behind the greatest number a POST may be and still be told from a repetition.
pub const NUMBERS_WINDOW: u64 = 1024;
/// Channels whose handshake is not complete: a handshake takes one round trip, so these are few, and the oldest
/// makes room for another.
pub const UNPROVEN_CHANNELS_MAX: usize = 64;
/// Channels in all. The one idle for longest makes room for another; when none is idle the server is busy.
pub const CHANNELS_MAX: usize = 2048;
/// Bytes of request bodies that a server holds at once, from their arrival until their link has read them. Further
/// ones wait on their sockets.
pub const REQUEST_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The same for channels whose peer has proven nothing yet, apart from the room of the others: strangers keep only
/// strangers waiting.
pub const UNPROVEN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests of one channel that are under way at once: one for each link, and some that close links.
pub const POSTS_MAX: usize = 2 * eid_transport::limits::LINKS_MAX;
/// Answers of a server that wait in memory for one slow client, in pieces of at most a record each.
pub const ANSWER_PIECES_MAX: usize = 16;
/// Channels of one address, so that one machine does not take the room of all. The one idle for longest makes room.
/// Loopback is exempt.
pub const CHANNELS_PER_ADDRESS_MAX: usize = 32;
/// Connections in all; each costs a socket and some buffers.
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections from one address: some for each of its channels. Loopback is exempt. A reverse proxy is one address too:
/// where it serves many, exempt it.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Streams of one HTTP/2 connection at once: as many as a connection of ours has links.
pub const HTTP2_STREAMS_MAX: u32 = 64;
/// What a peer may send on one HTTP/2 connection before it is read, in bytes: some records of room.
pub const HTTP2_WINDOW_BYTES: u32 = 256 * 1024;
/// How long a handshake may take, from its first message to the end of the first numbered POST.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may take to bring its first request, and a body to bring its first bytes.
pub const FIRST_BYTE: Duration = Duration::from_secs(5);
/// How long a connection may rest between requests. Clients let go of theirs sooner: see [`POOL_IDLE`].
pub const NEXT_REQUEST: Duration = Duration::from_secs(20);
/// How long a client keeps a connection that rests, so that it rarely meets a server that has just closed it.
pub const POOL_IDLE: Duration = Duration::from_secs(8);
/// How often the first message of a handshake goes out again because its connection was closed before an answer:
/// a client may hold a few connections that a server has just let go of, and each is found out by using it.
pub const FIRST_MESSAGE_RETRIES_MAX: u32 = 3;
/// What a body has to bring every second, in bytes, once [`FIRST_BYTE`] has passed.
pub const BODY_BYTES_PER_SECOND: u64 = 1024;
/// How long a whole request body may take, however evenly it comes.
pub const BODY: Duration = Duration::from_secs(300);
/// How long a socket may refuse what we write before the connection is given up.
pub const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long a channel without a request is kept. Its client makes another handshake then.
pub const CHANNEL_IDLE: Duration = Duration::from_secs(60);
/// How long a part waits for the link to take the part before it.
pub const PART_WAIT: Duration = Duration::from_secs(50);
/// Silence after which an answer under way sends a keep-alive record. Proxies give up after 60 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client waits for the next bytes of an answer: four keep-alive records.
pub const ANSWER_SILENCE: Duration = Duration::from_secs(60);
/// How long a client waits for the head of an answer, as a proxy that buffers may hold the head back with the body.
pub const ANSWER_HEAD: Duration = Duration::from_secs(300);
/// How long setting up a TCP connection may take.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long a dial may take in all.
pub const DIAL: Duration = Duration::from_secs(10);
/// How long telling the other side of a close may take.
pub const GOODBYE: Duration = Duration::from_secs(3);
/// How long a shutdown waits for answers under way to end.
pub const SHUTDOWN: Duration = Duration::from_secs(5);
/// How often expired channels are looked for.
pub const SWEEP: Duration = Duration::from_secs(1);

/// The bounds that a program may choose for its machine and its place in the network.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// See [`UNPROVEN_CHANNELS_MAX`].
    pub unproven_channels_max: usize,
    /// See [`CHANNELS_MAX`].
    pub channels_max: usize,
    /// See [`CHANNELS_PER_ADDRESS_MAX`].
    pub channels_per_address_max: usize,
    /// Whether channels and connections from loopback are counted like all others.
    pub counts_loopback: bool,
    /// Addresses whose channels and connections are not counted: those of reverse proxies.
    pub exempt: Vec<IpAddr>,
    /// See [`REQUEST_BYTES_MAX`].
    pub request_bytes_max: usize,
    /// See [`UNPROVEN_BYTES_MAX`].
    pub unproven_bytes_max: usize,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX`].
    pub connections_per_address_max: usize,
    /// See [`HANDSHAKE`].
    pub handshake: Duration,
    /// See [`FIRST_BYTE`].
    pub first_byte: Duration,
    /// See [`NEXT_REQUEST`].
    pub next_request: Duration,
    /// See [`WRITE_STALL`].
    pub write_stall: Duration,
    /// See [`CHANNEL_IDLE`].
    pub channel_idle: Duration,
    /// See [`KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// See [`SWEEP`].
    pub sweep: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            unproven_channels_max: UNPROVEN_CHANNELS_MAX,
            channels_max: CHANNELS_MAX,
            channels_per_address_max: CHANNELS_PER_ADDRESS_MAX,
            counts_loopback: false,
            exempt: Vec::new(),
            request_bytes_max: REQUEST_BYTES_MAX,
            unproven_bytes_max: UNPROVEN_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            handshake: HANDSHAKE,
            first_byte: FIRST_BYTE,
            next_request: NEXT_REQUEST,
            write_stall: WRITE_STALL,
            channel_idle: CHANNEL_IDLE,
            keep_alive: KEEP_ALIVE,
            sweep: SWEEP,
        }
    }
}

impl Bounds {
    /// By what connections and channels from an address are counted; nothing where they are not.
    pub(crate) fn counted(&self, from: IpAddr) -> Option<IpAddr> {
        let from = from.to_canonical();
        let exempt = from.is_loopback() && !self.counts_loopback || self.exempt.contains(&from);
        (!exempt).then(|| customer(from))
    }
}
