//! Links between participants of one process: bounded, first in first out, and the same on every run.
//!
//! No thread, no timer, no runtime: a future here waits only for what another one does, and everyone that waits on a
//! connection is woken by any change of it, in the order in which they began to wait.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use eid_core::PublicKey;

use crate::limits::{
    ASIDE_BYTES_MAX, BACKLOG_MAX, FRAME_BYTES_MAX, FRAME_OVERHEAD, LINKS_MAX, MEMORY_BUFFER_BYTES,
    OPENER_TURN_BYTES_MAX,
};
use crate::watched::{Watched, lock};
use crate::{
    Address, BoxFuture, Connection, DialError, Link, LinkBytes, LinkError, ListenError, Received, Transport,
};

/// A network within this process, whose endpoints reach one another by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MemoryNet {
    net: Arc<Mutex<Net>>,
}

/// One participant of a [`MemoryNet`]: a [`Transport`] for addresses `memory:NAME`.
#[derive(Debug)]
pub struct MemoryTransport {
    name: String,
    address: Address,
    net: MemoryNet,
    endpoint: Watched<Endpoint>,
}

impl MemoryNet {
    /// Makes a network without endpoints.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an endpoint, which is reached at `memory:NAME` once it listens.
    ///
    /// # Panics
    /// When the name cannot stand in an address.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Arc<MemoryTransport> {
        let address =
            format!("memory:{name}").parse().expect("the name of an endpoint can stand in an address");
        Arc::new(MemoryTransport {
            name: name.to_owned(),
            address,
            net: self.clone(),
            endpoint: Watched::new(Endpoint::default()),
        })
    }

    /// Breaks every connection: both sides see [`LinkError::Cut`], and what was under way is lost.
    pub fn cut_all(&self) {
        for pipe in self.pipes() {
            pipe.cut();
        }
    }

    /// Breaks every connection between two endpoints.
    pub fn cut(&self, one: &str, other: &str) {
        for pipe in self.pipes() {
            let [a, b] = &pipe.names;
            if (a == one && b == other) || (a == other && b == one) {
                pipe.cut();
            }
        }
    }

    fn pipes(&self) -> Vec<Arc<Pipe>> {
        lock(&self.net).pipes.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Transport for MemoryTransport {
    fn scheme(&self) -> &str {
        "memory"
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(async move { self.connect(to).map(|connection| connection as Arc<dyn Connection>) })
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        Box::pin(async move {
            if self.endpoint.read(|endpoint| endpoint.shut) {
                return Err(ListenError::ShutDown);
            }
            let mut net = lock(&self.net.net);
            match net.listening.get(&self.name) {
                Some(endpoint) if !endpoint.is(&self.endpoint) => Err(ListenError::InUse {
                    address: self.address.to_string(),
                    cause: io::Error::from(io::ErrorKind::AddrInUse).into(),
                }),
                _ => {
                    net.listening.insert(self.name.clone(), self.endpoint.clone());
                    Ok(())
                }
            }
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(self.endpoint.wait(|endpoint| {
            if endpoint.shut {
                return Some(None);
            }
            endpoint.backlog.pop_front().map(|connection| Some(connection as Arc<dyn Connection>))
        }))
    }

    fn addresses(&self) -> Vec<Address> {
        let net = lock(&self.net.net);
        let listens = net.listening.get(&self.name).is_some_and(|endpoint| endpoint.is(&self.endpoint));
        if listens { vec![self.address.clone()] } else { Vec::new() }
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            {
                let mut net = lock(&self.net.net);
                if net.listening.get(&self.name).is_some_and(|endpoint| endpoint.is(&self.endpoint)) {
                    net.listening.remove(&self.name);
                }
            }
            let (backlog, pipes) = self.endpoint.change(|endpoint| {
                endpoint.shut = true;
                (std::mem::take(&mut endpoint.backlog), std::mem::take(&mut endpoint.pipes))
            });
            drop(backlog);
            for pipe in pipes.iter().filter_map(Weak::upgrade) {
                pipe.close();
            }
        })
    }
}

impl MemoryTransport {
    fn connect(&self, to: &Address) -> Result<Arc<MemoryConnection>, DialError> {
        if to.scheme() != "memory" {
            return Err(DialError::Unsupported(to.clone()));
        }
        if self.endpoint.read(|endpoint| endpoint.shut) {
            return Err(DialError::ShutDown);
        }
        let (endpoint, pipe) = {
            let mut net = lock(&self.net.net);
            let endpoint = net.listening.get(to.rest()).cloned().ok_or_else(|| DialError::Unreachable {
                address: to.clone(),
                cause: io::Error::from(io::ErrorKind::ConnectionRefused).into(),
            })?;
            net.dialled += 1;
            let names = [self.name.clone(), to.rest().to_owned()];
            let pipe =
                Arc::new(Pipe { names, number: net.dialled, state: Watched::new(PipeState::default()) });
            net.pipes.retain(|pipe| pipe.strong_count() > 0);
            net.pipes.push(Arc::downgrade(&pipe));
            (endpoint, pipe)
        };
        endpoint.change(|far| {
            if far.backlog.len() >= BACKLOG_MAX {
                return Err(DialError::Busy(to.clone()));
            }
            far.keep(&pipe);
            far.backlog.push_back(Arc::new(MemoryConnection::new(&pipe, ACCEPTER)));
            Ok(())
        })?;
        self.endpoint.change(|near| near.keep(&pipe));
        Ok(Arc::new(MemoryConnection::new(&pipe, DIALLER)))
    }
}

const DIALLER: usize = 0;
const ACCEPTER: usize = 1;

#[derive(Debug, Default)]
struct Net {
    listening: BTreeMap<String, Watched<Endpoint>>,
    pipes: Vec<Weak<Pipe>>,
    dialled: u64,
}

#[derive(Debug, Default)]
struct Endpoint {
    shut: bool,
    backlog: VecDeque<Arc<MemoryConnection>>,
    pipes: Vec<Weak<Pipe>>,
}

impl Endpoint {
    fn keep(&mut self, pipe: &Arc<Pipe>) {
        self.pipes.retain(|pipe| pipe.strong_count() > 0);
        self.pipes.push(Arc::downgrade(pipe));
    }
}

/// What the two sides of a connection share.
#[derive(Debug)]
struct Pipe {
    names: [String; 2],
    number: u64,
    state: Watched<PipeState>,
}

#[derive(Debug, Default)]
struct PipeState {
    fate: Fate,
    opened: u64,
    /// Links that a side has not accepted yet.
    waiting: [VecDeque<u64>; 2],
    links: BTreeMap<u64, LinkState>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Fate {
    #[default]
    Open,
    Closed,
    Cut,
}

#[derive(Debug, Default)]
struct LinkState {
    /// What has been sent to a side and not yet received by it.
    inbox: [Inbox; 2],
    /// Sides that have dropped their handle.
    left: [bool; 2],
}

#[derive(Debug, Default)]
struct Inbox {
    items: VecDeque<Item>,
    bytes: usize,
    /// Whether the turn that fills this inbox has frames and no end.
    in_turn: bool,
}

#[derive(Debug)]
enum Item {
    Frame(Bytes),
    Aside(Bytes),
    EndOfTurn,
}

impl Pipe {
    fn cut(&self) {
        self.end(Fate::Cut);
    }

    fn close(&self) {
        self.end(Fate::Closed);
    }

    fn end(&self, fate: Fate) {
        self.state.change(|state| {
            if state.fate == Fate::Open {
                state.fate = fate;
            }
        });
    }
}

/// One side of a connection, held by its handle and its links: the last of them to go closes the connection.
#[derive(Debug)]
struct Side {
    pipe: Arc<Pipe>,
    side: usize,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

/// One side's handle of a connection.
#[derive(Debug)]
struct MemoryConnection {
    at: Arc<Side>,
}

impl MemoryConnection {
    fn new(pipe: &Arc<Pipe>, side: usize) -> Self {
        Self { at: Arc::new(Side { pipe: pipe.clone(), side }) }
    }
}

impl Connection for MemoryConnection {
    fn binding(&self) -> [u8; 32] {
        let mut binding = *b"eid memory connection ..........";
        binding[24..].copy_from_slice(&self.at.pipe.number.to_be_bytes());
        binding
    }

    fn proven(&self) -> Option<PublicKey> {
        None
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async move {
            let number = self.at.pipe.state.change(|state| {
                alive(state.fate)?;
                if state.links.len() >= LINKS_MAX {
                    return Err(LinkError::TooManyLinks);
                }
                let number = state.opened;
                state.opened += 1;
                state.links.insert(number, LinkState::default());
                state.waiting[1 - self.at.side].push_back(number);
                Ok(number)
            })?;
            Ok(Box::new(MemoryLink::new(&self.at, number, true)) as Box<dyn Link>)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(async move {
            let number = self.at.pipe.state.wait(|state| {
                if state.fate != Fate::Open {
                    return Some(None);
                }
                state.waiting[self.at.side].pop_front().map(Some)
            });
            Some(Box::new(MemoryLink::new(&self.at, number.await?, false)) as Box<dyn Link>)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.at.pipe.close() })
    }
}

/// One side's handle of a link.
#[derive(Debug)]
struct MemoryLink {
    at: Arc<Side>,
    number: u64,
    opener: bool,
    my_turn: bool,
    turn_bytes: usize,
    /// What the opener's turn may come to: each word aside lets it go on.
    opener_bytes_max: usize,
    bytes: LinkBytes,
}

impl MemoryLink {
    fn new(at: &Arc<Side>, number: u64, opener: bool) -> Self {
        Self {
            at: at.clone(),
            number,
            opener,
            my_turn: opener,
            turn_bytes: 0,
            opener_bytes_max: OPENER_TURN_BYTES_MAX,
            bytes: LinkBytes::default(),
        }
    }

    /// Puts an item into the other side's inbox once there is room.
    fn put(&self, item: Item) -> impl Future<Output = Result<(), LinkError>> + '_ {
        let mut item = Some(item);
        self.at.pipe.state.wait(move |state| {
            if let Err(error) = alive(state.fate) {
                return Some(Err(error));
            }
            let link = state.links.get_mut(&self.number)?;
            if link.left[1 - self.at.side] {
                return Some(Err(LinkError::Closed));
            }
            let inbox = &mut link.inbox[1 - self.at.side];
            let size = item.as_ref().map_or(0, Item::size);
            if inbox.bytes > 0 && inbox.bytes + size > MEMORY_BUFFER_BYTES {
                return None;
            }
            let item = item.take().expect("a future that is ready is not polled again");
            inbox.in_turn = match item {
                Item::Frame(_) => true,
                Item::Aside(_) => inbox.in_turn,
                Item::EndOfTurn => false,
            };
            inbox.bytes += size;
            inbox.items.push_back(item);
            Some(Ok(()))
        })
    }

    fn take(&self) -> impl Future<Output = Result<Received, LinkError>> + '_ {
        self.at.pipe.state.wait(move |state| {
            if state.fate == Fate::Cut {
                return Some(Err(cut()));
            }
            let closed = state.fate == Fate::Closed;
            let link = state.links.get_mut(&self.number)?;
            let inbox = &mut link.inbox[self.at.side];
            if let Some(item) = inbox.items.pop_front() {
                inbox.bytes -= item.size();
                return Some(Ok(match item {
                    Item::Frame(frame) => Received::Frame(frame),
                    Item::Aside(frame) => Received::Aside(frame),
                    Item::EndOfTurn => Received::EndOfTurn,
                }));
            }
            let torn = inbox.in_turn;
            match closed || link.left[1 - self.at.side] {
                true if torn => Some(Err(cut())),
                true => Some(Ok(Received::Closed)),
                false => None,
            }
        })
    }
}

impl Link for MemoryLink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if !self.my_turn {
                return Err(LinkError::OutOfTurn);
            }
            let length = frame.len();
            let turn_bytes = self.turn_bytes + length + FRAME_OVERHEAD;
            if length > FRAME_BYTES_MAX || (self.opener && turn_bytes > self.opener_bytes_max) {
                return Err(LinkError::TooLarge);
            }
            self.put(Item::Frame(frame)).await?;
            self.turn_bytes = turn_bytes;
            self.bytes.sent += length as u64;
            Ok(())
        })
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if !self.my_turn {
                return Err(LinkError::OutOfTurn);
            }
            self.put(Item::EndOfTurn).await?;
            self.my_turn = false;
            self.turn_bytes = 0;
            self.opener_bytes_max = OPENER_TURN_BYTES_MAX;
            Ok(())
        })
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async move {
            let received = self.take().await?;
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
        true
    }

    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if self.my_turn {
                return Err(LinkError::OutOfTurn);
            }
            let length = frame.len();
            if length > ASIDE_BYTES_MAX {
                return Err(LinkError::TooLarge);
            }
            self.put(Item::Aside(frame)).await?;
            self.bytes.sent += length as u64;
            Ok(())
        })
    }

    fn bytes(&self) -> LinkBytes {
        self.bytes
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.at.pipe.state.change(|state| {
            if let Some(link) = state.links.get_mut(&self.number) {
                link.left[self.at.side] = true;
                if link.left == [true, true] {
                    state.links.remove(&self.number);
                }
            }
        });
    }
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Self::Frame(frame) | Self::Aside(frame) => frame.len() + FRAME_OVERHEAD,
            Self::EndOfTurn => FRAME_OVERHEAD,
        }
    }
}

fn alive(fate: Fate) -> Result<(), LinkError> {
    match fate {
        Fate::Open => Ok(()),
        Fate::Closed => Err(LinkError::Closed),
        Fate::Cut => Err(cut()),
    }
}

fn cut() -> LinkError {
    LinkError::Cut(io::Error::from(io::ErrorKind::ConnectionReset).into())
}
