use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::support::database;
use crate::{Counter, DbError, Integer, Text, Value, from_value, to_value};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Unit {
    One,
    Two,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Id(u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Wrapped(Option<i8>),
    Pair(u16, String),
    Named { a: char, b: Option<Box<Everything>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Tagged {
    Circle { radius: f64 },
    Empty,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Text(String),
    Many(Vec<Self>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shared {
    colour: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    bool: bool,
    small: i8,
    least: i64,
    greatest: u64,
    single: f32,
    double: f64,
    char: char,
    text: String,
    none: Option<Option<u8>>,
    id: Id,
    unit: (),
    pair: (u8, String),
    array: [i16; 3],
    list: Vec<Shape>,
    numbered: BTreeMap<i32, Unit>,
    by_unit: BTreeMap<Unit, bool>,
    by_bool: BTreeMap<bool, u8>,
    by_char: BTreeMap<char, u8>,
    tagged: Tagged,
    either: Either,
    anything: Json,
    #[serde(flatten)]
    shared: Shared,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    skipped: Vec<u8>,
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |float| float.is_finite())
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        finite().prop_map(Json::from),
        Just(json!(-0.0)),
        "\\PC{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("\\PC{0,3}", inner, 0..4)
                .prop_map(|items| Json::Object(items.into_iter().collect())),
        ]
    })
}

fn any_unit() -> impl Strategy<Value = Unit> {
    prop_oneof![Just(Unit::One), Just(Unit::Two)]
}

fn any_either() -> impl Strategy<Value = Either> {
    let leaf = prop_oneof![any::<i64>().prop_map(Either::Number), "\\PC{0,4}".prop_map(Either::Text)];
    leaf.prop_recursive(2, 8, 3, |inner| proptest::collection::vec(inner, 0..3).prop_map(Either::Many))
}

fn any_everything() -> impl Strategy<Value = Everything> {
    let scalars = (
        any::<bool>(),
        any::<i8>(),
        any::<i64>(),
        any::<u64>(),
        any::<f32>().prop_filter("finite", |float| float.is_finite()),
        finite(),
        any::<char>(),
        "\\PC{0,6}",
    );
    let maps = (
        proptest::collection::btree_map(any::<i32>(), any_unit(), 0..3),
        proptest::collection::btree_map(any_unit(), any::<bool>(), 0..3),
        proptest::collection::btree_map(any::<bool>(), any::<u8>(), 0..3),
        proptest::collection::btree_map(any::<char>(), any::<u8>(), 0..3),
    );
    let rest = (
        any::<Option<u8>>(),
        any::<[i16; 3]>(),
        prop_oneof![finite().prop_map(|radius| Tagged::Circle { radius }), Just(Tagged::Empty)],
        any_either(),
        any_json(),
        any::<Option<String>>(),
        proptest::collection::vec(any::<u8>(), 0..3),
    );
    let flat = (scalars, maps, rest)
        .prop_map(|(scalars, maps, rest)| Everything {
            bool: scalars.0,
            small: scalars.1,
            least: scalars.2,
            greatest: scalars.3,
            single: scalars.4,
            double: scalars.5,
            char: scalars.6,
            text: scalars.7.clone(),
            // `Some(None)` is null in JSON too.
            none: rest.0.map(Some),
            id: Id(scalars.3),
            unit: (),
            pair: (1, scalars.7),
            array: rest.1,
            list: vec![Shape::Nothing, Shape::Wrapped(Some(scalars.1)), Shape::Wrapped(None)],
            numbered: maps.0,
            by_unit: maps.1,
            by_bool: maps.2,
            by_char: maps.3,
            tagged: rest.2,
            either: rest.3,
            anything: rest.4,
            shared: Shared { colour: rest.5 },
            skipped: rest.6,
        })
        .boxed();
    (flat.clone(), proptest::option::of(flat)).prop_map(|(mut outer, inner)| {
        outer.list.push(Shape::Pair(7, "x".to_owned()));
        outer.list.push(Shape::Named { a: 'a', b: inner.map(Box::new) });
        outer
    })
}

proptest! {
    #[test]
    fn what_json_can_say_has_the_form_of_json_and_comes_back(value in any_everything()) {
        let stored = to_value(&value).unwrap();
        prop_assert_eq!(Json::from(stored.clone()), serde_json::to_value(&value).unwrap());
        prop_assert_eq!(from_value::<Everything>(stored).unwrap(), value);
    }

    #[test]
    fn json_goes_in_and_out_as_it_always_does(json in any_json()) {
        let stored = to_value(&json).unwrap();
        prop_assert_eq!(&stored, &Value::from(json.clone()));
        let back: Json = from_value(stored).unwrap();
        prop_assert_eq!(back.to_string(), json.to_string());
    }
}

/// Bytes as a type that asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Raw;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
                Ok(Raw(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[test]
fn bytes_and_great_integers_stay_what_they_are() {
    let bytes = Raw(vec![0, 255, 7]);
    assert_eq!(to_value(&bytes).unwrap(), Value::Bytes(vec![0, 255, 7]));
    assert_eq!(from_value::<Raw>(Value::Bytes(vec![0, 255, 7])).unwrap(), bytes);
    assert_eq!(from_value::<Vec<u8>>(Value::Bytes(vec![1, 2])).unwrap(), [1, 2]);
    assert_eq!(from_value::<Json>(Value::Bytes(vec![1, 2])).unwrap(), json!([1, 2]));
    let greatest = Value::Int(Integer::MAX);
    assert_eq!(to_value(&u128::from(u64::MAX)).unwrap(), greatest);
    assert_eq!(from_value::<i128>(greatest.clone()).unwrap(), i128::from(u64::MAX));
    assert_eq!(from_value::<u64>(greatest).unwrap(), u64::MAX);
    assert_eq!(to_value(&i128::from(i64::MIN)).unwrap(), Value::Int(Integer::MIN));
    assert_eq!(from_value::<f32>(to_value(&0.1f32).unwrap()).unwrap().to_bits(), 0.1f32.to_bits());
    assert_eq!(from_value::<f64>(Value::from(3)).unwrap(), 3.0);
}

fn refused<T: Serialize>(value: &T) -> String {
    match to_value(value) {
        Err(DbError::Encode(cause)) => cause.to_string(),
        other => panic!("{other:?}"),
    }
}

fn misread<T: DeserializeOwned + std::fmt::Debug>(json: Json) -> String {
    match from_value::<T>(Value::from(json)) {
        Err(DbError::Decode(cause)) => cause.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_stored_is_an_error_that_names_the_place() {
    #[derive(Serialize)]
    struct Tag {
        weight: f64,
    }
    #[derive(Serialize)]
    struct Item {
        tags: Vec<Tag>,
    }
    let item = |weight| Item { tags: vec![Tag { weight: 1.0 }, Tag { weight }] };
    assert_eq!(refused(&item(f64::NAN)), "tags[1].weight: a float must be finite");
    assert_eq!(refused(&item(f64::NEG_INFINITY)), "tags[1].weight: a float must be finite");
    assert_eq!(refused(&[u128::MAX]), "[0]: integers go from -2^63 to 2^64 - 1");
    assert_eq!(refused(&BTreeMap::from([(vec![1], 1)])), "the key of a map must be a text");
    assert_eq!(
        refused(&BTreeMap::from([("n", Counter::new(1))])),
        "n: a counter must be a field of a row itself"
    );
}

#[test]
fn what_is_not_of_the_type_is_an_error_that_names_the_place_and_both_types() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read into")]
    struct Tag {
        name: String,
        size: Option<u8>,
        unit: Option<Unit>,
        shape: Option<Shape>,
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read into")]
    struct Item {
        tags: Vec<Tag>,
    }
    let item = |tag: Json| json!({"tags": [{"name": "a"}, tag]});
    assert_eq!(misread::<Item>(json!({"tags": "x"})), "tags: expected a sequence, found text");
    assert_eq!(misread::<Item>(item(json!({"name": 5}))), "tags[1].name: expected a string, found integer");
    assert_eq!(misread::<Item>(item(json!({}))), "tags[1]: missing field `name`");
    assert_eq!(
        misread::<Item>(item(json!({"name": "a", "size": 300}))),
        "tags[1].size: expected u8, found integer `300`"
    );
    assert_eq!(
        misread::<Item>(item(json!({"name": "a", "unit": "Three"}))),
        "tags[1].unit: unknown variant `Three`, expected `One` or `Two`"
    );
    assert_eq!(
        misread::<Item>(item(json!({"name": "a", "shape": {"Pair": [1, null]}}))),
        "tags[1].shape.Pair[1]: expected a string, found null"
    );
    assert_eq!(
        misread::<Item>(item(json!({"name": "a", "shape": {"Pair": [1, "b", 2]}}))),
        "tags[1].shape.Pair: invalid length 3, expected 2 items"
    );
    assert_eq!(misread::<BTreeMap<u8, u8>>(json!({"x": 1})), "x: expected u8, found text");
    assert_eq!(misread::<Counter>(json!("x")), "expected a counter, found text");
    assert_eq!(misread::<Text>(json!(1)), "expected a text, found integer");
}

#[test]
fn a_wrong_row_type_names_the_row_the_field_and_the_types() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Todo {
        title: String,
    }
    let db = database();
    db.table::<Json>("todos").insert_as("k 1", &json!({"title": 5})).unwrap();
    let error = db.table::<Todo>("todos").get("k 1").unwrap_err();
    assert_eq!(error.to_string(), "the row \"k 1\" does not have the form that was asked for");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "title: expected a string, found integer");
}

#[test]
fn field_types_look_like_what_they_hold_elsewhere() {
    assert_eq!(serde_json::to_value((Counter::new(-3), Text::new("a"))).unwrap(), json!([-3, "a"]));
    let (counter, text): (Counter, Text) = serde_json::from_value(json!([-3, "a"])).unwrap();
    assert_eq!((counter.get(), text.as_str()), (-3, "a"));
    let mut text = Text::new("schön");
    text.insert(4, "ö");
    text.delete(0, 2);
    text.insert(99, "!");
    text.delete(4, 99);
    assert_eq!(text, "höön");
}
