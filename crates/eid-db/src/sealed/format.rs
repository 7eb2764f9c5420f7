//! What a sealed section is: its bytes, and nothing about where they lie.
//!
//! ```text
//! enc      = [1, key id (16), nonce (24), commitment (32)]
//! payload  = XChaCha20-Poly1305(subkey, nonce, context, length (4, big endian) || bytes || zeros)
//! context  = [1, purpose, tree (32), store, author (32), key id (16)]
//! subkey || commitment = BLAKE3 XOF, keyed by the data key for this purpose, of nonce || context
//! key id   = the first 16 bytes of BLAKE3 derive-key of the data key
//! ```
//! Subkey and commitment are those of [`crate::wrap`]: a section opens under one key, for one author, in one place.
//! Zeros pad to few lengths (Padmé, "Reducing Metadata Leakage from Encrypted Files", 2019): a length tells its order
//! of magnitude and four bits.

use std::fmt;

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::limits::PAYLOAD_BYTES_MAX;
use eid_core::{PublicKey, StoreName, TreeId};
use zeroize::{Zeroize as _, Zeroizing};

use crate::limits::SEALED_BYTES_MIN;
use crate::wrap::{self, Commitment, Nonce, TAG_BYTES, Unopened};

/// The version of the form of sealed sections that this crate writes and reads.
const VERSION: u64 = 1;
const LENGTH_BYTES: usize = 4;

/// Names a data key without telling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyId(pub(crate) [u8; 16]);

/// What the payloads of a store are sealed with. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct DataKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataKey").field(&self.id()).finish()
    }
}

impl DataKey {
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Made from the key, so that no two keys share one that somebody could find.
    pub(crate) fn id(&self) -> KeyId {
        let mut hash = self.derive("eid 2026 encrypted store: key id");
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        hash.zeroize();
        KeyId(id)
    }

    /// A key for one purpose.
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(&*self.0);
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

/// The encryption parameters of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enc {
    pub(crate) key: KeyId,
    pub(crate) nonce: Nonce,
    pub(crate) commitment: Commitment,
}

impl Enc {
    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.array(4).uint(VERSION).bytes(&self.key.0).bytes(&self.nonce).bytes(&self.commitment);
        Bytes::from(w.into_bytes())
    }

    /// Decodes, strictly.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(4)?;
        if r.uint()? != VERSION {
            return Err(CborError::Limit);
        }
        let enc = Self { key: KeyId(r.fixed()?), nonce: r.fixed()?, commitment: r.fixed()? };
        r.finish()?;
        Ok(enc)
    }
}

/// Where a section stands: sealed for one place, it does not open in another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) tree: &'a TreeId,
    pub(crate) store: &'a StoreName,
    pub(crate) author: &'a PublicKey,
}

const SECTION: &str = "eid 2026 encrypted store: sections";

fn section_context(key: KeyId, place: Place<'_>) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(6).uint(VERSION).text("section").bytes(&place.tree.0).text(place.store.as_str());
    w.bytes(&place.author.0).bytes(&key.0);
    w.into_bytes()
}

/// Seals a payload.
pub(crate) fn seal_section(key: &DataKey, place: Place<'_>, nonce: Nonce, payload: &[u8]) -> (Bytes, Bytes) {
    let id = key.id();
    let context = section_context(id, place);
    let room = PAYLOAD_BYTES_MAX - TAG_BYTES;
    let (sealed, commitment) = wrap::seal(&key.derive(SECTION), &nonce, &context, padded(payload, room));
    (Enc { key: id, nonce, commitment }.encode(), Bytes::from(sealed))
}

/// Opens a payload.
pub(crate) fn open_section(
    key: &DataKey,
    place: Place<'_>,
    enc: &Enc,
    sealed: &[u8],
) -> Result<Bytes, Unopened> {
    let context = section_context(enc.key, place);
    let opened = wrap::open(&key.derive(SECTION), &enc.nonce, &context, &enc.commitment, sealed)?;
    unpadded(opened).map(Bytes::from)
}

/// The bytes after their length, before zeros up to one of few lengths, at most `room`.
pub(crate) fn padded(bytes: &[u8], room: usize) -> Vec<u8> {
    let length = LENGTH_BYTES + bytes.len();
    let mut out = Vec::with_capacity(padme(length).min(room).max(length) + TAG_BYTES);
    // What is longer than its room is refused where payloads are.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
    out.resize(padme(length).min(room).max(length), 0);
    out
}

/// The bytes without what [`padded`] added, which has one form.
pub(crate) fn unpadded(mut bytes: Zeroizing<Vec<u8>>) -> Result<Vec<u8>, Unopened> {
    let length = bytes.first_chunk::<LENGTH_BYTES>().ok_or(Unopened)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Unopened)?;
    let end = length.checked_add(LENGTH_BYTES).filter(|end| *end <= bytes.len()).ok_or(Unopened)?;
    if bytes[end..].iter().any(|byte| *byte != 0) {
        return Err(Unopened);
    }
    bytes.truncate(end);
    Ok(std::mem::take(&mut *bytes).split_off(LENGTH_BYTES))
}

/// The length to pad to: as many of the last bits zero as leaves it within an eighth of what is needed.
fn padme(length: usize) -> usize {
    let length = length.max(SEALED_BYTES_MIN);
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1usize << (exponent - kept)) - 1;
    (length + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> DataKey {
        DataKey::new(Zeroizing::new([byte; 32]))
    }

    fn name(name: &str) -> StoreName {
        StoreName::new(name).unwrap()
    }

    const TREE: TreeId = TreeId([7; 32]);
    const AUTHOR: PublicKey = PublicKey([8; 32]);

    #[test]
    fn a_section_opens_under_its_key_in_its_place_and_in_no_other() {
        let store = name("vault");
        let place = Place { tree: &TREE, store: &store, author: &AUTHOR };
        let (enc, sealed) = seal_section(&key(1), place, [9; 24], b"hello");
        let enc = Enc::decode(&enc).unwrap();
        assert_eq!(open_section(&key(1), place, &enc, &sealed).unwrap(), b"hello"[..]);
        assert_eq!(open_section(&key(2), place, &enc, &sealed), Err(Unopened));
        let (other_tree, other_store, other_author) = (TreeId([1; 32]), name("vaul"), PublicKey([1; 32]));
        for place in [
            Place { tree: &other_tree, ..place },
            Place { store: &other_store, ..place },
            Place { author: &other_author, ..place },
        ] {
            assert_eq!(open_section(&key(1), place, &enc, &sealed), Err(Unopened));
        }
        for at in 0..sealed.len() {
            let mut sealed = sealed.to_vec();
            sealed[at] ^= 1;
            assert_eq!(open_section(&key(1), place, &enc, &sealed), Err(Unopened));
        }
        for cut in 0..sealed.len() {
            assert_eq!(open_section(&key(1), place, &enc, &sealed[..cut]), Err(Unopened));
        }
        let bytes = enc.encode();
        for at in 0..bytes.len() {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            if let Ok(enc) = Enc::decode(&bytes) {
                assert_eq!(open_section(&key(1), place, &enc, &sealed), Err(Unopened), "byte {at}");
            }
        }
    }

    #[test]
    fn lengths_are_hidden_in_few_buckets() {
        let lengths: std::collections::BTreeSet<usize> =
            (0..100_000).map(|len| padme(LENGTH_BYTES + len)).collect();
        assert!(lengths.len() < 160, "{}", lengths.len());
        for len in (0..PAYLOAD_BYTES_MAX).step_by(977) {
            let padded = padme(len);
            assert!(padded >= len && padded <= len.max(SEALED_BYTES_MIN) * 9 / 8 + 1, "{len} {padded}");
        }
    }

    proptest! {
        #[test]
        fn padding_comes_off_and_has_one_form(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), at in any::<prop::sample::Index>(),
        ) {
            let whole = padded(&bytes, PAYLOAD_BYTES_MAX);
            prop_assert_eq!(unpadded(Zeroizing::new(whole.clone())), Ok(bytes.clone()));
            let mut other = whole.clone();
            let at = at.index(other.len());
            other[at] ^= 0x10;
            prop_assert_ne!(unpadded(Zeroizing::new(other)), Ok(bytes));
        }

        #[test]
        fn parameters_have_one_form(id in any::<[u8; 16]>(), nonce in any::<[u8; 24]>(), commitment in any::<[u8; 32]>()) {
            let enc = Enc { key: KeyId(id), nonce, commitment };
            let bytes = enc.encode();
            prop_assert_eq!(Enc::decode(&bytes), Ok(enc));
            for cut in 0..bytes.len() {
                prop_assert!(Enc::decode(&bytes[..cut]).is_err());
            }
            prop_assert!(Enc::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }
}
