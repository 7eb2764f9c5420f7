//! A peer is met at the best of its addresses that works, a stagger after the first that does not, and nothing is left of
//! the attempts at the others.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_lock::Mutex as AsyncMutex;
use eid_core::{PublicKey, SecretKey};
use eid_transport::{Address, BoxFuture, Connection};

use crate::engine::{Peer, SyncEngine, chain};
use crate::error::SyncError;
use crate::limits::{BREAKERS_MAX, BREAKS_AFTER, DIAL_MAX_MS, RACE_STAGGER_MS, RETRY_FIRST_MS};
use crate::rate::Capped;
use crate::runtime::blocking;

/// An address that did not lead to a peer.
#[derive(Debug)]
pub struct FailedWay {
    /// Where it was tried.
    pub address: Address,
    /// Why it did not lead there.
    pub error: SyncError,
}

/// Puts addresses in the order in which they are dialled: those that lead straight to a peer before those that lead over a
/// relay only; among them first where it was `reached`, the last success first, and then this machine and its networks.
///
/// A relay stands last also when it was what worked: otherwise a device that was away once would stay with the relay.
#[must_use]
pub fn best_first(addresses: &[Address], reached: &[Address]) -> Vec<Address> {
    let mut ordered: Vec<Address> = Vec::new();
    for address in addresses {
        if !ordered.contains(address) {
            ordered.push(address.clone());
        }
    }
    ordered.sort_by_cached_key(|address| {
        let success = reached.iter().position(|reached| reached == address).unwrap_or(usize::MAX);
        (needs_relay(address), success, !is_near(address))
    });
    ordered
}

/// Whether nothing but a relay leads there. An `iroh` address that is a key alone is looked up on the local network.
fn needs_relay(address: &Address) -> bool {
    let rest = address.rest();
    address.scheme() == "iroh" && rest.contains("?relay=") && !rest.contains("&ip=")
}

/// Whether it is on this machine or a network that is not routed further.
fn is_near(address: &Address) -> bool {
    let rest = address.rest();
    let authority = match address.scheme() {
        "memory" => return true,
        "http" => rest.trim_start_matches('/').split('/').next().unwrap_or_default(),
        "quic" => rest,
        _ => return false,
    };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => host == "localhost",
    }
}

/// What is said of addresses none of which led to the peer.
pub(crate) fn told(failed: &[FailedWay]) -> String {
    let mut text = String::new();
    for FailedWay { address, error } in failed {
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing into a String cannot fail.
        write!(text, "{separator}{address}: {}", chain(error)).expect("a String takes everything");
    }
    text
}

/// The door to a peer: attempts pass it one after another, so that the peer meets one connection and not all.
pub(crate) type Door = AsyncMutex<()>;

/// One attempt.
struct Racer<'a> {
    address: &'a Address,
    /// The connection, once there is one: closed when another attempt is faster.
    opened: Arc<Mutex<Option<Arc<dyn Connection>>>>,
    running: BoxFuture<'a, Result<Peer, SyncError>>,
}

enum Happened {
    /// An attempt has ended: which, and how.
    Ended(usize, Result<Peer, SyncError>),
    /// The stagger is over.
    Due,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SyncEngine {
    /// Dials a peer at several addresses over all transports: the best first, the next a stagger later or at once when one
    /// has failed. Who answers first and proves the `expected` key, or with `None` any key, is met; the other attempts are
    /// closed.
    ///
    /// # Errors
    /// With one address, what [`Self::connect_to_peer`] fails with; with several, [`SyncError::NoWay`], which names each.
    pub async fn connect_to_any(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
    ) -> Result<Peer, SyncError> {
        self.race(addresses, expected, keys, None).await
    }

    /// The same for who tries again and again: addresses that have failed often, one after another, are left out for a
    /// while, unless no other is left; the one that may be tried again first is then.
    pub(crate) async fn race_patiently(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
        lost: Option<&Address>,
    ) -> Result<Peer, SyncError> {
        let now = self.inner.runtime.monotonic_ms();
        let tried = self.inner.breakers.closed(addresses, now);
        let met = self.race(&tried, expected, keys, lost).await;
        if let Err(error) = &met {
            self.note_failed(&tried, error).await?;
        }
        met
    }

    /// The same; `lost`, where the peer was lost a moment ago, comes last.
    pub(crate) async fn race(
        &self,
        addresses: &[Address],
        expected: Option<PublicKey>,
        keys: &[Arc<SecretKey>],
        lost: Option<&Address>,
    ) -> Result<Peer, SyncError> {
        self.allowed(expected.as_ref())?;
        let mut ordered = best_first(addresses, &self.reached(expected).await?);
        ordered.sort_by_key(|address| Some(address) == lost);
        let (door, runtime) = (Door::new(()), &*self.inner.runtime);
        let mut waiting: VecDeque<&Address> = ordered.iter().collect();
        let (mut running, mut failed): (Vec<Racer<'_>>, Vec<FailedWay>) = (Vec::new(), Vec::new());
        loop {
            if let Some(address) = waiting.pop_front() {
                running.push(self.racer(address, expected, keys, &door));
            } else if running.is_empty() {
                return Err(match failed.pop() {
                    None => SyncError::NoAddress,
                    Some(only) if failed.is_empty() => only.error,
                    Some(last) => {
                        failed.push(last);
                        SyncError::NoWay(failed)
                    }
                });
            }
            let mut stagger = (!waiting.is_empty()).then(|| runtime.sleep(RACE_STAGGER_MS));
            let happened = poll_fn(|cx| {
                for (at, racer) in running.iter_mut().enumerate() {
                    if let Poll::Ready(ended) = racer.running.as_mut().poll(cx) {
                        return Poll::Ready(Happened::Ended(at, ended));
                    }
                }
                match &mut stagger {
                    Some(stagger) => stagger.as_mut().poll(cx).map(|()| Happened::Due),
                    None => Poll::Pending,
                }
            })
            .await;
            let Happened::Ended(at, ended) = happened else { continue };
            let Racer { address, .. } = running.remove(at);
            match ended {
                Ok(peer) => {
                    self.inner.breakers.worked(address);
                    self.leave(running);
                    return Ok(peer);
                }
                Err(error) => {
                    self.inner.breakers.failed(address, runtime.monotonic_ms());
                    tracing::debug!(%address, error = chain(&error), "an address does not lead to a peer");
                    failed.push(FailedWay { address: address.clone(), error });
                }
            }
        }
    }

    /// Where a peer was reached, the last success first.
    async fn reached(&self, expected: Option<PublicKey>) -> Result<Vec<Address>, SyncError> {
        let Some(peer) = expected else { return Ok(Vec::new()) };
        let peers = self.inner.peers.clone();
        let known = blocking(&*self.inner.runtime, move || peers.of(&peer)).await;
        Ok(known.ok_or(SyncError::Stopped)??.addresses)
    }

    fn racer<'a>(
        &'a self,
        address: &'a Address,
        expected: Option<PublicKey>,
        keys: &'a [Arc<SecretKey>],
        door: &'a Door,
    ) -> Racer<'a> {
        let opened: Arc<Mutex<Option<Arc<dyn Connection>>>> = Arc::default();
        let slot = Arc::clone(&opened);
        let running = Box::pin(async move {
            let connection = self.dial(address, expected).await?;
            let opened: Arc<dyn Connection> = Arc::<Capped>::clone(&connection);
            *lock(&slot) = Some(opened);
            self.greet_server(connection, address, expected, keys, Some(door)).await
        });
        Racer { address, opened, running }
    }

    /// Closes the connections of attempts that another was faster than; nobody waits for that.
    fn leave(&self, running: Vec<Racer<'_>>) {
        let opened = running.iter().filter_map(|racer| lock(&racer.opened).take());
        let left: Vec<Arc<dyn Connection>> = opened.collect();
        drop(running);
        for connection in left {
            self.inner.runtime.spawn(Box::pin(async move { connection.close().await }));
        }
    }
}

/// Which addresses have failed, one time after another, and until when they are left out.
#[derive(Debug, Default)]
pub(crate) struct Breakers(Mutex<BTreeMap<Address, Broken>>);

#[derive(Debug, Clone, Copy)]
struct Broken {
    failures: u32,
    /// It is left out until then.
    until: u64,
}

impl Breakers {
    fn worked(&self, address: &Address) {
        lock(&self.0).remove(address);
    }

    /// These are to be tried again, whatever failed before.
    pub(crate) fn close(&self, addresses: &[Address]) {
        let mut all = lock(&self.0);
        for address in addresses {
            all.remove(address);
        }
    }

    fn failed(&self, address: &Address, now: u64) {
        let mut all = lock(&self.0);
        if all.len() >= BREAKERS_MAX && !all.contains_key(address) {
            all.retain(|_, broken| broken.until > now);
            if all.len() >= BREAKERS_MAX {
                return;
            }
        }
        let broken = all.entry(address.clone()).or_insert(Broken { failures: 0, until: now });
        broken.failures = broken.failures.saturating_add(1);
        if let Some(beyond) = broken.failures.checked_sub(BREAKS_AFTER) {
            let wait_ms = RETRY_FIRST_MS.checked_shl(beyond.min(32)).unwrap_or(DIAL_MAX_MS).min(DIAL_MAX_MS);
            broken.until = now + wait_ms;
        }
    }

    /// Those of the addresses that are not left out at this time; the one whose time is over first, when all are.
    fn closed(&self, addresses: &[Address], now: u64) -> Vec<Address> {
        let all = lock(&self.0);
        let until = |address: &Address| all.get(address).map_or(0, |broken| broken.until);
        let closed: Vec<Address> =
            addresses.iter().filter(|address| until(address) <= now).cloned().collect();
        if closed.is_empty() {
            addresses.iter().min_by_key(|one| until(one)).cloned().into_iter().collect()
        } else {
            closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_again_and_again_is_left_out_where_there_are_others() {
        let both = addresses(&["memory:a", "memory:b"]);
        let breakers = Breakers::default();
        for _ in 1..BREAKS_AFTER {
            breakers.failed(&both[0], 100);
        }
        assert_eq!(breakers.closed(&both, 100), both);
        breakers.failed(&both[0], 100);
        assert_eq!(breakers.closed(&both, 100), both[1..]);
        assert_eq!(breakers.closed(&both[..1], 100), both[..1], "where there is no other");
        assert_eq!(breakers.closed(&both, 100 + RETRY_FIRST_MS), both, "it is tried again");
        breakers.failed(&both[0], 2_000);
        assert_eq!(breakers.closed(&both, 2_000 + RETRY_FIRST_MS), both[1..], "and left out for longer");
        for _ in 0..40 {
            breakers.failed(&both[0], 3_000);
        }
        assert_eq!(breakers.closed(&both, 3_000 + DIAL_MAX_MS), both, "but not for ever");
        for _ in 0..BREAKS_AFTER + 9 {
            breakers.failed(&both[1], 3_000);
        }
        assert_eq!(breakers.closed(&both, 3_000), both[1..], "of two, the one whose time is over first");
        breakers.worked(&both[0]);
        assert_eq!(breakers.closed(&both, 3_000), both[..1]);
    }

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn what_leads_straight_there_is_dialled_before_a_relay_and_what_worked_last_before_the_rest() {
        let key = PublicKey([7; 32]);
        let relay = format!("iroh:{key}?relay=https://relay.example/");
        let both = format!("iroh:{key}?relay=https://relay.example/&ip=192.0.2.1:7");
        let given = addresses(&[
            &relay,
            "quic:example.org:1",
            &both,
            "http://192.168.1.5:1",
            "quic:[::1]:1",
            "http://[2001:db8::1]:1/x",
            "quic:example.org:1",
        ]);
        let best = best_first(&given, &[]);
        let expected = [
            "http://192.168.1.5:1",
            "quic:[::1]:1",
            "quic:example.org:1",
            &both,
            "http://[2001:db8::1]:1/x",
            &relay,
        ];
        assert_eq!(best, addresses(&expected));
        let best = best_first(&given, &addresses(&[&relay, &both, "quic:example.org:1"]));
        let expected = [
            &both,
            "quic:example.org:1",
            "http://192.168.1.5:1",
            "quic:[::1]:1",
            "http://[2001:db8::1]:1/x",
            &relay,
        ];
        assert_eq!(best, addresses(&expected));
    }
}
