//! Turns of frames travel in POST bodies and their answers, sealed from the first link on, and a proxy in between
//! sees neither what they say nor whom they are for.
//!
//! [`HttpTransport`] serves addresses `http://HOST:PORT[/prefix]`. A dial is one POST with the first message of a Noise
//! XX handshake; the last message travels at the front of the first turn. From then on every POST has a number and
//! every body its own key; bodies that were changed, shortened, repeated or moved are refused. The channel binding is
//! the hash of the handshake. Who the other side *is* is not proven here: the static keys live as long as the process.
//!
//! A request body is complete before its answer begins, and a turn of the client travels in parts below 1 MiB, so
//! HTTP/1.1, HTTP/2 without TLS, and reverse proxies that buffer in both directions with default settings all do.
//! The crate knows nothing of what is in a frame, of databases, or of rights.
//!
//! ```
//! use bytes::Bytes;
//! use eid_http::{HttpConfig, HttpTransport};
//! use eid_transport::{Received, Transport};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let server = HttpTransport::new(HttpConfig::listening("127.0.0.1:0"));
//! server.listen().await?;
//! let client = HttpTransport::new(HttpConfig::default());
//!
//! let near = client.dial(&server.addresses()[0]).await?;
//! let mut question = near.open().await?;
//! question.send(Bytes::from_static(b"how many?")).await?;
//! question.end_turn().await?;
//!
//! let far = server.accept().await.expect("somebody has dialled");
//! assert_eq!(near.binding(), far.binding());
//! let mut answer = far.accept().await.expect("a link was opened");
//! assert_eq!(answer.recv().await?, Received::Frame(Bytes::from_static(b"how many?")));
//! # server.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accepted;
mod answer;
mod channels;
mod dialled;
mod error;
mod frames;
pub mod limits;
mod noise;
mod numbers;
mod routes;
mod seal;
mod server;
mod signal;
mod stall;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;

pub use limits::Bounds;
pub use transport::{HttpConfig, HttpTransport, Info};

/// The type of every body of a POST and of its sealed answer.
pub(crate) const SEALED_TYPE: &str = "application/vnd.eid.sealed";
