//! What can be wrong: each gives one clear sentence, the right exit code, and changes nothing.

use crate::process::Eid;

/// What a reader sees of a database.
fn state(eid: &Eid) -> String {
    eid.ok(&["db", "show", "notes"]).json().to_string()
}

#[test]
fn a_wrong_csv_line_is_named_and_nothing_of_its_batch_is_written() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let file = eid.dir().with_file_name("rows.csv");
    std::fs::write(&file, "key,name\na,1\nb,2\nc,3\nd,4,oops\n").unwrap();
    let file = file.to_str().unwrap();
    let before = state(&eid);
    let done = eid.fails(&["table", "import", "notes", "t", file, "--key", "key"], 1, "invalid_input");
    let message = done.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("rows.csv, line 5, column 3"), "{message}");
    assert_eq!(state(&eid), before);

    eid.fails(&["table", "import", "notes", "t", file, "--key", "key", "--batch", "2"], 1, "invalid_input");
    assert_eq!(eid.ok(&["table", "query", "notes", "t"]).lines().len(), 2, "the batch before stays");
    eid.fails(&["table", "import", "notes", "t", file, "--key", "none"], 1, "invalid_input");
    eid.fails(&["table", "import", "notes", "t", "absent.csv"], 4, "not_found");
    eid.fails(&["table", "import", "notes", "t", file, "--batch", "0"], 2, "usage");
}

#[test]
fn a_quote_that_is_never_closed_is_named_and_nothing_is_written() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let file = eid.dir().with_file_name("rows.csv");
    std::fs::write(&file, "key,name\na,1\nb,\"2\nc,3\n").unwrap();
    let before = state(&eid);
    let done = eid.fails(&["table", "import", "notes", "t", file.to_str().unwrap()], 1, "invalid_input");
    let message = done.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("rows.csv, line 3, column 2: the quote is never closed"), "{message}");
    assert_eq!(state(&eid), before);
}

#[test]
fn keys_that_come_again_in_a_file_are_counted() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let file = eid.dir().with_file_name("rows.csv");
    std::fs::write(&file, "key,n\na,1\nb,2\na,3\nb,4\nb,5\n").unwrap();
    let import = ["table", "import", "notes", "t", file.to_str().unwrap(), "--key", "key", "--batch", "2"];
    let done = eid.ok(&import);
    assert_eq!(done.json()["repeated_keys"], 3);
    assert!(done.err.contains("3 rows have the key of a row before (\"a\" is the first)"), "{}", done.err);
    assert_eq!(eid.ok(&["table", "query", "notes", "t"]).lines().len(), 2);
    std::fs::write(&file, "key,n\na,1\nb,2\n").unwrap();
    let again = eid.ok(&import);
    assert_eq!((&again.json()["repeated_keys"], again.err.as_str()), (&0.into(), ""));
}

#[test]
fn a_row_that_is_no_object_is_wrong_usage() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    for row in ["{\"a\":", "[1]", "a=1"] {
        eid.fails(&["table", "put", "notes", "t", "k", row], 2, "usage");
    }
}

#[test]
fn an_address_of_an_unknown_scheme_is_not_remembered() {
    let eid = Eid::new();
    let done = eid.fails(&["peers", "add", "ftp://x:1"], 2, "invalid_address");
    assert!(done.error()["message"].as_str().unwrap().contains("http:"), "{}", done.err);
    assert!(eid.ok(&["peers", "list"]).lines().is_empty());
}

#[test]
fn an_error_without_a_next_step_has_no_hint() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let done = eid.fails(&["undo", "notes"], 4, "not_found");
    assert_eq!(
        done.error().as_object().unwrap().keys().collect::<Vec<_>>(),
        ["code", "message"],
        "{}",
        done.err
    );
}

#[test]
fn a_second_database_of_a_name_is_warned_of() {
    let eid = Eid::new();
    let first = eid.ok(&["db", "create", "notes"]);
    assert_eq!(first.err, "");
    let second = eid.ok(&["db", "create", "notes"]);
    assert!(second.err.contains(first.json()["id"].as_str().unwrap()), "{}", second.err);
    let id = second.json()["id"].as_str().unwrap().to_owned();
    assert!(second.err.contains(&format!("eid db rename {id} NAME")), "{}", second.err);
    assert_eq!(eid.ok(&["db", "rename", &id, "diary"]).err, "");
    assert!(eid.ok(&["db", "rename", &id, "notes"]).err.contains("warning"));
}

#[test]
fn the_own_key_is_revoked_only_when_that_is_said() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let own = eid.ok(&["init"]).json()["device"].as_str().unwrap().to_owned();
    eid.fails(&["keys", "revoke", "notes", &own], 2, "usage");
    eid.ok(&["set", "notes", "a", "1"]);
    eid.ok(&["keys", "revoke", "notes", &own, "--own"]);
    eid.fails(&["set", "notes", "a", "2"], 3, "forbidden");
}

#[test]
fn nothing_is_put_below_what_is_no_map() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    eid.ok(&["set", "notes", "profile.name", "Ada"]);
    for args in [
        &["set", "notes", "profile.name.first", "Ada"][..],
        &["set", "notes", "profile.name.first.letter", "A"],
        &["incr", "notes", "profile.name.visits"],
        &["list", "insert", "notes", "profile.name.tags", "end", "x"],
    ] {
        let done = eid.fails(args, 1, "invalid_value");
        assert!(
            done.error()["message"].as_str().unwrap().contains("a text at \"profile.name\""),
            "{}",
            done.err
        );
    }
    assert_eq!(eid.ok(&["get", "notes", "profile"]).json(), serde_json::json!({"name": "Ada"}));
    let done = eid.ok(&["set", "notes", "profile", "1"]);
    assert!(done.err.contains("replaced a map of 1 key at profile"), "{}", done.err);
    eid.ok(&["unset", "notes", "profile"]);
    eid.ok(&["set", "notes", "profile.name.first", "Ada"]);
}

#[test]
fn a_truncated_ticket_is_refused_before_anything_happens() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let (_node, _) = eid.serve();
    let ticket = eid.ok(&["share", "notes", "--write"]).json()["ticket"].as_str().unwrap().to_owned();
    let other = Eid::new();
    for cut in [10, ticket.len() / 2, ticket.len() - 5] {
        other.fails(&["join", &ticket[..cut]], 2, "invalid_ticket");
    }
    other.fails(&["join", "https://example.org/"], 2, "invalid_ticket");
    assert!(other.ok(&["db", "list"]).lines().is_empty());
    other.ok(&["join", &ticket]);
}

#[test]
fn an_unreachable_address_has_code_five() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("http://127.0.0.1:{port}");
    let done = eid.fails(&["sync", "--address", &address], 5, "unreachable");
    assert!(done.error()["message"].as_str().unwrap().contains(&address), "{}", done.err);
    eid.fails(&["sync", "--address", "gopher://x:1"], 2, "invalid_address");
    eid.fails(&["sync", "--address", "http://x"], 2, "usage");
    eid.fails(&["sync"], 4, "not_found");
    eid.fails(&["sync", "--peer", "nobody"], 4, "not_found");
}

#[test]
fn a_busy_port_is_named() {
    let eid = Eid::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = eid.fails(&["serve", "--http", &address], 1, "address_in_use");
    assert!(done.error()["message"].as_str().unwrap().contains(&address), "{}", done.err);
    eid.fails(&["serve", "--http", "nonsense"], 2, "invalid_address");
    eid.ok(&["init"]);
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a letter").unwrap();
    Eid::at(file.path()).fails(&["db", "list"], 1, "not_a_store");
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "a letter");

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.log"), "a letter").unwrap();
    Eid::at(dir.path()).fails(&["db", "list"], 1, "not_a_store");
    assert_eq!(std::fs::read_to_string(dir.path().join("store.log")).unwrap(), "a letter");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_store_of_a_newer_format_is_left_alone_and_an_upgrade_is_advised() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let log = eid.dir().join("store.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let format = 7_u32.to_le_bytes();
    let sum = blake3::derive_key("eid 2026 header of a batch log", &format);
    bytes[16..20].copy_from_slice(&format);
    bytes[20..36].copy_from_slice(&sum[..16]);
    std::fs::write(&log, &bytes).unwrap();
    let done = eid.fails(&["db", "list"], 1, "newer_format");
    assert!(done.error()["message"].as_str().unwrap().contains("format 7"), "{}", done.err);
    assert!(done.error()["hint"].as_str().unwrap().contains("upgrade"));
    eid.fails(&["serve"], 1, "newer_format");
    assert_eq!(std::fs::read(&log).unwrap(), bytes);
}

#[test]
fn a_database_is_named_by_a_unique_name_or_id() {
    let eid = Eid::new();
    let id = eid.ok(&["db", "create", "notes"]).json()["id"].as_str().unwrap().to_owned();
    eid.ok(&["db", "show", &id]);
    eid.ok(&["db", "show", &id[..24]]);
    eid.fails(&["db", "show", "nothing"], 4, "not_found");
    eid.fails(&["set", "nothing", "a", "1"], 4, "not_found");
    eid.ok(&["db", "create", "notes"]);
    let done = eid.fails(&["db", "show", "notes"], 2, "ambiguous");
    assert!(done.error()["message"].as_str().unwrap().contains(&id), "the ids are listed: {}", done.err);
}

#[test]
fn sharing_needs_somebody_who_listens() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let done = eid.fails(&["share", "notes"], 1, "not_listening");
    assert!(done.error()["hint"].as_str().unwrap().contains("eid serve --http"));
    eid.ok(&["set", "notes", "a", "1", "--store", "s"]);
    eid.fails(&["table", "put", "notes", "s", "k", "{\"a\":1}"], 1, "wrong_kind");
    eid.fails(&["share", "notes", "--ask"], 1, "not_listening");
    eid.fails(&["share", "notes", "--expires", "soon"], 2, "usage");
}

#[test]
fn the_own_key_is_not_weakened_without_a_level() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let own = eid.ok(&["init"]).json()["device"].as_str().unwrap().to_owned();
    let before = eid.ok(&["keys", "list", "notes"]).out;
    let done = eid.fails(&["keys", "grant", "notes", &own, "admin"], 2, "usage");
    assert!(done.error()["hint"].as_str().unwrap().contains("admin:LEVEL"), "{}", done.err);
    eid.fails(&["keys", "grant", "notes", "*", "admin"], 2, "usage");
    assert_eq!(eid.ok(&["keys", "list", "notes"]).out, before);
    eid.ok(&["keys", "grant", "notes", &own, "admin:2"]);
}

#[test]
fn a_table_that_is_not_there_is_not_an_empty_one() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "geo"]);
    eid.ok(&["table", "put", "geo", "airports", "SEA", "{\"city\":\"Seattle\"}"]);
    let done = eid.fails(&["table", "query", "geo", "airprots"], 4, "not_found");
    assert!(done.error()["hint"].as_str().unwrap().contains("airports"), "{}", done.err);
    eid.fails(&["table", "export", "geo", "airprots"], 4, "not_found");
    eid.ok(&["table", "delete", "geo", "airports", "SEA"]);
    assert_eq!(
        eid.ok(&["table", "query", "geo", "airports"]).out,
        "",
        "the last row is gone, the table is not"
    );
}

#[test]
fn a_number_that_would_lose_digits_is_refused() {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let digits = "123456789012345678901234567890";
    eid.fails(&["set", "notes", "n", digits], 1, "invalid_input");
    eid.fails(&["get", "notes", "n"], 4, "not_found");
    eid.ok(&["set", "notes", "n", digits, "--text"]);
    assert_eq!(eid.ok(&["get", "notes", "n"]).json(), digits);
}

#[test]
fn wrong_usage_names_what_is_missing_in_json_too() {
    let eid = Eid::new();
    let done = eid.fails(&["get", "notes"], 2, "usage");
    assert!(done.error()["message"].as_str().unwrap().contains("<PATH>"), "{}", done.err);
}

#[test]
fn completions_and_man_pages_come_from_the_program() {
    let eid = Eid::new();
    let done = eid.ok(&["completions", "bash"]);
    assert!(done.json()["script"].as_str().unwrap().contains("recovery-file"));
    eid.fails(&["completions", "cmd"], 2, "usage");
    let dir = tempfile::TempDir::new().unwrap();
    let pages = dir.path().join("man1");
    eid.ok(&["man", pages.to_str().unwrap()]);
    for (page, says) in [("eid.1", "directory of the instance"), ("eid-table-import.1", "bad line")] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(says), "{page}");
    }
    assert!(!eid.dir().exists(), "neither needs an instance");
}
