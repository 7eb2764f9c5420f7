//! Fuzzing: builds the targets of `eid-fuzz` with counters in all their code, and lets libFuzzer make inputs for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::run::{Failure, answers, command, output, root, run as run_command, target};

/// Counters at every branch, and the values that are compared. No address sanitizer: nothing of ours is unsafe, and
/// libFuzzer bounds time and memory by itself.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Seconds that one input may take, and memory in MiB that the process may.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

/// Longest input in bytes: what is kept stays readable, and every bound is reached by less.
const INPUT_BYTES_MAX: &str = "-max_len=4096";

/// Most inputs that are kept of a target, and most bytes of each: a sample, for every clone of the repository.
const KEPT_MAX: usize = 64;
const KEPT_BYTES_MAX: u64 = 2048;

struct Order {
    targets: Vec<String>,
    seconds: u64,
    keep: bool,
}

/// Runs the targets that are named, or all, one after another.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let order = parse(args)?;
    let program = build()?;
    let mut rows = Vec::new();
    for name in &order.targets {
        println!("\n== {name}");
        rows.push(fuzz(&program, name, order.seconds)?);
        if order.keep {
            keep(&program, name)?;
        }
    }
    println!(
        "\n{:<12}{:>14}{:>10}{:>12}{:>9}{:>9}",
        "target", "executions", "seconds", "per second", "edges", "inputs"
    );
    for row in rows {
        println!("{row}");
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Order, Failure> {
    let every = targets()?;
    let mut order = Order { targets: Vec::new(), seconds: 600, keep: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().and_then(|value| value.parse::<u64>().ok()).filter(|value| *value > 0);
            value.ok_or_else(|| Failure::new(format!("{arg} takes a number")))
        };
        match arg.as_str() {
            "--minutes" => order.seconds = number()? * 60,
            "--seconds" => order.seconds = number()?,
            "--keep" => order.keep = true,
            name if every.iter().any(|target| target == name) => order.targets.push(name.to_owned()),
            other => {
                return Err(Failure::new(format!(
                    "there is no target {other:?}; there are {}",
                    every.join(", ")
                )));
            }
        }
    }
    if order.targets.is_empty() {
        order.targets = every;
    }
    Ok(order)
}

/// The targets, which are the directories of inputs that are kept; a test holds them to be the same.
fn targets() -> Result<Vec<String>, Failure> {
    let listed =
        fs::read_dir(kept("")).map_err(|error| Failure::new(format!("cannot list the targets: {error}")))?;
    let mut names: Vec<String> =
        listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Inputs that are part of the repository.
fn kept(name: &str) -> PathBuf {
    root().join("fuzz/corpus").join(name)
}

/// Inputs that this checkout has found.
fn grown(name: &str) -> PathBuf {
    target().join("fuzz/corpus").join(name)
}

/// Builds with nightly, which alone can put the counters in.
fn build() -> Result<PathBuf, Failure> {
    if !answers("rustup", &["run", "nightly", "cargo", "--version"]) {
        return Err(Failure::new("fuzzing needs a nightly toolchain: rustup toolchain install nightly"));
    }
    if !answers("c++", &["--version"]) {
        return Err(Failure::new("fuzzing needs a C++ compiler to build libFuzzer (Debian: g++)"));
    }
    let told = output(nightly("rustc", &["-vV"]))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::new("rustc does not say which machine this is"))?;
    let directory = target().join("fuzz");
    // With a target named, the counters stay out of build scripts and macros.
    let mut build = nightly(
        "cargo",
        &["build", "--release", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"],
    );
    build.args(["--target", host, "--target-dir"]).arg(&directory).env("RUSTFLAGS", FLAGS);
    run_command(build)?;
    Ok(directory.join(host).join("release/eid-libfuzzer"))
}

fn nightly(program: &str, args: &[&str]) -> Command {
    let mut nightly = command("rustup", &["run", "nightly", program]);
    // What the toolchain of this task has set is not for another.
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        nightly.env_remove(name);
    }
    nightly.args(args);
    nightly
}

/// Runs one target for a time; gives its row in the table.
fn fuzz(program: &Path, name: &str, seconds: u64) -> Result<String, Failure> {
    let (work, found) = (grown(name), target().join("fuzz/found"));
    make(&work)?;
    make(&found)?;
    let log = target().join("fuzz").join(format!("{name}.log"));
    let file = fs::File::create(&log).map_err(|error| Failure::new(format!("{}: {error}", log.display())))?;
    let prefix = format!("-artifact_prefix={}/{name}-", found.display());
    let mut fuzz = command(program, &LIMITS);
    fuzz.args([INPUT_BYTES_MAX, "-print_final_stats=1", &format!("-max_total_time={seconds}"), &prefix])
        .args([&work, &kept(name)])
        .env("EID_FUZZ_TARGET", name)
        .env("EID_FUZZ_SEEDS", &work)
        .stdout(Stdio::null())
        .stderr(file);
    let begin = Instant::now();
    let ended = run_command(fuzz);
    let taken = begin.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    if let Err(failure) = ended {
        let tail: Vec<&str> = told.lines().rev().take(30).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return Err(Failure::new(format!(
            "{failure}\n{}\nthe input is in {}: mend the fault, and keep the input in {} as found-WHAT",
            tail.join("\n"),
            found.display(),
            kept(name).display()
        )));
    }
    let executions: u64 = told
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0);
    let edges = told.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:");
        words.nth(1).map(str::to_owned)
    });
    let inputs = fs::read_dir(&work).map_or(0, Iterator::count);
    let rate = executions as f64 / taken.max(0.1);
    let edges = edges.unwrap_or_default();
    Ok(format!("{name:<12}{executions:>14}{taken:>10.0}{rate:>12.0}{edges:>9}{inputs:>9}"))
}

/// Keeps a sample of the fewest inputs that reach all that was reached, besides those that once made the target panic.
fn keep(program: &Path, name: &str) -> Result<(), Failure> {
    let fresh = target().join("fuzz/kept").join(name);
    drop(fs::remove_dir_all(&fresh));
    make(&fresh)?;
    let mut merge = command(program, &["-set_cover_merge=1", INPUT_BYTES_MAX]);
    merge.args([&fresh, &kept(name), &grown(name)]).env("EID_FUZZ_TARGET", name);
    merge.stdout(Stdio::null()).stderr(Stdio::null());
    run_command(merge)?;
    let failure = |error: std::io::Error| Failure::new(format!("cannot keep the inputs of {name}: {error}"));
    for file in fs::read_dir(kept(name)).map_err(failure)?.flatten() {
        if !file.file_name().to_string_lossy().starts_with("found-") {
            fs::remove_file(file.path()).map_err(failure)?;
        }
    }
    let mut files: Vec<(u64, PathBuf)> = fs::read_dir(&fresh)
        .map_err(failure)?
        .flatten()
        .filter_map(|file| Some((file.metadata().ok()?.len(), file.path())))
        .filter(|(bytes, _)| *bytes <= KEPT_BYTES_MAX)
        .collect();
    files.sort();
    // Spread over all lengths.
    for at in 0..files.len().min(KEPT_MAX) {
        let (_, file) = &files[at * files.len() / files.len().min(KEPT_MAX)];
        let short: String = file.file_name().unwrap_or_default().to_string_lossy().chars().take(16).collect();
        fs::copy(file, kept(name).join(short)).map_err(failure)?;
    }
    Ok(())
}

fn make(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(|error| Failure::new(format!("{}: {error}", directory.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::read;

    #[test]
    fn an_unknown_target_is_refused_and_none_means_all() {
        assert!(parse(&["nothing".to_owned()]).is_err());
        assert!(parse(&["--minutes".to_owned(), "x".to_owned()]).is_err());
        let all = read(&root().join("crates/eid-fuzz/src/lib.rs")).expect("the list of targets is read");
        let order = parse(&[]).expect("nothing is asked");
        assert!(!order.targets.is_empty() && order.seconds == 600 && !order.keep);
        assert!(order.targets.iter().all(|name| all.contains(&format!("name: \"{name}\""))));
    }
}
