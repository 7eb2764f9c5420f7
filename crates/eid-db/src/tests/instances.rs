use std::future::Future as _;
use std::sync::Arc;

use eid_core::{KeyMode, Permission, Slot};
use eid_store::{Backend, Memory};

use super::support::{copy, env, node, node_over};
use crate::{DbError, Instance, RedeemError};

#[test]
fn the_device_key_and_the_databases_are_there_after_reopening() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let first = node_over(&backend, 1);
    first.set_display_name("laptop").unwrap();
    let created = first.create_database("notes").unwrap();
    assert_ne!(created.recovery.public(), first.device());
    created.database.doc("d").set("a", 1).unwrap();
    let again = node_over(&backend, 2);
    assert_eq!(again.device(), first.device());
    assert_eq!(again.display_name().unwrap().as_deref(), Some("laptop"));
    let db = again.database("notes").unwrap().unwrap();
    assert_eq!(db.id(), created.database.id());
    assert_eq!(db.state_hash().unwrap(), created.database.state_hash().unwrap());
    assert_ne!(node(3).device(), first.device());
}

#[test]
fn a_database_is_found_by_id_by_name_and_by_the_beginning_of_its_id() {
    let node = node(1);
    let a = node.create_database("a").unwrap().database;
    let b = node.create_database("b").unwrap().database;
    let id = a.id().to_string();
    assert_eq!(node.database(&id).unwrap().unwrap().id(), a.id());
    assert_eq!(node.database("a").unwrap().unwrap().id(), a.id());
    assert_eq!(node.database(&id[..20]).unwrap().unwrap().id(), a.id());
    assert!(node.database("c").unwrap().is_none());
    assert!(node.database("bafyr4").unwrap().is_none(), "too short to name anything");
    let common = id.bytes().zip(b.id().to_string().bytes()).take_while(|(x, y)| x == y).count();
    if common >= 8 {
        assert!(matches!(node.database(&id[..8]), Err(DbError::Ambiguous { ids, .. }) if ids.len() == 2));
    }
    node.rename(&b.id(), "a").unwrap();
    assert!(matches!(node.database("a"), Err(DbError::Ambiguous { ids, .. }) if ids.len() == 2));
    assert_eq!(b.title().unwrap().as_deref(), Some("b"), "the title is shared, the name is not");
    node.forget(&b.id()).unwrap();
    assert_eq!(node.databases().unwrap().len(), 1);
    assert!(node.database(&b.id().to_string()).unwrap().is_none());
    assert!(matches!(node.create_database(""), Err(DbError::Name)));
}

#[test]
fn a_tracked_database_is_listed_before_anything_of_it_is_here() {
    let (a, b) = (node(1), node(2));
    let db = a.create_database("x").unwrap().database;
    let there = b.track(db.id(), "from a").unwrap();
    assert!(matches!(there.entries(), Err(DbError::NotHere)));
    assert!(matches!(there.doc("d").set("a", 1), Err(DbError::NotHere)));
    assert_eq!(b.databases().unwrap()[0].entries, 0);
    copy(&db, &b);
    assert_eq!(there.name().unwrap(), "from a");
    assert_eq!(there.title().unwrap().as_deref(), Some("x"));
    assert_eq!(b.databases().unwrap()[0].entries, 1);
}

#[test]
fn the_title_of_another_database_does_not_hide_a_name_that_was_given_here() {
    let (a, b) = (node(1), node(2));
    let own = b.create_database("notes").unwrap().database;
    let foreign = a.create_database("theirs").unwrap().database;
    let there = copy(&foreign, &b);
    assert_eq!(b.database("theirs").unwrap().unwrap().id(), there.id());
    foreign.set_title("notes").unwrap();
    copy(&foreign, &b);
    assert_eq!(there.name().unwrap(), "notes");
    assert_eq!(b.database("notes").unwrap().unwrap().id(), own.id());
}

#[test]
fn all_handles_of_a_database_wait_for_the_same_turn() {
    let node = node(1);
    let id = node.create_database("x").unwrap().database.id();
    let (one, other) = (node.database_by_id(id), node.database_by_id(id));
    // Handles of databases that are not here come and go meanwhile.
    for n in 0..200 {
        drop(node.database_by_id(eid_core::TreeId([n; 32])));
    }
    let ((), pending) = one.prepare_write(|tx| tx.doc("d").set("a", 1)).unwrap();
    let mut waiting = Box::pin(other.write_async(|tx| tx.doc("d").get_as::<u8>("a")));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    pending.commit().unwrap();
    let std::task::Poll::Ready(seen) = waiting.as_mut().poll(&mut context) else {
        panic!("its turn has come")
    };
    assert_eq!(seen.unwrap().0, Some(1));
}

#[test]
fn the_hash_of_the_state_tells_settings_and_data_apart() {
    let db = node(1).create_database("x").unwrap().database;
    let mut seen = vec![db.state_hash().unwrap()];
    let mut changed = |what: &str| {
        let hash = db.state_hash().unwrap();
        assert!(!seen.contains(&hash), "{what}");
        seen.push(hash);
    };
    db.doc("d").set("a", 1).unwrap();
    changed("a value");
    db.doc("d").set("a", 1.0).unwrap();
    changed("its type");
    db.doc("e").set("a", 1.0).unwrap();
    changed("another store");
    db.grant(Slot::Everyone, Permission::Read).unwrap();
    changed("a right");
    db.set_title("y").unwrap();
    changed("the title");
    // Writing what is there already, or writing and deleting, is not to be seen.
    let before = db.state_hash().unwrap();
    db.doc("d").set("a", 1.0).unwrap();
    db.doc("f").set("a", 1).unwrap();
    db.doc("f").delete("a").unwrap();
    assert_eq!(db.state_hash().unwrap(), before);
}

#[test]
fn an_invite_grants_the_joiner_once_for_each_use() {
    let a = node(1);
    let db = a.create_database("x").unwrap().database;
    let invite = a.create_invite(&db.id(), Permission::Write, Some(1), None).unwrap().public();
    let (b, c) = (node(2).device(), node(3).device());
    assert_eq!(a.redeem(&db.id(), &[invite], &b, "bea").unwrap(), Permission::Write);
    assert_eq!(db.permission(&[b]).unwrap(), Some(Permission::Write));
    // Coming again is not another use.
    let before = db.entries().unwrap();
    assert_eq!(a.redeem(&db.id(), &[invite], &b, "bea").unwrap(), Permission::Write);
    assert_eq!(db.entries().unwrap(), before);
    assert!(matches!(a.redeem(&db.id(), &[invite], &c, "c"), Err(RedeemError::UsedUp)));
    assert!(matches!(a.redeem(&db.id(), &[c], &c, "c"), Err(RedeemError::Unknown)));
    let elsewhere = a.create_database("y").unwrap().database;
    assert!(matches!(a.redeem(&elsewhere.id(), &[invite], &c, "c"), Err(RedeemError::Unknown)));
    assert_eq!(db.permission(&[c]).unwrap(), None);
    db.revoke(Slot::Key(b), KeyMode::Leave).unwrap();
    let open = a.create_invite(&db.id(), Permission::Read, None, None).unwrap().public();
    assert!(matches!(a.redeem(&db.id(), &[open], &b, "bea"), Err(RedeemError::Revoked)));
    assert_eq!(a.redeem(&db.id(), &[open], &c, "c").unwrap(), Permission::Read);
}

#[test]
fn an_invite_expires_and_only_an_admin_makes_one() {
    let (surroundings, clock) = env(1);
    let a = Instance::open(Arc::new(Memory::new()), surroundings).unwrap();
    let db = a.create_database("x").unwrap().database;
    let now = a.env().clock.now_ms();
    let invite = a.create_invite(&db.id(), Permission::Write, None, Some(now + 1000)).unwrap().public();
    let b = node(2);
    clock.advance(1000);
    assert!(matches!(a.redeem(&db.id(), &[invite], &b.device(), "b"), Err(RedeemError::Expired)));
    assert!(matches!(
        a.create_invite(&db.id(), Permission::Admin(0), None, None),
        Err(DbError::NotPermitted(_))
    ));
    db.grant(Slot::Key(b.device()), Permission::Write).unwrap();
    copy(&db, &b);
    assert!(matches!(b.create_invite(&db.id(), Permission::Read, None, None), Err(DbError::NotPermitted(_))));
}

#[test]
fn a_used_invite_does_not_give_back_what_an_admin_has_taken_away() {
    let (surroundings, clock) = env(1);
    let a = Instance::open(Arc::new(Memory::new()), surroundings).unwrap();
    let db = a.create_database("x").unwrap().database;
    let expires = a.env().clock.now_ms() + 1000;
    let invite = a.create_invite(&db.id(), Permission::Write, Some(1), Some(expires)).unwrap().public();
    let joiner = node(2).device();
    a.redeem(&db.id(), &[invite], &joiner, "b").unwrap();
    db.grant(Slot::Key(joiner), Permission::Read).unwrap();
    assert!(matches!(a.redeem(&db.id(), &[invite], &joiner, "b"), Err(RedeemError::UsedUp)));
    clock.advance(1000);
    assert!(matches!(a.redeem(&db.id(), &[invite], &joiner, "b"), Err(RedeemError::Expired)));
    assert_eq!(db.permission(&[joiner]).unwrap(), Some(Permission::Read));
}

#[test]
fn a_use_that_was_counted_before_a_crash_is_granted_without_another() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let a = node_over(&backend, 1);
    let db = a.create_database("x").unwrap().database;
    let invite = a.create_invite(&db.id(), Permission::Write, Some(1), None).unwrap().public();
    let joiner = node(2).device();
    // As after a crash between the count and the grant: another device takes the grant's place in the log, with the
    // row of the invite as it is while the grant is made.
    let row = [db.id().0, invite.0].concat();
    let invites = a.store().local().namespace("invites");
    let counted = Arc::new(std::sync::Mutex::new(None));
    let at_grant = Arc::clone(&counted);
    let within = move |_: &eid_store::Admitted| *at_grant.lock().unwrap() = invites.get(&row).unwrap();
    let watch = a.store().on_admitted(Arc::new(within));
    a.redeem(&db.id(), &[invite], &joiner, "b").unwrap();
    drop(watch);
    let counted = counted.lock().unwrap().take().unwrap();
    let other: Arc<dyn Backend> = Arc::new(Memory::new());
    let b = node_over(&other, 1);
    let again = b.create_database("x").unwrap().database;
    let key = b.create_invite(&again.id(), Permission::Write, Some(1), None).unwrap().public();
    b.store().local().namespace("invites").put(&[again.id().0, key.0].concat(), counted).unwrap();
    assert_eq!(again.permission(&[joiner]).unwrap(), None);
    assert_eq!(b.redeem(&again.id(), &[key], &joiner, "b").unwrap(), Permission::Write);
    assert!(matches!(b.redeem(&again.id(), &[key], &node(3).device(), "c"), Err(RedeemError::UsedUp)));
}
