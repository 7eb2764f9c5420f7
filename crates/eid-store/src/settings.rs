//! What is kept in memory of a tree's settings: they are few, and every admission asks for them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

use eid_core::dag::{Logged, Seq};
use eid_core::{Entry, EntryId, History, ReadError, SettingsNode, SettingsPast, StoreName};

use crate::backend::{Direction, Key, Scan, Snapshot, Value};
use crate::error::StoreError;
use crate::limits::{SETTINGS_CACHED_MAX, WALKED_MAX};
use crate::rows::{
    Facts, RowReader, Space, TreeNo, TreeState, decode_frontier, decode_log, encode_log, frontier_key,
    id_key, read_ids, settings_key, tree_range, write_ids, write_uint,
};
use crate::sketch::Kept;
use crate::version::Ancestry;

/// A settings entry with its position.
#[derive(Debug, Clone)]
pub(crate) struct SettingsRow {
    pub seq: Seq,
    pub node: Arc<SettingsNode>,
}

/// The ids of a settings frontier, sorted.
pub(crate) type Frontier = Arc<[EntryId]>;

/// The row holds the entry itself, so that one range read gives all settings of a tree.
pub(crate) fn encode_settings(seq: Seq, past: &[EntryId], entry: &Entry) -> Value {
    let mut out = Vec::with_capacity(64 + entry.bytes_len());
    write_uint(&mut out, seq.0);
    write_ids(&mut out, past);
    out.extend_from_slice(&encode_log(entry.block(), entry.payloads()));
    out.into()
}

const WHAT: &str = "a settings row";

fn split_settings(value: &Value) -> Result<(Vec<EntryId>, Logged), StoreError> {
    let mut r = RowReader::new(value, WHAT);
    let seq = Seq(r.uint()?);
    let past = read_ids(&mut r)?;
    Ok((past, decode_log(seq, &r.rest())?))
}

/// The entry in a row of [`encode_settings`], unchecked.
pub(crate) fn logged_of_settings(value: &Value) -> Result<Logged, StoreError> {
    Ok(split_settings(value)?.1)
}

pub(crate) fn decode_settings(value: &Value) -> Result<SettingsRow, StoreError> {
    let (past, logged) = split_settings(value)?;
    let seq = logged.seq;
    let entry =
        Entry::parse(logged.block, logged.payloads).map_err(|_| StoreError::Corrupt { what: WHAT })?;
    let node =
        SettingsNode { id: entry.id(), author: entry.header().author, ops: entry.settings().to_vec(), past };
    Ok(SettingsRow { seq, node: Arc::new(node) })
}

/// What is kept in memory of one tree. Only what is committed gets here.
#[derive(Debug)]
pub(crate) struct TreeMemory {
    pub number: TreeNo,
    /// Whether views may have to be brought in line with what counts.
    unsettled: AtomicBool,
    /// Held by whoever does that.
    pub settling: Mutex<()>,
    /// The sketch, once it was asked for.
    pub sketch: Mutex<Option<Kept>>,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    loaded: bool,
    nodes: HashMap<EntryId, SettingsRow>,
    frontiers: HashMap<u32, Frontier>,
    numbers: HashMap<Frontier, u32>,
    /// Sorted frontier numbers -> the number of the frontier of an entry that descends from all of them.
    joins: HashMap<Vec<u32>, u32>,
    stores: HashMap<(StoreName, String), u32>,
}

impl Held {
    fn make_room(&mut self) {
        if self.nodes.len() + self.frontiers.len() + self.joins.len() > 3 * SETTINGS_CACHED_MAX {
            self.nodes.clear();
            self.frontiers.clear();
            self.numbers.clear();
            self.joins.clear();
        }
    }

    fn add_frontier(&mut self, number: u32, ids: &Frontier) {
        self.frontiers.insert(number, ids.clone());
        self.numbers.insert(ids.clone(), number);
    }
}

impl TreeMemory {
    pub(crate) fn new(number: TreeNo) -> Self {
        Self {
            number,
            unsettled: AtomicBool::new(false),
            settling: Mutex::default(),
            sketch: Mutex::default(),
            held: RwLock::default(),
        }
    }

    /// A tree that has no rows yet: there is nothing to load.
    pub(crate) fn of_a_fresh_tree(number: TreeNo) -> Self {
        Self { held: RwLock::new(Held { loaded: true, ..Held::default() }), ..Self::new(number) }
    }

    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::SeqCst)
    }

    pub(crate) fn set_unsettled(&self, unsettled: bool) {
        self.unsettled.store(unsettled, Ordering::SeqCst);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ranges of settings and frontiers, unless they were read before.
    pub(crate) fn wanted(&self) -> Option<[Scan; 2]> {
        (!self.read().loaded).then(|| {
            [Space::Settings, Space::Frontier].map(|space| {
                let (from, to) = tree_range(space, self.number);
                Scan {
                    direction: Direction::Backward,
                    max_rows: SETTINGS_CACHED_MAX,
                    ..Scan::range(from, to)
                }
            })
        })
    }

    /// Takes the rows of [`Self::wanted`].
    pub(crate) fn take(
        &self,
        settings: Vec<(Key, Value)>,
        frontiers: Vec<(Key, Value)>,
    ) -> Result<(), StoreError> {
        let mut held = self.write();
        for (_, value) in &settings {
            let row = decode_settings(value)?;
            held.nodes.insert(row.node.id, row);
        }
        for (key, value) in &frontiers {
            let number = key.get(5..9).and_then(|bytes| bytes.try_into().ok());
            let number = number.map(u32::from_be_bytes).ok_or(StoreError::Corrupt { what: "a frontier" })?;
            held.add_frontier(number, &decode_frontier(value)?.into());
        }
        held.loaded = true;
        Ok(())
    }

    /// Reads settings and frontiers with one call to the backend, once in the life of the process.
    pub(crate) fn load(&self, snapshot: &dyn Snapshot) -> Result<(), StoreError> {
        load_all(&[self], snapshot)
    }

    pub(crate) fn settings(
        &self,
        snapshot: &dyn Snapshot,
        id: &EntryId,
    ) -> Result<Option<SettingsRow>, StoreError> {
        self.load(snapshot)?;
        if let Some(row) = self.read().nodes.get(id) {
            return Ok(Some(row.clone()));
        }
        let mut values = snapshot.get_many(&[settings_key(self.number, id)])?;
        let Some(value) = values.pop().flatten() else { return Ok(None) };
        let row = decode_settings(&value)?;
        let mut held = self.write();
        held.make_room();
        held.nodes.insert(*id, row.clone());
        Ok(Some(row))
    }

    pub(crate) fn frontier(&self, snapshot: &dyn Snapshot, number: u32) -> Result<Frontier, StoreError> {
        self.load(snapshot)?;
        if let Some(ids) = self.read().frontiers.get(&number) {
            return Ok(ids.clone());
        }
        let mut values = snapshot.get_many(&[frontier_key(self.number, number)])?;
        let value = values.pop().flatten().ok_or(StoreError::Corrupt { what: "a settings frontier" })?;
        let ids: Frontier = decode_frontier(&value)?.into();
        let mut held = self.write();
        held.make_room();
        held.add_frontier(number, &ids);
        Ok(ids)
    }

    pub(crate) fn number_of(&self, ids: &[EntryId]) -> Option<u32> {
        self.read().numbers.get(ids).copied()
    }

    pub(crate) fn join(&self, numbers: &[u32]) -> Option<u32> {
        self.read().joins.get(numbers).copied()
    }

    pub(crate) fn store(&self, store: &StoreName, kind: &str) -> Option<u32> {
        self.read().stores.get(&(store.clone(), kind.to_owned())).copied()
    }

    pub(crate) fn add_store(&self, store: &StoreName, kind: &str, number: u32) {
        self.write().stores.insert((store.clone(), kind.to_owned()), number);
    }

    /// Takes in what a batch added, once it is committed.
    pub(crate) fn absorb(&self, pending: PendingSettings) {
        if pending.nodes.is_empty() && pending.frontiers.is_empty() && pending.joins.is_empty() {
            return;
        }
        let mut held = self.write();
        held.make_room();
        held.nodes.extend(pending.nodes);
        for (number, ids) in pending.frontiers {
            held.add_frontier(number, &ids);
        }
        held.joins.extend(pending.joins);
    }
}

/// Reads what is not in memory yet of several trees with one call to the backend.
pub(crate) fn load_all(trees: &[&TreeMemory], snapshot: &dyn Snapshot) -> Result<(), StoreError> {
    let (mut missing, mut scans) = (Vec::new(), Vec::new());
    for tree in trees {
        if let Some(wanted) = tree.wanted() {
            missing.push(tree);
            scans.extend(wanted);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut found = snapshot.scan_many(&scans)?.into_iter();
    for tree in missing {
        tree.take(found.next().unwrap_or_default(), found.next().unwrap_or_default())?;
    }
    Ok(())
}

/// Settings of a batch that is not committed yet.
#[derive(Debug, Default)]
pub(crate) struct PendingSettings {
    pub nodes: HashMap<EntryId, SettingsRow>,
    pub frontiers: HashMap<u32, Frontier>,
    pub numbers: HashMap<Frontier, u32>,
    pub joins: HashMap<Vec<u32>, u32>,
    /// The parents of what the batch adds.
    pub parents: BTreeMap<Seq, Vec<Seq>>,
}

/// Settings of one tree as a batch sees them: its own over those in memory over those stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overlay<'a> {
    pub memory: &'a TreeMemory,
    pub pending: &'a PendingSettings,
    /// Entries that were looked up, and those that the batch adds.
    pub known: Option<&'a HashMap<EntryId, Facts>>,
    pub snapshot: &'a dyn Snapshot,
}

impl<'a> Overlay<'a> {
    /// Those that are stored.
    pub(crate) fn stored(memory: &'a TreeMemory, snapshot: &'a dyn Snapshot) -> Self {
        static NOTHING: LazyLock<PendingSettings> = LazyLock::new(PendingSettings::default);
        Self { memory, pending: &NOTHING, known: None, snapshot }
    }

    fn facts(&self, ids: &[EntryId]) -> Result<Vec<Option<Facts>>, StoreError> {
        let known = |id: &EntryId| self.known.and_then(|known| known.get(id)).copied();
        let mut facts: Vec<Option<Facts>> = ids.iter().map(known).collect();
        let absent: Vec<usize> = (0..ids.len()).filter(|index| facts[*index].is_none()).collect();
        if !absent.is_empty() {
            let keys: Vec<Key> =
                absent.iter().map(|index| id_key(self.memory.number, &ids[*index])).collect();
            for (index, row) in absent.into_iter().zip(self.snapshot.get_many(&keys)?) {
                facts[index] = row.as_ref().map(Facts::decode).transpose()?;
            }
        }
        Ok(facts)
    }

    pub(crate) fn row(&self, id: &EntryId) -> Result<Option<SettingsRow>, StoreError> {
        match self.pending.nodes.get(id) {
            Some(row) => Ok(Some(row.clone())),
            None => self.memory.settings(self.snapshot, id),
        }
    }

    pub(crate) fn frontier(&self, number: u32) -> Result<Frontier, StoreError> {
        match self.pending.frontiers.get(&number) {
            Some(ids) => Ok(ids.clone()),
            None => self.memory.frontier(self.snapshot, number),
        }
    }

    pub(crate) fn number_of(&self, ids: &[EntryId]) -> Option<u32> {
        self.pending.numbers.get(ids).copied().or_else(|| self.memory.number_of(ids))
    }

    pub(crate) fn join(&self, numbers: &[u32]) -> Option<u32> {
        self.pending.joins.get(numbers).copied().or_else(|| self.memory.join(numbers))
    }

    /// The settings entries that no other one of a tree in this state descends from. Sorted.
    pub(crate) fn of_tips(&self, state: &TreeState) -> Result<Frontier, StoreError> {
        self.heads_of(state.tips.values().map(|facts| facts.frontier).collect())
    }

    /// As [`Self::heads`], of numbers that may repeat.
    pub(crate) fn heads_of(&self, mut numbers: Vec<u32>) -> Result<Frontier, StoreError> {
        numbers.sort_unstable();
        numbers.dedup();
        match numbers[..] {
            [number] => self.frontier(number),
            _ => Ok(self.heads(&numbers)?.into()),
        }
    }

    /// The entries of several frontiers that no other of them descends from. Sorted.
    ///
    /// Walks the settings entries between the oldest of them and the others, never the whole DAG.
    pub(crate) fn heads(&self, numbers: &[u32]) -> Result<Vec<EntryId>, StoreError> {
        let mut union = BTreeSet::new();
        for number in numbers {
            union.extend(self.frontier(*number)?.iter().copied());
        }
        let held =
            |id: &EntryId| self.row(id)?.ok_or(StoreError::Corrupt { what: "a settings entry is not there" });
        let mut open = Vec::new();
        let mut lowest = Seq(u64::MAX);
        for id in &union {
            let row = held(id)?;
            lowest = lowest.min(row.seq);
            open.push(row);
        }
        let mut below = BTreeSet::new();
        while let Some(row) = open.pop() {
            for id in &row.node.past {
                let past = held(id)?;
                if past.seq >= lowest && below.insert(*id) {
                    open.push(past);
                }
            }
        }
        Ok(union.difference(&below).copied().collect())
    }
}

/// What is answered about the history of one tree, with the walks that it took: an operation may name many entries, and
/// asks about each whether it lies in the same past.
#[derive(Debug)]
pub(crate) struct Walked<'a> {
    pub settings: Overlay<'a>,
    pasts: RefCell<Pasts>,
}

#[derive(Debug, Default)]
struct Pasts {
    by_tips: BTreeMap<Vec<EntryId>, Past>,
    /// What they hold, in positions.
    held: usize,
}

/// What lies at or below some entries.
#[derive(Debug)]
struct Past {
    /// Of what the batch adds.
    added: BTreeSet<Seq>,
    stored: Ancestry,
}

impl Past {
    /// With its key, in positions of eight bytes.
    fn held(&self, tips: &[EntryId]) -> usize {
        4 * tips.len() + self.added.len() + self.stored.beyond.len()
    }
}

impl<'a> Walked<'a> {
    pub(crate) fn new(settings: Overlay<'a>) -> Self {
        Self { settings, pasts: RefCell::default() }
    }

    /// Where what is stored begins to hold anything else than what these entries descend from.
    pub(crate) fn base_of(&self, tips: &[EntryId]) -> Result<Seq, StoreError> {
        self.with_past(tips, |past| past.stored.base.start())
    }

    fn with_past<T>(&self, tips: &[EntryId], read: impl FnOnce(&Past) -> T) -> Result<T, StoreError> {
        let mut pasts = self.pasts.borrow_mut();
        if let Some(past) = pasts.by_tips.get(tips) {
            return Ok(read(past));
        }
        let past = self.past(tips)?;
        let (told, held) = (read(&past), past.held(tips));
        if pasts.held + held > WALKED_MAX {
            *pasts = Pasts::default();
        }
        pasts.held += held;
        pasts.by_tips.insert(tips.to_vec(), past);
        Ok(told)
    }

    /// How many walks are kept, and what they hold in positions.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        let pasts = self.pasts.borrow();
        (pasts.by_tips.len(), pasts.by_tips.iter().map(|(tips, past)| past.held(tips)).sum())
    }

    fn past(&self, tips: &[EntryId]) -> Result<Past, StoreError> {
        let mut open: BTreeSet<Seq> =
            self.settings.facts(tips)?.iter().flatten().map(|facts| facts.seq).collect();
        let mut added = BTreeSet::new();
        // What the batch adds comes after everything that is stored.
        while let Some(parents) = open.last().and_then(|seq| self.settings.pending.parents.get(seq)) {
            added.extend(open.pop_last());
            open.extend(parents);
        }
        let stored = Ancestry::of(self.settings.snapshot, self.settings.memory.number, open)?;
        Ok(Past { added, stored })
    }
}

impl History for Walked<'_> {
    fn includes(&self, tips: &[EntryId], id: &EntryId) -> Result<bool, ReadError> {
        let Some(facts) = self.settings.facts(std::slice::from_ref(id))?.pop().flatten() else {
            return Ok(false);
        };
        let holds = |past: &Past| past.added.contains(&facts.seq) || past.stored.holds(facts.seq);
        Ok(self.with_past(tips, holds)?)
    }

    fn frontier(&self, id: &EntryId) -> Result<Option<Vec<EntryId>>, ReadError> {
        let Some(facts) = self.settings.facts(std::slice::from_ref(id))?.pop().flatten() else {
            return Ok(None);
        };
        Ok(Some(self.settings.frontier(facts.frontier)?.to_vec()))
    }
}

impl SettingsPast for Walked<'_> {
    fn settings(&self, id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
        self.settings.settings(id)
    }
}

impl SettingsPast for Overlay<'_> {
    fn settings(&self, id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
        Ok(self.row(id)?.map(|row| row.node))
    }
}
