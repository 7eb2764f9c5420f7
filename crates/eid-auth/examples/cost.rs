//! Measures what it costs to resolve settings: from nothing, and for each further entry.
//!
//!     cost [ENTRIES [SHAPE]]    5,000 settings entries unless told otherwise, in several shapes of DAG

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]
#![expect(clippy::disallowed_methods, reason = "a program has arguments and a clock")]

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use eid_auth::{Candidate, Data, Engine, History, ledger::Ledger};
use eid_core::{EntryId, Permission, PublicKey, SettingsOp, Slot};

#[path = "../tests/support/random.rs"]
#[expect(unreachable_pub, dead_code, reason = "shared with the tests")]
mod random;

use random::{Rng, leave, remove, set};

const KEYS: usize = 1_000;
const ADMINS: usize = 50;

/// How authors see each other's work.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Everybody has seen everything.
    Chain,
    /// A few of the last 8 entries.
    Recent,
    /// A few of the last 64.
    Stale,
    /// A few of all.
    Any,
    /// 256 entries that have not seen each other, then one that has seen them all, again and again.
    Fans,
}

fn key(n: usize) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    PublicKey(bytes)
}

fn id(n: usize) -> EntryId {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    EntryId(bytes)
}

fn slot(n: usize) -> Slot {
    Slot::Key(key(n))
}

fn admin(n: usize) -> Permission {
    Permission::Admin(1 + u32::try_from(n % 10).expect("it is below 10"))
}

fn random_op(rng: &mut Rng) -> SettingsOp {
    // The recovery key stays: without it nobody could go on.
    let all = slot(1 + rng.below(KEYS - 1));
    match rng.below(100) {
        0..70 => set(all, Permission::Write),
        70..85 => remove(all, None),
        85..90 => leave(all),
        90..98 => {
            let n = 1 + rng.below(ADMINS - 1);
            set(slot(n), admin(n + rng.below(2)))
        }
        _ => remove(slot(1 + rng.below(ADMINS - 1)), None),
    }
}

/// The settings entries of a database with a thousand keys; whoever may not write what he tries is skipped.
fn grow(shape: Shape, count: usize) -> Result<(Ledger, Vec<EntryId>), Box<dyn Error>> {
    let mut rng = Rng::new(count as u64);
    let mut ledger = Ledger::new(Engine::new())?;
    let mut begin = vec![set(slot(0), Permission::Admin(0))];
    begin.extend((1..ADMINS).map(|n| set(slot(n), admin(n))));
    begin.extend((ADMINS..KEYS).map(|n| set(slot(n), Permission::Write)));
    ledger.add(id(0), key(0), Some(&begin), &[])?;
    let mut made = vec![id(0)];
    let mut center = id(0);
    let mut tried = 0;
    while made.len() < count {
        tried += 1;
        let last = made.len() - 1;
        let window = |rng: &mut Rng, size: usize| -> Vec<EntryId> {
            (0..1 + rng.below(3)).map(|_| made[last - rng.below(size.min(last + 1))]).collect()
        };
        let parents = match shape {
            Shape::Chain => vec![made[last]],
            Shape::Recent => window(&mut rng, 8),
            Shape::Stale => window(&mut rng, 64),
            Shape::Any => window(&mut rng, usize::MAX),
            Shape::Fans if made.len() % 257 == 256 => made[made.len() - 256..].to_vec(),
            Shape::Fans => vec![center],
        };
        let author = if rng.percent(30) { 0 } else { rng.below(ADMINS) };
        let op = if matches!(shape, Shape::Fans) && parents.len() > 1 {
            SettingsOp::Title("seen".to_owned())
        } else {
            random_op(&mut rng)
        };
        let author = if parents.len() > 64 { 0 } else { author };
        let name = id(tried);
        if ledger.add(name, key(author), Some(&[op]), &parents).is_ok() {
            if parents.len() > 64 {
                center = name;
            }
            made.push(name);
        }
    }
    Ok((ledger, made))
}

fn heads(history: &dyn History, ids: &[EntryId]) -> Result<Vec<EntryId>, Box<dyn Error>> {
    let mut heads = Vec::new();
    for id in ids {
        let mut below = false;
        for other in ids {
            below |= other != id && history.includes(&[*other], id)?;
        }
        if !below {
            heads.push(*id);
        }
    }
    Ok(heads)
}

fn measure(shape: Shape, count: usize) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let (ledger, made) = grow(shape, count)?;
    let grown = begin.elapsed();
    let history = ledger.history();
    let begin = Instant::now();
    let mut engine = Engine::new();
    let mut frontier = ledger.frontier().to_vec();
    let mut now = engine.resolve(&frontier, history)?;
    let cold = begin.elapsed();

    // Further entries: judged, taken in, and what they change is asked for, as at the one door.
    let mut slowest = Duration::ZERO;
    let further = 200.min(made.len() / 2);
    let mut engine_then = Engine::new();
    let early =
        heads(history, &made[..made.len() - further].iter().rev().take(600).copied().collect::<Vec<_>>())?;
    let mut then = engine_then.resolve(&early, history)?;
    frontier.clone_from(&early);
    let begin = Instant::now();
    for id in &made[made.len() - further..] {
        let start = Instant::now();
        let node = history.settings(id)?.ok_or("it is held")?;
        let candidate = Candidate {
            author: node.author,
            settings: Some(&node.ops),
            parents: &node.past,
            past: &node.past,
        };
        engine_then.judge(candidate, history)?.map_err(|denied| denied.to_string())?;
        frontier.retain(|head| !node.past.contains(head));
        frontier.push(*id);
        let next = engine_then.resolve(&frontier, history)?;
        let _change = engine_then.change(&then, &next);
        then = next;
        slowest = slowest.max(start.elapsed());
    }
    let each = begin.elapsed() / u32::try_from(further)?;

    let begin = Instant::now();
    let asked = 100_000;
    let mut rng = Rng::new(1);
    let mut standing = 0;
    for n in 0..asked {
        let past = [made[rng.below(made.len())]];
        let data = Data { id: id(usize::MAX - n), author: key(rng.below(KEYS)), past: &past };
        standing += usize::from(engine.standing(&now, data, history)?.counts());
    }
    let data = begin.elapsed() / u32::try_from(asked)?;
    now = engine.resolve(ledger.frontier(), history)?;
    if now.settings_count() != made.len() {
        return Err("a settings entry was lost".into());
    }
    println!(
        "{shape:<7?} {:>6} settings, {:>4} void, {:>4} tips: grown one by one {grown:>7.0?}, from nothing \
         {cold:>7.0?}, each further {each:>8.1?} (slowest {slowest:.1?}), data {data:.1?}, {standing} stand",
        now.settings_count(),
        now.void_count(),
        ledger.frontier().len(),
    );
    Ok(())
}

fn main() -> ExitCode {
    let shown = std::env::args().nth(2);
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(5_000);
    for shape in [Shape::Fans, Shape::Chain, Shape::Recent, Shape::Stale, Shape::Any] {
        if shown.as_ref().is_some_and(|shown| *shown != format!("{shape:?}")) {
            continue;
        }
        if let Err(error) = measure(shape, count) {
            eprintln!("cost: {shape:?}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
