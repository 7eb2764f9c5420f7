use std::ops::Bound;
use std::sync::Arc;

use eid_crdt::Value;
use eid_store::{Backend, Counting, LOCAL_ROWS, Memory};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{copy, database, exchange, node, node_over, two};
use crate::kind::index::DEFINITIONS;
use crate::limits::{INDEX_STEP_ROWS, INDEXES_MAX};
use crate::{
    Comparison, Database, DbError, Filter, FilterProblem, IndexInfo, IndexState, Page, PageCursor, Path,
    Query, RawTable,
};

fn airports() -> RawTable {
    let table = database().table::<Json>("airports");
    let rows = [
        ("a", json!({"elevation": 300, "city": "Bern", "tags": ["x"]})),
        ("b", json!({"elevation": 12.5, "city": "Oslo"})),
        ("c", json!({"elevation": -3, "city": "Bern"})),
        ("d", json!({"elevation": null, "city": "Rom"})),
        ("e", json!({"city": "Os*lo"})),
        ("f", json!({"elevation": 300.0, "city": "Bergen", "place": {"country": "NO"}})),
    ];
    table.insert_many_as(rows.iter().map(|(key, row)| (key, row))).unwrap();
    table
}

fn keys(query: Query<Json>) -> String {
    query.keys().unwrap().concat()
}

fn matching(table: &RawTable, text: &str) -> String {
    keys(table.query().matching(text.parse().unwrap()))
}

#[test]
fn texts_of_conditions_find_what_they_say() {
    let table = airports();
    for indexed in [false, true] {
        if indexed {
            for field in ["elevation", "city"] {
                table.create_index(field).unwrap();
            }
            table.create_index(["place", "country"]).unwrap();
        }
        let find = |text: &str| matching(&table, text);
        assert_eq!(find("elevation > 12"), "abf");
        assert_eq!(find("elevation = 300"), "af");
        assert_eq!(find("elevation between -3 and 12.5"), "bc");
        assert_eq!(find("not elevation > 12"), "cde");
        assert_eq!(find("elevation is null"), "de");
        assert_eq!(find("elevation is not null and city != Bern"), "bf");
        assert_eq!(find("elevation exists"), "abcf");
        assert_eq!(find("city ~ 'B*n'"), "acf");
        assert_eq!(find("city ~ '?e*'"), "acf");
        assert_eq!(find("city ~ Oslo"), "b");
        assert_eq!(find("city starts with 'Os*'"), "e");
        assert_eq!(find("city in (Oslo, \"Rom\", 3)"), "bd");
        assert_eq!(find("city in ()"), "");
        assert_eq!(find("place.country = NO or elevation < 0"), "cf");
        assert_eq!(find("/place/country = 'NO'"), "f");
        assert_eq!(find("(city = Bern or city = Rom) and not (elevation = 300)"), "cd");
        assert_eq!(find("NOT (city = Bern OR city = Rom)"), "bef");
        assert_eq!(find("tags = [\"x\"]"), "a");
        assert_eq!(find("true"), "abcdef");
        assert_eq!(find("false or elevation = null"), "d");
    }
    assert_eq!("name = New York".parse(), Ok(Filter::eq("name", "New York")));
    assert_eq!("`a b` = x'00ff'".parse(), Ok(Filter::eq("a b", vec![0u8, 255])));
    assert_eq!("name = 'it''s'".parse(), Ok(Filter::eq("name", "it's")));
    assert_eq!("version ~ 12".parse(), Ok(Filter::like("version", "12")));
}

#[test]
fn a_broken_text_says_where_and_why() {
    use FilterProblem as P;
    let deep = "(".repeat(100);
    for (text, column, problem) in [
        ("", 1, P::Field),
        ("a", 2, P::Comparison),
        ("a b = 3", 3, P::Comparison),
        ("a =", 4, P::Value),
        ("ä = 'x", 5, P::Unfinished),
        ("a = {\"b\"", 5, P::Unfinished),
        ("a = x'0'", 5, P::Unfinished),
        ("a = 1 and", 10, P::Field),
        ("(a = 1", 7, P::Expected(")")),
        ("a = 1)", 6, P::Rest),
        ("a = 'b' c", 9, P::Rest),
        ("a in 3", 6, P::Expected("(")),
        ("a is 3", 6, P::Expected("null")),
        ("a between 3 or 4", 13, P::Expected("and")),
        ("a..b = 3", 1, P::Field),
        (&deep, 66, P::TooDeep),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!((error.column, error.problem), (column, problem), "{text}");
    }
    let many = vec!["a = 1"; 2000].join(" or ");
    assert_eq!(many.parse::<Filter>().unwrap_err().problem, P::TooMany);
}

#[test]
fn explain_says_which_index_is_used_and_what_is_left_to_do() {
    let table = airports();
    let plan = |query: Query<Json>| query.explain().unwrap().to_string();
    let warm = || table.query().gt("elevation", 12);
    assert_eq!(plan(warm()), "the whole table, filtered by elevation > 12");
    assert!(warm().explain().unwrap().scans_table());
    table.create_index("elevation").unwrap();
    table.create_index("city").unwrap();
    assert_eq!(plan(warm().order("elevation")), "index of elevation: elevation > 12 (3 rows)");
    assert_eq!(
        plan(warm().eq("tags", 1).order("city").limit(2)),
        "index of elevation: elevation > 12 (3 rows), filtered by elevation > 12 and tags = 1, sorted by city, first 2"
    );
    // The fewest rows, whichever comes first.
    assert_eq!(
        plan(warm().eq("city", "Oslo")),
        "index of city: city = 'Oslo' (1 row), filtered by elevation > 12 and city = 'Oslo'"
    );
    assert_eq!(
        plan(table.query().matching("city = Oslo or elevation < 0".parse().unwrap())),
        "index of city: city = 'Oslo' united with index of elevation: elevation < 0 (2 rows), \
         filtered by city = 'Oslo' or elevation < 0"
    );
    assert_eq!(
        plan(table.query().matching("city = Oslo or city = Rom".parse().unwrap())),
        "index of city: city = 'Oslo' or city = 'Rom' (2 rows), sorted by key"
    );
    assert_eq!(plan(table.query().order_desc("city").limit(1)), "index of city (4 rows or more), first 1");
    assert_eq!(plan(table.query().key_prefix("a")), "a range of keys (1 row)");
    let used: Vec<Path> = warm().explain().unwrap().indexes().cloned().collect();
    assert_eq!(used, [Path::from("elevation")]);
    table.drop_index("elevation").unwrap();
    assert!(warm().explain().unwrap().scans_table());
    assert_eq!(keys(warm()), "abf");
}

#[test]
fn an_index_looks_at_the_rows_that_it_finds_and_at_no_others() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let shared: Arc<dyn Backend> = backend.clone();
    let db = node_over(&shared, 1).create_database("t").unwrap().database;
    let table = db.table::<Json>("t");
    let rows: Vec<(String, Json)> = (0..2000)
        .map(|n| (format!("{n:04}"), json!({"n": n, "bucket": n % 100, "name": format!("name {n}")})))
        .collect();
    for part in rows.chunks(500) {
        table.insert_many_as(part.iter().map(|(key, row)| (key, row))).unwrap();
    }
    for field in ["n", "bucket"] {
        table.create_index(field).unwrap();
    }
    let find = |query: Query<Json>| -> Page<Json> { query.page().unwrap() };
    let twenty = find(table.query().eq("bucket", 7));
    assert_eq!((twenty.rows.len(), twenty.looked.rows, twenty.looked.index_rows), (20, 20, 20));
    let least = find(table.query().order("n").limit(3));
    assert_eq!(least.rows.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["0000", "0001", "0002"]);
    assert_eq!(least.looked.rows, 3);
    let before = backend.counts();
    let greatest = find(table.query().order_desc("n").limit(3));
    assert_eq!(greatest.rows[0].0, "1999");
    // The tree, the store, the definitions, and what is given.
    assert!((backend.counts() - before).rows_read < 12, "{:?}", backend.counts() - before);
    let between = find(table.query().eq("bucket", 1).between("n", 700, 702));
    assert_eq!((between.rows.len(), between.looked.rows), (1, 3));
    // Counting reads no row where the index finds exactly what is asked.
    let (count, looked) = table.query().ge("n", 1500).count_looked().unwrap();
    assert_eq!((count, looked.rows, looked.index_rows), (500, 0, 500));
    let (count, looked) = table.query().ge("n", 1500).ne("name", "name 1999").count_looked().unwrap();
    assert_eq!((count, looked.rows), (499, 500));
    // A later page begins where the one before ended.
    let query = || table.query().ge("n", 100).order("n").limit(10);
    let first = find(query());
    let second = find(query().page_after(&first.next.unwrap()));
    assert_eq!((second.rows[0].0.as_str(), second.looked.rows), ("0110", 10));
    let query = || table.query().eq("bucket", 7).limit(5);
    let first = find(query());
    let second = find(query().page_after(&first.next.unwrap()));
    assert_eq!((second.rows[0].0.as_str(), second.looked.rows), ("0507", 5));
}

#[test]
fn a_page_cursor_is_a_text_and_fits_only_its_order() {
    let table = airports();
    let query = || table.query().order("city").order_desc("elevation").limit(2);
    let first = query().page().unwrap();
    let cursor: PageCursor = first.next.unwrap().to_string().parse().unwrap();
    let second = query().page_after(&cursor).page().unwrap();
    let both: Vec<&str> = first.rows.iter().chain(&second.rows).map(|(key, _)| key.as_str()).collect();
    assert_eq!(both.concat(), "face");
    // The row where it ended may be gone.
    table.delete("a").unwrap();
    assert_eq!(query().page_after(&cursor).page().unwrap().rows, second.rows);
    assert!(matches!(table.query().order("city").page_after(&cursor).rows(), Err(DbError::ForeignPage)));
    assert!(query().page_after(&cursor).explain().is_ok());
    assert_eq!(table.query().limit(6).page().unwrap().next, None);
    for broken in ["", "zz", "8", "80", &format!("{cursor}00")] {
        assert!(broken.parse::<PageCursor>().is_err(), "{broken}");
    }
}

#[test]
fn keys_are_ranges_and_beginnings_too() {
    let table = database().table::<Json>("t");
    for key in ["a", "a\u{d7ff}", "a\u{d7ff}b", "a\u{e000}", "a\u{10ffff}", "b", "\u{10ffff}"] {
        table.insert_as(key, &json!({"n": key.len()})).unwrap();
    }
    assert_eq!(table.query().key_prefix("a").count().unwrap(), 5);
    assert_eq!(table.query().key_prefix("a\u{d7ff}").count().unwrap(), 2);
    assert_eq!(table.query().key_prefix("a\u{10ffff}").count().unwrap(), 1);
    assert_eq!(table.query().key_prefix("\u{10ffff}").count().unwrap(), 1);
    let range = (Bound::Excluded("a"), Bound::Included("b"));
    assert_eq!(table.query().key_range(range).count().unwrap(), 5);
    table.create_index("n").unwrap();
    assert_eq!(table.query().key_range(range).eq("n", 1).keys().unwrap(), ["b"]);
    assert_eq!(table.query().order_key_desc().limit(2).keys().unwrap(), ["\u{10ffff}", "b"]);
    assert_eq!(table.query().order_desc("n").first().unwrap().unwrap().0, "a\u{10ffff}");
}

#[test]
fn an_index_can_be_made_before_the_table_and_is_kept_over_a_restart() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let id = {
        let db = node_over(&backend, 1).create_database("t").unwrap().database;
        let table = db.table::<Json>("t");
        table.create_index("n").unwrap();
        assert_eq!(db.stores().unwrap(), []);
        table.insert_as("k", &json!({"n": 1})).unwrap();
        db.id()
    };
    let table = node_over(&backend, 1).database_by_id(id).table::<Json>("t");
    assert_eq!(table.indexes().unwrap()[0].state, IndexState::Ready);
    let page = table.query().eq("n", 1).page().unwrap();
    assert_eq!((page.rows.len(), page.looked.index_rows), (1, 1));
    assert_eq!(table.check_indexes().unwrap(), []);
}

#[test]
fn building_and_dropping_go_on_where_they_were_interrupted() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let id = {
        let db = node_over(&backend, 1).create_database("t").unwrap().database;
        let table = db.table::<Json>("t");
        for n in 0..10 {
            table.insert_as(&n.to_string(), &json!({"n": n})).unwrap();
        }
        let mut steps = 0;
        let done = table.create_index_telling("n", |progress| {
            steps += 1;
            assert_eq!((progress.rows, progress.done), (steps * 3, false));
            steps < 2
        });
        assert!(!done.unwrap());
        assert_eq!(table.indexes().unwrap()[0].state, IndexState::Building);
        // What is written meanwhile is kept right on both sides of where it was left.
        table.update("1", |row| row["n"] = json!(100)).unwrap();
        table.update("8", |row| row["n"] = json!(100)).unwrap();
        table.delete("2").unwrap();
        assert_eq!(table.check_indexes().unwrap(), []);
        assert!(table.query().eq("n", 100).explain().unwrap().scans_table());
        db.id()
    };
    let db = node_over(&backend, 1).database_by_id(id);
    let table = db.table::<Json>("t");
    let mut rows = 0;
    assert!(
        db.build_pending_indexes(|progress| {
            rows = progress.rows;
            true
        })
        .unwrap()
    );
    assert_eq!(rows, 4, "the first six rows are not gone through again");
    assert_eq!(table.indexes().unwrap()[0].state, IndexState::Ready);
    assert_eq!(table.query().eq("n", 100).page().unwrap().looked.rows, 2);
    assert_eq!(table.check_indexes().unwrap(), []);

    // Nobody wants it any more, and dropping is interrupted.
    table.drop_index("n").unwrap();
    assert_eq!(table.indexes().unwrap(), []);
    table.create_index("n").unwrap();
    assert!(!table.drop_index_telling("n", |_| false).unwrap());
    assert_eq!(table.indexes().unwrap()[0].state, IndexState::Dropping);
    table.update("0", |row| row["n"] = json!(5)).unwrap();
    table.update("9", |row| row["n"] = json!(5)).unwrap();
    assert_eq!(table.check_indexes().unwrap(), []);
    assert!(table.query().eq("n", 5).explain().unwrap().scans_table());
    // And wanted again.
    table.create_index("n").unwrap();
    assert_eq!(table.check_indexes().unwrap(), []);
    assert_eq!(table.query().eq("n", 5).page().unwrap().looked.rows, 3);
}

/// Works on the rows of the view of a table, as damage would.
fn damage(table: &RawTable, work: impl Fn(&mut dyn eid_store::ViewRows)) {
    let store = eid_core::StoreName::new("t").unwrap();
    let mut work = |view: &mut dyn eid_store::ViewRows| {
        work(view);
        Ok(())
    };
    table.db.maintain(&store, crate::kind::table::KIND, &mut work).unwrap();
}

#[test]
fn definitions_of_indexes_that_do_not_decode_stop_nobody_and_their_rows_are_not_adopted() {
    let table = database().table::<Json>("t");
    table.create_index("n").unwrap();
    for n in 0..10 {
        table.insert_as(&n.to_string(), &json!({"n": n})).unwrap();
    }
    damage(&table, |view| view.put(DEFINITIONS, bytes::Bytes::from_static(b"damaged")));
    assert_eq!(keys(table.query().eq("n", 3)), "3");
    assert!(matches!(table.check_indexes(), Err(DbError::Corrupt { .. })));
    table.update("3", |row| row["n"] = json!(4)).unwrap();
    table.delete("5").unwrap();
    assert_eq!(keys(table.query().eq("n", 4)), "34");
    assert_eq!(table.indexes().unwrap()[0].state, IndexState::Pending);
    table.create_index("n").unwrap();
    assert_eq!(table.check_indexes().unwrap(), []);
    assert_eq!(keys(table.query().eq("n", 4)), "34");
    assert_eq!(table.query().eq("n", 3).page().unwrap().looked.index_rows, 0);
}

#[test]
fn dropping_and_creating_an_index_mends_it() {
    let table = database().table::<Json>("t");
    for n in 0..10 {
        table.insert_as(&n.to_string(), &json!({"n": n})).unwrap();
    }
    table.create_index("n").unwrap();
    damage(&table, |view| {
        let stray =
            |n: usize| [&[LOCAL_ROWS.start + 1, 0, 0, 0, 0, 3][..], b"x\0\x01", &[b'a' + n as u8]].concat();
        (0..INDEX_STEP_ROWS * 2 + 1).for_each(|n| view.put(&stray(n), bytes::Bytes::new()));
    });
    assert_eq!(table.check_indexes().unwrap(), [Path::from("n")]);
    table.drop_index("n").unwrap();
    let rows =
        |view: &mut dyn eid_store::ViewRows| view.scan(&[LOCAL_ROWS.start], &[LOCAL_ROWS.end]).unwrap().len();
    damage(&table, |view| assert_eq!(rows(view), 0, "nothing is left of it"));
    table.create_index("n").unwrap();
    assert_eq!(table.check_indexes().unwrap(), []);
}

#[test]
fn what_nobody_wants_makes_room_and_own_wishes_come_first() {
    let db = database();
    let table = db.table::<Json>("t");
    table.insert_as("k", &json!({})).unwrap();
    table.create_index("z").unwrap();
    damage(&table, |view| view.delete(DEFINITIONS));
    for n in 0..INDEXES_MAX {
        db.registry().declare_index("t", &format!("d{n:03}")).unwrap();
    }
    let state = |field: &str| {
        let indexes = table.indexes().unwrap();
        indexes.iter().find(|index| index.field == Path::from(field)).map(|index| index.state)
    };
    db.build_pending_indexes(|_| true).unwrap();
    assert_eq!(state("z"), Some(IndexState::Ready));
    let last = format!("d{:03}", INDEXES_MAX - 1);
    assert_eq!((state("d000"), state(&last)), (Some(IndexState::Ready), Some(IndexState::Pending)));
    db.registry().undeclare_index("t", "d000").unwrap();
    db.build_pending_indexes(|_| true).unwrap();
    assert_eq!((state("d000"), state(&last)), (None, Some(IndexState::Ready)));
}

#[test]
fn an_index_reads_no_more_of_a_text_than_it_keeps_and_no_field_that_is_not_written() {
    let backend = Arc::new(Counting::new(Memory::new()));
    let over: Arc<dyn Backend> = backend.clone();
    let db = node_over(&over, 1).create_database("t").unwrap().database;
    let table = db.table::<Json>("t");
    table.insert_as("k", &json!({"n": 0, "body": ""})).unwrap();
    let body = table.text_field("k", "body").unwrap();
    body.insert(0, &"some text ".repeat(20_000)).unwrap();
    let spent = |work: &dyn Fn()| {
        let before = backend.counts();
        work();
        (backend.counts() - before).rows_read
    };
    let insert = || body.insert(150_000, "more").unwrap();
    let count = || table.counter("k", "n").add(1).unwrap();
    insert();
    let (inserted, counted) = (spent(&insert), spent(&count));
    table.create_index("body").unwrap();
    insert();
    let (with_index, apart) = (spent(&insert), spent(&count));
    assert!(with_index <= inserted + 8, "{with_index} {inserted}");
    assert!(apart <= counted + 1, "{apart} {counted}");
    body.insert(0, "first ").unwrap();
    assert_eq!(table.check_indexes().unwrap(), []);
    assert_eq!(keys(table.query().prefix("body", "first some")), "k");
}

#[test]
fn an_index_that_this_device_comes_to_want_while_others_are_dropped_stays() {
    let db = database();
    let table = db.table::<Json>("t");
    table.insert_as("k", &json!({"x": 1, "y": 2})).unwrap();
    for field in ["x", "y"] {
        db.registry().declare_index("t", field).unwrap();
    }
    db.build_pending_indexes(|_| true).unwrap();
    for field in ["x", "y"] {
        db.registry().undeclare_index("t", field).unwrap();
    }
    let mut fields = Vec::new();
    db.build_pending_indexes(|progress| {
        if progress.field == Path::from("x") {
            table.create_index("y").unwrap();
        }
        fields.push(progress.field.clone());
        true
    })
    .unwrap();
    assert_eq!(fields.first(), Some(&Path::from("x")));
    assert_eq!(table.indexes().unwrap(), [IndexInfo { field: Path::from("y"), state: IndexState::Ready }]);
    assert_eq!(table.query().eq("y", 2).page().unwrap().looked.index_rows, 1);
}

#[test]
fn a_field_that_gives_way_to_later_ones_is_in_no_index() {
    let (a, b) = two();
    let table = |db: &Database| db.table::<Json>("t");
    table(&a).insert_as("k", &json!({"x": 1})).unwrap();
    exchange(&a, &b);
    table(&a).create_index("x").unwrap();
    let add = |db: &Database, name: &str| {
        let fields = (0..600).map(|n| (format!("{name}{n:03}"), json!(n)));
        let fields: Vec<_> = fields.collect();
        table(db).update("k", |row| row.as_object_mut().unwrap().extend(fields)).unwrap();
    };
    add(&a, "a");
    add(&b, "b");
    assert_eq!(table(&a).query().eq("x", 1).keys().unwrap(), ["k"]);
    exchange(&a, &b);
    assert_eq!(table(&a).get("k").unwrap().unwrap().get("x"), None);
    assert_eq!(table(&a).query().eq("x", 1).keys().unwrap(), Vec::<String>::new());
    assert_eq!(table(&a).check_indexes().unwrap(), []);
}

#[test]
fn declared_indexes_are_built_on_every_replica_that_is_asked_to() {
    let (a, b) = two();
    let (here, there) = (a.table::<Json>("t"), b.table::<Json>("t"));
    here.insert_as("k", &json!({"n": {"m": 1}})).unwrap();
    a.registry().declare_index("t", "n.m").unwrap();
    exchange(&a, &b);
    assert_eq!(there.indexes().unwrap()[0].state, IndexState::Pending);
    for db in [&a, &b] {
        assert!(db.build_pending_indexes(|_| true).unwrap());
    }
    assert_eq!(there.indexes().unwrap()[0].field, Path::from(["n", "m"]));
    assert_eq!(there.query().eq(["n", "m"], 1).page().unwrap().looked.index_rows, 1);
    // What arrives is indexed as what is written here.
    here.insert_as("l", &json!({"n": {"m": 1}})).unwrap();
    here.delete("k").unwrap();
    exchange(&a, &b);
    assert_eq!(there.query().eq(["n", "m"], 1).keys().unwrap(), ["l"]);
    assert_eq!(there.check_indexes().unwrap(), []);
    a.registry().undeclare_index("t", "n.m").unwrap();
    exchange(&a, &b);
    b.build_pending_indexes(|_| true).unwrap();
    assert_eq!(there.indexes().unwrap(), []);
}

#[test]
fn a_check_of_the_store_is_content_with_indexes_and_after_a_repair_they_are_built_again() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let db = node_over(&backend, 1).create_database("t").unwrap().database;
    let table = db.table::<Json>("t");
    for n in 0..10 {
        table.insert_as(&n.to_string(), &json!({"n": n})).unwrap();
    }
    table.create_index("n").unwrap();
    table.create_index_telling("other", |_| false).unwrap();
    let check = |repair| db.instance().store().fsck(repair, &mut |_, _| {}).unwrap();
    assert_eq!(check(true).problems, []);
    assert_eq!(table.query().eq("n", 3).page().unwrap().looked.index_rows, 1);
    // A row of the view is lost.
    let view = eid_store::Scan::prefix(&[0x17]);
    let rows = backend.snapshot().unwrap().scan_many(&[view]).unwrap().remove(0);
    let (lost, _) = rows.into_iter().find(|(key, _)| key.ends_with(b"\x013")).unwrap();
    backend.commit(eid_store::Batch { deletes: vec![lost], ..Default::default() }).unwrap();
    assert_eq!(table.check_indexes().unwrap(), [Path::from("n")]);
    assert_eq!(check(true).repaired, 1);
    assert_eq!(table.check_indexes().unwrap(), []);
    assert_eq!(keys(table.query().eq("n", 3)), "3");
    let state =
        |table: &RawTable| table.indexes().unwrap().iter().map(|index| index.state).collect::<Vec<_>>();
    assert_eq!(state(&table), [IndexState::Pending; 2]);
    db.build_pending_indexes(|_| true).unwrap();
    assert_eq!(state(&table), [IndexState::Ready; 2]);
    assert_eq!(table.query().eq("n", 3).page().unwrap().looked.index_rows, 1);
}

#[test]
fn a_forgotten_database_leaves_no_wish_for_an_index() {
    let (a, b) = two();
    let table = b.table::<Json>("t");
    table.create_index("n").unwrap();
    b.instance().forget(&b.id()).unwrap();
    assert!(matches!(table.create_index("n"), Err(DbError::NotHere)));
    b.instance().forget(&b.id()).unwrap();
    copy(&a, b.instance());
    assert_eq!(table.indexes().unwrap(), []);
    for n in 0..INDEXES_MAX {
        table.create_index(format!("f{n}")).unwrap();
    }
    assert!(matches!(table.create_index("more"), Err(DbError::TooManyIndexes)));
    assert!(matches!(table.create_index(Path::root()), Err(DbError::Path)));
}

#[test]
fn a_transaction_finds_what_it_has_written() {
    let table = airports();
    table.create_index("city").unwrap();
    let found = table.db.write(|tx| {
        let staged = tx.table::<Json>("airports");
        staged.insert_as("g", &json!({"city": "Bern"}))?;
        staged.delete("a")?;
        staged.update("b", |row| row["city"] = json!("Bern"))?;
        let query = table.query().eq("city", "Bern");
        Ok(staged.find(&query)?.into_iter().map(|(key, _)| key).collect::<Vec<_>>().concat())
    });
    assert_eq!(found.unwrap(), "bcg");
    assert_eq!(keys(table.query().eq("city", "Bern")), "bcg");
}

// ---- against the naive answer

fn any_scalar() -> impl Strategy<Value = Value> {
    let long = "x".repeat(300);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        (-4i32..4).prop_map(|n| Value::from(f64::from(n) / 2.0)),
        "[ab]{0,2}".prop_map(Value::from),
        "[ab]{1}".prop_map(move |end| Value::from(long.clone() + &end)),
        Just(Value::from(vec![1u8])),
        Just(Value::List(vec![Value::from(1)])),
        Just(Value::List(Vec::new())),
    ]
}

fn any_path() -> impl Strategy<Value = Path> {
    prop_oneof![
        Just(Path::from("a")),
        Just(Path::from("b")),
        Just(Path::from(["m", "x"])),
        Just(Path::from("none"))
    ]
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let comparison = prop_oneof![
        Just(Comparison::Eq),
        Just(Comparison::Ne),
        Just(Comparison::Lt),
        Just(Comparison::Le),
        Just(Comparison::Gt),
        Just(Comparison::Ge)
    ];
    let leaf = prop_oneof![
        5 => (any_path(), comparison, any_scalar()).prop_map(|(path, how, value)| Filter::Compare(path, how, value)),
        1 => (any_path(), proptest::collection::vec(any_scalar(), 0..4)).prop_map(|(path, of)| Filter::In(path, of)),
        1 => (any_path(), "[ab]{0,2}").prop_map(|(path, prefix)| Filter::Prefix(path, prefix)),
        1 => (any_path(), "[ab*?]{0,3}").prop_map(|(path, pattern)| Filter::Like(path, pattern)),
        1 => any_path().prop_map(Filter::IsNull),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::All),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::Any),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

#[derive(Debug, Clone)]
pub(super) struct Ask {
    filter: Filter,
    order: Vec<(Path, bool)>,
    keys_descending: bool,
    pub(super) limit: Option<usize>,
    keys: Option<(u8, u8)>,
}

pub(super) fn any_ask() -> impl Strategy<Value = Ask> {
    (
        prop_oneof![3 => any_filter(), 1 => Just(Filter::everything())],
        proptest::collection::vec((any_path(), any::<bool>()), 0..3),
        any::<bool>(),
        proptest::option::of(0usize..6),
        proptest::option::weighted(0.2, (0u8..12, 0u8..12)),
    )
        .prop_map(|(filter, order, keys_descending, limit, keys)| Ask {
            filter,
            order,
            keys_descending,
            limit,
            keys,
        })
}

impl Ask {
    pub(super) fn query(&self, table: &RawTable) -> Query<Json> {
        let mut query = table.query().matching(self.filter.clone());
        for (path, down) in &self.order {
            query = if *down { query.order_desc(path) } else { query.order(path) };
        }
        if self.keys_descending {
            query = query.order_key_desc();
        }
        if let Some((from, to)) = &self.keys {
            query = query.key_range((Bound::Included(&row_name(*from)), Bound::Excluded(&row_name(*to))));
        }
        query
    }

    /// Looks at every row.
    fn naive(&self, rows: &[(String, crate::kind::table::Fields)]) -> Vec<String> {
        let mut found: Vec<_> = rows
            .iter()
            .filter(|(_, fields)| self.filter.holds(fields))
            .filter(|(key, _)| {
                self.keys.is_none_or(|(from, to)| *key >= row_name(from) && *key < row_name(to))
            })
            .collect();
        found.sort_by(|(key, fields), (other_key, other)| {
            let value = |fields: &crate::kind::table::Fields, path: &Path| {
                let mut at = Value::Map(fields.clone());
                for key in path.keys() {
                    at = match at {
                        Value::Map(mut items) => items.remove(key).unwrap_or_default(),
                        _ => Value::Null,
                    };
                }
                at
            };
            let mut order = std::cmp::Ordering::Equal;
            let mut keys_down = false;
            for (path, down) in &self.order {
                let by = value(fields, path).sort_order(&value(other, path));
                order = order.then(if *down { by.reverse() } else { by });
                keys_down = *down;
            }
            let by = key.cmp(other_key);
            order.then(if keys_down || self.keys_descending { by.reverse() } else { by })
        });
        found.into_iter().map(|(key, _)| key.clone()).collect()
    }

    fn check(&self, table: &RawTable, rows: &[(String, crate::kind::table::Fields)]) {
        let expected = self.naive(rows);
        let query = self.query(table);
        let plan = query.explain().unwrap();
        assert_eq!(query.keys().unwrap(), expected, "{plan}");
        assert_eq!(query.count().unwrap(), expected.len(), "{plan}");
        let Some(limit) = self.limit else { return };
        let query = query.limit(limit);
        let plan = query.explain().unwrap();
        let first = &expected[..limit.min(expected.len())];
        assert_eq!(query.keys().unwrap(), first, "{plan}");
        assert_eq!(query.count().unwrap(), first.len(), "{plan}");
        if limit == 0 {
            return;
        }
        let mut paged = Vec::new();
        let mut page = query.page().unwrap();
        loop {
            paged.extend(page.rows.into_iter().map(|(key, _)| key));
            let Some(next) = page.next else { break };
            page = query.clone().page_after(&next).page().unwrap();
        }
        assert_eq!(paged, expected, "{plan}");
    }
}

pub(super) fn row_name(row: u8) -> String {
    format!("row {row:02}")
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Insert(u8, Vec<(u8, Value)>),
    Update(u8, u8, Value),
    Delete(u8),
    CreateIndex(Path, Option<usize>),
    DropIndex(Path, Option<usize>),
    /// Takes over what the other replica has.
    Pull,
}

pub(super) fn any_step() -> impl Strategy<Value = (bool, Step)> {
    let row = || 0u8..12;
    let field = || 0u8..3;
    let step = prop_oneof![
        6 => (row(), proptest::collection::vec((field(), any_scalar()), 0..4)).prop_map(|(row, fields)| Step::Insert(row, fields)),
        3 => (row(), field(), any_scalar()).prop_map(|(row, field, value)| Step::Update(row, field, value)),
        1 => row().prop_map(Step::Delete),
        2 => (any_path(), proptest::option::of(1usize..4)).prop_map(|(path, steps)| Step::CreateIndex(path, steps)),
        1 => (any_path(), proptest::option::of(1usize..3)).prop_map(|(path, steps)| Step::DropIndex(path, steps)),
        2 => Just(Step::Pull),
    ];
    (any::<bool>(), step)
}

fn set(fields: &mut crate::kind::table::Fields, field: u8, value: Value) {
    match field {
        0 => drop(fields.insert("a".to_owned(), value)),
        1 => drop(fields.insert("b".to_owned(), value)),
        _ => drop(fields.insert("m".to_owned(), Value::Map([("x".to_owned(), value)].into()))),
    }
}

pub(super) fn run(db: &Database, other: &Database, step: &Step) {
    use crate::kind::table::{encode_delete, encode_insert, encode_update};
    let table = db.table::<Json>("t");
    // Bytes are no JSON, so operations are staged.
    let stage = |op| {
        db.prepare_blind(|tx| tx.stage("t", "table", op)).unwrap().1.commit().unwrap();
    };
    match step.clone() {
        Step::Insert(row, values) => {
            let mut fields = crate::kind::table::Fields::new();
            values.into_iter().for_each(|(field, value)| set(&mut fields, field, value));
            stage(encode_insert(&row_name(row), &fields));
        }
        Step::Update(row, field, value) => {
            let mut fields = crate::kind::table::Fields::new();
            set(&mut fields, field, value);
            stage(encode_update(&row_name(row), &fields, &["none".to_owned()].into()));
        }
        Step::Delete(row) => stage(encode_delete(&row_name(row))),
        Step::CreateIndex(path, steps) => {
            let mut left = steps.unwrap_or(usize::MAX);
            let go_on = |_: &crate::IndexProgress| {
                left -= 1;
                left > 0
            };
            table.create_index_telling(path, go_on).map(drop).unwrap();
        }
        Step::DropIndex(path, steps) => {
            let mut left = steps.unwrap_or(usize::MAX);
            let go_on = |_: &crate::IndexProgress| {
                left -= 1;
                left > 0
            };
            table.drop_index_telling(path, go_on).map(drop).unwrap();
        }
        Step::Pull => drop(copy(other, db.instance())),
    }
}

pub(super) fn all_rows(db: &Database) -> Vec<(String, crate::kind::table::Fields)> {
    use crate::kind::table::{ALL, Flow, scan};
    let mut rows = Vec::new();
    db.table::<Json>("t")
        .read(|view| {
            scan(view, ALL, eid_store::Direction::Forward, usize::MAX, &mut |key, fields| {
                rows.push((key, fields));
                Ok(Flow::Continue)
            })
        })
        .unwrap();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Building and dropping stop in the middle, entries arrive from elsewhere and make forks.
    #[test]
    fn index_rows_are_those_that_the_rows_give_and_queries_answer_as_if_there_were_none(
        steps in proptest::collection::vec(any_step(), 1..40),
        asks in proptest::collection::vec(any_ask(), 1..12),
        at_end in proptest::collection::vec(any_path(), 0..3),
    ) {
        let (a, b) = two();
        for (n, (first, step)) in steps.iter().enumerate() {
            let (db, other) = if *first { (&a, &b) } else { (&b, &a) };
            run(db, other, step);
            prop_assert_eq!(db.table::<Json>("t").check_indexes().unwrap(), []);
            if n % 8 == 7 {
                let rows = all_rows(db);
                asks[0].check(&db.table("t"), &rows);
            }
        }
        for path in &at_end {
            a.table::<Json>("t").create_index(path).unwrap();
        }
        exchange(&a, &b);
        for db in [&a, &b] {
            let (table, rows) = (db.table::<Json>("t"), all_rows(db));
            prop_assert_eq!(table.check_indexes().unwrap(), []);
            for ask in &asks {
                ask.check(&table, &rows);
            }
        }
    }

    #[test]
    fn what_is_shown_of_a_filter_parses_back(filter in any_filter()) {
        let text = filter.to_string();
        let parsed = text.parse::<Filter>();
        // Bytes within lists are shown as the numbers that JSON has for them.
        prop_assert_eq!(parsed, Ok(filter), "{}", text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,20}", words in proptest::collection::vec(
        prop_oneof![Just("a"), Just("and"), Just("or"), Just("not"), Just("("), Just(")"), Just("="), Just("'"), Just("in"),
            Just("`"), Just("\""), Just("is"), Just("null"), Just("x'"), Just("["), Just(","), Just("~"), Just("between")], 0..12)) {
        let texts = [text, words.join(" "), words.concat()];
        for text in &texts {
            if let Ok(filter) = text.parse::<Filter>() {
                let shown = filter.to_string();
                prop_assert_eq!(shown.parse::<Filter>(), Ok(filter), "{}", shown);
            }
        }
    }
}

#[test]
fn a_page_of_another_table_with_the_same_order_is_a_place_there() {
    let table = node(3).create_database("x").unwrap().database.table::<Json>("t");
    table.insert_as("k", &json!({"n": 1})).unwrap();
    table.insert_as("l", &json!({"n": 1})).unwrap();
    let page = table.query().order("n").limit(1).page().unwrap();
    let other = airports();
    assert_eq!(other.query().order("n").page_after(&page.next.unwrap()).count().unwrap(), 0);
}
