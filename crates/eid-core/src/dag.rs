//! What a DAG of entries means: walks written once, over small read traits.
//!
//! A replica numbers its entries in the order of their arrival ([`Seq`]). Arrival order is a topological order, and
//! what differs between two replicas is usually recent in it, so every walk goes down by arrival and never by
//! height, which an old branch keeps low for ever. Nothing recurses.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::id::EntryId;
use crate::judge::ReadError;
use crate::sketch::{ShortId, Sketch};

mod estimate;

pub use estimate::{Estimate, Estimated, Mark};

/// The position of an entry in one replica's order of arrival, from 0. Local: never compared between replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// Names one life of a store. A restored backup gets another, so that old positions are not taken for new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Reads the edges of one tree.
///
/// # Contract
/// Parents have smaller positions than their children. All answers come from one consistent snapshot.
pub trait Dag {
    /// The parents of up to `count` entries beginning at `from`, in ascending order of position.
    fn parents(&self, from: Seq, count: usize) -> Result<Vec<Vec<Seq>>, ReadError>;
}

/// An entry as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Where it lies.
    pub seq: Seq,
    /// Its canonical block.
    pub block: Bytes,
    /// One per section; `None` where it is not here.
    pub payloads: Vec<Option<Bytes>>,
}

impl Logged {
    /// Bytes of block and payloads.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.block.len() + self.payloads.iter().flatten().map(Bytes::len).sum::<usize>()
    }
}

/// Entries of a range of positions as they lie in the log, in one piece of memory: who reads many of them allocates
/// nothing for each.
#[derive(Debug, Clone, Default)]
pub struct Run {
    bytes: Bytes,
    entries: Vec<Lying>,
    payloads: Vec<Option<Range<usize>>>,
    parents: Vec<Seq>,
}

/// Where the parts of one entry of a [`Run`] lie.
#[derive(Debug, Clone)]
struct Lying {
    seq: Seq,
    short: ShortId,
    block: Range<usize>,
    payloads: Range<usize>,
    parents: Range<usize>,
}

/// One entry of a [`Run`].
#[derive(Debug, Clone, Copy)]
pub struct InRun<'a> {
    run: &'a Run,
    lying: &'a Lying,
}

impl Run {
    /// A run without entries, whose entries will lie in these bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Adds the entry at a position above those before: where its block and its payloads lie, one for each section and
    /// `None` where it is not here, and what the edges say of it.
    ///
    /// # Panics
    /// When something lies beyond the bytes.
    pub fn push(
        &mut self,
        seq: Seq,
        block: Range<usize>,
        payloads: impl IntoIterator<Item = Option<Range<usize>>>,
        short: ShortId,
        parents: impl IntoIterator<Item = Seq>,
    ) {
        let (first_payload, first_parent) = (self.payloads.len(), self.parents.len());
        self.payloads.extend(payloads);
        self.parents.extend(parents);
        let fits = |range: &Range<usize>| self.bytes.get(range.clone()).is_some();
        assert!(fits(&block) && self.payloads[first_payload..].iter().flatten().all(fits));
        let payloads = first_payload..self.payloads.len();
        let parents = first_parent..self.parents.len();
        self.entries.push(Lying { seq, short, block, payloads, parents });
    }

    /// Copies entries together.
    pub fn of(logged: &[Logged], dag: &(impl Replica + ?Sized)) -> Result<Self, ReadError> {
        let mut bytes = Vec::with_capacity(logged.iter().map(Logged::bytes_len).sum());
        let mut places = Vec::with_capacity(logged.len());
        for entry in logged {
            let mut place = |part: &Bytes| {
                bytes.extend_from_slice(part);
                bytes.len() - part.len()..bytes.len()
            };
            let block = place(&entry.block);
            let payloads: Vec<_> = entry.payloads.iter().map(|part| part.as_ref().map(&mut place)).collect();
            places.push((block, payloads));
        }
        let mut run = Self::new(bytes.into());
        for (entry, (block, payloads)) in logged.iter().zip(places) {
            let Some(named) = dag.named(entry.seq, 1)?.pop() else { break };
            run.push(entry.seq, block, payloads, named.short, named.parents);
        }
        Ok(run)
    }

    /// The entries, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = InRun<'_>> + ExactSizeIterator + Clone {
        self.entries.iter().map(|lying| InRun { run: self, lying })
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<'a> InRun<'a> {
    /// Where it lies in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.lying.seq
    }

    /// Its canonical block.
    #[must_use]
    pub fn block(&self) -> &'a [u8] {
        &self.run.bytes[self.lying.block.clone()]
    }

    /// One per section; `None` where it is not here.
    pub fn payloads(&self) -> impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone + use<'a> {
        let run = self.run;
        let part = |part: &'a Option<Range<usize>>| part.clone().map(|part| &run.bytes[part]);
        run.payloads[self.lying.payloads.clone()].iter().map(part)
    }

    /// The first bytes of its id, as the edges have them.
    #[must_use]
    pub fn short(&self) -> ShortId {
        self.lying.short
    }

    /// The positions of its parents in the order of its header, as the edges have them.
    #[must_use]
    pub fn parents(&self) -> &'a [Seq] {
        &self.run.parents[self.lying.parents.clone()]
    }

    /// Bytes of block and payloads.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.lying.block.len() + self.payloads().flatten().map(<[u8]>::len).sum::<usize>()
    }
}

/// An entry as walks see it that tell entries by their short ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The first bytes of its id.
    pub short: ShortId,
    /// The positions of its parents.
    pub parents: Vec<Seq>,
}

/// One consistent view of one tree in one replica: what a session of the protocol reads.
pub trait Replica: Dag {
    /// The life of the store that positions belong to.
    fn epoch(&self) -> Epoch;
    /// One past the last position.
    fn end(&self) -> Seq;
    /// The entries without children, sorted by id.
    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError>;
    /// Where these entries lie, if they are held.
    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError>;
    /// Where the entries with these short ids lie; nothing when none is held or more than one.
    fn find_prefixes(&self, prefixes: &[ShortId]) -> Result<Vec<Option<Seq>>, ReadError>;
    /// Short ids and parents of up to `count` entries beginning at `from`, in ascending order of position.
    fn named(&self, from: Seq, count: usize) -> Result<Vec<Named>, ReadError>;
    /// The sketch of everything that is held; nothing when it is not kept here.
    fn sketch(&self) -> Result<Option<Sketch>, ReadError>;
    /// The entries of a range of positions, ascending, until `bytes_max` is reached; at least one if there is any.
    fn log(&self, range: Range<Seq>, bytes_max: usize) -> Result<Vec<Logged>, ReadError>;
    /// The same in one piece of memory, with what the edges say of them.
    fn run(&self, range: Range<Seq>, bytes_max: usize) -> Result<Run, ReadError> {
        Run::of(&self.log(range, bytes_max)?, self)
    }
    /// How many payloads are not here and are wanted.
    fn missing(&self) -> u64 {
        0
    }
    /// How often payloads came later than their entries: another number than before means that there are more here.
    fn filled(&self) -> u64 {
        0
    }
    /// Up to `count` of them, ascending, beginning with a position and a section of its entry.
    fn lacking(&self, _from: (Seq, usize), _count: usize) -> Result<Vec<(Seq, usize)>, ReadError> {
        Ok(Vec::new())
    }
}

/// Names a down-set exactly: BLAKE3 of its sorted tips.
#[must_use]
pub fn tips_hash<'a>(sorted_tips: impl IntoIterator<Item = &'a EntryId>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("eid 2026 sorted tips");
    for id in sorted_tips {
        hasher.update(&id.0);
    }
    *hasher.finalize().as_bytes()
}

/// A set of positions as sorted, disjoint ranges: differences are mostly runs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SeqSet {
    ranges: Vec<Range<u64>>,
    len: u64,
}

impl SeqSet {
    /// How many positions it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All positions of a range.
    #[must_use]
    pub fn range(range: Range<Seq>) -> Self {
        let (from, to) = (range.start.0, range.end.0);
        if from >= to {
            Self::default()
        } else {
            Self { ranges: std::iter::once(from..to).collect(), len: to - from }
        }
    }

    /// These positions, in any order.
    #[must_use]
    pub fn of(mut seqs: Vec<Seq>) -> Self {
        seqs.sort_unstable();
        seqs.dedup();
        Self::from_descending(seqs.into_iter().rev().map(|seq| seq.0))
    }

    /// Whether it holds this position.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        let after = self.ranges.partition_point(|range| range.start <= seq.0);
        after > 0 && self.ranges[after - 1].contains(&seq.0)
    }

    /// The first run that begins at or after `from`, cut to what is left of it.
    #[must_use]
    pub fn next_run(&self, from: Seq) -> Option<Range<Seq>> {
        let index = self.ranges.partition_point(|range| range.end <= from.0);
        self.ranges.get(index).map(|range| Seq(range.start.max(from.0))..Seq(range.end))
    }

    /// All positions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Seq> + '_ {
        self.ranges.iter().flat_map(|range| range.clone().map(Seq))
    }

    /// How many of its positions are below `seq`.
    #[must_use]
    pub fn count_below(&self, seq: Seq) -> u64 {
        self.ranges.iter().take_while(|r| r.start < seq.0).map(|r| r.end.min(seq.0) - r.start).sum()
    }

    /// Builds the set from positions that descend.
    fn from_descending(descending: impl IntoIterator<Item = u64>) -> Self {
        let mut set = Self::default();
        for seq in descending {
            match set.ranges.last_mut() {
                Some(last) if last.start == seq + 1 => last.start = seq,
                _ => set.ranges.push(seq..seq + 1),
            }
            set.len += 1;
        }
        set.ranges.reverse();
        set
    }
}

impl fmt::Debug for SeqSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.ranges).finish()
    }
}

/// Reads what is known of entries downwards in chunks: a walk that goes through runs of positions reads each run once.
#[derive(Debug)]
struct Chunks<T> {
    from: u64,
    read: Vec<T>,
    len: u64,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { from: 0, read: Vec::new(), len: 0 }
    }
}

/// Most entries that a walk reads at once.
const CHUNK_MAX: u64 = 512;

impl<T> Chunks<T> {
    fn at(
        &mut self,
        seq: u64,
        read: impl FnOnce(Seq, usize) -> Result<Vec<T>, ReadError>,
    ) -> Result<Option<&T>, ReadError> {
        let held = self.from..self.from + self.read.len() as u64;
        if !held.contains(&seq) {
            // Below the chunk at hand: likely a run, so read more; far away: a jump, so read little.
            let near = self.from.saturating_sub(self.len) <= seq && seq < self.from;
            self.len = if near { (self.len * 2).min(CHUNK_MAX) } else { 8 };
            self.from = (seq + 1).saturating_sub(self.len);
            let count = usize::try_from(seq + 1 - self.from).unwrap_or(usize::MAX);
            self.read = read(Seq(self.from), count)?;
        }
        Ok(usize::try_from(seq - self.from).ok().and_then(|index| self.read.get(index)))
    }
}

type EdgeCache = Chunks<Vec<Seq>>;

impl EdgeCache {
    fn parents(&mut self, dag: &(impl Dag + ?Sized), seq: u64) -> Result<&[Seq], ReadError> {
        Ok(self.at(seq, |from, count| dag.parents(from, count))?.map_or(&[], Vec::as_slice))
    }
}

/// Which side of a difference an entry was reached from. What `have` reaches is never wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Colour {
    Want,
    Have,
}

/// A walk that finds `ancestors(want) - ancestors(have)`, both inclusive, and can stop and go on at any step.
///
/// It ends as soon as nothing is left that only `want` reaches. Work is proportional to the positions between what
/// differs, not to the history.
#[derive(Debug, Default)]
pub struct Difference {
    heap: BinaryHeap<(u64, Colour)>,
    wanted_in_heap: usize,
    found: Vec<u64>,
    visited: u64,
    floor: u64,
    /// What `have` begins with: no walk down to it is needed to know it.
    known: BTreeSet<u64>,
    cache: EdgeCache,
}

impl Difference {
    /// Starts at these entries.
    #[must_use]
    pub fn new(want: impl IntoIterator<Item = Seq>, have: impl IntoIterator<Item = Seq>) -> Self {
        Self::above(Seq(0), want, have)
    }

    /// As [`Self::new`], but looks at nothing below `floor`: everything there is common.
    #[must_use]
    pub fn above(
        floor: Seq,
        want: impl IntoIterator<Item = Seq>,
        have: impl IntoIterator<Item = Seq>,
    ) -> Self {
        let mut walk = Self { floor: floor.0, ..Self::default() };
        for seq in have {
            walk.known.insert(seq.0);
            walk.push(seq.0, Colour::Have);
        }
        for seq in want {
            walk.push(seq.0, Colour::Want);
        }
        walk
    }

    fn push(&mut self, seq: u64, colour: Colour) {
        if seq < self.floor || colour == Colour::Want && self.known.contains(&seq) {
            return;
        }
        self.wanted_in_heap += usize::from(colour == Colour::Want);
        self.heap.push((seq, colour));
    }

    /// Takes the highest position with the strongest colour it was reached by.
    fn pop(&mut self) -> Option<(u64, Colour)> {
        let (seq, colour) = self.heap.pop()?;
        self.wanted_in_heap -= usize::from(colour == Colour::Want);
        while self.heap.peek().is_some_and(|(other, _)| *other == seq) {
            let Some((_, other)) = self.heap.pop() else { break };
            self.wanted_in_heap -= usize::from(other == Colour::Want);
        }
        Some((seq, colour))
    }

    /// Visits at most `budget` entries. Gives whether the walk is complete.
    pub fn step(&mut self, dag: &(impl Dag + ?Sized), budget: u64) -> Result<bool, ReadError> {
        for _ in 0..budget {
            if self.wanted_in_heap == 0 {
                return Ok(true);
            }
            let Some((seq, colour)) = self.pop() else { return Ok(true) };
            self.visited += 1;
            if colour == Colour::Want {
                self.found.push(seq);
            }
            let mut cache = std::mem::take(&mut self.cache);
            for parent in cache.parents(dag, seq)? {
                self.push(parent.0, colour);
            }
            self.cache = cache;
        }
        Ok(self.wanted_in_heap == 0)
    }

    /// How many entries were visited.
    #[must_use]
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> SeqSet {
        SeqSet::from_descending(self.found)
    }
}

/// `ancestors(want) - ancestors(have)`, both inclusive.
pub fn difference(dag: &(impl Dag + ?Sized), want: &[Seq], have: &[Seq]) -> Result<SeqSet, ReadError> {
    let mut walk = Difference::new(want.iter().copied(), have.iter().copied());
    while !walk.step(dag, u64::MAX)? {}
    Ok(walk.finish())
}

/// Everything that these entries descend from, and they themselves.
pub fn ancestors(dag: &(impl Dag + ?Sized), of: &[Seq]) -> Result<SeqSet, ReadError> {
    difference(dag, of, &[])
}

/// Whether `ancestor` is `descendant` or one of its ancestors.
pub fn is_ancestor(dag: &(impl Dag + ?Sized), ancestor: Seq, descendant: Seq) -> Result<bool, ReadError> {
    if ancestor > descendant {
        return Ok(false);
    }
    let mut seen = BTreeSet::new();
    let mut open = BinaryHeap::from([descendant]);
    let mut cache = EdgeCache::default();
    while let Some(seq) = open.pop() {
        if seq == ancestor {
            return Ok(true);
        }
        seen.retain(|other: &Seq| *other < seq);
        for parent in cache.parents(dag, seq.0)? {
            if *parent >= ancestor && seen.insert(*parent) {
                open.push(*parent);
            }
        }
    }
    Ok(false)
}

/// Reduces a set of entries to those that no other of them descends from.
pub fn heads(dag: &(impl Dag + ?Sized), of: &[Seq]) -> Result<Vec<Seq>, ReadError> {
    let set: BTreeSet<u64> = of.iter().map(|seq| seq.0).collect();
    let Some(lowest) = set.first().copied() else { return Ok(Vec::new()) };
    let mut heads = Vec::new();
    let mut cache = EdgeCache::default();
    // `true`: reached from another one of the set.
    let mut open: BinaryHeap<(u64, bool)> = set.iter().map(|seq| (*seq, false)).collect();
    while let Some((seq, below)) = open.pop() {
        while open.peek().is_some_and(|(other, _)| *other == seq) {
            open.pop();
        }
        if !below {
            heads.push(Seq(seq));
        }
        for parent in cache.parents(dag, seq)?.iter().filter(|parent| parent.0 >= lowest) {
            open.push((parent.0, true));
        }
    }
    heads.reverse();
    Ok(heads)
}

/// A walk down from this replica's tips that asks the other side, window by window, what it holds.
///
/// Uses only ids that are compared in full, no hint and no memory: it finds the exact difference whatever was
/// poisoned or lost, at the cost of naming what differs (rung f of the ladder).
#[derive(Debug, Default)]
pub struct Probe {
    walk: Difference,
    asked: Vec<(u64, Vec<Seq>)>,
}

impl Probe {
    /// Starts at this replica's tips; `have` are entries that the other side is known to hold.
    #[must_use]
    pub fn new(tips: impl IntoIterator<Item = Seq>, have: impl IntoIterator<Item = Seq>) -> Self {
        Self { walk: Difference::new(tips, have), asked: Vec::new() }
    }

    /// The next entries to ask about, at most `count`, descending. Empty when the difference is complete.
    pub fn window(&mut self, dag: &(impl Dag + ?Sized), count: usize) -> Result<Vec<Seq>, ReadError> {
        self.asked.clear();
        while self.asked.len() < count && self.walk.wanted_in_heap > 0 {
            let Some((seq, colour)) = self.walk.pop() else { break };
            self.walk.visited += 1;
            let parents = self.walk.cache.parents(dag, seq)?.to_vec();
            for parent in &parents {
                self.walk.push(parent.0, colour);
            }
            if colour == Colour::Want {
                self.asked.push((seq, parents));
            }
        }
        Ok(self.asked.iter().map(|(seq, _)| Seq(*seq)).collect())
    }

    /// Takes the answer: for each entry of the last window whether the other side holds it. Missing answers count
    /// as no.
    pub fn answer(&mut self, held: &[bool]) {
        for (index, (seq, parents)) in std::mem::take(&mut self.asked).into_iter().enumerate() {
            if held.get(index).copied().unwrap_or(false) {
                for parent in parents {
                    self.walk.push(parent.0, Colour::Have);
                }
            } else {
                self.walk.found.push(seq);
            }
        }
    }

    /// How many entries were visited.
    #[must_use]
    pub fn visited(&self) -> u64 {
        self.walk.visited
    }

    /// What the other side lacks.
    #[must_use]
    pub fn finish(self) -> SeqSet {
        self.walk.finish()
    }
}

/// The order that puts parents first: indices into `items` (each an id with its parents), ties in the given order.
/// Parents outside `items` do not matter. Items on a cycle, which hashes rule out, are left out.
#[must_use]
pub fn parents_first(items: &[(EntryId, &[EntryId])]) -> Vec<usize> {
    let index: BTreeMap<EntryId, usize> = items.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    let mut waiting = vec![0usize; items.len()];
    for (i, (_, parents)) in items.iter().enumerate() {
        for parent in parents.iter().filter_map(|parent| index.get(parent)) {
            children[*parent].push(i);
            waiting[i] += 1;
        }
    }
    let mut ready: BTreeSet<usize> = (0..items.len()).filter(|i| waiting[*i] == 0).collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for child in &children[i] {
            waiting[*child] -= 1;
            if waiting[*child] == 0 {
                ready.insert(*child);
            }
        }
    }
    order
}

/// The tips after an entry was added: its parents are tips no more, and it is one.
pub fn add_to_tips(tips: &mut BTreeSet<EntryId>, id: EntryId, parents: &[EntryId]) {
    for parent in parents {
        tips.remove(parent);
    }
    tips.insert(id);
}

#[cfg(test)]
mod tests;
