use std::collections::BTreeMap;

use eid_core::EntryId;
use eid_crdt::Value;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{copy, database, env, exchange, node, two};
use crate::kind::doc::{self, DocOp};
use crate::{Blame, Database, DbError, Difference, Instance, Path};

/// What can be seen of the two stores that these tests write.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    tips: Vec<EntryId>,
    entries: u64,
    state: Option<[u8; 32]>,
    document: Option<Value>,
    rows: Vec<(String, Json)>,
}

fn seen(db: &Database) -> Seen {
    Seen {
        tips: db.tips().unwrap(),
        entries: db.entries().unwrap(),
        state: db.state_hash().unwrap(),
        document: db.doc("doc").get(Path::root()).unwrap(),
        rows: db.table::<Json>("table").page(None, usize::MAX).unwrap(),
    }
}

fn seen_at(db: &Database, tips: &[EntryId]) -> Seen {
    let version = db.at(tips).unwrap();
    Seen {
        tips: version.tips().unwrap(),
        entries: version.entries().unwrap(),
        state: version.state_hash().unwrap(),
        document: version.doc("doc").get(Path::root()).unwrap(),
        rows: version.table::<Json>("table").page(None, usize::MAX).unwrap(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<String>, Value),
    Delete(Vec<String>),
    Increment(Vec<String>, i64),
    Row(u8, u8, u8),
    Field(u8, u8, u8),
    DeleteRow(u8),
    Many(u8),
    Pull,
}

fn any_step() -> impl Strategy<Value = (bool, Step)> {
    let path = || proptest::collection::vec(prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 1..4);
    let value = prop_oneof![
        3 => any::<u8>().prop_map(Value::from),
        1 => Just(Value::from(json!({"a": {"b": 1}, "b": [2, 3]}))),
    ];
    let step = prop_oneof![
        4 => (path(), value).prop_map(|(path, value)| Step::Set(path, value)),
        2 => path().prop_map(Step::Delete),
        3 => (path(), -5i64..5).prop_map(|(path, by)| Step::Increment(path, by)),
        2 => (0u8..3, 0u8..3, any::<u8>()).prop_map(|(row, field, value)| Step::Row(row, field, value)),
        2 => (0u8..3, 0u8..3, any::<u8>()).prop_map(|(row, field, value)| Step::Field(row, field, value)),
        1 => (0u8..3).prop_map(Step::DeleteRow),
        1 => any::<u8>().prop_map(Step::Many),
        2 => Just(Step::Pull),
    ];
    (any::<bool>(), step)
}

fn run(db: &Database, other: &Database, step: &Step) {
    let stage = |ops: &[DocOp]| {
        let staged =
            db.prepare_blind(|tx| ops.iter().try_for_each(|op| tx.stage("doc", doc::KIND, doc::encode(op))));
        staged.unwrap().1.commit().unwrap();
    };
    let table = db.table::<Json>("table");
    match step.clone() {
        Step::Set(path, value) => stage(&[DocOp::Set { path, value }]),
        Step::Delete(path) => stage(&[DocOp::Delete { path }]),
        Step::Increment(path, by) => stage(&[DocOp::Increment { path, by }]),
        Step::Row(row, field, value) => {
            table.insert_as(&format!("row {row}"), &json!({ format!("field {field}"): value })).unwrap();
        }
        Step::Field(row, field, value) => {
            let name = format!("field {field}");
            match table.update(&format!("row {row}"), |row| row[name.as_str()] = json!(value)) {
                Ok(()) | Err(DbError::NoSuchRow { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Step::DeleteRow(row) => table.delete(&format!("row {row}")).unwrap(),
        Step::Many(value) => db
            .write(|tx| {
                tx.doc("doc").set(["a", "m"], i64::from(value))?;
                tx.doc("doc").delete("b")?;
                tx.table::<Json>("table").insert_as("row 0", &json!({"field 0": value, "field 9": 1}))?;
                tx.table::<Json>("table").delete("row 1")
            })
            .unwrap(),
        Step::Pull => drop(copy(other, db.instance())),
    }
}

fn leaves(document: Option<&Value>) -> BTreeMap<Vec<String>, Value> {
    fn walk(path: Vec<String>, value: &Value, found: &mut BTreeMap<Vec<String>, Value>) {
        match value {
            Value::Map(items) if !items.is_empty() => {
                for (key, value) in items {
                    walk([path.clone(), vec![key.clone()]].concat(), value, found);
                }
            }
            value => drop(found.insert(path, value.clone())),
        }
    }
    let mut found = BTreeMap::new();
    document.into_iter().for_each(|document| walk(Vec::new(), document, &mut found));
    found.retain(|path, _| !path.is_empty());
    found
}

/// Compares everything with everything.
fn naive_diff(from: &Seen, to: &Seen) -> Vec<Difference> {
    let (before, after) = (leaves(from.document.as_ref()), leaves(to.document.as_ref()));
    let difference = |store: &str, kind: &str, path: Vec<String>, field, before, after| Difference {
        store: store.to_owned(),
        kind: kind.to_owned(),
        path: Path::from(path),
        field,
        at: None,
        before,
        after,
    };
    let mut found = Vec::new();
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    for path in paths {
        let (before, after) = (before.get(&path).cloned(), after.get(&path).cloned());
        // Whether a map that has something in it was also set as one is not a difference of values.
        let empty = Some(Value::Map(BTreeMap::new()));
        if before != after && before.as_ref().or(after.as_ref()) != empty.as_ref() {
            found.push(difference("doc", "doc", path, None, before, after));
        }
    }
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (from.rows.iter().cloned().collect(), to.rows.iter().cloned().collect());
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    for key in keys {
        let path = vec![key.clone()];
        match (before.get(&key), after.get(&key)) {
            (Some(Json::Object(before)), Some(Json::Object(after))) => {
                let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
                for name in names {
                    let (b, a) = (before.get(name), after.get(name));
                    if b != a {
                        let [b, a] = [b, a].map(|v| v.cloned().map(Value::from));
                        found.push(difference("table", "table", path.clone(), Some(name.clone()), b, a));
                    }
                }
            }
            (b, a) => {
                let [b, a] = [b, a].map(|v| v.cloned().map(Value::from));
                found.push(difference("table", "table", path, None, b, a));
            }
        }
    }
    found.sort_by(|a, b| (&a.store, &a.path, &a.field).cmp(&(&b.store, &b.path, &b.field)));
    found
}

fn diff(db: &Database, from: &[EntryId], to: &[EntryId]) -> Vec<Difference> {
    let mut found: Vec<Difference> = db.diff(from, to).unwrap().map(Result::unwrap).collect();
    let given: Vec<_> = found.iter().map(|d| (d.store.clone(), d.path.clone())).collect();
    assert!(given.is_sorted(), "{found:?}");
    found.retain(|d| {
        let empty = Some(Value::Map(BTreeMap::new()));
        d.kind != "doc" || d.before.as_ref().or(d.after.as_ref()) != empty.as_ref()
    });
    found.sort_by(|a, b| (&a.store, &a.path, &a.field).cmp(&(&b.store, &b.path, &b.field)));
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The clocks stand still, so ids decide between concurrent entries.
    #[test]
    fn every_version_that_was_seen_is_seen_again_by_its_tips(
        steps in proptest::collection::vec(any_step(), 1..24),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 4),
    ) {
        let (a, b) = two();
        let mut versions = vec![seen(&a)];
        for (here, step) in &steps {
            let (db, other) = if *here { (&a, &b) } else { (&b, &a) };
            run(db, other, step);
            versions.push(seen(db));
        }
        exchange(&a, &b);
        versions.push(seen(&a));
        for db in [&a, &b] {
            for version in &versions {
                prop_assert_eq!(&seen_at(db, &version.tips), version);
            }
        }
        for pair in picks.chunks(2) {
            let (from, to) = (pair[0].get(&versions), pair[1].get(&versions));
            prop_assert_eq!(diff(&a, &from.tips, &to.tips), naive_diff(from, to));
        }
        prop_assert_eq!(a.tips().unwrap(), versions.last().unwrap().tips.clone(), "reading writes nothing");
    }

    #[test]
    fn undoing_the_last_change_gives_back_what_was_there_and_undoing_that_gives_the_change(
        steps in proptest::collection::vec(any_step(), 1..16),
        last in any_step(),
    ) {
        let (a, b) = two();
        for (here, step) in &steps {
            if *here { run(&a, &b, step) } else { run(&b, &a, step) }
        }
        exchange(&a, &b);
        let before = seen(&a);
        run(&a, &b, &last.1);
        let after = seen(&a);
        prop_assume!(before.tips != after.tips);
        // A counter that was not there before is 0 afterwards, not gone; and counting does nothing to what is no number.
        prop_assume!(!matches!(last.1, Step::Increment(..)));
        let undone = a.undo_last().unwrap().unwrap();
        prop_assert_eq!(&undone.kept, &[]);
        prop_assert_eq!(naive_diff(&before, &seen(&a)), []);
        let again = a.undo_last().unwrap().unwrap();
        if undone.by.is_some() {
            prop_assert_eq!(Some(again.entry), undone.by);
            prop_assert_eq!(naive_diff(&after, &seen(&a)), []);
        }
        // What is left out above is an empty map that came or went.
        copy(&a, b.instance());
        prop_assert_eq!(seen(&a), seen(&b));
    }
}

#[test]
fn a_version_is_named_by_entries_that_are_held_and_is_never_written() {
    let db = database();
    db.doc("d").set("x", 1).unwrap();
    let old = db.tips().unwrap();
    db.doc("d").set("x", 2).unwrap();
    let now = db.tips().unwrap();
    let version = db.at(&old).unwrap();
    assert_eq!(version.doc("d").get("x").unwrap(), Some(Value::from(1)));
    assert!(matches!(version.doc("d").set("x", 3), Err(DbError::ReadOnly)));
    assert!(matches!(version.table::<Json>("t").insert(&json!({})), Err(DbError::ReadOnly)));
    assert!(matches!(db.at(&[]), Err(DbError::NoEntry)));
    let unknown = EntryId([7; 32]);
    assert!(matches!(db.at(&[old[0], unknown]), Err(DbError::UnknownEntry { id }) if id == unknown));
    assert_eq!(
        db.at(&[old[0], now[0]]).unwrap().tips().unwrap(),
        now,
        "what others descend from adds nothing"
    );
    assert_eq!(db.tips().unwrap(), now);
    assert_eq!(version.log_before(None, 10).unwrap()[0].id, old[0]);
}

#[test]
fn a_transaction_at_older_tips_sees_and_descends_from_them() {
    let db = database();
    db.doc("d").set("x", 1).unwrap();
    let old = db.tips().unwrap();
    db.doc("d").set("x", 2).unwrap();
    db.doc("d").set("y", 2).unwrap();
    let root = db.log(usize::MAX).unwrap().last().unwrap().id;
    let tx = db.begin_at(&[root, old[0]]).unwrap();
    assert_eq!(tx.doc("d").get(Path::root()).unwrap(), Some(Value::from(json!({"x": 1}))));
    tx.doc("d").set("z", 3).unwrap();
    assert_eq!(tx.doc("d").get("z").unwrap(), Some(Value::from(3)));
    let committed = tx.commit().unwrap().unwrap();
    let entry = db.snapshot().unwrap().entry(&committed.id).unwrap().unwrap();
    assert_eq!(entry.header().parents, old);
    assert_eq!(db.tips().unwrap().len(), 2);
    assert_eq!(db.doc("d").to_json().unwrap(), json!({"x": 2, "y": 2, "z": 3}));
    assert_eq!(db.at(&[committed.id]).unwrap().doc("d").to_json().unwrap(), json!({"x": 1, "z": 3}));
    assert!(matches!(db.begin_at(&[EntryId([1; 32])]), Err(DbError::UnknownEntry { .. })));
}

/// Two devices whose clocks are apart, so that each write names its own time.
fn timed() -> (Database, Database, std::sync::Arc<super::support::Still>) {
    let (surroundings, clock) = env(1);
    let here = Instance::open(std::sync::Arc::new(eid_store::Memory::new()), surroundings).unwrap();
    let there = node(2);
    let db = here.create_database("shared").unwrap().database;
    db.grant(eid_core::Slot::Key(there.device()), eid_core::Permission::Write).unwrap();
    let other = copy(&db, &there);
    (db, other, clock)
}

fn wrote(db: &Database, work: impl FnOnce(&crate::Transaction) -> Result<(), DbError>) -> EntryId {
    db.prepare_write(work).unwrap().1.commit().unwrap().unwrap().id
}

fn named(found: &[Blame]) -> Vec<(String, Option<&str>, Option<Json>, EntryId)> {
    let of = |b: &Blame| b.value.clone().map(Json::from);
    found.iter().map(|b| (b.path.to_string(), b.field.as_deref(), of(b), b.entry)).collect()
}

#[test]
fn blame_names_entry_author_and_time_of_every_value_and_field() {
    let (a, b, clock) = timed();
    let first = wrote(&a, |tx| {
        tx.doc("d").set("p", Value::from(json!({"x": 1, "y": {"z": 2}})))?;
        tx.doc("d").increment("n", 2)?;
        tx.table::<Json>("t").insert_as("k", &json!({"f": 1, "g": 2}))
    });
    let first_time = a.log(1).unwrap()[0].time;
    clock.advance(5_000);
    exchange(&a, &b);
    let second = wrote(&b, |tx| {
        tx.doc("d").set(["p", "x"], 5)?;
        tx.doc("d").increment("n", 1)?;
        tx.table::<Json>("t").update("k", |row| row["g"] = json!(7))
    });
    exchange(&a, &b);
    let found = a.blame("d", Path::root()).unwrap();
    assert_eq!(
        named(&found),
        [
            ("n".to_owned(), None, Some(json!(3)), second),
            ("p.x".to_owned(), None, Some(json!(5)), second),
            ("p.y.z".to_owned(), None, Some(json!(2)), first),
        ]
    );
    assert_eq!((found[2].author, found[2].time), (a.instance().device(), first_time));
    assert_eq!(found[1].author, b.instance().device());
    let fields = a.blame("t", "k").unwrap();
    assert_eq!(
        named(&fields),
        [
            ("k".to_owned(), Some("f"), Some(json!(1)), first),
            ("k".to_owned(), Some("g"), Some(json!(7)), second),
        ]
    );
    assert_eq!(named(&a.blame("t", ["k", "g"]).unwrap()), named(&fields)[1..]);
    let third = wrote(&a, |tx| {
        tx.doc("d").delete("p")?;
        tx.table::<Json>("t").delete("k")
    });
    for (store, path) in [("d", Path::from(["p", "x"])), ("d", Path::from("p")), ("t", Path::from("k"))] {
        assert_eq!(named(&a.blame(store, &path).unwrap()), [(path.to_string(), None, None, third)]);
    }
    let then = a.at(&[second]).unwrap().blame("d", ["p", "x"]).unwrap();
    assert_eq!(named(&then), [("p.x".to_owned(), None, Some(json!(5)), second)]);
    assert_eq!(a.blame("d", "never").unwrap(), []);
    assert_eq!(a.blame("no such store", "x").unwrap(), []);
}

#[test]
fn undo_keeps_what_others_have_written_since_and_says_so() {
    let (a, b, _) = timed();
    wrote(&a, |tx| {
        tx.doc("d").set("title", "old")?;
        tx.doc("d").set("body", "old")?;
        tx.doc("d").increment("n", 10)?;
        tx.table::<Json>("t").insert_as("k", &json!({"f": 1, "g": 1}))?;
        tx.table::<Json>("t").insert_as("gone", &json!({"f": 1}))
    });
    exchange(&a, &b);
    let mine = wrote(&a, |tx| {
        tx.doc("d").set("title", "mine")?;
        tx.doc("d").set("body", "mine")?;
        tx.doc("d").set("fresh", true)?;
        tx.doc("d").increment("n", 5)?;
        tx.table::<Json>("t").update("k", |row| {
            row["f"] = json!(2);
            row["g"] = json!(2);
        })?;
        tx.table::<Json>("t").insert_as("made", &json!({"f": 1}))?;
        tx.table::<Json>("t").insert_as("shared", &json!({"f": 1}))?;
        tx.table::<Json>("t").delete("gone")
    });
    exchange(&a, &b);
    let theirs = wrote(&b, |tx| {
        tx.doc("d").set("body", "theirs")?;
        tx.doc("d").increment("n", 1)?;
        tx.table::<Json>("t").update("k", |row| row["g"] = json!(3))?;
        tx.table::<Json>("t").update("shared", |row| row["h"] = json!(3))
    });
    exchange(&a, &b);
    let undone = a.undo_last().unwrap().unwrap();
    assert_eq!(undone.entry, mine);
    assert_eq!(
        a.doc("d").to_json().unwrap(),
        json!({"title": "old", "body": "theirs", "n": 11}),
        "counters are counted back, and what is theirs is theirs"
    );
    let rows = |db: &Database| db.table::<Json>("t").page(None, 10).unwrap();
    let expected = [
        ("gone".to_owned(), json!({"f": 1})),
        ("k".to_owned(), json!({"f": 1, "g": 3})),
        ("shared".to_owned(), json!({"f": 1, "h": 3})),
    ];
    assert_eq!(rows(&a), expected);
    let kept: Vec<_> = undone
        .kept
        .iter()
        .map(|k| (k.store.as_str(), k.path.to_string(), k.field.as_deref(), k.by))
        .collect();
    assert_eq!(
        kept,
        [
            ("d", "body".to_owned(), None, Some(theirs)),
            ("t", "k".to_owned(), Some("g"), Some(theirs)),
            ("t", "shared".to_owned(), None, Some(theirs)),
        ]
    );
    assert_eq!(a.log(1).unwrap()[0].id, undone.by.unwrap());
    exchange(&a, &b);
    assert_eq!(rows(&b), expected);

    // Undoing the undo is doing it again, without what was kept.
    let redone = a.undo(undone.by.unwrap()).unwrap();
    assert_eq!(redone.kept, []);
    assert_eq!(
        a.doc("d").to_json().unwrap(),
        json!({"title": "mine", "body": "theirs", "fresh": true, "n": 16})
    );
    assert_eq!(rows(&a).iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["k", "made", "shared"]);
    assert_eq!(b.undo_last().unwrap().unwrap().entry, theirs, "each device takes back its own");
}

#[test]
fn undo_with_nothing_to_take_back_writes_nothing() {
    let (a, b, _) = timed();
    assert_eq!(a.undo_last().unwrap(), None, "settings are not taken back");
    let mine = wrote(&a, |tx| tx.doc("d").set("x", 1));
    exchange(&a, &b);
    b.doc("d").delete("x").unwrap();
    exchange(&a, &b);
    let before = a.tips().unwrap();
    let undone = a.undo(mine).unwrap();
    assert_eq!((undone.by, undone.restored, undone.kept.len()), (None, 0, 1));
    assert_eq!(undone.kept[0].by, Some(b.log(1).unwrap()[0].id));
    assert_eq!(a.tips().unwrap(), before);
    assert!(matches!(a.undo(EntryId([1; 32])), Err(DbError::UnknownEntry { .. })));
}

#[test]
fn a_difference_of_many_keys_is_read_in_passes_that_give_each_once() {
    let db = database();
    let from = db.tips().unwrap();
    let rows = crate::limits::DIFF_KEYS + 1000;
    let row = json!({"v": 1});
    for start in (0..rows).step_by(4000) {
        let keys: Vec<String> =
            (start..rows.min(start + 4000)).map(|n| format!("{:05}", n * 7 % rows)).collect();
        db.table::<Json>("t").insert_many_as(keys.iter().map(|key| (key, &row))).unwrap();
    }
    let to = db.tips().unwrap();
    let keys: Vec<String> =
        db.diff(&from, &to).unwrap().map(|found| found.unwrap().path.keys()[0].clone()).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(keys.len(), db.table::<Json>("t").count().unwrap() as usize);
    assert_eq!(db.diff(&to, &from).unwrap().count(), keys.len());
    assert_eq!(db.diff(&to, &to).unwrap().count(), 0);
}

#[test]
fn a_difference_tells_of_rights_and_titles() {
    let (a, b, _) = timed();
    let from = a.tips().unwrap();
    a.set_title("Ours").unwrap();
    a.grant(eid_core::Slot::Key(b.instance().device()), eid_core::Permission::Read).unwrap();
    let found: Vec<_> = a
        .diff(&from, &a.tips().unwrap())
        .unwrap()
        .map(|found| found.unwrap())
        .map(|d| (d.path.keys()[0].clone(), d.before.map(Json::from), d.after.map(Json::from)))
        .collect();
    let device = b.instance().device().to_string();
    assert_eq!(
        found,
        [
            ("title".to_owned(), Some(json!("shared")), Some(json!("Ours"))),
            (device, Some(json!("write")), Some(json!("read"))),
        ]
    );
}

#[test]
fn texts_are_compared_blamed_and_taken_back_part_by_part() {
    let (a, b, _) = timed();
    let first = wrote(&a, |tx| tx.text("body").insert(0, "one two three"));
    exchange(&a, &b);
    let mine = wrote(&a, |tx| {
        tx.text("body").replace(4..7, "2")?;
        tx.text("body").insert(0, "> ")
    });
    assert_eq!(a.text("body").read().unwrap(), "> one 2 three");
    exchange(&a, &b);
    let theirs = wrote(&b, |tx| tx.text("body").insert(2, "[b]"));
    exchange(&a, &b);
    assert_eq!(a.text("body").read().unwrap(), "> [b]one 2 three");
    let found: Vec<_> = diff(&a, &[first], &[mine])
        .into_iter()
        .map(|d| (d.store, d.at, d.before.map(Json::from), d.after.map(Json::from)))
        .collect();
    assert_eq!(
        found,
        [
            ("body".to_owned(), Some(0), None, Some(json!("> "))),
            ("body".to_owned(), Some(6), Some(json!("two")), Some(json!("2"))),
        ]
    );
    let parts: Vec<_> = a
        .blame("body", Path::root())
        .unwrap()
        .into_iter()
        .map(|part| (part.range.unwrap(), part.entry, part.value.map(Json::from).unwrap()))
        .collect();
    assert_eq!(
        parts,
        [
            (0..2, mine, json!("> ")),
            (2..5, theirs, json!("[b]")),
            (5..9, first, json!("one ")),
            (9..10, mine, json!("2")),
            (10..16, first, json!(" three")),
        ]
    );
    let undone = a.undo(mine).unwrap();
    assert_eq!(a.text("body").read().unwrap(), "[b]one two three");
    exchange(&a, &b);
    assert_eq!(b.text("body").read().unwrap(), "[b]one two three");
    a.undo(undone.by.unwrap()).unwrap();
    assert_eq!(a.text("body").read().unwrap(), "> [b]one 2 three");
    assert_eq!(a.at(&[first]).unwrap().database().text("body").read().unwrap(), "one two three");
}

#[test]
fn a_list_that_somebody_has_changed_since_is_kept_and_otherwise_is_as_it_was() {
    let (a, b, _) = timed();
    let list = |items: Json| Value::from(items);
    wrote(&a, |tx| tx.doc("d").set("l", list(json!([1, 2]))));
    let mine = wrote(&a, |tx| tx.doc("d").set("l", list(json!([1, 2, 3]))));
    exchange(&a, &b);
    let undone = a.undo(mine).unwrap();
    assert_eq!(a.doc("d").get("l").unwrap(), Some(list(json!([1, 2]))));
    let again = a.undo(undone.by.unwrap()).unwrap();
    exchange(&a, &b);
    b.doc("d").list("l").delete(0).unwrap();
    exchange(&a, &b);
    let kept = a.undo(again.by.unwrap()).unwrap();
    assert_eq!((kept.restored, kept.kept.len()), (0, 1));
    assert_eq!(a.doc("d").get("l").unwrap(), Some(list(json!([2, 3]))));
}

#[test]
fn a_place_in_the_changes_is_of_one_life_of_the_database() {
    let (a, b) = two();
    let mut open = b.changes(crate::Since::Beginning).unwrap();
    open.next_ready().unwrap().unwrap();
    let cursor = open.cursor();
    b.instance().forget(&b.id()).unwrap();
    copy(&a, b.instance());
    open.skip_to_now().expect_err("another life");
    assert!(matches!(b.changes(crate::Since::Cursor(cursor)), Err(DbError::ForeignCursor)));
}
