//! One path of a document: what was written there, and how it weighs against what was written above and below.
//!
//! The latest operation decides what a path is. A set at a path hides everything older below it; a set below a path
//! turns it into a map, whatever scalar or count it was before; a delete hides what is older at the path and below.
//! A map that was not set, but came about by a set below it, is gone when the last thing in it is. An insert into a list
//! turns a path into a list; counting has no effect on one.

use crate::counter::Counter;
use crate::register::{Register, raise};
use crate::value::{Integer, Value};

/// The stamps of one path. Each part is the greatest stamp of its kind, so joining nodes is joining their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<S> {
    /// The value set here. A map stands here empty: what is in it are nodes of their own, with the same stamp. So does a
    /// list: its items are kept as if the set had inserted them.
    pub set: Register<S, Value>,
    /// The greatest delete.
    pub deleted: Option<S>,
    /// The greatest set or increment of a path strictly below, other than by setting a map here.
    pub below: Option<S>,
    /// The greatest increment.
    pub counted: Option<S>,
    /// The greatest insert into a list; setting a list is one, also when it is empty.
    pub listed: Option<S>,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape<'a, S> {
    /// Nothing.
    Absent,
    /// This value; never a map or list.
    Value(&'a Value),
    /// A count: the base and every increment with a stamp greater than `after`.
    Count {
        /// The integer that was set last before the increments.
        base: Integer,
        /// What hides older increments.
        after: Option<S>,
    },
    /// A list of the items that are not hidden.
    List {
        /// What the stamp of an item has to reach.
        floor: Option<S>,
    },
    /// A map of what is alive below.
    Map {
        /// Whether it was set, and so is there also when nothing is alive below.
        explicit: bool,
    },
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { set: Register::default(), deleted: None, below: None, counted: None, listed: None }
    }
}

impl<S: Ord + Clone> Node<S> {
    /// Sets the value; the caller writes what is in a map to the nodes below, and the items of a list to the list.
    pub fn set(&mut self, stamp: &S, value: &Value) {
        let value = match value {
            Value::Map(_) => Value::Map(Default::default()),
            Value::List(_) => {
                self.list(stamp);
                Value::List(Vec::new())
            }
            scalar => scalar.clone(),
        };
        self.set.write(stamp.clone(), value);
    }

    /// Deletes.
    pub fn delete(&mut self, stamp: &S) {
        raise(&mut self.deleted, stamp);
    }

    /// Takes note of an increment here.
    pub fn count(&mut self, stamp: &S) {
        raise(&mut self.counted, stamp);
    }

    /// Takes note of an insert into the list here.
    pub fn list(&mut self, stamp: &S) {
        raise(&mut self.listed, stamp);
    }

    /// Takes note of a set, increment or insert below.
    pub fn touch_below(&mut self, stamp: &S) {
        raise(&mut self.below, stamp);
    }

    /// All stamps, to be changed in a way that keeps their order.
    pub fn stamps_mut(&mut self) -> impl Iterator<Item = &mut S> {
        let set = self.set.stamp_mut().into_iter();
        let parts = [&mut self.deleted, &mut self.below, &mut self.counted, &mut self.listed];
        set.chain(parts.into_iter().flatten())
    }

    /// What has to be reached by a stamp below this path to be alive; `above` is the same for this path.
    ///
    /// It is reached, not beaten: what is in a map has the stamp of the map.
    #[must_use]
    pub fn kills_below(&self, above: Option<&S>) -> Option<S> {
        greatest([
            above,
            self.deleted.as_ref(),
            self.set.stamp(),
            self.counted.as_ref(),
            self.listed.as_ref(),
        ])
    }

    /// What an increment here has to beat.
    #[must_use]
    pub fn count_floor(&self, above: Option<&S>) -> Option<S> {
        greatest([above, self.deleted.as_ref(), self.set.stamp(), self.below.as_ref()])
    }

    /// What the stamp of an item of the list here has to reach. A list that is set has items of the same stamp.
    #[must_use]
    pub fn list_floor(&self, above: Option<&S>) -> Option<S> {
        greatest([above, self.deleted.as_ref(), self.set.stamp(), self.below.as_ref()])
    }

    /// What this path is, given what has to be reached to be alive here.
    #[must_use]
    pub fn shape(&self, above: Option<&S>) -> Shape<'_, S> {
        let alive = |stamp: &S| Some(stamp) >= above && Some(stamp) > self.deleted.as_ref();
        let set = self.set.get().filter(|(stamp, _)| alive(stamp));
        let below = self.below.as_ref().filter(|stamp| alive(stamp));
        let counted = self.counted.as_ref().filter(|stamp| alive(stamp));
        let set_at = set.map(|(stamp, _)| stamp);
        let listed = self.listed.as_ref().filter(|stamp| alive(stamp));
        if listed.is_some() && listed >= set_at && listed > below {
            return Shape::List { floor: self.list_floor(above) };
        }
        if counted.is_some() && counted > set_at && counted > below {
            let shown = set.filter(|_| set_at > below).map(|(_, value)| value);
            let base = match shown {
                Some(Value::Int(base)) => *base,
                None | Some(Value::Map(_) | Value::List(_)) => Integer::saturating(0),
                // Counting has no effect on anything that is not a number.
                Some(other) => return Shape::Value(other),
            };
            return Shape::Count { base, after: self.count_floor(above) };
        }
        match set {
            Some((stamp, Value::Map(_))) => Shape::Map { explicit: Some(stamp) > counted.max(listed) },
            Some((stamp, value)) if Some(stamp) > below => Shape::Value(value),
            _ if below.is_some() => Shape::Map { explicit: false },
            _ => Shape::Absent,
        }
    }

    /// Takes over what another node has.
    pub fn join(&mut self, other: &Self) {
        if let Some((stamp, value)) = other.set.get() {
            self.set.write(stamp.clone(), value.clone());
        }
        let parts = [
            (&mut self.deleted, &other.deleted),
            (&mut self.below, &other.below),
            (&mut self.counted, &other.counted),
            (&mut self.listed, &other.listed),
        ];
        for (held, stamp) in parts {
            if let Some(stamp) = stamp {
                raise(held, stamp);
            }
        }
    }
}

fn greatest<'s, S: Ord + Clone + 's>(stamps: impl IntoIterator<Item = Option<&'s S>>) -> Option<S> {
    stamps.into_iter().max().flatten().cloned()
}

/// The value of a count: what is beyond the range of integers stays at its end.
pub(crate) fn total<S: Ord>(base: Integer, counter: &Counter<S>, after: Option<&S>) -> Value {
    Value::Int(Integer::saturating(base.get().saturating_add(counter.sum_after(after))))
}
