//! Several databases of two instances, exchanged side by side over every transport.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use eid::{Access, Compression, Database, Instance, Listener};
use serde_json::{Value as Json, json};

const SOON: Duration = Duration::from_secs(60);
const DATABASES: usize = 12;

/// What is measured here are the bytes of entries.
async fn instance() -> Instance {
    let plain = Instance::builder().compression(Compression::Never);
    plain.memory().open().await.expect("memory is there")
}

async fn fill(db: &Database, rows: u32) {
    let rows: Vec<Json> = (0..rows).map(|n| json!({"n": n, "text": "x".repeat(500)})).collect();
    for some in rows.chunks(50) {
        db.table::<Json>("t").insert_many(some).await.unwrap();
    }
}

/// Both sides write to all of several databases, one of which is larger than a window, and one call exchanges them.
async fn exchange(on: impl Into<Listener>) {
    let (a, b) = (instance().await, instance().await);
    let address = a.listen(on).await.unwrap().remove(0);
    let mut both = Vec::new();
    for n in 0..DATABASES {
        let db = a.create_database(&format!("db {n}")).await.unwrap();
        let ticket = db.share(Access::write()).await.unwrap();
        let joined = b.join(&ticket).within(SOON).await.unwrap();
        both.push((db, joined));
    }
    for (n, (ours, theirs)) in both.iter().enumerate() {
        fill(ours, if n == 3 { 12_000 } else { 20 }).await;
        fill(theirs, 10).await;
    }
    let reports = b.sync_with(&address, None, SOON).await.unwrap();
    assert!(reports.len() == DATABASES && reports.iter().all(|report| report.complete), "{reports:?}");
    assert!(reports.iter().any(|report| report.bytes_in > 6 * 1024 * 1024), "{reports:?}");
    for (ours, theirs) in &both {
        assert_eq!(ours.state_hash().unwrap(), theirs.state_hash().unwrap());
    }
    a.close().await.unwrap();
    b.close().await.unwrap();
}

#[tokio::test]
async fn several_databases_are_exchanged_over_http() {
    exchange(eid::Http::on("127.0.0.1:0")).await;
}

#[cfg(feature = "quic")]
#[tokio::test]
async fn several_databases_are_exchanged_over_quic() {
    exchange(eid::Quic::on("127.0.0.1:0")).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn several_databases_are_exchanged_over_iroh() {
    exchange(eid::Iroh::over(eid::Relay::Off).on(([127, 0, 0, 1], 0).into())).await;
}

#[cfg(all(feature = "quic", feature = "iroh"))]
#[tokio::test]
async fn clients_of_one_node_over_different_transports_are_told_what_each_of_them_writes() {
    let iroh = || Listener::from(eid::Iroh::over(eid::Relay::Off).on(([127, 0, 0, 1], 0).into()));
    let hub = instance().await;
    let mut addresses = Vec::new();
    for on in [eid::Http::on("127.0.0.1:0").into(), eid::Quic::on("127.0.0.1:0").into(), iroh()] {
        addresses.push(hub.listen(on).await.unwrap().remove(0));
    }
    let there = hub.create_database("notes").await.unwrap();
    let (mut nodes, mut kept) = (vec![(hub, there.clone())], Vec::new());
    for address in &addresses {
        let node = instance().await;
        if address.scheme() == "iroh" {
            // It dials from where it listens: otherwise over the relays of its defaults.
            node.listen(iroh()).await.unwrap();
        }
        let ticket = there.share(Access::write()).await.unwrap();
        let ticket = eid::DatabaseTicket { addresses: vec![address.clone()], ..ticket };
        let here = node.join(&ticket).within(SOON).await.unwrap();
        let handle = here.keep_in_step(address);
        handle.wait_for_initial_sync(SOON).await.unwrap();
        kept.push(handle);
        nodes.push((node, here));
    }
    for (n, (_, database)) in nodes.iter().enumerate() {
        database.doc("d").set(&format!("from {n}"), 1).await.unwrap();
    }
    for (_, database) in &nodes {
        let mut changes = database.changes().unwrap();
        let is_there = |n| database.doc("d").get_as::<i64>(&format!("from {n}")).unwrap().is_some();
        let comes = async {
            while !(0..nodes.len()).all(is_there) {
                changes.next().await.unwrap();
            }
        };
        tokio::time::timeout(SOON, comes).await.expect("what each writes comes to all");
        assert_eq!(database.state_hash().unwrap(), there.state_hash().unwrap());
    }
    drop(kept);
    for (node, _) in nodes {
        node.close().await.unwrap();
    }
}

#[cfg(feature = "zstd")]
#[tokio::test]
async fn what_says_the_same_again_and_again_takes_less_where_both_sides_compress() {
    let mut bytes = Vec::new();
    for compression in [Compression::Never, Compression::default()] {
        let a = Instance::builder().memory().open().await.unwrap();
        let b = Instance::builder().compression(compression).memory().open().await.unwrap();
        a.listen(eid::Http::on("127.0.0.1:0")).await.unwrap();
        let db = a.create_database("db").await.unwrap();
        fill(&db, 1_000).await;
        let ticket = db.share(Access::write()).await.unwrap();
        let joined = b.join(&ticket).within(SOON).run().await.unwrap();
        assert_eq!(joined.database.state_hash().unwrap(), db.state_hash().unwrap());
        bytes.push(joined.session.bytes_in);
    }
    assert!(bytes[0] > 500_000 && bytes[1] < bytes[0] / 4, "{bytes:?}");
}
