//! Operations of the `_settings` store. Unlike all other payloads they decide validity, so they decode strictly.

use bytes::Bytes;

use crate::cbor::{CborError, Kind, Reader, Writer};
use crate::id::EntryId;
use crate::key::PublicKey;
use crate::limits::{ACCEPT_IDS_MAX, FENCE_IDS_MAX, OPS_MAX, TITLE_BYTES_MAX};
use crate::payload::Payload;
use crate::permission::Permission;
use crate::verdict::{Invalid, Refusal, Unsupported};

/// The kind that a settings payload names.
pub const SETTINGS_KIND: &str = "settings";

/// The number of the rules by which this version judges.
pub const RULES_VERSION: u64 = 1;

/// Whose right an operation sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// One key. An explicit slot overrides the wildcard.
    Key(PublicKey),
    /// Everyone. Never Admin.
    Everyone,
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
}

impl SettingsOp {
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
                w.array(4).uint(2);
                write_slot(&mut w, slot);
                match mode {
                    KeyMode::Remove { fence: None } => w.uint(0).null(),
                    KeyMode::Remove { fence: Some(ids) } => write_ids(w.uint(0), ids),
                    KeyMode::Leave => w.uint(1).null(),
                }
            }
            Self::Accept(ids) => write_ids(w.array(2).uint(3), ids),
            Self::Title(text) => w.array(2).uint(4).text(text),
        };
        Bytes::from(w.into_bytes())
    }

    /// The slot that the operation writes, if it writes one.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Set { slot, .. } | Self::Revoke { slot, .. } => Some(*slot),
            Self::Rules(_) | Self::Accept(_) | Self::Title(_) => None,
        }
    }

    /// Whether operations can stand in one entry: no slot is written twice, and there is at most one operation of each
    /// other kind.
    #[must_use]
    pub fn are_distinct(ops: &[Self]) -> bool {
        let mut slots: Vec<Slot> = ops.iter().filter_map(Self::slot).collect();
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
            1 | 2 => 4,
            _ => return Err(Unsupported::SettingsOp(code).into()),
        };
        if items != expected {
            return Err(Invalid::SettingsMalformed.into());
        }
        let op = match code {
            0 => Self::Rules(r.uint().map_err(malformed)?),
            1 => read_set(&mut r)?,
            2 => read_revoke(&mut r)?,
            3 => Self::Accept(read_ids(&mut r, ACCEPT_IDS_MAX)?),
            _ => Self::Title(r.text(TITLE_BYTES_MAX).map_err(malformed)?.to_owned()),
        };
        r.finish().map_err(malformed)?;
        match op {
            Self::Rules(n) if n != RULES_VERSION => Err(Unsupported::Rules(n).into()),
            op => Ok(op),
        }
    }
}

/// Decodes the payload of the settings store: every operation must decode, no slot is written twice, and there is at
/// most one operation of each other kind.
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

fn read_revoke(r: &mut Reader<'_>) -> Result<SettingsOp, Invalid> {
    let slot = read_slot(r)?;
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
