//! `eid log`.

use std::collections::BTreeMap;

use eid::{Database, LogEntry, PublicKey};
use serde_json::json;
use unicode_width::UnicodeWidthStr as _;

use crate::args::Log;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::graph::terminal::{Drawing, Drawn, Piece, Signs};
use crate::graph::{self, Authors, store_list};
use crate::limits::{GRAPH_LANES, GRAPH_PAGE};
use crate::output::printable;

/// Lists entries, the latest first.
///
/// # Errors
/// When there is no such database.
pub fn run(context: &Context, args: &Log) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    if args.graph && !context.out.json() {
        return graph(context, args, &db);
    }
    let mut rows = Vec::new();
    for entry in db.log(args.limit, args.doc_store.as_deref())? {
        let stores: Vec<&str> = entry.stores.iter().map(String::as_str).collect();
        if context.out.json() {
            let parents: Vec<String> = entry.parents.iter().map(ToString::to_string).collect();
            context.out.value(&json!({
                "entry": entry.id.to_string(), "time": entry.time.ms(), "author": entry.author.to_string(),
                "height": entry.height.0, "parents": parents, "stores": stores, "void": entry.void,
            }))?;
        } else {
            rows.push(vec![
                utc(entry.time.ms()),
                entry.height.0.to_string(),
                entry.author.short(),
                printable(&format!("{}{}", if entry.void { "void " } else { "" }, stores.join(" "))),
                entry.id.to_string(),
            ]);
        }
    }
    if !context.out.json() {
        context
            .out
            .text(context.out.columns(&["TIME (UTC)", ">HEIGHT", "AUTHOR", "STORES", "ENTRY"], &rows))?;
    }
    Ok(())
}

/// Draws entries, the latest first, page by page.
fn graph(context: &Context, args: &Log, db: &Database) -> Result<(), Failure> {
    let out = &context.out;
    let signs = if args.ascii { Signs::Ascii } else { Signs::Unicode };
    let people = People::of(context)?;
    let mut authors = Authors::default();
    let mut drawing = Drawing::new(signs, GRAPH_LANES);
    let (mut left, mut last): (usize, Option<LogEntry>) = (args.limit, None);
    while left > 0 {
        let page = db.log_page(last.as_ref(), left.min(GRAPH_PAGE))?;
        let nodes = graph::nodes(&page, &mut authors, |key| people.name(key));
        let drawn: Vec<Drawn> = nodes.iter().map(|node| drawing.draw(node)).collect();
        let widest = drawn.iter().map(|drawn| drawn.width).max().unwrap_or(0);
        let name_width = nodes.iter().map(|node| authors.names()[node.author].width()).max().unwrap_or(0);
        for ((node, drawn), entry) in nodes.iter().zip(drawn).zip(&page) {
            let mut line = String::new();
            for piece in &drawn.entry {
                match piece {
                    Piece::Line(text) => line.push_str(&out.dim(text)),
                    Piece::Entry(sign, author) => line.push_str(&out.hue(*author, sign)),
                }
            }
            line.push_str(&" ".repeat(widest - drawn.width + 1));
            let is_asked_for = args.doc_store.as_ref().is_none_or(|store| entry.stores.contains(store));
            if is_asked_for {
                let name = &authors.names()[node.author];
                let pad = " ".repeat(name_width - name.width());
                let tip = if node.is_tip { format!("{} ", out.good("tip")) } else { String::new() };
                let void = if entry.void { format!("{} ", out.bad("void")) } else { String::new() };
                line.push_str(&format!(
                    "{}  {}{pad}  {tip}{void}{}  {}",
                    utc(node.time_ms),
                    out.hue(node.author, name),
                    printable(&store_list(&node.stores)),
                    out.dim(&if args.ids { node.id.to_string() } else { node.id.short() }),
                ));
            }
            out.text(line.trim_end())?;
            if let Some(below) = &drawn.below {
                out.text(out.dim(below))?;
            }
        }
        left -= page.len();
        match page.into_iter().next_back() {
            Some(entry) => last = Some(entry),
            None => return told(context, args),
        }
    }
    if let Some(open) = drawing.open() {
        out.text(out.dim(&open))?;
    }
    told(context, args)
}

/// Says where whole ids are, since nothing takes the short ones.
fn told(context: &Context, args: &Log) -> Result<(), Failure> {
    if !args.ids {
        context.out.note("ids are shortened; `at`, `diff` and `undo` take whole ones: --ids shows them")?;
    }
    Ok(())
}

/// What the devices are called that this one knows.
#[derive(Debug)]
pub(super) struct People(BTreeMap<PublicKey, String>);

impl People {
    pub(super) fn of(context: &Context) -> Result<Self, Failure> {
        let mut names = BTreeMap::new();
        for peer in context.node.peers()? {
            if let (Some(key), Some(name)) = (peer.key, peer.name) {
                names.insert(key, printable(&name));
            }
        }
        if let Some(name) = context.node.display_name()? {
            names.insert(context.node.device(), printable(&name));
        }
        Ok(Self(names))
    }

    /// What a device calls itself, without what would steer a terminal, else the short form of its key.
    pub(super) fn name(&self, key: &PublicKey) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| key.short())
    }
}

/// Milliseconds since 1970 as `YYYY-MM-DD HH:MM:SS`, by the proleptic Gregorian calendar.
#[must_use]
pub fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_shown_by_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_700_000_000_000), "2023-11-14 22:13:20");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28 23:59:59");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00");
    }
}
