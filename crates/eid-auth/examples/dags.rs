//! Searches random DAGs for a difference between the engine and the oracle, and for attacks that succeed.
//!
//!     dags [--dags N] [--seed S]    N DAGs from seed S on: engine, oracle and other orders of arrival agree, and no
//!                                   key changes what stronger keys decided
//!     dags --mutants                every rule, broken on purpose, is found

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]
#![expect(clippy::disallowed_methods, reason = "a program has arguments, a clock and threads")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use eid_auth::oracle::Mutant;

#[path = "../tests/support/mod.rs"]
#[expect(unreachable_pub, reason = "shared with the tests")]
mod support;

use support::properties::{Tally, attacks, broken, differs, disagreements};

/// Seeds within which every broken rule must be found.
const MUTANT_SEEDS: u64 = 20_000;
/// Seeds that a thread takes at a time.
const SHARE: u64 = 50;
/// Faults that are shown.
const SHOWN_MAX: usize = 20;

fn number(args: &[String], name: &str, default: u64) -> Result<u64, String> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(default) };
    let value = args.get(at + 1).ok_or_else(|| format!("{name} needs a number"))?;
    value.parse().map_err(|_| format!("{name} {value:?} is not a number"))
}

fn search(first: u64, count: u64) -> Result<(), String> {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let sum = Mutex::new((Tally::default(), Vec::<String>::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(SHARE, Ordering::Relaxed);
                    if from >= count {
                        return;
                    }
                    let mut tally = Tally::default();
                    let mut faults = Vec::new();
                    for seed in first + from..first + (from + SHARE).min(count) {
                        let mut found = disagreements(seed, &mut tally);
                        let gaps = tally.gaps;
                        found.extend(attacks(seed, &mut tally));
                        if tally.gaps > gaps {
                            println!("seed {seed}: the known gap of the definition");
                        }
                        faults.extend(found.into_iter().map(|fault| format!("seed {seed}: {fault}")));
                    }
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let before = sum.0.dags;
                    sum.0.add(tally);
                    for fault in faults {
                        if sum.1.len() < SHOWN_MAX {
                            println!("{fault}");
                        }
                        sum.1.push(fault);
                    }
                    let tenth = (count / 10).max(1);
                    if before / tenth != sum.0.dags / tenth {
                        let seconds = begin.elapsed().as_secs_f64();
                        println!("{} DAGs, {} faults, {seconds:.0} s", sum.0.dags, sum.1.len());
                    }
                }
            });
        }
    });
    let (tally, faults) = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!(
        "{} DAGs: {} valid entries, {} of them void, {} refused; {} hostile entries, once strong in {} DAGs; \
         {} faults, the known gap of the definition in {} DAGs; {:.1} s",
        tally.dags,
        tally.entries,
        tally.void,
        tally.refused,
        tally.hostile,
        tally.once_strong,
        faults.len(),
        tally.gaps,
        begin.elapsed().as_secs_f64()
    );
    match faults.first() {
        None => Ok(()),
        Some(fault) => Err(format!("{} faults, the first: {fault}", faults.len())),
    }
}

fn mutants(first: u64) -> Result<(), String> {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let name = mutant.name();
        let seeds = first..first + MUTANT_SEEDS;
        let compared = seeds.clone().find(|seed| differs(*seed, mutant));
        let property = seeds.clone().take(2_000).find_map(|seed| {
            let found = broken(seed, Some(mutant), &mut Tally::default());
            found.into_iter().next().map(|found| (seed, found))
        });
        let property =
            property.map_or("no property".to_owned(), |(seed, found)| format!("{found} (seed {seed})"));
        match compared {
            Some(seed) => println!("{name:<10} other verdicts at seed {seed}; {property}"),
            None => {
                println!("{name:<10} no other verdicts within {MUTANT_SEEDS} seeds; {property}");
                missed.push(name);
            }
        }
    }
    if missed.is_empty() {
        println!("{} broken rules, all found", Mutant::ALL.len());
        return Ok(());
    }
    Err(format!("not found: {}", missed.join(", ")))
}

fn run(args: &[String]) -> Result<(), String> {
    let known = ["--dags", "--seed", "--mutants"];
    let is_value = |arg: &str| arg.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(other) = args.iter().find(|arg| !known.contains(&arg.as_str()) && !is_value(arg)) {
        return Err(format!("unexpected argument {other:?}"));
    }
    let first = number(args, "--seed", 0)?;
    if args.iter().any(|arg| arg == "--mutants") {
        return mutants(first);
    }
    search(first, number(args, "--dags", 2_000)?)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dags: {error}");
            ExitCode::FAILURE
        }
    }
}
