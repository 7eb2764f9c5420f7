//! The client's side of a connection and of its links.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use eid_core::PublicKey;
use eid_transport::limits::{FRAME_BYTES_MAX, FRAME_OVERHEAD, LINKS_MAX, OPENER_TURN_BYTES_MAX};
use eid_transport::{Address, BoxFuture, Connection, DialError, Link, LinkBytes, LinkError, Received};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::SEALED_TYPE;
use crate::error::Broken;
use crate::frames::{Frames, Head, Kind, length_field};
use crate::limits::{
    ANSWER_HEAD, ANSWER_SILENCE, CONNECT, DIAL, FIRST_MESSAGE_RETRIES_MAX, GOODBYE, HANDSHAKE_BYTES_MAX,
    HEAD_BYTES_MAX, HEADERS_MAX, PART_BYTES_MAX, POOL_IDLE,
};
use crate::noise::{Identity, Keys, THIRD_BYTES};
use crate::seal::{Direction, Opener, Record};
use crate::signal::until;

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Dialler {
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Dialler {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let http = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(HEADERS_MAX)
            .build(connector);
        Self { http }
    }

    /// Makes the first half of the handshake; the rest travels with the first turn.
    pub(crate) async fn dial(&self, to: &Address, identity: &Identity) -> Result<Dialled, DialError> {
        timeout(DIAL, self.handshake(to, identity)).await.map_err(|_| DialError::TimedOut(to.clone()))?
    }

    async fn handshake(&self, to: &Address, identity: &Identity) -> Result<Dialled, DialError> {
        let not_a_peer = |cause| DialError::NotAPeer { address: to.clone(), cause };
        let unreachable = |cause| DialError::Unreachable { address: to.clone(), cause };
        let (initiator, first) = identity.initiate().map_err(|error| not_a_peer(error.into()))?;
        let base = format!("{to}/api/v0/sync");
        let uri = format!("{base}/noise");
        let mut kept_connections = FIRST_MESSAGE_RETRIES_MAX;
        let response = loop {
            let request =
                post(&uri, Bytes::copy_from_slice(&first)).map_err(|error| not_a_peer(error.into()))?;
            match self.http.request(request).await {
                Ok(response) => break response,
                // A connection that was kept has been closed meanwhile, and nobody has answered. The
                // first message opens a channel of its own each time, so it may go out once more.
                Err(error) if kept_connections > 0 && closed_unanswered(&error) => kept_connections -= 1,
                Err(error) if speaks_http(&error) => return Err(unreachable(error.into())),
                Err(error) => return Err(not_a_peer(error.into())),
            }
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                return Err(DialError::Busy(to.clone()));
            }
            status @ (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) => {
                return Err(unreachable(Broken::Status(status).into()));
            }
            status => return Err(not_a_peer(Broken::Status(status).into())),
        }
        let second = Limited::new(response.into_body(), HANDSHAKE_BYTES_MAX);
        let second = second.collect().await.map_err(not_a_peer)?.to_bytes();
        if second.len() != crate::noise::SECOND_BYTES {
            return Err(not_a_peer(Broken::HandshakeLength(second.len()).into()));
        }
        let (channel, third, keys) = initiator.finish(&second).map_err(|error| not_a_peer(error.into()))?;
        let wire = Arc::new(Wire {
            http: self.http.clone(),
            base: format!("{base}/{channel}"),
            keys,
            third,
            numbers: AtomicU64::new(0),
            opened: AtomicU32::new(0),
            links: AtomicUsize::new(0),
            fate: watch::Sender::new(Fate::Open),
            established: watch::Sender::new(Established::NotYet),
            runtime: Handle::current(),
        });
        Ok(Dialled { held: Arc::new(Held { wire }) })
    }
}

/// Whether a request failed for another reason than an answer that is not HTTP.
fn speaks_http(error: &hyper_util::client::legacy::Error) -> bool {
    !hyper_cause(error).is_some_and(hyper::Error::is_parse)
}

/// Whether a request went out on a connection that closed before a byte of the answer.
fn closed_unanswered(error: &hyper_util::client::legacy::Error) -> bool {
    hyper_cause(error).is_some_and(hyper::Error::is_incomplete_message)
}

fn hyper_cause(error: &hyper_util::client::legacy::Error) -> Option<&hyper::Error> {
    std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>())
}

fn post(uri: &str, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::builder().method(Method::POST).uri(uri).header(CONTENT_TYPE, SEALED_TYPE).body(Full::new(body))
}

/// A connection that this side has dialled.
#[derive(Debug)]
pub(crate) struct Dialled {
    held: Arc<Held>,
}

/// A channel as its connection and links hold it: the last of them to go closes it.
#[derive(Debug)]
struct Held {
    wire: Arc<Wire>,
}

/// A channel, and how requests go over it.
#[derive(Debug)]
pub(crate) struct Wire {
    http: Client<HttpConnector, Full<Bytes>>,
    base: String,
    keys: Keys,
    third: [u8; THIRD_BYTES],
    /// The number of the next POST.
    numbers: AtomicU64,
    /// The number of the next link.
    opened: AtomicU32,
    /// Links that are open.
    links: AtomicUsize,
    fate: watch::Sender<Fate>,
    established: watch::Sender<Established>,
    /// Where goodbyes run: links are dropped wherever it pleases their owner.
    runtime: Handle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    /// This side has closed the channel.
    Closed,
    /// The other side no longer knows the channel.
    Gone,
}

/// Whether the first POST, which ends the handshake, has been answered. The others wait for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Established {
    NotYet,
    Yes,
    Failed,
}

/// Tells those who wait that the first POST has failed, unless it is known to have succeeded.
struct FirstPost<'a>(&'a Wire);

impl Drop for FirstPost<'_> {
    fn drop(&mut self) {
        self.0.established.send_if_modified(|established| {
            let failed = *established == Established::NotYet;
            if failed {
                *established = Established::Failed;
                // Message 3 may or may not have arrived: nothing more can be said on this channel.
                self.0.end(Fate::Gone);
            }
            failed
        });
    }
}

impl Dialled {
    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.held.wire
    }
}

impl Wire {
    /// Sends one sealed body; gives its number, under which the answer is sealed, and the answer.
    async fn post(&self, head: Head, data: &[u8]) -> Result<(u64, Response<Incoming>), LinkError> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let first = (number == 0).then_some(FirstPost(self));
        let mut plain = BytesMut::with_capacity(data.len() + 16);
        head.put(&mut plain);
        plain.put_slice(data);
        let mut body = BytesMut::with_capacity(plain.len() + 1024);
        if first.is_some() {
            body.put_slice(&self.third);
        }
        self.keys.secret.seal_request(number, &plain, &mut body);
        drop(plain);
        if first.is_none() {
            let mut established = self.established.subscribe();
            until(&mut established, |established| *established != Established::NotYet).await;
            if *established.borrow() == Established::Failed {
                return Err(LinkError::Gone);
            }
        }
        let response = self.exchange(number, body.freeze()).await?;
        let status = response.status();
        if status == StatusCode::OK {
            if first.is_some() {
                self.established.send_replace(Established::Yes);
            }
            return Ok((number, response));
        }
        Err(match status {
            StatusCode::CONFLICT => LinkError::Cut(Broken::AnswerLost.into()),
            StatusCode::GONE => {
                self.end(Fate::Gone);
                LinkError::Gone
            }
            StatusCode::REQUEST_TIMEOUT => LinkError::TimedOut,
            StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => LinkError::Corrupt,
            status => LinkError::Cut(Broken::Status(status).into()),
        })
    }

    /// Sends a request, twice if need be: a connection that rested may have been closed by the other side just then.
    /// The number makes sure that a body is taken once.
    async fn exchange(&self, number: u64, body: Bytes) -> Result<Response<Incoming>, LinkError> {
        let uri = format!("{}/{number}", self.base);
        let mut again = true;
        loop {
            let request = post(&uri, body.clone())
                .map_err(|error| LinkError::Cut(Broken::Http(error.into()).into()))?;
            match timeout(ANSWER_HEAD, self.http.request(request)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(_)) if again => again = false,
                Ok(Err(error)) => return Err(LinkError::Cut(Broken::Http(error.into()).into())),
                Err(_) => return Err(LinkError::TimedOut),
            }
        }
    }

    /// Sends a body that gets no turn for an answer.
    async fn tell(&self, head: Head, data: &[u8]) -> Result<(), LinkError> {
        let (number, response) = self.post(head, data).await?;
        let mut answer = Reading::new(self, number, response);
        match answer.next().await? {
            Received::EndOfTurn => Ok(()),
            Received::Closed => Err(LinkError::Closed),
            Received::Frame(_) | Received::Aside(_) => Err(LinkError::Corrupt),
        }
    }

    fn end(&self, fate: Fate) {
        self.fate.send_if_modified(|current| {
            let open = *current == Fate::Open;
            if open {
                *current = fate;
            }
            open
        });
    }

    fn fate(&self) -> Result<(), LinkError> {
        match *self.fate.borrow() {
            Fate::Open => Ok(()),
            Fate::Closed => Err(LinkError::Closed),
            Fate::Gone => Err(LinkError::Gone),
        }
    }

    /// Ends the channel here at once, and tells the other side if it has ever heard of it.
    pub(crate) async fn close(&self) {
        let known = self.numbers.load(Ordering::Relaxed) > 0 && self.fate().is_ok();
        self.end(Fate::Closed);
        if known {
            let head = Head { link: 0, step: 0, kind: Kind::CloseConnection };
            if !matches!(timeout(GOODBYE, self.tell(head, &[])).await, Ok(Ok(()) | Err(LinkError::Closed))) {
                tracing::debug!("the other side did not hear that the connection is closed");
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let wire = self.wire.clone();
        self.wire.runtime.spawn(async move { wire.close().await });
    }
}

impl Connection for Dialled {
    fn binding(&self) -> [u8; 32] {
        self.held.wire.keys.binding
    }

    fn proven(&self) -> Option<PublicKey> {
        None
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async {
            let wire = &self.held.wire;
            wire.fate()?;
            let more = |links: usize| (links < LINKS_MAX).then_some(links + 1);
            if wire.links.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
                return Err(LinkError::TooManyLinks);
            }
            let number = wire.opened.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(DialledLink::new(self.held.clone(), number)) as Box<dyn Link>)
        })
    }

    /// Over HTTP only the client opens links, so this waits for the end.
    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(async {
            let mut fate = self.held.wire.fate.subscribe();
            until(&mut fate, |fate| *fate != Fate::Open).await;
            None
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.held.wire.close().await })
    }
}

/// The client's side of a link.
#[derive(Debug)]
struct DialledLink {
    held: Arc<Held>,
    number: u32,
    /// How many parts have been sent.
    step: u32,
    turn: Turn,
    /// What of this turn has not been sent.
    part: BytesMut,
    turn_bytes: usize,
    fate: watch::Receiver<Fate>,
    bytes: LinkBytes,
}

/// Whose turn it is.
#[derive(Debug)]
enum Turn {
    Mine,
    /// The last part of this side's turn is on its way.
    Asked(JoinHandle<Result<Box<Reading>, LinkError>>),
    /// The other side's turn arrives.
    Theirs(Box<Reading>),
    Dead,
}

/// An answer that arrives.
#[derive(Debug)]
struct Reading {
    body: Incoming,
    opener: Opener,
    frames: Frames,
    begun: bool,
    ending: Option<Ending>,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Turn,
    Closed,
}

impl DialledLink {
    fn new(held: Arc<Held>, number: u32) -> Self {
        Self {
            fate: held.wire.fate.subscribe(),
            held,
            number,
            step: 0,
            turn: Turn::Mine,
            part: BytesMut::new(),
            turn_bytes: 0,
            bytes: LinkBytes::default(),
        }
    }

    fn head(&mut self, kind: Kind) -> Head {
        let head = Head { link: self.number, step: self.step, kind };
        self.step += 1;
        head
    }

    fn may_send(&self) -> Result<(), LinkError> {
        match self.turn {
            Turn::Mine => self.held.wire.fate(),
            Turn::Asked(_) | Turn::Theirs(_) => Err(LinkError::OutOfTurn),
            Turn::Dead => Err(LinkError::Closed),
        }
    }

    /// Sends a part that is full, and waits until it has been taken.
    async fn flush(&mut self) -> Result<(), LinkError> {
        // Dead until the part is known to have been taken: a part that may be lost cannot be followed by another.
        self.turn = Turn::Dead;
        let head = self.head(Kind::More);
        let part = self.part.split();
        let told = async { self.held.wire.tell(head, &part).await };
        tokio::select! {
            biased;
            told = told => told?,
            () = until(&mut self.fate, |fate| *fate != Fate::Open) => return Err(LinkError::Closed),
        }
        self.turn = Turn::Mine;
        Ok(())
    }

    async fn put(&mut self, mut bytes: &[u8]) -> Result<(), LinkError> {
        while self.part.len() + bytes.len() > PART_BYTES_MAX {
            let (now, later) = bytes.split_at(PART_BYTES_MAX - self.part.len());
            self.part.extend_from_slice(now);
            bytes = later;
            self.flush().await?;
        }
        self.part.extend_from_slice(bytes);
        Ok(())
    }

    async fn next(&mut self) -> Result<Received, LinkError> {
        loop {
            let ended = match &mut self.turn {
                Turn::Mine => return Err(LinkError::OutOfTurn),
                Turn::Dead => return Err(LinkError::Closed),
                Turn::Asked(asked) => tokio::select! {
                    biased;
                    answered = asked => {
                        let cut = |error: tokio::task::JoinError| {
                            LinkError::Cut(Broken::Http(error.into()).into())
                        };
                        self.turn = Turn::Theirs(answered.map_err(cut)??);
                        continue;
                    }
                    () = until(&mut self.fate, |fate| *fate == Fate::Closed) => return Ok(Received::Closed),
                },
                Turn::Theirs(reading) => {
                    let received = tokio::select! {
                        biased;
                        received = reading.next() => received?,
                        () = until(&mut self.fate, |fate| *fate == Fate::Closed) => return reading.abandoned(),
                    };
                    match &received {
                        Received::Frame(frame) => self.bytes.received += frame.len() as u64,
                        Received::EndOfTurn => self.turn = Turn::Mine,
                        Received::Aside(_) | Received::Closed => {}
                    }
                    received
                }
            };
            return Ok(ended);
        }
    }
}

impl Link for DialledLink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.may_send()?;
            let turn_bytes = self.turn_bytes + frame.len() + FRAME_OVERHEAD;
            if frame.len() > FRAME_BYTES_MAX || turn_bytes > OPENER_TURN_BYTES_MAX {
                return Err(LinkError::TooLarge);
            }
            self.turn_bytes = turn_bytes;
            self.put(&length_field(&frame)).await?;
            self.put(&frame).await?;
            self.bytes.sent += frame.len() as u64;
            Ok(())
        })
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.may_send()?;
            let head = self.head(Kind::Turn);
            let part = self.part.split();
            let wire = self.held.wire.clone();
            // In a task of its own, so that it goes out whether or not anybody waits for the answer at this moment.
            self.turn = Turn::Asked(self.held.wire.runtime.spawn(async move {
                let (number, response) = wire.post(head, &part).await?;
                Ok(Box::new(Reading::new(&wire, number, response)))
            }));
            self.turn_bytes = 0;
            Ok(())
        })
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async move {
            let received = self.next().await;
            if matches!(received, Ok(Received::Closed)) || received.as_ref().is_err_and(|e| !is_misuse(e)) {
                self.turn = Turn::Dead;
            }
            received
        })
    }

    fn is_duplex(&self) -> bool {
        false
    }

    fn send_aside(&mut self, _: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async { Err(LinkError::OutOfTurn) })
    }

    fn bytes(&self) -> LinkBytes {
        self.bytes
    }
}

fn is_misuse(error: &LinkError) -> bool {
    matches!(error, LinkError::OutOfTurn)
}

impl Drop for DialledLink {
    fn drop(&mut self) {
        self.held.wire.links.fetch_sub(1, Ordering::Relaxed);
        if let Turn::Asked(asked) = &self.turn {
            asked.abort();
        }
        // The other side does not know of the link before its first part, and forgets it with the channel.
        if self.step == 0 || self.held.wire.fate().is_err() {
            return;
        }
        let kind = if self.turn_bytes > 0 { Kind::Tear } else { Kind::Close };
        let head = self.head(kind);
        // Holds the connection, so that it is closed after its links.
        let held = self.held.clone();
        self.held.wire.runtime.spawn(async move {
            if !matches!(timeout(GOODBYE, held.wire.tell(head, &[])).await, Ok(Ok(()))) {
                tracing::debug!("the other side did not hear that a link is closed");
            }
        });
    }
}

impl Reading {
    fn new(wire: &Wire, number: u64, response: Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            opener: wire.keys.secret.opener(Direction::Answer, number),
            frames: Frames::default(),
            begun: false,
            ending: None,
        }
    }

    /// What the answer says next. May be dropped and called again.
    async fn next(&mut self) -> Result<Received, LinkError> {
        loop {
            if let Some(frame) = self.frames.next().map_err(|_| LinkError::Corrupt)? {
                return Ok(Received::Frame(frame));
            }
            if let Some(ending) = self.ending {
                if !self.frames.is_empty() {
                    return Err(LinkError::Corrupt);
                }
                self.drain().await?;
                return match ending {
                    Ending::Turn => Ok(Received::EndOfTurn),
                    Ending::Closed => self.abandoned(),
                };
            }
            match self.opener.next().map_err(|_| LinkError::Corrupt)? {
                Some(Record::Data(data)) => self.take(&data),
                Some(Record::KeepAlive) => {}
                Some(Record::End(data)) => {
                    self.take(&data);
                    self.ending = Some(Ending::Turn);
                }
                Some(Record::Closed) => self.ending = Some(Ending::Closed),
                None => {
                    if !self.more().await? {
                        return Err(LinkError::Cut(Broken::TurnTorn.into()));
                    }
                }
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        self.begun |= !data.is_empty();
        self.frames.feed(data);
    }

    fn abandoned(&self) -> Result<Received, LinkError> {
        if self.begun { Err(LinkError::Cut(Broken::TurnTorn.into())) } else { Ok(Received::Closed) }
    }

    /// Takes in more of the body; says whether there was more.
    async fn more(&mut self) -> Result<bool, LinkError> {
        match timeout(ANSWER_SILENCE, self.body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    self.opener.feed(&data).map_err(|_| LinkError::Corrupt)?;
                }
                Ok(true)
            }
            Ok(Some(Err(error))) => Err(LinkError::Cut(Broken::Http(error.into()).into())),
            Ok(None) => Ok(false),
            Err(_) => Err(LinkError::TimedOut),
        }
    }

    /// Reads to the end of the body, after which its connection can carry another request; nothing may follow.
    async fn drain(&mut self) -> Result<(), LinkError> {
        while self.more().await? {}
        Ok(())
    }
}
