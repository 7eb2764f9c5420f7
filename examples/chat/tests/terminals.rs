//! Two people in two terminals: one asks to come in and the other decides, and what one types the other sees, also after
//! both were away.

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
/// What the keys do is shown while they do it.
const KEYS: &str = "Ctrl-Y lets in   Ctrl-N turns away";
const WAITS: &str = "Waiting for approval";
const CHAT: &str = env!("CARGO_BIN_EXE_chat");

/// A terminal without a person, on a server of its own.
struct Terminal {
    socket: String,
    /// Something was written on the screen.
    drawn: Receiver<()>,
    /// With which code it has ended.
    ended: PathBuf,
    /// What it has said beside the screen.
    said: PathBuf,
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
        let (ended, said) = (dir.join(format!("{name}.ended")), dir.join(format!("{name}.said")));
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
        let line = format!(
            "read go; {CHAT} {} 2> {}; echo $? > {}",
            quoted.join(" "),
            said.display(),
            ended.display()
        );
        let mut begin = Command::new("tmux");
        begin.args(["-L", &socket, "-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "45"]);
        begin.args(["sh", "-c", &line]);
        done(begin);
        let (draws, drawn) = channel();
        let this = Self { socket, drawn, ended, said };
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

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows a text. Gives how long that took.
    fn sees(&self, text: &str) -> Duration {
        self.looks(text, |screen| screen.contains(text))
    }

    /// Waits until the screen does not show a text any more.
    fn sees_no_more(&self, text: &str) -> Duration {
        self.looks(text, |screen| !screen.contains(text))
    }

    fn looks(&self, text: &str, is_so: impl Fn(&str) -> bool) -> Duration {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return begin.elapsed();
            }
            let left = PATIENCE.saturating_sub(begin.elapsed());
            assert!(self.drawn.recv_timeout(left).is_ok(), "it is about `{text}`:\n{screen}");
        }
    }

    /// Leaves, and waits for the end.
    fn leave(self, key: &str) {
        self.press(key);
        self.ends_with("0");
    }

    /// Waits for the end, which has this code. Gives what was said beside the screen.
    fn ends_with(self, code: &str) -> String {
        loop {
            match self.drawn.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.screen()),
            }
        }
        let (status, said) = (std::fs::read_to_string(&self.ended), std::fs::read_to_string(&self.said));
        let said = said.expect("what it said is kept");
        assert_eq!(status.expect("it has said how it ended").trim(), code, "{said}");
        said
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where it has ended by itself there is nobody to end.
        drop(Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output());
    }
}

/// A room of ada's in a directory, and where she and others keep theirs.
struct Den {
    dir: tempfile::TempDir,
    transport: &'static str,
    ticket: String,
}

impl Den {
    fn make(transport: &'static str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let mut this = Self { dir, transport, ticket: String::new() };
        let mut make = Command::new(CHAT);
        make.args(this.args("ada")).args(["--create-only", "--room-name", "den"]).args(more);
        let ticket = String::from_utf8(done(make).stdout).expect("a ticket is ASCII");
        this.ticket = ticket.trim().to_owned();
        this
    }

    fn args(&self, name: &str) -> Vec<String> {
        let data = self.dir.path().join(name).to_str().expect("ASCII").to_owned();
        let args = ["--username", name, "--transport", self.transport, "--no-relay", "--data", &data];
        args.map(str::to_owned).to_vec()
    }

    /// Somebody at a terminal.
    fn starts(&self, name: &str, more: &[&str]) -> Terminal {
        let args = self.args(name);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Terminal::start(self.dir.path(), name, &args)
    }
}

/// How the list of members shows a name, which nothing else begins like that.
fn member(name: &str) -> String {
    format!("│{name}   ")
}

/// What one says is on the screen of the other soon. A machine that does much besides may be slow once or twice.
fn hears_soon((from, name): (&Terminal, &str), to: &Terminal, words: [&str; 3]) {
    let took = words.map(|word| {
        from.say(word);
        to.sees(&format!("{name}: {word}"))
    });
    assert!(took.iter().min() < Some(&SOON), "{took:?}");
}

fn two_people_chat_over(transport: &'static str) {
    let den = Den::make(transport, &[]);
    let ada = den.starts("ada", &[]);
    ada.sees("den");
    ada.sees(&den.ticket[..40]);
    let ben = den.starts("ben", &[&den.ticket, "--message", "it is me"]);
    ben.sees(WAITS);
    ada.sees("ben asks to come in: it is me");
    ada.sees(KEYS);
    ada.press("C-y");
    ada.sees("was let in");
    ada.sees_no_more(KEYS);
    ben.sees("den");
    // The list of members of each shows the other.
    ada.sees(&member("ben"));
    ben.sees(&member("ada"));
    ben.say("good evening");
    ada.sees("ben: good evening");
    hears_soon((&ada, "ada"), &ben, ["one", "two", "three"]);
    hears_soon((&ben, "ben"), &ada, ["four", "five", "six"]);
    ben.leave("Escape");
    ada.leave("C-c");

    let ada = den.starts("ada", &[]);
    ada.sees("ben: good evening");
    ada.say("ben is away");
    ada.sees("ada: ben is away");
    ada.leave("Escape");
    let ben = den.starts("ben", &[]);
    ben.sees("ada: three");
    ben.say("ada is away");
    ben.sees("ben: ada is away");
    let ada = den.starts("ada", &[]);
    ada.sees("ben: ada is away");
    ben.sees("ada: ben is away");
    ben.say("good night");
    ada.sees("ben: good night");
    hears_soon((&ada, "ada"), &ben, ["seven", "eight", "nine"]);
    hears_soon((&ben, "ben"), &ada, ["ten", "eleven", "twelve"]);
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
fn who_is_turned_away_is_told_and_comes_in_by_no_other_try() {
    let den = Den::make("http", &[]);
    let ada = den.starts("ada", &[]);
    let eve = den.starts("eve", &[&den.ticket]);
    eve.sees(WAITS);
    ada.sees("eve asks to come in");
    ada.press("C-n");
    ada.sees("was turned away");
    ada.sees_no_more(KEYS);
    assert!(eve.ends_with("3").contains("rejected"));
    assert!(den.starts("eve", &[&den.ticket]).ends_with("3").contains("rejected"));
    ada.leave("Escape");
}

#[test]
fn what_was_asked_outlives_both_programs() {
    let den = Den::make("http", &[]);
    let ada = den.starts("ada", &[]);
    let ben = den.starts("ben", &[&den.ticket]);
    ben.sees(WAITS);
    ada.sees("ben asks to come in");
    ben.press("Escape");
    assert!(ben.ends_with("7").contains("remembered"));
    ada.leave("C-c");
    // Nobody is there who could decide, and it is said since when it waits.
    let ben = den.starts("ben", &[]);
    ben.sees(WAITS);
    ben.sees("The last try failed");
    ben.press("C-c");
    ben.ends_with("7");
    // What came before is shown at the start.
    let ada = den.starts("ada", &[]);
    ada.sees("ben asks to come in");
    ada.press("C-y");
    ada.sees("was let in");
    let ben = den.starts("ben", &[]);
    ben.sees(&member("ada"));
    ben.say("here I am");
    ada.sees("ben: here I am");
    ben.leave("Escape");
    let ben = den.starts("ben", &[]);
    ben.sees("ben: here I am");
    ben.leave("Escape");
    ada.leave("Escape");
}

#[test]
fn an_open_room_lets_in_whoever_has_the_ticket() {
    let den = Den::make("http", &["--open"]);
    let ada = den.starts("ada", &[]);
    let ben = den.starts("ben", &[&den.ticket]);
    ben.sees(&member("ada"));
    ada.sees(&member("ben"));
    assert!(!ada.screen().contains(KEYS));
    ben.leave("Escape");
    ada.leave("Escape");
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
