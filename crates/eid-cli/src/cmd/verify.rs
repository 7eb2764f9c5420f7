//! `eid verify`.

use eid::{FsckReport, Lost, Problem};
use serde_json::json;

use crate::args::Verify;
use crate::cmd::Context;
use crate::failure::{Exit, Failure};
use crate::output::{count, printable};

/// Checks the store, with progress.
///
/// # Errors
/// Corrupt when something is wrong and was not repaired, or could not be without a loss.
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
        .await
        .map_err(Failure::beyond_repair)?;
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| {
            json!({
                "problem": problem.name, "db": problem.tree.to_string(), "at": problem.seq.map(|seq| seq.0),
                "entry": problem.entry.map(|id| id.to_string()), "detail": problem.detail,
                "lost": problem.lost.map(word), "repaired": problem.repaired,
            })
        })
        .collect();
    let value = json!({
        "ok": report.is_clean(), "databases": report.trees, "entries": report.entries, "bytes": report.bytes,
        "found": report.found, "repaired": report.repaired, "lost_entries": report.lost_entries,
        "lost_payloads": report.lost_payloads, "problems": problems,
    });
    context.out.say(&value, || summary(&report, args.repair))?;
    if report.is_clean() {
        return Ok(());
    }
    Err(failure(&report, args.repair))
}

fn word(lost: Lost) -> &'static str {
    match lost {
        Lost::Entry => "entry",
        Lost::Payload => "payload",
    }
}

/// What was found, line by line, and what it comes to.
fn summary(report: &FsckReport, repair: bool) -> String {
    let mut text: String = report.problems.iter().map(|problem| line(problem, repair)).collect();
    let unlisted = report.found - report.problems.len() as u64;
    if unlisted > 0 {
        text.push_str(&format!("... and {} more\n", count(unlisted)));
    }
    text.push_str(&match (report.found, report.repaired) {
        (0, _) => format!("{} entries checked, all is well", count(report.entries)),
        (found, repaired) => {
            format!("{} entries checked, {found} problems, {repaired} repaired", count(report.entries))
        }
    });
    if report.has_losses() {
        let tense = if repair { "lost" } else { "lost by a repair" };
        text.push_str(&format!(", {tense}: {}", losses(report)));
    }
    text
}

fn line(problem: &Problem, repair: bool) -> String {
    let at = match (problem.entry, problem.seq) {
        (Some(id), _) => format!(", entry {id}"),
        (None, Some(seq)) => format!(", position {}", seq.0),
        (None, None) => String::new(),
    };
    let costs = match problem.lost.map(word) {
        Some(lost) if repair => format!(" (the {lost} is lost here)"),
        Some(lost) => format!(" (a repair loses the {lost})"),
        None => String::new(),
    };
    format!("{} {}{at}: {}{costs}\n", problem.tree, problem.name, printable(&problem.detail))
}

fn losses(report: &FsckReport) -> String {
    let some = |n: u64, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{} {many}", count(n))),
    };
    let both =
        [some(report.lost_entries, "entry", "entries"), some(report.lost_payloads, "payload", "payloads")];
    both.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

fn failure(report: &FsckReport, repair: bool) -> Failure {
    if !repair {
        let text = format!("the store has {} problems", report.found);
        let hint = "keep a copy of the directory, then run `eid verify --repair`";
        return Failure::new(Exit::Corrupt, "corrupt", text).hint(hint);
    }
    let text = format!("the store is sound again, and {} had to be left out", losses(report));
    Failure::new(Exit::Corrupt, "lost", text)
        .hint("`eid sync --peer PEER` with a peer that has the database brings back what it holds")
}
