//! History as a process shows it: drawn, compared, blamed, read and taken back.

use serde_json::{Value, json};

use crate::process::Eid;

fn entry_of(eid: &Eid, args: &[&str]) -> String {
    eid.ok(args).json()["entry"].as_str().expect("an entry").to_owned()
}

#[test]
fn versions_are_compared_blamed_read_and_taken_back() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let first = entry_of(&eid, &["set", "notes", "profile.name", "Ada"]);
    let row = entry_of(&eid, &["table", "put", "notes", "people", "a.b", r#"{"age": 1, "in": true}"#]);
    let second = entry_of(&eid, &["set", "notes", "profile.name", "Ben"]);
    entry_of(&eid, &["table", "put", "notes", "people", "a.b", r#"{"age": 2, "in": true}"#]);

    assert_eq!(
        eid.ok(&["diff", "notes", &first, "now"]).lines(),
        [
            json!({"store": "main", "type": "doc", "path": "profile.name", "before": "Ada", "after": "Ben"}),
            json!({"store": "people", "type": "table", "key": "a.b", "after": {"age": 2, "in": true}}),
        ]
    );
    assert_eq!(
        eid.ok(&["diff", "notes", "now", &format!("{row},{first}"), "--store", "people"]).lines(),
        [json!({"store": "people", "type": "table", "key": "a.b", "field": "age", "before": 2, "after": 1})]
    );
    let blamed = eid.ok(&["blame", "notes", "profile"]).lines();
    assert_eq!(blamed.len(), 1);
    assert_eq!((&blamed[0]["entry"], &blamed[0]["value"]), (&json!(second), &json!("Ben")));
    assert!(blamed[0]["author"].as_str().unwrap().starts_with("ed25519:") && blamed[0]["time"].is_u64());
    let fields = eid.ok(&["blame", "notes", "/a.b", "--store", "people"]).lines();
    let fields: Vec<&Value> = fields.iter().map(|line| &line["field"]).collect();
    assert_eq!(fields, [&json!("age"), &json!("in")]);
    eid.fails(&["blame", "notes", "nothing"], 4, "not_found");

    assert_eq!(eid.ok(&["at", "notes", &first, "get", "profile"]).json(), json!({"name": "Ada"}));
    assert_eq!(eid.ok(&["at", "notes", &row, "row", "people", "a.b"]).json()["age"], 1);
    let now = eid.ok(&["db", "show", "notes"]).json();
    let shown = eid.ok(&["at", "notes", "now", "show"]).json();
    assert_eq!((&shown["state_hash"], &shown["tips"]), (&now["state_hash"], &now["tips"]));
    eid.fails(&["at", "notes", &first[..20], "show"], 2, "usage");
    eid.fails(&["at", "notes", &first, "get", "people"], 4, "not_found");
    let absent = first.replace(&first[20..24], "aaaa");
    for args in [
        &["at", "notes", &absent, "show"][..],
        &["diff", "notes", &absent, "now"],
        &["undo", "notes", "--entry", &absent],
    ] {
        let unknown = eid.fails(args, 4, "not_found");
        assert!(unknown.error()["hint"].as_str().unwrap().contains("eid log notes"), "{}", unknown.err);
    }

    let undone = eid.ok(&["undo", "notes", "--entry", &second]).json();
    assert_eq!((&undone["undone"], &undone["restored"]), (&json!(second), &json!(1)));
    assert_eq!(eid.ok(&["get", "notes", "profile.name"]).json(), json!("Ada"));
    eid.ok(&["undo", "notes"]);
    assert_eq!(eid.ok(&["get", "notes", "profile.name"]).json(), json!("Ben"));
}

#[test]
fn what_is_said_about_stores_is_no_difference_that_cannot_be_read() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let first = entry_of(&eid, &["table", "put", "notes", "people", "ada", r#"{"age": 1}"#]);
    eid.ok(&["table", "index", "notes", "people", "age"]);
    let done = eid.ok(&["diff", "notes", &first, "now"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("", ""));
}

#[test]
fn history_is_drawn_in_the_terminal_and_as_a_picture() {
    let eid = Eid::new();
    eid.ok(&["init", "--name", "Ada <b>&"]);
    eid.ok(&["db", "create", "notes"]);
    for n in 0..3 {
        eid.ok(&["set", "notes", "n", &n.to_string()]);
    }
    let drawn = eid.run(&["log", "notes", "--graph"]).out;
    let signs: Vec<char> = drawn.lines().map(|line| line.chars().next().unwrap()).collect();
    assert_eq!(signs, ['◉', '●', '●', '◆'], "{drawn}");
    assert!(drawn.lines().next().unwrap().contains("Ada <b>&  tip main"), "{drawn}");
    assert!(eid.run(&["log", "notes", "--graph", "--ascii"]).out.is_ascii());
    assert!(
        eid.run(&["log", "notes", "--graph"]).err.contains("--ids"),
        "short ids are of no use to other commands"
    );
    let whole = eid.run(&["log", "notes", "--graph", "--ids"]);
    let id = whole.out.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(eid.ok(&["at", "notes", &id, "get", "n"]).json(), 2);
    assert_eq!(whole.err, "");
    assert_eq!(eid.run(&["log", "notes", "--graph", "--limit", "2"]).out.lines().count(), 3);
    assert_eq!(eid.ok(&["log", "notes", "--graph"]).lines().len(), 4, "programs get the entries themselves");

    let file = eid.dir().with_file_name("notes.svg");
    let done = eid.ok(&["graph", "notes", "--out", file.to_str().unwrap()]).json();
    assert_eq!(done["entries"], 4);
    let picture = std::fs::read_to_string(&file).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("Ada &lt;b&gt;&amp;") && !picture.contains("<b>"));
    eid.fails(&["graph", "notes", "--out", "/no/such/directory/x.svg"], 1, "io");
}
