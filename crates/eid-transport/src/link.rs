//! The three traits, from the whole to its parts.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::PublicKey;

use crate::{Address, DialError, LinkError, ListenError};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Dials peers and listens for them, at addresses of one scheme.
///
/// # Contract
/// - Every method may be called at any time, from several tasks at once. Dropping a future undoes nothing that has
///   happened and breaks nothing for others.
/// - `dial` and `accept` yield connections whose channel is set up: confidential, protected against change, and
///   bound to a value that both sides know.
/// - After `shutdown` every connection is closed, `accept` gives `None`, `dial` and `listen` fail.
pub trait Transport: Debug + Send + Sync {
    /// The scheme of the addresses that this transport serves.
    fn scheme(&self) -> &str;

    /// Connects to whoever listens at an address.
    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>>;

    /// Connects to the holder of a key, and leaves whoever else answers before it says who it is itself.
    ///
    /// A transport that proves no keys connects all the same: who is there is then proven above it.
    fn dial_expecting<'a>(
        &'a self,
        to: &'a Address,
        _expected: PublicKey,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        self.dial(to)
    }

    /// Begins to listen. Where is said when the transport is made; listening twice is listening once.
    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>>;

    /// Waits for the next connection that somebody else has dialled; `None` after shutdown.
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>>;

    /// Where others reach this transport; empty while it does not listen.
    fn addresses(&self) -> Vec<Address>;

    /// Stops listening, closes every connection, and waits (for a bounded time) until that is done.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// An authenticated channel to one peer, which opens and accepts links.
///
/// # Contract
/// - The first link is opened by the dialler. At most [`LINKS_MAX`](crate::limits::LINKS_MAX) are open at once.
/// - Closing a connection, or dropping the last handle of it and of its links, closes its links on both sides. What
///   was sent and not yet received may be lost.
pub trait Connection: Debug + Send + Sync {
    /// The channel binding: equal on both sides, different for any two connections.
    fn binding(&self) -> [u8; 32];

    /// The key that the transport itself has proven the other side to hold, if it proves keys.
    fn proven(&self) -> Option<PublicKey>;

    /// Opens a link. The other side may learn of it only with the first turn. Where only the dialler can begin, as over
    /// HTTP, the other side gets [`LinkError::OutOfTurn`].
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>>;

    /// Waits for the next link that the other side opens; `None` once the connection is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>>;

    /// Closes the connection and its links, and tells the other side if that can be done.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// One ordered stream of turns. Turns alternate; the side that opened the link has the first.
///
/// # Contract
/// - In one's own turn one sends frames and ends the turn; in the other's one receives. Anything else is
///   [`LinkError::OutOfTurn`] and changes nothing.
/// - Over a duplex link a short frame may also be sent **aside**, in the other's turn. It is received in order with
///   everything else that side sends, mostly in one's own turn, and belongs to no turn. Nothing may depend on it.
/// - A frame arrives whole, in order and once. `send` waits while the other side is slow; a frame may rest in a
///   buffer until the turn ends.
/// - A link that is dropped between turns, or before the first frame of one's own turn, is seen as
///   [`Received::Closed`] by the other side; a link that is dropped in the middle of one's own turn, as
///   [`LinkError::Cut`]. So is a link that breaks.
/// - `recv` may be dropped and called again without losing a frame. A `send` or `end_turn` that was dropped before
///   it was ready leaves the link fit only to be dropped.
pub trait Link: Debug + Send {
    /// Sends one frame of at most [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX) bytes.
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>>;

    /// Ends one's own turn, which may be empty.
    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>>;

    /// Waits for what the other side does next: in one's own turn for what it says aside, over a duplex link.
    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>>;

    /// Whether something can be said aside.
    fn is_duplex(&self) -> bool;

    /// Sends a frame of at most [`ASIDE_BYTES_MAX`](crate::limits::ASIDE_BYTES_MAX) bytes in the other side's turn.
    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>>;

    /// How many bytes of frames have gone each way, without anything that the transport adds.
    fn bytes(&self) -> LinkBytes;
}

/// What the other side of a link did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It sent a frame.
    Frame(Bytes),
    /// It sent a frame in this side's turn.
    Aside(Bytes),
    /// It ended its turn: the next one is this side's.
    EndOfTurn,
    /// It closed the link and owed nothing.
    Closed,
}

/// Bytes of frames that have gone each way over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkBytes {
    /// Bytes of frames sent from this side.
    pub sent: u64,
    /// Bytes of frames received on this side.
    pub received: u64,
}
