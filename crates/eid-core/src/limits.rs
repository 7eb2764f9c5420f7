//! Constants of the entry format. They decide validity, so they are the same everywhere and not configurable.

/// Greatest length of a header in bytes: 64 parents and 64 sections with names of 64 bytes fit with room for blobs.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Greatest sum of the payloads of one entry in bytes; larger values belong into blobs.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Greatest number of parents of one entry; a commit at more tips writes merge entries first.
pub const PARENTS_MAX: usize = 64;
/// Greatest number of sections (stores written) of one entry.
pub const SECTIONS_MAX: usize = 64;
/// Greatest length of a store name in bytes of UTF-8.
pub const STORE_NAME_BYTES_MAX: usize = 64;
/// Greatest length of a section's encryption parameters in bytes.
pub const ENC_BYTES_MAX: usize = 256;
/// Greatest number of blobs that one section names: what a header of 16 KiB can hold.
pub const BLOBS_MAX: usize = 384;
/// Greatest length of a payload's salt in bytes.
pub const SALT_BYTES_MAX: usize = 255;
/// Greatest number of operations in one payload: one byte each would fill it.
pub const OPS_MAX: usize = PAYLOAD_BYTES_MAX;
/// Greatest nesting of arrays and maps inside an operation, so that no decoder needs a deep stack.
pub const NESTING_MAX: usize = 64;
/// Greatest number of ids in the fence of a revocation: a frontier, not a history.
pub const FENCE_IDS_MAX: usize = 64;
/// Greatest number of ids that one operation accepts again.
pub const ACCEPT_IDS_MAX: usize = 1024;
/// Greatest length of a shared title in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
