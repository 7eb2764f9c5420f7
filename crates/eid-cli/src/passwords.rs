//! Passwords, read where the person is: from a prompt that shows nothing, or from a file descriptor.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};

use eid::control::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::args::{Cli, Command, User};
use crate::failure::Failure;
use crate::limits::PASSWORD_LINE_BYTES_MAX;
use crate::output::printable;

/// A password that a command needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// The one there is.
    Of(String),
    /// One to be set.
    NewOf(String),
}

/// Which passwords a command needs, in the order in which it takes them.
fn asked(cli: &Cli) -> Vec<Asked> {
    let mut asked: Vec<Asked> = cli.global.user.iter().cloned().map(Asked::Of).collect();
    match &cli.command {
        Command::User(User::Create { name }) => asked.push(Asked::NewOf(name.clone())),
        Command::User(User::Password { name }) => {
            asked.extend([Asked::Of(name.clone()), Asked::NewOf(name.clone())]);
        }
        _ => {}
    }
    asked
}

/// Reads the passwords that a command needs: a line each from `--password-fd`, or from a prompt on a terminal. Without
/// either there are none. An empty one means that there is no password.
///
/// # Errors
/// When the descriptor or the terminal cannot be read, or a password was typed twice and differently.
pub(crate) fn read(cli: &Cli) -> Result<Vec<Secret>, Failure> {
    let asked = asked(cli);
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(descriptor) = cli.global.password_fd {
        // Opening the name of a descriptor needs no `unsafe`, which taking over its number would.
        let name = format!("/dev/fd/{descriptor}");
        let file = File::open(&name)
            .map_err(|cause| Failure::io(format!("cannot read the file descriptor {descriptor}"), &cause))?;
        let mut reader = BufReader::new(file);
        return asked.iter().map(|_| line(&mut reader)).collect();
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(Vec::new());
    }
    asked.iter().map(prompt).collect()
}

/// One line, without its end.
fn line(reader: &mut impl std::io::BufRead) -> Result<Secret, Failure> {
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = reader.take(PASSWORD_LINE_BYTES_MAX).read_line(&mut line);
    read.map_err(|cause| Failure::io("cannot read a password", &cause))?;
    if line.len() as u64 == PASSWORD_LINE_BYTES_MAX {
        return Err(Failure::input("a password is too long"));
    }
    Ok(Secret::new(line.strip_suffix('\n').unwrap_or(&line)))
}

fn prompt(asked: &Asked) -> Result<Secret, Failure> {
    match asked {
        Asked::Of(name) => hidden(&format!("Password of {} (empty for none): ", printable(name))),
        Asked::NewOf(name) => {
            let typed = hidden(&format!("New password of {} (empty for none): ", printable(name)))?;
            if hidden("The same again: ")? == typed {
                Ok(typed)
            } else {
                Err(Failure::input("the two passwords differ").hint("run it again; nothing was changed"))
            }
        }
    }
}

/// Shows what is typed again when it is dropped.
struct Shown(Termios);

impl Drop for Shown {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0) {
            tracing::warn!(%error, "the terminal does not show again what is typed");
        }
    }
}

fn hidden(text: &str) -> Result<Secret, Failure> {
    let broken = |cause: std::io::Error| Failure::io("cannot use the terminal", &cause);
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(|cause| broken(cause.into()))?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    let _shown = Shown(before);
    tcsetattr(&stdin, OptionalActions::Flush, &quiet).map_err(|cause| broken(cause.into()))?;
    let mut stderr = std::io::stderr();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).map_err(broken)?;
    let typed = line(&mut stdin.lock());
    stderr.write_all(b"\n").map_err(broken)?;
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_one_by_one_and_bounded() {
        let mut reader = BufReader::new(&b"first \nsecond\r\n\nlast"[..]);
        let mut next = || line(&mut reader).unwrap();
        assert_eq!(next().as_password(), Some("first "));
        assert_eq!(next().as_password(), Some("second\r"), "only the end of the line goes");
        assert_eq!(next().as_password(), None);
        assert_eq!(next().as_password(), Some("last"));
        assert_eq!(next().as_password(), None);
        let long = "p".repeat(PASSWORD_LINE_BYTES_MAX as usize + 1);
        assert!(line(&mut BufReader::new(long.as_bytes())).is_err());
        assert!(line(&mut BufReader::new(&b"\xff\n"[..])).is_err());
    }
}
