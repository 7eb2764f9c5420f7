//! `many`: two devices share thousands of databases that are in step, and it is measured what it costs to find that out,
//! and what one that differs costs besides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eid::{Access, Http, Instance, Listener};
use eid_transport::Transport;
use eid_transport::memory::MemoryNet;
use serde_json::json;

use crate::report::{line, median};
use crate::work::Failed;

/// How often each is measured.
const SAMPLES: u64 = 11;
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures and says so.
pub(crate) fn run(args: &[&str]) -> Result<(), Failed> {
    let (mut http, mut databases, mut json) = (false, 3_000, false);
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let mut value = || args.next().copied().ok_or(format!("{flag} takes a value"));
        match *flag {
            "--json" => json = true,
            "--link" => {
                http = match value()? {
                    "memory" => false,
                    "http" => true,
                    other => return Err(format!("--link takes memory or http, not {other}").into()),
                }
            }
            "--databases" => databases = value()?.parse()?,
            _ => return Err(format!("{flag} is unknown").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let said = runtime.block_on(measure(http, databases))?;
    if json {
        println!("{said}");
    }
    Ok(())
}

async fn measure(http: bool, databases: usize) -> Result<serde_json::Value, Failed> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (a, b) = (Instance::open(here.path()).await?, Instance::open(there.path()).await?);
    let net = MemoryNet::new();
    let listener = |name: &str| -> Listener {
        if http {
            Http::on("127.0.0.1:0").into()
        } else {
            Listener::from(net.endpoint(name) as Arc<dyn Transport>)
        }
    };
    let address = a.listen(listener("a")).await?.remove(0);
    b.listen(listener("b")).await?;
    let mut shared = Vec::new();
    for n in 0..databases {
        let db = a.create_database(&format!("db {n}")).await?;
        db.doc("d").set("n", 0).await?;
        let ticket = db.share(Access::write().reachable_at(address.clone())).await?;
        b.join(&ticket).within(PATIENCE).await?;
        shared.push(db);
    }
    b.sync_with(&address, None, PATIENCE).await?;
    let (mut equal, mut one, mut bytes) = (Vec::new(), Vec::new(), 0);
    for n in 0..SAMPLES {
        let began = Instant::now();
        let reports = b.sync_with(&address, None, PATIENCE).await?;
        equal.push(began.elapsed());
        bytes = reports.iter().map(|report| report.bytes_in + report.bytes_out).sum();
        let db = &shared[usize::try_from(n)? * 7 % databases];
        db.doc("d").set("n", n + 1).await?;
        let began = Instant::now();
        let reports = b.sync_with(&address, None, PATIENCE).await?;
        one.push(began.elapsed());
        if reports.len() != databases || reports.iter().map(|report| report.pulled).sum::<u64>() != 1 {
            return Err("not exactly what differs was exchanged".into());
        }
    }
    let ms = |took: &mut [Duration]| median(took).as_secs_f64() * 1e3;
    let (equal, one) = (ms(&mut equal), ms(&mut one));
    let each = equal * 1e3 / databases as f64;
    line(
        &format!("{databases} databases in step"),
        format!("{equal:.1} ms, {each:.1} us and {bytes} bytes in all"),
    );
    line("  one of which differs", format!("{one:.1} ms"));
    a.close().await?;
    b.close().await?;
    Ok(json!({"databases": databases, "equal_ms": equal, "one_differs_ms": one, "bytes": bytes}))
}
