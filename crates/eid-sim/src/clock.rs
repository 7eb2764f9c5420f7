//! The clock of one node: virtual time as a device with a wrong clock shows it.

use std::sync::Mutex;

use crate::executor::{Sim, lock};
use crate::rng::Rng;

/// What every world begins at: 2026-01-01, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_767_225_600_000;
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * 3600 * 1000;

/// Shows the time of one node. It survives restarts of the node, as a battery-backed clock does.
#[derive(Debug)]
pub struct Clock {
    sim: Sim,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    skew_ms: i64,
    frozen_at_ms: Option<u64>,
}

impl Clock {
    /// A clock that shows the right time.
    #[must_use]
    pub fn right(sim: &Sim) -> Self {
        Self { sim: sim.clone(), state: Mutex::new(State { skew_ms: 0, frozen_at_ms: None }) }
    }

    fn true_ms(&self) -> u64 {
        BEGIN_MS + self.sim.now_us() / 1000
    }

    /// What it shows.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let state = lock(&self.state);
        state.frozen_at_ms.unwrap_or_else(|| self.true_ms().saturating_add_signed(state.skew_ms))
    }

    /// Sets it by up to ten years off, in either direction.
    pub fn jump(&self, rng: &mut Rng) {
        let range = if rng.chance(500) { TEN_YEARS_MS } else { 120_000 };
        let skew = i64::try_from(rng.below(2 * range.unsigned_abs())).unwrap_or(0) - range;
        let mut state = lock(&self.state);
        state.skew_ms = skew;
        state.frozen_at_ms = None;
    }

    /// Stops it.
    pub fn freeze(&self) {
        let now = self.now_ms();
        lock(&self.state).frozen_at_ms = Some(now);
    }

    /// Lets it go on from where it stands, still as wrong as it is.
    pub fn thaw(&self) {
        let mut state = lock(&self.state);
        if let Some(at) = state.frozen_at_ms.take() {
            state.skew_ms = i64::try_from(at).unwrap_or(0) - i64::try_from(self.true_ms()).unwrap_or(0);
        }
    }
}
