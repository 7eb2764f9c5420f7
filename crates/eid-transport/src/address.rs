//! Where a peer may be reached.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use eid_core::PublicKey;

use crate::limits::{ADDRESS_BYTES_MAX, SOCKETS_MAX};

/// Where a peer may be reached: a scheme, a colon, and what the transport of that scheme understands.
///
/// There is one spelling of an address, so that equal addresses are equal texts: `http://HOST:PORT[/prefix]`,
/// `quic:HOST:PORT`, `iroh:KEY[?relay=URL][&ip=IP:PORT..]` with the sockets in their order, `memory:NAME`. An address of an unknown scheme parses too; it is kept and handed on, and no transport dials it.
/// It holds no secret: user names and fragments are refused.
///
/// ```
/// use eid_transport::Address;
///
/// let address: Address = "http://example.org:8080/eid".parse()?;
/// assert_eq!((address.scheme(), address.rest()), ("http", "//example.org:8080/eid"));
/// assert!("http://example.org".parse::<Address>().is_err(), "the port is written out");
/// # Ok::<(), eid_transport::ParseAddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: String,
    scheme_len: usize,
}

/// Says why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// The text is empty or longer than [`ADDRESS_BYTES_MAX`].
    #[error("an address has 1 to {ADDRESS_BYTES_MAX} bytes")]
    Length,
    /// The text does not begin with a lower-case scheme and a colon, or nothing follows.
    #[error("an address begins with a scheme in lower case and a colon, as in http://HOST:PORT")]
    Scheme,
    /// A character is white space, a control, not ASCII, or one of `"<>\^`{|}@#`.
    #[error("an address has a character that is not allowed in it")]
    Character,
    /// The host of an `http` or `quic` address is missing or malformed.
    #[error(
        "the host of an address is a name, an IPv4 address or an IPv6 address in brackets, in lower case"
    )]
    Host,
    /// The port of an `http` or `quic` address is missing or not a number from 1 to 65535.
    #[error("an address names its port, a number from 1 to 65535")]
    Port,
    /// The path of an `http` address has an empty, `.` or `..` segment, ends in a slash, or holds a query.
    #[error("the path of an http address has plain segments and no slash at its end")]
    Path,
    /// An `iroh` address does not begin with a key.
    #[error("an iroh address begins with the key of its peer, as in iroh:ed25519:KEY")]
    Key,
    /// What follows the key of an `iroh` address is not one relay and some sockets, in order and each once.
    #[error(
        "after its key an iroh address has at most one relay and {SOCKETS_MAX} sockets, in order: \
         ?relay=https://HOST/&ip=IP:PORT"
    )]
    Ways,
    /// The name of a `memory` address is malformed.
    #[error("the name of a memory address is of letters, digits, '-', '_' and '.'")]
    Name,
}

impl Address {
    /// The scheme: what is before the first colon.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.text[..self.scheme_len]
    }

    /// What follows the first colon.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.text[self.scheme_len + 1..]
    }

    /// The whole address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.text)
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        if text.is_empty() || text.len() > ADDRESS_BYTES_MAX {
            return Err(ParseAddressError::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}@#".contains(&byte)) {
            return Err(ParseAddressError::Character);
        }
        let (scheme, rest) = text.split_once(':').ok_or(ParseAddressError::Scheme)?;
        let mut letters = scheme.bytes();
        let begins = letters.next().is_some_and(|first| first.is_ascii_lowercase());
        if !begins
            || rest.is_empty()
            || !letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(ParseAddressError::Scheme);
        }
        match scheme {
            "http" => check_http(rest)?,
            "quic" => check_authority(rest)?,
            "iroh" => check_iroh(rest)?,
            "memory" if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => {
                return Err(ParseAddressError::Name);
            }
            _ => {}
        }
        Ok(Self { text: text.to_owned(), scheme_len: scheme.len() })
    }
}

fn check_http(rest: &str) -> Result<(), ParseAddressError> {
    let rest = rest.strip_prefix("//").ok_or(ParseAddressError::Host)?;
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    check_authority(authority)?;
    let segment = |s: &str| {
        !s.is_empty()
            && s != "."
            && s != ".."
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
    };
    match path {
        Some(path) if !path.split('/').all(segment) => Err(ParseAddressError::Path),
        _ => Ok(()),
    }
}

fn check_authority(authority: &str) -> Result<(), ParseAddressError> {
    let (host, port) = authority.rsplit_once(':').ok_or(ParseAddressError::Port)?;
    let number: u16 = port.parse().map_err(|_| ParseAddressError::Port)?;
    if number == 0 || number.to_string() != port {
        return Err(ParseAddressError::Port);
    }
    if !is_host(host) {
        return Err(ParseAddressError::Host);
    }
    Ok(())
}

fn check_iroh(rest: &str) -> Result<(), ParseAddressError> {
    let (key, ways) = match rest.split_once('?') {
        Some((key, ways)) => (key, Some(ways)),
        None => (rest, None),
    };
    key.parse::<PublicKey>().map_err(|_| ParseAddressError::Key)?;
    let Some(ways) = ways else { return Ok(()) };
    let mut sockets: Vec<SocketAddr> = Vec::new();
    for (at, way) in ways.split('&').enumerate() {
        let good = match way.split_once('=') {
            Some(("relay", url)) => at == 0 && is_relay(url),
            Some(("ip", text)) => text.parse::<SocketAddr>().is_ok_and(|socket| {
                let next = sockets.last().is_none_or(|last| *last < socket);
                sockets.push(socket);
                next && sockets.len() <= SOCKETS_MAX && socket.port() != 0 && socket.to_string() == text
            }),
            _ => false,
        };
        if !good {
            return Err(ParseAddressError::Ways);
        }
    }
    Ok(())
}

/// Whether this is the URL of a relay: a host that may end in a dot, a port unless it is that of the scheme, a slash.
fn is_relay(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let Some(authority) = rest.strip_suffix('/') else { return false };
    let usual = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "1"),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    port != usual && check_authority(&format!("{host}:{port}")).is_ok()
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_string() == inner);
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    // A last label that begins with a digit is an IPv4 address or nothing: octal, hexadecimal and shortened forms
    // mean different hosts to different resolvers.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    if numeric {
        return host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.to_string() == host);
    }
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_round_trip_as_text() {
        for text in [
            "http://127.0.0.1:1",
            "http://[::1]:8080",
            "http://a-b.example:65535/eid/main",
            "quic:127.0.0.1:1",
            "quic:[::1]:8080",
            "quic:a-b.example:65535",
            "memory:alice",
            "other:abc?x=1",
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn addresses_of_iroh_name_a_key_and_ways_to_it_in_one_order() {
        use ParseAddressError as E;
        let key = PublicKey([7; 32]);
        let with = |ways: &str| format!("iroh:{key}{ways}").parse::<Address>();
        for ways in [
            "",
            "?relay=https://relay.example./",
            "?relay=http://127.0.0.1:3340/",
            "?relay=http://[::1]:3340/&ip=127.0.0.1:1",
            "?relay=https://[::1]/",
            "?ip=10.0.0.1:7&ip=10.0.0.1:8&ip=[fe80::1]:7",
        ] {
            assert_eq!(with(ways).expect(ways).rest(), format!("{key}{ways}"));
        }
        for ways in [
            "?",
            "?relay=https://relay.example",
            "?relay=https://relay.example:443/",
            "?relay=http://relay.example:80/",
            "?relay=ftp://relay.example/",
            "?relay=https://Relay.example/",
            "?relay=https://relay.example/x/",
            "?relay=https://relay.example/&relay=https://relay.example/",
            "?ip=10.0.0.1:7&relay=https://relay.example/",
            "?ip=10.0.0.1:7&ip=10.0.0.1:7",
            "?ip=10.0.0.2:7&ip=10.0.0.1:7",
            "?ip=10.0.0.1:0",
            "?ip=host:7",
            "?x=1",
            "?ip=1.1.1.1:1&ip=1.1.1.1:2&ip=1.1.1.1:3&ip=1.1.1.1:4&ip=1.1.1.1:5&ip=1.1.1.1:6&ip=1.1.1.1:7",
        ] {
            assert_eq!(with(ways), Err(E::Ways), "{ways}");
        }
        assert_eq!("iroh:abc".parse::<Address>(), Err(E::Key));
        assert_eq!(format!("iroh:{key}x").parse::<Address>(), Err(E::Key));
    }

    #[test]
    fn an_address_has_one_spelling() {
        use ParseAddressError as E;
        for (text, error) in [
            ("", E::Length),
            (":x", E::Scheme),
            ("http", E::Scheme),
            ("HTTP://a:1", E::Scheme),
            ("http:", E::Scheme),
            ("http://a", E::Port),
            ("http://a:", E::Port),
            ("http://a:0", E::Port),
            ("http://a:080", E::Port),
            ("http://a:65536", E::Port),
            ("http://a:+1", E::Port),
            ("http://A:1", E::Host),
            ("http://:1", E::Host),
            ("http:a:1", E::Host),
            ("http://0177.0.0.1:1", E::Host),
            ("http://127.1:1", E::Host),
            ("http://0x7f000001:1", E::Host),
            ("http://2130706433:1", E::Host),
            ("http://[0:0::1]:1", E::Host),
            ("http://::1:1", E::Host),
            ("http://a..b:1", E::Host),
            ("http://a:1/", E::Path),
            ("http://a:1/x/", E::Path),
            ("http://a:1/../x", E::Path),
            ("http://a:1/x?y", E::Path),
            ("http://user@a:1", E::Character),
            ("http://a:1#x", E::Character),
            ("http://a:1 ", E::Character),
            ("http://ä:1", E::Character),
            ("quic:a", E::Port),
            ("quic://a:1", E::Host),
            ("quic:a:1/x", E::Port),
            ("quic:A:1", E::Host),
            ("quic:127.1:1", E::Host),
            ("memory:a/b", E::Name),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
        assert_eq!(format!("memory:{}", "a".repeat(ADDRESS_BYTES_MAX)).parse::<Address>(), Err(E::Length));
    }

    proptest! {
        #[test]
        fn what_parses_is_written_as_it_was_read(text in "(http|quic|iroh|memory|x)?(:|://)?[ -~]{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
