//! Packed entries: what comes out is what went in, and what a stranger packs costs no more than it may.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use eid_core::pack::{Arrived, Bounds, UnpackError, pack, unpack};
use eid_core::{
    Draft, Entry, Nonce, Payload, Permission, SecretKey, SectionDraft, SettingsOp, Slot, StoreName, Time,
    TreeId,
};
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { entries: 512, bytes: 2 << 20 };

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn root() -> Entry {
    let key = key(1);
    let set = SettingsOp::Set { slot: Slot::Key(key.public()), permission: Permission::Admin(0) };
    Draft::root(Nonce([1; 16]), Time(5 << 16), &[SettingsOp::Rules(1), set]).seal(&key).unwrap()
}

fn carried(entry: &Entry) -> Arrived {
    Arrived { block: entry.block().clone(), payloads: entry.payloads().to_vec() }
}

/// One entry to be: how far back its parents are, who writes it, when, and how long what it writes to which stores is.
type Plan = (Vec<usize>, u8, u64, Vec<(u8, usize, bool)>);

fn written(tree: TreeId, entries: &[Entry], (back, author, time, sections): &Plan) -> Entry {
    let parents: Vec<&Entry> =
        back.iter().map(|back| &entries[entries.len() - 1 - back % entries.len()]).collect();
    let height = parents.iter().map(|parent| parent.header().height).max().unwrap();
    let sections = sections.iter().map(|(store, len, sealed)| SectionDraft {
        store: StoreName::new(format!("store {store}")).unwrap(),
        enc: sealed.then(|| Bytes::from(vec![7; 12])),
        payload: if *sealed {
            Bytes::from(vec![*author; *len])
        } else {
            Payload::encode("doc", &[*author], &[Bytes::from(vec![0x80; *len])])
        },
    });
    let mut sections: Vec<SectionDraft> = sections.collect();
    sections.sort_by(|a, b| a.store.cmp(&b.store));
    sections.dedup_by(|a, b| a.store == b.store);
    Draft {
        tree: Some(tree),
        parents: parents.iter().map(|parent| parent.id()).collect(),
        height: height.child().unwrap(),
        time: Time((6 << 16) + time),
        sections,
        nonce: None,
    }
    .seal(&key(*author))
    .unwrap()
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let sections = proptest::collection::vec((0u8..4, 0usize..80, any::<bool>()), 0..4);
    let plan = (proptest::collection::vec(0usize..9, 1..5), 1u8..5, 0u64..1 << 40, sections);
    proptest::collection::vec(plan, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_unpacked_is_what_was_packed(
        plans in plans(),
        skip in 0usize..20,
        withheld in proptest::collection::vec(any::<bool>(), 80),
        changed in proptest::option::of((0usize..20, any::<usize>(), 1u8..=255)),
    ) {
        let mut entries = vec![root()];
        for plan in &plans {
            entries.push(written(entries[0].tree(), &entries, plan));
        }
        let mut batch: Vec<Arrived> = entries.iter().skip(skip).map(carried).collect();
        let mut withheld = withheld.into_iter();
        for payload in batch.iter_mut().flat_map(|entry| &mut entry.payloads) {
            if withheld.next() == Some(true) {
                *payload = None;
            }
        }
        // What breaks the rules is carried as well: it is for the receiver to judge.
        if let Some((at, byte, flip)) = changed
            && let Some(entry) = batch.get_mut(at)
        {
            let mut block = entry.block.to_vec();
            let at = byte % block.len();
            block[at] ^= flip;
            entry.block = block.into();
        }
        let packed = pack(&entries[0].tree(), &batch);
        prop_assert_eq!(unpack(&entries[0].tree(), &packed, BOUNDS).unwrap(), batch);
    }

    #[test]
    fn whatever_arrives_is_unpacked_within_bounds_or_refused(
        plans in plans(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut in any::<usize>(),
    ) {
        let mut entries = vec![root()];
        for plan in &plans {
            entries.push(written(entries[0].tree(), &entries, plan));
        }
        let mut packed = pack(&entries[0].tree(), &entries.iter().map(carried).collect::<Vec<_>>()).to_vec();
        for (at, byte) in changes {
            let at = at % packed.len();
            packed[at] = byte;
        }
        packed.truncate(cut % (packed.len() + 1));
        let bounds = Bounds { entries: 9, bytes: 4096 };
        if let Ok(entries) = unpack(&entries[0].tree(), &packed.into(), bounds) {
            prop_assert!(entries.len() <= bounds.entries);
            prop_assert!(entries.iter().map(Arrived::bytes_len).sum::<usize>() <= bounds.bytes);
        }
    }
}

#[test]
fn an_entry_behind_another_costs_its_signature_its_payload_and_a_few_bytes() {
    let mut entries = vec![root()];
    for n in 0..100 {
        entries.push(written(entries[0].tree(), &entries, &(vec![0], 1, n << 20, vec![(0, 50, false)])));
    }
    let batch: Vec<Arrived> = entries[1..].iter().map(carried).collect();
    let packed = pack(&entries[0].tree(), &batch);
    let payloads: usize = entries[1..].iter().flat_map(Entry::payloads).flatten().map(Bytes::len).sum();
    let over = packed.len() - payloads - 64 * batch.len();
    assert!(over < 20 * batch.len(), "{over} bytes for {} entries", batch.len());
}

#[test]
fn what_is_not_there_cannot_be_referred_to() {
    let entries = [root()];
    let next = written(entries[0].tree(), &entries, &(vec![0], 1, 1, vec![(0, 5, false)]));
    let packed = pack(&next.tree(), &[carried(&entries[0]), carried(&next)]);
    let alone = pack(&next.tree(), &[carried(&entries[0])]);
    // Without the root before it, its parent is one step before the first.
    let torn = packed.slice(alone.len()..);
    assert_eq!(unpack(&next.tree(), &torn, BOUNDS), Err(UnpackError::Reference));
}

#[test]
fn more_than_may_come_at_once_is_refused() {
    let entries = [root()];
    let next = written(entries[0].tree(), &entries, &(vec![0], 1, 1, vec![(0, 5, false)]));
    let (tree, batch) = (next.tree(), [carried(&entries[0]), carried(&next)]);
    let packed = pack(&tree, &batch);
    let bytes = batch.iter().map(Arrived::bytes_len).sum();
    assert_eq!(unpack(&tree, &packed, Bounds { entries: 1, bytes }), Err(UnpackError::TooMuch));
    assert_eq!(unpack(&tree, &packed, Bounds { entries: 2, bytes: bytes - 1 }), Err(UnpackError::TooMuch));
    assert_eq!(unpack(&tree, &packed, Bounds { entries: 2, bytes }).unwrap(), batch);
}
