//! The simulated network: named endpoints, connections, links, and everything that can happen to them.
//!
//! A link of the product runs over an ordered, sealed stream, so a frame that the network duplicates or reorders is
//! never seen as such: it fails to open, as a frame with a flipped bit does. Duplication, reordering and corruption
//! are therefore one fault here, [`LinkError::Corrupt`]; loss below the stream is delay, a stall, or a cut. What a
//! *peer* may do with frames (alter, repeat, invent) is in [`Tamper`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use bytes::Bytes;
use eid_core::PublicKey;
use eid_transport::limits::{
    ASIDE_BYTES_MAX, FRAME_BYTES_MAX, FRAME_OVERHEAD, LINKS_MAX, OPENER_TURN_BYTES_MAX,
};
use eid_transport::{
    Address, BoxFuture, Connection, DialError, Link, LinkBytes, LinkError, ListenError, Received, Transport,
};

use crate::executor::{Sim, Sleep, lock};
use crate::rng::Rng;

/// Bytes that may wait in one direction of a link before its sender has to wait.
const PIPE_BYTES_MAX: usize = 256 * 1024;
/// How long a dial into a partition hangs before it fails.
const DIAL_TIMEOUT_US: u64 = 10_000_000;

/// A participant of the network. It keeps its number when it restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(pub u32);

/// How badly the network behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weather {
    /// Usual one-way delay, microseconds.
    pub delay_us: std::ops::Range<u64>,
    /// Delay of the slow mode, microseconds.
    pub slow_us: std::ops::Range<u64>,
    /// How many frames of a thousand take the slow mode.
    pub slow_per_mille: u64,
    /// How many frames of a thousand cut their connection.
    pub cut_per_mille: u64,
    /// How many frames of a thousand cut only their link.
    pub cut_link_per_mille: u64,
    /// How many frames of a thousand arrive altered.
    pub corrupt_per_mille: u64,
    /// How many frames of a thousand are the last thing that is ever heard on their connection.
    pub silence_per_mille: u64,
    /// How many links of a thousand are read slowly.
    pub slow_reader_per_mille: u64,
}

impl Weather {
    /// No faults, short delays.
    #[must_use]
    pub fn fair() -> Self {
        Self {
            delay_us: 500..2_000,
            slow_us: 0..1,
            slow_per_mille: 0,
            cut_per_mille: 0,
            cut_link_per_mille: 0,
            corrupt_per_mille: 0,
            silence_per_mille: 0,
            slow_reader_per_mille: 0,
        }
    }

    /// What a seed makes of it: each kind of fault is absent in a part of the worlds.
    #[must_use]
    pub fn foul(rng: &mut Rng) -> Self {
        let mut some = |per_mille: u64, most: u64| if rng.chance(per_mille) { rng.below(most) } else { 0 };
        Self {
            slow_per_mille: some(500, 60),
            cut_per_mille: some(600, 60),
            cut_link_per_mille: some(400, 30),
            corrupt_per_mille: some(400, 20),
            silence_per_mille: some(400, 15),
            slow_reader_per_mille: some(300, 300),
            delay_us: 200..(2_000 + some(500, 100_000)),
            slow_us: 100_000..(200_000 + some(600, 15_000_000)),
        }
    }
}

/// Why nothing is at an address, or a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Nobody listens there.
    #[error("nobody listens there")]
    Refused,
    /// The connection or link broke.
    #[error("the connection was cut")]
    Cut,
}

fn cut() -> LinkError {
    LinkError::Cut(Box::new(NetError::Cut))
}

/// What a participant that breaks the rules does to the frames it sends.
pub trait Tamper: Send {
    /// Gives what is sent instead of `frame` on a link of a connection.
    fn outgoing(&mut self, connection: u64, link: usize, to: Node, frame: Bytes) -> Vec<Bytes>;
}

/// The network of one world: cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Net {
    sim: Sim,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    weather: Weather,
    endpoints: BTreeMap<String, Endpoint>,
    wires: BTreeMap<u64, Wire>,
    blocked: BTreeSet<(Node, Node)>,
    tampers: BTreeMap<Node, Box<dyn Tamper>>,
    taps: BTreeMap<Node, Vec<Bytes>>,
    next: u64,
}

struct Endpoint {
    node: Node,
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Alive,
    /// Both ends still believe in it; nothing arrives.
    Silent,
    Cut,
    Closed,
}

struct Wire {
    nodes: [Node; 2],
    binding: [u8; 32],
    /// Whether something can be said aside.
    duplex: bool,
    fate: Fate,
    links: Vec<Channel>,
    /// Links that each side has not yet accepted.
    arriving: [VecDeque<usize>; 2],
    accepting: [Option<Waker>; 2],
    /// Connections and links that each side still holds.
    handles: [u32; 2],
}

struct Channel {
    /// Towards each side.
    pipes: [Pipe; 2],
    cut: bool,
    dropped: [bool; 2],
}

#[derive(Default)]
struct Pipe {
    queue: VecDeque<(u64, Item)>,
    bytes: usize,
    last_us: u64,
    pace_us: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Item {
    Frame(Bytes),
    Aside(Bytes),
    EndOfTurn,
    Corrupt,
    Cut,
    Closed,
}

impl Item {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame) | Self::Aside(frame) => frame,
            Self::EndOfTurn | Self::Corrupt | Self::Cut | Self::Closed => &[],
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
struct End {
    net: Net,
    wire: u64,
    side: usize,
}

/// One end of a link.
#[derive(Debug)]
struct LinkEnd {
    net: Net,
    wire: u64,
    link: usize,
    side: usize,
    opener: bool,
    my_turn: bool,
    turn_bytes: usize,
    opener_bytes_max: usize,
    duplex: bool,
    bytes: LinkBytes,
}

/// One node's way into the network, under one address.
#[derive(Debug)]
pub struct SimTransport {
    net: Net,
    node: Node,
    address: Address,
    shut: Mutex<bool>,
}

impl Net {
    /// Makes a network without endpoints.
    #[must_use]
    pub fn new(sim: &Sim, seed: u64, weather: Weather) -> Self {
        let state = State {
            rng: Rng::new(seed, "net"),
            weather,
            endpoints: BTreeMap::new(),
            wires: BTreeMap::new(),
            blocked: BTreeSet::new(),
            tampers: BTreeMap::new(),
            taps: BTreeMap::new(),
            next: 1,
        };
        Self { sim: sim.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// Changes how it behaves from here on.
    pub fn set_weather(&self, weather: Weather) {
        lock(&self.state).weather = weather;
    }

    /// Stops or lets pass what goes from one node to another. Frames that are stopped wait.
    pub fn block(&self, from: Node, to: Node) {
        lock(&self.state).blocked.insert((from, to));
    }

    /// Ends all partitions, and lets everybody read as fast as it can; what waited goes on.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.blocked.clear();
        for wire in state.wires.values_mut() {
            wire.links.iter_mut().flat_map(|link| &mut link.pipes).for_each(|pipe| pipe.pace_us = 0);
            wire.wake_all();
        }
    }

    /// What is on its way arrives as soon as what is sent now.
    pub fn hasten(&self) {
        let now_us = self.sim.now_us();
        let mut state = lock(&self.state);
        let latest_us = now_us + state.weather.delay_us.end;
        for wire in state.wires.values_mut() {
            for pipe in wire.links.iter_mut().flat_map(|link| &mut link.pipes) {
                pipe.queue.iter_mut().for_each(|(at_us, _)| *at_us = latest_us.min(*at_us));
                pipe.last_us = latest_us.min(pipe.last_us);
            }
            wire.wake_all();
        }
    }

    /// Breaks every connection that both ends wrongly believe in, as keep-alives of the real ones do in the end.
    pub fn reap_silent(&self) {
        let mut state = lock(&self.state);
        for wire in state.wires.values_mut().filter(|wire| wire.fate == Fate::Silent) {
            wire.end(Fate::Cut);
        }
    }

    /// Breaks one live connection of those there are.
    pub fn cut_any(&self) -> bool {
        let mut state = lock(&self.state);
        let State { wires, rng, .. } = &mut *state;
        let mut alive: Vec<&mut Wire> = wires.values_mut().filter(|wire| wire.fate == Fate::Alive).collect();
        if alive.is_empty() {
            return false;
        }
        let index = rng.index(alive.len());
        alive[index].end(Fate::Cut);
        true
    }

    /// Lets one live connection of those there are carry nothing more, without either end being told.
    pub fn silence_any(&self) -> bool {
        let mut state = lock(&self.state);
        let State { wires, rng, .. } = &mut *state;
        let mut alive: Vec<&mut Wire> = wires.values_mut().filter(|wire| wire.fate == Fate::Alive).collect();
        if alive.is_empty() {
            return false;
        }
        let index = rng.index(alive.len());
        alive[index].fate = Fate::Silent;
        true
    }

    /// Ends what a crashed node had open: the other ends see a cut, or nothing at all.
    pub fn crash(&self, node: Node) {
        let mut state = lock(&self.state);
        let State { wires, rng, endpoints, .. } = &mut *state;
        endpoints.retain(|_, endpoint| endpoint.node != node);
        for wire in wires.values_mut().filter(|wire| wire.fate == Fate::Alive && wire.nodes.contains(&node)) {
            wire.end(if rng.chance(300) { Fate::Silent } else { Fate::Cut });
        }
    }

    /// Lets a node break the rules.
    pub fn set_tamper(&self, node: Node, tamper: Box<dyn Tamper>) {
        lock(&self.state).tampers.insert(node, tamper);
    }

    /// Keeps a copy of every frame that a node receives.
    pub fn tap(&self, node: Node) {
        lock(&self.state).taps.entry(node).or_default();
    }

    /// The frames that a tapped node received.
    #[must_use]
    pub fn tapped(&self, node: Node) -> Vec<Bytes> {
        lock(&self.state).taps.get(&node).cloned().unwrap_or_default()
    }

    /// A transport of a node, which is reached at `memory:NAME` once it listens.
    ///
    /// # Panics
    /// When the name cannot stand in an address.
    #[must_use]
    pub fn transport(&self, node: Node, name: &str) -> Arc<SimTransport> {
        let address = format!("memory:{name}").parse().expect("the name can stand in an address");
        Arc::new(SimTransport { net: self.clone(), node, address, shut: Mutex::new(false) })
    }
}

impl Transport for SimTransport {
    fn scheme(&self) -> &str {
        self.address.scheme()
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(async move {
            if to.scheme() != self.address.scheme() {
                return Err(DialError::Unsupported(to.clone()));
            }
            if *lock(&self.shut) {
                return Err(DialError::ShutDown);
            }
            let delay = lock(&self.net.state).delay_us();
            self.net.sim.sleep_us(delay * 2).await;
            let refused =
                || DialError::Unreachable { address: to.clone(), cause: Box::new(NetError::Refused) };
            let reachable = {
                let state = lock(&self.net.state);
                let far = state.endpoints.get(to.rest()).map(|endpoint| endpoint.node).ok_or_else(refused)?;
                !state.blocked.contains(&(self.node, far)) && !state.blocked.contains(&(far, self.node))
            };
            if !reachable {
                self.net.sim.sometimes("dial into a partition");
                self.net.sim.sleep_us(DIAL_TIMEOUT_US).await;
                return Err(DialError::TimedOut(to.clone()));
            }
            let wire = lock(&self.net.state).connect(self.node, to.rest()).ok_or_else(refused)?;
            Ok(Arc::new(End { net: self.net.clone(), wire, side: 0 }) as Arc<dyn Connection>)
        })
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        Box::pin(async move {
            if *lock(&self.shut) {
                return Err(ListenError::ShutDown);
            }
            let endpoint = Endpoint { node: self.node, waiting: VecDeque::new(), waker: None };
            lock(&self.net.state).endpoints.entry(self.address.rest().to_owned()).or_insert(endpoint);
            Ok(())
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(std::future::poll_fn(|context| {
            let mut state = lock(&self.net.state);
            let State { endpoints, wires, .. } = &mut *state;
            let Some(endpoint) = endpoints.get_mut(self.address.rest()) else { return Poll::Ready(None) };
            match endpoint.waiting.pop_front() {
                Some(wire) => {
                    if let Some(wire) = wires.get_mut(&wire) {
                        wire.handles[1] += 1;
                    }
                    let end = End { net: self.net.clone(), wire, side: 1 };
                    Poll::Ready(Some(Arc::new(end) as Arc<dyn Connection>))
                }
                None => {
                    endpoint.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }

    fn addresses(&self) -> Vec<Address> {
        let listens = lock(&self.net.state).endpoints.contains_key(self.address.rest());
        if listens { vec![self.address.clone()] } else { Vec::new() }
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            *lock(&self.shut) = true;
            let mut state = lock(&self.net.state);
            if let Some(waker) = state.endpoints.remove(self.address.rest()).and_then(|e| e.waker) {
                waker.wake();
            }
            for wire in state.wires.values_mut() {
                if wire.fate == Fate::Alive && wire.nodes.contains(&self.node) {
                    wire.end(Fate::Closed);
                }
            }
        })
    }
}

impl State {
    fn connect(&mut self, from: Node, name: &str) -> Option<u64> {
        let endpoint = self.endpoints.get_mut(name)?;
        let id = self.next;
        self.next += 1;
        endpoint.waiting.push_back(id);
        let to = endpoint.node;
        if let Some(waker) = endpoint.waker.take() {
            waker.wake();
        }
        let mut binding = [0; 32];
        self.rng.fill(&mut binding);
        let wire = Wire {
            nodes: [from, to],
            binding,
            duplex: self.rng.chance(500),
            fate: Fate::Alive,
            links: Vec::new(),
            arriving: Default::default(),
            accepting: Default::default(),
            handles: [1, 0],
        };
        self.wires.insert(id, wire);
        Some(id)
    }

    /// One side lets go of a connection or link: the last to go closes the connection.
    fn release(&mut self, id: u64, side: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.handles[side] = wire.handles[side].saturating_sub(1);
        if wire.handles[side] == 0 && wire.fate == Fate::Alive {
            wire.end(Fate::Closed);
        }
    }
}

impl State {
    fn delay_us(&mut self) -> u64 {
        let slow = self.rng.chance(self.weather.slow_per_mille);
        let range = if slow { self.weather.slow_us.clone() } else { self.weather.delay_us.clone() };
        self.rng.range(range)
    }
}

impl Wire {
    fn end(&mut self, fate: Fate) {
        self.fate = fate;
        self.wake_all();
    }

    fn wake_all(&mut self) {
        for waker in self.accepting.iter_mut().filter_map(Option::take) {
            waker.wake();
        }
        for pipe in self.links.iter_mut().flat_map(|link| &mut link.pipes) {
            pipe.wake();
        }
    }
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn push(&mut self, at_us: u64, item: Item) {
        self.last_us = self.last_us.max(at_us) + self.pace_us;
        self.bytes += item.bytes().len();
        self.queue.push_back((self.last_us, item));
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

impl End {
    fn link(&self, link: usize, opener: bool, duplex: bool) -> Box<dyn Link> {
        let Self { net, wire, side } = self;
        Box::new(LinkEnd {
            net: net.clone(),
            wire: *wire,
            link,
            side: *side,
            opener,
            my_turn: opener,
            turn_bytes: 0,
            opener_bytes_max: OPENER_TURN_BYTES_MAX,
            duplex,
            bytes: LinkBytes::default(),
        })
    }
}

impl Connection for End {
    fn binding(&self) -> [u8; 32] {
        lock(&self.net.state).wires.get(&self.wire).map_or([0; 32], |wire| wire.binding)
    }

    fn proven(&self) -> Option<PublicKey> {
        None
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async move {
            let mut state = lock(&self.net.state);
            let State { wires, rng, weather, .. } = &mut *state;
            let wire = wires.get_mut(&self.wire).ok_or(LinkError::Closed)?;
            match wire.fate {
                Fate::Alive | Fate::Silent => {}
                Fate::Cut => return Err(cut()),
                Fate::Closed => return Err(LinkError::Closed),
            }
            if wire.links.iter().filter(|link| link.dropped != [true, true]).count() >= LINKS_MAX {
                return Err(LinkError::TooManyLinks);
            }
            let link = wire.links.len();
            let mut pace = || {
                if rng.chance(weather.slow_reader_per_mille) { 20_000 + rng.below(400_000) } else { 0 }
            };
            let pipes = [(); 2].map(|()| Pipe { pace_us: pace(), ..Pipe::default() });
            wire.links.push(Channel { pipes, cut: false, dropped: [false; 2] });
            wire.handles[self.side] += 1;
            if wire.fate == Fate::Alive {
                let other = 1 - self.side;
                wire.arriving[other].push_back(link);
                if let Some(waker) = wire.accepting[other].take() {
                    waker.wake();
                }
            }
            Ok(self.link(link, true, wire.duplex))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(std::future::poll_fn(|context| {
            let mut state = lock(&self.net.state);
            let Some(wire) = state.wires.get_mut(&self.wire) else { return Poll::Ready(None) };
            match wire.fate {
                Fate::Cut | Fate::Closed => return Poll::Ready(None),
                Fate::Silent => {}
                Fate::Alive => {
                    if let Some(link) = wire.arriving[self.side].pop_front() {
                        wire.handles[self.side] += 1;
                        return Poll::Ready(Some(self.link(link, false, wire.duplex)));
                    }
                }
            }
            wire.accepting[self.side] = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut state = lock(&self.net.state);
            if let Some(wire) = state.wires.get_mut(&self.wire)
                && wire.fate == Fate::Alive
            {
                wire.end(Fate::Closed);
            }
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        lock(&self.net.state).release(self.wire, self.side);
    }
}

impl Link for LinkEnd {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if !self.my_turn {
                return Err(LinkError::OutOfTurn);
            }
            let turn_bytes = self.turn_bytes + frame.len() + FRAME_OVERHEAD;
            if frame.len() > FRAME_BYTES_MAX || (self.opener && turn_bytes > self.opener_bytes_max) {
                return Err(LinkError::TooLarge);
            }
            self.room().await?;
            self.turn_bytes = turn_bytes;
            self.bytes.sent += frame.len() as u64;
            let mut state = lock(&self.net.state);
            let (wire, link) = (self.wire, self.link);
            let nodes = state.wires.get(&wire).map(|wire| wire.nodes).ok_or(LinkError::Closed)?;
            let frames = match state.tampers.get_mut(&nodes[self.side]) {
                Some(tamper) => tamper.outgoing(wire, link, nodes[1 - self.side], frame),
                None => vec![frame],
            };
            for frame in frames {
                state.deliver(&self.net.sim, (wire, link), self.side, Item::Frame(frame))?;
            }
            Ok(())
        })
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if !self.my_turn {
                return Err(LinkError::OutOfTurn);
            }
            let mut state = lock(&self.net.state);
            let at = self.net.sim.now_us() + state.delay_us();
            let wire = state.wires.get_mut(&self.wire).ok_or(LinkError::Closed)?;
            wire.usable(self.link, self.side)?;
            if wire.fate == Fate::Alive {
                wire.links[self.link].pipes[1 - self.side].push(at, Item::EndOfTurn);
            }
            self.my_turn = false;
            self.turn_bytes = 0;
            self.opener_bytes_max = OPENER_TURN_BYTES_MAX;
            Ok(())
        })
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async move {
            if self.my_turn && !self.duplex {
                return Err(LinkError::OutOfTurn);
            }
            let received = self.next().await?;
            match &received {
                Received::Frame(frame) => self.bytes.received += frame.len() as u64,
                Received::Aside(frame) => {
                    self.bytes.received += frame.len() as u64;
                    if self.my_turn {
                        self.opener_bytes_max = self.opener_bytes_max.saturating_add(OPENER_TURN_BYTES_MAX);
                    }
                }
                Received::EndOfTurn => self.my_turn = true,
                Received::Closed => {}
            }
            Ok(received)
        })
    }

    fn is_duplex(&self) -> bool {
        self.duplex
    }

    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if self.my_turn || !self.duplex {
                return Err(LinkError::OutOfTurn);
            }
            if frame.len() > ASIDE_BYTES_MAX {
                return Err(LinkError::TooLarge);
            }
            self.room().await?;
            self.bytes.sent += frame.len() as u64;
            let mut state = lock(&self.net.state);
            state.deliver(&self.net.sim, (self.wire, self.link), self.side, Item::Aside(frame))
        })
    }

    fn bytes(&self) -> LinkBytes {
        self.bytes
    }
}

impl LinkEnd {
    /// Waits until the pipe to the other side takes a frame.
    fn room(&self) -> impl Future<Output = Result<(), LinkError>> + '_ {
        std::future::poll_fn(|context| {
            let mut state = lock(&self.net.state);
            let Some(wire) = state.wires.get_mut(&self.wire) else {
                return Poll::Ready(Err(LinkError::Closed));
            };
            if let Err(error) = wire.usable(self.link, self.side) {
                return Poll::Ready(Err(error));
            }
            let pipe = &mut wire.links[self.link].pipes[1 - self.side];
            if pipe.bytes >= PIPE_BYTES_MAX {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        })
    }

    fn next(&self) -> impl Future<Output = Result<Received, LinkError>> + '_ {
        let mut sleep: Option<Sleep> = None;
        std::future::poll_fn(move |context| {
            loop {
                drop(sleep.take());
                let mut state = lock(&self.net.state);
                let now = self.net.sim.now_us();
                let at = match state.take(self.wire, self.link, self.side, now) {
                    Taken::Arrived(result) => return Poll::Ready(result),
                    Taken::At(at) => Some(at),
                    Taken::Nothing => None,
                };
                if let Some(wire) = state.wires.get_mut(&self.wire) {
                    wire.links[self.link].pipes[self.side].reader = Some(context.waker().clone());
                }
                drop(state);
                let Some(at) = at else { return Poll::Pending };
                let timer = sleep.insert(self.net.sim.sleep_us(at - now));
                if Pin::new(timer).poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        let mut state = lock(&self.net.state);
        let now = self.net.sim.now_us();
        let in_turn = self.my_turn && self.turn_bytes > 0;
        let Some(wire) = state.wires.get_mut(&self.wire) else { return };
        let alive = wire.fate == Fate::Alive;
        if let Some(channel) = wire.links.get_mut(self.link) {
            channel.dropped[self.side] = true;
            if alive && !channel.cut {
                // Behind everything that is under way: the other side reads it all first.
                let item = if in_turn { Item::Cut } else { Item::Closed };
                channel.pipes[1 - self.side].push(now, item);
            }
            channel.pipes[self.side].wake();
        }
        state.release(self.wire, self.side);
    }
}

impl Wire {
    fn usable(&self, link: usize, side: usize) -> Result<(), LinkError> {
        match self.fate {
            Fate::Cut => return Err(cut()),
            Fate::Closed => return Err(LinkError::Closed),
            Fate::Alive | Fate::Silent => {}
        }
        let channel = self.links.get(link).ok_or(LinkError::Closed)?;
        if channel.cut {
            return Err(cut());
        }
        if channel.dropped[1 - side] { Err(LinkError::Closed) } else { Ok(()) }
    }
}

enum Taken {
    Arrived(Result<Received, LinkError>),
    At(u64),
    Nothing,
}

impl State {
    fn deliver(
        &mut self,
        sim: &Sim,
        (id, link): (u64, usize),
        side: usize,
        item: Item,
    ) -> Result<(), LinkError> {
        let at = sim.now_us() + self.delay_us();
        let Self { wires, rng, weather, .. } = self;
        let wire = wires.get_mut(&id).ok_or(LinkError::Closed)?;
        sim.trace(|trace| {
            trace.numbers(&[id, link as u64, side as u64]);
            trace.bytes(item.bytes());
        });
        if wire.fate == Fate::Silent {
            return Ok(());
        }
        if rng.chance(weather.cut_per_mille) {
            sim.sometimes("connection cut");
            wire.end(Fate::Cut);
            return Err(cut());
        }
        if rng.chance(weather.cut_link_per_mille) {
            sim.sometimes("link cut");
            let channel = &mut wire.links[link];
            channel.cut = true;
            channel.pipes.iter_mut().for_each(Pipe::wake);
            return Err(cut());
        }
        if rng.chance(weather.silence_per_mille) {
            sim.sometimes("connection half-open");
            wire.fate = Fate::Silent;
            return Ok(());
        }
        let corrupt = rng.chance(weather.corrupt_per_mille);
        let pipe = &mut wire.links[link].pipes[1 - side];
        if pipe.pace_us > 0 {
            sim.sometimes("slow reader");
        }
        if corrupt {
            sim.sometimes("frame altered");
        }
        pipe.push(at, if corrupt { Item::Corrupt } else { item });
        Ok(())
    }

    fn take(&mut self, id: u64, link: usize, side: usize, now: u64) -> Taken {
        let Self { wires, blocked, taps, .. } = self;
        let Some(wire) = wires.get_mut(&id) else { return Taken::Arrived(Err(LinkError::Closed)) };
        let (from, to) = (wire.nodes[1 - side], wire.nodes[side]);
        let Some(channel) = wire.links.get_mut(link) else {
            return Taken::Arrived(Err(LinkError::Closed));
        };
        match wire.fate {
            Fate::Cut => return Taken::Arrived(Err(cut())),
            Fate::Silent => return Taken::Nothing,
            Fate::Alive | Fate::Closed => {}
        }
        if channel.cut {
            return Taken::Arrived(Err(cut()));
        }
        if blocked.contains(&(from, to)) {
            return Taken::Nothing;
        }
        let closed = wire.fate == Fate::Closed;
        let pipe = &mut channel.pipes[side];
        match pipe.queue.front() {
            None if closed => return Taken::Arrived(Ok(Received::Closed)),
            None => return Taken::Nothing,
            Some((at, _)) if *at > now => return Taken::At(*at),
            Some(_) => {}
        }
        let Some((_, item)) = pipe.queue.pop_front() else { return Taken::Nothing };
        if let Some(waker) = pipe.writer.take() {
            waker.wake();
        }
        Taken::Arrived(match item {
            Item::Frame(frame) => {
                pipe.bytes -= frame.len();
                if let Some(tap) = taps.get_mut(&to) {
                    tap.push(frame.clone());
                }
                Ok(Received::Frame(frame))
            }
            Item::Aside(frame) => {
                pipe.bytes -= frame.len();
                Ok(Received::Aside(frame))
            }
            Item::EndOfTurn => Ok(Received::EndOfTurn),
            Item::Closed => {
                // It stays closed for whoever asks again.
                pipe.queue.push_front((now, Item::Closed));
                Ok(Received::Closed)
            }
            Item::Corrupt => {
                // A sealed stream that has lost a record opens no further one.
                channel.cut = true;
                Err(LinkError::Corrupt)
            }
            Item::Cut => {
                channel.cut = true;
                Err(cut())
            }
        })
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}
