//! Makes inputs for one target of `eid_fuzz`, named by `EID_FUZZ_TARGET`, until something does not hold.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use eid_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// Finds the target, and writes its seeds where `EID_FUZZ_SEEDS` says.
fn find() -> &'static Target {
    let name = std::env::var("EID_FUZZ_TARGET").expect("EID_FUZZ_TARGET names a target");
    let target = eid_fuzz::target(&name).expect("EID_FUZZ_TARGET names a target");
    if let Ok(seeds) = std::env::var("EID_FUZZ_SEEDS") {
        for (n, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(Path::new(&seeds).join(format!("seed-{n:02}")), seed).expect("seeds are written");
        }
    }
    target
}

fuzz_target!(
    init: {
        TARGET.get_or_init(find);
    },
    |input: &[u8]| {
        (TARGET.get_or_init(find).run)(input);
    }
);
