//! Content identifiers: 32 raw bytes in memory, keys and frames; a CIDv1 wherever people or other tools read them.

use std::fmt;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};

/// CIDv1, codec dag-cbor (0x71), multihash BLAKE3 (0x1e) of 32 bytes: any IPLD tool can name and check an entry.
const CID_PREFIX: [u8; 4] = [0x01, 0x71, 0x1e, 0x20];

pub(crate) fn base32_lower() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("RFC 4648 base32 in lower case is a valid alphabet")
}

/// Names an entry by the BLAKE3-256 hash of its block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub [u8; 32]);

/// Names a database (tree) by the id of its root entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId(pub [u8; 32]);

/// Says why a text is not an id. Parsing is strict: a shortened or differently encoded id is never accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text does not begin with the multibase prefix of lower-case base32.
    #[error("an id begins with \"b\"")]
    Prefix,
    /// The rest is not lower-case base32 without padding.
    #[error("an id is lower-case base32")]
    Base32,
    /// The decoded bytes are not a CIDv1 of codec dag-cbor with a BLAKE3 hash of 32 bytes.
    #[error("not a CIDv1 of a dag-cbor block with a BLAKE3 hash")]
    Cid,
}

fn to_text(bytes: &[u8; 32]) -> String {
    let mut cid = [0; 36];
    cid[..4].copy_from_slice(&CID_PREFIX);
    cid[4..].copy_from_slice(bytes);
    let mut text = String::with_capacity(59);
    text.push('b');
    base32_lower().encode_append(&cid, &mut text);
    text
}

fn from_text(text: &str) -> Result<[u8; 32], ParseIdError> {
    let rest = text.strip_prefix('b').ok_or(ParseIdError::Prefix)?;
    if rest.len() != 58 {
        return Err(ParseIdError::Cid);
    }
    let cid = base32_lower().decode(rest.as_bytes()).map_err(|_| ParseIdError::Base32)?;
    let hash = cid.strip_prefix(&CID_PREFIX[..]).ok_or(ParseIdError::Cid)?;
    hash.try_into().map_err(|_| ParseIdError::Cid)
}

impl EntryId {
    /// The id of a block: its plain BLAKE3-256 hash.
    #[must_use]
    pub fn of_block(block: &[u8]) -> Self {
        Self(*blake3::hash(block).as_bytes())
    }

    /// The first eight bytes: the short id of negotiation. A hint only; two entries may share it.
    #[must_use]
    pub fn prefix(&self) -> [u8; 8] {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        prefix
    }

    /// A form for narrow displays. It is never parsed.
    #[must_use]
    pub fn short(&self) -> String {
        let text = to_text(&self.0);
        text[text.len() - 8..].to_owned()
    }
}

impl TreeId {
    /// The id of the root entry.
    #[must_use]
    pub fn root(&self) -> EntryId {
        EntryId(self.0)
    }

    /// A form for narrow displays. It is never parsed.
    #[must_use]
    pub fn short(&self) -> String {
        self.root().short()
    }
}

impl From<EntryId> for TreeId {
    fn from(id: EntryId) -> Self {
        Self(id.0)
    }
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_text(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), to_text(&self.0))
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                from_text(text).map(Self)
            }
        }
    };
}
text_form!(EntryId);
text_form!(TreeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_is_a_cid() {
        let id = EntryId([0xab; 32]);
        let text = id.to_string();
        assert_eq!(text.len(), 59);
        assert!(text.starts_with("bafyr4i"));
        assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn other_text_is_refused() {
        let text = EntryId([0xab; 32]).to_string();
        assert_eq!(text.to_uppercase().parse::<EntryId>(), Err(ParseIdError::Prefix));
        assert_eq!(text[..20].parse::<EntryId>(), Err(ParseIdError::Cid));
        assert_eq!(text.replacen("bafy", "bafk", 1).parse::<EntryId>(), Err(ParseIdError::Cid));
        // The last character carries two unused bits: only their zero form is an id.
        let last = if text.ends_with('a') { 'b' } else { 'a' };
        let altered = format!("{}{last}", &text[..58]);
        assert_ne!(altered.parse::<EntryId>(), Ok(EntryId([0xab; 32])));
    }
}
