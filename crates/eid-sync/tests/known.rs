//! Every peer of the book that is active and has an address is kept in step, for as long as that is so and wanted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::time::Duration;

use eid_core::{Permission, TreeId};
use eid_sync::{ConnectionState, KnownInStep, PeerStatus};
use nodes::{Node, Nodes};

/// Longer than anything that is waited for here takes, by the paused clock.
const SOON: Duration = Duration::from_secs(60);

/// Time goes by, on the paused clock.
async fn passes(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

/// Two nodes that hold one database, and the first has written more since.
async fn friends() -> (Nodes, Node, Node, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    b.track(tree);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    a.write(tree, 1);
    (nodes, a, b, tree)
}

/// Waits until both have the same.
async fn equal(a: &Node, b: &Node, tree: TreeId) {
    let equal = async {
        while a.state(tree) != b.state(tree) {
            passes(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, equal).await.expect("it comes by itself");
}

async fn has(known: &KnownInStep, count: usize) {
    let has = async {
        while known.handles().len() != count {
            passes(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, has).await.expect("the book is looked at again");
}

async fn stays_away(a: &Node, b: &Node, tree: TreeId) {
    let before = b.count(tree);
    a.write(tree, 1);
    passes(SOON).await;
    assert_eq!(b.count(tree), before);
    assert_ne!(a.engine.connection_with(&b.key.public()).unwrap(), ConnectionState::Connected);
}

#[tokio::test(start_paused = true)]
async fn who_becomes_known_and_active_is_kept_in_step_and_who_is_not_any_more_is_left() {
    let (_nodes, a, b, tree) = friends().await;
    let (key, nowhere) = (b.key.public(), "memory:nowhere".parse().unwrap());
    let known = a.engine.keep_known_in_step();
    has(&known, 0).await;
    a.engine.register_peer(key, "b", &[nowhere]).unwrap();
    has(&known, 1).await;
    passes(SOON).await;
    assert_eq!(b.count(tree), 1);
    a.engine.add_peer_address(&key, &b.address()).unwrap();
    equal(&a, &b, tree).await;
    a.write(tree, 1);
    equal(&a, &b, tree).await;

    a.engine.update_peer_status(&key, PeerStatus::Inactive).unwrap();
    has(&known, 0).await;
    stays_away(&a, &b, tree).await;
    a.engine.update_peer_status(&key, PeerStatus::Active).unwrap();
    equal(&a, &b, tree).await;

    drop(known);
    passes(Duration::from_secs(1)).await;
    stays_away(&a, &b, tree).await;
}

#[tokio::test(start_paused = true)]
async fn one_handle_that_is_dropped_ends_its_task_and_its_connection() {
    let (_nodes, a, b, tree) = friends().await;
    let kept = a.engine.keep_in_step(&[b.address()], None, &[], Some(tree));
    assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
    let clone = kept.clone();
    drop(kept);
    a.write(tree, 1);
    equal(&a, &b, tree).await;
    drop(clone);
    passes(Duration::from_secs(1)).await;
    stays_away(&a, &b, tree).await;
}
