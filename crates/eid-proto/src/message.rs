//! Everything that goes over a wire, in one file. `docs/protocol.md` carries this file's hash.
//!
//! A frame is one byte that says how to read it, and a postcard value. Greetings are read the same way in every
//! version, so that two programs that have no version in common can still say so.

use bytes::Bytes;
use eid_core::dag::InRun;
use eid_core::pack::{Arrived, Bounds, UnpackError, pack, pack_stored, unpack};
use eid_core::sketch::STRATA;
use eid_core::{Permission, TreeId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::bounded::{List, Text};
use crate::limits::{
    ALL_MAX, BATCH_ENTRIES_MAX, COMMON_MAX, DISCOVER_MAX, EXACT_HELD_MAX, FRAME_BYTES_MAX, KEYS_MAX,
    LACKS_MAX, NAME_BYTES_MAX, OPEN_MANY_MAX, PLAN_TIPS_MAX, SAMPLES_MAX, STATES_MAX, TITLE_BYTES_MAX,
    WANT_MAX, WINDOW_IDS_MAX,
};
use crate::metadata::Metadata;

/// The first byte of a greeting, in every version.
const GREETING: u8 = 0;
/// The version of the messages after the greetings.
pub const PROTOCOL_VERSION: u8 = 1;
/// The first byte of what is said on the links that keep databases in step, in this version.
const LIVE: u8 = 0x81;

/// The versions that one side speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub oldest: u8,
    /// The one it prefers.
    pub newest: u8,
}

/// Why something was refused. A closed set: no text crosses the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RefusalCode {
    /// There is no version that both sides speak; these are the refusing side's.
    #[error("the other side speaks protocol versions {} to {}", .0.oldest, .0.newest)]
    Version(Versions),
    /// A proof of a key does not hold.
    #[error("the other side did not accept the proof of a key")]
    Proof,
    /// The database is absent, does not take part, or is not for the keys that were proven: one answer for all.
    #[error("the database is not available to this key")]
    Unavailable,
    /// What the session brings is not taken.
    #[error("the other side takes no entries in this session")]
    ReadOnly,
    /// The invite is past its date.
    #[error("the invite has expired")]
    InviteExpired,
    /// The invite has been used as often as it may be.
    #[error("the invite has been used up")]
    InviteUsed,
    /// Too much is going on; a later attempt can succeed.
    #[error("the other side is busy")]
    Busy,
    /// The other side could not do it for a reason of its own; a later attempt can succeed.
    #[error("the other side failed")]
    Failed,
    /// The message was not one that belongs here.
    #[error("the other side did not understand")]
    Misplaced,
}

/// Messages of the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Greeting {
    /// The client begins.
    Hello(Hello),
    /// The server answers and proves its key.
    ServerHello {
        /// What it speaks.
        hello: Hello,
        /// Its device key.
        key: [u8; 32],
        /// Over the transcript.
        proof: Proof,
    },
    /// The client proves its device key and further keys.
    Proofs {
        /// Its device key.
        key: [u8; 32],
        /// Over the transcript.
        proof: Proof,
        /// Keys of databases and invites.
        further: List<([u8; 32], Proof), KEYS_MAX>,
        /// What people call it.
        name: Text<NAME_BYTES_MAX>,
    },
    /// The server knows the client.
    Welcome {
        /// What people call the server.
        name: Text<NAME_BYTES_MAX>,
        /// The states of databases that the proven keys may read, as far as they fit: who holds the same sees that here,
        /// and who does not learns nothing.
        states: List<[u8; 8], STATES_MAX>,
    },
    /// The handshake ends here.
    Refused(RefusalCode),
}

/// What one side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions of the protocol.
    pub versions: Versions,
    /// One bit per optional feature; those that both have are used.
    pub features: u64,
    /// Fresh for each handshake.
    pub nonce: [u8; 32],
}

/// A signature in two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32], pub [u8; 32]);

/// Requests of the control link after the handshake, one per turn of the dialling side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Which of these databases differ?
    OpenMany(List<([u8; 32], [u8; 32]), OPEN_MANY_MAX>),
    /// Which databases may the proven keys read?
    Discover,
    /// Grants the device key what a proven invite promises.
    Redeem {
        /// The database.
        tree: [u8; 32],
        /// What people call the joiner.
        name: Text<NAME_BYTES_MAX>,
    },
    /// Asks that somebody grants the device key, or the first further key that was proven, a right.
    Ask {
        /// The database.
        tree: [u8; 32],
        /// What is wanted at least.
        wanted: Right,
        /// What people call who asks.
        name: Text<NAME_BYTES_MAX>,
        /// What else it says of itself.
        metadata: Metadata,
    },
}

/// Answers on the control link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// One bit per database, in the order of the request, lowest bit first.
    OpenMany {
        /// Set where the tips differ.
        differs: Bytes,
        /// Set where there is nothing to do: absent, not taking part, or without a right for these keys.
        unavailable: Bytes,
    },
    /// What the proven keys may read.
    Discover(List<TreeInfo, DISCOVER_MAX>),
    /// What the joiner may do.
    Granted(Right),
    /// The request was refused.
    Refused(RefusalCode),
    /// Somebody may approve what is asked for, or nobody ever: one answer, whether or not there is such a database.
    Pending {
        /// Names the request towards who approves; the same for the same key and database.
        request: [u8; 16],
    },
    /// Somebody has rejected what is asked for.
    Rejected {
        /// As above.
        request: [u8; 16],
    },
}

/// A database as discovery lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeInfo {
    /// Its id.
    pub tree: [u8; 32],
    /// Its shared title.
    pub title: Text<TITLE_BYTES_MAX>,
    /// How many entries the answering side holds.
    pub entries: u64,
    /// When the last of them that came to it was written, in milliseconds since 1970, by the clock of its author.
    pub changed_ms: u64,
    /// What the proven keys may do.
    pub right: Right,
}

/// A permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// Forwards ciphertext.
    Relay,
    /// Reads.
    Read,
    /// Reads and writes.
    Write,
    /// Administers at a level.
    Admin(u32),
}

impl From<Permission> for Right {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::Relay => Self::Relay,
            Permission::Read => Self::Read,
            Permission::Write => Self::Write,
            Permission::Admin(level) => Self::Admin(level),
        }
    }
}

impl From<Right> for Permission {
    fn from(right: Right) -> Self {
        match right {
            Right::Relay => Self::Relay,
            Right::Read => Self::Read,
            Right::Write => Self::Write,
            Right::Admin(level) => Self::Admin(level),
        }
    }
}

/// Messages of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The initiator begins.
    Open(Open),
    /// The session ends here.
    Refused(RefusalCode),
    /// What the sending side is about to send, exactly.
    Plan(Plan),
    /// Entries, parents first, in the sender's order of arrival.
    Batch(Batch),
    /// Everything that was planned has been sent.
    Done(Lacking),
    /// Entries that the receiving side may hold (rungs e and f).
    Window(Window),
    /// One bit per id of the last window, lowest bit first: whether it is held.
    Held(Bytes),
    /// What is durable at the receiving side, and how much more it takes.
    Ack {
        /// It holds the sender's log below this position. Absent while that is not certain.
        upto: Option<u64>,
        /// Bytes of batches for the next turn.
        credit: u64,
    },
    /// Something is missing that the hints said was there: begin again by ids.
    Exact {
        /// Bytes of batches for the next turn.
        credit: u64,
        /// Tips and samples of what is held, in full.
        held: List<[u8; 32], EXACT_HELD_MAX>,
    },
    /// The initiator has nothing that it may send.
    NoPush,
    /// The responder gives nothing to the keys that were proven, and takes what they bring.
    PushOnly {
        /// Bytes of batches that it takes.
        credit: u64,
    },
    /// The responder has taken what the initiator sent.
    Finish {
        /// The initiator holds the responder's log below this position.
        covered: u64,
        /// The responder durably holds the initiator's log below this position.
        held: Option<u64>,
    },
    /// Payloads that are lacked of entries that are held.
    Want {
        /// Bytes of payloads for the next turn.
        credit: u64,
        /// Entries, and which of their sections, the lowest bit for the first: so many payloads in all.
        payloads: List<([u8; 32], u64), WANT_MAX>,
    },
    /// What was wanted, in that order and from where the message before ended. Nothing for a payload that is not here, of
    /// an entry that is or is not.
    Payloads(List<Option<Bytes>, WANT_MAX>),
    /// Aside, in the other side's turn: what is durable, and how much more may come in this turn.
    More {
        /// As in an acknowledgement.
        upto: Option<u64>,
        /// Bytes of batches beyond what was granted.
        credit: u64,
    },
    /// Aside: the turn should end.
    Stop,
    /// As `Batch`, where both sides have the feature.
    Compressed(CompressedBatch),
}

/// What an initiator says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The database.
    pub tree: [u8; 32],
    /// Its tips. Towards a side that may not read the database: none, with a hash that is zero.
    pub tips: Tips,
    /// The remembered frontier: short ids of what the responder is known to hold.
    pub common: List<[u8; 8], COMMON_MAX>,
    /// It durably holds the responder's log up to here.
    pub cursor: Option<Position>,
    /// What else may tell what it holds.
    pub hints: Hints,
    /// Where its own log ends; zero where the tips are not told.
    pub end: Position,
    /// What payloads of its entries it lacks; nothing where the tips are not told.
    pub lacking: Lacking,
    /// Bytes of batches for the first turn.
    pub credit: u64,
}

/// What an initiator says of its entries besides tips and frontier. Nothing of it is relied upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hints {
    /// Nothing.
    None,
    /// Short ids of some: the older, the farther apart.
    Samples(List<[u8; 8], SAMPLES_MAX>),
    /// Short ids of all.
    All(List<[u8; 8], ALL_MAX>),
    /// A sketch of all.
    Sketch {
        /// As above.
        samples: List<[u8; 8], SAMPLES_MAX>,
        /// The cells of the strata, from the first on, ten bytes each.
        strata: List<Bytes, STRATA>,
    },
}

/// A position in the log of one life of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which life.
    pub epoch: u64,
    /// One past the last entry that is meant.
    pub seq: u64,
}

/// What payloads a side lacks of all its entries. Equal numbers mean that it has got none since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lacking {
    /// How many.
    pub missing: u64,
    /// How many came later than their entries so far.
    pub filled: u64,
}

/// The tips of a replica: the hash names them exactly, the names are hints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tips {
    /// How many there are.
    pub count: u64,
    /// Of all of them, sorted.
    pub hash: [u8; 32],
    /// The newest of them.
    pub names: TipNames,
}

/// How tips are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TipNames {
    /// By their first eight bytes.
    Short(List<[u8; 8], PLAN_TIPS_MAX>),
    /// In full, when short ids have failed.
    Full(List<[u8; 32], PLAN_TIPS_MAX>),
}

/// How the entries of a window are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// By their first eight bytes.
    Short(List<[u8; 8], WINDOW_IDS_MAX>),
    /// In full, when short ids have failed.
    Full(List<[u8; 32], WINDOW_IDS_MAX>),
}

/// What a sender is about to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How it was found.
    pub rung: WireRung,
    /// The sender's tips.
    pub tips: Tips,
    /// Where the sender's log ended when the plan was made.
    pub end: Position,
    /// How many entries will come.
    pub entries: u64,
    /// Bytes of batches that the sender takes in return.
    pub credit: u64,
    /// Whether the sender takes entries at all in return, whoever wrote them.
    pub accepts: bool,
    /// Short ids of everything that the sender lacks of what the receiver holds, as far as it knows; none when it does not.
    pub lacks: List<[u8; 8], LACKS_MAX>,
}

/// The rungs of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireRung {
    /// a
    InSync,
    /// b
    TipsKnown,
    /// c
    Remembered,
    /// d
    Sketch,
    /// e
    Asked,
    /// f
    ByIds,
}

/// Some entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Parents first, packed (`eid_core::pack`).
    pub entries: Bytes,
    /// With these the receiver holds the sender's log below this position.
    pub upto: u64,
}

impl Batch {
    /// Packs entries of a database.
    #[must_use]
    pub fn pack(tree: &TreeId, entries: &[Arrived], upto: u64) -> Self {
        Self { entries: pack(tree, entries), upto }
    }

    /// Packs entries as a store holds them.
    #[must_use]
    pub fn pack_stored<'a>(
        tree: &'a TreeId,
        entries: impl Iterator<Item = InRun<'a>> + Clone,
        upto: u64,
    ) -> Self {
        Self { entries: pack_stored(tree, entries), upto }
    }

    /// The entries, none of them checked.
    pub fn unpack(&self, tree: &TreeId) -> Result<Vec<Arrived>, UnpackError> {
        unpack(tree, &self.entries, Bounds { entries: BATCH_ENTRIES_MAX, bytes: FRAME_BYTES_MAX })
    }
}

/// A batch of which the packed entries are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressedBatch {
    /// One zstd frame.
    pub frame: Bytes,
    /// As in a batch.
    pub upto: u64,
}

/// What is said on the two links that keep databases in step after their sessions. On each one side speaks; databases
/// are named by numbers that their follower gives, a fresh one each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LiveMessage {
    /// The dialler speaks on this link, and every turn of the other side is empty.
    Speak,
    /// The other side speaks on this link, and every further turn of the dialler is empty.
    Listen(Delivery),
    /// There is nothing else to say.
    Alive,
    /// What comes to a database from a position of the other side's log on is wanted as it comes.
    Follow {
        /// Its number from now on; an older one of the same database is void.
        number: u32,
        /// The database.
        tree: [u8; 32],
        /// Everything below is held. Absent when nothing is known.
        from: Option<Position>,
    },
    /// It will be sent.
    Following {
        /// What is followed.
        number: u32,
    },
    /// It is not wanted any more.
    Leave {
        /// What was followed.
        number: u32,
    },
    /// It is not sent any more, or was never.
    Ended {
        /// What was followed.
        number: u32,
        /// Why.
        code: RefusalCode,
    },
    /// Entries that have come.
    Push {
        /// What is followed.
        number: u32,
        /// What lies between here and `batch.upto` is in the batch, or came from the receiver.
        from: u64,
        /// The entries.
        batch: Batch,
    },
    /// A push has been taken, the oldest of its number that was not answered.
    Ack {
        /// What is followed.
        number: u32,
        /// The log is durably held below this position; absent when something of it was refused.
        upto: Option<u64>,
    },
    /// Told to the dialler: only a session can bring this database in step.
    Behind {
        /// The database.
        tree: [u8; 32],
    },
    /// As `Push`, where both sides have the feature.
    PushCompressed {
        /// What is followed.
        number: u32,
        /// As in a push.
        from: u64,
        /// The entries.
        batch: CompressedBatch,
    },
}

/// How the listening side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// In one turn that goes on.
    Streamed,
    /// In a turn for each time that there is something to say: what is between holds back answers until they end.
    Polled,
}

impl LiveMessage {
    /// Whether a frame is one of these.
    #[must_use]
    pub fn is(frame: &[u8]) -> bool {
        frame.first() == Some(&LIVE)
    }
}

/// Says why a frame does not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is longer than any frame.
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    /// It is of another version or another kind.
    #[error("a frame begins with an unexpected byte")]
    Version,
    /// The rest is not a message.
    #[error("a frame is not a message")]
    Malformed(#[source] postcard::Error),
    /// The message ends before the frame does.
    #[error("a frame goes on after its message")]
    Trailing,
    /// A number is spelled with more bytes than it takes.
    #[error("a frame is not in its shortest form")]
    Spelling,
}

macro_rules! frames {
    ($name:ident, $first:expr) => {
        impl $name {
            /// The frame.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                encode($first, self)
            }

            /// Reads a frame.
            pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
                decode($first, frame)
            }
        }
    };
}
frames!(Greeting, GREETING);
frames!(Request, PROTOCOL_VERSION);
frames!(Response, PROTOCOL_VERSION);
frames!(Message, PROTOCOL_VERSION);
frames!(LiveMessage, LIVE);

fn encode(first: u8, message: &impl Serialize) -> Bytes {
    let sized = postcard::experimental::serialized_size(message);
    let mut frame = Vec::with_capacity(1 + sized.expect("messages are made of what postcard can say"));
    frame.push(first);
    postcard::to_extend(message, frame).expect("messages are made of what postcard can say").into()
}

fn decode<T: Serialize + DeserializeOwned>(first: u8, frame: &[u8]) -> Result<T, DecodeError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::TooLarge(frame.len()));
    }
    let body = match frame.split_first() {
        Some((byte, body)) if *byte == first => body,
        _ => return Err(DecodeError::Version),
    };
    let (message, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing);
    }
    // A number may be spelled with more bytes than it takes, and nothing else in two ways.
    let shortest = postcard::experimental::serialized_size(&message).map_err(DecodeError::Malformed)?;
    if shortest == body.len() { Ok(message) } else { Err(DecodeError::Spelling) }
}
