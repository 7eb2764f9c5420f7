//! `eid db`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use eid::{SecretKey, TreeId};
use serde_json::{Value, json};

use crate::args::Db;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output::{bytes, count, printable};

/// Runs one of its sub-commands.
///
/// # Errors
/// Whatever the sub-command fails with.
pub async fn run(context: &Context, args: &Db) -> Result<(), Failure> {
    match args {
        Db::Create { name, recovery_file } => create(context, name, recovery_file.as_deref()).await,
        Db::List => list(context),
        Db::Show { db } => show(context, db),
        Db::Rename { db, name } => {
            let db = context.database(db)?;
            let mut others = namesakes(context, name)?;
            others.retain(|other| *other != db.id());
            context.node.rename_database(&db, name).await?;
            let id = db.id().to_string();
            context
                .out
                .say(&json!({"id": id, "name": name}), || format!("renamed to {}", printable(name)))?;
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            warn_of(context, name, &others, &id)
        }
        Db::Title { db, text } => {
            let db = context.database(db)?;
            let entry = db.set_title(text).await?;
            context.out.say(&json!({"entry": entry.to_string()}), || "the title is set".to_owned())?;
            Ok(())
        }
        Db::Forget { db } => {
            let db = context.database(db)?;
            let id = db.id().to_string();
            context.node.forget_database(&db).await?;
            context.out.say(&json!({"id": id, "forgotten": true}), || format!("forgot {id}"))?;
            Ok(())
        }
    }
}

async fn create(context: &Context, name: &str, recovery_file: Option<&Path>) -> Result<(), Failure> {
    let others: Vec<String> = namesakes(context, name)?.iter().map(ToString::to_string).collect();
    // The file comes first: a database whose recovery key could not be kept must not come into being.
    let mut file = match recovery_file {
        None => None,
        Some(typed) => {
            let path = context.path(typed);
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let opened = opened.map_err(|cause| {
                Failure::io(format!("cannot create {}", path.display()), &cause)
                    .hint("name a file that does not exist yet, in a directory that does")
            })?;
            Some((opened, path))
        }
    };
    let created = match &context.user {
        Some(user) => user.create_database_with_recovery(name).await,
        None => context.node.create_database_with_recovery(name).await,
    };
    let (db, recovery) = match created {
        Ok(created) => created,
        Err(error) => {
            if let Some((_, path)) = &file {
                std::fs::remove_file(path)
                    .map_err(|cause| Failure::io(format!("cannot remove {}", path.display()), &cause))?;
            }
            return Err(error.into());
        }
    };
    let id = db.id().to_string();
    let secret = recovery_text(&recovery);
    if let Some((file, path)) = &mut file {
        file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(|cause| {
            Failure::io(format!("cannot write {}; the recovery key is lost", path.display()), &cause)
        })?;
        let value = json!({"id": id, "name": name, "recovery": null});
        let shown = path.display().to_string();
        context.out.say(&value, || {
            format!("created {} {id}\nThe recovery key is in {shown}: keep it safe.", printable(name))
        })?;
        return warn_of(context, name, &others, &id);
    }
    let value = json!({"id": id, "name": name, "recovery": secret});
    context.out.say(&value, || {
        format!(
            "created {} {id}\nRecovery key (shown this once; with it you stay the owner when all devices are lost):\n  {secret}",
            printable(name)
        )
    })?;
    warn_of(context, name, &others, &id)
}

/// Tells that a name is of no use alone any more.
fn warn_of(context: &Context, name: &str, others: &[String], id: &str) -> Result<(), Failure> {
    if others.is_empty() {
        return Ok(());
    }
    let (name, others) = (printable(name), others.join(", "));
    context.out.note(format!(
        "warning: \"{name}\" is the name of another database here too ({others}), so neither is found by it: use \
         their ids, or give this one another name: eid db rename {id} NAME"
    ))?;
    Ok(())
}

/// The databases here that have this name.
fn namesakes(context: &Context, name: &str) -> Result<Vec<TreeId>, Failure> {
    let mut found = Vec::new();
    for db in context.node.databases()? {
        if db.name()? == name {
            found.push(db.id());
        }
    }
    Ok(found)
}

/// `ed25519-secret:` and the seed in hexadecimal digits.
fn recovery_text(key: &SecretKey) -> String {
    format!("ed25519-secret:{}", hex(&*key.to_seed()))
}

fn list(context: &Context) -> Result<(), Failure> {
    let all = context.node.databases()?;
    let mut rows = Vec::new();
    for db in all {
        let (id, entries) = (db.id().to_string(), db.entries()?);
        let (name, title) = (db.name()?, db.title()?);
        if context.out.json() {
            context.out.value(&json!({"id": id, "name": name, "title": title, "entries": entries}))?;
        } else {
            rows.push(vec![printable(&name), printable(title.as_deref().unwrap_or("")), count(entries), id]);
        }
    }
    if !context.out.json() {
        if rows.is_empty() {
            context.out.note("no databases yet; `eid db create NAME` makes one")?;
        } else {
            context.out.text(context.out.columns(&["NAME", "TITLE", ">ENTRIES", "ID"], &rows))?;
        }
    }
    Ok(())
}

fn show(context: &Context, named: &str) -> Result<(), Failure> {
    let db = context.database(named)?;
    let id = db.id().to_string();
    let tips: Vec<String> = db.tips()?.iter().map(ToString::to_string).collect();
    let state = db.state_hash()?.map(|hash| hex(&hash));
    let (name, entries, height, size) = (db.name()?, db.entries()?, db.height()?.0, db.bytes()?);
    let stores = db.stores()?;
    if context.out.json() {
        let stores: Vec<Value> =
            stores.iter().map(|s| json!({"name": s.name, "type": s.kind, "rows": s.rows})).collect();
        context.out.value(&json!({
            "id": id, "name": name, "title": db.title()?, "entries": entries, "tips": tips, "height": height,
            "state_hash": state, "stores": stores, "bytes": size,
        }))?;
        return Ok(());
    }
    let out = &context.out;
    out.text(format!("{} {}", out.bold(&printable(&name)), out.dim(&id)))?;
    if let Some(title) = db.title()?.filter(|title| *title != name) {
        out.text(format!("title    {}", printable(&title)))?;
    }
    out.text(format!("entries  {} ({})", count(entries), bytes(size)))?;
    out.text(format!("height   {}", count(height)))?;
    out.text(format!("tips     {}", tips.join("\n         ")))?;
    out.text(format!("state    {}", state.as_deref().unwrap_or("not known: payloads are missing")))?;
    let rows: Vec<Vec<String>> =
        stores.iter().map(|s| vec![printable(&s.name), printable(&s.kind), count(s.rows)]).collect();
    if !rows.is_empty() {
        out.text(out.columns(&["STORE", "TYPE", ">ROWS"], &rows))?;
    }
    Ok(())
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}
