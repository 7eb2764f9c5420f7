//! Licences, bans and sources of everything that is depended on, by cargo-deny and `deny.toml`.

use std::path::PathBuf;

use crate::run::{Failure, answers, cargo_command, command, run as run_command, target};

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

pub(crate) fn run() -> Result<(), Failure> {
    let tool = tool()?;
    // It reads every crate of the lock file, those of other platforms too.
    run_command(cargo_command(&["fetch", "--locked", "--quiet"]))?;
    // Advisories come from the network and change without a commit, so they are not part of this task.
    run_command(command(tool, &["--offline", "check", "licenses", "bans", "sources"]))
}

fn tool() -> Result<PathBuf, Failure> {
    if answers("cargo-deny", &["--version"]) {
        return Ok("cargo-deny".into());
    }
    let dir = target().join("tools");
    let tool = dir.join("bin/cargo-deny");
    if !answers(&tool, &["--version"]) {
        println!("deny: installing cargo-deny {VERSION} into {}", dir.display());
        let mut install =
            cargo_command(&["install", "--debug", "--locked", "--quiet", "cargo-deny", "--version", VERSION]);
        install.arg("--root").arg(&dir).arg("--target-dir").arg(dir.join("build"));
        run_command(install)?;
    }
    Ok(tool)
}
