use eid_crdt::Value;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{database, exchange, two};
use crate::codec::tests::any_value;
use crate::{DbError, DocStore, Path};

fn json_of(doc: &DocStore) -> Json {
    doc.to_json().unwrap()
}

#[test]
fn set_get_delete_and_nested_paths() {
    let doc = database().doc("d");
    assert_eq!(json_of(&doc), json!({}));
    doc.set(["profile", "name"], "Ada").unwrap();
    doc.set(["profile", "tags"], Value::from(json!(["x", {"y": null}]))).unwrap();
    doc.set("n", 1.5).unwrap();
    assert_eq!(json_of(&doc), json!({"profile": {"name": "Ada", "tags": ["x", {"y": null}]}, "n": 1.5}));
    assert_eq!(doc.get(["profile", "name"]).unwrap(), Some(Value::from("Ada")));
    assert_eq!(doc.keys(Path::root()).unwrap(), ["n", "profile"]);
    assert_eq!(doc.keys("profile").unwrap(), ["name", "tags"]);
    doc.delete("profile").unwrap();
    assert_eq!(doc.get(["profile", "name"]).unwrap(), None);
    assert_eq!(doc.get("profile").unwrap(), None);
    doc.set(["profile", "name"], "Bea").unwrap();
    assert_eq!(json_of(&doc), json!({"profile": {"name": "Bea"}, "n": 1.5}));
}

#[test]
fn setting_a_map_makes_paths_of_their_own_and_replaces_what_was_there() {
    let doc = database().doc("d");
    doc.set("m", Value::from(json!({"a": 1, "b": {"c": 2}, "e": {}}))).unwrap();
    doc.set(["m", "b", "d"], 3).unwrap();
    assert_eq!(json_of(&doc), json!({"m": {"a": 1, "b": {"c": 2, "d": 3}, "e": {}}}));
    doc.set("m", Value::from(json!({"only": true}))).unwrap();
    assert_eq!(json_of(&doc), json!({"m": {"only": true}}));
    doc.delete(["m", "only"]).unwrap();
    assert_eq!(json_of(&doc), json!({"m": {}}));
    doc.set("m", 5).unwrap();
    assert_eq!(json_of(&doc), json!({"m": 5}));
    doc.set(["m", "x"], 6).unwrap();
    assert_eq!(json_of(&doc), json!({"m": {"x": 6}}));
}

#[test]
fn concurrent_edits_of_different_fields_both_survive_and_of_the_same_field_one_wins_everywhere() {
    let (a, b) = two();
    a.doc("d").set("m", Value::from(json!({"x": 0, "y": 0, "z": 0}))).unwrap();
    exchange(&a, &b);
    a.doc("d").set(["m", "x"], 1).unwrap();
    b.doc("d").set(["m", "y"], 2).unwrap();
    a.doc("d").set(["m", "z"], "a").unwrap();
    b.doc("d").set(["m", "z"], "b").unwrap();
    exchange(&a, &b);
    let seen = json_of(&a.doc("d"));
    assert_eq!(seen, json_of(&b.doc("d")));
    assert_eq!((&seen["m"]["x"], &seen["m"]["y"]), (&json!(1), &json!(2)));
    assert!(seen["m"]["z"] == json!("a") || seen["m"]["z"] == json!("b"));
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
}

#[test]
fn a_delete_hides_what_is_older_and_not_what_is_newer() {
    let (a, b) = two();
    a.doc("d").set(["m", "old"], 1).unwrap();
    exchange(&a, &b);
    a.doc("d").delete("m").unwrap();
    // The clock of b stands where that of a stood; one entry more makes its next one the later one.
    b.doc("other").set("x", 1).unwrap();
    b.doc("d").set(["m", "new"], 2).unwrap();
    exchange(&a, &b);
    assert_eq!(json_of(&a.doc("d")), json!({"m": {"new": 2}}));
    assert_eq!(json_of(&b.doc("d")), json!({"m": {"new": 2}}));
}

#[test]
fn counters_add_up_and_a_set_starts_them_anew() {
    let (a, b) = two();
    for _ in 0..3 {
        a.doc("d").increment("n", 2).unwrap();
        b.doc("d").increment("n", 5).unwrap();
    }
    exchange(&a, &b);
    assert_eq!(a.doc("d").get("n").unwrap(), Some(Value::from(21)));
    assert_eq!(b.doc("d").get("n").unwrap(), Some(Value::from(21)));
    a.doc("d").set("n", 100).unwrap();
    a.doc("d").increment("n", -1).unwrap();
    exchange(&a, &b);
    assert_eq!(b.doc("d").get("n").unwrap(), Some(Value::from(99)));
    b.doc("d").delete("n").unwrap();
    assert_eq!(b.doc("d").get("n").unwrap(), None);
    b.doc("d").increment("n", 1).unwrap();
    exchange(&a, &b);
    assert_eq!(a.doc("d").get("n").unwrap(), Some(Value::from(1)));
}

#[test]
fn a_type_mismatch_is_an_error_and_writes_nothing() {
    let db = database();
    let doc = db.doc("d");
    doc.set("t", "text").unwrap();
    let before = db.entries().unwrap();
    assert!(matches!(doc.increment("t", 1), Err(DbError::Type { found: "text", wanted: "integer" })));
    assert!(matches!(doc.get_as::<u32>("t"), Err(DbError::Decode(_))));
    assert!(matches!(db.table::<Json>("d").get("t"), Err(DbError::WrongKind { .. })));
    assert!(matches!(
        db.table::<Json>("d").insert(&json!({})),
        Err(DbError::WrongKind { found, wanted: "table", .. }) if found == "doc"
    ));
    assert!(matches!(doc.set(Path::root(), 1), Err(DbError::Path)));
    assert!(matches!(db.doc("").set("a", 1), Err(DbError::StoreName { .. })));
    assert!(matches!(db.doc("_settings").set("a", 1), Err(DbError::StoreName { .. })));
    assert_eq!(db.entries().unwrap(), before);
}

#[test]
fn two_peers_who_have_never_met_create_the_same_store_and_both_values_are_there() {
    let (a, b) = two();
    a.doc("new").set(["people", "ada"], 1).unwrap();
    b.doc("new").set(["people", "bea"], 2).unwrap();
    b.table::<Json>("kinds").insert_as("k", &json!({"v": 1})).unwrap();
    a.doc("kinds").set("v", 2).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(json_of(&db.doc("new")), json!({"people": {"ada": 1, "bea": 2}}));
        // Two kinds under one name: both are kept, and opening by name alone says so.
        assert!(
            matches!(db.kind_of("kinds"), Err(DbError::SeveralKinds { kinds, .. }) if kinds == ["doc", "table"])
        );
        assert_eq!(json_of(&db.doc("kinds")), json!({"v": 2}));
        assert_eq!(db.table::<Json>("kinds").get("k").unwrap(), Some(json!({"v": 1})));
    }
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
}

#[test]
fn a_map_that_would_become_rows_without_bound_is_refused() {
    let db = database();
    let map: Json = (0..20_000).map(|n| (format!("{n}"), json!(0))).collect::<serde_json::Map<_, _>>().into();
    db.doc("d").set("short", Value::from(map.clone())).unwrap();
    let entries = db.entries().unwrap();
    let long = "x".repeat(1000);
    assert!(matches!(db.doc("d").set(long.as_str(), Value::from(map)), Err(DbError::TooLarge)));
    let deep: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    assert!(matches!(db.doc("d").set(deep, 1), Err(DbError::Path)));
    assert_eq!(db.entries().unwrap(), entries);
    assert_eq!(db.stores().unwrap()[0].rows, 20_000);
}

#[test]
fn concurrent_values_of_a_path_are_found_on_request_and_a_later_set_covers_them() {
    let (a, b) = two();
    let seen = |db: &crate::Database| {
        let found = db.doc("d").get_all("m.x").unwrap();
        assert!(found.complete);
        found.values
    };
    assert_eq!(seen(&a), []);
    a.doc("d").set("m.x", 0).unwrap();
    exchange(&a, &b);
    assert_eq!(seen(&a).len(), 1);
    a.doc("d").set("m.x", "a").unwrap();
    a.doc("d").set("m.y", 1).unwrap();
    b.doc("d").set("m.y", 2).unwrap();
    b.doc("d").set("m", Value::from(json!({"x": "b"}))).unwrap();
    b.doc("other").set("x", 1).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        let values = seen(db);
        assert_eq!(values.iter().map(|v| v.value.clone()).collect::<Vec<_>>(), ["b", "a"].map(Value::from));
        assert_eq!(db.doc("d").get("m.x").unwrap(), Some(Value::from("b")));
        assert_eq!(values[1].author, a.instance().device());
        assert_eq!(values[0].author, b.instance().device());
        assert!(values[0].entry != values[1].entry && values[0].time >= values[1].time);
    }
    // What was written after both covers both; what was written beside it does not.
    a.doc("d").delete("m.x").unwrap();
    b.doc("d").set("m.x", "late").unwrap();
    exchange(&a, &b);
    let late: Vec<Value> = seen(&a).into_iter().map(|v| v.value).collect();
    assert_eq!(late, [Value::from("late")]);
    a.doc("d").set("m.x", "last").unwrap();
    exchange(&a, &b);
    assert_eq!(seen(&b).into_iter().map(|v| v.value).collect::<Vec<_>>(), [Value::from("last")]);
    // An encrypted or missing part would be said; so is what takes too long to find.
    assert_eq!(a.doc("d").get_all("nothing").unwrap().values, []);
}

#[test]
fn what_merges_is_one_value_and_what_was_set_beside_it_another() {
    let (a, b) = two();
    let seen = |db: &crate::Database, path: &str| {
        let found = db.doc("d").get_all(path).unwrap();
        assert!(found.complete);
        assert_eq!(found.values.first().map(|v| v.value.clone()), db.doc("d").get(path).unwrap());
        found.values.into_iter().map(|v| Json::from(v.value)).collect::<Vec<_>>()
    };
    a.doc("d").list("l").push(1).unwrap();
    a.doc("d").increment("n", 1).unwrap();
    a.doc("d").set("s", Value::from(json!([1]))).unwrap();
    a.doc("d").set("m.x", 1).unwrap();
    exchange(&a, &b);
    a.doc("d").list("s").push(2).unwrap();
    for db in [&a, &b] {
        db.doc("d").list("l").push(2).unwrap();
        db.doc("d").increment("n", 1).unwrap();
    }
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(seen(db, "l"), [json!([1, 2, 2])]);
        assert_eq!(seen(db, "n"), [json!(3)]);
        assert_eq!(seen(db, "s"), [json!([1, 2])]);
        assert_eq!(seen(db, "m"), [json!({"x": 1})]);
    }
    // A value on the one side, a list, a map on the other, which are written later.
    a.doc("d").set("c", "value").unwrap();
    a.doc("d").set("e", "value").unwrap();
    b.doc("other").set("x", 1).unwrap();
    b.doc("other").set("x", 2).unwrap();
    b.doc("d").list("c").push(1).unwrap();
    b.doc("d").set("e.x", 1).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(seen(db, "c"), [json!([1]), json!("value")]);
        assert_eq!(seen(db, "e"), [json!({"x": 1}), json!("value")]);
    }
    a.doc("d").list("c").push(2).unwrap();
    assert_eq!(seen(&a, "c"), [json!([1, 2])], "who has seen both has settled it");
}

#[test]
fn a_text_taken_as_a_path_has_dots_or_is_a_pointer_and_an_array_is_taken_as_it_is() {
    let doc = database().doc("d");
    doc.set("a.b", 1).unwrap();
    doc.set("/a/c.d", 2).unwrap();
    doc.set(["a.b"], 3).unwrap();
    doc.set("wait..", 4).unwrap();
    assert_eq!(json_of(&doc), json!({"a": {"b": 1, "c.d": 2}, "a.b": 3, "wait..": 4}));
    assert_eq!(doc.get_as::<i64>(String::from("a.b")).unwrap(), Some(1));
}

#[test]
fn keys_are_listed_without_what_is_below_them_and_deleted_ones_are_not() {
    let doc = database().doc("d");
    let many: Json =
        (0..1500).map(|n| (format!("{n:04}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    doc.set(
        "m",
        Value::from(json!({"a": many, "b": many, "c": 1, "d": {"e": {}}, "f": {"g": {"h": 1}}, "z": []})),
    )
    .unwrap();
    doc.delete("m.b").unwrap();
    doc.delete("m.f.g.h").unwrap();
    assert_eq!(doc.keys("m").unwrap(), ["a", "c", "d", "f", "z"]);
    assert_eq!(doc.keys("m.a").unwrap().len(), 1500);
    doc.delete("m.f.g").unwrap();
    doc.delete("m.f").unwrap();
    assert_eq!(doc.keys("m").unwrap(), ["a", "c", "d", "z"]);
    assert_eq!(doc.keys(Path::root()).unwrap(), ["m"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn values_come_back_exactly_under_any_keys(
        keys in proptest::collection::vec("[a.\u{0}\u{1}é/~]{0,3}", 1..4),
        value in any_value(),
    ) {
        let doc = database().doc("d");
        doc.set(keys.clone(), value.clone()).unwrap();
        prop_assert_eq!(doc.get(keys.clone()).unwrap(), Some(value));
        prop_assert_eq!(doc.keys(Path::root()).unwrap(), [keys[0].clone()]);
    }
}
