use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eid_core::dag::Seq;
use eid_core::{Entry, EntryId, Permission, SettingsOp, Slot};
use eid_crdt::sequence::Anchor;
use eid_store::Memory;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::support::{admit, causal_order, copy, database, entries, env, exchange, node, offer, two};
use crate::kind::sequence::{Edits, Name, Op, OpId, Span};
use crate::kind::text as text_kind;
use crate::stamp::STAGED;
use crate::text::{apply, rope::Rope};
use crate::{
    Database, DbError, EditPolicy, Instance, Observed, Side, TextChanges, TextCursor, TextDelta, TextEdit,
};

#[test]
fn positions_are_scalar_values_and_beyond_the_end_is_an_error() {
    let db = database();
    let text = db.text("t");
    assert_eq!((text.len().unwrap(), text.read().unwrap().as_str()), (0, ""));
    text.insert(0, "a€😀e\u{301}z").unwrap();
    assert_eq!(text.len().unwrap(), 6);
    text.insert(3, "ß").unwrap();
    text.delete(4, 2).unwrap();
    text.replace(0..1, "AB").unwrap();
    assert_eq!(text.read().unwrap(), "AB€😀ßz");
    assert_eq!(text.slice(2..5).unwrap(), "€😀ß");
    let tips = db.tips().unwrap();
    for wrong in [text.insert(7, "x"), text.delete(5, 2), text.delete(1, usize::MAX), text.replace(7..7, "")]
    {
        assert!(matches!(wrong, Err(DbError::Position { len: 6, .. })), "{wrong:?}");
    }
    assert!(matches!(text.slice(5..7), Err(DbError::Position { position: 7, len: 6 })));
    assert!(matches!(text.cursor(7, Side::Left), Err(DbError::Position { position: 7, len: 6 })));
    // What changes nothing writes nothing.
    text.insert(3, "").unwrap();
    text.set("AB€😀ßz").unwrap();
    assert_eq!(db.tips().unwrap(), tips);
    assert_eq!(db.kind_of("t").unwrap().as_deref(), Some("text"));
}

#[test]
fn setting_a_text_edits_only_what_differs() {
    let db = database();
    let text = db.text("t");
    text.set("the quick fox\njumps\nover the dog\n").unwrap();
    let caret = text.cursor(11, Side::Left).unwrap();
    let size = db.bytes().unwrap();
    text.set("the very quick fox\njumps\nover a dog\n").unwrap();
    assert_eq!(text.read().unwrap(), "the very quick fox\njumps\nover a dog\n");
    assert_eq!(text.position(&caret).unwrap(), Some(16));
    assert!(db.bytes().unwrap() - size < 450, "{}", db.bytes().unwrap() - size);
}

#[test]
fn a_transaction_reads_the_text_that_it_has_edited() {
    let db = database();
    db.text("t").insert(0, "hello").unwrap();
    db.write(|tx| {
        tx.text("t").insert(5, " world")?;
        assert_eq!(tx.text("t").read()?, "hello world");
        tx.text("t").delete(0, 1)?;
        tx.text("t").insert(0, "J")?;
        tx.text("t").replace(1..3, "u")?;
        assert_eq!((tx.text("t").slice(0..4)?.as_str(), tx.text("t").len()?), ("Julo", 10));
        tx.text("other").set("too")?;
        assert!(matches!(tx.text("t").insert(11, "x"), Err(DbError::Position { .. })));
        assert_eq!(db.text("t").read()?, "hello");
        Ok(())
    })
    .unwrap();
    assert_eq!(db.text("t").read().unwrap(), "Julo world");
    assert_eq!(db.text("other").read().unwrap(), "too");
    let failed = db.write(|tx| {
        tx.text("t").set("gone")?;
        Err::<(), _>(DbError::abort("no"))
    });
    assert!(failed.is_err());
    assert_eq!(db.text("t").read().unwrap(), "Julo world");
}

#[test]
fn one_keystroke_in_a_long_text_travels_as_one_character() {
    let (a, b) = two();
    let page = "All work and no play makes Jack a dull boy.\n".repeat(2300);
    a.text("t").set(&page).unwrap();
    exchange(&a, &b);
    for (db, at) in [(&b, 50_000), (&b, 50_001), (&a, 99_999), (&b, 7)] {
        let size = db.bytes().unwrap();
        db.text("t").insert(at, "x").unwrap();
        let sent = db.bytes().unwrap() - size;
        assert!(sent < 400, "{sent}");
        let size = db.bytes().unwrap();
        db.text("t").delete(at + 3, 1).unwrap();
        let sent = db.bytes().unwrap() - size;
        assert!(sent < 400, "{sent}");
        exchange(&a, &b);
    }
    assert_eq!(a.text("t").read().unwrap(), b.text("t").read().unwrap());
    assert_eq!(a.text("t").len().unwrap(), page.len());
}

/// Types characters one by one, each an entry.
fn type_at(db: &Database, at: usize, word: &str) {
    for (index, letter) in word.chars().enumerate() {
        db.text("t").insert(at + index, &letter.to_string()).unwrap();
    }
}

#[test]
fn words_that_are_typed_at_one_place_at_once_stay_whole() {
    for (at, start) in [(0, ""), (0, "()"), (1, "()"), (2, "()")] {
        let (a, b) = two();
        a.text("t").set(start).unwrap();
        exchange(&a, &b);
        type_at(&a, at, "alpha");
        // Backwards, each before the one typed last.
        "beta".chars().rev().for_each(|letter| b.text("t").insert(at, &letter.to_string()).unwrap());
        exchange(&a, &b);
        let text = a.text("t").read().unwrap();
        assert_eq!(text, b.text("t").read().unwrap());
        assert!(text.contains("alpha") && text.contains("beta"), "{text}");
        // Each goes on behind the own word, without having seen the other do so.
        let ends = ["alpha", "beta"].map(|word| text.find(word).unwrap() + word.len());
        type_at(&a, ends[0], "bet");
        type_at(&b, ends[1], "tester");
        exchange(&a, &b);
        let text = a.text("t").read().unwrap();
        assert_eq!(text, b.text("t").read().unwrap());
        assert!(text.contains("alphabet") && text.contains("betatester"), "{text}");
    }
}

#[test]
fn a_cursor_stays_with_its_neighbour_on_every_replica() {
    let (a, b) = two();
    a.text("t").set("one three").unwrap();
    exchange(&a, &b);
    let carets: Vec<TextCursor> = [(0, Side::Left), (4, Side::Left), (4, Side::Right), (9, Side::Right)]
        .iter()
        .map(|(at, side)| a.text("t").cursor(*at, *side).unwrap().to_string().parse().unwrap())
        .collect();
    b.text("t").insert(4, "two ").unwrap();
    b.text("t").insert(0, "> ").unwrap();
    let positions =
        |db: &Database| carets.iter().map(|caret| db.text("t").position(caret).unwrap()).collect::<Vec<_>>();
    assert_eq!(positions(&a), [0, 4, 4, 9].map(Some));
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(positions(db), [0, 6, 10, 15].map(Some));
    }
    // Where the neighbour is gone, the place where it was.
    b.text("t").delete(5, 7).unwrap();
    assert_eq!(positions(&b), [0, 5, 5, 8].map(Some));
    // One that names what never came here stands nowhere.
    let later = b.text("t").cursor(1, Side::Left).unwrap();
    b.text("t").insert(1, "!").unwrap();
    let unseen = b.text("t").cursor(2, Side::Left).unwrap();
    assert_eq!(a.text("t").position(&later).unwrap(), Some(1));
    assert_eq!(a.text("t").position(&unseen).unwrap(), None);
}

#[test]
fn writers_of_a_cloned_data_directory_have_one_text() {
    // The same key, the same clock, the same randomness: what a copy of a directory gives.
    let (a, b) = (node(1), node(1));
    assert_eq!(a.device(), b.device());
    let db = a.create_database("shared").unwrap().database;
    db.text("t").set("base").unwrap();
    let there = copy(&db, &b);
    for (db, word) in [(&db, "left"), (&there, "right")] {
        type_at(db, 2, word);
        db.text("t").delete(0, 1).unwrap();
    }
    exchange(&db, &there);
    let text = db.text("t").read().unwrap();
    assert_eq!(text, there.text("t").read().unwrap());
    assert!(text.contains("left") && text.contains("right") && text.len() == 12, "{text}");
    type_at(&there, 12, "!");
    exchange(&db, &there);
    assert_eq!(db.text("t").read().unwrap(), format!("{text}!"));
}

#[derive(Debug, Clone)]
enum Step {
    /// Edits through the handle.
    Write(usize, u8, u8, String),
    /// Edits in the buffer.
    Edit(usize, u8, u8, String),
    Flush(usize),
    Remote(usize),
    Pull(usize, usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = || 0usize..3;
    prop_oneof![
        2 => (who(), any::<u8>(), 0u8..4, "[a-cä]{0,4}").prop_map(|(w, at, n, s)| Step::Write(w, at, n, s)),
        6 => (who(), any::<u8>(), 0u8..4, "[A-CÖ]{0,4}").prop_map(|(w, at, n, s)| Step::Edit(w, at, n, s)),
        3 => who().prop_map(Step::Flush),
        3 => who().prop_map(Step::Remote),
        3 => (who(), who()).prop_map(|(to, from)| Step::Pull(to, from)),
    ]
}

fn three() -> Vec<Database> {
    let nodes: Vec<Instance> = (0..3).map(|n| node(20 + n)).collect();
    let db = nodes[0].create_database("shared").unwrap().database;
    let ops: Vec<SettingsOp> = nodes[1..]
        .iter()
        .map(|node| SettingsOp::Set { slot: Slot::Key(node.device()), permission: Permission::Write })
        .collect();
    db.write_settings(&ops).unwrap();
    nodes.iter().map(|node| copy(&db, node)).collect()
}

/// A program that shows a text: it knows only what it is told.
struct Screen {
    edit: TextEdit,
    shown: Rope,
    changes: TextChanges,
    told: Rope,
}

impl Screen {
    fn new(db: &Database) -> Self {
        let (edit, mut changes) = (db.text("t").edit().unwrap(), db.text("t").observe().unwrap());
        let (shown, told) = (Rope::from(edit.text().as_str()), Rope::from(changes.text().unwrap().as_str()));
        Self { edit, shown, changes, told }
    }

    fn remote(&mut self) {
        for delta in self.edit.remote().unwrap() {
            apply(&mut self.shown, &delta);
        }
    }

    fn observe(&mut self) {
        while let Some(observed) = self.changes.next_ready().unwrap() {
            match observed {
                Observed::Edited(change) => {
                    assert!(!change.deltas.is_empty());
                    change.deltas.iter().for_each(|delta| apply(&mut self.told, delta));
                }
                Observed::Reread => panic!("nothing here calls for reading again"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn handles_buffers_and_observers_agree_on_every_replica(
        steps in proptest::collection::vec(any_step(), 1..40),
        picks in proptest::collection::vec(any::<u16>(), 1..40),
        batch in 1usize..9,
    ) {
        let replicas = three();
        let mut screens: Vec<Screen> = replicas.iter().map(Screen::new).collect();
        for step in &steps {
            match step {
                Step::Write(who, at, count, text) => {
                    let handle = replicas[*who].text("t");
                    let len = handle.len().unwrap();
                    let at = usize::from(*at) % (len + 1);
                    let count = usize::from(*count).min(len - at);
                    handle.replace(at..at + count, text).unwrap();
                }
                Step::Edit(who, at, count, text) => {
                    let Screen { edit, shown, .. } = &mut screens[*who];
                    let at = usize::from(*at) % (edit.len() + 1);
                    let count = usize::from(*count).min(edit.len() - at);
                    edit.replace(at..at + count, text).unwrap();
                    shown.delete(at, count);
                    shown.insert(at, text);
                }
                Step::Flush(who) => {
                    screens[*who].edit.flush().unwrap();
                }
                Step::Remote(who) => {
                    screens[*who].remote();
                    screens[*who].observe();
                }
                Step::Pull(to, from) if to != from => {
                    copy(&replicas[*from], replicas[*to].instance());
                }
                Step::Pull(..) => {}
            }
            for (screen, db) in screens.iter_mut().zip(&replicas) {
                prop_assert_eq!(screen.edit.text(), screen.shown.text());
                let mut clean = db.text("t").edit().unwrap();
                prop_assert_eq!(clean.text(), db.text("t").read().unwrap());
                prop_assert!(clean.flush().unwrap().is_none());
            }
        }
        for screen in &mut screens {
            screen.edit.flush().unwrap();
        }
        for _ in 0..2 {
            for to in &replicas {
                for from in &replicas {
                    if to.instance().device() != from.instance().device() {
                        copy(from, to.instance());
                    }
                }
            }
        }
        let text = replicas[0].text("t").read().unwrap();
        for (screen, db) in screens.iter_mut().zip(&replicas) {
            prop_assert_eq!(&db.text("t").read().unwrap(), &text);
            screen.remote();
            screen.observe();
            prop_assert_eq!(&screen.edit.text(), &text);
            prop_assert_eq!(&screen.shown.text(), &text);
            prop_assert_eq!(&screen.told.text(), &text);
            prop_assert!(!screen.edit.is_dirty());
            prop_assert!(screen.edit.flush().unwrap().is_none());
        }

        let all = entries(&replicas[0]);
        let fresh = node(99);
        for run in causal_order(&all, &picks).chunks(batch) {
            admit(&fresh, replicas[0].id(), run);
        }
        let arrived = fresh.database_by_id(replicas[0].id());
        prop_assert_eq!(arrived.text("t").read().unwrap(), text);
        prop_assert_eq!(arrived.state_hash().unwrap(), replicas[0].state_hash().unwrap());
        prop_assert_eq!(fresh.store().fsck(false, &mut |_, _| {}).unwrap().problems, []);
    }
}

#[test]
fn observers_are_told_who_edited_what() {
    let (a, b) = two();
    a.text("t").set("hello").unwrap();
    exchange(&a, &b);
    let mut changes = a.text("t").observe().unwrap();
    assert_eq!(changes.wait(Duration::ZERO).unwrap(), None);
    a.doc("d").set("x", 1).unwrap();
    a.text("t").insert(5, "!").unwrap();
    b.write(|tx| {
        tx.text("t").insert(0, "oh, ")?;
        tx.text("t").delete(4, 1)?;
        tx.text("t").insert(4, "H")
    })
    .unwrap();
    copy(&b, a.instance());
    let Some(Observed::Edited(first)) = changes.next_ready().unwrap() else { panic!("an edit") };
    assert_eq!(first.author, a.instance().device());
    assert_eq!(first.deltas, [TextDelta::Insert { at: 5, text: "!".to_owned() }]);
    let Some(Observed::Edited(second)) = changes.next_ready().unwrap() else { panic!("an edit") };
    assert_eq!(second.author, b.instance().device());
    assert_eq!(Some(&second.entry), b.tips().unwrap().first());
    let mut text = Rope::from("hello!");
    second.deltas.iter().for_each(|delta| apply(&mut text, delta));
    assert_eq!(text.text(), "oh, Hello!");
    assert_eq!(changes.next_ready().unwrap(), None);

    // One who waits is woken.
    let waiting = std::thread::spawn(move || changes.wait(Duration::from_secs(600)).unwrap());
    b.text("t").delete(0, 4).unwrap();
    copy(&b, a.instance());
    let Some(Observed::Edited(third)) = waiting.join().unwrap() else { panic!("an edit") };
    assert_eq!(third.deltas, [TextDelta::Delete { at: 0, count: 4 }]);
}

#[test]
fn an_observer_that_lags_is_told_to_read_again() {
    let db = database();
    db.text("t").set("a").unwrap();
    let mut changes = db.text("t").observe().unwrap();
    for n in 0..=crate::limits::OBSERVED_ENTRIES_MAX {
        let (_, pending) = db.prepare_blind(|tx| tx.doc("d").set("n", i64::try_from(n).unwrap())).unwrap();
        pending.relaxed().commit().unwrap();
    }
    // Others' entries do not count.
    assert_eq!(changes.next_ready().unwrap(), None);
    for n in 0..=crate::limits::OBSERVED_ENTRIES_MAX {
        let write = |tx: &crate::Transaction| tx.text("t").insert(n, "b");
        let (_, pending) = db.prepare_write(write).unwrap();
        pending.relaxed().commit().unwrap();
    }
    assert_eq!(changes.next_ready().unwrap(), Some(Observed::Reread));
    assert_eq!(changes.text().unwrap(), db.text("t").read().unwrap());
    db.text("t").insert(0, "c").unwrap();
    let Some(Observed::Edited(change)) = changes.next_ready().unwrap() else { panic!("an edit") };
    assert_eq!(change.deltas, [TextDelta::Insert { at: 0, text: "c".to_owned() }]);
}

/// Stages operations as an author does who is not honest: they name entries by a number.
fn stage_raw(db: &Database, named: &[EntryId], ops: Vec<Vec<Op<String>>>) {
    let id_of = |seq: Seq| Ok::<_, ()>(named[usize::try_from(seq.0).unwrap()]);
    let stage = |tx: &crate::Transaction| {
        (0..).zip(ops).try_for_each(|(op, ops)| {
            let edits = Edits::of(OpId { seq: STAGED, op }, ops, id_of).unwrap().unwrap();
            tx.stage("t", text_kind::KIND, text_kind::encode(&edits))
        })
    };
    db.prepare_blind(stage).unwrap().1.commit().unwrap();
}

fn element(number: u64, offset: u32) -> Name {
    Name { entry: OpId { seq: Seq(number), op: 0 }, offset }
}

#[test]
fn an_observer_is_told_to_read_again_when_what_it_was_told_of_is_woken_or_filled() {
    let replicas = three();
    let (a, b, c) = (&replicas[0], &replicas[1], &replicas[2]);
    a.text("t").insert(0, "base").unwrap();
    let base = a.tips().unwrap()[0];
    [b, c].into_iter().for_each(|to| drop(copy(a, to.instance())));
    a.text("t").insert(0, "ab").unwrap();
    let late = a.tips().unwrap()[0];
    let insert = Op::Insert { at: Anchor::After(element(0, 0)), run: "z".to_owned() };
    let delete = Op::Delete(Span { first: element(1, 0), count: 1 });
    stage_raw(b, &[late, base], vec![vec![insert, delete]]);

    // What waits changes nothing. When it is woken the text grows by no more than what came.
    let mut changes = c.text("t").observe().unwrap();
    copy(b, c.instance());
    assert_eq!(changes.next_ready().unwrap(), None);
    let mut edit = c.text("t").edit().unwrap();
    copy(a, c.instance());
    assert_eq!(changes.next_ready().unwrap(), Some(Observed::Reread));
    assert_eq!(changes.next_ready().unwrap(), None);
    let text = c.text("t").read().unwrap();
    assert!(text.len() == 6 && text.contains('z') && !text.contains("base"), "{text}");
    edit.remote().unwrap();
    assert_eq!(edit.text(), text);

    // The entry is there before its payload.
    let (to, all) = (node(40), entries(c));
    let mut offers: Vec<_> = all.iter().map(offer).collect();
    let hollow = all.iter().position(|entry| entry.id() == late).unwrap();
    offers[hollow].payloads.fill(None);
    let prepared = to.store().prepare(a.id(), offers).unwrap();
    to.store().admit(prepared).unwrap();
    let there = to.database_by_id(a.id());
    let (mut changes, mut edit) = (there.text("t").observe().unwrap(), there.text("t").edit().unwrap());
    assert_eq!((edit.text().as_str(), changes.next_ready().unwrap()), ("base", None));
    admit(&to, a.id(), &[&all[hollow]]);
    assert_eq!(changes.next_ready().unwrap(), Some(Observed::Reread));
    assert_eq!(changes.next_ready().unwrap(), None);
    edit.remote().unwrap();
    assert_eq!(edit.text(), text);
}

#[test]
fn an_observer_does_not_follow_deletes_of_the_same_parts_for_ever() {
    let db = database();
    db.text("t").insert(0, &"a".repeat(400)).unwrap();
    let named = db.tips().unwrap()[0];
    db.write(|tx| (0..400).try_for_each(|n| tx.text("t").insert(2 * n + 1, "b"))).unwrap();
    let mut changes = db.text("t").observe().unwrap();
    let all = || vec![Op::Delete(Span { first: element(0, 0), count: 400 })];
    stage_raw(&db, &[named], vec![all()]);
    assert!(matches!(changes.next_ready().unwrap(), Some(Observed::Edited(_))));
    stage_raw(&db, &[named], (0..=crate::limits::OBSERVED_PARTS_MAX / 400).map(|_| all()).collect());
    assert_eq!(changes.next_ready().unwrap(), Some(Observed::Reread));
    assert_eq!(changes.text().unwrap(), "b".repeat(400));
}

#[test]
fn a_buffer_makes_one_entry_of_many_edits() {
    let db = database();
    let mut edit = db.text("t").edit().unwrap();
    assert!(edit.flush().unwrap().is_none());
    let held = db.entries().unwrap();
    "hello wrld".chars().enumerate().for_each(|(at, c)| edit.insert(at, &c.to_string()).unwrap());
    edit.insert(7, "o").unwrap();
    edit.delete(0, 1).unwrap();
    edit.insert(0, "J").unwrap();
    assert!(edit.is_dirty() && matches!(edit.insert(12, "x"), Err(DbError::Position { .. })));
    let committed = edit.flush().unwrap().unwrap();
    assert_eq!(db.tips().unwrap(), [committed.id]);
    assert_eq!((db.entries().unwrap(), edit.is_dirty()), (held + 1, false));
    assert_eq!(db.text("t").read().unwrap(), "Jello world");
    assert_eq!(edit.remote().unwrap(), []);
    // What is taken back before it is sent is nothing.
    edit.insert(3, "xyz").unwrap();
    edit.delete(3, 3).unwrap();
    assert!(!edit.is_dirty() && edit.flush().unwrap().is_none());
}

#[test]
fn edits_stay_when_a_flush_fails() {
    let (a, b) = (node(1), node(2));
    let db = a.create_database("shared").unwrap().database;
    db.text("t").set("base").unwrap();
    let there = copy(&db, &b);
    let mut edit = there.text("t").edit().unwrap();
    edit.insert(4, "!").unwrap();
    assert!(matches!(edit.flush(), Err(DbError::NotPermitted(_))));
    edit.insert(0, "> ").unwrap();
    assert!(edit.is_dirty());
    let (mut edit, error) = *edit.close().unwrap_err();
    assert!(matches!(error, DbError::NotPermitted(_)));
    assert_eq!(edit.text(), "> base!");
    db.grant(Slot::Key(b.device()), Permission::Write).unwrap();
    db.text("t").insert(2, "...").unwrap();
    copy(&db, &b);
    assert!(edit.flush().unwrap().is_some());
    assert_eq!(there.text("t").read().unwrap(), "> ba...se!");
    // The buffer is as it was until it is asked.
    assert_eq!(edit.text(), "> base!");
    assert_eq!(edit.remote().unwrap(), [TextDelta::Insert { at: 4, text: "...".to_owned() }]);
    assert_eq!(edit.text(), "> ba...se!");
    edit.close().unwrap();
}

#[test]
fn edits_stay_when_a_flush_cannot_be_prepared() {
    let db = database();
    db.text("t").set("base").unwrap();
    let mut edit = db.at(&db.tips().unwrap()).unwrap().database().text("t").edit().unwrap();
    edit.insert(4, "!").unwrap();
    for _ in 0..2 {
        assert!(matches!(edit.flush(), Err(DbError::ReadOnly)));
    }
    let (edit, error) = *edit.close().unwrap_err();
    assert!(matches!(error, DbError::ReadOnly) && edit.is_dirty());
    assert_eq!(edit.text(), "base!");

    // Too large with what else is in the entry: less of it is tried, down to the least.
    let mut edit = db.text("t").edit().unwrap();
    edit.insert(4, "0123456789").unwrap();
    let mut tries = 0;
    let error = loop {
        let staged = db.prepare_write(|tx| {
            assert!(edit.stage_flush(tx)?);
            Err::<(), _>(DbError::TooLarge)
        });
        tries += 1;
        if let Err(error) = edit.unstage_flush(staged.unwrap_err()) {
            break error;
        }
    };
    assert!(matches!(error, DbError::TooLarge) && tries < 40, "{tries}");
    assert_eq!(edit.text(), "base0123456789");
    let held = db.entries().unwrap();
    edit.flush().unwrap();
    // The least first, and then as much as ever.
    assert_eq!((db.text("t").read().unwrap(), db.entries().unwrap()), (edit.text(), held + 2));
}

#[test]
fn edits_that_cannot_be_staged_are_due_after_a_pause() {
    let db = database();
    let ms = Duration::from_millis;
    let policy = EditPolicy { pause: ms(500), at_most: ms(1200), chars: 100 };
    let mut edit = db.text("t").edit().unwrap().with_policy(policy);
    let start = Instant::now();
    edit.insert(0, &"x".repeat(100)).unwrap();
    assert_eq!(edit.due(start), Some(start));
    db.doc("t").set("x", 1).unwrap();
    for tried in [ms(0), ms(500), ms(1000)] {
        assert!(matches!(edit.flush(), Err(DbError::WrongKind { .. })));
        assert_eq!(edit.due(start + tried), Some(start + tried + ms(500)));
    }
    assert!(edit.is_dirty());
}

#[test]
fn a_buffer_can_be_edited_while_its_flush_is_under_way() {
    let (a, b) = two();
    a.text("t").set("abc").unwrap();
    exchange(&a, &b);
    let mut edit = a.text("t").edit().unwrap();
    edit.insert(3, "d").unwrap();
    let flush = edit.prepare_flush().unwrap().unwrap();
    assert!(edit.prepare_flush().unwrap().is_none());
    edit.insert(4, "e").unwrap();
    // Something comes in between, at the very place.
    b.text("t").insert(3, "X").unwrap();
    copy(&b, a.instance());
    assert_eq!(edit.remote().unwrap(), []);
    edit.finish_flush(flush.commit()).unwrap();
    assert!(edit.is_dirty());
    let mut shown = Rope::from("abcde");
    edit.remote().unwrap().iter().for_each(|delta| apply(&mut shown, delta));
    assert_eq!(shown.text(), edit.text());
    edit.flush().unwrap();
    assert_eq!(edit.text(), a.text("t").read().unwrap());
    exchange(&a, &b);
    let text = b.text("t").read().unwrap();
    assert!(text == "abcdeX" || text == "abcXde", "{text}");

    // The same, but the commit fails: nothing is lost.
    edit.insert(0, "1").unwrap();
    let flush = edit.prepare_flush().unwrap().unwrap();
    edit.insert(1, "2").unwrap();
    drop(flush);
    edit.finish_flush(Err(crate::Refused::Past.into())).unwrap_err();
    assert!(edit.is_dirty());
    edit.flush().unwrap();
    assert_eq!(a.text("t").read().unwrap(), format!("12{text}"));
}

#[test]
fn more_than_an_entry_holds_goes_as_several() {
    let db = database();
    let mut edit = db.text("t").edit().unwrap();
    let page = "0123456789abcde\n".repeat(40_000);
    edit.insert(0, &page).unwrap();
    edit.insert(300_000, "😀").unwrap();
    let held = db.entries().unwrap();
    edit.flush().unwrap();
    assert!(db.entries().unwrap() > held + 2 && !edit.is_dirty());
    let text = db.text("t").read().unwrap();
    assert!(text == edit.text() && text.chars().count() == page.len() + 1);
    // Characters that do not fit as well as others.
    edit.set(&"😀".repeat(300_000)).unwrap();
    edit.flush().unwrap();
    assert_eq!(db.text("t").len().unwrap(), 300_000);
    assert!(matches!(db.text("t").set(&page.repeat(2)), Err(DbError::TooLarge)));
}

#[test]
fn edits_are_due_after_a_pause_and_at_the_latest_after_a_while() {
    let db = database();
    let ms = Duration::from_millis;
    let policy = EditPolicy { pause: ms(500), at_most: ms(1200), chars: 100 };
    let mut edit = db.text("t").edit().unwrap().with_policy(policy);
    let start = Instant::now();
    assert_eq!(edit.due(start), None);
    edit.insert(0, "a").unwrap();
    assert_eq!(edit.due(start), Some(start + ms(500)));
    assert_eq!(edit.due(start + ms(300)), Some(start + ms(500)));
    edit.insert(0, "b").unwrap();
    assert_eq!(edit.due(start + ms(400)), Some(start + ms(900)));
    edit.insert(0, "c").unwrap();
    assert_eq!(edit.due(start + ms(800)), Some(start + ms(1200)));
    edit.flush().unwrap();
    assert_eq!(edit.due(start + ms(900)), None);
    edit.insert(0, &"x".repeat(100)).unwrap();
    assert_eq!(edit.due(start + ms(950)), Some(start + ms(950)));
    let flush = edit.prepare_flush().unwrap().unwrap();
    assert_eq!(edit.due(start + ms(950)), None);
    edit.finish_flush(Err(crate::Refused::Past.into())).unwrap_err();
    drop(flush);
    // After a failure it waits, however much there is.
    assert_eq!(edit.due(start + ms(960)), Some(start + ms(1460)));
    edit.flush().unwrap();
}

#[test]
fn a_text_is_one_store_of_its_kind() {
    let db = database();
    db.doc("d").set("x", 1).unwrap();
    assert!(matches!(db.text("d").read(), Err(DbError::WrongKind { .. })));
    assert!(matches!(db.text("d").insert(0, "x"), Err(DbError::WrongKind { .. })));
    assert!(matches!(db.text("_settings").insert(0, "x"), Err(DbError::StoreName { .. })));
    db.text("t").set("four").unwrap();
    let stores = db.stores().unwrap();
    let found = stores.iter().find(|store| store.name == "t").unwrap();
    assert_eq!((found.kind.as_str(), found.entries), ("text", 1));
}

fn trace(packed: &[u8]) -> Json {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
    serde_json::from_slice(&plain).unwrap()
}

fn number(value: &Json) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn replay(edit: &mut TextEdit, transaction: &Json) {
    for patch in transaction["patches"].as_array().unwrap() {
        let at = number(&patch[0]);
        edit.replace(at..at + number(&patch[1]), patch[2].as_str().unwrap()).unwrap();
    }
}

fn flush(edit: &mut TextEdit) -> bool {
    match edit.prepare_flush().unwrap() {
        Some(flush) => edit.finish_flush(flush.relaxed().commit()).unwrap().is_some(),
        None => false,
    }
}

#[test]
fn a_recorded_session_ends_in_its_text() {
    let trace = trace(include_bytes!("../../../../tests/data/traces/sveltecomponent.json.gz"));
    let db = database();
    let mut edit = db.text("t").edit().unwrap();
    for (at, transaction) in trace["txns"].as_array().unwrap().iter().enumerate() {
        replay(&mut edit, transaction);
        if at % 50 == 0 {
            flush(&mut edit);
        }
    }
    edit.flush().unwrap();
    let end = trace["endContent"].as_str().unwrap();
    assert!(db.text("t").read().unwrap() == end, "another text");
    let there = copy(&db, &node(2));
    assert!(there.text("t").read().unwrap() == end, "another text where it was sent");
}

/// Two people wrote at once. Each one's edits are made on a replica that holds what their author had seen.
#[test]
fn a_recorded_session_of_two_ends_in_its_text_on_both() {
    let trace = trace(include_bytes!("../../../../tests/data/traces/friendsforever-concurrent.json.gz"));
    let transactions = trace["txns"].as_array().unwrap();
    let agent = |at: usize| number(&transactions[at]["agent"]);
    // What of the other's each transaction had seen first.
    let mut held = vec![vec![false; transactions.len()]; 2];
    let mut missing: Vec<BTreeSet<usize>> = Vec::new();
    for at in 0..transactions.len() {
        let held = &mut held[agent(at)];
        let (mut unseen, mut todo) = (BTreeSet::new(), vec![at]);
        while let Some(at) = todo.pop() {
            if !std::mem::replace(&mut held[at], true) {
                unseen.insert(at);
                todo.extend(transactions[at]["parents"].as_array().unwrap().iter().map(number));
            }
        }
        unseen.remove(&at);
        missing.push(unseen);
    }
    let seen: BTreeSet<usize> = missing.iter().filter_map(|unseen| unseen.last().copied()).collect();

    // Of two who type at once, the session has the first one first, so the clock of the other is ahead.
    let (a_env, _) = env(1);
    let (b_env, clock) = env(2);
    let (a, b) = (
        Instance::open(Arc::new(Memory::new()), a_env).unwrap(),
        Instance::open(Arc::new(Memory::new()), b_env).unwrap(),
    );
    let db = a.create_database("shared").unwrap().database;
    db.grant(Slot::Key(b.device()), Permission::Write).unwrap();
    let replicas = [db.clone(), copy(&db, &b)];
    let mut edits = [0, 1].map(|agent| replicas[agent].text("t").edit().unwrap());
    let mut made: Vec<Option<Entry>> = vec![None; transactions.len()];
    let store = |edits: &mut [TextEdit; 2], made: &mut Vec<Option<Entry>>, agent: usize, at: usize| {
        if agent == 1 {
            clock.advance(1000);
        }
        if flush(&mut edits[agent]) {
            let snapshot = replicas[agent].snapshot().unwrap();
            made[at] = snapshot.entry(&replicas[agent].tips().unwrap()[0]).unwrap();
        }
    };
    let mut last = [0, 0];
    for (at, transaction) in transactions.iter().enumerate() {
        let agent = agent(at);
        if !missing[at].is_empty() {
            store(&mut edits, &mut made, agent, last[agent]);
            let arrived: Vec<&Entry> = missing[at].iter().filter_map(|at| made[*at].as_ref()).collect();
            let offers = arrived.iter().map(|entry| offer(entry)).collect();
            let to = replicas[agent].instance().store();
            to.admit(to.prepare(db.id(), offers).unwrap()).unwrap();
            edits[agent].remote().unwrap();
        }
        replay(&mut edits[agent], transaction);
        last[agent] = at;
        if seen.contains(&at) {
            store(&mut edits, &mut made, agent, at);
        }
    }
    for agent in [0, 1] {
        store(&mut edits, &mut made, agent, last[agent]);
    }
    exchange(&replicas[0], &replicas[1]);
    let end = trace["endContent"].as_str().unwrap();
    for (db, edit) in replicas.iter().zip(&mut edits) {
        edit.remote().unwrap();
        assert!(db.text("t").read().unwrap() == end, "another text");
        assert!(edit.text() == end, "another text in the buffer");
    }
}
