//! Many nodes that keep in step with one server.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::check::node::{DB, Node, SOON, TABLE, put, received};
use crate::check::{Outcome, Plan, wait};
use crate::process::{Eid, Result, Way, signal};
use crate::report;

/// How long anything may take that all of them do.
const ALL: Duration = Duration::from_secs(180);
/// How long the nodes have been without a server when they are stopped: each has found that it is gone.
const MISSED: Duration = Duration::from_secs(3);
/// How long they are stopped before the server is there again: whatever they waited for is due then.
const STOPPED: Duration = Duration::from_secs(8);
/// Peak resident memory of the server.
const PEAK_MIB_MAX: u64 = 150;
/// How long an idle server is looked at: as long as the longest time between two looks at a database, so that whatever is
/// done now and then is done once by everybody.
const LOOKED_AT: Duration = Duration::from_secs(300);
/// How long everybody is left alone before.
const CALM: Duration = Duration::from_secs(10);
/// Processor that an idle server may use, of one core, and memory.
const IDLE_PERCENT_MAX: f64 = 1.0;
const IDLE_MIB_MAX: u64 = 100;

/// A node of the crowd, and how many entries came to it.
#[derive(Debug)]
struct Member {
    node: Node,
    came: u64,
    /// When the last of them came.
    last: Instant,
}

impl Member {
    fn new(node: Node) -> Self {
        Self { node, came: 0, last: Instant::now() }
    }

    /// Begins to count anew.
    fn forget(&mut self) -> Result<()> {
        while self.node.running.next_within(Duration::ZERO)?.is_some() {}
        self.came = 0;
        Ok(())
    }

    /// Waits until so many entries have come.
    fn has(&mut self, entries: u64, deadline: Instant) -> Result<()> {
        while self.came < entries {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(line) = self.node.running.next_within(left)? else {
                return Err(format!("{} of {entries} entries came in time", self.came).into());
            };
            let more = received(&line.value);
            if more > 0 {
                self.came += more;
                self.last = line.at;
            }
        }
        Ok(())
    }
}

/// How all come back to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// They run all the time, and come when their patience is over.
    ByThemselves,
    /// They are stopped until the server is there, and then let go at the same moment.
    AtOnce,
    /// They are stopped, and each is let go when the one before has everything.
    OneAfterAnother,
}

/// A server goes away; it and all nodes that keep in step with it write meanwhile; it comes back.
pub(crate) fn crowd(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let mut server = Member::new(Node::first(plan, dir.path(), "server", Way::Http)?);
    let mut members = members(plan, dir.path(), &server.node, &[DB.to_owned()])?;
    let mut figures = Vec::new();
    for back in [Back::ByThemselves, Back::OneAfterAnother, Back::AtOnce] {
        let (again, seconds) = come_back(server, &mut members, back)?;
        server = again;
        let peak_mib = server.node.running.peak_mib();
        report(&format!("{} nodes, {back:?}: {seconds:.2} s, peak {peak_mib} MiB", plan.peers));
        figures.push((seconds, peak_mib));
    }
    let mut are_equal = true;
    for member in &members {
        are_equal &= member.node.is_equal_to(&server.node)?;
    }
    let [by_themselves, one_by_one, at_once] = figures[..] else { return Err("three figures".into()) };
    let peak_mib = by_themselves.1.max(one_by_one.1).max(at_once.1);
    let holds = are_equal && at_once.0 <= one_by_one.0 && peak_mib < PEAK_MIB_MAX;
    let figures = json!({ "peers": plan.peers, "at_once_s": at_once.0, "one_after_another_s": one_by_one.0,
        "by_themselves_s": by_themselves.0, "server_peak_mib": peak_mib, "equal": are_equal,
        "resident_mib_of_a_peer": members.iter().map(|member| member.node.running.resident_mib()).max() });
    Ok(Outcome { holds, figures })
}

/// Nodes that have joined these databases of the server and are in step.
fn members(plan: &Plan, dir: &Path, server: &Node, databases: &[String]) -> Result<Vec<Member>> {
    let tickets: Vec<String> = databases.iter().map(|db| server.ticket(db)).collect::<Result<_>>()?;
    let mut members = Vec::new();
    for n in 0..plan.peers {
        let node = Node::alone(Eid::new(&plan.eid, dir.join(format!("peer-{n}"))))?;
        for ticket in &tickets {
            node.eid.result(&["join", ticket, "--wait", "60"])?;
        }
        members.push(Member::new(node));
        if (n + 1) % 20 == 0 {
            report(&format!("{} nodes have joined", n + 1));
        }
    }
    for (n, member) in members.iter_mut().enumerate() {
        for _ in databases {
            member.node.wait_for("in_step", SOON).map_err(|problem| format!("node {n}: {problem}"))?;
        }
    }
    // What the last one brought is with the others soon.
    wait(Duration::from_secs(1));
    Ok(members)
}

/// Kills the server, lets it and everybody else write, starts it again, and gives it and the time until all have all.
fn come_back(server: Member, members: &mut [Member], back: Back) -> Result<(Member, f64)> {
    let address = server.node.address.clone();
    let eid = server.node.kill()?;
    for member in members.iter_mut() {
        member.forget()?;
    }
    wait(MISSED);
    put(&eid, &format!("{back:?}-server"))?;
    for (n, member) in members.iter().enumerate() {
        member.node.put(&format!("{back:?}-{n}"))?;
    }
    let pids: Vec<u32> = members.iter().map(|member| member.node.running.pid()).collect();
    if back != Back::ByThemselves {
        signal("-STOP", &pids)?;
        wait(STOPPED);
    }
    let node = Node::serving(eid, Way::Http, Way::Http.socket(&address))?;
    let begin = Instant::now();
    let (mut server, deadline) = (Member::new(node), begin + ALL);
    match back {
        Back::ByThemselves => {}
        Back::AtOnce => signal("-CONT", &pids)?,
        Back::OneAfterAnother => {
            for (before, (member, pid)) in members.iter_mut().zip(&pids).enumerate() {
                signal("-CONT", &[*pid])?;
                // What the server has written, and those before it.
                member.has(before as u64 + 1, deadline)?;
                server.has(before as u64 + 1, deadline)?;
            }
        }
    }
    let all = members.len() as u64;
    server.has(all, deadline)?;
    let mut last = server.last;
    for member in members.iter_mut() {
        // One of the server, and one of each other.
        member.has(all, deadline)?;
        last = last.max(member.last);
    }
    Ok((server, last.saturating_duration_since(begin).as_secs_f64()))
}

/// Many nodes that keep many databases in step with one server, and write nothing.
pub(crate) fn idle(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let server = Node::first(plan, dir.path(), "server", Way::Http)?;
    let databases: Vec<String> = (0..plan.databases).map(|n| format!("db-{n}")).collect();
    for db in &databases {
        server.eid.result(&["db", "create", db])?;
        server.eid.result(&["table", "put", db, TABLE, "first", "{}"])?;
    }
    let begin = Instant::now();
    let members = members(plan, dir.path(), &server, &databases)?;
    report(&format!("all are in step after {:.0} s", begin.elapsed().as_secs_f64()));
    wait(CALM);
    let everybody = |what: fn(&Node) -> Result<Duration>| -> Result<Duration> {
        members.iter().map(|member| what(&member.node)).sum()
    };
    let processor = |node: &Node| node.running.processor_time();
    let (server_before, others_before) = (processor(&server)?, everybody(processor)?);
    let begin = Instant::now();
    wait(LOOKED_AT);
    let percent = |used: Duration| (used.as_secs_f64() / begin.elapsed().as_secs_f64() * 1e4).round() / 100.0;
    let server_percent = percent(processor(&server)?.saturating_sub(server_before));
    let others_percent = percent(everybody(processor)?.saturating_sub(others_before));
    let resident_mib = server.running.resident_mib();
    let threads = fs::read_dir(format!("/proc/{}/task", server.running.pid()))?.count();
    let in_step = in_step(&server)?;
    let holds = server_percent < IDLE_PERCENT_MAX
        && resident_mib < IDLE_MIB_MAX
        && in_step == plan.peers * plan.databases;
    let figures = json!({ "peers": plan.peers, "databases": plan.databases, "seconds": LOOKED_AT.as_secs(),
        "server_percent_of_a_core": server_percent, "server_resident_mib": resident_mib,
        "server_peak_mib": server.running.peak_mib(), "server_threads": threads, "in_step": in_step,
        "percent_of_a_core_of_each_peer": others_percent / plan.peers as f64 });
    Ok(Outcome { holds, figures })
}

/// How many times the server's status says that a peer is connected and has everything of a database.
fn in_step(server: &Node) -> Result<usize> {
    let status = server.eid.result(&["status"])?;
    let databases = status["databases"].as_array().into_iter().flatten();
    let has_all = |db: &Value| {
        let peers = db["peers"].as_array().into_iter().flatten();
        peers
            .filter(|peer| peer["connection"] == "connected" && peer["acknowledged"] == db["entries"])
            .count()
    };
    Ok(databases.map(has_all).sum())
}
