//! Where a value lies in a document.

use std::fmt;
use std::str::FromStr;

use crate::limits::{PATH_BYTES_MAX, PATH_KEYS_MAX};

/// A path: the keys from the root of a document to a value. Keys are any text, also with dots in them, also empty.
///
/// A text that is taken as a path is a JSON pointer when it begins with a slash, and has its keys parted by dots
/// otherwise. One that is neither, because a key would be empty or a `~` stands alone, is one key as it is;
/// [`Path::from_str`] refuses it. Keys that come from elsewhere are best given one by one, as an array: nothing in them
/// is looked at.
///
/// A key names what is in a map, and in a list, where a path is read, an item by its index.
///
/// ```
/// use eid_db::Path;
///
/// assert_eq!(Path::from("a.b"), Path::from(["a", "b"]));
/// assert_eq!(Path::from("/a.b/c~1d"), Path::from(["a.b", "c/d"]));
/// assert_eq!(Path::from(["a.b"]).keys(), ["a.b"]);
/// assert_eq!(Path::from("wait..."), Path::from(["wait..."]));
/// assert!("wait...".parse::<Path>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<String>);

/// Says why a text is not a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParsePathError {
    /// The text is empty.
    #[error("the path is empty")]
    Empty,
    /// Two dots stand together, or one at an end; an empty key is written as a JSON pointer.
    #[error("the path has an empty key; write it as a JSON pointer (/a//b)")]
    EmptyKey,
    /// A `~` stands alone in a JSON pointer.
    #[error("in a JSON pointer ~ is written ~0")]
    Escape,
}

impl Path {
    /// The whole document.
    #[must_use]
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.0
    }

    /// The path of what lies below under this key.
    #[must_use]
    pub fn child(&self, key: impl Into<String>) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.into());
        Self(keys)
    }

    /// Whether a value can be written there.
    pub(crate) fn is_writable(keys: &[String]) -> bool {
        (1..=PATH_KEYS_MAX).contains(&keys.len())
            && keys.iter().map(String::len).sum::<usize>() <= PATH_BYTES_MAX
    }
}

impl FromStr for Path {
    type Err = ParsePathError;

    /// Parses a JSON pointer (begins with a slash) or keys parted by dots.
    fn from_str(text: &str) -> Result<Self, ParsePathError> {
        if text.is_empty() {
            return Err(ParsePathError::Empty);
        }
        let Some(pointer) = text.strip_prefix('/') else {
            let keys: Vec<String> = text.split('.').map(str::to_owned).collect();
            return if keys.iter().any(String::is_empty) {
                Err(ParsePathError::EmptyKey)
            } else {
                Ok(Self(keys))
            };
        };
        pointer.split('/').map(unescape).collect::<Result<_, _>>().map(Self)
    }
}

fn unescape(key: &str) -> Result<String, ParsePathError> {
    let mut parts = key.split('~');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(ParsePathError::Escape),
        };
        out.push(sign);
        out.push_str(rest);
    }
    Ok(out)
}

/// Dots where they suffice, a JSON pointer otherwise: what [`Path::from_str`] reads.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |key: &String| !key.is_empty() && !key.contains('.');
        if self.0.iter().all(plain) && self.0.first().is_none_or(|key| !key.starts_with('/')) {
            return f.write_str(&self.0.join("."));
        }
        for key in &self.0 {
            write!(f, "/{}", key.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

/// As a text is taken for a path: see [`Path`].
impl From<&str> for Path {
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| Self(vec![text.to_owned()]))
    }
}

/// As a text is taken for a path: see [`Path`].
impl From<String> for Path {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Path {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Vec<String>> for Path {
    fn from(keys: Vec<String>) -> Self {
        Self(keys)
    }
}

impl From<&[&str]> for Path {
    fn from(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| (*key).to_owned()).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Path {
    fn from(keys: [&str; N]) -> Self {
        Self::from(&keys[..])
    }
}

impl From<&Self> for Path {
    fn from(path: &Self) -> Self {
        path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_shown_parses_back(keys in proptest::collection::vec("[a./~é]{0,3}", 1..4)) {
            let path = Path::from(keys);
            prop_assert_eq!(path.to_string().parse::<Path>(), Ok(path));
        }
    }

    #[test]
    fn broken_texts_are_refused() {
        assert_eq!("".parse::<Path>(), Err(ParsePathError::Empty));
        assert_eq!("a..b".parse::<Path>(), Err(ParsePathError::EmptyKey));
        assert_eq!("/a~2".parse::<Path>(), Err(ParsePathError::Escape));
        assert_eq!("/a~".parse::<Path>(), Err(ParsePathError::Escape));
        assert_eq!("/".parse::<Path>(), Ok(Path::from([""])));
    }
}
