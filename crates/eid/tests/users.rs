//! Users of an instance as an application meets them: what one signs, what two devices see, and who is kept out.

use std::time::Duration;

use eid::{Access, ErrorKind, Http, Instance, Permission, Slot};

const WAIT: Duration = Duration::from_secs(60);

async fn memory() -> Instance {
    Instance::builder().memory().open().await.expect("an instance in memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_writes_with_a_key_of_its_own_and_nobody_else_can() {
    let node = memory().await;
    let ada = node.create_user("ada", Some("correct horse")).await.unwrap();
    let db = ada.create_database("notes").await.unwrap();
    db.doc("main").set("title", "mine").await.unwrap();
    assert_eq!(db.author_key().unwrap(), ada.key().unwrap());
    assert_eq!(db.log(1, None).unwrap()[0].author, ada.key().unwrap());
    let plain = node.database("notes").unwrap().unwrap();
    let refused = plain.doc("main").set("title", "theirs").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);

    let wrong = node.login("ada", Some("wrong")).await.unwrap_err();
    let unknown = node.login("eve", Some("wrong")).await.unwrap_err();
    assert_eq!((wrong.kind(), wrong.to_string()), (unknown.kind(), unknown.to_string()));
    assert_eq!(wrong.kind(), ErrorKind::WrongPassword);
    assert!(!format!("{wrong:?} {ada:?} {db:?}").contains("correct horse"));

    ada.change_password(Some("correct horse"), Some("battery")).await.unwrap();
    let again = node.login("ada", Some("battery")).await.unwrap();
    ada.logout();
    let late = db.doc("main").set("title", "late").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LoggedOut);
    again.database("notes").unwrap().unwrap().doc("main").set("title", "again").await.unwrap();
    let taken = node.create_user("ada", None).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::InvalidName);
    assert_eq!(node.users().unwrap().len(), 2);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_shares_and_another_device_s_user_joins_writes_and_pushes() {
    let (here, there) = (memory().await, memory().await);
    let ada = here.create_user("ada", None).await.unwrap();
    let ben = there.create_user("ben", None).await.unwrap();
    let db = ada.create_database("notes").await.unwrap();
    db.doc("main").set("title", "from Ada").await.unwrap();
    here.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = db.share(Access::write().uses(1)).await.unwrap();

    let copy = ben.join(&ticket).within(WAIT).await.unwrap();
    assert_eq!(copy.doc("main").get_as::<String>("title").unwrap().as_deref(), Some("from Ada"));
    assert_eq!(db.permission(&[ben.key().unwrap()]).unwrap(), Some(Permission::Write));
    assert_eq!(db.permission(&[there.device()]).unwrap(), Some(Permission::Read));
    assert_eq!(ben.tracked().unwrap().len(), 1);
    assert!(there.combined_preferences(&copy.id()).unwrap().is_some_and(|sync| sync.sync_on_commit));
    copy.doc("main").set("title", "from Ben").await.unwrap();
    assert_eq!(copy.author_key().unwrap(), ben.key().unwrap());

    // The key of the device may only read: it brings what Ben wrote, also when he is logged out.
    there.sync_with(&ticket.addresses[0], Some(&copy), WAIT).await.unwrap();
    assert_eq!(db.doc("main").get_as::<String>("title").unwrap().as_deref(), Some("from Ben"));
    copy.doc("main").set("title", "left behind").await.unwrap();
    ben.logout();
    there.sync_with(&ticket.addresses[0], Some(&copy), WAIT).await.unwrap();
    assert_eq!(db.doc("main").get_as::<String>("title").unwrap().as_deref(), Some("left behind"));
    assert_eq!(db.state_hash().unwrap(), copy.state_hash().unwrap());
    there.close().await.unwrap();
    here.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_waits_for_its_maker_and_works_while_the_maker_is_logged_in() {
    let (here, there) = (memory().await, memory().await);
    let ada = here.create_user("ada", None).await.unwrap();
    let db = ada.create_database("notes").await.unwrap();
    here.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = db.share(Access::read().uses(1)).await.unwrap();
    ada.logout();
    assert!(there.join(&ticket).within(WAIT).await.is_err());
    let ada = here.login("ada", None).await.unwrap();
    let copy = there.join(&ticket).within(WAIT).await.unwrap();
    let device = there.device();
    assert_eq!(db.permission(&[device]).unwrap(), Some(Permission::Read));
    assert!(copy.keys().unwrap().iter().any(|key| key.slot == Slot::Key(device)));
    drop(ada);
    there.close().await.unwrap();
    here.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_device_of_a_user_gets_a_key_of_its_own_granted() {
    let (laptop, phone) = (memory().await, memory().await);
    let (first, second) =
        (laptop.create_user("ada", None).await.unwrap(), phone.create_user("ada", None).await.unwrap());
    let db = first.create_database("notes").await.unwrap();
    let enrolled = first.enrol(&second.key().unwrap()).await.unwrap();
    assert_eq!(enrolled.granted, [(db.id(), Permission::Admin(2))]);
    laptop.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = db.share(Access::read()).await.unwrap();
    let copy = second.join(&ticket).within(WAIT).await.unwrap();
    assert_eq!(second.permission(&copy.id()).unwrap().unwrap().1, Permission::Admin(2));
    assert_eq!(db.permission(&[phone.device()]).unwrap(), Some(Permission::Read));
    copy.doc("main").set("from", "the phone").await.unwrap();
    phone.sync_with(&ticket.addresses[0], Some(&copy), WAIT).await.unwrap();
    assert_eq!(db.doc("main").get_as::<String>("from").unwrap().as_deref(), Some("the phone"));
    phone.close().await.unwrap();
    laptop.close().await.unwrap();
}
