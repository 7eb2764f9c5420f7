//! Replicas of a database whose text is edited through its buffer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Permission, SettingsOp, Slot};
use eid_db::{Clock, Database, Env, Instance, TextEdit};
use eid_store::{Backend, Memory, Offer, Verdict};

use super::trace::Patch;
use super::{Replica, Sent};
use crate::work::{Failed, embedded};

/// A clock that is set.
#[derive(Debug, Default)]
struct Set(AtomicU64);

impl Clock for Set {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Ours {
    database: Database,
    edit: TextEdit,
    clock: Arc<Set>,
    /// How far this replica's clock goes ahead of what it has seen: of two who type at once, the session has the one
    /// with the lower number first.
    ahead_ms: u64,
    backend: Arc<dyn Backend>,
}

/// Where a replica keeps its data.
pub(crate) enum Place {
    Memory,
    Disk(PathBuf),
}

impl Place {
    fn open(&self) -> Result<Arc<dyn Backend>, Failed> {
        Ok(match self {
            Self::Memory => Arc::new(Memory::new()),
            Self::Disk(dir) => embedded(dir)?,
        })
    }
}

impl Ours {
    /// Replicas of one database, all of which may write it.
    pub(crate) fn replicas(count: usize, place: &Place, updates: usize) -> Result<Vec<Self>, Failed> {
        let mut nodes = Vec::new();
        for node in 0..count {
            let clock = Arc::new(Set::default());
            let env = Env { clock: Arc::<Set>::clone(&clock), ..Env::system() };
            let place = match place {
                Place::Disk(dir) if node > 0 => &Place::Disk(dir.join(node.to_string())),
                place => place,
            };
            let backend = place.open()?;
            nodes.push((Instance::open(Arc::clone(&backend), env)?, clock, backend));
        }
        let mut nodes = nodes.into_iter();
        let (first, clock, backend) = nodes.next().ok_or("nobody")?;
        let database = first.create_database("bench")?.database;
        let others: Vec<_> = nodes.collect();
        let grants: Vec<SettingsOp> = others
            .iter()
            .map(|(node, ..)| SettingsOp::Set {
                slot: Slot::Key(node.device()),
                permission: Permission::Write,
            })
            .collect();
        if !grants.is_empty() {
            database.write_settings(&grants)?;
        }
        let offers = all(&database)?;
        let mut found = vec![Self::new(database.clone(), clock, 0, backend)?];
        for (place, (node, clock, backend)) in others.into_iter().enumerate() {
            give(&node, &database, offers.clone())?;
            // Each goes further ahead than all before it could together.
            let power = u32::try_from(place)?;
            let ahead_ms = (updates as u64 + 1).saturating_pow(power).saturating_mul(1000);
            found.push(Self::new(node.database_by_id(database.id()), clock, ahead_ms, backend)?);
        }
        Ok(found)
    }

    fn new(
        database: Database,
        clock: Arc<Set>,
        ahead_ms: u64,
        backend: Arc<dyn Backend>,
    ) -> Result<Self, Failed> {
        let edit = database.text("text").edit()?;
        Ok(Self { database, edit, clock, ahead_ms, backend })
    }

    /// Closes its data, and says how many bytes its entries have.
    pub(crate) fn close(self) -> Result<u64, Failed> {
        let bytes = self.database.bytes()?;
        self.backend.close()?;
        Ok(bytes)
    }
}

fn all(database: &Database) -> Result<Vec<Offer>, Failed> {
    let snapshot = database.snapshot()?;
    let logged = snapshot.log(Seq(0)..snapshot.end(), usize::MAX)?;
    Ok(logged.into_iter().map(|logged| Offer { block: logged.block, payloads: logged.payloads }).collect())
}

fn give(node: &Instance, database: &Database, offers: Vec<Offer>) -> Result<(), Failed> {
    let prepared = node.store().prepare(database.id(), offers)?;
    match node
        .store()
        .admit(prepared)?
        .verdicts
        .into_iter()
        .find(|verdict| !matches!(verdict, Verdict::Admitted(_)))
    {
        None => Ok(()),
        Some(verdict) => Err(format!("an entry was not admitted: {verdict:?}").into()),
    }
}

/// Reads the text of a database that was written before.
pub(crate) fn load(dir: &Path) -> Result<String, Failed> {
    let instance = Instance::open(embedded(dir)?, Env::system())?;
    let database = instance.database("bench")?.ok_or("the database is gone")?;
    Ok(database.text("text").read()?)
}

impl Replica for Ours {
    type Update = Vec<Offer>;

    fn edit(&mut self, patch: Patch) -> Result<(), Failed> {
        let Patch(at, deleted, inserted) = patch;
        Ok(self.edit.replace(at..at + deleted, &inserted)?)
    }

    fn seal(&mut self) -> Result<Sent<Self::Update>, Failed> {
        let held = self.database.snapshot()?.time().0 >> 16;
        self.clock.0.store(held.saturating_add(self.ahead_ms), Ordering::Relaxed);
        let mut sent = Sent { update: Vec::new(), bytes: 0 };
        while let Some(flush) = self.edit.prepare_flush()? {
            let Some(entry) = self.edit.finish_flush(flush.relaxed().commit())? else { continue };
            let entry = self.database.snapshot()?.entry(&entry.id)?.ok_or("an entry was just written")?;
            let offer = Offer { block: entry.block().clone(), payloads: entry.payloads().to_vec() };
            sent.bytes +=
                offer.block.len() + offer.payloads.iter().flatten().map(bytes::Bytes::len).sum::<usize>();
            sent.update.push(offer);
        }
        Ok(sent)
    }

    fn take(&mut self, update: &Self::Update) -> Result<(), Failed> {
        give(self.database.instance(), &self.database, update.clone())?;
        self.edit.remote()?;
        Ok(())
    }

    fn text(&mut self) -> Result<String, Failed> {
        let stored = self.database.text("text").read()?;
        if stored == self.edit.text() { Ok(stored) } else { Err("the buffer holds another text".into()) }
    }
}
