use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use eid_core::Entry;
use eid_store::{Backend, Batch, Counting, Durability, Memory, Offer, Scan};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::queries::{Ask, any_ask, any_step, run};
use super::support::{copy, database, entries, exchange, node_over, two};
use crate::{Database, DbError, LiveQuery, PasswordCost, RawTable, RowChange, RowChanges};

/// `+` added, `~` changed, `-` removed, `?` unreadable.
fn shown<T>(changes: &RowChanges<T>) -> String {
    let signs = changes.changes.iter().map(|change| {
        let sign = match change {
            RowChange::Added { .. } => '+',
            RowChange::Changed { .. } => '~',
            RowChange::Removed { .. } => '-',
            RowChange::Unreadable { .. } => '?',
        };
        format!("{sign}{}", change.key())
    });
    signs.collect::<Vec<_>>().join(" ")
}

fn next<T: Serialize + for<'de> Deserialize<'de>>(live: &mut LiveQuery<T>) -> String {
    live.next_ready().unwrap().map_or_else(String::new, |changes| shown(&changes))
}

fn numbered(rows: &[(&str, i64)]) -> RawTable {
    let table = database().table::<Json>("t");
    table.create_index("n").unwrap();
    for (key, n) in rows {
        table.insert_as(key, &json!({"n": n})).unwrap();
    }
    table
}

fn set(table: &RawTable, key: &str, n: i64) {
    table.put(key, &json!({"n": n})).unwrap();
}

#[test]
fn rows_are_added_changed_and_removed_as_they_come_to_match_and_cease_to() {
    let table = numbered(&[("a", 1), ("b", 5), ("c", 9)]);
    let mut live = table.query().gt("n", 3).watch().unwrap();
    assert_eq!(live.initial().into_iter().map(|(key, _)| key).collect::<String>(), "bc");
    assert_eq!((live.initial(), next(&mut live)), (vec![], String::new()));
    set(&table, "a", 2);
    assert_eq!(next(&mut live), "", "a row that does not match is no news");
    set(&table, "a", 4);
    assert_eq!(next(&mut live), "+a");
    set(&table, "a", 5);
    assert_eq!(next(&mut live), "~a");
    set(&table, "a", 0);
    assert_eq!(next(&mut live), "-a");
    table.delete("c").unwrap();
    table.insert_as("d", &json!({"n": 4, "more": true})).unwrap();
    let changes = live.next_ready().unwrap().unwrap();
    assert_eq!((shown(&changes), changes.entries, changes.behind), ("-c +d".to_owned(), Some(2), 0));
    let RowChange::Added { row, .. } = &changes.changes[1] else { panic!("{changes:?}") };
    assert_eq!(*row, json!({"n": 4, "more": true}));
    // Other stores are no news, and one entry is one step.
    table.db.doc("d").set("x", 1).unwrap();
    assert_eq!(next(&mut live), "");
    table
        .db
        .write(|tx| {
            let rows = tx.table::<Json>("t");
            rows.delete("d")?;
            rows.insert_as("e", &json!({"n": 7}))
        })
        .unwrap();
    assert_eq!(next(&mut live), "-d +e");
    assert_eq!(live.len(), 2);
}

#[test]
fn who_comes_seldom_is_given_what_is_different() {
    let table = numbered(&[("a", 1)]);
    let mut live = table.query().watch().unwrap();
    for n in 0..10 {
        set(&table, "a", 10 + n);
        set(&table, "b", n);
    }
    table.delete("b").unwrap();
    let changes = live.next_ready().unwrap().unwrap();
    assert_eq!((shown(&changes), changes.entries), ("~a".to_owned(), Some(21)));
    let RowChange::Changed { row, .. } = &changes.changes[0] else { panic!("{changes:?}") };
    assert_eq!(row["n"], 19);
    // Back to what it was.
    set(&table, "a", 1);
    set(&table, "a", 19);
    assert_eq!(next(&mut live), "");
}

/// Gives it entries, of some only the blocks.
fn bring(to: &Database, offered: &[(&Entry, bool)]) {
    let offers = offered.iter().map(|(entry, whole)| {
        let payloads = if *whole { entry.payloads().to_vec() } else { vec![None; entry.payloads().len()] };
        Offer { block: entry.block().clone(), payloads }
    });
    let prepared = to.instance().store().prepare(to.id(), offers.collect()).unwrap();
    to.instance().store().admit(prepared).unwrap();
}

/// A database with one row that another instance does not have, and two entries that write rows.
fn with_two_rows_to_come() -> (Database, Database, Vec<Entry>) {
    let (a, b) = two();
    let table = a.table::<Json>("t");
    table.insert_as("here", &json!({})).unwrap();
    exchange(&a, &b);
    table.insert_as("a", &json!({"n": 1})).unwrap();
    table.insert_as("b", &json!({"n": 2})).unwrap();
    let all = entries(&a);
    (a, b, all[all.len() - 2..].to_vec())
}

#[test]
fn a_row_whose_payload_comes_late_is_added_then_also_when_another_one_is_missing() {
    let (_a, b, come) = with_two_rows_to_come();
    bring(&b, &[(&come[0], false)]);
    let mut live = b.table::<Json>("t").query().watch().unwrap();
    assert_eq!(live.initial().len(), 1);
    bring(&b, &[(&come[0], true), (&come[1], false)]);
    assert_eq!(next(&mut live), "+a");
    bring(&b, &[(&come[1], true)]);
    assert_eq!(next(&mut live), "+b");
    assert_eq!(next(&mut live), "");
}

#[test]
fn a_payload_that_comes_alone_wakes_who_waits_and_is_no_write() {
    let (_a, b, come) = with_two_rows_to_come();
    bring(&b, &[(&come[0], false)]);
    let (tell, told) = std::sync::mpsc::channel();
    let watch = b.on_remote_write(move |notice| tell.send(notice.clone()).unwrap()).unwrap();
    let mut live = b.table::<Json>("t").query().watch().unwrap();
    let mut waiting = Box::pin(live.next());
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(waiting.as_mut().poll(&mut context), Poll::Pending));
    bring(&b, &[(&come[0], true)]);
    let Poll::Ready(changes) = waiting.as_mut().poll(&mut context) else { panic!("nothing came") };
    assert_eq!(shown(&changes.unwrap()), "+a");
    bring(&b, &[(&come[1], true)]);
    // The first notice is of the entry that came, and of nothing else.
    let notice = told.recv().unwrap();
    assert_eq!((notice.entries.end.0 - notice.entries.start.0, notice.batches), (1, 1));
    drop(watch);
}

#[test]
fn an_update_that_another_one_beats_is_no_news() {
    let (a, b) = two();
    let (here, there) = (a.table::<Json>("t"), b.table::<Json>("t"));
    here.insert_as("k", &json!({"n": 1})).unwrap();
    exchange(&a, &b);
    there.update("k", |row| row["n"] = json!(2)).unwrap();
    // Higher, so that it wins though the clocks stand still.
    here.insert_as("other", &json!({})).unwrap();
    here.update("k", |row| row["n"] = json!(3)).unwrap();
    let mut live = here.query().watch().unwrap();
    copy(&b, a.instance());
    assert_eq!(next(&mut live), "");
    here.update("k", |row| row["n"] = json!(4)).unwrap();
    assert_eq!(next(&mut live), "~k");
}

#[test]
fn a_row_that_leaves_the_window_makes_room_for_the_next_one() {
    let table = numbered(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
    let mut live = table.query().order("n").limit(3).watch().unwrap();
    assert_eq!(live.initial().into_iter().map(|(key, _)| key).collect::<String>(), "abc");
    set(&table, "b", 9);
    assert_eq!(next(&mut live), "-b +d");
    table.delete("a").unwrap();
    assert_eq!(next(&mut live), "-a +e");
    set(&table, "f", 0);
    assert_eq!(next(&mut live), "-e +f");
    set(&table, "c", 4);
    assert_eq!(next(&mut live), "~c");
    table.delete("e").unwrap();
    assert_eq!(next(&mut live), "");
    // The last one falls behind what is beyond, and back.
    set(&table, "d", 10);
    assert_eq!(next(&mut live), "-d +b");
    set(&table, "d", 4);
    assert_eq!(next(&mut live), "-b +d");
    table.delete("d").unwrap();
    table.delete("b").unwrap();
    table.delete("c").unwrap();
    assert_eq!(next(&mut live), "-c -d");
    set(&table, "z", 100);
    assert_eq!(next(&mut live), "+z");
}

#[test]
fn the_work_of_a_change_does_not_depend_on_how_many_rows_there_are() {
    let read_of = |rows: usize, query: &dyn Fn(&RawTable) -> LiveQuery<Json>| {
        let backend = Arc::new(Counting::new(Memory::new()));
        let shared: Arc<dyn Backend> = backend.clone();
        let table = node_over(&shared, 1).create_database("t").unwrap().database.table::<Json>("t");
        table.create_index("n").unwrap();
        let all: Vec<(String, Json)> =
            (0..rows).map(|n| (format!("{n:06}"), json!({"n": n, "even": n % 2 == 0}))).collect();
        for part in all.chunks(1000) {
            table.insert_many_as(part.iter().map(|(key, row)| (key, row))).unwrap();
        }
        let mut live = query(&table);
        let mut costs = Vec::new();
        for change in [
            |table: &RawTable| set(table, "000001", 1_000_000),
            |table: &RawTable| set(table, "000003", 0),
            |table: &RawTable| table.delete("000000").unwrap(),
        ] {
            change(&table);
            let before = backend.counts();
            assert_ne!(next(&mut live), "");
            costs.push((backend.counts() - before).rows_read);
        }
        costs
    };
    let all = |table: &RawTable| table.query().watch().unwrap();
    let window = |table: &RawTable| table.query().order("n").limit(10).watch().unwrap();
    for query in [&all as &dyn Fn(&RawTable) -> LiveQuery<Json>, &window] {
        let (few, many) = (read_of(100, query), read_of(3000, query));
        assert_eq!(few, many);
        assert!(many.iter().all(|rows| *rows < 25), "{many:?}");
    }
}

#[test]
fn a_row_of_another_type_is_said_to_be_unreadable_and_stops_nothing() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Numbered {
        n: i64,
    }
    let table = numbered(&[("a", 1)]);
    let mut live = table.db.table::<Numbered>("t").query().watch().unwrap();
    table.write_two("b", json!({"n": "text"}), "c", json!({"n": 3}));
    assert_eq!(next(&mut live), "?b +c");
    table.delete("b").unwrap();
    assert_eq!(next(&mut live), "-b");
    table.insert_as("d", &json!({})).unwrap();
    assert!(matches!(table.db.table::<Numbered>("t").query().watch(), Err(DbError::DecodeRow { .. })));
}

impl RawTable {
    fn write_two(&self, key: &str, row: Json, other: &str, other_row: Json) {
        self.insert_many_as([(key, &row), (other, &other_row)]).unwrap();
    }
}

#[test]
fn a_database_that_is_forgotten_and_comes_again_is_compared_row_by_row() {
    let (a, b) = two();
    let (here, there) = (a.table::<Json>("t"), b.table::<Json>("t"));
    here.write_two("k", json!({"n": 1}), "l", json!({"n": 2}));
    exchange(&a, &b);
    let mut live = there.query().order("n").limit(5).watch().unwrap();
    here.delete("k").unwrap();
    here.insert_as("m", &json!({"n": 3})).unwrap();
    b.instance().forget(&b.id()).unwrap();
    copy(&a, b.instance());
    let changes = live.next_ready().unwrap().unwrap();
    assert_eq!((shown(&changes), changes.entries), ("-k +m".to_owned(), None));
    b.instance().forget(&b.id()).unwrap();
    assert_eq!(next(&mut live), "-l -m");
    assert!(live.is_empty());
    assert_eq!(next(&mut live), "");
    copy(&a, b.instance());
    assert_eq!(next(&mut live), "+l +m");
    here.update("m", |row| row["n"] = json!(1)).unwrap();
    copy(&a, b.instance());
    assert_eq!(next(&mut live), "~m");
    // A query on a database that is not here yet waits for it.
    b.instance().forget(&b.id()).unwrap();
    let mut early = there.query().watch().unwrap();
    assert_eq!(early.initial(), []);
    copy(&a, b.instance());
    assert_eq!(next(&mut early), "+l +m");
}

#[test]
fn a_repair_is_noticed() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let db = node_over(&backend, 1).create_database("t").unwrap().database;
    let table = db.table::<Json>("t");
    table.write_two("k", json!({"n": 1}), "l", json!({"n": 2}));
    // A row of the view is lost.
    let rows = backend.snapshot().unwrap().scan_many(&[Scan::prefix(&[0x17])]).unwrap().remove(0);
    let (lost, _) = rows.into_iter().find(|(key, _)| key.ends_with(b"\x01l")).unwrap();
    backend
        .commit(Batch { deletes: vec![lost], durability: Durability::Durable, ..Batch::default() })
        .unwrap();
    let mut live = table.query().watch().unwrap();
    assert_eq!(live.len(), 1);
    db.instance().store().fsck(true, &mut |_, _| {}).unwrap();
    assert_eq!(next(&mut live), "+l");
    set(&table, "k", 5);
    assert_eq!(next(&mut live), "~k");
}

#[test]
fn waiting_ends_with_a_change_of_the_table_and_not_before() {
    let table = numbered(&[("a", 1)]);
    let mut live = table.query().watch().unwrap();
    assert!(live.wait(Duration::ZERO).unwrap().is_none());
    let writer = {
        let table = table.clone();
        std::thread::spawn(move || {
            table.db.doc("d").set("x", 1).unwrap();
            set(&table, "a", 2);
        })
    };
    assert_eq!(shown(&live.wait(Duration::MAX).unwrap().unwrap()), "~a");
    writer.join().unwrap();
    let mut waiting = Box::pin(live.next());
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    set(&table, "a", 3);
    let Poll::Ready(changes) = waiting.as_mut().poll(&mut context) else { panic!("it is there") };
    assert_eq!(shown(&changes.unwrap()), "~a");
}

#[test]
fn what_does_not_change_is_not_watched() {
    let table = numbered(&[("a", 1)]);
    let then = table.db.at(&table.db.tips().unwrap()).unwrap();
    assert!(matches!(then.table::<Json>("t").query().watch(), Err(DbError::ReadOnly)));
}

/// What somebody knows who only listens.
struct Listener {
    ask: Ask,
    live: LiveQuery<Json>,
    rows: BTreeMap<String, Json>,
}

impl Listener {
    fn new(ask: &Ask, table: &RawTable) -> Self {
        let query = ask.query(table).limit(ask.limit.unwrap_or(usize::MAX));
        let mut live = query.watch().unwrap();
        let rows = live.initial().into_iter().collect();
        Self { ask: ask.clone(), live, rows }
    }

    fn listen(&mut self, table: &RawTable) {
        while let Some(changes) = self.live.next_ready().unwrap() {
            assert!(!changes.changes.is_empty());
            for change in changes.changes {
                match change {
                    RowChange::Added { key, row } => assert_eq!(self.rows.insert(key, row), None),
                    RowChange::Changed { key, row } => {
                        let before = self.rows.insert(key, row.clone());
                        assert!(before.is_some());
                    }
                    RowChange::Removed { key } => assert!(self.rows.remove(&key).is_some()),
                    RowChange::Unreadable { .. } => panic!("JSON reads every row"),
                }
            }
        }
        let query = self.ask.query(table).limit(self.ask.limit.unwrap_or(usize::MAX));
        let asked: BTreeMap<String, Json> = query.entries().unwrap().into_iter().collect();
        assert_eq!(self.rows, asked);
        assert_eq!(self.live.len(), asked.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Entries come from here and from elsewhere, indexes come and go, and listeners come when they like.
    #[test]
    fn who_only_listens_knows_what_a_query_finds(
        steps in proptest::collection::vec((any_step(), any::<u8>()), 1..40),
        asks in proptest::collection::vec(any_ask(), 1..8),
    ) {
        let (a, b) = two();
        let table = a.table::<Json>("t");
        let mut listeners: Vec<Listener> = asks.iter().map(|ask| Listener::new(ask, &table)).collect();
        for ((here, step), listening) in &steps {
            let (db, other) = if *here { (&a, &b) } else { (&b, &a) };
            run(db, other, step);
            for (n, listener) in listeners.iter_mut().enumerate() {
                if listening >> n & 1 == 1 {
                    listener.listen(&table);
                }
            }
        }
        exchange(&a, &b);
        listeners.iter_mut().for_each(|listener| listener.listen(&table));
    }
}

#[test]
fn an_encrypted_table_is_watched_while_it_is_unlocked() {
    let db = database();
    let vault = db.password_store("t").with_cost(PasswordCost { memory_kib: 8, passes: 1, lanes: 1 });
    let table = vault.create_of_kind("secret", "table").unwrap().table::<Json>();
    table.create_index("n").unwrap();
    table.write_two("a", json!({"n": 1}), "b", json!({"n": 5}));
    let mut live = table.query().gt("n", 3).order("n").limit(1).watch().unwrap();
    assert_eq!(live.initial().len(), 1);
    set(&table, "a", 4);
    assert_eq!(next(&mut live), "-b +a");
    db.doc("d").set("x", 1).unwrap();
    assert_eq!(next(&mut live), "");
    vault.lock().unwrap();
    db.doc("d").set("x", 2).unwrap();
    assert!(matches!(live.next_ready(), Err(DbError::Locked { .. })));
    vault.unlock("secret").unwrap();
    set(&table, "b", 0);
    set(&table, "a", 3);
    assert_eq!(next(&mut live), "-a");
    // Which fields it has is nobody's business.
    assert!(db.instance().store().local().namespace("indexes").scan(&db.id().0).unwrap().is_empty());
}
