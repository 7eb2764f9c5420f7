//! The channels of a server: those whose handshake is under way, and those that carry links.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use eid_transport::limits::LINKS_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::answer::Piece;
use crate::limits::{Bounds, POSTS_MAX};
use crate::noise::{ChannelId, Keys, Responder};
use crate::numbers::Numbers;
use crate::seal::Secret;

/// Every channel that a server knows. The number of each kind is bounded.
#[derive(Debug)]
pub(crate) struct Channels {
    bounds: Bounds,
    /// Room for request bodies, in bytes.
    room: Arc<Semaphore>,
    /// The same for channels whose peer has proven nothing yet.
    pub(crate) unproven_room: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    shut: bool,
    unproven: BTreeMap<ChannelId, Unproven>,
    open: BTreeMap<ChannelId, Arc<Channel>>,
}

/// A handshake that waits for its third message.
struct Unproven {
    responder: Responder,
    since: Instant,
}

/// What stands under the name of a channel.
#[derive(Debug)]
pub(crate) enum Found {
    /// A handshake that waits for its third message.
    Unproven,
    /// A channel that carries links.
    Open(Arc<Channel>),
}

/// Every channel is in use.
#[derive(Debug)]
pub(crate) struct Busy;

/// One channel that carries links.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) secret: Secret,
    pub(crate) binding: [u8; 32],
    state: Mutex<ChannelState>,
    closed: watch::Sender<bool>,
    fresh: mpsc::Sender<FreshLink>,
    /// Where it came from, if that is counted.
    customer: Option<IpAddr>,
    /// Whoever serves the channel has asked for a second link, and so has met the peer on the first.
    proven: AtomicBool,
}

#[derive(Debug)]
struct ChannelState {
    numbers: Numbers,
    links: BTreeMap<u32, Slot>,
    posts: usize,
    used: Instant,
}

/// A link as requests find it.
#[derive(Debug)]
struct Slot {
    parts: mpsc::Sender<Part>,
    steps: u32,
}

/// A link that the client has used for the first time.
#[derive(Debug)]
pub(crate) struct FreshLink {
    pub(crate) number: u32,
    pub(crate) parts: mpsc::Receiver<Part>,
}

/// What one request brings to its link.
#[derive(Debug)]
pub(crate) enum Part {
    /// A part of a turn that goes on.
    More(Body),
    /// The last part of a turn, and where the answer goes.
    Turn(Body, mpsc::Sender<Piece>),
    /// The client has dropped the link; in the middle of its turn or not.
    Closed { torn: bool },
}

/// The content of one request body, and the room that it takes up until it is dropped.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: BytesMut,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// A link does not take a part: it has ended, or the part is not its next one, or there are too many links.
#[derive(Debug)]
pub(crate) struct NoLink;

/// Keeps a channel from being idle while a request or its answer is under way.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Channel>);

impl Channels {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let room = Arc::new(Semaphore::new(bounds.request_bytes_max));
        let unproven_room = Arc::new(Semaphore::new(bounds.unproven_bytes_max));
        Self { bounds, room, unproven_room, table: Mutex::default() }
    }

    /// Where the request bodies of a channel find room.
    pub(crate) fn room_of(&self, channel: &Channel) -> &Arc<Semaphore> {
        if channel.proven.load(Ordering::Relaxed) { &self.room } else { &self.unproven_room }
    }

    /// Keeps a handshake until its third message comes. The oldest makes room for it if need be: whoever floods a
    /// server with first messages has to be faster than an honest round trip to do harm.
    pub(crate) fn begin(&self, id: ChannelId, responder: Responder, now: Instant) -> Result<(), Busy> {
        let mut table = lock(&self.table);
        if table.shut {
            return Err(Busy);
        }
        if table.unproven.len() >= self.bounds.unproven_channels_max {
            let oldest = table.unproven.iter().min_by_key(|(_, unproven)| unproven.since).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                table.unproven.remove(&oldest);
            }
        }
        table.unproven.insert(id, Unproven { responder, since: now });
        Ok(())
    }

    pub(crate) fn find(&self, id: &ChannelId, now: Instant) -> Option<Found> {
        let table = lock(&self.table);
        if let Some(channel) = table.open.get(id) {
            return Some(Found::Open(channel.clone()));
        }
        let unproven = table.unproven.get(id)?;
        (now < unproven.since + self.bounds.handshake).then_some(Found::Unproven)
    }

    /// Takes a handshake out, to finish it in time; only one request gets it.
    pub(crate) fn take(&self, id: &ChannelId) -> Option<(Responder, Instant)> {
        let unproven = lock(&self.table).unproven.remove(id)?;
        Some((unproven.responder, unproven.since + self.bounds.handshake))
    }

    /// Opens a channel whose handshake has finished. The one idle for longest makes room if need be, among those of the same
    /// customer or among all.
    pub(crate) fn open(
        &self,
        id: ChannelId,
        keys: Keys,
        customer: Option<IpAddr>,
        now: Instant,
    ) -> Result<(Arc<Channel>, mpsc::Receiver<FreshLink>), Busy> {
        let (fresh, links) = mpsc::channel(LINKS_MAX);
        let state = ChannelState { numbers: Numbers::default(), links: BTreeMap::new(), posts: 0, used: now };
        let channel = Arc::new(Channel {
            id,
            secret: keys.secret,
            binding: keys.binding,
            state: Mutex::new(state),
            closed: watch::Sender::new(false),
            fresh,
            customer,
            proven: AtomicBool::new(false),
        });
        let evicted = {
            let mut table = lock(&self.table);
            if table.shut {
                return Err(Busy);
            }
            let mut evicted = None;
            let same = |other: &Channel| customer.is_some() && other.customer == customer;
            let of_customer = table.open.values().filter(|other| same(other)).count();
            let crowds = of_customer >= self.bounds.channels_per_address_max;
            if crowds || table.open.len() >= self.bounds.channels_max {
                let idlest = table
                    .open
                    .values()
                    .filter(|other| !crowds || same(other))
                    .filter_map(|channel| channel.idle_since().map(|since| (since, channel.id)))
                    .min()
                    .ok_or(Busy)?;
                evicted = table.open.remove(&idlest.1);
            }
            table.open.insert(id, channel.clone());
            evicted
        };
        if let Some(evicted) = evicted {
            evicted.close();
        }
        Ok((channel, links))
    }

    /// Forgets a channel and ends its links.
    pub(crate) fn close(&self, channel: &Channel) {
        lock(&self.table).open.remove(&channel.id);
        channel.close();
    }

    /// Forgets what has been idle for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let expired: Vec<Arc<Channel>> = {
            let mut table = lock(&self.table);
            table.unproven.retain(|_, unproven| now < unproven.since + self.bounds.handshake);
            let idle = self.bounds.channel_idle;
            table
                .open
                .extract_if(.., |_, channel| channel.idle_since().is_some_and(|at| now >= at + idle))
                .map(|(_, channel)| channel)
                .collect()
        };
        for channel in expired {
            channel.close();
        }
    }

    /// How many channels there are, and how many bytes of request bodies.
    #[cfg(feature = "testing")]
    pub(crate) fn held(&self) -> (usize, usize) {
        let table = lock(&self.table);
        let free = self.room.available_permits() + self.unproven_room.available_permits();
        let bytes = self.bounds.request_bytes_max + self.bounds.unproven_bytes_max - free;
        (table.unproven.len() + table.open.len(), bytes)
    }

    /// Ends every channel and takes no further ones.
    pub(crate) fn shutdown(&self) {
        let open = {
            let mut table = lock(&self.table);
            table.shut = true;
            table.unproven.clear();
            std::mem::take(&mut table.open)
        };
        for channel in open.values() {
            channel.close();
        }
    }
}

impl Channel {
    pub(crate) fn is_fresh(&self, number: u64) -> bool {
        lock(&self.state).numbers.is_fresh(number)
    }

    /// Says that whoever serves the channel has met its peer.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(crate) fn accept_number(&self, number: u64) -> bool {
        lock(&self.state).numbers.accept(number)
    }

    /// Marks a request as under way until what is returned is dropped.
    pub(crate) fn in_use(self: &Arc<Self>) -> Result<InUse, Busy> {
        let mut state = lock(&self.state);
        if state.posts >= POSTS_MAX {
            return Err(Busy);
        }
        state.posts += 1;
        Ok(InUse(self.clone()))
    }

    fn idle_since(&self) -> Option<Instant> {
        let state = lock(&self.state);
        (state.posts == 0).then_some(state.used)
    }

    /// Where the next part of a link goes. Step 0 opens the link.
    pub(crate) fn place(&self, link: u32, step: u32) -> Result<mpsc::Sender<Part>, NoLink> {
        if self.is_closed() {
            return Err(NoLink);
        }
        let mut state = lock(&self.state);
        if step == 0 {
            if state.links.contains_key(&link) || state.links.len() >= LINKS_MAX {
                return Err(NoLink);
            }
            let (parts, received) = mpsc::channel(1);
            self.fresh.try_send(FreshLink { number: link, parts: received }).map_err(|_| NoLink)?;
            state.links.insert(link, Slot { parts: parts.clone(), steps: 1 });
            return Ok(parts);
        }
        let slot = state.links.get_mut(&link).ok_or(NoLink)?;
        if slot.steps != step {
            return Err(NoLink);
        }
        slot.steps = step.checked_add(1).ok_or(NoLink)?;
        Ok(slot.parts.clone())
    }

    /// Forgets a link; gives the way to whoever reads its parts.
    pub(crate) fn remove(&self, link: u32) -> Option<mpsc::Sender<Part>> {
        lock(&self.state).links.remove(&link).map(|slot| slot.parts)
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// What sees the end of this channel.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    fn close(&self) {
        self.closed.send_replace(true);
        lock(&self.state).links.clear();
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.posts -= 1;
        state.used = Instant::now();
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("shut", &self.shut)
            .field("unproven", &self.unproven.len())
            .field("open", &self.open.len())
            .finish()
    }
}

/// The state behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::noise::Identity;

    fn bounds() -> Bounds {
        Bounds { unproven_channels_max: 2, channels_max: 2, ..Bounds::default() }
    }

    fn id(n: u8) -> ChannelId {
        ChannelId([n; 16])
    }

    fn responder(identity: &Identity) -> Responder {
        let (_, first) = identity.initiate().expect("randomness");
        identity.respond(&first, id(0)).expect("genuine").0
    }

    fn keys(identity: &Identity) -> Keys {
        let (initiator, first) = identity.initiate().expect("randomness");
        let (_, second) = identity.respond(&first, id(0)).expect("genuine");
        initiator.finish(&second).expect("genuine").2
    }

    #[test]
    fn the_oldest_handshake_makes_room() {
        let identity = Identity::draw().expect("randomness");
        let (channels, start) = (Channels::new(bounds()), Instant::now());
        for n in 0..3 {
            let at = start + Duration::from_millis(n.into());
            channels.begin(id(n), responder(&identity), at).expect("not shut");
        }
        assert!(channels.find(&id(0), start).is_none());
        assert!(matches!(channels.find(&id(1), start), Some(Found::Unproven)));
        assert!(channels.take(&id(2)).is_some());
        assert!(channels.take(&id(2)).is_none(), "a handshake is finished once");
    }

    #[test]
    fn a_handshake_expires() {
        let identity = Identity::draw().expect("randomness");
        let (channels, start) = (Channels::new(bounds()), Instant::now());
        channels.begin(id(1), responder(&identity), start).expect("not shut");
        let late = start + crate::limits::HANDSHAKE;
        assert!(channels.find(&id(1), late).is_none());
        channels.sweep(late);
        assert!(channels.take(&id(1)).is_none());
    }

    #[test]
    fn the_channel_idle_for_longest_makes_room_and_a_busy_one_does_not() {
        let identity = Identity::draw().expect("randomness");
        let (channels, start) = (Channels::new(bounds()), Instant::now());
        let at = |n: u64| start + Duration::from_secs(n);
        let (first, _links) = channels.open(id(1), keys(&identity), None, at(1)).expect("room");
        let (second, _links) = channels.open(id(2), keys(&identity), None, at(2)).expect("room");
        let use_of_first = first.in_use().expect("few requests");
        let (third, _links) = channels.open(id(3), keys(&identity), None, at(3)).expect("one is idle");
        assert!(second.is_closed() && !first.is_closed());
        let use_of_third = third.in_use().expect("few requests");
        assert!(channels.open(id(4), keys(&identity), None, at(4)).is_err(), "none is idle");
        drop((use_of_first, use_of_third));
        channels.open(id(4), keys(&identity), None, at(4)).expect("both are idle");
    }

    #[test]
    fn a_customer_has_only_so_many_channels_and_crowds_out_nobody_else() {
        let identity = Identity::draw().expect("randomness");
        let channels =
            Channels::new(Bounds { channels_per_address_max: 2, channels_max: 9, ..Bounds::default() });
        let start = Instant::now();
        let open = |n: u8, from: Option<&str>| {
            let from = from.map(|from| from.parse().expect("an address"));
            channels.open(id(n), keys(&identity), from, start + Duration::from_secs(n.into()))
        };
        let (one, other) = (Some("192.0.2.1"), Some("192.0.2.2"));
        let (oldest, _links) = open(1, other).expect("room");
        let (first, _links) = open(2, one).expect("room");
        let (second, _links) = open(3, one).expect("room");
        let _use = first.in_use().expect("few requests");
        let (third, _links) = open(4, one).expect("one is idle");
        assert!(second.is_closed() && !first.is_closed() && !oldest.is_closed());
        let _other_use = third.in_use().expect("few requests");
        assert!(open(5, one).is_err(), "none of its own is idle");
        for n in 6..9 {
            open(n, None).expect("those that are not counted are bounded with all");
        }
        assert!(!oldest.is_closed());
    }

    #[test]
    fn loopback_and_proxies_are_not_counted_unless_told_otherwise() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut bounds = Bounds { exempt: vec![ip("192.0.2.9")], ..Bounds::default() };
        for exempt in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.9", "::ffff:192.0.2.9"] {
            assert_eq!(bounds.counted(ip(exempt)), None, "{exempt}");
        }
        assert_eq!(bounds.counted(ip("::ffff:192.0.2.1")), Some(ip("192.0.2.1")));
        assert_eq!(bounds.counted(ip("2001:db8::1:2:3:4")), Some(ip("2001:db8::")));
        bounds.counts_loopback = true;
        assert_eq!(bounds.counted(ip("127.0.0.1")), Some(ip("127.0.0.1")));
    }

    #[test]
    fn an_idle_channel_expires_and_one_in_use_does_not() {
        let identity = Identity::draw().expect("randomness");
        let (channels, start) = (Channels::new(bounds()), Instant::now());
        let (idle, _links) = channels.open(id(1), keys(&identity), None, start).expect("room");
        let (used, _links) = channels.open(id(2), keys(&identity), None, start).expect("room");
        let _use = used.in_use().expect("few requests");
        channels.sweep(start + crate::limits::CHANNEL_IDLE);
        assert!(idle.is_closed() && channels.find(&id(1), start).is_none());
        assert!(!used.is_closed() && channels.find(&id(2), start).is_some());
    }

    #[test]
    fn parts_of_a_link_come_in_their_order() {
        let identity = Identity::draw().expect("randomness");
        let channels = Channels::new(bounds());
        let (channel, mut links) = channels.open(id(1), keys(&identity), None, Instant::now()).expect("room");
        assert!(channel.place(5, 1).is_err(), "not opened");
        assert!(channel.place(5, 0).is_ok());
        assert_eq!(links.try_recv().expect("a link").number, 5);
        assert!(channel.place(5, 0).is_err(), "opened already");
        assert!(channel.place(5, 2).is_err(), "one is missing");
        assert!(channel.place(5, 1).is_ok());
        assert!(channel.place(5, 1).is_err(), "had already");
    }

    #[test]
    fn the_requests_of_a_channel_are_bounded() {
        let identity = Identity::draw().expect("randomness");
        let channels = Channels::new(bounds());
        let (channel, _links) = channels.open(id(1), keys(&identity), None, Instant::now()).expect("room");
        let mut posts: Vec<InUse> = (0..POSTS_MAX).map(|_| channel.in_use().expect("room")).collect();
        assert!(channel.in_use().is_err());
        posts.pop();
        assert!(channel.in_use().is_ok());
    }

    #[test]
    fn the_links_of_a_channel_are_bounded() {
        let identity = Identity::draw().expect("randomness");
        let channels = Channels::new(bounds());
        let (channel, _links) = channels.open(id(1), keys(&identity), None, Instant::now()).expect("room");
        for link in 0..LINKS_MAX as u32 {
            assert!(channel.place(link, 0).is_ok());
        }
        assert!(channel.place(LINKS_MAX as u32, 0).is_err());
    }
}
