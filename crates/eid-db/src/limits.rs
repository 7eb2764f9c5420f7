//! Every bound of this crate, with its reason. Those of operations are part of the format: an operation beyond them
//! counts as one that does not decode, equally on every replica.

/// Most keys of a path, and so the greatest depth of a document: reading a path costs one row for each.
pub const PATH_KEYS_MAX: usize = 32;
/// Most bytes of the keys of a path together: they are part of the key of a stored row.
pub const PATH_BYTES_MAX: usize = 1024;
/// How many times more bytes than its own the paths that one set writes may take together: a map under a long path
/// must not become rows without bound.
pub const SET_SPREAD_MAX: usize = 32;
/// Most bytes of the key of a table row, for the same reason.
pub const ROW_KEY_BYTES_MAX: usize = 512;
/// Most fields of a table row: a row is read and written as a whole. One that would have more keeps those written last.
pub const ROW_FIELDS_MAX: usize = eid_crdt::ROW_FIELDS_MAX;
/// Most bytes of the name of a field.
pub const FIELD_BYTES_MAX: usize = 256;

/// Most bytes of a text or of bytes that an index sorts by: with the key of the row they are part of the key of a stored
/// row. Longer ones are told apart by reading the rows.
pub const SORTABLE_BYTES_MAX: usize = 256;
/// Rows of a table that one step of building an index goes through: commits wait for a step. In the tests of this crate
/// few rows take many steps, and bring about every plan.
pub const INDEX_STEP_ROWS: usize = if cfg!(test) { 3 } else { 1000 };
/// Bytes of rows after which a step ends.
pub const INDEX_STEP_BYTES: usize = 1024 * 1024;
/// Rows of a step that are read at once to see where it ends: rows may be large.
pub const STEP_PAGE_ROWS: usize = 64;
/// Most indexes of one table: every change of a row writes to each.
pub const INDEXES_MAX: usize = 32;
/// Most bytes of the name of a field with a declared index: part of the key of a row.
pub const INDEX_FIELD_BYTES_MAX: usize = PATH_BYTES_MAX;
/// Most memory in KiB that a password config may ask for: somebody else chose it, and every device has to pay it.
pub const PASSWORD_MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Most memory times passes: a few seconds of a slow device.
pub const PASSWORD_WORK_KIB_MAX: u64 = 1024 * 1024;
/// Most lanes of a password config.
pub const PASSWORD_LANES_MAX: u32 = 8;
/// Most memory times passes that one call of unlocking may cost, over all configs of a store: whoever may write can add
/// configs. The next call goes on with those that are left.
pub const UNLOCK_WORK_KIB_MAX: u64 = if cfg!(test) { 64 } else { 16 * PASSWORD_WORK_KIB_MAX };
/// Passwords of one store of which is remembered how far they were tried: somebody may try several by turns.
pub const UNLOCK_SEARCHES_MAX: usize = 4;
/// Most configs that a config replaces.
pub const CONFIG_REPLACES_MAX: usize = 32;
/// Fewest bytes that a sealed payload is padded to: most writes look alike.
pub const SEALED_BYTES_MIN: usize = 256;
/// Rows of an unlocked store whose earlier values are kept, for readers whose snapshot is older than the last read.
pub const UNDO_ROWS_MAX: usize = 4096;
/// Older versions of an unlocked store that are kept in memory: what undoing and comparing look at by turns.
pub const OPENED_VERSIONS_MAX: usize = 2;
/// Sealed rows that are changed in memory before they are written: what a crash makes a device read again from the log.
pub const UNWRITTEN_ROWS_MAX: usize = 1024;
/// Most bytes of one encryption config of a store: what it needs, with room for a longer form.
pub const ENCRYPTION_CONFIG_BYTES_MAX: usize = 2048;
/// Most characters inserted and deleted for which the difference of two texts is looked for piece by piece: the work and
/// the memory grow with its square. Beyond, all that lies between the first and the last difference is replaced.
pub const TEXT_DIFFERENCE_MAX: usize = 512;
/// Fewest equal characters between two differences that keep them apart: letters that words have in common by chance do
/// not.
pub const TEXT_EQUAL_MIN: usize = 4;

/// Most rows of each index that planning a query counts: to tell few from many costs no more than reading few.
pub const PLAN_PROBE_ROWS: usize = if cfg!(test) { 4 } else { 256 };
/// From how many rows that an index finds on the first rows are looked for in the index of the order instead: near the
/// square root of how many rows are looked at then, for 10 rows of a million.
pub const PLAN_WALK_ROWS: usize = if cfg!(test) { 8 } else { 4096 };
/// From how many touched rows on a live query with a limit asks its query again instead of looking at each.
pub const LIVE_KEYS_MAX: usize = if cfg!(test) { 8 } else { 10_000 };
/// Most fields that a query sorts by.
pub const ORDER_FIELDS_MAX: usize = 16;
/// How deep the text of a condition may be nested: its parser recurses.
pub const FILTER_DEPTH_MAX: usize = 64;
/// Most conditions, or values of one, in the text of a condition: each is looked up.
pub const FILTER_CONDITIONS_MAX: usize = 1024;

/// Elements of one operation of which one row says in which leaves of a sequence they are: bounds what an edit of one
/// of them writes.
pub const PIECE_ELEMENTS: u32 = 512;

/// About how many bytes an item of a list may take to stand beside its neighbours: a larger one has a row of its own, as
/// every edit nearby reads and writes what stands there.
pub const ITEM_INLINE_BYTES_MAX: usize = 512;

/// Most bytes of the name of a user: it is part of the key of a row.
pub const USER_NAME_BYTES_MAX: usize = 128;
/// Most users of one device: all are read to list them.
pub const USERS_MAX: usize = 1024;
/// Most keys of one user: the strongest is looked for among all of them at each write.
pub const USER_KEYS_MAX: usize = 64;
/// Most bytes of a password: they are hashed before anything is known of who gives them.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Least memory in KiB that trying the password of a user costs (OWASP's first recommendation for Argon2id). The tests
/// of this crate try many.
pub const USER_PASSWORD_MEMORY_KIB_MIN: u32 = if cfg!(test) { 16 } else { 19 * 1024 };
/// Least passes, for the same reason.
pub const USER_PASSWORD_PASSES_MIN: u32 = 2;
/// Passwords that are tried at once; further ones wait. Each takes its memory.
pub const PASSWORDS_TRIED_AT_ONCE: usize = 2;
/// Keys of users that are shown to a peer: with so many a handshake stays below 1 KiB.
pub const PROVEN_KEYS_MAX: usize = 6;
/// Seconds after which a database is synchronised again unless a user wants it otherwise.
pub const SYNC_INTERVAL_SECONDS: u64 = 300;
/// Most properties in the preferences of one user for one database: they are read whenever preferences are combined.
pub const PROPERTIES_MAX: usize = 64;
/// Most bytes of the name of a property.
pub const PROPERTY_NAME_BYTES_MAX: usize = 128;
/// Most bytes of its value.
pub const PROPERTY_VALUE_BYTES_MAX: usize = 1024;

/// Bytes of random salt in each payload: enough that the hash of an erased short payload tells nothing.
pub const SALT_BYTES: usize = 16;
/// Rows that a walk over a store reads at once: bounds memory, and makes the cost of a read per row small.
pub const PAGE_ROWS: usize = 512;
/// Rows that a query with a small limit reads first: some may not be what is asked for.
pub const PAGE_ROWS_FIRST: usize = if cfg!(test) { 2 } else { 16 };
/// Characters that a walk over a text reads at once.
pub const TEXT_PAGE: usize = 64 * 1024;
/// Entries that a search for concurrent values looks at without reading them: some tens of milliseconds.
pub const CONCURRENT_WALK_MAX: u64 = 64 * 1024;
/// Entries that it reads, for the same reason.
pub const CONCURRENT_READ_MAX: usize = 2048;
/// Bytes of entries that a stream of changes or the log reads at once.
pub const LOG_PAGE_BYTES: usize = 256 * 1024;
/// Entries that the log reads at once when it goes backwards.
pub const LOG_PAGE_ENTRIES: u64 = 128;
/// Trees whose settings are in memory, resolved; then all are forgotten and worked out again when they are asked for.
pub const ENGINES_MAX: usize = 1024;
/// Settings of one tree that readers are given without working them out again: those of today, and some old versions.
pub const REMEMBERED_SETTINGS_MAX: usize = 8;
/// Most invites of one database that can be open at once: each is a row of this device.
pub const INVITES_MAX: usize = 1024;
/// Most requests for access to one database that are remembered: a person has to look at each. Strangers cause them.
pub const REQUESTS_PER_DATABASE_MAX: usize = if cfg!(test) { 4 } else { 64 };
/// Most requests for access to all databases: at most 1.5 MiB, read when somebody asks for the first time.
pub const REQUESTS_MAX: usize = if cfg!(test) { 6 } else { 1024 };
/// Most bytes of the name of a database on this device: as much as a shared title.
pub const NAME_BYTES_MAX: usize = eid_core::limits::TITLE_BYTES_MAX;
/// Fewest characters of an id that name a database.
pub const ID_PREFIX_CHARS_MIN: usize = 8;

/// Notices that wait for a slow callback one by one; further ones become part of the last.
pub const WATCH_RANGES_MAX: usize = 64;
/// A reader of changes with more entries than this ahead of it is told that it lags: some seconds of busy writing.
pub const LAGGED_ENTRIES: u64 = 1024;
/// Most bytes of the name of a consumer: it is part of the key of a row.
pub const CONSUMER_NAME_BYTES_MAX: usize = 128;
/// Rows and paths that a difference of versions holds at once. It reads the entries between them once for each time
/// that this many were touched.
pub const DIFF_KEYS: usize = 16 * 1024;
/// Entries whose authors are read at once while the last one of this device is looked for.
pub const AUTHORS_PAGE: usize = 512;

/// Bytes of one part of a text that an edit buffer holds: what an edit copies.
pub const ROPE_CHUNK_BYTES_MAX: usize = 1024;
/// Edits that are looked for when two texts are compared: work and memory grow with the square.
pub const DIFF_EDITS_MAX: usize = 512;
/// Characters that one entry of an edit buffer puts in and takes out: leaves room for their bytes in a payload.
pub const FLUSH_CHARS_MAX: usize = 128 * 1024;
/// Changes from elsewhere that an edit buffer keeps until they are asked for; beyond, it compares texts instead.
pub const ARRIVED_DELTAS_MAX: usize = 4096;
/// Entries that an observer of a text reads at once. One that lags further is told to read the text again.
pub const OBSERVED_ENTRIES_MAX: usize = 4096;
/// Parts of a text that an observer looks at, again for each operation that touched them: some ten milliseconds.
pub const OBSERVED_PARTS_MAX: usize = 64 * 1024;
/// Bytes of these entries.
pub const OBSERVED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries that one event says count no longer, or again: a removal may concern all that somebody ever wrote, and an
/// event is held in memory. 8 KiB of ids.
pub const RESTANDING_IDS_MAX: usize = 256;
