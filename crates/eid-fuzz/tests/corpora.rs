//! Every input that is kept, and every seed, holds; and none of them takes much memory.

use std::path::{Path, PathBuf};

use eid_fuzz::{TARGETS, Target, target};

/// Most memory that a process takes while it replays the inputs of a target, in KiB.
const MEMORY_KIB_MAX: u64 = 512 * 1024;
/// Most bytes that are kept of one target: a sample of what it does, for every clone of this repository.
const CORPUS_BYTES_MAX: u64 = 128 * 1024;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}

fn inputs(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(listed) = std::fs::read_dir(directory(target.name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = listed.map(|file| file.expect("it is listed").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).expect("it is a file"))).collect()
}

fn replay(name: &str) {
    let target = target(name).expect("it is a target");
    let inputs = inputs(target);
    let kept: u64 = inputs.iter().map(|(_, input)| input.len() as u64).sum();
    assert!(!inputs.is_empty() && kept <= CORPUS_BYTES_MAX, "{} inputs, {kept} bytes", inputs.len());
    for seed in (target.seeds)() {
        (target.run)(&seed);
    }
    for (path, input) in inputs {
        if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
            panic!("{} does not hold", path.display());
        }
    }
    if let Some(peak) = peak_kib() {
        assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    }
}

/// The most memory that this process has taken, where the system tells.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed_and_every_directory_is_of_one() {
            let mut replayed = vec![$(stringify!($name)),*];
            let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            let mut kept: Vec<String> = std::fs::read_dir(directory(""))
                .expect("inputs are kept")
                .map(|file| file.expect("it is listed").file_name().to_string_lossy().into_owned())
                .collect();
            (replayed.sort_unstable(), targets.sort_unstable(), kept.sort_unstable());
            assert_eq!(replayed, targets);
            assert_eq!(kept, targets);
        }
    };
}

replayed! {
    frames entry settings pack sketch address ticket handshake session stranger live noise seal http authority
}
