//! Runs the simulator, and the program as real processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::run::{Failure, Options, answers, cargo_command, command, run as run_command, target};

/// The names of `eid_core::sabotage::Sabotage::ALL`, each of which the simulator must find.
pub(crate) const SABOTAGES: [&str; 8] = [
    "skip-flush",
    "ack-before-commit",
    "forget-ack",
    "accept-unsigned",
    "trust-height",
    "apply-twice",
    "lose-tip",
    "serve-without-right",
];

/// Seeds that every sabotage must be found within.
const SABOTAGE_SEEDS: u64 = 2000;

/// Seeds of one run of the simulator when time is the limit.
const CHUNK_SEEDS: u64 = 50;

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let options =
        Options::parse(args, &["--seeds", "--from", "--seed", "--seconds", "--sabotage"], &["--json"])?;
    let json: &[&str] = if options.flag("--json") { &["--json"] } else { &[] };
    let (mut from, mut seeds) =
        (options.number("--from")?.unwrap_or(0), options.number("--seeds")?.unwrap_or(100));
    if let Some(seed) = options.number("--seed")? {
        (from, seeds) = (seed, 1);
    }
    if let Some(name) = options.value("--sabotage") {
        let names: Vec<&str> = if name == "all" { SABOTAGES.to_vec() } else { vec![name] };
        if !options.flag("--json") {
            println!("sim: {} sabotages, each to be found within {seeds} seeds", names.len());
        }
        let seeds = if options.value("--seeds").is_none() && options.value("--seed").is_none() {
            SABOTAGE_SEEDS
        } else {
            seeds
        };
        let tool = build(true)?;
        for name in names {
            simulate(&tool, from, seeds, &[json, &["--sabotage", name]].concat())?;
        }
        return Ok(());
    }
    let tool = build(false)?;
    let Some(seconds) = options.number("--seconds")? else {
        return simulate(&tool, from, seeds, json);
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let start = from;
    while Instant::now() < end {
        simulate(&tool, from, CHUNK_SEEDS, json)?;
        from += CHUNK_SEEDS;
    }
    println!("sim: {} seeds in {seconds} s", from - start);
    Ok(())
}

/// Builds the simulator. With faults that can be switched on it goes into a directory of its own, so that neither
/// build undoes the other.
fn build(sabotage: bool) -> Result<PathBuf, Failure> {
    let dir = if sabotage { target().join("sabotage") } else { target() };
    let mut build = cargo_command(&["build", "--release", "--quiet", "-p", "eid-sim", "--target-dir"]);
    build.arg(&dir);
    if sabotage {
        build.args(["--features", "sabotage"]);
    }
    run_command(build)?;
    Ok(dir.join("release/eid-sim"))
}

fn simulate(tool: &PathBuf, from: u64, seeds: u64, more: &[&str]) -> Result<(), Failure> {
    let mut sim = command(tool, &[]);
    sim.args(["--from", &from.to_string(), "--seeds", &seeds.to_string()]).args(more);
    run_command(sim)
}

/// Builds the program and its checks, and runs them with these arguments.
pub(crate) fn processes(args: &[String]) -> Result<(), Failure> {
    if !answers("nginx", &["-v"]) && (args.is_empty() || args.iter().any(|arg| arg == "proxy")) {
        return Err(Failure::new(
            "nginx is needed for the check `proxy` and is not there (Debian: nginx-light)",
        ));
    }
    run_command(cargo_command(&["build", "--release", "--quiet", "-p", "eid-cli", "-p", "eid-tests"]))?;
    let release = target().join("release");
    let mut checks = command(release.join("eid-processes"), &["--eid"]);
    checks.arg(release.join("eid")).args(args);
    run_command(checks)
}
