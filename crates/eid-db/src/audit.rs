//! What does not count and why, and letting it count again.

use eid_auth::{Standing, Void};
use eid_core::dag::{Replica as _, Seq};
use eid_core::limits::ACCEPT_IDS_MAX;
use eid_core::{Entry, EntryId, History as _, KeyMode, PublicKey, SettingsOp, SettingsPast as _, Slot, Time};
use eid_store::{Committed, TreeSnapshot};

use crate::database::Database;
use crate::error::DbError;

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

impl Database {
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

    fn standing_in(&self, snapshot: &TreeSnapshot, entry: &Entry) -> Result<Standing, DbError> {
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

    /// Gives the right of this device's key to another key and retires it, in one entry: whoever holds the old key has
    /// no right any more, and what it wrote stands.
    ///
    /// # Errors
    /// [`DbError::NoRight`] when this device's key has no right of its own.
    pub fn rotate(&self, to: PublicKey) -> Result<Committed, DbError> {
        let own = Slot::Key(self.instance().device());
        let permission = self.settings()?.slot(&own).flatten().ok_or(DbError::NoRight)?;
        self.write_settings(&[
            SettingsOp::Set { slot: Slot::Key(to), permission },
            SettingsOp::Revoke { slot: own, mode: KeyMode::Leave },
        ])
    }
}
