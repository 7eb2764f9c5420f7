//! Payloads that are dropped on purpose: the store shows what the others give, and nobody is asked for them.
//!
//! Whatever is derived is derived from the payloads that are here, so a pruned payload has no effect any more, as one that
//! never came has none: the tree is worked out again without it, in the time that a repair takes. It is not taken in when
//! somebody sends it either, until it is wanted again.

use std::collections::BTreeSet;

use eid_core::dag::Seq;
use eid_core::{Entry, EntryId, TreeId};

use crate::backend::{Batch, Key, Snapshot, Value};
use crate::cursor::Cursor;
use crate::entry_store::EntryStore;
use crate::error::StoreError;
use crate::limits::FSCK_ENTRIES_MAX;
use crate::offer::Admitted;
use crate::rows::{
    Facts, PRUNED, Space, TreeNo, TreeState, decode_log, decode_tree_no, id_key, missing_key,
    place_of_missing_key, seq_key, state_key, tree_range, trees_key,
};

/// Payloads by the position of their entry and by section.
pub(crate) type Places = BTreeSet<(Seq, usize)>;

impl EntryStore {
    /// Drops the payloads of entries and remembers that it was on purpose: they have no effect here any more, are not
    /// asked for, and are not taken in when they come. Those that are absent are not asked for either. Payloads of
    /// settings stay. Gives how many payloads this changed.
    ///
    /// Takes as long as a repair of the tree, for however many entries; nothing is admitted meanwhile.
    ///
    /// # Errors
    /// [`StoreError::UnknownTree`], and whatever the backend fails with.
    pub fn prune_payloads(&self, tree: &TreeId, entries: &[EntryId]) -> Result<u64, StoreError> {
        let pruned = self.exclusively(|| {
            let snapshot = self.backend().snapshot()?;
            let number = number_of(&*snapshot, tree)?;
            let before = pruned_in((&*snapshot, number))?;
            let places: Places = places_of((&*snapshot, number), entries)?;
            let places: Places = places.difference(&before).copied().collect();
            if !places.is_empty() {
                crate::fsck::rewrite(self, *tree, (&*snapshot, number), &places)?;
            }
            Ok(places.len() as u64)
        })?;
        if pruned > 0
            && let Some(snapshot) = self.tree(tree)?
        {
            let end = Seq(snapshot.count());
            self.tell(&[Admitted { tree: *tree, seqs: end..end, local: false, standing: false }]);
        }
        Ok(pruned)
    }

    /// Takes back that payloads of entries were dropped on purpose: they are absent, and asked for. Gives how many.
    ///
    /// # Errors
    /// [`StoreError::UnknownTree`], and whatever the backend fails with.
    pub fn want_payloads(&self, tree: &TreeId, entries: &[EntryId]) -> Result<u64, StoreError> {
        self.exclusively(|| {
            let snapshot = self.backend().snapshot()?;
            let number = number_of(&*snapshot, tree)?;
            let pruned = pruned_in((&*snapshot, number))?;
            let wanted = places_of((&*snapshot, number), entries)?;
            let wanted: Vec<(Seq, usize)> = wanted.intersection(&pruned).copied().collect();
            let state = snapshot.get_many(&[state_key(number)])?.pop().flatten();
            let mut state = TreeState::decode(&state.ok_or(StoreError::UnknownTree)?)?;
            state.pruned = state.pruned.saturating_sub(wanted.len() as u64);
            let absent = |(seq, section): &(Seq, usize)| (missing_key(number, *seq, *section), Value::new());
            let mut puts: Vec<(Key, Value)> = wanted.iter().map(absent).collect();
            puts.push((state_key(number), state.encode()));
            self.backend().commit(Batch { puts, ..Batch::default() })?;
            Ok(wanted.len() as u64)
        })
    }
}

fn number_of(snapshot: &dyn Snapshot, tree: &TreeId) -> Result<TreeNo, StoreError> {
    let number = snapshot.get_many(&[trees_key(tree)])?.pop().flatten();
    decode_tree_no(&number.ok_or(StoreError::UnknownTree)?)
}

/// The payloads of entries, but for those of settings. Entries that are not held have none.
fn places_of((snapshot, number): (&dyn Snapshot, TreeNo), entries: &[EntryId]) -> Result<Places, StoreError> {
    let mut places = Places::new();
    for id in entries {
        let Some(facts) = snapshot.get_many(&[id_key(number, id)])?.pop().flatten() else { continue };
        let seq = Facts::decode(&facts)?.seq;
        let row = snapshot.get_many(&[seq_key(Space::Log, number, seq)])?.pop().flatten();
        let logged =
            decode_log(seq, &row.ok_or(StoreError::Corrupt { what: "an entry is not in the log" })?)?;
        let entry = Entry::parse_stored(*id, logged.block, logged.payloads)
            .map_err(|_| StoreError::Corrupt { what: "an entry in the log" })?;
        let sections = entry.header().sections.iter().enumerate();
        let others = sections.filter(|(_, section)| !section.store.is_settings());
        places.extend(others.map(|(section, _)| (seq, section)));
    }
    Ok(places)
}

/// The payloads of a tree that were dropped on purpose.
pub(crate) fn pruned_in((snapshot, number): (&dyn Snapshot, TreeNo)) -> Result<Places, StoreError> {
    let mut rows = Cursor::new(snapshot, tree_range(Space::Missing, number), FSCK_ENTRIES_MAX);
    let mut places = Places::new();
    while let Some((key, value)) = rows.next()? {
        if value == PRUNED {
            places.insert(place_of_missing_key(&key)?);
        }
    }
    Ok(places)
}

/// Marks payloads in a tree that was worked out again without them, and gives how many there are. Positions may be others
/// than in the source.
pub(crate) fn carry(
    store: &EntryStore,
    source: (&dyn Snapshot, TreeNo),
    target: TreeNo,
    places: &Places,
) -> Result<u64, StoreError> {
    let mut pruned = 0;
    let places: Vec<&(Seq, usize)> = places.iter().collect();
    for some in places.chunks(FSCK_ENTRIES_MAX) {
        let logs: Vec<Key> = some.iter().map(|(seq, _)| seq_key(Space::Log, source.1, *seq)).collect();
        let mut keys = Vec::with_capacity(some.len());
        let rebuilt = store.backend().snapshot()?;
        for ((seq, section), row) in some.iter().zip(source.0.get_many(&logs)?) {
            let Some(logged) = row.and_then(|row| decode_log(*seq, &row).ok()) else { continue };
            let id = EntryId::of_block(&logged.block);
            let facts = rebuilt.get_many(&[id_key(target, &id)])?.pop().flatten();
            if let Some(facts) = facts {
                keys.push(missing_key(target, Facts::decode(&facts)?.seq, *section));
            }
        }
        let held = rebuilt.get_many(&keys)?;
        let puts: Vec<(Key, Value)> = keys
            .into_iter()
            .zip(held)
            .filter_map(|(key, held)| held.map(|_| (key, Value::from_static(PRUNED))))
            .collect();
        pruned += puts.len() as u64;
        store.backend().commit(Batch { puts, ..Batch::default() })?;
    }
    Ok(pruned)
}
