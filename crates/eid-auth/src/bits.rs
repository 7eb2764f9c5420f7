//! Sets of small numbers that share what they have in common, so that the past of every settings entry can be kept.
//!
//! A set is a list of chunks behind reference counts. The past of an entry is nearly the past of its parent, so a
//! chunk is copied only where the two differ, and comparing two sets skips the chunks that they share.

use std::fmt;
use std::sync::Arc;

const WORDS: usize = 32;
const CHUNK_BITS: u32 = 64 * WORDS as u32;

type Chunk = [u64; WORDS];

static NOTHING: Chunk = [0; WORDS];

/// A persistent set of numbers.
#[derive(Clone, Default)]
pub(crate) struct Bits {
    chunks: Arc<Vec<Option<Arc<Chunk>>>>,
    len: u32,
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn place(number: u32) -> (usize, usize, u64) {
    let within = number % CHUNK_BITS;
    ((number / CHUNK_BITS) as usize, (within / 64) as usize, 1 << (within % 64))
}

impl Bits {
    fn chunk(&self, at: usize) -> Option<&Arc<Chunk>> {
        self.chunks.get(at).and_then(Option::as_ref)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        let (at, word, bit) = place(number);
        self.chunk(at).is_some_and(|chunk| chunk[word] & bit != 0)
    }

    /// Puts a number in or takes it out.
    pub(crate) fn put(&mut self, number: u32, inside: bool) {
        if self.contains(number) == inside {
            return;
        }
        let (at, word, bit) = place(number);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.len() <= at {
            chunks.resize(at + 1, None);
        }
        let chunk = Arc::make_mut(chunks[at].get_or_insert_with(|| Arc::new(NOTHING)));
        chunk[word] ^= bit;
        self.len = if inside { self.len + 1 } else { self.len - 1 };
    }

    /// Whether two sets are known to be the same without a look at their numbers.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks) || self.len == 0 && other.len == 0
    }

    pub(crate) fn with(&self, number: u32) -> Self {
        let mut set = self.clone();
        set.put(number, true);
        set
    }

    /// Takes in all of another set.
    pub(crate) fn unite(&mut self, other: &Self) {
        if Arc::ptr_eq(&self.chunks, &other.chunks) || other.is_empty() {
            return;
        }
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.len() < other.chunks.len() {
            chunks.resize(other.chunks.len(), None);
        }
        for (mine, theirs) in chunks.iter_mut().zip(other.chunks.iter()) {
            let Some(theirs) = theirs else { continue };
            let Some(held) = mine else {
                self.len += theirs.iter().map(|word| word.count_ones()).sum::<u32>();
                *mine = Some(Arc::clone(theirs));
                continue;
            };
            if Arc::ptr_eq(held, theirs) {
                continue;
            }
            let mut added = 0;
            let mut union = **held;
            for (word, more) in union.iter_mut().zip(theirs.iter()) {
                added += (more & !*word).count_ones();
                *word |= more;
            }
            if added > 0 {
                self.len += added;
                *held = if union == **theirs { Arc::clone(theirs) } else { Arc::new(union) };
            }
        }
    }

    /// The numbers that `combine` leaves of two sets, rising. Chunks that both share are taken to leave nothing.
    fn combined<'a>(
        &'a self,
        other: &'a Self,
        combine: impl Fn(u64, u64) -> u64 + Copy + 'a,
    ) -> impl Iterator<Item = u32> + 'a {
        let same = Arc::ptr_eq(&self.chunks, &other.chunks);
        let count = if same { 0 } else { self.chunks.len().max(other.chunks.len()) };
        (0..count).flat_map(move |at| {
            let (mine, theirs) = (self.chunk(at), other.chunk(at));
            let shared = match (mine, theirs) {
                (None, None) => true,
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => false,
            };
            let (mine, theirs) =
                (mine.map_or(&NOTHING, |chunk| &**chunk), theirs.map_or(&NOTHING, |chunk| &**chunk));
            let words = if shared { 0 } else { WORDS };
            (0..words).flat_map(move |word| {
                let base = at as u32 * CHUNK_BITS + word as u32 * 64;
                Ones(combine(mine[word], theirs[word])).map(move |bit| base + bit)
            })
        })
    }

    /// What is in this set and not in the other, rising.
    pub(crate) fn minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        self.combined(other, |mine, theirs| mine & !theirs)
    }

    /// What is in one of the two sets only, rising.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        self.combined(other, |mine, theirs| mine ^ theirs)
    }

    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.len <= other.len && self.minus(other).next().is_none()
    }

    /// The numbers, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.chunks.len()).flat_map(move |at| {
            let chunk = self.chunk(at).map_or(&NOTHING, |chunk| &**chunk);
            (0..WORDS).flat_map(move |word| {
                let base = at as u32 * CHUNK_BITS + word as u32 * 64;
                Ones(chunk[word]).map(move |bit| base + bit)
            })
        })
    }
}

impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differing(other).next().is_none()
    }
}

/// The places of the ones in a word, rising.
struct Ones(u64);

impl Iterator for Ones {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Numbers that a multiplicative generator makes: spread over several chunks.
    fn numbers(seed: u32, count: usize) -> Vec<u32> {
        let next = |n: &u32| Some(n.wrapping_mul(747_796_405).wrapping_add(2_891_336_453));
        std::iter::successors(Some(seed), next).map(|n| (n >> 16) % 9_000).take(count).collect()
    }

    /// All that is asked of two sets, against plain ones.
    fn compare(numbers_a: &[u32], numbers_b: &[u32], removed: &[u32], b_is_copied: bool) {
        let (mut a, mut plain_a) = (Bits::default(), BTreeSet::new());
        for n in numbers_a {
            a.put(*n, true);
            plain_a.insert(*n);
        }
        let (mut b, mut plain_b) =
            if b_is_copied { (a.clone(), plain_a.clone()) } else { (Bits::default(), BTreeSet::new()) };
        for n in numbers_b {
            b.put(*n, true);
            plain_b.insert(*n);
        }
        for n in removed {
            b.put(*n, false);
            plain_b.remove(n);
        }
        assert!(a.iter().eq(plain_a.iter().copied()));
        assert!(b.iter().eq(plain_b.iter().copied()));
        assert_eq!((a.len() as usize, b.len() as usize), (plain_a.len(), plain_b.len()));
        assert!(a.minus(&b).eq(plain_a.difference(&plain_b).copied()));
        assert!(a.differing(&b).eq(plain_a.symmetric_difference(&plain_b).copied()));
        assert_eq!(a.is_within(&b), plain_a.is_subset(&plain_b));
        assert_eq!(a == b, plain_a == plain_b);
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut both = one.clone();
            both.unite(other);
            assert!(both.iter().eq(plain_a.union(&plain_b).copied()));
            assert_eq!(both.len() as usize, plain_a.union(&plain_b).count());
            assert!(a.is_within(&both) && b.is_within(&both));
        }
    }

    #[test]
    fn sets_agree_with_plain_ones() {
        let far: Vec<u32> = numbers(3, 50).into_iter().map(|n| n + 20_000).collect();
        for copied in [true, false] {
            compare(&numbers(1, 700), &numbers(2, 300), &numbers(2, 100), copied);
            compare(&numbers(1, 300), &[], &[], copied);
            compare(&[], &numbers(1, 300), &[], copied);
            compare(&numbers(1, 5), &far, &[], copied);
            compare(&far, &numbers(1, 5), &numbers(1, 2), copied);
            compare(&far, &far, &far, copied);
        }
    }
}
