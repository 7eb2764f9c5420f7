//! Rights as processes: what a revoked device wrote meanwhile, who may not, the recovery key, and another key.

use serde_json::{Value, json};

use crate::process::Eid;

fn key_of(eid: &Eid) -> String {
    eid.ok(&["init"]).json()["device"].as_str().expect("a key").to_owned()
}

fn state(eid: &Eid) -> Value {
    eid.ok(&["db", "show", "notes"]).json()["state_hash"].clone()
}

#[test]
fn what_a_device_wrote_while_it_was_revoked_elsewhere_is_void_until_an_admin_accepts_it() {
    let (a, b, c) = (Eid::new(), Eid::new(), Eid::new());
    a.ok(&["db", "create", "notes"]);
    a.ok(&["set", "notes", "kept", "1"]);
    let (_a_node, at_a) = a.serve();
    let ticket = a.ok(&["share", "notes", "--write"]).json()["ticket"].as_str().unwrap().to_owned();
    c.ok(&["join", &ticket]);
    b.ok(&["join", &ticket]);
    let key = key_of(&b);
    b.ok(&["set", "notes", "late", "2"]);
    let late = b.ok(&["log", "notes", "--limit", "1"]).json()["entry"].clone();
    let revoked = a.ok(&["keys", "revoke", "notes", &key]).json();
    assert_eq!(revoked["void"], 0, "it is not here yet");
    // Somebody who knows nothing of it brings the entry.
    let (_b_node, at_b) = b.serve();
    c.ok(&["sync", "notes", "--address", &at_b]);
    assert_eq!(c.ok(&["get", "notes", "late"]).json(), 2);
    c.ok(&["sync", "notes", "--address", &at_a]);
    for eid in [&a, &c] {
        eid.fails(&["get", "notes", "late"], 4, "not_found");
        let void = eid.ok(&["audit", "notes", "--void"]).lines();
        assert_eq!(void.len(), 1, "{void:?}");
        assert_eq!((&void[0]["entry"], &void[0]["author"]), (&late, &json!(key)));
        assert_eq!(void[0]["stores"], json!(["main"]));
        let reason = void[0]["reason"].as_str().unwrap();
        assert!(
            reason.contains("removed") && reason.contains(revoked["entry"].as_str().unwrap()),
            "{reason}"
        );
        let log = eid.ok(&["log", "notes"]).lines();
        let marked: Vec<&Value> = log.iter().filter(|e| e["void"] == true).map(|e| &e["entry"]).collect();
        assert_eq!(marked, [&late]);
        let drawn = eid.run(&["log", "notes", "--graph"]).out;
        let line = drawn.lines().find(|line| line.contains("void main")).expect("it is marked");
        assert!(line.contains('⊗'), "{line}");
        assert_eq!(drawn.matches('⊗').count(), 1, "{drawn}");
        let picture = eid.dir().with_file_name("void.svg");
        eid.ok(&["graph", "notes", "--out", picture.to_str().unwrap()]);
        let picture = std::fs::read_to_string(picture).unwrap();
        assert_eq!(picture.matches("void: it has no effect").count(), 1, "{picture}");
        let database = eid.ok(&["status", "notes"]).json()["databases"][0].clone();
        assert_eq!((&database["void"], &database["stale"]), (&json!(1), &json!(false)), "{database}");
        let told = eid.run(&["status"]).out;
        assert!(told.contains("1 entry in notes has no effect (void): eid audit notes --void"), "{told}");
        assert!(!told.contains("stale"), "{told}");
        let keys = eid.ok(&["keys", "list", "notes"]).lines();
        let slot = keys.iter().find(|slot| slot["key"] == key.as_str()).unwrap();
        assert_eq!((&slot["status"], &slot["entry"]), (&json!("revoked"), &revoked["entry"]));
        let changes = eid.ok(&["audit", "notes"]).lines();
        let last = changes.iter().find(|change| change["entry"] == revoked["entry"]).unwrap();
        let change = json!([{"op": "revoke", "key": key, "mode": "remove", "fence": null}]);
        assert_eq!((&last["changes"], &last["void"]), (&change, &json!(false)));
        let page = eid.ok(&["audit", "notes", "--limit", "1", "--from", "1"]);
        assert_eq!((page.lines().len(), page.lines()[0]["place"].as_u64() > Some(0)), (1, true));
    }
    assert_eq!(state(&a), state(&c));
    let id = late.as_str().unwrap();
    c.fails(&["accept", "notes", id], 3, "forbidden");
    let accepted = a.ok(&["accept", "notes", id]).json();
    assert_eq!((&accepted["accepted"], &accepted["still_void"]), (&json!([late]), &json!([])));
    a.fails(&["accept", "notes", id], 1, "invalid_value");
    c.ok(&["sync", "notes", "--address", &at_a]);
    for eid in [&a, &c] {
        assert_eq!(eid.ok(&["get", "notes", "late"]).json(), 2);
        assert!(eid.ok(&["audit", "notes", "--void"]).lines().is_empty());
        assert_eq!(eid.ok(&["status"]).json()["databases"][0]["void"], 0);
        assert!(!eid.run(&["status"]).out.contains("void"));
        assert!(!eid.run(&["log", "notes", "--graph"]).out.contains('⊗'));
    }
    assert_eq!(state(&a), state(&c));
}

#[test]
fn to_a_device_that_is_revoked_nothing_is_sent_and_that_is_no_failure() {
    let (a, b, c) = (Eid::new(), Eid::new(), Eid::new());
    a.ok(&["db", "create", "notes"]);
    let (_a_node, at_a) = a.serve();
    let ticket = a.ok(&["share", "notes", "--write"]).json()["ticket"].as_str().unwrap().to_owned();
    c.ok(&["join", &ticket]);
    b.ok(&["join", &ticket]);
    a.ok(&["keys", "revoke", "notes", &key_of(&b)]);
    c.ok(&["sync", "notes", "--address", &at_a]);
    c.ok(&["set", "notes", "mine", "1"]);
    let (_b_node, at_b) = b.serve();
    b.ok(&["set", "notes", "late", "2"]);
    let done = c.ok(&["sync", "notes", "--address", &at_b]);
    let session = done.json()["databases"][0].clone();
    assert_eq!((&session["pulled"], &session["pushed"]), (&json!(1), &json!(0)), "{session}");
    assert!(done.err.contains("may not read notes"), "{}", done.err);
    b.fails(&["get", "notes", "mine"], 4, "not_found");
    let void = c.run(&["audit", "notes", "--void"]);
    assert!(void.err.contains("eid accept notes ENTRY"), "{}", void.err);
}

#[test]
fn a_removal_tells_how_much_became_void_and_a_fence_decides_what_stays() {
    let (a, b) = (Eid::new(), Eid::new());
    a.ok(&["db", "create", "notes"]);
    let (_node, at_a) = a.serve();
    let ticket = a.ok(&["share", "notes", "--write"]).json()["ticket"].as_str().unwrap().to_owned();
    b.ok(&["join", &ticket]);
    b.ok(&["set", "notes", "x", "1"]);
    let fence = b.ok(&["log", "notes", "--limit", "1"]).json()["entry"].as_str().unwrap().to_owned();
    b.ok(&["set", "notes", "y", "2"]);
    b.ok(&["sync", "notes", "--address", &at_a]);
    let key = key_of(&b);
    a.fails(&["keys", "revoke", "notes", &key, "--leave", "--fence", &fence], 2, "usage");
    let done = a.ok(&["keys", "revoke", "notes", &key, "--fence", &fence]);
    assert_eq!(done.json()["void"], 1);
    assert!(done.err.contains("eid audit notes --void"), "{}", done.err);
    assert_eq!(a.ok(&["get", "notes", "x"]).json(), 1);
    a.fails(&["get", "notes", "y"], 4, "not_found");
}

#[test]
fn the_recovery_key_revokes_the_only_admin_and_brings_it_back() {
    let a = Eid::new();
    let file = a.dir().with_file_name("notes.recovery");
    let file = file.to_str().unwrap();
    a.ok(&["db", "create", "notes", "--recovery-file", file]);
    let key = key_of(&a);
    a.fails(&["keys", "revoke", "notes", &key], 2, "usage");
    let revoked = a.ok(&["keys", "revoke", "notes", &key, "--recovery-key", file]).json();
    let refused = a.fails(&["set", "notes", "x", "1"], 3, "forbidden");
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    let by = revoked["entry"].as_str().unwrap();
    assert!(
        message.contains(&key) && message.contains("was revoked by") && message.contains(by),
        "{message}"
    );
    assert!(refused.error()["hint"].is_string());
    a.fails(&["keys", "grant", "notes", &key, "write"], 3, "forbidden");
    a.ok(&["keys", "grant", "notes", &key, "admin:1", "--recovery-key", file]);
    a.ok(&["set", "notes", "x", "1"]);

    let secret = std::fs::read_to_string(file).unwrap();
    let other = a.dir().with_file_name("other");
    let other = other.to_str().unwrap();
    for wrong in [&secret[..70], &secret.replace("ed25519-secret:", ""), &format!("{}z", &secret[..78])] {
        std::fs::write(other, wrong).unwrap();
        let done = a.fails(&["keys", "revoke", "notes", &key, "--recovery-key", other], 1, "invalid_input");
        assert!(!done.err.contains(&secret[20..60]));
    }
    a.ok(&["db", "create", "else", "--recovery-file", &format!("{other}.recovery")]);
    let foreign = format!("{other}.recovery");
    let done = a.fails(&["keys", "revoke", "notes", &key, "--recovery-key", &foreign], 3, "forbidden");
    assert!(done.error()["message"].as_str().unwrap().contains("never given a right"), "{}", done.err);
}

#[test]
fn equals_do_not_revoke_each_other_and_a_device_added_later_is_weaker() {
    let (a, b, c) = (Eid::new(), Eid::new(), Eid::new());
    a.ok(&["db", "create", "notes"]);
    let (equal, weaker) = (key_of(&b), key_of(&c));
    a.ok(&["keys", "grant", "notes", &equal, "admin:1"]);
    assert_eq!(a.ok(&["keys", "grant", "notes", &weaker, "admin"]).json()["permission"], "admin:2");
    let refused = a.fails(&["keys", "revoke", "notes", &equal], 3, "forbidden");
    let error = refused.error();
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("is admin:1, and a slot of admin:1 may be changed only by a stronger one"),
        "{message}"
    );
    assert!(error["hint"].as_str().unwrap().contains("--recovery-key"));
    let above = a.fails(&["keys", "grant", "notes", &weaker, "admin:0"], 3, "forbidden");
    assert!(above.error()["message"].as_str().unwrap().contains("nobody grants more than he has"));
    a.ok(&["keys", "revoke", "notes", &weaker]);
    let levels: Vec<Value> =
        a.ok(&["keys", "list", "notes"]).lines().iter().map(|k| k["level"].clone()).collect();
    for level in [json!(0), json!(1), json!(null)] {
        assert!(levels.contains(&level), "{levels:?}");
    }
}

#[test]
fn a_rotated_key_writes_no_more_and_the_device_goes_on_with_another() {
    let (a, b) = (Eid::new(), Eid::new());
    a.ok(&["db", "create", "notes"]);
    a.ok(&["set", "notes", "x", "1"]);
    let old = key_of(&a);
    let rotated = a.ok(&["keys", "rotate", "notes"]).json();
    assert_ne!(rotated["key"], old.as_str());
    a.ok(&["set", "notes", "y", "2"]);
    assert_eq!(a.ok(&["log", "notes", "--limit", "1"]).json()["author"], rotated["key"]);
    let keys = a.ok(&["keys", "list", "notes"]).lines();
    let of = |key: &str| keys.iter().find(|slot| slot["key"] == key).unwrap().clone();
    let new = of(rotated["key"].as_str().unwrap());
    assert_eq!((&new["permission"], &new["own"]), (&json!("admin:1"), &json!(true)));
    assert_eq!(of(&old)["permission"], "read", "peers know the device by it");
    assert_eq!((&new["entry"], &of(&old)["entry"]), (&rotated["entry"], &rotated["entry"]), "one entry");
    assert_eq!((&new["status"], &of(&old)["own"]), (&json!("active"), &json!(true)));
    let told = a.ok(&["keys", "rotate", "notes"]).json();
    assert!(told["key"] != rotated["key"] && told["key"] != old.as_str(), "a key is not made twice");
    let keys = a.ok(&["keys", "list", "notes"]).lines();
    let before = keys.iter().find(|slot| slot["key"] == rotated["key"]).unwrap();
    assert_eq!((&before["status"], &before["entry"]), (&json!("revoked"), &told["entry"]));
    // What the keys before it wrote stands.
    assert_eq!(a.ok(&["status"]).json()["databases"][0]["void"], 0);
    assert_eq!(
        (a.ok(&["get", "notes", "x"]).json(), a.ok(&["get", "notes", "y"]).json()),
        (json!(1), json!(2))
    );
    // Others join and go on in both directions.
    let (_node, at_a) = a.serve();
    let ticket = a.ok(&["share", "notes", "--write"]).json()["ticket"].as_str().unwrap().to_owned();
    b.ok(&["join", &ticket]);
    b.ok(&["set", "notes", "z", "3"]);
    b.ok(&["sync", "notes", "--address", &at_a]);
    assert_eq!(a.ok(&["get", "notes", "z"]).json(), 3);
    assert_eq!(state(&a), state(&b));
    // The key by which others know it only reads: what the one that signs here wrote is taken all the same.
    let (_b_node, at_b) = b.serve();
    a.ok(&["set", "notes", "w", "4"]);
    // By this session, or because the node that serves was in step before it.
    a.ok(&["sync", "notes", "--address", &at_b]);
    assert_eq!(b.ok(&["get", "notes", "w"]).json(), 4);
    assert_eq!(b.ok(&["log", "notes", "--limit", "1"]).json()["author"], told["key"]);
    // To the key of another device: this one has nothing left to write with.
    a.ok(&["keys", "rotate", "notes", "--to", &key_of(&b)]);
    let refused = a.fails(&["set", "notes", "x", "2"], 3, "forbidden");
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&old) && message.contains("has read, and writing needs write"), "{message}");
    a.fails(&["db", "title", "notes", "Mine"], 3, "forbidden");
    b.ok(&["sync", "notes", "--address", &at_a]);
    let keys = b.ok(&["keys", "list", "notes"]).lines();
    let own: Vec<&Value> = keys.iter().filter(|slot| slot["own"] == true).collect();
    assert_eq!((own.len(), &own[0]["permission"]), (1, &json!("admin:1")));
    b.ok(&["db", "title", "notes", "Ours"]);
    assert_eq!(b.ok(&["get", "notes", "x"]).json(), 1, "what it wrote before stands");
}
