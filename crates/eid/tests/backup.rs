//! Copies that were restored from a backup, and the peers of the device that was backed up.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use eid::{Access, Address, Database, ErrorKind, Http, Identity, Instance, Permission, Rung, Slot};

const WAIT: Duration = Duration::from_secs(30);

struct Two {
    dir: tempfile::TempDir,
    a: Instance,
    b: Instance,
    notes: Database,
    there: Database,
    b_at: Address,
}

async fn write(db: &Database, who: &str, count: usize) {
    for n in 0..count {
        db.doc("main").set(&format!("{who}{n}"), n as u64).await.unwrap();
    }
}

/// A device on disk, and one in memory that it made an admin, in step after some entries.
async fn two() -> Two {
    let dir = tempfile::tempdir().unwrap();
    let a = Instance::open(dir.path().join("a")).await.unwrap();
    let b = Instance::builder().memory().open().await.unwrap();
    let notes = a.create_database("notes").await.unwrap();
    write(&notes, "before", 3).await;
    a.listen(Http::on("127.0.0.1:0")).await.unwrap();
    let ticket = notes.share(Access::write()).await.unwrap();
    let there = b.join(&ticket).await.unwrap();
    notes.grant(Slot::Key(b.device()), Permission::Admin(2)).await.unwrap();
    let b_at = b.listen(Http::on("127.0.0.1:0")).await.unwrap().remove(0);
    a.sync_with(&b_at, None, WAIT).await.unwrap();
    Two { dir, a, b, notes, there, b_at }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_peers_remember_of_a_device_is_not_believed_of_its_restored_copy_and_nothing_is_lost() {
    let Two { dir, a, b, notes, there, b_at } = two().await;
    let (file, again) = (dir.path().join("a.backup"), dir.path().join("again"));
    a.backup(&file, |_| {}).await.unwrap();
    // What the device writes from here on, and what it gets, is not in the backup, and its peer knows that it has it.
    write(&notes, "lost", 5).await;
    write(&there, "there", 2).await;
    a.sync_with(&b_at, None, WAIT).await.unwrap();
    let (device, tree) = (a.device(), notes.id());
    let believed = b.sync().known(&device, &tree).unwrap();
    assert!(believed.mine.is_some() && believed.theirs.is_some());
    a.close().await.unwrap();

    eid::restore(&file, &again, Identity::Same, |_, _| {}).await.unwrap();
    let a = Instance::open(&again).await.unwrap();
    assert_eq!(a.device(), device);
    let notes = a.database("notes").unwrap().unwrap();
    let known = a.sync().known(&b.device(), &tree).unwrap();
    assert_eq!(known, Default::default(), "positions of another life");
    // Other entries, at positions of which the peer believes to have everything.
    write(&notes, "after", 8).await;
    let report = &a.sync_with(&b_at, Some(&notes), WAIT).await.unwrap()[0];
    assert!(report.complete && report.rung != Some(Rung::Remembered), "{report:?}");
    assert_eq!((report.pushed, report.pulled), (8, 7), "{report:?}");
    assert_eq!(notes.state_hash().unwrap(), there.state_hash().unwrap());
    for (who, count) in [("before", 3), ("lost", 5), ("there", 2), ("after", 8)] {
        for db in [&notes, &there] {
            let last = db.doc("main").get_as::<u64>(&format!("{who}{}", count - 1)).unwrap();
            assert_eq!(last, Some(count - 1));
        }
    }
    let known = b.sync().known(&device, &tree).unwrap();
    assert_ne!(known.theirs.unwrap().epoch, believed.theirs.unwrap().epoch);
    let report = &a.sync_with(&b_at, Some(&notes), WAIT).await.unwrap()[0];
    assert_eq!((report.pushed, report.pulled), (0, 0));
    a.close().await.unwrap();
    b.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_with_a_key_of_its_own_writes_and_synchronises_once_it_was_granted_a_right() {
    let Two { dir, a, b, notes, there, b_at } = two().await;
    let (file, copied) = (dir.path().join("a.backup"), dir.path().join("copy"));
    a.backup(&file, |_| {}).await.unwrap();
    eid::restore(&file, &copied, Identity::New, |_, _| {}).await.unwrap();
    let copy = Instance::open(&copied).await.unwrap();
    let copied = copy.database("notes").unwrap().unwrap();
    assert_eq!(copied.state_hash().unwrap(), notes.state_hash().unwrap());
    let refused = copied.doc("main").set("x", 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
    let refused = copy.sync_with(&b_at, Some(&copied), WAIT).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");

    there.grant(Slot::Key(copy.device()), Permission::Write).await.unwrap();
    copy.sync_with(&b_at, Some(&copied), WAIT).await.unwrap();
    // Both go on, each as itself.
    write(&copied, "copy", 2).await;
    write(&notes, "device", 2).await;
    copy.sync_with(&b_at, Some(&copied), WAIT).await.unwrap();
    a.sync_with(&b_at, Some(&notes), WAIT).await.unwrap();
    copy.sync_with(&b_at, Some(&copied), WAIT).await.unwrap();
    let state = there.state_hash().unwrap();
    assert_eq!((notes.state_hash().unwrap(), copied.state_hash().unwrap()), (state, state));
    assert_eq!(there.void_count().unwrap(), 0);
    for node in [a, b, copy] {
        node.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_device_is_revoked_wherever_the_caller_may_and_the_rest_is_told() {
    let Two { dir: _dir, a, b, there, .. } = two().await;
    let (own, recovery) = b.create_database_with_recovery("own").await.unwrap();
    own.grant(Slot::Key(a.device()), Permission::Write).await.unwrap();
    b.create_database("other").await.unwrap();
    let outcomes = |revoked: &[eid::Revoked]| {
        let mut of: Vec<(String, Result<bool, ErrorKind>)> = revoked
            .iter()
            .map(|one| {
                let outcome = one.outcome.as_ref();
                (one.database.name().unwrap(), outcome.map(Option::is_some).map_err(eid::Error::kind))
            })
            .collect();
        of.sort_by(|one, other| one.0.cmp(&other.0));
        of
    };
    let expected = |notes, own| {
        vec![("notes".to_owned(), notes), ("other".to_owned(), Ok(false)), ("own".to_owned(), own)]
    };
    // The device is a stronger admin of one of them.
    let revoked = b.revoke_everywhere(a.device(), None).await.unwrap();
    assert_eq!(outcomes(&revoked), expected(Err(ErrorKind::Forbidden), Ok(true)));
    assert_eq!(own.permission(&[a.device()]).unwrap(), None);
    assert_eq!(there.permission(&[a.device()]).unwrap(), Some(Permission::Admin(1)));
    let revoked = b.revoke_everywhere(a.device(), Some(recovery.clone())).await.unwrap();
    assert_eq!(outcomes(&revoked), expected(Err(ErrorKind::Forbidden), Ok(false)));
    // The recovery key signs where it is one, for whoever may not.
    let other = own.revoke_with(recovery.clone(), Slot::Key(b.device()), eid::KeyMode::Leave).await;
    other.unwrap();
    let third = eid::SecretKey::from_seed([9; 32]).public();
    own.grant_with(recovery.clone(), Slot::Key(third), Permission::Write).await.unwrap();
    let revoked = b.revoke_everywhere(third, None).await.unwrap();
    assert_eq!(outcomes(&revoked), expected(Ok(false), Err(ErrorKind::Forbidden)));
    let revoked = b.revoke_everywhere(third, Some(recovery)).await.unwrap();
    assert_eq!(outcomes(&revoked), expected(Ok(false), Ok(true)));
    a.close().await.unwrap();
    b.close().await.unwrap();
}
