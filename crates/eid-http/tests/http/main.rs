//! The HTTP transport as its users and its attackers meet it, over loopback sockets.

mod attacks;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod network;
mod serving;
