//! `eid sync`, `eid pull`, `eid push`.

use std::time::Duration;

use eid::{Address, Database, PeerInfo, Rung, SessionReport};
use serde_json::{Value, json};

use crate::args::Sync;
use crate::cmd::Context;
use crate::failure::{Exit, Failure};
use crate::output::{bytes, count, printable};

/// Synchronises with the peers that are meant, one after another; every one is tried.
///
/// # Errors
/// When no peer is known, or with the first failure when any peer failed.
pub async fn run(context: &Context, args: &Sync) -> Result<(), Failure> {
    let db = args.db.as_deref().map(|name| context.database(name)).transpose()?;
    let targets = targets(context, args)?;
    let within = Duration::from_secs(args.wait);
    let mut reports = Vec::new();
    let mut failed: Option<Failure> = None;
    for target in targets {
        match one(context, &target, db.as_ref(), within).await {
            Ok(done) => reports.extend(done),
            Err(error) => {
                let failure = Failure::from(error);
                if failed.is_some() {
                    context.out.note(format!("{}: {}", target.name, printable(&failure.message)))?;
                }
                failed.get_or_insert(failure);
            }
        }
    }
    if failed.is_none() || !reports.is_empty() {
        let databases: Vec<Value> = reports.iter().map(report).collect();
        context.out.say(&json!({"databases": databases}), || table(context, &reports))?;
    }
    failed.map_or(Ok(()), Err)
}

/// A peer to go to.
struct Target {
    name: String,
    addresses: Vec<Address>,
}

fn targets(context: &Context, args: &Sync) -> Result<Vec<Target>, Failure> {
    if let Some(address) = &args.address {
        return Ok(vec![Target { name: address.to_string(), addresses: vec![address.clone()] }]);
    }
    let mut peers: Vec<PeerInfo> = context.node.peers()?;
    if let Some(wanted) = &args.peer {
        peers.retain(|peer| {
            peer.name.as_deref() == Some(wanted)
                || peer.key.is_some_and(|key| key.to_string() == *wanted || key.short() == *wanted)
        });
        match peers.len() {
            0 => {
                let failure = Failure::not_found(format!("no peer is called \"{}\"", printable(wanted)));
                return Err(failure.hint("`eid peers list` shows the peers"));
            }
            1 => {}
            _ => {
                let keys: Vec<String> = peers.iter().filter_map(|peer| Some(peer.key?.to_string())).collect();
                let message =
                    format!("more than one peer is called \"{}\": {}", printable(wanted), keys.join(", "));
                return Err(Failure::new(Exit::Usage, "ambiguous", message).hint("use the key"));
            }
        }
    }
    peers.retain(|peer| !peer.addresses.is_empty());
    if peers.is_empty() {
        return Err(Failure::not_found("no peer with an address is known")
            .hint("name one with --address, or remember one with `eid peers add ADDRESS`"));
    }
    let name = |peer: &PeerInfo| {
        let key = peer.key.map_or_else(|| "not met yet".to_owned(), |key| key.short());
        peer.name.as_deref().map_or(key, printable)
    };
    Ok(peers.into_iter().map(|peer| Target { name: name(&peer), addresses: peer.addresses }).collect())
}

/// Tries the peer's addresses in turn until one answers.
async fn one(
    context: &Context,
    target: &Target,
    db: Option<&Database>,
    within: Duration,
) -> Result<Vec<SessionReport>, eid::Error> {
    let mut last = None;
    for address in &target.addresses {
        match context.node.sync_with(address, db, within).await {
            Ok(reports) => return Ok(reports),
            Err(error) => last = Some(error),
        }
    }
    last.map_or_else(|| Ok(Vec::new()), Err)
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
        "rung": r.rung.map(rung), "ms": r.ms,
    })
}

/// The letter of a rung on the ladder of the protocol.
fn rung(rung: Rung) -> &'static str {
    match rung {
        Rung::InSync => "a",
        Rung::TipsKnown => "b",
        Rung::Remembered => "c",
        Rung::ByIds => "f",
    }
}
