use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::support::{copy, database, node, two};
use crate::{Cursor, DbError, Path, Since};

#[test]
fn changes_name_store_keys_author_and_entry_and_go_on_from_a_cursor() {
    let (a, b) = two();
    let mut changes = a.changes(Since::Now).unwrap();
    assert_eq!(changes.next_ready().unwrap(), None);
    a.write(|tx| {
        tx.doc("d").set(["x", "y"], 1)?;
        tx.doc("d").delete("z")?;
        tx.table::<Json>("t").insert_as("k", &json!({"a": 1}))?;
        tx.table::<Json>("t").update("k", |row| row["a"] = json!(2))
    })
    .unwrap();
    copy(&a, b.instance());
    b.doc("d").set("q", 1).unwrap();
    copy(&b, a.instance());
    let first = changes.next_ready().unwrap().unwrap();
    assert_eq!(first.author, a.instance().device());
    let named: Vec<_> =
        first.stores.iter().map(|s| (s.name.as_str(), s.kind.as_deref(), s.keys.clone())).collect();
    assert_eq!(
        named,
        [
            ("d", Some("doc"), vec![Path::from(["x", "y"]), Path::from("z")]),
            ("t", Some("table"), vec![Path::from("k")]),
        ]
    );
    let text = changes.cursor().to_string();
    let mut resumed = a.changes(Since::Cursor(text.parse::<Cursor>().unwrap())).unwrap();
    let second = resumed.next_ready().unwrap().unwrap();
    assert_eq!(second.author, b.instance().device());
    assert_eq!(Some(second.clone()), changes.next_ready().unwrap());
    assert_eq!(a.log(1).unwrap()[0].id, second.entry);
    assert_eq!(resumed.next_ready().unwrap(), None);
    let all = a.changes(Since::Beginning).unwrap();
    let mut all = all;
    let mut count = 0;
    while all.next_ready().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, a.entries().unwrap());
    let foreign = node(7).create_database("x").unwrap().database;
    assert!(matches!(foreign.changes(Since::Cursor(changes.cursor())), Err(DbError::ForeignCursor)));
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waiting_reader_is_woken_by_a_write() {
    let db = database();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut changes = db.changes(Since::Now).unwrap();
    let mut waiting = Box::pin(changes.next());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    db.doc("d").set("a", 1).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(change) = waiting.as_mut().poll(&mut context) else { panic!("the change is there") };
    assert_eq!(change.unwrap().stores[0].name, "d");
}

#[test]
fn waiting_ends_with_a_change_or_at_its_deadline() {
    let db = database();
    let mut changes = db.changes(Since::Now).unwrap();
    assert_eq!(changes.wait(Duration::ZERO).unwrap(), None);
    db.doc("d").set("a", 1).unwrap();
    assert!(changes.wait(Duration::from_secs(60)).unwrap().is_some());
}

#[test]
fn local_and_remote_writes_call_their_own_hooks_until_they_are_dropped() {
    let (a, b) = two();
    let (local, remote) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counting = |counter: &Arc<AtomicU64>| {
        let counter = Arc::clone(counter);
        move |notice: &crate::WriteNotice| {
            counter.fetch_add(notice.entries.end.0 - notice.entries.start.0, Ordering::SeqCst);
        }
    };
    let watch = a.on_local_write(counting(&local));
    let _remote = a.on_remote_write(counting(&remote));
    a.doc("d").set("a", 1).unwrap();
    b.doc("d").set("b", 1).unwrap();
    b.doc("d").set("c", 1).unwrap();
    copy(&b, a.instance());
    assert_eq!((local.load(Ordering::SeqCst), remote.load(Ordering::SeqCst)), (1, 2));
    drop(watch);
    a.doc("d").set("a", 2).unwrap();
    assert_eq!(local.load(Ordering::SeqCst), 1);
}

#[test]
fn the_log_is_newest_first_and_comes_in_pages() {
    let db = database();
    for n in 0..300 {
        db.doc("d").set("n", n).unwrap();
    }
    let log = db.log(usize::MAX).unwrap();
    assert_eq!(log.len() as u64, db.entries().unwrap());
    assert!(log[0].is_tip && !log[1].is_tip);
    assert_eq!(log[0].stores, ["d"]);
    assert_eq!(log[0].parents, [log[1].id]);
    assert!(log.windows(2).all(|pair| pair[0].seq > pair[1].seq));
    assert_eq!(log.last().unwrap().settings.len(), 4);
    let page = db.log_before(Some(log[9].seq), 5).unwrap();
    assert_eq!(page, log[10..15]);
}

#[test]
fn waiting_for_ever_ends_with_a_change() {
    let db = database();
    let mut changes = db.changes(Since::Now).unwrap();
    db.doc("d").set("x", 1).unwrap();
    assert!(changes.wait(Duration::MAX).unwrap().is_some());
    let writer = db.clone();
    let writing = std::thread::spawn(move || writer.doc("d").set("x", 2));
    assert!(changes.wait(Duration::MAX).unwrap().is_some());
    writing.join().unwrap().unwrap();
}
