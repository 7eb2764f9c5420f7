//! A transfer of several windows that is cut in the middle goes on, over the same transport or another: everything arrives
//! once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use eid::{
    Access, Address, Bandwidth, Database, Delivered, ErrorKind, Events, Http, Instance, Listener, PeerInfo,
    SessionReport, SyncEvent,
};
use eid_transport::Transport;
use eid_transport::memory::MemoryNet;

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(60);
/// Entries of 16 KiB each: five windows.
const ENTRIES: u64 = 1_300;
const TEXT_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Memory,
    Http,
    #[cfg(feature = "quic")]
    Quic,
    #[cfg(feature = "iroh")]
    Iroh,
}

/// The transports that there are.
fn ways() -> Vec<Way> {
    vec![
        Way::Memory,
        Way::Http,
        #[cfg(feature = "quic")]
        Way::Quic,
        #[cfg(feature = "iroh")]
        Way::Iroh,
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// The one who dials lacks what the other has.
    Pull,
    /// The one who dials has what the other lacks.
    Push,
}

/// Two devices with one database, of which the second dials the first.
struct Two {
    a: Instance,
    b: Instance,
    there: Database,
    here: Database,
    net: MemoryNet,
    direction: Direction,
}

impl Two {
    async fn met_over(way: Way, direction: Direction) -> (Self, Address) {
        let net = MemoryNet::new();
        let a = Instance::builder().memory().open().await.unwrap();
        let b = Instance::builder().memory().open().await.unwrap();
        b.sync().add_transport(net.endpoint("b"));
        let there = a.create_database("notes").await.unwrap();
        let address = listen(&a, &net, way).await;
        let here = b.join(&there.share(Access::write()).await.unwrap()).await.unwrap();
        let two = Self { a, b, there, here, net, direction };
        two.fill().await;
        (two, address)
    }

    /// The one who has everything, and the one who lacks it.
    fn sides(&self) -> ((&Instance, &Database), (&Instance, &Database)) {
        let (a, b) = ((&self.a, &self.there), (&self.b, &self.here));
        match self.direction {
            Direction::Pull => (a, b),
            Direction::Push => (b, a),
        }
    }

    async fn fill(&self) {
        let ((_, from), _) = self.sides();
        fill(from).await;
    }

    /// Waits until some of it has arrived.
    async fn some_arrives(&self) {
        let (_, (_, to)) = self.sides();
        let begun = to.entries().unwrap();
        let mut changes = to.changes().unwrap();
        while to.entries().unwrap() < begun + ENTRIES / 4 {
            changes.next().await.unwrap();
        }
    }

    /// Holds what the receiving side was told against what there was to bring: each entry once.
    fn check(&self, told: &[SessionReport], case: &str) {
        let pulled: u64 = told.iter().map(|report| report.pulled).sum();
        let duplicates: u64 = told.iter().map(|report| report.duplicates).sum();
        assert_eq!(pulled, ENTRIES, "{case}: {told:?}");
        // Who dials again has stored what had arrived. Who is dialled may still be storing it when the next session begins: a
        // window at most.
        let most = match self.direction {
            Direction::Pull => 0,
            Direction::Push => eid_proto::limits::CREDIT_BYTES / TEXT_BYTES as u64,
        };
        assert!(duplicates <= most, "{case}: {told:?}");
        assert!(told.len() > 1 && told[0].pulled < ENTRIES, "{case} was cut: {told:?}");
        assert_eq!(self.here.entries().unwrap(), self.there.entries().unwrap(), "{case}");
        assert_eq!(self.here.state_hash().unwrap(), self.there.state_hash().unwrap(), "{case}");
    }

    async fn close(self) {
        for node in [self.a, self.b] {
            tokio::time::timeout(SOON, node.close()).await.expect("nothing holds the end up").unwrap();
        }
    }
}

async fn fill(from: &Database) {
    // Text that nothing packs: SplitMix64 in hexadecimal digits.
    let mut state = 1_u64;
    for n in 0..ENTRIES {
        let mut text = String::with_capacity(TEXT_BYTES);
        while text.len() < TEXT_BYTES {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            text.push_str(&format!("{:016x}", z ^ (z >> 31)));
        }
        from.doc("d").set(&format!("k{n}"), text).await.unwrap();
    }
}

async fn listen(node: &Instance, net: &MemoryNet, way: Way) -> Address {
    let listener: Listener = match way {
        Way::Memory => Listener::from(net.endpoint("a") as Arc<dyn Transport>),
        Way::Http => Http::on("127.0.0.1:0").into(),
        #[cfg(feature = "quic")]
        Way::Quic => eid::Quic::on("127.0.0.1:0").into(),
        #[cfg(feature = "iroh")]
        Way::Iroh => eid::Iroh::over(eid::Relay::Off).on(([127, 0, 0, 1], 0).into()).into(),
    };
    node.listen(listener).await.unwrap().remove(0)
}

/// Shuts down the transport that a node listens with, and leaves one that does nothing.
async fn shut(node: &Instance, net: &MemoryNet, way: Way) {
    #[cfg(any(feature = "quic", feature = "iroh"))]
    let nobody = Arc::new(eid::SecretKey::from_seed([9; 32]));
    let idle: Arc<dyn Transport> = match way {
        Way::Memory => net.endpoint("idle"),
        Way::Http => Arc::new(eid_http::HttpTransport::new(eid_http::HttpConfig::default())),
        #[cfg(feature = "quic")]
        Way::Quic => Arc::new(eid_quic::QuicTransport::new(eid_quic::QuicConfig::new(nobody))),
        #[cfg(feature = "iroh")]
        Way::Iroh => Arc::new(eid_iroh::IrohTransport::new(eid_iroh::IrohConfig::new(nobody))),
    };
    node.sync().replace_transport(idle).await;
}

/// The sessions that have been told of, as soon as there is one that is complete.
async fn told(events: &mut Events) -> Vec<SessionReport> {
    let mut told = Vec::new();
    let telling = async {
        loop {
            match events.recv().await.unwrap() {
                Delivered::Event(SyncEvent::Failed { report, .. }) => told.push(report),
                Delivered::Event(SyncEvent::Session(report)) => {
                    told.push(report);
                    return;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, telling).await.expect("a session ends");
    told
}

/// One side closes the connection; the next session is over `next`.
async fn closed_in_the_middle(way: Way, next: Way, direction: Direction) {
    let case = format!("{way:?} closed, then {next:?}, {direction:?}");
    let (two, address) = Two::met_over(way, direction).await;
    let (_, (receiver, _)) = two.sides();
    let mut events = receiver.events();
    let engine = two.b.sync();
    let peer = engine.connect_to_peer(&address, Some(two.a.device()), &[]).await.unwrap();
    let closing = async {
        two.some_arrives().await;
        peer.close().await;
    };
    let (ended, ()) = tokio::join!(engine.sync_tree_with_peer(&peer, two.here.id()), closing);
    assert!(ended.unwrap_err().is_transient(), "{case}");
    let address = if next == way { address } else { listen(&two.a, &two.net, next).await };
    let reports = two.b.sync_with(&address, Some(&two.here), SOON).await.unwrap();
    assert!(reports[0].complete, "{case}: {reports:?}");
    two.check(&told(&mut events).await, &case);
    two.close().await;
}

/// The transport of the side that was dialled is shut down, and the session goes on by itself over `next`.
async fn shut_down_in_the_middle(way: Way, next: Way, direction: Direction) {
    let case = format!("{way:?} shut down, on over {next:?}, {direction:?}");
    let (two, first) = Two::met_over(way, direction).await;
    let second = listen(&two.a, &two.net, next).await;
    let (_, (receiver, _)) = two.sides();
    let mut events = receiver.events();
    let device = two.a.device();
    let peer = PeerInfo { key: Some(device), addresses: vec![first, second.clone()], ..PeerInfo::default() };
    let shutting = async {
        two.some_arrives().await;
        shut(&two.a, &two.net, way).await;
    };
    let (synced, ()) = tokio::join!(two.b.sync_with_peer(&peer, Some(&two.here), SOON), shutting);
    let reports = synced.unwrap().sessions;
    let [report] = &reports[..] else { panic!("{case}: {reports:?}") };
    assert_eq!((report.complete, report.via.as_ref()), (true, Some(&second)), "{case}: {report:?}");
    let told = told(&mut events).await;
    two.check(&told, &case);
    if direction == Direction::Pull {
        assert_eq!(report.pulled, ENTRIES, "{case}: the report sums up");
    } else {
        assert!(report.pushed >= ENTRIES, "{case}: {report:?}");
    }
    two.close().await;
}

fn next_of(way: Way) -> Way {
    let ways = ways();
    let at = ways.iter().position(|other| *other == way).unwrap();
    ways[(at + 1) % ways.len()]
}

#[tokio::test]
async fn a_transfer_that_one_side_closes_goes_on_over_the_same_transport() {
    for way in ways() {
        closed_in_the_middle(way, way, Direction::Pull).await;
    }
}

#[tokio::test]
async fn a_transfer_that_one_side_closes_goes_on_over_another_transport() {
    for way in ways() {
        closed_in_the_middle(way, next_of(way), Direction::Push).await;
    }
}

#[tokio::test]
async fn a_transfer_whose_transport_is_shut_down_goes_on_by_itself_over_another() {
    for way in ways() {
        shut_down_in_the_middle(way, next_of(way), Direction::Pull).await;
    }
}

#[tokio::test]
async fn what_is_sent_when_the_transport_is_shut_down_goes_on_by_itself_over_another() {
    for way in ways() {
        shut_down_in_the_middle(way, next_of(way), Direction::Push).await;
    }
}

#[tokio::test]
async fn a_join_that_runs_out_of_time_keeps_what_had_come() {
    let a = Instance::builder().memory().open().await.unwrap();
    let b = Instance::builder().memory().open().await.unwrap();
    let there = a.create_database("notes").await.unwrap();
    fill(&there).await;
    a.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = there.share(Access::write()).await.unwrap();
    // All of it takes longer than five seconds.
    a.set_bandwidth(Bandwidth { total: Some(ENTRIES * TEXT_BYTES as u64 / 10), per_peer: None });
    let failed = b.join(&ticket).within(Duration::from_secs(4)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::TimedOut, "{failed}");
    a.set_bandwidth(Bandwidth::default());
    let joined = b.join(&ticket).within(SOON).run().await.unwrap();
    let (pulled, entries) = (joined.session.pulled, there.entries().unwrap());
    assert!(joined.session.complete && joined.database.entries().unwrap() == entries);
    assert!(pulled < entries - ENTRIES / 10, "{pulled} of {entries} came again");
}
