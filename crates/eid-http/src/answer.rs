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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;
    use crate::channels::Channels;
    use crate::limits::{ANSWER_PIECES_MAX, Bounds, KEEP_ALIVE};
    use crate::noise::{ChannelId, Identity};
    use crate::seal::Opener;

    fn channel() -> (Channels, Arc<Channel>, Arc<Channel>) {
        let identity = Identity::draw().expect("randomness");
        let (initiator, first) = identity.initiate().expect("randomness");
        let (responder, second) = identity.respond(&first, ChannelId([1; 16])).expect("genuine");
        let (id, third, near) = initiator.finish(&second).expect("genuine");
        let far = responder.finish(&third).expect("genuine");
        let channels = Channels::new(Bounds::default());
        // The client's side has the same secret; a second channel stands in for it.
        let (client, _) = channels.open(ChannelId([2; 16]), near, None, Instant::now()).expect("room");
        let (server, _) = channels.open(id, far, None, Instant::now()).expect("room");
        (channels, server, client)
    }

    fn answer(channel: &Arc<Channel>) -> (mpsc::Sender<Piece>, Answer) {
        let (sender, pieces) = mpsc::channel(ANSWER_PIECES_MAX);
        (sender, Answer::of_link(channel, channel.in_use().expect("few requests"), 5, pieces, KEEP_ALIVE))
    }

    async fn next(answer: &mut Answer, opener: &mut Opener) -> Option<Record> {
        let data = answer.frame().await?.expect("not torn").into_data().expect("data");
        opener.feed(&data).expect("not ended");
        opener.next().expect("genuine")
    }

    fn data(bytes: &'static [u8]) -> Piece {
        Piece::Data(Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn what_is_ready_at_once_is_one_record() {
        let (_channels, server, client) = channel();
        let (sender, mut answer) = answer(&server);
        let mut opener = client.secret.opener(Direction::Answer, 5);
        for piece in [data(b"one "), data(b"two "), data(b"three"), Piece::End] {
            sender.send(piece).await.expect("room");
        }
        let record = next(&mut answer, &mut opener).await;
        assert_eq!(record, Some(Record::End(Bytes::from_static(b"one two three"))));
        assert!(answer.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_piece_beyond_a_record_is_cut_at_its_bound() {
        let (_channels, server, client) = channel();
        let (sender, mut answer) = answer(&server);
        let mut opener = client.secret.opener(Direction::Answer, 5);
        sender.send(data(b"x")).await.expect("room");
        sender.send(Piece::Data(vec![7; RECORD_DATA_MAX].into())).await.expect("room");
        sender.send(Piece::End).await.expect("room");
        let Some(Record::Data(first)) = next(&mut answer, &mut opener).await else { panic!("data") };
        assert_eq!(first.len(), RECORD_DATA_MAX);
        assert_eq!(next(&mut answer, &mut opener).await, Some(Record::End(Bytes::from_static(&[7]))));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_keep_alive_records() {
        let (_channels, server, client) = channel();
        let (sender, mut answer) = answer(&server);
        let mut opener = client.secret.opener(Direction::Answer, 5);
        let begin = Instant::now();
        for _ in 0..3 {
            assert_eq!(next(&mut answer, &mut opener).await, Some(Record::KeepAlive));
        }
        assert!(begin.elapsed() >= 3 * KEEP_ALIVE && begin.elapsed() < 4 * KEEP_ALIVE);
        sender.send(Piece::End).await.expect("room");
        assert_eq!(next(&mut answer, &mut opener).await, Some(Record::End(Bytes::new())));
    }

    #[tokio::test]
    async fn a_link_that_goes_away_closes_an_answer_not_begun_and_tears_one_begun() {
        let (_channels, server, client) = channel();
        let (sender, mut untouched) = answer(&server);
        drop(sender);
        let mut opener = client.secret.opener(Direction::Answer, 5);
        assert_eq!(next(&mut untouched, &mut opener).await, Some(Record::Closed));

        let (sender, mut begun) = answer(&server);
        sender.send(data(b"half")).await.expect("room");
        let mut opener = client.secret.opener(Direction::Answer, 5);
        assert_eq!(next(&mut begun, &mut opener).await, Some(Record::Data(Bytes::from_static(b"half"))));
        drop(sender);
        assert!(begun.frame().await.expect("something").is_err());
    }

    #[tokio::test]
    async fn the_end_of_a_channel_ends_its_answers() {
        let (channels, server, client) = channel();
        let (_sender, mut answer) = answer(&server);
        channels.close(&server);
        let mut opener = client.secret.opener(Direction::Answer, 5);
        assert_eq!(next(&mut answer, &mut opener).await, Some(Record::Closed));
    }
}
