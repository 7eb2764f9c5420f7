//! Two versions of the protocol that meet over QUIC: each side learns which ones the other speaks.

use std::sync::Arc;
use std::time::Duration;

use eid::{ErrorKind, Instance, Quic, SecretKey};
use eid_proto::message::{Greeting, Hello, RefusalCode, Versions};
use eid_quic::{QuicConfig, QuicTransport};
use eid_transport::{Received, Transport};

const LATER: Versions = Versions { oldest: 7, newest: 9 };

fn hello() -> Greeting {
    Greeting::Hello(Hello { versions: LATER, features: 0, nonce: [1; 32] })
}

#[tokio::test]
async fn a_client_of_another_version_is_told_which_ones_there_are() {
    let node = Instance::builder().memory().open().await.unwrap();
    let address = node.listen(Quic::on("127.0.0.1:0")).await.unwrap().remove(0);
    let client = QuicTransport::new(QuicConfig::new(Arc::new(SecretKey::from_seed([1; 32]))));
    let connection = client.dial_expecting(&address, node.device()).await.unwrap();
    let mut link = connection.open().await.unwrap();
    link.send(hello().encode()).await.unwrap();
    link.end_turn().await.unwrap();
    let Received::Frame(frame) = link.recv().await.unwrap() else { panic!("no answer") };
    let Greeting::Refused(RefusalCode::Version(theirs)) = Greeting::decode(&frame).unwrap() else {
        panic!("no refusal")
    };
    assert_eq!(theirs, eid_proto::VERSIONS);
    node.close().await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_version_is_named_with_both_sides_versions() {
    let server =
        QuicTransport::new(QuicConfig::listening(Arc::new(SecretKey::from_seed([2; 32])), "127.0.0.1:0"));
    server.listen().await.unwrap();
    let address = server.addresses().remove(0);
    let refusing = async {
        let connection = server.accept().await.unwrap();
        let mut link = connection.accept().await.unwrap();
        while link.recv().await.unwrap() != Received::EndOfTurn {}
        link.send(Greeting::Refused(RefusalCode::Version(LATER)).encode()).await.unwrap();
        link.end_turn().await.unwrap();
        drop(link);
        connection.close().await;
    };
    let node = Instance::builder().memory().open().await.unwrap();
    let meeting = node.sync_with(&address, None, Duration::from_secs(20));
    let (error, ()) = tokio::join!(meeting, refusing);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    let ours = eid_proto::VERSIONS;
    let expected = format!("this side speaks {} to {}, the other 7 to 9", ours.oldest, ours.newest);
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains(&expected), "{cause}");
    tokio::time::timeout(Duration::from_secs(10), node.close()).await.unwrap().unwrap();
}
