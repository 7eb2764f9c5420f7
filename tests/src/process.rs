//! Starting, watching and killing the program.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How long any one process may run.
const PROCESS_S_MAX: u64 = 300;
/// How often the memory of a process is looked at that ends by itself.
const MEMORY_POLL_MS: u64 = 5;
/// Ticks of `/proc/PID/stat` in a second, on every Linux that there is.
const TICKS_PER_SECOND: u64 = 100;

/// The program with one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Eid {
    program: PathBuf,
    data: PathBuf,
}

/// A transport over which a node is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Http,
    Quic,
    Iroh,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Http, Self::Quic, Self::Iroh];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Quic => "quic",
            Self::Iroh => "iroh",
        }
    }

    /// The socket in an address.
    pub(crate) fn socket(self, address: &str) -> &str {
        let before = match self {
            Self::Http => "http://",
            Self::Quic => "quic:",
            Self::Iroh => "?ip=",
        };
        address.split(before).nth(1).unwrap_or(address)
    }
}

/// What a process that ended left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) lines: Vec<Value>,
    pub(crate) errors: String,
    pub(crate) peak_mib: u64,
}

/// A line of output, and when it was read.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) value: Value,
}

/// A process that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: Receiver<(Instant, String)>,
    errors: PathBuf,
    peak_kib: Arc<AtomicU64>,
}

impl Eid {
    pub(crate) fn new(program: &Path, data: PathBuf) -> Self {
        Self { program: program.to_owned(), data }
    }

    /// Starts a command with `--json`.
    pub(crate) fn start(&self, args: &[&str]) -> Result<Running> {
        fs::create_dir_all(&self.data)?;
        let errors = self.data.with_extension(format!("{}.stderr", args[0]));
        let mut child = Command::new(&self.program)
            .args(["--json", "--data"])
            .arg(&self.data)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()?;
        let lines = read_lines(child.stdout.take().ok_or("the process has no output")?);
        Ok(Running { child, lines, errors, peak_kib: Arc::default() })
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Ended> {
        let running = self.start(args)?;
        watch_memory(running.child.id(), Arc::clone(&running.peak_kib));
        running.finish()
    }

    /// Runs a command that must succeed and gives the last line it printed.
    pub(crate) fn result(&self, args: &[&str]) -> Result<Value> {
        let ended = self.run(args)?;
        if ended.code != Some(0) {
            return Err(
                format!("eid {} ended with {:?}: {}", args.join(" "), ended.code, ended.errors).into()
            );
        }
        Ok(ended.lines.into_iter().last().unwrap_or(Value::Null))
    }

    /// Serves on this loopback socket and gives the process and its address.
    pub(crate) fn serve(&self, way: Way, socket: &str) -> Result<(Running, String)> {
        let iroh = format!("--iroh={socket}");
        let mut server = self.start(&match way {
            Way::Http => vec!["serve", "--http", socket],
            Way::Quic => vec!["serve", "--quic", socket],
            Way::Iroh => vec!["serve", &iroh, "--relay", "disabled"],
        })?;
        let ready = server.next_line()?.ok_or("the server ended before it was ready")?;
        let address = ready[way.name()].as_str().ok_or("the server gave no address")?.to_owned();
        Ok((server, address))
    }

    /// Serves the directory and lets nobody in: the node dials those whom it knows.
    pub(crate) fn serve_alone(&self, options: &[&str]) -> Result<Running> {
        let mut server = self.start(&[&["serve"], options].concat())?;
        server.next_line()?.ok_or("the node ended before it was ready")?;
        Ok(server)
    }
}

impl Running {
    /// The next line of output.
    pub(crate) fn next_line(&mut self) -> Result<Option<Value>> {
        Ok(match self.lines.recv() {
            Ok((_, line)) => Some(serde_json::from_str(&line)?),
            Err(_) => None,
        })
    }

    /// The next line of output, if one is read before the time is over. An error when there will be none.
    pub(crate) fn next_within(&mut self, time: Duration) -> Result<Option<Line>> {
        match self.lines.recv_timeout(time) {
            Ok((at, line)) => Ok(Some(Line { at, value: serde_json::from_str(&line)? })),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("a process ended early: {}", fs::read_to_string(&self.errors)?).into())
            }
        }
    }

    /// Reads on until a line is as wanted, and gives it. An error when none was in time.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        time: Duration,
        mut is_wanted: impl FnMut(&Line) -> bool,
    ) -> Result<Line> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_within(left)? {
                Some(line) if is_wanted(&line) => return Ok(line),
                Some(_) => {}
                None => return Err(format!("{what}: not within {} s", time.as_secs()).into()),
            }
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that was resident: so far, while it runs.
    pub(crate) fn peak_mib(&self) -> u64 {
        let now = memory_kib(self.pid(), "VmHWM:").unwrap_or(0);
        now.max(self.peak_kib.load(Ordering::Relaxed)) / 1024
    }

    /// The memory that is resident.
    pub(crate) fn resident_mib(&self) -> u64 {
        memory_kib(self.pid(), "VmRSS:").unwrap_or(0) / 1024
    }

    /// The time of processors that it has had, in hundredths of a second.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name of the program, in brackets, may have blanks; after it the 12th and 13th number.
        let numbers = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = numbers.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(self) -> Result<Ended> {
        signal("-TERM", &[self.pid()])?;
        self.finish()
    }

    /// kill -9, then everything it had printed.
    pub(crate) fn kill(mut self) -> Result<Vec<Value>> {
        self.child.kill()?;
        let lines = self.drain();
        self.child.wait()?;
        Ok(lines)
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Result<Ended> {
        let lines = self.drain();
        let started = Instant::now();
        let code = loop {
            match self.child.try_wait()? {
                Some(status) => break status.code(),
                None if started.elapsed() > Duration::from_secs(PROCESS_S_MAX) => {
                    self.child.kill()?;
                    return Err("a process did not end in time".into());
                }
                None => thread::park_timeout(Duration::from_millis(1)),
            }
        };
        Ok(Ended { code, lines, errors: fs::read_to_string(&self.errors)?, peak_mib: self.peak_mib() })
    }

    /// Lines up to the end of the output; the last one may be cut by a kill and is left out then.
    fn drain(&mut self) -> Vec<Value> {
        self.lines.iter().map_while(|(_, line)| serde_json::from_str(&line).ok()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Sends a signal to processes.
pub(crate) fn signal(name: &str, pids: &[u32]) -> Result<()> {
    let pids = pids.iter().map(u32::to_string);
    let status = Command::new("kill").arg(name).args(pids).status()?;
    if status.success() { Ok(()) } else { Err(format!("kill {name} ended with {status}").into()) }
}

/// Reads lines as they come, on a thread of its own, up to the end of the output.
fn read_lines(output: ChildStdout) -> Receiver<(Instant, String)> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    lines
}

/// A line of `/proc/PID/status`.
fn memory_kib(pid: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(what))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Follows the high-water mark of resident memory until the process is gone.
fn watch_memory(pid: u32, peak_kib: Arc<AtomicU64>) {
    thread::spawn(move || {
        while let Some(kib) = memory_kib(pid, "VmHWM:") {
            peak_kib.fetch_max(kib, Ordering::Relaxed);
            thread::park_timeout(Duration::from_millis(MEMORY_POLL_MS));
        }
    });
}
