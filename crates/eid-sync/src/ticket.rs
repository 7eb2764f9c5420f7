//! Tickets: everything that somebody needs to join a database, as one line of text.

use std::fmt;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use eid_core::{ParseIdError, ParseKeyError, PublicKey, SecretKey, TreeId};
use eid_transport::Address;

use crate::limits::{TICKET_ADDRESSES_MAX, TICKET_BYTES_MAX, TICKET_OTHERS_MAX};

const SCHEME: &str = "eid:?";
const SUM: &str = "&sum=";
/// Characters of the check sum: a cut or mistyped ticket passes once in 2^40.
const SUM_CHARS: usize = 8;

/// Names a database, a server and the ways to it; with an invite, whoever has the ticket may join.
///
/// Its text is `eid:?db=ID&key=KEY&at=ADDRESS&..&also=KEY,ADDRESS&..&sum=SUM#inv=INVITE`. The invite stands in the fragment, which
/// programs that follow links do not send on. The sum covers everything else, so that a ticket that lost its end is
/// not taken for one without an invite. Unknown parameters are ignored; an address that this version does not
/// understand is skipped.
///
/// ```
/// use eid_core::{SecretKey, TreeId};
/// use eid_sync::DatabaseTicket;
///
/// let ticket = DatabaseTicket {
///     db: TreeId([1; 32]),
///     key: SecretKey::from_seed([2; 32]).public(),
///     addresses: vec!["http://192.0.2.7:7070".parse().unwrap()],
///     others: Vec::new(),
///     invite: Some(SecretKey::from_seed([3; 32])),
/// };
/// let text = ticket.to_string();
/// let again: DatabaseTicket = text.parse().unwrap();
/// assert_eq!(again.addresses, ticket.addresses);
/// assert!(text[..text.len() - 1].parse::<DatabaseTicket>().is_err());
/// ```
#[derive(Clone)]
pub struct DatabaseTicket {
    /// The database.
    pub db: TreeId,
    /// The device key of the server that made the ticket. Any other server at its addresses is refused.
    pub key: PublicKey,
    /// Where the server may be reached.
    pub addresses: Vec<Address>,
    /// Other servers of the database, for an open invite whose maker is away.
    pub others: Vec<OtherServer>,
    /// Grants what it promises to whoever proves it.
    pub invite: Option<SecretKey>,
}

/// A server that a ticket names beside the one that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherServer {
    /// Its device key: whoever else answers there is refused.
    pub key: PublicKey,
    /// Where it may be reached.
    pub address: Address,
}

/// Says why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not begin with `eid:?`.
    #[error("a ticket begins with \"eid:?\"")]
    Scheme,
    /// It is longer than any ticket.
    #[error("a ticket has at most {TICKET_BYTES_MAX} bytes")]
    Length,
    /// The end is missing, or a character was changed.
    #[error("the ticket is cut short or mistyped")]
    Damaged,
    /// A parameter is missing.
    #[error("the ticket has no \"{0}\"")]
    Absent(&'static str),
    /// A parameter is there twice.
    #[error("the ticket has \"{0}\" twice")]
    Twice(&'static str),
    /// The database is not an id.
    #[error("the database of the ticket is not an id")]
    Database(#[source] ParseIdError),
    /// The server's key is not a key.
    #[error("the key of the ticket is not a key")]
    Key(#[source] ParseKeyError),
    /// The invite is not one.
    #[error("the invite of the ticket does not decode")]
    Invite,
}

impl DatabaseTicket {
    /// The text without its sum: before the place where the sum stands, and after it. Addresses that do not fit are left
    /// out: a ticket that nobody can read leads nowhere.
    fn parts(&self) -> (String, String) {
        let mut text = format!("{SCHEME}db={}&key={}", self.db, self.key);
        let fragment = match &self.invite {
            Some(invite) => format!("#inv={}", base32().encode(&*invite.to_seed())),
            None => String::new(),
        };
        let room = TICKET_BYTES_MAX - SUM.len() - SUM_CHARS - fragment.len();
        for address in self.addresses.iter().take(TICKET_ADDRESSES_MAX) {
            let without = text.len();
            text.push_str("&at=");
            escape(address.as_str(), &mut text);
            if text.len() > room {
                text.truncate(without);
            }
        }
        for other in self.others.iter().take(TICKET_OTHERS_MAX) {
            let without = text.len();
            text.push_str(&format!("&also={},", other.key));
            escape(other.address.as_str(), &mut text);
            if text.len() > room {
                text.truncate(without);
            }
        }
        (text, fragment)
    }
}

impl fmt::Display for DatabaseTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, fragment) = self.parts();
        write!(f, "{text}{SUM}{}{fragment}", sum(&text, &fragment))
    }
}

impl fmt::Debug for DatabaseTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseTicket")
            .field("db", &self.db)
            .field("key", &self.key)
            .field("addresses", &self.addresses)
            .field("others", &self.others)
            .field("invite", &self.invite.as_ref().map(|_| "secret"))
            .finish()
    }
}

impl FromStr for DatabaseTicket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > TICKET_BYTES_MAX {
            return Err(TicketError::Length);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(TicketError::Scheme)?;
        let (query, fragment) = match rest.find('#') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (before, found) = query.rsplit_once(SUM).ok_or(TicketError::Damaged)?;
        if found != sum(&format!("{SCHEME}{before}"), fragment) {
            return Err(TicketError::Damaged);
        }
        let (mut db, mut key, mut addresses, mut others) = (None, None, Vec::new(), Vec::new());
        for (name, value) in before.split('&').filter_map(|part| part.split_once('=')) {
            match name {
                "db" => once("db", &mut db, value.parse().map_err(TicketError::Database)?)?,
                "key" => once("key", &mut key, value.parse().map_err(TicketError::Key)?)?,
                "at" if addresses.len() < TICKET_ADDRESSES_MAX => {
                    addresses.extend(unescape(value).and_then(|text| text.parse().ok()));
                }
                "also" if others.len() < TICKET_OTHERS_MAX => others.extend(other_server(value)),
                _ => {}
            }
        }
        let mut invite = None;
        for (name, value) in fragment.trim_start_matches('#').split('&').filter_map(|p| p.split_once('=')) {
            if name == "inv" {
                once("inv", &mut invite, decode_invite(value)?)?;
            }
        }
        let db = db.ok_or(TicketError::Absent("db"))?;
        let key = key.ok_or(TicketError::Absent("key"))?;
        Ok(Self { db, key, addresses, others, invite })
    }
}

/// Another server, when this version understands how it is named.
fn other_server(text: &str) -> Option<OtherServer> {
    let (key, address) = text.split_once(',')?;
    Some(OtherServer { key: key.parse().ok()?, address: unescape(address)?.parse().ok()? })
}

fn once<T>(name: &'static str, slot: &mut Option<T>, value: T) -> Result<(), TicketError> {
    if slot.replace(value).is_some() { Err(TicketError::Twice(name)) } else { Ok(()) }
}

fn decode_invite(value: &str) -> Result<SecretKey, TicketError> {
    let bytes = base32().decode(value.as_bytes()).map_err(|_| TicketError::Invite)?;
    bytes.try_into().map(SecretKey::from_seed).map_err(|_| TicketError::Invite)
}

fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("RFC 4648 base32 in lower case is a valid alphabet")
}

fn sum(before: &str, fragment: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("eid 2026 ticket check sum");
    hasher.update(&(before.len() as u64).to_le_bytes()).update(before.as_bytes()).update(fragment.as_bytes());
    base32().encode(hasher.finalize().as_bytes())[..SUM_CHARS].to_owned()
}

/// Percent-encodes everything but unreserved characters (RFC 3986).
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use eid_transport::limits::ADDRESS_BYTES_MAX;

    fn ticket(addresses: &[&str], invite: Option<u8>) -> DatabaseTicket {
        DatabaseTicket {
            db: TreeId([1; 32]),
            key: SecretKey::from_seed([2; 32]).public(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            others: Vec::new(),
            invite: invite.map(|n| SecretKey::from_seed([n; 32])),
        }
    }

    fn signed(before: &str, fragment: &str) -> String {
        format!("{before}&sum={}{fragment}", sum(before, fragment))
    }

    #[test]
    fn addresses_that_do_not_fit_are_left_out_of_the_text() {
        let long = format!("http://h:1{}", "/a".repeat((ADDRESS_BYTES_MAX - 10) / 2));
        let mut addresses = vec![long.as_str(); 7];
        addresses.push("http://h:1");
        let ticket = ticket(&addresses, Some(3));
        let text = ticket.to_string();
        assert!(text.len() <= TICKET_BYTES_MAX, "{} bytes", text.len());
        let again: DatabaseTicket = text.parse().unwrap();
        assert_eq!((again.db, again.key), (ticket.db, ticket.key));
        assert!(again.addresses.len() > 4 && again.addresses.last() == ticket.addresses.last());
    }

    #[test]
    fn tickets_round_trip_with_no_one_and_many_addresses() {
        for addresses in
            [&[][..], &["http://[::1]:80/a-b"], &["http://h:1", "memory:x", "other:k?relay=1&x=%20"]]
        {
            for invite in [None, Some(3)] {
                let ticket = ticket(addresses, invite);
                let again: DatabaseTicket = ticket.to_string().parse().unwrap();
                assert_eq!((again.db, again.key), (ticket.db, ticket.key));
                assert_eq!(again.addresses, ticket.addresses);
                assert_eq!(again.invite.map(|k| k.public()), ticket.invite.map(|k| k.public()));
            }
        }
    }

    #[test]
    fn other_servers_are_named_with_their_keys_and_what_is_not_understood_is_skipped() {
        let server = |n: u8| OtherServer {
            key: SecretKey::from_seed([n; 32]).public(),
            address: format!("http://h{n}:1/a-b").parse().unwrap(),
        };
        let ticket =
            DatabaseTicket { others: (4..9).map(server).collect(), ..ticket(&["http://h:1"], Some(3)) };
        let again: DatabaseTicket = ticket.to_string().parse().unwrap();
        assert_eq!(again.others, ticket.others[..TICKET_OTHERS_MAX]);
        assert_eq!(again.addresses, ticket.addresses);
        let (before, _) = ticket.parts();
        let broken = signed(&format!("{before}&also=x&also=x,http%3A%2F%2Fh%3A1&also={},?", ticket.key), "");
        assert_eq!(broken.parse::<DatabaseTicket>().unwrap().others, ticket.others[..TICKET_OTHERS_MAX]);
        let without = signed(&format!("eid:?db={}&key={}&also=x&also=x,y", ticket.db, ticket.key), "");
        assert!(without.parse::<DatabaseTicket>().unwrap().others.is_empty());
    }

    #[test]
    fn a_ticket_that_was_cut_anywhere_is_refused() {
        let text = ticket(&["http://host:8080"], Some(3)).to_string();
        for end in 0..text.len() {
            let error = text[..end].parse::<DatabaseTicket>().unwrap_err();
            assert!(matches!(error, TicketError::Damaged | TicketError::Scheme), "{end} {error}");
        }
    }

    #[test]
    fn unknown_parameters_are_ignored_and_broken_addresses_skipped() {
        let good = ticket(&["http://host:1"], None);
        let before =
            format!("eid:?new=1&db={}&at=http%3A%2F%2Fhost&at=%zz&key={}&at=memory%3Aa", good.db, good.key);
        let parsed: DatabaseTicket = signed(&before, "#x=y").parse().unwrap();
        assert_eq!(parsed.addresses, ["memory:a".parse().unwrap()]);
        assert!(parsed.invite.is_none());
    }

    #[test]
    fn what_is_absent_repeated_or_malformed_is_named() {
        let good = ticket(&[], None);
        let (db, key) = (good.db, good.key);
        for (before, fragment, error) in [
            (format!("eid:?key={key}"), "", TicketError::Absent("db")),
            (format!("eid:?db={db}"), "", TicketError::Absent("key")),
            (format!("eid:?db={db}&db={db}&key={key}"), "", TicketError::Twice("db")),
            (format!("eid:?db={db}&key={key}"), "#inv=abc", TicketError::Invite),
            (format!("eid:?db=b&key={key}"), "", TicketError::Database(ParseIdError::Cid)),
        ] {
            assert_eq!(signed(&before, fragment).parse::<DatabaseTicket>().unwrap_err(), error);
        }
        let long = format!("eid:?{}", "x".repeat(TICKET_BYTES_MAX));
        assert_eq!(long.parse::<DatabaseTicket>().unwrap_err(), TicketError::Length);
        assert_eq!("http://x".parse::<DatabaseTicket>().unwrap_err(), TicketError::Scheme);
    }

    #[test]
    fn debug_does_not_show_the_invite() {
        let shown = format!("{:?}", ticket(&[], Some(3)));
        assert!(shown.contains("\"secret\"") && !shown.contains(&base32().encode(&[3; 32])[..8]));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_not_and_never_panics(text in "(eid:\\?)?[ -~]{0,120}(&sum=[a-z]{8})?(#inv=[a-z2-7]{0,60})?") {
            drop(text.parse::<DatabaseTicket>());
            drop(signed(&format!("eid:?{text}"), "").parse::<DatabaseTicket>());
        }
    }
}
