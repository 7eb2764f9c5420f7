//! What a session did.

use eid_core::{PublicKey, TreeId};
use eid_proto::{Rung, Summary};
use eid_transport::{Address, LinkBytes};

/// What a session did, on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// The database. Nothing when a peer said none before it went away.
    pub tree: Option<TreeId>,
    /// With whom.
    pub peer: PublicKey,
    /// Where the peer was reached; nothing when it dialled.
    pub via: Option<Address>,
    /// Entries that were admitted here.
    pub pulled: u64,
    /// Entries that were sent.
    pub pushed: u64,
    /// Entries that came and were held already.
    pub duplicates: u64,
    /// Entries that came and were refused.
    pub refused: u64,
    /// Bytes of frames that came.
    pub bytes_in: u64,
    /// Bytes of frames that were sent.
    pub bytes_out: u64,
    /// Bytes of frames, both ways, of the handshake that the connection began with.
    pub handshake_bytes: u64,
    /// Turns of both sides.
    pub turns: u32,
    /// Entries that were visited here to find what to send.
    pub visited: u64,
    /// How it was found what the initiator lacked. Nothing when the session ended before.
    pub rung: Option<Rung>,
    /// When it began here, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether each side has everything that the other had.
    pub complete: bool,
    /// Payloads that came of entries that were held without them.
    pub filled: u64,
    /// Payloads that were given of entries that the other side held without them.
    pub given: u64,
    /// Payloads of entries held here that are still not here: the other side did not have them either, or the session
    /// ended before.
    pub missing: u64,
    /// Entries of the other side that are not here: they have not come, or were refused. Nothing when it had not said how
    /// many there are.
    pub behind: Option<u64>,
}

impl SessionReport {
    pub(crate) fn new(
        tree: Option<TreeId>,
        peer: PublicKey,
        via: Option<Address>,
        began_ms: u64,
        summary: &Summary,
        bytes: LinkBytes,
    ) -> Self {
        let held = summary.pulled + summary.duplicates;
        let behind = match summary.pull_total {
            // What was refused is not here.
            _ if summary.complete => Some(summary.refused),
            total => total.map(|total| total.saturating_sub(held)),
        };
        Self {
            tree,
            peer,
            via,
            pulled: summary.pulled,
            pushed: summary.pushed,
            duplicates: summary.duplicates,
            refused: summary.refused,
            bytes_in: bytes.received,
            bytes_out: bytes.sent,
            handshake_bytes: 0,
            turns: summary.turns,
            visited: summary.visited,
            rung: summary.rung,
            began_ms,
            ms: 0,
            complete: summary.complete,
            filled: summary.filled,
            given: summary.given,
            missing: summary.missing,
            behind,
        }
    }

    /// Takes in a later session about the same database, which went on where this one was cut off.
    pub fn go_on(&mut self, later: Self) {
        *self = Self {
            pulled: self.pulled + later.pulled,
            pushed: self.pushed + later.pushed,
            duplicates: self.duplicates + later.duplicates,
            refused: self.refused + later.refused,
            bytes_in: self.bytes_in + later.bytes_in,
            bytes_out: self.bytes_out + later.bytes_out,
            handshake_bytes: self.handshake_bytes + later.handshake_bytes,
            turns: self.turns.saturating_add(later.turns),
            visited: self.visited + later.visited,
            rung: self.rung.or(later.rung),
            began_ms: self.began_ms,
            ms: self.ms + later.ms,
            ..later
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_not_here() {
        let report = |summary: &Summary| {
            let bytes = LinkBytes { sent: 0, received: 0 };
            SessionReport::new(None, PublicKey([1; 32]), None, 0, summary, bytes).behind
        };
        let done = Summary {
            pulled: 5,
            duplicates: 1,
            refused: 2,
            pull_total: Some(8),
            ..crate::engine::NOTHING_DONE
        };
        assert_eq!(report(&Summary { complete: true, ..done }), Some(2));
        assert_eq!(report(&Summary { pull_total: Some(10), ..done }), Some(4), "it ended early");
        assert_eq!(report(&Summary { pull_total: None, ..done }), None);
        assert_eq!(report(&Summary { refused: 0, complete: true, ..done }), Some(0));
    }
}
