//! Compares what is stored of a tree with what its log gives.

use std::collections::BTreeMap;

use eid_core::dag::Seq;
use eid_core::{EntryId, StoreName, TreeId};

use super::Found;
use super::rebuild::{LogFacts, has_log_from};
use crate::apply::is_local;
use crate::backend::{Key, Scan, Snapshot, Value, prefix_end};
use crate::cursor::Cursor;
use crate::error::StoreError;
use crate::limits::FSCK_ENTRIES_MAX;
use crate::past::decode_changed;
use crate::prune::pruned_in;
use crate::rows::{
    Edge, Facts, PRUNED, Settled, Space, StoreRow, TreeNo, TreeState, VIEW_PREFIX_BYTES, decode_frontier,
    seq_of_key, state_key, store_of_key, tree_key, tree_range,
};

type Frontiers = BTreeMap<u32, Option<Vec<EntryId>>>;
type Stores = BTreeMap<(StoreName, String), StoreRow>;

/// One tree, stored and worked out again under the same number.
pub(super) struct Sides<'a> {
    pub tree: TreeId,
    pub number: TreeNo,
    pub stored: &'a dyn Snapshot,
    pub again: &'a dyn Snapshot,
}

impl Sides<'_> {
    pub(super) fn compare(&self, log: &LogFacts, found: &mut Found) -> Result<(), StoreError> {
        let frontiers = (self.frontiers(self.stored)?, self.frontiers(self.again)?);
        let same_frontier = |a: u32, b: u32| {
            let (a, b) = (frontiers.0.get(&a).and_then(Option::as_ref), frontiers.1.get(&b));
            a.is_some() && a == b.and_then(Option::as_ref)
        };
        self.compare_state(log, &same_frontier, found)?;
        let same_facts = |a: Facts, b: Facts| {
            (a.seq, a.height, a.time) == (b.seq, b.height, b.time) && same_frontier(a.frontier, b.frontier)
        };
        self.merge(Space::Id, found, "id_row", |_, stored, again| {
            Ok(same_facts(Facts::decode(stored)?, Facts::decode(again)?))
        })?;
        self.merge(Space::Edges, found, "edges_row", |_, stored, again| {
            let (a, b) = (Edge::decode(stored)?, Edge::decode(again)?);
            let of = |edge: &Edge| (edge.short, edge.height, edge.time, edge.author, edge.parents.clone());
            Ok(of(&a) == of(&b) && same_frontier(a.frontier, b.frontier))
        })?;
        self.merge(Space::Settings, found, "settings_row", |_, stored, again| Ok(stored == again))?;
        // What was dropped on purpose is not here, and that it was on purpose is said by its row alone.
        self.merge(Space::Missing, found, "missing_row", |_, stored, again| {
            Ok(stored == again || stored == PRUNED && again.is_empty())
        })?;
        self.merge(Space::Checkpoint, found, "checkpoint_row", |_, stored, again| Ok(stored == again))?;
        self.merge(Space::Sketch, found, "sketch_row", |_, stored, again| Ok(stored == again))?;
        if log.order.payloads {
            self.compare_late(found)?;
        } else {
            let detail = "which payloads came late does not read, or are too many";
            found.problem("late_row", self.tree, None, detail);
        }
        if !log.order.changes {
            let detail = "when what counts changed does not read";
            found.problem("settled_row", self.tree, None, detail);
        }
        let is_open = |side| Ok::<_, StoreError>(self.state(side)?.map(|state| state.unsettled.is_some()));
        // Without the order, or the memory, views may be in line with what counts on one side alone.
        if is_open(self.stored)? != is_open(self.again)? {
            return Ok(());
        }
        if log.order.is_kept() {
            self.compare_changes(found)?;
        }
        self.merge(Space::Void, found, "void_row", |_, stored, again| Ok(stored == again))?;
        self.compare_stores(log.order.is_kept(), found)
    }

    fn state(&self, side: &dyn Snapshot) -> Result<Option<TreeState>, StoreError> {
        let value = side.get_many(&[state_key(self.number)])?.pop().flatten();
        Ok(value.and_then(|value| TreeState::decode(&value).ok()))
    }

    /// The numbers of late payloads begin anew when they are worked out again; their order does not.
    fn compare_late(&self, found: &mut Found) -> Result<(), StoreError> {
        let cursor = |side| Cursor::new(side, tree_range(Space::Late, self.number), FSCK_ENTRIES_MAX);
        let (mut stored, mut again) = (cursor(self.stored), cursor(self.again));
        loop {
            let (a, b) = (stored.next()?, again.next()?);
            if a.is_none() && b.is_none() {
                return Ok(());
            }
            let of = |row: Option<(Key, Value)>| row.map(|(key, row)| (key[5..9].to_vec(), row));
            if of(a) != of(b) {
                found.problem(
                    "late_row",
                    self.tree,
                    None,
                    "the row of a late payload is not what the log gives",
                );
                return Ok(());
            }
        }
    }

    /// One that changed nothing may have left no row.
    fn compare_changes(&self, found: &mut Found) -> Result<(), StoreError> {
        let cursor = |side| Cursor::new(side, tree_range(Space::Settled, self.number), FSCK_ENTRIES_MAX);
        let next = |rows: &mut Cursor<'_>| -> Result<Option<Settled>, StoreError> {
            while let Some((_, row)) = rows.next()? {
                let settled = Settled::decode(&row)?;
                if settled.first().is_some() {
                    return Ok(Some(settled));
                }
            }
            Ok(None)
        };
        let (mut stored, mut again) = (cursor(self.stored), cursor(self.again));
        loop {
            let (a, b) = (next(&mut stored)?, next(&mut again)?);
            if a.is_none() && b.is_none() {
                return Ok(());
            }
            let of = |settled: Option<Settled>| settled.map(|it| (it.applied, it.voided, it.restored));
            if of(a) != of(b) {
                let detail = "a change of what counts is not what the log gives";
                found.problem("settled_row", self.tree, None, detail);
                return Ok(());
            }
        }
    }

    fn compare_state(
        &self,
        log: &LogFacts,
        same_frontier: &dyn Fn(u32, u32) -> bool,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let Some(stored) = self.state(self.stored)? else {
            found.problem("state_row", self.tree, None, "the counts and tips of the tree do not read");
            return Ok(());
        };
        let again = self.state(self.again)?.unwrap_or_default();
        // Tips and counts come from the log a second way, which shares nothing with the door.
        let tips_again: Vec<(EntryId, Seq)> = again.tips.iter().map(|(id, facts)| (*id, facts.seq)).collect();
        let tips: Vec<(EntryId, Seq)> = stored.tips.iter().map(|(id, facts)| (*id, facts.seq)).collect();
        let facts_differ = stored.tips.iter().any(|(id, facts)| {
            again.tips.get(id).is_some_and(|other| {
                (facts.height, facts.time) != (other.height, other.time)
                    || !same_frontier(facts.frontier, other.frontier)
            })
        });
        if tips != tips_again || !stored.tips.keys().eq(&log.tips) || facts_differ {
            found.problem("tips", self.tree, None, "the tips are not the entries without children");
        }
        let counts = |state: &TreeState| (state.next_seq, state.bytes, state.missing, state.time);
        let from_log = (stored.next_seq.0, stored.bytes) == (log.entries, log.bytes);
        let same_standing = stored.unsettled.is_some() == again.unsettled.is_some();
        let voids_differ = same_standing && stored.voids != again.voids;
        let pruned = pruned_in((self.stored, self.number))?.len() as u64;
        if counts(&stored) != counts(&again) || voids_differ || !from_log || stored.pruned != pruned {
            found.problem("counts", self.tree, None, "the counts of the tree are wrong");
        }
        if has_log_from(self.stored, self.number, stored.next_seq)? {
            let detail = "the log goes on behind the last entry";
            found.problem("log_row", self.tree, Some(stored.next_seq), detail);
        }
        Ok(())
    }

    fn frontiers(&self, side: &dyn Snapshot) -> Result<Frontiers, StoreError> {
        let (from, to) = tree_range(Space::Frontier, self.number);
        let rows = side.scan_many(&[Scan::range(from, to)])?.pop().unwrap_or_default();
        Ok(rows
            .iter()
            .filter_map(|(key, value)| {
                let number = key.get(5..9)?.try_into().ok()?;
                Some((u32::from_be_bytes(number), decode_frontier(value).ok()))
            })
            .collect())
    }

    fn stores(&self, side: &dyn Snapshot, found: &mut Found) -> Result<Stores, StoreError> {
        let (from, to) = tree_range(Space::Stores, self.number);
        let mut stores = Stores::new();
        for (key, value) in side.scan_many(&[Scan::range(from, to)])?.pop().unwrap_or_default() {
            match (store_of_key(&key), StoreRow::decode(&value)) {
                (Ok(name), Ok(row)) => {
                    stores.insert(name, row);
                }
                _ => found.problem("store_row", self.tree, None, "the row of a store does not read"),
            }
        }
        Ok(stores)
    }

    fn compare_stores(&self, in_time: bool, found: &mut Found) -> Result<(), StoreError> {
        let stored = self.stores(self.stored, found)?;
        let again = self.stores(self.again, found)?;
        let unwritten = stored.iter().filter(|(name, row)| row.entries > 0 && !again.contains_key(name));
        for ((name, kind), _) in unwritten {
            found.problem("store_row", self.tree, None, &format!("nothing writes the store {name} ({kind})"));
        }
        for ((name, kind), row) in &again {
            let Some(held) = stored.get(&(name.clone(), kind.clone())) else {
                let detail = format!("the store {name} ({kind}) is not listed");
                found.problem("store_row", self.tree, None, &detail);
                continue;
            };
            if (held.entries, held.undecodable) != (row.entries, row.undecodable) {
                let detail = format!("the counts of the store {name} ({kind}) are wrong");
                found.problem("store_row", self.tree, None, &detail);
            }
            let range = |space, number: u32| {
                let from = tree_key(space, self.number, &number.to_be_bytes());
                let to = prefix_end(&from);
                (from, to)
            };
            let sides =
                |space| ((self.stored, range(space, held.number)), (self.again, range(space, row.number)));
            let detail = format!("a row of the store {name} ({kind}) is not what its entries give");
            let (stored, again) = sides(Space::View);
            merge_ranges(stored, again, VIEW_PREFIX_BYTES, |key, stored, again| {
                if !is_local(&key[VIEW_PREFIX_BYTES..]) && !same_row(in_time, stored, again) {
                    found.problem("view_row", self.tree, None, &detail);
                }
                Ok(())
            })?;
            if !in_time {
                continue;
            }
            let detail = format!("an earlier row of the store {name} ({kind}) is not what its entries give");
            let (stored, again) = sides(Space::Past);
            merge_ranges(stored, again, VIEW_PREFIX_BYTES, |_, stored, again| {
                if stored != again {
                    found.problem("past_row", self.tree, None, &detail);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Walks one space of both sides. `same` says whether two rows of one key are.
    fn merge(
        &self,
        space: Space,
        found: &mut Found,
        name: &'static str,
        same: impl Fn(&Key, &Value, &Value) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let range = tree_range(space, self.number);
        merge_ranges((self.stored, range.clone()), (self.again, range), 0, |key, stored, again| {
            let seq = match space {
                Space::Edges | Space::Missing | Space::Void => seq_of_key(key).ok(),
                Space::Id => again.or(stored).and_then(|row| Facts::decode(row).ok()).map(|facts| facts.seq),
                _ => None,
            };
            match (stored, again) {
                (Some(stored), Some(again)) => {
                    // A row that does not read is not the same.
                    if !same(key, stored, again).unwrap_or(false) {
                        found.problem(name, self.tree, seq, "the row is not what the log gives");
                    }
                }
                (None, _) => found.problem(name, self.tree, seq, "the row is not there"),
                (_, None) => found.problem(name, self.tree, seq, "the row has no place in the log"),
            }
            Ok(())
        })
    }
}

type Row<'a> = (&'a dyn Snapshot, (Key, Key));

/// Whether two rows of a view are the same, and changed by the same interval where that can be compared.
fn same_row(in_time: bool, stored: Option<&Value>, again: Option<&Value>) -> bool {
    let value = |row: Option<&Value>| Some(decode_changed(row?.clone()).ok()?.1);
    stored == again || !in_time && value(stored).is_some_and(|stored| Some(stored) == value(again))
}

/// Walks two ranges side by side; keys are compared behind `skip` bytes.
fn merge_ranges(
    a: Row<'_>,
    b: Row<'_>,
    skip: usize,
    mut visit: impl FnMut(&Key, Option<&Value>, Option<&Value>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let step = FSCK_ENTRIES_MAX;
    let (mut a, mut b) = (Cursor::new(a.0, a.1, step), Cursor::new(b.0, b.1, step));
    let (mut left, mut right) = (a.next()?, b.next()?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((x, _)), Some((y, _))) => x[skip..].cmp(&y[skip..]),
        };
        let from_left = if order.is_le() { left.take() } else { None };
        let from_right = if order.is_ge() { right.take() } else { None };
        if let Some((key, _)) = from_left.as_ref().or(from_right.as_ref()) {
            visit(key, from_left.as_ref().map(|row| &row.1), from_right.as_ref().map(|row| &row.1))?;
        }
        if from_left.is_some() {
            left = a.next()?;
        }
        if from_right.is_some() {
            right = b.next()?;
        }
    }
}
