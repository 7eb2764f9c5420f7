//! The paved path from its beginning to its end, and what lies beside it: the engine's handle, hooks, bounds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use eid::{Access, Durability, ErrorKind, Event, Http, HttpBounds, Instance, Permission};
use eid_store::{Backend, BackendError, Batch, Memory, Snapshot};
use serde::{Deserialize, Serialize};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Todo {
    title: String,
    done: bool,
}

impl Todo {
    fn new(title: &str) -> Self {
        Self { title: title.to_owned(), done: false }
    }
}

async fn in_memory() -> Instance {
    Instance::builder().memory().open().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_paved_path_leads_from_an_empty_directory_to_two_other_devices() {
    let directory = tempfile::tempdir().unwrap();
    let node = Instance::open(directory.path().join("notes.eid")).await.unwrap();
    let db = match node.database("notes").unwrap() {
        Some(db) => db,
        None => node.create_database("notes").await.unwrap(),
    };
    let (tell, local) = mpsc::channel();
    let _local = db.on_local_write(move |notice| tell.send(notice.entries.clone()).unwrap()).unwrap();
    let (tell, remote) = mpsc::channel();
    let _remote = db.on_remote_write(move |notice| tell.send(notice.entries.clone()).unwrap()).unwrap();

    let todos = db.table::<Todo>("todos");
    let first = db.entries().unwrap();
    let id = todos.insert(&Todo::new("buy milk")).await.unwrap();
    assert_eq!(local.recv_timeout(SOON).unwrap().start.0, first, "the hook is told of this entry");
    todos.update(&id, |todo| todo.done = true).await.unwrap();
    todos.insert_many(&[Todo::new("write"), Todo::new("call Ben")]).await.unwrap();
    let rows = todos.query().eq("done", false).order("title").rows().unwrap();
    assert_eq!(rows.iter().map(|todo| todo.title.as_str()).collect::<Vec<_>>(), ["call Ben", "write"]);
    let (added, entry) = db
        .commit(|tx| {
            tx.durability(Durability::Relaxed);
            tx.doc("profile").set("name", "Ada")?;
            let added = tx.table::<Todo>("todos").insert(&Todo::new("read"))?;
            // This one is to wait for the disk after all.
            tx.durability(Durability::Durable);
            Ok(added)
        })
        .await
        .unwrap();
    assert_eq!(todos.get(&added).unwrap(), Some(Todo::new("read")));
    let mut body = db.text("body").edit().unwrap();
    body.insert(0, "Dear Ben").unwrap();
    body.flush().await.unwrap();

    node.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = db.share(Access::write()).await.unwrap();
    let (ben, eve) = (in_memory().await, in_memory().await);
    let mut others = Vec::new();
    for other in [&ben, &eve] {
        let copy = other.join(&ticket).within(SOON).await.unwrap();
        assert_eq!(copy.text("body").read().unwrap(), "Dear Ben");
        others.push((copy.keep_in_step(&ticket.addresses[0]), copy));
    }
    let written = entry.unwrap();
    tokio::time::timeout(SOON, db.receipt(written).durable_on(2)).await.expect("both have it").unwrap();

    let there = &others[0].1;
    let mut changes = there.changes().unwrap();
    while remote.try_recv().is_ok() {}
    let told = there.table::<Todo>("todos").insert(&Todo::new("answer")).await.unwrap();
    let Event::Change(change) = changes.next().await.unwrap() else { panic!("nothing became void") };
    assert_eq!((change.author, change.stores[0].name.as_str()), (ben.device(), "todos"));
    // What came before may be told of only now.
    while todos.get(&told).unwrap().is_none() {
        remote.recv_timeout(SOON).expect("the hook is told when it can be read");
    }
    assert_eq!(todos.get(&told).unwrap(), Some(Todo::new("answer")));
    let everywhere = db.receipt(change.entry);
    tokio::time::timeout(SOON, everywhere.durable_on(2)).await.expect("both say so").unwrap();
    let status = db.status().unwrap();
    let with_ben = status.peers.iter().find(|peer| peer.peer == ben.device()).unwrap();
    assert_eq!((with_ben.sync.ahead, with_ben.sync.behind), (0, Some(0)));
    assert_eq!(with_ben.sync.last_error, None);
    drop(others);
    for node in [ben, eve, node] {
        node.close().await.unwrap();
    }
}

/// Remembers whether batches waited for the disk.
#[derive(Debug, Default)]
struct Asked {
    inner: Memory,
    durability: Mutex<Vec<Durability>>,
}

impl Backend for Asked {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        self.durability.lock().unwrap().push(batch.durability);
        self.inner.commit(batch)
    }
}

#[tokio::test]
async fn a_write_waits_for_the_disk_unless_it_says_otherwise() {
    let backend = Arc::new(Asked::default());
    let node = Instance::builder().backend(Arc::<Asked>::clone(&backend)).open().await.unwrap();
    let db = node.create_database("notes").await.unwrap();
    let said: [&[Durability]; 4] =
        [&[], &[Durability::Relaxed], &[Durability::Durable], &[Durability::Relaxed, Durability::Durable]];
    for (n, said) in said.into_iter().enumerate() {
        backend.durability.lock().unwrap().clear();
        db.write(|tx| {
            said.iter().for_each(|durability| tx.durability(*durability));
            tx.doc("main").set("n", n as u64)
        })
        .await
        .unwrap();
        let wanted = said.last().copied().unwrap_or_default();
        assert_eq!(*backend.durability.lock().unwrap(), [wanted], "{said:?}");
    }
    node.close().await.unwrap();
}

#[cfg(feature = "iroh")]
#[test]
fn iroh_goes_over_the_public_relays_unless_something_else_is_said() {
    use eid::{Iroh, Listener, Relay};

    assert_eq!(format!("{:?}", Iroh::default()), format!("{:?}", Iroh::over(Relay::Public)));
    let _listened_on_later = Listener::from(Iroh::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_listed_approved_and_rejected_through_the_handle_of_the_engine() {
    let (here, ben, eve) = (in_memory().await, in_memory().await, in_memory().await);
    let db = here.create_database("notes").await.unwrap();
    here.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = db.share(Access::ask()).await.unwrap();
    for (node, wanted) in [(&ben, Permission::Write), (&eve, Permission::Read)] {
        let asked = node.join(&ticket).asking(wanted).within(SOON).await;
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::Pending);
    }
    let engine = here.sync();
    let pending = engine.pending_bootstrap_requests().unwrap();
    assert_eq!(pending.len(), 2);
    let of = |node: &Instance| pending.iter().find(|request| request.key == node.device()).unwrap();
    assert_eq!((of(&ben).permission, of(&eve).permission), (Permission::Write, Permission::Read));

    assert_eq!(engine.approve_bootstrap_request(of(&ben).id, None).unwrap(), Permission::Write);
    engine.reject_bootstrap_request(of(&eve).id).unwrap();
    assert!(engine.pending_bootstrap_requests().unwrap().is_empty());
    assert_eq!(db.permission(&[ben.device()]).unwrap(), Some(Permission::Write));
    assert_eq!(db.permission(&[eve.device()]).unwrap(), None);
    // Decided once is decided.
    assert!(engine.approve_bootstrap_request(of(&eve).id, None).is_err());
    for node in [eve, ben, here] {
        node.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_listener_over_http_takes_of_others_can_be_chosen() {
    let there = in_memory().await;
    for (connections_per_address_max, is_let_in) in [(0, false), (8, true)] {
        let here = in_memory().await;
        let db = here.create_database("notes").await.unwrap();
        let bounds =
            HttpBounds { counts_loopback: true, connections_per_address_max, ..HttpBounds::default() };
        here.listen(Http::on("127.0.0.1:0").bounds(bounds)).await.unwrap();
        let ticket = db.share(Access::read()).await.unwrap();
        let joined = there.join(&ticket).within(SOON).await;
        assert_eq!(joined.is_ok(), is_let_in, "{joined:?}");
        here.close().await.unwrap();
    }
    there.close().await.unwrap();
}
