//! The key spaces: which rows there are, and their bytes.
//!
//! A key begins with the tag of its space. Spaces that belong to a tree go on with the tree's local number, four
//! bytes, so that a forgotten tree is a handful of ranges. Numbers in keys are big-endian, so that they sort;
//! numbers in values are LEB128.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use eid_core::dag::{Epoch, Logged, Named, Seq};
use eid_core::sketch::ShortId;
use eid_core::{EntryId, Height, PublicKey, StoreName, Time, TreeId};

use crate::backend::{Key, Value, prefix_end};
use crate::error::StoreError;
use crate::past::Interval;

/// The format of the rows. A store with a greater one is refused before anything is written.
pub(crate) const FORMAT: u32 = 6;

/// The tag that a key begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Space {
    /// -> format, epoch, next tree number.
    Meta = 0x01,
    /// tree id -> tree number.
    Trees = 0x02,
    /// tree number -> (): a forgotten tree whose rows are not all removed yet.
    Sweep = 0x03,
    /// namespace, key -> value: never synchronised.
    Local = 0x04,
    /// tree -> counts and tips.
    State = 0x10,
    /// tree, seq -> block and payloads.
    Log = 0x11,
    /// tree, entry id -> seq, height, time, settings frontier.
    Id = 0x12,
    /// tree, seq -> short id, parents, height, time, author, settings frontier.
    Edges = 0x13,
    /// tree, frontier number -> ids of settings entries.
    Frontier = 0x14,
    /// tree, entry id -> seq, past, block and payload of a settings entry.
    Settings = 0x15,
    /// tree, store name, kind -> store number and counts.
    Stores = 0x16,
    /// tree, store number, path -> value.
    View = 0x17,
    /// tree, seq, section -> () or [`PRUNED`]: a payload that is not here.
    Missing = 0x18,
    /// tree, store number, path, interval -> what the row was before that interval changed it.
    Past = 0x19,
    /// tree, checkpoint -> the tips of the entries before it.
    Checkpoint = 0x1a,
    /// tree, interval, number -> end of the log, seq, section: a payload that came later than its entry, in order.
    Late = 0x1b,
    /// tree, seq -> (): an entry that does not count.
    Void = 0x1c,
    /// tree, number -> a change of what counts: see [`Settled`].
    Settled = 0x1d,
    /// tree -> the cells of everything before the last checkpoint: see [`crate::sketch`].
    Sketch = 0x1e,
}

/// Says of a payload that is not here that it was dropped on purpose.
pub(crate) const PRUNED: &[u8] = &[1];

/// The spaces that hold rows of one tree.
pub(crate) const TREE_SPACES: [Space; 15] = [
    Space::State,
    Space::Log,
    Space::Id,
    Space::Edges,
    Space::Frontier,
    Space::Settings,
    Space::Stores,
    Space::View,
    Space::Missing,
    Space::Past,
    Space::Checkpoint,
    Space::Late,
    Space::Void,
    Space::Settled,
    Space::Sketch,
];

/// A tree's local number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreeNo(pub u32);

/// Begins a key of a tree's space.
pub(crate) fn tree_key(space: Space, tree: TreeNo, rest: &[u8]) -> Key {
    let mut key = Vec::with_capacity(5 + rest.len());
    key.push(space as u8);
    key.extend_from_slice(&tree.0.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

/// All keys of a tree's space: from, to.
pub(crate) fn tree_range(space: Space, tree: TreeNo) -> (Key, Key) {
    let from = tree_key(space, tree, &[]);
    let to = prefix_end(&from);
    (from, to)
}

pub(crate) fn seq_key(space: Space, tree: TreeNo, seq: Seq) -> Key {
    tree_key(space, tree, &seq.0.to_be_bytes())
}

/// The position in a key made by [`seq_key`], possibly with more after it.
pub(crate) fn seq_of_key(key: &[u8]) -> Result<Seq, StoreError> {
    let bytes = key.get(5..13).and_then(|bytes| bytes.try_into().ok());
    bytes.map(|bytes| Seq(u64::from_be_bytes(bytes))).ok_or(StoreError::Corrupt { what: "a key by position" })
}

pub(crate) fn meta_key() -> Key {
    vec![Space::Meta as u8]
}

pub(crate) fn trees_key(tree: &TreeId) -> Key {
    [&[Space::Trees as u8][..], &tree.0].concat()
}

pub(crate) fn sweep_key(tree: TreeNo) -> Key {
    [&[Space::Sweep as u8][..], &tree.0.to_be_bytes()].concat()
}

pub(crate) fn state_key(tree: TreeNo) -> Key {
    tree_key(Space::State, tree, &[])
}

pub(crate) fn id_key(tree: TreeNo, id: &EntryId) -> Key {
    tree_key(Space::Id, tree, &id.0)
}

pub(crate) fn settings_key(tree: TreeNo, id: &EntryId) -> Key {
    tree_key(Space::Settings, tree, &id.0)
}

pub(crate) fn frontier_key(tree: TreeNo, number: u32) -> Key {
    tree_key(Space::Frontier, tree, &number.to_be_bytes())
}

/// The name is preceded by its length, so that no name runs into a kind.
pub(crate) fn store_key(tree: TreeNo, store: &StoreName, kind: &str) -> Key {
    let name = store.as_str().as_bytes();
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    tree_key(Space::Stores, tree, &[&[length], name, kind.as_bytes()].concat())
}

/// Name and kind in a key made by [`store_key`].
pub(crate) fn store_of_key(key: &[u8]) -> Result<(StoreName, String), StoreError> {
    let parse = || {
        let (length, rest) = key.get(5..)?.split_first()?;
        let (name, kind) = rest.split_at_checked(usize::from(*length))?;
        let name = StoreName::new(str::from_utf8(name).ok()?).ok()?;
        Some((name, str::from_utf8(kind).ok()?.to_owned()))
    };
    parse().ok_or(StoreError::Corrupt { what: "the key of a store" })
}

pub(crate) fn view_key(tree: TreeNo, store: u32, path: &[u8]) -> Key {
    let mut key = Vec::with_capacity(VIEW_PREFIX_BYTES + path.len());
    key.push(Space::View as u8);
    key.extend_from_slice(&tree.0.to_be_bytes());
    key.extend_from_slice(&store.to_be_bytes());
    key.extend_from_slice(path);
    key
}

/// How many bytes of a view's key stand before the path.
pub(crate) const VIEW_PREFIX_BYTES: usize = 9;

pub(crate) fn missing_key(tree: TreeNo, seq: Seq, section: usize) -> Key {
    let section = u16::try_from(section).unwrap_or(u16::MAX);
    tree_key(Space::Missing, tree, &[&seq.0.to_be_bytes()[..], &section.to_be_bytes()].concat())
}

/// Position and section in a key made by [`missing_key`].
pub(crate) fn place_of_missing_key(key: &[u8]) -> Result<(Seq, usize), StoreError> {
    let section = key.get(13..).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let section = section.ok_or(StoreError::Corrupt { what: "the key of a payload that is not here" })?;
    Ok((seq_of_key(key)?, usize::from(section)))
}

/// The change of what counts with this number, beginning with one.
pub(crate) fn settled_key(tree: TreeNo, number: u64) -> Key {
    tree_key(Space::Settled, tree, &number.to_be_bytes())
}

pub(crate) fn checkpoint_key(tree: TreeNo, checkpoint: Interval) -> Key {
    tree_key(Space::Checkpoint, tree, &checkpoint.0.to_be_bytes())
}

/// The positions of the tips of the entries before a checkpoint.
pub(crate) fn encode_checkpoint(mut tips: Vec<Seq>) -> Value {
    tips.sort_unstable();
    let mut out = Vec::with_capacity(8 * tips.len());
    tips.iter().for_each(|tip| write_uint(&mut out, tip.0));
    out.into()
}

pub(crate) fn decode_checkpoint(value: &Value) -> Result<Vec<Seq>, StoreError> {
    let mut r = RowReader::new(value, "the tips of a checkpoint");
    let mut tips = Vec::new();
    while !r.is_empty() {
        tips.push(Seq(r.uint()?));
    }
    Ok(tips)
}

/// The `number`s of late payloads ascend in the order in which they came.
pub(crate) fn late_key(tree: TreeNo, interval: Interval, number: u64) -> Key {
    tree_key(Space::Late, tree, &[&interval.0.to_be_bytes()[..], &number.to_be_bytes()].concat())
}

/// A payload that came later than its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late {
    /// Where the log ended when it came.
    pub end: Seq,
    /// The position of its entry.
    pub seq: Seq,
    pub section: usize,
}

impl Late {
    pub(crate) fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(12);
        write_uint(&mut out, self.end.0);
        write_uint(&mut out, self.seq.0);
        write_uint(&mut out, self.section as u64);
        out.into()
    }

    pub(crate) fn decode(value: &Value) -> Result<Self, StoreError> {
        let mut r = RowReader::new(value, "the row of a late payload");
        let late = Self { end: Seq(r.uint()?), seq: Seq(r.uint()?), section: r.usize()? };
        r.finish()?;
        Ok(late)
    }
}

/// Appends a LEB128 number.
pub(crate) fn write_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads values that this crate wrote. Anything else is damage.
#[derive(Debug)]
pub(crate) struct RowReader<'a> {
    bytes: &'a Bytes,
    /// What is not read yet.
    left: Range<usize>,
    what: &'static str,
}

impl<'a> RowReader<'a> {
    pub(crate) fn new(bytes: &'a Bytes, what: &'static str) -> Self {
        Self::of_part(bytes, 0..bytes.len(), what)
    }

    /// Reads a value that lies among others.
    pub(crate) fn of_part(bytes: &'a Bytes, part: Range<usize>, what: &'static str) -> Self {
        debug_assert!(bytes.get(part.clone()).is_some());
        Self { bytes, left: part, what }
    }

    fn corrupt(&self) -> StoreError {
        StoreError::Corrupt { what: self.what }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn uint(&mut self) -> Result<u64, StoreError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes[self.place(1)?][0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.corrupt())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StoreError> {
        u32::try_from(self.uint()?).map_err(|_| self.corrupt())
    }

    pub(crate) fn usize(&mut self) -> Result<usize, StoreError> {
        usize::try_from(self.uint()?).map_err(|_| self.corrupt())
    }

    /// Skips bytes, and gives where they lie.
    pub(crate) fn place(&mut self, len: usize) -> Result<Range<usize>, StoreError> {
        if self.left.len() < len {
            return Err(self.corrupt());
        }
        let begin = self.left.start;
        self.left.start += len;
        Ok(begin..self.left.start)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<Bytes, StoreError> {
        Ok(self.bytes.slice(self.place(len)?))
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[self.place(N)?]);
        Ok(out)
    }

    /// Everything that was not read.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes.slice(self.left)
    }

    pub(crate) fn finish(self) -> Result<(), StoreError> {
        if self.is_empty() { Ok(()) } else { Err(self.corrupt()) }
    }
}

/// The one row about the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub format: u32,
    pub epoch: Epoch,
    pub next_tree: u32,
}

impl Meta {
    pub(crate) fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(16);
        write_uint(&mut out, u64::from(self.format));
        write_uint(&mut out, self.epoch.0);
        write_uint(&mut out, u64::from(self.next_tree));
        out.into()
    }

    /// Reads the format first: the rest of a newer one is not looked at.
    pub(crate) fn decode(value: &Value) -> Result<Self, StoreError> {
        let mut r = RowReader::new(value, "the row of the whole store");
        let format = r.u32()?;
        if format > FORMAT {
            return Err(crate::BackendError::NewerFormat { found: format, known: FORMAT }.into());
        }
        let meta = Self { format, epoch: Epoch(r.uint()?), next_tree: r.u32()? };
        r.finish()?;
        Ok(meta)
    }
}

pub(crate) fn encode_tree_no(tree: TreeNo) -> Value {
    let mut out = Vec::with_capacity(5);
    write_uint(&mut out, u64::from(tree.0));
    out.into()
}

pub(crate) fn decode_tree_no(value: &Value) -> Result<TreeNo, StoreError> {
    let mut r = RowReader::new(value, "the number of a tree");
    let number = TreeNo(r.u32()?);
    r.finish()?;
    Ok(number)
}

/// What has to be known of an entry to admit its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub seq: Seq,
    pub height: Height,
    pub time: Time,
    /// The number of the settings frontier that its children descend from.
    pub frontier: u32,
}

impl Facts {
    fn write(&self, out: &mut Vec<u8>) {
        write_uint(out, self.seq.0);
        write_uint(out, self.height.0);
        write_uint(out, self.time.0);
        write_uint(out, u64::from(self.frontier));
    }

    fn read(r: &mut RowReader<'_>) -> Result<Self, StoreError> {
        Ok(Self { seq: Seq(r.uint()?), height: Height(r.uint()?), time: Time(r.uint()?), frontier: r.u32()? })
    }

    pub(crate) fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(24);
        self.write(&mut out);
        out.into()
    }

    pub(crate) fn decode(value: &Value) -> Result<Self, StoreError> {
        let mut r = RowReader::new(value, "a row by id");
        let facts = Self::read(&mut r)?;
        r.finish()?;
        Ok(facts)
    }
}

/// Counts and tips of one tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TreeState {
    pub next_seq: Seq,
    pub bytes: u64,
    /// Payloads that are not here.
    pub missing: u64,
    /// How many of them were dropped on purpose. In a row only where there are any.
    pub pruned: u64,
    /// How many payloads came later than their entries: never fewer than before.
    pub filled: u64,
    pub time: Time,
    pub next_frontier: u32,
    pub next_store: u32,
    /// How often rows of views were changed without an entry: so that whoever admits meanwhile sees that they were.
    pub maintained: u64,
    /// Entries that do not count.
    pub voids: u64,
    /// How often views were changed because other entries count than before.
    pub settled: u64,
    /// What was not worked out yet.
    pub unsettled: Option<Unsettled>,
    pub tips: BTreeMap<EntryId, Facts>,
}

/// Settings came that may change what counts, and views do not show it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsettled {
    /// The position of the first of them.
    pub since: Seq,
    /// The number of the settings frontier before it.
    pub before: u32,
}

/// A change of what counts, as views took it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The position of the first settings entry that it follows from.
    pub since: Seq,
    /// How far the log went when views took it in.
    pub applied: Seq,
    /// [`TreeState::filled`] then: the number of the last late payload before it.
    pub filled: u64,
    /// Entries that count no longer, ascending.
    pub voided: Vec<Seq>,
    /// Entries that count again, ascending.
    pub restored: Vec<Seq>,
}

impl Settled {
    /// The first entry that counts otherwise than before.
    pub(crate) fn first(&self) -> Option<Seq> {
        self.voided.first().into_iter().chain(self.restored.first()).min().copied()
    }

    pub(crate) fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(16 + 3 * (self.voided.len() + self.restored.len()));
        write_uint(&mut out, self.since.0);
        write_uint(&mut out, self.applied.0);
        write_uint(&mut out, self.filled);
        for seqs in [&self.voided, &self.restored] {
            write_uint(&mut out, seqs.len() as u64);
            let mut last = 0;
            for seq in seqs {
                write_uint(&mut out, seq.0 - last);
                last = seq.0;
            }
        }
        out.into()
    }

    pub(crate) fn decode(value: &Value) -> Result<Self, StoreError> {
        const WHAT: &str = "a change of what counts";
        fn seqs(r: &mut RowReader<'_>) -> Result<Vec<Seq>, StoreError> {
            let mut last = 0u64;
            let read = |r: &mut RowReader<'_>, last: &mut u64| {
                *last = last.checked_add(r.uint()?).ok_or(StoreError::Corrupt { what: WHAT })?;
                Ok(Seq(*last))
            };
            (0..r.uint()?).map(|_| read(r, &mut last)).collect()
        }
        let mut r = RowReader::new(value, WHAT);
        let (since, applied, filled) = (Seq(r.uint()?), Seq(r.uint()?), r.uint()?);
        let (voided, restored) = (seqs(&mut r)?, seqs(&mut r)?);
        r.finish()?;
        Ok(Self { since, applied, filled, voided, restored })
    }
}

impl TreeState {
    pub(crate) fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(32 + 56 * self.tips.len());
        write_uint(&mut out, self.next_seq.0);
        write_uint(&mut out, self.bytes);
        write_uint(&mut out, self.missing);
        write_uint(&mut out, self.filled);
        write_uint(&mut out, self.time.0);
        write_uint(&mut out, u64::from(self.next_frontier));
        write_uint(&mut out, u64::from(self.next_store));
        write_uint(&mut out, self.maintained);
        write_uint(&mut out, self.voids);
        write_uint(&mut out, self.settled);
        let (since, before) = self.unsettled.map_or((0, 0), |open| (open.since.0 + 1, open.before));
        write_uint(&mut out, since);
        write_uint(&mut out, u64::from(before));
        write_uint(&mut out, self.tips.len() as u64);
        for (id, facts) in &self.tips {
            out.extend_from_slice(&id.0);
            facts.write(&mut out);
        }
        if self.pruned > 0 {
            write_uint(&mut out, self.pruned);
        }
        out.into()
    }

    pub(crate) fn decode(value: &Value) -> Result<Self, StoreError> {
        let mut r = RowReader::new(value, "the state of a tree");
        let mut state = Self {
            next_seq: Seq(r.uint()?),
            bytes: r.uint()?,
            missing: r.uint()?,
            pruned: 0,
            filled: r.uint()?,
            time: Time(r.uint()?),
            next_frontier: r.u32()?,
            next_store: r.u32()?,
            maintained: r.uint()?,
            voids: r.uint()?,
            settled: r.uint()?,
            unsettled: None,
            tips: BTreeMap::new(),
        };
        let (since, before) = (r.uint()?, r.u32()?);
        state.unsettled = since.checked_sub(1).map(|since| Unsettled { since: Seq(since), before });
        for _ in 0..r.uint()? {
            state.tips.insert(EntryId(r.fixed()?), Facts::read(&mut r)?);
        }
        if !r.is_empty() {
            state.pruned = r.uint()?;
        }
        r.finish()?;
        Ok(state)
    }
}

/// Block and payloads as they lie in the log.
pub(crate) fn encode_log(block: &Bytes, payloads: &[Option<Bytes>]) -> Value {
    let bytes = block.len() + payloads.iter().flatten().map(Bytes::len).sum::<usize>();
    let mut out = Vec::with_capacity(bytes + 16);
    write_uint(&mut out, block.len() as u64);
    out.extend_from_slice(block);
    for payload in payloads {
        match payload {
            None => out.push(0),
            Some(payload) => {
                write_uint(&mut out, payload.len() as u64 + 1);
                out.extend_from_slice(payload);
            }
        }
    }
    out.into()
}

/// The slices share the memory of the row.
pub(crate) fn decode_log(seq: Seq, value: &Value) -> Result<Logged, StoreError> {
    let mut row = LogRow::new(value, 0..value.len());
    let block = value.slice(row.block()?);
    let payloads = row.map(|place| Ok(place?.map(|place| value.slice(place))));
    Ok(Logged { seq, block, payloads: payloads.collect::<Result<_, StoreError>>()? })
}

/// Where the parts of a row of the log lie that lies among others: the block, and then one payload after another.
#[derive(Debug)]
pub(crate) struct LogRow<'a>(RowReader<'a>);

impl<'a> LogRow<'a> {
    pub(crate) fn new(bytes: &'a Bytes, row: Range<usize>) -> Self {
        Self(RowReader::of_part(bytes, row, "a row of the log"))
    }

    pub(crate) fn block(&mut self) -> Result<Range<usize>, StoreError> {
        let len = self.0.usize()?;
        self.0.place(len)
    }

    fn payload(&mut self) -> Result<Option<Range<usize>>, StoreError> {
        match self.0.usize()? {
            0 => Ok(None),
            len => self.0.place(len - 1).map(Some),
        }
    }
}

impl Iterator for LogRow<'_> {
    type Item = Result<Option<Range<usize>>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.payload())
    }
}

/// What the edges say of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The first bytes of the id.
    pub short: ShortId,
    pub height: Height,
    pub time: Time,
    pub author: PublicKey,
    pub frontier: u32,
    pub parents: Vec<Seq>,
}

impl Edge {
    pub(crate) fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(72);
        out.extend_from_slice(&self.short);
        write_uint(&mut out, self.parents.len() as u64);
        for parent in &self.parents {
            write_uint(&mut out, parent.0);
        }
        write_uint(&mut out, self.height.0);
        write_uint(&mut out, self.time.0);
        out.extend_from_slice(&self.author.0);
        write_uint(&mut out, u64::from(self.frontier));
        out.into()
    }

    /// The short id, and the parents.
    fn read_named(r: &mut RowReader<'_>, parents: &mut Vec<Seq>) -> Result<ShortId, StoreError> {
        let short = r.fixed()?;
        let count = r.usize()?;
        parents.clear();
        parents.reserve(count.min(eid_core::limits::PARENTS_MAX));
        for _ in 0..count {
            parents.push(Seq(r.uint()?));
        }
        Ok(short)
    }

    /// The same of a row that lies among others.
    pub(crate) fn read_named_in(
        bytes: &Bytes,
        row: Range<usize>,
        parents: &mut Vec<Seq>,
    ) -> Result<ShortId, StoreError> {
        Self::read_named(&mut RowReader::of_part(bytes, row, "a row of edges"), parents)
    }

    /// Only the parents, for walks.
    pub(crate) fn decode_parents(value: &Value) -> Result<Vec<Seq>, StoreError> {
        Ok(Self::decode_named(value)?.parents)
    }

    /// Only the short id and the parents.
    pub(crate) fn decode_named(value: &Value) -> Result<Named, StoreError> {
        let mut parents = Vec::new();
        let short = Self::read_named(&mut RowReader::new(value, "a row of edges"), &mut parents)?;
        Ok(Named { short, parents })
    }

    pub(crate) fn decode(value: &Value) -> Result<Self, StoreError> {
        let mut r = RowReader::new(value, "a row of edges");
        let mut parents = Vec::new();
        let short = Self::read_named(&mut r, &mut parents)?;
        let edge = Self {
            short,
            height: Height(r.uint()?),
            time: Time(r.uint()?),
            author: PublicKey(r.fixed()?),
            frontier: r.u32()?,
            parents,
        };
        r.finish()?;
        Ok(edge)
    }
}

pub(crate) fn write_ids(out: &mut Vec<u8>, ids: &[EntryId]) {
    write_uint(out, ids.len() as u64);
    for id in ids {
        out.extend_from_slice(&id.0);
    }
}

pub(crate) fn read_ids(r: &mut RowReader<'_>) -> Result<Vec<EntryId>, StoreError> {
    let count = r.usize()?;
    let mut ids = Vec::with_capacity(count.min(eid_core::limits::PARENTS_MAX));
    for _ in 0..count {
        ids.push(EntryId(r.fixed()?));
    }
    Ok(ids)
}

pub(crate) fn encode_frontier(ids: &[EntryId]) -> Value {
    let mut out = Vec::with_capacity(2 + 32 * ids.len());
    write_ids(&mut out, ids);
    out.into()
}

pub(crate) fn decode_frontier(value: &Value) -> Result<Vec<EntryId>, StoreError> {
    let mut r = RowReader::new(value, "a settings frontier");
    let ids = read_ids(&mut r)?;
    r.finish()?;
    Ok(ids)
}

/// A store's number and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StoreRow {
    /// The interval that changed it last.
    pub changed: Interval,
    pub number: u32,
    pub entries: u64,
    pub undecodable: u64,
}

impl StoreRow {
    pub(crate) fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(16);
        write_uint(&mut out, u64::from(self.changed.0));
        write_uint(&mut out, u64::from(self.number));
        write_uint(&mut out, self.entries);
        write_uint(&mut out, self.undecodable);
        out.into()
    }

    pub(crate) fn decode(value: &Value) -> Result<Self, StoreError> {
        let mut r = RowReader::new(value, "the row of a store");
        let changed = Interval(r.u32()?);
        let row = Self { changed, number: r.u32()?, entries: r.uint()?, undecodable: r.uint()? };
        r.finish()?;
        Ok(row)
    }
}
