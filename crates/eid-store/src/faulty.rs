//! A backend that fails by seed.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, BackendError, Batch, Snapshot};
use crate::embedded::Dice;

/// How often what fails: one in so many calls, 0 for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odds {
    /// Snapshots that cannot be taken.
    pub snapshot: u64,
    /// Commits that fail and did not take effect.
    pub before_commit: u64,
    /// Commits that are reported as failed and did take effect.
    pub after_commit: u64,
    /// Commits for which the disk is full.
    pub full: u64,
    /// Commits that meet another process.
    pub conflict: u64,
}

/// Passes calls on, and fails some of them: the same ones for the same seed and the same calls.
#[derive(Debug)]
pub struct Faulty<B> {
    below: B,
    state: Mutex<(Dice, Odds)>,
}

impl<B> Faulty<B> {
    /// Fails with these odds.
    pub fn new(below: B, seed: u64, odds: Odds) -> Self {
        Self { below, state: Mutex::new((Dice(seed), odds)) }
    }

    fn lock(&self) -> MutexGuard<'_, (Dice, Odds)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the odds.
    pub fn set_odds(&self, odds: Odds) {
        self.lock().1 = odds;
    }

    fn happens(&self, odds: impl FnOnce(&Odds) -> u64) -> bool {
        let mut state = self.lock();
        match odds(&state.1) {
            0 => false,
            sides => state.0.roll(sides) == 0,
        }
    }
}

fn fault() -> BackendError {
    BackendError::Io(Arc::new(io::Error::other("a fault that was asked for")))
}

impl<B: Backend> Backend for Faulty<B> {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        if self.happens(|odds| odds.snapshot) {
            return Err(fault());
        }
        self.below.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        if self.happens(|odds| odds.conflict) && !batch.guards.is_empty() {
            return Err(BackendError::Conflict);
        }
        if self.happens(|odds| odds.full) {
            return Err(BackendError::Full);
        }
        if self.happens(|odds| odds.before_commit) {
            return Err(fault());
        }
        self.below.commit(batch)?;
        if self.happens(|odds| odds.after_commit) { Err(fault()) } else { Ok(()) }
    }

    fn close(&self) -> Result<(), BackendError> {
        self.below.close()
    }
}
