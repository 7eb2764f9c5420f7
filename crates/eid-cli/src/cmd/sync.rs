//! `eid sync`, `eid pull`, `eid push`.

use std::time::Duration;

use eid::{Database, PeerInfo, PeerStatus, SessionReport, Synced};
use serde_json::{Value, json};

use crate::args::Sync;
use crate::cmd::Context;
use crate::cmd::peers::{self, shown as name};
use crate::cmd::transfers;
use crate::failure::Failure;
use crate::output::{bytes, count, printable};

/// Synchronises with the peers that are meant, one after another; every one is tried.
///
/// # Errors
/// When no peer is known, or with the first failure when any peer failed.
pub async fn run(context: &Context, args: &Sync) -> Result<(), Failure> {
    let db = args.db.as_deref().map(|name| context.database(name)).transpose()?;
    let within = Duration::from_secs(args.wait);
    let mut done = Done::default();
    if args.db.is_none() {
        complete_joins(context, within, &mut done).await?;
    }
    if let Some(address) = &args.address {
        let work = context.node.sync_telling(address, db.as_ref(), within);
        let one = transfers::beside(context, std::slice::from_ref(address), work).await;
        done.take(context, one, address.as_str())?;
    } else {
        let (unmet, met) = targets(context, args)?;
        for peer in unmet {
            let work = exchange(context, args, &peer, db.as_ref(), within);
            let one = transfers::beside(context, &peer.addresses, work).await;
            done.take(context, one, &name(&peer))?;
        }
        for peer in met {
            // Whoever answered at an address that was added by hand has been met at it, and needs no other one.
            let now = context.node.peers()?.into_iter().find(|known| known.key == peer.key);
            if let Some(now) = now.filter(|now| now.last_success_ms == peer.last_success_ms) {
                let work = exchange(context, args, &now, db.as_ref(), within);
                let one = transfers::beside(context, &now.addresses, work).await;
                done.take(context, one, &name(&peer))?;
            }
        }
    }
    if done.failed.is_none() || !done.reports.is_empty() {
        let databases: Vec<Value> = done.reports.iter().map(report).collect();
        context.out.say(&json!({"databases": databases}), || table(context, &done.reports))?;
    }
    for report in done.reports.iter().filter(|report| !report.complete) {
        let (peer, name) = (report.peer.short(), name_of(context, report));
        context
            .out
            .note(format!("{peer} may not read {name}, as far as is known here: nothing was sent to it"))?;
    }
    done.failed.map_or(Ok(()), Err)
}

/// From a peer that was named comes everything that it lets this device read; from others nothing that is not here yet.
async fn exchange(
    context: &Context,
    args: &Sync,
    peer: &PeerInfo,
    db: Option<&Database>,
    within: Duration,
) -> Result<Synced, eid::Error> {
    if args.peer.is_none() && db.is_none() {
        return context.node.sync_held_with_peer(peer, within).await;
    }
    context.node.sync_with_peer(peer, db, within).await
}

/// Joins what was asked for and is approved by now.
async fn complete_joins(context: &Context, within: Duration, done: &mut Done) -> Result<(), Failure> {
    for (asked, became) in context.acting().complete_joins(within).await? {
        let id = asked.ticket.db.short();
        match became {
            Ok(joined) => {
                context.out.note(format!("joined {}", printable(&joined.database.name()?)))?;
                done.reports.push(joined.session);
            }
            Err(error) => context.out.note(format!("{id}: {}", printable(&error.to_string())))?,
        }
    }
    Ok(())
}

/// What became of the peers so far.
#[derive(Default)]
struct Done {
    reports: Vec<SessionReport>,
    /// The first failure; it is what the command ends with.
    failed: Option<Failure>,
}

impl Done {
    fn take(
        &mut self,
        context: &Context,
        one: Result<Synced, eid::Error>,
        name: &str,
    ) -> Result<(), Failure> {
        let failure = match one {
            Ok(Synced { sessions, refused }) => {
                self.reports.extend_from_slice(&sessions);
                Synced { sessions, refused }.all().err()
            }
            Err(error) => Some(error),
        };
        let Some(failure) = failure.map(Failure::from) else { return Ok(()) };
        if self.failed.is_some() {
            context.out.note(format!("{}: {}", printable(name), printable(&failure.message)))?;
        }
        self.failed.get_or_insert(failure);
        Ok(())
    }
}

/// The peers to go to: addresses where nobody was met yet, and peers that were met.
fn targets(context: &Context, args: &Sync) -> Result<(Vec<PeerInfo>, Vec<PeerInfo>), Failure> {
    let mut peers = match &args.peer {
        Some(wanted) => vec![peers::named(context, wanted)?],
        None => {
            let mut active = context.node.peers()?;
            active.retain(|peer| peer.status == PeerStatus::Active);
            active
        }
    };
    peers.retain(|peer| !peer.addresses.is_empty());
    if peers.is_empty() {
        return Err(Failure::not_found("no peer with an address is known, or every one is blocked")
            .hint("name one with --address, or remember one with `eid peers add ADDRESS`"));
    }
    Ok(peers.into_iter().partition(|peer| peer.key.is_none()))
}

fn table(context: &Context, reports: &[SessionReport]) -> String {
    if reports.is_empty() {
        return "no database in common".to_owned();
    }
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|r| {
            vec![
                name_of(context, r),
                r.peer.short(),
                count(r.pulled),
                count(r.pushed),
                bytes(r.bytes_in),
                bytes(r.bytes_out),
                r.turns.to_string(),
                format!("{} ms", r.ms),
            ]
        })
        .collect();
    context.out.columns(&["DATABASE", "PEER", ">PULLED", ">PUSHED", ">IN", ">OUT", ">TURNS", ">TIME"], &rows)
}

fn name_of(context: &Context, report: &SessionReport) -> String {
    let Some(tree) = report.tree else { return String::new() };
    let named = context.node.database(&tree.to_string()).ok().flatten().and_then(|db| db.name().ok());
    named.map_or_else(|| tree.short(), |name| printable(&name))
}

/// A session as `--json` shows it.
#[must_use]
pub fn report(r: &SessionReport) -> Value {
    json!({
        "id": r.tree.map(|tree| tree.to_string()), "peer": r.peer.to_string(), "pulled": r.pulled, "pushed": r.pushed,
        "bytes_in": r.bytes_in, "bytes_out": r.bytes_out, "handshake_bytes": r.handshake_bytes, "turns": r.turns,
        "rung": r.rung.map(|rung| rung.to_string()), "ms": r.ms,
    })
}
