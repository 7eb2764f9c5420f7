//! Two devices share a list of things to do. Start it as often as you like: each run finds what the last has left.
//!
//! ```text
//! cargo run -p eid --example todo -- /tmp/todo-example
//! ```

use std::path::PathBuf;
use std::time::Duration;

use eid::{Access, Database, Error, Http, Instance};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Todo {
    title: String,
    done: bool,
}

const WAIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let dir = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("eid-todo"), PathBuf::from);
    let laptop = Instance::open(dir.join("laptop")).await?;
    let phone = Instance::open(dir.join("phone")).await?;
    let addresses = laptop.listen(Http::on("127.0.0.1:0")).await?;

    let list = match laptop.database("todo")? {
        Some(list) => list,
        None => laptop.create_database("todo").await?,
    };
    let copy = match phone.database(&list.id().to_string())? {
        Some(copy) => copy,
        None => {
            let ticket = list.share(Access::write().uses(1)).await?;
            phone.join(&ticket).within(WAIT).await?
        }
    };

    // Each device writes for itself, then they meet.
    let number = list.table::<Todo>("items").count()? + 1;
    list.table("items")
        .insert(&Todo { title: format!("thing {number}, noted on the laptop"), done: false })
        .await?;
    tick_off_first(&copy).await?;
    for session in phone.sync_with(&addresses[0], Some(&copy), WAIT).await? {
        show(&format!("synchronised: {} in, {} out", session.pulled, session.pushed));
    }

    for todo in copy.table::<Todo>("items").query().order("title").rows()? {
        show(&format!("[{}] {}", if todo.done { 'x' } else { ' ' }, todo.title));
    }
    assert_eq!(list.state_hash()?, copy.state_hash()?);
    phone.close().await?;
    laptop.close().await
}

async fn tick_off_first(list: &Database) -> Result<(), Error> {
    let items = list.table::<Todo>("items");
    let open = items.query().eq("done", false).limit(1).entries()?;
    for (key, _) in open {
        items.update(&key, |todo| todo.done = true).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn show(line: &str) {
    println!("{line}");
}
