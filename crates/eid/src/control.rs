//! The control socket: a program that owns a data directory runs the commands of others for them.
//!
//! The owner calls [`serve`] with what runs commands (the crate `eid-cli` has it); whoever meets a directory that
//! is owned calls [`send`]. The socket lies in the data directory, or under the runtime directory when its path
//! would be too long, and only the owner's user may open it. A request is one line of JSON, the answer one line
//! per frame.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::instance::Instance;
use crate::limits::{
    CONTROL_COMMANDS_MAX, CONTROL_PATH_BYTES_MAX, CONTROL_REQUEST_BYTES_MAX, CONTROL_REQUEST_WAIT,
    CONTROL_WRITE_WAIT,
};

/// What is known of whoever reads the output of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reader {
    /// Whether standard output is a terminal.
    pub out_is_terminal: bool,
    /// Whether colour is welcome.
    pub colour: bool,
}

/// A command that another process wants to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its command line, the program's name first.
    pub argv: Vec<String>,
    /// Where relative paths begin.
    pub cwd: PathBuf,
    /// Who reads the output.
    pub reader: Reader,
    /// Passwords that it takes, in their order.
    #[serde(default)]
    pub passwords: Vec<Secret>,
}

/// A password on its way to a command. It is wiped when it is dropped, and nothing shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps a password. An empty one is none.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The password, if it is one.
    #[must_use]
    pub fn as_password(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// For standard output, without the line end.
    Out(String),
    /// For standard error, without the line end.
    Err(String),
    /// How far the command is.
    Progress {
        /// What is counted.
        label: String,
        /// How much is done.
        done: u64,
        /// Of how much; 0 when that is not known.
        total: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Accepted,
    Frame(Frame),
    Exit(u8),
}

/// Runs commands on an instance.
pub trait Commands: Send + Sync + 'static {
    /// Runs one command to its end and gives its exit code. Called on a thread that may block.
    fn run(&self, node: &Instance, request: Request, reply: &Reply) -> u8;
}

/// The way back to whoever sent a command.
#[derive(Debug, Clone)]
pub struct Reply {
    stream: Arc<Mutex<UnixStream>>,
}

impl Reply {
    /// Sends a piece of output; waits for a reader that is slow, and gives up on one that has stopped.
    ///
    /// # Errors
    /// When the other side has gone.
    pub fn send(&self, frame: Frame) -> std::io::Result<()> {
        self.write(&Message::Frame(frame))
    }

    fn write(&self, message: &Message) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

/// What became of a command that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nobody serves this directory; nothing was run.
    NobodyThere,
    /// It ran and ended with this exit code.
    Exit(u8),
    /// The owner took it and ended before the command did.
    Interrupted,
    /// Whoever took its output wanted no more; the owner ends it with its next piece of output.
    LetGo,
}

/// Has the owner of `dir` run a command, and hands on its output for as long as `on_frame` wants more.
///
/// # Errors
/// When the socket is not the directory owner's.
pub fn send(
    dir: &Path,
    request: &Request,
    mut on_frame: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Sent, Error> {
    let path = socket_path(dir);
    let Ok(found) = fs::symlink_metadata(&path) else { return Ok(Sent::NobodyThere) };
    let owner = fs::metadata(dir).map_err(|cause| Error::io("cannot read the data directory", cause))?.uid();
    if found.uid() != owner {
        return Err(Error::new(ErrorKind::Io, format!("{} belongs to another user", path.display())));
    }
    let Ok(mut stream) = UnixStream::connect(&path) else { return Ok(Sent::NobodyThere) };
    let line = serde_json::to_vec(request)
        .map_err(|cause| Error::caused(ErrorKind::Io, "cannot send the command", cause))?;
    // It may hold passwords.
    let line = Zeroizing::new(line);
    if stream.write_all(&line).and_then(|()| stream.write_all(b"\n")).is_err() {
        return Ok(Sent::NobodyThere);
    }
    let mut accepted = false;
    for line in BufReader::new(stream).lines() {
        let message = line.ok().and_then(|line| serde_json::from_str(&line).ok());
        match message {
            Some(Message::Accepted) => accepted = true,
            Some(Message::Frame(frame)) => {
                if on_frame(frame).is_break() {
                    return Ok(Sent::LetGo);
                }
            }
            Some(Message::Exit(code)) => return Ok(Sent::Exit(code)),
            None => break,
        }
    }
    Ok(if accepted { Sent::Interrupted } else { Sent::NobodyThere })
}

/// Whether somebody serves the control socket of this directory.
#[must_use]
pub fn is_served(dir: &Path) -> bool {
    UnixStream::connect(socket_path(dir)).is_ok()
}

/// A control socket that is served, until [`Control::stop`].
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<JoinSet<()>>,
    /// Held as long as the socket is served.
    _lock: File,
}

impl Control {
    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes no further commands and waits for those that run, but not longer than `wait`.
    pub async fn stop(self, wait: Duration) {
        self.stop.send_replace(true);
        if let Ok(mut running) = self.accepting.await {
            let all = async { while running.join_next().await.is_some() {} };
            if tokio::time::timeout(wait, all).await.is_err() {
                tracing::warn!("commands were still running when the control socket closed");
            }
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was gone already");
        }
    }
}

/// Serves the control socket of `dir`.
///
/// # Errors
/// [`ErrorKind::Locked`] when another process serves it.
pub fn serve(node: &Instance, dir: &Path, commands: Arc<dyn Commands>) -> Result<Control, Error> {
    let io = |cause| Error::io("cannot make the control socket", cause);
    fs::create_dir_all(dir).map_err(io)?;
    let lock = File::create(dir.join("control.lock")).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let what = format!("another node serves {} already", dir.display());
            return Err(Error::new(ErrorKind::Locked, what));
        }
        Err(TryLockError::Error(cause)) => return Err(io(cause)),
    }
    let path = socket_path(dir);
    let listener = bind_private(&path).map_err(io)?;
    let (stop, stopped) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, node.clone(), commands, stopped));
    Ok(Control { path, stop, accepting, _lock: lock })
}

/// Binds under another name first, so that nobody can connect before the permissions are set.
fn bind_private(path: &Path) -> std::io::Result<tokio::net::UnixListener> {
    let early = path.with_extension("s");
    match fs::remove_file(&early) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(&early)?;
    fs::set_permissions(&early, fs::Permissions::from_mode(0o600))?;
    fs::rename(&early, path)?;
    Ok(listener)
}

async fn accept(
    listener: tokio::net::UnixListener,
    node: Instance,
    commands: Arc<dyn Commands>,
    mut stopped: watch::Receiver<bool>,
) -> JoinSet<()> {
    let slots = Arc::new(Semaphore::new(CONTROL_COMMANDS_MAX));
    let mut running = JoinSet::new();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.wait_for(|stopped| *stopped) => return running,
        };
        while running.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (node, commands) = (node.clone(), commands.clone());
                running.spawn_blocking(move || {
                    if let Err(error) = stream.into_std().and_then(|stream| answer(stream, &node, &*commands))
                    {
                        tracing::debug!(%error, "a control connection ended early");
                    }
                    drop(slot);
                });
            }
            Err(error) => tracing::warn!(%error, "a control connection was not accepted"),
        }
    }
}

fn answer(stream: UnixStream, node: &Instance, commands: &dyn Commands) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CONTROL_REQUEST_WAIT))?;
    stream.set_write_timeout(Some(CONTROL_WRITE_WAIT))?;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(stream.try_clone()?.take(CONTROL_REQUEST_BYTES_MAX)).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let reply = Reply { stream: Arc::new(Mutex::new(stream)) };
    reply.write(&Message::Accepted)?;
    let code = commands.run(node, request, &reply);
    reply.write(&Message::Exit(code))
}

/// In the directory, or under the runtime directory when the path is too long for a socket.
fn socket_path(dir: &Path) -> PathBuf {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let inside = dir.join("control.sock");
    if inside.as_os_str().len() <= CONTROL_PATH_BYTES_MAX {
        return inside;
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let name = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    runtime.join(format!("eid-{}.sock", &name[..32]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_no_password_and_carries_it() {
        let passwords = vec![Secret::new("correct horse"), Secret::new("")];
        let request =
            Request { argv: vec!["eid".into()], cwd: "/".into(), reader: Reader::default(), passwords };
        assert!(!format!("{request:?}").contains("correct"));
        let sent: Request = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
        assert_eq!(sent, request);
        let given: Vec<_> = sent.passwords.iter().map(Secret::as_password).collect();
        assert_eq!(given, [Some("correct horse"), None]);
    }
}
