//! Values as bytes whose order is that of the values: what an index sorts by.
//!
//! For all values, [`Value::sort_order`] is the order of the bytes, but that values which begin alike for
//! [`SORTABLE_BYTES_MAX`] bytes may be the same bytes, marked as cut. No form is the beginning of another, so a key can
//! stand behind it. Numbers of both types are one order: a float at or below the number, and what is missing to it.
//! Lists and maps have no order among themselves, and so no content here. What is absent sorts as null.
//!
//! ```text
//! null    00
//! bool    01 00|01
//! number  02 float(8) rest(2)
//! text    03 byte ... 00 01|02        00 in the text is 00 ff; 01 ends all of it, 02 what was cut
//! bytes   04 byte ... 00 01|02
//! list    05
//! map     06
//! ```

use eid_crdt::Value;

use crate::limits::SORTABLE_BYTES_MAX;

const NULL: u8 = 0;
const BOOL: u8 = 1;
const NUMBER: u8 = 2;
const TEXT: u8 = 3;
const BYTES: u8 = 4;
const LIST: u8 = 5;
const MAP: u8 = 6;

const ESCAPED: u8 = 0xff;
const WHOLE: u8 = 1;
const CUT: u8 = 2;

/// What the bytes say of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Other values with these bytes are its equals in order.
    Whole,
    /// Other values with these bytes begin alike.
    Cut,
}

/// The byte that all values of this type begin with.
pub(crate) fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOL,
        Value::Int(_) | Value::Float(_) => NUMBER,
        Value::Text(_) => TEXT,
        Value::Bytes(_) => BYTES,
        Value::List(_) => LIST,
        Value::Map(_) => MAP,
    }
}

/// Appends a value.
pub(crate) fn write(out: &mut Vec<u8>, value: &Value) -> Form {
    out.push(rank(value));
    match value {
        Value::Null | Value::List(_) | Value::Map(_) => Form::Whole,
        Value::Bool(value) => {
            out.push(u8::from(*value));
            Form::Whole
        }
        Value::Int(int) => {
            let int = int.get();
            // The cast rounds to the nearest float, which may lie above.
            let near = int as f64;
            let below = if near as i128 > int { near.next_down() } else { near };
            write_number(out, below, int - below as i128);
            Form::Whole
        }
        Value::Float(float) => {
            // Adding zero makes -0.0, which is the same in order, 0.0.
            write_number(out, float.get() + 0.0, 0);
            Form::Whole
        }
        Value::Text(text) => write_string(out, text.as_bytes()),
        Value::Bytes(bytes) => write_string(out, bytes),
    }
}

fn write_number(out: &mut Vec<u8>, float: f64, rest: i128) {
    let bits = float.to_bits();
    let sorted = if float.is_sign_negative() { !bits } else { bits | 1 << 63 };
    out.extend_from_slice(&sorted.to_be_bytes());
    // Below 2^64, floats are at most 2^11 apart.
    out.extend_from_slice(&u16::try_from(rest).unwrap_or(u16::MAX).to_be_bytes());
}

fn write_string(out: &mut Vec<u8>, string: &[u8]) -> Form {
    let kept = &string[..string.len().min(SORTABLE_BYTES_MAX)];
    write_escaped(out, kept);
    let (end, form) = if kept.len() == string.len() { (WHOLE, Form::Whole) } else { (CUT, Form::Cut) };
    out.extend_from_slice(&[0, end]);
    form
}

fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(ESCAPED);
        }
    }
}

/// What all texts with this beginning begin with, and whether nothing else does.
pub(crate) fn text_prefix(prefix: &str) -> (Vec<u8>, Form) {
    let kept = &prefix.as_bytes()[..prefix.len().min(SORTABLE_BYTES_MAX)];
    let mut out = vec![TEXT];
    write_escaped(&mut out, kept);
    (out, if kept.len() == prefix.len() { Form::Whole } else { Form::Cut })
}

/// How many of the bytes are a value, and in which form. Nothing when they do not begin with one.
pub(crate) fn split(bytes: &[u8]) -> Option<(usize, Form)> {
    match *bytes.first()? {
        NULL | LIST | MAP => Some((1, Form::Whole)),
        BOOL => Some((2, Form::Whole)),
        NUMBER => Some((11, Form::Whole)),
        TEXT | BYTES => {
            let mut at = 1;
            loop {
                at += bytes.get(at..)?.iter().position(|byte| *byte == 0)? + 2;
                match *bytes.get(at - 1)? {
                    ESCAPED => {}
                    WHOLE => return Some((at, Form::Whole)),
                    CUT => return Some((at, Form::Cut)),
                    _ => return None,
                }
            }
        }
        _ => None,
    }
    .filter(|(len, _)| *len <= bytes.len())
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;
    use crate::codec::tests::any_value;

    fn near_a_power_of_two() -> impl Strategy<Value = Value> {
        (50u32..64, -3000i128..3000, any::<bool>()).prop_map(|(power, by, as_float)| {
            let int = eid_crdt::Integer::saturating((1i128 << power) + by);
            let int = if power % 2 == 0 { int } else { eid_crdt::Integer::saturating(-int.get()) };
            if as_float { Value::from(int.get() as f64) } else { Value::from(int) }
        })
    }

    fn long_text() -> impl Strategy<Value = Value> {
        (SORTABLE_BYTES_MAX - 2..SORTABLE_BYTES_MAX + 3, "[\\x00ab]{0,3}", any::<bool>()).prop_map(
            |(len, end, text)| {
                let string = "x".repeat(len) + &end;
                if text { Value::from(string) } else { Value::from(string.into_bytes()) }
            },
        )
    }

    fn awkward() -> impl Strategy<Value = Value> {
        prop_oneof![
            any_value(),
            near_a_power_of_two(),
            (-3i64..3).prop_map(Value::from),
            (-6i32..6).prop_map(|n| Value::from(f64::from(n) / 2.0)),
            "[\\x00\\x01\\x02\u{ff}a]{0,3}".prop_map(Value::from),
            long_text(),
        ]
    }

    /// Two numbers between which there may be no float.
    fn close_numbers() -> impl Strategy<Value = (Value, Value)> {
        (52u32..64, -600i128..600, -3i128..4, any::<[bool; 3]>()).prop_map(
            |(power, by, apart, [negative, a, b])| {
                let value = |int: i128, as_float: bool| {
                    let int = eid_crdt::Integer::saturating(if negative { -int } else { int });
                    if as_float { Value::from(int.get() as f64) } else { Value::from(int) }
                };
                let int = (1i128 << power) + by;
                (value(int, a), value(int + apart, b))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn numbers_that_floats_do_not_tell_apart_are_in_order((a, b) in close_numbers()) {
            let (mut x, mut y) = (Vec::new(), Vec::new());
            write(&mut x, &a);
            write(&mut y, &b);
            prop_assert_eq!(x.cmp(&y), a.sort_order(&b));
        }

        #[test]
        fn bytes_are_in_the_order_of_the_values(a in awkward(), b in awkward(), key_a in "\\PC{0,3}", key_b in "\\PC{0,3}") {
            let (mut x, mut y) = (Vec::new(), Vec::new());
            let (form, other) = (write(&mut x, &a), write(&mut y, &b));
            prop_assert_eq!(split(&x), Some((x.len(), form)));
            match a.sort_order(&b) {
                Ordering::Equal => prop_assert_eq!(&x, &y),
                order if x == y => prop_assert_eq!((form, other), (Form::Cut, Form::Cut), "{:?}", order),
                order => {
                    prop_assert_eq!(x.cmp(&y), order);
                    // Also with keys behind them.
                    let (x, y) = ([&x[..], key_a.as_bytes()].concat(), [&y[..], key_b.as_bytes()].concat());
                    prop_assert_eq!(x.cmp(&y), order);
                    prop_assert_eq!(split(&x).map(|(len, _)| len), Some(x.len() - key_a.len()));
                }
            }
        }

        #[test]
        fn a_prefix_has_exactly_the_texts_that_begin_with_it(text in "[\\x00ab]{0,4}", prefix in "[\\x00ab]{0,3}") {
            let mut bytes = Vec::new();
            write(&mut bytes, &Value::from(&text));
            let (begins, form) = text_prefix(&prefix);
            prop_assert_eq!(form, Form::Whole);
            prop_assert_eq!(bytes.starts_with(&begins), text.starts_with(&prefix));
        }

        #[test]
        fn damaged_bytes_are_no_value_or_another_one(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Some((len, _)) = split(&bytes) {
                prop_assert!((1..=bytes.len()).contains(&len));
            }
        }
    }

    #[test]
    fn zero_is_one_number() {
        let forms = [Value::from(0), Value::from(0.0), Value::from(-0.0)].map(|zero| {
            let mut bytes = Vec::new();
            write(&mut bytes, &zero);
            bytes
        });
        assert!(forms.iter().all(|form| *form == forms[0]), "{forms:?}");
    }
}
