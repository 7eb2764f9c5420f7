//! Backups, copies of them, and devices that are lost.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::process::Eid;

fn beside(eid: &Eid, name: &str) -> PathBuf {
    eid.dir().with_file_name(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn state(eid: &Eid) -> serde_json::Value {
    eid.ok(&["db", "show", "notes"]).json()["state_hash"].clone()
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("a name in UTF-8")
    };
    let mut names: Vec<String> = std::fs::read_dir(dir).expect("a directory").map(name).collect();
    names.sort();
    names
}

#[test]
fn a_backup_of_a_serving_node_is_restored_as_a_device_that_may_write_once_it_was_granted_a_right() {
    let a = Eid::new();
    let device = a.ok(&["init", "--name", "laptop"]).json()["device"].clone();
    a.ok(&["db", "create", "notes"]);
    a.ok(&["set", "notes", "title", "kept"]);
    let file = beside(&a, "notes.backup");
    let (node, address) = a.serve();
    let done = a.ok(&["backup", text(&file)]).json();
    assert!(done["rows"].as_u64().unwrap() > 5, "{done}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // A later one takes its place.
    a.ok(&["set", "notes", "more", "1"]);
    a.ok(&["backup", text(&file)]);

    let b = Eid::at(&beside(&a, "copy"));
    let told = b.ok(&["restore", text(&file)]).json();
    assert_eq!((&told["before"], &told["same_device"]), (&device, &json!(false)));
    assert_eq!(b.ok(&["init"]).json()["device"], told["device"]);
    assert_ne!(told["device"], device);
    assert_eq!(state(&b), state(&a));
    let refused = b.fails(&["set", "notes", "title", "mine"], 3, "forbidden").error();
    assert!(refused["message"].as_str().unwrap().contains(told["device"].as_str().unwrap()), "{refused}");
    let grant = told["databases"][0]["grant"].as_str().unwrap();
    a.ok(&grant.split(' ').skip(1).collect::<Vec<_>>());
    b.ok(&["sync", "--address", &address]);
    b.ok(&["set", "notes", "title", "mine"]);
    b.ok(&["sync", "--address", &address]);
    assert_eq!(a.ok(&["get", "notes", "title"]).json(), "mine");
    node.signal("-TERM");
    node.wait();

    let same = Eid::at(&beside(&a, "same"));
    let told = same.ok(&["restore", text(&file), "--same-device"]).json();
    assert_eq!((&told["device"], &told["databases"][0]["grant"]), (&device, &json!(null)));
    same.ok(&["set", "notes", "title", "again"]);
    assert!(same.ok(&["verify"]).json()["ok"].as_bool().unwrap());
}

#[test]
fn what_is_not_a_whole_backup_is_refused_and_leaves_nothing_and_what_is_there_is_not_touched() {
    let a = Eid::new();
    a.ok(&["db", "create", "notes"]);
    a.ok(&["set", "notes", "title", "kept"]);
    let file = beside(&a, "notes.backup");
    a.ok(&["backup", text(&file)]);
    let whole = std::fs::read(&file).unwrap();
    let broken = beside(&a, "broken.backup");
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 4;
    let parent = file.parent().unwrap();
    let before = names(parent);
    let copy = Eid::at(&beside(&a, "copy"));
    for bytes in [&altered[..], &whole[..whole.len() - 1], &whole[..100], b"", b"{\"a\": 1}\n"] {
        std::fs::write(&broken, bytes).unwrap();
        copy.fails(&["restore", text(&broken)], 6, "corrupt");
        std::fs::remove_file(&broken).unwrap();
        assert_eq!(names(parent), before);
    }
    copy.fails(&["restore", text(&broken)], 1, "io");

    // Into a directory that holds anything.
    let state_before = state(&a);
    a.fails(&["restore", text(&file)], 1, "not_empty");
    assert_eq!(state(&a), state_before);
    let other = beside(&a, "other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("note"), "mine").unwrap();
    Eid::at(&other).fails(&["restore", text(&file)], 1, "not_empty");
    assert_eq!(names(&other), ["note"]);
    std::fs::remove_file(other.join("note")).unwrap();
    Eid::at(&other).ok(&["restore", text(&file)]);

    // A file that is no backup is not written over.
    let note = beside(&a, "note.txt");
    std::fs::write(&note, "mine").unwrap();
    a.fails(&["backup", text(&note)], 1, "not_empty");
    assert_eq!(std::fs::read(&note).unwrap(), b"mine");
}

#[test]
fn a_lost_device_is_revoked_everywhere_or_where_not_is_told_with_an_exit_code() {
    let (a, b) = (Eid::new(), Eid::new());
    let recovery = beside(&a, "notes.recovery");
    a.ok(&["db", "create", "notes", "--recovery-file", text(&recovery)]);
    let lost = a.ok(&["init"]).json()["device"].as_str().unwrap().to_owned();
    let (node, _) = a.serve();
    let ticket = a.ok(&["share", "notes", "--write"]).json()["ticket"].clone();
    b.ok(&["join", ticket.as_str().unwrap()]);
    node.signal("-TERM");
    node.wait();
    b.ok(&["db", "create", "own"]);
    b.ok(&["keys", "grant", "own", &lost, "write"]);
    b.ok(&["db", "create", "third"]);
    let revoke = ["keys", "revoke", "--everywhere", &lost];
    let done = b.fails(&revoke, 3, "not_everywhere");
    let status = |done: &crate::process::Done| {
        let mut of: Vec<(String, String)> = done
            .lines()
            .iter()
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap().to_owned();
                (text("name"), text("status"))
            })
            .collect();
        of.sort();
        of
    };
    let expected = |notes: &str, own: &str| {
        [("notes", notes), ("own", own), ("third", "nothing")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    assert_eq!(status(&done), expected("failed", "revoked"));
    let with_recovery = [&revoke[..], &["--recovery-key", text(&recovery)]].concat();
    let done = b.ok(&with_recovery);
    assert_eq!(status(&done), expected("revoked", "nothing"));
    assert_eq!(status(&b.ok(&with_recovery)), expected("nothing", "nothing"));
    b.fails(&["keys", "revoke", "--everywhere", "*"], 2, "usage");
    b.fails(&["keys", "revoke", "notes"], 2, "usage");
}
