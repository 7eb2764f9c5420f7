//! Runs the simulator, the search for attacks on authority, and the program as real processes.

use std::path::PathBuf;

use crate::run::{Failure, answers, cargo_command, command, run as run_command, target};

/// Seeds that every sabotage must be found within.
const SABOTAGE_SEEDS: &str = "2000";

/// Runs the simulator with these arguments.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let has = |name: &str| args.iter().any(|arg| arg == name || arg.starts_with(&format!("{name}=")));
    run_command(cargo_command(&["build", "--release", "--locked", "--quiet", "-p", "eid-sim"]))?;
    let mut sim = command(target().join("release/eid-sim"), &[]);
    if has("--sabotage") && !has("--seeds") && !has("--seed") {
        sim.args(["--seeds", SABOTAGE_SEEDS]);
    }
    sim.args(args);
    run_command(sim)
}

/// Builds every program of the workspace for release, with the one set of features that all share. The simulator
/// is built apart: faults can be switched on in it.
pub(crate) fn release() -> Result<PathBuf, Failure> {
    let build =
        ["build", "--release", "--locked", "--quiet", "--workspace", "--exclude", "eid-sim", "--bins"];
    run_command(cargo_command(&build))?;
    Ok(target().join("release"))
}

/// Runs the program as real processes, with these arguments.
pub(crate) fn processes(args: &[String]) -> Result<(), Failure> {
    const NGINX: [&str; 2] = ["nginx", "/usr/sbin/nginx"];
    const WITHOUT_NGINX: [&str; 10] =
        ["import", "bootstrap", "resume", "push", "chain", "silent", "restart", "offline", "crowd", "idle"];
    let every = !args.iter().any(|arg| WITHOUT_NGINX.contains(&arg.as_str()));
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

/// Searches random DAGs for a difference between the engine of authority and its definition, with these arguments.
pub(crate) fn auth(args: &[String]) -> Result<(), Failure> {
    let mut dags =
        cargo_command(&["run", "--locked", "--quiet", "-p", "eid-auth", "--example", "dags", "--"]);
    dags.args(args);
    run_command(dags)
}
