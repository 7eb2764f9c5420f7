//! Pages in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;

use super::pages::{Head, Inner, Leaf, Operation, Pages, Pieces};
use super::{Name, Run, Span, Standing};

/// Holds all pages of a sequence in memory.
#[derive(Debug, Clone)]
pub struct Memory<E, S, R> {
    head: Head<S>,
    leaves: Vec<Leaf<E, R>>,
    inners: Vec<Inner>,
    operations: BTreeMap<E, Held<S>>,
    deletes: BTreeMap<E, Vec<Span<E>>>,
}

#[derive(Debug, Clone)]
struct Held<S> {
    stamp: S,
    standing: Standing,
    pieces: Where,
}

/// Nearly all operations have all their elements in one leaf.
#[derive(Debug, Clone)]
enum Where {
    One { leaf: u32, count: u32 },
    Many(Box<Pieces>),
}

impl Where {
    fn count(&self) -> u32 {
        match self {
            Self::One { count, .. } => *count,
            Self::Many(pieces) => pieces.end(),
        }
    }

    fn find(&self, offset: u32) -> Option<u32> {
        match self {
            Self::One { leaf, count } => (offset < *count).then_some(*leaf),
            Self::Many(pieces) => pieces.find(offset),
        }
    }

    fn assign(&mut self, first: u32, end: u32, leaf: u32) {
        match self {
            Self::One { leaf: held, count } if *held == leaf || (first == 0 && end >= *count) => {
                *held = leaf;
                *count = end.max(*count);
            }
            Self::One { leaf: held, count } => {
                let mut pieces = Pieces::default();
                pieces.assign(0, *count, *held);
                pieces.assign(first, end, leaf);
                *self = Self::Many(Box::new(pieces));
            }
            Self::Many(pieces) => pieces.assign(first, end, leaf),
        }
    }
}

impl<E, S, R> Default for Memory<E, S, R> {
    fn default() -> Self {
        Self {
            head: Head::default(),
            leaves: vec![Leaf::default()],
            inners: Vec::new(),
            operations: BTreeMap::new(),
            deletes: BTreeMap::new(),
        }
    }
}

impl<E: Copy + Ord + Debug, S: Ord + Clone + Debug, R: Run> Pages for Memory<E, S, R> {
    type Entry = E;
    type Stamp = S;
    type Run = R;
    type Error = Infallible;
    type Leaf<'a>
        = &'a Leaf<E, R>
    where
        Self: 'a;
    type Inner<'a>
        = &'a Inner
    where
        Self: 'a;

    fn head(&self) -> &Head<S> {
        &self.head
    }

    fn head_mut(&mut self) -> &mut Head<S> {
        &mut self.head
    }

    fn leaf(&self, number: u32) -> Result<&Leaf<E, R>, Infallible> {
        Ok(&self.leaves[number as usize])
    }

    fn leaf_mut(&mut self, number: u32) -> Result<&mut Leaf<E, R>, Infallible> {
        Ok(&mut self.leaves[number as usize])
    }

    fn add_leaf(&mut self, leaf: Leaf<E, R>) -> Result<u32, Infallible> {
        self.leaves.push(leaf);
        Ok(last(self.leaves.len()))
    }

    fn inner(&self, number: u32) -> Result<&Inner, Infallible> {
        Ok(&self.inners[number as usize])
    }

    fn inner_mut(&mut self, number: u32) -> Result<&mut Inner, Infallible> {
        Ok(&mut self.inners[number as usize])
    }

    fn add_inner(&mut self, inner: Inner) -> Result<u32, Infallible> {
        self.inners.push(inner);
        Ok(last(self.inners.len()))
    }

    fn operation(&self, entry: E) -> Result<Option<Operation<S>>, Infallible> {
        Ok(self.operations.get(&entry).map(|held| Operation {
            stamp: held.stamp.clone(),
            standing: held.standing,
            count: held.pieces.count(),
        }))
    }

    fn set_operation(&mut self, entry: E, operation: Operation<S>) -> Result<(), Infallible> {
        let held = self.operations.entry(entry).or_insert_with(|| Held {
            stamp: operation.stamp.clone(),
            standing: operation.standing,
            pieces: Where::One { leaf: 0, count: 0 },
        });
        held.stamp = operation.stamp;
        held.standing = operation.standing;
        Ok(())
    }

    fn remove_operation(&mut self, entry: E) -> Result<(), Infallible> {
        self.operations.remove(&entry);
        self.deletes.remove(&entry);
        Ok(())
    }

    fn deletes(&self, entry: E) -> Result<Vec<Span<E>>, Infallible> {
        Ok(self.deletes.get(&entry).cloned().unwrap_or_default())
    }

    fn add_delete(&mut self, entry: E, span: Span<E>) -> Result<(), Infallible> {
        let held = self.deletes.entry(entry).or_default();
        if !held.last_mut().is_some_and(|held| held.join(span)) {
            held.push(span);
        }
        Ok(())
    }

    fn leaf_of(&self, name: Name<E>) -> Result<u32, Infallible> {
        let held = self.operations.get(&name.entry);
        Ok(held.and_then(|held| held.pieces.find(name.offset)).unwrap_or(0))
    }

    fn assign(&mut self, span: Span<E>, leaf: u32) -> Result<(), Infallible> {
        let Span { first: Name { entry, offset }, count } = span;
        if let Some(held) = self.operations.get_mut(&entry) {
            held.pieces.assign(offset, offset + count, leaf);
        }
        Ok(())
    }

    fn precedes(&self, stamp: &S, other: &S) -> Result<bool, Infallible> {
        Ok(stamp < other)
    }
}

fn last(count: usize) -> u32 {
    u32::try_from(count - 1).expect("fewer pages than elements, which have 32-bit depths")
}
