//! What peers were asked for in vain: payloads that neither they nor this device have.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use eid_core::dag::Replica;
use eid_core::{PublicKey, TreeId};
use eid_proto::Summary;
use eid_proto::message::Lacking;
use eid_store::TreeSnapshot;

use crate::limits::VAIN_MAX;

/// What a database lacks: the life of the tree, how often payloads came late, and how many are asked for.
type Gap = (u32, u64, u64);

/// What was asked of which peer about which database: what was lacking here, and what the peer lacked itself.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    asked: Mutex<BTreeMap<(PublicKey, TreeId), (Gap, Lacking)>>,
}

fn gap(snapshot: &TreeSnapshot) -> Gap {
    (snapshot.life(), snapshot.filled_payloads(), snapshot.missing())
}

impl Gaps {
    /// What payloads a peer lacked itself when it was asked for all that are lacking here; nothing when something
    /// has changed here since, or nothing was asked.
    pub(crate) fn asked(&self, peer: &PublicKey, snapshot: &TreeSnapshot) -> Option<Lacking> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (lacking, theirs) = asked.get(&(*peer, snapshot.tree()))?;
        (*lacking == gap(snapshot)).then_some(*theirs)
    }

    /// Takes note of what a peer has not given in a session that came to its end.
    pub(crate) fn note(&self, peer: &PublicKey, snapshot: &TreeSnapshot, summary: &Summary) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (*peer, snapshot.tree());
        // What was lost meanwhile was not asked for.
        let here = Lacking { missing: snapshot.missing(), filled: snapshot.filled() };
        match summary.theirs {
            Some(theirs) if summary.complete && here.missing > 0 && summary.asked == Some(here) => {
                if asked.len() >= VAIN_MAX && !asked.contains_key(&key) {
                    asked.pop_first();
                }
                asked.insert(key, (gap(snapshot), theirs));
            }
            _ => {
                asked.remove(&key);
            }
        }
    }
}
