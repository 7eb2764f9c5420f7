use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eid_core::{Permission, Slot};
use eid_store::{Backend, Memory};

use super::support::{env, node, node_over};
use crate::{DbError, Identity, Instance, PasswordCost, restore};

const CHEAP: PasswordCost = PasswordCost { memory_kib: 16, passes: 2, lanes: 1 };

fn backup(node: &Instance) -> Vec<u8> {
    let mut out = Vec::new();
    node.backup(&mut out, &mut |_| {}).unwrap();
    out
}

fn restored(backup: &[u8], identity: Identity, seed: u64) -> (Instance, crate::Restored) {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let restored = restore(&mut &backup[..], &*backend, &env(seed).0, identity, &mut |_| {}).unwrap();
    (node_over(&backend, seed), restored)
}

#[test]
fn a_copy_reads_everything_as_another_device_and_writes_once_it_may() {
    let node = node(1);
    let created = node.create_database("notes").unwrap();
    let db = created.database;
    db.doc("main").set("title", "kept").unwrap();
    // A key that took the place of the device's own in one database is no less its own.
    let (_, renewed) = db.renew_key().unwrap();
    node.rename(&db.id(), "diary").unwrap();
    let (copy, told) = restored(&backup(&node), Identity::New, 2);
    assert_eq!(told.device, Some(node.device()));
    assert_ne!(copy.device(), node.device());
    assert_eq!(copy.device_keys().len(), 1);
    assert!(node.device_keys().iter().any(|key| key.public() == renewed));
    let there = copy.database("diary").unwrap().unwrap();
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
    assert_eq!(there.doc("main").get_as::<String>("title").unwrap().as_deref(), Some("kept"));
    let refused = there.doc("main").set("title", "mine").unwrap_err();
    assert!(matches!(refused, DbError::NotPermitted(_)), "{refused}");
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
    let grant = eid_core::SettingsOp::Set { slot: Slot::Key(copy.device()), permission: Permission::Write };
    there.write_settings_as(&Arc::new(created.recovery), &[grant]).unwrap();
    there.doc("main").set("title", "mine").unwrap();
}

#[test]
fn the_same_device_goes_on_with_all_its_keys() {
    let node = node(1);
    let db = node.create_database("notes").unwrap().database;
    db.renew_key().unwrap();
    let (same, _) = restored(&backup(&node), Identity::Same, 2);
    let keys = |node: &Instance| node.device_keys().iter().map(|key| key.public()).collect::<Vec<_>>();
    assert_eq!(keys(&same), keys(&node));
    same.database("notes").unwrap().unwrap().doc("main").set("title", "mine").unwrap();
}

#[test]
fn users_names_and_preferences_travel() {
    let node = node(1);
    node.set_password_cost(CHEAP).unwrap();
    node.set_display_name("laptop").unwrap();
    let ada = node.create_user("ada", Some("correct horse battery")).unwrap();
    let db = ada.create_database("diary").unwrap().database;
    db.doc("main").set("title", "mine").unwrap();
    let mut preferences = ada.track(&db.id()).unwrap();
    preferences.sync.interval_seconds = Some(7);
    ada.set_preferences(&preferences).unwrap();
    let (copy, _) = restored(&backup(&node), Identity::New, 2);
    assert_eq!(copy.display_name().unwrap().as_deref(), Some("laptop"));
    assert!(matches!(copy.login("ada", Some("another")), Err(DbError::Login)));
    let there = copy.login("ada", Some("correct horse battery")).unwrap();
    assert_eq!((there.key().unwrap(), there.tracked().unwrap()), (ada.key().unwrap(), vec![preferences]));
    // A user's key is the user's, on whatever device.
    there.database("diary").unwrap().unwrap().doc("main").set("title", "still mine").unwrap();
}

#[test]
fn a_backup_that_is_made_while_others_write_is_a_prefix_of_what_they_wrote() {
    let node = node(1);
    let db = node.create_database("notes").unwrap().database;
    let done = AtomicBool::new(false);
    let backups: Vec<Vec<u8>> = std::thread::scope(|scope| {
        for writer in 0..2 {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                let mut n = 0u64;
                while !done.load(Ordering::Relaxed) {
                    db.doc("main").set(format!("w{writer}"), n).unwrap();
                    n += 1;
                }
            });
        }
        let begun = db.entries().unwrap();
        // However late the writers begin.
        while db.entries().unwrap() == begun {
            std::thread::yield_now();
        }
        let backups = (0..8).map(|_| backup(&node)).collect();
        done.store(true, Ordering::Relaxed);
        backups
    });
    let all: Vec<_> = super::support::entries(&db).iter().map(eid_core::Entry::id).collect();
    let mut longest = 0;
    for (backup, seed) in backups.iter().zip(2..) {
        let (copy, _) = restored(backup, Identity::New, seed);
        assert!(copy.store().fsck(false, &mut |_, _| {}).unwrap().is_clean());
        let there = copy.database("notes").unwrap().unwrap();
        let ids: Vec<_> = super::support::entries(&there).iter().map(eid_core::Entry::id).collect();
        assert_eq!(ids, all[..ids.len()]);
        longest = longest.max(ids.len());
    }
    assert!(longest > 1, "something was written before the last backup was made");
}
