//! The golden vectors in `vectors/users.json`: an account that was written once opens for ever.

use eid_core::{PublicKey, SecretKey};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::account::{MasterKey, Protection, Record, UserId, open_key, seal_key};
use crate::tests::hex::{bytes, drawn, fixed, hex};
use crate::wrap::PasswordCost;

fn master(label: &str) -> MasterKey {
    MasterKey::new(Zeroizing::new(drawn(label)))
}

fn account(name: &str, user: &str, password: Option<(&str, PasswordCost)>) -> Json {
    let (id, master) = (UserId(drawn("user")), master("master"));
    let key = SecretKey::from_seed(drawn("seed")).public();
    let fresh = (drawn(&format!("salt of {name}")), drawn(&format!("nonce of {name}")));
    let record = match password {
        Some(password) => Record::protect(id, user, key, &master, password, fresh),
        None => Record { id, name: user.to_owned(), key, protection: Protection::None(master.clone()) },
    };
    json!({
        "form": "account", "name": name, "user": user, "id": hex(&id.0), "key": hex(&key.0),
        "password": password.map(|(password, _)| password),
        "cost": password.map(|(_, cost)| [cost.memory_kib, cost.passes, cost.lanes]),
        "master": hex(master.bytes()), "account": hex(&record.encode()), "opens": true,
    })
}

fn key(name: &str, seed: &str) -> Json {
    let (id, master, key) = (UserId(drawn("user")), master("master"), SecretKey::from_seed(drawn(seed)));
    let sealed = seal_key(id, &master, &key, drawn(&format!("nonce of {name}")));
    json!({
        "form": "key", "name": name, "id": hex(&id.0), "master": hex(master.bytes()),
        "public": hex(&key.public().0), "seed": hex(&*key.to_seed()), "sealed": hex(&sealed), "opens": true,
    })
}

/// The same with one thing other than it was sealed.
fn changed(mut vector: Json, name: &str, field: &str, to: Json) -> Json {
    vector["name"] = json!(name);
    vector["opens"] = json!(false);
    assert_ne!(vector[field], to);
    vector[field] = to;
    vector
}

fn flipped(vector: &Json, field: &str, at: usize) -> Json {
    let mut held = bytes(&vector[field]);
    let at = at.min(held.len() - 1);
    held[at] ^= 1;
    json!(hex(&held))
}

fn vectors() -> Vec<Json> {
    let least = PasswordCost { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
    let more = PasswordCost { memory_kib: 32 * 1024, passes: 3, lanes: 1 };
    let first = account("password", "ada", Some(("correct horse battery staple", least)));
    let open = account("no password", "ben", None);
    let sealed = key("first key", "seed");
    let renamed = flipped(&first, "account", 20);
    vec![
        account("costly, not ASCII", "Zoë 张", Some(("pässwörd 密码", more))),
        changed(first.clone(), "wrong password", "password", json!("correct horse battery stable")),
        changed(first.clone(), "no password given", "password", json!(null)),
        changed(first.clone(), "another id", "account", flipped(&first, "account", 5)),
        changed(first.clone(), "another name", "account", renamed),
        changed(first.clone(), "another first key", "account", flipped(&first, "account", 40)),
        changed(first.clone(), "another salt", "account", flipped(&first, "account", 72)),
        changed(first.clone(), "another master key", "account", flipped(&first, "account", usize::MAX)),
        changed(open.clone(), "a password given for none", "password", json!("")),
        first,
        open,
        changed(sealed.clone(), "key of another user", "id", json!(hex(&drawn::<16>("another")))),
        changed(
            sealed.clone(),
            "key under another master key",
            "master",
            json!(hex(&drawn::<32>("another"))),
        ),
        changed(sealed.clone(), "key by another name", "public", json!(hex(&drawn::<32>("another")))),
        changed(sealed.clone(), "another commitment", "sealed", flipped(&sealed, "sealed", 40)),
        changed(sealed.clone(), "another ciphertext", "sealed", flipped(&sealed, "sealed", 70)),
        changed(sealed.clone(), "another tag", "sealed", flipped(&sealed, "sealed", usize::MAX)),
        sealed,
        key("another key", "another seed"),
    ]
}

#[test]
fn what_is_written_today_is_what_was_written_when_the_vectors_were_made() {
    let lines: Vec<String> = vectors().iter().map(Json::to_string).collect();
    let made = format!("[\n{}\n]\n", lines.join(",\n"));
    assert!(made == include_str!("../../../../vectors/users.json"), "the form has changed");
}

#[test]
fn the_vectors_open() {
    let vectors: Vec<Json> = serde_json::from_str(include_str!("../../../../vectors/users.json")).unwrap();
    assert!(vectors.len() >= 19);
    for vector in vectors {
        let opens = if vector["form"] == "account" {
            let record = Record::decode(&bytes(&vector["account"])).unwrap();
            record.open(vector["password"].as_str()).is_some_and(|master| {
                *master.bytes() == fixed(&vector["master"])
                    && record.id.0 == fixed(&vector["id"])
                    && record.key.0 == fixed(&vector["key"])
                    && vector["user"] == record.name
            })
        } else {
            let master = MasterKey::new(Zeroizing::new(fixed(&vector["master"])));
            let (id, public) = (UserId(fixed(&vector["id"])), PublicKey(fixed(&vector["public"])));
            open_key(id, &master, &public, &bytes(&vector["sealed"]))
                .is_ok_and(|key| *key.to_seed() == fixed(&vector["seed"]))
        };
        assert_eq!(opens, vector["opens"], "{}", vector["name"]);
    }
}
