//! Which entries were taken back: a document of the database's own, with a path for each of them.
//!
//! ```text
//! _undone   entry id -> true
//! ```
//! The entry that takes another back sets its path, and being taken back itself, takes that back like whatever else it
//! wrote. So everybody sees that an entry was taken back, and does not do so again, which counters and texts would not
//! bear: two that do so without having met both count.

use eid_core::dag::Seq;
use eid_core::{EntryId, StoreName};
use eid_crdt::{DocOp, Value};

use crate::error::DbError;
use crate::kind::doc;
use crate::transaction::Transaction;

/// The name of the store.
pub(crate) const STORE: &str = "_undone";

/// What was said about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Nothing,
    TakenBack(EntryId),
    /// It was taken back, and that was taken back by this entry.
    DoneAgain(Seq, EntryId),
}

fn path(entry: EntryId) -> Vec<String> {
    vec![entry.to_string()]
}

/// What is said about an entry.
pub(super) fn read(tx: &Transaction, entry: EntryId) -> Result<Mark, DbError> {
    let path = path(entry);
    let found = tx.read(STORE, doc::KIND, |rows| {
        let last = doc::decided(rows, &path, None)?.pop().and_then(|decided| decided.last);
        let Some(last) = last else { return Ok(None) };
        Ok(Some((doc::get(rows, &path)? == Some(Value::Bool(true)), last.seq, rows.id_of(last.seq)?)))
    })?;
    Ok(match found {
        None => Mark::Nothing,
        Some((true, _, by)) => Mark::TakenBack(by),
        Some((false, seq, by)) => Mark::DoneAgain(seq, by),
    })
}

/// Says that an entry is taken back.
pub(super) fn stage(tx: &Transaction, entry: EntryId) -> Result<(), DbError> {
    let op = DocOp::Set { path: path(entry), value: Value::Bool(true) };
    tx.stage_in(store()?, doc::KIND, doc::encode_checked(&op)?)
}

/// The store itself.
pub(super) fn store() -> Result<StoreName, DbError> {
    StoreName::new(STORE).map_err(|_| DbError::StoreName { name: STORE.to_owned() })
}
