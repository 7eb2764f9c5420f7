//! Bounds of the facade, each with its reason.

use std::time::Duration;

/// How long [`crate::Join`] waits unless told otherwise.
pub const JOIN_WAIT: Duration = Duration::from_secs(60);

/// How long a text buffer waits after a first failure to store edits: not much more than a pause in typing.
pub(crate) const TEXT_RETRY_MIN: Duration = Duration::from_millis(250);
/// How long it waits at most when storing fails again and again: that needs a person.
pub(crate) const TEXT_RETRY_MAX: Duration = Duration::from_secs(60);

/// Commands that a control socket runs at once; further ones wait.
#[cfg(feature = "control")]
pub(crate) const CONTROL_COMMANDS_MAX: usize = 32;
/// Longest path of a socket in bytes: 108 with the closing zero on Linux, 104 elsewhere.
#[cfg(feature = "control")]
pub(crate) const CONTROL_PATH_BYTES_MAX: usize = 100;
/// Longest request: a command line of the size that systems allow for one argument and more.
#[cfg(feature = "control")]
pub(crate) const CONTROL_REQUEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long the owner waits for a request after a connection was made.
#[cfg(feature = "control")]
pub(crate) const CONTROL_REQUEST_WAIT: Duration = Duration::from_secs(5);
/// How long the owner waits for a reader that takes no output.
#[cfg(feature = "control")]
pub(crate) const CONTROL_WRITE_WAIT: Duration = Duration::from_secs(30);
