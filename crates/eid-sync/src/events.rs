//! What happens, for whoever wants to know. Nobody is waited for: a slow subscriber is told how much it missed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use eid_core::{Permission, PublicKey, TreeId};
use eid_proto::RefusalCode;
use eid_proto::message::Versions;
use eid_transport::Address;

use crate::limits::EVENTS_MAX;
use crate::peers::PeerStatus;
use crate::progress::Progress;
use crate::report::SessionReport;
use crate::request::RequestId;

/// Something that happened between this device and a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncEvent {
    /// A peer has proven its key.
    Connected {
        /// Who.
        peer: PublicKey,
        /// What it calls itself. Comes from the network: escape it before a terminal sees it.
        name: String,
        /// Where it was reached; nothing when it dialled.
        via: Option<Address>,
    },
    /// A connection has ended.
    Disconnected {
        /// To whom.
        peer: PublicKey,
    },
    /// A session has come so far in one direction. Who is slow hears the last one of each session and direction only.
    Progress(Progress),
    /// A session is done, in both directions.
    Session(SessionReport),
    /// A session ended early. The report says how far it got.
    Failed {
        /// What was done.
        report: SessionReport,
        /// Whether this side or the other refused.
        refusal: Option<RefusalCode>,
        /// The error and its causes, for a log.
        error: String,
    },
    /// A peer tells from now on what comes to a database there.
    InStep {
        /// Who.
        peer: PublicKey,
        /// The database.
        tree: TreeId,
    },
    /// A peer does not tell any more what comes to a database there, or a session has to bring what it does not tell.
    OutOfStep {
        /// Who.
        peer: PublicKey,
        /// The database.
        tree: TreeId,
    },
    /// A peer has told of entries as they came to it.
    Arrived {
        /// Who.
        peer: PublicKey,
        /// The database.
        tree: TreeId,
        /// How many were admitted.
        admitted: u64,
        /// How many were held already.
        duplicates: u64,
        /// How many were refused.
        refused: u64,
    },
    /// Somebody dialled who speaks no version of the protocol that this side speaks.
    Incompatible {
        /// The versions of this side.
        ours: Versions,
        /// Those of the other.
        theirs: Versions,
    },
    /// This device has to do something else with a peer than before.
    Status {
        /// Which.
        peer: PublicKey,
        /// What from now on.
        status: PeerStatus,
    },
    /// Somebody asks for access to a database of this device, for the first time or for something else than before.
    Requested {
        /// Names the request.
        request: RequestId,
        /// The database.
        tree: TreeId,
        /// Who asks.
        key: PublicKey,
        /// What it calls itself. Comes from the network: escape it before a terminal sees it.
        name: String,
        /// What it wants.
        permission: Permission,
    },
    /// What this device asked another for was decided.
    Answered {
        /// The database.
        tree: TreeId,
        /// What was granted: the database is here and is tracked. Nothing when the request was rejected.
        permission: Option<Permission>,
    },
    /// An invite was redeemed here.
    Redeemed {
        /// The database.
        tree: TreeId,
        /// Who joined.
        joiner: PublicKey,
    },
}

/// What a subscriber receives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all that is delivered is an event")]
pub enum Delivered {
    /// An event.
    Event(SyncEvent),
    /// So many events were skipped, since the subscriber was too slow.
    Lagged(u64),
}

/// A subscription: events from the moment of its making on.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<SyncEvent>,
    lagged: u64,
    waker: Option<Waker>,
    closed: bool,
}

/// Where events are published.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    subscribers: Mutex<Vec<Weak<Mutex<Queue>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// How far a session is takes the place of what was said of it before, and of nothing else.
    fn push(&mut self, event: &SyncEvent) {
        if let SyncEvent::Progress(progress) = event
            && let Some(before) = self.events.iter_mut().find_map(|event| match event {
                SyncEvent::Progress(before) if before.is_of_the_same(progress) => Some(before),
                _ => None,
            })
        {
            before.clone_from(progress);
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            let least = self.events.iter().position(|event| matches!(event, SyncEvent::Progress(_)));
            match (least, event) {
                // The report says it too.
                (Some(at), _) => drop(self.events.remove(at)),
                (None, SyncEvent::Progress(_)) => return,
                (None, _) => {
                    self.events.pop_front();
                    self.lagged += 1;
                }
            }
        }
        self.events.push_back(event.clone());
    }
}

impl Publisher {
    pub(crate) fn subscribe(&self) -> Events {
        let queue = Arc::new(Mutex::new(Queue::default()));
        lock(&self.subscribers).push(Arc::downgrade(&queue));
        Events { queue }
    }

    pub(crate) fn publish(&self, event: &SyncEvent) {
        lock(&self.subscribers).retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut queue = lock(&queue);
            queue.push(event);
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
            true
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        for queue in lock(&self.subscribers).iter().filter_map(Weak::upgrade) {
            let mut queue = lock(&queue);
            queue.closed = true;
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Events {
    /// Waits for the next event; nothing once the engine is gone and every event was received.
    pub async fn recv(&mut self) -> Option<Delivered> {
        poll_fn(|cx| {
            let mut queue = lock(&self.queue);
            if queue.lagged > 0 {
                return Poll::Ready(Some(Delivered::Lagged(std::mem::take(&mut queue.lagged))));
            }
            if let Some(event) = queue.events.pop_front() {
                return Poll::Ready(Some(Delivered::Event(event)));
            }
            if queue.closed {
                return Poll::Ready(None);
            }
            queue.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next event that is there already.
    pub fn try_recv(&mut self) -> Option<Delivered> {
        let mut queue = lock(&self.queue);
        if queue.lagged > 0 {
            return Some(Delivered::Lagged(std::mem::take(&mut queue.lagged)));
        }
        queue.events.pop_front().map(Delivered::Event)
    }
}

#[cfg(test)]
mod tests {
    use eid_transport::Address;

    use super::*;
    use crate::progress::Direction;

    #[test]
    fn a_slow_subscriber_is_told_how_much_it_missed() {
        let publisher = Publisher::default();
        let mut events = publisher.subscribe();
        let event = |n: u8| SyncEvent::Disconnected { peer: PublicKey([n; 32]) };
        for _ in 0..EVENTS_MAX {
            publisher.publish(&event(1));
        }
        publisher.publish(&event(2));
        assert_eq!(events.try_recv(), Some(Delivered::Lagged(1)));
        let received: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
        assert_eq!(received.len(), EVENTS_MAX);
        assert_eq!(received.last(), Some(&Delivered::Event(event(2))));
    }

    #[test]
    fn how_far_a_session_is_takes_the_place_of_what_was_said_before_and_of_no_other_event() {
        let publisher = Publisher::default();
        let mut events = publisher.subscribe();
        let progress = |n: u8, entries: u64, via: Option<Address>| {
            let (tree, peer) = (TreeId([n; 32]), PublicKey([1; 32]));
            let direction = Direction::In;
            SyncEvent::Progress(Progress {
                tree,
                peer,
                via,
                direction,
                entries,
                entries_total: 10_000,
                bytes: 0,
            })
        };
        let other = |n: u16| SyncEvent::Redeemed { tree: TreeId([0; 32]), joiner: PublicKey([n as u8; 32]) };
        for entries in 0..2 * EVENTS_MAX as u64 {
            publisher.publish(&progress(1, entries, None));
            publisher.publish(&progress(2, entries, None));
        }
        let last = 2 * EVENTS_MAX as u64 - 1;
        assert_eq!(events.try_recv(), Some(Delivered::Event(progress(1, last, None))));
        for n in 0..EVENTS_MAX as u16 {
            publisher.publish(&other(n));
        }
        publisher.publish(&progress(3, 1, None));
        let received: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
        let expected: Vec<_> = (0..EVENTS_MAX as u16).map(|n| Delivered::Event(other(n))).collect();
        assert_eq!(received, expected, "nothing else was skipped");
    }
}
