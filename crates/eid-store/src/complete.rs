//! What is held of a tree with nothing missing: as much of the log as comes before the first payload that is not here.
//!
//! The log has parents first, so this is a replica of its own, a smaller one. Who shows it to a peer instead of what is
//! held is given everything else, and with it the payloads.

use std::collections::BTreeSet;
use std::ops::Range;

use eid_core::dag::{Dag, Epoch, Logged, Named, Replica, Seq};
use eid_core::sketch::Sketch;
use eid_core::{EntryId, ReadError};

use crate::error::StoreError;
use crate::rows::seq_of_key;
use crate::tree::TreeSnapshot;

/// The beginning of a tree that lacks no payload.
#[derive(Debug)]
pub struct Complete {
    snapshot: TreeSnapshot,
    end: Seq,
    tips: Vec<(EntryId, Seq)>,
}

impl TreeSnapshot {
    /// What comes before the first payload that is not here; nothing when all are.
    ///
    /// Costs the reading of one interval of the log.
    pub fn complete(&self) -> Result<Option<Complete>, StoreError> {
        let Some(end) = self.first_missing()? else { return Ok(None) };
        let (from, mut tips) = self.checkpoint_before(end)?;
        for (key, parents) in self.parents_between(from, end)? {
            parents.iter().for_each(|parent| {
                tips.remove(parent);
            });
            tips.insert(seq_of_key(&key)?);
        }
        let mut named = Vec::with_capacity(tips.len());
        for seq in tips {
            named.push((self.id_at(seq)?, seq));
        }
        named.sort_unstable();
        Ok(Some(Complete { snapshot: self.clone(), end, tips: named }))
    }
}

impl Complete {
    fn held(&self, found: Vec<Option<Seq>>) -> Vec<Option<Seq>> {
        found.into_iter().map(|seq| seq.filter(|seq| *seq < self.end)).collect()
    }
}

impl Dag for Complete {
    fn parents(&self, from: Seq, count: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        let left = usize::try_from(self.end.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        self.snapshot.parents(from, count.min(left))
    }
}

impl Replica for Complete {
    fn epoch(&self) -> Epoch {
        self.snapshot.epoch()
    }

    fn end(&self) -> Seq {
        self.end
    }

    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(self.tips.clone())
    }

    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(self.held(self.snapshot.find(ids)?))
    }

    fn find_prefixes(&self, prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(self.held(self.snapshot.find_prefixes(prefixes)?))
    }

    fn named(&self, from: Seq, count: usize) -> Result<Vec<Named>, ReadError> {
        let left = usize::try_from(self.end.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        self.snapshot.named(from, count.min(left))
    }

    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        Ok(None)
    }

    fn log(&self, range: Range<Seq>, bytes_max: usize) -> Result<Vec<Logged>, ReadError> {
        self.snapshot.log(range.start..range.end.min(self.end), bytes_max)
    }
}

/// Positions of tips, and from where on the log goes on from them.
pub(crate) type Checkpoint = (Seq, BTreeSet<Seq>);
