//! `eid share`.

use std::time::Duration;

use eid::{Access, ErrorKind, Slot};
use serde_json::json;

use crate::args::Share;
use crate::cmd::Context;
use crate::cmd::keys::slot_text;
use crate::failure::{Exit, Failure};
use crate::output::printable;
use crate::qr;

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
    let invite = ticket.invite.as_ref().filter(|_| args.uses.is_none());
    let invite = invite.map(|secret| slot_text(&Slot::Invite(secret.public())));
    let ticket = ticket.to_string();
    context.out.say(&json!({"ticket": ticket, "invite": invite}), || {
        if args.ask {
            return format!(
                "{ticket}\n\nOn the other device, while this node runs:\n  eid join '{ticket}' --request read\n\n\
                 Then here:\n  eid requests list"
            );
        }
        let when = if args.uses.is_some() { "while this node runs" } else { "while a node of the database runs" };
        let joining = format!("{ticket}\n\nOn the other device, {when}:\n  eid join '{ticket}'");
        let Some(invite) = &invite else { return joining };
        let db = printable(&args.db);
        format!("{joining}\n\nTo let nobody in with it any more:\n  eid keys revoke {db} {invite}")
    })?;
    if args.qr && !context.out.json() {
        // After the ticket, which is good whether it can be drawn or not.
        context.out.text(format!("\n{}", qr::drawn(&context.out, &ticket)?))?;
    }
    Ok(())
}
