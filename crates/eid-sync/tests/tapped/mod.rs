//! A transport that counts what goes over it, and holds or breaks the session of one database.
#![expect(unreachable_pub, reason = "a harness of some test files")]

use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use eid_core::{PublicKey, TreeId};
use eid_proto::message::{LiveMessage, Message};
use eid_transport::{
    Address, BoxFuture, Connection, DialError, Link, LinkBytes, LinkError, ListenError, Received, Transport,
};

use tokio::time::Instant;

use crate::nodes::{Node, Nodes};

/// What has gone over a transport, and what is to become of it.
#[derive(Debug, Default)]
pub struct Tap {
    /// Links that were to be opened, whether they could be or not.
    pub opened: AtomicUsize,
    /// Beyond so many, none can be; zero for no bound.
    pub opened_max: AtomicUsize,
    /// Links that are open, and how many were at once.
    open: AtomicUsize,
    pub open_most: AtomicUsize,
    /// Turns of this side.
    pub turns: AtomicUsize,
    /// Bytes of frames, both ways.
    pub bytes: AtomicUsize,
    /// Compressed batches, both ways.
    pub compressed: AtomicUsize,
    /// Databases in the order in which their sessions began.
    pub began: Mutex<Vec<TreeId>>,
    /// In the sessions of these databases nothing is heard.
    held: Mutex<(Vec<TreeId>, Vec<Waker>)>,
    /// That, and breaking, begins when so many frames were heard.
    pub after: AtomicUsize,
    /// Milliseconds for every word of a session.
    pub word_ms: AtomicUsize,
    /// The link of the session of this database breaks.
    pub broken: Mutex<Option<TreeId>>,
}

impl Tap {
    /// Lets a node dial through a tap.
    pub async fn on(nodes: &Nodes, node: &Node) -> Arc<Self> {
        let tap = Arc::new(Self::default());
        let inner = nodes.net.endpoint("tapped");
        node.engine.replace_transport(Arc::new(Tapped { inner, tap: Arc::clone(&tap) })).await;
        tap
    }

    /// Forgets what was counted.
    pub fn reset(&self) {
        for count in [&self.opened, &self.open_most, &self.turns, &self.bytes] {
            count.store(0, Ordering::SeqCst);
        }
        self.began.lock().unwrap().clear();
    }

    pub fn get(count: &AtomicUsize) -> usize {
        count.load(Ordering::SeqCst)
    }

    /// From now on nothing is heard of these databases, and of all others everything.
    pub fn hold(&self, trees: &[TreeId]) {
        let wakers = {
            let mut held = self.held.lock().unwrap();
            held.0 = trees.to_vec();
            std::mem::take(&mut held.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn saw(&self, frame: &Bytes) {
        self.bytes.fetch_add(frame.len(), Ordering::SeqCst);
        let in_session = matches!(Message::decode(frame), Ok(Message::Compressed(_)));
        let live = matches!(LiveMessage::decode(frame), Ok(LiveMessage::PushCompressed { .. }));
        self.compressed.fetch_add(usize::from(in_session || live), Ordering::SeqCst);
    }

    async fn released(&self, tree: TreeId) {
        poll_fn(|cx| {
            let mut held = self.held.lock().unwrap();
            if !held.0.contains(&tree) {
                return Poll::Ready(());
            }
            held.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[derive(Debug)]
struct Tapped {
    inner: Arc<dyn Transport>,
    tap: Arc<Tap>,
}

impl Transport for Tapped {
    fn scheme(&self) -> &str {
        self.inner.scheme()
    }
    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(async {
            let inner = self.inner.dial(to).await?;
            Ok(Arc::new(TappedConnection { inner, tap: Arc::clone(&self.tap) }) as Arc<dyn Connection>)
        })
    }
    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        self.inner.listen()
    }
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        self.inner.accept()
    }
    fn addresses(&self) -> Vec<Address> {
        self.inner.addresses()
    }
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.inner.shutdown()
    }
}

#[derive(Debug)]
struct TappedConnection {
    inner: Arc<dyn Connection>,
    tap: Arc<Tap>,
}

impl Connection for TappedConnection {
    fn binding(&self) -> [u8; 32] {
        self.inner.binding()
    }
    fn proven(&self) -> Option<PublicKey> {
        self.inner.proven()
    }
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async {
            let (opened, most) = (self.tap.opened.fetch_add(1, Ordering::SeqCst), &self.tap.opened_max);
            if Tap::get(most) > 0 && opened >= Tap::get(most) {
                return Err(LinkError::Gone);
            }
            let inner = self.inner.open().await?;
            let open = self.tap.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.tap.open_most.fetch_max(open, Ordering::SeqCst);
            Ok(Box::new(TappedLink { inner, tap: Arc::clone(&self.tap), tree: None, heard: 0 })
                as Box<dyn Link>)
        })
    }
    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(pending())
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

#[derive(Debug)]
struct TappedLink {
    inner: Box<dyn Link>,
    tap: Arc<Tap>,
    /// The database, once it was named.
    tree: Option<TreeId>,
    /// Frames that came.
    heard: usize,
}

impl Drop for TappedLink {
    fn drop(&mut self) {
        self.tap.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Link for TappedLink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        if let Ok(Message::Open(open)) = Message::decode(&frame) {
            self.tree = Some(TreeId(open.tree));
            self.tap.began.lock().unwrap().push(TreeId(open.tree));
        }
        self.tap.saw(&frame);
        self.inner.send(frame)
    }
    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        self.tap.turns.fetch_add(1, Ordering::SeqCst);
        self.inner.end_turn()
    }
    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async {
            let word_ms = Tap::get(&self.tap.word_ms);
            if self.tree.is_some() && word_ms > 0 {
                // By the clock of the test, which stands still otherwise.
                tokio::time::sleep_until(Instant::now() + Duration::from_millis(word_ms as u64)).await;
            }
            if let Some(tree) = self.tree.filter(|_| self.heard >= Tap::get(&self.tap.after)) {
                self.tap.released(tree).await;
                if *self.tap.broken.lock().unwrap() == Some(tree) {
                    return Err(LinkError::Corrupt);
                }
            }
            let received = self.inner.recv().await;
            if let Ok(Received::Frame(frame)) = &received {
                self.heard += 1;
                self.tap.saw(frame);
            }
            received
        })
    }
    fn is_duplex(&self) -> bool {
        self.inner.is_duplex()
    }
    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        self.inner.send_aside(frame)
    }
    fn bytes(&self) -> LinkBytes {
        self.inner.bytes()
    }
}
