//! What must hold, apart from whatever drives the world: each check reads replicas and compares, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::dag::{Replica as _, Seq};
use eid_core::sketch::{Salt, Sketch};
use eid_core::{Entry, EntryId, TreeId};
use eid_store::EntryStore;

use crate::model::{Fault, Model};

/// Why a world is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum Divergence {
    /// A replica holds an entry that nobody may hold.
    #[error("{node} holds what is not valid")]
    Invalid {
        /// Which replica.
        node: String,
        /// What is wrong.
        #[source]
        fault: Fault,
    },
    /// A commit was acknowledged to its caller and is not there.
    #[error("{node} has lost entry {id}, which it had acknowledged")]
    Lost {
        /// Which replica.
        node: String,
        /// What is lost.
        id: EntryId,
    },
    /// The tips are not those of the entries.
    #[error("{node} has other tips than its entries have: {said} said, {found} found")]
    Tips {
        /// Which replica.
        node: String,
        /// How many the store names.
        said: usize,
        /// How many there are.
        found: usize,
    },
    /// A count or derived value is not that of the entries.
    #[error("{node}: {what} is {said}, and {found} by the entries")]
    Derived {
        /// Which replica.
        node: String,
        /// Which value.
        what: &'static str,
        /// What the store says.
        said: String,
        /// What follows from the entries.
        found: String,
    },
    /// A peer is believed to hold what it does not hold.
    #[error("{node} takes {peer} to hold entry {id}, and it does not")]
    Overstated {
        /// Who believes it.
        node: String,
        /// Of whom.
        peer: String,
        /// What is not held.
        id: EntryId,
    },
    /// Two honest replicas differ at the end.
    #[error("{a} and {b} differ in {what}")]
    Differ {
        /// One.
        a: String,
        /// Another.
        b: String,
        /// In what.
        what: String,
    },
    /// The replicas did not settle in time.
    #[error("not settled after {rounds} rounds without faults: {what}")]
    Unsettled {
        /// How many rounds of sessions there were.
        rounds: u32,
        /// What is still missing.
        what: String,
    },
    /// The state is not what a naive replay of the entries gives.
    #[error("{node}: {store} is not what its entries say: {said} shown, {found} replayed")]
    State {
        /// Which replica.
        node: String,
        /// Which store.
        store: String,
        /// What is shown.
        said: String,
        /// What follows from the entries.
        found: String,
        /// The operations.
        history: Vec<String>,
    },
    /// An entry counts where it must not, or does not where it must.
    #[error("{node}: entry {id} {said}, and by the rules it {found}")]
    Standing {
        /// Which replica.
        node: String,
        /// Which entry.
        id: EntryId,
        /// What the replica says.
        said: String,
        /// What the definition of the rules says.
        found: &'static str,
    },
    /// Something is derived wrongly, by the store's own check.
    #[error("{node}: fsck finds {problem}")]
    Fsck {
        /// Which replica.
        node: String,
        /// What it found first.
        problem: String,
    },
    /// Somebody without rights got entries.
    #[error("{node} was given entry {id} without the right to read")]
    Leak {
        /// Who.
        node: String,
        /// What.
        id: EntryId,
    },
    /// More went over a wire than the situation calls for.
    #[error("a session of {node} with {peer}: {what}")]
    Wasteful {
        /// One end.
        node: String,
        /// The other end.
        peer: String,
        /// What was too much.
        what: String,
    },
    /// An operation failed that nothing can have made fail.
    #[error("{node}: {what}")]
    Failed {
        /// Where.
        node: String,
        /// What failed, and how.
        what: String,
    },
}

/// What is known of the entries of a world: each is verified once, whoever holds it.
#[derive(Debug, Default)]
pub struct Truth {
    trees: BTreeMap<TreeId, Model>,
}

/// What one replica holds of one tree.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Its entries in the order of their arrival.
    pub log: Vec<EntryId>,
    /// What it says its tips are.
    pub tips: Vec<EntryId>,
}

impl Held {
    /// The entries as a set.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<EntryId> {
        self.log.iter().copied().collect()
    }
}

fn failed(node: &str, what: &str, error: &dyn std::error::Error) -> Divergence {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    Divergence::Failed { node: node.to_owned(), what: text }
}

impl Truth {
    /// Everything that is known of a tree.
    #[must_use]
    pub fn model(&self, tree: &TreeId) -> Option<&Model> {
        self.trees.get(tree)
    }

    /// Reads a replica of a tree, and checks that its log is valid, whole and in causal order, and that its tips,
    /// sketch and counts are those of its log. Nothing if the tree is not held.
    pub fn replica(
        &mut self,
        node: &str,
        store: &EntryStore,
        tree: &TreeId,
    ) -> Result<Option<Held>, Divergence> {
        let Some(snapshot) = store.tree(tree).map_err(|e| failed(node, "reading a tree", &e))? else {
            return Ok(None);
        };
        let end = snapshot.end();
        let logged =
            snapshot.log(Seq(0)..end, usize::MAX).map_err(|e| failed(node, "reading the log", &e))?;
        let model = self.trees.entry(*tree).or_default();
        let mut held = Held::default();
        let mut seen = BTreeSet::new();
        let mut tips = BTreeSet::new();
        for entry in logged {
            let invalid = |fault| Divergence::Invalid { node: node.to_owned(), fault };
            let id = EntryId::of_block(&entry.block);
            let parsed;
            let known = match model.entry(&id) {
                // The block is what its id says; the payloads have to be compared.
                Some(known) if known.payloads() == entry.payloads => known,
                _ => {
                    parsed = Entry::parse(entry.block, entry.payloads)
                        .map_err(|e| failed(node, "a stored entry", &e))?;
                    model.add(tree, &parsed).map_err(invalid)?;
                    &parsed
                }
            };
            let parents = &known.header().parents;
            if parents.iter().any(|parent| !seen.contains(parent)) {
                return Err(invalid(Fault::Hole(id)));
            }
            for parent in parents {
                tips.remove(parent);
            }
            tips.insert(id);
            seen.insert(id);
            held.log.push(id);
        }
        let derived = |what, said: u64, found: u64| Divergence::Derived {
            node: node.to_owned(),
            what,
            said: said.to_string(),
            found: found.to_string(),
        };
        if end.0 != held.log.len() as u64 {
            return Err(derived("the end of the log", end.0, held.log.len() as u64));
        }
        if seen.len() != held.log.len() {
            return Err(derived("the number of entries", held.log.len() as u64, seen.len() as u64));
        }
        let mut sketch = Sketch::new(Salt::of(tree));
        held.log.iter().for_each(|id| sketch.toggle(id.prefix()));
        let said = snapshot.sketch().map_err(|e| failed(node, "reading the sketch", &e))?;
        if said.as_ref() != Some(&sketch) {
            let (said, found) = (said.map_or("none", |_| "another one").to_owned(), "one".to_owned());
            return Err(Divergence::Derived { node: node.to_owned(), what: "the sketch", said, found });
        }
        let said = snapshot.tips().map_err(|e| failed(node, "reading the tips", &e))?;
        held.tips = said.into_iter().map(|(id, _)| id).collect();
        if !held.tips.iter().eq(&tips) {
            return Err(Divergence::Tips { node: node.to_owned(), said: held.tips.len(), found: tips.len() });
        }
        Ok(Some(held))
    }
}

/// Every acknowledged commit of a node is in its store.
pub fn acknowledged(
    node: &str,
    held: &BTreeSet<EntryId>,
    acknowledged: &[EntryId],
) -> Result<(), Divergence> {
    match acknowledged.iter().find(|id| !held.contains(*id)) {
        Some(id) => Err(Divergence::Lost { node: node.to_owned(), id: *id }),
        None => Ok(()),
    }
}

/// What one node believes another to hold is held there: everything of its log below the acknowledged position.
pub fn belief(
    node: &str,
    log: &[EntryId],
    upto: u64,
    peer: &str,
    held: &BTreeSet<EntryId>,
) -> Result<(), Divergence> {
    let upto = usize::try_from(upto).unwrap_or(usize::MAX).min(log.len());
    match log[..upto].iter().find(|id| !held.contains(*id)) {
        Some(id) => Err(Divergence::Overstated { node: node.to_owned(), peer: peer.to_owned(), id: *id }),
        None => Ok(()),
    }
}

/// Two replicas hold the same.
pub fn same(a: (&str, &Held), b: (&str, &Held)) -> Result<(), Divergence> {
    let differ = |what: String| Divergence::Differ { a: a.0.to_owned(), b: b.0.to_owned(), what };
    let (ids_a, ids_b) = (a.1.ids(), b.1.ids());
    if ids_a != ids_b {
        let only_a = ids_a.difference(&ids_b).count();
        let only_b = ids_b.difference(&ids_a).count();
        return Err(differ(format!("entries: {only_a} only in the first, {only_b} only in the second")));
    }
    if a.1.tips == b.1.tips { Ok(()) } else { Err(differ("tips".to_owned())) }
}

/// The store's own check finds nothing.
pub fn fsck(node: &str, store: &EntryStore) -> Result<(), Divergence> {
    let report = store.fsck(false, &mut |_, _| {}).map_err(|e| failed(node, "fsck", &e))?;
    match report.problems.first() {
        None if report.is_clean() => Ok(()),
        found => Err(Divergence::Fsck {
            node: node.to_owned(),
            problem: found.map_or_else(|| "something".to_owned(), |p| format!("{}: {}", p.name, p.detail)),
        }),
    }
}

/// No frame that somebody received contains the signature of any entry: signatures do not occur by chance, whatever
/// the packing of a batch.
pub fn no_leak(node: &str, frames: &[bytes::Bytes], truth: &Truth) -> Result<(), Divergence> {
    let mut signatures: BTreeMap<[u8; 8], EntryId> = BTreeMap::new();
    for model in truth.trees.values() {
        for (id, entry) in model.entries() {
            let mut first = [0; 8];
            first.copy_from_slice(&entry.signature().0[..8]);
            signatures.insert(first, *id);
        }
    }
    for frame in frames {
        for window in frame.windows(8) {
            if let Some(id) = window.try_into().ok().and_then(|window: [u8; 8]| signatures.get(&window)) {
                return Err(Divergence::Leak { node: node.to_owned(), id: *id });
            }
        }
    }
    Ok(())
}
