//! `eid demo`: the whole of it on real data, narrated.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eid::{Access, Address, Database, Http, Instance, SessionReport, Table};
use serde_json::{Map, Value, json};

use crate::args::{Demo, Format};
use crate::cmd::db::hex;
use crate::cmd::table;
use crate::failure::{Exit, Failure};
use crate::output::{Out, bytes, count};
use crate::rows::Rows;

/// 3,376 airports of the USA: a subset of OurAirports, public domain.
const AIRPORTS: &str = include_str!("../../../../tests/data/airports.csv");
/// Rows in one entry: a few hundred entries make a history worth synchronising.
const BATCH_ROWS: usize = 8;
/// The table and its database.
const TABLE: &str = "airports";
/// Rounds of synchronisation after which three replicas must have converged; three suffice.
const ROUNDS_MAX: usize = 5;
/// How long one step over the loopback may take.
const STEP_WAIT: Duration = Duration::from_secs(30);

type Row = Map<String, Value>;

/// Runs the demo.
///
/// # Errors
/// When a step fails, or the replicas do not converge.
pub async fn run(args: &Demo, out: &Out) -> Result<(), Failure> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => temporary_dir()?,
    };
    let result = play(&dir, out).await;
    if args.dir.is_none() && !args.keep {
        std::fs::remove_dir_all(&dir)
            .map_err(|cause| Failure::io(format!("cannot remove {}", dir.display()), &cause))?;
    } else {
        out.note(format!(
            "The instances are in {}; try `eid --data {}/a status`.",
            dir.display(),
            dir.display()
        ))?;
    }
    result
}

fn temporary_dir() -> Result<PathBuf, Failure> {
    let dir = tempfile::Builder::new().prefix("eid-demo-").tempdir();
    Ok(dir.map_err(|cause| Failure::io("cannot make a temporary directory", &cause))?.keep())
}

/// One of the three.
struct Replica {
    name: &'static str,
    via: &'static str,
    dir: PathBuf,
    node: Instance,
    db: Database,
}

impl Replica {
    fn rows(&self) -> Table<Row> {
        self.db.table(TABLE)
    }

    /// Writes fields of one airport.
    async fn edit(&self, key: &str, fields: &Value) -> Result<(), Failure> {
        let mut row =
            self.rows().get(key)?.ok_or_else(|| Failure::not_found(format!("there is no airport {key}")))?;
        row.extend(fields.as_object().cloned().unwrap_or_default());
        self.rows().put(key, &row).await?;
        Ok(())
    }

    /// Closes the instance: what is left is what is on its disk.
    async fn switch_off(self) -> Result<Off, Failure> {
        let off = Off { name: self.name, via: self.via, dir: self.dir, id: self.db.id().to_string() };
        drop(self.db);
        self.node.close().await?;
        Ok(off)
    }
}

/// An instance that does not run.
struct Off {
    name: &'static str,
    via: &'static str,
    dir: PathBuf,
    id: String,
}

impl Off {
    async fn switch_on(self) -> Result<Replica, Failure> {
        let Self { name, via, dir, id } = self;
        let node = Instance::open(&dir).await?;
        let db = node.database(&id)?.ok_or_else(|| Failure::not_found("the database is gone"))?;
        Ok(Replica { name, via, dir, node, db })
    }
}

/// A session as the final table shows it.
struct Session {
    from: &'static str,
    to: &'static str,
    report: SessionReport,
}

impl Session {
    fn via(&self) -> &str {
        self.report.via.as_ref().map_or("", Address::scheme)
    }
}

/// Prints the story to people and nothing to programs.
struct Story<'a> {
    out: &'a Out,
    step: usize,
}

impl Story<'_> {
    fn step(&mut self, title: &str) -> Result<(), Failure> {
        self.step += 1;
        if !self.out.json() {
            self.out.text(format!("\n{}", self.out.bold(&format!("{}. {title}", self.step))))?;
        }
        Ok(())
    }

    fn tell(&self, text: &str) -> Result<(), Failure> {
        if !self.out.json() {
            self.out.text(format!("   {text}"))?;
        }
        Ok(())
    }
}

async fn play(dir: &Path, out: &Out) -> Result<(), Failure> {
    let started = Instant::now();
    let mut story = Story { out, step: 0 };
    let mut sessions = Vec::new();

    story.step("A, a laptop, makes a database and imports airports while offline")?;
    let a = begin(dir).await?;
    import(&a.db, out).await?;
    let entries = a.db.entries()?;
    story.tell(&format!(
        "{} rows in {} signed entries, on disk",
        count(a.db.table::<Row>(TABLE).count()?),
        count(entries)
    ))?;

    story.step("A listens, and shares the database with two tickets")?;
    let address = a.node.listen(Http::on("127.0.0.1:0")).await?.into_iter().next();
    let address =
        address.ok_or_else(|| Failure::new(Exit::Failed, "not_listening", "the server has no address"))?;
    story.tell(&format!("serving {address}, sealed end to end without certificates"))?;

    story.step("B and C, two other devices, join by ticket")?;
    let b = join(dir, "b", &a, &mut sessions).await?;
    let c = join(dir, "c", &a, &mut sessions).await?;
    for session in &sessions {
        let r = &session.report;
        let rate = r.pulled * 1000 / r.ms.max(1);
        story.tell(&format!(
            "{} has {} entries after {} ms ({} entries/s, {})",
            session.from,
            count(r.pulled),
            r.ms,
            count(rate),
            bytes(r.bytes_in)
        ))?;
    }

    story.step("All three write at the same time, without asking anybody")?;
    a.edit("SEA", &json!({"name": "Seattle-Tacoma International", "lounge": "A was here"})).await?;
    b.edit("SEA", &json!({"city": "SeaTac", "lounge": "B was here"})).await?;
    c.edit("SEA", &json!({"rating": 5, "lounge": "C was here"})).await?;
    for replica in [&a, &b, &c] {
        replica.db.doc(eid::DEFAULT_DOC_STORE).increment("visits", 1).await?;
    }
    story.tell("each changed other fields of Seattle's row, all of them one same field, and one counter")?;

    story.step("C is cut off and goes on writing; A and B synchronise")?;
    c.edit("ANC", &json!({"note": "written by C without a network"})).await?;
    let c = c.switch_off().await?;
    sync(&b, &address, "A", &mut sessions).await?;
    a.edit("JFK", &json!({"note": "written by A while C was away"})).await?;
    b.edit("JFK", &json!({"rating": 4})).await?;
    sync(&b, &address, "A", &mut sessions).await?;
    story.tell(&format!("A and B have {} entries, C is switched off", count(a.db.entries()?)))?;

    story.step("C comes back")?;
    let c = c.switch_on().await?;
    let replicas = [a, b, c];
    for _ in 0..ROUNDS_MAX {
        sync(&replicas[2], &address, "A", &mut sessions).await?;
        sync(&replicas[1], &address, "A", &mut sessions).await?;
        if common_state(&replicas)?.is_some() {
            break;
        }
    }
    let state = common_state(&replicas)?;
    for replica in &replicas {
        let row = replica.rows().get("SEA")?.map(Value::Object).unwrap_or_default();
        let visits: i64 = replica.db.doc(eid::DEFAULT_DOC_STORE).get_as("visits")?.unwrap_or_default();
        story.tell(&format!(
            "{}: Seattle {}, visits {visits}",
            replica.name,
            pick(&row, &["name", "city", "rating", "lounge"])
        ))?;
    }
    let shown = conclude(out, &replicas, &sessions, state, started.elapsed());
    for replica in replicas {
        replica.node.close().await?;
    }
    shown
}

async fn begin(dir: &Path) -> Result<Replica, Failure> {
    let dir = dir.join("a");
    let node = Instance::open(&dir).await?;
    node.set_display_name("A").await?;
    let db = node.create_database(TABLE).await?;
    Ok(Replica { name: "A", via: "local", dir, node, db })
}

async fn import(db: &Database, out: &Out) -> Result<(), Failure> {
    let mut rows = Rows::new(AIRPORTS.as_bytes(), Format::Csv, Some("iata"))
        .map_err(|bad| bad.failure("airports.csv"))?;
    loop {
        let batch: Result<Vec<_>, _> = rows.by_ref().take(BATCH_ROWS).collect();
        let batch = batch.map_err(|bad| bad.failure("airports.csv"))?;
        if batch.is_empty() {
            return Ok(());
        }
        table::write(db, TABLE, batch).await?;
        out.progress("importing", rows.read_so_far(), AIRPORTS.len() as u64)?;
    }
}

async fn join(
    dir: &Path,
    letter: &str,
    a: &Replica,
    sessions: &mut Vec<Session>,
) -> Result<Replica, Failure> {
    let name = if letter == "b" { "B" } else { "C" };
    let ticket = a.db.share(Access::write().uses(1)).await?;
    let dir = dir.join(letter);
    let node = Instance::open(&dir).await?;
    node.set_display_name(name).await?;
    let joined = node.join(&ticket).within(STEP_WAIT).run().await?;
    sessions.push(Session { from: name, to: a.name, report: joined.session });
    Ok(Replica { name, via: "http", dir, node, db: joined.database })
}

async fn sync(
    from: &Replica,
    address: &Address,
    to: &'static str,
    sessions: &mut Vec<Session>,
) -> Result<(), Failure> {
    let reports = from.node.sync_with(address, Some(&from.db), STEP_WAIT).await?;
    sessions.extend(reports.into_iter().map(|report| Session { from: from.name, to, report }));
    Ok(())
}

/// The state hash that all have, if all have the same.
fn common_state(replicas: &[Replica]) -> Result<Option<[u8; 32]>, Failure> {
    let mut states = Vec::new();
    for replica in replicas {
        states.push((replica.db.state_hash()?, replica.db.tips()?));
    }
    let equal = states.windows(2).all(|pair| pair[0] == pair[1]);
    Ok(states.first().filter(|_| equal).and_then(|(state, _)| *state))
}

fn pick(row: &Value, fields: &[&str]) -> String {
    let shown: Vec<String> = fields.iter().map(|field| format!("{field}={}", row[*field])).collect();
    shown.join(" ")
}

fn conclude(
    out: &Out,
    replicas: &[Replica],
    sessions: &[Session],
    state: Option<[u8; 32]>,
    took: Duration,
) -> Result<(), Failure> {
    let state = state.map(|state| hex(&state));
    if out.json() {
        let mut list = Vec::new();
        for r in replicas {
            let state = r.db.state_hash()?.map(|state| hex(&state));
            list.push(json!({
                "name": r.name, "entries": r.db.entries()?, "tips": r.db.tips()?.len(), "state_hash": state,
                "rows": r.rows().count()?, "via": r.via,
            }));
        }
        let sessions: Vec<Value> = sessions.iter().map(session_object).collect();
        out.value(&json!({
            "converged": state.is_some(), "state_hash": state, "replicas": list, "sessions": sessions,
        }))?;
    } else {
        show(out, replicas, sessions, took)?;
    }
    if state.is_none() {
        let failure = Failure::new(Exit::Failed, "not_converged", "the replicas did not converge");
        return Err(failure.hint("run `eid demo --keep` and report what `eid verify` says of each instance"));
    }
    Ok(())
}

fn session_object(session: &Session) -> Value {
    let r = &session.report;
    json!({
        "from": session.from, "to": session.to, "via": session.via(), "entries_pulled": r.pulled,
        "entries_pushed": r.pushed, "bytes_in": r.bytes_in, "bytes_out": r.bytes_out, "turns": r.turns, "ms": r.ms,
    })
}

fn show(out: &Out, replicas: &[Replica], sessions: &[Session], took: Duration) -> Result<(), Failure> {
    let lines: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            let r = &session.report;
            let rate = (r.pulled + r.pushed) * 1000 / r.ms.max(1);
            vec![
                format!("{} - {}", session.from, session.to),
                session.via().to_owned(),
                count(r.pulled),
                count(r.pushed),
                bytes(r.bytes_in + r.bytes_out),
                // Turns alternate: two of them are one round trip.
                r.turns.div_ceil(2).to_string(),
                format!("{} ms", r.ms),
                count(rate),
            ]
        })
        .collect();
    let headings = ["SESSION", "VIA", ">PULLED", ">PUSHED", ">BYTES", ">ROUND TRIPS", ">TIME", ">ENTRIES/S"];
    out.text(format!("\n{}\n", out.columns(&headings, &lines)))?;
    let mut lines = Vec::new();
    for r in replicas {
        let state = r.db.state_hash()?.map_or_else(|| "not known".to_owned(), |state| hex(&state));
        lines.push(vec![
            r.name.to_owned(),
            count(r.rows().count()?),
            count(r.db.entries()?),
            bytes(r.db.bytes()?),
            state,
        ]);
    }
    out.text(out.columns(&["REPLICA", ">ROWS", ">ENTRIES", ">STORED", "STATE HASH"], &lines))?;
    if common_state(replicas)?.is_some() {
        out.text(format!(
            "\n{} in {:.1} s: three replicas, one state.",
            out.good("Converged"),
            took.as_secs_f64()
        ))?;
    }
    Ok(())
}
