//! The QUIC transport as its users and its attackers meet it, over loopback sockets.

mod attacks;
mod conformance;
mod network;
mod serving;
