//! Transports by name: which there are, what they do, and how it is remembered how they are made.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eid_store::{Backend, Memory};
use eid_sync::limits::{SETTING_BYTES_MAX, SETTING_NAME_BYTES_MAX, SETTINGS_MAX};
use eid_sync::{EngineConfig, SettingError, SyncError, TransportConfig, TransportState};
use eid_transport::memory::MemoryTransport;
use eid_transport::{Address, BoxFuture, Connection, DialError, ListenError, Transport};
use nodes::{Node, Nodes};
use serde::{Deserialize, Serialize};

/// A transport in memory, of which is counted who waits for connections, and that may be unable to listen.
#[derive(Debug)]
struct Counted {
    inner: Arc<MemoryTransport>,
    fails: bool,
    waiting: AtomicUsize,
    shut: AtomicUsize,
}

impl Counted {
    fn over(inner: Arc<MemoryTransport>, fails: bool) -> Arc<Self> {
        Arc::new(Self { inner, fails, waiting: AtomicUsize::new(0), shut: AtomicUsize::new(0) })
    }
}

impl Transport for Counted {
    fn scheme(&self) -> &str {
        self.inner.scheme()
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        self.inner.dial(to)
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        if self.fails {
            let error = ListenError::of("there", std::io::ErrorKind::AddrInUse.into());
            return Box::pin(async { Err(error) });
        }
        self.inner.listen()
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.inner.accept()
    }

    fn addresses(&self) -> Vec<Address> {
        self.inner.addresses()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.shut.fetch_add(1, Ordering::SeqCst);
        self.inner.shutdown()
    }
}

fn listed(node: &Node) -> Vec<(String, String, TransportState, usize)> {
    let all = node.engine.transports().into_iter();
    all.map(|one| (one.name, one.scheme, one.state, one.addresses.len())).collect()
}

fn row(name: &str, state: TransportState, addresses: usize) -> (String, String, TransportState, usize) {
    (name.to_owned(), "memory".to_owned(), state, addresses)
}

#[tokio::test]
async fn transports_of_one_scheme_are_told_apart_by_name_and_let_nobody_in_before_they_are_told_to() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, eid_core::Permission::Write);
    b.track(tree);
    let (home, work) = (nodes.net.endpoint("home"), nodes.net.endpoint("work"));
    a.engine.register_transport("home", Arc::<MemoryTransport>::clone(&home));
    a.engine.register_transport("work", Arc::<MemoryTransport>::clone(&work));
    let (off, listening) = (TransportState::Off, TransportState::Listening);
    let before = [row("memory", listening.clone(), 1), row("home", off.clone(), 0), row("work", off, 0)];
    assert_eq!(listed(&a), before);
    let reach = async |at: &str| {
        let address: Address = format!("memory:{at}").parse().unwrap();
        b.engine.connect_to_peer(&address, Some(a.key.public()), &[]).await.is_ok()
    };
    assert!(reach("n1").await && !reach("home").await && !reach("work").await);

    assert!(a.engine.accept_connections().await.unwrap().is_empty());
    let after = ["memory", "home", "work"].map(|name| row(name, listening.clone(), 1));
    assert_eq!(listed(&a), after);
    assert_eq!(a.engine.server_addresses().len(), 3);
    assert!(reach("n1").await && reach("home").await && reach("work").await);

    assert!(a.engine.remove_transport("home").await);
    assert!(!a.engine.remove_transport("home").await);
    assert_eq!(listed(&a), [after[0].clone(), after[2].clone()]);
    assert!(reach("n1").await && !reach("home").await && reach("work").await);

    // A name stands for one transport.
    a.engine.register_transport("work", nodes.net.endpoint("office"));
    a.engine.accept_connections().await.unwrap();
    assert_eq!(listed(&a).len(), 2);
    assert!(reach("office").await && !reach("work").await);
    assert_eq!(a.engine.add_transport(nodes.net.endpoint("third")), "memory-2");
}

#[tokio::test]
async fn a_transport_that_cannot_listen_does_not_stop_the_others_and_says_why() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    assert!(a.engine.remove_transport("memory").await);
    let broken = Counted::over(nodes.net.endpoint("broken"), true);
    a.engine.register_transport("broken", Arc::<Counted>::clone(&broken));
    let error = a.engine.accept_connections().await.unwrap_err();
    assert!(matches!(error, SyncError::Listen(ListenError::InUse { .. })), "{error:?}");

    let sound = Counted::over(nodes.net.endpoint("sound"), false);
    a.engine.register_transport("sound", Arc::<Counted>::clone(&sound));
    for _ in 0..3 {
        assert_eq!(a.engine.accept_connections().await.unwrap().len(), 1);
    }
    let listed = listed(&a);
    assert!(
        matches!(&listed[0].2, TransportState::Failed(why) if why.contains("there is in use already")),
        "{listed:?}"
    );
    assert_eq!(listed[1], row("sound", TransportState::Listening, 1));
    // It has one who waits for connections, however often it was asked to listen.
    tokio::task::yield_now().await;
    assert_eq!((broken.waiting.load(Ordering::SeqCst), sound.waiting.load(Ordering::SeqCst)), (0, 1));
    a.engine.stop_server().await;
    assert_eq!((broken.shut.load(Ordering::SeqCst), sound.shut.load(Ordering::SeqCst)), (1, 1));
    assert!(a.engine.transports().is_empty());
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wire {
    port: u16,
    names: Vec<String>,
}

impl TransportConfig for Wire {
    const SCHEME: &'static str = "wire";
    const VERSION: u32 = 1;
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Radio {
    port: u16,
    names: Vec<String>,
}

impl TransportConfig for Radio {
    const SCHEME: &'static str = "radio";
    const VERSION: u32 = 1;
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LaterWire {
    port: u32,
}

impl TransportConfig for LaterWire {
    const SCHEME: &'static str = "wire";
    const VERSION: u32 = 2;
}

fn setting(error: SyncError) -> SettingError {
    match error {
        SyncError::Setting(error) => error,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn how_a_transport_is_made_is_remembered_and_not_read_as_another() {
    let nodes = Nodes::new();
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let a = nodes.node_over(1, Arc::clone(&backend), EngineConfig::default()).await;
    let config = || Wire { port: 7070, names: vec!["here".to_owned()] };
    assert_eq!(a.engine.load_transport_config::<Wire>("home").unwrap(), None);
    a.engine.save_transport_config("home", &config()).unwrap();
    let again = nodes.node_over(2, backend, EngineConfig::default()).await;
    assert_eq!(again.engine.load_transport_config("home").unwrap(), Some(config()));
    assert_eq!(again.engine.transport_configs().unwrap(), [("home".to_owned(), "wire".to_owned())]);
    for error in [
        again.engine.load_transport_config::<Radio>("home").unwrap_err(),
        again.engine.load_transport_config::<LaterWire>("home").unwrap_err(),
    ] {
        let error = setting(error);
        assert!(
            matches!(&error, SettingError::OtherTransport { found, found_version: 1, .. } if found == "wire"),
            "{error:?}"
        );
    }
    let long = Wire { port: 1, names: vec!["x".repeat(SETTING_BYTES_MAX)] };
    let error = again.engine.save_transport_config("home", &long).unwrap_err();
    assert!(matches!(setting(error), SettingError::TooLong));
    assert_eq!(again.engine.load_transport_config("home").unwrap(), Some(config()));
    again.engine.forget_transport_config("home").unwrap();
    assert_eq!(again.engine.load_transport_config::<Wire>("home").unwrap(), None);
}

#[tokio::test]
async fn settings_are_remembered_and_bounded() {
    let nodes = Nodes::new();
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let a = nodes.node_over(1, Arc::clone(&backend), EngineConfig::default()).await;
    a.engine.set_setting("theme", Some("dark")).unwrap();
    let again = nodes.node_over(2, backend, EngineConfig::default()).await;
    assert_eq!(again.engine.get_setting("theme").unwrap().as_deref(), Some("dark"));
    for (name, value) in [("", "x"), (&*"n".repeat(SETTING_NAME_BYTES_MAX + 1), "x")] {
        let error = again.engine.set_setting(name, Some(value)).unwrap_err();
        assert!(matches!(setting(error), SettingError::Name));
    }
    let error = again.engine.set_setting("theme", Some(&"x".repeat(SETTING_BYTES_MAX + 1))).unwrap_err();
    assert!(matches!(setting(error), SettingError::TooLong));
    for n in 1..SETTINGS_MAX {
        again.engine.set_setting(&format!("s{n}"), Some("")).unwrap();
    }
    let error = again.engine.set_setting("one more", Some("")).unwrap_err();
    assert!(matches!(setting(error), SettingError::TooMany));
    again.engine.set_setting("theme", Some("light")).unwrap();
    again.engine.set_setting("theme", None).unwrap();
    assert_eq!(again.engine.get_setting("theme").unwrap(), None);
    again.engine.set_setting("one more", Some("")).unwrap();
}

#[tokio::test]
async fn an_engine_that_is_dropped_while_it_listens_lets_go_of_its_transports_and_its_store() {
    let nodes = Nodes::new();
    let transport = Counted::over(nodes.net.endpoint("there"), false);
    let node = nodes.node(1).await;
    node.engine.register_transport("there", Arc::<Counted>::clone(&transport));
    node.engine.accept_connections().await.unwrap();
    while transport.waiting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let store = Arc::downgrade(&node.store);
    drop(node);
    // The task that waits for connections is told of it, and ends.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((Arc::strong_count(&transport), store.strong_count()), (1, 0));
}
