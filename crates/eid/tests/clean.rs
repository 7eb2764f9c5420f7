//! An instance that is closed, or dropped, leaves nothing behind: no task, no port, no lock.

use std::time::Duration;

use eid::{Access, Http, Instance, KeepState};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// Waits until no more tasks run than before.
async fn ended(before: usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    let ended = async {
        while metrics.num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(SOON, ended).await;
    ended.unwrap_or_else(|_| panic!("{} tasks are left", metrics.num_alive_tasks() - before));
}

#[tokio::test]
async fn what_is_started_and_stopped_a_thousand_times_leaves_no_task_and_no_port() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut port = 0;
    for n in 0..1_000 {
        let node = Instance::builder().memory().open().await.unwrap();
        // The port of the first time, each time: it is free again.
        node.listen(Http::on(&format!("127.0.0.1:{port}"))).await.unwrap();
        let address = node.addresses().remove(0);
        port = address.as_str().trim_end_matches('/').rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let kept = node.keep_peers_in_step();
        if n % 100 == 0 {
            // With a peer that is kept in step while everything ends.
            let db = node.create_database("notes").await.unwrap();
            let ticket = db.share(Access::write()).await.unwrap();
            let other = Instance::builder().memory().open().await.unwrap();
            let copy = other.join(&ticket).await.unwrap();
            let handle = copy.keep_in_step(&address);
            assert!(tokio::time::timeout(SOON, handle.wait_in_step()).await.unwrap());
            other.close().await.unwrap();
        }
        match n % 3 {
            0 => drop(kept),
            1 => std::mem::forget(node.keep_in_step(&address, None)),
            _ => {}
        }
        tokio::time::timeout(SOON, node.close()).await.expect("nothing holds the end up").unwrap();
    }
    ended(before).await;
}

#[tokio::test]
async fn what_is_dropped_a_thousand_times_without_being_closed_leaves_no_task_no_port_and_no_lock() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let directory = tempfile::tempdir().unwrap();
    let mut port = 0;
    for n in 0..1_000 {
        // Those in memory are quick, and every tenth is the same directory again.
        let builder = Instance::builder();
        let builder = if n % 10 == 0 { builder.path(directory.path()) } else { builder.memory() };
        let node = builder.open().await.unwrap();
        node.listen(Http::on(&format!("127.0.0.1:{port}"))).await.unwrap();
        let address = node.addresses().remove(0);
        port = address.as_str().trim_end_matches('/').rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let kept = node.keep_peers_in_step();
        if n % 100 == 0 {
            // With a peer that is connected and in step: its session does not keep the instance.
            let db = node.create_database(&n.to_string()).await.unwrap();
            let ticket = db.share(Access::write()).await.unwrap();
            let other = Instance::builder().memory().open().await.unwrap();
            let copy = other.join(&ticket).await.unwrap();
            let handle = copy.keep_in_step(&address);
            assert!(tokio::time::timeout(SOON, handle.wait_in_step()).await.unwrap());
            drop((node, db, kept));
            // The peer is told, and is dropped as well after that.
            let told = async {
                while handle.state() == KeepState::InStep {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, told).await.expect("the connection ends");
        } else {
            drop((node, kept));
        }
        ended(before).await;
    }
}

#[tokio::test]
async fn a_directory_can_be_opened_again_as_soon_as_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..20_u64 {
        let node = Instance::open(directory.path()).await.unwrap();
        let db = match node.database("notes").unwrap() {
            Some(db) => db,
            None => node.create_database("notes").await.unwrap(),
        };
        node.listen(Http::on("127.0.0.1:0")).await.unwrap();
        let _kept = node.keep_peers_in_step();
        let doc = db.doc("main");
        assert_eq!(doc.get_as::<u64>("n").unwrap(), n.checked_sub(1));
        doc.set("n", n).await.unwrap();
        node.close().await.unwrap();
    }
}
