//! Packed entries: what comes out is what went in, and what a stranger packs costs no more than it may.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use eid_core::cbor::Writer;
use eid_core::dag::{Run, Seq};
use eid_core::limits::{
    BLOBS_MAX, ENC_BYTES_MAX, HEADER_BYTES_MAX, PARENTS_MAX, PAYLOAD_BYTES_MAX, SECTIONS_MAX,
    STORE_NAME_BYTES_MAX,
};
use eid_core::pack::{Arrived, Bounds, UnpackError, pack, pack_stored, unpack};
use eid_core::{
    Draft, Entry, EntryId, Header, Invalid, Nonce, Payload, Permission, SecretKey, SectionDraft, SettingsOp,
    Signed, Slot, StoreName, Time, TreeId,
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

/// The id of an entry, and where its parents lie.
type Name = (EntryId, Vec<Seq>);

/// What befalls the edges.
type Damage = dyn Fn(&mut Vec<Name>);

/// Entries as they lie in a log, and where the edges say that their parents lie.
fn stored(entries: &[Arrived], named: &[Name]) -> Run {
    let mut bytes = Vec::new();
    let mut lay = |part: &Bytes| {
        bytes.extend_from_slice(part);
        bytes.len() - part.len()..bytes.len()
    };
    let mut places = Vec::new();
    for entry in entries {
        let block = lay(&entry.block);
        let payloads = entry.payloads.iter().map(|payload| payload.as_ref().map(&mut lay));
        places.push((block, payloads.collect::<Vec<_>>()));
    }
    let mut run = Run::new(bytes.into());
    for (seq, ((block, payloads), (id, parents))) in (0..).zip(places.into_iter().zip(named)) {
        run.push(Seq(seq), block, payloads, id.prefix(), parents.iter().copied());
    }
    run
}

/// The ids of entries, and where their parents lie.
fn named(entries: &[Entry]) -> Vec<Name> {
    let at = |id: &EntryId| Seq(entries.iter().position(|entry| entry.id() == *id).unwrap() as u64);
    entries.iter().map(|entry| (entry.id(), entry.header().parents.iter().map(at).collect())).collect()
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
    fn what_a_store_holds_is_packed_to_the_same_bytes(
        plans in plans(),
        sent in proptest::collection::vec(any::<bool>(), 20),
        withheld in proptest::collection::vec(any::<bool>(), 80),
    ) {
        let mut entries = vec![root()];
        for plan in &plans {
            entries.push(written(entries[0].tree(), &entries, plan));
        }
        entries.dedup_by_key(|entry| entry.id());
        let mut batch: Vec<Arrived> = entries.iter().map(carried).collect();
        let mut withheld = withheld.into_iter();
        for payload in batch.iter_mut().flat_map(|entry| &mut entry.payloads) {
            if withheld.next() == Some(true) {
                *payload = None;
            }
        }
        let run = stored(&batch, &named(&entries));
        let is_sent = |at: usize| sent.get(at).copied().unwrap_or(true);
        let tree = entries[0].tree();
        let packed = pack_stored(&tree, run.iter().filter(|entry| is_sent(entry.seq().0 as usize)));
        let batch: Vec<Arrived> =
            batch.into_iter().enumerate().filter(|(at, _)| is_sent(*at)).map(|(_, entry)| entry).collect();
        prop_assert_eq!(&packed, &pack(&tree, &batch));
        prop_assert_eq!(unpack(&tree, &packed, BOUNDS).unwrap(), batch);
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

/// A root and two lines above it.
fn two_lines() -> Vec<Entry> {
    let mut entries = vec![root()];
    for n in 0..10 {
        entries.push(written(entries[0].tree(), &entries, &(vec![1], 1, n << 20, vec![(0, 50, false)])));
    }
    entries
}

#[test]
fn edges_that_do_not_agree_with_a_block_are_not_followed() {
    let entries = two_lines();
    let (tree, batch): (_, Vec<Arrived>) = (entries[0].tree(), entries.iter().map(carried).collect());
    let sound = named(&entries);
    let packed = pack_stored(&tree, stored(&batch, &sound).iter());
    let damage: [&Damage; 4] = [
        &|named| named[7].1[0] = Seq(6),
        &|named| named[7].1[0] = Seq(7),
        &|named| named[7].1.clear(),
        &|named| named[5].0 = EntryId([1; 32]),
    ];
    for damage in damage {
        let mut named = sound.clone();
        damage(&mut named);
        let longer = pack_stored(&tree, stored(&batch, &named).iter());
        assert_eq!(unpack(&tree, &longer, BOUNDS).unwrap(), batch);
        assert!(longer.len() > packed.len());
    }
}

#[test]
fn what_is_damaged_in_a_store_does_not_pass_for_what_was_signed() {
    let entries = two_lines();
    let tree = entries[0].tree();
    let arrive = |damage: &dyn Fn(&mut Arrived)| {
        let mut batch: Vec<Arrived> = entries.iter().map(carried).collect();
        damage(&mut batch[4]);
        let packed = pack_stored(&tree, stored(&batch, &named(&entries)).iter());
        let arrived = unpack(&tree, &packed, BOUNDS).unwrap();
        let checked = arrived.iter().map(|arrived| {
            Entry::parse(arrived.block.clone(), arrived.payloads.clone())
                .and_then(|entry| Ok(Signed::check(entry)?))
        });
        let refused = checked.enumerate().filter_map(|(at, checked)| Some((at, checked.err()?)));
        refused.collect::<Vec<_>>()
    };
    let flipped = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let payload = |entry: &Arrived| entry.payloads[0].clone().unwrap();
    assert_eq!(arrive(&|_| {}), []);
    let changed = |entry: &mut Arrived| entry.payloads = vec![Some(flipped(&payload(entry), 20))];
    // Those that descend from it are named by what they descend from: they are not what was signed either, as long as
    // they are said to descend from what has come.
    assert_eq!(arrive(&changed).first(), Some(&(4, Invalid::Signature.into())));
    let cut = |entry: &mut Arrived| entry.payloads = vec![Some(payload(entry).slice(1..))];
    assert_eq!(arrive(&cut), [(4, Invalid::PayloadMismatch.into())]);
    let signed = |entry: &mut Arrived| entry.block = flipped(&entry.block, entry.block.len() - 1);
    assert_eq!(arrive(&signed).first(), Some(&(4, Invalid::Signature.into())));
    let head = |entry: &mut Arrived| entry.block = flipped(&entry.block, 12);
    assert!(arrive(&head).iter().any(|(at, _)| *at == 4));
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

/// A block of any header, with a signature that is none.
fn block(header: &[u8]) -> Bytes {
    let mut w = Writer::new();
    w.array(2).bytes(header).bytes(&[9; 64]);
    w.into_bytes().into()
}

#[test]
fn what_does_not_follow_from_its_parts_travels_as_it_is() {
    let root = root();
    let (tree, sections) = (root.tree(), vec![(0, 5, false), (1, 7, false)]);
    let next = written(tree, std::slice::from_ref(&root), &(vec![0], 1, 1, sections));
    let carries = |what: &str, entry: Arrived| {
        let packed = pack(&tree, std::slice::from_ref(&entry));
        let unpacked = unpack(&tree, &packed, BOUNDS);
        assert_eq!(unpacked.as_deref(), Ok(&[entry][..]), "{what}");
    };
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = next.header().clone();
        change(&mut header);
        Arrived { block: block(&header.encode()), payloads: next.payloads().to_vec() }
    };
    carries("of another database", with(&|header| header.tree = Some(TreeId([3; 32]))));
    carries("of none", with(&|header| header.tree = None));
    carries("with a nonce", with(&|header| header.nonce = Some(Nonce([4; 16]))));
    let unsorted = |header: &mut Header| header.parents = vec![EntryId([2; 32]), EntryId([1; 32])];
    carries("with unsorted parents", with(&unsorted));
    let payloads = |payloads: &[Option<&'static [u8]>]| Arrived {
        block: next.block().clone(),
        payloads: payloads.iter().map(|payload| payload.map(Bytes::from_static)).collect(),
    };
    carries("with a payload too many", payloads(&[None, None, Some(b"more")]));
    carries("with a payload too few", payloads(&[None]));
    carries("with a payload that it does not name", payloads(&[Some(b"other"), None]));
    let mut overlong = next.block().to_vec();
    // The head of the signature with a length of four bytes instead of one.
    overlong.splice(overlong.len() - 66..overlong.len() - 64, [0x5a, 0, 0, 0, 64]);
    carries("in another spelling", Arrived { block: overlong.into(), payloads: next.payloads().to_vec() });
    carries("no block at all", Arrived { block: Bytes::from_static(b"?"), payloads: vec![None] });
}

/// A packed entry up to its author: its parents, which came in this batch so many entries ago, and two differences.
fn begun(back: &[u64], height: i128, time: i128) -> Writer {
    let mut w = Writer::new();
    w.uint(1).array(back.len());
    for back in back {
        w.uint(*back);
    }
    w.int(height).int(time);
    w
}

fn refused(what: &str, packed: Writer, why: UnpackError) {
    let unpacked = unpack(&TreeId([1; 32]), &packed.into_bytes().into(), BOUNDS);
    assert_eq!(unpacked, Err(why), "{what}");
}

#[test]
fn a_packed_entry_is_refused_when_it_is_none() {
    for (beginning, good) in [(1, true), (2, false)] {
        let mut w = Writer::new();
        w.uint(beginning).array(0).int(0).int(0).bytes(&[7; 32]).array(0).bytes(&[9; 64]);
        let unpacked = unpack(&TreeId([1; 32]), &w.into_bytes().into(), BOUNDS);
        assert_eq!(unpacked.is_ok(), good, "an entry that begins with {beginning}: {unpacked:?}");
    }
    for (first, second) in [([2; 32], [1; 32]), ([1; 32], [1; 32])] {
        let mut w = Writer::new();
        w.uint(1)
            .array(2)
            .bytes(&first)
            .bytes(&second)
            .int(0)
            .int(0)
            .bytes(&[7; 32])
            .array(0)
            .bytes(&[9; 64]);
        refused("parents in another order, or one twice", w, UnpackError::Malformed);
    }
    for (height, time) in [(-2, 0), (0, -6), (i128::from(u64::MAX), 0), (0, i128::from(u64::MAX))] {
        let mut w = begun(&[], 0, 5);
        w.bytes(&[7; 32]).array(0).bytes(&[9; 64]);
        w.raw(&begun(&[1], height, time).into_bytes()).uint(0).array(0).bytes(&[9; 64]);
        refused("a height or time that is no number", w, UnpackError::Malformed);
    }
    let mut w = begun(&[], 0, 0);
    w.bytes(&[7; 31]).array(0).bytes(&[9; 64]);
    refused("a short author", w, UnpackError::Malformed);
    let mut w = begun(&[], 0, 0);
    w.bytes(&[7; 32]).array(0).bytes(&[9; 63]);
    refused("a short signature", w, UnpackError::Malformed);
    let mut w = begun(&[], 0, 0);
    w.bytes(&[7; 32]);
    refused("an end in the middle", w, UnpackError::Malformed);
}

#[test]
fn a_reference_leads_to_what_came_before_in_the_batch() {
    let good = || {
        let mut w = begun(&[], 0, 0);
        w.bytes(&[7; 32]).array(1).text("s").bytes(b"p").null().bytes(&[9; 64]);
        w
    };
    let after = |next: Writer| {
        let mut w = good();
        w.raw(&next.into_bytes());
        w
    };
    let fine = after({
        let mut w = begun(&[1], 0, 0);
        w.uint(0).array(1).uint(0).bytes(b"q").null().bytes(&[9; 64]);
        w
    });
    assert_eq!(
        unpack(&TreeId([1; 32]), &fine.into_bytes().into(), BOUNDS).map(|entries| entries.len()),
        Ok(2)
    );
    for back in [0, 2, u64::MAX] {
        let mut w = begun(&[back], 0, 0);
        w.uint(0).array(0).bytes(&[9; 64]);
        refused("a parent", after(w), UnpackError::Reference);
    }
    let mut w = begun(&[1], 0, 0);
    w.uint(1).array(0).bytes(&[9; 64]);
    refused("an author", after(w), UnpackError::Reference);
    let mut w = begun(&[1], 0, 0);
    w.uint(0).array(1).uint(1).bytes(b"q").null().bytes(&[9; 64]);
    refused("a store", after(w), UnpackError::Reference);
}

#[test]
fn nothing_in_a_batch_is_more_than_an_entry_can_have() {
    let malformed = |what: &str, packed: Writer| refused(what, packed, UnpackError::Malformed);
    let whole = |block: usize, payloads: usize, bytes: usize| {
        let mut w = Writer::new();
        w.uint(0).bytes(&vec![0; block]).array(payloads);
        (0..payloads).for_each(|_| {
            w.bytes(&vec![0; bytes]);
        });
        w
    };
    let block_max = HEADER_BYTES_MAX + 80;
    let fits = whole(block_max, SECTIONS_MAX, 1).into_bytes();
    assert_eq!(unpack(&TreeId([1; 32]), &fits.into(), BOUNDS).map(|entries| entries.len()), Ok(1));
    let fits = whole(1, 1, PAYLOAD_BYTES_MAX).into_bytes();
    assert_eq!(unpack(&TreeId([1; 32]), &fits.into(), BOUNDS).map(|entries| entries.len()), Ok(1));
    malformed("a long block", whole(block_max + 1, 0, 0));
    malformed("many payloads", whole(1, SECTIONS_MAX + 1, 1));
    malformed("a long payload", whole(1, 1, PAYLOAD_BYTES_MAX + 1));

    let parents = |count: usize| {
        let mut w = Writer::new();
        w.uint(1).array(count);
        for n in 0..count {
            w.bytes(&[n as u8; 32]);
        }
        w.int(0).int(0).bytes(&[7; 32]).array(0).bytes(&[9; 64]);
        w
    };
    let fits = parents(PARENTS_MAX).into_bytes();
    assert_eq!(unpack(&TreeId([1; 32]), &fits.into(), BOUNDS).map(|entries| entries.len()), Ok(1));
    malformed("many parents", parents(PARENTS_MAX + 1));

    let sections = |write: &dyn Fn(&mut Writer)| {
        let mut w = begun(&[], 0, 0);
        w.bytes(&[7; 32]);
        write(&mut w);
        w.bytes(&[9; 64]);
        w
    };
    let one = |write: &dyn Fn(&mut Writer)| sections(&|w| write(w.array(1)));
    let many = |count: usize| {
        sections(&|w| {
            w.array(count);
            (0..count).for_each(|n| {
                w.text(&format!("{n}")).bytes(b"").null();
            });
        })
    };
    let fits = many(SECTIONS_MAX).into_bytes();
    assert_eq!(unpack(&TreeId([1; 32]), &fits.into(), BOUNDS).map(|entries| entries.len()), Ok(1));
    malformed("many sections", many(SECTIONS_MAX + 1));
    let long = sections(&|w| {
        w.array(SECTIONS_MAX);
        for n in 0..SECTIONS_MAX {
            w.text(&format!("{n}")).bytes(b"").array(2).bytes(&[0; ENC_BYTES_MAX]).array(0);
        }
    });
    malformed("a header that is too long together", long);
    malformed(
        "a store without a name",
        one(&|w| {
            w.text("").bytes(b"").null();
        }),
    );
    let long = "s".repeat(STORE_NAME_BYTES_MAX + 1);
    malformed(
        "a long name",
        one(&|w| {
            w.text(&long).bytes(b"").null();
        }),
    );
    malformed(
        "a long payload",
        one(&|w| {
            w.text("s").bytes(&vec![0; PAYLOAD_BYTES_MAX + 1]).null();
        }),
    );
    malformed(
        "a length beyond any",
        one(&|w| {
            w.text("s").array(2).uint(1 << 32).bytes(&[1; 32]).null();
        }),
    );
    malformed(
        "half a payload",
        one(&|w| {
            w.text("s").array(1).uint(1).null();
        }),
    );
    // A head that says another number than what follows.
    malformed(
        "a payload of three parts",
        one(&|w| {
            w.text("s").array(3).uint(1).bytes(&[1; 32]).null();
        }),
    );
    let secrets = |len: usize| {
        one(&|w| {
            w.text("s").bytes(b"").array(2).bytes(&vec![0; len]).array(0);
        })
    };
    assert!(unpack(&TreeId([1; 32]), &secrets(ENC_BYTES_MAX).into_bytes().into(), BOUNDS).is_ok());
    malformed("long parameters", secrets(ENC_BYTES_MAX + 1));
    malformed(
        "parameters of three parts",
        one(&|w| {
            w.text("s").bytes(b"").array(3).null().array(0);
        }),
    );
    let blobs = |count: usize, parts: usize| {
        one(&|w| {
            w.text("s").bytes(b"").array(2).null().array(count);
            (0..count).for_each(|_| {
                w.array(parts).uint(1).bytes(&[1; 32]);
            });
        })
    };
    assert!(unpack(&TreeId([1; 32]), &blobs(BLOBS_MAX, 2).into_bytes().into(), BOUNDS).is_ok());
    malformed("many blobs", blobs(BLOBS_MAX + 1, 2));
    malformed("a blob of three parts", blobs(1, 3));
}
