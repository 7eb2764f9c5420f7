//! Backups of a whole instance: everything that is stored, its keys included.
//!
//! A copy that is restored has a device key of its own, unless the device that was backed up is gone for good: two
//! devices with one key would each sign what the other has not seen, and peers would take them for one.

use std::io::{Read, Write};

use eid_core::{PublicKey, SecretKey};
use eid_store::{Backend, BackupError, BackupSummary, restore_backup};
use zeroize::Zeroizing;

use crate::env::Env;
use crate::error::DbError;
use crate::instance::{DEVICE, FURTHER, INSTANCE, Instance};

/// Who a restored copy is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// Another device: a key is made for it when it is opened, which has no right anywhere yet.
    #[default]
    New,
    /// The device that was backed up, which must not be used any more.
    Same,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// How much.
    pub summary: BackupSummary,
    /// The key of the device that was backed up.
    pub device: Option<PublicKey>,
}

impl Instance {
    /// Writes everything that is stored at this moment, and is told how many bytes of it are done. Commits go on
    /// meanwhile. Whoever reads the backup has the keys of this device.
    pub fn backup(
        &self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BackupSummary, DbError> {
        Ok(self.store().backup(out, progress)?)
    }
}

/// Puts a backup into an empty backend, to be opened as an instance then. It begins a life of its own: what peers and it
/// remember of each other's positions is not believed any more.
///
/// # Errors
/// [`BackupError`]; the backend is then not opened as an instance.
pub fn restore(
    from: &mut dyn Read,
    into: &dyn Backend,
    env: &Env,
    identity: Identity,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, DbError> {
    let mut device = None;
    let mut keeps = |row: eid_store::BackupRow<'_>| {
        let is_device = row.namespace == INSTANCE.as_bytes() && row.key == DEVICE;
        if let (true, Ok(seed)) = (is_device, <[u8; 32]>::try_from(row.value)) {
            device = Some(SecretKey::from_seed(*Zeroizing::new(seed)).public());
        }
        let is_key = is_device || row.namespace == FURTHER.as_bytes();
        identity == Identity::Same || !is_key
    };
    let summary = restore_backup(from, into, env.random(), &mut keeps, progress)?;
    Ok(Restored { summary, device })
}

impl From<BackupError> for DbError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => error.into(),
            error => Self::Backup(error),
        }
    }
}
