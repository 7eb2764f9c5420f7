//! What somebody on the network, or a peer that does not keep to the rules, can and cannot do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eid_http::limits::FIRST_MESSAGE_RETRIES_MAX;
use eid_http::{Bounds, HttpConfig, HttpTransport};
use eid_transport::{Address, DialError, LinkError, Received, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Linked, link, listening, run, socket};
use crate::network::{Pair, pair, pair_with, raw};

const SEALED: &str = "Content-Type: application/vnd.eid.sealed\r\n";

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The requests that the client has sent so far, each from its first byte to the next one's.
fn requests(pair: &Pair) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for stream in pair.proxy.sent() {
        let starts: Vec<usize> =
            stream.windows(6).enumerate().filter(|(_, w)| w == b"POST /").map(|(at, _)| at).collect();
        for (n, start) in starts.iter().enumerate() {
            requests.push(stream[*start..*starts.get(n + 1).unwrap_or(&stream.len())].to_vec());
        }
    }
    requests
}

async fn turn(linked: &mut Linked, question: &'static [u8], answer: &'static [u8]) {
    linked.opener.send(Bytes::from_static(question)).await.expect("open");
    linked.opener.end_turn().await.expect("open");
    assert_eq!(linked.accepter.recv().await.expect("open"), Received::Frame(Bytes::from_static(question)));
    assert_eq!(linked.accepter.recv().await.expect("open"), Received::EndOfTurn);
    linked.accepter.send(Bytes::from_static(answer)).await.expect("open");
    linked.accepter.end_turn().await.expect("open");
    assert_eq!(linked.opener.recv().await.expect("open"), Received::Frame(Bytes::from_static(answer)));
    assert_eq!(linked.opener.recv().await.expect("open"), Received::EndOfTurn);
}

/// Sends one request and gives the status and the body of what comes back.
async fn ask(target: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut request = head.as_bytes().to_vec();
    request.extend_from_slice(body);
    let answer = text(&raw(target, &request).await);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

#[test]
fn a_handshake_and_two_exchanges_are_three_round_trips() {
    run(async {
        let pair = pair().await;
        let mut linked = link(&pair.client, &pair.server, &pair.address).await;
        turn(&mut linked, b"proof?", b"proof").await;
        assert_eq!(requests(&pair).len(), 3);
    });
}

#[test]
fn no_plaintext_is_on_the_wire() {
    run(async {
        const CANARY: &[u8] = b"canary-7f3a-in-the-coal-mine";
        let pair = pair().await;
        let mut linked = link(&pair.client, &pair.server, &pair.address).await;
        turn(&mut linked, CANARY, CANARY).await;
        let large = Bytes::from(CANARY.repeat(50_000));
        linked.opener.send(large.clone()).await.expect("open");
        linked.opener.end_turn().await.expect("open");
        assert!(linked.accepter.recv().await.expect("open") == Received::Frame(large));
        let seen = pair.proxy.seen();
        assert!(seen.len() > 1_400_000 && contains(&seen, b"POST /api/v0/sync/noise"), "the proxy looks on");
        assert!(!contains(&seen, &CANARY[..10]));
    });
}

#[test]
fn a_recorded_request_is_refused_and_disturbs_nothing() {
    run(async {
        let pair = pair().await;
        let mut linked = link(&pair.client, &pair.server, &pair.address).await;
        turn(&mut linked, b"once", b"only").await;
        let recorded = requests(&pair);
        for request in &recorded[1..] {
            let closing = text(&request[..60]);
            let answer = text(&replay(socket(&pair.server), request).await);
            assert!(
                answer.starts_with("HTTP/1.1 409") && answer.ends_with("replayed"),
                "{closing}: {answer}"
            );
        }
        turn(&mut linked, b"goes", b"on").await;

        linked.near.close().await;
        assert!(linked.far.accept().await.is_none());
        for request in &recorded[1..] {
            let answer = text(&replay(socket(&pair.server), request).await);
            assert!(answer.starts_with("HTTP/1.1 410") && answer.ends_with("channel_gone"), "{answer}");
        }
    });
}

/// Sends a recorded request on a socket that ends after its answer.
async fn replay(target: SocketAddr, request: &[u8]) -> Vec<u8> {
    let line = request.windows(2).position(|w| w == b"\r\n").expect("a request line") + 2;
    let mut again = request[..line].to_vec();
    again.extend_from_slice(b"Connection: close\r\n");
    again.extend_from_slice(&request[line..]);
    raw(target, &again).await
}

#[test]
fn a_body_moved_to_another_number_is_refused_and_spends_no_number() {
    run(async {
        let pair = pair().await;
        let mut linked = link(&pair.client, &pair.server, &pair.address).await;
        turn(&mut linked, b"one", b"two").await;
        let recorded = requests(&pair).pop().expect("three requests");
        let at = recorded.windows(3).position(|w| w == b"/1 ").expect("POST number 1") + 1;
        let mut moved = recorded.clone();
        moved[at] = b'2';
        let answer = text(&replay(socket(&pair.server), &moved).await);
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        turn(&mut linked, b"number two", b"is still good").await;
    });
}

#[test]
fn a_changed_byte_is_never_taken_for_an_answer() {
    run(async {
        // A changed length of a chunk makes the client wait for bytes until the server closes the socket.
        let bounds = Bounds { next_request: Duration::from_millis(100), ..Bounds::default() };
        let pair = pair_with(bounds).await;
        let mut refused = 0;
        for at in (0..440).step_by(11) {
            let mut linked = link(&pair.client, &pair.server, &pair.address).await;
            linked.opener.end_turn().await.expect("open");
            assert_eq!(linked.accepter.recv().await.expect("open"), Received::EndOfTurn);
            let frame = Bytes::from(vec![7; 400]);
            pair.proxy.flip_answer(at);
            // A client that could not read the head of the answer may have let go of it already.
            if linked.accepter.send(frame.clone()).await.is_ok() {
                drop(linked.accepter.end_turn().await);
            }
            match linked.opener.recv().await {
                Ok(received) => assert_eq!(received, Received::Frame(frame)),
                Err(LinkError::Corrupt | LinkError::Cut(_)) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            pair.proxy.flip_nothing();
        }
        assert!(refused > 20, "the proxy has changed something: {refused}");
    });
}

#[test]
fn a_request_body_cut_at_any_record_is_refused_and_spends_no_number() {
    run(async {
        let pair = pair().await;
        let mut linked = link(&pair.client, &pair.server, &pair.address).await;
        // The body arrives in the server's hands a second time, shortened, before its number has been used.
        pair.proxy.hold();
        linked.opener.send(Bytes::from(vec![9; 100_000])).await.expect("open");
        linked.opener.end_turn().await.expect("open");
        let held = pair.proxy.held_request().await;
        let body = held.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
        let line = held.windows(2).position(|w| w == b"\r\n").expect("a request line");
        let first_record = 2 + usize::from(u16::from_be_bytes([held[body], held[body + 1]]));
        for length in [0, 1, first_record - 1, first_record, first_record + 1, held.len() - body - 1] {
            let head = format!(
                "{}\r\nHost: x\r\n{SEALED}Content-Length: {length}\r\nConnection: close\r\n\r\n",
                text(&held[..line])
            );
            let (status, _) = ask(socket(&pair.server), &head, &held[body..body + length]).await;
            assert_eq!(status, 400, "{length} bytes");
        }
        pair.proxy.release();
        let received = linked.accepter.recv().await.expect("the whole body is good");
        assert!(received == Received::Frame(Bytes::from(vec![9; 100_000])));
    });
}

#[test]
fn garbage_is_refused_with_a_bare_status() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let at = socket(&server);
        let id = "00112233445566778899aabbccddeeff";
        let close = "Connection: close\r\n\r\n";
        let host = "Host: x\r\n";
        for (head, body, status) in [
            (format!("GET / HTTP/1.1\r\n{host}{close}"), "", 404),
            (format!("GET /api/v0/databases HTTP/1.1\r\n{host}{close}"), "", 404),
            (format!("GET /api/v0/sync/noise HTTP/1.1\r\n{host}{close}"), "", 405),
            (format!("POST /api/v0/info HTTP/1.1\r\n{host}{SEALED}Content-Length: 0\r\n{close}"), "", 405),
            (format!("POST /api/v0/sync/noise HTTP/1.1\r\n{host}Content-Length: 2\r\n{close}"), "hi", 415),
            (
                format!("POST /api/v0/sync/noise HTTP/1.1\r\n{host}{SEALED}Content-Length: 2\r\n{close}"),
                "hi",
                400,
            ),
            (
                format!("POST /api/v0/sync/noise HTTP/1.1\r\n{host}{SEALED}Content-Length: 33\r\n{close}"),
                "",
                413,
            ),
            (
                format!("POST /api/v0/sync/{id}/0 HTTP/1.1\r\n{host}{SEALED}Content-Length: 2\r\n{close}"),
                "hi",
                410,
            ),
            (
                format!("POST /api/v0/sync/{id}/7 HTTP/1.1\r\n{host}{SEALED}Content-Length: 2\r\n{close}"),
                "hi",
                410,
            ),
            (
                format!(
                    "POST /api/v0/sync/{id}/7 HTTP/1.1\r\n{host}{SEALED}Content-Length: 1000000\r\n{close}"
                ),
                "",
                413,
            ),
            ("\0\u{1}\u{2}garbage\r\n\r\n".to_owned(), "", 400),
        ] {
            let (seen, said) = ask(at, &head, body.as_bytes()).await;
            assert_eq!(seen, status, "{head}");
            assert!(said.len() < 32, "{said}");
        }
        // A chunked body beyond the bound has no length to refuse it by.
        let chunked = format!(
            "POST /api/v0/sync/noise HTTP/1.1\r\n{host}{SEALED}Transfer-Encoding: chunked\r\n{close}40\r\n{}\r\n0\r\n\r\n",
            "x".repeat(64)
        );
        assert_eq!(ask(at, &chunked, b"").await.0, 413);
        // Two lengths of one body.
        let smuggled = format!(
            "POST /api/v0/sync/noise HTTP/1.1\r\n{host}{SEALED}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n{close}0\r\n\r\n"
        );
        assert_eq!(ask(at, &smuggled, b"").await.0, 400);
        server.shutdown().await;
    });
}

#[test]
fn heads_that_are_too_large_are_refused() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let at = socket(&server);
        let long = format!("GET /api/v0/info HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(20_000));
        let many = format!("GET /api/v0/info HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(100));
        for head in [long, many] {
            assert_eq!(ask(at, &head, b"").await.0, 431);
        }
        let fits =
            format!("GET /api/v0/info HTTP/1.1\r\nConnection: close\r\nX: {}\r\n\r\n", "y".repeat(8_000));
        assert_eq!(ask(at, &fits, b"").await.0, 200);
    });
}

#[test]
fn what_a_server_says_of_itself_is_what_it_was_given() {
    run(async {
        let info = Arc::new(|| r#"{"versions":[1]}"#.to_owned());
        let server = listening(HttpConfig { info, ..HttpConfig::default() }).await;
        let head = "GET /behind/a/proxy/api/v0/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = text(&raw(socket(&server), head.as_bytes()).await).to_lowercase();
        assert!(answer.starts_with("http/1.1 200") && answer.ends_with(r#"{"versions":[1]}"#), "{answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        assert!(!answer.contains("access-control"), "{answer}");
    });
}

#[test]
fn slow_clients_are_let_go_and_honest_ones_are_served() {
    run(async {
        let short = Duration::from_millis(300);
        let bounds = Bounds { first_byte: short, next_request: short, ..Bounds::default() };
        let server = listening(HttpConfig { bounds, ..HttpConfig::default() }).await;
        let at = socket(&server);
        let body =
            format!("POST /api/v0/sync/noise HTTP/1.1\r\nHost: x\r\n{SEALED}Content-Length: 32\r\n\r\nx");
        let beginnings: [&[u8]; 5] = [
            b"",
            b"P",
            b"GET /api/v0/info HTTP/1.1\r\nHost: x\r\nX: slow",
            b"PRI * HTTP/2.0\r\n\r\nSM",
            body.as_bytes(),
        ];
        // Each of these reads until the server closes the socket.
        let slow: Vec<_> = (0..100)
            .map(|n| {
                let bytes = beginnings[n % beginnings.len()].to_vec();
                tokio::spawn(async move { raw(at, &bytes).await })
            })
            .collect();
        let client = HttpTransport::new(HttpConfig::default());
        let mut linked = link(&client, &server, &server.addresses()[0]).await;
        turn(&mut linked, b"honest", b"served").await;
        for (n, slow) in slow.into_iter().enumerate() {
            let answer = text(&slow.await.expect("a socket that is read to its end"));
            match n % beginnings.len() {
                4 => assert!(answer.starts_with("HTTP/1.1 408"), "{answer}"),
                _ => assert!(!answer.contains(" 200 "), "{answer}"),
            }
        }
    });
}

#[test]
fn a_client_that_never_reads_is_let_go() {
    run(async {
        let bounds = Bounds { write_stall: Duration::from_millis(200), ..Bounds::default() };
        let server = listening(HttpConfig { bounds, ..HttpConfig::default() }).await;
        let client = HttpTransport::new(HttpConfig::default());
        let mut linked = link(&client, &server, &server.addresses()[0]).await;
        linked.opener.end_turn().await.expect("open");
        assert_eq!(linked.accepter.recv().await.expect("open"), Received::EndOfTurn);
        let frame = Bytes::from(vec![1; 1024 * 1024]);
        let mut sent = 0;
        let error = loop {
            match linked.accepter.send(frame.clone()).await {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 200, "what nobody reads is held in memory");
        };
        assert!(matches!(error, LinkError::Cut(_)), "{error:?}");
    });
}

#[test]
fn request_bodies_take_up_bounded_room_and_give_it_back() {
    run(async {
        let bounds =
            Bounds { unproven_bytes_max: 4000, first_byte: Duration::from_millis(100), ..Bounds::default() };
        let server = listening(HttpConfig { bounds, ..HttpConfig::default() }).await;
        let client = HttpTransport::new(HttpConfig::default());
        let mut linked = link(&client, &server, &server.addresses()[0]).await;
        for _ in 0..10 {
            turn(&mut linked, &[5; 3000], b"there is room again").await;
        }
        linked.opener.send(Bytes::from_static(&[5; 5000])).await.expect("open");
        linked.opener.end_turn().await.expect("open");
        let error = linked.opener.recv().await.expect_err("there is never so much room");
        assert!(matches!(error, LinkError::Cut(_)), "{error:?}");
    });
}

/// A server where strangers have room for little, and bodies may take as long as they like.
fn little_room() -> HttpConfig {
    let bounds =
        Bounds { unproven_bytes_max: 100_000, first_byte: Duration::from_secs(300), ..Bounds::default() };
    HttpConfig { bounds, ..HttpConfig::default() }
}

/// Sends more than strangers have room for.
async fn fill_room(linked: &mut Linked) {
    linked.opener.send(vec![5; 200_000].into()).await.expect("open");
    linked.opener.end_turn().await.expect("open");
}

#[test]
fn strangers_who_fill_their_room_keep_no_peer_waiting() {
    run(async {
        let server = listening(little_room()).await;
        let address = &server.addresses()[0];
        let (client, stranger) =
            (HttpTransport::new(HttpConfig::default()), HttpTransport::new(HttpConfig::default()));
        let mut known = link(&client, &server, address).await;
        let mut second = known.near.open().await.expect("open");
        second.end_turn().await.expect("open");
        known.far.accept().await.expect("a second link is asked for when the first has shown who it is");
        let mut filling = link(&stranger, &server, address).await;
        fill_room(&mut filling).await;
        turn(&mut known, &[6; 300_000], b"has room of its own").await;
        client.dial(address).await.expect("the first message of a handshake needs no room");
    });
}

#[test]
fn a_body_that_still_arrives_ends_with_its_channel() {
    run(async {
        let pair = pair_with(little_room().bounds).await;
        let mut linked = link(&pair.client, &pair.server, &pair.address).await;
        fill_room(&mut linked).await;
        while pair.proxy.sent().iter().map(Vec::len).sum::<usize>() < 150_000 {
            tokio::task::yield_now().await;
        }
        // Once another request has been answered, this one has been taken up.
        ask(socket(&pair.server), "GET /api/v0/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"")
            .await;
        linked.far.close().await;
        let ended = linked.opener.recv().await;
        assert!(matches!(ended, Err(LinkError::Gone)), "{ended:?}");
        let mut other = link(&pair.client, &pair.server, &pair.address).await;
        turn(&mut other, &[5; 50_000], b"there is room again").await;
    });
}

/// Stands before a server: the first connections read a request and close without an answer, the others are the
/// server's. Gives its address and how many connections were closed so.
async fn closing_first(server: &HttpTransport, unanswered: usize) -> (Address, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = format!("http://{}", listener.local_addr().expect("it listens")).parse().expect("an address");
    let (target, closed) = (socket(server), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&closed);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            if counted.load(Ordering::Relaxed) < unanswered {
                counted.fetch_add(1, Ordering::Relaxed);
                let mut request = [0; 4096];
                drop(near.read(&mut request).await);
                continue;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.expect("the server listens");
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    (at, closed)
}

#[test]
fn a_handshake_begins_again_when_its_connection_closes_unanswered() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let (address, _) = closing_first(&server, 2).await;
        let mut linked = link(&HttpTransport::new(HttpConfig::default()), &server, &address).await;
        turn(&mut linked, &[5; 100], b"as if nothing had been").await;

        let (address, closed) = closing_first(&server, usize::MAX).await;
        let given_up =
            HttpTransport::new(HttpConfig::default()).dial(&address).await.expect_err("never answers");
        assert!(matches!(given_up, DialError::Unreachable { .. }), "{given_up:?}");
        assert_eq!(closed.load(Ordering::Relaxed), 1 + FIRST_MESSAGE_RETRIES_MAX as usize);
    });
}

#[test]
fn the_request_that_ends_a_handshake_has_only_the_time_of_a_handshake() {
    run(async {
        let mut config = little_room();
        config.bounds.handshake = Duration::from_millis(200);
        let server = listening(config).await;
        let client = HttpTransport::new(HttpConfig::default());
        let near = client.dial(&server.addresses()[0]).await.expect("the server listens");
        let mut opener = near.open().await.expect("open");
        opener.send(vec![5; 200_000].into()).await.expect("open");
        opener.end_turn().await.expect("open");
        let ended = opener.recv().await;
        assert!(matches!(ended, Err(LinkError::TimedOut)), "{ended:?}");
    });
}

#[test]
fn an_address_has_only_so_many_connections() {
    run(async {
        let bounds = Bounds { connections_per_address_max: 2, counts_loopback: true, ..Bounds::default() };
        let server = listening(HttpConfig { bounds, ..HttpConfig::default() }).await;
        let at = socket(&server);
        let head = b"GET /api/v0/info HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(at).await.expect("the server listens");
            stream.write_all(head).await.expect("open");
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.expect("an answer");
            assert_eq!(&first, b"HTTP/1.1 200");
            kept.push(stream);
        }
        assert_eq!(text(&raw(at, head).await), "", "the third is turned away");
    });
}

#[test]
fn a_channel_too_many_of_one_address_takes_the_place_of_the_one_idle_for_longest() {
    run(async {
        let bounds = Bounds { channels_per_address_max: 2, counts_loopback: true, ..Bounds::default() };
        let server = listening(HttpConfig { bounds, ..HttpConfig::default() }).await;
        let mut met = Vec::new();
        for _ in 0..3 {
            let client = HttpTransport::new(HttpConfig::default());
            let near = client.dial(&server.addresses()[0]).await.expect("the server listens");
            let mut link = near.open().await.expect("a link");
            link.send(Bytes::from_static(b"hello")).await.expect("open");
            link.end_turn().await.expect("open");
            let far = server.accept().await.expect("somebody has dialled");
            let mut heard = far.accept().await.expect("a link was opened");
            assert_eq!(heard.recv().await.ok(), Some(Received::Frame(Bytes::from_static(b"hello"))));
            assert_eq!(heard.recv().await.ok(), Some(Received::EndOfTurn));
            heard.end_turn().await.expect("open");
            assert_eq!(link.recv().await.ok(), Some(Received::EndOfTurn));
            met.push((client, near, far));
        }
        assert!(met[0].2.accept().await.is_none(), "the first is closed");
        for (_, near, far) in &met[1..] {
            let mut link = near.open().await.expect("a link");
            link.send(Bytes::from_static(b"still here")).await.expect("open");
            link.end_turn().await.expect("open");
            assert!(far.accept().await.is_some());
        }
    });
}

#[test]
fn an_idle_channel_is_forgotten_and_says_so() {
    run(async {
        let bounds = Bounds {
            channel_idle: Duration::from_millis(100),
            sweep: Duration::from_millis(20),
            ..Bounds::default()
        };
        let server = listening(HttpConfig { bounds, ..HttpConfig::default() }).await;
        let client = HttpTransport::new(HttpConfig::default());
        let mut linked = link(&client, &server, &server.addresses()[0]).await;
        assert!(linked.far.accept().await.is_none(), "the server has let go");
        assert_eq!(linked.accepter.recv().await.expect("no error"), Received::Closed);
        linked.opener.end_turn().await.expect("not known yet");
        assert!(matches!(linked.opener.recv().await, Err(LinkError::Gone)));
        assert!(matches!(linked.near.open().await, Err(LinkError::Gone)));
        assert!(linked.near.accept().await.is_none());
    });
}
