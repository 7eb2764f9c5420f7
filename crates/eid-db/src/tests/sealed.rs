use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::{Entry, SectionDraft, StoreName};
use eid_store::{Backend, Durability, Embedded, EmbeddedConfig, LocalCommit, Memory, Offer, Parents, Scan};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{admit, causal_order, copy, entries, exchange, node, node_over, two};
use crate::kind::registry::RegistryOp;
use crate::limits::UNDO_ROWS_MAX;
use crate::{Database, DbError, EncryptionStatus, Event, PasswordCost, PasswordStore, Path, Since};

const CHEAP: PasswordCost = PasswordCost { memory_kib: 8, passes: 1, lanes: 1 };
const MARK: &str = "Xanadu-7301";

fn vault(db: &Database) -> PasswordStore {
    db.password_store("vault").with_cost(CHEAP)
}

fn database() -> Database {
    node(1).create_database("test").unwrap().database
}

fn is_locked(error: &DbError) -> bool {
    matches!(error, DbError::Locked { store } if store == "vault")
}

fn is_wrong<T: std::fmt::Debug>(result: Result<T, DbError>) -> bool {
    matches!(result.unwrap_err(), DbError::WrongPassword { .. })
}

/// The document, or that it is locked.
fn document(db: &Database) -> Json {
    db.doc("vault").to_json().unwrap()
}

fn nonces(db: &Database) -> Vec<Vec<u8>> {
    let encs = entries(db).into_iter().flat_map(|entry| {
        let sections = entry.header().sections.clone();
        sections.into_iter().filter_map(|section| section.enc).collect::<Vec<_>>()
    });
    // [1, key id, nonce, commitment]
    encs.map(|enc| enc[21..45].to_vec()).collect()
}

#[test]
fn a_password_opens_it_and_nothing_else_does() {
    let db = database();
    assert!(matches!(vault(&db).unlock("p"), Err(DbError::NotEncrypted { .. })));
    let opened = vault(&db).create("correct horse").unwrap();
    opened.doc().set("pin", 1234).unwrap();
    opened.doc().set("at.home".parse::<Path>().unwrap(), "key").unwrap();
    assert_eq!(document(&db), json!({"pin": 1234, "at": {"home": "key"}}));
    assert!(matches!(vault(&db).create("other"), Err(DbError::AlreadyEncrypted { .. })));
    assert!(vault(&db).is_unlocked().unwrap() && vault(&db).is_encrypted().unwrap());

    vault(&db).lock().unwrap();
    assert!(!vault(&db).is_unlocked().unwrap());
    assert!(is_locked(&db.doc("vault").get("pin").unwrap_err()));
    assert!(is_locked(&db.doc("vault").set("pin", 1).unwrap_err()));
    assert!(is_locked(&opened.doc().get("pin").unwrap_err()), "handles do not keep it open");
    assert!(is_locked(&db.table::<Json>("vault").insert(&json!({})).unwrap_err()));
    assert!(is_locked(&db.table::<Json>("vault").query().rows().unwrap_err()));
    assert!(is_locked(&db.write(|tx| tx.doc("vault").get("pin")).unwrap_err()));
    assert!(is_locked(&db.write(|tx| tx.doc("vault").set("pin", 1)).unwrap_err()));
    assert!(is_locked(&db.kind_of("vault").unwrap_err()));

    for wrong in ["", "correct", "correct horse ", "Correct horse", "correct hörse"] {
        assert!(is_wrong(vault(&db).unlock(wrong)), "{wrong}");
    }
    assert!(is_locked(&db.doc("vault").get("pin").unwrap_err()), "a wrong password leaves it locked");
    vault(&db).unlock("correct horse").unwrap();
    assert_eq!(document(&db), json!({"pin": 1234, "at": {"home": "key"}}));
    assert_eq!(db.kind_of("vault").unwrap().as_deref(), Some("doc"));
}

#[test]
fn an_encrypted_table_is_a_table() {
    let db = database();
    let table = vault(&db).create_of_kind("p", "table").unwrap().table::<Json>();
    let error = db.doc("vault").set("a", 1).unwrap_err();
    assert!(matches!(error, DbError::WrongKind { found, .. } if found == "table"));
    table.insert_as("k", &json!({"a": 1, "b": 1})).unwrap();
    table.insert_as("l", &json!({"a": 2})).unwrap();
    table.update("k", |row| row["a"] = json!(3)).unwrap();
    table.delete("l").unwrap();
    assert_eq!(table.page(None, 10).unwrap(), [("k".to_owned(), json!({"a": 3, "b": 1}))]);
    assert_eq!(table.query().eq("a", 3).rows().unwrap().len(), 1);
    assert!(matches!(db.doc("vault").get("a"), Err(DbError::WrongKind { .. })));
    let listed = db.registry().list().unwrap();
    assert!(listed[0].encrypted);
    assert_eq!((listed[0].kinds.len(), listed[0].kinds[0].rows, listed[0].kinds[0].entries), (1, 1, 4));
    vault(&db).lock().unwrap();
    let listed = db.registry().list().unwrap();
    assert!(listed[0].encrypted && listed[0].kinds.iter().all(|kind| kind.rows == 0));
    assert_eq!(db.kind_of("vault").unwrap().as_deref(), Some("table"), "the kind was told");
}

#[test]
fn an_index_of_an_encrypted_table_is_used_and_as_sealed_as_its_rows() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let db = node_over(&backend, 1).create_database("test").unwrap().database;
    let table = vault(&db).create("p").unwrap().table::<Json>();
    for n in 0..600 {
        table.insert_as(&format!("k{n}"), &json!({MARK: n % 7})).unwrap();
    }
    table.create_index(MARK).unwrap();
    let found = |table: &crate::Table<Json>| {
        let query = table.query().eq(MARK, 3);
        let plan = query.explain().unwrap().to_string();
        assert!(plan.contains("index"), "{plan}");
        query.rows().unwrap().len()
    };
    assert_eq!(found(&table), 86);
    table.insert_as("k600", &json!({MARK: 3})).unwrap();
    table.update("k3", |row| row[MARK] = json!(4)).unwrap();
    table.delete("k10").unwrap();
    assert_eq!(found(&table), 85);
    vault(&db).lock().unwrap();
    assert!(is_locked(&table.create_index("other").unwrap_err()));
    assert!(db.build_pending_indexes(|_| true).unwrap());
    vault(&db).unlock("p").unwrap();
    assert_eq!(found(&table), 85);
    assert!(table.check_indexes().unwrap().is_empty());
    assert!(db.build_pending_indexes(|_| true).unwrap());
    assert_eq!(found(&table), 85, "nobody takes it for one that is not wanted");
    assert!(matches!(db.registry().declare_index("vault", MARK), Err(DbError::PlainIndex { .. })));
    assert!(!holds(&everything(&backend), MARK));
    table.drop_index(MARK).unwrap();
    assert!(!table.query().eq(MARK, 3).explain().unwrap().to_string().contains("index"));
}

#[test]
fn an_encrypted_text_is_a_text() {
    let (a, b) = two();
    let text = vault(&a).create("p").unwrap().text();
    text.insert(0, &format!("one {MARK} three")).unwrap();
    exchange(&a, &b);
    let there = vault(&b).unlock("p").unwrap().text();
    text.insert(0, "zero ").unwrap();
    there.delete(3, MARK.chars().count() + 1).unwrap();
    a.write(|tx| {
        tx.text("vault").insert(0, "> ")?;
        assert_eq!(tx.text("vault").read()?, format!("> zero one {MARK} three"));
        Ok(())
    })
    .unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(db.text("vault").read().unwrap(), "> zero one three");
        vault(db).lock().unwrap();
        assert!(is_locked(&db.text("vault").read().unwrap_err()));
        vault(db).unlock("p").unwrap();
        assert_eq!(db.text("vault").read().unwrap(), "> zero one three");
    }
}

#[test]
fn an_older_version_of_an_encrypted_store_can_be_read_where_it_is_unlocked() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("n", 1).unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    b.doc("vault").set("from b", 1).unwrap();
    let then = b.tips().unwrap();
    a.doc("vault").set("n", 2).unwrap();
    a.doc("vault").increment("count", 1).unwrap();
    exchange(&a, &b);
    b.doc("vault").set("n", 3).unwrap();
    let now = json!({"n": 3, "from b": 1, "count": 1});
    for _ in 0..2 {
        assert_eq!(b.at(&then).unwrap().doc("vault").to_json().unwrap(), json!({"n": 1, "from b": 1}));
        assert_eq!(document(&b), now);
    }
    let tx = b.begin_at(&then).unwrap();
    assert_eq!(tx.doc("vault").get_as::<u8>("n").unwrap(), Some(1));
    tx.doc("vault").set("late", 1).unwrap();
    tx.commit().unwrap();
    assert_eq!(document(&b), json!({"n": 3, "from b": 1, "count": 1, "late": 1}));
    vault(&b).lock().unwrap();
    assert!(is_locked(&b.at(&then).unwrap().doc("vault").to_json().unwrap_err()));
}

fn everything(backend: &Arc<dyn Backend>) -> Vec<u8> {
    let all = Scan::range(vec![0], vec![0xff; 64]);
    let rows = backend.snapshot().unwrap().scan_many(&[all]).unwrap();
    rows.into_iter().flatten().flat_map(|(key, value)| [key, value.to_vec()].concat()).collect()
}

fn holds(bytes: &[u8], mark: &str) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
}

/// Writes the mark wherever an application can.
fn write_marks(db: &Database) {
    let opened = vault(db).create(&format!("password {MARK}")).unwrap();
    let doc = opened.doc();
    doc.set("value", MARK).unwrap();
    doc.set(MARK, 1).unwrap();
    doc.set("deep", json!({MARK: {"x": [MARK]}})).unwrap();
    doc.delete(MARK).unwrap();
    let rows = db.password_store("rows").with_cost(CHEAP).create(MARK).unwrap().table::<Json>();
    rows.insert_as(MARK, &json!({"a": MARK, MARK: 1})).unwrap();
    rows.update(MARK, |row| row["a"] = json!(format!("{MARK}!"))).unwrap();
    // Plain things besides, to see that the search finds them.
    db.doc("plain").set("seen", "in the open").unwrap();
    vault(db).change_password(&format!("password {MARK}"), &format!("other {MARK}")).unwrap();
    assert_eq!(rows.get(MARK).unwrap().unwrap()["a"], json!(format!("{MARK}!")));
    assert_eq!(doc.get_as::<String>("value").unwrap().as_deref(), Some(MARK));
    vault(db).lock().unwrap();
    db.password_store("rows").lock().unwrap();
    vault(db).unlock(&format!("other {MARK}")).unwrap();
}

#[test]
fn nothing_plain_is_in_the_backend_nor_in_what_travels() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let db = node_over(&backend, 1).create_database("test").unwrap().database;
    write_marks(&db);
    let bytes = everything(&backend);
    assert!(holds(&bytes, "in the open") && bytes.len() > 3000);
    assert!(!holds(&bytes, MARK));
    let travels = entries(&db).into_iter().flat_map(|entry| {
        let payloads: Vec<u8> = entry.payloads().iter().flatten().flatten().copied().collect();
        [entry.block().to_vec(), payloads].concat()
    });
    let travels: Vec<u8> = travels.collect();
    assert!(holds(&travels, "in the open") && !holds(&travels, MARK));
}

#[test]
fn nothing_plain_is_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    {
        let path = directory.path().join("db.eid");
        let backend: Arc<dyn Backend> = Arc::new(Embedded::open(&path, EmbeddedConfig::default()).unwrap());
        let node = node_over(&backend, 1);
        write_marks(&node.create_database("test").unwrap().database);
        node.close().unwrap();
    }
    let mut bytes = Vec::new();
    let mut directories = vec![directory.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() { directories.push(path) } else { bytes.extend(std::fs::read(path).unwrap()) }
        }
    }
    assert!(holds(&bytes, "in the open"));
    assert!(!holds(&bytes, MARK));
}

#[test]
fn debug_tells_nothing() {
    let db = database();
    let opened = vault(&db).create(MARK).unwrap();
    opened.doc().set("a", MARK).unwrap();
    let tx = db.begin().unwrap();
    tx.doc("vault").set("b", MARK).unwrap();
    assert_eq!(tx.doc("vault").get_as::<String>("a").unwrap().as_deref(), Some(MARK));
    let state = db.state();
    let mut shown = format!("{db:?} {opened:?} {:?} {tx:?} {state:?} {:?}", vault(&db), db.instance());
    shown += &format!("{:?}", tx.prepare().unwrap());
    let rows = db.rows_in(&db.snapshot().unwrap(), &StoreName::new("vault").unwrap(), "doc").unwrap();
    shown += &format!("{rows:?} {:#?}", vault(&db).status().unwrap());
    assert!(shown.contains("StagedStore"), "the transaction shows what it has");
    assert!(!shown.contains(MARK), "{shown}");
    // As a list of numbers neither.
    let numbers = format!("{:?}", MARK.as_bytes());
    assert!(!shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");
    let error = vault(&db).unlock(&format!("wrong {MARK}")).unwrap_err();
    assert!(!format!("{error:?} {error}").contains(MARK));
}

#[test]
fn nonces_do_not_repeat() {
    let (a, b) = two();
    vault(&a).create("p").unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    for n in 0..100 {
        a.doc("vault").set("same", "same").unwrap();
        b.write(|tx| tx.doc("vault").set("n", n)).unwrap();
    }
    exchange(&a, &b);
    let nonces = nonces(&a);
    assert_eq!(nonces.len(), 200);
    assert_eq!(nonces.iter().collect::<BTreeSet<_>>().len(), 200);
    // The rows at rest, which are written again and again.
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        a.doc("vault").increment("count", 1).unwrap();
        vault(&a).lock().unwrap();
        for (_, value) in a.instance().store().local().namespace("sealed").scan(&[]).unwrap() {
            seen.insert(value[..24].to_vec());
        }
        vault(&a).unlock("p").unwrap();
    }
    assert!(seen.len() >= 10, "state and the row were sealed anew each time: {}", seen.len());
}

#[test]
fn a_device_that_was_locked_while_entries_came_catches_up() {
    let (a, b) = two();
    vault(&a).create("p").unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    b.doc("vault").set("from b", 1).unwrap();
    exchange(&a, &b);
    vault(&b).lock().unwrap();
    for n in 0..20 {
        a.doc("vault").set("n", n).unwrap();
        a.doc("vault").increment("count", 2).unwrap();
        a.doc("plain").set("n", n).unwrap();
    }
    exchange(&a, &b);
    assert!(is_locked(&b.doc("vault").get("n").unwrap_err()));
    assert_eq!(
        vault(&b).status().unwrap(),
        EncryptionStatus { keys: 1, entries: 41, locked: 41, ..EncryptionStatus::default() }
    );
    vault(&b).unlock("p").unwrap();
    assert_eq!(document(&b), json!({"from b": 1, "n": 19, "count": 40}));
    // Once unlocked, it keeps up.
    a.doc("vault").set("n", "last").unwrap();
    exchange(&a, &b);
    assert_eq!(document(&b), document(&a));
    assert_eq!(
        vault(&b).status().unwrap(),
        EncryptionStatus { unlocked: true, keys: 1, entries: 42, ..EncryptionStatus::default() }
    );
}

#[test]
fn what_is_at_rest_is_read_after_a_restart_and_the_log_from_there_on() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let node = node_over(&backend, 1);
    let db = node.create_database("test").unwrap().database;
    let id = db.id();
    vault(&db).create("p").unwrap();
    for n in 0..50 {
        db.doc("vault").set(Path::from(format!("k{n}")), n).unwrap();
        db.doc("vault").increment("sum", 1).unwrap();
    }
    vault(&db).lock().unwrap();
    vault(&db).unlock("p").unwrap();
    db.doc("vault").set("after", true).unwrap();
    let before = document(&db);
    drop((db, node));
    let node = node_over(&backend, 2);
    let db = node.database_by_id(id);
    assert!(is_locked(&db.doc("vault").get("after").unwrap_err()), "a restart locks");
    vault(&db).unlock("p").unwrap();
    assert_eq!(document(&db), before);
    vault(&db).lock().unwrap();

    // A row at rest that was changed, moved or taken away shows what it did only until it is noticed: here the former
    // two are, and everything is worked out from the log.
    let rows = node.store().local().namespace("sealed");
    let held = rows.scan(&[]).unwrap();
    assert!(held.len() > 50);
    let (key, value) = held.last().unwrap();
    let mut flipped = value.to_vec();
    flipped[60] ^= 1;
    rows.put(key, flipped).unwrap();
    vault(&db).unlock("p").unwrap();
    assert_eq!(document(&db), before);
    vault(&db).lock().unwrap();
    let held = rows.scan(&[]).unwrap();
    rows.put(&held[3].0, held[4].1.clone()).unwrap();
    vault(&db).unlock("p").unwrap();
    assert_eq!(document(&db), before);

    node.forget(&id).unwrap();
    assert!(rows.scan(&[]).unwrap().is_empty(), "nothing is left of a database that was forgotten");
}

/// An entry of a member who was never told the password.
fn smuggle(db: &Database, enc: Option<Bytes>, payload: Bytes) {
    let instance = db.instance();
    let commit = LocalCommit {
        tree: Some(db.id()),
        author: instance.device_key(),
        now_ms: instance.env().clock.now_ms(),
        parents: Parents::AtSeal,
        sections: vec![SectionDraft { store: StoreName::new("vault").unwrap(), enc, payload }],
        nonce: None,
        durability: Durability::Durable,
    };
    instance.store().commit(commit).unwrap();
}

#[test]
fn what_was_not_sealed_by_who_signs_it_has_no_effect_and_is_counted() {
    let (a, b) = two();
    vault(&a).create("p").unwrap();
    a.doc("vault").set("a", 1).unwrap();
    a.doc("vault").set("a", 2).unwrap();
    exchange(&a, &b);
    let sealed: Vec<Entry> =
        entries(&b).into_iter().filter(|entry| entry.header().sections[0].enc.is_some()).collect();
    let section = |entry: &Entry| {
        (entry.header().sections[0].enc.clone().unwrap(), entry.payloads()[0].clone().unwrap())
    };
    let (enc, payload) = section(&sealed[0]);
    // The first write again, as one's own.
    smuggle(&b, Some(enc.clone()), payload.clone());
    let mut changed = payload.to_vec();
    changed[5] ^= 1;
    smuggle(&b, Some(enc.clone()), changed.into());
    smuggle(&b, Some(section(&sealed[1]).0), payload.clone());
    smuggle(&b, Some(Bytes::from_static(b"nonsense")), payload.clone());
    smuggle(&b, Some(enc), Bytes::new());
    let mut unknown_key = section(&sealed[0]).0.to_vec();
    unknown_key[5] ^= 1;
    smuggle(&b, Some(unknown_key.into()), payload);
    exchange(&a, &b);
    let state = json!({"a": 2});
    let status =
        EncryptionStatus { unlocked: true, keys: 1, entries: 8, locked: 1, damaged: 5, undecodable: 0 };
    assert_eq!(document(&a), state);
    assert_eq!(vault(&a).status().unwrap(), status);
    vault(&b).unlock("p").unwrap();
    assert_eq!((document(&b), vault(&b).status().unwrap()), (state, status));
}

#[test]
fn plain_and_encrypted_under_one_name_is_an_error_on_both_and_nothing_is_written_in_plain() {
    let (a, b) = two();
    vault(&a).create("p").unwrap();
    a.doc("vault").set("secret", 1).unwrap();
    b.doc("vault").set("plain", 1).unwrap();
    let error = vault(&b).create("q").unwrap_err();
    assert!(matches!(error, DbError::WrongKind { found, wanted: "encrypted", .. } if found == "doc"));
    vault(&a).lock().unwrap();
    exchange(&a, &b);
    let mut shown = Vec::new();
    for db in [&a, &b] {
        let errors = [
            db.doc("vault").set("more", 1).unwrap_err(),
            db.doc("vault").get("more").unwrap_err(),
            db.kind_of("vault").unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, DbError::SeveralKinds { kinds, .. } if *kinds == ["doc", "encrypted"]));
            shown.push(error.to_string());
        }
    }
    shown.dedup();
    assert_eq!(shown.len(), 1, "the same on both: {shown:?}");
    // Who has the password can go on, and sees only what was sealed.
    vault(&b).unlock("p").unwrap();
    b.doc("vault").set("more", 1).unwrap();
    assert_eq!(document(&b), json!({"secret": 1, "more": 1}));
    assert_eq!(nonces(&b).len(), 2);
}

#[test]
fn a_store_made_on_two_devices_keeps_both_passwords() {
    let (a, b) = two();
    vault(&a).create("pa").unwrap().doc().set("a", 1).unwrap();
    vault(&b).create("pb").unwrap().doc().set("b", 2).unwrap();
    exchange(&a, &b);
    for (db, own, other) in [(&a, "pa", "pb"), (&b, "pb", "pa")] {
        let status = vault(db).status().unwrap();
        assert_eq!((status.keys, status.entries, status.locked), (2, 2, 1));
        assert_eq!(document(db), if own == "pa" { json!({"a": 1}) } else { json!({"b": 2}) });
        vault(db).unlock(other).unwrap();
        assert_eq!(document(db), json!({"a": 1, "b": 2}));
        assert_eq!(vault(db).status().unwrap().locked, 0);
        vault(db).lock().unwrap();
        vault(db).unlock(own).unwrap();
        assert_eq!(vault(db).status().unwrap().locked, 1);
    }
    // With the same password on both, one is enough for everything.
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("a", 1).unwrap();
    vault(&b).create("p").unwrap().doc().set("b", 2).unwrap();
    exchange(&a, &b);
    vault(&a).unlock("p").unwrap();
    assert_eq!(document(&a), json!({"a": 1, "b": 2}));
}

#[test]
fn a_changed_password_counts_everywhere_and_costs_one_entry() {
    let (a, b) = two();
    vault(&a).create("old").unwrap().doc().set("a", 1).unwrap();
    exchange(&a, &b);
    vault(&b).unlock("old").unwrap();
    let count = a.entries().unwrap();
    assert!(is_wrong(vault(&a).change_password("wrong", "new")));
    vault(&a).change_password("old", "new").unwrap();
    assert_eq!(a.entries().unwrap(), count + 1);
    // Somebody writes meanwhile, who unlocked with the old one.
    b.doc("vault").set("b", 2).unwrap();
    exchange(&a, &b);
    b.doc("vault").set("c", 3).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(document(db), json!({"a": 1, "b": 2, "c": 3}));
        vault(db).lock().unwrap();
        assert!(is_wrong(vault(db).unlock("old")));
        vault(db).unlock("new").unwrap();
        assert_eq!(document(db), json!({"a": 1, "b": 2, "c": 3}));
    }
    // Two change it at once: both take the old one away, and both stay.
    vault(&a).change_password("new", "from a").unwrap();
    vault(&b).change_password("new", "from b").unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        for (password, opens) in [("new", false), ("old", false), ("from a", true), ("from b", true)] {
            vault(db).lock().unwrap();
            assert_eq!(vault(db).unlock(password).is_ok(), opens, "{password}");
        }
    }
    // The next change takes away every password that was known then.
    vault(&a).change_password("from a", "last").unwrap();
    vault(&a).lock().unwrap();
    assert!(is_wrong(vault(&a).unlock("from b")) && vault(&a).unlock("last").is_ok());
}

#[test]
fn a_member_without_a_password_cannot_take_away_that_of_others() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("a", 1).unwrap();
    exchange(&a, &b);
    let mut configs = Vec::new();
    crate::registry::each_encryption(&b.snapshot().unwrap(), Some("vault"), &mut |_, bytes| {
        configs.push(bytes);
    })
    .unwrap();
    let real = *blake3::hash(&configs[0]).as_bytes();
    // A config of one's own that claims to replace the real one, in the name of its key.
    let (tree, store) = (b.id(), StoreName::new("vault").unwrap());
    let key = crate::sealed::tests_key(9);
    let forged = crate::sealed::tests_config((&tree, &store), &key, "q", CHEAP, vec![real]);
    let mut bytes = forged.to_vec();
    // The id of the real key.
    bytes[3..19].copy_from_slice(&configs[0][3..19]);
    for config in [forged, bytes.into()] {
        let op = RegistryOp::Encryption { store: "vault".to_owned(), config };
        b.write(|tx| crate::registry::stage(tx, &op)).unwrap();
    }
    exchange(&a, &b);
    // Neither on a device that opened it before, nor on another.
    vault(&a).lock().unwrap();
    vault(&a).unlock("p").unwrap();
    assert_eq!(document(&a), json!({"a": 1}));
    let c = node(7);
    let c = copy(&a, &c);
    vault(&c).unlock("p").unwrap();
    assert_eq!(document(&c), json!({"a": 1}));
    assert!(is_wrong(vault(&c).unlock("other")));
}

#[test]
fn a_config_that_would_burn_memory_is_none() {
    let (a, b) = two();
    let (tree, store) = (a.id(), StoreName::new("vault").unwrap());
    let good = crate::sealed::tests_config((&tree, &store), &crate::sealed::tests_key(9), "q", CHEAP, vec![]);
    // [memory, passes, lanes] = [8, 1, 1] becomes 4 GiB of memory.
    let at = good.windows(4).position(|w| w == [0x83, 8, 1, 1]).unwrap();
    let costly = [&good[..=at], &[0x1a, 0, 0x40, 0, 0], &good[at + 2..]].concat();
    let op = RegistryOp::Encryption { store: "vault".to_owned(), config: costly.into() };
    b.write(|tx| crate::registry::stage(tx, &op)).unwrap();
    exchange(&a, &b);
    assert!(matches!(vault(&a).unlock("q"), Err(DbError::NotEncrypted { .. })));
    a.doc("vault").set("plain", 1).unwrap();
    let dear = a.password_store("x").with_cost(PasswordCost { memory_kib: u32::MAX, passes: 1, lanes: 1 });
    assert!(matches!(dear.create("p"), Err(DbError::PasswordCost)));
}

#[test]
fn a_transaction_over_plain_and_encrypted_stores_is_one_entry() {
    let db = database();
    vault(&db).create("p").unwrap();
    let count = db.entries().unwrap();
    db.write(|tx| {
        tx.doc("vault").set("secret", 1)?;
        assert_eq!(tx.doc("vault").get_as::<u8>("secret")?, Some(1));
        tx.doc("vault").increment("count", 2)?;
        tx.doc("vault").increment("count", 3)?;
        tx.doc("plain").set("seen", true)
    })
    .unwrap();
    assert_eq!(db.entries().unwrap(), count + 1);
    assert_eq!(document(&db), json!({"secret": 1, "count": 5}));
    let failed: Result<(), DbError> = db.write(|tx| {
        tx.doc("vault").set("secret", 2)?;
        Err(DbError::abort("no"))
    });
    assert!(failed.is_err());
    assert_eq!(document(&db), json!({"secret": 1, "count": 5}));
    // What was begun when it was unlocked can be committed after; it is sealed all the same.
    let tx = db.begin().unwrap();
    tx.doc("vault").set("late", MARK).unwrap();
    vault(&db).lock().unwrap();
    tx.commit().unwrap();
    assert_eq!(nonces(&db).len(), 2);
    vault(&db).unlock("p").unwrap();
    assert_eq!(db.doc("vault").get_as::<String>("late").unwrap().as_deref(), Some(MARK));
}

#[test]
fn a_transaction_reads_what_was_there_when_it_began() {
    let db = database();
    vault(&db).create("p").unwrap();
    db.doc("vault").set("n", 0).unwrap();
    db.doc("vault").set("gone", 0).unwrap();
    let tx = db.begin().unwrap();
    for n in 1..10 {
        db.doc("vault").set("n", n).unwrap();
        db.doc("vault").increment("count", 1).unwrap();
        assert_eq!(db.doc("vault").get_as::<u8>("n").unwrap(), Some(n));
    }
    db.doc("vault").delete("gone").unwrap();
    let all = |tx: &crate::Transaction| Json::from(tx.doc("vault").get(Path::root()).unwrap().unwrap());
    assert_eq!(document(&db), json!({"n": 9, "count": 9}));
    assert_eq!(all(&tx), json!({"n": 0, "gone": 0}));
    assert_eq!(tx.doc("vault").keys(Path::root()).unwrap(), ["gone", "n"]);
    // More than can be undone.
    for n in 0..9 {
        let many: serde_json::Map<String, Json> =
            (0..UNDO_ROWS_MAX / 8).map(|k| (format!("k{k}"), json!(n))).collect();
        db.doc("vault").set("many", Json::from(many)).unwrap();
        assert_eq!(db.doc("vault").get_as::<u8>("many.k1".parse::<Path>().unwrap()).unwrap(), Some(n));
    }
    assert_eq!(all(&tx), json!({"n": 0, "gone": 0}));
    tx.doc("vault").set("mine", 1).unwrap();
    assert_eq!(all(&tx), json!({"n": 0, "gone": 0, "mine": 1}));
    tx.commit().unwrap();
    assert_eq!(db.doc("vault").get_as::<u8>("mine").unwrap(), Some(1));
    assert_eq!(db.doc("vault").get_as::<u8>("n").unwrap(), Some(9));
}

#[test]
fn a_locked_replica_holds_the_same_exactly_when_the_hash_says_so() {
    let (a, b) = two();
    vault(&a).create("p").unwrap().doc().set("a", 1).unwrap();
    exchange(&a, &b);
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
    a.doc("vault").set("a", 2).unwrap();
    assert_ne!(a.state_hash().unwrap(), b.state_hash().unwrap());
    exchange(&a, &b);
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
    vault(&b).unlock("p").unwrap();
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
}

#[test]
fn changes_name_keys_only_where_it_is_unlocked() {
    let db = database();
    vault(&db).create("p").unwrap();
    db.doc("vault").set("a.b", 1).unwrap();
    let last = |db: &Database| {
        let mut changes = db.changes(Since::Beginning).unwrap();
        let mut last = None;
        while let Some(change) = changes.next_ready().unwrap().and_then(Event::into_change) {
            last = change.stores.last().cloned();
        }
        last.unwrap()
    };
    let seen = last(&db);
    assert_eq!((seen.kind.as_deref(), seen.keys), (Some("doc"), vec![Path::from("a.b")]));
    vault(&db).lock().unwrap();
    let seen = last(&db);
    assert_eq!((seen.name.as_str(), seen.kind, seen.keys), ("vault", None, vec![]));
}

#[test]
fn a_payload_that_comes_late_counts_when_it_is_there() {
    let (a, b) = two();
    vault(&a).create("p").unwrap();
    a.doc("vault").set("a", 1).unwrap();
    a.doc("vault").increment("n", 1).unwrap();
    a.doc("vault").increment("n", 2).unwrap();
    let all = entries(&a);
    let bare = |entry: &Entry| Offer {
        block: entry.block().clone(),
        payloads: entry
            .header()
            .sections
            .iter()
            .zip(entry.payloads())
            .map(|(section, payload)| payload.clone().filter(|_| section.enc.is_none()))
            .collect(),
    };
    let prepared = b.instance().store().prepare(a.id(), all.iter().map(bare).collect()).unwrap();
    b.instance().store().admit(prepared).unwrap();
    vault(&b).unlock("p").unwrap();
    assert_eq!(document(&b), json!({}));
    assert_eq!(b.state_hash().unwrap(), None);
    let (middle, rest) = (&all[all.len() - 2], &all[..]);
    admit(b.instance(), a.id(), &[middle]);
    assert_eq!(document(&b), json!({"n": 1}));
    vault(&b).lock().unwrap();
    admit(b.instance(), a.id(), &rest.iter().collect::<Vec<_>>());
    vault(&b).unlock("p").unwrap();
    assert_eq!(document(&b), json!({"a": 1, "n": 3}));
    assert_eq!(b.state_hash().unwrap(), a.state_hash().unwrap());
}

#[test]
fn a_payload_that_comes_while_another_one_stays_away_counts_when_it_is_there() {
    let (a, b) = two();
    vault(&a).create("p").unwrap();
    exchange(&a, &b);
    vault(&b).unlock("p").unwrap();
    a.doc("vault").set("a", 1).unwrap();
    a.doc("vault").set("b", 2).unwrap();
    let all = entries(&a);
    let (first, second) = (&all[all.len() - 2], &all[all.len() - 1]);
    let bring = |offered: &[(&Entry, bool)]| {
        let offers = offered.iter().map(|(entry, whole)| Offer {
            block: entry.block().clone(),
            payloads: entry.payloads().iter().map(|payload| payload.clone().filter(|_| *whole)).collect(),
        });
        let prepared = b.instance().store().prepare(a.id(), offers.collect()).unwrap();
        b.instance().store().admit(prepared).unwrap();
    };
    bring(&[(first, false)]);
    assert_eq!(document(&b), json!({}));
    bring(&[(first, true), (second, false)]);
    assert_eq!(document(&b), json!({"a": 1}));
    bring(&[(second, true)]);
    assert_eq!(document(&b), json!({"a": 1, "b": 2}));
}

#[test]
fn short_writes_have_one_length() {
    let db = database();
    vault(&db).create("p").unwrap();
    for n in 0..40 {
        db.doc("vault").set("value", "x".repeat(n * 4)).unwrap();
    }
    let lengths: BTreeSet<u32> = entries(&db)
        .iter()
        .flat_map(|entry| entry.header().sections.clone())
        .filter(|section| section.enc.is_some())
        .map(|section| section.payload_len)
        .collect();
    assert_eq!(lengths.len(), 1, "{lengths:?}");
    // As large as an entry can be is not larger for being sealed.
    db.doc("vault").set("value", "x".repeat(eid_core::limits::PAYLOAD_BYTES_MAX - 100)).unwrap();
    assert!(matches!(
        db.doc("vault").set("value", "x".repeat(eid_core::limits::PAYLOAD_BYTES_MAX - 30)),
        Err(DbError::TooLarge)
    ));
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8),
    Delete(u8),
    Count(u8, i8),
    Row(u8, u8),
    DeleteRow(u8),
    Exchange,
    Read,
    Relock,
}

fn any_step() -> impl Strategy<Value = (bool, Step)> {
    let step = prop_oneof![
        4 => (0u8..3, any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
        2 => (0u8..3).prop_map(Step::Delete),
        2 => (0u8..3, any::<i8>()).prop_map(|(key, by)| Step::Count(key, by)),
        3 => (0u8..3, any::<u8>()).prop_map(|(key, value)| Step::Row(key, value)),
        1 => (0u8..3).prop_map(Step::DeleteRow),
        2 => Just(Step::Exchange),
        2 => Just(Step::Read),
        1 => Just(Step::Relock),
    ];
    (any::<bool>(), step)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// What is sealed merges as what is plain does: every step is written to both, in one entry.
    #[test]
    fn an_encrypted_store_shows_what_a_plain_one_would(
        steps in proptest::collection::vec(any_step(), 1..40),
        picks in proptest::collection::vec(any::<u16>(), 1..20),
        batch in 1usize..6,
    ) {
        let (a, b) = two();
        vault(&a).create("p").unwrap();
        let rows = |db: &Database| db.password_store("rows").with_cost(CHEAP);
        rows(&a).create("p").unwrap();
        exchange(&a, &b);
        vault(&b).unlock("p").unwrap();
        rows(&b).unlock("p").unwrap();
        let same = |db: &Database| {
            let doc = document(db);
            prop_assert_eq!(&doc, &db.doc("plain").to_json().unwrap());
            let page = |name| db.table::<Json>(name).page(None, 100).unwrap();
            prop_assert_eq!(page("rows"), page("plain rows"));
            Ok(())
        };
        for (at_a, step) in steps {
            let db = if at_a { &a } else { &b };
            let key = |key: u8| format!("k{key}");
            let docs = |work: &dyn Fn(&crate::TxDoc<'_>) -> Result<(), DbError>| {
                db.write_blind(|tx| ["vault", "plain"].iter().try_for_each(|name| work(&tx.doc(name)))).unwrap();
            };
            match step {
                Step::Set(at, value) => docs(&|doc| doc.set(key(at), value)),
                Step::Delete(at) => docs(&|doc| doc.delete(key(at))),
                Step::Count(at, by) => docs(&|doc| doc.increment(key(at), by.into())),
                Step::Row(at, value) => db.write_blind(|tx| ["rows", "plain rows"].iter().try_for_each(|name| {
                    tx.table::<Json>(name).insert_as(&key(at), &json!({ key(value % 3): value }))
                })).unwrap(),
                Step::DeleteRow(at) => db.write_blind(|tx| ["rows", "plain rows"].iter().try_for_each(|name| {
                    tx.table::<Json>(name).delete(&key(at))
                })).unwrap(),
                Step::Exchange => exchange(&a, &b),
                Step::Read => same(db)?,
                Step::Relock => {
                    vault(db).lock().unwrap();
                    rows(db).lock().unwrap();
                    vault(db).unlock("p").unwrap();
                    rows(db).unlock("p").unwrap();
                    same(db)?;
                }
            }
        }
        exchange(&a, &b);
        same(&a)?;
        same(&b)?;
        let all = entries(&a);
        let fresh = node(99);
        let arrived = fresh.database_by_id(a.id());
        for (n, run) in causal_order(&all, &picks).chunks(batch).enumerate() {
            admit(&fresh, a.id(), run);
            if vault(&arrived).unlock("p").is_ok() && rows(&arrived).unlock("p").is_ok() && n % 2 == 0 {
                same(&arrived)?;
            }
        }
        prop_assert_eq!(document(&arrived), document(&a));
        same(&arrived)?;
        prop_assert_eq!(arrived.state_hash().unwrap(), a.state_hash().unwrap());
        prop_assert_eq!(fresh.store().fsck(false, &mut |_, _| {}).unwrap().problems, []);
    }
}
