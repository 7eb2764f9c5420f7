//! Nodes that run, for checks of what happens between them.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::Plan;
use crate::process::{Eid, Line, Result, Running, Way};

/// The database of the checks, and its table.
pub(crate) const DB: &str = "rows";
pub(crate) const TABLE: &str = "t";

/// How long a node may take to do what takes it milliseconds: machines are busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Writes a row: one entry.
pub(crate) fn put(eid: &Eid, key: &str) -> Result<()> {
    eid.result(&["table", "put", DB, TABLE, key, "{\"n\":1}"]).map(drop)
}

/// A data directory that a process serves.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) eid: Eid,
    pub(crate) running: Running,
    /// Empty where nobody is let in.
    pub(crate) address: String,
}

impl Node {
    /// A node that has made the database, with a row in it, and serves it.
    pub(crate) fn first(plan: &Plan, dir: &Path, name: &str, way: Way) -> Result<Self> {
        let eid = Eid::new(&plan.eid, dir.join(name));
        eid.result(&["db", "create", DB])?;
        eid.result(&["table", "put", DB, TABLE, "first", "{}"])?;
        Self::serving(eid, way, "127.0.0.1:0")
    }

    /// Serves the directory on a loopback socket.
    pub(crate) fn serving(eid: Eid, way: Way, socket: &str) -> Result<Self> {
        let (running, address) = eid.serve(way, socket)?;
        Ok(Self { eid, running, address })
    }

    /// Serves the directory and lets nobody in.
    pub(crate) fn alone(eid: Eid) -> Result<Self> {
        Ok(Self { running: eid.serve_alone(&[])?, eid, address: String::new() })
    }

    /// A ticket with which others may write to a database of this node.
    pub(crate) fn ticket(&self, db: &str) -> Result<String> {
        let shared = self.eid.result(&["share", db, "--write"])?;
        Ok(shared["ticket"].as_str().ok_or("share gave no ticket")?.to_owned())
    }

    /// A data directory that has joined the database of this node.
    pub(crate) fn joined(&self, plan: &Plan, dir: &Path, name: &str) -> Result<Eid> {
        let eid = Eid::new(&plan.eid, dir.join(name));
        eid.result(&["join", &self.ticket(DB)?, "--wait", "60"])?;
        Ok(eid)
    }

    /// A node that has joined the database of this one and keeps it in step; nobody else can reach it.
    pub(crate) fn follower(&self, plan: &Plan, dir: &Path, name: &str) -> Result<Self> {
        let mut node = Self::alone(self.joined(plan, dir, name)?)?;
        node.wait_for("in_step", SOON)?;
        Ok(node)
    }

    /// Reads events up to one of this name.
    pub(crate) fn wait_for(&mut self, event: &str, time: Duration) -> Result<Line> {
        self.running.wait_for(event, time, |line| line.value["event"] == event)
    }

    /// Writes a row: one entry.
    pub(crate) fn put(&self, key: &str) -> Result<()> {
        put(&self.eid, key)
    }

    /// Shows what comes to the table from now on.
    pub(crate) fn watch(&self) -> Result<Rows> {
        let mut running = self.eid.start(&["table", "watch", DB, TABLE])?;
        // What is there is shown once it watches.
        running.wait_for("the table", SOON, |line| line.value["key"] == "first")?;
        Ok(Rows { running, seen: HashMap::new() })
    }

    pub(crate) fn shown(&self) -> Result<Value> {
        self.eid.result(&["db", "show", DB])
    }

    pub(crate) fn entries(&self) -> Result<u64> {
        Ok(self.shown()?["entries"].as_u64().unwrap_or(0))
    }

    /// Whether what is visible of the database is the same at both.
    pub(crate) fn is_equal_to(&self, other: &Self) -> Result<bool> {
        Ok(self.shown()?["state_hash"] == other.shown()?["state_hash"])
    }

    /// Its key.
    pub(crate) fn device(&self) -> Result<Value> {
        Ok(self.eid.result(&["status"])?["device"].clone())
    }

    /// Whether it has met nobody but that one.
    pub(crate) fn knows_only(&self, other: &Self) -> Result<bool> {
        let (status, device) = (self.eid.result(&["status"])?, other.device()?);
        let peers = status["peers"].as_array().ok_or("the status has no peers")?;
        Ok(!peers.is_empty() && peers.iter().all(|peer| peer["key"] == device))
    }

    /// Tells it to stop. Gives the directory back.
    pub(crate) fn stop(self) -> Result<Eid> {
        let ended = self.running.stop()?;
        match ended.code {
            Some(0) => Ok(self.eid),
            code => Err(format!("a node that was told to stop ended with {code:?}: {}", ended.errors).into()),
        }
    }

    /// kill -9. Gives the directory back.
    pub(crate) fn kill(self) -> Result<Eid> {
        self.running.kill()?;
        Ok(self.eid)
    }
}

/// How many entries came to a node by this event of its own.
pub(crate) fn received(event: &Value) -> u64 {
    let count = match event["event"].as_str() {
        Some("session" | "failed") => &event["session"]["pulled"],
        Some("arrived") => &event["entries"],
        _ => return 0,
    };
    count.as_u64().unwrap_or(0)
}

/// The rows that `table watch` shows, and when each was shown first.
#[derive(Debug)]
pub(crate) struct Rows {
    running: Running,
    seen: HashMap<String, Instant>,
}

impl Rows {
    /// When this row was shown. An error when it was not, up to the deadline.
    pub(crate) fn shown_at(&mut self, key: &str, deadline: Instant) -> Result<Instant> {
        loop {
            if let Some(at) = self.seen.get(key) {
                return Ok(*at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(line) = self.running.next_within(left)? else {
                return Err(format!("the row {key} did not come in time").into());
            };
            if let Some(key) = line.value["key"].as_str() {
                self.seen.entry(key.to_owned()).or_insert(line.at);
            }
        }
    }

    /// When the last of these rows was shown.
    pub(crate) fn all_shown_at(
        &mut self,
        keys: impl Iterator<Item = String>,
        deadline: Instant,
    ) -> Result<Option<Instant>> {
        let mut last = None;
        for key in keys {
            last = last.max(Some(self.shown_at(&key, deadline)?));
        }
        Ok(last)
    }
}

/// Durations of the same thing, many times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations(Vec<Duration>);

impl Durations {
    pub(crate) fn push(&mut self, one: Duration) {
        self.0.push(one);
    }

    pub(crate) fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The duration that so many in a thousand do not exceed, in milliseconds.
    pub(crate) fn ms(&self, per_mille: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * per_mille).div_ceil(1000).saturating_sub(1);
        sorted.get(place).map_or(f64::NAN, |one| (one.as_secs_f64() * 1e5).round() / 100.0)
    }

    pub(crate) fn figures(&self) -> Value {
        json!({ "p50_ms": self.ms(500), "p99_ms": self.ms(990), "max_ms": self.ms(1000), "count": self.0.len() })
    }
}
