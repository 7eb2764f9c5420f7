//! Where entries rest: one door through which every entry is admitted, and rows that never have to be checked again.
//!
//! An [`EntryStore`] keeps entries of many trees over a [`Backend`], an ordered map of bytes with consistent snapshots
//! and atomic batches. Entries from elsewhere ([`EntryStore::prepare`], [`EntryStore::admit`]) and writes of this device
//! ([`EntryStore::commit`]) go through the same function: a [`eid_core::Judge`] says whether the author had the right,
//! an [`Apply`] turns operations into rows of views, and everything that a batch changes is one commit. Callers that
//! come at the same time share it. A tree can be read as it was at any entries that it holds, at a cost that does not
//! grow with its history: [`TreeSnapshot::at`]. What is derived is never trusted over the log: [`EntryStore::fsck`] works
//! all of it out again.
//!
//! Backends: [`Memory`], and [`Embedded`], a batch log before redb. [`CrashDisk`], [`Faulty`] and [`Counting`] stand
//! below or around them in tests. This crate knows no network, no peer, no clock, no randomness and no kind of store;
//! nothing in it is asynchronous, and it starts no thread but one to verify half of a large batch.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use eid_core::dag::Replica;
//! use eid_core::{
//!     Judge, Nonce, Payload, Permission, PublicKey, Question, ReadError, Refusal, SecretKey, SectionDraft, SettingsOp,
//!     History, Slot, StoreName, TreeId,
//! };
//! use eid_store::{
//!     Applied, Apply, Change, Durability, EntryStore, LocalCommit, Memory, Offer, Parents, Verdict, ViewRows, Wanted,
//! };
//!
//! /// Lets everybody write.
//! #[derive(Debug)]
//! struct Anybody;
//! impl Judge for Anybody {
//!     fn knows(&self, _: &TreeId, _: &PublicKey) -> bool {
//!         true
//!     }
//!     fn judge(&self, _: Question<'_>, _: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
//!         Ok(Ok(()))
//!     }
//! }
//!
//! /// Keeps each operation under its entry.
//! #[derive(Debug)]
//! struct Keep;
//! impl Apply for Keep {
//!     fn reads(&self, _: &Change<'_>, _: &mut Wanted) {}
//!     fn apply(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
//!         view.put(&change.id.0, change.ops[0].clone());
//!         Ok(Applied::default())
//!     }
//! }
//!
//! let open = || EntryStore::open(Arc::new(Memory::new()), Arc::new(Anybody), Arc::new(Keep), [1; 32]);
//! let (here, there) = (open()?, open()?);
//!
//! // A root makes a tree; what is written next descends from it.
//! let device = Arc::new(SecretKey::from_seed([2; 32]));
//! let admin = SettingsOp::Set { slot: Slot::Key(device.public()), permission: Permission::Admin(0) };
//! let root = LocalCommit {
//!     tree: None,
//!     author: device,
//!     now_ms: 1_700_000_000_000,
//!     parents: Parents::AtSeal,
//!     sections: vec![SectionDraft::settings(&[SettingsOp::Rules(1), admin], &[])],
//!     nonce: Some(Nonce([3; 16])),
//!     durability: Durability::Durable,
//! };
//! let tree = here.commit(root.clone())?.tree;
//! let store = StoreName::new("notes").expect("a name of five bytes");
//! let op = Bytes::from_static(&[0x81, 0x01]);
//! let note = SectionDraft { store: store.clone(), enc: None, payload: Payload::encode("keep", &[], &[op]) };
//! let note = here.commit(LocalCommit { tree: Some(tree), sections: vec![note], nonce: None, ..root })?;
//!
//! // Elsewhere the same entries go through the same door.
//! let snapshot = here.tree(&tree)?.expect("the tree was just made");
//! let offers = snapshot.log(eid_core::dag::Seq(0)..snapshot.end(), usize::MAX)?;
//! let offers = offers.into_iter().map(|entry| Offer { block: entry.block, payloads: entry.payloads }).collect();
//! let admission = there.admit(there.prepare(tree, offers)?)?;
//! assert!(admission.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Admitted(_))));
//! let view = there.tree(&tree)?.expect("its root was admitted").view(&store, "keep");
//! assert!(view.get(&note.id.0)?.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admit;
mod apply;
mod aside;
mod backend;
mod backup;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod counting;
mod cursor;
mod embedded;
mod entry_store;
mod error;
mod faulty;
mod fsck;
pub mod limits;
mod local;
mod maintain;
mod memory;
mod offer;
mod pages;
mod past;
mod prepare;
mod prune;
mod rows;
mod settings;
mod sketch;
mod standing;
#[cfg(test)]
mod tests;
mod tree;
mod version;
mod views;

pub use apply::{Applied, Apply, Change, LOCAL_ROWS, ViewRows, Wanted};
pub use backend::{
    Backend, BackendError, Batch, Direction, Durability, Key, Scan, Snapshot, Stretch, Value, prefix_end,
};
pub use backup::{BACKUP_MAGIC, BackupError, BackupRow, BackupSummary, read_backup, restore_backup};
pub use counting::{Counting, Counts};
pub use embedded::{CrashDisk, Directory, Embedded, EmbeddedConfig, Vfs, VfsFile, is_engine_guarded};
pub use entry_store::{EntryStore, Watch};
pub use error::StoreError;
pub use faulty::{Faulty, Odds};
pub use fsck::{FsckReport, Lost, Problem};
pub use local::Local;
pub use memory::Memory;
pub use offer::{Admission, Admitted, Committed, LocalCommit, Offer, Parents, Prepared, Verdict};
pub use standing::StandingChange;
pub use tree::{Node, StoreInfo, TreeSnapshot, View};
