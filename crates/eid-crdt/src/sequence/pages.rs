//! Where a sequence is kept: small pages, loaded when they are needed.

use std::fmt::Debug;
use std::ops::Deref;

use super::limits::{LEAF_BYTES_MAX, PAGE_ITEMS_MAX, RECORD_BYTES};
use super::record::{Measure, Record};
use super::{Name, Run, Span, Standing};

/// Holds the pages of one sequence.
///
/// # Contract
/// What was written is read back. Leaves and inner pages are numbered from 0 in the order in which they are added; leaf
/// 0 is there from the start, without records, and nothing is ever removed.
pub trait Pages {
    /// The local number of an operation.
    type Entry: Copy + Ord + Debug;
    /// Where an operation stands among all others.
    type Stamp: Clone + Debug;
    /// What the sequence holds.
    type Run: Run;
    /// Why a page cannot be loaded.
    type Error;
    /// A leaf as it is read.
    type Leaf<'a>: Deref<Target = Leaf<Self::Entry, Self::Run>>
    where
        Self: 'a;
    /// An inner page as it is read.
    type Inner<'a>: Deref<Target = Inner>
    where
        Self: 'a;

    /// What is kept once.
    fn head(&self) -> &Head<Self::Stamp>;
    /// Changes what is kept once.
    fn head_mut(&mut self) -> &mut Head<Self::Stamp>;
    /// Reads a leaf.
    fn leaf(&self, number: u32) -> Result<Self::Leaf<'_>, Self::Error>;
    /// Changes a leaf.
    fn leaf_mut(&mut self, number: u32) -> Result<&mut Leaf<Self::Entry, Self::Run>, Self::Error>;
    /// Adds a leaf and gives its number.
    fn add_leaf(&mut self, leaf: Leaf<Self::Entry, Self::Run>) -> Result<u32, Self::Error>;
    /// Reads an inner page.
    fn inner(&self, number: u32) -> Result<Self::Inner<'_>, Self::Error>;
    /// Changes an inner page.
    fn inner_mut(&mut self, number: u32) -> Result<&mut Inner, Self::Error>;
    /// Adds an inner page and gives its number.
    fn add_inner(&mut self, inner: Inner) -> Result<u32, Self::Error>;
    /// What is known of an operation, if it is here.
    fn operation(&self, entry: Self::Entry) -> Result<Option<Operation<Self::Stamp>>, Self::Error>;
    /// Puts down what is known of an operation.
    fn set_operation(
        &mut self,
        entry: Self::Entry,
        operation: Operation<Self::Stamp>,
    ) -> Result<(), Self::Error>;
    /// Forgets an operation whose elements and deletes have another number.
    fn remove_operation(&mut self, entry: Self::Entry) -> Result<(), Self::Error>;
    /// What an operation deleted, in the order in which it was added.
    fn deletes(&self, entry: Self::Entry) -> Result<Vec<Span<Self::Entry>>, Self::Error>;
    /// Adds to what an operation deleted.
    fn add_delete(&mut self, entry: Self::Entry, span: Span<Self::Entry>) -> Result<(), Self::Error>;
    /// The leaf that an element is in. Asked only about elements that are here.
    fn leaf_of(&self, name: Name<Self::Entry>) -> Result<u32, Self::Error>;
    /// Puts down which leaf consecutive elements are in, whatever was known of them.
    fn assign(&mut self, span: Span<Self::Entry>, leaf: u32) -> Result<(), Self::Error>;
    /// Whether a stamp stands before another.
    fn precedes(&self, stamp: &Self::Stamp, other: &Self::Stamp) -> Result<bool, Self::Error>;
}

/// What is kept once for a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<S> {
    /// The page at the top: a leaf where there are no levels above the leaves.
    pub root: u32,
    /// How many levels of inner pages there are.
    pub levels: u32,
    /// How many elements are shown.
    pub shown: usize,
    /// Elements of operations below this stamp are hidden.
    pub floor: Option<S>,
    /// No element of an operation below this stamp is shown; none at all if there is nothing here.
    pub lowest: Option<S>,
}

/// What is known of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<S> {
    /// Where it stands.
    pub stamp: S,
    /// Whether it counts.
    pub standing: Standing,
    /// How many elements it put in.
    pub count: u32,
}

/// Consecutive records, in order.
#[derive(Debug, Clone)]
pub struct Leaf<E, R> {
    /// The inner page above, if there is any.
    pub above: Option<u32>,
    /// The leaf that follows in the sequence.
    pub after: Option<u32>,
    /// The records.
    pub records: Vec<Record<E, R>>,
    /// What the runs weigh together.
    pub weight: usize,
}

/// Pages one level below, in order, with what each of them measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// The inner page above, if there is any.
    pub above: Option<u32>,
    /// Leaves on the lowest level, inner pages on others.
    pub children: Vec<u32>,
    /// One for each child.
    pub measures: Vec<Measure>,
}

/// Where the elements of an operation are: which leaf from which offset on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pieces {
    starts: Vec<(u32, u32)>,
    end: u32,
}

impl<S> Default for Head<S> {
    fn default() -> Self {
        Self { root: 0, levels: 0, shown: 0, floor: None, lowest: None }
    }
}

impl<E, R> Default for Leaf<E, R> {
    fn default() -> Self {
        Self { above: None, after: None, records: Vec::new(), weight: 0 }
    }
}

impl<E: Copy, R: Run> Leaf<E, R> {
    /// A leaf of these records.
    #[must_use]
    pub fn new(above: Option<u32>, after: Option<u32>, records: Vec<Record<E, R>>) -> Self {
        let weight = records.iter().map(|record| record.run.weight()).sum();
        Self { above, after, records, weight }
    }

    pub(super) fn insert(&mut self, index: usize, record: Record<E, R>) {
        self.weight += record.run.weight();
        self.records.insert(index, record);
    }

    pub(super) fn measure(&self) -> Measure {
        Measure::sum(self.records.iter().map(|record| record.stretch.measure()))
    }

    pub(super) fn is_full(&self) -> bool {
        let count = self.records.len();
        count > PAGE_ITEMS_MAX || (count > 1 && self.weight + count * RECORD_BYTES > LEAF_BYTES_MAX)
    }

    /// Leaves about half of what it weighs and gives the rest.
    pub(super) fn split_off(&mut self) -> Vec<Record<E, R>> {
        let mut left = (self.weight + self.records.len() * RECORD_BYTES) / 2;
        let fits = |record: &&Record<E, R>| {
            let weight = record.run.weight() + RECORD_BYTES;
            left.checked_sub(weight).map(|rest| left = rest).is_some()
        };
        let at = self.records.iter().take_while(fits).count().clamp(1, self.records.len() - 1);
        let rest = self.records.split_off(at);
        self.weight -= rest.iter().map(|record| record.run.weight()).sum::<usize>();
        rest
    }
}

impl Inner {
    pub(super) fn slot(&self, child: u32) -> usize {
        self.children.iter().position(|held| *held == child).unwrap_or(0)
    }
}

impl Pieces {
    /// The leaf of an element, or nothing where none was put down.
    #[must_use]
    pub fn find(&self, offset: u32) -> Option<u32> {
        let after = self.starts.partition_point(|(start, _)| *start <= offset);
        self.starts[..after].last().filter(|_| offset < self.end).map(|(_, leaf)| *leaf)
    }

    /// Puts down the leaf of the elements from `first` up to `end`.
    pub fn assign(&mut self, first: u32, end: u32, leaf: u32) {
        let beyond = self.find(end);
        let from = self.starts.partition_point(|(start, _)| *start < first);
        let to = self.starts.partition_point(|(start, _)| *start <= end);
        let goes_on = self.starts[..from].last().is_some_and(|(_, held)| *held == leaf);
        let begin = (!goes_on).then_some((first, leaf));
        let rest = beyond.filter(|held| *held != leaf).map(|held| (end, held));
        self.starts.splice(from..to, begin.into_iter().chain(rest));
        self.end = self.end.max(end);
    }

    /// The offset from which each leaf holds the elements, ascending.
    #[must_use]
    pub fn starts(&self) -> &[(u32, u32)] {
        &self.starts
    }

    /// Pieces that were put down before: ascending, up to `end`.
    #[must_use]
    pub fn from_parts(starts: Vec<(u32, u32)>, end: u32) -> Self {
        Self { starts, end }
    }

    /// The offset after the last element.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_those_of_a_plain_array(
            steps in prop::collection::vec((0u32..30, 1u32..8, 0u32..4), 0..40),
        ) {
            let (mut pieces, mut plain) = (Pieces::default(), Vec::new());
            for (first, count, leaf) in steps {
                // Elements come one after the other; what is there can move anywhere.
                let first = first.min(u32::try_from(plain.len()).unwrap_or(0));
                let end = (first + count) as usize;
                plain.resize(plain.len().max(end), leaf);
                plain[first as usize..end].fill(leaf);
                pieces.assign(first, first + count, leaf);
                for offset in 0..40u32 {
                    prop_assert_eq!(pieces.find(offset), plain.get(offset as usize).copied());
                }
                let leaves: Vec<u32> = pieces.starts().iter().map(|(_, leaf)| *leaf).collect();
                prop_assert!(leaves.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", pieces);
            }
        }
    }
}
