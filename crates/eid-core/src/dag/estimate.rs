//! What another replica lacks, as far as samples of what it holds and lacks can tell.

use super::{Chunks, Colour, Dag, Difference, Named, Replica, Seq, SeqSet};
use crate::judge::ReadError;
use crate::sketch::ShortId;

/// What a sample says of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The other side holds it, and with it everything that it descends from.
    Held,
    /// The other side lacks it, and with it everything that descends from it.
    Lacked,
    /// It is in no sample.
    Unknown,
}

/// A walk down from `want` that goes no further than to entries which the other side holds, as far as marks tell. It can
/// stop and go on at any step.
#[derive(Debug, Default)]
pub struct Estimate {
    walk: Difference,
    named: Chunks<Named>,
    /// What is marked as held, and was come to.
    held: Vec<Seq>,
    /// Of what was found, whether it is marked, later whether it descends from what is marked, as lacked.
    lacked: Vec<bool>,
    /// How much of what was found has been looked at again, from the lowest position up.
    settled: usize,
}

/// What an [`Estimate`] came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Estimated {
    /// What the other side may lack.
    pub found: SeqSet,
    /// Those of them of which no mark says that they are lacked, descending.
    pub uncertain: Vec<Seq>,
    /// Where the walk turned back because of a mark.
    pub held: Vec<Seq>,
    /// What the walk did not come to: these, and what they descend from, may be lacked too. Descending.
    pub left: Vec<Seq>,
}

impl Estimate {
    /// Starts at `want`; `have` are entries that the other side holds.
    #[must_use]
    pub fn new(want: impl IntoIterator<Item = Seq>, have: impl IntoIterator<Item = Seq>) -> Self {
        Self { walk: Difference::new(want, have), ..Self::default() }
    }

    /// Visits at most `budget` entries. Gives whether the walk is complete.
    pub fn step(
        &mut self,
        replica: &dyn Replica,
        mark: &dyn Fn(ShortId) -> Mark,
        budget: u64,
    ) -> Result<bool, ReadError> {
        for _ in 0..budget {
            if self.walk.wanted_in_heap == 0 {
                return Ok(true);
            }
            let Some((seq, mut colour)) = self.walk.pop() else { return Ok(true) };
            self.walk.visited += 1;
            let named = self.named.at(seq, |from, count| replica.named(from, count))?;
            let Some(Named { short, parents }) = named else { continue };
            if colour == Colour::Want {
                match mark(*short) {
                    Mark::Held => {
                        colour = Colour::Have;
                        self.held.push(Seq(seq));
                    }
                    marked => {
                        self.walk.found.push(seq);
                        self.lacked.push(marked == Mark::Lacked);
                    }
                }
            }
            for parent in parents {
                self.walk.push(parent.0, colour);
            }
        }
        Ok(self.walk.wanted_in_heap == 0)
    }

    /// How many entries were visited.
    #[must_use]
    pub fn visited(&self) -> u64 {
        self.walk.visited
    }

    /// After the walk, or as far as it came: spreads what is known to be lacked to what descends from it, over at most
    /// `budget` entries. Gives whether that is complete.
    pub fn settle(&mut self, dag: &(impl Dag + ?Sized), budget: usize) -> Result<bool, ReadError> {
        let found = &self.walk.found;
        let end = found.len().min(self.settled + budget);
        while self.settled < end {
            // Found in descending order, so the lowest is the last.
            let last = found.len() - 1 - self.settled;
            // A run of neighbours is one read.
            let mut first = last;
            while first > 0
                && found[first - 1] == found[first] + 1
                && last + 1 - first < end - self.settled
                && last - first < 255
            {
                first -= 1;
            }
            let edges = dag.parents(Seq(found[last]), last + 1 - first)?;
            for (index, parents) in (first..=last).rev().zip(edges) {
                let of_lacked = parents.iter().any(|parent| {
                    let at = found.binary_search_by(|seq| parent.0.cmp(seq));
                    at.is_ok_and(|at| self.lacked[at])
                });
                self.lacked[index] |= of_lacked;
            }
            self.settled += last + 1 - first;
        }
        Ok(self.settled == found.len())
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self) -> Estimated {
        let mut left = Vec::new();
        while let Some((seq, colour)) = self.walk.pop() {
            if colour == Colour::Want {
                left.push(Seq(seq));
            }
        }
        let uncertain = self.walk.found.iter().zip(&self.lacked).filter(|(_, lacked)| !**lacked);
        Estimated {
            uncertain: uncertain.map(|(seq, _)| Seq(*seq)).collect(),
            held: self.held,
            found: self.walk.finish(),
            left,
        }
    }
}
