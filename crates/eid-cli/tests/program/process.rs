//! The program as a process: started, read, bounded in time, killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// No process of a test runs longer.
const PROCESS_MAX: Duration = Duration::from_secs(90);

/// The program with a data directory of its own.
pub(crate) struct Eid {
    dir: PathBuf,
    _owned: Option<TempDir>,
}

/// What a process left behind.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// The last line of standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_else(|| panic!("no output; {}", self.err));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// All lines of standard output as JSON.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The error object on standard error.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let line = self.err.lines().last().unwrap_or_else(|| panic!("no error; {}", self.out));
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        value["error"].clone()
    }
}

impl Eid {
    pub(crate) fn new() -> Self {
        let owned = TempDir::new().expect("a temporary directory");
        Self { dir: owned.path().join("data"), _owned: Some(owned) }
    }

    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _owned: None }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eid"));
        command.arg("--data").arg(&self.dir).args(args);
        command.env_remove("EID_DATA").env_remove("EID_LOG").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let mut running = self.start(args);
        let mut out = String::new();
        running.output().read_to_string(&mut out).expect("output in UTF-8");
        running.finish(out)
    }

    /// Runs a command with this editor to its end.
    pub(crate) fn run_with_editor(&self, editor: &str, args: &[&str]) -> Done {
        let output = self.command(args).env_remove("VISUAL").env("EDITOR", editor).output();
        let output = output.expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("output in UTF-8");
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs a command to its end that finds this file on its descriptor 3.
    pub(crate) fn run_with_file_on_descriptor_3(&self, file: &Path, args: &[&str]) -> Done {
        let program = self.command(args);
        // A shell passes descriptors on; the standard library does not.
        let mut shell = Command::new("sh");
        shell.args(["-c", "file=$1; shift; exec \"$@\" 3< \"$file\"", "sh"]).arg(file);
        shell.arg(program.get_program()).args(program.get_args());
        shell.env_remove("EID_DATA").env_remove("EID_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
        let output = shell.output().expect("the shell starts");
        let text = |bytes| String::from_utf8(bytes).expect("output in UTF-8");
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs a command with `--json` that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Done {
        let done = self.run(&[args, &["--json"]].concat());
        assert_eq!(done.code, Some(0), "{args:?}: {}{}", done.out, done.err);
        done
    }

    /// Runs a command with `--json` that must fail with this exit code and this stable code.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], exit: i32, code: &str) -> Done {
        let done = self.run(&[args, &["--json"]].concat());
        assert_eq!(done.code, Some(exit), "{args:?}: {}{}", done.out, done.err);
        let error = done.error();
        assert_eq!(error["code"], code, "{args:?}: {error}");
        assert!(
            error["message"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n')),
            "{error}"
        );
        done
    }

    /// Starts a command.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("standard output"));
        let mut stderr = child.stderr.take().expect("standard error");
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("errors in UTF-8");
            text
        });
        let (ended, watch) = channel::<()>();
        let pid = child.id().to_string();
        std::thread::spawn(move || {
            if watch.recv_timeout(PROCESS_MAX) == Err(RecvTimeoutError::Timeout) {
                signal("-KILL", &pid);
            }
        });
        Running { child, out: Some(out), err: Some(err), _ended: ended }
    }

    /// Starts a node and waits until it is ready. Gives its address.
    pub(crate) fn serve(&self) -> (Running, String) {
        let (running, ready) = self.serve_with(&["--http", "127.0.0.1:0"]);
        let address = ready["http"].as_str().expect("an address").to_owned();
        (running, address)
    }

    /// Starts a node with these options and waits until it is ready. Gives what it said then.
    pub(crate) fn serve_with(&self, options: &[&str]) -> (Running, Value) {
        let mut running = self.start(&[&["serve", "--json"], options].concat());
        let ready = running.next_line();
        let ready: Value = serde_json::from_str(&ready.expect("a first line")).expect("JSON");
        assert_eq!(ready["event"], "ready");
        (running, ready)
    }
}

/// A process that has been started. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: Option<BufReader<ChildStdout>>,
    err: Option<JoinHandle<String>>,
    /// Tells the watchdog, by being dropped, that the process has ended.
    _ended: Sender<()>,
}

impl Running {
    pub(crate) fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output().read_line(&mut line).expect("output in UTF-8");
        (read > 0).then(|| line.trim_end().to_owned())
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, &self.child.id().to_string());
    }

    /// Kills it at once. Gives what it had written and nobody had read.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().expect("it can be killed");
        let mut rest = String::new();
        self.output().read_to_string(&mut rest).expect("output in UTF-8");
        rest
    }

    fn output(&mut self) -> &mut BufReader<ChildStdout> {
        self.out.as_mut().expect("its output is read")
    }

    /// Reads no more of its output, as `head` does when it has enough.
    pub(crate) fn close_output(&mut self) {
        self.out = None;
    }

    /// Waits for the end of a process whose output was closed.
    pub(crate) fn end(self) -> Done {
        self.finish(String::new())
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Done {
        let mut out = String::new();
        self.output().read_to_string(&mut out).expect("output in UTF-8");
        self.finish(out)
    }

    fn finish(mut self, out: String) -> Done {
        let err = self.err.take().expect("once").join().expect("the reader of errors");
        let code = self.child.wait().expect("it ends").code();
        Done { code, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn signal(name: &str, pid: &str) {
    let sent = Command::new("kill").args([name, pid]).status();
    assert!(sent.is_ok(), "kill is there");
}
