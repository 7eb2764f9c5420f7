//! Every bound of this crate, with its reason.

/// Most callers that wait for a commit at once; one more is told that the store is busy. Each waiting caller is a
/// thread, so more would mean that callers are not bounded either.
pub const QUEUE_JOBS_MAX: usize = 1024;
/// Most jobs that one commit takes from the queue: keeps the wait of the first caller short.
pub const GROUP_JOBS_MAX: usize = 256;
/// Most bytes of blocks and payloads that one commit takes from the queue: with its rows it stays well within one
/// checkpoint of the embedded backend.
pub const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that are made room for before rows are read in one piece of memory: a batch of a session and its last row.
pub const STRETCH_BYTES: usize = 288 * 1024;
/// How often a commit is tried again after another process changed the same tree.
pub const CONFLICT_RETRIES: u32 = 8;
/// Most settings entries and settings frontiers of one tree that are kept in memory; more are read one by one.
pub const SETTINGS_CACHED_MAX: usize = 16 * 1024;
/// From how many signatures on a batch is verified by two threads: below it a thread costs more than it saves.
pub const VERIFY_SPLIT_MIN: usize = 128;
/// Most rows that a sweep of a forgotten tree removes in one batch.
pub const SWEEP_ROWS_MAX: usize = 4096;
/// Most entries that `fsck` reads at once.
pub const FSCK_ENTRIES_MAX: usize = 1024;
/// Most bytes that `fsck` reads at once.
pub const FSCK_BYTES_MAX: usize = 1024 * 1024;
/// Most payloads of a tree that came late and are applied again in their order by `fsck`: it keeps their names in
/// memory. With more, only the values of rows are compared, and not which interval changed them.
pub const FSCK_LATE_MAX: usize = 1024 * 1024;
/// Longest row of positions without an entry that `fsck` names one by one: a longer one is a damaged position.
pub const FSCK_HOLE_MAX: u64 = 1024 * 1024;
/// Most problems that a report of `fsck` lists; the rest are counted.
pub const FSCK_PROBLEMS_MAX: usize = 1000;
/// Entries between two checkpoints of a tree's log: about what an old version has to fold. Fewer would keep more old
/// values of rows that change often; more would make old versions slower to open.
pub const CHECKPOINT_ENTRIES: u64 = if cfg!(test) { 8 } else { 1024 };
/// Most entries of a version that are folded at once: what is in memory of the log then. Few where it is tested, so that
/// more than one such step is.
pub const FOLD_ENTRIES_MAX: usize = if cfg!(test) { 16 } else { 256 };
/// Most positions that walks down the history hold whose outcome is kept while entries are judged: one walk for the
/// parents of each entry, and one for each fence. Eight bytes each. The last walk is kept whatever it holds.
pub const WALKED_MAX: usize = if cfg!(test) { 64 } else { 4 * 1024 * 1024 };
/// Most pairs of an author and a past whose standing is remembered while entries are judged again.
pub const REMEMBERED_STANDING_MAX: usize = 65_536;
/// How often a change of what counts is worked out while others admit, before it is worked out while they wait.
pub const SETTLE_TRIES: u32 = 3;
/// Most entries whose standing views take in at once: the rows that say so fit in one batch, and so does the list of them.
pub const SETTLE_ENTRIES_MAX: usize = 64 * 1024;
/// Most bytes of rows that views take in at once when the standing of several entries changes, and most that are in memory
/// while rows are worked out again: beyond it a batch would take long, and take more memory than a small device has.
pub const SETTLE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows of changes of what counts that are read at once where only the last ones matter: each may name as many entries.
pub const SETTLED_ROWS: usize = 8;
/// Most bytes of rows of one old version that are kept in memory: what was written since the last checkpoint that it
/// descends from as a whole. Beside it the same number of entries would take several times as long to write.
pub const VERSION_BYTES_MAX: usize = if cfg!(test) { 64 * 1024 } else { 256 * 1024 * 1024 };
/// Rows that are read at once where present rows and earlier ones are read side by side.
pub const MERGE_ROWS: usize = 256;
/// Most bytes of the name of a namespace of local rows.
pub const NAMESPACE_BYTES_MAX: usize = 64;
/// Bytes of a frame of a backup: as much is in memory of what is not checked yet.
pub const BACKUP_FRAME_BYTES: usize = if cfg!(test) { 1024 } else { 256 * 1024 };
/// Bytes of rows that are read at once for a backup.
pub const BACKUP_SCAN_BYTES: usize = if cfg!(test) { 4096 } else { 256 * 1024 };
/// Most bytes of a key in a backup: far beyond the longest key that is written, which holds a path or the key of a row.
pub const BACKUP_KEY_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a value in a backup. The longest are lists of what came to count, and entries with their payloads.
pub const BACKUP_VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of rows after which a batch of a restored backup is committed.
pub const RESTORE_BATCH_BYTES: usize = 1024 * 1024;
