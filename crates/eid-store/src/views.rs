//! The rows of views while a batch is admitted: read once for all its changes, written once.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, PublicKey, ReadError, Time};

use crate::apply::{Applied, Apply, Change, ViewRows, Wanted};
use crate::backend::{Batch, Key, Scan, Snapshot, Value, prefix_end};
use crate::error::StoreError;
use crate::prepare::Write;
use crate::rows::{Facts, Space, TreeNo, VIEW_PREFIX_BYTES, decode_log, id_key, seq_key, view_key};

/// One change to one view, waiting for its rows.
#[derive(Debug)]
pub(crate) struct PendingChange<'a> {
    pub tree: TreeNo,
    pub store: u32,
    /// Whether the view has no rows before this batch.
    pub fresh: bool,
    pub write: &'a Write,
    pub author: PublicKey,
    pub time: Time,
    pub height: Height,
    pub seq: Seq,
    pub id: EntryId,
    /// How far the log goes when it is applied: its own position, or the end when its payload came later.
    pub applied: Seq,
}

impl PendingChange<'_> {
    fn change(&self) -> Change<'_> {
        Change {
            store: &self.write.store,
            kind: &self.write.kind,
            author: self.author,
            time: self.time,
            height: self.height,
            seq: self.seq,
            id: self.id,
            ops: &self.write.ops,
        }
    }
}

/// Ids of entries that are not stored yet.
pub(crate) trait PendingIds {
    fn pending_id(&self, tree: TreeNo, seq: Seq) -> Option<EntryId>;
    fn pending_seq(&self, tree: TreeNo, id: &EntryId) -> Option<Seq>;
}

/// Rows by their full keys: `None` is known to be absent.
#[derive(Debug)]
pub(crate) struct Views<'a> {
    snapshot: &'a dyn Snapshot,
    rows: BTreeMap<Key, Row>,
    /// Ranges of which every row is in `rows`; sorted and disjoint.
    covered: Vec<(Key, Key)>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    value: Option<Value>,
    dirty: bool,
}

impl<'a> Views<'a> {
    /// Nothing fetched: every read goes to the backend by itself.
    pub(crate) fn unfetched(snapshot: &'a dyn Snapshot) -> Self {
        Self { snapshot, rows: BTreeMap::new(), covered: Vec::new() }
    }

    /// Fetches what the changes will read, with at most one call to the backend.
    pub(crate) fn fetch(
        snapshot: &'a dyn Snapshot,
        apply: &dyn Apply,
        changes: &[PendingChange<'_>],
    ) -> Result<Self, StoreError> {
        let (mut keys, mut ranges, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
        let mut wanted = Wanted::default();
        for pending in changes {
            apply.reads(&pending.change(), &mut wanted);
            keys.extend(wanted.ids.drain(..).map(|id| id_key(pending.tree, &id)));
            if pending.fresh {
                let from = view_key(pending.tree, pending.store, &[]);
                if fresh.last().is_none_or(|(last, _)| *last != from) {
                    fresh.push((from.clone(), prefix_end(&from)));
                }
                wanted.keys.clear();
                wanted.ranges.clear();
                continue;
            }
            keys.extend(wanted.keys.drain(..).map(|key| view_key(pending.tree, pending.store, &key)));
            ranges.extend(wanted.ranges.drain(..).map(|(from, to)| {
                (view_key(pending.tree, pending.store, &from), view_key(pending.tree, pending.store, &to))
            }));
        }
        let ranges = merge_ranges(ranges);
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| covering(&ranges, key).is_none());
        let mut rows = BTreeMap::new();
        let known = |value| Row { value, dirty: false };
        if ranges.is_empty() && !keys.is_empty() {
            let values = snapshot.get_many(&keys)?;
            rows.extend(keys.into_iter().zip(values.into_iter().map(known)));
        } else if !ranges.is_empty() {
            let scans = ranges.iter().map(|(from, to)| Scan::range(from.clone(), to.clone()));
            let points = keys.iter().map(|key| {
                let mut to = key.clone();
                to.push(0);
                Scan::range(key.clone(), to)
            });
            let found = snapshot.scan_many(&scans.chain(points).collect::<Vec<_>>())?;
            rows.extend(keys.into_iter().map(|key| (key, Row::default())));
            rows.extend(found.into_iter().flatten().map(|(key, value)| (key, known(Some(value)))));
        }
        let covered = merge_ranges(ranges.into_iter().chain(fresh).collect());
        Ok(Self { snapshot, rows, covered })
    }

    /// Applies one change.
    pub(crate) fn apply(
        &mut self,
        apply: &dyn Apply,
        pending: &PendingChange<'_>,
        ids: &dyn PendingIds,
    ) -> Result<Applied, StoreError> {
        let mut view = OneView::new(self, (pending.tree, pending.store), ids, pending.applied);
        let applied = apply.apply(&pending.change(), &mut view)?;
        if eid_core::sabotage::is(eid_core::sabotage::Sabotage::ApplyTwice) {
            let mut again = pending.change();
            again.time = Time(again.time.0.saturating_add(1));
            apply.apply(&again, &mut view)?;
        }
        Ok(applied)
    }

    /// Adds what was written to a batch.
    pub(crate) fn write_into(self, batch: &mut Batch) {
        for (key, row) in self.rows.into_iter().filter(|(_, row)| row.dirty) {
            match row.value {
                Some(value) => batch.puts.push((key, value)),
                None => batch.deletes.push(key),
            }
        }
    }

    fn get(&mut self, key: Key) -> Result<Option<Value>, StoreError> {
        if let Some(row) = self.rows.get(&key) {
            return Ok(row.value.clone());
        }
        if covering(&self.covered, &key).is_some() {
            return Ok(None);
        }
        let value = self.snapshot.get_many(std::slice::from_ref(&key))?.pop().flatten();
        self.rows.insert(key, Row { value: value.clone(), dirty: false });
        Ok(value)
    }

    fn scan(&mut self, from: Key, to: Key) -> Result<Vec<(Key, Value)>, StoreError> {
        if to <= from {
            return Ok(Vec::new());
        }
        if covering(&self.covered, &from).is_none_or(|(_, end)| to > *end) {
            let found = self.snapshot.scan_many(&[Scan::range(from.clone(), to.clone())])?;
            for (key, value) in found.into_iter().flatten() {
                self.rows.entry(key).or_insert(Row { value: Some(value), dirty: false });
            }
            self.covered.push((from.clone(), to.clone()));
            self.covered = merge_ranges(std::mem::take(&mut self.covered));
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let rows = self.rows.range(range);
        Ok(rows.filter_map(|(key, row)| row.value.clone().map(|value| (key.clone(), value))).collect())
    }

    fn set(&mut self, key: Key, value: Option<Value>) {
        self.rows.insert(key, Row { value, dirty: true });
    }
}

/// Sorts ranges and joins those that touch.
fn merge_ranges(mut ranges: Vec<(Key, Key)>) -> Vec<(Key, Key)> {
    ranges.retain(|(from, to)| from < to);
    ranges.sort_unstable();
    let mut merged: Vec<(Key, Key)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, end)) if from <= *end => {
                if to > *end {
                    *end = to;
                }
            }
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// The range that has this key.
fn covering<'r>(ranges: &'r [(Key, Key)], key: &Key) -> Option<&'r (Key, Key)> {
    let after = ranges.partition_point(|(from, _)| from <= key);
    ranges[..after].last().filter(|(_, to)| key < to)
}

/// One view within the rows of all.
pub(crate) struct OneView<'v, 'a> {
    views: &'v mut Views<'a>,
    tree: TreeNo,
    store: u32,
    ids: &'v dyn PendingIds,
    /// Entries at or after this position are not there yet.
    end: Seq,
}

impl<'v, 'a> OneView<'v, 'a> {
    pub(crate) fn new(
        views: &'v mut Views<'a>,
        (tree, store): (TreeNo, u32),
        ids: &'v dyn PendingIds,
        end: Seq,
    ) -> Self {
        Self { views, tree, store, ids, end }
    }

    fn key(&self, key: &[u8]) -> Key {
        view_key(self.tree, self.store, key)
    }
}

impl ViewRows for OneView<'_, '_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.views.get(self.key(key))?)
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Result<Vec<(Key, Bytes)>, ReadError> {
        let rows = self.views.scan(self.key(from), self.key(to))?;
        Ok(rows.into_iter().map(|(key, value)| (key[VIEW_PREFIX_BYTES..].to_vec(), value)).collect())
    }

    fn put(&mut self, key: &[u8], value: Bytes) {
        self.views.set(self.key(key), Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.views.set(self.key(key), None);
    }

    fn id_of(&mut self, seq: Seq) -> Result<EntryId, ReadError> {
        if let Some(id) = self.ids.pending_id(self.tree, seq) {
            return Ok(id);
        }
        Ok(stored_id(self.views.snapshot, self.tree, seq)?)
    }

    fn seq_of(&mut self, id: &EntryId) -> Result<Option<Seq>, ReadError> {
        let seq = match self.ids.pending_seq(self.tree, id) {
            Some(seq) => Some(seq),
            None => {
                let facts = self.views.get(id_key(self.tree, id))?;
                facts.as_ref().map(Facts::decode).transpose()?.map(|facts| facts.seq)
            }
        };
        Ok(seq.filter(|seq| *seq < self.end))
    }
}

/// The id of a stored entry: the hash of its block.
pub(crate) fn stored_id(snapshot: &dyn Snapshot, tree: TreeNo, seq: Seq) -> Result<EntryId, StoreError> {
    let value = snapshot.get_many(&[seq_key(Space::Log, tree, seq)])?.pop().flatten();
    let value = value.ok_or(StoreError::Corrupt { what: "an entry is not in the log" })?;
    Ok(EntryId::of_block(&decode_log(seq, &value)?.block))
}
