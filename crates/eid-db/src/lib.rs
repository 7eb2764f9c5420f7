//! Databases, transactions and typed stores on one device: everything here works the same with no network at all.
//!
//! An [`Instance`] is one device over one backend. It makes and opens [`Database`]s; what is written to one, by
//! [`Transaction`]s over [`DocStore`]s and [`Table`]s, is one signed entry per commit in its DAG of entries, and goes
//! through the same door of `eid-store` as entries from elsewhere. Reads are lookups in views that are kept up to date
//! as entries arrive. This crate knows no network, no peer and no task: another layer moves entries between stores.
//!
//! Whoever needs no accounts writes with the key of the device. A [`User`] has keys of its own, which a password opens,
//! and says how the databases that it tracks are to be synchronised.
//!
//! ```
//! use std::sync::Arc;
//!
//! use eid_db::{Env, Instance};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Todo { title: String, done: bool }
//!
//! let node = Instance::open(Arc::new(eid_store::Memory::new()), Env::system())?;
//! let db = node.create_database("notes")?.database;
//! let todos = db.table::<Todo>("todos");
//! let id = todos.insert(&Todo { title: "buy milk".into(), done: false })?;
//! db.write(|tx| {
//!     tx.doc("profile").set("name", "Ada")?;
//!     tx.table::<Todo>("todos").update(&id, |todo| todo.done = true)
//! })?;
//! assert_eq!(todos.query().eq("done", true).order("title").rows()?.len(), 1);
//! assert_eq!(db.doc("profile").get_as::<String>("name")?.as_deref(), Some("Ada"));
//! # Ok::<(), eid_db::DbError>(())
//! ```

mod audit;
mod authority;
mod backup;
mod changes;
mod codec;
mod concurrent;
mod database;
mod doc_list;
mod doc_store;
mod env;
mod error;
mod field;
mod history;
mod indexes;
mod instance;
mod invite;
mod kind;
pub mod limits;
mod live;
mod log;
mod open_invite;
mod path;
mod query;
mod refusal;
mod registry;
mod request;
mod rows;
mod sealed;
mod sortable;
mod stamp;
mod state_hash;
mod table;
mod text;
mod transaction;
mod typed;
mod users;
mod watch;
mod wrap;

pub use audit::{InviteInfo, KeyInfo, SettingsChange, VoidEntry};
pub use authority::{Authority, Settings, SlotValue};
pub use backup::{Identity, Restored, restore};
pub use changes::{
    Change, ChangedStore, Changes, ConsumerInfo, Cursor, Event, Lagged, ParseCursorError, Restanding, Since,
};
pub use concurrent::{Concurrent, ConcurrentValue};
pub use database::{Database, StoreSummary};
pub use doc_list::{DocList, TxList};
pub use doc_store::{DocStore, TxDoc};
pub use eid_auth::{Denied, OpenInvite, Standing as EntryStanding, Void};
pub use eid_crdt::{Finite, Integer, Value};
pub use env::{Clock, Entropy, Env};
pub use error::{DbError, RedeemError};
pub use field::{Counter, Text};
pub use history::{Blame, Difference, Differences, Kept, Undone, Version};
pub use indexes::{IndexInfo, IndexProgress, IndexState};
pub use instance::{Created, DatabaseInfo, Instance};
pub use kind::Kinds;
pub use live::{LiveQuery, RowChange, RowChanges};
pub use log::LogEntry;
pub use path::{ParsePathError, Path};
pub use query::{
    Comparison, Filter, FilterProblem, Looked, Page, PageCursor, ParseFilterError, ParsePageCursorError,
    Plan, Query,
};
pub use refusal::Refused;
pub use registry::{Registry, StoreListing};
pub use request::{ANY_LEVEL, AccessRequest, AskAnswer, Asking, RequestPolicy, RequestStatus};
pub use sealed::{EncryptionStatus, PasswordStore, UnlockedStore};
pub use table::{CounterField, RawTable, Table, TxTable};
pub use text::{
    EditPolicy, Observed, ParseTextCursorError, PendingFlush, Side, TextChange, TextChanges, TextCursor,
    TextDelta, TextEdit, TextHandle, TxText,
};
pub use transaction::{PendingCommit, Transaction};
pub use typed::{FormError, from_value, to_value};
pub use users::{
    DEVICE_USER, DatabasePreferences, Enrolled, PreferencesChanges, SyncSettings, User, UserInfo,
};
pub use watch::{WriteNotice, WriteWatch};
pub use wrap::PasswordCost;

#[cfg(test)]
mod tests;
