//! Turns of frames travel to the holder of a key, wherever it is: straight where the network lets them, over a relay
//! where it does not, and from the relay to the straight way without a link noticing.
//!
//! [`IrohTransport`] serves addresses `iroh:KEY[?relay=URL][&ip=IP:PORT..]`. The key is that of the peer's device, and
//! nobody else is met there: iroh's TLS runs with raw public keys, as that of `eid-quic` does. A relay passes sealed
//! packets on between keys; it sees who talks to whom, when and how much. The channel binding comes from the TLS
//! exporter, each link is one stream, and how frames lie on it is in [`eid_transport::streams`].
//!
//! Nothing is looked up and nothing published: an address says everything, unless the feature `mdns` is used, with which
//! peers find each other on the local network. The crate knows nothing of what is in a frame, of databases, or of rights.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use eid_core::SecretKey;
//! use eid_iroh::{IrohConfig, IrohTransport, Relay};
//! use eid_transport::{Received, Transport};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let config = |seed| {
//!     let config = IrohConfig::listening(Arc::new(SecretKey::from_seed([seed; 32])));
//!     IrohConfig { relay: Relay::Off, bind: Some("127.0.0.1:0".parse().unwrap()), ..config }
//! };
//! let (client, server) = (IrohTransport::new(config(1)), IrohTransport::new(config(2)));
//! server.listen().await?;
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
//! # client.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod channel;
mod dialler;
mod error;
pub mod limits;
mod route;
mod server;
mod transport;

pub use iroh::RelayUrl;
pub use limits::Bounds;
pub use route::Route;
pub use transport::{IrohConfig, IrohTransport, Relay, Search};

/// What a client asks for in the handshake: the form of links in this version.
pub const ALPN: &str = "eid/1";
