//! Several databases over one connection.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;
mod tapped;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eid_core::{Permission, TreeId};
use eid_sync::limits::{IDLE_MS, LARGE_ENTRIES, SESSIONS_AT_ONCE, SESSIONS_LARGE};
use eid_sync::{Delivered, Events, Rung, SessionReport, SyncError, SyncEvent};
use nodes::{Node, Nodes};
use tapped::Tap;

/// Two nodes that both hold so many databases, the second of which dials through a tap. The databases are in order.
async fn friends(databases: u16) -> (Nodes, Node, Node, Arc<Tap>, Vec<TreeId>) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let mut trees: Vec<TreeId> = (0..databases).map(|n| a.create(n)).collect();
    trees.sort_unstable();
    for tree in &trees {
        nodes.allow(*tree, &b, Permission::Write);
        b.track(*tree);
    }
    let reports = b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    assert!(reports.len() == trees.len() && reports.iter().all(|report| report.complete));
    let tap = Tap::on(&nodes, &b).await;
    (nodes, a, b, tap, trees)
}

/// Synchronises what takes part here, and nothing that the other offers beside.
async fn held(from: &Node, to: &Node) -> Vec<SessionReport> {
    let peer = from.engine.connect_to_peer(&to.address(), None, &[]).await.unwrap();
    let reports = from.engine.sync_held(&peer).await.unwrap();
    peer.close().await;
    reports
}

/// The next session that has come to an end, and whether early.
async fn ended(events: &mut Events) -> (SessionReport, bool) {
    loop {
        match events.recv().await.unwrap() {
            Delivered::Event(SyncEvent::Session(report)) => return (report, false),
            Delivered::Event(SyncEvent::Failed { report, .. }) => return (report, true),
            Delivered::Event(_) => {}
            Delivered::Lagged(_) => panic!("nobody was slow"),
        }
    }
}

#[tokio::test]
async fn thousands_in_step_are_asked_about_in_three_turns_and_one_that_differs_has_the_only_session() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let trees: Vec<TreeId> = (0..3_000).map(|n| a.create(n)).collect();
    for tree in &trees {
        nodes.allow(*tree, &b, Permission::Write);
        b.track(*tree);
    }
    let tap = Tap::on(&nodes, &b).await;
    let reports = b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    assert!(reports.len() == 3_000 && reports.iter().all(|report| report.pulled == 1 && report.complete));
    assert_eq!((Tap::get(&tap.opened), Tap::get(&tap.open_most)), (3_001, 1 + SESSIONS_AT_ONCE));

    tap.reset();
    let reports = held(&b, &a).await;
    let is_equal = |report: &&SessionReport| report.rung == Some(Rung::InSync) && report.complete;
    assert_eq!(reports.iter().filter(is_equal).count(), 3_000);
    // Two turns for the handshake, one for each 1,024 databases, and no link but the control link.
    assert_eq!((Tap::get(&tap.opened), Tap::get(&tap.turns)), (1, 2 + 3));
    // A database and its tips are 64 bytes, its answer two bits; a request or an answer has a few bytes beside.
    let least = 3_000 * 64 + 2 * 3_000 / 8;
    let bytes = Tap::get(&tap.bytes) - usize::try_from(reports[0].handshake_bytes).unwrap();
    assert!((least..least + 100).contains(&bytes), "{bytes} bytes");

    tap.reset();
    a.write(trees[2_222], 1);
    let reports = held(&b, &a).await;
    assert_eq!(reports.iter().filter(is_equal).count(), 2_999);
    assert_eq!(*tap.began.lock().unwrap(), [trees[2_222]]);
    assert_eq!(Tap::get(&tap.opened), 2);
    assert_eq!(b.state(trees[2_222]), a.state(trees[2_222]));
}

#[tokio::test(start_paused = true)]
async fn small_databases_are_done_while_a_large_one_goes_on() {
    let (_nodes, a, b, tap, trees) = friends(10).await;
    for tree in &trees {
        a.write(*tree, 1);
    }
    // The first of those of which nothing else is known.
    let large = trees[0];
    a.write_large(large, 100, 100);
    tap.hold(&[large]);
    let mut events = b.engine.events();
    let peer = b.engine.connect_to_peer(&a.address(), None, &[]).await.unwrap();
    let small_ones = async {
        for _ in 1..trees.len() {
            let (report, early) = ended(&mut events).await;
            assert!(!early && report.complete && report.tree != Some(large), "{report:?}");
        }
        tap.hold(&[]);
        ended(&mut events).await
    };
    let (reports, (last, early)) = tokio::join!(b.engine.sync_all(&peer), small_ones);
    assert_eq!((last.tree, last.pulled, early), (Some(large), 101, false));
    let reports = reports.unwrap();
    assert!(reports.len() == trees.len() && reports.iter().all(|report| report.complete));
}

#[tokio::test(start_paused = true)]
async fn databases_that_are_large_make_room_for_those_that_are_not() {
    let (_nodes, a, b, tap, trees) = friends(10).await;
    let (large, small) = trees.split_at(SESSIONS_AT_ONCE + SESSIONS_LARGE - 1);
    for tree in large {
        a.write(*tree, LARGE_ENTRIES as usize);
    }
    for tree in small {
        a.write(*tree, 1);
    }
    // Of each large one the plan comes, and one batch.
    tap.hold(large);
    tap.after.store(2, Ordering::SeqCst);
    let mut events = b.engine.events();
    let peer = b.engine.connect_to_peer(&a.address(), None, &[]).await.unwrap();
    let small_ones = async {
        for _ in small {
            let (report, early) = ended(&mut events).await;
            assert!(!early && small.contains(&report.tree.unwrap()), "{report:?}");
        }
        tap.hold(&[]);
    };
    let (reports, ()) = tokio::join!(b.engine.sync_all(&peer), small_ones);
    assert!(reports.unwrap().iter().all(|report| report.complete));
    assert!(Tap::get(&tap.open_most) <= 1 + SESSIONS_AT_ONCE + SESSIONS_LARGE, "{tap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_and_one_in_which_nothing_is_heard_stop_no_other() {
    let (_nodes, a, b, tap, trees) = friends(10).await;
    for tree in &trees {
        a.write(*tree, 1);
    }
    tap.hold(&trees[..1]);
    *tap.broken.lock().unwrap() = Some(trees[1]);
    let began = tokio::time::Instant::now();
    let reports = b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    assert_eq!(
        began.elapsed().as_millis() / 1_000,
        u128::from(IDLE_MS / 1_000),
        "one deadline is waited for"
    );
    let of = |tree: TreeId| reports.iter().find(|report| report.tree == Some(tree)).unwrap();
    assert!(!of(trees[0]).complete && !of(trees[1]).complete);
    for tree in &trees[2..] {
        assert!(of(*tree).complete && of(*tree).ms < IDLE_MS / 2, "{:?}", of(*tree));
    }
    // Also for the peer that was dialled: it serves what is asked next.
    tap.hold(&[]);
    *tap.broken.lock().unwrap() = None;
    let reports = b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    assert!(reports.len() == trees.len() && reports.iter().all(|report| report.complete));
}

#[tokio::test]
async fn when_the_connection_is_lost_sessions_that_run_come_to_their_ends_and_no_other_begins() {
    let (_nodes, a, b, tap, trees) = friends(10).await;
    for tree in &trees {
        a.write(*tree, 1);
    }
    let mut events = b.engine.events();
    // The control link, and two sessions.
    tap.opened_max.store(3, Ordering::SeqCst);
    let error = b.engine.sync_with_peer(&a.address(), None).await.unwrap_err();
    assert!(matches!(error, SyncError::Link(_)), "{error}");
    for _ in 0..2 {
        let (report, early) = ended(&mut events).await;
        assert!(!early && report.complete, "{report:?}");
    }
    assert!(Tap::get(&tap.opened) <= 1 + SESSIONS_AT_ONCE, "{tap:?}");
}

#[test]
fn what_is_nearly_equal_goes_first_and_before_it_that_of_which_rights_are_not_known() {
    // One thread for blocking work: sessions that begin together say their first word in the order of their beginning.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.max_blocking_threads(1).enable_time().build().unwrap().block_on(nearly_equal_first());
}

async fn nearly_equal_first() {
    let (nodes, a, b, tap, trees) = friends(6).await;
    let [much, nothing_else, little, unread, ..] = trees[..] else { panic!("six databases") };
    b.write(much, 30);
    b.write(little, 1);
    for tree in [much, nothing_else, little, unread] {
        a.write(tree, 1);
    }
    // The peer gives it, and may not read it as far as is known here.
    nodes.forbid(unread, &a);
    let absent = [(40, 20), (41, 0)].map(|(nonce, entries)| {
        let tree = a.create(nonce);
        a.write(tree, entries);
        nodes.allow(tree, &b, Permission::Write);
        b.track(tree);
        tree
    });
    b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    // All hosts of a test say that a database has seven entries.
    let [first, second] = if absent[0] < absent[1] { absent } else { [absent[1], absent[0]] };
    assert_eq!(*tap.began.lock().unwrap(), [unread, nothing_else, little, first, second, much]);
}

#[tokio::test(start_paused = true)]
async fn small_databases_are_kept_in_step_while_a_large_one_still_comes() {
    let (_nodes, a, b, tap, trees) = friends(10).await;
    for tree in &trees {
        a.write(*tree, 1);
    }
    tap.hold(&trees[..1]);
    let mut events = b.engine.events();
    let _handle = b.engine.keep_in_step(&[a.address()], None, &[], None);
    let mut told = 1;
    while told < trees.len() {
        match events.recv().await.unwrap() {
            Delivered::Event(SyncEvent::InStep { tree, .. }) => told += usize::from(tree != trees[0]),
            Delivered::Event(SyncEvent::Failed { report, .. }) => panic!("{report:?} came first"),
            _ => {}
        }
    }
    a.write(trees[5], 1);
    loop {
        match events.recv().await.unwrap() {
            Delivered::Event(SyncEvent::Arrived { tree, admitted, .. }) => {
                assert_eq!((tree, admitted), (trees[5], 1));
                break;
            }
            Delivered::Event(SyncEvent::Failed { report, .. }) => panic!("{report:?} came first"),
            _ => {}
        }
    }
    assert_ne!(b.state(trees[0]), a.state(trees[0]));
}

#[tokio::test(start_paused = true)]
async fn with_all_comes_what_is_offered_and_not_here_yet_and_else_only_what_takes_part() {
    let (nodes, a, b, _tap, trees) = friends(2).await;
    let (open, closed) = (a.create(7), a.create(8));
    nodes.allow(open, &b, Permission::Read);
    let named =
        |reports: &[SessionReport]| reports.iter().filter_map(|report| report.tree).collect::<Vec<_>>();
    assert_eq!(named(&held(&b, &a).await), trees);
    assert_eq!(b.count(open), 0);

    let reports = b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    let mut all = [&trees[..], &[open]].concat();
    all.sort_unstable();
    assert_eq!(named(&reports), all);
    assert!(reports.iter().all(|report| report.complete), "{reports:?}");
    assert_eq!((b.state(open), b.count(closed)), (a.state(open), 0));

    // It was not said here that it takes part: what is held and does not is left alone.
    a.write(open, 1);
    assert_eq!(named(&b.engine.sync_with_peer(&a.address(), None).await.unwrap()), trees);
    b.track(open);
    b.engine.sync_with_peer(&a.address(), None).await.unwrap();
    assert_eq!(b.state(open), a.state(open));
}
