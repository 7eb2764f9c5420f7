//! What an engine reads of stored entries. [`History::includes`] is asked for the ids that an operation names, and for
//! data whose author was removed concurrently; it is never asked while nothing was removed.

pub use eid_core::History;
