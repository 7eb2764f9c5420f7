//! Engines compress what they send each other when both offer it, and are in step in any case.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;
#[expect(dead_code, reason = "a part of the harness is enough")]
mod tapped;

use std::sync::Arc;
use std::time::Duration;

use eid_core::{Permission, TreeId};
use eid_store::Memory;
use eid_sync::{Compression, EngineConfig};
use nodes::{Node, Nodes};
use tapped::Tap;

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(20);

async fn node(nodes: &Nodes, n: u8, compression: Compression) -> Node {
    let config = EngineConfig { compression, ..EngineConfig::default() };
    nodes.node_over(n, Arc::new(Memory::new()), config).await
}

/// Waits until two nodes hold the same, by watching what is admitted.
async fn arrives(at: &Node, from: &Node, tree: TreeId) {
    let told = Arc::new(tokio::sync::Notify::new());
    let _watches = [at, from].map(|node| {
        let notify = told.clone();
        node.store.on_admitted(Arc::new(move |_| notify.notify_one()))
    });
    let arrived = async {
        while at.state(tree) != from.state(tree) {
            told.notified().await;
        }
    };
    tokio::time::timeout(SOON, arrived).await.expect("what was written arrives");
}

/// What went over a connection.
#[derive(Debug, PartialEq, Eq)]
struct Gone {
    /// Batches of sessions, and pushes, that were compressed.
    compressed: (usize, usize),
    /// Bytes of entries that the dialler pulled, and what they took.
    pulled: u64,
    bytes: u64,
}

async fn meet(dials: Compression, listens: Compression) -> Gone {
    let nodes = Nodes::new();
    let (a, b) = (node(&nodes, 1, dials).await, node(&nodes, 2, listens).await);
    let tree = b.create(1);
    b.write(tree, 300);
    nodes.allow(tree, &a, Permission::Write);
    a.track(tree);
    let tap = Tap::on(&nodes, &a).await;
    let report = a.engine.sync_with_peer(&b.address(), Some(tree)).await.unwrap().remove(0);
    assert!(report.complete);
    // What the dialler has goes back in a session too.
    a.write(tree, 300);
    assert!(a.engine.sync_with_peer(&b.address(), Some(tree)).await.unwrap()[0].complete);
    assert_eq!(a.state(tree), b.state(tree));
    let in_sessions = Tap::get(&tap.compressed);

    let kept = a.engine.keep_in_step(&[b.address()], None, &[], Some(tree));
    kept.wait_for_initial_sync(SOON).await.unwrap();
    // Whatever a session has to say is said before both are told what comes.
    for (from, to) in [(&a, &b), (&b, &a)] {
        from.write(tree, 1);
        arrives(to, from, tree).await;
    }
    assert_eq!(Tap::get(&tap.compressed), in_sessions);
    let sessions = tap.began.lock().unwrap().len();
    for (from, to) in [(&a, &b), (&b, &a)] {
        from.write_large(tree, 1, 20);
        arrives(to, from, tree).await;
    }
    assert_eq!(tap.began.lock().unwrap().len(), sessions, "it was pushed");
    let live = Tap::get(&tap.compressed) - in_sessions;
    Gone { compressed: (in_sessions, live), pulled: report.pulled, bytes: report.bytes_in }
}

#[tokio::test]
async fn peers_compress_where_both_offer_it_and_are_in_step_in_any_case() {
    use Compression::{Never, WhereItPays};
    let plain = meet(Never, Never).await;
    assert_eq!((plain.compressed, plain.pulled), ((0, 0), 301));
    assert_eq!(meet(WhereItPays, Never).await, plain);
    assert_eq!(meet(Never, WhereItPays).await, plain);
    let both = meet(WhereItPays, WhereItPays).await;
    assert_eq!((both.compressed, both.pulled), ((2, 2), 301));
    assert!(both.bytes * 100 < plain.bytes * 90, "{} of {}", both.bytes, plain.bytes);
}
