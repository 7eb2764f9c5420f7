use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::Entry;
use eid_core::dag::{Replica as _, Seq};
use eid_crdt::sequence::{Anchor, Name, Op};
use eid_store::{Apply as _, Backend, Batch, Memory, Offer, Scan, Verdict};
use proptest::prelude::*;

use super::replicas::three;
use super::support::{admit, causal_order, copy, entries, exchange, node, node_over, offer, two};
use crate::kind::sequence::{Edits, OpId};
use crate::kind::text as text_kind;
use crate::stamp::STAGED;
use crate::{Database, Instance};

fn text(db: &Database) -> String {
    db.text("t").read().unwrap()
}

/// Gives an instance entries in this order: first the headers of some, and their payloads at the end.
fn bring_late(to: &Instance, from: &Database, order: &[&Entry], late: impl Fn(usize) -> bool) -> Database {
    let header = |entry: &Entry| {
        let has_settings = entry.header().sections.iter().any(|section| section.store.is_settings());
        let payloads = entry.payloads().iter().map(|_| None).collect();
        if has_settings { offer(entry) } else { Offer { block: entry.block().clone(), payloads } }
    };
    let offers =
        order.iter().enumerate().map(|(at, entry)| if late(at) { header(entry) } else { offer(entry) });
    let prepared = to.store().prepare(from.id(), offers.collect()).unwrap();
    let verdicts = to.store().admit(prepared).unwrap().verdicts;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Admitted(_))), "{verdicts:?}");
    // Latest first, one by one.
    for entry in order.iter().rev() {
        admit(to, from.id(), &[entry]);
    }
    to.database_by_id(from.id())
}

#[derive(Debug, Clone)]
enum Step {
    Edit(usize, usize, usize, String),
    Exchange,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edit = (0..2usize, any::<usize>(), 0..4usize, "[a-zäö𝄞]{0,4}")
        .prop_map(|(db, at, deleted, text)| Step::Edit(db, at, deleted, text));
    prop::collection::vec(prop_oneof![4 => edit, 1 => Just(Step::Exchange)], 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn texts_converge_in_any_order_also_when_payloads_come_late(
        steps in steps(), picks in prop::collection::vec(any::<u16>(), 1..20), late in any::<u32>(),
    ) {
        let (a, b) = two();
        for step in &steps {
            match step {
                Step::Exchange => exchange(&a, &b),
                Step::Edit(db, at, deleted, inserted) => {
                    let db = [&a, &b][*db];
                    let len = db.text("t").len().unwrap();
                    let at = at % (len + 1);
                    db.text("t").replace(at..(at + deleted).min(len), inserted).unwrap();
                }
            }
        }
        exchange(&a, &b);
        prop_assert_eq!(text(&a), text(&b));
        prop_assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
        let all = entries(&a);
        let order = causal_order(&all, &picks);
        let there = node(9);
        let c = bring_late(&there, &a, &order, |at| late >> (at % 32) & 1 == 1);
        prop_assert_eq!(text(&c), text(&a));
        prop_assert_eq!(c.state_hash().unwrap(), a.state_hash().unwrap());
        prop_assert_eq!(there.store().fsck(false, &mut |_, _| {}).unwrap().problems, []);
        let counted = c.stores().unwrap().into_iter().find(|store| store.name == "t");
        if let Some(counted) = counted {
            prop_assert_eq!((counted.rows, counted.undecodable), (text(&a).chars().count() as u64, 0));
        }
    }
}

/// The same device twice, as a copied disk gives it: one key writes concurrent entries.
#[test]
fn a_cloned_data_directory_converges() {
    let (here, clone) = (node(1), node(1));
    let a = here.create_database("shared").unwrap().database;
    a.text("t").insert(0, "base").unwrap();
    let b = copy(&a, &clone);
    assert_eq!(here.device(), clone.device());
    for (db, word) in [(&a, "one"), (&b, "two")] {
        for (at, letter) in word.chars().enumerate() {
            db.text("t").insert(2 + at, &letter.to_string()).unwrap();
        }
        db.text("t").delete(0, 1).unwrap();
    }
    exchange(&a, &b);
    assert_eq!(text(&a), text(&b));
    assert!(["aonetwose", "atwoonese"].contains(&text(&a).as_str()), "{}", text(&a));
    let all = entries(&a);
    for pick in 0..6 {
        let there = node(20 + u64::from(pick));
        let order = causal_order(&all, &[pick, 0, 1]);
        admit(&there, a.id(), &order);
        assert_eq!(text(&there.database_by_id(a.id())), text(&a));
    }
}

#[test]
fn a_long_text_is_the_same_when_payloads_come_late() {
    let (a, b) = two();
    for turn in 0..400usize {
        let db = if turn.is_multiple_of(3) { &b } else { &a };
        let len = db.text("t").len().unwrap();
        let at = (turn * 7_919) % (len + 1);
        db.text("t").replace(at..(at + turn % 3).min(len), "some words").unwrap();
        if turn.is_multiple_of(20) {
            exchange(&a, &b);
        }
    }
    exchange(&a, &b);
    let all = entries(&a);
    let order = causal_order(&all, &[0]);
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let there = node_over(&backend, 9);
    let c = bring_late(&there, &a, &order, |at| at % 5 == 1);
    assert_eq!(text(&c), text(&a));
    assert_eq!(c.state_hash().unwrap(), a.state_hash().unwrap());
    // A check cuts the pages where they were cut, and finds one letter that is another.
    let check = || there.store().fsck(false, &mut |_, _| {}).unwrap().problems;
    assert_eq!(check(), []);
    let rows = backend.snapshot().unwrap().scan_many(&[Scan::range(vec![0], vec![0xff])]).unwrap().remove(0);
    let place = |row: &[u8]| row.windows(4).position(|part| part == b"word");
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (key, row) in rows {
        // One row of the log and one of the view.
        let Some(at) = place(&row).filter(|_| seen.insert(key[0])) else { continue };
        let mut other = row.to_vec();
        other[at] ^= 1;
        let put = |row: Bytes| {
            backend.commit(Batch { puts: vec![(key.clone(), row)], ..Batch::default() }).unwrap();
        };
        put(other.into());
        let problems = check();
        assert!(!problems.is_empty());
        found.extend(problems.iter().map(|problem| problem.name));
        put(row);
    }
    assert!(found.contains("view_row") && found.contains("payload"), "{found:?}");
    assert_eq!(check(), []);
}

/// An author who is not honest names what he does not have, so that it comes after what names it.
#[test]
fn an_edit_is_applied_when_the_entry_that_it_waits_for_is_admitted() {
    let (replicas, _nodes) = three();
    let (a, b) = (&replicas[0], &replicas[1]);
    a.text("t").insert(0, "ab").unwrap();
    let named = a.tips().unwrap()[0];
    let base = entries(b).len();
    let at = Anchor::After(Name { entry: OpId { seq: Seq(0), op: 0 }, offset: 0 });
    let insert = Op::Insert { at, run: "z".to_owned() };
    let own = OpId { seq: STAGED, op: 0 };
    let edits = Edits::of(own, vec![insert], |_| Ok::<_, ()>(named)).unwrap().unwrap();
    let stage = |tx: &crate::Transaction| tx.stage("t", text_kind::KIND, text_kind::encode(&edits));
    b.prepare_blind(stage).unwrap().1.commit().unwrap();
    // What names the one that waits waits too.
    let waiting = b.tips().unwrap()[0];
    let edits = Edits::of(own, edits.ops(&[Some(own), Some(OpId { seq: Seq(0), op: 0 })]).collect(), |_| {
        Ok::<_, ()>(waiting)
    });
    let edits = edits.unwrap().unwrap();
    let stage = |tx: &crate::Transaction| tx.stage("t", text_kind::KIND, text_kind::encode(&edits));
    b.prepare_blind(stage).unwrap().1.commit().unwrap();
    let (there, here) = (entries(a), entries(b));
    let (settings, x, w) = (&here[..base], &there[base], [&here[base], &here[base + 1]]);
    let mut seen = Vec::new();
    for (at, order) in [[w[0], w[1], x], [w[0], x, w[1]], [x, w[0], w[1]]].into_iter().enumerate() {
        for batch in [1, 3] {
            let to = node(30 + at as u64);
            admit(&to, a.id(), &settings.iter().collect::<Vec<_>>());
            order.chunks(batch).for_each(|part| drop(admit(&to, a.id(), part)));
            seen.push(text(&to.database_by_id(a.id())));
            assert_eq!(to.store().fsck(false, &mut |_, _| {}).unwrap().problems, []);
        }
    }
    // Which of what hangs after one character is first is for the stamps to say.
    assert!(
        ["azzb", "abzz"].contains(&seen[0].as_str()) && seen.iter().all(|one| *one == seen[0]),
        "{seen:?}"
    );
}

#[test]
fn what_a_void_entry_did_to_a_text_is_taken_out_and_put_back_without_the_rest() {
    let (a, b) = two();
    a.text("t").insert(0, "one two").unwrap();
    exchange(&a, &b);
    b.text("t").replace(0..3, "ONE").unwrap();
    exchange(&a, &b);
    let snapshot = a.snapshot().unwrap();
    let entry = snapshot.entry_at(Seq(snapshot.end().0 - 1)).unwrap().unwrap();
    a.text("t").insert(3, "!").unwrap();
    assert_eq!(text(&a), "ONE! two");

    let header = entry.header();
    let payload = entry.payloads()[0].clone().unwrap();
    let payload = eid_core::Payload::decode(&payload).unwrap();
    let change = eid_store::Change {
        store: &header.sections[0].store,
        kind: &payload.kind,
        author: header.author,
        time: header.time,
        height: header.height,
        seq: Seq(snapshot.end().0 - 1),
        id: entry.id(),
        ops: &payload.ops,
    };
    let stand = |stands| {
        let mut work = |view: &mut dyn eid_store::ViewRows| crate::Kinds.set_standing(&change, stands, view);
        assert!(a.instance().store().maintain(&a.id(), change.store, change.kind, &mut work).unwrap());
    };
    stand(false);
    let without = text(&a);
    assert!(without == "!one two" || without == "one! two", "what hangs on it stays: {without}");
    a.text("t").insert(without.len(), ".").unwrap();
    stand(true);
    assert_eq!(text(&a), "ONE! two.");
}
