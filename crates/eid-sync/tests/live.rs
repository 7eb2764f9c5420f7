//! Engines that stay connected: what is written on one is on the others soon, without anybody asking.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::atomic::Ordering;
use std::time::Duration;

use eid_core::dag::Seq;
use eid_core::{Permission, SecretKey, TreeId};
use eid_proto::limits::{COALESCE_MS, LIVE_BEHIND_MAX, LIVE_WINDOW_BYTES};
use eid_proto::message::{Delivery, LiveMessage, Position};
use eid_proto::{FEATURE_LIVE, Handshake, HandshakeOutput, Identity};
use eid_sync::limits::{
    ALIVE_MS, IDLE_MS, OTHERS_MS, PERIOD_MS, RETRY_FIRST_MS, RIGHTS_AT_REST_MS, RIGHTS_MS,
};
use eid_sync::{Delivered, Events, KeepState, RefusalCode, SyncError, SyncEvent, SyncHandle};
use eid_transport::{Address, Connection, Link, Received, Transport};
use nodes::{Node, Nodes};

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(20);

/// Nodes that may all write one database that the first has made.
async fn members(count: u8) -> (Nodes, Vec<Node>, TreeId) {
    let nodes = Nodes::new();
    let mut members = Vec::new();
    for n in 1..=count {
        members.push(nodes.node(n).await);
    }
    let tree = members[0].create(1);
    members[0].write(tree, 5);
    for node in &members[1..] {
        nodes.allow(tree, node, Permission::Write);
        node.track(tree);
    }
    (nodes, members, tree)
}

/// Keeps a database in step between two nodes; the first dials.
async fn keep(from: &Node, to: &Node, tree: TreeId) -> SyncHandle {
    let handle = from.engine.keep_in_step(&[to.address()], None, &[], Some(tree));
    handle.wait_for_initial_sync(SOON).await.unwrap();
    both_ways(from, to, tree).await;
    handle
}

/// Waits until the node that was dialled is told what comes to the other too.
async fn both_ways(from: &Node, to: &Node, tree: TreeId) {
    from.write(tree, 1);
    arrives(to, from, tree).await;
    to.write(tree, 1);
    arrives(from, to, tree).await;
}

/// Waits until two nodes hold the same, by watching what is admitted.
async fn arrives(at: &Node, from: &Node, tree: TreeId) {
    let told = std::sync::Arc::new(tokio::sync::Notify::new());
    let _watches = [at, from].map(|node| {
        let notify = told.clone();
        node.store.on_admitted(std::sync::Arc::new(move |_| notify.notify_one()))
    });
    let arrived = async {
        while at.state(tree) != from.state(tree) {
            told.notified().await;
        }
    };
    tokio::time::timeout(SOON, arrived).await.expect("what was written arrives");
}

/// Waits until pushes have brought a node so much, and looks that nothing came that was there already.
async fn brought(events: &mut Events, least: u64) {
    let mut sum = 0;
    while sum < least {
        let next = tokio::time::timeout(SOON, events.recv()).await.expect("pushes are told").unwrap();
        if let Delivered::Event(SyncEvent::Arrived { admitted, duplicates, refused, .. }) = next {
            assert_eq!((duplicates, refused), (0, 0));
            sum += admitted;
        }
    }
}

#[tokio::test]
async fn a_commit_on_either_side_is_on_the_other_without_a_session() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let _kept = keep(b, a, tree).await;
    let (mut at_a, mut at_b) = (a.engine.events(), b.engine.events());
    for _ in 0..5 {
        a.write(tree, 1);
        arrives(b, a, tree).await;
        b.write(tree, 1);
        arrives(a, b, tree).await;
    }
    // Whatever went back would have gone before this.
    a.write(tree, 1);
    arrives(b, a, tree).await;
    assert_eq!(a.state(tree), b.state(tree));
    brought(&mut at_a, 5).await;
    brought(&mut at_b, 6).await;
}

#[tokio::test]
async fn what_comes_is_passed_on_along_a_chain_and_comes_back_to_nobody() {
    let (_nodes, members, tree) = members(4).await;
    let [a, b, c, d] = &members[..] else { panic!() };
    // One dials up the chain and one down.
    let _kept = [keep(b, a, tree).await, keep(b, c, tree).await, keep(d, c, tree).await];
    let mut events: Vec<Events> = members.iter().map(|node| node.engine.events()).collect();
    a.write(tree, 3);
    arrives(d, a, tree).await;
    d.write(tree, 3);
    arrives(a, d, tree).await;
    for node in &members {
        assert_eq!(node.state(tree), a.state(tree));
    }
    for (events, least) in events.iter_mut().zip([3, 6, 6, 3]) {
        brought(events, least).await;
    }
}

#[tokio::test]
async fn two_that_keep_each_other_in_step_tell_everything_once() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let first = keep(b, a, tree).await;
    let second = keep(a, b, tree).await;
    let (mut at_a, mut at_b) = (a.engine.events(), b.engine.events());
    for _ in 0..5 {
        a.write(tree, 1);
        arrives(b, a, tree).await;
        b.write(tree, 1);
        arrives(a, b, tree).await;
    }
    a.write(tree, 1);
    arrives(b, a, tree).await;
    brought(&mut at_a, 5).await;
    brought(&mut at_b, 6).await;
    // Whichever of the two connections goes, the other goes on.
    for handle in [second, first] {
        drop(handle);
        let kept = b.engine.keep_in_step(&[a.address()], None, &[], Some(tree));
        assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
        a.write(tree, 1);
        arrives(b, a, tree).await;
        b.write(tree, 1);
        arrives(a, b, tree).await;
    }
}

#[tokio::test]
async fn each_side_remembers_what_the_other_holds() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let kept = keep(b, a, tree).await;
    a.write(tree, 2);
    arrives(b, a, tree).await;
    b.write(tree, 2);
    arrives(a, b, tree).await;
    let end = Seq(a.count(tree));
    let known = async || {
        loop {
            let known = [(a, b), (b, a)].map(|(one, of)| one.engine.known(&of.key.public(), &tree).unwrap());
            if known.iter().all(|known| known.mine.is_some_and(|at| at.seq == end)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, known()).await.expect("positions are remembered");
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn the_wait_to_be_in_step_for_the_first_time_ends_in_time_with_what_failed_last_or_with_the_engine() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let nowhere = "memory:nowhere".parse::<Address>().unwrap();
    let began = tokio::time::Instant::now();
    let kept = b.engine.keep_in_step(std::slice::from_ref(&nowhere), None, &[], Some(tree));
    let error = kept.wait_for_initial_sync(SOON).await.unwrap_err();
    assert_eq!(began.elapsed(), SOON);
    let SyncError::NotInStep { ms: 20_000, last_error: Some(last) } = &error else { panic!("{error}") };
    assert_eq!((error.code(), last.code.as_str()), ("timed_out", "unreachable"));
    assert!(error.to_string().ends_with(&last.text) && error.is_transient(), "{error}");
    // It goes on all the same.
    kept.add_address(&a.address());
    kept.wait_for_initial_sync(SOON).await.unwrap();

    let kept = b.engine.keep_in_step(&[nowhere], None, &[], Some(tree));
    let stops = async {
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(60)).await;
        b.engine.stop_server().await;
    };
    let (ended, ()) = tokio::join!(kept.wait_for_initial_sync(Duration::MAX), stops);
    assert!(matches!(ended, Err(SyncError::Stopped)), "{ended:?}");
    assert_eq!(kept.last_error().map(|last| last.code).as_deref(), Some("unreachable"));
}

#[tokio::test(start_paused = true)]
async fn all_databases_that_both_may_see_are_kept_in_step_also_those_that_come_later() {
    let (nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let kept = b.engine.keep_in_step(&[a.address()], None, &[], None);
    kept.wait_for_initial_sync(SOON).await.unwrap();
    assert_eq!(kept.tree_id(), None);
    assert_eq!(kept.peer_pubkey(), Some(a.key.public()));
    a.write(tree, 1);
    arrives(b, a, tree).await;
    // Something comes to another database here: it is asked about soon. Else it is asked now and then.
    for (nonce, own_first, within_ms) in [(7, true, 3 * OTHERS_MS), (8, false, 2 * PERIOD_MS)] {
        let other = a.create(nonce);
        nodes.allow(other, b, Permission::Write);
        b.track(other);
        if own_first {
            b.create(nonce + 10);
        }
        let told = std::sync::Arc::new(tokio::sync::Notify::new());
        let notify = told.clone();
        let _watch = b.store.on_admitted(std::sync::Arc::new(move |_| notify.notify_one()));
        let came = async {
            while b.count(other) == 0 {
                told.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_millis(within_ms), came).await.expect("it is asked about");
        a.write(other, 1);
        arrives(b, a, other).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_is_dialled_again_and_nothing_is_lost() {
    let (nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let kept = keep(b, a, tree).await;
    a.engine.stop_server().await;
    a.write(tree, 3);
    b.write(tree, 2);
    a.engine.add_transport(nodes.net.endpoint("n1"));
    a.engine.accept_connections().await.unwrap();
    arrives(b, a, tree).await;
    assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
    a.write(tree, 1);
    arrives(b, a, tree).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_away_for_months_and_comes_back_elsewhere_gets_and_brings_everything_once() {
    let (nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    b.engine.register_peer(a.key.public(), "a", &[a.address()]).unwrap();
    let kept = b.engine.keep_known_in_step();
    arrives(b, a, tree).await;
    both_ways(b, a, tree).await;
    a.engine.stop_server().await;
    let months = Duration::from_secs(120 * 24 * 60 * 60);
    tokio::time::sleep_until(tokio::time::Instant::now() + months).await;
    // More than is told without a session.
    let count = LIVE_BEHIND_MAX + 100;
    for node in [a, b] {
        node.write(tree, usize::try_from(count).unwrap());
    }
    let elsewhere = nodes.net.endpoint("elsewhere");
    a.engine.add_transport(elsewhere.clone());
    a.engine.accept_connections().await.unwrap();
    let (mut at_a, mut at_b) = (a.engine.events(), b.engine.events());
    let back = tokio::time::Instant::now();
    b.engine.add_peer_address(&a.key.public(), &elsewhere.addresses()[0]).unwrap();
    arrives(b, a, tree).await;
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    assert_eq!(a.count(tree), b.count(tree));
    for events in [&mut at_a, &mut at_b] {
        brought_in_all(events, count).await;
    }
    both_ways(b, a, tree).await;
    drop(kept);
}

/// Waits until sessions and pushes have brought a node so much, and looks that nothing came that was there already.
async fn brought_in_all(events: &mut Events, count: u64) {
    let mut sum = 0;
    while sum < count {
        let next = tokio::time::timeout(SOON, events.recv()).await.expect("what came is told").unwrap();
        let Delivered::Event(event) = next else { panic!("nobody was slow") };
        let (came, again) = match event {
            SyncEvent::Arrived { admitted, duplicates, .. } => (admitted, duplicates),
            SyncEvent::Session(report) | SyncEvent::Failed { report, .. } => {
                (report.pulled, report.duplicates)
            }
            _ => continue,
        };
        assert_eq!(again, 0);
        sum += came;
    }
    assert_eq!(sum, count);
}

#[tokio::test]
async fn it_ends_with_the_handle_and_with_the_engine() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let kept = keep(b, a, tree).await;
    let mut events = a.engine.events();
    drop(kept);
    let gone = async {
        while let Some(event) = events.recv().await {
            if matches!(event, Delivered::Event(SyncEvent::Disconnected { .. })) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the connection is closed");
    let kept = keep(b, a, tree).await;
    b.engine.stop_server().await;
    assert!(
        !tokio::time::timeout(SOON, async {
            while kept.state() != KeepState::Stopped {
                kept.wait_in_step().await;
                tokio::task::yield_now().await;
            }
            false
        })
        .await
        .unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_revoked_is_told_nothing_more_within_a_second() {
    let (nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let kept = keep(b, a, tree).await;
    let mut events = b.engine.events();
    let began = tokio::time::Instant::now();
    nodes.forbid(tree, b);
    is_out_of_step(&mut events).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let before = b.count(tree);
    a.write(tree, 3);
    let refused = async {
        loop {
            if matches!(events.recv().await, Some(Delivered::Event(SyncEvent::Failed { .. }))) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("it is tried again by a session");
    assert_eq!(b.count(tree), before);
    // It goes on by itself once the right is back.
    nodes.allow(tree, b, Permission::Write);
    assert!(tokio::time::timeout(Duration::from_secs(300), kept.wait_in_step()).await.unwrap());
    assert_eq!(a.state(tree), b.state(tree));
}

/// Nodes that are in step, where rights change by entries alone, and have come to rest.
async fn at_rest() -> (Nodes, Vec<Node>, TreeId, SyncHandle) {
    let (nodes, members, tree) = members(2).await;
    members.iter().for_each(|node| node.rights.by_entries.store(true, Ordering::SeqCst));
    let kept = keep(&members[1], &members[0], tree).await;
    // Half way between two looks.
    passes(PERIOD_MS + RIGHTS_AT_REST_MS / 2).await;
    (nodes, members, tree, kept)
}

/// Lets time pass in which nothing is done from outside.
async fn passes(ms: u64) {
    let nothing = std::future::pending::<()>();
    tokio::time::timeout(Duration::from_millis(ms), nothing).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn who_is_in_step_and_at_rest_is_woken_by_signs_of_life_and_one_look_a_minute() {
    let (_nodes, members, _tree, _kept) = at_rest().await;
    let counts = || {
        let counts = members
            .iter()
            .map(|node| (node.clocks.load(Ordering::SeqCst), node.rights.asked.load(Ordering::SeqCst)));
        counts.collect::<Vec<_>>()
    };
    let before = counts();
    let minutes = 3;
    passes(minutes * RIGHTS_AT_REST_MS).await;
    let looks_max = usize::try_from(minutes).unwrap() + 1;
    let signs = usize::try_from(minutes * RIGHTS_AT_REST_MS / ALIVE_MS).unwrap();
    for ((clocks, asked), (clocks_before, asked_before)) in counts().into_iter().zip(before) {
        assert!(asked - asked_before <= looks_max, "{} looks at a right", asked - asked_before);
        // A sign of life is sent and taken within a time, and so is the turn that it is in.
        let clocks = clocks - clocks_before;
        assert!(clocks <= 6 * signs + looks_max, "{clocks} clocks for {signs} signs of life");
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_that_may_have_changed_by_what_came_elsewhere_is_looked_at_within_a_second() {
    let (nodes, members, tree, _kept) = at_rest().await;
    let [a, b] = &members[..] else { panic!() };
    let mut events = b.engine.events();
    let began = tokio::time::Instant::now();
    nodes.forbid(tree, b);
    a.create(2);
    is_out_of_step(&mut events).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_right_that_ends_by_the_clock_is_looked_at_within_a_minute() {
    let (nodes, members, tree, _kept) = at_rest().await;
    let mut events = members[1].engine.events();
    let began = tokio::time::Instant::now();
    nodes.forbid(tree, &members[1]);
    is_out_of_step(&mut events).await;
    let most = Duration::from_millis(RIGHTS_AT_REST_MS) + Duration::from_secs(1);
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
}

/// Waits until a node is not told any more what comes to a database.
async fn is_out_of_step(events: &mut Events) {
    let ended = async {
        while !matches!(events.recv().await, Some(Delivered::Event(SyncEvent::OutOfStep { .. }))) {}
    };
    tokio::time::timeout(Duration::from_millis(2 * PERIOD_MS), ended).await.unwrap();
}

#[tokio::test]
async fn who_was_far_behind_is_brought_in_step_by_a_session() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let _kept = keep(b, a, tree).await;
    let count = usize::try_from(LIVE_BEHIND_MAX).unwrap() + 500;
    a.write(tree, count);
    arrives(b, a, tree).await;
    b.write(tree, count);
    arrives(a, b, tree).await;
    a.write(tree, 1);
    arrives(b, a, tree).await;
}

#[tokio::test]
async fn who_was_dialled_and_is_far_behind_is_brought_in_step_by_a_session() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let kept = keep(b, a, tree).await;
    b.write(tree, usize::try_from(LIVE_BEHIND_MAX).unwrap() + 500);
    let tells = async {
        while kept.state() == KeepState::InStep {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, tells).await.expect("it does not say that both are in step");
    arrives(a, b, tree).await;
    assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
    both_ways(b, a, tree).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_been_in_step_for_a_while_does_not_wait_for_its_session() {
    let (_nodes, members, tree) = members(2).await;
    let [a, b] = &members[..] else { panic!() };
    let _kept = keep(b, a, tree).await;
    // By the paused clock: longer than any wait after a session.
    tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(10)).await;
    let began = tokio::time::Instant::now();
    b.write(tree, usize::try_from(LIVE_BEHIND_MAX).unwrap() + 500);
    arrives(a, b, tree).await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_millis(RETRY_FIRST_MS / 2), "{waited:?}");
}

/// A peer by hand that follows a database and takes nothing.
struct Deaf {
    _connection: std::sync::Arc<dyn Connection>,
    _control: Box<dyn Link>,
    speak: Box<dyn Link>,
    listen: Box<dyn Link>,
}

async fn greeted(nodes: &Nodes, to: &Node, n: u8) -> (std::sync::Arc<dyn Connection>, Box<dyn Link>) {
    let connection =
        nodes.net.endpoint(&format!("by hand {n}").replace(' ', "-")).dial(&to.address()).await.unwrap();
    let mut link = connection.open().await.unwrap();
    let identity = Identity {
        device: std::sync::Arc::new(SecretKey::from_seed([n; 32])),
        name: "by hand".to_owned(),
        binding: connection.binding(),
        proven: None,
        nonce: [n; 32],
        features: FEATURE_LIVE,
    };
    let mut handshake = Handshake::client(identity, None, vec![]);
    loop {
        match handshake.poll() {
            HandshakeOutput::Send(frame) => link.send(frame).await.unwrap(),
            HandshakeOutput::EndTurn => link.end_turn().await.unwrap(),
            HandshakeOutput::NeedFrame => {
                let Received::Frame(frame) = link.recv().await.unwrap() else { panic!("a frame was due") };
                assert_eq!(link.recv().await.unwrap(), Received::EndOfTurn);
                handshake.handle_frame(&frame).unwrap();
            }
            HandshakeOutput::Tell(_) => unreachable!("only a server tells states"),
            HandshakeOutput::Established(_) => return (connection, link),
            HandshakeOutput::Failed => panic!("the handshake failed"),
        }
    }
}

impl Deaf {
    async fn follows(nodes: &Nodes, to: &Node, n: u8, tree: TreeId, delivery: Delivery) -> Self {
        let (connection, control) = greeted(nodes, to, n).await;
        let mut listen = connection.open().await.unwrap();
        listen.send(LiveMessage::Listen(delivery).encode()).await.unwrap();
        listen.end_turn().await.unwrap();
        assert_eq!(word(&mut *listen).await, LiveMessage::Alive);
        let mut speak = connection.open().await.unwrap();
        let from = Position { epoch: to.store.epoch_of(&tree).0, seq: to.count(tree) };
        let follow = LiveMessage::Follow { number: 0, tree: tree.0, from: Some(from) };
        for message in [LiveMessage::Speak, follow] {
            speak.send(message.encode()).await.unwrap();
        }
        speak.end_turn().await.unwrap();
        assert_eq!(speak.recv().await.unwrap(), Received::EndOfTurn);
        Self { _connection: connection, _control: control, speak, listen }
    }
}

async fn word(link: &mut dyn Link) -> LiveMessage {
    match link.recv().await.unwrap() {
        Received::Frame(frame) => LiveMessage::decode(&frame).unwrap(),
        other => panic!("a word was due, not {other:?}"),
    }
}

#[tokio::test]
async fn who_takes_nothing_is_pushed_a_window_and_holds_up_neither_commits_nor_others() {
    let (nodes, members, tree) = members(3).await;
    let [a, b, _] = &members[..] else { panic!() };
    let mut deaf = Deaf::follows(&nodes, a, 3, tree, Delivery::Streamed).await;
    let _kept = keep(b, a, tree).await;
    let large = 200;
    a.write_large(tree, 150, large);
    arrives(b, a, tree).await;
    // 3 MB were written; what was said is a window, and the rest is in the log.
    let mut bytes = 0;
    let mut pushes = 0;
    let heard = async {
        loop {
            if let LiveMessage::Push { batch, .. } = word(&mut *deaf.listen).await {
                bytes += batch.entries.len() as u64;
                pushes += 1;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(2), heard).await.is_err());
    assert!(pushes > 0 && bytes < LIVE_WINDOW_BYTES + 300_000, "{pushes} pushes of {bytes} bytes");
    // It takes them, and there is room for more.
    for _ in 0..pushes {
        let ack = LiveMessage::Ack { number: 0, upto: None };
        deaf.speak.send(ack.encode()).await.unwrap();
    }
    deaf.speak.end_turn().await.unwrap();
    let more = async { while !matches!(word(&mut *deaf.listen).await, LiveMessage::Push { .. }) {} };
    tokio::time::timeout(SOON, more).await.expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_more_is_given_up() {
    let (nodes, members, tree) = members(2).await;
    let [a, _] = &members[..] else { panic!() };
    let mut deaf = Deaf::follows(&nodes, a, 2, tree, Delivery::Streamed).await;
    let began = tokio::time::Instant::now();
    let ended = async { while let Ok(Received::Frame(_)) = deaf.listen.recv().await {} };
    tokio::time::timeout(Duration::from_secs(600), ended).await.expect("the connection is given up");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(IDLE_MS) - Duration::from_secs(1), "{waited:?}");
    assert!(waited <= Duration::from_millis(2 * IDLE_MS), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_goes_at_once_and_behind_what_is_not_acknowledged_after_the_time_for_that() {
    let (nodes, members, tree) = members(2).await;
    let [a, _] = &members[..] else { panic!() };
    let mut deaf = Deaf::follows(&nodes, a, 2, tree, Delivery::Streamed).await;
    for waits_ms in [0, COALESCE_MS, COALESCE_MS] {
        let began = tokio::time::Instant::now();
        a.write(tree, 1);
        while !matches!(word(&mut *deaf.listen).await, LiveMessage::Push { .. }) {}
        let waited = u64::try_from(began.elapsed().as_millis()).unwrap();
        // The clock ticks in milliseconds.
        assert!((waits_ms..=waits_ms + waits_ms.min(1)).contains(&waited), "{waited} ms and not {waits_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_answers_are_held_back_every_word_has_a_turn_of_its_own() {
    let (nodes, members, tree) = members(2).await;
    let [a, _] = &members[..] else { panic!() };
    let mut deaf = Deaf::follows(&nodes, a, 2, tree, Delivery::Polled).await;
    assert_eq!(deaf.listen.recv().await.unwrap(), Received::EndOfTurn);
    deaf.listen.end_turn().await.unwrap();
    a.write(tree, 1);
    let (mut pushed, mut turns) = (false, 0);
    while !pushed {
        match deaf.listen.recv().await.unwrap() {
            Received::Frame(frame) => {
                pushed = matches!(LiveMessage::decode(&frame).unwrap(), LiveMessage::Push { .. });
            }
            Received::EndOfTurn => {
                turns += 1;
                deaf.listen.end_turn().await.unwrap();
            }
            Received::Aside(_) | Received::Closed => panic!("neither a word nor an end"),
        }
    }
    assert!(turns <= 2, "{turns}");
    while deaf.listen.recv().await.unwrap() != Received::EndOfTurn {}
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_told_what_it_would_be_told_of_a_database_that_is_not_there() {
    let (nodes, members, tree) = members(1).await;
    let a = &members[0];
    let mut answers = Vec::new();
    // One that it could read if it took part.
    let off = a.create(2);
    a.rights.trees.lock().unwrap().remove(&off);
    let key = SecretKey::from_seed([10; 32]).public();
    nodes.world.lock().unwrap().rights.insert((off, key), Permission::Read);
    for (n, tree) in [(8, tree), (9, TreeId([9; 32])), (10, off)] {
        let mut deaf = Deaf::follows(&nodes, a, n, tree, Delivery::Streamed).await;
        let answer =
            tokio::time::timeout(Duration::from_millis(2 * RIGHTS_MS), word(&mut *deaf.listen)).await;
        answers.push(answer.unwrap());
    }
    let unavailable = LiveMessage::Ended { number: 0, code: RefusalCode::Unavailable };
    assert_eq!(answers, [unavailable.clone(), unavailable.clone(), unavailable]);
}
