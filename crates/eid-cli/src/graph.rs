//! Drawing the DAG of entries, newest first: the same lanes as text on a terminal and as a picture.
//!
//! Nothing here reads a database: a [`Node`] is what the drawing needs to know of an entry, and whatever of it came from
//! the network is escaped where it is drawn.

pub mod lanes;
pub mod svg;
pub mod terminal;

use std::collections::BTreeMap;

use eid::{EntryId, LogEntry, PublicKey};

/// An entry as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: EntryId,
    /// What it descends from, in the order in which lines go on: the first one straight down.
    pub parents: Vec<EntryId>,
    /// Who signed it, by the number that [`Authors`] gave.
    pub author: usize,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The stores that it writes.
    pub stores: Vec<String>,
    /// What marks it.
    pub mark: Mark,
    /// Whether no other entry descends from it.
    pub is_tip: bool,
    /// Whether it has no effect, since its author had been removed.
    pub is_void: bool,
}

/// What an entry is in the DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It writes stores.
    Entry,
    /// It has several parents.
    Merge,
    /// It changes settings.
    Settings,
}

/// Numbers authors in the order in which they turn up.
#[derive(Debug, Default)]
pub struct Authors {
    numbers: BTreeMap<PublicKey, usize>,
    names: Vec<String>,
}

impl Authors {
    /// The number of an author; `name` says what a new one is called.
    pub fn number(&mut self, key: &PublicKey, name: impl FnOnce() -> String) -> usize {
        *self.numbers.entry(*key).or_insert_with(|| {
            self.names.push(name());
            self.names.len() - 1
        })
    }

    /// What they are called, by number.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// The entries of a page as they are drawn. The line of an author goes straight on to what the author wrote before, as
/// far as the page tells.
pub fn nodes(page: &[LogEntry], authors: &mut Authors, name: impl Fn(&PublicKey) -> String) -> Vec<Node> {
    let by_id: BTreeMap<EntryId, (PublicKey, u64)> =
        page.iter().map(|entry| (entry.id, (entry.author, entry.height.0))).collect();
    page.iter()
        .map(|entry| {
            let mut parents = entry.parents.clone();
            // Among others, to the highest: the lower one is where a branch began.
            parents.sort_by_key(|parent| match by_id.get(parent) {
                Some((author, _)) if *author == entry.author => (0, 0),
                Some((_, height)) => (1, u64::MAX - height),
                None => (2, 0),
            });
            let mark = match (entry.settings.is_empty(), parents.len()) {
                (false, _) => Mark::Settings,
                (true, 0 | 1) => Mark::Entry,
                (true, _) => Mark::Merge,
            };
            Node {
                id: entry.id,
                parents,
                author: authors.number(&entry.author, || name(&entry.author)),
                time_ms: entry.time.ms(),
                stores: entry.stores.clone(),
                mark,
                is_tip: entry.is_tip,
                is_void: entry.void,
            }
        })
        .collect()
}

/// The names of stores, shortened where there are many.
#[must_use]
pub fn store_list(stores: &[String]) -> String {
    let shown = stores.len().min(crate::limits::GRAPH_STORES);
    let mut text = stores[..shown].join(" ");
    if stores.len() > shown {
        text.push_str(&format!(" +{}", stores.len() - shown));
    }
    text
}
