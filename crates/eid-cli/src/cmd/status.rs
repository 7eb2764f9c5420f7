//! `eid status`.

use eid::DatabaseStatus;
use serde_json::{Value, json};

use crate::args::Status;
use crate::cmd::log::utc;
use crate::cmd::{Context, peers};
use crate::failure::Failure;
use crate::output::{count, number_of, printable};

/// Shows what is known; nothing that is not.
///
/// # Errors
/// When there is no such database.
pub fn run(context: &Context, args: &Status) -> Result<(), Failure> {
    let mut status = context.node.status()?;
    if let Some(name) = &args.db {
        let id = context.database(name)?.id();
        status.databases.retain(|db| db.id == id);
    }
    let out = &context.out;
    if out.json() {
        let databases: Vec<Value> = status.databases.iter().map(database).collect();
        let peers: Vec<Value> = status.peers.iter().map(peers::object).collect();
        let listening: Vec<String> = status.listening.iter().map(ToString::to_string).collect();
        out.value(&json!({
            "device": status.device.to_string(), "name": status.name, "listening": listening,
            "databases": databases, "peers": peers,
        }))?;
        return Ok(());
    }
    out.text(format!("device     {}", status.device))?;
    if let Some(name) = &status.name {
        out.text(format!("name       {}", printable(name)))?;
    }
    let listening: Vec<String> = status.listening.iter().map(ToString::to_string).collect();
    out.text(format!(
        "listening  {}",
        if listening.is_empty() { "no".to_owned() } else { listening.join(" ") }
    ))?;
    let mut rows = Vec::new();
    for db in &status.databases {
        let first = vec![printable(&db.name), count(db.entries), db.tips.to_string()];
        rows.push([first, vec![String::new(); 4]].concat());
        for progress in &db.peers {
            let last = progress.last_session_ms.map_or_else(|| "not known".to_owned(), utc);
            let behind = progress.behind.map_or_else(|| "not known".to_owned(), count);
            let has = format!("{} of {}", count(progress.acknowledged), count(db.entries));
            let peer = progress.peer.short();
            rows.push([vec![String::new(); 3], vec![peer, has, behind, last]].concat());
        }
    }
    if !rows.is_empty() {
        let headings =
            ["DATABASE", ">ENTRIES", ">TIPS", "PEER", ">HAS ACKNOWLEDGED", ">BEHIND IT BY", "LAST SESSION"];
        out.text(format!("\n{}", out.columns(&headings, &rows)))?;
    }
    for db in status.databases.iter().filter(|db| db.void > 0) {
        let (name, number) = (printable(&db.name), number_of(db.void, "entry", "entries"));
        let have = if db.void == 1 { "has" } else { "have" };
        out.text(format!("{number} in {name} {have} no effect (void): eid audit {name} --void"))?;
    }
    for db in status.databases.iter().filter(|db| db.stale) {
        let name = printable(&db.name);
        out.text(format!(
            "what {name} shows is stale: which entries count has changed, and is being worked in"
        ))?;
    }
    for db in status.databases.iter().filter(|db| db.undecodable > 0) {
        let (name, number) = (printable(&db.name), count(db.undecodable));
        out.text(format!("{number} operations in {name} have no effect here: an upgrade may be needed"))?;
    }
    for peer in &status.peers {
        if let Some(error) = &peer.last_error {
            let name = peer.key.map_or_else(|| "a peer not met yet".to_owned(), |key| key.short());
            out.text(format!("last attempt with {name} failed: {}", printable(error)))?;
        }
    }
    Ok(())
}

fn database(db: &DatabaseStatus) -> Value {
    let peers: Vec<Value> = db
        .peers
        .iter()
        .map(|p| {
            json!({
                "peer": p.peer.to_string(), "acknowledged": p.acknowledged, "ahead": p.ahead, "behind": p.behind,
                "last_session": p.last_session_ms,
            })
        })
        .collect();
    json!({
        "id": db.id.to_string(), "name": db.name, "entries": db.entries, "tips": db.tips,
        "undecodable": db.undecodable, "void": db.void, "stale": db.stale, "peers": peers,
    })
}
