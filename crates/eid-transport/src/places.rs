//! Sockets and who is behind them: which address leads outside, and how many connections one address or one key has.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::PublicKey;

use crate::Address;
use crate::streams::{Channel, Reason};

/// Where others reach a socket that is bound here. One that is bound to every interface is named by the address of the
/// interface that leads outside.
#[must_use]
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = if bound.ip().is_unspecified() { outward(bound.ip()) } else { bound.ip() };
    SocketAddr::new(ip, bound.port())
}

/// The addresses of a listener: those that it is told to report, or that of the socket it is bound to. Scoped IPv6
/// addresses have no form in an address; they are not reported.
#[must_use]
pub fn addresses(scheme: &str, bound: Option<SocketAddr>, advertised: &[Address]) -> Vec<Address> {
    match bound {
        None => Vec::new(),
        Some(_) if !advertised.is_empty() => advertised.to_vec(),
        Some(socket) => format!("{scheme}{socket}").parse().into_iter().collect(),
    }
}

/// The local address of a route to the outside, or loopback. Connecting a datagram socket sends nothing.
fn outward(unspecified: IpAddr) -> IpAddr {
    let (towards, loopback): (IpAddr, IpAddr) = match unspecified {
        IpAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    let find = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((unspecified, 0))?;
        socket.connect((towards, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    find().ok().filter(|ip| !ip.is_unspecified()).unwrap_or(loopback)
}

/// The address as one customer has it: an IPv6 network of 64 bits is one.
#[must_use]
pub fn customer(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// Counts who is inside, by whatever they are told apart by.
#[derive(Debug)]
pub struct Counts<K: Ord>(Mutex<BTreeMap<K, usize>>);

/// One that is inside, counted until it is dropped.
#[derive(Debug)]
pub struct Counted<K: Ord>(Arc<Counts<K>>, K);

impl<K: Ord> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone> Counts<K> {
    /// Lets one more in, unless there are so many of its kind already.
    #[must_use]
    pub fn enter(counts: &Arc<Self>, kind: K, most: usize) -> Option<Counted<K>> {
        let mut table = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(kind.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted(Arc::clone(counts), kind))
    }
}

impl<K: Ord> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut table = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.1);
            }
        }
    }
}

/// The channels of every key, in the order in which they came: the oldest makes room for another.
#[derive(Debug)]
pub struct Keyed<C>(Mutex<Seats<C>>);

#[derive(Debug)]
struct Seats<C> {
    taken: BTreeMap<PublicKey, VecDeque<(u64, C)>>,
    next: u64,
}

/// The place of one channel, left when it is dropped.
#[derive(Debug)]
pub struct Seat<C> {
    keyed: Arc<Keyed<C>>,
    key: PublicKey,
    number: u64,
}

impl<C> Default for Keyed<C> {
    fn default() -> Self {
        Self(Mutex::new(Seats { taken: BTreeMap::new(), next: 0 }))
    }
}

impl<C: Channel> Keyed<C> {
    /// Lets a channel in, and closes the oldest of its key when there are more than `most` then.
    #[must_use]
    pub fn enter(keyed: &Arc<Self>, key: PublicKey, channel: &C, most: usize) -> Seat<C> {
        let mut seats = keyed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seats.next;
        seats.next += 1;
        let taken = seats.taken.entry(key).or_default();
        taken.push_back((number, channel.clone()));
        let oldest = if taken.len() > most.max(1) { taken.pop_front() } else { None };
        drop(seats);
        if let Some((_, oldest)) = oldest {
            oldest.close(Reason::NoRoom);
        }
        Seat { keyed: Arc::clone(keyed), key, number }
    }

    /// The newest channel of a key.
    #[must_use]
    pub fn newest(&self, key: &PublicKey) -> Option<C> {
        let seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.taken.get(key).and_then(|taken| taken.back()).map(|(_, channel)| channel.clone())
    }
}

impl<C> Drop for Seat<C> {
    fn drop(&mut self) {
        let mut seats = self.keyed.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.taken.get_mut(&self.key) {
            taken.retain(|(number, _)| *number != self.number);
            if taken.is_empty() {
                seats.taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address_and_ipv6_network() {
        let counts = Arc::new(Counts::default());
        let enter = |text: &str, most| {
            Counts::enter(&counts, customer(text.parse::<IpAddr>().expect("an address")), most)
        };
        let one = enter("2001:db8::1", 2).expect("room");
        let two = enter("2001:db8::2", 2).expect("room");
        assert!(enter("2001:db8::3", 2).is_none());
        assert!(enter("2001:db8:0:1::3", 2).is_some());
        assert!(enter("192.0.2.1", 1).is_some());
        drop(one);
        let three = enter("2001:db8::3", 2).expect("one has left");
        drop((two, three));
        assert!(counts.0.lock().expect("whole").is_empty());
    }

    #[test]
    fn a_socket_on_every_interface_is_named_by_one_of_them() {
        let all: SocketAddr = "0.0.0.0:7".parse().expect("a socket");
        assert!(!reachable(all).ip().is_unspecified());
        assert_eq!(reachable(all).port(), 7);
        let one: SocketAddr = "127.0.0.1:7".parse().expect("a socket");
        assert_eq!(reachable(one), one);
    }
}
