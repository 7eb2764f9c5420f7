//! Runs the program `eid` as real processes, kills them at bad moments, and checks what is left.
//!
//! ```text
//! eid-processes --eid target/release/eid [--entries 100000] [--kills 50] [--seed 1] [CHECK ...]
//! ```
//! Checks: `import` (kill -9 during an import), `bootstrap` (peak memory of both sides), `resume` (kill -9 of the
//! client, then of the server, in the middle of a bootstrap, over HTTP, QUIC and iroh), `proxy` (the bootstrap behind
//! nginx). All by default. Each check prints one JSON object with what it measured; the exit code is 1 when one does not
//! hold.

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
            "proxy" => check::proxy(&plan),
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
        seed: 1,
        checks: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--eid" => plan.eid = PathBuf::from(value()?),
            "--entries" => plan.entries = value()?.parse().map_err(|_| "--entries needs a number")?,
            "--kills" => plan.kills = value()?.parse().map_err(|_| "--kills needs a number")?,
            "--seed" => plan.seed = value()?.parse().map_err(|_| "--seed needs a number")?,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            check => plan.checks.push(check.to_owned()),
        }
    }
    if plan.checks.is_empty() {
        plan.checks = ["import", "bootstrap", "resume", "proxy"].map(str::to_owned).to_vec();
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
