//! `eid completions` and `eid man`: what the definitions of the commands say, for shells and for `man`.

use clap::CommandFactory as _;
use serde_json::json;

use crate::args::{Cli, Completions, Man};
use crate::failure::Failure;
use crate::output::{Out, printable};

/// Prints a script for the shell.
///
/// # Errors
/// When nobody reads it.
pub fn completions(args: &Completions, out: &Out) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "eid", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let value = json!({"shell": args.shell.to_string(), "script": script});
    out.say(&value, || script.trim_end().to_owned())?;
    Ok(())
}

/// Writes a page for the program and for every command.
///
/// # Errors
/// When the directory cannot be written.
pub fn man(args: &Man, out: &Out) -> Result<(), Failure> {
    let shown = args.dir.display().to_string();
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &args.dir))
        .map_err(|cause| {
            Failure::io(format!("cannot write man pages into {shown}"), &cause)
                .hint("name a directory that you may write")
        })?;
    out.say(&json!({"dir": shown}), || format!("the man pages are in {}", printable(&shown)))?;
    Ok(())
}
