//! What can be wrong with an entry: final, missing something, or beyond this version.

use crate::id::EntryId;

/// A reason that is final: the entry is the same everywhere and for ever, so no replica admits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum Invalid {
    #[error("the block is not an array of a header and a signature")]
    BlockMalformed,
    #[error("the header does not decode")]
    HeaderMalformed,
    #[error("the encoding is not the one canonical form")]
    NonCanonical,
    #[error("the header is larger than the format allows")]
    HeaderTooLarge,
    #[error("the payloads are larger than the format allows")]
    PayloadTooLarge,
    #[error("a payload is not the one that the header names")]
    PayloadMismatch,
    #[error("a root has parents")]
    RootWithParents,
    #[error("the height of a root is not zero")]
    RootHeight,
    #[error("a root has no nonce")]
    RootWithoutNonce,
    #[error("a root does not establish its signer as first admin")]
    RootSettings,
    #[error("an entry other than a root has a nonce")]
    NonceOutsideRoot,
    #[error("an entry other than a root has no parents")]
    NoParents,
    #[error("there are more parents than the format allows")]
    TooManyParents,
    #[error("the parents are not sorted and unique")]
    ParentsUnsorted,
    #[error("there are more sections than the format allows")]
    TooManySections,
    #[error("the sections are not sorted and unique by name")]
    SectionsUnsorted,
    #[error("a store name is empty or too long")]
    StoreName,
    #[error("a section's encryption parameters are too long")]
    EncTooLarge,
    #[error("the settings do not stand alone in their entry")]
    SettingsNotAlone,
    #[error("the settings are encrypted")]
    SettingsEncrypted,
    #[error("the settings do not decode")]
    SettingsMalformed,
    #[error("the height is not one above the highest parent")]
    Height,
    #[error("the time is before a parent's")]
    TimeBeforeParent,
    #[error("the entry belongs to another database")]
    ForeignTree,
    #[error("the signature does not verify")]
    Signature,
    #[error("the proof that an invite was held does not verify")]
    JoinProof,
    #[error("the author has no right to this in the entry's own past")]
    NotPermitted,
    #[error("the entry descends from an invalid entry")]
    ParentInvalid,
}

impl Invalid {
    /// The stable code, as in the golden vectors and in `--json` output.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BlockMalformed => "block_malformed",
            Self::HeaderMalformed => "header_malformed",
            Self::NonCanonical => "non_canonical",
            Self::HeaderTooLarge => "header_too_large",
            Self::PayloadTooLarge => "payload_too_large",
            Self::PayloadMismatch => "payload_mismatch",
            Self::RootWithParents => "root_with_parents",
            Self::RootHeight => "root_height",
            Self::RootWithoutNonce => "root_without_nonce",
            Self::RootSettings => "root_settings",
            Self::NonceOutsideRoot => "nonce_outside_root",
            Self::NoParents => "no_parents",
            Self::TooManyParents => "too_many_parents",
            Self::ParentsUnsorted => "parents_unsorted",
            Self::TooManySections => "too_many_sections",
            Self::SectionsUnsorted => "sections_unsorted",
            Self::StoreName => "store_name",
            Self::EncTooLarge => "enc_too_large",
            Self::SettingsNotAlone => "settings_not_alone",
            Self::SettingsEncrypted => "settings_encrypted",
            Self::SettingsMalformed => "settings_malformed",
            Self::Height => "height",
            Self::TimeBeforeParent => "time_before_parent",
            Self::ForeignTree => "foreign_tree",
            Self::Signature => "signature",
            Self::JoinProof => "join_proof",
            Self::NotPermitted => "not_permitted",
            Self::ParentInvalid => "parent_invalid",
        }
    }
}

/// What this replica lacks before it can judge the entry. It is staged, bounded, and asked for again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Ancestors that are not held.
    #[error("{} parents are not held", .0.len())]
    Parents(Vec<EntryId>),
    /// A settings entry came without its payload, which decides validity.
    #[error("the settings payload is not there")]
    SettingsPayload,
}

/// What this version does not know. Kept out with its descendants, without penalty, and retried after an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unsupported {
    /// The header's version.
    #[error("entry format version {0} is not known here")]
    Version(u64),
    /// The header has an extension.
    #[error("the entry has an extension that is not known here")]
    Extension,
    /// The header has an authority of a form not known here.
    #[error("the entry has an authority that is not known here")]
    Authority,
    /// The database is judged by rules not known here.
    #[error("rules number {0} is not known here")]
    Rules(u64),
    /// A settings operation has a code not known here.
    #[error("settings operation {0} is not known here")]
    SettingsOp(u64),
}

impl Unsupported {
    /// The stable code, as in the golden vectors and in `--json` output.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Version(_) => "unsupported_version",
            Self::Extension => "unsupported_extension",
            Self::Authority => "unsupported_authority",
            Self::Rules(_) => "unsupported_rules",
            Self::SettingsOp(_) => "unsupported_settings_op",
        }
    }
}

/// Why an entry is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Final.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Something else is needed first.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A newer version is needed.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.code(),
            Self::Missing(Missing::Parents(_)) => "missing_parents",
            Self::Missing(Missing::SettingsPayload) => "missing_settings_payload",
            Self::Unsupported(unsupported) => unsupported.code(),
        }
    }
}
