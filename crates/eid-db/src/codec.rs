//! Values as canonical CBOR: one byte form for each value, on the wire and in rows.

use std::collections::BTreeMap;

use eid_core::cbor::{CborError, Kind, Reader, Writer};
use eid_core::limits::NESTING_MAX;
use eid_crdt::{Finite, Integer, Value};

/// Appends a value.
pub(crate) fn write_value(w: &mut Writer, value: &Value) {
    match value {
        Value::Null => w.null(),
        Value::Bool(value) => w.bool(*value),
        Value::Int(int) => w.int(int.get()),
        Value::Float(float) => w.float(float.get()),
        Value::Text(text) => w.text(text),
        Value::Bytes(bytes) => w.bytes(bytes),
        Value::List(items) => {
            w.array(items.len());
            items.iter().for_each(|item| write_value(w, item));
            w
        }
        Value::Map(items) => {
            w.map(items.len());
            for (key, item) in map_order(items) {
                w.text(key);
                write_value(w, item);
            }
            w
        }
    };
}

/// The order of map keys: by their encoded bytes, and so shorter ones first.
pub(crate) fn map_order<V>(items: &BTreeMap<String, V>) -> Vec<(&str, &V)> {
    let mut sorted: Vec<(&str, &V)> = items.iter().map(|(key, item)| (key.as_str(), item)).collect();
    sorted.sort_by(|(a, _), (b, _)| key_order(a).cmp(&key_order(b)));
    sorted
}

fn key_order(key: &str) -> (usize, &[u8]) {
    (key.len(), key.as_bytes())
}

/// Reads the keys of a map and what stands under them, strictly: ascending, none twice.
pub(crate) fn read_map<'a, V>(
    r: &mut Reader<'a>,
    items_max: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<V, CborError>,
) -> Result<BTreeMap<String, V>, CborError> {
    let count = r.map(items_max)?;
    let mut items = BTreeMap::new();
    let mut last: Option<&str> = None;
    for _ in 0..count {
        let key = r.text(usize::MAX)?;
        if last.is_some_and(|last| key_order(last) >= key_order(key)) {
            return Err(CborError::NonCanonical);
        }
        last = Some(key);
        items.insert(key.to_owned(), read(r)?);
    }
    Ok(items)
}

/// Reads a value.
pub(crate) fn read_value(r: &mut Reader<'_>) -> Result<Value, CborError> {
    read_nested(r, NESTING_MAX)
}

fn read_nested(r: &mut Reader<'_>, depth_left: usize) -> Result<Value, CborError> {
    let deeper = depth_left.checked_sub(1).ok_or(CborError::Limit);
    Ok(match r.peek()? {
        Kind::Null => r.null().map(|()| Value::Null)?,
        Kind::Bool => Value::Bool(r.bool()?),
        Kind::Uint | Kind::Negative => Value::Int(Integer::new(r.int()?).ok_or(CborError::Limit)?),
        Kind::Float => Value::Float(Finite::new(r.float()?).ok_or(CborError::NonCanonical)?),
        Kind::Text => Value::Text(r.text(usize::MAX)?.to_owned()),
        Kind::Bytes => Value::Bytes(r.bytes(usize::MAX)?.to_vec()),
        Kind::Array => {
            let deeper = deeper?;
            let count = r.array(usize::MAX)?;
            (0..count).map(|_| read_nested(r, deeper)).collect::<Result<_, _>>().map(Value::List)?
        }
        Kind::Map => {
            let deeper = deeper?;
            Value::Map(read_map(r, usize::MAX, |r| read_nested(r, deeper))?)
        }
    })
}

/// The value of its canonical bytes.
pub(crate) fn decode_value(bytes: &[u8]) -> Result<Value, CborError> {
    let mut r = Reader::new(bytes);
    let value = read_value(&mut r)?;
    r.finish()?;
    Ok(value)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode_value(value: &Value) -> Vec<u8> {
        let mut w = Writer::new();
        write_value(&mut w, value);
        w.into_bytes()
    }

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::from(-0.0)),
            "\\PC{0,6}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::btree_map("\\PC{0,3}", inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_round_trip_and_have_one_form(value in any_value(), flip in any::<prop::sample::Index>()) {
            let bytes = encode_value(&value);
            prop_assert_eq!(decode_value(&bytes), Ok(value));
            let mut other = bytes.clone();
            let at = flip.index(other.len());
            other[at] ^= 1;
            if let Ok(value) = decode_value(&other) {
                prop_assert_eq!(encode_value(&value), other);
            }
        }
    }

    #[test]
    fn what_is_not_a_value_is_refused() {
        let infinite = [0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode_value(&infinite), Err(CborError::NonCanonical));
        // -2^63 - 1 is an integer of CBOR, not of ours.
        assert_eq!(decode_value(&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(CborError::Limit));
        // {"b": null, "a": null}
        assert_eq!(decode_value(&[0xa2, 0x61, b'b', 0xf6, 0x61, b'a', 0xf6]), Err(CborError::NonCanonical));
    }
}
