//! Connections between a listener and whoever accepts them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use eid_transport::limits::BACKLOG_MAX;
use eid_transport::memory::MemoryNet;
use eid_transport::testing::{block_on, both};
use eid_transport::{Arrivals, Connection, Full, Transport};

async fn connection() -> Arc<dyn Connection> {
    let net = MemoryNet::new();
    let (near, far) = (net.endpoint("near"), net.endpoint("far"));
    far.listen().await.expect("a fresh network");
    near.dial(&far.addresses()[0]).await.expect("it listens")
}

#[test]
fn connections_are_accepted_in_the_order_in_which_they_come() {
    block_on(async {
        let arrivals = Arrivals::default();
        let (first, second) = (connection().await, connection().await);
        let coming = async {
            arrivals.hand_on(first.clone()).expect("there is room");
            arrivals.hand_on(second.clone()).expect("there is room");
        };
        let accepting = async { [arrivals.next().await, arrivals.next().await] };
        let (accepted, ()) = both(accepting, coming).await;
        let bindings = accepted.map(|one| one.expect("it is open").binding());
        assert_eq!(bindings, [first.binding(), second.binding()]);
    });
}

#[test]
fn so_many_wait_and_no_more() {
    block_on(async {
        let (arrivals, one) = (Arrivals::default(), connection().await);
        for _ in 0..BACKLOG_MAX {
            arrivals.hand_on(one.clone()).expect("there is room");
        }
        assert_eq!(arrivals.hand_on(one.clone()), Err(Full));
        arrivals.next().await.expect("some wait");
        arrivals.hand_on(one).expect("one has been accepted");
    });
}

#[test]
fn after_a_shutdown_nobody_waits_and_nobody_comes_in() {
    block_on(async {
        let (arrivals, one) = (Arrivals::default(), connection().await);
        {
            let (mut accepting, mut ending) = (pin!(arrivals.next()), pin!(arrivals.until_shut()));
            let mut context = Context::from_waker(Waker::noop());
            assert!(accepting.as_mut().poll(&mut context).is_pending());
            assert!(ending.as_mut().poll(&mut context).is_pending());
            arrivals.shut();
            assert!(matches!(accepting.as_mut().poll(&mut context), Poll::Ready(None)));
            assert!(ending.as_mut().poll(&mut context).is_ready());
        }
        assert!(arrivals.is_shut());
        assert_eq!(arrivals.hand_on(one.clone()), Err(Full));
        assert!(arrivals.next().await.is_none());
        assert_eq!(Arc::strong_count(&one), 1, "nothing is kept");
    });
}

#[test]
fn a_shutdown_lets_go_of_those_who_wait() {
    block_on(async {
        let (arrivals, one) = (Arrivals::default(), connection().await);
        arrivals.hand_on(one.clone()).expect("there is room");
        arrivals.shut();
        assert_eq!(Arc::strong_count(&one), 1);
    });
}
