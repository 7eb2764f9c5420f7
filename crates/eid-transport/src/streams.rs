//! Links over byte streams: whoever has channels that carry ordered, reliable streams both ways gets connections that
//! keep the contract of this crate.
//!
//! A transport says with [`Channel`], [`Sink`] and [`Source`] how its streams are opened, written and read;
//! [`StreamConnection`] makes a [`Connection`](crate::Connection) of it. On a stream a frame is its length in four bytes,
//! the greatest first, and itself; the end of a turn is a length of all ones. A stream that is finished between turns is
//! a link that was closed, one that is reset was dropped in its turn. Nothing is set aside for a frame before it comes.
//!
//! There is no clock here: [`Channel::sleep`] brings it, and every wait for the middle of something has an end.

mod connection;
mod door;
mod frames;
mod link;

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::limits::{FIRST_BYTE, FRAME, GOODBYE, STALL};
use crate::{BoxFuture, Cause, LinkError};

pub use connection::StreamConnection;
pub use door::{Door, FirstLook, Place, Room, TurnedAway};

/// The label under which TLS exports the binding of a connection (RFC 5705).
pub const BINDING_LABEL: &[u8] = b"EXPORTER-eid-channel-binding";
/// The number under which a stream is given up; which one says nothing.
pub const GIVEN_UP: u32 = 1;
/// The alert of a server that speaks none of the protocols that a client asks for (RFC 7301).
pub const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A protected channel to a peer that carries streams. Clones are one channel.
pub trait Channel: Clone + Debug + Send + Sync + 'static {
    /// The sending half of a stream.
    type Sink: Sink;
    /// The receiving half of a stream.
    type Source: Source;

    /// Opens a stream, once the other side allows another.
    fn open(&self) -> impl Future<Output = Result<(Self::Sink, Self::Source), Lost>> + Send;

    /// Waits for the next stream of the other side; `None` once the channel is lost. May be dropped and called again.
    fn accept(&self) -> impl Future<Output = Option<(Self::Sink, Self::Source)>> + Send;

    /// Lets the other side send as much as a peer may that has shown who it is.
    fn trust(&self);

    /// How the channel was lost, if it was.
    fn lost(&self) -> Option<Lost>;

    /// Closes the channel and all its streams at once, and tells the other side why.
    fn close(&self, why: Reason);

    /// Waits.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// The sending half of a stream.
pub trait Sink: Debug + Send + 'static {
    /// Sends all of these bytes, and waits while the other side is slow.
    fn write(&mut self, bytes: &mut [Bytes]) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Says that nothing follows.
    fn finish(&mut self);

    /// Gives up what was begun.
    fn reset(&mut self);

    /// Waits until all that was sent has arrived, or cannot any more.
    fn delivered(&self) -> BoxFuture<'static, ()>;
}

/// The receiving half of a stream.
pub trait Source: Debug + Send + 'static {
    /// Waits for the next bytes, at most so many; `None` when nothing follows. May be dropped and called again.
    fn read(&mut self, most: usize) -> impl Future<Output = Result<Option<Bytes>, Lost>> + Send;

    /// Says that nothing more is wanted.
    fn stop(&mut self);
}

/// Why an end closes a channel. Its number travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is done.
    Done = 0,
    /// There is no room.
    NoRoom = 1,
    /// Nothing came.
    Silent = 2,
}

impl Reason {
    /// The number that travels.
    #[must_use]
    pub fn code(self) -> u32 {
        self as u32
    }
}

/// How a stream or a channel was lost.
#[derive(Debug)]
pub enum Lost {
    /// One side has closed it.
    Closed,
    /// It broke, or was given up in the middle.
    Cut(Cause),
    /// The other side no longer knows it.
    Gone,
    /// The other side broke the rules of the channel.
    Corrupt,
}

impl Lost {
    /// What it means that the other side has closed the channel with this number.
    #[must_use]
    pub fn closed(code: u64) -> Self {
        if code == u64::from(Reason::NoRoom.code()) { Self::Cut(NoRoom.into()) } else { Self::Closed }
    }

    /// What it means that the other side has given up a stream.
    #[must_use]
    pub fn given_up() -> Self {
        Self::Cut(TornTurn.into())
    }
}

impl From<Lost> for LinkError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Closed,
            Lost::Cut(cause) => Self::Cut(cause),
            Lost::Gone => Self::Gone,
            Lost::Corrupt => Self::Corrupt,
        }
    }
}

/// The bounds of time that a program may choose for its place in the network.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// See [`FIRST_BYTE`].
    pub first_byte: Duration,
    /// See [`FRAME`].
    pub frame: Duration,
    /// See [`STALL`].
    pub stall: Duration,
    /// See [`GOODBYE`].
    pub goodbye: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first_byte: FIRST_BYTE, frame: FRAME, stall: STALL, goodbye: GOODBYE }
    }
}

/// Why a connection ended that nobody was done with.
#[derive(Debug, thiserror::Error)]
#[error("the other side had no room for the connection any more")]
struct NoRoom;

/// Why a link ended in the middle of a turn.
#[derive(Debug, thiserror::Error)]
#[error("the other side left in the middle of its turn")]
struct TornTurn;

fn torn() -> LinkError {
    LinkError::Cut(TornTurn.into())
}

/// What a future gives; nothing when the time is over first.
async fn within<T>(time: BoxFuture<'_, ()>, future: impl Future<Output = T>) -> Option<T> {
    let (mut time, mut future) = (time, pin!(future));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => time.as_mut().poll(context).map(|()| None),
    })
    .await
}
