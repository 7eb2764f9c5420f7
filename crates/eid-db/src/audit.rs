//! Who may do what since which entry, what does not count and why, and letting it count again.

use std::collections::BTreeSet;

use eid_auth::{Standing, Void};
use eid_core::dag::{Replica as _, Seq};
use eid_core::limits::ACCEPT_IDS_MAX;
use eid_core::{
    Entry, EntryId, History as _, KeyMode, Permission, PublicKey, SettingsOp, SettingsPast as _, Slot, Time,
};
use eid_store::{Committed, TreeSnapshot};

use crate::authority::SlotValue;
use crate::database::Database;
use crate::error::DbError;
use crate::users::User;

/// An entry that is held and does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidEntry {
    /// The entry.
    pub id: EntryId,
    /// Its place in the order of arrival here.
    pub seq: Seq,
    /// Who signed it.
    pub author: PublicKey,
    /// Its time.
    pub time: Time,
    /// The stores that it writes; `_settings` when it is a settings entry.
    pub stores: Vec<String>,
    /// Why it does not count.
    pub why: Void,
}

/// A settings entry: who changed which right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsChange {
    /// The entry.
    pub id: EntryId,
    /// Its place in the order of arrival here.
    pub seq: Seq,
    /// Who signed it.
    pub author: PublicKey,
    /// Its time.
    pub time: Time,
    /// What it changes, all of it or nothing.
    pub changes: Vec<SettingsOp>,
    /// Why it does not count, if it does not.
    pub void: Option<Void>,
}

/// A key, or everyone, that was given a right at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key, or everyone.
    pub slot: Slot,
    /// What it may do; nothing once it was revoked.
    pub permission: Option<Permission>,
    /// The settings entry that says so.
    pub entry: EntryId,
    /// Who signed that.
    pub by: PublicKey,
}

/// An invite that was opened at some time, and how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteInfo {
    /// Its key, whose secret is in the ticket.
    pub key: PublicKey,
    /// What whoever joins by it may do; nothing once it was withdrawn.
    pub permission: Option<Permission>,
    /// Until when it is to be honoured, in milliseconds since 1970; nothing when that is for ever, or it was withdrawn.
    pub expires_ms: Option<u64>,
    /// The settings entry that says so.
    pub entry: EntryId,
    /// Who signed that.
    pub by: PublicKey,
}

impl Database {
    /// Every open invite, and those that were withdrawn, in the order of their keys. Those of a limited number of uses are
    /// not in the settings, and not among them.
    pub fn invites(&self) -> Result<Vec<InviteInfo>, DbError> {
        let snapshot = self.snapshot()?;
        let settings = self.settings_in(&snapshot)?;
        let invites = settings.values().filter_map(|(slot, value)| match slot {
            Slot::Invite(key) => Some((key, value)),
            Slot::Key(_) | Slot::Everyone => None,
        });
        let invites = invites.map(|(key, SlotValue { permission, entry })| {
            let node = snapshot.settings(&entry)?.ok_or(DbError::UnknownEntry { id: entry })?;
            let open = settings.invites().iter().find(|open| open.key == key);
            let expires_ms = open.and_then(|open| open.expires_ms);
            Ok(InviteInfo { key, permission, expires_ms, entry, by: node.author })
        });
        invites.collect()
    }

    /// Every key, and everyone, that was ever given a right or lost one. Invites are nobody's rights, and not among
    /// them.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, DbError> {
        let snapshot = self.snapshot()?;
        let settings = self.settings_in(&snapshot)?;
        let rights = settings.values().filter(|(slot, _)| !matches!(slot, Slot::Invite(_)));
        let keys = rights.map(|(slot, SlotValue { permission, entry })| {
            let node = snapshot.settings(&entry)?.ok_or(DbError::UnknownEntry { id: entry })?;
            Ok(KeyInfo { slot, permission, entry, by: node.author })
        });
        keys.collect()
    }

    /// The settings entries in the order of arrival, at most `count` of them, beginning with the first at or after
    /// `from`. Takes time for all settings entries there are, and none for data.
    pub fn audit(&self, from: Seq, count: usize) -> Result<Vec<SettingsChange>, DbError> {
        let snapshot = self.snapshot()?;
        let mut known: BTreeSet<EntryId> = BTreeSet::new();
        let mut open = snapshot.settings_frontier()?;
        while let Some(id) = open.pop() {
            if known.insert(id) {
                let node = snapshot.settings(&id)?.ok_or(DbError::UnknownEntry { id })?;
                open.extend(node.past.iter().filter(|id| !known.contains(*id)));
            }
        }
        let known: Vec<EntryId> = known.into_iter().collect();
        let mut places: Vec<Seq> = snapshot.find(&known)?.into_iter().flatten().collect();
        places.retain(|seq| *seq >= from);
        places.sort_unstable();
        let found = places.into_iter().take(count).map(|seq| {
            let entry = snapshot.entry_at(seq)?.ok_or(DbError::Corrupt { what: "an entry" })?;
            let void = match self.standing_in(&snapshot, &entry)? {
                Standing::Void(why) => Some(why),
                Standing::Stands | Standing::Accepted { .. } => None,
            };
            let header = entry.header();
            Ok(SettingsChange {
                id: entry.id(),
                seq,
                author: header.author,
                time: header.time,
                changes: entry.settings().to_vec(),
                void,
            })
        });
        found.collect()
    }

    /// The entries that are held and do not count, in the order of arrival, at most `count` of them, beginning with the
    /// first at or after `from`.
    pub fn void_entries(&self, from: Seq, count: usize) -> Result<Vec<VoidEntry>, DbError> {
        let snapshot = self.snapshot()?;
        let mut found = Vec::new();
        for seq in snapshot.voids(from, count)? {
            let entry = snapshot.entry_at(seq)?.ok_or(DbError::NoEntry)?;
            if let Standing::Void(why) = self.standing_in(&snapshot, &entry)? {
                let header = entry.header();
                found.push(VoidEntry {
                    id: entry.id(),
                    seq,
                    author: header.author,
                    time: header.time,
                    stores: header.sections.iter().map(|section| section.store.to_string()).collect(),
                    why,
                });
            }
        }
        Ok(found)
    }

    /// Whether an entry counts, and why if it does not.
    ///
    /// # Errors
    /// [`DbError::UnknownEntry`] when it is not held.
    pub fn standing(&self, id: &EntryId) -> Result<Standing, DbError> {
        let snapshot = self.snapshot()?;
        let entry = snapshot.entry(id)?.ok_or(DbError::UnknownEntry { id: *id })?;
        self.standing_in(&snapshot, &entry)
    }

    pub(crate) fn standing_in(&self, snapshot: &TreeSnapshot, entry: &Entry) -> Result<Standing, DbError> {
        let id = entry.id();
        let past = if entry.header().is_settings() {
            snapshot.settings(&id)?.map(|node| node.past.clone())
        } else {
            snapshot.frontier(&id)?
        };
        let past = past.ok_or(DbError::UnknownEntry { id })?;
        let known = snapshot.settings_frontier()?;
        Ok(self.instance().authority().standing(entry, &past, &known, snapshot)?)
    }

    /// Lets void entries count again, for as long as this acceptance counts. It does not help against a removal by a
    /// stronger key, nor against one by an equal that was not seen.
    ///
    /// # Errors
    /// [`DbError::UnknownEntry`] when one is not held, [`DbError::NotVoid`] when one counts already, and
    /// [`DbError::SettingsEntry`] when one is a settings entry: those are written anew.
    pub fn accept(&self, ids: &[EntryId]) -> Result<Vec<Committed>, DbError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let snapshot = self.snapshot()?;
        let found = snapshot.find(&ids)?;
        for (id, seq) in ids.iter().zip(&found) {
            let seq = seq.ok_or(DbError::UnknownEntry { id: *id })?;
            if snapshot.settings(id)?.is_some() {
                return Err(DbError::SettingsEntry { id: *id });
            }
            if snapshot.stand(&[seq])? == [true] {
                return Err(DbError::NotVoid { id: *id });
            }
        }
        let accept = |ids: &[EntryId]| self.write_settings(&[SettingsOp::Accept(ids.to_vec())]);
        ids.chunks(ACCEPT_IDS_MAX).map(accept).collect()
    }

    /// Gives the right of the key that signs here to another key and retires it, in one entry: whoever holds the old
    /// key has no right any more, and what it wrote stands.
    ///
    /// # Errors
    /// [`DbError::NoRight`] when the key has no right of its own.
    pub fn rotate(&self, to: PublicKey) -> Result<Committed, DbError> {
        let (own, permission) = self.own_right()?;
        self.write_settings(&[
            SettingsOp::Set { slot: Slot::Key(to), permission },
            SettingsOp::Revoke { slot: Slot::Key(own), mode: KeyMode::Leave },
        ])
    }

    /// As [`Self::rotate`], to a key that is made for it, on this device, for the user who writes here or for the device.
    /// The key by which peers know this device may read afterwards, so that they go on exchanging entries with it.
    ///
    /// # Errors
    /// [`DbError::NoRight`], [`DbError::TooManyKeys`].
    pub fn renew_key(&self) -> Result<(Committed, PublicKey), DbError> {
        let (own, permission) = self.own_right()?;
        let level = permission.level();
        if level.is_none() {
            return Err(self.lacking(&own, true)?.into());
        }
        let to = match self.session() {
            Some(session) => User::of_session(self.instance(), session).new_key()?,
            None => self.instance().make_device_key()?,
        };
        let slot = Slot::Key(own);
        let retires = if own == self.instance().device() {
            SettingsOp::Set { slot, permission: Permission::Read }
        } else {
            SettingsOp::Revoke { slot, mode: KeyMode::Leave }
        };
        let grants = SettingsOp::Set { slot: Slot::Key(to), permission };
        Ok((self.write_settings(&[grants, retires])?, to))
    }

    /// The key that signs here, with the right of its own slot.
    fn own_right(&self) -> Result<(PublicKey, Permission), DbError> {
        let own = self.author_key()?;
        let permission = self.settings()?.slot(&Slot::Key(own)).flatten().ok_or(DbError::NoRight)?;
        Ok((own, permission))
    }
}
