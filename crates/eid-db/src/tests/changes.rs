use std::future::Future as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use eid_core::dag::Seq;
use eid_store::{Backend, Memory};
use serde_json::{Value as Json, json};

use super::support::{copy, database, node, node_over, two};
use crate::{Change, Changes, Cursor, DbError, Event, Path, Since, WriteNotice, WriteWatch};

#[test]
fn changes_name_store_keys_author_and_entry_and_go_on_from_a_cursor() {
    let (a, b) = two();
    let mut changes = a.changes(Since::Now).unwrap();
    assert_eq!(changes.next_ready().unwrap(), None);
    a.write(|tx| {
        tx.doc("d").set(["x", "y"], 1)?;
        tx.doc("d").delete("z")?;
        tx.table::<Json>("t").insert_as("k.k", &json!({"a": 1}))?;
        tx.table::<Json>("t").update("k.k", |row| row["a"] = json!(2))
    })
    .unwrap();
    copy(&a, b.instance());
    b.doc("d").set("q", 1).unwrap();
    copy(&b, a.instance());
    let first = next_change(&mut changes).unwrap();
    assert_eq!(first.author, a.instance().device());
    let named: Vec<_> =
        first.stores.iter().map(|s| (s.name.as_str(), s.kind.as_deref(), s.keys.clone())).collect();
    assert_eq!(
        named,
        [
            ("d", Some("doc"), vec![Path::from(["x", "y"]), Path::from("z")]),
            ("t", Some("table"), vec![Path::from(["k.k"])]),
        ]
    );
    let text = changes.cursor().to_string();
    let mut resumed = a.changes(Since::Cursor(text.parse::<Cursor>().unwrap())).unwrap();
    let second = next_change(&mut resumed).unwrap();
    assert_eq!(second.author, b.instance().device());
    assert_eq!(Some(second.clone()), next_change(&mut changes));
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

/// The next change; nothing when there is none, or something else comes.
fn next_change(changes: &mut Changes) -> Option<Change> {
    changes.next_ready().unwrap().and_then(Event::into_change)
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
    assert_eq!(change.unwrap().into_change().unwrap().stores[0].name, "d");
}

#[test]
fn waiting_ends_with_a_change_or_at_its_deadline() {
    let db = database();
    let mut changes = db.changes(Since::Now).unwrap();
    assert_eq!(changes.wait(Duration::ZERO).unwrap(), None);
    db.doc("d").set("a", 1).unwrap();
    assert!(changes.wait(Duration::from_secs(60)).unwrap().is_some());
}

/// Notices as they are told, to be waited for.
fn told(watch: impl FnOnce(Sender<WriteNotice>) -> WriteWatch) -> (WriteWatch, Receiver<WriteNotice>) {
    let (tell, told) = channel();
    (watch(tell), told)
}

/// As long as a test waits for what must come.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn local_and_remote_writes_call_their_own_hooks_until_they_are_dropped() {
    let (a, b) = two();
    let (watch, local) = told(|tell| a.on_local_write(move |n| tell.send(n.clone()).unwrap()).unwrap());
    let (_remote, remote) = told(|tell| a.on_remote_write(move |n| tell.send(n.clone()).unwrap()).unwrap());
    let end = a.entries().unwrap();
    a.doc("d").set("a", 1).unwrap();
    let notice = local.recv_timeout(LONG).unwrap();
    assert_eq!((notice.database, notice.entries, notice.batches), (a.id(), Seq(end)..Seq(end + 1), 1));
    b.doc("d").set("b", 1).unwrap();
    b.doc("d").set("c", 1).unwrap();
    copy(&b, a.instance());
    let notice = remote.recv_timeout(LONG).unwrap();
    assert_eq!((notice.entries, notice.lagged), (Seq(end + 1)..Seq(end + 3), false));
    drop(watch);
    a.doc("d").set("a", 2).unwrap();
    assert_eq!(local.recv(), Err(RecvError), "its thread has ended, and with it the only sender");
    assert!(remote.try_recv().is_err());
}

#[test]
fn a_slow_hook_holds_up_no_commit_and_is_told_of_all_that_it_missed() {
    let (a, b) = two();
    let (go_on, wait) = channel::<()>();
    let (_watch, told) = told(|tell| {
        a.on_local_write(move |notice| {
            tell.send(notice.clone()).unwrap();
            wait.recv().unwrap();
        })
        .unwrap()
    });
    // Gone before the watch is, should the test fail: the hook stands still no longer then.
    let go_on = go_on;
    let first = a.entries().unwrap();
    a.doc("d").set("n", 0).unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap().entries.start, Seq(first));
    // The hook stands still from here on; every other entry comes from elsewhere, so that no two ranges touch.
    let writes = 2 * crate::limits::WATCH_RANGES_MAX as u64;
    for n in 0..writes {
        b.doc("d").set("m", n as i64).unwrap();
        copy(&b, a.instance());
        a.doc("d").set("n", n as i64).unwrap();
    }
    let end = a.entries().unwrap();
    let mut told_of = Vec::new();
    let mut batches = 0;
    while batches < writes {
        go_on.send(()).unwrap();
        let notice = told.recv_timeout(LONG).unwrap();
        batches += notice.batches;
        told_of.push(notice);
    }
    assert_eq!(batches, writes);
    assert_eq!(told_of.len(), crate::limits::WATCH_RANGES_MAX, "what waits is bounded");
    let (last, exact) = told_of.split_last().unwrap();
    assert!(exact.iter().all(|n| !n.lagged && n.entries.end.0 - n.entries.start.0 == 1));
    assert!(last.lagged && last.entries.end == Seq(end), "{last:?}");
    let device = a.instance().device();
    let own: Vec<Seq> =
        a.log(usize::MAX).unwrap().into_iter().filter(|e| e.author == device).map(|e| e.seq).collect();
    let missed = own.iter().filter(|seq| seq.0 > first && !told_of.iter().any(|n| n.entries.contains(seq)));
    assert_eq!(missed.count(), 0);
    go_on.send(()).unwrap();
}

#[test]
fn a_hook_may_write_and_may_panic_and_may_end_itself() {
    let db = database();
    let own: Arc<Mutex<Option<WriteWatch>>> = Arc::default();
    let (tell, told) = channel();
    let (held, writer) = (Arc::clone(&own), db.clone());
    let watch = db.on_local_write(move |_| match writer.doc("d").get_as::<i64>("n").unwrap() {
        Some(1) => panic!("as a part of the test"),
        Some(n) if n < 4 => writer.doc("d").set("n", n + 1).unwrap(),
        _ => {
            drop(held.lock().unwrap().take());
            tell.send(()).unwrap();
        }
    });
    *own.lock().unwrap() = Some(watch.unwrap());
    db.doc("d").set("n", 1).unwrap();
    db.doc("d").set("n", 2).unwrap();
    told.recv_timeout(LONG).unwrap();
    assert!(own.lock().unwrap().is_none());
    assert_eq!(db.doc("d").get_as::<i64>("n").unwrap(), Some(4));
    db.doc("d").set("n", 5).unwrap();
    assert!(told.recv().is_err(), "nothing is called any more");
}

#[test]
fn a_consumer_goes_on_after_a_restart_where_it_acknowledged() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    let id = {
        let db = node_over(&backend, 1).create_database("x").unwrap().database;
        let mut mail = db.consumer_since("mail", Since::Now).unwrap();
        let mut all = db.consumer("all").unwrap();
        assert_eq!((mail.behind().unwrap(), all.behind().unwrap()), (0, 1));
        for n in 0..3 {
            db.doc("d").set("n", n).unwrap();
        }
        assert_eq!((mail.behind().unwrap(), all.behind().unwrap()), (3, 4));
        mail.next_ready().unwrap().unwrap();
        mail.ack().unwrap();
        mail.next_ready().unwrap().unwrap();
        assert_eq!(mail.behind().unwrap(), 1);
        assert_eq!(all.skip_to_now().unwrap(), 4);
        all.ack().unwrap();
        assert_eq!((all.next_ready().unwrap(), all.skip_to_now().unwrap()), (None, 0));
        db.id()
    };
    let db = node_over(&backend, 1).database_by_id(id);
    let mut mail = db.consumer("mail").unwrap();
    let again = next_change(&mut mail).unwrap();
    assert_eq!(again.seq, Seq(2), "what was not acknowledged comes again, and nothing before it");
    assert_eq!(db.consumer("all").unwrap().behind().unwrap(), 0);
    let names: Vec<String> = db.consumers().unwrap().into_iter().map(|consumer| consumer.name).collect();
    assert_eq!(names, ["all", "mail"]);
    db.forget_consumer("mail").unwrap();
    assert_eq!(db.consumer("mail").unwrap().behind().unwrap(), 4);
    assert!(matches!(db.consumer(""), Err(DbError::ConsumerName)));
}

#[test]
fn a_reader_that_is_far_behind_is_told_so_and_loses_nothing() {
    let db = database();
    let mut changes = db.changes(Since::Now).unwrap();
    let beyond = crate::limits::LAGGED_ENTRIES + 3;
    for n in 0..beyond {
        db.prepare_blind(|tx| tx.doc("d").set("n", n as i64)).unwrap().1.relaxed().commit().unwrap();
    }
    let behind: Vec<Option<u64>> =
        (0..beyond).map(|_| next_change(&mut changes).unwrap().lagged.map(|lagged| lagged.behind)).collect();
    assert_eq!(behind[..3], [Some(beyond - 1), Some(beyond - 2), None]);
    assert!(behind[3..].iter().all(Option::is_none));
    assert_eq!(changes.next_ready().unwrap(), None);
}

#[test]
fn the_place_of_a_reader_does_not_outlive_the_database_being_forgotten() {
    let (a, b) = two();
    let mut open = b.changes(Since::Beginning).unwrap();
    let mut consumer = b.consumer("mail").unwrap();
    consumer.next_ready().unwrap().unwrap();
    consumer.ack().unwrap();
    open.next_ready().unwrap().unwrap();
    let node = b.instance().clone();
    node.forget(&b.id()).unwrap();
    copy(&a, &node);
    assert_eq!(b.consumers().unwrap(), []);
    assert_eq!(b.consumer("mail").unwrap().behind().unwrap(), b.entries().unwrap());
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
