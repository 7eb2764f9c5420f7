//! `eid join`.

use std::time::Duration;

use eid::{DatabaseTicket, ErrorKind};
use serde_json::json;

use crate::args::Join;
use crate::cmd::{Context, sync, transfers};
use crate::failure::Failure;
use crate::limits::NETWORK_WAIT_SECONDS;
use crate::output::{bytes, number_of, printable};

/// Joins; done when everything that the other side had is here. With a ticket that gives nothing it asks for a right.
///
/// # Errors
/// When the ticket is broken, refused, or nobody answers; when somebody has to approve, or has decided against it.
pub async fn run(context: &Context, args: &Join) -> Result<(), Failure> {
    let ticket: DatabaseTicket = args.ticket.trim().parse().map_err(eid::Error::from)?;
    let wait = Duration::from_secs(args.wait.unwrap_or(NETWORK_WAIT_SECONDS));
    let mut join = context.acting().join(&ticket).within(wait);
    if ticket.invite.is_none() {
        // What has to be exchanged takes its time, also when nobody is waited for.
        let network = wait.max(Duration::from_secs(NETWORK_WAIT_SECONDS));
        join = join.within(network).approved_within(Duration::from_secs(args.wait.unwrap_or(0)));
    }
    if let Some(permission) = args.request {
        join = join.asking(permission);
    }
    if let Some(message) = &args.message {
        join = join.saying([("message".to_owned(), message.clone())].into());
    }
    if let Some(name) = &args.name {
        join = join.named(name);
    }
    let joined = match transfers::beside(context, &ticket.addresses, join.run()).await {
        Ok(joined) => joined,
        Err(error) => return not_yet(context, &ticket, error),
    };
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

/// Tells what became of a request, if there was one, beside the failure.
fn not_yet(context: &Context, ticket: &DatabaseTicket, error: eid::Error) -> Result<(), Failure> {
    let status = match error.kind() {
        ErrorKind::Pending => "pending",
        ErrorKind::Rejected => "rejected",
        _ => return Err(error.into()),
    };
    let id = error.request_id().map(|id| id.to_string());
    let value = json!({
        "id": ticket.db.to_string(), "name": null, "status": status, "request_id": id, "session": null,
    });
    context.out.say(&value, || format!("{status} {}", id.unwrap_or_default()))?;
    Err(error.into())
}
