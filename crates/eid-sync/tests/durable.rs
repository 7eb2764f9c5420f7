//! Who holds an entry is known from what was acknowledged, and from nothing else; what is to be delivered is tried at once
//! when somebody asks for that.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::time::Duration;

use eid_core::{EntryId, Permission, TreeId};
use eid_sync::SyncError;
use nodes::{Node, Nodes, entry};

/// Two nodes, one of which has written what the other may have.
async fn friends() -> (Nodes, Node, Node, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    b.track(tree);
    a.write(tree, 3);
    (nodes, a, b, tree)
}

#[tokio::test]
async fn an_entry_is_durable_elsewhere_when_it_was_acknowledged_and_not_before() {
    let (_nodes, a, b, tree) = friends().await;
    let key = b.key.public();
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    for seq in [0, 3] {
        assert_eq!(a.engine.holders(&tree, &entry(&a, tree, seq).id()).unwrap(), [key]);
    }
    a.write(tree, 2);
    for seq in [4, 5] {
        let newer = entry(&a, tree, seq).id();
        assert_eq!(a.engine.holders(&tree, &newer).unwrap(), []);
        let waiting = a.engine.durable_on(tree, newer, 1);
        tokio::time::timeout(Duration::from_millis(50), waiting).await.expect_err("nobody has said so");
    }
    let unknown = a.engine.durable_on(tree, EntryId([1; 32]), 1);
    let unknown = tokio::time::timeout(Duration::from_secs(20), unknown).await.expect("it is not waited for");
    assert!(matches!(unknown, Err(SyncError::UnknownEntry(_))), "{unknown:?}");
    let newest = entry(&a, tree, 5).id();
    let (durable, ()) = tokio::join!(a.engine.durable_on(tree, newest, 1), async {
        b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    });
    durable.unwrap();
    assert_eq!(a.engine.holders(&tree, &newest).unwrap(), [key]);
    let two = a.engine.durable_on(tree, newest, 2);
    tokio::time::timeout(Duration::from_millis(50), two).await.expect_err("one device is not two");
}

#[tokio::test(start_paused = true)]
async fn what_is_marked_as_due_is_delivered_at_once_also_by_who_was_to_wait() {
    let (nodes, a, b, tree) = friends().await;
    let (key, later) = (b.key.public(), "memory:later".parse().unwrap());
    let kept = a.engine.keep_in_step(&[later], Some(key), &[], Some(tree));
    // By now it waits for longer than a minute.
    let waiting = tokio::time::timeout(Duration::from_secs(300), kept.wait_in_step()).await;
    assert!(waiting.is_err() && b.count(tree) == 0);
    b.engine.register_transport("later", nodes.net.endpoint("later"));
    b.engine.accept_connections().await.unwrap();
    a.engine.queue_entry_for_sync(&key, tree);
    let delivered = tokio::time::timeout(Duration::from_secs(1), kept.wait_in_step()).await;
    assert!(delivered.expect("at once"));
    assert_eq!(b.count(tree), 4);
}
