//! Two processes over other transports than HTTP.

use crate::process::{Eid, Running};
use serde_json::{Value, json};

/// A node with a database, served as these options say, and what it said when it was ready.
fn served(options: &[&str]) -> (Eid, Running, Value) {
    let eid = Eid::new();
    eid.ok(&["db", "create", "notes"]);
    let (node, ready) = eid.serve_with(options);
    (eid, node, ready)
}

fn ticket(eid: &Eid, address: &str) -> String {
    let ticket = eid.ok(&["share", "notes", "--write", "--address", address]).json()["ticket"].clone();
    ticket.as_str().expect("a ticket").to_owned()
}

/// Joins, writes on both sides, and exchanges, all at this address.
fn exchanges(a: &Eid, address: &str) {
    a.ok(&["set", "notes", "from", "a"]);
    let b = Eid::new();
    let joined = b.ok(&["join", &ticket(a, address)]).json();
    assert_eq!(joined["status"], "joined", "{joined}");
    b.ok(&["set", "notes", "to", "b"]);
    let synced = b.ok(&["sync"]).json();
    assert_eq!(synced["databases"][0]["pushed"], 1, "{synced}");
    assert_eq!(b.ok(&["peers", "list"]).lines()[0]["addresses"], json!([address]));
    let state = |eid: &Eid| eid.ok(&["db", "show", "notes"]).json()["state_hash"].clone();
    assert_eq!(state(a), state(&b));
    assert_eq!(a.ok(&["get", "notes", "to"]).json(), "b");
    let stranger = Eid::new();
    let synced = stranger.ok(&["sync", "--address", address]).json();
    assert_eq!(synced, json!({"databases": []}), "nothing is offered to a stranger");
}

fn stops(node: Running) {
    node.signal("-TERM");
    let done = node.wait();
    assert_eq!(done.code, Some(0), "{}", done.err);
}

#[cfg(feature = "iroh")]
mod iroh {
    use super::*;

    const HERE: [&str; 3] = ["--iroh=127.0.0.1:0", "--relay", "disabled"];

    #[test]
    fn two_devices_exchange_over_iroh() {
        let (a, node, ready) = served(&HERE);
        let address = ready["iroh"].as_str().expect("an address").to_owned();
        let device = ready["device"].as_str().expect("a key");
        assert!(address.starts_with(&format!("iroh:{device}?ip=127.0.0.1:")), "{ready}");
        exchanges(&a, &address);
        stops(node);
    }

    #[test]
    fn a_node_that_listens_dials_from_the_same_endpoint() {
        let (a, node, ready) = served(&HERE);
        let address = ready["iroh"].as_str().expect("an address").to_owned();
        let b = Eid::new();
        let (other, ready) = b.serve_with(&HERE);
        b.ok(&["join", &ticket(&a, &address)]);
        a.ok(&["set", "notes", "x", "1"]);
        // Nodes that know each other keep in step also without being told to: what is here counts, not who brought it.
        b.ok(&["sync", "--address", &address]);
        assert_eq!(b.ok(&["get", "notes", "x"]).json(), 1);
        // The other way round, at the address that it has had all along.
        b.ok(&["set", "notes", "y", "2"]);
        let back = ready["iroh"].as_str().expect("an address");
        let synced = a.ok(&["sync", "--address", back]).json();
        assert_eq!(synced["databases"].as_array().map(Vec::len), Some(1), "{synced}");
        assert_eq!(a.ok(&["get", "notes", "y"]).json(), 2);
        stops(node);
        stops(other);
    }

    #[test]
    fn a_node_that_was_killed_and_serves_again_at_its_socket_is_met_under_the_same_key() {
        let (a, node, ready) = served(&HERE);
        let address = ready["iroh"].as_str().expect("an address").to_owned();
        let b = Eid::new();
        b.ok(&["join", &ticket(&a, &address)]);
        node.kill();
        a.ok(&["set", "notes", "x", "1"]);
        let socket = address.split("ip=").nth(1).expect("a socket");
        let (node, again) = a.serve_with(&[&format!("--iroh={socket}"), "--relay", "disabled"]);
        assert_eq!(again["iroh"], address.as_str());
        assert_eq!(b.ok(&["sync"]).json()["databases"][0]["pulled"], 1);
        stops(node);
    }

    #[test]
    fn a_relay_is_a_url_or_one_of_three_words() {
        let eid = Eid::new();
        for relay in ["nonsense", "ftp://relay.example/", "https://"] {
            eid.fails(&["serve", "--iroh", "--relay", relay], 2, "usage");
        }
        eid.fails(&["serve", "--relay", "disabled"], 2, "usage");
    }
}

#[cfg(feature = "quic")]
mod quic {
    use super::*;

    #[test]
    fn two_devices_exchange_over_quic() {
        let (a, node, ready) = served(&["--quic", "127.0.0.1:0"]);
        let address = ready["quic"].as_str().expect("an address").to_owned();
        assert!(address.starts_with("quic:127.0.0.1:") && ready["http"].is_null(), "{ready}");
        exchanges(&a, &address);
        stops(node);
    }

    #[test]
    fn a_ticket_has_every_way_to_a_node() {
        let (a, node, ready) = served(&["--quic", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let ticket = a.ok(&["share", "notes"]).json()["ticket"].as_str().expect("a ticket").to_owned();
        for way in ["quic", "http"] {
            let port =
                ready[way].as_str().expect("an address").rsplit(':').next().expect("a port").to_owned();
            assert!(ticket.contains(&format!("%3A{port}")), "{way} in {ticket}");
        }
        stops(node);
    }

    #[test]
    fn a_ticket_for_another_server_is_refused_before_anything_is_shown() {
        let (a, _node, _) = served(&["--quic", "127.0.0.1:0"]);
        let (_b, _other, ready) = served(&["--quic", "127.0.0.1:0"]);
        let c = Eid::new();
        let done = c.fails(&["join", &ticket(&a, ready["quic"].as_str().expect("an address"))], 3, "refused");
        let error = done.error();
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("expected ed25519:") && message.contains("and met"), "{message}");
    }

    #[test]
    fn a_node_that_was_killed_and_serves_again_at_its_port_is_met_again() {
        let (a, node, ready) = served(&["--quic", "127.0.0.1:0"]);
        let address = ready["quic"].as_str().expect("an address").to_owned();
        let b = Eid::new();
        b.ok(&["join", &ticket(&a, &address)]);
        node.kill();
        b.fails(&["sync"], 5, "unreachable");
        a.ok(&["set", "notes", "x", "1"]);
        let (node, again) = a.serve_with(&["--quic", address.strip_prefix("quic:").expect("a scheme")]);
        assert_eq!(again["quic"], address.as_str());
        assert_eq!(b.ok(&["sync"]).json()["databases"][0]["pulled"], 1);
        stops(node);
    }
}
