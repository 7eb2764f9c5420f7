//! The rules of authority as they are defined: naive, slow, and obviously so.
//!
//! A port of `tests/auth_model.py`, function by function and under its names; tests hold the two together, and hold
//! the engine to this. It looks at a whole DAG in memory and resolves every set of settings from nothing.
//!
//! Entries are numbered in the order in which they are added. Where the model breaks ties by the text of an id, this
//! breaks them by its bytes. No tie decides a verdict: entries are only tied when they give the same right to the
//! same slot with the same strength.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eid_core::{EntryId, KeyMode, Permission, PublicKey, RULES_FIRST, SettingsOp, Slot};

/// The level of whoever is not an admin.
pub const INF: u64 = 1 << 32;

/// A rule that is other than defined: all but the last are broken on purpose, so that a search for differences can
/// show that it finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Only an entry's own past decides: no removal reaches what is concurrent.
    Pinned,
    /// A demotion voids nothing.
    Nodemote,
    /// An entry stands though its author's level is weaker without void work.
    Nolost,
    /// What relied on void work stands.
    Notrans,
    /// Weaker keys remove stronger ones' work.
    Nolevel,
    /// A stronger grant that the remover had not seen protects nothing.
    Noshield,
    /// Anybody who may write settings re-activates what was revoked.
    React,
    /// Admins grant above themselves.
    Grantup,
    /// A weaker write replaces what it had not seen.
    Flat,
    /// The longer chain wins among concurrent values.
    Lww,
    /// Who accepts hears no removal at all.
    Accept,
    /// Only the value that counts must be outranked, not each concurrent one.
    Winner,
    /// Equals outrank each other.
    Equal,
    /// Weaker work is undecided where an entry had seen it decided.
    Undecided,
    /// A grant shields though it gave way to what the remover knew.
    Anyshield,
    /// The wildcard's removal voids nothing.
    Wild,
    /// Leaving voids like a removal.
    Noleave,
    /// Invites are valid under the first rules.
    Norules,
    /// An invite that was withdrawn, or never made, is open.
    Closed,
    /// Joiners take more than the invite gives.
    Joinup,
    /// Who has a slot, or was removed, joins all the same.
    Rejoin,
    /// Withdrawing an invite voids no join beside it.
    Latejoin,
    /// Lowering an invite voids no join beside it.
    Lowered,
    /// The wildcard stands in for an invite that was never made.
    Wildjoin,
    /// A join is as strong as who made the invite.
    Strongjoin,
    /// Not a fault, and not in [`Mutant::ALL`]: closes the one gap in the definition that is known. By the definition
    /// an entry is upheld when its author would be allowed to write it without the void work of its past, also by more
    /// strength than he wrote it with; here only with the strength that he wrote it with. See decision 0012.
    Mended,
}

impl Mutant {
    /// All faults: first those that the properties find, from [`Mutant::Winner`] on those that only a comparison does.
    pub const ALL: [Self; 25] = [
        Self::Pinned,
        Self::Nodemote,
        Self::Nolost,
        Self::Notrans,
        Self::Nolevel,
        Self::Noshield,
        Self::React,
        Self::Grantup,
        Self::Flat,
        Self::Lww,
        Self::Accept,
        Self::Closed,
        Self::Rejoin,
        Self::Latejoin,
        Self::Strongjoin,
        Self::Winner,
        Self::Equal,
        Self::Undecided,
        Self::Anyshield,
        Self::Wild,
        Self::Noleave,
        Self::Norules,
        Self::Joinup,
        Self::Lowered,
        Self::Wildjoin,
    ];

    /// The name that the model gives it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// A set of entries, by number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Set(Vec<u64>);

impl Set {
    /// Puts an entry in.
    pub fn insert(&mut self, i: usize) {
        if self.0.len() <= i / 64 {
            self.0.resize(i / 64 + 1, 0);
        }
        self.0[i / 64] |= 1 << (i % 64);
    }

    /// Takes an entry out.
    pub fn remove(&mut self, i: usize) {
        if self.contains(i) {
            self.0[i / 64] &= !(1 << (i % 64));
            while self.0.last() == Some(&0) {
                self.0.pop();
            }
        }
    }

    /// Whether an entry is in it.
    #[must_use]
    pub fn contains(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|word| word & (1 << (i % 64)) != 0)
    }

    /// How many entries are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its entries, rising.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let ones = std::iter::successors(Some(*word), |word| Some(word & word.wrapping_sub(1)));
            ones.take_while(|word| *word != 0).map(move |word| at * 64 + word.trailing_zeros() as usize)
        })
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let words = self.0.iter().enumerate();
        let mut set = Self(words.map(|(at, word)| word & !other.0.get(at).copied().unwrap_or(0)).collect());
        while set.0.last() == Some(&0) {
            set.0.pop();
        }
        set
    }

    /// Takes in all of another set.
    pub fn unite(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Whether all of it is in another.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.minus(other).is_empty()
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<T: IntoIterator<Item = usize>>(entries: T) -> Self {
        let mut set = Self::default();
        entries.into_iter().for_each(|i| set.insert(i));
        set
    }
}

/// One write of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// What it gives; nothing when it revokes.
    pub perm: Option<Permission>,
    /// The level of the entry that wrote it.
    pub by: u64,
    /// That entry.
    pub entry: usize,
}

/// Slots with their current values, the one that counts first.
pub type State = BTreeMap<Slot, Vec<Value>>;

/// What a set of settings entries amounts to.
#[derive(Debug)]
pub struct Resolved {
    /// The slots.
    pub state: State,
    /// The void ones of the set.
    pub void: Set,
}

/// The value of a key: its own slot, even a revoked one, beats the wildcard.
fn value(st: &State, k: &Slot) -> Option<Value> {
    st.get(k).or_else(|| st.get(&Slot::Everyone)).map(|values| values[0])
}

/// What a slot may do in a state.
#[must_use]
pub fn perm(st: &State, k: &Slot) -> Option<Permission> {
    value(st, k).and_then(|v| v.perm)
}

/// Its level: [`INF`] when it is not an admin.
#[must_use]
pub fn level(st: &State, k: &Slot) -> u64 {
    perm(st, k).and_then(Permission::level).map_or(INF, u64::from)
}

/// What is known of a DAG: all its entries, and which count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    /// Valid, and counts.
    pub standing: BTreeSet<EntryId>,
    /// Valid, and has no effect.
    pub void: BTreeSet<EntryId>,
    /// What each slot gives that was ever written; nothing when it is revoked.
    pub slots: BTreeMap<Slot, Option<Permission>>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: EntryId,
    author: Slot,
    root: bool,
    /// Nothing for data.
    ops: Option<Vec<SettingsOp>>,
    parents: Vec<usize>,
    past: Set,
    lvl: u64,
    slots: BTreeMap<Slot, SettingsOp>,
    /// Of a join: by which invite, and what it takes.
    join: Option<(Slot, Permission)>,
}

/// Of operations that are a join: by which invite, and what it takes.
fn join(ops: &[SettingsOp]) -> Option<(Slot, Permission)> {
    match ops {
        [SettingsOp::Join { invite, permission, .. }] => Some((Slot::Invite(*invite), *permission)),
        _ => None,
    }
}

/// Whose removals are heard.
pub type Counts<'a> = &'a dyn Fn(usize) -> bool;

fn all(_: usize) -> bool {
    true
}

/// The valid entries of a DAG.
#[derive(Debug, Default)]
pub struct Dag {
    mutant: Option<Mutant>,
    entries: Vec<Entry>,
    ids: BTreeMap<EntryId, usize>,
    memo: RefCell<BTreeMap<Set, Arc<Resolved>>>,
}

impl Dag {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that breaks a rule.
    #[must_use]
    pub fn broken(mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..Self::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    // ---- valid: a function of the entry and its ancestry only

    /// Adds an entry if it is valid; says whether it is. `settings` are its operations, nothing when it is data.
    pub fn add(
        &mut self,
        id: EntryId,
        author: PublicKey,
        settings: Option<&[SettingsOp]>,
        parents: &[EntryId],
    ) -> bool {
        let held: Option<Vec<usize>> = parents.iter().map(|p| self.ids.get(p).copied()).collect();
        let Some(mut parents) = held else { return false };
        parents.sort_unstable();
        parents.dedup();
        let (key, author) = (author, Slot::Key(author));
        let past = self.known(&parents);
        let st = self.state_at(&past);
        let root = settings.is_some() && parents.is_empty();
        if !settings.is_none_or(|ops| self.well_formed(&key, ops, &past)) {
            return false;
        }
        if !root && !self.allowed(&author, settings, &st, 0) {
            return false;
        }
        let join = settings.and_then(join);
        let lvl = match (settings, &join) {
            (Some(_), _) if root => 0,
            (Some(_), Some((invite, _))) if self.is(Mutant::Strongjoin) => st[invite][0].by,
            (Some(_), None) => level(&st, &author),
            (Some(_), Some(_)) | (None, _) => INF,
        };
        let writes =
            settings.into_iter().flatten().filter_map(|op| op.slot(&key).map(|slot| (slot, op.clone())));
        let slots = writes.collect();
        self.ids.insert(id, self.entries.len());
        self.entries.push(Entry {
            id,
            author,
            root,
            ops: settings.map(<[SettingsOp]>::to_vec),
            parents,
            past,
            lvl,
            slots,
            join,
        });
        true
    }

    fn well_formed(&self, author: &PublicKey, ops: &[SettingsOp], past: &Set) -> bool {
        if past.is_empty() {
            let first = SettingsOp::Set { slot: Slot::Key(*author), permission: Permission::Admin(0) };
            let begins = |op: &SettingsOp| *op == first;
            let takes = |op: &SettingsOp| matches!(op, SettingsOp::Revoke { .. } | SettingsOp::Accept(_));
            if !self.entries.is_empty() || !ops.iter().any(begins) || ops.iter().any(takes) {
                return false;
            }
        }
        let slots: Vec<Slot> = ops.iter().filter_map(|op| op.slot(author)).collect();
        if ops.is_empty() || slots.iter().collect::<BTreeSet<_>>().len() != slots.len() {
            return false;
        }
        let is_join = |op: &SettingsOp| matches!(op, SettingsOp::Join { .. });
        if ops.len() > 1 && ops.iter().any(is_join) {
            return false;
        }
        let rules = self.rules(past, ops);
        if !self.is(Mutant::Norules) && ops.iter().any(|op| op.rules_needed() > rules) {
            return false;
        }
        let kinds: [fn(&SettingsOp) -> bool; 3] = [
            |op| matches!(op, SettingsOp::Accept(_)),
            |op| matches!(op, SettingsOp::Title(_)),
            |op| matches!(op, SettingsOp::Rules(_)),
        ];
        if kinds.iter().any(|is_kind| ops.iter().filter(|op| is_kind(op)).count() > 1) {
            return false;
        }
        ops.iter().all(|op| match op {
            SettingsOp::Revoke { mode: KeyMode::Remove { fence: Some(ids) }, .. } => {
                ids.iter().all(|j| self.ids.get(j).is_some_and(|j| past.contains(*j)))
            }
            SettingsOp::Accept(ids) => ids
                .iter()
                .all(|j| self.ids.get(j).is_some_and(|j| past.contains(*j) && !self.is_settings(*j))),
            _ => true,
        })
    }

    /// By which rules an entry is judged: the greatest number that it or an entry of its past names, void or not. So
    /// it never goes back, whoever is removed.
    fn rules(&self, past: &Set, ops: &[SettingsOp]) -> u64 {
        let before = past.iter().flat_map(|i| self.ops(i).unwrap_or_default());
        let numbers = before.chain(ops).filter_map(|op| match op {
            SettingsOp::Rules(n) => Some(*n),
            _ => None,
        });
        numbers.fold(RULES_FIRST, u64::max)
    }

    /// An open invite, at most what it gives, and only a slot that nobody has set: a removed key does not come back by
    /// an old invite.
    fn may_join(&self, author: &Slot, (invite, takes): (Slot, Permission), st: &State) -> bool {
        let wildcard = || st.get(&Slot::Everyone).filter(|_| self.is(Mutant::Wildjoin));
        match st.get(&invite).or_else(wildcard).and_then(|values| values[0].perm) {
            None => self.is(Mutant::Closed),
            Some(gives) => {
                (takes <= gives || self.is(Mutant::Joinup))
                    && (!st.contains_key(author) || self.is(Mutant::Rejoin))
            }
        }
    }

    fn allowed(&self, author: &Slot, ops: Option<&[SettingsOp]>, st: &State, strength: u64) -> bool {
        if let Some(join) = ops.and_then(join) {
            return self.may_join(author, join, st);
        }
        match ops {
            None => perm(st, author) >= Some(Permission::Write),
            Some(ops) => {
                perm(st, author) >= Some(Permission::Admin(u32::MAX))
                    && ops.iter().all(|op| self.may_write(author, op, st, strength))
            }
        }
    }

    fn may_write(&self, author: &Slot, op: &SettingsOp, st: &State, strength: u64) -> bool {
        let Slot::Key(key) = author else { return false };
        let Some(slot) = op.slot(key) else { return true };
        let p = level(st, author).max(strength);
        let values = st.get(&slot).map_or(&[][..], Vec::as_slice);
        let values = if self.is(Mutant::Winner) { &values[..values.len().min(1)] } else { values };
        for v in values {
            match v.perm {
                Some(Permission::Admin(prio)) if slot != *author => {
                    let outranks = if self.is(Mutant::Equal) { p <= prio.into() } else { p < prio.into() };
                    if !outranks {
                        return false;
                    }
                }
                None if p > v.by && !self.is(Mutant::React) => return false,
                _ => {}
            }
        }
        match op {
            SettingsOp::Set { permission: Permission::Admin(n), .. } => {
                u64::from(*n) >= p || self.is(Mutant::Grantup)
            }
            _ => true,
        }
    }

    // ---- small questions

    /// How many entries there are: their numbers are below this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of an entry.
    #[must_use]
    pub fn find(&self, id: &EntryId) -> Option<usize> {
        self.ids.get(id).copied()
    }

    /// The id of an entry.
    #[must_use]
    pub fn id(&self, i: usize) -> EntryId {
        self.entries[i].id
    }

    /// Who signed an entry.
    #[must_use]
    pub fn author(&self, i: usize) -> Slot {
        self.entries[i].author
    }

    /// What an entry writes to the settings; nothing when it is data.
    #[must_use]
    pub fn ops(&self, i: usize) -> Option<&[SettingsOp]> {
        self.entries[i].ops.as_deref()
    }

    /// Its parents.
    #[must_use]
    pub fn parents(&self, i: usize) -> &[usize] {
        &self.entries[i].parents
    }

    /// Its ancestry.
    #[must_use]
    pub fn past(&self, i: usize) -> &Set {
        &self.entries[i].past
    }

    /// The level of its author in its past; of data [`INF`].
    #[must_use]
    pub fn lvl(&self, i: usize) -> u64 {
        self.entries[i].lvl
    }

    /// The slots that an entry writes.
    pub fn slots(&self, i: usize) -> impl Iterator<Item = Slot> + '_ {
        self.entries[i].slots.keys().copied()
    }

    /// Whether an entry writes settings.
    #[must_use]
    pub fn is_settings(&self, i: usize) -> bool {
        self.entries[i].ops.is_some()
    }

    /// All settings entries.
    #[must_use]
    pub fn settings(&self) -> Set {
        (0..self.len()).filter(|i| self.is_settings(*i)).collect()
    }

    /// The settings entries in the past of an entry.
    #[must_use]
    pub fn settings_before(&self, i: usize) -> Set {
        self.past(i).iter().filter(|j| self.is_settings(*j)).collect()
    }

    /// Entries with their ancestry.
    #[must_use]
    pub fn known(&self, ids: &[usize]) -> Set {
        let mut set: Set = ids.iter().copied().collect();
        ids.iter().for_each(|i| set.unite(self.past(*i)));
        set
    }

    /// The state that the settings entries of a set give.
    #[must_use]
    pub fn state_at(&self, past: &Set) -> State {
        let settings = past.iter().filter(|j| self.is_settings(*j)).collect();
        self.resolve(&settings).state.clone()
    }

    /// The state in which an entry was judged.
    #[must_use]
    pub fn before(&self, i: usize) -> State {
        self.state_at(self.past(i))
    }

    /// Those of some entries that no other of them descends from.
    #[must_use]
    pub fn heads(&self, ids: &[usize]) -> Vec<usize> {
        let is_head = |i: &&usize| !ids.iter().any(|j| self.past(*j).contains(**i));
        ids.iter().filter(is_head).copied().collect()
    }

    /// The data that an entry accepts.
    #[must_use]
    pub fn accepts(&self, i: usize) -> Set {
        let lists = self.entries[i].ops.iter().flatten().filter_map(|op| match op {
            SettingsOp::Accept(ids) => Some(ids),
            _ => None,
        });
        lists.flatten().filter_map(|id| self.find(id)).collect()
    }

    /// What an entry leaves a slot with.
    #[must_use]
    pub fn leaves(&self, i: usize, k: &Slot) -> Option<Permission> {
        match self.entries[i].slots.get(k) {
            Some(
                SettingsOp::Set { permission, .. }
                | SettingsOp::Invite { permission, .. }
                | SettingsOp::Join { permission, .. },
            ) => Some(*permission),
            _ => None,
        }
    }

    /// The invite by which an entry joins, if it does.
    #[must_use]
    pub fn joins_by(&self, i: usize) -> Option<Slot> {
        self.entries[i].join.map(|(invite, _)| invite)
    }

    /// Whether an entry lets a slot leave.
    #[must_use]
    pub fn is_leave(&self, i: usize, k: &Slot) -> bool {
        matches!(self.entries[i].slots.get(k), Some(SettingsOp::Revoke { mode: KeyMode::Leave, .. }))
    }

    fn writes(&self, i: usize, k: &Slot) -> bool {
        self.entries[i].slots.contains_key(k)
    }

    // ---- fold: the state that a set of settings entries gives, slot by slot

    fn fold(&self, live: &Set) -> State {
        let mut writers: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
        for i in live.iter() {
            for k in self.slots(i) {
                writers.entry(k).or_default().push(i);
            }
        }
        writers.into_iter().map(|(k, ids)| (k, self.current(&k, ids))).collect()
    }

    /// Of the writers of one slot: those that have seen every stronger effective one. So a weaker write replaces only
    /// what it knew completely, and making it void can never bring back something older.
    fn effective(&self, mut ids: Vec<usize>) -> Vec<usize> {
        ids.sort_by_key(|i| self.lvl(*i));
        let mut out: Vec<usize> = Vec::new();
        for i in ids {
            let seen = |j: &usize| self.lvl(*j) >= self.lvl(i) || self.past(i).contains(*j);
            if self.is(Mutant::Flat) || out.iter().all(seen) {
                out.push(i);
            }
        }
        out
    }

    /// The last effective writes. If several: the most restrictive counts, then the weaker priority.
    fn current(&self, k: &Slot, ids: Vec<usize>) -> Vec<Value> {
        let heads = self.heads(&self.effective(ids));
        let values = heads.iter().map(|i| Value { perm: self.leaves(*i, k), by: self.lvl(*i), entry: *i });
        let mut values: Vec<Value> = values.collect();
        if self.is(Mutant::Lww) {
            values.sort_by_key(|v| (std::cmp::Reverse(self.past(v.entry).len()), self.id(v.entry)));
        } else {
            values.sort_by_key(|v| (v.by, v.perm, self.id(v.entry)));
        }
        values
    }

    // ---- resolve: which settings entries are void, strongest first, so that no weaker one has a say in it

    /// What a set of settings entries amounts to.
    #[must_use]
    pub fn resolve(&self, s: &Set) -> Arc<Resolved> {
        if let Some(resolved) = self.memo.borrow().get(s) {
            return Arc::clone(resolved);
        }
        let void = self.decide(s, &all);
        let resolved = Arc::new(Resolved { state: self.fold(&s.minus(&void)), void });
        self.memo.borrow_mut().insert(s.clone(), Arc::clone(&resolved));
        resolved
    }

    /// The void entries of a set when only the removals that `counts` admits are heard.
    #[must_use]
    pub fn decide(&self, s: &Set, counts: Counts<'_>) -> Set {
        let mut order: Vec<usize> = s.iter().collect();
        order.sort_by_key(|i| (self.lvl(*i), self.past(*i).len(), self.id(*i)));
        let mut void = Set::default();
        for i in order {
            if !self.past(i).is_empty() && !self.upheld(i, s, &void, counts) {
                void.insert(i);
            }
        }
        void
    }

    /// No stronger removal reaches `x`, and without the void work of its past `x` would still be allowed, at no weaker
    /// a level.
    #[must_use]
    pub fn upheld(&self, x: usize, s: &Set, void: &Set, counts: Counts<'_>) -> bool {
        let own = self.settings_before(x);
        // Work weaker than x is not decided yet; what x knew of it holds: else a write that is void, but later in the
        // order, could hurt x.
        let weaker = |j: &usize| self.lvl(*j) > self.lvl(x) && !self.is(Mutant::Undecided);
        let known: Set = self.resolve(&own).void.iter().filter(weaker).collect();
        let st = self.fold(&own.minus(void).minus(&known));
        if !self.is(Mutant::Pinned) && self.removed(x, &s.minus(void), counts, &st) {
            return false;
        }
        if self.is(Mutant::Notrans) {
            return true;
        }
        let author = self.author(x);
        let strength = if self.is(Mutant::Mended) { self.lvl(x) } else { 0 };
        self.allowed(&author, self.ops(x), &st, strength)
            && (level(&st, &author) <= self.lvl(x) || self.is(Mutant::Nolost))
    }

    /// An own slot always matters, of a join that of its invite; the wildcard too when `x` relied on it, in its past as
    /// it saw it or as it is without the void work.
    #[must_use]
    pub fn removed(&self, x: usize, live: &Set, counts: Counts<'_>, st: &State) -> bool {
        let a = self.author(x);
        let mut slots = vec![self.joins_by(x).unwrap_or(a)];
        let relied = || !st.contains_key(&a) || !self.before(x).contains_key(&a);
        if !self.is(Mutant::Wild) && !self.is_settings(x) && relied() {
            slots.push(Slot::Everyone);
        }
        live.iter()
            .any(|r| counts(r) && slots.iter().any(|k| self.writes(r, k) && self.removes(r, k, x, live)))
    }

    /// Does the write of slot `k` by `r` void `x`? A demotion does so like a removal, for what `x` did with more right
    /// than is left.
    fn removes(&self, r: usize, k: &Slot, x: usize, live: &Set) -> bool {
        let left = self.leaves(r, k);
        if self.lvl(r) >= self.lvl(x) && !self.is(Mutant::Nolevel) {
            return false;
        }
        // Laid down by its holder: else whoever steals a key erases its history.
        if self.author(r) == *k || self.is_leave(r, k) && !self.is(Mutant::Noleave) {
            return false;
        }
        let settings = self.is_settings(x);
        let needed = match self.entries[x].join {
            Some((_, takes)) => takes,
            None if settings => Permission::Admin(u32::MAX),
            None => Permission::Write,
        };
        let broken = if left.is_none() { Mutant::Latejoin } else { Mutant::Lowered };
        if self.is(broken) && self.entries[x].join.is_some() {
            return false;
        }
        let weaker = left.and_then(Permission::level).is_some_and(|prio| u64::from(prio) > self.lvl(x));
        let demoted = settings && weaker && !self.is(Mutant::Nodemote);
        if left >= Some(needed) && !demoted {
            return false;
        }
        // What knew of r: validity and fold decide.
        if self.past(x).contains(r) || self.kept(r, k).contains(x) {
            return false;
        }
        self.is(Mutant::Noshield) || !self.shielded(r, k, x, live)
    }

    fn kept(&self, r: usize, k: &Slot) -> Set {
        match self.entries[r].slots.get(k) {
            Some(SettingsOp::Revoke { mode: KeyMode::Remove { fence: Some(ids) }, .. }) => {
                let fence: Vec<usize> = ids.iter().filter_map(|id| self.find(id)).collect();
                self.known(&fence)
            }
            _ => self.known(self.parents(r)),
        }
    }

    /// A stronger grant that `r` had not seen protects what is built on it, unless `r` is effective all the same: then
    /// the grant gave way to a write that `r` did know.
    fn shielded(&self, r: usize, k: &Slot, x: usize, live: &Set) -> bool {
        let writers: Vec<usize> = live.iter().filter(|w| self.writes(*w, k)).collect();
        if !self.is(Mutant::Anyshield) && self.effective(writers.clone()).contains(&r) {
            return false;
        }
        writers.into_iter().any(|w| {
            self.past(x).contains(w)
                && !self.past(r).contains(w)
                && self.lvl(w) < self.lvl(r)
                && self.leaves(w, k).is_some()
        })
    }

    // ---- standing, over everything known

    /// The entries that count.
    #[must_use]
    pub fn standing(&self) -> Set {
        let s = self.settings();
        let void = self.resolve(&s).void.clone();
        let mut standing = s.minus(&void);
        let data = (0..self.len()).filter(|x| !s.contains(*x));
        data.filter(|x| self.upheld(*x, &s, &void, &all) || self.accepted(*x, &s, &void))
            .for_each(|x| standing.insert(x));
        standing
    }

    /// `x` is judged as if nobody weaker than the acceptor had removed anyone, nor an equal whose removal the acceptor
    /// had seen.
    fn accepted(&self, x: usize, s: &Set, void: &Set) -> bool {
        s.minus(void).iter().any(|a| {
            let heard = |r: usize| {
                !self.is(Mutant::Accept) && (self.lvl(r), self.past(a).contains(r)) < (self.lvl(a), true)
            };
            self.accepts(a).contains(x) && self.upheld(x, s, &self.decide(s, &heard), &heard)
        })
    }

    /// All verdicts.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        let standing = self.standing();
        let (counts, void): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(|i| standing.contains(*i));
        let ids = |list: Vec<usize>| list.into_iter().map(|i| self.id(i)).collect();
        let resolved = self.resolve(&self.settings());
        let slots = resolved.state.iter().map(|(k, values)| (*k, values[0].perm)).collect();
        Verdicts { standing: ids(counts), void: ids(void), slots }
    }

    /// Whether an entry is the root.
    #[must_use]
    pub fn is_root(&self, i: usize) -> bool {
        self.entries[i].root
    }
}
