//! From a command line to an exit code: here, or for somebody else over the control socket.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use eid::Instance;
use eid::control::{Commands, Frame, Reader, Reply, Request};
use tokio::runtime::Handle;

use crate::args::{Cli, Command, Table, Text, backend_first};
use crate::cmd::{self, Ordered};
use crate::failure::{Exit, Failure};
use crate::output::{Gone, Out, Sink, Terminal, json_line};
use crate::owner::{self, Place};
use crate::passwords;

/// Runs the program.
#[must_use]
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let sink: Arc<dyn Sink> = Arc::new(Terminal::new());
    let reader = Terminal::reader();
    let argv = backend_first(argv);
    let wants_json = argv.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(answer_usage(&error, &*sink, reader, wants_json)),
    };
    let (cli, argv) = suited_to(cli, argv, reader);
    start_log(cli.global.verbose);
    leave_out_caught_panics();
    let out = Out::new(sink, reader, cli.global.json);
    let result = runtime().and_then(|runtime| {
        let result = runtime.block_on(here_or_there(&cli, argv, &out));
        runtime.shutdown_timeout(crate::limits::STOP_WAIT);
        result
    });
    ExitCode::from(conclude(&out, &cli.command, result))
}

/// Draws in plain characters on a terminal that says it shows no others. Whoever runs the command cannot know.
fn suited_to(mut cli: Cli, mut argv: Vec<OsString>, reader: Reader) -> (Cli, Vec<OsString>) {
    if let Command::Log(log) = &mut cli.command
        && log.graph
        && !log.ascii
        && reader.out_is_terminal
        && !shows_unicode(|name| std::env::var(name).ok())
    {
        log.ascii = true;
        argv.push("--ascii".into());
    }
    (cli, argv)
}

/// What the locale says of the terminal: the first of these that is set counts.
fn shows_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    set.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// What the storage engine panics about is told as an error.
fn leave_out_caught_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if eid::is_engine_guarded() {
            tracing::debug!(%panic, "the storage engine panicked");
        } else {
            report(panic);
        }
    }));
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|cause| Failure::io("cannot start", &cause))
}

/// Runs a command in this process, or in the one that owns the data directory.
async fn here_or_there(cli: &Cli, argv: Vec<OsString>, out: &Out) -> Result<u8, Failure> {
    match &cli.command {
        Command::Completions(args) => return cmd::manual::completions(args, out).map(|()| 0),
        Command::Man(args) => return cmd::manual::man(args, out).map(|()| 0),
        _ => {}
    }
    let cwd =
        std::env::current_dir().map_err(|cause| Failure::io("cannot read the current directory", &cause))?;
    let place = Place::of(&cli.global)?;
    match &cli.command {
        Command::Demo(demo) => cmd::demo::run(demo, out).await.map(|()| 0),
        Command::Restore(restore) => cmd::backup::restore(restore, &place, &cwd, out).await.map(|()| 0),
        Command::Text(Text::Edit { place: text }) => cmd::text::edit(cli, text, &place, &cwd, out).await,
        Command::Serve(serve) => cmd::serve::run(cli, serve, &place, out).await.map(|()| 0),
        command => {
            let passwords = passwords::read(cli)?;
            let request = owner::request(argv, &cwd, passwords, out)?;
            match owner::take(&place, &request, out).await? {
                owner::Taken::Ran(code) => Ok(code),
                owner::Taken::Ours(node) => {
                    // A command that lasts lets others work on the directory meanwhile.
                    let control = match command {
                        Command::Table(Table::Watch { .. }) if place.backend.is_none() => {
                            Some(eid::control::serve(&node, &place.data, Arc::new(NodeCommands))?)
                        }
                        _ => None,
                    };
                    let result = {
                        let (user, passwords) = (cli.global.user.clone(), request.passwords);
                        cmd::run_for(&node, out, Ordered { cwd, user, passwords }, command).await
                    };
                    if let Some(control) = control {
                        control.stop(crate::limits::STOP_WAIT).await;
                    }
                    let closed = node.close().await;
                    result?;
                    closed?;
                    Ok(0)
                }
            }
        }
    }
}

/// Tells what went wrong, if anything, and gives the exit code.
fn conclude(out: &Out, command: &Command, result: Result<u8, Failure>) -> u8 {
    let failure = match result {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    if failure.silent && !ends_half_done(command) {
        // Whoever reads has all that it wants, as in `eid log notes | head -1`.
        return 0;
    }
    if !failure.silent {
        let text = if out.json() { json_line(&failure.to_json()) } else { failure.to_text() };
        // Whoever stopped listening is not told; the exit code remains.
        if out.note(text).is_err() {
            tracing::debug!("nobody reads the error");
        }
    }
    failure.exit as u8
}

/// Whether a command that ends because nobody reads it any more leaves something half done.
fn ends_half_done(command: &Command) -> bool {
    matches!(
        command,
        Command::Table(Table::Import { .. } | Table::Index { .. })
            | Command::Demo(_)
            | Command::Verify(_)
            | Command::Backup(_)
            | Command::Restore(_)
    )
}

/// `--help` and `--version` are results; everything else clap says is wrong usage.
fn answer_usage(error: &clap::Error, sink: &dyn Sink, reader: Reader, json: bool) -> u8 {
    let shown = if reader.colour { error.render().ansi().to_string() } else { error.render().to_string() };
    let shown = shown.trim_end().to_owned();
    let (frame, code) = if error.use_stderr() {
        let text = if json {
            let plain = error.render().to_string();
            // The first paragraph is what is wrong: a line, or a line and what it lists.
            let wrong: Vec<&str> = plain.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
            let message = wrong.join(" ").trim_start_matches("error: ").to_owned();
            json_line(&Failure::usage(message).hint("`eid help` shows the commands").to_json())
        } else {
            shown
        };
        (Frame::Err(text), Exit::Usage as u8)
    } else {
        (Frame::Out(shown), 0)
    };
    match sink.put(frame) {
        Ok(()) | Err(Gone) => code,
    }
}

fn start_log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("EID_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if log.try_init().is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Runs the commands of this program on an instance, for processes that ask over the control socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeCommands;

impl Commands for NodeCommands {
    fn run(&self, node: &Instance, request: Request, reply: &Reply) -> u8 {
        let reader = request.reader;
        let sink: Arc<dyn Sink> = Arc::new(Remote(reply.clone()));
        let argv = backend_first(request.argv.iter().map(OsString::from).collect());
        let cli = match Cli::try_parse_from(argv) {
            Ok(cli) => cli,
            Err(error) => return answer_usage(&error, &*sink, reader, false),
        };
        let out = Out::new(sink, reader, cli.global.json);
        let ordered = Ordered { cwd: request.cwd, user: cli.global.user, passwords: request.passwords };
        let run = cmd::run_for(node, &out, ordered, &cli.command);
        let result = Handle::current().block_on(run).map(|()| 0);
        conclude(&out, &cli.command, result)
    }
}

struct Remote(Reply);

impl Sink for Remote {
    fn put(&self, frame: Frame) -> Result<(), Gone> {
        self.0.send(frame).map_err(|_| Gone)
    }
}
