//! How many bytes a second may go each way, with each peer and in all.
//!
//! Every link of a connection is wrapped, whatever runs over it. A frame that is sent waits before it goes, one that was
//! received before it is handed on, so that whoever sends it is held up by the link. It waits in pieces: for its peer's
//! turn, then for the turn among peers. In the second line each peer has one place, so however many links it has, and
//! however much it sends, the others' pieces go in between. A task of its own waits for each frame: a place in a line is
//! kept, and never held up, by whoever looks for the frame now and then.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use bytes::Bytes;
use eid_core::PublicKey;
use eid_store::{EntryStore, Local, StoreError};
use eid_transport::{BoxFuture, Connection, Link, LinkBytes, LinkError, Received};

use crate::bucket::Bucket;
use crate::limits::{BANDWIDTH_BURST_BYTES, BANDWIDTH_MIN, BANDWIDTH_PIECE_BYTES, BANDWIDTH_WAIT_MS};
use crate::runtime::Runtime;

/// Bytes of frames that may go in a second, each way; without a number as many as the network takes. A number below
/// [`BANDWIDTH_MIN`] is taken for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// With all peers together.
    pub total: Option<u64>,
    /// With each peer of which nothing else is said.
    pub per_peer: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy)]
enum Way {
    In,
    Out,
}

/// The caps of one engine.
pub(crate) struct Caps {
    runtime: Arc<dyn Runtime>,
    rows: Local,
    chosen: Mutex<Chosen>,
    /// Whether anything is capped at all.
    is_on: AtomicBool,
    total: Both,
    /// Peers that are connected.
    peers: Mutex<BTreeMap<PublicKey, Weak<PeerCap>>>,
}

#[derive(Debug, Default)]
struct Chosen {
    bandwidth: Bandwidth,
    of_peers: BTreeMap<PublicKey, u64>,
}

impl Chosen {
    fn of(&self, peer: Option<&PublicKey>) -> Option<u64> {
        peer.and_then(|peer| self.of_peers.get(peer).copied()).or(self.bandwidth.per_peer)
    }
}

/// The namespace of what was chosen for single peers.
const NAMESPACE: &str = "bandwidth";

impl Caps {
    /// With what is remembered of single peers; a row that cannot be read caps nobody.
    pub(crate) fn new(store: &EntryStore, runtime: Arc<dyn Runtime>, bandwidth: Bandwidth) -> Self {
        let rows = store.local().namespace(NAMESPACE);
        let remembered = rows.scan(&[]).unwrap_or_else(|error| {
            tracing::warn!(%error, "caps of peers could not be read");
            Vec::new()
        });
        let peer = |(key, row): (Vec<u8>, Bytes)| {
            let rate = u64::from_le_bytes(row.as_ref().try_into().ok()?);
            Some((PublicKey(key.try_into().ok()?), rate))
        };
        let of_peers = remembered.into_iter().filter_map(peer).collect();
        let caps = Self {
            runtime,
            rows,
            chosen: Mutex::new(Chosen { bandwidth, of_peers }),
            is_on: AtomicBool::default(),
            total: Both::default(),
            peers: Mutex::default(),
        };
        caps.settle();
        caps
    }

    pub(crate) fn bandwidth(&self) -> Bandwidth {
        lock(&self.chosen).bandwidth
    }

    pub(crate) fn set(&self, bandwidth: Bandwidth) {
        lock(&self.chosen).bandwidth = bandwidth;
        self.settle();
    }

    pub(crate) fn set_peer(&self, peer: &PublicKey, rate: Option<u64>) -> Result<(), StoreError> {
        let row = rate.map(|rate| Bytes::copy_from_slice(&rate.to_le_bytes()));
        self.rows.write(vec![(peer.0.to_vec(), row)])?;
        {
            let mut chosen = lock(&self.chosen);
            match rate {
                Some(rate) => chosen.of_peers.insert(*peer, rate),
                None => chosen.of_peers.remove(peer),
            };
        }
        self.settle();
        Ok(())
    }

    pub(crate) fn of_peer(&self, peer: &PublicKey) -> Option<u64> {
        lock(&self.chosen).of(Some(peer))
    }

    /// Takes in what was chosen. Whoever waits sees it the next time it looks.
    fn settle(&self) {
        let chosen = lock(&self.chosen);
        let now_ms = self.runtime.now_ms();
        let Bandwidth { total, per_peer } = chosen.bandwidth;
        self.total.set(total, now_ms);
        for peer in lock(&self.peers).values().filter_map(Weak::upgrade) {
            peer.rates.set(chosen.of(peer.key.as_ref()), now_ms);
        }
        let is_on = total.is_some() || per_peer.is_some() || !chosen.of_peers.is_empty();
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    fn peer(&self, key: PublicKey) -> Arc<PeerCap> {
        let (chosen, mut peers) = (lock(&self.chosen), lock(&self.peers));
        if let Some(peer) = peers.get(&key).and_then(Weak::upgrade) {
            return peer;
        }
        peers.retain(|_, peer| peer.strong_count() > 0);
        let peer = Arc::new(PeerCap { key: Some(key), rates: Both::default() });
        peer.rates.set(chosen.of(Some(&key)), self.runtime.now_ms());
        peers.insert(key, Arc::downgrade(&peer));
        peer
    }

    /// Nobody known: whoever has not proven who it is has a place of its own in the line.
    fn stranger(&self) -> Arc<PeerCap> {
        let peer = PeerCap { key: None, rates: Both::default() };
        peer.rates.set(self.bandwidth().per_peer, self.runtime.now_ms());
        Arc::new(peer)
    }

    async fn take(&self, peer: &PeerCap, way: Way, mut bytes: u64, payment: &Weak<Payment>) {
        let (own, total) = (peer.rates.of(way), self.total.of(way));
        // What nobody waits for any more costs nothing more.
        while bytes > 0 && payment.strong_count() > 0 {
            let piece = bytes.min(BANDWIDTH_PIECE_BYTES);
            let turn = own.line.enter();
            turn.comes().await;
            own.take(&*self.runtime, piece).await;
            let among_peers = total.line.enter();
            among_peers.comes().await;
            total.take(&*self.runtime, piece).await;
            bytes -= piece;
        }
    }
}

impl fmt::Debug for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caps").field("chosen", &*lock(&self.chosen)).finish_non_exhaustive()
    }
}

/// What one peer may take.
#[derive(Debug)]
struct PeerCap {
    key: Option<PublicKey>,
    rates: Both,
}

/// One cap each way.
#[derive(Debug, Default)]
struct Both {
    inward: Cap,
    outward: Cap,
}

impl Both {
    fn of(&self, way: Way) -> &Cap {
        match way {
            Way::In => &self.inward,
            Way::Out => &self.outward,
        }
    }

    fn set(&self, rate: Option<u64>, now_ms: u64) {
        let rate = rate.map(|rate| rate.max(BANDWIDTH_MIN));
        for cap in [&self.inward, &self.outward] {
            let mut current = lock(&cap.bucket);
            if current.as_ref().map(|(of, _)| *of) != rate {
                *current = rate.map(|rate| (rate, Bucket::new(BANDWIDTH_BURST_BYTES, rate, now_ms)));
            }
        }
    }
}

#[derive(Debug, Default)]
struct Cap {
    line: Line,
    /// The rate and what is left of it.
    bucket: Mutex<Option<(u64, Bucket)>>,
}

impl Cap {
    /// Called by whose turn it is.
    async fn take(&self, runtime: &dyn Runtime, bytes: u64) {
        loop {
            let waits = match &mut *lock(&self.bucket) {
                None => Ok(()),
                Some((_, bucket)) => bucket.take(bytes, runtime.now_ms()),
            };
            match waits {
                Ok(()) => return,
                // The rate may be another one before that.
                Err(ms) => runtime.sleep(ms.clamp(1, BANDWIDTH_WAIT_MS)).await,
            }
        }
    }
}

/// Who waits, in the order in which they came.
#[derive(Debug, Default)]
struct Line {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    queue: VecDeque<(u64, Option<Waker>)>,
}

impl Line {
    fn enter(&self) -> Turn<'_> {
        let mut waiting = lock(&self.waiting);
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.queue.push_back((ticket, None));
        Turn { line: self, ticket }
    }
}

/// A place in a line, until it is dropped.
struct Turn<'a> {
    line: &'a Line,
    ticket: u64,
}

impl Turn<'_> {
    async fn comes(&self) {
        poll_fn(|cx| {
            let mut waiting = lock(&self.line.waiting);
            if waiting.queue.front().is_some_and(|(ticket, _)| *ticket == self.ticket) {
                return Poll::Ready(());
            }
            let own = waiting.queue.iter_mut().find(|(ticket, _)| *ticket == self.ticket);
            if let Some((_, waker)) = own {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.line.waiting);
        waiting.queue.retain(|(ticket, _)| *ticket != self.ticket);
        let next = waiting.queue.front_mut().and_then(|(_, waker)| waker.take());
        drop(waiting);
        if let Some(next) = next {
            next.wake();
        }
    }
}

/// What the links of one connection share.
#[derive(Debug)]
struct Lane {
    caps: Arc<Caps>,
    peer: Mutex<Arc<PeerCap>>,
}

impl Lane {
    fn is_on(&self) -> bool {
        self.caps.is_on.load(Ordering::Relaxed)
    }

    fn pay(&self, way: Way, bytes: usize) -> Arc<Payment> {
        let (caps, peer) = (Arc::clone(&self.caps), Arc::clone(&lock(&self.peer)));
        let payment = Arc::new(Payment::default());
        let paid = Arc::downgrade(&payment);
        self.caps.runtime.spawn(Box::pin(async move {
            caps.take(&peer, way, bytes as u64, &paid).await;
            if let Some(payment) = paid.upgrade() {
                payment.make();
            }
        }));
        payment
    }
}

/// Whether a frame may go by now.
#[derive(Debug, Default)]
struct Payment {
    is_made: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Payment {
    fn make(&self) {
        let waiting = {
            let mut waiting = lock(&self.waiting);
            self.is_made.store(true, Ordering::Relaxed);
            waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    async fn made(&self) {
        poll_fn(|cx| {
            let mut waiting = lock(&self.waiting);
            if self.is_made.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            *waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A connection whose links are capped.
#[derive(Debug)]
pub(crate) struct Capped {
    connection: Arc<dyn Connection>,
    lane: Arc<Lane>,
}

impl Capped {
    pub(crate) fn new(connection: Arc<dyn Connection>, caps: &Arc<Caps>) -> Arc<Self> {
        let peer = Mutex::new(caps.stranger());
        Arc::new(Self { connection, lane: Arc::new(Lane { caps: Arc::clone(caps), peer }) })
    }

    /// Takes in whose it is.
    pub(crate) fn is_of(&self, peer: PublicKey) {
        *lock(&self.lane.peer) = self.lane.caps.peer(peer);
    }

    fn wrap(&self, link: Box<dyn Link>) -> Box<dyn Link> {
        Box::new(CappedLink { link, lane: Arc::clone(&self.lane), held: None })
    }
}

impl Connection for Capped {
    fn binding(&self) -> [u8; 32] {
        self.connection.binding()
    }

    fn proven(&self) -> Option<PublicKey> {
        self.connection.proven()
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async { Ok(self.wrap(self.connection.open().await?)) })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(async { Some(self.wrap(self.connection.accept().await?)) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.connection.close()
    }
}

#[derive(Debug)]
struct CappedLink {
    link: Box<dyn Link>,
    lane: Arc<Lane>,
    /// What was received and waits to be handed on, also when whoever waited for it was dropped.
    held: Option<(Received, Arc<Payment>)>,
}

impl CappedLink {
    async fn receive(&mut self) -> Result<Received, LinkError> {
        if self.held.is_none() {
            let received = self.link.recv().await?;
            let (Received::Frame(frame) | Received::Aside(frame)) = &received else { return Ok(received) };
            let payment = self.lane.pay(Way::In, frame.len());
            self.held = Some((received, payment));
        }
        if let Some((_, payment)) = &self.held {
            payment.made().await;
        }
        let (received, _) = self.held.take().expect("it is kept until it is handed on");
        Ok(received)
    }
}

impl Link for CappedLink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        if !self.lane.is_on() {
            return self.link.send(frame);
        }
        Box::pin(async move {
            self.lane.pay(Way::Out, frame.len()).made().await;
            self.link.send(frame).await
        })
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        self.link.end_turn()
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        if !self.lane.is_on() && self.held.is_none() {
            return self.link.recv();
        }
        Box::pin(self.receive())
    }

    fn is_duplex(&self) -> bool {
        self.link.is_duplex()
    }

    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        if !self.lane.is_on() {
            return self.link.send_aside(frame);
        }
        Box::pin(async move {
            self.lane.pay(Way::Out, frame.len()).made().await;
            self.link.send_aside(frame).await
        })
    }

    fn bytes(&self) -> LinkBytes {
        self.link.bytes()
    }
}
