//! The one door: judges a group of jobs against one snapshot and makes one batch of what may be stored.
//!
//! Whatever the number of entries, a group costs one snapshot, one read of states, ids and stores, one read of
//! settings when a tree is seen for the first time in this process, one read of view rows, and one commit. The first
//! group of a process that passes a checkpoint of a tree reads its sketch, once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use eid_core::dag::Seq;
use eid_core::sabotage::{self, Sabotage};
use eid_core::sketch::ShortId;
use eid_core::{
    Admissible, Draft, Entry, EntryId, Height, Invalid, Judge, Missing, ParentFacts, PublicKey, Question,
    Refusal, Signed, Stands, StoreName, Time, TreeId, check_place,
};

use crate::apply::Apply;
use crate::backend::{Batch, Durability, Key, Snapshot, Value};
use crate::error::StoreError;
use crate::limits::CHECKPOINT_ENTRIES;
use crate::offer::{Admission, Admitted, Committed, LocalCommit, Parents, Prepared, Verdict};
use crate::past::{Interval, past_key};
use crate::prepare::{Checked, Item, Sound, Write};
use crate::rows::{
    Edge, Facts, Late, Meta, PRUNED, Space, StoreRow, TreeNo, TreeState, Unsettled, checkpoint_key,
    decode_log, encode_checkpoint, encode_frontier, encode_log, encode_tree_no, frontier_key, id_key,
    late_key, meta_key, missing_key, seq_key, settings_key, state_key, store_key, trees_key,
};
use crate::settings::{
    Frontier, Overlay, PendingSettings, SettingsRow, TreeMemory, Walked, encode_settings, load_all,
};
use crate::sketch::{self, encode_sketch, sketch_key};
use crate::views::{PendingChange, PendingIds, Views};

/// One caller's work.
#[derive(Debug)]
pub(crate) enum Job {
    /// Batches of one tree, in their order.
    Foreign(Vec<Prepared>),
    Local(Box<LocalJob>),
    /// Nothing here: its caller runs something of its own while nobody else is within the door.
    Exclusive,
}

/// A local commit with what its caller could prepare.
#[derive(Debug)]
pub(crate) struct LocalJob {
    pub commit: LocalCommit,
    pub writes: Vec<Write>,
    /// A root depends on nothing, so it is sealed already.
    pub root: Option<Signed>,
}

impl LocalJob {
    fn tree_of_root(&self) -> Option<TreeId> {
        self.root.as_ref().map(|root| root.entry().tree())
    }
}

impl Job {
    /// Bytes of blocks and payloads, nearly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Foreign(batches) => batches.iter().map(|prepared| prepared.bytes).sum(),
            Self::Local(local) => {
                local.commit.sections.iter().map(|section| section.payload.len() + 256).sum()
            }
            Self::Exclusive => 0,
        }
    }

    fn tree(&self) -> Option<TreeId> {
        match self {
            Self::Foreign(batches) => batches.first().map(|prepared| prepared.tree),
            Self::Local(local) => local.commit.tree.or_else(|| local.tree_of_root()),
            Self::Exclusive => None,
        }
    }
}

/// What came of one job.
#[derive(Debug)]
pub(crate) enum Outcome {
    Foreign(Vec<Admission>),
    Local(Result<Committed, StoreError>),
    Exclusive,
}

/// The seams that a group goes through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door<'a> {
    pub judge: &'a dyn Judge,
    pub apply: &'a dyn Apply,
    pub snapshot: &'a dyn Snapshot,
}

/// A group that was judged and waits for its commit.
#[derive(Debug)]
pub(crate) struct Judged {
    pub outcomes: Vec<Outcome>,
    /// Nothing when nothing changes.
    pub batch: Option<Batch>,
    pub admitted: Vec<Admitted>,
    /// What goes into memory once the batch is committed.
    pub learned: Vec<Learned>,
}

/// What a committed group adds to what is kept in memory of one tree.
#[derive(Debug)]
pub(crate) struct Learned {
    pub tree: TreeId,
    pub memory: Arc<TreeMemory>,
    pub pending: PendingSettings,
    pub stores: Vec<(StoreName, String, u32)>,
    /// The position of the first entry added, and the short ids of all of them.
    pub added: (Seq, Vec<ShortId>),
    /// Whether settings came that may change what counts.
    pub unsettled: bool,
}

/// Judges a group. `trees` gives what is kept in memory of the trees that are known.
pub(crate) fn judge_group(
    door: Door<'_>,
    jobs: &[&Job],
    trees: &dyn Fn(&TreeId) -> Option<Arc<TreeMemory>>,
) -> Result<Judged, StoreError> {
    let mut group = Group { door, works: BTreeMap::new(), changes: Vec::new(), meta: None };
    group.find_trees(jobs, trees)?;
    group.read_places(jobs)?;
    let mut outcomes = Vec::with_capacity(jobs.len());
    let mut durability = Durability::Relaxed;
    for job in jobs {
        outcomes.push(match job {
            Job::Foreign(batches) => {
                durability = Durability::Durable;
                let admissions = batches.iter().map(|prepared| group.foreign(prepared));
                Outcome::Foreign(admissions.collect::<Result<_, StoreError>>()?)
            }
            Job::Local(local) => {
                durability = durability.max(local.commit.durability);
                match group.local(local) {
                    Err(StoreError::Refused(refusal)) => Outcome::Local(Err(StoreError::Refused(refusal))),
                    Err(StoreError::UnknownTree) => Outcome::Local(Err(StoreError::UnknownTree)),
                    other => Outcome::Local(Ok(other?)),
                }
            }
            Job::Exclusive => Outcome::Exclusive,
        });
    }
    group.finish(outcomes, durability)
}

struct Group<'a> {
    door: Door<'a>,
    works: BTreeMap<TreeId, Work<'a>>,
    changes: Vec<PendingChange<'a>>,
    /// Before and after, when a tree is made.
    meta: Option<(Value, Meta)>,
}

/// One tree while a group is judged.
struct Work<'a> {
    tree: TreeId,
    memory: Arc<TreeMemory>,
    /// The state row as it was read; nothing for a tree that is not held.
    before: Option<Value>,
    state: TreeState,
    /// What is held, as far as this group asks, and what it added.
    known: HashMap<EntryId, Facts>,
    refused: HashMap<EntryId, Refusal>,
    /// The position of the first entry that the group adds, the ids of all that it adds, and whether each is local.
    first: Seq,
    added: Vec<(EntryId, bool)>,
    pending: PendingSettings,
    stores: BTreeMap<(StoreName, String), StoreWork>,
    puts: Vec<(Key, Value)>,
    deletes: Vec<Key>,
    /// Entries held already that may bring payloads that are not here.
    late: Vec<(Seq, &'a Sound)>,
    /// The settings entries that no other one held descends from, once they were asked for.
    settings: Option<Frontier>,
    /// Entries that the group adds and that do not count.
    voids: BTreeSet<Seq>,
    dirty: bool,
}

#[derive(Debug, Clone)]
struct StoreWork {
    row: StoreRow,
    /// Made by this group, so its view has no rows.
    fresh: bool,
    dirty: bool,
    /// What the row was before an interval changed it.
    left_behind: Vec<(Interval, StoreRow)>,
}

impl StoreWork {
    fn new(held: Option<StoreRow>) -> Self {
        let (row, fresh) = (held.unwrap_or_default(), held.is_none());
        Self { row, fresh, dirty: false, left_behind: Vec::new() }
    }

    /// Comes when everything is counted already.
    fn add_undecodable(&mut self, count: u32, interval: Interval) {
        self.row.undecodable += u64::from(count);
        for (_, before) in self.left_behind.iter_mut().filter(|(later, _)| *later > interval) {
            before.undecodable += u64::from(count);
        }
    }
}

/// The settings that an entry descends from.
struct Past {
    ids: Frontier,
    /// Its number, when it has one already.
    number: Option<u32>,
    /// The frontiers of the parents that it joins, when there is more than one.
    joins: Vec<u32>,
}

impl PendingIds for BTreeMap<TreeId, Work<'_>> {
    fn pending_id(&self, tree: TreeNo, seq: Seq) -> Option<EntryId> {
        let work = self.values().find(|work| work.memory.number == tree)?;
        let index = usize::try_from(seq.0.checked_sub(work.first.0)?).ok()?;
        work.added.get(index).map(|(id, _)| *id)
    }

    fn pending_seq(&self, tree: TreeNo, id: &EntryId) -> Option<Seq> {
        let work = self.values().find(|work| work.memory.number == tree)?;
        work.known.get(id).map(|facts| facts.seq)
    }
}

impl<'a> Group<'a> {
    fn find_trees(
        &mut self,
        jobs: &[&Job],
        trees: &dyn Fn(&TreeId) -> Option<Arc<TreeMemory>>,
    ) -> Result<(), StoreError> {
        let mut unknown = Vec::new();
        for tree in jobs.iter().filter_map(|job| job.tree()) {
            if self.works.contains_key(&tree) || unknown.contains(&tree) {
                continue;
            }
            match trees(&tree) {
                Some(memory) => {
                    self.works.insert(tree, Work::new(tree, memory));
                }
                None => unknown.push(tree),
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = std::iter::once(meta_key()).chain(unknown.iter().map(trees_key)).collect();
        let mut found = self.door.snapshot.get_many(&keys)?.into_iter();
        let value =
            found.next().flatten().ok_or(StoreError::Corrupt { what: "the row of the whole store" })?;
        let mut meta = Meta::decode(&value)?;
        for (tree, number) in unknown.into_iter().zip(found) {
            let memory = match number {
                Some(number) => TreeMemory::new(crate::rows::decode_tree_no(&number)?),
                None => {
                    let number = TreeNo(meta.next_tree);
                    meta.next_tree += 1;
                    TreeMemory::of_a_fresh_tree(number)
                }
            };
            self.works.insert(tree, Work::new(tree, Arc::new(memory)));
        }
        self.meta = Some((value, meta));
        Ok(())
    }

    /// Reads states, the entries offered and their parents, and the stores written, all at once.
    fn read_places(&mut self, jobs: &[&Job]) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        let mut asked = Vec::new();
        for (tree, work) in &self.works {
            keys.push(state_key(work.memory.number));
            asked.push((*tree, Asked::State));
        }
        let mut ids: BTreeMap<TreeId, std::collections::HashSet<EntryId>> = BTreeMap::new();
        for job in jobs {
            let Some((tree, number)) = job.tree().map(|tree| (tree, self.works[&tree].memory.number)) else {
                continue;
            };
            let seen = ids.entry(tree).or_default();
            let mut ask_id = |id: &EntryId| {
                if seen.insert(*id) {
                    keys.push(id_key(number, id));
                    asked.push((tree, Asked::Id(*id)));
                }
            };
            match job {
                Job::Foreign(batches) => {
                    let items = batches.iter().flat_map(|prepared| &prepared.items);
                    for sound in items.filter_map(Item::sound) {
                        ask_id(&sound.entry.entry().id());
                        sound.entry.entry().header().parents.iter().for_each(&mut ask_id);
                    }
                }
                Job::Local(local) => {
                    if let Parents::Pinned(parents) = &local.commit.parents {
                        parents.iter().for_each(&mut ask_id);
                    }
                    if let Some(root) = &local.root {
                        ask_id(&root.entry().id());
                    }
                }
                Job::Exclusive => {}
            }
            for write in job.writes() {
                let work = self.works.get_mut(&tree).expect("every job's tree has a place");
                let name = (write.store.clone(), write.kind.clone());
                if let std::collections::btree_map::Entry::Vacant(place) = work.stores.entry(name) {
                    place.insert(StoreWork::new(None));
                    keys.push(store_key(number, &write.store, &write.kind));
                    asked.push((tree, Asked::Store(write.store.clone(), write.kind.clone())));
                }
            }
        }
        let found = self.door.snapshot.get_many(&keys)?;
        for ((tree, asked), value) in asked.into_iter().zip(found) {
            let (Some(value), Some(work)) = (value, self.works.get_mut(&tree)) else { continue };
            match asked {
                Asked::State => {
                    work.state = TreeState::decode(&value)?;
                    work.first = work.state.next_seq;
                    for (id, facts) in &work.state.tips {
                        work.known.insert(*id, *facts);
                    }
                    work.before = Some(value);
                }
                Asked::Id(id) => {
                    work.known.insert(id, Facts::decode(&value)?);
                }
                Asked::Store(store, kind) => {
                    let row = StoreRow::decode(&value)?;
                    work.stores.insert((store, kind), StoreWork::new(Some(row)));
                }
            }
        }
        let cold: Vec<&TreeMemory> =
            self.works.values().filter(|work| work.before.is_some()).map(|work| &*work.memory).collect();
        load_all(&cold, self.door.snapshot)
    }

    fn foreign(&mut self, prepared: &'a Prepared) -> Result<Admission, StoreError> {
        let door = self.door;
        let work = self.works.get_mut(&prepared.tree).expect("every job's tree has a place");
        let mut verdicts: Vec<Option<Verdict>> = vec![None; prepared.items.len()];
        for index in order_of(prepared) {
            verdicts[index] = Some(match &prepared.items[index] {
                Item::Refused { id, refusal } => {
                    // A wrong payload says nothing about the block that it came with.
                    if *refusal != Refusal::Invalid(Invalid::PayloadMismatch) {
                        work.refused.insert(*id, refusal.clone());
                    }
                    Verdict::Refused(refusal.clone())
                }
                Item::Sound(sound) => {
                    let verdict =
                        work.admit(door, sound.entry.clone(), &sound.writes, false, &mut self.changes)?;
                    match &verdict {
                        Verdict::Refused(refusal) => {
                            work.refused.insert(sound.entry.entry().id(), refusal.clone());
                        }
                        Verdict::Duplicate(seq) if work.state.missing > 0 && *seq < work.first => {
                            work.late.push((*seq, sound));
                        }
                        Verdict::Duplicate(_) | Verdict::Admitted(_) => {}
                    }
                    verdict
                }
                Item::Repeat(first) => match &verdicts[*first] {
                    Some(Verdict::Admitted(seq) | Verdict::Duplicate(seq)) => Verdict::Duplicate(*seq),
                    Some(Verdict::Refused(refusal)) => Verdict::Refused(refusal.clone()),
                    None => {
                        return Err(StoreError::Corrupt { what: "a batch names a later offer as earlier" });
                    }
                },
            });
        }
        let verdicts =
            verdicts.into_iter().map(|verdict| verdict.expect("every offer was looked at")).collect();
        Ok(Admission { verdicts, end: work.state.next_seq })
    }

    fn local(&mut self, job: &'a LocalJob) -> Result<Committed, StoreError> {
        let door = self.door;
        let tree = job.commit.tree.or_else(|| job.tree_of_root());
        let work = tree.and_then(|tree| self.works.get_mut(&tree)).ok_or(StoreError::UnknownTree)?;
        if let Some(root) = &job.root {
            return work.seal(door, root.clone(), &job.writes, &mut self.changes);
        }
        if work.before.is_none() && work.added.is_empty() {
            return Err(StoreError::UnknownTree);
        }
        let commit = &job.commit;
        let settings = commit.sections.iter().any(|section| section.store.is_settings());
        let mut parents = match &commit.parents {
            Parents::Pinned(ids) if !settings => work.held(ids)?,
            Parents::Pinned(_) | Parents::AtSeal => {
                work.state.tips.iter().map(|(id, facts)| (*id, *facts)).collect()
            }
        };
        parents.sort_unstable_by_key(|(_, facts)| facts.seq);
        parents.dedup();
        // Oldest first, each merge taking the place of what it merges.
        let mut parents = std::collections::VecDeque::from(parents);
        while parents.len() > eid_core::limits::PARENTS_MAX {
            let merged = parents.drain(..eid_core::limits::PARENTS_MAX).collect::<Vec<_>>();
            let draft = work.draft(commit, &merged, Vec::new())?;
            let sealed = work.seal(door, Signed::seal(draft, &commit.author)?, &[], &mut self.changes)?;
            parents.push_back((sealed.id, work.known[&sealed.id]));
        }
        work.refuse_void(door, commit.author.public(), parents.make_contiguous())?;
        let draft = work.draft(commit, parents.make_contiguous(), commit.sections.clone())?;
        work.seal(door, Signed::seal(draft, &commit.author)?, &job.writes, &mut self.changes)
    }

    fn finish(mut self, outcomes: Vec<Outcome>, durability: Durability) -> Result<Judged, StoreError> {
        for work in self.works.values_mut() {
            work.fill(self.door.snapshot, &mut self.changes)?;
        }
        let mut views = Views::fetch(self.door.snapshot, self.door.apply, &self.changes)?;
        for change in &self.changes {
            let applied = views.apply(self.door.apply, change, &self.works)?;
            if applied.undecodable > 0 {
                let work = self.works.values_mut().find(|work| work.memory.number == change.tree);
                let name = (change.write.store.clone(), change.write.kind.clone());
                if let Some(store) = work.and_then(|work| work.stores.get_mut(&name)) {
                    store.add_undecodable(applied.undecodable, Interval::of(change.applied));
                }
            }
        }
        let mut batch = Batch { durability, ..Batch::default() };
        views.write_into(&mut batch)?;
        let (mut admitted, mut learned) = (Vec::new(), Vec::new());
        let mut made = false;
        for (tree, work) in self.works {
            if !work.dirty {
                continue;
            }
            made |= work.before.is_none();
            let sketch = work.sketch(self.door.snapshot)?;
            batch.puts.extend(sketch);
            admitted.extend(work.runs());
            learned.push(work.write_into(&mut batch, tree));
        }
        if let (Some((before, after)), true) = (self.meta, made) {
            batch.guards.push((meta_key(), Some(before)));
            batch.puts.push((meta_key(), after.encode()));
        }
        let batch = (!learned.is_empty()).then_some(batch);
        Ok(Judged { outcomes, batch, admitted, learned })
    }
}

enum Asked {
    State,
    Id(EntryId),
    Store(StoreName, String),
}

impl Job {
    fn writes(&self) -> Box<dyn Iterator<Item = &Write> + '_> {
        match self {
            Self::Foreign(batches) => {
                let items = batches.iter().flat_map(|prepared| &prepared.items);
                Box::new(items.filter_map(Item::sound).flat_map(|sound| &sound.writes))
            }
            Self::Local(local) => Box::new(local.writes.iter()),
            Self::Exclusive => Box::new(std::iter::empty()),
        }
    }
}

/// The order to look at offers in: theirs, unless one comes before its parent.
fn order_of(prepared: &Prepared) -> Vec<usize> {
    let mut index = HashMap::with_capacity(prepared.items.len());
    for (i, item) in prepared.items.iter().enumerate() {
        match item {
            Item::Sound(sound) => index.insert(sound.entry.entry().id(), i),
            Item::Refused { id, .. } => index.insert(*id, i),
            Item::Repeat(_) => None,
        };
    }
    let parents_of = |i: usize| match &prepared.items[i] {
        Item::Sound(sound) => &sound.entry.entry().header().parents[..],
        Item::Refused { .. } | Item::Repeat(_) => &[],
    };
    let in_order = (0..prepared.items.len())
        .all(|i| parents_of(i).iter().all(|parent| index.get(parent).is_none_or(|at| *at < i)));
    if in_order {
        return (0..prepared.items.len()).collect();
    }
    let (mut positions, mut items) = (Vec::new(), Vec::new());
    for (i, item) in prepared.items.iter().enumerate() {
        let id = match item {
            Item::Sound(sound) => sound.entry.entry().id(),
            Item::Refused { id, .. } => *id,
            Item::Repeat(_) => continue,
        };
        positions.push(i);
        items.push((id, parents_of(i)));
    }
    let sorted = eid_core::dag::parents_first(&items);
    positions = sorted.into_iter().map(|i| positions[i]).collect();
    let repeats = prepared.items.iter().enumerate().filter(|(_, item)| matches!(item, Item::Repeat(_)));
    positions.extend(repeats.map(|(i, _)| i));
    positions
}

impl<'a> Work<'a> {
    fn new(tree: TreeId, memory: Arc<TreeMemory>) -> Self {
        Self {
            tree,
            memory,
            before: None,
            state: TreeState::default(),
            known: HashMap::new(),
            refused: HashMap::new(),
            first: Seq(0),
            added: Vec::new(),
            pending: PendingSettings::default(),
            stores: BTreeMap::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            late: Vec::new(),
            settings: None,
            voids: BTreeSet::new(),
            dirty: false,
        }
    }

    fn overlay<'w>(&'w self, door: Door<'w>) -> Overlay<'w> {
        let (memory, pending) = (&self.memory, &self.pending);
        Overlay { memory, pending, known: Some(&self.known), snapshot: door.snapshot }
    }

    fn held(&self, ids: &[EntryId]) -> Result<Vec<(EntryId, Facts)>, StoreError> {
        let absent: Vec<EntryId> = ids.iter().filter(|id| !self.known.contains_key(id)).copied().collect();
        if !absent.is_empty() {
            return Err(Missing::Parents(absent).into());
        }
        Ok(ids.iter().map(|id| (*id, self.known[id])).collect())
    }

    fn draft(
        &self,
        commit: &LocalCommit,
        parents: &[(EntryId, Facts)],
        sections: Vec<eid_core::SectionDraft>,
    ) -> Result<Draft, StoreError> {
        let highest = parents.iter().map(|(_, facts)| facts.height).max().unwrap_or_default();
        Ok(Draft {
            tree: Some(self.tree),
            parents: parents.iter().map(|(id, _)| *id).collect(),
            height: highest.child().ok_or(Invalid::Height)?,
            time: Time::next(commit.now_ms, self.state.time),
            sections,
            nonce: None,
        })
    }

    /// Takes an entry of this device through the door.
    fn seal(
        &mut self,
        door: Door<'_>,
        signed: Signed,
        writes: &'a [Write],
        changes: &mut Vec<PendingChange<'a>>,
    ) -> Result<Committed, StoreError> {
        let (id, time, tree) = (signed.entry().id(), signed.entry().header().time, self.tree);
        match self.admit(door, Checked::Verified(signed), writes, true, changes)? {
            Verdict::Admitted(seq) | Verdict::Duplicate(seq) => Ok(Committed { tree, id, seq, time }),
            Verdict::Refused(refusal) => Err(refusal.into()),
        }
    }

    fn admit(
        &mut self,
        door: Door<'_>,
        checked: Checked,
        writes: &'a [Write],
        local: bool,
        changes: &mut Vec<PendingChange<'a>>,
    ) -> Result<Verdict, StoreError> {
        let entry = checked.entry();
        if let Some(facts) = self.known.get(&entry.id()) {
            return Ok(Verdict::Duplicate(facts.seq));
        }
        if let Some(refusal) = self.refused_parent(entry) {
            return Ok(Verdict::Refused(refusal));
        }
        let facts: Vec<Option<Facts>> =
            entry.header().parents.iter().map(|parent| self.known.get(parent).copied()).collect();
        let parents: Vec<Option<ParentFacts>> =
            entry.header().parents.iter().zip(&facts).map(parent_facts).collect();
        if let Err(refusal) = check_place(entry, &self.tree, &parents) {
            return Ok(Verdict::Refused(refusal));
        }
        let facts: Vec<Facts> = facts.into_iter().flatten().collect();
        let past = self.past(door, &facts)?;
        let history = Walked::new(self.overlay(door));
        let signed = match checked {
            Checked::Verified(signed) => signed,
            Checked::Bad(_) => return Ok(Verdict::Refused(Invalid::Signature.into())),
            Checked::Later(entry) => {
                // Settings may name much that has to be looked up, so nobody gets that for nothing.
                let question = Question { entry: &entry, past: &past.ids };
                if !entry.header().is_settings()
                    && let Err(refusal) = door.judge.judge(question, &history)?
                {
                    return Ok(Verdict::Refused(refusal));
                }
                match Signed::check(entry) {
                    Ok(signed) => signed,
                    Err(invalid) => return Ok(Verdict::Refused(invalid.into())),
                }
            }
        };
        match Admissible::check(signed, &self.tree, &parents, &past.ids, door.judge, &history)? {
            Ok(admissible) => {
                let (entry, ids, before) = (admissible.entry(), past.ids.clone(), self.settings(door)?);
                let seq = self.record(&admissible, &facts, past, local);
                self.weigh(door, entry, seq, &ids, &before)?;
                let stands = !self.voids.contains(&seq);
                for write in writes {
                    self.change((seq, stands), entry, write, changes);
                }
                Ok(Verdict::Admitted(seq))
            }
            Err(refusal) => Ok(Verdict::Refused(refusal)),
        }
    }

    /// What descends from something that will never be admitted here will not be either.
    fn refused_parent(&self, entry: &Entry) -> Option<Refusal> {
        let lacking = entry.header().parents.iter().filter(|parent| !self.known.contains_key(parent));
        let refused = lacking.filter_map(|parent| self.refused.get(parent));
        let mut found = None;
        for refusal in refused {
            match refusal {
                Refusal::Invalid(_) => return Some(Invalid::ParentInvalid.into()),
                Refusal::Unsupported(_) => found = Some(refusal.clone()),
                Refusal::Missing(_) => {}
            }
        }
        found
    }

    /// The settings frontier of an entry with these parents.
    fn past(&self, door: Door<'_>, parents: &[Facts]) -> Result<Past, StoreError> {
        let mut numbers: Vec<u32> = parents.iter().map(|facts| facts.frontier).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let overlay = self.overlay(door);
        let (number, ids) = match numbers[..] {
            [] => (None, Frontier::from([])),
            [number] => (Some(number), overlay.frontier(number)?),
            _ => match overlay.join(&numbers) {
                Some(number) => (Some(number), overlay.frontier(number)?),
                None => {
                    let ids = overlay.heads(&numbers)?;
                    (overlay.number_of(&ids), ids.into())
                }
            },
        };
        let joins = if numbers.len() > 1 { numbers } else { Vec::new() };
        Ok(Past { ids, number, joins })
    }

    /// The number of a frontier, given one if it has none.
    fn intern(&mut self, ids: &Frontier, number: Option<u32>) -> u32 {
        number.or_else(|| self.pending.numbers.get(ids).copied()).unwrap_or_else(|| {
            let number = self.state.next_frontier;
            self.state.next_frontier += 1;
            self.puts.push((frontier_key(self.memory.number, number), encode_frontier(ids)));
            self.pending.frontiers.insert(number, ids.clone());
            self.pending.numbers.insert(ids.clone(), number);
            number
        })
    }

    /// The settings entries that no other one held descends from, what the group adds included.
    fn settings(&mut self, door: Door<'_>) -> Result<Frontier, StoreError> {
        if let Some(settings) = &self.settings {
            return Ok(settings.clone());
        }
        let settings = self.overlay(door).of_tips(&self.state)?;
        self.settings = Some(settings.clone());
        Ok(settings)
    }

    /// Refuses a write of this device that would not count: its author was removed since its parents were read.
    fn refuse_void(
        &mut self,
        door: Door<'_>,
        author: PublicKey,
        parents: &[(EntryId, Facts)],
    ) -> Result<(), StoreError> {
        let facts: Vec<Facts> = parents.iter().map(|(_, facts)| *facts).collect();
        let past = self.past(door, &facts)?;
        let known = self.settings(door)?;
        if past.ids == known {
            return Ok(());
        }
        // It has no id yet, and nothing names it.
        let id = || Ok(EntryId([0; 32]));
        let asked = Stands { author, past: &past.ids, settings: None, id: &id };
        let history = Walked::new(self.overlay(door));
        match door.judge.stands(&self.tree, asked, &known, &history)? {
            true => Ok(()),
            false => Err(Invalid::NotPermitted.into()),
        }
    }

    /// Works out whether an entry that was just recorded counts, and whether it may change what else does. `before` are
    /// the settings that were known without it.
    fn weigh(
        &mut self,
        door: Door<'_>,
        entry: &Entry,
        seq: Seq,
        past: &Frontier,
        before: &Frontier,
    ) -> Result<(), StoreError> {
        let header = entry.header();
        let settings = header.is_settings().then(|| entry.id());
        if settings.is_some() {
            self.settings = None;
        }
        let knew_all = past == before;
        if entry.is_root() || knew_all && settings.is_none() {
            return Ok(());
        }
        let known = self.settings(door)?;
        let history = Walked::new(self.overlay(door));
        let id = || Ok(entry.id());
        let asked = Stands { author: header.author, past, settings, id: &id };
        // Whose past has all settings that are known was judged by them.
        let stands = knew_all || door.judge.stands(&self.tree, asked, &known, &history)?;
        let reaches = settings.is_some()
            && self.state.unsettled.is_none()
            && !door.judge.reach(&self.tree, before, &known, &history)?.is_empty();
        if !stands && !sabotage::is(Sabotage::CountVoid) {
            self.puts.push((seq_key(Space::Void, self.memory.number, seq), Value::new()));
            self.state.voids += 1;
            self.voids.insert(seq);
        }
        if reaches {
            let number = self.overlay(door).number_of(before);
            let before = self.intern(before, number);
            self.state.unsettled = Some(Unsettled { since: seq, before });
        }
        Ok(())
    }

    /// Adds an admitted entry: its rows, the tips and the counts.
    fn record(&mut self, admissible: &Admissible, parents: &[Facts], past: Past, local: bool) -> Seq {
        let entry = admissible.entry();
        let (header, id, number) = (entry.header(), entry.id(), self.memory.number);
        let seq = self.state.next_seq;
        self.state.next_seq = Seq(seq.0 + 1);
        let frontier = if header.is_settings() {
            let node = eid_core::SettingsNode {
                id,
                author: header.author,
                ops: entry.settings().to_vec(),
                past: past.ids.to_vec(),
            };
            self.puts.push((settings_key(number, &id), encode_settings(seq, &past.ids, entry)));
            self.pending.nodes.insert(id, SettingsRow { seq, node: Arc::new(node) });
            self.intern(&Frontier::from([id]), None)
        } else {
            let joined = self.intern(&past.ids, past.number);
            if !past.joins.is_empty() {
                self.pending.joins.insert(past.joins, joined);
            }
            joined
        };
        let facts = Facts { seq, height: header.height, time: header.time, frontier };
        let edge = Edge {
            short: id.prefix(),
            height: header.height,
            time: header.time,
            author: header.author,
            frontier,
            parents: parents.iter().map(|parent| parent.seq).collect(),
        };
        self.puts.push((seq_key(Space::Log, number, seq), encode_log(entry.block(), entry.payloads())));
        self.puts.push((id_key(number, &id), facts.encode()));
        self.puts.push((seq_key(Space::Edges, number, seq), edge.encode()));
        self.pending.parents.insert(seq, edge.parents);
        for section in (0..entry.payloads().len()).filter(|i| entry.payloads()[*i].is_none()) {
            self.puts.push((missing_key(number, seq, section), Value::new()));
            self.state.missing += 1;
        }
        self.state.bytes += entry.bytes_len() as u64;
        self.state.time = self.state.time.max(header.time);
        self.add_to_tips(id, facts, &header.parents);
        if self.state.next_seq.0.is_multiple_of(CHECKPOINT_ENTRIES) {
            let tips: Vec<Seq> = self.state.tips.values().map(|facts| facts.seq).collect();
            let checkpoint = Interval::of(self.state.next_seq);
            self.puts.push((checkpoint_key(number, checkpoint), encode_checkpoint(tips)));
        }
        self.known.insert(id, facts);
        self.added.push((id, local));
        self.dirty = true;
        seq
    }

    /// Counts a write and leaves it for the views.
    fn change(
        &mut self,
        (seq, stands): (Seq, bool),
        entry: &Entry,
        write: &'a Write,
        changes: &mut Vec<PendingChange<'a>>,
    ) {
        let applied = if seq < self.first { self.state.next_seq } else { seq };
        let (store, fresh) = self.count_write(write, applied);
        if write.ops.is_empty() {
            return;
        }
        let header = entry.header();
        changes.push(PendingChange {
            tree: self.memory.number,
            store,
            fresh,
            write,
            author: header.author,
            time: header.time,
            height: header.height,
            seq,
            id: entry.id(),
            applied,
            stands,
        });
    }

    /// Takes payloads that come later than their entries.
    fn fill(
        &mut self,
        snapshot: &dyn Snapshot,
        changes: &mut Vec<PendingChange<'a>>,
    ) -> Result<(), StoreError> {
        let mut late = std::mem::take(&mut self.late);
        late.sort_by_key(|(seq, _)| *seq);
        late.dedup_by_key(|(seq, _)| *seq);
        if late.is_empty() {
            return Ok(());
        }
        let number = self.memory.number;
        let keys_in = |space| late.iter().map(move |(seq, _)| seq_key(space, number, *seq));
        let mut rows =
            snapshot.get_many(&keys_in(Space::Log).chain(keys_in(Space::Void)).collect::<Vec<_>>())?;
        let voids = rows.split_off(late.len());
        for (((seq, sound), row), void) in late.into_iter().zip(rows).zip(voids) {
            let row = row.ok_or(StoreError::Corrupt { what: "an entry is not in the log" })?;
            let mut logged = decode_log(seq, &row)?;
            let entry = sound.entry.entry();
            let offered = entry.payloads().iter().zip(&entry.header().sections);
            let mut filled = false;
            for (section, (held, (offered, name))) in logged.payloads.iter_mut().zip(offered).enumerate() {
                let (None, Some(payload)) = (&held, offered) else { continue };
                if self.state.pruned > 0 && is_pruned(snapshot, missing_key(number, seq, section))? {
                    continue;
                }
                *held = Some(payload.clone());
                filled = true;
                self.state.missing = self.state.missing.saturating_sub(1);
                self.state.filled = self.state.filled.wrapping_add(1);
                self.state.bytes += payload.len() as u64;
                self.deletes.push(missing_key(number, seq, section));
                let late = Late { end: self.state.next_seq, seq, section };
                self.puts.push((late_key(number, Interval::of(late.end), self.state.filled), late.encode()));
                if let Some(write) = sound.writes.iter().find(|write| write.store == name.store) {
                    self.change((seq, void.is_none()), entry, write, changes);
                }
            }
            if filled {
                self.dirty = true;
                self.puts
                    .push((seq_key(Space::Log, number, seq), encode_log(&logged.block, &logged.payloads)));
            }
        }
        Ok(())
    }

    fn add_to_tips(&mut self, id: EntryId, facts: Facts, parents: &[EntryId]) {
        for parent in parents {
            self.state.tips.remove(parent);
        }
        self.state.tips.insert(id, facts);
        if sabotage::is(Sabotage::LoseTip) && facts.seq.0 % 5 == 3 && self.state.tips.len() > 1 {
            self.state.tips.pop_first();
        }
    }

    /// Counts a write to a store, which gets a number with its first one.
    fn count_write(&mut self, write: &Write, applied: Seq) -> (u32, bool) {
        let name = (write.store.clone(), write.kind.clone());
        let store = self.stores.entry(name).or_insert_with(|| StoreWork::new(None));
        let interval = Interval::of(applied);
        if store.fresh && !store.dirty {
            store.row.number = self.state.next_store;
            self.state.next_store += 1;
        } else if store.row.changed < interval {
            store.left_behind.push((interval, store.row));
        }
        store.row.changed = interval;
        store.dirty = true;
        store.row.entries += 1;
        store.row.undecodable += u64::from(write.undecodable);
        (store.row.number, store.fresh)
    }

    /// What the group added, as runs of one origin; an empty run when it brought payloads alone.
    fn runs(&self) -> Vec<Admitted> {
        let mut runs: Vec<Admitted> = Vec::new();
        for (index, (_, local)) in self.added.iter().enumerate() {
            let seq = self.first.0 + index as u64;
            let end = Seq(seq + 1);
            match runs.last_mut() {
                Some(run) if run.local == *local => run.seqs.end = end,
                _ => runs.push(Admitted {
                    tree: self.tree,
                    seqs: Range { start: Seq(seq), end },
                    local: *local,
                    standing: false,
                }),
            }
        }
        if runs.is_empty() {
            let end = self.state.next_seq;
            runs.push(Admitted { tree: self.tree, seqs: end..end, local: false, standing: false });
        }
        runs
    }

    /// The row of the sketch, when a checkpoint was passed.
    fn sketch(&self, snapshot: &dyn Snapshot) -> Result<Option<(Key, Value)>, StoreError> {
        let checkpoint = Interval::of(self.state.next_seq).start();
        if checkpoint <= self.first {
            return Ok(None);
        }
        let before = sketch::before(self.first, (&self.tree, &self.memory), snapshot)?;
        Ok(before.map(|mut sketch| {
            let passed =
                self.added.iter().take(usize::try_from(checkpoint.0 - self.first.0).unwrap_or(usize::MAX));
            passed.for_each(|(id, _)| sketch.toggle(id.prefix()));
            (sketch_key(self.memory.number), encode_sketch(checkpoint, &sketch))
        }))
    }

    fn write_into(self, batch: &mut Batch, tree: TreeId) -> Learned {
        let number = self.memory.number;
        if self.before.is_none() {
            batch.guards.push((trees_key(&tree), None));
            batch.puts.push((trees_key(&tree), encode_tree_no(number)));
        }
        batch.guards.push((state_key(number), self.before));
        batch.puts.push((state_key(number), self.state.encode()));
        batch.puts.extend(self.puts);
        batch.deletes.extend(self.deletes);
        let mut stores = Vec::new();
        for ((name, kind), store) in self.stores {
            if store.dirty {
                let key = store_key(number, &name, &kind);
                let left_behind = store.left_behind.iter();
                batch.puts.extend(left_behind.map(|(at, row)| (past_key(&key, *at), row.encode())));
                batch.puts.push((key, store.row.encode()));
                stores.push((name, kind, store.row.number));
            }
        }
        stores.retain(|(name, kind, _)| self.memory.store(name, kind).is_none());
        let unsettled = self.state.unsettled.is_some() && !self.pending.nodes.is_empty();
        let added = (self.first, self.added.iter().map(|(id, _)| id.prefix()).collect());
        Learned { tree, memory: self.memory, pending: self.pending, stores, added, unsettled }
    }
}

fn parent_facts((id, facts): (&EntryId, &Option<Facts>)) -> Option<ParentFacts> {
    facts.map(|facts| ParentFacts { id: *id, height: facts.height, time: facts.time })
}

/// Whether a payload that is not here was dropped on purpose.
fn is_pruned(snapshot: &dyn Snapshot, key: Key) -> Result<bool, StoreError> {
    Ok(snapshot.get_many(&[key])?.pop().flatten().is_some_and(|row| row == PRUNED))
}

/// The height of the highest tip.
pub(crate) fn height_of(tips: &BTreeMap<EntryId, Facts>) -> Height {
    tips.values().map(|facts| facts.height).max().unwrap_or_default()
}
