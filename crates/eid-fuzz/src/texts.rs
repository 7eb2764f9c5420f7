//! Texts that people hand to one another.

use data_encoding::BASE32_NOPAD;
use eid_core::{SecretKey, TreeId};
use eid_sync::DatabaseTicket;
use eid_sync::limits::{TICKET_ADDRESSES_MAX, TICKET_BYTES_MAX};
use eid_transport::Address;
use eid_transport::limits::ADDRESS_BYTES_MAX;

use crate::source::Source;

/// An address has one spelling, and within its bound.
pub(crate) fn address(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(address) = text.parse::<Address>() else { return };
    assert_eq!(address.to_string(), text);
    assert_eq!(format!("{}:{}", address.scheme(), address.rest()), text);
    assert!(text.len() <= ADDRESS_BYTES_MAX);
}

pub(crate) fn address_seeds() -> Vec<Vec<u8>> {
    let key = SecretKey::from_seed([1; 32]).public();
    let texts = [
        "http://192.0.2.7:7070".to_owned(),
        "http://[2001:db8::7]:7070/eid/main".to_owned(),
        "quic:a-b.example:65535".to_owned(),
        "http://h:080".to_owned(),
        "http://h:1/".to_owned(),
        "memory:alice".to_owned(),
        "other:abc?x=1".to_owned(),
        format!("iroh:{key}"),
        format!("iroh:{key}?relay=https://relay.example./&ip=10.0.0.1:7&ip=[fe80::1]:7"),
    ];
    texts.map(String::into_bytes).to_vec()
}

/// What was understood of a ticket is what its own text says, and that text is one.
///
/// The first byte says whether the check sum is put right, as somebody who writes tickets by hand would.
pub(crate) fn ticket(input: &[u8]) {
    let mut source = Source::new(input);
    let mend = source.bool();
    let Ok(text) = std::str::from_utf8(source.rest()) else { return };
    let text = if mend { mended(text) } else { text.to_owned() };
    let Ok(ticket) = text.parse::<DatabaseTicket>() else { return };
    assert!(text.len() <= TICKET_BYTES_MAX && ticket.addresses.len() <= TICKET_ADDRESSES_MAX);
    let again = ticket.to_string();
    let same: DatabaseTicket = again.parse().expect("the text of a ticket is a ticket");
    assert_eq!((same.db, same.key), (ticket.db, ticket.key));
    // Escaping takes room: what does not fit is left out.
    let mut rest = ticket.addresses.iter();
    assert!(same.addresses.iter().all(|address| rest.any(|other| other == address)));
    let fits = ticket.addresses.iter().map(|address| 3 * address.as_str().len() + 4).sum::<usize>() < 3_700;
    assert!(!fits || same.addresses == ticket.addresses);
    let invite = |ticket: &DatabaseTicket| ticket.invite.as_ref().map(SecretKey::public);
    assert_eq!(invite(&same), invite(&ticket));
    if let Some(invite) = &ticket.invite {
        let secret = BASE32_NOPAD.encode(&*invite.to_seed()).to_lowercase();
        assert!(!format!("{ticket:?}").contains(&secret), "a secret is shown");
    }
}

/// The text with the sum that it has to have.
fn mended(text: &str) -> String {
    let (query, fragment) = text.find('#').map_or((text, ""), |at| text.split_at(at));
    let before = query.rsplit_once("&sum=").map_or(query, |(before, _)| before);
    let mut hasher = blake3::Hasher::new_derive_key("eid 2026 ticket check sum");
    hasher.update(&(before.len() as u64).to_le_bytes()).update(before.as_bytes()).update(fragment.as_bytes());
    let sum = BASE32_NOPAD.encode(hasher.finalize().as_bytes()).to_lowercase();
    format!("{before}&sum={}{fragment}", &sum[..8])
}

pub(crate) fn ticket_seeds() -> Vec<Vec<u8>> {
    let addresses: Vec<Address> =
        address_seeds().iter().filter_map(|text| std::str::from_utf8(text).ok()?.parse().ok()).collect();
    let ticket = |addresses: &[Address], invite: Option<SecretKey>| {
        let key = SecretKey::from_seed([2; 32]).public();
        let ticket = DatabaseTicket {
            db: TreeId([1; 32]),
            key,
            addresses: addresses.to_vec(),
            others: Vec::new(),
            invite,
        };
        [&[1], ticket.to_string().as_bytes()].concat()
    };
    // Text that grows when it is escaped.
    let long = format!("http://h:1{}", "/a".repeat((ADDRESS_BYTES_MAX - 10) / 2));
    let plain = format!("db={}&key={}", TreeId([1; 32]), SecretKey::from_seed([2; 32]).public());
    let written = format!("\u{1}eid:?{plain}{}", format!("&at={long}").repeat(TICKET_ADDRESSES_MAX));
    vec![
        written.into_bytes(),
        ticket(&[], None),
        ticket(&addresses[..1], Some(SecretKey::from_seed([3; 32]))),
        ticket(&addresses, Some(SecretKey::from_seed([4; 32]))),
    ]
}
