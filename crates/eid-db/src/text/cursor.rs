//! Cursors that travel: a place beside a character, named as it is named everywhere.

use std::fmt;
use std::str::FromStr;

use eid_core::EntryId;
use eid_core::dag::Seq;

use crate::error::DbError;
use crate::kind::sequence::{Cursor, Name, OpId};

/// A place in a text that stays with the character beside it while others edit: a caret, the end of a selection.
///
/// The character is named by the entry that put it in, so a cursor means the same on every replica. As text it is
/// `start`, `end`, or `after` or `before` with the entry's id, the operation in it and the character, as in
/// `after:bafyr4i...:0:12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextCursor(Place);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Start,
    Before(Character),
    After(Character),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Character {
    entry: EntryId,
    op: u32,
    offset: u32,
}

/// Says that a text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a text")]
pub struct ParseTextCursorError;

impl TextCursor {
    pub(super) fn of(
        cursor: &Cursor,
        id_of: impl Fn(Seq) -> Result<EntryId, DbError>,
    ) -> Result<Self, DbError> {
        let character = |name: &Name| -> Result<_, DbError> {
            let Name { entry: OpId { seq, op }, offset } = *name;
            Ok(Character { entry: id_of(seq)?, op, offset })
        };
        Ok(Self(match cursor {
            Cursor::Start => Place::Start,
            Cursor::Before(name) => Place::Before(character(name)?),
            Cursor::After(name) => Place::After(character(name)?),
            Cursor::End => Place::End,
        }))
    }

    /// The cursor by the positions of entries here; nothing if its entry is not.
    pub(super) fn here(
        &self,
        seq_of: impl Fn(&EntryId) -> Result<Option<Seq>, DbError>,
    ) -> Result<Option<Cursor>, DbError> {
        let name = |character: &Character| -> Result<_, DbError> {
            let Character { entry, op, offset } = character;
            Ok(seq_of(entry)?.map(|seq| Name { entry: OpId { seq, op: *op }, offset: *offset }))
        };
        Ok(match &self.0 {
            Place::Start => Some(Cursor::Start),
            Place::Before(character) => name(character)?.map(Cursor::Before),
            Place::After(character) => name(character)?.map(Cursor::After),
            Place::End => Some(Cursor::End),
        })
    }
}

impl fmt::Display for Character {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.entry, self.op, self.offset)
    }
}

impl fmt::Display for TextCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Start => f.write_str("start"),
            Place::Before(character) => write!(f, "before:{character}"),
            Place::After(character) => write!(f, "after:{character}"),
            Place::End => f.write_str("end"),
        }
    }
}

impl FromStr for Character {
    type Err = ParseTextCursorError;

    fn from_str(text: &str) -> Result<Self, ParseTextCursorError> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(ParseTextCursorError);
        let (entry, op, offset) = (part()?, part()?, part()?);
        let found = Self {
            entry: entry.parse().map_err(|_| ParseTextCursorError)?,
            op: op.parse().map_err(|_| ParseTextCursorError)?,
            offset: offset.parse().map_err(|_| ParseTextCursorError)?,
        };
        // One form only: no sign, no leading zero, nothing behind.
        if found.to_string() == text { Ok(found) } else { Err(ParseTextCursorError) }
    }
}

impl FromStr for TextCursor {
    type Err = ParseTextCursorError;

    fn from_str(text: &str) -> Result<Self, ParseTextCursorError> {
        Ok(Self(match text.split_once(':') {
            None if text == "start" => Place::Start,
            None if text == "end" => Place::End,
            Some(("before", character)) => Place::Before(character.parse()?),
            Some(("after", character)) => Place::After(character.parse()?),
            _ => return Err(ParseTextCursorError),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_have_one_form_as_text() {
        let character = Character { entry: EntryId([7; 32]), op: 3, offset: 12 };
        for place in [Place::Start, Place::End, Place::Before(character), Place::After(character)] {
            let cursor = TextCursor(place);
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let text = TextCursor(Place::After(character)).to_string();
        let wrong =
            [format!("{text}:"), format!("{text} "), text.replace(":3:", ":+3:"), text.replace("12", "012")];
        for text in wrong.iter().map(String::as_str).chain(["", "after", "start:", "after:x:0:0"]) {
            assert_eq!(text.parse::<TextCursor>(), Err(ParseTextCursorError), "{text}");
        }
    }
}
