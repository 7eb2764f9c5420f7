//! `eid verify`.

use serde_json::json;

use crate::args::Verify;
use crate::cmd::Context;
use crate::failure::{Exit, Failure};
use crate::output::{count, printable};

/// Checks the store, with progress.
///
/// # Errors
/// Corrupt when something is wrong and was not, or could not be, repaired.
pub async fn run(context: &Context, args: &Verify) -> Result<(), Failure> {
    if let Some(name) = &args.db {
        context.database(name)?;
    }
    let out = context.out.clone();
    let mut told = 0;
    let report = context
        .node
        .verify(args.repair, move |done, total| {
            // A bar of a hundred steps is smooth enough; every step would be a message to another process.
            if done == total || (done - told) * 100 >= total {
                told = done;
                if out.progress("checking", done, total).is_err() {
                    tracing::debug!("nobody watches the progress");
                }
            }
        })
        .await?;
    let problems: Vec<_> = report.problems.iter().map(|problem| {
        let at = problem.seq.map(|seq| seq.0);
        json!({"problem": problem.name, "db": problem.tree.to_string(), "at": at, "detail": problem.detail, "repaired": problem.repaired})
    }).collect();
    let value = json!({
        "ok": report.is_clean(), "databases": report.trees, "entries": report.entries, "bytes": report.bytes,
        "found": report.found, "repaired": report.repaired, "problems": problems,
    });
    context.out.say(&value, || {
        let line = |p: &eid::Problem| format!("{} {}: {}\n", p.tree, p.name, printable(&p.detail));
        let mut text: String = report.problems.iter().map(line).collect();
        text.push_str(&match (report.found, report.repaired) {
            (0, _) => format!("{} entries checked, all is well", count(report.entries)),
            (found, repaired) => {
                format!("{} entries checked, {found} problems, {repaired} repaired", count(report.entries))
            }
        });
        text
    })?;
    if report.is_clean() {
        return Ok(());
    }
    let left = report.found - report.repaired;
    let failure = Failure::new(Exit::Corrupt, "corrupt", format!("the store has {left} problems"));
    Err(if args.repair {
        failure.hint("what cannot be rebuilt comes back from a peer: `eid db forget DB`, then join it again")
    } else {
        failure.hint("keep a copy of the directory, then run `eid verify --repair`")
    })
}
