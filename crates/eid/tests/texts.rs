//! An edit buffer stores itself, and never loses what was typed.

use std::time::Duration;

use eid::{EditPolicy, Instance, TextDelta};

type Done = Result<(), eid::Error>;

const SOON: EditPolicy =
    EditPolicy { pause: Duration::from_millis(20), at_most: Duration::from_millis(200), chars: 1 << 16 };

async fn text() -> Result<(Instance, eid::Database), eid::Error> {
    let node = Instance::builder().memory().open().await?;
    let db = node.create_database("notes").await?;
    Ok((node, db))
}

/// Waits for the next entry of the database.
async fn entry_after(changes: &mut eid::Changes) -> Result<eid::Event, eid::Error> {
    tokio::time::timeout(Duration::from_secs(30), changes.next()).await.expect("an entry came in time")
}

#[tokio::test]
async fn a_pause_in_typing_makes_one_entry() -> Done {
    let (node, db) = text().await?;
    let mut changes = db.changes()?;
    let mut edit = db.text("body").edit_with(SOON)?;
    for (at, letter) in "hello".chars().enumerate() {
        edit.insert(at, &letter.to_string())?;
    }
    entry_after(&mut changes).await?;
    assert_eq!(db.text("body").read()?, "hello");
    assert_eq!(changes.next_ready()?, None);
    edit.delete(0, 1)?;
    edit.insert(0, "J")?;
    entry_after(&mut changes).await?;
    assert_eq!(db.text("body").read()?, "Jello");
    edit.close().await?;
    assert_eq!(changes.next_ready()?, None);
    node.close().await
}

#[tokio::test]
async fn dropping_a_buffer_stores_what_was_typed() -> Done {
    let (node, db) = text().await?;
    let mut changes = db.changes()?;
    let never = EditPolicy { pause: Duration::MAX, at_most: Duration::MAX, chars: usize::MAX };
    let mut edit = db.text("body").edit_with(never)?;
    edit.insert(0, "kept")?;
    assert!(edit.is_dirty());
    drop(edit);
    entry_after(&mut changes).await?;
    assert_eq!(db.text("body").read()?, "kept");
    node.close().await
}

#[tokio::test]
async fn two_buffers_of_one_text_see_each_other() -> Done {
    let (node, db) = text().await?;
    db.text("body").set("one two").await?;
    let (mut left, mut right) = (db.text("body").edit()?, db.text("body").edit()?);
    left.insert(3, "+")?;
    right.delete(4, 3)?;
    left.flush().await?;
    let heard = tokio::time::timeout(Duration::from_secs(30), right.next_remote()).await;
    let heard = heard.expect("the edit came in time")?;
    assert_eq!(heard, [TextDelta::Insert { at: 3, text: "+".into() }]);
    right.close().await?;
    assert_eq!(db.text("body").read()?, "one+ ");
    left.remote()?;
    assert_eq!(left.text(), db.text("body").read()?);
    left.close().await?;
    node.close().await
}

#[tokio::test]
async fn typing_within_a_write_waits_for_nobody() -> Done {
    let (node, db) = text().await?;
    let mut edit = db.text("body").edit_with(EditPolicy { pause: Duration::ZERO, ..SOON })?;
    for round in 0..50 {
        // The buffer is due at every turn of this; it must not hold what the write waits for.
        db.write(|tx| {
            edit.insert(0, "x")?;
            tx.doc("main").set("round", round)
        })
        .await?;
    }
    edit.close().await?;
    assert_eq!(db.text("body").len()?, 50);
    node.close().await
}
