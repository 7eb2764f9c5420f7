//! Room for connections of one key: the oldest makes place for another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::PublicKey;
use quinn::Connection;

use crate::error::Reason;

/// The connections of every key, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Keyed(Mutex<BTreeMap<PublicKey, VecDeque<Connection>>>);

/// The place of one connection, left when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    keyed: Arc<Keyed>,
    key: PublicKey,
    id: usize,
}

impl Keyed {
    /// Lets a connection in, and closes the oldest of its key when there are more than `most` then.
    pub(crate) fn enter(keyed: &Arc<Self>, key: PublicKey, connection: &Connection, most: usize) -> Seat {
        let mut table = keyed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = table.entry(key).or_default();
        seats.push_back(connection.clone());
        if seats.len() > most.max(1)
            && let Some(oldest) = seats.pop_front()
        {
            tracing::debug!(%key, "closing the oldest of many connections of one key");
            Reason::NoRoom.close(&oldest);
        }
        Seat { keyed: Arc::clone(keyed), key, id: connection.stable_id() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.keyed.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seats) = table.get_mut(&self.key) {
            seats.retain(|connection| connection.stable_id() != self.id);
            if seats.is_empty() {
                table.remove(&self.key);
            }
        }
    }
}
