//! Every kind of store through the facade.

use eid::{Counter, ErrorKind, IndexState, Instance, RowChange, Text};
use serde::{Deserialize, Serialize};
use serde_json::json;

type Done = Result<(), eid::Error>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Article {
    name: String,
    stock: Counter,
    note: Text,
}

fn article(name: &str, stock: i64) -> Article {
    Article { name: name.to_owned(), stock: stock.into(), note: Text::new("as new") }
}

async fn database() -> Result<(Instance, eid::Database), eid::Error> {
    let node = Instance::builder().memory().open().await?;
    let db = node.create_database("shop").await?;
    Ok((node, db))
}

#[tokio::test]
async fn lists_keep_their_items() -> Done {
    let (node, db) = database().await?;
    let todos = db.doc("main").list("todos");
    todos.push("bread").await?;
    todos.extend(["milk", "eggs"]).await?;
    todos.move_to(2, 0).await?;
    todos.set(1, "rye bread").await?;
    db.write(|tx| tx.doc("main").list("todos").insert(3, json!({"title": "tea"}))).await?;
    todos.delete(2).await?;
    assert_eq!(db.doc("main").to_json()?, json!({"todos": ["eggs", "rye bread", {"title": "tea"}]}));
    assert_eq!(db.doc("main").get_as::<String>("todos.2.title")?.as_deref(), Some("tea"));
    db.doc("main").set("owner", "Ada").await?;
    let fork = db.tips()?;
    db.commit_at(&fork, |tx| tx.doc("main").set("owner", "Ben")).await?;
    db.commit_at(&fork, |tx| tx.doc("main").set("owner", "Cleo")).await?;
    assert_eq!(db.doc("main").get_all("owner")?.values.len(), 2);
    let wrong = db.doc("main").list("todos").insert(9, 1).await;
    assert_eq!(wrong.map_err(|error| error.kind()), Err(ErrorKind::InvalidValue));
    node.close().await
}

#[tokio::test]
async fn rows_count_are_edited_found_by_indexes_and_watched() -> Done {
    let (node, db) = database().await?;
    let articles = db.table::<Article>("articles");
    articles.insert_as("bolt", &article("bolt", 10)).await?;
    articles.insert_as("nut", &article("nut", 5)).await?;
    articles.create_index("name").await?;
    assert_eq!(articles.indexes()?[0].state, IndexState::Ready);

    let query = articles.query().prefix("name", "b").order("name");
    assert!(!query.explain()?.scans_table(), "{}", query.explain()?);
    let mut live = query.watch()?;
    assert_eq!(live.initial(), [("bolt".to_owned(), article("bolt", 10))]);

    articles.add("bolt", "stock", -3).await?;
    articles.update("bolt", |bolt| bolt.note.push_str(", almost")).await?;
    articles.text_field("bolt", "note")?.insert(0, "shiny, ").await?;
    let bolt = articles.get("bolt")?.expect("it is there");
    assert_eq!((bolt.stock.get(), bolt.note.as_str()), (7, "shiny, as new, almost"));
    articles.delete("nut").await?;
    let mut seen = Vec::new();
    while let Some(changes) = live.next_ready()? {
        seen.extend(changes.changes);
    }
    assert!(seen.iter().all(|change| change.key() == "bolt"), "{seen:?}");
    let RowChange::Changed { row, .. } = seen.last().expect("a change") else { panic!("{seen:?}") };
    assert_eq!(*row, bolt);
    node.close().await
}

#[tokio::test]
async fn a_store_behind_a_password_is_shut_until_it_is_unlocked() -> Done {
    let (node, db) = database().await?;
    let diary = db.password_store("diary");
    diary.create("correct horse").await?;
    db.doc("diary").set("monday", "it rained").await?;
    diary.lock().await?;
    let kind = |done: Result<(), eid::Error>| done.map_err(|error| error.kind());
    assert_eq!(kind(db.doc("diary").get("monday").map(drop)), Err(ErrorKind::Sealed));
    assert_eq!(kind(diary.unlock("wrong").await), Err(ErrorKind::WrongPassword));
    diary.unlock("correct horse").await?;
    assert_eq!(diary.doc().get_as::<String>("monday")?.as_deref(), Some("it rained"));
    assert!(db.registry().list()?.iter().any(|store| store.name == "diary" && store.encrypted));
    node.close().await
}

#[tokio::test]
async fn what_was_is_read_compared_and_taken_back() -> Done {
    let (node, db) = database().await?;
    db.doc("main").set("title", "one").await?;
    let before = db.tips()?;
    db.doc("main").set("title", "two").await?;
    assert_eq!(db.at(&before)?.doc("main").get_as::<String>("title")?.as_deref(), Some("one"));
    let differences = db.diff(&before, &db.tips()?)?.collect::<Result<Vec<_>, _>>().expect("they are read");
    assert_eq!(differences.len(), 1);
    let (_, entry) = db.commit_at(&before, |tx| tx.doc("main").set("aside", true)).await?;
    assert_eq!(db.tips()?.len(), 2, "the DAG forks");
    assert_eq!(db.blame("main", "aside")?[0].entry, entry.expect("it was written"));
    db.undo_last().await?;
    assert_eq!(db.doc("main").to_json()?, json!({"title": "two"}));
    node.close().await
}
