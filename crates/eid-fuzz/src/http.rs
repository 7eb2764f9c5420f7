//! A server of the HTTP transport, and clients who post what the input says.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eid_http::Bounds;
use eid_http::testing::{Client, Handler, Held, SecondMessage};
use eid_transport::{Connection, Link, Received};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::source::Source;

const OPS_MAX: usize = 24;
/// How long any request may take, in the time of the test.
const PATIENCE: Duration = Duration::from_secs(900);
const SEALED: &str = "application/vnd.eid.sealed";
const STATUSES: [u16; 10] = [200, 400, 404, 405, 408, 409, 410, 413, 415, 503];

/// A request body as it arrives.
struct Arriving {
    chunks: VecDeque<Bytes>,
    end: End,
    declared: Option<u64>,
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    Torn,
    /// Nothing comes any more, and nobody says so.
    Silent,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match (self.chunks.pop_front(), self.end) {
            (Some(chunk), _) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            (None, End::Whole) => Poll::Ready(None),
            (None, End::Torn) => Poll::Ready(Some(Err("torn"))),
            (None, End::Silent) => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A channel as its client has it.
struct Channel {
    keys: Arc<SecondMessage>,
    next: u64,
    links: u32,
}

/// What the server was made to hear, and what clients have said to it.
#[derive(Default)]
struct Told {
    heard: Vec<Bytes>,
    said: Vec<Vec<u8>>,
    /// Frames may be spread over several bodies.
    in_parts: bool,
    accepted: BTreeSet<(String, u64)>,
}

type Log = Arc<Mutex<Told>>;

fn log(told: &Log) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whatever is posted, every request is answered in time with one of few words, nothing is heard that was not said, no
/// number is accepted twice, and nothing is held for those who have gone.
pub(crate) fn http(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs no more than memory").block_on(run(Source::new(input)));
}

async fn run(mut source: Source<'_>) {
    let bounds = Bounds { channels_max: 3, unproven_channels_max: 2, ..Bounds::default() };
    let handler = Arc::new(Handler::new(bounds));
    let told = Log::default();
    let server = tokio::spawn(serve(handler.clone(), told.clone()));
    let mut channels: Vec<Channel> = Vec::new();
    let mut requests = JoinSet::new();
    for _ in 0..OPS_MAX {
        if source.is_empty() {
            break;
        }
        match source.below(8) {
            0 => {
                drop(requests.spawn(ask(handler.clone(), stray(&mut source, &channels), None, told.clone())));
            }
            1 | 2 => channels.extend(open(&handler, &mut source).await),
            3 => {
                sleep(Duration::from_secs(source.number().min(100))).await;
                handler.sweep();
            }
            _ => {
                if let Some((request, reply)) = post(&mut source, &mut channels, &told) {
                    requests.spawn(ask(handler.clone(), request, Some(reply), told.clone()));
                }
            }
        }
        if source.bool() {
            sleep(Duration::from_millis(10)).await;
        }
    }
    let all = timeout(PATIENCE, async {
        while let Some(ended) = requests.join_next().await {
            ended.expect("a request does not panic");
        }
    });
    assert!(all.await.is_ok(), "a request is not answered");
    sleep(Duration::from_secs(120)).await;
    handler.sweep();
    // The last of those who had a channel lets go of it.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(handler.held(), Held { channels: 0, bytes: 0 });
    assert!(!server.is_finished(), "the server goes on");
    server.abort();
    let told = log(&told);
    for frame in &told.heard {
        let is_within =
            |said: &Vec<u8>| frame.is_empty() || said.windows(frame.len()).any(|part| part == frame);
        assert!(told.in_parts || told.said.iter().any(is_within), "something is heard that nobody said");
    }
}

/// Says back what it hears, on every link of every connection.
async fn serve(handler: Arc<Handler>, told: Log) {
    while let Some(connection) = handler.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            while let Some(link) = connection.accept().await {
                tokio::spawn(echo(link, told.clone(), connection.clone()));
            }
        });
    }
}

/// The connection is held as long as a link of it.
async fn echo(mut link: Box<dyn Link>, told: Log, _connection: Arc<dyn Connection>) {
    let mut turn = Vec::new();
    loop {
        match link.recv().await {
            Ok(Received::Frame(frame)) => {
                log(&told).heard.push(frame.clone());
                turn.push(frame);
            }
            Ok(Received::EndOfTurn) => {
                for frame in turn.drain(..) {
                    if link.send(frame).await.is_err() {
                        return;
                    }
                }
                if link.end_turn().await.is_err() {
                    return;
                }
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// What the answer to a post has to be.
struct Reply {
    channel: String,
    number: u64,
    keys: Arc<SecondMessage>,
    /// The frames that come back, if the link takes them.
    echoed: Option<Vec<u8>>,
}

async fn ask(handler: Arc<Handler>, request: Request<Arriving>, reply: Option<Reply>, told: Log) {
    let response = handler.handle(request).await;
    let status = response.status().as_u16();
    assert!(STATUSES.contains(&status), "{status}");
    let body = response.into_body().collect().await.map(|body| body.to_bytes());
    if status != 200 {
        let word = body.expect("a refusal is whole");
        assert!(word.len() < 24 && word.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_'));
        return;
    }
    let Some(reply) = reply else { return };
    assert!(log(&told).accepted.insert((reply.channel, reply.number)), "a number is accepted twice");
    // Whoever produced it may have gone in the middle.
    let Ok(body) = body else { return };
    let answer = reply.keys.sealing.open_answer(reply.number, &body).expect("an answer is sealed");
    if let Some(echoed) = reply.echoed.filter(|_| !answer.is_empty()) {
        assert_eq!(answer, echoed);
    }
}

/// A request of the input's making.
fn stray(source: &mut Source<'_>, channels: &[Channel]) -> Request<Arriving> {
    let method = [Method::GET, Method::POST, Method::PUT, Method::OPTIONS][source.below(4)].clone();
    let path = match source.below(5) {
        0 => "/api/v0/info".to_owned(),
        1 => "/eid/api/v0/sync/noise".to_owned(),
        2 => format!("/api/v0/sync/{}/{}", "00".repeat(16), source.number()),
        3 => match channels.get(source.below(4)) {
            Some(channel) => format!("/api/v0/sync/{}/{}", channel.keys.channel, source.number()),
            None => "/".to_owned(),
        },
        _ => format!("/api/v0/{}", String::from_utf8_lossy(source.some(80))),
    };
    let mut request = Request::new(arriving(source, Bytes::new()));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    for _ in 0..source.below(4) {
        let name = match source.below(4) {
            0 => CONTENT_TYPE,
            1 => CONTENT_LENGTH,
            2 => TRANSFER_ENCODING,
            _ => HeaderName::from_bytes(source.some(12)).unwrap_or(CONTENT_TYPE),
        };
        let value = match source.below(3) {
            0 => HeaderValue::from_static(SEALED),
            1 => HeaderValue::from(source.number()),
            _ => HeaderValue::from_bytes(source.some(20)).unwrap_or(HeaderValue::from_static("chunked")),
        };
        request.headers_mut().append(name, value);
    }
    let more = source.some(2000).to_vec();
    let pieces = arriving(source, more.into());
    *request.body_mut() = pieces;
    request
}

/// Cuts a body into pieces, and mostly lets it end as it is to end.
fn arriving(source: &mut Source<'_>, mut body: Bytes) -> Arriving {
    let declared = match source.below(8) {
        0 => Some(source.number()),
        1 => Some(body.len() as u64),
        _ => None,
    };
    let mut chunks = VecDeque::new();
    for _ in 0..source.below(4) {
        chunks.push_back(body.split_to(source.below(256).min(body.len())));
    }
    chunks.push_back(body);
    let end = match source.byte() {
        0..220 => End::Whole,
        220..240 => End::Torn,
        _ => End::Silent,
    };
    Arriving { chunks, end, declared }
}

fn sealed(path: &str, body: Arriving) -> Request<Arriving> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().expect("it is made of hexadecimal digits");
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(SEALED));
    request
}

/// A handshake up to its second message.
async fn open(handler: &Handler, source: &mut Source<'_>) -> Option<Channel> {
    let (client, first) = Client::begin();
    let body = if source.byte() < 200 {
        Arriving { chunks: VecDeque::from([first.into()]), end: End::Whole, declared: None }
    } else {
        arriving(source, first.into())
    };
    let response = handler.handle(sealed("/api/v0/sync/noise", body)).await;
    assert!(STATUSES.contains(&response.status().as_u16()));
    let second = response.into_body().collect().await.ok()?.to_bytes();
    Some(Channel { keys: Arc::new(client.finish(&second)?), next: 0, links: 0 })
}

/// A post of a client, mostly as it should be.
fn post(source: &mut Source<'_>, channels: &mut [Channel], told: &Log) -> Option<(Request<Arriving>, Reply)> {
    let at = source.below(channels.len().max(1));
    let channel = channels.get_mut(at)?;
    let honest = source.byte() < 128;
    let number = if honest { channel.next } else { source.number() };
    let (kind, link, step) = if honest {
        (0, channel.links, 0)
    } else {
        (source.byte() % 6, u32::from(source.byte() % 8), source.number() as u32)
    };
    let frames = if honest {
        let frames = (0..source.below(4)).map(|_| source.some(300));
        frames.flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame].concat()).collect()
    } else {
        source.some(1000).to_vec()
    };
    let head = [&[kind], &link.to_be_bytes()[..], &step.to_be_bytes()].concat();
    let plain = [&head, &frames[..]].concat();
    let body = channel.keys.sealing.seal(number, &plain, source.below(3));
    let mut body = if number == 0 { [&channel.keys.third[..], &body].concat() } else { body };
    let mut changed = false;
    if !honest && source.bool() {
        let at = usize::from(u16::from_le_bytes([source.byte(), source.byte()])) % body.len();
        let before = body[at];
        body[at] = before.wrapping_add(source.byte());
        changed = body[at] != before;
    }
    if !changed {
        let mut told = log(told);
        told.said.push(plain);
        told.in_parts |= kind == 1;
    }
    let body = if honest {
        Arriving { chunks: VecDeque::from([body.into()]), end: End::Whole, declared: None }
    } else {
        arriving(source, body.into())
    };
    channel.next += u64::from(honest);
    channel.links += u32::from(honest);
    let path = format!("/api/v0/sync/{}/{number}", channel.keys.channel);
    let echoed = honest.then_some(frames);
    let reply = Reply { channel: channel.keys.channel.clone(), number, keys: channel.keys.clone(), echoed };
    Some((sealed(&path, body), reply))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (handshake, hello) = ([1, 0, 1], [4, 0, 0, 2, 5, 0, b'h', b'e', b'l', b'l', b'o', 0, 0, 0, 1]);
    let wait = [3, 61, 0];
    let info = [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 7, 0, 0, 1];
    let more = [4, 0, 200, 0, 1, 7, 0, 9, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 1];
    let changed = [4, 0, 200, 1, 0, 7, 0, 4, 0, 0, 0, 0, 1, 0, 1, 60, 0, 1, 0, 0, 0, 0, 1];
    vec![
        [&handshake[..], &hello].concat(),
        [&handshake[..], &hello, &hello, &wait, &hello].concat(),
        [&handshake[..], &handshake, &handshake, &hello, &more, &changed].concat(),
        [&handshake[..], &hello, &more, &more, &changed, &hello].concat(),
        [&info[..], &handshake, &changed, &info, &hello].concat(),
    ]
}
