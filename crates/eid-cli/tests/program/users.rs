//! Users as processes: passwords by a descriptor, what a user signs, and who is refused.

use serde_json::{Value, json};

use crate::process::{Done, Eid};

impl Eid {
    /// Runs a command with `--json` and with these lines on descriptor 3.
    fn with_passwords(&self, lines: &[&str], args: &[&str]) -> Done {
        let file = self.dir().with_extension("passwords");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, text).expect("a file beside the data directory");
        let mut command = vec!["--password-fd", "3", "--json"];
        command.extend(args);
        self.run_with_file_on_descriptor_3(&file, &command)
    }

    #[track_caller]
    fn as_user(&self, user: &str, password: &str, args: &[&str]) -> Done {
        let done = self.with_passwords(&[password], &[&["--user", user], args].concat());
        assert_eq!(done.code, Some(0), "{args:?}: {}{}", done.out, done.err);
        done
    }
}

fn last_author(eid: &Eid) -> Value {
    eid.ok(&["log", "notes", "--limit", "1"]).json()["author"].clone()
}

#[test]
fn a_user_acts_with_a_password_and_its_own_key() {
    let eid = Eid::new();
    let device = eid.ok(&["init"]).json()["device"].clone();
    let created = eid.with_passwords(&["correct horse"], &["user", "create", "ada"]);
    assert_eq!(created.code, Some(0), "{}", created.err);
    let key = created.json()["key"].clone();
    assert_eq!(created.json()["has_password"], true);
    assert_ne!(key, device);
    let listed = eid.ok(&["user", "list"]).lines();
    let expected = [
        json!({"name": "device", "key": device, "has_password": false, "device": true}),
        json!({"name": "ada", "key": key, "has_password": true, "device": false}),
    ];
    assert_eq!(listed, expected);

    eid.as_user("ada", "correct horse", &["db", "create", "notes"]);
    eid.as_user("ada", "correct horse", &["set", "notes", "title", "mine"]);
    assert_eq!(last_author(&eid), key);
    eid.fails(&["set", "notes", "title", "theirs"], 3, "forbidden");
    assert_eq!(eid.ok(&["get", "notes", "title"]).json(), "mine");
    let keys = eid.as_user("ada", "correct horse", &["keys", "list", "notes"]).lines();
    let own: Vec<&Value> = keys.iter().filter(|slot| slot["own"] == true).map(|slot| &slot["key"]).collect();
    assert_eq!(own, [&key]);

    for (user, lines) in [("ada", &["wrong"][..]), ("ada", &[]), ("ada", &[""]), ("eve", &["correct horse"])]
    {
        let refused = eid.with_passwords(lines, &["--user", user, "set", "notes", "title", "theirs"]);
        assert_eq!((refused.code, &refused.error()["code"]), (Some(3), &json!("wrong_password")), "{user}");
        assert!(!refused.err.contains("correct horse"));
    }
    let told =
        eid.with_passwords(&["correct horse"], &["-vv", "--user", "ada", "set", "notes", "title", "mine"]);
    assert!(told.code == Some(0) && !told.err.contains("correct horse"), "{}", told.err);
    // Without a terminal and without a descriptor nobody is asked.
    eid.fails(&["--user", "ada", "set", "notes", "title", "theirs"], 3, "wrong_password");
    let twice = eid.with_passwords(&["other"], &["user", "create", "ada"]);
    assert_eq!((twice.code, &twice.error()["code"]), (Some(2), &json!("invalid_name")));
}

#[test]
fn passwords_are_changed_and_taken_away_and_names_are_unicode() {
    let eid = Eid::new();
    eid.ok(&["user", "create", "Zoë 张"]);
    let changed = eid.with_passwords(&["", "pässwörd"], &["user", "password", "Zoë 张"]);
    assert_eq!((changed.code, &changed.json()["has_password"]), (Some(0), &json!(true)), "{}", changed.err);
    eid.fails(&["--user", "Zoë 张", "db", "create", "notes"], 3, "wrong_password");
    eid.as_user("Zoë 张", "pässwörd", &["db", "create", "notes"]);
    let wrong = eid.with_passwords(&["no", "next"], &["user", "password", "Zoë 张"]);
    assert_eq!((wrong.code, &wrong.error()["code"]), (Some(3), &json!("wrong_password")));
    let taken = eid.with_passwords(&["pässwörd", ""], &["user", "password", "Zoë 张"]);
    assert_eq!((taken.code, &taken.json()["has_password"]), (Some(0), &json!(false)), "{}", taken.err);
    eid.ok(&["--user", "Zoë 张", "set", "notes", "a", "1"]);
    eid.fails(&["user", "create", " ada"], 2, "invalid_name");
}

#[test]
fn databases_are_tracked_as_each_user_wants() {
    let eid = Eid::new();
    let id = eid.ok(&["db", "create", "notes"]).json()["id"].clone();
    let tracked = |on: bool, commit: bool, every: u64| {
        json!({
            "id": id, "tracked": true, "sync_enabled": on, "sync_on_commit": commit, "interval_seconds": every,
            "properties": {},
        })
    };
    assert_eq!(eid.ok(&["track", "notes"]).json(), tracked(true, false, 300));
    assert_eq!(eid.ok(&["track", "notes", "--on-commit", "--every", "60"]).json(), tracked(true, true, 60));
    assert_eq!(eid.ok(&["track", "notes", "--off"]).json(), tracked(false, false, 300));
    let never = eid.ok(&["track", "notes", "--on-commit", "--every", "off"]).json();
    assert_eq!((&never["sync_on_commit"], &never["interval_seconds"]), (&json!(true), &json!(null)));
    let shown = eid.run(&["track", "notes", "--on-commit", "--every", "off"]).out;
    assert!(shown.trim_end().ends_with(": on commit"), "{shown}");
    assert_eq!(
        eid.ok(&["track", "notes"]).json(),
        tracked(true, false, 300),
        "what is not said is as at the start"
    );
    assert_eq!(eid.ok(&["untrack", "notes"]).json(), json!({"id": id, "tracked": false}));
    eid.fails(&["untrack", "notes"], 4, "not_found");
    eid.fails(&["track", "nothing"], 4, "not_found");
    eid.fails(&["track", "notes", "--every", "0"], 2, "usage");
    eid.fails(&["track", "notes", "--every", "never"], 2, "usage");
    eid.ok(&["user", "create", "ada"]);
    eid.ok(&["--user", "ada", "track", "notes", "--every", "1"]);
    eid.fails(&["untrack", "notes"], 4, "not_found");
    eid.ok(&["untrack", "notes", "--user", "ada"]);
}

#[test]
fn a_running_node_runs_commands_of_a_user_who_logs_in_for_each() {
    let eid = Eid::new();
    let (node, _) = eid.serve();
    let created = eid.with_passwords(&["correct horse"], &["user", "create", "ada"]);
    let key = created.json()["key"].clone();
    eid.as_user("ada", "correct horse", &["db", "create", "notes"]);
    eid.as_user("ada", "correct horse", &["set", "notes", "title", "mine"]);
    assert_eq!(last_author(&eid), key);
    eid.fails(&["set", "notes", "title", "theirs"], 3, "forbidden");
    node.signal("-TERM");
    let done = node.wait();
    assert!(!done.err.contains("correct horse") && !done.out.contains("correct horse"));
}

#[test]
fn a_user_shares_from_a_node_that_it_runs_and_another_joins_as_a_user() {
    let (here, there) = (Eid::new(), Eid::new());
    here.ok(&["user", "create", "ada"]);
    here.ok(&["--user", "ada", "db", "create", "notes"]);
    here.ok(&["--user", "ada", "set", "notes", "title", "from Ada"]);
    let mut node = here.start(&["--user", "ada", "serve", "--http", "127.0.0.1:0", "--json"]);
    let ready: Value = serde_json::from_str(&node.next_line().expect("a first line")).unwrap();
    let address = ready["http"].as_str().unwrap();
    let ticket = here.ok(&["--user", "ada", "share", "notes", "--write"]).json();
    let key = there.ok(&["user", "create", "ben"]).json()["key"].clone();
    there.ok(&["--user", "ben", "join", ticket["ticket"].as_str().unwrap()]);
    there.ok(&["--user", "ben", "set", "notes", "title", "from Ben"]);
    there.ok(&["--user", "ben", "sync", "notes", "--address", address]);
    assert_eq!(here.ok(&["get", "notes", "title"]).json(), "from Ben");
    assert_eq!(last_author(&here), key);
    node.signal("-TERM");
    node.wait();
}
