//! Drafts, sealed entries and bytes from anywhere.

use bytes::Bytes;
use eid_core::{
    Draft, Entry, EntryId, Height, Invalid, KeyMode, Nonce, Payload, Permission, PublicKey, Refusal,
    SecretKey, SectionDraft, SettingsOp, Signed, Slot, StoreName, Time, TreeId,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

const TREE: TreeId = TreeId([7; 32]);

fn draft(parents: Vec<EntryId>, sections: Vec<SectionDraft>) -> Draft {
    Draft {
        tree: Some(TREE),
        parents,
        height: Height(9),
        time: Time::from_ms(1_700_000_000_000),
        sections,
        nonce: None,
    }
}

fn section(store: &str, payload: impl Into<Bytes>) -> SectionDraft {
    SectionDraft { store: StoreName::new(store).expect("a name"), enc: None, payload: payload.into() }
}

fn key() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn ids(count: u8) -> Vec<EntryId> {
    (0..count).map(|i| EntryId([i; 32])).collect()
}

#[test]
fn a_draft_of_65_parents_is_refused_and_one_of_64_is_sealed() {
    assert!(draft(ids(64), Vec::new()).seal(&key()).is_ok());
    assert_eq!(draft(ids(65), Vec::new()).seal(&key()), Err(Invalid::TooManyParents.into()));
}

#[test]
fn a_draft_of_65_sections_is_refused_and_one_of_64_is_sealed() {
    let sections = |count: usize| (0..count).map(|i| section(&format!("s{i}"), Bytes::new())).collect();
    assert!(draft(ids(1), sections(64)).seal(&key()).is_ok());
    assert_eq!(draft(ids(1), sections(65)).seal(&key()), Err(Invalid::TooManySections.into()));
}

#[test]
fn payloads_of_one_mebibyte_are_sealed_and_one_byte_more_is_refused() {
    let halves = |more: usize| vec![section("a", vec![0; 1 << 19]), section("b", vec![1; (1 << 19) + more])];
    assert!(draft(ids(1), halves(0)).seal(&key()).is_ok());
    assert_eq!(draft(ids(1), halves(1)).seal(&key()), Err(Invalid::PayloadTooLarge.into()));
}

#[test]
fn a_draft_that_writes_one_store_twice_is_refused() {
    let twice = vec![section("a", Bytes::new()), section("a", Bytes::new())];
    assert_eq!(draft(ids(1), twice).seal(&key()), Err(Invalid::SectionsUnsorted.into()));
}

#[test]
fn a_stored_block_that_changed_is_not_taken_for_the_entry() {
    let entry = draft(ids(1), vec![section("a", &b"payload"[..])]).seal(&key()).unwrap();
    assert!(Entry::parse_stored(entry.id(), entry.block().clone(), entry.payloads().to_vec()).is_ok());
    let mut rotten = entry.block().to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    assert!(Entry::parse_stored(entry.id(), rotten.into(), entry.payloads().to_vec()).is_err());
}

fn permission() -> impl Strategy<Value = Permission> {
    prop_oneof![
        Just(Permission::Relay),
        Just(Permission::Read),
        Just(Permission::Write),
        any::<u32>().prop_map(Permission::Admin),
    ]
}

fn fence() -> impl Strategy<Value = Option<Vec<EntryId>>> {
    proptest::option::of(btree_set(any::<[u8; 32]>(), 1..9))
        .prop_map(|ids| ids.map(|ids| ids.into_iter().map(EntryId).collect()))
}

fn settings_op() -> impl Strategy<Value = SettingsOp> {
    let slot = || any::<[u8; 32]>().prop_map(|seed| Slot::Key(SecretKey::from_seed(seed).public()));
    prop_oneof![
        (1..=2_u64).prop_map(SettingsOp::Rules),
        (slot(), permission()).prop_map(|(slot, permission)| SettingsOp::Set { slot, permission }),
        (slot(), fence())
            .prop_map(|(slot, fence)| SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence } }),
        slot().prop_map(|slot| SettingsOp::Revoke { slot, mode: KeyMode::Leave }),
        btree_set(any::<[u8; 32]>(), 1..9)
            .prop_map(|ids| SettingsOp::Accept(ids.into_iter().map(EntryId).collect())),
        "[a-zä]{0,40}".prop_map(SettingsOp::Title),
        (invite(), invited(), any::<Option<u64>>())
            .prop_map(|(key, permission, expires_ms)| SettingsOp::Invite { key, permission, expires_ms }),
        (invite(), fence()).prop_map(|(key, fence)| SettingsOp::Revoke {
            slot: Slot::Invite(key),
            mode: KeyMode::Remove { fence }
        }),
        invite().prop_map(|key| SettingsOp::Revoke { slot: Slot::Invite(key), mode: KeyMode::Leave }),
        (any::<[u8; 32]>(), invited()).prop_map(|(seed, permission)| {
            SettingsOp::join(&SecretKey::from_seed(seed), &TREE, &key().public(), permission)
        }),
    ]
}

fn invite() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(|seed| SecretKey::from_seed(seed).public())
}

fn invited() -> impl Strategy<Value = Permission> {
    prop_oneof![Just(Permission::Relay), Just(Permission::Read), Just(Permission::Write)]
}

#[test]
fn a_join_is_proven_for_one_database_one_key_and_one_right() {
    let (invite, joiner) = (SecretKey::from_seed([8; 32]), key());
    let sealed = |op: SettingsOp, author: &SecretKey| {
        Signed::seal(draft(ids(1), vec![SectionDraft::settings(&[op], &[])]), author)
    };
    let good = SettingsOp::join(&invite, &TREE, &joiner.public(), Permission::Write);
    let entry = sealed(good.clone(), &joiner).unwrap().entry().clone();
    assert!(Signed::check(entry.clone()).is_ok());
    let SettingsOp::Join { proof, .. } = good else { panic!("it is a join") };
    let less = SettingsOp::Join { invite: invite.public(), permission: Permission::Read, proof };
    let by_another = SettingsOp::Join { invite: key().public(), permission: Permission::Write, proof };
    let elsewhere = SettingsOp::join(&invite, &TreeId([0x78; 32]), &joiner.public(), Permission::Write);
    let stranger = SecretKey::from_seed([9; 32]);
    for (op, author) in [(less, &joiner), (by_another, &joiner), (elsewhere, &joiner), (good, &stranger)] {
        let refused = Err(Invalid::JoinProof);
        assert_eq!(sealed(op.clone(), author).map(|_| ()), Err(Invalid::JoinProof.into()));
        let bad = draft(ids(1), vec![SectionDraft::settings(&[op], &[])]).seal(author).unwrap();
        assert_eq!(Signed::check(bad.clone()).map(|_| ()), refused);
        let many = Signed::check_many(vec![entry.clone(), bad, entry.clone()]);
        let verdicts: Vec<bool> = many.iter().map(Result::is_ok).collect();
        assert_eq!(verdicts, [true, false, true]);
    }
}

#[test]
fn what_rights_are_set_for_is_no_invite_and_an_invite_makes_no_admin() {
    let slot = Slot::Invite(key().public());
    let (invite, admin) = (key().public(), Permission::Admin(5));
    let ops = [
        SettingsOp::Set { slot, permission: Permission::Read },
        SettingsOp::Invite { key: invite, permission: admin, expires_ms: None },
        SettingsOp::join(&key(), &TREE, &key().public(), admin),
    ];
    for op in ops {
        let sealed = draft(ids(1), vec![SectionDraft::settings(&[op], &[])]).seal(&key());
        assert_eq!(sealed.map(|_| ()), Err(Invalid::SettingsMalformed.into()));
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let sections = btree_map("[a-zäß._-]{1,20}", vec(any::<u8>(), 0..200), 0..6);
    let parents = btree_set(any::<[u8; 32]>(), 1..12);
    let data = (parents, sections, any::<u64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
        |(parents, sections, height, time, seed)| {
            let sections = sections
                .into_iter()
                .filter(|(name, _)| name != eid_core::SETTINGS_STORE)
                .map(|(name, payload)| section(&name, payload))
                .collect();
            let mut draft = draft(parents.into_iter().map(EntryId).collect(), sections);
            (draft.height, draft.time) = (Height(height), Time(time));
            draft.seal(&SecretKey::from_seed(seed)).expect("within all limits")
        },
    );
    let settings = vec(settings_op(), 1..6).prop_map(|ops| {
        let mut distinct = Vec::new();
        for op in ops {
            distinct.push(op);
            if !SettingsOp::are_distinct(&distinct) {
                distinct.pop();
            }
        }
        draft(ids(1), vec![SectionDraft::settings(&distinct, &[])]).seal(&key()).expect("within all limits")
    });
    let root = (any::<[u8; 16]>(), any::<u64>()).prop_map(|(nonce, time)| {
        let first = SettingsOp::Set { slot: Slot::Key(key().public()), permission: Permission::Admin(0) };
        Draft::root(Nonce(nonce), Time(time), &[SettingsOp::Rules(1), first]).seal(&key()).expect("a root")
    });
    prop_oneof![4 => data, 2 => settings, 1 => root]
}

proptest! {
    #[test]
    fn what_is_sealed_parses_to_the_same_entry(entry in any_entry()) {
        let again = Entry::parse(entry.block().clone(), entry.payloads().to_vec());
        prop_assert_eq!(again.as_ref(), Ok(&entry));
        prop_assert_eq!(entry.verify_signature(), Ok(()));
        prop_assert_eq!(entry.header().encode(), entry.header_bytes());
        prop_assert_eq!(entry.id(), EntryId::of_block(entry.block()));
        prop_assert_eq!(entry.id().to_string().parse::<EntryId>(), Ok(entry.id()));
    }

    #[test]
    fn an_entry_parses_without_its_payloads_unless_it_changes_settings(entry in any_entry()) {
        let bare = Entry::parse(entry.block().clone(), vec![None; entry.payloads().len()]);
        if entry.settings().is_empty() {
            prop_assert_eq!(bare.map(|bare| bare.id()), Ok(entry.id()));
        } else {
            prop_assert_eq!(bare.map_err(|refusal| refusal.code()), Err("missing_settings_payload"));
        }
    }

    #[test]
    fn mutated_blocks_never_panic_and_never_pass(
        entry in any_entry(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut block = entry.block().to_vec();
        for (at, byte) in edits {
            let at = at.index(block.len());
            block[at] = byte;
        }
        let passes = |block: Vec<u8>| -> Result<(), Refusal> {
            let parsed = Entry::parse(block.into(), entry.payloads().to_vec())?;
            parsed.verify_signature()?;
            Ok(())
        };
        prop_assert_eq!(passes(block.clone()).is_ok(), block[..] == entry.block()[..]);
        let cut = cut.index(block.len());
        prop_assert!(passes(block[..cut].to_vec()).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(block in vec(any::<u8>(), 0..400), payload in vec(any::<u8>(), 0..200)) {
        prop_assert!(Entry::parse(block.into(), vec![Some(payload.clone().into())]).is_err());
        let payload = Bytes::from(payload);
        if let Ok(decoded) = Payload::decode(&payload) {
            prop_assert_eq!(Payload::encode(&decoded.kind, &decoded.salt, &decoded.ops), payload);
        }
    }

    #[test]
    fn payloads_round_trip(kind in "[a-z]{1,64}", salt in vec(any::<u8>(), 0..256), codes in vec(0u64..99, 0..20)) {
        let ops: Vec<Bytes> = codes
            .iter()
            .map(|code| {
                let mut w = eid_core::cbor::Writer::new();
                w.array(2).uint(*code).text("x");
                w.into_bytes().into()
            })
            .collect();
        let bytes = Payload::encode(&kind, &salt, &ops);
        let decoded = Payload::decode(&bytes);
        prop_assert_eq!(decoded, Ok(Payload { kind, salt: salt.into(), ops }));
    }
}
