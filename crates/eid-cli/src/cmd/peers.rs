//! `eid peers`.

use eid::{ConnectionState, PeerInfo, PeerStatus, TreeId};
use serde_json::{Value, json};

use crate::args::Peers;
use crate::cmd::log::utc;
use crate::cmd::{Context, status};
use crate::failure::{Exit, Failure};
use crate::output::printable;

/// Runs one of its sub-commands.
///
/// # Errors
/// When what is remembered cannot be read or written.
pub async fn run(context: &Context, args: &Peers) -> Result<(), Failure> {
    match args {
        Peers::Add { address, key: None, .. } => {
            context.node.add_peer(address).await?;
            context.out.say(&json!({"address": address.to_string()}), || format!("remembered {address}"))?;
            Ok(())
        }
        Peers::Add { address, key: Some(key), name } => {
            if *key == context.node.device() {
                return Err(Failure::usage("this is the key of this device itself"));
            }
            context.node.add_peer_address(*key, name.as_deref().unwrap_or_default(), address).await?;
            let value = json!({"address": address.to_string(), "key": key.to_string(), "name": name});
            context.out.say(&value, || format!("remembered {address} of {}", key.short()))?;
            Ok(())
        }
        Peers::Forget { peer } => {
            let found = named(context, peer)?;
            context.node.forget_peer(&found).await?;
            let name = shown(&found);
            context.out.say(&object(&found), || format!("forgot {name}"))?;
            Ok(())
        }
        Peers::Pause { peer } => pause(context, peer, PeerStatus::Inactive, "paused").await,
        Peers::Resume { peer } => pause(context, peer, PeerStatus::Active, "resumed").await,
        Peers::Block { peer } => set_status(context, peer, PeerStatus::Blocked, "blocked").await,
        Peers::Unblock { peer } => set_status(context, peer, PeerStatus::Active, "deals again with").await,
        Peers::List => list(context),
    }
}

/// Pausing is about dialling: what was blocked is not let in by it, nor by its end.
async fn pause(context: &Context, peer: &str, wanted: PeerStatus, done: &str) -> Result<(), Failure> {
    let found = named(context, peer)?;
    if found.status == PeerStatus::Blocked {
        let name = shown(&found);
        return Err(Failure::usage(format!("{name} is blocked"))
            .hint(format!("`eid peers unblock {name}` deals with it again")));
    }
    set_status(context, peer, wanted, done).await
}

/// Changes what this device has to do with a peer.
async fn set_status(context: &Context, peer: &str, status: PeerStatus, done: &str) -> Result<(), Failure> {
    let found = named(context, peer)?;
    context.node.set_peer_status(&found, status).await?;
    let found = PeerInfo { status, ..found };
    Ok(context.out.say(&object(&found), || format!("{done} {}", shown(&found)))?)
}

/// The peer that a person means by its key, its name or an address.
///
/// # Errors
/// When there is none, or more than one.
pub fn named(context: &Context, wanted: &str) -> Result<PeerInfo, Failure> {
    let mut peers = context.node.peers()?;
    peers.retain(|peer| {
        peer.name.as_deref() == Some(wanted)
            || peer.key.is_some_and(|key| key.to_string() == wanted || key.short() == wanted)
            || peer.addresses.iter().any(|address| address.as_str() == wanted)
    });
    if peers.len() > 1 {
        let all: Vec<String> =
            peers.iter().map(|peer| peer.key.map_or_else(|| shown(peer), |key| key.to_string())).collect();
        let message = format!("more than one peer is called \"{}\": {}", printable(wanted), all.join(", "));
        return Err(Failure::new(Exit::Usage, "ambiguous", message).hint("use the key"));
    }
    peers.pop().ok_or_else(|| {
        Failure::not_found(format!("no peer is called \"{}\"", printable(wanted)))
            .hint("`eid peers list` shows the peers")
    })
}

/// What a peer is called in a sentence.
pub(super) fn shown(peer: &PeerInfo) -> String {
    let address =
        || peer.addresses.first().map_or_else(|| "a peer not met yet".to_owned(), ToString::to_string);
    let name = || peer.key.map_or_else(address, |key| key.short());
    printable(&peer.name.clone().unwrap_or_else(name))
}

fn list(context: &Context) -> Result<(), Failure> {
    let peers = context.node.peers()?;
    if context.out.json() {
        for peer in &peers {
            context.out.value(&whole(context, peer)?)?;
        }
        return Ok(());
    }
    if peers.is_empty() {
        context.out.note("no peers yet; `eid join TICKET` or `eid peers add ADDRESS` makes one")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        peers.iter().map(|peer| cells(context, peer)).collect::<Result<_, Failure>>()?;
    let headings = ["PEER", "STATUS", "CONNECTION", "DATABASES", "ADDRESS", "LAST SUCCESS", "LAST ERROR"];
    context.out.text(context.out.columns(&headings, &rows))?;
    Ok(())
}

/// The connection with a peer, and the databases about which there was a session with it.
fn dealings(context: &Context, peer: &PeerInfo) -> Result<(ConnectionState, Vec<TreeId>), Failure> {
    // Where nobody was met yet, nothing of both can be.
    let Some(key) = peer.key else { return Ok((ConnectionState::Disconnected, Vec::new())) };
    let engine = context.node.sync();
    let connection = engine.connection_with(&key).map_err(eid::Error::from)?;
    Ok((connection, engine.trees_of(&key).map_err(eid::Error::from)?))
}

/// As [`object`], with how each address has worked, the connection, and the databases that there was a session about.
///
/// # Errors
/// When what is remembered cannot be read.
pub(super) fn whole(context: &Context, peer: &PeerInfo) -> Result<Value, Failure> {
    let (connection, databases) = dealings(context, peer)?;
    let tried: Vec<Value> = peer
        .tried
        .iter()
        .map(|tried| {
            json!({
                "address": tried.address.to_string(), "last_success": tried.last_success_ms,
                "last_failure": tried.last_failure_ms, "last_error": tried.last_error,
            })
        })
        .collect();
    let mut value = object(peer);
    value["tried"] = tried.into();
    value["connection"] = status::state(connection).into();
    value["databases"] = databases.iter().map(ToString::to_string).collect();
    Ok(value)
}

/// A peer as `--json` shows it.
#[must_use]
pub fn object(peer: &PeerInfo) -> Value {
    let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    json!({
        "key": peer.key.map(|key| key.to_string()),
        "name": peer.name,
        "status": state(peer.status),
        "addresses": addresses,
        "last_success": peer.last_success_ms,
        "last_attempt": peer.last_attempt_ms,
        "last_error": peer.last_error,
    })
}

/// What this device has to do with a peer, in one word.
pub(super) fn state(status: PeerStatus) -> &'static str {
    match status {
        PeerStatus::Active => "active",
        PeerStatus::Inactive => "inactive",
        PeerStatus::Blocked => "blocked",
    }
}

fn cells(context: &Context, peer: &PeerInfo) -> Result<Vec<String>, Failure> {
    let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    let key = peer.key.map_or_else(|| "(not met yet)".to_owned(), |key| key.short());
    let name = peer.name.as_deref().map_or(key.clone(), |name| format!("{} ({key})", printable(name)));
    let (connection, databases) = dealings(context, peer)?;
    let mut names = Vec::new();
    for id in databases {
        names.push(match context.node.database(&id.to_string())? {
            Some(db) => printable(&db.name()?),
            None => id.short(),
        });
    }
    Ok(vec![
        name,
        state(peer.status).to_owned(),
        status::state(connection).replace('_', " "),
        names.join(" "),
        printable(&addresses.join(" ")),
        peer.last_success_ms.map_or_else(|| "never".to_owned(), utc),
        printable(peer.last_error.as_deref().unwrap_or("")),
    ])
}
