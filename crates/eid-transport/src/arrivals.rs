//! Connections on their way from a listener to whoever accepts them, until the transport is shut down.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use crate::limits::BACKLOG_MAX;
use crate::watched::Watched;
use crate::{BoxFuture, Connection};

/// The connections that wait to be accepted, and whether any will be. Clones are one.
#[derive(Debug, Clone)]
pub struct Arrivals(Watched<Hall>);

#[derive(Debug, Default)]
struct Hall {
    waiting: VecDeque<Arc<dyn Connection>>,
    shut: bool,
}

/// Says that a connection was turned away: too many wait, or nobody will accept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Default for Arrivals {
    fn default() -> Self {
        Self(Watched::new(Hall::default()))
    }
}

impl Arrivals {
    /// Hands a connection on to whoever accepts next.
    ///
    /// # Errors
    /// When [`BACKLOG_MAX`] wait already, and after a shutdown. The connection is dropped then.
    pub fn hand_on(&self, connection: Arc<dyn Connection>) -> Result<(), Full> {
        let refused = self.0.change(|hall| {
            if hall.shut || hall.waiting.len() >= BACKLOG_MAX {
                return Some(connection);
            }
            hall.waiting.push_back(connection);
            None
        });
        // Dropped here and not under the lock.
        refused.map_or(Ok(()), |_| Err(Full))
    }

    /// Waits for the next connection; `None` after a shutdown. As [`Transport::accept`](crate::Transport::accept).
    pub fn next(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(self.0.wait(|hall| if hall.shut { Some(None) } else { hall.waiting.pop_front().map(Some) }))
    }

    /// Lets nobody in any more, and lets go of those who wait.
    pub fn shut(&self) {
        let waiting = self.0.change(|hall| {
            hall.shut = true;
            std::mem::take(&mut hall.waiting)
        });
        drop(waiting);
    }

    /// Whether it was shut down.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.0.read(|hall| hall.shut)
    }

    /// Waits until it is shut down. For a task that runs as long as the transport does: whoever waits is remembered until
    /// the next connection comes.
    pub fn until_shut(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.wait(|hall| hall.shut.then_some(())))
    }
}
