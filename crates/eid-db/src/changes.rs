//! Being told what changed: a reader of the log with a place in it, and no queue that could overflow.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use eid_core::dag::{Epoch, Replica as _, Seq};
use eid_core::{Entry, EntryId, Payload, PublicKey, SettingsOp, Time};
use event_listener::Listener as _;

use crate::database::Database;
use crate::error::DbError;
use crate::kind::{doc, table};
use crate::limits::LOG_PAGE_BYTES;
use crate::path::Path;

/// A place in the order of arrival of one store: everything before it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    epoch: Epoch,
    next: Seq,
}

/// Says that a text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct ParseCursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch.0, self.next.0)
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (epoch, next) = text.split_once('-').ok_or(ParseCursorError)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ParseCursorError)?;
        let next = next.parse().map_err(|_| ParseCursorError)?;
        Ok(Self { epoch: Epoch(epoch), next: Seq(next) })
    }
}

/// Where a stream of changes begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the first entry.
    Beginning,
    /// With what comes from here on.
    Now,
    /// Where another stream was left.
    Cursor(Cursor),
}

/// What one entry changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The entry.
    pub entry: EntryId,
    /// Its place in the order of arrival here.
    pub seq: Seq,
    /// Who signed it.
    pub author: PublicKey,
    /// Its time.
    pub time: Time,
    /// The stores that it writes.
    pub stores: Vec<ChangedStore>,
    /// What it changes in the settings.
    pub settings: Vec<SettingsOp>,
}

/// What an entry changed in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedStore {
    /// Its name.
    pub name: String,
    /// Its kind; nothing when the payload is not here or sealed.
    pub kind: Option<String>,
    /// The rows (paths of one key) or paths that are written, without repetition.
    pub keys: Vec<Path>,
}

/// A stream of the changes of one database. It reads the log, so it loses nothing however slow its reader is.
#[derive(Debug)]
pub struct Changes {
    db: Database,
    next: Cursor,
    read: VecDeque<Change>,
    read_to: Seq,
}

impl Database {
    /// The changes of this database from a place on.
    ///
    /// # Errors
    /// [`DbError::ForeignCursor`] when the store has another life since, such as after restoring a backup.
    pub fn changes(&self, since: Since) -> Result<Changes, DbError> {
        let epoch = self.instance().store().epoch();
        let next = match since {
            Since::Beginning => Cursor { epoch, next: Seq(0) },
            Since::Now => {
                let held = self.instance().store().tree(&self.id())?;
                Cursor { epoch, next: held.map_or(Seq(0), |snapshot| snapshot.end()) }
            }
            Since::Cursor(cursor) if cursor.epoch == epoch => cursor,
            Since::Cursor(_) => return Err(DbError::ForeignCursor),
        };
        Ok(Changes { db: self.clone(), next, read: VecDeque::new(), read_to: next.next })
    }
}

impl Changes {
    /// The place after the last change that was given: a stream that begins there goes on without loss or repetition.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.next
    }

    /// The next change, if it is there already.
    pub fn next_ready(&mut self) -> Result<Option<Change>, DbError> {
        if self.read.is_empty() {
            self.read_page()?;
        }
        let change = self.read.pop_front();
        if let Some(change) = &change {
            self.next.next = Seq(change.seq.0 + 1);
        }
        Ok(change)
    }

    /// The next change; waits for it at most this long, blocking the thread.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, DbError> {
        // Beyond what the clock can say is for ever.
        let deadline = Instant::now().checked_add(at_most);
        loop {
            // Listening begins before looking, so that nothing slips in between.
            let listener = self.db.state().admitted.listen();
            if let Some(change) = self.next_ready()? {
                return Ok(Some(change));
            }
            let rang = match deadline {
                Some(deadline) => listener.wait_deadline(deadline).is_some(),
                None => {
                    listener.wait();
                    true
                }
            };
            if !rang {
                return self.next_ready();
            }
        }
    }

    /// The next change; waits for it without blocking the thread.
    pub async fn next(&mut self) -> Result<Change, DbError> {
        loop {
            let listener = self.db.state().admitted.listen();
            if let Some(change) = self.next_ready()? {
                return Ok(change);
            }
            listener.await;
        }
    }

    fn read_page(&mut self) -> Result<(), DbError> {
        // Nothing of a tracked database may be here yet.
        let Some(snapshot) = self.db.instance().store().tree(&self.db.id())? else { return Ok(()) };
        if self.read_to >= snapshot.end() {
            return Ok(());
        }
        for logged in snapshot.log(self.read_to..snapshot.end(), LOG_PAGE_BYTES)? {
            let entry = Entry::parse(logged.block, logged.payloads)
                .map_err(|_| DbError::Corrupt { what: "an entry" })?;
            self.read.push_back(change(&entry, logged.seq));
            self.read_to = Seq(logged.seq.0 + 1);
        }
        Ok(())
    }
}

fn change(entry: &Entry, seq: Seq) -> Change {
    let header = entry.header();
    let sections = header.sections.iter().zip(entry.payloads());
    let stores = sections.filter(|(section, _)| !section.store.is_settings()).map(|(section, payload)| {
        let open = payload.as_ref().filter(|_| section.enc.is_none());
        let payload = open.and_then(|payload| Payload::decode(payload).ok());
        ChangedStore {
            name: section.store.as_str().to_owned(),
            keys: payload.as_ref().map(changed_keys).unwrap_or_default(),
            kind: payload.map(|payload| payload.kind),
        }
    });
    Change {
        entry: entry.id(),
        seq,
        author: header.author,
        time: header.time,
        stores: stores.collect(),
        settings: entry.settings().to_vec(),
    }
}

fn changed_keys(payload: &Payload) -> Vec<Path> {
    let mut keys: Vec<Path> = Vec::new();
    for op in &payload.ops {
        let key = match payload.kind.as_str() {
            doc::KIND => doc::decode(op).ok().map(|op| Path::from(doc::path(&op).to_vec())),
            table::KIND => table::decode(op).ok().map(|op| Path::from(op.key)),
            _ => None,
        };
        keys.extend(key);
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}
