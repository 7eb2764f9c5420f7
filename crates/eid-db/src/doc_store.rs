//! Documents: maps in maps, whose leaves are values, lists and counts.

use eid_crdt::Value;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::database::Database;
use crate::error::DbError;
use crate::kind::doc::{self, DocOp, Found};
use crate::path::Path;
use crate::rows::Rows;
use crate::transaction::Transaction;
use crate::typed::from_value;

/// A document store of a database. A cheap handle; making one reads and writes nothing.
///
/// The latest operation decides what a path is. Setting a path replaces what was there and below it; a map that is set
/// becomes paths of its own, so that concurrent changes of different keys both survive. Setting a path below a value
/// that is neither map nor list replaces that value by a map. A list that is set replaces the one that was there, and
/// from then on its items merge one by one: see [`DocStore::list`].
///
/// A text that is taken as a path has its keys parted by dots, or is a JSON pointer: see [`Path`]. To read, a path may
/// go on into a list, by index: `todos.0.title`. To write, items are named by [`DocStore::list`].
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
fn check_counts(rows: &dyn Rows, path: &[String]) -> Result<(), DbError> {
    let wanted = "integer";
    match doc::find(rows, path)? {
        Found::Nothing { .. } => Ok(()),
        Found::Scalar { depth, type_name } if depth < path.len() || type_name == wanted => Ok(()),
        Found::Scalar { type_name, .. } => Err(DbError::Type { found: type_name, wanted }),
        Found::List { depth, .. } if depth < path.len() => Err(INTO_LIST),
        Found::List { .. } => Err(DbError::Type { found: "list", wanted }),
        // A map that nobody set is nothing when nothing is in it.
        Found::Map if path.is_empty() => Err(DbError::Path),
        Found::Map => match doc::get(rows, path)? {
            Some(_) => Err(DbError::Type { found: "map", wanted }),
            None => Ok(()),
        },
    }
}

const INTO_LIST: DbError = DbError::Type { found: "list", wanted: "map" };

/// A path to be written ends before, or at, a list: going on into it would replace the list by a map.
fn check_enters(rows: &dyn Rows, path: &[String]) -> Result<(), DbError> {
    match doc::find(rows, path)? {
        Found::List { depth, .. } if depth < path.len() => Err(INTO_LIST),
        _ => Ok(()),
    }
}

impl DocStore {
    /// The database that it belongs to.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
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
    pub fn to_json(&self) -> Result<Json, DbError> {
        Ok(self.get(Path::root())?.map_or(Json::Null, Json::from))
    }

    /// The keys right below a path, in order.
    pub fn keys(&self, path: impl Into<Path>) -> Result<Vec<String>, DbError> {
        let path = path.into();
        self.read(|rows| doc::keys(rows, path.keys()))
    }

    /// A path of one key cannot lead into a list, and most writes need not read.
    fn check_enters(&self, path: &Path) -> Result<(), DbError> {
        if path.keys().len() < 2 { Ok(()) } else { self.read(|rows| check_enters(rows, path.keys())) }
    }

    /// Sets the value at a path. One entry; waits for the disk.
    ///
    /// # Errors
    /// [`DbError::Type`] when the path leads into a list.
    pub fn set(&self, path: impl Into<Path>, value: impl Into<Value>) -> Result<(), DbError> {
        let path = path.into();
        self.check_enters(&path)?;
        let op = DocOp::Set { path: path.keys().to_vec(), value: value.into() };
        self.db.write_blind(|tx| tx.doc(&self.name).stage(op))
    }

    /// Deletes what is at a path and below.
    ///
    /// # Errors
    /// [`DbError::Type`] when the path leads into a list.
    pub fn delete(&self, path: impl Into<Path>) -> Result<(), DbError> {
        let path = path.into();
        self.check_enters(&path)?;
        let op = DocOp::Delete { path: path.keys().to_vec() };
        self.db.write_blind(|tx| tx.doc(&self.name).stage(op))
    }

    /// Adds to the integer at a path; concurrent increments add up. Nothing there counts as 0.
    ///
    /// # Errors
    /// [`DbError::Type`] when something else is there.
    pub fn increment(&self, path: impl Into<Path>, by: i64) -> Result<(), DbError> {
        let path = path.into();
        self.read(|rows| check_counts(rows, path.keys()))?;
        self.db
            .write_blind(|tx| tx.doc(&self.name).stage(DocOp::Increment { path: path.keys().to_vec(), by }))
    }
}

impl TxDoc<'_> {
    pub(crate) fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
        self.tx.read(&self.name, doc::KIND, read)
    }

    pub(crate) fn stage(&self, op: DocOp) -> Result<(), DbError> {
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

    /// A path with a key that could be an index, and only such a path, is looked up, which pins the transaction.
    fn check_enters(&self, path: &Path) -> Result<(), DbError> {
        let keys = path.keys();
        let could_enter = keys.iter().skip(1).any(|key| doc::index(key).is_some());
        if could_enter { self.read(|rows| check_enters(rows, keys)) } else { Ok(()) }
    }

    /// Sets the value at a path. Below a list the latest write decides: the list becomes a map.
    ///
    /// # Errors
    /// [`DbError::Type`] when the path names an item of a list. Telling that takes a look, and so pins the transaction,
    /// when a key after the first is a number; nothing else is read.
    pub fn set(&self, path: impl Into<Path>, value: impl Into<Value>) -> Result<(), DbError> {
        let path = path.into();
        self.check_enters(&path)?;
        self.stage(DocOp::Set { path: path.keys().to_vec(), value: value.into() })
    }

    /// Deletes what is at a path and below. For paths with numbers the same holds as for [`Self::set`].
    ///
    /// # Errors
    /// [`DbError::Type`] when the path names an item of a list.
    pub fn delete(&self, path: impl Into<Path>) -> Result<(), DbError> {
        let path = path.into();
        self.check_enters(&path)?;
        self.stage(DocOp::Delete { path: path.keys().to_vec() })
    }

    /// Adds to the integer at a path. Reads it, and so pins the transaction.
    ///
    /// # Errors
    /// [`DbError::Type`] when something else is there.
    pub fn increment(&self, path: impl Into<Path>, by: i64) -> Result<(), DbError> {
        let path = path.into();
        self.read(|rows| check_counts(rows, path.keys()))?;
        self.stage(DocOp::Increment { path: path.keys().to_vec(), by })
    }
}
