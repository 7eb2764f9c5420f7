//! Benchmarks: of the store, of tables, of texts, of sessions and of what is pushed through their own program, and of what it costs to depend on the facade.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::run::{Failure, Flags, cargo, command, output, root, run as run_command, target, write};

/// How often the program is started to measure a start.
const STARTS: usize = 31;

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    match args.split_first() {
        Some((name, rest)) if name == "footprint" => footprint(rest),
        Some((name, rest)) => {
            let release = crate::sim::release()?;
            let mut bench = command(release.join("eid-benches"), &[name]);
            bench.args(rest);
            run_command(bench)
        }
        None => Err(Failure::new("name a bench: store, history, live, many, push, sync, text or footprint")),
    }
}

/// What an application pays for `eid = "0.1"`: crates, time of a cold build, size and start of the program.
fn footprint(args: &[String]) -> Result<(), Failure> {
    let flags = Flags::parse(args, &["--json"])?;
    let dir = target().join("footprint");
    let app = dir.join("app");
    let builds = dir.join("target");
    for old in [&app, &builds] {
        if old.exists() {
            std::fs::remove_dir_all(old)
                .map_err(|error| Failure::new(format!("{}: {error}", old.display())))?;
        }
    }
    application(&app)?;
    let in_app = |args: &[&str]| {
        let mut command = command(cargo(), args);
        command.current_dir(&app).env("CARGO_TARGET_DIR", &builds);
        command
    };
    run_command(in_app(&["fetch", "--quiet"]))?;
    let tree = output(in_app(&["tree", "--prefix", "none", "-e", "normal,build", "--format", "{p}"]))?;
    let ours = |line: &str| line.starts_with("eid") || line.starts_with("app ");
    let names: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let crates = names.iter().filter(|line| !line.is_empty() && !ours(line)).count();
    let cold = timed(in_app(&["build", "--quiet", "--offline"]))?;
    let cold_release = timed(in_app(&["build", "--quiet", "--offline", "--release"]))?;
    let app_bytes = bytes(&builds.join("release/app"))?;

    let program = crate::sim::release()?.join("eid");
    let program_bytes = bytes(&program)?;
    let mut starts = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begin = Instant::now();
        output(command(&program, &["--help"]))?;
        starts.push(begin.elapsed());
    }
    starts.sort();
    let start = starts[STARTS / 2];

    if flags.has("--json") {
        println!(
            "{}",
            json!({
                "crates_outside": crates,
                "cold_build_ms": ms(cold),
                "cold_build_release_ms": ms(cold_release),
                "application_bytes": app_bytes,
                "program_bytes": program_bytes,
                "program_start_ms": ms(start),
            })
        );
    } else {
        println!("crates from outside         {crates:>10}");
        println!("cold build, debug           {:>10.1} s", cold.as_secs_f64());
        println!("cold build, release         {:>10.1} s", cold_release.as_secs_f64());
        println!("smallest application        {:>10.1} MiB", mib(app_bytes));
        println!("program eid                 {:>10.1} MiB", mib(program_bytes));
        println!("start of eid --help, median {:>10.1} ms", ms(start));
    }
    Ok(())
}

/// A project of its own that depends on the facade and on the runtime that it needs, with the versions of this workspace.
fn application(app: &Path) -> Result<(), Failure> {
    let source = app.join("src");
    std::fs::create_dir_all(&source)
        .map_err(|error| Failure::new(format!("{}: {error}", source.display())))?;
    let facade = root().join("crates/eid");
    let manifest = format!(
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\neid = {{ path = {:?} }}\ntokio = {{ version = \"1\", features = [\"rt-multi-thread\"] }}\n",
        facade.display().to_string()
    );
    write(&app.join("Cargo.toml"), &manifest)?;
    write(&source.join("main.rs"), APPLICATION)?;
    std::fs::copy(root().join("Cargo.lock"), app.join("Cargo.lock"))
        .map(drop)
        .map_err(|error| Failure::new(error.to_string()))
}

const APPLICATION: &str = "fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = eid::Instance::open(\"notes.eid\").await?;
        let db = node.create_database(\"notes\").await?;
        db.doc(\"profile\").set(\"name\", \"Ada\").await?;
        node.listen(eid::Http::on(\"127.0.0.1:0\")).await?;
        println!(\"{}\", db.share(eid::Access::write()).await?);
        node.close().await?;
        Ok(())
    })
}
";

fn timed(command: std::process::Command) -> Result<Duration, Failure> {
    let begin = Instant::now();
    run_command(command)?;
    Ok(begin.elapsed())
}

fn bytes(path: &Path) -> Result<u64, Failure> {
    let data =
        std::fs::metadata(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    Ok(data.len())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}
