//! The seam of authority: who may have written an entry depends on its own past and on nothing else.

use std::fmt::{self, Debug};
use std::sync::Arc;

use crate::entry::Entry;
use crate::id::{EntryId, TreeId};
use crate::key::PublicKey;
use crate::settings::SettingsOp;
use crate::verdict::Refusal;

/// A read that failed below; its cause is kept as a value.
#[derive(Debug, Clone, thiserror::Error)]
#[error("reading stored entries failed")]
pub struct ReadError(#[source] Arc<dyn std::error::Error + Send + Sync>);

impl ReadError {
    /// Wraps what a lower layer reports.
    pub fn new(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(cause))
    }
}

/// An admitted settings entry, as a judge sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsNode {
    /// Its id.
    pub id: EntryId,
    /// Who signed it.
    pub author: PublicKey,
    /// What it changes, all or nothing.
    pub ops: Vec<SettingsOp>,
    /// The settings frontier of its parents: the settings entries in its past that no other of them descends
    /// from. Sorted; empty for a root.
    pub past: Vec<EntryId>,
}

/// Reads the settings entries of one tree that are admitted, or about to be in the same batch.
pub trait SettingsPast {
    /// The settings entry of this id, or nothing when it is not a settings entry held here.
    fn settings(&self, id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError>;
}

/// Reads settings entries, and places single entries in the DAG, of one tree.
///
/// # Contract
/// All of it is about entries that are admitted, or about to be in the same batch, and never changes for an entry.
pub trait History: SettingsPast {
    /// Whether an entry is one of `tips`, or an ancestor of one of them. Unknown ids are not.
    fn includes(&self, tips: &[EntryId], id: &EntryId) -> Result<bool, ReadError>;

    /// The settings frontier of an entry: of a settings entry itself, of any other that of its parents. Nothing when
    /// it is not held.
    fn frontier(&self, id: &EntryId) -> Result<Option<Vec<EntryId>>, ReadError>;
}

/// What a judge is asked: may the author have written this entry, given the settings it descends from?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The entry, structurally sound.
    pub entry: &'a Entry,
    /// The settings frontier of its parents, derived from them and never claimed. Sorted; empty for a root.
    pub past: &'a [EntryId],
}

/// An admitted entry whose standing is asked for.
#[derive(Clone, Copy)]
pub struct Stands<'a> {
    /// Who signed it.
    pub author: PublicKey,
    /// The settings frontier of its parents. Sorted; empty for a root.
    pub past: &'a [EntryId],
    /// The entry, when it is a settings entry.
    pub settings: Option<EntryId>,
    /// Gives its id, which is looked up: to be asked for only when author and past do not decide.
    pub id: &'a dyn Fn() -> Result<EntryId, ReadError>,
}

impl Debug for Stands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stands")
            .field("author", &self.author)
            .field("past", &self.past)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Where further settings may change what stands. Everything outside keeps its standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// What is neither one of these nor in the past of one.
    Outside(Vec<EntryId>),
    /// What descends from this settings entry, and the entry itself.
    After(EntryId),
    /// These.
    Entries(Vec<EntryId>),
}

/// Decides whether authors had the rights they used, and whether what they wrote counts.
///
/// # Contract
/// The answer of [`Judge::judge`] depends on the entry, its past and nothing else: no clock, no configuration, no
/// order of arrival. The same question has the same answer for ever. That of [`Judge::stands`] depends on the entry,
/// its past and the settings entries that are known, and on nothing else. An entry stands when none but the settings
/// in its own past are known.
pub trait Judge: Debug + Send + Sync {
    /// Whether the author is likely to be known in this tree. A cheap hint: when it says no, the signature is
    /// verified only after the past has been looked at. It never decides.
    fn knows(&self, tree: &TreeId, author: &PublicKey) -> bool;

    /// Judges one entry. The outer error says that the past could not be read; the inner one is the verdict.
    fn judge(&self, question: Question<'_>, history: &dyn History) -> Result<Result<(), Refusal>, ReadError>;

    /// Whether an admitted entry counts, given the settings entries that are known: those of the frontier `known`,
    /// sorted, and all in their past. Everything stands for a judge that does not say otherwise.
    fn stands(
        &self,
        _tree: &TreeId,
        _entry: Stands<'_>,
        _known: &[EntryId],
        _history: &dyn History,
    ) -> Result<bool, ReadError> {
        Ok(true)
    }

    /// Which entries may have another standing when the settings entries of the frontier `known` are known than when
    /// only those of the frontier `before` are, which are among them. Both sorted.
    fn reach(
        &self,
        _tree: &TreeId,
        _before: &[EntryId],
        _known: &[EntryId],
        _history: &dyn History,
    ) -> Result<Vec<Reach>, ReadError> {
        Ok(Vec::new())
    }
}
