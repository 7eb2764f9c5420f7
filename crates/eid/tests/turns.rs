//! Writes that wait for one another, on a runtime with as few threads as there can be.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};

#[test]
fn a_put_that_waits_for_its_turn_leaves_a_thread_to_the_write_whose_turn_it_is() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .expect("a runtime can be made");
    let (in_turn, is_in_turn) = mpsc::channel();
    let (waits, is_waiting) = mpsc::channel();
    let (done, db) = runtime.block_on(async {
        let node = eid::Instance::builder().memory().open().await.expect("an instance can be opened");
        let db = node.create_database("x").await.expect("a database can be made");
        let (handle, other) = (tokio::runtime::Handle::current(), db.clone());
        thread::spawn(move || {
            handle.block_on(other.write(|tx| {
                in_turn.send(()).expect("somebody listens");
                is_waiting.recv().expect("somebody waits");
                tx.doc("d").set("x", 1)
            }))
        });
        is_in_turn.recv().expect("the write begins");
        let (table, row) = (db.table::<Json>("t"), json!({"n": 1}));
        let mut put = pin!(table.put("k", &row));
        assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        waits.send(()).expect("the write goes on");
        let done = tokio::time::timeout(Duration::from_secs(10), put).await;
        (done.is_ok_and(|done| done.is_ok()), db)
    });
    // Threads that wait for ever are left behind, so that the test can fail.
    runtime.shutdown_background();
    assert!(done, "it waits for ever");
    assert_eq!(db.table::<Json>("t").get("k").expect("a table can be read"), Some(json!({"n": 1})));
}
