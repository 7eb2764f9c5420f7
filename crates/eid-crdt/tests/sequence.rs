//! The laws of sequences: one result in every causal order, whatever the entries claim.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod history;

use std::collections::BTreeSet;

use eid_crdt::sequence::{Anchor, Cursor, Delta, Item, Name, Op, Sequence, Side, Span, Standing};
use history::{Entry, Text, bring, follow, history, naive, steps};
use proptest::prelude::*;

/// Brings a history to a replica in the causal order that keys choose, some of it twice, and some of it void: from the
/// start, or later, or for a while.
fn replica(entries: &[Entry], keys: &[u16], void: &BTreeSet<usize>) -> Text {
    let key = |entry: usize| {
        keys[entry % keys.len()].wrapping_mul(31).wrapping_add(u16::try_from(entry).unwrap() * 7)
    };
    let number = |entry: usize| u32::from(key(entry)) << 12 | u32::try_from(entry).unwrap();
    let mut text = Text::default();
    let (mut shown, mut held) = (Vec::new(), BTreeSet::new());
    let mut waiting: BTreeSet<usize> = (0..entries.len()).collect();
    let ready = |waiting: &BTreeSet<usize>, held: &BTreeSet<usize>| {
        waiting
            .iter()
            .copied()
            .filter(|entry| entries[*entry].past.is_subset(held))
            .min_by_key(|entry| key(*entry))
    };
    while let Some(entry) = ready(&waiting, &held) {
        let early = key(entry) % 2 == 0;
        let standing = if early == void.contains(&entry) { Standing::Void } else { Standing::Stands };
        follow(&mut shown, &bring(&mut text, entries, entry, &number, standing));
        waiting.remove(&entry);
        held.insert(entry);
        if key(entry) % 5 == 0 {
            assert_eq!(bring(&mut text, entries, entry, &number, Standing::Stands), []);
        }
    }
    assert_eq!(held.len(), entries.len());
    for entry in 0..entries.len() {
        let standing = if void.contains(&entry) { Standing::Void } else { Standing::Stands };
        follow(&mut shown, &text.set_standing(number(entry), standing));
    }
    assert_eq!(shown.into_iter().collect::<String>(), text.text(), "the changes lead to another text");
    text
}

fn positions_and_names_agree(text: &Text) {
    for position in 0..text.len() {
        let name = text.name_at(position).unwrap();
        assert_eq!(text.position(&Cursor::Before(name)), Some(position));
        assert_eq!(text.position(&Cursor::After(name)), Some(position + 1));
    }
    assert_eq!(text.name_at(text.len()), None);
    assert_eq!(text.text().chars().count(), text.len());
}

fn all_orders_agree(entries: &[Entry], keys: &[Vec<u16>], void: &BTreeSet<usize>) {
    let expected = naive(entries, void);
    for keys in keys {
        let text = replica(entries, keys, void);
        assert_eq!(text.text(), expected);
        positions_and_names_agree(&text);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Number(usize);

impl Item for Number {
    fn weight(&self) -> usize {
        3
    }
}

fn keys() -> impl Strategy<Value = Vec<Vec<u16>>> {
    prop::collection::vec(prop::collection::vec(any::<u16>(), 16), 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_causal_order_gives_the_naive_text(
        steps in steps(0..30), keys in keys(), void in prop::collection::btree_set(0usize..30, 0..6),
    ) {
        let entries = history(&steps);
        let void = void.into_iter().filter(|entry| *entry < entries.len()).collect();
        all_orders_agree(&entries, &keys, &void);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn every_causal_order_of_a_long_history_gives_the_naive_text(
        steps in steps(700..900), keys in keys(), void in prop::collection::btree_set(0usize..700, 0..60),
    ) {
        let entries = history(&steps);
        let void = void.into_iter().filter(|entry| *entry < entries.len()).collect();
        all_orders_agree(&entries, &keys, &void);
    }

    #[test]
    fn edits_of_one_device_are_those_of_plain_text(
        edits in prop::collection::vec((any::<usize>(), 0..9usize, 0..1_500usize), 300),
    ) {
        let mut text = Sequence::<u32, u32, Vec<Number>>::default();
        let mut plain = Vec::new();
        text.open(0, 0, Standing::Stands);
        for (i, (position, deleted, inserted)) in edits.into_iter().enumerate() {
            let entry = u32::try_from(i / 10).unwrap();
            text.open(entry, entry, Standing::Stands);
            let position = position % (plain.len() + 1);
            let deleted = deleted.min(plain.len() - position);
            // Long runs are rare: their positions would hide those between short ones.
            let inserted: Vec<Number> =
                (0..if inserted < 1_480 { inserted % 7 } else { inserted }).map(|n| Number(i * n)).collect();
            text.delete(entry, position, deleted).unwrap();
            text.insert(entry, position, inserted.clone());
            plain.splice(position..position + deleted, inserted);
            prop_assert_eq!(text.len(), plain.len());
        }
        prop_assert_eq!(text.runs().flatten().copied().collect::<Vec<_>>(), plain);
    }
}

/// Types letters one by one, each at the place that `place` gives for how many there were.
fn typed(base: &Text, entry: u32, letters: &str, place: impl Fn(usize) -> usize) -> Vec<Op<u32, String>> {
    let mut text = base.clone();
    text.open(entry, (1, entry as usize), Standing::Stands);
    let mut ops = Vec::new();
    for (count, letter) in letters.chars().enumerate() {
        ops.push(text.insert(entry, place(count), letter.to_string()).unwrap());
    }
    ops
}

fn base(letters: &str) -> Text {
    let mut text = Text::default();
    text.open(0, (0, 0), Standing::Stands);
    text.insert(0, 0, letters.to_owned()).unwrap();
    text
}

fn after(base: &Text, entries: &[(u32, &[Op<u32, String>])]) -> Text {
    let mut text = base.clone();
    for (entry, ops) in entries {
        text.integrate(*entry, (1, *entry as usize), Standing::Stands, ops);
    }
    text
}

#[test]
fn runs_typed_at_one_place_do_not_interleave() {
    for (forwards, backwards) in [(true, true), (true, false), (false, false), (false, true)] {
        let base = base("()");
        let place = |forwards: bool| move |count: usize| if forwards { 1 + count } else { 1 };
        let mine = typed(&base, 1, "abcdef", place(forwards));
        let yours = typed(&base, 2, "uvwxyz", place(backwards));
        let text = after(&base, &[(1, &mine), (2, &yours)]).text();
        assert_eq!(text, after(&base, &[(2, &yours), (1, &mine)]).text());
        let mine = if forwards { "abcdef" } else { "fedcba" };
        let yours = if backwards { "uvwxyz" } else { "zyxwvu" };
        assert!(text.contains(mine) && text.contains(yours), "{text}");
        assert_eq!(text.len(), 14);
    }
}

#[test]
fn typing_letter_by_letter_is_one_operation_and_one_run() {
    let mut ops = Vec::new();
    for (first, op) in (0..).zip(typed(&base("()"), 1, "abcdef", |count| 1 + count)) {
        Op::push(&mut ops, 1, first, op);
    }
    assert_eq!(
        ops,
        [Op::Insert { at: Anchor::Before(Name { entry: 0, offset: 1 }), run: "abcdef".to_owned() }]
    );
    let letters = typed(&base("()"), 1, "abcdef", |count| 1 + count);
    assert_eq!(after(&base("()"), &[(1, &letters)]).runs().collect::<Vec<_>>(), ["(", "abcdef", ")"]);
}

#[test]
fn deleting_backwards_or_forwards_is_one_operation() {
    for positions in [[3, 2, 1], [1, 1, 1]] {
        let mut text = base("abcde");
        text.open(1, (1, 1), Standing::Stands);
        let mut ops = Vec::new();
        for position in positions {
            for op in text.delete(1, position, 1).unwrap() {
                Op::push(&mut ops, 1, 0, op);
            }
        }
        assert_eq!(text.text(), "ae");
        assert_eq!(ops, [Op::Delete(Span { first: Name { entry: 0, offset: 1 }, count: 3 })]);
    }
}

#[test]
fn what_is_not_there_cannot_be_named() {
    let base = base("()");
    for name in [(0, 2), (7, 0), (1, 3)].map(|(entry, offset)| Name { entry, offset }) {
        let ops = [
            Op::Insert { at: Anchor::After(name), run: "x".to_owned() },
            Op::Insert { at: Anchor::Before(name), run: "y".to_owned() },
            Op::Delete(Span { first: name, count: 1 }),
            Op::Insert { at: Anchor::After(Name { entry: 0, offset: 0 }), run: "abc".to_owned() },
            Op::Insert { at: Anchor::After(Name { entry: 1, offset: 2 }), run: String::new() },
            // What had no effect took no offsets.
            Op::Delete(Span { first: Name { entry: 1, offset: 1 }, count: 1 }),
        ];
        assert_eq!(after(&base, &[(1, &ops)]).text(), "()ac");
    }
    for (offset, count) in [(1, 2), (1, u32::MAX), (0, 0)] {
        let ops = [Op::Delete(Span { first: Name { entry: 0, offset }, count })];
        assert_eq!(after(&base, &[(1, &ops)]).text(), "()");
    }
}

#[test]
fn a_floor_hides_what_is_older_and_what_comes_late() {
    let mut text = base("abcd");
    text.open(1, (1, 1), Standing::Stands);
    text.delete(1, 0, 1).unwrap();
    text.insert(1, 3, "new".to_owned()).unwrap();
    assert_eq!(text.raise_floor((1, 0)), [Delta::Deleted { position: 0, count: 3 }]);
    assert_eq!(text.text(), "new");
    // What was deleted meets the floor when the delete is void.
    text.set_standing(1, Standing::Void);
    assert_eq!(text.text(), "");
    text.set_standing(1, Standing::Stands);
    let late = Op::Insert { at: Anchor::After(Name { entry: 0, offset: 3 }), run: "late".to_owned() };
    assert_eq!(text.integrate(2, (0, 7), Standing::Stands, std::slice::from_ref(&late)), []);
    assert_eq!(text.raise_floor((0, 9)), []);
    text.integrate(3, (1, 7), Standing::Stands, &[late]);
    assert_eq!(text.text(), "newlate");
    assert_eq!(text.raise_floor((2, 0)).len(), 1);
    assert_eq!(text.text(), "");
}

#[test]
fn floors_that_rise_between_all_else_hide_what_is_below_and_nothing_else() {
    let letter = |entry: u32| char::from(b'0' + u8::try_from(entry).unwrap());
    for seed in 0..400u32 {
        let mut state = seed;
        let mut pick = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let mut text = Sequence::<u32, (u64, u32), String>::default();
        let (mut floor, mut count) = ((0, 0), 0);
        let mut void: BTreeSet<u32> = BTreeSet::new();
        let mut stamps: Vec<((u64, u32), Option<u32>)> = Vec::new();
        for _ in 0..40 {
            match pick(5) {
                0 | 1 => {
                    let at = match count {
                        0 => Anchor::Start,
                        _ => Anchor::After(Name { entry: pick(count), offset: 0 }),
                    };
                    let mut ops = vec![Op::Insert { at, run: letter(count).to_string() }];
                    let deleted = (count > 0 && pick(2) == 0).then(|| pick(count));
                    let first = deleted.map(|entry| Name { entry, offset: 0 });
                    ops.extend(first.map(|first| Op::Delete(Span { first, count: 1 })));
                    let stamp = (u64::from(pick(20)), count);
                    text.integrate(count, stamp, Standing::Stands, &ops);
                    stamps.push((stamp, deleted));
                    count += 1;
                }
                2 | 3 if count > 0 => {
                    let entry = pick(count);
                    let standing = if void.remove(&entry) {
                        Standing::Stands
                    } else {
                        void.insert(entry);
                        Standing::Void
                    };
                    text.set_standing(entry, standing);
                }
                _ => {
                    let next = (u64::from(pick(12)), 0);
                    text.raise_floor(next);
                    floor = floor.max(next);
                }
            }
            let is_deleted =
                |entry| (0..count).any(|by| !void.contains(&by) && stamps[by as usize].1 == Some(entry));
            let shown = |entry: &u32| {
                stamps[*entry as usize].0 >= floor && !void.contains(entry) && !is_deleted(*entry)
            };
            let expected: BTreeSet<char> = (0..count).filter(shown).map(letter).collect();
            assert_eq!(text.text().chars().collect::<BTreeSet<char>>(), expected, "{seed}");
        }
    }
}

#[test]
fn an_element_can_be_taken_and_given_back() {
    let mut text = base("abcd");
    let name = text.name_at(2).unwrap();
    assert_eq!(text.set_taken(name, true), [Delta::Deleted { position: 2, count: 1 }]);
    assert_eq!(text.set_taken(name, true), []);
    text.set_taken(Name { entry: 9, ..name }, true);
    assert_eq!(text.text(), "abd");
    assert_eq!(text.set_taken(name, false), [Delta::Inserted { position: 2, run: "c".to_owned() }]);
    assert_eq!(text.runs().count(), 1, "records that can be one are one again");
}

#[test]
fn an_operation_gets_its_number_when_it_is_sealed() {
    let open = u32::MAX;
    let mut text = base("()");
    let letters: String = (0..3_000u32).map(|n| char::from_u32(0x4e00 + n).unwrap()).collect();
    text.open(open, (200, 0), Standing::Stands);
    let mut ops = vec![text.insert(open, 1, letters.clone()).unwrap()];
    ops.push(text.insert(open, 1_000, "here".to_owned()).unwrap());
    ops.extend(text.delete(open, 998, 4).unwrap());
    let shown = text.text();
    text.seal(open, 1, (1, 1));
    let ops: Vec<_> =
        ops.iter().map(|op| history::renamed(op, &|entry| if entry == open { 1 } else { entry })).collect();
    let mut other = after(&base("()"), &[(1, &ops)]);
    assert_eq!((text.text(), other.text()), (shown.clone(), shown));
    positions_and_names_agree(&text);
    for position in 0..text.len() {
        assert_eq!(text.name_at(position), other.name_at(position));
    }
    for text in [&mut text, &mut other] {
        assert!(!text.open(1, (1, 1), Standing::Stands));
        assert!(text.open(open, (201, 0), Standing::Stands));
        text.insert(open, 5, "x".to_owned()).unwrap();
        text.set_standing(1, Standing::Void);
        assert_eq!(text.text(), "(x)");
    }
}

#[test]
fn a_void_entry_hides_what_it_put_in_and_what_hangs_there_stays() {
    let mut text = base("()");
    let void = typed(&text, 1, "spam", |count| 1 + count);
    text.integrate(1, (1, 1), Standing::Stands, &void);
    text.open(2, (2, 2), Standing::Stands);
    text.insert(2, 3, "ok".to_owned()).unwrap();
    assert_eq!(text.text(), "(spokam)");
    let changes = text.set_standing(1, Standing::Void);
    assert_eq!(text.text(), "(ok)");
    assert_eq!(changes, [Delta::Deleted { position: 1, count: 2 }, Delta::Deleted { position: 3, count: 2 }]);
    text.set_standing(1, Standing::Stands);
    assert_eq!(text.text(), "(spokam)");
}

#[test]
fn a_void_entry_deletes_nothing_that_it_alone_deleted() {
    let mut text = base("abcd");
    for (entry, position) in [(1, 0), (2, 0)] {
        text.open(entry, (1, entry as usize), Standing::Stands);
        text.delete(entry, position, 2).unwrap();
    }
    let again = Op::Delete(Span { first: Name { entry: 0, offset: 2 }, count: 2 });
    text.integrate(3, (1, 3), Standing::Stands, &[again]);
    text.set_standing(2, Standing::Void);
    assert_eq!(text.text(), "");
    text.set_standing(1, Standing::Void);
    assert_eq!(text.text(), "ab");
    text.set_standing(3, Standing::Void);
    assert_eq!(text.text(), "abcd");
}

#[test]
fn a_cursor_stays_with_its_neighbour() {
    let mut text = base("abcd");
    let (left, right) = (text.cursor(2, Side::Left).unwrap(), text.cursor(2, Side::Right).unwrap());
    text.open(1, (1, 1), Standing::Stands);
    text.insert(1, 2, "--".to_owned()).unwrap();
    text.insert(1, 0, "é".to_owned()).unwrap();
    assert_eq!((text.position(&left), text.position(&right)), (Some(3), Some(5)));
    text.delete(1, 1, 6).unwrap();
    assert_eq!((text.position(&left), text.position(&right)), (Some(1), Some(1)));
    assert_eq!(text.position(&text.cursor(1, Side::Right).unwrap()), Some(1));
    assert_eq!(text.cursor(2, Side::Left), None);
    assert_eq!(text.position(&Cursor::Before(Name { entry: 9, offset: 0 })), None);
}

#[test]
fn edits_beyond_the_end_and_of_unknown_entries_do_nothing() {
    let mut text = base("ab");
    assert_eq!(text.insert(0, 3, "x".to_owned()), None);
    assert_eq!(text.insert(5, 0, "x".to_owned()), None);
    assert_eq!(text.delete(0, 1, 2), None);
    assert_eq!(text.delete(0, 1, usize::MAX), None);
    assert_eq!(text.delete(0, 2, 0), Some(Vec::new()));
    assert_eq!(text.text(), "ab");
}

#[test]
fn many_siblings_stand_in_the_order_of_their_stamps_however_they_come() {
    // Each has something hanging on both sides, so that siblings begin in the middle of other things.
    let count = 3_000u32;
    let bracket = |offset| Name { entry: 0, offset };
    let text = |at| {
        let mut text = base("()");
        for turn in 0..count {
            let n = (turn * 2_741 + 17) % count;
            let letter = char::from_u32(0x4e00 + n).unwrap().to_string();
            let first = |offset| Name { entry: n + 1, offset };
            let mut ops = vec![Op::Insert { at, run: letter }];
            if n.is_multiple_of(3) {
                ops.push(Op::Insert { at: Anchor::Before(first(0)), run: "<".to_owned() });
            }
            if n.is_multiple_of(5) {
                ops.push(Op::Insert { at: Anchor::After(first(0)), run: ">".to_owned() });
            }
            text.integrate(n + 1, (1, n as usize), Standing::Stands, &ops);
        }
        text.text()
    };
    let expected: String = (0..count)
        .flat_map(|n| {
            let (before, after) =
                (if n.is_multiple_of(3) { "<" } else { "" }, if n.is_multiple_of(5) { ">" } else { "" });
            format!("{before}{}{after}", char::from_u32(0x4e00 + n).unwrap()).chars().collect::<Vec<_>>()
        })
        .collect();
    assert!(text(Anchor::Before(bracket(1))) == format!("({expected})"), "another order");
    assert!(text(Anchor::After(bracket(1))) == format!("(){expected}"), "another order");
    assert!(text(Anchor::Start) == format!("(){expected}"), "another order");
}
