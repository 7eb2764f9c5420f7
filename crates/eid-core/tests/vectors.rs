//! The golden vectors in `vectors/`, read as any other implementation would read them.

#[path = "../examples/vectors/make.rs"]
mod make;

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use eid_core::{
    Entry, EntryId, Height, Invalid, ParentFacts, PublicKey, Refusal, Signed, Time, TreeId, check_place,
};
use serde_json::Value;

#[expect(clippy::disallowed_methods, reason = "a test may read files")]
fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name);
    std::fs::read_to_string(path).expect("the vectors lie in the repository")
}

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a text").as_bytes()).expect("lower-case hex")
}

fn hex32(value: &Value) -> [u8; 32] {
    hex(value).try_into().expect("32 bytes")
}

struct Vector {
    name: String,
    block: Bytes,
    payloads: Vec<Option<Bytes>>,
    parents: Vec<ParentFacts>,
    expect: Value,
}

fn vectors() -> Vec<Vector> {
    let json: Value = serde_json::from_str(&file("entries.json")).expect("JSON");
    let read = |value: &Value| Vector {
        name: value["name"].as_str().expect("a name").to_owned(),
        block: hex(&value["block"]).into(),
        payloads: value["payloads"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|payload| (!payload.is_null()).then(|| hex(payload).into()))
            .collect(),
        parents: value["parents"]
            .as_object()
            .expect("an object")
            .iter()
            .map(|(id, facts)| ParentFacts {
                id: EntryId(hex32(&Value::String(id.clone()))),
                height: Height(facts["height"].as_u64().expect("a height")),
                time: Time(facts["time"].as_u64().expect("a time")),
            })
            .collect(),
        expect: value["expect"].clone(),
    };
    json.as_array().expect("a list").iter().map(read).collect()
}

fn placed(block: Bytes, payloads: Vec<Option<Bytes>>, parents: &[ParentFacts]) -> Result<Entry, Refusal> {
    let entry = Entry::parse(block, payloads)?;
    let held: Vec<_> = entry
        .header()
        .parents
        .iter()
        .map(|id| parents.iter().find(|parent| parent.id == *id).copied())
        .collect();
    check_place(&entry, &entry.tree(), &held)?;
    Ok(entry)
}

fn judged(block: Bytes, payloads: Vec<Option<Bytes>>, parents: &[ParentFacts]) -> Result<Entry, Refusal> {
    let entry = placed(block, payloads, parents)?;
    entry.verify_signature()?;
    Ok(entry)
}

#[test]
fn every_vector_has_the_verdict_it_names() {
    let vectors = vectors();
    assert!(vectors.len() >= 80);
    for vector in vectors {
        let verdict = judged(vector.block.clone(), vector.payloads, &vector.parents);
        let name = &vector.name;
        if let Some(code) = vector.expect["error"].as_str() {
            let refusal = verdict.err().unwrap_or_else(|| panic!("{name} is accepted, expected {code}"));
            assert_eq!(refusal.code(), code, "{name}");
        } else {
            let entry = verdict.unwrap_or_else(|refusal| panic!("{name} is refused: {}", refusal.code()));
            assert_eq!(entry.id().0, hex32(&vector.expect["id"]), "{name}");
            assert_eq!(entry.id().to_string(), vector.expect["text_id"].as_str().expect("a text"), "{name}");
            assert_eq!(
                entry.header().height.0,
                vector.expect["height"].as_u64().expect("a height"),
                "{name}"
            );
            assert_eq!(entry.header().time.0, vector.expect["time"].as_u64().expect("a time"), "{name}");
            assert_eq!(entry.header().author, PublicKey(hex32(&vector.expect["author"])), "{name}");
            assert_eq!(entry.block(), &vector.block, "{name}");
            assert_eq!(entry.header().encode(), entry.header_bytes(), "{name}: one byte form");
        }
    }
}

#[test]
fn signatures_have_the_same_verdict_singly_and_in_bulk() {
    let entries: Vec<Entry> =
        vectors().into_iter().filter_map(|v| placed(v.block, v.payloads, &v.parents).ok()).collect();
    let singly: Vec<_> = entries.iter().map(Entry::verify_signature).collect();
    assert!(singly.contains(&Ok(())) && singly.contains(&Err(Invalid::Signature)));
    let of = |checked: Vec<Result<Signed, Invalid>>| -> Vec<Result<(), Invalid>> {
        checked.into_iter().map(|result| result.map(|_| ())).collect()
    };
    assert_eq!(of(Signed::check_many(entries.clone())), singly);
    let sound: Vec<Entry> = entries.into_iter().filter(|entry| entry.verify_signature().is_ok()).collect();
    assert!(Signed::check_many(sound).iter().all(Result::is_ok));
}

#[test]
fn changing_any_one_byte_of_a_valid_vector_is_refused() {
    for vector in vectors().into_iter().filter(|vector| vector.expect["error"].is_null()) {
        // Large ones are long because they repeat themselves: one change of each byte is enough.
        let masks: &[u8] = if vector.block.len() < 1024 { &[0x01, 0x10, 0x80, 0xff] } else { &[0x01] };
        for at in 0..vector.block.len() {
            for mask in masks {
                let mut block = vector.block.to_vec();
                block[at] ^= mask;
                let verdict = judged(block.into(), vector.payloads.clone(), &vector.parents);
                assert!(verdict.is_err(), "{}: byte {at} of the block ^ {mask:#04x}", vector.name);
            }
        }
        for (index, payload) in vector.payloads.iter().enumerate() {
            for at in 0..payload.as_ref().map_or(0, Bytes::len) {
                let mut payloads = vector.payloads.clone();
                let mut bytes = payload.as_ref().expect("it has bytes").to_vec();
                bytes[at] ^= 1;
                payloads[index] = Some(bytes.into());
                let verdict = Entry::parse(vector.block.clone(), payloads);
                assert!(verdict.is_err(), "{}: byte {at} of payload {index}", vector.name);
            }
        }
    }
}

#[test]
fn every_code_that_one_entry_can_show_has_a_vector() {
    let shown: BTreeSet<String> =
        vectors().iter().filter_map(|v| v.expect["error"].as_str().map(str::to_owned)).collect();
    let codes = [
        "block_malformed",
        "header_malformed",
        "non_canonical",
        "header_too_large",
        "payload_too_large",
        "payload_mismatch",
        "root_with_parents",
        "root_height",
        "root_without_nonce",
        "root_settings",
        "nonce_outside_root",
        "no_parents",
        "too_many_parents",
        "parents_unsorted",
        "too_many_sections",
        "sections_unsorted",
        "store_name",
        "enc_too_large",
        "settings_not_alone",
        "settings_encrypted",
        "settings_malformed",
        "height",
        "time_before_parent",
        "signature",
        "join_proof",
        "missing_parents",
        "missing_settings_payload",
        "unsupported_version",
        "unsupported_extension",
        "unsupported_authority",
        "unsupported_rules",
        "unsupported_settings_op",
    ];
    assert_eq!(shown, codes.map(str::to_owned).into());
}

#[test]
fn an_entry_offered_for_another_tree_is_refused() {
    let root = vectors().into_iter().next().expect("the first is a root");
    let entry = Entry::parse(root.block, root.payloads).expect("it is valid");
    assert_eq!(check_place(&entry, &TreeId([0; 32]), &[]), Err(Invalid::ForeignTree.into()));
}

#[test]
fn names_are_unique() {
    let vectors = vectors();
    let names: BTreeSet<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    assert_eq!(names.len(), vectors.len());
}

#[test]
fn the_files_are_what_the_generator_writes() {
    assert!(file("entries.json") == make::entries_json(), "vectors/entries.json drifted");
    assert!(file("signatures.json") == make::signatures_json(), "vectors/signatures.json drifted");
}
