//! What others may add to the registry and to stores, and what that does to an encrypted store or a plain one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eid_core::{Entry, EntryId, StoreName};
use eid_store::Offer;
use proptest::prelude::*;
use serde_json::json;

use super::support::{causal_order, copy, entries, exchange, node, two};
use crate::kind::registry::{self, RegistryOp};
use crate::{Database, DbError, PasswordCost, PasswordStore};

fn cost(memory_kib: u32) -> PasswordCost {
    PasswordCost { memory_kib, passes: 1, lanes: 1 }
}

fn vault(db: &Database) -> PasswordStore {
    db.password_store("vault").with_cost(cost(16))
}

/// A config of somebody who knows no password, or has one of their own.
fn forged(db: &Database, key: u8, memory_kib: u32, replaces: Vec<[u8; 32]>) -> Bytes {
    let place = (&db.id(), &StoreName::new("vault").unwrap());
    crate::sealed::tests_config(place, &crate::sealed::tests_key(key), "not this", cost(memory_kib), replaces)
}

fn add(db: &Database, configs: Vec<Bytes>) {
    db.write(|tx| {
        configs.into_iter().try_for_each(|config| {
            crate::registry::stage(tx, &RegistryOp::Encryption { store: "vault".to_owned(), config })
        })
    })
    .unwrap();
}

fn configs(db: &Database) -> Vec<Bytes> {
    let mut found = Vec::new();
    crate::registry::each_encryption(&db.snapshot().unwrap(), Some("vault"), &mut |_, config| {
        found.push(config);
    })
    .unwrap();
    found
}

#[test]
fn costly_configs_of_others_do_not_come_before_the_right_one() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("a", 1).unwrap();
    exchange(&a, &b);
    let real = *blake3::hash(&configs(&b)[0]).as_bytes();
    add(&b, (10..30).map(|key| forged(&b, key, 60, vec![real])).collect());
    exchange(&a, &b);
    // Where nobody has opened it before.
    vault(&b).unlock("p").unwrap();
    assert_eq!(b.doc("vault").to_json().unwrap(), json!({"a": 1}));
    assert!(matches!(vault(&b).unlock("wrong"), Err(DbError::UnlockUnfinished { .. })));
}

#[test]
fn a_password_is_found_by_calling_again_however_many_configs_others_have_added() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("a", 1).unwrap();
    exchange(&a, &b);
    let real = *blake3::hash(&configs(&b)[0]).as_bytes();
    // Cheaper ones: eight of them are as much as one call pays.
    add(&b, (10..60).map(|key| forged(&b, key, 8, vec![real])).collect());
    exchange(&a, &b);
    let (mut calls, mut tried_before) = (0, 0);
    loop {
        calls += 1;
        match vault(&b).unlock("p") {
            Ok(_) => break,
            Err(DbError::UnlockUnfinished { tried, left, .. }) => {
                assert!(tried > tried_before && tried + left == 51, "{tried} of {left}");
                tried_before = tried;
            }
            Err(error) => panic!("{error}"),
        }
        // Another password between does not lose the place.
        assert!(vault(&b).unlock("wrong").is_err());
        assert!(calls < 20, "it goes on");
    }
    assert_eq!(calls, 7);
    assert_eq!(b.doc("vault").to_json().unwrap(), json!({"a": 1}));
    // Changing it is for all that it opens, and so not before every config was tried.
    for (old, fresh) in [("p", "q"), ("q", "p")] {
        let unfinished = |done: Result<(), DbError>| matches!(done, Err(DbError::UnlockUnfinished { .. }));
        let calls = (1..20).find(|_| !unfinished(vault(&b).change_password(old, fresh)));
        assert!(calls > Some(1), "{old}: {calls:?}");
        vault(&b).lock().unwrap();
        vault(&b).unlock(fresh).unwrap();
    }
    // What opened is tried first from then on.
    vault(&b).lock().unwrap();
    vault(&b).unlock("p").unwrap();
    vault(&b).lock().unwrap();
    let mut last = vault(&b).unlock("wrong").unwrap_err();
    while matches!(last, DbError::UnlockUnfinished { .. }) {
        assert!(last.is_transient());
        last = vault(&b).unlock("wrong").unwrap_err();
    }
    assert!(matches!(last, DbError::WrongPassword { .. }) && !last.is_transient());
}

#[test]
fn of_equally_costly_configs_those_that_were_replaced_are_tried_last() {
    let (a, b) = two();
    vault(&a).create("0").unwrap();
    for n in 0..20 {
        vault(&a).change_password(&n.to_string(), &(n + 1).to_string()).unwrap();
    }
    exchange(&a, &b);
    assert_eq!(configs(&b).len(), 21);
    // One call pays for a few of them.
    assert!(matches!(vault(&b).unlock("none"), Err(DbError::UnlockUnfinished { tried: 4, left: 17, .. })));
    vault(&b).unlock("20").unwrap();
}

#[test]
fn a_config_that_comes_after_plain_entries_leaves_the_store_plain() {
    let (a, b) = two();
    a.doc("vault").set("a", 1).unwrap();
    exchange(&a, &b);
    add(&b, vec![forged(&b, 9, 8, vec![])]);
    exchange(&a, &b);
    let c = copy(&a, &node(7));
    for db in [&a, &b, &c] {
        assert_eq!(db.doc("vault").get_as::<u8>("a").unwrap(), Some(1));
        assert_eq!(db.kind_of("vault").unwrap().as_deref(), Some("doc"));
        assert_eq!(vault(db).status().unwrap(), crate::EncryptionStatus::default());
        assert!(!vault(db).is_encrypted().unwrap() && !db.registry().list().unwrap()[0].encrypted);
        assert!(matches!(vault(db).unlock("not this"), Err(DbError::NotEncrypted { .. })));
        assert!(matches!(vault(db).create("p"), Err(DbError::WrongKind { wanted: "encrypted", .. })));
    }
    a.doc("vault").set("more", 2).unwrap();
    b.doc("vault").set("here", 3).unwrap();
    exchange(&a, &b);
    assert_eq!(a.doc("vault").to_json().unwrap(), json!({"a": 1, "more": 2, "here": 3}));
    // An older version says the same, and so does one that was encrypted first.
    let then = a.tips().unwrap();
    a.doc("vault").set("more", 4).unwrap();
    assert_eq!(a.at(&then).unwrap().doc("vault").get_as::<u8>("more").unwrap(), Some(2));
}

/// Whether a config of the store has no plain entry among its ancestors, worked out from all of them.
fn reference(all: &[Entry]) -> bool {
    let parents: BTreeMap<EntryId, &[EntryId]> =
        all.iter().map(|entry| (entry.id(), &entry.header().parents[..])).collect();
    let writes = |entry: &Entry, name: &str| {
        let mut sections = entry.header().sections.iter();
        sections.any(|section| section.store.as_str() == name && section.enc.is_none())
    };
    let plain: BTreeSet<EntryId> = all.iter().filter(|entry| writes(entry, "vault")).map(Entry::id).collect();
    all.iter().filter(|entry| writes(entry, registry::STORE)).any(|entry| {
        let (mut left, mut seen) = (vec![entry.id()], BTreeSet::new());
        while let Some(id) = left.pop() {
            if seen.insert(id) {
                left.extend(parents[&id]);
            }
        }
        seen.is_disjoint(&plain)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn whether_a_store_is_encrypted_is_the_same_wherever_its_entries_are_and_however_they_came(
        steps in prop::collection::vec((any::<bool>(), 0u8..4), 1..20),
        picks in prop::collection::vec(any::<u16>(), 1..20),
        bare in any::<u64>(),
    ) {
        let (a, b) = two();
        for (n, (at_a, step)) in (0u8..).zip(steps) {
            let db = if at_a { &a } else { &b };
            match step {
                0 => drop(db.doc("vault").set("n", i64::from(n))),
                1 => add(db, vec![forged(db, n, 8, vec![])]),
                2 => db.doc("other").set("n", i64::from(n)).unwrap(),
                _ => exchange(&a, &b),
            }
        }
        exchange(&a, &b);
        let all = entries(&a);
        let expected = reference(&all);
        let says = |db: &Database| vault(db).is_encrypted().unwrap();
        prop_assert_eq!((says(&a), says(&b)), (expected, expected));
        // Elsewhere, asked after each entry, with payloads that come late.
        let fresh = node(99);
        let there = fresh.database_by_id(a.id());
        let bring = |entry: &Entry, whole: bool| {
            let payloads = entry.payloads().iter().map(|payload| payload.clone().filter(|_| whole)).collect();
            let offer = Offer { block: entry.block().clone(), payloads };
            let prepared = fresh.store().prepare(a.id(), vec![offer]).unwrap();
            fresh.store().admit(prepared).unwrap();
        };
        for (n, entry) in causal_order(&all, &picks).into_iter().enumerate() {
            bring(entry, entry.header().is_settings() || bare >> (n % 64) & 1 == 0);
            let was = says(&there);
            prop_assert!(expected || !was);
        }
        for entry in &all {
            bring(entry, true);
        }
        prop_assert_eq!(says(&there), expected);
        let restarted = copy(&a, &node(98));
        prop_assert_eq!(says(&restarted), expected);
    }
}
