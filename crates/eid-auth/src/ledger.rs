//! A whole DAG in memory, judged by the engine: for tests, the simulator and tools.
//!
//! It does what a store does with its rows: it derives settings frontiers from parents, lets the engine judge, and
//! keeps the standing of every entry, of which a settings entry changes only what [`Engine::change`] says.

use std::collections::BTreeMap;
use std::sync::Arc;

use eid_core::{
    EntryId, History, Permission, PublicKey, ReadError, SettingsNode, SettingsOp, SettingsPast, Slot,
};

use crate::bits::Bits;
use crate::engine::{Candidate, Data, Engine, Place, Resolution};
use crate::why::{Denied, Standing, Void};

/// Why an entry was not added.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// Some parent is not here: it was refused, or never came.
    #[error("a parent is not here")]
    Parents,
    /// It is not the first entry of the tree, and has no parents; or it is the first and does not begin it.
    #[error("it does not begin a tree")]
    Root,
    /// The author had no right to it in its past.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// What the engine asked for could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[derive(Debug)]
struct Held {
    id: EntryId,
    author: PublicKey,
    settings: Option<Arc<SettingsNode>>,
    /// Its ancestry.
    past: Bits,
    /// Its settings frontier: of a settings entry itself.
    frontier: Vec<EntryId>,
}

#[derive(Debug, Default)]
struct Entries {
    rows: Vec<Held>,
    ids: BTreeMap<EntryId, u32>,
}

impl Entries {
    fn find(&self, id: &EntryId) -> Option<&Held> {
        self.ids.get(id).map(|at| &self.rows[*at as usize])
    }

    /// Those of some entries that no other of them descends from, sorted.
    fn heads(&self, mut ids: Vec<EntryId>) -> Vec<EntryId> {
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > 1 {
            let mut below = Bits::default();
            ids.iter().filter_map(|id| self.find(id)).for_each(|held| below.unite(&held.past));
            ids.retain(|id| self.ids.get(id).is_some_and(|at| !below.contains(*at)));
        }
        ids
    }
}

impl SettingsPast for Entries {
    fn settings(&self, id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
        Ok(self.find(id).and_then(|held| held.settings.clone()))
    }
}

impl History for Entries {
    fn includes(&self, tips: &[EntryId], id: &EntryId) -> Result<bool, ReadError> {
        let Some(at) = self.ids.get(id) else { return Ok(false) };
        let below = |tip: &EntryId| self.find(tip).is_some_and(|held| held.past.contains(*at));
        Ok(tips.iter().any(|tip| tip == id || below(tip)))
    }

    fn frontier(&self, id: &EntryId) -> Result<Option<Vec<EntryId>>, ReadError> {
        Ok(self.find(id).map(|held| held.frontier.clone()))
    }
}

/// The valid entries of a DAG, with their standing.
#[derive(Debug)]
pub struct Ledger {
    engine: Engine,
    entries: Entries,
    standing: Vec<Standing>,
    authored: BTreeMap<PublicKey, Vec<u32>>,
    frontier: Vec<EntryId>,
    now: Arc<Resolution>,
}

impl Ledger {
    /// An empty one, judged by this engine.
    pub fn new(mut engine: Engine) -> Result<Self, ReadError> {
        let entries = Entries::default();
        let now = engine.resolve(&[], &entries)?;
        Ok(Self {
            engine,
            entries,
            standing: Vec::new(),
            authored: BTreeMap::new(),
            frontier: Vec::new(),
            now,
        })
    }

    /// Adds an entry if it is valid; gives the entries whose standing is other than before, itself among them.
    /// `settings` are its operations, nothing when it is data.
    pub fn add(
        &mut self,
        id: EntryId,
        author: PublicKey,
        settings: Option<&[SettingsOp]>,
        parents: &[EntryId],
    ) -> Result<Vec<EntryId>, Refused> {
        let mut past = Bits::default();
        let mut heads = Vec::new();
        for parent in parents {
            let at = *self.entries.ids.get(parent).ok_or(Refused::Parents)?;
            let held = &self.entries.rows[at as usize];
            past.unite(&held.past);
            past.put(at, true);
            heads.extend_from_slice(&held.frontier);
        }
        let heads = self.entries.heads(heads);
        let begin = SettingsOp::Set { slot: Slot::Key(author), permission: Permission::Admin(0) };
        let begins = self.standing.is_empty() && settings.is_some_and(|ops| ops.contains(&begin));
        if parents.is_empty() && !begins {
            return Err(Refused::Root);
        }
        let candidate = Candidate { author, settings, parents, past: &heads };
        self.engine.judge(candidate, &self.entries)??;

        let number = self.standing.len() as u32;
        let node =
            settings.map(|ops| Arc::new(SettingsNode { id, author, ops: ops.to_vec(), past: heads.clone() }));
        let is_settings = node.is_some();
        let frontier = if is_settings { vec![id] } else { heads };
        self.entries.rows.push(Held { id, author, settings: node, past, frontier });
        self.entries.ids.insert(id, number);
        self.standing.push(Standing::Stands);
        let mut changed = vec![id];
        if is_settings {
            self.settle(number, &mut changed)?;
        } else {
            self.authored.entry(author).or_default().push(number);
            self.standing[number as usize] = self.standing_of(number)?;
        }
        Ok(changed)
    }

    fn standing_of(&mut self, number: u32) -> Result<Standing, ReadError> {
        let held = &self.entries.rows[number as usize];
        if held.settings.is_some() {
            let void = self.engine.why(&self.now, &held.id);
            return Ok(void.map_or(Standing::Stands, Standing::Void));
        }
        let data = Data { id: held.id, author: held.author, past: &held.frontier };
        self.engine.standing(&self.now, data, &self.entries)
    }

    /// Takes in a settings entry, and looks again at what it may have changed.
    fn settle(&mut self, number: u32, changed: &mut Vec<EntryId>) -> Result<(), ReadError> {
        let Held { id, past, .. } = &self.entries.rows[number as usize];
        let ids = &self.entries.ids;
        let unseen = |head: &EntryId| ids.get(head).is_none_or(|at| !past.contains(*at));
        self.frontier.retain(unseen);
        self.frontier.push(*id);
        self.frontier.sort_unstable();
        let old = std::mem::replace(&mut self.now, self.engine.resolve(&self.frontier, &self.entries)?);
        let change = self.engine.change(&old, &self.now);
        let mut open = Bits::default();
        for id in change.voided.iter().chain(&change.restored).chain(&change.accepted) {
            if let Some(at) = self.entries.ids.get(id) {
                open.put(*at, true);
            }
        }
        for reach in &change.reaches {
            let authors = self.authored.iter().filter(|(author, _)| reach.concerns(author));
            for at in authors.flat_map(|(_, authored)| authored) {
                let id = self.entries.rows[*at as usize].id;
                let is_there = match &reach.place {
                    Place::Outside(tips) => !self.entries.includes(tips, &id)?,
                    Place::After(settings) => self.entries.includes(&[id], settings)?,
                };
                if is_there {
                    open.put(*at, true);
                }
            }
        }
        open.put(number, true);
        for at in open.iter() {
            let standing = self.standing_of(at)?;
            let held = &mut self.standing[at as usize];
            if standing.counts() != held.counts() && at != number {
                changed.push(self.entries.rows[at as usize].id);
            }
            *held = standing;
        }
        Ok(())
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The entries, as the engine reads them.
    #[must_use]
    pub fn history(&self) -> &dyn History {
        &self.entries
    }

    /// The settings frontier of all entries.
    #[must_use]
    pub fn frontier(&self) -> &[EntryId] {
        &self.frontier
    }

    /// What all settings entries amount to.
    #[must_use]
    pub fn now(&self) -> &Resolution {
        &self.now
    }

    /// Whether an entry counts; nothing when it was never added.
    #[must_use]
    pub fn standing(&self, id: &EntryId) -> Option<&Standing> {
        self.entries.ids.get(id).map(|at| &self.standing[*at as usize])
    }

    /// Why an entry is void.
    #[must_use]
    pub fn why(&self, id: &EntryId) -> Option<&Void> {
        match self.standing(id)? {
            Standing::Void(void) => Some(void),
            _ => None,
        }
    }

    /// Every entry with its standing, in the order in which they were added.
    pub fn entries(&self) -> impl Iterator<Item = (EntryId, &Standing)> {
        self.entries.rows.iter().map(|held| held.id).zip(&self.standing)
    }

    /// Every slot that was written, with what it gives.
    #[must_use]
    pub fn slots(&self) -> BTreeMap<Slot, Option<Permission>> {
        self.engine.slots(&self.now).into_iter().map(|(slot, gives, _)| (slot, gives)).collect()
    }

    /// What a key may do.
    #[must_use]
    pub fn permission(&self, key: &PublicKey) -> Option<Permission> {
        self.engine.permission(&self.now, key)
    }

    /// The entries whose standing is another when it is resolved from nothing: none, unless a rule is broken.
    pub fn recount(&self) -> Result<Vec<EntryId>, ReadError> {
        let mut engine = Engine::new();
        let now = engine.resolve(&self.frontier, &self.entries)?;
        let mut differing = Vec::new();
        for (held, standing) in self.entries.rows.iter().zip(&self.standing) {
            let fresh = if held.settings.is_some() {
                engine.why(&now, &held.id).is_none()
            } else {
                let data = Data { id: held.id, author: held.author, past: &held.frontier };
                engine.standing(&now, data, &self.entries)?.counts()
            };
            if fresh != standing.counts() {
                differing.push(held.id);
            }
        }
        Ok(differing)
    }
}
