//! The door over real backends, with a judge and a view small enough to see through.

mod door;
mod group;
mod kit;
