//! Why an entry was refused, or does not count.

use std::fmt;

use eid_core::{EntryId, Invalid, Permission, PublicKey, Refusal, Slot};

/// Why an entry is not valid: final, the same on every replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The operations are not a set of settings: none at all, a slot twice, or two lists of accepted entries.
    Malformed,
    /// The first entry of a tree takes something away.
    RootTakesAway,
    /// The author may not write data in the settings of the entry's own past.
    NotWriter(PublicKey),
    /// The author may not change settings in the settings of the entry's own past.
    NotAdmin(PublicKey),
    /// A concurrent value of a slot belongs to an admin whom the author does not outrank, or revokes it with a rank
    /// that the author does not have.
    Outranked {
        /// The slot.
        slot: Slot,
        /// The entry that wrote the value.
        by: EntryId,
    },
    /// The author grants more than he has.
    AboveOneself {
        /// To whom.
        slot: Slot,
    },
    /// A fence or a list of accepted entries names an entry that is not in the past.
    NotInPast(EntryId),
    /// Only data is accepted again, and this is a settings entry.
    AcceptsSettings(EntryId),
    /// An operation belongs to later rules than those of the past.
    Rules {
        /// The first rules that have it.
        needed: u64,
        /// Those of the past.
        rules: u64,
    },
    /// The invite is not open, or gives less than the joiner takes.
    Invite {
        /// Its key.
        invite: PublicKey,
        /// What it gives, if it is open.
        gives: Option<Permission>,
    },
    /// Who has a slot of his own, be it revoked, does not join.
    Taken {
        /// Whose it is.
        joiner: PublicKey,
        /// The entry that wrote it.
        by: EntryId,
    },
}

impl From<&Denied> for Refusal {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::Malformed => Invalid::SettingsMalformed.into(),
            Denied::RootTakesAway => Invalid::RootSettings.into(),
            _ => Invalid::NotPermitted.into(),
        }
    }
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

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("refused because its operations are not a set of settings"),
            Self::RootTakesAway => f.write_str("refused because the first entry has nothing to take away"),
            Self::NotWriter(key) => write!(f, "refused because {key} had no right to write"),
            Self::NotAdmin(key) => write!(f, "refused because {key} had no right to change settings"),
            Self::Outranked { slot, by } => {
                write!(f, "refused because its author does not outrank what {by} set for {}", Name(slot))
            }
            Self::AboveOneself { slot } => {
                write!(f, "refused because its author grants {} more than he has", Name(slot))
            }
            Self::NotInPast(id) => write!(f, "refused because it names {id}, which is not in its past"),
            Self::AcceptsSettings(id) => {
                write!(f, "refused because it accepts {id}, which is a settings entry")
            }
            Self::Rules { needed, rules } => {
                write!(
                    f,
                    "refused because the database has rules {rules}, and this belongs to rules {needed}"
                )
            }
            Self::Invite { invite, gives: None } => {
                write!(f, "refused because the invite {invite} is not open")
            }
            Self::Invite { invite, gives: Some(gives) } => {
                write!(f, "refused because the invite {invite} gives only {gives}")
            }
            Self::Taken { joiner, by } => {
                write!(f, "refused because {by} set what {joiner} may do, so that no invite can")
            }
        }
    }
}

impl std::error::Error for Denied {}

/// Why a valid entry has no effect. It changes with the settings entries that are known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Void {
    /// A stronger key removed its author, or made him less than the entry needed, and did not keep the entry.
    Removed {
        /// The author; everyone, when he relied on that slot.
        slot: Slot,
        /// What the slot was left with.
        left: Option<Permission>,
        /// The settings entry that did it.
        by: EntryId,
        /// Its author.
        remover: PublicKey,
    },
    /// Without void settings in its past its author has no right to it.
    Right {
        /// The author.
        key: PublicKey,
        /// One void settings entry that he relied on, if one can be named.
        cause: Option<EntryId>,
    },
    /// Without void settings in its past its author is a weaker admin than when he wrote it.
    Level {
        /// The author.
        key: PublicKey,
        /// One void settings entry that he relied on.
        cause: Option<EntryId>,
    },
    /// Without void settings in its past its author may not write a slot that it writes.
    Slot {
        /// The slot.
        slot: Slot,
        /// One settings entry of its past that is void, or is not void any more.
        cause: Option<EntryId>,
    },
}

impl Void {
    /// The stable code, as in `--json` output.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Removed { left: None, .. } => "removed",
            Self::Removed { left: Some(_), .. } => "demoted",
            Self::Right { .. } => "lost_right",
            Self::Level { .. } => "lost_level",
            Self::Slot { .. } => "lost_slot",
        }
    }
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = |cause: &Option<EntryId>, f: &mut fmt::Formatter<'_>| match cause {
            Some(id) => write!(f, " without {id}, which is void"),
            None => Ok(()),
        };
        match self {
            Self::Removed { slot, left: None, by, remover } => {
                write!(f, "void because {remover} removed {} in {by}", Name(slot))
            }
            Self::Removed { slot, left: Some(left), by, remover } => {
                write!(f, "void because {remover} left {} only {left} in {by}", Name(slot))
            }
            Self::Right { key, cause } => {
                write!(f, "void because {key} has no right to it")?;
                because(cause, f)
            }
            Self::Level { key, cause } => {
                write!(f, "void because {key} is a weaker admin")?;
                because(cause, f)
            }
            Self::Slot { slot, cause: Some(cause) } => {
                write!(f, "void because its author may not write {} since {cause} changed", Name(slot))
            }
            Self::Slot { slot, cause: None } => {
                write!(f, "void because its author may not write {}", Name(slot))
            }
        }
    }
}

/// Whether an admitted entry counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Stands,
    /// It would be void, and an admin let it count again.
    Accepted {
        /// The settings entry that accepts it.
        by: EntryId,
    },
    /// It keeps its place and has no effect.
    Void(Void),
}

impl Standing {
    /// Whether the entry has effect.
    #[must_use]
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Void(_))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stands => f.write_str("stands"),
            Self::Accepted { by } => write!(f, "stands because {by} accepts it"),
            Self::Void(void) => void.fmt(f),
        }
    }
}
