//! Bytes that decode: each in one form only, and none into more than may be.

use std::sync::OnceLock;

use bytes::Bytes;
use eid_core::cbor::Writer;
use eid_core::limits::{ENC_BYTES_MAX, SECTIONS_MAX};
use eid_core::pack::{Arrived, Bounds, pack as packed, unpack};
use eid_core::sketch::{Cells, Salt, Sketch};
use eid_core::{
    Draft, Entry, EntryId, Height, KeyMode, Nonce, Payload, Permission, PublicKey, SecretKey, SectionDraft,
    SettingsOp, Signature, Slot, StoreName, Time, TreeId,
};
use eid_proto::RefusalCode;
use eid_proto::limits::{COMPRESS_RATIO_MAX, FRAME_BYTES_MAX};
use eid_proto::message::{Batch, CompressedBatch, Greeting, LiveMessage, Message, Request, Response};
use eid_proto::{List, Text};

use crate::replica;
use crate::source::Source;

/// A frame that decodes has no other spelling, and what is compressed in it is within its bounds. The first byte says what
/// it is taken for.
pub(crate) fn frames(input: &[u8]) {
    let Some((kind, frame)) = input.split_first() else { return };
    let again = match kind % 5 {
        0 => Greeting::decode(frame).map(|said| said.encode()),
        1 => Request::decode(frame).map(|said| said.encode()),
        2 => Response::decode(frame).map(|said| said.encode()),
        3 => Message::decode(frame).map(|said| {
            if let Message::Compressed(batch) = &said {
                decompressed(batch);
            }
            said.encode()
        }),
        _ => LiveMessage::decode(frame).map(|said| {
            if let LiveMessage::PushCompressed { batch, .. } = &said {
                decompressed(batch);
            }
            said.encode()
        }),
    };
    if let Ok(again) = again {
        assert_eq!(again, frame);
    }
}

fn decompressed(batch: &CompressedBatch) {
    let Ok(plain) = batch.decompress() else { return };
    assert!(plain.entries.len() <= (batch.frame.len() * COMPRESS_RATIO_MAX).min(FRAME_BYTES_MAX));
    if let Some(again) = plain.compress() {
        assert!(again.frame.len() < plain.entries.len());
        assert_eq!(again.decompress(), Ok(plain));
    }
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let of = |kind: u8, frame: Bytes| [&[kind], &frame[..]].concat();
    let mut seeds = vec![
        of(0, Greeting::Refused(RefusalCode::Version(eid_proto::VERSIONS)).encode()),
        of(1, Request::OpenMany(List::new(vec![([1; 32], [2; 32]), ([3; 32], [4; 32])])).encode()),
        of(1, Request::Discover.encode()),
        of(1, Request::Redeem { tree: [5; 32], name: Text::new("a tablet") }.encode()),
        of(2, Response::OpenMany { differs: Bytes::from_static(&[5]), unavailable: Bytes::new() }.encode()),
        of(2, Response::Refused(RefusalCode::Unavailable).encode()),
    ];
    seeds.extend(crate::handshake::transcript().into_iter().map(|frame| of(0, frame)));
    seeds.extend(crate::session::transcripts().into_iter().map(|frame| of(3, frame)));
    seeds.extend(crate::live::transcript().into_iter().map(|frame| of(4, frame)));
    let compressed = [10, 60].into_iter().filter_map(|count| {
        let entries = replica::grown(count).into_iter().skip(1);
        let entries: Vec<Arrived> = entries
            .map(|entry| Arrived { block: entry.block().clone(), payloads: entry.payloads().to_vec() })
            .collect();
        Batch::pack(&replica::tree(), &entries, count as u64).compress()
    });
    seeds.extend(compressed.map(|batch| of(3, Message::Compressed(batch).encode())));
    // A block of nothing but zeros, as much as may come of it and a byte more.
    for len in [1100_u16, 1101] {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x60];
        frame.extend((len - 256).to_le_bytes());
        frame.extend([&(u32::from(len) << 3 | 3).to_le_bytes()[..3], &[0]].concat());
        let batch = CompressedBatch { frame: frame.into(), upto: 0 };
        seeds.push(of(3, Message::Compressed(batch).encode()));
    }
    seeds
}

/// What a stranger sends as an entry is parsed to what it is, or refused; what is drafted is parsed as it was drafted.
pub(crate) fn entry(input: &[u8]) {
    let mut source = Source::new(input);
    let parsed = if source.bool() {
        drafted(&mut source).seal(&replica::key(source.byte()))
    } else {
        let payloads = (0..source.below(4))
            .map(|_| source.bool().then(|| Bytes::copy_from_slice(source.some(512))))
            .collect();
        Entry::parse(Bytes::copy_from_slice(source.rest()), payloads)
    };
    if let Ok(entry) = parsed {
        check(&entry);
    }
}

fn check(entry: &Entry) {
    assert_eq!(entry.header().encode(), entry.header_bytes());
    let (block, payloads) = (entry.block().clone(), entry.payloads().to_vec());
    assert_eq!(Entry::parse_stored(entry.id(), block, payloads).as_ref(), Ok(entry));
    assert_eq!(entry.id(), EntryId::of_block(entry.block()));
    for payload in entry.payloads().iter().flatten() {
        if let Ok(decoded) = Payload::decode(payload) {
            assert_eq!(&Payload::encode(&decoded.kind, &decoded.salt, &decoded.ops), payload);
        }
    }
    if let (Some(Some(payload)), false) = (entry.payloads().first(), entry.settings().is_empty()) {
        let salt = Payload::decode(payload).expect("the settings were decoded").salt;
        assert_eq!(&SectionDraft::settings(entry.settings(), &salt).payload, payload);
        assert!(SettingsOp::are_distinct(entry.settings()));
    }
}

fn drafted(source: &mut Source<'_>) -> Draft {
    let id = |source: &mut Source<'_>| EntryId([source.byte(); 32]);
    let tree = source.bool().then(|| TreeId(id(source).0));
    let parents = (0..source.below(70)).map(|_| id(source)).collect();
    let (height, time) = (Height(source.number()), Time(source.number()));
    let nonce = source.bool().then(|| Nonce([source.byte(); 16]));
    let mut sections = Vec::new();
    for _ in 0..source.below(8) {
        let name = match source.below(4) {
            0 => "_settings".to_owned(),
            _ => String::from_utf8_lossy(source.some(70)).into_owned(),
        };
        let Ok(store) = StoreName::new(name) else { continue };
        let enc = source.bool().then(|| Bytes::copy_from_slice(source.some(300)));
        let payload = if source.bool() {
            SectionDraft::settings(&operations(source), source.some(4)).payload
        } else {
            Bytes::copy_from_slice(source.some(600))
        };
        sections.push(SectionDraft { store, enc, payload });
    }
    Draft { tree, parents, height, time, sections, nonce }
}

/// Operations on settings, among them such as belong into no entry.
pub(crate) fn operations(source: &mut Source<'_>) -> Vec<SettingsOp> {
    let slot = |source: &mut Source<'_>| match source.below(8) {
        7 => Slot::Everyone,
        n => Slot::Key(PublicKey([n as u8 + 1; 32])),
    };
    let ids = |source: &mut Source<'_>| {
        let mut ids: Vec<EntryId> = (0..=source.below(4)).map(|_| EntryId([source.byte(); 32])).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let invite = |source: &mut Source<'_>| PublicKey([source.below(3) as u8 + 1; 32]);
    let invited = |source: &mut Source<'_>| match source.below(7) {
        0 => Permission::Relay,
        1 | 2 => Permission::Read,
        3..=5 => Permission::Write,
        _ => Permission::Admin(source.number() as u32),
    };
    let operation = |source: &mut Source<'_>| match source.below(12) {
        0 => SettingsOp::Rules(source.number()),
        1 => SettingsOp::Title(String::from_utf8_lossy(source.some(300)).into_owned()),
        2 => SettingsOp::Accept(ids(source)),
        3 => SettingsOp::Revoke { slot: slot(source), mode: KeyMode::Leave },
        4 => SettingsOp::Revoke { slot: slot(source), mode: KeyMode::Remove { fence: None } },
        5 => SettingsOp::Revoke { slot: slot(source), mode: KeyMode::Remove { fence: Some(ids(source)) } },
        8 => {
            let (key, permission) = (invite(source), invited(source));
            SettingsOp::Invite { key, permission, expires_ms: source.bool().then(|| source.number()) }
        }
        9 => {
            let mode = if source.bool() { KeyMode::Leave } else { KeyMode::Remove { fence: None } };
            SettingsOp::Revoke { slot: Slot::Invite(invite(source)), mode }
        }
        10 | 11 => {
            let (invite, permission) = (invite(source), invited(source));
            SettingsOp::Join { invite, permission, proof: Signature([source.byte(); 64]) }
        }
        _ => {
            let permission = match source.below(4) {
                0 => Permission::Relay,
                1 => Permission::Read,
                2 => Permission::Write,
                _ => Permission::Admin(source.number() as u32),
            };
            SettingsOp::Set { slot: slot(source), permission }
        }
    };
    (0..source.below(6)).map(|_| operation(source)).collect()
}

pub(crate) fn entry_seeds() -> Vec<Vec<u8>> {
    let entries = [replica::root(), replica::grown(3)[2].clone()];
    let mut seeds: Vec<Vec<u8>> = entries
        .iter()
        .map(|entry| {
            let mut seed = vec![0, entry.payloads().len() as u8];
            for payload in entry.payloads().iter().flatten() {
                seed.push(1);
                seed.extend_from_slice(&(payload.len() as u16).to_le_bytes());
                seed.extend_from_slice(payload);
            }
            [&seed, &entry.block()[..]].concat()
        })
        .collect();
    seeds.push([&[0, 0], &replica::grown(3)[2].block()[..]].concat());
    seeds.push(vec![1, 1, 7, 2, 1, 2, 3, 4, 0, 1, 1, 3, 0, 97, 98, 99, 0, 0, 4, 0, 1, 2, 3, 4]);
    seeds
}

/// A payload of settings is the one form of its operations, or refused.
pub(crate) fn settings(input: &[u8]) {
    let section =
        SectionDraft { store: StoreName::settings(), enc: None, payload: Bytes::copy_from_slice(input) };
    let parents = vec![EntryId([1; 32])];
    let draft = Draft {
        tree: Some(TreeId([1; 32])),
        parents,
        height: Height(1),
        time: Time(1),
        sections: vec![section],
        nonce: None,
    };
    static KEY: OnceLock<SecretKey> = OnceLock::new();
    if let Ok(entry) = draft.seal(KEY.get_or_init(|| replica::key(1))) {
        assert!(!entry.settings().is_empty());
        check(&entry);
        let joins = entry.settings().iter().any(|op| matches!(op, SettingsOp::Join { .. }));
        assert!(!joins || entry.settings().len() == 1);
    }
}

pub(crate) fn settings_seeds() -> Vec<Vec<u8>> {
    let (slot, ids) = (Slot::Key(PublicKey([7; 32])), vec![EntryId([1; 32]), EntryId([2; 32])]);
    let every = [
        SettingsOp::Rules(1),
        SettingsOp::Set { slot, permission: Permission::Admin(70_000) },
        SettingsOp::Set { slot: Slot::Everyone, permission: Permission::Read },
        SettingsOp::Accept(ids.clone()),
        SettingsOp::Title("notes".to_owned()),
    ];
    let removed = [SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence: Some(ids.clone()) } }];
    let left = [
        SettingsOp::Revoke { slot, mode: KeyMode::Leave },
        SettingsOp::Revoke { slot: Slot::Everyone, mode: KeyMode::Remove { fence: None } },
    ];
    let key = PublicKey([7; 32]);
    let invited = [
        SettingsOp::Rules(2),
        SettingsOp::Invite { key, permission: Permission::Write, expires_ms: None },
        SettingsOp::Invite {
            key: PublicKey([8; 32]),
            permission: Permission::Read,
            expires_ms: Some(1_800_000_000_000),
        },
        SettingsOp::Revoke { slot: Slot::Invite(PublicKey([9; 32])), mode: KeyMode::Leave },
    ];
    let withdrawn =
        [SettingsOp::Revoke { slot: Slot::Invite(key), mode: KeyMode::Remove { fence: Some(ids) } }];
    let tree = TreeId([1; 32]);
    let joined = [SettingsOp::join(&replica::key(2), &tree, &replica::key(1).public(), Permission::Write)];
    let payload = |ops: &[SettingsOp]| SectionDraft::settings(ops, b"salt").payload.to_vec();
    let mut seeds = [&every[..], &removed, &left, &invited, &withdrawn, &joined].map(payload).to_vec();
    seeds.push([payload(&left), vec![0]].concat());
    seeds
}

const BOUNDS: Bounds = Bounds { entries: 64, bytes: 64 * 1024 };

/// What is unpacked is within bounds, and packs and unpacks to the same.
pub(crate) fn pack(input: &[u8]) {
    let tree = replica::tree();
    let input = Bytes::copy_from_slice(input);
    let Ok(entries) = unpack(&tree, &input, BOUNDS) else { return };
    assert!(entries.len() <= BOUNDS.entries);
    assert!(entries.iter().map(Arrived::bytes_len).sum::<usize>() <= BOUNDS.bytes);
    let again = packed(&tree, &entries);
    assert_eq!(unpack(&tree, &again, BOUNDS).as_ref(), Ok(&entries));
}

pub(crate) fn pack_seeds() -> Vec<Vec<u8>> {
    let entries: Vec<Arrived> = replica::grown(12)
        .iter()
        .map(|entry| Arrived { block: entry.block().clone(), payloads: entry.payloads().to_vec() })
        .collect();
    let mut bare = entries.clone();
    bare.iter_mut().flat_map(|entry| &mut entry.payloads).for_each(|payload| *payload = None);
    let tree = replica::tree();
    let elsewhere = TreeId([9; 32]);
    // Each part is short enough, and all together are not.
    let mut long = Writer::new();
    long.uint(1).array(0).int(0).int(0).bytes(&[7; 32]).array(SECTIONS_MAX);
    for n in 0..SECTIONS_MAX {
        long.text(&format!("{n}")).bytes(b"").array(2).bytes(&[0; ENC_BYTES_MAX]).array(0);
    }
    long.bytes(&[9; 64]);
    vec![
        long.into_bytes(),
        packed(&tree, &entries).to_vec(),
        packed(&tree, &entries[1..]).to_vec(),
        packed(&tree, &bare).to_vec(),
        packed(&elsewhere, &entries[..3]).to_vec(),
    ]
}

/// Cells have one form, and are read or not in no more steps than they allow.
pub(crate) fn sketch(input: &[u8]) {
    let mut source = Source::new(input);
    let (stratum, salt) = (source.below(8), Salt::of(&TreeId([source.byte(); 32])));
    let bytes = source.rest();
    if let Some(whole) = Sketch::from_bytes(salt, bytes) {
        assert_eq!(whole.to_bytes(), bytes);
    }
    let Some(cells) = Cells::from_bytes(bytes) else { return };
    assert_eq!(cells.to_bytes(usize::MAX), bytes);
    let most = cells.len();
    if let Some(read) = cells.peel(salt, stratum) {
        assert!(read.len() <= most);
    }
}

pub(crate) fn sketch_seeds() -> Vec<Vec<u8>> {
    let salt = Salt::of(&TreeId([0; 32]));
    let of = |count: u64| {
        let mut sketch = Sketch::new(salt);
        (0..count).for_each(|n| {
            sketch.toggle(blake3::hash(&n.to_le_bytes()).as_bytes()[..8].try_into().expect("8"));
        });
        [&[0, 0], &sketch.stratum(0).to_bytes(40)[..]].concat()
    };
    vec![of(0), of(1), of(9), of(300)]
}
