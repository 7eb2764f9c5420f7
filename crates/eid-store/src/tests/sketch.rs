//! The sketch of what is held.

use std::sync::Arc;

use eid_core::dag::{Replica, Seq};
use eid_core::sketch::{Salt, Sketch};
use eid_core::{Entry, TreeId};
use proptest::prelude::*;

use super::kit::*;
use crate::limits::CHECKPOINT_ENTRIES;
use crate::{Batch, EntryStore, Memory};

fn sketch_of(store: &EntryStore, tree: &TreeId) -> Option<Sketch> {
    store.tree(tree).unwrap().unwrap().sketch().unwrap()
}

fn from_scratch(store: &EntryStore, tree: &TreeId) -> Sketch {
    let snapshot = store.tree(tree).unwrap().unwrap();
    let mut sketch = Sketch::new(Salt::of(tree));
    (0..snapshot.count()).for_each(|seq| sketch.toggle(snapshot.id_at(Seq(seq)).unwrap().prefix()));
    sketch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_is_that_of_the_log_however_entries_came(
        steps in proptest::collection::vec((1usize..2 * CHECKPOINT_ENTRIES as usize, any::<bool>(), any::<bool>()), 1..8),
    ) {
        let backend = Arc::new(Memory::new());
        let mut store = open_on(backend.clone());
        let mut tip = root();
        let tree = tip.tree();
        admit(&store, &[&tip]);
        for (count, look, reopen) in steps {
            let mut chain: Vec<Entry> = Vec::new();
            for n in 0..count {
                let next = child(&[chain.last().unwrap_or(&tip)], n as u64);
                chain.push(next);
            }
            let before = store.tree(&tree).unwrap().unwrap();
            let expected = look.then(|| from_scratch(&store, &tree));
            admit(&store, &chain.iter().collect::<Vec<_>>());
            tip = chain.pop().unwrap();
            if look {
                prop_assert_eq!(sketch_of(&store, &tree), Some(from_scratch(&store, &tree)));
                // What is in memory by now is later than this snapshot.
                prop_assert_eq!(before.sketch().unwrap(), expected);
            }
            if reopen {
                store = open_on(backend.clone());
            }
        }
        prop_assert_eq!(sketch_of(&store, &tree), Some(from_scratch(&store, &tree)));
        let report = store.fsck(false, &mut |_, _| {}).unwrap();
        prop_assert!(report.is_clean());
    }
}

#[test]
fn a_damaged_row_costs_sessions_their_sketch_and_nothing_else_until_it_is_mended() {
    let backend = Arc::new(Memory::new());
    let (store, root) = (open_on(backend.clone()), root());
    let tree = root.tree();
    admit(&store, &[&root]);
    let more = |store: &EntryStore| {
        (0..2 * CHECKPOINT_ENTRIES).for_each(|n| {
            store.commit(write(tree, &[n])).unwrap();
        });
    };
    more(&store);
    let key = crate::sketch::sketch_key(crate::rows::TreeNo(1));
    for row in [None, Some(bytes::Bytes::from_static(b"x"))] {
        let puts = row.clone().map(|row| (key.clone(), row)).into_iter().collect();
        let deletes = if row.is_none() { vec![key.clone()] } else { vec![] };
        store.backend().commit(Batch { puts, deletes, ..Batch::default() }).unwrap();
        let again = open_on(backend.clone());
        assert_eq!(sketch_of(&again, &tree), None);
        more(&again);
        let report = again.fsck(false, &mut |_, _| {}).unwrap();
        assert_eq!(report.problems.iter().map(|problem| problem.name).collect::<Vec<_>>(), ["sketch_row"]);
    }
    let store = open_on(backend);
    assert!(store.fsck(true, &mut |_, _| {}).unwrap().is_clean());
    assert_eq!(sketch_of(&store, &tree), Some(from_scratch(&store, &tree)));
}
