use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use eid_core::{KeyMode, Permission, PublicKey, Slot};
use eid_store::{Backend, Embedded, EmbeddedConfig, Memory, Scan};

use super::hex::hex;
use super::support::{admit, copy, database, entries, env, node, node_over};
use crate::users::account::{Record, open_key};
use crate::{
    Database, DatabasePreferences, DbError, Instance, PasswordCost, RedeemError, SyncSettings, User,
};

const CHEAP: PasswordCost = PasswordCost { memory_kib: 16, passes: 2, lanes: 1 };
const PASSWORD: &str = "Xanadu-7301 correct horse";

fn cheap(node: Instance) -> Instance {
    node.set_password_cost(CHEAP).unwrap();
    node
}

fn instance() -> Instance {
    cheap(node(1))
}

fn author(db: &Database) -> PublicKey {
    entries(db).last().unwrap().header().author
}

fn is_wrong(result: Result<User, DbError>) -> bool {
    matches!(result, Err(DbError::Login))
}

fn names(node: &Instance) -> Vec<(String, bool)> {
    node.users().unwrap().into_iter().map(|user| (user.name, user.has_password)).collect()
}

fn rows(backend: &Arc<dyn Backend>) -> Vec<(Vec<u8>, Bytes)> {
    backend.snapshot().unwrap().scan_many(&[Scan::prefix(&[])]).unwrap().remove(0)
}

fn holds(rows: &[(Vec<u8>, Bytes)], needle: &[u8]) -> bool {
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    rows.iter().any(|(key, value)| has(key) || has(value))
}

#[test]
fn what_a_user_writes_is_signed_with_the_users_key_and_what_others_write_is_not() {
    let node = instance();
    let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
    let db = ada.create_database("notes").unwrap().database;
    db.doc("main").set("title", "mine").unwrap();
    assert_eq!(author(&db), ada.key().unwrap());
    assert_ne!(ada.key().unwrap(), node.device());
    let found = ada.database("notes").unwrap().unwrap();
    found.set_title("ours").unwrap();
    assert_eq!((found.id(), author(&db)), (db.id(), ada.key().unwrap()));

    // The device may read, and neither it nor another user can write there.
    let plain = node.database("notes").unwrap().unwrap();
    assert_eq!(plain.doc("main").get_as::<String>("title").unwrap().as_deref(), Some("mine"));
    assert_eq!(plain.permission(&[node.device()]).unwrap(), Some(Permission::Read));
    assert!(matches!(plain.doc("main").set("title", "theirs"), Err(DbError::NotPermitted(_))));
    let ben = node.create_user("ben", None).unwrap();
    let bens = ben.database("notes").unwrap().unwrap();
    assert!(matches!(bens.doc("main").set("title", "theirs"), Err(DbError::NotPermitted(_))));
    assert!(matches!(
        bens.grant(Slot::Key(ben.key().unwrap()), Permission::Write),
        Err(DbError::NotPermitted(_))
    ));
    assert!(matches!(bens.create_invite(Permission::Read, None, None), Err(DbError::NotPermitted(_))));

    let own = node.create_database("plain").unwrap().database;
    own.doc("main").set("a", 1).unwrap();
    assert_eq!(author(&own), node.device());
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_the_same_error() {
    let node = instance();
    node.create_user("ada", Some(PASSWORD)).unwrap();
    node.create_user("ben", None).unwrap();
    let long = "p".repeat(1025);
    let tries = [
        ("ada", Some("wrong")),
        ("ada", None),
        ("ada", Some("")),
        ("ada", Some(long.as_str())),
        ("ben", Some(PASSWORD)),
        ("eve", Some(PASSWORD)),
        ("eve", None),
        ("", Some(PASSWORD)),
        ("a\u{0}", None),
        ("device", Some(PASSWORD)),
    ];
    for (name, password) in tries {
        let error = node.login(name, password).unwrap_err();
        assert!(matches!(error, DbError::Login), "{name:?}: {error}");
        assert_eq!(error.to_string(), "no user of this name has this password");
    }
    node.login("ada", Some(PASSWORD)).unwrap();
    node.login("ben", None).unwrap();
    assert!(node.login("device", None).unwrap().is_device());
}

#[test]
fn every_password_that_could_be_one_costs_the_same_whoever_it_is_tried_on() {
    let node = instance();
    node.create_user("ada", Some(PASSWORD)).unwrap();
    node.create_user("ben", None).unwrap();
    let tries = || node.accounts().tries.load(Ordering::Relaxed);
    for name in ["ada", "ben", "eve", "", " eve", "device"] {
        let before = tries();
        assert!(is_wrong(node.login(name, Some("wrong"))));
        assert_eq!(tries(), before + 1, "{name:?}");
        assert!(is_wrong(node.login(name, Some(""))) && is_wrong(node.login(name, Some(&"p".repeat(1025)))));
        assert_eq!(tries(), before + 1, "{name:?}");
    }
    let before = tries();
    assert!(is_wrong(node.login("ada", None)) && is_wrong(node.login("eve", None)));
    assert_eq!(tries(), before);
}

#[test]
fn names_are_compared_byte_by_byte_and_bounded() {
    let node = instance();
    for name in ["Zoë", "Zoe\u{308}", "张伟", "عائشة", "👩‍👩‍👧", &"n".repeat(128)] {
        let made = node.create_user(name, None).unwrap();
        assert_eq!(node.login(name, None).unwrap().key().unwrap(), made.key().unwrap());
        let again = node.create_user(name, Some("x")).unwrap_err();
        assert!(matches!(again, DbError::UserExists { name: held } if held == name));
    }
    let keys: BTreeSet<_> = node.users().unwrap().into_iter().map(|user| user.key).collect();
    assert_eq!(keys.len(), 7);
    let long = "n".repeat(129);
    for name in ["", " ada", "ada ", "a\nb", "a\u{7f}", long.as_str()] {
        assert!(matches!(node.create_user(name, None), Err(DbError::UserName)), "{name:?}");
    }
    assert!(matches!(node.create_user("device", None), Err(DbError::UserExists { .. })));
    assert!(matches!(node.create_user("p", Some("")), Err(DbError::Password)));
    assert!(matches!(node.create_user("p", Some(&"p".repeat(1025))), Err(DbError::Password)));
    assert_eq!(node.users().unwrap().len(), 7);
}

#[test]
fn users_are_listed_without_anybody_logged_in_and_survive_a_restart() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let key = {
        let node = cheap(node_over(&backend, 1));
        node.create_user("ben", None).unwrap();
        let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
        let db = ada.create_database("notes").unwrap().database;
        db.doc("main").set("title", "before").unwrap();
        ada.key().unwrap()
    };
    let node = cheap(node_over(&backend, 2));
    let listed = [("device", false), ("ada", true), ("ben", false)];
    assert_eq!(names(&node), listed.map(|(name, has)| (name.to_owned(), has)));
    assert_eq!(node.users().unwrap()[1].key, key);
    assert!(node.accounts().unlocked(&key).is_none());
    let ada = node.login("ada", Some(PASSWORD)).unwrap();
    assert_eq!(ada.key().unwrap(), key);
    let db = ada.database("notes").unwrap().unwrap();
    db.doc("main").set("title", "after").unwrap();
    assert_eq!(author(&db), key);
}

#[test]
fn logins_go_on_side_by_side_and_end_one_by_one() {
    let node = instance();
    let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
    let ben = node.create_user("ben", Some("other")).unwrap();
    let again = node.login("ada", Some(PASSWORD)).unwrap();
    let db = ada.create_database("notes").unwrap().database;
    let second = again.database_by_id(db.id());
    let bens = ben.create_database("bens").unwrap().database;
    let key = ada.key().unwrap();

    let kept = ada.clone();
    ada.logout();
    assert!(!kept.is_logged_in() && again.is_logged_in());
    assert!(matches!(db.doc("main").set("a", 1), Err(DbError::LoggedOut)));
    assert!(matches!(db.doc("main").get("a"), Ok(None)), "reading takes no key");
    assert!(matches!(kept.create_database("more"), Err(DbError::LoggedOut)));
    assert!(matches!(kept.key(), Err(DbError::LoggedOut)));
    assert!(matches!(kept.new_key(), Err(DbError::LoggedOut)));
    assert!(matches!(kept.database("notes"), Err(DbError::LoggedOut)));
    assert!(matches!(kept.tracked(), Err(DbError::LoggedOut)));
    assert!(matches!(kept.track(&db.id()), Err(DbError::LoggedOut)));
    assert!(matches!(kept.untrack(&db.id()), Err(DbError::LoggedOut)));
    assert!(matches!(kept.change_password(Some(PASSWORD), None), Err(DbError::LoggedOut)));
    second.doc("main").set("a", 2).unwrap();
    bens.doc("main").set("b", 1).unwrap();
    assert!(node.accounts().unlocked(&key).is_some());
    again.logout();
    assert!(matches!(second.doc("main").set("a", 3), Err(DbError::LoggedOut)));
    assert!(node.accounts().unlocked(&key).is_none(), "the keys are gone with the last login");
    bens.doc("main").set("b", 2).unwrap();
}

#[test]
fn threads_log_in_at_once() {
    let node = instance();
    node.create_user("ada", Some(PASSWORD)).unwrap();
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let node = node.clone();
                scope.spawn(move || {
                    let own = node.create_user("same", Some("p")).is_ok();
                    let ada = node.login("ada", Some(PASSWORD)).unwrap();
                    let db = ada.create_database(&format!("of thread {n}")).unwrap().database;
                    db.doc("main").set("n", n).unwrap();
                    assert_eq!(author(&db), ada.key().unwrap());
                    assert!(is_wrong(node.login("ada", Some("wrong"))));
                    own
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1, "one name is one user");
    assert_eq!(node.login("ada", Some(PASSWORD)).unwrap().tracked().unwrap().len(), 8);
}

#[test]
fn a_change_of_password_keeps_keys_and_ends_the_old_password() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let node = cheap(node_over(&backend, 1));
    let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
    let more = ada.new_key().unwrap();
    assert!(matches!(ada.change_password(Some("wrong"), Some("next")), Err(DbError::Login)));
    assert!(matches!(ada.change_password(None, Some("next")), Err(DbError::Login)));
    assert!(matches!(ada.change_password(Some(PASSWORD), Some("")), Err(DbError::Password)));
    node.login("ada", Some(PASSWORD)).unwrap();
    let sealed = |node: &Instance| node.store().local().namespace("users").scan(b"k").unwrap();
    let before = sealed(&node);
    ada.change_password(Some(PASSWORD), Some("next")).unwrap();
    assert_eq!(sealed(&node), before, "one row is wrapped anew");
    assert!(is_wrong(node.login("ada", Some(PASSWORD))));
    assert_eq!(node.login("ada", Some("next")).unwrap().keys().unwrap(), [ada.key().unwrap(), more]);
    ada.create_database("notes").unwrap();
    drop(ada);

    let node = cheap(node_over(&backend, 2));
    assert!(is_wrong(node.login("ada", Some(PASSWORD))));
    let ada = node.login("ada", Some("next")).unwrap();
    assert_eq!(ada.keys().unwrap().len(), 2);
    ada.change_password(Some("next"), None).unwrap();
    assert!(is_wrong(node.login("ada", Some("next"))));
    let open = node.login("ada", None).unwrap();
    open.change_password(None, Some("closed")).unwrap();
    assert!(is_wrong(node.login("ada", None)));
    node.login("ada", Some("closed")).unwrap();
    assert!(matches!(node.device_user().change_password(None, Some("p")), Err(DbError::DeviceUser)));
    assert!(matches!(node.device_user().new_key(), Err(DbError::DeviceUser)));
}

#[test]
fn the_bytes_at_rest_hold_neither_passwords_nor_private_keys() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let node = cheap(node_over(&backend, 1));
    let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
    ada.new_key().unwrap();
    let db = ada.create_database("notes").unwrap().database;
    db.doc("main").set("title", "plain text is found").unwrap();
    let seeds: Vec<_> = db.own_keys().unwrap().iter().map(|key| key.to_seed()).collect();
    assert_eq!(seeds.len(), 2);
    let check = |password: &str| {
        let rows = rows(&backend);
        assert!(holds(&rows, b"plain text is found"), "the scan finds what is there");
        assert!(holds(&rows, &*node.device_key().to_seed()), "the key of the device is plain");
        assert!(!holds(&rows, password.as_bytes()));
        for seed in &seeds {
            assert!(!holds(&rows, &**seed));
        }
    };
    check(PASSWORD);
    ada.change_password(Some(PASSWORD), Some("another long password")).unwrap();
    check("another long password");
    let shown = format!("{ada:?} {db:?} {node:?} {:?} {:?}", node.users().unwrap(), ada.tracked().unwrap());
    for seed in &seeds {
        let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        let listed = format!("{:?}", &seed[..]);
        assert!(!shown.contains(&hex) && !shown.contains(listed.trim_matches(['[', ']'])), "{shown}");
    }
    assert!(!shown.contains("another long password") && shown.contains("ada"));
}

/// Everything that is in the files below a directory.
fn files(directory: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { std::fs::read(path).unwrap() }).collect()
}

/// The secrets, by number, whose beginning is somewhere in the bytes.
fn found(bytes: &[u8], secrets: &[Vec<u8>]) -> Vec<usize> {
    let begin = |secret: &[u8]| *secret.first_chunk::<8>().expect("secrets are longer");
    let begins: BTreeSet<[u8; 8]> = secrets.iter().map(|secret| begin(secret)).collect();
    let there: BTreeSet<[u8; 8]> =
        bytes.windows(8).map(begin).filter(|window| begins.contains(window)).collect();
    (0..secrets.len()).filter(|n| there.contains(&begin(&secrets[*n]))).collect()
}

/// The forms in which a secret could be written.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let bits: String = secret.iter().map(|byte| format!("{byte:08b}")).collect();
    let base32 = bits.as_bytes().chunks_exact(5).map(|bits| {
        let five = bits.iter().fold(0, |number, bit| number << 1 | usize::from(bit - b'0'));
        b"abcdefghijklmnopqrstuvwxyz234567"[five]
    });
    let base32: Vec<u8> = base32.collect();
    let hex = hex(secret).into_bytes();
    vec![secret.to_vec(), hex.to_ascii_uppercase(), hex, base32.to_ascii_uppercase(), base32]
}

#[test]
fn neither_the_rows_nor_the_files_hold_a_password_or_a_key_that_one_opens_in_any_form() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.eid");
    let backend: Arc<dyn Backend> = Arc::new(Embedded::open(&path, EmbeddedConfig::default()).unwrap());
    let node = cheap(node_over(&backend, 1));
    let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
    let ben = node.create_user("ben", None).unwrap();
    ben.change_password(None, Some("bens long password")).unwrap();
    for user in [&ada, &ben] {
        user.new_key().unwrap();
    }
    ada.change_password(Some(PASSWORD), Some("another long password")).unwrap();
    let db = ada.create_database("notes").unwrap().database;
    let vault = db.password_store("vault").with_cost(CHEAP);
    vault.create("password of a store").unwrap().doc().set("pin", "what is sealed").unwrap();
    vault.change_password("password of a store", "next password of a store").unwrap();
    vault.lock().unwrap();
    vault.unlock("next password of a store").unwrap();
    db.doc("main").set("title", "plain text is found").unwrap();

    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for (user, password) in [(&ada, "another long password"), (&ben, "bens long password")] {
        secrets.extend(
            user.database_by_id(db.id()).own_keys().unwrap().iter().map(|key| key.to_seed().to_vec()),
        );
        let (_, master) = node.try_password(user.name(), Some(password)).unwrap();
        secrets.push(master.bytes().to_vec());
        secrets.push(password.into());
    }
    secrets.extend(
        [PASSWORD, "password of a store", "next password of a store", "what is sealed"].map(Into::into),
    );
    secrets.extend(crate::sealed::tests_open_keys(&db, "vault"));
    assert_eq!(secrets.len(), 2 * 4 + 4 + 1);
    let pairs = rows(&backend);
    let rows: Vec<u8> = pairs.iter().flat_map(|(key, value)| [key, &value[..]].concat()).collect();
    let there = vec![b"plain text is found".to_vec(), node.device_key().to_seed().to_vec()];
    node.close().unwrap();
    for (name, bytes) in [("rows", rows), ("files", files(directory.path()))] {
        assert_eq!(found(&bytes, &there), [0, 1], "the scan of the {name} finds what is there");
        let forms: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        assert_eq!(found(&bytes, &forms), Vec::<usize>::new(), "in the {name}, of five forms of each secret");
    }
}

#[test]
fn what_lay_open_before_an_account_had_a_password_opens_nothing_that_is_stored_then() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let node = cheap(node_over(&backend, 1));
    let ada = node.create_user("ada", None).unwrap();
    let other = node.login("ada", None).unwrap();
    ada.new_key().unwrap();
    let stored = |node: &Instance| node.store().local().namespace("users");
    let account = |node: &Instance| Record::decode(&stored(node).get(b"aada").unwrap().unwrap()).unwrap();
    // The password that was there first went, so what it protects lies open again.
    ada.change_password(None, Some("first")).unwrap();
    ada.change_password(Some("first"), None).unwrap();
    let kept = account(&node).open(None).unwrap();
    ada.change_password(None, Some(PASSWORD)).unwrap();
    let more = [ada.new_key().unwrap(), other.new_key().unwrap()];
    let id = account(&node).id;
    let keys = stored(&node).scan(b"k").unwrap();
    assert_eq!(keys.len(), 4);
    for (row, sealed) in &keys {
        let public = PublicKey(row[row.len() - 32..].try_into().unwrap());
        assert!(open_key(id, &kept, &public, sealed).is_err());
    }
    assert!(!holds(&rows(&backend), kept.bytes()));
    let (first, all) = (ada.key().unwrap(), ada.keys().unwrap());
    drop((ada, other, node));

    let node = cheap(node_over(&backend, 2));
    assert!(is_wrong(node.login("ada", None)));
    let ada = node.login("ada", Some(PASSWORD)).unwrap();
    assert_eq!((ada.key().unwrap(), ada.keys().unwrap().len()), (first, all.len()));
    assert!(more.iter().all(|key| ada.keys().unwrap().contains(key)));
}

#[test]
fn a_login_that_a_change_of_password_overtakes_is_refused() {
    let node = instance();
    let ada = node.create_user("ada", None).unwrap();
    let (record, master) = node.try_password("ada", None).unwrap();
    assert!(node.enter_unless_changed(record.clone(), master.clone()).is_ok());
    ada.change_password(None, Some(PASSWORD)).unwrap();
    drop(ada);
    assert!(is_wrong(node.enter_unless_changed(record, master)));
    node.login("ada", Some(PASSWORD)).unwrap();
}

#[test]
fn an_account_whose_row_was_exchanged_opens_nothing() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let node = cheap(node_over(&backend, 1));
    node.create_user("ada", Some(PASSWORD)).unwrap();
    node.create_user("ben", Some("bens")).unwrap();
    let users = node.store().local().namespace("users");
    let (ada, ben) = (users.get(b"aada").unwrap().unwrap(), users.get(b"aben").unwrap().unwrap());
    // Ben puts his account under Ada's name, as it is and renamed.
    users.put(b"aada", ben.clone()).unwrap();
    assert!(matches!(node.login("ada", Some("bens")), Err(DbError::Corrupt { .. })));
    let at = ben.windows(3).position(|window| window == b"ben").unwrap();
    let mut renamed = ben.to_vec();
    renamed[at..at + 3].copy_from_slice(b"ada");
    users.put(b"aada", renamed).unwrap();
    assert!(is_wrong(node.login("ada", Some("bens"))));
    // A key of Ben's under Ada's id does not open.
    users.put(b"aada", ada).unwrap();
    let keys = users.scan(b"k").unwrap();
    users.put(&keys[0].0, keys[1].1.clone()).unwrap();
    let logins = [node.login("ada", Some(PASSWORD)), node.login("ben", Some("bens"))];
    assert_eq!(logins.iter().filter(|login| matches!(login, Err(DbError::Corrupt { .. }))).count(), 1);
}

#[test]
fn a_cost_below_the_floor_is_not_set() {
    let node = node(1);
    for (memory_kib, passes) in [(15, 2), (16, 1), (u32::MAX, 3)] {
        let cost = PasswordCost { memory_kib, passes, lanes: 1 };
        assert!(matches!(node.set_password_cost(cost), Err(DbError::PasswordCost)));
    }
}

#[test]
fn the_strongest_key_of_a_user_is_chosen_directly_or_as_everyone() {
    let node = instance();
    let db = node.create_database("shared").unwrap().database;
    let ada = node.create_user("ada", None).unwrap();
    let (first, second) = (ada.key().unwrap(), ada.new_key().unwrap());
    let mine = ada.database_by_id(db.id());
    let writes = |n: i64| mine.doc("main").set("n", n).map(|()| author(&db));
    assert_eq!(ada.permission(&db.id()).unwrap(), None);
    assert!(matches!(writes(0), Err(DbError::NotPermitted(_))));

    db.grant(Slot::Everyone, Permission::Write).unwrap();
    assert_eq!(writes(1).unwrap(), first);
    assert_eq!(ada.permission(&db.id()).unwrap(), Some((first, Permission::Write)));
    // A slot of its own goes before the one for everyone, also when it gives less.
    db.grant(Slot::Key(first), Permission::Read).unwrap();
    assert_eq!(writes(2).unwrap(), second);
    db.revoke(Slot::Key(second), KeyMode::Leave).unwrap();
    assert!(matches!(writes(3), Err(DbError::NotPermitted(_))));
    assert_eq!(ada.permission(&db.id()).unwrap(), Some((first, Permission::Read)));
    db.grant(Slot::Key(second), Permission::Admin(5)).unwrap();
    assert_eq!(writes(4).unwrap(), second);
    db.grant(Slot::Key(first), Permission::Admin(4)).unwrap();
    assert_eq!(writes(5).unwrap(), first);
    mine.set_title("by the stronger").unwrap();
    assert_eq!(author(&db), first);
}

#[test]
fn a_user_seals_what_an_encrypted_store_opens() {
    let node = instance();
    let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
    let db = ada.create_database("notes").unwrap().database;
    let vault = db.password_store("vault").with_cost(CHEAP);
    vault.create("store password").unwrap();
    db.doc("vault").set("pin", 1234).unwrap();
    assert_eq!(author(&db), ada.key().unwrap());
    vault.lock().unwrap();
    vault.unlock("store password").unwrap();
    assert_eq!(db.doc("vault").get_as::<i64>("pin").unwrap(), Some(1234));
}

#[test]
fn undo_takes_back_what_the_user_wrote_last_and_not_what_the_device_did() {
    let node = instance();
    let db = node.create_database("shared").unwrap().database;
    let ada = node.create_user("ada", None).unwrap();
    db.grant(Slot::Key(ada.key().unwrap()), Permission::Write).unwrap();
    let mine = ada.database_by_id(db.id());
    mine.doc("main").set("a", "of Ada").unwrap();
    db.doc("main").set("b", "of the device").unwrap();
    mine.undo_last().unwrap().unwrap();
    assert_eq!(db.doc("main").get("a").unwrap(), None);
    assert!(db.doc("main").get("b").unwrap().is_some());
}

#[test]
fn an_invite_of_a_user_is_honoured_while_that_user_is_logged_in() {
    let node = instance();
    let ada = node.create_user("ada", Some(PASSWORD)).unwrap();
    let db = ada.create_database("notes").unwrap().database;
    let invite = db.create_invite(Permission::Write, Some(1), None).unwrap().public();
    let joiner = PublicKey([9; 32]);
    ada.logout();
    let away = node.redeem(&db.id(), &[invite], &joiner, "joiner");
    assert!(matches!(away, Err(RedeemError::IssuerAway)));
    let ada = node.login("ada", Some(PASSWORD)).unwrap();
    assert_eq!(node.redeem(&db.id(), &[invite], &joiner, "joiner").unwrap(), Permission::Write);
    assert_eq!(author(&db), ada.key().unwrap());
    assert_eq!(db.permission(&[joiner]).unwrap(), Some(Permission::Write));
}

#[test]
fn a_user_who_joins_is_granted_what_was_promised_and_the_device_may_read() {
    let node = instance();
    let db = node.create_database("notes").unwrap().database;
    let invite = db.create_invite(Permission::Write, Some(2), None).unwrap().public();
    let [device, user, other] = [PublicKey([8; 32]), PublicKey([9; 32]), PublicKey([10; 32])];
    for _ in 0..2 {
        let granted = node.redeem(&db.id(), &[invite, user], &device, "laptop").unwrap();
        assert_eq!(granted, Permission::Write);
        assert_eq!(db.permission(&[user]).unwrap(), Some(Permission::Write));
        assert_eq!(db.permission(&[device]).unwrap(), Some(Permission::Read));
    }
    assert_eq!(node.redeem(&db.id(), &[other, invite], &device, "laptop").unwrap(), Permission::Write);
    let third = node.redeem(&db.id(), &[invite, PublicKey([11; 32])], &device, "laptop");
    assert!(matches!(third, Err(RedeemError::UsedUp)), "each user of a device is a use");
    db.revoke(Slot::Key(user), KeyMode::Leave).unwrap();
    let revoked = node.redeem(&db.id(), &[invite, user], &device, "laptop");
    assert!(matches!(revoked, Err(RedeemError::Revoked)));
    let alone = node.redeem(&db.id(), &[user], &device, "laptop");
    assert!(matches!(alone, Err(RedeemError::Unknown)), "a key is no invite");
}

#[test]
fn another_device_of_a_user_has_a_key_of_its_own_that_the_first_one_grants() {
    let (first, second) = (instance(), cheap(node(2)));
    let ada = first.create_user("ada", Some(PASSWORD)).unwrap();
    let there = second.create_user("ada", Some("another")).unwrap();
    let db = ada.create_database("notes").unwrap().database;
    let foreign = first.create_database("foreign").unwrap().database;
    ada.track(&foreign.id()).unwrap();
    let key = there.key().unwrap();
    assert_ne!(key, ada.key().unwrap());

    let enrolled = ada.enrol(&key).unwrap();
    assert_eq!(enrolled.granted, [(db.id(), Permission::Admin(2))]);
    assert_eq!(enrolled.skipped, [foreign.id()]);
    assert_eq!(ada.enrol(&key).unwrap().granted, enrolled.granted, "once is enough");
    let entries_before = db.entries().unwrap();
    ada.enrol(&key).unwrap();
    assert_eq!(db.entries().unwrap(), entries_before);

    copy(&db, &second);
    let moved = there.database_by_id(db.id());
    moved.doc("main").set("from", "the other device").unwrap();
    assert_eq!(author(&moved), key);
    let all = entries(&moved);
    admit(&first, db.id(), &[all.last().unwrap()]);
    assert_eq!(db.doc("main").get_as::<String>("from").unwrap().as_deref(), Some("the other device"));
    // The one that was added cannot remove the one that added it; the other way round it can be.
    assert!(matches!(
        moved.revoke(Slot::Key(ada.key().unwrap()), KeyMode::Leave),
        Err(DbError::NotPermitted(_))
    ));
    db.revoke(Slot::Key(key), KeyMode::Leave).unwrap();
    assert!(ada.enrol(&key).unwrap().granted.is_empty(), "what was taken away is not given back in passing");
}

#[test]
fn preferences_of_users_are_kept_apart_and_combined() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let node = node_over(&backend, 1);
    let (ada, ben) = (node.create_user("ada", None).unwrap(), node.create_user("ben", None).unwrap());
    let mut changes = node.preferences_changes();
    let db = ada.create_database("notes").unwrap().database;
    let tree = db.id();
    assert_eq!(changes.next_ready().into_iter().collect::<Vec<_>>(), [tree]);
    let default = DatabasePreferences { database: tree, sync: SyncSettings::default() };
    assert_eq!(ada.tracked().unwrap(), std::slice::from_ref(&default));
    assert_eq!((ben.preferences(&tree).unwrap(), ben.tracked().unwrap()), (None, vec![]));
    assert!(matches!(ben.open(&tree), Err(DbError::NotTracked)));
    assert_eq!(node.device_user().tracked().unwrap(), []);

    let seldom = SyncSettings {
        sync_on_commit: false,
        interval_seconds: Some(600),
        properties: BTreeMap::from([("a".into(), "1".into())]),
        ..SyncSettings::default()
    };
    ada.set_preferences(&DatabasePreferences { sync: seldom.clone(), ..default.clone() }).unwrap();
    assert_eq!(ada.track(&tree).unwrap().sync, seldom, "what is tracked stays as it is");
    assert_eq!(node.combined_preferences(&tree).unwrap(), Some(seldom.clone()));
    let often = SyncSettings {
        sync_enabled: false,
        sync_on_commit: true,
        interval_seconds: Some(60),
        properties: BTreeMap::from([("b".into(), "2".into())]),
    };
    assert!(!changes.next_ready().is_empty());
    assert!(changes.next_ready().is_empty(), "each change is told once");
    ben.set_preferences(&DatabasePreferences { sync: often, ..default.clone() }).unwrap();
    let together = SyncSettings {
        sync_enabled: true,
        sync_on_commit: true,
        interval_seconds: Some(60),
        properties: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
    };
    assert_eq!(node.combined_preferences(&tree).unwrap(), Some(together.clone()));
    assert!(!changes.next_ready().is_empty());
    let zero = SyncSettings { interval_seconds: Some(0), ..SyncSettings::default() };
    let bad = ben.set_preferences(&DatabasePreferences { sync: zero, ..default });
    assert!(matches!(bad, Err(DbError::Preferences)) && changes.next_ready().is_empty());
    ben.open(&tree).unwrap();
    drop((ada, ben, db, node));

    let node = node_over(&backend, 2);
    assert_eq!(node.combined_preferences(&tree).unwrap(), Some(together), "nobody has to be logged in");
    let ben = node.login("ben", None).unwrap();
    assert!(ben.untrack(&tree).unwrap() && !ben.untrack(&tree).unwrap());
    assert_eq!(node.combined_preferences(&tree).unwrap(), Some(seldom));
    node.forget(&tree).unwrap();
    assert_eq!(node.combined_preferences(&tree).unwrap(), None);
    assert_eq!(node.login("ada", None).unwrap().tracked().unwrap(), []);
}

#[test]
fn without_accounts_the_user_of_the_device_tracks_what_is_made() {
    let db = database();
    let node = db.instance();
    assert_eq!(node.combined_preferences(&db.id()).unwrap(), Some(SyncSettings::default()));
    let device = node.device_user();
    assert_eq!(device.tracked().unwrap().len(), 1);
    let mine = device.open(&db.id()).unwrap();
    mine.doc("main").set("a", 1).unwrap();
    assert_eq!((author(&db), device.key().unwrap()), (node.device(), node.device()));
}

#[test]
fn whoever_waits_for_preferences_is_woken() {
    let node = Instance::open(Arc::new(Memory::new()), env(1).0).unwrap();
    let db = node.create_database("notes").unwrap().database;
    let mut changes = node.preferences_changes();
    let waiting = std::thread::spawn(move || futures_block_on(changes.next()));
    node.device_user().untrack(&db.id()).unwrap();
    assert_eq!(waiting.join().unwrap().into_iter().collect::<Vec<_>>(), [db.id()]);
}

/// Waits for a future on this thread.
fn futures_block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(out) => return out,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
