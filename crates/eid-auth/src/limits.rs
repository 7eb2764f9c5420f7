//! Bounds of what is remembered. They decide how fast an answer comes, never which.

/// Resolved settings frontiers that an engine remembers: more than the heads that are asked for between two changes
/// of settings; each takes a few hundred bytes.
pub const FRONTIERS_MAX: usize = 4096;

/// Fewest resolved frontiers that are remembered, so that one resolution finds what it has just resolved.
pub const FRONTIERS_MIN: usize = 4;

/// Sets of void entries, as single accepting entries would have them, that an engine remembers.
pub const ACCEPTED_VIEWS_MAX: usize = 256;

/// Latest resolutions that are tried as a beginning of the next, which mostly adds one entry to one of them.
pub const BASES_MAX: usize = 4;
