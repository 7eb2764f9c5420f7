//! Devices that stay in step: what is written on one is on the other over every transport, and where something between
//! them holds answers back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use eid::{Access, Address, Database, Http, Instance, KeepState, Listener, SyncEvent, SyncHandle};
use eid_transport::Transport;
use eid_transport::memory::MemoryNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(30);

struct Two {
    a: Instance,
    b: Instance,
    there: Database,
    here: Database,
    address: Address,
}

/// Two devices with one database, the first of which listens.
async fn joined(listener: Listener, also: Option<Listener>) -> Two {
    let a = Instance::builder().memory().open().await.unwrap();
    let b = Instance::builder().memory().open().await.unwrap();
    if let Some(also) = also {
        b.listen(also).await.unwrap();
    }
    let there = a.create_database("notes").await.unwrap();
    let address = a.listen(listener).await.unwrap().remove(0);
    let here = b.join(&there.share(Access::write()).await.unwrap()).await.unwrap();
    Two { a, b, there, here, address }
}

async fn in_step(handle: &SyncHandle) {
    handle.wait_for_initial_sync(SOON).await.unwrap();
}

/// Writes on one side and waits until the other has it.
async fn goes_over(from: &Database, to: &Database, value: i64) {
    let mut changes = to.changes().unwrap();
    from.doc("d").set("n", value).await.unwrap();
    let arrives = async {
        while to.doc("d").get_as::<i64>("n").unwrap() != Some(value) {
            changes.next().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, arrives).await.expect("what is written arrives");
}

async fn both_ways(two: &Two) {
    let handle = two.here.keep_in_step(&two.address);
    in_step(&handle).await;
    for n in 0..10 {
        goes_over(&two.there, &two.here, 2 * n).await;
        goes_over(&two.here, &two.there, 2 * n + 1).await;
    }
    assert_eq!(two.here.tips().unwrap(), two.there.tips().unwrap());
    assert_eq!(handle.state(), KeepState::InStep);
    // The server is told to go, and what it had acknowledged is there.
    let before = two.here.entries().unwrap();
    two.a.clone().close().await.unwrap();
    tokio::time::timeout(SOON, async {
        while handle.state() == KeepState::InStep {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a connection that is closed is noticed");
    assert_eq!(two.here.entries().unwrap(), before);
    drop(handle);
    tokio::time::timeout(SOON, two.b.clone().close()).await.expect("nothing holds the end up").unwrap();
}

#[tokio::test]
async fn over_links_in_memory() {
    let net = MemoryNet::new();
    let endpoint = |name: &str| Listener::from(net.endpoint(name) as Arc<dyn Transport>);
    both_ways(&joined(endpoint("a"), Some(endpoint("b"))).await).await;
}

#[tokio::test]
async fn over_http() {
    both_ways(&joined(Http::on("127.0.0.1:0").into(), None).await).await;
}

#[cfg(feature = "quic")]
#[tokio::test]
async fn over_quic() {
    both_ways(&joined(eid::Quic::on("127.0.0.1:0").into(), None).await).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn over_iroh() {
    let here = eid::Iroh::over(eid::Relay::Off).on(([127, 0, 0, 1], 0).into());
    both_ways(&joined(here.into(), None).await).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn over_a_relay_of_iroh_and_straight_once_that_is_possible() {
    let mut config = iroh_relay::server::ServerConfig::default();
    config.relay = Some(iroh_relay::server::RelayConfig::new(([127, 0, 0, 1], 0)));
    let running = iroh_relay::server::Server::spawn(config).await.unwrap();
    let url = format!("http://{}/", running.http_addr().unwrap()).parse::<eid::RelayUrl>().unwrap();
    let straight = || eid::Iroh::over(eid::Relay::Custom(vec![url.clone()])).on(([127, 0, 0, 1], 0).into());
    let relayed = || Listener::from(straight().by_relays_only());

    let mut two = joined(relayed(), Some(relayed())).await;
    assert!(!two.address.as_str().contains("ip="), "{}", two.address);
    let handle = two.here.keep_in_step(&two.address);
    in_step(&handle).await;
    for n in 0..5 {
        goes_over(&two.there, &two.here, 2 * n).await;
        goes_over(&two.here, &two.there, 2 * n + 1).await;
    }
    // Both have a socket from now on, and the relay is not needed any more.
    two.b.listen(straight()).await.unwrap();
    two.address = two.a.listen(straight()).await.unwrap().remove(0);
    assert!(two.address.as_str().contains("ip=127.0.0.1:"), "{}", two.address);
    running.shutdown().await.unwrap();
    both_ways(&two).await;
    drop(handle);
}

#[tokio::test]
async fn over_http_behind_a_proxy_that_holds_answers_back() {
    let mut two = joined(Http::on("127.0.0.1:0").into(), None).await;
    two.address = holding_back(&two.address).await;
    both_ways(&two).await;
}

#[tokio::test]
async fn over_http_behind_nginx() {
    let mut two = joined(Http::on("127.0.0.1:0").into(), None).await;
    // As it comes, and as it is where somebody has told it to hold every answer back.
    for location in ["", "proxy_ignore_headers X-Accel-Buffering;"] {
        let nginx = Nginx::start(&socket(&two.address), location);
        let handle = two.here.keep_in_step(&nginx.address);
        in_step(&handle).await;
        for n in 0..3 {
            goes_over(&two.there, &two.here, 2 * n).await;
            goes_over(&two.here, &two.there, 2 * n + 1).await;
        }
        assert_eq!(handle.state(), KeepState::InStep);
    }
    let nginx = Nginx::start(&socket(&two.address), "");
    two.address = nginx.address.clone();
    both_ways(&two).await;
}

#[tokio::test]
async fn a_peer_that_becomes_known_is_kept_in_step_from_then_on() {
    let two = joined(Http::on("127.0.0.1:0").into(), None).await;
    let mut events = two.b.events();
    let kept = two.b.keep_peers_in_step();
    let in_step = async {
        while !matches!(events.recv().await, Some(eid::Delivered::Event(SyncEvent::InStep { .. }))) {}
    };
    tokio::time::timeout(SOON, in_step).await.expect("the peer that was met when it was joined");
    goes_over(&two.there, &two.here, 1).await;
    goes_over(&two.here, &two.there, 2).await;
    drop(kept);

    // A third, whose database is joined while peers are kept.
    let c = Instance::builder().memory().open().await.unwrap();
    let _kept = c.keep_peers_in_step();
    let copy = c.join(&two.there.share(Access::write()).await.unwrap()).await.unwrap();
    tokio::time::timeout(SOON, async {
        let mut n = 10;
        loop {
            n += 1;
            two.there.doc("d").set("n", n).await.unwrap();
            let mut changes = copy.changes().unwrap();
            let next = tokio::time::timeout(Duration::from_millis(300), changes.next()).await;
            if next.is_ok() {
                return;
            }
        }
    })
    .await
    .expect("it is kept in step without being asked");
}

#[tokio::test]
async fn a_database_that_is_not_wanted_at_once_is_left_alone() {
    let two = joined(Http::on("127.0.0.1:0").into(), None).await;
    let user = two.b.device_user();
    let mut preferences = user.preferences(&two.here.id()).unwrap().unwrap();
    preferences.sync.sync_on_commit = false;
    user.set_preferences(&preferences).await.unwrap();
    // Another that is wanted at once goes over the same connection.
    let other = two.a.create_database("other").await.unwrap();
    let copy = two.b.join(&other.share(Access::write()).await.unwrap()).await.unwrap();
    let handle = two.b.keep_in_step(&two.address, None);
    in_step(&handle).await;
    let before = two.here.entries().unwrap();
    two.there.doc("d").set("n", 1).await.unwrap();
    goes_over(&other, &copy, 7).await;
    goes_over(&copy, &other, 8).await;
    assert_eq!(two.here.entries().unwrap(), before);
}

/// The socket of an address of HTTP.
fn socket(address: &Address) -> String {
    address.as_str().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// An nginx of our own, killed when dropped. Needs nginx, and fails where it is missing.
struct Nginx {
    address: Address,
    process: Child,
    _directory: tempfile::TempDir,
}

impl Nginx {
    fn start(backend: &str, location: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        // Free at this moment; nginx says so if somebody else is faster.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
        std::fs::write(directory.path().join("nginx.conf"), config).unwrap();
        let program =
            if std::path::Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let mut process = Command::new(program)
            .args(["-e", "stderr", "-p", &path, "-c", "nginx.conf"])
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is not installed, and this test needs it: apt-get install nginx-light");
        // It says which event method it uses once its sockets are open.
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let is_open = log.by_ref().map_while(Result::ok).any(|line| line.contains("event method"));
        assert!(is_open, "nginx ended");
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        let address = format!("http://127.0.0.1:{port}/eid").parse().unwrap();
        Self { address, process, _directory: directory }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A proxy that passes an answer on only when it is complete.
async fn holding_back(server: &Address) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = socket(server);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                // Whichever side leaves, the other is left too.
                drop(pass(near, &server).await);
            });
        }
    });
    address
}

async fn pass(mut near: TcpStream, server: &str) -> std::io::Result<()> {
    let mut far = TcpStream::connect(server).await?;
    loop {
        let request = message(&mut near).await?;
        far.write_all(&request).await?;
        let mut gone = [0; 1];
        let answer = tokio::select! {
            answer = message(&mut far) => answer?,
            _ = near.read(&mut gone) => return Ok(()),
        };
        near.write_all(&answer).await?;
    }
}

/// One request or answer of HTTP/1.1, whole.
async fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..read]);
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let lines = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length =
            lines.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let is_whole = match length {
            Some(length) => bytes.len() >= head + 4 + length,
            None if lines.contains("transfer-encoding: chunked") => bytes.ends_with(b"\r\n0\r\n\r\n"),
            None => true,
        };
        if is_whole {
            return Ok(bytes);
        }
    }
}
