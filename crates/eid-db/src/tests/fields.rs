use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::support::{database, exchange, two};
use crate::{Counter, DbError, Value};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Part {
    name: String,
    stock: Counter,
    #[serde(default)]
    sold: Counter,
}

fn part(stock: i64) -> Part {
    Part { name: "bolt".to_owned(), stock: Counter::new(stock), sold: Counter::default() }
}

#[test]
fn concurrent_changes_of_a_counter_add_up() {
    let (a, b) = two();
    let (here, there) = (a.table::<Part>("parts"), b.table::<Part>("parts"));
    here.insert_as("bolt", &part(10)).unwrap();
    exchange(&a, &b);
    here.update("bolt", |part| part.stock.add(-3)).unwrap();
    there.update("bolt", |part| part.stock.add(-4)).unwrap();
    there.update("bolt", |part| part.name = "nut".to_owned()).unwrap();
    there.counter("bolt", "stock").add(100).unwrap();
    exchange(&a, &b);
    let merged = Part { name: "nut".to_owned(), ..part(103) };
    assert_eq!(here.get("bolt").unwrap(), Some(merged.clone()));
    assert_eq!(there.get("bolt").unwrap(), Some(merged));
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
    assert_eq!(here.counter("bolt", "stock").get().unwrap().unwrap().get(), 103);
}

#[test]
fn a_counter_looks_like_an_integer_to_everybody_else() {
    let db = database();
    let (parts, raw) = (db.table::<Part>("parts"), db.table::<Json>("parts"));
    parts.insert_as("bolt", &part(10)).unwrap();
    parts.update("bolt", |part| part.sold.add(2)).unwrap();
    assert_eq!(raw.get("bolt").unwrap(), Some(json!({"name": "bolt", "stock": 10, "sold": 2})));
    assert_eq!(raw.query().eq("sold", 2).count().unwrap(), 1);
    // What counts goes on counting whoever writes it.
    raw.update("bolt", |row| row["sold"] = json!(5)).unwrap();
    raw.put("bolt", &json!({"name": "bolt", "stock": 10, "sold": 7})).unwrap();
    assert_eq!(parts.get("bolt").unwrap().unwrap().sold.get(), 7);
    let blamed = db.blame("parts", ["bolt", "sold"]).unwrap();
    assert_eq!(blamed[0].entry, db.tips().unwrap()[0]);
    assert_eq!(blamed[0].value, Some(Value::from(7)));
}

#[test]
fn a_set_of_a_counter_hides_what_was_added_before() {
    let (a, b) = two();
    let (here, there) = (a.table::<Part>("parts"), b.table::<Part>("parts"));
    here.insert_as("bolt", &part(10)).unwrap();
    here.update("bolt", |part| part.stock.add(5)).unwrap();
    exchange(&a, &b);
    // Inserting over a row sets.
    there.insert_as("bolt", &part(1)).unwrap();
    exchange(&a, &b);
    assert_eq!(here.get("bolt").unwrap(), Some(part(1)));
    here.update("bolt", |part| part.stock.add(1)).unwrap();
    assert_eq!(here.get("bolt").unwrap(), Some(part(2)));
    here.delete("bolt").unwrap();
    here.insert_as("bolt", &part(0)).unwrap();
    assert_eq!(here.get("bolt").unwrap(), Some(part(0)), "increments older than the delete are dead");
}

#[test]
fn an_increment_never_revives_a_row() {
    let (a, b) = two();
    let (here, there) = (a.table::<Part>("parts"), b.table::<Part>("parts"));
    here.insert_as("bolt", &part(10)).unwrap();
    exchange(&a, &b);
    here.delete("bolt").unwrap();
    there.insert_as("other", &part(1)).unwrap();
    there.update("bolt", |part| part.stock.add(1)).unwrap();
    exchange(&a, &b);
    assert_eq!((here.get("bolt").unwrap(), there.get("bolt").unwrap()), (None, None));
    assert_eq!((here.count().unwrap(), there.count().unwrap()), (1, 1));
    assert!(matches!(here.counter("bolt", "stock").add(1), Err(DbError::NoSuchRow { .. })));
    assert!(matches!(here.counter("other", "name").add(1), Err(DbError::Type { found: "text", .. })));
}

#[test]
fn counters_that_begin_on_two_devices_at_once_add_up() {
    let (a, b) = two();
    a.table::<Json>("t").insert_as("k", &json!({"name": "x", "stock": 0})).unwrap();
    exchange(&a, &b);
    a.table::<Part>("t").update("k", |part| part.sold.add(1)).unwrap();
    b.table::<Part>("t").update("k", |part| part.sold.add(2)).unwrap();
    exchange(&a, &b);
    assert_eq!(a.table::<Part>("t").get("k").unwrap().unwrap().sold.get(), 3);
    assert_eq!(b.table::<Part>("t").get("k").unwrap().unwrap().sold.get(), 3);
}

#[test]
fn field_types_within_something_else_are_refused() {
    #[derive(Serialize, Deserialize)]
    struct Nested {
        counts: BTreeMap<String, Counter>,
    }
    let row = Nested { counts: [("a".to_owned(), Counter::new(1))].into() };
    let Err(DbError::Encode(cause)) = database().table("t").insert(&row) else { panic!() };
    assert_eq!(cause.to_string(), "counts.a: a counter must be a field of a row itself");
}

#[test]
fn a_transaction_sees_what_it_has_added() {
    let db = database();
    db.table::<Part>("parts").insert_as("bolt", &part(10)).unwrap();
    let seen = db.write(|tx| {
        let parts = tx.table::<Part>("parts");
        parts.update("bolt", |part| part.stock.add(1))?;
        parts.add("bolt", "stock", 1)?;
        parts.update("bolt", |part| part.stock.add(1))?;
        Ok(parts.get("bolt")?.unwrap().stock.get())
    });
    assert_eq!(seen.unwrap(), 13);
    assert_eq!(db.table::<Part>("parts").get("bolt").unwrap(), Some(part(13)));
}

#[test]
fn an_option_of_a_counter_is_one() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        votes: Option<Counter>,
    }
    let (a, b) = two();
    let table = a.table::<Row>("t");
    table.insert_as("k", &Row { votes: None }).unwrap();
    table.update("k", |row| row.votes = Some(Counter::new(5))).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        db.table::<Row>("t").update("k", |row| row.votes.as_mut().unwrap().add(1)).unwrap();
    }
    exchange(&a, &b);
    assert_eq!(table.get("k").unwrap().unwrap().votes, Some(Counter::new(7)));
}
