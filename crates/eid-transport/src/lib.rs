//! Opaque frames go in on one side of a link and come out on the other: whole, in order, once, or not at all, and
//! then with an error.
//!
//! A [`Transport`] dials and listens at an [`Address`]; what it yields is a [`Connection`] to one peer; a connection
//! carries [`Link`]s, each an ordered stream of turns. Turns alternate and the side that opened a link has the first.
//! The first link of a connection is opened by the dialler and is the control link.
//!
//! A transport knows addresses, how the remote proved its key (if the transport proves keys at all) and the limits
//! of frames. It knows nothing of entries, databases, sessions or rights. Futures are boxed by hand, so that a
//! transport is a plain trait object and no async runtime is implied: [`memory`] runs on any executor.
//!
//! ```
//! use bytes::Bytes;
//! use eid_transport::memory::MemoryNet;
//! use eid_transport::{Received, Transport};
//!
//! # eid_transport::testing::block_on(async {
//! let net = MemoryNet::new();
//! let (alice, bob) = (net.endpoint("alice"), net.endpoint("bob"));
//! bob.listen().await?;
//!
//! let near = alice.dial(&bob.addresses()[0]).await?;
//! let far = bob.accept().await.expect("alice has dialled");
//! assert_eq!(near.binding(), far.binding());
//!
//! let mut question = near.open().await?;
//! question.send(Bytes::from_static(b"how many?")).await?;
//! question.end_turn().await?;
//!
//! let mut answer = far.accept().await.expect("alice has opened a link");
//! assert_eq!(answer.recv().await?, Received::Frame(Bytes::from_static(b"how many?")));
//! assert_eq!(answer.recv().await?, Received::EndOfTurn);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod address;
mod arrivals;
mod error;
pub mod limits;
mod link;
pub mod memory;
pub mod places;
pub mod streams;
#[cfg(feature = "testing")]
pub mod testing;
mod watched;

pub use address::{Address, ParseAddressError};
pub use arrivals::{Arrivals, Full};
pub use error::{Cause, DialError, Fault, LinkError, ListenError};
pub use link::{BoxFuture, Connection, Link, LinkBytes, Received, Transport};
