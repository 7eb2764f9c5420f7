//! With a peer that is blocked there is nothing to do: it is not dialled, not served, and what runs with it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::Arc;
use std::time::Duration;

use eid_core::{Permission, TreeId};
use eid_store::Memory;
use eid_sync::{Delivered, EngineConfig, Events, KeepState, PeerStatus, SyncError, SyncEvent, SyncHandle};
use nodes::{Node, Nodes};

const SOON: Duration = Duration::from_secs(20);

/// Two nodes that hold one database and have met.
async fn friends() -> (Nodes, Node, Node, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &a, Permission::Admin(0));
    nodes.allow(tree, &b, Permission::Write);
    b.track(tree);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    (nodes, a, b, tree)
}

fn is_blocked(result: Result<impl std::fmt::Debug, SyncError>) -> bool {
    matches!(result, Err(SyncError::Blocked(_)))
}

async fn until(events: &mut Events, is_it: impl Fn(&SyncEvent) -> bool) {
    let happens =
        async { while !matches!(events.recv().await.unwrap(), Delivered::Event(event) if is_it(&event)) {} };
    tokio::time::timeout(SOON, happens).await.expect("it happens");
}

async fn leaves_step(handle: &SyncHandle) {
    let leaves = async {
        while handle.state() == KeepState::InStep {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, leaves).await.expect("a connection that is closed is noticed");
}

#[tokio::test]
async fn who_is_blocked_is_neither_served_nor_dialled_until_it_is_not_any_more() {
    let (_nodes, a, b, tree) = friends().await;
    let (key, there) = (b.key.public(), b.address());
    a.engine.update_peer_status(&key, PeerStatus::Blocked).unwrap();
    a.write(tree, 1);
    b.write(tree, 1);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap_err();
    if let Ok(met) = b.engine.connect_to_peer(&a.address(), None, &[]).await {
        b.engine.discover_peer_trees(&met).await.expect_err("it is hung up on");
    }
    assert!(is_blocked(a.engine.sync_with_peer(&there, Some(tree)).await));
    // It is not even looked for.
    let nowhere = ["memory:nowhere".parse().unwrap()];
    assert!(is_blocked(a.engine.connect_to_any(&nowhere, Some(key), &[]).await));
    assert!(is_blocked(a.engine.connect_to_peer(&nowhere[0], Some(key), &[]).await));
    assert_eq!((a.count(tree), b.count(tree)), (2, 2));

    a.engine.update_peer_status(&key, PeerStatus::Inactive).unwrap();
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    assert_eq!(a.state(tree), b.state(tree));
    assert_eq!(a.count(tree), 3);
}

#[tokio::test]
async fn blocking_hangs_up_on_who_has_dialled_and_it_is_in_step_again_afterwards() {
    let (_nodes, a, b, tree) = friends().await;
    let kept = b.engine.keep_in_step(&[a.address()], None, &[], Some(tree));
    assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
    let mut events = a.engine.events();
    a.engine.update_peer_status(&b.key.public(), PeerStatus::Blocked).unwrap();
    let (peer, status) = (b.key.public(), PeerStatus::Blocked);
    until(&mut events, |event| *event == SyncEvent::Status { peer, status }).await;
    until(&mut events, |event| matches!(event, SyncEvent::Disconnected { .. })).await;
    leaves_step(&kept).await;
    a.write(tree, 1);
    b.write(tree, 1);
    a.engine.update_peer_status(&b.key.public(), PeerStatus::Active).unwrap();
    assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
    let equal = async {
        while a.state(tree) != b.state(tree) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, equal).await.expect("nothing is lost by it");
}

#[tokio::test]
async fn blocking_hangs_up_on_who_was_dialled() {
    let (_nodes, a, b, tree) = friends().await;
    let kept = b.engine.keep_in_step(&[a.address()], None, &[], Some(tree));
    assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
    b.engine.update_peer_status(&a.key.public(), PeerStatus::Blocked).unwrap();
    leaves_step(&kept).await;
    let told = async {
        while kept.last_error().is_none_or(|error| error.code != "blocked") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, told).await.expect("it says why");
    let before = b.count(tree);
    a.write(tree, 1);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap_err();
    assert_eq!(b.count(tree), before);
}

#[tokio::test]
async fn it_is_remembered() {
    let nodes = Nodes::new();
    let disk = Arc::new(Memory::new());
    let stranger = nodes.node(9).await.key.public();
    let first = nodes.node_over(1, disk.clone(), EngineConfig::default()).await;
    first.engine.register_peer(stranger, "mallory", &["memory:m".parse().unwrap()]).unwrap();
    first.engine.add_peer_address(&stranger, &"memory:elsewhere".parse().unwrap()).unwrap();
    first.engine.update_peer_status(&stranger, PeerStatus::Blocked).unwrap();
    first.engine.stop_server().await;
    let again = nodes.node_over(1, disk, EngineConfig::default()).await;
    let nowhere = "memory:nowhere".parse().unwrap();
    assert!(is_blocked(again.engine.connect_to_peer(&nowhere, Some(stranger), &[]).await));
    let known = again.engine.list_peers().unwrap().remove(0);
    assert_eq!((known.status, known.name.as_deref()), (PeerStatus::Blocked, Some("mallory")));
    assert_eq!(known.addresses.len(), 2);
    // Who is forgotten is a stranger like any other.
    again.engine.peers().forget(&known).unwrap();
    assert_eq!(again.engine.list_peers().unwrap(), []);
    assert!(!is_blocked(again.engine.connect_to_peer(&nowhere, Some(stranger), &[]).await));
}

#[tokio::test]
async fn peers_and_databases_that_there_were_sessions_about_are_named_both_ways() {
    let (_nodes, a, b, tree) = friends().await;
    assert_eq!(b.engine.peers_of(&tree).unwrap(), [a.key.public()]);
    assert_eq!(b.engine.trees_of(&a.key.public()).unwrap(), [tree]);
    assert_eq!(b.engine.trees_of(&b.key.public()).unwrap(), []);
}
