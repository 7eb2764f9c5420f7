//! A room: a database with a table of messages and one of members.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use eid::{
    Access, BootstrapRequest, Changes, Database, DatabaseTicket, Error, Instance, Permission, RequestStatus,
    TreeId,
};
use serde::{Deserialize, Serialize};

/// The name of a room that nobody gave one.
const ROOM: &str = "chat";

/// What somebody has said. Its key says where it stands: keys of later rows sort after earlier ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) author: String,
    pub(crate) text: String,
    pub(crate) sent_ms: u64,
}

/// Somebody who was in the room. The key is that of the device.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Member {
    name: String,
}

#[derive(Debug)]
pub(crate) struct Room {
    node: Instance,
    database: Database,
    device: String,
    ticket: DatabaseTicket,
}

impl Room {
    /// Opens a room, or makes it. An open one has a ticket that lets in whoever has it, and stays open.
    pub(crate) async fn open(
        node: &Instance,
        data: &Path,
        name: Option<&str>,
        is_open: bool,
    ) -> Result<Self, Error> {
        let known = match name {
            Some(name) => node.database(name)?,
            None => node.databases()?.into_iter().next(),
        };
        let database = match known {
            Some(database) => database,
            None => node.create_database(name.unwrap_or(ROOM)).await?,
        };
        let ticket = ticket_of(node, &database, data, is_open).await?;
        Ok(Self::of(node, database, ticket))
    }

    /// The room of a ticket, which is here.
    pub(crate) fn of(node: &Instance, database: Database, ticket: DatabaseTicket) -> Self {
        Self { node: node.clone(), database, device: node.device().to_string(), ticket }
    }

    pub(crate) fn name(&self) -> Result<String, Error> {
        Ok(self.database.title()?.unwrap_or_else(|| ROOM.to_owned()))
    }

    pub(crate) fn id(&self) -> TreeId {
        self.database.id()
    }

    pub(crate) fn ticket(&self) -> &DatabaseTicket {
        &self.ticket
    }

    pub(crate) fn changes(&self) -> Result<Changes, Error> {
        self.database.changes()
    }

    /// Is a member from now on, by this name.
    pub(crate) async fn enter(&self, name: &str) -> Result<(), Error> {
        let members = self.database.table::<Member>("members");
        if members.get(&self.device)?.is_none_or(|member| member.name != name) {
            members.put(&self.device, &Member { name: name.to_owned() }).await?;
        }
        Ok(())
    }

    pub(crate) async fn say(&self, author: &str, text: &str) -> Result<(), Error> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let sent_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let message = Message { author: author.to_owned(), text: text.to_owned(), sent_ms };
        self.database.table("messages").insert(&message).await?;
        Ok(())
    }

    pub(crate) fn messages(&self) -> Result<Vec<Message>, Error> {
        self.database.table("messages").rows()
    }

    pub(crate) fn members(&self) -> Result<Vec<String>, Error> {
        let members = self.database.table::<Member>("members").rows()?;
        let mut names: Vec<String> = members.into_iter().map(|member| member.name).collect();
        names.sort_unstable();
        Ok(names)
    }
    /// Who asks to come in, while this device may decide.
    pub(crate) fn askers(&self) -> Result<Vec<BootstrapRequest>, Error> {
        if !matches!(self.database.permission(&[self.node.device()])?, Some(Permission::Admin(_))) {
            return Ok(Vec::new());
        }
        let mut all = self.node.requests()?;
        all.retain(|request| request.tree == self.id() && request.status == RequestStatus::Pending);
        Ok(all)
    }

    /// Lets somebody in who asks, to read and to write.
    pub(crate) async fn approve(&self, request: &BootstrapRequest) -> Result<(), Error> {
        self.node.approve_request(request.id, Some(Permission::Write)).await.map(drop)
    }

    /// Turns somebody away who asks.
    pub(crate) async fn reject(&self, request: &BootstrapRequest) -> Result<(), Error> {
        self.node.reject_request(request.id).await.map(drop)
    }
}

fn place_of(data: &Path, room: &TreeId) -> PathBuf {
    data.join(format!("chat-ticket-{room}"))
}

/// Keeps a ticket for the next start.
pub(crate) fn keep_ticket(data: &Path, ticket: &DatabaseTicket) {
    let written = std::fs::write(place_of(data, &ticket.db), ticket.to_string());
    written.unwrap_or_else(|error| crate::note(&format!("the ticket is not kept: {error}")));
}

/// The ticket of the last time, as long as it leads here and lets in whoever has it, if it has to; who joined keeps the one
/// that he came with.
async fn ticket_of(
    node: &Instance,
    database: &Database,
    data: &Path,
    is_open: bool,
) -> Result<DatabaseTicket, Error> {
    let kept = std::fs::read_to_string(place_of(data, &database.id())).ok();
    let kept: Option<DatabaseTicket> = kept.and_then(|kept| kept.trim().parse().ok());
    let leads_here = |ticket: &DatabaseTicket| {
        ticket.key != node.device() || ticket.addresses.iter().all(|one| node.addresses().contains(one))
    };
    let is_open = is_open || kept.as_ref().is_some_and(|kept| kept.invite.is_some());
    if let Some(kept) = kept.filter(|kept| leads_here(kept) && kept.invite.is_some() == is_open) {
        return Ok(kept);
    }
    let ticket = database.share(if is_open { Access::write() } else { Access::ask() }).await?;
    keep_ticket(data, &ticket);
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use eid::{ErrorKind, Http};

    use super::*;

    async fn node(name: &str) -> Instance {
        let node = Instance::builder().memory().open().await.expect("there is memory");
        node.set_display_name(name).await.expect("it is a name");
        node.listen(Http::on("127.0.0.1:0")).await.expect("it listens");
        node
    }

    async fn ask(node: &Instance, ticket: &DatabaseTicket) {
        let asked = node.join(ticket).asking(Permission::Write).await.expect_err("nobody has decided");
        assert_eq!(asked.kind(), ErrorKind::Pending);
    }

    #[tokio::test]
    async fn who_asks_is_shown_to_admins_only_and_is_given_no_more_than_to_write() {
        let data = tempfile::tempdir().expect("there is room for a directory");
        let (ada, ben, eve) = (node("ada").await, node("ben").await, node("eve").await);
        let den = Room::open(&ada, data.path(), Some("den"), false).await.expect("it is made");
        assert!(den.ticket().invite.is_none(), "it gives nothing");
        ask(&ben, den.ticket()).await;
        let askers = den.askers().expect("they can be read");
        assert_eq!((askers.len(), askers[0].name.as_str()), (1, "ben"));
        den.approve(&askers[0]).await.expect("she is an admin");
        assert!(den.askers().expect("they can be read").is_empty());
        let here = ben.join(den.ticket()).await.expect("he was let in");
        assert_eq!(here.permission(&[ben.device()]).expect("rights"), Some(Permission::Write));

        let ticket = here.share(Access::ask()).await.expect("any member may");
        let here = Room::of(&ben, here, ticket);
        ask(&eve, here.ticket()).await;
        assert_eq!(ben.requests().expect("they can be read").len(), 1);
        assert!(here.askers().expect("they can be read").is_empty(), "he could not decide");
        ask(&eve, den.ticket()).await;
        den.reject(&den.askers().expect("they can be read")[0]).await.expect("she is an admin");
        let rejected = eve.join(den.ticket()).await.expect_err("she was rejected");
        assert_eq!(rejected.kind(), ErrorKind::Rejected);
    }

    #[tokio::test]
    async fn a_room_stays_as_open_as_it_was_made() {
        let data = tempfile::tempdir().expect("there is room for a directory");
        let ada = node("ada").await;
        let open = async |name, is_open| {
            let room = Room::open(&ada, data.path(), Some(name), is_open).await;
            room.expect("it is here").ticket().to_string()
        };
        let den = open("den", false).await;
        assert_eq!(open("den", false).await, den, "the ticket is the one of the last time");
        let hall = open("hall", true).await;
        assert!(hall.contains("#inv="), "{hall}");
        assert_eq!(open("hall", false).await, hall);
        assert!(!den.contains("#inv=") && open("den", true).await.contains("#inv="), "it is opened");
    }
}
