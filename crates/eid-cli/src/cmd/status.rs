//! `eid status`.

use std::time::Duration;

use eid::{
    ConnectionState, DatabaseStatus, Direction, KeepState, Progress, SyncFailure, SyncHistoryEntry,
    SyncMetadata, SyncStatus,
};
use serde_json::{Value, json};

use crate::args::Status;
use crate::cmd::log::{People, utc};
use crate::cmd::{Context, peers};
use crate::failure::Failure;
use crate::limits::{STATUS_EVERY, WATCH_SIGN_OF_LIFE};
use crate::output::{bytes, count, number_of, printable};

/// Shows what is known; nothing that is not. With `--watch`, again each time that it has changed.
///
/// # Errors
/// When there is no such database.
pub async fn run(context: &Context, args: &Status) -> Result<(), Failure> {
    if let Some(older_ms) = args.forget_history {
        return forget_history(context, older_ms).await;
    }
    if args.history {
        return history(context, args);
    }
    let out = &context.out;
    let mut shown = None;
    let mut quiet = Duration::ZERO;
    loop {
        let status = status(context, args)?;
        let now = if out.json() {
            Shown::Value(value(context, &status)?)
        } else {
            Shown::Text(text(context, &status))
        };
        if shown.as_ref() != Some(&now) {
            match &now {
                Shown::Value(value) => out.value(value)?,
                Shown::Text(text) if args.watch => out.page(text)?,
                Shown::Text(text) => out.text(text)?,
            }
            (shown, quiet) = (Some(now), Duration::ZERO);
        }
        if !args.watch {
            return Ok(());
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            // What is known is put together when it is asked for: nothing tells of each change.
            () = tokio::time::sleep(STATUS_EVERY) => {}
        }
        quiet += STATUS_EVERY;
        if quiet >= WATCH_SIGN_OF_LIFE {
            // Whoever reads this from another process may be gone, which only writing tells.
            out.progress("watching", 0, 0)?;
            quiet = Duration::ZERO;
        }
    }
}

/// What was shown last.
#[derive(PartialEq, Eq)]
enum Shown {
    Value(Value),
    Text(String),
}

fn status(context: &Context, args: &Status) -> Result<eid::Status, Failure> {
    let mut status = context.node.status()?;
    if let Some(name) = &args.db {
        let id = context.database(name)?.id();
        status.databases.retain(|db| db.id == id);
    }
    Ok(status)
}

fn value(context: &Context, status: &eid::Status) -> Result<Value, Failure> {
    let databases =
        status.databases.iter().map(|db| database(context, db)).collect::<Result<Vec<Value>, Failure>>()?;
    let peers = status
        .peers
        .iter()
        .map(|peer| peers::whole(context, peer))
        .collect::<Result<Vec<Value>, Failure>>()?;
    let listening: Vec<String> = status.listening.iter().map(ToString::to_string).collect();
    Ok(json!({
        "device": status.device.to_string(), "name": status.name, "listening": listening,
        "databases": databases, "peers": peers,
    }))
}

fn text(context: &Context, status: &eid::Status) -> String {
    let mut lines = vec![format!("device     {}", status.device)];
    lines.extend(status.name.as_ref().map(|name| format!("name       {}", printable(name))));
    let listening: Vec<String> = status.listening.iter().map(ToString::to_string).collect();
    let listening = if listening.is_empty() { "no".to_owned() } else { listening.join(" ") };
    lines.push(format!("listening  {listening}"));
    let mut rows = Vec::new();
    for db in &status.databases {
        let first = vec![printable(&db.name), count(db.entries), db.tips.to_string()];
        rows.push([first, vec![String::new(); 5]].concat());
        for progress in &db.peers {
            let sync = &progress.sync;
            let last = sync.last_sync.map_or_else(|| "never".to_owned(), utc);
            let behind = sync.behind.map_or_else(|| "not known".to_owned(), count);
            let has = format!("{} of {}", count(sync.acknowledged), count(db.entries));
            let peer = progress.peer.short();
            let cells = vec![peer, connection(sync), has, behind, last];
            rows.push([vec![String::new(); 3], cells].concat());
        }
    }
    if !rows.is_empty() {
        let headings = [
            "DATABASE",
            ">ENTRIES",
            ">TIPS",
            "PEER",
            "CONNECTION",
            ">HAS ACKNOWLEDGED",
            ">BEHIND IT BY",
            "LAST SYNC",
        ];
        lines.push(format!("\n{}", context.out.columns(&headings, &rows)));
    }
    for db in status.databases.iter().filter(|db| db.void > 0) {
        let (name, number) = (printable(&db.name), number_of(db.void, "entry", "entries"));
        let have = if db.void == 1 { "has" } else { "have" };
        lines.push(format!("{number} in {name} {have} no effect (void): eid audit {name} --void"));
    }
    for db in status.databases.iter().filter(|db| db.stale) {
        let name = printable(&db.name);
        lines.push(format!(
            "what {name} shows is stale: which entries count has changed, and is being worked in"
        ));
    }
    for db in status.databases.iter().filter(|db| db.undecodable > 0) {
        let (name, number) = (printable(&db.name), count(db.undecodable));
        lines.push(format!("{number} operations in {name} have no effect here: an upgrade may be needed"));
    }
    for peer in &status.peers {
        if let Some(error) = &peer.last_error {
            let name = peer.key.map_or_else(|| "a peer not met yet".to_owned(), |key| key.short());
            lines.push(format!("last attempt with {name} failed: {}", printable(error)));
        }
    }
    lines.join("\n")
}

/// Whether there is a connection, in one word for programs.
pub(super) fn state(connection: ConnectionState) -> &'static str {
    match connection {
        ConnectionState::WaitingForPeer => "waiting_for_peer",
        ConnectionState::Disconnected => "disconnected",
        ConnectionState::Connecting => "connecting",
        ConnectionState::Connected => "connected",
    }
}

/// The same for people, with what is on its way.
fn connection(sync: &SyncStatus) -> String {
    if let Some(moving) = sync.transfers.first() {
        let (done, all) = (count(moving.entries), count(moving.entries_total));
        return match moving.direction {
            Direction::In => format!("fetching {done} of {all}"),
            Direction::Out => format!("sending {done} of {all}"),
        };
    }
    match (sync.connection, sync.state) {
        (ConnectionState::Connected, Some(KeepState::InStep)) => "in step".to_owned(),
        (ConnectionState::Connected, _) => "connected".to_owned(),
        (ConnectionState::Connecting, _) => "connecting".to_owned(),
        (ConnectionState::Disconnected, _) => "no".to_owned(),
        (ConnectionState::WaitingForPeer, _) => "waiting for it".to_owned(),
    }
}

fn transfer(progress: &Progress) -> Value {
    let direction = match progress.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    json!({
        "direction": direction, "entries": progress.entries, "entries_total": progress.entries_total,
        "bytes": progress.bytes,
    })
}

fn failure(error: &SyncFailure) -> Value {
    json!({"code": error.code, "message": error.text, "at": error.at_ms})
}

fn totals(sum: &SyncMetadata) -> Value {
    json!({
        "sessions": sum.sessions, "failed": sum.failed, "pulled": sum.pulled, "pushed": sum.pushed,
        "bytes_in": sum.bytes_in, "bytes_out": sum.bytes_out, "ms": sum.ms, "last_ended": sum.last_ended_ms,
    })
}

fn database(context: &Context, db: &DatabaseStatus) -> Result<Value, Failure> {
    let sums = context.node.sync().metadata_of(&db.id).map_err(eid::Error::from)?;
    let peers: Vec<Value> = db
        .peers
        .iter()
        .map(|p| {
            let sync = &p.sync;
            let tips = sync.acknowledged_tips.as_ref();
            let tips = tips.map(|tips| tips.iter().map(ToString::to_string).collect::<Vec<_>>());
            json!({
                "peer": p.peer.to_string(), "acknowledged": sync.acknowledged, "acknowledged_tips": tips,
                "ahead": sync.ahead, "behind": sync.behind, "behind_as_of": sync.behind_as_of,
                "last_sync": sync.last_sync, "connection": state(sync.connection), "attempts": sync.attempts,
                "next_attempt": sync.next_attempt, "in_step": sync.state == Some(KeepState::InStep),
                "last_error": sync.last_error.as_ref().map(failure), "has_local_data": sync.has_local_data,
                "transfers": sync.transfers.iter().map(transfer).collect::<Vec<_>>(),
                "totals": sums.get(&p.peer).map(totals),
            })
        })
        .collect();
    Ok(json!({
        "id": db.id.to_string(), "name": db.name, "entries": db.entries, "tips": db.tips,
        "undecodable": db.undecodable, "void": db.void, "stale": db.stale, "peers": peers,
    }))
}

/// The last sessions, about one database or about all.
fn history(context: &Context, args: &Status) -> Result<(), Failure> {
    let wanted = args.db.as_ref().map(|name| context.database(name)).transpose()?.map(|db| db.id());
    let mut sessions = context.node.sync().history(usize::MAX).map_err(eid::Error::from)?;
    sessions.retain(|session| wanted.is_none_or(|wanted| wanted == session.tree));
    sessions.truncate(args.limit);
    if context.out.json() {
        for session in &sessions {
            context.out.value(&session_value(session))?;
        }
        return Ok(());
    }
    if sessions.is_empty() {
        context.out.note("no session is remembered")?;
        return Ok(());
    }
    let people = People::of(context)?;
    let mut rows = Vec::new();
    for session in &sessions {
        let database = context.node.database(&session.tree.to_string())?;
        let name = database.map(|db| db.name()).transpose()?;
        let error = session.error.as_ref().map(|error| printable(&error.text));
        rows.push(vec![
            utc(session.ended_ms),
            name.map_or_else(|| session.tree.short(), |name| printable(&name)),
            people.name(&session.peer),
            session.via.as_ref().map_or_else(|| "it dialled".to_owned(), |via| printable(via.as_str())),
            count(session.pulled),
            count(session.pushed),
            bytes(session.bytes_in + session.bytes_out),
            format!("{} ms", count(session.ms)),
            error.unwrap_or_else(|| if session.complete { "all" } else { "ended early" }.to_owned()),
        ]);
    }
    let headings = ["ENDED", "DATABASE", "PEER", "VIA", ">PULLED", ">PUSHED", ">BYTES", ">TIME", "EXCHANGED"];
    Ok(context.out.text(context.out.columns(&headings, &rows))?)
}

fn session_value(session: &SyncHistoryEntry) -> Value {
    json!({
        "ended": session.ended_ms, "id": session.tree.to_string(), "peer": session.peer.to_string(),
        "via": session.via.as_ref().map(ToString::to_string), "pulled": session.pulled,
        "pushed": session.pushed, "bytes_in": session.bytes_in, "bytes_out": session.bytes_out,
        "ms": session.ms, "complete": session.complete, "error": session.error.as_ref().map(failure),
    })
}

async fn forget_history(context: &Context, older_ms: u64) -> Result<(), Failure> {
    let forgotten = context.node.forget_history(Duration::from_millis(older_ms)).await?;
    let forgotten = forgotten as u64;
    Ok(context.out.say(&json!({"forgotten": forgotten}), || {
        format!("forgot {}", number_of(forgotten, "session", "sessions"))
    })?)
}
