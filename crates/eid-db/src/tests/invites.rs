use std::sync::Arc;

use eid_core::{
    Draft, Height, Invalid, KeyMode, Permission, RULES_FIRST, Refusal, SecretKey, SectionDraft, SettingsOp,
    Slot, Time,
};
use eid_store::Verdict;
use serde_json::json;

use super::support::{admit, copy, exchange, node};
use crate::{DbError, Denied, EntryStanding, Refused};

const REMOVE: KeyMode = KeyMode::Remove { fence: None };

fn denied(error: &DbError) -> Option<&Denied> {
    match error {
        DbError::NotPermitted(refused) => match &**refused {
            Refused::Rule(denied) => Some(denied),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn whoever_holds_the_key_of_an_open_invite_joins_without_an_admin() {
    let (a, b, c) = (node(1), node(2), node(3));
    let db = a.create_database("x").unwrap().database;
    assert_eq!(db.settings().unwrap().rules(), RULES_FIRST);
    let invite = db.open_invite(Permission::Write, Some(5)).unwrap();
    assert_eq!(db.settings().unwrap().rules(), 2);
    let [open] = db.open_invites().unwrap()[..] else { panic!("one is open") };
    assert_eq!((open.key, open.permission, open.expires_ms), (invite.public(), Permission::Write, Some(5)));
    // It is nobody's right, and not among the keys.
    assert_eq!(db.permission(&[invite.public()]).unwrap(), None);
    assert!(db.keys().unwrap().iter().all(|key| !matches!(key.slot, Slot::Invite(_))));

    let there = copy(&db, &b);
    assert!(matches!(there.doc("d").set("b", 1), Err(DbError::NotPermitted(_))));
    there.join_by(&invite, Permission::Write).unwrap();
    there.doc("d").set("b", 1).unwrap();
    // A third has it from the second, and takes less; the expiry is for who serves, and decides nothing here.
    let third = copy(&there, &c);
    third.join_by(&invite, Permission::Read).unwrap();
    assert!(matches!(third.doc("d").set("c", 1), Err(DbError::NotPermitted(_))));
    exchange(&there, &third);
    exchange(&db, &third);
    exchange(&db, &there);
    assert_eq!(db.doc("d").to_json().unwrap(), json!({"b": 1}));
    let settings = db.settings().unwrap();
    let of = |key| settings.slot(&Slot::Key(key)).flatten();
    assert_eq!((of(b.device()), of(c.device())), (Some(Permission::Write), Some(Permission::Read)));
    assert_eq!(db.state_hash().unwrap(), third.state_hash().unwrap());
    // The second invite needs no other rules.
    let height = db.height().unwrap().0;
    db.open_invite(Permission::Read, None).unwrap();
    assert_eq!((db.height().unwrap().0, db.open_invites().unwrap().len()), (height + 1, 2));
}

#[test]
fn a_join_that_the_settings_do_not_allow_says_why_and_writes_nothing() {
    let (a, b) = (node(1), node(2));
    let db = a.create_database("x").unwrap().database;
    let invite = db.open_invite(Permission::Read, None).unwrap();
    let there = copy(&db, &b);
    let entries = there.entries().unwrap();
    let stranger = SecretKey::from_seed([9; 32]);
    let cases = [
        (there.join_by(&stranger, Permission::Read), "is not open"),
        (there.join_by(&invite, Permission::Write), "gives only read"),
        (db.join_by(&invite, Permission::Read), "so that no invite can"),
    ];
    for (refused, sentence) in cases {
        let error = refused.unwrap_err();
        assert!(denied(&error).is_some() && error.to_string().contains(sentence), "{error}");
    }
    assert!(matches!(there.join_by(&invite, Permission::Admin(3)), Err(DbError::InviteOfAdmin)));
    assert!(matches!(db.open_invite(Permission::Admin(3), None), Err(DbError::InviteOfAdmin)));
    assert!(matches!(there.open_invite(Permission::Read, None), Err(DbError::NotPermitted(_))));
    assert_eq!(there.entries().unwrap(), entries);
}

#[test]
fn a_removed_key_does_not_come_back_by_an_invite_that_is_still_open() {
    let (a, b) = (node(1), node(2));
    let db = a.create_database("x").unwrap().database;
    let invite = db.open_invite(Permission::Write, None).unwrap();
    let there = copy(&db, &b);
    there.join_by(&invite, Permission::Write).unwrap();
    exchange(&db, &there);
    db.revoke(Slot::Key(b.device()), REMOVE).unwrap();
    exchange(&db, &there);
    let error = there.join_by(&invite, Permission::Write).unwrap_err();
    assert!(matches!(denied(&error), Some(Denied::Taken { joiner, .. }) if *joiner == b.device()), "{error}");
}

#[test]
fn what_somebody_wrote_who_joined_beside_the_end_of_an_invite_has_no_effect_until_that_is_void() {
    let (a, b, c) = (node(1), node(2), node(3));
    let created = a.create_database("x").unwrap();
    let db = created.database;
    db.grant(Slot::Key(c.device()), Permission::Admin(2)).unwrap();
    let invite = db.open_invite(Permission::Write, None).unwrap();
    let there = copy(&db, &b);
    let other = copy(&db, &c);
    let joined = there.join_by(&invite, Permission::Write).unwrap().id;
    there.doc("d").set("late", 1).unwrap();
    let late = there.tips().unwrap()[0];
    let withdrawn = other.withdraw_invite(invite.public(), REMOVE).unwrap().id;
    exchange(&there, &other);
    exchange(&db, &other);
    for replica in [&db, &there, &other] {
        assert_eq!(replica.doc("d").to_json().unwrap(), json!({}));
        for id in [joined, late] {
            assert!(matches!(replica.standing(&id).unwrap(), EntryStanding::Void(_)));
        }
        assert_eq!(replica.settings().unwrap().slot(&Slot::Key(b.device())), None);
        assert_eq!(replica.open_invites().unwrap(), []);
        assert_eq!(replica.state_hash().unwrap(), db.state_hash().unwrap());
    }
    // Whoever withdrew it is removed, and what he had not seen is kept: it was his doing that is void.
    let recovery = Arc::new(created.recovery);
    let fence = KeyMode::Remove { fence: Some(vec![late]) };
    let op = SettingsOp::Revoke { slot: Slot::Key(c.device()), mode: fence };
    db.write_settings_as(&recovery, &[op]).unwrap();
    assert!(matches!(db.standing(&withdrawn).unwrap(), EntryStanding::Void(_)));
    assert_eq!(db.doc("d").to_json().unwrap(), json!({"late": 1}));
    let fresh = copy(&db, &node(4));
    assert_eq!(fresh.doc("d").to_json().unwrap(), json!({"late": 1}));
    assert_eq!(fresh.state_hash().unwrap(), db.state_hash().unwrap());
}

#[test]
fn a_join_with_a_proof_for_another_database_or_key_is_refused_by_everybody() {
    let a = node(1);
    let db = a.create_database("x").unwrap().database;
    let elsewhere = a.create_database("y").unwrap().database;
    let invite = db.open_invite(Permission::Write, None).unwrap();
    let (joiner, thief) = (SecretKey::from_seed([8; 32]), SecretKey::from_seed([9; 32]));
    let entry = |author: &SecretKey, op: SettingsOp| {
        let draft = Draft {
            tree: Some(db.id()),
            parents: db.tips().unwrap(),
            height: Height(db.height().unwrap().0 + 1),
            time: Time(u64::MAX),
            sections: vec![SectionDraft::settings(&[op], &[])],
            nonce: None,
        };
        draft.seal(author).unwrap()
    };
    let good = SettingsOp::join(&invite, &db.id(), &joiner.public(), Permission::Write);
    let foreign = SettingsOp::join(&invite, &elsewhere.id(), &joiner.public(), Permission::Write);
    for bad in [entry(&thief, good.clone()), entry(&joiner, foreign)] {
        let [Verdict::Refused(refusal)] = &admit(&a, db.id(), &[&bad])[..] else { panic!("it is refused") };
        assert_eq!(*refusal, Refusal::Invalid(Invalid::JoinProof));
    }
    assert!(matches!(admit(&a, db.id(), &[&entry(&joiner, good)])[..], [Verdict::Admitted(_)]));
}
