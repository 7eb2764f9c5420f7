//! Being told of the edits of a text, without reading it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, EntryId, PublicKey, Time};
use eid_crdt::sequence::Op;
use eid_store::TreeSnapshot;
use event_listener::{EventListener, Listener as _};

use super::window::{self, Done};
use super::{TextDelta, TextHandle, Told};
use crate::error::DbError;
use crate::kind::sequence::{Edits, OpId};
use crate::limits::{LOG_PAGE_BYTES, OBSERVED_BYTES_MAX, OBSERVED_ENTRIES_MAX};
use crate::sealed::{Opened, Unreadable};
use crate::transaction::store_name;

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

/// What came since an observer was told.
#[derive(Default)]
struct Window {
    /// The entries that edit the text, without their deltas.
    entries: Vec<TextChange>,
    /// What their operations do.
    done: Vec<Done>,
    /// How many payloads are missing of what came, in all stores.
    missing: u64,
}

/// A stream of the edits of one text. It follows the log, so nothing is queued however slow its reader is.
#[derive(Debug)]
pub struct TextChanges {
    handle: TextHandle,
    next: Seq,
    /// How long the text is there, where that is known.
    len: Option<usize>,
    /// How many edits wait there for what they name, where that is known.
    waiting: Option<u64>,
    /// How many payloads are missing there.
    missing: u64,
    /// How often other entries had come to count there.
    settled: u64,
    /// By which keys it was open; nothing when it was plain, or could not be read.
    opened: Option<Opened>,
    ready: VecDeque<Observed>,
}

impl TextChanges {
    pub(super) fn open(handle: TextHandle) -> Result<Self, DbError> {
        let snapshot = handle.db.snapshot()?;
        Ok(Self::from(handle, &snapshot))
    }

    pub(super) fn from(handle: TextHandle, snapshot: &TreeSnapshot) -> Self {
        let (next, missing) = (snapshot.end(), snapshot.missing_payloads());
        let ready = VecDeque::new();
        let settled = snapshot.standing_changes();
        let mut changes =
            Self { handle, next, len: None, waiting: None, missing, settled, opened: None, ready };
        changes.go_on_from(snapshot);
        changes
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
        self.missing = snapshot.missing_payloads();
        self.settled = snapshot.standing_changes();
        self.opened = self.opened_in(snapshot);
        // Nothing is known of what cannot be read; whoever reads it is told why.
        let known = self.handle.reading_in(snapshot, |reader| Ok((reader.len(), reader.waiting()))).ok();
        (self.len, self.waiting) = known.unzip();
    }

    /// By which keys the text is open; nothing when it is plain, or cannot be read.
    fn opened_in(&self, snapshot: &TreeSnapshot) -> Option<Opened> {
        let store = store_name(&self.handle.name).ok()?;
        self.handle.db.opened_by(snapshot, &store).ok().flatten()
    }

    /// Begins after an entry whose edits are known.
    pub(super) fn go_on_after(&mut self, seq: Seq) {
        self.next = Seq(seq.0 + 1);
        self.len = None;
    }

    /// What came next, as far as a snapshot has it.
    pub(super) fn next_in(&mut self, snapshot: &TreeSnapshot) -> Result<Option<Observed>, DbError> {
        if self.ready.is_empty() {
            self.read(snapshot)?;
        }
        Ok(self.ready.pop_front())
    }

    /// Reads everything that a snapshot has beyond what was told.
    fn read(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        let (end, missing) = (snapshot.end(), snapshot.missing_payloads());
        if self.settled != snapshot.standing_changes() {
            return self.lose(snapshot);
        }
        if self.next >= end && missing == self.missing {
            return Ok(());
        }
        // Other keys show another text.
        if self.opened_in(snapshot) != self.opened {
            return self.lose(snapshot);
        }
        let Some(window) = self.window(snapshot)? else { return self.lose(snapshot) };
        // A payload that comes later than its entry changes what is before the window, and so does what it wakes.
        if missing != self.missing + window.missing {
            return self.lose(snapshot);
        }
        let Window { entries, done, .. } = window;
        self.next = self.next.max(end);
        self.missing = missing;
        if entries.is_empty() {
            return Ok(());
        }
        let told = self.handle.reading_in(snapshot, |reader| {
            let (mut applied, mut wait) = (Vec::new(), 0);
            for held in done {
                match reader.stamp_of(held.op)? {
                    Some(_) => applied.push(held),
                    None => wait += 1,
                }
            }
            let deltas = window::deltas(reader, entries.len(), &applied)?;
            Ok(deltas.map(|deltas| (reader.len(), reader.waiting(), wait, deltas)))
        })?;
        let Some((len, waiting, wait, deltas)) = told else { return self.lose(snapshot) };
        // What has waited before the window was woken in it.
        if self.waiting.is_some_and(|before| before + wait != waiting) {
            return self.lose(snapshot);
        }
        self.waiting = Some(waiting);
        let grown = |len, delta: &TextDelta| match delta {
            TextDelta::Insert { text, .. } => Some(len + text.chars().count()),
            TextDelta::Delete { count, .. } => usize::checked_sub(len, *count),
        };
        if let Some(before) = self.len
            && deltas.iter().flatten().try_fold(before, grown) != Some(len)
        {
            return self.lose(snapshot);
        }
        self.len = Some(len);
        let told = entries.into_iter().zip(deltas).filter(|(_, deltas)| !deltas.is_empty());
        self.ready.extend(told.map(|(change, deltas)| Observed::Edited(TextChange { deltas, ..change })));
        Ok(())
    }

    /// What cannot be told.
    fn lose(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        self.go_on_from(snapshot);
        self.ready.push_back(Observed::Reread);
        Ok(())
    }

    /// The entries that edit the text, and what their operations do; nothing when they cannot all be read here, or are
    /// too many.
    fn window(&self, snapshot: &TreeSnapshot) -> Result<Option<Window>, DbError> {
        let Window { mut entries, mut done, mut missing } = Window::default();
        let mut bytes = 0;
        let mut next = self.next;
        let store = store_name(&self.handle.name)?;
        let is_sealed = |entry: &Entry| {
            let mut sections = entry.header().sections.iter();
            sections.any(|section| section.store == store && section.enc.is_some())
        };
        while next < snapshot.end() {
            let logged = snapshot.log(next..snapshot.end(), LOG_PAGE_BYTES)?;
            let seqs: Vec<Seq> = logged.iter().map(|logged| logged.seq).collect();
            for (logged, stands) in logged.into_iter().zip(snapshot.stand(&seqs)?) {
                let seq = logged.seq;
                next = Seq(seq.0 + 1);
                let entry = Entry::parse(logged.block, logged.payloads)
                    .map_err(|_| DbError::Corrupt { what: "an entry" })?;
                missing += entry.payloads().iter().filter(|payload| payload.is_none()).count() as u64;
                // What a void entry puts in is never shown, and what it wakes is seen by what has waited.
                if !stands {
                    continue;
                }
                let payload = match self.handle.db.payload_of(&entry, &store, self.opened) {
                    Ok(Some(payload)) => payload,
                    // A sealed one that is not opened here changes no text.
                    Ok(None) if self.opened.is_some() || !is_sealed(&entry) => continue,
                    Err(Unreadable::Damaged) => continue,
                    Err(Unreadable::Locked) if self.opened.is_some() => continue,
                    Ok(None) | Err(_) => return Ok(None),
                };
                if payload.kind != self.handle.location.kind() {
                    continue;
                }
                bytes += payload.ops.iter().map(bytes::Bytes::len).sum::<usize>();
                if entries.len() >= OBSERVED_ENTRIES_MAX || bytes > OBSERVED_BYTES_MAX {
                    return Ok(None);
                }
                for (op, bytes) in (0..).zip(&payload.ops) {
                    match self.handle.location.told(bytes) {
                        Told::Nothing => {}
                        Told::Unclear => return Ok(None),
                        Told::Edits(edits) => {
                            done.push(self.done(snapshot, entries.len(), OpId { seq, op }, &edits)?);
                        }
                    }
                }
                entries.push(TextChange {
                    entry: entry.id(),
                    author: entry.header().author,
                    time: entry.header().time,
                    deltas: Vec::new(),
                });
            }
        }
        Ok(Some(Window { entries, done, missing }))
    }

    fn done(
        &self,
        snapshot: &TreeSnapshot,
        entry: usize,
        op: OpId,
        edits: &Edits<String>,
    ) -> Result<Done, DbError> {
        let mut numbers = vec![Some(op)];
        for held in edits.refs() {
            let seq = match held.entry {
                None => Some(op.seq),
                Some(id) => snapshot.find(&[id])?.pop().flatten(),
            };
            numbers.push(seq.map(|seq| OpId { seq, op: held.op }));
        }
        let mut done = Done { entry, op, inserted: 0, deleted: Vec::new() };
        for edit in edits.ops(&numbers) {
            match edit {
                Op::Insert { run, .. } => {
                    let count = u32::try_from(run.chars().count()).unwrap_or(u32::MAX);
                    done.inserted = done.inserted.saturating_add(count);
                }
                Op::Delete(span) => done.deleted.push(span),
            }
        }
        Ok(done)
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
