//! The entry: bytes become an [`Entry`] once, and nothing later checks their structure again.

use std::fmt;

use bytes::Bytes;

use crate::cbor::{CborError, Reader, Writer};
use crate::id::{EntryId, TreeId};
use crate::key::{PublicKey, Signature};
use crate::limits::{
    BLOBS_MAX, ENC_BYTES_MAX, HEADER_BYTES_MAX, PARENTS_MAX, PAYLOAD_BYTES_MAX, SECTIONS_MAX,
    STORE_NAME_BYTES_MAX,
};
use crate::permission::Permission;
use crate::settings::{self, SettingsOp, Slot};
use crate::time::{Height, Time};
use crate::verdict::{Invalid, Missing, Refusal, Unsupported};

/// The store that holds who may do what in the database.
pub const SETTINGS_STORE: &str = "_settings";

/// The version of the format that this crate writes and reads.
const VERSION: u64 = 1;

/// Makes two roots of the same key and time differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

/// The name of a store: 1 to 64 bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName(String);

impl StoreName {
    /// Checks the length of a name.
    pub fn new(name: impl Into<String>) -> Result<Self, Invalid> {
        let name = name.into();
        Self::check(&name)?;
        Ok(Self(name))
    }

    fn check(name: &str) -> Result<(), Invalid> {
        if name.is_empty() || name.len() > STORE_NAME_BYTES_MAX { Err(Invalid::StoreName) } else { Ok(()) }
    }

    /// The settings of the database.
    #[must_use]
    pub fn settings() -> Self {
        Self(SETTINGS_STORE.to_owned())
    }

    /// Whether this is the settings store.
    #[must_use]
    pub fn is_settings(&self) -> bool {
        self.0 == SETTINGS_STORE
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A large value that a section names by hash and that travels apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef {
    /// Length in bytes.
    pub len: u64,
    /// BLAKE3-256 of the bytes.
    pub hash: [u8; 32],
}

/// What an entry says about one store: the payload itself is named by length and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The store written.
    pub store: StoreName,
    /// Encryption parameters when the payload is ciphertext.
    pub enc: Option<Bytes>,
    /// Length of the payload in bytes.
    pub payload_len: u32,
    /// Plain BLAKE3-256 of the payload bytes.
    pub payload_hash: [u8; 32],
    /// Blobs that the payload refers to.
    pub blobs: Vec<BlobRef>,
}

impl Section {
    /// Whether this is the payload that the section names.
    pub(crate) fn names(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_len as usize && *blake3::hash(payload).as_bytes() == self.payload_hash
    }
}

/// The signed part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The database, or nothing in its root.
    pub tree: Option<TreeId>,
    /// Sorted and unique; empty in a root only. They need not be an antichain.
    pub parents: Vec<EntryId>,
    /// `1 + max(parents)`, 0 in a root.
    pub height: Height,
    /// Not before any parent's.
    pub time: Time,
    /// Who signed.
    pub author: PublicKey,
    /// Sorted by store name, unique.
    pub sections: Vec<Section>,
    /// In a root only.
    pub nonce: Option<Nonce>,
}

impl Header {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(10).uint(VERSION);
        match &self.tree {
            Some(tree) => w.bytes(&tree.0),
            None => w.null(),
        };
        w.array(self.parents.len());
        for parent in &self.parents {
            w.bytes(&parent.0);
        }
        w.uint(self.height.0).uint(self.time.0).bytes(&self.author.0).null();
        w.array(self.sections.len());
        for section in &self.sections {
            w.array(5).text(section.store.as_str());
            match &section.enc {
                Some(enc) => w.bytes(enc),
                None => w.null(),
            };
            w.uint(u64::from(section.payload_len)).bytes(&section.payload_hash).array(section.blobs.len());
            for blob in &section.blobs {
                w.array(2).uint(blob.len).bytes(&blob.hash);
            }
        }
        match &self.nonce {
            Some(nonce) => w.bytes(&nonce.0),
            None => w.null(),
        };
        w.null();
        w.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::default();
        fields.read(bytes)?;
        let Fields { tree, parents, height, time, author, sections, nonce } = fields;
        let sections = sections.into_iter().map(SectionFields::into_section).collect();
        Ok(Self { tree, parents, height, time, author, sections, nonce })
    }

    /// Whether the entry writes the settings store (alone, once its structure is checked).
    #[must_use]
    pub fn is_settings(&self) -> bool {
        self.sections.iter().any(|section| section.store.is_settings())
    }

    fn check_structure(&self) -> Result<(), Invalid> {
        if self.tree.is_none() {
            if !self.parents.is_empty() {
                return Err(Invalid::RootWithParents);
            }
            if self.height != Height(0) {
                return Err(Invalid::RootHeight);
            }
            if self.nonce.is_none() {
                return Err(Invalid::RootWithoutNonce);
            }
        } else {
            if self.parents.is_empty() {
                return Err(Invalid::NoParents);
            }
            if self.nonce.is_some() {
                return Err(Invalid::NonceOutsideRoot);
            }
        }
        if !self.parents.is_sorted_by(|a, b| a < b) {
            return Err(Invalid::ParentsUnsorted);
        }
        if !self.sections.is_sorted_by(|a, b| a.store < b.store) {
            return Err(Invalid::SectionsUnsorted);
        }
        if let Some(section) = self.sections.iter().find(|section| section.store.is_settings()) {
            if self.sections.len() > 1 {
                return Err(Invalid::SettingsNotAlone);
            }
            if section.enc.is_some() {
                return Err(Invalid::SettingsEncrypted);
            }
        }
        let total: u64 = self.sections.iter().map(|section| u64::from(section.payload_len)).sum();
        if total > PAYLOAD_BYTES_MAX as u64 {
            return Err(Invalid::PayloadTooLarge);
        }
        Ok(())
    }
}

const NULL: &[u8] = &[0xf6];

fn header_error(error: CborError) -> Refusal {
    match error {
        CborError::NonCanonical => Invalid::NonCanonical.into(),
        CborError::Truncated | CborError::Type | CborError::Limit | CborError::Trailing => {
            Invalid::HeaderMalformed.into()
        }
    }
}

/// A header as it lies in a block, its variable parts borrowed: a reader of many keeps one and its room.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) tree: Option<TreeId>,
    pub(crate) parents: Vec<EntryId>,
    pub(crate) height: Height,
    pub(crate) time: Time,
    pub(crate) author: PublicKey,
    pub(crate) sections: Vec<SectionFields<'a>>,
    pub(crate) nonce: Option<Nonce>,
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self {
            tree: None,
            parents: Vec::new(),
            height: Height(0),
            time: Time(0),
            author: PublicKey([0; 32]),
            sections: Vec::new(),
            nonce: None,
        }
    }
}

impl<'a> Fields<'a> {
    /// Reads a header. What reads has one encoding. After an error there is nothing to be learnt from the fields.
    pub(crate) fn read(&mut self, bytes: &'a [u8]) -> Result<(), Refusal> {
        self.parents.clear();
        self.sections.clear();
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(Invalid::HeaderTooLarge.into());
        }
        let mut r = Reader::new(bytes);
        let elements = r.array(usize::MAX).map_err(header_error)?;
        let version = r.uint().map_err(header_error)?;
        if version != VERSION {
            return Err(if version == 0 {
                Invalid::HeaderMalformed.into()
            } else {
                Unsupported::Version(version).into()
            });
        }
        if elements != 10 {
            return Err(Invalid::HeaderMalformed.into());
        }
        self.tree = r.nullable(Reader::fixed).map_err(header_error)?.map(TreeId);
        let count = r.array(usize::MAX).map_err(header_error)?;
        if count > PARENTS_MAX {
            return Err(Invalid::TooManyParents.into());
        }
        self.parents.reserve(count);
        for _ in 0..count {
            self.parents.push(EntryId(r.fixed().map_err(header_error)?));
        }
        self.height = Height(r.uint().map_err(header_error)?);
        self.time = Time(r.uint().map_err(header_error)?);
        self.author = PublicKey(r.fixed().map_err(header_error)?);
        let authority = r.skip(crate::limits::NESTING_MAX).map_err(header_error)?;
        if authority != NULL {
            return Err(Unsupported::Authority.into());
        }
        let count = r.array(usize::MAX).map_err(header_error)?;
        if count > SECTIONS_MAX {
            return Err(Invalid::TooManySections.into());
        }
        self.sections.reserve(count);
        for _ in 0..count {
            self.sections.push(SectionFields::read(&mut r)?);
        }
        self.nonce = r.nullable(Reader::fixed).map_err(header_error)?.map(Nonce);
        let ext = r.skip(crate::limits::NESTING_MAX).map_err(header_error)?;
        r.finish().map_err(header_error)?;
        if ext != NULL {
            return Err(Unsupported::Extension.into());
        }
        Ok(())
    }
}

/// A section as it lies in a header.
#[derive(Debug)]
pub(crate) struct SectionFields<'a> {
    pub(crate) store: &'a str,
    pub(crate) enc: Option<&'a [u8]>,
    pub(crate) payload_len: u32,
    pub(crate) payload_hash: [u8; 32],
    pub(crate) blobs: Vec<BlobRef>,
}

impl<'a> SectionFields<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, Refusal> {
        r.array_exact(5).map_err(header_error)?;
        let store = r.text(usize::MAX).map_err(header_error)?;
        StoreName::check(store)?;
        let enc = r.nullable(|r| r.bytes(usize::MAX)).map_err(header_error)?;
        if enc.is_some_and(|enc| enc.len() > ENC_BYTES_MAX) {
            return Err(Invalid::EncTooLarge.into());
        }
        let len = r.uint().map_err(header_error)?;
        let payload_len = u32::try_from(len).map_err(|_| Invalid::PayloadTooLarge)?;
        let payload_hash = r.fixed().map_err(header_error)?;
        let count = r.array(BLOBS_MAX).map_err(header_error)?;
        let mut blobs = Vec::with_capacity(count);
        for _ in 0..count {
            r.array_exact(2).map_err(header_error)?;
            let len = r.uint().map_err(header_error)?;
            blobs.push(BlobRef { len, hash: r.fixed().map_err(header_error)? });
        }
        Ok(Self { store, enc, payload_len, payload_hash, blobs })
    }

    fn into_section(self) -> Section {
        Section {
            store: StoreName(self.store.to_owned()),
            enc: self.enc.map(Bytes::copy_from_slice),
            payload_len: self.payload_len,
            payload_hash: self.payload_hash,
            blobs: self.blobs,
        }
    }
}

/// An immutable node of the DAG whose bytes are canonical, whose id is their hash, and whose payloads, as far as
/// they are here, are the ones that its header names.
///
/// Nothing is said yet about its signature, its parents or its author's rights: see [`crate::Signed`] and
/// [`crate::Admissible`].
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    id: EntryId,
    block: Bytes,
    /// Where the header lies within the block.
    header_at: (usize, usize),
    header: Header,
    signature: Signature,
    payloads: Vec<Option<Bytes>>,
    settings: Vec<SettingsOp>,
}

impl Entry {
    /// Parses a block and its payloads, one per section, `None` where a payload is not here.
    ///
    /// Checks sizes, canonical form, structure, and the length and hash of each payload.
    pub fn parse(block: Bytes, payloads: Vec<Option<Bytes>>) -> Result<Self, Refusal> {
        if block.len() > HEADER_BYTES_MAX + 80 {
            return Err(Invalid::HeaderTooLarge.into());
        }
        let (header_at, signature) = split_block(&block)?;
        let header = Header::decode(&block[header_at.0..header_at.1])?;
        header.check_structure()?;
        if payloads.len() != header.sections.len() {
            return Err(Invalid::PayloadMismatch.into());
        }
        let pairs = header.sections.iter().zip(&payloads);
        if pairs
            .into_iter()
            .any(|(section, payload)| payload.as_ref().is_some_and(|bytes| !section.names(bytes)))
        {
            return Err(Invalid::PayloadMismatch.into());
        }
        let settings = if header.is_settings() {
            let payload = payloads[0].as_ref().ok_or(Missing::SettingsPayload)?;
            settings::decode(payload)?
        } else {
            Vec::new()
        };
        if header.tree.is_none() {
            check_root(&header, &settings)?;
        }
        Ok(Self { id: EntryId::of_block(&block), block, header_at, header, signature, payloads, settings })
    }

    /// Parses a block that this device stored: its hash is compared with the id it is stored under, which stands
    /// for every check that was made when it was admitted.
    ///
    /// # Errors
    /// As [`Self::parse`]; an id that does not match gives [`Invalid::PayloadMismatch`].
    pub fn parse_stored(id: EntryId, block: Bytes, payloads: Vec<Option<Bytes>>) -> Result<Self, Refusal> {
        let entry = Self::parse(block, payloads)?;
        if entry.id == id { Ok(entry) } else { Err(Invalid::PayloadMismatch.into()) }
    }

    pub(crate) fn from_parts(
        header: Header,
        signature: Signature,
        payloads: Vec<Bytes>,
    ) -> Result<Self, Refusal> {
        Self::parse(block_of(&header.encode(), &signature), payloads.into_iter().map(Some).collect())
    }

    /// The hash of the block.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// The database this entry belongs to: its own id when it is a root.
    #[must_use]
    pub fn tree(&self) -> TreeId {
        self.header.tree.unwrap_or(TreeId(self.id.0))
    }

    /// Whether it begins a database.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.header.tree.is_none()
    }

    /// The signed part.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes that were signed, without the domain.
    #[must_use]
    pub fn header_bytes(&self) -> &[u8] {
        &self.block[self.header_at.0..self.header_at.1]
    }

    /// The bytes that are stored, hashed and sent.
    #[must_use]
    pub fn block(&self) -> &Bytes {
        &self.block
    }

    /// One per section; `None` where it is not here.
    #[must_use]
    pub fn payloads(&self) -> &[Option<Bytes>] {
        &self.payloads
    }

    /// The operations of a settings entry; empty for any other.
    #[must_use]
    pub fn settings(&self) -> &[SettingsOp] {
        &self.settings
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Bytes of the block and of the payloads that are here.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.block.len() + self.payloads.iter().flatten().map(Bytes::len).sum::<usize>()
    }

    /// Verifies the signature of this one entry by the ZIP-215 rule.
    pub fn verify_signature(&self) -> Result<(), Invalid> {
        crate::witness::check_signature(self)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("header", &self.header).finish_non_exhaustive()
    }
}

/// The block of a header and its signature.
pub(crate) fn block_of(header: &[u8], signature: &Signature) -> Bytes {
    let mut w = Writer::new();
    w.array(2).bytes(header).bytes(&signature.0);
    Bytes::from(w.into_bytes())
}

/// Where the header lies in the block, and the signature.
pub(crate) fn split_block(block: &[u8]) -> Result<((usize, usize), Signature), Refusal> {
    let malformed = |error| match error {
        CborError::NonCanonical => Invalid::NonCanonical,
        CborError::Limit => Invalid::HeaderTooLarge,
        CborError::Truncated | CborError::Type | CborError::Trailing => Invalid::BlockMalformed,
    };
    let mut r = Reader::new(block);
    r.array_exact(2).map_err(malformed)?;
    let header = r.bytes(HEADER_BYTES_MAX).map_err(malformed)?;
    let end = r.position();
    let signature = r.fixed().map_err(malformed)?;
    r.finish().map_err(malformed)?;
    Ok(((end - header.len(), end), Signature(signature)))
}

/// A root writes the settings, names the rules first, and makes its own signer the strongest admin.
fn check_root(header: &Header, ops: &[SettingsOp]) -> Result<(), Invalid> {
    let signer = SettingsOp::Set { slot: Slot::Key(header.author), permission: Permission::Admin(0) };
    if matches!(ops.first(), Some(SettingsOp::Rules(_))) && ops.contains(&signer) {
        Ok(())
    } else {
        Err(Invalid::RootSettings)
    }
}
