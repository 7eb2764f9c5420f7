//! `eid keys`.

use eid::{Database, KeyMode, Permission, Slot};
use serde_json::json;

use crate::args::Keys;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output::printable;

/// Runs one of its sub-commands.
///
/// # Errors
/// Whatever the sub-command fails with.
pub async fn run(context: &Context, args: &Keys) -> Result<(), Failure> {
    match args {
        Keys::List { db } => list(context, &context.database(db)?),
        Keys::Grant { db, key, permission } => {
            let db = context.database(db)?;
            let slot = slot(key)?;
            let permission = parse_permission(context, &db, &slot, permission)?;
            let entry = db.grant(slot, permission).await?;
            let value = json!({"key": key, "permission": permission.to_string(), "entry": entry.to_string()});
            context.out.say(&value, || format!("{key} has {permission} now"))?;
            Ok(())
        }
        Keys::Revoke { db, key, leave, own } => {
            let db = context.database(db)?;
            if !own && context.is_own(&slot(key)?)? {
                let whose = context.whose();
                return Err(Failure::usage(format!(
                    "this is {whose} own key: revoked, it can write no more"
                ))
                .hint("add --own if that is meant; another admin can grant it again"));
            }
            let mode = if *leave { KeyMode::Leave } else { KeyMode::Remove { fence: None } };
            let entry = db.revoke(slot(key)?, mode).await?;
            context
                .out
                .say(&json!({"key": key, "entry": entry.to_string()}), || format!("{key} is revoked"))?;
            Ok(())
        }
    }
}

fn list(context: &Context, db: &Database) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for key in db.keys()? {
        let text = match key.slot {
            Slot::Key(key) => key.to_string(),
            Slot::Everyone => "*".to_owned(),
        };
        let own = context.is_own(&key.slot)?;
        let permission = key.permission.map(|permission| permission.to_string());
        let status = if permission.is_some() { "active" } else { "revoked" };
        if context.out.json() {
            context
                .out
                .value(&json!({"key": text, "permission": permission, "status": status, "own": own}))?;
        } else {
            let mark = match &context.user {
                _ if !own => String::new(),
                Some(user) => printable(user.name()),
                None => "this device".to_owned(),
            };
            rows.push(vec![text, permission.unwrap_or_default(), status.to_owned(), mark]);
        }
    }
    if !context.out.json() {
        context.out.text(context.out.columns(&["KEY", "PERMISSION", "STATUS", ""], &rows))?;
    }
    Ok(())
}

fn slot(text: &str) -> Result<Slot, Failure> {
    if text == "*" {
        return Ok(Slot::Everyone);
    }
    text.parse().map(Slot::Key).map_err(|error| {
        Failure::usage(format!("\"{}\" is not a key: {error}", printable(text)))
            .hint("`eid init` prints a device's key; `*` means everyone")
    })
}

/// `admin` alone is one level below that of whoever acts, and so never meant for an own key.
fn parse_permission(
    context: &Context,
    db: &Database,
    slot: &Slot,
    text: &str,
) -> Result<Permission, Failure> {
    if *slot == Slot::Everyone && (text == "admin" || text.starts_with("admin:")) {
        return Err(Failure::usage("everyone cannot be an admin")
            .hint("give `*` relay, read or write, and name the keys that are to be admins"));
    }
    if text == "admin" {
        if context.is_own(slot)? {
            let whose = context.whose();
            return Err(Failure::usage(format!(
                "this is {whose} own key, and `admin` without a level would weaken it"
            ))
            .hint("`eid keys list DB` shows its level; write `admin:LEVEL` if another one is meant"));
        }
        let own = db.permission(&[db.author_key()?])?.and_then(Permission::level);
        return Ok(Permission::Admin(own.map_or(1, |level| level.saturating_add(1))));
    }
    text.parse().map_err(|error| Failure::usage(format!("\"{}\": {error}", printable(text))))
}
