//! Two tills sell from one stock while they cannot see each other: counters add up, nothing is overwritten. Start it as
//! often as you like: each run sells a little more.
//!
//! ```text
//! cargo run -p eid --example inventory -- /tmp/inventory-example
//! ```

use std::path::PathBuf;
use std::time::Duration;

use eid::{Access, Counter, Database, Error, Http, Instance};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Article {
    name: String,
    shelf: String,
    stock: Counter,
}

const WAIT: Duration = Duration::from_secs(30);
const ARTICLES: [(&str, &str, i64); 3] = [("bolt", "A1", 1000), ("nut", "A2", 1000), ("washer", "B1", 500)];

#[tokio::main]
async fn main() -> Result<(), Error> {
    let dir =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("eid-inventory"), PathBuf::from);
    let north = Instance::open(dir.join("north")).await?;
    let south = Instance::open(dir.join("south")).await?;
    let addresses = north.listen(Http::on("127.0.0.1:0")).await?;
    let shop = match north.database("shop")? {
        Some(shop) => shop,
        None => create(&north).await?,
    };
    let branch = match south.database(&shop.id().to_string())? {
        Some(branch) => branch,
        None => south.join(&shop.share(Access::write().uses(1)).await?).within(WAIT).await?,
    };
    let before = stock(&shop, "bolt")?;

    // Both sell, and one moves an article: offline, at the same time.
    for _ in 0..3 {
        sell(&shop, "bolt", 5).await?;
    }
    sell(&branch, "bolt", 7).await?;
    branch.table::<Article>("articles").update("nut", |nut| "C3".clone_into(&mut nut.shelf)).await?;
    sell(&shop, "nut", 2).await?;
    south.sync_with(&addresses[0], Some(&branch), WAIT).await?;

    for article in shop.table::<Article>("articles").query().order("name").rows()? {
        show(&format!("{:>8} {:>4}  {}", article.name, article.shelf, article.stock));
    }
    assert_eq!(stock(&shop, "bolt")?, before - 3 * 5 - 7);
    assert_eq!(shop.state_hash()?, branch.state_hash()?);
    south.close().await?;
    north.close().await
}

async fn create(node: &Instance) -> Result<Database, Error> {
    let shop = node.create_database("shop").await?;
    let articles = ARTICLES.map(|(name, shelf, stock)| Article {
        name: name.to_owned(),
        shelf: shelf.to_owned(),
        stock: Counter::new(stock),
    });
    shop.write(|tx| {
        articles.iter().try_for_each(|article| tx.table("articles").insert_as(&article.name, article))
    })
    .await?;
    Ok(shop)
}

/// Writes how many are gone, not how many are left.
async fn sell(shop: &Database, name: &str, count: i64) -> Result<(), Error> {
    shop.table::<Article>("articles").update(name, |article| article.stock.add(-count)).await
}

fn stock(shop: &Database, name: &str) -> Result<i64, Error> {
    Ok(shop.table::<Article>("articles").get(name)?.map_or(0, |article| article.stock.get()))
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn show(line: &str) {
    println!("{line}");
}
