//! The backend for one process and one directory: a batch log before redb.
//!
//! See `docs/adr/0002-embedded-engine.md` for what was measured.
//!
//! **Damaged files.** The engine trusts its pages: it panics on some that are not as it wrote them. Every call of it is
//! therefore guarded: a panic becomes [`BackendError::Corrupt`], and so does each later call, until the store is opened
//! anew. The engine is not closed then, which would write to its file. The panic hook still runs;
//! [`is_engine_guarded`] tells it that there is nothing to report. What the guard cannot catch is a panic while another
//! unwinds, and pages that lead back to themselves until the stack is full; a test that flips bytes of the files at
//! random has met neither.

mod crash_disk;
mod guard;
mod log;
mod vfs;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use eid_core::sabotage::{self, Sabotage};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::backend::{
    Backend, BackendError, Batch, Direction, Durability, Key, Scan, Snapshot, Stretch, Value,
};
use crate::limits::STRETCH_BYTES;

pub use crash_disk::CrashDisk;
pub(crate) use crash_disk::Dice;
use guard::Guard;
pub use guard::is_engine_guarded;
use log::{Log, Opened, Position, decode_body, encode_body};
pub use vfs::{Directory, Vfs, VfsFile};

/// The file of the batch log. It also carries the format and the lock.
const LOG_FILE: &str = "store.log";
/// The file of the engine.
const ENGINE_FILE: &str = "store.redb";

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// `applied` -> how far into the log the engine has everything on disk.
const APPLIED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("applied");
const APPLIED_KEY: &str = "applied";

/// Settings of an [`Embedded`] backend.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
    /// Length of the batch log: how much is replayed at most when the store is opened after a crash. A store keeps
    /// working when it is opened with another length.
    pub log_bytes: u64,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { cache_bytes: 16 * 1024 * 1024, log_bytes: 4 * 1024 * 1024 }
    }
}

/// Keeps rows in a directory of files that one process owns.
///
/// After a failed write the next call opens the files again, so that a store whose disk was full works again when
/// there is room.
pub struct Embedded {
    vfs: Arc<dyn Vfs>,
    config: EmbeddedConfig,
    /// Held by whoever writes.
    state: Mutex<State>,
    /// Apart, so that readers do not wait for a flush. Nothing while the files have to be opened (again).
    engine: RwLock<Option<Engine>>,
    guard: Guard,
}

enum State {
    Open(Log),
    /// A write failed. What is on disk is known once the files were read again. The lock is kept.
    Broken(Arc<dyn VfsFile>),
    Closed,
}

struct Engine {
    /// Gone only while it is dropped.
    redb: Option<Database>,
    guard: Guard,
    /// Set when the files are opened anew: pages that older snapshots refer to may be overwritten then.
    stale: Arc<AtomicBool>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.guard.discard(self.redb.take());
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("vfs", &self.vfs)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in a directory, and makes it when there is none.
    ///
    /// # Errors
    /// [`BackendError::NotAStore`] when the path is a file or the log is not one, [`BackendError::NewerFormat`],
    /// [`BackendError::Locked`]: nothing is changed then.
    pub fn open(dir: &Path, config: EmbeddedConfig) -> Result<Self, BackendError> {
        match std::fs::metadata(dir) {
            Ok(found) if !found.is_dir() => return Err(BackendError::NotAStore),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir_all(dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(BackendError::NotAStore);
            }
            Err(error) => return Err(error.into()),
        }
        Self::open_on(Arc::new(Directory::new(dir)), config)
    }

    /// Opens the store on any directory of files.
    pub fn open_on(vfs: Arc<dyn Vfs>, config: EmbeddedConfig) -> Result<Self, BackendError> {
        let file = match vfs.open(LOG_FILE)? {
            Some(file) => file,
            // The log is made first: an engine without one is somebody else's.
            None if vfs.open(ENGINE_FILE)?.is_some() => return Err(BackendError::NotAStore),
            None => vfs.create(LOG_FILE)?,
        };
        if !file.try_lock()? {
            return Err(BackendError::Locked);
        }
        let guard = Guard::default();
        match open_files(&*vfs, &config, &file, &guard) {
            Ok((engine, log)) => Ok(Self {
                vfs,
                config,
                state: Mutex::new(State::Open(log)),
                engine: RwLock::new(Some(engine)),
                guard,
            }),
            Err(error) => {
                file.unlock()?;
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_engine(&self) -> RwLockReadGuard<'_, Option<Engine>> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace_engine(&self, engine: Option<Engine>) -> Option<Engine> {
        std::mem::replace(&mut *self.engine.write().unwrap_or_else(PoisonError::into_inner), engine)
    }

    /// Runs `f` as the only writer. When it fails in a way that leaves the files unknown, they are opened anew by
    /// the next call.
    fn as_writer<T>(
        &self,
        f: impl FnOnce(&Database, &mut Log) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let mut state = self.lock();
        if let State::Broken(file) = &*state {
            self.guard.check()?;
            let (engine, log) = open_files(&*self.vfs, &self.config, file, &self.guard)?;
            self.replace_engine(Some(engine));
            *state = State::Open(log);
        }
        let State::Open(log) = &mut *state else { return Err(BackendError::Closed) };
        let done = match &*self.read_engine() {
            Some(engine) => engine.run(|redb| f(redb, log)),
            None => return Err(BackendError::Closed),
        };
        if matches!(done, Err(ref error) if !matches!(error, BackendError::Conflict)) {
            let file = log.file().clone();
            *state = State::Broken(file);
            if let Some(engine) = self.replace_engine(None) {
                engine.stale.store(true, Ordering::SeqCst);
            }
        }
        done
    }
}

/// Makes the files if nothing was ever finished in them, and otherwise brings the engine up to the log.
fn open_files(
    vfs: &dyn Vfs,
    config: &EmbeddedConfig,
    file: &Arc<dyn VfsFile>,
    guard: &Guard,
) -> Result<(Engine, Log), BackendError> {
    let mut log = Log::new(file.clone(), config.log_bytes);
    let opened = log.look()?;
    if opened == Opened::Foreign && vfs.open(ENGINE_FILE)?.is_none() {
        return Err(BackendError::NotAStore);
    }
    if matches!(opened, Opened::Damaged | Opened::Foreign) {
        return Err(BackendError::Corrupt { what: "the header of the log" });
    }
    let blank = opened == Opened::Blank;
    let data = match vfs.open(ENGINE_FILE)? {
        Some(data) => data,
        None if blank => vfs.create(ENGINE_FILE)?,
        None => return Err(BackendError::Corrupt { what: "the file of the engine is not there" }),
    };
    if blank {
        if is_in_use(&data)? {
            return Err(BackendError::Corrupt { what: "the header of the log" });
        }
        // Making it was interrupted before the log was marked: nothing was ever acknowledged.
        data.set_len(0)?;
    }
    let mut builder = Database::builder();
    builder.set_cache_size(config.cache_bytes);
    let redb = guard.run(|| builder.create_with_backend(Under(data)).map_err(database_error))?;
    let engine = Engine { redb: Some(redb), guard: guard.clone(), stale: Arc::default() };
    if blank {
        engine.run(|redb| {
            let made = begin(redb, redb::Durability::Immediate)?;
            made.open_table(ROWS).map_err(table_error)?;
            finish(made, Some(Position::default()))
        })?;
        log.make()?;
    } else {
        engine.run(|redb| replay(redb, &mut log))?;
    }
    Ok((engine, log))
}

/// Whether an engine was written to after it was made. One that does not open was not finished.
fn is_in_use(data: &Arc<dyn VfsFile>) -> Result<bool, BackendError> {
    if data.is_empty()? {
        return Ok(false);
    }
    let guard = Guard::default();
    let opened =
        guard.run(|| Database::builder().create_with_backend(Under(data.clone())).map_err(database_error));
    let Ok(redb) = opened else { return Ok(false) };
    let engine = Engine { redb: Some(redb), guard, stale: Arc::default() };
    let applied = engine.run(|redb| Ok(applied(redb).unwrap_or_default()))?;
    Ok(applied != Position::default())
}

impl Engine {
    fn run<T>(&self, f: impl FnOnce(&Database) -> Result<T, BackendError>) -> Result<T, BackendError> {
        let redb = self.redb.as_ref().ok_or(BackendError::Closed)?;
        self.guard.run(|| f(redb))
    }
}

/// How far into the log the engine has everything on disk.
fn applied(engine: &Database) -> Result<Position, BackendError> {
    let read = engine.begin_read().map_err(transaction_error)?;
    let table = read.open_table(APPLIED).map_err(table_error)?;
    let value = table.get(APPLIED_KEY).map_err(storage_error)?;
    let applied = value.and_then(|value| Position::decode(value.value()));
    applied.ok_or(BackendError::Corrupt { what: "how far the log was applied" })
}

fn replay(engine: &Database, log: &mut Log) -> Result<(), BackendError> {
    let applied = applied(engine)?;
    let mut write = None;
    let last = log.replay(applied, |body| {
        let write = match &mut write {
            Some(write) => write,
            none => none.insert(begin(engine, redb::Durability::Immediate)?),
        };
        let (puts, deletes) = decode_body(body)?;
        change(write, &puts, &deletes)
    })?;
    if let Some(write) = write {
        finish(write, Some(last))?;
    }
    log.restart(last);
    Ok(())
}

fn begin(engine: &Database, durability: redb::Durability) -> Result<WriteTransaction, BackendError> {
    let mut write = engine.begin_write().map_err(transaction_error)?;
    write.set_durability(durability).map_err(|error| BackendError::Engine(Arc::new(error)))?;
    // Without it the whole file would be read after a crash.
    write.set_quick_repair(matches!(durability, redb::Durability::Immediate));
    Ok(write)
}

fn change(write: &WriteTransaction, puts: &[(Key, Value)], deletes: &[Key]) -> Result<(), BackendError> {
    let mut rows = write.open_table(ROWS).map_err(table_error)?;
    for key in deletes {
        rows.remove(&key[..]).map_err(storage_error)?;
    }
    // In key order neighbouring rows find their page at hand.
    let mut order: Vec<&(Key, Value)> = puts.iter().collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (key, value) in filling(&order) {
        rows.insert(&key[..], &value[..]).map_err(storage_error)?;
    }
    Ok(())
}

/// Rows in an order in which they fill pages. The engine divides a page that is full in the middle, so rows that come
/// one behind another leave half of each page empty; the rows of a log do. Of every eight, five come first, and the other
/// three go into the pages that those have left.
fn filling<T: Copy>(rows: &[T]) -> impl Iterator<Item = T> {
    const FIRST: usize = 5;
    let is_first = |n: &usize| n % 8 * FIRST % 8 < FIRST;
    let at = (0..rows.len()).filter(is_first).chain((0..rows.len()).filter(move |n| !is_first(n)));
    at.map(|n| rows[n])
}

/// Commits; with a position, so that the engine holds everything up to there.
fn finish(write: WriteTransaction, applied: Option<Position>) -> Result<(), BackendError> {
    if let Some(applied) = applied {
        let mut table = write.open_table(APPLIED).map_err(table_error)?;
        table.insert(APPLIED_KEY, &applied.encode()[..]).map_err(storage_error)?;
    }
    write.commit().map_err(|error| engine_error(error.into()))
}

fn commit(engine: &Database, log: &mut Log, batch: &Batch) -> Result<(), BackendError> {
    let body = encode_body(batch);
    let fits = log.fits(&body);
    let durability = if fits { redb::Durability::None } else { redb::Durability::Immediate };
    let write = begin(engine, durability)?;
    if !guards_hold(&write, batch)? {
        write.abort().map_err(storage_error)?;
        return Err(BackendError::Conflict);
    }
    change(&write, &batch.puts, &batch.deletes)?;
    if !fits {
        // One flush of the engine takes this batch and everything in the log.
        let after = log.after(&body);
        finish(write, Some(after))?;
        log.restart(after);
        return Ok(());
    }
    log.append(&body)?;
    if batch.durability == Durability::Durable && !sabotage::is(Sabotage::SkipFlush) {
        // Whatever the cause, the record may be on disk: this is never told as a batch that was not written.
        log.sync().map_err(|error| BackendError::Io(Arc::new(error)))?;
    }
    finish(write, None)
}

/// Brings everything from the log into the engine's file.
fn checkpoint(engine: &Database, log: &mut Log) -> Result<(), BackendError> {
    if !log.is_empty() {
        finish(begin(engine, redb::Durability::Immediate)?, Some(log.last))?;
        log.restart(log.last);
    }
    Ok(())
}

fn guards_hold(write: &WriteTransaction, batch: &Batch) -> Result<bool, BackendError> {
    if batch.guards.is_empty() {
        return Ok(true);
    }
    let rows = write.open_table(ROWS).map_err(table_error)?;
    for (key, expected) in &batch.guards {
        let found = rows.get(&key[..]).map_err(storage_error)?;
        if found.as_ref().map(|found| found.value()) != expected.as_deref() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Backend for Embedded {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.guard.check()?;
        if self.read_engine().is_none() {
            self.as_writer(|_, _| Ok(()))?;
        }
        let engine = self.read_engine();
        let engine = engine.as_ref().ok_or(BackendError::Poisoned)?;
        let rows = engine.run(|redb| {
            let read = redb.begin_read().map_err(transaction_error)?;
            read.open_table(ROWS).map_err(table_error)
        })?;
        Ok(Arc::new(Rows { rows: Some(rows), guard: self.guard.clone(), stale: engine.stale.clone() }))
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        self.as_writer(|engine, log| commit(engine, log, &batch))
    }

    fn close(&self) -> Result<(), BackendError> {
        let mut state = self.lock();
        let before = std::mem::replace(&mut *state, State::Closed);
        let engine = self.replace_engine(None);
        match (before, engine) {
            (State::Open(mut log), Some(engine)) => {
                let done = engine.run(|redb| checkpoint(redb, &mut log));
                drop(engine);
                log.unlock()?;
                done
            }
            (State::Open(log), None) => Ok(log.unlock()?),
            (State::Broken(file), _) => Ok(file.unlock()?),
            (State::Closed, _) => Ok(()),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Nobody is left to be told: what was acknowledged is in the log and will be replayed.
        if self.close().is_err() {
            *self.lock() = State::Closed;
        }
    }
}

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

struct Rows {
    /// Gone only while it is dropped.
    rows: Option<Table>,
    guard: Guard,
    stale: Arc<AtomicBool>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("stale", &self.stale).finish_non_exhaustive()
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.guard.discard(self.rows.take());
    }
}

impl Rows {
    /// Reads with the table. What was read while the files were opened anew is not to be trusted.
    fn read<T>(&self, f: impl FnOnce(&Table) -> Result<T, BackendError>) -> Result<T, BackendError> {
        let rows = self.rows.as_ref().ok_or(BackendError::Closed)?;
        self.checked(self.guard.run(|| f(rows))?)
    }

    fn checked<T>(&self, read: T) -> Result<T, BackendError> {
        if self.stale.load(Ordering::SeqCst) { Err(BackendError::Poisoned) } else { Ok(read) }
    }

    /// Gives rows to `take` one by one.
    fn scan(rows: &Table, scan: &Scan, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), BackendError> {
        if scan.to <= scan.from || scan.max_rows == 0 {
            return Ok(());
        }
        let (mut found, mut bytes) = (0usize, 0usize);
        let mut range = rows.range(&scan.from[..]..&scan.to[..]).map_err(storage_error)?;
        while let Some(row) = match scan.direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        } {
            let (key, value) = row.map_err(storage_error)?;
            let (key, value) = (key.value(), value.value());
            take(key, value);
            found += 1;
            bytes = bytes.saturating_add(key.len() + value.len());
            if found >= scan.max_rows || bytes >= scan.max_bytes {
                break;
            }
        }
        Ok(())
    }
}

impl Snapshot for Rows {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, BackendError> {
        self.read(|rows| {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                let value = rows.get(&key[..]).map_err(storage_error)?;
                found.push(value.map(|value| Bytes::copy_from_slice(value.value())));
            }
            Ok(found)
        })
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Vec<(Key, Value)>>, BackendError> {
        let one = |rows: &Table, scan: &Scan| {
            let mut found = Vec::new();
            Self::scan(rows, scan, |key, value| found.push((key.to_vec(), Bytes::copy_from_slice(value))))?;
            Ok(found)
        };
        self.read(|rows| scans.iter().map(|scan| one(rows, scan)).collect())
    }

    fn stretch(&self, scan: &Scan) -> Result<Stretch, BackendError> {
        self.read(|rows| {
            let (mut bytes, mut ends) = (Vec::with_capacity(scan.max_bytes.min(STRETCH_BYTES)), Vec::new());
            Self::scan(rows, scan, |key, value| {
                bytes.extend_from_slice(key);
                let end_of_key = bytes.len();
                bytes.extend_from_slice(value);
                ends.push((end_of_key, bytes.len()));
            })?;
            Ok(Stretch::new(bytes.into(), ends))
        })
    }
}

/// A file as the engine wants to see it.
#[derive(Debug)]
struct Under(Arc<dyn VfsFile>);

impl redb::StorageBackend for Under {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write_at(offset, data)
    }
}

fn engine_error(error: redb::Error) -> BackendError {
    match error {
        redb::Error::Io(error) => error.into(),
        // A store that was made has its tables, of their types and in the engine's format.
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. } => {
            BackendError::Corrupt { what: "the file of the engine" }
        }
        error => BackendError::Engine(Arc::new(error)),
    }
}

fn storage_error(error: redb::StorageError) -> BackendError {
    engine_error(error.into())
}

fn table_error(error: redb::TableError) -> BackendError {
    engine_error(error.into())
}

fn transaction_error(error: redb::TransactionError) -> BackendError {
    engine_error(error.into())
}

fn database_error(error: redb::DatabaseError) -> BackendError {
    match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() == io::ErrorKind::InvalidData =>
        {
            BackendError::Corrupt { what: "the file of the engine" }
        }
        error => engine_error(error.into()),
    }
}

#[cfg(test)]
mod tests;
