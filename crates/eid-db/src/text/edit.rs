//! The edit buffer: a text that is edited at once and becomes an entry when its owner says so.

use std::ops::Range;
use std::time::{Duration, Instant};

use eid_core::dag::{Replica as _, Seq};
use eid_store::{Committed, TreeSnapshot};

use super::diff::differences;
use super::observe::Observed;
use super::pending::Pending;
use super::rope::Rope;
use super::{Side, TextChanges, TextCursor, TextDelta, TextHandle, check_range};
use crate::error::DbError;
use crate::limits::{ARRIVED_DELTAS_MAX, FLUSH_CHARS_MAX};
use crate::transaction::{PendingCommit, Transaction};

/// When edits become an entry: after a pause in typing, at the latest after a while, and at once when there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditPolicy {
    /// So long after the last edit.
    pub pause: Duration,
    /// At the latest so long after the first edit that was not sent.
    pub at_most: Duration,
    /// At once when so many characters were put in and taken out.
    pub chars: usize,
}

impl Default for EditPolicy {
    fn default() -> Self {
        Self { pause: Duration::from_millis(500), at_most: Duration::from_secs(5), chars: 64 * 1024 }
    }
}

/// A local copy of a text, to be edited without waiting for anything.
///
/// It holds the whole text in memory. Edits take effect in it at once and are stored by [`TextEdit::flush`], all since
/// the last one as one entry; whoever holds the buffer calls it when [`TextEdit::due`] says so, and before dropping it:
/// what was not flushed is lost with the buffer. Edits that come from elsewhere arrive when [`TextEdit::remote`] is
/// called, and with each flush. No call but a flush waits for the disk.
#[derive(Debug)]
#[must_use = "edits that are not flushed are lost with the buffer"]
pub struct TextEdit {
    changes: TextChanges,
    buffer: Rope,
    /// From what is stored, once what is being sent is there, to what is in the buffer.
    pending: Pending,
    sending: Option<Sending>,
    /// How many characters one entry takes at most; less once an entry was too large.
    part_chars: usize,
    /// What came from elsewhere and is not in the buffer: changes of what `pending` is a difference to.
    behind: Vec<TextDelta>,
    /// What is stored has to be read again to know what came.
    stale: bool,
    policy: EditPolicy,
    pauses: Pauses,
}

/// A flush under way.
#[derive(Debug)]
struct Sending {
    /// What is pending if it fails.
    whole: Pending,
    /// What came from elsewhere, in positions of what is stored if it does not fail.
    behind: Vec<TextDelta>,
    /// The place in the order of arrival that the flush was made at.
    at: Seq,
}

#[derive(Debug, Default)]
struct Pauses {
    edited: bool,
    failed: bool,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Edits on their way from a [`TextEdit`] to the disk.
#[derive(Debug)]
#[must_use = "nothing is stored before the commit"]
pub struct PendingFlush(PendingCommit);

impl PendingFlush {
    /// Seals, stores and waits for the disk. Blocks the calling thread. The buffer is told by
    /// [`TextEdit::finish_flush`].
    pub fn commit(self) -> Result<Option<Committed>, DbError> {
        self.0.commit()
    }

    /// Lets the commit return before it is on disk.
    pub fn relaxed(self) -> Self {
        Self(self.0.relaxed())
    }
}

impl TextEdit {
    pub(super) fn open(text: &TextHandle) -> Result<Self, DbError> {
        let snapshot = text.db.snapshot()?;
        let buffer = Rope::from(text.read_in(&snapshot)?.as_str());
        Ok(Self {
            changes: TextChanges::from(text.clone(), &snapshot),
            buffer,
            pending: Pending::default(),
            sending: None,
            part_chars: FLUSH_CHARS_MAX,
            behind: Vec::new(),
            stale: false,
            policy: EditPolicy::default(),
            pauses: Pauses::default(),
        })
    }

    /// Lets edits become entries at other times.
    pub fn with_policy(self, policy: EditPolicy) -> Self {
        Self { policy, ..self }
    }

    /// The text that is edited.
    #[must_use]
    pub fn handle(&self) -> &TextHandle {
        self.changes.handle()
    }

    /// How many characters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == 0
    }

    /// The text, with all edits.
    #[must_use]
    pub fn text(&self) -> String {
        self.buffer.text()
    }

    /// A part of it.
    pub fn slice(&self, range: Range<usize>) -> Result<String, DbError> {
        check_range(&range, self.len())?;
        Ok(self.buffer.slice(range))
    }

    /// Puts text in before a position.
    pub fn insert(&mut self, at: usize, text: &str) -> Result<(), DbError> {
        self.replace(at..at, text)
    }

    /// Takes characters out from a position on.
    pub fn delete(&mut self, at: usize, count: usize) -> Result<(), DbError> {
        self.replace(at..at.saturating_add(count), "")
    }

    /// Puts text in the place of a part.
    pub fn replace(&mut self, range: Range<usize>, text: &str) -> Result<(), DbError> {
        check_range(&range, self.len())?;
        if range.is_empty() && text.is_empty() {
            return Ok(());
        }
        let (at, count, chars) = (range.start, range.len(), text.chars().count());
        self.pending.note(&self.buffer, at, count, chars);
        if let Some(sending) = &mut self.sending {
            sending.whole.note(&self.buffer, at, count, chars);
        }
        if count > 0 {
            self.buffer.delete(at, count);
        }
        if chars > 0 {
            self.buffer.insert(at, text);
        }
        self.pauses.edited = true;
        Ok(())
    }

    /// Makes the text another one, by the edits in which they differ.
    pub fn set(&mut self, text: &str) -> Result<(), DbError> {
        for part in differences(&self.text(), text) {
            self.replace(part.at..part.at + part.removed, &part.inserted)?;
        }
        Ok(())
    }

    /// Whether there are edits that are not stored.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.sending.is_some() || !self.pending.is_empty()
    }

    /// Takes over what came from elsewhere, and gives it as changes of the buffer, in the order in which they were made
    /// there. While a flush is under way, nothing is taken over.
    pub fn remote(&mut self) -> Result<Vec<TextDelta>, DbError> {
        let mut changed = Vec::new();
        if self.sending.is_none() {
            self.pull(&self.handle().db.snapshot()?)?;
            for delta in self.behind.drain(..) {
                self.pending.integrate(&mut self.buffer, &delta, &mut changed);
            }
        }
        Ok(changed)
    }

    /// Rings when entries arrive from here on, of this text or not: then [`Self::remote`] may have something.
    pub fn arrival(&self) -> impl Future<Output = ()> + Send + 'static {
        self.handle().db.state().admitted.listen()
    }

    /// Blocks the thread until something came from elsewhere, at most this long.
    pub fn wait_remote(&mut self, at_most: Duration) -> Result<Vec<TextDelta>, DbError> {
        let deadline = Instant::now().checked_add(at_most);
        loop {
            let listener = self.handle().db.state().admitted.listen();
            let found = self.remote()?;
            if !found.is_empty() || !super::observe::wait_for(listener, deadline) {
                return Ok(found);
            }
        }
    }

    /// When the edits are to be flushed: a moment at or before `now` if at once, nothing if there are none. To be asked
    /// after each edit, and at the moment that was given.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.sending.is_some() || self.pending.is_empty() {
            return None;
        }
        let Pauses { edited, failed, first, last } = &mut self.pauses;
        let first = *first.get_or_insert(now);
        if std::mem::take(edited) {
            *last = Some(now);
        }
        let last = *last.get_or_insert(now);
        if self.pending.weight() >= self.policy.chars && !*failed {
            return Some(now);
        }
        let by = |from: Instant, after| from.checked_add(after);
        match (by(last, self.policy.pause), by(first, self.policy.at_most)) {
            (Some(pause), Some(most)) => Some(pause.min(most)),
            (one, other) => one.or(other),
        }
    }

    /// Stores all edits since the last flush, as one entry; as several, one after another, when they are too large for
    /// that. Takes over what came meanwhile. Gives the last entry, or nothing when there was nothing to store.
    ///
    /// When it fails, the edits that are not stored stay, and the next flush tries again.
    pub fn flush(&mut self) -> Result<Option<Committed>, DbError> {
        let mut last = None;
        while let Some(flush) = self.prepare_flush()? {
            last = self.finish_flush(flush.commit())?.or(last);
        }
        Ok(last)
    }

    /// As [`Self::flush`] up to the wait for the disk, so that the buffer can be edited meanwhile. Every prepared flush
    /// is to be ended by [`Self::finish_flush`]; nothing is given when there is nothing to store or one is under way.
    pub fn prepare_flush(&mut self) -> Result<Option<PendingFlush>, DbError> {
        // Whoever waits for a turn here while a flush has it waits for ever.
        if self.sending.is_some() || self.pending.is_empty() {
            return Ok(None);
        }
        let db = self.handle().database().clone();
        loop {
            match db.prepare_write(|tx| self.stage_flush(tx)) {
                Ok((staged, commit)) => return Ok(staged.then_some(PendingFlush(commit))),
                Err(error) => self.unstage_flush(error)?,
            }
        }
    }

    /// Stages in a transaction of the caller what a flush stores first. Says whether there was anything; if so, the
    /// flush is under way until [`Self::finish_flush`]. When it fails, or the transaction is not prepared after it, the
    /// buffer is told by [`Self::unstage_flush`].
    pub fn stage_flush(&mut self, tx: &Transaction) -> Result<bool, DbError> {
        if self.sending.is_some() || self.pending.is_empty() {
            return Ok(false);
        }
        self.stage_part(tx).map(|()| true)
    }

    /// Takes back what was staged in a transaction that was not prepared. Gives nothing when another one is worth an
    /// attempt, as it takes less.
    ///
    /// # Errors
    /// The error given.
    pub fn unstage_flush(&mut self, error: DbError) -> Result<(), DbError> {
        if let Some(Sending { whole, .. }) = self.sending.take() {
            self.pending = whole;
        }
        self.pauses = Pauses { failed: true, ..Pauses::default() };
        // Characters of many bytes, or deletes of what many entries have put in.
        if matches!(error, DbError::TooLarge) && self.part_chars > 0 {
            self.part_chars /= 2;
            return Ok(());
        }
        Err(error)
    }

    fn stage_part(&mut self, tx: &Transaction) -> Result<(), DbError> {
        let handle = self.handle().clone();
        let snapshot = tx.pin()?;
        self.pull(&snapshot)?;
        let mut rest = self.pending.clone();
        let mut part = rest.cut(self.part_chars.max(1));
        // The buffer as it is without the rest, and then with what came: that is what will be stored.
        let mut stored =
            if rest.is_empty() { None } else { Some(Rope::from(rest.stored(&self.buffer).as_str())) };
        let mut behind = Vec::new();
        if !self.behind.is_empty() {
            let stored = stored.get_or_insert_with(|| self.buffer.clone());
            for delta in &self.behind {
                part.integrate(stored, delta, &mut behind);
            }
        }
        handle.within(tx).stage_all(part.replacements(stored.as_ref().unwrap_or(&self.buffer)), &(0..0))?;
        let whole = std::mem::replace(&mut self.pending, rest);
        self.sending = Some(Sending { whole, behind, at: snapshot.end() });
        Ok(())
    }

    /// Ends a flush that was prepared with what came of its commit.
    pub fn finish_flush(
        &mut self,
        committed: Result<Option<Committed>, DbError>,
    ) -> Result<Option<Committed>, DbError> {
        let Some(Sending { whole, behind, at }) = self.sending.take() else { return committed };
        self.pauses = Pauses { failed: committed.is_err(), ..Pauses::default() };
        match &committed {
            Err(_) => self.pending = whole,
            Ok(entry) => {
                self.part_chars = FLUSH_CHARS_MAX;
                self.behind = behind;
                match entry {
                    // Nothing to store: what came meanwhile has taken out the same.
                    None => {}
                    // Made on what is stored right before it: the text is what the buffer expects.
                    Some(entry) if entry.seq == at => self.changes.go_on_after(entry.seq),
                    // Something came in between, and where it stands among the edits is for the store to say.
                    Some(_) => self.stale = true,
                }
            }
        }
        committed
    }

    /// Stores what is not stored. When that fails, the buffer comes back with the error, so that nothing is lost.
    pub fn close(mut self) -> Result<(), Box<(Self, DbError)>> {
        match self.flush() {
            Ok(_) => Ok(()),
            Err(error) => Err(Box::new((self, error))),
        }
    }

    /// A cursor that others can be told of: at a position, or at the nearest one beside text that is not stored.
    pub fn cursor(&mut self, at: usize, side: Side) -> Result<TextCursor, DbError> {
        check_range(&(at..at), self.len())?;
        let handle = self.handle().clone();
        let snapshot = handle.db.snapshot()?;
        self.pull(&snapshot)?;
        if self.sending.is_some() || !self.behind.is_empty() {
            // The stored text is another one than that which the positions are known for.
            return Err(DbError::TextMoved);
        }
        handle.cursor_in(&snapshot, self.pending.in_stored(at, side), side)
    }

    /// Looks at what is stored up to a snapshot.
    fn pull(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        loop {
            if self.stale || self.behind.len() > ARRIVED_DELTAS_MAX {
                self.reread(snapshot)?;
            }
            match self.changes.next_in(snapshot)? {
                None => return Ok(()),
                Some(Observed::Edited(change)) => self.behind.extend(change.deltas),
                Some(Observed::Reread) => self.stale = true,
            }
        }
    }

    /// Finds what came by comparing.
    fn reread(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        let stored = self.handle().read_in(snapshot)?;
        self.behind.clear();
        for part in differences(&self.pending.stored(&self.buffer), &stored) {
            if part.removed > 0 {
                self.behind.push(TextDelta::Delete { at: part.at, count: part.removed });
            }
            if !part.inserted.is_empty() {
                self.behind.push(TextDelta::Insert { at: part.at, text: part.inserted });
            }
        }
        self.changes.go_on_from(snapshot);
        self.stale = false;
        Ok(())
    }
}
