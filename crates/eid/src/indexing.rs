//! Building the indexes that other devices declare, where their wish arrives: at opening, after a join, and after each
//! session that brought something.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use eid_core::TreeId;
use eid_db::{DbError, Instance as Db};
use eid_sync::{Delivered, Events, SessionReport, SyncEvent};
use tokio::sync::watch;

use crate::offload::offload;

/// What an instance holds of it: building ends, after the step it is at, when this is dropped.
pub(crate) struct Indexing(Arc<Builder>);

struct Builder {
    db: Db,
    /// Held by who builds: steps of two would only wait for each other.
    turn: Mutex<()>,
    ended: AtomicBool,
    /// How many times everything that was asked for has been gone through.
    rounds: watch::Sender<u64>,
}

impl fmt::Debug for Indexing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexing").field("ended", &self.0.ended).finish_non_exhaustive()
    }
}

impl Drop for Indexing {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Indexing {
    /// Begins with every database, and goes on with those that sessions bring something to. Ends with the engine, which
    /// it does not keep alive.
    pub(crate) fn start(db: Db, events: Events) -> Self {
        let (turn, ended) = (Mutex::new(()), AtomicBool::new(false));
        let builder = Arc::new(Builder { db, turn, ended, rounds: watch::Sender::new(0) });
        tokio::spawn(follow(Arc::downgrade(&builder), events));
        Self(builder)
    }

    /// Brings the indexes of every database in line with what is wanted. What fails is logged.
    pub(crate) async fn all(&self) {
        build(&Arc::downgrade(&self.0), None).await;
    }

    /// Brings the indexes of the databases that sessions brought something to in line with what is wanted.
    pub(crate) async fn after(&self, sessions: &[SessionReport]) {
        for tree in sessions.iter().filter_map(changed) {
            build(&Arc::downgrade(&self.0), Some(tree)).await;
        }
    }

    /// Builds nothing from here on. What this gives waits for the step that is under way, blocking the thread.
    pub(crate) fn end(&self) -> impl FnOnce() + use<> {
        self.0.ended.store(true, Ordering::Relaxed);
        let builder = Arc::clone(&self.0);
        move || drop(builder.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The database that a session brought something to.
fn changed(report: &SessionReport) -> Option<TreeId> {
    // What was held may have got its payload.
    report.tree.filter(|_| report.pulled + report.duplicates > 0)
}

async fn follow(builder: Weak<Builder>, mut events: Events) {
    build(&builder, None).await;
    while let Some(delivered) = events.recv().await {
        match delivered {
            Delivered::Event(SyncEvent::Session(report) | SyncEvent::Failed { report, .. }) => {
                if let Some(tree) = changed(&report) {
                    build(&builder, Some(tree)).await;
                }
            }
            Delivered::Event(SyncEvent::Arrived { tree, .. }) => build(&builder, Some(tree)).await,
            Delivered::Event(_) => {}
            Delivered::Lagged(_) => build(&builder, None).await,
        }
    }
}

async fn build(builder: &Weak<Builder>, tree: Option<TreeId>) {
    let Some(builder) = builder.upgrade() else { return };
    if let Err(error) = offload(move || builder.build(tree)).await {
        tracing::debug!(%error, "the indexes of databases were not looked at");
    }
}

impl Builder {
    /// Builds in steps, between which others write.
    fn build(&self, tree: Option<TreeId>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = || !self.ended.load(Ordering::Relaxed);
        let trees = match tree {
            Some(tree) => vec![tree],
            None => self.db.store().trees().unwrap_or_else(|error| {
                tracing::warn!(%error, "the databases cannot be listed to build their indexes");
                Vec::new()
            }),
        };
        for tree in trees.into_iter().take_while(|_| goes_on()) {
            match self.db.database_by_id(tree).build_pending_indexes(|_| goes_on()) {
                Ok(_) | Err(DbError::NotHere) => {}
                Err(error) if goes_on() => {
                    tracing::warn!(%tree, %error, "the indexes that are wanted could not be built");
                }
                Err(_) => {}
            }
        }
        self.rounds.send_modify(|rounds| *rounds += 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eid_db::Env;
    use eid_store::{Backend, Memory};
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{Access, Database, Instance};

    const WAIT: Duration = Duration::from_secs(60);

    fn scans(db: &Database, field: &str) -> bool {
        db.table::<Json>("t").query().eq(field, 3).explain().expect("a plan").scans_table()
    }

    async fn until_used(node: &Instance, db: &Database, field: &str) {
        let mut rounds = node.indexing().0.rounds.subscribe();
        let used = async {
            while scans(db, field) {
                rounds.changed().await.expect("the instance is there");
            }
        };
        tokio::time::timeout(WAIT, used).await.expect("it is built");
    }

    async fn with_rows() -> (Instance, Database) {
        let node = Instance::builder().memory().open().await.expect("memory");
        let db = node.create_database("shop").await.expect("memory");
        for n in 0..20 {
            db.table::<Json>("t").insert(&json!({"a": n, "b": n, "c": n})).await.expect("memory");
        }
        (node, db)
    }

    #[cfg(feature = "http")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_index_that_was_declared_elsewhere_is_used_after_a_join_and_after_sessions_of_either_side() {
        let (here, db) = with_rows().await;
        let there = Instance::builder().memory().open().await.expect("memory");
        db.registry().declare_index("t", "a").await.expect("it is a table");
        let addresses = here.listen(crate::Http::on("127.0.0.1:0")).await.expect("a port");
        let ticket = db.share(Access::write()).await.expect("it listens");
        let copy = there.join(&ticket).within(WAIT).await.expect("it is let in");
        assert!(!scans(&copy, "a") && scans(&copy, "b"));

        db.registry().declare_index("t", "b").await.expect("it is a table");
        there.sync_with(&addresses[0], Some(&copy), WAIT).await.expect("it answers");
        assert!(!scans(&copy, "b"));

        // Whoever is dialled is told nothing by a call of its own.
        copy.registry().declare_index("t", "c").await.expect("it is a table");
        there.sync_with(&addresses[0], Some(&copy), WAIT).await.expect("it answers");
        until_used(&here, &db, "c").await;
        db.registry().undeclare_index("t", "b").await.expect("it is a table");
        there.sync_with(&addresses[0], Some(&copy), WAIT).await.expect("it answers");
        assert!(scans(&copy, "b") && !scans(&copy, "a"), "what nobody wants goes");
        there.close().await.expect("memory");
        here.close().await.expect("memory");
    }

    #[tokio::test]
    async fn an_index_that_was_declared_is_built_at_opening() {
        let backend: Arc<dyn Backend> = Arc::new(Memory::new());
        {
            let node = Db::open(Arc::clone(&backend), Env::system()).expect("memory");
            let db = node.create_database("shop").expect("memory").database;
            for n in 0..20 {
                db.table::<Json>("t").insert(&json!({"a": n})).expect("memory");
            }
            db.registry().declare_index("t", "a").expect("it is a table");
            assert!(db.table::<Json>("t").query().eq("a", 3).explain().expect("a plan").scans_table());
        }
        let node = Instance::builder().backend(backend).open().await.expect("memory");
        let db = node.database("shop").expect("memory").expect("it is there");
        until_used(&node, &db, "a").await;
    }
}
