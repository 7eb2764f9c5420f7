//! Height, hybrid logical time, and the stamps that order operations.

use std::fmt;

use crate::id::EntryId;

/// The longest path from the root, in edges. Recomputed from the parents, never trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Height(pub u64);

impl Height {
    /// The height of an entry whose highest parent has this one; `None` past 2^64 - 1.
    #[must_use]
    pub fn child(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// A hybrid logical clock stamp: 48 bits of milliseconds since 1970, then a counter of 16 bits.
///
/// Never before a parent's. It orders concurrent writes for people and never decides authority.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The first stamp of a millisecond; later than year 10,889 saturates.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(ms.min((1 << 48) - 1) << 16)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The stamp of a local write: `max(now, greatest held + 1)`, saturating, so that a hostile far future cannot
    /// make children impossible; order then falls to height.
    #[must_use]
    pub fn next(now_ms: u64, greatest_held: Self) -> Self {
        Self::from_ms(now_ms).max(Self(greatest_held.0.saturating_add(1)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Time({}ms+{})", self.ms(), self.0 & 0xffff)
    }
}

/// Where an operation stands among all others: a linear extension of causality.
///
/// A child's time is not before its parents' and its height is greater, so a later operation always has the greater
/// stamp; concurrent ones are ordered by time, then height, then id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Time of the entry.
    pub time: Time,
    /// Height of the entry.
    pub height: Height,
    /// Id of the entry: decides only ties.
    pub id: EntryId,
    /// Index of the operation in its payload. Two sections of one entry never write the same store.
    pub op: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_follows_the_clock_and_never_goes_back() {
        assert_eq!(Time::next(1000, Time::default()), Time::from_ms(1000));
        assert_eq!(Time::next(1000, Time::from_ms(2000)), Time(Time::from_ms(2000).0 + 1));
        assert_eq!(Time::next(1000, Time(u64::MAX)), Time(u64::MAX));
        assert_eq!(Time::from_ms(u64::MAX).ms(), (1 << 48) - 1);
    }
}
