//! Making entries: a draft has everything but the signature.

use bytes::Bytes;

use crate::entry::{Entry, Header, Nonce, Section, StoreName};
use crate::id::{EntryId, TreeId};
use crate::key::{PublicKey, SecretKey};
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::payload::Payload;
use crate::settings::{SETTINGS_KIND, SettingsOp};
use crate::signature::{Domain, sign};
use crate::time::{Height, Time};
use crate::verdict::{Invalid, Refusal};

/// One store's part of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionDraft {
    /// The store written.
    pub store: StoreName,
    /// Encryption parameters when the payload is ciphertext.
    pub enc: Option<Bytes>,
    /// The payload, encoded.
    pub payload: Bytes,
}

/// An entry before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The database, or nothing for a root.
    pub tree: Option<TreeId>,
    /// In any order; sealing sorts them and drops duplicates.
    pub parents: Vec<EntryId>,
    /// One above the highest parent.
    pub height: Height,
    /// Not before any parent's.
    pub time: Time,
    /// In any order; sealing sorts them.
    pub sections: Vec<SectionDraft>,
    /// For a root.
    pub nonce: Option<Nonce>,
}

impl Draft {
    /// Begins a database with its first settings.
    #[must_use]
    pub fn root(nonce: Nonce, time: Time, settings: &[SettingsOp]) -> Self {
        let section = SectionDraft::settings(settings, &[]);
        Self {
            tree: None,
            parents: Vec::new(),
            height: Height(0),
            time,
            sections: vec![section],
            nonce: Some(nonce),
        }
    }

    /// Signs the draft with the author's key.
    ///
    /// # Errors
    /// Whatever [`Entry::parse`] would refuse, so that nothing malformed is ever signed and kept.
    pub fn seal(mut self, author: &SecretKey) -> Result<Entry, Refusal> {
        self.parents.sort_unstable();
        self.parents.dedup();
        self.sections.sort_by(|a, b| a.store.cmp(&b.store));
        if self.sections.iter().map(|section| section.payload.len()).sum::<usize>() > PAYLOAD_BYTES_MAX {
            return Err(Invalid::PayloadTooLarge.into());
        }
        let author_key: PublicKey = author.public();
        let header = Header {
            tree: self.tree,
            parents: self.parents,
            height: self.height,
            time: self.time,
            author: author_key,
            sections: self.sections.iter().map(SectionDraft::section).collect(),
            nonce: self.nonce,
        };
        let signature = sign(Domain::Entry, author, &header.encode());
        Entry::from_parts(
            header,
            signature,
            self.sections.into_iter().map(|section| section.payload).collect(),
        )
    }
}

impl SectionDraft {
    /// A change of settings.
    #[must_use]
    pub fn settings(ops: &[SettingsOp], salt: &[u8]) -> Self {
        let ops: Vec<Bytes> = ops.iter().map(SettingsOp::encode).collect();
        Self { store: StoreName::settings(), enc: None, payload: Payload::encode(SETTINGS_KIND, salt, &ops) }
    }

    fn section(&self) -> Section {
        Section {
            store: self.store.clone(),
            enc: self.enc.clone(),
            payload_len: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
            payload_hash: *blake3::hash(&self.payload).as_bytes(),
            blobs: Vec::new(),
        }
    }
}
