//! Being told of the edits of a text, without reading it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, EntryId, PublicKey, Time};
use eid_store::TreeSnapshot;
use event_listener::{EventListener, Listener as _};

use super::{TextDelta, TextHandle};
use crate::error::DbError;
use crate::limits::OBSERVED_BYTES_MAX;

/// What one entry changed in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextChange {
    /// The entry.
    pub entry: EntryId,
    /// Who signed it.
    pub author: PublicKey,
    /// Its time.
    pub time: Time,
    /// What changed, one after another.
    pub deltas: Vec<TextDelta>,
}

/// What an observer of a text is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// An entry has changed the text.
    Edited(TextChange),
    /// The text has changed in a way that is not told as edits: the observer has lagged far behind, entries have lost
    /// their standing, or what was missing or locked has become readable. What follows is told against the text as
    /// [`TextChanges::text`] reads it.
    Reread,
}

/// A stream of the edits of one text. It follows the log, so nothing is queued however slow its reader is.
#[derive(Debug)]
pub struct TextChanges {
    handle: TextHandle,
    next: Seq,
    ready: VecDeque<Observed>,
}

impl TextChanges {
    pub(super) fn open(handle: TextHandle) -> Result<Self, DbError> {
        let snapshot = handle.db.snapshot()?;
        Ok(Self::from(handle, &snapshot))
    }

    pub(super) fn from(handle: TextHandle, snapshot: &TreeSnapshot) -> Self {
        Self { handle, next: snapshot.end(), ready: VecDeque::new() }
    }

    /// The text that is observed.
    #[must_use]
    pub fn handle(&self) -> &TextHandle {
        &self.handle
    }

    /// The whole text. What the stream gives from here on are changes of it.
    pub fn text(&mut self) -> Result<String, DbError> {
        let snapshot = self.handle.db.snapshot()?;
        let text = self.handle.read_in(&snapshot)?;
        self.go_on_from(&snapshot);
        Ok(text)
    }

    /// What came next, if it is there already.
    pub fn next_ready(&mut self) -> Result<Option<Observed>, DbError> {
        match self.ready.pop_front() {
            Some(observed) => Ok(Some(observed)),
            None => self.next_in(&self.handle.db.snapshot()?),
        }
    }

    /// What came next; waits for it at most this long, blocking the thread.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<Observed>, DbError> {
        let deadline = Instant::now().checked_add(at_most);
        loop {
            // Listening begins before looking, so that nothing slips in between.
            let listener = self.handle.db.state().admitted.listen();
            let found = self.next_ready()?;
            if found.is_some() || !wait_for(listener, deadline) {
                return Ok(found);
            }
        }
    }

    /// What came next; waits for it without blocking the thread.
    pub async fn next(&mut self) -> Result<Observed, DbError> {
        loop {
            let listener = self.handle.db.state().admitted.listen();
            if let Some(observed) = self.next_ready()? {
                return Ok(observed);
            }
            listener.await;
        }
    }

    /// Forgets what was not given, and begins with what comes after a snapshot.
    pub(super) fn go_on_from(&mut self, snapshot: &TreeSnapshot) {
        self.ready.clear();
        self.next = snapshot.end();
    }

    /// Begins after an entry whose edits are known.
    pub(super) fn go_on_after(&mut self, seq: Seq) {
        self.next = Seq(seq.0 + 1);
    }

    /// What came next, as far as a snapshot has it.
    pub(super) fn next_in(&mut self, snapshot: &TreeSnapshot) -> Result<Option<Observed>, DbError> {
        if self.ready.is_empty() {
            self.read(snapshot)?;
        }
        Ok(self.ready.pop_front())
    }

    fn read(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        let mut touched = false;
        while self.next < snapshot.end() && !touched {
            for logged in snapshot.log(self.next..snapshot.end(), OBSERVED_BYTES_MAX)? {
                let entry = Entry::parse(logged.block, logged.payloads)
                    .map_err(|_| DbError::Corrupt { what: "an entry" })?;
                let sections = &entry.header().sections;
                touched |= sections.iter().any(|section| section.store.as_str() == self.handle.name);
                self.next = Seq(logged.seq.0 + 1);
            }
        }
        if touched {
            self.ready.push_back(Observed::Reread);
            self.next = snapshot.end();
        }
        Ok(())
    }
}

/// Waits until something rings. Says whether it did.
pub(super) fn wait_for(listener: EventListener, deadline: Option<Instant>) -> bool {
    match deadline {
        Some(deadline) => listener.wait_deadline(deadline).is_some(),
        // Beyond what the clock can say is for ever.
        None => {
            listener.wait();
            true
        }
    }
}
