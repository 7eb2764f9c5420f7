//! Recomputes everything that is derived from the log and compares it with what is stored.
//!
//! The log of each tree goes through the door again, into a scratch store in memory: hashes, signatures, places and
//! rights are checked as if it arrived from a stranger, and ids, edges, tips, frontiers, counts and views come out
//! anew. Tips and counts are worked out a second way, from the entries alone. The scratch store needs memory for
//! what is derived, not for the log.
//!
//! A repair writes the same into the store, under another number, and changes the number of the tree when everything
//! is there: a crash before that leaves the tree as it was. It loses as little as there is: a payload that is not what
//! its entry names is taken for one that never came, and the entry stays; an entry of the settings is kept twice, and
//! either copy will do. Only an entry whose block is damaged is left out, with what descends from it, so that a peer can
//! give them again; positions change then, and with them the epoch. A report names every entry that loses something.

mod compare;
mod later;
mod rebuild;
mod salvage;

use std::collections::HashMap;

use eid_core::dag::Seq;
use eid_core::{EntryId, TreeId};

use crate::backend::{Backend, Batch, Snapshot};
use crate::cursor::Cursor;
use crate::entry_store::{EntryStore, read_meta, read_trees};
use crate::error::StoreError;
use crate::limits::{FSCK_ENTRIES_MAX, FSCK_PROBLEMS_MAX};
use crate::prune::{Places, carry, pruned_in};
use crate::rows::{
    FORMAT, Facts, Meta, Space, TreeNo, TreeState, encode_tree_no, meta_key, state_key, sweep_key,
    tree_range, trees_key,
};
use compare::Sides;
use later::Later;
use rebuild::{Scratch, rebuild};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsckReport {
    /// Trees checked.
    pub trees: u64,
    /// Entries checked.
    pub entries: u64,
    /// Bytes of blocks and payloads checked.
    pub bytes: u64,
    /// What was found, at most [`crate::limits::FSCK_PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many problems were found, listed or not.
    pub found: u64,
    /// How many of them were mended, with nothing lost.
    pub repaired: u64,
    /// How many entries are lost here, or would be by a repair: damaged ones and what descends from them.
    pub lost_entries: u64,
    /// How many payloads are lost here, or would be by a repair, of entries that stay.
    pub lost_payloads: u64,
    /// How many payloads are not here, as was known before.
    pub absent_payloads: u64,
    /// How many payloads were dropped on purpose.
    pub pruned_payloads: u64,
}

impl FsckReport {
    /// Whether nothing is wrong (any more), and nothing was lost.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found == self.repaired
    }

    /// Whether something is lost here that only a peer can give.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        self.lost_entries + self.lost_payloads > 0
    }
}

/// What a problem costs: it has to come from a peer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The entry. It is held again once a peer has given it and what it descends from.
    Entry,
    /// One payload. The entry stays, and the payload is asked for by the next synchronisation.
    Payload,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stable name of the kind of problem: the code of a refusal, or the rows that are wrong.
    pub name: &'static str,
    /// The tree.
    pub tree: TreeId,
    /// The position of the entry, where there is one.
    pub seq: Option<Seq>,
    /// The id of the entry, where something of it is lost and its id is known.
    pub entry: Option<EntryId>,
    /// What was found, for people.
    pub detail: String,
    /// What it costs.
    pub lost: Option<Lost>,
    /// Whether it was mended, with nothing lost.
    pub repaired: bool,
}

/// Problems of one tree.
#[derive(Debug, Default)]
struct Found {
    problems: Vec<Problem>,
    count: u64,
    lost_entries: u64,
    lost_payloads: u64,
}

impl Found {
    fn problem(&mut self, name: &'static str, tree: TreeId, seq: Option<Seq>, detail: &str) {
        let detail = detail.to_owned();
        self.add(Problem { name, tree, seq, entry: None, detail, lost: None, repaired: false });
    }

    fn loss(&mut self, name: &'static str, tree: TreeId, (seq, lost): (Seq, Lost), detail: &str) {
        let (seq, detail, lost) = (Some(seq), detail.to_owned(), Some(lost));
        self.add(Problem { name, tree, seq, entry: None, detail, lost, repaired: false });
    }

    fn add(&mut self, problem: Problem) {
        self.count += 1;
        match problem.lost {
            Some(Lost::Entry) => self.lost_entries += 1,
            Some(Lost::Payload) => self.lost_payloads += 1,
            None => {}
        }
        if self.problems.len() < FSCK_PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Names the entries that lose something, by what the rows by id say of their positions.
    fn name_entries(&mut self, snapshot: &dyn Snapshot, tree: TreeNo) -> Result<(), StoreError> {
        let mut lost: HashMap<Seq, Vec<&mut Problem>> = HashMap::new();
        for problem in self.problems.iter_mut().filter(|problem| problem.lost.is_some()) {
            if let Some(seq) = problem.seq {
                lost.entry(seq).or_default().push(problem);
            }
        }
        let mut rows = Cursor::new(snapshot, tree_range(Space::Id, tree), FSCK_ENTRIES_MAX);
        while !lost.is_empty()
            && let Some((key, row)) = rows.next()?
        {
            let id = key.get(5..).and_then(|id| id.try_into().ok()).map(EntryId);
            let Ok(facts) = Facts::decode(&row) else { continue };
            lost.remove(&facts.seq).into_iter().flatten().for_each(|problem| problem.entry = id);
        }
        Ok(())
    }
}

/// Tells how far the check is.
struct Progress<'a> {
    done: u64,
    total: u64,
    tell: &'a mut dyn FnMut(u64, u64),
}

impl Progress<'_> {
    fn advance(&mut self, entries: u64) {
        self.done += entries;
        (self.tell)(self.done, self.total.max(self.done));
    }
}

pub(crate) fn run(
    store: &EntryStore,
    repair: bool,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<FsckReport, StoreError> {
    let snapshot = store.backend().snapshot()?;
    let trees = read_trees(&*snapshot)?;
    let mut total = 0;
    for (_, number) in &trees {
        let state = snapshot.get_many(&[state_key(*number)])?.pop().flatten();
        total += state.and_then(|state| TreeState::decode(&state).ok()).map_or(0, |state| state.next_seq.0);
    }
    let mut progress = Progress { done: 0, total, tell };
    let mut report = FsckReport::default();
    for (tree, number) in trees {
        let mut found = Found::default();
        let scratch = Scratch::new(snapshot.clone(), number);
        let (source, target) = ((&*snapshot, number), (&scratch as &dyn Backend, number));
        let later = Later::new(source)?;
        let log = rebuild(store, tree, source, target, later, &mut found, &mut progress)?;
        found.name_entries(&*snapshot, number)?;
        if log.damaged == 0 {
            let again = scratch.snapshot()?;
            Sides { tree, number, stored: &*snapshot, again: &*again }.compare(&log, &mut found)?;
        }
        let state = snapshot.get_many(&[state_key(number)])?.pop().flatten();
        let state = state.and_then(|state| TreeState::decode(&state).ok()).unwrap_or_default();
        report.absent_payloads += state.missing.saturating_sub(state.pruned);
        report.pruned_payloads += state.pruned;
        report.trees += 1;
        report.entries += log.entries;
        report.bytes += log.bytes;
        report.found += found.count;
        report.lost_entries += found.lost_entries;
        report.lost_payloads += found.lost_payloads;
        if repair && found.count > 0 {
            rewrite(store, tree, (&*snapshot, number), &Places::new())?;
            report.repaired += found.count - found.lost_entries - found.lost_payloads;
            found.problems.iter_mut().for_each(|problem| problem.repaired = problem.lost.is_none());
        }
        let room = FSCK_PROBLEMS_MAX - report.problems.len();
        report.problems.extend(found.problems.into_iter().take(room));
    }
    Ok(report)
}

/// Works out everything that is derived again, in the format of today. Begins anew when it was interrupted.
pub(crate) fn upgrade(store: &EntryStore) -> Result<(), StoreError> {
    let snapshot = store.backend().snapshot()?;
    for (tree, number) in read_trees(&*snapshot)? {
        rewrite(store, tree, (&*snapshot, number), &Places::new())?;
    }
    let meta = read_meta(&*store.backend().snapshot()?)?;
    let meta = meta.ok_or(StoreError::Corrupt { what: "the row of the whole store" })?;
    let meta = Meta { format: FORMAT, ..meta };
    Ok(store.backend().commit(Batch { puts: vec![(meta_key(), meta.encode())], ..Batch::default() })?)
}

/// Builds a tree anew under another number, without some payloads, and gives it that number.
pub(crate) fn rewrite(
    store: &EntryStore,
    tree: TreeId,
    source: (&dyn Snapshot, TreeNo),
    without: &Places,
) -> Result<(), StoreError> {
    // What was dropped on purpose before is not there, and stays marked.
    let mut pruned = pruned_in(source).unwrap_or_default();
    pruned.extend(without);
    let meta = || -> Result<Meta, StoreError> {
        read_meta(&*store.backend().snapshot()?)?
            .ok_or(StoreError::Corrupt { what: "the row of the whole store" })
    };
    let mut taken = meta()?;
    let number = TreeNo(taken.next_tree);
    taken.next_tree += 1;
    // Until it is the tree's, the number belongs to what is swept.
    store.backend().commit(Batch {
        puts: vec![(meta_key(), taken.encode()), (sweep_key(number), bytes::Bytes::new())],
        ..Batch::default()
    })?;
    let mut ignored = |_, _| {};
    let mut progress = Progress { done: 0, total: 0, tell: &mut ignored };
    let target = (store.backend(), number);
    let later = Later::without(source, without.clone());
    let log = rebuild(store, tree, source, target, later, &mut Found::default(), &mut progress)?;
    if !without.is_empty() && log.damaged > 0 {
        // What is damaged is for a repair to tell.
        return Err(StoreError::Corrupt { what: "the log" });
    }
    let pruned = carry(store, source, number, &pruned)?;
    let mut flip = Batch {
        puts: vec![(sweep_key(source.1), bytes::Bytes::new())],
        deletes: vec![sweep_key(number)],
        ..Batch::default()
    };
    let held = store.backend().snapshot()?.get_many(&[state_key(number)])?.pop().flatten();
    let is_held = held.is_some();
    if let Some(held) = held {
        // Whoever has counted what was filled sees that something is different.
        let before = source.0.get_many(&[state_key(source.1)])?.pop().flatten();
        let before = before.and_then(|state| TreeState::decode(&state).ok()).unwrap_or_default();
        let state = TreeState { filled: before.filled.wrapping_add(1), pruned, ..TreeState::decode(&held)? };
        flip.puts.push((state_key(number), state.encode()));
        flip.puts.push((trees_key(&tree), encode_tree_no(number)));
    } else {
        // Not even the root is left.
        flip.deletes.push(trees_key(&tree));
    }
    let mut after = meta()?;
    if log.moved {
        after.epoch = store.next_epoch();
        flip.puts.push((meta_key(), after.encode()));
    }
    store.backend().commit(flip)?;
    store.renumber(tree, is_held.then_some(number), after.epoch);
    store.sweep()
}
