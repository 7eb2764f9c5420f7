use super::*;
use proptest::prelude::*;

/// Parents by position: `edges[i]` are positions below `i`.
#[derive(Debug)]
struct Drawn(Vec<Vec<Seq>>);

impl Dag for Drawn {
    fn parents(&self, from: Seq, count: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        let from = usize::try_from(from.0).unwrap();
        Ok(self.0[from..(from + count).min(self.0.len())].to_vec())
    }
}

fn naive_ancestors(dag: &Drawn, of: &[Seq]) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<u64> = of.iter().map(|seq| seq.0).collect();
    while let Some(seq) = open.pop() {
        if seen.insert(seq) {
            open.extend(dag.0[usize::try_from(seq).unwrap()].iter().map(|parent| parent.0));
        }
    }
    seen
}

fn seqs(set: &SeqSet) -> BTreeSet<u64> {
    set.iter().map(|seq| seq.0).collect()
}

prop_compose! {
    fn drawn()(shape in proptest::collection::vec(proptest::collection::vec(any::<u16>(), 1..4), 1..80)) -> Drawn {
        let mut edges = vec![Vec::new()];
        for (i, picks) in shape.iter().enumerate() {
            let below: BTreeSet<u64> = picks.iter().map(|pick| u64::from(*pick) % (i as u64 + 1)).collect();
            edges.push(below.into_iter().map(Seq).collect());
        }
        Drawn(edges)
    }
}

fn some_of(dag: &Drawn, picks: &[u16]) -> Vec<Seq> {
    picks.iter().map(|pick| Seq(u64::from(*pick) % dag.0.len() as u64)).collect()
}

proptest! {
    #[test]
    fn difference_is_ancestors_minus_ancestors(dag in drawn(), want: Vec<u16>, have: Vec<u16>) {
        let (want, have) = (some_of(&dag, &want), some_of(&dag, &have));
        let expected: BTreeSet<u64> =
            naive_ancestors(&dag, &want).difference(&naive_ancestors(&dag, &have)).copied().collect();
        let found = difference(&dag, &want, &have).unwrap();
        prop_assert_eq!(seqs(&found), expected.clone());
        prop_assert_eq!(found.len(), expected.len() as u64);
        // Stopping and going on changes nothing.
        let mut walk = Difference::new(want, have);
        while !walk.step(&dag, 1).unwrap() {}
        prop_assert_eq!(walk.finish(), found);
    }

    #[test]
    fn probing_finds_exactly_what_the_other_side_lacks(dag in drawn(), held: Vec<u16>, width in 1usize..20) {
        let held = naive_ancestors(&dag, &some_of(&dag, &held));
        let all: Vec<Seq> = (0..dag.0.len() as u64).map(Seq).collect();
        let tips = heads(&dag, &all).unwrap();
        let mut probe = Probe::new(tips, []);
        loop {
            let window = probe.window(&dag, width).unwrap();
            if window.is_empty() {
                break;
            }
            let answer: Vec<bool> = window.iter().map(|seq| held.contains(&seq.0)).collect();
            probe.answer(&answer);
        }
        let lacking: BTreeSet<u64> = all.iter().map(|seq| seq.0).filter(|seq| !held.contains(seq)).collect();
        prop_assert_eq!(seqs(&probe.finish()), lacking);
    }

    #[test]
    fn heads_and_is_ancestor_agree_with_sets(dag in drawn(), picks: Vec<u16>) {
        let set = some_of(&dag, &picks);
        let expected: BTreeSet<u64> = set.iter().map(|s| s.0)
            .filter(|s| !set.iter().any(|o| o.0 != *s && naive_ancestors(&dag, &[*o]).contains(s))).collect();
        let found: BTreeSet<u64> = heads(&dag, &set).unwrap().into_iter().map(|seq| seq.0).collect();
        prop_assert_eq!(found, expected);
        for (a, b) in set.iter().zip(set.iter().skip(1)) {
            prop_assert_eq!(is_ancestor(&dag, *a, *b).unwrap(), naive_ancestors(&dag, &[*b]).contains(&a.0));
        }
    }
}

#[test]
fn a_recent_difference_in_a_long_history_costs_a_few_visits() {
    let mut edges: Vec<Vec<Seq>> = vec![vec![]];
    edges.extend((1..100_000).map(|i| vec![Seq(i - 1)]));
    let dag = Drawn(edges);
    let mut walk = Difference::new([Seq(99_999)], [Seq(99_990)]);
    while !walk.step(&dag, u64::MAX).unwrap() {}
    assert_eq!(walk.visited(), 9);
    assert_eq!(walk.finish().len(), 9);
}

#[test]
fn walks_over_a_million_and_over_a_hundred_thousand_tips_do_not_recurse() {
    let mut edges: Vec<Vec<Seq>> = vec![vec![]];
    edges.extend((1..1_000_000).map(|i| vec![Seq(i - 1)]));
    assert_eq!(ancestors(&Drawn(edges), &[Seq(999_999)]).unwrap().len(), 1_000_000);
    let mut fan: Vec<Vec<Seq>> = vec![vec![]];
    fan.extend((1..=100_000).map(|_| vec![Seq(0)]));
    let tips: Vec<Seq> = (1..=100_000).map(Seq).collect();
    let fan = Drawn(fan);
    assert_eq!(difference(&fan, &tips, &tips[..50_000]).unwrap().len(), 50_000);
    assert_eq!(heads(&fan, &tips).unwrap().len(), 100_000);
}

#[test]
fn parents_come_first_whatever_the_given_order() {
    let id = |n: u8| EntryId([n; 32]);
    let (a, b, c) = (id(1), id(2), id(3));
    let items = [(c, &[a, b][..]), (b, &[a][..]), (a, &[][..])];
    assert_eq!(parents_first(&items), [2, 1, 0]);
}

#[test]
fn tips_of_a_diamond_and_of_repeated_arrival() {
    let id = |n: u8| EntryId([n; 32]);
    let mut tips = BTreeSet::new();
    add_to_tips(&mut tips, id(0), &[]);
    add_to_tips(&mut tips, id(1), &[id(0)]);
    add_to_tips(&mut tips, id(2), &[id(0)]);
    assert_eq!(tips, BTreeSet::from([id(1), id(2)]));
    add_to_tips(&mut tips, id(3), &[id(1), id(2)]);
    assert_eq!(tips, BTreeSet::from([id(3)]));
}

proptest! {
    #[test]
    fn a_difference_above_a_floor_is_the_difference_cut_there(dag in drawn(), want: Vec<u16>, have: Vec<u16>, floor in 0u64..80) {
        let (want, have) = (some_of(&dag, &want), some_of(&dag, &have));
        let whole = seqs(&difference(&dag, &want, &have).unwrap());
        let mut walk = Difference::above(Seq(floor), want, have);
        while !walk.step(&dag, 7).unwrap() {}
        let cut: BTreeSet<u64> = whole.into_iter().filter(|seq| *seq >= floor).collect();
        prop_assert_eq!(seqs(&walk.finish()), cut);
    }
}

impl Replica for Drawn {
    fn epoch(&self) -> Epoch {
        Epoch(0)
    }

    fn end(&self) -> Seq {
        Seq(self.0.len() as u64)
    }

    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(Vec::new())
    }

    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(vec![None; ids.len()])
    }

    fn find_prefixes(&self, prefixes: &[ShortId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(vec![None; prefixes.len()])
    }

    fn named(&self, from: Seq, count: usize) -> Result<Vec<Named>, ReadError> {
        let named = self.parents(from, count)?.into_iter().enumerate();
        Ok(named.map(|(n, parents)| Named { short: (from.0 + n as u64).to_be_bytes(), parents }).collect())
    }

    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        Ok(None)
    }

    fn log(&self, _: Range<Seq>, _: usize) -> Result<Vec<Logged>, ReadError> {
        Ok(Vec::new())
    }
}

#[test]
fn what_is_known_of_the_start_is_not_walked_down_to() {
    // A line of a thousand, with a late branch from entry 3.
    let mut edges = vec![vec![]];
    edges.extend((1..1000).map(|n| vec![Seq(n - 1)]));
    edges.push(vec![Seq(3)]);
    let dag = Drawn(edges);
    let mut walk = Difference::new([Seq(999), Seq(1000)], [Seq(999), Seq(3)]);
    while !walk.step(&dag, 1).unwrap() {}
    assert!(walk.visited() < 3, "{}", walk.visited());
    assert_eq!(seqs(&walk.finish()), BTreeSet::from([1000]));
}

proptest! {
    #[test]
    fn an_estimate_leaves_nothing_out_and_is_sure_only_of_what_is_lacked(
        dag in drawn(),
        held: Vec<u16>,
        every in 1u64..9,
        budget in 1u64..40,
        whole: bool,
    ) {
        let held = naive_ancestors(&dag, &some_of(&dag, &held));
        let tips: Vec<Seq> = (0..dag.0.len() as u64).map(Seq).collect();
        let mark = |short: ShortId| match u64::from_be_bytes(short) {
            seq if seq % every != 0 => Mark::Unknown,
            seq if held.contains(&seq) => Mark::Held,
            _ => Mark::Lacked,
        };
        let mut estimate = Estimate::new(tips, held.iter().take(1).copied().map(Seq));
        while !estimate.step(&dag, &mark, budget).unwrap() && whole {}
        while !estimate.settle(&dag, usize::try_from(budget).unwrap()).unwrap() {}
        let estimated = estimate.finish();
        let lacked: BTreeSet<u64> = (0..dag.0.len() as u64).filter(|seq| !held.contains(seq)).collect();
        let found = seqs(&estimated.found);
        let uncertain: BTreeSet<u64> = estimated.uncertain.iter().map(|seq| seq.0).collect();
        let below = naive_ancestors(&dag, &estimated.left);
        prop_assert!(lacked.iter().all(|seq| found.contains(seq) || below.contains(seq)));
        prop_assert!(found.difference(&uncertain).all(|seq| lacked.contains(seq)));
        if whole {
            prop_assert!(estimated.left.is_empty());
            // Closed upwards: whatever descends from what is found is found.
            for (seq, parents) in dag.0.iter().enumerate() {
                let child_of_found = parents.iter().any(|parent| found.contains(&parent.0));
                prop_assert!(!child_of_found || found.contains(&(seq as u64)));
            }
        }
    }
}
