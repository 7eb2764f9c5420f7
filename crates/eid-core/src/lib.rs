//! What an entry is, and what a DAG of entries means: every function here gives the same answer for the same
//! bytes on every machine, for ever.
//!
//! An [`Entry`] is an immutable, signed node of a Merkle-DAG, named by the hash of its bytes. This crate parses
//! entries, makes them, verifies them, and walks their DAG. It knows no clock, no randomness, no socket, no file,
//! no task and no map whose order depends on a hash: times and nonces are arguments, and stored entries are read
//! through the small traits of [`dag`].
//!
//! ```
//! use eid_core::{Draft, Entry, Nonce, Payload, SecretKey, SectionDraft, SettingsOp, Permission, Slot, Time};
//!
//! let recovery = SecretKey::from_seed([1; 32]);
//! let device = SecretKey::from_seed([2; 32]);
//! let ops = [
//!     SettingsOp::Rules(1),
//!     SettingsOp::Set { slot: Slot::Key(recovery.public()), permission: Permission::Admin(0) },
//!     SettingsOp::Set { slot: Slot::Key(device.public()), permission: Permission::Admin(1) },
//! ];
//! let root = Draft::root(Nonce([7; 16]), Time::from_ms(1_700_000_000_000), &ops).seal(&recovery)?;
//! assert!(root.id().to_string().starts_with("bafyr4i"));
//!
//! // What was received is parsed once; nothing later checks its structure again.
//! let again = Entry::parse(root.block().clone(), root.payloads().to_vec())?;
//! assert_eq!(again.id(), root.id());
//! again.verify_signature()?;
//! # Ok::<(), eid_core::Refusal>(())
//! ```

pub mod cbor;
pub mod dag;
mod draft;
mod entry;
mod id;
mod judge;
mod key;
pub mod limits;
pub mod pack;
mod payload;
mod permission;
pub mod sabotage;
mod settings;
mod signature;
pub mod sketch;
mod time;
mod verdict;
mod witness;

pub use draft::{Draft, SectionDraft};
pub use entry::{BlobRef, Entry, Header, Nonce, SETTINGS_STORE, Section, StoreName};
pub use id::{EntryId, ParseIdError, TreeId};
pub use judge::{History, Judge, Question, Reach, ReadError, SettingsNode, SettingsPast, Stands};
pub use key::{ParseKeyError, PublicKey, SecretKey, Signature};
pub use payload::{Payload, PayloadError};
pub use permission::Permission;
pub use settings::{
    KeyMode, RULES_FIRST, RULES_INVITES, RULES_VERSION, SETTINGS_KIND, SettingsOp, Slot, join_message,
};
pub use signature::{Domain, sign, sign_domain, verify, verify_many};
pub use time::{Height, Stamp, Time};
pub use verdict::{Invalid, Missing, Refusal, Unsupported};
pub use witness::{Admissible, ParentFacts, Signed, check_place};
