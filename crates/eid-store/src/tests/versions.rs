//! Old versions: what they show, and what they cost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use eid_core::cbor::{Reader, Writer};
use eid_core::dag::{InRun, Logged, Replica, Seq};
use eid_core::{
    Entry, EntryId, History, Judge, KeyMode, Payload, Permission, PublicKey, Question, Reach, ReadError,
    Refusal, SectionDraft, SettingsNode, SettingsOp, Slot, Stands, StoreName, TreeId,
};
use proptest::prelude::*;

use super::kit::*;
use crate::admit::{Job, Outcome};
use crate::limits::{CHECKPOINT_ENTRIES, SETTLED_ROWS};
use crate::standing::Portion;
use crate::{
    Applied, Apply, Backend, Change, Counting, Direction, EntryStore, Key, LOCAL_ROWS, Memory, Offer,
    StoreError, TreeSnapshot, Verdict, ViewRows, Wanted,
};

/// The last write to a key wins. `[0, key, n]` sets, `[1, key]` removes. Each write also leaves a row of its own, and
/// puts one row that is never read. With pages it notes each change in a page besides, which is cut where it was full
/// when it grew: which changes lie in one depends on the order in which they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells {
    paged: bool,
}

pub(super) const PLAIN: Cells = Cells { paged: false };
pub(super) const PAGED: Cells = Cells { paged: true };
/// Where pages are, and how many changes they hold.
const PAGES: [&[u8]; 2] = [b"G", b"H"];
const NOTED: &[u8] = b"N";

const CELLS: &str = "cells";

/// Keys that are prefixes of each other, with what an escape could trip over.
const KEYS: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"\x01", b"a", b"a\0", b"\xff\xff"];

fn rows_of(key: &[u8]) -> [Key; 2] {
    [[b"V", key].concat(), [b"T", key].concat()]
}

fn decode(op: &[u8]) -> Option<(bool, Vec<u8>, Bytes)> {
    let mut r = Reader::new(op);
    let parts = r.array(3).ok()?;
    let (code, key) = (r.uint().ok()?, r.bytes(8).ok()?.to_vec());
    let value = if parts == 3 { r.uint().ok()? } else { 0 };
    (code < 2).then(|| (code == 0, key, Bytes::copy_from_slice(&value.to_be_bytes())))
}

impl Cells {
    fn note(change: &Change<'_>, view: &mut dyn ViewRows) -> Result<(), ReadError> {
        let noted = view.get(NOTED)?.map_or(0, |count| u32::from_be_bytes(count[..].try_into().unwrap()));
        let page = [PAGES[0], &(noted / 3).to_be_bytes()].concat();
        let held = view.get(&page)?.unwrap_or_default();
        view.put(&page, [&held[..], &change.id.0].concat().into());
        view.put(NOTED, Bytes::copy_from_slice(&(noted + 1).to_be_bytes()));
        Ok(())
    }
}

/// What is noted, wherever it lies.
fn without_pages(rows: Vec<(Key, Bytes)>) -> Vec<(Key, Bytes)> {
    let (pages, mut others): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(key, _)| key.starts_with(PAGES[0]));
    let noted = pages.iter().flat_map(|(_, page)| page.chunks(32));
    others.extend(noted.map(|id| ([PAGES[0], id].concat(), Bytes::new())));
    others.sort();
    others
}

impl Apply for Cells {
    fn reads(&self, change: &Change<'_>, wanted: &mut Wanted) {
        if self.paged {
            wanted.key(NOTED);
            wanted.scan(PAGES[0], PAGES[1]);
        }
        for (_, key, _) in change.ops.iter().filter_map(|op| decode(op)) {
            rows_of(&key).iter().for_each(|row| wanted.key(row));
        }
    }

    fn apply(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        let mut applied = Applied::default();
        for op in change.ops {
            let Some((set, key, value)) = decode(op) else {
                applied.undecodable += 1;
                continue;
            };
            let [row, tomb] = rows_of(&key);
            let stamp = [&change.time.0.to_be_bytes()[..], &change.id.0].concat();
            let mut held = [view.get(&row)?, view.get(&tomb)?].into_iter().flatten();
            if held.all(|held| held[..40] < stamp[..]) {
                let (written, removed) = if set { (&row, &tomb) } else { (&tomb, &row) };
                view.put(written, [&stamp, &value[..]].concat().into());
                view.delete(removed);
            }
            view.put(&[b"O", &stamp[..], &key].concat(), value);
            view.put(b"P", Bytes::from_static(b"never read"));
        }
        if self.paged {
            Self::note(change, view)?;
        }
        Ok(applied)
    }

    fn apply_void(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        view.put(&[b"H", &change.id.0[..]].concat(), Bytes::from_static(b"hidden"));
        let undecodable = change.ops.iter().filter(|op| decode(op).is_none()).count();
        Ok(Applied { undecodable: u32::try_from(undecodable).unwrap() })
    }
}

/// Everybody may write. A removal voids what its key wrote outside the fence without knowing of it, until an entry is
/// accepted.
#[derive(Debug)]
pub(super) struct Removals;

impl Removals {
    fn closure(ids: &[EntryId], past: &dyn History) -> BTreeMap<EntryId, Arc<SettingsNode>> {
        let (mut open, mut found) = (ids.to_vec(), BTreeMap::new());
        while let Some(id) = open.pop() {
            if let std::collections::btree_map::Entry::Vacant(place) = found.entry(id) {
                let node = past.settings(&id).unwrap().expect("what is named is held");
                open.extend(&node.past);
                place.insert(node);
            }
        }
        found
    }
}

impl Judge for Removals {
    fn knows(&self, _: &TreeId, _: &PublicKey) -> bool {
        true
    }

    fn judge(&self, _: Question<'_>, _: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        Ok(Ok(()))
    }

    fn stands(
        &self,
        _: &TreeId,
        entry: Stands<'_>,
        known: &[EntryId],
        past: &dyn History,
    ) -> Result<bool, ReadError> {
        let (known, own) = (Self::closure(known, past), Self::closure(entry.past, past));
        let mut is_void = false;
        for node in known.values() {
            for op in &node.ops {
                match op {
                    SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence } }
                        if *slot == Slot::Key(entry.author) && !own.contains_key(&node.id) =>
                    {
                        is_void |= !past.includes(fence.as_deref().unwrap_or(&[node.id]), &(entry.id)()?)?;
                    }
                    SettingsOp::Accept(ids) if entry.settings.is_none() && ids.contains(&(entry.id)()?) => {
                        return Ok(true);
                    }
                    _ => {}
                }
            }
        }
        Ok(!is_void)
    }

    fn reach(
        &self,
        _: &TreeId,
        before: &[EntryId],
        known: &[EntryId],
        past: &dyn History,
    ) -> Result<Vec<Reach>, ReadError> {
        let before = Self::closure(before, past);
        let fresh = Self::closure(known, past).into_values().filter(|node| !before.contains_key(&node.id));
        let mut reaches = Vec::new();
        for node in fresh {
            reaches.extend(node.ops.iter().filter_map(|op| match op {
                SettingsOp::Revoke { mode: KeyMode::Remove { fence }, .. } => {
                    Some(Reach::Outside(fence.clone().unwrap_or_else(|| vec![node.id])))
                }
                SettingsOp::Accept(ids) => Some(Reach::Entries(ids.clone())),
                _ => None,
            }));
        }
        Ok(reaches)
    }
}

fn open(backend: Arc<dyn Backend>) -> Arc<EntryStore> {
    open_with(backend, PLAIN)
}

fn open_with(backend: Arc<dyn Backend>, cells: Cells) -> Arc<EntryStore> {
    open_portioned(backend, cells, Portion::default())
}

pub(super) fn open_portioned(backend: Arc<dyn Backend>, cells: Cells, portion: Portion) -> Arc<EntryStore> {
    EntryStore::open_with(backend, Arc::new(Removals), Arc::new(cells), [5; 32], portion).unwrap()
}

/// What an entry writes: a store, a key, and a value or nothing; or operation 9, which does not decode.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Set(&'static str, usize, u64),
    Remove(&'static str, usize),
    Unknown,
    Grant(u8),
    /// With a fence at the first parent, or without.
    Revoke(u8, bool),
    /// The parents.
    Accept,
}

fn entry(parents: &[&Entry], act: &Act) -> Entry {
    entry_by(3, parents, act)
}

pub(super) fn entry_by(author: u8, parents: &[&Entry], act: &Act) -> Entry {
    let mut w = Writer::new();
    let store = match act {
        Act::Set(store, key, n) => {
            w.array(3).uint(0).bytes(KEYS[*key]).uint(*n);
            store
        }
        Act::Remove(store, key) => {
            w.array(2).uint(1).bytes(KEYS[*key]);
            store
        }
        Act::Unknown => {
            w.array(2).uint(9).bytes(b"");
            "x"
        }
        Act::Grant(n) => return settings_child(parents, &[grant(*n, Permission::Write)]),
        Act::Revoke(n, has_fence) => {
            let fence = has_fence.then(|| vec![parents[0].id()]);
            let op =
                SettingsOp::Revoke { slot: Slot::Key(key(*n).public()), mode: KeyMode::Remove { fence } };
            return settings_child(parents, &[op]);
        }
        Act::Accept => {
            let mut ids: Vec<EntryId> = parents.iter().map(|parent| parent.id()).collect();
            ids.sort_unstable();
            ids.dedup();
            return settings_child(parents, &[SettingsOp::Accept(ids)]);
        }
    };
    let payload = Payload::encode(CELLS, &[], &[w.into_bytes()]);
    let section = SectionDraft { store: StoreName::new(store).unwrap(), enc: None, payload };
    draft(parents, vec![section]).seal(&key(author)).unwrap()
}

/// Everything that can be read of a version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version {
    tips: Vec<EntryId>,
    ids: BTreeSet<EntryId>,
    count: u64,
    height: u64,
    time: u64,
    settings: Vec<EntryId>,
    stores: Vec<(String, String, u64, u64)>,
    rows: BTreeMap<&'static str, Vec<(Key, Bytes)>>,
    pub voids: BTreeSet<EntryId>,
}

/// Names what is different first: everything of two versions is long.
pub(super) fn assert_same(seen: &Version, expected: &Version) {
    assert_eq!(seen.ids, expected.ids);
    assert_eq!(seen.voids, expected.voids);
    for (store, rows) in &seen.rows {
        let [rows, others]: [BTreeMap<_, _>; 2] =
            [rows, &expected.rows[store]].map(|rows| rows.iter().cloned().collect());
        for key in rows.keys().chain(others.keys()) {
            assert_eq!(rows.get(key), others.get(key), "{store}: {:?}", Bytes::from(key.clone()));
        }
    }
    assert_eq!(seen, expected);
}

const STORES: [&str; 2] = ["x", "y"];

pub(super) fn see_version(snapshot: &TreeSnapshot) -> Version {
    let mut rows = BTreeMap::new();
    for name in STORES {
        let view = snapshot.view(&StoreName::new(name).unwrap(), CELLS);
        let all = view.scan(b"", None, Direction::Forward, usize::MAX).unwrap();
        // However it is read, it is the same.
        let mut back = view.scan(b"", None, Direction::Backward, usize::MAX).unwrap();
        back.reverse();
        assert_eq!(back, all);
        let mut paged: Vec<(Key, Bytes)> = Vec::new();
        loop {
            let from = paged.last().map_or(Vec::new(), |(key, _)| [&key[..], &[0]].concat());
            let page = view.scan(&from, None, Direction::Forward, 2).unwrap();
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all);
        let keys: Vec<Key> = KEYS.iter().flat_map(|key| rows_of(key)).collect();
        let known: BTreeMap<_, _> = all.iter().cloned().collect();
        let singly: Vec<_> = keys.iter().map(|key| known.get(key).cloned()).collect();
        assert_eq!(view.get_many(&keys).unwrap(), singly);
        for (i, from) in keys.iter().enumerate().step_by(5) {
            for to in keys.iter().skip(i).step_by(3).filter(|to| *to > from) {
                let range = view.scan(from, Some(to), Direction::Forward, usize::MAX).unwrap();
                let expected = known.range(from.clone()..to.clone());
                assert!(range.iter().map(|(k, v)| (k, v)).eq(expected), "{from:?} {to:?}");
            }
        }
        rows.insert(name, without_pages(all));
    }
    let logged = snapshot.log(Seq(0)..snapshot.end(), usize::MAX).unwrap();
    let ids: BTreeSet<EntryId> = logged.iter().map(|logged| EntryId::of_block(&logged.block)).collect();
    let run = snapshot.run(Seq(0)..snapshot.end(), usize::MAX).unwrap();
    let of_run = |entry: InRun<'_>| (entry.seq(), EntryId::of_block(entry.block()), entry.short());
    let of_log = |logged: &Logged| (logged.seq, EntryId::of_block(&logged.block));
    assert!(run.iter().map(of_run).eq(logged.iter().map(of_log).map(|(seq, id)| (seq, id, id.prefix()))));
    let nodes = snapshot.nodes(Seq(0), usize::MAX >> 1).unwrap();
    assert_eq!(nodes.len(), logged.len());
    let seqs: Vec<Seq> = nodes.iter().map(|node| node.seq).collect();
    let voids = seqs.iter().zip(snapshot.stand(&seqs).unwrap()).filter(|(_, stands)| !stands);
    let voids = voids.map(|(seq, _)| snapshot.id_at(*seq).unwrap()).collect();
    let stores = snapshot.stores().unwrap().into_iter();
    Version {
        voids,
        tips: snapshot.tips().unwrap().into_iter().map(|(id, _)| id).collect(),
        ids,
        count: snapshot.count(),
        height: snapshot.height().0,
        time: snapshot.time().0,
        settings: snapshot.settings_frontier().unwrap(),
        stores: stores.map(|s| (s.name.to_string(), s.kind, s.entries, s.undecodable)).collect(),
        rows,
    }
}

/// A store that was given these entries and what they descend from, and nothing else.
pub(super) fn fresh(
    held: &BTreeMap<EntryId, Offer>,
    parents: &BTreeMap<EntryId, Vec<EntryId>>,
    tips: &[EntryId],
) -> Version {
    let (mut open_ids, mut wanted) = (tips.to_vec(), BTreeSet::new());
    while let Some(id) = open_ids.pop() {
        if wanted.insert(id) {
            open_ids.extend(&parents[&id]);
        }
    }
    let store = open_with(Arc::new(Memory::new()), PAGED);
    let tree = TreeId(root().id().0);
    let offers = wanted.iter().map(|id| held[id].clone()).collect();
    admit_offers(&store, tree, offers);
    store.settle(&tree).unwrap();
    see_version(&store.tree(&tree).unwrap().unwrap())
}

/// How a history arrives.
#[derive(Debug, Clone)]
struct Arrival {
    /// For each entry who writes it, what, and which of those before it are its parents, counted from the last.
    entries: Vec<(u8, Act, Vec<usize>)>,
    /// Which of those that may come comes next.
    order: Vec<usize>,
    batches: Vec<usize>,
    /// Which payloads come later, and after how many batches; those that never do come after too many.
    late: BTreeMap<usize, usize>,
    /// Which versions are looked at.
    asked: Vec<Vec<usize>>,
    /// After which batches views are brought in line with what counts; at the end in any case.
    settled: BTreeSet<usize>,
    /// How many entries, and bytes of rows, they take in at once.
    portion: (usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let store = proptest::sample::select(&STORES[..]);
    prop_oneof![
        6 => (store.clone(), 0..KEYS.len(), 0..50u64).prop_map(|(store, key, n)| Act::Set(store, key, n)),
        3 => (store, 0..KEYS.len()).prop_map(|(store, key)| Act::Remove(store, key)),
        1 => Just(Act::Unknown),
        1 => (10..13u8).prop_map(Act::Grant),
        1 => (3..6u8, any::<bool>()).prop_map(|(key, has_fence)| Act::Revoke(key, has_fence)),
        1 => Just(Act::Accept),
    ]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    (10..60usize).prop_flat_map(|count| {
        let parents = prop_oneof![
            3 => Just(vec![0]),
            1 => proptest::collection::vec(0..5usize, 1..4),
            1 => proptest::collection::vec(0..40usize, 1..3),
        ];
        (
            proptest::collection::vec((3..6u8, act(), parents), count),
            proptest::collection::vec(prop_oneof![2 => Just(0usize), 1 => 0..50usize], count),
            proptest::collection::vec(1..20usize, count),
            proptest::collection::btree_map(0..count, 1..12usize, 0..4),
            proptest::collection::vec(proptest::collection::vec(0..=count, 1..4), 6),
            proptest::collection::btree_set(0..count, 0..8),
            (prop_oneof![1..4usize, Just(1000)], prop_oneof![2 => 1..2000usize, 1 => Just(1 << 20)]),
        )
            .prop_map(|(entries, order, batches, late, asked, settled, portion)| Arrival {
                entries,
                order,
                batches,
                late,
                asked,
                settled,
                portion,
            })
    })
}

/// Admits without bringing views in line with what counts, as when the process ends before that.
pub(super) fn admit_alone(store: &EntryStore, tree: TreeId, offers: Vec<Offer>) -> Vec<Verdict> {
    match store.submit(Job::Foreign(vec![store.prepare(tree, offers).unwrap()])).unwrap() {
        Outcome::Foreign(mut admissions) => admissions.remove(0).verdicts,
        other => panic!("{other:?}"),
    }
}

fn check(arrival: &Arrival) {
    let root = root();
    let tree = root.tree();
    let mut entries = vec![root];
    for (author, act, parents) in &arrival.entries {
        let chosen: BTreeSet<usize> =
            parents.iter().map(|back| entries.len() - 1 - back % entries.len()).collect();
        let chosen: Vec<&Entry> = chosen.iter().map(|index| &entries[*index]).collect();
        entries.push(entry_by(*author, &chosen, act));
    }
    let parents: BTreeMap<EntryId, Vec<EntryId>> =
        entries.iter().map(|entry| (entry.id(), entry.header().parents.clone())).collect();
    // A causal order.
    let (mut left, mut order) = (entries.iter().collect::<Vec<_>>(), Vec::new());
    let mut came = BTreeSet::new();
    while !left.is_empty() {
        let ready: Vec<usize> =
            (0..left.len()).filter(|i| left[*i].header().parents.iter().all(|p| came.contains(p))).collect();
        let pick = arrival.order.get(order.len()).copied().unwrap_or_default() % ready.len();
        let next = left.remove(ready[pick]);
        came.insert(next.id());
        order.push(next);
    }
    let portion = Portion { entries: arrival.portion.0, bytes: arrival.portion.1 };
    let store = open_portioned(Arc::new(Memory::new()), PAGED, portion);
    let mut held: BTreeMap<EntryId, Offer> = BTreeMap::new();
    let mut waiting: Vec<(usize, &Entry)> = Vec::new();
    let mut at = 0;
    for (number, size) in arrival.batches.iter().enumerate() {
        let mut offers = Vec::new();
        waiting.retain(|(due, late)| {
            if *due <= number {
                offers.push(offer(late));
            }
            *due > number
        });
        for entry in order.iter().skip(at).take(*size) {
            let index = entries.iter().position(|other| other.id() == entry.id()).unwrap();
            let bare = !entry.header().is_settings() && !entry.header().sections.is_empty();
            match arrival.late.get(&index).filter(|_| bare) {
                Some(after) => {
                    waiting.push((number + after, entry));
                    offers.push(Offer { block: entry.block().clone(), payloads: vec![None] });
                }
                None => offers.push(offer(entry)),
            }
        }
        at += size;
        if offers.is_empty() {
            continue;
        }
        for verdict in admit_alone(&store, tree, offers.clone()) {
            assert!(!matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
        }
        for offer in offers {
            held.insert(EntryId::of_block(&offer.block), offer);
        }
        if arrival.settled.contains(&number) || at >= order.len() {
            store.settle(&tree).unwrap();
            assert!(!store.tree(&tree).unwrap().unwrap().is_stale());
        } else if number % 2 == 0 {
            // The rest is taken in when more has come.
            let memory = store.memory(&tree).unwrap();
            let taken = store.settle_portion(&tree, &memory, &mut portion.clone()).unwrap();
            assert_eq!(store.tree(&tree).unwrap().unwrap().is_stale(), taken.has_more);
        }
        if number % 3 == 0 || at >= order.len() {
            assert_eq!(store.fsck(false, &mut |_, _| {}).unwrap().problems, []);
            let snapshot = store.tree(&tree).unwrap().unwrap();
            let present: Vec<EntryId> = snapshot.tips().unwrap().into_iter().map(|(id, _)| id).collect();
            for asked in &arrival.asked {
                let tips: BTreeSet<EntryId> = asked.iter().map(|i| entries[*i].id()).collect();
                let tips: Vec<EntryId> = tips.into_iter().filter(|id| held.contains_key(id)).collect();
                if !tips.is_empty() && (tips != present || !snapshot.is_stale()) {
                    let version = snapshot.at(&tips, &PAGED).unwrap();
                    assert_same(&see_version(&version), &fresh(&held, &parents, &tips));
                    let again = version.at(&tips, &PAGED).unwrap();
                    assert_eq!(again.count(), version.count());
                }
            }
        }
    }
    let snapshot = store.tree(&tree).unwrap().unwrap();
    let present: Vec<EntryId> = snapshot.tips().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_same(&see_version(&snapshot), &fresh(&held, &parents, &present));
    assert_eq!(snapshot.void_entries(), see_version(&snapshot).voids.len() as u64);
    let report = store.fsck(false, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_version_is_what_a_store_shows_that_was_given_nothing_else(arrival in arrival()) {
        check(&arrival);
    }
}

/// A store with one long chain, and the ids of its entries.
fn chain(store: &EntryStore, count: u64) -> Vec<EntryId> {
    let root = root();
    let mut entries = vec![root];
    for n in 1..count {
        let act = Act::Set("x", (n % 9) as usize, n);
        entries.push(entry(&[&entries[entries.len() - 1]], &act));
    }
    for batch in entries.chunks(100) {
        admit(store, &batch.iter().collect::<Vec<_>>());
    }
    entries.iter().map(Entry::id).collect()
}

#[test]
fn an_old_version_of_a_long_chain_costs_what_a_checkpoint_holds() {
    for count in [60u64, 600, 2400] {
        let backend = Arc::new(Counting::new(Memory::new()));
        let store = open(backend.clone());
        let ids = chain(&store, count);
        let tree = root().tree();
        for age in [1, count / 2, count - 20, count - 2] {
            let snapshot = store.tree(&tree).unwrap().unwrap();
            let before = backend.counts();
            let version = snapshot.at(&[ids[(count - 1 - age) as usize]], &PLAIN).unwrap();
            assert_eq!(version.count(), count - age);
            let view = version.view(&StoreName::new("x").unwrap(), CELLS);
            assert!(view.get(&rows_of(KEYS[1])[0]).unwrap().is_some() || version.count() < 3);
            let spent = backend.counts() - before;
            assert!(spent.rows_read <= 8 * CHECKPOINT_ENTRIES, "{count} {age}: {spent:?}");
            assert!(spent.reads <= 16, "{count} {age}: {spent:?}");
        }
    }
}

#[test]
fn a_version_that_is_not_held_is_refused_and_the_present_one_is_itself() {
    let store = open(Arc::new(Memory::new()));
    let ids = chain(&store, 30);
    let snapshot = store.tree(&root().tree()).unwrap().unwrap();
    let refused = snapshot.at(&[ids[3], EntryId([1; 32])], &PLAIN);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let version = snapshot.at(&[ids[29]], &PLAIN).unwrap();
    assert_eq!(see_version(&version), see_version(&snapshot));
    let nothing = snapshot.at(&[], &PLAIN).unwrap();
    assert_eq!((nothing.count(), nothing.stores().unwrap().len()), (0, 0));
}

#[test]
fn rows_of_this_device_are_in_no_old_version() {
    let store = open(Arc::new(Memory::new()));
    let ids = chain(&store, 30);
    let (tree, name) = (root().tree(), StoreName::new("x").unwrap());
    store
        .maintain(&tree, &name, CELLS, &mut |view| {
            view.put(&[LOCAL_ROWS.start, 1], Bytes::from_static(b"index"));
            Ok(())
        })
        .unwrap();
    let snapshot = store.tree(&tree).unwrap().unwrap();
    let key = [LOCAL_ROWS.start, 1];
    assert!(snapshot.view(&name, CELLS).get(&key).unwrap().is_some());
    let version = snapshot.at(&[ids[28]], &PLAIN).unwrap().view(&name, CELLS);
    assert!(version.get(&key).unwrap().is_none());
    let rows = version.scan(b"", None, Direction::Forward, usize::MAX).unwrap();
    assert!(rows.iter().all(|(key, _)| key[0] != LOCAL_ROWS.start));
}

/// What sets a value of one key in each of the stores.
fn entry_in_both(parents: &[&Entry], n: u64) -> Entry {
    let sections = STORES.map(|store| {
        let mut w = Writer::new();
        w.array(3).uint(0).bytes(KEYS[5]).uint(n);
        let payload = Payload::encode(CELLS, &[], &[w.into_bytes()]);
        SectionDraft { store: StoreName::new(store).unwrap(), enc: None, payload }
    });
    draft(parents, sections.to_vec()).seal(&key(3)).unwrap()
}

#[test]
fn sections_of_one_entry_that_are_filled_at_different_times_count_once() {
    let store = open_with(Arc::new(Memory::new()), PAGED);
    let mut entries = vec![root()];
    let tree = entries[0].tree();
    admit(&store, &[&entries[0]]);
    let first = |entry: &Entry| Offer {
        block: entry.block().clone(),
        payloads: vec![entry.payloads()[0].clone(), None],
    };
    let bare = |entry: &Entry| Offer { block: entry.block().clone(), payloads: vec![None, None] };
    for n in 1..4 * CHECKPOINT_ENTRIES {
        let last = &entries[entries.len() - 1];
        entries.push(entry_in_both(&[last], n));
        let (index, late) = (entries.len() - 1, [1, 2]);
        let is_late = late.contains(&index);
        let made = &entries[index];
        admit_offers(&store, tree, vec![if is_late { bare(made) } else { offer(made) }]);
        // One section of the first, all of the second, and then the other one of the first.
        if n == CHECKPOINT_ENTRIES + 1 {
            admit_offers(&store, tree, vec![first(&entries[1]), offer(&entries[2])]);
        }
        if n == 2 * CHECKPOINT_ENTRIES + 1 {
            admit_offers(&store, tree, vec![offer(&entries[1])]);
        }
    }
    let parents = entries.iter().map(|entry| (entry.id(), entry.header().parents.clone())).collect();
    let held = entries.iter().map(|entry| (entry.id(), offer(entry))).collect();
    let snapshot = store.tree(&tree).unwrap().unwrap();
    for entry in &entries {
        let version = snapshot.at(&[entry.id()], &PAGED).unwrap();
        assert_eq!(see_version(&version), fresh(&held, &parents, &[entry.id()]));
    }
}

/// One entry of key 3 beside a removal of that key, which is taken in only after many others, by when the entry is
/// accepted again.
#[test]
fn a_version_between_a_removal_and_its_pardon_does_not_count_what_was_removed() {
    let step = CHECKPOINT_ENTRIES as usize;
    let write = (4, Act::Set("x", 0, 0), vec![0]);
    let mut entries =
        vec![write.clone(), (3, Act::Set("x", 1, 1), vec![1]), (4, Act::Revoke(3, false), vec![1])];
    entries.extend(vec![write; 2 * step]);
    let end = entries.len();
    entries.push((4, Act::Accept, vec![end - 2]));
    let arrival = Arrival {
        entries,
        order: Vec::new(),
        batches: vec![end + 2],
        late: BTreeMap::new(),
        asked: vec![vec![2, 3], vec![2, end - 1], vec![3], vec![end]],
        settled: BTreeSet::new(),
        portion: (1000, 1 << 20),
    };
    check(&arrival);
}

/// What one key writes is removed by somebody who does not know of it, again and again.
#[test]
fn a_late_version_does_not_read_what_counts_otherwise_since_long_ago() {
    let cost = |removals: u8| {
        let backend = Arc::new(Counting::new(Memory::new()));
        let store = open(backend.clone());
        let mut last = root();
        let tree = last.tree();
        admit(&store, &[&last]);
        for n in 0..removals {
            let write = entry_by(100 + n, &[&last], &Act::Set("x", 1, 1));
            let removal = entry_by(2, &[&last], &Act::Revoke(100 + n, true));
            last = entry_by(4, &[&write, &removal], &Act::Set("x", 2, 2));
            admit(&store, &[&write, &removal, &last]);
        }
        let entries: Vec<Entry> = (0..20)
            .map(|n| {
                let next = entry(&[&last], &Act::Set("x", 3, n));
                last = next.clone();
                next
            })
            .collect();
        admit(&store, &entries.iter().collect::<Vec<_>>());
        let snapshot = store.tree(&tree).unwrap().unwrap();
        assert_eq!(
            (snapshot.standing_changes(), snapshot.void_entries()),
            (u64::from(removals), u64::from(removals))
        );
        let version = snapshot.at(&[entries[17].id()], &PLAIN).unwrap();
        assert_eq!(version.count(), snapshot.count() - 2);
        let before = backend.counts();
        snapshot.at(&[entries[17].id()], &PLAIN).unwrap();
        (backend.counts() - before).rows_read
    };
    let (few, many) = (cost(16), cost(64));
    assert!(many <= few + SETTLED_ROWS as u64, "{few} {many}");
}
