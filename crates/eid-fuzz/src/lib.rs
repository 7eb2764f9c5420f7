//! What holds for any bytes at all: each target is a function that takes some and panics when something does not hold.
//!
//! A target reads its input as it likes: as bytes that came from a stranger, or as a script of what strangers do, on
//! top of messages that real peers make. It checks more than that nothing panics: what is accepted has one form, no
//! more is kept than may be, a session ends, and who may not know something is told nothing of it.
//!
//! [`TARGETS`] are run in two ways. The tests of this crate give each its [`Target::seeds`] and the inputs in
//! `fuzz/corpus/TARGET`, among them everything that ever made it panic. `cargo xtask fuzz` makes inputs without end,
//! led by the code that they reach.
//!
//! ```
//! let target = eid_fuzz::target("address").expect("there is one");
//! (target.run)(b"http://192.0.2.7:7070");
//! (target.run)(b"http://192.0.2.7:70700");
//! ```

mod authority;
mod channel;
mod formats;
mod handshake;
mod http;
mod live;
mod replica;
mod session;
mod source;
mod texts;

/// Something that holds for any bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its directory in `fuzz/corpus`.
    pub name: &'static str,
    /// Panics when it does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made of real messages.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: formats::frames, seeds: formats::frame_seeds },
    Target { name: "entry", run: formats::entry, seeds: formats::entry_seeds },
    Target { name: "settings", run: formats::settings, seeds: formats::settings_seeds },
    Target { name: "pack", run: formats::pack, seeds: formats::pack_seeds },
    Target { name: "sketch", run: formats::sketch, seeds: formats::sketch_seeds },
    Target { name: "address", run: texts::address, seeds: texts::address_seeds },
    Target { name: "ticket", run: texts::ticket, seeds: texts::ticket_seeds },
    Target { name: "handshake", run: handshake::handshake, seeds: handshake::seeds },
    Target { name: "session", run: session::session, seeds: session::seeds },
    Target { name: "stranger", run: session::stranger, seeds: session::stranger_seeds },
    Target { name: "live", run: live::live, seeds: live::seeds },
    Target { name: "noise", run: channel::noise, seeds: channel::noise_seeds },
    Target { name: "seal", run: channel::seal, seeds: channel::seal_seeds },
    Target { name: "http", run: http::http, seeds: http::seeds },
    Target { name: "authority", run: authority::authority, seeds: authority::seeds },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
