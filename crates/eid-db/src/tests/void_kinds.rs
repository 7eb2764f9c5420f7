//! What each kind does with an entry that does not count: its effect is gone, honest work on top of it stands, and when
//! it is accepted all is as if it had always counted. In whatever order a device has learnt of it.

use eid_core::{Entry, EntryId, TreeId};
use eid_crdt::Value;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::support::{admit, copy, entries, exchange, node, offer, two};
use super::void::{fsck, last, remove, third};
use crate::{Counter, Database, Instance, Text};

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    body: Text,
    hits: Counter,
}

fn note(body: &str, hits: i64) -> Note {
    Note { body: Text::new(body), hits: Counter::new(hits) }
}

/// What is shown while an entry counts and while it does not, wherever which of the two was known first. The admin has
/// removed who wrote it, and somebody else has not heard of that.
fn in_any_order(admin: &Database, other: &Database, void: EntryId, check: &dyn Fn(&Database, bool)) {
    let late = copy(other, &node(4));
    check(&late, true);
    copy(admin, late.instance());
    let early = copy(admin, &node(5));
    copy(other, early.instance());
    for db in [&late, &early] {
        assert_eq!((db.void_count().unwrap(), db.is_stale().unwrap()), (1, false));
        check(db, false);
        fsck(db);
    }
    assert_eq!(late.state_hash().unwrap(), early.state_hash().unwrap());
    copy(other, admin.instance());
    check(admin, false);
    admin.accept(&[void]).unwrap();
    let once = copy(admin, &node(6));
    for db in [admin, &once, &late, &early] {
        copy(admin, db.instance());
        assert_eq!(db.void_count().unwrap(), 0);
        check(db, true);
        fsck(db);
        assert_eq!(db.state_hash().unwrap(), once.state_hash().unwrap());
    }
}

#[test]
fn texts_and_counters_of_rows_go_and_come_and_what_others_add_to_them_stays() {
    let (a, b) = two();
    let c = third(&a);
    let notes = |db: &Database| db.table::<Note>("notes");
    a.write(|tx| {
        let notes = tx.table::<Note>("notes");
        notes.insert_as("edited", &note("one two", 1))?;
        notes.insert_as("typed", &note("few two", 2))?;
        notes.insert_as("replaced", &note("old", 10))
    })
    .unwrap();
    exchange(&a, &b);
    b.write(|tx| {
        let notes = tx.table::<Note>("notes");
        notes.text_field("edited", "body")?.replace(0..3, "SPAM")?;
        notes.add("edited", "hits", 100)?;
        // Of this row only the text is another: what others write into it comes later.
        notes.text_field("typed", "body")?.replace(0..3, "SPAM")?;
        notes.insert_as("replaced", &note("SPAM", 20))?;
        notes.insert_as("made", &note("SPAM", 30))
    })
    .unwrap();
    let void = last(&b);
    let c = copy(&b, &c);
    c.write(|tx| {
        let notes = tx.table::<Note>("notes");
        for key in ["edited", "replaced", "made"] {
            notes.text_field(key, "body")?.insert(2, "-good-")?;
            notes.add(key, "hits", 3)?;
        }
        notes.text_field("typed", "body")?.insert(2, "-fine-")
    })
    .unwrap();
    for field in ["body", "hits"] {
        notes(&c).create_index(field).unwrap();
    }
    remove(&a, &b);
    let shown = |db: &Database, key: &str| {
        let row = notes(db).get(key).unwrap();
        row.map(|row| (row.body.into_string(), row.hits.get()))
    };
    in_any_order(&a, &c, void, &|db, counts| {
        for field in ["body", "hits"] {
            notes(db).create_index(field).unwrap();
        }
        let found = ["edited", "replaced", "made", "typed"].map(|key| shown(db, key));
        let found = found.each_ref().map(|row| row.as_ref().map(|(body, hits)| (body.as_str(), *hits)));
        if counts {
            let rows =
                [("SP-good-AM two", 104), ("SP-good-AM", 23), ("SP-good-AM", 33), ("SP-fine-AM two", 2)];
            assert_eq!(found, rows.map(Some));
        } else {
            let edited = [Some(("-good-one two", 4)), Some(("one-good- two", 4))];
            let replaced = [Some(("-good-old", 13)), Some(("old-good-", 13))];
            assert!(edited.contains(&found[0]) && replaced.contains(&found[1]), "{found:?}");
            let typed = [Some(("-fine-few two", 2)), Some(("few-fine- two", 2))];
            assert!(typed.contains(&found[3]), "{found:?}");
            assert_eq!(found[2], None);
        }
        let rows = || found.iter().flatten();
        assert_eq!(notes(db).count().unwrap(), rows().count() as u64);
        assert_eq!(notes(db).check_indexes().unwrap(), []);
        for (body, hits) in rows() {
            assert!(!notes(db).query().eq("body", *body).keys().unwrap().is_empty(), "{body}");
            assert!(!notes(db).query().eq("hits", *hits).keys().unwrap().is_empty(), "{hits}");
        }
    });
}

#[test]
fn items_that_a_void_entry_has_moved_are_where_they_were_and_what_was_put_beside_them_stays() {
    let (a, b) = two();
    let c = third(&a);
    a.doc("d").list("l").extend([0, 1, 2, 3]).unwrap();
    a.doc("d").list("l").move_to(2, 0).unwrap();
    exchange(&a, &b);
    b.doc("d").list("l").move_to(0, 3).unwrap();
    let void = last(&b);
    let c = copy(&b, &c);
    c.write(|tx| {
        let list = tx.doc("d").list("l");
        list.push("good")?;
        list.set(3, "two")?;
        list.move_to(0, 3)
    })
    .unwrap();
    remove(&a, &b);
    in_any_order(&a, &c, void, &|db, counts| {
        let shown = if counts { json!([1, 3, "two", 0, "good"]) } else { json!(["two", 1, 3, 0, "good"]) };
        assert_eq!(db.doc("d").to_json().unwrap(), json!({ "l": shown }));
    });
}

#[test]
fn a_list_that_a_void_entry_has_set_as_a_whole_gives_way_to_the_one_before_with_what_others_put_in() {
    let (a, b) = two();
    let c = third(&a);
    a.doc("d").set("m", Value::from(json!({"l": [1, 2], "n": 1}))).unwrap();
    exchange(&a, &b);
    b.doc("d").set("m", Value::from(json!({"l": ["spam", "SPAM"], "more": ["spam"]}))).unwrap();
    let void = last(&b);
    let c = copy(&b, &c);
    c.write(|tx| {
        tx.doc("d").list("m.l").insert(1, "good")?;
        tx.doc("d").list("m.l").set(0, "better spam")?;
        tx.doc("d").list("m.more").push("good")
    })
    .unwrap();
    remove(&a, &b);
    in_any_order(&a, &c, void, &|db, counts| {
        let shown = db.doc("d").get("m").unwrap().map(Json::from).unwrap();
        if counts {
            let expected = json!({"l": ["better spam", "good", "SPAM"], "more": ["spam", "good"]});
            assert_eq!(shown, expected);
        } else {
            let expected = |l: Json| json!({"l": l, "n": 1, "more": ["good"]});
            let either = [expected(json!(["good", 1, 2])), expected(json!([1, 2, "good"]))];
            assert!(either.contains(&shown), "{shown}");
        }
    });
}

#[test]
fn a_void_value_stands_beside_no_other_and_covers_none() {
    let (a, b) = two();
    let c = third(&a);
    exchange(&a, &b);
    let c = copy(&a, &c);
    a.doc("d").set("x", "one").unwrap();
    exchange(&a, &b);
    b.doc("d").set("x", "void").unwrap();
    let void = last(&b);
    // The latest of all, beside the others.
    for value in ["first", "second", "other"] {
        c.doc("d").set("x", value).unwrap();
    }
    copy(&b, c.instance());
    remove(&a, &b);
    in_any_order(&a, &c, void, &|db, counts| {
        let found = db.doc("d").get_all("x").unwrap();
        let values: Vec<Json> = found.values.into_iter().map(|held| held.value.into()).collect();
        let beside = if counts { "void" } else { "one" };
        assert_eq!((values, found.complete), (vec![json!("other"), json!(beside)], true));
    });
}

/// Gives another instance entries, some of them without their payloads.
fn bring(to: &Instance, tree: TreeId, all: &[Entry], bare: &[EntryId]) -> Database {
    for entry in all {
        let mut offer = offer(entry);
        if bare.contains(&entry.id()) {
            offer.payloads.iter_mut().for_each(|payload| *payload = None);
        }
        let prepared = to.store().prepare(tree, vec![offer]).unwrap();
        to.store().admit(prepared).unwrap();
    }
    to.database_by_id(tree)
}

#[test]
fn edits_that_wait_for_a_payload_count_when_it_comes_only_if_they_count_by_then() {
    let (a, b) = two();
    let c = third(&a);
    a.write(|tx| {
        tx.text("t").insert(0, "ab")?;
        tx.doc("d").list("l").extend(["a", "b"])?;
        tx.table::<Note>("notes").insert_as("k", &note("ab", 0))
    })
    .unwrap();
    exchange(&a, &b);
    let c = copy(&a, &c);
    let insert = |db: &Database, at: usize, what: &str| {
        db.write(|tx| {
            tx.text("t").insert(at, what)?;
            tx.doc("d").list("l").insert(at, what)?;
            tx.table::<Note>("notes").text_field("k", "body")?.insert(at, what)
        })
        .unwrap();
        last(db)
    };
    let tail = insert(&c, 1, "x");
    copy(&c, b.instance());
    let void = insert(&b, 2, "v");
    copy(&b, c.instance());
    insert(&c, 3, "h");
    remove(&a, &b);
    let shows = |db: &Database, wanted: &str| {
        let list: Vec<String> = db.doc("d").list("l").values_as().unwrap();
        let body = db.table::<Note>("notes").get("k").unwrap().unwrap().body.into_string();
        assert_eq!([db.text("t").read().unwrap(), list.concat(), body], [wanted; 3]);
        fsck(db);
    };
    let (tree, removal, all) = (a.id(), entries(&a), entries(&c));
    // The removal is known before, between, and after.
    let early = bring(&node(4), tree, &removal, &[]);
    let between = bring(&node(5), tree, &all, &[tail]);
    let late = bring(&node(6), tree, &all, &[]);
    shows(&between, "ab");
    shows(&late, "axvhb");
    bring(early.instance(), tree, &all, &[tail]);
    for db in [&between, &late] {
        bring(db.instance(), tree, &removal, &[]);
    }
    shows(&early, "ab");
    shows(&between, "ab");
    // It is accepted while it waits.
    let waiting = bring(&node(7), tree, &removal, &[]);
    bring(waiting.instance(), tree, &all, &[tail]);
    copy(&c, a.instance());
    a.accept(&[void]).unwrap();
    let accepted = entries(&a);
    bring(waiting.instance(), tree, &accepted, &[tail]);
    shows(&waiting, "ab");
    for db in [&early, &between, &waiting] {
        bring(db.instance(), tree, &all, &[]);
    }
    for db in [&early, &between, &late] {
        shows(db, "axhb");
        assert_eq!((db.void_count().unwrap(), db.state_hash().unwrap()), (1, late.state_hash().unwrap()));
    }
    shows(&waiting, "axvhb");
    for db in [&a, &early, &between, &late, &waiting] {
        admit(db.instance(), tree, &accepted.iter().collect::<Vec<_>>());
        shows(db, "axvhb");
        assert_eq!((db.void_count().unwrap(), db.state_hash().unwrap()), (0, a.state_hash().unwrap()));
    }
}
