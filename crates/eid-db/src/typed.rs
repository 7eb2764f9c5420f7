//! Rust values to and from [`Value`], by serde and with nothing in between: what a value can say comes back exactly, and
//! what it cannot say is an error that names the place.
//!
//! The form is that of JSON: structs and maps are maps, whose keys are texts, or numbers, bools and characters written
//! as text; an absent option is null; a variant is its name, or a map from its name to what is in it. Beyond JSON there
//! are bytes, which stay bytes, and integers up to 2^64 - 1; floats must be finite. Whoever does not ask for bytes, as
//! JSON does not, sees a list of numbers.

mod de;
mod ser;

use std::collections::BTreeMap;
use std::fmt;

use eid_crdt::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::DbError;

pub(crate) use ser::Row;

/// Why a Rust value and a stored one do not fit together, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormError(Box<Place>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// From the inside out.
    steps: Vec<Step>,
    what: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl FormError {
    fn new(what: impl Into<String>) -> Self {
        Self(Box::new(Place { steps: Vec::new(), what: what.into() }))
    }

    fn in_key(mut self, key: &str) -> Self {
        self.0.steps.push(Step::Key(key.to_owned()));
        self
    }

    fn in_item(mut self, index: usize) -> Self {
        self.0.steps.push(Step::Index(index));
        self
    }

    /// The place, such as `tags[2].name`; empty for the value as a whole.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.steps.iter().rev() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.steps.is_empty() {
            true => f.write_str(&self.0.what),
            false => write!(f, "{}: {}", self.path(), self.0.what),
        }
    }
}

impl std::error::Error for FormError {}

impl serde::ser::Error for FormError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

impl serde::de::Error for FormError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", de::name_of(&found)))
    }

    fn invalid_value(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }
}

/// The value of a Rust value.
///
/// # Errors
/// [`DbError::Encode`] for what a value cannot say: floats that are not finite, integers out of range, keys of maps
/// that are no text, and field types of rows anywhere but in a field of a row.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, DbError> {
    ser::to_value(value).map_err(DbError::Encode)
}

/// The Rust value of a value.
///
/// # Errors
/// [`DbError::Decode`] when it does not have the form of the type.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DbError> {
    de::from_value(value).map_err(DbError::Decode)
}

/// The fields of a Rust value that is a row.
pub(crate) fn to_row<T: Serialize + ?Sized>(row: &T) -> Result<Row, DbError> {
    match ser::to_row(row).map_err(DbError::Encode)? {
        (Value::Map(fields), kinds) => Ok(Row { fields, kinds }),
        (other, _) => Err(DbError::NotARow { found: other.type_name() }),
    }
}

/// The Rust value of the fields of a row.
pub(crate) fn from_row<T: DeserializeOwned>(
    key: &str,
    fields: BTreeMap<String, Value>,
) -> Result<T, DbError> {
    de::from_value(Value::Map(fields)).map_err(|cause| DbError::DecodeRow { key: key.to_owned(), cause })
}
