//! A long history in a process of its own, so that its memory can be measured and it can be killed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use eid_db::{Env, Instance};
use serde_json::{Value, json};

use crate::report::{median, p99};
use crate::work::{Failed, database, embedded, set};

/// Commits after which a process lingers until it is killed: nearly one full log.
const LINGER_COMMITS: u64 = 2000;

/// The child: commits so many entries, one by one, and tells how long the first and the last hundredth took.
pub(crate) fn write(dir: &str, entries: &str) -> Result<(), Failed> {
    let entries: u64 = entries.parse()?;
    let backend = embedded(Path::new(dir))?;
    let (_instance, database) = database(backend.clone())?;
    let mut took = Vec::with_capacity(usize::try_from(entries)?);
    for n in 0..entries {
        let begin = Instant::now();
        set(&database, n)?;
        took.push(begin.elapsed());
    }
    let hundredth = (took.len() / 100).max(1);
    let (mut first, mut last) = (took[..hundredth].to_vec(), took[took.len() - hundredth..].to_vec());
    let seconds: f64 = took.iter().map(Duration::as_secs_f64).sum();
    let (rss, peak) = (memory("VmRSS:")?, memory("VmHWM:")?);
    eid_store::Backend::close(&*backend)?;
    println!(
        "{}",
        json!({
            "commits_per_s": entries as f64 / seconds,
            "first_median_us": median(&mut first).as_secs_f64() * 1e6,
            "first_p99_us": p99(&mut first).as_secs_f64() * 1e6,
            "last_median_us": median(&mut last).as_secs_f64() * 1e6,
            "last_p99_us": p99(&mut last).as_secs_f64() * 1e6,
            "rss_bytes": rss,
            "rss_peak_bytes": peak,
        })
    );
    Ok(())
}

/// The child that is killed: commits, says so, and waits.
pub(crate) fn linger(dir: &str, entries: &str) -> Result<(), Failed> {
    let entries: u64 = entries.parse()?;
    let (_instance, database) = database(embedded(Path::new(dir))?)?;
    for n in 0..LINGER_COMMITS {
        set(&database, entries + n)?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

fn child(verb: &str, dir: &Path, entries: u64) -> Result<Child, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(verb).arg(dir).arg(entries.to_string()).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// What a history costs.
pub(crate) struct History {
    pub child: Value,
    pub open_clean: Duration,
    pub open_killed: Duration,
    pub disk_bytes: u64,
    pub entry_bytes: u64,
    pub entries: u64,
}

/// Writes a history in a child, opens it, kills a second child in the middle of it, and opens it again.
pub(crate) fn measure(dir: &Path, entries: u64) -> Result<History, Failed> {
    let written = child("write-history", dir, entries)?.wait_with_output()?;
    if !written.status.success() {
        return Err("the process that writes a history failed".into());
    }
    let child_says = serde_json::from_slice(&written.stdout)?;
    let (open_clean, held, entry_bytes) = open(dir)?;
    let disk_bytes = size(dir)?;
    let mut lingering = child("linger", dir, entries)?;
    let mut line = String::new();
    if let Some(out) = lingering.stdout.take() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
    }
    lingering.kill()?;
    lingering.wait()?;
    if line != "ready\n" {
        return Err("the process that is to be killed failed before".into());
    }
    let (open_killed, after, _) = open(dir)?;
    if after != held + LINGER_COMMITS {
        return Err(
            format!("{after} entries after kill -9, {} were acknowledged", held + LINGER_COMMITS).into()
        );
    }
    Ok(History { child: child_says, open_clean, open_killed, disk_bytes, entry_bytes, entries: held })
}

/// Opens an instance and its database: how long that took, entries held and their bytes.
fn open(dir: &Path) -> Result<(Duration, u64, u64), Failed> {
    let begin = Instant::now();
    let backend = embedded(dir)?;
    let instance = Instance::open(backend.clone(), Env::system())?;
    let database = instance.database("bench")?.ok_or("the database is gone")?;
    let entries = database.entries()?;
    let elapsed = begin.elapsed();
    let bytes = database.bytes()?;
    eid_store::Backend::close(&*backend)?;
    Ok((elapsed, entries, bytes))
}

/// Bytes that the files take on disk.
pub(crate) fn size(dir: &Path) -> Result<u64, Failed> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// A line of this process's memory, in bytes.
pub(crate) fn memory(name: &str) -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
