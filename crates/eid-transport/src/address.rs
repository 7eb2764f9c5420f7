//! Where a peer may be reached.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::limits::ADDRESS_BYTES_MAX;

/// Where a peer may be reached: a scheme, a colon, and what the transport of that scheme understands.
///
/// There is one spelling of an address, so that equal addresses are equal texts: `http://HOST:PORT[/prefix]`,
/// `memory:NAME`. An address of an unknown scheme parses too; it is kept and handed on, and no transport dials it.
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
    /// The host of an `http` address is missing or malformed.
    #[error(
        "the host of an http address is a name, an IPv4 address or an IPv6 address in brackets, in lower case"
    )]
    Host,
    /// The port of an `http` address is missing or not a number from 1 to 65535.
    #[error("an http address names its port, a number from 1 to 65535")]
    Port,
    /// The path of an `http` address has an empty, `.` or `..` segment, ends in a slash, or holds a query.
    #[error("the path of an http address has plain segments and no slash at its end")]
    Path,
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
    let (host, port) = authority.rsplit_once(':').ok_or(ParseAddressError::Port)?;
    let number: u16 = port.parse().map_err(|_| ParseAddressError::Port)?;
    if number == 0 || number.to_string() != port {
        return Err(ParseAddressError::Port);
    }
    if !is_host(host) {
        return Err(ParseAddressError::Host);
    }
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
            "memory:alice",
            "iroh:abc?x=1",
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
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
            ("memory:a/b", E::Name),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
        assert_eq!(format!("memory:{}", "a".repeat(ADDRESS_BYTES_MAX)).parse::<Address>(), Err(E::Length));
    }

    proptest! {
        #[test]
        fn what_parses_is_written_as_it_was_read(text in "(http|memory|x)?(:|://)?[ -~]{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
