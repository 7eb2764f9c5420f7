//! Databases are synchronised as their users wish, by period or at once or not at all, and what became of an entry is known.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use eid::{
    Access, Database, DatabasePreferences, Delivered, Http, Instance, KeyMode, Slot, SyncEvent, SyncSettings,
    User, Why,
};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// Two devices that share a database; the first one listens.
struct Two {
    a: Instance,
    b: Instance,
    there: Database,
    here: Database,
}

async fn two() -> Two {
    let a = Instance::builder().memory().open().await.unwrap();
    let b = Instance::builder().memory().open().await.unwrap();
    let there = a.create_database("notes").await.unwrap();
    a.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = there.share(Access::write()).await.unwrap();
    let here = b.join(&ticket).await.unwrap();
    Two { a, b, there, here }
}

impl Two {
    /// One more database that both have.
    async fn another(&self) -> [Database; 2] {
        let there = self.a.create_database("beside").await.unwrap();
        let here = self.b.join(&there.share(Access::write()).await.unwrap()).await.unwrap();
        [there, here]
    }

    /// Writes on both sides again and again, until nothing of it goes over: in another database of the same connection
    /// everything does, either way. Gives how often that was done.
    async fn rests_beside(&self, [there, here]: &[Database; 2]) -> u32 {
        let (mut rounds, mut quiet) = (0, 0);
        let rests = async {
            while quiet < 5 {
                rounds += 1;
                self.there.doc("main").set(&format!("from there {rounds}"), 1).await.unwrap();
                self.here.doc("main").set(&format!("from here {rounds}"), 1).await.unwrap();
                for (from, to) in [(there, here), (here, there)] {
                    let key = format!("{} {rounds}", from.instance().device());
                    from.doc("main").set(&key, 1).await.unwrap();
                    comes(to, &key).await;
                }
                let moved = has(&self.here, &format!("from there {rounds}"))
                    || has(&self.there, &format!("from here {rounds}"));
                quiet = if moved { 0 } else { quiet + 1 };
            }
        };
        tokio::time::timeout(SOON, rests).await.expect("nothing of it goes over any more");
        rounds
    }
}

fn has(database: &Database, key: &str) -> bool {
    database.doc("main").get_as::<u64>(key).unwrap().is_some()
}

async fn wishes(user: &User, database: &Database, sync: SyncSettings) {
    let wished = DatabasePreferences { database: database.id(), sync };
    user.set_preferences(&wished).await.unwrap();
}

async fn comes(database: &Database, key: &str) {
    let mut changes = database.changes().unwrap();
    let comes = async {
        while !has(database, key) {
            changes.next().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, comes).await.expect("it comes by itself");
}

#[tokio::test]
async fn what_is_off_is_neither_sent_nor_served_and_comes_by_itself_when_it_is_on_again() {
    let Two { a, b, there, here } = two().await;
    let off = SyncSettings { sync_enabled: false, ..SyncSettings::default() };
    let _kept = b.keep_peers_in_step();
    here.doc("main").set("first", 1).await.unwrap();
    comes(&there, "first").await;

    wishes(&a.device_user(), &there, off.clone()).await;
    let address = a.addresses().remove(0);
    let refused = b.sync_with(&address, Some(&here), SOON).await.unwrap_err();
    assert_eq!(refused.kind(), eid::ErrorKind::Refused, "as if it were not there: {refused}");
    assert!(b.discover(&address, SOON).await.unwrap().1.is_empty());

    // Also who turned it off here sends nothing.
    wishes(&b.device_user(), &here, off).await;
    wishes(&a.device_user(), &there, SyncSettings::default()).await;
    let (_, entry) = here.commit(|tx| tx.doc("main").set("second", 2)).await.unwrap();
    let receipt = here.receipt(entry.unwrap());
    assert_eq!(receipt.why(a.device()).await.unwrap(), Why::Off);
    assert!(b.sync_with(&address, None, SOON).await.unwrap().is_empty());
    assert_eq!(there.doc("main").get_as::<u64>("second").unwrap(), None);

    wishes(&b.device_user(), &here, SyncSettings::default()).await;
    comes(&there, "second").await;
    tokio::time::timeout(SOON, receipt.durable_on(1)).await.expect("it is acknowledged").unwrap();
    assert_eq!(receipt.why(a.device()).await.unwrap(), Why::Held);
    assert_eq!(receipt.holders().await.unwrap(), [a.device()]);
}

#[tokio::test]
async fn what_a_user_may_read_comes_once_that_user_logs_in() {
    let a = Instance::builder().memory().open().await.unwrap();
    let b = Instance::builder().memory().open().await.unwrap();
    let there = a.create_database("notes").await.unwrap();
    a.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ada = b.create_user("ada", None).await.unwrap();
    ada.join(&there.share(Access::write()).await.unwrap()).await.unwrap();
    ada.logout();
    let device = Slot::Key(b.device());
    there.revoke(device, KeyMode::Remove { fence: None }).await.unwrap();
    let mut events = b.events();
    let _kept = b.keep_peers_in_step();
    while !matches!(events.recv().await, Some(Delivered::Event(SyncEvent::Connected { .. }))) {}
    there.doc("main").set("first", 1).await.unwrap();
    let here = b.database("notes").unwrap().unwrap();
    let _ada = b.login("ada", None).await.unwrap();
    comes(&here, "first").await;
}

#[tokio::test]
async fn what_becomes_off_or_goes_by_period_is_told_no_more_while_another_database_holds_the_connection() {
    let off = SyncSettings { sync_enabled: false, ..SyncSettings::default() };
    let hourly =
        SyncSettings { sync_on_commit: false, interval_seconds: Some(3_600), ..SyncSettings::default() };
    let two = two().await;
    let beside = two.another().await;
    let _kept = two.b.keep_peers_in_step();
    // What is off is off for both, whichever side wishes so; the side that dials goes by its period.
    for (n, (is_dialler, wish)) in [(true, &off), (false, &off), (true, &hourly)].into_iter().enumerate() {
        let (from_here, from_there) = (format!("first from here {n}"), format!("first from there {n}"));
        two.here.doc("main").set(&from_here, 1).await.unwrap();
        two.there.doc("main").set(&from_there, 1).await.unwrap();
        comes(&two.there, &from_here).await;
        comes(&two.here, &from_there).await;

        let (node, database) = if is_dialler { (&two.b, &two.here) } else { (&two.a, &two.there) };
        wishes(&node.device_user(), database, wish.clone()).await;
        let rounds = two.rests_beside(&beside).await;

        wishes(&node.device_user(), database, SyncSettings::default()).await;
        comes(&two.there, &format!("from here {rounds}")).await;
        comes(&two.here, &format!("from there {rounds}")).await;
    }
}

#[tokio::test]
async fn what_goes_by_period_comes_by_it_and_the_period_can_be_changed_while_it_runs() {
    let Two { b, there, here, .. } = two().await;
    let by = |seconds| SyncSettings {
        sync_on_commit: false,
        interval_seconds: seconds,
        ..SyncSettings::default()
    };
    wishes(&b.device_user(), &here, by(Some(3_600))).await;
    let kept = b.keep_peers_in_step();
    let handle = kept_handle(&kept).await;
    handle.wait_for_initial_sync(SOON).await.unwrap();
    here.doc("main").set("by hour", 1).await.unwrap();
    there.doc("main").set("from there", 1).await.unwrap();
    wishes(&b.device_user(), &here, by(Some(1))).await;
    comes(&there, "by hour").await;
    comes(&here, "from there").await;
    // And again, by the same period.
    here.doc("main").set("again", 1).await.unwrap();
    comes(&there, "again").await;
    // Somebody else wants it at once: what is wanted is combined.
    let eve = b.create_user("eve", None).await.unwrap();
    wishes(&b.device_user(), &here, by(None)).await;
    wishes(&eve, &here, SyncSettings::default()).await;
    here.doc("main").set("at once", 1).await.unwrap();
    comes(&there, "at once").await;
}

async fn kept_handle(kept: &eid::PeersInStep) -> eid::SyncHandle {
    let found = async {
        loop {
            if let Some(handle) = kept.handles().pop() {
                return handle;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, found).await.expect("the peer is known")
}

#[tokio::test]
async fn flush_delivers_and_tells_what_it_could_not() {
    let Two { a, b, here, there } = two().await;
    let (_, entry) = here.commit(|tx| tx.doc("main").set("first", 1)).await.unwrap();
    let receipt = here.receipt(entry.unwrap());
    assert!(matches!(receipt.why(a.device()).await.unwrap(), Why::NotConnected { .. }));
    assert_eq!(b.flush(SOON).await.unwrap(), []);
    assert_eq!(there.doc("main").get_as::<u64>("first").unwrap(), Some(1));
    assert_eq!(receipt.why(a.device()).await.unwrap(), Why::Held);

    let gone = a.device();
    a.close().await.unwrap();
    here.doc("main").set("second", 2).await.unwrap();
    here.doc("main").set("third", 3).await.unwrap();
    let undelivered = b.flush(SOON).await.unwrap();
    let [one] = &undelivered[..] else { panic!("{undelivered:?}") };
    assert_eq!((one.peer, one.tree, one.entries), (gone, here.id(), 2));
    // Nobody keeps in step with it: what is told is what this attempt failed with.
    let Why::NotConnected { last_error: Some(error), next_attempt: None } = &one.why else {
        panic!("{one:?}")
    };
    assert_eq!(error.code, "unreachable", "{error:?}");
    let status = here.status().unwrap();
    let [at] = &status.peers[..] else { panic!("{status:?}") };
    assert_eq!((at.peer, at.sync.ahead, at.sync.connection), (gone, 2, eid::ConnectionState::Disconnected));
    let peers = b.peers().unwrap();
    let tried = &peers[0].tried[0];
    assert!(tried.last_success_ms.is_some() && tried.last_failure_ms.is_some(), "{tried:?}");
    let history = b.sync().history(10).unwrap();
    assert_eq!((history[0].pushed, history[0].pulled), (1, 0), "the last one first: {history:?}");
    assert!(history.iter().all(|session| session.peer == gone && session.error.is_none()));
}
