//! A counter keeps its increments by stamp, so that one that comes late, or twice, counts once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

use crate::crdt::Crdt;

/// Increments by stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter<S>(BTreeMap<S, i64>);

impl<S> Default for Counter<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<S: Ord> Counter<S> {
    /// Adds an increment.
    pub fn add(&mut self, stamp: S, by: i64) {
        self.0.insert(stamp, by);
    }

    /// The sum of what was added with a stamp greater than `floor`: a set or delete hides what is older.
    #[must_use]
    pub fn sum_after(&self, floor: Option<&S>) -> i128 {
        let from = floor.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range((from, Bound::Unbounded)).map(|(_, by)| i128::from(*by)).sum()
    }
}

impl<S: Ord + Clone + Debug> Crdt for Counter<S> {
    type Stamp = S;
    type Op = i64;
    type View = i128;

    fn apply(&mut self, stamp: &S, op: &i64) {
        self.add(stamp.clone(), *op);
    }

    fn join(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(stamp, by)| (stamp.clone(), *by)));
    }

    fn view(&self) -> i128 {
        self.sum_after(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;

    crate::crdt_laws!(
        laws,
        Counter<u64>,
        ops = any::<i64>(),
        naive = |ops| ops.iter().map(|by| i128::from(*by)).sum()
    );

    #[test]
    fn what_is_not_newer_than_the_floor_is_hidden() {
        let mut counter = Counter::default();
        for stamp in 1..=4u64 {
            counter.add(stamp, 10);
        }
        assert_eq!(counter.sum_after(Some(&2)), 20);
        assert_eq!(counter.sum_after(Some(&4)), 0);
    }
}
