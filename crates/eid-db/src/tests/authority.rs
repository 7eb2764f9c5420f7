use eid_core::dag::Seq;
use eid_core::{
    Draft, Entry, EntryId, KeyMode, Nonce, Permission, PublicKey, SecretKey, SectionDraft, SettingsOp, Slot,
    Time,
};
use serde_json::json;

use super::support::{admit, copy, exchange, node, two};
use crate::{DbError, EntryStanding, Instance, Refused, Void};

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
    assert!(matches!(b.doc("d").set("x", 1), Err(DbError::NotPermitted(_))));
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
    assert!(matches!(a.doc("d").set("x", 1), Err(DbError::NotPermitted(_))));
    there.doc("d").set("new", 2).unwrap();
    assert_eq!(there.doc("d").to_json().unwrap(), json!({"old": 1, "new": 2}));
    assert_eq!(there.void_entries(Seq(0), 1).unwrap(), []);
}

fn refused<R: std::fmt::Debug>(result: Result<R, DbError>) -> Refused {
    match result.unwrap_err() {
        DbError::NotPermitted(refused) => *refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_says_who_lacks_what_and_which_entry_took_it() {
    let (a, b) = (node(1), node(2));
    let created = a.create_database("x").unwrap();
    let db = created.database;
    let (first, key, slot) = (a.device(), b.device(), key_of(&b));
    let there = copy(&db, &b);
    assert_eq!(refused(there.doc("d").set("x", 1)), Refused::Stranger { key });
    db.grant(slot, Permission::Read).unwrap();
    exchange(&db, &there);
    let weak = |settings| Refused::Weak { key, has: Permission::Read, settings };
    assert_eq!(refused(there.doc("d").set("x", 1)), weak(false));
    assert_eq!(refused(there.set_title("mine")), weak(true));
    assert_eq!(refused(there.create_invite(Permission::Read, None, None)), weak(true));

    let by = db.grant(slot, Permission::Admin(1)).unwrap().id;
    let equal = refused(db.revoke(slot, REMOVE));
    let (has, held) = (Some(Permission::Admin(1)), Some(Permission::Admin(1)));
    assert_eq!(equal, Refused::Outranked { key: first, has, slot, held, by, author: first });
    assert!(
        equal.to_string().contains("is admin:1, and a slot of admin:1 may be changed only by a stronger one"),
        "{equal}"
    );
    assert_eq!(
        refused(db.grant(key_of(&node(3)), Permission::Admin(0))),
        Refused::AboveOneself { key: first, has }
    );

    let remover = created.recovery.public();
    let revoke = SettingsOp::Revoke { slot, mode: REMOVE };
    let by = db.write_settings_as(&created.recovery.into(), &[revoke]).unwrap().id;
    exchange(&db, &there);
    let gone = refused(there.doc("d").set("x", 1));
    assert_eq!(gone, Refused::Revoked { key, by, remover });
    assert!(gone.to_string().contains(&format!("was revoked by {remover} in {by}")), "{gone}");
    assert_eq!(refused(there.set_title("mine")), gone);
    let again = refused(db.grant(slot, Permission::Read));
    assert_eq!(again, Refused::Outranked { key: first, has, slot, held: None, by, author: remover });
}

#[test]
fn an_audit_lists_who_changed_what_in_order_and_which_of_it_is_void() {
    let (a, b) = (node(1), node(2));
    let created = a.create_database("x").unwrap();
    let db = created.database;
    db.doc("d").set("x", 1).unwrap();
    let grant = db.grant(key_of(&b), Permission::Admin(2)).unwrap();
    let there = copy(&db, &b);
    let guest: PublicKey = node(3).device();
    // Beside the removal of who grants it.
    let given = there.grant(Slot::Key(guest), Permission::Write).unwrap();
    let removal = db.revoke(key_of(&b), REMOVE).unwrap();
    exchange(&db, &there);
    let told = db.audit(Seq(0), 10).unwrap();
    let ids: Vec<EntryId> = told.iter().map(|change| change.id).collect();
    assert_eq!(ids, [db.id().root(), grant.id, removal.id, given.id]);
    assert_eq!(told[1].changes, [SettingsOp::Set { slot: key_of(&b), permission: Permission::Admin(2) }]);
    assert_eq!(
        told.iter().map(|change| change.void.is_some()).collect::<Vec<_>>(),
        [false, false, false, true]
    );
    assert_eq!((told[3].author, db.void_count().unwrap()), (b.device(), 1));
    let page = db.audit(told[1].seq, 2).unwrap();
    assert_eq!(page.iter().map(|change| change.id).collect::<Vec<_>>(), [grant.id, removal.id]);
    let keys = db.keys().unwrap();
    let of = |slot: Slot| *keys.iter().find(|key| key.slot == slot).unwrap();
    assert_eq!((of(key_of(&b)).permission, of(key_of(&b)).entry), (None, removal.id));
    assert_eq!(of(key_of(&a)).by, created.recovery.public());
    assert!(keys.iter().all(|key| key.slot != Slot::Key(guest)), "what is void gives nothing");
}

#[test]
fn a_device_goes_on_with_a_key_of_its_own_making_and_only_reads_with_the_old_one() {
    let a = node(1);
    let db = a.create_database("x").unwrap().database;
    db.doc("d").set("x", 1).unwrap();
    let (rotation, made) = db.renew_key().unwrap();
    assert_eq!(db.author_key().unwrap(), made);
    assert_eq!(db.permission(&[made]).unwrap(), Some(Permission::Admin(1)));
    assert_eq!(db.permission(&[a.device()]).unwrap(), Some(Permission::Read), "peers know it by that key");
    db.doc("d").set("x", 2).unwrap();
    let log = db.log(2).unwrap();
    assert_eq!((log[0].author, log[1].id, log[1].settings.len()), (made, rotation.id, 2));
    assert_eq!(db.void_count().unwrap(), 0);
    // Peers are shown the key where it may do more.
    let proven: Vec<PublicKey> =
        a.keys_to_prove(Some(&db.id())).unwrap().iter().map(|key| key.public()).collect();
    assert_eq!(proven, [made]);
    let other = a.create_database("y").unwrap().database;
    assert_eq!(other.author_key().unwrap(), a.device());
    other.doc("d").set("x", 1).unwrap();
    assert!(a.keys_to_prove(Some(&other.id())).unwrap().is_empty());
    // Once more: the key that was made is revoked, since nobody knows the device by it.
    let (_, next) = db.renew_key().unwrap();
    assert_eq!(db.settings().unwrap().slot(&Slot::Key(made)), Some(None));
    assert_eq!(db.author_key().unwrap(), next);
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn set(n: u8, permission: Permission) -> SettingsOp {
    SettingsOp::Set { slot: Slot::Key(secret(n).public()), permission }
}

/// An entry of a key below others: settings, or a merge when there are none.
fn below(author: u8, ops: &[SettingsOp], parents: &[&Entry]) -> Entry {
    let highest = parents.iter().map(|parent| parent.header().height).max().unwrap();
    let mut ids: Vec<EntryId> = parents.iter().map(|parent| parent.id()).collect();
    ids.sort_unstable();
    let sections = if ops.is_empty() { Vec::new() } else { vec![SectionDraft::settings(ops, &[])] };
    let time = parents.iter().map(|parent| parent.header().time).max().unwrap();
    let draft = Draft {
        tree: Some(parents[0].tree()),
        parents: ids,
        height: highest.child().unwrap(),
        time: Time(time.0 + 1),
        sections,
        nonce: None,
    };
    draft.seal(&secret(author)).unwrap()
}

#[test]
fn what_was_judged_between_two_settings_of_one_admission_is_judged_again() {
    use Permission::{Admin, Write};
    let ladder = [set(0, Admin(0)), set(1, Admin(1)), set(2, Admin(2)), set(3, Admin(3))];
    let root =
        Draft::root(Nonce([7; 16]), Time::from_ms(1000), &[&[SettingsOp::Rules(1)], &ladder[..]].concat());
    let root = root.seal(&secret(0)).unwrap();
    let grant = below(1, &[set(9, Admin(5))], &[&root]);
    let top = below(0, &[set(9, Admin(5))], &[&root]);
    let lower = below(2, &[set(9, Write)], &[&top]);
    let made = below(9, &[set(8, Write)], &[&grant]);
    let merge = below(8, &[], &[&made]);
    // By this the demotion, which had not seen the first grant, gives way.
    let again = below(0, &[set(9, Admin(5))], &[&top]);
    let voids = |batches: &[&[&Entry]]| {
        let instance = node(1);
        for batch in batches {
            admit(&instance, root.tree(), batch);
        }
        let db = instance.database_by_id(root.tree());
        assert_eq!(db.entries().unwrap(), 7);
        let mut void: Vec<EntryId> =
            db.void_entries(Seq(0), 10).unwrap().into_iter().map(|entry| entry.id).collect();
        let snapshot = db.snapshot().unwrap();
        assert_eq!(snapshot.voids(Seq(0), 10).unwrap().len(), void.len());
        void.sort_unstable();
        void
    };
    let first = [&root, &grant, &top, &lower];
    let together = voids(&[&first, &[&made, &merge, &again]]);
    let one_by_one = voids(&[&first, &[&made], &[&merge], &[&again]]);
    let other_order = voids(&[&first, &[&again], &[&made, &merge]]);
    assert_eq!((&together, &one_by_one), (&other_order, &other_order));
}

#[test]
fn a_transaction_that_was_begun_before_its_author_was_removed_is_refused() {
    let (a, b) = two();
    let tx = b.begin().unwrap();
    assert_eq!(tx.doc("d").get("x").unwrap(), None);
    tx.doc("d").set("x", 1).unwrap();
    a.revoke(key_of(b.instance()), REMOVE).unwrap();
    exchange(&a, &b);
    assert!(tx.commit().is_err());
    assert_eq!(b.snapshot().unwrap().void_entries(), 0);
}
