//! Every named scenario of the model, on the engine and the oracle at once.

#[expect(unreachable_pub, dead_code, reason = "shared with other tests")]
#[path = "support/play.rs"]
mod play;
#[expect(unreachable_pub, dead_code, reason = "shared with other tests")]
#[path = "support/random.rs"]
mod random;
#[path = "support/scenes.rs"]
mod scenes;
