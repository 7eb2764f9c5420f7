//! Why a write is not permitted, in one sentence of the settings that are known here.

use std::fmt;

use eid_auth::{Candidate, Denied};
use eid_core::dag::Replica as _;
use eid_core::{EntryId, Permission, PublicKey, SettingsOp, SettingsPast as _, Slot};

use crate::database::Database;
use crate::error::DbError;

/// Why whoever signs may not write something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The key was never given a right.
    Stranger {
        /// Who signs.
        key: PublicKey,
    },
    /// The key was revoked.
    Revoked {
        /// Who signs.
        key: PublicKey,
        /// The settings entry that did it.
        by: EntryId,
        /// Its author.
        remover: PublicKey,
    },
    /// The key has a right that is less than this needs.
    Weak {
        /// Who signs.
        key: PublicKey,
        /// What it may do.
        has: Permission,
        /// Whether it is settings that would change.
        settings: bool,
    },
    /// Somebody has a slot that is to change and that only a stronger admin may change.
    Outranked {
        /// Who signs.
        key: PublicKey,
        /// What it may do.
        has: Option<Permission>,
        /// The slot.
        slot: Slot,
        /// What the slot gives; nothing when it was revoked.
        held: Option<Permission>,
        /// The settings entry that says so.
        by: EntryId,
        /// Its author.
        author: PublicKey,
    },
    /// Nobody grants more than he has.
    AboveOneself {
        /// Who signs.
        key: PublicKey,
        /// What it may do.
        has: Option<Permission>,
    },
    /// Another rule of the settings.
    Rule(Denied),
    /// The settings that are known now do not tell, such as for what is written into an older past.
    Past,
}

struct Name<'a>(&'a Slot);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Slot::Key(key) => key.fmt(f),
            Slot::Everyone => f.write_str("everyone"),
            Slot::Invite(key) => write!(f, "the invite {key}"),
        }
    }
}

struct Has(Option<Permission>);

impl fmt::Display for Has {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(permission) => permission.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger { key } => {
                write!(f, "not permitted: the key that signs, {key}, was never given a right")
            }
            Self::Revoked { key, by, remover } => {
                write!(f, "not permitted: the key that signs, {key}, was revoked by {remover} in {by}")
            }
            Self::Weak { key, has, settings } => {
                let needs = if *settings { "changing settings needs admin" } else { "writing needs write" };
                write!(f, "not permitted: the key that signs, {key}, has {has}, and {needs}")
            }
            Self::Outranked { key, has, slot, held: Some(held), .. } => write!(
                f,
                "not permitted: {} is {held}, and a slot of {held} may be changed only by a stronger one; the key that \
                 signs, {key}, has {}",
                Name(slot),
                Has(*has)
            ),
            Self::Outranked { key, has, slot, held: None, by, author } => write!(
                f,
                "not permitted: {} was revoked by {author} in {by}, and only an admin who is as strong may change that; \
                 the key that signs, {key}, has {}",
                Name(slot),
                Has(*has)
            ),
            Self::AboveOneself { key, has } => write!(
                f,
                "not permitted: nobody grants more than he has, and the key that signs, {key}, has {}",
                Has(*has)
            ),
            Self::Rule(denied) => write!(f, "not permitted: {denied}"),
            Self::Past => f.write_str("not permitted: whoever writes had no right to this in its past"),
        }
    }
}

impl std::error::Error for Refused {}

impl Database {
    /// An error of writing, with its reason when it is that somebody has no right.
    pub(crate) fn explained(
        &self,
        error: DbError,
        author: &PublicKey,
        settings: Option<&[SettingsOp]>,
    ) -> DbError {
        if !matches!(error, DbError::NotPermitted(_)) {
            return error;
        }
        match self.why_refused(author, settings) {
            Ok(refused) => refused.into(),
            Err(failed) => failed,
        }
    }

    fn why_refused(&self, author: &PublicKey, settings: Option<&[SettingsOp]>) -> Result<Refused, DbError> {
        let snapshot = self.snapshot()?;
        let parents: Vec<EntryId> = snapshot.tips()?.into_iter().map(|(id, _)| id).collect();
        let past = snapshot.settings_frontier()?;
        let candidate = Candidate { author: *author, settings, parents: &parents, past: &past };
        let denied = self.instance().authority().denied(&self.id(), candidate, &snapshot)?;
        let key = *author;
        Ok(match denied {
            None => Refused::Past,
            Some(Denied::NotWriter(_)) => self.lacking(author, false)?,
            Some(Denied::NotAdmin(_)) => self.lacking(author, true)?,
            Some(Denied::AboveOneself { .. }) => Refused::AboveOneself { key, has: self.permission(&[key])? },
            Some(Denied::Outranked { slot, by }) => {
                let has = self.permission(&[key])?;
                let node = snapshot.settings(&by)?.ok_or(DbError::UnknownEntry { id: by })?;
                let written = node.ops.iter().find(|op| op.slot(&node.author) == Some(slot));
                let held = written.and_then(|op| match op {
                    SettingsOp::Set { permission, .. }
                    | SettingsOp::Invite { permission, .. }
                    | SettingsOp::Join { permission, .. } => Some(*permission),
                    _ => None,
                });
                Refused::Outranked { key, has, slot, held, by, author: node.author }
            }
            Some(denied) => Refused::Rule(denied),
        })
    }

    /// Why a key may not write, or not change settings.
    pub(crate) fn lacking(&self, author: &PublicKey, settings: bool) -> Result<Refused, DbError> {
        let (key, known) = (*author, self.settings()?);
        if let Some(value) = known.value(&Slot::Key(key))
            && value.permission.is_none()
        {
            let by = value.entry;
            let node = self.snapshot()?.settings(&by)?.ok_or(DbError::UnknownEntry { id: by })?;
            return Ok(Refused::Revoked { key, by, remover: node.author });
        }
        Ok(match known.permission(&key) {
            Some(has) => Refused::Weak { key, has, settings },
            None => Refused::Stranger { key },
        })
    }
}
