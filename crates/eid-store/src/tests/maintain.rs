//! Positions by id while a batch is admitted, and work on rows that no entry asks for.

use std::sync::Arc;

use bytes::Bytes;
use eid_core::cbor::Writer;
use eid_core::dag::Seq;
use eid_core::{Entry, EntryId, Payload, ReadError, SectionDraft, StoreName};

use super::kit::*;
use crate::{
    Applied, Apply, Backend, BackendError, Batch, Change, Counting, EntryStore, LOCAL_ROWS, Memory, Snapshot,
    StoreError, ViewRows, Wanted,
};

/// Keeps, under the position of the writer, the position of the entry that the operation names.
#[derive(Debug)]
struct Names;

fn named(change: &Change<'_>) -> EntryId {
    EntryId(change.ops[0][3..].try_into().unwrap())
}

impl Apply for Names {
    fn reads(&self, change: &Change<'_>, wanted: &mut Wanted) {
        wanted.id(named(change));
        wanted.key(&change.seq.0.to_be_bytes());
    }

    fn apply(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        let found = view.seq_of(&named(change))?;
        view.put(&change.seq.0.to_be_bytes(), Bytes::from(format!("{found:?}")));
        Ok(Applied::default())
    }
}

fn naming(parents: &[&Entry], id: EntryId) -> Entry {
    let mut op = Writer::new();
    op.array(1).bytes(&id.0);
    let payload = Payload::encode("names", &[], &[op.into_bytes()]);
    let section = SectionDraft { store: StoreName::new("a").unwrap(), enc: None, payload };
    draft(parents, vec![section]).seal(&key(3)).unwrap()
}

fn name_at(store: &EntryStore, root: &Entry, seq: u64) -> String {
    let snapshot = store.tree(&root.tree()).unwrap().unwrap();
    let row = snapshot.view(&StoreName::new("a").unwrap(), "names").get(&seq.to_be_bytes()).unwrap();
    String::from_utf8(row.unwrap().to_vec()).unwrap()
}

#[test]
fn an_entry_is_found_by_its_id_when_it_came_before_in_the_same_batch_or_an_earlier_one() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let judge = Arc::new(Simple::default());
    let store = EntryStore::open(backend.clone(), judge, Arc::new(Names), [5; 32]).unwrap();
    let root = root();
    admit(&store, &[&root]);
    let first = naming(&[&root], root.id());
    let later = naming(&[&root], EntryId([9; 32]));
    let names_later = naming(&[&first], later.id());
    let names_earlier = naming(&[&later], first.id());
    // The second names the third, which comes after it.
    assert_eq!(codes(&admit(&store, &[&first, &names_later, &later, &names_earlier])), ["ok"; 4]);
    assert_eq!(name_at(&store, &root, 1), format!("{:?}", Some(Seq(0))));
    assert_eq!(name_at(&store, &root, 2), "None");
    assert_eq!(name_at(&store, &root, 3), "None");
    assert_eq!(name_at(&store, &root, 4), format!("{:?}", Some(Seq(1))));
    // In a batch of their own, names of what is held are read with everything else.
    let mut chain = vec![naming(&[&names_earlier], names_later.id())];
    for target in [first.id(), later.id(), root.id()] {
        chain.push(naming(&[chain.last().unwrap()], target));
    }
    let before = backend.counts();
    admit(&store, &chain.iter().collect::<Vec<_>>());
    // One more for the sketch, since this is the first checkpoint that is passed.
    assert_eq!((backend.counts() - before).reads, 3);
    assert_eq!(name_at(&store, &root, 5), format!("{:?}", Some(Seq(2))));
    assert_eq!(name_at(&store, &root, 8), format!("{:?}", Some(Seq(0))));
}

fn count(view: &mut dyn ViewRows) -> Result<u8, ReadError> {
    let count = view.get(&[LOCAL_ROWS.start])?.map_or(0, |row| row[0]);
    view.put(&[LOCAL_ROWS.start], Bytes::copy_from_slice(&[count + 1]));
    Ok(count)
}

#[test]
fn maintained_rows_are_kept_and_are_nobody_elses() {
    let (store, root) = store_with_root();
    let (name, tree) = (StoreName::new("a").unwrap(), root.tree());
    // A store that no entry writes has such rows too, and is not listed for it.
    for n in 0..3 {
        assert_eq!(store.maintain(&tree, &name, KIND, &mut count).unwrap(), n);
    }
    assert!(store.tree(&tree).unwrap().unwrap().stores().unwrap().is_empty());
    store.commit(write(tree, &[1])).unwrap();
    assert_eq!(store.maintain(&tree, &name, KIND, &mut count).unwrap(), 3);
    let seen = see(&store, tree).unwrap();
    assert_eq!(seen.stores, [("a".to_owned(), KIND.to_owned(), 1, 0)]);
    let own = seen.rows.iter().filter(|(key, _)| LOCAL_ROWS.contains(&key[0])).count();
    assert_eq!((seen.rows.len(), own), (3, 1));
    let report = store.fsck(false, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn maintenance_that_fails_writes_nothing() {
    let (store, root) = store_with_root();
    let name = StoreName::new("a").unwrap();
    let failed: Result<(), _> = store.maintain(&root.tree(), &name, KIND, &mut |view| {
        view.put(&[LOCAL_ROWS.start, 1], Bytes::from_static(b"half"));
        Err(ReadError::new(StoreError::UnknownTree))
    });
    assert!(matches!(failed, Err(StoreError::Read(_))), "{failed:?}");
    assert!(see(&store, root.tree()).unwrap().rows.is_empty());
    let unknown = store.maintain(&eid_core::TreeId([3; 32]), &name, KIND, &mut count);
    assert!(matches!(unknown, Err(StoreError::UnknownTree)), "{unknown:?}");
}

/// Another process that admits an entry the first time a batch is about to be committed.
#[derive(Debug)]
struct Intruded {
    memory: Arc<Memory>,
    intruder: std::sync::Mutex<Option<Arc<EntryStore>>>,
}

impl Backend for Intruded {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.memory.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let intruder = self.intruder.lock().unwrap().take();
        if let Some(intruder) = intruder {
            intruder.commit(write(root().tree(), &[7])).unwrap();
        }
        self.memory.commit(batch)
    }
}

#[test]
fn maintenance_and_admission_of_two_processes_do_not_miss_each_other() {
    let memory = Arc::new(Memory::new());
    let other = open_on(memory.clone());
    admit(&other, &[&root()]);
    let backend = Arc::new(Intruded { memory, intruder: std::sync::Mutex::default() });
    let store = open_on(backend.clone());
    *backend.intruder.lock().unwrap() = Some(other.clone());
    let name = StoreName::new("a").unwrap();
    let mut runs = 0;
    let rows = store
        .maintain(&root().tree(), &name, KIND, &mut |view| {
            runs += 1;
            view.put(&[LOCAL_ROWS.start], Bytes::new());
            Ok(view.scan(b"op/", b"op0")?.len())
        })
        .unwrap();
    assert_eq!((runs, rows), (2, 1));
    assert_eq!(see(&other, root().tree()).unwrap().rows.len(), 3);
}
