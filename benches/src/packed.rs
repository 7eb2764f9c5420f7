//! `packed`: how large batches become when they are compressed, and what that costs the processor, of entries as
//! applications write them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eid_core::TreeId;
use eid_core::dag::{Replica as _, Seq};
use eid_core::pack::Arrived;
use eid_db::{Database, Env, Instance};
use eid_proto::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX};
use eid_proto::message::Batch;
use eid_store::{Memory, Offer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::report::line;
use crate::sync::{Shape, Split, make};
use crate::text::{EDITS_PER_ENTRY, Patch, Trace};
use crate::work::{Failed, verify_all};

/// Entries of each kind, unless the data has fewer.
const ENTRIES: usize = 10_000;
/// How often each step is timed: the shortest counts.
const RUNS: usize = 3;

/// A row as an application keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Airport {
    iata: String,
    name: String,
    city: String,
    state: String,
    country: String,
    latitude: f64,
    longitude: f64,
}

/// A small document that changes often.
#[derive(Debug, Serialize, Deserialize)]
struct Todo {
    title: String,
    done: bool,
    list: String,
    created_ms: u64,
}

/// Measures and says so.
pub(crate) fn run(args: &[&str]) -> Result<(), Failed> {
    let (mut data, mut json, mut entries) = ("tests/data", false, ENTRIES);
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let mut value = || args.next().copied().ok_or(format!("{flag} takes a value"));
        match *flag {
            "--json" => json = true,
            "--data" => data = value()?,
            "--entries" => entries = value()?.parse()?,
            _ => return Err(format!("{flag} is unknown").into()),
        }
    }
    let data = Path::new(data);
    let trace = Trace::read(&data.join("traces/automerge-paper.json.gz"))?;
    let airports = airports(&data.join("airports.csv"))?;
    let airports = &airports[..airports.len().min(entries)];
    let text: Vec<char> = trace.end_content.chars().collect();
    let said = [
        measure(
            "values of 100 bytes of text",
            &written(|database| {
                let pieces = text.chunks(100).cycle().take(entries).enumerate();
                for (n, piece) in pieces {
                    let value: String = piece.iter().collect();
                    database.doc("notes").set(format!("note {n}").as_str(), value.as_str())?;
                }
                Ok(())
            })?,
        )?,
        measure("small rows, half of them updates", &written(|database| todos(database, &text, entries))?)?,
        measure(
            "rows of a table of airports",
            &written(|database| {
                let table = database.table::<Airport>("airports");
                airports.iter().try_for_each(|row| Ok(table.insert(row).map(drop)?))
            })?,
        )?,
        measure(
            "the same in an encrypted store",
            &written(|database| {
                let store = database.password_store("airports").create("a password for a bench")?;
                let table = store.table::<Airport>();
                airports.iter().try_for_each(|row| Ok(table.insert(row).map(drop)?))
            })?,
        )?,
        measure(
            "an editing session, 32 edits an entry",
            &written(|database| {
                let mut edit = database.text("text").edit()?;
                for edits in trace.edits().chunks(EDITS_PER_ENTRY).take(entries) {
                    for Patch(at, deleted, inserted) in edits {
                        edit.replace(*at..*at + *deleted, inserted)?;
                    }
                    edit.flush()?;
                }
                Ok(())
            })?,
        )?,
        measure("the history of jj, values of letters", &recorded(&data.join("dag-jj.tsv.gz"))?)?,
    ];
    if json {
        println!("{}", json!({ "packed": said }));
    }
    Ok(())
}

fn airports(file: &Path) -> Result<Vec<Airport>, Failed> {
    let mut rows = Vec::new();
    for row in std::fs::read_to_string(file)?.lines().skip(1).filter(|row| !row.contains('"')) {
        let mut fields = row.split(',').map(str::to_owned);
        let mut next = || fields.next().ok_or("a row that is too short");
        let (iata, name, city, state, country) = (next()?, next()?, next()?, next()?, next()?);
        let (latitude, longitude) = (next()?.parse()?, next()?.parse()?);
        rows.push(Airport { iata, name, city, state, country, latitude, longitude });
    }
    Ok(rows)
}

fn todos(database: &Database, text: &[char], entries: usize) -> Result<(), Failed> {
    let table = database.table::<Todo>("todos");
    for (n, piece) in text.chunks(24).cycle().take(entries / 2).enumerate() {
        let id = table.insert(&Todo {
            title: piece.iter().collect(),
            done: false,
            list: format!("list {}", n % 7),
            created_ms: 1_790_000_000_000 + n as u64 * 7919,
        })?;
        table.update(&id, |todo| todo.done = true)?;
    }
    Ok(())
}

/// The entries of a database.
struct Written {
    tree: TreeId,
    entries: Vec<Arrived>,
}

fn written(write: impl FnOnce(&Database) -> Result<(), Failed>) -> Result<Written, Failed> {
    let instance = Instance::open(Arc::new(Memory::new()), Env::system())?;
    let database = instance.create_database("bench")?.database;
    write(&database)?;
    read(&instance, database.id())
}

/// A history that was recorded elsewhere, as the bench of sessions makes it.
fn recorded(shape: &Path) -> Result<Written, Failed> {
    let dir = tempfile::tempdir()?;
    let shape = Shape::load(&shape.to_string_lossy(), Split::parse("equal")?)?;
    let made = make::make(&shape, dir.path(), false)?;
    read(&make::open(&dir.path().join("server"))?, made.tree)
}

fn read(instance: &Instance, tree: TreeId) -> Result<Written, Failed> {
    let snapshot = instance.store().tree(&tree)?.ok_or("the tree was just written")?;
    let (mut entries, mut from) = (Vec::new(), Seq(0));
    while from < snapshot.end() {
        for logged in snapshot.log(from..snapshot.end(), BATCH_BYTES_TARGET)? {
            from = Seq(logged.seq.0 + 1);
            entries.push(Arrived { block: logged.block, payloads: logged.payloads });
        }
    }
    Ok(Written { tree, entries })
}

fn measure(name: &str, written: &Written) -> Result<Value, Failed> {
    let batches: Vec<Batch> =
        written.batches().iter().map(|entries| Batch::pack(&written.tree, entries, 0)).collect();
    let (mut compressing, mut decompressing) = (Duration::MAX, Duration::MAX);
    let mut compressed = Vec::new();
    for _ in 0..RUNS {
        let begin = Instant::now();
        compressed = batches.iter().map(Batch::compress).collect();
        compressing = compressing.min(begin.elapsed());
        let begin = Instant::now();
        for (batch, plain) in compressed.iter().zip(&batches) {
            let Some(batch) = batch else { continue };
            if batch.decompress()?.entries.len() != plain.entries.len() {
                return Err("a batch became another".into());
            }
        }
        decompressing = decompressing.min(begin.elapsed());
    }
    let offer = |entry: &Arrived| Offer { block: entry.block.clone(), payloads: entry.payloads.clone() };
    let verifying = verify_all(&written.entries.iter().map(offer).collect::<Vec<_>>())? * 2;
    let plain: usize = batches.iter().map(|batch| batch.entries.len()).sum();
    let sent = batches.iter().zip(&compressed);
    let sent: usize = sent
        .map(|(plain, small)| small.as_ref().map_or(plain.entries.len(), |small| small.frame.len()))
        .sum();
    let count = written.entries.len();
    let each_us = |took: Duration| took.as_secs_f64() * 1e6 / count as f64;
    let (compress_us, decompress_us) = (each_us(compressing), each_us(decompressing));
    let (verify_us, ratio) = (each_us(verifying), sent as f64 / plain as f64);
    line(name, format!("{count} entries, {} B each", plain / count));
    line("  sent of that", format!("{ratio:.2}"));
    line("  compressing, decompressing an entry", format!("{compress_us:.2} us, {decompress_us:.2} us"));
    line("  beside verifying its signature", format!("{verify_us:.2} us"));
    Ok(json!({
        "data": name, "entries": count, "bytes": plain, "bytes_sent": sent, "ratio": ratio,
        "compress_us": compress_us, "decompress_us": decompress_us, "verify_us": verify_us,
    }))
}

impl Written {
    /// Cut as a sender does.
    fn batches(&self) -> Vec<&[Arrived]> {
        let (mut batches, mut from, mut bytes) = (Vec::new(), 0, 0);
        for (at, entry) in self.entries.iter().enumerate() {
            bytes += entry.bytes_len();
            if bytes >= BATCH_BYTES_TARGET || at + 1 - from >= BATCH_ENTRIES_MAX {
                batches.push(&self.entries[from..=at]);
                (from, bytes) = (at + 1, 0);
            }
        }
        batches.push(&self.entries[from..]);
        batches.retain(|batch| !batch.is_empty());
        batches
    }
}
