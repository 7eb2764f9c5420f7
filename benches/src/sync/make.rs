//! Makes real entries of a shape: signed, each with a value that compresses like random letters, and gives each side
//! what it holds of them.

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use eid_core::cbor::Writer;
use eid_core::pack::Arrived;
use eid_core::{
    Draft, Entry, EntryId, Height, Nonce, Payload, Permission, SecretKey, SectionDraft, SettingsOp, Slot,
    StoreName, Time, TreeId,
};
use eid_db::{Env, Instance};
use eid_proto::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX};
use eid_proto::message::{Batch, Message};
use eid_store::{Backend, Offer};

use super::shape::{Node, Random, Shape};
use crate::work::{Failed, admit_batches, embedded};

/// Batches that may wait for a side to admit them.
const WAITING: usize = 4;
/// Entries that are kept to measure what their signatures cost alone.
const SAMPLE: usize = 50_000;
/// The store that all write.
pub(crate) const STORE: &str = "items";

/// What was made.
pub(crate) struct Made {
    pub tree: TreeId,
    /// Entries that one side lacks and the other has.
    pub differ: u64,
    /// Bytes of the batches that carry exactly those.
    pub optimal_bytes: u64,
    pub sample: Vec<Offer>,
    pub entries: u64,
}

/// Fills the directories of both sides. With `later`, each gets only what both hold, and a file of the rest.
pub(crate) fn make(shape: &Shape, dir: &Path, later: bool) -> Result<Made, Failed> {
    let root = root()?;
    let tree = root.tree();
    thread::scope(|scope| {
        let sides: Vec<_> = ["client", "server"]
            .map(|name| {
                let (give, take) = sync_channel::<Vec<Offer>>(WAITING);
                let filling = scope.spawn(move || fill(&dir.join(name), tree, take.into_iter()));
                (give, filling)
            })
            .into();
        let mut outs = Vec::new();
        for (name, (give, _)) in ["client", "server"].iter().zip(&sides) {
            let rest = BufWriter::new(std::fs::File::create(dir.join(format!("{name}.rest")))?);
            outs.push(Out { give: give.clone(), batch: Vec::new(), bytes: 0, rest });
        }
        let made = write(shape, root, &mut outs, later);
        let (gives, fillings): (Vec<_>, Vec<_>) = sides.into_iter().unzip();
        let ended = outs.into_iter().try_for_each(Out::end);
        drop(gives);
        // What a side says of itself comes first: a channel that broke only follows from it.
        for filling in fillings {
            filling.join().map_err(|_| Failed::from("filling a side panicked"))??;
        }
        ended?;
        made
    })
}

fn fill(dir: &Path, tree: TreeId, batches: impl Iterator<Item = Vec<Offer>> + Send) -> Result<(), Failed> {
    let backend = embedded(dir)?;
    let instance = Instance::open(backend.clone(), Env::system())?;
    admit_batches(instance.store(), tree, batches)?;
    Ok(backend.close()?)
}

/// Where the entries of one side go.
struct Out {
    give: SyncSender<Vec<Offer>>,
    batch: Vec<Offer>,
    bytes: usize,
    rest: BufWriter<std::fs::File>,
}

impl Out {
    fn push(&mut self, offer: Offer) -> Result<(), Failed> {
        self.bytes += size(&offer);
        self.batch.push(offer);
        if self.bytes >= BATCH_BYTES_TARGET || self.batch.len() >= BATCH_ENTRIES_MAX {
            self.give.send(std::mem::take(&mut self.batch))?;
            self.bytes = 0;
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Failed> {
        if !self.batch.is_empty() {
            self.give.send(self.batch)?;
        }
        Ok(self.rest.flush()?)
    }
}

fn size(offer: &Offer) -> usize {
    offer.block.len() + offer.payloads.iter().flatten().map(Bytes::len).sum::<usize>()
}

/// Everybody may write, so that a shape can have any number of authors.
fn root() -> Result<Entry, Failed> {
    let creator = author(u32::MAX);
    let ops = [
        SettingsOp::Rules(1),
        SettingsOp::Set { slot: Slot::Key(creator.public()), permission: Permission::Admin(0) },
        SettingsOp::Set { slot: Slot::Everyone, permission: Permission::Write },
    ];
    Ok(Draft::root(Nonce([5; 16]), Time(1), &ops).seal(&creator)?)
}

fn author(n: u32) -> SecretKey {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(seed)
}

struct Placed {
    id: EntryId,
    height: Height,
    time: Time,
}

fn write(shape: &Shape, root: Entry, outs: &mut [Out], later: bool) -> Result<Made, Failed> {
    let tree = root.tree();
    let mut made = Made { tree, differ: 0, optimal_bytes: 0, sample: Vec::new(), entries: 1 };
    let below = Placed { id: root.id(), height: root.header().height, time: root.header().time };
    let root = Offer { block: root.block().clone(), payloads: root.payloads().to_vec() };
    // Who holds nothing at all does not even know of the database.
    let holds = [shape.client.contains(&true), shape.server.contains(&true)];
    for (out, _) in outs.iter_mut().zip(holds).filter(|(_, holds)| *holds) {
        out.push(root.clone())?;
    }
    let mut optimal = Optimal { tree, waiting: Vec::new(), waiting_bytes: 0, bytes: 0 };
    if holds[0] != holds[1] {
        optimal.push(root);
        made.differ += 1;
    }
    let mut keys: BTreeMap<u32, SecretKey> = BTreeMap::new();
    let mut random = Random(3);
    let mut placed: Vec<Placed> = Vec::with_capacity(shape.nodes.len());
    for (at, node) in shape.nodes.iter().enumerate() {
        let held = [shape.client[at], shape.server[at]];
        let key = keys.entry(node.author).or_insert_with(|| author(node.author));
        let entry = sign(node, at, key, &tree, &below, &placed, &mut random)?;
        placed.push(Placed { id: entry.id(), height: entry.header().height, time: entry.header().time });
        let offer = Offer { block: entry.block().clone(), payloads: entry.payloads().to_vec() };
        if made.sample.len() < SAMPLE {
            made.sample.push(offer.clone());
        }
        made.entries += u64::from(held.contains(&true));
        let differs = held[0] != held[1];
        if differs {
            made.differ += 1;
            optimal.push(offer.clone());
        }
        for (out, _) in outs.iter_mut().zip(held).filter(|(_, held)| *held) {
            match differs && later {
                true => write_offer(&mut out.rest, &offer)?,
                false => out.push(offer.clone())?,
            }
        }
    }
    made.optimal_bytes = optimal.end();
    Ok(made)
}

fn sign(
    node: &Node,
    at: usize,
    key: &SecretKey,
    tree: &TreeId,
    root: &Placed,
    placed: &[Placed],
    random: &mut Random,
) -> Result<Entry, Failed> {
    let parents: Vec<&Placed> = match &node.parents[..] {
        [] => vec![root],
        parents => parents.iter().map(|parent| &placed[*parent as usize]).collect(),
    };
    let highest = parents.iter().map(|parent| parent.height).max().unwrap_or(Height(0));
    let latest = parents.iter().map(|parent| parent.time).max().unwrap_or(Time(0));
    let payload = Payload::encode("doc", &random.next().to_le_bytes(), &[set(at, node.value_bytes, random)]);
    let draft = Draft {
        tree: Some(*tree),
        parents: parents.iter().map(|parent| parent.id).collect(),
        height: highest.child().ok_or("a shape that is too high")?,
        time: Time(latest.0 + 1),
        sections: vec![SectionDraft { store: StoreName::new(STORE)?, enc: None, payload }],
        nonce: None,
    };
    Ok(draft.seal(key)?)
}

/// Where an entry writes its value.
pub(crate) fn path(at: usize) -> String {
    format!("item {at}")
}

/// Sets a field of a document to letters that say nothing.
fn set(at: usize, value_bytes: usize, random: &mut Random) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut value = String::with_capacity(value_bytes);
    while value.len() < value_bytes {
        let drawn = random.next();
        let letters = (0..10).map(|n| char::from(LETTERS[(drawn >> (6 * n)) as usize % 64]));
        value.extend(letters.take(value_bytes - value.len()));
    }
    let mut op = Writer::new();
    op.array(3).uint(0).array(1).text(&path(at)).text(&value);
    op.into_bytes()
}

/// The same missing entries, packed by themselves.
struct Optimal {
    tree: TreeId,
    waiting: Vec<Arrived>,
    waiting_bytes: usize,
    bytes: u64,
}

impl Optimal {
    fn push(&mut self, offer: Offer) {
        self.waiting_bytes += size(&offer);
        self.waiting.push(Arrived { block: offer.block, payloads: offer.payloads });
        if self.waiting_bytes >= BATCH_BYTES_TARGET || self.waiting.len() >= BATCH_ENTRIES_MAX {
            self.pack();
        }
    }

    fn pack(&mut self) {
        let entries = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        if !entries.is_empty() {
            self.bytes += Message::Batch(Batch::pack(&self.tree, &entries, 0)).encode().len() as u64;
        }
    }

    fn end(mut self) -> u64 {
        self.pack();
        self.bytes
    }
}

fn write_offer(out: &mut impl Write, offer: &Offer) -> Result<(), Failed> {
    let parts: Vec<&Bytes> = std::iter::once(&offer.block).chain(offer.payloads.iter().flatten()).collect();
    out.write_all(&u32::try_from(parts.len())?.to_le_bytes())?;
    for part in parts {
        out.write_all(&u32::try_from(part.len())?.to_le_bytes())?;
        out.write_all(part)?;
    }
    Ok(())
}

/// What a side was to get only later.
pub(crate) fn rest(file: &Path) -> Result<Vec<Vec<Offer>>, Failed> {
    let mut reader = BufReader::new(std::fs::File::open(file)?);
    let number = |reader: &mut BufReader<std::fs::File>| -> Result<Option<usize>, Failed> {
        let mut bytes = [0; 4];
        match reader.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(u32::from_le_bytes(bytes) as usize)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let mut batches = vec![Vec::new()];
    while let Some(parts) = number(&mut reader)? {
        let mut read = Vec::with_capacity(parts);
        for _ in 0..parts {
            let mut part = vec![0; number(&mut reader)?.ok_or("the file of the rest is cut")?];
            reader.read_exact(&mut part)?;
            read.push(Bytes::from(part));
        }
        let mut parts = read.into_iter();
        let block = parts.next().ok_or("an entry without a block")?;
        let offer = Offer { block, payloads: parts.map(Some).collect() };
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_ENTRIES_MAX => batch.push(offer),
            _ => batches.push(vec![offer]),
        }
    }
    Ok(batches)
}

/// A store that is opened where [`make`] has filled it.
pub(crate) fn open(dir: &Path) -> Result<Instance, Failed> {
    let backend: Arc<dyn Backend> = embedded(dir)?;
    Ok(Instance::open(backend, Env::system())?)
}
