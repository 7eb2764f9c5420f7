//! The golden vectors in `vectors/sealed.json`: what was sealed once opens for ever.

use eid_core::{PublicKey, StoreName, TreeId};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::config::Config;
use super::format::{DataKey, Enc, Place, open_section, seal_section};
use crate::tests::hex::{bytes, drawn, fixed, hex};
use crate::wrap::PasswordCost;

fn key(label: &str) -> DataKey {
    DataKey::new(Zeroizing::new(drawn(label)))
}

fn section(name: &str, store: &str, payload: &[u8]) -> Json {
    let (tree, author) = (TreeId(drawn("tree")), PublicKey(drawn("author")));
    let (key, store) = (key(name), StoreName::new(store).unwrap());
    let place = Place { tree: &tree, store: &store, author: &author };
    let nonce = drawn(&format!("nonce of {name}"));
    let (enc, sealed) = seal_section(&key, place, nonce, payload);
    json!({
        "form": "section", "name": name, "data_key": hex(key.bytes()), "tree": hex(&tree.0),
        "store": store.as_str(), "author": hex(&author.0), "nonce": hex(&nonce), "payload": hex(payload),
        "enc": hex(&enc), "sealed": hex(&sealed), "opens": true,
    })
}

fn config(name: &str, password: &str, cost: PasswordCost, replaces: Vec<[u8; 32]>) -> Json {
    let (tree, store, key) = (TreeId(drawn("tree")), StoreName::new("vault").unwrap(), key("config"));
    let (salt, nonce) = (drawn(&format!("salt of {name}")), drawn(&format!("nonce of {name}")));
    let config = Config::wrap((&tree, &store), &key, password, cost, (salt, nonce), replaces.clone());
    json!({
        "form": "config", "name": name, "data_key": hex(key.bytes()), "tree": hex(&tree.0),
        "store": store.as_str(), "password": password,
        "cost": [cost.memory_kib, cost.passes, cost.lanes],
        "replaces": replaces.iter().map(|hash| hex(hash)).collect::<Vec<_>>(),
        "config": hex(&config.encode()), "opens": true,
    })
}

/// The same with one thing other than it was sealed.
fn changed(mut vector: Json, name: &str, field: &str, to: &str) -> Json {
    vector["name"] = json!(name);
    vector["opens"] = json!(false);
    assert_ne!(vector[field], json!(to));
    vector[field] = json!(to);
    vector
}

fn flipped(vector: &Json, field: &str, at: usize) -> String {
    let mut held = bytes(&vector[field]);
    let at = at.min(held.len() - 1);
    held[at] ^= 1;
    hex(&held)
}

fn vectors() -> Vec<Json> {
    let cost = |memory_kib, passes| PasswordCost { memory_kib, passes, lanes: 1 };
    let short = section("short", "vault", b"hello");
    let first = config("password", "correct horse battery staple", cost(8, 1), Vec::new());
    let other = hex(&drawn::<32>("another"));
    vec![
        section("empty", "vault", b""),
        section("full bucket", "vault", &[7; 252]),
        section("one more", "vault", &[7; 253]),
        section("long", "ünïcödé", &[0; 5000]),
        changed(short.clone(), "another tree", "tree", &other),
        changed(short.clone(), "another author", "author", &other),
        changed(short.clone(), "another store", "store", "Vault"),
        changed(short.clone(), "another key", "data_key", &other),
        changed(short.clone(), "another key id", "enc", &flipped(&short, "enc", 5)),
        changed(short.clone(), "another nonce", "enc", &flipped(&short, "enc", 25)),
        changed(short.clone(), "another commitment", "enc", &flipped(&short, "enc", 60)),
        changed(short.clone(), "another ciphertext", "sealed", &flipped(&short, "sealed", 0)),
        changed(short.clone(), "another tag", "sealed", &flipped(&short, "sealed", usize::MAX)),
        short,
        config("costly", "pässwörd 密码", cost(64, 3), Vec::new()),
        config("replaces", "", cost(8, 2), vec![drawn("b"), drawn("a")]),
        changed(first.clone(), "wrong password", "password", "correct horse battery stable"),
        changed(first.clone(), "config of another tree", "tree", &other),
        changed(first.clone(), "config of another store", "store", "vaul"),
        changed(first.clone(), "another wrapped key", "config", &flipped(&first, "config", 130)),
        changed(first.clone(), "another proof", "config", &flipped(&first, "config", usize::MAX)),
        first,
    ]
}

#[test]
fn what_is_sealed_today_is_what_was_sealed_when_the_vectors_were_made() {
    let lines: Vec<String> = vectors().iter().map(Json::to_string).collect();
    let made = format!("[\n{}\n]\n", lines.join(",\n"));
    assert!(made == include_str!("../../../../vectors/sealed.json"), "the form has changed");
}

#[test]
fn the_vectors_open() {
    let vectors: Vec<Json> = serde_json::from_str(include_str!("../../../../vectors/sealed.json")).unwrap();
    assert!(vectors.len() >= 22);
    for vector in vectors {
        let store = StoreName::new(vector["store"].as_str().unwrap()).unwrap();
        let (tree, data_key) = (TreeId(fixed(&vector["tree"])), fixed(&vector["data_key"]));
        let key = DataKey::new(Zeroizing::new(data_key));
        let opens = if vector["form"] == "section" {
            let author = PublicKey(fixed(&vector["author"]));
            let place = Place { tree: &tree, store: &store, author: &author };
            let enc = Enc::decode(&bytes(&vector["enc"])).unwrap();
            open_section(&key, place, &enc, &bytes(&vector["sealed"])).ok().map(Vec::from)
                == Some(bytes(&vector["payload"]))
        } else {
            let config = Config::decode(&bytes(&vector["config"])).unwrap();
            let password = vector["password"].as_str().unwrap();
            let opened = config.unwrap((&tree, &store), password);
            opened.is_some_and(|opened| {
                *opened.bytes() == data_key && config.is_proven_by(&opened, (&tree, &store))
            })
        };
        assert_eq!(opens, vector["opens"], "{}", vector["name"]);
    }
}
