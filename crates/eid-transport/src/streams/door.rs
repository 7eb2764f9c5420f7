//! The door of a listener: how much room there is, and what a connection shows before it is handed on.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use eid_core::PublicKey;

use super::{Channel, Patience, Reason, StreamConnection};
use crate::Arrivals;
use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, CONNECTIONS_PER_KEY_MAX, UNPROVEN_MAX};
use crate::places::{Counted, Counts, Keyed, customer};

/// How many a listener lets in; what a program may choose for its machine.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// See [`UNPROVEN_MAX`].
    pub unproven_max: usize,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX`]. What comes over a relay has no address.
    pub connections_per_address_max: usize,
    /// See [`CONNECTIONS_PER_KEY_MAX`].
    pub connections_per_key_max: usize,
    /// Whether connections from loopback are counted like all others.
    pub counts_loopback: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            unproven_max: UNPROVEN_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            connections_per_key_max: CONNECTIONS_PER_KEY_MAX,
            counts_loopback: false,
        }
    }
}

/// What every connection of a listener passes on its way in.
#[derive(Debug)]
pub struct Door<C: Channel> {
    room: Room,
    patience: Patience,
    arrivals: Arrivals,
    all: Arc<Counts<()>>,
    addresses: Arc<Counts<IpAddr>>,
    keys: Arc<Keyed<C>>,
}

/// The place of one connection, kept as long as the connection is.
#[derive(Debug)]
pub struct Place {
    _one_of_all: Counted<()>,
    _one_of_its_address: Option<Counted<IpAddr>>,
}

/// Says why a connection was turned away after its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// It brought no link in time.
    #[error("it brought no link in time")]
    Silent,
    /// Too many wait to be accepted, or nobody accepts any more.
    #[error("too many wait to be accepted")]
    NoRoom,
}

impl<C: Channel> Door<C> {
    /// A door to `arrivals`, for links of this patience.
    #[must_use]
    pub fn new(room: Room, patience: Patience, arrivals: Arrivals) -> Self {
        Self {
            room,
            patience,
            arrivals,
            all: Arc::default(),
            addresses: Arc::default(),
            keys: Arc::default(),
        }
    }

    /// What to do with a client of which nothing is known, beside `greeting` others: nothing is kept for it before.
    #[must_use]
    pub fn first_look(&self, greeting: usize) -> FirstLook {
        match greeting {
            many if many >= self.room.unproven_max => FirstLook::Refuse,
            some if some >= self.room.unproven_max / 2 => FirstLook::AskWhereItIs,
            _ => FirstLook::Greet,
        }
    }

    /// A place for a connection from this address, if it has one; nothing when there are as many as may be.
    #[must_use]
    pub fn place(&self, from: Option<IpAddr>) -> Option<Place> {
        let counted = |ip: &IpAddr| self.room.counts_loopback || !ip.to_canonical().is_loopback();
        let one_of_all = Counts::enter(&self.all, (), self.room.connections_max)?;
        let one_of_its_address = match from.filter(counted) {
            Some(ip) => {
                Some(Counts::enter(&self.addresses, customer(ip), self.room.connections_per_address_max)?)
            }
            None => None,
        };
        Some(Place { _one_of_all: one_of_all, _one_of_its_address: one_of_its_address })
    }

    /// Takes in a channel that has proven this key: the oldest of the key makes room where there are too many, and the
    /// connection is handed on when its peer has begun a link.
    ///
    /// # Errors
    /// When it was turned away. The channel is closed then.
    pub async fn enter(
        &self,
        channel: C,
        key: PublicKey,
        binding: [u8; 32],
        place: Place,
    ) -> Result<(), TurnedAway> {
        let seat = Keyed::enter(&self.keys, key, &channel, self.room.connections_per_key_max);
        let place = Box::new((place, seat));
        let connection = StreamConnection::new(channel.clone(), self.patience, binding, Some(key), place);
        if !connection.begins().await {
            channel.close(Reason::Silent);
            return Err(TurnedAway::Silent);
        }
        if self.arrivals.hand_on(Arc::new(connection)).is_err() {
            channel.close(Reason::NoRoom);
            return Err(TurnedAway::NoRoom);
        }
        Ok(())
    }

    /// The newest channel of a key that has come in.
    #[must_use]
    pub fn newest(&self, key: &PublicKey) -> Option<C> {
        self.keys.newest(key)
    }
}

/// What to do with a client of which nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLook {
    /// Make the handshake.
    Greet,
    /// Have it show first that it is where it says it is.
    AskWhereItIs,
    /// Turn it away.
    Refuse,
}
