//! What is stored of a user: an account, and private keys that only its master key opens.
//!
//! ```text
//! account    = [1, user id (16), name, public key (32), protection, master]
//! protection = null, and master is the master key (32); or
//!              [[memory in KiB, passes, lanes], salt (16), nonce (24), commitment (32)], and master is the master key
//!              sealed (48) under Argon2id(password, salt), for
//!              [1, "master key", user id (16), name, public key (32), [memory, passes, lanes], salt (16)]
//! key        = [1, nonce (24), commitment (32), the seed of a private key, sealed (48)] under
//!              BLAKE3 derive-key of the master key, for [1, "private key", user id (16), public key (32)]
//! ```
//! Sealing is that of [`crate::wrap`]. `vectors/users.json` fixes the form.

use std::fmt;

use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::{PublicKey, SecretKey};
use zeroize::{Zeroize as _, Zeroizing};

use crate::limits::{USER_NAME_BYTES_MAX, USER_PASSWORD_MEMORY_KIB_MIN, USER_PASSWORD_PASSES_MIN};
use crate::wrap::{self, Commitment, Nonce, PasswordCost, Unopened, WRAPPED_BYTES};

const VERSION: u64 = 1;
const KEYS: &str = "eid 2026 user: private keys";

/// Names a user on one device: made at random, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserId(pub(crate) [u8; 16]);

impl UserId {
    /// The user who needs no account: whoever uses the device.
    pub(crate) const DEVICE: Self = Self([0; 16]);
}

/// What opens the private keys of a user. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct MasterKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    fn for_keys(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(KEYS, &*self.0))
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whether a password may cost this: not so little that it is soon guessed, and no more than can be borne.
pub(crate) fn is_fit(cost: PasswordCost) -> bool {
    cost.is_bearable()
        && cost.memory_kib >= USER_PASSWORD_MEMORY_KIB_MIN
        && cost.passes >= USER_PASSWORD_PASSES_MIN
}

/// How an account holds its master key.
#[derive(Clone)]
pub(crate) enum Protection {
    /// As it is: whoever can read the store is the user.
    None(MasterKey),
    /// Sealed under the key that a password gives.
    Password {
        cost: PasswordCost,
        salt: [u8; 16],
        nonce: Nonce,
        commitment: Commitment,
        wrapped: [u8; WRAPPED_BYTES],
    },
}

/// A user as the store has it.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) id: UserId,
    pub(crate) name: String,
    /// The first of the user's keys.
    pub(crate) key: PublicKey,
    pub(crate) protection: Protection,
}

impl Record {
    /// Seals the master key under a password.
    pub(crate) fn protect(
        id: UserId,
        name: &str,
        key: PublicKey,
        master: &MasterKey,
        (password, cost): (&str, PasswordCost),
        (salt, nonce): ([u8; 16], Nonce),
    ) -> Self {
        let password_key = cost.key(password, &salt);
        let context = context(id, name, &key, cost, &salt);
        let (mut sealed, commitment) = wrap::seal(&password_key, &nonce, &context, master.0.to_vec());
        let wrapped = <[u8; WRAPPED_BYTES]>::try_from(sealed.as_slice());
        let wrapped = wrapped.expect("a key of 32 bytes is sealed to 48");
        sealed.zeroize();
        let protection = Protection::Password { cost, salt, nonce, commitment, wrapped };
        Self { id, name: name.to_owned(), key, protection }
    }

    /// The master key, if this is the password.
    pub(crate) fn open(&self, password: Option<&str>) -> Option<MasterKey> {
        match (&self.protection, password) {
            (Protection::None(master), None) => Some(master.clone()),
            (Protection::Password { cost, salt, nonce, commitment, wrapped }, Some(password)) => {
                let password_key = cost.key(password, salt);
                let context = context(self.id, &self.name, &self.key, *cost, salt);
                let opened = wrap::open(&password_key, nonce, &context, commitment, wrapped).ok()?;
                let mut bytes = Zeroizing::new([0; 32]);
                bytes.copy_from_slice(&opened);
                Some(MasterKey(bytes))
            }
            _ => None,
        }
    }

    pub(crate) fn has_password(&self) -> bool {
        matches!(self.protection, Protection::Password { .. })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(6).uint(VERSION).bytes(&self.id.0).text(&self.name).bytes(&self.key.0);
        match &self.protection {
            Protection::None(master) => {
                w.null().bytes(&*master.0);
            }
            Protection::Password { cost, salt, nonce, commitment, wrapped } => {
                w.array(4);
                cost.write(&mut w);
                w.bytes(salt).bytes(nonce).bytes(commitment).bytes(wrapped);
            }
        }
        w.into_bytes()
    }

    /// Decodes, strictly. A cost that is not fit is none, and is never paid.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(6)?;
        if r.uint()? != VERSION {
            return Err(CborError::Limit);
        }
        let id = UserId(r.fixed()?);
        let name = r.text(USER_NAME_BYTES_MAX)?.to_owned();
        let key = PublicKey(r.fixed()?);
        let sealed = r.nullable(|r| {
            r.array_exact(4)?;
            let cost = PasswordCost::read(r)?;
            if !is_fit(cost) {
                return Err(CborError::Limit);
            }
            Ok((cost, r.fixed()?, r.fixed()?, r.fixed()?))
        })?;
        let protection = match sealed {
            Some((cost, salt, nonce, commitment)) => {
                Protection::Password { cost, salt, nonce, commitment, wrapped: r.fixed()? }
            }
            None => Protection::None(MasterKey(Zeroizing::new(r.fixed()?))),
        };
        r.finish()?;
        Ok(Self { id, name, key, protection })
    }
}

fn context(id: UserId, name: &str, key: &PublicKey, cost: PasswordCost, salt: &[u8; 16]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(7).uint(VERSION).text("master key").bytes(&id.0).text(name).bytes(&key.0);
    cost.write(&mut w);
    w.bytes(salt);
    w.into_bytes()
}

fn key_context(id: UserId, key: &PublicKey) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(4).uint(VERSION).text("private key").bytes(&id.0).bytes(&key.0);
    w.into_bytes()
}

/// Seals a private key for the store of its device.
pub(crate) fn seal_key(id: UserId, master: &MasterKey, key: &SecretKey, nonce: Nonce) -> Vec<u8> {
    let context = key_context(id, &key.public());
    let (sealed, commitment) = wrap::seal(&master.for_keys(), &nonce, &context, key.to_seed().to_vec());
    let mut w = Writer::new();
    w.array(4).uint(VERSION).bytes(&nonce).bytes(&commitment).bytes(&sealed);
    w.into_bytes()
}

/// Opens what [`seal_key`] sealed.
pub(crate) fn open_key(
    id: UserId,
    master: &MasterKey,
    public: &PublicKey,
    bytes: &[u8],
) -> Result<SecretKey, Unopened> {
    let (nonce, commitment, sealed) = decode_key(bytes).map_err(|_| Unopened)?;
    let seed = wrap::open(&master.for_keys(), &nonce, &key_context(id, public), &commitment, &sealed)?;
    let key = SecretKey::from_seed(<[u8; 32]>::try_from(seed.as_slice()).map_err(|_| Unopened)?);
    if key.public() == *public { Ok(key) } else { Err(Unopened) }
}

fn decode_key(bytes: &[u8]) -> Result<(Nonce, Commitment, [u8; WRAPPED_BYTES]), CborError> {
    let mut r = Reader::new(bytes);
    r.array_exact(4)?;
    if r.uint()? != VERSION {
        return Err(CborError::Limit);
    }
    let key = (r.fixed()?, r.fixed()?, r.fixed()?);
    r.finish()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: PasswordCost =
        PasswordCost { memory_kib: USER_PASSWORD_MEMORY_KIB_MIN, passes: USER_PASSWORD_PASSES_MIN, lanes: 1 };
    const ID: UserId = UserId([7; 16]);

    fn master(byte: u8) -> MasterKey {
        MasterKey(Zeroizing::new([byte; 32]))
    }

    fn record(password: &str) -> Record {
        let key = PublicKey([8; 32]);
        Record::protect(ID, "Zoë", key, &master(3), (password, COST), ([1; 16], [2; 24]))
    }

    #[test]
    fn an_account_opens_with_its_password_as_it_was_written_and_not_otherwise() {
        let bytes = record("correct horse").encode();
        let read = Record::decode(&bytes).unwrap();
        assert_eq!((read.id, read.name.as_str(), read.encode()), (ID, "Zoë", bytes.clone()));
        assert_eq!(read.open(Some("correct horse")).unwrap().bytes(), &[3; 32]);
        assert!(read.open(Some("correct horsf")).is_none() && read.open(None).is_none());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let opened = Record::decode(&bytes).ok().and_then(|read| read.open(Some("correct horse")));
            assert!(opened.is_none(), "byte {at}");
            assert!(Record::decode(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn an_account_without_a_password_opens_without_one_only() {
        let record = Record { protection: Protection::None(master(4)), ..record("p") };
        let read = Record::decode(&record.encode()).unwrap();
        assert_eq!(read.open(None).unwrap().bytes(), &[4; 32]);
        assert!(read.open(Some("")).is_none() && !read.has_password());
    }

    #[test]
    fn costs_below_the_floor_and_above_the_ceiling_are_refused_before_they_are_paid() {
        let bad = [
            (USER_PASSWORD_MEMORY_KIB_MIN - 1, 3, 1),
            (64 * 1024, USER_PASSWORD_PASSES_MIN - 1, 1),
            (u32::MAX, 3, 1),
            (64 * 1024, u32::MAX, 1),
            (64 * 1024, 3, 9),
            (64 * 1024, 3, 0),
        ];
        for (memory_kib, passes, lanes) in bad {
            let mut record = record("p");
            let Protection::Password { cost, .. } = &mut record.protection else { panic!("sealed") };
            *cost = PasswordCost { memory_kib, passes, lanes };
            assert!(Record::decode(&record.encode()).is_err(), "{memory_kib} {passes} {lanes}");
        }
    }

    #[test]
    fn a_key_opens_for_its_user_under_its_master_key_and_its_own_name() {
        let key = SecretKey::from_seed([5; 32]);
        let public = key.public();
        let bytes = seal_key(ID, &master(3), &key, [9; 24]);
        assert_eq!(open_key(ID, &master(3), &public, &bytes).unwrap().public(), public);
        assert!(open_key(ID, &master(4), &public, &bytes).is_err());
        assert!(open_key(UserId([0; 16]), &master(3), &public, &bytes).is_err());
        let other = SecretKey::from_seed([6; 32]).public();
        assert!(open_key(ID, &master(3), &other, &bytes).is_err());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(open_key(ID, &master(3), &public, &bytes).is_err(), "byte {at}");
        }
        assert!(open_key(ID, &master(3), &public, &[&bytes[..], &[0]].concat()).is_err());
    }
}
