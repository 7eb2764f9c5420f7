//! Starting, watching and killing the program.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How long any one process may run.
const PROCESS_S_MAX: u64 = 300;
/// How often the memory of a process is looked at.
const MEMORY_POLL_MS: u64 = 5;

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

/// A process that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
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
        let lines = BufReader::new(child.stdout.take().ok_or("the process has no output")?).lines();
        let peak_kib = Arc::new(AtomicU64::new(0));
        watch_memory(child.id(), Arc::clone(&peak_kib));
        Ok(Running { child, lines, errors, peak_kib })
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Ended> {
        self.start(args)?.finish()
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
}

impl Running {
    /// The next line of output.
    pub(crate) fn next_line(&mut self) -> Result<Option<Value>> {
        Ok(match self.lines.next() {
            Some(line) => Some(serde_json::from_str(&line?)?),
            None => None,
        })
    }

    pub(crate) fn peak_mib(&self) -> u64 {
        self.peak_kib.load(Ordering::Relaxed) / 1024
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
        self.lines
            .by_ref()
            .map_while(std::io::Result::ok)
            .map_while(|line| serde_json::from_str(&line).ok())
            .collect()
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

/// Follows the high-water mark of resident memory until the process is gone.
fn watch_memory(pid: u32, peak_kib: Arc<AtomicU64>) {
    thread::spawn(move || {
        while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:")) else { break };
            if let Some(kib) = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()) {
                peak_kib.fetch_max(kib, Ordering::Relaxed);
            }
            thread::park_timeout(Duration::from_millis(MEMORY_POLL_MS));
        }
    });
}
