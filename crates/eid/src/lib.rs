//! A local-first, peer-to-peer database for Rust programs.
