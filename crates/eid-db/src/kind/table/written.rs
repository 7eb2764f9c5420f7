//! Which operations made a row what it is.

use super::{row, row_key};
use crate::error::DbError;
use crate::rows::Rows;
use crate::stamp::{Stamp, resolve};

/// The stamps of a row. They say which entry wrote what; they are not comparable with each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    /// The insert that makes it visible, if it is.
    pub(crate) inserted: Option<Stamp>,
    /// The last delete.
    pub(crate) deleted: Option<Stamp>,
    /// Every field that is there (`true`) or was taken away, with the operation that did so.
    pub(crate) fields: Vec<(String, Stamp, bool)>,
    /// What set a field, whatever was added to it or edited in it since.
    pub(crate) sets: Vec<(String, Stamp)>,
}

/// The stamps of a row, if it was ever written.
pub(crate) fn written(rows: &dyn Rows, key: &str) -> Result<Option<Written>, DbError> {
    let Some(bytes) = rows.get(row_key(key))? else { return Ok(None) };
    let mut row = row::decode(&bytes).map_err(row::damaged)?;
    // Which is the last of several things done to one field.
    let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
    resolve(&mut stamps, |seq| rows.id_of(seq))?;
    let row = row.state;
    let fields =
        row.fields().filter_map(|(name, field)| Some((name.to_owned(), *field.last()?, field.is_shown())));
    let sets = row.fields().filter_map(|(name, field)| Some((name.to_owned(), *field.set.stamp()?)));
    let sets = sets.collect();
    Ok(Some(Written {
        sets,
        inserted: row.inserted().copied(),
        deleted: row.deleted().copied(),
        fields: fields.collect(),
    }))
}

/// Whether an increment of a field adds to what is there.
pub(crate) fn counts(rows: &dyn Rows, key: &str, field: &str, mut stamp: Stamp) -> Result<bool, DbError> {
    let Some(bytes) = rows.get(row_key(key))? else { return Ok(false) };
    let mut row = row::decode(&bytes).map_err(row::damaged)?;
    let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
    stamps.push(&mut stamp);
    resolve(&mut stamps, |seq| rows.id_of(seq))?;
    let is_count = row.is_count(field)?;
    Ok(is_count && row.state.is_visible() && Some(&stamp) > row.state.field_floor(field))
}
