//! How one data directory comes to a database of another: by a ticket that gives something, or by asking.

use crate::network::until;
use crate::process::{Done, Eid, Running};
use serde_json::{Value, json};

/// A node with a database, serving.
struct Shared {
    eid: Eid,
    node: Running,
    address: String,
}

fn shared() -> Shared {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    eid.ok(&["set", "notes", "from", "a"]);
    let (node, address) = eid.serve();
    Shared { eid, node, address }
}

impl Shared {
    fn ticket(&self, options: &[&str]) -> String {
        let args = [&["share", "notes"], options].concat();
        self.eid.ok(&args).json()["ticket"].as_str().expect("a ticket").to_owned()
    }

    fn requests(&self) -> Vec<Value> {
        self.eid.ok(&["requests", "list"]).lines()
    }
}

fn key_of(eid: &Eid) -> String {
    eid.ok(&["init"]).json()["device"].as_str().expect("a key").to_owned()
}

fn right_of(eid: &Eid, key: &str) -> Option<String> {
    let keys = eid.ok(&["keys", "list", "notes"]).lines();
    let found = keys.iter().find(|found| found["key"] == key)?;
    found["permission"].as_str().map(str::to_owned)
}

/// The last line of what a join that has to wait says, and its error.
#[track_caller]
fn pending(done: &Done) -> Value {
    let told = done.json();
    assert_eq!((&told["status"], &told["session"]), (&json!("pending"), &json!(null)), "{told}");
    assert_eq!(told["request_id"].as_str().map(str::len), Some(32), "{told}");
    assert_eq!(done.error()["code"], "pending");
    told
}

#[test]
fn a_ticket_to_read_lets_read_and_not_write() {
    let a = shared();
    let b = Eid::new();
    let joined = b.ok(&["join", &a.ticket(&["--read"])]).json();
    assert_eq!((&joined["status"], &joined["request_id"]), (&json!("joined"), &json!(null)));
    assert_eq!(b.ok(&["get", "notes", "from"]).json(), "a");
    b.fails(&["set", "notes", "from", "b"], 3, "forbidden");
    assert_eq!(right_of(&a.eid, &key_of(&b)).as_deref(), Some("read"));
}

#[test]
fn who_asks_is_pending_until_it_is_approved_and_then_joins_with_that_right() {
    let a = shared();
    let ticket = a.ticket(&["--ask"]);
    assert!(!ticket.contains("inv="), "it grants nothing: {ticket}");
    let b = Eid::new();
    b.ok(&["init", "--name", "Ben\u{1b}[31m"]);
    let ask = ["join", &ticket, "--request", "write", "--message", "from the meeting"];
    let told = pending(&b.fails(&ask, 7, "pending"));
    assert!(b.ok(&["db", "list"]).lines().is_empty());
    pending(&b.fails(&["join", &ticket], 7, "pending"));
    let requests = a.requests();
    assert_eq!(requests.len(), 1, "repeats do not pile up");
    let request = &requests[0];
    let key = key_of(&b);
    assert_eq!((&request["id"], &request["key"]), (&told["request_id"], &json!(key)));
    assert_eq!((&request["db"], &request["permission"]), (&told["id"], &json!("write")));
    assert_eq!((&request["status"], &request["name"]), (&json!("pending"), &json!("Ben\u{1b}[31m")));
    assert_eq!(request["metadata"], json!({"message": "from the meeting"}));
    assert!(request["time"].as_u64().unwrap() > 1_700_000_000_000);
    let shown = a.eid.run(&["requests", "list"]).out;
    assert!(shown.contains("Ben\\u{1b}[31m") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.contains("from the meeting") && shown.contains("notes"), "{shown}");

    let id = request["id"].as_str().unwrap();
    let done = a.eid.ok(&["requests", "approve", &id[..6]]).json();
    assert_eq!((&done["status"], &done["granted"]), (&json!("approved"), &json!("write")));
    assert_eq!(right_of(&a.eid, &key).as_deref(), Some("write"));
    let joined = b.ok(&["join", &ticket]).json();
    assert_eq!((&joined["status"], &joined["id"]), (&json!("joined"), &told["id"]));
    b.ok(&["set", "notes", "to", "b"]);
    b.ok(&["sync"]);
    assert_eq!(a.eid.ok(&["get", "notes", "to"]).json(), "b");
    // Once, by its id, and of those that there are.
    a.eid.fails(&["requests", "approve", id], 1, "decided");
    a.eid.fails(&["requests", "reject", id], 1, "decided");
    a.eid.fails(&["requests", "approve", "ffffffff00000000"], 4, "not_found");
    a.eid.fails(&["requests", "reject", ""], 4, "not_found");
}

#[test]
fn an_approval_can_be_waited_for_and_give_something_else_than_was_asked() {
    let mut a = shared();
    let ticket = a.ticket(&["--ask"]);
    let b = Eid::new();
    let mut waiting = b.start(&["join", &ticket, "--request", "admin", "--wait", "60", "--json"]);
    let asked = until(&mut a.node, "requested");
    assert_eq!((&asked["permission"], &asked["key"]), (&json!("admin"), &json!(key_of_running(&a))));
    a.eid.fails(
        &["requests", "approve", asked["request_id"].as_str().unwrap(), "--as", "admin:0"],
        3,
        "forbidden",
    );
    a.eid.ok(&["requests", "approve", asked["request_id"].as_str().unwrap(), "--as", "read"]);
    let joined: Value = serde_json::from_str(&waiting.next_line().expect("a line")).expect("JSON");
    assert_eq!(joined["status"], "joined", "{joined}");
    assert_eq!(waiting.wait().code, Some(0));
    b.fails(&["set", "notes", "from", "b"], 3, "forbidden");
    assert_eq!(right_of(&a.eid, &key_of(&b)).as_deref(), Some("read"));
}

#[test]
fn who_is_rejected_is_told_so_and_has_nothing() {
    let a = shared();
    let ticket = a.ticket(&["--ask"]);
    let b = Eid::new();
    let told = pending(&b.fails(&["join", &ticket, "--request", "read", "--wait", "0"], 7, "pending"));
    a.eid.ok(&["requests", "reject", told["request_id"].as_str().unwrap()]);
    let done = b.fails(&["join", &ticket, "--request", "read"], 3, "rejected");
    assert_eq!(
        (&done.json()["status"], &done.json()["request_id"]),
        (&json!("rejected"), &told["request_id"])
    );
    assert!(b.ok(&["db", "list"]).lines().is_empty());
    assert_eq!(right_of(&a.eid, &key_of(&b)), None);
    assert_eq!(a.requests()[0]["status"], "rejected");
}

#[test]
fn what_is_approved_while_the_joiner_is_down_is_joined_by_itself_after_its_restart() {
    let a = shared();
    let ticket = a.ticket(&["--ask"]);
    let b = Eid::new();
    let (b_node, _) = b.serve_with(&[]);
    // The running node asks.
    let told = pending(&b.fails(&["join", &ticket, "--request", "write", "--name", "theirs"], 7, "pending"));
    b_node.kill();
    a.eid.ok(&["requests", "approve", told["request_id"].as_str().unwrap()]);
    let (mut b_node, _) = b.serve_with(&[]);
    let answered = until(&mut b_node, "answered");
    assert_eq!((&answered["id"], &answered["status"]), (&told["id"], &json!("joined")));
    assert_eq!(b.ok(&["get", "theirs", "from"]).json(), "a");
    // It is tracked as after any other join.
    a.eid.ok(&["set", "notes", "from", "later"]);
    until(&mut b_node, "arrived");
    assert_eq!(b.ok(&["get", "theirs", "from"]).json(), "later");
}

#[test]
fn a_sync_completes_what_was_approved() {
    let a = shared();
    let ticket = a.ticket(&["--ask"]);
    let b = Eid::new();
    let told = pending(&b.fails(&["join", &ticket], 7, "pending"));
    assert_eq!(b.ok(&["sync"]).json(), json!({"databases": []}));
    a.eid.ok(&["requests", "approve", told["request_id"].as_str().unwrap()]);
    let synced = b.ok(&["sync"]).json();
    assert_eq!(synced["databases"][0]["id"], told["id"]);
    assert_eq!(b.ok(&["get", "notes", "from"]).json(), "a");
    assert_eq!(a.requests()[0]["permission"], "read", "which is asked for unless something else is said");
}

#[test]
fn only_an_admin_shares_more_than_to_ask_and_approves() {
    let a = shared();
    let b = Eid::new();
    b.ok(&["join", &a.ticket(&["--write"])]);
    let (_b_node, _) = b.serve();
    b.fails(&["share", "notes", "--read"], 3, "forbidden");
    b.fails(&["share", "notes", "--read", "--uses", "1"], 3, "forbidden");
    let ticket = b.ok(&["share", "notes", "--ask"]).json()["ticket"].as_str().unwrap().to_owned();
    let c = Eid::new();
    let told = pending(&c.fails(&["join", &ticket, "--request", "write"], 7, "pending"));
    let id = told["request_id"].as_str().unwrap();
    b.fails(&["requests", "approve", id], 3, "forbidden");
    b.fails(&["requests", "reject", id], 3, "forbidden");
    assert_eq!(b.ok(&["requests", "list"]).lines()[0]["status"], "pending");
    b.fails(&["share", "notes", "--ask", "--uses", "1"], 2, "usage");
}

#[test]
fn who_may_read_as_everyone_is_served_at_once_and_nobody_is_asked() {
    let a = shared();
    a.eid.ok(&["keys", "grant", "notes", "*", "read"]);
    let ticket = a.ticket(&["--ask"]);
    let b = Eid::new();
    b.ok(&["join", &ticket, "--request", "read"]);
    assert!(a.requests().is_empty());
    assert_eq!(right_of(&a.eid, &key_of(&b)), None, "no key is added");
    let told = pending(&b.fails(&["join", &ticket, "--request", "write"], 7, "pending"));
    assert_eq!(a.requests()[0]["id"], told["request_id"]);
    // Who asks for less than everyone may do is served at once too.
    a.eid.ok(&["keys", "grant", "notes", "*", "write"]);
    let c = Eid::new();
    c.ok(&["join", &ticket, "--request", "read"]);
    assert_eq!((a.requests().len(), right_of(&a.eid, &key_of(&c))), (1, None));
}

#[test]
fn an_invite_that_is_over_or_used_and_a_wrong_server_are_refused() {
    let a = shared();
    let (b, c) = (Eid::new(), Eid::new());
    for options in [&["--write", "--expires", "1s"][..], &["--write", "--uses", "999", "--expires", "1s"]] {
        let ticket = a.ticket(options);
        let late = std::iter::repeat_with(|| Eid::new().run(&["join", &ticket, "--json"]));
        // One that is over while somebody joins is refused as well, later.
        let refused = late.take(500).find(|done| done.code != Some(0) && done.err.contains("expired"));
        let refused = refused.expect("a second passes");
        assert_eq!((refused.code, &refused.error()["code"]), (Some(3), &json!("refused")), "{}", refused.err);
    }
    let once = a.ticket(&["--write", "--uses", "1"]);
    b.ok(&["join", &once]);
    let done = c.fails(&["join", &once], 3, "refused");
    assert!(done.error()["message"].as_str().unwrap().contains("used up"), "{}", done.err);
    let (open, ask) = (a.ticket(&["--write"]), a.ticket(&["--ask"]));
    a.node.kill();
    let other = Eid::new();
    let socket = a.address.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let (_other, _) = other.serve_with(&["--http", &socket]);
    for ticket in [open, ask] {
        c.fails(&["join", &ticket], 3, "refused");
    }
    assert!(c.ok(&["db", "list"]).lines().is_empty());
}

#[test]
fn an_open_invite_that_is_withdrawn_lets_nobody_in_and_who_joined_before_keeps_its_right() {
    let a = shared();
    let made = a.eid.ok(&["share", "notes", "--write", "--expires", "7d"]).json();
    let (ticket, invite) = (made["ticket"].as_str().unwrap(), made["invite"].as_str().unwrap());
    let other = a.eid.ok(&["share", "notes", "--read"]).json();
    let b = Eid::new();
    b.ok(&["join", ticket]);
    let listed = |invite: &str| {
        let keys = a.eid.ok(&["keys", "list", "notes"]).lines();
        keys.into_iter().find(|key| key["key"] == invite).expect("it is listed")
    };
    let open = listed(invite);
    assert_eq!((&open["permission"], &open["status"]), (&json!("write"), &json!("active")));
    assert!(open["expires_ms"].as_u64() > Some(1_700_000_000_000), "{open}");
    assert_eq!(open["by"], key_of(&a.eid));

    let withdrawn = a.eid.ok(&["keys", "revoke", "notes", invite]).json();
    assert_eq!((&withdrawn["key"], &withdrawn["void"]), (&json!(invite), &json!(0)));
    let closed = listed(invite);
    assert_eq!((&closed["permission"], &closed["status"]), (&json!(null), &json!("revoked")));
    assert_eq!(closed["entry"], withdrawn["entry"]);
    Eid::new().fails(&["join", ticket], 3, "refused");
    b.ok(&["set", "notes", "from", "b"]);
    b.ok(&["sync"]);
    assert_eq!(a.eid.ok(&["get", "notes", "from"]).json(), "b");
    assert_eq!(right_of(&a.eid, &key_of(&b)).as_deref(), Some("write"));
    // The other one is as open as before.
    assert_eq!(listed(other["invite"].as_str().unwrap())["status"], "active");
    Eid::new().ok(&["join", other["ticket"].as_str().unwrap()]);

    // One that never was is a slip, and only an admin withdraws.
    let unknown = format!("invite:{}", key_of(&b));
    let entries = a.eid.ok(&["db", "show", "notes"]).json()["entries"].clone();
    a.eid.fails(&["keys", "revoke", "notes", &unknown], 4, "not_found");
    a.eid.fails(&["keys", "revoke", "notes", "invite:ed25519:1"], 2, "usage");
    a.eid.fails(&["keys", "grant", "notes", invite, "read"], 2, "usage");
    a.eid.fails(&["keys", "revoke", "--everywhere", invite], 2, "usage");
    assert_eq!(a.eid.ok(&["db", "show", "notes"]).json()["entries"], entries);
    b.fails(&["keys", "revoke", "notes", other["invite"].as_str().unwrap()], 3, "forbidden");
    // Those of a number of uses are not in the settings.
    assert_eq!(a.eid.ok(&["share", "notes", "--uses", "1"]).json()["invite"], json!(null));
}

#[test]
fn a_ticket_is_drawn_for_a_camera_beside_its_text() {
    let a = shared();
    let done = a.eid.run(&["share", "notes", "--qr"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.starts_with("eid:?"));
    let is_drawn = |line: &&str| {
        line.chars().count() > 30 && line.chars().all(|c| " \u{2580}\u{2584}\u{2588}".contains(c))
    };
    let lines: Vec<&str> = done.out.lines().filter(is_drawn).collect();
    let width = lines[0].chars().count();
    // As wide as high, of two rows of modules to a line.
    assert_eq!((lines.len(), width % 4), (width.div_ceil(2), 1), "{}", done.out);
    assert!(lines.iter().all(|line| line.chars().count() == width));
    assert_eq!(a.eid.ok(&["share", "notes", "--qr"]).lines().len(), 1, "programs have the text");

    let long = format!("http://{}.example:7070", vec!["a".repeat(60); 3].join("."));
    let many: Vec<String> = (0..8).map(|n| format!("{long}/{}{n}", "p".repeat(180))).collect();
    let addresses: Vec<&str> = many.iter().flat_map(|address| ["--address", address]).collect();
    let done = a.eid.run(&[&["share", "notes", "--qr"], &addresses[..]].concat());
    assert_eq!(done.code, Some(1), "{}{}", done.out, done.err);
    assert!(done.err.contains("too long for a QR code"), "{}", done.err);
    assert!(done.out.starts_with("eid:?"), "the ticket is good all the same");
}

#[test]
fn an_open_invite_lets_in_through_another_device_while_its_maker_is_away() {
    let a = shared();
    let b = Eid::new();
    let (_b_node, at_b) = b.serve();
    b.ok(&["join", &a.ticket(&["--write"])]);
    // The maker has reached the other, so the ticket names it.
    a.eid.ok(&["peers", "add", &at_b]);
    a.eid.ok(&["sync"]);
    let ticket = a.ticket(&["--write"]);
    a.eid.ok(&["sync"]);
    assert!(ticket.contains(&key_of(&b)), "{ticket}");
    let limited = a.ticket(&["--write", "--uses", "5"]);
    let address = a.address.clone();
    a.node.signal("-TERM");
    let Shared { eid, node, .. } = a;
    node.wait();
    let c = Eid::new();
    c.fails(&["join", &limited], 5, "unreachable");
    let joined = c.ok(&["join", &ticket]).json();
    assert_eq!((&joined["status"], &joined["session"]["peer"]), (&json!("joined"), &json!(key_of(&b))));
    c.ok(&["set", "notes", "to", "c"]);
    c.ok(&["sync"]);
    assert_eq!(b.ok(&["get", "notes", "to"]).json(), "c");
    // The maker learns of it by the settings, whoever tells it.
    let a = Shared {
        node: eid.serve_with(&["--http", address.trim_start_matches("http://").trim_end_matches('/')]).0,
        eid,
        address,
    };
    a.eid.ok(&["sync"]);
    assert_eq!(right_of(&a.eid, &key_of(&c)).as_deref(), Some("write"));
    assert_eq!(a.eid.ok(&["get", "notes", "to"]).json(), "c");
}

fn key_of_running(a: &Shared) -> String {
    a.requests()[0]["key"].as_str().expect("a key").to_owned()
}
