//! What a server answers: the handshake, numbered POSTs, and what it says of itself.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eid_transport::Arrivals;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::accepted::Accepted;
use crate::answer::{Answer, Torn};
use crate::channels::{Body, Busy, Channel, Channels, Found, InUse, Part};
use crate::frames::{Head, Kind};
use crate::limits::{
    ANSWER_PIECES_MAX, BODY, BODY_BYTES_PER_SECOND, Bounds, PART_WAIT, POST_BYTES_MAX, RECORD_BYTES_MAX,
};
use crate::noise::{ChannelId, FIRST_BYTES, Identity, THIRD_BYTES};
use crate::seal::{Direction, Opener, Record};
use crate::signal::until;
use crate::{Info, SEALED_TYPE};

/// Everything that requests to one server share.
pub(crate) struct Routes {
    pub(crate) identity: Arc<Identity>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) arrivals: Arrivals,
    pub(crate) info: Info,
    pub(crate) bounds: Bounds,
}

/// Where a request came from, if that is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Customer(pub(crate) Option<IpAddr>);

/// The body of any response.
pub(crate) enum Reply {
    Fixed(Option<Bytes>),
    Answer(Box<Answer>),
}

/// Why a request gets no sealed answer. The response is a bare status and one fixed word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    Replayed,
    ChannelGone,
    TooLarge,
    MediaType,
    Busy,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Info,
    Handshake,
    Post { channel: ChannelId, number: u64 },
}

impl Route {
    /// Finds the route whatever stands before it, so that a reverse proxy may keep or strip its prefix.
    fn parse(path: &str) -> Option<Self> {
        let at = path.rfind("/api/v0/")?;
        match &path[at + "/api/v0/".len()..] {
            "info" => Some(Self::Info),
            rest => match rest.strip_prefix("sync/")? {
                "noise" => Some(Self::Handshake),
                numbered => {
                    let (channel, text) = numbered.split_once('/')?;
                    let number: u64 = text.parse().ok()?;
                    // One number has one spelling.
                    (number.to_string() == text)
                        .then_some(Self::Post { channel: ChannelId::parse(channel)?, number })
                }
            },
        }
    }
}

impl Routes {
    /// Answers one request.
    pub(crate) async fn handle<B: Arriving>(&self, request: Request<B>) -> Response<Reply> {
        self.route(request).await.unwrap_or_else(Refusal::response)
    }

    async fn route<B: Arriving>(&self, request: Request<B>) -> Result<Response<Reply>, Refusal> {
        let route = Route::parse(request.uri().path()).ok_or(Refusal::NotFound)?;
        if route == Route::Info {
            if request.method() != Method::GET {
                return Err(Refusal::MethodNotAllowed);
            }
            let info = Bytes::from((self.info)());
            return Ok(response(StatusCode::OK, "application/json", Reply::Fixed(Some(info))));
        }
        if request.method() != Method::POST {
            return Err(Refusal::MethodNotAllowed);
        }
        let headers = request.headers();
        // Two lengths of one body are how requests are smuggled past proxies.
        if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
            return Err(Refusal::BadRequest);
        }
        // A page in a browser cannot send this type to another origin without asking first.
        if headers.get(CONTENT_TYPE).is_none_or(|kind| kind != SEALED_TYPE) {
            return Err(Refusal::MediaType);
        }
        let limit = if route == Route::Handshake { FIRST_BYTES } else { POST_BYTES_MAX };
        if request.body().size_hint().lower() > limit as u64 {
            return Err(Refusal::TooLarge);
        }
        let from = request.extensions().get::<Customer>().and_then(|from| from.0);
        let intake = Intake::new(request.into_body(), limit, from, self);
        match route {
            Route::Post { channel, number } => self.post(intake, channel, number).await,
            _ => self.handshake(intake).await,
        }
    }

    /// Message 1 of a handshake in, message 2 out.
    async fn handshake<B: Arriving>(&self, mut intake: Intake<B>) -> Result<Response<Reply>, Refusal> {
        let mut first = BytesMut::new();
        while let Some(chunk) = intake.next().await? {
            first.extend_from_slice(&chunk);
        }
        let id = ChannelId::draw().map_err(|_| Refusal::Busy)?;
        let (responder, second) = self.identity.respond(&first, id).map_err(|_| Refusal::BadRequest)?;
        self.channels.begin(id, responder, Instant::now())?;
        Ok(sealed(Reply::Fixed(Some(Bytes::copy_from_slice(&second)))))
    }

    /// A numbered body in, the answer of its link out. The body is complete and genuine before anything is done.
    async fn post<B: Arriving>(
        &self,
        mut intake: Intake<B>,
        id: ChannelId,
        number: u64,
    ) -> Result<Response<Reply>, Refusal> {
        match self.channels.find(&id, Instant::now()).ok_or(Refusal::ChannelGone)? {
            Found::Open(channel) => {
                if !channel.is_fresh(number) {
                    return Err(Refusal::Replayed);
                }
                let in_use = channel.in_use()?;
                let opener = channel.secret.opener(Direction::Request, number);
                intake.room = Some(self.channels.room_of(&channel).clone());
                // A body that goes on arriving for a channel that is gone would keep its room.
                let mut closed = channel.watch();
                let plain = tokio::select! {
                    biased;
                    () = until(&mut closed, |closed| *closed) => return Err(Refusal::ChannelGone),
                    plain = open(&mut intake, opener, BytesMut::new()) => plain?,
                };
                if !channel.accept_number(number) {
                    return Err(Refusal::Replayed);
                }
                self.dispatch(channel, in_use, number, plain).await
            }
            Found::Unproven if number == 0 => self.first_post(intake, id).await,
            Found::Unproven => Err(Refusal::ChannelGone),
        }
    }

    /// The POST that ends the handshake: message 3, then a sealed body like any other.
    async fn first_post<B: Arriving>(
        &self,
        mut intake: Intake<B>,
        id: ChannelId,
    ) -> Result<Response<Reply>, Refusal> {
        let mut received = BytesMut::new();
        intake.room = Some(self.channels.unproven_room.clone());
        while received.len() < THIRD_BYTES {
            let chunk = intake.next().await?.ok_or(Refusal::BadRequest)?;
            received.extend_from_slice(&chunk);
        }
        let rest = received.split_off(THIRD_BYTES);
        let (responder, deadline) = self.channels.take(&id).ok_or(Refusal::ChannelGone)?;
        let keys = responder.finish(&received).map_err(|_| Refusal::BadRequest)?;
        let opener = keys.secret.opener(Direction::Request, 0);
        let opened = timeout_at(deadline, open(&mut intake, opener, rest)).await;
        let plain = opened.map_err(|_| Refusal::TooSlow)??;
        let (channel, links) = self.channels.open(id, keys, intake.from, Instant::now())?;
        let in_use = channel.in_use()?;
        channel.accept_number(0);
        let connection = Accepted::new(channel.clone(), self.channels.clone(), links);
        self.arrivals.hand_on(Arc::new(connection)).map_err(|_| Refusal::Busy)?;
        self.dispatch(channel, in_use, 0, plain).await
    }

    /// Hands a genuine body to its link.
    async fn dispatch(
        &self,
        channel: Arc<Channel>,
        in_use: InUse,
        number: u64,
        mut body: Body,
    ) -> Result<Response<Reply>, Refusal> {
        let head = Head::take(&mut body.bytes).map_err(|_| Refusal::BadRequest)?;
        let silence = self.bounds.keep_alive;
        let taken = match head.kind {
            Kind::Turn => {
                let (answer, pieces) = mpsc::channel(ANSWER_PIECES_MAX);
                if place(&channel, head, Part::Turn(body, answer)).await {
                    let answer = Answer::of_link(&channel, in_use, number, pieces, silence);
                    return Ok(sealed(Reply::Answer(Box::new(answer))));
                }
                false
            }
            Kind::More => place(&channel, head, Part::More(body)).await,
            Kind::Close | Kind::Tear => {
                if let Some(parts) = channel.remove(head.link) {
                    let part = Part::Closed { torn: head.kind == Kind::Tear };
                    // A link that does not take it in time, or is gone, sees the end of its parts all the same.
                    drop(timeout(PART_WAIT, parts.send(part)).await);
                }
                true
            }
            Kind::CloseConnection => {
                self.channels.close(&channel);
                true
            }
        };
        let record = if taken { Record::End(Bytes::new()) } else { Record::Closed };
        let answer = Answer::short(&channel, in_use, number, record, silence);
        Ok(sealed(Reply::Answer(Box::new(answer))))
    }
}

/// Waits until a link has room for its next part; says whether it took it.
async fn place(channel: &Channel, head: Head, part: Part) -> bool {
    let Ok(parts) = channel.place(head.link, head.step) else {
        channel.remove(head.link);
        return false;
    };
    let taken = timeout(PART_WAIT, parts.send(part)).await.is_ok_and(|sent| sent.is_ok());
    if !taken {
        channel.remove(head.link);
    }
    taken
}

/// Opens a whole body. Not more than a record of it is held before its first record has proven genuine.
async fn open<B: Arriving>(
    intake: &mut Intake<B>,
    mut opener: Opener,
    first: BytesMut,
) -> Result<Body, Refusal> {
    let mut plain = BytesMut::new();
    let mut chunk = first.freeze();
    loop {
        for piece in chunk.chunks(RECORD_BYTES_MAX) {
            opener.feed(piece).map_err(|_| Refusal::BadRequest)?;
            while let Some(record) = opener.next().map_err(|_| Refusal::BadRequest)? {
                match record {
                    Record::Data(data) | Record::End(data) => plain.extend_from_slice(&data),
                    Record::KeepAlive => {}
                    Record::Closed => return Err(Refusal::BadRequest),
                }
            }
        }
        match intake.next().await? {
            Some(next) => chunk = next,
            None if opener.ended() => return Ok(Body { bytes: plain, room: intake.taken.take() }),
            None => return Err(Refusal::BadRequest),
        }
    }
}

/// A request body.
pub(crate) trait Arriving: HttpBody<Data = Bytes> + Unpin {}

impl<B: HttpBody<Data = Bytes> + Unpin> Arriving for B {}

/// A request body that has to keep within its length and to come at a pace.
struct Intake<B> {
    body: B,
    /// By what its channel is counted.
    from: Option<IpAddr>,
    limit: usize,
    received: u64,
    since: Instant,
    first_byte: Duration,
    /// Nothing for first messages of handshakes, which are smaller than what keeps count of them.
    room: Option<Arc<Semaphore>>,
    /// What the bytes received so far take up of the room.
    taken: Option<OwnedSemaphorePermit>,
}

impl<B: Arriving> Intake<B> {
    fn new(body: B, limit: usize, from: Option<IpAddr>, routes: &Routes) -> Self {
        let first_byte = routes.bounds.first_byte;
        Self { body, from, limit, received: 0, since: Instant::now(), first_byte, room: None, taken: None }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let seconds = self.received / BODY_BYTES_PER_SECOND;
            let deadline = self.since + BODY.min(self.first_byte + Duration::from_secs(seconds));
            let frame = timeout_at(deadline, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| Refusal::TooSlow)? else { return Ok(None) };
            let Ok(data) = frame.map_err(|_| Refusal::BadRequest)?.into_data() else { continue };
            self.limit = self.limit.checked_sub(data.len()).ok_or(Refusal::TooLarge)?;
            self.received += data.len() as u64;
            let Some(room) = self.room.clone() else { return Ok(Some(data)) };
            let room = room.acquire_many_owned(data.len() as u32);
            let room = timeout_at(deadline, room).await.map_err(|_| Refusal::Busy)?;
            let room = room.map_err(|_| Refusal::Busy)?;
            match &mut self.taken {
                Some(taken) => taken.merge(room),
                None => self.taken = Some(room),
            }
            return Ok(Some(data));
        }
    }
}

impl Refusal {
    fn response(self) -> Response<Reply> {
        let (status, word) = match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::Replayed => (StatusCode::CONFLICT, "replayed"),
            Self::ChannelGone => (StatusCode::GONE, "channel_gone"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        };
        response(status, "text/plain", Reply::Fixed(Some(Bytes::from_static(word.as_bytes()))))
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

fn sealed(reply: Reply) -> Response<Reply> {
    response(StatusCode::OK, SEALED_TYPE, reply)
}

fn response(status: StatusCode, kind: &'static str, reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    // nginx then passes on what it has, so that answers stream and keep-alive records arrive.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        match &mut *self {
            Self::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Answer(answer) => Pin::new(&mut **answer).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Fixed(bytes) => bytes.is_none(),
            Self::Answer(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Fixed(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Answer(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("channels", &self.channels).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_behind_any_prefix_and_have_one_spelling() {
        let id = "00112233445566778899aabbccddeeff";
        let channel = ChannelId::parse(id).expect("a name");
        let post = |number| Some(Route::Post { channel, number });
        assert_eq!(Route::parse("/api/v0/info"), Some(Route::Info));
        assert_eq!(Route::parse("/eid/api/v0/sync/noise"), Some(Route::Handshake));
        assert_eq!(Route::parse(&format!("/api/v0/sync/{id}/0")), post(0));
        assert_eq!(Route::parse(&format!("/a/b/api/v0/sync/{id}/18446744073709551615")), post(u64::MAX));
        for path in [
            "/",
            "/api/v0/",
            "/api/v0/info/",
            "/api/v1/info",
            "/api/v0/sync",
            "/api/v0/sync/",
            "/api/v0/sync/noise/",
            "/api/v0/databases",
            "/api/v0/sync/00/0",
            &format!("/api/v0/sync/{id}"),
            &format!("/api/v0/sync/{id}/"),
            &format!("/api/v0/sync/{id}/-1"),
            &format!("/api/v0/sync/{id}/+1"),
            &format!("/api/v0/sync/{id}/01"),
            &format!("/api/v0/sync/{id}/1/"),
            &format!("/api/v0/sync/{id}/18446744073709551616"),
            &format!("/api/v0/sync/{}/1", id.to_uppercase()),
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
