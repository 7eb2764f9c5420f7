//! Figures for people.

use std::time::Duration;

pub(crate) fn median(took: &mut [Duration]) -> Duration {
    at(took, 50)
}

pub(crate) fn p99(took: &mut [Duration]) -> Duration {
    at(took, 99)
}

fn at(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The middle one of several runs.
pub(crate) fn middle(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

/// One figure on a line.
pub(crate) fn line(name: &str, figure: String) {
    eprintln!("{name:<44} {figure}");
}
