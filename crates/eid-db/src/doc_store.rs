//! Documents: maps in maps, whose leaves are values, lists and counts.

use eid_crdt::{DocOp, Value};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::database::Database;
use crate::error::DbError;
use crate::kind::doc;
use crate::path::Path;
use crate::rows::Rows;
use crate::transaction::Transaction;
use crate::typed::from_value;

/// A document store of a database. A cheap handle; making one reads and writes nothing.
///
/// The latest operation decides what a path is. Setting a path replaces what was there and below it; a map that is set
/// becomes paths of its own, so that concurrent changes of different keys both survive. Setting a path below a value
/// that is no map replaces that value by a map. Lists are values: the latest one counts as a whole.
#[derive(Debug, Clone)]
pub struct DocStore {
    pub(crate) db: Database,
    pub(crate) name: String,
}

/// A document store within a [`Transaction`].
#[derive(Debug)]
pub struct TxDoc<'t> {
    pub(crate) tx: &'t Transaction,
    pub(crate) name: String,
}

fn read_as<T: DeserializeOwned>(value: Option<Value>) -> Result<Option<T>, DbError> {
    value.map(from_value).transpose()
}

/// An increment needs a number, or nothing, to add to.
fn check_counts(value: Option<&Value>) -> Result<(), DbError> {
    match value {
        None | Some(Value::Int(_)) => Ok(()),
        Some(other) => Err(DbError::Type { found: other.type_name(), wanted: "integer" }),
    }
}

impl DocStore {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
        self.db.read_store(&self.name, doc::KIND, read)
    }

    /// The value at a path: a map with everything in it, if it is one.
    pub fn get(&self, path: impl Into<Path>) -> Result<Option<Value>, DbError> {
        let path = path.into();
        self.read(|rows| doc::get(rows, path.keys()))
    }

    /// The value at a path in a Rust type.
    pub fn get_as<T: DeserializeOwned>(&self, path: impl Into<Path>) -> Result<Option<T>, DbError> {
        read_as(self.get(path)?)
    }

    /// The whole document as JSON.
    pub fn get_all(&self) -> Result<Json, DbError> {
        Ok(self.get(Path::root())?.map_or(Json::Null, Json::from))
    }

    /// The keys right below a path, in order.
    pub fn keys(&self, path: impl Into<Path>) -> Result<Vec<String>, DbError> {
        let path = path.into();
        self.read(|rows| doc::keys(rows, path.keys()))
    }

    /// Sets the value at a path. One entry; waits for the disk.
    pub fn set(&self, path: impl Into<Path>, value: impl Into<Value>) -> Result<(), DbError> {
        self.db.write_blind(|tx| tx.doc(&self.name).set(path, value))
    }

    /// Deletes what is at a path and below.
    pub fn delete(&self, path: impl Into<Path>) -> Result<(), DbError> {
        self.db.write_blind(|tx| tx.doc(&self.name).delete(path))
    }

    /// Adds to the integer at a path; concurrent increments add up. Nothing there counts as 0.
    ///
    /// # Errors
    /// [`DbError::Type`] when something else is there.
    pub fn increment(&self, path: impl Into<Path>, by: i64) -> Result<(), DbError> {
        let path = path.into();
        check_counts(self.get(&path)?.as_ref())?;
        self.db
            .write_blind(|tx| tx.doc(&self.name).stage(DocOp::Increment { path: path.keys().to_vec(), by }))
    }
}

impl TxDoc<'_> {
    fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
        self.tx.read(&self.name, doc::KIND, read)
    }

    fn stage(&self, op: DocOp) -> Result<(), DbError> {
        self.tx.stage(&self.name, doc::KIND, doc::encode_checked(&op)?)
    }

    /// The value at a path, as the transaction has left it.
    pub fn get(&self, path: impl Into<Path>) -> Result<Option<Value>, DbError> {
        let path = path.into();
        self.read(|rows| doc::get(rows, path.keys()))
    }

    /// The value at a path in a Rust type.
    pub fn get_as<T: DeserializeOwned>(&self, path: impl Into<Path>) -> Result<Option<T>, DbError> {
        read_as(self.get(path)?)
    }

    /// The keys right below a path, in order.
    pub fn keys(&self, path: impl Into<Path>) -> Result<Vec<String>, DbError> {
        let path = path.into();
        self.read(|rows| doc::keys(rows, path.keys()))
    }

    /// Sets the value at a path.
    pub fn set(&self, path: impl Into<Path>, value: impl Into<Value>) -> Result<(), DbError> {
        self.stage(DocOp::Set { path: path.into().keys().to_vec(), value: value.into() })
    }

    /// Deletes what is at a path and below.
    pub fn delete(&self, path: impl Into<Path>) -> Result<(), DbError> {
        self.stage(DocOp::Delete { path: path.into().keys().to_vec() })
    }

    /// Adds to the integer at a path. Reads it, and so pins the transaction.
    ///
    /// # Errors
    /// [`DbError::Type`] when something else is there.
    pub fn increment(&self, path: impl Into<Path>, by: i64) -> Result<(), DbError> {
        let path = path.into();
        check_counts(self.get(&path)?.as_ref())?;
        self.stage(DocOp::Increment { path: path.keys().to_vec(), by })
    }
}
