//! Joining by ticket.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use eid_sync::{DatabaseTicket, SessionReport};

use crate::database::Database;
use crate::error::{Error, ErrorKind};
use crate::limits::JOIN_WAIT;
use crate::users::User;

/// A join that has not begun: await it, after setting how long it may take.
#[derive(Debug)]
#[must_use = "nothing is joined before this is awaited"]
pub struct Join {
    user: User,
    ticket: DatabaseTicket,
    name: Option<String>,
    within: Duration,
}

/// What a join brought.
#[derive(Debug)]
pub struct Joined {
    /// The database: everything that the other side had is here.
    pub database: Database,
    /// The session that brought it.
    pub session: SessionReport,
}

impl Join {
    pub(crate) fn by(user: User, ticket: &DatabaseTicket) -> Self {
        Self { user, ticket: ticket.clone(), name: None, within: JOIN_WAIT }
    }

    /// Gives up after this long. What has arrived by then stays, and the next attempt goes on from there.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Names the database on this device; without it, the shared title is its name.
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// Joins, and tells how. Builds the indexes that others have declared before it gives the database.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the invite is used up or expired, or another server answers; nothing is kept then.
    pub async fn run(self) -> Result<Joined, Error> {
        let work = self.user.instance().join_now(&self.ticket, self.name.as_deref(), &self.user);
        match tokio::time::timeout(self.within, work).await {
            Ok(done) => {
                let joined = done?;
                self.user.instance().indexing().after(std::slice::from_ref(&joined.session)).await;
                Ok(joined)
            }
            Err(_) => {
                let message = format!("the join took longer than {} s", self.within.as_secs());
                Err(Error::new(ErrorKind::TimedOut, message))
            }
        }
    }
}

impl IntoFuture for Join {
    type Output = Result<Database, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { Ok(self.run().await?.database) })
    }
}
