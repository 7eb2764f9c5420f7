//! `store`: commits, bulk admission, a long history, opening, memory and disk.

use std::sync::Arc;

use eid_db::{Env, Instance};
use serde_json::{Value, json};

use crate::history;
use crate::recorder::Recorder;
use crate::report::{line, middle};
use crate::work::{
    Failed, admit, commits, database, embedded, foreign, per_second, raw, sign_and_verify, verify_all,
};

/// Commits of one run of one writer, and of many.
const COMMITS: u64 = 320;
/// Runs of commits: short and many, since whole path and engine take turns on a disk that others use too. The
/// middle ratio counts.
const COMMIT_ROUNDS: u64 = 21;
/// Runs of a bulk.
const BULK_ROUNDS: u64 = 3;
const WRITERS: u64 = 16;

pub(crate) fn run(flags: &[&str]) -> Result<(), Failed> {
    let mut entries = 100_000u64;
    let (mut as_json, mut only) = (false, None);
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match *flag {
            "--json" => as_json = true,
            "--only" => only = Some(*flags.next().ok_or("--only needs a name")?),
            "--entries" => entries = flags.next().ok_or("--entries needs a number")?.parse()?,
            other => return Err(format!("{other}: not known here").into()),
        }
    }
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut figures = serde_json::Map::new();
    if wanted("one_writer") {
        figures.insert("one_writer".into(), writers(1)?);
    }
    if wanted("writers_16") {
        figures.insert("writers_16".into(), writers(WRITERS)?);
    }
    if wanted("bulk") {
        figures.insert("bulk".into(), bulk(entries)?);
    }
    if wanted("history") {
        let dir = tempfile::tempdir()?;
        figures.insert("history".into(), long(&history::measure(dir.path(), entries)?));
    }
    if as_json {
        println!("{}", Value::Object(figures));
    }
    Ok(())
}

fn writers(writers: u64) -> Result<Value, Failed> {
    let dir = tempfile::tempdir()?;
    let recorder = Arc::new(Recorder::new(embedded(dir.path())?));
    let (_instance, database) = database(recorder.clone())?;
    let alone = tempfile::tempdir()?;
    let alone = embedded(alone.path())?;
    // The first writes make the store and warm the caches.
    commits(&database, 0, 200, 1)?;
    raw(&alone, recorder.take(), 1)?;
    let (mut whole, mut engine, mut engine_grouped, mut ratios) = (vec![], vec![], vec![], vec![]);
    let mut group = vec![];
    let writers_usize = usize::try_from(writers)?;
    for round in 0..COMMIT_ROUNDS {
        let from = 1000 + round * COMMITS;
        let ours = per_second(COMMITS, commits(&database, from, COMMITS, writers)?);
        let batches = recorder.take();
        group.push(COMMITS as f64 / batches.len() as f64);
        // The groups as they were committed, by one writer; and as many single commits by as many writers.
        let groups = batches.len();
        let grouped = raw(&alone, batches, 1)?;
        engine_grouped.push(COMMITS as f64 / grouped.as_secs_f64());
        let theirs = if writers == 1 {
            per_second(groups as u64, grouped)
        } else {
            commits(&database, from + 100_000, COMMITS, 1)?;
            let singles = recorder.take();
            per_second(singles.len() as u64, raw(&alone, singles, writers_usize)?)
        };
        whole.push(ours);
        engine.push(theirs);
        ratios.push(ours / theirs);
    }
    let signatures = per_second(2000, sign_and_verify(2000)?);
    let (whole, engine, ratio) = (middle(whole), middle(engine), middle(ratios));
    let (engine_grouped, group) = (middle(engine_grouped), middle(group));
    let name = if writers == 1 { "1 writer".to_owned() } else { format!("{writers} writers") };
    line(&format!("durable commits, {name}"), format!("{whole:.0}/s"));
    line("  the engine alone, same rows", format!("{engine:.0}/s, ratio {ratio:.2}"));
    if writers > 1 {
        line("  entries in one batch", format!("{group:.1}"));
        line(
            "  the engine alone, same batches",
            format!("{engine_grouped:.0} entries/s, ratio {:.2}", whole / engine_grouped),
        );
    }
    line(
        "  sign and verify alone, one thread",
        format!("{signatures:.0}/s, ratio {:.2}", whole / signatures),
    );
    Ok(json!({
        "commits_per_s": whole,
        "engine_commits_per_s": engine,
        "ratio_to_engine": ratio,
        "entries_per_batch": group,
        "engine_same_batches_entries_per_s": engine_grouped,
        "ratio_to_engine_same_batches": whole / engine_grouped,
        "signatures_per_s": signatures,
        "ratio_to_signatures": whole / signatures,
    }))
}

fn bulk(entries: u64) -> Result<Value, Failed> {
    let foreign = foreign(entries)?;
    let count = foreign.offers.len() as u64;
    let (mut whole, mut engine, mut limit) = (vec![], vec![], vec![]);
    for _ in 0..BULK_ROUNDS {
        let dir = tempfile::tempdir()?;
        let instance = Instance::open(embedded(dir.path())?, Env::system())?;
        whole.push(per_second(count, admit(instance.store(), &foreign)?));
        limit.push(per_second(count, verify_all(&foreign.offers)?));
    }
    // Recorded apart: keeping copies is not what is measured.
    let dir = tempfile::tempdir()?;
    let recorder = Arc::new(Recorder::new(embedded(dir.path())?));
    let instance = Instance::open(recorder.clone(), Env::system())?;
    recorder.take();
    admit(instance.store(), &foreign)?;
    let batches = recorder.take();
    for _ in 0..BULK_ROUNDS {
        let dir = tempfile::tempdir()?;
        engine.push(per_second(count, raw(&*embedded(dir.path())?, batches.clone(), 1)?));
    }
    let (whole, engine, limit) = (middle(whole), middle(engine), middle(limit));
    line(&format!("bulk admission of {count} foreign entries"), format!("{whole:.0}/s"));
    line("  the engine alone, same batches", format!("{engine:.0}/s, ratio {:.2}", whole / engine));
    line("  signatures alone, two threads", format!("{limit:.0}/s, ratio {:.2}", whole / limit));
    line("  bytes of an entry", format!("{:.0}", foreign.bytes as f64 / count as f64));
    Ok(json!({
        "entries": count,
        "entries_per_s": whole,
        "engine_entries_per_s": engine,
        "ratio_to_engine": whole / engine,
        "signatures_per_s": limit,
        "ratio_to_signatures": whole / limit,
        "bytes_per_entry": foreign.bytes as f64 / count as f64,
    }))
}

fn long(history: &history::History) -> Value {
    let get = |name: &str| history.child[name].as_f64().unwrap_or(f64::NAN);
    let median = get("last_median_us") / get("first_median_us");
    let p99 = get("last_p99_us") / get("first_p99_us");
    let per_entry = history.disk_bytes as f64 / history.entries as f64;
    line(&format!("history of {} commits", history.entries), format!("{:.0}/s", get("commits_per_s")));
    line(
        "  first 1 %: median, p99",
        format!("{:.0} us, {:.0} us", get("first_median_us"), get("first_p99_us")),
    );
    line("  last 1 %: median, p99", format!("{:.0} us, {:.0} us", get("last_median_us"), get("last_p99_us")));
    line("  last to first: median, p99", format!("{median:.2}, {p99:.2}"));
    line(
        "  resident memory, at the end and peak",
        format!(
            "{:.1} MiB, {:.1} MiB",
            get("rss_bytes") / f64::from(1 << 20),
            get("rss_peak_bytes") / f64::from(1 << 20)
        ),
    );
    line(
        "  on disk for an entry",
        format!(
            "{per_entry:.0} bytes ({:.0} of block and payload)",
            history.entry_bytes as f64 / history.entries as f64
        ),
    );
    line("open after a clean close", format!("{:.1} ms", history.open_clean.as_secs_f64() * 1e3));
    line("open after kill -9", format!("{:.1} ms", history.open_killed.as_secs_f64() * 1e3));
    let mut figures = history.child.clone();
    figures["last_to_first_median"] = json!(median);
    figures["last_to_first_p99"] = json!(p99);
    figures["entries"] = json!(history.entries);
    figures["disk_bytes_per_entry"] = json!(per_entry);
    figures["open_clean_ms"] = json!(history.open_clean.as_secs_f64() * 1e3);
    figures["open_killed_ms"] = json!(history.open_killed.as_secs_f64() * 1e3);
    figures
}
