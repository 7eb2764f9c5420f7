//! Bounds of what is remembered. They decide how fast an answer comes, never which.

/// Resolved settings frontiers that an engine remembers: more than the heads that are asked for between two changes
/// of settings; each takes a few hundred bytes.
pub const FRONTIERS_MAX: usize = 4096;

/// Heads of a frontier that is remembered for the price of one: about the memory that a resolution takes besides.
pub const FRONTIER_SHORT: usize = 32;

/// Fewest resolved frontiers that are remembered, so that one resolution finds what it has just resolved.
pub const FRONTIERS_MIN: usize = 4;

/// Sets of void entries, as single accepting entries would have them, that an engine remembers.
pub const ACCEPTED_VIEWS_MAX: usize = 256;

/// Latest resolutions that are tried as a beginning of the next, which mostly adds a little to one of them. Trying one
/// costs less than adding one entry.
pub const BASES_MAX: usize = 32;
