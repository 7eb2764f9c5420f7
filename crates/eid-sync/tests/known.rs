//! Every peer of the book that is active and has an address is kept in step, for as long as that is so and wanted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eid_core::{Permission, PublicKey, SecretKey, TreeId};
use eid_sync::limits::MEETINGS_MAX;
use eid_sync::{ConnectionState, Delivered, Events, KnownInStep, PeerStatus, SyncEvent};
use eid_transport::{Address, BoxFuture, Connection, DialError, ListenError, Transport};
use nodes::{Node, Nodes};

/// Longer than anything that is waited for here takes, by the paused clock.
const SOON: Duration = Duration::from_secs(60);

/// Time goes by, on the paused clock.
async fn passes(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

/// Two nodes that hold one database, and the first has written more since.
async fn friends() -> (Nodes, Node, Node, TreeId) {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    b.track(tree);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    a.write(tree, 1);
    (nodes, a, b, tree)
}

/// Waits until both have the same.
async fn equal(a: &Node, b: &Node, tree: TreeId) {
    let equal = async {
        while a.state(tree) != b.state(tree) {
            passes(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, equal).await.expect("it comes by itself");
}

async fn has(known: &KnownInStep, count: usize) {
    let has = async {
        while known.handles().len() != count {
            passes(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, has).await.expect("the book is looked at again");
}

async fn stays_away(a: &Node, b: &Node, tree: TreeId) {
    let before = b.count(tree);
    a.write(tree, 1);
    passes(SOON).await;
    assert_eq!(b.count(tree), before);
    assert_ne!(a.engine.connection_with(&b.key.public()).unwrap(), ConnectionState::Connected);
}

#[tokio::test(start_paused = true)]
async fn who_becomes_known_and_active_is_kept_in_step_and_who_is_not_any_more_is_left() {
    let (_nodes, a, b, tree) = friends().await;
    let (key, nowhere) = (b.key.public(), "memory:nowhere".parse().unwrap());
    let known = a.engine.keep_known_in_step();
    has(&known, 0).await;
    a.engine.register_peer(key, "b", &[nowhere]).unwrap();
    has(&known, 1).await;
    passes(SOON).await;
    assert_eq!(b.count(tree), 1);
    a.engine.add_peer_address(&key, &b.address()).unwrap();
    equal(&a, &b, tree).await;
    a.write(tree, 1);
    equal(&a, &b, tree).await;

    a.engine.update_peer_status(&key, PeerStatus::Inactive).unwrap();
    has(&known, 0).await;
    stays_away(&a, &b, tree).await;
    a.engine.update_peer_status(&key, PeerStatus::Active).unwrap();
    equal(&a, &b, tree).await;

    drop(known);
    passes(Duration::from_secs(1)).await;
    stays_away(&a, &b, tree).await;
}

#[tokio::test(start_paused = true)]
async fn one_handle_that_is_dropped_ends_its_task_and_its_connection() {
    let (_nodes, a, b, tree) = friends().await;
    let kept = a.engine.keep_in_step(&[b.address()], None, &[], Some(tree));
    assert!(tokio::time::timeout(SOON, kept.wait_in_step()).await.unwrap());
    let clone = kept.clone();
    drop(kept);
    a.write(tree, 1);
    equal(&a, &b, tree).await;
    drop(clone);
    passes(Duration::from_secs(1)).await;
    stays_away(&a, &b, tree).await;
}

async fn disconnected(events: &mut Events) -> PublicKey {
    loop {
        if let Delivered::Event(SyncEvent::Disconnected { peer }) = events.recv().await.unwrap() {
            return peer;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_met_at_an_address_alone_is_expected_there_from_then_on() {
    let (nodes, a, b, tree) = friends().await;
    b.engine.peers().add(&a.address()).unwrap();
    let known = b.engine.keep_known_in_step();
    equal(&a, &b, tree).await;
    let mut events = b.engine.events();
    a.engine.stop_server().await;
    let gone = tokio::time::timeout(SOON, disconnected(&mut events)).await;
    assert_eq!(gone.expect("who has dialled hears of it too"), a.key.public());

    // Somebody else is found where it could be.
    let other = nodes.node(3).await;
    let mut met = other.engine.events();
    nodes.allow(tree, &other, Permission::Write);
    other.track(tree);
    known.handles().remove(0).add_address(&other.address());
    passes(SOON).await;
    assert_eq!(met.try_recv(), None, "nobody has shown it a key");
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_user_who_comes_later_is_shown_to_who_is_kept_in_step() {
    let (nodes, a, b, tree) = friends().await;
    let (user, shared) = (Arc::new(SecretKey::from_seed([77; 32])), a.create(2));
    nodes.world.lock().unwrap().rights.insert((shared, user.public()), Permission::Write);
    b.track(shared);
    let _handle = b.engine.keep_in_step(&[a.address()], None, &[], None);
    equal(&a, &b, tree).await;
    passes(SOON).await;
    assert_eq!(b.count(shared), 0, "the device itself may not read it");
    b.rights.users.lock().unwrap().push(user);
    b.engine.wishes_changed();
    equal(&a, &b, shared).await;
}

/// A transport over which nobody is ever reached, and that counts who is being dialled.
#[derive(Debug, Default)]
struct Void {
    dialling: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    begun: AtomicUsize,
}

/// Is being dialled.
struct Dialling(Arc<AtomicUsize>);

impl Drop for Dialling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Transport for Void {
    fn scheme(&self) -> &'static str {
        "void"
    }

    fn dial<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(async {
            self.begun.fetch_add(1, Ordering::SeqCst);
            let now = self.dialling.fetch_add(1, Ordering::SeqCst) + 1;
            let _dialling = Dialling(Arc::clone(&self.dialling));
            self.most.fetch_max(now, Ordering::SeqCst);
            std::future::pending().await
        })
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        Box::pin(async { Ok(()) })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(async { None })
    }

    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_who_are_away_only_so_many_are_dialled_at_once_and_who_is_there_gets_a_turn() {
    let (_nodes, a, b, tree) = friends().await;
    let void = Arc::new(Void::default());
    a.engine.register_transport("void", Arc::<Void>::clone(&void));
    let count = 2 * MEETINGS_MAX;
    for n in 0..count {
        let key =
            SecretKey::from_seed(std::array::from_fn(|i| if i == 0 { u8::try_from(n).unwrap() } else { 9 }))
                .public();
        a.engine.register_peer(key, "", &[format!("void:{n}").parse().unwrap()]).unwrap();
    }
    a.engine.register_peer(b.key.public(), "", &[b.address()]).unwrap();
    let _known = a.engine.keep_known_in_step();
    equal(&a, &b, tree).await;
    passes(SOON).await;
    assert!(void.begun.load(Ordering::SeqCst) >= count - 1, "everybody is dialled");
    assert_eq!(void.most.load(Ordering::SeqCst), MEETINGS_MAX);
}
