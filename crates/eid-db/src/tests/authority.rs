use eid_core::dag::Seq;
use eid_core::{EntryId, KeyMode, Permission, Slot};
use serde_json::json;

use super::support::{copy, exchange, node, two};
use crate::{DbError, EntryStanding, Instance, Void};

fn key_of(instance: &Instance) -> Slot {
    Slot::Key(instance.device())
}

const REMOVE: KeyMode = KeyMode::Remove { fence: None };

#[test]
fn what_a_removed_key_wrote_beside_its_removal_has_no_effect_whatever_came_first() {
    let (a, b) = two();
    a.doc("d").set("kept", 1).unwrap();
    exchange(&a, &b);
    b.doc("d").set("seen", 2).unwrap();
    exchange(&a, &b);
    // The remover has not seen this one.
    b.doc("d").set("late", 3).unwrap();
    let late = b.tips().unwrap()[0];
    a.revoke(key_of(b.instance()), REMOVE).unwrap();
    let expected = json!({"kept": 1, "seen": 2});
    assert_eq!(b.doc("d").to_json().unwrap(), json!({"kept": 1, "seen": 2, "late": 3}));
    // One learns of the entry after the removal, the other of the removal after the entry, a third of all at once.
    exchange(&a, &b);
    let c = copy(&a, &node(3));
    for (name, replica) in [("remover", &a), ("removed", &b), ("other", &c)] {
        assert_eq!(replica.doc("d").to_json().unwrap(), expected, "{name}");
        let void = replica.void_entries(Seq(0), 10).unwrap();
        assert_eq!(void.iter().map(|entry| entry.id).collect::<Vec<_>>(), [late], "{name}");
        assert!(matches!(void[0].why, Void::Removed { .. }), "{name}");
        assert_eq!(replica.state_hash().unwrap(), a.state_hash().unwrap(), "{name}");
    }
    // It may not write any more, and an admin lets the entry count again.
    assert!(matches!(b.doc("d").set("x", 1), Err(DbError::NotPermitted)));
    assert!(matches!(a.accept(&[EntryId([9; 32])]), Err(DbError::UnknownEntry { .. })));
    a.accept(&[late]).unwrap();
    assert!(matches!(a.accept(&[late]), Err(DbError::NotVoid { id }) if id == late));
    exchange(&a, &c);
    exchange(&a, &b);
    for replica in [&a, &b, &c] {
        assert_eq!(replica.doc("d").to_json().unwrap(), json!({"kept": 1, "seen": 2, "late": 3}));
        assert!(matches!(replica.standing(&late).unwrap(), EntryStanding::Accepted { .. }));
    }
}

#[test]
fn a_removed_writer_who_writes_into_the_past_changes_nothing_and_what_others_build_on_it_stands() {
    let (a, b) = two();
    let honest_instance = node(3);
    a.grant(key_of(&honest_instance), Permission::Write).unwrap();
    a.doc("d").set("x", "before").unwrap();
    exchange(&a, &b);
    let honest = copy(&a, &honest_instance);
    let old = b.tips().unwrap();
    a.revoke(key_of(b.instance()), REMOVE).unwrap();
    // Its own copy shows it a past in which it may write.
    let tx = b.begin_at(&old).unwrap();
    tx.doc("d").set("x", "forged").unwrap();
    let forged = tx.commit().unwrap().unwrap().id;
    // An honest device that knows nothing of the removal builds on it.
    exchange(&b, &honest);
    assert_eq!(honest.doc("d").get("x").unwrap(), Some("forged".into()));
    honest.doc("d").set("y", "honest").unwrap();
    exchange(&honest, &a);
    for replica in [&a, &honest] {
        assert_eq!(replica.doc("d").to_json().unwrap(), json!({"x": "before", "y": "honest"}));
        assert!(matches!(replica.standing(&forged).unwrap(), EntryStanding::Void(Void::Removed { .. })));
        assert!(!replica.snapshot().unwrap().is_stale());
    }
    assert_eq!(a.state_hash().unwrap(), honest.state_hash().unwrap());
}

#[test]
fn a_key_that_is_rotated_passes_its_right_on_and_what_it_wrote_stands() {
    let (a, b) = two();
    let new = node(4);
    b.doc("d").set("old", 1).unwrap();
    assert!(matches!(copy(&a, &new).rotate(new.device()), Err(DbError::NoRight)));
    let (first, second) = (a.instance().device(), new.device());
    a.rotate(second).unwrap();
    exchange(&a, &b);
    let there = copy(&a, &new);
    assert_eq!(there.permission(&[second]).unwrap(), Some(Permission::Admin(1)));
    assert_eq!(there.permission(&[first]).unwrap(), None);
    assert!(matches!(a.doc("d").set("x", 1), Err(DbError::NotPermitted)));
    there.doc("d").set("new", 2).unwrap();
    assert_eq!(there.doc("d").to_json().unwrap(), json!({"old": 1, "new": 2}));
    assert_eq!(there.void_entries(Seq(0), 1).unwrap(), []);
}
