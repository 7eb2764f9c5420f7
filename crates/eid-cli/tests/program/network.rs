//! Two processes over HTTP on the loopback.

use crate::process::{Eid, Running};
use serde_json::{Value, json};

/// A node with a database, serving, and a ticket to write.
struct Shared {
    eid: Eid,
    node: Running,
    address: String,
    ticket: String,
}

fn shared(prepare: impl FnOnce(&Eid)) -> Shared {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    prepare(&eid);
    let (node, address) = eid.serve();
    let ticket = eid.ok(&["share", "notes", "--write"]).json()["ticket"].clone();
    let ticket = ticket.as_str().expect("a ticket").to_owned();
    Shared { eid, node, address, ticket }
}

#[test]
fn a_thousand_shared_entries_and_one_private_commit_each_move_one_entry_each_way() {
    let a = shared(|eid| {
        let file = eid.dir().with_file_name("rows.csv");
        let rows: String = (0..1000).map(|n| format!("k{n},{n}\n")).collect();
        std::fs::write(&file, format!("key,n\n{rows}")).unwrap();
        eid.ok(&["table", "import", "notes", "t", file.to_str().unwrap(), "--key", "key", "--batch", "1"]);
    });
    let b = Eid::new();
    let joined = b.ok(&["join", &a.ticket]).json();
    assert_eq!((&joined["status"], &joined["request_id"]), (&json!("joined"), &json!(null)));
    assert!(joined["session"]["pulled"].as_u64().unwrap() > 1000, "{joined}");
    assert_eq!(b.ok(&["db", "show", "notes"]).json()["stores"][0]["rows"], 1000);

    a.eid.ok(&["set", "notes", "from", "a"]);
    b.ok(&["set", "notes", "to", "b"]);
    let synced = b.ok(&["sync", "--address", &a.address]).json();
    let session = &synced["databases"][0];
    assert_eq!((&session["pulled"], &session["pushed"]), (&json!(1), &json!(1)), "{synced}");
    assert_eq!(session["id"], joined["id"]);

    let synced = b.ok(&["sync"]).json();
    let session = &synced["databases"][0];
    assert_eq!((&session["pulled"], &session["pushed"]), (&json!(0), &json!(0)), "{synced}");
    assert!(session["bytes_in"].as_u64().unwrap() < 1024, "{synced}");
    assert!(session["bytes_out"].as_u64().unwrap() < 1024, "{synced}");
    for name in ["handshake_bytes", "turns", "ms"] {
        assert!(session[name].is_u64(), "{name} in {synced}");
    }
    assert!(session["peer"].is_string() && session["rung"].is_string());

    let with = &b.ok(&["status"]).json()["databases"][0]["peers"][0];
    assert_eq!((&with["behind"], &with["ahead"]), (&json!(0), &json!(0)), "{with}");
    assert!(with["last_sync"].is_u64(), "{with}");

    let state = |eid: &Eid| eid.ok(&["db", "show", "notes"]).json()["state_hash"].clone();
    assert_eq!(state(&a.eid), state(&b));
    assert_eq!(b.ok(&["get", "notes", "from"]).json(), "a");
    assert_eq!(a.eid.ok(&["get", "notes", "to"]).json(), "b");
}

#[test]
fn commands_go_through_the_running_node_and_behave_the_same() {
    let a = shared(|eid| drop(eid.ok(&["set", "notes", "x", "1"])));
    assert_eq!(a.eid.ok(&["get", "notes", "x"]).json(), 1);
    a.eid.ok(&["set", "notes", "x", "2"]);
    assert_eq!(a.eid.run(&["get", "notes", "x"]).out, "2\n");
    a.eid.fails(&["get", "notes", "nothing"], 4, "not_found");
    a.eid.fails(&["db", "show", "nothing"], 4, "not_found");
    a.eid.fails(&["nonsense"], 2, "usage");
    let file = a.eid.dir().with_file_name("rows.csv");
    std::fs::write(&file, "a,b\n1,2\n3,4\n").unwrap();
    let lines = a.eid.ok(&["table", "import", "notes", "t", file.to_str().unwrap(), "--batch", "1"]).lines();
    assert_eq!(lines.len(), 3, "output is streamed line by line");
    assert!(a.eid.ok(&["verify"]).json()["ok"].as_bool().unwrap());
    let device = a.eid.ok(&["init"]).json();
    a.node.signal("-TERM");
    let done = a.node.wait();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(a.eid.ok(&["init"]).json(), device);
    assert_eq!(a.eid.ok(&["get", "notes", "x"]).json(), 2);
}

#[test]
fn a_second_node_on_the_same_directory_fails_and_says_so() {
    let a = shared(|_| {});
    let done = a.eid.fails(&["serve", "--http", "127.0.0.1:0"], 1, "locked");
    assert!(done.error()["message"].as_str().unwrap().contains("another node serves"));
    a.eid.ok(&["set", "notes", "x", "1"]);
}

#[test]
fn a_directory_with_a_long_path_is_reached_all_the_same() {
    let owned = tempfile::tempdir().unwrap();
    let dir = owned.path().join("a".repeat(120));
    let eid = Eid::at(&dir);
    eid.ok(&["db", "create", "notes"]);
    let (node, _) = eid.serve();
    eid.ok(&["set", "notes", "x", "1"]);
    eid.ok(&["share", "notes"]);
    node.signal("-TERM");
    assert_eq!(node.wait().code, Some(0));
}

#[test]
fn only_its_owner_can_reach_a_running_node() {
    use std::os::unix::fs::PermissionsExt as _;
    let a = shared(|_| {});
    let mode = |name: &str| a.eid.dir().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("control.sock"), 0o600);
    assert_eq!(mode("."), 0o700);
    assert_eq!(mode("store.log"), 0o600);
    assert_eq!(mode("store.redb"), 0o600);
}

#[test]
fn a_ticket_can_name_the_address_of_a_proxy() {
    let a = shared(|_| {});
    let other = a.address.replace("127.0.0.1", "localhost");
    let ticket = a.eid.ok(&["share", "notes", "--write", "--address", &other]).json()["ticket"].clone();
    let b = Eid::new();
    b.ok(&["join", ticket.as_str().unwrap()]);
    assert_eq!(b.ok(&["peers", "list"]).lines()[0]["addresses"], json!([other]));
}

#[test]
fn a_node_that_was_killed_leaves_nothing_in_the_way() {
    let a = shared(|_| {});
    a.eid.ok(&["set", "notes", "x", "1"]);
    a.node.kill();
    assert_eq!(a.eid.ok(&["get", "notes", "x"]).json(), 1);
    let (node, _) = a.eid.serve();
    assert_eq!(a.eid.ok(&["get", "notes", "x"]).json(), 1);
    node.signal("-INT");
    assert_eq!(node.wait().code, Some(0));
}

#[test]
fn an_invite_for_one_device_lets_one_in() {
    let a = shared(|_| {});
    let ticket = a.eid.ok(&["share", "notes", "--read", "--uses", "1"]).json();
    let ticket = ticket["ticket"].as_str().unwrap();
    let (b, c) = (Eid::new(), Eid::new());
    b.ok(&["join", ticket]);
    c.fails(&["join", ticket], 3, "refused");
    assert!(c.ok(&["db", "list"]).lines().is_empty(), "a refused join brings no database");
    assert_eq!(c.ok(&["peers", "list"]).lines().len(), 1, "the server is remembered before anything arrives");
    b.ok(&["join", ticket]);
    b.fails(&["set", "notes", "x", "1"], 3, "forbidden");
    assert_eq!(b.ok(&["sync"]).json()["databases"][0]["pushed"], 0);
    let keys = a.eid.ok(&["keys", "list", "notes"]).lines();
    assert!(keys.iter().any(|key| key["permission"] == "read"), "{keys:?}");
}

#[test]
fn a_ticket_for_another_server_is_refused() {
    let a = shared(|_| {});
    a.node.kill();
    let c = Eid::new();
    let address = a.address.strip_prefix("http://").unwrap();
    let mut other = c.start(&["serve", "--http", address, "--json"]);
    other.next_line().expect("it serves at the same address");
    let b = Eid::new();
    let done = b.fails(&["join", &a.ticket], 3, "refused");
    assert!(done.error()["message"].as_str().unwrap().contains("expected ed25519:"), "{}", done.err);
    assert!(b.ok(&["db", "list"]).lines().is_empty());
}

#[test]
fn a_join_remembers_the_server_and_a_peer_can_be_added_by_hand() {
    let a = shared(|_| {});
    let b = Eid::new();
    b.ok(&["join", &a.ticket, "--name", "theirs"]);
    let peers = b.ok(&["peers", "list"]).lines();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0]["addresses"], json!([a.address]));
    assert!(peers[0]["key"].is_string() && peers[0]["last_success"].is_u64());
    b.ok(&["db", "show", "theirs"]);
    let status = b.ok(&["status"]).json();
    assert_eq!(status["databases"][0]["name"], "theirs");
    assert_eq!(status["peers"][0]["key"], peers[0]["key"]);

    let c = Eid::new();
    c.ok(&["peers", "add", &a.address]);
    assert_eq!(c.ok(&["sync"]).json(), json!({"databases": []}), "nothing is offered to a stranger");
    assert_eq!(c.ok(&["peers", "list"]).lines()[0]["key"], peers[0]["key"]);
}

#[test]
fn a_revoked_key_is_refused() {
    let a = shared(|_| {});
    let b = Eid::new();
    b.ok(&["join", &a.ticket]);
    let key = b.ok(&["init"]).json()["device"].as_str().unwrap().to_owned();
    a.eid.ok(&["keys", "revoke", "notes", &key]);
    b.ok(&["set", "notes", "x", "1"]);
    b.fails(&["sync", "notes"], 3, "refused");
    a.eid.fails(&["get", "notes", "x"], 4, "not_found");
}

#[test]
fn a_revoked_reader_is_refused_when_it_names_no_database() {
    let a = shared(|_| {});
    let b = Eid::new();
    b.ok(&["join", &a.ticket]);
    b.ok(&["db", "create", "own"]);
    b.ok(&["sync", "--address", &a.address]);
    let key = b.ok(&["init"]).json()["device"].as_str().unwrap().to_owned();
    a.eid.ok(&["keys", "revoke", "notes", &key]);
    let id = b.ok(&["db", "show", "notes"]).json()["id"].as_str().unwrap().to_owned();
    for args in [&["sync", "--address", &a.address][..], &["sync"]] {
        let done = b.fails(args, 3, "refused");
        assert!(done.error()["message"].as_str().unwrap().contains(&id), "{}", done.err);
    }
    let c = Eid::new();
    assert_eq!(c.ok(&["sync", "--address", &a.address]).json(), json!({"databases": []}));
}

#[test]
fn an_old_address_of_a_peer_that_answers_at_another_is_no_failure() {
    let a = shared(|_| {});
    let b = Eid::new();
    b.ok(&["join", &a.ticket]);
    a.node.signal("-TERM");
    a.node.wait();
    let (_node, address) = a.eid.serve();
    assert_ne!(address, a.address);
    b.fails(&["sync"], 5, "unreachable");
    b.ok(&["peers", "add", &address]);
    assert_eq!(b.ok(&["sync"]).json()["databases"].as_array().unwrap().len(), 1);
    let peers = b.ok(&["peers", "list"]).lines();
    assert_eq!(peers[0]["addresses"], json!([address, a.address]));
    assert_eq!((peers.len(), &peers[0]["last_error"]), (1, &json!(null)));
}

/// Reads what a node tells until it tells this.
pub(crate) fn until(node: &mut Running, event: &str) -> Value {
    loop {
        let line = node.next_line().unwrap_or_else(|| panic!("the node ended before it said {event}"));
        let told: Value = serde_json::from_str(&line).expect("JSON");
        if told["event"] == event {
            return told;
        }
    }
}

#[test]
fn what_is_written_on_one_node_is_on_another_without_asking_also_after_one_was_killed() {
    let mut a = shared(|_| {});
    let b = Eid::new();
    b.ok(&["join", &a.ticket]);
    let (mut b_node, _) = b.serve_with(&[]);
    until(&mut b_node, "in_step");
    a.eid.ok(&["set", "notes", "from", "a"]);
    assert_eq!(until(&mut b_node, "arrived")["entries"], 1);
    assert_eq!(b.ok(&["get", "notes", "from"]).json(), "a");
    b.ok(&["set", "notes", "to", "b"]);
    assert_eq!(until(&mut a.node, "arrived")["entries"], 1);
    assert_eq!(a.eid.ok(&["get", "notes", "to"]).json(), "b");

    a.node.kill();
    b.ok(&["set", "notes", "to", "c"]);
    let socket = a.address.trim_start_matches("http://").trim_end_matches('/');
    let (mut a_node, _) = a.eid.serve_with(&["--http", socket]);
    until(&mut b_node, "in_step");
    assert_eq!(a.eid.ok(&["get", "notes", "to"]).json(), "c");
    b.ok(&["set", "notes", "to", "d"]);
    until(&mut a_node, "arrived");
    assert_eq!(a.eid.ok(&["get", "notes", "to"]).json(), "d");
    for node in [a_node, b_node] {
        node.signal("-TERM");
        assert_eq!(node.wait().code, Some(0));
    }
}

#[test]
fn whoever_serves_lists_who_joined_and_a_peer_is_forgotten() {
    let a = shared(|_| {});
    let b = Eid::new();
    b.ok(&["init", "--name", "Ben's phone"]);
    b.ok(&["join", &a.ticket]);
    let key = b.ok(&["init"]).json()["device"].clone();
    let peers = a.eid.ok(&["peers", "list"]).lines();
    assert_eq!(peers.len(), 1);
    assert_eq!((&peers[0]["key"], &peers[0]["name"]), (&key, &json!("Ben's phone")));

    a.eid.ok(&["peers", "forget", "Ben's phone"]);
    assert!(a.eid.ok(&["peers", "list"]).lines().is_empty());
    a.eid.fails(&["peers", "forget", "Ben's phone"], 4, "not_found");
    assert_eq!(a.eid.ok(&["status"]).json()["databases"][0]["peers"], json!([]));
    b.ok(&["peers", "add", "http://127.0.0.1:1"]);
    b.ok(&["peers", "forget", "http://127.0.0.1:1"]);
    b.ok(&["peers", "forget", &a.address]);
    b.fails(&["sync"], 4, "not_found");
    b.ok(&["sync", "--address", &a.address]);
}

#[test]
fn others_do_not_get_between_a_device_and_its_names() {
    let b = Eid::new();
    let own = b.ok(&["db", "create", "own"]).json()["id"].as_str().unwrap().to_owned();
    let a = shared(|eid| drop(eid.ok(&["db", "title", "notes", "plans"])));
    b.ok(&["join", &a.ticket]);
    b.ok(&["db", "show", "plans"]);
    for title in ["own", "secret", &own[..12]] {
        a.eid.ok(&["db", "title", "notes", title]);
        b.ok(&["sync"]);
        assert_eq!(
            b.ok(&["db", "list"]).lines().iter().filter(|db| db["title"] == title).count(),
            1 + usize::from(title == "own")
        );
        assert_eq!(b.ok(&["db", "show", "own"]).json()["id"], own.as_str());
        assert_eq!(b.ok(&["db", "show", &own[..12]]).json()["id"], own.as_str());
        b.ok(&["db", "show", "plans"]);
        b.fails(&["db", "show", "secret"], 4, "not_found");
    }
    let c = Eid::new();
    let id = c.ok(&["db", "create", "own"]).json()["id"].as_str().unwrap().to_owned();
    a.eid.ok(&["db", "title", "notes", &id[..12]]);
    c.ok(&["join", &a.ticket]);
    let done = c.fails(&["db", "show", &id[..12]], 2, "ambiguous");
    assert!(done.error()["message"].as_str().unwrap().contains(&id), "{}", done.err);
    assert_eq!(c.ok(&["db", "show", &id[..20]]).json()["id"], id.as_str());
}

#[test]
fn the_demo_converges() {
    let eid = Eid::new();
    let done = eid.ok(&["demo"]).json();
    assert_eq!(done["converged"], true, "{done}");
    let replicas = done["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3);
    for replica in replicas {
        assert_eq!(replica["state_hash"], done["state_hash"]);
        assert_eq!(replica["rows"], 3376);
        assert_eq!(replica["entries"], replicas[0]["entries"]);
    }
    assert!(done["sessions"].as_array().unwrap().len() >= 4);
    for name in
        ["from", "to", "via", "entries_pulled", "entries_pushed", "bytes_in", "bytes_out", "turns", "ms"]
    {
        assert!(!done["sessions"][0][name].is_null(), "{name}");
    }
    assert!(!eid.dir().exists(), "it leaves the data directory alone");
}

#[test]
fn who_is_blocked_is_not_answered_until_it_is_not_any_more() {
    let a = shared(|_| {});
    let b = Eid::new();
    b.ok(&["init", "--name", "Ben's phone"]);
    b.ok(&["join", &a.ticket]);
    let blocked = a.eid.ok(&["peers", "block", "Ben's phone"]).json();
    assert_eq!(blocked["status"], "blocked");
    b.ok(&["set", "notes", "x", "1"]);
    assert_ne!(b.run(&["sync"]).code, Some(0));
    a.eid.fails(&["get", "notes", "x"], 4, "not_found");
    let listed = a.eid.ok(&["peers", "list"]).lines();
    assert_eq!((&listed[0]["status"], listed.len()), (&json!("blocked"), 1));

    a.eid.ok(&["peers", "unblock", "Ben's phone"]);
    b.ok(&["sync"]);
    assert_eq!(a.eid.ok(&["get", "notes", "x"]).json(), 1);
    // What was only heard of has no key to go by.
    b.ok(&["peers", "add", "http://127.0.0.1:1"]);
    b.fails(&["peers", "block", "http://127.0.0.1:1"], 4, "not_found");
    // Who dials does not go to a peer that it has blocked.
    let server = b.ok(&["peers", "list"]).lines().into_iter().find(|peer| peer["key"].is_string()).unwrap();
    let server = server["key"].as_str().unwrap();
    b.ok(&["peers", "block", server]);
    b.fails(&["sync", "--peer", server], 3, "refused");
}

#[test]
fn what_may_be_read_at_an_address_is_listed_and_nothing_else() {
    let a = shared(|a| {
        a.ok(&["db", "create", "private"]);
    });
    let b = Eid::new();
    assert!(b.ok(&["discover", &a.address]).lines().is_empty());
    b.ok(&["join", &a.ticket]);
    let found = b.ok(&["discover", &a.address]).lines();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["name"], &found[0]["permission"]), (&json!("notes"), &json!("write")));
    assert_eq!(found[0]["entries"], a.eid.ok(&["db", "show", "notes"]).json()["entries"]);
    assert!(found[0]["changed"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(found[0]["here"], true);
    b.ok(&["db", "forget", "notes"]);
    assert_eq!(b.ok(&["discover", &a.address]).lines()[0]["here"], false);
    // What was forgotten comes again only from whom is named.
    assert_eq!(b.ok(&["sync"]).json()["databases"], json!([]));
    let synced = b.ok(&["sync", "--address", &a.address]).json();
    assert_eq!(synced["databases"][0]["id"], found[0]["id"]);
    assert_eq!(b.ok(&["discover", &a.address]).lines()[0]["here"], true);
    assert_eq!(b.ok(&["db", "show", "notes"]).json()["entries"], found[0]["entries"]);
    assert_eq!(b.ok(&["db", "list"]).lines().len(), 1);
    b.fails(&["discover", "http://127.0.0.1:1"], 5, "unreachable");
}

#[test]
fn of_a_peer_it_is_listed_how_its_addresses_have_worked_and_which_databases_it_shares() {
    let a = shared(|_| {});
    let b = Eid::new();
    let joined = b.ok(&["join", &a.ticket]).json();
    let known = b.ok(&["peers", "list"]).lines().remove(0);
    let key = known["key"].as_str().unwrap();
    assert_eq!(known["databases"], json!([joined["id"]]));
    assert_eq!(known["connection"], "disconnected");
    assert_eq!(known["tried"][0]["address"], json!(a.address));
    assert!(known["tried"][0]["last_success"].is_u64(), "{known}");
    assert_eq!(b.ok(&["status"]).json()["peers"][0], known);

    // A further address of it, where nobody is.
    let nowhere = "http://127.0.0.1:1";
    b.ok(&["peers", "add", nowhere, "--key", key, "--name", "the server"]);
    let known = b.ok(&["peers", "list"]).lines();
    assert_eq!((known.len(), &known[0]["addresses"]), (1, &json!([a.address, nowhere])));
    assert_eq!(known[0]["name"], "the server");
    a.node.kill();
    b.fails(&["sync"], 5, "unreachable");
    let known = b.ok(&["peers", "list"]).lines().remove(0);
    let failed = known["tried"].as_array().unwrap().iter().find(|tried| tried["address"] == nowhere);
    assert!(failed.is_some_and(|failed| failed["last_failure"].is_u64()), "{known}");
    let shown = b.run(&["peers", "list"]).out;
    assert!(
        shown.contains("the server") && shown.contains("notes") && shown.contains("disconnected"),
        "{shown}"
    );

    // A peer that was not met is known by its key; an own key is nobody else's.
    let laptop = Eid::new().ok(&["init"]).json()["device"].clone();
    let add = ["peers", "add", "http://127.0.0.1:2", "--key", laptop.as_str().unwrap(), "--name", "laptop"];
    assert_eq!(b.ok(&add).json(), json!({"address": "http://127.0.0.1:2", "key": laptop, "name": "laptop"}));
    let laptop = b.ok(&["peers", "list"]).lines().into_iter().find(|peer| peer["key"] == laptop).unwrap();
    assert_eq!((&laptop["name"], &laptop["databases"]), (&json!("laptop"), &json!([])));
    let own = b.ok(&["init"]).json()["device"].clone();
    b.fails(&["peers", "add", nowhere, "--key", own.as_str().unwrap()], 2, "usage");
    b.fails(&["peers", "add", nowhere, "--name", "laptop"], 2, "usage");
}

#[test]
fn who_is_paused_is_dialled_only_when_it_is_named_and_served_all_the_same() {
    let a = shared(|a| drop(a.ok(&["init", "--name", "Ada"])));
    let b = Eid::new();
    b.ok(&["init", "--name", "Ben"]);
    b.ok(&["join", &a.ticket]);
    b.ok(&["set", "notes", "x", "1"]);
    assert_eq!(b.ok(&["peers", "pause", "Ada"]).json()["status"], "inactive");
    assert_eq!(b.ok(&["peers", "list"]).lines()[0]["status"], "inactive");
    b.run(&["sync"]);
    a.eid.fails(&["get", "notes", "x"], 4, "not_found");
    b.ok(&["sync", "--peer", "Ada"]);
    assert_eq!(a.eid.ok(&["get", "notes", "x"]).json(), 1);
    // The other way round it is answered.
    a.eid.ok(&["peers", "pause", "Ben"]);
    b.ok(&["set", "notes", "x", "2"]);
    assert_eq!(b.ok(&["peers", "resume", "Ada"]).json()["status"], "active");
    b.ok(&["sync"]);
    assert_eq!(a.eid.ok(&["get", "notes", "x"]).json(), 2);
    // Neither lets in who is blocked.
    a.eid.ok(&["peers", "block", "Ben"]);
    for command in ["pause", "resume"] {
        a.eid.fails(&["peers", command, "Ben"], 2, "usage");
    }
    assert_eq!(a.eid.ok(&["peers", "list"]).lines()[0]["status"], "blocked");
}

#[test]
fn what_all_sessions_came_to_is_in_the_status_and_each_of_them_in_the_history_until_it_is_forgotten() {
    let a = shared(|a| drop(a.ok(&["db", "create", "private"])));
    let b = Eid::new();
    b.ok(&["db", "create", "own"]);
    let joined = b.ok(&["join", &a.ticket]).json();
    b.ok(&["set", "notes", "x", "1"]);
    let synced = b.ok(&["sync"]).json()["databases"][0].clone();
    let status = b.ok(&["status", "notes"]).json();
    let with = &status["databases"][0]["peers"][0];
    assert_eq!(with["has_local_data"], true);
    let totals = &with["totals"];
    let sessions = b.ok(&["status", "notes", "--history"]).lines();
    assert_eq!(totals["sessions"].as_u64().unwrap(), sessions.len() as u64, "{totals}");
    for name in ["pulled", "pushed", "bytes_in", "bytes_out", "ms"] {
        let sum: u64 = sessions.iter().map(|session| session[name].as_u64().unwrap()).sum();
        assert_eq!(totals[name], sum, "{name}");
    }
    assert_eq!(totals["pulled"], joined["session"]["pulled"]);
    assert_eq!((&totals["failed"], &totals["last_ended"]), (&json!(0), &sessions[0]["ended"]));
    // The last one first.
    let last = &sessions[0];
    assert_eq!(
        (&last["id"], &last["peer"], &last["via"]),
        (&joined["id"], &synced["peer"], &json!(a.address))
    );
    assert_eq!((&last["pushed"], &last["complete"], &last["error"]), (&json!(1), &json!(true), &json!(null)));
    assert_eq!(b.ok(&["status", "--history", "--limit", "1"]).lines(), std::slice::from_ref(last));
    assert!(b.ok(&["status", "own", "--history"]).lines().is_empty());
    let shown = b.run(&["status", "--history"]).out;
    assert!(shown.contains("notes") && shown.contains("all"), "{shown}");

    assert_eq!(b.ok(&["status", "--forget-history", "1h"]).json(), json!({"forgotten": 0}));
    assert_eq!(b.ok(&["status", "--history"]).lines().len(), sessions.len());
    b.fails(&["status", "notes", "--forget-history", "1h"], 2, "usage");
    assert_eq!(b.ok(&["status", "--forget-history"]).json(), json!({"forgotten": sessions.len()}));
    assert!(b.ok(&["status", "--history"]).lines().is_empty());
    assert_eq!(b.ok(&["status", "notes"]).json()["databases"][0]["peers"][0]["totals"], *totals);
}
