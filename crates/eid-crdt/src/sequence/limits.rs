//! Bounds of the structure in memory; none of them can be seen in a result.

/// Items in one chunk and children of one node: what an edit looks through and moves at each level.
pub(super) const CHUNK_ITEMS_MAX: usize = 32;

/// Elements in one record: what an edit in the middle of a long run copies.
pub(super) const RECORD_ELEMENTS_MAX: usize = 512;
