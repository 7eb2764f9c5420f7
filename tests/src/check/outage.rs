//! What comes after nodes were gone.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::check::node::{DB, Node, Rows, SOON, TABLE, received};
use crate::check::{Outcome, Plan, wait, write_rows};
use crate::process::{Eid, Line, Result, Way};
use crate::report;

/// How long the middle of a chain is gone.
const GONE: Duration = Duration::from_secs(2);
/// Within this after it is back, everything is everywhere. It is dialled again after a second, and then ever later: what
/// is gone for two seconds waits four more at most.
const BACK: Duration = Duration::from_secs(15);
/// Rows that are written meanwhile at each node that does so.
const ROWS: u64 = 10;

/// Within this after the network is back, everything that was written offline is at both peers. They are dialled ever
/// later while they are not there.
const DELIVERED: Duration = Duration::from_secs(120);

/// Bytes a second for each of them and each entry that waits for it: it takes some seconds, and shows how far it is.
const RATE_PER_ENTRY: u64 = 16;
/// The least rate that a node can be told.
const RATE_MIN: u64 = 64 * 1024;

/// B is killed in the middle of a chain A-B-C and comes back: what was written meanwhile gets to the other end, although
/// nothing is written any more.
pub(crate) fn restart(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let mut figures = Vec::new();
    let b = Node::first(plan, dir.path(), "b", Way::Http)?;
    // Before either of them listens, so that no ticket has its address.
    let (a, c) = (b.joined(plan, dir.path(), "a")?, b.joined(plan, dir.path(), "c")?);
    let ends = [Node::serving(a, Way::Http, "127.0.0.1:0")?, Node::serving(c, Way::Http, "127.0.0.1:0")?];
    let mut shown = [ends[0].watch()?, ends[1].watch()?];
    // In step before it goes, so that it is the kill that parts them.
    ends[0].put("before")?;
    shown[1].shown_at("before", Instant::now() + SOON)?;
    let socket = Way::Http.socket(&b.address).to_owned();
    let b = outage(b, &ends, &mut shown, "a", &[0], &socket, &mut figures)?;
    let b = outage(b, &ends, &mut shown, "both", &[0, 1], &socket, &mut figures)?;
    // At another port nobody finds it: it has to dial, and knows whom.
    for end in &ends {
        b.eid.result(&["peers", "add", &end.address])?;
    }
    let b = outage(b, &ends, &mut shown, "elsewhere", &[0], "127.0.0.1:0", &mut figures)?;
    let holds = b.is_equal_to(&ends[0])?
        && b.is_equal_to(&ends[1])?
        && ends[0].knows_only(&b)?
        && ends[1].knows_only(&b)?;
    Ok(Outcome { holds, figures: Value::Array(figures) })
}

/// One time that the middle is killed and comes back, while some of the ends write.
fn outage(
    b: Node,
    ends: &[Node; 2],
    shown: &mut [Rows; 2],
    name: &str,
    writers: &[usize],
    socket: &str,
    figures: &mut Vec<Value>,
) -> Result<Node> {
    let begin = Instant::now();
    let eid = b.kill()?;
    for row in 0..ROWS {
        for writer in writers {
            ends[*writer].put(&format!("{name}-{writer}-{row}"))?;
        }
    }
    wait(GONE.saturating_sub(begin.elapsed()));
    let gone_s = begin.elapsed().as_secs_f64();
    let b = Node::serving(eid, Way::Http, socket)?;
    let back = Instant::now();
    let mut last = None;
    for writer in writers {
        let keys = (0..ROWS).map(|row| format!("{name}-{writer}-{row}"));
        last = last.max(shown[1 - writer].all_shown_at(keys, back + BACK)?);
    }
    let all_there_s = last.map_or(0.0, |last| last.saturating_duration_since(back).as_secs_f64());
    report(&format!("{name}: gone for {gone_s:.1} s, everything there {all_there_s:.2} s after it was back"));
    figures.push(json!({ "written_by": name, "rows": ROWS * writers.len() as u64, "gone_s": gone_s,
        "all_there_s": all_there_s }));
    Ok(b)
}

/// A writes while nobody is there, is killed and started again, stopped and started again; then the others come.
pub(crate) fn offline(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let a = Node::first(plan, dir.path(), "a", Way::Http)?;
    let (b, d) = (a.joined(plan, dir.path(), "b")?, a.joined(plan, dir.path(), "d")?);
    let (b, d) = (Node::serving(b, Way::Http, "127.0.0.1:0")?, Node::serving(d, Way::Http, "127.0.0.1:0")?);
    // From now on it is A who dials the two, and they know nothing of each other.
    let mut a = Node::alone(a.stop()?)?;
    for peer in [&b, &d] {
        a.eid.result(&["peers", "add", &peer.address])?;
        a.wait_for("in_step", SOON)?;
    }
    let (keys, addresses) = ([b.device()?, d.device()?], [b.address.clone(), d.address.clone()]);
    let (b, d) = (b.kill()?, d.kill()?);
    let before = a.entries()?;
    let begin = Instant::now();
    let mut a = write_offline(plan, dir.path(), a)?;
    let write_s = begin.elapsed().as_secs_f64();
    let entries = a.entries()?;
    let new = entries - before;
    report(&format!("offline: {new} entries in {write_s:.1} s, with two restarts"));

    let mut status = a.eid.start(&["status", "--watch"])?;
    let mut b = Node::serving(b, Way::Http, Way::Http.socket(&addresses[0]))?;
    let mut d = Node::serving(d, Way::Http, Way::Http.socket(&addresses[1]))?;
    let back = Instant::now();
    let (mut progress_lines, mut partial_lines) = (0, 0);
    let done = status.wait_for("everything at both peers", DELIVERED, |line| {
        let gone = under_way(&line.value, new);
        progress_lines += u64::from(gone.is_some());
        partial_lines += u64::from(gone.is_some_and(|gone| gone < new));
        keys.iter().all(|key| has_acknowledged(&line.value, key, entries))
    })?;
    let since = |at: Instant| at.saturating_duration_since(back).as_secs_f64();
    let sent = Sent::by(&mut a)?;
    let came = [Came::to(&mut b)?, Came::to(&mut d)?];

    let last = a.eid.result(&["log", DB, "--limit", "1"])?;
    let last = last["entry"].as_str().ok_or("the log has no entry")?;
    let mut why = Vec::new();
    for key in &keys {
        let told = a.eid.result(&["why", last, key.as_str().ok_or("a key is no text")?])?;
        why.push(told["why"].clone());
    }
    let undelivered = a.eid.result(&["flush"])?["undelivered"].as_array().map(Vec::len);
    let is_once = came.iter().all(|came| came.entries == new && came.duplicates == 0 && came.refused == 0)
        && b.entries()? == entries
        && d.entries()? == entries;
    let holds = new == plan.offline
        && is_once
        && why.iter().all(|why| why == "held")
        && undelivered == Some(0)
        && progress_lines > 0
        && a.is_equal_to(&b)?
        && a.is_equal_to(&d)?;
    let figures = json!({ "entries_offline": new, "write_s": write_s, "bytes_a_second_to_each": peer_rate(plan),
        "first_connected_s": sent.first_connected.map(since),
        "acknowledged_by_both_s": since(done.at), "entries_sent": sent.entries, "bytes_sent": sent.bytes,
        "came_to_each": came.each_ref().map(|came| came.entries), "duplicates": came.each_ref().map(|came| came.duplicates),
        "refused": came.each_ref().map(|came| came.refused), "progress_lines": progress_lines, "of_those_partial": partial_lines,
        "last_entry_at_each": why, "undelivered": undelivered });
    Ok(Outcome { holds, figures })
}

/// Writes an entry for each row. In the first third the node is killed, after the second it is stopped.
fn write_offline(plan: &Plan, dir: &Path, node: Node) -> Result<Node> {
    let third = plan.offline / 3;
    let import = |rows: Range<u64>| -> Result<Vec<String>> {
        let csv = write_rows(dir, rows)?;
        Ok(["table", "import", DB, TABLE, &csv, "--key", "key", "--batch", "1"].map(str::to_owned).to_vec())
    };
    let all = import(0..plan.offline)?;
    let mut importing = node.eid.start(&all.iter().map(String::as_str).collect::<Vec<_>>())?;
    importing.wait_for("a third of the rows", DELIVERED, |line| {
        line.value["rows_durable"].as_u64().is_some_and(|rows| rows >= third)
    })?;
    let eid = node.kill()?;
    // What was asked for over its control socket ends with it.
    importing.finish()?;
    let held = rows(&eid)?;
    if held < third || held >= plan.offline {
        return Err(format!("{held} rows are there after the kill, of which {third} were durable").into());
    }
    let node = Node::alone(eid)?;
    let middle = held.max(2 * third);
    run(&node.eid, &import(held..middle)?)?;
    let rate = peer_rate(plan).to_string();
    let eid = node.stop()?;
    let node = Node { running: eid.serve_alone(&["--peer-rate", &rate])?, eid, address: String::new() };
    run(&node.eid, &import(middle..plan.offline)?)?;
    Ok(node)
}

/// Bytes a second that go to each peer.
fn peer_rate(plan: &Plan) -> u64 {
    (plan.offline * RATE_PER_ENTRY).max(RATE_MIN)
}

fn run(eid: &Eid, args: &[String]) -> Result<()> {
    eid.result(&args.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
}

/// Rows that were imported.
fn rows(eid: &Eid) -> Result<u64> {
    let shown = eid.result(&["db", "show", DB])?;
    let table = shown["stores"].as_array().into_iter().flatten().find(|store| store["name"] == TABLE);
    // The first one was put there.
    Ok(table.and_then(|table| table["rows"].as_u64()).unwrap_or(0).saturating_sub(1))
}

/// What is known of the database at each peer.
fn at_peers(status: &Value) -> impl Iterator<Item = &Value> {
    let databases = status["databases"].as_array().into_iter().flatten();
    databases.flat_map(|db| db["peers"].as_array().into_iter().flatten())
}

/// How many of so many entries the status shows to have gone, if any are on their way to a peer.
fn under_way(status: &Value, of: u64) -> Option<u64> {
    let transfers = at_peers(status).flat_map(|peer| peer["transfers"].as_array().into_iter().flatten());
    transfers.filter(|one| one["entries_total"] == of).filter_map(|one| one["entries"].as_u64()).min()
}

/// Whether the status says that the peer has so many entries on disk.
fn has_acknowledged(status: &Value, peer: &Value, entries: u64) -> bool {
    at_peers(status).any(|one| one["peer"] == *peer && one["acknowledged"] == entries)
}

/// What a node says that it has sent.
#[derive(Debug, Default)]
struct Sent {
    first_connected: Option<Instant>,
    entries: u64,
    bytes: u64,
}

impl Sent {
    fn by(node: &mut Node) -> Result<Self> {
        let mut sent = Self::default();
        while let Some(Line { at, value }) = node.running.next_within(Duration::ZERO)? {
            let session = &value["session"];
            sent.entries += session["pushed"].as_u64().unwrap_or(0);
            sent.bytes += session["bytes_out"].as_u64().unwrap_or(0);
            if value["event"] == "connected" {
                sent.first_connected.get_or_insert(at);
            }
        }
        Ok(sent)
    }
}

/// What a node says that came to it.
#[derive(Debug, Default)]
struct Came {
    entries: u64,
    duplicates: u64,
    refused: u64,
}

impl Came {
    fn to(node: &mut Node) -> Result<Self> {
        let mut came = Self::default();
        while let Some(line) = node.running.next_within(Duration::ZERO)? {
            came.entries += received(&line.value);
            came.duplicates += line.value["duplicates"].as_u64().unwrap_or(0);
            came.refused += line.value["refused"].as_u64().unwrap_or(0);
        }
        Ok(came)
    }
}
