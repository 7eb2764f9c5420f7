//! Ed25519 keys and signatures as values. Signing is in [`crate::sign`], verification in [`crate::verify`].

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::id::base32_lower;

const KEY_PREFIX: &str = "ed25519:";

/// An Ed25519 public key as 32 bytes. Whether it is a point of the curve shows when a signature is verified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature as 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// An Ed25519 private key. Wiped when dropped, never shown by `Debug`, never leaves its device.
pub struct SecretKey {
    pub(crate) signing: ed25519_dalek::SigningKey,
}

/// Says why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// The text does not begin with `ed25519:`.
    #[error("a key begins with \"{KEY_PREFIX}\"")]
    Prefix,
    /// The rest is not lower-case base32 of 32 bytes.
    #[error("a key is 32 bytes in lower-case base32")]
    Base32,
}

impl SecretKey {
    /// Makes a key from 32 secret random bytes, which the caller draws (and wipes).
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self { signing: ed25519_dalek::SigningKey::from_bytes(&seed) }
    }

    /// The seed, for writing the key to its own device's storage and nowhere else.
    #[must_use]
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key().to_bytes())
    }
}

impl Clone for SecretKey {
    fn clone(&self) -> Self {
        Self { signing: self.signing.clone() }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

impl PublicKey {
    /// A form for narrow displays. It is never parsed.
    #[must_use]
    pub fn short(&self) -> String {
        base32_lower().encode(&self.0)[..8].to_owned()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", base32_lower().encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let rest = text.strip_prefix(KEY_PREFIX).ok_or(ParseKeyError::Prefix)?;
        if rest.len() != 52 {
            return Err(ParseKeyError::Base32);
        }
        let bytes = base32_lower().decode(rest.as_bytes()).map_err(|_| ParseKeyError::Base32)?;
        bytes.try_into().map(Self).map_err(|_| ParseKeyError::Base32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_round_trip_as_text_and_parse_strictly() {
        let key = SecretKey::from_seed([3; 32]).public();
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text[8..].parse::<PublicKey>(), Err(ParseKeyError::Prefix));
        assert_eq!(text[..30].parse::<PublicKey>(), Err(ParseKeyError::Base32));
        assert_eq!(
            text.to_uppercase().replace("ED25519", "ed25519").parse::<PublicKey>(),
            Err(ParseKeyError::Base32)
        );
    }

    #[test]
    fn debug_of_a_secret_key_shows_only_the_public_half() {
        let shown = format!("{:?}", SecretKey::from_seed([3; 32]));
        let secret = base32_lower().encode(&[3; 32]);
        assert!(!shown.contains(&secret[..10]));
        assert!(!shown.contains("3, 3, 3"));
    }
}
