//! The door over real backends, with a judge and a view small enough to see through.

mod backup;
mod cost;
mod crash;
mod damage;
mod door;
mod fsck;
mod group;
mod kit;
mod maintain;
mod prune;
mod sketch;
mod standing;
mod versions;
