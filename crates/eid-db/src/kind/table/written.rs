//! Which operations made a row what it is.

use super::{decode_row, row_key};
use crate::error::DbError;
use crate::rows::Rows;
use crate::stamp::Stamp;

/// The stamps of a row. They say which entry wrote what; they are not comparable with each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    /// The insert that makes it visible, if it is.
    pub(crate) inserted: Option<Stamp>,
    /// The last delete.
    pub(crate) deleted: Option<Stamp>,
    /// Every field that is there (`true`) or was taken away, with the operation that did so.
    pub(crate) fields: Vec<(String, Stamp, bool)>,
}

/// The stamps of a row, if it was ever written.
pub(crate) fn written(rows: &dyn Rows, key: &str) -> Result<Option<Written>, DbError> {
    let Some(bytes) = rows.get(row_key(key))? else { return Ok(None) };
    let row = decode_row(&bytes).map_err(|_| DbError::Corrupt { what: "a row of a table" })?;
    let fields = row.stamped_fields().map(|(name, stamp, value)| (name.to_owned(), *stamp, value.is_some()));
    Ok(Some(Written {
        inserted: row.inserted().copied(),
        deleted: row.deleted().copied(),
        fields: fields.collect(),
    }))
}
