//! A room: a database with a table of messages and one of members.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use eid::{Access, Changes, Database, DatabaseTicket, Error, Instance};
use serde::{Deserialize, Serialize};

/// How long whoever made the ticket has to answer.
const WAIT: Duration = Duration::from_secs(30);
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

pub(crate) struct Room {
    database: Database,
    device: String,
    ticket: String,
}

impl Room {
    /// Opens a room, or makes it.
    pub(crate) async fn open(node: &Instance, data: &Path, name: Option<&str>) -> Result<Self, Error> {
        let known = match name {
            Some(name) => node.database(name)?,
            None => node.databases()?.into_iter().next(),
        };
        let database = match known {
            Some(database) => database,
            None => node.create_database(name.unwrap_or(ROOM)).await?,
        };
        let ticket = ticket_of(node, &database, data).await?;
        Ok(Self { database, device: node.device().to_string(), ticket })
    }

    /// Comes in with a ticket, or again.
    pub(crate) async fn join(node: &Instance, data: &Path, ticket: &DatabaseTicket) -> Result<Self, Error> {
        let database = match node.database(&ticket.db.to_string())? {
            Some(database) => database,
            None => node.join(ticket).within(WAIT).await?,
        };
        let text = ticket.to_string();
        keep_ticket(data, &database, &text);
        Ok(Self { database, device: node.device().to_string(), ticket: text })
    }

    pub(crate) fn name(&self) -> Result<String, Error> {
        Ok(self.database.title()?.unwrap_or_else(|| ROOM.to_owned()))
    }

    pub(crate) fn ticket(&self) -> &str {
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
}

fn place_of(data: &Path, database: &Database) -> PathBuf {
    data.join(format!("chat-ticket-{}", database.id()))
}

fn keep_ticket(data: &Path, database: &Database, ticket: &str) {
    let written = std::fs::write(place_of(data, database), ticket);
    written.unwrap_or_else(|error| crate::screen::note(&format!("the ticket is not kept: {error}")));
}

/// The ticket of the last time, as long as it leads here; who joined keeps the one that let him in.
async fn ticket_of(node: &Instance, database: &Database, data: &Path) -> Result<String, Error> {
    let kept = std::fs::read_to_string(place_of(data, database)).ok();
    let leads_here = |ticket: &DatabaseTicket| {
        ticket.key != node.device() || ticket.addresses.iter().all(|one| node.addresses().contains(one))
    };
    if let Some(kept) = kept.filter(|kept| kept.parse().is_ok_and(|ticket| leads_here(&ticket))) {
        return Ok(kept);
    }
    let ticket = database.share(Access::write()).await?.to_string();
    keep_ticket(data, database, &ticket);
    Ok(ticket)
}
