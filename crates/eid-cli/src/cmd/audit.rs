//! `eid audit` and `eid accept`.

use eid::{EntryId, EntryStanding, KeyMode, SettingsOp, Slot};
use serde_json::{Value, json};

use crate::args::{Accept, Audit};
use crate::cmd::Context;
use crate::cmd::keys::{slot_text, stronger};
use crate::cmd::log::{People, utc};
use crate::failure::Failure;
use crate::output::{number_of, printable};

/// Lists who changed which right, or what has no effect and why.
///
/// # Errors
/// When there is no such database.
pub fn audit(context: &Context, args: &Audit) -> Result<(), Failure> {
    if args.void { void(context, args) } else { changes(context, args) }
}

fn changes(context: &Context, args: &Audit) -> Result<(), Failure> {
    let (db, out) = (context.database(&args.db)?, &context.out);
    let people = People::of(context)?;
    let page = db.audit(args.from, args.limit)?;
    for change in &page {
        let reason = change.void.as_ref().map(ToString::to_string);
        if out.json() {
            let changes: Vec<Value> = change.changes.iter().map(op_json).collect();
            out.value(&json!({
                "entry": change.id.to_string(), "place": change.seq.0, "time": change.time.ms(),
                "author": change.author.to_string(), "changes": changes, "void": reason.is_some(), "reason": reason,
            }))?;
            continue;
        }
        out.text(heading(context, (change.time.ms(), &people.name(&change.author)), &change.id))?;
        for op in &change.changes {
            out.text(format!("  {}", op_text(op)))?;
        }
        if let Some(reason) = reason {
            out.text(format!("  {}", out.bad(&reason)))?;
        }
    }
    let next = page.last().filter(|_| page.len() == args.limit).map(|last| last.seq.0 + 1);
    more(context, args, next)
}

fn void(context: &Context, args: &Audit) -> Result<(), Failure> {
    let (db, out) = (context.database(&args.db)?, &context.out);
    let people = People::of(context)?;
    let page = db.void_entries(args.from, args.limit)?;
    for entry in &page {
        let reason = entry.why.to_string();
        if out.json() {
            out.value(&json!({
                "entry": entry.id.to_string(), "place": entry.seq.0, "time": entry.time.ms(),
                "author": entry.author.to_string(), "stores": entry.stores, "reason": reason,
            }))?;
            continue;
        }
        out.text(heading(context, (entry.time.ms(), &people.name(&entry.author)), &entry.id))?;
        out.text(format!("  {}", printable(&entry.stores.join(" "))))?;
        out.text(format!("  {}", out.bad(&reason)))?;
    }
    if page.is_empty() && !out.json() {
        out.note("every entry counts")?;
    } else if !out.json() {
        out.note(format!(
            "an admin lets entries count again with: eid accept {} ENTRY...",
            printable(&args.db)
        ))?;
    }
    let next = page.last().filter(|_| page.len() == args.limit).map(|last| last.seq.0 + 1);
    more(context, args, next)
}

fn heading(context: &Context, (time_ms, author): (u64, &str), id: &EntryId) -> String {
    let out = &context.out;
    format!("{}  {}  {}", utc(time_ms), out.bold(author), out.dim(&id.to_string()))
}

/// Says how to go on when there may be more.
fn more(context: &Context, args: &Audit, next: Option<u64>) -> Result<(), Failure> {
    if let Some(next) = next {
        let void = if args.void { " --void" } else { "" };
        let db = printable(&args.db);
        context.out.note(format!("there may be more: eid audit {db}{void} --from {next}"))?;
    }
    Ok(())
}

fn op_json(op: &SettingsOp) -> Value {
    match op {
        SettingsOp::Rules(rules) => json!({"op": "rules", "rules": rules}),
        SettingsOp::Set { slot, permission } => {
            json!({"op": "grant", "key": slot_text(slot), "permission": permission.to_string()})
        }
        SettingsOp::Revoke { slot, mode } => {
            let (mode, fence) = match mode {
                KeyMode::Leave => ("leave", None),
                KeyMode::Remove { fence } => ("remove", fence.as_ref()),
            };
            let fence: Option<Vec<String>> = fence.map(|ids| ids.iter().map(ToString::to_string).collect());
            match slot {
                Slot::Invite(key) => {
                    json!({"op": "withdraw", "invite": key.to_string(), "mode": mode, "fence": fence})
                }
                _ => json!({"op": "revoke", "key": slot_text(slot), "mode": mode, "fence": fence}),
            }
        }
        SettingsOp::Accept(ids) => {
            json!({"op": "accept", "entries": ids.iter().map(ToString::to_string).collect::<Vec<_>>()})
        }
        SettingsOp::Title(title) => json!({"op": "title", "title": title}),
        SettingsOp::Invite { key, permission, expires_ms } => json!({
            "op": "invite", "invite": key.to_string(), "permission": permission.to_string(), "expires_ms": expires_ms
        }),
        SettingsOp::Join { invite, permission, .. } => {
            json!({"op": "join", "invite": invite.to_string(), "permission": permission.to_string()})
        }
    }
}

fn op_text(op: &SettingsOp) -> String {
    match op {
        SettingsOp::Rules(rules) => format!("rules {rules}"),
        SettingsOp::Set { slot, permission } => format!("grant {} {permission}", slot_text(slot)),
        SettingsOp::Revoke { slot, mode: KeyMode::Leave } => {
            format!("revoke {}, keeping what it wrote", slot_text(slot))
        }
        SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence: None } } => {
            format!("revoke {}, with what it wrote that the author had not seen", slot_text(slot))
        }
        SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence: Some(ids) } } => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("revoke {}, with what {} do not descend from", slot_text(slot), ids.join(" "))
        }
        SettingsOp::Accept(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("accept {}", ids.join(" "))
        }
        SettingsOp::Title(title) => format!("title {}", printable(title)),
        SettingsOp::Invite { key, permission, .. } => format!("invite {key} {permission}"),
        SettingsOp::Join { invite, permission, .. } => format!("join by the invite {invite}: {permission}"),
    }
}

/// Lets void entries count again.
///
/// # Errors
/// When one is not here or counts already, or whoever acts is no admin.
pub async fn accept(context: &Context, args: &Accept) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let written = db.accept(&args.entries).await.map_err(|error| {
        let hint = format!("`eid audit {} --void` lists what does not count", printable(&args.db));
        if error.kind() == eid::ErrorKind::Forbidden {
            stronger(error)
        } else {
            Failure::from(error).hint(hint)
        }
    })?;
    let mut still_void = Vec::new();
    for id in &args.entries {
        if let EntryStanding::Void(why) = db.standing(id)? {
            context.out.note(format!("{id} is still {why}"))?;
            still_void.push(id.to_string());
        }
    }
    let counted = args.entries.len() - still_void.len();
    let ids = |ids: &[EntryId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let answer = json!({"accepted": ids(&args.entries), "entries": ids(&written), "still_void": still_void});
    context.out.say(&answer, || {
        format!(
            "{} {} again",
            number_of(counted as u64, "entry", "entries"),
            if counted == 1 { "counts" } else { "count" }
        )
    })?;
    Ok(())
}
