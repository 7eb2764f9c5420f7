//! Void entries in any order of arrival: what is shown is what one device shows that was given everything at once, and
//! what those that count give alone.

use std::collections::BTreeMap;

use eid_core::dag::Seq;
use eid_core::{Entry, EntryId, KeyMode, Permission, Slot};
use eid_crdt::Value;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::replicas::{Step, any_step, naive_replay, run, three};
use super::support::{admit, causal_order, copy, entries, node};
use crate::{Changes, Database, DbError, Event, PasswordCost, Path, RowChange, Since};

const CHEAP: PasswordCost = PasswordCost { memory_kib: 8, passes: 1, lanes: 1 };

#[derive(Debug, Clone)]
enum Act {
    /// To the document and the table.
    Plain(Step),
    /// Replaces characters of the text, at positions that are taken modulo its length.
    Text(usize, usize, u8),
    /// The same to the text of a row.
    Note(usize, usize, u8),
    /// Sets a value in the encrypted document, and adds to a counter and a list there.
    Vault(u8, u8),
    /// The admin removes one of the others.
    Remove(usize),
    /// The admin lets one of them write again.
    Grant(usize),
    /// The admin lets an entry count that does not.
    Accept(usize),
}

fn any_act() -> impl Strategy<Value = (usize, Act)> {
    let edit = || (any::<usize>(), 0usize..3, b'a'..=b'z');
    let act = prop_oneof![
        12 => any_step().prop_map(|(_, step)| Act::Plain(step)),
        4 => edit().prop_map(|(at, count, letter)| Act::Text(at, count, letter)),
        3 => edit().prop_map(|(at, count, letter)| Act::Note(at, count, letter)),
        3 => (0u8..3, any::<u8>()).prop_map(|(key, value)| Act::Vault(key, value)),
        2 => (1usize..3).prop_map(Act::Remove),
        1 => (1usize..3).prop_map(Act::Grant),
        1 => any::<usize>().prop_map(Act::Accept),
    ];
    (0usize..3, act)
}

fn may_write(db: &Database) -> bool {
    db.permission(&[db.instance().device()]).unwrap() >= Some(Permission::Write)
}

fn replace(text: &crate::TextHandle, at: usize, count: usize, letter: u8) {
    let len = text.len().unwrap();
    let at = at % (len + 1);
    text.replace(at..(at + count).min(len), &char::from(letter).to_string()).unwrap();
}

fn act(replicas: &[Database], at: usize, what: &Act) {
    let db = &replicas[at];
    let is_pull = matches!(what, Act::Plain(Step::Pull(_)));
    if !is_pull && !may_write(db) {
        return;
    }
    match what {
        Act::Plain(step) => run(replicas, at, step),
        Act::Text(place, count, letter) => replace(&db.text("text"), *place, *count, *letter),
        Act::Note(place, count, letter) => match db.table::<Json>("notes").text_field("n", "body") {
            Ok(body) => replace(&body, *place, *count, *letter),
            Err(DbError::NoSuchRow { .. }) => {}
            Err(error) => panic!("{error}"),
        },
        Act::Vault(key, value) => db
            .write(|tx| {
                let vault = tx.doc("vault");
                vault.set(format!("key {key}").as_str(), *value)?;
                vault.increment("count", 1)?;
                vault.list("list").push(*value)
            })
            .unwrap(),
        Act::Remove(member) => {
            let slot = Slot::Key(replicas[*member].instance().device());
            replicas[0].revoke(slot, KeyMode::Remove { fence: None }).unwrap();
        }
        Act::Grant(member) => {
            let slot = Slot::Key(replicas[*member].instance().device());
            replicas[0].grant(slot, Permission::Write).unwrap();
        }
        Act::Accept(pick) => {
            let void = replicas[0].void_entries(Seq(0), usize::MAX).unwrap();
            if !void.is_empty() {
                replicas[0].accept(&[void[pick % void.len()].id]).unwrap();
            }
        }
    }
}

/// Keeps which entries count, by what a stream of changes gives.
fn follow(changes: &mut Changes, counts: &mut BTreeMap<EntryId, bool>) {
    while let Some(event) = changes.next_ready().unwrap() {
        match event {
            Event::Change(change) => drop(counts.insert(change.entry, !change.void)),
            Event::EntriesVoided(what) => counts.extend(what.entries.into_iter().map(|(id, _)| (id, false))),
            Event::EntriesRestored(what) => counts.extend(what.entries.into_iter().map(|(id, _)| (id, true))),
        }
    }
}

/// A value in which nothing is told of lists: others may hang on what is hidden in them.
fn without_lists(value: Value) -> Value {
    match value {
        Value::List(_) => Value::Null,
        Value::Map(items) => {
            Value::Map(items.into_iter().map(|(key, value)| (key, without_lists(value))).collect())
        }
        value => value,
    }
}

fn begin() -> (Vec<Database>, Vec<crate::Instance>) {
    let (replicas, nodes) = three();
    let db = &replicas[0];
    db.password_store("vault").with_cost(CHEAP).create("p").unwrap();
    db.table::<Json>("notes").insert_as("n", &json!({"body": ""})).unwrap();
    db.text("text").insert(0, "abc").unwrap();
    for replica in &replicas[1..] {
        copy(db, replica.instance());
        replica.password_store("vault").with_cost(CHEAP).unlock("p").unwrap();
    }
    (replicas, nodes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_arrival_shows_what_counts(
        acts in proptest::collection::vec(any_act(), 1..40),
        picks in proptest::collection::vec(any::<u16>(), 1..40),
        batch in 1usize..9,
    ) {
        let (replicas, _nodes) = begin();
        for (at, what) in &acts {
            act(&replicas, *at, what);
        }
        for other in &replicas[1..] {
            copy(other, replicas[0].instance());
        }
        let all = entries(&replicas[0]);
        let id = replicas[0].id();
        let fresh = node(99);
        let arrived = fresh.database_by_id(id);
        let table = arrived.table::<Json>("table");
        let mut changes = arrived.changes(Since::Beginning).unwrap();
        let (mut counts, mut shown) = (BTreeMap::new(), BTreeMap::new());
        let mut live = None;
        for run in causal_order(&all, &picks).chunks(batch) {
            admit(&fresh, id, run);
            if live.is_none() {
                table.create_index("field 0").unwrap();
            }
            if !arrived.password_store("vault").is_unlocked().unwrap() {
                drop(arrived.password_store("vault").unlock("p"));
            } else if batch % 2 == 0 {
                arrived.doc("vault").to_json().unwrap();
            }
            if batch % 3 > 0 {
                let place = changes.cursor().to_string().parse().unwrap();
                changes = arrived.changes(Since::Cursor(place)).unwrap();
                follow(&mut changes, &mut counts);
            }
            let live = live.get_or_insert_with(|| table.query().watch().unwrap());
            shown.extend(live.initial());
            while let Some(news) = live.next_ready().unwrap() {
                for change in news.changes {
                    match change {
                        RowChange::Added { key, row } => assert_eq!(shown.insert(key, row), None),
                        RowChange::Changed { key, row } => assert!(shown.insert(key, row).is_some()),
                        RowChange::Removed { key } => assert!(shown.remove(&key).is_some()),
                        RowChange::Unreadable { error, .. } => panic!("{error}"),
                    }
                }
            }
        }
        follow(&mut changes, &mut counts);
        let once = node(98);
        admit(&once, id, &all.iter().collect::<Vec<_>>());
        let once = once.database_by_id(id);
        once.password_store("vault").unlock("p").unwrap();
        prop_assert_eq!(arrived.state_hash().unwrap(), once.state_hash().unwrap());
        prop_assert_eq!(arrived.state_hash().unwrap(), replicas[0].state_hash().unwrap());
        for db in [&once, &replicas[0]] {
            prop_assert_eq!(arrived.doc("vault").to_json().unwrap(), db.doc("vault").to_json().unwrap());
            prop_assert_eq!(arrived.text("text").read().unwrap(), db.text("text").read().unwrap());
        }
        for db in [&arrived, &once, &replicas[0]] {
            let report = db.instance().store().fsck(false, &mut |_, _| {}).unwrap();
            prop_assert_eq!(report.problems, []);
        }

        // What counts, and nothing else.
        let snapshot = arrived.snapshot().unwrap();
        let standing: Vec<Entry> = entries(&arrived)
            .into_iter()
            .zip(snapshot.stand(&(0..snapshot.count()).map(Seq).collect::<Vec<_>>()).unwrap())
            .inspect(|(entry, stands)| assert_eq!(counts.get(&entry.id()), Some(stands)))
            .filter_map(|(entry, stands)| stands.then_some(entry))
            .collect();
        let (document, rows) = naive_replay(&standing);
        let held = arrived.doc("doc").get(Path::root()).unwrap().map(without_lists);
        prop_assert_eq!(held.unwrap_or_else(|| Value::from(json!({}))), without_lists(document));
        let mut expected: BTreeMap<String, Json> = BTreeMap::new();
        for (key, row) in rows {
            prop_assert_eq!(&table.get(&key).unwrap(), &row);
            expected.extend(row.map(|row| (key, row)));
        }
        prop_assert_eq!(table.count().unwrap(), expected.len() as u64);
        prop_assert_eq!(&shown, &expected);
        prop_assert_eq!(table.check_indexes().unwrap(), Vec::<Path>::new());
        for (key, row) in &expected {
            if let Some(value) = row.get("field 0") {
                let found = table.query().eq("field 0", Value::from(value.clone())).keys().unwrap();
                prop_assert!(found.contains(key));
            }
        }
    }
}
