//! The body of an answer: what a link sends, sealed while it goes out.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::channels::{Channel, InUse};
use crate::seal::{Direction, RECORD_DATA_MAX, Record, Sealer};
use crate::signal::until;

/// What a link hands over for its answer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// More of the turn.
    Data(Bytes),
    /// The turn ends.
    End,
}

/// The answer to one request, as it is produced.
///
/// It ends with the turn. If whoever produces it goes away first, it ends as closed when nothing of the turn was sent,
/// and otherwise it breaks, so that nobody takes half a turn for a whole one.
pub(crate) struct Answer {
    sealer: Sealer,
    source: Source,
    /// Taken from the source and not yet sealed.
    rest: Bytes,
    begun: bool,
    keep_alive: Pin<Box<Sleep>>,
    silence: Duration,
    _in_use: InUse,
}

enum Source {
    Link { pieces: mpsc::Receiver<Piece>, closed: Pin<Box<dyn Future<Output = ()> + Send>> },
    Ending(Record),
    Done,
}

/// Whoever produced an answer went away in the middle.
#[derive(Debug, thiserror::Error)]
#[error("the answer was torn")]
pub(crate) struct Torn;

impl Answer {
    /// An answer that a link produces.
    pub(crate) fn of_link(
        channel: &Channel,
        in_use: InUse,
        number: u64,
        pieces: mpsc::Receiver<Piece>,
        silence: Duration,
    ) -> Self {
        let mut watch = channel.watch();
        let closed = Box::pin(async move { until(&mut watch, |closed| *closed).await });
        Self::new(channel, in_use, number, Source::Link { pieces, closed }, silence)
    }

    /// An answer that only says that the request has been taken, or that its link is closed.
    pub(crate) fn short(
        channel: &Channel,
        in_use: InUse,
        number: u64,
        record: Record,
        silence: Duration,
    ) -> Self {
        Self::new(channel, in_use, number, Source::Ending(record), silence)
    }

    fn new(channel: &Channel, in_use: InUse, number: u64, source: Source, silence: Duration) -> Self {
        Self {
            sealer: channel.secret.sealer(Direction::Answer, number),
            source,
            rest: Bytes::new(),
            begun: false,
            keep_alive: Box::pin(tokio::time::sleep(silence)),
            silence,
            _in_use: in_use,
        }
    }

    /// The next record, made of all that is ready.
    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Record, Torn>>> {
        let (pieces, closed) = match &mut self.source {
            Source::Link { pieces, closed } => (pieces, closed),
            Source::Ending(_) => {
                let Source::Ending(record) = std::mem::replace(&mut self.source, Source::Done) else {
                    return Poll::Ready(None);
                };
                return Poll::Ready(Some(Ok(record)));
            }
            Source::Done => return Poll::Ready(None),
        };
        let mut data = BytesMut::new();
        loop {
            let part = self.rest.len().min(RECORD_DATA_MAX - data.len());
            data.extend_from_slice(&self.rest[..part]);
            self.rest.advance(part);
            if data.len() == RECORD_DATA_MAX {
                return Poll::Ready(Some(Ok(Record::Data(data.freeze()))));
            }
            match pieces.poll_recv(context) {
                Poll::Ready(Some(Piece::Data(piece))) => {
                    self.begun = true;
                    self.rest = piece;
                }
                Poll::Ready(Some(Piece::End)) => {
                    self.source = Source::Done;
                    return Poll::Ready(Some(Ok(Record::End(data.freeze()))));
                }
                Poll::Ready(None) => return Poll::Ready(Some(self.abandoned())),
                Poll::Pending if data.is_empty() => {
                    if closed.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Some(self.abandoned()));
                    }
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(Some(Ok(Record::Data(data.freeze())))),
            }
        }
    }

    fn abandoned(&mut self) -> Result<Record, Torn> {
        self.source = Source::Done;
        if self.begun { Err(Torn) } else { Ok(Record::Closed) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        let this = &mut *self;
        let record = match this.poll_record(context) {
            Poll::Ready(Some(Ok(record))) => record,
            Poll::Ready(Some(Err(torn))) => return Poll::Ready(Some(Err(torn))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if this.keep_alive.as_mut().poll(context).is_ready() => Record::KeepAlive,
            Poll::Pending => return Poll::Pending,
        };
        this.keep_alive.as_mut().reset(Instant::now() + this.silence);
        let mut sealed = BytesMut::new();
        this.sealer.seal(&record, &mut sealed);
        Poll::Ready(Some(Ok(Frame::data(sealed.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Done)
    }
}
