//! What an entry store can fail with.

use eid_core::{Invalid, Missing, ReadError, Refusal, Unsupported};

use crate::backend::BackendError;

/// Why a call on an [`crate::EntryStore`] did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The engine failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A local commit is not valid, such as one without the right to write.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database is not held here.
    #[error("the database is not held here")]
    UnknownTree,
    /// Too many callers wait already.
    #[error("too many commits are waiting")]
    Busy,
    /// So much was written beside the version that was asked for that its rows do not fit in memory.
    #[error("more than {bytes_max} bytes of rows were written beside this version")]
    VersionTooLarge {
        /// [`crate::limits::VERSION_BYTES_MAX`].
        bytes_max: usize,
    },
    /// A stored row is not what was written.
    #[error("the store is damaged: {what}")]
    Corrupt {
        /// Which rows.
        what: &'static str,
    },
    /// A judge or a view failed to read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl StoreError {
    /// Whether trying the same again can help without anybody doing something first.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend(error) => error.is_transient(),
            Self::Busy => true,
            Self::Refused(_)
            | Self::UnknownTree
            | Self::VersionTooLarge { .. }
            | Self::Corrupt { .. }
            | Self::Read(_) => false,
        }
    }
}

macro_rules! refused {
    ($($cause:ty),*) => {
        $(impl From<$cause> for StoreError {
            fn from(cause: $cause) -> Self {
                Self::Refused(cause.into())
            }
        })*
    };
}
refused!(Invalid, Missing, Unsupported);

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Read(error) => error,
            error => Self::new(error),
        }
    }
}
