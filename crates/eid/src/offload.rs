//! Crossing over to threads that may wait for a disk.

use eid_db::{Database, DbError, Transaction};

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

/// Writes what has to see what is there. Waits for its turn without a thread: the write whose turn it is needs one to be
/// stored, and would never get it if those who wait for it had them all.
pub(crate) async fn write_in_turn<R>(
    db: &Database,
    work: impl FnOnce(&Transaction) -> Result<R, DbError>,
) -> Result<R, Error> {
    let (result, pending) = db.write_async(work).await?;
    offload(move || pending.commit()).await??;
    Ok(result)
}
