//! What others let a device read, and that is not there yet.

use std::time::Duration;

use eid::{Http, Instance, Permission, Slot, SyncSettings};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_offered_is_brought_when_no_database_is_named_and_is_tracked_from_then_on() {
    let a = Instance::builder().memory().open().await.unwrap();
    let b = Instance::builder().memory().open().await.unwrap();
    let (given, closed) =
        (a.create_database("given").await.unwrap(), a.create_database("closed").await.unwrap());
    given.doc("main").set("title", "for b").await.unwrap();
    given.grant(Slot::Key(b.device()), Permission::Read).await.unwrap();
    let address = a.listen(Http::on("127.0.0.1:0")).await.unwrap().remove(0);
    b.add_peer(&address).await.unwrap();
    let peer = b.peers().unwrap().remove(0);

    assert!(b.sync_held_with_peer(&peer, SOON).await.unwrap().sessions.is_empty());
    assert!(b.databases().unwrap().is_empty());
    let sessions = b.sync_with(&address, None, SOON).await.unwrap();
    assert!(sessions.len() == 1 && sessions[0].complete, "{sessions:?}");
    let held = b.database("given").unwrap().expect("its title is its name");
    assert_eq!(held.id(), given.id());
    assert_eq!(held.doc("main").get_as::<String>("title").unwrap().as_deref(), Some("for b"));
    assert_eq!(b.combined_preferences(&held.id()).unwrap(), Some(SyncSettings::default()));
    assert!(b.database(&closed.id().to_string()).unwrap().is_none());

    // From now on it takes part like any other.
    given.doc("main").set("title", "changed").await.unwrap();
    let synced = b.sync_held_with_peer(&peer, SOON).await.unwrap();
    assert_eq!(synced.sessions.len(), 1);
    assert_eq!(held.doc("main").get_as::<String>("title").unwrap().as_deref(), Some("changed"));
    b.close().await.unwrap();
    a.close().await.unwrap();
}
