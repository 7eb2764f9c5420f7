//! Turns a panic of the engine into an error that stays.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::BackendError;

const DAMAGED: BackendError = BackendError::Corrupt { what: "the file of the engine" };

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is within the engine of an [`crate::Embedded`] store, of which a panic is caught and becomes an
/// error: a panic hook has nothing to report then.
#[must_use]
pub fn is_engine_guarded() -> bool {
    GUARDED.get()
}

/// Whether the engine was found to be damaged. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard(Arc<AtomicBool>);

impl Guard {
    /// Fails once something has panicked.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        if self.0.load(Ordering::SeqCst) { Err(DAMAGED) } else { Ok(()) }
    }

    /// Runs a call of the engine.
    pub(super) fn run<T>(&self, f: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
        self.check()?;
        let outer = GUARDED.replace(true);
        // Nothing of what the engine was doing is looked at again: every later call fails before it.
        let done = catch_unwind(AssertUnwindSafe(f));
        GUARDED.set(outer);
        done.unwrap_or_else(|_| {
            self.0.store(true, Ordering::SeqCst);
            Err(DAMAGED)
        })
    }

    /// Drops a part of the engine; leaves it alone when the engine is damaged, for what it does then cannot be known.
    pub(super) fn discard<T>(&self, part: T) {
        let mut part = Some(part);
        let dropped = self.run(|| {
            drop(part.take());
            Ok(())
        });
        if dropped.is_err() {
            std::mem::forget(part);
        }
    }
}
