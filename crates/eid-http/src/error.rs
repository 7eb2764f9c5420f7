//! Causes that stand behind the errors of links and dials.

use eid_transport::Cause;
use http::StatusCode;

/// How a link or a dial broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The other side stopped in the middle of its turn.
    #[error("the other side left in the middle of its turn")]
    TurnTorn,
    /// The client no longer takes the answer.
    #[error("the other side no longer takes the answer")]
    AnswerRefused,
    /// A request was repeated after its answer had been lost.
    #[error("the answer to a request was lost")]
    AnswerLost,
    /// A status that says nothing of the channel: most often a proxy's.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    /// The answer to a first message has another form.
    #[error("the answer to the handshake has {0} bytes")]
    HandshakeLength(usize),
    /// The request or its answer broke.
    #[error("the request failed")]
    Http(#[source] Cause),
}
