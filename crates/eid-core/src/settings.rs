//! Operations of the `_settings` store. Unlike all other payloads they decide validity, so they decode strictly.

use bytes::Bytes;

use crate::cbor::{CborError, Kind, Reader, Writer};
use crate::id::{EntryId, TreeId};
use crate::key::{PublicKey, SecretKey, Signature};
use crate::limits::{ACCEPT_IDS_MAX, FENCE_IDS_MAX, OPS_MAX, TITLE_BYTES_MAX};
use crate::payload::Payload;
use crate::permission::Permission;
use crate::signature::{Domain, sign, verify};
use crate::verdict::{Invalid, Refusal, Unsupported};

/// The kind that a settings payload names.
pub const SETTINGS_KIND: &str = "settings";

/// The greatest number of rules by which this version judges.
pub const RULES_VERSION: u64 = 2;

/// The rules that a database begins with: those of the first version, so that every version can read a database that
/// uses nothing of later ones.
pub const RULES_FIRST: u64 = 1;

/// The first rules under which there are invites.
pub const RULES_INVITES: u64 = 2;

/// Whose right an operation sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// One key. An explicit slot overrides the wildcard.
    Key(PublicKey),
    /// Everyone. Never Admin.
    Everyone,
    /// Whoever holds the key of this invite. What the slot gives may be taken by joining, and is nobody's right. Never
    /// Admin.
    Invite(PublicKey),
}

/// What a revocation does with concurrent work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMode {
    /// Voids what the key wrote outside the fence; without a fence, outside what the remover had seen.
    Remove {
        /// Tips of what stays.
        fence: Option<Vec<EntryId>>,
    },
    /// Refuses only what comes after.
    Leave,
}

/// One change of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsOp {
    /// Entries after this are judged by these rules.
    Rules(u64),
    /// Gives a slot a permission.
    Set {
        /// Whose.
        slot: Slot,
        /// What they may do.
        permission: Permission,
    },
    /// Takes a slot's permission away.
    Revoke {
        /// Whose.
        slot: Slot,
        /// What becomes of concurrent work.
        mode: KeyMode,
    },
    /// Lets void entries count again.
    Accept(Vec<EntryId>),
    /// Names the database for all its members.
    Title(String),
    /// Opens an invite, or changes one: whoever holds its key may join.
    Invite {
        /// The public half of the key.
        key: PublicKey,
        /// The most that it gives. Never Admin.
        permission: Permission,
        /// When those who serve the database are to honour it no longer, in milliseconds since 1970. Whether a join is
        /// valid does not depend on it.
        expires_ms: Option<u64>,
    },
    /// Gives the author's own slot, which nobody has set, a right by an invite. Stands alone in its entry.
    Join {
        /// The public half of the invite's key.
        invite: PublicKey,
        /// At most what the invite gives.
        permission: Permission,
        /// By the invite's key, over [`join_message`].
        proof: Signature,
    },
}

/// What the key of an invite signs for a joiner: in this database, this key, at this right. 65 bytes.
#[must_use]
pub fn join_message(tree: &TreeId, joiner: &PublicKey, permission: Permission) -> [u8; 65] {
    let mut message = [0; 65];
    message[..32].copy_from_slice(&tree.0);
    message[32..64].copy_from_slice(&joiner.0);
    message[64] = permission.code();
    message
}

impl SettingsOp {
    /// Joins by an invite whose key is held.
    #[must_use]
    pub fn join(invite: &SecretKey, tree: &TreeId, joiner: &PublicKey, permission: Permission) -> Self {
        let proof = sign(Domain::Join, invite, &join_message(tree, joiner, permission));
        Self::Join { invite: invite.public(), permission, proof }
    }

    /// Whether the proof of a join by this key holds; of any other operation nothing is to be proven.
    #[must_use]
    pub fn is_proven(&self, tree: &TreeId, author: &PublicKey) -> bool {
        match self {
            Self::Join { invite, permission, proof } => {
                verify(Domain::Join, invite, &join_message(tree, author, *permission), proof)
            }
            _ => true,
        }
    }

    /// The canonical bytes: an array that begins with the operation's code.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        match self {
            Self::Rules(n) => w.array(2).uint(0).uint(*n),
            Self::Set { slot, permission } => {
                w.array(4).uint(1);
                write_slot(&mut w, slot);
                w.uint(u64::from(permission.code())).uint(u64::from(permission.level().unwrap_or(0)))
            }
            Self::Revoke { slot, mode } => {
                w.array(4);
                match slot {
                    Slot::Invite(key) => drop(w.uint(6).bytes(&key.0)),
                    _ => write_slot(w.uint(2), slot),
                }
                match mode {
                    KeyMode::Remove { fence: None } => w.uint(0).null(),
                    KeyMode::Remove { fence: Some(ids) } => write_ids(w.uint(0), ids),
                    KeyMode::Leave => w.uint(1).null(),
                }
            }
            Self::Accept(ids) => write_ids(w.array(2).uint(3), ids),
            Self::Title(text) => w.array(2).uint(4).text(text),
            Self::Invite { key, permission, expires_ms } => {
                w.array(4).uint(5).bytes(&key.0).uint(u64::from(permission.code()));
                match expires_ms {
                    Some(expires_ms) => w.uint(*expires_ms),
                    None => w.null(),
                }
            }
            Self::Join { invite, permission, proof } => {
                w.array(4).uint(7).bytes(&invite.0).uint(u64::from(permission.code())).bytes(&proof.0)
            }
        };
        Bytes::from(w.into_bytes())
    }

    /// The slot that the operation writes when this key signs it, if it writes one.
    #[must_use]
    pub fn slot(&self, author: &PublicKey) -> Option<Slot> {
        match self {
            Self::Join { .. } => Some(Slot::Key(*author)),
            _ => self.own_slot(),
        }
    }

    /// The slot that the operation names, whoever signs it.
    fn own_slot(&self) -> Option<Slot> {
        match self {
            Self::Set { slot, .. } | Self::Revoke { slot, .. } => Some(*slot),
            Self::Invite { key, .. } => Some(Slot::Invite(*key)),
            Self::Rules(_) | Self::Accept(_) | Self::Title(_) | Self::Join { .. } => None,
        }
    }

    /// The first rules under which the operation is understood.
    #[must_use]
    pub fn rules_needed(&self) -> u64 {
        match self {
            Self::Invite { .. } | Self::Join { .. } | Self::Revoke { slot: Slot::Invite(_), .. } => {
                RULES_INVITES
            }
            _ => RULES_FIRST,
        }
    }

    /// Whether operations can stand in one entry: no slot is written twice, there is at most one operation of each
    /// other kind, and a join is alone.
    #[must_use]
    pub fn are_distinct(ops: &[Self]) -> bool {
        if ops.len() > 1 && ops.iter().any(|op| matches!(op, Self::Join { .. })) {
            return false;
        }
        let mut slots: Vec<Slot> = ops.iter().filter_map(Self::own_slot).collect();
        slots.sort_unstable();
        let kinds: [fn(&Self) -> bool; 3] = [
            |op| matches!(op, Self::Rules(_)),
            |op| matches!(op, Self::Accept(_)),
            |op| matches!(op, Self::Title(_)),
        ];
        slots.windows(2).all(|pair| pair[0] != pair[1])
            && kinds.into_iter().all(|is_kind| ops.iter().filter(|op| is_kind(op)).count() <= 1)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        let items = r.array(usize::MAX).map_err(malformed)?;
        let code = r.uint().map_err(malformed)?;
        let expected = match code {
            0 | 3 | 4 => 2,
            1 | 2 | 5..=7 => 4,
            _ => return Err(Unsupported::SettingsOp(code).into()),
        };
        if items != expected {
            return Err(Invalid::SettingsMalformed.into());
        }
        let op = match code {
            0 => Self::Rules(r.uint().map_err(malformed)?),
            1 => read_set(&mut r)?,
            2 => {
                let slot = read_slot(&mut r)?;
                read_revoke(slot, &mut r)?
            }
            5 => read_invite(&mut r)?,
            6 => {
                let slot = Slot::Invite(PublicKey(r.fixed().map_err(malformed)?));
                read_revoke(slot, &mut r)?
            }
            7 => read_join(&mut r)?,
            3 => Self::Accept(read_ids(&mut r, ACCEPT_IDS_MAX)?),
            _ => Self::Title(r.text(TITLE_BYTES_MAX).map_err(malformed)?.to_owned()),
        };
        r.finish().map_err(malformed)?;
        match op {
            Self::Rules(n) if !(RULES_FIRST..=RULES_VERSION).contains(&n) => {
                Err(Unsupported::Rules(n).into())
            }
            op => Ok(op),
        }
    }
}

/// Decodes the payload of the settings store: every operation must decode, no slot is written twice, there is at most
/// one operation of each other kind, and a join is alone.
pub(crate) fn decode(bytes: &Bytes) -> Result<Vec<SettingsOp>, Refusal> {
    let payload = Payload::decode(bytes).map_err(|_| Invalid::SettingsMalformed)?;
    if payload.kind != SETTINGS_KIND || payload.ops.is_empty() || payload.ops.len() > OPS_MAX {
        return Err(Invalid::SettingsMalformed.into());
    }
    let mut ops = Vec::with_capacity(payload.ops.len());
    for op in &payload.ops {
        ops.push(SettingsOp::decode(op)?);
    }
    if SettingsOp::are_distinct(&ops) { Ok(ops) } else { Err(Invalid::SettingsMalformed.into()) }
}

fn malformed(_: CborError) -> Invalid {
    Invalid::SettingsMalformed
}

fn write_slot(w: &mut Writer, slot: &Slot) {
    match slot {
        Slot::Key(key) => w.bytes(&key.0),
        Slot::Everyone => w.text("*"),
        // Rights are set for keys and for everyone, so this is never read: an invite is opened and withdrawn by
        // operations of its own.
        Slot::Invite(key) => w.array(1).bytes(&key.0),
    };
}

fn write_ids<'w>(w: &'w mut Writer, ids: &[EntryId]) -> &'w mut Writer {
    w.array(ids.len());
    for id in ids {
        w.bytes(&id.0);
    }
    w
}

fn read_slot(r: &mut Reader<'_>) -> Result<Slot, Invalid> {
    if r.peek().map_err(malformed)? == Kind::Text {
        return if r.text(1).map_err(malformed)? == "*" {
            Ok(Slot::Everyone)
        } else {
            Err(Invalid::SettingsMalformed)
        };
    }
    Ok(Slot::Key(PublicKey(r.fixed().map_err(malformed)?)))
}

fn read_set(r: &mut Reader<'_>) -> Result<SettingsOp, Invalid> {
    let slot = read_slot(r)?;
    let code = r.uint().map_err(malformed)?;
    let level = r.uint().map_err(malformed)?;
    let level = u32::try_from(level).map_err(|_| Invalid::SettingsMalformed)?;
    let permission = match (code, level) {
        (0, 0) => Permission::Relay,
        (1, 0) => Permission::Read,
        (2, 0) => Permission::Write,
        (3, level) if slot != Slot::Everyone => Permission::Admin(level),
        _ => return Err(Invalid::SettingsMalformed),
    };
    Ok(SettingsOp::Set { slot, permission })
}

/// What may be had by an invite: never Admin.
fn read_invited(r: &mut Reader<'_>) -> Result<Permission, Invalid> {
    match r.uint().map_err(malformed)? {
        0 => Ok(Permission::Relay),
        1 => Ok(Permission::Read),
        2 => Ok(Permission::Write),
        _ => Err(Invalid::SettingsMalformed),
    }
}

fn read_invite(r: &mut Reader<'_>) -> Result<SettingsOp, Invalid> {
    let key = PublicKey(r.fixed().map_err(malformed)?);
    let permission = read_invited(r)?;
    let expires_ms = r.nullable(Reader::uint).map_err(malformed)?;
    Ok(SettingsOp::Invite { key, permission, expires_ms })
}

fn read_join(r: &mut Reader<'_>) -> Result<SettingsOp, Invalid> {
    let invite = PublicKey(r.fixed().map_err(malformed)?);
    let permission = read_invited(r)?;
    let proof = Signature(r.fixed().map_err(malformed)?);
    Ok(SettingsOp::Join { invite, permission, proof })
}

fn read_revoke(slot: Slot, r: &mut Reader<'_>) -> Result<SettingsOp, Invalid> {
    let mode = r.uint().map_err(malformed)?;
    let is_null = r.peek().map_err(malformed)? == Kind::Null;
    let fence =
        if is_null { r.null().map(|()| None).map_err(malformed)? } else { Some(read_ids(r, FENCE_IDS_MAX)?) };
    let mode = match (mode, fence) {
        (0, fence) => KeyMode::Remove { fence },
        (1, None) => KeyMode::Leave,
        _ => return Err(Invalid::SettingsMalformed),
    };
    Ok(SettingsOp::Revoke { slot, mode })
}

/// At least one id; sorted and unique, so that a set of ids has one form.
fn read_ids(r: &mut Reader<'_>, max: usize) -> Result<Vec<EntryId>, Invalid> {
    let count = r.array(max).map_err(malformed)?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(EntryId(r.fixed().map_err(malformed)?));
    }
    if !ids.is_empty() && ids.is_sorted_by(|a, b| a < b) { Ok(ids) } else { Err(Invalid::SettingsMalformed) }
}
