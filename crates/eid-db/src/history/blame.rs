//! Who made a value what it is: read from the stamps in the view, not from the history.

use std::ops::Range;

use eid_core::dag::Seq;
use eid_core::{EntryId, PublicKey, StoreName, Time};
use eid_crdt::Value;
use eid_store::TreeSnapshot;

use super::leaves::{leaves, rows};
use crate::database::Database;
use crate::error::DbError;
use crate::kind::sequence::SequenceReader;
use crate::kind::{doc, table, text};
use crate::path::Path;

/// The write that made something what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Blame {
    /// The path in a document, or the key of a row as a path of one key.
    pub path: Path,
    /// The field of a row.
    pub field: Option<String>,
    /// The characters of a text.
    pub range: Option<Range<usize>>,
    /// What is there; nothing when the write removed it. Of a counter that many have added to, the write is the last.
    pub value: Option<Value>,
    /// The entry.
    pub entry: EntryId,
    /// Where it lies in the order of arrival here.
    pub seq: Seq,
    /// Who signed it.
    pub author: PublicKey,
    /// Its time.
    pub time: Time,
}

impl Database {
    /// Who wrote what is at a path of a document, value by value, or in a row of a table, field by field. Where nothing
    /// is any more, who removed it. Of a text, who wrote each part, whatever the path. Empty for what nobody ever wrote.
    ///
    /// # Errors
    /// [`DbError::SeveralKinds`] when the store is there in several kinds.
    pub fn blame(&self, store: &str, path: impl Into<Path>) -> Result<Vec<Blame>, DbError> {
        let path = path.into();
        let name = crate::transaction::store_name(store)?;
        let snapshot = self.snapshot()?;
        match self.kind_of(store)?.as_deref() {
            Some(text::KIND) => blame_text(self, &snapshot, &name),
            Some(doc::KIND) => blame_doc(self, &snapshot, &name, path.keys()),
            Some(table::KIND) => match path.keys() {
                [key] => blame_row(self, &snapshot, &name, key),
                [key, field] => {
                    let mut found = blame_row(self, &snapshot, &name, key)?;
                    found.retain(|blame| blame.field.as_ref() == Some(field));
                    Ok(found)
                }
                _ => Err(DbError::RowKey),
            },
            _ => Ok(Vec::new()),
        }
    }
}

fn blame(
    snapshot: &TreeSnapshot,
    path: Vec<String>,
    field: Option<String>,
    value: Option<Value>,
    seq: Seq,
) -> Result<Blame, DbError> {
    let node = snapshot.nodes(seq, 1)?.pop().ok_or(DbError::Corrupt { what: "an entry" })?;
    let entry = snapshot.id_at(seq)?;
    let range = None;
    Ok(Blame {
        path: Path::from(path),
        field,
        range,
        value,
        entry,
        seq,
        author: node.author,
        time: node.time,
    })
}

fn blame_doc(
    db: &Database,
    snapshot: &TreeSnapshot,
    store: &StoreName,
    path: &[String],
) -> Result<Vec<Blame>, DbError> {
    let rows = rows(db, snapshot, store, doc::KIND)?;
    let rows = rows.rows();
    let mut found = Vec::new();
    for (path, value) in leaves(rows, path)? {
        let by = doc::decided(rows, &path, None)?.pop().and_then(|decided| decided.by);
        if let Some(by) = by {
            found.push(blame(snapshot, path, None, Some(value), by.seq)?);
        }
    }
    if found.is_empty()
        && let Some(by) = doc::decided(rows, path, None)?.pop().and_then(|decided| decided.by)
    {
        found.push(blame(snapshot, path.to_vec(), None, None, by.seq)?);
    }
    Ok(found)
}

fn blame_text(db: &Database, snapshot: &TreeSnapshot, store: &StoreName) -> Result<Vec<Blame>, DbError> {
    let rows = rows(db, snapshot, store, text::KIND)?;
    let reader = SequenceReader::<String>::open(rows.rows(), text::PREFIX)?;
    let mut parts: Vec<(usize, Seq)> = Vec::new();
    for (count, op) in reader.blame(0..reader.len())? {
        match parts.last_mut() {
            Some((held, seq)) if *seq == op.seq => *held += count,
            _ => parts.push((count, op.seq)),
        }
    }
    let mut start = 0;
    let mut found = Vec::new();
    for (count, seq) in parts {
        let range = start..start + count;
        let part = Value::from(reader.read(range.clone())?);
        found.push(Blame { range: Some(range), ..blame(snapshot, Vec::new(), None, Some(part), seq)? });
        start += count;
    }
    Ok(found)
}

fn blame_row(
    db: &Database,
    snapshot: &TreeSnapshot,
    store: &StoreName,
    key: &str,
) -> Result<Vec<Blame>, DbError> {
    let rows = rows(db, snapshot, store, table::KIND)?;
    let rows = rows.rows();
    let Some(written) = table::written(rows, key)? else { return Ok(Vec::new()) };
    let path = || vec![key.to_owned()];
    let Some(mut fields) = table::get(rows, key)? else {
        let by = written.deleted.iter();
        return by.map(|by| blame(snapshot, path(), None, None, by.seq)).collect();
    };
    let mut found = Vec::new();
    for (name, by, _) in written.fields {
        let value = fields.remove(&name);
        found.push(blame(snapshot, path(), Some(name), value, by.seq)?);
    }
    if let (true, Some(by)) = (found.is_empty(), written.inserted) {
        found.push(blame(snapshot, path(), None, Some(Value::Map(fields)), by.seq)?);
    }
    Ok(found)
}
