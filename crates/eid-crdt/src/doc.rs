//! A document in memory: nodes by path. The reference for whoever keeps the same nodes in rows.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;

use crate::counter::Counter;
use crate::crdt::Crdt;
use crate::list::{List, ListOp};
use crate::node::{Node, Shape, total};
use crate::sequence::Anchor;
use crate::value::Value;

/// A path: one key or more.
type Path = Vec<String>;

/// What can be done to a document whose operations are named `N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocOp<N> {
    /// Puts a value at a path and hides what was there and below. A map is put there as nodes of its own, and the items
    /// of a list are inserted at the start of the one at its path.
    Set {
        /// Where: one key or more.
        path: Vec<String>,
        /// What.
        value: Value,
    },
    /// Hides what is at a path and below.
    Delete {
        /// Where: one key or more.
        path: Vec<String>,
    },
    /// Adds to the number at a path; nothing there counts as 0.
    Increment {
        /// Where: one key or more.
        path: Vec<String>,
        /// How much.
        by: i64,
    },
    /// Changes the list at a path; an insert makes it one.
    List {
        /// Where: one key or more.
        path: Vec<String>,
        /// How.
        op: ListOp<N>,
    },
}

/// A document: maps in maps, whose leaves are scalars, lists and counts.
#[derive(Debug, Clone)]
pub struct Doc<S>(BTreeMap<Path, Held<S>>);

/// What is kept for one path.
#[derive(Debug, Clone)]
struct Held<S> {
    node: Node<S>,
    counter: Counter<S>,
    list: List<S>,
}

impl<S> Default for Held<S> {
    fn default() -> Self {
        Self { node: Node::default(), counter: Counter::default(), list: List::default() }
    }
}

impl<S> Default for Doc<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// Visits every path that setting `value` at `path` writes, parents first: the path itself and what is in maps below
/// it. Keeps one path in memory, however large the value.
pub fn leaves<'v, E>(
    path: &[String],
    value: &'v Value,
    mut each: impl FnMut(&[String], &'v Value) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = path.to_vec();
    each(&at, value)?;
    let mut open = Vec::new();
    if let Value::Map(items) = value {
        open.push(items.iter());
    }
    while let Some(items) = open.last_mut() {
        let Some((key, item)) = items.next() else {
            open.pop();
            at.pop();
            continue;
        };
        at.push(key.clone());
        each(&at, item)?;
        match item {
            Value::Map(inner) => open.push(inner.iter()),
            _ => drop(at.pop()),
        }
    }
    Ok(())
}

impl<N> DocOp<N> {
    /// The same with other names of operations; nothing when one of them has none.
    pub fn rename<M>(&self, to: impl FnMut(&N) -> Option<M>) -> Option<DocOp<M>> {
        Some(match self {
            Self::Set { path, value } => DocOp::Set { path: path.clone(), value: value.clone() },
            Self::Delete { path } => DocOp::Delete { path: path.clone() },
            Self::Increment { path, by } => DocOp::Increment { path: path.clone(), by: *by },
            Self::List { path, op } => DocOp::List { path: path.clone(), op: op.rename(to)? },
        })
    }
}

impl<S: Ord + Clone> Doc<S> {
    fn at(&mut self, path: &[String]) -> &mut Held<S> {
        self.0.entry(path.to_vec()).or_default()
    }

    fn touch_above(&mut self, path: &[String], stamp: &S) {
        for depth in 1..path.len() {
            self.at(&path[..depth]).node.touch_below(stamp);
        }
    }

    /// The value at a path; a map with everything alive in it. The empty path is the whole document.
    #[must_use]
    pub fn get(&self, path: &[String]) -> Option<Value> {
        let mut above = None;
        for depth in 1..path.len() {
            above = self.0.get(&path[..depth])?.node.kills_below(above.as_ref());
        }
        let mut found = if path.is_empty() { Some(Value::Map(BTreeMap::new())) } else { None };
        // What is alive above each path that is open, parents before children.
        let mut open: Vec<(usize, Option<S>)> = vec![(path.len().saturating_sub(1), above)];
        for (at, held) in self.0.range(path.to_vec()..).take_while(|(at, _)| at.starts_with(path)) {
            while open.len() > 1 && open.last().is_some_and(|(depth, _)| *depth >= at.len()) {
                open.pop();
            }
            let above = open.last().and_then(|(_, above)| above.clone());
            let value = match held.node.shape(above.as_ref()) {
                Shape::Value(value) => Some(value.clone()),
                Shape::Count { base, after } => Some(total(base, &held.counter, after.as_ref())),
                Shape::List { floor } => Some(Value::List(held.list.items(floor.as_ref()))),
                Shape::Map { explicit: true } => Some(Value::Map(BTreeMap::new())),
                Shape::Map { explicit: false } | Shape::Absent => None,
            };
            if let Some(value) = value {
                place(&mut found, &at[path.len()..], value);
            }
            open.push((at.len(), held.node.kills_below(above.as_ref())));
        }
        found
    }
}

/// Puts a value into the map that is being built, making the maps on the way.
fn place(root: &mut Option<Value>, path: &[String], value: Value) {
    let mut at = root.get_or_insert_with(|| Value::Map(BTreeMap::new()));
    for key in path {
        let Value::Map(items) = at else { return };
        at = items.entry(key.clone()).or_insert_with(|| Value::Map(BTreeMap::new()));
    }
    *at = value;
}

impl<S: Ord + Clone + Debug> Crdt for Doc<S> {
    type Stamp = S;
    type Op = DocOp<S>;
    type View = Value;

    fn apply(&mut self, stamp: &S, op: &DocOp<S>) {
        match op {
            DocOp::Set { path, value } => {
                self.touch_above(path, stamp);
                let Ok(()) = leaves(path, value, |at, value| {
                    let held = self.at(at);
                    held.node.set(stamp, value);
                    if let Value::List(items) = value
                        && !items.is_empty()
                    {
                        let op = ListOp::Insert { at: Anchor::Start, items: items.clone() };
                        held.list.add(stamp.clone(), op);
                    }
                    Ok::<(), Infallible>(())
                });
            }
            DocOp::Delete { path } => self.at(path).node.delete(stamp),
            DocOp::Increment { path, by } => {
                self.touch_above(path, stamp);
                let held = self.at(path);
                held.node.count(stamp);
                held.counter.add(stamp.clone(), *by);
            }
            DocOp::List { path, op } => {
                if matches!(op, ListOp::Insert { .. }) {
                    self.touch_above(path, stamp);
                    self.at(path).node.list(stamp);
                }
                self.at(path).list.add(stamp.clone(), op.clone());
            }
        }
    }

    fn join(&mut self, other: &Self) {
        for (path, other) in &other.0 {
            let held = self.at(path);
            held.node.join(&other.node);
            held.counter.join(&other.counter);
            held.list.join(&other.list);
        }
    }

    fn view(&self) -> Value {
        self.get(&[]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
