//! How far sessions are, while they run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;
#[expect(dead_code, reason = "a part of the harness is enough")]
mod tapped;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eid_core::{Permission, TreeId};
use eid_sync::limits::PROGRESS_MS;
use eid_sync::{Delivered, Direction, Events, Progress, SessionReport, SyncEvent};
use nodes::{Node, Nodes};
use tapped::Tap;

/// Two nodes that hold one database, the second of which dials through a tap.
async fn friends() -> (Nodes, Node, Node, Arc<Tap>, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    for node in [&a, &b] {
        nodes.allow(tree, node, Permission::Write);
    }
    b.track(tree);
    let mut served = a.engine.events();
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    // Who dialled is done first.
    told(&mut served).await;
    let tap = Tap::on(&nodes, &b).await;
    (nodes, a, b, tap, tree)
}

/// What is told until the next session has come to its end.
async fn told(events: &mut Events) -> (Vec<Progress>, SessionReport) {
    let mut told = Vec::new();
    loop {
        match events.recv().await.unwrap() {
            Delivered::Event(SyncEvent::Progress(progress)) => told.push(progress),
            Delivered::Event(SyncEvent::Session(report) | SyncEvent::Failed { report, .. }) => {
                return (told, report);
            }
            Delivered::Event(_) => {}
            Delivered::Lagged(_) => panic!("nobody was slow"),
        }
    }
}

fn of(told: &[Progress], direction: Direction) -> Vec<&Progress> {
    told.iter().filter(|progress| progress.direction == direction).collect()
}

/// Entries and bytes never go back, all totals are this one, and the last is what the report says.
fn is_true(told: &[Progress], direction: Direction, total: u64, report: &SessionReport) {
    let told = of(told, direction);
    let (entries, bytes) = match direction {
        Direction::In => (report.pulled + report.duplicates + report.refused, report.bytes_in),
        Direction::Out => (report.pushed, report.bytes_out),
    };
    assert!(told.is_sorted_by_key(|progress| (progress.entries, progress.bytes)), "{told:?}");
    assert!(told.is_sorted_by_key(|progress| progress.bytes), "{told:?}");
    for progress in &told {
        assert_eq!((progress.entries_total, Some(progress.tree)), (total, report.tree), "{progress:?}");
        assert_eq!((progress.peer, &progress.via), (report.peer, &report.via));
    }
    let last = told.last().unwrap();
    assert_eq!((last.entries, last.bytes), (entries, bytes), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn the_total_comes_first_and_the_last_is_what_the_report_says_a_few_times_a_second() {
    let (_nodes, a, b, tap, tree) = friends().await;
    a.write_large(tree, 3_000, 15);
    b.write_large(tree, 2_000, 15);
    tap.word_ms.store(100, Ordering::SeqCst);
    let (mut here, mut there) = (b.engine.events(), a.engine.events());
    let address = a.address();
    let (reports, at_b, at_a) =
        tokio::join!(b.engine.sync_with_peer(&address, Some(tree)), told(&mut here), told(&mut there));
    assert!(reports.unwrap()[0].complete);
    for ((told, report), [pulled, pushed]) in [(at_b, [3_000, 2_000]), (at_a, [2_000, 3_000])] {
        for (direction, total) in [(Direction::In, pulled), (Direction::Out, pushed)] {
            is_true(&told, direction, total, &report);
            assert_eq!(of(&told, direction).last().unwrap().entries, total);
        }
        let pulling = of(&told, Direction::In);
        assert_eq!(pulling[0].entries, 0, "{:?}", pulling[0]);
        // The first, the last, and one for each time that has passed.
        assert!(pulling.len() as u64 <= 2 + report.ms / PROGRESS_MS, "{} in {} ms", pulling.len(), report.ms);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_while_entries_come_and_not_at_the_ends_alone() {
    let (_nodes, a, b, tap, tree) = friends().await;
    a.write_large(tree, 3_000, 15);
    tap.word_ms.store(100, Ordering::SeqCst);
    let mut here = b.engine.events();
    let address = a.address();
    let (_, (told, report)) = tokio::join!(b.engine.sync_with_peer(&address, Some(tree)), told(&mut here));
    let between: Vec<u64> = of(&told, Direction::In).iter().map(|progress| progress.entries).collect();
    let between = between.iter().filter(|entries| (1..3_000).contains(*entries)).count() as u64;
    assert!(between >= report.ms / PROGRESS_MS / 3 && between >= 2, "{between} in {} ms", report.ms);
}

#[tokio::test]
async fn of_a_direction_in_which_nothing_moves_nothing_is_told() {
    let (_nodes, a, b, _tap, tree) = friends().await;
    let mut here = b.engine.events();
    a.write(tree, 1);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    let (first, report) = told(&mut here).await;
    is_true(&first, Direction::In, 1, &report);
    assert!(of(&first, Direction::Out).is_empty(), "{first:?}");
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    assert_eq!(told(&mut here).await.0, []);
}

#[tokio::test]
async fn a_session_that_breaks_has_told_what_was_done_and_no_more() {
    let (_nodes, a, b, tap, tree) = friends().await;
    a.write_large(tree, 3_000, 15);
    *tap.broken.lock().unwrap() = Some(tree);
    tap.after.store(5, Ordering::SeqCst);
    let mut here = b.engine.events();
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap_err();
    let (told, report) = told(&mut here).await;
    assert!((1..3_000).contains(&report.pulled), "{report:?}");
    is_true(&told, Direction::In, 3_000, &report);
    assert_eq!(b.count(tree), 1 + report.pulled);
}
