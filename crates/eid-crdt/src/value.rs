//! What a register can hold: everything that JSON can say, exactly, and bytes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A whole number from -2^63 to 2^64 - 1: what JSON numbers without a fraction hold in practice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integer(i128);

/// A 64-bit float that is neither NaN nor infinite. Compared by its bits, so that -0.0 is kept apart from 0.0.
#[derive(Debug, Clone, Copy)]
pub struct Finite(f64);

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each variant names a type")]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(Integer),
    Float(Finite),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

impl Integer {
    /// The least integer, -2^63.
    pub const MIN: Self = Self(i64::MIN as i128);
    /// The greatest integer, 2^64 - 1.
    pub const MAX: Self = Self(u64::MAX as i128);

    /// Takes a number that is in range.
    #[must_use]
    pub fn new(number: i128) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(Self(number))
    }

    /// Takes any number; one out of range becomes the nearest that is not.
    #[must_use]
    pub fn saturating(number: i128) -> Self {
        Self(number.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i128 {
        self.0
    }
}

impl Finite {
    /// Takes a float that is neither NaN nor infinite.
    #[must_use]
    pub fn new(float: f64) -> Option<Self> {
        float.is_finite().then_some(Self(float))
    }

    /// The float.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Finite {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Finite {}

impl Value {
    /// The name of its type, for messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "integer",
            Self::Float(_) => "float",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// Compares two values as people do: numbers by size whatever their type, texts and bytes by their bytes. Nothing
    /// when they cannot be compared.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.0.partial_cmp(&b.0),
            (Self::Int(a), Self::Float(b)) => Some(compare_mixed(*a, *b)),
            (Self::Float(a), Self::Int(b)) => Some(compare_mixed(*b, *a).reverse()),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::List(_), Self::List(_)) | (Self::Map(_), Self::Map(_)) => {
                (self == other).then_some(Ordering::Equal)
            }
            _ => None,
        }
    }

    /// A total order for sorting: by [`Self::compare`] within a type, and null, bool, number, text, bytes, list, map
    /// among types.
    #[must_use]
    pub fn sort_order(&self, other: &Self) -> Ordering {
        let rank = |value: &Self| match value {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) => 2,
            Self::Text(_) => 3,
            Self::Bytes(_) => 4,
            Self::List(_) => 5,
            Self::Map(_) => 6,
        };
        rank(self).cmp(&rank(other)).then_with(|| self.compare(other).unwrap_or(Ordering::Equal))
    }
}

/// Compares without rounding the integer: its whole part first, then what the float has behind the point.
fn compare_mixed(int: Integer, float: Finite) -> Ordering {
    let whole = float.0.trunc();
    // A cast from float to integer saturates, which keeps the order.
    int.0.cmp(&(whole as i128)).then_with(|| 0.0f64.total_cmp(&((float.0 - whole) + 0.0)))
}

macro_rules! from_integer {
    ($($type:ty)*) => {$(
        impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Self::Int(Integer(i128::from(number)))
            }
        }
    )*};
}
from_integer!(i8 i16 i32 i64 u8 u16 u32 u64);

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Integer> for Value {
    fn from(value: Integer) -> Self {
        Self::Int(value)
    }
}

/// NaN and the infinities, which JSON cannot say, become null.
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Finite::new(value).map_or(Self::Null, Self::Float)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::from(f64::from(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Vec<Self>> for Value {
    fn from(value: Vec<Self>) -> Self {
        Self::List(value)
    }
}

impl From<BTreeMap<String, Self>> for Value {
    fn from(value: BTreeMap<String, Self>) -> Self {
        Self::Map(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_size_whatever_their_type() {
        let order = [
            Value::from(-1e300),
            Value::from(i64::MIN),
            Value::from(-1.5),
            Value::from(-1),
            Value::from(-0.5),
            Value::from(0),
            Value::from(0.5),
            Value::from((1u64 << 53) + 1),
            Value::from(u64::MAX),
            Value::from(1e300),
        ];
        for pair in order.windows(2) {
            assert_eq!(pair[0].compare(&pair[1]), Some(Ordering::Less), "{pair:?}");
            assert_eq!(pair[1].compare(&pair[0]), Some(Ordering::Greater), "{pair:?}");
        }
        // As a float, 2^53 + 1 would be equal to 2^53.
        let rounded = Value::from(9_007_199_254_740_992.0);
        assert_eq!(Value::from((1u64 << 53) + 1).compare(&rounded), Some(Ordering::Greater));
        assert_eq!(Value::from(0).compare(&Value::from(-0.0)), Some(Ordering::Equal));
        assert_eq!(Value::from(0).compare(&Value::from("0")), None);
    }

    #[test]
    fn values_that_json_cannot_say_are_not_made() {
        assert_eq!(Value::from(f64::NAN), Value::Null);
        assert_eq!(Finite::new(f64::INFINITY), None);
        assert_eq!(Integer::new(i128::from(u64::MAX) + 1), None);
        assert_ne!(Value::from(0.0), Value::from(-0.0));
        assert_ne!(Value::from(1), Value::from(1.0));
    }
}
