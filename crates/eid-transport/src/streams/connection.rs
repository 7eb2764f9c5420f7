//! A channel as a connection.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use eid_core::PublicKey;

use super::link::StreamLink;
use super::{Channel, Patience, Reason, Sink as _, within};
use crate::limits::LINKS_MAX;
use crate::{BoxFuture, Connection, Link, LinkError};

/// A [`Connection`] over a [`Channel`]. The last of it and its links to go closes the channel.
#[derive(Debug)]
pub struct StreamConnection<C: Channel> {
    held: Arc<Held<C>>,
    /// The first stream of the other side, when it has come before anybody accepted it.
    first: Mutex<Option<(C::Sink, C::Source)>>,
    begun: AtomicBool,
}

/// What a connection and its links hold together.
#[derive(Debug)]
pub(super) struct Held<C: Channel> {
    pub(super) channel: C,
    pub(super) patience: Patience,
    binding: [u8; 32],
    proven: Option<PublicKey>,
    /// Links that this side has opened and that are open.
    opened: AtomicUsize,
    leaving: Mutex<Leaving>,
    /// Kept for as long as the connection is.
    _place: Box<dyn std::fmt::Debug + Send + Sync>,
}

/// What was sent on links that are closed already, and may not have arrived.
#[derive(Default)]
struct Leaving(Vec<BoxFuture<'static, ()>>);

impl std::fmt::Debug for Leaving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaving({})", self.0.len())
    }
}

impl Leaving {
    /// Lets go of what has arrived.
    fn sweep(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        self.0.retain_mut(|sent| sent.as_mut().poll(&mut context).is_pending());
    }
}

impl<C: Channel> Held<C> {
    pub(super) fn leave(&self, sink: &C::Sink) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.sweep();
        // Each is waited for only as a courtesy, so that there can be no more of them than of links.
        if leaving.0.len() < 2 * LINKS_MAX {
            leaving.0.push(sink.delivered());
        }
    }

    pub(super) fn closed(&self) {
        self.opened.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Channel> Drop for Held<C> {
    fn drop(&mut self) {
        self.channel.close(Reason::Done);
    }
}

impl<C: Channel> StreamConnection<C> {
    /// A connection over a channel with this binding, whose other side the transport has proven to hold this key.
    /// `place` is kept for as long as the connection is open.
    pub fn new(
        channel: C,
        patience: Patience,
        binding: [u8; 32],
        proven: Option<PublicKey>,
        place: Box<dyn std::fmt::Debug + Send + Sync>,
    ) -> Self {
        let held = Held {
            channel,
            patience,
            binding,
            proven,
            opened: AtomicUsize::new(0),
            leaving: Mutex::default(),
            _place: place,
        };
        Self { held: Arc::new(held), first: Mutex::new(None), begun: AtomicBool::new(false) }
    }

    /// Waits for the first link of the other side, which [`Connection::accept`] then gives. Says whether it came in time:
    /// a connection that brings nothing is worth nothing.
    pub async fn begins(&self) -> bool {
        let time = self.held.channel.sleep(self.held.patience.first_byte);
        let first = within(time, self.held.channel.accept()).await.flatten();
        let came = first.is_some();
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = first;
        came
    }

    async fn next(&self) -> Option<Box<dyn Link>> {
        if self.held.channel.lost().is_some() {
            return None;
        }
        // The first link is where the peer proves who it is: nobody asks for another before that.
        if self.begun.load(Ordering::Relaxed) {
            self.held.channel.trust();
        }
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (sink, source) = match first {
            Some(first) => first,
            None => self.held.channel.accept().await?,
        };
        self.begun.store(true, Ordering::Relaxed);
        Some(Box::new(StreamLink::accepted(Arc::clone(&self.held), sink, source)))
    }

    async fn begin(&self) -> Result<Box<dyn Link>, LinkError> {
        if let Some(lost) = self.held.channel.lost() {
            return Err(lost.into());
        }
        let opening = Opening::enter(&self.held)?;
        let time = self.held.channel.sleep(self.held.patience.first_byte);
        // The other side forgets a link a moment after this one, and counts it until then.
        let stream = within(time, self.held.channel.open()).await.ok_or(LinkError::TooManyLinks)?;
        let (sink, source) = stream?;
        Ok(Box::new(StreamLink::opened(opening.done(), sink, source)))
    }

    async fn end(&self) {
        let leaving = std::mem::take(&mut self.held.leaving.lock().unwrap_or_else(PoisonError::into_inner).0);
        if self.held.channel.lost().is_none() && !leaving.is_empty() {
            let time = self.held.channel.sleep(self.held.patience.goodbye);
            let arrived = async {
                for sent in leaving {
                    sent.await;
                }
            };
            // Whoever does not take it in time does without.
            within(time, arrived).await;
        }
        self.held.channel.close(Reason::Done);
    }
}

/// A link that is being opened, counted until it is given up.
struct Opening<'a, C: Channel>(Option<&'a Arc<Held<C>>>);

impl<'a, C: Channel> Opening<'a, C> {
    fn enter(held: &'a Arc<Held<C>>) -> Result<Self, LinkError> {
        let more = |links: usize| (links < LINKS_MAX).then_some(links + 1);
        match held.opened.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self(Some(held))),
            Err(_) => Err(LinkError::TooManyLinks),
        }
    }

    /// Goes on to be counted as a link.
    fn done(mut self) -> Arc<Held<C>> {
        Arc::clone(self.0.take().expect("taken here only"))
    }
}

impl<C: Channel> Drop for Opening<'_, C> {
    fn drop(&mut self) {
        if let Some(held) = self.0 {
            held.closed();
        }
    }
}

impl<C: Channel> Connection for StreamConnection<C> {
    fn binding(&self) -> [u8; 32] {
        self.held.binding
    }

    fn proven(&self) -> Option<PublicKey> {
        self.held.proven
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Link>, LinkError>> {
        Box::pin(self.begin())
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Link>>> {
        Box::pin(self.next())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}
