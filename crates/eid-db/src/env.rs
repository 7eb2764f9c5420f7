//! What a device needs from its surroundings: a clock and randomness.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. It orders concurrent writes for people and never decides authority.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// Gives secret randomness.
pub trait Entropy: Debug + Send + Sync {
    /// Fills the bytes.
    fn fill(&self, out: &mut [u8]);
}

/// The surroundings of an instance.
#[derive(Debug, Clone)]
pub struct Env {
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Env {
    /// The clock and the randomness of the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(System), entropy: Arc::new(System) }
    }

    /// Random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.entropy.fill(&mut out);
        out
    }
}

#[derive(Debug)]
struct System;

impl Clock for System {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Entropy for System {
    fn fill(&self, out: &mut [u8]) {
        getrandom::fill(out).expect("an operating system without randomness cannot hold keys");
    }
}
