//! `eid flush`, `eid why`.

use std::time::Duration;

use eid::{PublicKey, Undelivered};
use serde_json::{Value, json};

use crate::args::{Flush, Why};
use crate::cmd::Context;
use crate::cmd::log::utc;
use crate::cmd::peers::{named, shown};
use crate::failure::{Exit, Failure};
use crate::output::{number_of, printable};

/// Tries every peer now, and lists what is undelivered.
///
/// # Errors
/// When something is.
pub async fn flush(context: &Context, args: &Flush) -> Result<(), Failure> {
    let undelivered = context.node.flush(Duration::from_secs(args.wait)).await?;
    let shown: Vec<Value> = undelivered.iter().map(object).collect();
    context.out.say(&json!({"undelivered": shown}), || {
        if undelivered.is_empty() {
            return "every peer has everything".to_owned();
        }
        let rows: Vec<Vec<String>> = undelivered.iter().map(|one| cells(context, one)).collect();
        context.out.columns(&["DATABASE", "PEER", ">ENTRIES", "WHY"], &rows)
    })?;
    if undelivered.is_empty() {
        return Ok(());
    }
    let entries: u64 = undelivered.iter().map(|one| one.entries).sum();
    let what = format!("{} undelivered", number_of(entries, "entry is", "entries are"));
    Err(Failure::new(Exit::Unreachable, "undelivered", what)
        .hint("nothing is lost: `eid serve` delivers it when the peer is there"))
}

/// Tells why a peer is not known to have an entry.
///
/// # Errors
/// When nothing is known of such a peer, or no database here has the entry.
pub async fn why(context: &Context, args: &Why) -> Result<(), Failure> {
    let peer = named(context, &args.peer)?;
    let Some(key) = peer.key else {
        return Err(Failure::not_found(format!("nobody was met at {} yet", shown(&peer))));
    };
    for database in context.node.databases()? {
        let why = database.receipt(args.entry).why(key).await?;
        if why == eid::Why::NotHere {
            continue;
        }
        let (name, id) = (shown(&peer), database.id().to_string());
        let value = json!({
            "entry": args.entry.to_string(), "id": id, "peer": key.to_string(), "why": code(&why),
            "text": text(&why),
        });
        context.out.say(&value, || format!("{name}: {}", text(&why)))?;
        return Ok(());
    }
    Err(Failure::not_found("no database here has this entry").hint("`eid log DB` lists entries"))
}

fn object(one: &Undelivered) -> Value {
    json!({
        "id": one.tree.to_string(), "peer": one.peer.to_string(), "entries": one.entries, "why": code(&one.why),
        "text": text(&one.why),
    })
}

fn cells(context: &Context, one: &Undelivered) -> Vec<String> {
    let database = context.node.database(&one.tree.to_string()).ok().flatten();
    let name = database.and_then(|db| db.name().ok()).unwrap_or_else(|| one.tree.short());
    vec![printable(&name), peer_name(context, &one.peer), one.entries.to_string(), text(&one.why)]
}

fn peer_name(context: &Context, key: &PublicKey) -> String {
    let known = context.node.peers().unwrap_or_default().into_iter().find(|peer| peer.key == Some(*key));
    known.map_or_else(|| key.short(), |peer| shown(&peer))
}

/// A reason as programs match on it.
fn code(why: &eid::Why) -> &'static str {
    match why {
        eid::Why::Held => "held",
        eid::Why::NotHere => "not_here",
        eid::Why::UnknownPeer => "unknown_peer",
        eid::Why::Blocked => "blocked",
        eid::Why::MayNotRead => "may_not_read",
        eid::Why::Off => "off",
        eid::Why::WaitingForPeer => "waiting_for_peer",
        eid::Why::NotConnected { .. } => "not_connected",
        eid::Why::Sending(_) => "sending",
        eid::Why::NotAcknowledged => "not_acknowledged",
        _ => "other",
    }
}

/// A reason as people read it.
fn text(why: &eid::Why) -> String {
    match why {
        eid::Why::Held => "has it, on disk".to_owned(),
        eid::Why::NotHere => "the entry is not here".to_owned(),
        eid::Why::UnknownPeer => "nothing is known of such a peer".to_owned(),
        eid::Why::Blocked => "is blocked here: eid peers unblock".to_owned(),
        eid::Why::MayNotRead => {
            "may not read the database, as far as is known here: eid keys grant".to_owned()
        }
        eid::Why::Off => "the database is not synchronised: eid track".to_owned(),
        eid::Why::WaitingForPeer => "has no address here: it is waited for until it connects".to_owned(),
        eid::Why::NotConnected { last_error, next_attempt } => {
            let error = last_error.as_ref().map(|error| format!(": {}", printable(&error.text)));
            let next = next_attempt.map(|at| format!("; tried again at {}", utc(at)));
            format!("is not connected{}{}", error.unwrap_or_default(), next.unwrap_or_default())
        }
        eid::Why::Sending(progress) => {
            format!("is being sent {} of {} entries", progress.entries, progress.entries_total)
        }
        eid::Why::NotAcknowledged => "is connected, and has not acknowledged it yet".to_owned(),
        _ => "not known".to_owned(),
    }
}
