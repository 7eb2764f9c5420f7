use eid_crdt::Value;
use serde_json::json;

use super::support::{copy, database, exchange, node, two};
use crate::{DbError, DocList, Path};

fn numbers(list: &DocList) -> Vec<i64> {
    list.values_as().unwrap()
}

#[test]
fn items_are_put_in_moved_replaced_and_deleted_by_position() {
    let list = database().doc("d").list("todos");
    assert_eq!((list.len().unwrap(), list.get(0).unwrap(), list.values().unwrap()), (0, None, vec![]));
    list.push(1).unwrap();
    list.extend([2, 3, 4]).unwrap();
    list.insert(0, 0).unwrap();
    list.insert(5, 5).unwrap();
    assert_eq!(numbers(&list), [0, 1, 2, 3, 4, 5]);
    list.move_to(0, 5).unwrap();
    assert_eq!(numbers(&list), [1, 2, 3, 4, 5, 0]);
    list.move_to(4, 1).unwrap();
    assert_eq!(numbers(&list), [1, 5, 2, 3, 4, 0]);
    list.move_to(1, 2).unwrap();
    assert_eq!(numbers(&list), [1, 2, 5, 3, 4, 0]);
    list.move_to(2, 1).unwrap();
    list.set(1, 50).unwrap();
    assert_eq!(numbers(&list), [1, 50, 2, 3, 4, 0]);
    list.move_to(1, 0).unwrap();
    assert_eq!(numbers(&list), [50, 1, 2, 3, 4, 0]);
    list.set(5, "zero").unwrap();
    assert_eq!(list.get_as::<String>(5).unwrap().as_deref(), Some("zero"));
    list.delete(5).unwrap();
    list.delete_range(1..3).unwrap();
    assert_eq!(numbers(&list), [50, 3, 4]);
    assert_eq!(list.range(1..).unwrap(), [Value::from(3), Value::from(4)]);
    assert_eq!(list.range(..=0).unwrap(), [Value::from(50)]);
    assert_eq!(list.range(7..9).unwrap(), []);
    list.delete_range(..).unwrap();
    assert!(list.is_empty().unwrap());
}

#[test]
fn a_position_beyond_the_end_is_an_error_and_writes_nothing() {
    let db = database();
    let list = db.doc("d").list("l");
    list.extend([1, 2]).unwrap();
    let before = db.entries().unwrap();
    assert!(matches!(list.insert(3, 0), Err(DbError::Position { position: 3, len: 2 })));
    assert!(matches!(list.set(2, 0), Err(DbError::Position { position: 3, len: 2 })));
    assert!(matches!(list.delete(2), Err(DbError::Position { .. })));
    assert!(matches!(list.delete_range(1..3), Err(DbError::Position { .. })));
    assert!(matches!(list.move_to(0, 2), Err(DbError::Position { .. })));
    assert!(matches!(list.move_to(2, 0), Err(DbError::Position { .. })));
    assert!(matches!(list.move_to(usize::MAX, 0), Err(DbError::Position { .. })));
    list.delete_range(1..1).unwrap();
    list.extend(Vec::<i64>::new()).unwrap();
    list.move_to(1, 1).unwrap();
    assert_eq!(db.entries().unwrap(), before);
}

#[test]
fn a_list_is_a_value_to_whoever_reads_the_document_and_a_path_goes_on_into_it() {
    let doc = database().doc("d");
    doc.set("m", Value::from(json!({"l": [{"title": "milk", "tags": ["a", "b"]}, 7], "n": 1}))).unwrap();
    doc.list("m.l").push("last").unwrap();
    assert_eq!(
        doc.to_json().unwrap(),
        json!({"m": {"l": [{"title": "milk", "tags": ["a", "b"]}, 7, "last"], "n": 1}})
    );
    assert_eq!(doc.get_as::<String>("/m/l/0/title").unwrap().as_deref(), Some("milk"));
    assert_eq!(doc.get("m.l.0.tags.1").unwrap(), Some(Value::from("b")));
    assert_eq!(doc.get("m.l.2").unwrap(), Some(Value::from("last")));
    for nothing in ["m.l.3", "m.l.00", "m.l.-1", "m.l.x", "m.l.1.0", "m.l.0.none", "m.n.0"] {
        assert_eq!(doc.get(nothing).unwrap(), None, "{nothing}");
    }
    assert_eq!(doc.keys("m").unwrap(), ["l", "n"]);
    assert_eq!(doc.keys("m.l").unwrap(), Vec::<String>::new());
}

#[test]
fn two_devices_that_push_to_the_same_absent_path_both_keep_their_items() {
    let (a, b) = two();
    a.doc("d").list(["x", "l"]).extend([1, 2]).unwrap();
    b.doc("d").list(["x", "l"]).extend([11, 12]).unwrap();
    exchange(&a, &b);
    let seen = numbers(&a.doc("d").list(["x", "l"]));
    assert!(seen == [1, 2, 11, 12] || seen == [11, 12, 1, 2], "{seen:?}");
    assert_eq!(numbers(&b.doc("d").list(["x", "l"])), seen);
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
}

#[test]
fn concurrent_changes_of_different_items_all_survive() {
    let (a, b) = two();
    let (here, there) = (a.doc("d").list("l"), b.doc("d").list("l"));
    here.extend([0, 1, 2, 3, 4]).unwrap();
    exchange(&a, &b);
    here.set(0, 100).unwrap();
    here.move_to(4, 1).unwrap();
    here.insert(3, 15).unwrap();
    there.set(1, 101).unwrap();
    there.delete(2).unwrap();
    there.push(5).unwrap();
    exchange(&a, &b);
    assert_eq!(numbers(&here), [100, 4, 101, 15, 3, 5]);
    assert_eq!(numbers(&there), numbers(&here));
}

#[test]
fn of_two_moves_of_an_item_the_later_one_counts_and_it_is_there_once() {
    let (a, b) = two();
    let (here, there) = (a.doc("d").list("l"), b.doc("d").list("l"));
    here.extend([0, 1, 2, 3]).unwrap();
    exchange(&a, &b);
    here.move_to(0, 3).unwrap();
    // The clocks stand still; one entry more makes this one the later.
    b.doc("other").set("x", 1).unwrap();
    there.move_to(0, 1).unwrap();
    exchange(&a, &b);
    assert_eq!(numbers(&here), [1, 0, 2, 3]);
    assert_eq!(numbers(&there), [1, 0, 2, 3]);
}

#[test]
fn of_two_sets_of_an_item_the_later_one_counts() {
    let (a, b) = two();
    let (here, there) = (a.doc("d").list("l"), b.doc("d").list("l"));
    here.extend([0, 1]).unwrap();
    exchange(&a, &b);
    here.set(0, 10).unwrap();
    b.doc("other").set("x", 1).unwrap();
    there.set(0, 20).unwrap();
    exchange(&a, &b);
    assert_eq!((numbers(&here), numbers(&there)), (vec![20, 1], vec![20, 1]));
}

#[test]
fn what_is_deleted_of_a_run_are_the_items_that_are_there_and_not_those_that_were_moved_away() {
    let list = database().doc("d").list("l");
    list.extend([0, 1, 2, 3, 4]).unwrap();
    list.move_to(1, 4).unwrap();
    assert_eq!(numbers(&list), [0, 2, 3, 4, 1]);
    list.delete_range(0..2).unwrap();
    assert_eq!(numbers(&list), [3, 4, 1]);
    list.delete_range(1..).unwrap();
    assert_eq!(numbers(&list), [3]);
    // Neighbours of one run that stand the other way round.
    list.extend([5, 6, 7]).unwrap();
    list.move_to(1, 2).unwrap();
    assert_eq!(numbers(&list), [3, 6, 5, 7]);
    list.delete_range(1..).unwrap();
    assert_eq!(numbers(&list), [3]);
}

#[test]
fn a_delete_beats_a_concurrent_move_and_a_concurrent_set() {
    let (a, b) = two();
    let (here, there) = (a.doc("d").list("l"), b.doc("d").list("l"));
    here.extend([0, 1, 2]).unwrap();
    exchange(&a, &b);
    here.delete(1).unwrap();
    b.doc("other").set("x", 1).unwrap();
    there.move_to(1, 0).unwrap();
    there.set(0, 100).unwrap();
    exchange(&a, &b);
    assert_eq!(numbers(&here), [0, 2]);
    assert_eq!(numbers(&there), [0, 2]);
    // An item that was moved before is deleted where it is.
    here.move_to(0, 1).unwrap();
    exchange(&a, &b);
    there.delete(1).unwrap();
    exchange(&a, &b);
    assert_eq!((numbers(&here), numbers(&there)), (vec![2], vec![2]));
}

#[test]
fn setting_a_list_replaces_its_items_and_later_pushes_merge_with_it() {
    let (a, b) = two();
    a.doc("d").list("l").extend([1, 2]).unwrap();
    exchange(&a, &b);
    a.doc("d").set("l", Value::from(json!([7, 8]))).unwrap();
    exchange(&a, &b);
    a.doc("d").list("l").push(9).unwrap();
    b.doc("d").list("l").insert(1, 75).unwrap();
    exchange(&a, &b);
    assert_eq!(numbers(&a.doc("d").list("l")), [7, 75, 8, 9]);
    assert_eq!(b.doc("d").to_json().unwrap(), json!({"l": [7, 75, 8, 9]}));
    a.doc("d").set("l", Value::from(json!([]))).unwrap();
    assert_eq!(a.doc("d").to_json().unwrap(), json!({"l": []}));
}

#[test]
fn a_delete_above_hides_older_items_and_not_newer_ones() {
    for (deleted, left) in [(Path::from("m.l"), 1), (Path::from("m"), 1)] {
        let (a, b) = two();
        let (here, there) = (a.doc("d").list("m.l"), b.doc("d").list("m.l"));
        here.extend([1, 2, 3]).unwrap();
        here.move_to(0, 2).unwrap();
        exchange(&a, &b);
        a.doc("d").delete(&deleted).unwrap();
        b.doc("other").set("x", 1).unwrap();
        there.move_to(1, 0).unwrap();
        there.push(4).unwrap();
        exchange(&a, &b);
        for list in [&here, &there] {
            assert_eq!(numbers(list), [4], "{deleted}");
            assert_eq!(list.len().unwrap(), left);
            assert_eq!(list.get_as::<i64>(0).unwrap(), Some(4));
        }
        // What is written then sees the same list.
        here.insert(0, 3).unwrap();
        here.push(5).unwrap();
        exchange(&a, &b);
        assert_eq!((numbers(&here), numbers(&there)), (vec![3, 4, 5], vec![3, 4, 5]));
    }
}

#[test]
fn a_list_that_was_deleted_begins_anew() {
    let doc = database().doc("d");
    doc.list("l").extend([1, 2]).unwrap();
    doc.delete("l").unwrap();
    assert_eq!(doc.get("l").unwrap(), None);
    assert_eq!(doc.list("l").len().unwrap(), 0);
    doc.list("l").push(3).unwrap();
    assert_eq!(numbers(&doc.list("l")), [3]);
    doc.set("l", 5).unwrap();
    doc.delete("l").unwrap();
    doc.list("l").insert(0, 4).unwrap();
    assert_eq!(doc.to_json().unwrap(), json!({"l": [4]}));
}

#[test]
fn what_is_no_list_is_not_taken_for_one_and_nothing_is_set_below_an_item() {
    let db = database();
    let doc = db.doc("d");
    doc.set("t", "text").unwrap();
    doc.set("m.x", 1).unwrap();
    doc.list("l").push(1).unwrap();
    let before = db.entries().unwrap();
    assert!(matches!(doc.list("t").push(1), Err(DbError::Type { found: "text", wanted: "list" })));
    assert!(matches!(doc.list("t").len(), Err(DbError::Type { .. })));
    assert!(matches!(doc.list("m").push(1), Err(DbError::Type { found: "map", wanted: "list" })));
    assert!(matches!(doc.list("t.x").push(1), Err(DbError::Type { found: "text", wanted: "map" })));
    assert!(matches!(doc.list("l.0").push(1), Err(DbError::Type { found: "list", wanted: "map" })));
    assert!(matches!(doc.set("l.0", 2), Err(DbError::Type { found: "list", wanted: "map" })));
    assert!(matches!(doc.set("l.title", 2), Err(DbError::Type { .. })));
    assert!(matches!(doc.delete("l.0"), Err(DbError::Type { .. })));
    assert!(matches!(doc.increment("l", 1), Err(DbError::Type { found: "list", wanted: "integer" })));
    assert!(matches!(doc.increment("l.0", 1), Err(DbError::Type { found: "list", wanted: "map" })));
    assert!(matches!(db.write(|tx| tx.doc("d").set("l.0", 2)), Err(DbError::Type { .. })));
    assert!(matches!(db.write(|tx| tx.doc("d").delete("l.0")), Err(DbError::Type { .. })));
    assert!(doc.list(Path::root()).push(1).is_err());
    assert_eq!(db.entries().unwrap(), before);
    assert_eq!(doc.to_json().unwrap(), json!({"t": "text", "m": {"x": 1}, "l": [1]}));
}

#[test]
fn a_transaction_sees_its_own_items_and_names_them() {
    let db = database();
    db.doc("d").list("l").extend([1, 2, 3]).unwrap();
    db.write(|tx| {
        let list = tx.doc("d").list("l");
        list.push(4)?;
        list.insert(0, 0)?;
        list.move_to(4, 1)?;
        assert_eq!(list.values()?, [0, 4, 1, 2, 3].map(Value::from));
        list.set(1, 40)?;
        list.delete(3)?;
        list.move_to(1, 3)?;
        assert_eq!(list.values()?, [0, 1, 3, 40].map(Value::from));
        assert_eq!((list.len()?, list.get_as::<i64>(3)?), (4, Some(40)));
        let fresh = tx.doc("d").list("fresh");
        fresh.extend([1, 2])?;
        fresh.move_to(1, 0)?;
        fresh.delete_range(1..)
    })
    .unwrap();
    assert_eq!(db.doc("d").to_json().unwrap(), json!({"l": [0, 1, 3, 40], "fresh": [2]}));
    let there = copy(&db, &node(77));
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
}

#[test]
fn every_value_is_an_item_as_it_is() {
    let doc = database().doc("d");
    let values = [
        Value::Null,
        Value::from(u64::MAX),
        Value::from(vec![0u8, 255]),
        Value::from(json!([[], [1, [2]]])),
        Value::from(json!({"a": {"b": [null]}})),
        Value::from(-0.0),
        Value::from("\u{0}é"),
    ];
    doc.list("l").extend(values.clone()).unwrap();
    assert_eq!(doc.list("l").values().unwrap(), values);
    doc.list("l").move_to(0, 6).unwrap();
    doc.list("l").set(0, values[4].clone()).unwrap();
    assert_eq!(doc.list("l").get(6).unwrap(), Some(Value::Null));
    assert_eq!(doc.list("l").get(0).unwrap(), Some(values[4].clone()));
}

#[test]
fn items_larger_than_an_entry_are_refused() {
    let db = database();
    let list = db.doc("d").list("l");
    let before = db.entries().unwrap();
    let large = "x".repeat(eid_core::limits::PAYLOAD_BYTES_MAX);
    assert!(matches!(list.push(large.as_str()), Err(DbError::TooLarge)));
    assert!(matches!(list.extend((0..600_000).map(|_| 1000)), Err(DbError::TooLarge)));
    let deep: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    assert!(matches!(db.doc("d").list(deep).push(1), Err(DbError::Path)));
    assert_eq!(db.entries().unwrap(), before);
    list.extend((0..100_000).map(|n| n % 10)).unwrap();
    assert_eq!(list.len().unwrap(), 100_000);
    assert_eq!(list.range(70_003..70_006).unwrap(), [3, 4, 5].map(Value::from));
}
