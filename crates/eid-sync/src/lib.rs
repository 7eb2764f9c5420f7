//! Two engines that reach each other end with the same entries in every database that both may see, whoever dials,
//! whatever is cut on the way, and over whichever transport.
//!
//! [`SyncEngine`] listens and dials over any [`eid_transport::Transport`], proves and learns keys, and runs one
//! session per database with one driver loop for both roles. It admits entries through [`eid_store::EntryStore`] and
//! knows nothing of what they mean: users, rights and preferences are asked of [`Access`]. Time, tasks and blocking
//! work are reached through [`Runtime`] alone, so that a simulator runs the engine unchanged. There is no queue of
//! what is still to be sent: that is what lies beyond a peer's acknowledgement. [`SyncEngine::keep_in_step`] holds a
//! connection, over which each side tells the other what comes to it, in milliseconds.
//!
//! A [`DatabaseTicket`] is everything that somebody needs to join:
//!
//! ```
//! use eid_core::{SecretKey, TreeId};
//! use eid_sync::DatabaseTicket;
//!
//! let ticket = DatabaseTicket {
//!     db: TreeId([1; 32]),
//!     key: SecretKey::from_seed([2; 32]).public(),
//!     addresses: vec!["http://192.0.2.7:7070".parse()?],
//!     invite: None,
//! };
//! let again: DatabaseTicket = ticket.to_string().parse()?;
//! assert_eq!(again.key, ticket.key);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod bucket;
mod conduct;
mod control;
mod drive;
mod engine;
mod error;
mod events;
mod gaps;
mod hub;
mod keep;
pub mod limits;
mod live;
mod many;
mod memory;
mod peers;
mod place;
mod progress;
mod race;
mod relations;
mod report;
mod route;
mod runtime;
mod seats;
mod signal;
mod ticket;

pub use access::{Access, Offered, TreeSummary};
pub use eid_proto::{Cursor, HandshakeError, Known, RefusalCode, Rung, SessionError};
pub use engine::{Compression, EngineConfig, Peer, SyncEngine};
pub use error::SyncError;
pub use events::{Delivered, Events, SyncEvent};
pub use keep::{KeepState, SyncHandle, SyncStatus};
pub use peers::{PeerInfo, PeerStatus, Peers};
pub use progress::{Direction, Progress};
pub use race::{FailedWay, best_first};
pub use report::SessionReport;
pub use route::Route;
pub use runtime::{Runtime, TokioRuntime};
pub use ticket::{DatabaseTicket, TicketError};
