//! A transport around another one that counts frames by what they carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eid_core::PublicKey;
use eid_proto::message::{Batch, CompressedBatch, Message};
use eid_transport::{
    Address, BoxFuture, Connection, DialError, Link, LinkBytes, LinkError, ListenError, Received, Transport,
};

/// What has gone over all links, both ways.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Bytes of all frames.
    pub total: AtomicU64,
    /// Bytes of frames that carry entries.
    pub batches: AtomicU64,
    /// Turns that were ended on this side: each is a round trip.
    pub rounds: AtomicU64,
}

impl Counts {
    pub(crate) fn clear(&self) {
        for count in [&self.total, &self.batches, &self.rounds] {
            count.store(0, Ordering::SeqCst);
        }
    }

    fn add(&self, frame: &[u8], begins: &[Bytes; 2]) {
        let len = frame.len() as u64;
        self.total.fetch_add(len, Ordering::SeqCst);
        if begins.iter().any(|begins| frame.starts_with(begins)) {
            self.batches.fetch_add(len, Ordering::SeqCst);
        }
    }
}

/// Counts what the links of a transport carry.
#[derive(Debug)]
pub(crate) struct Tap {
    below: Arc<dyn Transport>,
    counts: Arc<Counts>,
    /// How frames with entries begin: the version and the kind.
    begins: [Bytes; 2],
}

impl Tap {
    pub(crate) fn new(below: Arc<dyn Transport>, counts: Arc<Counts>) -> Self {
        let batch = Message::Batch(Batch { entries: Bytes::new(), upto: 0 });
        let compressed = Message::Compressed(CompressedBatch { frame: Bytes::new(), upto: 0 });
        Self { below, counts, begins: [batch, compressed].map(|message| message.encode().slice(..2)) }
    }

    fn around(&self, below: Arc<dyn Connection>) -> Arc<dyn Connection> {
        Arc::new(Tapped { below, counts: Arc::clone(&self.counts), begins: self.begins.clone() })
    }
}

impl Transport for Tap {
    fn scheme(&self) -> &str {
        self.below.scheme()
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Arc<dyn Connection>, DialError>> {
        Box::pin(async move { Ok(self.around(self.below.dial(to).await?)) })
    }

    fn listen(&self) -> BoxFuture<'_, Result<(), ListenError>> {
        self.below.listen()
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(async move { Some(self.around(self.below.accept().await?)) })
    }

    fn addresses(&self) -> Vec<Address> {
        self.below.addresses()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.below.shutdown()
    }
}

#[derive(Debug)]
struct Tapped {
    below: Arc<dyn Connection>,
    counts: Arc<Counts>,
    begins: [Bytes; 2],
}

impl Tapped {
    fn around(&self, below: Box<dyn Link>) -> Box<dyn Link> {
        Box::new(TappedLink { below, counts: Arc::clone(&self.counts), begins: self.begins.clone() })
    }
}

impl Connection for Tapped {
    fn binding(&self) -> [u8; 32] {
        self.below.binding()
    }

    fn proven(&self) -> Option<PublicKey> {
        self.below.proven()
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async move { Ok(self.around(self.below.open().await?)) })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(async move { Some(self.around(self.below.accept().await?)) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.below.close()
    }
}

#[derive(Debug)]
struct TappedLink {
    below: Box<dyn Link>,
    counts: Arc<Counts>,
    begins: [Bytes; 2],
}

impl Link for TappedLink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        self.counts.add(&frame, &self.begins);
        self.below.send(frame)
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        self.counts.rounds.fetch_add(1, Ordering::SeqCst);
        self.below.end_turn()
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async move {
            let received = self.below.recv().await?;
            if let Received::Frame(frame) | Received::Aside(frame) = &received {
                self.counts.add(frame, &self.begins);
            }
            Ok(received)
        })
    }

    fn is_duplex(&self) -> bool {
        self.below.is_duplex()
    }

    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        self.counts.add(&frame, &self.begins);
        self.below.send_aside(frame)
    }

    fn bytes(&self) -> LinkBytes {
        self.below.bytes()
    }
}
