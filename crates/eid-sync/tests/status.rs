//! What is told of a database at a peer: each field, and each reason why an entry is not there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;
#[expect(dead_code, reason = "a part of the harness is enough")]
mod tapped;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eid_core::dag::Replica;
use eid_core::{EntryId, Permission, PublicKey, SecretKey, TreeId};
use eid_sync::{ConnectionState, Delivered, Direction, KeepState, PeerStatus, SyncEvent, SyncStatus, Why};
use eid_transport::Transport;
use nodes::{Node, Nodes, entry};
use tapped::Tap;
use tokio::time::Instant;

/// Longer than anything that is waited for here takes, by the paused clock.
const SOON: Duration = Duration::from_secs(60);

/// Two nodes that hold one database, the second of which dials through a tap.
async fn friends() -> (Nodes, Node, Node, Arc<Tap>, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    b.track(tree);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    let tap = Tap::on(&nodes, &b).await;
    (nodes, a, b, tap, tree)
}

fn status(of: &Node, at: &Node, tree: TreeId) -> SyncStatus {
    of.engine.status(&tree, &at.key.public()).unwrap()
}

fn tips(node: &Node, tree: TreeId) -> Vec<EntryId> {
    let tips = node.store.tree(&tree).unwrap().unwrap().tips().unwrap();
    tips.into_iter().map(|(id, _)| id).collect()
}

/// By the paused clock.
async fn later(ms: u64) {
    tokio::time::sleep_until(Instant::now() + Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn what_moves_is_told_with_its_exact_totals_while_it_does_and_afterwards_what_is_acknowledged() {
    let (_nodes, a, b, tap, tree) = friends().await;
    let unheard = status(&a, &b, tree);
    assert_eq!((unheard.state, unheard.acknowledged, unheard.has_local_data), (None, 1, true));
    a.write_large(tree, 2_000, 15);
    b.write_large(tree, 3_000, 15);
    let before = status(&b, &a, tree);
    assert_eq!((before.acknowledged, before.ahead, before.acknowledged_tips), (1, 3_000, None));
    let last = entry(&b, tree, 3_000).id();
    tap.word_ms.store(100, Ordering::SeqCst);
    let mut events = b.engine.events();
    let address = a.address();
    let looks = async {
        let mut seen = [false; 2];
        while seen != [true; 2] {
            let Delivered::Event(event) = events.recv().await.unwrap() else { panic!("nobody was slow") };
            let SyncEvent::Progress(progress) = event else { continue };
            let status = status(&b, &a, tree);
            for moving in status.transfers {
                let is_out = moving.direction == Direction::Out;
                assert_eq!(moving.entries_total, if is_out { 3_000 } else { 2_000 }, "{moving:?}");
                assert_eq!((moving.tree, moving.peer, &moving.via), (tree, a.key.public(), &progress.via));
                seen[usize::from(is_out)] = true;
                let why = b.engine.why(&tree, &last, &a.key.public()).unwrap();
                assert!(!is_out || why == Why::Sending(moving.clone()), "{why:?} of {moving:?}");
            }
            assert_eq!(status.connection, ConnectionState::Connected);
        }
    };
    let (reports, ()) = tokio::join!(b.engine.sync_with_peer(&address, Some(tree)), looks);
    assert!(reports.unwrap()[0].complete);

    assert_eq!(b.engine.why(&tree, &last, &a.key.public()).unwrap(), Why::Held);
    let after = status(&b, &a, tree);
    assert_eq!((after.acknowledged, after.ahead, after.behind), (5_001, 0, Some(0)));
    assert_eq!(after.acknowledged_tips, Some(tips(&b, tree)));
    assert_eq!(
        (after.transfers, after.last_error, after.attempts, after.next_attempt),
        (vec![], None, 0, None)
    );
    let session = b.engine.history(1).unwrap().remove(0);
    // What came to the peer after the session had begun, it may not have heard of.
    assert!(session.ms > 0, "{session:?}");
    assert_eq!(
        (after.behind_as_of, after.last_sync),
        (Some(session.ended_ms - session.ms), Some(session.ended_ms))
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_session_left_is_behind_and_its_failure_stays_until_one_succeeds() {
    let (_nodes, a, b, tap, tree) = friends().await;
    let well = status(&b, &a, tree).last_sync;
    a.write_large(tree, 3_000, 15);
    *tap.broken.lock().unwrap() = Some(tree);
    tap.after.store(5, Ordering::SeqCst);
    for attempts in 1..=2 {
        later(1_000).await;
        let error = b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap_err();
        let (status, session) = (status(&b, &a, tree), b.engine.history(1).unwrap().remove(0));
        let lacks = a.count(tree) - b.count(tree);
        assert!((1..3_000).contains(&lacks), "{lacks}");
        assert_eq!((status.behind, status.behind_as_of), (Some(lacks), Some(session.ended_ms - session.ms)));
        assert_eq!((status.attempts, status.last_sync), (attempts, well));
        let failure = status.last_error.unwrap();
        assert_eq!((failure.code.as_str(), failure.at_ms), (error.code(), session.ended_ms));
        assert_eq!(status.transfers, []);
    }
    *tap.broken.lock().unwrap() = None;
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    let status = status(&b, &a, tree);
    assert_eq!((status.behind, status.attempts, status.last_error), (Some(0), 0, None));
    assert!(status.last_sync > well);
}

#[tokio::test(start_paused = true)]
async fn whether_there_is_a_connection_is_told_and_when_it_is_tried_again() {
    let began = Instant::now();
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    b.track(tree);
    let key = a.key.public();
    assert!(!status(&b, &a, tree).has_local_data);
    assert_eq!(status(&b, &a, tree).connection, ConnectionState::WaitingForPeer);
    let silent = nodes.net.endpoint("silent");
    silent.listen().await.unwrap();
    let kept = b.engine.keep_in_step(&silent.addresses(), Some(key), &[], Some(tree));
    later(1_000).await;
    let dialling = status(&b, &a, tree);
    assert_eq!(dialling.connection, ConnectionState::Connecting);
    assert_eq!((dialling.state, dialling.attempts), (Some(KeepState::Connecting), 0));
    let mut tried = 0;
    while tried < 3 {
        later(500).await;
        let status = status(&b, &a, tree);
        let Some(next) = status.next_attempt else { continue };
        if status.connection == ConnectionState::Disconnected {
            let now = u64::try_from(began.elapsed().as_millis()).unwrap();
            assert!(next >= now, "{next} at {now}");
            assert_eq!(status.state, Some(KeepState::Waiting));
            assert_eq!(status.last_error.unwrap().code, "timed_out");
            assert!(status.attempts >= tried, "{} after {tried}", status.attempts);
            tried = status.attempts;
        }
    }
    kept.add_address(&a.address());
    kept.wait_for_initial_sync(SOON).await.unwrap();
    let status_of_b = status(&b, &a, tree);
    assert_eq!(status_of_b, kept.status().unwrap());
    assert_eq!(status_of_b.connection, ConnectionState::Connected);
    assert_eq!((status_of_b.state, status_of_b.has_local_data), (Some(KeepState::InStep), true));
    assert_eq!((status_of_b.attempts, status_of_b.next_attempt, status_of_b.last_error), (0, None, None));
    assert_eq!(status_of_b.behind, Some(0));
    // Also who was dialled knows, and where to dial back is not known to it.
    assert_eq!(status(&a, &b, tree).connection, ConnectionState::Connected);
    drop(kept);
    later(1_000).await;
    assert_eq!(status(&a, &b, tree).connection, ConnectionState::WaitingForPeer);
    b.engine.add_peer_address(&key, &a.address()).unwrap();
    assert_eq!(status(&b, &a, tree).connection, ConnectionState::Disconnected);
}

#[tokio::test(start_paused = true)]
async fn a_flush_tells_what_each_peer_lacks_of_each_database_and_why() {
    let nodes = Nodes::new();
    let mut all = Vec::new();
    for n in 1..=6 {
        all.push(nodes.node(n).await);
    }
    let [a, reached, gone, blocked, one_only, unknown_way] = &all[..] else { panic!() };
    let (one, other) = (a.create(1), a.create(2));
    for node in &all[1..] {
        nodes.allow(one, node, Permission::Write);
        nodes.allow(other, node, Permission::Write);
        node.track(one);
        node.track(other);
        let addresses = if std::ptr::eq(node, unknown_way) { vec![] } else { vec![node.address()] };
        a.engine.register_peer(node.key.public(), "peer", &addresses).unwrap();
    }
    nodes.forbid(other, one_only);
    // What a device has nothing of, it does not ask others for by itself.
    reached.engine.sync_with_peer(&a.address(), None).await.unwrap();
    one_only.engine.sync_with_peer(&a.address(), None).await.unwrap();
    a.write(one, 4);
    a.write(other, 6);
    a.engine.update_peer_status(&blocked.key.public(), PeerStatus::Blocked).unwrap();
    gone.engine.stop_server().await;

    let row = |tree, node: &Node, entries, why| (tree, node.key.public(), entries, why);
    let mut expected = Vec::new();
    for (tree, entries) in [(one, 5), (other, 7)] {
        expected.push(row(tree, gone, entries, "not connected"));
        expected.push(row(tree, blocked, entries, "blocked"));
        expected.push(row(tree, unknown_way, entries, "waiting for the peer"));
    }
    expected.sort_unstable();
    let undelivered = a.engine.flush(60_000).await.unwrap();
    let mut told: Vec<_> =
        undelivered.into_iter().map(|one| (one.tree, one.peer, one.entries, word(&one.why))).collect();
    told.sort_unstable();
    assert_eq!(told, expected);
    assert_eq!((reached.count(one), reached.count(other)), (5, 7));
    assert_eq!((one_only.count(one), one_only.count(other)), (5, 0));

    let of = |tree, seq| entry(a, tree, seq).id();
    let why = |tree, id: EntryId, peer: PublicKey| word(&a.engine.why(&tree, &id, &peer).unwrap());
    assert_eq!(why(other, of(other, 6), reached.key.public()), "held");
    assert_eq!(why(other, of(other, 6), one_only.key.public()), "may not read");
    assert_eq!(why(other, of(other, 6), SecretKey::from_seed([77; 32]).public()), "unknown peer");
    assert_eq!(why(other, EntryId([1; 32]), reached.key.public()), "not here");
    let _connection = a.engine.connect_to_peer(&reached.address(), None, &[]).await.unwrap();
    a.write(one, 1);
    assert_eq!(why(one, of(one, 5), reached.key.public()), "not acknowledged");
    a.rights.trees.lock().unwrap().remove(&one);
    assert_eq!(why(one, of(one, 5), reached.key.public()), "off");
}

fn word(why: &Why) -> &'static str {
    match why {
        Why::Held => "held",
        Why::NotHere => "not here",
        Why::UnknownPeer => "unknown peer",
        Why::Blocked => "blocked",
        Why::MayNotRead => "may not read",
        Why::Off => "off",
        Why::WaitingForPeer => "waiting for the peer",
        Why::NotConnected { .. } => "not connected",
        Why::Sending(_) => "sending",
        Why::NotAcknowledged => "not acknowledged",
        _ => "something new",
    }
}
