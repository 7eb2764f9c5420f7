//! What happened in a world: a hash of everything, the last lines for people, and counts of what occurred at all.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

/// How many lines a trace keeps when it is not printed as it grows.
const LINES_KEPT: usize = 64;

/// How much of a trace is written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Only hashed.
    Quiet,
    /// Every line goes to the standard error output.
    Printed,
}

/// The events of one world, in order.
#[derive(Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    verbosity: Verbosity,
    last: VecDeque<String>,
    counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// Begins empty.
    #[must_use]
    pub fn new(verbosity: Verbosity) -> Self {
        Self { hasher: blake3::Hasher::new(), verbosity, last: VecDeque::new(), counts: BTreeMap::new() }
    }

    /// Adds a line that people may want to read.
    pub fn line(&mut self, now_us: u64, line: &std::fmt::Arguments<'_>) {
        let mut text = String::new();
        // Writing to a string does not fail.
        if write!(text, "{:>12.6} {line}", now_us as f64 / 1e6).is_err() {
            return;
        }
        self.hasher.update(text.as_bytes());
        if self.verbosity == Verbosity::Printed {
            print_line(&text);
        }
        if self.last.len() == LINES_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    /// Adds bytes that only the hash shows.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }

    /// Adds numbers that only the hash shows.
    pub fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hasher.update(&number.to_le_bytes());
        }
    }

    /// Counts that something occurred which a run as a whole must have shown.
    pub fn sometimes(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Counts something `times`.
    pub fn sometimes_many(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.counts.entry(what).or_default() += times;
        }
    }

    /// What occurred, and how often.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The last lines.
    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }

    /// Names everything that happened so far.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

#[expect(clippy::print_stderr, reason = "the trace of a replayed seed is for the person at the terminal")]
fn print_line(line: &str) {
    eprintln!("{line}");
}
