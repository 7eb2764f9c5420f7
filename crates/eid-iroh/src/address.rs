//! Addresses of this transport, to and from what iroh calls them.

use std::net::SocketAddr;

use eid_core::PublicKey;
use eid_transport::Address;
use eid_transport::limits::{ADDRESS_BYTES_MAX, SOCKETS_MAX};
use iroh::{EndpointAddr, EndpointId, RelayUrl};

use crate::error::Broken;

/// What an address says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub(crate) key: PublicKey,
    relay: Option<RelayUrl>,
    sockets: Vec<SocketAddr>,
}

impl Whereabouts {
    /// Reads an address of this scheme, which has been checked when it was parsed.
    pub(crate) fn read(address: &Address) -> Option<Self> {
        let rest = Some(address.rest()).filter(|_| address.scheme() == "iroh")?;
        let (key, ways) = rest.split_once('?').unwrap_or((rest, ""));
        let mut read = Self { key: key.parse().ok()?, relay: None, sockets: Vec::new() };
        for way in ways.split('&').filter(|way| !way.is_empty()) {
            match way.split_once('=')? {
                ("relay", url) => read.relay = Some(url.parse().ok()?),
                ("ip", socket) => read.sockets.push(socket.parse().ok()?),
                _ => return None,
            }
        }
        Some(read)
    }

    pub(crate) fn to_iroh(&self) -> Result<EndpointAddr, Broken> {
        let id = EndpointId::from_bytes(&self.key.0).map_err(|_| Broken::NoKey)?;
        let mut address = EndpointAddr::new(id);
        if let Some(relay) = &self.relay {
            address = address.with_relay_url(relay.clone());
        }
        Ok(self.sockets.iter().fold(address, |address, socket| address.with_ip_addr(*socket)))
    }
}

/// The text of where an endpoint is; nothing as long as nobody could find it.
pub(crate) fn written(address: &EndpointAddr) -> Option<Address> {
    let mut sockets: Vec<SocketAddr> = address.ip_addrs().copied().filter(|socket| is_way(*socket)).collect();
    sockets.sort_unstable();
    sockets.dedup();
    sockets.truncate(SOCKETS_MAX);
    let mut ways: Vec<String> = (address.relay_urls().take(1).map(|url| format!("relay={url}")))
        .chain(sockets.iter().map(|socket| format!("ip={socket}")))
        .collect();
    let key = PublicKey(*address.id.as_bytes());
    while !ways.is_empty() {
        let text = format!("iroh:{key}?{}", ways.join("&"));
        if text.len() <= ADDRESS_BYTES_MAX {
            // The endpoint gave the parts; what would still be no address is not told to anybody.
            return text.parse().ok();
        }
        ways.pop();
    }
    None
}

/// Whether others can be told of a socket. One with a scope means something on its own machine only.
fn is_way(socket: SocketAddr) -> bool {
    let scoped =
        matches!(socket, SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.ip().is_unicast_link_local());
    !scoped && !socket.ip().is_unspecified() && socket.port() != 0
}

#[cfg(test)]
mod tests {
    use eid_core::SecretKey;

    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        let key = SecretKey::from_seed([3; 32]).public();
        for ways in [
            "relay=https://relay.example./",
            "ip=10.0.0.1:7&ip=[2001:db8::1]:8",
            "relay=http://127.0.0.1:9/&ip=10.0.0.1:7",
        ] {
            let address: Address = format!("iroh:{key}?{ways}").parse().expect("an address");
            let read = Whereabouts::read(&address).expect("an address of this scheme");
            assert_eq!(read.key, key);
            assert_eq!(written(&read.to_iroh().expect("a key")), Some(address));
        }
        let alone: Address = format!("iroh:{key}").parse().expect("an address");
        let read = Whereabouts::read(&alone).expect("an address of this scheme");
        assert_eq!(written(&read.to_iroh().expect("a key")), None, "it says of no way there");
        assert_eq!(Whereabouts::read(&"quic:h:1".parse().expect("an address")), None);
    }

    #[test]
    fn sockets_that_mean_nothing_elsewhere_are_left_out_and_the_rest_is_bounded() {
        let id = EndpointId::from_bytes(&SecretKey::from_seed([3; 32]).public().0).expect("a key");
        let here = ["0.0.0.0:7", "[fe80::1]:7", "[::]:7"].map(|text| text.parse().expect("a socket"));
        let many = (1..20).map(|n| SocketAddr::from(([10, 0, 0, n], 7)));
        let all = many.chain(here).fold(EndpointAddr::new(id), |address, ip| address.with_ip_addr(ip));
        let text = written(&all).expect("there are ways").to_string();
        assert_eq!(text.matches("ip=10.0.0.").count(), SOCKETS_MAX);
        assert_eq!(text.matches("ip=").count(), SOCKETS_MAX);
    }

    #[test]
    fn sockets_for_which_an_address_has_no_room_are_left_out() {
        let id = EndpointId::from_bytes(&SecretKey::from_seed([3; 32]).public().0).expect("a key");
        let relay = "https://a-relay-with-a-name-of-its-own.at-some-place.iroh.example./";
        let relayed = EndpointAddr::new(id).with_relay_url(relay.parse().expect("a URL"));
        let long = (0xaaaa_u16..).map(|n| SocketAddr::from(([n, n, n, n, n, n, n, n], 55_555)));
        let all = long.take(SOCKETS_MAX).fold(relayed, |address, ip| address.with_ip_addr(ip));
        let text = written(&all).expect("there are ways").to_string();
        assert!(text.contains(relay) && text.contains("ip=[aaaa:"), "{text}");
        assert!(text.len() <= ADDRESS_BYTES_MAX && text.len() + 51 > ADDRESS_BYTES_MAX, "{text}");
    }
}
