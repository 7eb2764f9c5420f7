//! Room for connections of one key: one that is idle makes place for another, or else the oldest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::PublicKey;
use eid_transport::Connection;

/// The connections of every key that has dialled, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<BTreeMap<PublicKey, VecDeque<Seat>>>);

#[derive(Debug)]
struct Seat {
    connection: Arc<dyn Connection>,
    /// How many sessions run on it.
    running: Arc<AtomicUsize>,
}

/// The place of one connection, left when it is dropped.
#[derive(Debug)]
pub(crate) struct Seated {
    seats: Arc<Seats>,
    key: PublicKey,
    connection: Arc<dyn Connection>,
}

impl Seats {
    /// Lets a connection in; gives the one that has to go when there are more than `most` of its key then.
    pub(crate) fn enter(
        seats: &Arc<Self>,
        key: PublicKey,
        connection: &Arc<dyn Connection>,
        running: &Arc<AtomicUsize>,
        most: usize,
    ) -> (Seated, Option<Arc<dyn Connection>>) {
        let mut table = seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = table.entry(key).or_default();
        let gone = (of_key.len() >= most.max(1)).then(|| {
            let idle = of_key.iter().position(|seat| seat.running.load(Ordering::SeqCst) == 0);
            of_key.remove(idle.unwrap_or(0)).map(|seat| seat.connection)
        });
        of_key.push_back(Seat { connection: Arc::clone(connection), running: Arc::clone(running) });
        let seated = Seated { seats: Arc::clone(seats), key, connection: Arc::clone(connection) };
        (seated, gone.flatten())
    }

    /// The connections of a key.
    pub(crate) fn of(&self, key: &PublicKey) -> Vec<Arc<dyn Connection>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(key).into_iter().flatten().map(|seat| Arc::clone(&seat.connection)).collect()
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut table = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_key) = table.get_mut(&self.key) {
            of_key.retain(|seat| !Arc::ptr_eq(&seat.connection, &self.connection));
            if of_key.is_empty() {
                table.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use eid_transport::{BoxFuture, Link, LinkError};

    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl Connection for Nowhere {
        fn binding(&self) -> [u8; 32] {
            [0; 32]
        }
        fn proven(&self) -> Option<PublicKey> {
            None
        }
        fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
            Box::pin(async { Err(LinkError::Closed) })
        }
        fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
            Box::pin(async { None })
        }
        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    #[test]
    fn a_connection_that_is_gone_leaves_nothing_behind() {
        let seats = Arc::new(Seats::default());
        let enter = |key: u8| {
            let connection: Arc<dyn Connection> = Arc::new(Nowhere);
            Seats::enter(&seats, PublicKey([key; 32]), &connection, &Arc::default(), 2)
        };
        let held: Vec<_> = [1, 1, 2].map(enter).into();
        assert!(held.iter().all(|(_, gone)| gone.is_none()));
        let (third, gone) = enter(1);
        assert!(gone.is_some());
        drop((held, third, gone));
        assert!(seats.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
