use bytes::Bytes;
use eid_core::cbor::Writer;
use eid_store::Memory;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{causal_order, database, entries, env, exchange, node, two};
use crate::kind::registry::{self, RegistryOp};
use crate::{Database, DbError, Instance, StoreListing};

fn names(db: &Database) -> Vec<(String, Vec<String>)> {
    let kinds = |store: &StoreListing| store.kinds.iter().map(|kind| kind.kind.clone()).collect();
    db.registry().list().unwrap().iter().map(|store| (store.name.clone(), kinds(store))).collect()
}

#[test]
fn a_store_is_listed_once_it_is_written_or_registered() {
    let db = database();
    assert!(db.registry().list().unwrap().is_empty());
    db.registry().register("later", "doc").unwrap();
    db.table::<Json>("now").insert_as("k", &json!({"a": 1})).unwrap();
    db.table::<Json>("now").insert_as("l", &json!({"a": 1})).unwrap();
    let listed = db.registry().list().unwrap();
    assert_eq!(names(&db), [("later".into(), vec!["doc".into()]), ("now".into(), vec!["table".into()])]);
    assert_eq!((listed[0].kinds[0].rows, listed[0].kinds[0].entries), (0, 0));
    assert_eq!((listed[1].kinds[0].rows, listed[1].kinds[0].entries), (2, 2));
    assert!(!listed[0].encrypted && listed[0].indexes.is_empty());
    // The registry is no store of the application's.
    assert!(db.stores().unwrap().iter().all(|store| store.name == "now"));
}

#[test]
fn a_registered_store_is_not_opened_as_another_kind() {
    let db = database();
    db.registry().register("s", "table").unwrap();
    let entries_before = db.entries().unwrap();
    db.registry().register("s", "table").unwrap();
    assert_eq!(db.entries().unwrap(), entries_before, "saying it again writes nothing");
    let wrong =
        |error: DbError| matches!(error, DbError::WrongKind { found, wanted: "doc", .. } if found == "table");
    assert!(wrong(db.doc("s").set("a", 1).unwrap_err()));
    assert!(wrong(db.doc("s").get("a").unwrap_err()));
    assert!(wrong(db.registry().register("s", "doc").unwrap_err()));
    db.doc("d").set("a", 1).unwrap();
    let error = db.registry().register("d", "table").unwrap_err();
    assert!(matches!(error, DbError::WrongKind { found, .. } if found == "doc"));
    assert_eq!(db.kind_of("s").unwrap().as_deref(), Some("table"));
    db.table::<Json>("s").insert(&json!({})).unwrap();
    let error = db.registry().register("x", "nonsense").unwrap_err();
    assert!(matches!(error, DbError::UnknownKind { kind } if kind == "nonsense"));
    // The registry is not for applications to set kinds of its own.
    assert!(matches!(db.registry().register("x", "registry"), Err(DbError::UnknownKind { .. })));
}

#[test]
fn reserved_names_cannot_be_written() {
    let db = database();
    for name in ["_registry", "_settings", "_other"] {
        let error = db.doc(name).set("a", 1).unwrap_err();
        assert!(matches!(error, DbError::StoreName { .. }), "{name}: {error}");
        let error = db.write(|tx| tx.table::<Json>(name).insert(&json!({}))).unwrap_err();
        assert!(matches!(error, DbError::StoreName { .. }), "{name}: {error}");
    }
    db.doc("a_b").set("a", 1).unwrap();
}

#[test]
fn one_store_made_on_two_devices_holds_what_both_wrote() {
    let (a, b) = two();
    a.registry().register("todos", "table").unwrap();
    b.registry().register("todos", "table").unwrap();
    a.table::<Json>("todos").insert_as("from a", &json!({"n": 1})).unwrap();
    b.table::<Json>("todos").insert_as("from b", &json!({"n": 2})).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(db.kind_of("todos").unwrap().as_deref(), Some("table"));
        let rows = db.table::<Json>("todos").page(None, 10).unwrap();
        assert_eq!(rows.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["from a", "from b"]);
        assert_eq!(names(db), [("todos".into(), vec!["table".into()])]);
    }
}

#[test]
fn one_name_in_two_kinds_is_kept_as_both_and_says_so_everywhere() {
    let (a, b) = two();
    a.doc("s").set("a", 1).unwrap();
    b.table::<Json>("s").insert_as("k", &json!({"b": 2})).unwrap();
    exchange(&a, &b);
    let errors: Vec<String> = [&a, &b].iter().map(|db| db.kind_of("s").unwrap_err().to_string()).collect();
    assert_eq!(errors[0], errors[1]);
    assert!(errors[0].contains("doc, table"), "{}", errors[0]);
    for db in [&a, &b] {
        assert_eq!(db.doc("s").get_as::<u8>("a").unwrap(), Some(1));
        assert_eq!(db.table::<Json>("s").get("k").unwrap(), Some(json!({"b": 2})));
        assert_eq!(names(db), [("s".into(), vec!["doc".into(), "table".into()])]);
    }
}

#[test]
fn one_name_registered_in_two_kinds_and_never_written_says_so_too() {
    let (a, b) = two();
    a.registry().register("s", "doc").unwrap();
    b.registry().register("s", "table").unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        let error = db.kind_of("s").unwrap_err();
        assert!(matches!(error, DbError::SeveralKinds { kinds, .. } if kinds == ["doc", "table"]));
        // Both can be used by who says which one is meant.
        assert_eq!(db.doc("s").get("a").unwrap(), None);
        assert!(db.table::<Json>("s").get("k").unwrap().is_none());
    }
}

#[test]
fn a_declared_index_is_a_wish_of_all_and_the_latest_word_counts() {
    let (a, b) = two();
    a.registry().declare_index("t", "title").unwrap();
    a.registry().declare_index("t", "done").unwrap();
    let entries_before = a.entries().unwrap();
    a.registry().declare_index("t", "done").unwrap();
    a.registry().undeclare_index("t", "unheard of").unwrap();
    assert_eq!(a.entries().unwrap(), entries_before, "what is so already is not written");
    exchange(&a, &b);
    assert_eq!(b.registry().indexes("t").unwrap(), ["done", "title"]);
    b.registry().undeclare_index("t", "done").unwrap();
    exchange(&a, &b);
    assert_eq!(a.registry().indexes("t").unwrap(), ["title"]);
    assert!(a.registry().indexes("tt").unwrap().is_empty(), "a name is not the beginning of another");
    a.table::<Json>("t").insert(&json!({"title": ""})).unwrap();
    assert_eq!(a.registry().list().unwrap()[0].indexes, ["title"]);
    assert!(matches!(a.registry().declare_index("t", ""), Err(DbError::Unregistrable)));
    assert!(matches!(a.registry().declare_index("t", &"x".repeat(2000)), Err(DbError::Unregistrable)));
    a.doc("d").set("a", 1).unwrap();
    assert!(matches!(a.registry().declare_index("d", "f"), Err(DbError::WrongKind { .. })));
}

#[test]
fn operations_of_the_registry_are_strict_and_bounded() {
    let good = [
        RegistryOp::Register { store: "s".into(), kind: "doc".into() },
        RegistryOp::Index { store: "s".into(), kind: "table".into(), field: "f".into(), on: false },
        RegistryOp::Encryption { store: "s".into(), config: Bytes::from_static(b"c") },
    ];
    for op in good {
        let bytes = registry::encode(&op);
        assert_eq!(registry::decode(&bytes), Ok(op));
        for cut in 0..bytes.len() {
            assert!(registry::decode(&bytes.slice(..cut)).is_err());
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(registry::decode(&longer.into()).is_err());
    }
    let bad = [
        RegistryOp::Register { store: String::new(), kind: "doc".into() },
        RegistryOp::Register { store: "x".repeat(65), kind: "doc".into() },
        RegistryOp::Register { store: "s".into(), kind: String::new() },
        RegistryOp::Encryption { store: "s".into(), config: Bytes::new() },
        RegistryOp::Encryption { store: "s".into(), config: vec![0; 2049].into() },
    ];
    for op in bad {
        assert!(registry::decode(&registry::encode(&op)).is_err(), "{op:?}");
    }
    let mut w = Writer::new();
    w.array(3).uint(9).text("s").text("doc");
    assert!(registry::decode(&w.into_bytes().into()).is_err());
}

fn any_op() -> impl Strategy<Value = RegistryOp> {
    let name = || prop_oneof![Just("s".to_owned()), Just("ss".to_owned()), Just("\u{1}s".to_owned())];
    prop_oneof![
        1 => (name(), name()).prop_map(|(store, kind)| RegistryOp::Register { store, kind }),
        // Of few indexes, so that operations on one of them often meet.
        6 => (any::<bool>(), any::<bool>()).prop_map(|(field, on)| RegistryOp::Index {
            store: "s".to_owned(),
            kind: "table".to_owned(),
            field: if field { "f" } else { "g" }.to_owned(),
            on,
        }),
        1 => (name(), name())
            .prop_map(|(store, config)| RegistryOp::Encryption { store, config: config.into_bytes().into() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// The clocks stand still, so that concurrent operations often tie and ids decide.
    #[test]
    fn any_causal_order_of_arrival_gives_the_same_registry(
        steps in proptest::collection::vec((any::<bool>(), any_op(), prop::bool::weighted(0.2)), 1..20),
        picks in proptest::collection::vec(any::<u16>(), 1..20),
    ) {
        let (a, b) = two();
        for (left, op, meet) in &steps {
            let db = if *left { &a } else { &b };
            db.write_blind(|tx| crate::registry::stage(tx, op)).unwrap();
            if *meet {
                exchange(&a, &b);
            }
        }
        exchange(&a, &b);
        prop_assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
        let all = entries(&a);
        let fresh = node(9);
        for entry in causal_order(&all, &picks) {
            super::support::admit(&fresh, a.id(), &[entry]);
        }
        let arrived = fresh.database_by_id(a.id());
        prop_assert_eq!(arrived.state_hash().unwrap(), a.state_hash().unwrap());
        prop_assert_eq!(arrived.registry().list().unwrap(), a.registry().list().unwrap());
        // The latest word on each index, by the order that all replicas share.
        let mut sorted: Vec<_> = all.iter().collect();
        sorted.sort_by_key(|entry| (entry.header().time, entry.header().height, entry.id()));
        let mut on = std::collections::BTreeMap::new();
        for entry in sorted {
            for (section, payload) in entry.header().sections.iter().zip(entry.payloads()) {
                if section.store.as_str() == "_registry" {
                    for op in eid_core::Payload::decode(payload.as_ref().unwrap()).unwrap().ops {
                        if let RegistryOp::Index { store, kind, field, on: now } = registry::decode(&op).unwrap() {
                            on.insert((store, kind, field), now);
                        }
                    }
                }
            }
        }
        let mut held = std::collections::BTreeSet::new();
        let rows = crate::registry::stored(&arrived.snapshot().unwrap());
        registry::each_index(&rows, None, &mut |store, kind, field| {
            held.insert((store.to_owned(), kind.to_owned(), field.to_owned()));
        }).unwrap();
        let wanted: std::collections::BTreeSet<_> =
            on.into_iter().filter(|(_, on)| *on).map(|(index, _)| index).collect();
        prop_assert_eq!(held, wanted);
    }
}

#[test]
fn the_registry_survives_a_restart() {
    let backend: std::sync::Arc<dyn eid_store::Backend> = std::sync::Arc::new(Memory::new());
    let id = {
        let node = Instance::open(backend.clone(), env(1).0).unwrap();
        let db = node.create_database("test").unwrap().database;
        db.registry().register("s", "doc").unwrap();
        db.id()
    };
    let node = Instance::open(backend, env(2).0).unwrap();
    assert_eq!(names(&node.database_by_id(id)), [("s".into(), vec!["doc".into()])]);
}
