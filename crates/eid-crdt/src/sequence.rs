//! A sequence that many edit at once: text as runs of characters, lists as runs of values.
//!
//! The order is that of Fugue (Weidner and Kleppmann, "The Art of the Fugue", 2023): elements form a tree, a run hangs
//! before or after an element, and siblings stand in the order of the stamps of the operations that put them in. So
//! the order is a function of the set of operations, and runs that were typed at the same place at the same time stand
//! one after the other, forwards or backwards. The tree is kept as the list that walking it gives: each element knows
//! its depth and the depth of the topmost element whose part of the tree it begins, so that the end of any part is the
//! next element that is low enough.
//!
//! Elements are named by the operation that put them in and how many it put in before: never by an id that a payload may
//! choose. An edit that names an element which its operation does not have has no effect. An operation is applied after
//! all those that it names; nothing else about the order in which they come matters.
//!
//! The list lies in small pages that are loaded when they are needed: [`Paged`] is the algorithm over any [`Pages`], and
//! [`Sequence`] has them in memory.
//!
//! ```
//! use eid_crdt::sequence::{Cursor, Op, Sequence, Side, Standing};
//!
//! // Each replica numbers operations as it likes; stamps are the same everywhere.
//! let (mut here, mut there) = (Sequence::<u32, u64, String>::default(), Sequence::<u32, u64, String>::default());
//! let mut hello = Vec::new();
//! here.open(0, 1, Standing::Stands);
//! Op::push(&mut hello, 0, 0, here.insert(0, 0, "helo".to_owned()).unwrap());
//! Op::push(&mut hello, 0, 4, here.insert(0, 3, "l".to_owned()).unwrap());
//! there.integrate(0, 1, Standing::Stands, &hello);
//!
//! let caret = here.cursor(5, Side::Left).unwrap();
//! there.open(1, 2, Standing::Stands);
//! let said = there.insert(1, 0, "she said ".to_owned()).unwrap();
//! here.integrate(1, 2, Standing::Stands, &[said]);
//! assert_eq!(here.text(), "she said hello");
//! assert_eq!(here.text(), there.text());
//! assert_eq!(here.position(&caret), Some(14));
//! ```

mod limits;
mod memory;
mod op;
mod paged;
mod pages;
mod record;
mod run;
mod tree;

use std::convert::Infallible;
use std::fmt::Debug;

pub use memory::Memory;
pub use op::{Anchor, Cursor, Delta, Name, Op, Side, Span, Standing};
pub use paged::{OpOf, Paged, Standpoint, Visit};
pub use pages::{Head, Inner, Leaf, Operation, Pages, Pieces};
pub use record::{Marks, Measure, Record, Stretch};
pub use run::{Item, Run};

/// A sequence in memory: elements of runs `R`, put in by operations that are numbered `E` here and ordered by `S`
/// everywhere. Its methods are those of [`Paged`], which cannot fail here.
#[derive(Debug, Clone)]
pub struct Sequence<E, S, R>(Paged<Memory<E, S, R>>);

impl<E, S, R> Default for Sequence<E, S, R> {
    fn default() -> Self {
        Self(Paged { pages: Memory::default() })
    }
}

fn sure<T>(done: Result<T, Infallible>) -> T {
    let Ok(done) = done;
    done
}

impl<E: Copy + Ord + Debug, S: Ord + Clone + Debug, R: Run> Sequence<E, S, R> {
    /// How many elements are shown.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no element is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is shown, from start to end.
    pub fn runs(&self) -> impl Iterator<Item = &R> {
        let leaves =
            std::iter::successors(Some(self.leaf(0)), |leaf| leaf.after.map(|after| self.leaf(after)));
        leaves
            .flat_map(|leaf| &leaf.records)
            .filter(|record| record.stretch.is_shown())
            .map(|record| &record.run)
    }

    fn leaf(&self, number: u32) -> &Leaf<E, R> {
        sure(self.0.pages.leaf(number))
    }

    /// See [`Paged::name_at`].
    #[must_use]
    pub fn name_at(&self, position: usize) -> Option<Name<E>> {
        sure(self.0.name_at(position))
    }

    /// See [`Paged::cursor`].
    #[must_use]
    pub fn cursor(&self, position: usize, side: Side) -> Option<Cursor<E>> {
        sure(self.0.cursor(position, side))
    }

    /// See [`Paged::position`].
    #[must_use]
    pub fn position(&self, cursor: &Cursor<E>) -> Option<usize> {
        sure(self.0.position(cursor))
    }

    /// See [`Paged::spans`].
    #[must_use]
    pub fn spans(&self, position: usize, count: usize) -> Vec<Span<E>> {
        sure(self.0.spans(position, count))
    }

    /// See [`Paged::integrate`].
    pub fn integrate(&mut self, entry: E, stamp: S, standing: Standing, ops: &[Op<E, R>]) -> Vec<Delta<R>> {
        sure(self.0.integrate(entry, stamp, standing, ops.iter().cloned()))
    }

    /// See [`Paged::open`].
    pub fn open(&mut self, entry: E, stamp: S, standing: Standing) -> bool {
        sure(self.0.open(entry, stamp, standing))
    }

    /// See [`Paged::seal`].
    pub fn seal(&mut self, open: E, entry: E, stamp: S) {
        sure(self.0.seal(open, entry, stamp));
    }

    /// See [`Paged::apply`].
    pub fn apply(&mut self, entry: E, op: &Op<E, R>) -> Vec<Delta<R>> {
        let mut changes = Vec::new();
        sure(self.0.apply(entry, op.clone(), Some(&mut changes)));
        changes
    }

    /// See [`Paged::insert`].
    pub fn insert(&mut self, entry: E, position: usize, run: R) -> Option<Op<E, R>> {
        sure(self.0.insert(entry, position, run))
    }

    /// See [`Paged::delete`].
    pub fn delete(&mut self, entry: E, position: usize, count: usize) -> Option<Vec<Op<E, R>>> {
        sure(self.0.delete(entry, position, count))
    }

    /// See [`Paged::set_standing`].
    pub fn set_standing(&mut self, entry: E, standing: Standing) -> Vec<Delta<R>> {
        sure(self.0.set_standing(entry, standing))
    }

    /// See [`Paged::set_taken`].
    pub fn set_taken(&mut self, name: Name<E>, taken: bool) -> Vec<Delta<R>> {
        sure(self.0.set_taken(name, taken))
    }

    /// See [`Paged::raise_floor`].
    pub fn raise_floor(&mut self, floor: S) -> Vec<Delta<R>> {
        sure(self.0.raise_floor(floor))
    }
}

impl<E: Copy + Ord + Debug, S: Ord + Clone + Debug> Sequence<E, S, String> {
    /// The text that is shown.
    #[must_use]
    pub fn text(&self) -> String {
        self.runs().map(String::as_str).collect()
    }
}
