//! Everything that must hold before a change goes in, in the order of its cost.

use std::time::{Duration, Instant};

use crate::run::{Failure, Flags, answers, cargo_command, command, output, root, run as run_command};
use crate::{deny, layers, sim, tidy, vectors};

/// What the whole may take on two cores, from nothing.
const BUDGET: Duration = Duration::from_secs(25 * 60);

/// Worlds of engines that are simulated: fewer are a failure, and so is a machine that cannot do them in the time.
const ENGINES: [&str; 8] = ["--kind", "engines", "--seeds", "2000", "--least", "2000", "--seconds", "1500"];
/// Worlds of sessions: as many as there is time for.
const SESSIONS: [&str; 8] = ["--kind", "sessions", "--seeds", "20000", "--least", "400", "--seconds", "120"];
/// Devices that come back to one node at once.
const CROWD: [&str; 2] = ["--crowd", "200"];

type Step = (&'static str, fn() -> Result<(), Failure>);

const CHEAP: &[Step] = &[
    ("format", format),
    ("layers", layers::run),
    ("tidy", || tidy::run(&[])),
    ("vectors", || vectors::run(&["--mutate".to_owned()])),
];

const TESTS: &[Step] = &[
    ("clippy", clippy),
    ("tests", tests),
    ("examples", examples),
    ("doc tests", doc_tests),
    ("documentation", documentation),
];

/// The programs in `examples/`: each is run twice, since it has to find what its first run has left.
const EXAMPLES: &[&str] = &["todo", "notes", "inventory", "sensors"];

const LONG: &[Step] = &[
    ("licences, bans, sources", deny::run),
    ("release build", || sim::release().map(drop)),
    ("demo", demo),
    ("processes", processes),
    ("authority", authority),
    ("simulator", simulator),
    ("sabotages", sabotages),
];

pub(crate) fn ci(args: &[String]) -> Result<(), Failure> {
    let flags = Flags::parse(args, &["--quick"])?;
    let long = if flags.has("--quick") { &[] } else { LONG };
    steps(&[CHEAP, TESTS, long].concat())
}

pub(crate) fn test(args: &[String]) -> Result<(), Failure> {
    Flags::parse(args, &[])?;
    steps(&[&[("format", format as fn() -> _)], TESTS].concat())
}

/// Runs the steps in turn, tells what each took, and stops at the first that fails.
fn steps(steps: &[Step]) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut taken: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in steps {
        println!("\n== {name}");
        let start = Instant::now();
        let result = step();
        taken.push((name, start.elapsed()));
        if let Err(failure) = result {
            table(&taken);
            return Err(Failure::new(format!("the step `{name}` failed: {failure}")));
        }
    }
    table(&taken);
    let total = begin.elapsed();
    println!("{:<28}{:>8.1} s", "all", total.as_secs_f64());
    if total > BUDGET {
        println!(
            "this took longer than the {} minutes that it should take on two cores",
            BUDGET.as_secs() / 60
        );
    }
    Ok(())
}

fn table(taken: &[(&str, Duration)]) {
    println!();
    for (name, time) in taken {
        println!("{name:<28}{:>8.1} s", time.as_secs_f64());
    }
}

fn format() -> Result<(), Failure> {
    run_command(cargo_command(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<(), Failure> {
    run_command(cargo_command(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

fn tests() -> Result<(), Failure> {
    if answers(crate::run::cargo(), &["nextest", "--version"]) {
        return run_command(cargo_command(&[
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--status-level",
            "fail",
            "--final-status-level",
            "slow",
        ]));
    }
    println!("cargo-nextest is not installed: the same tests run by `cargo test`, one binary after another");
    run_command(cargo_command(&["test", "--workspace", "--all-targets", "--locked", "--quiet"]))
}

fn examples() -> Result<(), Failure> {
    let listed = std::fs::read_dir(root().join("examples"))
        .map_err(|error| Failure::new(format!("cannot list the examples: {error}")))?;
    let names = listed.flatten().map(|file| file.path()).filter(|path| path.extension().is_some());
    for path in names {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if !EXAMPLES.contains(&name.as_ref()) {
            return Err(Failure::new(format!("{} is not among the examples that are run", path.display())));
        }
    }
    let dir = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("cannot make a directory for the examples: {error}")))?;
    for name in EXAMPLES {
        let data = dir.path().join(name);
        for run in ["first", "second"] {
            println!("-- {name}, {run} run");
            let mut example =
                cargo_command(&["run", "--locked", "--quiet", "--package", "eid", "--example", name]);
            example.arg("--").arg(&data);
            run_command(example)?;
        }
    }
    Ok(())
}

fn doc_tests() -> Result<(), Failure> {
    run_command(cargo_command(&["test", "--workspace", "--doc", "--locked", "--quiet"]))
}

fn documentation() -> Result<(), Failure> {
    let mut doc = cargo_command(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run_command(doc)
}

/// The first of the two commands of the README, with its result checked.
fn demo() -> Result<(), Failure> {
    let program = sim::release()?.join("eid");
    let begin = Instant::now();
    let printed = output(command(program, &["demo", "--json"]))?;
    let last = printed.lines().last().unwrap_or_default();
    let result: serde_json::Value = serde_json::from_str(last)
        .map_err(|error| Failure::new(format!("the last line of the demo is not JSON: {error}")))?;
    if result["converged"] != true {
        return Err(Failure::new(format!("the demo did not converge: {last}")));
    }
    println!("demo: converged in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// The program as real processes, smaller than by hand.
fn processes() -> Result<(), Failure> {
    let sizes = ["--entries", "20000", "--kills", "10", "--writes", "100", "--offline", "5000"];
    sim::processes(&sizes.map(str::to_owned))
}

/// Fewer DAGs than by hand, and every rule broken on purpose.
fn authority() -> Result<(), Failure> {
    sim::auth(&["--dags", "10000"].map(str::to_owned))?;
    sim::auth(&["--mutants".to_owned()])
}

fn simulator() -> Result<(), Failure> {
    sim::run(&ENGINES.map(str::to_owned))?;
    sim::run(&SESSIONS.map(str::to_owned))?;
    sim::run(&CROWD.map(str::to_owned))
}

fn sabotages() -> Result<(), Failure> {
    sim::run(&["--sabotage", "all"].map(str::to_owned))
}
