//! Runs of elements: what a sequence is made of.

use std::fmt::Debug;

/// Consecutive elements that can be cut and put together.
///
/// # Contract
/// Cutting at `at` leaves `at` elements and gives the rest; appending that rest gives the run from before.
pub trait Run: Clone + Debug {
    /// How many elements there are.
    fn count(&self) -> usize;
    /// Leaves the first `at` elements and gives the rest. `at` is at most [`Run::count`].
    #[must_use]
    fn split_off(&mut self, at: usize) -> Self;
    /// Adds the elements of another run at the end.
    fn append(&mut self, rest: Self);
    /// About how many bytes it takes when it is stored.
    fn weight(&self) -> usize;
}

/// An element of a list.
pub trait Item: Clone + Debug {
    /// About how many bytes it takes when it is stored.
    fn weight(&self) -> usize;
}

/// Elements are Unicode scalar values.
impl Run for String {
    fn count(&self) -> usize {
        self.chars().count()
    }

    fn split_off(&mut self, at: usize) -> Self {
        let at = self.char_indices().nth(at).map_or(self.len(), |(at, _)| at);
        Self::split_off(self, at)
    }

    fn append(&mut self, rest: Self) {
        self.push_str(&rest);
    }

    fn weight(&self) -> usize {
        self.len()
    }
}

/// Elements are the items of a list.
impl<V: Item> Run for Vec<V> {
    fn count(&self) -> usize {
        self.len()
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self::split_off(self, at)
    }

    fn append(&mut self, rest: Self) {
        self.extend(rest);
    }

    fn weight(&self) -> usize {
        self.iter().map(Item::weight).sum()
    }
}
