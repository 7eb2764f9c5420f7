//! What goes through the door, and what comes of it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::{EntryId, Nonce, Refusal, SecretKey, SectionDraft, Time, TreeId};

use crate::backend::Durability;
use crate::prepare::Item;

/// An entry as it arrived: nothing is said of it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The block.
    pub block: Bytes,
    /// One per section; `None` where it did not come along.
    pub payloads: Vec<Option<Bytes>>,
}

/// Offers that were decoded, hashed and, where their author is known, verified: see [`crate::EntryStore::prepare`].
#[derive(Debug)]
pub struct Prepared {
    pub(crate) tree: TreeId,
    pub(crate) items: Vec<Item>,
    /// Bytes of blocks and payloads.
    pub(crate) bytes: usize,
}

impl Prepared {
    /// How many offers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of their blocks and payloads.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes
    }
}

/// What became of a batch of offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// One per offer, in their order.
    pub verdicts: Vec<Verdict>,
    /// One past the last position of the tree.
    pub end: Seq,
}

/// What became of one offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Stored at this position.
    Admitted(Seq),
    /// Held already at this position.
    Duplicate(Seq),
    /// Not stored.
    Refused(Refusal),
}

/// Which entries a local commit descends from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parents {
    /// The tips at the moment of sealing, so that local writers make a chain and not a fan.
    AtSeal,
    /// What the writer has read.
    Pinned(Vec<EntryId>),
}

/// A write of this device that is not sealed yet.
#[derive(Debug, Clone)]
pub struct LocalCommit {
    /// The tree; nothing for a root, which makes one.
    pub tree: Option<TreeId>,
    /// Who signs.
    pub author: Arc<SecretKey>,
    /// The clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// What it descends from. A settings entry descends from all tips whatever this says.
    pub parents: Parents,
    /// What is written.
    pub sections: Vec<SectionDraft>,
    /// For a root.
    pub nonce: Option<Nonce>,
    /// Whether the commit waits for the disk.
    pub durability: Durability,
}

/// A local commit that was sealed and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The tree.
    pub tree: TreeId,
    /// The entry.
    pub id: EntryId,
    /// Its position.
    pub seq: Seq,
    /// Its time.
    pub time: Time,
}

/// A run of entries that one batch added to one tree. It is empty when the batch brought only payloads of entries that
/// were there already, or when other entries count than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The tree.
    pub tree: TreeId,
    /// Their positions.
    pub seqs: Range<Seq>,
    /// Whether this device wrote them.
    pub local: bool,
    /// Whether other entries count than before, of those that were there already.
    pub standing: bool,
}
