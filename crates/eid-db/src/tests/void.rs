//! What entries of removed authors leave behind: nothing, and nothing in anybody's way.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use eid_core::{Entry, EntryId, KeyMode, Permission, Slot};
use eid_store::{Backend, Memory};
use serde_json::{Value as Json, json};

use super::support::{admit, copy, entries, exchange, node, node_over, two};
use crate::{Changes, Cursor, Database, DbError, EntryStanding, Event, Instance, Observed, PasswordCost};
use crate::{RowChange, Since, TextDelta};

const CHEAP: PasswordCost = PasswordCost { memory_kib: 8, passes: 1, lanes: 1 };

pub(super) fn remove(db: &Database, of: &Database) -> EntryId {
    db.revoke(Slot::Key(of.instance().device()), KeyMode::Remove { fence: None }).unwrap().id
}

pub(super) fn last(db: &Database) -> EntryId {
    db.log(1).unwrap()[0].id
}

pub(super) fn fsck(db: &Database) {
    let report = db.instance().store().fsck(false, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, []);
}

/// A third device that may write.
pub(super) fn third(admin: &Database) -> Instance {
    let c = node(3);
    admin.grant(Slot::Key(c.device()), Permission::Write).unwrap();
    c
}

/// The database with everything but some entries, on another device.
fn without(db: &Database, to: &Instance, left_out: &[EntryId]) -> Database {
    let all = entries(db);
    let some: Vec<&Entry> = all.iter().filter(|entry| !left_out.contains(&entry.id())).collect();
    admit(to, db.id(), &some);
    to.database_by_id(db.id())
}

#[test]
fn insertions_of_a_void_entry_vanish_deletions_come_back_and_edits_on_them_stay() {
    let (a, b) = two();
    let c = third(&a);
    a.text("t").insert(0, "one two").unwrap();
    a.doc("d").set("l", json!([1, 2])).unwrap();
    exchange(&a, &b);
    b.write(|tx| {
        tx.text("t").replace(0..3, "SPAM")?;
        tx.doc("d").list("l").insert(1, "spam")?;
        tx.doc("d").list("l").delete(0)
    })
    .unwrap();
    // Somebody who does not know yet writes into what is going to be void.
    let c = copy(&b, &c);
    c.write(|tx| {
        tx.text("t").insert(2, "-good-")?;
        tx.doc("d").list("l").insert(1, "good")
    })
    .unwrap();
    remove(&a, &b);
    let shown = |db: &Database| (db.text("t").read().unwrap(), db.doc("d").to_json().unwrap());
    let late = copy(&c, &node(4));
    assert_eq!(shown(&late), ("SP-good-AM two".to_owned(), json!({"l": ["spam", "good", 2]})));
    copy(&a, late.instance());
    let early = copy(&a, &node(5));
    copy(&c, early.instance());
    assert_eq!(shown(&early).1, json!({"l": [1, "good", 2]}));
    assert!(["-good-one two", "one-good- two"].contains(&shown(&early).0.as_str()), "{:?}", shown(&early));
    for db in [&late, &early] {
        assert_eq!(shown(db), shown(&early));
        assert_eq!((db.void_count().unwrap(), db.is_stale().unwrap()), (1, false));
        fsck(db);
    }
    assert_eq!(late.state_hash().unwrap(), early.state_hash().unwrap());
    // Who knew only of the void entry goes on in it.
    c.text("t").insert(1, "?").unwrap();
    c.doc("d").list("l").set(1, "better").unwrap();
    copy(&c, late.instance());
    copy(&c, early.instance());
    assert_eq!(shown(&late).1, json!({"l": [1, "better", 2]}));
    assert!(shown(&late).0.contains('?'), "{:?}", shown(&late));
    assert_eq!(shown(&late), shown(&early));
    fsck(&late);
}

#[test]
fn only_what_counts_is_in_rows_and_in_what_finds_them() {
    let (a, b) = two();
    let table = a.table::<Json>("t");
    table.create_index("by").unwrap();
    table.insert_as("k", &json!({"by": "a", "n": 1})).unwrap();
    exchange(&a, &b);
    b.write(|tx| {
        tx.table::<Json>("t").update("k", |row| row["by"] = json!("b"))?;
        tx.table::<Json>("t").insert_as("l", &json!({"by": "b"}))?;
        tx.doc("d").increment("n", 5)
    })
    .unwrap();
    let bs = last(&b);
    a.doc("d").increment("n", 1).unwrap();
    remove(&a, &b);
    let c = copy(&b, &node(3));
    let found = |db: &Database, by: &str| {
        let found = db.table::<Json>("t").query().eq("by", by);
        assert!(format!("{:?}", found.explain().unwrap()).contains("by"));
        assert_eq!(db.table::<Json>("t").check_indexes().unwrap(), []);
        found.keys().unwrap()
    };
    let mut live = table.query().watch().unwrap();
    assert_eq!(live.initial().len(), 1);
    // Where it comes after the removal nobody ever sees it.
    copy(&b, a.instance());
    assert_eq!((found(&a, "a"), found(&a, "b")), (vec!["k".to_owned()], vec![]));
    assert!(live.next_ready().unwrap().is_none());
    assert_eq!(a.doc("d").get_as::<i64>("n").unwrap(), Some(1));
    // Elsewhere it counted, and then no longer.
    c.table::<Json>("t").create_index("by").unwrap();
    let mut other = c.table::<Json>("t").query().watch().unwrap();
    assert_eq!((other.initial().len(), found(&c, "b")), (2, vec!["k".to_owned(), "l".to_owned()]));
    copy(&a, c.instance());
    assert_eq!((found(&c, "a"), found(&c, "b")), (vec!["k".to_owned()], vec![]));
    let changes = other.next_ready().unwrap().unwrap().changes;
    assert!(
        matches!(&changes[..], [RowChange::Removed { .. }, RowChange::Changed { key, .. }] if key == "k")
    );
    // It is accepted: everything follows.
    a.accept(&[bs]).unwrap();
    assert_eq!((found(&a, "a"), found(&a, "b")), (vec![], vec!["k".to_owned(), "l".to_owned()]));
    let changes = live.next_ready().unwrap().unwrap().changes;
    assert!(matches!(&changes[..], [RowChange::Changed { key, .. }, RowChange::Added { .. }] if key == "k"));
    assert_eq!(a.doc("d").get_as::<i64>("n").unwrap(), Some(6));
    fsck(&a);
    fsck(&c);
}

/// What a reader is told: an entry, `-` when it is void; or that some are void (`!`) or count (`+`).
fn told(changes: &mut Changes) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(event) = changes.next_ready().unwrap() {
        let named = |sign: &str, ids: Vec<EntryId>| {
            ids.iter().map(|id| format!("{sign}{}", id.short())).collect::<Vec<_>>().join(" ")
        };
        let ids = |what: &crate::Restanding| what.entries.iter().map(|(id, _)| *id).collect();
        told.push(match &event {
            Event::Change(change) => named(if change.void { "-" } else { "" }, vec![change.entry]),
            Event::EntriesVoided(what) => {
                assert!(what.entries.iter().all(|(_, standing)| !standing.counts()));
                named("!", ids(what))
            }
            Event::EntriesRestored(what) => named("+", ids(what)),
        });
        // A place goes on as text.
        let place: Cursor = changes.cursor().to_string().parse().unwrap();
        assert_eq!(place, changes.cursor());
    }
    told
}

#[test]
fn who_follows_changes_is_told_what_counts_no_longer_and_what_does_again() {
    let (a, b) = two();
    a.doc("d").set("x", 1).unwrap();
    exchange(&a, &b);
    let mut changes = b.changes(Since::Now).unwrap();
    let old: Cursor = changes.cursor().to_string().parse().unwrap();
    b.doc("d").set("x", 2).unwrap();
    let first = last(&b);
    let removal = remove(&a, &b);
    // The third device sees one of them before the removal, and one after.
    let c = copy(&b, &third(&a));
    let mut elsewhere = c.changes(Since::Now).unwrap();
    let mut mail = c.consumer_since("mail", Since::Now).unwrap();
    b.doc("d").set("y", 3).unwrap();
    let second = last(&b);
    let (one, two, removed) = (first.short(), second.short(), removal.short());
    assert_eq!(told(&mut changes), [one.to_string(), two.to_string()]);
    let (tell, hook) = channel();
    let _watch = c.on_remote_write(move |notice| tell.send(notice.clone()).unwrap()).unwrap();
    admit(c.instance(), c.id(), &entries(&a).iter().collect::<Vec<_>>());
    // Batches that come while nobody has fetched the last notice are told of together.
    while !hook.recv_timeout(Duration::from_secs(60)).unwrap().standing {}
    copy(&b, c.instance());
    let granted = last(&a).short();
    let expected = [format!("!{one}"), removed.to_string(), granted.to_string(), format!("-{two}")];
    assert_eq!(told(&mut elsewhere), expected);
    // A consumer that stops in between repeats nothing and loses nothing.
    assert!(matches!(mail.next_ready().unwrap(), Some(Event::EntriesVoided(_))));
    mail.ack().unwrap();
    assert_eq!(told(&mut c.consumer("mail").unwrap()), expected[1..]);
    // What a place of before says nothing of is told all the same.
    copy(&a, b.instance());
    let mut again = b.changes(Since::Cursor(old)).unwrap();
    assert_eq!(told(&mut again)[..2], [format!("-{one}"), format!("-{two}")]);
    assert_eq!(told(&mut changes)[0], format!("!{one} !{two}"));
    assert_eq!(told(&mut b.changes(Since::Beginning).unwrap()).len() as u64, b.entries().unwrap());
    exchange(&a, &b);
    copy(&a, c.instance());
    told(&mut elsewhere);
    a.accept(&[second]).unwrap();
    copy(&a, c.instance());
    assert_eq!(told(&mut elsewhere)[0], format!("+{two}"));
    assert!(c.change_of(first).unwrap().void && !c.change_of(second).unwrap().void);
    assert!(matches!(c.change_of(EntryId([7; 32])), Err(DbError::UnknownEntry { .. })));
}

#[test]
fn an_observer_of_a_text_reads_again_and_is_told_nothing_of_what_is_void_when_it_comes() {
    let (a, b) = two();
    a.text("t").insert(0, "one").unwrap();
    exchange(&a, &b);
    b.text("t").insert(3, " two").unwrap();
    let c = copy(&b, &third(&a));
    let mut observer = c.text("t").observe().unwrap();
    b.text("t").insert(0, "zero ").unwrap();
    let void = last(&b);
    remove(&a, &b);
    copy(&a, c.instance());
    assert_eq!(observer.next_ready().unwrap(), Some(Observed::Reread));
    assert_eq!(observer.text().unwrap(), "one");
    copy(&b, c.instance());
    assert_eq!(observer.next_ready().unwrap(), None);
    c.text("t").insert(3, "!").unwrap();
    let Some(Observed::Edited(change)) = observer.next_ready().unwrap() else { panic!("it was edited") };
    assert_eq!(change.deltas, [TextDelta::Insert { at: 3, text: "!".to_owned() }]);
    copy(&b, a.instance());
    a.accept(&[void]).unwrap();
    copy(&a, c.instance());
    assert_eq!(observer.next_ready().unwrap(), Some(Observed::Reread));
    assert_eq!(observer.text().unwrap(), c.text("t").read().unwrap());
    assert!(observer.text().unwrap().starts_with("zero one"));
}

#[test]
fn an_unlocked_store_follows_with_its_indexes_and_a_locked_one_when_it_is_unlocked() {
    let (a, b) = two();
    let vault = |db: &Database| db.password_store("vault").with_cost(CHEAP);
    vault(&a).create_of_kind("p", "table").unwrap();
    let rows = |db: &Database| db.table::<Json>("vault");
    rows(&a).create_index("by").unwrap();
    rows(&a).insert_as("k", &json!({"by": "a"})).unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    rows(&b).put("k", &json!({"by": "b"})).unwrap();
    let bs = last(&b);
    let (c, d) = (copy(&b, &third(&a)), copy(&b, &node(6)));
    vault(&c).unlock("p").unwrap();
    rows(&c).create_index("by").unwrap();
    let mut live = rows(&c).query().watch().unwrap();
    assert_eq!(live.initial()[0].1, json!({"by": "b"}));
    remove(&a, &b);
    let before = c.snapshot().unwrap();
    let by = |db: &Database, by: &str| {
        assert_eq!(rows(db).check_indexes().unwrap(), []);
        rows(db).query().eq("by", by).keys().unwrap()
    };
    copy(&a, c.instance());
    assert_eq!(rows(&c).get("k").unwrap(), Some(json!({"by": "a"})));
    assert_eq!((by(&c, "a"), by(&c, "b")), (vec!["k".to_owned()], vec![]));
    assert_eq!(rows(&c).indexes().unwrap().len(), 1);
    assert!(matches!(&live.next_ready().unwrap().unwrap().changes[..], [RowChange::Changed { .. }]));
    // Whoever began to read before reads what was then.
    let name = crate::transaction::store_name("vault").unwrap();
    let then = c.rows_in(&before, &name, "table").unwrap();
    assert_eq!(crate::kind::table::get(then.rows(), "k").unwrap().unwrap()["by"], "b".into());
    assert_eq!(rows(&c).get("k").unwrap(), Some(json!({"by": "a"})));
    copy(&a, d.instance());
    vault(&d).unlock("p").unwrap();
    assert_eq!(rows(&d).get("k").unwrap(), Some(json!({"by": "a"})));
    assert_eq!(c.state_hash().unwrap(), d.state_hash().unwrap());
    // What does not count is not told apart from what is not there.
    assert_eq!((c.void_count().unwrap(), a.void_count().unwrap()), (1, 0));
    assert_eq!(c.state_hash().unwrap(), a.state_hash().unwrap());
    copy(&b, a.instance());
    assert_eq!(rows(&a).get("k").unwrap(), Some(json!({"by": "a"})));
    a.accept(&[bs]).unwrap();
    copy(&a, c.instance());
    assert_eq!((rows(&c).get("k").unwrap(), by(&c, "b")), (Some(json!({"by": "b"})), vec!["k".to_owned()]));
    // What is at rest is what was worked out anew.
    vault(&c).lock().unwrap();
    vault(&c).unlock("p").unwrap();
    assert_eq!((rows(&c).get("k").unwrap(), by(&c, "b")), (Some(json!({"by": "b"})), vec!["k".to_owned()]));
}

#[test]
fn what_a_void_entry_says_of_stores_has_no_effect() {
    let (a, b) = two();
    exchange(&a, &b);
    b.registry().register("r", "doc").unwrap();
    b.table::<Json>("t").insert_as("k", &json!({"f": 1})).unwrap();
    b.registry().declare_index("t", "f").unwrap();
    b.password_store("vault").with_cost(CHEAP).create("p").unwrap();
    let c = copy(&b, &third(&a));
    assert!(c.password_store("vault").is_encrypted().unwrap());
    assert_eq!(c.registry().indexes("t").unwrap(), ["f"]);
    remove(&a, &b);
    copy(&a, c.instance());
    assert_eq!(c.kind_of("r").unwrap(), None);
    assert_eq!(c.registry().indexes("t").unwrap(), Vec::<String>::new());
    assert!(!c.password_store("vault").is_encrypted().unwrap());
    assert_eq!(c.state_hash().unwrap(), a.state_hash().unwrap());
    c.doc("vault").set("x", 1).unwrap();
    assert_eq!(c.doc("vault").to_json().unwrap(), json!({"x": 1}));
}

#[test]
fn a_store_that_others_have_sealed_is_never_plain_because_its_config_is_void() {
    let (a, b) = two();
    let c = third(&a);
    exchange(&a, &b);
    b.password_store("vault").with_cost(CHEAP).create("p").unwrap();
    let c = copy(&b, &c);
    c.password_store("vault").unlock("p").unwrap().doc().set("pin", 1).unwrap();
    remove(&a, &b);
    let d = copy(&c, &node(4));
    copy(&a, d.instance());
    assert!(matches!(
        d.doc("vault").set("pin", 2),
        Err(DbError::Locked { .. } | DbError::SeveralKinds { .. })
    ));
    copy(&a, c.instance());
    assert_eq!(c.doc("vault").get_as::<i64>("pin").unwrap(), Some(1), "who has the key goes on");
}

#[test]
fn a_store_that_was_opened_here_stays_encrypted_when_its_config_is_void_also_after_a_restart() {
    let (a, b) = two();
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let c = node_over(&backend, 3);
    a.grant(Slot::Key(c.device()), Permission::Write).unwrap();
    exchange(&a, &b);
    let vault = |db: &Database| db.password_store("vault").with_cost(CHEAP);
    vault(&b).create("p").unwrap().doc().set("pin", 1).unwrap();
    let c = copy(&b, &c);
    vault(&c).unlock("p").unwrap();
    let other = copy(&b, &node(6));
    vault(&other).unlock("p").unwrap();
    remove(&a, &b);
    copy(&a, c.instance());
    let is_locked = |db: &Database| {
        assert!(vault(db).is_encrypted().unwrap() && !vault(db).is_unlocked().unwrap());
        assert!(matches!(db.doc("vault").set("pin", 2), Err(DbError::Locked { .. })));
        assert!(matches!(db.doc("vault").get("pin"), Err(DbError::Locked { .. })));
        assert!(matches!(vault(db).unlock("wrong"), Err(DbError::WrongPassword { .. })));
        assert!(matches!(vault(db).create("other"), Err(DbError::AlreadyEncrypted { .. })));
    };
    vault(&c).lock().unwrap();
    is_locked(&c);
    let id = c.id();
    drop(c);
    let c = node_over(&backend, 4).database_by_id(id);
    is_locked(&c);
    assert_eq!(c.state_hash().unwrap(), a.state_hash().unwrap());
    // Who has the password goes on, and makes it count for everybody.
    vault(&c).unlock("p").unwrap();
    assert_eq!(c.doc("vault").get("pin").unwrap(), None);
    c.doc("vault").set("pin", 2).unwrap();
    let listed = |db: &Database| db.registry().list().unwrap().iter().any(|store| store.encrypted);
    assert!(listed(&c));
    vault(&c).change_password("p", "q").unwrap();
    let d = copy(&c, &node(5));
    assert!(listed(&d) && matches!(vault(&d).unlock("p"), Err(DbError::WrongPassword { .. })));
    vault(&d).unlock("q").unwrap();
    assert_eq!(d.doc("vault").get_as::<i64>("pin").unwrap(), Some(2));
    // The password that was changed opens it no longer, also where it did.
    copy(&c, other.instance());
    for db in [&c, &other] {
        vault(db).lock().unwrap();
        assert!(matches!(vault(db).unlock("p"), Err(DbError::WrongPassword { .. })));
        vault(db).unlock("q").unwrap();
    }
    // What was forgotten with the database is not known any more.
    c.instance().forget(&id).unwrap();
    let c = copy(&a, c.instance());
    assert!(!vault(&c).is_encrypted().unwrap());
}

#[test]
fn the_log_marks_what_is_void_nobody_is_blamed_for_it_and_it_is_not_taken_back() {
    let (a, b) = two();
    a.doc("d").set("x", 1).unwrap();
    a.text("t").insert(0, "mine").unwrap();
    exchange(&a, &b);
    b.write(|tx| {
        tx.doc("d").set("x", 2)?;
        tx.text("t").insert(4, " theirs")
    })
    .unwrap();
    let void = last(&b);
    remove(&a, &b);
    exchange(&a, &b);
    for db in [&a, &b] {
        let log = db.log(100).unwrap();
        assert_eq!(log.iter().filter(|entry| entry.void).map(|entry| entry.id).collect::<Vec<_>>(), [void]);
        let blamed = [db.blame("d", "x").unwrap(), db.blame("t", crate::Path::root()).unwrap()].concat();
        assert!(blamed.len() == 2 && blamed.iter().all(|blame| blame.author == a.instance().device()));
        assert!(matches!(db.standing(&void).unwrap(), EntryStanding::Void(_)));
        let error = db.undo(void).unwrap_err();
        assert!(matches!(error, DbError::VoidEntry { id } if id == void), "{error:?}");
    }
    // As it was before anybody knew, it counted.
    let then = a.at(&[void]).unwrap();
    assert_eq!(then.doc("d").get_as::<i64>("x").unwrap(), Some(2));
    assert!(then.log_before(None, 100).unwrap().iter().all(|entry| !entry.void));
}

/// What an honest entry was written over comes back with its undoing only if it counts itself.
#[test]
fn undoing_brings_nothing_back_that_does_not_count() {
    let (a, b) = two();
    let c = third(&a);
    let table = |db: &Database| db.table::<Json>("rows");
    a.write(|tx| {
        tx.doc("d").set("x", 1)?;
        tx.doc("d").set("y", 1)?;
        tx.table::<Json>("rows").insert_as("both", &json!({"mine": 1, "theirs": 1}))
    })
    .unwrap();
    exchange(&a, &b);
    b.write(|tx| {
        tx.doc("d").set("x", 2)?;
        let rows = tx.table::<Json>("rows");
        rows.update("both", |row| row["theirs"] = json!(2))?;
        rows.insert_as("gone", &json!({"theirs": 2}))
    })
    .unwrap();
    let void = last(&b);
    let c = copy(&b, &c);
    let set = |db: &Database| {
        db.write(|tx| {
            tx.doc("d").set("x", 3)?;
            tx.doc("d").set("y", 3)?;
            let rows = tx.table::<Json>("rows");
            rows.update("both", |row| (row["mine"], row["theirs"]) = (json!(3), json!(3)))?;
            rows.delete("gone")
        })
        .unwrap();
        last(db)
    };
    let over = set(&c);
    remove(&a, &b);
    exchange(&a, &c);
    let undone = c.undo(over).unwrap();
    let kept: Vec<_> = undone.kept.iter().map(|kept| (kept.path.to_string(), kept.by)).collect();
    assert_eq!(kept, ["x", "both", "gone"].map(|path| (path.to_owned(), Some(void))));
    assert_eq!(c.doc("d").to_json().unwrap(), json!({"x": 3, "y": 1}));
    assert_eq!(table(&c).get("both").unwrap(), Some(json!({"mine": 1, "theirs": 3})));
    assert_eq!(table(&c).get("gone").unwrap(), None);
    // A row that was deleted comes back with those of its fields that count.
    c.undo(undone.by.unwrap()).unwrap();
    c.table::<Json>("rows").delete("both").unwrap();
    let deleted = last(&c);
    c.undo(deleted).unwrap();
    assert_eq!(table(&c).get("both").unwrap(), Some(json!({"mine": 3, "theirs": 3})));
    exchange(&a, &c);
    assert_eq!(a.state_hash().unwrap(), c.state_hash().unwrap());
}

/// Many entries of one author are told in several events, and a reader may stop between any two.
#[test]
fn many_entries_are_told_in_parts_from_any_place_in_between() {
    let (a, b) = two();
    exchange(&a, &b);
    let count = crate::limits::RESTANDING_IDS_MAX * 2 + 3;
    for n in 0..count {
        b.prepare_blind(|tx| tx.doc("d").set("n", n as i64)).unwrap().1.relaxed().commit().unwrap();
    }
    let mut changes = b.changes(Since::Now).unwrap();
    remove(&a, &b);
    copy(&a, b.instance());
    let (mut seen, mut parts) = (Vec::new(), Vec::new());
    while let Some(Event::EntriesVoided(what)) = changes.next_ready().unwrap() {
        parts.push((what.entries.len(), what.left));
        seen.extend(what.entries.into_iter().map(|(id, _)| id));
        changes = b.changes(Since::Cursor(changes.cursor().to_string().parse().unwrap())).unwrap();
    }
    let max = crate::limits::RESTANDING_IDS_MAX;
    assert_eq!(parts, [(max, max as u64 + 3), (max, 3), (3, 0)]);
    let all: Vec<EntryId> =
        b.void_entries(eid_core::dag::Seq(0), usize::MAX).unwrap().iter().map(|e| e.id).collect();
    assert_eq!(seen, all);
    assert_eq!(without(&b, &node(9), &all).doc("d").to_json().unwrap(), json!({}));
}

/// Pages of a text are cut as it grows, also where what is void was; a check compares what they mean.
#[test]
fn a_long_text_that_void_entries_were_taken_out_of_is_what_its_entries_give() {
    let (a, b) = two();
    a.text("t").insert(0, &"0123456789".repeat(400)).unwrap();
    exchange(&a, &b);
    for n in 0..60 {
        b.text("t").replace(n * 60..n * 60 + 7, "voidvoidvoidvoid").unwrap();
        a.text("t").insert(n * 50, "stay").unwrap();
    }
    let c = copy(&b, &node(4));
    for n in 0..60 {
        a.text("t").insert(n * 45, "more").unwrap();
    }
    remove(&a, &b);
    copy(&a, c.instance());
    let once = copy(&a, &node(5));
    assert_eq!(c.text("t").read().unwrap(), once.text("t").read().unwrap());
    fsck(&once);
    fsck(&c);
}
