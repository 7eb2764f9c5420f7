//! What can end a session, and whose fault it is.

use eid_core::ReadError;
use eid_core::pack::UnpackError;

use crate::compressed::DecompressError;
use crate::message::{DecodeError, RefusalCode};

/// Says why a session ended before both sides had everything.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The other side sent something that is not a message.
    #[error("the other side sent what is no message")]
    Malformed(#[from] DecodeError),
    /// The other side sent entries that cannot be unpacked.
    #[error("the other side sent a batch that is none")]
    Packing(#[from] UnpackError),
    /// The other side sent a compressed batch that is none.
    #[error("the other side sent a compressed batch that is none")]
    Compression(#[from] DecompressError),
    /// The other side sent a message that does not belong here.
    #[error("the other side broke the protocol: {0}")]
    Misplaced(&'static str),
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(RefusalCode),
    /// This side refused.
    #[error("the other side was refused: {0}")]
    Denied(RefusalCode),
    /// Entries are missing that even the exact answer did not bring: the other side withholds them.
    #[error("the other side withholds entries that others descend from")]
    Incomplete,
    /// It went on for longer than any session may. What came is kept, and the next session goes on from there.
    #[error("the session did not end within {} turns", crate::limits::TURNS_MAX)]
    TooLong,
    /// The local store could not be read.
    #[error("the local store could not be read")]
    Read(#[from] ReadError),
    /// The local log ends before its own index says so.
    #[error("the local log has a hole")]
    Hole,
}

impl SessionError {
    /// Whether the other side is at fault.
    #[must_use]
    pub fn is_peers_fault(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_)
                | Self::Packing(_)
                | Self::Compression(_)
                | Self::Misplaced(_)
                | Self::Incomplete
        )
    }

    /// Whether a later session can succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Refused(RefusalCode::Busy | RefusalCode::Failed) | Self::Incomplete | Self::TooLong
        )
    }
}
