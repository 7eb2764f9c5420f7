//! `push`: one device commits, and it is measured how long it takes until the commit can be read on another that is kept
//! in step with it, after a short history and after a long one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eid::{Access, Address, Database, Http, Instance, Iroh, Listener, Quic, Relay};
use eid_transport::Transport;
use eid_transport::memory::MemoryNet;
use serde_json::json;

use crate::report::{line, median, p99};
use crate::work::Failed;

/// Commits that are measured at each length.
const SAMPLES: u64 = 501;
/// Commits before them that are not.
const WARM_UP: u64 = 50;
/// The history that the longer one is compared with.
const SHORT: u64 = 1_000;
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Memory,
    Http,
    Quic,
    /// Straight, without a relay.
    Iroh,
}

impl Wire {
    fn parse(text: &str) -> Result<Self, Failed> {
        match text {
            "memory" => Ok(Self::Memory),
            "http" => Ok(Self::Http),
            "quic" => Ok(Self::Quic),
            "iroh" => Ok(Self::Iroh),
            _ => Err(format!("--link takes memory, http, quic or iroh, not {text}").into()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Http => "http",
            Self::Quic => "quic",
            Self::Iroh => "iroh",
        }
    }

    fn listener(self) -> Listener {
        match self {
            Self::Memory => Listener::from(MemoryNet::new().endpoint("a") as Arc<dyn Transport>),
            Self::Http => Http::on("127.0.0.1:0").into(),
            Self::Quic => Quic::on("127.0.0.1:0").into(),
            Self::Iroh => Iroh::over(Relay::Off).on(([127, 0, 0, 1], 0).into()).into(),
        }
    }
}

/// What each commit took.
#[derive(Debug, Default)]
struct Took {
    /// From the call that commits to the entry on the other side.
    whole: Vec<Duration>,
    /// From when that call returns, with the entry on disk.
    pushed: Vec<Duration>,
}

/// When a commit was begun and when it had returned, in nanoseconds of the clock of the machine.
#[derive(Debug, Clone, Copy)]
struct Committed {
    begun: u64,
    returned: u64,
}

/// The writing side: in this process, or in another one.
enum Writer {
    Here(Database),
    Elsewhere { child: Child, input: ChildStdin, output: BufReader<ChildStdout> },
}

fn now() -> Result<u64, Failed> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

/// Measures and says so.
pub(crate) fn run(args: &[&str]) -> Result<(), Failed> {
    let (mut link, mut entries, mut json) = (Wire::Memory, 100_000, false);
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let mut value = || args.next().copied().ok_or(format!("{flag} takes a value"));
        match *flag {
            "--json" => json = true,
            "--link" => link = Wire::parse(value()?)?,
            "--entries" => entries = value()?.parse()?,
            _ => return Err(format!("{flag} is unknown").into()),
        }
    }
    let mut lengths = vec![SHORT, entries];
    lengths.sort_unstable();
    lengths.dedup();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut said = Vec::new();
    for length in lengths {
        let mut took = runtime.block_on(measure(link, length))?;
        let us = |took: Duration| took.as_secs_f64() * 1e6;
        let (whole, whole_p99) = (us(median(&mut took.whole)), us(p99(&mut took.whole)));
        let (pushed, pushed_p99) = (us(median(&mut took.pushed)), us(p99(&mut took.pushed)));
        line(
            &format!("{length} entries, commit to visible"),
            format!("{whole:.0} us, {whole_p99:.0} us at most in 99 of 100"),
        );
        line("  from when the commit has returned", format!("{pushed:.0} us, {pushed_p99:.0} us"));
        said.push(json!({
            "entries": length, "p50_us": whole, "p99_us": whole_p99, "after_commit_p50_us": pushed,
            "after_commit_p99_us": pushed_p99,
        }));
    }
    if json {
        let processes = if link == Wire::Memory { 1 } else { 2 };
        println!(
            "{}",
            json!({"link": link.name(), "processes": processes, "samples": SAMPLES, "histories": said})
        );
    }
    Ok(())
}

async fn measure(link: Wire, length: u64) -> Result<Took, Failed> {
    let dir = tempfile::tempdir()?;
    let node = Instance::open(dir.path().join("b")).await?;
    let (mut writer, ticket) = if link == Wire::Memory {
        let net = MemoryNet::new();
        let listener = |name: &str| Listener::from(net.endpoint(name) as Arc<dyn Transport>);
        node.listen(listener("b")).await?;
        let other = Instance::open(dir.path().join("a")).await?;
        let there = filled(&other, length).await?;
        other.listen(listener("a")).await?;
        let ticket = there.share(Access::write()).await?;
        (Writer::Here(there), ticket)
    } else {
        if link == Wire::Iroh {
            // It dials from where it listens: otherwise over the relays of its defaults.
            node.listen(link.listener()).await?;
        }
        Writer::start(&dir.path().join("a"), link, length)?
    };
    let here = node.join(&ticket).within(PATIENCE).await?;
    let address: &Address = ticket.addresses.first().ok_or("a ticket without an address")?;
    let in_step = here.keep_in_step(address);
    in_step.wait_for_initial_sync(PATIENCE).await?;
    let mut changes = here.changes()?;
    let mut took = Took::default();
    for n in 0..WARM_UP + SAMPLES {
        writer.ask(n)?;
        let own = match &writer {
            Writer::Here(there) => Some(tokio::spawn(commit(there.clone(), n))),
            Writer::Elsewhere { .. } => None,
        };
        while here.doc("d").get_as::<u64>("n")? != Some(n) {
            tokio::time::timeout(PATIENCE, changes.next()).await??;
        }
        let visible = now()?;
        let committed = match own {
            Some(own) => own.await??,
            None => writer.answer()?,
        };
        if n >= WARM_UP {
            took.whole.push(Duration::from_nanos(visible.saturating_sub(committed.begun)));
            took.pushed.push(Duration::from_nanos(visible.saturating_sub(committed.returned)));
        }
    }
    writer.end()?;
    drop(in_step);
    node.close().await?;
    Ok(took)
}

/// A database with so many entries.
async fn filled(node: &Instance, length: u64) -> Result<Database, Failed> {
    let database = node.create_database("push").await?;
    for n in database.entries()?..length {
        database
            .write(|tx| {
                tx.relaxed();
                tx.doc("history").set("n", n)
            })
            .await?;
    }
    Ok(database)
}

async fn commit(database: Database, n: u64) -> Result<Committed, Failed> {
    let begun = now()?;
    database.doc("d").set("n", n).await?;
    Ok(Committed { begun, returned: now()? })
}

impl Writer {
    fn start(dir: &Path, link: Wire, length: u64) -> Result<(Self, eid::DatabaseTicket), Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("push-write").arg(dir).arg(link.name()).arg(length.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("the other side takes no input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("the other side has no output")?);
        let mut ticket = String::new();
        output.read_line(&mut ticket)?;
        Ok((Self::Elsewhere { child, input, output }, ticket.trim().parse()?))
    }

    fn ask(&mut self, n: u64) -> Result<(), Failed> {
        if let Self::Elsewhere { input, .. } = self {
            writeln!(input, "{n}")?;
            input.flush()?;
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<Committed, Failed> {
        let Self::Elsewhere { output, .. } = self else { return Err("nobody was asked".into()) };
        let mut said = String::new();
        output.read_line(&mut said)?;
        let mut numbers = said.split_whitespace().map(str::parse);
        let mut number = || numbers.next().ok_or("the other side has ended");
        Ok(Committed { begun: number()??, returned: number()?? })
    }

    fn end(self) -> Result<(), Failed> {
        if let Self::Elsewhere { mut child, input, .. } = self {
            drop(input);
            child.wait()?;
        }
        Ok(())
    }
}

/// The child: commits each time that it is asked to, and says when.
pub(crate) fn write(dir: &str, link: &str, length: &str) -> Result<(), Failed> {
    let (link, length) = (Wire::parse(link)?, length.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = Instance::open(dir).await?;
        let database = filled(&node, length).await?;
        node.listen(link.listener()).await?;
        println!("{}", database.share(Access::write()).await?);
        std::io::stdout().flush()?;
        let mut asked = String::new();
        while tokio::task::block_in_place(|| std::io::stdin().read_line(&mut asked))? > 0 {
            let Committed { begun, returned } = commit(database.clone(), asked.trim().parse()?).await?;
            println!("{begun} {returned}");
            std::io::stdout().flush()?;
            asked.clear();
        }
        node.close().await?;
        Ok(())
    })
}
