//! Runs of many seeds: each world has a thread to itself, and a sample of the seeds is run twice.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engines;
use crate::executor::lock;
use crate::trace::Verbosity;
use crate::world::{self, Outcome};

/// Every so many seeds one is run twice, and both traces must be equal.
const TWICE_EVERY: u64 = 16;
/// How many seeds a run must have before it must have shown everything that can occur.
const SEEDS_FOR_ALL: u64 = 500;

/// What a run of many seeds of worlds of sessions must have shown, each at least once: otherwise its checks were not put to the test.
pub const EXPECTED: &[&str] = &[
    "accepted",
    "acknowledgement invented",
    "address changed",
    "belief checked",
    "clock frozen",
    "clock jumped",
    "closed in order",
    "commit acknowledged",
    "connection cut",
    "connection cut at any time",
    "connection half-open",
    "crash at a wait",
    "crash during a session",
    "crash in a commit",
    "crash in recovery",
    "demoted",
    "dial into a partition",
    "disk error",
    "disk full",
    "embedded backend",
    "entry back-dated",
    "entry forged",
    "entry signed for one peer alone",
    "fork",
    "frame altered",
    "frame replayed",
    "granted",
    "height invented",
    "hints poisoned",
    "in step without a session",
    "invite opened",
    "invite withdrawn",
    "join failed",
    "joined by an open invite",
    "joined by invite",
    "let leave",
    "link cut",
    "made an admin",
    "merge",
    "partition",
    "partition healed",
    "partition of one direction",
    "payload came back",
    "payload given up",
    "payload lost",
    "purged",
    "reader brings entries",
    "removed",
    "restart",
    "rung a",
    "rung b",
    "rung c",
    "rung d",
    "rung e",
    "rung f",
    "session complete",
    "session failed",
    "session resumed",
    "settings refused or failed",
    "slow reader",
    "standing checked",
    "stranger refused",
    "two entries signed at one place",
    "unflushed writes lost",
    "void entries held",
    "write refused or failed",
];

/// The kinds of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nodes run sessions as they are told to.
    Sessions,
    /// Nodes keep each other in step, and nobody tells them anything.
    Engines,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Sessions, Self::Engines];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Engines => "engines",
        }
    }

    fn expected(self) -> &'static [&'static str] {
        match self {
            Self::Sessions => EXPECTED,
            Self::Engines => engines::EXPECTED,
        }
    }

    /// Runs one world.
    #[must_use]
    pub fn world(self, seed: u64, verbosity: Verbosity) -> Outcome {
        match self {
            Self::Sessions => world::run(seed, verbosity),
            Self::Engines => engines::run(seed, verbosity),
        }
    }
}

/// Some seeds in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: u64,
    /// How many.
    pub seeds: u64,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which kind of worlds.
    pub kind: Kind,
    /// Which seeds.
    pub span: Span,
    /// How long at most.
    pub deadline: Option<Duration>,
    /// How many worlds at once.
    pub threads: usize,
}

/// A seed whose world is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// Why.
    pub reason: String,
    /// The last lines of its trace.
    pub last: Vec<String>,
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// Those that failed, by seed.
    pub failures: Vec<Failure>,
    /// What occurred, and how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// What should have occurred and did not.
    pub never: Vec<&'static str>,
    /// Virtual time of all worlds.
    pub virtual_hours: f64,
    /// Real time.
    pub elapsed: Duration,
    /// Real time of all threads.
    pub busy: Duration,
}

impl Report {
    /// Whether all was as it must be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.never.is_empty()
    }

    /// Milliseconds of one thread per seed.
    #[must_use]
    pub fn ms_per_seed(&self) -> f64 {
        self.busy.as_secs_f64() * 1000.0 / (self.seeds.max(1) as f64)
    }
}

/// Runs every seed.
#[must_use]
pub fn run(options: &Options, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Report {
    let mut report = work(options, Until::TheEnd, progress);
    if report.seeds >= SEEDS_FOR_ALL {
        let expected = options.kind.expected().iter();
        report.never = expected.copied().filter(|what| !report.counts.contains_key(what)).collect();
    }
    report
}

/// Runs seeds until one fails.
#[must_use]
pub fn until_failure(options: &Options) -> Report {
    work(options, Until::AFailure, &mut |_, _| {})
}

/// Runs one seed and prints its trace.
pub fn replay(kind: Kind, seed: u64) {
    drop(kind.world(seed, Verbosity::Printed));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    TheEnd,
    AFailure,
}

fn work(options: &Options, until: Until, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Report {
    let began = Instant::now();
    let next = AtomicU64::new(options.span.from);
    let end = options.span.from.saturating_add(options.span.seeds);
    let stop = AtomicBool::new(false);
    let shared = Mutex::new((Report::default(), progress));
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let late = options.deadline.is_some_and(|deadline| began.elapsed() > deadline);
                    if late || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let begun = Instant::now();
                    let (outcome, failure) = one(options.kind, seed, options.span.seeds == 1, until);
                    let mut shared = lock(&shared);
                    let (report, progress) = &mut *shared;
                    report.busy += begun.elapsed();
                    report.seeds += 1;
                    if let Some(outcome) = outcome {
                        report.virtual_hours += outcome.virtual_us as f64 / 3.6e9;
                        for (what, count) in outcome.counts {
                            *report.counts.entry(what).or_default() += count;
                        }
                    }
                    if let Some(failure) = failure {
                        report.failures.push(failure);
                        stop.store(until == Until::AFailure, Ordering::Relaxed);
                    }
                    progress(report.seeds, options.span.seeds);
                }
            });
        }
    });
    let (mut report, _) = shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.failures.sort_by_key(|failure| failure.seed);
    report.elapsed = began.elapsed();
    report
}

/// Runs one seed, and some of them twice.
fn one(kind: Kind, seed: u64, alone: bool, until: Until) -> (Option<Outcome>, Option<Failure>) {
    let failure = |reason: String, last| Some(Failure { seed, reason, last });
    let Some(outcome) = caught(kind, seed) else {
        return (None, failure("a panic".to_owned(), Vec::new()));
    };
    if let Some(divergence) = &outcome.divergence {
        let found = failure(world::chain(divergence), outcome.last.clone());
        return (Some(outcome), found);
    }
    if until == Until::TheEnd && (alone || seed.is_multiple_of(TWICE_EVERY)) {
        let again = caught(kind, seed);
        if again.is_none_or(|again| again.trace_hash != outcome.trace_hash) {
            return (Some(outcome), failure("the same seed gave another trace".to_owned(), Vec::new()));
        }
    }
    (Some(outcome), None)
}

fn caught(kind: Kind, seed: u64) -> Option<Outcome> {
    // A world is dropped as a whole: nothing of it is seen after a panic.
    catch_unwind(AssertUnwindSafe(|| kind.world(seed, Verbosity::Quiet))).ok()
}

#[cfg(test)]
mod tests;
