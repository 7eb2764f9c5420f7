//! A judge, a kind of store and entries made by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::cbor::Writer;
use eid_core::dag::{Replica, Seq};
use eid_core::{
    Draft, Entry, EntryId, Height, History, Invalid, Judge, KeyMode, Nonce, Payload, Permission, PublicKey,
    Question, ReadError, Refusal, SecretKey, SectionDraft, SettingsOp, Slot, StoreName, Time, TreeId,
};

use crate::{
    Applied, Apply, Backend, Change, Durability, EntryStore, LocalCommit, Memory, Offer, Parents, StoreError,
    Verdict, ViewRows, Wanted,
};

/// Grants what any settings entry in the past grants and none revokes.
#[derive(Debug, Default)]
pub(super) struct Simple {
    /// Authors that are said to be unknown beforehand.
    pub strangers: BTreeSet<PublicKey>,
}

impl Judge for Simple {
    fn knows(&self, _: &TreeId, author: &PublicKey) -> bool {
        !self.strangers.contains(author)
    }

    fn judge(&self, question: Question<'_>, past: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        if question.entry.is_root() {
            return Ok(Ok(()));
        }
        let author = Slot::Key(question.entry.header().author);
        let mut open = question.past.to_vec();
        let mut seen = BTreeSet::new();
        let (mut best, mut revoked) = (None, false);
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let node = past.settings(&id)?.expect("the past of a judged entry is there");
            for op in &node.ops {
                match op {
                    SettingsOp::Set { slot, permission } if *slot == author => {
                        best = best.max(Some(*permission));
                    }
                    SettingsOp::Revoke { slot, .. } if *slot == author => revoked = true,
                    _ => {}
                }
            }
            open.extend(&node.past);
        }
        let needed = if question.entry.header().is_settings() {
            Permission::Admin(u32::MAX)
        } else {
            Permission::Write
        };
        let may = !revoked && best.is_some_and(|permission| permission >= needed);
        Ok(if may { Ok(()) } else { Err(Invalid::NotPermitted.into()) })
    }
}

/// Keeps every operation once, under its stamp, and how many there are. `[9]` does not decode.
#[derive(Debug)]
pub(super) struct Stamps;

pub(super) const KIND: &str = "stamps";

impl Apply for Stamps {
    fn reads(&self, _: &Change<'_>, wanted: &mut Wanted) {
        wanted.key(b"count");
        wanted.scan(b"op/", b"op0");
    }

    fn apply(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        let mut applied = Applied::default();
        for (index, op) in change.ops.iter().enumerate() {
            if op[..] == [0x81, 9] {
                applied.undecodable += 1;
                continue;
            }
            let stamp = [&change.time.0.to_be_bytes()[..], &change.id.0, &[index as u8]].concat();
            view.put(&[b"op/", &stamp[..]].concat(), op.clone());
        }
        let count = view.scan(b"op/", b"op0")?.len() as u64;
        let _before = view.get(b"count")?;
        view.put(b"count", Bytes::copy_from_slice(&count.to_be_bytes()));
        Ok(applied)
    }
}

pub(super) fn key(n: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed([n; 32]))
}

pub(super) fn op(n: u64) -> Bytes {
    let mut w = Writer::new();
    w.array(1).uint(n);
    w.into_bytes().into()
}

pub(super) fn payload(ops: &[u64]) -> Bytes {
    Payload::encode(KIND, &[], &ops.iter().map(|n| op(*n)).collect::<Vec<_>>())
}

pub(super) fn section(store: &str, ops: &[u64]) -> SectionDraft {
    SectionDraft { store: StoreName::new(store).unwrap(), enc: None, payload: payload(ops) }
}

pub(super) fn grant(n: u8, permission: Permission) -> SettingsOp {
    SettingsOp::Set { slot: Slot::Key(key(n).public()), permission }
}

pub(super) fn revoke(n: u8) -> SettingsOp {
    SettingsOp::Revoke { slot: Slot::Key(key(n).public()), mode: KeyMode::Leave }
}

/// Key 1 signs roots, key 2 is the first device, key 3 may write.
pub(super) fn root() -> Entry {
    let ops = [
        SettingsOp::Rules(1),
        grant(1, Permission::Admin(0)),
        grant(2, Permission::Admin(1)),
        grant(3, Permission::Write),
    ];
    Draft::root(Nonce([7; 16]), Time::from_ms(1000), &ops).seal(&key(1)).unwrap()
}

/// A draft that is in place below its parents.
pub(super) fn draft(parents: &[&Entry], sections: Vec<SectionDraft>) -> Draft {
    let height = parents.iter().map(|parent| parent.header().height).max().unwrap();
    let time = parents.iter().map(|parent| parent.header().time).max().unwrap();
    Draft {
        tree: Some(parents[0].tree()),
        parents: parents.iter().map(|parent| parent.id()).collect(),
        height: height.child().unwrap(),
        time: Time(time.0 + 1),
        sections,
        nonce: None,
    }
}

/// An entry of key 3 that writes `n` to the store "a".
pub(super) fn child(parents: &[&Entry], n: u64) -> Entry {
    draft(parents, vec![section("a", &[n])]).seal(&key(3)).unwrap()
}

pub(super) fn settings_child(parents: &[&Entry], ops: &[SettingsOp]) -> Entry {
    draft(parents, vec![SectionDraft::settings(ops, &[])]).seal(&key(2)).unwrap()
}

pub(super) fn offer(entry: &Entry) -> Offer {
    Offer { block: entry.block().clone(), payloads: entry.payloads().to_vec() }
}

pub(super) fn open_on(backend: Arc<dyn Backend>) -> Arc<EntryStore> {
    EntryStore::open(backend, Arc::new(Simple::default()), Arc::new(Stamps), [5; 32]).unwrap()
}

pub(super) fn store() -> Arc<EntryStore> {
    open_on(Arc::new(Memory::new()))
}

/// A store that holds the root.
pub(super) fn store_with_root() -> (Arc<EntryStore>, Entry) {
    let (store, root) = (store(), root());
    assert_eq!(admit(&store, &[&root]), [Verdict::Admitted(Seq(0))]);
    (store, root)
}

pub(super) fn admit(store: &EntryStore, entries: &[&Entry]) -> Vec<Verdict> {
    let tree = entries[0].tree();
    admit_offers(store, tree, entries.iter().map(|entry| offer(entry)).collect())
}

pub(super) fn admit_offers(store: &EntryStore, tree: TreeId, offers: Vec<Offer>) -> Vec<Verdict> {
    store.admit(store.prepare(tree, offers).unwrap()).unwrap().verdicts
}

/// The codes of what was refused, and `ok` or `dup` for the rest.
pub(super) fn codes(verdicts: &[Verdict]) -> Vec<&'static str> {
    verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Admitted(_) => "ok",
            Verdict::Duplicate(_) => "dup",
            Verdict::Refused(refusal) => refusal.code(),
        })
        .collect()
}

pub(super) fn write(tree: TreeId, ops: &[u64]) -> LocalCommit {
    LocalCommit {
        tree: Some(tree),
        author: key(3),
        now_ms: 5000,
        parents: Parents::AtSeal,
        sections: vec![section("a", ops)],
        nonce: None,
        durability: Durability::Durable,
    }
}

/// Everything that can be read of a tree, for comparing stores.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub ids: BTreeSet<EntryId>,
    pub tips: Vec<EntryId>,
    pub rows: Vec<(Vec<u8>, Bytes)>,
    pub bytes: u64,
    pub settings: Vec<EntryId>,
    pub stores: Vec<(String, String, u64, u64)>,
}

pub(super) fn see(store: &EntryStore, tree: TreeId) -> Result<Seen, StoreError> {
    let snapshot = store.tree(&tree)?.ok_or(StoreError::UnknownTree)?;
    let view = snapshot.view(&StoreName::new("a").unwrap(), KIND);
    let ids = (0..snapshot.count()).map(|seq| snapshot.id_at(Seq(seq))).collect::<Result<_, _>>()?;
    let stores = snapshot.stores()?.into_iter();
    Ok(Seen {
        ids,
        tips: snapshot.tips()?.into_iter().map(|(id, _)| id).collect(),
        rows: view.scan(b"", None, crate::Direction::Forward, usize::MAX)?,
        bytes: snapshot.bytes(),
        settings: snapshot.settings_frontier()?,
        stores: stores.map(|s| (s.name.to_string(), s.kind, s.entries, s.undecodable)).collect(),
    })
}

pub(super) fn height(n: u64) -> Height {
    Height(n)
}
