//! What there was with each peer about each database: how the last session ended, what all of them came to, and the last
//! of them one by one.
//!
//! Rows are written without a flush of their own: losing some understates what was done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::{PublicKey, TreeId};
use eid_store::{EntryStore, Local};
use eid_transport::Address;
use serde::{Deserialize, Serialize};

use crate::error::SyncError;
use crate::limits::{HISTORY_MAX, PEER_ERROR_BYTES_MAX};
use crate::report::SessionReport;

/// Why something with a peer failed, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFailure {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What kind of thing it was: stable, to be matched on ([`SyncError::code`]).
    pub code: String,
    /// The error and its causes. May hold what a peer has sent: escape it before a terminal sees it.
    pub text: String,
}

impl SyncFailure {
    pub(crate) fn of(error: &SyncError, at_ms: u64) -> Self {
        let mut text = crate::engine::chain(error);
        let end = (0..=PEER_ERROR_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        Self { at_ms, code: error.code().to_owned(), text }
    }
}

/// What all sessions with a peer about a database came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncMetadata {
    /// When the last session ended, in milliseconds since 1970.
    #[serde(rename = "at_ms")]
    pub last_ended_ms: u64,
    /// Entries of the peer that had not come when a session last ended in which it said how many there were.
    pub behind: Option<u64>,
    /// When that session began, in milliseconds since 1970.
    pub behind_as_of_ms: Option<u64>,
    /// When one last came to its end with everything exchanged.
    pub last_success_ms: Option<u64>,
    /// Why the last one failed; nothing when it did not.
    pub last_error: Option<SyncFailure>,
    /// Sessions that failed, one after another, up to the last.
    pub in_vain: u32,
    /// Sessions in which something was said.
    pub sessions: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// Entries that were admitted here.
    pub pulled: u64,
    /// Entries that were sent.
    pub pushed: u64,
    /// Bytes of frames that came.
    pub bytes_in: u64,
    /// Bytes of frames that were sent.
    pub bytes_out: u64,
    /// How long all of them took together, in milliseconds.
    pub ms: u64,
}

/// One session, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncHistoryEntry {
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// The database.
    pub tree: TreeId,
    /// With whom.
    pub peer: PublicKey,
    /// Where the peer was reached; nothing when it dialled.
    pub via: Option<Address>,
    /// Entries that were admitted here.
    pub pulled: u64,
    /// Entries that were sent.
    pub pushed: u64,
    /// Bytes of frames that came.
    pub bytes_in: u64,
    /// Bytes of frames that were sent.
    pub bytes_out: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether each side had everything of the other then.
    pub complete: bool,
    /// Why it failed, if it did.
    pub error: Option<SyncFailure>,
}

/// How a session lies in its row of the history.
#[derive(Serialize, Deserialize)]
struct HistoryRow {
    ended_ms: u64,
    tree: String,
    peer: String,
    via: Option<String>,
    pulled: u64,
    pushed: u64,
    bytes_in: u64,
    bytes_out: u64,
    ms: u64,
    complete: bool,
    error: Option<SyncFailure>,
}

/// The rows of one store. Cheap to clone: all clones are one ledger.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    sums: Local,
    history: Local,
    /// The number of the next row of the history, once it is known. Held by who changes rows that it has read.
    next: Arc<Mutex<Option<u64>>>,
}

impl Ledger {
    pub(crate) fn in_store(store: &EntryStore) -> Self {
        let local = store.local();
        Self {
            sums: local.namespace("sessions"),
            history: local.namespace("sync history"),
            next: Arc::default(),
        }
    }

    /// Takes note of a session. One that ended before it was known what it is about says nothing.
    pub(crate) fn record(
        &self,
        report: &SessionReport,
        failure: Option<SyncFailure>,
        now_ms: u64,
    ) -> Result<(), SyncError> {
        let Some(tree) = report.tree else { return Ok(()) };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let key = [tree.0, report.peer.0].concat();
        let mut sum = self.sum(&key)?.unwrap_or_default();
        sum.last_ended_ms = now_ms;
        if report.behind.is_some() {
            (sum.behind, sum.behind_as_of_ms) = (report.behind, Some(report.began_ms));
        }
        if report.complete {
            sum.last_success_ms = Some(now_ms);
        }
        sum.in_vain = if failure.is_some() { sum.in_vain.saturating_add(1) } else { 0 };
        sum.failed += u64::from(failure.is_some());
        sum.last_error.clone_from(&failure);
        sum.sessions += 1;
        sum.pulled += report.pulled;
        sum.pushed += report.pushed;
        sum.bytes_in += report.bytes_in;
        sum.bytes_out += report.bytes_out;
        sum.ms += report.ms;
        let number = match *next {
            Some(number) => number,
            None => self.history.scan(&[])?.last().map_or(0, |(key, _)| number_of(key) + 1),
        };
        let row = HistoryRow {
            ended_ms: now_ms,
            tree: tree.to_string(),
            peer: report.peer.to_string(),
            via: report.via.as_ref().map(ToString::to_string),
            pulled: report.pulled,
            pushed: report.pushed,
            bytes_in: report.bytes_in,
            bytes_out: report.bytes_out,
            ms: report.ms,
            complete: report.complete,
            error: failure,
        };
        let mut rows = vec![(number.to_be_bytes().to_vec(), Some(json(&row)?.into()))];
        rows.extend(number.checked_sub(HISTORY_MAX).map(|old| (old.to_be_bytes().to_vec(), None)));
        self.history.write_relaxed(rows)?;
        *next = Some(number + 1);
        Ok(self.sums.put_relaxed(&key, json(&sum)?)?)
    }

    /// Takes note that a database was found to be equal at a peer: nothing moved, and nothing is added to the history.
    pub(crate) fn record_equal(
        &self,
        peer: &PublicKey,
        trees: &[TreeId],
        asked_ms: u64,
        now_ms: u64,
    ) -> Result<(), SyncError> {
        let _changing = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::with_capacity(trees.len());
        for tree in trees {
            let key = [tree.0, peer.0].concat();
            let mut sum = self.sum(&key)?.unwrap_or_default();
            (sum.last_ended_ms, sum.last_success_ms) = (now_ms, Some(now_ms));
            (sum.behind, sum.behind_as_of_ms) = (Some(0), Some(asked_ms));
            (sum.last_error, sum.in_vain) = (None, 0);
            rows.push((key, Some(json(&sum)?.into())));
        }
        Ok(self.sums.write_relaxed(rows)?)
    }

    /// A row that does not read is as good as none.
    fn sum(&self, key: &[u8]) -> Result<Option<SyncMetadata>, SyncError> {
        Ok(self.sums.get(key)?.and_then(|row| serde_json::from_slice(&row).ok()))
    }

    /// What there was with a peer about a database.
    pub(crate) fn of(&self, tree: &TreeId, peer: &PublicKey) -> Result<Option<SyncMetadata>, SyncError> {
        self.sum(&[tree.0, peer.0].concat())
    }

    /// What there was about a database, by peer.
    pub(crate) fn of_tree(&self, tree: &TreeId) -> Result<BTreeMap<PublicKey, SyncMetadata>, SyncError> {
        let row = |(key, row): (Vec<u8>, _)| {
            let peer: [u8; 32] = key.get(32..)?.try_into().ok()?;
            Some((PublicKey(peer), serde_json::from_slice(row).ok()?))
        };
        let rows = self.sums.scan(&tree.0)?;
        Ok(rows.iter().filter_map(|(key, value)| row((key.to_vec(), &value[..]))).collect())
    }

    /// The last sessions, the last one first.
    pub(crate) fn history(&self, limit: usize) -> Result<Vec<SyncHistoryEntry>, SyncError> {
        let rows = self.history.scan(&[])?;
        let entry = |row: &[u8]| {
            let row: HistoryRow = serde_json::from_slice(row).ok()?;
            Some(SyncHistoryEntry {
                ended_ms: row.ended_ms,
                tree: row.tree.parse().ok()?,
                peer: row.peer.parse().ok()?,
                via: row.via.and_then(|via| via.parse().ok()),
                pulled: row.pulled,
                pushed: row.pushed,
                bytes_in: row.bytes_in,
                bytes_out: row.bytes_out,
                ms: row.ms,
                complete: row.complete,
                error: row.error,
            })
        };
        Ok(rows.iter().rev().filter_map(|(_, row)| entry(row)).take(limit).collect())
    }

    /// Forgets the sessions that ended before a time. Gives how many.
    pub(crate) fn cleanup(&self, before_ms: u64) -> Result<usize, SyncError> {
        let _changing = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = self.history.scan(&[])?;
        let last = rows.pop();
        let is_old = |row: &[u8]| {
            serde_json::from_slice::<HistoryRow>(row).map_or(true, |row| row.ended_ms < before_ms)
        };
        // The last row goes on saying which number is next.
        let mut old: Vec<_> =
            rows.into_iter().filter(|(_, row)| is_old(row)).map(|(key, _)| (key, None)).collect();
        let count = old.len();
        if let Some((key, row)) = last.filter(|(_, row)| is_old(row)) {
            old.push((key, Some(row.slice(..0))));
            self.history.write(old)?;
            return Ok(count + usize::from(!row.is_empty()));
        }
        self.history.write(old)?;
        Ok(count)
    }

    /// Forgets what there was about a database, or with a peer, but for the history.
    pub(crate) fn forget(&self, key: &[u8; 32]) -> Result<(), SyncError> {
        let mut rows = self.sums.scan(&[])?;
        rows.retain(|(row, _)| row.starts_with(key) || row.ends_with(key));
        Ok(self.sums.write(rows.into_iter().map(|(key, _)| (key, None)).collect())?)
    }
}

fn number_of(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}

fn json(row: &impl Serialize) -> Result<Vec<u8>, SyncError> {
    serde_json::to_vec(row).map_err(SyncError::Row)
}

#[cfg(test)]
mod tests;
