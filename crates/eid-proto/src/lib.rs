//! What two peers say: every state of a handshake or a session can be reached, and checked, by handing frames from
//! one value to another.
//!
//! [`Handshake`] proves to each side which keys the other has. [`Session`] makes two replicas of one database hold
//! the same entries, and [`Live`] tells each what comes to the other from then on. All are values with four kinds of method: constructors, getters, `handle_*` for what has
//! happened, `poll` for what to do next. There is no socket, clock, randomness, task or storage here: nonces are
//! arguments, entries are read through [`eid_core::dag::Replica`], and whoever drives a session admits what arrives.
//!
//! With the feature `zstd` batches may be compressed; nothing is decompressed into more than may be.
//!
//! ```
//! use std::sync::Arc;
//! use eid_core::SecretKey;
//! use eid_proto::{FEATURES, Handshake, HandshakeError, HandshakeOutput, Identity};
//!
//! let identity = |seed: u8| Identity {
//!     device: Arc::new(SecretKey::from_seed([seed; 32])),
//!     name: format!("device {seed}"),
//!     binding: [9; 32], // of the connection that both sides are on
//!     proven: None,
//!     nonce: [seed; 32], // fresh for each handshake
//!     features: FEATURES,
//! };
//! let server_key = SecretKey::from_seed([2; 32]).public();
//! let mut client = Handshake::client(identity(1), Some(server_key), vec![]);
//! let mut server = Handshake::server(identity(2));
//! let (mut met, mut joined) = (None, None);
//! while met.is_none() || joined.is_none() {
//!     match client.poll() {
//!         HandshakeOutput::Send(frame) => server.handle_frame(&frame)?,
//!         HandshakeOutput::Established(peer) => met = Some(peer),
//!         _ => {}
//!     }
//!     match server.poll() {
//!         HandshakeOutput::Send(frame) => client.handle_frame(&frame)?,
//!         HandshakeOutput::Established(peer) => joined = Some(peer),
//!         _ => {}
//!     }
//! }
//! assert_eq!(met.unwrap().peer, server_key);
//! assert_eq!(joined.unwrap().name, "device 1");
//! # Ok::<(), HandshakeError>(())
//! ```

pub mod bits;
mod bounded;
mod compressed;
mod handshake;
pub mod limits;
mod live;
pub mod message;
mod metadata;
mod session;

pub use bounded::{List, Text};
pub use compressed::DecompressError;
pub use handshake::{
    Established, FEATURE_LIVE, FEATURE_ZSTD, FEATURES, Handshake, HandshakeError, HandshakeOutput, Identity,
    VERSIONS,
};
pub use live::{Due, Live, LiveEvent, Side};
pub use message::RefusalCode;
pub use metadata::Metadata;
pub use session::{
    Arrived, Cursor, Known, Outcome, Output, Rights, Rung, Session, SessionError, Summary, state_of,
};
