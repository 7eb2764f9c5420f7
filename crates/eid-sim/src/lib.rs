//! The same seed gives the same world, event for event: many devices, virtual time, and faults of network, disk, clock
//! and people.
//!
//! A world runs the real store, databases, protocol and engine on one thread, over a network and disks that fail as
//! the seed has it, and then checks that all honest replicas are the same, that nothing acknowledged is lost, and that
//! the state is what a naive replay of the entries gives. Nothing here reads a clock, draws from the system, or depends
//! on the order of a hash map. `docs/testing.md` says what is simulated and how to replay a seed.
//!
//! ```
//! use eid_sim::trace::Verbosity;
//! use eid_sim::world;
//!
//! let outcome = world::run(1, Verbosity::Quiet);
//! assert!(outcome.divergence.is_none());
//! assert_eq!(outcome.trace_hash, world::run(1, Verbosity::Quiet).trace_hash);
//! ```

pub mod check;
pub mod clock;
pub mod crowd;
pub mod disk;
pub mod engines;
pub mod executor;
pub mod model;
pub mod net;
pub mod node;
pub mod plan;
pub mod rng;
pub mod run;
pub mod trace;
pub mod villain;
pub mod world;
