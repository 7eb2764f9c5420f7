//! Joining by ticket.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use eid_core::Permission;
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
    pub(crate) name: Option<String>,
    within: Duration,
    pub(crate) wanted: Option<Permission>,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    pub(crate) approved_within: Duration,
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
        Self {
            user,
            ticket: ticket.clone(),
            name: None,
            within: JOIN_WAIT,
            wanted: None,
            metadata: None,
            approved_within: Duration::ZERO,
        }
    }

    /// Gives up after this long. What has arrived by then stays, and the next attempt goes on from there.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Names the database on this device; without it, the shared title is its name.
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// Asks for this right, when the ticket has no invite and this device does not have it; otherwise for what was asked for
    /// before, or to read. [`crate::ANY_LEVEL`] is an admin of whatever level.
    pub fn asking(self, permission: Permission) -> Self {
        Self { wanted: Some(permission), ..self }
    }

    /// Says more with what is asked for: at most 16 named texts of 1 KiB together, which people read who approve.
    pub fn saying(self, metadata: BTreeMap<String, String>) -> Self {
        Self { metadata: Some(metadata), ..self }
    }

    /// Waits so long for an approval, beside what [`Self::within`] bounds. Without it, it is not waited for.
    pub fn approved_within(self, approved_within: Duration) -> Self {
        Self { approved_within, ..self }
    }

    /// Joins, and tells how. Builds the indexes that others have declared before it gives the database.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the invite is used up or expired, or another server answers; nothing is kept then.
    /// [`ErrorKind::Pending`] when somebody has to approve: what was asked for is remembered, and completes by itself while
    /// this device uses the network; or by joining again. [`ErrorKind::Rejected`] when somebody has decided against it.
    pub async fn run(self) -> Result<Joined, Error> {
        let node = self.user.instance();
        let joined = match self.ticket.invite {
            Some(_) => self.bring().await?,
            None => self.by_asking().await?,
        };
        node.indexing().after(std::slice::from_ref(&joined.session)).await;
        Ok(joined)
    }

    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    pub(crate) fn ticket(&self) -> &DatabaseTicket {
        &self.ticket
    }

    /// Joins with a right that is there, or by the invite.
    pub(crate) async fn bring(&self) -> Result<Joined, Error> {
        let work = self.user.instance().join_now(&self.ticket, self.name.as_deref(), &self.user);
        self.limited(work).await
    }

    /// Does it in the time that there is.
    pub(crate) async fn limited<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.within, work).await {
            Ok(done) => done,
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
