use std::collections::BTreeSet;
use std::sync::Arc;

use eid_core::StoreName;
use eid_store::{Backend, Counting, Direction, Memory};
use serde_json::{Value as Json, json};

use super::support::{database, exchange, node_over, two};
use crate::kind::table;
use crate::sealed::counted::{ROWS_READ, SECTIONS_OPENED};
use crate::{Database, Observed, PasswordCost, PasswordStore, TextDelta};

const CHEAP: PasswordCost = PasswordCost { memory_kib: 8, passes: 1, lanes: 1 };

fn vault(db: &Database) -> PasswordStore {
    db.password_store("vault").with_cost(CHEAP)
}

#[test]
fn a_live_query_of_an_encrypted_table_looks_at_the_rows_that_changed_and_no_others() {
    let read = |rows: i64| {
        let db = database();
        let table = vault(&db).create("p").unwrap().table::<Json>();
        db.write(|tx| {
            (0..rows)
                .try_for_each(|n| tx.table::<Json>("vault").insert_as(&format!("k{n}"), &json!({"n": n})))
        })
        .unwrap();
        let mut live = table.query().ge("n", 0).watch().unwrap();
        assert_eq!(live.initial().len(), usize::try_from(rows).unwrap());
        table.put("k7", &json!({"n": -1})).unwrap();
        table.put("fresh", &json!({"n": 5})).unwrap();
        db.doc("other").set("n", 1).unwrap();
        // What the rows are brought up to is not the work of the query.
        assert!(table.contains("fresh").unwrap());
        let before = ROWS_READ.get();
        let changes = live.next_ready().unwrap().unwrap();
        let read = ROWS_READ.get() - before;
        let keys: Vec<&str> = changes.changes.iter().map(crate::RowChange::key).collect();
        assert_eq!((keys, changes.entries), (vec!["k7", "fresh"], Some(2)));
        assert!(live.next_ready().unwrap().is_none());
        read
    };
    let (few, many) = (read(50), read(2000));
    assert_eq!((few, many), (few, few));
    assert!(few < 10, "{few}");
}

#[test]
fn a_live_query_of_an_encrypted_table_shows_what_another_password_opens() {
    let (a, b) = two();
    let table = vault(&a).create("pa").unwrap().table::<Json>();
    table.insert_as("a", &json!({"n": 1})).unwrap();
    vault(&b).create("pb").unwrap().table::<Json>().insert_as("b", &json!({"n": 2})).unwrap();
    exchange(&a, &b);
    let mut live = table.query().watch().unwrap();
    assert_eq!(live.initial().len(), 1);
    vault(&a).unlock("pb").unwrap();
    a.doc("other").set("n", 1).unwrap();
    let changes = live.next_ready().unwrap().unwrap();
    let keys: Vec<&str> = changes.changes.iter().map(crate::RowChange::key).collect();
    assert_eq!((keys, changes.entries), (vec!["b"], None));
    table.insert_as("c", &json!({"n": 3})).unwrap();
    assert_eq!(live.next_ready().unwrap().unwrap().entries, Some(1));
}

#[test]
fn values_that_were_set_at_once_in_an_encrypted_document_are_all_given() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("x", 0).unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    a.doc("vault").set("x", 1).unwrap();
    b.doc("vault").set("x", 2).unwrap();
    b.doc("vault").set("y", 3).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        let found = db.doc("vault").get_all("x").unwrap();
        let values: BTreeSet<String> =
            found.values.iter().map(|held| Json::from(held.value.clone()).to_string()).collect();
        assert_eq!((values, found.complete), (BTreeSet::from(["1".to_owned(), "2".to_owned()]), true));
    }
    b.doc("vault").set("x", 4).unwrap();
    let found = b.doc("vault").get_all("x").unwrap();
    assert_eq!((found.values.len(), found.complete), (1, true));
}

#[test]
fn an_observer_of_an_encrypted_text_is_told_the_edits() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().text().insert(0, "one two").unwrap();
    exchange(&a, &b);
    let there = vault(&b).unlock("p").unwrap().text();
    let mut seen = there.observe().unwrap();
    let mut text: Vec<char> = seen.text().unwrap().chars().collect();
    a.text("vault").insert(3, " and").unwrap();
    a.text("vault").delete(0, 1).unwrap();
    exchange(&a, &b);
    let mut told = 0;
    while let Some(observed) = seen.next_ready().unwrap() {
        let Observed::Edited(change) = observed else { panic!("{observed:?}") };
        for delta in change.deltas {
            match delta {
                TextDelta::Insert { at, text: put } => drop(text.splice(at..at, put.chars())),
                TextDelta::Delete { at, count } => drop(text.drain(at..at + count)),
            }
        }
        told += 1;
    }
    assert_eq!((text.into_iter().collect::<String>(), told), (there.read().unwrap(), 2));
    assert_eq!(there.read().unwrap(), "ne and two");
    // What cannot be read any more, and what can again, is not told as edits.
    vault(&b).lock().unwrap();
    a.text("vault").insert(0, "O").unwrap();
    exchange(&a, &b);
    assert_eq!(seen.next_ready().unwrap(), Some(Observed::Reread));
    vault(&b).unlock("p").unwrap();
    a.text("vault").insert(0, "> ").unwrap();
    exchange(&a, &b);
    assert_eq!(seen.next_ready().unwrap(), Some(Observed::Reread));
    assert_eq!(seen.text().unwrap(), "> One and two");
}

#[test]
fn undoing_a_change_of_many_rows_of_an_encrypted_table_opens_each_section_a_few_times() {
    let opened = |rows: usize| {
        let db = database();
        let table = vault(&db).create("p").unwrap().table::<Json>();
        for n in 0..20 {
            table.insert_as(&format!("before {n}"), &json!({"n": n})).unwrap();
        }
        db.write(|tx| {
            (0..rows)
                .try_for_each(|n| tx.table::<Json>("vault").insert_as(&format!("k{n}"), &json!({"n": n})))
        })
        .unwrap();
        assert_eq!(table.query().count().unwrap(), 20 + rows);
        let before = SECTIONS_OPENED.get();
        assert_eq!(db.undo_last().unwrap().unwrap().restored, rows as u64);
        let opened = SECTIONS_OPENED.get() - before;
        assert_eq!(table.query().count().unwrap(), 20);
        opened
    };
    let (few, many) = (opened(2), opened(60));
    assert_eq!(few, many);
    // The versions right before and right after, and the entry itself.
    assert!(few <= 2 * 22, "{few}");
}

#[test]
fn a_version_of_an_encrypted_store_is_worked_out_once_for_all_that_is_read_of_it() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("x", 0).unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    for n in 0..5 {
        a.doc("vault").set("x", n).unwrap();
        b.doc("vault").set("y", n).unwrap();
    }
    let theirs = b.tips().unwrap();
    exchange(&a, &b);
    let then = a.at(&theirs).unwrap();
    let opened = |key: &str| {
        let before = SECTIONS_OPENED.get();
        (then.doc("vault").get_as::<i64>(key).unwrap(), SECTIONS_OPENED.get() - before)
    };
    assert_eq!((opened("x"), opened("y")), ((Some(0), 6), (Some(4), 0)));
}

#[test]
fn a_bounded_read_of_rows_that_are_written_reads_no_more_than_that() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let held: Arc<dyn Backend> = Arc::<Counting<Memory>>::clone(&backend);
    let db = node_over(&held, 1).create_database("test").unwrap().database;
    vault(&db).create("p").unwrap();
    for name in ["vault", "plain"] {
        db.write(|tx| {
            (0..1000)
                .try_for_each(|n| tx.table::<Json>(name).insert_as(&format!("k{n:03}"), &json!({"n": n})))
        })
        .unwrap();
        assert_eq!(db.table::<Json>(name).query().count().unwrap(), 1000);
        let store = StoreName::new(name).unwrap();
        let (of_backend, of_memory) = (backend.counts(), ROWS_READ.get());
        db.maintain(&store, table::KIND, &mut |view| {
            let ends = |rows: Vec<(Vec<u8>, _)>| -> Vec<String> {
                rows.into_iter().map(|(key, _)| String::from_utf8_lossy(&key[1..]).into_owned()).collect()
            };
            view.delete(b"\x01k001");
            view.put(b"\x01k0005", bytes::Bytes::new());
            let first = ends(view.scan_some(&[1], &[2], Direction::Forward, 3)?);
            assert_eq!(first, ["k000", "k0005", "k002"], "{name}");
            let last = ends(view.scan_some(&[1], &[2], Direction::Backward, 2)?);
            assert_eq!(last, ["k999", "k998"], "{name}");
            assert_eq!(view.scan_some(&[1], &[2], Direction::Forward, 0)?.len(), 0);
            assert_eq!(view.scan_some(&[1], &[2], Direction::Forward, 5000)?.len(), 1000);
            assert_eq!(ends(view.scan_some(&[1], &[2], Direction::Forward, 3)?), first);
            Err::<(), _>(eid_core::ReadError::new(std::io::Error::other("nothing of it stays")))
        })
        .unwrap_err();
        let read = match name {
            "vault" => ROWS_READ.get() - of_memory,
            _ => usize::try_from((backend.counts() - of_backend).rows_read).unwrap(),
        };
        assert!((1000..1050).contains(&read), "{name}: {read}");
    }
}
