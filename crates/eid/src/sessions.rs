//! How the last session about each database ended with each peer, remembered in rows that are never synchronised.

use std::collections::BTreeMap;

use eid_core::{PublicKey, TreeId};
use eid_store::{EntryStore, Local};
use eid_sync::SessionReport;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// What was known when a session had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Entries of the peer that had not come; nothing when it had not said how many there were.
    pub(crate) behind: Option<u64>,
}

/// The rows, by database and peer.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    rows: Local,
}

impl Sessions {
    pub(crate) fn in_store(store: &EntryStore) -> Self {
        Self { rows: store.local().namespace("sessions") }
    }

    /// Remembers a session. One that ended before it was known what it is about says nothing.
    pub(crate) fn record(&self, report: &SessionReport, at_ms: u64) -> Result<(), Error> {
        let Some(tree) = report.tree else { return Ok(()) };
        let row = serde_json::to_vec(&Ended { at_ms, behind: report.behind })
            .map_err(|cause| Error::caused(ErrorKind::Io, "cannot write how a session ended", cause))?;
        Ok(self.rows.put_relaxed(&[tree.0, report.peer.0].concat(), row)?)
    }

    /// How the last session with each peer about a database ended. A row that does not read is as good as none.
    pub(crate) fn of(&self, tree: &TreeId) -> Result<BTreeMap<PublicKey, Ended>, Error> {
        let rows = self.rows.scan(&tree.0)?;
        let row = |(key, row): (Vec<u8>, _)| {
            let peer: [u8; 32] = key.get(32..)?.try_into().ok()?;
            Some((PublicKey(peer), serde_json::from_slice(row).ok()?))
        };
        Ok(rows.iter().filter_map(|(key, value)| row((key.to_vec(), &value[..]))).collect())
    }

    /// Forgets the sessions whose rows end or begin like this.
    pub(crate) fn forget(&self, key: &[u8; 32]) -> Result<(), Error> {
        let mut rows = self.rows.scan(&[])?;
        rows.retain(|(row, _)| row.starts_with(key) || row.ends_with(key));
        Ok(self.rows.write(rows.into_iter().map(|(key, _)| (key, None)).collect())?)
    }
}
