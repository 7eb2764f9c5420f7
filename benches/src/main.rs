//! Measurements, each beside the limit that the engine and the signatures set in the same run.
//!
//! `eid-benches store`, `history`, `live`, `many`, `packed`, `push`, `sync` and `text`. Shared machines are noisy: trust ratios, not
//! absolutes.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]

mod history;
mod history_bench;
mod live;
mod many;
mod packed;
mod push;
mod recorder;
mod report;
mod store;
mod sync;
mod text;
mod twin;
mod work;

use std::process::ExitCode;

const USAGE: &str = "\
eid-benches store [--json] [--entries N] [--only NAME]
eid-benches history [--json] [--entries N]

  --json       one object on the last line
  --entries N  length of the history and of the bulk (default 100000)
  --only NAME  one of one_writer, writers_16, bulk, history

eid-benches live [--json] [--rows N]

  --rows N     rows of the table whose changes are delivered (default 100000)

eid-benches push [--link LINK] [--entries N] [--json]

  --link       memory (default; two devices in one process), http, quic or iroh (in two)
  --entries N  length of the history behind which commits are pushed (default 100000), besides 1000

eid-benches many [--databases N] [--link LINK] [--json]

  --databases N  databases that two devices share (default 3000)
  --link         memory (default) or http

eid-benches sync --shape FILE|SHAPE [--split SPLIT] [--link LINK] [--rung LETTER] [--warm] [--compress]
                 [--json]

  --shape      a recorded shape (.tsv or .tsv.gz), or linear-behind, linear-both, fan, diverged, writers,
               million, branch or gossip; SHAPE:N divides its sizes by N
  --split      equal, bootstrap, tail:N (the client lacks the last N) or random:PERCENT (each side lacks so much)
  --link       memory (default), http, quic or iroh
  --warm       both sides have met before what only one of them has
  --compress   both compress what they send

eid-benches packed [--entries N] [--data DIR] [--json]

  --entries N  of each kind of data, at most (default 10000)
  --data DIR   where the recorded data is (default tests/data)

eid-benches text --trace FILE [--json] [--per-entry N]

  --trace FILE   a recorded editing session (.json or .json.gz)
  --per-entry N  edits that become one entry (default 32)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["store", ref flags @ ..] => store::run(flags),
        ["text", ref flags @ ..] => text::run(flags),
        ["text-one", what, steps, end, place] => text::one(what, steps, end, place),
        ["history", ref flags @ ..] => history_bench::run(flags),
        ["sync", ref flags @ ..] => sync::run(flags),
        ["sync-run", dir, tree, link, rung, warm, batches] => {
            sync::measure([dir, tree, link, rung, warm, batches])
        }
        ["sync-serve", dir, tree, link, rung] => sync::serve(dir, tree, link, rung),
        ["live", ref flags @ ..] => live::run(flags),
        ["push", ref flags @ ..] => push::run(flags),
        ["many", ref flags @ ..] => many::run(flags),
        ["packed", ref flags @ ..] => packed::run(flags),
        ["push-write", dir, link, entries] => push::write(dir, link, entries),
        ["history-open", dir] => history_bench::open_and_read(dir),
        ["write-history", dir, entries] => history::write(dir, entries),
        ["linger", dir, entries] => history::linger(dir, entries),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
