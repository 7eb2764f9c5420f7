use std::collections::BTreeMap;
use std::sync::Arc;

use eid_core::{KeyMode, Permission, PublicKey, SecretKey, Slot, TreeId};
use eid_store::{Backend, Memory};

use super::support::{copy, env, node, node_over};
use crate::limits::{REQUESTS_MAX, REQUESTS_PER_DATABASE_MAX};
use crate::{
    ANY_LEVEL, AskAnswer, Asking, Database, DbError, Instance, RedeemError, RequestPolicy, RequestStatus,
};

fn key(n: u8) -> PublicKey {
    SecretKey::from_seed([n; 32]).public()
}

fn ask(node: &Instance, database: TreeId, key: PublicKey, permission: Permission) -> AskAnswer {
    let metadata = BTreeMap::from([("message".to_owned(), "it is me".to_owned())]);
    let asking = Asking { database, key, permission, name: "Ben", metadata: &metadata };
    node.ask(&asking, node.store().tree(&database).unwrap().is_some()).unwrap()
}

fn pending(answer: AskAnswer) -> ([u8; 16], bool) {
    let AskAnswer::Pending { id, is_new } = answer else { panic!("{answer:?}") };
    (id, is_new)
}

fn held(db: &Database, key: PublicKey) -> Option<Permission> {
    db.permission(&[key]).unwrap()
}

#[test]
fn a_request_is_remembered_once_and_what_is_approved_is_exactly_that_key_and_level() {
    let disk: Arc<dyn Backend> = Arc::new(Memory::new());
    let node = node_over(&disk, 1);
    let db = node.create_database("x").unwrap().database;
    let (ben, eve) = (key(7), key(8));
    let (id, is_new) = pending(ask(&node, db.id(), ben, Permission::Write));
    assert!(is_new);
    assert_eq!(
        pending(ask(&node, db.id(), ben, Permission::Write)),
        (id, false),
        "a repeat is the same request"
    );
    assert_eq!(
        pending(ask(&node, db.id(), ben, Permission::Read)),
        (id, true),
        "unless it is for something else"
    );
    assert_ne!(pending(ask(&node, db.id(), eve, Permission::Write)).0, id);
    drop((db, node));

    let node = node_over(&disk, 2);
    let all = node.requests().unwrap();
    assert_eq!(all.len(), 2, "repeats of one key do not pile up, and a restart loses nothing");
    let request = node.request(&id).unwrap();
    let db = node.database_by_id(request.database);
    assert_eq!(
        (request.key, request.permission, request.status),
        (ben, Permission::Read, RequestStatus::Pending)
    );
    assert_eq!((request.name.as_str(), request.metadata["message"].as_str()), ("Ben", "it is me"));
    let done = db.approve_request(&id, None).unwrap();
    assert_eq!(done.status, RequestStatus::Approved(Permission::Read));
    assert_eq!((held(&db, ben), held(&db, eve)), (Some(Permission::Read), None));
    assert_eq!(ask(&node, db.id(), ben, Permission::Read), AskAnswer::Granted(Permission::Read));
    // More than was approved is a matter for an admin again, who may give something else.
    let (again, is_new) = pending(ask(&node, db.id(), ben, Permission::Admin(5)));
    assert_eq!((again, is_new), (id, true));
    db.approve_request(&id, Some(Permission::Write)).unwrap();
    assert_eq!(held(&db, ben), Some(Permission::Write));
    assert_eq!(ask(&node, db.id(), ben, Permission::Admin(5)), AskAnswer::Granted(Permission::Write));
    // And so it is when it was taken away.
    db.revoke(Slot::Key(ben), KeyMode::Remove { fence: None }).unwrap();
    assert_eq!(pending(ask(&node, db.id(), ben, Permission::Write)), (id, true));
}

#[test]
fn who_was_rejected_has_nothing_and_is_told_so() {
    let node = node(1);
    let db = node.create_database("x").unwrap().database;
    let (id, _) = pending(ask(&node, db.id(), key(7), Permission::Write));
    let entries = db.entries().unwrap();
    assert_eq!(db.reject_request(&id).unwrap().status, RequestStatus::Rejected);
    assert_eq!((held(&db, key(7)), db.entries().unwrap()), (None, entries));
    assert_eq!(ask(&node, db.id(), key(7), Permission::Read), AskAnswer::Rejected { id });
}

#[test]
fn what_may_not_be_decided_says_why_and_changes_nothing() {
    let (a, b) = (node(1), node(2));
    let db = a.create_database("x").unwrap().database;
    let other = a.create_database("y").unwrap().database;
    db.grant(Slot::Key(b.device()), Permission::Write).unwrap();
    let there = copy(&db, &b);
    let (id, _) = pending(ask(&a, db.id(), key(7), Permission::Write));
    let (theirs, _) = pending(ask(&b, db.id(), key(7), Permission::Write));
    assert_ne!(id, theirs, "an id means nothing on another device");
    let entries = db.entries().unwrap();
    assert!(matches!(there.approve_request(&theirs, None), Err(DbError::NotPermitted(_))), "it is no admin");
    assert!(matches!(there.reject_request(&theirs), Err(DbError::NotPermitted(_))));
    assert!(matches!(db.approve_request(&[0; 16], None), Err(DbError::NoRequest)));
    assert!(
        matches!(other.approve_request(&id, None), Err(DbError::NoRequest)),
        "it is about another database"
    );
    // Nor a device of which the database knows nothing.
    let c = node(3);
    let unknown = copy(&db, &c);
    let (id_there, _) = pending(ask(&c, db.id(), key(7), Permission::Write));
    assert!(matches!(unknown.approve_request(&id_there, None), Err(DbError::NotPermitted(_))));
    assert_eq!(unknown.entries().unwrap(), entries);
    assert_eq!(c.request(&id_there).unwrap().status, RequestStatus::Pending);
    let above = db.approve_request(&id, Some(Permission::Admin(0)));
    assert!(matches!(above, Err(DbError::NotPermitted(_))), "nobody gives more than he has");
    assert_eq!(a.request(&id).unwrap().status, RequestStatus::Pending);
    assert_eq!((db.entries().unwrap(), there.entries().unwrap()), (entries, entries));
    db.approve_request(&id, None).unwrap();
    let entries = db.entries().unwrap();
    for twice in [db.approve_request(&id, None), db.reject_request(&id)] {
        let status = RequestStatus::Approved(Permission::Write);
        assert!(matches!(twice, Err(DbError::RequestDecided { status: found }) if found == status));
    }
    assert_eq!((db.entries().unwrap(), held(&db, key(7))), (entries, Some(Permission::Write)));
}

#[test]
fn who_asks_to_be_an_admin_of_whatever_level_is_one_below_who_approves() {
    let node = node(1);
    let db = node.create_database("x").unwrap().database;
    let (id, _) = pending(ask(&node, db.id(), key(7), ANY_LEVEL));
    db.approve_request(&id, None).unwrap();
    assert_eq!(held(&db, key(7)), Some(Permission::Admin(2)));
}

#[test]
fn a_user_approves_with_a_key_of_his_own_where_the_device_may_not() {
    let node = node(1);
    let ada = node.create_user("ada", None).unwrap();
    let db = ada.create_database("x").unwrap().database;
    let (id, _) = pending(ask(&node, db.id(), key(7), Permission::Write));
    let of_device = node.database_by_id(db.id());
    assert!(matches!(of_device.approve_request(&id, None), Err(DbError::NotPermitted(_))));
    db.approve_request(&id, None).unwrap();
    assert_eq!(held(&db, key(7)), Some(Permission::Write));
}

#[test]
fn absent_closed_and_full_answer_as_pending_does_and_remember_nothing() {
    let node = node(1);
    let db = node.create_database("x").unwrap().database;
    node.set_request_policy(&db.id(), RequestPolicy::Closed).unwrap();
    let (closed, is_new) = pending(ask(&node, db.id(), key(7), Permission::Read));
    assert!(!is_new);
    let absent = TreeId([9; 32]);
    let (id, is_new) = pending(ask(&node, absent, key(7), Permission::Read));
    assert!(!is_new && id != closed);
    assert_eq!(pending(ask(&node, absent, key(7), Permission::Read)).0, id, "it is the same each time");
    assert!(node.requests().unwrap().is_empty());

    node.set_request_policy(&db.id(), RequestPolicy::Manual).unwrap();
    let (open, is_new) = pending(ask(&node, db.id(), key(7), Permission::Read));
    assert_eq!((open, is_new), (closed, true), "whether it is closed cannot be told from the id");
    for n in 0..20 {
        pending(ask(&node, db.id(), key(100 + n), Permission::Read));
    }
    let of = |tree: TreeId| {
        let all = node.requests().unwrap();
        (all.iter().filter(|request| request.database == tree).count(), all.len())
    };
    assert_eq!(of(db.id()), (REQUESTS_PER_DATABASE_MAX, REQUESTS_PER_DATABASE_MAX));
    let second = node.create_database("y").unwrap().database;
    for n in 0..20 {
        pending(ask(&node, second.id(), key(100 + n), Permission::Read));
    }
    assert_eq!(of(second.id()), (REQUESTS_MAX - REQUESTS_PER_DATABASE_MAX, REQUESTS_MAX));
    // What was decided makes room.
    db.reject_request(&open).unwrap();
    let (_, is_new) = pending(ask(&node, db.id(), key(50), Permission::Read));
    assert!(is_new && matches!(node.request(&open), Err(DbError::NoRequest)));
    node.forget(&db.id()).unwrap();
    assert_eq!(of(db.id()).0, 0);
}

#[test]
fn whoever_holds_an_open_invite_may_read_in_a_session_until_it_is_over_or_its_key_was_revoked() {
    let (environment, clock) = env(1);
    let a = Instance::open(Arc::new(Memory::new()), environment).unwrap();
    let b = node(2);
    let db = a.create_database("x").unwrap().database;
    let now = a.env().clock.now_ms();
    let invite = db.open_invite(Permission::Write, Some(now + 1000)).unwrap();
    let (bearer, device, other) = (invite.public(), b.device(), key(8));
    let in_session = |keys: &[PublicKey]| db.permission_in_session(keys).unwrap();
    assert_eq!(in_session(&[other, bearer]), Some(Permission::Read), "it is not more before it has joined");
    assert_eq!(in_session(&[other, key(9)]), None);
    let redeem = |invite: &PublicKey, who: &PublicKey| a.redeem(&db.id(), &[*invite], who, "b");
    assert_eq!(redeem(&bearer, &device).unwrap(), Permission::Write);
    assert_eq!(held(&db, device), Some(Permission::Write), "who opened it grants it");
    // Another device that serves the database grants nothing: whoever holds the invite joins by itself.
    let second = db.open_invite(Permission::Read, None).unwrap().public();
    let c = node(3);
    let served = copy(&db, &c);
    assert_eq!(c.redeem(&db.id(), &[second], &other, "d").unwrap(), Permission::Read);
    assert_eq!(held(&served, other), None);
    // Nor does who opened it, once it is withdrawn.
    db.withdraw_invite(second, KeyMode::Leave).unwrap();
    assert!(redeem(&second, &other).is_err());
    assert_eq!((held(&db, other), in_session(&[other, second])), (None, None));

    clock.advance(1000);
    assert_eq!(in_session(&[other, bearer]), None);
    assert!(matches!(redeem(&bearer, &other), Err(RedeemError::Expired)));
    assert_eq!(held(&db, other), None);
    assert_eq!(redeem(&bearer, &device).unwrap(), Permission::Write, "who has joined needs no date");
    let third = db.open_invite(Permission::Read, None).unwrap().public();
    db.revoke(Slot::Key(device), KeyMode::Remove { fence: None }).unwrap();
    assert_eq!(in_session(&[device, third]), None);
    assert!(matches!(redeem(&third, &device), Err(RedeemError::Revoked)));
    assert_eq!(in_session(&[key(9), third]), Some(Permission::Read));
}
