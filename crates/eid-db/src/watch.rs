//! Being called after writes: each caller has a thread of its own, so that a slow one delays nobody and loses nothing.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use eid_core::TreeId;
use eid_core::dag::Seq;
use eid_store::Admitted;

use crate::database::{Database, TreeState};
use crate::error::DbError;
use crate::limits::WATCH_RANGES_MAX;

/// Says that entries were added to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteNotice {
    /// The database.
    pub database: TreeId,
    /// Where the entries lie in the order of arrival.
    pub entries: Range<Seq>,
    /// How many batches this notice stands for: more than one when the last call took longer than the next write.
    pub batches: u64,
    /// Whether other entries count than before, of those that were here already: the range may be empty then.
    pub standing: bool,
    /// Whether the calls have fallen so far behind that the range may hold other entries too.
    pub lagged: bool,
}

/// Which writes a watch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Local,
    Remote,
}

/// What has been written and not been told yet.
#[derive(Debug, Default)]
struct Waiting {
    notices: VecDeque<WriteNotice>,
    ended: bool,
}

impl Waiting {
    /// Takes a batch in: a notice of its own, or a part of the last one.
    fn add(&mut self, database: TreeId, entries: Range<Seq>, standing: bool) {
        let is_full = self.notices.len() >= WATCH_RANGES_MAX;
        match self.notices.back_mut() {
            Some(last) if is_full || last.entries.end == entries.start => {
                last.lagged |= last.entries.end != entries.start;
                last.entries.end = entries.end;
                last.batches += 1;
                last.standing |= standing;
            }
            _ => {
                self.notices.push_back(WriteNotice {
                    database,
                    entries,
                    batches: 1,
                    standing,
                    lagged: false,
                });
            }
        }
    }
}

/// Where the committing thread leaves what the thread of the watch fetches.
#[derive(Debug)]
struct Mailbox {
    origin: Origin,
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, admitted: &Admitted) {
        self.lock().add(admitted.tree, admitted.seqs.clone(), admitted.standing);
        self.bell.notify_one();
    }

    /// The next notice; nothing once the watch has ended.
    fn take(&self) -> Option<WriteNotice> {
        let mut waiting = self.lock();
        loop {
            if waiting.ended {
                return None;
            }
            if let Some(notice) = waiting.notices.pop_front() {
                return Some(notice);
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self) {
        self.lock().ended = true;
        self.bell.notify_one();
    }
}

/// The watches of one database.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<Vec<Weak<Mailbox>>>);

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Mailbox>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a batch with everybody whom it concerns. Waits for nobody.
    pub(crate) fn notify(&self, admitted: &Admitted) {
        // Payloads of entries that were here already are no write.
        if admitted.seqs.is_empty() && !admitted.standing {
            return;
        }
        let origin = if admitted.local { Origin::Local } else { Origin::Remote };
        for mailbox in self.lock().iter().filter_map(Weak::upgrade).filter(|held| held.origin == origin) {
            mailbox.put(admitted);
        }
    }
}

/// Calls back after writes until it is dropped.
///
/// Dropping it waits for a call that is running, unless it is dropped by that call; nothing is called afterwards.
#[must_use = "calls end when this is dropped"]
pub struct WriteWatch {
    state: Arc<TreeState>,
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for WriteWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteWatch").field("origin", &self.mailbox.origin).finish_non_exhaustive()
    }
}

impl Drop for WriteWatch {
    fn drop(&mut self) {
        let mailbox = Arc::as_ptr(&self.mailbox);
        self.state.watches.lock().retain(|other| other.as_ptr() != mailbox);
        self.mailbox.end();
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        if let Some(thread) = thread {
            thread.join().expect("panics of calls are caught");
        }
    }
}

impl Database {
    /// Calls `call` after each batch of entries that this device wrote, once they are on disk (relaxed ones: once they
    /// can be read).
    ///
    /// It runs on a thread of its own, so it may take its time and may write. Batches that come meanwhile are told of
    /// in the next notices. A call that panics is not repeated, and the next one comes all the same.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn on_local_write(
        &self,
        call: impl Fn(&WriteNotice) + Send + 'static,
    ) -> Result<WriteWatch, DbError> {
        self.watch(Origin::Local, call)
    }

    /// Calls `call` after each batch of entries that came from elsewhere, and after other entries came to count. The same
    /// holds for it. Void entries are told of as others are: [`Database::change_of`] says of each whether it counts.
    pub fn on_remote_write(
        &self,
        call: impl Fn(&WriteNotice) + Send + 'static,
    ) -> Result<WriteWatch, DbError> {
        self.watch(Origin::Remote, call)
    }

    fn watch(
        &self,
        origin: Origin,
        call: impl Fn(&WriteNotice) + Send + 'static,
    ) -> Result<WriteWatch, DbError> {
        let mailbox = Arc::new(Mailbox { origin, waiting: Mutex::default(), bell: Condvar::new() });
        let inbox = Arc::clone(&mailbox);
        let run = move || {
            while let Some(notice) = inbox.take() {
                if catch_unwind(AssertUnwindSafe(|| call(&notice))).is_err() {
                    // The panic hook has told it; there is nobody else to tell.
                }
            }
        };
        let name = format!("eid watch {}", self.id().short());
        let thread = thread::Builder::new().name(name).spawn(run).map_err(DbError::Thread)?;
        let state = Arc::clone(self.state());
        state.watches.lock().push(Arc::downgrade(&mailbox));
        Ok(WriteWatch { state, mailbox, thread: Some(thread) })
    }
}
