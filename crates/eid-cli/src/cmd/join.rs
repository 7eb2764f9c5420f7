//! `eid join`.

use std::time::Duration;

use eid::DatabaseTicket;
use serde_json::json;

use crate::args::Join;
use crate::cmd::{Context, sync, transfers};
use crate::failure::Failure;
use crate::output::{bytes, number_of, printable};

/// Joins; done when everything that the other side had is here.
///
/// # Errors
/// When the ticket is broken, refused, or nobody answers.
pub async fn run(context: &Context, args: &Join) -> Result<(), Failure> {
    let ticket: DatabaseTicket = args.ticket.trim().parse().map_err(eid::Error::from)?;
    let mut join = context.acting().join(&ticket).within(Duration::from_secs(args.wait));
    if let Some(name) = &args.name {
        join = join.named(name);
    }
    let joined = transfers::beside(context, &ticket.addresses, join.run()).await?;
    let session = sync::report(&joined.session);
    let id = joined.database.id().to_string();
    let name = joined.database.name()?;
    let value = json!({"id": id, "name": name, "status": "joined", "request_id": null, "session": session});
    let s = &joined.session;
    context.out.say(&value, || {
        let (name, pulled, size) =
            (printable(&name), number_of(s.pulled, "entry", "entries"), bytes(s.bytes_in));
        format!("joined {name} {id}\n{pulled}, {size} in {} ms", s.ms)
    })?;
    Ok(())
}
