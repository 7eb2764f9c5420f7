//! A small replica in memory, as a session reads it. It admits what is well formed and has its parents.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use eid_core::dag::{Dag, Epoch, Logged, Named, Replica, Seq, add_to_tips};
use eid_core::pack::Arrived;
use eid_core::sketch::{Salt, Sketch};
use eid_core::{
    Draft, Entry, EntryId, Missing, Nonce, Payload, Permission, ReadError, SecretKey, SectionDraft,
    SettingsOp, Slot, StoreName, Time, TreeId,
};
use eid_proto::Outcome;

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub(crate) fn root() -> Entry {
    let owner = key(1);
    let set = SettingsOp::Set { slot: Slot::Key(owner.public()), permission: Permission::Admin(0) };
    let draft = Draft::root(Nonce([7; 16]), Time::from_ms(1), &[SettingsOp::Rules(1), set]);
    draft.seal(&owner).expect("a root is well formed")
}

pub(crate) fn tree() -> TreeId {
    static TREE: OnceLock<TreeId> = OnceLock::new();
    *TREE.get_or_init(|| root().tree())
}

/// A chain of a root and entries of several authors and stores, some of them sealed or merging.
pub(crate) fn grown(count: usize) -> Vec<Entry> {
    let mut mem = Mem::rooted(1);
    for n in 1..count {
        let on: Vec<usize> = if n % 5 == 4 { vec![n - 1, n - 2] } else { vec![n - 1] };
        mem.write((n % 3) as u8 + 1, &on, &format!("{n}"));
    }
    mem.log
}

#[derive(Debug, Clone)]
pub(crate) struct Mem {
    pub(crate) epoch: u64,
    pub(crate) log: Vec<Entry>,
    parents: Vec<Vec<Seq>>,
    index: BTreeMap<EntryId, Seq>,
    tips: BTreeSet<EntryId>,
}

impl Mem {
    pub(crate) fn empty(epoch: u64) -> Self {
        Self { epoch, log: vec![], parents: vec![], index: BTreeMap::new(), tips: BTreeSet::new() }
    }

    pub(crate) fn rooted(epoch: u64) -> Self {
        let mut mem = Self::empty(epoch);
        mem.add(root());
        mem
    }

    /// A replica with the same entries and a life of its own.
    pub(crate) fn fork(&self, epoch: u64) -> Self {
        Self { epoch, ..self.clone() }
    }

    pub(crate) fn ids(&self) -> BTreeSet<EntryId> {
        self.index.keys().copied().collect()
    }

    /// Loses the payloads of an entry.
    pub(crate) fn lose(&mut self, at: usize) {
        let payloads = vec![None; self.log[at].payloads().len()];
        self.log[at] = Entry::parse(self.log[at].block().clone(), payloads).expect("it was read before");
    }

    /// The payloads that are not here.
    pub(crate) fn lost(&self) -> BTreeSet<(EntryId, usize)> {
        let lacked = self.lacked_from((Seq(0), 0));
        lacked.map(|(seq, section)| (self.log[place(seq)].id(), section)).collect()
    }

    fn lacked_from(&self, from: (Seq, usize)) -> impl Iterator<Item = (Seq, usize)> {
        let lacked = |(seq, entry): (u64, &Entry)| {
            let payloads = entry.payloads().iter().enumerate();
            let lacked = payloads.filter(|(_, payload)| payload.is_none());
            lacked.map(|(section, _)| (Seq(seq), section)).collect::<Vec<_>>()
        };
        (0..).zip(&self.log).flat_map(lacked).filter(move |at| *at >= from)
    }

    pub(crate) fn add(&mut self, entry: Entry) -> Outcome {
        if let Some(seq) = self.index.get(&entry.id()) {
            let at = place(*seq);
            let both = self.log[at].payloads().iter().zip(entry.payloads());
            let payloads = both.map(|(held, late)| held.as_ref().or(late.as_ref()).cloned()).collect();
            self.log[at] =
                Entry::parse(self.log[at].block().clone(), payloads).expect("each was read before");
            return Outcome::Duplicate(*seq);
        }
        let held = |id: &EntryId| self.index.get(id).copied().ok_or(*id);
        let (parents, absent): (Vec<_>, Vec<_>) =
            entry.header().parents.iter().map(held).partition(Result::is_ok);
        if !absent.is_empty() {
            let absent = absent.into_iter().filter_map(Result::err).collect();
            return Outcome::Refused(Missing::Parents(absent).into());
        }
        let seq = self.end();
        self.parents.push(parents.into_iter().filter_map(Result::ok).collect());
        add_to_tips(&mut self.tips, entry.id(), &entry.header().parents);
        self.index.insert(entry.id(), seq);
        self.log.push(entry);
        Outcome::Admitted(seq)
    }

    pub(crate) fn admit(&mut self, arrived: Vec<Arrived>) -> Vec<Outcome> {
        let admit = |arrived: Arrived| match Entry::parse(arrived.block, arrived.payloads) {
            Ok(entry) if entry.tree() == tree() => self.add(entry),
            Ok(_) => Outcome::Refused(eid_core::Invalid::ForeignTree.into()),
            Err(refusal) => Outcome::Refused(refusal),
        };
        arrived.into_iter().map(admit).collect()
    }

    /// Writes an entry on top of those at these places.
    pub(crate) fn write(&mut self, author: u8, on: &[usize], text: &str) {
        let on: Vec<&Entry> = on.iter().map(|at| &self.log[*at]).collect();
        let highest = on.iter().map(|entry| entry.header().height).max().unwrap_or_default();
        let payload = Payload::encode("doc", text.as_bytes(), &[Bytes::from_static(&[0x81, 1])]);
        let store = StoreName::new(format!("store {}", author % 2)).expect("a short name");
        let draft = Draft {
            tree: Some(tree()),
            parents: on.iter().map(|entry| entry.id()).collect(),
            height: highest.child().expect("the chain is short"),
            time: Time::from_ms(highest.0 + 2),
            sections: vec![SectionDraft { store, enc: None, payload }],
            nonce: None,
        };
        self.add(draft.seal(&key(author)).expect("it is well formed"));
    }
}

impl Dag for Mem {
    fn parents(&self, from: Seq, count: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        Ok(self.parents.iter().skip(place(from)).take(count).cloned().collect())
    }
}

impl Replica for Mem {
    fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    fn end(&self) -> Seq {
        Seq(self.log.len() as u64)
    }

    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(self.tips.iter().map(|id| (*id, self.index[id])).collect())
    }

    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(ids.iter().map(|id| self.index.get(id).copied()).collect())
    }

    fn find_prefixes(&self, prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        let find = |prefix: &[u8; 8]| {
            let mut low = [0; 32];
            low[..8].copy_from_slice(prefix);
            let mut found = self.index.range(EntryId(low)..).take_while(|(id, _)| id.prefix() == *prefix);
            let first = found.next().map(|(_, seq)| *seq);
            first.filter(|_| found.next().is_none())
        };
        Ok(prefixes.iter().map(find).collect())
    }

    fn named(&self, from: Seq, count: usize) -> Result<Vec<Named>, ReadError> {
        let entries = self.log.iter().skip(place(from));
        let named = self.parents(from, count)?.into_iter().zip(entries);
        Ok(named.map(|(parents, entry)| Named { short: entry.id().prefix(), parents }).collect())
    }

    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        let mut sketch = Sketch::new(Salt::of(&tree()));
        self.log.iter().for_each(|entry| sketch.toggle(entry.id().prefix()));
        Ok(Some(sketch))
    }

    fn log(&self, range: Range<Seq>, bytes_max: usize) -> Result<Vec<Logged>, ReadError> {
        let (mut logged, mut bytes) = (Vec::new(), 0);
        let count = place(range.end).saturating_sub(place(range.start));
        for (at, entry) in self.log.iter().enumerate().skip(place(range.start)).take(count) {
            if bytes >= bytes_max {
                break;
            }
            bytes += entry.bytes_len();
            let (block, payloads) = (entry.block().clone(), entry.payloads().to_vec());
            logged.push(Logged { seq: Seq(at as u64), block, payloads });
        }
        Ok(logged)
    }

    fn missing(&self) -> u64 {
        self.lacked_from((Seq(0), 0)).count() as u64
    }

    fn lacking(&self, from: (Seq, usize), count: usize) -> Result<Vec<(Seq, usize)>, ReadError> {
        Ok(self.lacked_from(from).take(count).collect())
    }
}

fn place(seq: Seq) -> usize {
    usize::try_from(seq.0).unwrap_or(usize::MAX)
}
