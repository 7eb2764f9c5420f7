//! Waking whoever waits for a change.

use std::future::{Future, poll_fn};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

use eid_transport::BoxFuture;

/// Wakes everybody who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    raised: u64,
    wakers: Vec<Waker>,
}

impl Signal {
    pub(crate) fn raise(&self) {
        let wakers = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.raised += 1;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How often it was raised: what [`Self::after`] is to be told.
    pub(crate) fn seen(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).raised
    }

    /// Waits until it is raised again since it was seen like this.
    pub(crate) fn after(&self, seen: u64) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(move |cx| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.raised != seen {
                return Poll::Ready(());
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// What the first of several gives that is ready; the others are dropped.
pub(crate) async fn first_of<T>(mut futures: Vec<BoxFuture<'_, T>>) -> T {
    poll_fn(move |cx| {
        for future in &mut futures {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}
