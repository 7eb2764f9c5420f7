//! Sketches: from the sketches of two sets of entries it can be told what one has and the other lacks, although neither
//! sketch grows with its set.
//!
//! A *stratum* is a sample of the set: those entries whose mixed short id ends in enough zero bits, all of them in stratum
//! 0, one in eight in stratum 1, and so on. Of each stratum a few [`Cells`] are kept, a prefix of the code word of a
//! rateless invertible Bloom lookup table (Yang, Gilad, Alizadeh: Practical Rateless Set Reconciliation, 2024): an entry is
//! in cell 0, and in cell `i` with probability `2 / (i + 2)`; a cell is the exclusive or of its entries. The exclusive or of
//! two sketches is the sketch of the difference, and [`Cells::peel`] reads it as long as the difference is not much larger
//! than two thirds of the number of cells. Counts are not kept: whoever peels an entry knows whether it holds it.
//!
//! A sketch is a hint. Entries can be ground so that they collide or meet in one stratum, and cells that a peer sends can
//! be anything; then nothing is read, or something wrong is, in bounded time.

use std::collections::BTreeSet;

use crate::id::{EntryId, TreeId};

/// The first eight bytes of an id.
pub type ShortId = [u8; 8];

/// How many strata there are: down to one entry in 4,096, which tells differences of hundred thousand entries.
pub const STRATA: usize = 5;
/// Each stratum holds one in `2^STRATUM_BITS` entries of the one before it.
pub const STRATUM_BITS: u32 = 3;
/// Most cells that are kept of the first stratum: they name every entry of a difference of about 180.
pub const FIRST_CELLS_MAX: usize = 256;
/// Most cells that are kept of the second: differences of about 1,800 entries of many writers, whose samples have to be
/// dense.
pub const SECOND_CELLS_MAX: usize = 320;
/// Most cells that are kept of each further stratum: differences of about 90 entries in the sample.
pub const CELLS_MAX: usize = 128;
/// Bytes of a cell: the exclusive or of the short ids, and of 16 bits that tell whether it is of a single one. Together
/// with the stratum and the cells that an entry must be in, they err once in thousands of readings.
pub const CELL_BYTES: usize = 10;

/// Mixes short ids differently in each tree: what was ground against one is nothing special in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(u64);

impl Salt {
    /// The salt of a tree.
    #[must_use]
    pub fn of(tree: &TreeId) -> Self {
        Self(u64::from_be_bytes(EntryId(tree.0).prefix()))
    }
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit of the value.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Steps of the sequence that SplitMix64 finalises.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// An entry as the cells see it.
#[derive(Debug, Clone, Copy)]
struct Item {
    short: u64,
    mixed: u64,
}

impl Item {
    fn new(salt: Salt, short: u64) -> Self {
        Self { short, mixed: mix((short ^ salt.0).wrapping_add(STEP)) }
    }

    /// The last stratum that it is in.
    fn last_stratum(self) -> usize {
        ((self.mixed.trailing_zeros() / STRATUM_BITS) as usize).min(STRATA - 1)
    }

    fn check(self) -> u16 {
        (mix(self.mixed.wrapping_add(STEP)) >> 48) as u16
    }

    /// The cells that it is in, below `len`, ascending.
    fn cells(self, len: usize) -> impl Iterator<Item = usize> {
        let mut state = self.mixed.rotate_left(32);
        std::iter::successors((len > 0).then_some(0u64), move |at| {
            state = state.wrapping_add(STEP);
            // It is in none of the cells after `at` up to `to` with probability `(at+1)(at+2) / ((to+1)(to+2))`. The next
            // one is the first at which that falls below a number drawn from (0, 1].
            let drawn = (mix(state) >> 32) + 1;
            let bound = (((at + 1) * (at + 2)) << 32) / drawn;
            let next = ((4 * bound + 1).isqrt() - 3) / 2 + 1;
            (next < len as u64).then_some(next)
        })
        .map(|at| at as usize)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cell {
    sum: u64,
    check: u16,
}

impl Cell {
    fn toggle(&mut self, sum: u64, check: u16) {
        self.sum ^= sum;
        self.check ^= check;
    }
}

/// The first cells of one stratum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cells(Vec<Cell>);

impl Cells {
    fn empty(len: usize) -> Self {
        Self(vec![Cell::default(); len])
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn toggle(&mut self, item: Item) {
        let check = item.check();
        for at in item.cells(self.0.len()) {
            self.0[at].toggle(item.short, check);
        }
    }

    /// The first `len` cells, or as many as there are, as bytes.
    #[must_use]
    pub fn to_bytes(&self, len: usize) -> Vec<u8> {
        let cells = &self.0[..len.min(self.0.len())];
        let mut out = Vec::with_capacity(cells.len() * CELL_BYTES);
        for cell in cells {
            out.extend_from_slice(&cell.sum.to_be_bytes());
            out.extend_from_slice(&cell.check.to_be_bytes());
        }
        out
    }

    /// Cells from bytes; nothing when those are more than are ever kept, or not of whole cells.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(CELL_BYTES) || bytes.len() > SECOND_CELLS_MAX * CELL_BYTES {
            return None;
        }
        let cell = |bytes: &[u8]| {
            let (sum, check) = bytes.split_first_chunk::<8>()?;
            Some(Cell { sum: u64::from_be_bytes(*sum), check: u16::from_be_bytes(check.try_into().ok()?) })
        };
        bytes.chunks_exact(CELL_BYTES).map(cell).collect::<Option<Vec<Cell>>>().map(Self)
    }

    /// The cells of what is in one set and not in the other: as many as both have.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let both = self.0.iter().zip(&other.0);
        let cell = |(a, b): (&Cell, &Cell)| Cell { sum: a.sum ^ b.sum, check: a.check ^ b.check };
        Self(both.map(cell).collect())
    }

    /// Reads the entries that these cells are of; nothing when they do not tell.
    ///
    /// Whatever the cells are, no more entries are read than there are cells, and each costs as many steps as it has cells.
    #[must_use]
    pub fn peel(mut self, salt: Salt, stratum: usize) -> Option<BTreeSet<ShortId>> {
        let mut read = BTreeSet::new();
        let mut open: Vec<usize> = (0..self.0.len()).rev().collect();
        while let Some(at) = open.pop() {
            let cell = self.0[at];
            if cell == Cell::default() {
                continue;
            }
            let item = Item::new(salt, cell.sum);
            let single = item.check() == cell.check
                && item.last_stratum() >= stratum
                && item.cells(self.0.len()).any(|other| other == at);
            if !single {
                continue;
            }
            // An honest difference has no entry twice, and no more of them than cells.
            if read.len() == self.0.len() || !read.insert(item.short.to_be_bytes()) {
                return None;
            }
            self.toggle(item);
            open.extend(item.cells(self.0.len()));
        }
        self.0.iter().all(|cell| *cell == Cell::default()).then_some(read)
    }
}

/// The cells of all strata of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    salt: Salt,
    strata: [Cells; STRATA],
}

impl Sketch {
    /// The sketch of no entries, with as many cells as are ever kept.
    #[must_use]
    pub fn new(salt: Salt) -> Self {
        let strata = std::array::from_fn(|stratum| Cells::empty(cells_max(stratum)));
        Self { salt, strata }
    }

    /// The salt of its tree.
    #[must_use]
    pub fn salt(&self) -> Salt {
        self.salt
    }

    /// Adds an entry that is not in it, or takes out one that is.
    pub fn toggle(&mut self, short: ShortId) {
        let item = Item::new(self.salt, u64::from_be_bytes(short));
        for cells in &mut self.strata[..=item.last_stratum()] {
            cells.toggle(item);
        }
    }

    /// The cells of one stratum; none of a stratum that there is not.
    #[must_use]
    pub fn stratum(&self, stratum: usize) -> &Cells {
        const NONE: &Cells = &Cells(Vec::new());
        self.strata.get(stratum).unwrap_or(NONE)
    }

    /// All cells as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.strata.iter().flat_map(|cells| cells.to_bytes(usize::MAX)).collect()
    }

    /// A sketch from the bytes of [`Self::to_bytes`], and nothing from others.
    #[must_use]
    pub fn from_bytes(salt: Salt, mut bytes: &[u8]) -> Option<Self> {
        let mut sketch = Self::new(salt);
        for (stratum, cells) in sketch.strata.iter_mut().enumerate() {
            let (first, rest) = bytes.split_at_checked(cells_max(stratum) * CELL_BYTES)?;
            *cells = Cells::from_bytes(first)?;
            bytes = rest;
        }
        bytes.is_empty().then_some(sketch)
    }
}

/// Whether an entry is in the sample of a stratum.
#[must_use]
pub fn is_sampled(salt: Salt, short: ShortId, stratum: usize) -> bool {
    Item::new(salt, u64::from_be_bytes(short)).last_stratum() >= stratum
}

/// Most cells that are kept of a stratum.
#[must_use]
pub fn cells_max(stratum: usize) -> usize {
    match stratum {
        0 => FIRST_CELLS_MAX,
        1 => SECOND_CELLS_MAX,
        _ => CELLS_MAX,
    }
}

#[cfg(test)]
mod tests;
