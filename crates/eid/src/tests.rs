//! Instances that meet over links in memory, and somebody who signs and sends what an honest one would not.

mod asking;
mod bring;
mod peers;
mod play;
mod random;
mod revoked;
#[path = "../../eid-auth/tests/support/scenes.rs"]
mod scenes;
