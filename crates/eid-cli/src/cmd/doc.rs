//! `eid set`, `eid get`, `eid unset`, `eid incr`.

use eid::EntryId;
use serde_json::{Value as Json, json};

use crate::args::{Get, Incr, Set};
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output::printable;
use crate::value;

/// Writes a value.
///
/// # Errors
/// When the path or the right to write is wrong.
pub async fn set(context: &Context, args: &Set) -> Result<(), Failure> {
    if !args.text && value::loses_digits(&args.value) {
        return Err(Failure::input(format!(
            "the number {} is too large to be kept as it is",
            printable(&args.value)
        ))
        .hint("add --text to keep its digits as text"));
    }
    let value = if args.text { Json::String(args.value.clone()) } else { value::value(&args.value) };
    let db = context.database(&args.db)?;
    let ((), entry) = db.commit(|tx| tx.doc(&args.doc_store).set(&args.path, value)).await?;
    written(context, entry, || format!("set {}", printable(&args.path.to_string())))
}

/// Prints a value.
///
/// # Errors
/// Not found when there is none.
pub fn get(context: &Context, args: &Get) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let found = db.doc(&args.doc_store).get(&args.path)?.ok_or_else(|| nothing_at(args))?;
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
        return Err(nothing_at(args));
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
            doc.increment(&args.path, args.by)?;
            doc.get(&args.path)
        })
        .await?;
    let value = value.map_or(Json::Null, Json::from);
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

fn nothing_at(args: &Get) -> Failure {
    let (path, db) = (printable(&args.path.to_string()), printable(&args.db));
    Failure::not_found(format!("there is nothing at \"{path}\" in \"{db}\""))
        .hint(format!("`eid db show {db}` lists its stores"))
}
