//! Crossing over to threads that may wait for a disk.

use crate::error::{Error, ErrorKind};

/// Runs work on a thread that may block.
pub(crate) async fn offload<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|cause| {
        Error::caused(ErrorKind::Closed, "the runtime shut down before the work was done", cause)
    })
}
