//! Runs the implementation in Python over the golden vectors, in a virtual environment of its own.

use std::path::PathBuf;

use crate::run::{Failure, Flags, answers, command, read, root, run as run_command, target, write};

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let flags = Flags::parse(args, &["--mutate"])?;
    let python = environment()?;
    let mut verify = command(python, &["vectors/verify.py"]);
    if flags.has("--mutate") {
        verify.arg("--mutate");
    }
    run_command(verify)
}

/// The Python of a virtual environment that holds what `vectors/requirements.txt` names.
fn environment() -> Result<PathBuf, Failure> {
    let dir = target().join("vectors-venv");
    let python = dir.join("bin/python");
    let stamp = dir.join("requirements.txt");
    let wanted = read(&root().join("vectors/requirements.txt"))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|held| held == wanted) && answers(&python, &["--version"]) {
        return Ok(python);
    }
    if !answers("python3", &["--version"]) {
        return Err(Failure::new("python3 is needed for the golden vectors and is not there"));
    }
    println!("vectors: making a virtual environment in {}", dir.display());
    let mut venv = command("python3", &["-m", "venv", "--clear"]);
    venv.arg(&dir);
    run_command(venv)?;
    run_command(command(
        &python,
        &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "vectors/requirements.txt"],
    ))?;
    write(&stamp, &wanted)?;
    Ok(python)
}
