//! The program as real processes: every command, two devices over every transport, everything that can be wrong, and kill -9.

mod authority;
mod backup;
mod bad_input;
mod history;
mod joining;
mod kill;
mod local;
mod network;
mod process;
mod tables;
mod texts;
#[cfg(any(feature = "iroh", feature = "quic"))]
mod transports;
mod users;
