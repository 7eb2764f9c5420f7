//! What can go wrong between two peers, whose fault it is, and whether trying again can help.

use std::error::Error;
use std::io;

use eid_core::PublicKey;

use crate::Address;
use crate::limits::{FRAME_BYTES_MAX, LINKS_MAX, OPENER_TURN_BYTES_MAX};

/// The cause of an error, kept as a value.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Who has to change something for an error to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The program on this side: it used the interface against its contract, or asked for what is not there.
    Caller,
    /// The participant on the other side: it broke the rules of the transport.
    Remote,
    /// What lies between, or the other side being absent: nobody did anything wrong.
    Network,
    /// This machine: a port that is taken, a permission that is missing.
    Local,
}

/// Says why an address could not be dialled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The transport does not serve addresses of this form.
    #[error("this transport cannot dial {0}")]
    Unsupported(Address),
    /// Nobody answers at the address.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Where it was tried.
        address: Address,
        /// What the network said.
        #[source]
        cause: Cause,
    },
    /// Somebody is there and did not answer in time.
    #[error("{0} did not answer in time")]
    TimedOut(Address),
    /// Somebody answered and has no room at this moment.
    #[error("{0} is busy")]
    Busy(Address),
    /// Somebody answered and it was not this protocol, or the answer was changed on its way.
    #[error("{address} does not answer as a peer")]
    NotAPeer {
        /// Where it was tried.
        address: Address,
        /// What was wrong with the answer.
        #[source]
        cause: Cause,
    },
    /// Somebody answered who holds another key than the one that was to be met. This side has not said who it is.
    #[error("expected {expected} at {address} and met {found}")]
    WrongServer {
        /// Where it was tried.
        address: Address,
        /// Who was to be met.
        expected: PublicKey,
        /// Who was met.
        found: PublicKey,
    },
    /// This transport has been shut down.
    #[error("this transport has been shut down")]
    ShutDown,
}

/// Says why a transport could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another program (or another transport of this one) listens there already.
    #[error("{address} is in use already")]
    InUse {
        /// Where it was tried.
        address: String,
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// This machine does not allow it: no such interface, no permission.
    #[error("cannot listen at {address}")]
    Unusable {
        /// Where it was tried.
        address: String,
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// The transport was made without an address to listen at.
    #[error("this transport has no address to listen at")]
    NoAddress,
    /// This transport has been shut down.
    #[error("this transport has been shut down")]
    ShutDown,
}

impl ListenError {
    /// What it means that the system gave no socket there.
    #[must_use]
    pub fn of(address: &str, cause: io::Error) -> Self {
        let address = address.to_owned();
        match cause.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, cause: cause.into() },
            _ => Self::Unusable { address, cause: cause.into() },
        }
    }
}

/// Says why a link does not go on. After any error but [`TooLarge`](Self::TooLarge) and
/// [`OutOfTurn`](Self::OutOfTurn) the link is dead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// One side has closed the link or its connection.
    #[error("the link is closed")]
    Closed,
    /// The link broke in the middle.
    #[error("the link was cut")]
    Cut(#[source] Cause),
    /// A frame is longer than [`FRAME_BYTES_MAX`], or a turn of the opener longer than [`OPENER_TURN_BYTES_MAX`].
    /// Nothing of the frame was sent.
    #[error(
        "a frame has at most {FRAME_BYTES_MAX} bytes, a turn of the opener at most {OPENER_TURN_BYTES_MAX}"
    )]
    TooLarge,
    /// The other side took too long.
    #[error("the other side took too long")]
    TimedOut,
    /// What arrived is not what the other side sent, or the other side broke the rules.
    #[error("what arrived is damaged or against the rules")]
    Corrupt,
    /// The other side no longer knows this connection. A fresh one can go on from what was acknowledged.
    #[error("the other side no longer knows this connection")]
    Gone,
    /// Sent in the other side's turn, or received in one's own.
    #[error("the link was used out of turn")]
    OutOfTurn,
    /// The connection carries as many links as it may.
    #[error("a connection carries at most {LINKS_MAX} links")]
    TooManyLinks,
}

impl DialError {
    /// Whether the same dial may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut(_) | Self::Busy(_))
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unsupported(_) | Self::ShutDown => Fault::Caller,
            Self::Unreachable { .. } | Self::TimedOut(_) | Self::Busy(_) => Fault::Network,
            Self::NotAPeer { .. } | Self::WrongServer { .. } => Fault::Remote,
        }
    }
}

impl ListenError {
    /// Whether listening at the same address may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::InUse { .. } | Self::Unusable { .. } => Fault::Local,
            Self::NoAddress | Self::ShutDown => Fault::Caller,
        }
    }
}

impl LinkError {
    /// Whether a fresh link (or, after [`Gone`](Self::Gone), a fresh connection) may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Closed | Self::Cut(_) | Self::TimedOut | Self::Gone | Self::TooManyLinks)
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Closed | Self::Cut(_) | Self::TimedOut | Self::Gone => Fault::Network,
            Self::TooLarge | Self::OutOfTurn | Self::TooManyLinks => Fault::Caller,
            Self::Corrupt => Fault::Remote,
        }
    }
}
