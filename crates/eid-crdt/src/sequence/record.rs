//! What leaves hold: runs with what is needed to put others among them.

use std::fmt::Debug;

use super::limits::{RECORD_BYTES_MAX, RECORD_ELEMENTS_MAX};
use super::{Name, Run, Span};

/// Consecutive elements of one operation, each hanging after the one before, that are shown or hidden together.
#[derive(Debug, Clone)]
pub struct Record<E, R> {
    /// All but the elements themselves.
    pub stretch: Stretch<E>,
    /// The elements, also where they are hidden: what hid them can become void.
    pub run: R,
}

/// A record without its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<E> {
    /// The name of the first element.
    pub first: Name<E>,
    /// How many there are.
    pub count: u32,
    /// How many elements are above the first one in the tree, and one for the start.
    pub depth: u32,
    /// The depth of the topmost element whose part of the tree begins with the first element; its own if there is none.
    pub low: u32,
    /// How many operations that stand have deleted it.
    pub deleted: u32,
    /// Why else it is hidden, and what hangs there.
    pub marks: Marks,
}

/// Facts of a record that are there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(pub u8);

impl Marks {
    /// Something hangs before the first element.
    pub const HUNG_BEFORE: Self = Self(1);
    /// The operation that put it in is void.
    pub const VOID: Self = Self(2);
    /// The caller has hidden it.
    pub const TAKEN: Self = Self(4);
    /// The operation that put it in is below the floor.
    pub const FLOORED: Self = Self(8);
    /// Every mark.
    pub const ALL: Self = Self(15);

    /// Whether one of these is there.
    #[must_use]
    pub fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    pub(super) fn with(self, mark: Self) -> Self {
        Self(self.0 | mark.0)
    }

    pub(super) fn without(self, mark: Self) -> Self {
        Self(self.0 & !mark.0)
    }
}

/// What a stretch of the sequence adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// How many elements are shown.
    pub shown: usize,
    /// The least of the records' lows.
    pub low: u32,
}

impl Measure {
    pub(super) fn sum(parts: impl Iterator<Item = Self>) -> Self {
        parts.fold(Self { shown: 0, low: u32::MAX }, |sum, part| Self {
            shown: sum.shown + part.shown,
            low: sum.low.min(part.low),
        })
    }
}

impl<E: Copy> Stretch<E> {
    /// Whether its elements are shown.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.deleted == 0 && self.marks.without(Marks::HUNG_BEFORE).0 == 0
    }

    pub(super) fn shown(&self) -> usize {
        if self.is_shown() { self.count as usize } else { 0 }
    }

    pub(super) fn name(&self, within: u32) -> Name<E> {
        Name { entry: self.first.entry, offset: self.first.offset + within }
    }

    /// The offset after the last element.
    pub(super) fn end(&self) -> u32 {
        self.first.offset + self.count
    }

    pub(super) fn measure(&self) -> Measure {
        Measure { shown: self.shown(), low: self.low }
    }
}

impl<E: Copy + Ord> Stretch<E> {
    /// Whether a record that directly follows can be part of this one. Its depth and low say that it hangs after the
    /// last element here, and nothing before it.
    fn goes_on_with(&self, next: &Self) -> bool {
        next.first == self.name(self.count)
            && (next.depth, next.low) == (self.depth + self.count, self.depth + self.count)
            && self.deleted == next.deleted
            && self.marks.without(Marks::HUNG_BEFORE) == next.marks
    }
}

impl<E: Copy + Ord, R: Run> Record<E, R> {
    /// Leaves the first `at` elements and gives the rest.
    pub(super) fn split_off(&mut self, at: u32) -> Self {
        let held = self.stretch;
        let depth = held.depth + at;
        let rest = Stretch {
            first: held.name(at),
            count: held.count - at,
            depth,
            low: depth,
            marks: held.marks.without(Marks::HUNG_BEFORE),
            ..held
        };
        self.stretch.count = at;
        Self { stretch: rest, run: self.run.split_off(at as usize) }
    }

    /// The names of the elements.
    pub(super) fn span(&self) -> Span<E> {
        Span { first: self.stretch.first, count: self.stretch.count }
    }

    /// Whether a record that directly follows can be part of this one.
    pub(super) fn goes_on_with(&self, next: &Stretch<E>, run: &R) -> bool {
        self.stretch.goes_on_with(next)
            && self.stretch.count as usize + next.count as usize <= RECORD_ELEMENTS_MAX
            && self.run.weight() + run.weight() <= RECORD_BYTES_MAX
    }

    /// Takes in a record that can be part of this one.
    pub(super) fn join(&mut self, next: Self) {
        self.stretch.count += next.stretch.count;
        self.run.append(next.run);
    }
}

/// Cuts a run into such as fit records, in order.
pub(super) fn cut_up<R: Run>(run: R) -> Vec<R> {
    let (mut done, mut todo) = (Vec::new(), vec![run]);
    while let Some(mut run) = todo.pop() {
        let count = run.count();
        if count > 1 && (count > RECORD_ELEMENTS_MAX || run.weight() > RECORD_BYTES_MAX) {
            let rest = run.split_off(count / 2);
            todo.extend([rest, run]);
        } else {
            done.push(run);
        }
    }
    done
}
