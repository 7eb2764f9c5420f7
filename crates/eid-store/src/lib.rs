//! Where entries rest: one door through which every entry is admitted, and rows that never have to be checked again.

mod admit;
mod apply;
mod backend;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod counting;
mod embedded;
mod entry_store;
mod error;
mod faulty;
mod fsck;
pub mod limits;
mod local;
mod memory;
mod offer;
mod pages;
mod prepare;
mod rows;
mod settings;
#[cfg(test)]
mod tests;
mod tree;
mod views;

pub use apply::{Applied, Apply, Change, ViewRows, Wanted};
pub use backend::{
    Backend, BackendError, Batch, Direction, Durability, Key, Scan, Snapshot, Value, prefix_end,
};
pub use counting::{Counting, Counts};
pub use embedded::{CrashDisk, Directory, Embedded, EmbeddedConfig, Vfs, VfsFile};
pub use entry_store::{EntryStore, Watch};
pub use error::StoreError;
pub use faulty::{Faulty, Odds};
pub use fsck::{FsckReport, Problem};
pub use local::Local;
pub use memory::Memory;
pub use offer::{Admission, Admitted, Committed, LocalCommit, Offer, Parents, Prepared, Verdict};
pub use tree::{Node, StoreInfo, TreeSnapshot, View};
