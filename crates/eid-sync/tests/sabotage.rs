//! Faults of our own that can be switched on: each is visible from outside.
#![cfg(feature = "sabotage")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use eid_core::dag::Seq;
use eid_core::sabotage::{self, Sabotage};
use eid_core::{Permission, TreeId};
use eid_sync::{DatabaseTicket, Delivered, SyncEvent};
use nodes::{Node, Nodes};

async fn served() -> (Nodes, Node, Node, TreeId, DatabaseTicket) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    a.write(tree, 5);
    let ticket = DatabaseTicket {
        db: tree,
        key: a.key.public(),
        addresses: vec![a.address()],
        others: Vec::new(),
        invite: None,
    };
    (nodes, a, b, tree, ticket)
}

/// One test, since a sabotage is switched on for the whole process.
#[tokio::test(start_paused = true)]
async fn each_sabotage_of_the_engine_is_visible() {
    sabotage::set(Some(Sabotage::ServeWithoutRight));
    let (nodes, _a, b, tree, ticket) = served().await;
    nodes.forbid(tree, &b);
    b.engine.join(&ticket, "b").await.unwrap();
    assert_eq!(b.count(tree), 6, "a stranger got everything");

    sabotage::set(Some(Sabotage::ForgetAck));
    let (_nodes, a, b, tree, ticket) = served().await;
    b.engine.join(&ticket, "b").await.unwrap();
    assert_eq!(a.engine.known(&b.key.public(), &tree).unwrap().mine, None);

    sabotage::set(Some(Sabotage::AckBeforeCommit));
    let (_nodes, a, b, tree, ticket) = served().await;
    let mut events = a.engine.events();
    let ended = async {
        loop {
            if let Some(Delivered::Event(SyncEvent::Session(_))) = events.recv().await {
                let known = a.engine.known(&b.key.public(), &tree).unwrap();
                return (known.mine.map(|cursor| cursor.seq), b.count(tree));
            }
        }
    };
    let (joined, (acknowledged, held)) = tokio::join!(b.engine.join(&ticket, "b"), ended);
    joined.unwrap();
    assert_eq!((acknowledged, held), (Some(Seq(6)), 0), "acknowledged and not held");
    sabotage::set(None);
}
