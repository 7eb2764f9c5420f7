//! What was written while nobody was there arrives when somebody is, once, whatever happened to the process meanwhile.

use std::time::Duration;

use eid::{Access, Delivered, Direction, Http, Instance, SyncEvent};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(120);
const COMMITS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_offline_commits_arrive_once_after_two_restarts_and_are_durable_on_two() {
    let server = Instance::builder().memory().open().await.unwrap();
    let there = server.create_database("notes").await.unwrap();
    server.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = there.share(Access::write()).await.unwrap();
    let other = Instance::builder().memory().open().await.unwrap();
    let copy = other.join(&ticket).await.unwrap();
    other.listen(Http::on("127.0.0.1:0")).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let node = Instance::open(directory.path()).await.unwrap();
    node.join(&ticket).await.unwrap();
    node.add_peer(&other.addresses()[0]).await.unwrap();
    // It has to have heard that there is another member.
    other.sync_with(&ticket.addresses[0], None, SOON).await.unwrap();
    node.close().await.unwrap();
    // Nothing is said to anybody while it writes, in three lives.
    let mut last = None;
    for life in 0..3 {
        let node = Instance::open(directory.path()).await.unwrap();
        let db = node.database("notes").unwrap().unwrap();
        for n in (life..COMMITS).step_by(3) {
            let write = |tx: &eid::Transaction<'_>| tx.doc("main").set(format!("k{}", n % 500), n);
            last = db.commit(write).await.unwrap().1;
        }
        node.close().await.unwrap();
    }
    let before = there.entries().unwrap();

    let node = Instance::open(directory.path()).await.unwrap();
    let db = node.database("notes").unwrap().unwrap();
    let (mut told, mut arrivals) = (node.events(), server.events());
    let _kept = node.keep_peers_in_step();
    let receipt = db.receipt(last.unwrap());
    tokio::time::timeout(SOON, receipt.durable_on(2)).await.expect("both have it").unwrap();
    assert_eq!(receipt.holders().await.unwrap().len(), 2);
    assert_eq!(there.entries().unwrap(), before + COMMITS);
    assert_eq!(copy.entries().unwrap(), before + COMMITS);
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());

    let mut progress = Vec::new();
    while let Some(event) = told.try_recv() {
        if let Delivered::Event(SyncEvent::Progress(one)) = event
            && one.direction == Direction::Out
        {
            progress.push((one.entries, one.entries_total));
        }
    }
    assert!(progress.iter().any(|(_, total)| *total >= COMMITS), "{progress:?}");
    // Who brought it knows that it is stored before the session has ended there.
    let mut came = 0;
    while came < COMMITS {
        let event = tokio::time::timeout(SOON, arrivals.recv()).await.expect("it is told what came").unwrap();
        let (new, again) = match event {
            Delivered::Event(SyncEvent::Session(one) | SyncEvent::Failed { report: one, .. }) => {
                (one.pulled, one.duplicates)
            }
            Delivered::Event(SyncEvent::Arrived { admitted, duplicates, .. }) => (admitted, duplicates),
            _ => (0, 0),
        };
        assert_eq!(again, 0, "nothing comes twice");
        came += new;
    }
    assert_eq!(came, COMMITS);
    node.close().await.unwrap();
}
