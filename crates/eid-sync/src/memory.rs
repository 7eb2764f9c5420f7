//! What has arrived in all sessions and is not stored yet, in bytes: while it is too much, nobody is listened to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all sessions hold together.
#[derive(Debug)]
pub(crate) struct Memory {
    held: AtomicUsize,
    most: usize,
}

/// What one batch holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<Memory>, usize);

impl Memory {
    pub(crate) fn new(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }

    /// Whether nothing more is to be taken in. What sessions hold then is being stored, so there is room again soon.
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.most
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Takes in what has arrived.
    pub(crate) fn hold(memory: &Arc<Self>, bytes: usize) -> Held {
        memory.held.fetch_add(bytes, Ordering::SeqCst);
        Held(Arc::clone(memory), bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(self.1, Ordering::SeqCst);
    }
}
