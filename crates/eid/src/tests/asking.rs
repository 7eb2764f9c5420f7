//! What a stranger is told who asks for access, byte by byte; and what becomes of what was asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eid_core::{Permission, SecretKey, Slot, TreeId};
use eid_proto::message::{Request, Response, Right};
use eid_proto::{Handshake, HandshakeOutput, Identity, Metadata, Text};
use eid_sync::{DatabaseTicket, Delivered, SyncEvent};
use eid_transport::memory::MemoryNet;
use eid_transport::{Connection, Link, Received, Transport as _};

use super::peers::Honest;
use crate::{DatabasePreferences, ErrorKind, Instance, RequestPolicy, SyncSettings};

/// A stranger's control link, made by hand.
async fn stranger(connection: &dyn Connection, device: SecretKey) -> Box<dyn Link> {
    let mut link = connection.open().await.expect("a link");
    let identity = Identity {
        nonce: device.public().0,
        device: Arc::new(device),
        name: "by hand".to_owned(),
        binding: connection.binding(),
        proven: None,
        features: 0,
    };
    let mut handshake = Handshake::client(identity, None, vec![]);
    loop {
        match handshake.poll() {
            HandshakeOutput::Send(frame) => link.send(frame).await.expect("it is heard"),
            HandshakeOutput::EndTurn => link.end_turn().await.expect("it is heard"),
            HandshakeOutput::NeedFrame => {
                handshake.handle_frame(&frame(&mut *link).await).expect("it belongs to a handshake");
            }
            HandshakeOutput::Established(_) => return link,
            HandshakeOutput::Failed | HandshakeOutput::Tell(_) => panic!("the handshake failed"),
        }
    }
}

async fn frame(link: &mut dyn Link) -> Bytes {
    let Ok(Received::Frame(frame)) = link.recv().await else { panic!("a frame was due") };
    assert_eq!(link.recv().await.expect("a turn"), Received::EndOfTurn);
    frame
}

/// What is answered, without the name of the request, and the name.
async fn asked(link: &mut dyn Link, tree: TreeId) -> (Vec<u8>, [u8; 16]) {
    let metadata = Metadata::new(BTreeMap::new()).expect("it is short");
    let request = Request::Ask { tree: tree.0, wanted: Right::Read, name: Text::new("eve"), metadata };
    link.send(request.encode()).await.expect("it is heard");
    link.end_turn().await.expect("it is heard");
    let frame = frame(link).await;
    let Ok(Response::Pending { request }) = Response::decode(&frame) else { panic!("{frame:?}") };
    let at = frame.windows(16).position(|bytes| bytes == request).expect("it is in there");
    ([&frame[..at], &frame[at + 16..]].concat(), request)
}

#[tokio::test]
async fn a_strangers_answers_are_equal_for_absent_closed_and_forbidden() {
    let net = MemoryNet::new();
    let a = Honest::new(&net, "a").await;
    let forbidden = a.node.create_database("forbidden").await.expect("a database");
    let closed = a.node.create_database("closed").await.expect("a database");
    closed.set_request_policy(RequestPolicy::Closed).await.expect("a policy");
    let off = a.node.create_database("off").await.expect("a database");
    let sync = SyncSettings { sync_enabled: false, ..SyncSettings::default() };
    let wished = DatabasePreferences { database: off.id(), sync };
    a.node.device_user().set_preferences(&wished).await.expect("it is a wish");
    let connection = net.endpoint("stranger").dial(&a.address()).await.expect("a connection");
    let mut link = stranger(&*connection, SecretKey::from_seed([9; 32])).await;
    let mut answers = Vec::new();
    for tree in [forbidden.id(), closed.id(), TreeId([9; 32]), off.id()] {
        let first = asked(&mut *link, tree).await;
        assert_eq!(asked(&mut *link, tree).await, first, "it is the same each time");
        answers.push(first);
    }
    assert_eq!(answers[0].0, answers[1].0);
    assert_eq!(answers[0].0, answers[2].0);
    assert_eq!(answers[0].0, answers[3].0);
    assert!(answers[0].1 != answers[1].1 && answers[1].1 != answers[2].1 && answers[2].1 != answers[3].1);
    let requests = a.node.requests().expect("they can be read");
    assert_eq!(requests.len(), 1, "of what is closed, absent or off nothing is remembered");
    assert_eq!((requests[0].tree, requests[0].id.0), (forbidden.id(), answers[0].1));
    // Another key has another name, and the policy does not show in it.
    let connection = net.endpoint("another").dial(&a.address()).await.expect("a connection");
    let mut other = stranger(&*connection, SecretKey::from_seed([8; 32])).await;
    assert_ne!(asked(&mut *other, forbidden.id()).await.1, answers[0].1);
    closed.set_request_policy(RequestPolicy::Manual).await.expect("a policy");
    assert_eq!(asked(&mut *link, closed.id()).await, answers[1]);
}

/// A ticket that gives nothing, for what an instance serves in memory.
fn ticket(a: &Honest, db: TreeId) -> DatabaseTicket {
    DatabaseTicket {
        db,
        key: a.node.device(),
        addresses: vec![a.address()],
        others: Vec::new(),
        invite: None,
    }
}

async fn answered(node: &Instance, work: impl Future<Output = ()>) -> Option<Permission> {
    let mut events = node.events();
    work.await;
    let answered = async {
        loop {
            if let Some(Delivered::Event(SyncEvent::Answered { permission, .. })) = events.recv().await {
                return permission;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.expect("it completes by itself")
}

#[tokio::test]
async fn a_join_at_a_server_that_takes_connections_and_says_nothing_ends_in_time_and_the_next_one_is_no_worse()
 {
    let net = MemoryNet::new();
    let (a, b) = (Honest::new(&net, "a").await, Honest::new(&net, "b").await);
    let there = a.node.create_database("notes").await.expect("a database");
    there.grant(Slot::Key(b.node.device()), Permission::Write).await.expect("the maker is an admin");
    let silent = net.endpoint("silent");
    silent.listen().await.expect("it listens");
    let ticket = ticket(&a, there.id());
    let elsewhere = DatabaseTicket { addresses: silent.addresses(), ..ticket.clone() };
    let joining = b.node.join(&elsewhere).within(Duration::from_millis(300));
    let error = joining.await.expect_err("nobody answers");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::TimedOut, true), "{error}");
    assert!(b.node.databases().expect("they can be read").is_empty());
    let here = b.node.join(&ticket).await.expect("it may write");
    assert_eq!(here.entries().expect("it is here"), there.entries().expect("it is here"));
}

#[tokio::test]
async fn what_was_asked_completes_by_itself_and_a_user_asks_for_his_own_key() {
    let net = MemoryNet::new();
    let (a, b) = (Honest::new(&net, "a").await, Honest::new(&net, "b").await);
    let there = a.node.create_database("notes").await.expect("a database");
    let ticket = ticket(&a, there.id());
    let pending = b.node.join(&ticket).asking(Permission::Write).await.expect_err("nobody has approved");
    assert_eq!(pending.kind(), ErrorKind::Pending);
    let request = a.node.requests().expect("they can be read").remove(0);
    assert_eq!((pending.request_id(), request.key), (Some(request.id), b.node.device()));
    let granted = answered(&b.node, async {
        a.node.approve_request(request.id, None).await.expect("it is approved");
    });
    assert_eq!(granted.await, Some(Permission::Write));
    let here = b.node.database("notes").expect("it can be read").expect("it is here");
    here.doc("profile").set("name", "Ben").await.expect("it may write");
    assert!(b.node.pending_joins().expect("they can be read").is_empty());

    let ada = b.node.create_user("ada", None).await.expect("a user");
    let second = a.node.create_database("more").await.expect("a database");
    let ticket = self::ticket(&a, second.id());
    ada.join(&ticket).asking(Permission::Write).await.expect_err("nobody has approved");
    let request = a.node.requests().expect("they can be read").pop().expect("a request");
    assert_eq!(request.key, ada.key().expect("she is logged in"));
    a.node.approve_request(request.id, None).await.expect("it is approved");
    let done = ada.complete_joins(Duration::from_secs(60)).await.expect("it can be asked");
    let [(_, Ok(joined))] = &done[..] else { panic!("{done:?}") };
    joined.database.doc("profile").set("name", "Ada").await.expect("she may write");
    assert_eq!(second.permission(&[b.node.device()]).expect("rights"), None, "exactly that key");
    a.node.clone().close().await.expect("it ends");
}

#[tokio::test]
async fn what_was_rejected_is_told_and_is_not_asked_again() {
    let net = MemoryNet::new();
    let (a, b) = (Honest::new(&net, "a").await, Honest::new(&net, "b").await);
    let there = a.node.create_database("notes").await.expect("a database");
    b.node.join(&ticket(&a, there.id())).await.expect_err("nobody has approved");
    let id = a.node.requests().expect("they can be read").remove(0).id;
    let granted = answered(&b.node, async {
        a.node.reject_request(id).await.expect("it is rejected");
    });
    assert_eq!(granted.await, None);
    assert!(b.node.pending_joins().expect("they can be read").is_empty());
    assert!(b.node.databases().expect("they can be read").is_empty());
}
