//! `eid discover`.

use std::time::Duration;

use eid::Offered;
use serde_json::json;

use crate::args::Discover;
use crate::cmd::Context;
use crate::cmd::log::utc;
use crate::failure::Failure;
use crate::output::{count, printable};

/// Lists what a peer offers.
///
/// # Errors
/// When nobody answers at the address.
pub async fn run(context: &Context, args: &Discover) -> Result<(), Failure> {
    let (peer, offered) = context.node.discover(&args.address, Duration::from_secs(args.wait)).await?;
    let is_here = |offered: &Offered| {
        context.node.database(&offered.summary.tree.to_string()).is_ok_and(|database| database.is_some())
    };
    if context.out.json() {
        for one in &offered {
            let summary = &one.summary;
            context.out.value(&json!({
                "id": summary.tree.to_string(), "name": summary.title, "entries": summary.entries,
                "changed": summary.changed_ms, "permission": one.right.to_string(), "here": is_here(one),
                "peer": peer.to_string(),
            }))?;
        }
        return Ok(());
    }
    if offered.is_empty() {
        let nobody = format!("{} lets this device read no database", peer.short());
        context.out.note(nobody)?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = offered
        .iter()
        .map(|one| {
            let summary = &one.summary;
            vec![
                printable(&summary.title),
                summary.tree.short(),
                count(summary.entries),
                utc(summary.changed_ms),
                one.right.to_string(),
                if is_here(one) { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    let headings = ["DATABASE", "ID", ">ENTRIES", "LAST CHANGE", "MAY", "HERE"];
    context.out.text(context.out.columns(&headings, &rows))?;
    Ok(())
}
