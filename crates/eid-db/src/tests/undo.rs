use eid_core::EntryId;
use eid_crdt::Value;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{database, exchange, two};
use crate::kind::doc::{self, DocOp};
use crate::kind::table;
use crate::{Database, DbError, Path, Transaction, Undone};

fn wrote(db: &Database, work: impl FnOnce(&Transaction) -> Result<(), DbError>) -> EntryId {
    db.prepare_write(work).unwrap().1.commit().unwrap().unwrap().id
}

/// What can be seen of the three stores that these tests write.
#[derive(Debug, Clone, PartialEq)]
struct Content {
    doc: Json,
    rows: Vec<(String, Json)>,
    text: String,
}

fn content(db: &Database) -> Content {
    Content {
        doc: db.doc("doc").to_json().unwrap(),
        rows: db.table::<Json>("table").page(None, usize::MAX).unwrap(),
        text: db.text("text").read().unwrap(),
    }
}

fn kept(undone: &Undone) -> Vec<(String, Option<&str>, Option<EntryId>)> {
    undone.kept.iter().map(|kept| (kept.path.to_string(), kept.field.as_deref(), kept.by)).collect()
}

#[test]
fn a_text_gets_back_every_letter_that_was_taken_out_and_loses_every_one_that_was_put_in() {
    for (old, from, to, put) in [
        ("the cat", 4, 7, "dog"),
        ("the cat", 4, 7, "cow"),
        ("the cat", 4, 7, "bat"),
        ("the cat", 0, 7, "the cat"),
        ("aaaa", 1, 3, "aaa"),
    ] {
        let db = database();
        db.text("text").insert(0, old).unwrap();
        db.text("text").replace(from..to, put).unwrap();
        let after = db.text("text").read().unwrap();
        db.undo_last().unwrap().unwrap();
        assert_eq!(db.text("text").read().unwrap(), old);
        db.undo_last().unwrap().unwrap();
        assert_eq!(db.text("text").read().unwrap(), after);
    }
}

#[test]
fn letters_that_somebody_else_has_taken_out_too_stay_out() {
    let (a, b) = two();
    a.text("text").insert(0, "one two three").unwrap();
    exchange(&a, &b);
    let mine = wrote(&a, |tx| tx.text("text").replace(4..8, "2 "));
    b.text("text").delete(6, 3).unwrap();
    exchange(&a, &b);
    assert_eq!(a.text("text").read().unwrap(), "one 2 hree");
    a.undo(mine).unwrap();
    assert_eq!(a.text("text").read().unwrap(), "one twhree", "\"o t\" is gone for b, \"tw\" for a alone");
}

#[test]
fn an_entry_is_taken_back_once_wherever_that_is_asked() {
    let (a, b) = two();
    let mine = wrote(&a, |tx| {
        tx.doc("doc").increment("n", 5)?;
        tx.doc("doc").list("l").extend([1, 2])?;
        tx.text("text").insert(0, "mine")
    });
    exchange(&a, &b);
    wrote(&b, |tx| {
        tx.doc("doc").increment("n", 1)?;
        tx.doc("doc").list("l").push(3)?;
        tx.text("text").insert(4, " theirs")
    });
    exchange(&a, &b);
    let undone = a.undo(mine).unwrap();
    let rest = Content { doc: json!({"n": 1, "l": [3]}), rows: vec![], text: " theirs".to_owned() };
    assert_eq!(content(&a), rest);
    exchange(&a, &b);
    for db in [&a, &b] {
        let tips = db.tips().unwrap();
        assert!(
            matches!(db.undo(mine), Err(DbError::AlreadyUndone { id, by }) if id == mine && Some(by) == undone.by)
        );
        assert_eq!((content(db), db.tips().unwrap()), (rest.clone(), tips));
    }
    // Done again, it is there to be taken back once more, under either name.
    let again = b.undo(undone.by.unwrap()).unwrap();
    let whole =
        Content { doc: json!({"n": 6, "l": [1, 2, 3]}), rows: vec![], text: "mine theirs".to_owned() };
    assert_eq!(content(&b), whole);
    exchange(&a, &b);
    let once_more = a.undo(mine).unwrap();
    assert_eq!((once_more.entry, content(&a)), (mine, rest.clone()));
    for entry in [mine, again.by.unwrap()] {
        assert!(matches!(a.undo(entry), Err(DbError::AlreadyUndone { .. })));
    }
    assert_eq!(content(&a), rest);
}

#[test]
fn a_row_that_was_set_and_counted_by_one_entry_is_what_it_was_before() {
    let (a, b) = two();
    a.table::<Json>("table").insert_as("k", &json!({"n": 2, "m": 3, "o": 4})).unwrap();
    exchange(&a, &b);
    let mine = wrote(&a, |tx| {
        let rows = tx.table::<Json>("table");
        rows.update("k", |row| (row["n"], row["p"]) = (json!(100), json!(7)))?;
        rows.add("k", "n", 5)?;
        rows.add("k", "p", 5)?;
        rows.add("k", "m", 5)?;
        rows.add("k", "fresh", 5)?;
        rows.add("k", "o", 5)
    });
    exchange(&a, &b);
    let theirs = wrote(&b, |tx| {
        tx.table::<Json>("table").add("k", "m", 1)?;
        tx.table::<Json>("table").add("k", "fresh", 1)?;
        let zero = [("o".to_owned(), Value::from(0))].into();
        tx.stage("table", table::KIND, table::encode_update("k", &zero, &[].into()))
    });
    exchange(&a, &b);
    let undone = a.undo(mine).unwrap();
    assert_eq!(a.table::<Json>("table").get("k").unwrap(), Some(json!({"n": 2, "m": 4, "fresh": 1, "o": 0})));
    assert_eq!(kept(&undone), [("k".to_owned(), Some("o"), Some(theirs))]);
}

#[test]
fn a_field_that_became_something_else_becomes_what_it_was_or_is_reported() {
    let (a, b) = two();
    let table = |db: &Database| db.table::<Json>("table").get("k").unwrap().unwrap();
    let becomes_text = |db: &Database| {
        wrote(db, |tx| {
            tx.stage("table", table::KIND, table::encode_update("k", &[].into(), &["n".to_owned()].into()))?;
            tx.table::<Json>("table").text_field("k", "n")?.insert(0, "seven")
        })
    };
    a.table::<Json>("table").insert_as("k", &json!({"n": 5})).unwrap();
    let mine = becomes_text(&a);
    assert_eq!(table(&a), json!({"n": "seven"}));
    assert_eq!(kept(&a.undo(mine).unwrap()), []);
    assert_eq!(table(&a), json!({"n": 5}));
    let mine = becomes_text(&a);
    exchange(&a, &b);
    b.table::<Json>("table").text_field("k", "n").unwrap().insert(5, "!").unwrap();
    let theirs = b.tips().unwrap()[0];
    exchange(&a, &b);
    assert_eq!(kept(&a.undo(mine).unwrap()), [("k".to_owned(), Some("n"), Some(theirs))]);
    assert_eq!(table(&a), json!({"n": "seven!"}));
    // The other way, and a text that is given back is still one that several edit.
    let mine = wrote(&a, |tx| tx.table::<Json>("table").put("k", &json!({"n": 1})));
    a.undo(mine).unwrap();
    a.table::<Json>("table").text_field("k", "n").unwrap().insert(0, "~").unwrap();
    assert_eq!(table(&a), json!({"n": "~seven!"}));
}

#[test]
fn a_row_that_was_deleted_comes_back_with_texts_that_can_be_edited() {
    let db = database();
    let table = db.table::<Json>("table");
    table.insert_as("k", &json!({"a": 1})).unwrap();
    table.text_field("k", "t").unwrap().insert(0, "abc").unwrap();
    table.counter("k", "n").add(2).unwrap();
    table.delete("k").unwrap();
    db.undo_last().unwrap();
    table.text_field("k", "t").unwrap().insert(3, "d").unwrap();
    table.counter("k", "n").add(1).unwrap();
    assert_eq!(table.get("k").unwrap(), Some(json!({"a": 1, "n": 3, "t": "abcd"})));
}

#[test]
fn items_of_a_list_are_taken_out_put_back_and_moved_back_among_those_of_others() {
    let (a, b) = two();
    let list = |db: &Database| db.doc("doc").list("l");
    let shown = |db: &Database| list(db).values_as::<i64>().unwrap();
    list(&a).extend([1, 2, 3, 4, 5, 6]).unwrap();
    exchange(&a, &b);
    let mine = wrote(&a, |tx| {
        let list = tx.doc("doc").list("l");
        list.delete_range(1..3)?;
        list.move_to(0, 3)?;
        list.set(1, 50)?;
        list.push(7)
    });
    assert_eq!(shown(&a), [4, 50, 6, 1, 7]);
    exchange(&a, &b);
    list(&b).insert(0, 100).unwrap();
    list(&b).push(200).unwrap();
    exchange(&a, &b);
    let undone = a.undo(mine).unwrap();
    assert_eq!(kept(&undone), []);
    assert_eq!(shown(&a), [100, 1, 2, 3, 4, 5, 6, 200]);
    exchange(&a, &b);
    assert_eq!(shown(&b), shown(&a));
    b.undo(undone.by.unwrap()).unwrap();
    assert_eq!(shown(&b), [100, 4, 50, 6, 1, 7, 200]);
}

#[test]
fn items_that_somebody_has_changed_since_are_kept_and_reported() {
    let (a, b) = two();
    let list = |db: &Database| db.doc("doc").list("l");
    list(&a).extend([1, 2, 3, 4]).unwrap();
    exchange(&a, &b);
    let mine = wrote(&a, |tx| {
        let list = tx.doc("doc").list("l");
        list.set(0, 10)?;
        list.move_to(3, 0)?;
        list.push(5)?;
        list.delete(2)
    });
    assert_eq!(list(&a).values_as::<i64>().unwrap(), [4, 10, 3, 5]);
    exchange(&a, &b);
    let theirs = wrote(&b, |tx| {
        let list = tx.doc("doc").list("l");
        list.set(1, 11)?;
        list.set(3, 55)?;
        list.move_to(0, 1)
    });
    exchange(&a, &b);
    let undone = a.undo(mine).unwrap();
    assert_eq!(list(&a).values_as::<i64>().unwrap(), [11, 4, 2, 3, 55]);
    let expected = ("l".to_owned(), None, Some(theirs));
    assert_eq!(kept(&undone), [expected.clone(), expected.clone(), expected]);
}

#[test]
fn what_is_said_about_stores_is_not_taken_back_and_that_is_reported() {
    let db = database();
    db.registry().register("t", "table").unwrap();
    let undone = db.undo_last().unwrap().unwrap();
    assert_eq!((undone.by, undone.restored), (None, 0));
    assert_eq!(undone.kept[0].store, "_registry");
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<String>, Value),
    Delete(Vec<String>),
    Increment(Vec<String>, i64),
    Put(Vec<String>, u8, Vec<u8>),
    TakeOut(Vec<String>, u8, u8),
    Move(Vec<String>, u8, u8),
    Replace(Vec<String>, u8, u8),
    Insert(u8, u8, u8),
    Field(u8, u8, Option<Json>),
    Count(u8, u8, i64),
    Edit(u8, u8, u8, u8, String),
    DeleteRow(u8),
    Text(u8, u8, String),
}

fn any_step() -> impl Strategy<Value = Step> {
    let path = || proptest::collection::vec(prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 1..3);
    let value = prop_oneof![
        3 => any::<u8>().prop_map(Value::from),
        1 => Just(Value::from(json!({"a": {"b": 1}, "b": [2, 3]}))),
        1 => Just(Value::from(json!([1, 2, 3]))),
        1 => Just(Value::from(json!({}))),
    ];
    let field = prop_oneof![
        Just(None),
        any::<u8>().prop_map(|n| Some(json!(n))),
        Just(Some(json!(""))),
        Just(Some(json!("xyz"))),
    ];
    let at = || 0u8..6;
    prop_oneof![
        2 => (path(), value).prop_map(|(path, value)| Step::Set(path, value)),
        1 => path().prop_map(Step::Delete),
        2 => (path(), -5i64..5).prop_map(|(path, by)| Step::Increment(path, by)),
        3 => (path(), at(), proptest::collection::vec(any::<u8>(), 1..4)).prop_map(|(p, at, v)| Step::Put(p, at, v)),
        2 => (path(), at(), 1u8..3).prop_map(|(path, at, count)| Step::TakeOut(path, at, count)),
        2 => (path(), at(), at()).prop_map(|(path, from, to)| Step::Move(path, from, to)),
        2 => (path(), at(), any::<u8>()).prop_map(|(path, at, value)| Step::Replace(path, at, value)),
        2 => (0u8..2, 0u8..3, any::<u8>()).prop_map(|(row, field, value)| Step::Insert(row, field, value)),
        2 => (0u8..2, 0u8..3, field).prop_map(|(row, field, value)| Step::Field(row, field, value)),
        3 => (0u8..2, 0u8..3, -5i64..5).prop_map(|(row, field, by)| Step::Count(row, field, by)),
        3 => (0u8..2, 0u8..3, at(), 0u8..3, "[a-c]{0,3}").prop_map(|(r, f, at, n, t)| Step::Edit(r, f, at, n, t)),
        1 => (0u8..2).prop_map(Step::DeleteRow),
        4 => (at(), 0u8..4, "[a-c]{0,4}").prop_map(|(at, count, text)| Step::Text(at, count, text)),
    ]
}

/// A step that does not fit what is there does nothing.
fn tried(result: Result<(), DbError>) {
    match result {
        Ok(()) | Err(DbError::Type { .. } | DbError::Position { .. } | DbError::NoSuchRow { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn stage(tx: &Transaction, step: &Step) {
    let list = |path: &[String]| tx.doc("doc").list(Path::from(path.to_vec()));
    let key = |row: &u8| format!("row {row}");
    let name = |field: &u8| format!("field {field}");
    let raw = |op: &DocOp| tx.stage("doc", doc::KIND, doc::encode(op));
    let rows = tx.table::<Json>("table");
    tried(match step {
        Step::Set(path, value) => raw(&DocOp::Set { path: path.clone(), value: value.clone() }),
        Step::Delete(path) => raw(&DocOp::Delete { path: path.clone() }),
        Step::Increment(path, by) => raw(&DocOp::Increment { path: path.clone(), by: *by }),
        Step::Put(path, at, values) => list(path).len().and_then(|len| {
            let at = usize::from(*at).min(len);
            values.iter().try_for_each(|value| list(path).insert(at, i64::from(*value)))
        }),
        Step::TakeOut(path, at, count) => {
            list(path).delete_range(usize::from(*at)..usize::from(*at + *count))
        }
        Step::Move(path, from, to) => list(path).move_to(usize::from(*from), usize::from(*to)),
        Step::Replace(path, at, value) => list(path).set(usize::from(*at), i64::from(*value)),
        Step::Insert(row, field, value) => rows.insert_as(&key(row), &json!({ name(field): value })),
        Step::Field(row, field, value) => {
            let (mut set, mut unset) = (table::Fields::new(), std::collections::BTreeSet::new());
            match value {
                Some(value) => drop(set.insert(name(field), Value::from(value.clone()))),
                None => drop(unset.insert(name(field))),
            }
            tx.stage("table", table::KIND, table::encode_update(&key(row), &set, &unset))
        }
        Step::Count(row, field, by) => {
            tx.stage("table", table::KIND, table::encode_increment(&key(row), &name(field), *by))
        }
        Step::Edit(row, field, at, count, text) => {
            rows.text_field(&key(row), &name(field)).and_then(|held| {
                let len = held.len()?;
                let at = usize::from(*at).min(len);
                held.replace(at..(at + usize::from(*count)).min(len), text)
            })
        }
        Step::DeleteRow(row) => rows.delete(&key(row)),
        Step::Text(at, count, text) => tx.text("text").len().and_then(|len| {
            let at = usize::from(*at).min(len);
            tx.text("text").replace(at..(at + usize::from(*count)).min(len), text)
        }),
    });
}

fn run(db: &Database, steps: &[Step]) -> Option<EntryId> {
    let (_, pending) = db
        .prepare_write(|tx| {
            steps.iter().for_each(|step| stage(tx, step));
            Ok(())
        })
        .unwrap();
    pending.commit().unwrap().map(|committed| committed.id)
}

fn any_history() -> impl Strategy<Value = (Vec<Vec<Step>>, Vec<Step>)> {
    let entry = || proptest::collection::vec(any_step(), 1..5);
    (proptest::collection::vec(entry(), 0..6), proptest::collection::vec(any_step(), 1..7))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_one_writer_takes_back_is_as_it_was_and_done_again_as_it_became((history, last) in any_history()) {
        let db = database();
        for steps in &history {
            run(&db, steps);
        }
        let before = content(&db);
        let Some(entry) = run(&db, &last) else { return Ok(()) };
        let after = content(&db);
        let undone = db.undo(entry).unwrap();
        prop_assert_eq!(&undone.kept, &[]);
        prop_assert_eq!(content(&db), before.clone());
        let Some(by) = undone.by else {
            prop_assert_eq!(before, after);
            return Ok(());
        };
        let again = db.undo(by).unwrap();
        prop_assert_eq!(&again.kept, &[]);
        prop_assert_eq!(content(&db), after);
        if again.by.is_some() {
            db.undo(entry).unwrap();
            prop_assert_eq!(content(&db), before);
        }
    }

    #[test]
    fn what_others_did_elsewhere_stays_when_an_entry_is_taken_back(
        (history, last) in any_history(),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 3),
        meets in any::<bool>(),
    ) {
        let (a, b) = two();
        for steps in &history {
            run(&a, steps);
        }
        a.doc("doc").list("list").extend([1, 2, 3]).unwrap();
        exchange(&a, &b);
        let before = content(&a);
        let mut last = last;
        last.push(Step::Move(vec!["list".to_owned()], 0, 2));
        last.push(Step::TakeOut(vec!["list".to_owned()], 0, 1));
        let Some(entry) = run(&a, &last) else { return Ok(()) };
        if meets {
            exchange(&a, &b);
        }
        wrote(&b, |tx| {
            tx.doc("doc").set("theirs", 1)?;
            tx.table::<Json>("table").insert_as("theirs", &json!({"n": 1}))?;
            let at = places[0].index(tx.text("text").len()? + 1);
            tx.text("text").insert(at, "Z")?;
            let list = tx.doc("doc").list("list");
            list.insert(places[1].index(list.len()? + 1), 100)?;
            list.insert(places[2].index(list.len()? + 1), 200)
        });
        exchange(&a, &b);
        let undone = a.undo(entry).unwrap();
        prop_assert_eq!(&undone.kept, &[]);
        let mut found = content(&a);
        prop_assert_eq!(found.doc.as_object_mut().unwrap().remove("theirs"), Some(json!(1)));
        let place = found.rows.iter().position(|(key, _)| key == "theirs").unwrap();
        found.rows.remove(place);
        prop_assert_eq!(found.text.matches('Z').count(), 1);
        found.text = found.text.replace('Z', "");
        let items = found.doc["list"].as_array_mut().unwrap();
        let all = items.len();
        items.retain(|item| item.as_i64() < Some(100));
        prop_assert_eq!(all, items.len() + 2);
        prop_assert_eq!(found, before);
        exchange(&a, &b);
        prop_assert_eq!(content(&a), content(&b));
    }
}
