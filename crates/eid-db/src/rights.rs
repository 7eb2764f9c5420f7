//! Who may write what: the settings that an entry descends from decide, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eid_core::{
    EntryId, History, Invalid, Judge, Permission, PublicKey, Question, ReadError, Refusal, SettingsNode,
    SettingsOp, SettingsPast, Slot, TreeId,
};

use crate::limits::{KNOWN_AUTHORS_MAX, REMEMBERED_VALUES_MAX};

/// The level of whoever is not an admin: weaker than all of theirs.
const NO_LEVEL: u64 = 1 << 32;

/// One write of a slot that no later one has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotValue {
    /// What it gives; nothing when it revokes.
    pub permission: Option<Permission>,
    /// The settings entry that wrote it.
    pub entry: EntryId,
    /// The level of its author, smaller is stronger.
    by: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Title {
    text: String,
    entry: EntryId,
    by: u64,
}

/// The settings of a database as a set of settings entries gives them.
///
/// Each slot has the writes that no later one replaced: several when they were made without knowing of each other.
/// The most restrictive of them counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    slots: BTreeMap<Slot, Vec<SlotValue>>,
    titles: Vec<Title>,
}

impl Settings {
    /// What a slot gives, if it was written: `Some(None)` when it is revoked.
    #[must_use]
    pub fn slot(&self, slot: &Slot) -> Option<Option<Permission>> {
        // Revoked is below every permission.
        self.slots.get(slot)?.iter().map(|value| value.permission).min()
    }

    /// What a key may do: by its own slot if it has one, even a revoked one, else by the one for everyone.
    #[must_use]
    pub fn permission(&self, key: &PublicKey) -> Option<Permission> {
        self.slot(&Slot::Key(*key)).or_else(|| self.slot(&Slot::Everyone)).flatten()
    }

    /// Every slot that was ever written, with what it gives.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Option<Permission>)> + '_ {
        self.slots
            .iter()
            .map(|(slot, values)| (*slot, values.iter().map(|value| value.permission).min().flatten()))
    }

    /// The shared title. Of several that were given concurrently, that of the strongest author, then of the smallest
    /// id, so that all replicas show the same.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.titles.iter().min_by_key(|title| (title.by, title.entry)).map(|title| title.text.as_str())
    }

    fn level(&self, key: &PublicKey) -> u64 {
        self.permission(key).and_then(Permission::level).map_or(NO_LEVEL, u64::from)
    }

    /// How much memory it takes, in slot values.
    fn weight(&self) -> usize {
        1 + self.slots.values().map(Vec::len).sum::<usize>() + self.titles.len()
    }

    /// The settings after an entry that descends from all of these. What it writes replaces what it has seen.
    fn fold(&mut self, node: &SettingsNode) {
        let by = if node.past.is_empty() { 0 } else { self.level(&node.author) };
        for op in &node.ops {
            let value = |permission| vec![SlotValue { permission, entry: node.id, by }];
            match op {
                SettingsOp::Set { slot, permission } => {
                    self.slots.insert(*slot, value(Some(*permission)));
                }
                SettingsOp::Revoke { slot, .. } => {
                    self.slots.insert(*slot, value(None));
                }
                SettingsOp::Title(text) => {
                    self.titles = vec![Title { text: text.clone(), entry: node.id, by }];
                }
                SettingsOp::Rules(_) | SettingsOp::Accept(_) => {}
            }
        }
    }

    /// Whether the author may write these settings after these.
    fn allow(&self, author: &PublicKey, ops: &[SettingsOp]) -> bool {
        let level = self.level(author);
        level < NO_LEVEL
            && ops.iter().all(|op| match op {
                SettingsOp::Set { slot, permission } => {
                    self.may_write(author, level, slot)
                        && permission.level().is_none_or(|granted| u64::from(granted) >= level)
                }
                SettingsOp::Revoke { slot, .. } => self.may_write(author, level, slot),
                SettingsOp::Rules(_) | SettingsOp::Title(_) | SettingsOp::Accept(_) => true,
            })
    }

    /// Every concurrent value of the slot must be outranked, one's own excepted; what was revoked is changed with the
    /// revoker's rank only.
    fn may_write(&self, author: &PublicKey, level: u64, slot: &Slot) -> bool {
        let own = *slot == Slot::Key(*author);
        self.slots.get(slot).into_iter().flatten().all(|value| match value.permission {
            None => level <= value.by,
            Some(Permission::Admin(held)) => own || level < u64::from(held),
            Some(_) => true,
        })
    }
}

/// The simple [`Judge`]: an entry is valid when, in the settings resolved from its own past, its author has the right
/// that it needs.
///
/// Data and merges need Write, settings Admin. What a removal does to concurrent work is not decided here: every
/// valid entry counts. Settings are remembered by the frontier that they are resolved from, which names them exactly.
#[derive(Default)]
pub struct Rights {
    remembered: Mutex<Remembered>,
    known: Mutex<HashSet<(TreeId, Slot)>>,
}

#[derive(Default)]
struct Remembered {
    settings: HashMap<Vec<EntryId>, Arc<Settings>>,
    weight: usize,
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rights").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is remembered is complete after every statement, so a panic elsewhere does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A settings entry that is named by a frontier is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("settings entry {0} is not held")]
struct NotHeld(EntryId);

fn load(past: &dyn SettingsPast, id: &EntryId) -> Result<Arc<SettingsNode>, ReadError> {
    past.settings(id)?.ok_or_else(|| ReadError::new(NotHeld(*id)))
}

impl Rights {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The settings that a frontier of settings entries, sorted, gives.
    pub fn resolve(&self, frontier: &[EntryId], past: &dyn SettingsPast) -> Result<Arc<Settings>, ReadError> {
        if let Some(settings) = lock(&self.remembered).settings.get(frontier) {
            return Ok(Arc::clone(settings));
        }
        let mut done: BTreeMap<Vec<EntryId>, Arc<Settings>> = BTreeMap::new();
        let mut open = vec![frontier.to_vec()];
        while let Some(top) = open.last().cloned() {
            if self.recall(&mut done, &top).is_some() {
                open.pop();
            } else if let [_] | [] = top.as_slice() {
                let (chain, base) = descend(&top, past, |at| self.recall(&mut done, at))?;
                match base {
                    Ok(base) => {
                        let mut settings = (*base).clone();
                        chain.iter().rev().for_each(|node| settings.fold(node));
                        self.remember(&mut done, top, settings);
                    }
                    Err(fork) => open.push(fork),
                }
            } else {
                let heads: Vec<Vec<EntryId>> = top.iter().map(|head| vec![*head]).collect();
                let lacking: Vec<Vec<EntryId>> =
                    heads.iter().filter(|head| self.recall(&mut done, head).is_none()).cloned().collect();
                if lacking.is_empty() {
                    let states: Vec<Arc<Settings>> =
                        heads.iter().filter_map(|head| self.recall(&mut done, head)).collect();
                    let merged = merge(&top, &states, past)?;
                    self.remember(&mut done, top, merged);
                } else {
                    open.extend(lacking);
                }
            }
        }
        Ok(self.recall(&mut done, frontier).unwrap_or_default())
    }

    /// What is known of a frontier. It stays known until the resolution that asked is over.
    fn recall(
        &self,
        done: &mut BTreeMap<Vec<EntryId>, Arc<Settings>>,
        frontier: &[EntryId],
    ) -> Option<Arc<Settings>> {
        if let Some(settings) = done.get(frontier) {
            return Some(Arc::clone(settings));
        }
        let settings = lock(&self.remembered).settings.get(frontier).map(Arc::clone)?;
        done.insert(frontier.to_vec(), Arc::clone(&settings));
        Some(settings)
    }

    fn remember(
        &self,
        done: &mut BTreeMap<Vec<EntryId>, Arc<Settings>>,
        frontier: Vec<EntryId>,
        settings: Settings,
    ) {
        let weight = settings.weight();
        let settings = Arc::new(settings);
        done.insert(frontier.clone(), Arc::clone(&settings));
        let mut remembered = lock(&self.remembered);
        if remembered.weight + weight > REMEMBERED_VALUES_MAX {
            *remembered = Remembered::default();
        }
        remembered.weight += weight;
        remembered.settings.insert(frontier, settings);
    }

    fn note(&self, tree: TreeId, slots: impl IntoIterator<Item = Slot>) {
        let mut known = lock(&self.known);
        for slot in slots {
            if known.len() >= KNOWN_AUTHORS_MAX {
                known.clear();
            }
            known.insert((tree, slot));
        }
    }
}

type Chain = Vec<Arc<SettingsNode>>;

/// Goes down from a frontier of at most one entry to the nearest settings that are known; gives the entries on the
/// way, or the fork that has to be resolved first.
#[expect(clippy::type_complexity, reason = "two outcomes of a walk, used once")]
fn descend(
    from: &[EntryId],
    past: &dyn SettingsPast,
    mut known: impl FnMut(&[EntryId]) -> Option<Arc<Settings>>,
) -> Result<(Chain, Result<Arc<Settings>, Vec<EntryId>>), ReadError> {
    let mut chain = Chain::new();
    let mut at = from.to_vec();
    loop {
        if let Some(settings) = known(&at) {
            return Ok((chain, Ok(settings)));
        }
        match at.as_slice() {
            [] => return Ok((chain, Ok(Arc::default()))),
            [one] => {
                let node = load(past, one)?;
                at.clone_from(&node.past);
                chain.push(node);
            }
            _ => return Ok((chain, Err(at))),
        }
    }
}

/// Merges the settings of several heads: of each slot, the writes that no other head has seen and replaced.
fn merge(
    heads: &[EntryId],
    states: &[Arc<Settings>],
    past: &dyn SettingsPast,
) -> Result<Settings, ReadError> {
    let mut slots: BTreeMap<Slot, BTreeMap<EntryId, SlotValue>> = BTreeMap::new();
    let mut titles: BTreeMap<EntryId, Title> = BTreeMap::new();
    for state in states {
        for (slot, values) in &state.slots {
            slots.entry(*slot).or_default().extend(values.iter().map(|value| (value.entry, *value)));
        }
        titles.extend(state.titles.iter().map(|title| (title.entry, title.clone())));
    }
    for (head, state) in heads.iter().zip(states) {
        let held = |slot: &Slot, entry: &EntryId| {
            state.slots.get(slot).is_some_and(|values| values.iter().any(|value| value.entry == *entry))
        };
        // What this head does not show, it either never saw or replaced.
        let mut absent: BTreeSet<EntryId> = slots
            .iter()
            .flat_map(|(slot, values)| values.keys().filter(|entry| !held(slot, entry)))
            .copied()
            .collect();
        absent.extend(titles.keys().filter(|entry| state.titles.iter().all(|held| held.entry != **entry)));
        let seen = seen_by(head, absent, past)?;
        for (slot, values) in &mut slots {
            values.retain(|entry, _| !seen.contains(entry) || held(slot, entry));
        }
        titles
            .retain(|entry, _| !seen.contains(entry) || state.titles.iter().any(|held| held.entry == *entry));
    }
    let slots = slots.into_iter().map(|(slot, values)| (slot, values.into_values().collect()));
    Ok(Settings { slots: slots.collect(), titles: titles.into_values().collect() })
}

/// Which of these entries `head` descends from.
fn seen_by(
    head: &EntryId,
    mut wanted: BTreeSet<EntryId>,
    past: &dyn SettingsPast,
) -> Result<BTreeSet<EntryId>, ReadError> {
    let mut seen = BTreeSet::new();
    let mut visited = BTreeSet::from([*head]);
    let mut open = vec![*head];
    while let Some(id) = open.pop() {
        if wanted.is_empty() {
            break;
        }
        if wanted.remove(&id) {
            seen.insert(id);
        }
        for parent in &load(past, &id)?.past {
            if visited.insert(*parent) {
                open.push(*parent);
            }
        }
    }
    Ok(seen)
}

impl Judge for Rights {
    fn knows(&self, tree: &TreeId, author: &PublicKey) -> bool {
        let known = lock(&self.known);
        known.contains(&(*tree, Slot::Key(*author))) || known.contains(&(*tree, Slot::Everyone))
    }

    fn judge(&self, question: Question<'_>, past: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        let entry = question.entry;
        let header = entry.header();
        let allowed = if entry.is_root() {
            // Its structure makes its author Admin(0); it begins the settings and has nothing to take away.
            let begins = |op: &SettingsOp| !matches!(op, SettingsOp::Revoke { .. } | SettingsOp::Accept(_));
            entry.settings().iter().all(begins)
        } else {
            let settings = self.resolve(question.past, past)?;
            if header.is_settings() {
                settings.allow(&header.author, entry.settings())
            } else {
                settings.permission(&header.author) >= Some(Permission::Write)
            }
        };
        if !allowed {
            return Ok(Err(Invalid::NotPermitted.into()));
        }
        let slots = entry.settings().iter().filter_map(SettingsOp::slot);
        self.note(entry.tree(), slots.chain([Slot::Key(header.author)]));
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests;
