//! Turns of frames travel over streams of a QUIC connection whose two ends have proven their keys, and a client that
//! expects a key meets its holder or nobody.
//!
//! [`QuicTransport`] serves addresses `quic:HOST:PORT`. TLS 1.3 runs with raw public keys (RFC 7250) on both sides: the
//! Ed25519 key of the device is the key of its end, and there are no certificates, names or authorities. The server lets
//! any key in; what it may do is decided above. The channel binding comes from the TLS exporter. Each link is one stream;
//! how frames lie on it is in [`eid_transport::streams`].
//!
//! The crate knows nothing of what is in a frame, of databases, or of rights. It does not find peers, and does not get
//! through routers that let nobody in.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use eid_core::SecretKey;
//! use eid_quic::{QuicConfig, QuicTransport};
//! use eid_transport::{Received, Transport};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let [alice, bob] = [1, 2].map(|seed| Arc::new(SecretKey::from_seed([seed; 32])));
//! let server = QuicTransport::new(QuicConfig::listening(bob.clone(), "127.0.0.1:0"));
//! server.listen().await?;
//! let client = QuicTransport::new(QuicConfig::new(alice.clone()));
//!
//! let near = client.dial_expecting(&server.addresses()[0], bob.public()).await?;
//! let mut question = near.open().await?;
//! question.send(Bytes::from_static(b"how many?")).await?;
//! question.end_turn().await?;
//!
//! let far = server.accept().await.expect("somebody has dialled");
//! assert_eq!(near.binding(), far.binding());
//! assert_eq!(far.proven(), Some(alice.public()));
//! let mut answer = far.accept().await.expect("a link was opened");
//! assert_eq!(answer.recv().await?, Received::Frame(Bytes::from_static(b"how many?")));
//! # server.shutdown().await;
//! # client.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod channel;
mod dialler;
mod error;
pub mod limits;
mod server;
mod tls;
mod transport;

pub use limits::Bounds;
pub use transport::{QuicConfig, QuicTransport};

/// What a client asks for in the handshake: the form of links in this version.
pub const ALPN: &str = "eid/1";
