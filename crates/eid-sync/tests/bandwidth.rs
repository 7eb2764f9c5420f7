//! Caps of bytes a second: what they hold up, for how long, and whom they do not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::Arc;
use std::time::Duration;

use eid_core::{Permission, TreeId};
use eid_store::{Backend, Memory};
use eid_sync::limits::{BANDWIDTH_BURST_BYTES, BANDWIDTH_MIN};
use eid_sync::{
    Bandwidth, Compression, Delivered, Direction, EngineConfig, Progress, SessionReport, SyncEvent,
};
use nodes::{Node, Nodes};
use tokio::time::Instant;

const RATE: u64 = 128 * 1024;

/// A node that compresses nothing: bytes are counted.
async fn plain(nodes: &Nodes, n: u8) -> Node {
    let node = nodes.node(n).await;
    node.engine.set_compression(Compression::Never);
    node
}

fn total(rate: u64) -> Bandwidth {
    Bandwidth { total: Some(rate), per_peer: None }
}

/// A database of about so many times six kilobytes, that these may read.
fn filled(nodes: &Nodes, at: &Node, nonce: u16, entries: usize, readers: &[&Node]) -> TreeId {
    let tree = at.create(nonce);
    at.write_large(tree, entries, 60);
    for reader in readers {
        nodes.allow(tree, reader, Permission::Write);
        reader.track(tree);
    }
    tree
}

/// Synchronises, and gives how long that took.
async fn timed(from: &Node, to: &Node, tree: Option<TreeId>) -> (Vec<SessionReport>, Duration) {
    let began = Instant::now();
    let reports = from.engine.sync_with_peer(&to.address(), tree).await.unwrap();
    assert!(reports.iter().all(|report| report.complete), "{reports:?}");
    (reports, began.elapsed())
}

/// Not faster than the cap lets so many bytes go, and not much slower.
#[track_caller]
fn took(elapsed: Duration, bytes: u64, rate: u64) {
    let least = Duration::from_millis((bytes - BANDWIDTH_BURST_BYTES) * 1000 / rate);
    let most = Duration::from_millis(bytes * 1000 / rate + 500);
    assert!(least <= elapsed && elapsed <= most, "{bytes} bytes at {rate}/s in {elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_go_as_fast_as_the_cap_and_not_faster_in_each_direction_on_either_side() {
    let nodes = Nodes::new();
    let (a, b) = (plain(&nodes, 1).await, plain(&nodes, 2).await);
    let mut nonce = 0;
    let mut round = async |capped: &Node, bandwidth: Bandwidth, rate: u64, b_pulls: bool| {
        nonce += 1;
        let (from, to) = if b_pulls { (&a, &b) } else { (&b, &a) };
        let tree = filled(&nodes, from, nonce, 60, &[to]);
        capped.engine.set_bandwidth(bandwidth);
        let (reports, elapsed) = timed(&b, &a, Some(tree)).await;
        capped.engine.set_bandwidth(Bandwidth::default());
        let bytes = if b_pulls { reports[0].bytes_in } else { reports[0].bytes_out };
        assert!(bytes > 300_000, "{bytes}");
        took(elapsed, bytes, rate);
    };
    for b_pulls in [true, false] {
        for capped in [&a, &b] {
            round(capped, total(RATE), RATE, b_pulls).await;
            round(capped, Bandwidth { total: None, per_peer: Some(RATE) }, RATE, b_pulls).await;
            let both = Bandwidth { total: Some(2 * RATE), per_peer: Some(RATE) };
            round(capped, both, RATE, b_pulls).await;
            // Whatever is asked for, a large entry gets through.
            round(capped, total(1), BANDWIDTH_MIN, b_pulls).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn peers_have_equal_parts_of_the_total_however_many_links_each_has() {
    let nodes = Nodes::new();
    let (server, greedy, modest) = (plain(&nodes, 1).await, plain(&nodes, 2).await, plain(&nodes, 3).await);
    for nonce in 0..4 {
        filled(&nodes, &server, nonce, 200, &[&greedy]);
    }
    let tree = filled(&nodes, &server, 9, 60, &[&modest]);
    server.engine.set_bandwidth(total(RATE));
    let mut events = server.engine.events();
    let pulling = timed(&greedy, &server, None);
    let then = async {
        // Once several of its sessions are under way.
        let mut progress = 0;
        while progress < 4 {
            if let Some(Delivered::Event(SyncEvent::Progress(_))) = events.recv().await {
                progress += 1;
            }
        }
        timed(&modest, &server, Some(tree)).await
    };
    let ((all, of_greedy), (one, of_modest)) = tokio::join!(pulling, then);
    let bytes = one[0].bytes_in;
    assert!(of_modest >= Duration::from_millis(bytes * 1000 / RATE), "the other had its part: {of_modest:?}");
    let fair = Duration::from_millis(bytes * 1000 / (RATE / 2) + 1000);
    assert!(of_modest <= fair, "{bytes} bytes in {of_modest:?}, with half of the rate {fair:?}");
    assert_eq!(all.len(), 4);
    let bytes: u64 = bytes + all.iter().map(|report| report.bytes_in).sum::<u64>();
    took(of_greedy, bytes, RATE);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_capped_slows_nobody_else_and_the_cap_is_remembered() {
    let nodes = Nodes::new();
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let config = EngineConfig { bandwidth: total(100 * RATE), ..EngineConfig::default() };
    let server = nodes.node_over(1, Arc::clone(&backend), config).await;
    let (slow, other) = (plain(&nodes, 2).await, plain(&nodes, 3).await);
    let tree = filled(&nodes, &server, 1, 60, &[&slow, &other]);
    server.engine.set_peer_bandwidth(&slow.key.public(), Some(RATE)).unwrap();
    let ((slow_reports, of_slow), (other_reports, of_other)) =
        tokio::join!(timed(&slow, &server, Some(tree)), timed(&other, &server, Some(tree)));
    took(of_slow, slow_reports[0].bytes_in, RATE);
    // With the cap of all it is done in a moment.
    let most = Duration::from_millis(2 * other_reports[0].bytes_in * 1000 / (100 * RATE) + 50);
    assert!(of_other < most, "{of_other:?}");

    let again = nodes.node_over(9, backend, EngineConfig::default()).await;
    assert_eq!(again.engine.peer_bandwidth(&slow.key.public()), Some(RATE));
    assert_eq!(again.engine.peer_bandwidth(&other.key.public()), None);
    again.engine.set_peer_bandwidth(&slow.key.public(), None).unwrap();
    assert_eq!(again.engine.peer_bandwidth(&slow.key.public()), None);
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_is_lifted_holds_up_nobody_any_more() {
    let nodes = Nodes::new();
    let (a, b) = (plain(&nodes, 1).await, plain(&nodes, 2).await);
    let tree = filled(&nodes, &a, 1, 400, &[&b]);
    a.engine.set_bandwidth(total(RATE));
    let mut events = b.engine.events();
    let lifting = async {
        let mut progress = 0;
        while progress < 4 {
            if let Some(Delivered::Event(SyncEvent::Progress(_))) = events.recv().await {
                progress += 1;
            }
        }
        a.engine.set_bandwidth(Bandwidth::default());
        Instant::now()
    };
    let began = Instant::now();
    let ((reports, elapsed), lifted) = tokio::join!(timed(&b, &a, Some(tree)), lifting);
    let capped = Duration::from_millis((reports[0].bytes_in - BANDWIDTH_BURST_BYTES) * 1000 / RATE);
    assert!(capped > Duration::from_secs(10), "it would have taken {capped:?}");
    let before = lifted - began;
    assert!(before > Duration::from_secs(1), "it was capped until then: {before:?}");
    assert!(elapsed < before + Duration::from_secs(1), "{elapsed:?}, lifted after {before:?}");
}

#[tokio::test(start_paused = true)]
async fn live_links_are_capped_too() {
    let nodes = Nodes::new();
    let (a, b) = (plain(&nodes, 1).await, plain(&nodes, 2).await);
    let tree = filled(&nodes, &a, 1, 1, &[&b]);
    let mut events = b.engine.events();
    let kept = b.engine.keep_in_step(&[a.address()], None, &[], None);
    while !matches!(events.recv().await, Some(Delivered::Event(SyncEvent::InStep { .. }))) {}
    a.engine.set_bandwidth(total(RATE));
    let began = Instant::now();
    a.write_large(tree, 60, 60);
    while b.count(tree) < a.count(tree) {
        assert!(events.recv().await.is_some());
    }
    // A batch may come twice, where a session was under way that told the peer less.
    let (bytes, elapsed) = (60 * 6_100, began.elapsed());
    let least = Duration::from_millis((bytes - BANDWIDTH_BURST_BYTES) * 1000 / RATE);
    assert!(least <= elapsed && elapsed <= 3 * least, "{elapsed:?}, at least {least:?}");
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn what_a_cap_holds_up_is_told_from_the_beginning_and_never_before_it_has_gone() {
    let nodes = Nodes::new();
    let (a, b) = (plain(&nodes, 1).await, plain(&nodes, 2).await);
    let tree = filled(&nodes, &b, 1, 200, &[&a]);
    b.engine.set_bandwidth(total(RATE));
    let mut events = b.engine.events();
    let began = Instant::now();
    let watching = async {
        let mut told = Vec::new();
        while told.last().is_none_or(|(_, at): &(Progress, Duration)| *at < Duration::from_secs(8)) {
            if let Some(Delivered::Event(SyncEvent::Progress(progress))) = events.recv().await {
                told.push((progress, began.elapsed()));
            }
        }
        told
    };
    let ((reports, elapsed), told) = tokio::join!(timed(&b, &a, Some(tree)), watching);
    assert!(elapsed > Duration::from_secs(8), "it goes on after that was told: {elapsed:?}");
    assert_eq!(reports[0].pushed, told[0].0.entries_total);
    assert!(told[0].0.entries == 0 && told[0].1 < Duration::from_secs(1), "{told:?}");
    assert!(told.len() > 3, "{told:?}");
    for (progress, at) in &told {
        assert_eq!(progress.direction, Direction::Out);
        let most = BANDWIDTH_BURST_BYTES + RATE * (at.as_millis() as u64 + 1) / 1000;
        assert!(progress.entries * 6_000 <= most, "{} entries after {at:?}", progress.entries);
    }
}
