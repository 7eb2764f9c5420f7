//! Rust values to values.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use eid_crdt::{Finite, Integer, Value};
use serde::ser::{self, Serialize};

use super::FormError;
use crate::field::FieldKind;

/// A row on its way in: its fields, and how those merge that do not by the latest write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) fields: BTreeMap<String, Value>,
    pub(crate) kinds: Kinds,
}

type Kinds = BTreeMap<String, FieldKind>;

/// Where a value stands: field types count only as fields of a row.
#[derive(Clone, Copy)]
enum Standing<'a> {
    Row(&'a RefCell<Kinds>),
    Field(&'a Cell<Option<FieldKind>>),
    Inside,
}

pub(super) fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, FormError> {
    value.serialize(Serializer(Standing::Inside))
}

pub(super) fn to_row<T: Serialize + ?Sized>(row: &T) -> Result<(Value, Kinds), FormError> {
    let kinds = RefCell::default();
    let value = row.serialize(Serializer(Standing::Row(&kinds)))?;
    Ok((value, kinds.into_inner()))
}

#[derive(Clone, Copy)]
struct Serializer<'a>(Standing<'a>);

fn integer(number: i128) -> Result<Value, FormError> {
    let int = Integer::new(number);
    int.map(Value::Int).ok_or_else(|| FormError::new("integers go from -2^63 to 2^64 - 1"))
}

fn float(number: f64) -> Result<Value, FormError> {
    let float = Finite::new(number);
    float.map(Value::Float).ok_or_else(|| FormError::new("a float must be finite"))
}

fn variant_of(name: &str, value: Value) -> Value {
    Value::Map([(name.to_owned(), value)].into())
}

macro_rules! integers {
    ($($method:ident $type:ty),*) => {$(
        fn $method(self, number: $type) -> Result<Value, FormError> {
            Ok(Value::from(number))
        }
    )*};
}

impl<'a> ser::Serializer for Serializer<'a> {
    type Ok = Value;
    type Error = FormError;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Map<'a>;
    type SerializeStructVariant = Map<'a>;

    integers!(
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64
    );

    fn serialize_i128(self, number: i128) -> Result<Value, FormError> {
        integer(number)
    }

    fn serialize_u128(self, number: u128) -> Result<Value, FormError> {
        integer(i128::try_from(number).unwrap_or(i128::MAX))
    }

    fn serialize_bool(self, value: bool) -> Result<Value, FormError> {
        Ok(Value::Bool(value))
    }

    fn serialize_f32(self, number: f32) -> Result<Value, FormError> {
        float(f64::from(number))
    }

    fn serialize_f64(self, number: f64) -> Result<Value, FormError> {
        float(number)
    }

    fn serialize_char(self, char: char) -> Result<Value, FormError> {
        Ok(Value::Text(char.to_string()))
    }

    fn serialize_str(self, text: &str) -> Result<Value, FormError> {
        Ok(Value::Text(text.to_owned()))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, FormError> {
        Ok(Value::Bytes(bytes.to_vec()))
    }

    fn serialize_none(self) -> Result<Value, FormError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, FormError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, FormError> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, FormError> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<Value, FormError> {
        Ok(Value::Text(name.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, FormError> {
        match (FieldKind::of_newtype(name), self.0) {
            (None, _) => value.serialize(self),
            (Some(kind), Standing::Field(slot)) => {
                slot.set(Some(kind));
                value.serialize(Serializer(Standing::Inside))
            }
            (Some(FieldKind::Counter), _) => Err(FormError::new("a counter must be a field of a row itself")),
            (Some(FieldKind::Text), _) => Err(FormError::new("a text must be a field of a row itself")),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Value, FormError> {
        Ok(variant_of(name, to_value(value).map_err(|error| error.in_key(name))?))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List<'a>, FormError> {
        Ok(List::new(len, None))
    }

    fn serialize_tuple(self, len: usize) -> Result<List<'a>, FormError> {
        Ok(List::new(Some(len), None))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<List<'a>, FormError> {
        Ok(List::new(Some(len), None))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<List<'a>, FormError> {
        Ok(List::new(Some(len), Some(name)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'a>, FormError> {
        Ok(Map::new(self.0, None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map<'a>, FormError> {
        Ok(Map::new(self.0, None))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Map<'a>, FormError> {
        Ok(Map::new(Standing::Inside, Some(name)))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<Value, FormError> {
        Ok(Value::Text(value.to_string()))
    }
}

/// How much room is made for items before they come.
const ITEMS_EXPECTED_MAX: usize = 1024;

struct List<'a> {
    items: Vec<Value>,
    variant: Option<&'static str>,
    standing: std::marker::PhantomData<Standing<'a>>,
}

impl List<'_> {
    fn new(len: Option<usize>, variant: Option<&'static str>) -> Self {
        let items = Vec::with_capacity(len.unwrap_or(0).min(ITEMS_EXPECTED_MAX));
        Self { items, variant, standing: std::marker::PhantomData }
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FormError> {
        let item = to_value(value).map_err(|error| {
            let error = error.in_item(self.items.len());
            self.variant.map_or(error.clone(), |name| error.in_key(name))
        })?;
        self.items.push(item);
        Ok(())
    }

    fn finish(self) -> Value {
        let list = Value::List(self.items);
        match self.variant {
            Some(name) => variant_of(name, list),
            None => list,
        }
    }
}

macro_rules! lists {
    ($($trait:ident $method:ident),*) => {$(
        impl ser::$trait for List<'_> {
            type Ok = Value;
            type Error = FormError;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FormError> {
                self.push(value)
            }
            fn end(self) -> Result<Value, FormError> {
                Ok(self.finish())
            }
        }
    )*};
}
lists!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

struct Map<'a> {
    items: BTreeMap<String, Value>,
    key: Option<String>,
    variant: Option<&'static str>,
    kinds: Option<&'a RefCell<Kinds>>,
}

impl<'a> Map<'a> {
    fn new(standing: Standing<'a>, variant: Option<&'static str>) -> Self {
        let kinds = match standing {
            Standing::Row(kinds) => Some(kinds),
            Standing::Field(_) | Standing::Inside => None,
        };
        Self { items: BTreeMap::new(), key: None, variant, kinds }
    }

    fn insert<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), FormError> {
        let kind = Cell::new(None);
        let standing = if self.kinds.is_some() { Standing::Field(&kind) } else { Standing::Inside };
        let item = value.serialize(Serializer(standing)).map_err(|error| {
            let error = error.in_key(&key);
            self.variant.map_or(error.clone(), |name| error.in_key(name))
        })?;
        if let (Some(kinds), Some(kind)) = (self.kinds, kind.get()) {
            kinds.borrow_mut().insert(key.clone(), kind);
        }
        self.items.insert(key, item);
        Ok(())
    }

    fn finish(self) -> Value {
        let map = Value::Map(self.items);
        match self.variant {
            Some(name) => variant_of(name, map),
            None => map,
        }
    }
}

impl ser::SerializeMap for Map<'_> {
    type Ok = Value;
    type Error = FormError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), FormError> {
        self.key = Some(key.serialize(KeySerializer)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FormError> {
        let key = self.key.take().ok_or_else(|| FormError::new("a value of a map without its key"))?;
        self.insert(key, value)
    }

    fn end(self) -> Result<Value, FormError> {
        Ok(self.finish())
    }
}

macro_rules! structs {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Map<'_> {
            type Ok = Value;
            type Error = FormError;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), FormError> {
                self.insert(key.to_owned(), value)
            }
            fn end(self) -> Result<Value, FormError> {
                Ok(self.finish())
            }
        }
    )*};
}
structs!(SerializeStruct, SerializeStructVariant);

/// Keys of maps: text, or what is written as text without doubt.
struct KeySerializer;

fn no_key<T>() -> Result<T, FormError> {
    Err(FormError::new("the key of a map must be a text"))
}

type Never = ser::Impossible<String, FormError>;

macro_rules! keys {
    ($($method:ident $type:ty),*) => {$(
        fn $method(self, key: $type) -> Result<String, FormError> {
            Ok(key.to_string())
        }
    )*};
}

impl ser::Serializer for KeySerializer {
    type Ok = String;
    type Error = FormError;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    keys!(
        serialize_bool bool, serialize_char char, serialize_str &str,
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128
    );

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<String, FormError> {
        Ok(name.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, FormError> {
        value.serialize(self)
    }

    fn serialize_f32(self, _: f32) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_f64(self, _: f64) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_none(self) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_unit(self) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, FormError> {
        no_key()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Never, FormError> {
        no_key()
    }

    fn serialize_tuple(self, _: usize) -> Result<Never, FormError> {
        no_key()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Never, FormError> {
        no_key()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, FormError> {
        no_key()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Never, FormError> {
        no_key()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Never, FormError> {
        no_key()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, FormError> {
        no_key()
    }
}
