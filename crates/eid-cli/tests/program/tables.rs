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
fn a_put_tells_whether_the_row_was_there() {
    let eid = towns();
    let put =
        |args: &[&str]| eid.ok(&[&["table", "put", "geo", "towns"], args].concat()).json()["result"].clone();
    let row = || eid.ok(&["table", "get", "geo", "towns", "nome"]).json();
    assert_eq!(put(&["sitka", r#"{"state":"AK"}"#]), "added");
    assert_eq!(put(&["nome", r#"{"people":3700}"#, "--merge"]), "merged");
    assert_eq!(row(), json!({"state": "AK", "people": 3700}));
    assert_eq!(put(&["nome", r#"{"people":3700}"#]), "replaced");
    assert_eq!(row(), json!({"people": 3700}), "fields that are not named are gone");
    assert_eq!(put(&["nome", r#"{"people":3700}"#]), "unchanged");
    let text = eid.run(&["table", "put", "geo", "towns", "nome", "{}"]);
    assert_eq!(text.out, "replaced nome\n");
    let help = eid.run(&["table", "put", "--help"]).out;
    assert!(help.contains("puts it in the place of the one with its key"), "{help}");
}

#[test]
fn pages_go_on_where_the_last_line_says() {
    let eid = towns();
    let page = |args: &[&str]| {
        let asked = ["table", "query", "geo", "towns", "--order", "people", "--limit", "2"];
        eid.ok(&[&asked[..], args].concat()).lines()
    };
    let first = page(&[]);
    assert!(first[0].get("next").is_none());
    let second = page(&["--after", first[1]["next"].as_str().expect("a cursor")]);
    let keys: Vec<_> = first.iter().chain(&second).map(|row| row["key"].clone()).collect();
    assert_eq!(keys, ["nome", "kapaa", "juneau", "hilo"]);
    let all = eid.ok(&["table", "query", "geo", "towns"]).lines();
    assert!(all.iter().all(|row| row.get("next").is_none()), "without --limit nothing is left out");
}

#[test]
fn a_field_that_no_row_has_is_warned_of() {
    let eid = towns();
    let query = ["table", "query", "geo", "towns"];
    let warned = |args: &[&str]| eid.ok(&[&query[..], args].concat()).err;
    let slip = warned(&["--where", "sate = AK"]);
    assert!(slip.contains("no row has a field \"sate\"; there are: people, state"), "{slip}");
    assert!(warned(&["--order", "poeple"]).contains("\"poeple\""));
    assert_eq!(warned(&["--where", "state = XX"]), "", "nothing is found, and it is no slip");
    assert_eq!(warned(&["--where", "state = AK or sate = AK", "--order", "-people"]), "");
    let indexed = eid.ok(&["table", "index", "geo", "towns", "sate"]);
    assert!(indexed.err.contains("\"sate\""), "{}", indexed.err);
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
    let help = eid.run(&["table", "watch", "--help"]).out;
    assert!(help.contains(r#"{"event":"removed","key":..}"#), "{help}");
}
