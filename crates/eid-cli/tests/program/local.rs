//! Every local command as a process, read as programs read it.

use crate::process::Eid;
use serde_json::json;

#[test]
fn init_prints_the_same_key_again_and_changes_nothing_else() {
    let eid = Eid::new();
    let first = eid.ok(&["init", "--name", "Ada's laptop"]).json();
    assert!(first["device"].as_str().unwrap().starts_with("ed25519:"));
    assert_eq!(eid.ok(&["init"]).json(), first);
    assert_eq!(eid.ok(&["status"]).json()["device"], first["device"]);
}

#[test]
fn databases_are_created_listed_shown_renamed_and_forgotten() {
    let eid = Eid::new();
    let created = eid.ok(&["db", "create", "notes"]).json();
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("bafyr4i"));
    assert!(created["recovery"].as_str().unwrap().starts_with("ed25519-secret:"));
    let listed = eid.ok(&["db", "list"]).lines();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&created["id"], &json!("notes")));

    let shown = eid.ok(&["db", "show", &id[..20]]).json();
    assert_eq!(shown["entries"], 1);
    assert_eq!(shown["height"], 0);
    assert_eq!(shown["tips"], json!([id]));
    assert_eq!(shown["state_hash"].as_str().unwrap().len(), 64);
    assert!(shown["bytes"].as_u64().unwrap() > 0);

    eid.ok(&["db", "title", "notes", "Our notes"]);
    assert_eq!(eid.ok(&["db", "list"]).json()["title"], "Our notes");
    eid.ok(&["db", "rename", "notes", "diary"]);
    eid.fails(&["db", "show", "notes"], 4, "not_found");
    eid.ok(&["db", "show", "diary"]);
    eid.ok(&["db", "forget", "diary"]);
    assert!(eid.ok(&["db", "list"]).lines().is_empty());
}

#[test]
fn the_recovery_key_goes_into_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let eid = Eid::new();
    let file = eid.dir().with_file_name("notes.recovery");
    let typed = file.to_str().unwrap();
    let created = eid.ok(&["db", "create", "notes", "--recovery-file", typed]).json();
    assert_eq!(created["recovery"], json!(null));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("ed25519-secret:"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    eid.fails(&["db", "create", "more", "--recovery-file", typed], 1, "io");
    assert_eq!(eid.ok(&["db", "list"]).lines().len(), 1, "no database without its recovery key");
}

#[test]
fn documents_keep_json_exactly() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    for (path, value) in [
        ("profile.name", json!("Ada")),
        ("profile.age", json!(36)),
        ("big", json!(9_007_199_254_740_993_i64)),
        ("float", json!(0.1)),
        ("list", json!([1, "two", null, {"three": [true]}])),
        ("/dotted.key/x", json!({"a": {"b": 1}})),
        ("negative", json!(-7)),
    ] {
        eid.ok(&["set", "notes", path, &value.to_string()]);
        assert_eq!(eid.ok(&["get", "notes", path]).json(), value, "{path}");
    }
    eid.ok(&["set", "notes", "zip", "01234"]);
    assert_eq!(eid.ok(&["get", "notes", "zip"]).json(), json!("01234"));
    eid.ok(&["set", "notes", "zip", "1234", "--text"]);
    assert_eq!(eid.ok(&["get", "notes", "zip"]).json(), json!("1234"));
    assert_eq!(eid.ok(&["get", "notes", "profile"]).json(), json!({"name": "Ada", "age": 36}));
    assert_eq!(eid.run(&["get", "notes", "profile.name"]).out, "Ada\n");

    eid.ok(&["unset", "notes", "profile.age"]);
    eid.fails(&["get", "notes", "profile.age"], 4, "not_found");
    eid.fails(&["unset", "notes", "profile.age"], 4, "not_found");
    eid.ok(&["incr", "notes", "visits"]);
    assert_eq!(eid.ok(&["incr", "notes", "visits", "-3"]).json()["value"], -2);

    eid.ok(&["set", "notes", "dark", "true", "--store", "settings"]);
    assert_eq!(eid.ok(&["get", "notes", "dark", "--store", "settings"]).json(), json!(true));
    eid.fails(&["get", "notes", "dark"], 4, "not_found");
}

const AIRPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/airports.csv");

#[test]
fn a_table_is_imported_queried_and_exported_as_it_was() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "geo"]);
    let done = eid.ok(&["table", "import", "geo", "airports", AIRPORTS, "--key", "iata"]);
    let lines = done.lines();
    let (last, batches) = lines.split_last().unwrap();
    assert_eq!((last["rows"].as_u64(), last["entries"].as_u64()), (Some(3376), Some(7)));
    let durable: Vec<u64> = batches.iter().map(|line| line["rows_durable"].as_u64().unwrap()).collect();
    assert_eq!(durable, [500, 1000, 1500, 2000, 2500, 3000, 3376]);
    let shown = eid.ok(&["db", "show", "geo"]).json();
    assert_eq!(shown["stores"], json!([{"name": "airports", "type": "table", "rows": 3376}]));

    let row = eid.ok(&["table", "get", "geo", "airports", "ANC"]).json();
    assert_eq!((&row["state"], row["latitude"].is_f64()), (&json!("AK"), true));
    let alaska = ["table", "query", "geo", "airports", "--where", "state = AK", "--where", "latitude > 65"];
    let found = eid.ok(&[&alaska[..], &["--order", "-latitude", "--limit", "3"]].concat()).lines();
    assert_eq!(found.len(), 3);
    let latitudes: Vec<f64> = found.iter().map(|line| line["row"]["latitude"].as_f64().unwrap()).collect();
    assert!(latitudes.windows(2).all(|pair| pair[0] >= pair[1]) && latitudes[2] > 65.0);

    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let columns = |text: &str| text.lines().next().unwrap().split(',').map(str::to_owned).collect::<Vec<_>>();
    let exported = eid.run(&["table", "export", "geo", "airports"]).out;
    let original = std::fs::read_to_string(AIRPORTS).unwrap();
    assert_eq!(exported.lines().count(), original.lines().count());
    let file = eid.dir().with_file_name("again.csv");
    std::fs::write(&file, &exported).unwrap();
    eid.ok(&["table", "import", "geo", "again", file.to_str().unwrap(), "--key", "iata"]);
    let rows = |table: &str| eid.ok(&["table", "export", "geo", table]).out;
    assert_eq!(rows("again"), rows("airports"));
    if columns(&exported) == columns(&original) {
        assert_eq!(sorted(&exported), sorted(&original), "the file comes back unchanged");
    }
}

#[test]
fn rows_are_put_merged_by_field_and_deleted() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "geo"]);
    eid.ok(&["table", "put", "geo", "t", "X", "{\"name\":\"Nowhere\",\"size\":1}"]);
    eid.ok(&["table", "put", "geo", "t", "X", "{\"name\":\"Somewhere\",\"size\":1}"]);
    assert_eq!(eid.ok(&["table", "get", "geo", "t", "X"]).json(), json!({"name": "Somewhere", "size": 1}));
    eid.fails(&["table", "put", "geo", "t", "X", "[1]"], 2, "usage");
    eid.ok(&["table", "delete", "geo", "t", "X"]);
    eid.fails(&["table", "get", "geo", "t", "X"], 4, "not_found");
    eid.fails(&["table", "delete", "geo", "t", "X"], 4, "not_found");
    let file = eid.dir().with_file_name("rows.jsonl");
    std::fs::write(&file, "{\"a\":1}\n{\"a\":{\"b\":[2]}}\n").unwrap();
    eid.ok(&["table", "import", "geo", "j", file.to_str().unwrap()]);
    assert_eq!(eid.ok(&["table", "query", "geo", "j"]).lines().len(), 2);
}

#[test]
fn the_log_lists_the_latest_first_and_filters_by_store() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let entry = eid.ok(&["set", "notes", "a", "1"]).json()["entry"].clone();
    eid.ok(&["table", "put", "notes", "t", "k", "{\"a\":1}"]);
    let log = eid.ok(&["log", "notes"]).lines();
    let heights: Vec<u64> = log.iter().map(|line| line["height"].as_u64().unwrap()).collect();
    assert_eq!(heights, [2, 1, 0]);
    assert_eq!(log[1]["entry"], entry);
    assert_eq!(log[0]["stores"], json!(["t"]));
    assert_eq!(log[0]["parents"], json!([entry]));
    let log = eid.ok(&["log", "notes", "--store", "t"]).lines();
    assert_eq!(log.len(), 1);
    assert_eq!(eid.ok(&["log", "notes", "--limit", "1"]).lines().len(), 1);
}

#[test]
fn keys_are_listed_granted_and_revoked() {
    let (eid, other) = (Eid::new(), Eid::new());
    eid.ok(&["db", "create", "notes"]);
    let key = other.ok(&["init"]).json()["device"].as_str().unwrap().to_owned();
    eid.ok(&["keys", "grant", "notes", &key, "write"]);
    let of_key = || {
        let keys = eid.ok(&["keys", "list", "notes"]).lines();
        keys.into_iter().find(|line| line["key"] == json!(key)).unwrap()
    };
    assert_eq!((&of_key()["permission"], &of_key()["status"]), (&json!("write"), &json!("active")));
    assert_eq!(eid.ok(&["keys", "list", "notes"]).lines().len(), 3, "recovery key, this device, the other");
    eid.ok(&["keys", "revoke", "notes", &key]);
    assert_eq!(of_key()["status"], "revoked");
    eid.fails(&["keys", "grant", "notes", &key, "god"], 2, "usage");
    eid.fails(&["keys", "grant", "notes", "ed25519:short", "read"], 2, "usage");
}

#[test]
fn verify_finds_nothing_wrong_with_what_was_written() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "geo"]);
    eid.ok(&["table", "import", "geo", "airports", AIRPORTS, "--key", "iata"]);
    let report = eid.ok(&["verify"]).json();
    assert_eq!((&report["ok"], report["entries"].as_u64()), (&json!(true), Some(8)));
    eid.ok(&["verify", "--repair"]);
}

/// Changes a letter wherever this text stands in the file of the engine.
fn damage(eid: &Eid, text: &str) -> usize {
    let path = files(eid).remove(0).with_file_name("store.redb");
    let mut bytes = std::fs::read(&path).expect("the file is there");
    let places: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| &bytes[*at..*at + text.len()] == text.as_bytes()).collect();
    places.iter().for_each(|at| bytes[*at] ^= 1);
    std::fs::write(&path, bytes).expect("the file can be written");
    places.len()
}

/// The files of the store.
fn files(eid: &Eid) -> Vec<std::path::PathBuf> {
    let mut open = vec![eid.dir().to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("the directory is there") {
            let path = entry.expect("the directory reads").path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|name| name == "store.redb" || name == "store.log") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_damaged_payload_costs_itself_alone_and_verify_says_so_and_a_peer_brings_it_back() {
    let (a, b) = (Eid::new(), Eid::new());
    a.ok(&["db", "create", "notes"]);
    a.ok(&["set", "notes", "before", "1"]);
    let entry =
        a.ok(&["set", "notes", "text", "--text", "wherever this needle lies"]).json()["entry"].clone();
    a.ok(&["set", "notes", "after", "2"]);
    let (_serving, address) = a.serve();
    let ticket = a.ok(&["share", "notes", "--write"]).json()["ticket"].as_str().unwrap().to_owned();
    b.ok(&["join", &ticket]);
    assert!(damage(&b, "wherever this needle lies") > 0);

    let report = b.fails(&["verify"], 6, "corrupt");
    let said = serde_json::from_str::<serde_json::Value>(report.out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&said["lost_entries"], &said["lost_payloads"], &said["repaired"]),
        (&json!(0), &json!(1), &json!(0))
    );
    let lost = b.fails(&["verify", "--repair"], 6, "lost");
    let said = serde_json::from_str::<serde_json::Value>(lost.out.lines().last().unwrap()).unwrap();
    assert_eq!((&said["ok"], &said["found"], &said["lost_payloads"]), (&json!(false), &json!(1), &json!(1)));
    let problem = &said["problems"][0];
    assert_eq!(
        (&problem["problem"], &problem["lost"], &problem["entry"]),
        (&json!("payload"), &json!("payload"), &entry)
    );
    assert!(lost.error()["hint"].as_str().unwrap().contains("eid sync"), "{}", lost.err);

    // Sound again, and only that value is not there.
    assert_eq!(b.ok(&["verify"]).json()["ok"], true);
    b.fails(&["get", "notes", "text"], 4, "not_found");
    assert_eq!(b.ok(&["get", "notes", "after"]).json(), json!(2));
    b.ok(&["sync", "--address", &address]);
    assert_eq!(b.ok(&["get", "notes", "text"]).json(), json!("wherever this needle lies"));
    assert_eq!(b.ok(&["verify"]).json()["ok"], true);
}

#[test]
fn files_that_cannot_be_read_are_damaged_and_the_hint_is_not_the_command_just_run() {
    for (name, len) in [("store.redb", 20_000), ("store.redb", 100), ("store.log", 10)] {
        let eid = Eid::new();
        eid.ok(&["db", "create", "geo"]);
        eid.ok(&["table", "import", "geo", "airports", AIRPORTS, "--key", "iata"]);
        let path = files(&eid).into_iter().find(|path| path.ends_with(name)).unwrap();
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
        for args in [&["verify"][..], &["verify", "--repair"], &["db", "show", "geo"]] {
            let failed = eid.fails(args, 6, "corrupt");
            let hint = failed.error()["hint"].as_str().unwrap().to_owned();
            assert!(args[0] != "verify" || !hint.contains("eid verify"), "{name}: {hint}");
            assert!(!failed.err.contains("panicked"), "{}", failed.err);
        }
    }
}

#[test]
fn usage_errors_have_code_two_and_help_is_a_result() {
    let eid = Eid::new();
    eid.fails(&["nonsense"], 2, "usage");
    eid.fails(&["paint", "show", "a", "b"], 2, "usage");
    eid.fails(&["set", "notes", "a..b", "1"], 2, "usage");
    let help = eid.run(&["table", "import", "--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains("Example:"));
    assert!(!eid.dir().exists(), "asking for help makes nothing");
}

#[test]
fn names_that_steer_terminals_are_escaped() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "a\u{1b}[31m\u{202e}b"]);
    for args in [&["db", "list"][..], &["db", "list", "--json"]] {
        let shown = eid.run(args).out;
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    }
    assert_eq!(eid.ok(&["db", "list"]).json()["name"], "a\u{1b}[31m\u{202e}b");
}

#[test]
fn items_of_a_list_are_inserted_set_moved_and_deleted() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let list = |args: &[&str]| {
        let (verb, rest) = args.split_first().unwrap();
        eid.ok(&[&["list", verb, "notes", "todo.items"], rest].concat())
    };
    let values = || eid.ok(&["get", "notes", "todo.items"]).json();
    list(&["insert", "end", "milk"]);
    assert_eq!(list(&["insert", "end", "{\"n\":1}"]).json()["at"], 1);
    list(&["insert", "0", "7", "--text"]);
    assert_eq!(values(), json!(["7", "milk", {"n": 1}]));
    assert_eq!(list(&["move", "0", "end"]).json()["at"], 2);
    list(&["move", "1", "0"]);
    assert_eq!(values(), json!([{"n": 1}, "milk", "7"]));
    list(&["set", "1", "oat milk"]);
    list(&["delete", "0"]);
    assert_eq!(
        list(&["show"]).lines(),
        [json!({"at": 0, "value": "oat milk"}), json!({"at": 1, "value": "7"})]
    );
    for args in [&["delete", "2"][..], &["set", "2", "x"], &["move", "2", "0"]] {
        let (verb, rest) = args.split_first().unwrap();
        let wrong = eid.fails(&[&["list", verb, "notes", "todo.items"], rest].concat(), 4, "not_found");
        assert!(wrong.error()["message"].as_str().unwrap().contains("no item 2"), "{}", wrong.err);
    }
    let into = eid.fails(&["set", "notes", "todo.items.0", "x"], 1, "invalid_value");
    assert!(into.error()["hint"].as_str().unwrap().contains("eid list set DB todo.items"), "{}", into.err);
    let wrong = eid.fails(&["list", "insert", "notes", "todo.items", "9", "x"], 1, "invalid_value");
    assert!(
        wrong.error()["hint"].as_str().unwrap().contains("eid list show notes todo.items"),
        "{}",
        wrong.err
    );
    eid.fails(&["list", "insert", "notes", "todo.items", "first", "x"], 2, "usage");
    eid.fails(&["list", "show", "notes", "nothing"], 4, "not_found");
    eid.fails(&["list", "insert", "notes", "todo", "end", "x"], 1, "invalid_value");
    // What `set` writes as a JSON array is a list too.
    eid.ok(&["set", "notes", "tags", "[\"a\",\"b\"]"]);
    eid.ok(&["list", "insert", "notes", "tags", "1", "x"]);
    assert_eq!(eid.ok(&["get", "notes", "tags"]).json(), json!(["a", "x", "b"]));
}

#[test]
fn a_reader_that_has_enough_ends_a_command_quietly() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "geo"]);
    eid.ok(&["table", "import", "geo", "airports", AIRPORTS, "--key", "iata"]);
    let export = |eid: &Eid| {
        let mut running = eid.start(&["table", "export", "geo", "airports"]);
        running.next_line().expect("a first line");
        running.close_output();
        let done = running.end();
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    };
    export(&eid);
    let (node, _) = eid.serve();
    export(&eid);
    let mut watching = eid.start(&["table", "watch", "geo", "airports", "--json"]);
    watching.next_line().expect("a first line");
    watching.close_output();
    assert_eq!(watching.end().code, Some(0));
    node.signal("-TERM");
    assert_eq!(node.wait().code, Some(0));
}

#[test]
fn one_shot_commands_at_once_wait_for_each_other() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let running: Vec<_> = (0..6).map(|_| eid.start(&["incr", "notes", "n", "--json"])).collect();
    for process in running {
        let done = process.wait();
        assert_eq!(done.code, Some(0), "{}", done.err);
    }
    assert_eq!(eid.ok(&["get", "notes", "n"]).json(), json!(6));
}
