//! Two sides that were filled before, each an engine over its store, and the session between them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use eid_core::dag::{Replica as _, tips_hash};
use eid_core::{Permission, PublicKey, SecretKey, TreeId};
use eid_db::Instance;
use eid_sync::{
    Access, Compression, Delivered, EngineConfig, Events, RefusalCode, Rung, SessionReport, SyncEngine,
    SyncEvent, TokioRuntime, TreeSummary,
};
use eid_transport::memory::MemoryNet;
use eid_transport::{Address, Transport};
use serde::{Deserialize, Serialize};

use super::make;
use super::tap::{Counts, Tap};
use crate::history::memory;
use crate::work::{Failed, admit_batches};

/// What the run is about; its parent has filled the directory.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub dir: PathBuf,
    pub tree: TreeId,
    pub link: Wire,
    /// The ladder begins at this rung.
    pub rung: Option<Rung>,
    /// Both sides have met before, when they held what both hold now and nothing else.
    pub warm: bool,
    /// What the client says of compressed batches; the server reads them.
    pub compression: Compression,
}

/// What the two sides are connected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Memory,
    Http,
    Quic,
    /// Straight, without a relay.
    Iroh,
}

impl Wire {
    pub(crate) fn parse(text: &str) -> Result<Self, Failed> {
        match text {
            "memory" => Ok(Self::Memory),
            "http" => Ok(Self::Http),
            "quic" => Ok(Self::Quic),
            "iroh" => Ok(Self::Iroh),
            _ => Err(format!("--link takes memory, http, quic or iroh, not {text}").into()),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Http => "http",
            Self::Quic => "quic",
            Self::Iroh => "iroh",
        }
    }

    fn transport(
        self,
        net: &MemoryNet,
        name: &str,
        key: Arc<SecretKey>,
        listens: bool,
    ) -> Arc<dyn Transport> {
        match self {
            Self::Memory => net.endpoint(name),
            Self::Http if listens => {
                Arc::new(eid_http::HttpTransport::new(eid_http::HttpConfig::listening("127.0.0.1:0")))
            }
            Self::Http => Arc::new(eid_http::HttpTransport::new(eid_http::HttpConfig::default())),
            Self::Quic if listens => {
                Arc::new(eid_quic::QuicTransport::new(eid_quic::QuicConfig::listening(key, "127.0.0.1:0")))
            }
            Self::Quic => Arc::new(eid_quic::QuicTransport::new(eid_quic::QuicConfig::new(key))),
            Self::Iroh => {
                let mut config = eid_iroh::IrohConfig::new(key);
                config.listens = listens;
                config.bind = Some(([127, 0, 0, 1], 0).into());
                config.relay = eid_iroh::Relay::Off;
                Arc::new(eid_iroh::IrohTransport::new(config))
            }
        }
    }
}

/// What was seen on the way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub rounds: u64,
    pub metadata_bytes: u64,
    pub total_bytes: u64,
    pub handshake_bytes: u64,
    pub pulled: u64,
    pub pushed: u64,
    pub duplicates: u64,
    pub refused: u64,
    pub rung: String,
    pub ms: f64,
    pub walk_visits: u64,
    pub client_peak_mib: f64,
    /// Of the processor, in the session; with both sides in it where there is one process.
    pub client_cpu_us: f64,
    pub server: Side,
    pub equal: bool,
    pub held: u64,
}

/// What the serving side says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Side {
    pub walk_visits: u64,
    /// Of the processor, in the session.
    pub cpu_us: f64,
    pub peak_mib: f64,
    pub state: String,
}

/// Everybody may do everything: rights are not what is measured, and looked up all the same.
#[derive(Debug)]
struct Everybody(TreeId);

impl Access for Everybody {
    fn permission(&self, _: &TreeId, _: &[PublicKey]) -> Option<Permission> {
        Some(Permission::Write)
    }

    fn trees(&self) -> Vec<TreeId> {
        vec![self.0]
    }

    fn describe(&self, tree: &TreeId) -> TreeSummary {
        TreeSummary { tree: *tree, title: String::new(), entries: 0, changed_ms: 0 }
    }

    fn redeem(&self, _: &TreeId, _: &[PublicKey], _: &PublicKey, _: &str) -> Result<Permission, RefusalCode> {
        Err(RefusalCode::Unavailable)
    }
}

struct End {
    instance: Instance,
    engine: SyncEngine,
    rest: PathBuf,
    tree: TreeId,
}

impl End {
    fn open(
        plan: &Plan,
        name: &str,
        transport: impl FnOnce(Arc<SecretKey>) -> Arc<dyn Transport>,
    ) -> Result<Self, Failed> {
        let instance = make::open(&plan.dir.join(name))?;
        let engine = SyncEngine::new(
            Arc::clone(instance.store()),
            instance.device_key(),
            Arc::new(Everybody(plan.tree)),
            Arc::new(TokioRuntime::current()),
            EngineConfig { first_rung: plan.rung, compression: plan.compression, ..EngineConfig::default() },
        );
        engine.add_transport(transport(instance.device_key()));
        Ok(Self { instance, engine, rest: plan.dir.join(format!("{name}.rest")), tree: plan.tree })
    }

    /// Takes what only this side has.
    fn take_rest(&self) -> Result<(), Failed> {
        admit_batches(self.instance.store(), self.tree, make::rest(&self.rest)?.into_iter())
    }

    fn state(&self) -> Result<String, Failed> {
        let Some(snapshot) = self.instance.store().tree(&self.tree)? else { return Ok(String::new()) };
        let tips = snapshot.tips()?;
        Ok(hex(&tips_hash(tips.iter().map(|(id, _)| id))))
    }

    async fn listen(&self) -> Result<Address, Failed> {
        if let Some(failed) = self.engine.accept_connections().await?.pop() {
            return Err(failed.into());
        }
        Ok(self.engine.server_addresses().pop().ok_or("the server has no address")?)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The serving side, in this process or in one of its own.
enum Server {
    Here { end: End, events: Events, cpu: f64 },
    Apart { child: Child, says: BufReader<ChildStdout>, asks: ChildStdin },
}

impl Server {
    async fn start(plan: &Plan, net: &MemoryNet) -> Result<(Self, Address, PublicKey), Failed> {
        if plan.link == Wire::Memory {
            let end = End::open(plan, "server", |key| plan.link.transport(net, "server", key, true))?;
            let (address, events) = (end.listen().await?, end.engine.events());
            let key = end.engine.device();
            return Ok((Self::Here { end, events, cpu: 0.0 }, address, key));
        }
        let mut child = Command::new(std::env::current_exe()?)
            .args(["sync-serve", &plan.dir.to_string_lossy(), &plan.tree.to_string(), plan.link.name()])
            .arg(super::letter(plan.rung))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(asks), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the server has no pipes".into());
        };
        let mut says = BufReader::new(out);
        let (address, key) = (line(&mut says)?, line(&mut says)?);
        Ok((Self::Apart { child, says, asks }, address.parse()?, key.parse()?))
    }

    /// Has it take what only it has.
    fn take_rest(&mut self) -> Result<(), Failed> {
        match self {
            Self::Here { end, .. } => end.take_rest(),
            Self::Apart { says, asks, .. } => {
                writeln!(asks, "rest")?;
                line(says).map(drop)
            }
        }
    }

    /// Has it count from here.
    fn mark(&mut self) -> Result<(), Failed> {
        match self {
            Self::Here { cpu, .. } => *cpu = cpu_us()?,
            Self::Apart { says, asks, .. } => {
                writeln!(asks, "mark")?;
                line(says)?;
            }
        }
        Ok(())
    }

    async fn report(&mut self) -> Result<Side, Failed> {
        match self {
            Self::Here { end, events, cpu } => side(end, events, *cpu).await,
            Self::Apart { says, asks, .. } => {
                writeln!(asks, "report")?;
                Ok(serde_json::from_str(&line(says)?)?)
            }
        }
    }

    fn end(self) -> Result<(), Failed> {
        if let Self::Apart { mut child, asks, .. } = self {
            drop(asks);
            child.wait()?;
        }
        Ok(())
    }
}

fn line(from: &mut BufReader<ChildStdout>) -> Result<String, Failed> {
    let mut line = String::new();
    match from.read_line(&mut line)? {
        0 => Err("the serving process ended".into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

async fn side(end: &End, events: &mut Events, cpu: f64) -> Result<Side, Failed> {
    // Its session ends after the other side's.
    let walk_visits = last_session(events).await?.visited;
    let cpu_us = cpu_us()? - cpu;
    Ok(Side { walk_visits, cpu_us, peak_mib: mib(memory("VmHWM:")?), state: end.state()? })
}

/// The report of the session that ends next.
async fn last_session(events: &mut Events) -> Result<SessionReport, Failed> {
    loop {
        match events.recv().await {
            Some(Delivered::Event(SyncEvent::Session(report))) => return Ok(report),
            Some(Delivered::Event(SyncEvent::Failed { error, .. })) => return Err(error.into()),
            Some(_) => {}
            None => return Err("the engine is gone".into()),
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What the threads of this process have had of the processor.
fn cpu_us() -> Result<f64, Failed> {
    let mut nanoseconds = 0u64;
    for thread in std::fs::read_dir("/proc/self/task")? {
        // A thread may end while they are listed.
        let Ok(stat) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += stat.split(' ').next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e3)
}

/// The child that measures: the client, with the server in it or beside it.
pub(crate) fn client(plan: &Plan) -> Result<Seen, Failed> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let net = MemoryNet::new();
        let (mut server, address, key) = Server::start(plan, &net).await?;
        let counts = Arc::new(Counts::default());
        let tapped = |key| -> Arc<dyn Transport> {
            Arc::new(Tap::new(plan.link.transport(&net, "client", key, false), Arc::clone(&counts)))
        };
        let end = End::open(plan, "client", tapped)?;
        if plan.warm {
            let peer = end.engine.connect_to_peer(&address, Some(key), &[]).await?;
            end.engine.sync_tree_with_peer(&peer, plan.tree).await?;
            peer.close().await;
            server.report().await?;
            server.take_rest()?;
            end.take_rest()?;
        }
        let peer = end.engine.connect_to_peer(&address, Some(key), &[]).await?;
        counts.clear();
        server.mark()?;
        let (begin, cpu) = (Instant::now(), cpu_us()?);
        let report = end.engine.sync_tree_with_peer(&peer, plan.tree).await?;
        let (ms, client_cpu_us) = (begin.elapsed().as_secs_f64() * 1e3, cpu_us()? - cpu);
        let side = server.report().await?;
        peer.close().await;
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::SeqCst);
        let seen = Seen {
            rounds: count(&counts.rounds),
            metadata_bytes: count(&counts.total) - count(&counts.batches),
            total_bytes: count(&counts.total),
            handshake_bytes: report.handshake_bytes,
            pulled: report.pulled,
            pushed: report.pushed,
            duplicates: report.duplicates,
            refused: report.refused,
            rung: report.rung.map(|rung| rung.to_string()).unwrap_or_default(),
            ms,
            client_cpu_us,
            walk_visits: report.visited + side.walk_visits,
            client_peak_mib: mib(memory("VmHWM:")?),
            equal: end.state()? == side.state,
            server: side,
            held: end.instance.store().tree(&plan.tree)?.map_or(0, |tree| tree.count()),
        };
        server.end()?;
        Ok(seen)
    })
}

/// The child that serves, and does what the lines of its input say.
pub(crate) fn serve(dir: &str, tree: &str, link: &str, rung: &str) -> Result<(), Failed> {
    let plan = Plan {
        dir: Path::new(dir).to_owned(),
        tree: tree.parse()?,
        link: Wire::parse(link)?,
        rung: super::parse_rung(rung)?,
        warm: false,
        compression: Compression::WhereItPays,
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let net = MemoryNet::new();
        let end = End::open(&plan, "server", |key| plan.link.transport(&net, "server", key, true))?;
        println!("{}\n{}", end.listen().await?, end.engine.device());
        let (mut events, mut cpu) = (end.engine.events(), 0.0);
        // Lines are read on a thread of their own: the runtime has two, and both serve.
        // The parent asks one thing at a time and waits for the answer: no more than one line is ever in it.
        let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| give.send(line))
        });
        while let Some(line) = take.recv().await {
            match line.as_str() {
                "rest" => {
                    end.take_rest()?;
                    println!("taken");
                }
                "mark" => {
                    cpu = cpu_us()?;
                    println!("marked");
                }
                _ => println!("{}", serde_json::to_string(&side(&end, &mut events, cpu).await?)?),
            }
        }
        end.engine.stop_server().await;
        Ok(())
    })
}
