//! Values that futures wait on, without a runtime.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A value that futures wait on: whoever changes it wakes them all, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: Arc<Mutex<Waited<T>>>,
}

#[derive(Debug)]
struct Waited<T> {
    value: T,
    wakers: Vec<Waker>,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { inner: Arc::new(Mutex::new(Waited { value, wakers: Vec::new() })) }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&lock(&self.inner).value)
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let (result, wakers) = {
            let mut waited = lock(&self.inner);
            (change(&mut waited.value), std::mem::take(&mut waited.wakers))
        };
        // Outside the lock: an executor may run a woken task at once.
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits until `ready`, which may change the value then, gives a result.
    pub(crate) fn wait<R>(&self, mut ready: impl FnMut(&mut T) -> Option<R>) -> impl Future<Output = R> {
        poll_fn(move |context| {
            let waiting = {
                let mut waited = lock(&self.inner);
                match ready(&mut waited.value) {
                    Some(result) => Ok((result, std::mem::take(&mut waited.wakers))),
                    None => {
                        if !waited.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                            waited.wakers.push(context.waker().clone());
                        }
                        Err(())
                    }
                }
            };
            match waiting {
                Ok((result, wakers)) => {
                    wakers.into_iter().for_each(Waker::wake);
                    Poll::Ready(result)
                }
                Err(()) => Poll::Pending,
            }
        })
    }
}

/// The state behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
