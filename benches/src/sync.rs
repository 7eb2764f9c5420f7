//! A history that two sides hold parts of, and the session that makes them equal.

pub(crate) mod make;
mod run;
mod shape;
mod tap;

use std::process::{Command, Stdio};

use serde_json::json;

use crate::report::line;
use crate::work::{Failed, per_second, verify_all};
use eid_sync::{Compression, Rung};
use run::{Plan, Seen, Wire};
pub(crate) use shape::{Shape, Split};

struct Flags<'a> {
    shape: &'a str,
    split: Split,
    link: Wire,
    rung: Option<Rung>,
    warm: bool,
    compress: bool,
    json: bool,
}

impl<'a> Flags<'a> {
    fn parse(args: &[&'a str]) -> Result<Self, Failed> {
        let mut flags = Self {
            shape: "",
            split: Split::Own,
            link: Wire::Memory,
            rung: None,
            warm: false,
            compress: false,
            json: false,
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let mut value = || args.next().copied().ok_or(format!("{flag} takes a value"));
            match *flag {
                "--json" => flags.json = true,
                "--warm" => flags.warm = true,
                "--compress" => flags.compress = true,
                "--shape" => flags.shape = value()?,
                "--split" => flags.split = Split::parse(value()?)?,
                "--link" => flags.link = Wire::parse(value()?)?,
                "--rung" => flags.rung = parse_rung(value()?)?,
                _ => return Err(format!("{flag} is unknown").into()),
            }
        }
        let made = shape::NAMES.iter().any(|name| flags.shape.split(':').next() == Some(name));
        match (flags.shape, flags.split) {
            ("", _) => Err(format!("--shape takes a file or one of {}", shape::NAMES.join(", ")).into()),
            (_, Split::Own) if !made => Err("a recorded shape takes --split as well".into()),
            _ => Ok(flags),
        }
    }
}

/// The rung that the ladder begins at; `a` is the beginning of the whole ladder.
fn parse_rung(text: &str) -> Result<Option<Rung>, Failed> {
    let rung = Rung::ALL.iter().find(|(letter, _)| *letter == text).map(|(_, rung)| *rung);
    let rung = rung.ok_or_else(|| format!("--rung takes a letter from a to f, not {text}"))?;
    Ok(Some(rung).filter(|rung| *rung != Rung::InSync))
}

fn letter(rung: Option<Rung>) -> String {
    rung.unwrap_or(Rung::InSync).to_string()
}

/// Measures and says so.
pub(crate) fn run(args: &[&str]) -> Result<(), Failed> {
    let flags = Flags::parse(args)?;
    let dir = tempfile::tempdir()?;
    let shape = Shape::load(flags.shape, flags.split)?;
    let made = make::make(&shape, dir.path(), flags.warm)?;
    let limit = per_second(made.sample.len() as u64, verify_all(&made.sample)?);
    let plan = Plan {
        dir: dir.path().to_owned(),
        tree: made.tree,
        link: flags.link,
        rung: flags.rung,
        warm: flags.warm,
        compression: if flags.compress { Compression::WhereItPays } else { Compression::Never },
    };
    let seen = in_child(&plan)?;
    if !seen.equal || seen.refused > 0 || seen.held != made.entries {
        return Err(format!("the sides are not equal: {seen:?}, {} entries", made.entries).into());
    }
    let moved = (seen.pulled + seen.pushed).max(1);
    let rate = (seen.pulled + seen.pushed) as f64 / (seen.ms / 1e3);
    let over = |bytes: u64| bytes as f64 / made.optimal_bytes.max(1) as f64;
    let figures = [
        ("entries of the history", format!("{}", made.entries)),
        ("entries that differ", format!("{}", made.differ)),
        ("rung", seen.rung.clone()),
        ("round trips", format!("{}", seen.rounds)),
        ("bytes without entries", format!("{}", seen.metadata_bytes)),
        ("bytes", format!("{}, {:.3} of the best", seen.total_bytes, over(seen.total_bytes))),
        ("entries/s", format!("{rate:.0}, {:.2} of the signatures alone", rate / limit)),
        ("bytes an entry", format!("{:.0}", seen.total_bytes as f64 / moved as f64)),
        ("entries visited", format!("{}", seen.walk_visits)),
        (
            "processor, client and server",
            format!("{:.0} us, {:.0} us", seen.client_cpu_us, seen.server.cpu_us),
        ),
        (
            "peak memory, client and server",
            format!("{:.1} MiB, {:.1} MiB", seen.client_peak_mib, seen.server.peak_mib),
        ),
    ];
    figures.into_iter().for_each(|(name, figure)| line(name, figure));
    if flags.json {
        println!(
            "{}",
            json!({
                "entries": made.entries,
                "d": made.differ,
                "rounds": seen.rounds,
                "metadata_bytes": seen.metadata_bytes,
                "total_bytes": seen.total_bytes,
                "optimal_bytes": made.optimal_bytes,
                "total_over_optimal": over(seen.total_bytes),
                "handshake_bytes": seen.handshake_bytes,
                "entries_per_s": rate,
                "over_signatures": rate / limit,
                "peak_mib": seen.client_peak_mib.max(seen.server.peak_mib),
                "server_cpu_us": seen.server.cpu_us,
                "client_cpu_us": seen.client_cpu_us,
                "walk_visits": seen.walk_visits,
                "duplicates": seen.duplicates,
                "rung": seen.rung,
                "link": flags.link.name(),
                "warm": flags.warm,
                "compress": flags.compress,
            })
        );
    }
    Ok(())
}

/// Runs the session in a process of its own, whose memory is nobody else's.
fn in_child(plan: &Plan) -> Result<Seen, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sync-run", &plan.dir.to_string_lossy(), &plan.tree.to_string(), plan.link.name()]);
    command.arg(letter(plan.rung)).arg(if plan.warm { "warm" } else { "cold" });
    command.arg(if plan.compression == Compression::Never { "plain" } else { "compressed" });
    command.stdout(Stdio::piped());
    let out = command.spawn()?.wait_with_output()?;
    if !out.status.success() {
        return Err("the process that measures failed".into());
    }
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// The child that measures.
pub(crate) fn measure([dir, tree, link, rung, warm, batches]: [&str; 6]) -> Result<(), Failed> {
    let plan = Plan {
        dir: dir.into(),
        tree: tree.parse()?,
        link: Wire::parse(link)?,
        rung: parse_rung(rung)?,
        warm: warm == "warm",
        compression: if batches == "compressed" { Compression::WhereItPays } else { Compression::Never },
    };
    println!("{}", serde_json::to_string(&run::client(&plan)?)?);
    Ok(())
}

pub(crate) use run::serve;
