//! Stores of two versions side by side.

use std::collections::BTreeMap;

use eid_core::{Entry, Payload, StoreName};
use eid_crdt::Value;
use eid_store::TreeSnapshot;

use crate::database::Database;
use crate::error::DbError;
use crate::kind::doc::{self, Form};
use crate::kind::{table, text};
use crate::rows::{Base, Rows, Stored};

/// A kind whose stores can be compared.
pub(super) fn comparable(kind: &str) -> Option<&'static str> {
    [doc::KIND, table::KIND, text::KIND].into_iter().find(|known| *known == kind)
}

/// What an entry wrote to one of its stores, as far as it can be read here.
pub(super) fn payload(db: &Database, entry: &Entry, section: usize) -> Option<Payload> {
    match entry.header().sections[section].enc {
        None => Payload::decode(entry.payloads()[section].as_ref()?).ok(),
        Some(_) => db.open_section(entry, section),
    }
}

/// The rows of a store in a version. One that was not there then has none.
pub(super) fn rows(
    db: &Database,
    version: &TreeSnapshot,
    store: &StoreName,
    kind: &'static str,
) -> Result<Base, DbError> {
    if db.is_encrypted_in(version, store)? {
        return db.rows_in(version, store, kind);
    }
    Ok(Base::Stored(Stored::new(version.clone(), store, kind)))
}

/// The values of a document by their paths.
pub(super) type Leaves = BTreeMap<Vec<String>, Value>;

/// The values at a path and below.
pub(super) fn leaves(rows: &dyn Rows, path: &[String]) -> Result<Leaves, DbError> {
    let mut found = Leaves::new();
    doc::walk(rows, path, &mut |leaf| {
        found.insert(leaf.path, leaf.value);
        Ok(())
    })?;
    Ok(found)
}

/// How much of a path has to be looked at to see everything that a write to it changes: all of it, unless a value that
/// is no map stands, or stood, on the way.
pub(super) fn affected<'p>(versions: [&dyn Rows; 2], path: &'p [String]) -> Result<&'p [String], DbError> {
    let mut depth = path.len();
    for rows in versions {
        let chain = doc::decided(rows, path, None)?;
        let leaf = chain.iter().position(|decided| decided.form == Form::Leaf);
        depth = leaf.map_or(depth, |index| depth.min(index + 1));
    }
    Ok(&path[..depth])
}
