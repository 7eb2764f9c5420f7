//! Entries are delivered to a peer that is named, and it is known when they are.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::time::Duration;

use eid_core::{EntryId, Permission};
use eid_sync::SyncError;
use nodes::{Nodes, entry};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn entries_are_sent_to_a_peer_of_the_book_and_are_on_its_disk_then() {
    let nodes = Nodes::new();
    let (a, b, c) = (nodes.node(1).await, nodes.node(2).await, nodes.node(3).await);
    let tree = a.create(7);
    nodes.allow(tree, &a, Permission::Admin(0));
    nodes.allow(tree, &b, Permission::Write);
    b.track(tree);
    c.track(tree);
    a.write(tree, 3);
    let last = entry(&a, tree, 3).id();
    let (there, key) = ([b.address()], b.key.public());
    let unknown = a.engine.send_entries(key, tree, &[EntryId([1; 32])]).await;
    assert!(matches!(unknown, Err(SyncError::UnknownEntry(_))), "{unknown:?}");
    let nowhere = a.engine.send_entries(key, tree, &[last]).await;
    assert!(matches!(nowhere, Err(SyncError::NoAddress)), "{nowhere:?}");

    a.engine.register_peer(key, "b", &there).unwrap();
    a.engine.send_entries(key, tree, &[last]).await.unwrap();
    assert_eq!(b.count(tree), 4);
    assert_eq!(a.engine.holders(&tree, &last).unwrap(), [key]);

    // Who may not read it does not take it.
    a.engine.register_peer(c.key.public(), "c", &[c.address()]).unwrap();
    a.engine.send_entries(c.key.public(), tree, &[last]).await.unwrap_err();
    assert_eq!(c.count(tree), 0);

    let handle = a.engine.register_sync_peer(key, "b", &there, tree).unwrap();
    handle.wait_for_initial_sync(SOON).await.unwrap();
    a.write(tree, 1);
    a.engine.queue_entry_for_sync(&key, tree);
    let newest = entry(&a, tree, 4).id();
    tokio::time::timeout(SOON, a.engine.durable_on(tree, newest, 1)).await.expect("it is told").unwrap();
    assert_eq!(b.count(tree), 5);
}
