//! A sensor logger without an async runtime: batches of readings, one entry each, and questions about them. Start it
//! as often as you like: each run goes on where the last has ended.
//!
//! ```text
//! cargo run -p eid --example sensors -- /tmp/sensors-example
//! ```

use std::path::PathBuf;

use eid::Error;
use eid::blocking::{Database, Instance};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    /// Seconds since the logger was first started.
    at: u64,
    celsius: f64,
}

const SENSORS: [&str; 3] = ["cellar", "kitchen", "roof"];
const BATCHES: u64 = 20;
const BATCH_SECONDS: u64 = 60;

fn main() -> Result<(), Error> {
    let dir =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("eid-sensors"), PathBuf::from);
    let node = Instance::open(dir)?;
    let db = match node.database("weather")? {
        Some(db) => db,
        None => node.create_database("weather")?,
    };
    let readings = db.table::<Reading>("readings");
    let begin = readings.query().order_desc("at").limit(1).rows()?.first().map_or(0, |last| last.at + 1);

    for batch in 0..BATCHES {
        let from = begin + batch * BATCH_SECONDS;
        let measured: Vec<Reading> = (from..from + BATCH_SECONDS).flat_map(measure).collect();
        // One entry, one wait for the disk, however many rows.
        readings.insert_many(&measured)?;
    }
    show(&format!("{} readings in {} entries", readings.count()?, db.entries()?));
    report(&db, begin)?;
    node.close()
}

/// What the sensors say at one second: here they make it up.
fn measure(at: u64) -> impl Iterator<Item = Reading> {
    SENSORS.iter().zip([12.0, 21.0, 4.0]).map(move |(sensor, mean)| {
        let swing = f64::from(u32::try_from(at % 3600).unwrap_or(0)) / 600.0;
        Reading { sensor: (*sensor).to_owned(), at, celsius: mean + swing.sin() * 3.0 }
    })
}

fn report(db: &Database, since: u64) -> Result<(), Error> {
    let readings = db.table::<Reading>("readings");
    for sensor in SENSORS {
        let of_this_run = || readings.query().eq("sensor", sensor).ge("at", since);
        let coldest = of_this_run().order("celsius").limit(1).rows()?;
        let warmest = of_this_run().order_desc("celsius").limit(1).rows()?;
        if let (Some(low), Some(high)) = (coldest.first(), warmest.first()) {
            let count = of_this_run().count()?;
            show(&format!("{sensor:>8}: {count} readings, {:.1} to {:.1} C", low.celsius, high.celsius));
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn show(line: &str) {
    println!("{line}");
}
