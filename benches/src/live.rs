//! `live`: a table grows, and what it costs to deliver a one-row change to a live query is set beside the rows that
//! the query read for it.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use eid_db::{LiveQuery, Query, RawTable};
use eid_store::{Counting, Embedded, EmbeddedConfig};
use serde_json::{Value, json};

use crate::report::{line, median, p99};
use crate::work::{Failed, database};

/// The table that the longer one is compared with.
const SHORT: u64 = 1000;
/// Changes that are delivered at each length.
const SAMPLES: u64 = 301;
/// Rows of one commit while the table grows.
const BULK: u64 = 1000;
/// Groups of the column that is not looked at by its whole length.
const GROUPS: u64 = 100;
/// How long a change may be waited for before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The greatest median from the return of a commit to its delivery.
const DELIVERY_MAX: Duration = Duration::from_millis(5);

type Watched = Query<Value>;
type Narrow = fn(Watched) -> Watched;

/// The queries that are watched, by name.
const QUERIES: [(&str, Narrow); 3] = [
    ("all rows", |query| query),
    ("rows of a group, indexed", |query| query.eq("group", 7)),
    ("the first 20 in order of a field", |query| query.order("n").limit(20)),
];

/// What delivering a change took.
struct Delivery {
    /// From the return of the commit to the change in hand, on the thread that commits.
    looked: Vec<Duration>,
    /// From the call of the commit to the change in hand, on another thread that waits.
    woken: Vec<Duration>,
    /// Rows read from the backend for one change.
    rows_read: f64,
    found: usize,
}

pub(crate) fn run(flags: &[&str]) -> Result<(), Failed> {
    let (mut rows, mut as_json) = (100_000u64, false);
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match *flag {
            "--json" => as_json = true,
            "--rows" => rows = flags.next().ok_or("--rows needs a number")?.parse()?,
            other => return Err(format!("{other}: not known here").into()),
        }
    }
    let dir = tempfile::tempdir()?;
    let backend = Arc::new(Counting::new(Embedded::open(dir.path(), EmbeddedConfig::default())?));
    let (_instance, database) = database(backend.clone())?;
    let table = database.table::<Value>("rows");
    table.create_index("group")?;
    table.create_index("n")?;
    let (mut figures, mut failed) = (serde_json::Map::new(), Vec::new());
    let mut held = 0;
    for length in [SHORT, rows] {
        while held < length {
            let until = length.min(held + BULK);
            let fresh: Vec<(String, Value)> = (held..until).map(|n| (key(n), row(n, 0))).collect();
            table.insert_many_as(fresh.iter().map(|(key, row)| (key, row)))?;
            held = until;
        }
        line(
            &format!("{length} rows"),
            "looked for (median, p99)   waited for, commit included   rows read".into(),
        );
        for (name, narrowed) in QUERIES {
            let mut took = deliver(&backend, &table, narrowed, length)?;
            let (looked, woken) = (median(&mut took.looked), median(&mut took.woken));
            let (us, p99_us) = (micros(looked), micros(p99(&mut took.looked)));
            line(
                &format!("  {name}"),
                format!("{us:>8.1} {p99_us:>8.1} us {:>20.1} us {:>20.1}", micros(woken), took.rows_read),
            );
            let said = json!({"found": took.found, "delivered_us": us, "delivered_p99_us": p99_us,
                "commit_and_delivered_us": micros(woken), "rows_read": took.rows_read});
            figures.insert(format!("{name}, {length}"), said);
            if looked > DELIVERY_MAX {
                failed.push(format!("{name}: a change in {length} rows takes {us:.0} us to be delivered"));
            }
        }
    }
    for (name, _) in QUERIES {
        let rows_read = |length| figures[&format!("{name}, {length}")]["rows_read"].as_f64();
        if let (Some(short), Some(long)) = (rows_read(SHORT), rows_read(rows))
            && long > short + 2.0
        {
            failed.push(format!("{name}: {short:.1} rows read per change become {long:.1}"));
        }
    }
    if as_json {
        println!("{}", Value::Object(figures));
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

fn key(n: u64) -> String {
    format!("{n:08}")
}

fn row(n: u64, turn: u64) -> Value {
    json!({"n": n, "group": n % GROUPS, "turn": turn})
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

/// Changes rows that the query finds, one a commit: first with the query looked at after each, then with a thread
/// that waits for it.
fn deliver(
    backend: &Counting<Embedded>,
    table: &RawTable,
    narrowed: Narrow,
    length: u64,
) -> Result<Delivery, Failed> {
    let mut live = narrowed(table.query()).watch()?;
    let keys: Vec<u64> = live.initial().iter().filter_map(|(_, row)| row["n"].as_u64()).collect();
    if keys.is_empty() {
        return Err("the query that is watched finds nothing".into());
    }
    let picked = |turn: u64| keys[(turn.wrapping_mul(7919) % keys.len() as u64) as usize];
    let mut change = {
        let mut turn = length;
        move || -> Result<(), Failed> {
            turn += 1;
            let n = picked(turn);
            Ok(table.put(&key(n), &row(n, turn)).map(drop)?)
        }
    };
    let (mut looked, mut rows_read) = (Vec::new(), 0);
    for _ in 0..SAMPLES {
        change()?;
        let (before, begin) = (backend.counts(), Instant::now());
        delivered(live.next_ready()?.map(|changes| changes.changes.len()))?;
        looked.push(begin.elapsed());
        rows_read += (backend.counts() - before).rows_read;
    }
    let found = live.len();
    Ok(Delivery { looked, woken: woken(live, change)?, rows_read: rows_read as f64 / SAMPLES as f64, found })
}

fn woken(
    mut live: LiveQuery<Value>,
    mut change: impl FnMut() -> Result<(), Failed>,
) -> Result<Vec<Duration>, Failed> {
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || -> Result<(), Failed> {
            for _ in 0..SAMPLES {
                delivered(live.wait(PATIENCE)?.map(|changes| changes.changes.len()))?;
                tell.send(Instant::now())?;
            }
            Ok(())
        });
        let mut took = Vec::new();
        for _ in 0..SAMPLES {
            let begin = Instant::now();
            change()?;
            took.push(told.recv_timeout(PATIENCE)?.duration_since(begin));
        }
        waiting.join().map_err(|_| Failed::from("the thread that waits panicked"))??;
        Ok(took)
    })
}

fn delivered(changes: Option<usize>) -> Result<(), Failed> {
    match changes {
        Some(1) => Ok(()),
        other => Err(format!("one row was changed, and the live query says {other:?}").into()),
    }
}
