//! The sizes of what a sequence is kept in; none of them can be seen in a result.

/// Records in one leaf and children of one inner page: what an edit looks through and moves at each level.
pub(super) const PAGE_ITEMS_MAX: usize = 32;

/// About how many bytes a leaf takes where it is stored: what an edit of one element reads and writes.
pub(super) const LEAF_BYTES_MAX: usize = 2048;

/// About how many bytes a record takes besides its run.
pub(super) const RECORD_BYTES: usize = 12;

/// Elements in one record: what an edit in the middle of a long run looks through.
pub(super) const RECORD_ELEMENTS_MAX: usize = 512;

/// Bytes in one record of more than one element, so that a leaf holds several.
pub(super) const RECORD_BYTES_MAX: usize = 768;
