//! Reads the model's `{"entries": [..]}` from standard input and prints its verdicts, as the engine finds them one
//! entry after another; with `--oracle`, as the naive rules do. `--why` says on standard error why entries are refused
//! or void.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]
#![expect(clippy::disallowed_methods, reason = "a program has arguments")]

use std::io::Read as _;
use std::process::ExitCode;

#[path = "../tests/support/model_json.rs"]
#[expect(unreachable_pub, reason = "shared with the tests")]
mod model_json;

fn resolve(args: &[String]) -> Result<(), String> {
    if let Some(other) = args.iter().find(|arg| !["--oracle", "--why"].contains(&arg.as_str())) {
        return Err(format!("unexpected argument {other:?}"));
    }
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json).map_err(|error| error.to_string())?;
    let entries = model_json::parse(&json)?;
    let verdicts = if args.iter().any(|arg| arg == "--oracle") {
        model_json::by_oracle(&entries)
    } else {
        model_json::by_engine(&entries, eid_auth::Engine::new())?
    };
    println!("{}", verdicts.to_json());
    if args.iter().any(|arg| arg == "--why") {
        for (id, reason) in &verdicts.reasons {
            eprintln!("{id}: {reason}");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match resolve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resolve: {error}");
            ExitCode::FAILURE
        }
    }
}
