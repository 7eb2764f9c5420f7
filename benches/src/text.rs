//! A recorded editing session through the text store, and through yrs, each in a process of its own.

mod ours;
mod trace;
mod yrs;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::history::memory;
use crate::report::line;
use crate::work::Failed;
use ours::{Ours, Place};
pub(crate) use trace::{Patch, Trace};
use trace::{Step, Steps};
use yrs::Yrs;

/// Edits that become one entry, unless the command says otherwise: some seconds of typing.
pub(crate) const EDITS_PER_ENTRY: usize = 32;

/// Something that is edited here and elsewhere.
trait Replica {
    type Update;
    fn edit(&mut self, patch: Patch) -> Result<(), Failed>;
    /// Makes an update of the edits since the last one.
    fn seal(&mut self) -> Result<Sent<Self::Update>, Failed>;
    fn take(&mut self, update: &Self::Update) -> Result<(), Failed>;
    fn text(&mut self) -> Result<String, Failed>;
}

struct Sent<U> {
    update: U,
    bytes: usize,
}

struct Flags<'a> {
    trace: &'a str,
    per_entry: usize,
    json: bool,
}

impl<'a> Flags<'a> {
    fn parse(args: &[&'a str]) -> Result<Self, Failed> {
        let mut flags = Self { trace: "", per_entry: EDITS_PER_ENTRY, json: false };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            match *flag {
                "--json" => flags.json = true,
                "--trace" => flags.trace = args.next().ok_or("--trace names a file")?,
                "--per-entry" => {
                    flags.per_entry = args.next().ok_or("--per-entry takes a number")?.parse()?;
                }
                _ => return Err(format!("{flag} is unknown").into()),
            }
        }
        if flags.trace.is_empty() || flags.per_entry == 0 {
            return Err("bench text takes --trace FILE, and at least one edit per entry".into());
        }
        Ok(flags)
    }
}

pub(crate) fn run(args: &[&str]) -> Result<(), Failed> {
    let flags = Flags::parse(args)?;
    let dir = tempfile::tempdir()?;
    let [steps, end, disk, saved] = ["steps", "end", "eid", "yrs"].map(|name| dir.path().join(name));
    let trace = Trace::read(Path::new(flags.trace))?;
    Steps::write(&trace, flags.per_entry, &steps)?;
    std::fs::write(&end, &trace.end_content)?;
    drop(trace);
    let measure = |what: &str, place: &Path| child(what, [&steps, &end, place]);
    let ours = measure("memory", Path::new("-"))?;
    let theirs = measure("yrs", &saved)?;
    let theirs_each = measure("yrs-each", Path::new("-"))?;
    let on_disk = measure("disk", &disk)?;
    let opened = measure("load", &disk)?;
    let theirs_opened = measure("yrs-load", &saved)?;
    let edits = get(&ours, "edits");

    line("edits in the session", format!("{edits:.0}, {} per entry", flags.per_entry));
    show("through the text store, in memory", &ours);
    show("the same on disk", &on_disk);
    show("yrs, a transaction for each entry", &theirs);
    show("yrs, a transaction for each edit", &theirs_each);
    let ratio = |name: &str, ours: &Value, theirs: &Value| get(ours, name) / get(theirs, name);
    let (speed, speed_each) =
        (ratio("edits_per_s", &ours, &theirs), ratio("edits_per_s", &ours, &theirs_each));
    let (sent, sent_each) =
        (ratio("bytes_sent_per_edit", &ours, &theirs), ratio("bytes_sent_per_edit", &ours, &theirs_each));
    let stored = get(&on_disk, "bytes_stored") / edits;
    let stored_theirs = get(&theirs, "bytes_stored") / edits;
    let (load, load_theirs) = (get(&opened, "load_ms"), get(&theirs_opened, "load_ms"));
    let peak = ratio("peak_bytes", &ours, &theirs);
    line("ours to theirs: edits/s", format!("{speed:.2}; {speed_each:.2} with a transaction for each edit"));
    line("  bytes sent", format!("{sent:.2}; {sent_each:.2} with a transaction for each edit"));
    line("  bytes stored for an edit", format!("{stored:.1}; theirs, one snapshot: {stored_theirs:.1}"));
    line("  load", format!("{load:.1} ms from disk to text; theirs {load_theirs:.1} ms"));
    line("  memory, peak", format!("{peak:.2}"));
    if flags.json {
        println!(
            "{}",
            json!({
                "trace": flags.trace,
                "edits_per_entry": flags.per_entry,
                "ours_memory": ours,
                "ours_disk": on_disk,
                "ours_load": opened,
                "yrs": theirs,
                "yrs_each_edit": theirs_each,
                "yrs_load": theirs_opened,
                "ratio_edits_per_s": speed,
                "ratio_edits_per_s_each_edit": speed_each,
                "ratio_bytes_sent": sent,
                "ratio_bytes_sent_each_edit": sent_each,
                "ratio_load": load / load_theirs,
                "ratio_peak": peak,
            })
        );
    }
    Ok(())
}

fn get(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or(f64::NAN)
}

fn show(name: &str, figures: &Value) {
    line(name, format!("{:.0} edits/s", get(figures, "edits_per_s")));
    line("  updates, bytes sent for an edit", {
        format!("{:.0}, {:.1}", get(figures, "updates"), get(figures, "bytes_sent_per_edit"))
    });
    line("  memory, peak", format!("{:.1} MiB", get(figures, "peak_bytes") / f64::from(1 << 20)));
}

/// One measurement in a process of its own, whose memory is only its own.
fn child(what: &str, paths: [&Path; 3]) -> Result<Value, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["text-one", what]).args(paths);
    let done = command.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
    if !done.status.success() {
        return Err(format!("measuring {what} failed").into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// The child: measures one thing and prints it.
pub(crate) fn one(what: &str, steps: &str, end: &str, place: &str) -> Result<(), Failed> {
    let before = memory("VmHWM:")?;
    let (place, mut steps) = (Path::new(place), Steps::open(Path::new(steps))?);
    let (mut figures, texts) = match what {
        "memory" => {
            replay(&mut steps, |agents, steps| Ours::replicas(agents, &Place::Memory, steps))?.shown()?
        }
        "disk" => {
            let on_disk = Place::Disk(place.to_owned());
            let replayed = replay(&mut steps, |agents, steps| Ours::replicas(agents, &on_disk, steps))?;
            let (mut figures, texts) = (replayed.figures, replayed.texts);
            let bytes = replayed.replicas.into_iter().map(Ours::close).collect::<Result<Vec<_>, _>>()?;
            figures["bytes_of_entries"] = json!(bytes.first());
            figures["bytes_stored"] = json!(size(place)?);
            (figures, texts)
        }
        "load" => timed(|| ours::load(place))?,
        "yrs" => {
            let replayed = replay(&mut steps, |agents, _| Ok(Yrs::replicas(agents, false)))?;
            let saved = replayed.replicas.first().map(Yrs::save).unwrap_or_default();
            std::fs::write(place, &saved)?;
            let (mut figures, texts) = replayed.shown()?;
            figures["bytes_stored"] = json!(saved.len());
            (figures, texts)
        }
        "yrs-each" => replay(&mut steps, |agents, _| Ok(Yrs::replicas(agents, true)))?.shown()?,
        "yrs-load" => timed(|| Yrs::load(&std::fs::read(place)?))?,
        _ => return Err(format!("{what} cannot be measured").into()),
    };
    figures["peak_bytes"] = json!(memory("VmHWM:")?.saturating_sub(before));
    let end = std::fs::read_to_string(end)?;
    if texts.iter().any(|text| *text != end) {
        return Err("the text is another one than the session ended in".into());
    }
    println!("{figures}");
    Ok(())
}

struct Replayed<R> {
    figures: Value,
    texts: Vec<String>,
    replicas: Vec<R>,
}

impl<R> Replayed<R> {
    fn shown(self) -> Result<(Value, Vec<String>), Failed> {
        Ok((self.figures, self.texts))
    }
}

fn replay<R: Replica>(
    steps: &mut Steps,
    replicas: impl FnOnce(usize, usize) -> Result<Vec<R>, Failed>,
) -> Result<Replayed<R>, Failed> {
    let mut replicas = replicas(steps.agents, steps.count)?;
    let (mut updates, mut edits, mut bytes) = (Vec::new(), 0, 0);
    let (alone, mut took) = (steps.agents == 1, Duration::ZERO);
    for step in steps {
        let step = step?;
        let begin = Instant::now();
        match step {
            Step::Edit(agent, patch) => {
                edits += 1;
                replicas[agent].edit(patch)?;
            }
            Step::Seal(agent) => {
                let sent = replicas[agent].seal()?;
                bytes += sent.bytes;
                // Kept only where there is somebody to send it to.
                updates.push((!alone).then_some(sent.update));
            }
            Step::Deliver(agent, update) => {
                if let Some(update) = &updates[update] {
                    replicas[agent].take(update)?;
                }
            }
        }
        took += begin.elapsed();
    }
    let texts = replicas.iter_mut().map(Replica::text).collect::<Result<Vec<_>, _>>()?;
    let figures = json!({
        "edits": edits,
        "edits_per_s": f64::from(edits) / took.as_secs_f64(),
        "updates": updates.len(),
        "bytes_sent_per_edit": bytes as f64 / f64::from(edits),
    });
    Ok(Replayed { figures, texts, replicas })
}

fn timed(load: impl FnOnce() -> Result<String, Failed>) -> Result<(Value, Vec<String>), Failed> {
    let begin = Instant::now();
    let text = load()?;
    Ok((json!({ "load_ms": begin.elapsed().as_secs_f64() * 1e3 }), vec![text]))
}

fn size(dir: &Path) -> Result<u64, Failed> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
