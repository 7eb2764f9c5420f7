//! Two engines that reach each other end with the same entries in every database that both may see, whoever dials,
//! whatever is cut on the way, and over whichever transport.
//!
//! [`SyncEngine`] listens and dials over any [`eid_transport::Transport`], proves and learns keys, and runs one
//! session per database with one driver loop for both roles. It admits entries through [`eid_store::EntryStore`] and
//! knows nothing of what they mean: users, rights and preferences are asked of [`Access`]. Time, tasks and blocking
//! work are reached through [`Runtime`] alone, so that a simulator runs the engine unchanged. There is no queue of
//! what is still to be sent: that is what lies beyond a peer's acknowledgement. [`SyncEngine::keep_known_in_step`] runs a
//! task for each peer, in which each side tells the other what comes to it, in milliseconds, or by the period that
//! [`Access::wish`] names; [`SyncEngine::status`] says how far that is, never more than is true.
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
//!     others: Vec::new(),
//!     invite: None,
//! };
//! let again: DatabaseTicket = ticket.to_string().parse()?;
//! assert_eq!(again.key, ticket.key);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod asked;
mod bucket;
mod conduct;
mod control;
mod deliver;
mod drive;
mod engine;
mod error;
mod events;
mod gaps;
mod hub;
mod keep;
mod known;
mod ledger;
pub mod limits;
mod live;
mod many;
mod memory;
mod peers;
mod place;
mod progress;
mod race;
mod rate;
mod registry;
mod relations;
mod report;
mod request;
mod route;
mod runtime;
mod schedule;
mod seats;
mod settings;
mod signal;
mod status;
mod ticket;

pub use access::{Access, Offered, TreeSummary, Wish};
pub use asked::{AskedAccess, AskedBook, Decision};
pub use eid_proto::{Cursor, HandshakeError, Known, RefusalCode, Rung, SessionError};
pub use engine::{Compression, EngineConfig, Peer, SyncEngine};
pub use error::SyncError;
pub use events::{Delivered, Events, SyncEvent};
pub use keep::{KeepState, SyncHandle};
pub use known::KnownInStep;
pub use peers::{PeerInfo, PeerStatus, Peers, TriedAddress};
pub use progress::{Direction, Progress};
pub use race::{FailedWay, best_first};
pub use rate::Bandwidth;
pub use registry::{TransportInfo, TransportState};
pub use report::SessionReport;
pub use request::{
    Answer, Ask, BootstrapRequest, Noted, ParseRequestIdError, RequestError, RequestId, RequestStatus,
};
pub use route::{Route, Scope};
pub use runtime::{Runtime, TokioRuntime};
pub use settings::{SettingError, TransportConfig};
pub use status::{
    ConnectionState, SyncFailure, SyncHistoryEntry, SyncMetadata, SyncStatus, Undelivered, Why,
};
pub use ticket::{DatabaseTicket, OtherServer, TicketError};
