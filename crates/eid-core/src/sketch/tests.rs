use proptest::prelude::*;

use super::*;

const SALT: Salt = Salt(7);

/// The `n`th short id of a series, as random as ids are.
fn short(series: u64, n: u64) -> ShortId {
    mix(mix(series).wrapping_add(n.wrapping_mul(STEP))).to_be_bytes()
}

fn sketch(shorts: impl IntoIterator<Item = ShortId>) -> Sketch {
    let mut sketch = Sketch::new(SALT);
    shorts.into_iter().for_each(|short| sketch.toggle(short));
    sketch
}

fn peel(a: &Sketch, b: &Sketch, stratum: usize, cells: usize) -> Option<BTreeSet<ShortId>> {
    let sent = Cells::from_bytes(&b.stratum(stratum).to_bytes(cells)).unwrap();
    a.stratum(stratum).difference(&sent).peel(SALT, stratum)
}

#[test]
fn the_difference_of_two_large_sets_is_read_from_a_few_cells() {
    let shared = || (0..20_000).map(|n| short(1, n));
    let a = sketch(shared().chain((0..30).map(|n| short(2, n))));
    let b = sketch(shared().chain((0..20).map(|n| short(3, n))));
    let expected: BTreeSet<ShortId> =
        (0..30).map(|n| short(2, n)).chain((0..20).map(|n| short(3, n))).collect();
    assert_eq!(peel(&a, &b, 0, 96), Some(expected));
    assert_eq!(peel(&a, &a, 0, 1), Some(BTreeSet::new()));
}

#[test]
fn a_stratum_reads_its_sample_of_a_difference_that_the_first_does_not() {
    let a = sketch((0..10_000).map(|n| short(1, n)));
    let b = sketch((0..5_000).map(|n| short(1, n)));
    assert_eq!(peel(&a, &b, 0, FIRST_CELLS_MAX), None);
    let read = peel(&a, &b, 3, 32).unwrap();
    let expected = (5_000..10_000).map(|n| short(1, n)).filter(|short| is_sampled(SALT, *short, 3)).collect();
    assert_eq!(read, expected);
    assert!((2..25).contains(&read.len()), "{}", read.len());
}

#[test]
fn the_cells_that_are_sent_read_the_differences_that_they_are_meant_for() {
    // Of a hundred differences of these sizes at least so many are read.
    for (cells, size, least) in [(112, 64, 94), (44, 24, 84), (28, 14, 84), (128, 80, 90)] {
        let read = (0..100u64).filter(|run| {
            let set = sketch((0..size).map(|n| short(100 + run, n)));
            peel(&set, &Sketch::new(SALT), 0, cells).is_some()
        });
        let read = read.count();
        assert!(read >= least, "{size} of {cells} cells: {read} of 100");
    }
}

#[test]
fn an_entry_is_in_few_cells() {
    let count = |n| Item::new(SALT, u64::from_be_bytes(short(5, n))).cells(CELLS_MAX).count();
    let mean = (0..10_000).map(count).sum::<usize>() as f64 / 10_000.0;
    // The sum of 2 / (i + 2) over the cells.
    assert!((8.2..9.2).contains(&mean), "{mean}");
}

#[test]
fn ids_ground_into_every_stratum_are_not_read_and_do_no_other_harm() {
    let mut ground = (0..).map(|n| short(9, n)).filter(|short| is_sampled(SALT, *short, STRATA - 1));
    let poisoned = sketch(std::iter::from_fn(|| ground.next()).take(300));
    for stratum in 0..STRATA {
        assert_eq!(peel(&poisoned, &Sketch::new(SALT), stratum, CELLS_MAX), None);
    }
}

#[test]
fn two_entries_of_one_short_id_hide_each_other() {
    let a = sketch([short(1, 1)]);
    let b = sketch([short(1, 1)]);
    assert_eq!(peel(&a, &b, 0, 96), Some(BTreeSet::new()));
}

#[test]
fn a_cell_that_comes_again_ends_the_reading() {
    // Cell 1 alone says so although the entry is in cell 0 too: peeling it from one makes it appear in the other.
    let item = (0..)
        .map(|n| Item::new(SALT, u64::from_be_bytes(short(1, n))))
        .find(|item| item.cells(2).count() == 2)
        .unwrap();
    let cell = Cell { sum: item.short, check: item.check() };
    assert_eq!(Cells(vec![Cell::default(), cell]).peel(SALT, 0), None);
}

#[test]
fn bytes_of_a_sketch_have_one_form() {
    let full = sketch((0..1_000).map(|n| short(1, n)));
    let bytes = full.to_bytes();
    assert_eq!(Sketch::from_bytes(SALT, &bytes), Some(full));
    assert_eq!(Sketch::from_bytes(SALT, &bytes[..bytes.len() - 1]), None);
    assert_eq!(Sketch::from_bytes(SALT, &[&bytes[..], &[0]].concat()), None);
    assert_eq!(Cells::from_bytes(&[0; CELL_BYTES - 1]), None);
    assert_eq!(Cells::from_bytes(&vec![0; (SECOND_CELLS_MAX + 1) * CELL_BYTES]), None);
}

proptest! {
    #[test]
    fn random_cells_never_panic_and_read_no_more_than_there_are(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        repeat in 1usize..4,
        stratum in 0usize..STRATA,
    ) {
        let whole = bytes.len() / CELL_BYTES * CELL_BYTES;
        let cells = Cells::from_bytes(&bytes[..whole].repeat(repeat)).unwrap();
        let len = cells.len();
        let mine = sketch((0..50).map(|n| short(1, n)));
        for cells in [cells.clone(), mine.stratum(stratum).difference(&cells)] {
            if let Some(read) = cells.peel(SALT, stratum) {
                prop_assert!(read.len() <= len);
            }
        }
    }

    #[test]
    fn cells_of_real_entries_put_together_at_random_never_loop(
        picks in proptest::collection::vec((0u64..6, 0usize..24), 0..200),
    ) {
        let mut cells = Cells::empty(24);
        for (n, at) in picks {
            let item = Item::new(SALT, u64::from_be_bytes(short(1, n)));
            cells.0[at].toggle(item.short, item.check());
        }
        if let Some(read) = cells.peel(SALT, 0) {
            prop_assert!(read.len() <= 6);
        }
    }

    #[test]
    fn what_is_toggled_twice_is_as_if_it_had_never_been(ns in proptest::collection::vec(0u64..100, 0..50)) {
        let once: BTreeSet<u64> = ns.iter().copied().filter(|n| ns.iter().filter(|m| *m == n).count() % 2 == 1).collect();
        let all = sketch(ns.iter().map(|n| short(1, *n)));
        prop_assert_eq!(all, sketch(once.iter().map(|n| short(1, *n))));
    }
}
