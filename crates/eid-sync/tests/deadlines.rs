//! Peers that say nothing, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod by_hand;
#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use by_hand::{Empty, greet, greet_with, greeted, open};
use eid_core::dag::{Epoch, Seq};
use eid_core::{Permission, SecretKey, TreeId};
use eid_proto::message::{Message, Request, Response};
use eid_proto::{Known, List, Output, Rights, Session, Text, state_of};
use eid_sync::limits::{CONTROL_IDLE_MS, HANDSHAKE_MS, IDLE_MS, SESSIONS_MAX, SESSIONS_PER_CONNECTION_MAX};
use eid_sync::{Delivered, PeerStatus, RefusalCode, SyncError, SyncEvent};
use eid_transport::{Connection, Link, LinkError, Received, Transport};
use nodes::{Node, Nodes};

#[tokio::test(start_paused = true)]
async fn a_server_tells_the_states_of_what_the_proven_keys_may_read_and_of_nothing_else() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let (read, relayed, closed) = (a.create(1), a.create(2), a.create(3));
    for (tree, permission) in [(read, Permission::Read), (relayed, Permission::Relay)] {
        nodes.allow(tree, &b, permission);
    }
    a.write(read, 3);
    let dialler = nodes.net.endpoint("hand");
    let told = async |n: u8| {
        let connection = dialler.dial(&a.address()).await.unwrap();
        let (_link, established) = greeted(&*connection, SecretKey::from_seed([n; 32]), vec![]).await;
        established.states
    };
    let state = |tree: TreeId| state_of(&tree, &a.state(tree).unwrap());
    assert_eq!(told(2).await, [state(read)]);
    assert!(told(9).await.is_empty());
    nodes.allow(closed, &b, Permission::Write);
    assert_eq!(told(2).await.len(), 2);
    a.engine.update_peer_status(&b.key.public(), PeerStatus::Blocked).unwrap();
    assert!(told(2).await.is_empty(), "who is blocked is told as much as a stranger");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_greet_is_given_up_after_the_deadline() {
    let nodes = Nodes::new();
    let b = nodes.node(2).await;
    let silent = nodes.net.endpoint("silent");
    silent.listen().await.unwrap();
    let began = tokio::time::Instant::now();
    let error = b.engine.connect_to_peer(&silent.addresses()[0], None, &[]).await.unwrap_err();
    assert!(matches!(error, SyncError::TimedOut { ms: HANDSHAKE_MS, .. }), "{error}");
    assert!(began.elapsed().as_millis() >= u128::from(HANDSHAKE_MS));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_greet_is_left() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let connection = nodes.net.endpoint("silent").dial(&a.address()).await.unwrap();
    let mut link = connection.open().await.unwrap();
    link.end_turn().await.unwrap();
    let ended = link.recv().await;
    assert!(matches!(ended, Ok(Received::Closed) | Err(LinkError::Closed | LinkError::Cut(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_in_a_session_holds_nothing_up_for_ever() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let tree = a.create(1);
    a.write(tree, 3);
    let silent = nodes.node(3).await;
    nodes.allow(tree, &silent, Permission::Write);
    let mut events = a.engine.events();
    let connection = silent.transport.dial(&a.address()).await.unwrap();
    let _control = greet(&*connection, 3).await;
    let mut link = connection.open().await.unwrap();
    // An opening, a whole answer, and then nothing.
    let mut session = Session::initiator(tree, Known::default());
    let replica = Empty(silent.store.epoch());
    loop {
        match session.poll(&replica, Rights::default()).unwrap() {
            Output::Send(frame) => link.send(frame).await.unwrap(),
            Output::EndTurn => {
                link.end_turn().await.unwrap();
                break;
            }
            _ => {}
        }
    }
    while link.recv().await.unwrap() != Received::EndOfTurn {}
    loop {
        match events.recv().await.unwrap() {
            Delivered::Event(SyncEvent::Failed { report, error, .. }) => {
                assert!(error.contains(&format!("{IDLE_MS} ms")), "{error}");
                assert_eq!((report.pushed, report.complete), (4, false));
                break;
            }
            Delivered::Event(_) => {}
            Delivered::Lagged(_) => panic!("nobody was slow"),
        }
    }
}

/// A session of somebody with this right, opened by hand, up to the end of the first answer.
async fn opened(
    nodes: &Nodes,
    a: &Node,
    tree: TreeId,
    right: Permission,
) -> (Node, Arc<dyn Connection>, [Box<dyn Link>; 2]) {
    let by_hand = nodes.node(3).await;
    nodes.allow(tree, &by_hand, right);
    let connection = by_hand.transport.dial(&a.address()).await.unwrap();
    let control = greet(&*connection, 3).await;
    let mut link = connection.open().await.unwrap();
    open(&mut *link, tree, by_hand.store.epoch()).await;
    while link.recv().await.unwrap() != Received::EndOfTurn {}
    (by_hand, connection, [control, link])
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_key_that_loses_its_right_ends_within_a_second_whatever_the_peer_does() {
    let write = Permission::Write;
    // What it may do at first, and what it is left: who may only push has nothing more to read.
    for (right, left, goes_on) in [
        (write, None, false),
        (write, None, true),
        (write, Some(Permission::Relay), false),
        (Permission::Relay, None, false),
        (Permission::Relay, None, true),
    ] {
        let nodes = Nodes::new();
        let a = nodes.node(1).await;
        let tree = a.create(1);
        a.write(tree, 3);
        let (by_hand, _connection, [_control, mut link]) = opened(&nodes, &a, tree, right).await;
        let mut events = a.engine.events();
        let early = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
        assert!(early.is_err(), "who has the right is left in peace");
        match left {
            Some(left) => nodes.allow(tree, &by_hand, left),
            None => nodes.forbid(tree, &by_hand),
        }
        let began = tokio::time::Instant::now();
        let sending = async {
            // A turn that never ends, or silence.
            let ack = Message::Ack { upto: None, credit: eid_proto::limits::CREDIT_BYTES }.encode();
            let mut now_and_then = tokio::time::interval(Duration::from_millis(100));
            while goes_on && link.send(ack.clone()).await.is_ok() {
                now_and_then.tick().await;
            }
            std::future::pending::<()>().await;
        };
        let ended = async {
            loop {
                match events.recv().await.unwrap() {
                    Delivered::Event(SyncEvent::Progress(_)) => {}
                    event => return event,
                }
            }
        };
        let event = tokio::select! {
            event = ended => event,
            () = sending => unreachable!("it waits"),
        };
        let Delivered::Event(SyncEvent::Failed { refusal, error, .. }) = event else { panic!("{event:?}") };
        assert_eq!(refusal, Some(RefusalCode::Unavailable), "{error}, {goes_on}");
        let ms = began.elapsed().as_millis();
        assert!(ms <= 1_000, "{ms} ms, {goes_on}");
    }
}

#[tokio::test]
async fn the_right_is_looked_up_for_each_frame() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    a.write(tree, 3);
    b.track(tree);
    // Looked up for the opening and for the first frame of the answer, which says what will come; then it is gone.
    a.rights.asked_max.store(a.rights.asked.load(Ordering::SeqCst) + 2, Ordering::SeqCst);
    let error = b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::Unavailable));
    assert_eq!(b.count(tree), 0);
}

#[tokio::test]
async fn absent_disabled_and_forbidden_are_one_answer_and_one_amount_of_work() {
    let nodes = Nodes::new();
    let (a, stranger) = (nodes.node(1).await, nodes.node(3).await);
    let (forbidden, disabled, _third) = (a.create(1), a.create(2), a.create(3));
    a.write(forbidden, 50);
    a.rights.trees.lock().unwrap().remove(&disabled);
    // One that would be readable if it took part.
    nodes.allow(disabled, &stranger, Permission::Read);
    let connection = stranger.transport.dial(&a.address()).await.unwrap();
    let unknown = Arc::new(SecretKey::from_seed([7; 32]));
    let mut control = greet_with(&*connection, 3, vec![unknown]).await;
    let asked = || {
        let nodes::Rights { asked, listed, redeemed, .. } = &*a.rights;
        [asked, listed, redeemed].map(|count| count.swap(0, Ordering::SeqCst))
    };
    let mut events = a.engine.events();
    let mut seen = Vec::new();
    for tree in [forbidden, disabled, TreeId([9; 32])] {
        asked();
        let mut link = connection.open().await.unwrap();
        open(&mut *link, tree, stranger.store.epoch()).await;
        let mut frames = Vec::new();
        while let Ok(Received::Frame(frame)) = link.recv().await {
            frames.push(frame);
        }
        while !matches!(events.recv().await.unwrap(), Delivered::Event(SyncEvent::Failed { .. })) {}
        let session = (frames, asked());
        let requests = [
            Request::OpenMany(List::new(vec![(tree.0, [0; 32])])),
            Request::Redeem { tree: tree.0, name: Text::new("stranger") },
            Request::Discover,
        ];
        let mut answers = Vec::new();
        for request in requests {
            control.send(request.encode()).await.unwrap();
            control.end_turn().await.unwrap();
            let Received::Frame(frame) = control.recv().await.unwrap() else { panic!("a frame was due") };
            assert_eq!(control.recv().await.unwrap(), Received::EndOfTurn);
            answers.push((frame, asked()));
        }
        seen.push((session, answers));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    let (session, answers) = &seen[0];
    assert!(session.1[0] > 0 && answers[0].1[0] > 0 && answers[1].1[2] > 0, "something was looked up");
}

#[tokio::test]
async fn an_acknowledgement_is_taken_back_when_the_peer_begins_anew() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    a.write(tree, 3);
    b.track(tree);
    nodes.allow(tree, &b, Permission::Write);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    let acknowledged = || a.engine.known(&b.key.public(), &tree).unwrap().mine.map(|cursor| cursor.seq);
    assert_eq!(acknowledged(), Some(Seq(4)));
    // The same device, which has forgotten everything, opens and goes away before anything has come.
    let mut events = a.engine.events();
    let connection = b.transport.dial(&a.address()).await.unwrap();
    let _control = greet(&*connection, 2).await;
    let mut link = connection.open().await.unwrap();
    let mut session = Session::initiator(tree, Known::default());
    loop {
        match session.poll(&Empty(b.store.epoch()), Rights::default()).unwrap() {
            Output::Send(frame) => link.send(frame).await.unwrap(),
            Output::EndTurn => break link.end_turn().await.unwrap(),
            _ => {}
        }
    }
    while link.recv().await.unwrap() != Received::EndOfTurn {}
    drop(link);
    while !matches!(events.recv().await.unwrap(), Delivered::Event(SyncEvent::Failed { .. })) {}
    assert_eq!(acknowledged(), None);
}

#[tokio::test]
async fn a_stranger_who_asks_about_many_databases_has_them_listed_once() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let tree = a.create(1);
    let connection = nodes.net.endpoint("stranger").dial(&a.address()).await.unwrap();
    let mut control = greet(&*connection, 9).await;
    let before = a.rights.listed.load(Ordering::SeqCst);
    let asked = (0..1_024).map(|n| (if n == 7 { tree.0 } else { [n as u8; 32] }, [0; 32])).collect();
    control.send(Request::OpenMany(List::new(asked)).encode()).await.unwrap();
    control.end_turn().await.unwrap();
    let Received::Frame(frame) = control.recv().await.unwrap() else { panic!("an answer was due") };
    let Response::OpenMany { differs, unavailable } = Response::decode(&frame).unwrap() else {
        panic!("another answer was due")
    };
    assert_eq!((differs, unavailable), (vec![0; 128].into(), vec![255; 128].into()));
    assert_eq!(a.rights.listed.load(Ordering::SeqCst) - before, 1);
}

/// Keys of whom there are enough to take every place.
fn openers() -> impl Iterator<Item = u8> {
    100..=100 + (SESSIONS_MAX / SESSIONS_PER_CONNECTION_MAX) as u8
}

/// Openings whose turns do not end, more than there are places.
async fn openings(
    nodes: &Nodes,
    server: &Node,
    tree: TreeId,
) -> Vec<(Arc<dyn Connection>, Vec<Box<dyn Link>>)> {
    let mut held = Vec::new();
    for opener in openers() {
        let connection = nodes.net.endpoint("opener").dial(&server.address()).await.unwrap();
        let mut links = vec![greet(&*connection, opener).await];
        for _ in 0..SESSIONS_PER_CONNECTION_MAX {
            let mut link = connection.open().await.unwrap();
            let mut session = Session::initiator(tree, Known::default());
            loop {
                match session.poll(&Empty(Epoch(1)), Rights::default()).unwrap() {
                    Output::Send(frame) => break link.send(frame).await.unwrap(),
                    _ => tokio::task::yield_now().await,
                }
            }
            links.push(link);
        }
        held.push((connection, links));
    }
    held
}

#[tokio::test]
async fn only_who_has_a_right_takes_up_a_place_among_the_sessions_that_are_served() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    a.write(tree, 3);
    b.track(tree);
    nodes.allow(tree, &b, Permission::Write);
    let strangers = openings(&nodes, &a, tree).await;
    let reports = b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    assert!(reports[0].complete);
    drop(strangers);
    for right in [Permission::Relay, Permission::Read] {
        for opener in openers() {
            let opener = SecretKey::from_seed([opener; 32]).public();
            nodes.world.lock().unwrap().rights.insert((tree, opener), right);
        }
        let openings = openings(&nodes, &a, tree).await;
        // The openings are answered in no certain order among the rest.
        let mut refusal = None;
        for _ in 0..1000 {
            let report = b.engine.sync_with_peer(&a.address(), Some(tree)).await;
            refusal = report.err().and_then(|error| error.refusal());
            if refusal.is_some() {
                break;
            }
        }
        assert_eq!(refusal, Some(RefusalCode::Busy), "{right}");
        drop(openings);
        // Places are given back as soon as the links are seen to be gone.
        while b.engine.sync_with_peer(&a.address(), Some(tree)).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_happens_is_given_up() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let mut events = a.engine.events();
    let connection = nodes.net.endpoint("idle").dial(&a.address()).await.unwrap();
    let _control = greet(&*connection, 3).await;
    let began = tokio::time::Instant::now();
    loop {
        let event = events.recv().await.unwrap();
        if matches!(event, Delivered::Event(SyncEvent::Disconnected { .. })) {
            break;
        }
    }
    assert!(began.elapsed().as_millis() >= u128::from(CONTROL_IDLE_MS));
}
