//! How soon what is written at one node is seen at another.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::check::node::{Durations, Node, Rows, SOON};
use crate::check::{Outcome, Plan, wait};
use crate::process::{Result, Way};
use crate::report;

/// What is written at one end of a chain is seen at the other end within this, 99 times of 100.
const CHAIN_P99_MS: f64 = 50.0;
/// Time between two writes, from the beginning of one to that of the next, unless one takes longer.
const PACE: Duration = Duration::from_millis(40);
/// Times that a measurement is made until it is as it should be: others work on the machine too.
const TRIES: u32 = 3;
/// How much longer something may take, 99 times of 100, beside a peer that never answers: twice as long, or by so much.
const SILENT_MS: f64 = 25.0;
/// What nothing may take beside such a peer. It is given up after five seconds: who waits for it waits longer.
const SILENT_MS_MAX: f64 = 1_000.0;

/// A writes, B is in the middle, C reads, and A and C know nothing of each other.
pub(crate) fn chain(plan: &Plan) -> Result<Outcome> {
    let (mut figures, mut holds) = (Vec::new(), true);
    for way in Way::ALL {
        let dir = TempDir::new()?;
        let b = Node::first(plan, dir.path(), "b", way)?;
        let a = b.follower(plan, dir.path(), "a")?;
        let c = b.follower(plan, dir.path(), "c")?;
        let (mut at_a, mut at_c) = (a.watch()?, c.watch()?);
        let mut is_fast = false;
        for attempt in 1..=TRIES {
            let prefix = format!("{}-{attempt}-", way.name());
            let measured = measure(plan, &a, [&mut at_a, &mut at_c], &prefix, Looks::Nowhere)?;
            let p99 = measured.shown.ms(990);
            is_fast = p99 < CHAIN_P99_MS;
            report(&format!("{}: from A to C p50 {} ms, p99 {p99} ms", way.name(), measured.shown.ms(500)));
            figures.push(json!({ "over": way.name(), "attempt": attempt, "from_shown_to_shown": measured.shown.figures(),
                "from_asked_to_shown": measured.asked.figures() }));
            if is_fast {
                break;
            }
        }
        holds &= is_fast && a.is_equal_to(&c)? && a.knows_only(&b)? && c.knows_only(&b)?;
    }
    Ok(Outcome { holds, figures: Value::Array(figures) })
}

/// What was measured of writes at one node that another one shows.
#[derive(Default)]
struct Measured {
    /// From the moment at which the writer's own node shows a row to that at which the other one does.
    shown: Durations,
    /// From the moment at which the process is started that asks for the row, to the same.
    asked: Durations,
    /// How long that process takes.
    commits: Durations,
    /// How long `eid status` takes.
    statuses: Durations,
}

impl Measured {
    fn add(&mut self, others: Self) {
        let Self { shown, asked, commits, statuses } = others;
        self.shown.add(shown);
        self.asked.add(asked);
        self.commits.add(commits);
        self.statuses.add(statuses);
    }
}

/// What is asked for after each write.
#[derive(PartialEq, Eq)]
enum Looks {
    Nowhere,
    AtStatus,
}

/// Writes rows at a steady pace, one entry each, and looks when both nodes show them: both are read here, by one clock.
fn measure(
    plan: &Plan,
    node: &Node,
    [here, there]: [&mut Rows; 2],
    prefix: &str,
    looks: Looks,
) -> Result<Measured> {
    let (mut asked, mut commits, mut statuses) = (Vec::new(), Durations::default(), Durations::default());
    for n in 0..plan.writes {
        let begin = Instant::now();
        node.put(&format!("{prefix}{n}"))?;
        asked.push(begin);
        commits.push(begin.elapsed());
        if looks == Looks::AtStatus {
            let begin = Instant::now();
            node.eid.result(&["status"])?;
            statuses.push(begin.elapsed());
        }
        wait(PACE.saturating_sub(begin.elapsed()));
    }
    let deadline = Instant::now() + SOON;
    let mut measured = Measured { commits, statuses, ..Measured::default() };
    for (n, asked) in asked.into_iter().enumerate() {
        let key = format!("{prefix}{n}");
        let (from, to) = (here.shown_at(&key, deadline)?, there.shown_at(&key, deadline)?);
        measured.shown.push(to.saturating_duration_since(from));
        measured.asked.push(to.duration_since(asked));
    }
    Ok(measured)
}

/// A peer that takes every connection and never says a word delays nobody.
pub(crate) fn silent(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let b = Node::first(plan, dir.path(), "b", Way::Http)?;
    let a = b.follower(plan, dir.path(), "a")?;
    let (mut at_a, mut at_b) = (a.watch()?, b.watch()?);
    let silent = Silent::start()?;
    let (mut figures, mut holds) = (Vec::new(), false);
    // All attempts together: one moment at which the machine did something else decides nothing.
    let (mut without, mut with) = (Measured::default(), Measured::default());
    for attempt in 1..=TRIES {
        let rows = [&mut at_a, &mut at_b];
        without.add(measure(plan, &a, rows, &format!("without-{attempt}-"), Looks::AtStatus)?);
        let before = silent.heard();
        for address in &silent.addresses {
            a.eid.result(&["peers", "add", address])?;
        }
        let begin = Instant::now();
        while !silent.was_dialled_since(before) {
            if begin.elapsed() > SOON {
                return Err("the silent peer was not dialled".into());
            }
            wait(Duration::from_millis(5));
        }
        let rows = [&mut at_a, &mut at_b];
        with.add(measure(plan, &a, rows, &format!("with-{attempt}-"), Looks::AtStatus)?);
        let status = a.eid.result(&["status"])?;
        let is_kept = is_connected(&status, &b)?;
        // It is found to be silent after some seconds, and is never said to have been met.
        let mut is_true = silent.addresses.iter().all(|address| was_never_met(&status, address));
        let begin = Instant::now();
        while is_true && !is_told(&a, &silent)? {
            is_true = begin.elapsed() < SOON;
            wait(PACE);
        }
        let [connections, datagrams] = silent.heard();
        let compared = [
            ("from_shown_to_shown", &without.shown, &with.shown),
            ("commit", &without.commits, &with.commits),
            ("status", &without.statuses, &with.statuses),
        ];
        let is_as_before = compared.iter().all(|(_, without, with)| is_as_fast(without, with));
        let figure = |(name, without, with): &(&str, &Durations, &Durations)| {
            let ratio = |per_mille| (with.ms(per_mille) / without.ms(per_mille) * 100.0).round() / 100.0;
            json!({ "what": name, "without": without.figures(), "with": with.figures(),
                "ratio_p50": ratio(500), "ratio_p99": ratio(990) })
        };
        let compared: Vec<Value> = compared.iter().map(figure).collect();
        figures.push(json!({ "attempt": attempt, "connections": connections - before[0],
            "datagrams": datagrams - before[1], "compared": compared, "status_is_true": is_true, "others_stay_connected": is_kept }));
        for address in &silent.addresses {
            a.eid.result(&["peers", "forget", address])?;
        }
        if !is_true || !is_kept {
            break;
        }
        holds = is_as_before;
        report(&format!(
            "silent: {} attempt {attempt}",
            if holds { "nothing was slower," } else { "slower," }
        ));
        if holds {
            break;
        }
    }
    Ok(Outcome { holds, figures: Value::Array(figures) })
}

/// Whether something takes no longer than before, but for noise.
fn is_as_fast(before: &Durations, now: &Durations) -> bool {
    now.ms(990) <= (before.ms(990) * 2.0).max(before.ms(990) + SILENT_MS) && now.ms(1000) < SILENT_MS_MAX
}

/// What the status says of whoever is at an address.
fn peer_at<'a>(status: &'a Value, address: &str) -> Option<&'a Value> {
    let is_there =
        |peer: &&Value| peer["addresses"].as_array().is_some_and(|all| all.iter().any(|a| a == address));
    status["peers"].as_array().into_iter().flatten().find(is_there)
}

/// Whether the status says that nobody was ever met at an address.
fn was_never_met(status: &Value, address: &str) -> bool {
    peer_at(status, address).is_some_and(|peer| peer["key"].is_null() && peer["last_success"].is_null())
}

/// Whether the status says of the silent peer, wherever it is, that it was tried in vain, and why.
fn is_told(node: &Node, silent: &Silent) -> Result<bool> {
    let status = node.eid.result(&["status"])?;
    Ok(silent.addresses.iter().all(|address| {
        was_never_met(&status, address)
            && peer_at(&status, address).is_some_and(|peer| peer["last_error"].is_string())
    }))
}

/// Whether the status says that there is a connection with the server and that the database is in step.
fn is_connected(status: &Value, server: &Node) -> Result<bool> {
    let device = server.device()?;
    let databases = status["databases"].as_array().into_iter().flatten();
    let peers: Vec<&Value> = databases.flat_map(|db| db["peers"].as_array().into_iter().flatten()).collect();
    let is_as_known = |peer: &&Value| {
        peer["peer"] == device && peer["connection"] == "connected" && peer["in_step"] == true
    };
    Ok(!peers.is_empty() && peers.iter().all(is_as_known))
}

/// Somebody who takes what comes, over TCP and UDP, and never answers.
struct Silent {
    addresses: [String; 2],
    heard: [Arc<AtomicU64>; 2],
}

impl Silent {
    fn start() -> Result<Self> {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        let addresses = [format!("http://{}", tcp.local_addr()?), format!("quic:{}", udp.local_addr()?)];
        let heard = [Arc::default(), Arc::default()];
        let [taken, datagrams] = heard.clone();
        thread::spawn(move || {
            for connection in tcp.incoming().map_while(std::io::Result::ok) {
                AtomicU64::fetch_add(&taken, 1, Ordering::Relaxed);
                // Whatever is said is taken, and the connection stays open until the other side leaves it.
                thread::spawn(move || std::io::copy(&mut &connection, &mut std::io::sink()));
            }
        });
        thread::spawn(move || {
            let mut datagram = [0; 2048];
            while udp.recv(&mut datagram).is_ok() {
                AtomicU64::fetch_add(&datagrams, 1, Ordering::Relaxed);
            }
        });
        Ok(Self { addresses, heard })
    }

    /// Connections and datagrams that it has taken.
    fn heard(&self) -> [u64; 2] {
        self.heard.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    fn was_dialled_since(&self, before: [u64; 2]) -> bool {
        self.heard().into_iter().zip(before).all(|(now, before)| now > before)
    }
}
