//! The HTTP transport as its users and its attackers meet it, over loopback sockets.

#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod network;
