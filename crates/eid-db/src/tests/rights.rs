use std::sync::Arc;

use eid_core::{
    Draft, Entry, Height, Invalid, KeyMode, Nonce, Payload, Permission, Refusal, SecretKey, SectionDraft,
    SettingsOp, Slot, StoreName, Time,
};
use eid_store::Verdict;

use super::support::{admit, copy, entries, exchange, node};
use crate::{Database, DbError};

/// An entry on top of everything, signed by any key: what a hostile peer would send.
fn forged(db: &Database, author: &SecretKey, sections: Vec<SectionDraft>) -> Entry {
    let height = Height(db.height().unwrap().0 + 1);
    let draft = Draft {
        tree: Some(db.id()),
        parents: db.tips().unwrap(),
        height,
        time: Time(u64::MAX),
        sections,
        nonce: None,
    };
    draft.seal(author).unwrap()
}

fn data() -> Vec<SectionDraft> {
    let payload = Payload::encode("doc", b"", &[&[0x80][..]]);
    vec![SectionDraft { store: StoreName::new("d").unwrap(), enc: None, payload }]
}

fn not_permitted(verdicts: &[Verdict]) -> bool {
    let refusal = Refusal::Invalid(Invalid::NotPermitted);
    verdicts.iter().all(|verdict| *verdict == Verdict::Refused(refusal.clone()))
}

#[test]
fn entries_without_a_right_are_refused_and_what_builds_on_them_too() {
    let a = node(1);
    let db = a.create_database("x").unwrap().database;
    let stranger = SecretKey::from_seed([9; 32]);
    let before = db.state_hash().unwrap();
    let entry = forged(&db, &stranger, data());
    assert!(not_permitted(&admit(&a, db.id(), &[&entry])));
    let merge = forged(&db, &stranger, Vec::new());
    assert!(not_permitted(&admit(&a, db.id(), &[&merge])));
    let child = Draft {
        tree: Some(db.id()),
        parents: vec![entry.id()],
        height: Height(entry.header().height.0 + 1),
        time: Time(u64::MAX),
        sections: data(),
        nonce: None,
    };
    let child = child.seal(&a.device_key()).unwrap();
    let verdicts = admit(&a, db.id(), &[&entry, &child]);
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Refused(_))), "{verdicts:?}");
    assert_eq!(db.entries().unwrap(), 1);
    assert_eq!(db.state_hash().unwrap(), before);
}

#[test]
fn readers_do_not_write_writers_do_not_change_settings_and_a_revoked_key_does_nothing() {
    let (a, b) = (node(1), node(2));
    let db = a.create_database("x").unwrap().database;
    let key = Slot::Key(b.device());
    db.grant(key, Permission::Read).unwrap();
    let there = copy(&db, &b);
    assert!(matches!(there.doc("d").set("a", 1), Err(DbError::NotPermitted(_))));
    db.grant(key, Permission::Write).unwrap();
    copy(&db, &b);
    there.doc("d").set("a", 1).unwrap();
    assert!(matches!(there.grant(Slot::Everyone, Permission::Read), Err(DbError::NotPermitted(_))));
    assert!(matches!(there.set_title("mine"), Err(DbError::NotPermitted(_))));
    exchange(&db, &there);
    db.revoke(key, KeyMode::Remove { fence: None }).unwrap();
    copy(&db, &b);
    let refused = there.entries().unwrap();
    assert!(matches!(there.doc("d").set("a", 2), Err(DbError::NotPermitted(_))));
    assert_eq!(there.entries().unwrap(), refused);
    assert_eq!(db.permission(&[b.device()]).unwrap(), None);
    assert_eq!(db.slots().unwrap().len(), 3);
}

#[test]
fn admins_act_only_below_themselves() {
    let (a, b) = (node(1), node(2));
    let created = a.create_database("x").unwrap();
    let db = created.database;
    let recovery = Slot::Key(created.recovery.public());
    let leave = || KeyMode::Leave;
    assert!(matches!(db.revoke(recovery, leave()), Err(DbError::NotPermitted(_))), "a stronger admin");
    assert!(matches!(db.grant(Slot::Key(b.device()), Permission::Admin(0)), Err(DbError::NotPermitted(_))));
    db.grant(Slot::Key(b.device()), Permission::Admin(1)).unwrap();
    assert!(matches!(db.revoke(Slot::Key(b.device()), leave()), Err(DbError::NotPermitted(_))), "an equal");
    let there = copy(&db, &b);
    // Stepping down is one's own affair.
    there.grant(Slot::Key(b.device()), Permission::Admin(5)).unwrap();
    exchange(&db, &there);
    // The recovery key revokes the weaker one; the device cannot bring back what a stronger one revoked.
    let recovery = Arc::new(created.recovery);
    let revoke = SettingsOp::Revoke { slot: Slot::Key(b.device()), mode: leave() };
    db.write_settings_as(&recovery, &[revoke]).unwrap();
    assert!(matches!(db.grant(Slot::Key(b.device()), Permission::Read), Err(DbError::NotPermitted(_))));
}

#[test]
fn an_explicit_slot_overrides_the_one_for_everyone() {
    let (a, b, c) = (node(1), node(2), node(3));
    let db = a.create_database("x").unwrap().database;
    db.grant(Slot::Everyone, Permission::Write).unwrap();
    let there = copy(&db, &b);
    there.doc("d").set("a", 1).unwrap();
    db.revoke(Slot::Key(c.device()), KeyMode::Leave).unwrap();
    let elsewhere = copy(&db, &c);
    assert!(matches!(elsewhere.doc("d").set("a", 1), Err(DbError::NotPermitted(_))));
    assert_eq!(db.permission(&[c.device()]).unwrap(), None);
    assert_eq!(db.permission(&[c.device(), b.device()]).unwrap(), Some(Permission::Write));
}

#[test]
fn all_operations_of_a_settings_entry_stand_or_fall_together() {
    let a = node(1);
    let created = a.create_database("x").unwrap();
    let db = created.database;
    let ops = [
        SettingsOp::Set { slot: Slot::Everyone, permission: Permission::Read },
        SettingsOp::Revoke { slot: Slot::Key(created.recovery.public()), mode: KeyMode::Leave },
    ];
    assert!(matches!(db.write_settings(&ops), Err(DbError::NotPermitted(_))));
    assert_eq!(db.permission(&[node(5).device()]).unwrap(), None);
}

#[test]
fn a_root_that_takes_away_is_refused() {
    let (a, key) = (node(1), SecretKey::from_seed([4; 32]));
    let ops = [
        SettingsOp::Rules(1),
        SettingsOp::Set { slot: Slot::Key(key.public()), permission: Permission::Admin(0) },
        SettingsOp::Revoke { slot: Slot::Everyone, mode: KeyMode::Leave },
    ];
    let root = Draft::root(Nonce([1; 16]), Time(1), &ops).seal(&key).unwrap();
    assert!(not_permitted(&admit(&a, root.tree(), &[&root])));
    assert!(a.databases().unwrap().is_empty());
    let root = Draft::root(Nonce([1; 16]), Time(1), &ops[..2]).seal(&key).unwrap();
    assert!(matches!(admit(&a, root.tree(), &[&root])[..], [Verdict::Admitted(_)]));
    assert_eq!(entries(&a.database_by_id(root.tree())).len(), 1);
}
