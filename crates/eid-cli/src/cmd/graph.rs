//! `eid graph`.

use serde_json::json;

use crate::args::Graph;
use crate::cmd::Context;
use crate::cmd::log::People;
use crate::failure::Failure;
use crate::graph::svg::{self, Heading};
use crate::graph::{self, Authors};
use crate::limits::GRAPH_PAGE;
use crate::output::{number_of, printable};

/// Draws the newest entries into a file.
///
/// # Errors
/// When there is no such database, or the file cannot be written.
pub fn run(context: &Context, args: &Graph) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let people = People::of(context)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut authors = Authors::default();
    let mut nodes = Vec::new();
    let mut last = None;
    while nodes.len() < limit {
        let page = db.log_page(last.as_ref(), (limit - nodes.len()).min(GRAPH_PAGE))?;
        nodes.extend(graph::nodes(&page, &mut authors, |key| people.name(key)));
        match page.into_iter().next_back() {
            Some(entry) => last = Some(entry),
            None => break,
        }
    }
    let title = db.name()?;
    let heading = Heading { title: &title, entries: db.entries()?, authors: authors.names() };
    let file = context.path(&args.out);
    let svg = svg::draw(&heading, &nodes);
    std::fs::write(&file, svg.as_bytes())
        .map_err(|cause| Failure::io(format!("cannot write {}", file.display()), &cause))?;
    let shown = file.display().to_string();
    context.out.say(
        &json!({"file": shown, "entries": nodes.len(), "authors": authors.names().len(), "bytes": svg.len()}),
        || format!("{} drawn into {}", number_of(nodes.len() as u64, "entry", "entries"), printable(&shown)),
    )?;
    Ok(())
}
