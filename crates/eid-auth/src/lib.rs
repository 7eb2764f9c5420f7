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
//! # How a store uses it
//!
//! One [`Engine`] per tree, behind a lock. Nothing is loaded at open: the first question loads the settings entries
//! that it needs through [`History`], once; data is never loaded and never kept.
//!
//! 1. *Admission.* [`Engine::judge`] with the settings frontier of the parents, derived and never claimed. It is final.
//! 2. *Standing of what was admitted.* With `now`, the resolution of the settings frontier of the tips,
//!    [`Engine::standing`] says of each data entry whether it counts. While nothing was removed concurrently this reads
//!    nothing. [`Engine::class`] gives the answer for all data of one author and one frontier.
//! 3. *A settings entry.* Resolve the frontier of the tips before and after the batch; [`Engine::change`] says which
//!    data may have changed standing: by whom, and where, mostly outside the ancestry of a removal. A walk over what
//!    lies there finds it, and usually that is nothing. Only this data is asked for again.
//! 4. *Reads* of older versions resolve the settings frontier of the tips they read at.
//!
//! So a store keeps, besides the settings frontier of each entry, one row for each void entry, changed in the same
//! atomic write as what changed it.
//!
//! ```
//! use eid_auth::{Candidate, Data, Engine, History};
//! use eid_core::{EntryId, PublicKey, ReadError, SettingsOp};
//!
//! /// Takes in a settings entry that was written at these tips; gives those of `concurrent`, which is data that it has
//! /// not seen, that are void from now on.
//! fn take_in(
//!     engine: &mut Engine,
//!     history: &dyn History,
//!     (author, ops): (PublicKey, &[SettingsOp]),
//!     (parents, past, after): (&[EntryId], &[EntryId], &[EntryId]),
//!     concurrent: &[Data<'_>],
//! ) -> Result<Vec<EntryId>, ReadError> {
//!     if engine.judge(Candidate { author, settings: Some(ops), parents, past }, history)?.is_err() {
//!         return Ok(Vec::new());
//!     }
//!     // It is stored here, so that `history` has it.
//!     let (old, new) = (engine.resolve(past, history)?, engine.resolve(after, history)?);
//!     let change = engine.change(&old, &new);
//!     let mut void = Vec::new();
//!     for data in concurrent {
//!         let reached = change.reaches.iter().any(|reach| reach.concerns(&data.author));
//!         if reached && !engine.standing(&new, *data, history)?.counts() {
//!             void.push(data.id);
//!         }
//!     }
//!     Ok(void)
//! }
//! ```
//!
//! Resolving is memoised within [`limits`], iterative, and can be done in steps of any size ([`Engine::begin`],
//! [`Engine::advance`]): a smaller budget makes it slower, never different.
//!
//! # Where it is checked
//!
//! [`oracle`] is the definition of the rules, naive and slow; `tests/auth_model.py` is the model that it is a port of.
//! `cargo xtask auth` holds the three together.

mod bits;
mod engine;
pub mod ledger;
pub mod limits;
pub mod oracle;
mod run;
mod tables;
mod why;

pub use eid_core::History;
pub use engine::{
    Candidate, Change, Class, Data, Engine, Job, OpenInvite, Place, Reach, Removal, Resolution,
};
pub use why::{Denied, Standing, Void};
