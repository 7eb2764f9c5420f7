//! `history`: one database grows, and what a commit, a read, a query and an opening cost is set beside the engine alone,
//! which is given the same rows and the same reads in the same run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eid_db::{Database, Instance};
use eid_store::{Backend, Durability};
use serde_json::{Value, json};

use crate::history::{memory, size};
use crate::report::{line, median, middle};
use crate::twin::{Read, Twin};
use crate::work::{Failed, database, embedded};

/// The history that the longer one is compared with.
const SHORT: u64 = 1000;
/// How often each thing is done at each length.
const SAMPLES: u64 = 301;
/// How often a read is measured; the shortest counts, so that what else the machine does is not taken for growth.
const TURNS: usize = 3;
/// How often a store is opened at each length.
const OPENINGS: usize = 21;
/// How many times as much as the engine alone anything may grow.
const GROWTH_MAX: f64 = 1.2;
/// Rows that one query finds.
const GROUP: u64 = 10;
/// One in so many commits updates a row instead of inserting one.
const UPDATE_EVERY: u64 = 4;

/// Medians in microseconds, of the whole path and of the engine alone.
#[derive(Debug, Clone, Copy)]
struct Cost {
    ours: f64,
    alone: f64,
    /// The median of how many times as long as the engine alone each one took.
    times: f64,
    /// Rows asked for or written in one go.
    rows: f64,
}

type Costs = Vec<(&'static str, Cost)>;

pub(crate) fn run(flags: &[&str]) -> Result<(), Failed> {
    let (mut entries, mut as_json) = (100_000u64, false);
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match *flag {
            "--json" => as_json = true,
            "--entries" => entries = flags.next().ok_or("--entries needs a number")?.parse()?,
            other => return Err(format!("{other}: not known here").into()),
        }
    }
    let dirs = (tempfile::tempdir()?, tempfile::tempdir()?);
    let paths = (dirs.0.path(), dirs.1.path());
    let mut writer = Writer { written: 0, inserted: 0 };
    let short = at_length(paths, &mut writer, SHORT)?;
    let long = at_length(paths, &mut writer, entries)?;
    let fresh = fresh(paths.0)?;
    let (mut figures, mut worst) = (serde_json::Map::new(), 0f64);
    line("", format!("{SHORT:>9} {entries:>9}   alone{SHORT:>8} {entries:>9}   growth against the engine"));
    for ((name, short), (_, long)) in short.iter().zip(&long) {
        let ratio = long.times / short.times;
        // What is read or written must not grow at all: then the engine would grow with it.
        let rows = long.rows / short.rows;
        worst = worst.max(ratio).max(rows);
        let row = format!(
            "{:>9.1} {:>9.1} us      {:>8.1} {:>9.1} us  {ratio:>5.2}, rows {:.1} -> {:.1}",
            short.ours, long.ours, short.alone, long.alone, short.rows, long.rows
        );
        line(name, row);
        let said = |cost: &Cost| json!({"us": cost.ours, "alone_us": cost.alone, "rows": cost.rows});
        figures
            .insert((*name).into(), json!({"short": said(short), "long": said(long), "growth_ratio": ratio}));
    }
    let bytes = (size(paths.0)?, size(paths.1)?);
    line("on disk", format!("{:>9.1} MB, {:.1} MB alone", bytes.0 as f64 / 1e6, bytes.1 as f64 / 1e6));
    line("a fresh process", fresh.to_string());
    figures.insert("disk_bytes".into(), json!(bytes.0));
    figures.insert("fresh".into(), fresh);
    figures.insert("worst_growth_ratio".into(), json!(worst));
    if as_json {
        println!("{}", Value::Object(figures));
    }
    if worst > GROWTH_MAX {
        return Err(format!("something grows {worst:.2} times as much as the engine alone").into());
    }
    Ok(())
}

/// What was written so far.
struct Writer {
    written: u64,
    inserted: u64,
}

/// Keys come in no order.
fn key(n: u64) -> String {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", z ^ (z >> 31))
}

fn group(n: u64) -> String {
    format!("group {}", n / GROUP)
}

impl Writer {
    /// One commit: one row.
    fn write(&mut self, database: &Database, durability: Durability) -> Result<(), Failed> {
        let (number, inserted) = (self.written, self.inserted);
        let updates = number % UPDATE_EVERY == UPDATE_EVERY - 1;
        database.write(|tx| {
            if durability == Durability::Relaxed {
                tx.relaxed();
            }
            let table = tx.table::<Value>("notes");
            if updates {
                let old = u64::from_str_radix(&key(number), 16).unwrap_or_default() % inserted;
                return table.update(&key(old), |row| row["done"] = json!(number));
            }
            let row = json!({"title": format!("note {number}"), "group": group(inserted), "done": 0});
            table.insert_as(&key(inserted), &row)
        })?;
        self.written += 1;
        self.inserted += u64::from(!updates);
        Ok(())
    }
}

fn open(dir: &Path) -> Result<(Arc<dyn Backend>, Instance, Database), Failed> {
    let backend: Arc<dyn Backend> = embedded(dir)?;
    let (instance, database) = database(backend.clone())?;
    database.entries()?;
    Ok((backend, instance, database))
}

/// Grows the database to so many entries, and measures.
fn at_length((ours, alone): (&Path, &Path), writer: &mut Writer, entries: u64) -> Result<Costs, Failed> {
    let twin = Arc::new(Twin::new(embedded(ours)?, embedded(alone)?));
    let mut costs = Vec::new();
    {
        let (_instance, database) = database(twin.clone())?;
        database.table::<Value>("notes").create_index("group")?;
        let (begin, from) = (Instant::now(), writer.written);
        while database.entries()? + 2 * SAMPLES < entries {
            writer.write(&database, Durability::Relaxed)?;
        }
        let grown = (writer.written - from) as f64 / begin.elapsed().as_secs_f64();
        line("grown", format!("to {entries} entries, {grown:.0}/s with the engine beside it"));
        costs.push(("commit", commits(&twin, &database, writer, Durability::Durable)?));
        costs.push(("commit, relaxed", commits(&twin, &database, writer, Durability::Relaxed)?));
        let table = database.table::<Value>("notes");
        let inserted = writer.inserted;
        let picked = |n: u64| u64::from_str_radix(&key(n), 16).unwrap_or_default() % inserted;
        let get = |n: u64| table.get(&key(picked(n))).map(|row| usize::from(row.is_some()));
        costs.push(("get", reads(&twin, 1, &|n| Ok(get(n)?))?));
        let found = |n: u64| {
            let full = picked(n).min(inserted - GROUP);
            let query = table.query().eq("group", group(full).as_str());
            query.rows().map(|rows| rows.len())
        };
        costs.push(("indexed query", reads(&twin, GROUP as usize, &|n| Ok(found(n)?))?));
    }
    {
        let instance = eid::blocking::Instance::build(eid::Instance::builder().backend(twin.clone()))?;
        let database = instance.database("bench")?.ok_or("the database is gone")?;
        let table = database.table::<Value>("notes");
        let inserted = writer.inserted;
        let picked = |n: u64| u64::from_str_radix(&key(n), 16).unwrap_or_default() % inserted;
        let get = |n: u64| table.get(&key(picked(n))).map(|row| usize::from(row.is_some()));
        costs.push(("get through the facade", reads(&twin, 1, &|n| Ok(get(n)?))?));
    }
    twin.close()?;
    drop(twin);
    costs.push(("open", openings(ours, alone)?));
    Ok(costs)
}

/// Commits one by one, each followed by the same batch on the engine alone.
fn commits(
    twin: &Twin,
    database: &Database,
    writer: &mut Writer,
    durability: Durability,
) -> Result<Cost, Failed> {
    let (mut took, mut rows) = (Vec::new(), 0usize);
    twin.hold_batches(true);
    for _ in 0..SAMPLES {
        let begin = Instant::now();
        writer.write(database, durability)?;
        let ours = begin.elapsed();
        let mut alone = Duration::ZERO;
        for batch in twin.take_batches() {
            rows += batch.puts.len() + batch.deletes.len();
            let begin = Instant::now();
            twin.alone().commit(batch)?;
            alone += begin.elapsed();
        }
        took.push((ours, alone));
    }
    twin.hold_batches(false);
    Ok(cost(&took, rows))
}

/// Reads, each followed by the same calls to the engine alone.
fn reads(twin: &Twin, expected: usize, read: &dyn Fn(u64) -> Result<usize, Failed>) -> Result<Cost, Failed> {
    let (mut took, mut rows) = (Vec::new(), 0usize);
    for n in 0..SAMPLES {
        let (found, calls) = twin.reads_of(|| read(n));
        if found? != expected {
            return Err("a read does not find what was written".into());
        }
        // Both find in their caches what they read just before.
        again(twin.alone(), &calls)?;
        let (mut ours, mut alone) = (Duration::MAX, Duration::MAX);
        for _ in 0..TURNS {
            let begin = Instant::now();
            read(n)?;
            ours = ours.min(begin.elapsed());
            let begin = Instant::now();
            rows += again(twin.alone(), &calls)?;
            alone = alone.min(begin.elapsed());
        }
        took.push((ours, alone));
    }
    Ok(cost(&took, rows / TURNS))
}

fn again(engine: &dyn Backend, calls: &[Read]) -> Result<usize, Failed> {
    let (snapshot, mut rows) = (engine.snapshot()?, 0);
    for call in calls {
        rows += match call {
            Read::Get(keys) => snapshot.get_many(keys)?.len(),
            Read::Scan(scans) => snapshot.scan_many(scans)?.iter().map(Vec::len).sum(),
        };
    }
    Ok(rows)
}

fn openings(ours_at: &Path, alone_at: &Path) -> Result<Cost, Failed> {
    let mut took = Vec::new();
    for _ in 0..OPENINGS {
        let begin = Instant::now();
        let (backend, instance, database) = open(ours_at)?;
        let ours = begin.elapsed();
        drop((instance, database));
        backend.close()?;
        let begin = Instant::now();
        let backend = embedded(alone_at)?;
        backend.snapshot()?;
        took.push((ours, begin.elapsed()));
        Backend::close(&*backend)?;
    }
    Ok(cost(&took, OPENINGS))
}

fn cost(took: &[(Duration, Duration)], rows: usize) -> Cost {
    let (mut ours, mut alone): (Vec<Duration>, Vec<Duration>) = took.iter().copied().unzip();
    let times = took.iter().map(|(ours, alone)| ours.as_secs_f64() / alone.as_secs_f64()).collect();
    Cost {
        ours: us(&mut ours),
        alone: us(&mut alone),
        times: middle(times),
        rows: rows as f64 / took.len() as f64,
    }
}

fn us(took: &mut [Duration]) -> f64 {
    median(took).as_secs_f64() * 1e6
}

fn fresh(dir: &Path) -> Result<Value, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    let said = command.arg("history-open").arg(dir).output()?;
    if !said.status.success() {
        return Err("the process that opens the history failed".into());
    }
    Ok(serde_json::from_slice(&said.stdout)?)
}

/// The child: opens the history and reads in it, and in old versions of it.
pub(crate) fn open_and_read(dir: &str) -> Result<(), Failed> {
    let before = memory("VmRSS:")?;
    let begin = Instant::now();
    let (_backend, instance, database) = open(Path::new(dir))?;
    let opened = begin.elapsed();
    let rss = memory("VmRSS:")?;
    let table = database.table::<Value>("notes");
    let mut took = Vec::new();
    for n in 0..SAMPLES {
        let begin = Instant::now();
        table.get(&key(n))?.ok_or("a row is gone")?;
        took.push(begin.elapsed());
    }
    let first = took[0];
    let snapshot = instance.store().tree(&database.id())?.ok_or("the database is gone")?;
    let entries = snapshot.count();
    let mut versions = Vec::new();
    for age in [1, 10, 1000, 10_000, 100_000, entries / 2, entries - 600] {
        if age + 2 < entries {
            let tip = snapshot.id_at(eid_core::dag::Seq(entries - 1 - age))?;
            let begin = Instant::now();
            let version = database.at(&[tip])?;
            let opened = begin.elapsed();
            let row = version.table::<Value>("notes").get(&key(1))?;
            let read = begin.elapsed() - opened;
            row.ok_or("a row is not in the old version")?;
            versions.push(json!({"age": age, "ms": ms(opened), "get_us": read.as_secs_f64() * 1e6}));
        }
    }
    let figures = json!({
        "open_ms": ms(opened),
        "rss_before_bytes": before,
        "rss_bytes": rss,
        "rss_with_versions_bytes": memory("VmRSS:")?,
        "get_first_us": first.as_secs_f64() * 1e6,
        "get_us": us(&mut took),
        "versions": versions,
    });
    println!("{figures}");
    Ok(())
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
