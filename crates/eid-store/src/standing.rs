//! Which entries count: judged when they come, and again when settings come that may say otherwise.
//!
//! An entry that does not count has a row that says so, and nothing else of it is different. Settings that may change
//! what counts leave a mark on the tree. [`EntryStore::settle`] takes it away: it finds, from the first entry on that
//! they can reach, which ones count otherwise, and brings the views in line in one batch. Kinds that can take an entry
//! out of a view or put it back do so; the rows of others are worked out from the last checkpoint before the first of
//! those entries, once as they are and once as they ought to be, and what differs is written.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, TryLockError};

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::sabotage::{self, Sabotage};
use eid_core::{EntryId, Judge, PublicKey, Reach, Stands, StoreName, TreeId};

use crate::apply::{Apply, Change};
use crate::backend::{BackendError, Batch, Durability, Key, Scan, Snapshot, Value, prefix_end};
use crate::cursor::Cursor;
use crate::entry_store::EntryStore;
use crate::error::StoreError;
use crate::limits::{CONFLICT_RETRIES, FOLD_ENTRIES_MAX, REMEMBERED_STANDING_MAX, SETTLE_TRIES};
use crate::maintain::NothingPending;
use crate::offer::Admitted;
use crate::past::{Interval, decode_changed};
use crate::prepare::writes_of;
use crate::rows::{
    Edge, Facts, Settled, Space, StoreRow, TreeNo, TreeState, encode_tree_no, id_key, seq_key, seq_of_key,
    settled_key, state_key, store_key, tree_range, trees_key, view_key,
};
use crate::settings::{Frontier, Overlay, TreeMemory, Walked};
use crate::version::{Ancestry, Fold};
use crate::views::{OneView, Views, stored_id};

/// A change of what counts that views have taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingChange {
    /// Its number, beginning with one; the next one has the next number.
    pub number: u64,
    /// Entries that count no longer.
    pub voided: Vec<Seq>,
    /// Entries that count again.
    pub restored: Vec<Seq>,
}

impl StandingChange {
    pub(crate) fn new(number: u64, settled: Settled) -> Self {
        Self { number, voided: settled.voided, restored: settled.restored }
    }
}

/// Judges stored entries of one tree for one set of settings.
pub(crate) struct Weigher<'a> {
    judge: &'a dyn Judge,
    tree: TreeId,
    history: Walked<'a>,
    known: Frontier,
    /// What author and past alone have decided, by author and number of the frontier.
    decided: HashMap<(PublicKey, u32), bool>,
}

impl<'a> Weigher<'a> {
    pub(crate) fn new(judge: &'a dyn Judge, tree: TreeId, settings: Overlay<'a>, known: Frontier) -> Self {
        Self { judge, tree, history: Walked::new(settings), known, decided: HashMap::new() }
    }

    /// Whether a stored entry counts.
    pub(crate) fn stands(&mut self, seq: Seq, edge: &Edge) -> Result<bool, StoreError> {
        let settings = self.history.settings;
        let own = settings.frontier(edge.frontier)?;
        let as_settings = match own[..] {
            [id] => settings.row(&id)?.filter(|row| row.seq == seq),
            _ => None,
        };
        let looked = Cell::new(false);
        let id = || {
            looked.set(true);
            Ok(stored_id(settings.snapshot, settings.memory.number, seq)?)
        };
        if let Some(row) = as_settings {
            let settings = Some(row.node.id);
            let asked = Stands { author: edge.author, past: &row.node.past, settings, id: &id };
            return Ok(self.judge.stands(&self.tree, asked, &self.known, &self.history)?);
        }
        if own == self.known {
            return Ok(true);
        }
        let decided = (edge.author, edge.frontier);
        if let Some(stands) = self.decided.get(&decided) {
            return Ok(*stands);
        }
        let asked = Stands { author: edge.author, past: &own, settings: None, id: &id };
        let stands = self.judge.stands(&self.tree, asked, &self.known, &self.history)?;
        if !looked.get() {
            if self.decided.len() >= REMEMBERED_STANDING_MAX {
                self.decided.clear();
            }
            self.decided.insert(decided, stands);
        }
        Ok(stands)
    }

    /// The first entry whose standing may be another one than with the settings of `before` alone.
    pub(crate) fn reached_from(&mut self, before: &Frontier) -> Result<Option<Seq>, StoreError> {
        let mut first: Option<Seq> = None;
        let settings = self.history.settings;
        let mut earlier = Weigher::new(self.judge, self.tree, settings, before.clone());
        for reach in self.judge.reach(&self.tree, before, &self.known, &self.history)? {
            let from = match reach {
                Reach::Outside(ids) => {
                    let past = Ancestry::of(settings.snapshot, settings.memory.number, self.seqs(&ids)?)?;
                    Some(past.base.start())
                }
                Reach::After(id) => self.seqs(&[id])?.first().copied(),
                // They may be old, and are few: looked at one by one.
                Reach::Entries(ids) => {
                    let mut changed = None;
                    for seq in self.seqs(&ids)? {
                        let key = seq_key(Space::Edges, settings.memory.number, seq);
                        let row = settings.snapshot.get_many(&[key])?.pop().flatten();
                        let row = row.ok_or(StoreError::Corrupt { what: "an entry has no edges" })?;
                        let edge = Edge::decode(&row)?;
                        if earlier.stands(seq, &edge)? != self.stands(seq, &edge)? {
                            changed = Some(seq);
                            break;
                        }
                    }
                    changed
                }
            };
            first = [first, from].into_iter().flatten().min();
        }
        Ok(first)
    }

    fn seqs(&self, ids: &[EntryId]) -> Result<BTreeSet<Seq>, StoreError> {
        let keys: Vec<Key> = ids.iter().map(|id| id_key(self.history.settings.memory.number, id)).collect();
        let rows = self.history.settings.snapshot.get_many(&keys)?;
        rows.iter().flatten().map(|row| Ok(Facts::decode(row)?.seq)).collect()
    }
}

/// The entries at or after a position that do not count.
pub(crate) fn voids_from(
    snapshot: &dyn Snapshot,
    tree: TreeNo,
    from: Seq,
) -> Result<BTreeSet<Seq>, StoreError> {
    let (_, to) = tree_range(Space::Void, tree);
    let mut rows = Cursor::new(snapshot, (seq_key(Space::Void, tree, from), to), FOLD_ENTRIES_MAX);
    let mut voids = BTreeSet::new();
    while let Some((key, _)) = rows.next()? {
        voids.insert(seq_of_key(&key)?);
    }
    Ok(voids)
}

/// The changes of what counts with numbers greater than this, ascending, at most so many.
pub(crate) fn settled_after(
    snapshot: &dyn Snapshot,
    tree: TreeNo,
    number: u64,
    count: usize,
) -> Result<Vec<(u64, Settled)>, StoreError> {
    let (_, to) = tree_range(Space::Settled, tree);
    let from = settled_key(tree, number.saturating_add(1));
    let rows = snapshot.scan_many(&[Scan { max_rows: count, ..Scan::range(from, to) }])?;
    let read = |(key, value): &(Key, Value)| Ok((seq_of_key(key)?.0, Settled::decode(value)?));
    rows.iter().flatten().map(read).collect()
}

/// What an admission does while somebody else brings views in line with what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It brought settings, which the other one may not have seen.
    Waits,
    /// It returns, and views stay stale for a while.
    Passes,
}

impl Patience {
    pub(crate) fn of(mut brings_settings: impl Iterator<Item = bool>) -> Self {
        if brings_settings.any(|brings| brings) { Self::Waits } else { Self::Passes }
    }
}

impl EntryStore {
    /// Brings the views of a tree in line with what counts. Does nothing, quickly, unless settings came that may have
    /// changed that and views were not brought in line, as admissions do.
    ///
    /// Takes time for what was written since the first entry that those settings can reach, and memory for the rows
    /// that were changed since then in one store. Others admit meanwhile, and read views that are stale. Only when they
    /// are too quick for it, it is done while nothing is admitted.
    ///
    /// # Errors
    /// [`StoreError::VersionTooLarge`] when those do not fit in memory.
    pub fn settle(&self, tree: &TreeId) -> Result<Option<StandingChange>, StoreError> {
        let Some(memory) = self.memory(tree) else { return Ok(None) };
        let state = self.backend().snapshot()?.get_many(&[state_key(memory.number)])?.pop().flatten();
        let is_open = |state: Value| Ok(TreeState::decode(&state)?.unsettled.is_some());
        if !state.map_or(Ok::<_, StoreError>(false), is_open)? {
            return Ok(None);
        }
        let _turn = memory.settling.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle_in_turn(tree, &memory)
    }

    /// As [`EntryStore::settle`], after an admission, which stands whatever comes of it. What fails stays
    /// [`crate::TreeSnapshot::is_stale`]: it is tried again with the next admission where that can help, and otherwise after
    /// further settings and when the store is opened.
    pub(crate) fn settle_if_possible(&self, tree: &TreeId, patience: Patience) {
        let Some(memory) = self.memory(tree).filter(|memory| memory.is_unsettled()) else { return };
        let turn = match (patience, memory.settling.try_lock()) {
            (_, Ok(turn)) => turn,
            (_, Err(TryLockError::Poisoned(turn))) => turn.into_inner(),
            (Patience::Waits, Err(TryLockError::WouldBlock)) => {
                memory.settling.lock().unwrap_or_else(PoisonError::into_inner)
            }
            (Patience::Passes, Err(TryLockError::WouldBlock)) => return,
        };
        if memory.is_unsettled()
            && let Err(error) = self.settle_in_turn(tree, &memory)
        {
            memory.set_unsettled(error.is_transient());
        }
        drop(turn);
    }

    fn settle_in_turn(
        &self,
        tree: &TreeId,
        memory: &TreeMemory,
    ) -> Result<Option<StandingChange>, StoreError> {
        for _ in 0..SETTLE_TRIES {
            let Some(worked) = self.work_out_standing(tree, memory)? else { break };
            match self.exclusively(|| self.take_in(*tree, memory, worked)) {
                Err(StoreError::Backend(BackendError::Conflict)) => {}
                done => return done,
            }
        }
        self.exclusively(|| {
            for _ in 0..CONFLICT_RETRIES {
                let Some(worked) = self.work_out_standing(tree, memory)? else {
                    memory.set_unsettled(false);
                    return Ok(None);
                };
                match self.take_in(*tree, memory, worked) {
                    Err(StoreError::Backend(BackendError::Conflict)) => {}
                    done => return done,
                }
            }
            Err(BackendError::Conflict.into())
        })
    }

    fn work_out_standing(&self, tree: &TreeId, memory: &TreeMemory) -> Result<Option<Worked>, StoreError> {
        let snapshot = self.backend().snapshot()?;
        let (key, number) = (trees_key(tree), encode_tree_no(memory.number));
        // The tree may be forgotten, or rebuilt under another number, while this is worked out.
        if snapshot.get_many(std::slice::from_ref(&key))?.pop().flatten().as_ref() != Some(&number) {
            return Ok(None);
        }
        let settling = Settling { tree: *tree, judge: self.judge(), apply: self.apply(), memory };
        let Some((mut batch, change)) = settling.work_out(snapshot)? else { return Ok(None) };
        batch.guards.push((key, Some(number)));
        Ok(Some((batch, change)))
    }

    /// Writes what was worked out, unless something came meanwhile. Within the door.
    fn take_in(
        &self,
        tree: TreeId,
        memory: &TreeMemory,
        (batch, change): Worked,
    ) -> Result<Option<StandingChange>, StoreError> {
        self.backend().commit(batch)?;
        memory.set_unsettled(false);
        if let Some((_, end)) = &change {
            self.tell(&[Admitted { tree, seqs: *end..*end, local: false, standing: true }]);
        }
        Ok(change.map(|(change, _)| change))
    }

    /// The trees that [`EntryStore::settle`] has something to do for.
    pub fn unsettled(&self) -> Result<Vec<TreeId>, StoreError> {
        let snapshot = self.backend().snapshot()?;
        let trees = crate::entry_store::read_trees(&*snapshot)?;
        let keys: Vec<Key> = trees.iter().map(|(_, number)| state_key(*number)).collect();
        let states = snapshot.get_many(&keys)?;
        let mut open = Vec::new();
        for ((tree, _), state) in trees.into_iter().zip(states) {
            if let Some(state) = state
                && TreeState::decode(&state)?.unsettled.is_some()
            {
                open.push(tree);
            }
        }
        Ok(open)
    }
}

/// One tree whose views are brought in line.
pub(crate) struct Settling<'a> {
    pub tree: TreeId,
    pub judge: &'a dyn Judge,
    pub apply: &'a dyn Apply,
    pub memory: &'a TreeMemory,
}

/// What changed, and the end of the log then.
type Worked = (Batch, Option<(StandingChange, Seq)>);
type Named = (StoreName, String);

impl Settling<'_> {
    /// The batch that takes the mark away, and what it changes. Nothing when there is no mark.
    pub(crate) fn work_out(&self, snapshot: Arc<dyn Snapshot>) -> Result<Option<Worked>, StoreError> {
        let number = self.memory.number;
        let Some(before) = snapshot.get_many(&[state_key(number)])?.pop().flatten() else { return Ok(None) };
        let mut state = TreeState::decode(&before)?;
        let Some(open) = state.unsettled.take() else { return Ok(None) };
        let settings = Overlay::stored(self.memory, &*snapshot);
        let known = settings.of_tips(&state)?;
        let mut weigher = Weigher::new(self.judge, self.tree, settings, known);
        // What came since the mark was judged by some of the settings that have come since.
        let from = weigher.reached_from(&settings.frontier(open.before)?)?;
        let from = Some(from.map_or(open.since, |from| from.min(open.since)));
        let from = from.filter(|_| !sabotage::is(Sabotage::SettleNothing));
        let voids = voids_from(&*snapshot, number, from.unwrap_or(state.next_seq))?;
        let mut settled = Settled {
            since: open.since,
            applied: state.next_seq,
            filled: state.filled,
            voided: Vec::new(),
            restored: Vec::new(),
        };
        if let Some(from) = from {
            let (first, end) = (seq_key(Space::Edges, number, from), tree_range(Space::Edges, number).1);
            let mut edges = Cursor::new(&*snapshot, (first, end), FOLD_ENTRIES_MAX);
            while let Some((key, value)) = edges.next()? {
                let seq = seq_of_key(&key)?;
                let stands = weigher.stands(seq, &Edge::decode(&value)?)?;
                match (stands, voids.contains(&seq)) {
                    (false, false) => settled.voided.push(seq),
                    (true, true) => settled.restored.push(seq),
                    _ => {}
                }
            }
        }
        let mut batch = Batch { durability: Durability::Durable, ..Batch::default() };
        batch.guards.push((state_key(number), Some(before)));
        let mut change = None;
        // Views of the checkpoints in between do not show the settings that came before them, even when nothing is
        // different in the end.
        let is_between = Interval::of(settled.since) < Interval::of(settled.applied);
        if settled.first().is_some() || is_between {
            self.change_views(&snapshot, &state, &settled, &mut batch)?;
            let void = |seq: &Seq| seq_key(Space::Void, number, *seq);
            batch.puts.extend(settled.voided.iter().map(|seq| (void(seq), Value::new())));
            batch.deletes.extend(settled.restored.iter().map(void));
            state.voids = state.voids + settled.voided.len() as u64 - settled.restored.len() as u64;
            state.settled += 1;
            batch.puts.push((settled_key(number, state.settled), settled.encode()));
            change = Some((StandingChange::new(state.settled, settled), state.next_seq));
        }
        batch.puts.push((state_key(number), state.encode()));
        Ok(Some((batch, change)))
    }

    fn change_views(
        &self,
        snapshot: &Arc<dyn Snapshot>,
        state: &TreeState,
        settled: &Settled,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let number = self.memory.number;
        let changed: BTreeMap<Seq, bool> = (settled.voided.iter().map(|seq| (*seq, false)))
            .chain(settled.restored.iter().map(|seq| (*seq, true)))
            .collect();
        let Some(first) = settled.first() else { return Ok(()) };
        let mut views = Views::unfetched(&**snapshot);
        let mut again: BTreeSet<Named> = BTreeSet::new();
        let seqs: Vec<Seq> = changed.keys().copied().collect();
        for seqs in seqs.chunks(FOLD_ENTRIES_MAX) {
            for (seq, entry) in crate::version::read_log(&**snapshot, number, seqs)? {
                let header = entry.header();
                for write in writes_of(&entry).iter().filter(|write| !write.ops.is_empty()) {
                    let name = (write.store.clone(), write.kind.clone());
                    if again.contains(&name) {
                        continue;
                    }
                    let change = Change {
                        store: &write.store,
                        kind: &write.kind,
                        author: header.author,
                        time: header.time,
                        height: header.height,
                        seq,
                        id: entry.id(),
                        ops: &write.ops,
                    };
                    let store = self.store(&**snapshot, &name)?.number;
                    let mut view = OneView::new(&mut views, (number, store), &NothingPending, state.next_seq);
                    if !self.apply.set_standing(&change, changed[&seq], &mut view)? {
                        again.insert(name);
                    }
                }
            }
        }
        for name in again {
            self.work_out_again(snapshot, state, (first, &changed), &name, &mut views)?;
        }
        views.write_into(batch)
    }

    fn store(&self, snapshot: &dyn Snapshot, (store, kind): &Named) -> Result<StoreRow, StoreError> {
        let row = snapshot.get_many(&[store_key(self.memory.number, store, kind)])?.pop().flatten();
        StoreRow::decode(&row.ok_or(StoreError::Corrupt { what: "a store is not listed" })?)
    }

    /// Works out the rows of one store from a checkpoint on, as they are and as they ought to be, and writes what
    /// differs.
    fn work_out_again(
        &self,
        snapshot: &Arc<dyn Snapshot>,
        state: &TreeState,
        (first, changed): (Seq, &BTreeMap<Seq, bool>),
        name: &Named,
        views: &mut Views<'_>,
    ) -> Result<(), StoreError> {
        let number = self.memory.number;
        let base = steady(&**snapshot, number, Interval::of(first), |settled| settled.first())?;
        let ancestry = Ancestry::everything(base, state);
        let as_is = |seqs: &[Seq]| -> Result<Vec<bool>, StoreError> {
            let keys: Vec<Key> = seqs.iter().map(|seq| seq_key(Space::Void, number, *seq)).collect();
            Ok(snapshot.get_many(&keys)?.iter().map(Option::is_none).collect())
        };
        let as_ought = |seqs: &[Seq]| -> Result<Vec<bool>, StoreError> {
            let judged = seqs.iter().zip(as_is(seqs)?);
            Ok(judged.map(|(seq, stands)| changed.get(seq).copied().unwrap_or(stands)).collect())
        };
        let fold = |stands| Fold::of(snapshot.clone(), number, &ancestry, self.apply, stands, Some(name));
        let ought = fold(&as_ought)?;
        let store = self.store(&**snapshot, name)?.number;
        let mut view = OneView::new(views, (number, store), &NothingPending, state.next_seq);
        let mut before = Vec::new();
        if has_late_payloads(&**snapshot, number)? {
            // Rows may be cut otherwise than when everything comes at once, so all of them are compared.
            let prefix = view_key(number, store, &[]);
            let range = (prefix.clone(), prefix_end(&prefix));
            let mut keys = BTreeSet::new();
            for side in [&**snapshot, &ought] {
                let mut rows = Cursor::new(side, range.clone(), FOLD_ENTRIES_MAX);
                while let Some((key, _)) = rows.next()? {
                    keys.insert(key);
                }
            }
            replace(&**snapshot, &ought, &keys, &mut view, &mut before)?;
        } else {
            let is = fold(&as_is)?;
            let keys = is.changed.keys().chain(ought.changed.keys()).cloned().collect();
            replace(&is, &ought, &keys, &mut view, &mut before)?;
        }
        Ok(self.apply.replaced(&name.0, &name.1, &before, &mut view)?)
    }
}

/// Writes what is otherwise than it ought to be, and notes what it was.
fn replace(
    is: &dyn Snapshot,
    ought: &dyn Snapshot,
    keys: &BTreeSet<Key>,
    view: &mut OneView<'_, '_>,
    before: &mut Vec<(Key, Option<Bytes>)>,
) -> Result<(), StoreError> {
    let content = |value: Option<Value>| -> Result<Option<Bytes>, StoreError> {
        Ok(value.map(decode_changed).transpose()?.map(|(_, value)| value))
    };
    let keys: Vec<Key> = keys.iter().cloned().collect();
    for keys in keys.chunks(FOLD_ENTRIES_MAX) {
        let values = is.get_many(keys)?.into_iter().zip(ought.get_many(keys)?);
        for (key, (is, ought)) in keys.iter().zip(values) {
            let (is, ought) = (content(is)?, content(ought)?);
            if is != ought
                && let Some(key) = view.replace(key, ought)
            {
                before.push((key, is));
            }
        }
    }
    Ok(())
}

/// Whether payloads of a tree came later than their entries.
fn has_late_payloads(snapshot: &dyn Snapshot, tree: TreeNo) -> Result<bool, StoreError> {
    let (from, to) = tree_range(Space::Late, tree);
    let rows = snapshot.scan_many(&[Scan { max_rows: 1, ..Scan::range(from, to) }])?;
    Ok(!rows.iter().all(Vec::is_empty))
}

/// The last checkpoint up to this one at which views show what counted then: changes of what counts are taken in
/// some time after what they follow from, given by `from`.
pub(crate) fn steady(
    snapshot: &dyn Snapshot,
    tree: TreeNo,
    mut at: Interval,
    from: impl Fn(&Settled) -> Option<Seq>,
) -> Result<Interval, StoreError> {
    let changes = settled_after(snapshot, tree, 0, usize::MAX)?;
    let spans: Vec<(Interval, Interval)> = changes
        .iter()
        .filter_map(|(_, settled)| Some((Interval::of(from(settled)?), Interval::of(settled.applied))))
        .collect();
    while let Some((from, _)) = spans.iter().find(|(from, applied)| *from < at && at <= *applied) {
        at = *from;
    }
    Ok(at)
}
