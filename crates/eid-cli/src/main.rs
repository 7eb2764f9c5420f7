//! The program eid.
fn main() {}
