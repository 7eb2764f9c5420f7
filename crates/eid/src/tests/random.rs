//! Keys by number, and the operations that scenes are made of.

use std::sync::Arc;

use eid_core::{EntryId, KeyMode, Permission, SecretKey, SettingsOp, Slot};

pub(super) fn secret(n: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed([n + 1; 32]))
}

pub(super) fn invite_secret(n: u8) -> SecretKey {
    SecretKey::from_seed([200 + n; 32])
}

pub(super) fn invite(n: u8, permission: Permission) -> SettingsOp {
    SettingsOp::Invite { key: invite_secret(n).public(), permission, expires_ms: None }
}

pub(super) fn invite_slot(n: u8) -> Slot {
    Slot::Invite(invite_secret(n).public())
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
