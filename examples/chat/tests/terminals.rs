//! Two people in two terminals: what one types the other sees, also after both were away.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// For whatever has to happen at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a message that goes over what is there.
const SOON: Duration = Duration::from_secs(1);
const CHAT: &str = env!("CARGO_BIN_EXE_chat");

/// A terminal without a person, on a server of its own.
struct Terminal {
    socket: String,
    /// Something was written on the screen.
    drawn: Receiver<()>,
    ended: PathBuf,
}

fn done(mut command: Command) -> Output {
    let output = command.output().expect("the command is there (Debian: tmux)");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Terminal {
    fn start(dir: &Path, name: &str, args: &[&str]) -> Self {
        let unique = dir.file_name().expect("it has a name").to_string_lossy().into_owned();
        let (socket, fifo) = (format!("chat{unique}{name}"), dir.join(format!("{name}.drawn")));
        let ended = dir.join(format!("{name}.ended"));
        for left in [&fifo, &ended] {
            if left.exists() {
                std::fs::remove_file(left).expect("it is of the last life");
            }
        }
        let mut make = Command::new("mkfifo");
        make.arg(&fifo);
        done(make);
        // Begins when it is listened to, so that nothing is missed.
        let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("read go; {CHAT} {}; echo $? > {}", quoted.join(" "), ended.display());
        let mut begin = Command::new("tmux");
        begin.args(["-L", &socket, "-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "45"]);
        begin.args(["sh", "-c", &line]);
        done(begin);
        let (draws, drawn) = channel();
        let this = Self { socket, drawn, ended };
        this.tmux(&["pipe-pane", "-o", &format!("cat > {}", fifo.display())]);
        std::thread::spawn(move || {
            let mut fifo = File::open(fifo).expect("it was made");
            let mut some = [0; 4096];
            while fifo.read(&mut some).is_ok_and(|bytes| bytes > 0) {
                if draws.send(()).is_err() {
                    return;
                }
            }
        });
        this.press("Enter");
        this
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(args);
        String::from_utf8_lossy(&done(command).stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn say(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.press("Enter");
    }

    /// Waits until the screen shows a text. Gives how long that took.
    fn sees(&self, text: &str) -> Duration {
        let begin = Instant::now();
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if screen.contains(text) {
                return begin.elapsed();
            }
            let left = PATIENCE.saturating_sub(begin.elapsed());
            assert!(self.drawn.recv_timeout(left).is_ok(), "`{text}` is not shown:\n{screen}");
        }
    }

    /// Leaves, and waits for the end.
    fn leave(self, key: &str) {
        self.press(key);
        loop {
            match self.drawn.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it does not end:\n{}", self.tmux(&["capture-pane", "-p"]))
                }
            }
        }
        let status = std::fs::read_to_string(&self.ended).expect("it has said how it ended");
        assert_eq!(status.trim(), "0");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where it has ended by itself there is nobody to end.
        drop(Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output());
    }
}

fn two_people_chat_over(transport: &str) {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let (ada_data, ben_data) = (dir.path().join("ada"), dir.path().join("ben"));
    let (ada_data, ben_data) = (ada_data.to_str().expect("ASCII"), ben_data.to_str().expect("ASCII"));
    let args = |name: &'static str, data| {
        vec!["--username", name, "--transport", transport, "--no-relay", "--data", data]
    };
    let mut make = Command::new(CHAT);
    make.args(args("ada", ada_data)).args(["--create-only", "--room-name", "den"]);
    let ticket = String::from_utf8(done(make).stdout).expect("a ticket is ASCII");
    let ticket = ticket.trim();

    let ada = Terminal::start(dir.path(), "ada", &args("ada", ada_data));
    ada.sees("den");
    ada.sees(&ticket[..40]);
    let ben = Terminal::start(dir.path(), "ben", &[&args("ben", ben_data)[..], &[ticket]].concat());
    ben.sees("den");
    // The list of members of each shows the other.
    ada.sees("ben");
    ben.sees("ada");
    ben.say("good evening");
    ada.sees("ben: good evening");
    let mut took = Vec::new();
    for word in ["one", "two", "three"] {
        ada.say(word);
        took.push(ben.sees(&format!("ada: {word}")));
    }
    // A machine that does much besides may be slow once.
    assert!(took.iter().min() < Some(&SOON), "{took:?}");
    ben.leave("Escape");
    ada.leave("C-c");

    let ada = Terminal::start(dir.path(), "ada", &args("ada", ada_data));
    ada.sees("ben: good evening");
    ada.say("ben is away");
    ada.sees("ada: ben is away");
    ada.leave("Escape");
    let ben = Terminal::start(dir.path(), "ben", &args("ben", ben_data));
    ben.sees("ada: three");
    ben.say("ada is away");
    ben.sees("ben: ada is away");
    let ada = Terminal::start(dir.path(), "ada", &args("ada", ada_data));
    ada.sees("ben: ada is away");
    ben.sees("ada: ben is away");
    ben.say("good night");
    ada.sees("ben: good night");
    ben.leave("C-c");
    ada.leave("Escape");
}

#[test]
fn two_people_chat_over_http_also_after_both_were_away() {
    two_people_chat_over("http");
}

#[test]
fn two_people_chat_over_quic_also_after_both_were_away() {
    two_people_chat_over("quic");
}

#[test]
fn two_people_chat_over_iroh_also_after_both_were_away() {
    two_people_chat_over("iroh");
}

#[test]
fn what_was_said_is_scrolled_through() {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let data = dir.path().join("ada");
    let data = data.to_str().expect("ASCII");
    let ada =
        Terminal::start(dir.path(), "ada", &["--username", "ada", "--data", data, "--room-name", "den"]);
    ada.sees("den");
    for number in 0..60 {
        ada.say(&format!("number {number}."));
    }
    ada.sees("number 59.");
    assert!(!ada.tmux(&["capture-pane", "-p"]).contains("number 5."));
    for _ in 0..6 {
        ada.press("PPage");
    }
    ada.sees("number 5.");
    ada.press("End");
    ada.sees("number 59.");
    ada.leave("Escape");
}
