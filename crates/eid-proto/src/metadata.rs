//! What somebody who asks for access says of himself, beside his name.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded::{List, Text};
use crate::limits::{METADATA_BYTES_MAX, METADATA_FIELDS_MAX};

/// A few named texts: at most [`METADATA_BYTES_MAX`] bytes of names and texts together. On the wire they stand in the order
/// of their names, each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(BTreeMap<String, String>);

type Wire = List<(Text<METADATA_BYTES_MAX>, Text<METADATA_BYTES_MAX>), METADATA_FIELDS_MAX>;

impl Metadata {
    /// Takes them; nothing when they are too many or too long.
    #[must_use]
    pub fn new(fields: BTreeMap<String, String>) -> Option<Self> {
        let bytes: usize = fields.iter().map(|(name, text)| name.len() + text.len()).sum();
        (fields.len() <= METADATA_FIELDS_MAX && bytes <= METADATA_BYTES_MAX).then_some(Self(fields))
    }

    /// The texts by their names.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields: Vec<(&String, &String)> = self.0.iter().collect();
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = BTreeMap::new();
        for (name, text) in Wire::deserialize(deserializer)?.into_vec() {
            let name = name.into_string();
            if fields.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(D::Error::custom("the names are not in their order"));
            }
            fields.insert(name, text.into_string());
        }
        Self::new(fields).ok_or_else(|| D::Error::custom("the texts are too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_decodes_in_one_order_only_and_up_to_its_bounds() {
        let decode = |fields: &[(&str, &str)]| {
            let bytes = postcard::to_stdvec(fields).unwrap();
            postcard::from_bytes::<Metadata>(&bytes).ok()
        };
        let good = decode(&[("a", "1"), ("b", "")]).expect("it is well formed");
        assert_eq!(
            postcard::to_stdvec(&good).unwrap(),
            postcard::to_stdvec(&vec![("a", "1"), ("b", "")]).unwrap()
        );
        assert_eq!(decode(&[("b", "1"), ("a", "1")]), None);
        assert_eq!(decode(&[("a", "1"), ("a", "2")]), None);
        let half = "x".repeat(METADATA_BYTES_MAX / 2);
        assert!(decode(&[("a", &half[1..]), ("b", &half[1..])]).is_some());
        assert_eq!(decode(&[("a", &half), ("b", &half[1..])]), None);
        let names: Vec<String> = (0..=METADATA_FIELDS_MAX).map(|n| format!("{n:02}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert!(decode(&many[1..]).is_some());
        assert_eq!(decode(&many), None);
    }
}
