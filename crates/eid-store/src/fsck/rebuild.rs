//! Takes the log of one tree through the door again.

use std::collections::BTreeSet;
use std::sync::Arc;

use eid_core::dag::{Seq, add_to_tips};
use eid_core::{Entry, EntryId, TreeId};

use super::{Found, Progress};
use crate::admit::{Door, Job, Outcome, judge_group};
use crate::backend::{Backend, BackendError, Batch, Key, Scan, Snapshot, Value};
use crate::entry_store::EntryStore;
use crate::error::StoreError;
use crate::limits::{FSCK_BYTES_MAX, FSCK_ENTRIES_MAX};
use crate::memory::Memory;
use crate::offer::{Offer, Verdict};
use crate::prepare::prepare;
use crate::rows::{Space, TreeNo, decode_log, seq_key, seq_of_key, tree_range, trees_key};
use crate::settings::TreeMemory;

/// What the log alone says, worked out apart from the door.
#[derive(Debug, Default)]
pub(super) struct LogFacts {
    pub entries: u64,
    pub bytes: u64,
    pub tips: BTreeSet<EntryId>,
    /// Rows of the log that cannot be admitted. What is derived cannot be compared then.
    pub damaged: u64,
}

/// Admits the log of a tree into another backend, or into the same one under another number.
pub(super) fn rebuild(
    store: &EntryStore,
    tree: TreeId,
    source: (&dyn Snapshot, TreeNo),
    target: (&dyn Backend, TreeNo),
    found: &mut Found,
    progress: &mut Progress<'_>,
) -> Result<LogFacts, StoreError> {
    let memory = Arc::new(TreeMemory::new(target.1));
    let mut facts = LogFacts::default();
    let (mut from, to) = tree_range(Space::Log, source.1);
    let mut next = Seq(0);
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
        let (mut offers, mut seqs) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (key, value) in &rows {
            let seq = seq_of_key(key)?;
            while next < seq {
                facts.damaged += 1;
                found.problem("log_row", tree, Some(next), "the entry is not in the log");
                next = Seq(next.0 + 1);
            }
            next = Seq(seq.0 + 1);
            match decode_log(seq, value) {
                Ok(logged) => {
                    facts.bytes += logged.bytes_len() as u64;
                    if let Ok(entry) = Entry::parse(logged.block.clone(), logged.payloads.clone()) {
                        add_to_tips(&mut facts.tips, entry.id(), &entry.header().parents);
                    }
                    offers.push(Offer { block: logged.block, payloads: logged.payloads });
                    seqs.push(seq);
                }
                Err(_) => {
                    facts.damaged += 1;
                    found.problem("log_row", tree, Some(seq), "the row does not read");
                }
            }
        }
        facts.entries += offers.len() as u64;
        let verdicts = admit(store, tree, offers, target.0, &memory)?;
        for (seq, verdict) in seqs.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Admitted(_) => {}
                Verdict::Duplicate(_) => {
                    facts.damaged += 1;
                    found.problem("log_row", tree, Some(seq), "the entry is in the log twice");
                }
                Verdict::Refused(refusal) => {
                    facts.damaged += 1;
                    found.problem(refusal.code(), tree, Some(seq), &refusal.to_string());
                }
            }
        }
        progress.advance(rows.len() as u64);
    }
    Ok(facts)
}

fn admit(
    store: &EntryStore,
    tree: TreeId,
    offers: Vec<Offer>,
    target: &dyn Backend,
    memory: &Arc<TreeMemory>,
) -> Result<Vec<Verdict>, StoreError> {
    let job = Job::Foreign(prepare(store.judge(), tree, offers));
    let snapshot = target.snapshot()?;
    let door = Door { judge: store.judge(), apply: store.apply(), snapshot: &*snapshot };
    let judged = judge_group(door, &[&job], &|_| Some(memory.clone()))?;
    drop(snapshot);
    if let Some(mut batch) = judged.batch {
        // The tree keeps the number that it has until everything is there.
        batch.puts.retain(|(key, _)| *key != trees_key(&tree));
        batch.guards.clear();
        target.commit(batch)?;
    }
    for learned in judged.learned {
        learned.memory.absorb(learned.pending);
    }
    match judged.outcomes.into_iter().next() {
        Some(Outcome::Foreign(admission)) => Ok(admission.verdicts),
        _ => Ok(Vec::new()),
    }
}

/// Rows of one tree in memory, without the log: that is read where it is.
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
        batch.puts.retain(|(key, _)| key < from || key >= to);
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
            if *key >= self.log_range.0 && *key < self.log_range.1 {
                *value = self.log.get_many(std::slice::from_ref(key))?.pop().flatten();
            }
        }
        Ok(found)
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        self.rows.scan_many(scans)
    }
}

/// Whether a tree has rows of the log at or after a position.
pub(super) fn has_log_from(snapshot: &dyn Snapshot, tree: TreeNo, seq: Seq) -> Result<bool, StoreError> {
    let (_, to) = tree_range(Space::Log, tree);
    let scan = Scan { max_rows: 1, ..Scan::range(seq_key(Space::Log, tree, seq), to) };
    Ok(!snapshot.scan_many(&[scan])?.pop().unwrap_or_default().is_empty())
}
