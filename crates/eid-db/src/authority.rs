//! Who may write what, and what counts: one engine of eid-auth for each tree, asked by the store and by readers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eid_auth::{Candidate, Class, Data, Denied, Engine, OpenInvite, Place, Standing};
use eid_core::{
    Entry, EntryId, History, Invalid, Judge, Permission, PublicKey, Question, Reach, ReadError, Refusal,
    Slot, Stands, TreeId,
};

use crate::limits::{ENGINES_MAX, REMEMBERED_SETTINGS_MAX};

/// What a slot gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotValue {
    /// What it gives; nothing when it revokes.
    pub permission: Option<Permission>,
    /// The settings entry that wrote it.
    pub entry: EntryId,
}

/// The settings of a database as a set of settings entries gives them: what is void has no say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    slots: BTreeMap<Slot, SlotValue>,
    invites: Vec<OpenInvite>,
    rules: u64,
    title: Option<String>,
    void: Vec<EntryId>,
}

impl Settings {
    /// What a slot gives, if it was written: `Some(None)` when it is revoked.
    #[must_use]
    pub fn slot(&self, slot: &Slot) -> Option<Option<Permission>> {
        self.slots.get(slot).map(|value| value.permission)
    }

    /// What a slot gives, and which entry says so, if it was written.
    #[must_use]
    pub fn value(&self, slot: &Slot) -> Option<SlotValue> {
        self.slots.get(slot).copied()
    }

    /// What a key may do: by its own slot if it has one, even a revoked one, else by the one for everyone.
    #[must_use]
    pub fn permission(&self, key: &PublicKey) -> Option<Permission> {
        self.slot(&Slot::Key(*key)).or_else(|| self.slot(&Slot::Everyone)).flatten()
    }

    /// Every slot that was ever written, with what it gives.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Option<Permission>)> + '_ {
        self.slots.iter().map(|(slot, value)| (*slot, value.permission))
    }

    /// Every slot that was ever written, with what it gives and which entry says so.
    pub fn values(&self) -> impl Iterator<Item = (Slot, SlotValue)> + '_ {
        self.slots.iter().map(|(slot, value)| (*slot, *value))
    }

    /// The invites that are open, in the order of their keys.
    #[must_use]
    pub fn invites(&self) -> &[OpenInvite] {
        &self.invites
    }

    /// The number of the rules by which what is written now is judged.
    #[must_use]
    pub fn rules(&self) -> u64 {
        self.rules
    }

    /// The shared title.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// The settings entries that are void, sorted.
    #[must_use]
    pub fn void(&self) -> &[EntryId] {
        &self.void
    }
}

/// The [`Judge`] of all trees: an entry is valid when its author had the right in its own past, and it stands when no
/// stronger key has removed its author and nothing that it relied on is void.
#[derive(Default)]
pub struct Authority {
    /// Each tree has a lock of its own: nothing that is asked about one delays another.
    trees: Mutex<HashMap<TreeId, Arc<Mutex<Known>>>>,
}

#[derive(Default)]
struct Known {
    engine: Engine,
    /// The latest settings that were asked for, by their frontiers.
    settings: VecDeque<(Vec<EntryId>, Arc<Settings>)>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Knows no tree yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn trees(&self) -> MutexGuard<'_, HashMap<TreeId, Arc<Mutex<Known>>>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, tree: &TreeId, ask: impl FnOnce(&mut Known) -> R) -> R {
        let known = {
            let mut trees = self.trees();
            if trees.len() >= ENGINES_MAX && !trees.contains_key(tree) {
                trees.clear();
            }
            Arc::clone(trees.entry(*tree).or_default())
        };
        // An engine keeps only what follows from entries, so it is complete after every call, also one that failed.
        ask(&mut known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings that a frontier of settings entries, sorted, gives.
    pub fn settings(
        &self,
        tree: &TreeId,
        frontier: &[EntryId],
        history: &dyn History,
    ) -> Result<Arc<Settings>, ReadError> {
        self.with(tree, |Known { engine, settings }| {
            if let Some((_, found)) = settings.iter().find(|(other, _)| other == frontier) {
                return Ok(Arc::clone(found));
            }
            let at = engine.resolve(frontier, history)?;
            let slots = engine.slots(&at).into_iter();
            let found = Arc::new(Settings {
                slots: slots
                    .map(|(slot, permission, entry)| (slot, SlotValue { permission, entry }))
                    .collect(),
                invites: engine.invites(&at),
                rules: engine.rules(&at),
                title: engine.title(&at).map(str::to_owned),
                void: engine.void_settings(&at),
            });
            if settings.len() >= REMEMBERED_SETTINGS_MAX {
                settings.pop_front();
            }
            settings.push_back((frontier.to_vec(), Arc::clone(&found)));
            Ok(found)
        })
    }

    /// Why an admitted entry does not count when the settings of the frontier `known` are known. `past` is the
    /// settings frontier of its parents.
    pub fn standing(
        &self,
        entry: &Entry,
        past: &[EntryId],
        known: &[EntryId],
        history: &dyn History,
    ) -> Result<Standing, ReadError> {
        self.with(&entry.tree(), |Known { engine, .. }| {
            let now = engine.resolve(known, history)?;
            if entry.header().is_settings() {
                let why = engine.why(&now, &entry.id());
                return Ok(why.map_or(Standing::Stands, Standing::Void));
            }
            let data = Data { id: entry.id(), author: entry.header().author, past };
            engine.standing(&now, data, history)
        })
    }

    /// Why an entry is not valid, if it is not. `past` is the settings frontier of its parents.
    pub fn denied(
        &self,
        tree: &TreeId,
        candidate: Candidate<'_>,
        history: &dyn History,
    ) -> Result<Option<Denied>, ReadError> {
        self.with(tree, |Known { engine, .. }| Ok(engine.judge(candidate, history)?.err()))
    }

    /// Forgets what is in memory of a tree. It is worked out again when it is asked for.
    pub(crate) fn forget(&self, tree: &TreeId) {
        self.trees().remove(tree);
    }
}

impl Judge for Authority {
    fn knows(&self, tree: &TreeId, author: &PublicKey) -> bool {
        let known = self.trees().get(tree).map(Arc::clone);
        known.is_some_and(|known| known.lock().unwrap_or_else(PoisonError::into_inner).engine.knows(author))
    }

    fn judge(&self, question: Question<'_>, history: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        let entry = question.entry;
        let header = entry.header();
        let settings = header.is_settings().then(|| entry.settings());
        let candidate =
            Candidate { author: header.author, settings, parents: &header.parents, past: question.past };
        let denied = self.denied(&entry.tree(), candidate, history)?;
        Ok(denied.map_or(Ok(()), |_| Err(Invalid::NotPermitted.into())))
    }

    fn stands(
        &self,
        tree: &TreeId,
        entry: Stands<'_>,
        known: &[EntryId],
        history: &dyn History,
    ) -> Result<bool, ReadError> {
        self.with(tree, |Known { engine, .. }| {
            let now = engine.resolve(known, history)?;
            if let Some(id) = entry.settings {
                return Ok(engine.why(&now, &id).is_none());
            }
            if engine.class(&now, &entry.author, entry.past, history)? == Class::Stands {
                return Ok(true);
            }
            let data = Data { id: (entry.id)()?, author: entry.author, past: entry.past };
            Ok(engine.standing(&now, data, history)?.counts())
        })
    }

    fn reach(
        &self,
        tree: &TreeId,
        before: &[EntryId],
        known: &[EntryId],
        history: &dyn History,
    ) -> Result<Vec<Reach>, ReadError> {
        self.with(tree, |Known { engine, .. }| {
            let (old, new) = (engine.resolve(before, history)?, engine.resolve(known, history)?);
            let change = engine.change(&old, &new);
            let settings = change.voided.into_iter().chain(change.restored);
            let mut reaches: Vec<Reach> = settings.map(|id| Reach::Entries(vec![id])).collect();
            reaches.extend(change.reaches.into_iter().map(|reach| match reach.place {
                Place::Outside(tips) => Reach::Outside(tips),
                Place::After(settings) => Reach::After(settings),
            }));
            if !change.accepted.is_empty() {
                reaches.push(Reach::Entries(change.accepted));
            }
            Ok(reaches)
        })
    }
}
