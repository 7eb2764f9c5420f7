//! The rows of an unlocked store: plain in memory only, sealed at rest, and brought up to date from the log.
//!
//! ```text
//! local rows under "sealed", after tree (32), length of the name, name, view id (16):
//! 00       -> the cursor, what waits, the counts
//! 01 hash  -> one row: kind, key, value
//! value    =  nonce (24), commitment (32), sealed bytes
//! ```
//! The view key is made from all data keys that were open, so another set of keys has another view.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::dag::{Epoch, Replica as _, Seq, ancestors};
use eid_core::limits::STORE_NAME_BYTES_MAX;
use eid_core::{Entry, EntryId, Payload, ReadError, StoreName, TreeId};
use eid_store::{Apply as _, Change, Direction, Key, Local, TreeSnapshot, ViewRows};
use zeroize::{Zeroize as _, Zeroizing};

use crate::env::Env;
use crate::error::DbError;
use crate::kind::{Kinds, index};
use crate::limits::{LOG_PAGE_BYTES, OPENED_VERSIONS_MAX, UNDO_ROWS_MAX, UNWRITTEN_ROWS_MAX};
use crate::rows::{Changed, Overlaid, Rows};
use crate::sealed::format::{self, DataKey, Enc, KeyId, Place};
use crate::wrap;

type PlainRows = BTreeMap<Key, Bytes>;

/// An unlocked store. Its keys and rows are wiped, as far as nobody else holds them, when it is dropped.
pub(crate) struct Vault {
    tree: TreeId,
    store: StoreName,
    keys: BTreeMap<KeyId, DataKey>,
    rest: Rest,
    memory: Memory,
    /// The versions that were worked out last: who compares two asks for the rows of each many times.
    apart: VecDeque<(Version, Memory)>,
}

/// Names what a snapshot shows: the life of the log and of the tree, how many payloads came late, how often other entries
/// came to count, and the tips.
type Version = (Epoch, u32, u64, u64, Vec<EntryId>);

/// Names a set of keys that is open, and so what can be read.
pub(crate) type Opened = [u8; 16];

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("store", &self.store).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// What is known of the entries of an encrypted store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Sealed under keys that are not open.
    pub(crate) locked: u64,
    /// Sealed under an open key, and they do not open.
    pub(crate) damaged: u64,
    /// Their payloads are not here.
    pub(crate) waiting: u64,
}

/// One kind of an unlocked store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OpenedKind {
    pub(crate) entries: u64,
    pub(crate) undecodable: u64,
}

#[derive(Default)]
struct Memory {
    epoch: Option<Epoch>,
    /// The life of the tree that positions belong to: one that was forgotten and came again has others.
    life: u32,
    /// Every entry before it is in the rows, unless it waits for its payload.
    next: Seq,
    kinds: BTreeMap<String, (OpenedKind, Arc<PlainRows>)>,
    locked: u64,
    damaged: u64,
    waiting: BTreeSet<Seq>,
    /// How many payloads of the whole tree had come later than their entries when those that wait were last looked at.
    filled: u64,
    /// The last change of what counts that the rows show.
    settled: u64,
    undo: VecDeque<Undo>,
    undo_rows: usize,
    /// From this end on, earlier states can be read by undoing.
    undo_from: Seq,
    unwritten: BTreeSet<(String, Key)>,
}

/// What rows were before an entry.
struct Undo {
    seq: Seq,
    kind: String,
    before: Changed,
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (_, rows) in std::mem::take(&mut self.kinds).into_values() {
            wipe(
                Arc::try_unwrap(rows).unwrap_or_default().into_iter().map(|(key, value)| (key, Some(value))),
            );
        }
        for undo in self.undo.drain(..) {
            wipe(undo.before.into_iter());
        }
    }
}

fn wipe(rows: impl Iterator<Item = (Key, Option<Bytes>)>) {
    for (mut key, value) in rows {
        key.zeroize();
        // A value that somebody else reads is left to them.
        if let Some(Ok(mut value)) = value.map(Bytes::try_into_mut) {
            value.zeroize();
        }
    }
}

/// The rows of one kind of an unlocked store at one moment.
pub(crate) struct OpenedRows {
    snapshot: TreeSnapshot,
    by: Opened,
    rows: Arc<PlainRows>,
    /// What was different then.
    before: Changed,
}

impl fmt::Debug for OpenedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedRows").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl OpenedRows {
    /// By which keys they were opened.
    pub(crate) fn by(&self) -> Opened {
        self.by
    }
}

/// What tests count, on their thread.
#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local! {
        pub(crate) static ROWS_READ: Cell<usize> = const { Cell::new(0) };
        pub(crate) static SECTIONS_OPENED: Cell<usize> = const { Cell::new(0) };
    }
}

/// Some rows of a range, from one of its ends on.
fn scan(
    rows: &PlainRows,
    from: &[u8],
    to: &[u8],
    direction: Direction,
    max_rows: usize,
) -> Vec<(Key, Bytes)> {
    if from >= to {
        return Vec::new();
    }
    let range = rows.range(from.to_vec()..to.to_vec());
    let copied = |(key, value): (&Key, &Bytes)| {
        #[cfg(test)]
        counted::ROWS_READ.set(counted::ROWS_READ.get() + 1);
        (key.clone(), value.clone())
    };
    match direction {
        Direction::Forward => range.take(max_rows).map(copied).collect(),
        Direction::Backward => range.rev().take(max_rows).map(copied).collect(),
    }
}

/// The rows as they are last.
struct Last<'a>(&'a OpenedRows);

impl fmt::Debug for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl Rows for Last<'_> {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError> {
        #[cfg(test)]
        counted::ROWS_READ.set(counted::ROWS_READ.get() + keys.len());
        Ok(keys.iter().map(|key| self.0.rows.get(key).cloned()).collect())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, DbError> {
        Ok(scan(&self.0.rows, from, to, direction, max_rows))
    }

    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError> {
        Ok(self.0.snapshot.id_at(seq)?)
    }

    fn seq_of(&self, id: &EntryId) -> Result<Option<Seq>, DbError> {
        Ok(self.0.snapshot.find(std::slice::from_ref(id))?.pop().flatten())
    }
}

impl Rows for OpenedRows {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError> {
        Overlaid { stored: &Last(self), changed: &self.before }.get_many(keys)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, DbError> {
        Overlaid { stored: &Last(self), changed: &self.before }.scan(from, to, direction, max_rows)
    }

    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError> {
        Last(self).id_of(seq)
    }

    fn seq_of(&self, id: &EntryId) -> Result<Option<Seq>, DbError> {
        Last(self).seq_of(id)
    }
}

/// The rows of one kind while entries are applied to them.
struct Applying<'a> {
    rows: &'a mut PlainRows,
    before: &'a mut Changed,
    snapshot: &'a TreeSnapshot,
}

impl Applying<'_> {
    fn note(&mut self, key: &[u8], held: Option<Bytes>) {
        self.before.entry(key.to_vec()).or_insert(held);
    }
}

impl ViewRows for Applying<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Result<Vec<(Key, Bytes)>, ReadError> {
        self.scan_some(from, to, Direction::Forward, usize::MAX)
    }

    fn scan_some(
        &mut self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, ReadError> {
        Ok(scan(self.rows, from, to, direction, max_rows))
    }

    fn put(&mut self, key: &[u8], value: Bytes) {
        let held = self.rows.insert(key.to_vec(), value);
        self.note(key, held);
    }

    fn delete(&mut self, key: &[u8]) {
        let held = self.rows.remove(key);
        self.note(key, held);
    }

    fn id_of(&mut self, seq: Seq) -> Result<EntryId, ReadError> {
        Ok(self.snapshot.id_at(seq)?)
    }

    fn seq_of(&mut self, id: &EntryId) -> Result<Option<Seq>, ReadError> {
        Ok(self.snapshot.find(std::slice::from_ref(id))?.pop().flatten())
    }
}

/// Makes rows what they were.
fn put_back(rows: &mut PlainRows, before: Changed) {
    for (key, value) in before {
        match value {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        }
    }
}

/// The payload of a section, if one of the keys opens it.
pub(crate) fn open_payload(
    keys: &BTreeMap<KeyId, DataKey>,
    tree: &TreeId,
    entry: &Entry,
    section: usize,
) -> Result<Payload, Unreadable> {
    let (header, sealed) = (&entry.header().sections[section], &entry.payloads()[section]);
    let enc = header.enc.as_ref().and_then(|enc| Enc::decode(enc).ok()).ok_or(Unreadable::Damaged)?;
    let sealed = sealed.as_ref().ok_or(Unreadable::Missing)?;
    let key = keys.get(&enc.key).ok_or(Unreadable::Locked)?;
    let place = Place { tree, store: &header.store, author: &entry.header().author };
    #[cfg(test)]
    counted::SECTIONS_OPENED.set(counted::SECTIONS_OPENED.get() + 1);
    let payload = format::open_section(key, place, &enc, sealed).map_err(|_| Unreadable::Damaged)?;
    Payload::decode(&payload).map_err(|_| Unreadable::Damaged)
}

/// Why the payload of a section cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Missing,
    Locked,
    Damaged,
}

impl Vault {
    /// Opens a store with these keys: with the rows at rest, as far as they are those of these keys, and the log.
    /// The snapshot is of now.
    pub(crate) fn open(
        snapshot: &TreeSnapshot,
        store: StoreName,
        keys: BTreeMap<KeyId, DataKey>,
        local: &Local,
        env: Env,
    ) -> Result<Self, DbError> {
        let tree = snapshot.tree();
        let rest = Rest::new(&tree, &store, &keys, local, env);
        rest.forget_others()?;
        let memory = match rest.load() {
            Ok(memory) => memory,
            // Damaged or of another version: everything follows from the log.
            Err(DbError::Corrupt { .. }) => {
                rest.forget()?;
                Memory::default()
            }
            Err(error) => return Err(error),
        };
        let mut vault = Self { tree, store, keys, rest, memory, apart: VecDeque::new() };
        // Rows of entries that are no longer held, or lie elsewhere by now, say nothing.
        if vault.is_of_another_life(snapshot) || vault.memory.next > snapshot.end() {
            vault.forget_rows()?;
        }
        vault.catch_up(snapshot)?;
        Ok(vault)
    }

    pub(crate) fn keys(&self) -> &BTreeMap<KeyId, DataKey> {
        &self.keys
    }

    /// The key that writes: the same one wherever these keys are open.
    pub(crate) fn writing_key(&self) -> Option<&DataKey> {
        self.keys.values().next()
    }

    pub(crate) fn counts(&self) -> Counts {
        let Memory { locked, damaged, waiting, .. } = &self.memory;
        Counts { locked: *locked, damaged: *damaged, waiting: waiting.len() as u64 }
    }

    /// The kinds of what opened so far.
    pub(crate) fn kinds(&self) -> Vec<(String, OpenedKind)> {
        self.memory.kinds.iter().map(|(kind, (opened, _))| (kind.clone(), *opened)).collect()
    }

    /// Whether the rows follow from another life of the log, or of the tree in it.
    pub(crate) fn is_of_another_life(&self, snapshot: &TreeSnapshot) -> bool {
        let Memory { epoch, life, .. } = self.memory;
        epoch.is_some_and(|epoch| (epoch, life) != (snapshot.epoch(), snapshot.life()))
    }

    /// Whether the snapshot is not the beginning of the log that the rows follow from, but a version of one's choice, or
    /// of a time when other entries counted.
    fn is_apart(&self, snapshot: &TreeSnapshot) -> bool {
        self.is_of_another_life(snapshot)
            || snapshot.count() != snapshot.end().0
            || snapshot.standing_changes() < self.memory.settled
    }

    /// Works the rows out anew when entries count otherwise that write the store.
    fn settle(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        let settled = snapshot.standing_changes();
        while self.memory.settled < settled {
            let page = snapshot.standing_changes_after(self.memory.settled, 1)?;
            let Some(change) = page.into_iter().next() else {
                return Err(DbError::Corrupt { what: "the changes of what counts" });
            };
            let taken_in = |seq: &&Seq| **seq < self.memory.next;
            for seq in change.voided.iter().chain(&change.restored).filter(taken_in) {
                let entry = snapshot.entry_at(*seq)?.ok_or(DbError::Corrupt { what: "an entry" })?;
                if self.reader().section(&entry).is_some() {
                    return self.begin_anew(settled);
                }
            }
            self.memory.settled = change.number;
        }
        Ok(())
    }

    /// Lets go of all rows but those that say which indexes there are: they are built while entries are taken in.
    fn begin_anew(&mut self, settled: u64) -> Result<(), DbError> {
        let definitions: Vec<(String, Bytes)> = (self.memory.kinds.iter())
            .filter_map(|(kind, (_, rows))| Some((kind.clone(), rows.get(index::DEFINITIONS)?.clone())))
            .collect();
        self.forget_rows()?;
        self.memory.settled = settled;
        for (kind, bytes) in definitions {
            let key = index::DEFINITIONS.to_vec();
            self.memory.unwritten.insert((kind.clone(), key.clone()));
            Arc::make_mut(&mut self.memory.kinds.entry(kind).or_default().1).insert(key, bytes);
        }
        Ok(())
    }

    fn reader(&self) -> Opener<'_> {
        Opener { tree: &self.tree, store: &self.store, keys: &self.keys }
    }

    /// Takes in what the snapshot holds. Nothing is read when it holds nothing that is not here.
    pub(crate) fn catch_up(&mut self, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        if self.is_apart(snapshot) {
            return Ok(());
        }
        if self.memory.settled != snapshot.standing_changes() {
            self.apart.clear();
            self.settle(snapshot)?;
        }
        (self.memory.epoch, self.memory.life) = (Some(snapshot.epoch()), snapshot.life());
        if self.memory.next < snapshot.end() || self.memory.filled != snapshot.filled_payloads() {
            self.apart.clear();
        }
        let Self { tree, store, keys, rest, memory, .. } = self;
        let reader = Opener { tree, store, keys };
        reader.fill(memory, snapshot)?;
        while memory.next < snapshot.end() {
            reader.read_page(memory, snapshot, snapshot.end())?;
            if memory.unwritten.len() >= UNWRITTEN_ROWS_MAX {
                // When this fails, as on a full disk, reading goes on: the rows stay unwritten, and are tried again.
                drop(rest.write(memory));
            }
        }
        Ok(())
    }

    /// Begins anew: the positions in the log are no longer what they were.
    pub(crate) fn forget_rows(&mut self) -> Result<(), DbError> {
        self.rest.forget()?;
        self.memory = Memory::default();
        self.apart.clear();
        Ok(())
    }

    /// Names the keys that are open.
    pub(crate) fn opened(&self) -> Opened {
        self.rest.view
    }

    /// The rows of a kind as the snapshot has them.
    pub(crate) fn rows_at(&mut self, snapshot: &TreeSnapshot, kind: &str) -> Result<OpenedRows, DbError> {
        self.catch_up(snapshot)?;
        let end = snapshot.end();
        if self.is_apart(snapshot) || (end < self.memory.undo_from && end < self.memory.next) {
            let by = self.opened();
            return Ok(self.version(snapshot)?.rows(snapshot, kind, by, Changed::new()));
        }
        let mut before = Changed::new();
        let later = self.memory.undo.iter().rev().take_while(|undo| undo.seq >= end);
        for undo in later.filter(|undo| undo.kind == kind) {
            before.extend(undo.before.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(self.memory.rows(snapshot, kind, self.opened(), before))
    }

    /// Another version, or one that is older than what can be undone, worked out from the log.
    fn version(&mut self, snapshot: &TreeSnapshot) -> Result<&Memory, DbError> {
        let tips = snapshot.tips()?;
        let ids = tips.iter().map(|(id, _)| *id).collect();
        let settled = snapshot.standing_changes();
        let version = (snapshot.epoch(), snapshot.life(), snapshot.filled_payloads(), settled, ids);
        let at = match self.apart.iter().position(|(held, _)| *held == version) {
            Some(at) => at,
            None => {
                let mut memory = Memory::default();
                let reader = Opener { tree: &self.tree, store: &self.store, keys: &self.keys };
                let past = ancestors(snapshot, &tips.iter().map(|(_, seq)| *seq).collect::<Vec<_>>())?;
                while let Some(run) = past.next_run(memory.next) {
                    memory.next = memory.next.max(run.start);
                    reader.read_page(&mut memory, snapshot, run.end)?;
                }
                if self.apart.len() >= OPENED_VERSIONS_MAX {
                    self.apart.pop_front();
                }
                self.apart.push_back((version, memory));
                self.apart.len() - 1
            }
        };
        Ok(&self.apart[at].1)
    }

    /// Works on rows that follow from no entry.
    pub(crate) fn maintain<R>(
        &mut self,
        snapshot: &TreeSnapshot,
        kind: &str,
        work: &mut dyn FnMut(&mut dyn ViewRows) -> Result<R, ReadError>,
    ) -> Result<R, DbError> {
        self.catch_up(snapshot)?;
        let (_, rows) = self.memory.kinds.entry(kind.to_owned()).or_default();
        let mut before = Changed::new();
        let done = work(&mut Applying { rows: Arc::make_mut(rows), before: &mut before, snapshot });
        if done.is_err() {
            put_back(Arc::make_mut(rows), before);
            return Ok(done?);
        }
        // A reader of an older state sees them go, as it does in a plain store.
        let seq = Seq(self.memory.next.0.saturating_sub(1));
        self.memory.keep(Undo { seq, kind: kind.to_owned(), before });
        if self.memory.unwritten.len() >= UNWRITTEN_ROWS_MAX {
            self.rest.write(&mut self.memory)?;
        }
        Ok(done?)
    }

    /// Writes what is not at rest yet.
    pub(crate) fn write(&mut self) -> Result<(), DbError> {
        self.rest.write(&mut self.memory)
    }
}

impl Memory {
    fn rows(&self, snapshot: &TreeSnapshot, kind: &str, by: Opened, before: Changed) -> OpenedRows {
        let rows = self.kinds.get(kind).map(|(_, rows)| Arc::clone(rows)).unwrap_or_default();
        OpenedRows { snapshot: snapshot.clone(), by, rows, before }
    }

    /// Keeps what an entry changed, and forgets the oldest such changes beyond the bound.
    fn keep(&mut self, undo: Undo) {
        for key in undo.before.keys() {
            self.unwritten.insert((undo.kind.clone(), key.clone()));
        }
        self.undo_rows += undo.before.len();
        self.undo.push_back(undo);
        while self.undo_rows > UNDO_ROWS_MAX
            && let Some(oldest) = self.undo.pop_front()
        {
            self.undo_rows -= oldest.before.len();
            self.undo_from = Seq(oldest.seq.0 + 1);
            wipe(oldest.before.into_iter());
        }
    }
}

/// Reads the log for one store.
struct Opener<'a> {
    tree: &'a TreeId,
    store: &'a StoreName,
    keys: &'a BTreeMap<KeyId, DataKey>,
}

impl Opener<'_> {
    fn read_page(&self, memory: &mut Memory, snapshot: &TreeSnapshot, end: Seq) -> Result<(), DbError> {
        let logged = snapshot.log(memory.next..end, LOG_PAGE_BYTES)?;
        if logged.is_empty() {
            return Err(DbError::Corrupt { what: "the log" });
        }
        let seqs: Vec<Seq> = logged.iter().map(|logged| logged.seq).collect();
        for (logged, stands) in logged.into_iter().zip(snapshot.stand(&seqs)?) {
            let seq = logged.seq;
            let entry = Entry::parse(logged.block, logged.payloads);
            let entry = entry.map_err(|_| DbError::Corrupt { what: "an entry" })?;
            self.take(memory, snapshot, &entry, (seq, stands), seq)?;
            memory.next = Seq(seq.0 + 1);
        }
        memory.filled = snapshot.filled_payloads();
        Ok(())
    }

    /// Looks at entries again whose payloads may have come.
    fn fill(&self, memory: &mut Memory, snapshot: &TreeSnapshot) -> Result<(), DbError> {
        if memory.waiting.is_empty()
            || memory.filled == snapshot.filled_payloads()
            || snapshot.end() < memory.next
        {
            return Ok(());
        }
        let last = Seq(snapshot.end().0.saturating_sub(1));
        for seq in memory.waiting.clone() {
            let entry = snapshot.entry_at(seq)?.ok_or(DbError::Corrupt { what: "an entry" })?;
            let stands = snapshot.stand(&[seq])? == [true];
            if self.take(memory, snapshot, &entry, (seq, stands), last)? {
                memory.waiting.remove(&seq);
            }
        }
        memory.filled = snapshot.filled_payloads();
        Ok(())
    }

    /// The section of an entry that is sealed in the store.
    fn section(&self, entry: &Entry) -> Option<usize> {
        let ours = |section: &eid_core::Section| section.store == *self.store && section.enc.is_some();
        entry.header().sections.iter().position(ours)
    }

    /// Takes one entry in, which `seen` is the first snapshot to show. Says whether its payload is here. One that cannot
    /// be taken in because reading fails changes nothing.
    fn take(
        &self,
        memory: &mut Memory,
        snapshot: &TreeSnapshot,
        entry: &Entry,
        (seq, stands): (Seq, bool),
        seen: Seq,
    ) -> Result<bool, DbError> {
        let header = entry.header();
        let Some(section) = self.section(entry) else { return Ok(true) };
        let payload = match open_payload(self.keys, self.tree, entry, section) {
            Ok(payload) => payload,
            Err(Unreadable::Missing) => {
                memory.waiting.insert(seq);
                return Ok(false);
            }
            Err(Unreadable::Locked) => {
                memory.locked += 1;
                return Ok(true);
            }
            Err(Unreadable::Damaged) => {
                memory.damaged += 1;
                return Ok(true);
            }
        };
        let (opened, rows) = memory.kinds.entry(payload.kind.clone()).or_default();
        let change = Change {
            store: self.store,
            kind: &payload.kind,
            author: header.author,
            time: header.time,
            height: header.height,
            seq,
            id: entry.id(),
            ops: &payload.ops,
        };
        let mut before = Changed::new();
        // Readers keep the rows that they have; the copy shares the values.
        let mut view = Applying { rows: Arc::make_mut(rows), before: &mut before, snapshot };
        let applied = match stands {
            true => Kinds.apply(&change, &mut view),
            false => Kinds.apply_void(&change, &mut view),
        };
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                put_back(Arc::make_mut(rows), before);
                return Err(error.into());
            }
        };
        opened.entries += 1;
        opened.undecodable += u64::from(applied.undecodable);
        memory.keep(Undo { seq: seen, kind: payload.kind, before });
        Ok(true)
    }
}

/// The rows at rest: sealed, and named by hashes.
struct Rest {
    local: Local,
    env: Env,
    /// Tree and store.
    owner: Key,
    /// The id of this view.
    view: Opened,
    /// All of them.
    prefix: Key,
    key: Zeroizing<[u8; 32]>,
    names: Zeroizing<[u8; 32]>,
}

const STATE: u8 = 0;
const ROW: u8 = 1;
const VERSION: u64 = 3;

/// The local rows of all unlocked stores.
pub(crate) fn namespace(local: &Local) -> Local {
    local.namespace("sealed")
}

/// Removes rows that begin so.
pub(crate) fn forget(local: &Local, prefix: &[u8], which: impl Fn(&[u8]) -> bool) -> Result<(), DbError> {
    let rows = local.scan(prefix)?.into_iter().filter(|(key, _)| which(key));
    let rows: Vec<_> = rows.map(|(key, _)| (key, None)).collect();
    if !rows.is_empty() {
        local.write(rows)?;
    }
    Ok(())
}

impl Rest {
    fn new(
        tree: &TreeId,
        store: &StoreName,
        keys: &BTreeMap<KeyId, DataKey>,
        local: &Local,
        env: Env,
    ) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("eid 2026 encrypted store: view");
        for key in keys.values() {
            hasher.update(key.bytes());
        }
        let view = DataKey::new(Zeroizing::new(*hasher.finalize().as_bytes()));
        let name = store.as_str().as_bytes();
        let length = u8::try_from(name.len()).expect("names of stores are short");
        let owner = [&tree.0[..], &[length], name].concat();
        Self {
            local: namespace(local),
            env,
            view: view.id().0,
            prefix: [&owner[..], &view.id().0].concat(),
            owner,
            key: view.derive("eid 2026 encrypted store: rows of a view"),
            names: view.derive("eid 2026 encrypted store: names of rows of a view"),
        }
    }

    fn state_name(&self) -> Key {
        [&self.prefix[..], &[STATE]].concat()
    }

    fn row_name(&self, kind: &str, key: &[u8]) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.names);
        hasher.update(&(kind.len() as u64).to_be_bytes()).update(kind.as_bytes()).update(key);
        [&self.prefix[..], &[ROW], hasher.finalize().as_bytes()].concat()
    }

    fn seal(&self, name: &[u8], bytes: &[u8]) -> Bytes {
        let nonce = self.env.random();
        let (sealed, commitment) = wrap::seal(&self.key, &nonce, name, format::padded(bytes, usize::MAX));
        Bytes::from([&nonce[..], &commitment, &sealed].concat())
    }

    fn open(&self, name: &[u8], value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = value.split_first_chunk()?;
        let (commitment, sealed) = rest.split_first_chunk()?;
        let opened = wrap::open(&self.key, nonce, name, commitment, sealed).ok()?;
        format::unpadded(opened).ok().map(Zeroizing::new)
    }

    /// Removes the views of other sets of keys.
    fn forget_others(&self) -> Result<(), DbError> {
        forget(&self.local, &self.owner, |key| !key.starts_with(&self.prefix))
    }

    fn forget(&self) -> Result<(), DbError> {
        forget(&self.local, &self.prefix, |_| true)
    }

    fn load(&self) -> Result<Memory, DbError> {
        let damaged = || DbError::Corrupt { what: "a sealed row" };
        let mut memory = Memory::default();
        let mut rows: BTreeMap<String, PlainRows> = BTreeMap::new();
        let state_name = self.state_name();
        let mut has_state = false;
        for (name, value) in self.local.scan(&self.prefix)? {
            let opened = self.open(&name, &value).ok_or_else(damaged)?;
            if name == state_name {
                decode_state(&opened, &mut memory).map_err(|_| damaged())?;
                has_state = true;
            } else {
                let (kind, key, value) = decode_row(&opened).map_err(|_| damaged())?;
                if self.row_name(&kind, &key) != name {
                    return Err(damaged());
                }
                rows.entry(kind).or_default().insert(key, value);
            }
        }
        if !has_state && !rows.is_empty() {
            return Err(damaged());
        }
        for (kind, rows) in rows {
            memory.kinds.entry(kind).or_default().1 = Arc::new(rows);
        }
        Ok(memory)
    }

    /// Writes what changed, with the cursor, as one batch: a crash loses all of it or nothing.
    fn write(&self, memory: &mut Memory) -> Result<(), DbError> {
        let mut batch = Vec::with_capacity(memory.unwritten.len() + 1);
        for (kind, key) in &memory.unwritten {
            let name = self.row_name(kind, key);
            let value = memory.kinds.get(kind).and_then(|(_, rows)| rows.get(key));
            let sealed = value.map(|value| self.seal(&name, &Zeroizing::new(encode_row(kind, key, value))));
            batch.push((name, sealed));
        }
        let name = self.state_name();
        let sealed = self.seal(&name, &encode_state(memory));
        batch.push((name, Some(sealed)));
        self.local.write_relaxed(batch)?;
        for (_, mut key) in std::mem::take(&mut memory.unwritten) {
            key.zeroize();
        }
        Ok(())
    }
}

fn encode_row(kind: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(3).text(kind).bytes(key).bytes(value);
    w.into_bytes()
}

fn decode_row(bytes: &[u8]) -> Result<(String, Key, Bytes), CborError> {
    let mut r = Reader::new(bytes);
    r.array_exact(3)?;
    let row = (
        r.text(STORE_NAME_BYTES_MAX)?.to_owned(),
        r.bytes(usize::MAX)?.to_vec(),
        Bytes::copy_from_slice(r.bytes(usize::MAX)?),
    );
    r.finish()?;
    Ok(row)
}

fn encode_state(memory: &Memory) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(10).uint(VERSION).uint(memory.epoch.map_or(0, |epoch| epoch.0)).uint(u64::from(memory.life));
    w.uint(memory.next.0);
    w.uint(memory.filled).uint(memory.settled).uint(memory.locked).uint(memory.damaged);
    w.array(memory.waiting.len());
    for seq in &memory.waiting {
        w.uint(seq.0);
    }
    w.array(memory.kinds.len());
    for (kind, (opened, _)) in &memory.kinds {
        w.array(3).text(kind).uint(opened.entries).uint(opened.undecodable);
    }
    w.into_bytes()
}

fn decode_state(bytes: &[u8], memory: &mut Memory) -> Result<(), CborError> {
    let mut r = Reader::new(bytes);
    r.array_exact(10)?;
    if r.uint()? != VERSION {
        return Err(CborError::Limit);
    }
    memory.epoch = Some(Epoch(r.uint()?));
    memory.life = u32::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
    memory.next = Seq(r.uint()?);
    (memory.filled, memory.settled) = (r.uint()?, r.uint()?);
    (memory.locked, memory.damaged) = (r.uint()?, r.uint()?);
    memory.undo_from = memory.next;
    for _ in 0..r.array(usize::MAX)? {
        memory.waiting.insert(Seq(r.uint()?));
    }
    for _ in 0..r.array(usize::MAX)? {
        r.array_exact(3)?;
        let kind = r.text(STORE_NAME_BYTES_MAX)?.to_owned();
        let opened = OpenedKind { entries: r.uint()?, undecodable: r.uint()? };
        memory.kinds.entry(kind).or_default().0 = opened;
    }
    r.finish()
}
