//! Tables with indexes, questions and watches, as processes.

use serde_json::json;

use crate::process::Eid;

fn towns() -> Eid {
    let eid = Eid::new();
    eid.ok(&["db", "create", "geo"]);
    for (key, state, people) in
        [("nome", "AK", 3699), ("juneau", "AK", 32_255), ("hilo", "HI", 44_186), ("kapaa", "HI", 11_652)]
    {
        let row = json!({"state": state, "people": people}).to_string();
        eid.ok(&["table", "put", "geo", "towns", key, &row]);
    }
    eid
}

fn keys(eid: &Eid, args: &[&str]) -> Vec<String> {
    let found = eid.ok(&[&["table", "query", "geo", "towns"], args].concat()).lines();
    found.iter().map(|row| row["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn questions_are_joined_and_answered_by_indexes() {
    let eid = towns();
    let question = ["--where", "state = AK or people > 40000", "--order", "-people"];
    assert_eq!(keys(&eid, &question), ["hilo", "juneau", "nome"]);
    assert_eq!(keys(&eid, &["--where", "not (state = AK)", "--where", "people < 20000"]), ["kapaa"]);

    let explain = ["table", "query", "geo", "towns", "--where", "state = HI", "--explain"];
    let before = eid.ok(&explain).json();
    assert_eq!((&before["scans_table"], &before["indexes"]), (&json!(true), &json!([])));
    let made = eid.ok(&["table", "index", "geo", "towns", "state"]).json();
    assert_eq!((&made["rows"], &made["declared"]), (&json!(4), &json!(true)));
    let after = eid.ok(&explain).json();
    assert_eq!((&after["scans_table"], &after["indexes"]), (&json!(false), &json!(["state"])));
    assert_eq!(keys(&eid, &["--where", "state = HI"]), ["hilo", "kapaa"]);

    let listed = eid.ok(&["table", "index", "geo", "towns"]).json();
    assert_eq!(listed, json!({"field": "state", "state": "ready", "declared": true}));
    eid.ok(&["table", "index", "geo", "towns", "state", "--drop"]);
    assert_eq!(eid.ok(&explain).json()["scans_table"], true);
    eid.fails(&["table", "index", "geo", "towns", "state", "--drop"], 4, "not_found");
    let wrong = eid.fails(&["table", "query", "geo", "towns", "--where", "state ="], 2, "usage");
    assert!(wrong.error()["message"].as_str().is_some_and(|text| text.contains("column 8")), "{}", wrong.err);
}

#[test]
fn a_watch_tells_what_other_commands_change() {
    let eid = towns();
    let mut watching = eid.start(&["table", "watch", "geo", "towns", "--where", "state = AK", "--json"]);
    let mut next = || {
        let line = watching.next_line().expect("a line");
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON")
    };
    assert_eq!((&next()["event"], &next()["key"]), (&json!("row"), &json!("nome")));
    eid.ok(&["table", "put", "geo", "towns", "kapaa", r#"{"state":"HI","people":12000}"#]);
    eid.ok(&["table", "put", "geo", "towns", "sitka", r#"{"state":"AK","people":8458}"#]);
    assert_eq!(next(), json!({"event": "added", "key": "sitka", "row": {"state": "AK", "people": 8458}}));
    eid.ok(&["table", "put", "geo", "towns", "nome", r#"{"state":"HI","people":3699}"#]);
    assert_eq!(next(), json!({"event": "removed", "key": "nome"}));
    watching.signal("-INT");
    assert_eq!(watching.wait().code, Some(0));
}
