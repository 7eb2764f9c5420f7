//! Waiting for a value that somebody else sets.

use tokio::sync::watch;

/// Waits until the value is as wanted, or nobody can set it any more.
pub(crate) async fn until<T>(value: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    drop(value.wait_for(wanted).await);
}
