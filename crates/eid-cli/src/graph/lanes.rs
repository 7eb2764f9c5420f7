//! Gives every node of a DAG a lane, from the newest to the oldest, so that no two lines lie on one another.
//!
//! Below a node, a lane leads to one parent, and to nothing else until that parent is reached; lines to one parent may
//! share it. So a lane never lies between two nodes that it does not connect, and memory grows with the lines that are
//! open and not with the DAG.
//!
//! ```
//! use eid_cli::graph::lanes::Lanes;
//!
//! // a <- b, a <- c, b c <- d
//! let mut lanes = Lanes::default();
//! let d = lanes.place(&'d', &['b', 'c']);
//! assert_eq!((d.lane, d.edges[0].lane, d.edges[1].lane), (0, 0, 1));
//! assert_eq!(lanes.place(&'c', &['a']).lane, 1);
//! let b = lanes.place(&'b', &['a']);
//! assert!(b.edges[0].joins, "the line to a is there already");
//! assert_eq!(lanes.place(&'a', &[]).lane, 1);
//! ```

use std::collections::BTreeMap;

/// The lanes below the last node that was placed.
#[derive(Debug)]
pub struct Lanes<K> {
    open: Vec<Option<K>>,
    /// The lane that leads to each node.
    leads: BTreeMap<K, usize>,
}

impl<K> Default for Lanes<K> {
    fn default() -> Self {
        Self { open: Vec::new(), leads: BTreeMap::new() }
    }
}

/// Where a node lies, and what goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its lane.
    pub lane: usize,
    /// Whether a line comes from above.
    pub has_child: bool,
    /// The lanes that go by, ascending.
    pub through: Vec<usize>,
    /// The line to each parent, in their order.
    pub edges: Vec<Edge>,
}

/// The beginning of a line to a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The lane that leads to the parent.
    pub lane: usize,
    /// Whether it led there before.
    pub joins: bool,
}

impl<K: Ord + Clone> Lanes<K> {
    /// Places the next node. All its children have been placed before, and none of its parents.
    pub fn place(&mut self, node: &K, parents: &[K]) -> Placed {
        let awaited = self.leads.remove(node);
        let lane = awaited.unwrap_or_else(|| self.free_near(0));
        if awaited.is_some() {
            self.open[lane] = None;
        }
        let through: Vec<usize> =
            self.open.iter().enumerate().filter(|(_, key)| key.is_some()).map(|(lane, _)| lane).collect();
        let edges = parents
            .iter()
            .map(|parent| match self.leads.get(parent) {
                Some(lane) => Edge { lane: *lane, joins: true },
                None => {
                    let lane = self.free_near(lane);
                    self.open.resize(self.open.len().max(lane + 1), None);
                    self.open[lane] = Some(parent.clone());
                    self.leads.insert(parent.clone(), lane);
                    Edge { lane, joins: false }
                }
            })
            .collect();
        while self.open.last().is_some_and(Option::is_none) {
            self.open.pop();
        }
        Placed { lane, has_child: awaited.is_some(), through, edges }
    }

    /// The lanes that still lead somewhere, ascending.
    #[must_use]
    pub fn open(&self) -> Vec<usize> {
        let mut lanes: Vec<usize> = self.leads.values().copied().collect();
        lanes.sort_unstable();
        lanes
    }

    /// The free lane nearest to this one; of two, the right one.
    fn free_near(&self, lane: usize) -> usize {
        let is_free = |lane: usize| self.open.get(lane).is_none_or(Option::is_none);
        let right = (lane..).find(|lane| is_free(*lane)).unwrap_or(self.open.len());
        let left = (0..lane).rev().find(|lane| is_free(*lane));
        left.filter(|left| lane - left < right - lane).unwrap_or(right)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The parents of each node, newest first: node n may have those after it.
    fn any_dag() -> impl Strategy<Value = Vec<Vec<usize>>> {
        let parents = proptest::collection::btree_set(0usize..40, 0..5);
        proptest::collection::vec((parents, 0usize..4), 1..60).prop_map(|nodes| {
            let count = nodes.len();
            let near = |(node, (parents, how)): (usize, (BTreeSet<usize>, usize))| {
                // Mostly near ones, as in histories.
                let reach = [2, 6, 12, 40][how];
                let ids = parents.into_iter().map(|parent| node + 1 + parent % reach);
                ids.filter(|parent| *parent < count).collect::<BTreeSet<_>>().into_iter().collect()
            };
            nodes.into_iter().enumerate().map(near).collect()
        })
    }

    proptest! {
        /// Follows the lines by nothing but what is drawn.
        #[test]
        fn every_line_connects_its_ends_and_no_two_share_a_lane(dag in any_dag()) {
            let mut lanes = Lanes::default();
            let mut leads: BTreeMap<usize, usize> = BTreeMap::new();
            for (node, parents) in dag.iter().enumerate() {
                let placed = lanes.place(&node, parents);
                // A line that ends here leads here, and one that does not end here is not interrupted.
                let ends = leads.remove(&placed.lane);
                prop_assert_eq!(ends, placed.has_child.then_some(node));
                prop_assert_eq!(&placed.through, &leads.keys().copied().collect::<Vec<_>>());
                prop_assert!(!leads.values().any(|target| *target == node), "a line to it was missed");
                prop_assert_eq!(placed.edges.len(), parents.len());
                for (edge, parent) in placed.edges.iter().zip(parents) {
                    prop_assert_eq!(leads.insert(edge.lane, *parent), edge.joins.then_some(*parent));
                }
                let targets: BTreeSet<usize> = leads.values().copied().collect();
                prop_assert_eq!(targets.len(), leads.len(), "one lane for each parent");
                prop_assert_eq!(lanes.open(), leads.keys().copied().collect::<Vec<_>>());
                // No wider than there are lines.
                let width = leads.keys().next_back().map_or(0, |lane| lane + 1);
                prop_assert!(width <= dag.len());
            }
            prop_assert!(leads.is_empty());
        }
    }

    #[test]
    fn a_chain_stays_in_its_lane_and_a_lane_that_is_free_is_used_again() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.place(&9, &[8]).lane, 0);
        assert_eq!(lanes.place(&8, &[6, 7]).edges[1].lane, 1);
        assert_eq!(lanes.place(&7, &[6]).edges, [Edge { lane: 0, joins: true }]);
        let six = lanes.place(&6, &[4, 5]);
        assert_eq!((six.lane, six.through, six.edges[1].lane), (0, vec![], 1));
    }
}
