//! Bounds and defaults of the program, each with its reason.

use std::time::Duration;

/// Rows that one entry of an import holds: big enough that a flush per entry does not matter, small enough that a
/// bad line costs little.
pub const IMPORT_BATCH_ROWS: u64 = 500;
/// Most rows in one entry: longer entries would meet the format's limit of 1 MiB before.
pub const IMPORT_BATCH_ROWS_MAX: u64 = 10_000;
/// Longest line of an imported file in bytes: a row has to fit into one entry.
pub const IMPORT_LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Keys of an imported file that are compared with one another, 8 bytes and their place for each.
pub const IMPORT_KEYS_COMPARED: usize = 1 << 20;
/// Rows that are looked at to tell that a field is a slip: some tens of milliseconds.
pub const FIELD_ROWS: u64 = 10_000;
/// Fields that such a warning names: a line or two.
pub const FIELDS_NAMED: usize = 30;
/// Bytes of a file that is read as a recovery key: its line has 79, with room for blanks around it.
pub const RECOVERY_FILE_BYTES_MAX: usize = 256;
/// Settings or void entries that `audit` lists at once unless told otherwise.
pub const AUDIT_ENTRIES: usize = 100;
/// Most bytes of a line that is read as a password: more than a password can have.
pub const PASSWORD_LINE_BYTES_MAX: u64 = 4096;
/// Bytes that the largest QR code holds, with the least correction of errors (ISO/IEC 18004, table 7).
pub const QR_BYTES_MAX: usize = 2_953;
/// Light modules around a QR code, by which cameras find it (ISO/IEC 18004).
pub const QR_QUIET: usize = 4;
/// Sessions that `status --history` lists unless told otherwise.
pub const HISTORY_SESSIONS: usize = 50;
/// How long commands that use the network wait unless told otherwise.
pub const NETWORK_WAIT_SECONDS: u64 = 60;
/// How long a command waits for another one on the same data directory.
pub const OWNER_WAIT: Duration = Duration::from_secs(10);
/// How often it looks whether the other one has ended.
pub const OWNER_POLL: Duration = Duration::from_millis(40);
/// Entries that `log` lists unless told otherwise.
pub const LOG_ENTRIES: usize = 50;
/// Events of `serve --json` that wait for a slow reader; further ones are counted and skipped.
pub const EVENTS_WAITING: usize = 1_024;
/// How long a stopping node waits for sessions that are still running.
pub const STOP_WAIT: Duration = Duration::from_secs(5);
/// Lanes that `log --graph` draws beside one another; further ones share a column, so that descriptions stay in sight.
pub const GRAPH_LANES: usize = 16;
/// Lanes of a picture, for the same reason.
pub const PICTURE_LANES: usize = 64;
/// Stores of one entry that a drawing names; of further ones it gives the number.
pub const GRAPH_STORES: usize = 4;
/// Entries that a drawing reads at once; within them, the line of an author goes straight on.
pub const GRAPH_PAGE: usize = 256;
/// Entries of a picture unless told otherwise: a page or two of a browser.
pub const PICTURE_ENTRIES: usize = 500;
/// Most entries of a picture: it is made in memory, some 500 bytes for each.
pub const PICTURE_ENTRIES_MAX: u64 = 100_000;
/// Authors that the legend of a picture names; the others are counted.
pub const PICTURE_AUTHORS: usize = 24;
/// How often a watch that has nothing to tell shows that it is there, and finds out whether anybody reads it.
pub const WATCH_SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Bytes of a backup between two times that a person is told how far it is.
pub const BACKUP_TOLD_BYTES: u64 = 4 * 1024 * 1024;
/// Between two looks of `eid status --watch`: as often as a person sees a difference.
pub const STATUS_EVERY: Duration = Duration::from_millis(250);
