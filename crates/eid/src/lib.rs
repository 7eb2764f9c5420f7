//! A local-first, peer-to-peer database for Rust programs: write offline, and every replica that may see a database
//! converges to the same state.
//!
//! An [`Instance`] is one device. It makes and opens [`Database`]s, which hold [documents](DocStore) and
//! [tables](Table). Reads are synchronous and local; a write is one signed entry and is awaited until it is on disk.
//! [`Instance::listen`] lets others in, [`Database::share`] makes a ticket, [`Instance::join`] uses one.
//!
//! ```
//! # async fn example(dir: &std::path::Path) -> Result<(), eid::Error> {
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Todo { title: String, done: bool }
//!
//! let node = eid::Instance::open(dir).await?;
//! let db = match node.database("notes")? { Some(db) => db, None => node.create_database("notes").await? };
//! let todos = db.table::<Todo>("todos");
//! let key = todos.insert(&Todo { title: "buy milk".into(), done: false }).await?;
//! todos.update(&key, |todo| todo.done = true).await?;
//! db.write(|tx| {
//!     tx.doc("profile").set("name", "Ada")?;
//!     tx.table::<Todo>("todos").insert(&Todo { title: "call Ben".into(), done: false })
//! }).await?;
//! assert_eq!(todos.query().eq("done", true).order("title").rows()?.len(), 1);
//! node.close().await
//! # }
//! # let dir = tempfile::tempdir().unwrap();
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example(dir.path())).unwrap();
//! ```
//!
//! Two devices share a database when one listens and the other joins by ticket. An instance synchronises when it is
//! told to: with [`Instance::sync_with`], or by [`Instance::join`].
//!
//! ```
//! # async fn example() -> Result<(), eid::Error> {
//! use std::time::Duration;
//!
//! let here = eid::Instance::builder().memory().open().await?;
//! let there = eid::Instance::builder().memory().open().await?;
//! let db = here.create_database("notes").await?;
//! here.listen(eid::Http::on("127.0.0.1:0")).await?;
//! let ticket = db.share(eid::Access::write()).await?;
//!
//! let copy = there.join(&ticket).within(Duration::from_secs(60)).await?;
//! copy.doc("main").set("title", "from there").await?;
//! there.sync_with(&ticket.addresses[0], Some(&copy), Duration::from_secs(60)).await?;
//! assert_eq!(db.doc("main").get_as::<String>("title")?.as_deref(), Some("from there"));
//! assert_eq!(db.state_hash()?, copy.state_hash()?);
//! there.close().await?;
//! here.close().await
//! # }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(example()).unwrap();
//! ```
//!
//! Several people can use one instance: [`Instance::create_user`] and [`Instance::login`] give a [`User`], whose databases
//! are written with keys of its own. Who needs no accounts meets none of this.
//!
//! Programs without an async runtime use [`blocking`].
//!
//! Features: `embedded` (the store on disk) and `http` are on by default; `quic` and `iroh` are further transports,
//! and with `mdns` devices find each other on the local network; `zstd` compresses what is sent to peers that have it too;
//! `control` is the socket through which the program `eid` works on a running application.

mod access;
mod asking;
mod authority;
mod backup;
pub mod blocking;
#[cfg(all(feature = "control", unix))]
pub mod control;
mod database;
mod doc;
mod error;
mod gate;
mod history;
mod indexing;
mod instance;
mod join;
mod keep;
pub mod limits;
mod list;
mod listen;
mod offload;
mod receipt;
mod status;
mod stores;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod transaction;
mod users;

pub use access::Access;
pub use authority::Revoked;
#[cfg(feature = "embedded")]
pub use backup::restore;
pub use database::{Changes, Database};
pub use doc::DocStore;
pub use eid_core::dag::Seq;
pub use eid_core::{
    EntryId, Height, KeyMode, Permission, PublicKey, SecretKey, SettingsOp, Slot, Time, TreeId,
};
pub use eid_db::{ANY_LEVEL, RequestPolicy};
pub use eid_db::{Blame, Difference, Kept, Lagged, Undone};
pub use eid_db::{
    Change, ChangedStore, Comparison, Cursor, Event, LogEntry, Path, Restanding, Since, StoreSummary, Value,
};
pub use eid_db::{Concurrent, ConcurrentValue, Counter, Text};
pub use eid_db::{DEVICE_USER, DatabasePreferences, Enrolled, PreferencesChanges, SyncSettings, UserInfo};
pub use eid_db::{EditPolicy, Observed, ParseTextCursorError, Side, TextChange, TextCursor, TextDelta};
pub use eid_db::{EncryptionStatus, IndexInfo, IndexProgress, IndexState, StoreListing};
pub use eid_db::{EntryStanding, InviteInfo, KeyInfo, SettingsChange, Void, VoidEntry};
pub use eid_db::{Filter, Looked, Page, PageCursor, ParseFilterError, Plan, RowChange, RowChanges};
pub use eid_db::{Identity, Restored};
pub use eid_db::{WriteNotice, WriteWatch};
#[cfg(feature = "http")]
pub use eid_http::Bounds as HttpBounds;
#[cfg(feature = "iroh")]
pub use eid_iroh::{Relay, RelayUrl};
pub use eid_store::{BackupSummary, Durability, FsckReport, Lost, Problem, is_engine_guarded};
pub use eid_sync::limits::BANDWIDTH_MIN;
pub use eid_sync::{
    AskedAccess, BootstrapRequest, OtherServer, ParseRequestIdError, RequestId, RequestStatus,
};
pub use eid_sync::{
    Bandwidth, Compression, ConnectionState, DatabaseTicket, Delivered, Direction, Events, KeepState,
    Offered, PeerInfo, PeerStatus, Progress, Rung, SessionReport, SyncEngine, SyncEvent, SyncFailure,
    SyncHandle, SyncHistoryEntry, SyncMetadata, SyncStatus, TicketError, TransportConfig, TransportInfo,
    TransportState, TreeSummary, TriedAddress, Undelivered, Why,
};
pub use eid_transport::Address;
pub use error::{Error, ErrorKind};
pub use history::{Differences, Version};
pub use instance::{Builder, Instance, Synced};
pub use join::{Join, Joined};
pub use keep::PeersInStep;
pub use list::{DocList, TxList};
#[cfg(feature = "http")]
pub use listen::Http;
#[cfg(feature = "iroh")]
pub use listen::Iroh;
pub use listen::Listener;
#[cfg(feature = "quic")]
pub use listen::Quic;
pub use receipt::Receipt;
pub use status::{DatabaseStatus, PeerProgress, Status};
pub use stores::{PasswordStore, Registry};
pub use table::{LiveQuery, Query, Table};
pub use text::{TextChanges, TextEdit, TextHandle};
pub use transaction::{Transaction, TxDoc, TxTable, TxText};
pub use users::User;

/// The document store that programs use when they need only one.
pub const DEFAULT_DOC_STORE: &str = "main";

/// The programs of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
