//! What a peer does when a person does it by hand.
#![expect(unreachable_pub, reason = "a harness of some test files")]

use std::sync::Arc;

use eid_core::dag::{Dag, Epoch, Logged, Named, Replica, Seq};
use eid_core::sketch::Sketch;
use eid_core::{EntryId, ReadError, SecretKey, TreeId};
use eid_proto::{
    Established, FEATURE_LIVE, Handshake, HandshakeOutput, Identity, Known, Output, Rights, Session,
};
use eid_transport::{Connection, Link, Received};

/// Does the client's part of a handshake by hand.
pub async fn greet(connection: &dyn Connection, n: u8) -> Box<dyn Link> {
    greet_with(connection, n, vec![]).await
}

/// The same with further keys.
pub async fn greet_with(connection: &dyn Connection, n: u8, further: Vec<Arc<SecretKey>>) -> Box<dyn Link> {
    greet_as(connection, SecretKey::from_seed([n; 32]), further).await
}

/// The same of any device.
pub async fn greet_as(
    connection: &dyn Connection,
    device: SecretKey,
    further: Vec<Arc<SecretKey>>,
) -> Box<dyn Link> {
    greeted(connection, device, further).await.0
}

/// The same, with what is told.
pub async fn greeted(
    connection: &dyn Connection,
    device: SecretKey,
    further: Vec<Arc<SecretKey>>,
) -> (Box<dyn Link>, Established) {
    let mut link = connection.open().await.unwrap();
    let identity = Identity {
        nonce: device.public().0,
        device: Arc::new(device),
        name: "by hand".to_owned(),
        binding: connection.binding(),
        proven: None,
        features: FEATURE_LIVE,
    };
    let mut handshake = Handshake::client(identity, None, further);
    loop {
        match handshake.poll() {
            HandshakeOutput::Send(frame) => link.send(frame).await.unwrap(),
            HandshakeOutput::EndTurn => link.end_turn().await.unwrap(),
            HandshakeOutput::NeedFrame => {
                let Received::Frame(frame) = link.recv().await.unwrap() else { panic!("a frame was due") };
                assert_eq!(link.recv().await.unwrap(), Received::EndOfTurn);
                handshake.handle_frame(&frame).unwrap();
            }
            HandshakeOutput::Established(established) => return (link, established),
            HandshakeOutput::Failed | HandshakeOutput::Tell(_) => panic!("the handshake failed"),
        }
    }
}

/// Says an opening, and lets the other side speak.
pub async fn open(link: &mut dyn Link, tree: TreeId, epoch: Epoch) {
    let mut session = Session::initiator(tree, Known::default());
    loop {
        match session.poll(&Empty(epoch), Rights::default()).unwrap() {
            Output::Send(frame) => link.send(frame).await.unwrap(),
            Output::EndTurn => return link.end_turn().await.unwrap(),
            _ => {}
        }
    }
}

/// A replica without entries.
pub struct Empty(pub Epoch);

impl Dag for Empty {
    fn parents(&self, _: Seq, _: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        Ok(vec![])
    }
}

impl Replica for Empty {
    fn epoch(&self) -> Epoch {
        self.0
    }
    fn end(&self) -> Seq {
        Seq(0)
    }
    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(vec![])
    }
    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(vec![None; ids.len()])
    }
    fn find_prefixes(&self, prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(vec![None; prefixes.len()])
    }
    fn named(&self, _: Seq, _: usize) -> Result<Vec<Named>, ReadError> {
        Ok(vec![])
    }
    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        Ok(None)
    }
    fn log(&self, _: std::ops::Range<Seq>, _: usize) -> Result<Vec<Logged>, ReadError> {
        Ok(vec![])
    }
}
