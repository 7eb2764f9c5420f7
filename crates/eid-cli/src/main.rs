//! The program `eid`.

use std::process::ExitCode;

fn main() -> ExitCode {
    eid_cli::main(std::env::args_os().collect())
}
