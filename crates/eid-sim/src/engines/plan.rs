//! What one seed makes of a world of engines, before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use eid_sync::Rung;

use crate::net::Weather;
use crate::plan::{DiskKind, Villain};
use crate::rng::Rng;

/// Longest time with faults in one piece, virtual: pauses between attempts stay short.
pub const PIECE_US_MAX: u64 = 30 * 1_000_000;

/// Milliseconds between two looks at a database of which nothing is told at once.
const PERIOD_MS: Range<u64> = 1_000..5_000;

/// How nodes know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant names a graph")]
pub enum Shape {
    Chain,
    Ring,
    Star,
    Tree,
    Mesh,
}

/// Faults that the world injects, besides those of the network's weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant names a fault")]
pub enum Disturbance {
    CrashNow,
    CrashInCommit,
    Partition,
    HalfPartition,
    CutConnection,
    SilenceConnection,
    NewAddress,
}

/// Every one.
pub const DISTURBANCES: [Disturbance; 7] = [
    Disturbance::CrashNow,
    Disturbance::CrashInCommit,
    Disturbance::Partition,
    Disturbance::HalfPartition,
    Disturbance::CutConnection,
    Disturbance::SilenceConnection,
    Disturbance::NewAddress,
];

/// The options of a world of engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Nodes that keep the rules.
    pub honest: usize,
    /// How they know each other.
    pub shape: Shape,
    /// One more node, with the right to write, that does not keep the rules.
    pub villain: Option<Villain>,
    /// Nodes that know an address that is answered by silence.
    pub silent: BTreeSet<usize>,
    /// Who knows where whom is reached. Between two neighbours, one knows it or both.
    pub knows: BTreeSet<(usize, usize)>,
    /// Who has a right to which database. The first is who makes it; the honest ones are connected among themselves.
    pub members: Vec<Vec<usize>>,
    /// Who begins with nothing of a database: which, who.
    pub late: BTreeSet<(usize, usize)>,
    /// Databases of which nobody tells anything at once: which, and after how many milliseconds they are looked at.
    pub periods: BTreeMap<usize, u64>,
    /// How long the pieces with faults are, microseconds.
    pub pieces: Vec<u64>,
    /// How badly the network behaves in them.
    pub weather: Weather,
    /// What the nodes keep their rows on.
    pub disk: DiskKind,
    /// Mean pause between two faults, microseconds.
    pub chaos_us: u64,
    /// Which kinds of faults there are.
    pub disturbances: Vec<Disturbance>,
    /// Mean pause between two commits of one node, microseconds.
    pub pace_us: u64,
    /// Whether connections on which nothing arrives are broken when the faults end, as keep-alives of real ones do.
    pub reaps: bool,
    /// The rung that every session begins the ladder at; absent: the cheapest.
    pub first_rung: Option<Rung>,
}

impl Plan {
    /// What a seed makes of it. Each kind of fault is absent in a part of the worlds, so that none hides another.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::new(seed, "engines");
        let calm = rng.chance(80);
        // Large worlds are dear: most are small.
        let honest = if rng.chance(200) { 6 + rng.index(4) } else { 2 + rng.index(4) };
        let shapes = [Shape::Chain, Shape::Ring, Shape::Star, Shape::Tree, Shape::Mesh];
        let shape = shapes[rng.index(shapes.len())];
        let edges = edges(shape, honest, rng);
        let mut knows = BTreeSet::new();
        for &(a, b) in &edges {
            let both = rng.chance(400);
            let forwards = rng.chance(500);
            if both || forwards {
                knows.insert((a, b));
            }
            if both || !forwards {
                knows.insert((b, a));
            }
        }
        let databases = 1 + rng.index(4);
        let mut members: Vec<Vec<usize>> = (0..databases).map(|_| connected(&edges, honest, rng)).collect();
        let mut late = BTreeSet::new();
        for (database, members) in members.iter().enumerate() {
            for &member in members.iter().skip(1).filter(|_| rng.chance(200)) {
                // Who holds nothing is told nothing: it has to ask, and those whom it asks have to hold it.
                let neighbours = members.iter().filter(|other| edges.contains(&ordered(member, **other)));
                let mut asks = neighbours
                    .map(|other| knows.contains(&(member, *other)) && !late.contains(&(database, *other)));
                if asks.all(|asks| asks) {
                    late.insert((database, member));
                }
            }
        }
        let kinds =
            [Villain::Forger, Villain::Liar, Villain::Replayer, Villain::Equivocator, Villain::Poisoner];
        let villain = rng.pick(&kinds).copied().filter(|_| rng.chance(400));
        if villain.is_some() {
            for _ in 0..1 + rng.index(3) {
                let other = rng.index(honest);
                if rng.chance(600) {
                    knows.insert((other, honest));
                }
                if rng.chance(600) {
                    knows.insert((honest, other));
                }
                for members in &mut members {
                    if members.contains(&other) && !members.contains(&honest) {
                        members.push(honest);
                    }
                }
            }
        }
        let is_silent = rng.chance(350);
        let silent = (0..honest).filter(|_| rng.chance(400)).filter(|_| is_silent).collect();
        let pieces = if rng.chance(200) { 2 } else { 1 };
        let slow = &mut Rng::new(seed, "periods");
        let by_period = slow.chance(300);
        let mut periods = BTreeMap::new();
        for database in 0..databases {
            if by_period && slow.chance(600) {
                periods.insert(database, slow.range(PERIOD_MS));
            }
        }
        Self {
            honest,
            shape,
            villain,
            silent,
            knows,
            members,
            late,
            periods,
            pieces: (0..pieces).map(|_| rng.range(5_000_000..PIECE_US_MAX)).collect(),
            weather: if calm { Weather::fair() } else { Weather::foul(rng) },
            disk: if rng.chance(60) { DiskKind::Embedded } else { DiskKind::Journal },
            chaos_us: rng.range(500_000..6_000_000),
            disturbances: if calm {
                Vec::new()
            } else {
                DISTURBANCES.into_iter().filter(|_| rng.chance(550)).collect()
            },
            pace_us: rng.range(1_000_000..8_000_000),
            reaps: rng.chance(600),
            first_rung: {
                let rungs = [Rung::TipsKnown, Rung::Remembered, Rung::Sketch, Rung::Asked, Rung::ByIds];
                rng.pick(&rungs).copied().filter(|_| rng.chance(200))
            },
        }
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.honest + usize::from(self.villain.is_some())
    }
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// The edges of a connected graph.
fn edges(shape: Shape, nodes: usize, rng: &mut Rng) -> BTreeSet<(usize, usize)> {
    let mut edges: BTreeSet<(usize, usize)> = match shape {
        Shape::Chain | Shape::Ring => (1..nodes).map(|node| (node - 1, node)).collect(),
        Shape::Star => (1..nodes).map(|node| (0, node)).collect(),
        Shape::Tree | Shape::Mesh => (1..nodes).map(|node| (rng.index(node), node)).collect(),
    };
    match shape {
        Shape::Ring if nodes > 2 => drop(edges.insert((0, nodes - 1))),
        Shape::Mesh => {
            for _ in 0..nodes {
                let (a, b) = (rng.index(nodes), rng.index(nodes));
                if a != b {
                    edges.insert(ordered(a, b));
                }
            }
        }
        Shape::Chain | Shape::Ring | Shape::Star | Shape::Tree => {}
    }
    edges
}

/// Some nodes, connected among themselves, in the order in which one leads to the next.
fn connected(edges: &BTreeSet<(usize, usize)>, nodes: usize, rng: &mut Rng) -> Vec<usize> {
    let wanted = if rng.chance(600) { nodes } else { 1 + rng.index(nodes) };
    let mut some = vec![rng.index(nodes)];
    while some.len() < wanted {
        let next = |node: &usize| {
            !some.contains(node) && some.iter().any(|other| edges.contains(&ordered(*node, *other)))
        };
        let reached: Vec<usize> = (0..nodes).filter(next).collect();
        match rng.pick(&reached) {
            Some(&node) => some.push(node),
            None => break,
        }
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_members_of_a_database_are_connected_by_addresses_that_one_of_two_knows() {
        for seed in 0..500 {
            let plan = Plan::of(seed);
            assert!((2..=9).contains(&plan.honest) && (1..=4).contains(&plan.members.len()));
            assert!(plan.pieces.iter().all(|us| *us <= PIECE_US_MAX));
            for members in &plan.members {
                let honest: BTreeSet<usize> = members.iter().copied().filter(|m| *m < plan.honest).collect();
                let mut reached: BTreeSet<usize> = honest.iter().copied().take(1).collect();
                while let Some(next) = honest.iter().find(|a| {
                    let is_linked =
                        |b: &usize| plan.knows.contains(&(**a, *b)) || plan.knows.contains(&(*b, **a));
                    !reached.contains(a) && reached.iter().any(is_linked)
                }) {
                    reached.insert(*next);
                }
                assert_eq!(reached, honest, "seed {seed}");
            }
        }
    }
}
