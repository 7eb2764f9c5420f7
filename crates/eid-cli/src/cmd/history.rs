//! `eid diff`, `eid blame`, `eid at`, `eid undo`.

use eid::{Blame, Database, Difference, EntryId, ErrorKind, Path, Value as Stored};
use serde_json::{Map, Value as Json, json};

use crate::args::{At, AtWhat, Diff, Get, Tips, Undo};
use crate::cmd::log::{People, utc};
use crate::cmd::{Context, doc};
use crate::failure::Failure;
use crate::output::{json_line, number_of, printable};

/// The entries that name a version.
fn tips(db: &Database, tips: &Tips) -> Result<Vec<EntryId>, Failure> {
    Ok(match tips {
        Tips::Now => db.tips()?,
        Tips::Entries(ids) => ids.clone(),
    })
}

/// The database is here, so what was not found is an entry.
fn no_entry(error: eid::Error, db: &str) -> Failure {
    let is_unknown = error.kind() == ErrorKind::NotFound;
    let failure = Failure::from(error);
    if is_unknown { failure.hint(format!("`eid log {}` shows the entries", printable(db))) } else { failure }
}

/// Where something lies, for programs: `path` in a document, `key` and `field` in a table.
fn place(store: &str, kind: &str, path: &Path, field: Option<&str>) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("store".to_owned(), json!(store));
    object.insert("type".to_owned(), json!(kind));
    match (kind, path.keys()) {
        ("doc", _) => drop(object.insert("path".to_owned(), json!(path.to_string()))),
        (_, [key]) => drop(object.insert("key".to_owned(), json!(key))),
        _ => {}
    }
    if let Some(field) = field {
        object.insert("field".to_owned(), json!(field));
    }
    object
}

/// Where something lies, for people.
fn place_text(kind: &str, path: &Path, field: Option<&str>) -> String {
    let path = match (kind, path.keys()) {
        ("doc", _) => path.to_string(),
        (_, keys) => keys.join("."),
    };
    let field = field.map(|field| format!(".{field}")).unwrap_or_default();
    printable(&format!("{path}{field}"))
}

fn value_text(value: &Stored) -> String {
    json_line(&Json::from(value.clone()))
}

/// Shows what differs between two versions.
///
/// # Errors
/// When there is no such database or entry.
pub fn diff(context: &Context, args: &Diff) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let (from, to) = (tips(&db, &args.from)?, tips(&db, &args.to)?);
    let mut differences = db.diff(&from, &to).map_err(|error| no_entry(error, &args.db))?;
    let mut is_first = true;
    let mut store = String::new();
    for found in differences.by_ref() {
        let found = found?;
        if args.doc_store.as_ref().is_some_and(|wanted| *wanted != found.store) {
            continue;
        }
        if context.out.json() {
            context.out.value(&difference_json(found))?;
            continue;
        }
        if is_first || store != found.store {
            let gap = if is_first { "" } else { "\n" };
            let heading =
                context.out.bold(&format!("{} ({})", printable(&found.store), printable(&found.kind)));
            context.out.text(format!("{gap}{heading}"))?;
            (is_first, store) = (false, found.store.clone());
        }
        context.out.text(difference_text(context, &found))?;
    }
    match differences.unread() {
        0 => {}
        unread => {
            let sections = number_of(unread, "write", "writes");
            context.out.note(format!("{sections} could not be looked into: sealed, or not here"))?;
        }
    }
    Ok(())
}

fn difference_json(found: Difference) -> Json {
    let mut object = place(&found.store, &found.kind, &found.path, found.field.as_deref());
    let at = found.at.map(|at| json!(at));
    let (before, after) = (found.before.map(Json::from), found.after.map(Json::from));
    for (name, value) in [("at", at), ("before", before), ("after", after)] {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    }
    Json::Object(object)
}

fn difference_text(context: &Context, found: &Difference) -> String {
    let out = &context.out;
    let at = found.at.map(|at| format!("at {at}")).unwrap_or_default();
    let place = format!("{}{at}", place_text(&found.kind, &found.path, found.field.as_deref()));
    match (found.before.as_ref().map(value_text), found.after.as_ref().map(value_text)) {
        (Some(before), Some(after)) => {
            format!("  {} {place}: {} → {}", out.bold("~"), out.bad(&before), out.good(&after))
        }
        (Some(before), None) => format!("  {}", out.bad(&format!("- {place}: {before}"))),
        (None, Some(after)) => format!("  {}", out.good(&format!("+ {place}: {after}"))),
        (None, None) => format!("  {} {place}", out.bold("~")),
    }
}

/// Shows who wrote what is at a path or in a row.
///
/// # Errors
/// Not found when nothing was ever written there.
pub fn blame(context: &Context, args: &Get) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let kind = db.kind_of(&args.doc_store)?.unwrap_or_default();
    let found = db.blame(&args.doc_store, &args.path)?;
    if found.is_empty() {
        return Err(doc::nothing_at(&args.path, &args.db));
    }
    let people = People::of(context)?;
    if context.out.json() {
        for blame in found {
            context.out.value(&blame_json(&args.doc_store, &kind, blame))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|blame| {
            vec![
                utc(blame.time.ms()),
                people.name(&blame.author),
                place_text(&kind, &blame.path, blame.field.as_deref()),
                blame.value.as_ref().map_or_else(|| "(removed)".to_owned(), value_text),
                blame.entry.to_string(),
            ]
        })
        .collect();
    context.out.text(context.out.columns(&["TIME (UTC)", "AUTHOR", "WHAT", "VALUE", "ENTRY"], &rows))?;
    Ok(())
}

fn blame_json(store: &str, kind: &str, blame: Blame) -> Json {
    let mut object = place(store, kind, &blame.path, blame.field.as_deref());
    if let Some(value) = blame.value {
        object.insert("value".to_owned(), Json::from(value));
    }
    object.insert("entry".to_owned(), json!(blame.entry.to_string()));
    object.insert("author".to_owned(), json!(blame.author.to_string()));
    object.insert("time".to_owned(), json!(blame.time.ms()));
    Json::Object(object)
}

/// Reads an older version.
///
/// # Errors
/// When there is no such database or entry, or nothing where it was to be read.
pub fn at(context: &Context, args: &At) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let version = db.at(&tips(&db, &args.tips)?).map_err(|error| no_entry(error, &args.db))?;
    let out = &context.out;
    match &args.what {
        AtWhat::Get { path, doc_store } => {
            let found = version.doc(doc_store).get(path)?.ok_or_else(|| doc::nothing_at(path, &args.db))?;
            doc::show(context, Json::from(found))
        }
        AtWhat::Row { table, key } => {
            let row: Option<Json> = version.table(table).get(key)?;
            doc::show(context, row.ok_or_else(|| doc::nothing_at(&Path::from([key.as_str()]), &args.db))?)
        }
        AtWhat::Show => {
            let ids: Vec<String> = version.tips()?.iter().map(ToString::to_string).collect();
            let hash = version.state_hash()?.map(hex);
            let stores = version.stores()?;
            let listed: Vec<Json> = stores
                .iter()
                .map(|store| json!({"name": store.name, "type": store.kind, "rows": store.rows}))
                .collect();
            let entries = version.entries()?;
            out.say(&json!({"tips": ids, "entries": entries, "state_hash": hash, "stores": listed}), || {
                let mut lines = vec![
                    format!("entries     {entries}"),
                    format!("state hash  {}", hash.as_deref().unwrap_or("unknown: payloads are missing")),
                ];
                lines.extend(ids.iter().map(|id| format!("tip         {id}")));
                lines.extend(stores.iter().map(|store| {
                    let rows = number_of(store.rows, "row", "rows");
                    format!("store       {} ({}), {rows}", printable(&store.name), printable(&store.kind))
                }));
                lines.join("\n")
            })?;
            Ok(())
        }
    }
}

/// Takes a change back.
///
/// # Errors
/// When there is no such database or entry, or no right to write.
pub async fn undo(context: &Context, args: &Undo) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let undone = match args.entry {
        Some(entry) => db.undo(entry).await.map_err(|error| no_entry(error, &args.db))?,
        None => match db.undo_last().await? {
            Some(undone) => undone,
            None => return Err(Failure::not_found("this device has changed nothing in the database")),
        },
    };
    let kept: Vec<Json> = undone
        .kept
        .iter()
        .map(|kept| {
            json!({
                "store": kept.store, "path": kept.path.to_string(), "field": kept.field,
                "by": kept.by.map(|by| by.to_string()),
            })
        })
        .collect();
    let entry = undone.by.map(|by| by.to_string());
    let answer = json!({"undone": undone.entry.to_string(), "entry": entry, "restored": undone.restored, "kept": kept});
    context.out.say(&answer, || {
        let mut lines = vec![match undone.by {
            Some(_) => format!("took back {}", number_of(undone.restored, "change", "changes")),
            None => "there was nothing left to take back".to_owned(),
        }];
        lines.extend(undone.kept.iter().map(|kept| {
            let field = kept.field.as_ref().map(|field| format!(".{field}")).unwrap_or_default();
            let place = printable(&format!("{} {}{field}", kept.store, kept.path));
            match kept.by {
                Some(_) => format!("kept {place}: it was written again since"),
                None => format!("kept {place}: it is no longer there, or cannot be taken back"),
            }
        }));
        lines.join("\n")
    })?;
    Ok(())
}

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
