//! A command is a function from an instance, its arguments and a sink to an exit code: the same function runs in
//! this process or, sent over the control socket, in the process that owns the data directory.
//!
//! The program `eid` parses arguments ([`args`]), finds who owns the data directory ([`owner`]), runs the command of
//! one noun ([`cmd`]), and turns what went wrong into one sentence and an exit code ([`failure`]). Nothing here
//! prints: commands write to an [`output::Out`], and names that came from the network are escaped on the way.
//! What the commands do is in the crate `eid`.
//!
//! ```
//! use eid_cli::value::{cell, typed};
//!
//! assert_eq!(cell("31.95"), serde_json::json!(31.95));
//! assert_eq!(cell("007"), serde_json::json!("007"), "nothing of a file is lost");
//!
//! assert_eq!(typed("[1, 2]", false).unwrap(), serde_json::json!([1, 2]));
//! assert_eq!(typed("buy milk", false).unwrap(), serde_json::json!("buy milk"));
//! ```

pub mod args;
pub mod cmd;
pub mod failure;
pub mod graph;
pub mod limits;
pub mod output;
pub mod owner;
mod passwords;
mod qr;
pub mod rows;
mod run;
pub mod value;

pub use run::{NodeCommands, main};
