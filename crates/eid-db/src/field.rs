//! Types for fields of rows that merge by more than the latest write: counters and texts.

mod diff;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(crate) use diff::{Splice, splices};

/// The names by which [`crate::typed`] knows the types when it meets them.
const COUNTER: &str = "$eid_db::Counter";
const TEXT: &str = "$eid_db::Text";

/// How a field of a row merges, when not by the latest write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Counter,
    Text,
}

impl FieldKind {
    /// The kind whose type serialises under this name.
    pub(crate) fn of_newtype(name: &str) -> Option<Self> {
        match name {
            COUNTER => Some(Self::Counter),
            TEXT => Some(Self::Text),
            _ => None,
        }
    }
}

/// A count as a field of a row: what several add at once adds up.
///
/// What an update changes it by is written as an increment, whatever it is at others by then. In an insert its value is
/// where it begins: inserting over a row sets the count anew. Stored as an integer that counts; it goes to JSON as a
/// number. It must be a field of the row itself, not of something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Counter(i64);

impl Counter {
    /// A counter that begins here.
    #[must_use]
    pub fn new(value: i64) -> Self {
        Self(value)
    }

    /// The count.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// Adds; a negative number takes away. At the ends of the range it stays there.
    pub fn add(&mut self, by: i64) {
        self.0 = self.0.saturating_add(by);
    }
}

impl From<i64> for Counter {
    fn from(value: i64) -> Self {
        Self(value)
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Counter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(COUNTER, &self.0)
    }
}

/// A text as a field of a row, which several edit at once: their edits merge, letter by letter.
///
/// An update writes what it inserts and deletes, not the text. In an insert it is where the text begins: inserting over
/// a row puts the text in the place of the one that is there. Positions are Unicode scalar values. It goes to JSON as a
/// string. It must be a field of the row itself, not of something in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(String);

impl Text {
    /// A text that begins like this.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// How many characters it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.chars().count()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Inserts at a position; behind the end it is the end.
    pub fn insert(&mut self, at: usize, text: &str) {
        let at = self.byte_of(at);
        self.0.insert_str(at, text);
    }

    /// Deletes so many characters from a position on, as far as they are there.
    pub fn delete(&mut self, at: usize, count: usize) {
        let range = self.byte_of(at)..self.byte_of(at.saturating_add(count));
        self.0.replace_range(range, "");
    }

    /// Appends.
    pub fn push_str(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// Puts a text in the place of this one. An update writes the difference.
    pub fn set(&mut self, text: impl Into<String>) {
        self.0 = text.into();
    }

    fn byte_of(&self, position: usize) -> usize {
        self.0.char_indices().nth(position).map_or(self.0.len(), |(at, _)| at)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(TEXT, &self.0)
    }
}

impl<'de> Deserialize<'de> for Counter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Counter;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a counter")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Counter, E> {
                Ok(Counter(value))
            }
            // A sum may be beyond the range of its parts.
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Counter, E> {
                Ok(Counter(i64::try_from(value).unwrap_or(i64::MAX)))
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Counter, D::Error> {
                inner.deserialize_i64(self)
            }
        }
        deserializer.deserialize_newtype_struct(COUNTER, Visitor)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Text, D::Error> {
                inner.deserialize_string(self)
            }
        }
        deserializer.deserialize_newtype_struct(TEXT, Visitor)
    }
}
