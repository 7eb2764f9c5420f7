//! What the ladder costs on shapes of DAGs: round trips, bytes that are no entries, entries that were there already.

use std::collections::BTreeSet;

use bytes::Bytes;
use eid_core::dag::Replica;
use eid_core::sketch::CELL_BYTES;
use eid_core::{EntryId, TreeId};
use eid_proto::message::{Batch, Hints, Message};
use eid_proto::{Arrived, Known, List, Rung, limits};

use proptest::prelude::*;

use crate::pair::{Mem, Pair, finish, sync};

/// Draws numbers: SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// What a session came to.
#[derive(Debug)]
struct Cost {
    rung: Rung,
    /// Entries that one side lacked.
    differing: usize,
    /// Round trips until the initiator had everything, and until both had.
    pull: u32,
    both: u32,
    metadata: usize,
    /// Entries that came and were there already.
    twice: u64,
    /// Entries that both sides visited to find what to send.
    visited: u64,
    /// All bytes by those of the missing entries alone, in percent.
    percent: usize,
}

/// The bytes of entries in batches of their own.
fn packed<'a>(tree: &TreeId, entries: impl Iterator<Item = &'a eid_core::Entry>) -> usize {
    let entries: Vec<Arrived> = entries
        .map(|entry| Arrived { block: entry.block().clone(), payloads: entry.payloads().to_vec() })
        .collect();
    let batch = |some: &[Arrived]| Message::Batch(Batch::pack(tree, some, 0)).encode().len();
    entries.chunks(limits::BATCH_ENTRIES_MAX).map(batch).sum()
}

fn cost_of(pair: Pair) -> Cost {
    let (a, b) = (pair.initiator.mem.ids(), pair.responder.mem.ids());
    let missing = |mem: &Mem, other: &BTreeSet<EntryId>| {
        let entries: Vec<_> = mem.log.iter().filter(|entry| !other.contains(&entry.id())).cloned().collect();
        (entries.len(), packed(&mem.tree(), entries.iter()))
    };
    let ((pushed, push_bytes), (pulled, pull_bytes)) =
        (missing(&pair.initiator.mem, &b), missing(&pair.responder.mem, &a));
    let pair = finish(pair);
    let (initiator, responder) = pair.summaries();
    Cost {
        rung: initiator.rung.unwrap(),
        differing: pushed + pulled,
        pull: pair.pull_rounds,
        both: initiator.turns.div_ceil(2),
        metadata: pair.initiator.metadata + pair.responder.metadata,
        twice: initiator.duplicates + responder.duplicates,
        visited: initiator.visited + responder.visited,
        percent: (pair.initiator.sent + pair.responder.sent) * 100 / (push_bytes + pull_bytes).max(1),
    }
}

fn cold(a: Mem, b: Mem) -> Cost {
    cost_of(Pair::new(a, b, Known::default()))
}

/// A line of so many entries on both sides.
fn line(count: usize) -> (Mem, Mem) {
    let mut a = Mem::with_root(1);
    a.line(1, count);
    let b = a.fork(2);
    (a, b)
}

/// Both sides begin with `shared` entries of so many writers, and write so many each on their own.
fn writers(count: usize, shared: usize, private: (usize, usize), draw: &mut Draw) -> (Mem, Mem) {
    let mut a = Mem::with_root(1);
    let mut heads: Vec<EntryId> = vec![a.log[0].id(); count];
    let write = |mem: &mut Mem, heads: &mut Vec<EntryId>, draw: &mut Draw| {
        let (own, other) = (draw.below(count), draw.below(count));
        let on = BTreeSet::from([heads[own], heads[other]]).into_iter().collect::<Vec<_>>();
        heads[own] = mem.write(1, &on, &format!("{}", draw.below(usize::MAX)));
    };
    (0..shared).for_each(|_| write(&mut a, &mut heads, draw));
    let mut b = a.fork(2);
    let mut others = heads.clone();
    (0..private.0).for_each(|_| write(&mut a, &mut heads, draw));
    (0..private.1).for_each(|_| write(&mut b, &mut others, draw));
    (a, b)
}

/// Writers in lines of their own who now and then see others; each side has heard of most of what was written.
fn gossip(count: usize, entries: usize, late: usize, draw: &mut Draw) -> (Mem, Mem) {
    let mut all = Mem::with_root(9);
    let mut heads: Vec<EntryId> = vec![all.log[0].id(); count];
    let mut authors = vec![count];
    for _ in 0..entries {
        let own = draw.below(count);
        let mut on = BTreeSet::from([heads[own]]);
        if draw.below(10) == 0 {
            on.insert(heads[draw.below(count)]);
        }
        heads[own] =
            all.write(1, &on.into_iter().collect::<Vec<_>>(), &format!("{:0>100}", draw.below(usize::MAX)));
        authors.push(own);
    }
    // How far each side has heard of each writer, in entries of the whole before the end.
    let mut side = |epoch: u64| {
        let heard: Vec<usize> = (0..count).map(|_| all.log.len() - draw.below(late)).collect();
        let mut mem = Mem::empty(epoch);
        let mut order: Vec<usize> = (0..all.log.len()).collect();
        // Arrival is out of order by some.
        order.sort_by_cached_key(|at| at + draw.below(20));
        let mut before = usize::MAX;
        while mem.log.len() != before {
            before = mem.log.len();
            for at in &order {
                let entry = all.log[*at].clone();
                if authors[*at] == count || *at < heard[authors[*at]] {
                    drop(mem.add(entry));
                }
            }
        }
        mem
    };
    (side(1), side(2))
}

/// Runs a pair with other hints than the initiator's.
fn poisoned(pair: Pair, change: impl Fn(&mut Hints) + 'static) -> Cost {
    let mut pair = pair;
    pair.tamper = Box::new(move |_, frame| match Message::decode(&frame) {
        Ok(Message::Open(mut open)) => {
            change(&mut open.hints);
            Message::Open(open).encode()
        }
        _ => frame,
    });
    cost_of(pair)
}

/// A line with so many entries more on each side.
fn forked(shared: usize, first: usize, second: usize) -> (Mem, Mem) {
    let (mut a, mut b) = line(shared);
    a.line(2, first);
    b.line(3, second);
    (a, b)
}

fn fan() -> (Mem, Mem) {
    let (mut a, mut b) = line(100);
    let base: Vec<EntryId> = a.log.iter().map(eid_core::Entry::id).collect();
    for i in 0..1_000 {
        let on = [base[i % 100]];
        if i % 10 < 7 {
            a.write(1, &on, &format!("{i}"));
        }
        if i % 10 >= 3 {
            b.write(1, &on, &format!("{i}"));
        }
    }
    (a, b)
}

/// One side has a branch from near the root, the other goes on at the top.
fn near_the_root() -> (Mem, Mem) {
    let (mut a, mut b) = line(5_000);
    let mut on = a.log[50].id();
    for i in 0..20 {
        on = a.write(3, &[on], &format!("old {i}"));
    }
    b.line(2, 20);
    (a, b)
}

#[test]
fn a_line_that_is_behind_or_ahead_costs_one_round_trip_and_little_more_than_its_entries() {
    let (a, b) = forked(5_000, 100, 0);
    for (cost, rung) in [(cold(a.clone(), b.clone()), Rung::Sketch), (cold(b, a), Rung::TipsKnown)] {
        assert_eq!((cost.rung, cost.differing, cost.pull, cost.both), (rung, 100, 1, 2), "{cost:?}");
        assert!(cost.metadata < 3_200 && cost.twice <= 8, "{cost:?}");
    }
}

#[test]
fn what_differs_by_few_entries_is_told_exactly_and_below_four_kilobytes() {
    let (a, b) = writers(64, 5_000, (32, 32), &mut Draw(4));
    let (few, less) = writers(100, 5_000, (5, 3), &mut Draw(2));
    let (old, new) = near_the_root();
    for (a, b, differing) in [(a, b, 64), (few, less, 8), (old.clone(), new.clone(), 40), (new, old, 40)] {
        let cost = cold(a, b);
        assert_eq!(
            (cost.rung, cost.differing, cost.pull, cost.both),
            (Rung::Sketch, differing, 1, 2),
            "{cost:?}"
        );
        assert!(cost.metadata < 4_000 && cost.twice == 0, "{cost:?}");
    }
}

#[test]
fn a_branch_from_near_the_root_is_pushed_without_a_walk_over_what_came_since() {
    let (a, b) = near_the_root();
    let cost = cold(a.clone(), b.clone());
    assert!(cost.visited < 100 && cost.twice == 0, "{cost:?}");
    // What is said to be lacked and is not all of it, or is of nobody, is not relied upon.
    let held = a.log[40].id().prefix();
    for change in [vec![], vec![held], vec![[9; 8]]] {
        let mut pair = Pair::new(a.clone(), b.clone(), Known::default());
        pair.tamper = Box::new(move |to_responder, frame| match Message::decode(&frame) {
            Ok(Message::Plan(mut plan)) if !to_responder => {
                assert_eq!(plan.lacks.len(), 20);
                plan.lacks = List::new(plan.lacks.iter().skip(2).chain(&change).copied().collect());
                Message::Plan(plan).encode()
            }
            _ => frame,
        });
        let cost = cost_of(pair);
        assert_eq!((cost.both, cost.twice), (2, 0), "{cost:?}");
        assert!(cost.visited > 1_000, "{cost:?}");
    }
}

#[test]
fn lines_that_went_apart_cost_one_round_trip_and_a_tenth_more_than_their_entries() {
    for (shared, first, second, metadata, twice) in [
        (5_000, 50, 50, 3_200, 8),
        (2_000, 500, 700, 3_200, 50),
        (2_000, 7_000, 7_000, 3_200, 700),
        (1_000, 30, 6_000, 3_200, 10),
        (1_000, 6_000, 30, 3_200, 500),
    ] {
        let (a, b) = forked(shared, first, second);
        let cost = cold(a, b);
        assert_eq!((cost.rung, cost.pull, cost.both), (Rung::Sketch, 1, 2), "{cost:?}");
        assert!(cost.metadata < metadata && cost.twice <= twice, "{cost:?}");
        assert!(cost.differing < 1_000 || cost.percent <= 110, "{cost:?}");
    }
}

#[test]
fn many_writers_and_a_fan_cost_one_round_trip_and_a_tenth_more_than_their_entries() {
    let (a, b) = writers(100, 4_000, (4_000, 4_000), &mut Draw(1));
    let cost = cold(a, b);
    assert_eq!((cost.rung, cost.pull, cost.both), (Rung::Sketch, 1, 2), "{cost:?}");
    assert!(cost.percent <= 110, "{cost:?}");
    let (a, b) = fan();
    let cost = cold(a, b);
    assert_eq!((cost.rung, cost.pull, cost.both, cost.twice), (Rung::Sketch, 1, 2, 0), "{cost:?}");
}

#[test]
fn gossip_that_leaves_hundreds_of_lines_uncertain_is_asked_about() {
    let (a, b) = gossip(200, 5_000, 3_600, &mut Draw(3));
    let cost = cold(a, b);
    assert!(cost.differing >= 1_000 && cost.percent <= 110, "{cost:?}");
    assert!(cost.pull <= 2 && cost.both <= 3, "{cost:?}");
}

#[test]
fn gossip_of_which_little_is_open_is_sent_at_once() {
    let (a, b) = gossip(50, 2_000, 400, &mut Draw(6));
    let cost = cold(a, b);
    assert!((65..512).contains(&cost.differing), "{cost:?}");
    assert_eq!((cost.rung, cost.pull, cost.both), (Rung::Sketch, 1, 2), "{cost:?}");
    assert!(cost.metadata < 4_000 && cost.twice * 2 <= cost.differing as u64, "{cost:?}");
}

#[test]
fn what_is_remembered_costs_below_two_kilobytes_also_when_others_told_both_the_same() {
    let (mut a, mut b) = forked(2_000, 20, 30);
    let known = {
        let pair = sync(a, b, Known::default());
        let known = pair.known().0;
        (a, b) = pair.into_mems();
        known
    };
    // Both hear of the same entries from a third.
    let mut third = a.fork(3);
    third.line(9, 600);
    for entry in third.log.iter().skip(a.log.len()) {
        a.add(entry.clone());
        b.add(entry.clone());
    }
    a.line(2, 20);
    b.line(3, 20);
    let cost = cost_of(Pair::new(a, b, known));
    assert_eq!((cost.rung, cost.pull, cost.both), (Rung::Remembered, 1, 2), "{cost:?}");
    assert!(cost.metadata < 2_000 && cost.twice <= 8, "{cost:?}");
}

#[test]
fn every_rung_can_be_forced_and_brings_the_same() {
    let (few, less) = forked(100, 30, 40);
    let (many, more) = forked(500, 300, 200);
    let (wide, wider) = writers(70, 400, (90, 80), &mut Draw(5));
    for (a, b) in [(few, less), (many, more), (wide, wider), fan(), near_the_root()] {
        for rung in [Rung::TipsKnown, Rung::Remembered, Rung::Sketch, Rung::Asked, Rung::ByIds] {
            let cost = cost_of(Pair::new(a.clone(), b.clone(), Known::default()).beginning_at(rung));
            assert_eq!(cost.rung, rung.max(Rung::Sketch), "{cost:?}");
            assert!(rung < Rung::Asked || cost.twice == 0, "{cost:?}");
        }
    }
}

#[test]
fn cells_that_are_anything_cost_one_more_round_trip() {
    let junk = |hints: &mut Hints| {
        let Hints::Sketch { strata, .. } = hints else { return };
        let mut draw = Draw(1);
        let mut junk = |cells: &Bytes| cells.iter().map(|_| u8::try_from(draw.below(256)).unwrap()).collect();
        *strata = List::new(strata.iter().map(&mut junk).collect());
    };
    for (first, second) in [(50, 50), (300, 5), (2_000, 1_500)] {
        let (a, b) = forked(2_000, first, second);
        let cost = poisoned(Pair::new(a, b, Known::default()), junk);
        assert!(cost.pull <= 2 && cost.both <= 3, "{cost:?}");
        assert!(cost.differing < 1_000 || cost.percent <= 110, "{cost:?}");
    }
}

#[test]
fn hints_that_claim_what_is_lacked_are_found_out_and_cost_one_more_round_trip() {
    // As many on each side, so that the numbers do not give it away.
    let (a, b) = forked(2_000, 50, 50);
    let theirs = b.sketch().unwrap().unwrap();
    let claims = move |hints: &mut Hints| {
        let Hints::Sketch { strata, .. } = hints else { return };
        let of = |(stratum, cells): (usize, &Bytes)| {
            Bytes::from(theirs.stratum(stratum).to_bytes(cells.len() / CELL_BYTES))
        };
        *strata = List::new(strata.iter().enumerate().map(of).collect());
    };
    let cost = poisoned(Pair::new(a, b, Known::default()), claims);
    assert_eq!((cost.rung, cost.pull, cost.both), (Rung::ByIds, 2, 3), "{cost:?}");
    // And where everything is named.
    let (a, b) = forked(100, 50, 50);
    let foreign = b.log[130].id().prefix();
    let claims = move |hints: &mut Hints| {
        let Hints::All(all) = hints else { panic!("all are named") };
        *all = List::new(all.iter().copied().chain([foreign]).collect());
    };
    let cost = poisoned(Pair::new(a, b, Known::default()), claims);
    assert_eq!((cost.rung, cost.pull, cost.both), (Rung::ByIds, 2, 3), "{cost:?}");
}

/// Changes of hints that nobody honest makes.
fn change() -> impl Strategy<Value = Hints> {
    let short = || any::<[u8; 8]>();
    let cells = proptest::collection::vec(any::<u8>(), 0..3_000).prop_map(Bytes::from);
    prop_oneof![
        Just(Hints::None),
        proptest::collection::vec(short(), 0..limits::SAMPLES_MAX)
            .prop_map(|all| Hints::Samples(List::new(all))),
        proptest::collection::vec(short(), 0..limits::ALL_MAX).prop_map(|all| Hints::All(List::new(all))),
        (proptest::collection::vec(short(), 0..9), proptest::collection::vec(cells, 0..6)).prop_map(
            |(samples, strata)| Hints::Sketch { samples: List::new(samples), strata: List::new(strata) }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_hints_say_both_sides_converge(hints in change(), seed: u64, rung in 0usize..3) {
        let (a, b) = writers(5, 40, (30, 20), &mut Draw(seed));
        let rung = [Rung::InSync, Rung::Sketch, Rung::Asked][rung];
        let pair = Pair::new(a, b, Known::default()).beginning_at(rung);
        poisoned(pair, move |said| *said = hints.clone());
    }
}
