//! A program without a runtime can do what one with a runtime can.

use std::time::Duration;

use eid::blocking::Instance;
use eid::{Access, ErrorKind, Http};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Todo {
    title: String,
    done: bool,
}

const WAIT: Duration = Duration::from_secs(60);

#[test]
fn two_devices_meet_without_a_runtime_in_sight() -> Result<(), eid::Error> {
    let (here, there) = (Instance::memory()?, Instance::memory()?);
    let db = here.create_database("notes")?;
    assert_eq!(db.share(Access::write()).err().map(|error| error.kind()), Some(ErrorKind::NotListening));
    let addresses = here.listen(Http::on("127.0.0.1:0"))?;
    let copy = there.join(&db.share(Access::write())?, WAIT)?;

    let mut changes = db.changes()?;
    let todos = copy.table::<Todo>("todos");
    let key = todos.insert(&Todo { title: "from there".into(), done: false })?;
    there.sync_with(&addresses[0], Some(&copy), WAIT)?;
    let heard = changes.next(WAIT)?.and_then(eid::Event::into_change).expect("the row has arrived");
    assert_eq!(heard.author, there.device());
    assert_eq!(changes.next(Duration::ZERO)?, None);

    db.table::<Todo>("todos").update(&key, |todo| todo.done = true)?;
    there.sync_with(&addresses[0], Some(&copy), WAIT)?;
    assert_eq!(todos.get(&key)?, Some(Todo { title: "from there".into(), done: true }));
    there.close()?;
    here.close()
}

#[test]
fn what_was_written_is_there_after_reopening() -> Result<(), eid::Error> {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Instance::open(dir.path())?;
    node.create_database("notes")?.write(|tx| tx.doc("profile").set("name", "Ada"))?;
    node.close()?;
    let node = Instance::open(dir.path())?;
    let db = node.database("notes")?.expect("it was made");
    assert_eq!(db.doc("profile").get_as::<String>("name")?.as_deref(), Some("Ada"));
    node.close()
}

#[test]
fn users_write_with_keys_of_their_own() -> Result<(), eid::Error> {
    let node = Instance::memory()?;
    let ada = node.create_user("ada", None)?;
    let db = ada.create_database("notes")?;
    db.doc("profile").set("name", "Ada")?;
    assert_eq!(db.author_key()?, ada.key()?);
    let preferences = ada.track(&db.id())?;
    ada.set_preferences(&preferences)?;
    assert!(ada.untrack(&db.id())?);
    ada.change_password(None, Some("correct horse"))?;
    ada.logout();
    let refused = db.doc("profile").set("name", "Eve").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LoggedOut);
    let refused = node.login("ada", None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongPassword);
    node.close()
}
