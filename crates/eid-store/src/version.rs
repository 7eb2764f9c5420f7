//! Old versions: from the last checkpoint that lies wholly within what the version descends from, and what came after.
//!
//! The log is in an order in which parents come first, so everything before a checkpoint is closed downwards, and its
//! tips say whether all of it belongs to a version. What is left is folded into rows in memory, through the same seam
//! as an admission. So a version costs what was written around it, not what was written before it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eid_core::dag::Seq;
use eid_core::{Entry, EntryId, Judge, Missing, StoreName, TreeId};

use crate::apply::Apply;
use crate::aside::Aside;
use crate::backend::{Key, Scan, Snapshot, Value};
use crate::cursor::Cursor;
use crate::error::StoreError;
use crate::limits::{FOLD_ENTRIES_MAX, VERSION_BYTES_MAX};
use crate::past::{Interval, PastSnapshot};
use crate::prepare::{Write, write_of};
use crate::rows::{
    Edge, Facts, Late, Space, StoreRow, TreeNo, TreeState, checkpoint_key, decode_checkpoint, decode_log,
    id_key, late_key, seq_key, seq_of_key, store_key, tree_range,
};
use crate::settings::{Frontier, Overlay, TreeMemory};
use crate::standing::{Weigher, steady};
use crate::views::{PendingChange, PendingIds, Views};

/// Which entries an old version has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ancestry {
    /// Everything before this checkpoint.
    pub base: Interval,
    /// What is at or after it, ascending.
    pub beyond: Vec<Seq>,
    /// Those that no other one descends from.
    pub tips: BTreeSet<Seq>,
}

impl Ancestry {
    pub(crate) fn holds(&self, seq: Seq) -> bool {
        seq < self.base.start() || self.beyond.binary_search(&seq).is_ok()
    }

    pub(crate) fn count(&self) -> u64 {
        self.base.start().0 + self.beyond.len() as u64
    }

    /// One past the last position.
    pub(crate) fn end(&self) -> Seq {
        self.beyond.last().map_or(self.base.start(), |last| Seq(last.0 + 1))
    }

    /// Everything that a tree in this state has, with a base that is given.
    pub(crate) fn everything(base: Interval, state: &TreeState) -> Self {
        let beyond = (base.start().0..state.next_seq.0).map(Seq).collect();
        Self { base, beyond, tips: state.tips.values().map(|facts| facts.seq).collect() }
    }

    /// The same entries with a base that is not higher.
    fn lowered(mut self, base: Interval) -> Self {
        let between = (base.start().0..self.base.start().0).map(Seq);
        self.beyond = between.chain(std::mem::take(&mut self.beyond)).collect();
        self.base = base;
        self
    }

    /// Walks down from some entries to the first checkpoint of which everything belongs to them.
    pub(crate) fn of(snapshot: &dyn Snapshot, tree: TreeNo, tips: BTreeSet<Seq>) -> Result<Self, StoreError> {
        // Entries that are known to belong to it and were not walked over yet.
        let mut open = tips.clone();
        let mut found = Self { base: Interval::default(), beyond: Vec::new(), tips };
        let mut next = None;
        while let Some(top) = open.last().copied() {
            let reachable = Interval::of(Seq(top.0 + 1));
            found.base = next.map_or(reachable, |next: Interval| next.min(reachable));
            let (from, to) = (found.base.start(), Seq(top.0 + 1));
            let scan = Scan::range(seq_key(Space::Edges, tree, from), seq_key(Space::Edges, tree, to));
            for (key, value) in snapshot.scan_many(&[scan])?.pop().unwrap_or_default().iter().rev() {
                let seq = seq_of_key(key)?;
                if open.remove(&seq) {
                    found.beyond.push(seq);
                    for parent in Edge::decode_parents(value)? {
                        found.tips.remove(&parent);
                        open.insert(parent);
                    }
                }
            }
            let Some(below) = found.base.0.checked_sub(1) else { break };
            let row = snapshot.get_many(&[checkpoint_key(tree, found.base)])?.pop().flatten();
            let row = row.ok_or(StoreError::Corrupt { what: "a checkpoint is not there" })?;
            let ends = decode_checkpoint(&row)?;
            if ends.iter().all(|end| open.contains(end)) {
                // Others of the tips have a child before the checkpoint.
                found.tips.retain(|tip| *tip >= from || ends.contains(tip));
                break;
            }
            next = Some(Interval(below));
        }
        found.beyond.reverse();
        Ok(found)
    }
}

/// Ids are those of stored entries; others than those of the version are as good as absent.
struct Within<'a>(&'a Ancestry);

impl PendingIds for Within<'_> {
    fn pending_id(&self, _: TreeNo, _: Seq) -> Option<EntryId> {
        None
    }

    fn pending_seq(&self, _: TreeNo, _: &EntryId) -> Option<Seq> {
        None
    }

    fn sees(&self, seq: Seq) -> bool {
        self.0.holds(seq)
    }
}

/// A version as it is read: its rows, its entries and its state.
#[derive(Debug)]
pub(crate) struct Opened {
    pub rows: PastSnapshot,
    pub ancestry: Ancestry,
    pub state: TreeState,
}

/// Opens the version of a tree at these tips, which may descend from each other. What counts in it is decided by the
/// settings that they descend from.
pub(crate) fn open(
    present: Arc<dyn Snapshot>,
    (id, memory): (TreeId, &TreeMemory),
    state: &TreeState,
    tips: &[EntryId],
    (judge, apply): (&dyn Judge, &dyn Apply),
) -> Result<Opened, StoreError> {
    let tree = memory.number;
    let keys: Vec<Key> = tips.iter().map(|id| id_key(tree, id)).collect();
    let rows = present.get_many(&keys)?;
    let absent = tips.iter().zip(&rows).filter(|(_, row)| row.is_none()).map(|(id, _)| *id);
    let absent: Vec<EntryId> = absent.collect();
    if !absent.is_empty() {
        return Err(Missing::Parents(absent).into());
    }
    let facts = rows.iter().flatten().map(Facts::decode).collect::<Result<Vec<_>, _>>()?;
    let mut ancestry = Ancestry::of(&*present, tree, facts.iter().map(|facts| facts.seq).collect())?;
    let named = tips.iter().copied().zip(facts);
    let tips: BTreeMap<EntryId, Facts> =
        named.filter(|(_, facts)| ancestry.tips.contains(&facts.seq)).collect();
    let state = TreeState {
        next_seq: ancestry.end(),
        time: tips.values().map(|facts| facts.time).max().unwrap_or_default(),
        tips,
        ..state.clone()
    };
    let settings = Overlay::stored(memory, &*present);
    let known = settings.of_tips(&state)?;
    let weigher = RefCell::new(Weigher::new(judge, id, settings, known.clone()));
    loop {
        let base = base_for(&settings, &mut weigher.borrow_mut(), &state, &known, ancestry.base)?;
        if base == ancestry.base {
            break;
        }
        ancestry = ancestry.lowered(base);
    }
    let stands = |seqs: &[Seq]| -> Result<Vec<bool>, StoreError> {
        let keys: Vec<Key> = seqs.iter().map(|seq| seq_key(Space::Edges, tree, *seq)).collect();
        let rows = present.get_many(&keys)?.into_iter().zip(seqs);
        let judged = rows.map(|(row, seq)| {
            let row = row.ok_or(StoreError::Corrupt { what: "an entry has no edges" })?;
            weigher.borrow_mut().stands(*seq, &Edge::decode(&row)?)
        });
        judged.collect()
    };
    let rows = Fold::of(present.clone(), tree, &ancestry, apply, &stands, (None, None))?;
    Ok(Opened { rows, ancestry, state })
}

/// The last checkpoint up to `base` at which rows show what counts in a version: settings that it has beyond the
/// checkpoint must not reach behind it, and views must have taken in what came before.
fn base_for(
    settings: &Overlay<'_>,
    weigher: &mut Weigher<'_>,
    state: &TreeState,
    known: &Frontier,
    base: Interval,
) -> Result<Interval, StoreError> {
    let (snapshot, tree) = (settings.snapshot, settings.memory.number);
    let open = state.unsettled.map_or(base, |open| base.min(Interval::of(open.since)));
    let base = steady(snapshot, tree, open, |settled| Some(settled.since))?;
    let before = match base {
        Interval(0) => Frontier::from([]),
        _ => {
            let row = snapshot.get_many(&[checkpoint_key(tree, base)])?.pop().flatten();
            let ends =
                decode_checkpoint(&row.ok_or(StoreError::Corrupt { what: "a checkpoint is not there" })?)?;
            let keys: Vec<Key> = ends.iter().map(|end| seq_key(Space::Edges, tree, *end)).collect();
            let rows = snapshot.get_many(&keys)?;
            let numbers = rows.iter().flatten().map(|row| Ok(Edge::decode(row)?.frontier));
            settings.heads_of(numbers.collect::<Result<Vec<_>, StoreError>>()?)?
        }
    };
    if before == *known {
        return Ok(base);
    }
    Ok(weigher.reached_from(&before)?.map_or(base, |from| base.min(Interval::of(from))))
}

/// Entries of the log, by position.
pub(crate) fn read_log(
    snapshot: &dyn Snapshot,
    tree: TreeNo,
    seqs: &[Seq],
) -> Result<Vec<(Seq, Entry)>, StoreError> {
    let keys: Vec<Key> = seqs.iter().map(|seq| seq_key(Space::Log, tree, *seq)).collect();
    let read = |(seq, row): (&Seq, Option<Value>)| {
        let row = row.ok_or(StoreError::Corrupt { what: "an entry is not in the log" })?;
        let logged = decode_log(*seq, &row)?;
        let entry = Entry::parse(logged.block, logged.payloads)
            .map_err(|_| StoreError::Corrupt { what: "an entry in the log" })?;
        Ok((*seq, entry))
    };
    seqs.iter().zip(snapshot.get_many(&keys)?).map(read).collect()
}

/// One entry of the log with what it writes, as far as it is to be applied.
struct Unapplied {
    seq: Seq,
    stands: bool,
    entry: Entry,
    /// The position at which it is applied.
    applied: Seq,
    writes: Vec<Write>,
}

/// Says of entries whether they count.
pub(crate) type Judged<'a> = &'a dyn Fn(&[Seq]) -> Result<Vec<bool>, StoreError>;

/// Takes entries into the rows of a checkpoint.
pub(crate) struct Fold<'a> {
    present: Arc<dyn Snapshot>,
    rows: PastSnapshot,
    tree: TreeNo,
    ancestry: &'a Ancestry,
    apply: &'a dyn Apply,
    stands: Judged<'a>,
    /// The one store that is worked out; nothing for all.
    only: Option<&'a (StoreName, String)>,
    /// Where rows go that do not fit in memory.
    aside: Option<&'a Aside<'a>>,
    stores: BTreeMap<(StoreName, String), StoreRow>,
    /// Of the rows that were changed, counted as often as they were.
    bytes: usize,
}

impl<'a> Fold<'a> {
    /// The rows that entries give: all that `ancestry` names beyond its checkpoint.
    pub(crate) fn of(
        present: Arc<dyn Snapshot>,
        tree: TreeNo,
        ancestry: &'a Ancestry,
        apply: &'a dyn Apply,
        stands: Judged<'a>,
        (only, aside): (Option<&'a (StoreName, String)>, Option<&'a Aside<'a>>),
    ) -> Result<PastSnapshot, StoreError> {
        let rows = PastSnapshot::new(present.clone(), tree, ancestry.base);
        let (stores, bytes) = (BTreeMap::new(), 0);
        let mut fold = Self { rows, present, tree, ancestry, apply, stands, only, aside, stores, bytes };
        fold.late_payloads()?;
        fold.entries()?;
        Ok(fold.finish())
    }

    /// Payloads of entries before the checkpoint that came after it.
    fn late_payloads(&mut self) -> Result<(), StoreError> {
        let from = late_key(self.tree, self.ancestry.base, 0);
        let (_, to) = tree_range(Space::Late, self.tree);
        let present = self.present.clone();
        let mut late = Cursor::new(&*present, (from, to), FOLD_ENTRIES_MAX);
        let mut sections: Vec<(Seq, usize)> = Vec::new();
        loop {
            let row = late.next()?;
            match &row {
                Some((_, row)) => {
                    let Late { seq, section, .. } = Late::decode(row)?;
                    if seq < self.ancestry.base.start() {
                        sections.push((seq, section));
                    }
                }
                None if sections.is_empty() => return Ok(()),
                None => {}
            }
            if row.is_none() || sections.len() >= FOLD_ENTRIES_MAX {
                let mut seqs: Vec<Seq> = sections.iter().map(|(seq, _)| *seq).collect();
                // One whose sections were filled in different intervals is named more than once.
                seqs.sort_unstable();
                seqs.dedup();
                let applied = Some(self.ancestry.base.start());
                let wanted = |seq, section| sections.contains(&(seq, section));
                let unapplied = self.read(&seqs, applied, &wanted)?;
                self.apply(&unapplied)?;
                sections.clear();
            }
        }
    }

    /// Everything at or after the checkpoint.
    fn entries(&mut self) -> Result<(), StoreError> {
        for seqs in self.ancestry.beyond.chunks(FOLD_ENTRIES_MAX) {
            let unapplied = self.read(seqs, None, &|_, _| true)?;
            self.apply(&unapplied)?;
        }
        Ok(())
    }

    fn read(
        &self,
        seqs: &[Seq],
        applied: Option<Seq>,
        wanted: &dyn Fn(Seq, usize) -> bool,
    ) -> Result<Vec<Unapplied>, StoreError> {
        let entries = read_log(&*self.present, self.tree, seqs)?.into_iter().zip((self.stands)(seqs)?);
        let unapplied = entries.map(|((seq, entry), stands)| {
            let sections = entry.header().sections.iter().zip(entry.payloads()).enumerate();
            let writes = sections
                .filter(|(index, (section, _))| !section.store.is_settings() && wanted(seq, *index))
                .filter_map(|(_, (section, payload))| {
                    Some(write_of(&section.store, section.enc.is_some(), payload.as_ref()?))
                })
                .filter(|write| {
                    self.only.is_none_or(|(store, kind)| write.store == *store && write.kind == *kind)
                })
                .collect();
            Unapplied { seq, stands, entry, applied: applied.unwrap_or(seq), writes }
        });
        Ok(unapplied.collect())
    }

    /// The row of a store: as it was, and its number at least.
    fn store(&mut self, write: &Write) -> Result<&mut StoreRow, StoreError> {
        let name = (write.store.clone(), write.kind.clone());
        if !self.stores.contains_key(&name) {
            let key = [store_key(self.tree, &write.store, &write.kind)];
            let row = match self.rows.get_many(&key)?.pop().flatten() {
                Some(row) => StoreRow::decode(&row)?,
                None => {
                    let row = self.present.get_many(&key)?.pop().flatten();
                    let row = row.ok_or(StoreError::Corrupt { what: "a store is not listed" })?;
                    StoreRow { number: StoreRow::decode(&row)?.number, ..StoreRow::default() }
                }
            };
            self.stores.insert(name.clone(), row);
        }
        Ok(self.stores.get_mut(&name).expect("it was just put there"))
    }

    fn apply(&mut self, unapplied: &[Unapplied]) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        for one in unapplied {
            for write in &one.writes {
                let store = self.store(write)?;
                store.entries += 1;
                store.undecodable += u64::from(write.undecodable);
                let store = store.number;
                if !write.ops.is_empty() {
                    let header = one.entry.header();
                    changes.push(PendingChange {
                        tree: self.tree,
                        store,
                        fresh: false,
                        write,
                        author: header.author,
                        time: header.time,
                        height: header.height,
                        seq: one.seq,
                        id: one.entry.id(),
                        applied: one.applied,
                        stands: one.stands,
                    });
                }
            }
        }
        let mut views = Views::fetch(&self.rows, self.apply, &changes)?;
        let mut undecodable = Vec::new();
        for change in &changes {
            let applied = views.apply(self.apply, change, &Within(self.ancestry))?;
            undecodable.push((change.write, applied.undecodable));
        }
        let written: Vec<_> = views.written().collect();
        for (write, count) in undecodable {
            self.store(write)?.undecodable += u64::from(count);
        }
        for (key, value) in written {
            self.bytes += key.len() + value.as_ref().map_or(0, Value::len);
            self.rows.changed.insert(key, value);
        }
        let bytes_max = self.aside.map_or(VERSION_BYTES_MAX, |aside| aside.bytes_max);
        if self.bytes > bytes_max {
            let counted = self.rows.changed.iter();
            self.bytes = counted.map(|(key, value)| key.len() + value.as_ref().map_or(0, Value::len)).sum();
        }
        if self.bytes > bytes_max {
            let Some(aside) = self.aside else { return Err(StoreError::VersionTooLarge { bytes_max }) };
            self.rows.spilled = Some(aside.put(std::mem::take(&mut self.rows.changed))?);
            self.bytes = 0;
        }
        Ok(())
    }

    fn finish(mut self) -> PastSnapshot {
        for ((store, kind), row) in self.stores {
            self.rows.changed.insert(store_key(self.tree, &store, &kind), Some(row.encode()));
        }
        self.rows
    }
}
