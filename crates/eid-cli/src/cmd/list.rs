//! `eid list`.

use eid::{EntryId, TxList};
use serde_json::{Value as Json, json};

use crate::args::{List, ListPlace, Position};
use crate::cmd::{Context, doc};
use crate::failure::Failure;
use crate::output::{json_line, number_of, printable};
use crate::value;

/// Runs one of its sub-commands.
///
/// # Errors
/// When there is no such item, something that is no list is at the path, or the right to write is missing.
pub async fn run(context: &Context, args: &List) -> Result<(), Failure> {
    match args {
        List::Show { place } => show(context, place),
        List::Insert { place, at, value, text } => {
            let value = value::typed(value, *text)?;
            let (at, entry) = change(context, place, None, |list| {
                let at = resolved(*at, list.len()?);
                list.insert(at, value)?;
                Ok(at)
            })
            .await?;
            told(context, entry, at, "inserted an item at")
        }
        List::Set { place, at, value, text } => {
            let value = value::typed(value, *text)?;
            let (at, entry) =
                change(context, place, Some(*at), |list| list.set(*at, value).map(|()| *at)).await?;
            told(context, entry, at, "set the item at")
        }
        List::Move { place, from, to } => {
            let (to, entry) = change(context, place, Some(*from), |list| {
                // What is moved to the end stands in the last place, not behind it.
                let to = resolved(*to, list.len()?.saturating_sub(1));
                list.move_to(*from, to)?;
                Ok(to)
            })
            .await?;
            told(context, entry, to, "moved the item to")
        }
        List::Delete { place, at } => {
            let (at, entry) =
                change(context, place, Some(*at), |list| list.delete(*at).map(|()| *at)).await?;
            told(context, entry, at, "deleted the item at")
        }
    }
}

/// Changes a list, in which `item` has to be, by one entry.
async fn change(
    context: &Context,
    place: &ListPlace,
    item: Option<usize>,
    work: impl FnOnce(&TxList<'_>) -> Result<usize, eid::Error>,
) -> Result<(usize, Option<EntryId>), Failure> {
    let db = context.database(&place.db)?;
    let written = db
        .commit(|tx| {
            let doc = tx.doc(&place.doc_store);
            if let Some(other) = doc::in_the_way(&doc, &place.path)? {
                return Ok(Err(other));
            }
            let list = doc.list(&place.path);
            let len = list.len()?;
            match item.filter(|item| *item >= len) {
                Some(item) => Ok(Err(no_item(place, item, len).hint(where_items_are(place)))),
                None => work(&list).map(Ok),
            }
        })
        .await;
    let (done, entry) = written.map_err(|error| Failure::from(error).hint(where_items_are(place)))?;
    Ok((done?, entry))
}

fn no_item(place: &ListPlace, item: usize, len: usize) -> Failure {
    let path = printable(&place.path.to_string());
    let items = number_of(len as u64, "item", "items");
    Failure::not_found(format!("there is no item {item} at \"{path}\", which has {items}, the first at 0"))
}

fn where_items_are(place: &ListPlace) -> String {
    let (db, path) = (printable(&place.db), printable(&place.path.to_string()));
    format!("`eid list show {db} {path}` shows the items with their positions")
}

fn resolved(position: Position, end: usize) -> usize {
    match position {
        Position::At(at) => at,
        Position::End => end,
    }
}

fn told(context: &Context, entry: Option<EntryId>, at: usize, done: &str) -> Result<(), Failure> {
    let value = json!({"entry": entry.map(|entry| entry.to_string()), "at": at});
    context.out.say(&value, || match entry {
        Some(_) => format!("{done} {at}"),
        None => "nothing changed".to_owned(),
    })?;
    Ok(())
}

fn show(context: &Context, place: &ListPlace) -> Result<(), Failure> {
    let db = context.database(&place.db)?;
    let doc = db.doc(&place.doc_store);
    if doc.get(&place.path)?.is_none() {
        return Err(doc::nothing_at(&place.path, &place.db));
    }
    let items = doc.list(&place.path).values()?;
    let number = items.len() as u64;
    for (at, value) in items.into_iter().enumerate() {
        let value = Json::from(value);
        if context.out.json() {
            context.out.value(&json!({"at": at, "value": value}))?;
        } else {
            context.out.text(format!("{at}  {}", json_line(&value)))?;
        }
    }
    if !context.out.json() {
        context.out.note(number_of(number, "item", "items"))?;
    }
    Ok(())
}
