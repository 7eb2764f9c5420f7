//! The checks. Each gives what it measured and whether it holds.

mod crowd;
mod live;
mod node;
mod outage;
mod push;

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Eid, Result, Running, Way};
use crate::report;

pub(crate) use crowd::{crowd, idle};
pub(crate) use live::{chain, silent};
pub(crate) use outage::{offline, restart};
pub(crate) use push::push;

/// Peak resident memory that either side of a bootstrap may have.
const PEAK_MIB_MAX: u64 = 150;
/// What one cut connection may cost: the window of the protocol.
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// What to check, how big.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) eid: PathBuf,
    pub(crate) entries: u64,
    pub(crate) kills: u32,
    pub(crate) writes: u64,
    pub(crate) offline: u64,
    pub(crate) peers: usize,
    pub(crate) databases: usize,
    pub(crate) seed: u64,
    pub(crate) checks: Vec<String>,
}

/// What a check measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) holds: bool,
    pub(crate) figures: Value,
}

/// kill -9 during `table import`, at moments spread by the seed: the store opens, `verify` is clean, and every row
/// that was reported durable is there.
pub(crate) fn import(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let csv = write_rows(dir.path(), 0..60_000)?;
    let mut random = Random(plan.seed);
    let (mut lost, mut unclean, mut unopened, mut cut_short, mut reported) = (0, 0, 0, 0, 0);
    for round in 0..plan.kills {
        let eid = Eid::new(&plan.eid, dir.path().join(format!("import-{round}")));
        eid.result(&["db", "create", "rows"])?;
        let mut importing =
            eid.start(&["table", "import", "rows", "t", &csv, "--key", "key", "--batch", "20"])?;
        // Some kills before the first report, most after a random number of them.
        let mut durable = 0;
        for _ in 0..random.below(200) {
            match importing.next_line()? {
                Some(line) => durable = line["rows_durable"].as_u64().unwrap_or(durable),
                None => break,
            }
        }
        wait(Duration::from_micros(random.below(3_000)));
        for line in importing.kill()? {
            durable = line["rows_durable"].as_u64().unwrap_or(durable);
        }
        reported += durable;
        let Ok(shown) = eid.result(&["db", "show", "rows"]) else {
            unopened += 1;
            continue;
        };
        let rows = shown["stores"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|s| s["name"] == "t")
            .map_or(0, |s| s["rows"].as_u64().unwrap_or(0));
        cut_short += u32::from(rows < 60_000);
        lost += u32::from(rows < durable);
        unclean += u32::from(eid.run(&["verify"])?.code != Some(0));
        fs::remove_dir_all(dir.path().join(format!("import-{round}")))?;
        report(&format!("kill {}/{}: {durable} rows reported durable, {rows} there", round + 1, plan.kills));
    }
    let holds = lost == 0 && unclean == 0 && unopened == 0 && cut_short > 0;
    let figures = json!({ "kills": plan.kills, "killed_midway": cut_short, "rows_reported_durable": reported,
        "lost": lost, "unclean": unclean, "unopened": unopened });
    Ok(Outcome { holds, figures })
}

/// A bootstrap between two processes: complete, and within the memory bound on both sides.
pub(crate) fn bootstrap(plan: &Plan, proxy_dir: Option<&Path>) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let source = Source::new(plan, dir.path())?;
    let (server, url) = source.eid.serve(Way::Http, "127.0.0.1:0")?;
    let nginx = proxy_dir.map(|dir| Nginx::start(dir, &url)).transpose()?;
    let ticket = source.ticket(nginx.as_ref().map(|nginx| nginx.url.as_str()))?;
    let target = Eid::new(&plan.eid, dir.path().join("target"));
    let started = Instant::now();
    let joined = target.run(&["join", &ticket, "--wait", "280"])?;
    let seconds = started.elapsed().as_secs_f64();
    if joined.code != Some(0) {
        return Err(format!("join ended with {:?}: {}", joined.code, joined.errors).into());
    }
    let shown = target.result(&["db", "show", "rows"])?;
    let session = &joined.lines.last().ok_or("join printed nothing")?["session"];
    let entries = shown["entries"].as_u64().unwrap_or(0);
    // The invite is redeemed by one more entry at the source.
    let complete = entries > source.entries
        && shown["state_hash"] == source.eid.result(&["db", "show", "rows"])?["state_hash"];
    let holds = complete && joined.peak_mib < PEAK_MIB_MAX && server.peak_mib() < PEAK_MIB_MAX;
    let figures = json!({ "entries": entries, "complete": complete, "seconds": seconds,
        "entries_per_s": entries as f64 / seconds, "client_peak_mib": joined.peak_mib, "server_peak_mib": server.peak_mib(),
        "bytes_in": session["bytes_in"], "turns": session["turns"] });
    Ok(Outcome { holds, figures })
}

/// kill -9 of the client, then of the server, in the middle of a bootstrap, over every transport: what is held after the
/// kill and what the next run pulls are together at most everything plus one window.
pub(crate) fn resume(plan: &Plan) -> Result<Outcome> {
    let mut figures = Vec::new();
    let mut holds = true;
    let dir = TempDir::new()?;
    let source = Source::new(plan, dir.path())?;
    for way in Way::ALL {
        let target = |name: &str| Eid::new(&plan.eid, dir.path().join(format!("{}-{name}", way.name())));
        let (mut server, address) = source.eid.serve(way, "127.0.0.1:0")?;
        let whole = time_of_join(&source, target("undisturbed"))?;
        for victim in ["client", "server"] {
            // A join of other length than the undisturbed one may be over, or not have begun: another moment is tried then.
            let mut killed = None;
            for (moment, parts) in [3, 2, 4, 1].into_iter().enumerate() {
                let target = target(&format!("{victim}-{moment}"));
                let joining = target.start(&["join", &source.ticket(None)?, "--wait", "280"])?;
                wait(whole * parts / 6);
                let began = Instant::now();
                server = match interrupt(way, victim, joining, server)? {
                    Some(server) => server,
                    None => source.eid.serve(way, way.socket(&address))?.0,
                };
                let noticed_s = began.elapsed().as_secs_f64();
                let held = entries(&target).unwrap_or(0);
                if held > 0 && held < source.entries {
                    killed = Some((target, held, noticed_s));
                    break;
                }
                report(&format!("{}: {victim} killed too early or late, {held} held", way.name()));
            }
            let (target, held, noticed_s) = killed.ok_or("no kill was in the middle of a join")?;
            let synced = target.result(&["sync", "rows"])?;
            let pulled = synced["databases"][0]["pulled"].as_u64().unwrap_or(0);
            let shown = target.result(&["db", "show", "rows"])?;
            let total = shown["entries"].as_u64().unwrap_or(0);
            let window = WINDOW_BYTES * total / shown["bytes"].as_u64().unwrap_or(1).max(1);
            let clean = target.run(&["verify"])?.code == Some(0);
            holds &= total > source.entries && held + pulled <= total + window && clean;
            report(&format!("{}: {victim} killed, {held} held, {pulled} pulled then", way.name()));
            figures.push(json!({ "over": way.name(), "victim": victim, "held_after_kill": held,
                "pulled_next": pulled, "total": total, "window_entries": window, "clean": clean,
                "noticed_s": noticed_s }));
        }
        drop(server);
    }
    Ok(Outcome { holds, figures: Value::Array(figures) })
}

/// The bootstrap behind nginx with its default buffering.
pub(crate) fn proxy(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    bootstrap(plan, Some(dir.path()))
}

/// A database with one entry for each row of a CSV file.
struct Source {
    eid: Eid,
    entries: u64,
}

impl Source {
    fn new(plan: &Plan, dir: &Path) -> Result<Self> {
        let csv = write_rows(dir, 0..plan.entries)?;
        let eid = Eid::new(&plan.eid, dir.join("source"));
        eid.result(&["db", "create", "rows"])?;
        eid.result(&["table", "import", "rows", "t", &csv, "--key", "key", "--batch", "1"])?;
        let entries = eid.result(&["db", "show", "rows"])?["entries"].as_u64().unwrap_or(0);
        report(&format!("source has {entries} entries"));
        Ok(Self { eid, entries })
    }

    /// A ticket, with the address of a proxy instead of the node's own.
    fn ticket(&self, proxy: Option<&str>) -> Result<String> {
        let mut args = vec!["share", "rows", "--write"];
        args.extend(proxy.iter().flat_map(|proxy| ["--address", *proxy]));
        let shared = self.eid.result(&args)?;
        Ok(shared["ticket"].as_str().ok_or("share gave no ticket")?.to_owned())
    }
}

/// How long a join takes that nothing interrupts.
fn time_of_join(source: &Source, target: Eid) -> Result<Duration> {
    let ticket = source.ticket(None)?;
    let started = Instant::now();
    target.result(&["join", &ticket, "--wait", "280"])?;
    Ok(started.elapsed())
}

/// Kills one side of a join. Gives the server back if it lives.
fn interrupt(way: Way, victim: &str, mut joining: Running, server: Running) -> Result<Option<Running>> {
    if victim == "client" {
        joining.kill()?;
        return Ok(Some(server));
    }
    server.kill()?;
    if way != Way::Http {
        // Over UDP nothing but a minute of silence tells that it is gone: the client goes too.
        joining.kill()?;
        return Ok(None);
    }
    // The client notices and ends by itself, with an error, unless it was done.
    while joining.next_line()?.is_some() {}
    joining.finish()?;
    Ok(None)
}

/// How many entries of the database are held, if it is there.
fn entries(eid: &Eid) -> Result<u64> {
    Ok(eid.result(&["db", "show", "rows"])?["entries"].as_u64().unwrap_or(0))
}

fn write_rows(dir: &Path, rows: Range<u64>) -> Result<String> {
    let mut text = String::from("key,name,value\n");
    for row in rows {
        writeln!(text, "k{row:07},name of row {row},{}", row * 7919 % 100_003)?;
    }
    let path = dir.join("rows.csv");
    fs::write(&path, text)?;
    Ok(path.to_str().ok_or("the temporary directory has no name in UTF-8")?.to_owned())
}

/// nginx from the system, configured with nothing but where to listen and what is behind it.
struct Nginx {
    child: Child,
    url: String,
}

impl Nginx {
    fn start(dir: &Path, upstream: &str) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let place = dir.to_str().ok_or("the temporary directory has no name in UTF-8")?;
        let config = format!(
            "daemon off; worker_processes 1; pid {place}/nginx.pid; error_log {place}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
             fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {upstream}; }} }} }}\n"
        );
        let path = dir.join("nginx.conf");
        fs::write(&path, config)?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("nginx does not start ({error}); install the package nginx"))?;
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                return Err("nginx does not listen".into());
            }
            wait(Duration::from_millis(10));
        }
        Ok(Self { child, url: format!("http://127.0.0.1:{port}") })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Workers end with their master only when it is told to stop.
        let pid = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.child.wait());
    }
}

fn wait(duration: Duration) {
    let started = Instant::now();
    while let Some(left) = duration.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// SplitMix64: the same moments for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
