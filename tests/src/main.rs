//! Runs the program `eid` as real processes, kills them at bad moments, and checks what is left.
//!
//! ```text
//! eid-processes --eid target/release/eid [--entries 100000] [--kills 50] [--seed 1] [--writes 300] [--offline 10000]
//!     [--peers 100] [--databases 10] [CHECK ...]
//! ```
//! Checks: `import` (kill -9 during an import), `bootstrap` (peak memory of both sides), `resume` (kill -9 of the
//! client, then of the server, in the middle of a bootstrap, over HTTP, QUIC and iroh), `push` (the same while the
//! client pushes), `proxy` (the bootstrap behind nginx), `chain` (how soon one end of a chain of three nodes shows what is written at the other, over HTTP, QUIC and
//! iroh), `silent` (the same beside a peer that never answers), `restart` (kill -9 of the middle of a chain), `offline`
//! (many commits while nobody is there, with restarts). All these by default; and only when they are named, `crowd`
//! (nodes that come back to one server at the same moment) and `idle` (what a server costs whose peers write nothing).
//! Each check prints one JSON object with what it measured; the exit code is 1 when one does not hold.

mod check;
mod process;

use std::path::PathBuf;
use std::process::ExitCode;

use check::{Outcome, Plan};

fn main() -> ExitCode {
    let plan = match parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(problem) => {
            report(&format!("eid-processes: {problem}"));
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for name in &plan.checks {
        let outcome = match name.as_str() {
            "import" => check::import(&plan),
            "bootstrap" => check::bootstrap(&plan, None),
            "resume" => check::resume(&plan),
            "push" => check::push(&plan),
            "proxy" => check::proxy(&plan),
            "chain" => check::chain(&plan),
            "silent" => check::silent(&plan),
            "restart" => check::restart(&plan),
            "offline" => check::offline(&plan),
            "crowd" => check::crowd(&plan),
            "idle" => check::idle(&plan),
            other => Err(format!("unknown check {other}").into()),
        };
        match outcome {
            Ok(Outcome { holds, figures }) => {
                print(&serde_json::json!({ "check": name, "holds": holds, "figures": figures }).to_string());
                failed |= !holds;
            }
            Err(problem) => {
                print(
                    &serde_json::json!({ "check": name, "holds": false, "problem": problem.to_string() })
                        .to_string(),
                );
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan {
        eid: PathBuf::from("target/release/eid"),
        entries: 100_000,
        kills: 50,
        writes: 300,
        offline: 10_000,
        peers: 100,
        databases: 10,
        seed: 1,
        checks: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--eid" => plan.eid = PathBuf::from(value()?),
            "--entries" => plan.entries = value()?.parse().map_err(|_| "--entries needs a number")?,
            "--kills" => plan.kills = value()?.parse().map_err(|_| "--kills needs a number")?,
            "--writes" => plan.writes = value()?.parse().map_err(|_| "--writes needs a number")?,
            "--offline" => plan.offline = value()?.parse().map_err(|_| "--offline needs a number")?,
            "--peers" => plan.peers = value()?.parse().map_err(|_| "--peers needs a number")?,
            "--databases" => plan.databases = value()?.parse().map_err(|_| "--databases needs a number")?,
            "--seed" => plan.seed = value()?.parse().map_err(|_| "--seed needs a number")?,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            check => plan.checks.push(check.to_owned()),
        }
    }
    if plan.checks.is_empty() {
        let by_default =
            ["import", "bootstrap", "resume", "push", "proxy", "chain", "silent", "restart", "offline"];
        plan.checks = by_default.map(str::to_owned).to_vec();
    }
    Ok(plan)
}

#[expect(clippy::print_stdout, reason = "results of a program go to stdout")]
fn print(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "progress of a program goes to stderr")]
pub(crate) fn report(line: &str) {
    eprintln!("{line}");
}
