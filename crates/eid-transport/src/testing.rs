//! The conformance suite of transports: what every one of them has to show before it may carry a session.
//!
//! A transport says with [`Harness`] how a pair of it is set up, and [`transport_conformance!`](crate::transport_conformance)
//! makes one test of each function in [`suite`].

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::{Address, BoxFuture, Transport};

/// Two transports that can reach each other, and means to break what is between them.
pub trait Harness: Send + Sync {
    /// The side that dials.
    fn dialler(&self) -> Arc<dyn Transport>;
    /// The side that listens already.
    fn listener(&self) -> Arc<dyn Transport>;
    /// Where the dialler reaches the listener.
    fn address(&self) -> Address;
    /// A well-formed address where nobody listens.
    fn nobody(&self) -> Address;
    /// Breaks, on the network, every connection that exists at this moment.
    fn cut(&self) -> BoxFuture<'_, ()>;
}

/// Runs a future that waits for nothing outside this thread.
///
/// # Panics
/// When the future waits and nothing has woken it, which nothing ever will.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    while flag.0.swap(false, Ordering::SeqCst) {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
    }
    panic!("the future waits for something that nobody will do");
}

/// Runs two futures side by side until both are done.
pub async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|context| {
        if of_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(context)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(context)
        {
            of_b = Some(output);
        }
        if of_a.is_some() && of_b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (of_a.expect("both are done"), of_b.expect("both are done"))
}

/// The facts that hold for every transport.
pub mod suite {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use bytes::Bytes;

    use super::{Harness, both};
    use crate::limits::{ASIDE_BYTES_MAX, FRAME_BYTES_MAX, LINKS_MAX, OPENER_TURN_BYTES_MAX};
    use crate::{Connection, DialError, Link, LinkBytes, LinkError, Received};

    async fn connect(harness: &dyn Harness) -> (Arc<dyn Connection>, Arc<dyn Connection>) {
        let (dialler, listener, address) = (harness.dialler(), harness.listener(), harness.address());
        let near = async {
            let near = dialler.dial(&address).await.expect("the listener listens");
            // A transport may finish its handshake with the first turn of the first link.
            let mut link = near.open().await.expect("a fresh connection opens links");
            link.end_turn().await.expect("a turn may be empty");
            assert_eq!(link.recv().await.expect("an answer"), Received::EndOfTurn);
            near
        };
        let far = async {
            let far = listener.accept().await.expect("somebody has dialled");
            let mut link = far.accept().await.expect("somebody has opened a link");
            assert_eq!(link.recv().await.expect("a turn"), Received::EndOfTurn);
            link.end_turn().await.expect("a turn may be empty");
            far
        };
        both(near, far).await
    }

    async fn linked(near: &dyn Connection, far: &dyn Connection) -> (Box<dyn Link>, Box<dyn Link>) {
        let opened = async {
            let mut link = near.open().await.expect("the connection is open");
            link.end_turn().await.expect("the link is open");
            assert_eq!(link.recv().await.expect("an answer"), Received::EndOfTurn);
            link
        };
        let accepted = async {
            let mut link = far.accept().await.expect("a link was opened");
            assert_eq!(link.recv().await.expect("a turn"), Received::EndOfTurn);
            link.end_turn().await.expect("the link is open");
            link
        };
        both(opened, accepted).await
    }

    async fn turn(link: &mut dyn Link, frames: &[Bytes]) {
        for frame in frames {
            link.send(frame.clone()).await.expect("the link is open");
        }
        link.end_turn().await.expect("the link is open");
    }

    async fn turn_of(link: &mut dyn Link) -> Vec<Bytes> {
        let mut frames = Vec::new();
        loop {
            match link.recv().await.expect("the link is open") {
                Received::Frame(frame) => frames.push(frame),
                Received::Aside(_) => panic!("said aside in its own turn"),
                Received::EndOfTurn => return frames,
                Received::Closed => panic!("closed in the middle of a turn"),
            }
        }
    }

    /// A turn, and its answer, and again; each side receives what the other sent.
    pub async fn turns_alternate_and_frames_keep_their_order(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        for round in 0..3_u8 {
            let sent: Vec<Bytes> = (0..20).map(|n| Bytes::from(vec![round, n, 1])).collect();
            let answer: Vec<Bytes> = (0..20).map(|n| Bytes::from(vec![round, n, 2])).collect();
            let ((), received) = both(turn(&mut *opener, &sent), turn_of(&mut *accepter)).await;
            assert_eq!(received, sent);
            let ((), received) = both(turn(&mut *accepter, &answer), turn_of(&mut *opener)).await;
            assert_eq!(received, answer);
        }
        assert_eq!(opener.bytes(), LinkBytes { sent: 180, received: 180 });
        assert_eq!(accepter.bytes(), LinkBytes { sent: 180, received: 180 });
    }

    /// Many small frames, empty ones among them, arrive as they were sent.
    pub async fn a_turn_carries_many_frames(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let sent: Vec<Bytes> =
            (0..5000_usize).map(|n| Bytes::from(n.to_be_bytes()[8 - n % 9..].to_vec())).collect();
        let ((), received) = both(turn(&mut *opener, &sent), turn_of(&mut *accepter)).await;
        assert!(received == sent);
        let ((), received) = both(turn(&mut *accepter, &sent), turn_of(&mut *opener)).await;
        assert!(received == sent);
    }

    /// The greatest frame arrives whole, in both directions, several in a turn.
    pub async fn the_greatest_frames_arrive_whole(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let frame = |salt: usize| {
            Bytes::from((0..FRAME_BYTES_MAX).map(|n| (n * 31 + salt) as u8).collect::<Vec<u8>>())
        };
        let sent = [frame(1), Bytes::new(), frame(2), frame(3)];
        let ((), received) = both(turn(&mut *opener, &sent), turn_of(&mut *accepter)).await;
        assert!(received == sent);
        let ((), received) = both(turn(&mut *accepter, &sent), turn_of(&mut *opener)).await;
        assert!(received == sent);
    }

    /// A turn without frames is a turn.
    pub async fn a_turn_may_be_empty(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let ((), received) = both(turn(&mut *opener, &[]), turn_of(&mut *accepter)).await;
        assert_eq!(received, Vec::<Bytes>::new());
        let ((), received) = both(turn(&mut *accepter, &[]), turn_of(&mut *opener)).await;
        assert_eq!(received, Vec::<Bytes>::new());
    }

    /// One byte too many is refused, nothing of it is sent, and the link goes on.
    pub async fn a_frame_that_is_too_large_is_refused(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let large = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
        let small = [Bytes::from_static(b"small")];
        assert!(matches!(opener.send(large.clone()).await, Err(LinkError::TooLarge)));
        let ((), received) = both(turn(&mut *opener, &small), turn_of(&mut *accepter)).await;
        assert_eq!(received, small);
        assert!(matches!(accepter.send(large).await, Err(LinkError::TooLarge)));
        let ((), received) = both(turn(&mut *accepter, &small), turn_of(&mut *opener)).await;
        assert_eq!(received, small);
    }

    /// A turn of the opener that would exceed its bound is refused at the frame that exceeds it.
    pub async fn a_turn_of_the_opener_is_bounded(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let frame = Bytes::from(vec![7; FRAME_BYTES_MAX]);
        let fits = OPENER_TURN_BYTES_MAX / (FRAME_BYTES_MAX + 4);
        let sending = async {
            for _ in 0..fits {
                opener.send(frame.clone()).await.expect("the turn has room");
            }
            assert!(matches!(opener.send(frame.clone()).await, Err(LinkError::TooLarge)));
            opener.end_turn().await.expect("the link is open");
        };
        let ((), received) = both(sending, turn_of(&mut *accepter)).await;
        assert_eq!(received.len(), fits);
    }

    /// Sending in the other side's turn and receiving in one's own are errors that change nothing.
    pub async fn use_out_of_turn_is_refused(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        nothing_comes(&mut *opener).await;
        assert!(matches!(accepter.send(Bytes::new()).await, Err(LinkError::OutOfTurn)));
        assert!(matches!(accepter.end_turn().await, Err(LinkError::OutOfTurn)));
        let frame = [Bytes::from_static(b"goes on")];
        let ((), received) = both(turn(&mut *opener, &frame), turn_of(&mut *accepter)).await;
        assert_eq!(received, frame);
        assert!(matches!(opener.send(Bytes::new()).await, Err(LinkError::OutOfTurn)));
        nothing_comes(&mut *accepter).await;
        assert!(matches!(accepter.send_aside(Bytes::new()).await, Err(LinkError::OutOfTurn)));
    }

    /// In one's own turn nothing is received but what is said aside.
    async fn nothing_comes(link: &mut dyn Link) {
        let duplex = link.is_duplex();
        let mut recv = link.recv();
        let polled = poll_fn(|context| Poll::Ready(recv.as_mut().poll(context))).await;
        match polled {
            Poll::Pending => assert!(duplex),
            Poll::Ready(ended) => assert!(!duplex && matches!(ended, Err(LinkError::OutOfTurn)), "{ended:?}"),
        }
    }

    /// Over a duplex link each side is heard in the turn of the other, and each word lets a turn of the opener go on;
    /// over another link nothing is said aside.
    pub async fn what_is_said_aside_is_heard_in_the_turn_of_the_other(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        assert_eq!(opener.is_duplex(), accepter.is_duplex());
        let word = Bytes::from_static(b"go on");
        if !opener.is_duplex() {
            assert!(matches!(accepter.send_aside(word).await, Err(LinkError::OutOfTurn)));
            return;
        }
        let long = Bytes::from(vec![1; ASIDE_BYTES_MAX + 1]);
        assert!(matches!(accepter.send_aside(long).await, Err(LinkError::TooLarge)));
        let frame = Bytes::from(vec![7; FRAME_BYTES_MAX]);
        let fits = OPENER_TURN_BYTES_MAX / (FRAME_BYTES_MAX + 4);
        let sending = async {
            for _ in 0..3 {
                for _ in 0..fits {
                    opener.send(frame.clone()).await.expect("the turn has room");
                }
                assert_eq!(opener.recv().await.expect("a word"), Received::Aside(word.clone()));
            }
            opener.end_turn().await.expect("the link is open");
        };
        let receiving = async {
            for _ in 0..3 {
                for _ in 0..fits {
                    assert_eq!(accepter.recv().await.expect("a frame"), Received::Frame(frame.clone()));
                }
                accepter.send_aside(word.clone()).await.expect("the link is open");
            }
            assert_eq!(accepter.recv().await.expect("an end"), Received::EndOfTurn);
        };
        both(sending, receiving).await;
        // What comes too late is still heard as what it is.
        let sending = async {
            accepter.send(frame.clone()).await.expect("the link is open");
            accepter.end_turn().await.expect("the link is open");
            let heard = accepter.recv().await.expect("a word");
            assert_eq!(
                (heard, turn_of(&mut *accepter).await),
                (Received::Aside(word.clone()), vec![word.clone()])
            );
        };
        let receiving = async {
            assert_eq!(opener.recv().await.expect("a frame"), Received::Frame(frame.clone()));
            opener.send_aside(word.clone()).await.expect("the link is open");
            assert_eq!(opener.recv().await.expect("an end"), Received::EndOfTurn);
            turn(&mut *opener, std::slice::from_ref(&word)).await;
        };
        both(sending, receiving).await;
    }

    /// Links of one connection do not wait for one another and do not mix.
    pub async fn links_of_one_connection_are_apart(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let mut pairs = Vec::new();
        for _ in 0..5 {
            pairs.push(linked(&*near, &*far).await);
        }
        // The first turns are sent on all links before any is received, and received in the opposite order.
        for (n, (opener, _)) in pairs.iter_mut().enumerate() {
            turn(&mut **opener, &[Bytes::from(vec![n as u8])]).await;
        }
        for (n, (_, accepter)) in pairs.iter_mut().enumerate().rev() {
            assert_eq!(turn_of(&mut **accepter).await, [vec![n as u8]]);
            turn(&mut **accepter, &[Bytes::from(vec![n as u8, 1])]).await;
        }
        for (n, (opener, _)) in pairs.iter_mut().enumerate() {
            assert_eq!(turn_of(&mut **opener).await, [vec![n as u8, 1]]);
        }
    }

    /// There is a bound to the links of one connection, and a link that has ended makes room.
    pub async fn the_number_of_links_is_bounded(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let mut pairs = Vec::new();
        let refused = loop {
            match near.open().await {
                Ok(link) => pairs.push(link),
                Err(error) => break error,
            }
            assert!(pairs.len() <= LINKS_MAX);
        };
        assert!(matches!(refused, LinkError::TooManyLinks));
        assert_eq!(pairs.len(), LINKS_MAX);
        let mut first = pairs.swap_remove(0);
        let (answer, ()) = both(
            async {
                first.end_turn().await.expect("the link is open");
                first.recv().await
            },
            async { drop(far.accept().await.expect("a link was opened")) },
        )
        .await;
        assert!(answer.is_ok(), "{answer:?}");
        drop(first);
        near.open().await.expect("there is room again");
    }

    /// A link that is dropped between turns is seen as closed, by both kinds of sides.
    pub async fn a_dropped_link_is_seen_as_closed(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (opener, mut accepter) = linked(&*near, &*far).await;
        drop(opener);
        assert_eq!(accepter.recv().await.expect("no error"), Received::Closed);

        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let (seen, ()) = both(
            async {
                opener.end_turn().await.expect("the link is open");
                opener.recv().await
            },
            async {
                assert_eq!(accepter.recv().await.expect("a turn"), Received::EndOfTurn);
                drop(accepter);
            },
        )
        .await;
        assert_eq!(seen.expect("no error"), Received::Closed);
    }

    /// A link that is dropped in the middle of a turn is a cut, never a complete turn.
    pub async fn a_link_dropped_in_its_turn_is_a_cut(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        opener.send(Bytes::from_static(b"half")).await.expect("the link is open");
        drop(opener);
        assert!(matches!(until_end(&mut *accepter).await, Err(LinkError::Cut(_))));

        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let (seen, ()) = both(
            async {
                opener.end_turn().await.expect("the link is open");
                until_end(&mut *opener).await
            },
            async {
                assert_eq!(accepter.recv().await.expect("a turn"), Received::EndOfTurn);
                accepter.send(Bytes::from_static(b"half")).await.expect("the link is open");
                drop(accepter);
            },
        )
        .await;
        assert!(matches!(seen, Err(LinkError::Cut(_))), "{seen:?}");
    }

    async fn until_end(link: &mut dyn Link) -> Result<Received, LinkError> {
        loop {
            match link.recv().await {
                Ok(Received::Frame(_)) => {}
                other => return other,
            }
        }
    }

    /// Closing a connection is seen on the other side, by its links and by whoever waits for links.
    pub async fn a_closed_connection_is_seen_by_the_other_side(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (_opener, mut accepter) = linked(&*near, &*far).await;
        let ((seen, accepted), ()) = both(both(accepter.recv(), far.accept()), near.close()).await;
        assert_eq!(seen.expect("no error"), Received::Closed);
        assert!(accepted.is_none());
        assert!(near.accept().await.is_none());
        assert!(near.open().await.is_err());

        let (near, far) = connect(harness).await;
        let (mut opener, _accepter) = linked(&*near, &*far).await;
        let seen = both(
            async {
                opener.end_turn().await.expect("the link is open");
                opener.recv().await
            },
            async {
                far.close().await;
                assert!(far.accept().await.is_none());
            },
        )
        .await
        .0;
        assert!(matches!(seen, Ok(Received::Closed) | Err(LinkError::Closed | LinkError::Gone)), "{seen:?}");
    }

    /// Dropping every handle of a connection closes it.
    pub async fn a_dropped_connection_is_seen_by_the_other_side(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        drop(near);
        assert!(far.accept().await.is_none());
    }

    /// A network that breaks in a turn is an error on the side that receives, never the end of the turn.
    pub async fn a_cut_is_an_error(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let (mut opener, mut accepter) = linked(&*near, &*far).await;
        let ((), received) = both(turn(&mut *opener, &[]), turn_of(&mut *accepter)).await;
        assert!(received.is_empty());
        accepter.send(Bytes::from_static(b"arrives")).await.expect("the link is open");
        let first = opener.recv().await.expect("sent before the cut");
        assert_eq!(first, Received::Frame(Bytes::from_static(b"arrives")));
        let (seen, ()) = both(opener.recv(), harness.cut()).await;
        let error = seen.expect_err("the network is broken");
        assert!(matches!(error, LinkError::Cut(_)), "{error:?}");
        assert!(error.is_transient());
    }

    /// Both sides of a connection know the same binding, and no other connection has it.
    pub async fn a_binding_is_shared_and_unique(harness: &dyn Harness) {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let (near, far) = connect(harness).await;
            assert_eq!(near.binding(), far.binding());
            assert!(seen.insert(near.binding()), "two connections have one binding");
        }
    }

    /// Dialling where nobody listens fails, says so, and may be tried again.
    pub async fn dialling_nobody_fails(harness: &dyn Harness) {
        let error = harness.dialler().dial(&harness.nobody()).await.expect_err("nobody listens there");
        assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
        assert!(error.is_transient());
        assert!(std::error::Error::source(&error).is_some());
    }

    /// An address of another scheme is refused, not tried.
    pub async fn a_foreign_scheme_is_refused(harness: &dyn Harness) {
        let foreign = "nowhere:x".parse().expect("an address of an unknown scheme");
        assert!(matches!(harness.dialler().dial(&foreign).await, Err(DialError::Unsupported(_))));
    }

    /// The listener says where it is reached, in its own scheme, and the dialler serves that scheme.
    pub async fn addresses_are_reported(harness: &dyn Harness) {
        let addresses = harness.listener().addresses();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.scheme() == harness.dialler().scheme()));
        harness.listener().listen().await.expect("listening twice is listening once");
        assert_eq!(harness.listener().addresses(), addresses);
    }

    /// Shutdown ends whoever waits to accept, closes what is open, and refuses from then on.
    pub async fn shutdown_ends_everything(harness: &dyn Harness) {
        let (near, far) = connect(harness).await;
        let listener = harness.listener();
        let (accepted, ()) = both(listener.accept(), listener.shutdown()).await;
        assert!(accepted.is_none());
        assert!(listener.accept().await.is_none());
        assert!(far.accept().await.is_none());
        assert!(listener.addresses().is_empty());
        assert!(harness.dialler().dial(&harness.address()).await.is_err());
        assert!(listener.listen().await.is_err());
        if let Ok(mut link) = near.open().await {
            let first = link.end_turn().await;
            assert!(
                first.is_err() || !matches!(link.recv().await, Ok(Received::Frame(_) | Received::EndOfTurn))
            );
        }
        harness.dialler().shutdown().await;
        assert!(matches!(harness.dialler().dial(&harness.address()).await, Err(DialError::ShutDown)));
    }
}

/// Makes a test of every fact in [`suite`]. The first argument runs a future to its end (and fails when that takes
/// too long), the second makes a [`Harness`] in a future.
///
/// ```
/// mod memory {
///     # use std::sync::Arc;
///     # use eid_transport::{Address, BoxFuture, Transport, memory::*, testing::Harness};
///     # struct Pair(MemoryNet, Arc<MemoryTransport>, Arc<MemoryTransport>);
///     # impl Harness for Pair {
///     #     fn dialler(&self) -> Arc<dyn Transport> { self.1.clone() }
///     #     fn listener(&self) -> Arc<dyn Transport> { self.2.clone() }
///     #     fn address(&self) -> Address { "memory:b".parse().unwrap() }
///     #     fn nobody(&self) -> Address { "memory:c".parse().unwrap() }
///     #     fn cut(&self) -> BoxFuture<'_, ()> { Box::pin(async { self.0.cut_all() }) }
///     # }
///     # async fn pair() -> Pair { unimplemented!() }
///     eid_transport::transport_conformance!(eid_transport::testing::block_on, pair);
/// }
/// ```
#[macro_export]
macro_rules! transport_conformance {
    ($run:path, $harness:path) => {
        $crate::transport_conformance! { @each $run, $harness,
            turns_alternate_and_frames_keep_their_order,
            a_turn_carries_many_frames,
            the_greatest_frames_arrive_whole,
            a_turn_may_be_empty,
            a_frame_that_is_too_large_is_refused,
            a_turn_of_the_opener_is_bounded,
            use_out_of_turn_is_refused,
            what_is_said_aside_is_heard_in_the_turn_of_the_other,
            links_of_one_connection_are_apart,
            the_number_of_links_is_bounded,
            a_dropped_link_is_seen_as_closed,
            a_link_dropped_in_its_turn_is_a_cut,
            a_closed_connection_is_seen_by_the_other_side,
            a_dropped_connection_is_seen_by_the_other_side,
            a_cut_is_an_error,
            a_binding_is_shared_and_unique,
            dialling_nobody_fails,
            a_foreign_scheme_is_refused,
            addresses_are_reported,
            shutdown_ends_everything,
        }
    };
    (@each $run:path, $harness:path, $($fact:ident,)*) => {
        $(
            #[test]
            fn $fact() {
                $run(async {
                    let harness = $harness().await;
                    $crate::testing::suite::$fact(&harness).await;
                });
            }
        )*
    };
}
