//! Runs simulated worlds, many seeds of them, and says how to run one again.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use eid_core::sabotage::{Sabotage, set};
use eid_sim::run::{Options, Report, Span, replay, run, until_failure};
use serde_json::json;

/// Runs simulated worlds and checks what must hold in them.
///
/// Example: eid-sim --seeds 2000
#[derive(Debug, Parser)]
#[command(name = "eid-sim", version)]
struct Args {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    from: u64,
    /// Stops after so many seconds, whatever the number of seeds.
    #[arg(long, value_name = "T")]
    seconds: Option<u64>,
    /// Runs this seed alone, twice, and compares.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Prints what happens in the world of --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Switches a fault in the product on: the run ends, and fails, at the first seed that shows it. With `all`, each
    /// fault after another, and the run fails when one of them is not found.
    #[arg(long, value_name = "NAME|all")]
    sabotage: Option<String>,
    /// How many worlds run at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Prints the result as one JSON value.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let span = match args.seed {
        Some(seed) => Span { from: seed, seeds: 1 },
        None => Span { from: args.from, seeds: args.seeds },
    };
    let options =
        Options { span, deadline: args.seconds.map(Duration::from_secs), threads: args.threads.max(1) };
    match args.sabotage.as_deref() {
        None => {}
        Some("all") => return find_all(&args, &options),
        Some(name) => {
            let Some((_, sabotage)) = Sabotage::ALL.into_iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = Sabotage::ALL.iter().map(|(known, _)| *known).collect();
                progress(&format!("no sabotage is called {name}: there are all, {}", known.join(", ")));
                return ExitCode::from(2);
            };
            set(Some(sabotage));
        }
    }
    if args.trace
        && let Some(seed) = args.seed
    {
        replay(seed);
    }
    let report = match args.sabotage {
        Some(_) => until_failure(&options),
        None => run(&options, &mut |done, total| {
            if done % 200 == 0 {
                progress(&format!("{done} of {total} seeds"));
            }
        }),
    };
    show(&report, &args);
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(report: &Report, args: &Args) {
    for failure in &report.failures {
        progress(&format!("seed {}: {}", failure.seed, failure.reason));
        for line in failure.last.iter().rev().take(12).rev() {
            progress(&format!("    {line}"));
        }
        let sabotage = args.sabotage.iter().map(|name| format!(" --sabotage {name}")).collect::<String>();
        progress(&format!("  replay: cargo xtask sim --seed {} --trace{sabotage}", failure.seed));
    }
    for what in &report.never {
        progress(&format!("never occurred: {what}"));
    }
    if args.json {
        result(&json!({
            "seeds": report.seeds,
            "divergences": report.failures.len(),
            "failures": report.failures.iter()
                .map(|failure| json!({"seed": failure.seed, "reason": failure.reason})).collect::<Vec<_>>(),
            "virtual_hours": report.virtual_hours,
            "seconds": report.elapsed.as_secs_f64(),
            "thread_ms_per_seed": report.ms_per_seed(),
            "sometimes": report.counts,
            "never": report.never,
        }).to_string());
        return;
    }
    for (what, count) in &report.counts {
        result(&format!("{count:>9}  {what}"));
    }
    result(&format!(
        "{} seeds, {} divergences, {:.1} virtual hours in {:.1} s ({:.1} ms of a thread per seed)",
        report.seeds,
        report.failures.len(),
        report.virtual_hours,
        report.elapsed.as_secs_f64(),
        report.ms_per_seed(),
    ));
}

/// Whether the checks find every sabotage there is.
fn find_all(args: &Args, options: &Options) -> ExitCode {
    let mut missed = 0;
    let mut results = Vec::new();
    for (name, sabotage) in Sabotage::ALL {
        set(Some(sabotage));
        let report = until_failure(options);
        set(None);
        match report.failures.iter().min_by_key(|failure| failure.seed) {
            Some(failure) => {
                progress(&format!("{name}: found by seed {}: {}", failure.seed, failure.reason));
                results.push(
                    json!({"sabotage": name, "found": true, "seed": failure.seed, "reason": failure.reason}),
                );
            }
            None => {
                missed += 1;
                progress(&format!("{name}: NOT FOUND in {} seeds", report.seeds));
                results.push(json!({"sabotage": name, "found": false, "seeds": report.seeds}));
            }
        }
    }
    if args.json {
        result(&json!({"sabotages": results, "missed": missed}).to_string());
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stderr, reason = "progress goes to the person at the terminal")]
fn progress(line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::print_stdout, reason = "results go to the standard output")]
fn result(line: &str) {
    println!("{line}");
}
