//! What is unpacked is what was packed, byte for byte: entries travel without what the receiver can work out.
//!
//! Within one batch, the tree, the hash of a payload that comes along, a parent or an author that came before in the
//! batch, and the name of a store that came before cost a byte or nothing. The canonical bytes are rebuilt before
//! anything is hashed or verified; an entry whose bytes are not the canonical ones of its header travels as it is.
//! A packed batch is a sequence of CBOR items (RFC 8742); nothing hashes or signs it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::cbor::{CborError, Kind, Reader, Writer};
use crate::dag::{InRun, Seq};
use crate::entry::{Fields, SectionFields, block_of, split_block};
use crate::limits::{
    BLOBS_MAX, ENC_BYTES_MAX, HEADER_BYTES_MAX, PARENTS_MAX, PAYLOAD_BYTES_MAX, SECTIONS_MAX,
    STORE_NAME_BYTES_MAX,
};
use crate::sketch::ShortId;
use crate::{BlobRef, EntryId, Header, Height, PublicKey, Section, Signature, StoreName, Time, TreeId};

/// Before an entry that travels as it is.
const WHOLE: u64 = 0;
/// Before an entry without what can be worked out.
const PACKED: u64 = 1;
/// Longest block, with its signature and the heads around it.
const BLOCK_BYTES_MAX: usize = HEADER_BYTES_MAX + 80;

/// An entry as it arrives. Nothing about it has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Header and signature.
    pub block: Bytes,
    /// One per section; `None` where the sender has none.
    pub payloads: Vec<Option<Bytes>>,
}

impl Arrived {
    /// Bytes of block and payloads.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.block.len() + self.payloads.iter().flatten().map(Bytes::len).sum::<usize>()
    }
}

/// How much may be unpacked.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// Bytes of their blocks and payloads.
    pub bytes: usize,
}

/// Says why a packed batch cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// It is not what a packer makes.
    #[error("the packed entries are malformed")]
    Malformed,
    /// It names something that did not come before.
    #[error("the packed entries refer to what is not there")]
    Reference,
    /// There is more in it than may be.
    #[error("the packed entries are more than may come at once")]
    TooMuch,
}

impl From<CborError> for UnpackError {
    fn from(_: CborError) -> Self {
        Self::Malformed
    }
}

/// Packs the entries of one database, in their order.
#[must_use]
pub fn pack<'a>(tree: &'a TreeId, entries: impl IntoIterator<Item = &'a Arrived>) -> Bytes {
    let (mut packer, mut known) = (Packer::new(tree), ByIds::default());
    for entry in entries {
        let payloads = entry.payloads.iter().map(|payload| payload.as_deref());
        packer.push(&entry.block, payloads, &Source::ByIds(&known));
        known.place(&entry.block);
    }
    packer.end()
}

/// Packs entries of one database as a store holds them, in the order of their positions: the same bytes as [`pack`].
///
/// What a store holds was verified when it came, so nothing is hashed: payloads are taken to be those that are named, and
/// parents to be where the edges say. Where that is not so, because the store is damaged, an entry is unpacked that has
/// another id, and its signature does not hold.
#[must_use]
pub fn pack_stored<'a>(tree: &'a TreeId, entries: impl Iterator<Item = InRun<'a>> + Clone) -> Bytes {
    let (mut packer, mut known) = (Packer::new(tree), Vec::new());
    // Packed they take less.
    packer.out = Writer::with_capacity(entries.clone().map(|entry| entry.bytes_len()).sum());
    for entry in entries {
        packer.push(entry.block(), entry.payloads(), &Source::Stored(&known, entry.parents()));
        known.push((entry.seq(), entry.short()));
    }
    packer.end()
}

/// Rebuilds the entries of a batch that was packed for this database.
pub fn unpack(tree: &TreeId, packed: &Bytes, bounds: Bounds) -> Result<Vec<Arrived>, UnpackError> {
    let mut unpacker = Unpacker { packed, r: Reader::new(packed), said: Said::default() };
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while unpacker.r.position() < packed.len() {
        if entries.len() >= bounds.entries {
            return Err(UnpackError::TooMuch);
        }
        let entry = unpacker.next(tree)?;
        bytes += entry.bytes_len();
        if bytes > bounds.bytes {
            return Err(UnpackError::TooMuch);
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// What came before in the batch, as both sides know it.
#[derive(Debug, Default)]
struct Said {
    placed: Vec<Place>,
    authors: Vec<PublicKey>,
    stores: Vec<StoreName>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    id: EntryId,
    height: Height,
    time: Time,
}

impl Said {
    /// What the height of an entry most likely is, by its parents in the batch.
    fn height(&self, parents: impl Iterator<Item = usize>) -> u64 {
        let parents = parents.filter_map(|at| self.placed.get(at)).map(|place| &place.height);
        likely_height(parents, self.placed.last().map(|place| &place.height))
    }

    fn time(&self) -> u64 {
        self.placed.last().map_or(0, |place| place.time.0)
    }

    /// Nothing is known but the id of an entry that travels as it is.
    fn place(&mut self, block: &[u8], header: Option<&Header>) {
        let (height, time) = header.map_or((Height(0), Time(0)), |header| (header.height, header.time));
        self.placed.push(Place { id: EntryId::of_block(block), height, time });
    }
}

/// What the height of an entry most likely is, by those of its parents in the batch and of the entry before it.
fn likely_height<'a>(parents: impl Iterator<Item = &'a Height>, last: Option<&Height>) -> u64 {
    let above = parents.map(|height| height.0.saturating_add(1));
    above.max().unwrap_or_else(|| last.map_or(0, |height| height.0))
}

/// How a packer knows which parents came before in the batch.
enum Source<'a> {
    /// The ids of the entries before; hashes of payloads are looked at as well.
    ByIds(&'a ByIds),
    /// The positions and short ids of the entries before, and the positions of the parents.
    Stored(&'a [(Seq, ShortId)], &'a [Seq]),
}

/// The entries of a batch by the beginning of their ids.
#[derive(Default)]
struct ByIds {
    placed: Vec<EntryId>,
    at: BTreeMap<u64, usize>,
}

impl ByIds {
    fn place(&mut self, block: &[u8]) {
        let id = EntryId::of_block(block);
        self.at.insert(first(&id), self.placed.len());
        self.placed.push(id);
    }

    fn at(&self, id: &EntryId) -> Option<usize> {
        // Short ids meet by chance or by somebody's work; then a parent travels in full.
        self.at.get(&first(id)).copied().filter(|at| self.placed[*at] == *id)
    }
}

fn first(id: &EntryId) -> u64 {
    u64::from_be_bytes(id.prefix())
}

impl Source<'_> {
    /// Which entry of the batch a parent is, the `n`th of its child.
    fn at(&self, n: usize, parent: &EntryId) -> Option<usize> {
        match self {
            Self::ByIds(known) => known.at(parent),
            Self::Stored(known, parents) => {
                let seq = parents.get(n)?;
                let at = known.binary_search_by_key(seq, |(seq, _)| *seq).ok()?;
                // The edges of a store that is damaged are not followed.
                Some(at).filter(|at| known[*at].1 == parent.prefix())
            }
        }
    }

    /// Whether the payload is the one that the section names, of a store as far as its length tells.
    fn fits(&self, section: &SectionFields<'_>, payload: &[u8]) -> bool {
        payload.len() == section.payload_len as usize
            && match self {
                Self::ByIds(_) => *blake3::hash(payload).as_bytes() == section.payload_hash,
                Self::Stored(..) => true,
            }
    }
}

struct Packer<'a> {
    tree: &'a TreeId,
    out: Writer,
    /// What the receiver takes an entry's height and time to be, for those that came before.
    heights: Vec<Height>,
    time: Time,
    authors: BTreeMap<PublicKey, u64>,
    stores: BTreeMap<&'a str, u64>,
    /// Room that is used again for each entry.
    header: Fields<'a>,
    back: Vec<Option<usize>>,
}

impl<'a> Packer<'a> {
    fn new(tree: &'a TreeId) -> Self {
        Self {
            tree,
            out: Writer::new(),
            heights: Vec::new(),
            time: Time(0),
            authors: BTreeMap::new(),
            stores: BTreeMap::new(),
            header: Fields::default(),
            back: Vec::new(),
        }
    }

    fn end(self) -> Bytes {
        self.out.into_bytes().into()
    }

    fn push<P>(&mut self, block: &'a [u8], payloads: P, source: &Source<'_>)
    where
        P: ExactSizeIterator<Item = Option<&'a [u8]>> + Clone,
    {
        let (height, time) = match self.read(block, payloads.clone(), source) {
            Some(signature) => {
                self.push_packed(&signature, payloads, source);
                (self.header.height, self.header.time)
            }
            None => {
                self.push_whole(block, payloads);
                (Height(0), Time(0))
            }
        };
        self.heights.push(height);
        self.time = time;
    }

    /// Reads the header. Gives the signature, where the rest of the entry follows from them: what reads has one encoding.
    fn read<P>(&mut self, block: &'a [u8], payloads: P, source: &Source<'_>) -> Option<Signature>
    where
        P: ExactSizeIterator<Item = Option<&'a [u8]>>,
    {
        let (at, signature) = split_block(block).ok()?;
        self.header.read(&block[at.0..at.1]).ok()?;
        let header = &self.header;
        let follows = header.tree == Some(*self.tree)
            && header.nonce.is_none()
            && header.parents.is_sorted_by(|a, b| a < b)
            && header.sections.len() == payloads.len()
            && header
                .sections
                .iter()
                .zip(payloads)
                .all(|(section, payload)| payload.is_none_or(|payload| source.fits(section, payload)));
        follows.then_some(signature)
    }

    fn push_whole(&mut self, block: &[u8], payloads: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
        self.out.uint(WHOLE).bytes(block).array(payloads.len());
        for payload in payloads {
            match payload {
                Some(payload) => self.out.bytes(payload),
                None => self.out.null(),
            };
        }
    }

    fn push_packed<P>(&mut self, signature: &Signature, payloads: P, source: &Source<'_>)
    where
        P: Iterator<Item = Option<&'a [u8]>>,
    {
        let Self { out, heights, header, back, .. } = self;
        out.uint(PACKED).array(header.parents.len());
        back.clear();
        back.extend(header.parents.iter().enumerate().map(|(n, parent)| source.at(n, parent)));
        for (parent, at) in header.parents.iter().zip(&*back) {
            match at {
                Some(at) => out.uint((heights.len() - at) as u64),
                None => out.bytes(&parent.0),
            };
        }
        let height = likely_height(back.iter().flatten().filter_map(|at| heights.get(*at)), heights.last());
        out.int(i128::from(header.height.0) - i128::from(height));
        out.int(i128::from(header.time.0) - i128::from(self.time.0));
        match self.authors.get(&header.author) {
            Some(at) => drop(out.uint(*at)),
            None => {
                out.bytes(&header.author.0);
                self.authors.insert(header.author, self.authors.len() as u64);
            }
        }
        out.array(header.sections.len());
        for (section, payload) in header.sections.iter().zip(payloads) {
            push_section(out, &mut self.stores, section, payload);
        }
        out.bytes(&signature.0);
    }
}

fn push_section<'a>(
    out: &mut Writer,
    stores: &mut BTreeMap<&'a str, u64>,
    section: &SectionFields<'a>,
    payload: Option<&[u8]>,
) {
    match stores.get(section.store) {
        Some(at) => drop(out.uint(*at)),
        None => {
            out.text(section.store);
            stores.insert(section.store, stores.len() as u64);
        }
    }
    match payload {
        Some(payload) => out.bytes(payload),
        None => out.array(2).uint(u64::from(section.payload_len)).bytes(&section.payload_hash),
    };
    if section.enc.is_none() && section.blobs.is_empty() {
        out.null();
        return;
    }
    out.array(2);
    match section.enc {
        Some(enc) => out.bytes(enc),
        None => out.null(),
    };
    out.array(section.blobs.len());
    for blob in &section.blobs {
        out.array(2).uint(blob.len).bytes(&blob.hash);
    }
}

struct Unpacker<'a> {
    packed: &'a Bytes,
    r: Reader<'a>,
    said: Said,
}

impl Unpacker<'_> {
    fn next(&mut self, tree: &TreeId) -> Result<Arrived, UnpackError> {
        match self.r.uint()? {
            WHOLE => self.whole(),
            PACKED => self.packed(tree),
            _ => Err(UnpackError::Malformed),
        }
    }

    fn whole(&mut self) -> Result<Arrived, UnpackError> {
        let block = self.bytes(BLOCK_BYTES_MAX)?;
        let count = self.r.array(SECTIONS_MAX)?;
        let payloads = (0..count).map(|_| match self.r.peek()? {
            Kind::Null => Ok(self.r.null().map(|()| None)?),
            _ => self.bytes(PAYLOAD_BYTES_MAX).map(Some),
        });
        let entry = Arrived { payloads: payloads.collect::<Result<_, UnpackError>>()?, block };
        self.said.place(&entry.block, None);
        Ok(entry)
    }

    fn packed(&mut self, tree: &TreeId) -> Result<Arrived, UnpackError> {
        let here = self.said.placed.len();
        let count = self.r.array(PARENTS_MAX)?;
        let (mut parents, mut places) = (Vec::with_capacity(count), Vec::new());
        for _ in 0..count {
            if self.r.peek()? == Kind::Bytes {
                parents.push(EntryId(self.r.fixed()?));
                continue;
            }
            let back = usize::try_from(self.r.uint()?).map_err(|_| UnpackError::Reference)?;
            let at = here.checked_sub(back).ok_or(UnpackError::Reference)?;
            parents.push(self.said.placed.get(at).ok_or(UnpackError::Reference)?.id);
            places.push(at);
        }
        if !parents.is_sorted_by(|a, b| a < b) {
            return Err(UnpackError::Malformed);
        }
        let height = self.number(self.said.height(places.into_iter()))?;
        let time = self.number(self.said.time())?;
        let author = self.author()?;
        let count = self.r.array(SECTIONS_MAX)?;
        let (mut sections, mut payloads) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let (section, payload) = self.section()?;
            sections.push(section);
            payloads.push(payload);
        }
        let header = Header {
            tree: Some(*tree),
            parents,
            height: Height(height),
            time: Time(time),
            author,
            sections,
            nonce: None,
        };
        let block = block_of(&header.encode(), &Signature(self.r.fixed()?));
        if block.len() > BLOCK_BYTES_MAX {
            return Err(UnpackError::Malformed);
        }
        self.said.place(&block, Some(&header));
        Ok(Arrived { block, payloads })
    }

    fn author(&mut self) -> Result<PublicKey, UnpackError> {
        if self.r.peek()? == Kind::Bytes {
            let author = PublicKey(self.r.fixed()?);
            self.said.authors.push(author);
            return Ok(author);
        }
        let at = usize::try_from(self.r.uint()?).map_err(|_| UnpackError::Reference)?;
        self.said.authors.get(at).copied().ok_or(UnpackError::Reference)
    }

    fn section(&mut self) -> Result<(Section, Option<Bytes>), UnpackError> {
        let store = self.store()?;
        let (payload, payload_len, payload_hash) = if self.r.peek()? == Kind::Bytes {
            let payload = self.bytes(PAYLOAD_BYTES_MAX)?;
            let len = u32::try_from(payload.len()).map_err(|_| UnpackError::Malformed)?;
            let hash = *blake3::hash(&payload).as_bytes();
            (Some(payload), len, hash)
        } else {
            self.r.array_exact(2)?;
            let len = u32::try_from(self.r.uint()?).map_err(|_| UnpackError::Malformed)?;
            (None, len, self.r.fixed()?)
        };
        let (mut enc, mut blobs) = (None, Vec::new());
        if self.r.peek()? == Kind::Null {
            self.r.null()?;
        } else {
            self.r.array_exact(2)?;
            enc = match self.r.peek()? {
                Kind::Null => self.r.null().map(|()| None)?,
                _ => Some(self.bytes(ENC_BYTES_MAX)?),
            };
            for _ in 0..self.r.array(BLOBS_MAX)? {
                self.r.array_exact(2)?;
                blobs.push(BlobRef { len: self.r.uint()?, hash: self.r.fixed()? });
            }
        }
        Ok((Section { store, enc, payload_len, payload_hash, blobs }, payload))
    }

    fn store(&mut self) -> Result<StoreName, UnpackError> {
        if self.r.peek()? == Kind::Text {
            let name = StoreName::new(self.r.text(STORE_NAME_BYTES_MAX)?);
            let name = name.map_err(|_| UnpackError::Malformed)?;
            self.said.stores.push(name.clone());
            return Ok(name);
        }
        let at = usize::try_from(self.r.uint()?).map_err(|_| UnpackError::Reference)?;
        self.said.stores.get(at).cloned().ok_or(UnpackError::Reference)
    }

    /// A number, by how it differs from what it most likely is.
    fn number(&mut self, likely: u64) -> Result<u64, UnpackError> {
        let number = self.r.int()?.checked_add(i128::from(likely)).ok_or(UnpackError::Malformed)?;
        u64::try_from(number).map_err(|_| UnpackError::Malformed)
    }

    /// A byte string, shared with the batch.
    fn bytes(&mut self, max: usize) -> Result<Bytes, UnpackError> {
        let len = self.r.bytes(max)?.len();
        let end = self.r.position();
        Ok(self.packed.slice(end - len..end))
    }
}
