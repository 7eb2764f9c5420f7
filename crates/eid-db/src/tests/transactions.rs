use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eid_crdt::Value;
use eid_store::{Backend, BackendError, Batch, Memory, Snapshot};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{database, env, exchange, node_over, two};
use crate::kind::doc::{self, DocOp};
use crate::{DbError, Instance, Path};

#[test]
fn many_stores_are_written_in_one_entry_and_read_back_before_it() {
    let db = database();
    let before = db.entries().unwrap();
    let count = db
        .write(|tx| {
            tx.doc("d").set(["a", "b"], 1)?;
            tx.doc("d").increment("n", 2)?;
            tx.doc("d").increment("n", 3)?;
            let key = tx.table::<Json>("t").insert(&json!({"x": 1}))?;
            tx.table::<Json>("t").update(&key, |row| row["x"] = json!(2))?;
            assert_eq!(tx.table::<Json>("t").get(&key)?, Some(json!({"x": 2})));
            assert_eq!(tx.doc("d").get("a")?, Some(Value::from(json!({"b": 1}))));
            assert_eq!(tx.doc("d").get("n")?, Some(Value::from(5)));
            tx.doc("d").delete("a")?;
            assert_eq!(tx.doc("d").keys(Path::root())?, ["n"]);
            // Nobody outside sees any of it.
            assert_eq!(db.doc("d").to_json()?, json!({}));
            Ok(tx.table::<Json>("t").page(None, 10)?.len())
        })
        .unwrap();
    assert_eq!(count, 1);
    assert_eq!(db.entries().unwrap(), before + 1);
    assert_eq!(db.doc("d").to_json().unwrap(), json!({"n": 5}));
    assert_eq!(db.table::<Json>("t").query().rows().unwrap(), [json!({"x": 2})]);
}

#[test]
fn a_failing_closure_a_rollback_and_a_dropped_commit_leave_nothing() {
    let db = database();
    let before = (db.entries().unwrap(), db.state_hash().unwrap());
    let failed: Result<(), DbError> = db.write(|tx| {
        tx.doc("d").set("a", 1)?;
        Err(DbError::abort("changed my mind"))
    });
    assert!(matches!(failed, Err(DbError::Aborted(_))));
    let tx = db.begin().unwrap();
    tx.doc("d").set("a", 1).unwrap();
    tx.rollback();
    let ((), pending) = db.prepare_write(|tx| tx.doc("d").set("a", 1)).unwrap();
    drop(pending);
    assert_eq!((db.entries().unwrap(), db.state_hash().unwrap()), before);
    // The turn of the dropped one is over.
    db.write(|tx| tx.doc("d").set("a", 2)).unwrap();
}

#[test]
fn an_empty_commit_writes_nothing() {
    let db = database();
    let before = db.entries().unwrap();
    assert_eq!(db.begin().unwrap().commit().unwrap(), None);
    db.write(|tx| tx.doc("d").get("x").map(drop)).unwrap();
    assert_eq!(db.entries().unwrap(), before);
}

#[test]
fn a_transaction_that_has_read_descends_from_what_it_read_and_a_blind_one_from_what_is_there() {
    let db = database();
    db.doc("d").set("x", 1).unwrap();
    let (reader, blind, begun) =
        (db.begin().unwrap(), db.prepare_blind(|tx| tx.doc("d").set("blind", 1)), db.begin());
    assert_eq!(reader.doc("d").get("x").unwrap(), Some(Value::from(1)));
    db.doc("d").set("x", 2).unwrap();
    let later = db.tips().unwrap();
    assert_eq!(reader.doc("d").get("x").unwrap(), Some(Value::from(1)), "it sees what it saw");
    reader.doc("d").set("read", 1).unwrap();
    let parents = |id| {
        let snapshot = db.snapshot().unwrap();
        snapshot.entry(&id).unwrap().unwrap().header().parents.clone()
    };
    let blind = blind.unwrap().1.commit().unwrap().unwrap();
    assert_eq!(parents(blind.id), later);
    let reader = reader.commit().unwrap().unwrap();
    assert_ne!(parents(reader.id), later);
    begun.unwrap().commit().unwrap();
    assert_eq!(db.tips().unwrap().len(), 2, "the DAG forked, and both count");
    assert_eq!(db.doc("d").to_json().unwrap(), json!({"x": 2, "blind": 1, "read": 1}));
    db.doc("d").set("joined", 1).unwrap();
    assert_eq!(db.tips().unwrap().len(), 1);
}

#[test]
fn write_closures_of_one_instance_each_see_the_last() {
    let db = database();
    db.doc("d").set("n", 0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    db.write(|tx| {
                        let n: i64 = tx.doc("d").get_as("n")?.unwrap_or(0);
                        tx.doc("d").set("n", n + 1)
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(db.doc("d").get("n").unwrap(), Some(Value::from(40)));
    assert_eq!(db.tips().unwrap().len(), 1);
}

#[test]
fn blind_writers_on_many_threads_make_a_chain() {
    let db = database();
    let start = db.height().unwrap().0;
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let db = &db;
            scope.spawn(move || {
                for n in 0..10 {
                    db.doc("d").set([format!("{writer}").as_str(), &format!("{n}")], n).unwrap();
                }
            });
        }
    });
    assert_eq!(db.height().unwrap().0, start + 80);
    assert_eq!(db.tips().unwrap().len(), 1);
    assert_eq!(db.stores().unwrap()[0].rows, 80);
}

#[test]
fn what_is_too_large_for_an_entry_is_refused_before_anything_is_written() {
    let db = database();
    let before = db.entries().unwrap();
    let large = "x".repeat(600 * 1024);
    let result = db.write(|tx| {
        tx.doc("d").set("a", large.as_str())?;
        tx.doc("e").set("b", large.as_str())
    });
    assert!(matches!(result, Err(DbError::TooLarge)));
    let many: Result<(), DbError> =
        db.write(|tx| (0..65).try_for_each(|n| tx.doc(&format!("store {n}")).set("a", 1)));
    assert!(matches!(many, Err(DbError::TooManyStores)));
    assert_eq!(db.entries().unwrap(), before);
}

#[test]
fn one_name_is_one_kind_within_a_transaction() {
    let db = database();
    let result = db.write(|tx| {
        tx.doc("s").set("a", 1)?;
        tx.table::<Json>("s").insert_as("k", &json!({}))
    });
    assert!(matches!(result, Err(DbError::WrongKind { .. })));
    assert!(db.stores().unwrap().is_empty());
}

/// A backend whose commits fail while it is told so.
#[derive(Debug)]
struct Failing {
    inner: Memory,
    fails: AtomicBool,
}

impl Backend for Failing {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        if self.fails.load(Ordering::SeqCst) { Err(BackendError::Full) } else { self.inner.commit(batch) }
    }
}

#[test]
fn a_commit_that_the_disk_refuses_leaves_nothing_half_there_and_works_again_later() {
    let failing = Arc::new(Failing { inner: Memory::new(), fails: AtomicBool::new(false) });
    let backend: Arc<dyn Backend> = Arc::<Failing>::clone(&failing);
    let node = Instance::open(Arc::clone(&backend), env(1).0).unwrap();
    let db = node.create_database("test").unwrap().database;
    db.doc("d").set("kept", 1).unwrap();
    let before = (db.entries().unwrap(), db.state_hash().unwrap());
    failing.fails.store(true, Ordering::SeqCst);
    let result = db.write(|tx| {
        tx.doc("d").set("lost", 1)?;
        tx.doc("e").set("lost", 1)?;
        tx.table::<Json>("t").insert_as("lost", &json!({}))
    });
    assert!(matches!(result, Err(DbError::Store(_))));
    failing.fails.store(false, Ordering::SeqCst);
    assert_eq!((db.entries().unwrap(), db.state_hash().unwrap()), before);
    let again = node_over(&backend, 9).database("test").unwrap().unwrap();
    assert_eq!((again.entries().unwrap(), again.state_hash().unwrap()), before);
    again.doc("d").set("after", 1).unwrap();
    assert_eq!(again.doc("d").to_json().unwrap(), json!({"kept": 1, "after": 1}));
}

#[test]
fn what_a_transaction_reads_is_what_everybody_reads_after_it() {
    let (a, b) = two();
    a.doc("d").set("n", 1).unwrap();
    exchange(&a, &b);
    let inside = a
        .write(|tx| {
            let doc = tx.doc("d");
            doc.increment("n", 4)?;
            doc.set("m", Value::from(json!({"x": {"y": 1}, "z": []})))?;
            doc.delete(["m", "x", "y"])?;
            doc.set(["m", "z", "w"], 2)?;
            doc.get(Path::root())
        })
        .unwrap();
    exchange(&a, &b);
    assert_eq!(a.doc("d").get(Path::root()).unwrap(), inside);
    assert_eq!(b.doc("d").get(Path::root()).unwrap(), inside);
    assert_eq!(b.doc("d").to_json().unwrap(), json!({"n": 5, "m": {"x": {}, "z": {"w": 2}}}));
}

#[test]
fn a_write_within_a_write_is_an_error_and_not_a_standstill() {
    let db = database();
    let nested =
        db.write(|_| db.doc("d").set("blind", 1).and_then(|()| db.table::<Json>("t").put("k", &json!({}))));
    assert!(matches!(nested, Err(DbError::NestedWrite)));
    db.write(|tx| tx.doc("d").set("a", 1)).unwrap();
}

fn any_op() -> impl Strategy<Value = DocOp> {
    let path = || proptest::collection::vec(prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 1..4);
    let value = prop_oneof![
        2 => any::<u8>().prop_map(Value::from),
        1 => Just(Value::from(json!({"a": {"b": 1}, "b": {}}))),
    ];
    prop_oneof![
        3 => (path(), value).prop_map(|(path, value)| DocOp::Set { path, value }),
        2 => path().prop_map(|path| DocOp::Delete { path }),
        3 => (path(), -5i64..5).prop_map(|(path, by)| DocOp::Increment { path, by }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_transaction_reads_what_its_commit_will_show(
        before in proptest::collection::vec(any_op(), 0..8),
        staged in proptest::collection::vec(any_op(), 1..12),
    ) {
        let db = database();
        let stage = |tx: &crate::Transaction, op: &DocOp| tx.stage("d", doc::KIND, doc::encode(op));
        for op in &before {
            db.write_blind(|tx| stage(tx, op)).unwrap();
        }
        let inside = db.write(|tx| {
            for op in &staged {
                stage(tx, op)?;
                tx.doc("d").get(Path::root())?;
            }
            tx.doc("d").get(Path::root())
        }).unwrap();
        prop_assert_eq!(db.doc("d").get(Path::root()).unwrap(), inside);
    }

    #[test]
    fn a_transaction_pages_through_stored_and_staged_rows_together(
        stored in proptest::collection::btree_map(0u8..40, any::<u8>(), 0..30),
        staged in proptest::collection::vec((0u8..40, any::<Option<u8>>()), 0..30),
        page in 1usize..7,
    ) {
        let db = database();
        let key = |n: u8| format!("{n:03}");
        let table = db.table::<Json>("t");
        table.insert_many_as(stored.iter().map(|(n, v)| (key(*n), json!({"v": v}))).collect::<Vec<_>>().iter().map(|(k, v)| (k, v))).unwrap();
        let mut model: BTreeMap<String, Json> = stored.iter().map(|(n, v)| (key(*n), json!({"v": v}))).collect();
        let tx = db.begin().unwrap();
        let inside = tx.table::<Json>("t");
        for (n, value) in &staged {
            match value {
                Some(value) => {
                    inside.put(&key(*n), &json!({"v": value})).unwrap();
                    model.insert(key(*n), json!({"v": value}));
                }
                None => {
                    inside.delete(&key(*n)).unwrap();
                    model.remove(&key(*n));
                }
            }
        }
        let mut seen: Vec<(String, Json)> = Vec::new();
        loop {
            let rows = inside.page(seen.last().map(|(key, _)| key.as_str()), page).unwrap();
            if rows.is_empty() {
                break;
            }
            prop_assert!(rows.len() <= page);
            seen.extend(rows);
        }
        prop_assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
    }
}

/// Lists in lists, `depth` of them.
fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::from(1), |inner, _| Value::List(vec![inner]))
}

#[test]
fn a_value_that_is_nested_too_deeply_is_refused_and_nothing_written_with_it_is_lost() {
    let db = database();
    for depth in 0..80 {
        let written = db.write(|tx| {
            tx.doc("d").set("y", depth as i64)?;
            tx.doc("d").set("x", nested(depth))
        });
        let is_there = db.doc("d").get("x").unwrap() == Some(nested(depth));
        assert_eq!(written.is_ok(), is_there, "{depth}: {written:?}");
    }
    assert!(db.write(|tx| tx.doc("d").set("x", nested(70))).is_err());
    for depth in 0..80 {
        let row = json!({ "f": Json::from(nested(depth)) });
        let written = db.table::<Json>("t").put("k", &row);
        let is_there = db.table::<Json>("t").get("k").unwrap() == Some(row);
        assert_eq!(written.is_ok(), is_there, "{depth}: {written:?}");
    }
}

#[test]
fn a_row_that_has_grown_beyond_what_one_write_may_name_is_not_replaced_by_a_write_without_effect() {
    let db = database();
    let table = db.table::<Json>("t");
    for part in 0..2 {
        let fields: serde_json::Map<_, _> = (0..600).map(|n| (format!("{part}-{n}"), json!(n))).collect();
        table.insert_as("k", &Json::Object(fields)).unwrap();
    }
    let row = json!({ "only": 1 });
    let written = table.put("k", &row);
    assert_eq!(written.is_ok(), table.get("k").unwrap() == Some(row), "{written:?}");
}

#[test]
fn a_write_keeps_its_turn_until_it_is_stored_though_every_handle_is_gone() {
    let node = super::support::node(1);
    let created = node.create_database("x").unwrap();
    let id = created.database.id();
    let ((), pending) = created.database.prepare_write(|tx| tx.doc("d").set("n", 1)).unwrap();
    drop(created);
    assert!(node.database_by_id(id).state().writing.try_lock().is_none());
    pending.commit().unwrap();
    assert!(node.database_by_id(id).state().writing.try_lock().is_some());
}
