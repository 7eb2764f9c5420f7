//! The store of entries: who may be within the door, and what goes on around it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use eid_core::dag::Epoch;
use eid_core::{Draft, Height, Judge, Signed, Time, TreeId};

use crate::admit::{Door, Job, Judged, LocalJob, Outcome, judge_group};
use crate::apply::Apply;
use crate::backend::{Backend, BackendError, Batch, Durability, Key, Scan, Snapshot, prefix_end};
use crate::error::StoreError;
use crate::fsck::FsckReport;
use crate::limits::{CONFLICT_RETRIES, GROUP_BYTES_MAX, GROUP_JOBS_MAX, QUEUE_JOBS_MAX, SWEEP_ROWS_MAX};
use crate::local::Local;
use crate::offer::{Admission, Admitted, Committed, LocalCommit, Offer, Prepared};
use crate::prepare::{Item, prepare, write_of};
use crate::rows::{
    FORMAT, Meta, Space, TREE_SPACES, TreeNo, decode_tree_no, meta_key, sweep_key, tree_range, trees_key,
};
use crate::settings::TreeMemory;
use crate::sketch;
use crate::standing::{Patience, Portion};
use crate::tree::TreeSnapshot;

type Watcher = Arc<dyn Fn(&Admitted) + Send + Sync>;

/// Keeps entries of many trees, and everything that is derived from them.
///
/// All calls block until they are done; none needs a thread of its own. Callers that commit at the same time share
/// one batch and one flush: the first of them does the work for all.
pub struct EntryStore {
    backend: Arc<dyn Backend>,
    judge: Arc<dyn Judge>,
    apply: Arc<dyn Apply>,
    /// Changes only when a repair moves entries.
    epoch: AtomicU64,
    trees: RwLock<HashMap<TreeId, Arc<TreeMemory>>>,
    queue: Mutex<Queue>,
    watchers: Arc<Mutex<BTreeMap<u64, Watcher>>>,
    next_watch: AtomicU64,
    /// Whether the last batch of entries was relaxed: what [`EntryStore::flush`] has to make durable.
    relaxed: AtomicBool,
    portion: Portion,
}

#[derive(Default)]
struct Queue {
    /// Whether somebody is within the door, or was told to go in.
    led: bool,
    jobs: VecDeque<(Job, Arc<Place>)>,
}

/// Where a caller waits for its turn or its outcome.
#[derive(Default)]
struct Place {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
enum Waiting {
    #[default]
    Queued,
    /// It is this caller's turn to lead.
    Lead,
    Done(Result<Outcome, StoreError>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    fn set(&self, state: Waiting) {
        *lock(&self.state) = state;
        self.changed.notify_one();
    }

    /// Waits until this caller is to lead (`None`) or its outcome is there.
    fn wait(&self) -> Option<Result<Outcome, StoreError>> {
        let mut state = lock(&self.state);
        loop {
            match std::mem::take(&mut *state) {
                Waiting::Queued => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Waiting::Lead => return None,
                Waiting::Done(outcome) => return Some(outcome),
            }
        }
    }
}

/// Ends the notifications of [`EntryStore::on_admitted`] when dropped.
#[must_use = "notifications end when this is dropped"]
pub struct Watch {
    watchers: Arc<Mutex<BTreeMap<u64, Watcher>>>,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.watchers).remove(&self.number);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("number", &self.number).finish_non_exhaustive()
    }
}

impl fmt::Debug for EntryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryStore")
            .field("backend", &self.backend)
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

impl EntryStore {
    /// Opens a store, and makes it when the backend is empty. `seed` is fresh randomness.
    ///
    /// Costs as much as there are trees, whatever their history. Only when the rows are of an older format, everything
    /// is worked out again from the logs, once.
    pub fn open(
        backend: Arc<dyn Backend>,
        judge: Arc<dyn Judge>,
        apply: Arc<dyn Apply>,
        seed: [u8; 32],
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_with(backend, judge, apply, seed, Portion::default())
    }

    /// As [`EntryStore::open`], with what views take in at once.
    pub(crate) fn open_with(
        backend: Arc<dyn Backend>,
        judge: Arc<dyn Judge>,
        apply: Arc<dyn Apply>,
        seed: [u8; 32],
        portion: Portion,
    ) -> Result<Arc<Self>, StoreError> {
        let meta = match read_meta(&*backend.snapshot()?)? {
            Some(meta) => meta,
            None => create(&*backend, seed)?,
        };
        let mut trees = HashMap::new();
        for (tree, number) in read_trees(&*backend.snapshot()?)? {
            trees.insert(tree, Arc::new(TreeMemory::new(number)));
        }
        let store = Arc::new(Self {
            backend,
            judge,
            apply,
            epoch: AtomicU64::new(meta.epoch.0),
            trees: RwLock::new(trees),
            queue: Mutex::default(),
            watchers: Arc::default(),
            next_watch: AtomicU64::new(0),
            relaxed: AtomicBool::new(false),
            portion,
        });
        if meta.format < FORMAT {
            crate::fsck::upgrade(&store)?;
        }
        let unsettled = store.unsettled()?;
        if !unsettled.is_empty() {
            // What was put aside when the process ended.
            store.sweep()?;
        }
        for tree in unsettled {
            // What cannot be read is for a check, and what does not fit stays as it is.
            if let Err(StoreError::Backend(error)) = store.settle(&tree) {
                return Err(error.into());
            }
        }
        Ok(store)
    }

    /// The life of the store that positions belong to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::SeqCst))
    }

    /// The life of a tree that its positions belong to: another one after it was forgotten and fetched again. Of one
    /// that is not held it is that of the store.
    #[must_use]
    pub fn epoch_of(&self, tree: &TreeId) -> Epoch {
        match self.memory(tree) {
            Some(memory) => epoch_of_tree(self.epoch(), memory.number),
            None => self.epoch(),
        }
    }

    /// The trees that are held, by id.
    pub fn trees(&self) -> Result<Vec<TreeId>, StoreError> {
        Ok(read_trees(&*self.backend.snapshot()?)?.into_iter().map(|(tree, _)| tree).collect())
    }

    /// One consistent snapshot of one tree, if it is held.
    pub fn tree(&self, tree: &TreeId) -> Result<Option<TreeSnapshot>, StoreError> {
        // In this order: a memory is never filled from a snapshot that is older than its tree.
        let memory = self.memory(tree);
        let snapshot = self.backend.snapshot()?;
        let memory = match memory {
            Some(memory) => memory,
            // Another process may have made it. What a reader finds is not kept: the tree may be forgotten meanwhile.
            None => match snapshot.get_many(&[trees_key(tree)])?.pop().flatten() {
                Some(number) => Arc::new(TreeMemory::new(decode_tree_no(&number)?)),
                None => return Ok(None),
            },
        };
        let epoch = epoch_of_tree(self.epoch(), memory.number);
        TreeSnapshot::read(*tree, epoch, memory, snapshot, self.judge.clone())
    }

    /// Decodes, hashes and verifies in bulk. Holds no lock and reads nothing from the backend, so that the next
    /// batch is prepared while one is committed.
    pub fn prepare(&self, tree: TreeId, offers: Vec<Offer>) -> Result<Prepared, StoreError> {
        Ok(prepare(&*self.judge, tree, offers))
    }

    /// The one door: what is admitted is durable when it returns. A bad entry never blocks the rest. A tree that is
    /// not held is made when the batch holds its root.
    ///
    /// When it brings settings that change what counts, views are in line with it when this returns, unless
    /// [`TreeSnapshot::is_stale`] says otherwise.
    pub fn admit(&self, prepared: Prepared) -> Result<Admission, StoreError> {
        let mut admissions = self.admit_all(vec![prepared])?;
        Ok(admissions.pop().expect("each batch has an admission"))
    }

    /// Admits batches of one tree in their order, with one flush.
    ///
    /// # Panics
    /// When they are of several trees.
    pub fn admit_all(&self, batches: Vec<Prepared>) -> Result<Vec<Admission>, StoreError> {
        let Some(tree) = batches.first().map(|prepared| prepared.tree) else { return Ok(Vec::new()) };
        assert!(batches.iter().all(|prepared| prepared.tree == tree), "batches are of one tree");
        let sound = batches.iter().flat_map(|prepared| &prepared.items).filter_map(Item::sound);
        let patience = Patience::of(sound.map(|sound| sound.entry.entry().header().is_settings()));
        match self.submit(Job::Foreign(batches))? {
            Outcome::Foreign(admissions) => {
                self.settle_if_possible(&tree, patience);
                Ok(admissions)
            }
            Outcome::Local(_) | Outcome::Exclusive => unreachable!("a job has an outcome of its own kind"),
        }
    }

    /// Seals a write of this device (parents, time, height, signature) and stores it through the same door.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the author has no right to this write, [`StoreError::Busy`] when too many
    /// callers wait.
    pub fn commit(&self, local: LocalCommit) -> Result<Committed, StoreError> {
        let root = match local.tree {
            Some(_) => None,
            None => {
                let draft = Draft {
                    tree: None,
                    parents: Vec::new(),
                    height: Height(0),
                    time: Time::from_ms(local.now_ms),
                    sections: local.sections.clone(),
                    nonce: local.nonce,
                };
                Some(Signed::seal(draft, &local.author)?)
            }
        };
        let written = local.sections.iter().filter(|section| !section.store.is_settings());
        let writes = written.map(|section| write_of(&section.store, section.enc.is_some(), &section.payload));
        let writes = writes.collect();
        let patience = Patience::of(local.sections.iter().map(|section| section.store.is_settings()));
        match self.submit(Job::Local(Box::new(LocalJob { commit: local, writes, root })))? {
            Outcome::Local(committed) => {
                let committed = committed?;
                self.settle_if_possible(&committed.tree, patience);
                Ok(committed)
            }
            Outcome::Foreign(_) | Outcome::Exclusive => unreachable!("a job has an outcome of its own kind"),
        }
    }

    /// Makes durable what relaxed commits have written; does nothing when there is nothing. Whoever tells others what
    /// is held here reads a snapshot first, and calls this before it speaks: a position or a tip that a crash could
    /// take back would be believed.
    pub fn flush(&self) -> Result<(), StoreError> {
        if !self.relaxed.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.exclusively(|| {
            self.backend.commit(Batch { durability: Durability::Durable, ..Batch::default() })?;
            self.relaxed.store(false, Ordering::SeqCst);
            Ok(())
        })
    }

    /// The rows that are never synchronised.
    #[must_use]
    pub fn local(&self) -> Local {
        Local::new(self.backend.clone())
    }

    /// Calls `f` after each batch that added entries, in order, once it is durable.
    ///
    /// `f` runs on whichever thread committed. It must be quick, and it must not commit nor wait for a lock that
    /// somebody holds while committing.
    pub fn on_admitted(&self, f: Arc<dyn Fn(&Admitted) + Send + Sync>) -> Watch {
        let number = self.next_watch.fetch_add(1, Ordering::Relaxed);
        lock(&self.watchers).insert(number, f);
        Watch { watchers: self.watchers.clone(), number }
    }

    /// Removes a tree and everything derived from it: the tree at once, its rows in bounded steps. What an earlier
    /// call left behind is removed too.
    pub fn forget(&self, tree: &TreeId) -> Result<(), StoreError> {
        self.exclusively(|| {
            let snapshot = self.backend.snapshot()?;
            let number = snapshot.get_many(&[trees_key(tree)])?.pop().flatten();
            let number = decode_tree_no(&number.ok_or(StoreError::UnknownTree)?)?;
            let batch = Batch {
                puts: vec![(sweep_key(number), bytes::Bytes::new())],
                deletes: vec![trees_key(tree)],
                ..Batch::default()
            };
            self.backend.commit(batch)?;
            self.trees.write().unwrap_or_else(PoisonError::into_inner).remove(tree);
            Ok(())
        })?;
        self.sweep()
    }

    /// Recomputes everything that is derived from the log and compares. With `repair`, writes it anew. `progress`
    /// is told how many entries of how many are done.
    ///
    /// Nothing is admitted meanwhile when it repairs; otherwise it reads one snapshot.
    pub fn fsck(&self, repair: bool, progress: &mut dyn FnMut(u64, u64)) -> Result<FsckReport, StoreError> {
        if repair {
            self.exclusively(|| crate::fsck::run(self, true, progress))
        } else {
            crate::fsck::run(self, false, progress)
        }
    }

    /// Waits for what is under way, writes what is cached and lets go of the backend.
    pub fn close(&self) -> Result<(), StoreError> {
        self.exclusively(|| Ok(self.backend.close()?))
    }

    pub(crate) fn portion(&self) -> Portion {
        self.portion
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn judge(&self) -> &dyn Judge {
        &*self.judge
    }

    pub(crate) fn apply(&self) -> &dyn Apply {
        &*self.apply
    }

    pub(crate) fn memory(&self, tree: &TreeId) -> Option<Arc<TreeMemory>> {
        self.trees.read().unwrap_or_else(PoisonError::into_inner).get(tree).cloned()
    }

    /// The epoch after this one: as hard to meet again as a random one.
    pub(crate) fn next_epoch(&self) -> Epoch {
        epoch_of(&blake3::derive_key("eid 2026 epoch after a repair", &self.epoch().0.to_le_bytes()))
    }

    /// Takes in that a repair gave a tree another number, or found nothing left of it.
    pub(crate) fn renumber(&self, tree: TreeId, number: Option<TreeNo>, epoch: Epoch) {
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        match number {
            Some(number) => trees.insert(tree, Arc::new(TreeMemory::new(number))),
            None => trees.remove(&tree),
        };
        self.epoch.store(epoch.0, Ordering::SeqCst);
    }

    fn remember(&self, tree: TreeId, memory: Arc<TreeMemory>) -> Arc<TreeMemory> {
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        trees.entry(tree).or_insert(memory).clone()
    }

    /// Queues a job and gives its outcome: worked out by this thread when nobody leads, by the leader otherwise.
    pub(crate) fn submit(&self, job: Job) -> Result<Outcome, StoreError> {
        let place = Arc::new(Place::default());
        let leads = self.enqueue(job, &place)?;
        if !leads && let Some(outcome) = place.wait() {
            return outcome;
        }
        self.lead();
        place.wait().expect("whoever leads works out the first job of the queue, which is its own")
    }

    /// Gives whether the caller leads.
    fn enqueue(&self, job: Job, place: &Arc<Place>) -> Result<bool, StoreError> {
        let mut queue = lock(&self.queue);
        if queue.jobs.len() >= QUEUE_JOBS_MAX {
            return Err(StoreError::Busy);
        }
        queue.jobs.push_back((job, place.clone()));
        let leads = !queue.led;
        queue.led = true;
        Ok(leads)
    }

    /// Works out the first jobs of the queue as one group.
    fn lead(&self) {
        let mut jobs = Vec::new();
        let mut turn = Turn { store: self, places: VecDeque::new() };
        {
            let mut queue = lock(&self.queue);
            let mut bytes = 0;
            while let Some((job, _)) = queue.jobs.front() {
                bytes += job.bytes();
                let fits = jobs.len() < GROUP_JOBS_MAX && bytes <= GROUP_BYTES_MAX;
                if !jobs.is_empty() && (!fits || matches!(job, Job::Exclusive)) {
                    break;
                }
                if let Some((job, place)) = queue.jobs.pop_front() {
                    jobs.push(job);
                    turn.places.push_back(place);
                }
            }
        }
        let jobs: Vec<&Job> = jobs.iter().collect();
        match self.work_out(&jobs) {
            Ok(outcomes) => outcomes.into_iter().for_each(|outcome| turn.give(Ok(outcome))),
            Err(error) => jobs.iter().for_each(|_| turn.give(Err(error.clone()))),
        }
    }

    fn work_out(&self, jobs: &[&Job]) -> Result<Vec<Outcome>, StoreError> {
        for _ in 0..CONFLICT_RETRIES {
            let snapshot = self.backend.snapshot()?;
            let door = Door { judge: &*self.judge, apply: &*self.apply, snapshot: &*snapshot };
            let judged = judge_group(door, jobs, &|tree| self.memory(tree))?;
            drop(snapshot);
            match self.store(judged) {
                Err(StoreError::Backend(BackendError::Conflict)) => {}
                other => return other,
            }
        }
        Err(BackendError::Conflict.into())
    }

    fn store(&self, judged: Judged) -> Result<Vec<Outcome>, StoreError> {
        let Some(batch) = judged.batch else { return Ok(judged.outcomes) };
        // Set before a relaxed batch can be seen, cleared after a durable one: `flush` errs on the side of flushing.
        let relaxed = batch.durability == Durability::Relaxed;
        self.relaxed.fetch_or(relaxed, Ordering::SeqCst);
        self.backend.commit(batch)?;
        self.relaxed.store(relaxed, Ordering::SeqCst);
        for learned in judged.learned {
            let memory = self.remember(learned.tree, learned.memory);
            memory.absorb(learned.pending);
            let (first, added) = learned.added;
            sketch::absorb(&memory, first, &added);
            if learned.unsettled {
                memory.set_unsettled(true);
            }
            for (store, kind, number) in learned.stores {
                memory.add_store(&store, &kind, number);
            }
        }
        self.tell(&judged.admitted);
        Ok(judged.outcomes)
    }

    /// Tells everybody who watches.
    pub(crate) fn tell(&self, admitted: &[Admitted]) {
        let watchers: Vec<Watcher> = lock(&self.watchers).values().cloned().collect();
        for admitted in admitted {
            watchers.iter().for_each(|watcher| watcher(admitted));
        }
    }

    /// Runs `f` while nobody is within the door.
    pub(crate) fn exclusively<T>(&self, f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let place = Arc::new(Place::default());
        let leads = self.enqueue(Job::Exclusive, &place)?;
        if !leads && let Some(outcome) = place.wait() {
            outcome?;
            return Err(BackendError::Poisoned.into());
        }
        let mut turn = Turn { store: self, places: VecDeque::new() };
        lock(&self.queue).jobs.pop_front();
        let done = f();
        turn.places.clear();
        done
    }

    /// Removes what is left of forgotten trees.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        let snapshot = self.backend.snapshot()?;
        let left = snapshot.scan_many(&[Scan::prefix(&[Space::Sweep as u8])])?;
        drop(snapshot);
        for (key, _) in left.into_iter().flatten() {
            let number = key.get(1..5).and_then(|bytes| bytes.try_into().ok());
            let number =
                number.map(u32::from_be_bytes).ok_or(StoreError::Corrupt { what: "a tree to be swept" })?;
            for space in TREE_SPACES {
                sweep_rows(&*self.backend, tree_range(space, TreeNo(number)))?;
            }
            self.backend.commit(Batch { deletes: vec![key], ..Batch::default() })?;
        }
        Ok(())
    }
}

/// Removes all rows of a range, so many at once.
pub(crate) fn sweep_rows(backend: &dyn Backend, (from, to): (Key, Key)) -> Result<(), StoreError> {
    loop {
        let scan = Scan { max_rows: SWEEP_ROWS_MAX, ..Scan::range(from.clone(), to.clone()) };
        let rows = backend.snapshot()?.scan_many(&[scan])?.pop().unwrap_or_default();
        if rows.is_empty() {
            return Ok(());
        }
        let deletes = rows.into_iter().map(|(key, _)| key).collect();
        backend.commit(Batch { deletes, durability: Durability::Relaxed, ..Batch::default() })?;
    }
}

/// One caller's time within the door. However it ends, everybody is answered and the next one is let in.
struct Turn<'a> {
    store: &'a EntryStore,
    places: VecDeque<Arc<Place>>,
}

impl Turn<'_> {
    fn give(&mut self, outcome: Result<Outcome, StoreError>) {
        if let Some(place) = self.places.pop_front() {
            place.set(Waiting::Done(outcome));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Left only when a judge, a view or a watcher panicked.
        for place in self.places.drain(..) {
            place.set(Waiting::Done(Err(BackendError::Poisoned.into())));
        }
        let mut queue = lock(&self.store.queue);
        match queue.jobs.front() {
            Some((_, next)) => next.set(Waiting::Lead),
            None => queue.led = false,
        }
    }
}

pub(crate) fn read_meta(snapshot: &dyn Snapshot) -> Result<Option<Meta>, StoreError> {
    snapshot.get_many(&[meta_key()])?.pop().flatten().as_ref().map(Meta::decode).transpose()
}

/// Numbers of trees are never used again, so neither are epochs: a bijection for each number (the finaliser of
/// SplitMix64), which looks random from outside.
fn epoch_of_tree(store: Epoch, number: TreeNo) -> Epoch {
    let mut mixed = store.0.wrapping_add(u64::from(number.0).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Epoch(mixed ^ (mixed >> 31))
}

pub(crate) fn epoch_of(hash: &[u8; 32]) -> Epoch {
    let mut epoch = [0; 8];
    epoch.copy_from_slice(&hash[..8]);
    Epoch(u64::from_le_bytes(epoch))
}

/// Two processes may make a store at once: the guard lets one win, and the other takes what it made.
fn create(backend: &dyn Backend, seed: [u8; 32]) -> Result<Meta, StoreError> {
    let epoch = epoch_of(&blake3::derive_key("eid 2026 epoch of a store", &seed));
    let meta = Meta { format: FORMAT, epoch, next_tree: 1 };
    let batch = Batch {
        puts: vec![(meta_key(), meta.encode())],
        guards: vec![(meta_key(), None)],
        ..Batch::default()
    };
    match backend.commit(batch) {
        Ok(()) => Ok(meta),
        Err(BackendError::Conflict) => read_meta(&*backend.snapshot()?)?.ok_or(BackendError::Conflict.into()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn read_trees(snapshot: &dyn Snapshot) -> Result<Vec<(TreeId, TreeNo)>, StoreError> {
    let prefix = [Space::Trees as u8];
    let rows = snapshot.scan_many(&[Scan::range(prefix.to_vec(), prefix_end(&prefix))])?;
    rows.into_iter()
        .flatten()
        .map(|(key, value)| {
            let tree = key.get(1..).and_then(|bytes| bytes.try_into().ok()).map(TreeId);
            let tree = tree.ok_or(StoreError::Corrupt { what: "the id of a tree" })?;
            Ok((tree, decode_tree_no(&value)?))
        })
        .collect()
}
