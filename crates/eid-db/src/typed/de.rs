//! Values to Rust values.

use eid_crdt::{Integer, Value};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer as _, Unexpected, Visitor,
};

use super::FormError;

pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, FormError> {
    T::deserialize(Deserializer(value))
}

/// The name of a type as messages call it.
pub(super) fn name_of(found: &Unexpected<'_>) -> String {
    let name = match found {
        Unexpected::Bool(_) => "bool",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "float",
        Unexpected::Char(_) | Unexpected::Str(_) => "text",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "list",
        Unexpected::Map => "map",
        other => return other.to_string(),
    };
    name.to_owned()
}

struct Deserializer(Value);

fn visit_integer<'de, V: Visitor<'de>>(int: Integer, visitor: V) -> Result<V::Value, FormError> {
    match u64::try_from(int.get()) {
        Ok(number) => visitor.visit_u64(number),
        Err(_) => visitor.visit_i64(i64::try_from(int.get()).unwrap_or(i64::MIN)),
    }
}

fn visit_list<'de, V: Visitor<'de>>(items: Vec<Value>, visitor: V) -> Result<V::Value, FormError> {
    let count = items.len();
    let mut items = Items { items: items.into_iter(), index: 0 };
    let value = visitor.visit_seq(&mut items)?;
    match items.items.len() {
        0 => Ok(value),
        left => Err(FormError::invalid_length(count, &format!("{} items", count - left).as_str())),
    }
}

fn visit_bytes_as_list<'de, V: Visitor<'de>>(bytes: Vec<u8>, visitor: V) -> Result<V::Value, FormError> {
    visit_list(bytes.into_iter().map(Value::from).collect(), visitor)
}

fn visit_map<'de, V: Visitor<'de>>(
    items: std::collections::BTreeMap<String, Value>,
    visitor: V,
) -> Result<V::Value, FormError> {
    let count = items.len();
    let mut items = Entries { items: items.into_iter(), value: None };
    let value = visitor.visit_map(&mut items)?;
    match items.items.len() {
        0 => Ok(value),
        left => Err(FormError::invalid_length(count, &format!("{} keys", count - left).as_str())),
    }
}

macro_rules! forward {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Deserializer {
    type Error = FormError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Int(int) => visit_integer(int, visitor),
            Value::Float(float) => visitor.visit_f64(float.get()),
            Value::Text(text) => visitor.visit_string(text),
            // Whoever takes anything may know no bytes; lists of numbers are taken for bytes where those are known.
            Value::Bytes(bytes) => visit_bytes_as_list(bytes, visitor),
            Value::List(items) => visit_list(items, visitor),
            Value::Map(items) => visit_map(items, visitor),
        }
    }

    forward!(
        deserialize_bool,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_str,
        deserialize_string,
        deserialize_unit,
        deserialize_seq,
        deserialize_map,
        deserialize_identifier
    );

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        match self.0 {
            Value::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FormError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FormError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, FormError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, FormError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FormError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FormError> {
        let (name, content) = match self.0 {
            Value::Text(name) => (name, None),
            Value::Map(items) if items.len() == 1 => {
                let first = items.into_iter().next().map(|(name, content)| (name, Some(content)));
                first.ok_or_else(|| FormError::new("a variant has a name"))?
            }
            Value::Map(_) => {
                return Err(FormError::new("expected a variant, found a map that has not one key"));
            }
            other => {
                let found = other.type_name();
                return Err(FormError::new(format!("expected the name of a variant, found {found}")));
            }
        };
        visitor.visit_enum(Variant { name, content })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        visitor.visit_unit()
    }
}

impl<'de> de::IntoDeserializer<'de, FormError> for Deserializer {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items {
    items: std::vec::IntoIter<Value>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items {
    type Error = FormError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, FormError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Deserializer(item)).map(Some).map_err(|error| error.in_item(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries {
    items: std::collections::btree_map::IntoIter<String, Value>,
    value: Option<(String, Value)>,
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = FormError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, FormError> {
        let Some((key, value)) = self.items.next() else { return Ok(None) };
        let read = seed.deserialize(Key(&key)).map_err(|error| error.in_key(&key))?;
        self.value = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, FormError> {
        let (key, value) =
            self.value.take().ok_or_else(|| FormError::new("a value of a map without its key"))?;
        seed.deserialize(Deserializer(value)).map_err(|error| error.in_key(&key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The key of a map, for those who want text, and for those who want what was written as text.
struct Key<'k>(&'k str);

macro_rules! parsed {
    ($($method:ident $type:ty, $visit:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
            match self.0.parse::<$type>() {
                Ok(key) => visitor.$visit(key),
                Err(_) => visitor.visit_str(self.0),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Key<'_> {
    type Error = FormError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        visitor.visit_str(self.0)
    }

    parsed!(
        deserialize_bool bool, visit_bool,
        deserialize_i8 i8, visit_i8, deserialize_i16 i16, visit_i16, deserialize_i32 i32, visit_i32,
        deserialize_i64 i64, visit_i64, deserialize_i128 i128, visit_i128,
        deserialize_u8 u8, visit_u8, deserialize_u16 u16, visit_u16, deserialize_u32 u32, visit_u32,
        deserialize_u64 u64, visit_u64, deserialize_u128 u128, visit_u128
    );

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FormError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FormError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FormError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

struct Variant {
    name: String,
    content: Option<Value>,
}

impl<'de> de::EnumAccess<'de> for Variant {
    type Error = FormError;
    type Variant = Content;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content), FormError> {
        let variant = seed.deserialize(Key(&self.name))?;
        Ok((variant, Content { name: self.name, content: self.content }))
    }
}

/// What is in a variant.
struct Content {
    name: String,
    content: Option<Value>,
}

impl Content {
    fn take(self, what: &str) -> Result<(String, Value), FormError> {
        match self.content {
            Some(content) => Ok((self.name, content)),
            None => Err(FormError::new(format!("expected {what} in variant `{}`, found nothing", self.name))),
        }
    }
}

impl<'de> de::VariantAccess<'de> for Content {
    type Error = FormError;

    fn unit_variant(self) -> Result<(), FormError> {
        match self.content {
            None | Some(Value::Null) => Ok(()),
            Some(other) => {
                let found = other.type_name();
                Err(FormError::new(format!("expected nothing in variant `{}`, found {found}", self.name)))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, FormError> {
        let (name, content) = self.take("a value")?;
        seed.deserialize(Deserializer(content)).map_err(|error| error.in_key(&name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, FormError> {
        let (name, content) = self.take("a list")?;
        match content {
            Value::List(items) => visit_list(items, visitor),
            other => Err(FormError::new(format!("expected a list, found {}", other.type_name()))),
        }
        .map_err(|error| error.in_key(&name))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FormError> {
        let (name, content) = self.take("fields")?;
        match content {
            Value::Map(items) => visit_map(items, visitor),
            Value::List(items) => visit_list(items, visitor),
            other => Err(FormError::new(format!("expected fields, found {}", other.type_name()))),
        }
        .map_err(|error| error.in_key(&name))
    }
}
