use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::support::{database, env, exchange, two};
use crate::{Comparison, DbError, Path};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Todo {
    title: String,
    done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn todo(title: &str) -> Todo {
    Todo { title: title.to_owned(), done: false, note: None }
}

#[test]
fn rows_with_generated_and_own_keys_come_back_typed() {
    let table = database().table::<Todo>("todos");
    let first = table.insert(&todo("one")).unwrap();
    let second = table.insert(&todo("two")).unwrap();
    assert!(first < second, "keys made later sort later");
    assert_eq!(uuid::Uuid::parse_str(&first).unwrap().get_version_num(), 7);
    table.insert_as("own", &todo("three")).unwrap();
    assert_eq!(table.get(&second).unwrap(), Some(todo("two")));
    assert_eq!(table.get("own").unwrap(), Some(todo("three")));
    assert_eq!(table.get("none").unwrap(), None);
    assert_eq!(table.count().unwrap(), 3);
    let keys = table.insert_many(&[todo("four"), todo("five")]).unwrap();
    assert_eq!(table.get(&keys[1]).unwrap(), Some(todo("five")));
}

#[test]
fn an_update_writes_only_the_fields_that_changed() {
    let (a, b) = two();
    let (here, there) = (a.table::<Todo>("t"), b.table::<Todo>("t"));
    here.insert_as("k", &todo("one")).unwrap();
    exchange(&a, &b);
    here.update("k", |t| t.title = "renamed".to_owned()).unwrap();
    there.update("k", |t| t.done = true).unwrap();
    there.update("k", |t| t.note = Some("n".to_owned())).unwrap();
    exchange(&a, &b);
    let merged = Todo { title: "renamed".to_owned(), done: true, note: Some("n".to_owned()) };
    assert_eq!(here.get("k").unwrap(), Some(merged.clone()));
    assert_eq!(there.get("k").unwrap(), Some(merged));
    here.update("k", |t| t.note = None).unwrap();
    assert_eq!(here.get("k").unwrap().unwrap().note, None);
    let before = a.entries().unwrap();
    here.update("k", |_| {}).unwrap();
    assert_eq!(a.entries().unwrap(), before, "an update that changes nothing writes nothing");
    assert!(matches!(here.update("none", |_| {}), Err(DbError::NoSuchRow { .. })));
}

#[test]
fn a_deleted_row_stays_deleted_until_it_is_inserted_again() {
    let (a, b) = two();
    let (here, there) = (a.table::<Todo>("t"), b.table::<Todo>("t"));
    here.insert_as("k", &Todo { note: Some("old".to_owned()), ..todo("one") }).unwrap();
    exchange(&a, &b);
    here.delete("k").unwrap();
    // A later update elsewhere, made without knowing of the delete.
    there.insert_as("other", &todo("x")).unwrap();
    there.update("k", |t| t.done = true).unwrap();
    exchange(&a, &b);
    assert_eq!((here.get("k").unwrap(), there.get("k").unwrap()), (None, None));
    assert_eq!(a.stores().unwrap()[0].rows, 1);
    here.insert_as("k", &todo("again")).unwrap();
    assert_eq!(here.get("k").unwrap(), Some(todo("again")), "fields older than the delete are dead");
}

#[test]
fn put_replaces_the_row() {
    let db = database();
    let table = db.table::<Json>("t");
    table.put("k", &json!({"a": 1, "b": 2})).unwrap();
    table.put("k", &json!({"b": 2, "c": 3})).unwrap();
    assert_eq!(table.get("k").unwrap(), Some(json!({"b": 2, "c": 3})));
    let before = db.entries().unwrap();
    table.put("k", &json!({"b": 2, "c": 3})).unwrap();
    assert_eq!(db.entries().unwrap(), before);
}

#[test]
fn a_wrong_row_is_a_clear_error() {
    let db = database();
    let raw = db.table::<Json>("t");
    assert!(matches!(raw.insert(&json!([1])), Err(DbError::NotARow { found: "list" })));
    assert!(matches!(raw.insert_as("", &json!({})), Err(DbError::RowKey)));
    raw.insert_as("k", &json!({"title": 5})).unwrap();
    assert!(matches!(db.table::<Todo>("t").get("k"), Err(DbError::DecodeRow { .. })));
    assert!(matches!(db.table::<Todo>("t").query().rows(), Err(DbError::DecodeRow { .. })));
}

#[test]
fn a_row_of_a_type_that_knows_fewer_fields_keeps_the_others() {
    #[derive(Serialize, Deserialize)]
    struct Title {
        title: String,
    }
    let db = database();
    let raw = db.table::<Json>("t");
    raw.insert_as("k", &json!({"title": "a", "colour": "red"})).unwrap();
    db.table::<Title>("t").update("k", |t| t.title = "b".to_owned()).unwrap();
    assert_eq!(raw.get("k").unwrap(), Some(json!({"title": "b", "colour": "red"})));
}

#[test]
fn scans_and_pages_go_in_the_order_of_keys() {
    let table = database().table::<Json>("t");
    let rows: Vec<(String, Json)> = (0..1200).map(|n| (format!("{n:04}"), json!({"n": n}))).collect();
    table.insert_many_as(rows.iter().map(|(key, row)| (key, row))).unwrap();
    for key in ["0003", "0005", "0700"] {
        table.delete(key).unwrap();
    }
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = table.page(after.as_deref(), 100).unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|(key, _)| key));
    }
    let expected: Vec<String> = rows
        .iter()
        .map(|(key, _)| key.clone())
        .filter(|k| !["0003", "0005", "0700"].contains(&k.as_str()))
        .collect();
    assert_eq!(seen, expected);
    let mut ranged = Vec::new();
    table
        .scan((Bound::Included("0002"), Bound::Excluded("0007")), |key, _| {
            ranged.push(key);
            Ok(true)
        })
        .unwrap();
    assert_eq!(ranged, ["0002", "0004", "0006"]);
}

#[test]
fn queries_filter_order_and_limit() {
    let table = database().table::<Json>("airports");
    for (key, elevation, city) in [
        ("a", json!(300), "Bern"),
        ("b", json!(12.5), "Oslo"),
        ("c", json!(-3), "Bern"),
        ("d", json!(null), "Rom"),
    ] {
        table.insert_as(key, &json!({"elevation": elevation, "place": {"city": city}})).unwrap();
    }
    let keys = |query: crate::Query<Json>| -> Vec<String> {
        query.entries().unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(table.query().eq(["place", "city"], "Bern")), ["a", "c"]);
    assert_eq!(keys(table.query().gt("elevation", 12)), ["a", "b"]);
    assert_eq!(keys(table.query().le("elevation", 12.5).order_desc("elevation")), ["b", "c"]);
    assert_eq!(keys(table.query().order("elevation")), ["d", "c", "b", "a"]);
    assert_eq!(keys(table.query().order_desc("elevation").limit(2)), ["a", "b"]);
    assert_eq!(keys(table.query().ne("elevation", 300).limit(2)), ["b", "c"]);
    assert_eq!(keys(table.query().filter(Path::from("none"), Comparison::Lt, 1)), [""; 0]);
    assert_eq!(table.query().lt("elevation", 0).count().unwrap(), 1);
    assert_eq!(keys(table.query().limit(0)), [""; 0]);
}

#[test]
fn keys_made_later_sort_later_within_a_millisecond_and_when_the_clock_steps_back() {
    let (env, clock) = env(1);
    let node = crate::Instance::open(std::sync::Arc::new(eid_store::Memory::new()), env).unwrap();
    let table = node.create_database("test").unwrap().database.table::<Todo>("t");
    let mut keys = table.insert_many(&vec![todo("x"); 5000]).unwrap();
    clock.advance(10);
    keys.push(table.insert(&todo("x")).unwrap());
    clock.set(1);
    keys.push(table.insert(&todo("x")).unwrap());
    clock.set(1_700_000_009_000);
    keys.push(table.insert(&todo("x")).unwrap());
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert_eq!(table.count().unwrap(), 5003);
}

#[test]
fn rows_are_counted_whatever_comes_and_goes() {
    let db = database();
    let table = db.table::<Json>("t");
    assert_eq!(table.count().unwrap(), 0);
    table.insert_many_as([("a", &json!({})), ("b", &json!({})), ("a", &json!({"n": 1}))]).unwrap();
    table.delete("b").unwrap();
    table.delete("b").unwrap();
    table.delete("never there").unwrap();
    table.put("c", &json!({})).unwrap();
    let within = db.write(|tx| {
        let table = tx.table::<Json>("t");
        table.insert(&json!({}))?;
        table.delete("a")?;
        table.delete("c")?;
        tx.table::<Json>("t").count()
    });
    assert_eq!(within.unwrap(), 1);
    assert_eq!(table.count().unwrap(), 1);
    assert_eq!(db.stores().unwrap()[0].rows, 1);
}

#[test]
fn several_rows_are_read_at_once() {
    let table = database().table::<Json>("t");
    table
        .insert_many_as([("a", &json!({"n": 1})), ("b", &json!({"n": 2})), ("c", &json!({"n": 3}))])
        .unwrap();
    table.delete("b").unwrap();
    let found = table.get_many(&["c", "b", "a", "none", "c"]).unwrap();
    let three = Some(json!({"n": 3}));
    assert_eq!(found, [three.clone(), None, Some(json!({"n": 1})), None, three]);
    assert!(
        table.contains("a").unwrap() && !table.contains("b").unwrap() && !table.contains("none").unwrap()
    );
}

fn wide(names: std::ops::Range<usize>) -> Json {
    Json::Object(names.map(|n| (format!("{n:04}"), json!(n))).collect())
}

#[test]
fn a_row_that_would_have_too_many_fields_is_refused_or_keeps_the_newest() {
    let (a, b) = two();
    let (here, there) = (a.table::<Json>("t"), b.table::<Json>("t"));
    let max = crate::limits::ROW_FIELDS_MAX;
    assert!(matches!(here.insert_as("k", &wide(0..max + 1)), Err(DbError::NotARow { .. })));
    here.insert_as("k", &wide(0..max)).unwrap();
    exchange(&a, &b);
    let add = |row: &mut Json| row["more"] = json!(1);
    assert!(matches!(here.update("k", add), Err(DbError::NotARow { .. })));
    here.update("k", |row| row["0000"] = json!("changed")).unwrap();
    // What is merged blindly cannot be refused. The least names of the first insert are the oldest now.
    there.insert_as("k", &wide(max..max + 3)).unwrap();
    exchange(&a, &b);
    let row = here.get("k").unwrap().unwrap();
    assert_eq!(there.get("k").unwrap().as_ref(), Some(&row));
    let names: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), max);
    assert_eq!((row["0000"].as_str(), names[1].as_str()), (Some("changed"), "0004"));
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
}

#[test]
fn two_devices_that_insert_one_key_at_once_merge_field_by_field() {
    let (a, b) = two();
    a.table::<Json>("t").insert_as("k", &json!({"x": 1})).unwrap();
    b.table::<Json>("t").insert_as("k", &json!({"y": 2})).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(db.table::<Json>("t").get("k").unwrap(), Some(json!({"x": 1, "y": 2})));
        assert_eq!(db.table::<Json>("t").count().unwrap(), 1);
    }
}

#[test]
fn bytes_in_a_row_stay_bytes() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Blob {
        name: String,
        digest: Option<crate::tests::typed::Raw>,
        greatest: u64,
    }
    let db = database();
    let table = db.table::<Blob>("t");
    let blob = Blob {
        name: "a".to_owned(),
        digest: Some(crate::tests::typed::Raw(vec![0, 255])),
        greatest: u64::MAX,
    };
    table.insert_as("k", &blob).unwrap();
    assert_eq!(table.get("k").unwrap(), Some(blob));
    assert_eq!(table.query().eq("digest", vec![0u8, 255]).count().unwrap(), 1);
    // A reader of JSON sees numbers, and what it does not change stays as it was.
    let raw = db.table::<Json>("t");
    assert_eq!(raw.get("k").unwrap().unwrap()["digest"], json!([0, 255]));
    raw.update("k", |row| row["name"] = json!("b")).unwrap();
    assert_eq!(table.query().eq("digest", vec![0u8, 255]).count().unwrap(), 1);
}
