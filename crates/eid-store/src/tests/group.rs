//! Local commits: sealing, and callers that share a batch.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use eid_core::dag::{Replica, Seq};
use eid_core::{Entry, Nonce, Permission, SectionDraft, SettingsOp, Time};

use super::kit::*;
use crate::{Durability, LocalCommit, Offer, Parents, StoreError};

#[test]
fn many_writers_at_once_make_a_chain() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let (writers, each) = (8, 20);
    let start = Barrier::new(writers);
    thread::scope(|scope| {
        for writer in 0..writers as u64 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..each {
                    store.commit(write(tree, &[writer * 1000 + n + 10])).unwrap();
                }
            });
        }
    });
    let snapshot = store.tree(&tree).unwrap().unwrap();
    let total = writers as u64 * each + 1;
    assert_eq!(snapshot.count(), total);
    assert_eq!(snapshot.tips().unwrap().len(), 1);
    let nodes = snapshot.nodes(Seq(0), usize::MAX).unwrap();
    for pair in nodes.windows(2) {
        assert_eq!(pair[1].parents, [pair[0].seq]);
        assert!(pair[1].time > pair[0].time);
    }
    assert_eq!(snapshot.height(), height(total - 1));
    assert_eq!(see(&store, tree).unwrap().rows.len() as u64, total - 1 + 1);
}

#[test]
fn a_pinned_commit_forks_from_what_it_read() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let first = store.commit(write(tree, &[1])).unwrap();
    let pinned = LocalCommit { parents: Parents::Pinned(vec![root.id()]), ..write(tree, &[2]) };
    let second = store.commit(pinned).unwrap();
    let snapshot = store.tree(&tree).unwrap().unwrap();
    assert_eq!(snapshot.tips().unwrap().len(), 2);
    let third = store.commit(write(tree, &[3])).unwrap();
    let snapshot = store.tree(&tree).unwrap().unwrap();
    assert_eq!(snapshot.tips().unwrap(), [(third.id, third.seq)]);
    let mut parents = vec![first.id, second.id];
    parents.sort_unstable();
    assert_eq!(snapshot.entry(&third.id).unwrap().unwrap().header().parents, parents);
    let unknown =
        LocalCommit { parents: Parents::Pinned(vec![eid_core::EntryId([1; 32])]), ..write(tree, &[4]) };
    assert!(
        matches!(store.commit(unknown), Err(StoreError::Refused(refusal)) if refusal.code() == "missing_parents")
    );
}

#[test]
fn more_tips_than_an_entry_may_have_parents_are_merged_first() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let fan: Vec<_> = (0..200).map(|n| child(&[&root], n + 10)).collect();
    assert_eq!(codes(&admit(&store, &fan.iter().collect::<Vec<_>>())), ["ok"; 200]);
    let last = store.commit(write(tree, &[1])).unwrap();
    let snapshot = store.tree(&tree).unwrap().unwrap();
    assert_eq!(snapshot.tips().unwrap(), [(last.id, last.seq)]);
    // 200 tips: three merges leave 200 - 3 * 63 = 11.
    assert_eq!(snapshot.count(), 201 + 3 + 1);
    assert_eq!(snapshot.entry(&last.id).unwrap().unwrap().header().parents.len(), 11);
}

#[test]
fn settings_descend_from_all_tips_whatever_was_pinned() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    store.commit(write(tree, &[1])).unwrap();
    let settings = LocalCommit {
        author: key(2),
        parents: Parents::Pinned(vec![root.id()]),
        sections: vec![SectionDraft::settings(&[grant(4, Permission::Write)], &[])],
        ..write(tree, &[])
    };
    let settled = store.commit(settings).unwrap();
    let snapshot = store.tree(&tree).unwrap().unwrap();
    assert_eq!(snapshot.tips().unwrap(), [(settled.id, settled.seq)]);
    assert_eq!(snapshot.settings_frontier().unwrap(), [settled.id]);
    store.commit(LocalCommit { author: key(4), ..write(tree, &[2]) }).unwrap();
}

#[test]
fn a_commit_without_the_right_is_refused_and_the_others_of_its_group_are_not() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for n in 0..8u8 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                let author = if n % 2 == 0 { key(3) } else { key(9) };
                let done = store.commit(LocalCommit { author, ..write(tree, &[u64::from(n) + 10]) });
                match n % 2 {
                    0 => assert!(done.is_ok()),
                    _ => assert!(
                        matches!(done, Err(StoreError::Refused(refusal)) if refusal.code() == "not_permitted")
                    ),
                }
            });
        }
    });
    assert_eq!(store.tree(&tree).unwrap().unwrap().count(), 5);
}

#[test]
fn a_root_can_be_written_here_and_what_follows_builds_on_it() {
    let store = store();
    let ops = [SettingsOp::Rules(1), grant(1, Permission::Admin(0)), grant(3, Permission::Write)];
    let made = store
        .commit(LocalCommit {
            tree: None,
            author: key(1),
            now_ms: 77,
            parents: Parents::AtSeal,
            sections: vec![SectionDraft::settings(&ops, &[])],
            nonce: Some(Nonce([3; 16])),
            durability: Durability::Durable,
        })
        .unwrap();
    assert_eq!((made.tree.root(), made.seq, made.time), (made.id, Seq(0), Time::from_ms(77)));
    store.commit(write(made.tree, &[1])).unwrap();
    assert_eq!(store.tree(&made.tree).unwrap().unwrap().count(), 2);
    let nowhere = write(eid_core::TreeId([4; 32]), &[1]);
    assert!(matches!(store.commit(nowhere), Err(StoreError::UnknownTree)));
}

#[test]
fn a_clock_that_goes_back_does_not_take_time_with_it() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let first = store.commit(LocalCommit { now_ms: 9000, ..write(tree, &[1]) }).unwrap();
    let second = store.commit(LocalCommit { now_ms: 10, ..write(tree, &[2]) }).unwrap();
    assert_eq!(first.time, Time::from_ms(9000));
    assert_eq!(second.time, Time(first.time.0 + 1));
}

#[test]
fn watchers_hear_of_every_run_in_order_until_they_are_dropped() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let watch = store.on_admitted({
        let heard = heard.clone();
        Arc::new(move |admitted| heard.lock().unwrap().push((admitted.seqs.clone(), admitted.local)))
    });
    let (a, b) = (child(&[&root], 1), child(&[&root], 2));
    admit(&store, &[&a, &b]);
    admit(&store, &[&a]);
    store.commit(write(tree, &[3])).unwrap();
    drop(watch);
    store.commit(write(tree, &[4])).unwrap();
    assert_eq!(*heard.lock().unwrap(), [(Seq(1)..Seq(3), false), (Seq(3)..Seq(4), true)]);
}

#[test]
fn watchers_hear_of_payloads_that_come_alone() {
    let (store, root) = store_with_root();
    let tree = root.tree();
    let (a, b) = (child(&[&root], 1), child(&[&root], 2));
    let bare = |entry: &Entry| Offer { block: entry.block().clone(), payloads: vec![None] };
    admit_offers(&store, tree, vec![bare(&a)]);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let watch = store.on_admitted({
        let heard = heard.clone();
        Arc::new(move |admitted| heard.lock().unwrap().push(admitted.seqs.clone()))
    });
    let state = || {
        let snapshot = store.tree(&tree).unwrap().unwrap();
        (snapshot.missing_payloads(), snapshot.filled_payloads())
    };
    assert_eq!(state(), (1, 0));
    // As many are missing as before.
    admit_offers(&store, tree, vec![offer(&a), bare(&b)]);
    assert_eq!(state(), (1, 1));
    admit(&store, &[&b]);
    assert_eq!(state(), (0, 2));
    admit(&store, &[&a, &b]);
    assert_eq!(*heard.lock().unwrap(), [Seq(2)..Seq(3), Seq(3)..Seq(3)]);
    drop(watch);
}

#[test]
fn local_rows_are_kept_by_namespace() {
    let store = store();
    let cursors = store.local().namespace("cursors");
    let peers = store.local().namespace("peers");
    cursors.put(b"a/1", &b"x"[..]).unwrap();
    cursors.put_relaxed(b"a/2", &b"y"[..]).unwrap();
    peers.put(b"a/3", &b"z"[..]).unwrap();
    assert_eq!(cursors.get(b"a/1").unwrap().unwrap(), &b"x"[..]);
    assert_eq!(cursors.get(b"a/3").unwrap(), None);
    assert_eq!(cursors.scan(b"a/").unwrap().len(), 2);
    assert!(!cursors.put_if_absent(b"a/1", &b"q"[..]).unwrap());
    assert!(cursors.put_if_absent(b"b", &b"q"[..]).unwrap());
    cursors.write(vec![(b"b".to_vec(), None), (b"c".to_vec(), Some("w".into()))]).unwrap();
    cursors.delete(b"a/1").unwrap();
    let left: Vec<_> = cursors.scan(b"").unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [b"a/2".to_vec(), b"c".to_vec()]);
}
