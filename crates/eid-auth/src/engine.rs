//! The engine: resolves settings frontiers, judges entries, and says what counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use eid_core::{
    EntryId, History, KeyMode, Permission, PublicKey, Question, RULES_FIRST, ReadError, SettingsNode,
    SettingsOp, SettingsPast, Slot,
};

use crate::bits::Bits;
use crate::limits::{ACCEPTED_VIEWS_MAX, BASES_MAX, FRONTIER_SHORT, FRONTIERS_MAX, FRONTIERS_MIN};
use crate::run::Run;
use crate::tables::{
    EVERYONE, Fault, Fence, How, Level, Misfit, NO_LEVEL, Node, Overreach, Row, Scene, SlotNo, Subject,
    TITLE, Tables, Write, level_of,
};
use crate::why::{Denied, Standing, Void};

/// What the settings entries at and below a frontier amount to: which of them are void. Cheap to keep; it answers
/// together with the engine that made it.
#[derive(Debug, Clone)]
pub struct Resolution {
    frontier: Vec<Node>,
    set: Bits,
    void: Bits,
}

/// An entry that asks to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Who signed it.
    pub author: PublicKey,
    /// Its settings; nothing when it writes data or merges.
    pub settings: Option<&'a [SettingsOp]>,
    /// Its parents; none for a root.
    pub parents: &'a [EntryId],
    /// The settings frontier of its parents.
    pub past: &'a [EntryId],
}

impl<'a> From<Question<'a>> for Candidate<'a> {
    fn from(question: Question<'a>) -> Self {
        let header = question.entry.header();
        let settings = header.is_settings().then(|| question.entry.settings());
        Self { author: header.author, settings, parents: &header.parents, past: question.past }
    }
}

/// What is to be known of a data entry to say whether it counts.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// Its id.
    pub id: EntryId,
    /// Who signed it.
    pub author: PublicKey,
    /// Its settings frontier.
    pub past: &'a [EntryId],
}

/// The standing of all data of one author with one settings frontier, leaving aside what was accepted again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// All of it counts.
    Stands,
    /// None of it does.
    Void(Void),
    /// What lies below each of these fences counts.
    Fenced(Vec<Removal>),
}

/// A removal that keeps what lies below its fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Tips of what it keeps: ask [`History::includes`].
    pub keeps: Vec<EntryId>,
    /// Why the rest is void.
    pub why: Void,
}

/// An invite by which whoever holds its key may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenInvite {
    /// The public half of the key.
    pub key: PublicKey,
    /// The most that it gives.
    pub permission: Permission,
    /// When it is to be honoured no longer, in milliseconds since 1970: of several times that were given at once, the
    /// earliest. No verdict depends on it.
    pub expires_ms: Option<u64>,
    /// The settings entry that says so.
    pub by: EntryId,
}

/// What changed from one resolution to a later one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Settings entries that became void or are void from the start.
    pub voided: Vec<EntryId>,
    /// Settings entries that count again.
    pub restored: Vec<EntryId>,
    /// The data that may have changed standing. All other data has not.
    pub reaches: Vec<Reach>,
    /// Data that some entry accepts: each may have changed standing.
    pub accepted: Vec<EntryId>,
}

/// Data that may have changed standing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// By this key; for everyone, by any key, of which only those without a slot of their own are touched.
    pub slot: Slot,
    /// And only this.
    pub place: Place,
}

/// A part of the DAG.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// What is neither one of these nor an ancestor of one. Of none: everything.
    Outside(Vec<EntryId>),
    /// What descends from this settings entry.
    After(EntryId),
}

/// A resolution that can be interrupted.
#[derive(Debug)]
pub struct Job {
    tasks: Vec<Task>,
    done: Option<Arc<Resolution>>,
}

#[derive(Debug)]
enum Task {
    Frontier(Vec<EntryId>),
    Combine(Vec<Node>, Run),
    Load(Arc<SettingsNode>),
    Settle(Node, Run),
}

/// The settings entries of one tree, and what was resolved of them.
///
/// It grows with the settings entries of the tree, which are loaded when a frontier needs them, and never holds data.
#[derive(Debug)]
pub struct Engine {
    tables: Tables,
    memo: Memo,
    views: BTreeMap<(Vec<Node>, Node), Bits>,
}

/// Resolutions by frontier; the one that was not asked for longest goes first.
#[derive(Debug)]
struct Memo {
    max: usize,
    weight: usize,
    clock: u64,
    held: BTreeMap<Vec<Node>, (u64, Arc<Resolution>)>,
    by_use: BTreeMap<u64, Vec<Node>>,
    bases: Vec<Arc<Resolution>>,
}

impl Memo {
    fn get(&mut self, frontier: &[Node]) -> Option<Arc<Resolution>> {
        let (used, resolution) = self.held.get_mut(frontier)?;
        self.clock += 1;
        if let Some(key) = self.by_use.remove(used) {
            self.by_use.insert(self.clock, key);
        }
        *used = self.clock;
        Some(Arc::clone(resolution))
    }

    fn put(&mut self, resolution: Arc<Resolution>) {
        let frontier = resolution.frontier.clone();
        self.weight += weight(&frontier);
        while self.weight > self.max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.weight -= weight(&oldest);
            self.held.remove(&oldest);
        }
        self.clock += 1;
        self.bases.insert(0, Arc::clone(&resolution));
        self.bases.truncate(BASES_MAX);
        if let Some((used, _)) = self.held.insert(frontier.clone(), (self.clock, resolution)) {
            self.weight -= weight(&frontier);
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, frontier);
    }
}

/// What a resolution takes, in resolutions of a short frontier.
fn weight(frontier: &[Node]) -> usize {
    1 + frontier.len() / FRONTIER_SHORT
}

/// A settings entry that is named by another is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {0}, which settings refer to, is not held")]
struct NotHeld(EntryId);

fn not_held(id: &EntryId) -> ReadError {
    ReadError::new(NotHeld(*id))
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::remembering(FRONTIERS_MAX)
    }

    /// Remembers this many resolved frontiers. Fewer make it slower, never different.
    #[must_use]
    pub fn remembering(frontiers: usize) -> Self {
        let max = frontiers.max(FRONTIERS_MIN);
        let memo = Memo {
            max,
            weight: 0,
            clock: 0,
            held: BTreeMap::new(),
            by_use: BTreeMap::new(),
            bases: Vec::new(),
        };
        Self { tables: Tables::new(), memo, views: BTreeMap::new() }
    }

    /// How many settings entries are in memory.
    #[must_use]
    pub fn settings_known(&self) -> usize {
        self.tables.nodes.len()
    }

    /// Whether a settings entry that is in memory names this key, or everyone: a hint that never decides.
    #[must_use]
    pub fn knows(&self, author: &PublicKey) -> bool {
        self.tables.slot_of(author).is_some() || !self.tables.slots[EVERYONE as usize].writers.is_empty()
    }

    /// Resolves a settings frontier, with all that it needs.
    pub fn resolve(
        &mut self,
        frontier: &[EntryId],
        history: &dyn History,
    ) -> Result<Arc<Resolution>, ReadError> {
        let mut job = self.begin(frontier);
        loop {
            if let Some(done) = self.advance(&mut job, history, usize::MAX)? {
                return Ok(done);
            }
        }
    }

    /// Begins to resolve a settings frontier.
    #[must_use]
    pub fn begin(&self, frontier: &[EntryId]) -> Job {
        Job { tasks: vec![Task::Frontier(frontier.to_vec())], done: None }
    }

    /// Goes on with a resolution for about `budget` settings entries. What was done for it stays done, also when it
    /// is dropped.
    pub fn advance(
        &mut self,
        job: &mut Job,
        history: &dyn History,
        mut budget: usize,
    ) -> Result<Option<Arc<Resolution>>, ReadError> {
        while budget > 0 {
            let Some(task) = job.tasks.pop() else { return Ok(job.done.clone()) };
            budget -= 1;
            match task {
                Task::Frontier(ids) => match self.numbers(&ids, history)? {
                    Err(lacking) => {
                        job.tasks.push(Task::Frontier(ids));
                        job.tasks.extend(lacking.into_iter().map(Task::Load));
                    }
                    Ok(frontier) => match self.memo.get(&frontier) {
                        Some(done) => job.done = Some(done),
                        None => {
                            let run = self.combine(&frontier);
                            job.tasks.push(Task::Combine(frontier, run));
                        }
                    },
                },
                Task::Combine(frontier, mut run) => {
                    if run.step(&self.tables, &mut budget) {
                        let resolution = Arc::new(Resolution { frontier, set: run.set, void: run.void });
                        self.memo.put(Arc::clone(&resolution));
                        job.done = Some(resolution);
                    } else {
                        job.tasks.push(Task::Combine(frontier, run));
                    }
                }
                Task::Load(node) => {
                    if self.settled(&node.id).is_some() {
                        continue;
                    }
                    match self.numbers(&node.past, history)? {
                        Err(lacking) => {
                            job.tasks.push(Task::Load(node));
                            job.tasks.extend(lacking.into_iter().map(Task::Load));
                        }
                        Ok(past) => match self.memo.get(&past) {
                            Some(past) => {
                                let number = self.add(&node, &past, history)?;
                                let all = past.set.with(number);
                                let void = past.void.clone();
                                let run = Run::adding(&self.tables, all, &past.set, void);
                                job.tasks.push(Task::Settle(number, run));
                            }
                            None => {
                                let past = node.past.clone();
                                job.tasks.extend([Task::Load(node), Task::Frontier(past)]);
                            }
                        },
                    }
                }
                Task::Settle(number, mut run) => {
                    if run.step(&self.tables, &mut budget) {
                        self.tables.nodes[number as usize].void_after = Some(run.void);
                    } else {
                        job.tasks.push(Task::Settle(number, run));
                    }
                }
            }
        }
        Ok(None)
    }

    fn settled(&self, id: &EntryId) -> Option<Node> {
        let node = *self.tables.ids.get(id)?;
        self.tables.row(node).void_after.is_some().then_some(node)
    }

    /// The numbers of a frontier, or the entries of it that have to be loaded first.
    fn numbers(
        &self,
        ids: &[EntryId],
        past: &(impl SettingsPast + ?Sized),
    ) -> Result<Result<Vec<Node>, Vec<Arc<SettingsNode>>>, ReadError> {
        let mut numbers = Vec::with_capacity(ids.len());
        let mut lacking = Vec::new();
        for id in ids {
            match self.settled(id) {
                Some(node) => numbers.push(node),
                None => lacking.push(past.settings(id)?.ok_or_else(|| not_held(id))?),
            }
        }
        if !lacking.is_empty() {
            return Ok(Err(lacking));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Ok(numbers))
    }

    /// Begins with the greatest settled set within the one that is wanted, and adds what it lacks.
    fn combine(&self, frontier: &[Node]) -> Run {
        let mut all = Bits::default();
        for head in frontier {
            all.unite(&self.tables.row(*head).past);
            all.put(*head, true);
        }
        let head = frontier.iter().max_by_key(|head| self.tables.row(**head).past.len());
        let mut base = match head.map(|head| (head, self.tables.row(*head))) {
            Some((head, row)) => (row.past.with(*head), row.void_after.clone().unwrap_or_default()),
            None => (Bits::default(), Bits::default()),
        };
        if frontier.len() > 1 {
            for recent in &self.memo.bases {
                if recent.set.len() > base.0.len() && recent.set.is_within(&all) {
                    base = (recent.set.clone(), recent.void.clone());
                }
            }
        }
        let (settled, void) = base;
        Run::adding(&self.tables, all, &settled, void)
    }

    /// Adds an entry that was judged valid, whose past is resolved.
    fn add(
        &mut self,
        node: &SettingsNode,
        past: &Resolution,
        history: &dyn History,
    ) -> Result<Node, ReadError> {
        if let Some(number) = self.tables.ids.get(&node.id) {
            return Ok(*number);
        }
        let root = node.past.is_empty();
        let (author, level, takes) = match node.ops.as_slice() {
            [SettingsOp::Join { invite, permission, .. }] => {
                (self.tables.number(&Slot::Invite(*invite)), NO_LEVEL, Some(*permission))
            }
            _ => {
                let author = self.tables.number(&Slot::Key(node.author));
                (author, if root { 0 } else { self.level(Some(author), past) }, None)
            }
        };
        let mut row = Row {
            id: node.id,
            key: node.author,
            author,
            level,
            root,
            takes,
            rules: rules_named(&node.ops).max(self.rules(past)),
            title: None,
            writes: Vec::with_capacity(node.ops.len()),
            accepts: Vec::new(),
            past: past.set.clone(),
            void_before: past.void.clone(),
            void_after: None,
        };
        for op in &node.ops {
            match op {
                SettingsOp::Set { slot, permission } => {
                    let slot = self.tables.number(slot);
                    row.writes.push(Write { slot, gives: Some(*permission), how: How::Set });
                }
                SettingsOp::Revoke { slot, mode } => {
                    let slot = self.tables.number(slot);
                    let how = match mode {
                        KeyMode::Leave => How::Leave,
                        KeyMode::Remove { fence: None } => How::Remove(None),
                        KeyMode::Remove { fence: Some(ids) } => {
                            let settings = self.below(ids, history)?;
                            How::Remove(Some(Fence { ids: ids.clone(), settings }))
                        }
                    };
                    row.writes.push(Write { slot, gives: None, how });
                }
                SettingsOp::Accept(ids) => row.accepts.extend(ids),
                SettingsOp::Title(text) => {
                    row.writes.push(Write { slot: TITLE, gives: None, how: How::Leave });
                    row.title = Some(text.clone());
                }
                SettingsOp::Rules(_) => {}
                SettingsOp::Invite { key, permission, expires_ms } => {
                    let slot = self.tables.number(&Slot::Invite(*key));
                    let how = How::Invite(*expires_ms);
                    row.writes.push(Write { slot, gives: Some(*permission), how });
                }
                SettingsOp::Join { permission, .. } => {
                    let slot = self.tables.number(&Slot::Key(node.author));
                    row.writes.push(Write { slot, gives: Some(*permission), how: How::Set });
                }
            }
        }
        row.writes.sort_by_key(|write| write.slot);
        row.accepts.sort_unstable();
        row.accepts.dedup();
        Ok(self.tables.add(row))
    }

    /// The settings entries among and below entries of the past.
    fn below(&self, ids: &[EntryId], history: &dyn History) -> Result<Bits, ReadError> {
        let mut settings = Bits::default();
        for id in ids {
            let heads = match self.tables.ids.get(id) {
                Some(_) => vec![*id],
                None => history.frontier(id)?.ok_or_else(|| not_held(id))?,
            };
            for head in &heads {
                let node = self.tables.ids.get(head).ok_or_else(|| not_held(head))?;
                settings.unite(&self.tables.row(*node).past);
                settings.put(*node, true);
            }
        }
        Ok(settings)
    }

    fn level(&self, slot: Option<SlotNo>, at: &Resolution) -> Level {
        level_of(self.tables.permission(slot, |node| at.scene().is_live(node)).0)
    }

    /// Judges an entry by its past alone: final.
    pub fn judge(
        &mut self,
        candidate: Candidate<'_>,
        history: &dyn History,
    ) -> Result<Result<(), Denied>, ReadError> {
        if candidate.settings.is_some_and(|ops| ops.is_empty() || !SettingsOp::are_distinct(ops)) {
            return Ok(Err(Denied::Malformed));
        }
        if let ([], Some(ops)) = (candidate.parents, candidate.settings) {
            let takes = |op: &SettingsOp| matches!(op, SettingsOp::Revoke { .. } | SettingsOp::Accept(_));
            return Ok(if ops.iter().any(takes) {
                Err(Denied::RootTakesAway)
            } else {
                judge_rules(ops, RULES_FIRST)
            });
        }
        let past = self.resolve(candidate.past, history)?;
        if let Some(ops) = candidate.settings {
            if let Err(denied) = judge_rules(ops, self.rules(&past)) {
                return Ok(Err(denied));
            }
            if let [SettingsOp::Join { invite, permission, .. }] = ops {
                return Ok(self.judge_join(candidate.author, *invite, *permission, &past));
            }
        }
        let author = self.tables.slot_of(&candidate.author);
        let (permission, _) = self.tables.permission(author, |node| past.scene().is_live(node));
        let Some(ops) = candidate.settings else {
            let may = permission >= Some(Permission::Write);
            return Ok(if may { Ok(()) } else { Err(Denied::NotWriter(candidate.author)) });
        };
        let (Some(author), level) = (author, level_of(permission)) else {
            return Ok(Err(Denied::NotAdmin(candidate.author)));
        };
        let writes: Vec<Write> = ops.iter().filter_map(|op| self.plain_write(op)).collect();
        let overreach = self.tables.overreach(author, &writes, level, |node| past.scene().is_live(node));
        if let Some(overreach) = overreach {
            return Ok(Err(self.denied(candidate.author, overreach)));
        }
        for op in ops {
            if let SettingsOp::Set { slot, permission: Permission::Admin(granted) } = op
                && Level::from(*granted) < level
            {
                return Ok(Err(Denied::AboveOneself { slot: *slot }));
            }
        }
        self.judge_names(candidate.parents, ops, history)
    }

    fn judge_join(
        &self,
        joiner: PublicKey,
        invite: PublicKey,
        takes: Permission,
        past: &Resolution,
    ) -> Result<(), Denied> {
        let slots = (self.tables.find(&Slot::Invite(invite)), self.tables.slot_of(&joiner));
        match self.tables.misfit(slots.0, slots.1, takes, |node| past.scene().is_live(node)) {
            None => Ok(()),
            Some(Misfit::Invite { gives }) => Err(Denied::Invite { invite, gives }),
            Some(Misfit::Taken { by }) => Err(Denied::Taken { joiner, by: self.tables.row(by).id }),
        }
    }

    /// A write of a slot that is known. One that is not known has no value that could be outranked.
    fn plain_write(&self, op: &SettingsOp) -> Option<Write> {
        let (slot, gives) = match op {
            SettingsOp::Set { slot, permission } => (*slot, Some(*permission)),
            SettingsOp::Revoke { slot, .. } => (*slot, None),
            SettingsOp::Invite { key, permission, .. } => (Slot::Invite(*key), Some(*permission)),
            _ => return None,
        };
        let slot = self.tables.find(&slot)?;
        Some(Write { slot, gives, how: How::Set })
    }

    /// What is named must lie in the past, and only data is accepted.
    fn judge_names(
        &self,
        parents: &[EntryId],
        ops: &[SettingsOp],
        history: &dyn History,
    ) -> Result<Result<(), Denied>, ReadError> {
        for op in ops {
            let (ids, accepts) = match op {
                SettingsOp::Revoke { mode: KeyMode::Remove { fence: Some(ids) }, .. } => (ids, false),
                SettingsOp::Accept(ids) => (ids, true),
                _ => continue,
            };
            for id in ids {
                if !history.includes(parents, id)? {
                    return Ok(Err(Denied::NotInPast(*id)));
                }
                if accepts && self.tables.ids.contains_key(id) {
                    return Ok(Err(Denied::AcceptsSettings(*id)));
                }
            }
        }
        Ok(Ok(()))
    }

    fn denied(&self, author: PublicKey, overreach: Overreach) -> Denied {
        match overreach {
            Overreach::NotAdmin => Denied::NotAdmin(author),
            Overreach::Outranked { slot, by } => {
                Denied::Outranked { slot: self.name(slot), by: self.tables.row(by).id }
            }
            Overreach::AboveOneself { slot } => Denied::AboveOneself { slot: self.name(slot) },
        }
    }

    fn name(&self, slot: SlotNo) -> Slot {
        self.tables.slots[slot as usize].slot.unwrap_or(Slot::Everyone)
    }

    // ---- what a resolution says

    /// What a key may do: by its own slot if it has one, even a revoked one, else by the one for everyone.
    #[must_use]
    pub fn permission(&self, at: &Resolution, key: &PublicKey) -> Option<Permission> {
        self.tables.permission(self.tables.slot_of(key), |node| at.scene().is_live(node)).0
    }

    /// What a slot gives, if it was written: `Some(None)` when it is revoked.
    #[must_use]
    pub fn slot(&self, at: &Resolution, slot: &Slot) -> Option<Option<Permission>> {
        let slot = self.tables.find(slot)?;
        self.tables.slot_value(slot, |node| at.scene().is_live(node)).map(|(gives, _)| gives)
    }

    /// Every slot that was written, in order, with what it gives and the entry that gives it.
    #[must_use]
    pub fn slots(&self, at: &Resolution) -> Vec<(Slot, Option<Permission>, EntryId)> {
        let named = (0..).zip(&self.tables.slots).filter_map(|(number, row)| Some((number, row.slot?)));
        let written = named.filter_map(|(number, slot)| {
            let (gives, node) = self.tables.slot_value(number, |node| at.scene().is_live(node))?;
            Some((slot, gives, self.tables.row(node).id))
        });
        let mut slots: Vec<_> = written.collect();
        slots.sort_unstable_by_key(|(slot, ..)| *slot);
        slots
    }

    /// The invites that are open, in the order of their keys.
    #[must_use]
    pub fn invites(&self, at: &Resolution) -> Vec<OpenInvite> {
        let mut open = Vec::new();
        for (number, row) in (0..).zip(&self.tables.slots) {
            let Some(Slot::Invite(key)) = row.slot else { continue };
            let live = |node| at.scene().is_live(node);
            let Some((Some(permission), node)) = self.tables.slot_value(number, live) else { continue };
            let heads = self.tables.current(number, Level::MAX, live);
            let expires = heads.into_iter().filter_map(|head| match self.tables.write_of(head).how {
                How::Invite(expires_ms) => expires_ms,
                _ => None,
            });
            let (expires_ms, by) = (expires.min(), self.tables.row(node).id);
            open.push(OpenInvite { key, permission, expires_ms, by });
        }
        open.sort_unstable_by_key(|invite| invite.key);
        open
    }

    /// The number of the rules by which entries are judged that have all of this in their past: the greatest that any
    /// of it names, void or not, so that it never goes back.
    #[must_use]
    pub fn rules(&self, at: &Resolution) -> u64 {
        at.frontier.iter().map(|node| self.tables.row(*node).rules).max().unwrap_or(RULES_FIRST)
    }

    /// The shared title. Of several that were given concurrently, that of the smallest id.
    #[must_use]
    pub fn title(&self, at: &Resolution) -> Option<&str> {
        let current = self.tables.current(TITLE, Level::MAX, |node| at.scene().is_live(node));
        let rows = current.into_iter().map(|writer| self.tables.row(writer.node));
        rows.min_by_key(|row| row.id)?.title.as_deref()
    }

    /// Why a settings entry that is in the resolved set is void; nothing when it counts, or is not in the set.
    #[must_use]
    pub fn why(&self, at: &Resolution, settings: &EntryId) -> Option<Void> {
        let node = *self.tables.ids.get(settings)?;
        if !at.void.contains(node) {
            return None;
        }
        let row = self.tables.row(node);
        self.tables.fault(node, at.scene()).map(|fault| self.explain(row.key, fault))
    }

    /// The settings entries of the resolved set that are void, sorted.
    #[must_use]
    pub fn void_settings(&self, at: &Resolution) -> Vec<EntryId> {
        let mut ids: Vec<EntryId> = at.void.iter().map(|node| self.tables.row(node).id).collect();
        ids.sort_unstable();
        ids
    }

    fn explain(&self, key: PublicKey, fault: Fault) -> Void {
        let id = |node: Option<Node>| node.map(|node| self.tables.row(node).id);
        match fault {
            Fault::Removed { by, slot } => {
                let row = self.tables.row(by);
                let left = self.tables.write(by, slot).and_then(|write| write.gives);
                Void::Removed { slot: self.name(slot), left, by: row.id, remover: row.key }
            }
            Fault::Right { cause } => Void::Right { key, cause: id(cause) },
            Fault::Level { cause } => Void::Level { key, cause: id(cause) },
            Fault::Slot { slot, cause } => Void::Slot { slot: self.name(slot), cause: id(cause) },
        }
    }

    // ---- data

    /// The standing of all data by one author with one settings frontier, among the settings entries of `now`. What
    /// single entries accept is left aside.
    pub fn class(
        &mut self,
        now: &Resolution,
        author: &PublicKey,
        past: &[EntryId],
        history: &dyn History,
    ) -> Result<Class, ReadError> {
        let own = self.resolve(past, history)?;
        Ok(self.class_in(now.scene(), author, &own))
    }

    fn class_in(&self, scene: Scene<'_>, author: &PublicKey, own: &Resolution) -> Class {
        let slot = self.tables.slot_of(author);
        let remains = |node: Node| own.set.contains(node) && !scene.void.contains(node);
        let subject = Subject { level: NO_LEVEL, needs: Permission::Write, past: &own.set };
        let unwritten = |member: &dyn Fn(Node) -> bool| {
            slot.is_none_or(|slot| self.tables.slot_value(slot, member).is_none())
        };
        let relied_on_everyone = unwritten(&remains) || unwritten(&|node| own.scene().is_live(node));
        let mut slots: Vec<SlotNo> = slot.into_iter().collect();
        slots.extend(relied_on_everyone.then_some(EVERYONE));
        let mut fenced = Vec::new();
        for slot in slots {
            for (by, write) in self.tables.removers(slot, subject, scene) {
                let why = self.explain(*author, Fault::Removed { by, slot });
                // What is kept has its settings kept too.
                if !own.set.is_within(self.tables.kept(by, write)) {
                    return Class::Void(why);
                }
                let keeps = match &write.how {
                    How::Remove(Some(fence)) => fence.ids.clone(),
                    _ => vec![self.tables.row(by).id],
                };
                fenced.push(Removal { keeps, why });
            }
        }
        let (permission, _) = self.tables.permission(slot, remains);
        if permission < Some(Permission::Write) {
            let mut changed = scene.void.differing(&own.void).filter(|node| own.set.contains(*node));
            let cause = changed.find(|node| {
                self.tables.write(*node, EVERYONE).is_some()
                    || slot.is_some_and(|slot| self.tables.write(*node, slot).is_some())
            });
            return Class::Void(self.explain(*author, Fault::Right { cause }));
        }
        if fenced.is_empty() { Class::Stands } else { Class::Fenced(fenced) }
    }

    /// Whether a valid data entry counts among the settings entries of `now`.
    pub fn standing(
        &mut self,
        now: &Resolution,
        data: Data<'_>,
        history: &dyn History,
    ) -> Result<Standing, ReadError> {
        let own = self.resolve(data.past, history)?;
        let Some(void) = self.void_in(now.scene(), data, &own, history)? else { return Ok(Standing::Stands) };
        let acceptors = self.tables.accepted.get(&data.id).cloned().unwrap_or_default();
        for acceptor in acceptors.into_iter().filter(|node| now.scene().is_live(*node)) {
            let view = self.heard_by(now, acceptor);
            let scene = Scene { set: &now.set, void: &view, heard_by: Some(acceptor) };
            if self.void_in(scene, data, &own, history)?.is_none() {
                return Ok(Standing::Accepted { by: self.tables.row(acceptor).id });
            }
        }
        Ok(Standing::Void(void))
    }

    fn void_in(
        &self,
        scene: Scene<'_>,
        data: Data<'_>,
        own: &Resolution,
        history: &dyn History,
    ) -> Result<Option<Void>, ReadError> {
        match self.class_in(scene, &data.author, own) {
            Class::Stands => Ok(None),
            Class::Void(void) => Ok(Some(void)),
            Class::Fenced(removals) => {
                for removal in removals {
                    if !history.includes(&removal.keeps, &data.id)? {
                        return Ok(Some(removal.why));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The void settings entries as an entry that accepts would have them.
    fn heard_by(&mut self, now: &Resolution, acceptor: Node) -> Bits {
        let key = (now.frontier.clone(), acceptor);
        if let Some(view) = self.views.get(&key) {
            return view.clone();
        }
        let mut run = Run::heard_by(&self.tables, now.set.clone(), now.void.clone(), acceptor);
        while !run.step(&self.tables, &mut { usize::MAX }) {}
        if self.views.len() >= ACCEPTED_VIEWS_MAX {
            self.views.clear();
        }
        self.views.insert(key, run.void.clone());
        run.void
    }

    // ---- what changes

    /// What changed between two resolutions, of which `new` has all settings entries of `old` and perhaps more.
    #[must_use]
    pub fn change(&self, old: &Resolution, new: &Resolution) -> Change {
        let mut change = Change::default();
        for node in old.void.differing(&new.void) {
            let list = if new.void.contains(node) { &mut change.voided } else { &mut change.restored };
            list.push(self.tables.row(node).id);
            if old.set.contains(node) {
                let row = self.tables.row(node);
                for write in row.writes.iter().filter(|write| self.concerns_data(write)) {
                    // Who had seen it may have relied on it.
                    let place = Place::After(row.id);
                    change.reaches.push(Reach { slot: self.name(write.slot), place });
                    self.reach(node, write, new, &mut change.reaches);
                }
            }
        }
        let added: Vec<Node> = new.set.minus(&old.set).collect();
        for node in added.iter().filter(|node| !new.void.contains(**node)) {
            for write in self.tables.row(*node).writes.iter().filter(|write| self.concerns_data(write)) {
                self.reach(*node, write, new, &mut change.reaches);
            }
        }
        change.reaches.sort_unstable();
        change.reaches.dedup();
        if !added.is_empty() {
            let accepts = |nodes: &[Node]| nodes.iter().any(|node| new.set.contains(*node));
            let accepted = self.tables.accepted.iter().filter(|(_, nodes)| accepts(nodes));
            change.accepted = accepted.map(|(id, _)| *id).collect();
        }
        change
    }

    /// Whether somebody's data depends on a slot. What an invite gives is taken by joins alone, which are settings.
    fn concerns_data(&self, write: &Write) -> bool {
        matches!(self.tables.slots[write.slot as usize].slot, Some(Slot::Key(_) | Slot::Everyone))
    }

    /// What an entry that is added or changed standing may change, by its write of one slot, for data that had not seen
    /// it: it removes, or weaker removals give way to it or to what gave way to it.
    fn reach(&self, node: Node, write: &Write, new: &Resolution, reaches: &mut Vec<Reach>) {
        let slot = self.name(write.slot);
        let nothing_seen = Bits::default();
        let data = Subject { level: NO_LEVEL, needs: Permission::Write, past: &nothing_seen };
        let mut push = |by: Node, write: &Write| {
            let tips = match &write.how {
                How::Remove(Some(fence)) => fence.ids.clone(),
                _ => vec![self.tables.row(by).id],
            };
            reaches.push(Reach { slot, place: Place::Outside(tips) });
        };
        if self.tables.takes(node, write, data) {
            push(node, write);
        }
        for writer in &self.tables.slots[write.slot as usize].writers {
            let removal = self.tables.write_of(*writer);
            if writer.level > self.tables.row(node).level
                && new.scene().is_live(writer.node)
                && self.tables.takes(writer.node, removal, data)
            {
                push(writer.node, removal);
            }
        }
    }
}

/// The greatest number of rules that operations name.
fn rules_named(ops: &[SettingsOp]) -> u64 {
    let named = ops.iter().filter_map(|op| match op {
        SettingsOp::Rules(number) => Some(*number),
        _ => None,
    });
    named.max().unwrap_or(RULES_FIRST)
}

/// Whether operations belong to the rules of their past, or to those that they bring.
fn judge_rules(ops: &[SettingsOp], past: u64) -> Result<(), Denied> {
    let rules = rules_named(ops).max(past);
    let needed = ops.iter().map(SettingsOp::rules_needed).max().unwrap_or(RULES_FIRST);
    if needed > rules { Err(Denied::Rules { needed, rules }) } else { Ok(()) }
}

impl Reach {
    /// Whether data by this author may be meant.
    #[must_use]
    pub fn concerns(&self, author: &PublicKey) -> bool {
        match &self.slot {
            Slot::Key(key) => key == author,
            Slot::Everyone => true,
            Slot::Invite(_) => false,
        }
    }
}

impl Change {
    /// Whether no data can have changed standing.
    #[must_use]
    pub fn leaves_data_alone(&self) -> bool {
        self.reaches.is_empty() && self.accepted.is_empty()
    }
}

impl Resolution {
    fn scene(&self) -> Scene<'_> {
        Scene { set: &self.set, void: &self.void, heard_by: None }
    }

    /// How many settings entries it is made of.
    #[must_use]
    pub fn settings_count(&self) -> usize {
        self.set.len() as usize
    }

    /// How many of them are void.
    #[must_use]
    pub fn void_count(&self) -> usize {
        self.void.len() as usize
    }
}
