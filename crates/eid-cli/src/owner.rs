//! Who owns a data directory: a running node, which is asked to run the command, or nobody, then this process does.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use eid::control::{self, Request, Secret, Sent};
use eid::{ErrorKind, Instance};

use crate::args::{BackendUrl, Global};
use crate::failure::{Exit, Failure};
use crate::limits::{OWNER_POLL, OWNER_WAIT};
use crate::output::{Gone, Out, Terminal};

/// Where an instance lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its directory, in which the control socket lies.
    pub data: PathBuf,
    /// Where its bytes rest, if not in that directory.
    pub backend: Option<BackendUrl>,
}

impl Place {
    /// What the global options say, or the platform's directory for data.
    ///
    /// # Errors
    /// When neither `--data` nor a home directory is known.
    pub fn of(global: &Global) -> Result<Self, Failure> {
        let data = match &global.data {
            Some(data) => data.clone(),
            None => default_data().ok_or_else(|| {
                Failure::usage("there is no home directory to keep data in")
                    .hint("name a directory with --data DIR")
            })?,
        };
        let data = std::path::absolute(&data)
            .map_err(|cause| Failure::io(format!("cannot use {}", data.display()), &cause))?;
        Ok(Self { data, backend: global.store.clone() })
    }

    /// Opens the instance in this process.
    ///
    /// # Errors
    /// Whatever the store says; [`ErrorKind::Locked`] when another process has it open.
    pub async fn open(&self) -> Result<Instance, eid::Error> {
        match &self.backend {
            Some(BackendUrl::Memory) => Instance::builder().memory().open().await,
            Some(BackendUrl::File(dir)) => Instance::open(dir).await,
            None => Instance::open(&self.data).await,
        }
    }
}

fn default_data() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(dir) = absolute("XDG_DATA_HOME") {
        return Some(dir.join("eid"));
    }
    let home = absolute("HOME")?;
    Some(if cfg!(target_os = "macos") {
        home.join("Library/Application Support/eid")
    } else {
        home.join(".local/share/eid")
    })
}

/// What became of a command.
#[derive(Debug)]
pub enum Taken {
    /// The owner of the directory ran it.
    Ran(u8),
    /// This process owns the directory now and has to run it.
    Ours(Instance),
}

/// The request that another process would be sent.
///
/// # Errors
/// When an argument is not Unicode.
pub fn request(
    argv: Vec<OsString>,
    cwd: &Path,
    passwords: Vec<Secret>,
    _out: &Out,
) -> Result<Request, Failure> {
    let argv: Result<Vec<String>, OsString> = argv.into_iter().map(OsString::into_string).collect();
    let argv =
        argv.map_err(|arg| Failure::usage(format!("the argument {} is not Unicode", arg.to_string_lossy())))?;
    Ok(Request { argv, cwd: cwd.to_owned(), reader: Terminal::reader(), passwords })
}

/// Has the owner run the command, or becomes the owner. Waits for another one-shot command to end, up to 10 s.
///
/// # Errors
/// When the directory stays taken, cannot be opened, or its owner ended in the middle.
pub async fn take(place: &Place, request: &Request, out: &Out) -> Result<Taken, Failure> {
    let deadline = Instant::now() + OWNER_WAIT;
    loop {
        if let Some(code) = ask(place, request, out).await? {
            return Ok(Taken::Ran(code));
        }
        match place.open().await {
            Ok(node) => return Ok(Taken::Ours(node)),
            Err(error) if error.kind() == ErrorKind::Locked && Instant::now() < deadline => {
                tokio::time::sleep(OWNER_POLL).await;
            }
            Err(error) => return Err(Failure::beyond_repair(error)),
        }
    }
}

async fn ask(place: &Place, request: &Request, out: &Out) -> Result<Option<u8>, Failure> {
    if place.backend == Some(BackendUrl::Memory) {
        return Ok(None);
    }
    let (dir, request, out) = (place.data.clone(), request.clone(), out.clone());
    let sent = tokio::task::spawn_blocking(move || {
        control::send(&dir, &request, |frame| match out.put(frame) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Gone) => ControlFlow::Break(()),
        })
    });
    let sent = sent.await.map_err(|_| Failure::new(Exit::Failed, "failed", "the command was cut off"))?;
    match sent? {
        Sent::LetGo => Err(Gone.into()),
        Sent::NobodyThere => Ok(None),
        Sent::Exit(code) => Ok(Some(code)),
        Sent::Interrupted => Err(Failure::new(
            Exit::Failed,
            "interrupted",
            "the node that owns the data directory ended before the command did",
        )
        .hint("run it again")),
    }
}
