//! What an engine reads of stored entries.

use eid_core::{EntryId, ReadError, SettingsPast};

/// Reads settings entries, and places single entries in the DAG, of one tree.
///
/// # Contract
/// All of it is about entries that are admitted, or about to be in the same batch, and never changes for an entry.
/// [`History::includes`] is asked for the ids that an operation names, and for data whose author was removed
/// concurrently; it is never asked while nothing was removed.
pub trait History: SettingsPast {
    /// Whether an entry is one of `tips`, or an ancestor of one of them. Unknown ids are not.
    fn includes(&self, tips: &[EntryId], id: &EntryId) -> Result<bool, ReadError>;

    /// The settings frontier of an entry: of a settings entry itself, of any other that of its parents. Nothing when
    /// it is not held.
    fn frontier(&self, id: &EntryId) -> Result<Option<Vec<EntryId>>, ReadError>;
}
