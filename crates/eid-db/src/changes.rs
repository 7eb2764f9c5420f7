//! Being told what changed: a reader of the log with a place in it, and no queue that could overflow.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant as Moment};

use eid_auth::Standing;
use eid_core::dag::{Epoch, Replica, Seq};
use eid_core::{Entry, EntryId, Payload, PublicKey, SettingsOp, Time, TreeId};
use eid_store::{Key, Local, TreeSnapshot};
use event_listener::Listener as _;

use crate::database::Database;
use crate::error::DbError;
use crate::instance::Instance;
use crate::kind::{doc, table};
use crate::limits::{CONSUMER_NAME_BYTES_MAX, LAGGED_ENTRIES, LOG_PAGE_BYTES, RESTANDING_IDS_MAX};
use crate::path::Path;

/// A place in the order of arrival of one store: everything before it was seen, and so were changes of what counts up to
/// a number.
///
/// ```text
/// epoch-next  |  epoch-next-number  |  epoch-next-number.told
/// ```
/// Of the change after that number, `told` entries were seen. Whatever is not there is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    epoch: Epoch,
    next: Seq,
    settled: u64,
    told: u64,
}

/// Says that a text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct ParseCursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch.0, self.next.0)?;
        match (self.settled, self.told) {
            (0, 0) => Ok(()),
            (settled, 0) => write!(f, "-{settled}"),
            (settled, told) => write!(f, "-{settled}.{told}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (epoch, next) = text.split_once('-').ok_or(ParseCursorError)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ParseCursorError)?;
        let number = |digits: &str| digits.parse().map_err(|_| ParseCursorError);
        let (next, settled) = next.split_once('-').unwrap_or((next, "0"));
        let (settled, told) = settled.split_once('.').unwrap_or((settled, "0"));
        Ok(Self {
            epoch: Epoch(epoch),
            next: Seq(number(next)?),
            settled: number(settled)?,
            told: number(told)?,
        })
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

/// What a stream of changes gives.
///
/// Who keeps a copy of what the database shows takes in the changes that are not void, and reads anew what entries have
/// written that come to count or no longer do: [`Database::change_of`] says what that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry came.
    Change(Change),
    /// Entries that were given before count no longer: all is as if they had never written.
    EntriesVoided(Restanding),
    /// Void entries that were given before count again.
    EntriesRestored(Restanding),
}

/// Entries that came to count, or no longer do, because settings came.
///
/// One change of what counts may be given in several of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restanding {
    /// The entries, in the order of arrival, each with what it is now and why; no more than a few hundred.
    pub entries: Vec<(EntryId, Standing)>,
    /// How many entries of the same change follow in the next ones.
    pub left: u64,
}

impl Event {
    /// What an entry changed, if it is that.
    #[must_use]
    pub fn into_change(self) -> Option<Change> {
        match self {
            Self::Change(change) => Some(change),
            Self::EntriesVoided(_) | Self::EntriesRestored(_) => None,
        }
    }
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
    /// Whether it does not count, and so changes nothing of this.
    pub void: bool,
    /// Says so when the reader is far behind: nothing is lost, but reading faster, or [`Changes::skip_to_now`], would
    /// help.
    pub lagged: Option<Lagged>,
}

/// Says that a reader is far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged {
    /// How many entries lay ahead of the reader, beyond this one, when it was read.
    pub behind: u64,
}

/// What an entry changed in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedStore {
    /// Its name.
    pub name: String,
    /// Its kind; nothing when the payload is not here, or sealed and the store is locked.
    pub kind: Option<String>,
    /// The rows (paths of one key) or paths that are written, without repetition.
    pub keys: Vec<Path>,
}

/// A stream of the changes of one database. It reads the log, so it loses nothing however slow its reader is.
#[derive(Debug)]
pub struct Changes {
    db: Database,
    next: Cursor,
    /// What was read, each with the place after it.
    read: VecDeque<(Event, Cursor)>,
    consumer: Option<Consumer>,
}

/// Where the place of a named reader is kept.
#[derive(Debug, Clone)]
struct Consumer {
    rows: Local,
    key: Key,
}

/// A named reader of changes, whose place is kept on this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// Everything before this is acknowledged.
    pub cursor: Cursor,
}

/// The rows that hold the places of named readers, by database and name.
fn consumer_rows(instance: &Instance) -> Local {
    instance.store().local().namespace("consumers")
}

/// Of each database that was ever forgotten here: what parts positions of before from those of after.
fn lives(instance: &Instance) -> Local {
    instance.store().local().namespace("lives")
}

/// The life that positions in a database belong to: that of the store, and that of the database in it.
fn life(instance: &Instance, tree: &TreeId, store: Epoch) -> Result<Epoch, DbError> {
    let row = lives(instance).get(&tree.0)?;
    let life = row.and_then(|row| <[u8; 8]>::try_from(row.as_ref()).ok()).map_or(0, u64::from_be_bytes);
    Ok(Epoch(store.0 ^ life))
}

/// Ends the life of a database that is about to be forgotten: it may be fetched again, with other positions.
pub(crate) fn end_life(instance: &Instance, tree: &TreeId) -> Result<(), DbError> {
    let life: [u8; 8] = instance.env().random();
    Ok(lives(instance).put(&tree.0, life.to_vec())?)
}

/// Forgets the places of all consumers of a database.
pub(crate) fn forget_consumers(instance: &Instance, tree: &TreeId) -> Result<(), DbError> {
    let rows = consumer_rows(instance);
    let held = rows.scan(&tree.0)?;
    Ok(rows.write(held.into_iter().map(|(key, _)| (key, None)).collect())?)
}

impl Database {
    /// The changes of this database from a place on.
    ///
    /// # Errors
    /// [`DbError::ForeignCursor`] when the database has another life since, such as after restoring a backup, or after
    /// it was forgotten and fetched again.
    pub fn changes(&self, since: Since) -> Result<Changes, DbError> {
        let snapshot = self.instance().store().tree(&self.id())?;
        // A place at the very beginning belongs to every life.
        let epoch = snapshot.as_ref().map_or_else(|| self.instance().store().epoch(), Replica::epoch);
        let epoch = life(self.instance(), &self.id(), epoch)?;
        let next = match since {
            Since::Beginning => Cursor { epoch, next: Seq(0), settled: 0, told: 0 },
            Since::Now => Cursor::after(epoch, snapshot.as_ref()),
            Since::Cursor(cursor) if cursor.epoch == epoch || cursor.next == Seq(0) => {
                Cursor { epoch, ..cursor }
            }
            Since::Cursor(_) => return Err(DbError::ForeignCursor),
        };
        Ok(Changes { db: self.clone(), next, read: VecDeque::new(), consumer: None })
    }

    /// What an entry changed.
    ///
    /// # Errors
    /// [`DbError::UnknownEntry`] for what is not held here.
    pub fn change_of(&self, id: EntryId) -> Result<Change, DbError> {
        let snapshot = self.snapshot()?;
        let entry = snapshot.entry(&id)?.ok_or(DbError::UnknownEntry { id })?;
        let seq = snapshot.find(&[id])?.pop().flatten().ok_or(DbError::UnknownEntry { id })?;
        let void = snapshot.stand(&[seq])? == [false];
        Ok(change(self, &entry, (seq, void), None))
    }

    /// The changes that the consumer of this name has not acknowledged, from the first entry on when it is used first.
    ///
    /// [`Changes::ack`] keeps its place on this device. One name is for one reader at a time.
    ///
    /// # Errors
    /// As [`Self::changes`]; [`Self::forget_consumer`] lets it begin again then.
    pub fn consumer(&self, name: &str) -> Result<Changes, DbError> {
        self.consumer_since(name, Since::Beginning)
    }

    /// As [`Self::consumer`], beginning at a place of choice when it is used first. That place is kept at once.
    pub fn consumer_since(&self, name: &str, first: Since) -> Result<Changes, DbError> {
        if !(1..=CONSUMER_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(DbError::ConsumerName);
        }
        let rows = consumer_rows(self.instance());
        let key = [&self.id().0, name.as_bytes()].concat();
        let held = rows.get(&key)?.map(|row| decode_cursor(&row)).transpose()?;
        let changes = self.changes(held.map_or(first, Since::Cursor))?;
        let mut changes = Changes { consumer: Some(Consumer { rows, key }), ..changes };
        if held.is_none() {
            changes.ack()?;
        }
        Ok(changes)
    }

    /// The consumers whose places are kept for this database.
    pub fn consumers(&self) -> Result<Vec<ConsumerInfo>, DbError> {
        let rows = consumer_rows(self.instance()).scan(&self.id().0)?;
        rows.into_iter()
            .map(|(key, row)| {
                let name = String::from_utf8_lossy(&key[self.id().0.len()..]).into_owned();
                Ok(ConsumerInfo { name, cursor: decode_cursor(&row)? })
            })
            .collect()
    }

    /// Forgets the place of a consumer: its next use is its first.
    pub fn forget_consumer(&self, name: &str) -> Result<(), DbError> {
        Ok(consumer_rows(self.instance()).delete(&[&self.id().0, name.as_bytes()].concat())?)
    }
}

fn decode_cursor(row: &[u8]) -> Result<Cursor, DbError> {
    let text = std::str::from_utf8(row).ok().and_then(|text| text.parse().ok());
    text.ok_or(DbError::Corrupt { what: "the place of a consumer" })
}

impl Cursor {
    /// The place after everything that is there.
    fn after(epoch: Epoch, snapshot: Option<&TreeSnapshot>) -> Self {
        let next = snapshot.map_or(Seq(0), |snapshot| snapshot.end());
        Self { epoch, next, settled: snapshot.map_or(0, TreeSnapshot::standing_changes), told: 0 }
    }
}

impl Changes {
    /// The place after the last event that was given: a stream that begins there goes on without loss or repetition.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.next
    }

    /// Keeps the place after the last event that was given: after a restart, the consumer goes on there. It is on
    /// disk with the next commit, so a crash may repeat changes and never loses one.
    ///
    /// Of a stream without a name this does nothing.
    pub fn ack(&mut self) -> Result<(), DbError> {
        match &self.consumer {
            Some(Consumer { rows, key }) => Ok(rows.put_relaxed(key, self.next.to_string().into_bytes())?),
            None => Ok(()),
        }
    }

    /// How many entries lie ahead of the reader.
    pub fn behind(&self) -> Result<u64, DbError> {
        let end = self.snapshot()?.map_or(0, |(snapshot, _)| snapshot.end().0);
        Ok(end.saturating_sub(self.next.next.0))
    }

    /// Goes to the end of what is there. Gives how many entries it passed over.
    pub fn skip_to_now(&mut self) -> Result<u64, DbError> {
        let before = self.next.next;
        if let Some((snapshot, epoch)) = self.snapshot()? {
            self.read.clear();
            self.next = Cursor::after(epoch, Some(&snapshot));
        }
        Ok(self.next.next.0.saturating_sub(before.0))
    }

    /// The next event, if it is there already.
    ///
    /// Changes of what counts come before the entries that follow, as soon as views show them: an entry that is given
    /// afterwards says by itself whether it is void. They tell only of entries that were given.
    ///
    /// # Errors
    /// [`DbError::ForeignCursor`] once the database was forgotten and fetched again.
    pub fn next_ready(&mut self) -> Result<Option<Event>, DbError> {
        if self.read.is_empty() {
            self.read_page()?;
        }
        let Some((event, next)) = self.read.pop_front() else { return Ok(None) };
        self.next = next;
        Ok(Some(event))
    }

    /// The next event; waits for it at most this long, blocking the thread.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<Event>, DbError> {
        // Beyond what the clock can say is for ever.
        let deadline = Moment::now().checked_add(at_most);
        loop {
            // Listening begins before looking, so that nothing slips in between.
            let listener = self.db.state().admitted.listen();
            if let Some(event) = self.next_ready()? {
                return Ok(Some(event));
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

    /// The next event; waits for it without blocking the thread.
    pub async fn next(&mut self) -> Result<Event, DbError> {
        loop {
            let listener = self.db.state().admitted.listen();
            if let Some(event) = self.next_ready()? {
                return Ok(event);
            }
            listener.await;
        }
    }

    /// What is held now, of the life that the reader's place belongs to.
    fn snapshot(&self) -> Result<Option<(TreeSnapshot, Epoch)>, DbError> {
        // Nothing of a tracked database may be here yet.
        let Some(snapshot) = self.db.instance().store().tree(&self.db.id())? else { return Ok(None) };
        let epoch = life(self.db.instance(), &self.db.id(), snapshot.epoch())?;
        let is_foreign = epoch != self.next.epoch && self.next.next > Seq(0);
        if is_foreign { Err(DbError::ForeignCursor) } else { Ok(Some((snapshot, epoch))) }
    }

    fn read_page(&mut self) -> Result<(), DbError> {
        let Some((snapshot, epoch)) = self.snapshot()? else { return Ok(()) };
        self.next.epoch = epoch;
        self.read_standing(&snapshot)?;
        let end = snapshot.end();
        if !self.read.is_empty() || self.next.next >= end {
            return Ok(());
        }
        let logged = snapshot.log(self.next.next..end, LOG_PAGE_BYTES)?;
        let seqs: Vec<Seq> = logged.iter().map(|logged| logged.seq).collect();
        for (logged, stands) in logged.into_iter().zip(snapshot.stand(&seqs)?) {
            let entry = Entry::parse(logged.block, logged.payloads)
                .map_err(|_| DbError::Corrupt { what: "an entry" })?;
            let behind = end.0 - logged.seq.0 - 1;
            let lagged = (behind > LAGGED_ENTRIES).then_some(Lagged { behind });
            let change = change(&self.db, &entry, (logged.seq, !stands), lagged);
            let after = Cursor { next: Seq(logged.seq.0 + 1), ..self.next };
            self.read.push_back((Event::Change(change), after));
        }
        Ok(())
    }

    /// Reads the next change of what counts that concerns entries which were given.
    fn read_standing(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        // A repair works out anew what counts, and begins to number its changes again.
        if self.next.settled > snapshot.standing_changes() {
            (self.next.settled, self.next.told) = (snapshot.standing_changes(), 0);
        }
        while self.read.is_empty() && self.next.settled < snapshot.standing_changes() {
            let change = snapshot.standing_changes_after(self.next.settled, 1)?.pop();
            let change = change.ok_or(DbError::Corrupt { what: "the changes of what counts" })?;
            let given = |seqs: &[Seq]| -> Vec<Seq> {
                seqs.iter().copied().filter(|seq| *seq < self.next.next).collect()
            };
            let (voided, restored) = (given(&change.voided), given(&change.restored));
            let all = (voided.len() + restored.len()) as u64;
            let after_all = Cursor { settled: change.number, told: 0, ..self.next };
            let mut told = 0;
            for (seqs, event) in
                [(voided, Event::EntriesVoided as fn(_) -> _), (restored, Event::EntriesRestored)]
            {
                for seqs in seqs.chunks(RESTANDING_IDS_MAX) {
                    let before = told;
                    told += seqs.len() as u64;
                    if told <= self.next.told {
                        continue;
                    }
                    let seen = usize::try_from(self.next.told.saturating_sub(before)).unwrap_or(seqs.len());
                    let entries = seqs[seen..].iter().map(|seq| standing_at(&self.db, snapshot, *seq));
                    let entries = entries.collect::<Result<Vec<_>, _>>()?;
                    let left = all - told;
                    let after = if left > 0 { Cursor { told, ..self.next } } else { after_all };
                    self.read.push_back((event(Restanding { entries, left }), after));
                }
            }
            if self.read.is_empty() {
                self.next = after_all;
            }
        }
        Ok(())
    }
}

/// What an entry is now.
fn standing_at(db: &Database, snapshot: &TreeSnapshot, seq: Seq) -> Result<(EntryId, Standing), DbError> {
    let entry = snapshot.entry_at(seq)?.ok_or(DbError::Corrupt { what: "an entry" })?;
    Ok((entry.id(), db.standing_in(snapshot, &entry)?))
}

fn change(db: &Database, entry: &Entry, (seq, void): (Seq, bool), lagged: Option<Lagged>) -> Change {
    let header = entry.header();
    let sections = header.sections.iter().zip(entry.payloads()).enumerate();
    let stores = sections.filter(|(_, (section, _))| !section.store.is_settings());
    let stores = stores.map(|(index, (section, payload))| {
        let payload = match section.enc {
            None => payload.as_ref().and_then(|payload| Payload::decode(payload).ok()),
            Some(_) => db.open_section(entry, index),
        };
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
        void,
        lagged,
    }
}

/// The rows or paths that a payload writes, sorted.
pub(crate) fn changed_keys(payload: &Payload) -> Vec<Path> {
    let mut keys: Vec<Path> = Vec::new();
    for op in &payload.ops {
        let key = match payload.kind.as_str() {
            doc::KIND => doc::decode(op).ok().map(|op| Path::from(doc::path(&op).to_vec())),
            table::KIND => table::decode(op).ok().map(|op| Path::from(vec![op.key])),
            _ => None,
        };
        keys.extend(key);
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}
