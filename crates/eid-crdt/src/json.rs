//! JSON in and out. Every JSON value comes back exactly as it was; bytes, which JSON lacks, go out as a list of
//! numbers.

use serde_json::{Map, Number, Value as Json};

use crate::value::{Finite, Integer, Value};

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => from_number(&number),
            Json::String(text) => Self::Text(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Json::Object(items) => Self::Map(items.into_iter().map(|(k, v)| (k, Self::from(v))).collect()),
        }
    }
}

fn from_number(number: &Number) -> Value {
    let int = number.as_i128().and_then(Integer::new);
    match (int, number.as_f64().and_then(Finite::new)) {
        (Some(int), _) => Value::Int(int),
        (None, Some(float)) => Value::Float(float),
        (None, None) => Value::Null,
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(int) => Number::from_i128(int.get()).map_or(Self::Null, Self::Number),
            Value::Float(float) => Number::from_f64(float.get()).map_or(Self::Null, Self::Number),
            Value::Text(text) => Self::String(text),
            Value::Bytes(bytes) => Self::Array(bytes.into_iter().map(Self::from).collect()),
            Value::List(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Map(items) => {
                Self::Object(items.into_iter().map(|(k, v)| (k, Self::from(v))).collect::<Map<_, _>>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_exactly() {
        let text = r#"{"a.b":1,"a":{"b":[null,true,-0.0,1.0,1e300,0.1,18446744073709551615,-9223372036854775808]},"":"ünï\u0000"}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        let back = Json::from(Value::from(json.clone()));
        assert_eq!(back, json);
        assert_eq!(back.to_string(), json.to_string());
    }
}
