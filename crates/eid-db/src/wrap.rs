//! Sealing under a key, and the keys that passwords give: what encrypted stores and accounts have in common.
//!
//! ```text
//! sealed = XChaCha20-Poly1305(subkey, nonce, context, bytes)
//! subkey || commitment = BLAKE3 XOF, keyed by the key, of nonce || context
//! ```
//! XChaCha20-Poly1305 alone lets somebody make a ciphertext that opens under two keys. Here the commitment is a hash of
//! everything that decides how it opens, key included, so what is sealed opens under one key, for one purpose.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use eid_core::cbor::{CborError, Reader, Writer};
use zeroize::Zeroizing;

use crate::limits::{PASSWORD_LANES_MAX, PASSWORD_MEMORY_KIB_MAX, PASSWORD_WORK_KIB_MAX};

/// Bytes that sealing adds.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a key of 32 bytes that is sealed.
pub(crate) const WRAPPED_BYTES: usize = 32 + TAG_BYTES;

/// Fresh for everything that is sealed: 24 random bytes never repeat.
pub(crate) type Nonce = [u8; 24];
/// Says that one key and one context were used.
pub(crate) type Commitment = [u8; 32];

/// It does not open: another key, another place, or other bytes than were sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is sealed does not open")]
pub(crate) struct Unopened;

/// What one try of a password costs: the parameters of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes: how much of it can be done at the same time.
    pub lanes: u32,
}

impl Default for PasswordCost {
    /// 64 MiB, 3 passes, 4 lanes: the second recommendation of RFC 9106.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl PasswordCost {
    /// Whether it can be worked out at all, and in reasonable time and memory: others choose it too.
    pub(crate) fn is_bearable(self) -> bool {
        let work = u64::from(self.memory_kib) * u64::from(self.passes);
        (1..=PASSWORD_LANES_MAX).contains(&self.lanes)
            && self.passes >= 1
            && (8 * self.lanes..=PASSWORD_MEMORY_KIB_MAX).contains(&self.memory_kib)
            && work <= PASSWORD_WORK_KIB_MAX
    }

    pub(crate) fn work_kib(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// The key that a password gives.
    pub(crate) fn key(self, password: &str, salt: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32));
        let params = params.expect("the cost was found bearable");
        let mut memory = vec![Block::default(); params.block_count()];
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; 32]);
        argon
            .hash_password_into_with_memory(password.as_bytes(), salt, &mut *key, &mut memory)
            .expect("password, salt, key and memory have lengths that Argon2 knows");
        memory.iter_mut().for_each(zeroize::Zeroize::zeroize);
        key
    }

    pub(crate) fn write(self, w: &mut Writer) {
        w.array(3).uint(self.memory_kib.into()).uint(self.passes.into()).uint(self.lanes.into());
    }
    /// Reads what [`Self::write`] wrote, before anything is paid. A cost that cannot be borne is not one.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        r.array_exact(3)?;
        let mut number = || u32::try_from(r.uint()?).map_err(|_| CborError::Limit);
        let cost = Self { memory_kib: number()?, passes: number()?, lanes: number()? };
        if cost.is_bearable() { Ok(cost) } else { Err(CborError::Limit) }
    }
}

/// Seals bytes under a key for one purpose.
pub(crate) fn seal(
    key: &[u8; 32],
    nonce: &Nonce,
    context: &[u8],
    mut bytes: Vec<u8>,
) -> (Vec<u8>, Commitment) {
    let (subkey, commitment) = subkey(key, nonce, context);
    let cipher = XChaCha20Poly1305::new((&*subkey).into());
    let tag = cipher
        .encrypt_inout_detached(&XNonce::from(*nonce), context, bytes.as_mut_slice().into())
        .expect("what is sealed is far below the limit of the cipher");
    bytes.extend_from_slice(&tag);
    (bytes, commitment)
}

/// Opens what [`seal`] sealed.
pub(crate) fn open(
    key: &[u8; 32],
    nonce: &Nonce,
    context: &[u8],
    commitment: &Commitment,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let (subkey, wanted) = subkey(key, nonce, context);
    // Not secret, and so compared as any bytes are.
    if wanted != *commitment {
        return Err(Unopened);
    }
    let length = sealed.len().checked_sub(TAG_BYTES).ok_or(Unopened)?;
    let (sealed, tag) = sealed.split_at(length);
    let tag = Tag::try_from(tag).map_err(|_| Unopened)?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    XChaCha20Poly1305::new((&*subkey).into())
        .decrypt_inout_detached(&XNonce::from(*nonce), context, bytes.as_mut_slice().into(), &tag)
        .map_err(|_| Unopened)?;
    Ok(bytes)
}

fn subkey(key: &[u8; 32], nonce: &Nonce, context: &[u8]) -> (Zeroizing<[u8; 32]>, Commitment) {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(nonce).update(context);
    let (mut subkey, mut commitment) = (Zeroizing::new([0; 32]), [0; 32]);
    let mut out = hasher.finalize_xof();
    out.fill(&mut *subkey);
    out.fill(&mut commitment);
    (subkey, commitment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the commitment, Poly1305 lets whoever knows two keys make one ciphertext for both.
    #[test]
    fn a_commitment_is_for_one_key() {
        let (nonce, one, two) = ([9; 24], [1; 32], [2; 32]);
        let (_, first) = subkey(&one, &nonce, b"context");
        let (_, second) = subkey(&two, &nonce, b"context");
        assert_ne!(first, second);
        // A ciphertext that decrypts under the second key, with the commitment of the first.
        let (sealed, _) = seal(&two, &nonce, b"context", b"x".to_vec());
        assert_eq!(open(&two, &nonce, b"context", &first, &sealed).err(), Some(Unopened));
        assert!(open(&two, &nonce, b"context", &second, &sealed).is_ok());
    }
}
