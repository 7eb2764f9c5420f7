//! How a password opens a store: data keys, wrapped by keys that passwords give.
//!
//! ```text
//! config  = [1, key id (16), [memory in KiB, passes, lanes], salt (16), nonce (24), commitment (32),
//!            wrapped data key (48), [BLAKE3 of a config that this one replaces ...], proof (32)]
//! wrapped = the data key, sealed as sections are, under Argon2id(password, salt), for
//!           [1, "wrap", tree (32), store, key id (16), [memory, passes, lanes], salt (16)]
//! proof   = BLAKE3 keyed by the data key, of [tree, store] and everything before it
//! ```
//! Several configs may hold the same data key (a password that was changed) or different ones (a store made twice).
//! A config replaces others only when it proves that whoever wrote it had the data key: without it, a member who was
//! never told a password could take everybody else's away.

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::{StoreName, TreeId};
use zeroize::{Zeroize as _, Zeroizing};

use crate::limits::CONFIG_REPLACES_MAX;
use crate::sealed::format::{DataKey, KeyId};
use crate::wrap::{self, Commitment, Nonce, PasswordCost, WRAPPED_BYTES};

const VERSION: u64 = 1;

/// A data key as a password opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) key: KeyId,
    pub(crate) cost: PasswordCost,
    salt: [u8; 16],
    nonce: Nonce,
    commitment: Commitment,
    wrapped: [u8; WRAPPED_BYTES],
    /// The hashes of configs that it replaces, sorted.
    pub(crate) replaces: Vec<[u8; 32]>,
    proof: [u8; 32],
}

/// Names a config.
pub(crate) fn hash(config: &[u8]) -> [u8; 32] {
    *blake3::hash(config).as_bytes()
}

impl Config {
    /// Wraps a data key.
    pub(crate) fn wrap(
        (tree, store): (&TreeId, &StoreName),
        key: &DataKey,
        password: &str,
        cost: PasswordCost,
        (salt, nonce): ([u8; 16], Nonce),
        mut replaces: Vec<[u8; 32]>,
    ) -> Self {
        replaces.sort_unstable();
        replaces.dedup();
        replaces.truncate(CONFIG_REPLACES_MAX);
        let (id, password_key) = (key.id(), cost.key(password, &salt));
        let context = context((tree, store), id, cost, &salt);
        let (mut sealed, commitment) = wrap::seal(&password_key, &nonce, &context, key.bytes().to_vec());
        let wrapped = <[u8; WRAPPED_BYTES]>::try_from(sealed.as_slice());
        let wrapped = wrapped.expect("a key of 32 bytes is sealed to 48");
        sealed.zeroize();
        let mut config = Self { key: id, cost, salt, nonce, commitment, wrapped, replaces, proof: [0; 32] };
        config.proof = config.proof_by(key, (tree, store));
        config
    }

    /// The data key, if this is the password.
    pub(crate) fn unwrap(&self, (tree, store): (&TreeId, &StoreName), password: &str) -> Option<DataKey> {
        let password_key = self.cost.key(password, &self.salt);
        let context = context((tree, store), self.key, self.cost, &self.salt);
        let opened =
            wrap::open(&password_key, &self.nonce, &context, &self.commitment, &self.wrapped).ok()?;
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(&opened);
        let key = DataKey::new(bytes);
        (key.id() == self.key).then_some(key)
    }

    /// Whether whoever wrote this had the data key.
    pub(crate) fn is_proven_by(&self, key: &DataKey, place: (&TreeId, &StoreName)) -> bool {
        // `blake3::Hash` compares in constant time; nothing here is guessed against, but it costs nothing.
        self.key == key.id() && blake3::Hash::from(self.proof) == self.proof_by(key, place)
    }

    fn proof_by(&self, key: &DataKey, (tree, store): (&TreeId, &StoreName)) -> [u8; 32] {
        let mut hasher =
            blake3::Hasher::new_keyed(&key.derive("eid 2026 encrypted store: proof of a config"));
        let mut w = Writer::new();
        w.array(2).bytes(&tree.0).text(store.as_str());
        self.write(&mut w);
        hasher.update(&w.into_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Everything but the proof.
    fn write(&self, w: &mut Writer) {
        w.array(9).uint(VERSION).bytes(&self.key.0);
        self.cost.write(w);
        w.bytes(&self.salt).bytes(&self.nonce).bytes(&self.commitment).bytes(&self.wrapped);
        w.array(self.replaces.len());
        for replaced in &self.replaces {
            w.bytes(replaced);
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        self.write(&mut w);
        w.bytes(&self.proof);
        Bytes::from(w.into_bytes())
    }

    /// Decodes, strictly. A cost that cannot be borne is not one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(9)?;
        if r.uint()? != VERSION {
            return Err(CborError::Limit);
        }
        let key = KeyId(r.fixed()?);
        let cost = PasswordCost::read(&mut r)?;
        let (salt, nonce, commitment, wrapped) = (r.fixed()?, r.fixed()?, r.fixed()?, r.fixed()?);
        let mut replaces: Vec<[u8; 32]> = Vec::new();
        for _ in 0..r.array(CONFIG_REPLACES_MAX)? {
            let replaced = r.fixed()?;
            if replaces.last().is_some_and(|last| *last >= replaced) {
                return Err(CborError::NonCanonical);
            }
            replaces.push(replaced);
        }
        let proof = r.fixed()?;
        r.finish()?;
        Ok(Self { key, cost, salt, nonce, commitment, wrapped, replaces, proof })
    }
}

fn context((tree, store): (&TreeId, &StoreName), key: KeyId, cost: PasswordCost, salt: &[u8; 16]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(7).uint(VERSION).text("wrap").bytes(&tree.0).text(store.as_str()).bytes(&key.0);
    cost.write(&mut w);
    w.bytes(salt);
    w.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PASSWORD_MEMORY_KIB_MAX;

    const COST: PasswordCost = PasswordCost { memory_kib: 8, passes: 1, lanes: 1 };
    const TREE: TreeId = TreeId([7; 32]);

    fn key(byte: u8) -> DataKey {
        DataKey::new(Zeroizing::new([byte; 32]))
    }

    fn wrapped(byte: u8, password: &str, replaces: Vec<[u8; 32]>) -> (StoreName, Config) {
        let store = StoreName::new("vault").unwrap();
        let config = Config::wrap((&TREE, &store), &key(byte), password, COST, ([1; 16], [2; 24]), replaces);
        (store, config)
    }

    #[test]
    fn a_password_opens_what_it_wrapped_in_its_place_only() {
        let (store, config) = wrapped(3, "correct horse", vec![[5; 32], [4; 32], [5; 32]]);
        let bytes = config.encode();
        assert_eq!(Config::decode(&bytes), Ok(config.clone()));
        assert_eq!(config.replaces, [[4; 32], [5; 32]]);
        let opened = config.unwrap((&TREE, &store), "correct horse").unwrap();
        assert_eq!(opened.bytes(), &[3; 32]);
        assert!(config.is_proven_by(&opened, (&TREE, &store)));
        assert!(config.unwrap((&TREE, &store), "correct horsf").is_none());
        assert!(config.unwrap((&TreeId([0; 32]), &store), "correct horse").is_none());
        let other = StoreName::new("other").unwrap();
        assert!(config.unwrap((&TREE, &other), "correct horse").is_none());
        for at in 0..bytes.len() {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            let Ok(changed) = Config::decode(&bytes) else { continue };
            let opened = changed.unwrap((&TREE, &store), "correct horse");
            assert!(!opened.is_some_and(|key| changed.is_proven_by(&key, (&TREE, &store))), "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert!(Config::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_cost_that_would_burn_memory_or_time_is_refused_before_it_is_paid() {
        let bad = [
            (u32::MAX, 1, 1),
            (PASSWORD_MEMORY_KIB_MAX + 1, 1, 1),
            (PASSWORD_MEMORY_KIB_MAX, u32::MAX, 1),
            (64, 1, 9),
            (8, 0, 1),
            (8, 1, 0),
            (15, 1, 2),
        ];
        for (memory_kib, passes, lanes) in bad {
            let (_, mut config) = wrapped(3, "p", Vec::new());
            config.cost = PasswordCost { memory_kib, passes, lanes };
            assert!(Config::decode(&config.encode()).is_err(), "{:?}", config.cost);
        }
        assert!(PasswordCost::default().is_bearable());
    }

    #[test]
    fn only_who_has_the_key_can_replace() {
        let (store, real) = wrapped(3, "p", Vec::new());
        let replaced = vec![hash(&real.encode())];
        let (_, mut forged) = wrapped(4, "q", replaced.clone());
        forged.key = key(3).id();
        assert!(!forged.is_proven_by(&key(3), (&TREE, &store)));
        let (_, mut lifted) = wrapped(3, "q", Vec::new());
        lifted.replaces = replaced;
        assert!(!lifted.is_proven_by(&key(3), (&TREE, &store)));
    }

    #[test]
    fn debug_tells_no_key() {
        let shown = format!("{:?}", key(3));
        assert!(!shown.contains("3, 3, 3") && shown.contains("KeyId"), "{shown}");
    }
}
