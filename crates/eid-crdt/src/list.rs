//! A list in memory: its operations by stamp. The reference for whoever keeps the same list in rows.
//!
//! The list is a [`sequence`](crate::sequence) of slots, and an item is named by the slot that put it in. A move puts
//! in a slot that refers to the item, and the latest slot is where the item stands; its value is that of the latest
//! set. Deleting an item hides it wherever it stands: a concurrent move or set does not bring it back.
//!
//! An operation counts once every operation that it names has put slots in, so it does not matter in which order they
//! come. One that names a slot which its operation did not put in has no effect. Nor has one that names itself, or what
//! comes after it in the same batch: whoever renames operations from a batch leaves it out, or renames to what nobody
//! has.

use std::collections::{BTreeMap, BTreeSet};

use crate::sequence::{Anchor, Name, Span};
use crate::value::Value;

/// What can be done to a list whose operations are named `N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListOp<N> {
    /// Puts items in, one after the other.
    Insert {
        /// Where.
        at: Anchor<N>,
        /// What: one item or more.
        items: Vec<Value>,
    },
    /// Takes items out.
    Delete {
        /// Which.
        spans: Vec<Span<N>>,
    },
    /// Takes an item elsewhere.
    Move {
        /// Which.
        item: Name<N>,
        /// Where to.
        at: Anchor<N>,
    },
    /// Replaces the value of an item.
    Set {
        /// Which.
        item: Name<N>,
        /// What by.
        value: Value,
    },
}

/// A list: every operation on it by stamp, which is also its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<S>(BTreeMap<S, ListOp<S>>);

impl<S> Default for List<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// The slots that count, as the tree that they hang in.
struct Slots<'l, S> {
    /// What hangs where, and with how many slots, in the order of the stamps.
    hung: BTreeMap<Anchor<S>, Vec<Name<S>>>,
    /// Every slot with the item that it is for.
    item_of: BTreeMap<Name<S>, Name<S>>,
    deleted: BTreeSet<Name<S>>,
    /// The latest slot of each item.
    place: BTreeMap<Name<S>, Name<S>>,
    value: BTreeMap<Name<S>, (&'l S, &'l Value)>,
}

impl<N: Clone> ListOp<N> {
    /// The names of the operations that it names.
    pub fn names(&self) -> Vec<N> {
        let anchor = |at: &Anchor<N>| match at {
            Anchor::Start => None,
            Anchor::After(name) | Anchor::Before(name) => Some(name.entry.clone()),
        };
        match self {
            Self::Insert { at, .. } => anchor(at).into_iter().collect(),
            Self::Delete { spans } => spans.iter().map(|span| span.first.entry.clone()).collect(),
            Self::Move { item, at } => anchor(at).into_iter().chain([item.entry.clone()]).collect(),
            Self::Set { item, .. } => vec![item.entry.clone()],
        }
    }
}

impl<N> ListOp<N> {
    /// The same with other names of operations; nothing when one of them has none.
    pub fn rename<M>(&self, mut to: impl FnMut(&N) -> Option<M>) -> Option<ListOp<M>> {
        let mut name = |name: &Name<N>| Some(Name { entry: to(&name.entry)?, offset: name.offset });
        Some(match self {
            Self::Insert { at, items } => ListOp::Insert { at: at.rename(name)?, items: items.clone() },
            Self::Delete { spans } => {
                let span = |span: &Span<N>| Some(Span { first: name(&span.first)?, count: span.count });
                ListOp::Delete { spans: spans.iter().map(span).collect::<Option<_>>()? }
            }
            Self::Move { item, at } => ListOp::Move { item: name(item)?, at: at.rename(name)? },
            Self::Set { item, value } => ListOp::Set { item: name(item)?, value: value.clone() },
        })
    }
}

impl<N> Anchor<N> {
    fn rename<M>(&self, mut to: impl FnMut(&Name<N>) -> Option<Name<M>>) -> Option<Anchor<M>> {
        Some(match self {
            Self::Start => Anchor::Start,
            Self::After(name) => Anchor::After(to(name)?),
            Self::Before(name) => Anchor::Before(to(name)?),
        })
    }
}

impl<S: Ord + Clone> List<S> {
    /// Takes note of an operation.
    pub fn add(&mut self, stamp: S, op: ListOp<S>) {
        self.0.insert(stamp, op);
    }

    /// Takes over what another list has.
    pub fn join(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(stamp, op)| (stamp.clone(), op.clone())));
    }

    /// What is in the list, without the items whose stamp does not reach `floor`.
    #[must_use]
    pub fn items(&self, floor: Option<&S>) -> Vec<Value> {
        let mut slots = Slots {
            hung: BTreeMap::new(),
            item_of: BTreeMap::new(),
            deleted: BTreeSet::new(),
            place: BTreeMap::new(),
            value: BTreeMap::new(),
        };
        let mut left: Vec<(&S, &ListOp<S>)> = self.0.iter().collect();
        loop {
            let (ready, waiting): (Vec<_>, Vec<_>) =
                left.iter().partition(|(_, op)| op.names().into_iter().all(|name| slots.has(name)));
            if ready.is_empty() {
                break;
            }
            ready.into_iter().for_each(|(stamp, op)| slots.apply(stamp, op));
            left = waiting;
        }
        let shown = |slot: &Name<S>| {
            let item = slots.item_of.get(slot)?;
            let alive = Some(&item.entry) >= floor
                && slots.place.get(item) == Some(slot)
                && ![item, slot].into_iter().any(|name| slots.deleted.contains(name));
            alive.then(|| slots.value.get(item).map(|(_, value)| (*value).clone())).flatten()
        };
        slots.order().iter().filter_map(shown).collect()
    }
}

impl<'l, S: Ord + Clone> Slots<'l, S> {
    fn apply(&mut self, stamp: &'l S, op: &'l ListOp<S>) {
        match op {
            ListOp::Insert { at, items } => {
                if !self.can_hang(at) {
                    return;
                }
                let mut at = at.clone();
                for (offset, value) in (0..).zip(items) {
                    let name = Name { entry: stamp.clone(), offset };
                    self.hang(at, &name);
                    self.item_of.insert(name.clone(), name.clone());
                    self.stand(&name, &name);
                    self.put(&name, stamp, value);
                    at = Anchor::After(name);
                }
            }
            ListOp::Delete { spans } => {
                for span in spans {
                    let names = (span.first.offset..span.first.offset.saturating_add(span.count))
                        .map(|offset| Name { offset, ..span.first.clone() });
                    if names.clone().all(|name| self.item_of.contains_key(&name)) {
                        self.deleted.extend(names);
                    }
                }
            }
            ListOp::Move { item, at } => {
                if self.can_hang(at) && self.item_of.get(item) == Some(item) {
                    let slot = Name { entry: stamp.clone(), offset: 0 };
                    self.hang(at.clone(), &slot);
                    self.item_of.insert(slot.clone(), item.clone());
                    self.stand(item, &slot);
                }
            }
            ListOp::Set { item, value } => {
                if self.item_of.get(item) == Some(item) {
                    self.put(item, stamp, value);
                }
            }
        }
    }

    /// Whether an operation has put slots in.
    fn has(&self, entry: S) -> bool {
        self.item_of.contains_key(&Name { entry, offset: 0 })
    }

    fn can_hang(&self, at: &Anchor<S>) -> bool {
        match at {
            Anchor::Start => true,
            Anchor::After(name) | Anchor::Before(name) => self.item_of.contains_key(name),
        }
    }

    fn hang(&mut self, at: Anchor<S>, slot: &Name<S>) {
        let siblings = self.hung.entry(at).or_default();
        let place = siblings.partition_point(|sibling| sibling < slot);
        siblings.insert(place, slot.clone());
    }

    fn stand(&mut self, item: &Name<S>, slot: &Name<S>) {
        let place = self.place.entry(item.clone()).or_insert_with(|| slot.clone());
        if slot.entry > place.entry {
            *place = slot.clone();
        }
    }

    fn put(&mut self, item: &Name<S>, stamp: &'l S, value: &'l Value) {
        let held = self.value.entry(item.clone()).or_insert((stamp, value));
        if held.0 < stamp {
            *held = (stamp, value);
        }
    }

    /// All slots from start to end: what hangs before a slot, the slot, what hangs after it.
    fn order(&self) -> Vec<Name<S>> {
        enum Step<S> {
            Hung(Anchor<S>),
            Slot(Name<S>),
        }
        let mut order = Vec::new();
        let mut open = vec![Step::Hung(Anchor::Start)];
        while let Some(step) = open.pop() {
            match step {
                Step::Slot(slot) => order.push(slot),
                Step::Hung(at) => {
                    for slot in self.hung.get(&at).into_iter().flatten().rev() {
                        open.push(Step::Hung(Anchor::After(slot.clone())));
                        open.push(Step::Slot(slot.clone()));
                        open.push(Step::Hung(Anchor::Before(slot.clone())));
                    }
                }
            }
        }
        order
    }
}
