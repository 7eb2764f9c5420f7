//! Who may write what: replicas that hold the same entries give the same answer, whatever came first.
//!
//! Settings are entries like any other: they grant and revoke the rights of keys, and they are written concurrently
//! by people who are offline. This crate says of each entry whether it is *valid* (its author had the right in its
//! own past; final) and whether it *stands* (no stronger key removed its author, and nothing that it relied on is
//! void; recomputed when settings change). Neither looks at time, height or the order of arrival.
//!
//! It knows no clock, no randomness, no file, no task and no map whose order depends on a hash, and it holds no data:
//! the [`Engine`] keeps the settings entries of one tree and answers about data by its author and its *settings
//! frontier*, the settings entries of its past that no other of them descends from. It reads stored entries through
//! [`History`].
//!
//! [`ledger`] is a whole DAG in memory, judged by the engine:
//!
//! ```
//! use eid_auth::{Engine, ledger::Ledger};
//! use eid_core::{EntryId, KeyMode, Permission, PublicKey, SettingsOp, Slot};
//!
//! let key = |n| PublicKey([n; 32]);
//! let id = |n| EntryId([n; 32]);
//! let set = |n, permission| SettingsOp::Set { slot: Slot::Key(key(n)), permission };
//! let mut ledger = Ledger::new(Engine::new())?;
//!
//! // Key 0 begins the tree and makes key 3 a writer.
//! let begin = [set(0, Permission::Admin(0)), set(3, Permission::Write)];
//! ledger.add(id(1), key(0), Some(&begin), &[])?;
//! ledger.add(id(2), key(3), None, &[id(1)])?;
//!
//! // Key 0 removes it, having seen its first write. A second one, put beside the removal, is admitted and void.
//! let mode = KeyMode::Remove { fence: None };
//! ledger.add(id(3), key(0), Some(&[SettingsOp::Revoke { slot: Slot::Key(key(3)), mode }]), &[id(2)])?;
//! ledger.add(id(4), key(3), None, &[id(2)])?;
//! assert!(ledger.standing(&id(2)).is_some_and(|standing| standing.counts()));
//! assert!(ledger.why(&id(4)).is_some_and(|why| why.to_string().starts_with("void because")));
//!
//! // Behind the removal it may not write at all.
//! assert!(ledger.add(id(5), key(3), None, &[id(3)]).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`oracle`] is the definition of the rules, naive and slow; `tests/auth_model.py` is the model that it is a port of.
//! `cargo xtask auth` holds the three together.

mod bits;
mod engine;
mod history;
pub mod ledger;
pub mod limits;
pub mod oracle;
mod run;
mod tables;
mod why;

pub use engine::{Candidate, Change, Class, Data, Engine, Job, Reach, Removal, Resolution};
pub use history::History;
pub use why::{Denied, Standing, Void};
