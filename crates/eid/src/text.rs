//! Texts that several edit at once, with writes that can be awaited and an edit buffer that stores itself.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eid_core::EntryId;
use eid_db::{EditPolicy, Observed, Side, TextCursor, TextDelta};
use tokio::sync::Notify;

use crate::error::Error;
use crate::limits::{TEXT_RETRY_MAX, TEXT_RETRY_MIN};
use crate::offload::{offload, write_in_turn};

/// A text of a database. A cheap handle; making one does nothing.
///
/// Positions are Unicode scalar values. A write is one entry and returns when it is on disk; [`TextHandle::edit`] gives
/// a buffer that makes one entry of many edits.
#[derive(Debug, Clone)]
pub struct TextHandle {
    pub(crate) inner: eid_db::TextHandle,
}

impl TextHandle {
    /// The name of its store.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// How many characters there are. Reads none of them.
    pub fn len(&self) -> Result<usize, Error> {
        Ok(self.inner.len()?)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.inner.is_empty()?)
    }

    /// The text.
    pub fn read(&self) -> Result<String, Error> {
        Ok(self.inner.read()?)
    }

    /// A part of the text. Reads no more than that.
    pub fn slice(&self, range: Range<usize>) -> Result<String, Error> {
        Ok(self.inner.slice(range)?)
    }

    /// Puts text in before a position.
    pub async fn insert(&self, at: usize, text: &str) -> Result<(), Error> {
        self.write(|tx| tx.insert(at, text)).await
    }

    /// Takes characters out from a position on.
    pub async fn delete(&self, at: usize, count: usize) -> Result<(), Error> {
        self.write(|tx| tx.delete(at, count)).await
    }

    /// Puts text in the place of a part.
    pub async fn replace(&self, range: Range<usize>, text: &str) -> Result<(), Error> {
        self.write(|tx| tx.replace(range, text)).await
    }

    /// Makes the text another one, by the edits in which they differ.
    pub async fn set(&self, text: &str) -> Result<(), Error> {
        self.write(|tx| tx.set(text)).await
    }

    async fn write(
        &self,
        work: impl FnOnce(&eid_db::TxText<'_>) -> Result<(), eid_db::DbError>,
    ) -> Result<(), Error> {
        write_in_turn(self.inner.database(), |tx| work(&self.inner.within(tx))).await
    }

    /// A cursor at a position: it stays with its neighbour while others edit, and others can be told of it.
    pub fn cursor(&self, at: usize, side: Side) -> Result<TextCursor, Error> {
        Ok(self.inner.cursor(at, side)?)
    }

    /// Where a cursor stands. Nothing if its neighbour is not here.
    pub fn position(&self, cursor: &TextCursor) -> Result<Option<usize>, Error> {
        Ok(self.inner.position(cursor)?)
    }

    /// What is edited from here on, entry by entry.
    pub fn observe(&self) -> Result<TextChanges, Error> {
        Ok(TextChanges { inner: self.inner.observe()? })
    }

    /// A local copy to be edited without waiting for anything. It stores itself: one entry per pause in typing.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn edit(&self) -> Result<TextEdit, Error> {
        self.edit_with(EditPolicy::default())
    }

    /// As [`Self::edit`], with other times at which edits become an entry.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn edit_with(&self, policy: EditPolicy) -> Result<TextEdit, Error> {
        let shared = Arc::new(Shared {
            buffer: Mutex::new(self.inner.edit()?.with_policy(policy)),
            edited: Notify::new(),
            closed: AtomicBool::new(false),
            failed: Mutex::new(None),
            storing: tokio::sync::Mutex::new(()),
        });
        tokio::spawn(Arc::clone(&shared).store_when_due());
        Ok(TextEdit { shared })
    }
}

/// A stream of the edits of one text. It follows the log, so nothing is queued however slow its reader is.
#[derive(Debug)]
pub struct TextChanges {
    inner: eid_db::TextChanges,
}

impl TextChanges {
    /// The whole text. What the stream gives from here on are changes of it.
    pub fn text(&mut self) -> Result<String, Error> {
        Ok(self.inner.text()?)
    }

    /// What came next, if it is there already.
    pub fn next_ready(&mut self) -> Result<Option<Observed>, Error> {
        Ok(self.inner.next_ready()?)
    }

    /// What came next; waits for it.
    pub async fn next(&mut self) -> Result<Observed, Error> {
        Ok(self.inner.next().await?)
    }
}

/// A local copy of a text, to be edited without waiting for anything: every call but those that are awaited is done at
/// once.
///
/// Edits are stored in the background, as one entry per pause in typing. [`TextEdit::close`] stores what is left and
/// says whether that worked; dropping it stores what is left too, as long as the runtime runs. It holds the whole text
/// in memory.
#[derive(Debug)]
pub struct TextEdit {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    buffer: Mutex<eid_db::TextEdit>,
    edited: Notify,
    closed: AtomicBool,
    failed: Mutex<Option<Error>>,
    /// Held by whoever stores edits: one at a time.
    storing: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Stores what is in the buffer, entry by entry.
    async fn store(self: Arc<Self>) -> Result<Option<EntryId>, Error> {
        let _one_at_a_time = self.storing.lock().await;
        let mut last = None;
        let db = lock(&self.buffer).handle().database().clone();
        loop {
            // The buffer is taken within the turn of the write: whoever has the turn may be editing.
            let (more, pending) = match db.write_async(|tx| lock(&self.buffer).stage_flush(tx)).await {
                Ok(staged) => staged,
                Err(error) => {
                    lock(&self.buffer).unstage_flush(error)?;
                    continue;
                }
            };
            if !more {
                return Ok(last);
            }
            let shared = Arc::clone(&self);
            let stored = offload(move || {
                let committed = pending.commit();
                lock(&shared.buffer).finish_flush(committed)
            });
            last = stored.await??.map(|committed| committed.id).or(last);
        }
    }

    /// Stores and takes note of how that went. Says whether it went well.
    async fn try_to_store(self: &Arc<Self>) -> bool {
        let stored = Arc::clone(self).store().await;
        if let Err(error) = &stored {
            tracing::warn!(%error, "edits of a text could not be stored");
        }
        let went_well = stored.is_ok();
        *lock(&self.failed) = stored.err();
        went_well
    }

    async fn store_when_due(self: Arc<Self>) {
        let mut retries = Retries::default();
        while !self.closed.load(Ordering::Acquire) {
            let due = lock(&self.buffer).due(Instant::now());
            match due.map(|due| retries.not_before(due)) {
                None => self.edited.notified().await,
                Some(due) if due <= Instant::now() => {
                    let went_well = self.try_to_store().await;
                    retries.note(went_well, Instant::now());
                }
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.edited.notified() => {}
                    }
                }
            }
        }
        self.try_to_store().await;
    }
}

/// When what failed is tried again: after a wait that doubles from failure to failure.
#[derive(Debug, Default)]
struct Retries {
    /// How long the last wait is, and when it is over.
    waiting: Option<(Duration, Instant)>,
}

impl Retries {
    fn note(&mut self, went_well: bool, now: Instant) {
        let wait = self.waiting.map_or(TEXT_RETRY_MIN, |(wait, _)| (wait * 2).min(TEXT_RETRY_MAX));
        self.waiting = if went_well { None } else { now.checked_add(wait).map(|over| (wait, over)) };
    }

    fn not_before(&self, due: Instant) -> Instant {
        self.waiting.map_or(due, |(_, over)| over.max(due))
    }
}

impl TextEdit {
    fn change<R>(
        &self,
        change: impl FnOnce(&mut eid_db::TextEdit) -> Result<R, eid_db::DbError>,
    ) -> Result<R, Error> {
        let changed = change(&mut lock(&self.shared.buffer))?;
        self.shared.edited.notify_one();
        Ok(changed)
    }

    /// How many characters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared.buffer).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text, with all edits.
    #[must_use]
    pub fn text(&self) -> String {
        lock(&self.shared.buffer).text()
    }

    /// A part of it.
    pub fn slice(&self, range: Range<usize>) -> Result<String, Error> {
        Ok(lock(&self.shared.buffer).slice(range)?)
    }

    /// Puts text in before a position.
    pub fn insert(&mut self, at: usize, text: &str) -> Result<(), Error> {
        self.change(|buffer| buffer.insert(at, text))
    }

    /// Takes characters out from a position on.
    pub fn delete(&mut self, at: usize, count: usize) -> Result<(), Error> {
        self.change(|buffer| buffer.delete(at, count))
    }

    /// Puts text in the place of a part.
    pub fn replace(&mut self, range: Range<usize>, text: &str) -> Result<(), Error> {
        self.change(|buffer| buffer.replace(range, text))
    }

    /// Makes the text another one, by the edits in which they differ.
    pub fn set(&mut self, text: &str) -> Result<(), Error> {
        self.change(|buffer| buffer.set(text))
    }

    /// Takes over what came from elsewhere, and gives it as changes of the buffer.
    pub fn remote(&mut self) -> Result<Vec<TextDelta>, Error> {
        self.change(eid_db::TextEdit::remote)
    }

    /// Waits until something came from elsewhere, and takes it over.
    pub async fn next_remote(&mut self) -> Result<Vec<TextDelta>, Error> {
        loop {
            // Listening begins before looking, so that nothing slips in between.
            let arrival = lock(&self.shared.buffer).arrival();
            let found = self.remote()?;
            if !found.is_empty() {
                return Ok(found);
            }
            arrival.await;
        }
    }

    /// Whether there are edits that are not stored.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        lock(&self.shared.buffer).is_dirty()
    }

    /// Why the last attempt to store edits failed, if it did. They are kept, and tried again.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        lock(&self.shared.failed).as_ref().map(ToString::to_string)
    }

    /// Stores all edits now, and gives the last entry that came of it.
    pub async fn flush(&mut self) -> Result<Option<EntryId>, Error> {
        Arc::clone(&self.shared).store().await
    }

    /// Stores what is left and ends.
    ///
    /// # Errors
    /// When that fails; the edits are lost then. To be able to try again, call [`Self::flush`] first.
    pub async fn close(mut self) -> Result<(), Error> {
        self.flush().await.map(drop)
    }
}

impl Drop for TextEdit {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.edited.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_tried_less_and_less() {
        let (mut retries, start) = (Retries::default(), Instant::now());
        assert_eq!(retries.not_before(start), start);
        let (mut now, mut tries) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            retries.note(false, now);
            // Due at once, as with a policy without a pause.
            now = retries.not_before(now);
            tries += 1;
        }
        assert!((60..80).contains(&tries), "{tries}");
        assert_eq!(retries.not_before(now + TEXT_RETRY_MAX * 2), now + TEXT_RETRY_MAX * 2);
        retries.note(true, now);
        assert_eq!(retries.not_before(now), now);
        retries.note(false, now);
        assert_eq!(retries.not_before(now), now + TEXT_RETRY_MIN);
    }
}
