//! Bounds and defaults of the program, each with its reason.

use std::time::Duration;

/// Rows that one entry of an import holds: big enough that a flush per entry does not matter, small enough that a
/// bad line costs little.
pub const IMPORT_BATCH_ROWS: u64 = 500;
/// Most rows in one entry: longer entries would meet the format's limit of 1 MiB before.
pub const IMPORT_BATCH_ROWS_MAX: u64 = 10_000;
/// Longest line of an imported file in bytes: a row has to fit into one entry.
pub const IMPORT_LINE_BYTES_MAX: u64 = 1024 * 1024;
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
