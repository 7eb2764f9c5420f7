//! Settles which settings entries of a set are void, from a part of it that is settled.
//!
//! A further entry changes the standing of weaker ones only, and what changes them in turn is weaker again, or equal
//! and later. So what may have changed is looked at strongest first, each once, and nothing is looked at that cannot
//! have changed.

use std::collections::BTreeSet;

use crate::bits::Bits;
use crate::tables::{How, Level, Node, Scene, TITLE, Tables, Write};

/// A settling that can be interrupted between any two entries.
#[derive(Debug)]
pub(crate) struct Run {
    pub set: Bits,
    pub void: Bits,
    /// Not looked at yet.
    fresh: Bits,
    open: BTreeSet<(Level, Node)>,
    heard_by: Option<Node>,
}

impl Run {
    /// Settles `all`, of which the part `settled` is settled with these void entries.
    pub(crate) fn adding(tables: &Tables, all: Bits, settled: &Bits, void: Bits) -> Self {
        let mut fresh = Bits::default();
        let mut open = BTreeSet::new();
        for node in all.minus(settled) {
            fresh.put(node, true);
            open.insert((tables.row(node).level, node));
        }
        Self { set: all, void, fresh, open, heard_by: None }
    }

    /// Settles a settled set again as an entry that accepts would have it. With fewer removals heard, the first to
    /// change is void.
    pub(crate) fn heard_by(tables: &Tables, set: Bits, void: Bits, acceptor: Node) -> Self {
        let open = void.iter().map(|node| (tables.row(node).level, node)).collect();
        Self { set, void, fresh: Bits::default(), open, heard_by: Some(acceptor) }
    }

    /// Goes on for `budget` entries; says whether it is done.
    pub(crate) fn step(&mut self, tables: &Tables, budget: &mut usize) -> bool {
        while let Some((_, node)) = self.open.pop_first() {
            let is_void = tables.fault(node, self.scene()).is_some();
            if self.fresh.contains(node) {
                self.fresh.put(node, false);
                self.void.put(node, is_void);
                if !is_void {
                    self.reach(tables, node);
                }
            } else if is_void != self.void.contains(node) {
                self.void.put(node, is_void);
                self.reopen(tables, node);
            }
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return self.open.is_empty();
            }
        }
        true
    }

    fn scene(&self) -> Scene<'_> {
        Scene { set: &self.set, void: &self.void, heard_by: self.heard_by }
    }

    /// Opens what an added entry may change: it removes, or it makes a weaker removal give way.
    fn reach(&mut self, tables: &Tables, node: Node) {
        let row = tables.row(node);
        let saw_all = row.past.len() + 1 == self.set.len();
        for write in row.writes.iter().filter(|write| write.slot != TITLE) {
            let removes = match &write.how {
                How::Leave => false,
                How::Remove(Some(_)) => true,
                How::Remove(None) | How::Set | How::Invite(_) => !saw_all,
            };
            for other in &tables.slots[write.slot as usize].authored {
                let level = tables.row(*other).level;
                if row.level < level
                    && self.set.contains(*other)
                    && (self.void.contains(*other) || removes && reaches(tables, node, write, *other))
                {
                    self.open.insert((level, *other));
                }
            }
        }
    }

    /// Opens what depends on an entry that became void or stands again: what it removed or shielded, and what relied
    /// on the slots that it wrote.
    fn reopen(&mut self, tables: &Tables, node: Node) {
        let row = tables.row(node);
        for write in row.writes.iter().filter(|write| write.slot != TITLE) {
            let slot = &tables.slots[write.slot as usize];
            for other in slot.writers.iter().map(|writer| &writer.node).chain(&slot.authored) {
                let dependent = tables.row(*other);
                let weaker = dependent.level > row.level;
                if (weaker || dependent.level == row.level && dependent.past.contains(node))
                    && self.set.contains(*other)
                {
                    self.open.insert((dependent.level, *other));
                }
            }
        }
    }
}

fn reaches(tables: &Tables, remover: Node, write: &Write, other: Node) -> bool {
    tables.takes(remover, write, tables.subject(other)) && !tables.kept(remover, write).contains(other)
}
