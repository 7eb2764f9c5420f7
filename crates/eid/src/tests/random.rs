//! Keys by number, and the operations that scenes are made of.

use std::sync::Arc;

use eid_core::{EntryId, KeyMode, Permission, SecretKey, SettingsOp, Slot};

pub(super) fn secret(n: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed([n + 1; 32]))
}

pub(super) fn slot(n: u8) -> Slot {
    Slot::Key(secret(n).public())
}

pub(super) fn set(slot: Slot, permission: Permission) -> SettingsOp {
    SettingsOp::Set { slot, permission }
}

pub(super) fn remove(slot: Slot, fence: Option<Vec<EntryId>>) -> SettingsOp {
    SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence } }
}

pub(super) fn leave(slot: Slot) -> SettingsOp {
    SettingsOp::Revoke { slot, mode: KeyMode::Leave }
}
