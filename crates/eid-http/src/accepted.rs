//! The server's side of a connection and of its links.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use eid_core::PublicKey;
use eid_transport::limits::{FRAME_BYTES_MAX, OPENER_TURN_BYTES_MAX};
use eid_transport::{BoxFuture, Connection, Link, LinkBytes, LinkError, Received};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, mpsc, watch};

use crate::answer::Piece;
use crate::channels::{Channel, Channels, FreshLink, Part};
use crate::error::Broken;
use crate::frames::{Frames, length_field};
use crate::seal::RECORD_DATA_MAX;
use crate::signal::until;

/// A connection that a client has dialled.
#[derive(Debug)]
pub(crate) struct Accepted {
    held: Arc<Held>,
    links: AsyncMutex<mpsc::Receiver<FreshLink>>,
    /// The first link has been handed over.
    begun: AtomicBool,
}

/// A channel as its connection and links hold it: the last of them to go closes it.
#[derive(Debug)]
struct Held {
    channel: Arc<Channel>,
    channels: Arc<Channels>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.channels.close(&self.channel);
    }
}

impl Accepted {
    pub(crate) fn new(
        channel: Arc<Channel>,
        channels: Arc<Channels>,
        links: mpsc::Receiver<FreshLink>,
    ) -> Self {
        Self {
            held: Arc::new(Held { channel, channels }),
            links: AsyncMutex::new(links),
            begun: AtomicBool::new(false),
        }
    }
}

impl Connection for Accepted {
    fn binding(&self) -> [u8; 32] {
        self.held.channel.binding
    }

    fn proven(&self) -> Option<PublicKey> {
        None
    }

    /// A server has no way to begin: over HTTP the client asks.
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async {
            Err(if self.held.channel.is_closed() { LinkError::Closed } else { LinkError::OutOfTurn })
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(async {
            // The first link is where the peer proves who it is: nobody asks for another before that.
            if self.begun.load(Ordering::Relaxed) {
                self.held.channel.prove();
            }
            let mut closed = self.held.channel.watch();
            let next = async { self.links.lock().await.recv().await };
            let fresh = tokio::select! {
                biased;
                () = until(&mut closed, |closed| *closed) => None,
                fresh = next => fresh,
            }?;
            self.begun.store(true, Ordering::Relaxed);
            Some(Box::new(AcceptedLink::new(self.held.clone(), fresh)) as Box<dyn Link>)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.held.channels.close(&self.held.channel) })
    }
}

/// The server's side of a link.
#[derive(Debug)]
struct AcceptedLink {
    held: Arc<Held>,
    number: u32,
    parts: mpsc::Receiver<Part>,
    closed: watch::Receiver<bool>,
    frames: Frames,
    /// What the part in `frames` takes up; given back when the next one comes.
    room: Option<OwnedSemaphorePermit>,
    /// The end of the part that `frames` holds.
    turn_ends: Option<mpsc::Sender<Piece>>,
    /// Bytes of the client's turn so far; `None` between turns.
    turn_bytes: Option<usize>,
    answer: Option<mpsc::Sender<Piece>>,
    dead: bool,
    bytes: LinkBytes,
}

impl AcceptedLink {
    fn new(held: Arc<Held>, fresh: FreshLink) -> Self {
        Self {
            closed: held.channel.watch(),
            held,
            number: fresh.number,
            parts: fresh.parts,
            frames: Frames::default(),
            room: None,
            turn_ends: None,
            turn_bytes: None,
            answer: None,
            dead: false,
            bytes: LinkBytes::default(),
        }
    }

    async fn put(&mut self, piece: Piece) -> Result<(), LinkError> {
        let answer = self.answer.as_ref().ok_or(LinkError::OutOfTurn)?;
        let taken = tokio::select! {
            biased;
            () = until(&mut self.closed, |closed| *closed) => Err(LinkError::Closed),
            sent = answer.send(piece) => sent.map_err(|_| LinkError::Cut(Broken::AnswerRefused.into())),
        };
        self.dead |= taken.is_err();
        taken
    }

    async fn next(&mut self) -> Result<Received, LinkError> {
        loop {
            if let Some(frame) = self.frames.next().map_err(|_| LinkError::Corrupt)? {
                self.bytes.received += frame.len() as u64;
                return Ok(Received::Frame(frame));
            }
            if let Some(answer) = self.turn_ends.take() {
                if !self.frames.is_empty() {
                    return Err(LinkError::Corrupt);
                }
                self.turn_bytes = None;
                self.room = None;
                self.answer = Some(answer);
                return Ok(Received::EndOfTurn);
            }
            let part = tokio::select! {
                biased;
                part = self.parts.recv() => part,
                () = until(&mut self.closed, |closed| *closed) => None,
            };
            let body = match part {
                Some(Part::More(body)) => body,
                Some(Part::Turn(body, answer)) => {
                    self.turn_ends = Some(answer);
                    body
                }
                Some(Part::Closed { torn: true }) => return Err(LinkError::Cut(Broken::TurnTorn.into())),
                Some(Part::Closed { torn: false }) | None => {
                    return match self.turn_bytes {
                        Some(bytes) if bytes > 0 => Err(LinkError::Cut(Broken::TurnTorn.into())),
                        _ => Ok(Received::Closed),
                    };
                }
            };
            let turn_bytes = self.turn_bytes.unwrap_or(0) + body.bytes.len();
            if turn_bytes > OPENER_TURN_BYTES_MAX {
                return Err(LinkError::Corrupt);
            }
            self.turn_bytes = Some(turn_bytes);
            self.frames.feed(&body.bytes);
            self.room = body.room;
        }
    }
}

impl Link for AcceptedLink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            if self.dead {
                return Err(LinkError::Closed);
            }
            if self.answer.is_none() {
                return Err(LinkError::OutOfTurn);
            }
            if frame.len() > FRAME_BYTES_MAX {
                return Err(LinkError::TooLarge);
            }
            let length = frame.len() as u64;
            self.put(Piece::Data(Bytes::copy_from_slice(&length_field(&frame)))).await?;
            let mut rest = frame;
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(RECORD_DATA_MAX));
                self.put(Piece::Data(piece)).await?;
            }
            self.bytes.sent += length;
            Ok(())
        })
    }

    fn end_turn(&mut self) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async {
            if self.dead {
                return Err(LinkError::Closed);
            }
            self.put(Piece::End).await?;
            self.answer = None;
            Ok(())
        })
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Received, LinkError>> {
        Box::pin(async {
            if self.dead {
                return Err(LinkError::Closed);
            }
            if self.answer.is_some() {
                return Err(LinkError::OutOfTurn);
            }
            let received = self.next().await;
            self.dead |= matches!(received, Err(_) | Ok(Received::Closed));
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

impl Drop for AcceptedLink {
    fn drop(&mut self) {
        self.held.channel.remove(self.number);
    }
}
