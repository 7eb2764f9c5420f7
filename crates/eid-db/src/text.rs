//! Texts that many edit at once: read and edited by positions, told of as small changes.
//!
//! Positions count Unicode scalar values. What is stored is a sequence of runs in chunks, so that reading or editing a
//! part touches the chunks of that part.

mod cursor;
mod diff;
mod edit;
mod observe;
mod pending;
pub(crate) mod rope;
mod window;

use std::ops::Range;

use bytes::Bytes;
use eid_core::dag::Replica as _;
use eid_store::{Key, TreeSnapshot};

use crate::database::Database;
use crate::error::DbError;
use crate::kind::sequence::{self, Edits, SequenceReader};
use crate::kind::table::Detail;
use crate::kind::{table, text};
use crate::rows::Rows;
use crate::transaction::Transaction;
pub(crate) use diff::differences;
use eid_crdt::RowOp;
use pending::Replacement;

pub use cursor::{ParseTextCursorError, TextCursor};
pub use edit::{EditPolicy, PendingFlush, TextEdit};
pub use eid_crdt::sequence::Side;
pub use observe::{Observed, TextChange, TextChanges};

/// A text of a database. A cheap handle; making one reads and writes nothing.
///
/// Each write is one entry, made on what is here, and waits for the disk; [`TextHandle::edit`] gives a buffer that
/// makes one entry of many edits.
#[derive(Debug, Clone)]
pub struct TextHandle {
    pub(crate) db: Database,
    pub(crate) name: String,
    pub(crate) location: Location,
}

/// A text within a [`Transaction`].
#[derive(Debug)]
pub struct TxText<'t> {
    pub(crate) tx: &'t Transaction,
    pub(crate) name: String,
    pub(crate) location: Location,
}

/// Where in its store a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// The store is the text.
    Store,
    /// A field of a row of a table.
    Field {
        /// The key of the row.
        key: String,
        /// The name of the field.
        field: String,
        /// Under which keys of the table's view it is.
        prefix: Key,
    },
}

/// A change of a text, against the text right before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextDelta {
    /// Characters appeared.
    Insert {
        /// How many characters are before them.
        at: usize,
        /// The characters.
        text: String,
    },
    /// Characters disappeared.
    Delete {
        /// How many characters are before them.
        at: usize,
        /// How many.
        count: usize,
    },
}

impl TextDelta {
    /// Where a position is after the change: with its neighbour on that side.
    #[must_use]
    pub fn carry(&self, position: usize, side: Side) -> usize {
        match self {
            Self::Insert { at, text } if *at < position || (*at == position && side == Side::Right) => {
                position + text.chars().count()
            }
            Self::Delete { at, count } if *at < position => position - (*count).min(position - at),
            Self::Insert { .. } | Self::Delete { .. } => position,
        }
    }
}

/// What an operation of the store does to a text.
enum Told {
    Nothing,
    Edits(Edits<String>),
    /// Something that cannot be told as edits.
    Unclear,
}

impl Location {
    /// A field of a row of a table.
    pub(crate) fn field(key: &str, field: &str) -> Self {
        Self::Field { key: key.to_owned(), field: field.to_owned(), prefix: table::text_prefix(key, field) }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Store => text::KIND,
            Self::Field { .. } => table::KIND,
        }
    }

    /// Under which keys of the store's view the text is.
    fn prefix(&self) -> &[u8] {
        match self {
            Self::Store => text::PREFIX,
            Self::Field { prefix, .. } => prefix,
        }
    }

    fn encode(&self, edits: &Edits<String>) -> Bytes {
        match self {
            Self::Store => text::encode(edits),
            Self::Field { key, field, .. } => table::encode_edit(key, field, edits),
        }
    }

    fn told(&self, op: &Bytes) -> Told {
        match self {
            Self::Store => text::decode(op).map_or(Told::Nothing, Told::Edits),
            Self::Field { key, field, .. } => match table::decode(op) {
                Ok(op) if op.key == *key => match (op.op, op.detail) {
                    (RowOp::Edit(edited), Detail::Edits(edits)) if edited == *field => Told::Edits(edits),
                    (RowOp::Edit(_) | RowOp::Count(_), _) => Told::Nothing,
                    (RowOp::Update(fields), _) if !fields.contains_key(field) => Told::Nothing,
                    // Whatever writes the field or the whole row may hide what was put in before.
                    _ => Told::Unclear,
                },
                _ => Told::Nothing,
            },
        }
    }

    fn reader<'r>(&self, rows: &'r dyn Rows) -> Result<SequenceReader<'r, String>, DbError> {
        SequenceReader::open(rows, self.prefix())
    }
}

impl Database {
    /// A text. Reads and writes nothing yet.
    #[must_use]
    pub fn text(&self, name: &str) -> TextHandle {
        TextHandle { db: self.clone(), name: name.to_owned(), location: Location::Store }
    }
}

impl Transaction {
    /// A text within the transaction.
    #[must_use]
    pub fn text(&self, name: &str) -> TxText<'_> {
        TxText { tx: self, name: name.to_owned(), location: Location::Store }
    }
}

/// Refuses a range that is not within a text.
fn check_range(range: &Range<usize>, len: usize) -> Result<(), DbError> {
    let position = range.start.max(range.end);
    if position <= len { Ok(()) } else { Err(DbError::Position { position, len }) }
}

fn read(reader: &SequenceReader<'_, String>, range: Range<usize>) -> Result<String, DbError> {
    check_range(&range, reader.len())?;
    if range.is_empty() { Ok(String::new()) } else { reader.read(range) }
}

impl TextHandle {
    /// The name of its store.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database it is in.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.db
    }

    fn reading<R>(
        &self,
        read: impl FnOnce(&SequenceReader<'_, String>) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        self.reading_in(&self.db.snapshot()?, read)
    }

    fn reading_in<R>(
        &self,
        snapshot: &TreeSnapshot,
        read: impl FnOnce(&SequenceReader<'_, String>) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        self.db.read_store_in(snapshot.clone(), &self.name, self.location.kind(), |rows| {
            read(&self.location.reader(rows)?)
        })
    }

    fn read_in(&self, snapshot: &TreeSnapshot) -> Result<String, DbError> {
        self.reading_in(snapshot, |reader| read(reader, 0..reader.len()))
    }

    fn writing<R>(&self, write: impl FnOnce(&TxText<'_>) -> Result<R, DbError>) -> Result<R, DbError> {
        self.db.write(|tx| write(&self.within(tx)))
    }

    /// The same text within a transaction of its database.
    #[must_use]
    pub fn within<'t>(&self, tx: &'t Transaction) -> TxText<'t> {
        TxText { tx, name: self.name.clone(), location: self.location.clone() }
    }

    /// How many characters there are.
    pub fn len(&self) -> Result<usize, DbError> {
        self.reading(|reader| Ok(reader.len()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, DbError> {
        Ok(self.len()? == 0)
    }

    /// The whole text.
    pub fn read(&self) -> Result<String, DbError> {
        self.read_in(&self.db.snapshot()?)
    }

    /// A part of the text.
    ///
    /// # Errors
    /// [`DbError::Position`] beyond the end, here and wherever there is a position.
    pub fn slice(&self, range: Range<usize>) -> Result<String, DbError> {
        self.reading(|reader| read(reader, range))
    }

    /// Puts text in before a position.
    pub fn insert(&self, at: usize, text: &str) -> Result<(), DbError> {
        self.writing(|tx| tx.insert(at, text))
    }

    /// Takes characters out from a position on.
    pub fn delete(&self, at: usize, count: usize) -> Result<(), DbError> {
        self.writing(|tx| tx.delete(at, count))
    }

    /// Puts text in the place of a part.
    pub fn replace(&self, range: Range<usize>, text: &str) -> Result<(), DbError> {
        self.writing(|tx| tx.replace(range, text))
    }

    /// Makes the text another one, by the edits in which they differ. Nothing is written when they do not.
    pub fn set(&self, text: &str) -> Result<(), DbError> {
        self.writing(|tx| tx.set(text))
    }

    /// A cursor at a position, which stays with the character on one side of it while others edit.
    pub fn cursor(&self, at: usize, side: Side) -> Result<TextCursor, DbError> {
        self.cursor_in(&self.db.snapshot()?, at, side)
    }

    fn cursor_in(&self, snapshot: &TreeSnapshot, at: usize, side: Side) -> Result<TextCursor, DbError> {
        self.reading_in(snapshot, |reader| {
            let cursor =
                reader.cursor(at, side)?.ok_or(DbError::Position { position: at, len: reader.len() })?;
            TextCursor::of(&cursor, |seq| Ok(snapshot.id_at(seq)?))
        })
    }

    /// Where a cursor stands; nothing while the entry that it names is not here, and if it never put that character in.
    pub fn position(&self, cursor: &TextCursor) -> Result<Option<usize>, DbError> {
        let snapshot = self.db.snapshot()?;
        let seq_of = |id: &_| Ok(snapshot.find(&[*id])?.pop().flatten());
        let Some(cursor) = cursor.here(seq_of)? else { return Ok(None) };
        self.reading_in(&snapshot, |reader| reader.position(&cursor))
    }

    /// A stream of what changes from here on.
    pub fn observe(&self) -> Result<TextChanges, DbError> {
        TextChanges::open(self.clone())
    }

    /// A buffer for many edits, which holds the whole text in memory.
    pub fn edit(&self) -> Result<TextEdit, DbError> {
        TextEdit::open(self)
    }
}

impl TxText<'_> {
    fn reading<R>(
        &self,
        read: impl FnOnce(&SequenceReader<'_, String>) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        self.tx.read(&self.name, self.location.kind(), |rows| read(&self.location.reader(rows)?))
    }

    /// How many characters there are, as the transaction has left it.
    pub fn len(&self) -> Result<usize, DbError> {
        self.reading(|reader| Ok(reader.len()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, DbError> {
        Ok(self.len()? == 0)
    }

    /// The whole text.
    pub fn read(&self) -> Result<String, DbError> {
        self.reading(|reader| read(reader, 0..reader.len()))
    }

    /// A part of the text.
    pub fn slice(&self, range: Range<usize>) -> Result<String, DbError> {
        self.reading(|reader| read(reader, range))
    }

    /// Puts text in before a position.
    pub fn insert(&self, at: usize, text: &str) -> Result<(), DbError> {
        self.replace(at..at, text)
    }

    /// Takes characters out from a position on.
    pub fn delete(&self, at: usize, count: usize) -> Result<(), DbError> {
        self.replace(at..at.saturating_add(count), "")
    }

    /// Puts text in the place of a part. Reads it, and so pins the transaction.
    pub fn replace(&self, range: Range<usize>, text: &str) -> Result<(), DbError> {
        let part = Replacement { at: range.start, removed: range.len(), inserted: text.to_owned() };
        self.stage_all(vec![part], &range)
    }

    /// Makes the text another one, by the edits in which they differ.
    pub fn set(&self, text: &str) -> Result<(), DbError> {
        self.stage_all(differences(&self.read()?, text), &(0..0))
    }

    /// Makes replacements that do not touch one another, as one operation.
    fn stage_all(&self, parts: Vec<Replacement>, range: &Range<usize>) -> Result<(), DbError> {
        let (mut inserted, mut removed) = (0, 0);
        let parts = parts.into_iter().map(|part| {
            let at = part.at + removed - inserted;
            inserted += part.inserted.chars().count();
            removed += part.removed;
            (at, part.removed, part.inserted)
        });
        let parts = parts.collect();
        let edits = self.tx.read(&self.name, self.location.kind(), |rows| {
            check_range(range, self.location.reader(rows)?.len())?;
            sequence::splice_all_edits(rows, self.location.prefix(), parts)
        })?;
        let Some(edits) = edits else { return Ok(()) };
        self.tx.stage(&self.name, self.location.kind(), self.location.encode(&edits))
    }
}

/// Makes a change in a text in memory.
#[cfg(test)]
pub(crate) fn apply(text: &mut rope::Rope, delta: &TextDelta) {
    match delta {
        TextDelta::Insert { at, text: inserted } => text.insert(*at, inserted),
        TextDelta::Delete { at, count } => drop(text.delete(*at, *count)),
    }
}
