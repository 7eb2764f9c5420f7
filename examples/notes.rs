//! Two people write one note at the same time, letter by letter, and nothing of either is lost. Start it as often as
//! you like: each run goes on with the note of the last.
//!
//! ```text
//! cargo run -p eid --example notes -- /tmp/notes-example
//! ```

use std::path::PathBuf;
use std::time::Duration;

use eid::{Access, Error, Http, Instance};

const WAIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let dir =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("eid-notes"), PathBuf::from);
    let ada = Instance::open(dir.join("ada")).await?;
    let ben = Instance::open(dir.join("ben")).await?;
    let addresses = ada.listen(Http::on("127.0.0.1:0")).await?;
    let notes = match ada.database("notes")? {
        Some(notes) => notes,
        None => {
            let notes = ada.create_database("notes").await?;
            notes.text("shopping").set("Shopping\n- milk\n- bread\n").await?;
            notes
        }
    };
    let copy = match ben.database(&notes.id().to_string())? {
        Some(copy) => copy,
        None => ben.join(&notes.share(Access::write().uses(1)).await?).within(WAIT).await?,
    };

    // Each has the note open. A buffer takes every key at once and stores itself when the typing pauses.
    let mut left = notes.text("shopping").edit()?;
    let mut right = copy.text("shopping").edit()?;
    let end = left.len();
    left.insert(end, "- apples, from the market\n")?;
    let title_end = right.text().find('\n').unwrap_or(0);
    right.insert(title_end, " (today)")?;
    left.flush().await?;
    right.flush().await?;
    ben.sync_with(&addresses[0], Some(&copy), WAIT).await?;

    // What came from the other is told as changes, for an editor to show.
    for delta in left.remote()? {
        show(&format!("ada sees {delta:?}"));
    }
    right.remote()?;
    assert_eq!(left.text(), right.text());
    show(&left.text());
    left.close().await?;
    right.close().await?;
    assert_eq!(notes.state_hash()?, copy.state_hash()?);
    ben.close().await?;
    ada.close().await
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn show(line: &str) {
    println!("{line}");
}
