use eid_core::dag::Seq;
use eid_core::{Height, Time};
use eid_crdt::sequence::{Anchor, Name, Span};
use eid_crdt::{ListOp, Value};
use eid_store::ViewRows;

use super::{apply, apply_void};
use crate::kind::sequence::Ref;
use crate::kind::sequence::tests::{View, id};
use crate::stamp::Stamp;

const PREFIX: &[u8] = b"\x04l\xfe";

/// One entry arrives, with these edits.
fn arrive(view: &mut View, place: usize, ops: &[ListOp<Ref>]) {
    let seq = Seq(place as u64);
    view.arrive(id(place), seq);
    for (op, edit) in (0..).zip(ops) {
        apply(view, PREFIX, edit, Stamp::new(Time(1), Height(place as u64), seq, op), None).unwrap();
    }
}

fn name(place: usize, op: usize, offset: usize) -> Name<Ref> {
    Name { entry: Ref { entry: Some(id(place)), op: op as u32 }, offset: offset as u32 }
}

fn own(op: usize, offset: usize) -> Name<Ref> {
    Name { entry: Ref { entry: None, op: op as u32 }, offset: offset as u32 }
}

fn insert(at: Anchor<Ref>, items: Vec<Value>) -> ListOp<Ref> {
    ListOp::Insert { at, items }
}

fn values(view: &View) -> Vec<Value> {
    super::with(view, PREFIX, None, |list| list.values(0..list.len())).unwrap()
}

/// Four times as much costs no more than about four times as much.
fn grows_linearly(cost: impl Fn(usize) -> usize) {
    let (few, many) = (cost(100), cost(400));
    assert!(many <= few * 6, "{few} for 100, {many} for 400");
}

#[test]
fn an_edit_that_waits_for_many_costs_little_when_each_of_them_comes() {
    grows_linearly(|count| {
        let mut view = View::default();
        let mut spans: Vec<Span<Ref>> =
            (0..count).map(|place| Span { first: name(place, 0, 0), count: 1 }).collect();
        spans.sort_unstable_by_key(|span| span.first);
        arrive(&mut view, count, &[ListOp::Delete { spans }]);
        for place in 0..count {
            assert_eq!(values(&view).len(), place);
            view.cost();
            arrive(&mut view, place, &[insert(Anchor::Start, vec![Value::from(1)])]);
        }
        assert_eq!(values(&view), []);
        let mut view = View::default();
        let mut spans: Vec<Span<Ref>> =
            (0..count).map(|place| Span { first: name(place, 0, 0), count: 1 }).collect();
        spans.sort_unstable_by_key(|span| span.first);
        arrive(&mut view, count, &[ListOp::Delete { spans }]);
        (0..count).for_each(|place| {
            arrive(&mut view, place, &[insert(Anchor::Start, vec![Value::from(1)])]);
        });
        let (read, written) = view.cost();
        read + written
    });
}

#[test]
fn edits_that_all_wait_for_one_cost_as_much_as_they_are() {
    grows_linearly(|count| {
        let mut view = View::default();
        let edits: Vec<_> =
            (0..count).map(|_| insert(Anchor::After(name(0, 0, 0)), vec![Value::from(2)])).collect();
        arrive(&mut view, 1, &edits);
        arrive(&mut view, 0, &[insert(Anchor::Start, vec![Value::from(1)])]);
        let (read, written) = view.cost();
        assert_eq!(values(&view).len(), count + 1);
        read + written
    });
}

#[test]
fn an_edit_that_names_what_comes_later_in_its_entry_has_no_effect_and_does_not_wait() {
    let mut view = View::default();
    let later = insert(Anchor::After(own(1, 0)), vec![Value::from(2)]);
    let itself = insert(Anchor::After(own(2, 0)), vec![Value::from(3)]);
    arrive(&mut view, 0, &[later, insert(Anchor::Start, vec![Value::from(1)]), itself]);
    assert_eq!(values(&view), [Value::from(1)]);
    view.cost();
    grows_linearly(|count| {
        let mut view = View::default();
        let edits: Vec<_> =
            (0..count).map(|op| insert(Anchor::After(own(op + 1, 0)), vec![Value::from(2)])).collect();
        arrive(&mut view, 0, &edits);
        let (read, written) = view.cost();
        assert_eq!(values(&view), []);
        read + written
    });
}

#[test]
fn a_large_item_is_read_and_written_with_itself_and_not_with_what_is_done_beside_it() {
    let large = Value::from("x".repeat(200_000));
    let mut view = View::default();
    arrive(&mut view, 0, &[insert(Anchor::Start, vec![Value::from(1), large.clone(), Value::from(2)])]);
    assert!(view.cost_bytes() < 210_000);
    let count = 100;
    let mut edits = Vec::new();
    for op in 0..count {
        edits.push(insert(Anchor::After(name(0, 0, 1)), vec![Value::from(op as i64)]));
        edits.push(ListOp::Move { item: name(0, 0, 1), at: Anchor::After(name(0, 0, op % 2 * 2)) });
        edits.push(ListOp::Set { item: name(0, 0, 0), value: Value::from(op as i64) });
        edits.push(ListOp::Delete { spans: vec![Span { first: own(op * 4, 0), count: 1 }] });
    }
    arrive(&mut view, 1, &edits);
    let bytes = view.cost_bytes();
    assert!(bytes < 200_000 + edits.len() * 20_000, "{bytes}");
    assert_eq!(values(&view), [Value::from(count as i64 - 1), Value::from(2), large.clone()]);
    // What takes its place is kept by the same rule, as is what takes the place of that.
    let other = Value::from("y".repeat(200_000));
    let set = |value: &Value| ListOp::Set { item: name(0, 0, 1), value: value.clone() };
    arrive(&mut view, 2, &[set(&other)]);
    assert_eq!(values(&view)[2], other);
    arrive(&mut view, 3, &[set(&Value::from(3))]);
    assert_eq!(values(&view)[2], Value::from(3));
    arrive(&mut view, 4, &[set(&large)]);
    // Again, it changes nothing.
    arrive(&mut view, 0, &[insert(Anchor::Start, vec![Value::from(1), large.clone(), Value::from(2)])]);
    arrive(&mut view, 2, &[set(&other)]);
    assert_eq!(values(&view)[2], large);
}

#[test]
fn a_large_value_that_gives_way_to_a_small_one_leaves_no_row() {
    let mut view = View::default();
    let values_kept = |view: &mut View| {
        let (from, to) = ([PREFIX, b"v"].concat(), [PREFIX, b"w"].concat());
        ViewRows::scan(view, &from, &to).unwrap().len()
    };
    arrive(&mut view, 0, &[insert(Anchor::Start, vec![Value::from("x".repeat(200_000))])]);
    arrive(&mut view, 1, &[ListOp::Set { item: name(0, 0, 0), value: Value::from("y".repeat(200_000)) }]);
    assert_eq!(values_kept(&mut view), 1);
    arrive(&mut view, 2, &[ListOp::Set { item: name(0, 0, 0), value: Value::from(1) }]);
    assert_eq!((values_kept(&mut view), values(&view)), (0, vec![Value::from(1)]));
}

/// Whether the entry of a move counts does not change what others may name.
#[test]
fn the_slot_of_a_move_is_no_item_whether_or_not_the_move_counts() {
    for is_void in [false, true] {
        let mut view = View::default();
        arrive(&mut view, 0, &[insert(Anchor::Start, vec![Value::from(1), Value::from(2)])]);
        let moved = ListOp::Move { item: name(0, 0, 0), at: Anchor::After(name(0, 0, 1)) };
        view.arrive(id(1), Seq(1));
        let stamp = Stamp::new(Time(1), Height(1), Seq(1), 0);
        if is_void {
            apply_void(&mut view, PREFIX, &moved, stamp).unwrap();
        } else {
            apply(&mut view, PREFIX, &moved, stamp, None).unwrap();
        }
        // What takes the slot for an item puts nothing in, so this waits for it in vain.
        arrive(&mut view, 2, &[ListOp::Move { item: name(1, 0, 0), at: Anchor::Start }]);
        arrive(&mut view, 3, &[insert(Anchor::After(name(2, 0, 0)), vec![Value::from(3)])]);
        let shown = if is_void { [1, 2] } else { [2, 1] };
        assert_eq!(values(&view), shown.map(Value::from));
        // And it is a place beside which others put theirs.
        arrive(&mut view, 4, &[insert(Anchor::After(name(1, 0, 0)), vec![Value::from(4)])]);
        let shown = if is_void { [1, 2, 4] } else { [2, 1, 4] };
        assert_eq!(values(&view), shown.map(Value::from));
    }
}
