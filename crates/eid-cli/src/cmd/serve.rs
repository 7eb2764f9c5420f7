//! `eid serve`.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use eid::control::{self, Control, Secret};
use eid::{
    Address, Bandwidth, Delivered, ErrorKind, Http, HttpBounds, Instance, SessionReport, SyncEvent, User,
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Cli, Serve};
use crate::cmd::{peers, requests, sync};
use crate::failure::Failure;
use crate::limits::{EVENTS_WAITING, OWNER_POLL, OWNER_WAIT, STOP_WAIT};
use crate::output::{Out, count, printable};
use crate::owner::Place;
use crate::passwords;
use crate::run::NodeCommands;

/// Runs the node until it is told to stop.
///
/// # Errors
/// When the data directory is taken, or the address cannot be listened on.
pub async fn run(cli: &Cli, args: &Serve, place: &Place, out: &Out) -> Result<(), Failure> {
    let broken = |cause| Failure::io("cannot wait for signals", &cause);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let passwords = passwords::read(cli)?;
    let node = open(place).await?;
    let ready = match log_in(cli, &node, &passwords).await {
        Ok(user) => start(args, place, &node, out).await.map(|control| (control, user)),
        Err(failure) => Err(failure),
    };
    // Invites of a user are honoured, and what the user wrote is pushed, for as long as the login lasts.
    let (control, _user) = match ready {
        Ok(ready) => ready,
        Err(failure) => {
            node.close().await?;
            return Err(failure);
        }
    };
    let events = Events::start(out.clone());
    let mut subscription = node.events();
    // What is written here is with the peers that are known at once, and the other way round.
    let _in_step = node.keep_peers_in_step();
    loop {
        tokio::select! {
            event = subscription.recv() => match event {
                // What a session comes to is an event of its own.
                Some(Delivered::Event(SyncEvent::Progress(_))) => {}
                Some(event) => events.send(event),
                None => break,
            },
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    out.note("stopping")?;
    control.stop(STOP_WAIT).await;
    tokio::time::timeout(STOP_WAIT, node.close()).await.map_err(|_| {
        Failure::new(
            crate::failure::Exit::Failed,
            "timed_out",
            "sessions did not end in time; nothing is lost",
        )
    })??;
    Ok(())
}

/// Logs in for as long as the node runs.
async fn log_in(cli: &Cli, node: &Instance, passwords: &[Secret]) -> Result<Option<User>, Failure> {
    let Some(name) = &cli.global.user else { return Ok(None) };
    let password = passwords.first().and_then(Secret::as_password);
    Ok(Some(node.login(name, password).await?))
}

/// A one-shot command may have the store open: wait for it. Another node does not go away: say so at once.
async fn open(place: &Place) -> Result<Instance, Failure> {
    let deadline = Instant::now() + OWNER_WAIT;
    loop {
        match place.open().await {
            Ok(node) => return Ok(node),
            Err(error) if error.kind() == ErrorKind::Locked => {
                if control::is_served(&place.data) {
                    let what = format!("another node serves {} already", place.data.display());
                    return Err(Failure::new(crate::failure::Exit::Failed, "locked", what).hint(
                        "commands on this directory reach it by themselves; or use another one with --data",
                    ));
                }
                if Instant::now() >= deadline {
                    return Err(error.into());
                }
                tokio::time::sleep(OWNER_POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn start(args: &Serve, place: &Place, node: &Instance, out: &Out) -> Result<Control, Failure> {
    let mut ways = Ways::default();
    node.set_bandwidth(Bandwidth { total: args.rate, per_peer: args.peer_rate });
    if let Some(address) = &args.http {
        ways.http = node.listen(Http::on(address).bounds(bounds(args))).await?.into_iter().next();
    }
    #[cfg(feature = "quic")]
    if let Some(address) = &args.quic {
        ways.quic = node.listen(eid::Quic::on(address)).await?.into_iter().next();
    }
    #[cfg(feature = "iroh")]
    if let Some(socket) = args.iroh {
        ways.iroh = node.listen(iroh(args, socket)).await?.into_iter().next();
    }
    let control = control::serve(node, &place.data, Arc::new(NodeCommands))?;
    let told = tell_ready(node, &ways, out);
    if let Err(failure) = told {
        control.stop(Duration::ZERO).await;
        return Err(failure);
    }
    Ok(control)
}

/// Each device has a channel of its own, and some connections.
fn bounds(args: &Serve) -> HttpBounds {
    let mut bounds = HttpBounds::default();
    if let Some(devices) = args.per_address {
        let each = bounds.connections_per_address_max / bounds.channels_per_address_max;
        bounds.channels_per_address_max = devices as usize;
        bounds.connections_per_address_max = devices as usize * each;
    }
    bounds
}

/// Where others reach the node.
#[derive(Default)]
struct Ways {
    http: Option<Address>,
    quic: Option<Address>,
    iroh: Option<Address>,
}

#[cfg(feature = "iroh")]
fn iroh(args: &Serve, socket: Option<std::net::SocketAddr>) -> eid::Iroh {
    let iroh = eid::Iroh::over(args.relay.clone());
    let iroh = if args.mdns { iroh.find_locally() } else { iroh };
    match socket {
        Some(socket) => iroh.on(socket),
        None => iroh,
    }
}

fn tell_ready(node: &Instance, ways: &Ways, out: &Out) -> Result<(), Failure> {
    let device = node.device().to_string();
    let text = |way: &Option<Address>| way.as_ref().map(ToString::to_string);
    let ready = json!({
        "event": "ready", "device": device, "http": text(&ways.http), "quic": text(&ways.quic),
        "iroh": text(&ways.iroh), "admin": null,
    });
    out.say(&ready, || {
        let open: Vec<String> = [&ways.http, &ways.quic, &ways.iroh].into_iter().filter_map(text).collect();
        if open.is_empty() {
            return format!("serving this directory as {device}; --http ADDR lets other devices in");
        }
        format!("serving {} as {device}", open.join(" and "))
    })?;
    Ok(())
}

/// Prints events on a thread of its own: a reader that is slow is never waited for.
struct Events {
    queue: SyncSender<Delivered>,
    skipped: std::cell::Cell<u64>,
}

impl Events {
    fn start(out: Out) -> Self {
        let (queue, waiting) = sync_channel::<Delivered>(EVENTS_WAITING);
        std::thread::spawn(move || {
            for event in waiting {
                if out.say(&object(&event), || line(&event)).is_err() {
                    tracing::debug!("nobody reads the events");
                }
            }
        });
        Self { queue, skipped: std::cell::Cell::new(0) }
    }

    fn send(&self, event: Delivered) {
        let skipped = self.skipped.get();
        if skipped > 0 && self.queue.try_send(Delivered::Lagged(skipped)).is_ok() {
            self.skipped.set(0);
        }
        if self.queue.try_send(event).is_err() {
            self.skipped.set(self.skipped.get() + 1);
        }
    }
}

/// An event as `--json` shows it.
fn object(event: &Delivered) -> Value {
    match event {
        Delivered::Lagged(count) => json!({"event": "skipped", "count": count}),
        Delivered::Event(SyncEvent::Connected { peer, name, via }) => json!({
            "event": "connected", "peer": peer.to_string(), "name": name, "via": via.as_ref().map(ToString::to_string),
        }),
        Delivered::Event(SyncEvent::Disconnected { peer }) => {
            json!({"event": "disconnected", "peer": peer.to_string()})
        }
        Delivered::Event(SyncEvent::Progress(progress)) => json!({
            "event": "progress", "id": progress.tree.to_string(), "entries": progress.entries,
            "entries_total": progress.entries_total,
        }),
        Delivered::Event(SyncEvent::Session(report)) => {
            json!({"event": "session", "session": sync::report(report)})
        }
        Delivered::Event(SyncEvent::Failed { report, error, .. }) => {
            json!({"event": "failed", "session": sync::report(report), "error": error})
        }
        Delivered::Event(SyncEvent::InStep { peer, tree }) => {
            json!({"event": "in_step", "id": tree.to_string(), "peer": peer.to_string()})
        }
        Delivered::Event(SyncEvent::OutOfStep { peer, tree }) => {
            json!({"event": "out_of_step", "id": tree.to_string(), "peer": peer.to_string()})
        }
        Delivered::Event(SyncEvent::Arrived { peer, tree, admitted, duplicates, refused }) => json!({
            "event": "arrived", "id": tree.to_string(), "peer": peer.to_string(), "entries": admitted,
            "duplicates": duplicates, "refused": refused,
        }),
        Delivered::Event(SyncEvent::Incompatible { ours, theirs }) => json!({
            "event": "incompatible", "versions": [ours.oldest, ours.newest],
            "their_versions": [theirs.oldest, theirs.newest],
        }),
        Delivered::Event(SyncEvent::Redeemed { tree, joiner }) => {
            json!({"event": "joined", "id": tree.to_string(), "key": joiner.to_string()})
        }
        Delivered::Event(SyncEvent::Requested { request, tree, key, name, permission }) => json!({
            "event": "requested", "request_id": request.to_string(), "id": tree.to_string(), "key": key.to_string(),
            "name": name, "permission": requests::wants(*permission),
        }),
        Delivered::Event(SyncEvent::Answered { tree, permission }) => json!({
            "event": "answered", "id": tree.to_string(),
            "status": if permission.is_some() { "joined" } else { "rejected" },
            "permission": permission.map(|permission| permission.to_string()),
        }),
        Delivered::Event(SyncEvent::Status { peer, status }) => {
            json!({"event": "peer", "peer": peer.to_string(), "status": peers::state(*status)})
        }
    }
}

/// An event for people.
fn line(event: &Delivered) -> String {
    let session = |r: &SessionReport| {
        let tree = r.tree.map_or_else(String::new, |tree| tree.short());
        format!(
            "{} with {}: {} in, {} out, {} ms",
            tree,
            r.peer.short(),
            count(r.pulled),
            count(r.pushed),
            r.ms
        )
    };
    match event {
        Delivered::Lagged(count) => format!("{count} events were skipped"),
        Delivered::Event(SyncEvent::Connected { peer, name, .. }) => {
            format!("connected  {} {}", peer.short(), printable(name))
        }
        Delivered::Event(SyncEvent::Disconnected { peer }) => format!("gone       {}", peer.short()),
        Delivered::Event(SyncEvent::Progress(progress)) => format!(
            "progress   {}: {} of {}",
            progress.tree.short(),
            count(progress.entries),
            count(progress.entries_total)
        ),
        Delivered::Event(SyncEvent::Session(report)) => format!("session    {}", session(report)),
        Delivered::Event(SyncEvent::Failed { report, error, .. }) => {
            format!("failed     {}: {}", session(report), printable(error))
        }
        Delivered::Event(SyncEvent::InStep { peer, tree }) => {
            format!("in step    {} with {}", tree.short(), peer.short())
        }
        Delivered::Event(SyncEvent::OutOfStep { peer, tree }) => {
            format!("behind     {} with {}", tree.short(), peer.short())
        }
        Delivered::Event(SyncEvent::Arrived { peer, tree, admitted, .. }) => {
            format!("arrived    {} from {}: {} in", tree.short(), peer.short(), count(*admitted))
        }
        Delivered::Event(SyncEvent::Incompatible { ours, theirs }) => format!(
            "left       somebody who speaks versions {} to {}, and this node {} to {}",
            theirs.oldest, theirs.newest, ours.oldest, ours.newest
        ),
        Delivered::Event(SyncEvent::Redeemed { tree, joiner }) => {
            format!("joined     {} by {}", tree.short(), joiner.short())
        }
        Delivered::Event(SyncEvent::Requested { request, tree, key, name, permission }) => format!(
            "asks       {} {} for {} in {}: eid requests approve {}",
            key.short(),
            printable(name),
            requests::wants(*permission),
            tree.short(),
            &request.to_string()[..8]
        ),
        Delivered::Event(SyncEvent::Answered { tree, permission }) => match permission {
            Some(permission) => format!("joined     {} to {permission}", tree.short()),
            None => format!("rejected   {}", tree.short()),
        },
        Delivered::Event(SyncEvent::Status { peer, status }) => {
            format!("peer       {} is {} from now on", peer.short(), peers::state(*status))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Command;

    #[test]
    fn more_devices_of_one_address_have_their_connections_too() {
        let of = |more: &[&str]| {
            let cli =
                Cli::try_parse_from([&["eid", "serve", "--http", "127.0.0.1:0"], more].concat()).unwrap();
            let Command::Serve(args) = cli.command else { panic!("serve") };
            let bounds = bounds(&args);
            (bounds.channels_per_address_max, bounds.connections_per_address_max)
        };
        assert_eq!(of(&[]), (32, 256));
        assert_eq!(of(&["--per-address", "200"]), (200, 1_600));
        assert!(Cli::try_parse_from(["eid", "serve", "--per-address", "200"]).is_err());
    }
}
