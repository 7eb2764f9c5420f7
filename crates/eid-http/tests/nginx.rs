//! Behind a reverse proxy with default settings: buffered in both directions, bodies of at most 1 MiB, HTTP/1.0 to
//! the server. Needs nginx, and fails where it is missing.

mod common;

use std::process::Stdio;

use bytes::Bytes;
use common::{Linked, link, listening, run, socket};
use eid_http::{HttpConfig, HttpTransport};
use eid_transport::{Address, DialError, Received, Transport};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// An nginx of our own, killed when dropped.
struct Nginx {
    address: Address,
    _process: Child,
    _directory: tempfile::TempDir,
}

impl Nginx {
    async fn start(backend: &str, location: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().display().to_string();
        // Free at this moment; nginx says so if somebody else is faster.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr notice;
             events {{}}
             http {{
                 access_log off;
                 {temporary}
                 server {{
                     listen 127.0.0.1:{port};
                     location /eid/ {{ proxy_pass http://{backend}/; {location} }}
                 }}
             }}"
        );
        std::fs::write(directory.path().join("nginx.conf"), config).expect("a file");
        let program =
            if std::path::Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let mut process = Command::new(program)
            .args(["-e", "stderr", "-p", &path, "-c", "nginx.conf"])
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx is not installed, and this test needs it: apt-get install nginx-light");
        let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        // It says which event method it uses once its sockets are open.
        loop {
            let line = log.next_line().await.expect("text").unwrap_or_else(|| panic!("nginx ended: {said}"));
            said.push_str(&line);
            if line.contains("event method") {
                break;
            }
        }
        tokio::spawn(async move { while matches!(log.next_line().await, Ok(Some(_))) {} });
        let address = format!("http://127.0.0.1:{port}/eid").parse().expect("an address");
        Self { address, _process: process, _directory: directory }
    }
}

async fn large_turns_pass(location: &str) {
    let server = listening(HttpConfig::default()).await;
    let nginx = Nginx::start(&socket(&server).to_string(), location).await;
    let client = HttpTransport::new(HttpConfig::default());
    let Linked { near, far, mut opener, mut accepter } = link(&client, &server, &nginx.address).await;
    assert_eq!(near.binding(), far.binding());

    let frames: Vec<Bytes> = (0..5_usize)
        .map(|n| (0..1_000_000).map(|at| (at * 7 + n) as u8).collect::<Vec<u8>>().into())
        .collect();
    for _ in 0..2 {
        let there = async {
            for frame in &frames {
                opener.send(frame.clone()).await.expect("open");
            }
            opener.end_turn().await.expect("open");
        };
        let received = async {
            for frame in &frames {
                assert!(accepter.recv().await.expect("open") == Received::Frame(frame.clone()));
            }
            assert_eq!(accepter.recv().await.expect("open"), Received::EndOfTurn);
        };
        tokio::join!(there, received);
        let back = async {
            for frame in &frames {
                accepter.send(frame.clone()).await.expect("open");
            }
            accepter.end_turn().await.expect("open");
        };
        let received = async {
            for frame in &frames {
                assert!(opener.recv().await.expect("open") == Received::Frame(frame.clone()));
            }
            assert_eq!(opener.recv().await.expect("open"), Received::EndOfTurn);
        };
        tokio::join!(back, received);
    }
    drop(opener);
    assert_eq!(accepter.recv().await.expect("no error"), Received::Closed);
}

#[test]
fn large_turns_pass_a_proxy_with_default_settings() {
    run(large_turns_pass(""));
}

#[test]
fn large_turns_pass_a_proxy_that_buffers_answers_whatever_they_say() {
    run(large_turns_pass("proxy_ignore_headers X-Accel-Buffering;"));
}

#[test]
fn an_answer_streams_through_a_proxy_with_default_settings() {
    run(async {
        let server = listening(HttpConfig::default()).await;
        let nginx = Nginx::start(&socket(&server).to_string(), "").await;
        let client = HttpTransport::new(HttpConfig::default());
        let Linked { near: _near, far: _far, mut opener, mut accepter } =
            link(&client, &server, &nginx.address).await;
        opener.end_turn().await.expect("open");
        assert_eq!(accepter.recv().await.expect("open"), Received::EndOfTurn);
        for n in 0..3 {
            let frame = Bytes::from(vec![n]);
            accepter.send(frame.clone()).await.expect("open");
            // The turn goes on, and its frames are here already.
            assert_eq!(opener.recv().await.expect("open"), Received::Frame(frame));
        }
    });
}

#[test]
fn a_proxy_without_a_server_behind_it_is_unreachable() {
    run(async {
        // A port that refuses: nothing of ours listens at 1.
        let nginx = Nginx::start("127.0.0.1:1", "").await;
        let client = HttpTransport::new(HttpConfig::default());
        let error = client.dial(&nginx.address).await.expect_err("nobody is there");
        assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
    });
}
