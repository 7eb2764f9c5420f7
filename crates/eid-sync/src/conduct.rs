//! How peers have behaved: whoever brings more invalid entries than are looked at is turned away for a time.
//!
//! A single entry that is invalid keeps out itself and what descends from it, and nothing else. Each costs the check of a
//! signature, though, and nothing is gained by it; so every key has a bucket of such checks. An honest replica holds no
//! invalid entry and brings none: missing ancestors, and what a newer version has written, cost nothing.

use std::collections::BTreeMap;

use eid_core::PublicKey;

use crate::bucket::Bucket;
use crate::limits::{
    AWAY_FORGOTTEN_MS, AWAY_MS, AWAY_MS_MAX, CONDUCT_PEERS_MAX, INVALID_ENTRIES_MAX,
    INVALID_ENTRIES_PER_SECOND,
};

/// What is remembered of peers that have brought invalid entries.
#[derive(Debug, Default)]
pub(crate) struct Conduct(BTreeMap<PublicKey, Record>);

#[derive(Debug)]
struct Record {
    checks: Bucket,
    /// How often in a row the peer has been turned away.
    times: u32,
    until_ms: u64,
    last_ms: u64,
}

impl Conduct {
    /// Takes note of invalid entries. Says whether that was too many, so that the peer is turned away from now on.
    pub(crate) fn brought_invalid(&mut self, peer: &PublicKey, entries: u64, now_ms: u64) -> bool {
        if !self.0.contains_key(peer) && self.0.len() >= CONDUCT_PEERS_MAX {
            // Of whom there is least to remember.
            let least = self.0.iter().min_by_key(|(_, record)| (record.until_ms, record.last_ms));
            if let Some(least) = least.map(|(peer, _)| *peer) {
                self.0.remove(&least);
            }
        }
        let record = self.0.entry(*peer).or_insert_with(|| Record {
            checks: Bucket::new(INVALID_ENTRIES_MAX, INVALID_ENTRIES_PER_SECOND, now_ms),
            times: 0,
            until_ms: 0,
            last_ms: now_ms,
        });
        if now_ms.saturating_sub(record.last_ms) >= AWAY_FORGOTTEN_MS {
            record.times = 0;
        }
        record.last_ms = now_ms;
        if now_ms < record.until_ms {
            // What was on its way when the session ended.
            return true;
        }
        if record.checks.take(entries, now_ms).is_ok() {
            return false;
        }
        let away_ms = AWAY_MS.saturating_mul(1 << record.times.min(16)).min(AWAY_MS_MAX);
        record.times += 1;
        record.until_ms = now_ms.saturating_add(away_ms);
        true
    }

    /// Whether nothing is taken from a peer for now.
    pub(crate) fn is_away(&self, peer: &PublicKey, now_ms: u64) -> bool {
        self.0.get(peer).is_some_and(|record| now_ms < record.until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u16) -> PublicKey {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    }

    #[test]
    fn a_few_invalid_entries_now_and_then_are_borne() {
        let mut conduct = Conduct::default();
        for second in 0..100_000 {
            assert!(!conduct.brought_invalid(&peer(1), INVALID_ENTRIES_PER_SECOND, second * 1_000));
        }
        assert!(!conduct.is_away(&peer(1), 0));
    }

    #[test]
    fn too_many_keep_their_bringer_away_for_longer_each_time_and_nobody_else() {
        let (mut conduct, mut now) = (Conduct::default(), 0);
        let mut away = AWAY_MS;
        for _ in 0..12 {
            assert!(!conduct.brought_invalid(&peer(1), INVALID_ENTRIES_MAX, now));
            assert!(conduct.brought_invalid(&peer(1), 1, now));
            assert!(conduct.brought_invalid(&peer(1), 100, now), "what was on its way");
            assert!(conduct.is_away(&peer(1), now + away - 1) && !conduct.is_away(&peer(2), now));
            now += away;
            assert!(!conduct.is_away(&peer(1), now));
            away = (away * 2).min(AWAY_MS_MAX);
        }
        assert_eq!(away, AWAY_MS_MAX);
        now += AWAY_FORGOTTEN_MS;
        assert!(!conduct.brought_invalid(&peer(1), INVALID_ENTRIES_MAX, now));
        assert!(conduct.brought_invalid(&peer(1), 1, now));
        assert!(!conduct.is_away(&peer(1), now + AWAY_MS), "what was long ago is forgotten");
    }

    #[test]
    fn the_peers_remembered_are_bounded_and_who_is_away_is_forgotten_last() {
        let mut conduct = Conduct::default();
        conduct.brought_invalid(&peer(0), INVALID_ENTRIES_MAX, 0);
        assert!(conduct.brought_invalid(&peer(0), 1, 0));
        for n in 1..=2 * CONDUCT_PEERS_MAX as u16 {
            conduct.brought_invalid(&peer(n), 1, u64::from(n));
        }
        assert_eq!(conduct.0.len(), CONDUCT_PEERS_MAX);
        assert!(conduct.is_away(&peer(0), AWAY_MS - 1));
    }
}
