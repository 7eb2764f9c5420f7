//! The iroh transport as its users meet it, over a relay on loopback and over loopback sockets.

mod attacks;
mod conformance;
#[cfg(feature = "mdns")]
mod local;
mod network;
mod ways;
