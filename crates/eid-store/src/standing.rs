//! Which entries count: judged when they come, and again when settings come that may say otherwise.
//!
//! An entry that does not count has a row that says so, and nothing else of it is different. Settings that may change
//! what counts leave a mark on the tree. [`EntryStore::settle`] takes it away: it finds, from the first entry on that
//! they can reach, which ones count otherwise, and brings the views in line: the last of those entries first, so many in
//! one batch, and the mark goes with the last batch. Kinds that can take an entry out of a view or put it back do so;
//! the rows of others are worked out from the last checkpoint before the first of the entries of a batch, once as they
//! are and once as they ought to be, and what differs is written.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::{Arc, PoisonError, TryLockError};

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::sabotage::{self, Sabotage};
use eid_core::{EntryId, Judge, PublicKey, Reach, Stands, StoreName, TreeId};

use crate::apply::{Apply, Change};
use crate::aside::Aside;
use crate::backend::{
    Backend, BackendError, Batch, Direction, Durability, Key, Scan, Snapshot, Value, prefix_end,
};
use crate::cursor::Cursor;
use crate::entry_store::EntryStore;
use crate::error::StoreError;
use crate::limits::{
    CONFLICT_RETRIES, FOLD_ENTRIES_MAX, REMEMBERED_STANDING_MAX, SETTLE_BYTES_MAX, SETTLE_ENTRIES_MAX,
    SETTLE_TRIES, SETTLED_ROWS, VERSION_BYTES_MAX,
};
use crate::maintain::NothingPending;
use crate::offer::Admitted;
use crate::past::{Interval, decode_changed};
use crate::prepare::writes_of;
use crate::rows::{
    Edge, Facts, Settled, Space, StoreRow, TreeNo, TreeState, Unsettled, encode_tree_no, id_key, seq_key,
    seq_of_key, settled_key, state_key, store_key, tree_range, trees_key, view_key,
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
    history: Rc<Walked<'a>>,
    known: Frontier,
    /// What author and past alone have decided, by author and number of the frontier.
    decided: HashMap<(PublicKey, u32), bool>,
}

impl<'a> Weigher<'a> {
    pub(crate) fn new(judge: &'a dyn Judge, tree: TreeId, settings: Overlay<'a>, known: Frontier) -> Self {
        Self { judge, tree, history: Rc::new(Walked::new(settings)), known, decided: HashMap::new() }
    }

    /// Judges for other settings, with the walks of this one.
    fn with(&self, known: Frontier) -> Self {
        Self { history: self.history.clone(), known, decided: HashMap::new(), ..*self }
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        self.history.kept()
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
            return Ok(self.judge.stands(&self.tree, asked, &self.known, &*self.history)?);
        }
        if own == self.known {
            return Ok(true);
        }
        let decided = (edge.author, edge.frontier);
        if let Some(stands) = self.decided.get(&decided) {
            return Ok(*stands);
        }
        let asked = Stands { author: edge.author, past: &own, settings: None, id: &id };
        let stands = self.judge.stands(&self.tree, asked, &self.known, &*self.history)?;
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
        let mut earlier = self.with(before.clone());
        for reach in self.judge.reach(&self.tree, before, &self.known, &*self.history)? {
            let from = match reach {
                Reach::Outside(ids) => Some(self.history.base_of(&ids)?),
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
    /// Takes time for what was written since the first entry that those settings can reach. Views take in so many
    /// entries at once, each batch durable; until the last one they are stale, and show what counts but for the rest.
    /// Others admit meanwhile. Only when they are too quick for it, a batch is worked out while nothing is admitted.
    /// Gives how many changes views took in: see [`crate::TreeSnapshot::standing_changes_after`].
    ///
    /// # Errors
    /// [`StoreError::VersionTooLarge`] when what a single entry changes does not fit in memory.
    pub fn settle(&self, tree: &TreeId) -> Result<u64, StoreError> {
        let Some(memory) = self.memory(tree) else { return Ok(0) };
        let state = self.backend().snapshot()?.get_many(&[state_key(memory.number)])?.pop().flatten();
        let is_open = |state: Value| Ok(TreeState::decode(&state)?.unsettled.is_some());
        if !state.map_or(Ok::<_, StoreError>(false), is_open)? {
            return Ok(0);
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

    fn settle_in_turn(&self, tree: &TreeId, memory: &TreeMemory) -> Result<u64, StoreError> {
        let (mut portion, mut changes) = (self.portion(), 0);
        loop {
            let taken = self.settle_portion(tree, memory, &mut portion)?;
            changes += u64::from(taken.is_change);
            if !taken.has_more {
                return Ok(changes);
            }
        }
    }

    /// Takes in one portion. Within the turn of whoever settles.
    pub(crate) fn settle_portion(
        &self,
        tree: &TreeId,
        memory: &TreeMemory,
        portion: &mut Portion,
    ) -> Result<Taken, StoreError> {
        for _ in 0..SETTLE_TRIES {
            let worked = match self.work_out_standing(tree, memory, portion) {
                Ok(Some(worked)) => worked,
                Ok(None) => break,
                Err(StoreError::Backend(BackendError::Conflict)) => continue,
                Err(error) => return Err(error),
            };
            match self.exclusively(|| self.take_in(*tree, memory, worked)) {
                Err(StoreError::Backend(BackendError::Conflict)) => {}
                done => return done,
            }
        }
        self.exclusively(|| {
            for _ in 0..CONFLICT_RETRIES {
                let taken = match self.work_out_standing(tree, memory, portion) {
                    Ok(Some(worked)) => self.take_in(*tree, memory, worked),
                    Ok(None) => {
                        memory.set_unsettled(false);
                        return Ok(Taken::default());
                    }
                    Err(error) => Err(error),
                };
                match taken {
                    Err(StoreError::Backend(BackendError::Conflict)) => {}
                    done => return done,
                }
            }
            Err(BackendError::Conflict.into())
        })
    }

    fn work_out_standing(
        &self,
        tree: &TreeId,
        memory: &TreeMemory,
        portion: &mut Portion,
    ) -> Result<Option<Worked>, StoreError> {
        let snapshot = self.backend().snapshot()?;
        let (key, number) = (trees_key(tree), encode_tree_no(memory.number));
        // The tree may be forgotten, or rebuilt under another number, while this is worked out.
        if snapshot.get_many(std::slice::from_ref(&key))?.pop().flatten().as_ref() != Some(&number) {
            return Ok(None);
        }
        let (judge, apply, backend) = (self.judge(), self.apply(), self.backend());
        let settling = Settling { tree: *tree, judge, apply, memory, backend };
        let Some(mut worked) = settling.work_out(snapshot, portion)? else { return Ok(None) };
        worked.batch.guards.push((key, Some(number)));
        Ok(Some(worked))
    }

    /// Writes what was worked out, unless something came meanwhile. Within the door.
    fn take_in(&self, tree: TreeId, memory: &TreeMemory, worked: Worked) -> Result<Taken, StoreError> {
        self.backend().commit(worked.batch)?;
        if !worked.has_more {
            memory.set_unsettled(false);
        }
        if let Some(end) = worked.changed {
            self.tell(&[Admitted { tree, seqs: end..end, local: false, standing: true }]);
        }
        Ok(Taken { is_change: worked.changed.is_some(), has_more: worked.has_more })
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

/// How much of a change of what counts views take in at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portion {
    /// Most entries whose standing changes.
    pub entries: usize,
    /// Most bytes of the rows that change with them, and of those that are in memory to work that out.
    pub bytes: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self { entries: SETTLE_ENTRIES_MAX, bytes: SETTLE_BYTES_MAX }
    }
}

/// What came of one portion.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub is_change: bool,
    pub has_more: bool,
}

/// One tree whose views are brought in line.
pub(crate) struct Settling<'a> {
    pub tree: TreeId,
    pub judge: &'a dyn Judge,
    pub apply: &'a dyn Apply,
    pub memory: &'a TreeMemory,
    /// Where rows go that do not fit in memory.
    pub backend: &'a dyn Backend,
}

/// One portion that was worked out.
#[derive(Debug)]
pub(crate) struct Worked {
    pub batch: Batch,
    /// The end of the log, when it is a change.
    changed: Option<Seq>,
    /// Whether the mark stays.
    pub has_more: bool,
}

type Named = (StoreName, String);

impl Settling<'_> {
    /// The batch that takes in the next portion, and takes the mark away with the last one. Nothing when there is no mark.
    /// `portion` is what is left of it when so many entries change too much at once.
    pub(crate) fn work_out(
        &self,
        snapshot: Arc<dyn Snapshot>,
        portion: &mut Portion,
    ) -> Result<Option<Worked>, StoreError> {
        let number = self.memory.number;
        let Some(before) = snapshot.get_many(&[state_key(number)])?.pop().flatten() else { return Ok(None) };
        let mut state = TreeState::decode(&before)?;
        let Some(open) = state.unsettled else { return Ok(None) };
        let mut flips = self.flips(&*snapshot, &state, open, portion.entries.saturating_add(1))?;
        // Views of the checkpoints in between do not show the settings that came before them, even when nothing is
        // different in the end.
        let is_between = Interval::of(open.since) < Interval::of(state.next_seq);
        let is_change = !flips.is_empty() || is_between;
        let mut has_more = flips.len() > portion.entries;
        flips.truncate(portion.entries);
        let mut batch = loop {
            let changed: BTreeMap<Seq, bool> = flips.iter().copied().collect();
            match self.change_views(&snapshot, &state, &changed, portion.bytes) {
                Err(StoreError::VersionTooLarge { .. }) if flips.len() > 1 => {
                    portion.entries = flips.len() / 2;
                    flips.truncate(portion.entries);
                    has_more = true;
                }
                done => break done?,
            }
        };
        batch.guards.push((state_key(number), Some(before)));
        if !has_more {
            state.unsettled = None;
        }
        if is_change {
            let with = |stands| flips.iter().rev().filter(move |(_, it)| *it == stands).map(|(seq, _)| *seq);
            let (since, applied, filled) = (open.since, state.next_seq, state.filled);
            let (voided, restored) = (with(false).collect(), with(true).collect());
            let settled = Settled { since, applied, filled, voided, restored };
            let void = |seq: &Seq| seq_key(Space::Void, number, *seq);
            batch.puts.extend(settled.voided.iter().map(|seq| (void(seq), Value::new())));
            batch.deletes.extend(settled.restored.iter().map(void));
            state.voids = state.voids + settled.voided.len() as u64 - settled.restored.len() as u64;
            state.settled += 1;
            batch.puts.push((settled_key(number, state.settled), settled.encode()));
        }
        batch.puts.push((state_key(number), state.encode()));
        Ok(Some(Worked { batch, changed: is_change.then_some(state.next_seq), has_more }))
    }

    /// Entries that count otherwise than views show, from the last one on, at most so many, with whether they stand.
    fn flips(
        &self,
        snapshot: &dyn Snapshot,
        state: &TreeState,
        open: Unsettled,
        count: usize,
    ) -> Result<Vec<(Seq, bool)>, StoreError> {
        if sabotage::is(Sabotage::SettleNothing) {
            return Ok(Vec::new());
        }
        let number = self.memory.number;
        let settings = Overlay::stored(self.memory, snapshot);
        let known = settings.of_tips(state)?;
        let mut weigher = Weigher::new(self.judge, self.tree, settings, known);
        // What came since the mark was judged by some of the settings that have come since.
        let from = weigher.reached_from(&settings.frontier(open.before)?)?;
        let from = from.map_or(open.since, |from| from.min(open.since));
        let rows = |space| {
            let range = (seq_key(space, number, from), tree_range(space, number).1);
            Cursor::towards(snapshot, range, Direction::Backward, FOLD_ENTRIES_MAX)
        };
        let (mut edges, mut voids) = (rows(Space::Edges), rows(Space::Void));
        let mut next_void = || voids.next()?.map(|(key, _)| seq_of_key(&key)).transpose();
        let (mut void, mut flips) = (next_void()?, Vec::new());
        while flips.len() < count
            && let Some((key, value)) = edges.next()?
        {
            let seq = seq_of_key(&key)?;
            while void.is_some_and(|void| void > seq) {
                void = next_void()?;
            }
            let stands = weigher.stands(seq, &Edge::decode(&value)?)?;
            if stands == (void == Some(seq)) {
                flips.push((seq, stands));
            }
        }
        Ok(flips)
    }

    fn change_views(
        &self,
        snapshot: &Arc<dyn Snapshot>,
        state: &TreeState,
        changed: &BTreeMap<Seq, bool>,
        bytes_max: usize,
    ) -> Result<Batch, StoreError> {
        let mut batch = Batch { durability: Durability::Durable, ..Batch::default() };
        if changed.is_empty() {
            return Ok(batch);
        }
        let aside = Aside::new(self.backend, bytes_max);
        let mut views = Views::unfetched(&**snapshot);
        // One entry cannot be taken in by halves.
        let bytes_max = if changed.len() == 1 { bytes_max.max(VERSION_BYTES_MAX) } else { bytes_max };
        let changing = Changing { snapshot, state, changed, aside: &aside, bytes_max };
        let done = self.change_rows(&changing, &mut views).and_then(|()| aside.check());
        done.and(aside.remove())?;
        views.write_into(&mut batch)?;
        Ok(batch)
    }

    fn change_rows<'a>(&self, changing: &Changing<'a>, views: &mut Views<'a>) -> Result<(), StoreError> {
        let Changing { snapshot, state, changed, .. } = *changing;
        let number = self.memory.number;
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
                    let mut view = OneView::new(views, (number, store), &NothingPending, state.next_seq);
                    if !self.apply.set_standing(&change, changed[&seq], &mut view)? {
                        again.insert(name);
                    }
                    changing.check(views)?;
                }
            }
        }
        for name in again {
            self.work_out_again(changing, &name, views)?;
        }
        Ok(())
    }

    fn store(&self, snapshot: &dyn Snapshot, (store, kind): &Named) -> Result<StoreRow, StoreError> {
        let row = snapshot.get_many(&[store_key(self.memory.number, store, kind)])?.pop().flatten();
        StoreRow::decode(&row.ok_or(StoreError::Corrupt { what: "a store is not listed" })?)
    }

    /// Works out the rows of one store from a checkpoint on, as they are and as they ought to be, and writes what
    /// differs.
    fn work_out_again<'a>(
        &self,
        changing: &Changing<'a>,
        name: &Named,
        views: &mut Views<'a>,
    ) -> Result<(), StoreError> {
        let Changing { snapshot, state, changed, aside, .. } = *changing;
        let Some((first, _)) = changed.first_key_value() else { return Ok(()) };
        let number = self.memory.number;
        let base = steady(&**snapshot, number, Interval::of(*first), Settled::first)?;
        let ancestry = Ancestry::everything(base, state);
        let as_is = |seqs: &[Seq]| -> Result<Vec<bool>, StoreError> {
            let keys: Vec<Key> = seqs.iter().map(|seq| seq_key(Space::Void, number, *seq)).collect();
            Ok(snapshot.get_many(&keys)?.iter().map(Option::is_none).collect())
        };
        let as_ought = |seqs: &[Seq]| -> Result<Vec<bool>, StoreError> {
            let judged = seqs.iter().zip(as_is(seqs)?);
            Ok(judged.map(|(seq, stands)| changed.get(seq).copied().unwrap_or(stands)).collect())
        };
        let fold = |stands| {
            Fold::of(snapshot.clone(), number, &ancestry, self.apply, stands, (Some(name), Some(aside)))
        };
        let ought = fold(&as_ought)?;
        // Where payloads came late, rows may be cut otherwise than when everything comes at once, so all of them are
        // compared. So they are when what was changed does not fit in memory.
        let is = match ought.spilled.is_some() || has_late_payloads(&**snapshot, number)? {
            true => None,
            false => Some(fold(&as_is)?).filter(|is| is.spilled.is_none()),
        };
        let store = self.store(&**snapshot, name)?.number;
        let mut before = Vec::new();
        let mut replace = |key: &Key, (is, ought): (Option<Value>, Option<Value>), views: &mut Views<'a>| {
            let (is, ought) = (content(is)?, content(ought)?);
            let mut view = OneView::new(views, (number, store), &NothingPending, state.next_seq);
            if is != ought
                && let Some(within) = view.replace(key, ought)
            {
                // It is kept for those who follow, and left behind for old versions.
                views.count(key, is.as_ref());
                views.count(key, is.as_ref());
                before.push((within, is));
            }
            changing.check(views)
        };
        if let Some(is) = is {
            let keys: BTreeSet<&Key> = is.changed.keys().chain(ought.changed.keys()).collect();
            let keys: Vec<Key> = keys.into_iter().cloned().collect();
            for keys in keys.chunks(FOLD_ENTRIES_MAX) {
                for (key, sides) in keys.iter().zip(is.get_many(keys)?.into_iter().zip(ought.get_many(keys)?))
                {
                    replace(key, sides, views)?;
                }
            }
        } else {
            let prefix = view_key(number, store, &[]);
            side_by_side(&**snapshot, &ought, (prefix.clone(), prefix_end(&prefix)), |key, sides| {
                replace(key, sides, views)
            })?;
        }
        let mut view = OneView::new(views, (number, store), &NothingPending, state.next_seq);
        self.apply.replaced(&name.0, &name.1, &before, &mut view)?;
        changing.check(views)
    }
}

/// What one portion changes.
#[derive(Clone, Copy)]
struct Changing<'a> {
    snapshot: &'a Arc<dyn Snapshot>,
    state: &'a TreeState,
    /// Whether each entry stands.
    changed: &'a BTreeMap<Seq, bool>,
    aside: &'a Aside<'a>,
    bytes_max: usize,
}

impl Changing<'_> {
    fn check(&self, views: &Views<'_>) -> Result<(), StoreError> {
        let bytes_max = self.bytes_max;
        if views.bytes() > bytes_max { Err(StoreError::VersionTooLarge { bytes_max }) } else { Ok(()) }
    }
}

fn content(row: Option<Value>) -> Result<Option<Bytes>, StoreError> {
    Ok(row.map(decode_changed).transpose()?.map(|(_, value)| value))
}

/// The rows of a range that either side has, in order.
fn side_by_side(
    left: &dyn Snapshot,
    right: &dyn Snapshot,
    range: (Key, Key),
    mut visit: impl FnMut(&Key, (Option<Value>, Option<Value>)) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut rows = [left, right].map(|side| Cursor::new(side, range.clone(), FOLD_ENTRIES_MAX));
    let mut next = [rows[0].next()?, rows[1].next()?];
    loop {
        let keys = next.iter().flatten().map(|(key, _)| key);
        let Some(key) = keys.min().cloned() else { return Ok(()) };
        let mut sides = [None, None];
        for ((side, next), rows) in sides.iter_mut().zip(&mut next).zip(&mut rows) {
            if let Some((_, value)) = next.take_if(|(other, _)| *other == key) {
                *side = Some(value);
                *next = rows.next()?;
            }
        }
        let [left, right] = sides;
        visit(&key, (left, right))?;
    }
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
    // Later ones were taken in later: none before the first one that was taken in before the checkpoint matters, nor does
    // one that was passed when the checkpoint was a later one.
    let range = tree_range(Space::Settled, tree);
    let mut changes = Cursor::towards(snapshot, range, Direction::Backward, SETTLED_ROWS);
    while at > Interval(0)
        && let Some((_, row)) = changes.next()?
    {
        let settled = Settled::decode(&row)?;
        if Interval::of(settled.applied) < at {
            break;
        }
        at = from(&settled).map_or(at, |from| at.min(Interval::of(from)));
    }
    Ok(at)
}
