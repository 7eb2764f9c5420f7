//! One function signs, one rule verifies.
//!
//! The rule is ZIP-215 on every path, singly and in bulk: the cofactored equation, `S` canonical, `A` and `R` any
//! encoding of a point. Rules that differ between single and batch verification would let a crafted signature split
//! replicas for ever (Henry de Valence, "It's 255:19AM. Do you know what your validation criteria are?", 2020).

use std::convert::Infallible;

use ed25519_dalek::Signer as _;
use ed25519_zebra::{VerificationKey, VerificationKeyBytes, batch};

use crate::key::{PublicKey, SecretKey, Signature};

/// What a signature is for. Each use has its own domain, so no signature can be shown as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// The header of an entry.
    Entry,
    /// A server's device key over the transcript of a handshake.
    ServerProof,
    /// A client's device key over the transcript of a handshake.
    ClientProof,
    /// A further key (of a database, or of an invite) over the transcript of a handshake.
    KeyProof,
    /// The key of an invite, for one key that joins one database by it.
    Join,
}

impl Domain {
    /// Every domain there is.
    pub const ALL: [Self; 5] =
        [Self::Entry, Self::ServerProof, Self::ClientProof, Self::KeyProof, Self::Join];
}

/// The bytes that stand before the message: ended by a zero byte, so that no domain is the beginning of another.
#[must_use]
pub fn sign_domain(domain: Domain) -> &'static [u8] {
    match domain {
        Domain::Entry => b"eid/entry/1\0",
        Domain::ServerProof => b"eid/server-proof/1\0",
        Domain::ClientProof => b"eid/client-proof/1\0",
        Domain::KeyProof => b"eid/key-proof/1\0",
        Domain::Join => b"eid/join/1\0",
    }
}

fn message(domain: Domain, body: &[u8]) -> Vec<u8> {
    [sign_domain(domain), body].concat()
}

/// Signs a message of our own making. Nothing ever signs bytes that somebody else chose.
#[must_use]
pub fn sign(domain: Domain, key: &SecretKey, body: &[u8]) -> Signature {
    Signature(key.signing.sign(&message(domain, body)).to_bytes())
}

/// Whether the signature holds under ZIP-215.
#[must_use]
pub fn verify(domain: Domain, key: &PublicKey, body: &[u8], signature: &Signature) -> bool {
    VerificationKey::try_from(key.0)
        .and_then(|key| key.verify(&signature.0.into(), &message(domain, body)))
        .is_ok()
}

/// Whether each signature holds: the same answers as [`verify`], about four times as fast in batches of 512.
///
/// The coefficients of the batch are derived from everything in it, so the answer is a function of the input.
#[must_use]
pub fn verify_many(domain: Domain, items: &[(PublicKey, &[u8], &Signature)]) -> Vec<bool> {
    if items.len() < 2 {
        return items.iter().map(|(key, body, signature)| verify(domain, key, body, signature)).collect();
    }
    let mut transcript = blake3::Hasher::new_derive_key("eid 2026 coefficients of a signature batch");
    let mut verifier = batch::Verifier::new();
    for (key, body, signature) in items {
        let message = message(domain, body);
        transcript
            .update(&key.0)
            .update(&signature.0)
            .update(&(message.len() as u64).to_le_bytes())
            .update(&message);
        verifier.queue((VerificationKeyBytes::from(key.0), signature.0.into(), &message[..]));
    }
    if verifier.verify(Coefficients(transcript.finalize_xof())).is_ok() {
        return vec![true; items.len()];
    }
    items.iter().map(|(key, body, signature)| verify(domain, key, body, signature)).collect()
}

/// A stream of coefficients fixed by the batch: whoever wants to cancel terms must first fix the terms.
struct Coefficients(blake3::OutputReader);

impl rand_core::TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Coefficients {}
