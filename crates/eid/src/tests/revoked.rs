//! A writer that was revoked, with a false clock and stale settings, and everybody it can reach.

use std::sync::Arc;
use std::time::Duration;

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, EntryId, KeyMode, Permission, SecretKey, Slot, Time, TreeId};
use eid_sync::{Delivered, RefusalCode, SyncEvent};
use eid_transport::memory::MemoryNet;
use serde_json::json;

use super::peers::{Honest, Rogue, section, sign};

const WRITTEN: usize = 1_000;

/// Every entry that somebody holds, in the order of arrival.
pub(super) fn entries(honest: &Honest, tree: TreeId) -> Vec<Entry> {
    let snapshot = honest.db(tree).snapshot().expect("it is here");
    let logged = snapshot.log(Seq(0)..snapshot.end(), usize::MAX).expect("memory can be read");
    let parsed = logged.into_iter().map(|logged| Entry::parse(logged.block, logged.payloads));
    parsed.collect::<Result<_, _>>().expect("what is stored is sound")
}

async fn everybody_meets(honest: [&Honest; 3], tree: TreeId) {
    let [first, second, third] = honest;
    for _ in 0..2 {
        third.meet(&first.address(), tree).await;
        second.meet(&first.address(), tree).await;
    }
}

#[tokio::test]
async fn who_is_kept_in_step_is_told_nothing_more_once_settings_take_its_right_away() {
    const SOON: Duration = Duration::from_secs(20);
    let net = MemoryNet::new();
    let (first, second) = (Honest::new(&net, "first").await, Honest::new(&net, "second").await);
    let made = first.node.db().create_database("shared").expect("it can be made").database;
    let (tree, member) = (made.id(), Slot::Key(second.node.device()));
    made.grant(member, Permission::Write).expect("the maker is an admin");
    second.track(tree);
    let kept = second.node.sync().keep_in_step(&[first.address()], None, &[], Some(tree));
    kept.wait_for_initial_sync(SOON).await.expect("it may read so far");
    let mut events = second.node.events();
    made.revoke(member, KeyMode::Remove { fence: None }).expect("the maker is an admin");
    let mut told = async |is_it: fn(&SyncEvent) -> bool| {
        let comes =
            async { while !matches!(events.recv().await, Some(Delivered::Event(event)) if is_it(&event)) {} };
        tokio::time::timeout(SOON, comes).await.expect("it is told by itself");
    };
    told(|event| matches!(event, SyncEvent::OutOfStep { .. })).await;
    made.doc("d").set("late", 1).expect("it can be written");
    told(|event| matches!(event, SyncEvent::Failed { refusal: Some(RefusalCode::Unavailable), .. })).await;
    assert_eq!(second.db(tree).doc("d").get(["late"]).expect("it can be read"), None);
    assert!(second.db(tree).entries().expect("it is here") < made.entries().expect("it is here"));
}

#[tokio::test]
async fn what_a_revoked_writer_brings_stands_nowhere_and_honest_work_on_top_of_it_does() {
    let net = MemoryNet::new();
    let (first, second, third) = (
        Honest::new(&net, "first").await,
        Honest::new(&net, "second").await,
        Honest::new(&net, "third").await,
    );
    let made = first.node.db().create_database("shared").expect("it can be made").database;
    let (tree, key) = (made.id(), Arc::new(SecretKey::from_seed([77; 32])));
    let writer = Slot::Key(key.public());
    for member in [Slot::Key(second.node.device()), Slot::Key(third.node.device()), writer] {
        made.grant(member, Permission::Write).expect("the maker is an admin");
    }
    made.doc("d").set("early", 1).expect("it can be written");
    for honest in [&second, &third] {
        honest.track(tree);
        honest.meet(&first.address(), tree).await;
    }
    let rogue = Rogue::new(&net, tree, Arc::clone(&key)).await;
    rogue.meet(&first.address()).await.expect("it may read so far");
    let known = entries(&first, tree);

    made.revoke(writer, KeyMode::Remove { fence: None }).expect("the maker is an admin");
    second.meet(&first.address(), tree).await;

    // It has seen nothing of that: its parents are from before, its clock says long ago or the end of all time.
    let mut signed: Vec<Entry> = Vec::new();
    for n in 0..WRITTEN {
        let behind = match n % 10 {
            0 => known.last(),
            _ => signed.last(),
        };
        let time = if n % 3 == 0 { Time(u64::MAX) } else { Time(0) };
        let parents: Vec<&Entry> = behind.into_iter().collect();
        let name = if n == 1 { "early".to_owned() } else { format!("bad {n}") };
        signed.push(sign(&key, &parents, time, section(None, &name)).expect("it is sound"));
    }
    rogue.keep(&signed);

    let before = [&first, &second].map(|honest| entries(honest, tree).len());
    for honest in [&first, &second] {
        let error = rogue.meet(&honest.address()).await.expect_err("its key is revoked there");
        assert_eq!(error.refusal(), Some(RefusalCode::Unavailable), "{error}");
    }
    assert_eq!([&first, &second].map(|honest| entries(honest, tree).len()), before);
    let report = rogue.meet(&third.address()).await.expect("it is not revoked there").remove(0);
    assert_eq!(report.pushed, WRITTEN as u64);
    assert!(third.db(tree).standing(&signed[0].id()).expect("it is held").counts());

    // Somebody who knows of no revocation builds on it.
    third.db(tree).doc("d").set("honest", 2).expect("it can be written");
    let honest = entries(&third, tree).pop().expect("it was written").id();
    assert_eq!(third.db(tree).doc("d").get(["bad 7"]).expect("it can be read"), Some(1.into()));

    everybody_meets([&first, &second, &third], tree).await;
    let ids: Vec<EntryId> = signed.iter().map(Entry::id).collect();
    for peer in [&first, &second, &third] {
        let db = peer.db(tree);
        assert_eq!(db.snapshot().expect("it is here").void_entries(), WRITTEN as u64);
        for id in &ids {
            assert!(!db.standing(id).expect("it is held").counts());
        }
        assert!(db.standing(&honest).expect("it is held").counts());
        assert_eq!(db.doc("d").to_json().expect("it can be read"), json!({"early": 1, "honest": 2}));
    }
    let hashes = [&first, &second, &third]
        .map(|peer| peer.db(tree).state_hash().expect("it can be read").expect("nothing is missing"));
    assert_eq!(hashes, [hashes[0]; 3]);
    // It stays out, also where it was let in.
    let error = rogue.meet(&third.address()).await.expect_err("its key is revoked there");
    assert_eq!(error.refusal(), Some(RefusalCode::Unavailable));
}
