//! What travels and what comes out: operations in names, changes in positions.

use super::Run;

/// The name of an element: the operation that put it in, by its local number, and which of all the elements that the
/// operation puts in it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name<E> {
    /// The operation.
    pub entry: E,
    /// The element, counted from 0 in the order in which they are put in.
    pub offset: u32,
}

/// Where a run hangs: what Fugue calls the parent and the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchor<E> {
    /// At the start of the sequence, before what came there earlier.
    Start,
    /// After an element that had nothing hanging after it: its right child.
    After(Name<E>),
    /// Before an element that directly followed the left neighbour: its left child.
    Before(Name<E>),
}

/// Consecutive elements of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<E> {
    /// The first element.
    pub first: Name<E>,
    /// How many.
    pub count: u32,
}

/// One edit of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op<E, R> {
    /// Puts a run in.
    Insert {
        /// Where.
        at: Anchor<E>,
        /// What.
        run: R,
    },
    /// Takes elements out.
    Delete(Span<E>),
}

/// A change of what is shown, against what was shown just before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta<R> {
    /// Elements appeared.
    Inserted {
        /// How many elements are before the first of them.
        position: usize,
        /// The elements.
        run: R,
    },
    /// Elements disappeared.
    Deleted {
        /// How many elements are before the first of them.
        position: usize,
        /// How many.
        count: usize,
    },
}

/// A place that stays with its neighbour while others edit: a caret, the end of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor<E> {
    /// Before everything.
    Start,
    /// Directly before an element, or where it was.
    Before(Name<E>),
    /// Directly after an element, or where it was.
    After(Name<E>),
    /// After everything.
    End,
}

/// Which neighbour a cursor stays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The element before it: text that comes in at the cursor goes after it.
    Left,
    /// The element after it: text that comes in at the cursor goes before it.
    Right,
}

/// Whether an operation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They do.
    Stands,
    /// Its elements are hidden but others may hang on them, and its deletes are ignored.
    Void,
}

impl<E: Copy + Ord, R: Run> Op<E, R> {
    /// Adds an edit to what `entry` did so far. What continues the edit before it, as typing, deleting forwards and
    /// deleting backwards do, makes that longer. `first` is the offset of the first element that the edit puts in.
    pub fn push(ops: &mut Vec<Self>, entry: E, first: u32, op: Self) {
        match (ops.last_mut(), op) {
            (Some(Self::Insert { run: held, .. }), Self::Insert { at: Anchor::After(name), run })
                if name.entry == entry && name.offset.checked_add(1) == Some(first) =>
            {
                held.append(run);
            }
            (Some(Self::Delete(held)), Self::Delete(span)) => {
                if !held.join(span) {
                    ops.push(Self::Delete(span));
                }
            }
            (_, op) => ops.push(op),
        }
    }
}

impl<E: Copy + Ord> Span<E> {
    /// The offset after the last element, or nothing where there are no such offsets.
    pub(super) fn end(&self) -> Option<u32> {
        self.first.offset.checked_add(self.count)
    }

    /// Takes a neighbouring span in.
    pub(super) fn join(&mut self, other: Self) -> bool {
        let joins = self.first.entry == other.first.entry
            && (self.end() == Some(other.first.offset) || other.end() == Some(self.first.offset));
        if joins {
            self.first.offset = self.first.offset.min(other.first.offset);
            self.count += other.count;
        }
        joins
    }
}

impl<R: Run> Delta<R> {
    /// Adds a change to a list of changes; neighbours become one.
    pub(super) fn push(changes: &mut Vec<Self>, change: Self) {
        match (changes.last_mut(), change) {
            (Some(Self::Inserted { position, run: held }), Self::Inserted { position: at, run })
                if at == *position + held.count() =>
            {
                held.append(run);
            }
            (Some(Self::Deleted { position, count }), Self::Deleted { position: at, count: more })
                if at == *position =>
            {
                *count += more;
            }
            (_, change) => changes.push(change),
        }
    }
}
