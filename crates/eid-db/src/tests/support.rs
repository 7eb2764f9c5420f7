use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, EntryId, Permission, Slot, TreeId};
use eid_store::{Backend, Memory, Offer, Verdict};

use crate::{Clock, Database, Entropy, Env, Instance};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(super) struct Still(AtomicU64);

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Still {
    pub(super) fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    pub(super) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Randomness from a seed.
#[derive(Debug)]
struct Seeded {
    seed: u64,
    drawn: AtomicU64,
}

impl Entropy for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&drawn.to_le_bytes());
        hasher.finalize_xof().fill(out);
    }
}

pub(super) fn env(seed: u64) -> (Env, Arc<Still>) {
    let clock = Arc::new(Still(AtomicU64::new(1_700_000_000_000)));
    let entropy = Arc::new(Seeded { seed, drawn: AtomicU64::new(0) });
    (Env { clock: Arc::<Still>::clone(&clock), entropy }, clock)
}

pub(super) fn node(seed: u64) -> Instance {
    Instance::open(Arc::new(Memory::new()), env(seed).0).unwrap()
}

pub(super) fn node_over(backend: &Arc<dyn Backend>, seed: u64) -> Instance {
    Instance::open(Arc::clone(backend), env(seed).0).unwrap()
}

pub(super) fn database() -> Database {
    node(1).create_database("test").unwrap().database
}

pub(super) fn offer(entry: &Entry) -> Offer {
    Offer { block: entry.block().clone(), payloads: entry.payloads().to_vec() }
}

/// All entries in the order of arrival.
pub(super) fn entries(db: &Database) -> Vec<Entry> {
    let snapshot = db.snapshot().unwrap();
    let mut found = Vec::new();
    while (found.len() as u64) < snapshot.count() {
        for logged in snapshot.log(Seq(found.len() as u64)..snapshot.end(), usize::MAX).unwrap() {
            found.push(Entry::parse(logged.block, logged.payloads).unwrap());
        }
    }
    found
}

pub(super) fn admit(to: &Instance, tree: TreeId, batch: &[&Entry]) -> Vec<Verdict> {
    let offers = batch.iter().map(|entry| offer(entry)).collect();
    let prepared = to.store().prepare(tree, offers).unwrap();
    to.store().admit(prepared).unwrap().verdicts
}

/// Gives another instance everything, in the order of arrival.
pub(super) fn copy(from: &Database, to: &Instance) -> Database {
    let all = entries(from);
    let verdicts = admit(to, from.id(), &all.iter().collect::<Vec<_>>());
    assert!(
        verdicts.iter().all(|v| matches!(v, Verdict::Admitted(_) | Verdict::Duplicate(_))),
        "{verdicts:?}"
    );
    to.database_by_id(from.id())
}

/// Two instances that share a database which both may write, with nothing written yet.
pub(super) fn two() -> (Database, Database) {
    let (a, b) = (node(1), node(2));
    let db = a.create_database("shared").unwrap().database;
    db.grant(Slot::Key(b.device()), Permission::Write).unwrap();
    let there = copy(&db, &b);
    (db, there)
}

pub(super) fn exchange(a: &Database, b: &Database) {
    copy(a, b.instance());
    copy(b, a.instance());
    assert_eq!(a.tips().unwrap(), b.tips().unwrap());
}

/// Any order in which parents come first: `picks` choose among what is ready.
pub(super) fn causal_order<'e>(all: &'e [Entry], picks: &[u16]) -> Vec<&'e Entry> {
    let mut left: Vec<&Entry> = all.iter().collect();
    let mut placed: Vec<EntryId> = Vec::new();
    let mut order = Vec::new();
    for turn in 0.. {
        let ready: Vec<usize> = (0..left.len())
            .filter(|i| left[*i].header().parents.iter().all(|parent| placed.contains(parent)))
            .collect();
        if ready.is_empty() {
            assert!(left.is_empty());
            break;
        }
        let pick = picks.get(turn % picks.len().max(1)).copied().unwrap_or(0);
        let entry = left.remove(ready[usize::from(pick) % ready.len()]);
        placed.push(entry.id());
        order.push(entry);
    }
    order
}
