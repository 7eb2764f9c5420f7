//! Runs the simulator, and the program as real processes.

use std::path::PathBuf;

use crate::run::{Failure, answers, cargo_command, command, run as run_command, target};

/// Seeds that every sabotage must be found within.
const SABOTAGE_SEEDS: &str = "2000";

/// Runs the simulator with these arguments. `--sabotage` takes a build in which faults can be switched on.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let has = |name: &str| args.iter().any(|arg| arg == name || arg.starts_with(&format!("{name}=")));
    let sabotage = has("--sabotage");
    if sabotage {
        run_command(cargo_command(&[
            "build",
            "--release",
            "--locked",
            "--quiet",
            "-p",
            "eid-sim",
            "--features",
            "sabotage",
        ]))?;
    } else {
        release()?;
    }
    let mut sim = command(target().join("release/eid-sim"), &[]);
    if sabotage && !has("--seeds") && !has("--seed") {
        sim.args(["--seeds", SABOTAGE_SEEDS]);
    }
    sim.args(args);
    run_command(sim)
}

/// Builds every program of the workspace for release, with the one set of features that all share.
pub(crate) fn release() -> Result<PathBuf, Failure> {
    run_command(cargo_command(&["build", "--release", "--locked", "--quiet", "--workspace", "--bins"]))?;
    Ok(target().join("release"))
}

/// Runs the program as real processes, with these arguments.
pub(crate) fn processes(args: &[String]) -> Result<(), Failure> {
    const NGINX: [&str; 2] = ["nginx", "/usr/sbin/nginx"];
    let every = !args.iter().any(|arg| ["import", "bootstrap", "resume"].contains(&arg.as_str()));
    if (every || args.iter().any(|arg| arg == "proxy")) && !NGINX.iter().any(|path| answers(*path, &["-v"])) {
        return Err(Failure::new(
            "nginx is needed for the check `proxy` and is not there (Debian: nginx-light)",
        ));
    }
    let release = release()?;
    let mut checks = command(release.join("eid-processes"), &["--eid"]);
    checks.arg(release.join("eid")).args(args);
    run_command(checks)
}
