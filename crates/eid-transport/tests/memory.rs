//! The memory transport keeps the contract of transports.

use std::sync::Arc;

use eid_transport::memory::{MemoryNet, MemoryTransport};
use eid_transport::testing::{Harness, block_on};
use eid_transport::{Address, BoxFuture, Connection, LinkError, ListenError, Received, Transport};

struct Pair {
    net: MemoryNet,
    alice: Arc<MemoryTransport>,
    bob: Arc<MemoryTransport>,
}

impl Harness for Pair {
    fn dialler(&self) -> Arc<dyn Transport> {
        self.alice.clone()
    }
    fn listener(&self) -> Arc<dyn Transport> {
        self.bob.clone()
    }
    fn address(&self) -> Address {
        "memory:bob".parse().expect("an address")
    }
    fn nobody(&self) -> Address {
        "memory:carol".parse().expect("an address")
    }
    fn cut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.net.cut_all() })
    }
}

async fn pair() -> Pair {
    let net = MemoryNet::new();
    let (alice, bob) = (net.endpoint("alice"), net.endpoint("bob"));
    bob.listen().await.expect("the name is free");
    Pair { net, alice, bob }
}

mod conformance {
    use super::{block_on, pair};

    eid_transport::transport_conformance!(block_on, pair);
}

#[test]
fn a_name_has_one_listener() {
    block_on(async {
        let pair = pair().await;
        let other = pair.net.endpoint("bob");
        assert!(matches!(other.listen().await, Err(ListenError::InUse { .. })));
        assert!(other.addresses().is_empty());
        pair.bob.shutdown().await;
        other.listen().await.expect("the name is free again");
    });
}

#[test]
fn a_cut_between_two_leaves_the_third_alone() {
    block_on(async {
        let pair = pair().await;
        let carol = pair.net.endpoint("carol");
        let of_alice = pair.alice.dial(&pair.address()).await.expect("bob listens");
        let of_carol = carol.dial(&pair.address()).await.expect("bob listens");
        pair.net.cut("bob", "alice");
        assert!(matches!(of_alice.open().await, Err(LinkError::Cut(_))));
        of_carol.open().await.expect("nobody has cut this one");
    });
}

#[test]
fn a_sender_waits_while_the_buffer_is_full_and_goes_on_when_it_drains() {
    use std::future::poll_fn;
    use std::task::Poll;

    block_on(async {
        let pair = pair().await;
        let near: Arc<dyn Connection> = pair.alice.dial(&pair.address()).await.expect("bob listens");
        let far = pair.bob.accept().await.expect("alice has dialled");
        let mut opener = near.open().await.expect("open");
        let mut accepter = far.accept().await.expect("opened");
        let frame = bytes::Bytes::from(vec![1; 1024 * 1024]);
        for _ in 0..3 {
            opener.send(frame.clone()).await.expect("there is room");
        }
        let mut fourth = opener.send(frame.clone());
        poll_fn(|context| {
            assert!(fourth.as_mut().poll(context).is_pending(), "the buffer is full");
            Poll::Ready(())
        })
        .await;
        assert_eq!(accepter.recv().await.expect("a frame"), Received::Frame(frame.clone()));
        fourth.await.expect("there is room again");
    });
}
