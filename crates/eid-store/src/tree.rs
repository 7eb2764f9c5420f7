//! One tree as it was at one moment.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::dag::{Dag, Epoch, Logged, Named, Replica, Run, Seq};
use eid_core::sketch::Sketch;
use eid_core::{
    Entry, EntryId, Height, History, Judge, PublicKey, ReadError, SettingsNode, SettingsPast, StoreName,
    Time, TreeId,
};

use crate::admit::height_of;
use crate::apply::Apply;
use crate::backend::{Direction, Key, Scan, Snapshot, Value, prefix_end};
use crate::error::StoreError;
use crate::past::decode_changed;
use crate::rows::{
    Edge, Facts, LogRow, PRUNED, Space, StoreRow, TreeNo, TreeState, VIEW_PREFIX_BYTES, decode_log, id_key,
    missing_key, place_of_missing_key, seq_key, seq_of_key, state_key, store_key, store_of_key, tree_key,
    tree_range, view_key,
};
use crate::settings::{Overlay, TreeMemory, Walked};
use crate::sketch;
use crate::standing::{StandingChange, Weigher, settled_after};
use crate::version::{self, Ancestry};
use crate::views::stored_id;

/// A consistent view of one tree.
#[derive(Debug, Clone)]
pub struct TreeSnapshot {
    tree: TreeId,
    epoch: Epoch,
    memory: Arc<TreeMemory>,
    snapshot: Arc<dyn Snapshot>,
    state: Arc<TreeState>,
    judge: Arc<dyn Judge>,
    /// Nothing for the tree as it is.
    version: Option<Arc<Version>>,
}

#[derive(Debug)]
struct Version {
    ancestry: Ancestry,
    present: TreeSnapshot,
}

/// What is known of an entry without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its position.
    pub seq: Seq,
    /// The positions of its parents, in the order of the header.
    pub parents: Vec<Seq>,
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: Time,
    /// Who signed it.
    pub author: PublicKey,
    /// The number of the settings frontier that its children descend from.
    pub settings: u32,
}

/// A store of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its name.
    pub name: StoreName,
    /// Its kind.
    pub kind: String,
    /// How many entries write it.
    pub entries: u64,
    /// How many operations in it have no effect because they do not decode.
    pub undecodable: u64,
}

/// The rows of one store of one kind.
#[derive(Debug, Clone)]
pub struct View {
    number: TreeNo,
    snapshot: Arc<dyn Snapshot>,
    store: Result<Option<u32>, StoreError>,
}

impl TreeSnapshot {
    pub(crate) fn read(
        tree: TreeId,
        epoch: Epoch,
        memory: Arc<TreeMemory>,
        snapshot: Arc<dyn Snapshot>,
        judge: Arc<dyn Judge>,
    ) -> Result<Option<Self>, StoreError> {
        let Some(state) = snapshot.get_many(&[state_key(memory.number)])?.pop().flatten() else {
            return Ok(None);
        };
        let state = Arc::new(TreeState::decode(&state)?);
        Ok(Some(Self { tree, epoch, memory, snapshot, state, judge, version: None }))
    }

    /// The tree as it was when these were its tips. Those that others descend from are left out of [`Self::tips`];
    /// the tips of today give the tree as it is.
    ///
    /// It has the entries that they descend from, at the positions that they have, and the rows that these give; what
    /// came in between and does not belong to it is not seen. Rows that are this device's own are not there, see
    /// [`crate::LOCAL_ROWS`], and [`Self::bytes`] [`Self::missing_payloads`] and [`Self::filled_payloads`] are those of today. Opening takes
    /// time and memory for what was written since the last checkpoint that it descends from as a whole, not for what
    /// was written before; that is kept until this is dropped, and a snapshot of the backend with it. `apply` is what
    /// the store was opened with.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when a tip is not held, and [`StoreError::VersionTooLarge`].
    pub fn at(&self, tips: &[EntryId], apply: &dyn Apply) -> Result<Self, StoreError> {
        let present = self.version.as_ref().map_or(self, |version| &version.present);
        let asked: BTreeSet<EntryId> = tips.iter().copied().collect();
        if asked.iter().eq(present.state.tips.keys()) {
            return Ok(present.clone());
        }
        let snapshot = present.snapshot.clone();
        let seams = (&*self.judge, apply);
        let opened = version::open(snapshot, (self.tree, &present.memory), &present.state, tips, seams)?;
        let version = Version { ancestry: opened.ancestry, present: present.clone() };
        Ok(Self {
            snapshot: Arc::new(opened.rows),
            state: Arc::new(opened.state),
            version: Some(Arc::new(version)),
            ..present.clone()
        })
    }

    /// Whether an entry that is stored at a position is one of this version.
    fn holds(&self, seq: Seq) -> bool {
        self.version.as_ref().is_none_or(|version| version.ancestry.holds(seq))
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    /// Names this life of the tree here: another one begins when it is forgotten and comes again, and when a repair
    /// rebuilds it. Positions and views of one say nothing of another.
    #[must_use]
    pub fn life(&self) -> u32 {
        self.memory.number.0
    }

    /// How many entries are held.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.version.as_ref().map_or(self.state.next_seq.0, |version| version.ancestry.count())
    }

    /// Bytes of all blocks and payloads held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes
    }

    /// The greatest time of any entry.
    #[must_use]
    pub fn time(&self) -> Time {
        self.state.time
    }

    /// The greatest height of any tip.
    #[must_use]
    pub fn height(&self) -> Height {
        height_of(&self.state.tips)
    }

    /// An entry, if it is held.
    pub fn entry(&self, id: &EntryId) -> Result<Option<Entry>, StoreError> {
        let Some(facts) = self.get(id_key(self.memory.number, id))? else { return Ok(None) };
        let seq = Facts::decode(&facts)?.seq;
        if !self.holds(seq) {
            return Ok(None);
        }
        let logged = self.logged(seq)?;
        match logged.map(|logged| Entry::parse_stored(*id, logged.block, logged.payloads)) {
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(_)) => Err(StoreError::Corrupt { what: "an entry in the log" }),
            None => Err(StoreError::Corrupt { what: "an entry is not in the log" }),
        }
    }

    /// The entry at a position.
    pub fn entry_at(&self, seq: Seq) -> Result<Option<Entry>, StoreError> {
        let Some(logged) = self.logged(seq)?.filter(|_| self.holds(seq)) else { return Ok(None) };
        let entry = Entry::parse(logged.block, logged.payloads);
        entry.map(Some).map_err(|_| StoreError::Corrupt { what: "an entry in the log" })
    }

    /// The id of the entry at a position.
    pub fn id_at(&self, seq: Seq) -> Result<EntryId, StoreError> {
        stored_id(&*self.snapshot, self.memory.number, seq)
    }

    /// The entries at up to `count` positions beginning with `from`, ascending.
    pub fn nodes(&self, from: Seq, count: usize) -> Result<Vec<Node>, StoreError> {
        let mut nodes = Vec::new();
        for (key, value) in self.edges(from, count)? {
            let (seq, edge) = (seq_of_key(&key)?, Edge::decode(&value)?);
            if self.holds(seq) {
                nodes.push(Node {
                    seq,
                    parents: edge.parents,
                    height: edge.height,
                    time: edge.time,
                    author: edge.author,
                    settings: edge.frontier,
                });
            }
        }
        Ok(nodes)
    }

    /// The settings entries that no other one descends from. Sorted.
    pub fn settings_frontier(&self) -> Result<Vec<EntryId>, StoreError> {
        Ok(self.overlay().of_tips(&self.state)?.to_vec())
    }

    /// The settings frontier that a number of [`Node::settings`] stands for. Sorted.
    pub fn settings_of(&self, number: u32) -> Result<Vec<EntryId>, StoreError> {
        Ok(self.memory.frontier(&*self.snapshot, number)?.to_vec())
    }

    /// The stores that entries write, by name and kind. A kind is empty when it cannot be known here: the payload
    /// is sealed, or does not decode.
    pub fn stores(&self) -> Result<Vec<StoreInfo>, StoreError> {
        let (from, to) = tree_range(Space::Stores, self.memory.number);
        let mut stores = Vec::new();
        for (key, value) in self.scan(Scan::range(from, to))? {
            let (name, kind) = store_of_key(&key)?;
            let row = StoreRow::decode(&value)?;
            // One that has only rows of this device's own is not listed.
            if row.entries > 0 {
                stores.push(StoreInfo { name, kind, entries: row.entries, undecodable: row.undecodable });
            }
        }
        Ok(stores)
    }

    /// How many payloads are not here.
    #[must_use]
    pub fn missing_payloads(&self) -> u64 {
        self.state.missing
    }

    /// How many of them were dropped on purpose, and are not asked for: see [`crate::EntryStore::prune_payloads`].
    #[must_use]
    pub fn pruned_payloads(&self) -> u64 {
        self.state.pruned
    }

    /// Tells how often payloads came that had not been here when their entries came. Another number than before means
    /// that some did.
    #[must_use]
    pub fn filled_payloads(&self) -> u64 {
        self.state.filled
    }

    /// How many of the entries held do not count.
    #[must_use]
    pub fn void_entries(&self) -> u64 {
        self.state.voids
    }

    /// Whether settings came that may change what counts, and views do not show it yet: see
    /// [`crate::EntryStore::settle`].
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.state.unsettled.is_some()
    }

    /// How often views were changed because other entries count than before: the number of the last
    /// [`StandingChange`].
    #[must_use]
    pub fn standing_changes(&self) -> u64 {
        self.state.settled
    }

    /// The changes of what counts with numbers greater than this, at most so many of them.
    pub fn standing_changes_after(
        &self,
        number: u64,
        count: usize,
    ) -> Result<Vec<StandingChange>, StoreError> {
        let changes = settled_after(&*self.snapshot, self.memory.number, number, count)?;
        Ok(changes.into_iter().map(|(number, settled)| StandingChange::new(number, settled)).collect())
    }

    /// Of entries at these positions, whether each counts in this version.
    pub fn stand(&self, seqs: &[Seq]) -> Result<Vec<bool>, StoreError> {
        let number = self.memory.number;
        if self.version.is_none() {
            let keys: Vec<Key> = seqs.iter().map(|seq| seq_key(Space::Void, number, *seq)).collect();
            return Ok(self.snapshot.get_many(&keys)?.iter().map(Option::is_none).collect());
        }
        let settings = self.overlay();
        let known = settings.of_tips(&self.state)?;
        let mut weigher = Weigher::new(&*self.judge, self.tree, settings, known);
        let keys: Vec<Key> = seqs.iter().map(|seq| seq_key(Space::Edges, number, *seq)).collect();
        let judged = seqs.iter().zip(self.snapshot.get_many(&keys)?).map(|(seq, row)| {
            let row = row.ok_or(StoreError::Corrupt { what: "an entry has no edges" })?;
            weigher.stands(*seq, &Edge::decode(&row)?)
        });
        judged.collect()
    }

    /// The positions of entries that do not count, ascending, beginning with `from`, at most so many. Those of today,
    /// also in an old version.
    pub fn voids(&self, from: Seq, count: usize) -> Result<Vec<Seq>, StoreError> {
        let (_, to) = tree_range(Space::Void, self.memory.number);
        let from = seq_key(Space::Void, self.memory.number, from);
        let rows = self.scan(Scan { max_rows: count, ..Scan::range(from, to) })?;
        rows.iter().map(|(key, _)| seq_of_key(key)).collect()
    }

    /// The rows of one store. One that nobody wrote has none.
    #[must_use]
    pub fn view(&self, store: &StoreName, kind: &str) -> View {
        let number = self.memory.number;
        let known = self.memory.store(store, kind);
        let store = match known {
            Some(found) => Ok(Some(found)),
            None => self.get(store_key(number, store, kind)).and_then(|row| match row {
                Some(row) => {
                    let row = StoreRow::decode(&row)?;
                    self.memory.add_store(store, kind, row.number);
                    Ok(Some(row.number))
                }
                None => Ok(None),
            }),
        };
        View { number, snapshot: self.snapshot.clone(), store }
    }

    fn overlay(&self) -> Overlay<'_> {
        Overlay::stored(&self.memory, &*self.snapshot)
    }

    fn get(&self, key: Key) -> Result<Option<Value>, StoreError> {
        Ok(self.snapshot.get_many(&[key])?.pop().flatten())
    }

    fn scan(&self, scan: Scan) -> Result<Vec<(Key, Value)>, StoreError> {
        Ok(self.snapshot.scan_many(&[scan])?.pop().unwrap_or_default())
    }

    fn logged(&self, seq: Seq) -> Result<Option<Logged>, StoreError> {
        let row = self.get(seq_key(Space::Log, self.memory.number, seq))?;
        row.map(|row| decode_log(seq, &row)).transpose()
    }

    fn edges(&self, from: Seq, count: usize) -> Result<Vec<(Key, Value)>, StoreError> {
        let number = self.memory.number;
        let to = Seq(from.0.saturating_add(count as u64).min(self.state.next_seq.0));
        self.scan(Scan::range(seq_key(Space::Edges, number, from), seq_key(Space::Edges, number, to)))
    }
}

impl View {
    /// The value of a row.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some(store) = self.store.clone()? else { return Ok(None) };
        let value = self.snapshot.get_many(&[view_key(self.number, store, key)])?.pop().flatten();
        value.map(value_of).transpose()
    }

    /// The values of rows, in the order of the keys.
    pub fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let Some(store) = self.store.clone()? else { return Ok(vec![None; keys.len()]) };
        let keys: Vec<Key> = keys.iter().map(|key| view_key(self.number, store, key)).collect();
        let values = self.snapshot.get_many(&keys)?.into_iter();
        values.map(|value| value.map(value_of).transpose()).collect()
    }

    /// The rows of a range, `to` exclusive (`None`: to the end of the view), with keys relative to the view.
    pub fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let Some(store) = self.store.clone()? else { return Ok(Vec::new()) };
        let to = match to {
            Some(to) => view_key(self.number, store, to),
            None => prefix_end(&view_key(self.number, store, &[])),
        };
        let from = view_key(self.number, store, from);
        let scan = Scan { from, to, direction, max_rows, max_bytes: usize::MAX };
        let rows = self.snapshot.scan_many(&[scan])?.pop().unwrap_or_default();
        rows.into_iter()
            .map(|(key, value)| Ok((key[VIEW_PREFIX_BYTES..].to_vec(), value_of(value)?)))
            .collect()
    }
}

fn value_of(value: Value) -> Result<Bytes, StoreError> {
    Ok(decode_changed(value)?.1)
}

impl Dag for TreeSnapshot {
    fn parents(&self, from: Seq, count: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        let rows = self.edges(from, count)?;
        Ok(rows.iter().map(|(_, value)| Edge::decode_parents(value)).collect::<Result<_, _>>()?)
    }
}

impl Replica for TreeSnapshot {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn end(&self) -> Seq {
        self.state.next_seq
    }

    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(self.state.tips.iter().map(|(id, facts)| (*id, facts.seq)).collect())
    }

    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        let keys: Vec<Key> = ids.iter().map(|id| id_key(self.memory.number, id)).collect();
        let rows = self.snapshot.get_many(&keys).map_err(ReadError::new)?;
        rows.iter()
            .map(|row| {
                let facts = row.as_ref().map(Facts::decode).transpose()?;
                Ok(facts.map(|facts| facts.seq).filter(|seq| self.holds(*seq)))
            })
            .collect()
    }

    fn find_prefixes(&self, prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        let scans: Vec<Scan> = prefixes
            .iter()
            .map(|prefix| {
                let prefix = tree_key(Space::Id, self.memory.number, prefix);
                Scan { max_rows: 2, ..Scan::prefix(&prefix) }
            })
            .collect();
        let found = self.snapshot.scan_many(&scans).map_err(ReadError::new)?;
        found
            .iter()
            .map(|rows| match &rows[..] {
                [(_, value)] => Ok(Some(Facts::decode(value)?.seq).filter(|seq| self.holds(*seq))),
                _ => Ok(None),
            })
            .collect()
    }

    fn named(&self, from: Seq, count: usize) -> Result<Vec<Named>, ReadError> {
        let rows = self.edges(from, count)?;
        Ok(rows.iter().map(|(_, value)| Edge::decode_named(value)).collect::<Result<_, _>>()?)
    }

    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        if self.version.is_some() {
            return Ok(None);
        }
        Ok(sketch::before(self.state.next_seq, (&self.tree, &self.memory), &*self.snapshot)?)
    }

    fn log(&self, range: Range<Seq>, bytes_max: usize) -> Result<Vec<Logged>, ReadError> {
        let to = range.end.min(self.state.next_seq);
        let (mut from, mut logged) = (range.start, Vec::new());
        while from < to && logged.is_empty() {
            let keys = [from, to].map(|seq| seq_key(Space::Log, self.memory.number, seq));
            let [first, end] = keys;
            let rows = self.scan(Scan { max_bytes: bytes_max, ..Scan::range(first, end) })?;
            from = to;
            for (key, value) in rows {
                let seq = seq_of_key(&key)?;
                from = Seq(seq.0 + 1);
                if self.holds(seq) {
                    logged.push(decode_log(seq, &value)?);
                }
            }
        }
        Ok(logged)
    }

    fn run(&self, range: Range<Seq>, bytes_max: usize) -> Result<Run, ReadError> {
        if self.version.is_some() {
            return Run::of(&self.log(range, bytes_max)?, self);
        }
        let number = self.memory.number;
        let keys = |space, from, to| Scan::range(seq_key(space, number, from), seq_key(space, number, to));
        let to = range.end.min(self.state.next_seq);
        let log = Scan { max_bytes: bytes_max, ..keys(Space::Log, range.start, to) };
        let log = self.snapshot.stretch(&log).map_err(ReadError::new)?;
        let Some((last, _)) = log.rows().last() else { return Ok(Run::default()) };
        let last = seq_of_key(last)?;
        let edges = keys(Space::Edges, range.start, Seq(last.0 + 1));
        let edges = self.snapshot.stretch(&edges).map_err(ReadError::new)?;
        let mut edges_of = edges.rows();
        let (mut payloads, mut parents) = (Vec::new(), Vec::new());
        let mut run = Run::new(log.bytes().clone());
        for (key, row) in log.rows() {
            let edge = edges_of.find(|(edge, _)| edge[1..] == key[1..]);
            let (_, edge) = edge.ok_or(StoreError::Corrupt { what: "an entry has no edges" })?;
            let short = Edge::read_named_in(edges.bytes(), edge, &mut parents)?;
            let mut row = LogRow::new(log.bytes(), row);
            let block = row.block()?;
            for payload in row {
                payloads.push(payload?);
            }
            run.push(seq_of_key(key)?, block, payloads.drain(..), short, parents.drain(..));
        }
        Ok(run)
    }

    fn missing(&self) -> u64 {
        self.state.missing.saturating_sub(self.state.pruned)
    }

    fn filled(&self) -> u64 {
        self.state.filled
    }

    fn lacking(&self, (seq, section): (Seq, usize), count: usize) -> Result<Vec<(Seq, usize)>, ReadError> {
        let number = self.memory.number;
        let (_, to) = tree_range(Space::Missing, number);
        let (mut from, mut lacking) = (missing_key(number, seq, section), Vec::new());
        while lacking.len() < count && self.missing() > 0 {
            let rows = self.scan(Scan { max_rows: count, ..Scan::range(from, to.clone()) })?;
            let Some((last, _)) = rows.last() else { break };
            from = [last, &[0][..]].concat();
            let absent = rows.iter().filter(|(_, row)| row != PRUNED).take(count - lacking.len());
            for (key, _) in absent {
                lacking.push(place_of_missing_key(key)?);
            }
        }
        Ok(lacking)
    }
}

impl History for TreeSnapshot {
    fn includes(&self, tips: &[EntryId], id: &EntryId) -> Result<bool, ReadError> {
        Walked::new(self.overlay()).includes(tips, id)
    }

    fn frontier(&self, id: &EntryId) -> Result<Option<Vec<EntryId>>, ReadError> {
        Walked::new(self.overlay()).frontier(id)
    }
}

impl SettingsPast for TreeSnapshot {
    fn settings(&self, id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
        Ok(self.memory.settings(&*self.snapshot, id)?.map(|row| row.node))
    }
}
