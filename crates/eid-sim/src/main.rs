//! Runs simulated worlds, many seeds of them, and says how to run one again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use eid_core::sabotage::{Sabotage, set};
use eid_sim::crowd::{self, Order};
use eid_sim::run::{Kind, Options, Report, Span, replay, run, until_failure};
use eid_sim::world::chain;
use serde_json::json;

/// Runs simulated worlds and checks what must hold in them.
///
/// Example: eid-sim --seeds 2000
#[derive(Debug, Parser)]
#[command(name = "eid-sim", version)]
struct Args {
    /// Which kind of worlds.
    #[arg(long, value_name = "KIND", default_value = "all")]
    kind: Worlds,
    /// How many seeds of each kind to run.
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    from: u64,
    /// Stops after so many seconds, whatever the number of seeds.
    #[arg(long, value_name = "T")]
    seconds: Option<u64>,
    /// Fails when it stops before so many seeds of each kind.
    #[arg(long, value_name = "N", default_value_t = 0)]
    least: u64,
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
    /// Lets so many devices come back to one node, at once and one after another, and compares: nothing else is run.
    #[arg(long, value_name = "N", conflicts_with_all = ["seed", "sabotage"])]
    crowd: Option<usize>,
    /// How many worlds run at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Prints the result as one JSON value.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Worlds {
    /// Nodes run sessions as they are told to.
    Sessions,
    /// Nodes keep each other in step.
    Engines,
    /// Both, one after the other; time is shared between them.
    All,
}

impl Worlds {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Sessions => &[Kind::Sessions],
            Self::Engines => &[Kind::Engines],
            Self::All => &Kind::ALL,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let span = match args.seed {
        Some(seed) => Span { from: seed, seeds: 1 },
        None => Span { from: args.from, seeds: args.seeds },
    };
    if let Some(devices) = args.crowd {
        return crowd(&args, devices);
    }
    match args.sabotage.as_deref() {
        None => {}
        Some("all") => return find_all(&args, span),
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
        args.kind.kinds().iter().for_each(|kind| replay(*kind, seed));
    }
    let begin = Instant::now();
    let mut reports = Vec::new();
    for (at, &kind) in args.kind.kinds().iter().enumerate() {
        let options = options(&args, kind, span, begin, args.kind.kinds().len() - at);
        let report = match args.sabotage {
            Some(_) => until_failure(&options),
            None => run(&options, &mut |done, total| {
                if done % 200 == 0 {
                    progress(&format!("{done} of {total} seeds of {}", kind.name()));
                }
            }),
        };
        reports.push((kind, report));
    }
    show(&reports, &args);
    let mut is_clean = true;
    for (kind, report) in &reports {
        is_clean &= report.is_clean();
        if report.seeds < args.least {
            progress(&format!("{} seeds of {} are too few: not {}", report.seeds, kind.name(), args.least));
            is_clean = false;
        }
    }
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is to be run of one kind, when so many kinds share what is left of the time.
fn options(args: &Args, kind: Kind, span: Span, begin: Instant, kinds_left: usize) -> Options {
    let kinds_left = u32::try_from(kinds_left).unwrap_or(1);
    let left =
        args.seconds.map(|seconds| Duration::from_secs(seconds).saturating_sub(begin.elapsed()) / kinds_left);
    Options { kind, span, deadline: left, threads: args.threads.max(1) }
}

fn show(reports: &[(Kind, Report)], args: &Args) {
    let mut values = serde_json::Map::new();
    for (kind, report) in reports {
        let kind = kind.name();
        for failure in &report.failures {
            progress(&format!("{kind}, seed {}: {}", failure.seed, failure.reason));
            for line in failure.last.iter().rev().take(12).rev() {
                progress(&format!("    {line}"));
            }
            let sabotage = args.sabotage.iter().map(|name| format!(" --sabotage {name}")).collect::<String>();
            let seed = failure.seed;
            progress(&format!("  replay: cargo xtask sim --kind {kind} --seed {seed} --trace{sabotage}"));
        }
        for what in &report.never {
            progress(&format!("never occurred in worlds of {kind}: {what}"));
        }
        if args.json {
            let value = json!({
                "seeds": report.seeds,
                "divergences": report.failures.len(),
                "failures": report.failures.iter()
                    .map(|failure| json!({"seed": failure.seed, "reason": failure.reason})).collect::<Vec<_>>(),
                "virtual_hours": report.virtual_hours,
                "seconds": report.elapsed.as_secs_f64(),
                "thread_ms_per_seed": report.ms_per_seed(),
                "sometimes": report.counts,
                "never": report.never,
            });
            values.insert(kind.to_owned(), value);
            continue;
        }
        for (what, count) in &report.counts {
            result(&format!("{count:>9}  {what}"));
        }
        result(&format!(
            "{kind}: {} seeds, {} divergences, {:.1} virtual hours in {:.1} s ({:.1} ms of a thread per seed)",
            report.seeds,
            report.failures.len(),
            report.virtual_hours,
            report.elapsed.as_secs_f64(),
            report.ms_per_seed(),
        ));
    }
    if args.json {
        result(&serde_json::Value::Object(values).to_string());
    }
}

/// Whether many devices at once are served no slower than one after another.
fn crowd(args: &Args, devices: usize) -> ExitCode {
    let mut both = Vec::new();
    for order in [Order::OneByOne, Order::AtOnce] {
        match crowd::run(args.from, devices, order) {
            Ok(served) => both.push((order, served)),
            Err(error) => {
                progress(&format!("{order:?}: {}", chain(&*error)));
                return ExitCode::FAILURE;
            }
        }
    }
    for (order, served) in &both {
        let (virtual_s, real_s) = (served.virtual_us as f64 / 1e6, served.real.as_secs_f64());
        if args.json {
            result(
                &json!({
                    "devices": devices, "order": format!("{order:?}"), "virtual_seconds": virtual_s,
                    "seconds": real_s, "waiting_bytes_max": served.waiting_bytes, "polls": served.polls,
                })
                .to_string(),
            );
        } else {
            result(&format!(
                "{devices} devices, {order:?}: all served in {virtual_s:.2} virtual seconds, {real_s:.1} s of a thread, \
                 at most {} bytes waited",
                served.waiting_bytes
            ));
        }
    }
    let is_no_slower = both[1].1.virtual_us <= both[0].1.virtual_us;
    if is_no_slower && both.iter().all(|(_, served)| served.is_within_memory()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether the checks find every sabotage there is.
fn find_all(args: &Args, span: Span) -> ExitCode {
    let mut missed = 0;
    let mut results = Vec::new();
    for (name, sabotage) in Sabotage::ALL {
        set(Some(sabotage));
        let (mut found, mut seeds) = (None, 0);
        for &kind in args.kind.kinds() {
            let report = until_failure(&options(args, kind, span, Instant::now(), 1));
            seeds += report.seeds;
            let failure = report.failures.into_iter().min_by_key(|failure| failure.seed);
            found = failure.map(|failure| (kind.name(), failure));
            if found.is_some() {
                break;
            }
        }
        set(None);
        match found {
            Some((kind, failure)) => {
                progress(&format!("{name}: found by seed {} of {kind}: {}", failure.seed, failure.reason));
                results.push(json!({
                    "sabotage": name, "found": true, "kind": kind, "seed": failure.seed, "reason": failure.reason
                }));
            }
            None => {
                missed += 1;
                progress(&format!("{name}: NOT FOUND in {seeds} seeds"));
                results.push(json!({"sabotage": name, "found": false, "seeds": seeds}));
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
