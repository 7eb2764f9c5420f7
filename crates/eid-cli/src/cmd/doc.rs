//! `eid set`, `eid get`, `eid unset`, `eid incr`.

use eid::{EntryId, Path, TxDoc};
use serde_json::{Value as Json, json};

use crate::args::{Get, Incr, Set};
use crate::cmd::Context;
use crate::failure::{Exit, Failure};
use crate::output::{number_of, printable};
use crate::value;

/// Writes a value.
///
/// # Errors
/// When the path or the right to write is wrong.
pub async fn set(context: &Context, args: &Set) -> Result<(), Failure> {
    let value = value::typed(&args.value, args.text)?;
    let db = context.database(&args.db)?;
    let (before, entry) = db
        .commit(|tx| {
            let doc = tx.doc(&args.doc_store);
            if let Some(other) = in_the_way(&doc, &args.path)? {
                return Ok(Err(other));
            }
            let before = doc.get(&args.path)?;
            doc.set(&args.path, value)?;
            Ok(Ok(before))
        })
        .await?;
    let path = printable(&args.path.to_string());
    match before?.map(Json::from) {
        Some(Json::Object(map)) if !map.is_empty() => {
            let keys = number_of(map.len() as u64, "key", "keys");
            context.out.note(format!("note: this replaced a map of {keys} at {path}"))?;
        }
        Some(Json::Array(list)) if !list.is_empty() => {
            let items = number_of(list.len() as u64, "item", "items");
            context.out.note(format!("note: this replaced a list of {items} at {path}"))?;
        }
        _ => {}
    }
    written(context, entry, || format!("set {path}"))
}

/// What stands on the way to a path and is no map: writing below would put a map in its place.
pub(super) fn in_the_way(doc: &TxDoc<'_>, path: &Path) -> Result<Option<Failure>, eid::Error> {
    let keys = path.keys();
    for end in (1..keys.len()).rev() {
        let above = Path::from(keys[..end].to_vec());
        let kind = match doc.get(&above)?.map(Json::from) {
            None => continue,
            // What lies above a map is one too, or an item of a list, of which the database takes care.
            Some(Json::Object(_)) => return Ok(None),
            Some(Json::Array(_)) => {
                let above = printable(&above.to_string());
                let message =
                    format!("there is a list at \"{above}\", which only whole items are written to");
                let hint = format!("`eid list set DB {above} AT VALUE` changes an item");
                return Ok(Some(Failure::new(Exit::Failed, "invalid_value", message).hint(hint)));
            }
            Some(Json::String(_)) => "text",
            Some(Json::Number(_)) => "number",
            Some(Json::Bool(_)) => "truth value",
            Some(Json::Null) => "null",
        };
        let above = printable(&above.to_string());
        let message = format!("there is a {kind} at \"{above}\", so nothing can be below it");
        return Ok(Some(
            Failure::new(Exit::Failed, "invalid_value", message)
                .hint(format!("`eid unset DB {above}` takes it away")),
        ));
    }
    Ok(None)
}

/// Prints a value.
///
/// # Errors
/// Not found when there is none.
pub fn get(context: &Context, args: &Get) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let found = db.doc(&args.doc_store).get(&args.path)?.ok_or_else(|| nothing_at(&args.path, &args.db))?;
    show(context, Json::from(found))
}

/// Prints a value: text as it is, everything else as JSON.
pub(super) fn show(context: &Context, value: Json) -> Result<(), Failure> {
    match value {
        found if context.out.json() => context.out.value(&found)?,
        Json::String(text) => context.out.data(&text)?,
        found @ (Json::Array(_) | Json::Object(_)) => context.out.data(&format!("{found:#}"))?,
        found => context.out.data(&found.to_string())?,
    }
    Ok(())
}

/// Deletes a value.
///
/// # Errors
/// Not found when there is none.
pub async fn unset(context: &Context, args: &Get) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    if db.doc(&args.doc_store).get(&args.path)?.is_none() {
        return Err(nothing_at(&args.path, &args.db));
    }
    let ((), entry) = db.commit(|tx| tx.doc(&args.doc_store).delete(&args.path)).await?;
    written(context, entry, || format!("deleted {}", printable(&args.path.to_string())))
}

/// Adds to a counter.
///
/// # Errors
/// When something else is at the path.
pub async fn incr(context: &Context, args: &Incr) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let (value, entry) = db
        .commit(|tx| {
            let doc = tx.doc(&args.doc_store);
            if let Some(other) = in_the_way(&doc, &args.path)? {
                return Ok(Err(other));
            }
            doc.increment(&args.path, args.by)?;
            doc.get(&args.path).map(Ok)
        })
        .await?;
    let value = value?.map_or(Json::Null, Json::from);
    let entry = entry.map(|entry| entry.to_string());
    context.out.say(&json!({"entry": entry, "value": value}), || value.to_string())?;
    Ok(())
}

/// Tells which entry came of a write; none when nothing changed.
pub(super) fn written(
    context: &Context,
    entry: Option<EntryId>,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let entry = entry.map(|entry| entry.to_string());
    context.out.say(&json!({"entry": entry}), text)?;
    Ok(())
}

pub(super) fn nothing_at(path: &Path, db: &str) -> Failure {
    let (path, db) = (printable(&path.to_string()), printable(db));
    Failure::not_found(format!("there is nothing at \"{path}\" in \"{db}\""))
        .hint(format!("`eid db show {db}` lists its stores"))
}
