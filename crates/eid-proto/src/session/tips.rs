//! Naming what a replica holds, and understanding what the other side names.

use std::collections::BTreeMap;

use eid_core::dag::{Replica, Seq, tips_hash};
use eid_core::{EntryId, ReadError, TreeId};

use crate::bounded::List;
use crate::limits::{COMMON_MAX, COMMON_WALK_MAX};
use crate::message::{TipNames, Tips};

/// How tips are to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Short,
    Full,
}

/// Names the tips of a replica, the newest `max` of them.
pub(super) fn name_tips(replica: &dyn Replica, max: usize, naming: Naming) -> Result<Tips, ReadError> {
    let mut tips = replica.tips()?;
    let hash = tips_hash(tips.iter().map(|(id, _)| id));
    let count = tips.len() as u64;
    if tips.len() > max {
        tips.sort_unstable_by_key(|(_, seq)| std::cmp::Reverse(*seq));
        tips.truncate(max);
    }
    let names = match naming {
        Naming::Short => TipNames::Short(List::new(tips.iter().map(|(id, _)| id.prefix()).collect())),
        Naming::Full => TipNames::Full(List::new(tips.iter().map(|(id, _)| id.0).collect())),
    };
    Ok(Tips { count, hash, names })
}

/// Tips of which nothing is told: the hash is that of no replica, so that what is held is found out by ids.
pub(super) fn untold_tips() -> Tips {
    Tips { count: 0, hash: [0; 32], names: TipNames::Short(List::new(Vec::new())) }
}

/// Names what is held of a database, by the hash of its tips: nothing to who does not hold the same.
#[must_use]
pub fn state_of(tree: &TreeId, tips_hash: &[u8; 32]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("eid 2026 state of a database");
    hasher.update(&tree.0).update(tips_hash);
    EntryId(*hasher.finalize().as_bytes()).prefix()
}

/// What the named tips of the other side are here.
#[derive(Debug, Clone, Default)]
pub(super) struct Resolved {
    /// Those that are held here, as far as short ids can tell.
    pub(super) held: Vec<Seq>,
    /// They are all held, without doubt: the hash over their full ids is the one that was named.
    pub(super) all: bool,
    /// Every one of them was named.
    pub(super) named: bool,
}

/// Looks up the tips of the other side.
pub(super) fn resolve(replica: &dyn Replica, tips: &Tips) -> Result<Resolved, ReadError> {
    let mine = replica.tips()?;
    if tips_hash(mine.iter().map(|(id, _)| id)) == tips.hash {
        let held = mine.into_iter().map(|(_, seq)| seq).collect();
        return Ok(Resolved { held, all: true, named: true });
    }
    let (found, mut ids) = match &tips.names {
        TipNames::Short(names) => (replica.find_prefixes(names)?, None),
        TipNames::Full(names) => {
            let ids: Vec<EntryId> = names.iter().map(|id| EntryId(*id)).collect();
            (replica.find(&ids)?, Some(ids))
        }
    };
    let named = found.len() as u64 == tips.count;
    let mut held: Vec<Seq> = found.iter().flatten().copied().collect();
    let complete = named && held.len() == found.len();
    held.sort_unstable();
    held.dedup();
    let all = complete && {
        let mut ids = match ids.take() {
            Some(ids) => ids,
            None => ids_at(replica, &held)?,
        };
        ids.sort_unstable();
        tips_hash(&ids) == tips.hash
    };
    Ok(Resolved { held, all, named })
}

/// The ids of entries that are held: from the tips where possible, else by hashing their blocks.
pub(super) fn ids_at(replica: &dyn Replica, seqs: &[Seq]) -> Result<Vec<EntryId>, ReadError> {
    let tips: BTreeMap<Seq, EntryId> = replica.tips()?.into_iter().map(|(id, seq)| (seq, id)).collect();
    let mut others: Vec<Seq> = seqs.iter().filter(|seq| !tips.contains_key(seq)).copied().collect();
    others.sort_unstable();
    let mut read: BTreeMap<Seq, EntryId> = BTreeMap::new();
    let mut at = 0;
    while at < others.len() {
        // A run of neighbours is one read, as far as it fits.
        let mut to = at + 1;
        while to < others.len() && others[to].0 == others[to - 1].0 + 1 && to - at < 512 {
            to += 1;
        }
        let range = others[at]..Seq(others[to - 1].0 + 1);
        let logged = replica.log(range, crate::limits::BATCH_BYTES_TARGET)?;
        if logged.is_empty() {
            break;
        }
        at += logged.len();
        read.extend(logged.iter().map(|logged| (logged.seq, EntryId::of_block(&logged.block))));
    }
    Ok(seqs.iter().filter_map(|seq| tips.get(seq).or_else(|| read.get(seq)).copied()).collect())
}

/// Short ids of the frontier of the log below `upto`: what the other side is known to hold.
///
/// An entry below `upto` without a child below it is a tip, or a parent of an entry at or above it. Empty when the
/// frontier is too wide or too far back to be worth naming.
pub(super) fn name_common(replica: &dyn Replica, upto: Seq) -> Result<Vec<[u8; 8]>, ReadError> {
    let (end, mut at) = (replica.end(), upto);
    if upto == Seq(0) || upto > end || end.0 - upto.0 > COMMON_WALK_MAX {
        return Ok(Vec::new());
    }
    let mut frontier: Vec<Seq> =
        replica.tips()?.iter().map(|(_, seq)| *seq).filter(|seq| *seq < upto).collect();
    while at < end {
        let edges = replica.parents(at, 512)?;
        if edges.is_empty() {
            break;
        }
        at = Seq(at.0 + edges.len() as u64);
        frontier.extend(edges.into_iter().flatten().filter(|seq| *seq < upto));
        frontier.sort_unstable();
        frontier.dedup();
    }
    if frontier.len() > COMMON_MAX {
        return Ok(Vec::new());
    }
    Ok(ids_at(replica, &frontier)?.iter().map(EntryId::prefix).collect())
}
