//! Texts as a person works with them.

use crate::process::Eid;

fn note() -> Eid {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    eid.ok(&["text", "insert", "notes", "body", "0", "Dear all,\n"]);
    eid
}

#[test]
fn a_text_is_edited_by_positions() {
    let eid = note();
    eid.ok(&["text", "insert", "notes", "body", "end", "Bye – Ada"]);
    eid.ok(&["text", "delete", "notes", "body", "0", "5"]);
    assert_eq!(eid.run(&["text", "show", "notes", "body"]).out, "all,\nBye – Ada\n");
    let shown = eid.ok(&["text", "show", "notes", "body"]).json();
    assert_eq!((&shown["text"], &shown["length"]), (&"all,\nBye – Ada".into(), &14.into()));
    eid.fails(&["text", "insert", "notes", "body", "99", "x"], 1, "invalid_value");
    eid.fails(&["text", "show", "notes", "absent"], 4, "not_found");
    let stores = eid.ok(&["db", "show", "notes"]).json()["stores"].clone();
    assert_eq!((&stores[0]["type"], &stores[0]["rows"]), (&"text".into(), &14.into()));
}

#[test]
fn an_editor_stores_the_difference_beside_what_came_meanwhile() {
    let eid = note();
    // While the editor is open, somebody else writes: the directory is free for it.
    let program = env!("CARGO_BIN_EXE_eid");
    let dir = eid.dir().display();
    let editor = format!(
        "sh -c '{program} --data {dir} text insert notes body end \"PS\" >&2; sed -i s/Dear/Hello/ \"$1\"' sh"
    );
    let done = eid.run_with_editor(&editor, &["text", "edit", "notes", "body"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(eid.run(&["text", "show", "notes", "body"]).out, "Hello all,\nPS\n");
    // Only what differs is stored.
    let log = eid.ok(&["log", "notes", "--limit", "1"]).json();
    assert!(log["bytes"].as_u64().is_none_or(|bytes| bytes < 600), "{log}");

    let entries = eid.ok(&["db", "show", "notes"]).json()["entries"].clone();
    assert_eq!(eid.run_with_editor("true", &["text", "edit", "notes", "body"]).code, Some(0));
    assert_eq!(eid.run_with_editor("false", &["text", "edit", "notes", "body"]).code, Some(1));
    assert_eq!(eid.ok(&["db", "show", "notes"]).json()["entries"], entries);
    let nothing = eid.run_with_editor("true", &["text", "edit", "notes", "body", "--json"]);
    assert_eq!(nothing.json(), serde_json::json!({"entry": null, "changed": false}));
    let something =
        eid.run_with_editor("sed -i s/PS/PPS/", &["text", "edit", "notes", "body", "--json"]).json();
    assert!(something["changed"] == true && something["entry"].is_string(), "{something}");
}

#[test]
fn an_editor_works_while_a_node_serves() {
    let eid = note();
    let (serving, _) = eid.serve();
    let done = eid.run_with_editor("sed -i s/Dear/Hello/", &["text", "edit", "notes", "body"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(eid.run(&["text", "show", "notes", "body"]).out, "Hello all,\n");
    serving.signal("-TERM");
    assert_eq!(serving.wait().code, Some(0));
}
