//! How far sessions are, shown beside a command that waits for them: one line on a terminal, and nothing elsewhere.

use std::collections::BTreeMap;
use std::pin::pin;

use eid::{Address, Delivered, Direction, Progress, PublicKey, SyncEvent, TreeId};

use crate::cmd::Context;
use crate::output::number_of;

/// The sessions that were heard of: how many entries are done, and of how many.
#[derive(Debug, Default)]
struct Transfers(BTreeMap<(TreeId, PublicKey, Direction), (u64, u64)>);

impl Transfers {
    fn take(&mut self, progress: &Progress) {
        let session = (progress.tree, progress.peer, progress.direction);
        self.0.insert(session, (progress.entries, progress.entries_total));
    }

    /// Of all of them.
    fn sum(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(done, total), (more, of)| (done + more, total + of))
    }
}

/// Waits for work that dials these addresses, and shows how far its sessions are.
pub async fn beside<T>(context: &Context, addresses: &[Address], work: impl Future<Output = T>) -> T {
    let mut events = context.node.events();
    let (mut transfers, mut work) = (Transfers::default(), pin!(work));
    let show = |done: u64, total: u64| {
        let label = format!("exchanging {}", number_of(total, "entry", "entries"));
        if context.out.progress(&label, done, total).is_err() {
            tracing::debug!("nobody watches the progress");
        }
    };
    loop {
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            done = &mut work => {
                let (shown, total) = transfers.sum();
                if shown < total {
                    // What ended early is shown no more.
                    show(total, total);
                }
                return done;
            }
        };
        match event {
            Some(Delivered::Event(SyncEvent::Progress(progress)))
                if progress.via.as_ref().is_some_and(|via| addresses.contains(via)) =>
            {
                transfers.take(&progress);
                let (done, total) = transfers.sum();
                show(done, total);
            }
            Some(_) => {}
            None => return work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use eid::control::{Frame, Reader};
    use eid::{Access, Http, Instance};
    use serde_json::json;

    use super::*;
    use crate::output::{Gone, Out, Sink};

    #[derive(Default)]
    struct Kept(Mutex<Vec<Frame>>);

    impl Sink for Kept {
        fn put(&self, frame: Frame) -> Result<(), Gone> {
            self.0.lock().unwrap().push(frame);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_exchanged_is_shown_with_its_exact_number_and_only_as_progress() {
        let memory = || Instance::builder().memory().open();
        let (a, b) = (memory().await.unwrap(), memory().await.unwrap());
        let address = a.listen(Http::on("127.0.0.1:0")).await.unwrap().remove(0);
        let db = a.create_database("notes").await.unwrap();
        let ticket = db.share(Access::write()).await.unwrap();
        let joined = b.join(&ticket).await.unwrap();
        for n in 0..30 {
            db.table("t").insert(&json!({"n": n})).await.unwrap();
        }
        for n in 0..20 {
            joined.table("t").insert(&json!({"n": n})).await.unwrap();
        }
        let kept = Arc::new(Kept::default());
        let context = Context {
            node: b.clone(),
            cwd: PathBuf::new(),
            out: Out::new(kept.clone(), Reader::default(), true),
            user: None,
            passwords: Arc::new(Mutex::new(VecDeque::new())),
        };
        let addresses = [address.clone()];
        let work = b.sync_with(&address, None, Duration::from_secs(20));
        let reports = beside(&context, &addresses, work).await.unwrap();
        let (pulled, pushed) = (reports[0].pulled, reports[0].pushed);
        assert!(pulled >= 30 && pushed >= 20, "{reports:?}");
        let frames = std::mem::take(&mut *kept.0.lock().unwrap());
        let shown: Vec<(u64, u64)> = frames
            .iter()
            .map(|frame| match frame {
                Frame::Progress { done, total, .. } => (*done, *total),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shown.first(), Some(&(0, pulled)));
        assert_eq!(shown.last(), Some(&(pulled + pushed, pulled + pushed)));
        assert!(shown.is_sorted(), "{shown:?}");
        b.close().await.unwrap();
        a.close().await.unwrap();
    }
}
