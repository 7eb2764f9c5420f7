//! The work that is measured, and the engine alone doing the same.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use eid_core::dag::{Replica, Seq};
use eid_core::{Domain, Entry, SecretKey, TreeId, sign, verify, verify_many};
use eid_db::{Database, Env, Instance};
use eid_store::{Backend, Batch, Embedded, EmbeddedConfig, EntryStore, Memory, Offer, Verdict};

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

/// Bytes of entries in one batch of a session.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;

pub(crate) fn embedded(dir: &Path) -> Result<Arc<Embedded>, Failed> {
    Ok(Arc::new(Embedded::open(dir, EmbeddedConfig::default())?))
}

pub(crate) fn database(backend: Arc<dyn Backend>) -> Result<(Instance, Database), Failed> {
    let instance = Instance::open(backend, Env::system())?;
    let database = match instance.database("bench")? {
        Some(database) => database,
        None => instance.create_database("bench")?.database,
    };
    Ok((instance, database))
}

/// One durable commit through the whole path: sign, admit, view, flush.
pub(crate) fn set(database: &Database, n: u64) -> Result<(), Failed> {
    Ok(database.doc("settings").set(format!("item {n}").as_str(), format!("the value of {n}").as_str())?)
}

pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// Commits by so many writers at once, each its share.
pub(crate) fn commits(database: &Database, from: u64, count: u64, writers: u64) -> Result<Duration, Failed> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                scope.spawn(move || -> Result<(), Failed> {
                    (0..count / writers).try_for_each(|n| set(database, from + n * writers + writer))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| Failed::from("a writer panicked"))?)
    })?;
    Ok(begin.elapsed())
}

/// The same batches by so many writers, straight to the engine.
pub(crate) fn raw(engine: &Embedded, batches: Vec<Batch>, writers: usize) -> Result<Duration, Failed> {
    let mut shares: Vec<Vec<Batch>> = (0..writers).map(|_| Vec::new()).collect();
    for (index, batch) in batches.into_iter().enumerate() {
        shares[index % writers].push(batch);
    }
    let begin = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().try_for_each(|batch| engine.commit(batch))))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| Ok(thread.join().map_err(|_| Failed::from("a writer panicked"))??))
    })
    .map(|()| begin.elapsed())
}

/// A tree written elsewhere, as it would arrive.
pub(crate) struct Foreign {
    pub tree: TreeId,
    pub offers: Vec<Offer>,
    pub bytes: u64,
}

/// Writes `count` entries in memory: one field each, as [`set`] does.
pub(crate) fn foreign(count: u64) -> Result<Foreign, Failed> {
    let (instance, database) = database(Arc::new(Memory::new()))?;
    for n in 0..count {
        set(&database, n)?;
    }
    let tree = database.id();
    let snapshot = instance.store().tree(&tree)?.ok_or("the tree was just written")?;
    let mut offers = Vec::new();
    let mut from = Seq(0);
    while from < snapshot.end() {
        for logged in snapshot.log(from..snapshot.end(), 1 << 20)? {
            from = Seq(logged.seq.0 + 1);
            offers.push(Offer { block: logged.block, payloads: logged.payloads });
        }
    }
    Ok(Foreign { tree, offers, bytes: snapshot.bytes() })
}

/// Cuts offers into batches as a session does.
pub(crate) fn batches(foreign: &Foreign) -> Vec<Vec<Offer>> {
    let mut batches = vec![Vec::new()];
    let mut bytes = 0;
    for offer in &foreign.offers {
        bytes += offer.block.len() + offer.payloads.iter().flatten().map(bytes::Bytes::len).sum::<usize>();
        if bytes > BATCH_BYTES {
            batches.push(Vec::new());
            bytes = 0;
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(offer.clone());
        }
    }
    batches
}

/// Admits a tree.
pub(crate) fn admit(store: &EntryStore, foreign: &Foreign) -> Result<Duration, Failed> {
    let batches = batches(foreign);
    let begin = Instant::now();
    admit_batches(store, foreign.tree, batches.into_iter())?;
    Ok(begin.elapsed())
}

/// Admits batches: each is verified while the one before is committed.
pub(crate) fn admit_batches(
    store: &EntryStore,
    tree: TreeId,
    batches: impl Iterator<Item = Vec<Offer>> + Send,
) -> Result<(), Failed> {
    thread::scope(|scope| {
        let (give, take) = std::sync::mpsc::sync_channel(1);
        let preparing = scope.spawn(move || -> Result<(), Failed> {
            for batch in batches {
                give.send(store.prepare(tree, batch)?)?;
            }
            Ok(())
        });
        for prepared in take {
            let admission = store.admit(prepared)?;
            if let Some(Verdict::Refused(refusal)) =
                admission.verdicts.into_iter().find(|verdict| matches!(verdict, Verdict::Refused(_)))
            {
                return Err(Failed::from(refusal));
            }
        }
        preparing.join().map_err(|_| Failed::from("preparing panicked"))?
    })
}

/// Verifies the signatures of entries and nothing else, in batches of 512 on two threads.
pub(crate) fn verify_all(offers: &[Offer]) -> Result<Duration, Failed> {
    let parse = |offer: &Offer| Entry::parse(offer.block.clone(), offer.payloads.clone());
    let entries = offers.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let halves = entries.split_at(entries.len() / 2);
    let begin = Instant::now();
    let valid = thread::scope(|scope| {
        let second = scope.spawn(|| verify_in_bulk(halves.1));
        let first = verify_in_bulk(halves.0);
        second.join().map(|second| first && second)
    });
    let elapsed = begin.elapsed();
    match valid {
        Ok(true) => Ok(elapsed),
        Ok(false) => Err("a signature does not verify".into()),
        Err(_) => Err("verifying panicked".into()),
    }
}

fn verify_in_bulk(entries: &[Entry]) -> bool {
    entries.chunks(512).all(|chunk| {
        let items: Vec<_> =
            chunk.iter().map(|e| (e.header().author, e.header_bytes(), e.signature())).collect();
        verify_many(Domain::Entry, &items).into_iter().all(|valid| valid)
    })
}

/// Signs and verifies one by one: what a single commit cannot do without.
pub(crate) fn sign_and_verify(count: u64) -> Result<Duration, Failed> {
    let key = SecretKey::from_seed([7; 32]);
    let public = key.public();
    let mut message = [1; 200];
    let begin = Instant::now();
    for n in 0..count {
        message[..8].copy_from_slice(&n.to_le_bytes());
        let signature = sign(Domain::Entry, &key, &message);
        if !verify(Domain::Entry, &public, &message, &signature) {
            return Err("a signature does not verify".into());
        }
    }
    Ok(begin.elapsed())
}
