//! `eid share`.

use std::time::Duration;

use eid::{Access, ErrorKind};
use serde_json::json;

use crate::args::Share;
use crate::cmd::Context;
use crate::failure::{Exit, Failure};

/// Prints a ticket.
///
/// # Errors
/// When nothing listens, or this device is not an admin of the database.
pub async fn run(context: &Context, args: &Share) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let mut access = match (args.ask, args.write) {
        (true, _) => Access::ask(),
        (false, true) => Access::write(),
        (false, false) => Access::read(),
    };
    if let Some(uses) = args.uses {
        access = access.uses(uses);
    }
    if let Some(ms) = args.expires {
        access = access.expires_in(Duration::from_millis(ms));
    }
    for address in &args.address {
        access = access.reachable_at(address.clone());
    }
    let ticket = db.share(access).await.map_err(|error| match error.kind() {
        ErrorKind::NotListening => Failure::new(
            Exit::Failed,
            error.kind().code(),
            "no node serves this directory, so nobody could join with a ticket",
        )
        .hint("start `eid serve --http ADDR` (or --quic, --iroh) on it first, or name an address with --address"),
        _ => error.into(),
    })?;
    let ticket = ticket.to_string();
    context.out.say(&json!({"ticket": ticket}), || {
        if args.ask {
            return format!(
                "{ticket}\n\nOn the other device, while this node runs:\n  eid join '{ticket}' --request read\n\n\
                 Then here:\n  eid requests list"
            );
        }
        let when = if args.uses.is_some() { "while this node runs" } else { "while a node of the database runs" };
        format!("{ticket}\n\nOn the other device, {when}:\n  eid join '{ticket}'")
    })?;
    Ok(())
}
