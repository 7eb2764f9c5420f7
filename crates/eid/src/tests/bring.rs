//! Who brings entries, and who wrote them: each is judged by who signed it.

use std::sync::Arc;

use eid_core::{Entry, EntryId, Permission, SecretKey, Slot, Time, TreeId};
use eid_sync::{Delivered, RefusalCode, SyncEvent};
use eid_transport::memory::MemoryNet;
use serde_json::json;

use super::peers::{Honest, Rogue, section, sign};
use super::revoked::entries;

/// Three instances that share a database: of the first, which is its admin, and of two that these rights were given to.
async fn three(net: &MemoryNet, rights: [Permission; 2]) -> ([Honest; 3], TreeId) {
    let all = [Honest::new(net, "n1").await, Honest::new(net, "n2").await, Honest::new(net, "n3").await];
    let made = all[0].node.db().create_database("shared").expect("it can be made").database;
    for (honest, right) in all[1..].iter().zip(rights) {
        made.grant(Slot::Key(honest.node.device()), right).expect("the maker is an admin");
    }
    for honest in &all[1..] {
        honest.track(made.id());
        honest.meet(&all[0].address(), made.id()).await;
    }
    (all, made.id())
}

#[tokio::test]
async fn a_reader_brings_what_a_writer_wrote_to_a_third_replica() {
    let net = MemoryNet::new();
    let ([first, writer, reader], tree) = three(&net, [Permission::Write, Permission::Read]).await;
    writer.db(tree).doc("d").set("from", "a writer").expect("it may write");
    // The two never meet: what is carried comes by way of somebody who may not write.
    reader.meet(&writer.address(), tree).await;
    let report = reader.meet(&first.address(), tree).await;
    assert_eq!((report.pushed, report.complete), (1, true));
    assert_eq!(first.db(tree).doc("d").to_json().expect("it can be read"), json!({"from": "a writer"}));
    let hash = |honest: &Honest| honest.db(tree).state_hash().expect("it can be read").expect("all is here");
    assert_eq!(hash(&first), hash(&writer));
    let denied = reader.db(tree).doc("d").set("from", "a reader").expect_err("it may not write");
    assert!(matches!(denied, eid_db::DbError::NotPermitted { .. }), "{denied}");
}

#[tokio::test]
async fn what_a_reader_wrote_itself_is_refused_entry_by_entry_and_the_rest_is_taken() {
    let net = MemoryNet::new();
    let ([first, writer, _third], tree) = three(&net, [Permission::Write, Permission::Read]).await;
    let key = Arc::new(SecretKey::from_seed([77; 32]));
    let made = first.db(tree);
    made.grant(Slot::Key(key.public()), Permission::Write).expect("the maker is an admin");
    writer.meet(&first.address(), tree).await;
    let rogue = Rogue::new(&net, tree, Arc::clone(&key)).await;
    rogue.meet(&first.address()).await.expect("it may read");
    let before = entries(&first, tree);

    // It may only read from now on. The writer writes, and so does it, before and after it knows of that.
    made.grant(Slot::Key(key.public()), Permission::Read).expect("the maker is an admin");
    let demotion = entries(&first, tree).pop().expect("it was written");
    writer.db(tree).doc("d").set("honest", 1).expect("it may write");
    rogue.meet(&writer.address()).await.expect("it may read");
    rogue.meet(&first.address()).await.expect("it may read");
    let write = |behind: &Entry, name: &str| {
        sign(&key, &[behind], Time(0), section(None, name)).expect("it is sound")
    };
    let void = write(before.last().expect("there is a root"), "beside its demotion");
    let invalid = write(&demotion, "after its demotion");
    let child = write(&invalid, "on top of that");
    writer.db(tree).doc("d").set("honest", 2).expect("it may write");
    rogue.meet(&writer.address()).await.expect("it may read");
    rogue.keep(&[void.clone(), invalid.clone(), child.clone()]);

    let held = entries(&first, tree).len();
    let mut events = first.node.sync().events();
    let report = rogue.meet(&first.address()).await.expect("it may push").remove(0);
    assert!(!report.complete && report.pushed >= 4, "{report:?}");
    let served = loop {
        // What the sessions and connections before it say may come as late as now.
        match events.recv().await.expect("the instance runs") {
            Delivered::Event(SyncEvent::Session(report)) if report.pulled + report.refused > 0 => {
                break report;
            }
            _ => {}
        }
    };
    assert_eq!((served.refused, served.pulled), (2, report.pushed - 2), "{served:?}");
    assert_eq!(entries(&first, tree).len() as u64, held as u64 + served.pulled);
    let holds = |entry: &Entry| first.holds(tree, &entry.id());
    assert_eq!([&void, &invalid, &child].map(holds), [true, false, false]);
    assert!(!made.standing(&void.id()).expect("it is held").counts());
    assert_eq!(made.doc("d").to_json().expect("it can be read"), json!({"honest": 2}));
}

#[tokio::test]
async fn a_relay_brings_what_it_holds_and_gets_nothing() {
    let net = MemoryNet::new();
    let ([first, writer, relay], tree) = three(&net, [Permission::Write, Permission::Read]).await;
    let made = first.db(tree);
    writer.db(tree).doc("d").set("from", "a writer").expect("it may write");
    relay.meet(&writer.address(), tree).await;
    made.grant(Slot::Key(relay.node.device()), Permission::Relay).expect("the maker is an admin");
    made.doc("d").set("kept", "from relays").expect("the maker may write");
    let held = entries(&relay, tree).len();
    let report = relay.meet(&first.address(), tree).await;
    assert_eq!((report.pushed, report.pulled, report.complete), (1, 0, false));
    assert_eq!(entries(&relay, tree).len(), held);
    let shown = made.doc("d").to_json().expect("it can be read");
    assert_eq!(shown, json!({"from": "a writer", "kept": "from relays"}));
}

#[tokio::test]
async fn everyones_right_lets_a_stranger_bring_and_a_slot_of_its_own_overrides_it() {
    let net = MemoryNet::new();
    let ([first, writer, _third], tree) = three(&net, [Permission::Write, Permission::Read]).await;
    let made = first.db(tree);
    let (passer, revoked) = (Honest::new(&net, "n4").await, Honest::new(&net, "n5").await);
    made.grant(Slot::Everyone, Permission::Read).expect("the maker is an admin");
    let slot = Slot::Key(revoked.node.device());
    made.grant(slot, Permission::Write).expect("the maker is an admin");
    writer.meet(&first.address(), tree).await;
    for honest in [&passer, &revoked] {
        honest.track(tree);
        honest.meet(&writer.address(), tree).await;
    }
    made.revoke(slot, eid_core::KeyMode::Remove { fence: None }).expect("the maker is an admin");
    writer.db(tree).doc("d").set("from", "a writer").expect("it may write");
    for honest in [&passer, &revoked] {
        honest.meet(&writer.address(), tree).await;
    }
    let written: EntryId = entries(&writer, tree).pop().expect("it wrote").id();
    let sent = revoked.node.sync().sync_with_peer(&first.address(), Some(tree)).await;
    assert_eq!(sent.expect_err("its key is revoked").refusal(), Some(RefusalCode::Unavailable));
    assert!(!first.holds(tree, &written));
    passer.meet(&first.address(), tree).await;
    assert!(first.holds(tree, &written));
}
