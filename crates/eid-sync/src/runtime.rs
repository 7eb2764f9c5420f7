//! The seam to the world: time, tasks, blocking work, randomness.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use eid_transport::BoxFuture;

/// What the engine needs of an async runtime. The simulator has one of its own and runs the engine unchanged.
///
/// # Contract
/// - `spawn` runs the task to its end, or drops it when the runtime goes away.
/// - `blocking` is done when the work has run, or has been dropped because the runtime went away or the work
///   panicked. The work may block; it does not have to run elsewhere.
/// - `random` never gives the same bytes twice.
pub trait Runtime: Debug + Send + Sync {
    /// The wall clock in milliseconds since 1970: for deadlines and figures, never for authority.
    fn now_ms(&self) -> u64;
    /// Milliseconds of a clock that only goes forward and is never set: for what is due when.
    fn monotonic_ms(&self) -> u64;
    /// Waits.
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()>;
    /// Runs a task beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    /// Runs work that may block.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
    /// Secret random bytes.
    fn random(&self) -> [u8; 32];
}

/// The runtime of programs: tokio.
#[derive(Debug, Clone)]
pub struct TokioRuntime {
    handle: tokio::runtime::Handle,
    began: Instant,
}

impl TokioRuntime {
    /// Runs tasks on this runtime, which must have time enabled.
    #[must_use]
    pub fn new(handle: tokio::runtime::Handle) -> Self {
        Self { handle, began: Instant::now() }
    }

    /// Runs tasks on the runtime of the caller.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn current() -> Self {
        Self::new(tokio::runtime::Handle::current())
    }
}

impl Runtime for TokioRuntime {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        let _entered = self.handle.enter();
        Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let running = self.handle.spawn_blocking(work);
        Box::pin(async move {
            if let Err(error) = running.await {
                tracing::error!(%error, "blocking work did not end");
            }
        })
    }

    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system's source of randomness works");
        bytes
    }
}

/// Runs work that may block and gives what it returns; nothing when it was dropped.
pub(crate) fn blocking<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: impl FnOnce() -> T + Send + 'static,
) -> BoxFuture<'static, Option<T>> {
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    let running = runtime.blocking(Box::new(move || {
        let done = work();
        *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    }));
    Box::pin(async move {
        running.await;
        slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    })
}

/// What a future gives within a time; nothing when the time is over first.
pub(crate) async fn within<T>(
    runtime: &dyn Runtime,
    ms: u64,
    future: impl Future<Output = T> + Send,
) -> Option<T> {
    let mut future = pin!(future);
    let mut deadline = runtime.sleep(ms);
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        deadline.as_mut().poll(cx).map(|()| None)
    })
    .await
}
