//! Tasks of the workspace, run as `cargo xtask NAME`: what a person or a machine does before a change goes in.
//!
//! Every task does its own set-up. A tool that is missing is installed, or the task fails and names it; nothing is
//! skipped.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the tasks talk to a person")]

mod bench;
mod ci;
mod deny;
mod fuzz;
mod layers;
mod run;
mod sim;
mod tidy;
mod vectors;

use std::process::ExitCode;

use run::Failure;

const USAGE: &str = "\
cargo xtask TASK

  ci [--quick]                 everything below but the benches; --quick leaves out release builds and long runs
  test                         format, clippy, unit and workspace tests, doc tests, documentation
  layers                       every edge between crates points downwards, every outside crate is where it may be
  tidy [--fix|--fix-protocol]  rules for source and documents; --fix rewrites the READMEs of the crates,
                               --fix-protocol sets the hash in docs/protocol.md after it was brought up to date
  deny                         licences, bans and sources of everything that is depended on
  vectors [--mutate]           the golden vectors, through the implementation in Python
  sim [--seeds N] [--from S] [--seconds T] [--seed S [--trace]] [--sabotage NAME|all] [--json]
                               the simulator; --seed runs one seed again, --sabotage lets it find a fault
  auth [--dags N] [--seed S] | --mutants
                               random DAGs: the engine of authority agrees with its definition in every order, and
                               no key changes what stronger keys decided; --mutants breaks each rule and must see it
  processes [ARGS...]          the program as real processes: kill -9, bootstrap, proxies, nodes that keep in step
  fuzz [TARGET..] [--minutes N] [--keep]
                               makes inputs for the targets of eid-fuzz with nightly, ten minutes each unless told
                               otherwise; --keep puts a sample of what reached most into fuzz/corpus
  bench store|history|live|sync|text|footprint [--json]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match args.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match task {
        "ci" => ci::ci(rest),
        "test" => ci::test(rest),
        "layers" => run::Flags::parse(rest, &[]).and_then(|_| layers::run()),
        "tidy" => tidy::run(rest),
        "deny" => run::Flags::parse(rest, &[]).and_then(|_| deny::run()),
        "vectors" => vectors::run(rest),
        "sim" => sim::run(rest),
        "auth" => sim::auth(rest),
        "processes" => sim::processes(rest),
        "fuzz" => fuzz::run(rest),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::new(format!("there is no task {other:?}\n\n{USAGE}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
