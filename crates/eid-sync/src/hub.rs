//! Who is to be told when something comes to a database here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use eid_core::{EntryId, PublicKey, TreeId};
use eid_store::{Admitted, EntryStore, Watch};

use crate::live::LiveLinks;

/// The live links of all connections.
#[derive(Debug)]
pub(crate) struct Hub {
    links: Arc<Mutex<Registered>>,
    _watch: Watch,
}

#[derive(Debug, Default)]
struct Registered {
    next: u64,
    links: BTreeMap<u64, Weak<LiveLinks>>,
}

/// Takes live links out of the hub when it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    links: Arc<Mutex<Registered>>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let gone = lock(&self.links).links.remove(&self.number).and_then(|links| links.upgrade());
        if let Some(gone) = gone {
            gone.end();
            nudge(&self.links, gone.peer());
        }
    }
}

/// What was told to a peer over one connection may be for another now.
fn nudge(links: &Mutex<Registered>, peer: PublicKey) {
    for links in all(links).into_iter().filter(|links| links.peer() == peer) {
        links.touch_all();
    }
}

fn lock(links: &Mutex<Registered>) -> MutexGuard<'_, Registered> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all(links: &Mutex<Registered>) -> Vec<Arc<LiveLinks>> {
    lock(links).links.values().filter_map(Weak::upgrade).collect()
}

impl Hub {
    /// Is told by the store. What it does there is short: somebody commits meanwhile.
    pub(crate) fn new(store: &EntryStore) -> Self {
        let links: Arc<Mutex<Registered>> = Arc::default();
        let told = Arc::clone(&links);
        let watch = store.on_admitted(Arc::new(move |admitted: &Admitted| {
            for links in all(&told) {
                links.admitted(admitted);
            }
        }));
        Self { links, _watch: watch }
    }

    pub(crate) fn register(&self, links: &Arc<LiveLinks>) -> Registration {
        let mut registered = lock(&self.links);
        let number = registered.next;
        registered.next += 1;
        registered.links.insert(number, Arc::downgrade(links));
        Registration { links: Arc::clone(&self.links), number }
    }

    /// Whether what comes to a database is told to a peer over these links: of several connections with one peer, over the
    /// last one.
    pub(crate) fn leads(&self, links: &LiveLinks, tree: &TreeId) -> bool {
        let others = all(&self.links).into_iter().rev().filter(|other| other.peer() == links.peer());
        let leader = others
            .into_iter()
            .find(|other| std::ptr::eq(&raw const **other, links) || other.is_followed(tree));
        leader.is_none_or(|leader| std::ptr::eq(&raw const *leader, links))
    }

    /// Somebody is not told any more over these links.
    pub(crate) fn nudge(&self, peer: PublicKey) {
        nudge(&self.links, peer);
    }

    /// How databases are to be synchronised has changed.
    pub(crate) fn wishes_changed(&self) {
        all(&self.links).iter().for_each(|links| links.wishes_changed());
    }

    /// Entries of a database come from a peer: they are not pushed back to it. `ids` is asked for only when that matters.
    pub(crate) fn came_from(&self, peer: &PublicKey, tree: &TreeId, ids: impl Fn() -> Vec<EntryId>) {
        for links in all(&self.links) {
            links.came_from(peer, tree, &ids);
        }
    }
}
