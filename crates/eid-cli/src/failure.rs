//! What went wrong, for the person (or program) at the other end: exit code, stable code, sentence, next step.

use std::error::Error as StdError;
use std::fmt::Write as _;

use eid::ErrorKind;
use serde_json::{Value, json};

use crate::output::{Gone, printable};

/// The exit codes of the program; 0 is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything without a code of its own.
    Failed = 1,
    /// Wrong usage, or a name that more than one thing has.
    Usage = 2,
    /// No right, expired or used invite, wrong server key.
    Refused = 3,
    /// There is no such thing.
    NotFound = 4,
    /// Nobody answers.
    Unreachable = 5,
    /// What is stored is damaged.
    Corrupt = 6,
    /// Somebody has to approve first.
    Pending = 7,
}

const BEYOND_REPAIR: &str = "the files cannot be read far enough to repair them: put back a copy of the directory, or \
    move it away and join the databases again from a peer";

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// A stable word for programs.
    pub code: &'static str,
    /// One sentence with the cause.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether the reader of the output has gone, so that there is nobody to tell.
    pub silent: bool,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), hint: None, silent: false }
    }

    /// Something was typed wrongly.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Input, typed or from a file, that cannot be taken.
    #[must_use]
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "invalid_input", message)
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, "not_found", message)
    }

    /// With a file operation that failed.
    #[must_use]
    pub fn io(what: impl Into<String>, cause: &std::io::Error) -> Self {
        Self::new(Exit::Failed, "io", format!("{}: {cause}", what.into()))
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Of files that no command can mend: `eid verify` itself cannot read them.
    #[must_use]
    pub fn beyond_repair(error: eid::Error) -> Self {
        let is_corrupt = error.kind() == ErrorKind::Corrupt;
        let failure = Self::from(error);
        if is_corrupt { failure.hint(BEYOND_REPAIR) } else { failure }
    }

    /// With what to do next, unless that is known already.
    #[must_use]
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        if self.hint.is_none() {
            self.hint = Some(hint.into());
        }
        self
    }

    /// The object that `--json` prints on standard error.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(hint) = &self.hint {
            error["hint"] = json!(hint);
        }
        json!({"error": error})
    }

    /// The lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("error: {}", printable(&self.message));
        if let Some(hint) = &self.hint {
            // Writing into a String cannot fail.
            write!(text, "\n hint: {}", printable(hint)).expect("a String takes everything");
        }
        text
    }
}

/// The error and its causes as one sentence; a cause that its parent already tells is left out.
#[must_use]
pub fn sentence(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        let mut failure = Self::new(Exit::Failed, "output_closed", "nobody reads the output any more");
        failure.silent = true;
        failure
    }
}

impl From<eid::Error> for Failure {
    fn from(error: eid::Error) -> Self {
        use ErrorKind as K;
        let kind = error.kind();
        let exit = match kind {
            K::Ambiguous | K::InvalidName | K::InvalidTicket | K::InvalidAddress => Exit::Usage,
            K::Refused | K::Forbidden | K::Rejected | K::WrongPassword => Exit::Refused,
            K::Pending => Exit::Pending,
            K::NotFound => Exit::NotFound,
            K::Unreachable | K::TimedOut => Exit::Unreachable,
            K::Corrupt => Exit::Corrupt,
            _ => Exit::Failed,
        };
        let hint = match kind {
            K::NotFound => Some("`eid db list` shows the databases of this instance"),
            K::Ambiguous => Some(
                "use the id of the one that is meant, or give one of them another name: `eid db rename ID NAME`",
            ),
            K::Unreachable => Some("check the address, and that `eid serve` runs there and listens at it"),
            K::TimedOut => {
                Some("run it again: it goes on from where it stopped; `--wait SECONDS` waits longer")
            }
            K::Pending => Some(
                "the same command completes it once it is approved, and so do `eid sync` and a running `eid serve`",
            ),
            K::Rejected => Some("ask an admin of the database why; the same command asks again"),
            K::Decided => Some("`eid requests list` shows what was decided; `eid keys` changes it"),
            K::Refused => Some("ask an admin of the database for a ticket or a permission"),
            K::Forbidden => Some(
                "`eid keys list DB` shows who may do what, `eid audit DB` who changed it; an admin can grant more",
            ),
            K::WrongPassword => {
                Some("`eid user list` shows the users of this device; --password-fd gives a password")
            }
            K::NotListening => Some(
                "start `eid serve --http ADDR` (or --quic, --iroh) on this data directory first, then share",
            ),
            K::AddressInUse => {
                Some("choose another port, or 0 for a free one, or stop the program that uses it")
            }
            K::NotEmpty => Some("choose another place"),
            K::NotAStore => Some("choose another directory with --data"),
            K::NewerFormat => Some("upgrade eid; nothing was changed"),
            K::Locked => Some("wait for the other program to end, or use another directory with --data"),
            K::Full => Some("make room on the disk and run it again; nothing is half written"),
            K::Corrupt => {
                Some("keep a copy of the directory, then run `eid verify`: it says what is damaged")
            }
            K::InvalidAddress => Some(
                "write http://HOST:PORT, quic:HOST:PORT or iroh:KEY?.. to reach a peer, HOST:PORT to listen",
            ),
            K::InvalidName => Some("choose another name"),
            K::WrongKind => Some("`eid db show DB` lists the stores with their types; choose another name"),
            K::InvalidValue => Some("look at what is there with `eid get` or `eid table get`"),
            K::TooLarge => Some("write less at once: an entry holds at most 1 MiB"),
            K::Busy => Some("run it again in a moment"),
            K::Incomplete => Some("run it again: it goes on from where it stopped"),
            K::Protocol => Some("upgrade eid on both devices"),
            K::Io => Some("check that the directory can be written, and that the disk is in order"),
            K::InvalidTicket => Some("copy the whole ticket, in quotes, as `eid share` printed it"),
            _ => None,
        };
        let mut failure = Self::new(exit, kind.code(), sentence(&error));
        failure.hint = hint.map(str::to_owned);
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_sentence_with_a_next_step_and_no_control_characters() {
        let failure = Failure::not_found("no database \"a\u{1b}[31m\u{202e}b\"").hint("look");
        assert_eq!(failure.to_text(), "error: no database \"a\\u{1b}[31m\\u{202e}b\"\n hint: look");
        assert_eq!(failure.to_json()["error"]["code"], "not_found");
        let plain = Failure::usage("no").to_json();
        assert_eq!(plain, json!({"error": {"code": "usage", "message": "no"}}));
    }
}
