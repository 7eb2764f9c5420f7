//! Takes the log of one tree through the door again.

use std::collections::BTreeSet;
use std::sync::Arc;

use eid_core::dag::{Seq, add_to_tips};
use eid_core::{EntryId, TreeId};

use super::later::{Later, Order, Step};
use super::salvage::{Copies, Harm, are_known, salvage};
use super::{Found, Lost, Progress};
use crate::admit::{Door, Job, Outcome, judge_group};
use crate::backend::{Backend, BackendError, Batch, Key, Scan, Snapshot, Value};
use crate::cursor::Cursor;
use crate::entry_store::EntryStore;
use crate::error::StoreError;
use crate::limits::{FSCK_BYTES_MAX, FSCK_ENTRIES_MAX, FSCK_HOLE_MAX};
use crate::memory::Memory;
use crate::offer::{Offer, Verdict};
use crate::prepare::prepare;
use crate::rows::{Space, TreeNo, decode_log, encode_log, seq_key, seq_of_key, tree_range, trees_key};
use crate::settings::TreeMemory;
use crate::standing::{Portion, Settling};

/// What the log alone says, worked out apart from the door.
#[derive(Debug, Default)]
pub(super) struct LogFacts {
    pub entries: u64,
    pub bytes: u64,
    pub tips: BTreeSet<EntryId>,
    /// Rows of the log of which something cannot be admitted. What is derived cannot be compared then.
    pub damaged: u64,
    /// Whether everything was applied in the order in which it came.
    pub order: Order,
    /// Whether entries are left out, so that those after them come to other positions.
    pub moved: bool,
}

impl LogFacts {
    fn leave_out(&mut self) {
        self.damaged += 1;
        self.moved = true;
    }
}

/// Admits the log of a tree into another backend, or into the same one under another number; `later` says what is kept
/// back.
pub(super) fn rebuild(
    store: &EntryStore,
    tree: TreeId,
    source: (&dyn Snapshot, TreeNo),
    target: (&dyn Backend, TreeNo),
    mut later: Later<'_>,
    found: &mut Found,
    progress: &mut Progress<'_>,
) -> Result<LogFacts, StoreError> {
    let memory = Arc::new(TreeMemory::new(target.1));
    let mut facts = LogFacts { order: later.order(), ..LogFacts::default() };
    let (mut from, to) = tree_range(Space::Log, source.1);
    let (mut next, mut copies) = (Seq(0), Copies::default());
    loop {
        let scan = Scan {
            max_rows: FSCK_ENTRIES_MAX,
            max_bytes: FSCK_BYTES_MAX,
            ..Scan::range(from.clone(), to.clone())
        };
        let rows = source.0.scan_many(&[scan])?.pop().unwrap_or_default();
        let Some((last, _)) = rows.last() else { break };
        from.clone_from(last);
        from.push(0);
        let (mut offers, mut offered) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let count = rows.len() as u64;
        let known = are_known(source, &rows)?;
        for ((key, value), known) in rows.into_iter().zip(known) {
            let seq = seq_of_key(&key)?;
            if seq.0.saturating_sub(next.0) > FSCK_HOLE_MAX {
                facts.leave_out();
                found.loss("log_row", tree, (next, Lost::Entry), "the entries from here on are not there");
                next = seq;
            }
            while next <= seq {
                let row = (next == seq).then_some(&value);
                match salvage(source, next, (row, known), &mut copies)? {
                    Some(mut salvaged) => {
                        facts.bytes += salvaged.bytes_len() as u64;
                        if let Some((id, parents)) = &salvaged.place {
                            add_to_tips(&mut facts.tips, *id, parents);
                        }
                        later.leave_out(next, &mut salvaged.payloads);
                        offers.push(Offer { block: salvaged.block, payloads: salvaged.payloads });
                        offered.push((next, salvaged.harm));
                    }
                    None => {
                        facts.leave_out();
                        let detail =
                            if row.is_some() { "the row does not read" } else { "the entry is not there" };
                        found.loss("log_row", tree, (next, Lost::Entry), detail);
                    }
                }
                next = Seq(next.0 + 1);
            }
        }
        facts.entries += offers.len() as u64;
        let into = Into { store, tree, target: target.0, memory: &memory };
        let mut verdicts = Vec::with_capacity(offers.len());
        let mut offers = offers.into_iter().zip(offered.iter().map(|(seq, _)| *seq)).peekable();
        while offers.peek().is_some() {
            let end = later.next_end().unwrap_or(Seq(u64::MAX));
            let before = std::iter::from_fn(|| offers.next_if(|(_, seq)| *seq < end)).map(|(offer, _)| offer);
            verdicts.extend(into.admit(before.collect())?);
            if let Some((_, seq)) = offers.peek() {
                into.catch_up(&mut later, *seq)?;
            }
        }
        for ((seq, harm), verdict) in offered.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Admitted(_) => match harm {
                    Harm::None => {}
                    Harm::Copied => {
                        facts.damaged += 1;
                        let detail = "the row is damaged, and the entry is intact among the settings";
                        found.problem("log_row", tree, Some(seq), detail);
                    }
                    Harm::Payloads(stores) => {
                        facts.damaged += 1;
                        if stores.is_empty() {
                            let detail = "the row is damaged, and the entry in it is intact";
                            found.problem("log_row", tree, Some(seq), detail);
                        }
                        for store in stores {
                            let detail = format!("the payload for the store {store} is damaged");
                            found.loss("payload", tree, (seq, Lost::Payload), &detail);
                        }
                    }
                },
                Verdict::Duplicate(_) => {
                    facts.leave_out();
                    found.problem("log_row", tree, Some(seq), "the entry is in the log twice");
                }
                Verdict::Refused(refusal) => {
                    facts.leave_out();
                    found.loss(refusal.code(), tree, (seq, Lost::Entry), &refusal.to_string());
                }
            }
        }
        progress.advance(count);
    }
    let into = Into { store, tree, target: target.0, memory: &memory };
    into.catch_up(&mut later, next)?;
    if later.settled {
        into.settle()?;
    }
    // What follows the last row of the log is known from the edges.
    let mut edges = Cursor::new(source.0, edges_from(source.1, next), FSCK_ENTRIES_MAX);
    while let Some((key, _)) = edges.next()? {
        facts.leave_out();
        found.loss("log_row", tree, (seq_of_key(&key)?, Lost::Entry), "the entry is not there");
    }
    Ok(facts)
}

/// Where entries are admitted again.
#[derive(Clone, Copy)]
struct Into<'a> {
    store: &'a EntryStore,
    tree: TreeId,
    target: &'a dyn Backend,
    memory: &'a Arc<TreeMemory>,
}

impl Into<'_> {
    fn admit(self, offers: Vec<Offer>) -> Result<Vec<Verdict>, StoreError> {
        let store = self.store;
        let job = Job::Foreign(vec![prepare(store.judge(), self.tree, offers)]);
        let snapshot = self.target.snapshot()?;
        let door = Door { judge: store.judge(), apply: store.apply(), snapshot: &*snapshot };
        let judged = judge_group(door, &[&job], &|_| Some(self.memory.clone()))?;
        drop(snapshot);
        if let Some(mut batch) = judged.batch {
            // The tree keeps the number that it has until everything is there.
            batch.puts.retain(|(key, _)| *key != trees_key(&self.tree));
            batch.guards.clear();
            self.target.commit(batch)?;
        }
        for learned in judged.learned {
            learned.memory.absorb(learned.pending);
        }
        match judged.outcomes.into_iter().next() {
            Some(Outcome::Foreign(admissions)) => {
                Ok(admissions.into_iter().flat_map(|admission| admission.verdicts).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Applies what came while the log ended at a position or before.
    fn catch_up(self, later: &mut Later<'_>, end: Seq) -> Result<(), StoreError> {
        while let Some(step) = later.next(end)? {
            match step {
                Step::Payloads(offers) => {
                    self.admit(offers)?;
                }
                // As many entries at once as then, whatever is in memory with them.
                Step::Change(entries) => {
                    self.settle_portion(&mut Portion { entries, bytes: usize::MAX })?;
                }
            }
        }
        Ok(())
    }

    /// Brings views in line with what counts, as far as that fits in memory.
    fn settle(self) -> Result<(), StoreError> {
        let mut portion = self.store.portion();
        while self.settle_portion(&mut portion)? {}
        Ok(())
    }

    /// Takes in one portion, and says whether there is more.
    fn settle_portion(self, portion: &mut Portion) -> Result<bool, StoreError> {
        let (tree, memory, backend) = (self.tree, &**self.memory, self.target);
        let settling =
            Settling { tree, judge: self.store.judge(), apply: self.store.apply(), memory, backend };
        match settling.work_out(self.target.snapshot()?, portion) {
            Ok(Some(mut worked)) => {
                worked.batch.guards.clear();
                self.target.commit(worked.batch)?;
                Ok(worked.has_more)
            }
            Ok(None) | Err(StoreError::VersionTooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Rows of one tree in memory, without the log: that is read where it is. Of entries that are not there as they are
/// here, because a payload came late or others before them are left out, the block is kept.
#[derive(Debug)]
pub(super) struct Scratch {
    rows: Memory,
    log: Arc<dyn Snapshot>,
    log_range: (Key, Key),
}

impl Scratch {
    pub(super) fn new(log: Arc<dyn Snapshot>, tree: TreeNo) -> Self {
        Self { rows: Memory::new(), log, log_range: tree_range(Space::Log, tree) }
    }
}

impl Backend for Scratch {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        let (log, log_range) = (self.log.clone(), self.log_range.clone());
        Ok(Arc::new(ScratchSnapshot { rows: self.rows.snapshot()?, log, log_range }))
    }

    fn commit(&self, mut batch: Batch) -> Result<(), BackendError> {
        let (from, to) = &self.log_range;
        let (logged, mut puts): (Vec<_>, Vec<_>) =
            batch.puts.into_iter().partition(|(key, _)| key >= from && key < to);
        let keys: Vec<Key> = logged.iter().map(|(key, _)| key.clone()).collect();
        for ((key, row), held) in logged.into_iter().zip(self.log.get_many(&keys)?) {
            if held.as_ref() == Some(&row) {
                batch.deletes.push(key);
            } else if let Ok(logged) = decode_log(Seq(0), &row) {
                puts.push((key, encode_log(&logged.block, &vec![None; logged.payloads.len()])));
            }
        }
        batch.puts = puts;
        self.rows.commit(batch)
    }
}

#[derive(Debug)]
struct ScratchSnapshot {
    rows: Arc<dyn Snapshot>,
    log: Arc<dyn Snapshot>,
    log_range: (Key, Key),
}

impl Snapshot for ScratchSnapshot {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        let mut found = self.rows.get_many(keys)?;
        for (key, value) in keys.iter().zip(&mut found) {
            if value.is_none() && *key >= self.log_range.0 && *key < self.log_range.1 {
                *value = self.log.get_many(std::slice::from_ref(key))?.pop().flatten();
            }
        }
        Ok(found)
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        self.rows.scan_many(scans)
    }
}

fn edges_from(tree: TreeNo, seq: Seq) -> (Key, Key) {
    (seq_key(Space::Edges, tree, seq), tree_range(Space::Edges, tree).1)
}

/// Whether a tree has rows of the log at or after a position.
pub(super) fn has_log_from(snapshot: &dyn Snapshot, tree: TreeNo, seq: Seq) -> Result<bool, StoreError> {
    let (_, to) = tree_range(Space::Log, tree);
    let scan = Scan { max_rows: 1, ..Scan::range(seq_key(Space::Log, tree, seq), to) };
    Ok(!snapshot.scan_many(&[scan])?.pop().unwrap_or_default().is_empty())
}
