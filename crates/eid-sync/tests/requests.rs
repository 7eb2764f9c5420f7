//! Who has no right asks for one, learns nothing before somebody decides, and asks again by itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod by_hand;
#[expect(dead_code, reason = "a part of the harness is enough")]
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use by_hand::greet;
use bytes::Bytes;
use eid_core::{Permission, SecretKey, TreeId};
use eid_proto::message::{Request, Response, Right};
use eid_proto::{Metadata, Text};
use eid_store::Memory;
use eid_sync::limits::{ASK_FIRST_MS, ASK_MAX_MS};
use eid_sync::{
    Answer, AskedAccess, DatabaseTicket, Decision, Delivered, EngineConfig, RequestId, SyncError, SyncEvent,
};
use eid_transport::{Link, Received, Transport as _};
use nodes::{Node, Nodes};

fn said() -> BTreeMap<String, String> {
    BTreeMap::from([("message".to_owned(), "it is me".to_owned())])
}

fn asked(server: &Node, who: &Node, tree: TreeId) -> AskedAccess {
    AskedAccess {
        ticket: DatabaseTicket {
            db: tree,
            key: server.key.public(),
            addresses: vec![server.address()],
            others: Vec::new(),
            invite: Some(SecretKey::from_seed([77; 32])),
        },
        key: who.key.public(),
        permission: Permission::Write,
        request: RequestId([3; 16]),
        name: Some("here".to_owned()),
        metadata: said(),
        since_ms: 5,
    }
}

/// Sends a request, and receives what comes back.
async fn answered(link: &mut dyn Link, request: &Request) -> Bytes {
    link.send(request.encode()).await.unwrap();
    link.end_turn().await.unwrap();
    let Received::Frame(frame) = link.recv().await.unwrap() else { panic!("an answer was due") };
    assert_eq!(link.recv().await.unwrap(), Received::EndOfTurn);
    frame
}

#[tokio::test]
async fn a_stranger_is_answered_with_the_same_bytes_and_work_for_what_is_there_and_what_is_not() {
    let nodes = Nodes::new();
    let a = nodes.node(1).await;
    let (open, disabled) = (a.create(1), a.create(2));
    a.rights.trees.lock().unwrap().remove(&disabled);
    let dialler = nodes.net.endpoint("stranger");
    let connection = dialler.dial(&a.address()).await.unwrap();
    let mut link = greet(&*connection, 9).await;
    let counted = || {
        let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        [of(&a.rights.listed), of(&a.rights.asked), of(&a.rights.noted)]
    };
    let mut all = Vec::new();
    for tree in [open, disabled, TreeId([9; 32])] {
        let before = counted();
        let request = Request::Ask {
            tree: tree.0,
            wanted: Right::Read,
            name: Text::new("eve"),
            metadata: Metadata::new(said()).unwrap(),
        };
        let frame = answered(&mut *link, &request).await;
        assert_eq!(answered(&mut *link, &request).await, frame, "it is the same each time");
        let Response::Pending { request } = Response::decode(&frame).unwrap() else { panic!("{frame:?}") };
        let at = frame.windows(16).position(|bytes| bytes == request).unwrap();
        let rest = [&frame[..at], &frame[at + 16..]].concat();
        let work: Vec<usize> = counted().iter().zip(before).map(|(now, before)| now - before).collect();
        all.push((rest, work));
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    assert_eq!(nodes.world.lock().unwrap().asks.len(), 2, "only what takes part is noted");
}

#[tokio::test]
async fn who_has_the_right_is_served_at_once_and_nothing_is_asked() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    nodes.allow(tree, &b, Permission::Write);
    let peer = b.engine.connect_to_peer(&a.address(), None, &[]).await.unwrap();
    let nothing = BTreeMap::new();
    let ask = |wanted| b.engine.request_database_access(&peer, tree, wanted, "b", &nothing);
    assert_eq!(ask(Permission::Read).await.unwrap(), Answer::Granted(Permission::Write));
    assert_eq!(ask(Permission::Write).await.unwrap(), Answer::Granted(Permission::Write));
    assert_eq!(a.rights.noted.load(Ordering::SeqCst), 0);
    assert!(matches!(ask(Permission::Admin(4)).await.unwrap(), Answer::Pending(_)));
    let much = BTreeMap::from([("message".to_owned(), "x".repeat(1024))]);
    let refused = b.engine.request_database_access(&peer, tree, Permission::Admin(4), "b", &much).await;
    assert!(matches!(refused, Err(SyncError::Metadata)));
}

#[tokio::test]
async fn a_request_is_told_once_and_of_the_first_further_key_that_was_proven() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    let user = Arc::new(SecretKey::from_seed([50; 32]));
    let mut events = a.engine.events();
    let peer = b.engine.connect_to_peer(&a.address(), None, &[Arc::clone(&user)]).await.unwrap();
    for _ in 0..2 {
        let said = said();
        let asking = b.engine.request_database_access(&peer, tree, Permission::Read, "Ben", &said);
        assert!(matches!(asking.await.unwrap(), Answer::Pending(_)));
    }
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .filter(|event| matches!(event, Delivered::Event(SyncEvent::Requested { .. })))
        .collect();
    let [Delivered::Event(SyncEvent::Requested { key, name, permission, tree: about, .. })] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((*key, name.as_str(), *permission, *about), (user.public(), "Ben", Permission::Read, tree));
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_again_later_each_time_until_somebody_decides() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    let asked = asked(&a, &b, tree);
    let mut waiting = Box::pin(b.engine.wait_for_access(&asked, "b", &[]));
    let asks = || nodes.world.lock().unwrap().asks.len();
    let first = tokio::time::timeout(Duration::from_millis(ASK_FIRST_MS), &mut waiting).await;
    assert!(first.is_err());
    // Each wait is between half of its length and all of it.
    assert!(tokio::time::timeout(Duration::from_millis(63 * ASK_FIRST_MS), &mut waiting).await.is_err());
    let early = asks();
    assert!((6..=8).contains(&early), "{early}");
    let hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(hour, &mut waiting).await.is_err());
    let late = asks() - early;
    let most = 2 * 3600 * 1000 / ASK_MAX_MS as usize + 2;
    assert!((most / 2 - 2..=most).contains(&late), "{late}");
    nodes.world.lock().unwrap().decided.insert((tree, b.key.public()), Some(Permission::Read));
    let decision = tokio::time::timeout(hour, waiting).await.unwrap();
    assert_eq!(decision, Some(Decision::Granted(Permission::Read)));
    b.track(tree);
    b.engine.sync_with_peer(&a.address(), Some(tree)).await.unwrap();
    assert_eq!(a.state(tree), b.state(tree));
}

#[tokio::test(start_paused = true)]
async fn it_is_told_of_a_rejection_also_when_the_server_was_away_meanwhile() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    let mut asked = asked(&a, &b, tree);
    asked.ticket.addresses = vec!["memory:later".parse().unwrap()];
    let mut waiting = Box::pin(b.engine.wait_for_access(&asked, "b", &[]));
    assert!(tokio::time::timeout(Duration::from_secs(30), &mut waiting).await.is_err());
    a.engine.register_transport("later", nodes.net.endpoint("later"));
    a.engine.accept_connections().await.unwrap();
    nodes.world.lock().unwrap().decided.insert((tree, b.key.public()), None);
    let decision = tokio::time::timeout(Duration::from_secs(120), waiting).await.unwrap();
    assert_eq!(decision, Some(Decision::Rejected));
    assert_eq!(b.count(tree), 0);
}

#[tokio::test(start_paused = true)]
async fn asking_ends_with_the_engine_and_does_not_keep_it() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.node(1).await, nodes.node(2).await);
    let tree = a.create(1);
    let asked = asked(&a, &b, tree);
    let (stopped, dropped) =
        (b.engine.wait_for_access(&asked, "b", &[]), b.engine.wait_for_access(&asked, "b", &[]));
    b.engine.stop_server().await;
    assert_eq!(stopped.await, None);
    drop(b);
    assert_eq!(dropped.await, None);
    assert_eq!(nodes.world.lock().unwrap().asks.len(), 0);
}

#[tokio::test]
async fn what_was_asked_is_remembered_without_the_invite_of_its_ticket() {
    let nodes = Nodes::new();
    let disk = Arc::new(Memory::new());
    let a = nodes.node(1).await;
    let b = nodes.node_over(2, disk.clone(), EngineConfig::default()).await;
    let tree = TreeId([4; 32]);
    let put = asked(&a, &b, tree);
    b.engine.asked().put(&put).unwrap();
    b.engine.asked().put(&AskedAccess { permission: Permission::Admin(3), ..put.clone() }).unwrap();
    let b = nodes.node_over(3, disk, EngineConfig::default()).await;
    let all = b.engine.asked().list().unwrap();
    let [found] = &all[..] else { panic!("one for each key and database, not {}", all.len()) };
    assert!(found.ticket.invite.is_none());
    assert_eq!(
        (found.ticket.db, found.ticket.key, &found.ticket.addresses),
        (tree, put.ticket.key, &put.ticket.addresses)
    );
    assert_eq!((found.key, found.permission, found.request), (put.key, Permission::Admin(3), put.request));
    assert_eq!((&found.name, &found.metadata, found.since_ms), (&put.name, &put.metadata, 5));
    b.engine.asked().remove(&tree, &put.key).unwrap();
    assert!(b.engine.asked().list().unwrap().is_empty());
}
