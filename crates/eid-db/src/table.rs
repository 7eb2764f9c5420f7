//! Tables: rows by key, whose fields merge one by one.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::Bound;

use eid_crdt::{Integer, Value};
use eid_store::Direction;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::database::Database;
use crate::error::DbError;
use crate::field::{FieldKind, Splice, splices};
use crate::kind::sequence;
use crate::kind::table::{self, Fields, Flow, Held};
use crate::limits::ROW_FIELDS_MAX;
use crate::query::Query;
use crate::rows::{Nothing, Rows};
use crate::text::{Location, TextHandle, TxText};
use crate::transaction::Transaction;
use crate::typed::{Row, from_row, to_row};

/// A table of a database, whose rows are of one Rust type that serde knows as a struct or map. A cheap handle; making
/// one reads and writes nothing.
///
/// With `serde_json::Value` as the type it holds any rows, see [`RawTable`].
pub struct Table<T> {
    pub(crate) db: Database,
    pub(crate) name: String,
    pub(crate) rows: PhantomData<fn() -> T>,
}

/// A table whose rows are JSON objects.
pub type RawTable = Table<Json>;

/// A table within a [`Transaction`].
pub struct TxTable<'t, T> {
    pub(crate) tx: &'t Transaction,
    pub(crate) name: String,
    pub(crate) rows: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("db", &self.db.id()).field("name", &self.name).finish()
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), name: self.name.clone(), rows: PhantomData }
    }
}

impl<T> std::fmt::Debug for TxTable<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxTable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The fields of a row.
fn to_fields<T: Serialize>(row: &T) -> Result<Row, DbError> {
    let row = to_row(row)?;
    table::check_fields(row.fields.keys()).map(|()| row)
}

/// A page of rows, in the order of their keys.
fn page<T: DeserializeOwned>(
    rows: &dyn Rows,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, T)>, DbError> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    table::scan(rows, (from, Bound::Unbounded), Direction::Forward, limit, &mut |key, fields| {
        let row = from_row(&key, fields)?;
        found.push((key, row));
        Ok(if found.len() == limit { Flow::Stop } else { Flow::Continue })
    })?;
    Ok(found)
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
        self.db.read_store(&self.name, table::KIND, read)
    }

    /// The row with this key.
    pub fn get(&self, key: &str) -> Result<Option<T>, DbError> {
        self.read(|rows| table::get(rows, key)?.map(|fields| from_row(key, fields)).transpose())
    }

    /// The rows with these keys, in the order of the keys, from one moment.
    pub fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<T>>, DbError> {
        self.read(|rows| get_many(rows, keys))
    }

    /// Whether there is a row with this key.
    pub fn contains(&self, key: &str) -> Result<bool, DbError> {
        self.read(|rows| table::contains(rows, key))
    }

    /// A field that counts, to be added to without reading the row.
    #[must_use]
    pub fn counter(&self, key: &str, field: &str) -> CounterField<T> {
        CounterField { table: self.clone(), key: key.to_owned(), field: field.to_owned() }
    }

    /// A field that is a text, to be read and edited without the rest of the row. One that is absent or empty begins as
    /// a text with the first edit.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`]; [`DbError::Type`] when the field holds something else, which may be a text that is one
    /// value: an update with the type [`crate::Text`] makes it one that is edited.
    pub fn text_field(&self, key: &str, field: &str) -> Result<TextHandle, DbError> {
        self.read(|rows| table::check_text(rows, key, field))?;
        let location = Location::field(key, field);
        Ok(TextHandle { db: self.db.clone(), name: self.name.clone(), location })
    }

    /// Up to `limit` rows in the order of their keys, beginning after a key: the last one of the page before.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, T)>, DbError> {
        self.read(|rows| page(rows, after, limit))
    }

    /// Calls `each` with the rows of a range of keys, in order; it ends them by returning `false`. Memory does not
    /// grow with the table.
    pub fn scan(
        &self,
        range: (Bound<&str>, Bound<&str>),
        mut each: impl FnMut(String, T) -> Result<bool, DbError>,
    ) -> Result<(), DbError> {
        self.read(|rows| {
            table::scan(rows, range, Direction::Forward, usize::MAX, &mut |key, fields| {
                let row = from_row(&key, fields)?;
                Ok(if each(key, row)? { Flow::Continue } else { Flow::Stop })
            })
        })
    }

    /// How many rows there are. Reads none of them.
    pub fn count(&self) -> Result<u64, DbError> {
        self.read(table::row_count)
    }

    /// Begins a query.
    pub fn query(&self) -> Query<T> {
        Query::new(self.clone())
    }

    /// Adds a row and gives its key, which is made: keys made later sort later. One entry; waits for the disk.
    pub fn insert(&self, row: &T) -> Result<String, DbError> {
        self.db.write_blind(|tx| tx.table(&self.name).insert(row))
    }

    /// Adds a row under a key of one's own. Where one is already, the fields are merged into it.
    pub fn insert_as(&self, key: &str, row: &T) -> Result<(), DbError> {
        self.db.write_blind(|tx| tx.table(&self.name).insert_as(key, row))
    }

    /// Adds rows in one entry and gives their keys.
    pub fn insert_many<'r>(&self, rows: impl IntoIterator<Item = &'r T>) -> Result<Vec<String>, DbError>
    where
        T: 'r,
    {
        self.db.write_blind(|tx| {
            let table = tx.table(&self.name);
            rows.into_iter().map(|row| table.insert(row)).collect()
        })
    }

    /// Adds rows under keys of one's own in one entry.
    pub fn insert_many_as<'r>(
        &self,
        rows: impl IntoIterator<Item = (impl AsRef<str>, &'r T)>,
    ) -> Result<(), DbError>
    where
        T: 'r,
    {
        self.db.write_blind(|tx| {
            let table = tx.table(&self.name);
            rows.into_iter().try_for_each(|(key, row)| table.insert_as(key.as_ref(), row))
        })
    }

    /// Puts a row in the place of what is there: writes only what differs.
    pub fn put(&self, key: &str, row: &T) -> Result<(), DbError> {
        self.db.write(|tx| tx.table(&self.name).put(key, row))
    }

    /// Changes a row: writes only the fields that differ afterwards.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`].
    pub fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), DbError> {
        self.db.write(|tx| tx.table(&self.name).update(key, change))
    }

    /// Deletes a row. Deleting what is not there is not an error.
    pub fn delete(&self, key: &str) -> Result<(), DbError> {
        self.db.write_blind(|tx| tx.table::<T>(&self.name).delete(key))
    }
}

/// A field of a row that counts: what several add at once adds up.
pub struct CounterField<T> {
    table: Table<T>,
    key: String,
    field: String,
}

impl<T> std::fmt::Debug for CounterField<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("CounterField");
        f.field("table", &self.table).field("key", &self.key).field("field", &self.field).finish()
    }
}

impl<T: Serialize + DeserializeOwned> CounterField<T> {
    /// The count; nothing where the field is not.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`]; [`DbError::Type`] when the field is no integer.
    pub fn get(&self) -> Result<Option<Integer>, DbError> {
        self.table.read(|rows| count_of(rows, &self.key, &self.field))
    }

    /// Adds; a negative number takes away. One entry; waits for the disk.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`]; [`DbError::Type`] when the field is no integer.
    pub fn add(&self, by: i64) -> Result<(), DbError> {
        self.get()?;
        let table =
            |tx: &Transaction| tx.table::<T>(&self.table.name).stage_increment(&self.key, &self.field, by);
        self.table.db.write_blind(table)
    }
}

fn count_of(rows: &dyn Rows, key: &str, field: &str) -> Result<Option<Integer>, DbError> {
    let fields = table::get(rows, key)?.ok_or_else(|| DbError::NoSuchRow { key: key.to_owned() })?;
    match fields.get(field) {
        None => Ok(None),
        Some(Value::Int(count)) => Ok(Some(*count)),
        Some(other) => Err(DbError::Type { found: other.type_name(), wanted: "integer" }),
    }
}

fn get_many<T: DeserializeOwned>(rows: &dyn Rows, keys: &[&str]) -> Result<Vec<Option<T>>, DbError> {
    let held = table::get_many(rows, keys)?;
    let typed =
        keys.iter().zip(held).map(|(key, fields)| fields.map(|fields| from_row(key, fields)).transpose());
    typed.collect()
}

impl<T: Serialize + DeserializeOwned> TxTable<'_, T> {
    pub(crate) fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> Result<R, DbError>) -> Result<R, DbError> {
        self.tx.read(&self.name, table::KIND, read)
    }

    fn stage(&self, op: bytes::Bytes) -> Result<(), DbError> {
        self.tx.stage(&self.name, table::KIND, op)
    }

    /// The row with this key, as the transaction has left it.
    pub fn get(&self, key: &str) -> Result<Option<T>, DbError> {
        self.read(|rows| table::get(rows, key)?.map(|fields| from_row(key, fields)).transpose())
    }

    /// Up to `limit` rows in the order of their keys, beginning after a key.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, T)>, DbError> {
        self.read(|rows| page(rows, after, limit))
    }

    /// Adds a row and gives its key, which is made.
    pub fn insert(&self, row: &T) -> Result<String, DbError> {
        let key = self.tx.database().instance().fresh_key();
        self.insert_as(&key, row)?;
        Ok(key)
    }

    /// Adds a row under a key of one's own. Where one is already, the fields are merged into it.
    pub fn insert_as(&self, key: &str, row: &T) -> Result<(), DbError> {
        table::check_key(key)?;
        let Row { mut fields, kinds } = to_fields(row)?;
        let mut texts = Vec::new();
        for (name, kind) in kinds {
            if let (FieldKind::Text, Some(Value::Text(text))) = (kind, fields.get_mut(&name)) {
                let text = std::mem::take(text);
                if !text.is_empty() {
                    texts.push((name, text));
                }
            }
        }
        self.stage(table::encode_insert(key, &fields))?;
        for (name, text) in texts {
            let edits = sequence::insert_edits(&Nothing, &table::text_prefix(key, &name), 0, text)?;
            self.stage(table::encode_edit(key, &name, &edits))?;
        }
        Ok(())
    }

    /// The rows with these keys, in the order of the keys.
    pub fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<T>>, DbError> {
        self.read(|rows| get_many(rows, keys))
    }

    /// Whether there is a row with this key.
    pub fn contains(&self, key: &str) -> Result<bool, DbError> {
        self.read(|rows| table::contains(rows, key))
    }

    /// How many rows there are.
    pub fn count(&self) -> Result<u64, DbError> {
        self.read(table::row_count)
    }

    /// Puts a row in the place of what is there: writes only what differs.
    pub fn put(&self, key: &str, row: &T) -> Result<(), DbError> {
        table::check_key(key)?;
        match self.read(|rows| table::held(rows, key))? {
            Some(held) => {
                let before = held.fields.clone();
                self.stage_difference(key, &held, &before, to_fields(row)?)
            }
            None => self.insert_as(key, row),
        }
    }

    /// Changes a row: writes only the fields that differ afterwards; of counters and texts, what was added and edited.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`].
    pub fn update(&self, key: &str, change: impl FnOnce(&mut T)) -> Result<(), DbError> {
        let held = self.read(|rows| table::held(rows, key))?;
        let held = held.ok_or_else(|| DbError::NoSuchRow { key: key.to_owned() })?;
        let mut row: T = from_row(key, held.fields.clone())?;
        // Fields that the type does not know are not its own to take away.
        let before = to_fields(&row)?;
        change(&mut row);
        self.stage_difference(key, &held, &before.fields, to_fields(&row)?)
    }

    /// A field that is a text. The same holds as for [`Table::text_field`].
    pub fn text_field(&self, key: &str, field: &str) -> Result<TxText<'_>, DbError> {
        self.read(|rows| table::check_text(rows, key, field))?;
        Ok(TxText { tx: self.tx, name: self.name.clone(), location: Location::field(key, field) })
    }

    /// Adds to a field that counts.
    ///
    /// # Errors
    /// [`DbError::NoSuchRow`]; [`DbError::Type`] when the field is no integer.
    pub fn add(&self, key: &str, field: &str, by: i64) -> Result<(), DbError> {
        self.read(|rows| count_of(rows, key, field))?;
        self.stage_increment(key, field, by)
    }

    fn stage_increment(&self, key: &str, field: &str, by: i64) -> Result<(), DbError> {
        table::check_key(key)?;
        table::check_fields([field.to_owned()].iter())?;
        self.stage(table::encode_increment(key, field, by))
    }

    /// Stages what leads from `before`, which is what the row shows as the type of the rows sees it, to `wanted`.
    fn stage_difference(&self, key: &str, held: &Held, before: &Fields, wanted: Row) -> Result<(), DbError> {
        let mut set = Fields::new();
        let mut counts: Vec<(String, i64)> = Vec::new();
        let mut texts: Vec<(String, Vec<Splice>)> = Vec::new();
        let mut begun: Vec<String> = Vec::new();
        let unset: BTreeSet<String> =
            before.keys().filter(|name| !wanted.fields.contains_key(*name)).cloned().collect();
        for (name, value) in wanted.fields {
            let old = before.get(&name);
            if old == Some(&value) {
                continue;
            }
            let shown = held.fields.get(&name);
            let kind = held.kinds.get(&name).or_else(|| wanted.kinds.get(&name));
            match (kind, shown, value) {
                (Some(FieldKind::Counter), Some(Value::Int(shown)), Value::Int(count)) => {
                    match i64::try_from(count.get() - shown.get()) {
                        Ok(by) => counts.push((name, by)),
                        Err(_) => drop(set.insert(name, Value::Int(count))),
                    }
                }
                // What begins here and elsewhere at once adds up, and both texts stay.
                (Some(FieldKind::Counter), None, Value::Int(count)) => match i64::try_from(count.get()) {
                    Ok(by) => counts.push((name, by)),
                    Err(_) => drop(set.insert(name, Value::Int(count))),
                },
                (Some(FieldKind::Text), None, Value::Text(text)) if text.is_empty() => begun.push(name),
                (Some(FieldKind::Text), None, Value::Text(text)) => {
                    texts.push((name, splices("", &text)));
                }
                (Some(FieldKind::Text), Some(Value::Text(shown)), Value::Text(text))
                    if held.kinds.contains_key(&name) || shown.is_empty() =>
                {
                    texts.push((name, splices(shown, &text)));
                }
                // What was something else becomes a text: of those who do that at once, one counts.
                (Some(FieldKind::Text), _, Value::Text(text)) => {
                    texts.push((name.clone(), splices("", &text)));
                    set.insert(name, Value::Text(String::new()));
                }
                (_, _, value) => drop(set.insert(name, value)),
            }
        }
        let names = || {
            let merging = counts.iter().map(|(name, _)| name).chain(texts.iter().map(|(name, _)| name));
            set.keys().chain(merging).chain(&begun)
        };
        let added = names().filter(|name| !held.fields.contains_key(*name)).collect::<BTreeSet<_>>().len();
        if added > 0 && held.taken + added > ROW_FIELDS_MAX {
            return Err(DbError::NotARow { found: "one with more fields" });
        }
        // A row may have grown beyond what one operation can name.
        table::check_fields(unset.iter())?;
        if !(set.is_empty() && unset.is_empty()) {
            self.stage(table::encode_update(key, &set, &unset))?;
        }
        for (name, by) in counts {
            self.stage(table::encode_increment(key, &name, by))?;
        }
        for name in &begun {
            self.stage(table::encode_begin_text(key, name))?;
        }
        for (name, splices) in texts {
            let prefix = table::text_prefix(key, &name);
            // They do not overlap, so each says what it does to the text as it was.
            let edits = self.read(|rows| {
                let edits = splices.into_iter().map(|splice| {
                    sequence::splice_edits(rows, &prefix, splice.at, splice.delete, splice.insert)
                });
                edits.collect::<Result<Vec<_>, _>>()
            })?;
            edits.iter().try_for_each(|edits| self.stage(table::encode_edit(key, &name, edits)))?;
        }
        Ok(())
    }

    /// Deletes a row.
    pub fn delete(&self, key: &str) -> Result<(), DbError> {
        table::check_key(key)?;
        self.stage(table::encode_delete(key))
    }
}
