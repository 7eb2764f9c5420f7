//! Peers that have several addresses, in virtual time: some are dead, silent, slow or lead to somebody else, and links die.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::{Permission, PublicKey, TreeId};
use eid_proto::VERSIONS;
use eid_proto::message::{Greeting, Hello, Versions};
use eid_sync::limits::{HANDSHAKE_MS, RACE_DOOR_MS, RACE_STAGGER_MS, RESUMES_VAIN_MAX, RETRY_FIRST_MS};
use eid_sync::{DatabaseTicket, Delivered, RefusalCode, Scope, SyncError, SyncEvent};
use eid_transport::memory::MemoryTransport;
use eid_transport::{
    Address, BoxFuture, Connection, DialError, Link, LinkBytes, LinkError, ListenError, Received, Transport,
};
use nodes::{Node, Nodes};
use tokio::time::Instant;

/// Longer than anything that is waited for here takes, by the paused clock.
const SOON: Duration = Duration::from_secs(20);

/// Dials `wire:NAME` as `memory:NAME`, slowly, and counts what it has opened and not closed.
#[derive(Debug)]
struct Wire {
    inner: Arc<MemoryTransport>,
    delay_ms: u64,
    open: Arc<AtomicUsize>,
    dialled: AtomicUsize,
    /// No link is opened any more but that of the handshake.
    is_dead: Arc<AtomicBool>,
}

#[derive(Debug)]
struct WireConnection {
    inner: Arc<dyn Connection>,
    delay_ms: u64,
    open: Arc<AtomicUsize>,
    is_closed: AtomicBool,
    has_greeted: AtomicBool,
    is_dead: Arc<AtomicBool>,
}

#[derive(Debug)]
struct WireLink {
    inner: Box<dyn Link>,
    delay_ms: u64,
    /// It was waited for what comes next.
    is_due: bool,
}

impl Wire {
    fn of(nodes: &Nodes, node: &Node, delay_ms: u64) -> Arc<Self> {
        let inner = nodes.net.endpoint("wire");
        let (open, dialled, is_dead) = Default::default();
        let wire = Arc::new(Self { inner, delay_ms, open, dialled, is_dead });
        node.engine.add_transport(wire.clone());
        wire
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Transport for Wire {
    fn scheme(&self) -> &str {
        "wire"
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(async move {
            self.dialled.fetch_add(1, Ordering::SeqCst);
            let inner = self.inner.dial(&format!("memory:{}", to.rest()).parse().unwrap()).await?;
            self.open.fetch_add(1, Ordering::SeqCst);
            Ok(Arc::new(WireConnection {
                inner,
                delay_ms: self.delay_ms,
                open: self.open.clone(),
                is_closed: AtomicBool::new(false),
                has_greeted: AtomicBool::new(false),
                is_dead: self.is_dead.clone(),
            }) as Arc<dyn Connection>)
        })
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        Box::pin(async { Err(ListenError::NoAddress) })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(async { None })
    }

    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.inner.shutdown()
    }
}

impl Connection for WireConnection {
    fn binding(&self) -> [u8; 32] {
        self.inner.binding()
    }

    fn proven(&self) -> Option<PublicKey> {
        self.inner.proven()
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async {
            if self.has_greeted.swap(true, Ordering::SeqCst) && self.is_dead.load(Ordering::SeqCst) {
                return Err(LinkError::Closed);
            }
            let (inner, delay_ms) = (self.inner.open().await?, self.delay_ms);
            Ok(Box::new(WireLink { inner, delay_ms, is_due: false }) as Box<dyn Link>)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        self.inner.accept()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        if !self.is_closed.swap(true, Ordering::SeqCst) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
        self.inner.close()
    }
}

impl Link for WireLink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        self.inner.send(frame)
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        self.inner.end_turn()
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async {
            if !self.is_due {
                // By the clock of the test, which stands still otherwise.
                tokio::time::sleep_until(Instant::now() + Duration::from_millis(self.delay_ms)).await;
                self.is_due = true;
            }
            let received = self.inner.recv().await;
            self.is_due = false;
            received
        })
    }

    fn bytes(&self) -> LinkBytes {
        self.inner.bytes()
    }

    fn is_duplex(&self) -> bool {
        self.inner.is_duplex()
    }

    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        self.inner.send_aside(frame)
    }
}

fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Lets a node listen at a further endpoint of this name.
async fn also_at(nodes: &Nodes, node: &Node, name: &str) -> Address {
    let endpoint = nodes.net.endpoint(name);
    node.engine.add_transport(endpoint.clone());
    node.engine.accept_connections().await.unwrap();
    endpoint.addresses().remove(0)
}

/// Two nodes that may both write a database of which the first has 3,001 large entries.
async fn filled() -> (Nodes, Node, Node, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    a.write_large(tree, 3_000, 40);
    b.track(tree);
    (nodes, a, b, tree)
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_silent_costs_the_stagger_and_nothing_is_left_of_it() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let wire = Wire::of(&nodes, &b, 0);
    let silent = nodes.net.endpoint("silent");
    silent.listen().await.unwrap();
    let began = Instant::now();
    let key = Some(a.key.public());
    let peer = b.engine.connect_to_any(&addresses(&["wire:silent", "wire:n1"]), key, &[]).await.unwrap();
    assert_eq!(began.elapsed().as_millis(), u128::from(RACE_STAGGER_MS));
    assert_eq!(peer.address().as_str(), "wire:n1");
    // The silent side sees the end of what was begun there.
    let begun = silent.accept().await.unwrap();
    let _first = begun.accept().await;
    assert!(begun.accept().await.is_none());
    assert_eq!(wire.open(), 1, "the connection to the peer is all that there is");
    peer.close().await;
    assert_eq!((wire.open(), wire.dialled.load(Ordering::SeqCst)), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_address_where_nobody_is_costs_nothing() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let began = Instant::now();
    let ways = addresses(&["carrier-pigeon:loft", "memory:nowhere", "memory:n1", "memory:elsewhere"]);
    let peer = b.engine.connect_to_any(&ways, Some(a.key.public()), &[]).await.unwrap();
    assert_eq!((peer.key(), began.elapsed()), (a.key.public(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_was_reached_last_is_dialled_first() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let silent = nodes.net.endpoint("silent");
    silent.listen().await.unwrap();
    b.engine.peers().met(a.key.public(), &a.address(), None, 1).unwrap();
    let ways = addresses(&["memory:silent", "memory:n1"]);
    let began = Instant::now();
    let peer = b.engine.connect_to_any(&ways, Some(a.key.public()), &[]).await.unwrap();
    assert_eq!((peer.address(), began.elapsed()), (&a.address(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn of_addresses_that_are_all_dead_each_is_named_with_its_reason() {
    let nodes = Nodes::new();
    let (a, b, c) = (nodes.node(1).await, nodes.node(2).await, nodes.node(3).await);
    let wire = Wire::of(&nodes, &b, 0);
    let silent = nodes.net.endpoint("silent");
    silent.listen().await.unwrap();
    let ways = addresses(&["carrier-pigeon:loft", "wire:nowhere", "wire:silent", "wire:n3"]);
    let began = Instant::now();
    let mut events = c.engine.events();
    let error = b.engine.connect_to_any(&ways, Some(a.key.public()), &[]).await.unwrap_err();
    assert_eq!(began.elapsed().as_millis(), u128::from(HANDSHAKE_MS), "the silent one is waited for");
    let text = error.to_string();
    for (address, reason) in [
        ("carrier-pigeon:loft", "no transport serves carrier-pigeon: addresses".to_owned()),
        ("wire:nowhere", "cannot reach memory:nowhere: connection refused".to_owned()),
        ("wire:silent", format!("no answer in {HANDSHAKE_MS} ms: the handshake")),
        ("wire:n3", format!("expected {} and met {}", a.key.public(), c.key.public())),
    ] {
        let told = text.split_once(&format!("{address}: ")).unwrap_or_else(|| panic!("{address} in {text}"));
        let until = told.1.split(';').next().unwrap();
        assert!(until.contains(&reason), "{reason} in {until}");
    }
    let SyncError::Handshake(telling) = error.telling() else { panic!("{error}") };
    assert!(telling.to_string().contains("and met"), "another server is what says most: {telling}");
    assert_eq!(events.try_recv(), None, "the other server did not learn who asked");
    assert_eq!(wire.open(), 0);
    let error = b.engine.connect_to_any(&[], None, &[]).await.unwrap_err();
    assert!(matches!(error, SyncError::NoAddress));
    let error = b.engine.connect_to_any(&ways[1..2], None, &[]).await.unwrap_err();
    assert!(matches!(error, SyncError::Dial(DialError::Unreachable { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn another_server_at_the_first_address_does_not_stop_the_rest() {
    let nodes = Nodes::new();
    let (a, b, c) = (nodes.node(1).await, nodes.node(2).await, nodes.node(3).await);
    let mut events = c.engine.events();
    let ways = [c.address(), a.address()];
    let began = Instant::now();
    let peer = b.engine.connect_to_any(&ways, Some(a.key.public()), &[]).await.unwrap();
    assert_eq!((peer.address(), began.elapsed()), (&ways[1], Duration::ZERO));
    assert_eq!(events.try_recv(), None, "the other server did not learn who asked");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_slow_at_every_address_meets_one_connection() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let names = ["n1", "second", "third", "fourth", "fifth", "sixth"];
    for name in &names[1..] {
        also_at(&nodes, &a, name).await;
    }
    // A turn of the other side takes two staggers, so that several wait before the door while one passes.
    let wire = Wire::of(&nodes, &b, RACE_STAGGER_MS);
    const { assert!(2 * RACE_STAGGER_MS < RACE_DOOR_MS) };
    let mut events = a.engine.events();
    let ways: Vec<Address> = names.iter().map(|name| format!("wire:{name}").parse().unwrap()).collect();
    let peer = b.engine.connect_to_any(&ways, Some(a.key.public()), &[]).await.unwrap();
    assert_eq!(peer.address(), &ways[0]);
    assert!(wire.dialled.load(Ordering::SeqCst) > 3, "others were dialled meanwhile");
    // By the clock of the test: whatever is still under way has ended after it.
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(10)).await;
    assert_eq!(wire.open(), 1);
    let met = std::iter::from_fn(|| events.try_recv())
        .filter(|event| matches!(event, Delivered::Event(SyncEvent::Connected { .. })))
        .count();
    assert_eq!(met, 1, "the others have not said who they are");
    peer.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_link_dies_goes_on_over_another_transport_and_its_report_sums_up() {
    let (nodes, a, b, tree) = filled().await;
    also_at(&nodes, &a, "second").await;
    let wire = Wire::of(&nodes, &b, 0);
    let (net, is_cut) = (nodes.net.clone(), AtomicBool::new(false));
    let _watch = b.store.on_admitted(Arc::new(move |admitted| {
        if admitted.seqs.end >= Seq(1_000) && !is_cut.swap(true, Ordering::SeqCst) {
            net.cut("n2", "n1");
        }
    }));
    let mut events = b.engine.events();
    let ways = addresses(&["memory:n1", "wire:second"]);
    let mut route = b.engine.route(&ways, Some(a.key.public()), &[]).await.unwrap();
    assert_eq!(route.peer().address(), &ways[0]);
    let reports = route.sync(Scope::One(tree)).await.unwrap();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.pulled, report.duplicates, report.refused), (3_001, 0, 0));
    assert_eq!((report.complete, report.behind, report.via.as_ref()), (true, Some(0), Some(&ways[1])));
    assert_eq!(route.peer().address(), &ways[1]);
    let told: Vec<(u64, bool)> = std::iter::from_fn(|| events.try_recv())
        .filter_map(|event| match event {
            Delivered::Event(SyncEvent::Session(report) | SyncEvent::Failed { report, .. }) => {
                Some((report.pulled, report.complete))
            }
            _ => None,
        })
        .collect();
    let [(before, false), (after, true)] = told[..] else { panic!("{told:?}") };
    assert!(before >= 1_000 && before + after == 3_001, "{told:?}");
    assert_eq!(a.state(tree), b.state(tree));
    route.close().await;
    assert_eq!(wire.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_all_databases_those_that_were_cut_off_go_on_and_each_is_told_once() {
    for others in [0, 3] {
        let (nodes, a, b, tree) = filled().await;
        let others: Vec<TreeId> = (2..2 + others).map(|n| a.create(n)).collect();
        for other in &others {
            nodes.allow(*other, &b, Permission::Write);
            a.write(*other, 10);
            b.track(*other);
        }
        let (net, is_cut) = (nodes.net.clone(), AtomicBool::new(false));
        let _watch = b.store.on_admitted(Arc::new(move |admitted| {
            if admitted.seqs.end >= Seq(1_000) && !is_cut.swap(true, Ordering::SeqCst) {
                net.cut_all();
            }
        }));
        let mut route = b.engine.route(&[a.address()], Some(a.key.public()), &[]).await.unwrap();
        let reports = route.sync(Scope::Held).await.unwrap();
        assert_eq!(reports.len(), 1 + others.len(), "{reports:?}");
        for report in &reports {
            let all = if report.tree == Some(tree) { 3_001 } else { 11 };
            assert_eq!((report.pulled, report.duplicates, report.complete), (all, 0, true), "{report:?}");
        }
        route.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn going_on_ends_when_it_brings_nothing() {
    let (nodes, a, b, tree) = filled().await;
    let wire = Wire::of(&nodes, &b, 0);
    let ways = addresses(&["wire:n1"]);
    let mut route = b.engine.route(&ways, Some(a.key.public()), &[]).await.unwrap();
    wire.is_dead.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let error = route.sync(Scope::One(tree)).await.unwrap_err();
    assert!(matches!(error, SyncError::Link(_)), "{error}");
    let dialled = wire.dialled.load(Ordering::SeqCst);
    assert!(dialled <= 1 + RESUMES_VAIN_MAX as usize, "{dialled}");
    assert!(began.elapsed().as_millis() <= u128::from(RETRY_FIRST_MS) * u128::from(RESUMES_VAIN_MAX));
    route.close().await;
    assert_eq!(wire.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_in_step_moves_at_once_when_its_link_dies() {
    let (nodes, a, b, tree) = filled().await;
    also_at(&nodes, &a, "second").await;
    let wire = Wire::of(&nodes, &b, 0);
    let ways = addresses(&["memory:n1", "wire:second"]);
    let handle = b.engine.keep_in_step(&ways, Some(a.key.public()), &[], Some(tree));
    handle.wait_for_initial_sync(SOON).await.unwrap();
    assert_eq!((wire.open(), b.count(tree)), (0, 3_001));
    let cut = Instant::now();
    let mut events = b.engine.events();
    nodes.net.cut("n2", "n1");
    // Its state may be as before when somebody looks again.
    let is_moved = |event: &Delivered| matches!(event, Delivered::Event(SyncEvent::Connected { .. }));
    while !is_moved(&events.recv().await.unwrap()) {}
    assert!(handle.wait_in_step().await);
    assert!(cut.elapsed().as_millis() < u128::from(RETRY_FIRST_MS) / 2, "{:?}", cut.elapsed());
    assert_eq!(wire.open(), 1, "over the other address");
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_used_at_whichever_of_its_addresses_works() {
    let (nodes, a, b, tree) = filled().await;
    let silent = nodes.net.endpoint("silent");
    silent.listen().await.unwrap();
    let key = a.key.public();
    let mut ticket = DatabaseTicket {
        db: tree,
        key,
        addresses: addresses(&["memory:silent", "memory:n1"]),
        others: Vec::new(),
        invite: None,
    };
    let report = b.engine.sync_with_ticket(&ticket, "b").await.unwrap();
    assert_eq!((report.pulled, report.via), (3_001, Some(a.address())));
    // A refusal is not asked for a second time elsewhere.
    nodes.forbid(tree, &b);
    ticket.addresses.push(also_at(&nodes, &a, "second").await);
    let met = Mutex::new(a.engine.events());
    let error = b.engine.join(&ticket, "b").await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::Unavailable));
    let met = std::iter::from_fn(|| met.lock().unwrap().try_recv())
        .filter(|event| matches!(event, Delivered::Event(SyncEvent::Connected { .. })));
    assert_eq!(met.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn versions_that_have_none_in_common_are_named_on_both_sides() {
    const LATER: Versions = Versions { oldest: 7, newest: 9 };
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    // A client of later versions.
    let mut events = a.engine.events();
    let connection = nodes.net.endpoint("later").dial(&a.address()).await.unwrap();
    let mut link = connection.open().await.unwrap();
    let hello = Hello { versions: LATER, features: 0, nonce: [1; 32] };
    link.send(Greeting::Hello(hello).encode()).await.unwrap();
    link.end_turn().await.unwrap();
    let Received::Frame(frame) = link.recv().await.unwrap() else { panic!("no answer") };
    let refused = Greeting::Refused(RefusalCode::Version(VERSIONS));
    assert_eq!(Greeting::decode(&frame).unwrap(), refused, "the client is told those of the server");
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap();
    let expected = SyncEvent::Incompatible { ours: VERSIONS, theirs: LATER };
    assert_eq!(event, Some(Delivered::Event(expected)));
    // A server of later versions.
    let later = nodes.net.endpoint("server");
    later.listen().await.unwrap();
    let refusing = async {
        let connection = later.accept().await.unwrap();
        let mut link = connection.accept().await.unwrap();
        while link.recv().await.unwrap() != Received::EndOfTurn {}
        link.send(Greeting::Refused(RefusalCode::Version(LATER)).encode()).await.unwrap();
        link.end_turn().await.unwrap();
        assert_eq!(link.recv().await.unwrap(), Received::Closed);
    };
    let address = later.addresses().remove(0);
    let (error, ()) = tokio::join!(b.engine.connect_to_peer(&address, None, &[]), refusing);
    let error = error.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    let named = format!("this side speaks {} to {}, the other 7 to 9", VERSIONS.oldest, VERSIONS.newest);
    assert!(cause.contains(&named), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_learnt_later_is_dialled_at_once() {
    let (_nodes, a, b, tree) = filled().await;
    let handle = b.engine.keep_in_step(&addresses(&["memory:nowhere"]), None, &[], Some(tree));
    // By the paused clock: long enough for several attempts, and for the next one to be minutes away.
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(400)).await;
    assert_eq!(handle.last_error().map(|error| error.code).as_deref(), Some("unreachable"));
    let began = Instant::now();
    handle.add_address(&a.address());
    handle.wait_for_initial_sync(SOON).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(b.count(tree), 3_001);
}
