//! How far a session has come, told while it runs: what there is to do first, and from then on now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eid_core::{PublicKey, TreeId};
use eid_proto::Summary;
use eid_transport::{Address, LinkBytes};

use crate::events::{Publisher, SyncEvent};
use crate::limits::{LARGE_ENTRIES, PROGRESS_MS};
use crate::status::Transfers;

/// Which way entries go, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the peer to this device.
    In,
    /// From this device to the peer.
    Out,
}

/// How far one direction of a session has come. Of a direction in which nothing moves, nothing is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The database.
    pub tree: TreeId,
    /// With whom.
    pub peer: PublicKey,
    /// Where the peer was reached; nothing when it dialled.
    pub via: Option<Address>,
    /// Which way.
    pub direction: Direction,
    /// Entries that are done. Coming in: those that are durable here, were here already, or were refused. Going out: those
    /// that were handed to the link.
    pub entries: u64,
    /// How many there will be, exactly: the side that sends has counted them. When it has to begin again, it counts again.
    pub entries_total: u64,
    /// Bytes of frames that have gone this way so far. How many there will be is known to nobody before the end.
    pub bytes: u64,
}

impl Progress {
    /// Whether another one is of the same direction of the same session, as far as that can be told.
    pub(crate) fn is_of_the_same(&self, other: &Self) -> bool {
        (self.tree, self.peer, self.direction) == (other.tree, other.peer, other.direction)
            && self.via == other.via
    }
}

/// Watches one session, and publishes how far it is.
#[derive(Debug)]
pub(crate) struct Meter {
    publisher: Arc<Publisher>,
    transfers: Transfers,
    tree: Option<TreeId>,
    peer: PublicKey,
    via: Option<Address>,
    /// Is set when there is much to do.
    is_large: Arc<AtomicBool>,
    told_in: Option<Told>,
    told_out: Option<Told>,
}

/// What was told last of a direction, and when.
#[derive(Debug, Clone, Copy)]
struct Told {
    counts: Counts,
    at_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    entries: u64,
    total: u64,
    bytes: u64,
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Running,
    Ended,
}

impl Meter {
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        transfers: Transfers,
        peer: PublicKey,
        via: Option<Address>,
        is_large: Arc<AtomicBool>,
    ) -> Self {
        Self { publisher, transfers, tree: None, peer, via, is_large, told_in: None, told_out: None }
    }

    /// Takes note of how far the session is, and tells it when that is due.
    pub(crate) fn look(&mut self, tree: Option<TreeId>, summary: &Summary, bytes: LinkBytes, now_ms: u64) {
        self.take(tree, summary, bytes, now_ms, Moment::Running);
    }

    /// Tells how far the session got, where that was not told.
    pub(crate) fn end(&mut self, tree: Option<TreeId>, summary: &Summary, bytes: LinkBytes, now_ms: u64) {
        self.take(tree, summary, bytes, now_ms, Moment::Ended);
    }

    fn take(
        &mut self,
        tree: Option<TreeId>,
        summary: &Summary,
        bytes: LinkBytes,
        now_ms: u64,
        moment: Moment,
    ) {
        let Some(tree) = tree else { return };
        let came = summary.pulled + summary.duplicates + summary.refused;
        let both = [
            (Direction::In, came, summary.pull_total, bytes.received),
            (Direction::Out, summary.pushed, summary.push_total, bytes.sent),
        ];
        for (direction, entries, total, bytes) in both {
            let told = match direction {
                Direction::In => &mut self.told_in,
                Direction::Out => &mut self.told_out,
            };
            // While the other side begins again, what it said before is not true any more; at the end it is what there is.
            let before = told.filter(|_| moment == Moment::Ended).map(|told| told.counts.total);
            let Some(total) = total.or(before).filter(|total| *total > 0) else { continue };
            if total >= LARGE_ENTRIES {
                self.is_large.store(true, Ordering::SeqCst);
            }
            // A payload that came alone and was refused is counted among what was refused, and is no entry of the plan.
            let entries = entries.min(total);
            let counts = Counts { entries, total, bytes };
            let is_due = match told {
                None => true,
                Some(told) if told.counts == counts => false,
                Some(told) => moment == Moment::Ended || now_ms.saturating_sub(told.at_ms) >= PROGRESS_MS,
            };
            if is_due {
                *told = Some(Told { counts, at_ms: now_ms });
                let progress = Progress {
                    tree,
                    peer: self.peer,
                    via: self.via.clone(),
                    direction,
                    entries,
                    entries_total: total,
                    bytes,
                };
                self.tree = Some(tree);
                self.transfers.set(&progress);
                self.publisher.publish(&SyncEvent::Progress(progress));
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(tree) = self.tree {
            self.transfers.end(tree, self.peer, self.via.as_ref());
        }
    }
}
