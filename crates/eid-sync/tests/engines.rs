//! Engines that reach each other over links in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod by_hand;
#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::Arc;

use by_hand::{greet_as, open};
use eid_core::dag::{Replica, Seq};
use eid_core::{Permission, SecretKey, TreeId};
use eid_proto::HandshakeError;
use eid_proto::message::{Greeting, Hello};
use eid_store::Offer;
use eid_sync::{DatabaseTicket, Delivered, RefusalCode, Rung, SyncError, SyncEvent};
use eid_transport::{Received, Transport};
use nodes::{Node, Nodes};

fn ticket(server: &Node, db: TreeId, invite: Option<u8>) -> DatabaseTicket {
    DatabaseTicket {
        db,
        key: server.key.public(),
        addresses: vec![server.address()],
        others: Vec::new(),
        invite: invite.map(|n| SecretKey::from_seed([n; 32])),
    }
}

fn promise(nodes: &Nodes, invite: u8, permission: Permission, uses: u32) {
    let key = SecretKey::from_seed([invite; 32]).public();
    nodes.world.lock().unwrap().invites.insert(key, (permission, uses));
}

/// Two nodes that share a database and have met.
async fn friends() -> (Nodes, Node, Node, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    a.write(tree, 50);
    let report = b.engine.join(&ticket(&a, tree, None), "b").await.unwrap();
    assert_eq!((report.pulled, report.pushed, report.complete), (51, 0, true));
    b.track(tree);
    (nodes, a, b, tree)
}

#[tokio::test]
async fn one_session_carries_what_each_side_lacks() {
    let (_nodes, a, b, tree) = friends().await;
    a.write(tree, 3);
    b.write(tree, 4);
    let reports = b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    assert_eq!((reports[0].pulled, reports[0].pushed, reports[0].complete), (3, 4, true));
    assert_eq!(a.state(tree), b.state(tree));
    assert_eq!(a.count(tree), 58);
}

#[tokio::test]
async fn one_private_commit_each_costs_one_entry_each_way_and_the_next_session_almost_nothing() {
    let (_nodes, a, b, tree) = friends().await;
    for dialler_is_a in [false, true, false] {
        a.write(tree, 1);
        b.write(tree, 1);
        let (from, to) = if dialler_is_a { (&a, &b) } else { (&b, &a) };
        let report = &from.engine.sync_with_peer(&to.address(), Some(tree)).await.unwrap()[0];
        assert_eq!((report.pulled, report.pushed, report.duplicates), (1, 1, 0));
        assert_eq!(report.rung, Some(Rung::Remembered));
        let report = &from.engine.sync_with_peer(&to.address(), Some(tree)).await.unwrap()[0];
        assert_eq!((report.pulled, report.pushed, report.rung), (0, 0, Some(Rung::InSync)));
        assert!(report.bytes_in < 1024 && report.bytes_out < 1024);
        assert!(report.handshake_bytes < 1024);
    }
    assert_eq!(a.state(tree), b.state(tree));
    let known = b.engine.known(&a.key.public(), &tree).unwrap();
    assert_eq!(known.theirs.unwrap().seq, Seq(a.count(tree)));
    assert_eq!(known.mine.unwrap().seq, Seq(b.count(tree)));
    assert_eq!(b.engine.known_peers(&tree).unwrap(), [(a.key.public(), known)]);
    b.engine.forget(&tree).unwrap();
    assert!(b.engine.known_peers(&tree).unwrap().is_empty());
}

#[tokio::test]
async fn payloads_that_are_not_here_are_given_alone_whoever_dials_and_even_when_the_tips_are_equal() {
    let (nodes, a, b, tree) = friends().await;
    // Another replica with the same entries that never got two payloads, and one with an entry of its own besides.
    let offers = |lacking: &[usize]| -> Vec<Offer> {
        let snapshot = a.store.tree(&tree).unwrap().unwrap();
        let logged = snapshot.log(Seq(0)..snapshot.end(), usize::MAX).unwrap().into_iter().enumerate();
        logged
            .map(|(n, entry)| {
                let payloads = if lacking.contains(&n) { vec![None] } else { entry.payloads };
                Offer { block: entry.block, payloads }
            })
            .collect()
    };
    let missing = |node: &Node| node.store.tree(&tree).unwrap().unwrap().missing_payloads();
    for (n, own) in [(3, 0), (4, 2)] {
        let c = nodes.node(n).await;
        c.track(tree);
        nodes.allow(tree, &c, Permission::Write);
        c.store.admit(c.store.prepare(tree, offers(&[20, 40])[..20].to_vec()).unwrap()).unwrap();
        c.write(tree, own);
        c.store.admit(c.store.prepare(tree, offers(&[20, 40])).unwrap()).unwrap();
        assert_eq!((missing(&c), c.count(tree)), (2, 51 + own as u64));
        // By way of the list of databases, which names equal tips.
        let report = &c.engine.sync_with_peer(&b.address(), None).await.unwrap()[0];
        assert_eq!((report.pulled, report.pushed, report.duplicates), (0, own as u64, 0));
        assert_eq!((report.filled, report.given, report.missing, report.complete), (2, 0, 0, true));
        assert_eq!(missing(&c), 0);
        assert_eq!(c.state(tree), b.state(tree));
        let reports = c.engine.sync_with_peer(&b.address(), Some(tree)).await.unwrap();
        assert_eq!((reports[0].rung, reports[0].turns), (Some(Rung::InSync), 2));
    }
    let lossy = async |n: u8| {
        let node = nodes.node(n).await;
        node.track(tree);
        nodes.allow(tree, &node, Permission::Write);
        node.store.admit(node.store.prepare(tree, offers(&[20])).unwrap()).unwrap();
        node
    };
    // Who never dials is given them by who does.
    let quiet = lossy(7).await;
    let report = &a.engine.sync_with_peer(&quiet.address(), None).await.unwrap()[0];
    assert_eq!((report.given, report.filled, report.complete, missing(&quiet)), (1, 0, true, 0));
    assert_eq!(quiet.state(tree), a.state(tree));
    assert!(report.bytes_in + report.bytes_out < 8_000, "{report:?}");
    // Who lacks them too is asked once, as long as neither has got any.
    let (d, e) = (lossy(5).await, lossy(6).await);
    let report = async || d.engine.sync_with_peer(&e.address(), None).await.unwrap().remove(0);
    let (first, second) = (report().await, report().await);
    for report in [&first, &second] {
        assert_eq!((report.duplicates, report.filled, report.missing, report.complete), (0, 0, 1, true));
    }
    assert_eq!((first.turns, second.turns, missing(&d)), (8, 4, 1));
    e.engine.sync_with_peer(&a.address(), None).await.unwrap();
    assert_eq!(report().await.filled, 1);
    assert_eq!((missing(&d), missing(&e)), (0, 0));
}

#[tokio::test]
async fn a_chain_converges_without_a_link_between_its_ends() {
    let (nodes, a, b, tree) = friends().await;
    let c = nodes.node(3).await;
    c.track(tree);
    nodes.allow(tree, &c, Permission::Write);
    c.engine.sync_with_peer(&b.address(), Some(tree)).await.unwrap();
    a.write(tree, 2);
    c.write(tree, 2);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    c.engine.sync_with_peer(&b.address(), Some(tree)).await.unwrap();
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    assert_eq!(a.state(tree), b.state(tree));
    assert_eq!(a.state(tree), c.state(tree));
    assert_eq!(a.count(tree), 55);
}

#[tokio::test]
async fn an_invite_lets_in_as_often_as_it_promises() {
    let nodes = Nodes::new();
    let (a, b, c) = (nodes.node(1).await, nodes.node(2).await, nodes.node(3).await);
    let tree = a.create(1);
    a.write(tree, 5);
    promise(&nodes, 9, Permission::Write, 1);
    let mut events = a.engine.events();
    let report = b.engine.join(&ticket(&a, tree, Some(9)), "b").await.unwrap();
    assert_eq!((report.pulled, report.complete), (6, true));
    let redeemed = SyncEvent::Redeemed { tree, joiner: b.key.public() };
    let seen: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
    assert!(seen.contains(&Delivered::Event(redeemed)), "{seen:?}");
    // A second joiner comes too late, and gets nothing.
    let error = c.engine.join(&ticket(&a, tree, Some(9)), "c").await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::InviteUsed));
    assert_eq!(c.count(tree), 0);
    // The first may repeat itself: an answer can be lost.
    b.engine.join(&ticket(&a, tree, Some(9)), "b").await.unwrap();
}

#[tokio::test]
async fn an_expired_or_unknown_invite_is_refused_by_its_own_code() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.world.lock().unwrap().expired.insert(SecretKey::from_seed([8; 32]).public());
    let error = b.engine.join(&ticket(&a, tree, Some(8)), "b").await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::InviteExpired));
    let error = b.engine.join(&ticket(&a, tree, Some(7)), "b").await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::Unavailable));
    // The same for a database that is not there at all.
    let error = b.engine.join(&ticket(&a, TreeId([5; 32]), Some(7)), "b").await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::Unavailable));
    assert_eq!(b.count(tree), 0);
}

#[tokio::test]
async fn another_server_at_the_addresses_of_a_ticket_learns_nothing_and_does_not_hide_the_right_one() {
    let nodes = Nodes::new();
    let (a, b, c) = (nodes.node(1).await, nodes.node(2).await, nodes.node(3).await);
    let tree = a.create(1);
    promise(&nodes, 9, Permission::Write, 1);
    let mut wrong = ticket(&a, tree, Some(9));
    wrong.addresses = vec![c.address()];
    let mut events = c.engine.events();
    let error = b.engine.join(&wrong, "b").await.unwrap_err();
    assert!(matches!(error, SyncError::Handshake(HandshakeError::WrongServer { .. })), "{error}");
    assert_eq!(events.try_recv(), None, "the other server did not learn who asked");
    assert_eq!(b.count(tree), 0);
    wrong.addresses.push("memory:nowhere".parse().unwrap());
    let error = b.engine.join(&wrong, "b").await.unwrap_err();
    let telling = error.telling();
    assert!(matches!(telling, SyncError::Handshake(HandshakeError::WrongServer { .. })), "{error}");
    wrong.addresses.push(a.address());
    assert!(b.engine.join(&wrong, "b").await.unwrap().complete);
    assert_eq!(events.try_recv(), None);
}

#[tokio::test]
async fn every_address_is_tried() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Read);
    let mut ticket = ticket(&a, tree, None);
    let nowhere = "memory:nowhere".parse().unwrap();
    let unknown = "carrier-pigeon:loft".parse().unwrap();
    ticket.addresses = vec![unknown, nowhere, a.address()];
    assert!(b.engine.join(&ticket, "b").await.unwrap().complete);
    ticket.addresses.pop();
    assert!(matches!(b.engine.join(&ticket, "b").await, Err(SyncError::NoWay(failed)) if failed.len() == 2));
    ticket.addresses.clear();
    assert!(matches!(b.engine.join(&ticket, "b").await, Err(SyncError::NoAddress)));
}

#[tokio::test]
async fn an_unknown_key_learns_nothing() {
    let (nodes, a, _b, tree) = friends().await;
    let stranger = nodes.node(7).await;
    let private = a.create(2);
    let disabled = a.create(3);
    a.rights.trees.lock().unwrap().remove(&disabled);
    let peer = stranger.engine.connect_to_peer(&a.address(), None, &[]).await.unwrap();
    assert_eq!(stranger.engine.discover_peer_trees(&peer).await.unwrap(), []);
    let mut answers = vec![];
    for asked in [tree, private, disabled, TreeId([9; 32])] {
        let error = stranger.engine.sync_tree_with_peer(&peer, asked).await.unwrap_err();
        answers.push(error.to_string());
        assert_eq!(error.refusal(), Some(RefusalCode::Unavailable));
        assert_eq!(stranger.count(asked), 0);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn discovery_lists_exactly_what_may_be_read() {
    let (nodes, a, b, tree) = friends().await;
    let second = a.create(2);
    let relayed = a.create(3);
    a.create(4);
    nodes.allow(second, &b, Permission::Read);
    nodes.allow(relayed, &b, Permission::Relay);
    let peer = b.engine.connect_to_peer(&a.address(), Some(a.key.public()), &[]).await.unwrap();
    let mut listed: Vec<TreeId> = b
        .engine
        .discover_peer_trees(&peer)
        .await
        .unwrap()
        .into_iter()
        .map(|offered| offered.summary.tree)
        .collect();
    listed.sort_unstable();
    let mut expected = vec![tree, second];
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(peer.name(), "node 1");
}

#[tokio::test]
async fn all_databases_of_both_are_synchronised_over_one_connection() {
    let (nodes, a, b, tree) = friends().await;
    let second = a.create(2);
    nodes.allow(second, &b, Permission::Write);
    b.engine.join(&ticket(&a, second, None), "b").await.unwrap();
    b.track(second);
    let unknown_to_a = b.create(3);
    nodes.allow(unknown_to_a, &a, Permission::Write);
    let not_for_a = b.create(4);
    // One that takes part here before anything of it has come, and one that the server does not let this side read.
    let awaited = a.create(5);
    nodes.allow(awaited, &b, Permission::Read);
    b.track(awaited);
    let forbidden = a.create(6);
    b.track(forbidden);
    a.write(second, 2);
    let reports = b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    let pulled = |tree| reports.iter().find(|report| report.tree == Some(tree)).map(|report| report.pulled);
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert_eq!((pulled(tree), pulled(second), pulled(awaited)), (Some(0), Some(2), Some(1)));
    assert_eq!(b.count(forbidden), 0);
    assert_eq!(a.count(not_for_a), 0);
    let in_sync = reports.iter().find(|report| report.tree == Some(tree)).unwrap();
    assert_eq!((in_sync.rung, in_sync.complete), (Some(Rung::InSync), true));
}

#[tokio::test]
async fn a_reader_brings_the_work_of_a_writer_to_a_third_replica() {
    let (nodes, a, b, tree) = friends().await;
    nodes.allow(tree, &b, Permission::Read);
    let c = nodes.node(3).await;
    c.track(tree);
    nodes.allow(tree, &c, Permission::Write);
    c.engine.sync_with_peer(&b.address(), Some(tree)).await.unwrap();
    a.write(tree, 3);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    let report = &b.engine.sync_with_peer(&c.address(), Some(tree)).await.unwrap()[0];
    assert_eq!((report.pulled, report.pushed, report.complete), (0, 3, true));
    assert_eq!(c.state(tree), a.state(tree));
}

#[tokio::test]
async fn every_right_lets_push_and_none_does_not() {
    for (n, right) in [Some(Permission::Relay), Some(Permission::Read), Some(Permission::Write), None]
        .into_iter()
        .enumerate()
    {
        let (nodes, a, b, tree) = friends().await;
        match right {
            Some(right) => nodes.allow(tree, &b, right),
            None => nodes.forbid(tree, &b),
        }
        a.write(tree, 1);
        b.write(tree, 2);
        let mut events = a.engine.events();
        // By way of the list of databases, and by name.
        let by_list = b.engine.sync_with_peer(&a.address(), None).await.unwrap();
        let by_name = b.engine.sync_with_peer(&a.address(), Some(tree)).await;
        let may_read = right >= Some(Permission::Read);
        assert_eq!(b.count(tree), 53 + u64::from(may_read), "{right:?}");
        assert_eq!(a.count(tree), 52 + if right.is_some() { 2 } else { 0 }, "{right:?}");
        match right {
            Some(_) => {
                assert_eq!((by_list[0].pushed, by_list[0].pulled), (2, u64::from(may_read)), "{right:?}");
                let report = &by_name.unwrap()[0];
                assert_eq!((report.pushed, report.complete), (0, may_read), "{right:?}");
            }
            None => {
                assert!(by_list.is_empty(), "{by_list:?}");
                assert_eq!(by_name.unwrap_err().refusal(), Some(RefusalCode::Unavailable));
            }
        }
        let served = std::iter::from_fn(|| events.try_recv()).filter_map(|delivered| match delivered {
            Delivered::Event(SyncEvent::Session(report)) => Some(report.pulled),
            _ => None,
        });
        assert_eq!(served.sum::<u64>(), if right.is_some() { 2 } else { 0 }, "{n}");
    }
}

#[tokio::test]
async fn a_server_that_may_not_read_is_asked_again_without_a_word_of_what_is_held() {
    let (nodes, a, b, tree) = friends().await;
    nodes.forbid(tree, &a);
    nodes.world.lock().unwrap().rights.insert((tree, b.key.public()), Permission::Read);
    a.write(tree, 2);
    b.write(tree, 3);
    let report = &b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap()[0];
    assert_eq!((report.pulled, report.duplicates, report.pushed), (2, 0, 0));
    assert_eq!(report.rung, Some(Rung::ByIds), "the position of the last session was not told");
    assert_eq!(a.count(tree), 53);
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_may_not_read() {
    let (nodes, a, b, tree) = friends().await;
    b.write(tree, 1);
    nodes.forbid(tree, &a);
    let report = &b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap()[0];
    assert_eq!((report.pushed, report.complete), (0, false));
    assert_eq!(a.count(tree), 51);
}

#[tokio::test]
async fn a_cut_in_the_middle_costs_only_what_was_not_admitted() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    a.write_large(tree, 3_000, 40);
    let net = nodes.net.clone();
    let watch = b.store.on_admitted(Arc::new(move |admitted| {
        if admitted.seqs.end >= Seq(1_000) {
            net.cut_all();
        }
    }));
    let error = b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    drop(watch);
    let held = b.count(tree);
    assert!((1_000..3_001).contains(&held), "{held}");
    let report = b.engine.join(&ticket(&a, tree, None), "b").await.unwrap();
    assert_eq!(report.pulled + held, 3_001);
    assert_eq!(report.duplicates, 0);
    assert_eq!(a.state(tree), b.state(tree));
}

#[tokio::test]
async fn a_right_that_is_taken_in_mid_session_ends_it() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    // More than one window, so that there is a turn to be refused in.
    a.write_large(tree, 3_000, 40);
    let world = nodes.world.clone();
    let key = b.key.public();
    let watch = b.store.on_admitted(Arc::new(move |_| {
        world.lock().unwrap().rights.remove(&(tree, key));
    }));
    let error = b.engine.join(&ticket(&a, tree, None), "b").await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::Unavailable), "{error}");
    assert!(b.count(tree) < 3_001);
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn a_silent_or_garbage_sending_peer_delays_nobody_else() {
    let (nodes, a, b, tree) = friends().await;
    a.engine.register_peer(b.key.public(), "b", &[b.address()]).unwrap();
    let by_hand = nodes.net.endpoint("by-hand");
    let (mut connections, mut links) = (Vec::new(), Vec::new());
    // Before the handshake, in the middle of it, after it, and in a session.
    for (n, stage) in (10..).zip(["nothing", "hello", "greeted", "opened"]) {
        let connection = by_hand.dial(&a.address()).await.unwrap();
        let key = SecretKey::from_seed([n; 32]);
        nodes.world.lock().unwrap().rights.insert((tree, key.public()), Permission::Write);
        match stage {
            "nothing" => links.push(connection.open().await.unwrap()),
            "hello" => {
                let mut link = connection.open().await.unwrap();
                let hello = Hello { versions: eid_proto::VERSIONS, features: 0, nonce: [n; 32] };
                link.send(Greeting::Hello(hello).encode()).await.unwrap();
                link.end_turn().await.unwrap();
                assert!(matches!(link.recv().await.unwrap(), Received::Frame(_)));
                links.push(link);
            }
            stage => {
                links.push(greet_as(&*connection, key, vec![]).await);
                if stage == "opened" {
                    let mut link = connection.open().await.unwrap();
                    open(&mut *link, tree, b.store.epoch()).await;
                    links.push(link);
                }
            }
        }
        connections.push(connection);
    }
    let noisy = by_hand.dial(&a.address()).await.unwrap();
    let mut noise = noisy.open().await.unwrap();
    noise.send(bytes::Bytes::from_static(&[0, 255, 255, 255])).await.unwrap();
    noise.end_turn().await.unwrap();

    let began = tokio::time::Instant::now();
    a.write(tree, 1);
    let report = &b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap()[0];
    assert_eq!(report.pulled, 1);
    a.write(tree, 1);
    assert_eq!(a.engine.status(&tree, &b.key.public()).unwrap().ahead, 1);
    assert_eq!(a.engine.flush(60_000).await.unwrap(), []);
    assert_eq!(a.state(tree), b.state(tree));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO, "nobody has waited for them");
    let ended = noise.recv().await;
    assert!(!matches!(ended, Ok(Received::Frame(_))), "{ended:?}");
}

#[tokio::test]
async fn with_nothing_new_a_session_costs_the_same_whatever_the_size() {
    let mut costs = Vec::new();
    for count in [10, 1_000, 5_000] {
        let nodes = Nodes::new();
        let (a, b) = (nodes.node(1).await, nodes.node(2).await);
        let tree = a.create(1);
        nodes.allow(tree, &b, Permission::Write);
        b.track(tree);
        a.write(tree, count);
        b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
        let report = b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap().remove(0);
        assert_eq!((report.pulled, report.pushed, report.rung), (0, 0, Some(Rung::InSync)));
        let peer = b.engine.connect_to_peer(&a.address(), None, &[]).await.unwrap();
        let session = b.engine.sync_tree_with_peer(&peer, tree).await.unwrap();
        assert_eq!((session.pulled, session.pushed, session.visited), (0, 0, 0));
        costs.push([report.bytes_in, report.bytes_out, session.bytes_in, session.bytes_out]);
    }
    // Positions in a longer log are longer numbers.
    for cost in &costs {
        for (bytes, least) in cost.iter().zip(&costs[0]) {
            assert!((*least..=least + 16).contains(bytes), "{costs:?}");
        }
    }
}

#[tokio::test]
async fn two_databases_and_both_directions_at_once_end_equal() {
    let (nodes, a, b, tree) = friends().await;
    let second = b.create(2);
    nodes.allow(second, &a, Permission::Write);
    a.write(tree, 40);
    b.write(tree, 30);
    let (to_a, to_b) = (a.address(), b.address());
    let (first, other, third) = tokio::join!(
        b.engine.sync_with_peer(&to_a, Some(tree)),
        a.engine.sync_with_peer(&to_b, Some(tree)),
        a.engine.sync_with_peer(&to_b, Some(second)),
    );
    first.unwrap();
    other.unwrap();
    third.unwrap();
    assert_eq!(a.state(tree), b.state(tree));
    assert_eq!(a.state(second), b.state(second));
}

#[tokio::test]
async fn a_server_that_was_stopped_is_unreachable_and_can_be_told_to_listen_elsewhere() {
    let (nodes, a, b, tree) = friends().await;
    let address = a.address();
    a.engine.stop_server().await;
    let error = b.engine.sync_with_peer(&address, Some(tree)).await.unwrap_err();
    assert!(matches!(error, SyncError::Dial(_)), "{error}");
    assert!(error.is_transient() || !a.engine.server_addresses().contains(&address));
    let elsewhere = nodes.net.endpoint("elsewhere");
    a.engine.add_transport(elsewhere);
    a.engine.accept_connections().await.unwrap();
    let address = a.engine.server_addresses().remove(0);
    assert!(b.engine.sync_with_peer(&address, Some(tree)).await.unwrap()[0].complete);
}
