//! The golden vectors, made from fixed seeds. Blocks are assembled by hand, element by element, because most of
//! them are blocks that the library refuses to make; only numbers, strings and signatures come from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use data_encoding::HEXLOWER;
use eid_core::cbor::Writer;
use eid_core::{Domain, EntryId, SecretKey, sign, sign_domain};
use sha2::{Digest as _, Sha512};

type Bytes32 = [u8; 32];

/// One golden vector.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) block: Vec<u8>,
    pub(crate) payloads: Vec<Option<Vec<u8>>>,
    /// Id, height and time of each parent that is held.
    pub(crate) parents: Vec<(Bytes32, u64, u64)>,
    pub(crate) expect: Expect,
}

/// What every implementation must answer.
pub(crate) enum Expect {
    Valid { height: u64, time: u64, author: Bytes32 },
    Error(&'static str),
}

const NULL: [u8; 1] = [0xf6];
const MS: u64 = 1_700_000_000_000 << 16;
const TREE: Bytes32 = [0x77; 32];
const MIB: u64 = 1 << 20;

fn recovery() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn device() -> SecretKey {
    SecretKey::from_seed([2; 32])
}

fn other() -> SecretKey {
    SecretKey::from_seed([3; 32])
}

// CBOR by hand.

fn uint(value: u64) -> Vec<u8> {
    let mut w = Writer::new();
    w.uint(value);
    w.into_bytes()
}

fn bstr(value: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(value);
    w.into_bytes()
}

fn text(value: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.text(value);
    w.into_bytes()
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(items.len());
    let mut bytes = w.into_bytes();
    bytes.extend(items.concat());
    bytes
}

fn payload(kind: &str, salt: &[u8], ops: &[Vec<u8>]) -> Vec<u8> {
    array(&[text(kind), bstr(salt), array(ops)])
}

fn settings(ops: &[Vec<u8>]) -> Vec<u8> {
    payload("settings", &[], ops)
}

fn rules(n: u64) -> Vec<u8> {
    array(&[uint(0), uint(n)])
}

fn slot(key: &SecretKey) -> Vec<u8> {
    bstr(&key.public().0)
}

fn set(slot: Vec<u8>, permission: u64, level: u64) -> Vec<u8> {
    array(&[uint(1), slot, uint(permission), uint(level)])
}

fn revoke(slot: Vec<u8>, mode: u64, fence: Vec<u8>) -> Vec<u8> {
    array(&[uint(2), slot, uint(mode), fence])
}

fn accept(ids: &[Bytes32]) -> Vec<u8> {
    array(&[uint(3), id_list(ids)])
}

fn title(value: &str) -> Vec<u8> {
    array(&[uint(4), text(value)])
}

fn invite(key: Vec<u8>, permission: u64, expires: Vec<u8>) -> Vec<u8> {
    array(&[uint(5), key, uint(permission), expires])
}

fn withdraw(key: Vec<u8>, mode: u64, fence: Vec<u8>) -> Vec<u8> {
    array(&[uint(6), key, uint(mode), fence])
}

fn join(invite: Vec<u8>, permission: u64, proof: &[u8]) -> Vec<u8> {
    array(&[uint(7), invite, uint(permission), bstr(proof)])
}

/// What the key of an invite signs, by hand.
fn proof(invite: &SecretKey, tree: &Bytes32, joiner: &SecretKey, permission: u8) -> [u8; 64] {
    let message = [&tree[..], &joiner.public().0, &[permission]].concat();
    sign(Domain::Join, invite, &message).0
}

fn id_list(ids: &[Bytes32]) -> Vec<u8> {
    array(&ids.iter().map(|id| bstr(id)).collect::<Vec<_>>())
}

/// Ids that ascend.
fn ids(count: u16) -> Vec<Bytes32> {
    (0..count)
        .map(|i| {
            let mut id = *blake3::hash(&i.to_be_bytes()).as_bytes();
            id[..2].copy_from_slice(&i.to_be_bytes());
            id
        })
        .collect()
}

// Blocks by hand.

fn section_of(name: Vec<u8>, enc: Vec<u8>, len: Vec<u8>, hash: &[u8], blobs: Vec<u8>) -> Vec<u8> {
    array(&[name, enc, len, bstr(hash), blobs])
}

fn section(name: &str, payload: &[u8]) -> Vec<u8> {
    let hash = blake3::hash(payload);
    section_of(text(name), NULL.into(), uint(payload.len() as u64), hash.as_bytes(), array(&[]))
}

/// A section whose payload is not here.
fn section_without(name: &str, len: u64) -> Vec<u8> {
    section_of(text(name), NULL.into(), uint(len), &[0x55; 32], array(&[]))
}

/// The elements of a header, each encoded, with what belongs to it.
struct Raw {
    elements: Vec<Vec<u8>>,
    payloads: Vec<Option<Vec<u8>>>,
    parents: Vec<(Bytes32, u64, u64)>,
    key: SecretKey,
    height: u64,
    time: u64,
}

const TREE_AT: usize = 1;
const PARENTS_AT: usize = 2;
const HEIGHT_AT: usize = 3;
const TIME_AT: usize = 4;
const AUTHOR_AT: usize = 5;
const AUTHORITY_AT: usize = 6;
const SECTIONS_AT: usize = 7;
const NONCE_AT: usize = 8;
const EXT_AT: usize = 9;

impl Raw {
    fn root(payload: Vec<u8>) -> Self {
        let key = recovery();
        let raw = Self {
            elements: vec![
                uint(1),
                NULL.into(),
                array(&[]),
                uint(0),
                uint(MS),
                bstr(&key.public().0),
                NULL.into(),
                array(&[]),
                bstr(&[9; 16]),
                NULL.into(),
            ],
            payloads: Vec::new(),
            parents: Vec::new(),
            key,
            height: 0,
            time: MS,
        };
        raw.writes("_settings", payload)
    }

    /// An entry without sections below one parent of height 4.
    fn child() -> Self {
        Self {
            elements: vec![
                uint(1),
                bstr(&TREE),
                NULL.into(),
                NULL.into(),
                NULL.into(),
                bstr(&device().public().0),
                NULL.into(),
                array(&[]),
                NULL.into(),
                NULL.into(),
            ],
            payloads: Vec::new(),
            parents: Vec::new(),
            key: device(),
            height: 5,
            time: MS + 7,
        }
        .height(5)
        .time(MS + 7)
        .below(&[([0x11; 32], 4, MS)])
    }

    fn change(payload: Vec<u8>) -> Self {
        Self::child().writes("_settings", payload)
    }

    fn element(mut self, at: usize, encoded: impl Into<Vec<u8>>) -> Self {
        self.elements[at] = encoded.into();
        self
    }

    fn below(mut self, parents: &[(Bytes32, u64, u64)]) -> Self {
        self.parents = parents.to_vec();
        let listed: Vec<Bytes32> = parents.iter().map(|parent| parent.0).collect();
        self.element(PARENTS_AT, id_list(&listed))
    }

    fn height(mut self, height: u64) -> Self {
        self.height = height;
        self.element(HEIGHT_AT, uint(height))
    }

    fn time(mut self, time: u64) -> Self {
        self.time = time;
        self.element(TIME_AT, uint(time))
    }

    fn sections(self, sections: &[Vec<u8>]) -> Self {
        self.element(SECTIONS_AT, array(sections))
    }

    fn with(mut self, payloads: Vec<Option<Vec<u8>>>) -> Self {
        self.payloads = payloads;
        self
    }

    fn writes(self, store: &str, payload: Vec<u8>) -> Self {
        self.sections(&[section(store, &payload)]).with(vec![Some(payload)])
    }

    fn header(&self) -> Vec<u8> {
        array(&self.elements)
    }

    fn vector(self, name: &str, block: Vec<u8>, expect: Expect) -> Vector {
        Vector { name: name.to_owned(), block, payloads: self.payloads, parents: self.parents, expect }
    }
}

fn block(header: &[u8], signature: &[u8]) -> Vec<u8> {
    array(&[bstr(header), bstr(signature)])
}

fn signed(key: &SecretKey, header: &[u8]) -> Vec<u8> {
    block(header, &sign(Domain::Entry, key, header).0)
}

#[derive(Default)]
struct Vectors(Vec<Vector>);

impl Vectors {
    fn valid(&mut self, name: &str, raw: Raw) {
        let bytes = signed(&raw.key, &raw.header());
        let author = raw.key.public().0;
        self.valid_block(name, raw, bytes, author);
    }

    fn valid_block(&mut self, name: &str, raw: Raw, bytes: Vec<u8>, author: Bytes32) {
        let expect = Expect::Valid { height: raw.height, time: raw.time, author };
        self.0.push(raw.vector(name, bytes, expect));
    }

    /// Signed, and refused for another reason.
    fn refused(&mut self, code: &'static str, name: &str, raw: Raw) {
        let header = raw.header();
        self.refused_header(code, name, raw, &header);
    }

    fn refused_header(&mut self, code: &'static str, name: &str, raw: Raw, header: &[u8]) {
        let bytes = signed(&raw.key, header);
        self.refused_block(code, name, raw, bytes);
    }

    fn refused_block(&mut self, code: &'static str, name: &str, raw: Raw, bytes: Vec<u8>) {
        self.0.push(raw.vector(name, bytes, Expect::Error(code)));
    }
}

/// Every vector of `vectors/entries.json`, in its order.
pub(crate) fn entries() -> Vec<Vector> {
    let mut all = Vectors::default();
    valid_roots(&mut all);
    valid_children(&mut all);
    valid_settings(&mut all);
    valid_signatures(&mut all);
    invalid_blocks(&mut all);
    invalid_canon(&mut all);
    invalid_headers(&mut all);
    invalid_sizes(&mut all);
    invalid_payloads(&mut all);
    invalid_roots(&mut all);
    invalid_structure(&mut all);
    invalid_settings(&mut all);
    invalid_proofs(&mut all);
    invalid_places(&mut all);
    invalid_signatures(&mut all);
    unsupported(&mut all);
    missing(&mut all);
    all.0
}

fn first_admin() -> Vec<u8> {
    set(slot(&recovery()), 3, 0)
}

fn valid_roots(all: &mut Vectors) {
    let minimal = || Raw::root(settings(&[rules(1), first_admin()]));
    all.valid("root_minimal", minimal());
    let second = set(slot(&device()), 3, 1);
    all.valid("root_with_device_as_second_admin", Raw::root(settings(&[rules(1), first_admin(), second])));
    let open = [rules(2), first_admin(), invite(slot(&other()), 2, NULL.into())];
    all.valid("root_under_rules_2_with_an_invite", Raw::root(settings(&open)));
    all.valid("root_with_title", Raw::root(settings(&[rules(1), first_admin(), title("notes")])));
    let everyone = set(text("*"), 1, 0);
    all.valid("root_that_everyone_may_read", Raw::root(settings(&[rules(1), everyone, first_admin()])));
    let salted = payload("settings", &[0xaa; 255], &[rules(1), first_admin()]);
    all.valid("root_with_salt_of_255_bytes", Raw::root(salted));
    all.valid("root_at_time_zero", minimal().time(0));
    all.valid("root_at_greatest_time", minimal().time(u64::MAX));
    all.valid("root_with_zero_nonce", minimal().element(NONCE_AT, bstr(&[0; 16])));
}

fn valid_children(all: &mut Vectors) {
    let doc = payload("doc", &[], &[array(&[uint(1), text("name"), text("Ada")])]);
    all.valid("child_without_sections", Raw::child());
    let two = [([0x11; 32], 4, MS), ([0x12; 32], 6, MS + 3)];
    all.valid("merge_of_two_parents", Raw::child().below(&two).height(7));
    all.valid("parent_that_another_parent_may_descend_from", Raw::child().below(&two).height(7).time(MS + 3));
    all.valid("child_with_one_operation", Raw::child().writes("profile", doc.clone()));
    let salted = payload("table", &[1, 2, 3], &[array(&[uint(0)]), array(&[uint(9), uint(1)])]);
    all.valid("child_with_salt_and_unknown_operation", Raw::child().writes("todos", salted.clone()));
    all.valid(
        "child_with_three_sections",
        Raw::child().sections(&[section("a", &doc), section("ab", &salted), section("b", &[])]).with(vec![
            Some(doc.clone()),
            Some(salted),
            Some(Vec::new()),
        ]),
    );
    all.valid("payload_of_no_bytes", Raw::child().writes("s", Vec::new()));
    all.valid("payload_that_is_not_cbor", Raw::child().writes("s", vec![0xff; 9]));
    all.valid("payload_not_here", Raw::child().sections(&[section_without("s", 10)]).with(vec![None]));
    let two_stores = [section("a", &doc), section_without("b", 10)];
    all.valid("one_payload_of_two_not_here", {
        Raw::child().sections(&two_stores).with(vec![Some(doc.clone()), None])
    });
    all.valid("payload_of_1_mib", Raw::child().sections(&[section_without("s", MIB)]).with(vec![None]));
    let halves = [section_without("a", MIB - 1), section_without("b", 1)];
    all.valid("payloads_of_1_mib_together", Raw::child().sections(&halves).with(vec![None, None]));

    let at_most: Vec<_> =
        ids(64).into_iter().enumerate().map(|(i, id)| (id, i as u64, MS + i as u64)).collect();
    all.valid("parents_64", Raw::child().below(&at_most).height(64).time(MS + 63));
    let names: Vec<String> = (0..64).map(|i| format!("store-{i:02}")).collect();
    let sections: Vec<_> = names.iter().map(|name| section(name, &[])).collect();
    all.valid("sections_64", Raw::child().sections(&sections).with(vec![Some(Vec::new()); 64]));
    all.valid("store_name_of_1_byte", Raw::child().writes("s", doc.clone()));
    all.valid("store_name_of_64_bytes", Raw::child().writes(&"n".repeat(64), doc.clone()));
    all.valid("store_name_of_64_bytes_in_32_characters", Raw::child().writes(&"é".repeat(32), doc.clone()));
    all.valid("store_name_that_begins_like_the_settings", Raw::child().writes("_settings2", doc.clone()));
    all.valid("store_name_with_a_zero_byte", Raw::child().writes("a\0b", doc.clone()));

    let hash = *blake3::hash(&doc).as_bytes();
    let sealed = |enc: &[u8]| {
        let len = uint(doc.len() as u64);
        let one = section_of(text("c0ffee00c0ffee00"), bstr(enc), len, &hash, array(&[]));
        Raw::child().sections(&[one]).with(vec![Some(doc.clone())])
    };
    all.valid("encrypted_section", sealed(&[0xe1; 24]));
    all.valid("encryption_parameters_of_no_bytes", sealed(&[]));
    all.valid("encryption_parameters_of_256_bytes", sealed(&[0xe1; 256]));
    let blob = |len: u64| array(&[uint(len), bstr(&[0xb1; 32])]);
    let blobs = |blobs: &[Vec<u8>]| {
        let one = section_of(text("s"), NULL.into(), uint(doc.len() as u64), &hash, array(blobs));
        Raw::child().sections(&[one]).with(vec![Some(doc.clone())])
    };
    all.valid("blob", blobs(&[blob(5_000_000_000)]));
    all.valid("blobs_384", blobs(&vec![blob(1); 384]));
    all.valid("header_of_16_kib", header_of(16 * 1024));

    all.valid("time_of_the_parent", Raw::child().time(MS));
    let end_of_time = [([0x11; 32], 4, u64::MAX)];
    all.valid("time_that_saturated", Raw::child().below(&end_of_time).time(u64::MAX));
    let high = |height| [([0x11; 32], height, MS)];
    all.valid("height_above_32_bits", Raw::child().below(&high(1 << 32)).height((1 << 32) + 1));
    all.valid("height_of_64_bits", Raw::child().below(&high(u64::MAX - 1)).height(u64::MAX));
    all.valid("child_of_a_root", Raw::child().below(&high(0)).height(1));
}

/// A child whose header has exactly so many bytes: blobs fill it, encryption parameters make it even.
fn header_of(bytes: usize) -> Raw {
    let blob = array(&[uint(1 << 40), bstr(&[0xb1; 32])]);
    let filled = |count: usize, enc: usize| {
        let enc = bstr(&vec![0xe1; enc]);
        let blobs = array(&vec![blob.clone(); count]);
        let one = section_of(text("s"), enc, uint(0), blake3::hash(&[]).as_bytes(), blobs);
        Raw::child().sections(&[one]).with(vec![Some(Vec::new())])
    };
    let count = (bytes - filled(0, 0).header().len() - 60) / blob.len();
    (0..=256)
        .map(|enc| filled(count, enc))
        .find(|raw| raw.header().len() == bytes)
        .expect("encryption parameters of up to 256 bytes fill what blobs leave")
}

fn valid_settings(all: &mut Vectors) {
    let key = || slot(&other());
    let mut one = |name: &str, op: Vec<u8>| all.valid(name, Raw::change(settings(&[op])));
    one("settings_set_relay", set(key(), 0, 0));
    one("settings_set_read", set(key(), 1, 0));
    one("settings_set_write", set(key(), 2, 0));
    one("settings_set_admin_0", set(key(), 3, 0));
    one("settings_set_admin_of_greatest_number", set(key(), 3, u64::from(u32::MAX)));
    one("settings_set_everyone_write", set(text("*"), 2, 0));
    one("settings_revoke_remove", revoke(key(), 0, NULL.into()));
    one("settings_revoke_remove_with_fence", revoke(key(), 0, id_list(&ids(2))));
    one("settings_revoke_remove_with_fence_of_64", revoke(key(), 0, id_list(&ids(64))));
    one("settings_revoke_leave", revoke(key(), 1, NULL.into()));
    one("settings_revoke_everyone", revoke(text("*"), 0, NULL.into()));
    one("settings_accept_one", accept(&ids(1)));
    one("settings_accept_1024", accept(&ids(1024)));
    one("settings_title", title("Überschrift"));
    one("settings_title_of_no_bytes", title(""));
    one("settings_title_of_256_bytes", title(&"t".repeat(256)));
    one("settings_rules_again", rules(1));
    one("settings_rules_2", rules(2));
    one("settings_invite_relay", invite(key(), 0, NULL.into()));
    one("settings_invite_read_until", invite(key(), 1, uint(1_800_000_000_000)));
    one("settings_invite_write_until_the_end", invite(key(), 2, uint(u64::MAX)));
    one("settings_withdraw", withdraw(key(), 0, NULL.into()));
    one("settings_withdraw_with_fence", withdraw(key(), 0, id_list(&ids(2))));
    one("settings_withdraw_leave", withdraw(key(), 1, NULL.into()));
    for (permission, name) in [(0, "relay"), (1, "read"), (2, "write")] {
        let proof = proof(&other(), &TREE, &device(), permission);
        one(&format!("settings_join_{name}"), join(key(), permission.into(), &proof));
    }
    let opened = [rules(2), invite(key(), 1, NULL.into()), set(key(), 1, 0)];
    all.valid("settings_that_open_an_invite_and_set_its_key", Raw::change(settings(&opened)));
    let many = [set(key(), 2, 0), revoke(slot(&device()), 1, NULL.into()), set(text("*"), 0, 0), title("x")];
    all.valid("settings_of_several_operations", Raw::change(settings(&many)));
    let rotation = [set(key(), 3, 1), revoke(slot(&device()), 1, NULL.into())];
    all.valid("settings_rotation", Raw::change(settings(&rotation)));
    let every = [rules(1), set(key(), 1, 0), revoke(text("*"), 0, NULL.into()), accept(&ids(2)), title("x")];
    all.valid("settings_of_every_operation", Raw::change(settings(&every)));
    all.valid("settings_with_salt", Raw::change(payload("settings", &[7; 16], &[title("x")])));
}

fn invalid_blocks(all: &mut Vectors) {
    let code = "block_malformed";
    let header = Raw::child().header();
    let signature = sign(Domain::Entry, &device(), &header).0;
    let good = block(&header, &signature);
    let mut bad = |name: &str, bytes: Vec<u8>| all.refused_block(code, name, Raw::child(), bytes);
    bad("block_of_no_bytes", Vec::new());
    bad("block_that_is_a_number", uint(1));
    bad("block_of_one_item", array(&[bstr(&header)]));
    bad("block_of_three_items", array(&[bstr(&header), bstr(&signature), NULL.into()]));
    bad("block_with_header_as_array", array(&[header.clone(), bstr(&signature)]));
    bad("block_with_signature_of_63_bytes", block(&header, &signature[..63]));
    bad("block_with_signature_of_65_bytes", block(&header, &[&signature[..], &[0]].concat()));
    bad("block_with_signature_as_text", array(&[bstr(&header), text(&"s".repeat(64))]));
    bad("block_that_ends_early", good[..good.len() - 1].to_vec());
    bad("block_with_a_byte_behind", [&good[..], &[0]].concat());
    bad("block_with_a_tag_before", [&[0xd9, 0xd9, 0xf7], &good[..]].concat());
    bad("block_with_a_length_beyond_its_end", [&[0x82, 0x5a, 0xff, 0xff, 0xff, 0xff], &header[..]].concat());
}

fn invalid_canon(all: &mut Vectors) {
    let code = "non_canonical";
    let header = Raw::child().header();
    let signature = sign(Domain::Entry, &device(), &header).0;
    let long = {
        let len = u16::try_from(header.len()).expect("a small header").to_be_bytes();
        [&[0x82, 0x5a, 0, 0], &len[..], &header, &bstr(&signature)].concat()
    };
    all.refused_block(code, "block_with_a_long_form_length", Raw::child(), long);
    let endless = [&[0x9f], &bstr(&header)[..], &bstr(&signature), &[0xff]].concat();
    all.refused_block(code, "block_of_indefinite_length", Raw::child(), endless);
    let mut bad = |name: &str, raw: Raw| all.refused(code, name, raw);
    bad("version_in_long_form", Raw::child().element(0, [0x18, 1]));
    bad("tree_with_long_form_length", {
        Raw::child().element(TREE_AT, [&[0x59, 0, 32], &TREE[..]].concat())
    });
    bad("parents_of_indefinite_length", {
        Raw::child().element(PARENTS_AT, [&[0x9f], &bstr(&[0x11; 32])[..], &[0xff]].concat())
    });
    bad("height_in_long_form", Raw::child().element(HEIGHT_AT, [0x18, 5]));
    bad("time_in_long_form", Raw::child().element(TIME_AT, [0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
    bad("sections_count_in_long_form", Raw::child().element(SECTIONS_AT, [0x98, 0]));
    let named = |name: Vec<u8>| {
        let hash = blake3::hash(&[]);
        let one = section_of(name, NULL.into(), uint(0), hash.as_bytes(), array(&[]));
        Raw::child().sections(&[one]).with(vec![Some(Vec::new())])
    };
    bad("store_name_of_indefinite_length", named(vec![0x7f, 0x61, b's', 0xff]));
    bad("store_name_with_long_form_length", named(vec![0x78, 1, b's']));
    let len = |len: Vec<u8>| {
        let one = section_of(text("s"), NULL.into(), len, blake3::hash(&[]).as_bytes(), array(&[]));
        Raw::child().sections(&[one]).with(vec![Some(Vec::new())])
    };
    bad("payload_length_in_long_form", len(vec![0x18, 0]));
    bad("extension_that_is_not_a_number", {
        Raw::child().element(EXT_AT, [0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0])
    });
    let elements = Raw::child().elements.concat();
    let long_head = [&[0x98, 10], &elements[..]].concat();
    all.refused_header(code, "header_count_in_long_form", Raw::child(), &long_head);
}

fn invalid_headers(all: &mut Vectors) {
    let code = "header_malformed";
    let header = Raw::child().header();
    let mut bytes = |name: &str, header: &[u8]| all.refused_header(code, name, Raw::child(), header);
    bytes("header_of_no_bytes", &[]);
    bytes("header_that_is_a_map", &[0xa0]);
    bytes("header_that_ends_early", &header[..header.len() - 1]);
    bytes("header_with_a_byte_behind", &[&header[..], &[0]].concat());
    bytes("header_of_9_elements", &array(&Raw::child().elements[..9]));
    bytes("header_of_11_elements", &array(&[Raw::child().elements, vec![NULL.into()]].concat()));
    let mut bad = |name: &str, raw: Raw| all.refused(code, name, raw);
    bad("version_0", Raw::child().element(0, uint(0)));
    bad("version_below_zero", Raw::child().element(0, [0x20]));
    bad("version_as_text", Raw::child().element(0, text("1")));
    bad("tree_of_31_bytes", Raw::child().element(TREE_AT, bstr(&TREE[..31])));
    bad("tree_as_text", Raw::child().element(TREE_AT, text(&"t".repeat(32))));
    bad("tree_with_a_tag", Raw::child().element(TREE_AT, [&[0xd8, 42], &bstr(&TREE)[..]].concat()));
    bad("tree_undefined", Raw::child().element(TREE_AT, [0xf7]));
    bad("parent_of_31_bytes", Raw::child().element(PARENTS_AT, array(&[bstr(&[0x11; 31])])));
    bad("parents_null", Raw::child().element(PARENTS_AT, NULL));
    bad("parents_beyond_the_end", {
        Raw::child().element(PARENTS_AT, [0x9b, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    });
    bad("height_below_zero", Raw::child().element(HEIGHT_AT, [0x24]));
    bad("height_as_float", Raw::child().element(HEIGHT_AT, [0xfb, 0x40, 0x14, 0, 0, 0, 0, 0, 0]));
    bad("time_null", Raw::child().element(TIME_AT, NULL));
    bad("time_as_big_number", {
        Raw::child().element(TIME_AT, [&[0xc2], &bstr(&[1, 0, 0, 0, 0, 0, 0, 0, 0])[..]].concat())
    });
    bad("author_of_31_bytes", Raw::child().element(AUTHOR_AT, bstr(&[1; 31])));
    bad("author_null", Raw::child().element(AUTHOR_AT, NULL));
    let hash = *blake3::hash(&[]).as_bytes();
    let parts = || vec![text("s"), NULL.into(), uint(0), bstr(&hash), array(&[])];
    let of = |parts: &[Vec<u8>]| Raw::child().sections(&[array(parts)]).with(vec![Some(Vec::new())]);
    let with = |at: usize, part: Vec<u8>| {
        let mut changed = parts();
        changed[at] = part;
        of(&changed)
    };
    bad("section_of_4_elements", of(&parts()[..4]));
    bad("section_of_6_elements", of(&[parts(), vec![NULL.into()]].concat()));
    bad("section_as_map", Raw::child().sections(&[vec![0xa0]]).with(vec![Some(Vec::new())]));
    bad("store_name_as_bytes", with(0, bstr(b"s")));
    bad("store_name_not_utf8", with(0, vec![0x61, 0xff]));
    bad("store_name_with_a_surrogate", with(0, vec![0x63, 0xed, 0xa0, 0x80]));
    bad("encryption_parameters_as_text", with(1, text("e")));
    bad("payload_length_below_zero", with(2, vec![0x20]));
    bad("payload_hash_of_31_bytes", with(3, bstr(&hash[..31])));
    bad("blobs_null", with(4, NULL.into()));
    bad("blob_of_1_element", with(4, array(&[array(&[uint(1)])])));
    bad("blob_hash_of_33_bytes", with(4, array(&[array(&[uint(1), bstr(&[1; 33])])])));
    bad("blobs_385", with(4, array(&vec![array(&[uint(1), bstr(&[1; 32])]); 385])));
    let root = || Raw::root(settings(&[rules(1), first_admin()]));
    bad("nonce_of_15_bytes", root().element(NONCE_AT, bstr(&[9; 15])));
    bad("nonce_as_number", root().element(NONCE_AT, uint(9)));
    bad("extension_undefined", Raw::child().element(EXT_AT, [0xf7]));
    bad("extension_nested_65_deep", Raw::child().element(EXT_AT, nested(65)));
    bad("authority_with_a_tag", Raw::child().element(AUTHORITY_AT, [0xc0, 0x60]));
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = vec![0x81; depth - 1];
    bytes.push(0x80);
    bytes
}

fn invalid_sizes(all: &mut Vectors) {
    all.refused("header_too_large", "header_of_16_kib_and_1_byte", header_of(16 * 1024 + 1));
    all.refused("header_too_large", "header_of_17_kib", header_of(17 * 1024));
    let code = "payload_too_large";
    let one = |len: u64| Raw::child().sections(&[section_without("s", len)]).with(vec![None]);
    all.refused(code, "payload_of_1_mib_and_1_byte", one(MIB + 1));
    all.refused(code, "payload_length_above_32_bits", one(1 << 32));
    all.refused(code, "payload_length_of_64_bits", one(u64::MAX));
    let two = [section_without("a", MIB), section_without("b", 1)];
    all.refused(code, "payloads_above_1_mib_together", {
        Raw::child().sections(&two).with(vec![None, None])
    });
    let huge = vec![section_without("a", u64::from(u32::MAX)), section_without("b", u64::from(u32::MAX))];
    all.refused(code, "payload_lengths_whose_sum_needs_33_bits", {
        Raw::child().sections(&huge).with(vec![None, None])
    });
}

fn invalid_payloads(all: &mut Vectors) {
    let doc = payload("doc", &[], &[array(&[uint(1)])]);
    let mut bad = |name: &str, raw: Raw| all.refused("payload_mismatch", name, raw);
    let one = || Raw::child().writes("s", doc.clone());
    bad("payload_with_another_byte", one().with(vec![Some([&doc[..doc.len() - 1], &[2]].concat())]));
    bad("payload_that_ends_early", one().with(vec![Some(doc[..doc.len() - 1].to_vec())]));
    bad("payload_with_a_byte_behind", one().with(vec![Some([&doc[..], &[0]].concat())]));
    bad("payload_left_out_of_the_list", one().with(Vec::new()));
    bad("payload_too_many", one().with(vec![Some(doc.clone()), Some(Vec::new())]));
    bad("payload_without_a_section", Raw::child().with(vec![None]));
    let hash = blake3::hash(&doc);
    for (name, len) in [("payload_shorter_than_named", 10), ("payload_longer_than_named", 8)] {
        let lying = section_of(text("s"), NULL.into(), uint(len), hash.as_bytes(), array(&[]));
        bad(name, Raw::child().sections(&[lying]).with(vec![Some(doc.clone())]));
    }
    let swapped = [section("a", &doc), section("b", &[])];
    bad("payloads_in_the_wrong_order", {
        Raw::child().sections(&swapped).with(vec![Some(Vec::new()), Some(doc.clone())])
    });
}

fn invalid_roots(all: &mut Vectors) {
    let root = || Raw::root(settings(&[rules(1), first_admin()]));
    all.refused("root_with_parents", "root_with_a_parent", root().below(&[([0x11; 32], 4, MS)]));
    all.refused("root_height", "root_of_height_1", root().height(1));
    all.refused("root_without_nonce", "root_without_nonce", root().element(NONCE_AT, NULL));
    let mut bad = |name: &str, raw: Raw| all.refused("root_settings", name, raw);
    bad("root_without_rules", Raw::root(settings(&[first_admin()])));
    bad("root_with_rules_second", Raw::root(settings(&[first_admin(), rules(1)])));
    bad("root_without_first_admin", Raw::root(settings(&[rules(1)])));
    bad("root_signed_by_admin_1", Raw::root(settings(&[rules(1), set(slot(&recovery()), 3, 1)])));
    bad("root_signed_by_a_writer", Raw::root(settings(&[rules(1), set(slot(&recovery()), 2, 0)])));
    bad("root_signed_by_another_key", Raw::root(settings(&[rules(1), set(slot(&device()), 3, 0)])));
    bad("root_without_sections", root().sections(&[]).with(Vec::new()));
    bad("root_that_writes_another_store", {
        Raw::root(Vec::new()).writes("profile", settings(&[rules(1), first_admin()]))
    });
}

fn invalid_structure(all: &mut Vectors) {
    let mut bad = |code: &'static str, name: &str, raw: Raw| all.refused(code, name, raw);
    bad("nonce_outside_root", "child_with_a_nonce", Raw::child().element(NONCE_AT, bstr(&[9; 16])));
    bad("no_parents", "child_without_parents", Raw::child().below(&[]));
    let many: Vec<_> = ids(65).into_iter().map(|id| (id, 4, MS)).collect();
    bad("too_many_parents", "parents_65", Raw::child().below(&many));
    let (a, b) = (([0x11; 32], 4, MS), ([0x12; 32], 4, MS));
    bad("parents_unsorted", "parents_that_descend", Raw::child().below(&[b, a]));
    bad("parents_unsorted", "parents_that_repeat", Raw::child().below(&[a, a]));
    let names: Vec<String> = (0..65).map(|i| format!("store-{i:02}")).collect();
    let sections: Vec<_> = names.iter().map(|name| section(name, &[])).collect();
    bad("too_many_sections", "sections_65", {
        Raw::child().sections(&sections).with(vec![Some(Vec::new()); 65])
    });
    let two = |a: &str, b: &str| {
        Raw::child().sections(&[section(a, &[]), section(b, &[])]).with(vec![Some(Vec::new()); 2])
    };
    bad("sections_unsorted", "sections_that_descend", two("b", "a"));
    bad("sections_unsorted", "sections_that_repeat", two("a", "a"));
    bad("sections_unsorted", "sections_sorted_by_length_first", two("b", "aa"));
    bad("store_name", "store_name_of_no_bytes", Raw::child().writes("", Vec::new()));
    bad("store_name", "store_name_of_65_bytes", Raw::child().writes(&"n".repeat(65), Vec::new()));
    bad("store_name", "store_name_of_66_bytes_in_33_characters", {
        Raw::child().writes(&"é".repeat(33), Vec::new())
    });
    let sealed = |name: &str, enc: &[u8], payload: Vec<u8>| {
        let hash = blake3::hash(&payload);
        let len = uint(payload.len() as u64);
        let one = section_of(text(name), bstr(enc), len, hash.as_bytes(), array(&[]));
        Raw::child().sections(&[one]).with(vec![Some(payload)])
    };
    bad("enc_too_large", "encryption_parameters_of_257_bytes", sealed("s", &[0xe1; 257], Vec::new()));
    let change = settings(&[title("x")]);
    bad("settings_encrypted", "settings_encrypted", sealed("_settings", &[0xe1; 24], change.clone()));
    bad("settings_not_alone", "settings_with_another_store", {
        Raw::child()
            .sections(&[section("_settings", &change), section("a", &[])])
            .with(vec![Some(change), Some(Vec::new())])
    });
}

fn invalid_settings(all: &mut Vectors) {
    let key = || slot(&other());
    let code = "settings_malformed";
    let mut bytes = |name: &str, payload: Vec<u8>| all.refused(code, name, Raw::change(payload));
    bytes("settings_of_no_bytes", Vec::new());
    bytes("settings_that_are_not_cbor", vec![0xff; 5]);
    bytes("settings_of_another_kind", payload("doc", &[], &[title("x")]));
    bytes("settings_without_operations", settings(&[]));
    bytes("settings_with_salt_of_256_bytes", payload("settings", &[7; 256], &[title("x")]));
    bytes("settings_with_a_byte_behind", [&settings(&[title("x")])[..], &[0]].concat());
    bytes("settings_with_two_elements", array(&[text("settings"), bstr(&[])]));
    bytes("settings_in_long_form", {
        [&[0x83, 0x78, 8][..], b"settings", &bstr(&[]), &array(&[title("x")])].concat()
    });
    bytes("settings_that_set_a_slot_twice", settings(&[set(key(), 1, 0), set(key(), 2, 0)]));
    bytes("settings_that_set_and_revoke_a_slot", {
        settings(&[set(key(), 1, 0), revoke(key(), 0, NULL.into())])
    });
    bytes("settings_that_set_everyone_twice", {
        settings(&[set(text("*"), 1, 0), title("x"), set(text("*"), 1, 0)])
    });
    bytes("settings_that_accept_twice", settings(&[accept(&ids(1)), accept(&ids(2))]));
    bytes("settings_that_give_a_title_twice", settings(&[title("x"), title("x")]));
    bytes("settings_that_name_the_rules_twice", settings(&[rules(1), title("x"), rules(1)]));
    let mut one = |name: &str, op: Vec<u8>| bytes(name, settings(&[op]));
    one("settings_operation_that_is_a_number", uint(1));
    one("settings_operation_without_code", array(&[]));
    one("settings_operation_with_code_as_text", array(&[text("title"), text("x")]));
    one("settings_set_with_three_elements", array(&[uint(1), key(), uint(1)]));
    one("settings_set_with_five_elements", array(&[uint(1), key(), uint(1), uint(0), uint(0)]));
    one("settings_set_unknown_permission", set(key(), 4, 0));
    one("settings_set_write_with_level", set(key(), 2, 1));
    one("settings_set_admin_above_32_bits", set(key(), 3, 1 << 32));
    one("settings_set_everyone_admin", set(text("*"), 3, 9));
    one("settings_set_other_text_slot", set(text("?"), 1, 0));
    one("settings_set_long_text_slot", set(text("**"), 1, 0));
    one("settings_set_key_of_31_bytes", set(bstr(&[1; 31]), 1, 0));
    one("settings_revoke_unknown_mode", revoke(key(), 2, NULL.into()));
    one("settings_revoke_leave_with_fence", revoke(key(), 1, id_list(&ids(1))));
    one("settings_revoke_with_empty_fence", revoke(key(), 0, array(&[])));
    one("settings_revoke_with_fence_of_65", revoke(key(), 0, id_list(&ids(65))));
    one("settings_revoke_with_unsorted_fence", {
        revoke(key(), 0, id_list(&ids(2).into_iter().rev().collect::<Vec<_>>()))
    });
    one("settings_accept_nothing", accept(&[]));
    one("settings_accept_1025", accept(&ids(1025)));
    one("settings_accept_one_twice", accept(&[[1; 32], [1; 32]]));
    one("settings_accept_id_of_31_bytes", array(&[uint(3), array(&[bstr(&[1; 31])])]));
    one("settings_title_of_257_bytes", title(&"t".repeat(257)));
    one("settings_title_as_bytes", array(&[uint(4), bstr(b"x")]));
    one("settings_title_not_utf8", array(&[uint(4), vec![0x61, 0xff]]));
    one("settings_rules_as_text", array(&[uint(0), text("1")]));
    one("settings_invite_admin", invite(key(), 3, NULL.into()));
    one("settings_invite_everyone", invite(text("*"), 1, NULL.into()));
    one("settings_invite_until_a_text", invite(key(), 1, text("x")));
    one("settings_invite_with_five_elements", array(&[uint(5), key(), uint(1), NULL.into(), uint(0)]));
    one("settings_withdraw_everyone", withdraw(text("*"), 0, NULL.into()));
    one("settings_withdraw_unknown_mode", withdraw(key(), 2, NULL.into()));
    one("settings_withdraw_leave_with_fence", withdraw(key(), 1, id_list(&ids(1))));
    one("settings_join_admin", join(key(), 3, &[7; 64]));
    one("settings_join_with_proof_of_63_bytes", join(key(), 1, &[7; 63]));
    one("settings_join_with_five_elements", array(&[uint(7), key(), uint(1), bstr(&[7; 64]), uint(0)]));
    one("settings_revoke_of_a_slot_in_an_array", revoke(array(&[key()]), 0, NULL.into()));
    let mut many = |name: &str, ops: &[Vec<u8>]| all.refused(code, name, Raw::change(settings(ops)));
    let joins = || join(key(), 1, &proof(&other(), &TREE, &device(), 1));
    many("settings_that_join_and_give_a_title", &[joins(), title("x")]);
    many("settings_that_join_twice", &[joins(), join(slot(&recovery()), 1, &[7; 64])]);
    let both = [invite(key(), 1, NULL.into()), withdraw(key(), 0, NULL.into())];
    many("settings_that_open_and_withdraw_an_invite", &both);
}

/// Joins whose proof is not of this database, this key, this right, this invite, or this use.
fn invalid_proofs(all: &mut Vectors) {
    let mut bad = |name: &str, proof: [u8; 64]| {
        let op = join(slot(&other()), 1, &proof);
        all.refused("join_proof", name, Raw::change(settings(&[op])));
    };
    let message = [&TREE[..], &device().public().0, &[1]].concat();
    bad("join_proof_of_zeros", [0; 64]);
    bad("join_proof_for_another_database", proof(&other(), &[0x78; 32], &device(), 1));
    bad("join_proof_for_another_key", proof(&other(), &TREE, &recovery(), 1));
    bad("join_proof_for_less", proof(&other(), &TREE, &device(), 0));
    bad("join_proof_for_more", proof(&other(), &TREE, &device(), 2));
    bad("join_proof_by_another_invite", proof(&recovery(), &TREE, &device(), 1));
    bad("join_proof_by_the_joiner", proof(&device(), &TREE, &device(), 1));
    bad("join_proof_of_another_use", sign(Domain::KeyProof, &other(), &message).0);
    bad("join_proof_without_the_right", sign(Domain::Join, &other(), &message[..64]).0);
}

fn invalid_places(all: &mut Vectors) {
    let mut bad = |code: &'static str, name: &str, raw: Raw| all.refused(code, name, raw);
    bad("height", "height_of_the_parent", Raw::child().height(4));
    bad("height", "height_two_above_the_parent", Raw::child().height(6));
    bad("height", "height_zero_below_a_parent", Raw::child().height(0));
    let two = [([0x11; 32], 4, MS), ([0x12; 32], 9, MS)];
    bad("height", "height_above_the_lower_parent", Raw::child().below(&two).height(5));
    let top = [([0x11; 32], u64::MAX, MS)];
    bad("height", "height_below_a_parent_at_the_top", Raw::child().below(&top).height(u64::MAX));
    bad("time_before_parent", "time_before_the_parent", Raw::child().time(MS - 1));
    let later = [([0x11; 32], 4, MS), ([0x12; 32], 4, MS + 8)];
    bad("time_before_parent", "time_before_one_parent", Raw::child().below(&later));
    bad("time_before_parent", "time_zero", Raw::child().time(0));
}

fn unsupported(all: &mut Vectors) {
    let mut bad = |code: &'static str, name: &str, raw: Raw| all.refused(code, name, raw);
    bad("unsupported_version", "version_2", Raw::child().element(0, uint(2)));
    bad("unsupported_version", "version_of_64_bits", Raw::child().element(0, uint(u64::MAX)));
    bad("unsupported_extension", "extension_map", Raw::child().element(EXT_AT, [0xa1, 1, 2]));
    bad("unsupported_extension", "extension_empty_array", Raw::child().element(EXT_AT, [0x80]));
    bad("unsupported_extension", "extension_false", Raw::child().element(EXT_AT, [0xf4]));
    bad("unsupported_extension", "extension_nested_64_deep", Raw::child().element(EXT_AT, nested(64)));
    let authority = array(&[bstr(&[1; 32])]);
    bad("unsupported_authority", "authority_array", Raw::child().element(AUTHORITY_AT, authority));
    bad("unsupported_authority", "authority_zero", Raw::child().element(AUTHORITY_AT, uint(0)));
    bad("unsupported_rules", "rules_3_in_a_root", Raw::root(settings(&[rules(3), first_admin()])));
    bad("unsupported_rules", "rules_0", Raw::change(settings(&[rules(0)])));
    bad("unsupported_rules", "rules_3", Raw::change(settings(&[title("x"), rules(3)])));
    let op = |code: u64| Raw::change(settings(&[array(&[uint(code), text("anything")])]));
    bad("unsupported_settings_op", "settings_operation_8", op(8));
    bad("unsupported_settings_op", "settings_operation_of_64_bits", op(u64::MAX));
    bad("unsupported_settings_op", "settings_operation_8_of_no_elements", {
        Raw::change(settings(&[title("x"), array(&[uint(8)])]))
    });
    let other_shape = array(&[uint(3), NULL.into(), text("a later version looks otherwise")]);
    all.refused_header("unsupported_version", "version_3_of_another_shape", Raw::child(), &other_shape);
}

fn missing(all: &mut Vectors) {
    let mut without = Raw::child();
    without.parents.clear();
    all.refused("missing_parents", "parent_not_held", without);
    let change = settings(&[title("x")]);
    all.refused("missing_settings_payload", "settings_payload_not_here", {
        Raw::change(change).with(vec![None])
    });
}

// Signatures at the edges of ZIP-215.

/// The scalar behind a key, as RFC 8032 derives it.
fn scalar(key: &SecretKey) -> Scalar {
    let hash = Sha512::digest(&key.to_seed()[..]);
    let mut low = [0; 32];
    low.copy_from_slice(&hash[..32]);
    Scalar::from_bytes_mod_order(curve25519_dalek::scalar::clamp_integer(low))
}

fn challenge(r: &Bytes32, author: &Bytes32, message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r).chain_update(author).chain_update(message).finalize();
    let mut wide = [0; 64];
    wide.copy_from_slice(&hash);
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// Signs with any encodings of `A = a B + torsion` and `R = r B + torsion`: `S = r + k a`.
fn crafted(a: Scalar, author: &Bytes32, r: Scalar, r_bytes: &Bytes32, message: &[u8]) -> [u8; 64] {
    let s = r + challenge(r_bytes, author, message) * a;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(r_bytes);
    signature[32..].copy_from_slice(s.as_bytes());
    signature
}

fn encode(point: EdwardsPoint) -> Bytes32 {
    point.compress().to_bytes()
}

/// The 14 encodings of the 8 points of small order: first the 8 canonical ones, then the 6 others.
pub(crate) fn small_order_encodings() -> Vec<Bytes32> {
    let mut all: Vec<Bytes32> = EIGHT_TORSION.iter().copied().map(encode).collect();
    let high = |first: u8, last: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    let mut negative_zero = [0; 32];
    (negative_zero[0], negative_zero[31]) = (1, 0x80);
    all.push(negative_zero);
    all.extend([high(0xec, 0xff), high(0xed, 0x7f), high(0xed, 0xff), high(0xee, 0x7f), high(0xee, 0xff)]);
    all
}

fn entry_message(header: &[u8]) -> Vec<u8> {
    [sign_domain(Domain::Entry), header].concat()
}

fn valid_signatures(all: &mut Vectors) {
    let a = scalar(&device());
    let r = Scalar::from(0x5eed_u64);
    let mut one = |name: &str, author: Bytes32, r: Scalar, r_bytes: Bytes32| {
        let raw = Raw::child().element(AUTHOR_AT, bstr(&author));
        let header = raw.header();
        let signature = crafted(a, &author, r, &r_bytes, &entry_message(&header));
        all.valid_block(name, raw, block(&header, &signature), author);
    };
    let honest = encode(ED25519_BASEPOINT_POINT * a);
    let mixed = encode(ED25519_BASEPOINT_POINT * a + EIGHT_TORSION[1]);
    let r_mixed = encode(ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[3]);
    one("signature_by_hand", honest, r, encode(ED25519_BASEPOINT_POINT * r));
    one("author_of_mixed_order", mixed, r, encode(ED25519_BASEPOINT_POINT * r));
    one("r_of_mixed_order", honest, r, r_mixed);
    one("author_and_r_of_mixed_order", mixed, r, r_mixed);
    for (i, r_bytes) in small_order_encodings().into_iter().enumerate() {
        let form = if i < 8 { "small_order" } else { "small_order_not_canonical" };
        one(&format!("r_of_{form}_{i:02}"), honest, Scalar::ZERO, r_bytes);
    }
}

fn invalid_signatures(all: &mut Vectors) {
    let header = Raw::child().header();
    let good = sign(Domain::Entry, &device(), &header).0;
    let mut bad = |name: &str, signature: [u8; 64]| {
        all.refused_block("signature", name, Raw::child(), block(&header, &signature));
    };
    bad("signature_of_zeros", [0; 64]);
    let mut flipped = good;
    flipped[40] ^= 1;
    bad("signature_with_another_bit", flipped);
    bad("signature_by_another_key", sign(Domain::Entry, &other(), &header).0);
    bad("signature_of_another_header", sign(Domain::Entry, &device(), &Raw::child().height(6).header()).0);
    for domain in Domain::ALL.into_iter().filter(|domain| *domain != Domain::Entry) {
        bad(&format!("signature_for_{domain:?}").to_lowercase(), sign(domain, &device(), &header).0);
    }
    let a = scalar(&device());
    let r = Scalar::from(0x5eed_u64);
    let author = device().public().0;
    let r_bytes = encode(ED25519_BASEPOINT_POINT * r);
    bad("signature_without_domain", crafted(a, &author, r, &r_bytes, &header));
    let mut high = crafted(a, &author, r, &r_bytes, &entry_message(&header));
    add_group_order(&mut high);
    bad("s_not_canonical", high);
    let mut top = good;
    top[63] |= 0xe0;
    bad("s_with_high_bits", top);
    let mut off_curve = good;
    off_curve[..32].copy_from_slice(&not_a_point());
    bad("r_not_a_point", off_curve);
    let mut negated = good;
    negated[31] ^= 0x80;
    bad("r_negated", negated);
    let raw = Raw::child().element(AUTHOR_AT, bstr(&not_a_point()));
    all.refused("signature", "author_not_a_point", raw);
    let weak = small_order_encodings()[1];
    let raw = Raw::child().element(AUTHOR_AT, bstr(&weak));
    all.refused("signature", "author_of_small_order_with_another_s", raw);
}

/// y = 2 has no x on the curve.
pub(crate) fn not_a_point() -> Bytes32 {
    let mut bytes = [0; 32];
    bytes[0] = 2;
    bytes
}

/// Adds the order of the group to S: the same scalar in a form that is not canonical.
pub(crate) fn add_group_order(signature: &mut [u8; 64]) {
    // 2^252 + 27742317777372353535851937790883648493, little-endian.
    const ORDER: Bytes32 = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}

/// A signature alone: what the rule says of a key, a message and 64 bytes.
pub(crate) struct SignatureCase {
    pub(crate) name: String,
    pub(crate) key: Bytes32,
    pub(crate) message: Vec<u8>,
    pub(crate) signature: [u8; 64],
    pub(crate) valid: bool,
}

/// Every case of `vectors/signatures.json`: all pairs of small-order encodings, and what surrounds them.
///
/// A key of small order accepts messages that nobody signed, so no entry of `entries.json` has one as author.
pub(crate) fn signatures() -> Vec<SignatureCase> {
    let message = entry_message(b"a header");
    let mut all = Vec::new();
    let mut one = |name: String, key: Bytes32, signature: [u8; 64], valid: bool| {
        all.push(SignatureCase { name, key, message: message.clone(), signature, valid });
    };
    let forms = small_order_encodings();
    for (i, key) in forms.iter().enumerate() {
        for (j, r) in forms.iter().enumerate() {
            let zero = crafted(Scalar::ZERO, key, Scalar::ZERO, r, &message);
            one(format!("small_order_{i:02}_{j:02}"), *key, zero, true);
        }
    }
    let (a, r) = (scalar(&device()), Scalar::from(0x5eed_u64));
    for (i, torsion) in EIGHT_TORSION.iter().enumerate() {
        for (j, r_torsion) in EIGHT_TORSION.iter().enumerate() {
            let key = encode(ED25519_BASEPOINT_POINT * a + torsion);
            let r_bytes = encode(ED25519_BASEPOINT_POINT * r + r_torsion);
            one(format!("mixed_order_{i}_{j}"), key, crafted(a, &key, r, &r_bytes, &message), true);
        }
    }
    let honest = encode(ED25519_BASEPOINT_POINT * a);
    for (i, form) in forms.iter().enumerate() {
        let r_bytes = encode(ED25519_BASEPOINT_POINT * r);
        one(
            format!("small_order_key_{i:02}"),
            *form,
            crafted(Scalar::ZERO, form, r, &r_bytes, &message),
            true,
        );
        let off_by_one = crafted(Scalar::ONE, form, r, &r_bytes, &message);
        one(format!("small_order_key_{i:02}_with_another_s"), *form, off_by_one, false);
        let mut high = crafted(Scalar::ZERO, form, Scalar::ZERO, form, &message);
        add_group_order(&mut high);
        one(format!("small_order_{i:02}_s_not_canonical"), *form, high, false);
        one(format!("small_order_r_{i:02}"), honest, crafted(a, &honest, Scalar::ZERO, form, &message), true);
        one(
            format!("small_order_r_{i:02}_with_another_s"),
            honest,
            crafted(a, &honest, r, form, &message),
            false,
        );
    }
    let good = crafted(a, &honest, r, &encode(ED25519_BASEPOINT_POINT * r), &message);
    one("honest".to_owned(), honest, good, true);
    one("honest_for_another_key".to_owned(), other().public().0, good, false);
    one("key_not_a_point".to_owned(), not_a_point(), good, false);
    let mut off_curve = good;
    off_curve[..32].copy_from_slice(&not_a_point());
    one("r_not_a_point".to_owned(), honest, off_curve, false);
    // p + 2 is y = 2 in another form, and no point either.
    let mut off_curve_high = [0xff; 32];
    (off_curve_high[0], off_curve_high[31]) = (0xef, 0x7f);
    one("key_not_a_point_not_canonical".to_owned(), off_curve_high, good, false);
    let mut high = good;
    add_group_order(&mut high);
    one("s_not_canonical".to_owned(), honest, high, false);
    all
}

// JSON, one vector on a line.

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The text of `vectors/entries.json`.
pub(crate) fn entries_json() -> String {
    lines(entries().iter().map(|vector| {
        let payloads: Vec<String> = vector
            .payloads
            .iter()
            .map(|payload| payload.as_ref().map_or("null".to_owned(), |bytes| format!("\"{}\"", hex(bytes))))
            .collect();
        // Names of an object are unique; only invalid vectors list a parent twice.
        let unique: BTreeMap<_, _> = vector.parents.iter().map(|(id, height, time)| (id, (height, time))).collect();
        let parents: Vec<String> = unique
            .iter()
            .map(|(id, (height, time))| format!("\"{}\":{{\"height\":{height},\"time\":{time}}}", hex(&id[..])))
            .collect();
        let expect = match &vector.expect {
            Expect::Error(code) => format!("{{\"error\":\"{code}\"}}"),
            Expect::Valid { height, time, author } => {
                let id = EntryId::of_block(&vector.block);
                format!(
                    "{{\"id\":\"{}\",\"text_id\":\"{id}\",\"height\":{height},\"time\":{time},\"author\":\"{}\"}}",
                    hex(&id.0),
                    hex(author)
                )
            }
        };
        format!(
            "{{\"name\":\"{}\",\"block\":\"{}\",\"payloads\":[{}],\"parents\":{{{}}},\"expect\":{expect}}}",
            vector.name,
            hex(&vector.block),
            payloads.join(","),
            parents.join(","),
        )
    }))
}

/// The text of `vectors/signatures.json`.
pub(crate) fn signatures_json() -> String {
    lines(signatures().iter().map(|case| {
        format!(
            "{{\"name\":\"{}\",\"key\":\"{}\",\"message\":\"{}\",\"signature\":\"{}\",\"valid\":{}}}",
            case.name,
            hex(&case.key),
            hex(&case.message),
            hex(&case.signature),
            case.valid
        )
    }))
}

fn lines(items: impl Iterator<Item = String>) -> String {
    let mut out = String::from("[\n");
    for (i, item) in items.enumerate() {
        let comma = if i == 0 { "" } else { ",\n" };
        write!(out, "{comma}{item}").expect("writing to a string does not fail");
    }
    out.push_str("\n]\n");
    out
}
