//! A stream as a link.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::connection::Held;
use super::frames::{Item, Items, Malformed, aside_field, end_of_turn, length_field};
use super::{Channel, Lost, Sink as _, Source as _, torn, within};
use crate::limits::{
    ASIDE_BYTES_MAX, FRAME_BYTES_MAX, FRAME_OVERHEAD, OPENER_TURN_BYTES_MAX, READ_BYTES_MAX,
};
use crate::{BoxFuture, Link, LinkBytes, LinkError, Received};

/// One side of a link.
pub(super) struct StreamLink<C: Channel> {
    held: Arc<Held<C>>,
    sink: C::Sink,
    source: C::Source,
    opener: bool,
    turn: Turn,
    /// Bytes of the turn so far, whosever it is, each frame counted with [`FRAME_OVERHEAD`].
    turn_bytes: usize,
    /// What the opener's turn may come to: each word aside lets it go on.
    opener_bytes_max: usize,
    items: Items,
    /// When the frame that has begun to arrive has to be here.
    deadline: Option<BoxFuture<'static, ()>>,
    bytes: LinkBytes,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Mine,
    /// Something is being sent; whoever finds the link like this after a `send` that was dropped finds it broken.
    Sending,
    Theirs,
    Dead,
}

impl<C: Channel> StreamLink<C> {
    pub(super) fn opened(held: Arc<Held<C>>, sink: C::Sink, source: C::Source) -> Self {
        Self::new(held, sink, source, true)
    }

    pub(super) fn accepted(held: Arc<Held<C>>, sink: C::Sink, source: C::Source) -> Self {
        Self::new(held, sink, source, false)
    }

    fn new(held: Arc<Held<C>>, sink: C::Sink, source: C::Source, opener: bool) -> Self {
        Self {
            held,
            sink,
            source,
            opener,
            turn: if opener { Turn::Mine } else { Turn::Theirs },
            turn_bytes: 0,
            opener_bytes_max: OPENER_TURN_BYTES_MAX,
            items: Items::default(),
            deadline: None,
            bytes: LinkBytes::default(),
        }
    }

    fn may_send(&self) -> Result<(), LinkError> {
        match self.turn {
            Turn::Mine => Ok(()),
            Turn::Theirs => Err(LinkError::OutOfTurn),
            Turn::Sending | Turn::Dead => Err(LinkError::Closed),
        }
    }

    /// Sends what this side may say.
    async fn put(&mut self, mut bytes: [Bytes; 2]) -> Result<(), LinkError> {
        let turn = std::mem::replace(&mut self.turn, Turn::Sending);
        let time = self.held.channel.sleep(self.held.patience.stall);
        within(time, self.sink.write(&mut bytes)).await.ok_or(LinkError::TimedOut)??;
        self.turn = turn;
        Ok(())
    }

    /// Begins the next turn.
    fn begin(&mut self, turn: Turn) {
        self.turn = turn;
        self.turn_bytes = 0;
        self.opener_bytes_max = OPENER_TURN_BYTES_MAX;
    }

    async fn next(&mut self) -> Result<Received, LinkError> {
        loop {
            match self.items.next().map_err(|Malformed| LinkError::Corrupt)? {
                Some(Item::Frame(frame)) => {
                    self.deadline = None;
                    self.turn_bytes = self.turn_bytes.saturating_add(frame.len() + FRAME_OVERHEAD);
                    // The opener's turn has a bound, and this side is not the opener.
                    let is_mine = self.turn == Turn::Mine;
                    if is_mine || !self.opener && self.turn_bytes > self.opener_bytes_max {
                        return Err(LinkError::Corrupt);
                    }
                    self.bytes.received += frame.len() as u64;
                    return Ok(Received::Frame(frame));
                }
                Some(Item::Aside(frame)) => {
                    self.deadline = None;
                    if self.turn == Turn::Mine {
                        self.opener_bytes_max = self.opener_bytes_max.saturating_add(OPENER_TURN_BYTES_MAX);
                    }
                    self.bytes.received += frame.len() as u64;
                    return Ok(Received::Aside(frame));
                }
                Some(Item::EndOfTurn) => {
                    self.deadline = None;
                    // A turn begins after the one before it has ended, which nobody knew when this was sent.
                    if !self.items.is_empty() || self.turn == Turn::Mine {
                        return Err(LinkError::Corrupt);
                    }
                    self.begin(Turn::Mine);
                    return Ok(Received::EndOfTurn);
                }
                None => {}
            }
            if !self.items.is_empty() && self.deadline.is_none() {
                self.deadline = Some(self.held.channel.sleep(self.held.patience.frame));
            }
            let reading = self.source.read(READ_BYTES_MAX);
            let read = match &mut self.deadline {
                Some(deadline) => within(Box::pin(deadline), reading).await.ok_or(LinkError::TimedOut)?,
                None => reading.await,
            };
            let owes_nothing = self.turn_bytes == 0 || self.turn == Turn::Mine;
            let between_turns = owes_nothing && self.items.is_empty();
            match read {
                Ok(Some(bytes)) => self.items.feed(&bytes),
                Ok(None) | Err(Lost::Closed) if between_turns => return Ok(Received::Closed),
                Ok(None) | Err(Lost::Closed) => return Err(torn()),
                Err(lost) => return Err(lost.into()),
            }
        }
    }
}

impl<C: Channel> Link for StreamLink<C> {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.may_send()?;
            let length = frame.len();
            let turn_bytes = self.turn_bytes + length + FRAME_OVERHEAD;
            if length > FRAME_BYTES_MAX || (self.opener && turn_bytes > self.opener_bytes_max) {
                return Err(LinkError::TooLarge);
            }
            self.put([length_field(&frame), frame]).await?;
            // The responder's turn has no bound, and its size no meaning beyond being there.
            self.turn_bytes = if self.opener { turn_bytes } else { FRAME_OVERHEAD };
            self.bytes.sent += length as u64;
            Ok(())
        })
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.may_send()?;
            self.put([end_of_turn(), Bytes::new()]).await?;
            self.begin(Turn::Theirs);
            Ok(())
        })
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async move {
            match self.turn {
                Turn::Theirs | Turn::Mine => {}
                Turn::Sending | Turn::Dead => return Err(LinkError::Closed),
            }
            let received = self.next().await;
            if matches!(received, Err(_) | Ok(Received::Closed)) {
                self.turn = Turn::Dead;
                self.source.stop();
            }
            received
        })
    }

    fn is_duplex(&self) -> bool {
        true
    }

    fn send_aside(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            match self.turn {
                Turn::Theirs => {}
                Turn::Mine => return Err(LinkError::OutOfTurn),
                Turn::Sending | Turn::Dead => return Err(LinkError::Closed),
            }
            if frame.len() > ASIDE_BYTES_MAX {
                return Err(LinkError::TooLarge);
            }
            let length = frame.len() as u64;
            self.put([aside_field(&frame), frame]).await?;
            self.opener_bytes_max = self.opener_bytes_max.saturating_add(OPENER_TURN_BYTES_MAX);
            self.bytes.sent += length;
            Ok(())
        })
    }

    fn bytes(&self) -> LinkBytes {
        self.bytes
    }
}

impl<C: Channel> Drop for StreamLink<C> {
    fn drop(&mut self) {
        if self.opener {
            self.held.closed();
        }
        let in_my_turn = self.turn == Turn::Mine && self.turn_bytes > 0;
        if in_my_turn || self.turn == Turn::Sending {
            self.sink.reset();
        } else {
            self.sink.finish();
            self.held.leave(&self.sink);
        }
        self.source.stop();
    }
}

impl<C: Channel> fmt::Debug for StreamLink<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLink")
            .field("opener", &self.opener)
            .field("turn", &self.turn)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
