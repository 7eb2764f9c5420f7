//! What can be said of an encrypted store without its password.

use eid_core::Entry;
use eid_core::dag::{Replica as _, Seq};
use eid_store::TreeSnapshot;

use crate::error::DbError;
use crate::limits::LOG_PAGE_BYTES;
use crate::sealed::{PasswordStore, configs_in, lock};

/// What is known of an encrypted store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncryptionStatus {
    /// Whether it is unlocked.
    pub unlocked: bool,
    /// How many data keys it has: more than one when devices made it without knowing of each other.
    pub keys: u64,
    /// How many entries are sealed in it.
    pub entries: u64,
    /// How many of them this device cannot read now: all while it is locked, those under other keys after.
    pub locked: u64,
    /// How many are sealed under a key that is open, and do not open: they were damaged or forged, and have no effect.
    pub damaged: u64,
    /// How many operations were opened and do not decode.
    pub undecodable: u64,
}

impl PasswordStore {
    /// What is known of the store.
    pub fn status(&self) -> Result<EncryptionStatus, DbError> {
        let (store, snapshot) = (self.store_name()?, self.db.snapshot()?);
        // What somebody adds to a plain store is nothing of it.
        if !self.db.is_encrypted_in(&snapshot, &store)? {
            return Ok(EncryptionStatus::default());
        }
        let sealed = snapshot.stores()?.into_iter().find(|info| info.name == store && info.kind.is_empty());
        let entries = sealed.map_or(0, |info| info.entries - info.undecodable);
        let mut keys: Vec<_> =
            configs_in(&snapshot, &store)?.into_iter().map(|(_, config)| config.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let keys = keys.len() as u64;
        let Some(vault) = self.db.state().vaults.vault(&store) else {
            return Ok(EncryptionStatus { keys, entries, locked: entries, ..EncryptionStatus::default() });
        };
        let mut vault = lock(&vault);
        vault.catch_up(&snapshot)?;
        let counts = vault.counts();
        Ok(EncryptionStatus {
            unlocked: true,
            keys,
            entries,
            locked: counts.locked,
            damaged: counts.damaged,
            undecodable: vault.kinds().iter().map(|(_, opened)| opened.undecodable).sum(),
        })
    }
}

/// Names the set of entries that count and write a store sealed; nothing when there are none. A replica that cannot read them holds the same as one that can
/// exactly when these are the same.
///
/// The sum of hashes of 2 KiB (LtHash, "Fully Homomorphic Collision-Resistant Hashing", 2019): order does not matter,
/// and memory does not grow with the history.
pub(crate) fn hash_sealed(snapshot: &TreeSnapshot, store: &str) -> Result<Option<[u8; 32]>, DbError> {
    let mut sum = [0u16; 1024];
    let mut is_empty = true;
    let mut next = Seq(0);
    while next < snapshot.end() {
        let logged = snapshot.log(next..snapshot.end(), LOG_PAGE_BYTES)?;
        next =
            logged.last().map(|logged| Seq(logged.seq.0 + 1)).ok_or(DbError::Corrupt { what: "the log" })?;
        let seqs: Vec<Seq> = logged.iter().map(|logged| logged.seq).collect();
        for (logged, stands) in logged.into_iter().zip(snapshot.stand(&seqs)?) {
            if !stands {
                continue;
            }
            let entry = Entry::parse(logged.block, logged.payloads);
            let entry = entry.map_err(|_| DbError::Corrupt { what: "an entry" })?;
            let sections = &entry.header().sections;
            if sections.iter().any(|section| section.store.as_str() == store && section.enc.is_some()) {
                add(&mut sum, &entry.id().0);
                is_empty = false;
            }
        }
    }
    let bytes: Vec<u8> = sum.iter().flat_map(|lane| lane.to_le_bytes()).collect();
    Ok((!is_empty).then(|| *blake3::hash(&bytes).as_bytes()))
}

fn add(sum: &mut [u16; 1024], id: &[u8; 32]) {
    let mut lanes = [0; 2048];
    let mut hasher = blake3::Hasher::new_derive_key("eid 2026 set of sealed entries");
    hasher.update(id).finalize_xof().fill(&mut lanes);
    for (lane, bytes) in sum.iter_mut().zip(lanes.as_chunks::<2>().0) {
        *lane = lane.wrapping_add(u16::from_le_bytes(*bytes));
    }
}
