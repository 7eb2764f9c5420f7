//! Every bound of the protocol, with the reason for its number.

/// Greatest length of a frame in bytes: the largest entry (1 MiB of payloads and its header) with room for a batch.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of entries that a sender aims at in one batch: large enough that a commit's flush is shared by hundreds of
/// entries, small enough that a cut loses little.
pub const BATCH_BYTES_TARGET: usize = 256 * 1024;
/// Greatest number of entries in one batch: the size at which signatures are verified fastest.
pub const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes that a receiver lets the sender send in one turn: the window that a cut connection can lose.
pub const CREDIT_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes that have become durable when more is granted within a turn: a quarter of the window, so that a sender seldom
/// waits and words aside are few.
pub const MORE_BYTES: u64 = CREDIT_BYTES / 4;
/// Least credit that is accepted: below it a hostile receiver would keep a session busy with empty turns.
pub const CREDIT_BYTES_MIN: u64 = 64 * 1024;
/// Least length of the block of an entry: an author and a signature. What is shorter is none, and would cost no credit.
pub const BLOCK_BYTES_MIN: usize = 96;
/// Least bytes of a block for each of its sections: the hash of a payload. More payloads than that are of no entry.
pub const SECTION_BYTES_MIN: usize = 32;
/// Greatest number of frames in a turn: ten times what a window of the smallest entries takes.
pub const FRAMES_MAX: u32 = 1024;
/// Greatest number of turns in a session, of both sides: half a terabyte or five hundred million ids. What is larger
/// is finished by the next session.
pub const TURNS_MAX: u32 = 256 * 1024;
/// Greatest number of tips that an opening names: more cost 8 kB before anything is known to differ.
pub const OPEN_TIPS_MAX: usize = 1024;
/// Greatest number of tips that a plan names: they verify that nothing is missing afterwards.
pub const PLAN_TIPS_MAX: usize = 16 * 1024;
/// Greatest number of entries that name the remembered frontier; a wider one is not named at all.
pub const COMMON_MAX: usize = 1024;
/// Greatest number of log positions that are read to find the remembered frontier.
pub const COMMON_WALK_MAX: u64 = 16 * 1024;
/// Greatest number of entries of which an opening names all: 2.5 kB, as much as a sketch, and exact.
pub const ALL_MAX: usize = 320;
/// Greatest number of tips of a replica that is narrow: there samples of the log tell most.
pub const NARROW_TIPS: u64 = 64;
/// Greatest number of tips of a replica that is a line, or two that went apart: there samples of the log tell nearly all.
pub const LINE_TIPS: u64 = 2;
/// Greatest number of samples in an opening, and of tips and samples together in one of a narrow replica: each next one a
/// twelfth farther back, they reach over a million entries. With 64 tips in the answer too, all metadata of a small
/// difference stays below 4 kB.
pub const SAMPLES_MAX: usize = 128;
/// Number of samples in an opening that names a remembered frontier, and in a wide one.
pub const SAMPLES_FEW: usize = 32;
/// From this distance on, each next sample is twice as far back: such differences are rare.
pub const SAMPLES_DENSE: u64 = 128 * 1024;
/// Cells of each stratum in an opening of a line. The first reads nearly every difference of 64 entries; the last reads one
/// of a hundred thousand.
pub const LINE_CELLS: [usize; 5] = [112, 0, 0, 28, 44];
/// The same of another narrow replica: the second reads differences of 180 entries, of which samples tell less there.
pub const NARROW_CELLS: [usize; 5] = [104, 36, 0, 28, 32];
/// Cells of each stratum in a wide opening: many writers differ in many places, and samples have to be denser.
pub const WIDE_CELLS: [usize; 5] = [256, 320, 128, 64, 64];
/// Least number of entries that a stratum must be expected to sample to be sent.
pub const STRATUM_ENTRIES_MIN: u64 = 2;
/// Entries that an estimate visits before it asks about what is left: a difference is nearly always above that.
pub const ESTIMATE_VISITS: u64 = 64 * 1024;
/// What is sent although the receiver may have it, rather than asked about first: less than a round trip lets through.
pub const OVERSEND_BYTES: u64 = 16 * 1024;
/// The same as a part of all that differs, in percent.
pub const OVERSEND_PERCENT: u64 = 5;
/// The same where few entries differ: about what a window of a link that is idle takes.
pub const OVERSEND_BYTES_FEW: u64 = 64 * 1024;
/// So many are few: of fewer than a thousand nobody minds that some come twice.
pub const FEW: u64 = 512;
/// Entries whose mean size is taken for that of all.
pub const MEAN_OF: u64 = 32;
/// Greatest number of names of the remembered frontier beside a cursor: nearly everything descends from the newest.
pub const COMMON_BESIDE_CURSOR_MAX: usize = 64;
/// Number of ids in the first window of rung f: most differences end here.
pub const WINDOW_IDS_FIRST: usize = 64;
/// Greatest number of ids in a window of rung f: 128 kB, few turns for large differences.
pub const WINDOW_IDS_MAX: usize = 4096;
/// Entries that a walk visits before it hands control back: below a millisecond.
pub const WALK_STEP: u64 = 16 * 1024;
/// Positions that are read through rather than skipped when a plan has small gaps: one read instead of many.
pub const GAP_MAX: u64 = 16;
/// How many refused entries a session remembers, so that their descendants are not asked for again.
pub const REFUSED_MAX: usize = 4096;
/// How often one side may ask to begin again by ids in one session: the second answer is exact.
pub const EXACT_MAX: u32 = 1;
/// Greatest number of entries that a plan names as lacking: so few are worth 192 bytes, which spare the other side a walk.
pub const LACKS_MAX: usize = 24;
/// Greatest number of payloads that are asked for at once: 34 kB of names, and a batch or more of small payloads.
pub const WANT_MAX: usize = 1024;
/// Greatest number of tips and samples that come with such a request.
pub const EXACT_HELD_MAX: usize = 2 * SAMPLES_MAX;
/// Greatest number of further keys that a client proves in its handshake.
pub const KEYS_MAX: usize = 16;
/// Greatest number of databases whose state a server tells in its handshake: with them and six further keys it takes little
/// more than a kilobyte.
pub const STATES_MAX: usize = 16;
/// Greatest number of tips that an opening names when it expects that nothing differs.
pub const EQUAL_TIPS_MAX: usize = 32;
/// Greatest length of a display name in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Greatest length of a shared title in bytes, as in the entry format.
pub const TITLE_BYTES_MAX: usize = 256;
/// Greatest number of named texts that somebody says with a request for access: what a person reads at a glance.
pub const METADATA_FIELDS_MAX: usize = 16;
/// Bytes of these names and texts together: strangers send them, and they are stored.
pub const METADATA_BYTES_MAX: usize = 1024;
/// Greatest number of databases in one request of the control link: 64 kB.
pub const OPEN_MANY_MAX: usize = 1024;
/// Greatest number of databases that one discovery lists.
pub const DISCOVER_MAX: usize = 4096;
/// Greatest number of databases that one side follows over one connection.
pub const FOLLOWED_MAX: usize = 4096;
/// Bytes of pushed entries on one connection that are not acknowledged: four batches. Beyond it nothing is pushed, at
/// most one entry over, and what is to be pushed is found in the log later.
pub const LIVE_WINDOW_BYTES: u64 = 1024 * 1024;
/// Entries that a follower may be behind and still be pushed what it lacks; more is for a session.
pub const LIVE_BEHIND_MAX: u64 = 4096;
/// Milliseconds that entries wait for one push while another of the same database is under way.
pub const COALESCE_MS: u64 = 50;
/// Ids of entries that came over a connection and are therefore not pushed back: half a megabyte. Older ones may be.
pub const CAME_MAX: usize = 8192;
/// Words that wait to be said: an answer to each of two for every database that can be followed. Who asks for more
/// answers than it takes is left.
pub const WORDS_MAX: usize = 4 * FOLLOWED_MAX;
/// How many times as large as it is a compressed batch may become: entries of which each has a signature never do, and a
/// few bytes must not cost much memory.
pub const COMPRESS_RATIO_MAX: usize = 100;
/// Least length of a packed batch that is compressed: in a few entries hardly anything comes twice.
pub const COMPRESS_BYTES_MIN: usize = 1024;
/// Of what a batch was, the greatest part in percent that is worth the work of both sides.
pub const COMPRESS_PERCENT_MAX: usize = 90;
/// Batches that go as they are after one that compressing did not make small enough: what is encrypted costs an eighth.
pub const COMPRESS_LEFT: u32 = 7;
/// The level: the next ones make batches of entries 1 or 2 % smaller for twice the work.
pub const COMPRESS_LEVEL: i32 = 1;
