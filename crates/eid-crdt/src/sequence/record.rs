//! What the list holds: runs with what is needed to put others among them.

use super::chunks::{Item, Measure};
use super::limits::RECORD_ELEMENTS_MAX;
use super::{Anchor, Name, Run};

/// Consecutive elements of one entry, each hanging after the one before, that are shown or hidden together.
#[derive(Debug, Clone)]
pub(super) struct Record<E, R> {
    pub(super) first: Name<E>,
    pub(super) count: u32,
    /// Where the first element hangs.
    pub(super) at: Anchor<E>,
    /// How many elements are above the first one, and one for the start.
    pub(super) depth: u32,
    /// The depth of the topmost element whose part of the tree begins with the first element; its own if there is none.
    pub(super) low: u32,
    pub(super) shown: bool,
    pub(super) deleted_by: Vec<E>,
    pub(super) run: R,
}

impl<E: Copy + Ord, R: Run> Record<E, R> {
    pub(super) fn name(&self, within: u32) -> Name<E> {
        Name { entry: self.first.entry, offset: self.first.offset + within }
    }

    /// The offset after the last element.
    pub(super) fn end(&self) -> u32 {
        self.first.offset + self.count
    }

    /// Leaves the first `at` elements and gives the rest.
    pub(super) fn split_off(&mut self, at: u32) -> Self {
        let depth = self.depth + at;
        let rest = Self {
            first: self.name(at),
            count: self.count - at,
            at: Anchor::After(self.name(at - 1)),
            depth,
            low: depth,
            shown: self.shown,
            deleted_by: self.deleted_by.clone(),
            run: self.run.split_off(at as usize),
        };
        self.count = at;
        rest
    }

    /// Whether a record that directly follows in the list can be part of this one.
    pub(super) fn can_grow(&self, next: &Self) -> bool {
        next.at == Anchor::After(self.name(self.count - 1))
            && next.first == self.name(self.count)
            && next.shown == self.shown
            && self.deleted_by.is_empty()
            && self.count as usize + next.count as usize <= RECORD_ELEMENTS_MAX
    }
}

impl<E, R> Item for Record<E, R> {
    fn measure(&self) -> Measure {
        Measure { shown: if self.shown { self.count as usize } else { 0 }, low: self.low }
    }
}

impl<E: PartialEq> Name<E> {
    /// Whether hanging there makes it the next element of a run.
    pub(super) fn follows(&self, at: &Anchor<E>) -> bool {
        matches!(at, Anchor::After(name) if name.entry == self.entry && name.offset.checked_add(1) == Some(self.offset))
    }
}

/// What hangs at one anchor, in order. Nearly always it is one.
#[derive(Debug, Clone, Default)]
pub(super) enum Children<E> {
    #[default]
    None,
    One(Name<E>),
    Many(Vec<Name<E>>),
}

impl<E: Copy + Ord> Children<E> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The last one that ranks below another.
    pub(super) fn before<K: Ord>(&self, name: &Name<E>, rank: impl Fn(&Name<E>) -> K) -> Option<Name<E>> {
        let limit = rank(name);
        match self {
            Self::None => None,
            Self::One(one) => (rank(one) < limit).then_some(*one),
            Self::Many(many) => many[..many.partition_point(|held| rank(held) < limit)].last().copied(),
        }
    }

    pub(super) fn add<K: Ord>(&mut self, name: Name<E>, rank: impl Fn(&Name<E>) -> K) {
        let mut many = match std::mem::take(self) {
            Self::None => {
                *self = Self::One(name);
                return;
            }
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        };
        let limit = rank(&name);
        many.insert(many.partition_point(|held| rank(held) < limit), name);
        *self = Self::Many(many);
    }
}
