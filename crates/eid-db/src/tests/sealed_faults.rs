use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eid_core::Entry;
use eid_store::{
    Backend, BackendError, Batch, Embedded, EmbeddedConfig, Key, Memory, Offer, Scan, Snapshot, Value,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{admit, copy, entries, exchange, node_over, two};
use crate::kind::registry;
use crate::{Database, DbError, Instance, PasswordCost, PasswordStore, Transaction};

const CHEAP: PasswordCost = PasswordCost { memory_kib: 8, passes: 1, lanes: 1 };
const MARK: &str = "Xanadu-7301";
/// More than ever happen.
const NEVER: u64 = u64::MAX;

fn vault(db: &Database) -> PasswordStore {
    db.password_store("vault").with_cost(CHEAP)
}

fn document(db: &Database) -> Json {
    db.doc("vault").to_json().unwrap()
}

/// Brings entries, and of each the payloads of the sections that `whole` says.
fn bring(to: &Instance, batch: &[&Entry], whole: impl Fn(&Entry, usize) -> bool) {
    let tree = batch[0].tree();
    let offer = |entry: &&Entry| {
        let payloads = entry.payloads().iter().enumerate();
        let payloads = payloads.map(|(index, payload)| payload.clone().filter(|_| whole(entry, index)));
        Offer { block: entry.block().clone(), payloads: payloads.collect() }
    };
    let prepared = to.store().prepare(tree, batch.iter().map(offer).collect()).unwrap();
    to.store().admit(prepared).unwrap();
}

fn is_registry(entry: &Entry, section: usize) -> bool {
    entry.header().sections[section].store.as_str() == registry::STORE
}

/// How many entries of this device write the store in plain.
fn plain_writes(db: &Database) -> usize {
    let own = db.instance().device();
    let is_plain = |entry: &&Entry| {
        let mut sections = entry.header().sections.iter();
        sections.any(|section| section.store.as_str() == "vault" && section.enc.is_none())
    };
    entries(db).iter().filter(|entry| entry.header().author == own).filter(is_plain).count()
}

#[test]
fn what_the_registry_says_late_keeps_a_store_from_being_written_in_plain() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("a", 1).unwrap();
    let all = entries(&a);
    let all: Vec<&Entry> = all.iter().collect();
    bring(b.instance(), &all, |entry, section| !is_registry(entry, section));
    assert!(!vault(&b).is_encrypted().unwrap(), "nobody has told");
    bring(b.instance(), &all, |_, _| true);
    assert!(vault(&b).is_encrypted().unwrap());
    assert!(matches!(b.doc("vault").set("b", 2), Err(DbError::Locked { .. })));
    vault(&b).unlock("p").unwrap();
    b.doc("vault").set("b", 2).unwrap();
    assert_eq!((document(&b), plain_writes(&b)), (json!({"a": 1, "b": 2}), 0));
}

#[test]
fn what_was_staged_in_plain_before_the_store_was_encrypted_is_refused() {
    let (a, b) = two();
    let began = b.begin().unwrap();
    began.doc("vault").set("b", 1).unwrap();
    let (_, prepared) = b.prepare_blind(|tx| tx.doc("vault").set("b", 2)).unwrap();
    let other = b.begin().unwrap();
    other.doc("other").set("b", 3).unwrap();
    vault(&a).create("p").unwrap();
    exchange(&a, &b);
    assert!(matches!(began.commit(), Err(DbError::AlreadyEncrypted { store }) if store == "vault"));
    assert!(matches!(prepared.commit(), Err(DbError::AlreadyEncrypted { .. })));
    other.commit().unwrap();
    vault(&b).unlock("p").unwrap();
    assert_eq!((document(&b), plain_writes(&b)), (json!({}), 0));
    assert_eq!(b.doc("other").get_as::<u8>("b").unwrap(), Some(3));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Brings so many more entries, with the payloads of the registry or without.
    Bring(usize, bool),
    Fill,
    Look,
    Write,
    Begin,
    Commit,
    Unlock,
    Lock,
    Elsewhere,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1usize..4, any::<bool>()).prop_map(|(count, whole)| Step::Bring(count, whole)),
        1 => Just(Step::Fill),
        1 => Just(Step::Look),
        3 => Just(Step::Write),
        1 => Just(Step::Begin),
        1 => Just(Step::Commit),
        1 => Just(Step::Unlock),
        1 => Just(Step::Lock),
        1 => Just(Step::Elsewhere),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_is_written_in_plain_once_a_store_was_seen_to_be_encrypted(
        steps in prop::collection::vec(any_step(), 1..25),
    ) {
        let (a, b) = two();
        let shared = entries(&a).len();
        let made = vault(&a).create("p").unwrap();
        for n in 0..3 {
            made.doc().set("n", n).unwrap();
        }
        let all = entries(&a);
        let all: Vec<&Entry> = all.iter().collect();
        let (mut held, mut staged): (usize, Vec<Transaction>) = (shared, Vec::new());
        let mut plain_before: Option<usize> = None;
        for (n, step) in (0i64..).zip(steps) {
            match step {
                Step::Bring(count, whole) => {
                    held = (held + count).min(all.len());
                    bring(b.instance(), &all[..held], |entry, section| whole || !is_registry(entry, section));
                }
                Step::Fill => bring(b.instance(), &all[..held], |_, _| true),
                Step::Look => drop(b.doc("vault").get("n")),
                // Whether it is done does not matter here.
                Step::Write => drop(b.doc("vault").set("b", n)),
                Step::Begin => {
                    let tx = b.begin().unwrap();
                    drop(tx.doc("vault").set("b", n));
                    staged.push(tx);
                }
                Step::Commit => drop(staged.pop().map(Transaction::commit)),
                Step::Unlock => drop(vault(&b).unlock("p")),
                Step::Lock => vault(&b).lock().unwrap(),
                Step::Elsewhere => b.doc("plain").set("n", n).unwrap(),
            }
            if plain_before.is_none() && vault(&b).is_encrypted().unwrap() {
                plain_before = Some(plain_writes(&b));
            }
        }
        if let Some(before) = plain_before {
            prop_assert_eq!(plain_writes(&b), before);
        }
    }
}

/// A backend that fails when it is told to.
#[derive(Debug)]
struct Failing {
    below: Memory,
    reads_left: Arc<AtomicU64>,
    commits_left: Arc<AtomicU64>,
}

/// Takes one; says whether there was one.
fn take(left: &AtomicU64) -> Result<(), BackendError> {
    let less = |left: u64| if left == NEVER { Some(left) } else { left.checked_sub(1) };
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    taken.map(drop).map_err(|_| BackendError::Io(Arc::new(std::io::Error::other("a fault of the test"))))
}

impl Failing {
    fn new() -> Self {
        let never = || Arc::new(AtomicU64::new(NEVER));
        Self { below: Memory::new(), reads_left: never(), commits_left: never() }
    }
}

impl Backend for Failing {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        Ok(Arc::new(FailingSnapshot(self.below.snapshot()?, Arc::clone(&self.reads_left))))
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        take(&self.commits_left)?;
        self.below.commit(batch)
    }
}

#[derive(Debug)]
struct FailingSnapshot(Arc<dyn Snapshot>, Arc<AtomicU64>);

impl Snapshot for FailingSnapshot {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        take(&self.1)?;
        self.0.get_many(keys)
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        take(&self.1)?;
        self.0.scan_many(scans)
    }
}

#[test]
fn a_read_that_fails_loses_no_payload_that_has_come() {
    let a = two().0;
    vault(&a).create("p").unwrap();
    let all = entries(&a);
    for n in 0..4 {
        a.doc("vault").increment("sum", 1).unwrap();
        a.doc("vault").set(crate::Path::from(format!("k{n}")), n).unwrap();
    }
    let writes = entries(&a).split_off(all.len());
    let expected = document(&a);
    for fails_at in 0.. {
        let failing = Arc::new(Failing::new());
        let held: Arc<dyn Backend> = Arc::<Failing>::clone(&failing);
        let node = node_over(&held, 5);
        admit(&node, a.id(), &all.iter().collect::<Vec<_>>());
        let db = node.database_by_id(a.id());
        vault(&db).unlock("p").unwrap();
        let writes: Vec<&Entry> = writes.iter().collect();
        bring(&node, &writes, |_, _| false);
        assert_eq!(document(&db), json!({}));
        bring(&node, &writes, |_, _| true);
        failing.reads_left.store(fails_at, Ordering::Relaxed);
        let failed = db.doc("vault").to_json().is_err();
        failing.reads_left.store(NEVER, Ordering::Relaxed);
        assert_eq!(document(&db), expected, "after read {fails_at} failed");
        if !failed {
            assert!(fails_at > 8, "some reads lie between the payloads: {fails_at}");
            break;
        }
    }
}

#[test]
fn dropping_an_index_of_an_encrypted_table_names_no_field_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.eid");
    let backend: Arc<dyn Backend> = Arc::new(Embedded::open(&path, EmbeddedConfig::default()).unwrap());
    let node = node_over(&backend, 1);
    let db = node.create_database("test").unwrap().database;
    let table = vault(&db).create("p").unwrap().table::<Json>();
    table.insert_as("k", &json!({MARK: 1})).unwrap();
    table.create_index(MARK).unwrap();
    table.drop_index(MARK).unwrap();
    db.table::<Json>("plain").create_index("in_the_open").unwrap();
    db.table::<Json>("plain").drop_index("in_the_open").unwrap();
    node.close().unwrap();
    drop((db, table, node, backend));
    let mut bytes = Vec::new();
    let mut directories = vec![directory.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() { directories.push(path) } else { bytes.extend(std::fs::read(path).unwrap()) }
        }
    }
    let holds = |mark: &str| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    assert!(holds("in_the_open") && !holds(MARK));
}

#[test]
fn a_crash_while_a_database_is_forgotten_leaves_nothing_that_is_taken_for_what_comes_later() {
    // Two writers whose entries can arrive in either order.
    let (a, b) = two();
    vault(&a).create("p").unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    for n in 0..4 {
        a.doc("vault").set(crate::Path::from(format!("a{n}")), n).unwrap();
        b.doc("vault").set(crate::Path::from(format!("b{n}")), n).unwrap();
    }
    let of_a = entries(&a);
    let of_b = entries(&b);
    exchange(&a, &b);
    let expected = document(&a);
    for fails_at in 0.. {
        let failing = Arc::new(Failing::new());
        let held: Arc<dyn Backend> = Arc::<Failing>::clone(&failing);
        let node = node_over(&held, 5);
        let tree = a.id();
        let db = node.track(tree, "notes").unwrap();
        admit(&node, tree, &of_a.iter().collect::<Vec<_>>());
        vault(&db).unlock("p").unwrap();
        assert_eq!(document(&db)["a3"], json!(3));
        vault(&db).lock().unwrap();
        failing.commits_left.store(fails_at, Ordering::Relaxed);
        let forgotten = node.forget(&tree).is_ok();
        failing.commits_left.store(NEVER, Ordering::Relaxed);
        drop((db, node));
        let node = node_over(&held, 6);
        let db = node.database_by_id(tree);
        if db.is_here().unwrap() {
            vault(&db).unlock("p").unwrap();
            assert_eq!(document(&db)["a3"], json!(3), "fault {fails_at}: what is left is whole");
            vault(&db).lock().unwrap();
            assert!(
                node.databases().unwrap().iter().any(|held| held.id == tree),
                "it can be forgotten again"
            );
            node.forget(&tree).unwrap();
        } else if !forgotten {
            admit(&node, tree, &of_b.iter().collect::<Vec<_>>());
            vault(&db).unlock("p").unwrap();
            assert_eq!(document(&db)["b3"], json!(3), "fault {fails_at}: rows of before");
            assert_eq!(document(&db).get("a3"), None, "fault {fails_at}: rows of before");
            copy(&a, &node);
            assert_eq!(document(&db), expected);
            vault(&db).lock().unwrap();
            node.forget(&tree).unwrap();
        }
        let left = node.store().local().namespace("sealed").scan(&[]).unwrap();
        let hints = node.store().local().namespace("unlocked with").scan(&[]).unwrap();
        assert_eq!((left.len(), hints.len()), (0, 0), "fault {fails_at}");
        if forgotten {
            assert!(fails_at > 3, "forgetting takes several steps: {fails_at}");
            break;
        }
    }
}
