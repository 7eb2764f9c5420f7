//! The rows of views while a batch is admitted: read once for all its changes, written once.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, PublicKey, ReadError, Time};

use crate::apply::{Applied, Apply, Change, ViewRows, Wanted, is_local};
use crate::backend::{BackendError, Batch, Direction, Key, Scan, Snapshot, Value, prefix_end};
use crate::error::StoreError;
use crate::past::{Interval, decode_changed, encode_changed, past_key};
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
    /// Whether the entry counts.
    pub stands: bool,
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
    /// Whether a stored entry is part of what is worked on.
    fn sees(&self, _: Seq) -> bool {
        true
    }
}

/// Rows by their full keys: `None` is known to be absent.
#[derive(Debug)]
pub(crate) struct Views<'a> {
    snapshot: &'a dyn Snapshot,
    rows: BTreeMap<Key, Row>,
    /// Ranges of which every row is in `rows`; sorted and disjoint.
    covered: Vec<(Key, Key)>,
    /// Rows by id, by their keys.
    facts: HashMap<Key, Option<Value>>,
    /// What rows were before an interval changed them, by the keys of the past.
    left_behind: Vec<(Key, Value)>,
    /// Rows that were written and never read, with the interval that did so first.
    unseen: Vec<(Key, Interval)>,
    /// Of rows that were read and written, counted as often as they were.
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct Row {
    value: Option<Bytes>,
    /// What changed it last.
    changed: Interval,
    dirty: bool,
}

impl Row {
    fn stored(value: Option<Value>) -> Result<Self, BackendError> {
        let Some(value) = value else { return Ok(Self::default()) };
        let (changed, value) = decode_changed(value)?;
        Ok(Self { value: Some(value), changed, dirty: false })
    }
}

impl<'a> Views<'a> {
    /// Nothing fetched: every read goes to the backend by itself.
    pub(crate) fn unfetched(snapshot: &'a dyn Snapshot) -> Self {
        Self {
            snapshot,
            rows: BTreeMap::new(),
            covered: Vec::new(),
            facts: HashMap::new(),
            left_behind: Vec::new(),
            unseen: Vec::new(),
            bytes: 0,
        }
    }

    /// About how many bytes of rows are held: never fewer.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn count(&mut self, key: &Key, value: Option<&Bytes>) {
        self.bytes += key.len() + value.map_or(0, Bytes::len);
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
        let mut views = Self::unfetched(snapshot);
        if ranges.is_empty() && !keys.is_empty() {
            let values = snapshot.get_many(&keys)?;
            for (key, value) in keys.into_iter().zip(values) {
                views.fetched(key, value)?;
            }
        } else if !ranges.is_empty() {
            let scans = ranges.iter().map(|(from, to)| Scan::range(from.clone(), to.clone()));
            let points = keys.iter().map(|key| {
                let mut to = key.clone();
                to.push(0);
                Scan::range(key.clone(), to)
            });
            let found = snapshot.scan_many(&scans.chain(points).collect::<Vec<_>>())?;
            for key in keys {
                views.fetched(key, None)?;
            }
            for (key, value) in found.into_iter().flatten() {
                views.fetched(key, Some(value))?;
            }
        }
        views.covered = merge_ranges(ranges.into_iter().chain(fresh).collect());
        Ok(views)
    }

    fn fetched(&mut self, key: Key, value: Option<Value>) -> Result<(), BackendError> {
        if key.first() == Some(&(Space::Id as u8)) {
            self.facts.insert(key, value);
        } else {
            self.rows.insert(key, Row::stored(value)?);
        }
        Ok(())
    }

    /// Applies one change.
    pub(crate) fn apply(
        &mut self,
        apply: &dyn Apply,
        pending: &PendingChange<'_>,
        ids: &dyn PendingIds,
    ) -> Result<Applied, StoreError> {
        let mut view = OneView::new(self, (pending.tree, pending.store), ids, pending.applied);
        if !pending.stands {
            return Ok(apply.apply_void(&pending.change(), &mut view)?);
        }
        let applied = apply.apply(&pending.change(), &mut view)?;
        if eid_core::sabotage::is(eid_core::sabotage::Sabotage::ApplyTwice) {
            let mut again = pending.change();
            again.time = Time(again.time.0.saturating_add(1));
            apply.apply(&again, &mut view)?;
        }
        Ok(applied)
    }

    /// Adds what was written to a batch, with what it leaves behind.
    pub(crate) fn write_into(mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let unseen = std::mem::take(&mut self.unseen);
        if !unseen.is_empty() {
            let keys: Vec<Key> = unseen.iter().map(|(key, _)| key.clone()).collect();
            for ((key, interval), value) in unseen.into_iter().zip(self.snapshot.get_many(&keys)?) {
                let Some(value) = value else { continue };
                if decode_changed(value.clone())?.0 < interval {
                    self.left_behind.push((past_key(&key, interval), value));
                }
            }
        }
        batch.puts.append(&mut self.left_behind);
        for (key, value) in self.written() {
            match value {
                Some(value) => batch.puts.push((key, value)),
                None => batch.deletes.push(key),
            }
        }
        Ok(())
    }

    /// What was written, by full keys and as it is stored.
    pub(crate) fn written(self) -> impl Iterator<Item = (Key, Option<Value>)> {
        let written = self.rows.into_iter().filter(|(_, row)| row.dirty);
        written.map(|(key, row)| (key, row.value.map(|value| encode_changed(row.changed, &value))))
    }

    fn get(&mut self, key: Key) -> Result<Option<Bytes>, StoreError> {
        if let Some(row) = self.rows.get(&key) {
            return Ok(row.value.clone());
        }
        if covering(&self.covered, &key).is_some() {
            return Ok(None);
        }
        let value = self.snapshot.get_many(std::slice::from_ref(&key))?.pop().flatten();
        let row = Row::stored(value)?;
        let value = row.value.clone();
        self.count(&key, value.as_ref());
        self.rows.insert(key, row);
        Ok(value)
    }

    fn scan(&mut self, from: Key, to: Key) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if to <= from {
            return Ok(Vec::new());
        }
        if covering(&self.covered, &from).is_none_or(|(_, end)| to > *end) {
            let found = self.snapshot.scan_many(&[Scan::range(from.clone(), to.clone())])?;
            for (key, value) in found.into_iter().flatten() {
                self.count(&key, Some(&value));
                if let Slot::Vacant(place) = self.rows.entry(key) {
                    place.insert(Row::stored(Some(value))?);
                }
            }
            self.covered.push((from.clone(), to.clone()));
            self.covered = merge_ranges(std::mem::take(&mut self.covered));
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let rows = self.rows.range(range);
        Ok(rows.filter_map(|(key, row)| row.value.clone().map(|value| (key.clone(), value))).collect())
    }

    /// At most so many rows of a range, from one of its ends on. Of rows that are not known yet no more are read than that
    /// takes.
    fn scan_some(
        &mut self,
        from: Key,
        to: Key,
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if to <= from || max_rows == 0 {
            return Ok(Vec::new());
        }
        let (mut start, mut end) = (from.clone(), to.clone());
        if covering(&self.covered, &from).is_none_or(|(_, end)| to > *end) {
            let range = (Bound::Included(&from), Bound::Excluded(&to));
            let gone = self.rows.range::<Key, _>(range).filter(|(_, row)| row.value.is_none()).count();
            let wanted = max_rows.saturating_add(gone);
            let scan = Scan { direction, max_rows: wanted, ..Scan::range(from, to) };
            let found = self.snapshot.scan_many(&[scan])?.pop().unwrap_or_default();
            // Beyond the last one there may be more.
            match (found.last(), direction) {
                (Some((last, _)), Direction::Forward) if found.len() == wanted => {
                    end = [&last[..], &[0]].concat();
                }
                (Some((last, _)), Direction::Backward) if found.len() == wanted => start.clone_from(last),
                _ => {}
            }
            for (key, value) in found {
                self.count(&key, Some(&value));
                if let Slot::Vacant(place) = self.rows.entry(key) {
                    place.insert(Row::stored(Some(value))?);
                }
            }
            self.covered.push((start.clone(), end.clone()));
            self.covered = merge_ranges(std::mem::take(&mut self.covered));
        }
        let rows = self.rows.range((Bound::Included(start), Bound::Excluded(end)));
        let rows = rows.filter_map(|(key, row)| row.value.clone().map(|value| (key.clone(), value)));
        Ok(match direction {
            Direction::Forward => rows.take(max_rows).collect(),
            Direction::Backward => rows.rev().take(max_rows).collect(),
        })
    }

    /// Changes a row, and keeps what it was when this is the first change of the interval.
    fn set(&mut self, key: Key, value: Option<Bytes>, interval: Interval) {
        let own = is_local(&key[VIEW_PREFIX_BYTES..]);
        match self.rows.get(&key) {
            _ if own => {}
            Some(Row { value: Some(before), changed, .. }) if *changed < interval => {
                let row = (past_key(&key, interval), encode_changed(*changed, before));
                self.bytes += row.0.len() + row.1.len();
                self.left_behind.push(row);
            }
            Some(_) => {}
            None if covering(&self.covered, &key).is_none() => self.unseen.push((key.clone(), interval)),
            None => {}
        }
        self.count(&key, value.as_ref());
        self.rows.insert(key, Row { value, changed: interval, dirty: true });
    }

    fn facts(&mut self, key: Key) -> Result<Option<Facts>, StoreError> {
        let value = match self.facts.get(&key) {
            Some(value) => value.clone(),
            None => self.snapshot.get_many(std::slice::from_ref(&key))?.pop().flatten(),
        };
        value.as_ref().map(Facts::decode).transpose()
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

    /// Writes or removes a row by its full key, and gives its key within this view. Rows of this device's own and those
    /// of other views are left alone.
    pub(crate) fn replace(&mut self, key: &Key, value: Option<Bytes>) -> Option<Key> {
        let within = key.strip_prefix(&self.key(&[])[..]).filter(|within| !is_local(within))?.to_vec();
        self.views.set(key.clone(), value, Interval::of(self.end));
        Some(within)
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

    fn scan_some(
        &mut self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, ReadError> {
        let rows = self.views.scan_some(self.key(from), self.key(to), direction, max_rows)?;
        Ok(rows.into_iter().map(|(key, value)| (key[VIEW_PREFIX_BYTES..].to_vec(), value)).collect())
    }

    fn put(&mut self, key: &[u8], value: Bytes) {
        self.views.set(self.key(key), Some(value), Interval::of(self.end));
    }

    fn delete(&mut self, key: &[u8]) {
        self.views.set(self.key(key), None, Interval::of(self.end));
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
            None => self.views.facts(id_key(self.tree, id))?.map(|facts| facts.seq),
        };
        Ok(seq.filter(|seq| *seq < self.end && self.ids.sees(*seq)))
    }
}

/// The id of a stored entry: the hash of its block.
pub(crate) fn stored_id(snapshot: &dyn Snapshot, tree: TreeNo, seq: Seq) -> Result<EntryId, StoreError> {
    let value = snapshot.get_many(&[seq_key(Space::Log, tree, seq)])?.pop().flatten();
    let value = value.ok_or(StoreError::Corrupt { what: "an entry is not in the log" })?;
    Ok(EntryId::of_block(&decode_log(seq, &value)?.block))
}
