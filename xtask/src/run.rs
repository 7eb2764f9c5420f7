//! Runs other programs from the root of the workspace.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a task did not succeed, in words for the person who ran it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where builds go: `CARGO_TARGET_DIR`, or `target/` in the workspace.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A command that runs in the root of the workspace.
pub(crate) fn command(program: impl Into<OsString>, args: &[&str]) -> Command {
    let mut command = Command::new(program.into());
    command.current_dir(root()).args(args);
    command
}

/// A cargo command that runs in the root of the workspace.
pub(crate) fn cargo_command(args: &[&str]) -> Command {
    command(cargo(), args)
}

/// Runs to the end with output as it comes. Fails unless the exit code is zero.
pub(crate) fn run(mut command: Command) -> Result<(), Failure> {
    let shown = shown(&command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("`{shown}` failed ({status})"))),
        Err(error) => Err(Failure::new(format!("`{shown}` could not be started: {error}"))),
    }
}

/// Runs to the end and gives its standard output. Fails unless the exit code is zero.
pub(crate) fn output(mut command: Command) -> Result<String, Failure> {
    let shown = shown(&command);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("`{shown}` could not be started: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("`{shown}` failed ({})", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure::new(format!("`{shown}` did not print UTF-8")))
}

/// Whether a program answers when asked with these arguments.
pub(crate) fn answers(program: impl Into<OsString>, args: &[&str]) -> bool {
    let mut command = command(program, args);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program.to_string_lossy().into_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Writes a text file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// The flags among these arguments. Anything that is not listed is refused.
#[derive(Debug)]
pub(crate) struct Flags<'a>(&'a [String]);

impl<'a> Flags<'a> {
    pub(crate) fn parse(args: &'a [String], known: &[&str]) -> Result<Self, Failure> {
        match args.iter().find(|arg| !known.contains(&arg.as_str())) {
            None => Ok(Self(args)),
            Some(arg) => Err(Failure::new(format!("unexpected argument {arg:?}"))),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|flag| flag == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_not_listed_are_refused() {
        let args = ["--json".to_owned()];
        assert!(Flags::parse(&args, &["--json"]).unwrap().has("--json"));
        assert!(!Flags::parse(&[], &["--json"]).unwrap().has("--json"));
        assert!(Flags::parse(&args, &["--other"]).is_err());
    }
}
