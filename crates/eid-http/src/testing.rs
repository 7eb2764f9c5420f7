//! A server without a socket and the two sides of a channel, for those who look for bytes that do harm.
//!
//! With the feature `testing` only. Nothing here is part of what this crate promises.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use eid_transport::{Arrivals, Connection};
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::channels::Channels;
use crate::limits::Bounds;
use crate::noise::{ChannelId, Identity, Initiator};
use crate::routes::Routes;
use crate::seal::{Direction, Opener, Record, Secret};

/// The body of an answer.
pub type Answered = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A server that is handed its requests.
#[derive(Debug)]
pub struct Handler {
    routes: Routes,
}

/// What a server holds for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Channels, those whose handshake is under way among them.
    pub channels: usize,
    /// Bytes of request bodies.
    pub bytes: usize,
}

impl Handler {
    /// A server with these bounds.
    ///
    /// # Panics
    /// When the system has no randomness to give.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let routes = Routes {
            identity: Arc::new(Identity::draw().expect("the system gives randomness")),
            channels: Arc::new(Channels::new(bounds.clone())),
            arrivals: Arrivals::default(),
            info: Arc::new(|| "{}".to_owned()),
            bounds,
        };
        Self { routes }
    }

    /// Answers a request. The body of the answer ends with an error when whoever produced it has gone.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Answered>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.routes.handle(request).await.map(|reply| reply.map_err(Into::into).boxed_unsync())
    }

    /// The next connection that a client has made.
    pub async fn accept(&self) -> Option<Arc<dyn Connection>> {
        self.routes.arrivals.next().await
    }

    /// Forgets what has been idle for too long, as a listener does every second.
    pub fn sweep(&self) {
        self.routes.channels.sweep(Instant::now());
    }

    /// What is held.
    #[must_use]
    pub fn held(&self) -> Held {
        let (channels, bytes) = self.routes.channels.held();
        Held { channels, bytes }
    }
}

/// A client in the middle of a handshake.
pub struct Client(Initiator);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What a client makes of the answer to its first message.
#[derive(Debug)]
pub struct SecondMessage {
    /// The name of the channel, as it stands in the path of its posts.
    pub channel: String,
    /// What the first body begins with.
    pub third: Vec<u8>,
    /// The keys of the channel.
    pub sealing: Sealing,
}

impl Client {
    /// A client, and its first message.
    ///
    /// # Panics
    /// When the system has no randomness to give.
    #[must_use]
    pub fn begin() -> (Self, Vec<u8>) {
        let identity = Identity::draw().expect("the system gives randomness");
        let (initiator, first) = identity.initiate().expect("the system gives randomness");
        (Self(initiator), first.to_vec())
    }

    /// Reads the answer.
    #[must_use]
    pub fn finish(self, second: &[u8]) -> Option<SecondMessage> {
        let (channel, third, keys) = self.0.finish(second).ok()?;
        Some(SecondMessage {
            channel: channel.to_string(),
            third: third.to_vec(),
            sealing: Sealing(keys.secret),
        })
    }
}

/// Runs a handshake whose messages pass through `tamper`, with their numbers from 1. Gives the binding of each side that
/// has finished it.
///
/// # Panics
/// When the system has no randomness to give.
pub fn handshake(mut tamper: impl FnMut(u8, &mut Vec<u8>)) -> (Option<[u8; 32]>, Option<[u8; 32]>) {
    let server = Identity::draw().expect("the system gives randomness");
    let (client, mut first) = Client::begin();
    tamper(1, &mut first);
    let Ok((responder, second)) = server.respond(&first, ChannelId([7; 16])) else { return (None, None) };
    let mut second = second.to_vec();
    tamper(2, &mut second);
    let Ok((_, third, near)) = client.0.finish(&second) else { return (None, None) };
    let mut third = third.to_vec();
    tamper(3, &mut third);
    let far = responder.finish(&third).ok().map(|keys| keys.binding);
    (Some(near.binding), far)
}

/// The keys of a channel.
#[derive(Debug)]
pub struct Sealing(Secret);

impl Sealing {
    /// Of a channel with this secret.
    #[must_use]
    pub fn of(secret: [u8; 32]) -> Self {
        Self(Secret::new(Zeroizing::new(secret)))
    }

    /// Seals the body of a request, with this many records before it that say nothing.
    #[must_use]
    pub fn seal(&self, number: u64, plain: &[u8], empty: usize) -> Vec<u8> {
        let mut body = BytesMut::new();
        if empty == 0 {
            self.0.seal_request(number, plain, &mut body);
            return body.into();
        }
        let mut sealer = self.0.sealer(Direction::Request, number);
        (0..empty).for_each(|_| sealer.seal(&Record::KeepAlive, &mut body));
        for data in plain.chunks(1000) {
            sealer.seal(&Record::Data(Bytes::copy_from_slice(data)), &mut body);
        }
        sealer.seal(&Record::End(Bytes::new()), &mut body);
        body.into()
    }

    /// Opens the body of a request that comes in pieces of this length; nothing unless all of it is genuine.
    #[must_use]
    pub fn open(&self, number: u64, body: &[u8], piece: usize) -> Option<Vec<u8>> {
        open(self.0.opener(Direction::Request, number), body, piece)
    }

    /// Opens the body of an answer; nothing unless all of it is genuine.
    #[must_use]
    pub fn open_answer(&self, number: u64, body: &[u8]) -> Option<Vec<u8>> {
        open(self.0.opener(Direction::Answer, number), body, 4096)
    }
}

fn open(mut opener: Opener, body: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    for chunk in body.chunks(piece) {
        opener.feed(chunk).ok()?;
        while let Some(record) = opener.next().ok()? {
            if let Record::Data(data) | Record::End(data) = record {
                plain.extend_from_slice(&data);
            }
        }
    }
    opener.ended().then_some(plain)
}
