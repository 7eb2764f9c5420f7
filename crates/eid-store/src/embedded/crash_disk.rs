//! A disk in memory that does to unsynced writes what real ones may do, by seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::vfs::{Vfs, VfsFile};

/// The unit that a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A directory in memory. At a crash each write since the last sync of its file survives, is lost or is torn,
/// independently of the others. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct CrashDisk {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    files: BTreeMap<String, Content>,
    /// Counts restarts: handles from before one are dead.
    life: u64,
    /// Writes, cuts and syncs so far.
    ops: u64,
    stop_at: Option<u64>,
    stopped: bool,
    failing_writes: u64,
    capacity: Option<u64>,
}

#[derive(Debug, Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// Which handle holds the lock.
    locked_by: Option<u64>,
}

#[derive(Debug)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Pending {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }
}

/// A small generator (SplitMix64): the same seed breaks the same things.
#[derive(Debug)]
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }
}

impl CrashDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many writes, cuts and syncs there were.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// Stops after so many further writes, cuts and syncs: from then on every call fails, as if the machine were
    /// off.
    pub fn stop_after(&self, ops: u64) {
        let mut shared = self.lock();
        shared.stop_at = Some(shared.ops + ops);
    }

    /// Whether it has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Makes the next writes fail without being done; the disk goes on.
    pub fn fail_writes(&self, count: u64) {
        self.lock().failing_writes = count;
    }

    /// Limits the sum of the lengths of all files; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// The sum of the lengths of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().used()
    }

    /// Loses power and comes back: what was not synced survives, is lost or is torn by seed. All handles from
    /// before are dead and their locks are free.
    pub fn restart(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mut shared = self.lock();
        shared.life += 1;
        shared.stop_at = None;
        shared.stopped = false;
        shared.failing_writes = 0;
        // Some crashes lose everything and some nothing: both are cases of their own.
        let mood = dice.roll(4);
        for content in shared.files.values_mut() {
            content.crash(mood, &mut dice);
        }
    }

    /// Flips one bit of a file, as a failing medium would. Gives whether there is such a byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut shared = self.lock();
        let Some(content) = shared.files.get_mut(name) else { return false };
        let Ok(offset) = usize::try_from(offset) else { return false };
        let (Some(current), Some(durable)) =
            (content.current.get_mut(offset), content.durable.get_mut(offset))
        else {
            return false;
        };
        *current ^= 1 << (bit % 8);
        *durable ^= 1 << (bit % 8);
        true
    }
}

impl Content {
    fn crash(&mut self, mood: u64, dice: &mut Dice) {
        let mut survived = std::mem::take(&mut self.durable);
        let mut pending = std::mem::take(&mut self.pending);
        // Overlapping writes may reach the disk in any order.
        for i in (1..pending.len()).rev() {
            if dice.roll(4) == 0 {
                let other = dice.roll(i as u64 + 1);
                pending.swap(i, usize::try_from(other).unwrap_or_default());
            }
        }
        for mut op in pending {
            let fate = match mood {
                0 => 0,
                1 => 1,
                _ => dice.roll(3),
            };
            match (fate, &mut op) {
                (0, _) => continue,
                (2, Pending::Write { offset, bytes }) => tear(*offset, bytes, &survived, dice),
                _ => {}
            }
            op.apply(&mut survived);
        }
        self.current.clone_from(&survived);
        self.durable = survived;
        self.locked_by = None;
    }
}

/// Puts the old bytes back into some sectors of a write, and possibly into the end of one of them.
fn tear(offset: usize, bytes: &mut [u8], old: &[u8], dice: &mut Dice) {
    let prefix_only = dice.roll(2) == 0;
    let cut = usize::try_from(dice.roll(bytes.len() as u64 + 1)).unwrap_or_default();
    let mut at = 0;
    while at < bytes.len() {
        let end = (((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset).min(bytes.len());
        let from = if prefix_only {
            cut.clamp(at, end)
        } else if dice.roll(2) == 0 {
            at
        } else {
            end
        };
        for (i, byte) in bytes.iter_mut().enumerate().take(end).skip(from) {
            *byte = old.get(offset + i).copied().unwrap_or_default();
        }
        at = end;
    }
}

impl Shared {
    fn used(&self) -> u64 {
        self.files.values().map(|content| content.current.len() as u64).sum()
    }

    /// Counts an operation that changes the disk. Gives whether it still goes through.
    fn count_op(&mut self) -> io::Result<()> {
        if self.stopped {
            return Err(stopped());
        }
        self.ops += 1;
        if self.stop_at.is_some_and(|at| self.ops > at) {
            self.stopped = true;
            return Err(stopped());
        }
        Ok(())
    }

    fn check_room(&self, name: &str, len: usize) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let before = self.files.get(name).map_or(0, |content| content.current.len());
        let after = self.used() - before as u64 + before.max(len) as u64;
        if len > before && after > capacity { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the disk has stopped")
}

static NEXT_HANDLE: AtomicU64 = AtomicU64::new(1);

/// A handle to a file of a [`CrashDisk`].
#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    name: String,
    life: u64,
    handle: u64,
}

impl CrashFile {
    fn with<T>(&self, f: impl FnOnce(&mut Shared) -> io::Result<T>) -> io::Result<T> {
        let mut shared = self.disk.lock();
        if shared.life != self.life || shared.stopped {
            return Err(stopped());
        }
        f(&mut shared)
    }

    fn content<'s>(&self, shared: &'s mut Shared) -> &'s mut Content {
        shared.files.entry(self.name.clone()).or_default()
    }

    fn change(&self, op: Pending) -> io::Result<()> {
        self.with(|shared| {
            if shared.failing_writes > 0 {
                shared.failing_writes -= 1;
                return Err(io::Error::other("the disk refuses a write"));
            }
            let len = match &op {
                Pending::Write { offset, bytes } => offset + bytes.len(),
                Pending::SetLen(len) => *len,
            };
            shared.check_room(&self.name, len)?;
            let counted = shared.count_op();
            let content = self.content(shared);
            if counted.is_ok() {
                op.apply(&mut content.current);
            }
            // The operation that the power fails in may be on disk, or partly.
            content.pending.push(op);
            counted
        })
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl VfsFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|shared| Ok(self.content(shared).current.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = position(offset)?;
        self.with(|shared| {
            let bytes = self.content(shared).current.get(offset..offset + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Pending::Write { offset: position(offset)?, bytes: bytes.to_vec() })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Pending::SetLen(position(len)?))
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|shared| {
            shared.count_op()?;
            let content = self.content(shared);
            for op in std::mem::take(&mut content.pending) {
                op.apply(&mut content.durable);
            }
            Ok(())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.with(|shared| {
            let content = self.content(shared);
            let free = content.locked_by.is_none_or(|handle| handle == self.handle);
            if free {
                content.locked_by = Some(self.handle);
            }
            Ok(free)
        })
    }

    fn unlock(&self) -> io::Result<()> {
        self.with(|shared| {
            let content = self.content(shared);
            if content.locked_by == Some(self.handle) {
                content.locked_by = None;
            }
            Ok(())
        })
    }
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        let mut shared = self.disk.lock();
        if shared.life == self.life
            && let Some(content) = shared.files.get_mut(&self.name)
            && content.locked_by == Some(self.handle)
        {
            content.locked_by = None;
        }
    }
}

impl Vfs for CrashDisk {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn VfsFile>>> {
        let shared = self.lock();
        if shared.stopped {
            return Err(stopped());
        }
        if !shared.files.contains_key(name) {
            return Ok(None);
        }
        let handle = NEXT_HANDLE.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Arc::new(CrashFile { disk: self.clone(), name: name.to_owned(), life: shared.life, handle })))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn VfsFile>> {
        {
            let mut shared = self.lock();
            shared.count_op()?;
            shared.files.entry(name.to_owned()).or_default();
        }
        self.open(name)?.ok_or(io::ErrorKind::NotFound.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }
}
