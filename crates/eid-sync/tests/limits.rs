//! What one peer can take of a device, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod by_hand;
#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use by_hand::{greet, greet_as, open};
use bytes::Bytes;
use eid_core::dag::{Dag, Epoch, Logged, Named, Replica, Seq};
use eid_core::sketch::Sketch;
use eid_core::{Entry, EntryId, Permission, PublicKey, ReadError, SecretKey, TreeId};
use eid_proto::limits::CREDIT_BYTES;
use eid_proto::message::{Greeting, Hello, Message, Request, Response};
use eid_proto::{Known, Output, Rights, Session, SessionError};
use eid_store::{Backend, BackendError, Batch, Memory, Snapshot};
use eid_sync::limits::{
    AWAY_MS, CONNECTIONS_MAX, CONNECTIONS_PER_KEY_MAX, FRAME_MS, HANDSHAKE_MS, INVALID_ENTRIES_MAX,
    PEERS_CALLING_MAX, REQUESTS_MAX, REQUESTS_PER_SECOND, SESSIONS_PER_CONNECTION_MAX,
    TURN_BYTES_PER_SECOND_MIN, UNPROVEN_MAX,
};
use eid_sync::{Delivered, EngineConfig, RefusalCode, SyncEvent};
use eid_transport::{Connection, Link, Received, Transport};
use nodes::{Node, Nodes};

async fn ask(control: &mut dyn Link, request: &Request) -> Option<Response> {
    control.send(request.encode()).await.ok()?;
    control.end_turn().await.ok()?;
    let Ok(Received::Frame(frame)) = control.recv().await else { return None };
    assert_eq!(control.recv().await.unwrap(), Received::EndOfTurn);
    Some(Response::decode(&frame).unwrap())
}

/// What the other side says to an opening.
async fn answered(connection: &dyn Connection, tree: TreeId) -> (Box<dyn Link>, Message) {
    let mut link = connection.open().await.unwrap();
    open(&mut *link, tree, Epoch(1)).await;
    let Received::Frame(frame) = link.recv().await.unwrap() else { panic!("a frame was due") };
    (link, Message::decode(&frame).unwrap())
}

async fn dialled(nodes: &Nodes, to: &Node, n: u8) -> (Arc<dyn Connection>, Box<dyn Link>) {
    let connection = nodes.net.endpoint("by-hand").dial(&to.address()).await.unwrap();
    let control = greet(&*connection, n).await;
    (connection, control)
}

/// Whether a hello is answered.
async fn is_heard(connection: &dyn Connection) -> bool {
    let Ok(mut link) = connection.open().await else { return false };
    let hello = Hello { versions: eid_proto::VERSIONS, features: 0, nonce: [1; 32] };
    if link.send(Greeting::Hello(hello).encode()).await.is_err() || link.end_turn().await.is_err() {
        return false;
    }
    matches!(link.recv().await, Ok(Received::Frame(_)))
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_of_a_key_takes_the_place_of_one_that_is_idle() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let tree = a.create(1);
    nodes.world.lock().unwrap().rights.insert((tree, key(3).public()), Permission::Read);
    let mut dials = Vec::new();
    for _ in 0..CONNECTIONS_PER_KEY_MAX {
        dials.push(dialled(&nodes, &a, 3).await);
    }
    let other = dialled(&nodes, &a, 4).await;
    // The oldest has a session that waits for its peer.
    let (_link, _) = answered(&*dials[0].0, tree).await;
    dials.push(dialled(&nodes, &a, 3).await);
    let mut alive = Vec::new();
    for (_, control) in &mut dials {
        alive.push(ask(&mut **control, &Request::Discover).await.is_some());
    }
    let gone: Vec<usize> = (0..alive.len()).filter(|n| !alive[*n]).collect();
    assert_eq!((gone, alive.len()), (vec![1], CONNECTIONS_PER_KEY_MAX + 1), "one that is idle");
    let (_connection, mut control) = other;
    assert!(ask(&mut *control, &Request::Discover).await.is_some(), "another key is left in peace");
}

#[tokio::test(start_paused = true)]
async fn those_who_do_not_say_who_they_are_take_up_so_many_places_and_give_them_back() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let mut silent = Vec::new();
    for _ in 0..UNPROVEN_MAX {
        let connection = nodes.net.endpoint("silent").dial(&a.address()).await.unwrap();
        let mut link = connection.open().await.unwrap();
        link.send(Bytes::from_static(b"?")).await.unwrap();
        tokio::task::yield_now().await;
        silent.push((connection, link));
    }
    let one_more = nodes.net.endpoint("one-more").dial(&a.address()).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(!is_heard(&*one_more).await, "there is room for one more");
    assert!(began.elapsed().as_millis() < u128::from(HANDSHAKE_MS), "it is left waiting");
    tokio::time::advance(Duration::from_millis(HANDSHAKE_MS)).await;
    let (_connection, mut control) = dialled(&nodes, &a, 3).await;
    assert!(ask(&mut *control, &Request::Discover).await.is_some());
}

#[tokio::test]
async fn there_are_so_many_connections_and_one_that_ends_makes_room() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let mut dials = Vec::new();
    for n in 0..CONNECTIONS_MAX {
        let connection = nodes.net.endpoint("by-hand").dial(&a.address()).await.unwrap();
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&((n / CONNECTIONS_PER_KEY_MAX) as u64 + 1_000).to_le_bytes());
        let control = greet_as(&*connection, SecretKey::from_seed(seed), vec![]).await;
        dials.push((connection, control));
    }
    let mut events = a.engine.events();
    let one_more = nodes.net.endpoint("one-more").dial(&a.address()).await.unwrap();
    assert!(!is_heard(&*one_more).await, "there is room for one more");
    let (last, mut control) = dials.pop().unwrap();
    assert!(ask(&mut *control, &Request::Discover).await.is_some());
    last.close().await;
    while !matches!(events.recv().await.unwrap(), Delivered::Event(SyncEvent::Disconnected { .. })) {}
    // The place is given back when the task has ended that saw the end of the connection.
    tokio::task::yield_now().await;
    let (_connection, mut control) = dialled(&nodes, &a, 3).await;
    assert!(ask(&mut *control, &Request::Discover).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_so_many_sessions_and_another_one_its_own() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let tree = a.create(1);
    a.write(tree, 1);
    for n in [3, 4] {
        nodes.world.lock().unwrap().rights.insert((tree, key(n).public()), Permission::Read);
    }
    let (connection, _control) = dialled(&nodes, &a, 3).await;
    let mut links = Vec::new();
    for _ in 0..SESSIONS_PER_CONNECTION_MAX {
        let (link, said) = answered(&*connection, tree).await;
        assert!(matches!(said, Message::Plan(_)), "{said:?}");
        links.push(link);
    }
    let (_, said) = answered(&*connection, tree).await;
    assert_eq!(said, Message::Refused(RefusalCode::Busy));
    let (other, _control_of_other) = dialled(&nodes, &a, 4).await;
    let (_, said) = answered(&*other, tree).await;
    assert!(matches!(said, Message::Plan(_)), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_drips_is_left_after_what_its_pace_has_earned_it() {
    let ack = Message::Ack { upto: None, credit: CREDIT_BYTES }.encode();
    // Some frames every four seconds, of one kind that a sender takes at any time.
    for (frames, times) in [(1, 6), (120, 7)] {
        let nodes = Nodes::new();
        let a = nodes.node(1).await;
        let tree = a.create(1);
        nodes.world.lock().unwrap().rights.insert((tree, key(3).public()), Permission::Read);
        let (connection, _control) = dialled(&nodes, &a, 3).await;
        let (mut link, _) = answered(&*connection, tree).await;
        while link.recv().await.unwrap() != Received::EndOfTurn {}
        let mut events = a.engine.events();
        let began = tokio::time::Instant::now();
        let mut now_and_then = tokio::time::interval(Duration::from_secs(4));
        let dripping = async {
            loop {
                now_and_then.tick().await;
                for _ in 0..frames {
                    drop(link.send(ack.clone()).await);
                }
            }
        };
        let error = tokio::select! {
            error = failure(&mut events) => error.unwrap(),
            () = dripping => unreachable!("it goes on for ever"),
        };
        assert!(error.contains("the next frame"), "{error}");
        let earned = times * (frames * ack.len()) as u64 * 1_000 / TURN_BYTES_PER_SECOND_MIN;
        let left = u64::try_from(began.elapsed().as_millis()).unwrap();
        assert!(left.abs_diff(FRAME_MS + earned) < 100, "{left} ms, {earned} earned");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_their_rate_wait() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let (_connection, mut control) = dialled(&nodes, &a, 3).await;
    let began = tokio::time::Instant::now();
    for _ in 0..REQUESTS_MAX {
        assert!(ask(&mut *control, &Request::Discover).await.is_some());
    }
    let at_once = began.elapsed();
    assert!(at_once < Duration::from_millis(500), "{at_once:?}");
    for _ in 0..3 * REQUESTS_PER_SECOND {
        assert!(ask(&mut *control, &Request::Discover).await.is_some());
    }
    let then = began.elapsed();
    assert!(then > Duration::from_millis(2_500), "{then:?}");
}

/// A root, and entries on it whose signatures are none.
#[derive(Debug)]
struct Forged {
    ids: Vec<EntryId>,
    logged: Vec<Logged>,
}

impl Forged {
    fn on(root: &Entry, count: usize) -> Self {
        let mut logged = vec![logged(0, root.block().clone(), root)];
        let mut ids = vec![root.id()];
        for n in 0..count {
            let entry = nodes::written(root, n as u64);
            let mut block = entry.block().to_vec();
            *block.last_mut().unwrap() ^= 1;
            ids.push(EntryId::of_block(&block));
            logged.push(self::logged(n as u64 + 1, block.into(), &entry));
        }
        Self { ids, logged }
    }
}

fn logged(seq: u64, block: Bytes, entry: &Entry) -> Logged {
    Logged { seq: Seq(seq), block, payloads: entry.payloads().to_vec() }
}

impl Dag for Forged {
    fn parents(&self, from: Seq, count: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        let all = (0..self.ids.len()).map(|n| if n == 0 { vec![] } else { vec![Seq(0)] });
        Ok(all.skip(from.0 as usize).take(count).collect())
    }
}

impl Replica for Forged {
    fn epoch(&self) -> Epoch {
        Epoch(9)
    }
    fn end(&self) -> Seq {
        Seq(self.ids.len() as u64)
    }
    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        let tips = self.ids.iter().zip(0..).skip(1);
        let mut tips: Vec<_> = tips.map(|(id, seq)| (*id, Seq(seq))).collect();
        tips.sort_unstable();
        Ok(tips)
    }
    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        let at = |id: &EntryId| self.ids.iter().position(|held| held == id).map(|at| Seq(at as u64));
        Ok(ids.iter().map(at).collect())
    }
    fn find_prefixes(&self, prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        let at = |prefix: &[u8; 8]| self.ids.iter().position(|held| held.prefix() == *prefix);
        Ok(prefixes.iter().map(|prefix| at(prefix).map(|at| Seq(at as u64))).collect())
    }
    fn named(&self, from: Seq, count: usize) -> Result<Vec<Named>, ReadError> {
        let parents = self.parents(from, count)?.into_iter();
        let ids = self.ids.iter().skip(from.0 as usize);
        Ok(parents.zip(ids).map(|(parents, id)| Named { short: id.prefix(), parents }).collect())
    }
    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        Ok(None)
    }
    fn log(&self, range: Range<Seq>, bytes_max: usize) -> Result<Vec<Logged>, ReadError> {
        let mut bytes = 0;
        let from =
            self.logged.iter().skip(range.start.0 as usize).take((range.end.0 - range.start.0) as usize);
        let fits = from.take_while(|logged| {
            let before = bytes;
            bytes += logged.bytes_len();
            before < bytes_max
        });
        Ok(fits.cloned().collect())
    }
}

/// Runs a session by hand to its end.
async fn bring(connection: &dyn Connection, tree: TreeId, replica: &Forged) -> Result<(), SessionError> {
    let mut link = connection.open().await.unwrap();
    let mut session = Session::initiator(tree, Known::default()).duplex(link.is_duplex());
    let all = Rights { read: true, push: true };
    loop {
        match session.poll(replica, all)? {
            Output::Send(frame) => drop(link.send(frame).await),
            Output::EndTurn => drop(link.end_turn().await),
            Output::NeedFrame => match link.recv().await {
                Ok(Received::Frame(frame)) => session.handle_frame(&frame)?,
                Ok(Received::Aside(frame)) => session.handle_aside(&frame)?,
                Ok(Received::EndOfTurn) => session.handle_end_of_turn()?,
                Ok(Received::Closed) | Err(_) => return Ok(()),
            },
            Output::Finished => return Ok(()),
            Output::Again => {}
            Output::Admit(_) | Output::NeedAdmitted | Output::Aside(_) => panic!("nothing was to come"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_brings_too_many_invalid_entries_is_turned_away_for_a_time() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let tree = a.create(1);
    let root = nodes::entry(&a, tree, 0);
    for n in [3, 4] {
        nodes.world.lock().unwrap().rights.insert((tree, key(n).public()), Permission::Write);
    }
    let (connection, _control) = dialled(&nodes, &a, 3).await;
    let most = INVALID_ENTRIES_MAX as usize;
    // As many as are borne, and the session goes on to its end.
    let mut events = a.engine.events();
    bring(&*connection, tree, &Forged::on(&root, most)).await.unwrap();
    let ended = failure(&mut events).await;
    assert_eq!(ended, None, "as many as may be");
    bring(&*connection, tree, &Forged::on(&root, 2_000)).await.unwrap();
    let ended = failure(&mut events).await;
    assert!(ended.is_some_and(|error| error.contains("too many invalid entries")));
    assert_eq!(a.count(tree), 1);
    // Turned away, whatever it wants; others are not.
    let (_, said) = answered(&*connection, tree).await;
    assert_eq!(said, Message::Refused(RefusalCode::Busy));
    let (other, _control_of_other) = dialled(&nodes, &a, 4).await;
    let (_, said) = answered(&*other, tree).await;
    assert!(matches!(said, Message::Plan(_)), "{said:?}");
    tokio::time::advance(Duration::from_millis(AWAY_MS)).await;
    let (again, _control_again) = dialled(&nodes, &a, 3).await;
    let (_, said) = answered(&*again, tree).await;
    assert!(matches!(said, Message::Plan(_)), "{said:?}");
}

/// Why the next session that is over has failed; nothing when it has not.
async fn failure(events: &mut eid_sync::Events) -> Option<String> {
    loop {
        match events.recv().await.unwrap() {
            Delivered::Event(SyncEvent::Failed { error, .. }) => return Some(error),
            Delivered::Event(SyncEvent::Session(_)) => return None,
            _ => {}
        }
    }
}

/// A backend that stores nothing while its gate is shut.
#[derive(Debug)]
struct Gated {
    inner: Memory,
    shut: Arc<(Mutex<bool>, Condvar)>,
}

impl Backend for Gated {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let (shut, opened) = &*self.shut;
        drop(opened.wait_while(shut.lock().unwrap(), |shut| *shut).unwrap());
        self.inner.commit(batch)
    }
}

/// Opens a gate at the latest when the test is over: a thread that waits at it would keep it from ending.
struct Opener(Arc<(Mutex<bool>, Condvar)>);

impl Opener {
    fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.open();
    }
}

#[tokio::test]
async fn while_too_much_waits_to_be_stored_nobody_is_listened_to() {
    const MOST: usize = 300 * 1024;
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let trees = [1, 2, 3].map(|nonce| a.create(nonce));
    for tree in trees {
        a.write_large(tree, 400, 20);
    }
    let shut = Arc::new((Mutex::new(false), Condvar::new()));
    let backend = Gated { inner: Memory::new(), shut: Arc::clone(&shut) };
    let config = EngineConfig { memory_bytes_max: MOST, ..EngineConfig::default() };
    let b = nodes.node_over(2, Arc::new(backend), config).await;
    for tree in trees {
        nodes.allow(tree, &b, Permission::Write);
        b.track(tree);
    }
    *shut.0.lock().unwrap() = true;
    let gate = Opener(Arc::clone(&shut));
    let done = Arc::new(AtomicBool::new(false));
    let (engine, address, flag) = (b.engine.clone(), a.address(), Arc::clone(&done));
    let syncing = tokio::spawn(async move {
        let reports = engine.sync_with_peer(&address, None).await;
        flag.store(true, Ordering::SeqCst);
        reports
    });
    let mut turns_full = 0;
    while turns_full < 300 {
        // As long as a piece of blocking work and more: whatever could come would come meanwhile.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        let waiting = b.engine.waiting_bytes();
        let frames = trees.len() * (eid_proto::limits::BATCH_BYTES_TARGET + 4_096);
        assert!(waiting <= MOST + frames, "{waiting} bytes");
        assert!(!done.load(Ordering::SeqCst), "nothing can be stored");
        turns_full += usize::from(waiting >= MOST);
    }
    gate.open();
    let reports = tokio::time::timeout(Duration::from_secs(60), syncing).await.unwrap().unwrap().unwrap();
    assert!(reports.iter().all(|report| report.complete && report.pulled == 401), "{reports:?}");
    assert_eq!(reports.len(), trees.len());
    assert_eq!(b.engine.waiting_bytes(), 0);
}

#[tokio::test]
async fn of_more_callers_than_there_is_room_for_nothing_is_remembered() {
    let nodes = Nodes::new();
    let (a, known, stranger) = (nodes.node(1).await, nodes.node(2).await, nodes.node(3).await);
    let tree = a.create(1);
    for node in [&known, &stranger] {
        nodes.allow(tree, node, Permission::Read);
        node.track(tree);
    }
    let call = async |node: &Node| {
        let mut events = a.engine.events();
        node.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
        while !matches!(events.recv().await, Some(Delivered::Event(SyncEvent::Session(_)))) {}
        let key = node.key.public();
        let listed = a.engine.list_peers().unwrap().iter().any(|peer| peer.key == Some(key));
        let is_known = a.engine.known(&key, &tree).unwrap() != Known::default();
        [listed, is_known, a.engine.metadata(&tree, &key).unwrap().is_some()]
    };
    assert_eq!(call(&known).await, [true; 3]);
    for n in 1..PEERS_CALLING_MAX {
        let seed = std::array::from_fn(|i| u8::try_from(n >> (4 * (i % 4)) & 15).unwrap() + 100);
        a.engine.register_peer(key_of(seed), "", &[]).unwrap();
    }
    assert_eq!(call(&stranger).await, [false; 3]);
    a.write(tree, 1);
    assert_eq!(call(&known).await, [true; 3], "who is in the book goes on");
}

fn key_of(seed: [u8; 32]) -> PublicKey {
    SecretKey::from_seed(seed).public()
}
